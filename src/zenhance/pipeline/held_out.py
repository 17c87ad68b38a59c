"""Held-out photons decide whether learning has helped.

The photons of the measurement are divided at random: most are enhanced, the rest are held out.
A better estimate of the specimen, blurred as the microscope blurs, predicts the held-out photons
better, and noise that a network repeats does not::

    measurement ──► nine tenths of the photons ──► method ──► blurred again ─┐
               └──► one tenth, held out ─────────────────────────────────────┴─► squared error

For Poisson noise the two parts are independent. Of the read noise, both get parts of opposite
sign, so that their covariance is zero as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.forward import blur_result
from zenhance.assess.reblur import psf_in_the_plane
from zenhance.measurement.volume import VolumeReader, measure_noise
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.thinning import grey_of_share, split_photons
from zenhance.pipeline.plan import psf_for
from zenhance.pipeline.request import EnhanceRequest
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = ["HeldOut", "is_better"]

SEEN_SHARE = 0.9
"""Share of the photons that is enhanced."""
# The middle of the stack, so large at most, is tried.
TRIAL_PX = (12, 96, 96)
# Errors are compared in blocks of so many voxels along each axis: neighbours are not independent.
BLOCK_PX = 8

Trial = Callable[[Stack, EnhanceRequest], Generator[Any, None, Any]]


@dataclass(frozen=True)
class HeldOut:
    """A part of the measurement with divided photons, on which weights are compared.

    Parameters
    ----------
    seen : Stack
        With nine tenths of the photons.
    held : float32 array (Z, Y, X)
        The tenth that is held out, in the input's units.
    noise : PoissonGauss
        Of the measurement.
    request : EnhanceRequest
        Of the run.
    """

    seen: Stack
    held: FloatArray
    noise: PoissonGauss
    request: EnhanceRequest

    @classmethod
    def of(cls, stack: Stack, request: EnhanceRequest, statistics: Any) -> HeldOut:
        """Divide the photons in the middle of the stack's first volume.

        Parameters
        ----------
        stack : Stack
            As the request wants it read.
        request : EnhanceRequest
            Of the run.
        statistics : VolumeStatistics
            Of the first volume.
        """
        noise = measure_noise([VolumeReader(stack)], statistics)
        region: dict[str, slice] = {a: slice(0, 1) for a in "TC" if a in stack.axes}
        for axis, most in zip("ZYX", TRIAL_PX, strict=True):
            if axis in stack.axes:
                size = stack.size(axis)
                first = max(0, (size - most) // 2)
                region[axis] = slice(first, min(size, first + most))
        part = stack.crop(region)
        measured = VolumeReader(part).read((slice(None),) * 3)
        kept, rest = split_photons(measured, noise, SEEN_SHARE, request.seed)
        seen = grey_of_share(kept, noise, SEEN_SHARE).reshape(part.shape)
        held = grey_of_share(rest, noise, 1 - SEEN_SHARE)
        return cls(part.with_data(seen), held, noise, request)

    def trial_steps(self, trial: Trial, weights: str | None) -> Generator[Any, None, FloatArray]:
        """Return the squared errors of what a model predicts for the held-out photons.

        Parameters
        ----------
        trial : callable
            Runs a request on a stack in steps.
        weights : str or None
            Name or path of the model; None for those that ship.
        """
        request = self.request.model_copy(
            update={
                "learn_minutes": None,
                "weights": weights,
                "axes": None,
                "voxel_size_um": None,
                "channel": None,
                "crop": None,
                "dtype": "float32",
                "tile_px": None,
            }
        )
        result = yield from trial(self.seen, request)
        image = np.asarray(result.stack.data, np.float32)
        return self.errors(image.reshape(-1, *image.shape[-2:]))

    def errors(self, result: FloatArray | None = None) -> FloatArray:
        """Return squared errors in units of the noise; with no result, those of the seen photons.

        Parameters
        ----------
        result : float32 array (Z, sY, sX), optional
            An estimate of the specimen, in the input's units.
        """
        expected = np.asarray(self.seen.data, np.float32).reshape(self.held.shape)
        if result is not None:
            expected = self._seen_again(result)
        noise = self.noise
        # The weight is the measurement's: one from the estimate would favour estimates with
        # much light.
        photons = np.maximum(np.asarray(self.seen.data, np.float32) - noise.offset, noise.gain)
        variance = noise.gain * photons.reshape(self.held.shape) + noise.read_noise**2
        weight = (1 - SEEN_SHARE) / variance
        return np.asarray(np.square(self.held - expected) * weight, np.float32)

    def _seen_again(self, result: FloatArray) -> FloatArray:
        """Return what a result predicts for the measurement, on its grid."""
        parameters = self.request.parameters()
        psf = psf_for(self.seen, self.request) if parameters.deblurs else None
        if psf is not None and (self.held.shape[0] == 1 or parameters.solved_dimensions == 2):
            psf = psf_in_the_plane(psf)
        z, y, x = (1.0 if v is None else v for v in self.seen.voxel_size.zyx_um)
        fz, fy, fx = (a // b for a, b in zip(result.shape, self.held.shape, strict=True))
        light = result - np.float32(self.noise.offset)
        return blur_result(light, psf, (z, y, x), (fz, fy, fx)) + np.float32(self.noise.offset)


def is_better(errors: FloatArray, before: FloatArray) -> bool:
    """Tell whether errors are smaller than those before, beyond what chance explains.

    Parameters
    ----------
    errors, before : float array (Z, Y, X)
        Squared errors for the same held-out photons.

    Returns
    -------
    bool
        Whether the mean gain exceeds its standard error over blocks of 8 voxels.
    """
    gain = _block_means(np.asarray(before, np.float64) - np.asarray(errors, np.float64))
    if not np.isfinite(gain).all():
        return False
    spread = gain.std(ddof=1) / math.sqrt(gain.size) if gain.size > 1 else 0.0
    return bool(gain.mean() > spread)


def _block_means(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the means of blocks, smaller ones at the end included."""
    for axis in range(values.ndim):
        edges = np.arange(0, values.shape[axis], BLOCK_PX)
        counts = np.diff(np.append(edges, values.shape[axis]))
        shape = [1] * values.ndim
        shape[axis] = -1
        values = np.add.reduceat(values, edges, axis=axis) / counts.reshape(shape)
    return values.ravel()
