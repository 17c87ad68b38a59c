"""Richardson-Lucy with background, acceleration, total variation and a discrepancy stop rule.

The image is ``y ~ A x + b``. :meth:`RichardsonLucy.measure` finds every number that belongs to the
whole volume (iterations, extrapolation of each) once and keeps them in a :class:`Schedule`.
:meth:`RichardsonLucy.replay` repeats the same work on any tile without a number of the tile's own,
so tiles agree with the whole::

    measure(whole volume, or probe blocks of it) -> Schedule -> replay(tile 0), replay(tile 1), ...
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field, replace

import torch

from zenhance.physics.blur import Blur, BlurOperator
from zenhance.physics.psf_base import gaussian_kernel_1d
from zenhance.solvers.flux import keep_flux
from zenhance.solvers.schedule import BandRules, CameraModel, DiscrepancyRule, Fit, Schedule
from zenhance.solvers.tensors import exact_mean
from zenhance.solvers.total_variation import variation_factor_
from zenhance.steps import relay

__all__ = ["RichardsonLucy"]


_OUTLIER = 25.0
"""Squared residuals are clipped at five standard deviations: hot pixels must not decide."""
_MEDIAN_SQUARE = 0.455
"""Median of the square of a standard normal number."""
_PERTURBATION = 0.05
"""Test perturbation in noise standard deviations: small against noise, large against rounding."""
_MAX_SAMPLE = 1_000_000
_TINY = 1e-30
"""Stands for zero: products with it stay above the subnormal numbers, which are slow."""
_TINY_GRADIENT = 1e-15
"""Its square is still a normal number."""


@dataclass(frozen=True)
class RichardsonLucy:
    """One Richardson-Lucy problem: a measurement, its blur and its camera.

    Use it for images whose noise is mostly photon noise. Each iteration is

    .. math:: x_{k+1} = \\frac{p_k}
              {1 - \\lambda\\,\\nabla\\!\\cdot(\\nabla p_k/|\\nabla p_k|_\\epsilon)}
              A^T \\frac{u}{A p_k + c},
              \\qquad p_k = \\max(0, x_k + \\alpha_k (x_k - x_{k-1})),

    where ``u = y - s`` are the data and ``c = b - s`` the background, both shifted by ``s = offset
    - read_noise^2 / gain`` so that they vary nearly like photons times gain.

    Parameters
    ----------
    blur : BlurOperator
        The forward model A, of unit sum; it may vary with depth.
    y : Tensor
        The measurement, float32 (..., Z, Y, X), in camera units, on the device to compute on.
    camera : CameraModel
        Background, gain, offset and read noise.
    signal : float
        A typical intensity of the whole volume above the background, in camera units. It sets the
        smallest start value and the smoothing of the gradient, and must not depend on the tile.
    tv_weight : float
        lambda above; 0 switches total variation off.
    axis_weights : tuple of float
        Inverse lengths (z, y, x) of a pixel step relative to the shortest axis; 0 leaves an axis
        out of total variation.
    haze : Tensor, optional
        Light above the background that varies slowly, in camera units, like `y`. The model adds it
        to ``c``; the image keeps it.
    band : Tensor, optional
        Position of each voxel among the bands of depth, 0 ... bands - 1, like `y`. Between two
        whole numbers both bands count. Needed where a schedule has stops.
    noise_px : float
        Standard deviation of the Gaussian filter that correlates the noise of neighbouring pixels
        in a plane, 0 for independent noise. Only the stop rule looks at it: correlated noise takes
        up more of the freedom of the fit.
    counted : Tensor, optional
        1 where a voxel counts for stop rule and extrapolation, else 0, like `y`. All count if it is
        left out; voxels that were not measured must not.

    Notes
    -----
    Where the pedestal ``c`` is 0, each iteration keeps the sum of ``x`` equal to that of ``u``.
    With a background, the positivity of x turns noise in dark regions into a little extra light (up
    to a few percent at 10 photons); :meth:`image` removes it where it arose. Peak memory is about
    11 float32 arrays of the size of `y` when measuring without a stop rule, twice that with one,
    and 9 when replaying, total variation included.

    Sources: Richardson 1972 (JOSA 62:55) and Lucy 1974 (AJ 79:745); Biggs & Andrews 1997 (Appl.
    Opt. 36:1766); Dey et al. 2006 (Microsc. Res. Tech. 69:260); Snyder et al. 1995 (JOSA A 12:272)
    for the shift by the read noise.
    """

    blur: BlurOperator
    y: torch.Tensor
    camera: CameraModel
    signal: float
    tv_weight: float = 0.0
    axis_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    haze: torch.Tensor | None = field(default=None, repr=False)
    band: torch.Tensor | None = field(default=None, repr=False)
    counted: torch.Tensor | None = field(default=None, repr=False)
    noise_px: float = 0.0
    data: torch.Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", (self.y - self.camera.shift).clamp_(min=0.0))

    @property
    def floor(self) -> float:
        """Smallest start value; positive because an iteration cannot leave zero."""
        return max(1e-3 * self.signal, _TINY)

    @property
    def smoothing(self) -> float:
        """Gradient that counts as flat: 1 % of the signal, or more for stable total variation.

        The divergence changes by up to ``4 * axes / smoothing`` per unit of x; stability requires
        ``x * weight * 4 * axes / smoothing <= 1``.
        """
        axes = sum(weight > 0.0 for weight in self.axis_weights)
        return max(max(1e-2, 4.0 * axes * self.tv_weight) * self.signal, _TINY_GRADIENT)

    def start(self) -> torch.Tensor:
        """Return the first estimate: the data blurred once more, less the background, above zero.

        It is smooth, so noise enters only through the iterations.
        """
        light = self.blur(self.data).sub_(self.camera.pedestal)
        if self.haze is not None:
            light.sub_(self.haze)
        return light.clamp_(min=self.floor)

    def band_weight(self, number: int) -> torch.Tensor:
        """Return the weight of a band of depth in each voxel; the weights of all bands sum to 1."""
        if self.band is None:
            return torch.ones_like(self.y)
        return (self.band - float(number)).abs_().neg_().add_(1.0).clamp_(min=0.0)

    def replay(
        self, schedule: Schedule, start: torch.Tensor | None = None
    ) -> Generator[float, None, torch.Tensor]:
        """Run the iterations of a schedule; yield the fraction done, return x (no background).

        No scalar is read back from the device.
        """
        path = _Path(self, start)
        blended = _Blend(self, schedule.stops)
        blended.take(0, path.x)
        for k, alpha in enumerate(schedule.alphas):
            path.advance(path.model(alpha))
            blended.take(k + 1, path.x)
            yield (k + 1) / schedule.iterations
        return blended.or_last(path.x)

    def path(self, schedule: Schedule) -> Iterator[torch.Tensor]:
        """Run the iterations of a schedule and yield x after each; valid until the next one."""
        path = _Path(self, None)
        for alpha in schedule.alphas:
            path.advance(path.model(alpha))
            yield path.x

    def measure(
        self,
        iterations: int,
        *,
        accelerate: bool = True,
        rule: DiscrepancyRule | BandRules | None = None,
        start: torch.Tensor | None = None,
    ) -> Generator[float, None, tuple[torch.Tensor, Schedule]]:
        """Iterate on the whole volume or on probe blocks; return x and the schedule.

        Parameters
        ----------
        iterations : int
            At most this many.
        accelerate : bool
            Extrapolate each step by alpha_k = <g_k, g_{k-1}> / <g_{k-1}, g_{k-1}>, clipped to [0,
            1], with g_k = x_{k+1} - p_k.
        rule : DiscrepancyRule or BandRules, optional
            When to stop earlier; by default never. It doubles the work: a copy of the data with a
            little extra noise runs along. With rules for bands, each band of depth keeps its own
            iteration, and neighbouring bands blend.
        start : Tensor, optional
            First estimate instead of :meth:`start`; not together with `rule`.

        Yields
        ------
        float
            Fraction done, after each iteration.
        """
        path = _Path(self, start)
        rules = BandRules((rule,), (1.0,)) if isinstance(rule, DiscrepancyRule) else rule
        shadow = None if rules is None else _Shadow(self, len(rules.rules))
        momentum = _Momentum(self.counted)
        kept: dict[int, torch.Tensor] = {0: path.x}
        count, alpha = iterations, 0.0
        alphas: list[float] = []
        done = 0.0
        for k in range(iterations):
            model = path.model(alpha)
            if rules is not None and shadow is not None:
                if rules.reached(shadow.compare(model, alpha)):
                    count = max(rules.stops(iterations))
                    break
                if any(r.best == k for r in rules.rules):
                    kept[k] = path.x
                best = {r.best for r in rules.rules}
                kept = {at: x for at, x in kept.items() if at in best}
            done = max(done, _fraction(k + 0.5, iterations, rules))
            yield done
            path.advance(model, keep=kept.values())
            alphas.append(alpha)
            alpha = momentum.alpha(path) if accelerate else 0.0
            done = max(done, _fraction(k + 1.0, iterations, rules))
            yield done
        stops = (iterations,) if rules is None else rules.stops(iterations)
        curves = ((), ()) if rules is None else (rules.chi2, rules.freedom)
        schedule = Schedule(
            tuple(alphas[:count]), self._scale(), *curves, stops if len(stops) > 1 else ()
        )
        kept[len(alphas)] = path.x
        if all(stop in kept for stop in stops):
            blended = _Blend(self, schedule.stops)
            for at in sorted(set(stops)):
                blended.take(at, kept[at])
            return blended.or_last(kept[count]), schedule
        # A rule took up another score and went back to an estimate that was not kept.
        again = self.replay(schedule)
        result = yield from relay(again, lambda _, reached=done: reached)  # type: ignore[misc]
        return result, schedule

    def image(self, x: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Return the image in camera units: x on its background, the flux of y kept locally."""
        light = x + (self.camera.background - self.camera.ground)
        if self.haze is not None:
            light.add_(self.haze)
        return (
            keep_flux(light, self._wanted(), self.blur)
            .mul_(schedule.scale)
            .add_(self.camera.ground)
        )

    def _wanted(self) -> torch.Tensor:
        """Return the light above the ground, blurred once more to suppress noise."""
        return self.blur(self.y - self.camera.ground)

    def _scale(self) -> float:
        """Return the factor that restores light where blurred data are negative and cut off."""
        light, kept = (
            exact_mean(self.y) - self.camera.ground,
            exact_mean(self._wanted().clamp_(min=0.0)),
        )
        return light / kept if kept > _TINY and light > 0.0 else 1.0


