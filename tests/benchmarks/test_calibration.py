"""Calibration of drawn specimens: exact draws pass; biased, useless or unsure ones do not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration import calibration
from zenhance.errors import StackError

COUNT, VOXELS = 20, 60_000


def world(spread: float = 1.0, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Draws and truths from one normal distribution a voxel, of very different widths.

    The widths of the draws are multiplied by ``spread``.
    """
    rng = np.random.default_rng(0)
    centre, width = rng.normal(size=VOXELS), np.exp(rng.normal(0, 0.7, VOXELS))
    truth = centre + width * rng.normal(size=VOXELS)
    return centre + width * (bias + spread * rng.normal(size=(COUNT, VOXELS))), truth


def test_exact_draws_are_calibrated() -> None:
    found = calibration(*world())
    assert found.spread_skill == pytest.approx(1, abs=0.03)
    for level, share in found.coverage.items():
        assert share == pytest.approx(level, abs=0.015)
    assert found.ranks < 0.05
    assert found.error < 0.1
    assert found.spearman > 0.3


@pytest.mark.parametrize(("spread", "side"), [(0.7, -1), (1.4, 1)])
def test_draws_too_sure_or_too_unsure_are_found_out(spread: float, side: int) -> None:
    found = calibration(*world(spread))
    assert side * (found.spread_skill - 1) > 0.2
    assert side * (found.coverage[0.9] - 0.9) > 0.03
    assert found.ranks > 0.1


def test_bias_spoils_ranks_and_coverage() -> None:
    found = calibration(*world(bias=0.8))
    assert found.ranks > 0.2
    assert found.coverage[0.9] < 0.87


def test_the_same_spread_everywhere_is_useless() -> None:
    rng = np.random.default_rng(1)
    _, truth = world()
    samples = rng.normal(0, truth.std(), size=(COUNT, VOXELS))
    found = calibration(samples, truth)
    assert found.spread_skill == pytest.approx(1, abs=0.05)
    assert abs(found.spearman) < 0.05


def test_only_masked_voxels_count() -> None:
    samples, truth = world()
    mask = np.arange(VOXELS) % 2 == 0
    spoilt = np.where(mask, truth, 1e6)
    assert calibration(samples, spoilt, mask) == calibration(samples[:, mask], truth[mask])


def test_what_cannot_be_compared_is_refused() -> None:
    samples, truth = world()
    with pytest.raises(StackError, match="K at least 3"):
        calibration(samples[:2], truth)
    with pytest.raises(StackError, match="cannot be compared"):
        calibration(samples, truth[1:])
