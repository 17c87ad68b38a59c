"""Fixtures of the plugin's tests: a display or a clear reason, a home of its own for napari, slow methods, and a dock in a viewer."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

# napari keeps its settings in the user's folders; tests must neither read nor change those.
_HOME = Path(tempfile.mkdtemp(prefix="zenhance-napari-"))
os.environ["XDG_CONFIG_HOME"] = str(_HOME / "config")
os.environ["XDG_CACHE_HOME"] = str(_HOME / "cache")
os.environ["NAPARI_CONFIG"] = str(_HOME / "settings.yaml")
os.environ["ZENHANCE_RECOVERY"] = str(_HOME / "recovered")
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
    return "napari needs a display: set DISPLAY, or install Xvfb (apt-get install xvfb) and pytest-xvfb"


def pytest_collection_modifyitems(items):
    reason = _display_missing()
    here = Path(__file__).parent
    for item in items:
        if reason and here in item.path.parents and "make_napari_viewer" in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish():
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture
def slow_methods(monkeypatch):
    """The methods ``slow``, ``blurred``, ``finer`` and ``sampling`` beside the built-in ones."""
    from zenhance.contract import registry

    for name, attribute in (("slow", "SLOW"), ("blurred", "NEEDS_PSF"), ("finer", "FINER")):
        monkeypatch.setitem(registry._BUILT_IN, name, f"slow_method:{attribute}")
    monkeypatch.setitem(registry._BUILT_IN, "sampling", "sampling_method:METHOD")


@pytest.fixture
def said(monkeypatch):
    """What the dock told the user, as (severity, text)."""
    from zenhance.plugin import enhance_dock

    told: list[tuple[str, str]] = []
    for severity in ("error", "warning", "info"):
        monkeypatch.setattr(
            enhance_dock,
            f"show_{severity}",
            lambda text, severity=severity: told.append((severity, text)),
        )
    return told


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

    def choose(self, method, **settings):
        form = self.dock.form
        form.method.setCurrentIndex(form.method.findData(method))
        form.settings.show_settings(settings)

    def wait(self, limit_ms=20_000):
        self.qtbot.waitUntil(lambda: not self.dock.running, timeout=limit_ms)

    def run(self):
        before = list(self.viewer.layers)
        self.dock.panel.enhance.click()
        self.wait()
        return [layer for layer in self.viewer.layers if not any(layer is old for old in before)]


@pytest.fixture
def make_bench(make_napari_viewer, qtbot, slow_methods, monkeypatch):
    """Makes viewers with a docked Enhance dock; plans are not measured unless a test asks for it."""
    from zenhance.plugin import enhance_dock

    monkeypatch.setattr(enhance_dock, "import_torch_later", lambda then: None)
    made = []

    def make(outlook=False, **keywords):
        viewer = make_napari_viewer(**keywords)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dock = enhance_dock.EnhanceDock(viewer)
            viewer.window.add_dock_widget(dock, name="Enhance", area="right")
        if not outlook:
            dock.outlook.hold(True)
            dock.outlook.hold = lambda held: None
        bench = Bench(viewer, dock, qtbot)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        for task in list(bench.dock._tasks):
            task.cancel()
        qtbot.waitUntil(
            lambda bench=bench: not any(task.running for task in bench.dock._tasks), timeout=10_000
        )
        # pytest keeps a test's arguments until all is torn down; napari checks before that nothing keeps its viewer.
        bench.viewer = bench.dock = None


@pytest.fixture
def bench(make_bench):
    return make_bench()
