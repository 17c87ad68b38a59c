"""The re-blur check: whether the result, blurred again, explains the measurement.

The measurement is the blurred specimen with photon noise. A true result, once blurred, differs from
it by noise only. Where a structure was added, removed or moved, the difference is as large and as
round as a point spread function::

    result ──blur──► a · + b ──► expected photons ─┐
                                                   ├─► residuals, N(0, 1) if true
    measurement ──────────────► counted photons ───┘   ──matched filter──► z-map ──► flagged

z > 0: the result does not explain measured light (something is missing); z < 0: the result has
structure that was not measured. The check cannot see what is below the detection limit or invisible
to the microscope.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.assess.forward import (
    AffineFit,
    WidthFit,
    block_factors,
    blur_result,
    fit_affine,
    fit_width,
)
from zenhance.assess.photons import Camera
from zenhance.assess.residuals import ResidualSums, measure_residuals
from zenhance.assess.smoothness import MatchedFilter, peak_threshold
from zenhance.errors import StackError
from zenhance.physics.psf import gaussian
from zenhance.physics.psf_base import Psf
from zenhance.types import FloatArray

__all__ = [
    "Grade",
    "Place",
    "ReblurReport",
    "detection_limit_photons",
    "psf_in_the_plane",
    "reblur_check",
    "width_range_of",
]

Grade = Literal["pass", "warn", "fail"]

WARN_SHARE = 1e-4
FAIL_SHARE = 1e-3
DISCREPANCY_PASS = (0.95, 1.05)
STATED_PSF_RANGE = (0.85, 1.15)
DEFAULT_PSF_RANGE = (0.7, 1.3)
FOUND_SIGMA = 1.645
"""A spot this far above the threshold on average is found in 19 of 20 cases."""
MAX_PLACES = 10


@dataclass(frozen=True, slots=True)
class Place:
    """A flagged place: the voxel where the z-map is most extreme, and its z-score."""

    z_px: int
    y_px: int
    x_px: int
    score: float


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
        Its parts: z above (light that the result does not explain) and below (structure that was
        not measured).
    threshold_z : float
        Pure noise reaches it in one of 100 volumes.
    highest_z, lowest_z : float
        Extremes of the z-map.
    spread_z : float
        Robust standard deviation of the z-map; if far from 1, gain or offset are wrong or the noise
        is not white.
    judged_voxels : int
        Away from the border, finite, not saturated.
    width : float
        Factor on the PSF's width that was fitted; 1 where none was.
    width_at_bound : bool
        The fit would have gone beyond its range.
    slope, offset : float
        ``ŷ = slope · H x̂ + offset``.
    discrepancy : float
        Deviance ratio: deviance over its expectation; 1 for a faithful result, below 0.9 it kept
        noise, above 1.05 it does not fit.
    discrepancy_grade : {'pass', 'warn', 'fail'}
        'warn' below 0.95, 'fail' above 1.05 or below 0.9.
    chi2_per_slice : tuple of float
        Mean squared residual of each plane.
    correlation, expected_correlation : float
        Pearson's r between measurement and re-blurred result (RSP of Culley et al. 2018), and its
        limit from photon noise alone.
    peak_photons : float
        99.9 % quantile of the expected photons above the darkest percent.
    smallest_visible, smallest_visible_bright : float
        Detection limits: the smallest false spot that the check would find, as a share of the peak,
        at a typical position (median brightness) and a bright one (99 % quantile).
    places : tuple of Place
        The strongest of the flagged places, at most ten.
    place_count : int
        How many there are.
    freedom : float
        Of the fit, per voxel; the discrepancy is divided by one minus it.
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
    smallest_visible_bright: float
    places: tuple[Place, ...] = ()
    place_count: int = 0
    freedom: float = 0.0

    def counting(self, freedom: float) -> ReblurReport:
        """Return the report for a fit of f parameters per voxel, which leaves 1 - f of the noise.

        Parameters
        ----------
        freedom : float
            Of the fit, 0 ... 1 per voxel, as a method's own stop rule has measured it.
        """
        if not 0.0 < freedom < 1.0:
            return self
        ratio = self.discrepancy / (1.0 - freedom)
        return replace(
            self, discrepancy=ratio, discrepancy_grade=_discrepancy_grade(ratio), freedom=freedom
        )


def detection_limit_photons(
    background_photons: float, response: float, threshold_z: float
) -> float:
    """Return the peak of the smallest false spot that is found in 19 of 20 cases.

    Parameters
    ----------
    background_photons : float
        Expected photons per voxel around it.
    response : float
        z-score of a spot of one photon at its peak over a background of one photon
        (:meth:`MatchedFilter.response`).
    threshold_z : float
        Where alarm is given.

    Notes
    -----
    The spot of peak A raises the expected variance to about λ + A / 2, so that A = κ sqrt(λ + A /
    2), κ = (t + 1.645) / response.
    """
    kappa = (threshold_z + FOUND_SIGMA) / response
    return kappa**2 / 4 + math.sqrt(kappa**4 / 16 + kappa**2 * background_photons)


def psf_in_the_plane(psf: Psf) -> Psf:
    """Return the one-plane Gaussian PSF that re-blurs a result deblurred plane by plane.

    Such a method makes no claim along z; blurring its result along z too would treat it as one that
    does.
    """
    return gaussian(psf.sigma_um[1:])


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
    blur: Callable[[FloatArray], FloatArray] | None = None,
) -> tuple[ReblurReport, FloatArray]:
    """Blur a result again and compare it with the measurement, voxel by voxel.

    Parameters
    ----------
    raw : array (Z, Y, X)
        The measurement, as the camera gave it.
    result : array (Z, Y, X)
        The restored volume, on the same voxels or a whole number of times finer; any intensity
        scale.
    psf : Psf
        Of the microscope.
    voxel_size_um : tuple of float
        Of the measurement, (z, y, x).
    camera : Camera
        Gain, offset and read noise in grey values.
    deblurred : bool
        False for a method that only takes noise away: its result is compared as it is.
    width_range : tuple of float or None
        Range of factors on the PSF's width, fitted if the result does not pass with the PSF as
        given; None never fits. See :func:`width_range_of`.
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
    Peak memory: about six float32 volumes. Randomised quantile residuals: Dunn & Smyth 1996. Above
    about 100 photons they are divided by the standard deviation that a PSF error of 5 % adds.
    """
    if raw.ndim != 3:
        raise StackError(
            f"a measurement of shape {raw.shape} cannot be judged; "
            "give one volume (z, y, x), with Z = 1 for a plane"
        )
    factors = block_factors(raw.shape, result.shape)
    filled, valid = _usable(raw, result, factors)
    problem = _Problem(
        raw, filled, psf, voxel_size_um, camera, factors, valid, deblurred, seed, blur
    )
    report, z_map = problem.judge(WidthFit(1.0, False))
    if deblurred and blur is None and width_range is not None and report.grade != "pass":
        fit = fit_width(raw, filled, psf, voxel_size_um, factors, camera, valid, width_range)
        second, second_map = problem.judge(fit)
        if second.flagged_share < report.flagged_share:
            return second, second_map
    return report, z_map


def width_range_of(psf: Psf) -> tuple[float, float]:
    """Return the tolerance of a PSF's width: 15 % if stated, 30 % if partly a default.

    A wide range forgives more than a wrong PSF: exaggerated contrast looks like a narrower PSF.
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
    blur: Callable[[FloatArray], FloatArray] | None = None

    def judge(self, fit: WidthFit) -> tuple[ReblurReport, FloatArray]:
        raw, valid = self.raw, self.valid
        blurred = blur_result(
            self.result,
            self.psf if self.deblurred else None,
            self.voxel_size_um,
            self.factors,
            fit.width,
            self.blur,
        )
        affine = fit_affine(blurred, raw, self.camera, valid)
        residuals, sums = measure_residuals(raw, blurred, affine, self.camera, valid, self.seed)
        del blurred
        sigma = self.psf.sigma_px(self.voxel_size_um)
        z, y, x = (s * fit.width if n > 1 else 0.0 for s, n in zip(sigma, raw.shape, strict=True))
        matched = MatchedFilter((z, y, x))
        z_map = matched.apply(residuals)
        inner = _inner(raw.shape, matched.sigma_px)
        judged = np.zeros(raw.shape, bool)
        judged[inner] = valid[inner]
        if not judged.any():
            raise StackError(
                f"a measurement of shape {raw.shape} has no voxel that can be judged; "
                "it needs finite, unsaturated voxels"
            )
        z_map[~judged] = 0.0
        extent = (
            inner[0].stop - inner[0].start,
            inner[1].stop - inner[1].start,
            inner[2].stop - inner[2].start,
        )
        return _report(
            z_map,
            judged,
            peak_threshold(extent, matched.fwhm_px()),
            matched.response(),
            fit,
            affine,
            sums,
        ), z_map


