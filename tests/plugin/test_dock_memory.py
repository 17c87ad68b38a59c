"""What a dock remembers: all of it within a session, lasting choices beyond it, nothing stale."""

from __future__ import annotations

import json
import os
import warnings

import numpy as np
import pytest

from zenhance.pipeline import EnhanceRequest
from zenhance.plugin import remembered


@pytest.fixture
def reopen(bench, qtbot):
    """Closes the Enhance dock of the bench as a user does, and opens another one."""
    from qtpy.compat import isalive

    from zenhance.plugin.enhance_dock import EnhanceDock

    def close_and_open(meanwhile=lambda: None):
        old = bench.dock
        bench.viewer.window.remove_dock_widget(old)
        old.deleteLater()
        qtbot.waitUntil(lambda: not isalive(old), timeout=5000)
        meanwhile()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bench.dock = EnhanceDock(bench.viewer)
            bench.viewer.window.add_dock_widget(bench.dock, name="Enhance", area="right")
        bench.dock.estimate.hold(True)
        bench.dock.estimate.hold = lambda held: None
        bench.dock.advice.hold(True)
        return bench.dock

    return close_and_open


def fill(bench):
    bench.choose("blurred", steps=5, weight=0.125)
    form = bench.dock.form
    form.psf.show_spec("confocal:na=1.1")
    form.device.setCurrentIndex(form.device.findData("cpu"))
    form.options.dtype.setCurrentIndex(form.options.dtype.findData("input"))
    form.options.seed.setValue(11)
    form.source.show_typed("TYX", (None, 0.3, 0.3))
    form.source.edited.emit()


def test_a_dock_that_is_closed_and_opened_again_shows_what_it_showed(bench, cells, reopen):
    layer = bench.add(cells, name="chosen")
    other = bench.viewer.add_image(cells, name="other")
    fill(bench)
    before = bench.dock.request()
    dock = reopen()
    assert dock.form.layer is layer
    assert dock.request() == before
    assert other in bench.viewer.layers


def test_what_belongs_to_a_layer_goes_with_the_layer(bench, cells, reopen):
    layer = bench.add(cells, name="chosen")
    fill(bench)
    bench.viewer.layers.remove(layer)
    del layer
    bench.viewer.add_image(cells[:3], name="new")
    request = reopen().request()
    assert (request.axes, request.voxel_size_um) == (None, None)
    assert (request.settings, request.seed) == ({"steps": 5, "weight": 0.125}, 11)


def test_the_next_session_starts_with_method_and_settings_but_nothing_of_an_image(
    bench, cells, reopen
):
    bench.add(cells)
    fill(bench)
    bench.dock.form.options.background.set_typed(120.0)
    bench.dock.form.options.background.edited.emit()
    request = reopen(remembered.forget_session).request()
    assert request == EnhanceRequest(
        method="blurred",
        settings={"steps": 5, "weight": 0.125},
        device="cpu",
        dtype="input",
        seed=11,
        arbitrate=False,
    )


def test_the_switch_of_the_judge_and_the_open_parts_come_back(bench, cells, reopen):
    bench.add(cells)
    bench.choose("slow")
    bench.dock.verdict.switch.setChecked(True)
    bench.dock.form.optics.expand(animate=False)
    bench.dock.verdict.switch.setChecked(False)
    for meanwhile in (lambda: None, remembered.forget_session):
        dock = reopen(meanwhile)
        assert not dock.verdict.switch.isChecked()
        assert dock.form.optics.isExpanded()
        assert not dock.form.more.isExpanded()


def test_each_method_gets_its_own_settings_back(bench, cells):
    bench.add(cells)
    form = bench.dock.form
    bench.choose("slow", steps=9)
    form.method.setCurrentIndex(form.method.findData("finer"))
    assert bench.dock.request().settings == {}
    form.method.setCurrentIndex(form.method.findData("slow"))
    assert bench.dock.request().settings == {"steps": 9}


