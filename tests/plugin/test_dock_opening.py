"""The dock opens at once, from napari's own menu machinery, and says beforehand what will happen."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

OPENING = """
import sys, time
import napari
viewer = napari.Viewer(show=False)
began = time.process_time()
from zenhance.plugin.enhance_dock import EnhanceDock
dock = EnhanceDock(viewer)
viewer.window.add_dock_widget(dock)
print("seconds", time.process_time() - began)
print("torch", "torch" in sys.modules)
dock.outlook.stop()
viewer.close()
"""


def test_opening_the_dock_takes_under_a_second_and_does_not_import_torch(make_napari_viewer):
    # The fixture is not used: it stands for the display that the child process needs. Processor time, because others share this machine.
    done = subprocess.run([sys.executable, "-c", OPENING], capture_output=True, text=True, timeout=120, check=True)
    assert "torch False" in done.stdout
    assert float(done.stdout.split("seconds")[1].split()[0]) < 1.0


def test_napari_opens_the_dock_from_its_manifest(make_napari_viewer, slow_methods, qtbot):
    from zenhance.plugin.enhance_dock import EnhanceDock

    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((6, 20, 24), dtype=np.uint8), scale=(0.5, 0.2, 0.2), units=("um",) * 3)
    _, dock = viewer.window.add_plugin_dock_widget("zenhance", "Enhance")
    try:
        assert isinstance(dock, EnhanceDock)
        form = dock.form
        form.method.setCurrentIndex(form.method.findData("slow"))
        dock.panel.enhance.click()
        qtbot.waitUntil(lambda: not dock.running, timeout=20_000)
        assert len(viewer.layers) == 2
        assert form.layer is viewer.layers[0]
    finally:
        dock.outlook.hold(True)
        qtbot.waitUntil(lambda: not any(task.running for task in dock._tasks), timeout=10_000)


def test_plan_device_and_measured_time_are_told_before_the_run(make_bench, cells, qtbot):
    bench = make_bench(outlook=True)
    bench.choose("slow", steps=10, step_s=0.01)
    bench.add(cells)
    line, device = bench.dock.form.plan_line, bench.dock.form.device_line
    qtbot.waitUntil(lambda: "about" in line.text(), timeout=20_000)
    assert line.text().startswith("1 tile, ")
    assert "to work in, result 11.5 kB" in line.text()
    assert device.text().startswith(("CPU", "CUDA", "MPS"))


def test_the_measured_time_follows_the_settings(make_bench, cells, qtbot):
    bench = make_bench(outlook=True)
    bench.choose("slow", steps=10, step_s=0.1)
    bench.add(cells)
    seconds = []
    bench.dock.outlook.timed.connect(seconds.append)
    qtbot.waitUntil(lambda: len(seconds) == 1, timeout=20_000)
    assert 1.0 <= seconds[0] < 6.0
    began = time.monotonic()
    bench.run()
    assert time.monotonic() - began < 2 * seconds[0] + 2.0


def test_what_cannot_be_planned_is_explained(make_bench, cells, qtbot):
    bench = make_bench(outlook=True)
    bench.choose("blurred")
    bench.add(cells, scale=None)
    line = bench.dock.form.plan_line
    qtbot.waitUntil(lambda: "voxel size" in line.text(), timeout=20_000)


def test_durations_are_told_in_words():
    from zenhance.plugin.outlook import duration

    assert [duration(s) for s in (0.2, 42.4, 200, 7800)] == ["1 s", "42 s", "3 min", "2 h 10 min"]
