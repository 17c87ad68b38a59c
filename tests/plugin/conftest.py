"""Fixtures of the plugin's tests: a display, a home for napari, slow methods, docked viewers."""

from __future__ import annotations

import gc
import inspect
import os
import shutil
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

# napari keeps its settings in the user's folders; tests must neither read nor change those.
_HOME = Path(tempfile.mkdtemp(prefix="zenhance-napari-"))
os.environ["XDG_CONFIG_HOME"] = str(_HOME / "config")
os.environ["XDG_CACHE_HOME"] = str(_HOME / "cache")
os.environ["NAPARI_CONFIG"] = str(_HOME / "settings.yaml")
os.environ["ZENHANCE_RECOVERY"] = str(_HOME / "recovered")
os.environ["ZENHANCE_DOCKS"] = str(_HOME / "docks.json")
os.environ["ZENHANCE_PROFILES"] = str(_HOME / "profiles")
os.environ["NAPARI_STRICT_QT"] = "1"


def _display_missing() -> str:
    if (
        not sys.platform.startswith("linux")
        or os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
    ):
        return ""
    if shutil.which("Xvfb"):
        return ""
    return (
        "napari needs a display: set DISPLAY, or install Xvfb (apt-get install xvfb) and "
        "pytest-xvfb"
    )


def pytest_collection_modifyitems(items):
    reason = _display_missing()
    here = Path(__file__).parent
    for item in (item for item in items if here in item.path.parents):
        # Qt's event loop runs no signal handler, so only a thread can end a test that waits in it.
        item.add_marker(pytest.mark.timeout(300, method="thread"))
        if reason and "make_napari_viewer" in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish():
    _SHARED.close()
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture
def slow_methods(monkeypatch):
    """The methods ``slow``, ``blurred``, ``finer`` and ``sampling`` beside the built-in ones.

    torch is imported first, so that no test's run has to wait for it.
    """
    import_module("torch")
    from zenhance.contract import registry

    for name, attribute in (("slow", "SLOW"), ("blurred", "NEEDS_PSF"), ("finer", "FINER")):
        monkeypatch.setitem(registry._BUILT_IN, name, f"slow_method:{attribute}")
    monkeypatch.setitem(registry._BUILT_IN, "sampling", "sampling_method:METHOD")


@pytest.fixture
def said(monkeypatch):
    """What the dock told the user, as (severity, text)."""
    from zenhance.plugin import dock_base, enhance_dock

    told: list[tuple[str, str]] = []
    for module, severity in (
        (dock_base, "error"),
        (enhance_dock, "warning"),
        (enhance_dock, "info"),
    ):
        monkeypatch.setattr(
            module,
            f"show_{severity}",
            lambda text, severity=severity: told.append((severity, text)),
        )
    return told


@pytest.fixture(autouse=True)
def no_dialog_waits(monkeypatch):
    """A dialog that a test does not expect fails it; waiting for an answer would never end."""
    from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

    for dialog, names in (
        (QMessageBox, ("critical", "information", "question", "warning")),
        (QInputDialog, ("getDouble", "getInt", "getItem", "getText")),
        (QFileDialog, ("getExistingDirectory", "getOpenFileName", "getSaveFileName")),
    ):
        for name in names:
            monkeypatch.setattr(dialog, name, _unexpected(f"{dialog.__name__}.{name}"))


def _unexpected(name):
    def opened(*arguments):
        raise AssertionError(f"{name} opened and would wait for ever: {arguments[1:]}")

    return opened


@pytest.fixture(autouse=True)
def nothing_remembered():
    """No test sees what a dock of another test remembered."""
    from zenhance.plugin import remembered

    remembered.forget_session()
    remembered.settings_path().unlink(missing_ok=True)
    shutil.rmtree(_HOME / "profiles", ignore_errors=True)


@pytest.fixture
def cells() -> np.ndarray:
    """A tiny stack (Z, Y, X) whose voxels all differ."""
    return np.arange(6 * 20 * 24, dtype=np.uint16).reshape(6, 20, 24)


