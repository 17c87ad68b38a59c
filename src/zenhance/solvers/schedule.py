"""What a solver decides once per volume: camera model, stop rule, schedule of the iterations."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["BandRules", "CameraModel", "DiscrepancyRule", "Fit", "Schedule"]

TYPICAL_ITERATIONS = 7.0
"""After so many accelerated iterations the rule stops on the bundled sample."""


@dataclass(frozen=True, slots=True)
class CameraModel:
    """Background and noise in camera units: ``variance = gain (mean - offset) + read_noise**2``."""

    background: float
    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0

    @property
    def shift(self) -> float:
        """Subtracted from the data so that they vary like photons times gain; <= background."""
        return min(self.offset - self.read_noise**2 / self.gain, self.background)

    @property
    def pedestal(self) -> float:
        """The background in the shifted data; 0 or more."""
        return self.background - self.shift

    @property
    def ground(self) -> float:
        """Lowest value of an image: the shift, but 0 at least where the background is not negative.

        Signed data whose background is negative keep their noise around it, as unsigned data do.
        """
        return self.shift if self.background < 0.0 else max(self.shift, 0.0)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well one estimate explains the measurement.

    Parameters
    ----------
    chi2 : float
        Mean squared residual over the variance that gain and read noise predict.
    freedom : float
        Degrees of freedom of the fit per voxel.
    even_chi2 : float
        Mean squared residual over one variance for all voxels; its scale has no meaning.
    contrast : float
        Mean squared residual in bright voxels over that in dark ones.
    predicted_contrast : float
        The same ratio of the predicted variances.
    """

    chi2: float
    freedom: float
    even_chi2: float = float("inf")
    contrast: float = 1.0
    predicted_contrast: float = 1.0

    @property
    def is_even(self) -> bool:
        """Whether the noise looks Gaussian: as strong in bright voxels as in dark ones."""
        return self.contrast**2 < self.predicted_contrast


@dataclass(slots=True)
class DiscrepancyRule:
    """Stop where the residual has come down to the noise, the freedom of the fit counted.

    A fit with ``f`` free parameters per voxel follows the noise with them and leaves a reduced
    chi-squared of about ``1 - f``; its score

    .. math:: V_k = \\chi^2_k / (1 - f_k)^2

    falls as long as an iteration explains more of the image than of the noise. The estimate with
    the smallest score is kept. Against the truth, in simulations from 10 to 2000 photons, this came
    within 0.2 dB of the best iteration; waiting for a chi-squared of 1 lost 1 to 2 dB, because dark
    voxels are fitted at once and outweigh the bright ones. A wrong gain scales all scores alike.

    Where the residuals of the best estimate show that the noise is Gaussian and not Poisson, the
    rule continues with a score that weights all voxels alike. An estimated gain that is too large
    would hide what is left of bright structures.

    Parameters
    ----------
    patience : int
        Continue for this many iterations after the smallest score.
    tolerance : float
        Also stop once the score changes by less than this fraction.

    Notes
    -----
    Sources: Morozov 1966 (Soviet Math. Dokl. 7:414) for the discrepancy principle; Golub, Heath &
    Wahba 1979 (Technometrics 21:215) for the score; Girard 1989 (Numer. Math. 56:1) and Ramani et
    al. 2008 (IEEE TIP 17:1540) for the freedom measured with perturbed data.
    """

    patience: int = 3
    tolerance: float = 1e-5
    fits: list[Fit] = field(default_factory=list)
    best: int = 0
    is_even: bool = False

    @property
    def chi2(self) -> list[float]:
        """Reduced chi-squared of each estimate."""
        return [fit.chi2 for fit in self.fits]

    @property
    def freedom(self) -> list[float]:
        """Freedom of each estimate."""
        return [fit.freedom for fit in self.fits]

    def score(self, k: int) -> float:
        """V of the estimate that iteration k starts from; infinite where f reaches 1."""
        fit = self.fits[k]
        left = 1.0 - fit.freedom
        chi2 = fit.even_chi2 if self.is_even else fit.chi2
        return chi2 / left**2 if left > 0.0 else float("inf")

    def reached(self, fit: Fit) -> bool:
        """Take one more estimate and return whether to stop."""
        self.fits.append(fit)
        last = len(self.fits) - 1
        if self.score(last) < self.score(self.best):
            self.best = last
        if not self._is_over(last):
            return False
        if self.is_even or not self.fits[self.best].is_even:
            return True
        self.is_even = True
        self.best = min(range(last + 1), key=self.score)
        return self._is_over(last)

    def _is_over(self, last: int) -> bool:
        if last - self.best >= self.patience:
            return True
        score = self.score(last)
        return last > self.patience and abs(self.score(last - 1) - score) <= self.tolerance * score

    def expected_left(self) -> float:
        """Return how many more iterations to expect, for the progress alone."""
        last = len(self.chi2) - 1
        if last > self.best:
            return float(max(1, self.patience - (last - self.best)))
        return max(TYPICAL_ITERATIONS - last, self.patience + last / 2)


