"""The forward process: blur and noise grow with the timestep, from specimen to measurement.

    x_t = B_t x_0 + s(t) sqrt(c + (1 - c) max(B_t x_0, 0)) n,      n ~ N(0, 1),   B_0 = 1, s(0) = 0

B_t is a Gaussian blur of :func:`~zenhance.methods.diffusion.noise_schedule.sigma_at` pixels, s the
noise at intensity 1, and c the share of its variance that does not depend on light; the rest is
photon noise. Intensities are scaled: background 0, brightest 1. At t = 0, x_0 is exactly the
specimen.
"""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from zenhance.methods.diffusion.noise_schedule import Timestep
from zenhance.physics.blur import Blur
from zenhance.physics.psf_base import gaussian_kernel_1d

__all__ = ["blurred", "degraded", "moved", "noise_of", "noise_sd"]

# Smallest noise, relative to intensity 1, that a residual can show; larger residuals than so many
# standard deviations are not noise.
_LEAST_SD = 1e-4
_MOST_SIGMAS = 5.0
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
        _LEAST_SD * max(timestep.t, 1e-6)
    )
    return normal.clamp_(-_MOST_SIGMAS, _MOST_SIGMAS)


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
