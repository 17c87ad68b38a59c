"""Calibration of drawn samples against a known truth: spread against error, coverage, ranks.

For K draws with mean m and standard deviation s, and the truth x at each voxel::

    spread-skill   sqrt((K+1)/K <s^2>) / sqrt(<(m - x)^2>)    1 is right, below 1 overconfident
    coverage       share of voxels with |m - x| < t s sqrt(1 + 1/K); t of Student, K - 1 degrees
    usefulness     rank correlation of s with |m - x|          0 for a uniform spread
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr, t

from zenhance.errors import StackError

__all__ = ["LEVELS", "Calibration", "calibration", "calibration_error", "rank_reliability"]

LEVELS = (0.5, 0.68, 0.9, 0.95)
"""Central intervals whose coverage is reported."""
BINS = 12
# Rank correlations are taken on at most so many voxels, evenly spaced.
RANKED_VOXELS = 200_000


@dataclass(frozen=True, slots=True)
class Calibration:
    """What draws are worth as a statement of doubt.

    Parameters
    ----------
    draws : int
        K.
    spread_skill : float
        Mean spread over mean error; within 0.9 ... 1.1 is right.
    coverage : mapping of float to float
        Nominal share of a central interval → share of voxels whose truth is inside.
    spearman : float
        Rank correlation of spread with absolute error; 0.2 or more is useful.
    error : float
        Expected normalised calibration error over bins of equal numbers of voxels by spread (Levi
        et al., Sensors 22:5540, 2022).
    ranks : float
        Reliability index of the rank histogram, 0 for a flat one.
    """

    draws: int
    spread_skill: float
    coverage: Mapping[float, float]
    spearman: float
    error: float
    ranks: float


def calibration(
    samples: npt.NDArray[np.floating],
    truth: npt.NDArray[np.floating],
    mask: npt.NDArray[np.bool_] | None = None,
) -> Calibration:
    """Compare draws with the truth.

    Parameters
    ----------
    samples : float array (K, ...)
        Draws, in the truth's units; at least 3.
    truth : float array (...)
        The specimen.
    mask : bool array (...), optional
        Which voxels count; left out, all.

    Raises
    ------
    StackError
        There are fewer than three draws, or shapes differ.
    """
    if len(samples) < 3 or samples.shape[1:] != truth.shape:
        raise StackError(
            f"draws {samples.shape} cannot be compared with a truth {truth.shape}; "
            "give (K, ...) with K at least 3"
        )
    chosen = np.ones(truth.shape, bool) if mask is None else mask
    drawn, true = samples[:, chosen].astype(np.float64), truth[chosen].astype(np.float64)
    count = len(drawn)
    mean, spread = drawn.mean(0), drawn.std(0, ddof=1)
    off = np.abs(mean - true)
    widened = np.sqrt(1 + 1 / count)
    covered = {
        level: float(np.mean(off <= t.ppf(0.5 + level / 2, count - 1) * spread * widened))
        for level in LEVELS
    }
    every = max(1, true.size // RANKED_VOXELS)
    return Calibration(
        count,
        float(np.sqrt(np.mean(spread**2)) * widened / max(float(np.sqrt(np.mean(off**2))), 1e-30)),
        covered,
        float(spearmanr(spread[::every], off[::every]).statistic),
        calibration_error(spread * widened, off),
        rank_reliability(drawn[:, ::every], true[::every]),
    )


def calibration_error(
    spread: npt.NDArray[np.float64], off: npt.NDArray[np.float64], bins: int = BINS
) -> float:
    """Return the mean over spread bins of |sqrt(mean variance) - RMSE| / sqrt(mean variance)."""
    order = np.argsort(spread, kind="stable")
    found = []
    for part in np.array_split(order, bins):
        variance = np.sqrt(np.mean(spread[part] ** 2))
        if variance > 0:
            found.append(abs(variance - np.sqrt(np.mean(off[part] ** 2))) / variance)
    return float(np.mean(found)) if found else float("nan")


def rank_reliability(samples: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> float:
    """Return how uneven the truth's ranks among the draws are: sum of |share - 1 / (K + 1)|.

    Parameters
    ----------
    samples : float array (K, N)
        Draws.
    truth : float array (N,)
        The specimen at the same voxels.
    """
    count = len(samples)
    ranks = rankdata(np.concatenate([truth[None], samples]), axis=0, method="average")[0] - 1
    low, high = np.floor(ranks).astype(int), np.ceil(ranks).astype(int)
    histogram = (
        0.5
        * (np.bincount(low, minlength=count + 1) + np.bincount(high, minlength=count + 1))
        / truth.size
    )
    return float(np.abs(histogram - 1 / (count + 1)).sum())
