"""Held-out photons decide whether learning has helped.

The photons of the measurement are divided at random: most are enhanced, the rest are held out.
A better estimate of the specimen, blurred as the microscope blurs, predicts the held-out photons
better, and noise that a network repeats does not::

    measurement ──► three quarters of the photons ──► method ──► blurred again ─┐
               └──► a quarter, held out ────────────────────────────────────────┴─► squared error

A model that only shifts or scales intensities predicts better or worse, too, which hides what it
does to structure. Both predictions are therefore compared after the best scale and background of
each. For Poisson noise the two parts are independent. Of the read noise, both get parts of opposite
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
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure_noise
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.thinning import grey_of_share, split_photons
from zenhance.pipeline.plan import psf_for
from zenhance.pipeline.request import EnhanceRequest
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = ["Errors", "HeldOut", "is_better"]

SEEN_SHARE = 0.75
"""Share of the photons that is enhanced."""
MIN_DEVIATIONS = 3.0
"""How many standard errors a gain must have to be believed."""
# The middle of the stack, so large at most, is tried.
TRIAL_PX = (12, 96, 96)
# Errors are compared in blocks of so many voxels along each axis: neighbours are not independent.
BLOCK_PX = 8

Floats = npt.NDArray[np.float64]
Trial = Callable[[Stack, EnhanceRequest], Generator[Any, None, Any]]


@dataclass(frozen=True)
class Errors:
    """Squared errors of a prediction of the held-out photons, in units of their noise.

    Parameters
    ----------
    plain : float32 array (Z, Y, X)
        Of the prediction as it is.
    calibrated : float32 array (Z, Y, X)
        After the scale and background with which it predicts best.
    """

    plain: FloatArray
    calibrated: FloatArray

    @property
    def mean(self) -> float:
        """Mean calibrated error."""
        return float(self.calibrated.mean())


@dataclass(frozen=True)
class HeldOut:
    """A part of the measurement with divided photons, on which weights are compared.

    Parameters
    ----------
    seen : Stack
        With three quarters of the photons.
    held : float32 array (Z, Y, X)
        The quarter that is held out, in the input's units.
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

    def trial_steps(self, trial: Trial, weights: str | None) -> Generator[Any, None, Errors]:
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
                "arbitrate": False,
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

    def errors(self, result: FloatArray | None = None) -> Errors:
        """Return the errors of a result; with none, those of the seen photons.

        Parameters
        ----------
        result : float32 array (Z, sY, sX), optional
            An estimate of the specimen, in the input's units.
        """
        seen = np.asarray(self.seen.data, np.float64).reshape(self.held.shape)
        expected = seen if result is None else np.asarray(self._seen_again(result), np.float64)
        noise = self.noise
        # The weight is the measurement's: one from the estimate would favour estimates with
        # much light.
        light = np.maximum(seen - noise.offset, noise.gain)
        weight = (1 - SEEN_SHARE) / (noise.gain * light + noise.read_noise**2)
        held = np.asarray(self.held, np.float64)
        plain, calibrated = (
            np.asarray(np.square(held - prediction) * weight, np.float32)
            for prediction in (expected, _calibrated(expected, held, weight))
        )
        return Errors(plain, calibrated)

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


def _calibrated(expected: Floats, held: Floats, weight: Floats) -> Floats:
    """Return a prediction after the scale and background that fit the held-out photons best."""
    total = weight.sum()
    middle, mean = (float((weight * image).sum() / total) for image in (expected, held))
    spread = float((weight * np.square(expected - middle)).sum())
    slope = float((weight * (expected - middle) * (held - mean)).sum()) / spread if spread else 0.0
    return np.asarray(mean + slope * (expected - middle))


def is_better(errors: Errors, before: Errors) -> bool:
    """Tell whether errors are smaller than those before, beyond what chance explains.

    Returns
    -------
    bool
        Whether the mean gain over blocks of 8 voxels exceeds three standard errors after
        calibration, and no loss does without it.
    """
    gained = _deviations(before.calibrated, errors.calibrated)
    plain = _deviations(before.plain, errors.plain)
    return bool(gained > MIN_DEVIATIONS and plain > -MIN_DEVIATIONS)


def _deviations(before: FloatArray, errors: FloatArray) -> float:
    """Return the mean gain in standard errors over blocks; NaN where it is undefined."""
    gain = _block_means(np.asarray(before, np.float64) - np.asarray(errors, np.float64))
    if gain.size < 2 or not np.isfinite(gain).all():
        return math.nan
    spread = float(gain.std(ddof=1)) / math.sqrt(gain.size)
    return float(gain.mean()) / spread if spread > 0.0 else 0.0


def _block_means(values: Floats) -> Floats:
    """Return the means of blocks, smaller ones at the end included."""
    for axis in range(values.ndim):
        edges = np.arange(0, values.shape[axis], BLOCK_PX)
        counts = np.diff(np.append(edges, values.shape[axis]))
        shape = [1] * values.ndim
        shape[axis] = -1
        values = np.add.reduceat(values, edges, axis=axis) / counts.reshape(shape)
    return values.ravel()
