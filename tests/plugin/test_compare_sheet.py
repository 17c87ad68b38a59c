"""Compare methods in the dock: one sheet with verdicts, and a click that runs one on the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from zenhance.contract import registry

VOXEL_UM = (0.5, 0.2, 0.2)


@pytest.fixture
def few_methods(monkeypatch):
    """The sheet compares two real methods and one that fails."""
    names = ["gaussian_deconvolution", "identity", "slow"]
    monkeypatch.setattr("zenhance.pipeline.comparing.registry.names", lambda: names)
    return names


@pytest.fixture
def photons():
    rng = np.random.default_rng(3)
    light = gaussian_filter(rng.random((10, 64, 72)) ** 8, (1.5, 2, 2))
    return (5 * rng.poisson(60 * light / light.max() + 2) + 100).astype(np.uint16)


def compared(bench, qtbot, photons):
    layer = bench.add(photons, scale=VOXEL_UM)
    bench.choose("gaussian_deconvolution")
    bench.dock.compare_button.click()
    assert bench.dock.running
    bench.wait()
    return layer, bench.dock.sheet


def test_the_sheet_shows_each_method_with_picture_verdict_and_figures(
    bench, qtbot, few_methods, photons
):
    _, sheet = compared(bench, qtbot, photons)
    # The identity changes nothing, so it is the measurement.
    assert set(sheet.texts) == {"", "gaussian_deconvolution", "slow"}
    text = sheet.texts["gaussian_deconvolution"].text()
    assert "● " in text
    assert "finest detail" in text
    assert "noise" in text
    assert " s ·" in text
    assert "suggested" in text + sheet.texts["slow"].text()
    assert set(sheet.buttons) == {"gaussian_deconvolution", "slow"}
    sheet.close()
    qtbot.waitUntil(lambda: bench.dock.sheet is None, timeout=5000)


def test_one_click_runs_a_method_of_the_sheet_on_the_whole_layer(
    bench, qtbot, few_methods, photons
):
    layer, sheet = compared(bench, qtbot, photons)
    bench.add(photons[:3], name="other", scale=VOXEL_UM)
    sheet.buttons["slow"].click()
    bench.wait()
    assert bench.dock.form.method.currentData() == "slow"
    result = bench.viewer.layers["cells · slow"]
    assert result.data.shape == layer.data.shape
    assert bench.dock.form.layer is layer


def test_a_comparison_can_be_cancelled(bench, qtbot, few_methods, photons):
    bench.add(photons, scale=VOXEL_UM)
    bench.choose("slow", steps=1000, step_s=0.02)
    bench.dock.compare_button.click()
    qtbot.waitUntil(lambda: "slow" in bench.dock.panel.note.text(), timeout=60_000)
    bench.dock.cancel()
    bench.wait(10_000)
    assert bench.dock.sheet is None
    assert bench.dock.panel.enhance.isEnabled()
    assert len(registry.names()) == 3
