"""The verdict beside a result: it comes by itself, and its buttons show, report and copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtGui import QDesktopServices, QGuiApplication
from scipy.ndimage import gaussian_filter

VOXEL_UM = (0.5, 0.2, 0.2)


@pytest.fixture
def photons():
    """A blurred texture with photon noise at 5 grey values a photon on an offset of 100."""
    rng = np.random.default_rng(3)
    light = gaussian_filter(rng.random((12, 48, 52)) ** 8, (1.5, 2, 2))
    return (5 * rng.poisson(60 * light / light.max() + 2) + 100).astype(np.uint16)


def judged(bench, qtbot, data, method="slow", **keywords):
    bench.dock.verdict.switch.setChecked(True)
    bench.choose(method)
    layer = bench.add(data, scale=VOXEL_UM, **keywords)
    bench.run()
    panel = bench.dock.verdict
    qtbot.waitUntil(lambda: not panel.running, timeout=60_000)
    return layer, panel


def test_the_verdict_comes_after_the_run_in_colour_and_one_sentence(bench, qtbot, photons):
    _, panel = judged(bench, qtbot, photons)
    assert panel.judged is not None
    found = panel.judged.assessment
    assert panel.line.text() == f"● {found.verdict}: {found.headline}"
    assert "color" in panel.line.label.styleSheet()
    assert any(s.startswith("How much is prior?") for s in found.sentences)
    # The measurement plus one follows the noise.
    assert found.verdict == "amber"
    assert "follows the noise" in panel.line.text()
    result = bench.viewer.layers["cells · slow"]
    assert result.metadata["zenhance"]["notes"]["assessment"]["verdict"] == "amber"


def test_show_where_shows_the_map_at_its_place(bench, qtbot, photons):
    layer, panel = judged(bench, qtbot, photons, translate=(3, 4, 5))
    places = bench.viewer.layers["cells · where it disagrees"]
    assert not places.visible
    np.testing.assert_allclose(places.translate, layer.translate)
    np.testing.assert_allclose(places.scale, layer.scale)
    assert places.data.shape == photons.shape
    assert bench.viewer.layers.selection.active.name == "cells · slow"
    panel.where.click()
    assert places.visible
    panel.where.click()
    assert not places.visible


def test_the_map_of_a_large_layer_lies_where_the_part_was_judged(
    bench, qtbot, photons, monkeypatch
):
    from zenhance.pipeline import judging

    monkeypatch.setattr(judging, "MAX_VOXELS", 12 * 32 * 32)
    monkeypatch.setattr(judging, "MIN_SIDE_PX", 8)
    photons[:, :20, :20] += 4000
    _, panel = judged(bench, qtbot, photons)
    region = panel.judged.region
    assert [s.stop - s.start for s in region] == [12, 32, 32]
    assert (region[1].start, region[2].start) == (0, 0)
    assert panel.judged.assessment.z_map.shape == (12, 32, 32)
    # Pixels elsewhere are not part of the record's finding that others were judged.
    assert not any("other pixels" in s for s in panel.judged.assessment.sentences)


def test_the_report_opens_in_the_browser(bench, qtbot, photons, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    _, panel = judged(bench, qtbot, photons)
    panel.report.click()
    page = Path(opened[0]).read_text(encoding="utf-8")
    assert panel.judged.assessment.headline in page
    assert "How the result was made" in page


def test_the_methods_paragraph_names_the_verdict_and_the_psf(bench, qtbot, photons):
    _, panel = judged(bench, qtbot, photons, "blurred")
    panel.paragraph.click()
    text = QGuiApplication.clipboard().text()
    assert "Images were enhanced with zenhance" in text
    assert "The point spread function was" in text
    assert f"the result was {panel.judged.assessment.verdict}:" in text


def test_probe_says_what_is_found_and_its_report_opens(bench, qtbot, photons, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    _, panel = judged(bench, qtbot, photons)
    assert panel.probe.text() == "Probe"
    panel.probe.click()
    assert panel.running
    assert not panel.probe.isEnabled()
    qtbot.waitUntil(lambda: not panel.running, timeout=120_000)
    assert panel.probed is not None, panel.probe_line.text()
    assert panel.probe_line.text() == "\n".join(panel.probed.sentences)
    assert panel.probed.method == "slow"
    assert panel.probe.text() == "Probe report"
    panel.probe.click()
    assert panel.probed.sentences[1] in Path(opened[0]).read_text(encoding="utf-8")


def test_probes_can_be_stopped(bench, qtbot, photons):
    _, panel = judged(bench, qtbot, photons)
    panel.probe.click()
    panel.stop.click()
    qtbot.waitUntil(lambda: not panel.running, timeout=60_000)
    assert panel.probed is None
    assert panel.probe_line.text() == "not probed: stopped"
    assert panel.judged is not None


def test_stopping_the_judge_keeps_the_result(bench, qtbot, photons, monkeypatch):
    from zenhance.errors import RunCancelled
    from zenhance.pipeline import Progress, judging

    def waiting(raw, result, request, cancel):
        yield Progress("assess", 0.0, None, "judging")
        assert cancel.wait(30)
        raise RunCancelled("stopped")

    monkeypatch.setattr(judging, "judge_steps", waiting)
    bench.dock.verdict.switch.setChecked(True)
    bench.choose("slow")
    bench.add(photons, scale=VOXEL_UM)
    (result,) = bench.run()
    panel = bench.dock.verdict
    assert panel.running
    panel.stop.click()
    qtbot.waitUntil(lambda: not panel.running, timeout=10_000)
    assert panel.judged is None
    assert panel.line.text() == "not judged: stopped"
    assert result in bench.viewer.layers


def test_the_switch_turns_it_off_and_a_new_run_forgets_the_last_verdict(bench, qtbot, photons):
    _, panel = judged(bench, qtbot, photons)
    panel.switch.setChecked(False)
    bench.run()
    assert panel.judged is None
    assert panel.line.text() == ""
    assert panel.report.isHidden()


def test_a_result_that_cannot_be_judged_says_why(bench, qtbot):
    _, panel = judged(bench, qtbot, np.full((6, 20, 24), 65535, np.uint16))
    assert panel.judged is None
    assert panel.line.text().startswith("not judged: ")
