"""Residuals of a measurement against its model, plane by plane to save memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.forward import AffineFit, sparse_plane
from zenhance.assess.photons import (
    Camera,
    counter_uniform,
    expected_deviance,
    poisson_deviance,
    quantile_residuals,
    quantum_photons,
)
from zenhance.types import FloatArray

__all__ = ["ResidualSums", "measure_residuals"]

PSF_ERROR = 0.05
PSF_ERROR_FROM_PHOTONS = 100.0


@dataclass(frozen=True, slots=True)
class ResidualSums:
    """What is gathered plane by plane.

    Parameters
    ----------
    deviance, expected : float
        Sum of the Poisson deviance, and its expectation if the model is right.
    chi2 : list of float
        Mean squared residual of each plane; NaN where no voxel counts.
    correlation, expected_correlation : float
        Pearson's r of measurement and model, and of Poisson counts of that model with it.
    typical_photons, bright_photons, peak_photons : float
        Expected photons: median, 99 % quantile, and the 99.9 % quantile above the darkest percent.
    """

    deviance: float
    expected: float
    chi2: list[float]
    correlation: float
    expected_correlation: float
    typical_photons: float
    bright_photons: float
    peak_photons: float


def measure_residuals(
    raw: npt.NDArray[Any],
    blurred: FloatArray,
    affine: AffineFit,
    camera: Camera,
    valid: npt.NDArray[np.bool_],
    seed: int,
) -> tuple[FloatArray, ResidualSums]:
    """Compare a measurement with its model, voxel by voxel.

    Parameters
    ----------
    raw : array (Z, Y, X)
        Grey values as measured.
    blurred : float32 array (Z, Y, X)
        The re-blurred result, before its affine fit.
    affine : AffineFit
        Brings it to grey values.
    camera : Camera
        Gain, offset and read noise in grey values.
    valid : bool array (Z, Y, X)
        Voxels that count; the others get the residual 0.
    seed : int
        Of the residuals' random part.

    Returns
    -------
    residuals : float32 array (Z, Y, X)
        Standard normal if the model is right; above 100 photons divided by what a PSF error of 5 %
        adds.
    sums : ResidualSums
        Figures of the whole volume.
    """
    quantum, extra = quantum_photons(camera, raw.dtype), (camera.read_noise / camera.gain) ** 2
    residuals = np.zeros(raw.shape, np.float32)
    deviance, expected, chi2 = 0.0, 0.0, []
    moments = np.zeros(7)
    sparse = sparse_plane(raw.shape)
    for z in range(raw.shape[0]):
        keep = valid[z]
        if not keep.any():
            chi2.append(math.nan)
            continue
        model = affine.slope * blurred[z].astype(np.float64) + affine.offset
        mean = np.maximum((model - camera.offset) / camera.gain, 1e-3) + extra
        counts = np.where(
            keep, (raw[z].astype(np.float64) - camera.offset) / camera.gain + extra, mean
        )
        uniform = counter_uniform(seed, z * mean.size, mean.size).reshape(mean.shape)
        score = quantile_residuals(counts, mean, quantum, uniform)
        chi2.append(float(np.mean(score[keep] ** 2)))
        psf_term = np.where(mean > PSF_ERROR_FROM_PHOTONS, PSF_ERROR**2 * mean, 0.0)
        residuals[z] = np.where(keep, score / np.sqrt(1.0 + psf_term), 0.0)
        n, m = counts[sparse][keep[sparse]], mean[sparse][keep[sparse]]
        deviance += float(poisson_deviance(n, m).sum())
        expected += float(expected_deviance(m).sum())
        moments += (n.size, n.sum(), m.sum(), n @ n, m @ m, n @ m, m.sum())
    some = blurred[valid]
    photons = (
        affine.slope * some[:: max(1, some.size // 500_000)] + affine.offset - camera.offset
    ) / camera.gain
    low, typical, bright, high = (float(v) for v in np.percentile(photons, [1.0, 50.0, 99.0, 99.9]))
    levels = (max(typical, 0.0) + extra, max(bright, 0.0) + extra, high - low)
    sums = ResidualSums(deviance, expected, chi2, *_correlations(moments), *levels)
    return residuals, sums


def _correlations(moments: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Pearson's r of counts and model, and of Poisson counts of that model with it."""
    size, n, m, nn, mm, nm, noise = moments
    var_n, var_m, cov = (
        nn / size - (n / size) ** 2,
        mm / size - (m / size) ** 2,
        nm / size - n * m / size**2,
    )
    real = cov / math.sqrt(var_n * var_m) if var_n > 0 and var_m > 0 else 0.0
    return float(real), math.sqrt(var_m / (var_m + noise / size)) if var_m > 0 else 0.0
