"""The forward process: blur and noise grow with the timestep, from specimen to measurement.

    x_t = B_t x_0 + s(t) sqrt(c + (1 - c) max(B_t x_0, 0)) n,      n ~ N(0, 1),   B_0 = 1, s(0) = 0

B_t is a Gaussian blur of :func:`sigma_at` pixels, s the
noise at intensity 1, and c the share of its variance that does not depend on light; the rest is
photon noise. Intensities are scaled: background 0, brightest 1. At t = 0, x_0 is exactly the
specimen.

::

    t    0                     0.3            0.5        0.7        0.87      1
    σ    0 px (the specimen)   0.58           1.3        2.5        4.2       6 px
    s    0                     0.3 r          0.5 r      0.7 r      ...       r at intensity 1

    σ(t) = σ0 ((1 + σ_max / σ0)^t - 1),  σ0 = 0.5 px, σ_max = 6 px
    s(t) = r t                           standard deviation of the noise at intensity 1

Blur grows by nearly equal steps below one pixel and by equal ratios above. Its schedule is the same
for all images. The noise is not: each image has its own noise ratio ``r``, at most 1. Its timestep
is the first at which the schedule is as blurred as the image and can be as noisy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import Tensor

from zenhance.errors import MethodError
from zenhance.physics.blur import Blur
from zenhance.physics.psf_base import gaussian_kernel_1d
from zenhance.types import FloatTriple

__all__ = [
    "FLOOR_PX",
    "MAX_SIGMA_PX",
    "MIN_NOISE_RATIO",
    "STEPS",
    "Timestep",
    "blurred",
    "degraded",
    "match_timestep",
    "moved",
    "noise_of",
    "noise_sd",
    "sigma_at",
    "timestep_of_sigma",
]

STEPS = 100
"""Discrete timesteps are hundredths."""
FLOOR_PX = 0.5
MAX_SIGMA_PX = 6.0
MIN_NOISE_RATIO = 0.01
_MIN_CONSTANT = 0.05
# Below this an image counts as sharp and clean.
_MIN_TIMESTEP = 1.0 / STEPS


def sigma_at(t: float) -> float:
    """Return the standard deviation of the blur along y and x, in pixels, at a timestep."""
    return float(FLOOR_PX * ((1.0 + MAX_SIGMA_PX / FLOOR_PX) ** t - 1.0))


def timestep_of_sigma(sigma_px: float) -> float:
    """Return the timestep of a blur, at most 1; the inverse of :func:`sigma_at`."""
    return min(1.0, math.log1p(max(sigma_px, 0.0) / FLOOR_PX) / math.log1p(MAX_SIGMA_PX / FLOOR_PX))


@dataclass(frozen=True, slots=True)
class Timestep:
    """Position of an image between specimen and measurement, and its own blur and noise.

    Parameters
    ----------
    t : float
        0 is the specimen, 1 beyond the worst stack.
    ratio : float
        r: standard deviation of the noise at intensity 1, per t; 0.01 ... 1.
    constant : float
        Share of the noise's variance at intensity 1 that does not depend on light, 0 ... 1.
    shape : tuple of float
        Blur along z, y, x relative to :func:`sigma_at`; z is 0 where each plane is separate.
    """

    t: float
    ratio: float
    constant: float = 0.5
    shape: FloatTriple = (0.0, 1.0, 1.0)

    @property
    def sigma_px(self) -> FloatTriple:
        """Standard deviation of the blur along z, y, x."""
        sigma = sigma_at(self.t)
        return (sigma * self.shape[0], sigma * self.shape[1], sigma * self.shape[2])

    @property
    def noise(self) -> float:
        """s: standard deviation of the noise at intensity 1."""
        return self.ratio * self.t

    def at(self, t: float) -> Timestep:
        """Return another timestep of the same process."""
        return replace(self, t=t)

    def started_at(self, t: float) -> Timestep:
        """Return the process that has the same noise at another timestep ``t``."""
        return replace(self, t=t, ratio=min(1.0, max(MIN_NOISE_RATIO, self.noise / t)))


def match_timestep(sigma_px: FloatTriple, noise: float, constant: float = 0.5) -> Timestep:
    """Return the timestep of an image.

    Parameters
    ----------
    sigma_px : tuple of float
        Standard deviation of its blur along z, y, x; 0 along z where each plane is separate.
    noise : float
        Standard deviation of its noise at intensity 1 (background 0).
    constant : float
        Share of that noise's variance that does not depend on light, 0 ... 1.

    Raises
    ------
    MethodError
        A number is negative or not finite.

    Notes
    -----
    t = max(t_blur, noise), at most 1; t_blur is the timestep of the geometric mean blur along
    y and x. If the noise decides, the image is less blurred than its timestep; if the blur exceeds
    the schedule, it is more blurred. At least 5 % of the noise's variance counts as constant, so
    that dark signal is never a thousandfold of its noise.
    """
    if not all(math.isfinite(v) and v >= 0 for v in (*sigma_px, noise, constant)):
        raise MethodError(
            f"a blur of {sigma_px} px with noise {noise:g} has no timestep; "
            "both must be finite and 0 or more"
        )
    z, y, x = sigma_px
    plane = math.sqrt(y * x)
    t = min(1.0, max(timestep_of_sigma(plane), noise, _MIN_TIMESTEP))
    ratio = min(1.0, max(MIN_NOISE_RATIO, noise / t))
    shape = (z / plane, y / plane, x / plane) if plane > 1e-3 else (0.0, 1.0, 1.0)
    return Timestep(t, ratio, min(1.0, max(_MIN_CONSTANT, constant)), shape)


# Smallest noise, relative to intensity 1, that a residual can show; larger residuals than so many
# standard deviations are not noise.
_MIN_SD = 1e-4
_MAX_SIGMAS = 5.0
_SAME_PX = 1e-3


@lru_cache(maxsize=512)
def _blur(z: float, y: float, x: float) -> Blur:
    return Blur.from_axis_kernels(*(gaussian_kernel_1d(sigma) for sigma in (z, y, x)))


def blurred(x: Tensor, timestep: Timestep) -> Tensor:
    """Return B_t x for float32 images (..., Z, Y, X); the image itself at timestep 0."""
    z, y, x_ = (round(sigma / _SAME_PX) * _SAME_PX for sigma in timestep.sigma_px)
    return x if max(z, y, x_) == 0.0 else _blur(z, y, x_)(x)


def noise_sd(expected: Tensor, timestep: Timestep) -> Tensor:
    """Return the standard deviation of the noise of expected light; 0 at timestep 0."""
    return (
        timestep.noise
        * (timestep.constant + (1.0 - timestep.constant) * expected.clamp_min(0.0)).sqrt()
    )


def degraded(specimen: Tensor, timestep: Timestep, normal: Tensor) -> Tensor:
    """Return x_t: the specimen at a timestep.

    Parameters
    ----------
    specimen : Tensor (..., Z, Y, X)
        x_0, float32, scaled.
    timestep : Timestep
        Of the result.
    normal : Tensor
        n, of the same shape.
    """
    expected = blurred(specimen, timestep)
    return expected if timestep.noise == 0.0 else expected + noise_sd(expected, timestep) * normal


def noise_of(state: Tensor, specimen: Tensor, timestep: Timestep) -> Tensor:
    """Return the noise n of a state: the inverse of :func:`degraded`, clipped to ±5."""
    expected = blurred(specimen, timestep)
    normal = (state - expected) / noise_sd(expected, timestep).clamp_min(
        _MIN_SD * max(timestep.t, 1e-6)
    )
    return normal.clamp_(-_MAX_SIGMAS, _MAX_SIGMAS)


def moved(
    state: Tensor,
    specimen: Tensor,
    timestep: Timestep,
    to: float,
    fresh: Tensor | None = None,
    share: float = 0.0,
) -> Tensor:
    """Move a state to another timestep, given an estimate of the specimen.

    Parameters
    ----------
    state : Tensor (..., Z, Y, X)
        x_t at ``timestep``.
    specimen : Tensor
        Estimate of x_0.
    timestep : Timestep
        Of the state.
    to : float
        The timestep to go to; 0 gives the specimen.
    fresh : Tensor, optional
        Standard normal numbers of the same shape.
    share : float
        Share of the noise's variance that is drawn again, 0 ... 1; needs ``fresh``.

    Notes
    -----
    Algorithm 2 of Bansal et al. (Cold diffusion, 2022), ``x_t - D(x_0, t) + D(x_0, s)``, where D
    includes the noise of the state.
    """
    if to == 0.0:
        return specimen
    normal = noise_of(state, specimen, timestep)
    if fresh is not None and share > 0.0:
        normal = (1.0 - share) ** 0.5 * normal + share**0.5 * fresh
    return degraded(specimen, timestep.at(to), normal)
