"""Residuals and deviance of few photons with read noise, without approximation at low counts.

A voxel's photons are ``c = (y - offset) / gain = N + read noise``, N of expectation λ and the read
noise of standard deviation σ photons. Their distribution is that of N smeared by a Gaussian::

    P(c <= e) = Σ_k Poisson(k; λ) Φ((e - k) / σ)

A shifted Poisson variable of equal mean and variance is a poor stand-in below a photon: it is
skewed where read noise is symmetric. From about a dozen photons on, a scaled Poisson variable of
equal mean, variance and third moment takes its place.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammainc, gammaincc, gammaln, ndtr, ndtri, xlogy

from zenhance.types import FloatArray

__all__ = ["SPIKE_READ_NOISE", "expected_deviance", "poisson_deviance", "quantile_residuals"]

SCORE_LIMIT = 8.0
"""Limit of the residuals: float64 cannot resolve the normal distribution's tail beyond."""
EXACT_BELOW_PHOTONS = 12.0
"""Below, the distribution is summed over photon numbers."""
COARSE = 2.0
"""So is one with read noise whose standard deviation is less than this many steps; without read
noise the sum costs next to nothing, and is used for finer steps."""
REACH_SIGMA = 6.0
"""Read noise beyond so many standard deviations is left out of the sum."""
SPIKE_READ_NOISE = 0.12
"""With less read noise (in photons) single photons are distinct: a count is the nearest one."""
MAX_QUANTUM = 20.0
"""Photons; with coarser steps the sum is not used."""
MIN_PHOTONS = 1e-6

Float64Array = npt.NDArray[np.float64]


def quantile_residuals(
    counts: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    quantum: float,
    uniform: npt.NDArray[Any],
    read_noise: float = 0.0,
) -> FloatArray:
    """Return randomised quantile residuals: N(0, 1) for photons of that expectation.

    Parameters
    ----------
    counts, expected : array, any shape
        Photons measured (read noise makes them fractional or negative) and expected.
    quantum : float
        Distance of neighbouring counts: 1 for photons, more if a grey value is several photons, 0
        for continuous values.
    uniform : array
        In (0, 1), one a count: where in its step a count is taken to lie.
    read_noise : float
        Standard deviation in photons.

    Returns
    -------
    float32 array
        Between -8 and 8.

    Notes
    -----
    u is uniform between F(c - q/2) and F(c + q/2) and r = Φ⁻¹(u) (Dunn & Smyth 1996, J. Comput.
    Graph. Stat. 5:236); each half of the distribution is taken from its own tail. From 12 photons
    on, Φ⁻¹ F is the cube-root approximation of Wilson & Hilferty (1931, PNAS 17:684), with an error
    below 0.01.
    """
    c = np.ravel(counts).astype(np.float64)
    mean = np.maximum(np.ravel(expected), MIN_PHOTONS).astype(np.float64)
    v = np.ravel(uniform).astype(np.float64)
    score = np.empty(c.shape, np.float64)
    if read_noise < SPIKE_READ_NOISE and quantum >= 1.0:
        read_noise, c = 0.0, np.maximum(c, 0.0)
    coarse = COARSE if read_noise > 0.0 else EXACT_BELOW_PHOTONS**0.5
    low = mean + read_noise**2 < max(EXACT_BELOW_PHOTONS, (coarse * min(quantum, MAX_QUANTUM)) ** 2)
    score[low] = _exact_scores(c[low], mean[low], quantum, v[low], read_noise)
    high = ~low
    score[high] = _cube_root_scores(c[high] + (v[high] - 0.5) * quantum, mean[high], read_noise)
    np.clip(score, -SCORE_LIMIT, SCORE_LIMIT, out=score)
    return score.astype(np.float32).reshape(np.shape(counts))


def _exact_scores(
    c: Float64Array, mean: Float64Array, quantum: float, v: Float64Array, sigma: float
) -> Float64Array:
    below, above = _tails(c - quantum / 2, mean, sigma)
    if quantum > 0:
        second_below, second_above = _tails(c + quantum / 2, mean, sigma)
        below += v * (second_below - below)
        above += v * (second_above - above)
    lower = below < above
    tail = np.clip(np.where(lower, below, above), 1e-300, 0.5)
    return np.asarray(np.where(lower, 1.0, -1.0) * ndtri(tail))


