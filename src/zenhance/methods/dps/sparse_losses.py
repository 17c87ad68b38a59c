"""Loss terms of training without sharp images: continuity, sparsity and spectra.

Each term is a mean per pixel, so that weights do not depend on the patch size.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fourier_difference", "hessian", "light_concentration"]


def _derivative(x: Tensor, axis: int, other: int) -> Tensor:
    """Return the second derivative along one axis or two, where all neighbours exist."""
    if axis == other:
        n = x.shape[axis]
        return x.narrow(axis, 2, n - 2) - 2 * x.narrow(axis, 1, n - 2) + x.narrow(axis, 0, n - 2)
    first = x.diff(dim=axis)
    return first.diff(dim=other)


def hessian(x: Tensor, continuity: float = 0.0) -> Tensor:
    """Return the mean absolute second derivatives of images (B, Z, Y, X).

    .. math:: |f_{xx}| + |f_{yy}| + 2|f_{xy}|
        + \\sigma |f_{zz}| + 2\\sqrt{\\sigma} |f_{xz}| + 2\\sqrt{\\sigma} |f_{yz}|

    Parameters
    ----------
    x : Tensor (B, Z, Y, X)
        The third axis may be depth or time.
    continuity : float
        sigma, weight of the third axis; 0 for none. Fewer than three planes have no second
        derivative.

    Notes
    -----
    Source: Huang et al., Nat. Biotechnol. 36:451 (2018), with time as the third axis.
    """
    total = (
        _derivative(x, -1, -1).abs().mean()
        + _derivative(x, -2, -2).abs().mean()
        + 2 * _derivative(x, -1, -2).abs().mean()
    )
    planes = x.shape[-3]
    if continuity > 0 and planes > 1:
        cross = _derivative(x, -3, -1).abs().mean() + _derivative(x, -3, -2).abs().mean()
        total = total + 2 * continuity**0.5 * cross
        if planes > 2:
            total = total + continuity * _derivative(x, -3, -3).abs().mean()
    return total


def light_concentration(x: Tensor, floor: float) -> Tensor:
    """Return the reweighted L1 norm: the mean of x / (x + floor), with a constant divisor.

    Parameters
    ----------
    x : Tensor
        Not negative.
    floor : float
        Intensity below which light counts as none; near 0 the term counts bright pixels.

    Notes
    -----
    A PSF conserves light, so that the plain L1 norm is the same for all specimens that explain the
    measurement. Reweighting (Candès, Wakin & Boyd, J. Fourier Anal. Appl. 14:877, 2008) makes light
    on fewer pixels cheaper.
    """
    return (x / (x.detach() + floor)).mean()


def fourier_difference(image: Tensor, reference: Tensor) -> Tensor:
    """Return the mean absolute difference of the orthonormal spectra of images (..., Y, X)."""
    with torch.autocast(image.device.type, enabled=False):
        difference: Tensor = torch.fft.rfft2(image.float(), norm="ortho") - torch.fft.rfft2(
            reference.float(), norm="ortho"
        )
        return difference.abs().mean()
