"""The assessment is one record, read back from JSON, and a report that holds all it shows."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import planted
from planted import PSF, VOXEL_UM, Ideal

from zenhance.assess.assessment import Assessment, assess
from zenhance.assess.drawing import Line, line_chart
from zenhance.assess.report import render_report
from zenhance.physics.psf import gaussian
from zenhance.provenance import Provenance
from zenhance.stack import Stack

SHAPE = (24, 96, 96)


@pytest.fixture(scope="module")
def stacks():
    """Measurement, Richardson-Lucy result and truth of one phantom, in photons."""
    measured, truth, _ = planted.phantom(100, SHAPE, seed=2)
    restored = planted.richardson_lucy(measured, (30,))[30]
    return tuple(
        Stack.from_array(a, "ZYX", VOXEL_UM, name=n)
        for a, n in (
            (measured, "raw"),
            (restored, "restored <30>"),
            (truth.astype(np.float32), "truth"),
        )
    )


@pytest.fixture(scope="module")
def honest(stacks):
    raw, result, truth = stacks
    return assess(
        raw,
        result,
        psf=PSF,
        noise=Ideal(),
        truth=truth,
        labels=truth.with_data(np.ones(SHAPE, np.uint16)),
    )


def test_an_honest_result_is_green_with_every_figure(honest):
    assert honest.verdict == "green", honest.sentences
    assert honest.reblur.flagged_share < 1e-4
    assert (
        set(honest.truth)
        == set(honest.depth)
        == set(honest.decorrelation)
        == set(honest.structures)
        == {"measurement", "result"}
    )
    assert (
        honest.truth["result"].figures.psnr_fit_db > honest.truth["measurement"].figures.psnr_fit_db
    )
    assert honest.truth["result"].micro_ssim > honest.truth["measurement"].micro_ssim
    assert {"lateral", "axial"} == set(honest.correlation)
    assert honest.z_map.shape == SHAPE
    assert "(given)" in honest.noise


def test_a_planted_liar_is_red_and_the_sentence_says_so(stacks):
    raw, result, _ = stacks
    liar = result.with_data(
        planted.bead_adder(np.asarray(result.data), 100, np.random.default_rng(1))
    )
    found = assess(raw, liar, psf=PSF, noise=Ideal(), quick=True)
    assert found.verdict == "red"
    assert "structure that was not measured" in found.headline
    assert not found.depth


def test_the_record_survives_json_and_is_strict(honest):
    text = honest.to_json()
    json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    again = Assessment.from_json(text)
    assert again.reblur == honest.reblur
    assert again.truth == honest.truth
    assert again.to_json() == text
    with pytest.raises(ValueError, match="make it again with zenhance assess"):
        Assessment.from_json('{"verdict": "purple"}')


def test_the_record_is_frozen(honest):
    with pytest.raises(ValueError, match="frozen"):
        honest.verdict = "red"


def test_what_is_unknown_makes_it_amber(stacks):
    raw, result, _ = stacks
    blind = assess(raw, result, psf=None, noise=Ideal(), quick=True)
    assert blind.verdict == "amber"
    assert "point spread function is unknown" in blind.headline
    bare = assess(Stack.from_array(raw.data, "ZYX"), result, psf=PSF, noise=Ideal())
    assert "voxel size is unknown" in bare.headline
    assert bare.z_map is None


def test_the_noise_is_estimated_where_it_is_not_given(stacks):
    raw, result, _ = stacks
    found = assess(raw, result, psf=PSF, quick=True)
    assert "(estimated)" in found.noise
    assert found.verdict != "red"


def test_a_given_method_is_run_for_the_held_out_photons(stacks):
    raw, result, _ = stacks
    found = assess(
        raw,
        result,
        psf=PSF,
        noise=Ideal(),
        quick=True,
        method=lambda g: planted.richardson_lucy(g, (30,))[30],
    )
    assert found.held_out.grade == "pass"


def test_a_volume_of_many_is_judged_alone(stacks):
    raw, result, _ = stacks
    many = Stack.from_array(np.stack([np.zeros_like(raw.data), raw.data]), "CZYX", VOXEL_UM)
    found = assess(many, result, psf=PSF, noise=Ideal(), c=1, quick=True)
    assert found.verdict == "green"
    assert found.channel == 1


def test_a_plane_and_a_finer_result_are_assessed(stacks):
    raw, _, truth = stacks
    plane = assess(
        Stack.from_array(raw.data[12], "YX", (1.0, 1.0)),
        Stack.from_array(raw.data[12], "YX", (1.0, 1.0)),
        psf=PSF,
        noise=Ideal(),
    )
    assert plane.shape_px == (1, 96, 96)
    assert plane.z_map.axes == "YX"
    fine = Stack.from_array(
        np.repeat(np.repeat(truth.data, 2, 1), 2, 2), "ZYX", (1.0, 0.5, 0.5), name="fine"
    )
    found = assess(raw, fine, psf=PSF, noise=Ideal())
    assert found.reblur is not None
    assert not found.depth
    assert "<svg" in render_report(found, raw, fine)


@pytest.fixture(scope="module")
def report(honest, stacks):
    raw, result, truth = stacks
    record = Provenance(version="0", request={"note": "<script>alert(1)</script>"})
    return render_report(honest, raw, result, truth=truth, provenance=record)


def test_the_report_shows_how_often_words_of_a_dictionary_were_used(honest, stacks):
    raw, result, _ = stacks
    curves = {
        "codes used, level 1": [4.0, 0.0, 4.0, 8.0],
        "codes used, level 2": [0.0] * 4,
        "alpha": [1.0, 2.0],
    }
    shown = render_report(
        honest, raw, result, provenance=Provenance(version="0", request={}, curves=curves)
    )
    assert "Level 1: as if 2.8 of 4 words were used" in shown
    assert "Level 2" not in shown
    bars = [float(h) for h in re.findall(r'<rect [^>]*height="([\d.]+)" class="bar"/>', shown)]
    assert bars == sorted(bars, reverse=True)
    assert len(bars) == 4
    assert [round(b / bars[0], 2) for b in bars] == [1.0, 0.5, 0.5, 0.0]
    assert "Words of the dictionaries" not in render_report(
        honest, raw, result, provenance=Provenance(version="0", request={})
    )


def test_the_report_holds_verdict_pictures_and_curves(report, honest):
    assert honest.headline in report
    assert report.count("data:image/png;base64,") == 8
    assert report.count("<svg") == 3
    assert "Against the truth" in report
    assert "How the result was made" in report


def test_the_report_loads_nothing_and_runs_nothing(report):
    assert "<script" not in report
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,)", report)
    assert "url(" not in report
    assert "@import" not in report
    assert "http" not in report


def test_the_report_escapes_names_and_records(report):
    assert "restored &lt;30&gt;" in report
    assert "restored <30>" not in report
    assert "&lt;script&gt;alert(1)" in report


def test_the_report_is_well_formed(report):
    body = report.replace("<!DOCTYPE html>\n", "").replace('<meta charset="utf-8">', "")
    body = re.sub(r"(<img [^>]*)>", r"\1/>", body)
    ElementTree.fromstring(body)


def test_a_chart_leaves_gaps_where_there_is_no_number():
    chart = line_chart(
        "a & b",
        "x",
        "y",
        [Line("<one>", (0, 1, 2, 3, 4), (0.0, 1.0, float("nan"), 1.0, 2.0))],
        {"level": 1.0},
    )
    assert chart.count("<polyline") == 2
    assert "a &amp; b" in chart
    assert "&lt;one&gt;" in chart
    assert line_chart("empty", "x", "y", [Line("none", (), ())]) == ""


def test_a_default_psf_makes_it_amber(stacks):
    raw, result, _ = stacks
    assumed = gaussian(planted.SIGMA_PX, "default")
    found = assess(raw, result, psf=assumed, noise=Ideal(), quick=True)
    assert found.verdict == "amber"
    assert "default" in found.headline
