"""What an iterative solver decides once per volume: the camera's numbers, when to stop, and the schedule that every tile replays."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CameraModel", "DiscrepancyRule", "Schedule"]


@dataclass(frozen=True, slots=True)
class CameraModel:
    """Background and noise of an image in camera units: ``variance = gain * (mean - offset) + read_noise**2``."""

    background: float
    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0

    @property
    def shift(self) -> float:
        """What to take from the data so that they vary like photons times gain (never more than the background)."""
        return min(self.offset - self.read_noise**2 / self.gain, self.background)

    @property
    def pedestal(self) -> float:
        """The background in the shifted data; 0 or more."""
        return self.background - self.shift


@dataclass(slots=True)
class DiscrepancyRule:
    """Stop where the re-blurred estimate has reached the noise, its own freedom counted.

    A fit that follows the noise with ``freedom`` parameters per voxel leaves a reduced chi-squared of 1 - freedom, not 1, and misses the
    noise-free image by chi2 - 1 + 2 freedom noise variances per voxel. The estimate with the smallest miss is kept. A chi-squared
    of 1 itself stops too early (by 1 to 2 dB in simulations at 10 to 400 photons), because dark voxels fit at once and bright ones never.

    Parameters
    ----------
    patience : int
        Go on for this many iterations after the smallest miss, to be sure that it is one.
    tolerance : float
        Also stop once the miss changes by less than this, in noise variances per voxel (where no freedom is measured: in parts of itself).

    Notes
    -----
    Sources: Morozov 1966 for the discrepancy principle; Stein 1981 (Ann. Stat. 9:1135) and Ramani et al. 2008 (IEEE TIP 17:1540) for the
    freedom of an iterative fit, measured by running it beside a slightly perturbed copy of the data.
    """

    patience: int = 3
    tolerance: float = 1e-5
    chi2: list[float] = field(default_factory=list)
    freedom: list[float] = field(default_factory=list)
    best: int = 0

    def miss(self, k: int) -> float:
        """Estimated mean squared distance to the noise-free blurred image before iteration k, in noise variances."""
        return self.chi2[k] - 1.0 + 2.0 * self.freedom[k]

    def reached(self, chi2: float, freedom: float) -> bool:
        """Take the figures of one more estimate and say whether to stop."""
        self.chi2.append(chi2)
        self.freedom.append(freedom)
        last = len(self.chi2) - 1
        if self.miss(last) < self.miss(self.best):
            self.best = last
        if last - self.best >= self.patience:
            return True
        return last > self.patience and abs(self.miss(last - 1) - self.miss(last)) < self.tolerance


@dataclass(frozen=True, slots=True)
class Schedule:
    """What every tile replays: the extrapolation of each iteration, and what keeps the flux.

    Parameters
    ----------
    alphas : tuple of float
        One an iteration; 0 is no extrapolation.
    scale, level : float
        The image is ``scale * x + level``, in camera units; `level` is the background that is put back.
    chi2, freedom : tuple of float
        The stop rule's curve, one figure per estimate seen.
    """

    alphas: tuple[float, ...]
    scale: float = 1.0
    level: float = 0.0
    chi2: tuple[float, ...] = ()
    freedom: tuple[float, ...] = ()

    @property
    def iterations(self) -> int:
        """How many iterations."""
        return len(self.alphas)
