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

    @property
    def ground(self) -> float:
        """The lowest value an image may take: 0, or the shift where that is higher, or the background where that is negative."""
        return max(self.shift, min(self.background, 0.0))


@dataclass(slots=True)
class DiscrepancyRule:
    """Stop where the residual of the re-blurred estimate has come down to the noise, the freedom of the fit counted.

    A fit with ``f`` free parameters per voxel follows the noise with them, and leaves a reduced chi-squared of about ``1 - f``; its score

    .. math:: V_k = \\chi^2_k / (1 - f_k)^2

    falls as long as an iteration explains more of the image than of the noise. The estimate with the smallest score is kept. Against the
    truth, in simulations from 10 to 2000 photons, this came within 0.2 dB of the best iteration, where waiting for a chi-squared of 1 lost
    1 to 2 dB: dark voxels are fitted at once and outweigh the bright ones. A wrong gain scales all scores alike and hardly matters.

    Parameters
    ----------
    patience : int
        Go on for this many iterations after the smallest score, to be sure that it is one.
    tolerance : float
        Also stop once the score changes by less than this fraction.

    Notes
    -----
    Sources: Morozov 1966 (Soviet Math. Dokl. 7:414) for the discrepancy principle; Golub, Heath & Wahba 1979 (Technometrics 21:215) for the
    score; Girard 1989 (Numer. Math. 56:1) and Ramani et al. 2008 (IEEE TIP 17:1540) for measuring the freedom with perturbed data.
    """

    patience: int = 3
    tolerance: float = 1e-5
    chi2: list[float] = field(default_factory=list)
    freedom: list[float] = field(default_factory=list)
    best: int = 0

    def score(self, k: int) -> float:
        """V of the estimate that iteration k starts from; infinite where the fit has no freedom left to lose."""
        left = 1.0 - self.freedom[k]
        return self.chi2[k] / left**2 if left > 0.0 else float("inf")

    def reached(self, chi2: float, freedom: float) -> bool:
        """Take the figures of one more estimate and say whether to stop."""
        self.chi2.append(chi2)
        self.freedom.append(freedom)
        last = len(self.chi2) - 1
        score = self.score(last)
        if score < self.score(self.best):
            self.best = last
        if last - self.best >= self.patience:
            return True
        return last > self.patience and abs(self.score(last - 1) - score) <= self.tolerance * score


@dataclass(frozen=True, slots=True)
class Schedule:
    """What every tile replays: the extrapolation of each iteration, and the last step to camera units.

    Parameters
    ----------
    alphas : tuple of float
        One an iteration; 0 is no extrapolation.
    scale : float
        Factor on the light of the image; 1 unless blurred data are negative.
    chi2, freedom : tuple of float
        The stop rule's curve, one figure per estimate seen.
    """

    alphas: tuple[float, ...]
    scale: float = 1.0
    chi2: tuple[float, ...] = ()
    freedom: tuple[float, ...] = ()

    @property
    def iterations(self) -> int:
        """How many iterations."""
        return len(self.alphas)