def _write(**changes):
    """Leave what an earlier session would have left."""
    remembered.forget_session()
    record = {
        "format": remembered.FORMAT,
        "zenhance": remembered.__version__,
        "enhance": {"method": "slow", "settings": {"steps": 5}, "of_method": {}},
    }
    remembered.settings_path().write_text(json.dumps(record | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"zenhance": "0.0.1"},
        {"format": remembered.FORMAT + 1},
        {"enhance": {"method": "no such method"}},
        {"enhance": {"method": "slow", "settings": {"steps": -3}}},
        {"enhance": {"method": "slow", "unknown": 1}},
        {"enhance": {"method": "slow", "of_method": 3}},
        {"enhance": ["method"]},
    ],
)
def test_remembered_settings_that_are_stale_or_invalid_do_not_come_back(bench, reopen, changes):
    bench.add(np.zeros((3, 8, 8), np.uint8))
    assert reopen(lambda: _write(**changes)).request() == EnhanceRequest()


def test_a_model_that_was_deleted_since_the_last_session_is_not_chosen(bench, reopen):
    bench.add(np.zeros((3, 8, 8), np.uint8))
    left = {"method": "dqlr", "weights": "deleted since", "device": "cpu"}
    request = reopen(lambda: _write(enhance=left)).request()
    assert request == EnhanceRequest(method="dqlr", device="cpu")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[1]"])
def test_a_damaged_file_of_settings_is_ignored(content):
    remembered.settings_path().write_bytes(content)
    assert remembered.lasting("enhance") == {}
    remembered.write_lasting("enhance", {"method": "slow"})
    assert remembered.lasting("enhance") == {"method": "slow"}


def test_a_file_of_settings_that_is_large_or_no_file_is_not_read(tmp_path, monkeypatch):
    remembered.settings_path().write_bytes(b" " * (remembered.MAX_BYTES + 1))
    assert remembered.lasting("enhance") == {}
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setenv("ZENHANCE_DOCKS", str(pipe))
    assert remembered.lasting("enhance") == {}
    remembered.write_lasting("enhance", {"method": "slow"})
    assert pipe.is_fifo()


def test_settings_that_cannot_be_written_are_logged_only(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ZENHANCE_DOCKS", str(tmp_path / "file" / "docks.json"))
    remembered.write_lasting("enhance", {"method": "slow"})
    assert "cannot be remembered" in caplog.text


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_settings_of_a_result_file_are_loaded_from_its_record(bench, cells, tmp_path, ending):
    from zenhance.plugin.writers import write_image

    bench.choose("slow", steps=4)
    bench.add(cells)
    bench.dock.form.options.seed.setValue(7)
    (layer,) = bench.run()
    data, keywords, _ = layer.as_layer_data_tuple()
    path = tmp_path / f"result{ending}"
    write_image(str(path), data, keywords)
    # A file dialog can choose a file in the folder of an OME-Zarr image, not the folder.
    paths = [path, path / "zarr.json"] if path.is_dir() else [path]
    for chosen in paths:
        bench.choose("blurred")
        bench.dock.form.options.seed.setValue(0)
        bench.dock.load_settings(chosen)
        request = bench.dock.request()
        assert (request.method, request.settings, request.seed) == ("slow", {"steps": 4}, 7)


def test_a_train_dock_that_is_closed_keeps_its_form_and_its_unsaved_model(
    make_napari_viewer, qtbot
):
    from qtpy.compat import isalive

    from zenhance.models.header import Card
    from zenhance.plugin.train_dock import TrainDock
    from zenhance.plugin.training_run import Trained, TrainingView

    viewer = make_napari_viewer()

    def opened():
        dock = TrainDock(viewer)
        viewer.window.add_dock_widget(dock, name="Train", area="right")
        return dock

    dock = opened()
    form = dock.form
    form.method.setCurrentIndex(form.method.findData("srcnn"))
    form.start.setCurrentIndex(form.start.findData("srcnn_filaments"))
    form.minutes.setValue(3.5)
    form.data.kind.setCurrentIndex(form.data.kind.findData("simulated"))
    before = form.recipe("mine")
    card = Card(method="srcnn", name="mine", version="0.1", steps=5)
    dock._trained = Trained(b"", card, "all steps done", TrainingView("save", 1.0, None, "saved"))
    dock._saved = False
    dock._remember()
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    qtbot.waitUntil(lambda: not isalive(dock), timeout=5000)
    dock = opened()
    assert dock.form.recipe("mine") == before
    assert dock.panel.save.isEnabled()
    assert dock.trained.card == card
    assert "not saved" in dock.panel.note.text()
