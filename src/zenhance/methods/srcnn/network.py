"""SRCNN, the three-layer network of Dong, Loy, He and Tang (IEEE TPAMI 38:295, 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

__all__ = ["SRCNN"]


class SRCNN(nn.Module):
    """Patch extraction, non-linear mapping, reconstruction: 9-5-5 or 9-1-5.

    Parameters
    ----------
    window : int
        Input planes, odd; the middle one is restored.
    kernels : tuple of int
        Sizes of the three convolutions, odd.
    widths : tuple of int
        Channels after the first and the second convolution.
    scale : int
        Output pixels per input pixel along y and x; the input is first enlarged bicubically.

    Notes
    -----
    The paper loses a border. Here edge pixels are repeated, so that the output has the input's
    size.
    """

    def __init__(
        self,
        window: int = 1,
        kernels: tuple[int, int, int] = (9, 5, 5),
        widths: tuple[int, int] = (64, 32),
        scale: int = 1,
    ) -> None:
        super().__init__()
        first, second, third = kernels
        self.scale = scale
        self.extract = nn.Conv2d(
            window, widths[0], first, padding=first // 2, padding_mode="replicate"
        )
        self.map = nn.Conv2d(
            widths[0], widths[1], second, padding=second // 2, padding_mode="replicate"
        )
        self.reconstruct = nn.Conv2d(
            widths[1], 1, third, padding=third // 2, padding_mode="replicate"
        )

    def forward(self, planes: Tensor) -> Tensor:
        """Map (B, window, Y, X) to (B, 1, sY, sX)."""
        if self.scale > 1:
            planes = interpolate(
                planes, scale_factor=self.scale, mode="bicubic", align_corners=False
            )
        features = torch.relu(self.map(torch.relu(self.extract(planes))))
        out: Tensor = self.reconstruct(features)
        return out
