"""Samples and their deviation in the viewer: layers in place, a slider, and an animation."""

from __future__ import annotations

import numpy as np
import pytest
from test_recovery import wait_for_writers

from sampling_method import STD
from zenhance.errors import StackError
from zenhance.pipeline import plan_run
from zenhance.plugin import recovery
from zenhance.plugin.enhance_dock import EnhanceDock
from zenhance.plugin.layer_bridge import read_facts
from zenhance.plugin.readers import read_layers
from zenhance.plugin.result_layers import sample_axis
from zenhance.plugin.writers import write_image


def sampled(bench, data, **keywords):
    """Run the method with samples on a layer; return the original and its three new layers."""
    bench.choose("sampling", samples=4)
    layer = bench.add(data, **keywords)
    return [layer, *bench.run()]


def quick(bench):
    """Return the dock's player, going faster than anyone could look."""
    player = bench.dock.samples
    player.timer.setInterval(5)
    return player


def test_samples_become_a_layer_with_a_slider_in_the_place_of_the_original(bench, cells):
    keywords = {
        "translate": (3, 4, 5),
        "contrast_limits": (10, 500),
        "colormap": "magenta",
        "axis_labels": ("z", "y", "x"),
    }
    layer, enhanced, _, samples = sampled(bench, cells, **keywords)
    assert samples.name == "cells · sampling · samples"
    assert samples.data.shape == (4, 6, 20, 24)
    np.testing.assert_array_equal(samples.data[3], cells.astype(np.float32) + 3)
    np.testing.assert_array_equal(samples.scale, (1, *layer.scale))
    np.testing.assert_array_equal(samples.translate, (0, 3, 4, 5))
    assert samples.units[1:] == layer.units
    assert samples.axis_labels == ("sample", "z", "y", "x")
    assert samples.colormap.name == enhanced.colormap.name == "magenta"
    assert tuple(samples.contrast_limits) == tuple(enhanced.contrast_limits) == (10, 500)
    assert not samples.visible
    assert enhanced.visible
    assert bench.viewer.layers.selection.active is enhanced
    assert bench.viewer.dims.ndim == 4
    assert bench.viewer.dims.nsteps[0] == 4


def test_the_deviation_is_drawn_from_zero_in_a_uniform_colormap(bench, cells):
    _, _, std, _ = sampled(bench, cells, colormap="magenta", contrast_limits=(10, 500))
    assert std.name == "cells · sampling · standard deviation"
    assert std.colormap.name == "inferno"
    assert tuple(std.contrast_limits) == pytest.approx((0.0, STD))
    assert not std.visible
    assert sample_axis(std) is None


def test_a_deviation_of_nothing_has_limits_all_the_same(bench, cells, monkeypatch):
    monkeypatch.setattr("sampling_method.STD", 0.0)
    _, _, std, _ = sampled(bench, cells)
    assert tuple(std.contrast_limits) == (0.0, 1.0)


def test_turned_and_sheared_layers_get_each_sample_in_the_same_place(bench, cells):
    turn = np.array([[1, 0, 0, 5], [0, 0, -1, 6], [0, 1, 0, 7], [0, 0, 0, 1]], dtype=float)
    layer, _, _, samples = sampled(
        bench, cells, rotate=20.0, shear=(0.1, 0.0, 0.0), affine=turn, translate=(1, 2, 3)
    )
    for number in (0, 3):
        for index in [(0, 0, 0), (5, 19, 23)]:
            place = samples.data_to_world((number, *index))
            assert place[0] == number
            np.testing.assert_allclose(place[1:], layer.data_to_world(index), atol=1e-9)


def test_a_finer_grid_covers_the_same_field(bench, cells):
    bench.choose("sampling", samples=3, finer=2)
    layer = bench.add(cells, translate=(3, 4, 5))
    samples = bench.run()[-1]
    assert samples.data.shape == (3, 12, 40, 48)
    np.testing.assert_allclose(samples.scale[1:], np.array(layer.scale) / 2)
    np.testing.assert_allclose(
        samples.translate[1:], np.array((3, 4, 5)) - np.array(layer.scale) / 4
    )