class Bench:
    """A viewer with the Enhance dock and the things that tests do with it."""

    def __init__(self, viewer, dock, qtbot):
        self.viewer, self.dock, self.qtbot = viewer, dock, qtbot

    def add(self, data, **keywords):
        keywords = {
            "scale": (0.5, 0.2, 0.2)[3 - data.ndim :] if data.ndim <= 3 else None,
            "name": "cells",
        } | keywords
        if keywords["scale"] is not None and "units" not in keywords:
            keywords["units"] = ("micrometer",) * len(keywords["scale"])
        layer = self.viewer.add_image(data, **{k: v for k, v in keywords.items() if v is not None})
        self.dock.form.source.choose(layer)
        return layer

    def choose(self, method, *, arbitrate=False, **settings):
        """Choose a method; its own result is looked at unless arbitration is asked for."""
        form = self.dock.form
        form.method.setCurrentIndex(form.method.findData(method))
        form.options.arbitrate.setCurrentIndex(form.options.arbitrate.findData(arbitrate))
        form.settings.show_settings(settings)

    def wait(self, limit_ms=60_000):
        self.qtbot.waitUntil(lambda: not self.dock.running, timeout=limit_ms)

    def run(self):
        """Click Enhance and return the new layers, the topmost first."""
        before = list(self.viewer.layers)
        self.dock.panel.enhance.click()
        self.wait()
        layers = reversed(self.viewer.layers)
        return [layer for layer in layers if not any(layer is old for old in before)]


def _docked(viewer, *, plans: bool):
    from zenhance.plugin import enhance_dock

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dock = enhance_dock.EnhanceDock(viewer)
        viewer.window.add_dock_widget(dock, name="Enhance", area="right")
    # Judging adds a layer some time after a run; the tests of the verdict turn it on.
    dock.verdict.switch.setChecked(False)
    # Nor may the recommended method take the place of the one that a test chooses.
    dock.advice.hold(True)
    dock.advice.hold = lambda held: None
    if not plans:
        dock.estimate.hold(True)
        dock.estimate.hold = lambda held: None
        dock.form.microscope.hold(True)
        dock.form.microscope.hold = lambda held: None
    return dock


def _end_tasks(bench, qtbot):
    tasks = list(bench.dock._tasks)
    for task in tasks:
        task.cancel()
    qtbot.waitUntil(lambda: not any(task.running for task in tasks), timeout=10_000)


@pytest.fixture
def make_bench(make_napari_viewer, qtbot, slow_methods, monkeypatch):
    """Makes strict viewers with a docked Enhance dock; plans are not measured unless asked for."""
    from zenhance.plugin import enhance_dock

    monkeypatch.setattr(enhance_dock, "import_torch_later", lambda then: None)
    made = []

    def make(plans=False, **keywords):
        viewer = make_napari_viewer(**keywords)
        bench = Bench(viewer, _docked(viewer, plans=plans), qtbot)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        _end_tasks(bench, qtbot)
        # pytest keeps a test's arguments until the end of its teardown; before that, napari checks
        # that nothing keeps its viewer.
        bench.viewer = bench.dock = None


class _SharedViewer:
    """One viewer for consecutive tests: making a viewer takes longer than most of them."""

    def __init__(self):
        self.viewer, self.opened = None, False

    def open(self):
        import napari

        if self.viewer is None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("napari._qt.threads.status_checker.StatusChecker.start", _nothing)
                if self.opened:
                    # napari's fixture clears the caches that prevent registering actions twice.
                    patch.setattr("napari.plugins._initialize_plugins", _nothing)
                    patch.setattr("napari._qt.qt_main_window.init_qactions", _nothing)
                self.opened = True
                # napari 0.6 has no such switch.
                known = "show_welcome_screen" in inspect.signature(napari.Viewer).parameters
                self.viewer = napari.Viewer(
                    show=False, **({"show_welcome_screen": False} if known else {})
                )
        return self.viewer

    def clear(self):
        self.viewer.layers.clear()
        self.viewer.dims.reset()

    def close(self):
        from napari._qt.qt_viewer import QtViewer

        if self.viewer is not None:
            with pytest.MonkeyPatch.context() as patch:
                window = self.viewer.window._qt_window
                patch.setattr(window, "_save_current_window_settings", _nothing)
                self.viewer.close()
            self.viewer = None
            gc.collect()
            # What remains is held by the traceback of a failed test.
            QtViewer._instances.clear()


def _nothing(*_):
    """Do nothing."""


_SHARED = _SharedViewer()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if "make_napari_viewer" in item.fixturenames:
        _SHARED.close()


@pytest.fixture
def bench(qtbot, slow_methods, monkeypatch):
    """The shared viewer, empty, with a new Enhance dock."""
    from qtpy.compat import isalive

    from zenhance.plugin import enhance_dock

    if reason := _display_missing():
        pytest.skip(reason)
    monkeypatch.setattr(enhance_dock, "import_torch_later", lambda then: None)
    viewer = _SHARED.open()
    bench = Bench(viewer, _docked(viewer, plans=False), qtbot)
    yield bench
    _end_tasks(bench, qtbot)
    dock = bench.dock
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    _SHARED.clear()
    qtbot.waitUntil(lambda: not isalive(dock), timeout=5000)
    bench.viewer = bench.dock = None
