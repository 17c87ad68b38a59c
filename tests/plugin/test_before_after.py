"""Before and after in the canvas: curtain, flip, side by side, xz; all as before when off."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.plugin.before_after import CURTAIN, SIDE, XZ, find_pair


@pytest.fixture
def pair(bench, cells):
    bench.choose("slow")
    original = bench.add(cells, translate=(3, 4, 5))
    assert not bench.dock.before_after.isVisibleTo(bench.dock)
    (result,) = bench.run()
    assert bench.dock.before_after.isVisibleTo(bench.dock)
    return original, result


def state(viewer):
    grid = getattr(viewer, "canvas", viewer).grid
    camera = getattr(viewer, "scene", viewer).camera
    return (
        [(layer.name, layer.visible) for layer in viewer.layers],
        (grid.shape, grid.stride, grid.enabled),
        (viewer.dims.order, viewer.dims.ndisplay, tuple(viewer.dims.point)),
        (tuple(camera.center), camera.zoom),
        viewer.layers.selection.active,
    )


def test_the_curtain_shows_the_result_right_of_the_line(bench, pair):
    original, result = pair
    before = state(bench.viewer)
    panel = bench.dock.before_after
    panel.buttons[CURTAIN].click()
    curtain = bench.viewer.layers[-1]
    assert original.visible
    assert not result.visible
    assert curtain.visible
    for share in (0.25, 0.75):
        panel.slider.setValue(round(1000 * share))
        first = round(share * 24)
        assert np.array_equal(curtain.data, result.data[..., first:])
        # Its first column lies where that column of the result lies.
        np.testing.assert_allclose(
            curtain.data_to_world((0, 0, 0)), result.data_to_world((0, 0, first))
        )
    result.contrast_limits = (10, 500)
    assert tuple(curtain.contrast_limits) == (10, 500)
    panel.slider.setValue(1000)
    assert not curtain.visible
    panel.buttons[CURTAIN].click()
    assert state(bench.viewer) == before


def test_the_curtain_is_no_layer_to_enhance_and_ends_with_its_result(bench, pair):
    _, result = pair
    panel = bench.dock.before_after
    panel.buttons[CURTAIN].click()
    combo = bench.dock.form.source.combo
    assert [combo.itemText(i) for i in range(combo.count())] == ["cells", "cells · slow"]
    bench.viewer.layers.remove(result)
    assert [layer.name for layer in bench.viewer.layers] == ["cells"]
    assert not panel.buttons[CURTAIN].isChecked()
    assert not panel.isVisibleTo(bench.dock)


def test_a_new_result_ends_the_curtain_and_lies_on_top(bench, pair):
    bench.dock.before_after.buttons[CURTAIN].click()
    bench.dock.form.source.choose(pair[0])
    (newest,) = bench.run()
    assert bench.viewer.layers[-1] is newest
    assert newest.visible
    assert all("curtain" not in layer.name for layer in bench.viewer.layers)


@pytest.mark.parametrize("blending", ["translucent_no_depth", "additive"])
def test_the_key_flips_original_and_result(bench, cells, blending):
    bench.choose("slow")
    original = bench.add(cells, blending=blending)
    (result,) = bench.run()
    key = bench.viewer.keymap[next(k for k in bench.viewer.keymap if str(k) == "B")]
    key(bench.viewer)
    assert (original.visible, result.visible) == (True, False)
    bench.dock.before_after.flip.click()
    assert (original.visible, result.visible) == (blending != "additive", True)


def test_side_by_side_shows_the_two_alone_with_one_contrast(bench, pair):
    original, result = pair
    other = bench.viewer.add_image(np.zeros((6, 20, 24)), name="other")
    bench.viewer.layers.selection.active = result
    before = state(bench.viewer)
    limits = tuple(original.contrast_limits)
    button = bench.dock.before_after.buttons[SIDE]
    button.click()
    grid = getattr(bench.viewer, "canvas", bench.viewer).grid
    assert grid.enabled
    assert tuple(grid.shape) == (1, 2)
    assert not other.visible
    result.contrast_limits = (10, 500)
    assert tuple(original.contrast_limits) == (10, 500)
    result.contrast_limits = limits
    button.click()
    assert state(bench.viewer)[:3] == before[:3]
    result.contrast_limits = (20, 600)
    assert tuple(original.contrast_limits) == limits


def test_xz_turns_the_stack_and_back(bench, pair):
    before = state(bench.viewer)
    button = bench.dock.before_after.buttons[XZ]
    button.click()
    assert bench.viewer.dims.displayed == (0, 2)
    # The curtain's line stays vertical in the xz view.
    bench.dock.before_after.buttons[CURTAIN].click()
    assert bench.viewer.layers[-1].data.shape == (6, 20, 12)
    bench.dock.before_after.buttons[CURTAIN].click()
    button.click()
    assert state(bench.viewer) == before


def test_curtain_and_side_by_side_exclude_each_other(bench, pair):
    panel = bench.dock.before_after
    panel.buttons[CURTAIN].click()
    panel.buttons[SIDE].click()
    assert not panel.buttons[CURTAIN].isChecked()
    assert [layer.name for layer in bench.viewer.layers] == ["cells", "cells · slow"]
    panel.buttons[SIDE].click()
    assert pair[1].visible


def test_the_selected_result_is_the_one_compared(bench, pair):
    original, first = pair
    bench.dock.form.source.choose(original)
    (second,) = bench.run()
    assert find_pair(bench.viewer) == (original, second)
    bench.viewer.layers.selection.active = first
    assert find_pair(bench.viewer) == (original, first)


def test_the_commands_of_the_palette_do_the_same(bench, pair, monkeypatch):
    import napari

    from zenhance.plugin import before_after

    monkeypatch.setattr(napari, "current_viewer", lambda: bench.viewer)
    before_after.flip_command()
    assert not pair[1].visible
    before_after.flip_command()
    for command, name in (
        (before_after.curtain_command, CURTAIN),
        (before_after.side_command, SIDE),
        (before_after.xz_command, XZ),
    ):
        command()
        assert bench.dock.before_after.buttons[name].isChecked()
        command()
        assert not bench.dock.before_after.buttons[name].isChecked()