def _usable(
    raw: npt.NDArray[Any], result: npt.NDArray[Any], factors: tuple[int, int, int]
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the result with its gaps filled by its median, and which measured voxels count."""
    filled = np.array(result, np.float32)
    valid = np.isfinite(raw)
    if raw.dtype.kind in "iu":
        valid &= raw < np.iinfo(raw.dtype).max
    bad = ~np.isfinite(filled)
    if bad.any():
        if bad.all():
            raise StackError(
                "the result has no finite voxel, so there is nothing to judge; "
                "look at the method's warnings"
            )
        filled[bad] = np.median(filled[~bad])
        (fz, fy, fx), (nz, ny, nx) = factors, raw.shape
        valid &= ~bad.reshape(nz, fz, ny, fy, nx, fx).any(axis=(1, 3, 5))
    return filled, valid


def _inner(
    shape: tuple[int, ...], sigma_px: tuple[float, float, float]
) -> tuple[slice, slice, slice]:
    """Return the volume without 3 sigma at each border, but at least a third of it."""
    rims = [min(math.ceil(3.0 * s), (n - 1) // 3) for s, n in zip(sigma_px, shape, strict=True)]
    z, y, x = (slice(r, n - r) for r, n in zip(rims, shape, strict=True))
    return (z, y, x)


def _report(
    z_map: FloatArray,
    judged: npt.NDArray[np.bool_],
    threshold: float,
    response: float,
    width: WidthFit,
    affine: AffineFit,
    sums: ResidualSums,
) -> ReblurReport:
    scores = z_map[judged]
    missing, added = float(np.mean(scores > threshold)), float(np.mean(scores < -threshold))
    low, high = np.percentile(scores, [15.87, 84.13])
    places, count = _places(z_map, threshold)
    limits = [
        detection_limit_photons(p, response, threshold)
        for p in (sums.typical_photons, sums.bright_photons)
    ]
    shares = [limit / sums.peak_photons if sums.peak_photons > 0 else math.inf for limit in limits]
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
        peak_photons=sums.peak_photons,
        smallest_visible=shares[0],
        smallest_visible_bright=shares[1],
        places=places,
        place_count=count,
    )


def _places(z_map: FloatArray, threshold: float) -> tuple[tuple[Place, ...], int]:
    """Find the strongest flagged places; neighbouring voxels of one sign are one place."""
    found: list[Place] = []
    for sign in (1.0, -1.0):
        flagged = sign * z_map > threshold
        at = np.argwhere(flagged)
        if len(at) == 0:
            continue
        groups = ndimage.label(flagged)[0][flagged]
        order = np.lexsort((-np.abs(z_map[flagged]), groups))
        first = np.unique(groups[order], return_index=True)[1]
        found.extend(
            Place(int(z), int(y), int(x), float(z_map[z, y, x])) for z, y, x in at[order[first]]
        )
    found.sort(key=lambda place: -abs(place.score))
    return tuple(found[:MAX_PLACES]), len(found)


def _grade(share: float) -> Grade:
    if share <= WARN_SHARE:
        return "pass"
    return "warn" if share <= FAIL_SHARE else "fail"


def _discrepancy_grade(ratio: float) -> Grade:
    low, high = DISCREPANCY_PASS
    if low <= ratio <= high:
        return "pass"
    return "warn" if 0.9 <= ratio < low else "fail"
