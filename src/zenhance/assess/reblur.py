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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.assess.forward import (
    Imaging,
    Light,
    block_factors,
    fit_light,
    imaging_of,
    is_smoothing,
)
from zenhance.assess.photons import Camera, Readout
from zenhance.assess.prior_share import prior_share
from zenhance.assess.psf_fit import WidthFit, fit_widths, stack_widths
from zenhance.assess.reblur_report import (
    FITTED_BELOW,
    FITTED_LEAST,
    Place,
    ReblurReport,
    discrepancy_grade,
    flagged_grade,
)
from zenhance.assess.residuals import ResidualSums, measure_residuals
from zenhance.assess.smoothness import MatchedFilter, peak_threshold
from zenhance.errors import StackError
from zenhance.physics.psf import gaussian
from zenhance.physics.psf_base import Psf
from zenhance.types import FloatArray, FloatTriple, Region

__all__ = ["Microscopy", "detection_limit_photons", "psf_in_the_plane", "reblur_check"]

FALSE_PEAKS = 0.0025
"""Expected in pure noise, per volume and sign."""
FOUND_SIGMA = 1.645
"""A spot this far above the threshold on average is found in 19 of 20 cases."""
MAX_PLACES = 10
PSF_TOLERANCE = 0.05
"""What the fit of the PSF's width leaves open, for shapes that are not quite the model's."""
PROBE = 1.08
FITTED_MARGIN = 1.2
"""On the threshold of such a z-map, whose noise is neither white nor the same everywhere."""


