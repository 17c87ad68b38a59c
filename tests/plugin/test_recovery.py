"""A result whose viewer is gone is kept on disk, and named when the dock is opened next."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from zenhance.plugin import recovery
from zenhance.plugin.enhance_dock import _run_steps
from zenhance.plugin.readers import read_layers
from zenhance.plugin.snapshot import Snapshot


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ZENHANCE_RECOVERY", str(tmp_path / "kept"))
    return tmp_path / "kept"


def entry(value, name="cells · slow"):
    keywords = {
        "name": name,
        "scale": (0.5, 0.2, 0.2),
        "units": ("um",) * 3,
        "metadata": {"zenhance": {"version": "1", "request": {}}},
    }
    return np.full((3, 8, 9), value, np.float32), keywords, "image"


def wait_for_writers():
    for thread in threading.enumerate():
        if thread.name == "zenhance-recovery":
            thread.join(20)


def test_results_are_written_with_voxel_size_and_record(folder):
    (path,) = recovery.keep([entry(4)])
    assert path.parent == folder
    assert "cells-slow" in path.name
    ((data, keywords, _),) = read_layers(str(path))
    np.testing.assert_array_equal(np.asarray(data), entry(4)[0])
    assert keywords["scale"] == pytest.approx((0.5, 0.2, 0.2))
    assert keywords["metadata"]["zenhance"]["version"] == "1"


def test_only_the_latest_few_are_kept_and_other_files_are_left_alone(folder, monkeypatch):
    monkeypatch.setattr(recovery, "MAX_KEPT", 2)
    folder.mkdir()
    (folder / "mine.ome.tif").write_text("my own")
    paths = [recovery.keep([entry(n)])[0] for n in range(4)]
    assert sorted(p.name for p in folder.glob("*.recovered.ome.tif")) == [p.name for p in paths[2:]]
    assert (folder / "mine.ome.tif").read_text() == "my own"


def test_a_name_that_no_file_can_bear_is_replaced(folder):
    (path,) = recovery.keep([entry(1, name="../../a/b: <c>")])
    assert path.parent == folder
    assert path.is_file()


def test_each_kept_result_is_named_once(folder):
    assert recovery.recovery_notice() == ""
    (first,) = recovery.keep([entry(1)])
    said = recovery.recovery_notice()
    assert first.name in said
    assert str(folder) in said
    assert recovery.recovery_notice() == ""
    (second,) = recovery.keep([entry(2)])
    said = recovery.recovery_notice()
    assert second.name in said
    assert first.name not in said


def test_a_folder_that_cannot_be_made_goes_to_the_log(folder, caplog):
    folder.write_text("a file")
    assert recovery.keep([entry(1)]) == []
    assert "could not be kept" in caplog.text


def test_the_next_opening_of_the_dock_names_it(folder, make_bench, said, qtbot):
    (path,) = recovery.keep([entry(1)])
    bench = make_bench()
    qtbot.waitUntil(lambda: path.name in bench.dock.panel.note.text(), timeout=5000)
    assert any(severity == "info" and path.name in text for severity, text in said)


def test_a_result_that_arrives_after_its_viewer_is_kept(folder, bench, cells, qtbot):
    bench.choose("slow", steps=25, step_s=0.02)
    bench.add(cells)
    bench.dock.panel.enhance.click()
    bench.dock._viewer = lambda: None
    qtbot.waitUntil(lambda: not bench.dock.running, timeout=20_000)
    wait_for_writers()
    (path,) = folder.glob("*.recovered.ome.tif")
    ((data, keywords, _),) = read_layers(str(path))
    np.testing.assert_array_equal(np.asarray(data), cells.astype(np.float32) + 1)
    assert keywords["metadata"]["zenhance"]["request"]["method"] == "slow"


def test_a_result_that_is_done_when_its_window_closes_is_kept(folder, bench, cells):
    bench.choose("slow")
    layer = bench.add(cells)
    gone = threading.Event()
    snapshot = Snapshot(layer, bench.dock.form.facts_now(), "ZYX")
    steps = _run_steps(snapshot, bench.dock.request(), threading.Event(), gone)
    for progress in steps:
        if progress.stage == "check":
            gone.set()
            break
    steps.close()
    (path,) = folder.glob("*.recovered.ome.tif")
    np.testing.assert_array_equal(
        np.asarray(read_layers(str(path))[0][0]), cells.astype(np.float32) + 1
    )


def test_a_cancelled_run_keeps_nothing(folder, bench, cells, qtbot):
    bench.choose("slow", steps=1000, step_s=0.02)
    bench.add(cells)
    bench.dock.panel.enhance.click()
    qtbot.wait(200)
    bench.dock.panel.cancel.click()
    bench.wait()
    wait_for_writers()
    assert not folder.exists()


def test_keeping_a_turned_layer_in_a_worker_logs_what_is_lost_and_touches_no_window(
    folder, cells, caplog, monkeypatch
):
    from napari.utils.notifications import NotificationManager

    told = []
    monkeypatch.setattr(NotificationManager, "dispatch", lambda *given: told.append(given))
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=float)
    keywords = {"name": "cells", "rotate": turn, "scale": (0.5, 0.2, 0.2)}
    worker = recovery.keep_later([(cells, keywords, "image")])
    worker.join(30)
    assert len(list(folder.glob("*.recovered.ome.tif"))) == 1
    assert "rotated, sheared or mirrored" in caplog.text
    assert told == []
