"""Total variation: the factor that calms noise in a step of Richardson-Lucy."""

from __future__ import annotations

import torch

__all__ = ["variation_factor_"]

_LARGEST_CHANGE = 0.5
"""The divisor stays within 1 +- this: the iteration stays positive and stable at any weight."""


def variation_factor_(
    update: torch.Tensor,
    guess: torch.Tensor,
    weight: float,
    smoothing: float,
    axis_weights: tuple[float, float, float],
) -> torch.Tensor:
    """Divide `update` in place by ``1 - weight * div(grad x / |grad x|)`` taken at x = `guess`.

    Parameters
    ----------
    update, guess : Tensor
        float32 (..., Z, Y, X).
    weight : float
        lambda; 0.001 to 0.05 is usual.
    smoothing : float
        Gradients below this (intensity per pixel) count as flat, which makes the factor
        differentiable.
    axis_weights : tuple of float
        Factor of the difference along (z, y, x) for voxels that are not cubes; 0 leaves an axis
        out.

    Notes
    -----
    Forward differences with a zero normal gradient at the border, and their exact adjoint. Source:
    Dey et al. 2006 (Microsc. Res. Tech. 69:260); the smoothed norm and the bound on the divisor are
    ours.
    """
    axes = [
        (axis, w)
        for axis, w in zip((-3, -2, -1), axis_weights, strict=True)
        if w > 0.0 and guess.shape[axis] > 1
    ]
    norm = torch.full_like(guess, smoothing**2)
    steps = []
    for axis, axis_weight in axes:
        step = torch.diff(guess, dim=axis).mul_(axis_weight)
        norm.narrow(axis, 0, step.shape[axis]).addcmul_(step, step)
        steps.append(step)
    norm.sqrt_().reciprocal_()
    divisor = torch.zeros_like(guess)
    for (axis, axis_weight), step in zip(axes, steps, strict=True):
        size = step.shape[axis]
        step.mul_(norm.narrow(axis, 0, size)).mul_(axis_weight * weight)
        divisor.narrow(axis, 0, size).sub_(step)
        divisor.narrow(axis, 1, size).add_(step)
    return update.div_(divisor.clamp_(-_LARGEST_CHANGE, _LARGEST_CHANGE).add_(1.0))