@dataclass(frozen=True, slots=True)
class Microscopy:
    """What is known of a microscope beyond one PSF.

    Parameters
    ----------
    imaging : Imaging
        Images a result again.
    haze : float32 array (Z, Y, X), optional
        Light between the structures, up to a factor.
    border_px : tuple of float, optional
        How far light from outside reaches in along z, y, x; by default three standard deviations
        of the PSF.
    tolerance : float
        Relative error of the PSF's width that remains after it was fitted; what it could explain
        is not flagged.
    measured : bool
        Whether the blur was measured on this very stack, so that measuring it again says nothing.
    """

    imaging: Imaging
    haze: FloatArray | None = None
    border_px: FloatTriple | None = None
    tolerance: float = PSF_TOLERANCE
    measured: bool = False


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
    voxel_size_um: FloatTriple,
    camera: Camera,
    *,
    deblurred: bool = True,
    fit_psf: bool = True,
    seed: int = 0,
    microscopy: Microscopy | None = None,
    missing: npt.NDArray[np.bool_] | None = None,
    on_blur: Callable[[], None] | None = None,
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
        False for a method that only removes noise: its result is compared unchanged.
    fit_psf : bool
        Fit the PSF's width, so that what a PSF of another width explains is distinguished from
        what none explains.
    seed : int
        Of the residuals' random part.
    microscopy : Microscopy, optional
        Blur by depth, haze and tolerance, in place of the PSF alone.
    missing : bool array (Z, Y, X), optional
        Voxels of the measurement that do not count.
    on_blur : callable, optional
        Called each time the result is blurred; may raise to stop.

    Returns
    -------
    report : ReblurReport
        The figures.
    z_map : float32 array (Z, Y, X)
        z-scores on the measurement's voxels, 0 where nothing is judged, less what an error of the
        PSF's width within its tolerance could explain.

    Raises
    ------
    StackError
        The shapes do not fit, or no voxel can be judged.

    Notes
    -----
    Peak memory: about eight float32 volumes. Randomised quantile residuals: Dunn & Smyth 1996.
    """
    if raw.ndim != 3:
        raise StackError(
            f"a measurement of shape {raw.shape} cannot be judged; "
            "give one volume (z, y, x), with Z = 1 for a plane"
        )
    factors = block_factors(raw.shape, result.shape)
    known = microscopy or Microscopy(imaging_of(psf, voxel_size_um, factors, deblurred=deblurred))
    filled, valid = _usable(raw, result, factors)
    sigma_px = psf.sigma_px(voxel_size_um)
    reach = known.border_px or (3.0 * sigma_px[0], 3.0 * sigma_px[1], 3.0 * sigma_px[2])
    inner = _inner(raw.shape, reach)
    valid &= _inside(raw.shape, inner)
    if missing is not None:
        valid &= ~missing
    if not valid.any():
        raise StackError(
            f"a measurement of shape {raw.shape} has no voxel that can be judged; "
            "it needs voxels that are finite and not saturated"
        )
    imaging, further = _told(known.imaging, on_blur), () if known.haze is None else (known.haze,)
    problem = _Problem(
        raw, filled, imaging, camera, sigma_px, valid, inner, further, known.tolerance, seed
    )
    report, z_map = problem.judge(WidthFit())
    if not deblurred and report.grade == "fail" and is_smoothing(filled, raw, valid):
        return replace(report, grade="warn", smoothed=True), z_map
    if not fit_psf:
        return report, z_map
    if report.spread_z < FITTED_BELOW:
        # A result that was fitted to the measurement was fitted to it with its own PSF.
        asked = deblurred and not known.measured
        return _doubted(report, raw, psf, voxel_size_um) if asked else report, z_map
    fit = fit_widths(raw, filled, imaging, factors, sigma_px, camera, valid, further)
    if not fit.significant:
        return report, z_map
    second, second_map = problem.judge(fit)
    if second.discrepancy > report.discrepancy and second.flagged_share >= report.flagged_share:
        return report, z_map
    gone = max(report.place_count - second.place_count, 0)
    return replace(second, psf_places=gone), second_map


def _doubted(
    report: ReblurReport, raw: npt.NDArray[Any], psf: Psf, voxel_size_um: FloatTriple
) -> ReblurReport:
    """Doubt a PSF that the blur of the stack itself contradicts."""
    found = stack_widths(raw, psf.sigma_um, voxel_size_um)
    if found is None or not found.contradict:
        return report
    return replace(report, psf_doubtful=True, stack_width_z=found.z, stack_width_yx=found.yx)


@dataclass(frozen=True)
class _Problem:
    """One measurement and one result, to be judged for a width of the PSF."""

    raw: npt.NDArray[Any]
    result: FloatArray
    imaging: Imaging
    camera: Camera
    sigma_px: FloatTriple
    valid: npt.NDArray[np.bool_]
    inner: Region
    further: Sequence[FloatArray]
    tolerance: float
    seed: int

    def judge(self, fit: WidthFit) -> tuple[ReblurReport, FloatArray]:
        blurred = self.imaging(self.result, _whole(self.raw.shape), fit.z, fit.yx)
        light = fit_light((blurred, *self.further), self.raw, self.camera, self.valid)
        expected = light.of((blurred, *self.further))
        readout = self._readout(expected)
        residuals, sums = measure_residuals(self.raw, expected, readout, self.valid, self.seed)
        matched = self._matched(fit)
        z_map = matched.apply(residuals)
        low, high = np.percentile(z_map[self.valid], [15.87, 84.13])
        spread = float(high - low) / 2.0
        noise = np.sqrt(
            np.maximum(expected - readout.offset, 0.0) * readout.gain
            + (readout.read_noise**2 + 0.1) * readout.gain**2
        )
        excess = 0.0
        for change in self._psf_changes(fit, blurred):
            change *= np.float32(light.factors[0]) / noise
            change[~self.valid] = 0.0
            z_map = _less(z_map, matched.apply(change))
            excess += float(np.square(change).sum() / self.valid.sum())
        depth, height, width = (s.stop - s.start for s in self.inner)
        threshold = peak_threshold((depth, height, width), matched.fwhm_px(), FALSE_PEAKS)
        response = matched.response()
        if FITTED_LEAST < spread < FITTED_BELOW:
            # What was fitted to the measurement leaves less of false structure too.
            z_map = np.asarray(z_map / np.float32(spread), np.float32)
            threshold, response = threshold * FITTED_MARGIN, response / spread
        z_map[~self.valid] = 0.0
        variance = float(np.square(noise[self.valid]).mean())
        report = _report(z_map, self.valid, threshold, response, fit, light, sums)
        slack = 3.0 * sums.error + excess
        return replace(
            report,
            spread_z=spread,
            discrepancy_slack=slack,
            discrepancy_grade=discrepancy_grade(report.discrepancy, slack),
            prior_share=prior_share(self.result, blurred, light.factors[0], variance),
        ), z_map

    def _readout(self, expected: FloatArray) -> Readout:
        """Return the camera; lower the offset where the result falls below it."""
        readout = Readout.of(self.camera, self.raw.dtype)
        darkest = float(np.percentile(expected[self.valid], 0.1))
        room = readout.gain * max(0.5, readout.read_noise)
        return replace(readout, offset=darkest) if darkest < readout.offset - room else readout

    def _matched(self, fit: WidthFit) -> MatchedFilter:
        widths = (fit.z, fit.yx, fit.yx)
        z, y, x = (
            s * w if n > 1 else 0.0
            for s, w, n in zip(self.sigma_px, widths, self.raw.shape, strict=True)
        )
        return MatchedFilter((z, y, x))

    def _psf_changes(self, fit: WidthFit, blurred: FloatArray) -> Iterator[FloatArray]:
        """Return what an error of the PSF's width, within its tolerance, changes in each axis."""
        whole = _whole(self.raw.shape)
        for z, yx in ((PROBE, 1.0), (1.0, PROBE)):
            if self.tolerance > 0 and not (z > 1.0 and self.raw.shape[0] == 1):
                other = self.imaging(self.result, whole, fit.z * z, fit.yx * yx)
                yield (other - blurred) * np.float32(self.tolerance / (PROBE - 1.0))