class _Path:
    """State of an iteration: estimate, previous estimate, extrapolated point; memory is reused."""

    def __init__(self, problem: RichardsonLucy, start: torch.Tensor | None = None) -> None:
        self.problem = problem
        self.x = problem.start() if start is None else start.clone()
        self.previous = self.guess = self.x
        self._between: torch.Tensor | None = None
        self._model: torch.Tensor | None = None

    def model(self, alpha: float) -> torch.Tensor:
        """Extrapolate by alpha and return A p + c, never zero; valid until :meth:`advance`."""
        self.guess = self.x
        if alpha != 0.0:
            self._between = torch.lerp(
                self.previous, self.x, 1.0 + alpha, out=self._between
            ).clamp_(min=_TINY)
            self.guess = self._between
        self._model = self.problem.blur(self.guess, out=self._model)
        self._model.add_(self.problem.camera.pedestal)
        if self.problem.haze is not None:
            self._model.add_(self.problem.haze)
        return self._model.clamp_(min=_TINY)

    def advance(self, model: torch.Tensor, keep: Collection[torch.Tensor] = ()) -> None:
        """Step from the extrapolated point; `model` is overwritten, `keep` is not."""
        problem = self.problem
        used = self.previous is self.x or any(self.previous is x for x in keep)
        free = None if used else self.previous
        update = problem.blur.adjoint(torch.div(problem.data, model, out=model), out=free).mul_(
            self.guess
        )
        if problem.tv_weight > 0.0:
            variation_factor_(
                update, self.guess, problem.tv_weight, problem.smoothing, problem.axis_weights
            )
        self.previous, self.x = self.x, update.clamp_(min=_TINY)