@dataclass(slots=True)
class BandRules:
    """One :class:`DiscrepancyRule` for each band of depth: a band stops at its own iteration.

    Blur, light and noise change with depth, so that one score for the whole volume stops the bright
    planes too early or the dim ones too late.

    Parameters
    ----------
    rules : tuple of DiscrepancyRule
        One for each band.
    shares : tuple of float
        Each band's share of the voxels; they sum to 1.
    """

    rules: tuple[DiscrepancyRule, ...]
    shares: tuple[float, ...]
    over: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        self.over = [False] * len(self.rules)

    @classmethod
    def for_shares(cls, shares: tuple[float, ...]) -> BandRules:
        """Return fresh rules for bands of these shares of the voxels."""
        return cls(tuple(DiscrepancyRule() for _ in shares), shares)

    def reached(self, fits: tuple[Fit, ...]) -> bool:
        """Take one more estimate of each band and return whether all bands stop."""
        for number, (rule, fit) in enumerate(zip(self.rules, fits, strict=True)):
            if self.over[number]:
                rule.fits.append(fit)
            else:
                self.over[number] = rule.reached(fit)
        return all(self.over)

    def stops(self, iterations: int) -> tuple[int, ...]:
        """Return the iteration that each band keeps, at most ``iterations``."""
        return tuple(
            rule.best if over else iterations
            for rule, over in zip(self.rules, self.over, strict=True)
        )

    @property
    def is_even(self) -> bool:
        """Whether the noise looks Gaussian in most voxels."""
        return sum(s for r, s in zip(self.rules, self.shares, strict=True) if r.is_even) > 0.5

    @property
    def chi2(self) -> tuple[float, ...]:
        """Reduced chi-squared of each estimate, over all voxels."""
        return self._mean([rule.chi2 for rule in self.rules])

    @property
    def freedom(self) -> tuple[float, ...]:
        """Freedom of each estimate, over all voxels."""
        return self._mean([rule.freedom for rule in self.rules])

    def _mean(self, curves: list[list[float]]) -> tuple[float, ...]:
        return tuple(
            sum(share * value for share, value in zip(self.shares, values, strict=True))
            for values in zip(*curves, strict=True)
        )

    def freedom_at(self, stops: tuple[int, ...]) -> float:
        """Return the freedom of the estimate whose bands stop there."""
        return sum(
            share * rule.freedom[min(stop, len(rule.fits) - 1)]
            for rule, share, stop in zip(self.rules, self.shares, stops, strict=True)
        )

    def expected_left(self) -> float:
        """Return how many more iterations to expect, for the progress alone."""
        left = [
            r.expected_left() for r, over in zip(self.rules, self.over, strict=True) if not over
        ]
        return max(left, default=1.0)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What every tile replays: the extrapolations and the scale to camera units.

    Parameters
    ----------
    alphas : tuple of float
        One per iteration; 0 means no extrapolation.
    scale : float
        Factor on the light of the image; 1 unless blurred data are negative.
    chi2, freedom : tuple of float
        The stop rule's curve, one figure per estimate seen.
    stops : tuple of int
        The iteration that each band of depth keeps; empty where all keep the last.
    """

    alphas: tuple[float, ...]
    scale: float = 1.0
    chi2: tuple[float, ...] = ()
    freedom: tuple[float, ...] = ()
    stops: tuple[int, ...] = ()

    @property
    def iterations(self) -> int:
        """How many iterations."""
        return len(self.alphas)
