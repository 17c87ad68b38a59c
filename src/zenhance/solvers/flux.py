"""Conserve an image's flux locally, so that no tile needs the sum over the others."""

from __future__ import annotations

import torch

from zenhance.physics.blur import BlurOperator

__all__ = ["keep_flux"]

_TINY = 1e-30
_LARGEST_RATIO = 10.0
"""Bounds the correction where there is almost nothing to correct."""


def keep_flux(image: torch.Tensor, target: torch.Tensor, blur: BlurOperator) -> torch.Tensor:
    """Scale an image smoothly so that it sums to `target`, nearly so within a few PSF widths.

    .. math:: t' = t \\cdot A^T A^T \\frac{g}{A A t},
              \\qquad \\sum t' = \\sum (A A t) \\frac{g}{A A t} = \\sum g

    This is one Richardson-Lucy step with the blur applied twice. An image that already explains the
    target does not change.

    Parameters
    ----------
    image : Tensor
        t, float32 (..., Z, Y, X), nowhere negative.
    target : Tensor
        g, the target of ``A A t``, of the same shape; negative values count as 0. Overwritten.
    blur : BlurOperator
        A, of unit sum.

    Returns
    -------
    Tensor
        t', nowhere negative.
    """
    model = blur(blur(image)).clamp_(min=_TINY)
    ratio = target.clamp_(min=0.0).div_(model).clamp_(max=_LARGEST_RATIO)
    return blur.adjoint(blur.adjoint(ratio)).mul_(image)
