"""Which method? chooses a method for the layer and says why."""

from __future__ import annotations

import numpy as np

from benchmarks.judge_scenes import VOXEL_UM, make_scene


def test_the_recommended_method_is_chosen_with_its_reason(bench):
    bench.choose("srcnn")
    bench.add(make_scene("walls", 60.0, 3, gain=4.0).measured, scale=VOXEL_UM)
    bench.dock.advise_button.click()
    bench.wait()
    assert bench.dock.form.method.currentData() == "dqlr"
    text = bench.dock.panel.note.text()
    assert text.startswith("recommended and chosen: DQLR. The structures are walls")
    assert "photons in the brightest places" in text
    assert bench.dock.request().learn_minutes is None


def test_walls_on_other_voxels_are_learnt_first(bench):
    bench.add(make_scene("walls", 60.0, 3, gain=4.0).measured, scale=(2.0, 0.8, 0.8))
    bench.dock.advise_button.click()
    bench.wait()
    assert bench.dock.request().method == "dqlr"
    assert bench.dock.request().learn_minutes == 10.0


def test_a_layer_without_walls_gets_deconvolution(bench):
    bench.choose("dqlr")
    bench.add(make_scene("nuclei", 60.0, 3, gain=4.0).measured, scale=VOXEL_UM)
    bench.dock.advise_button.click()
    bench.wait()
    assert bench.dock.request().method == "gaussian_deconvolution"
    assert np.size(bench.viewer.layers) == 1