@pytest.mark.parametrize(
    ("shape", "axes", "sampled_axes"),
    [
        ((20, 24), None, "TYX"),
        ((1, 6, 20, 24), None, "TZYX"),
        ((2, 6, 20, 24), "czyx", "TCZYX"),
        ((2, 1, 20, 24), "ctyx", "CTYX"),
    ],
)
def test_the_samples_take_the_place_of_time_or_come_first(bench, shape, axes, sampled_axes):
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    layer, *_, samples = sampled(
        bench, data, axis_labels=None if axes is None else tuple(axes), scale=None
    )
    assert read_facts(samples).axes == sampled_axes
    at = sampled_axes.index("T")
    assert sample_axis(samples) == at
    picked = np.take(samples.data, 2, axis=at)
    np.testing.assert_array_equal(picked, data.reshape(picked.shape) + 2)
    assert layer.data is data


def test_a_colour_image_has_its_samples_in_the_contrast_of_its_result(bench):
    colours = np.random.default_rng(0).integers(0, 255, (20, 24, 3)).astype(np.uint8)
    _, enhanced, _, samples = sampled(
        bench, colours, rgb=True, scale=(0.2, 0.2), units=("um", "um")
    )
    assert tuple(samples.contrast_limits) == tuple(enhanced.contrast_limits)


def test_of_layers_that_are_added_up_the_samples_are_not(bench, cells):
    _, enhanced, std, samples = sampled(bench, cells, blending="additive")
    assert enhanced.blending == "additive"
    assert std.blending == samples.blending == "opaque"


def test_several_time_points_are_refused_in_one_sentence(bench, cells, said):
    bench.choose("sampling", samples=4)
    layer = bench.add(np.stack([cells, cells]), scale=(1, 0.5, 0.2, 0.2), units=("um",) * 4)
    with pytest.raises(StackError, match="kept for one time point"):
        plan_run(bench.dock.form.facts.stack(layer.data, "cells"), bench.dock.request())
    bench.run()
    assert list(bench.viewer.layers) == [layer]
    assert [severity for severity, _ in said] == ["error"]
    assert "one time point as a stack of its own" in said[0][1]


def test_the_button_is_there_while_there_are_samples(bench, cells):
    player = bench.dock.samples
    bench.choose("slow")
    bench.add(cells)
    bench.run()
    assert player.isHidden()
    *_, std, samples = sampled(bench, cells)
    assert not player.isHidden()
    assert "Animate samples" in bench.dock.panel.note.text()
    assert player.line.text() == "what flickers is not supported by the data"
    bench.viewer.layers.remove(samples)
    assert player.isHidden()
    assert std in bench.viewer.layers


def test_the_samples_run_in_order_and_around_until_the_button_is_pressed_again(bench, cells, qtbot):
    *_, samples = sampled(bench, cells)
    player, dims = quick(bench), bench.viewer.dims
    dims.set_point(0, 1)
    seen = []
    dims.events.current_step.connect(lambda event: seen.append(dims.current_step[0]))
    player.button.click()
    assert samples.visible
    qtbot.waitUntil(lambda: len(seen) >= 6, timeout=10_000)
    player.button.click()
    assert not player.playing
    assert seen[:6] == [2, 3, 0, 1, 2, 3]
    where = dims.current_step[0]
    qtbot.wait(60)
    assert dims.current_step[0] == where


def test_a_few_samples_a_second_are_shown(bench, cells):
    sampled(bench, cells)
    assert 2 <= 1000 / bench.dock.samples.timer.interval() <= 8


def test_the_other_sliders_stay_where_they_are(bench, cells, qtbot):
    *_, samples = sampled(bench, cells, translate=(10, 0, 0))
    player, dims = quick(bench), bench.viewer.dims
    dims.set_point(1, 11.5)
    before = dims.point[1]
    seen: list[int] = []
    dims.events.current_step.connect(lambda _: seen.append(dims.current_step[0]))
    player.start()
    qtbot.waitUntil(lambda: 3 in seen, timeout=10_000)
    player.stop()
    assert dims.point[1] == before
    assert samples.visible


def test_the_animation_ends_when_its_layer_is_removed_and_can_begin_again(bench, cells, qtbot):
    layer, *_, first = sampled(bench, cells)
    player = quick(bench)
    bench.dock.form.source.choose(layer)
    second = bench.run()[-1]
    bench.viewer.layers.selection.active = first
    player.start()
    assert player.layer is first
    bench.viewer.layers.remove(first)
    assert not player.playing
    assert not player.button.isChecked()
    player.start()
    assert player.layer is second
    bench.viewer.layers.clear()
    assert not player.playing
    assert player.isHidden()


