"""Data consistency: move a network's estimate towards the measurement.

Without it, a network drifts from the measurement, most where its training data are sparse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

from zenhance.contract.spec import MethodContext, PsfLike
from zenhance.physics.blur import Blur, BlurOperator, PsfKernels
from zenhance.solvers.schedule import CameraModel
from zenhance.types import Triple

__all__ = ["DataConsistency", "data_consistency_of", "data_consistency_step"]

# Bounds for a volume: the largest shift below the background, in spans of its intensities, and the
# share of its mean light that every voxel keeps.
MAX_PEDESTAL = 30.0
MIN_LIGHT = 1e-3

_TINY = 1e-30
_LARGEST_RATIO = 10.0
"""Bounds the correction where hardly any light was expected."""


def data_consistency_step(
    estimate: torch.Tensor,
    measured: torch.Tensor,
    blur: BlurOperator,
    shift: float,
    least: float,
    strength: float,
    background: float | None = None,
) -> torch.Tensor:
    """Take one damped Richardson-Lucy step from an estimate towards the measurement.

    .. math:: x' = x \\left( A^T \\min\\left(\\frac{y}{A x}, 10\\right) \\right)^s

    Parameters
    ----------
    estimate : Tensor
        float32 (Z, Y, X), in the camera's grey values; x is the part above the shift, at least
        ``least``. The background therefore counts as light: a background that is too high would cut
        off dim structures.
    measured : Tensor
        Of the same shape, in grey values; y is the part above the shift, at least 0.
    blur : Blur
        A.
    shift : float
        Grey value above which the measurement varies like photons (``CameraModel.shift``).
    least : float
        Light that every voxel keeps, so that light the network left out can return; the same for
        all tiles of a volume.
    strength : float
        s: 0 changes nothing, 1 is the whole step (Richardson, J. Opt. Soc. Am. 62:55, 1972; Lucy,
        Astron. J. 79:745, 1974).
    background : float, optional
        Grey value of the background, if it is well known: x is then only the light above it, so
        dark regions stay dark, and the expected measurement is A x plus the background.

    Returns
    -------
    Tensor
        x' in grey values.
    """
    if background is not None:
        light = (estimate - background).clamp_min_(0.0)
        expected = blur(light).add_(background - shift).clamp_min_(max(least, _TINY))
        ratio = (measured - shift).clamp_min_(0.0).div_(expected).clamp_max_(_LARGEST_RATIO)
        return light.mul_(blur.adjoint(ratio).clamp_min_(_TINY).pow_(strength)).add_(background)
    light = (estimate - shift).clamp_min_(least)
    ratio = (
        (measured - shift)
        .clamp_min_(0.0)
        .div_(blur(light).clamp_min_(_TINY))
        .clamp_max_(_LARGEST_RATIO)
    )
    step = blur.adjoint(ratio).clamp_min_(_TINY).pow_(strength)
    return light.mul_(step).add_(shift)


@dataclass(frozen=True)
class DataConsistency:
    """The step for the tiles of one volume; see :func:`data_consistency_step` for the fields."""

    psf: PsfLike
    voxel_size_um: tuple[float, float, float]
    shift: float
    least: float
    strength: float
    background: float | None = None

    def __call__(
        self,
        estimate: torch.Tensor,
        measured: torch.Tensor,
        blur: BlurOperator | None = None,
    ) -> torch.Tensor:
        """Return the tile (Z, Y, X) after the step, in grey values; `blur` stands for the PSF's."""
        shape = (measured.shape[0], measured.shape[1], measured.shape[2])
        if blur is None:
            blur = Blur.from_psf(
                cast(PsfKernels, self.psf), self.voxel_size_um, shape, str(measured.device)
            )
        return data_consistency_step(
            estimate, measured, blur, self.shift, self.least, self.strength, self.background
        )

    @property
    def radius_px(self) -> Triple:
        """Receptive field: the PSF's radius forward and back."""
        z, y, x = self.psf.radius_px(self.voxel_size_um)
        return (2 * z, 2 * y, 2 * x)


def data_consistency_of(
    context: MethodContext, strength: float, *, dark_stays_dark: bool = False
) -> DataConsistency | None:
    """Return the step for a volume; None if the strength is 0 or the PSF or noise is unknown.

    Parameters
    ----------
    context : MethodContext
        The volume.
    strength : float
        s of :func:`data_consistency_step`.
    dark_stays_dark : bool
        Take the background as known, so that dark voxels gain no light.
    """
    if not strength or context.psf is None or context.noise is None:
        return None
    noise, known = context.noise, context.statistics
    camera = CameraModel(known.background, noise.gain, noise.offset, noise.read_noise)
    # Where read noise far outweighs the light, a larger shift changes only the rounding.
    shift = max(camera.shift, known.background - MAX_PEDESTAL * max(known.span, 1e-6))
    least = MIN_LIGHT * max(known.mean - shift, 1e-6)
    background = known.background if dark_stays_dark else None
    return DataConsistency(context.psf, context.voxel_size_um, shift, least, strength, background)