class _Blend:
    """The estimate whose bands of depth come from different iterations."""

    def __init__(self, problem: RichardsonLucy, stops: tuple[int, ...]) -> None:
        self.problem, self.stops = problem, stops
        self._sum: torch.Tensor | None = None

    def take(self, iteration: int, x: torch.Tensor) -> None:
        """Add the bands that stop at this iteration; `x` is not kept."""
        for number, stop in enumerate(self.stops):
            if stop == iteration:
                part = self.problem.band_weight(number).mul_(x)
                self._sum = part if self._sum is None else self._sum.add_(part)

    def or_last(self, x: torch.Tensor) -> torch.Tensor:
        """Return the blend, or `x` where there are no bands."""
        return x if self._sum is None else self._sum.clamp_(min=_TINY)


class _Momentum:
    """How far to extrapolate, from the last two steps in the voxels that count."""

    def __init__(self, counted: torch.Tensor | None) -> None:
        self.counted = counted
        self._last: torch.Tensor | None = None
        self._free: torch.Tensor | None = None
        self._energy = 0.0

    def alpha(self, path: _Path) -> float:
        """<g_k, g_{k-1}> / <g_{k-1}, g_{k-1}>, clipped to [0, 1]; 0 after the first step."""
        step = torch.sub(path.x, path.guess, out=self._free)
        if self.counted is not None:
            step.mul_(self.counted)
        alpha = 0.0
        if self._last is not None and self._energy > 0.0:
            alpha = min(max(_dot(step, self._last) / self._energy, 0.0), 1.0)
        self._free, self._last, self._energy = self._last, step, _dot(step, step)
        return alpha


