"""The figures of the experiment full_depth."""

import json
import math

import numpy as np
import pytest

from benchmarks.experiments.full_depth import (
    DEPTHS_UM,
    KINDS,
    REAL_PHOTONS,
    ROWS,
    FullDepth,
    Gain,
    compared,
    degraded,
    gain_db,
    summary,
    tables,
)
from zenhance.simulate.any_stack import HELD_BACK


def test_a_gain_forgives_an_offset_but_no_scale() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50_000).astype(np.float32)
    noise = rng.normal(size=truth.size).astype(np.float32)
    before, after = truth + noise, truth + 0.1 * noise + 5
    assert gain_db(after, before, truth) == pytest.approx(20.0, abs=0.01)
    assert gain_db(0.5 * truth, before, truth) == pytest.approx(20 * math.log10(2), abs=0.05)
    assert math.isnan(gain_db(after[:0], before[:0], truth[:0]))


def test_a_degraded_stack_has_the_photons_that_it_says() -> None:
    sharp = np.zeros((12, 32, 32), np.float32)
    sharp[:, 8:24, 8:24] = 200.0
    measured, blurred = degraded(sharp, 1)
    assert blurred.max() == pytest.approx(REAL_PHOTONS, rel=0.05)
    assert blurred.mean() == pytest.approx(REAL_PHOTONS / 4, rel=0.01)
    assert np.std(measured - blurred) == pytest.approx(
        math.sqrt(REAL_PHOTONS / 4 + 0.3**2), rel=0.05
    )
    assert np.array_equal(measured, degraded(sharp, 1)[0])


def test_what_was_held_back_from_training_is_tested_and_old_and_new_weights_compared() -> None:
    asked = [kind.get(key) for kind in KINDS.values() for key in ("grammar", "family")]
    assert set(HELD_BACK) <= set(asked)
    assert {request.get("weights") for request, _ in ROWS.values()} >= {"dqlr_stack", "dqlr_any"}


def test_the_table_gives_means_and_the_spread() -> None:
    layers = (1.0,) * (len(DEPTHS_UM) - 1)
    gains = (
        Gain("foam", "a", 0, (1.0, *layers, math.nan), 4.0, 0.5, 120.0),
        Gain("foam", "a", 1, (3.0, *layers, math.nan), 6.0, math.nan),
    )
    cells = summary(gains, "foam", "a")
    assert cells[0] == "2.0 ± 1.4"
    assert cells[-4:] == ("-", "5.0", "0.50", "120")
    assert json.loads(json.dumps({**FullDepth(gains).record()}))["gains"][1]["again"] == 6.0
    (table,) = tables(FullDepth(gains)).values()
    assert len(table.rows) == 1
    assert len(table.rows[0]) == len(table.header)


def test_rows_are_compared_stack_by_stack() -> None:
    layers = (math.nan,) * len(DEPTHS_UM)
    mine = [Gain("foam", "a", n, (lit, *layers), 1.0) for n, lit in enumerate((3.0, 5.0))]
    theirs = [Gain("foam", "b", n, (2.0, *layers), 2.0) for n in range(2)]
    assert compared([*mine, *theirs], "a", "b") == (
        "a, against b: as lit +2.00 dB (better on 2 of 2 stacks), "
        "blurred again -1.00 dB (better on 0 of 2 stacks)."
    )
    assert compared(mine, "a", "c") == ""