def _whole(shape: tuple[int, ...]) -> Region:
    return (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))


def _less(z_map: FloatArray, explained: FloatArray) -> FloatArray:
    """Bring scores nearer to 0 by what something else explains."""
    rest = np.maximum(np.abs(z_map) - np.abs(explained), 0.0)
    return np.asarray(np.sign(z_map) * rest, np.float32)


def _told(imaging: Imaging, on_blur: Callable[[], None] | None) -> Imaging:
    """Return an imaging that calls back each time."""

    def told(image: FloatArray, region: Region, /, z: float = 1.0, yx: float = 1.0) -> FloatArray:
        if on_blur is not None:
            on_blur()
        return imaging(image, region, z, yx)

    return told


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


def _inner(shape: tuple[int, ...], border_px: FloatTriple) -> Region:
    """Return the volume without its border, but at least a third of it."""
    rims = [
        min(math.ceil(r), (n - 1) // 3) if n > 1 else 0
        for r, n in zip(border_px, shape, strict=True)
    ]
    z, y, x = (slice(r, n - r) for r, n in zip(rims, shape, strict=True))
    return (z, y, x)


def _inside(shape: tuple[int, ...], inner: Region) -> npt.NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    inside[inner] = True
    return inside


def _report(
    z_map: FloatArray,
    judged: npt.NDArray[np.bool_],
    threshold: float,
    response: float,
    fit: WidthFit,
    light: Light,
    sums: ResidualSums,
) -> ReblurReport:
    scores = z_map[judged]
    missing, added = float(np.mean(scores > threshold)), float(np.mean(scores < -threshold))
    places, count = _places(z_map, threshold)
    limits = [
        detection_limit_photons(p, response, threshold)
        for p in (sums.typical_photons, sums.bright_photons)
    ]
    shares = [limit / sums.peak_photons if sums.peak_photons > 0 else math.inf for limit in limits]
    ratio = sums.deviance / sums.expected if sums.expected > 0 else math.nan
    return ReblurReport(
        grade=flagged_grade(missing + added, count, ratio),
        flagged_share=missing + added,
        missing_share=missing,
        added_share=added,
        threshold_z=threshold,
        highest_z=float(scores.max()),
        lowest_z=float(scores.min()),
        spread_z=1.0,
        judged_voxels=int(scores.size),
        width_z=fit.z,
        width_yx=fit.yx,
        width_at_bound=fit.at_bound,
        psf_doubtful=fit.doubtful,
        psf_places=0,
        slope=light.factors[0],
        offset=light.offset,
        discrepancy=ratio,
        discrepancy_grade=discrepancy_grade(ratio),
        first_plane=int(np.flatnonzero(np.isfinite(sums.chi2))[0]),
        chi2_per_slice=tuple(v for v in sums.chi2 if math.isfinite(v)),
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