def _tails(
    edge: Float64Array, mean: Float64Array, sigma: float
) -> tuple[Float64Array, Float64Array]:
    """Return the probabilities at or below an edge, and above it."""
    first = np.maximum(np.floor(edge - REACH_SIGMA * sigma) + 1.0, 0.0)
    if sigma <= 0.0:
        return _fewer(first, mean), _at_least(first, mean)
    terms = int(np.ceil(2.0 * REACH_SIGMA * sigma)) + 1
    below, above = _fewer(first, mean), _at_least(first + terms, mean)
    weight = np.exp(xlogy(first, mean) - mean - gammaln(first + 1.0))
    for j in range(terms):
        k = first + j
        inside = ndtr((edge - k) / sigma)
        below += weight * inside
        above += weight * ndtr((k - edge) / sigma)
        weight = weight * mean / (k + 1.0)
    return below, above


def _fewer(k: Float64Array, mean: Float64Array) -> Float64Array:
    return np.asarray(np.where(k > 0, gammaincc(np.maximum(k, 1.0), mean), 0.0))


def _at_least(k: Float64Array, mean: Float64Array) -> Float64Array:
    return np.asarray(np.where(k > 0, gammainc(np.maximum(k, 1.0), mean), 1.0))


def _cube_root_scores(edge: Float64Array, mean: Float64Array, sigma: float) -> Float64Array:
    # step · Poisson(scaled) + constant has the mean, variance and third moment of c.
    variance = mean + sigma**2
    step = mean / variance
    scaled = variance / step**2
    shape = np.maximum(scaled + (edge - mean) / step + 0.5, 0.05)
    return np.asarray(3.0 * np.sqrt(shape) * (1.0 - 1.0 / (9.0 * shape) - np.cbrt(scaled / shape)))


def poisson_deviance(
    counts: npt.NDArray[Any], expected: npt.NDArray[Any], read_noise: float = 0.0
) -> Float64Array:
    """Return ``2 (n ln(n / m) - n + m)`` per voxel; about 1 on average if the expectation is right.

    The variance of the read noise (standard deviation in photons) is added to both: n = c + σ²,
    m = λ + σ² (Snyder et al. 1995, JOSA A 12:272).
    """
    extra = read_noise**2
    n = np.maximum(np.asarray(counts, np.float64) + extra, 0.0)
    mean = np.maximum(np.asarray(expected, np.float64) + extra, MIN_PHOTONS)
    return np.asarray(2.0 * (xlogy(n, n / mean) - n + mean))


def expected_deviance(
    expected: npt.NDArray[Any], read_noise: float = 0.0, quantum: float = 0.0
) -> Float64Array:
    """Return the mean :func:`poisson_deviance` of photons with read noise (exact sum, tabulated).

    Parameters
    ----------
    expected : array, any shape
        Photons.
    read_noise : float
        Standard deviation in photons.
    quantum : float
        Distance of neighbouring counts; 0 for continuous values.
    """
    grid, values = _deviance_table(round(read_noise, 4), round(quantum, 4))
    photons = np.maximum(np.asarray(expected, np.float64), MIN_PHOTONS)
    return np.asarray(np.interp(np.log(photons), grid, values))


@lru_cache(maxsize=8)
def _deviance_table(sigma: float, quantum: float) -> tuple[Float64Array, Float64Array]:
    means = np.geomspace(MIN_PHOTONS, 1e3, 181)
    values = []
    for mean in means:
        spread = 12.0 * np.sqrt(mean) + 20.0
        k = np.arange(max(0, int(mean - spread)), int(np.ceil(mean + spread)))
        chance = np.exp(xlogy(k, mean) - mean - gammaln(k + 1.0))
        seen, weights = _readings(k, sigma, quantum)
        each = poisson_deviance(seen, np.full((1, 1), mean), sigma)
        values.append(float(chance @ (each * weights).sum(axis=1)))
    return np.log(means), np.array(values)


def _readings(
    k: npt.NDArray[np.int64], sigma: float, quantum: float
) -> tuple[Float64Array, Float64Array]:
    """Return what k photons may be read as, and the probabilities (k, readings)."""
    if quantum > sigma:
        reach = int(np.ceil(REACH_SIGMA * sigma / quantum)) + 1
        seen = (np.rint(k / quantum)[:, None] + np.arange(-reach, reach + 1)) * quantum
        edges = np.concatenate([seen - quantum / 2, seen[:, -1:] + quantum / 2], axis=1)
        below = ndtr((edges - k[:, None]) / max(sigma, 1e-9))
        return np.asarray(seen, np.float64), np.diff(below, axis=1)
    # Evenly spaced: the deviance has a kink where no photons are left.
    steps = np.linspace(-5.0, 5.0, 201)
    weights = np.exp(-(steps**2) / 2.0)
    smear = steps * np.sqrt(sigma**2 + quantum**2 / 12.0)
    spread = np.broadcast_to(weights / weights.sum(), (k.size, steps.size))
    return np.asarray(k[:, None] + smear, np.float64), np.asarray(spread, np.float64)
