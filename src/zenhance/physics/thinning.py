"""Thinning: the photons of a measurement divided at random into independent shares.

A camera gives ``y = gain · N + offset + read noise`` with N photons. Each photon goes to the kept
share with one probability; what is left is held out::

    measurement ──► kept share       e.g. 9 of 10 photons: what a method sees
               └──► held-out share   e.g. 1 of 10: what its result has to predict

The draw of a voxel depends on the seed and its place in the volume alone, so that a tile is divided
as the whole volume is.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from zenhance.physics.noise import PoissonGauss
from zenhance.physics.noise_field import noise_field
from zenhance.types import FloatArray, Triple

__all__ = ["Camera", "camera_of_share", "grey_of_share", "split_photons"]

TABLE_PHOTONS = 255
"""Up to so many photons the binomial draw is exact; beyond, by the Cornish-Fisher expansion."""
_WHOLE = 1e-3
"""Counts this close to a whole number are that number, computed in float32."""
_STREAM = 0x7417
"""Of the random numbers, so that no method draws the same."""

Float64Array = npt.NDArray[np.float64]


class Camera(Protocol):
    """The numbers of a camera; ``physics.noise.PoissonGauss`` is one."""

    @property
    def gain(self) -> float:
        """Grey values per photon."""

    @property
    def offset(self) -> float:
        """Grey value without light."""

    @property
    def read_noise(self) -> float:
        """Standard deviation of the read-out in grey values."""


def split_photons(
    measured: npt.NDArray[Any],
    camera: Camera,
    share: float = 0.5,
    seed: int = 0,
    origin_px: Triple = (0, 0, 0),
) -> tuple[FloatArray, FloatArray]:
    """Split a measurement into two independent ones by sending each photon to either.

    Use it on raw data only: an averaged, filtered or restored image has no photons left to split.

    Parameters
    ----------
    measured : array (Z, Y, X)
        Grey values as measured: a volume, or a region of it.
    camera : Camera
        Gain, offset and read noise in grey values.
    share : float
        Probability of a photon to go to the first part, between 0 and 1.
    seed : int
        Of the draw, at least 0.
    origin_px : tuple of int
        First voxel (z, y, x) of the region in its volume.

    Returns
    -------
    tuple of float32 array (Z, Y, X)
        Photons of either part, without the offset. Their sum is ``(measured - offset) / gain``.

    Notes
    -----
    Of p = (y - offset) / gain, the m = floor(p) whole photons are thinned binomially, and the rest
    r = p - m is divided by the shares s and 1 - s. Noise ξ of variance s (1 - s) (σ² + r), added to
    one part and subtracted from the other, with σ² the variance of read noise and rounding, makes
    the parts uncorrelated: given p, they have the mean s p and the variance s (1 - s) (p + σ²).
    """
    first = np.empty(measured.shape, np.float32)
    second = np.empty(measured.shape, np.float32)
    variance = _added_variance(camera, measured.dtype)
    z0, y0, x0 = origin_px
    for z, plane in enumerate(measured):
        photons = (plane.astype(np.float64) - camera.offset) / camera.gain
        whole = np.floor(np.maximum(photons, 0.0) + _WHOLE)
        rest = photons - whole
        one, two = noise_field(seed, _STREAM, 0, 2, (z0 + z, y0, x0), (1, *plane.shape))[0]
        fewer = _binomial(whole.astype(np.int64), min(share, 1 - share), one)
        taken = (fewer if share <= 0.5 else whole - fewer) + share * rest
        spread = np.maximum(variance + rest, 0.0)
        spread[(np.abs(rest) <= _WHOLE) & (variance == 0.0)] = 0.0
        taken += np.sqrt(share * (1 - share) * spread) * two
        first[z], second[z] = taken, photons - taken
    return first, second


def _added_variance(camera: Camera, dtype: np.dtype[Any]) -> float:
    """Return the variance, in photons², beyond photon noise: read noise and rounding."""
    rounding = 1 / 12 if dtype.kind in "bui" and camera.gain < 1.0 else 0.0
    return max(camera.read_noise**2, rounding) / camera.gain**2


def grey_of_share(photons: FloatArray, camera: Camera, share: float) -> FloatArray:
    """Return a share's photons as grey values of the whole measurement's brightness."""
    return np.asarray(photons * (camera.gain / share) + camera.offset, np.float32)


def camera_of_share(camera: Camera, share: float) -> PoissonGauss:
    """Return the camera that would have measured what :func:`grey_of_share` returns."""
    return PoissonGauss(camera.gain / share, camera.offset, camera.read_noise / math.sqrt(share))


def _binomial(trials: npt.NDArray[np.int64], share: float, normal: FloatArray) -> Float64Array:
    """Return binomial draws, one for each standard normal number, by the inverse distribution."""
    drawn = np.empty(trials.shape, np.float64)
    many = trials > TABLE_PHOTONS
    n = trials[many].astype(np.float64)
    drawn[many] = np.clip(np.rint(_cornish_fisher(n, share, normal[many])), 0.0, n)
    few, uniform = trials[~many].astype(np.uint8), ndtr(normal[~many].astype(np.float64))
    # Voxels of equally many photons have one table.
    order = np.argsort(few, kind="stable")
    ends = np.searchsorted(few[order], np.arange(TABLE_PHOTONS + 1), side="right")
    found = np.zeros(few.shape, np.float64)
    for photons in np.unique(few):
        place = order[ends[photons - 1] if photons else 0 : ends[photons]]
        found[place] = np.searchsorted(_distribution(int(photons), share), uniform[place])
    drawn[~many] = found
    return drawn


@lru_cache(maxsize=4 * (TABLE_PHOTONS + 1))
def _distribution(trials: int, share: float) -> Float64Array:
    """Return the probabilities of at most 0, 1, ... ``trials - 1`` successes."""
    from scipy.stats import binom

    return np.asarray(binom.cdf(np.arange(trials), trials, share), np.float64)


def _cornish_fisher(n: Float64Array, share: float, normal: FloatArray) -> Float64Array:
    """Return quantiles of the binomial distribution (Cornish & Fisher 1938, RISI 5:307)."""
    # Rounding to whole numbers adds 1/12 to the variance.
    variance = n * share * (1 - share) - 1 / 12
    z = normal.astype(np.float64)
    skew = (1 - 2 * share) / np.sqrt(variance)
    excess = (1 - 6 * share * (1 - share)) / variance
    bent = z + skew * (z**2 - 1) / 6 + excess * (z**3 - 3 * z) / 24
    bent -= skew**2 * (2 * z**3 - 5 * z) / 36
    return np.asarray(n * share + np.sqrt(variance) * bent)