class _Shadow:
    """The same problem with a little extra noise, run in step to measure the fit's freedom."""

    def __init__(self, problem: RichardsonLucy, bands: int = 1) -> None:
        """Perturb the data by +-5 % of their noise, the same signs on every device."""
        self.problem, self.bands = problem, bands
        variance = problem.blur(problem.data).mul_(problem.camera.gain)
        least = 1e-3 * float(self._counted(variance).mean())
        variance.clamp_(min=max(problem.camera.read_noise**2, least, _TINY))
        signs = torch.randint(
            0, 2, problem.y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32
        )
        noise = signs.mul_(2.0).sub_(1.0).to(problem.y.device)
        if problem.noise_px > 0.0:
            noise = _correlated(noise, problem.noise_px)
        noise.mul_(variance.sqrt())
        self.data, self.variance = problem.data, variance
        self.path = _Path(replace(problem, y=torch.add(problem.y, noise, alpha=_PERTURBATION)))
        self.weight = noise.div_(variance)
        # Variance is brightness times gain: its quantiles are those of the brightness.
        counted = self._counted(variance)
        self.level = max(float(counted.mean()), _TINY)
        self.dark = (variance <= _quantile(counted, 0.3)).float()
        self.bright = (variance >= _quantile(counted, 0.9)).float()
        if problem.counted is not None:
            self.dark.mul_(problem.counted)
            self.bright.mul_(problem.counted)
        self.contrast = _contrast(variance, self.bright, self.dark)
        self.scale = self._scale()

    def _scale(self) -> float:
        """Return how much larger the noise is than predicted, 1 at least, from the first fit."""
        misfit = self.problem.blur(self.problem.start()).add_(self.problem.camera.pedestal)
        if self.problem.haze is not None:
            misfit.add_(self.problem.haze)
        misfit.sub_(self.data).square_().div_(self.variance)
        return max(1.0, _quantile(self._counted(misfit), 0.5) / _MEDIAN_SQUARE)

    def compare(self, model: torch.Tensor, alpha: float) -> tuple[Fit, ...]:
        """Measure how well `model` explains the data of each band, and take one more step."""
        mine = self.path.model(alpha)
        freedom = self._means((mine - model).mul_(self.weight))
        squares = (self.data - model).square_()
        contrast = _contrast(squares, self.bright, self.dark)
        even = self._means((squares / self.level).clamp_(max=_OUTLIER * self.scale))
        squares.div_(self.variance)
        chi2 = self._means(squares.clamp_(max=_OUTLIER * self.scale))
        self.path.advance(mine)
        return tuple(
            Fit(c, f / _PERTURBATION, e, contrast, self.contrast)
            for c, f, e in zip(chi2, freedom, even, strict=True)
        )

    def _counted(self, image: torch.Tensor) -> torch.Tensor:
        """Return the values of the voxels that count."""
        counted = self.problem.counted
        return image if counted is None else image[counted > 0]

    def _means(self, image: torch.Tensor) -> tuple[float, ...]:
        """Return the mean of each band of depth."""
        counted = self.problem.counted
        if self.bands == 1 and counted is None:
            return (float(image.mean()),)
        if self.bands == 1 and counted is not None:
            # Picking the voxels would take longer than an iteration.
            return (float((image * counted).mean()) / max(float(counted.mean()), _TINY),)
        weights = [self.problem.band_weight(number) for number in range(self.bands)]
        if self.problem.counted is not None:
            weights = [weight.mul_(self.problem.counted) for weight in weights]
        return tuple(float((image * w).sum() / w.sum().clamp_(min=_TINY)) for w in weights)


def _correlated(white: torch.Tensor, sigma_px: float) -> torch.Tensor:
    """Return noise whose neighbours in a plane correlate, of the same variance."""
    kernel = gaussian_kernel_1d(sigma_px)
    filtered = Blur.from_axis_kernels([1.0], kernel, kernel)(white)
    return filtered.div_(float((kernel**2).sum()))


def _contrast(squares: torch.Tensor, bright: torch.Tensor, dark: torch.Tensor) -> float:
    """Return the mean of the bright voxels over that of the dark ones, both masks of 0 and 1."""
    over = float((squares * bright).sum() / bright.sum())
    under = float((squares * dark).sum() / dark.sum())
    return over / max(under, _TINY)


def _quantile(image: torch.Tensor, share: float) -> float:
    """Return a quantile of an image, of a million voxels on a regular grid where it has more."""
    flat = image.reshape(-1)
    return float(torch.quantile(flat[:: max(1, flat.numel() // _MAX_SAMPLE)], share))


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a.reshape(-1), b.reshape(-1)))


def _fraction(done: float, most: int, rule: BandRules | None) -> float:
    """Return the fraction of the iterations done, of those the rule expects if there is one."""
    return done / most if rule is None else done / (done + min(rule.expected_left(), most - done))
