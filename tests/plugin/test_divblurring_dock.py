"""DivBlurring in the viewer: mean, deviation and samples as layers, if they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_model import NUMBERS, PSF, SIZE_UM, walls
from zenhance.contract import registry
from zenhance.plugin.result_layers import sample_axis
from zenhance.stack import Stack

ARCHITECTURE: dict[str, Any] = {
    "window": 3,
    "planes": 3,
    "features": [6, 8, 8],
    "latents": [1, 2, 3],
    "deconvolved": [2, 4],
    "truth": 10.0,
    "kl_weight": 0.1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train for a few steps on a pair; return the model's file."""
    from zenhance.training.data import of_stacks
    from zenhance.training.loop import train
    from zenhance.training.recipe import Recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILT_IN, "divblurring", "zenhance.methods.divblurring:METHOD")
        measured, truth = (Stack.from_array(data, "ZYX", SIZE_UM) for data in walls(9))
        volumes = list(of_stacks("pair", measured, truth))
        data = {"stacks": ["pair"], "psf": PSF}
        recipe = Recipe(
            method="divblurring",
            name="tiny",
            architecture=ARCHITECTURE,
            data=data,
            steps=20,
            **NUMBERS,
        )
        folder = tmp_path_factory.mktemp("models") / "run"
        return train(recipe, folder, device="cpu", volumes=(volumes, volumes)).path


@pytest.fixture
def drawing(model, make_bench, monkeypatch):
    """The Enhance dock with a stack of cells, DivBlurring and the tiny model chosen, device CPU."""
    monkeypatch.setitem(registry._BUILT_IN, "divblurring", "zenhance.methods.divblurring:METHOD")
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(model.parent))
    bench = make_bench()
    bench.choose("divblurring")
    bench.add(walls()[0])
    form = bench.dock.form
    form.weights.refresh()
    form.weights.show_weights("tiny")
    form.psf.show_spec(PSF)
    form.device.setCurrentIndex(form.device.findData("cpu"))
    return bench


def test_the_dock_gives_mean_deviation_and_samples(drawing):
    drawing.dock.form.settings.show_settings({"samples": 6, "keep_samples": 4, "uncertainty": True})
    request = drawing.dock.request()
    assert (request.method, request.weights, request.psf) == ("divblurring", "tiny", PSF)
    mean, std, samples = drawing.run()
    assert mean.name.startswith("cells")
    assert std.name == "cells · DivBlurring tiny · standard deviation"
    assert samples.name == "cells · DivBlurring tiny · samples"
    assert mean.data.shape == std.data.shape == (5, 40, 44)
    assert samples.data.shape == (4, 5, 40, 44)
    assert mean.visible
    assert not std.visible
    assert not samples.visible
    assert sample_axis(samples) == 0
    assert tuple(samples.contrast_limits) == tuple(mean.contrast_limits)
    assert std.colormap.name == "inferno"
    assert std.contrast_limits[0] == 0 < std.contrast_limits[1]
    assert np.isfinite(mean.data).all()
    # Where the input has no data, the estimate keeps its value and the others have none.
    void = np.isnan(std.data)
    assert not void.all()
    np.testing.assert_array_equal(np.isnan(samples.data), np.broadcast_to(void, samples.data.shape))
    assert np.nanmax(np.abs(samples.data[0] - samples.data[1])) > 0
    assert not drawing.dock.samples.isHidden()
    np.testing.assert_array_equal(samples.scale, (1, *mean.scale))


def test_the_samples_can_be_looked_at_one_after_the_other(drawing, qtbot):
    drawing.dock.form.settings.show_settings({"samples": 3, "keep_samples": 3})
    *_, samples = drawing.run()
    player, dims = drawing.dock.samples, drawing.viewer.dims
    player.timer.setInterval(5)
    seen = []
    dims.events.current_step.connect(lambda event: seen.append(dims.current_step[0]))
    player.button.click()
    qtbot.waitUntil(lambda: len(set(seen)) == 3, timeout=10_000)
    player.button.click()
    assert samples.visible
    assert not player.playing


def test_without_being_asked_for_there_is_the_mean_alone(drawing):
    drawing.dock.form.settings.show_settings({"samples": 2})
    (mean,) = drawing.run()
    assert mean.data.shape == (5, 40, 44)
    assert drawing.dock.samples.isHidden()


def test_the_seed_of_the_form_decides_what_is_drawn(drawing):
    form = drawing.dock.form
    form.settings.show_settings({"samples": 2, "keep_samples": 2})
    layer, drawn = drawing.viewer.layers[0], []
    for seed in (3, 3, 4):
        form.options.seed.setValue(seed)
        form.source.choose(layer)
        drawn.append(drawing.run()[-1].data)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.nanmax(np.abs(drawn[0] - drawn[2])) > 0


def test_it_can_learn_from_the_layer_itself(drawing):
    form = drawing.dock.form
    assert not form.learn.isHidden()
    form.learn.tick.setChecked(True)
    form.learn.minutes_box.setValue(0.5)
    assert drawing.dock.request().learn_minutes == 0.5
