"""The re-blur check: does the result, blurred again, explain what was measured?

What the microscope saw is the specimen blurred, with photon noise. A result that is true, once blurred, differs from the measurement
by noise and nothing else; where a structure was added, removed or moved, the difference is as large and as round as a point spread
function::

    result ──blur──► a · + b ──► expected photons ─┐
                                                   ├─► residuals, N(0, 1) if true ──matched filter──► z-map ──► share flagged
    measurement ──────────────► counted photons ───┘

z > 0: light was measured that the result does not explain (something is missing); z < 0: the result has structure that was not measured.
What lies below the detection limit, or is invisible to the microscope altogether, no such check can see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zenhance.assess.forward import AffineFit, WidthFit, block_factors, blur_result, fit_affine, fit_width
from zenhance.assess.photons import Camera, counter_uniform, expected_deviance, poisson_deviance, quantile_residuals, quantum_photons
from zenhance.assess.smoothness import MatchedFilter, peak_threshold
from zenhance.errors import StackError
from zenhance.physics.psf_base import Psf
from zenhance.stack import FloatArray

__all__ = ["DETECTION_LIMIT", "Grade", "ReblurReport", "detection_limit", "reblur_check", "width_range_of"]

Grade = Literal["pass", "warn", "fail"]

WARN_SHARE = 1e-4
FAIL_SHARE = 1e-3
DISCREPANCY_PASS = (0.95, 1.05)
STATED_PSF_RANGE = (0.85, 1.15)
DEFAULT_PSF_RANGE = (0.7, 1.3)
PSF_ERROR = 0.05
PSF_ERROR_FROM_PHOTONS = 100.0
DETECTION_LIMIT = ((5.0, 0.4), (10.0, 0.4), (20.0, 0.2), (50.0, 0.05), (200.0, 0.05))
"""(photons at the peak, smallest false bead found in 19 of 20 cases as a share of the peak); simulated, PSF known."""


@dataclass(frozen=True, slots=True)
class ReblurReport:
    """What the re-blur check found.

    Parameters
    ----------
    grade : {'pass', 'warn', 'fail'}
        By the flagged share: up to 0.01 %, up to 0.1 %, above.
    flagged_share : float
        Voxels beyond the threshold, as a share of those judged.
    missing_share, added_share : float
        Its parts: z above (light that the result does not explain) and below (structure that was not measured).
    threshold_z : float
        Pure noise reaches it in one of 100 volumes.
    highest_z, lowest_z : float
        Extremes of the z-map.
    spread_z : float
        Robust standard deviation of the z-map; far from 1, gain or offset are wrong or the noise is not white.
    judged_voxels : int
        Away from the border, finite, not saturated.
    width : float
        Factor on the PSF's width that was fitted; 1 where none was.
    width_at_bound : bool
        The fit would have gone beyond its range.
    slope, offset : float
        ``ŷ = slope · H x̂ + offset``.
    discrepancy : float
        Deviance over its expectation; 1 for a faithful result, below 0.9 noise was kept, above 1.05 it does not fit.
    discrepancy_grade : {'pass', 'warn', 'fail'}
        'warn' below 0.95, 'fail' above 1.05 or below 0.9.
    chi2_per_slice : tuple of float
        Mean squared residual of each plane.
    correlation, expected_correlation : float
        Pearson's r between measurement and re-blurred result (RSP of Culley et al. 2018), and what photon noise alone would leave of it.
    peak_photons : float
        99.9 % quantile of the expected photons above the darkest percent.
    smallest_visible : float
        Detection limit: smallest false spot that would have been found, as a share of the peak; infinity below 5 photons.
    """

    grade: Grade
    flagged_share: float
    missing_share: float
    added_share: float
    threshold_z: float
    highest_z: float
    lowest_z: float
    spread_z: float
    judged_voxels: int
    width: float
    width_at_bound: bool
    slope: float
    offset: float
    discrepancy: float
    discrepancy_grade: Grade
    chi2_per_slice: tuple[float, ...]
    correlation: float
    expected_correlation: float
    peak_photons: float
    smallest_visible: float


def detection_limit(peak_photons: float) -> float:
    """Return the smallest false spot, as a share of the peak, that the check finds in 19 of 20 cases; infinity below 5 photons."""
    photons, shares = zip(*DETECTION_LIMIT, strict=True)
    return math.inf if peak_photons < photons[0] else float(np.interp(math.log(peak_photons), np.log(photons), shares))


def reblur_check(
    raw: npt.NDArray[Any],
    result: npt.NDArray[Any],
    psf: Psf,
    voxel_size_um: tuple[float, float, float],
    camera: Camera,
    *,
    deblurred: bool = True,
    width_range: tuple[float, float] | None = STATED_PSF_RANGE,
    seed: int = 0,
) -> tuple[ReblurReport, FloatArray]:
    """Blur a result again and compare it with the measurement, voxel by voxel.

    Parameters
    ----------
    raw : array (Z, Y, X)
        The measurement, as the camera gave it.
    result : array (Z, Y, X)
        The restored volume, on the same voxels or a whole number of times finer; any intensity scale.
    psf : Psf
        Of the microscope.
    voxel_size_um : tuple of float
        Of the measurement, (z, y, x).
    camera : Camera
        Gain, offset and read noise in grey values.
    deblurred : bool
        False for a method that only takes noise away: its result is compared as it is.
    width_range : tuple of float or None
        Where the result does not pass with the PSF as given, its width is fitted within these factors; None never fits. See
        :func:`width_range_of`.
    seed : int
        Of the residuals' random part.

    Returns
    -------
    report : ReblurReport
        The figures.
    z_map : float32 array (Z, Y, X)
        z-scores on the measurement's voxels, 0 where nothing is judged.

    Raises
    ------
    StackError
        The shapes do not fit, or no voxel can be judged.

    Notes
    -----
    Peak memory: about six float32 volumes. Randomised quantile residuals: Dunn & Smyth 1996. Above about 100 photons they are divided by
    the standard deviation that a PSF error of 5 % adds.
    """
    if raw.ndim != 3:
        raise StackError(f"a measurement of shape {raw.shape} cannot be judged; give one volume (z, y, x), with Z = 1 for a plane")
    factors = block_factors(raw.shape, result.shape)
    filled, valid = _usable(raw, result, factors)
    problem = _Problem(raw, filled, psf, voxel_size_um, camera, factors, valid, deblurred, seed)
    report, z_map = problem.judge(WidthFit(1.0, False))
    if deblurred and width_range is not None and report.grade != "pass":
        fit = fit_width(raw, filled, psf, voxel_size_um, factors, camera, valid, width_range)
        second, second_map = problem.judge(fit)
        if second.flagged_share < report.flagged_share:
            return second, second_map
    return report, z_map


def width_range_of(psf: Psf) -> tuple[float, float]:
    """Return how far a PSF's width may be off: 15 % where it was stated, 30 % where a part of it is a default.

    A wide range forgives more than a wrong PSF: contrast that was exaggerated looks like a narrower one.
    """
    return DEFAULT_PSF_RANGE if any(v.origin == "default" for v in psf.values) else STATED_PSF_RANGE


@dataclass(frozen=True)
class _Problem:
    """One measurement and one result, to be judged for a width of the PSF."""

    raw: npt.NDArray[Any]
    result: FloatArray
    psf: Psf
    voxel_size_um: tuple[float, float, float]
    camera: Camera
    factors: tuple[int, int, int]
    valid: npt.NDArray[np.bool_]
    deblurred: bool
    seed: int

    def judge(self, fit: WidthFit) -> tuple[ReblurReport, FloatArray]:
        raw, valid = self.raw, self.valid
        blurred = blur_result(self.result, self.psf if self.deblurred else None, self.voxel_size_um, self.factors, fit.width)
        affine = fit_affine(blurred, raw, self.camera, valid)
        residuals, sums = _residuals(raw, blurred, affine, self.camera, valid, self.seed)
        del blurred
        sigma = self.psf.sigma_px(self.voxel_size_um)
        z, y, x = (s * fit.width if n > 1 else 0.0 for s, n in zip(sigma, raw.shape, strict=True))
        matched = MatchedFilter((z, y, x))
        z_map = matched.apply(residuals)
        inner = _inner(raw.shape, matched.sigma_px)
        judged = np.zeros(raw.shape, bool)
        judged[inner] = valid[inner]
        if not judged.any():
            raise StackError(f"a measurement of shape {raw.shape} has no voxel that can be judged; it needs finite, unsaturated voxels")
        z_map[~judged] = 0.0
        extent = (inner[0].stop - inner[0].start, inner[1].stop - inner[1].start, inner[2].stop - inner[2].start)
        return _report(z_map, judged, peak_threshold(extent, matched.fwhm_px()), fit, affine, sums), z_map


def _usable(raw: npt.NDArray[Any], result: npt.NDArray[Any], factors: tuple[int, int, int]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the result with its gaps filled by its median, and which measured voxels count."""
    filled = np.array(result, np.float32)
    valid = np.isfinite(raw)
    if raw.dtype.kind in "iu":
        valid &= raw < np.iinfo(raw.dtype).max
    bad = ~np.isfinite(filled)
    if bad.any():
        if bad.all():
            raise StackError("the result has no finite voxel, so there is nothing to judge; look at the method's warnings")
        filled[bad] = np.median(filled[~bad])
        (fz, fy, fx), (nz, ny, nx) = factors, raw.shape
        valid &= ~bad.reshape(nz, fz, ny, fy, nx, fx).any(axis=(1, 3, 5))
    return filled, valid


