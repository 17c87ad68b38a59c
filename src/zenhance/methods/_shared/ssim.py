"""Structural dissimilarity of images, as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

__all__ = ["RADIUS_PX", "structural_dissimilarity"]

SIGMA_PX, RADIUS_PX = 1.5, 5


def structural_dissimilarity(
    image: Tensor, reference: Tensor, k1: float = 0.01, k2: float = 0.03
) -> Tensor:
    """Return 1 - SSIM, averaged over images (N, 1, Y, X) with intensities of range 1.

    Notes
    -----
    The Gaussian window has a standard deviation of 1.5 pixels and 11 × 11 pixels; only positions
    where it is inside the image count. Source: Wang et al., IEEE TIP 13:600 (2004). The slides on
    DPS print k1 = 0.001.
    """
    at = torch.arange(-RADIUS_PX, RADIUS_PX + 1, dtype=torch.float32, device=image.device)
    profile = torch.exp(-0.5 * (at / SIGMA_PX) ** 2)
    profile = profile / profile.sum()

    def smooth(x: Tensor) -> Tensor:
        return conv2d(conv2d(x, profile[None, None, None]), profile[None, None, :, None])

    with torch.autocast(image.device.type, enabled=False):
        a, b = image.float(), reference.float()
        mean_a, mean_b = smooth(a), smooth(b)
        var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
        both = smooth(a * b) - mean_a * mean_b
        similar = (
            (2 * mean_a * mean_b + k1**2)
            * (2 * both + k2**2)
            / ((mean_a**2 + mean_b**2 + k1**2) * (var_a + var_b + k2**2))
        )
        return 1 - similar.mean()
