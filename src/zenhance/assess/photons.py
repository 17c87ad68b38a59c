"""Photons behind the grey values: counts, deviances, and residuals that are standard normal.

A camera gives ``y = gain · N + offset + read noise`` with N photons. This module works on ``(y -
offset) / gain``. The variance of the read noise is added to both counts and expectation, which
makes mean and variance those of a Poisson variable again (Snyder et al. 1995, JOSA A 12:272).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.physics.thinning import Camera
from zenhance.types import FloatArray

__all__ = [
    "Camera",
    "counter_uniform",
    "expected_deviance",
    "poisson_deviance",
    "quantile_residuals",
    "quantum_photons",
]

SCORE_LIMIT = 8.0
"""Limit of the residuals: float64 cannot resolve the normal distribution's tail beyond."""
EXACT_BELOW_PHOTONS = 12.0
"""Times the squared quantum: below, a count's position within its coarse step matters."""
SPIKE_READ_NOISE = 0.25
"""With less read noise (in photons) single photons are distinct in the grey values."""

Float64Array = npt.NDArray[np.float64]


def quantum_photons(camera: Camera, dtype: npt.DTypeLike) -> float:
    """Return the step between neighbouring values in photons, 0 where they are continuous.

    Whole grey values are ``1 / gain`` apart; photons are 1 apart as long as read noise does not
    smear them.
    """
    grey = 1.0 / camera.gain if np.dtype(dtype).kind in "bui" else 0.0
    photon = 1.0 if camera.read_noise / camera.gain < SPIKE_READ_NOISE else 0.0
    return max(grey, photon)


def counter_uniform(seed: int, start: int, count: int) -> FloatArray:
    """Return uniform numbers in (0, 1) for the voxels ``start ... start + count``.

    Notes
    -----
    Each depends on seed and index alone (SplitMix64; Steele, Lea & Flood, OOPSLA 2014): any part of
    a volume gets the numbers that the whole volume would have.
    """
    state = np.arange(start, start + count, dtype=np.uint64)
    state += np.uint64((seed * 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return ((state >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23)


def quantile_residuals(
    counts: npt.NDArray[Any], expected: npt.NDArray[Any], quantum: float, uniform: npt.NDArray[Any]
) -> FloatArray:
    """Return randomised quantile residuals: N(0, 1) for Poisson counts of that expectation.

    Parameters
    ----------
    counts, expected : array, any shape
        Photons measured and expected, both with the variance of the read noise added.
    quantum : float
        Distance of neighbouring counts: 1 for photons, more if a grey value is several photons, 0
        for continuous values.
    uniform : array
        In (0, 1), one a count: where in its step a count is taken to lie.

    Returns
    -------
    float32 array
        Between -8 and 8.

    Notes
    -----
    u is uniform between F(y - q/2) and F(y + q/2) and r = Φ⁻¹(u) (Dunn & Smyth 1996, J. Comput.
    Graph. Stat. 5:236), with F continued between whole counts by the incomplete gamma function.
    From 12 photons on, Φ⁻¹ F is the cube-root approximation of Wilson & Hilferty (1931, PNAS
    17:684), with an error below 0.01.
    """
    flat, mean = (
        np.ravel(counts).astype(np.float64),
        np.maximum(np.ravel(expected), 1e-6).astype(np.float64),
    )
    v = np.ravel(uniform).astype(np.float64)
    score = np.empty(flat.shape, np.float64)
    low = mean < EXACT_BELOW_PHOTONS * max(1.0, quantum) ** 2
    score[low] = _exact_score(flat[low], mean[low], quantum, v[low])
    high = ~low
    score[high] = _cube_root_score(flat[high] + 0.5 + (v[high] - 0.5) * quantum, mean[high])
    np.clip(score, -SCORE_LIMIT, SCORE_LIMIT, out=score)
    return score.astype(np.float32).reshape(np.shape(counts))


def _exact_score(
    counts: Float64Array, mean: Float64Array, quantum: float, v: Float64Array
) -> Float64Array:
    from scipy.special import gammaincc, ndtri

    below = gammaincc(np.maximum(counts + 0.5 - quantum / 2, 0.0), mean)
    if quantum > 0:
        below += v * (gammaincc(np.maximum(counts + 0.5 + quantum / 2, 0.0), mean) - below)
    return np.asarray(ndtri(np.clip(below, 1e-300, 1.0 - 1e-16)))


def _cube_root_score(shape: Float64Array, mean: Float64Array) -> Float64Array:
    a = np.maximum(shape, 0.05)
    return np.asarray(3.0 * np.sqrt(a) * (1.0 - 1.0 / (9.0 * a) - np.cbrt(mean / a)))


def poisson_deviance(counts: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Float64Array:
    """Return ``2 (n ln(n / λ) - n + λ)`` per voxel; about 1 on average if λ is right."""
    from scipy.special import xlogy

    n = np.maximum(counts, 0.0).astype(np.float64)
    mean = np.maximum(expected, 1e-6).astype(np.float64)
    return np.asarray(2.0 * (xlogy(n, n / mean) - n + mean))


def expected_deviance(expected: npt.NDArray[Any]) -> Float64Array:
    """Return the mean :func:`poisson_deviance` of Poisson counts (exact sum, tabulated)."""
    grid, values = _deviance_table()
    return np.asarray(np.interp(np.log(np.maximum(expected, 1e-6)), grid, values))


@lru_cache(maxsize=1)
def _deviance_table() -> tuple[Float64Array, Float64Array]:
    from scipy.stats import poisson

    means = np.geomspace(1e-6, 1e3, 241)
    values = []
    for mean in means:
        reach = int(np.ceil(mean + 12 * np.sqrt(mean) + 20))
        n = np.arange(reach)
        values.append(
            float((poisson.pmf(n, mean) * poisson_deviance(n, np.full(reach, mean))).sum())
        )
    return np.log(means), np.array(values)
