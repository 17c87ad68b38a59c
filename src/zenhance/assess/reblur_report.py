"""The figures of the re-blur check, and how they are graded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "FAIL_SHARE",
    "FITTED_BELOW",
    "Grade",
    "Place",
    "ReblurReport",
    "discrepancy_grade",
    "flagged_grade",
]

Grade = Literal["pass", "warn", "fail"]

FAIL_SHARE = 1e-3
MISFIT_FAIL = 2.0
"""Deviance ratio from which a result does not fit the measurement at all."""
FITTED_BELOW = 0.92
"""A z-map of less spread belongs to a result that was fitted to this measurement's noise."""
FITTED_LEAST = 0.35
"""Below, next to nothing is left to be judged: the result follows the noise."""
DISCREPANCY_PASS = (0.95, 1.05)


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
        'pass' if no place is flagged, 'fail' if more than 0.1 % of the voxels are or the deviance
        ratio is above 2, 'warn' in between.
    flagged_share : float
        Voxels beyond the threshold, as a share of those judged.
    missing_share, added_share : float
        Its parts: z above (light that the result does not explain) and below (structure that was
        not measured).
    threshold_z : float
        Pure noise reaches it in one of 200 volumes.
    highest_z, lowest_z : float
        Extremes of the z-map.
    spread_z : float
        Robust standard deviation of the z-map before it is scaled; above 1, gain or offset are
        wrong or the noise is not white; below 1, the result was fitted to the measurement. Between
        0.35 and 0.92 the z-map is divided by it, and the threshold is raised by a fifth.
    judged_voxels : int
        Away from the border, finite, not saturated.
    width_z, width_yx : float
        Factors on the PSF's width that explain the measurement best; 1 where the stated PSF does.
    width_at_bound : bool
        The fit would have gone beyond its range.
    psf_doubtful : bool
        A width is off by more than an eighth, beyond its error: fitted by means of the result, or
        measured on the stack itself where the result was fitted to it.
    psf_places : int
        Places that only a PSF of another width explains.
    slope, offset : float
        ``ŷ = slope · H x̂ + offset``.
    discrepancy : float
        Deviance ratio: deviance over its expectation; 1 for a faithful result, below 0.9 it kept
        noise, above 1.05 it does not fit.
    discrepancy_slack : float
        How far it may be from 1 beyond the grades' limits: three standard errors, and what an error
        of the PSF within its tolerance adds.
    discrepancy_grade : {'pass', 'warn', 'fail'}
        'warn' below 0.95, 'fail' above 1.05 or below 0.9.
    first_plane : int
        The first plane that was judged.
    chi2_per_slice : tuple of float
        Mean squared residual of each plane that was judged.
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
    prior_share : float
        Share of the result's power that the measurement cannot see
        (:func:`zenhance.assess.prior_share.prior_share`).
    smoothed : bool
        The result is the measurement smoothed, and nothing else: it loses structure and invents
        none, and does not fail.
    stack_width_z, stack_width_yx : tuple of float
        Blur measured on the stack itself over that of the PSF, with its 90 % interval (value, low,
        high); empty where it was not needed, or agrees.
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
    width_z: float
    width_yx: float
    width_at_bound: bool
    psf_doubtful: bool
    psf_places: int
    slope: float
    offset: float
    discrepancy: float
    discrepancy_grade: Grade
    first_plane: int
    chi2_per_slice: tuple[float, ...]
    correlation: float
    expected_correlation: float
    peak_photons: float
    smallest_visible: float
    smallest_visible_bright: float
    places: tuple[Place, ...] = ()
    place_count: int = 0
    freedom: float = 0.0
    discrepancy_slack: float = 0.0
    prior_share: float = 0.0
    smoothed: bool = False
    stack_width_z: tuple[float, ...] = ()
    stack_width_yx: tuple[float, ...] = ()

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
        grade = discrepancy_grade(ratio, self.discrepancy_slack)
        return replace(self, discrepancy=ratio, discrepancy_grade=grade, freedom=freedom)


def flagged_grade(share: float, places: int, discrepancy: float) -> Grade:
    """Return the grade of a share of flagged voxels, a number of places and a deviance ratio."""
    if share > FAIL_SHARE or discrepancy > MISFIT_FAIL:
        return "fail"
    return "warn" if places else "pass"


def discrepancy_grade(ratio: float, slack: float = 0.0) -> Grade:
    """Return the grade of a deviance ratio whose limits are widened by a slack."""
    low, high = DISCREPANCY_PASS
    if low - slack <= ratio <= high + slack:
        return "pass"
    return "warn" if 0.9 - slack <= ratio < low else "fail"
