"""RDN, the residual dense network of Zhang, Tian, Kong, Zhong and Fu (CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RDN"]


def _conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, size, padding=size // 2, padding_mode="replicate" if size > 1 else "zeros"
    )


class _DenseBlock(nn.Module):
    """Each layer sees all layers before it; a 1 × 1 convolution fuses them and adds the input."""

    def __init__(self, features: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_conv(features + i * growth, growth, 3) for i in range(layers))
        self.fuse = _conv(features + layers * growth, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for layer in self.layers:
            seen = torch.cat([seen, torch.relu(layer(seen))], dim=1)
        fused: Tensor = self.fuse(seen)
        return x + fused


class RDN(nn.Module):
    """Shallow features, residual dense blocks, global fusion, and an output 1 to 4 times as large.

    Parameters
    ----------
    window : int
        Input planes, odd; the middle one is restored.
    features : int
        G0 of the paper, channels between blocks.
    growth : int
        G, channels that each dense layer adds.
    blocks : int
        D, number of residual dense blocks.
    layers : int
        C, dense layers per block.
    scale : int
        1 (no upsampling), 2, 3 or 4 (pixel shuffle).
    """

    def __init__(
        self,
        window: int = 1,
        features: int = 64,
        growth: int = 64,
        blocks: int = 16,
        layers: int = 8,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.shallow = _conv(window, features, 3)
        self.deeper = _conv(features, features, 3)
        self.blocks = nn.ModuleList(_DenseBlock(features, growth, layers) for _ in range(blocks))
        self.fuse = nn.Sequential(
            _conv(blocks * features, features, 1), _conv(features, features, 3)
        )
        steps = {1: [], 2: [2], 3: [3], 4: [2, 2]}[scale]
        self.enlarge = nn.Sequential(
            *(m for s in steps for m in (_conv(features, features * s * s, 3), nn.PixelShuffle(s)))
        )
        self.out = _conv(features, 1, 3)

    def forward(self, planes: Tensor) -> Tensor:
        """Map (B, window, Y, X) to (B, 1, sY, sX)."""
        first = self.shallow(planes)
        x = self.deeper(first)
        kept = []
        for block in self.blocks:
            x = block(x)
            kept.append(x)
        x = self.fuse(torch.cat(kept, dim=1)) + first
        out: Tensor = self.out(self.enlarge(x))
        return out