def _inner(shape: tuple[int, ...], sigma_px: tuple[float, float, float]) -> tuple[slice, slice, slice]:
    """The volume without three standard deviations at each border, where light from outside is missing; at least a third is kept."""
    rims = [min(math.ceil(3.0 * s), (n - 1) // 3) for s, n in zip(sigma_px, shape, strict=True)]
    z, y, x = (slice(r, n - r) for r, n in zip(rims, shape, strict=True))
    return (z, y, x)


@dataclass
class _Sums:
    """What is gathered plane by plane."""

    deviance: float
    expected: float
    chi2: list[float]
    correlation: float
    expected_correlation: float
    peak: float


def _residuals(
    raw: npt.NDArray[Any], blurred: FloatArray, affine: AffineFit, camera: Camera, valid: npt.NDArray[np.bool_], seed: int
) -> tuple[FloatArray, _Sums]:
    quantum, extra = quantum_photons(camera, raw.dtype), (camera.read_noise / camera.gain) ** 2
    residuals = np.zeros(raw.shape, np.float32)
    deviance, expected, chi2 = 0.0, 0.0, []
    moments = np.zeros(7)
    for z in range(raw.shape[0]):
        keep = valid[z]
        if not keep.any():
            chi2.append(math.nan)
            continue
        model = affine.slope * blurred[z].astype(np.float64) + affine.offset
        mean = np.maximum((model - camera.offset) / camera.gain, 1e-3) + extra
        counts = np.where(keep, (raw[z].astype(np.float64) - camera.offset) / camera.gain + extra, mean)
        uniform = counter_uniform(seed, z * mean.size, mean.size).reshape(mean.shape)
        score = quantile_residuals(counts, mean, quantum, uniform)
        chi2.append(float(np.mean(score[keep] ** 2)))
        psf_term = np.where(mean > PSF_ERROR_FROM_PHOTONS, PSF_ERROR**2 * mean, 0.0)
        residuals[z] = np.where(keep, score / np.sqrt(1.0 + psf_term), 0.0)
        n, m = counts[keep], mean[keep]
        deviance += float(poisson_deviance(n, m).sum())
        expected += float(expected_deviance(m).sum())
        moments += (n.size, n.sum(), m.sum(), n @ n, m @ m, n @ m, m.sum())
    photons = affine.slope * blurred[valid] / camera.gain
    low, high = np.percentile(photons[:: max(1, photons.size // 1_000_000)], [1.0, 99.9])
    sums = _Sums(deviance, expected, chi2, *_correlations(moments), float(high - low))
    return residuals, sums


def _correlations(moments: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Pearson's r of counts and model, and of Poisson counts of that model with it."""
    size, n, m, nn, mm, nm, noise = moments
    var_n, var_m, cov = nn / size - (n / size) ** 2, mm / size - (m / size) ** 2, nm / size - n * m / size**2
    real = cov / math.sqrt(var_n * var_m) if var_n > 0 and var_m > 0 else 0.0
    return float(real), math.sqrt(var_m / (var_m + noise / size)) if var_m > 0 else 0.0


def _report(
    z_map: FloatArray, judged: npt.NDArray[np.bool_], threshold: float, width: WidthFit, affine: AffineFit, sums: _Sums
) -> ReblurReport:
    scores = z_map[judged]
    missing, added = float(np.mean(scores > threshold)), float(np.mean(scores < -threshold))
    low, high = np.percentile(scores, [15.87, 84.13])
    ratio = sums.deviance / sums.expected if sums.expected > 0 else math.nan
    return ReblurReport(
        grade=_grade(missing + added),
        flagged_share=missing + added,
        missing_share=missing,
        added_share=added,
        threshold_z=threshold,
        highest_z=float(scores.max()),
        lowest_z=float(scores.min()),
        spread_z=float(high - low) / 2.0,
        judged_voxels=int(scores.size),
        width=width.width,
        width_at_bound=width.at_bound,
        slope=affine.slope,
        offset=affine.offset,
        discrepancy=ratio,
        discrepancy_grade=_discrepancy_grade(ratio),
        chi2_per_slice=tuple(sums.chi2),
        correlation=sums.correlation,
        expected_correlation=sums.expected_correlation,
        peak_photons=sums.peak,
        smallest_visible=detection_limit(sums.peak),
    )


def _grade(share: float) -> Grade:
    if share <= WARN_SHARE:
        return "pass"
    return "warn" if share <= FAIL_SHARE else "fail"


def _discrepancy_grade(ratio: float) -> Grade:
    low, high = DISCREPANCY_PASS
    if low <= ratio <= high:
        return "pass"
    return "warn" if 0.9 <= ratio < low else "fail"
