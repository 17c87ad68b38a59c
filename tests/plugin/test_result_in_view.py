"""The view: a typed voxel size keeps it, and the newest result is what one sees."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.plugin.layer_bridge import read_facts, set_voxel_size
from zenhance.plugin.snapshot import same_view


def camera_of(viewer):
    return getattr(viewer, "scene", viewer).camera


def voxels_in_view(viewer, layer):
    """Voxel at the centre of the canvas, and canvas pixels per voxel along x."""
    point = np.array(viewer.dims.point, dtype=float)
    point[list(viewer.dims.displayed)] = np.array(camera_of(viewer).center)[-2:]
    step = layer.data_to_world((0, 0, 1)) - np.array(layer.data_to_world((0, 0, 0)))
    return np.array(layer.world_to_data(point)), camera_of(viewer).zoom * np.linalg.norm(step)


@pytest.mark.parametrize("turned", [False, True], ids=["straight", "moved, mirrored"])
def test_a_typed_voxel_size_keeps_plane_place_and_zoom(bench, turned):
    viewer = bench.viewer
    place = {"translate": (3, -4, 5), "scale": (1, -1, 1)} if turned else {}
    layer = viewer.add_image(np.zeros((30, 40, 50), np.uint8), **place)
    viewer.dims.set_current_step(0, 17)
    plane = viewer.dims.point[0]
    camera_of(viewer).center = (0.0, 12.0, 31.0)
    camera_of(viewer).zoom = 7.0
    centre, pixels = voxels_in_view(viewer, layer)
    with same_view(viewer, layer):
        set_voxel_size(layer, "ZYX", {"Z": 0.5, "Y": 0.2, "X": 0.2})
    after, pixels_after = voxels_in_view(viewer, layer)
    np.testing.assert_allclose(after, centre, atol=1e-6)
    assert pixels_after == pytest.approx(pixels)
    assert viewer.dims.current_step[0] == 17
    assert viewer.dims.point[0] != plane


def test_a_run_with_a_typed_voxel_size_does_not_move_the_view(bench, cells):
    bench.choose("slow")
    layer = bench.add(cells, scale=None)
    bench.viewer.dims.set_current_step(0, 4)
    centre, pixels = voxels_in_view(bench.viewer, layer)
    for axis, text in zip("ZYX", ("0.5", "0.2", "0.2"), strict=True):
        field = bench.dock.form.source.voxel[axis]
        field.line.setText(text)
        field.line.editingFinished.emit()
    bench.run()
    after, pixels_after = voxels_in_view(bench.viewer, layer)
    np.testing.assert_allclose(after, centre, atol=1e-6)
    assert pixels_after == pytest.approx(pixels)


def test_the_newest_result_is_on_top_visible_and_named_after_its_method(bench, cells):
    layer = bench.add(cells)
    bench.choose("slow")
    (first,) = bench.run()
    bench.choose("finer")
    second, doubt = bench.run()
    assert [entry.name for entry in bench.viewer.layers] == [
        "cells",
        "cells · slow",
        "cells · finer · doubt",
        "cells · finer",
    ]
    assert bench.viewer.layers[-1] is second
    assert (second.visible, doubt.visible) == (True, False)
    assert bench.viewer.layers.selection.active is second
    assert layer.visible
    assert first.visible


def test_the_name_of_a_result_says_which_model_made_it():
    from zenhance.pipeline import EnhanceRequest
    from zenhance.plugin.result_layers import title_of
    from zenhance.provenance import Provenance

    def record(**notes):
        return Provenance(version="1", request={}, notes=notes)

    assert title_of(EnhanceRequest(method="dqlr"), record()) == "DQLR"
    named = EnhanceRequest(method="dqlr", weights="/models/mine.safetensors")
    assert title_of(named, record()) == "DQLR mine"
    learnt = record(learnt={"model": "cells_dqlr"})
    assert title_of(EnhanceRequest(method="dqlr"), learnt) == "DQLR cells_dqlr"
    assert title_of(EnhanceRequest(), record()) == "Deconvolution"


@pytest.mark.parametrize("mirrored", [(1,), (0, 2), (0, 1, 2)])
def test_a_mirrored_layer_is_used_by_its_size_and_its_result_stays_in_place(bench, cells, mirrored):
    scale = np.array((0.5, 0.2, 0.2))
    scale[list(mirrored)] *= -1
    bench.choose("slow")
    layer = bench.add(cells, scale=tuple(scale), translate=(1, 2, 3))
    assert read_facts(layer).voxel_size.zyx_um == (0.5, 0.2, 0.2)
    (result,) = bench.run()
    for index in ((0, 0, 0), (5, 19, 23)):
        np.testing.assert_allclose(result.data_to_world(index), layer.data_to_world(index))
    set_voxel_size(layer, "ZYX", {"Z": 1.0, "Y": 0.3, "X": 0.4})
    np.testing.assert_allclose(layer.scale, np.sign(scale) * (1.0, 0.3, 0.4))


def test_settings_come_back_from_the_selected_result(bench, cells):
    bench.choose("slow", steps=7)
    original = bench.add(cells)
    made = bench.dock.request()
    (result,) = bench.run()
    bench.choose("blurred")
    bench.viewer.layers.selection.active = result
    bench.dock.same_button.click()
    assert bench.dock.request() == made
    assert bench.dock.form.layer is original


def test_a_layer_that_is_no_result_has_no_settings(bench, cells):
    bench.choose("slow", steps=7)
    bench.viewer.layers.selection.active = bench.add(cells)
    bench.dock.same_button.click()
    assert "the selected layer is no result" in bench.dock.panel.note.text()
    assert bench.dock.request().settings == {"steps": 7}
