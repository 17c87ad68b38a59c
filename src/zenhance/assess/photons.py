"""Photons behind the grey values: counts, their steps and read noise.

A camera gives ``y = gain · N + offset + read noise`` with N photons. This module works on
``(y - offset) / gain``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.small_counts import SPIKE_READ_NOISE
from zenhance.physics.thinning import Camera
from zenhance.types import FloatArray

__all__ = [
    "Camera",
    "Readout",
    "counter_uniform",
    "quantum_photons",
]


def quantum_photons(camera: Camera, dtype: npt.DTypeLike) -> float:
    """Return the step between neighbouring values in photons, 0 where they are continuous.

    Whole grey values are ``1 / gain`` apart; photons are 1 apart as long as read noise does not
    smear them.
    """
    grey = 1.0 / camera.gain if np.dtype(dtype).kind in "bui" else 0.0
    rounding = 1.0 / 12.0 if grey else 0.0
    sigma = max(camera.read_noise**2 - rounding, 0.0) ** 0.5 / camera.gain
    photon = 1.0 if sigma < SPIKE_READ_NOISE else 0.0
    return max(grey, photon)


@dataclass(frozen=True, slots=True)
class Readout:
    """How a camera's grey values of one pixel type read in photons.

    Parameters
    ----------
    gain, offset : float
        Of the camera, grey values.
    read_noise : float
        Standard deviation in photons, without the rounding to grey values.
    quantum : float
        Step between neighbouring values in photons, 0 where they are continuous.
    distinct : bool
        Whether read noise is so small that the photons of a voxel can be counted.
    """

    gain: float
    offset: float
    read_noise: float
    quantum: float
    distinct: bool

    @classmethod
    def of(cls, camera: Camera, dtype: npt.DTypeLike) -> Readout:
        """Describe a camera whose values have this pixel type."""
        # An estimated read noise includes the rounding, which the grey step accounts for.
        rounding = 1.0 / 12.0 if np.dtype(dtype).kind in "bui" else 0.0
        sigma = max(camera.read_noise**2 - rounding, 0.0) ** 0.5 / camera.gain
        distinct = sigma < SPIKE_READ_NOISE
        quantum = quantum_photons(camera, dtype)
        return cls(camera.gain, camera.offset, 0.0 if distinct else sigma, quantum, distinct)

    def photons(self, grey: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return photons of measured grey values; whole and positive where they can be counted."""
        found = (np.asarray(grey, np.float64) - self.offset) / self.gain
        if self.distinct and self.quantum <= 1.0:
            found = np.maximum(np.rint(found), 0.0)
        return found

    def expected(self, grey: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return photons of expected grey values, a little above 0."""
        return np.maximum((np.asarray(grey, np.float64) - self.offset) / self.gain, 1e-3)


def counter_uniform(seed: int, start: int, count: int) -> FloatArray:
    """Return uniform numbers in (0, 1) for the voxels ``start ... start + count``.

    Notes
    -----
    Each depends on seed and index alone (SplitMix64; Steele, Lea & Flood, OOPSLA 2014): any part of
    a volume gets the numbers that the whole volume would have.
    """
    state = np.arange(start, start + count, dtype=np.uint64)
    state += np.uint64((seed * 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return ((state >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23)
