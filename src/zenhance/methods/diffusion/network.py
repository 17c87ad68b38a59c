"""One network for all timesteps: from an image and its timestep to the specimen.

::

    window ─► unshuffle 2 × 2 ─► blocks ─┬─► shrink ─► blocks ─► enlarge ─┬─► blocks ─► shuffle
    of planes                            └─────────────── + ──────────────┘      + middle plane
    timestep (t, r) ─► sines ─► two layers ─► scale and shift in every block

There is no normalisation or attention over the tile: a voxel depends only on its receptive field
and on the timestep.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle, relu

__all__ = ["MIN_RATIO", "STRIDE", "DiffusionNetwork", "reach_px"]

STRIDE = 4
"""Image sizes are multiples of this along y and x."""
_OCTAVES = 4
MIN_RATIO = 0.01
"""Noise ratios below this look alike to the network."""


def _sines(values: Tensor) -> Tensor:
    """Map values (B,) within 0 ... 1 to (B, 2 octaves)."""
    phases = values[:, None] * (
        math.pi * 2.0 ** torch.arange(_OCTAVES, device=values.device, dtype=torch.float32)
    )
    return torch.cat([phases.sin(), phases.cos()], 1)


class _Block(nn.Module):
    """ReLU, 3 × 3, scale and shift by the timestep, ReLU, 3 × 3, beside the identity."""

    def __init__(self, features: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.level = nn.Linear(embedding, 2 * features)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.level(embedded)[:, :, None, None].chunk(2, 1)
        out: Tensor = x + self.second(relu(self.first(relu(x)) * (1 + scale) + shift))
        return out


class _LevelHead(nn.Module):
    """Guesses the timestep of an image (B, 1, Y, X) without a PSF from its texture."""

    def __init__(self, features: int = 12) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, features, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(features, features, 3, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(features, features, 3, 2, padding=1),
            nn.ReLU(),
        )
        self.told = nn.Sequential(
            nn.Linear(features, 2 * features), nn.ReLU(), nn.Linear(2 * features, 2)
        )

    def forward(self, plane: Tensor) -> Tensor:
        scale = plane.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-3)
        out: Tensor = self.told(self.layers(plane / scale).mean((2, 3)))
        return out


class DiffusionNetwork(nn.Module):
    """The network.

    Parameters
    ----------
    window : int
        Input planes, odd; the middle one is restored.
    features, deep_features : int
        Channels at half and at a quarter of the resolution.
    blocks, deep_blocks : int
        Residual blocks at half the resolution (before and after the deep ones), and deep ones.
    embedding : int
        Channels that carry the timestep.
    """

    architecture: Any
    """What the network was built from; set by the learner."""

    def __init__(
        self,
        window: int = 1,
        features: int = 32,
        deep_features: int = 32,
        blocks: int = 3,
        deep_blocks: int = 2,
        embedding: int = 24,
    ) -> None:
        super().__init__()
        self.window = window
        self.embed = nn.Sequential(
            nn.Linear(4 * _OCTAVES, embedding),
            nn.ReLU(),
            nn.Linear(embedding, embedding),
            nn.ReLU(),
        )
        self.enter = nn.Conv2d(4 * window, features, 3, padding=1)
        self.before = nn.ModuleList(
            _Block(features, embedding) for _ in range(blocks - blocks // 2)
        )
        self.shrink = nn.Conv2d(features, deep_features, 2, 2)
        self.deep = nn.ModuleList(_Block(deep_features, embedding) for _ in range(deep_blocks))
        self.enlarge = nn.Conv2d(deep_features, features, 1)
        self.after = nn.ModuleList(_Block(features, embedding) for _ in range(blocks // 2))
        self.leave = nn.Conv2d(features, 4, 3, padding=1)
        self.head = _LevelHead()
        with torch.no_grad():
            self.leave.weight.mul_(0.1)

    def forward(self, planes: Tensor, timesteps: Tensor) -> Tensor:
        """Return the specimen's middle plane (B, 1, Y, X).

        Parameters
        ----------
        planes : Tensor (B, window, Y, X)
            Images at their timesteps, scaled; Y and X multiples of 4.
        timesteps : Tensor (B, 2)
            t and r of each.
        """
        embedded = self.embed(
            torch.cat([_sines(timesteps[:, 0]), _sines(_even(timesteps[:, 1]))], 1)
        )
        x = self.enter(pixel_unshuffle(planes, 2).contiguous(memory_format=torch.channels_last))
        for block in self.before:
            x = block(x, embedded)
        below = self.shrink(x)
        for block in self.deep:
            below = block(below, embedded)
        x = x + interpolate(self.enlarge(below), scale_factor=2.0, mode="nearest")
        for block in self.after:
            x = block(x, embedded)
        half = self.window // 2
        return planes[:, half : half + 1] + pixel_shuffle(self.leave(relu(x)), 2)

    def guess(self, planes: Tensor) -> Tensor:
        """Return t and r (B, 2), guessed from the middle planes (B, 1, Y, X)."""
        told = self.head(planes).float()
        ratio = MIN_RATIO ** (1 - told[:, 1].clamp(0, 1))
        return torch.stack([told[:, 0].clamp(0.02, 1), ratio], 1)

    def guess_loss(self, planes: Tensor, timesteps: Tensor) -> Tensor:
        """Return the mean squared error of the guess, with t and log r scaled to 0 ... 1."""
        wanted = torch.stack([timesteps[:, 0], _even(timesteps[:, 1])], 1)
        off: Tensor = (self.head(planes).float() - wanted).square().mean()
        return off


def _even(ratio: Tensor) -> Tensor:
    """Map noise ratios 0.01 ... 1 to 0 ... 1, even in their logarithm."""
    return 1 - ratio.clamp(MIN_RATIO, 1).log() / math.log(MIN_RATIO)


def reach_px(blocks: int, deep_blocks: int) -> int:
    """Return the radius of the receptive field along y and x, a multiple of the stride."""
    far = 2 * (2 * blocks + 2) + 4 * 2 * deep_blocks + 2 + 2
    return -(-far // STRIDE) * STRIDE
