"""Keep an image's flux place by place, so that neither a tile nor a whole volume has to know the sum of the others."""

from __future__ import annotations

import torch

from zenhance.physics.blur import Blur

__all__ = ["keep_flux"]

_TINY = 1e-30
_LARGEST_RATIO = 10.0
"""Bounds the correction where there is next to nothing to correct."""


def keep_flux(image: torch.Tensor, target: torch.Tensor, blur: Blur) -> torch.Tensor:
    """Scale an image smoothly so that it sums to `target`, and nearly does so within every few widths of the PSF.

    .. math:: t' = t \\cdot A^T A^T \\frac{g}{A A t}, \\qquad \\sum t' = \\sum (A A t) \\frac{g}{A A t} = \\sum g

    It is one Richardson-Lucy step with the blur done twice. Where the image explains the target already, nothing changes.

    Parameters
    ----------
    image : Tensor
        t, float32 (..., Z, Y, X), nowhere negative.
    target : Tensor
        g, what ``A A t`` should be, of the same shape; negative values count as 0. It is overwritten.
    blur : Blur
        A, of unit sum.

    Returns
    -------
    Tensor
        t', nowhere negative.
    """
    model = blur(blur(image)).clamp_(min=_TINY)
    ratio = target.clamp_(min=0.0).div_(model).clamp_(max=_LARGEST_RATIO)
    return blur.adjoint(blur.adjoint(ratio)).mul_(image)
