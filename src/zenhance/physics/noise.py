"""Noise of a photon-counting microscope: photon noise, gain, offset, Gaussian read noise.

    y = gain * Poisson(x) + offset + Normal(0, read_noise^2)
    variance(y) = gain * (mean(y) - offset) + read_noise^2

y, offset and read noise are in grey values of the image, x in photons, gain in grey values per
photon. Rounding to whole grey values adds 1/12 to the variance; it counts as read noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from zenhance.errors import MethodError, StackError
from zenhance.physics.noise_blocks import Blocks, measure_blocks
from zenhance.physics.noise_estimate import background_level, fit_camera
from zenhance.types import FloatArray

__all__ = ["PoissonGauss", "estimate", "estimate_background"]


@dataclass(frozen=True, slots=True)
class PoissonGauss:
    """Photon noise and read noise of a detector.

    Parameters
    ----------
    gain : float
        Grey values per photon, more than 0.
    offset : float
        Grey value without light.
    read_noise : float
        Standard deviation in grey values, 0 or more.

    Raises
    ------
    MethodError
        A number is out of range or not finite.
    """

    gain: float
    offset: float = 0.0
    read_noise: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain > 0.0):
            raise MethodError(
                f"the gain is {self.gain:g} grey values per photon, allowed is more than 0; "
                "1 means the image counts photons"
            )
        if not math.isfinite(self.offset):
            raise MethodError(
                f"the offset is {self.offset:g}, allowed is any finite grey value; "
                "give the one seen without light"
            )
        if not (math.isfinite(self.read_noise) and self.read_noise >= 0.0):
            raise MethodError(
                f"the read noise is {self.read_noise:g} grey values, allowed is 0 or more; "
                "give its standard deviation"
            )

    def variance(self, mean: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the variance of voxels whose expected grey value is ``mean`` (any shape)."""
        light = np.clip(np.asarray(mean, dtype=np.float64) - self.offset, 0.0, None)
        return np.asarray(self.gain * light + self.read_noise**2)

    def sample(self, photons: npt.ArrayLike, rng: np.random.Generator | int) -> FloatArray:
        """Take a picture.

        Parameters
        ----------
        photons : array-like
            Expected photons per voxel, any shape, 0 or more.
        rng : numpy.random.Generator or int
            A seed draws from numpy's Philox counter, the same on every machine.

        Returns
        -------
        ndarray of float32
            Grey values, neither rounded nor clipped.

        Raises
        ------
        StackError
            A number of photons is negative or not finite.
        """
        generator = (
            rng
            if isinstance(rng, np.random.Generator)
            else np.random.Generator(np.random.Philox(rng))
        )
        expected = np.asarray(photons, dtype=np.float64)
        if expected.size and not (np.isfinite(expected).all() and expected.min() >= 0.0):
            raise StackError(
                "expected photons must be finite and 0 or more everywhere; "
                "clip the specimen before taking its picture"
            )
        grey = self.gain * generator.poisson(expected) + self.offset
        if self.read_noise > 0.0:
            grey = grey + generator.normal(0.0, self.read_noise, size=expected.shape)
        return np.asarray(grey, dtype=np.float32)

    def log_likelihood(self, y: npt.ArrayLike, mean: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the log of the probability density of each grey value, given the expected ones.

        Parameters
        ----------
        y, mean : array-like
            Measured and expected grey values, of shapes that broadcast.

        Returns
        -------
        ndarray of float64
            One a voxel; the sum is the image's log-likelihood. -inf where a grey value is
            impossible.

        Notes
        -----
        Shifted Poisson: with s = (read_noise / gain)^2, (y - offset) / gain + s is taken to be
        Poisson with mean (mean - offset) / gain + s. Mean and variance are right, and without read
        noise it is exact (D. L. Snyder et al., J. Opt. Soc. Am. A 12, 272 (1995)). With read noise
        it is off by less than 0.1 within two standard deviations. Beyond 1e6 photons it uses the
        normal density, which does not differ there.
        """
        shift = (self.read_noise / self.gain) ** 2
        counts = (np.asarray(y, dtype=np.float64) - self.offset) / self.gain + shift
        rate = (
            np.clip((np.asarray(mean, dtype=np.float64) - self.offset) / self.gain, 0.0, None)
            + shift
        )
        counts, rate = np.broadcast_arrays(counts, rate)
        safe = np.maximum(rate, 1e-300)
        with np.errstate(over="ignore", invalid="ignore"):
            poisson = counts * np.log(safe) - rate - gammaln(np.maximum(counts, 0.0) + 1.0)
            normal = -0.5 * ((counts - rate) ** 2 / safe + np.log(2.0 * math.pi * safe))
        likelihood = np.where(rate > 1e6, normal, poisson)
        # Without light and without read noise nothing but zero counts can be seen.
        likelihood = np.where((rate <= 0.0) & (counts == 0.0), 0.0, likelihood)
        impossible = (rate <= 1e6) & ((counts < 0.0) | ((rate <= 0.0) & (counts > 0.0)))
        return np.asarray(np.where(impossible, -np.inf, likelihood) - math.log(self.gain))


def estimate_background(volume: npt.NDArray[Any] | Blocks) -> float:
    """Return the grey value where there is no specimen: camera offset and stray light.

    Parameters
    ----------
    volume : ndarray (Z, Y, X) or (Y, X), or Blocks
        Planes may be taken out of a longer stack: each is measured on its own.

    Returns
    -------
    float
        The level at which the darkest blocks of 8 x 8 pixels crowd together. In an image full of
        specimen, the offset that the noise points to, at most the darkest percent of the blocks.
    """
    return background_level(_blocks_of(volume))


def estimate(volume: npt.NDArray[Any] | Blocks, offset: float | None = None) -> PoissonGauss:
    """Measure gain, offset and read noise on one image.

    Parameters
    ----------
    volume : ndarray (Z, Y, X) or (Y, X), or Blocks
        Grey values as recorded; each plane is measured on its own. Smoothed or denoised images
        give too small a noise.
    offset : float, optional
        Grey value without light, where known; left out, it is the background's level.

    Returns
    -------
    PoissonGauss
        Always finite, gain above 0. Where the image shows no noise, the gain stands for 10,000
        photons in the brightest structures.

    Notes
    -----
    A second difference along y and x (J. Immerkaer, Comput. Vis. Image Underst. 64, 300 (1996))
    passes white noise and hardly any structure that the microscope has blurred. Its variance in the
    flattest blocks of like brightness is a straight line over brightness: slope = gain, height at
    the offset = read_noise^2 (A. Foi et al., IEEE Trans. Image Process. 17, 1737 (2008)). Blocks
    with saturated voxels, cut off at the lowest value, or without data (padding, NaN) do not count.
    """
    fit = fit_camera(_blocks_of(volume), offset)
    level = fit.background.value if offset is None else float(offset)
    variance = fit.intercept + fit.slope * level
    return PoissonGauss(gain=fit.gain.value, offset=level, read_noise=math.sqrt(max(variance, 0.0)))


def _blocks_of(volume: npt.NDArray[Any] | Blocks) -> Blocks:
    return volume if isinstance(volume, Blocks) else measure_blocks(volume)
