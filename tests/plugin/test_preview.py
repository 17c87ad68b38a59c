"""Preview: what is in view only, at its place, in under two seconds."""

from __future__ import annotations

import time

import numpy as np
import pytest

from zenhance.plugin.snapshot import current_view


def preview(bench):
    before = list(bench.viewer.layers)
    bench.dock.panel.preview.click()
    bench.wait()
    (layer,) = [entry for entry in bench.viewer.layers if not any(entry is old for old in before)]
    return layer


def test_the_preview_shows_the_plane_in_view_at_its_place(bench, cells):
    bench.choose("slow")
    layer = bench.add(cells, translate=(3, 4, 5))
    bench.viewer.dims.set_point(0, 3 + 4 * 0.5)
    shown = preview(bench)
    np.testing.assert_array_equal(shown.data, cells[4:5].astype(np.float32) + 1)
    np.testing.assert_allclose(shown.data_to_world((0, 0, 0)), layer.data_to_world((4, 0, 0)))
    assert shown.name == "cells preview"


def test_a_second_preview_replaces_the_first_and_a_result_replaces_both(bench, cells):
    bench.choose("slow")
    bench.add(cells)
    preview(bench)
    bench.choose("slow", steps=3)
    bench.dock.panel.preview.click()
    bench.wait()
    assert len(bench.viewer.layers) == 2
    bench.dock.panel.enhance.click()
    bench.wait()
    assert [layer.name for layer in bench.viewer.layers] == ["cells", "cells · slow"]


def test_the_preview_of_a_time_series_shows_the_time_point_in_view(bench, cells):
    series = np.stack([cells, cells + 1000])
    bench.choose("slow")
    layer = bench.add(series, scale=(1, 0.5, 0.2, 0.2), units=("pixel", "um", "um", "um"))
    bench.viewer.dims.set_point([0, 1], [1, 2 * 0.5])
    shown = preview(bench)
    np.testing.assert_array_equal(shown.data, series[1:2, 2:3].astype(np.float32) + 1)
    np.testing.assert_allclose(shown.data_to_world((0, 0, 0, 0)), layer.data_to_world((1, 2, 0, 0)))


def test_only_the_field_in_view_is_previewed(bench, qtbot):
    volume = np.random.default_rng(0).integers(0, 255, (3, 700, 800)).astype(np.uint8)
    bench.choose("slow")
    layer = bench.add(volume)
    bench.viewer.dims.set_point(0, 0.5)
    layer.corner_pixels = np.array([[1, 100, 200], [1, 299, 449]])
    view = current_view(bench.viewer, layer, "ZYX")
    assert view.at == {"Z": 1}
    assert view.field == {"Y": slice(100, 300), "X": slice(200, 450)}
    shown = preview(bench)
    np.testing.assert_array_equal(shown.data, volume[1:2, 100:300, 200:450].astype(np.float32) + 1)
    np.testing.assert_allclose(shown.data_to_world((0, 0, 0)), layer.data_to_world((1, 100, 200)))


def test_a_finer_preview_lies_right_too(bench, cells):
    bench.choose("finer")
    layer = bench.add(cells)
    bench.viewer.dims.set_point(0, 2 * 0.5)
    shown = preview(bench)
    assert shown.data.shape == (2, 40, 48)
    np.testing.assert_allclose(
        shown.data_to_world((-0.5, -0.5, -0.5)), layer.data_to_world((1.5, -0.5, -0.5)), atol=1e-9
    )


def test_a_two_dimensional_image_is_previewed(bench):
    image = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24)
    bench.choose("slow")
    bench.add(image, scale=(0.2, 0.2))
    np.testing.assert_array_equal(preview(bench).data, image.astype(np.float32) + 1)


@pytest.mark.timeout(120)
def test_preview_of_a_512_field_takes_seconds_on_a_cpu(bench, patience):
    import torch  # noqa: F401 - the dock imports it in the background before anybody clicks

    volume = np.random.default_rng(0).poisson(20, (16, 512, 512)).astype(np.uint8)
    bench.choose("gaussian_deconvolution")
    bench.add(volume)
    form = bench.dock.form
    form.device.setCurrentIndex(form.device.findData("cpu"))
    preview(bench)
    taken = []
    for _ in range(2):
        began = time.monotonic()
        bench.dock.panel.preview.click()
        bench.wait()
        taken.append(time.monotonic() - began)
    # The microscope of the whole stack is measured again for each preview.
    assert min(taken) < 8.0 * patience