def test_a_layer_that_loses_its_samples_ends_the_animation(bench, cells, qtbot):
    *_, samples = sampled(bench, cells)
    player = quick(bench)
    player.start()
    samples.data = samples.data[:2]
    qtbot.waitUntil(lambda: not player.playing, timeout=10_000)


def test_the_animation_ends_with_the_viewer(make_bench, cells, qtbot):
    bench = make_bench()
    sampled(bench, cells)
    player = quick(bench)
    ended = []
    player.start()
    player.destroyed.connect(lambda: ended.append(True))
    timer = player.timer
    del player
    bench.viewer.close()
    qtbot.wait(50)
    try:
        assert not timer.isActive()
    except RuntimeError:
        assert ended


def test_a_dock_in_a_window_of_its_own_ends_the_animation_with_the_viewer(
    make_napari_viewer, qtbot, slow_methods, cells, monkeypatch
):
    from zenhance.plugin import enhance_dock

    monkeypatch.setattr(enhance_dock, "import_torch_later", lambda then: None)
    viewer = make_napari_viewer()
    dock = EnhanceDock(viewer)
    dock.estimate.hold(True)
    record = {"notes": {"output": {"name": "samples", "samples": 3, "samples_axis": "T"}}}
    viewer.add_image(
        np.zeros((3, 6, 8)), axis_labels=("sample", "y", "x"), metadata={"zenhance": record}
    )
    dock.samples.start()
    assert dock.samples.playing
    viewer.close()
    qtbot.waitUntil(lambda: not dock.samples.playing, timeout=5000)
    dock.deleteLater()
    qtbot.wait(10)


def test_a_layer_without_a_record_or_of_too_many_dimensions_has_no_samples(bench):
    record = {
        "zenhance": {"notes": {"output": {"name": "samples", "samples": 2, "samples_axis": "T"}}}
    }
    assert sample_axis(bench.viewer.add_image(np.zeros((2, 5, 6, 7)))) is None
    assert sample_axis(bench.viewer.add_image(np.zeros((2, 5, 6, 7)), metadata=record)) == 0
    assert sample_axis(bench.viewer.add_image(np.zeros((5, 6, 7)), metadata=record)) is None
    assert (
        sample_axis(bench.viewer.add_image(np.zeros((2, 1, 2, 5, 6, 7)), metadata=record)) is None
    )
    assert (
        sample_axis(bench.viewer.add_labels(np.zeros((2, 5, 6, 7), int), metadata=record)) is None
    )


@pytest.mark.parametrize("shape", [(20, 24), (6, 20, 24)])
def test_saved_and_opened_again_they_are_samples_still(bench, tmp_path, shape):
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    scale = (0.5, 0.2, 0.25)[-len(shape) :]
    *_, samples = sampled(bench, data, scale=scale, units=("um",) * len(shape))
    for suffix in (".ome.tif", ".tif", ".ome.zarr"):
        (path,) = write_image(
            str(tmp_path / f"samples{suffix}"), *samples.as_layer_data_tuple()[:2]
        )
        ((again, keywords, _),) = read_layers(path)
        np.testing.assert_array_equal(np.asarray(again), samples.data)
        assert keywords["scale"] == pytest.approx((1, *scale))
        assert keywords["axis_labels"][0] == "sample"
        assert sample_axis(bench.viewer.add_image(again, **keywords)) == 0


def test_samples_whose_viewer_is_gone_are_kept_as_samples(bench, cells, tmp_path, monkeypatch):
    monkeypatch.setenv("ZENHANCE_RECOVERY", str(tmp_path / "kept"))
    *_, samples = sampled(bench, cells)
    (path,) = recovery.keep([samples.as_layer_data_tuple()])
    wait_for_writers()
    ((_, keywords, _),) = read_layers(str(path))
    assert keywords["axis_labels"] == ["sample", "z", "y", "x"]


def test_without_samples_there_is_nothing_to_start(bench):
    player = bench.dock.samples
    player.start()
    assert not player.playing
    assert not player.button.isChecked()
