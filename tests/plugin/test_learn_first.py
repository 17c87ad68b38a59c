"""Learning from the layer itself: tick, Enhance, preview, model; the Train dock without a truth."""

from __future__ import annotations

import shutil
import tempfile
import time

import numpy as np
import pytest

from tiny_model import ARCHITECTURE, MINUTES, PSF, tiny_model, walls
from zenhance.models.catalogue import list_weights
from zenhance.models.header import read_card
from zenhance.pipeline import LearningProgress


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("start") / "run")


@pytest.fixture
def home(tmp_path, monkeypatch, start):
    """A folder of models with a tiny one in it, and a temporary folder to look into."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "temporary").mkdir()
    shutil.copy(start, tmp_path / "weights" / "tiny.safetensors")
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


@pytest.fixture
def learning(home, make_bench):
    """The Enhance dock with a stack of cells, DQLR and the tiny model chosen, device CPU."""
    bench = make_bench()
    bench.choose("dqlr")
    bench.add(walls()[0])
    form = bench.dock.form
    form.weights.refresh()
    form.weights.show_weights("tiny")
    form.device.setCurrentIndex(form.device.findData("cpu"))
    return bench


def tick(bench, minutes):
    form = bench.dock.form
    form.learn.tick.setChecked(True)
    form.learn.minutes_box.setValue(minutes)
    form.psf.show_spec(PSF)


def names(bench):
    return [layer.name for layer in bench.viewer.layers]


def own_models():
    return {entry.name for entry in list_weights("dqlr") if not entry.ships}


def test_only_a_method_that_can_learn_from_the_layer_offers_it(learning):
    form = learning.dock.form
    assert not form.learn.isHidden()
    assert learning.dock.request().learn_minutes is None
    tick(learning, 2.5)
    assert not form.psf.isHidden()
    request = learning.dock.request()
    assert (request.learn_minutes, request.weights, request.psf) == (
        2.5,
        "tiny",
        "sigma_um=0.3,0.25,0.25",
    )
    learning.choose("rdn")
    assert form.learn.isHidden()
    assert learning.dock.request().learn_minutes is None
    learning.choose("dqlr")
    assert learning.dock.request().learn_minutes == 2.5


def test_random_weights_can_be_chosen_only_to_learn_from(learning):
    form = learning.dock.form
    assert form.weights.combo.findData("none") < 0
    tick(learning, 1)
    form.weights.combo.setCurrentIndex(form.weights.combo.findData("none"))
    assert learning.dock.request().weights == "none"
    assert "learns from this layer alone" in form.weights.card.text()
    form.learn.tick.setChecked(False)
    assert learning.dock.request().weights is None
    assert form.weights.combo.findData("none") < 0


def test_the_card_is_that_of_the_model_which_the_settings_take(learning):
    form = learning.dock.form
    form.weights.show_weights(None)
    shipped = {entry.name: entry.card for entry in list_weights("dqlr") if entry.ships}
    form.settings.show_settings({"preset": "paper"})
    assert shipped["dqlr_paper"].description in form.weights.card.text()
    assert "dqlr_paper" in form.weights.card.toolTip()
    form.settings.show_settings({"preset": "dqlr"})
    assert shipped["dqlr_any"].description in form.weights.card.text()
    assert "dqlr_any" in form.weights.card.toolTip()


def test_settings_bring_learning_back_as_it_was(learning, tmp_path):
    tick(learning, 1)
    form = learning.dock.form
    form.learn.show_minutes(1 / 3)
    form.weights.show_weights("none")
    request = learning.dock.request()
    assert request.learn_minutes == 1 / 3
    learning.dock.save_settings(tmp_path / "settings.yaml")
    form.learn.tick.setChecked(False)
    learning.choose("gaussian_deconvolution")
    learning.dock.load_settings(tmp_path / "settings.yaml")
    assert learning.dock.request() == request
    assert form.learn.tick.isChecked()
    assert not form.psf.isHidden()


def test_tick_enhance_and_the_result_and_the_model_are_there(learning, home, qtbot, monkeypatch):
    # A few steps decide nothing: tests/pipeline/test_held_out.py tests the decision.
    monkeypatch.setattr("zenhance.pipeline.learning.is_better", lambda after, before: True)
    dock, panel = learning.dock, learning.dock.panel
    tick(learning, MINUTES)
    before = own_models()
    seen, shown = [], []
    show = dock._show_progress

    def watch(progress, name):
        show(progress, name)
        seen.append((progress, panel.bar.format(), panel.note.text()))
        layer = dock.learning_preview.layer
        if layer is not None:
            shown.append((layer.name, layer.data.shape))

    dock._show_progress = watch
    (result,) = learning.run()
    assert result.name == "cells · DQLR dqlr_cells"
    assert result.data.shape == walls()[0].shape
    learnt = [
        entry
        for entry in seen
        if isinstance(entry[0], LearningProgress) and np.isfinite(entry[0].loss)
    ]
    assert len(learnt) >= 3
    _, bar, note = learnt[-1]
    assert bar.startswith("learning, ")
    assert " left, loss 0." in bar
    assert note.startswith('learning from "cells": ')
    # 40 × 44 pixels allow no patch of 48: three pictures of 40, with two dark columns between.
    assert set(shown) == {
        ("cells learning preview: measured | predicted | estimate", (40, 3 * 40 + 2 * 2))
    }
    assert names(learning) == ["cells", "cells · DQLR dqlr_cells"]

    record = result.metadata["zenhance"]
    (model,) = own_models() - before
    assert record["notes"]["learnt"]["model"] == model == "dqlr_cells"
    assert f'kept as "{model}"' in panel.note.text()
    weights = dock.form.weights
    assert weights.combo.itemText(weights.combo.findData(model)) == "dqlr_cells (yours)"
    assert weights.weights == "tiny"
    assert list((home / "temporary").iterdir()) == []

    dock.form.learn.tick.setChecked(False)
    weights.show_weights(model)
    again = learning.run()[-1]
    np.testing.assert_array_equal(again.data, result.data)


def test_cancel_while_it_learns_is_answered_soon_and_leaves_nothing(
    learning, home, qtbot, patience
):
    panel = learning.dock.panel
    tick(learning, 5)
    panel.enhance.click()
    qtbot.waitUntil(lambda: "loss" in panel.bar.format(), timeout=30_000)
    began = time.monotonic()
    panel.cancel.click()
    learning.wait()
    assert time.monotonic() - began < 1.0 * patience
    assert "cancelled" in panel.note.text()
    assert names(learning) == ["cells"]
    assert own_models() == {"tiny"}
    assert list((home / "temporary").iterdir()) == []
    assert panel.enhance.isEnabled()


def test_a_preview_shows_the_weights_to_begin_from_or_says_that_there_are_none(learning, said):
    dock = learning.dock
    tick(learning, 10)
    dock.panel.preview.click()
    learning.wait()
    assert names(learning) == ["cells", "cells preview"]
    dock.form.weights.show_weights("none")
    dock.panel.preview.click()
    learning.wait()
    assert "random weights cannot be previewed" in said[-1][1]
    assert own_models() == {"tiny"}


def test_the_plan_line_says_how_long_it_learns_first(home, make_bench, qtbot):
    bench = make_bench(plans=True)
    bench.choose("dqlr")
    bench.add(walls()[0])
    bench.dock.form.weights.show_weights("tiny")
    tick(bench, 10)
    line = bench.dock.form.plan_line
    qtbot.waitUntil(lambda: "about 10 min on " in line.text(), timeout=60_000)
    assert line.text().startswith("learns 10 min first, 1 tile")
    assert own_models() == {"tiny"}


def test_a_layer_of_unknown_voxel_size_is_refused_in_one_sentence(learning, said):
    learning.add(walls()[0], scale=None, name="unscaled")
    tick(learning, 1)
    assert learning.run() == []
    (severity, text), *_ = said
    assert severity == "error"
    assert "voxel size" in text


def test_the_train_dock_learns_from_a_layer_without_truth(
    home, make_napari_viewer, qtbot, monkeypatch
):
    from zenhance.plugin import dock_base, train_dock

    told = []
    monkeypatch.setattr(dock_base, "show_error", told.append)
    monkeypatch.setattr(train_dock, "show_info", told.append)
    viewer = make_napari_viewer()
    dock = train_dock.TrainDock(viewer)
    viewer.window.add_dock_widget(dock, name="Train", area="right")
    viewer.add_image(
        walls()[0],
        name="cells",
        scale=(0.5, 0.2, 0.2),
        units=("um",) * 3,
        metadata={"zenhance_file": {"na": 1.1}},
    )
    form = dock.form
    form.method.setCurrentIndex(form.method.findData("dqlr"))
    assert not form.data.psf_line.isHidden()
    assert 'PSF of "cells": confocal' in form.data.psf_line.text()
    assert "na 1.1 (file)" in form.data.psf_line.text()
    form.initial.setCurrentIndex(form.initial.findData("tiny"))
    form.device.setCurrentIndex(form.device.findData("cpu"))
    form.numbers.show_settings(
        {
            "patch_px": 16,
            "batch": 2,
            "steps": 8,
            "validate_every": 2,
            "validation_patches": 2,
            "warmup_steps": 1,
        }
    )
    dock.panel.start.click()
    qtbot.waitUntil(lambda: not dock.running, timeout=60_000)
    assert told == []
    card = dock.trained.card
    assert card.architecture == ARCHITECTURE
    assert card.recipe["start"] == "tiny"
    assert {entry["name"] for entry in card.data} == {"cells, resimulated"}
    assert dock.preview.layer.name == "training dqlr: measured | predicted | estimate"
    dock.panel.name.setText("mine")
    dock.panel.save.click()
    assert read_card(home / "weights" / "mine.safetensors").name == "mine"
    assert form.initial.findData("mine") > 0
    assert form.initial.currentData() == "tiny"
    form.method.setCurrentIndex(form.method.findData("srcnn"))
    assert form.data.psf_line.isHidden()
    assert form.initial.currentData() is None
    told.clear()
    dock = None
