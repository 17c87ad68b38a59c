"""Learning from one stack alone, measured.

The rows, the user's own models left alone, and real learning within its time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.experiments import alone
from benchmarks.experiments.alone import alone_contenders, alone_plans, measure_alone
from benchmarks.scenes import Plan, held_out_seeds


def test_rows_are_references_deconvolution_what_ships_and_what_learns_here() -> None:
    names = [c.name for c in alone_contenders(10)]
    assert {
        "truth",
        "ideal_denoiser",
        "identity",
        "gaussian_smoothing",
        "dqlr_any",
        "dqlr_alone",
        "dqlr_adapted",
    } <= set(names)
    assert len(set(names)) == len(names)
    learning = {c.name: c for c in alone_contenders(3)}
    assert learning["dqlr_alone"].weights == "none"
    assert learning["dqlr_adapted"].weights is None
    assert learning["dqlr_alone"].learn_minutes == learning["dqlr_adapted"].learn_minutes == 3
    assert learning["dqlr_any"].learn_minutes is None


def test_the_stack_is_one_that_no_training_has_seen() -> None:
    for plan in alone_plans():
        assert (plan.specimen, plan.seed) in held_out_seeds()


@pytest.mark.slow
def test_learning_here_really_learns_and_leaves_the_users_models_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path / "mine"))
    plan = Plan("tiny", "meristem", 77, (8, 48, 48), (0.5, 0.22, 0.22))
    monkeypatch.setattr(alone, "alone_plans", lambda *, quick: (plan,))
    wanted = ("identity", "dqlr_alone")
    every = alone_contenders(0.15)
    monkeypatch.setattr(
        alone, "alone_contenders", lambda _minutes: tuple(c for c in every if c.name in wanted)
    )
    report = measure_alone(0.15)
    learnt = report.outcomes["dqlr_alone"][0]
    assert learnt.failure == ""
    assert learnt.figures is not None
    assert learnt.figures.seconds >= 0.1 * 60
    assert os.environ["ZENHANCE_WEIGHTS"] == str(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
