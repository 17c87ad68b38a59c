"""Probes through the main path: Python, command line, refusals, cancelling."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import zenhance
from benchmarks.judge_scenes import VOXEL_UM, make_scene
from zenhance.cli.app import app
from zenhance.errors import MethodError, RunCancelled, StackError
from zenhance.io import write_stack
from zenhance.pipeline import EnhanceRequest
from zenhance.pipeline.probing import probe_steps
from zenhance.stack import Stack

PSF = "sigma_um=0.75,0.26,0.26"


@pytest.fixture(scope="module")
def walls():
    return Stack.from_array(make_scene("walls", 60.0, 3, gain=2.0).measured, "ZYX", VOXEL_UM)


@pytest.fixture(scope="module")
def report(walls):
    return zenhance.probe(walls, method="identity", psf=PSF, seed=1)


def test_a_method_that_changes_nothing_draws_nothing_and_shows_what_is_measured(report):
    assert report.false_in_noise == report.false_in_clouds == 0.0
    assert abs(report.continuity) < 0.05
    assert {f.kind for f in report.findings} == {"spot", "wall piece", "gap in a wall"}
    assert all(f.shown == pytest.approx(1.0) for f in report.findings)
    strong = [f for f in report.findings if f.kind == "spot" and f.strength == 0.4]
    assert all(f.found == f.planted for f in strong)
    assert all(f.low < f.share < f.high or f.share in (0.0, 1.0) for f in report.findings)


def test_the_answer_is_a_sentence_a_table_a_picture_and_json(report):
    sensitivity, false, order = report.sentences
    assert " in a wall is found " in sensitivity
    assert false == "False structure: none in noise without specimen, none in tissue without walls."
    assert order.startswith("Planes in random order stay unlike each other")
    head, rows = report.table()
    assert len(rows) == 9
    assert all(len(row) == len(head) for row in rows)
    assert report.picture().size[0] > 400
    page = report.page()
    assert sensitivity in page
    assert "<script" not in page
    assert json.loads(json.dumps(report.record()))["findings"][0]["kind"] == "spot"


def test_the_command_prints_it_and_writes_figures_and_picture(walls, tmp_path):
    path, out = tmp_path / "walls.ome.tif", tmp_path / "probes"
    write_stack(path, walls)
    words = ["probe", str(path), "--method", "identity", "--psf", PSF, "--out", str(out)]
    done = CliRunner().invoke(app, [*words, "--crop", "0:32,8:56,8:56", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["region_px"] == [[0, 32], [0, 48], [0, 48]]
    assert json.loads((out / "probe.json").read_text())["sentences"] == told["sentences"]
    with Image.open(out / "probe.png") as picture:
        assert picture.size[0] > 400
    again = CliRunner().invoke(app, words)
    assert again.exit_code != 0


def test_what_cannot_be_probed_is_refused_in_words(walls):
    with pytest.raises(StackError, match="at least 8 planes"):
        zenhance.probe(walls.crop({"Z": slice(0, 4)}), psf=PSF)
    with pytest.raises(MethodError, match="learn first, save the model"):
        zenhance.probe(walls, method="dqlr", learn_minutes=1.0)
    with pytest.raises(StackError, match="voxel size"):
        zenhance.probe(Stack.from_array(np.ones((9, 20, 20), np.uint16), "ZYX"))


def test_it_stops_between_two_steps(walls):
    stop = threading.Event()
    steps = probe_steps(walls, EnhanceRequest(method="identity", psf=PSF), stop)
    next(steps)
    stop.set()
    with pytest.raises(RunCancelled):
        list(steps)
