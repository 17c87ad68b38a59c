"""Bring an estimate closer to what was measured: a network that never asks drifts away from it, most where it has seen little."""

from __future__ import annotations

import torch

from zenhance.physics.blur import Blur

__all__ = ["agreed"]

_TINY = 1e-30
_LARGEST_RATIO = 10.0
"""Bounds the correction where hardly any light was expected."""


def agreed(estimate: torch.Tensor, measured: torch.Tensor, blur: Blur, shift: float, least: float, strength: float) -> torch.Tensor:
    """Take one damped Richardson-Lucy step from an estimate towards the measurement.

    .. math:: x' = x \\left( A^T \\min\\left(\\frac{y}{A x}, 10\\right) \\right)^s

    Parameters
    ----------
    estimate : Tensor
        float32 (Z, Y, X), in the camera's grey values; x is what lies above the shift, at least ``least``. So the background
        counts as light: one that was taken for too high would cut off what is dim.
    measured : Tensor
        Of the same shape, in grey values; y is what lies above the shift, at least 0.
    blur : Blur
        A.
    shift : float
        Grey value above which the measurement varies like photons (``CameraModel.shift``).
    least : float
        Light that every voxel keeps, so that what the network has left out altogether can come back; the same for all tiles of a volume.
    strength : float
        s: 0 changes nothing, 1 is the whole step (Richardson, J. Opt. Soc. Am. 62:55, 1972; Lucy, Astron. J. 79:745, 1974).

    Returns
    -------
    Tensor
        x' in grey values.
    """
    light = (estimate - shift).clamp_min_(least)
    ratio = (measured - shift).clamp_min_(0.0).div_(blur(light).clamp_min_(_TINY)).clamp_max_(_LARGEST_RATIO)
    step = blur.adjoint(ratio).clamp_min_(_TINY).pow_(strength)
    return light.mul_(step).add_(shift)
