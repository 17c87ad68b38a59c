"""What users do during a run: click again, change, rename or delete the layer, close the window."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time
import weakref

import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer

LONG = {"steps": 25, "step_s": 0.02}


@pytest.fixture
def bench(make_bench):
    """A viewer of its own, which napari checks for leaks afterwards."""
    return make_bench()


def new_layers(bench, before):
    return [layer for layer in bench.viewer.layers if not any(layer is old for old in before)]


def test_many_clicks_start_one_run(bench, cells, qtbot):
    bench.choose("slow", **LONG)
    bench.add(cells)
    for _ in range(20):
        qtbot.mouseClick(bench.dock.panel.enhance, Qt.MouseButton.LeftButton)
        bench.dock.start_enhance()
    bench.wait()
    assert len(bench.viewer.layers) == 2


def test_preview_and_enhance_do_not_run_at_once(bench, cells):
    bench.choose("slow", **LONG)
    bench.add(cells)
    bench.dock.panel.enhance.click()
    bench.dock.start_preview()
    bench.wait()
    assert [layer.name for layer in bench.viewer.layers] == ["cells", "cells · slow"]


def test_painting_during_a_run_does_not_change_the_result(bench, cells, qtbot, said):
    bench.choose("slow", **LONG)
    layer = bench.add(cells.copy())
    bench.dock.panel.enhance.click()
    qtbot.wait(150)
    layer.data[3:] = 0
    bench.wait()
    np.testing.assert_array_equal(bench.viewer.layers[-1].data, cells.astype(np.float32) + 1)
    assert said == [
        (
            "warning",
            'layer "cells" was changed while it was being enhanced; '
            "the result shows it as it was at the start",
        )
    ]


def test_other_data_during_a_run_do_not_change_the_result(bench, cells, qtbot, said):
    bench.choose("slow", **LONG)
    layer = bench.add(cells)
    bench.dock.panel.enhance.click()
    qtbot.wait(100)
    layer.data = np.zeros((3, 4, 5), dtype=np.uint8)
    bench.wait()
    np.testing.assert_array_equal(bench.viewer.layers[-1].data, cells.astype(np.float32) + 1)
    assert "was changed" in said[0][1]


def test_an_untouched_layer_gives_no_notice(bench, cells, said):
    bench.choose("slow")
    bench.add(cells)
    bench.run()
    assert said == []


def test_a_large_layer_is_copied_by_the_worker(bench, cells, monkeypatch, qtbot, said):
    from zenhance.plugin import snapshot

    monkeypatch.setattr(snapshot, "AT_ONCE_BYTES", 0)
    bench.choose("slow", **LONG)
    layer = bench.add(cells.copy())
    bench.dock.panel.enhance.click()
    qtbot.wait(200)
    layer.data[:] = 0
    bench.wait()
    np.testing.assert_array_equal(bench.viewer.layers[-1].data, cells.astype(np.float32) + 1)
    assert "was changed" in said[0][1]


def test_a_copy_that_does_not_fit_into_memory_is_refused_in_words(bench, cells, monkeypatch, said):
    from zenhance.plugin import snapshot

    monkeypatch.setattr(snapshot, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(snapshot, "free_bytes", lambda device: 100)
    bench.choose("slow")
    bench.add(cells)
    bench.run()
    assert said[0][0] == "error"
    assert "a copy of the layer needs" in said[0][1]


def test_the_result_of_a_deleted_layer_arrives_with_a_notice(bench, cells, qtbot, said):
    bench.choose("slow", **LONG)
    layer = bench.add(cells)
    bench.dock.panel.enhance.click()
    qtbot.wait(100)
    bench.viewer.layers.remove(layer)
    del layer
    bench.wait()
    (result,) = bench.viewer.layers
    np.testing.assert_array_equal(result.data, cells.astype(np.float32) + 1)
    np.testing.assert_allclose(result.scale, (0.5, 0.2, 0.2))
    assert said == [
        (
            "warning",
            'layer "cells" was removed while it was being enhanced; '
            "the result shows it as it was at the start",
        )
    ]


def test_a_renamed_layer_is_still_the_same_layer(bench, cells, qtbot, said):
    bench.choose("slow", **LONG)
    layer = bench.add(cells)
    bench.add(cells, name="other")
    bench.dock.form.source.choose(layer)
    bench.dock.panel.enhance.click()
    qtbot.wait(100)
    layer.name = "renamed"
    bench.wait()
    assert [entry.name for entry in bench.viewer.layers] == ["renamed", "other", "cells · slow"]
    assert bench.dock.form.source.combo.currentText() == "renamed"
    assert said == []


def test_each_viewer_gets_its_own_result_and_runs_take_turns(make_bench, cells, qtbot):
    first, second = make_bench(), make_bench()
    for bench, value in ((first, 10), (second, 20)):
        bench.choose("slow", **LONG)
        bench.add(np.full_like(cells, value))
    first.dock.panel.enhance.click()
    second.dock.panel.enhance.click()
    first.wait()
    second.wait()
    assert [float(layer.data.flat[0]) for layer in first.viewer.layers] == [10, 11]
    assert [float(layer.data.flat[0]) for layer in second.viewer.layers] == [20, 21]


def test_closing_the_viewer_ends_the_run_quickly_and_quietly(
    make_bench, cells, qtbot, said, patience
):
    bench = make_bench()
    bench.choose("slow", steps=1000, step_s=0.02)
    bench.add(cells)
    bench.dock.panel.enhance.click()
    qtbot.wait(300)
    (task,) = list(bench.dock._tasks)
    began = time.monotonic()
    bench.viewer.close()
    qtbot.waitUntil(lambda: not task.running, timeout=5000)
    assert time.monotonic() - began < 2.0 * patience
    assert said == []


def test_the_window_answers_during_a_run(bench, qtbot, patience):
    volume = np.random.default_rng(0).poisson(20, (24, 120, 144)).astype(np.uint16)
    bench.choose("slow", steps=60, step_s=0.02)
    bench.add(volume)
    bench.run()
    beats = []
    timer = QTimer()
    timer.setInterval(20)
    timer.timeout.connect(lambda: beats.append(time.monotonic()))
    bench.dock.panel.enhance.click()
    timer.start()
    qtbot.waitUntil(lambda: bench.dock.panel.bar.value() > 900, timeout=20_000)
    timer.stop()
    bench.wait()
    assert np.diff(beats).max() <= 0.2 * patience


@pytest.mark.timeout(180)
def test_the_window_answers_while_a_real_deconvolution_is_typed_estimated_and_run(
    make_bench, qtbot, patience
):
    bench = make_bench(plans=True)
    volume = np.random.default_rng(0).poisson(20, (24, 256, 256)).astype(np.uint16)
    bench.choose("gaussian_deconvolution", iterations=6, stop="fixed")
    bench.add(volume)
    form = bench.dock.form
    form.device.setCurrentIndex(form.device.findData("cpu"))
    qtbot.waitUntil(lambda: "; about" in form.plan_line.text(), timeout=60_000)
    timed = []
    bench.dock.estimate.timed.connect(timed.append)
    beats = []
    timer = QTimer()
    timer.setInterval(20)
    timer.timeout.connect(lambda: beats.append(time.monotonic()))
    timer.start()
    for iterations in (1, 12, 5):
        form.settings.fields["iterations"].value = iterations
        qtbot.wait(150)
    form.psf.kind.setCurrentIndex(form.psf.kind.findData("sigma_um"))
    form.psf.kind.setCurrentIndex(0)
    qtbot.waitUntil(lambda: len(timed) == 1, timeout=60_000)
    bench.dock.panel.enhance.click()
    bench.wait(100_000)
    timer.stop()
    assert len(bench.viewer.layers) == 2
    assert len(beats) > 20
    assert np.diff(beats).max() <= 0.25 * patience


def test_after_a_run_nothing_keeps_the_layers_and_their_data(bench, cells, qtbot):
    bench.choose("slow")
    alive = []
    for _ in range(2):
        layer = bench.add(cells.copy())
        (result,) = bench.run()
        alive += [
            weakref.ref(layer),
            weakref.ref(result),
            weakref.ref(layer.data),
            weakref.ref(result.data),
        ]
        bench.viewer.layers.clear()
        del layer, result
        qtbot.wait(50)
    bench.viewer.layers.clear()
    qtbot.wait(100)
    gc.collect()
    assert [ref() is None for ref in alive] == [True] * len(alive)


@pytest.mark.parametrize("how", ["raise", "cancel"])
def test_failed_and_cancelled_runs_keep_no_data_either(bench, cells, qtbot, said, how):
    bench.choose("slow", steps=50, step_s=0.01, trouble="raise" if how == "raise" else "none")
    data = cells.copy()
    layer = bench.add(data)
    bench.dock.panel.enhance.click()
    if how == "cancel":
        qtbot.wait(100)
        bench.dock.panel.cancel.click()
    bench.wait()
    alive = [weakref.ref(layer), weakref.ref(data)]
    bench.viewer.layers.clear()
    del layer, data
    qtbot.wait(100)
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


CLOSING = """
import os, sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from zenhance.contract import registry
registry._BUILT_IN["slow"] = "slow_method:SLOW"
import napari
from qtpy.QtCore import QTimer
from zenhance.plugin.enhance_dock import EnhanceDock
viewer = napari.Viewer(show=True)
viewer.add_image(np.zeros((6, 20, 24), np.uint16), scale=(0.5, 0.2, 0.2), units=("um",) * 3)
dock = EnhanceDock(viewer)
viewer.window.add_dock_widget(dock)
form = dock.form
form.method.setCurrentIndex(form.method.findData("slow"))
form.settings.show_settings({{"steps": 1000, "step_s": 0.05}})
QTimer.singleShot(500, dock.panel.enhance.click)
def leave():
    print("running", dock.running, flush=True)
    print("closed at", time.time(), flush=True)
    viewer.close()
QTimer.singleShot(2500, leave)
napari.run()
from qtpy.QtCore import QThreadPool
idle = QThreadPool.globalInstance().waitForDone(20_000)
print("idle", idle, time.time(), flush=True)
"""


def test_napari_can_be_quit_during_a_run(make_napari_viewer, patience):
    from pathlib import Path

    code = textwrap.dedent(CLOSING).format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert "running True" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    closed = float(done.stdout.split("closed at")[1].split()[0])
    ended = float(done.stdout.split("idle True")[1])
    # The run would have gone on for 50 s.
    assert ended - closed < 3.0 * patience
    assert "QThread" not in done.stderr
    assert "Traceback" not in done.stderr
