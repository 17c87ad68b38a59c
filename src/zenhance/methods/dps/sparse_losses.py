"""What a network is held to that is taught without sharp images: likeness, continuity, sparsity, and likeness of spectra.

Every term is a mean per pixel, so that weights do not depend on the size of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fourier_difference", "hessian", "light_concentration"]


def _derivative(x: Tensor, axis: int, other: int) -> Tensor:
    """Return the second derivative along one axis or two, on the voxels that have all neighbours."""
    if axis == other:
        n = x.shape[axis]
        return x.narrow(axis, 2, n - 2) - 2 * x.narrow(axis, 1, n - 2) + x.narrow(axis, 0, n - 2)
    first = x.diff(dim=axis)
    return first.diff(dim=other)


def hessian(x: Tensor, continuity: float = 0.0) -> Tensor:
    """Return the mean absolute second derivatives of images (B, Z, Y, X).

    .. math:: |f_{xx}| + |f_{yy}| + 2|f_{xy}| + \\sigma |f_{zz}| + 2\\sqrt{\\sigma} |f_{xz}| + 2\\sqrt{\\sigma} |f_{yz}|

    Parameters
    ----------
    x : Tensor (B, Z, Y, X)
        The third axis may be depth or time.
    continuity : float
        sigma, how much is asked of the third axis; 0 leaves it out, and an axis of fewer than three planes has no second derivative.

    Notes
    -----
    Source: Huang et al., Nat. Biotechnol. 36:451 (2018), for time; the same with depth in the third axis.
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
    """Return the reweighted L1 norm, a mean of x / (x + floor) with the divisor held fixed: light on fewer pixels costs less.

    Parameters
    ----------
    x : Tensor
        Nowhere negative.
    floor : float
        Intensity below which light counts as none; near 0 the term counts lit pixels.

    Notes
    -----
    A PSF keeps light, so that with fidelity to the measurement the plain L1 norm of light is the same for all candidates. Reweighting
    (Candès, Wakin & Boyd, J. Fourier Anal. Appl. 14:877, 2008) brings back what the norm is there for.
    """
    return (x / (x.detach() + floor)).mean()


def fourier_difference(image: Tensor, reference: Tensor) -> Tensor:
    """Return the mean absolute difference of the spectra of images (..., Y, X), each scaled so that noise keeps its standard deviation."""
    with torch.autocast(image.device.type, enabled=False):
        difference: Tensor = torch.fft.rfft2(image.float(), norm="ortho") - torch.fft.rfft2(
            reference.float(), norm="ortho"
        )
        return difference.abs().mean()
