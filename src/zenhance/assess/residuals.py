"""Residuals of a measurement against its model, plane by plane to save memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from zenhance.assess.forward import sparse_plane
from zenhance.assess.photons import Readout, counter_uniform
from zenhance.assess.small_counts import expected_deviance, poisson_deviance, quantile_residuals
from zenhance.types import FloatArray

__all__ = ["ResidualSums", "measure_residuals"]


MIN_LIGHT = 0.02
"""Photons; darker voxels do not count for the deviance."""


@dataclass(frozen=True, slots=True)
class ResidualSums:
    """What is gathered plane by plane.

    Parameters
    ----------
    deviance, expected : float
        Sum of the Poisson deviance, and its expectation if the model is right.
    error : float
        Standard error of their ratio.
    chi2 : list of float
        Mean squared residual of each plane; NaN where no voxel counts.
    correlation, expected_correlation : float
        Pearson's r of measurement and model, and of a measurement of that model with it.
    typical_photons, bright_photons, peak_photons : float
        Expected photons: median, 99 % quantile, and the 99.9 % quantile above the darkest percent.
    """

    deviance: float
    expected: float
    error: float
    chi2: list[float]
    correlation: float
    expected_correlation: float
    typical_photons: float
    bright_photons: float
    peak_photons: float


def measure_residuals(
    raw: npt.NDArray[Any],
    expected: FloatArray,
    readout: Readout,
    valid: npt.NDArray[np.bool_],
    seed: int,
) -> tuple[FloatArray, ResidualSums]:
    """Compare a measurement with its model, voxel by voxel.

    Parameters
    ----------
    raw : array (Z, Y, X)
        Grey values as measured.
    expected : float32 array (Z, Y, X)
        Expected grey values.
    readout : Readout
        Of the camera.
    valid : bool array (Z, Y, X)
        Voxels that count; the others get a random residual, so that all are standard normal.
    seed : int
        Of the residuals' random part.

    Returns
    -------
    residuals : float32 array (Z, Y, X)
        Standard normal if the model is right.
    sums : ResidualSums
        Figures of the whole volume.
    """
    quantum, sigma = readout.quantum, readout.read_noise
    residuals = np.zeros(raw.shape, np.float32)
    deviance, expectation, variance, chi2 = 0.0, 0.0, 0.0, []
    moments = np.zeros(7)
    sparse = sparse_plane(raw.shape)
    for z in range(raw.shape[0]):
        keep = valid[z]
        uniform = counter_uniform(seed, z * keep.size, keep.size).reshape(keep.shape)
        if not keep.any():
            chi2.append(math.nan)
            residuals[z] = ndtri(uniform)
            continue
        mean = readout.expected(expected[z])
        counts = np.where(keep, readout.photons(np.where(keep, raw[z], 0)), mean)
        score = quantile_residuals(counts, mean, quantum, uniform, sigma)
        chi2.append(float(np.mean(score[keep] ** 2)))
        residuals[z] = np.where(keep, score, ndtri(uniform))
        n, m = counts[sparse][keep[sparse]], mean[sparse][keep[sparse]]
        # Where next to no light is expected, an error of a thousandth of a photon would decide.
        lit = m + sigma**2 > MIN_LIGHT
        each = poisson_deviance(n[lit], m[lit], sigma)
        mean_each = expected_deviance(m[lit], sigma, quantum)
        deviance += float(each.sum())
        expectation += float(mean_each.sum())
        variance += float(np.square(each - mean_each).sum())
        noise = m.sum() + sigma**2 * m.size
        moments += (n.size, n.sum(), m.sum(), n @ n, m @ m, n @ m, noise)
    some = expected[valid]
    photons = (some[:: max(1, some.size // 500_000)] - readout.offset) / readout.gain
    low, typical, bright, high = (float(v) for v in np.percentile(photons, [1.0, 50.0, 99.0, 99.9]))
    levels = (max(typical, 0.0) + sigma**2, max(bright, 0.0) + sigma**2, high - low)
    error = math.sqrt(variance) / expectation if expectation > 0 else math.inf
    sums = ResidualSums(deviance, expectation, error, chi2, *_correlations(moments), *levels)
    return residuals, sums


def _correlations(moments: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Pearson's r of counts and model, and of counts of that model with it."""
    size, n, m, nn, mm, nm, noise = moments
    var_n, var_m, cov = (
        nn / size - (n / size) ** 2,
        mm / size - (m / size) ** 2,
        nm / size - n * m / size**2,
    )
    real = cov / math.sqrt(var_n * var_m) if var_n > 0 and var_m > 0 else 0.0
    return float(real), math.sqrt(var_m / (var_m + noise / size)) if var_m > 0 else 0.0
