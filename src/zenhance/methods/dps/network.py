"""Res-U-DBPN: a residual U-Net, then dense back-projection units, onto a grid twice as fine.

::

    y ─► inversion ─► conv ─► block ─┬────────────────────► block ─► L0
                                     └ pool ─► block ─┬─► block ─ up ┘
                                                      └ pool ─► block ─ up ┘
    L0 ─► up ─► H1 ─► down ─► L1;  [L0, L1] ─► up ─► H2;  [H1, H2, inversions] ─► conv + base ─► x

The inversion is fixed: accelerated Richardson-Lucy with the PSF, after several numbers of steps,
and one estimate smoothed by total variation. The base is fixed too: the sharpest estimate where the
smooth one is brighter than its surroundings (lines and dots), else the smooth one. The network adds
a correction to the base, so that an untrained network returns the base.

k times the input gives k times the output: convolutions have no bias, activations are leaky with a
slope of 0.1 (training the slope, as in PReLU, takes 25 % more time), pooling takes maxima, and the
width of the final softplus is a share of the local brightness. The receptive field is bounded by
:func:`reach_px`; nothing is normalised over the image.

Sources: Haris, Shakhnarovich & Ukita, CVPR (2018), for back-projection units; Zhang, Liu & Wang,
IEEE GRSL 15:749 (2018), for residual blocks in a U-Net; Mohan et al., ICLR (2020), for networks
without biases; Ye et al., Intelligent Computing 3:0082 (2024), for name and combination.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as f

__all__ = ["MULTIPLE", "STANDS_OUT", "ResUDbpn", "Smooth", "enlarged", "pooled", "reach_px"]

MULTIPLE = 4
"""Tiles begin at multiples of this along y and x, because of two poolings."""
FLOOR_SHARE = 0.02
"""Width of the softplus, as a share of the local brightness."""
SMOOTH_PX = 4.0
"""Standard deviation of the Gaussian of the local brightness, in input pixels."""
FLUX_PX = 3.0
"""Standard deviation of the Gaussian over which light is conserved, in input pixels."""
LARGEST_FLUX_CHANGE = 2.0
TINY = 1e-6
FIRST_DRAWN = 0.05
"""Factor on the initial weights of the last layer."""
STANDS_OUT = (6.0, 1.85)
"""Steepness of the change to the sharp estimate, and the ratio to the surroundings at it."""
SLOPE = 0.1
"""Of the activations below 0."""


def reach_px() -> int:
    """Return the radius of the receptive field in input pixels, without inversion and PSF."""
    trunk = (
        (1 + 2 + 2) + 2 * (2 + 2 + 1) + 4 * (2 + 1)
    )  # at full, half and quarter size, with the pixels of pooling
    head = 3 * 5 + 2  # three units of three 6 × 6 kernels, and the last convolutions
    kept = int(4 * FLUX_PX + 1) + 2  # conserved light
    return trunk + head + kept


def _conv(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(
        inputs,
        outputs,
        size,
        padding=size // 2,
        padding_mode="replicate" if size > 1 else "zeros",
        bias=False,
    )


def _leaky(x: Tensor) -> Tensor:
    return f.leaky_relu(x, SLOPE)


class _Block(nn.Module):
    """Two convolutions, and a 1 × 1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one, self.two = _conv(inputs, outputs), _conv(outputs, outputs)
        self.short = _conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _leaky(self.two(_leaky(self.one(x))) + self.short(x))
        return out


class _Up(nn.Module):
    """Up-projection: H = D1 L + D2 (L - C D1 L); the back-projection error is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(channels, channels, 6, 2, 2, bias=False)
        self.back = nn.Conv2d(channels, channels, 6, 2, 2, bias=False)
        self.again = nn.ConvTranspose2d(channels, channels, 6, 2, 2, bias=False)

    def forward(self, low: Tensor) -> Tensor:
        high = _leaky(self.first(low))
        error = low - _leaky(self.back(high))
        out: Tensor = high + _leaky(self.again(error))
        return out


class _Down(nn.Module):
    """Down-projection: the mirror of :class:`_Up`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 6, 2, 2, bias=False)
        self.back = nn.ConvTranspose2d(channels, channels, 6, 2, 2, bias=False)
        self.again = nn.Conv2d(channels, channels, 6, 2, 2, bias=False)

    def forward(self, high: Tensor) -> Tensor:
        low = _leaky(self.first(high))
        error = high - _leaky(self.back(low))
        out: Tensor = low + _leaky(self.again(error))
        return out


class Smooth(nn.Module):
    """A fixed Gaussian of one channel, with repeated edges."""

    def __init__(self, sigma_px: float) -> None:
        super().__init__()
        radius = int(4 * sigma_px + 1)
        at = torch.arange(-radius, radius + 1, dtype=torch.float32)
        profile = torch.exp(-0.5 * (at / sigma_px) ** 2)
        self.register_buffer("profile", profile / profile.sum(), persistent=False)
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        """Smooth images (B, 1, Y, X)."""
        profile, r = torch.as_tensor(self.profile), self.radius
        wide = f.pad(x, (r, r, r, r), mode="replicate")
        return f.conv2d(f.conv2d(wide, profile[None, None, None]), profile[None, None, :, None])


class ResUDbpn(nn.Module):
    """The network.

    Parameters
    ----------
    features : int
        Channels of the trunk at full size; two and four times as many below.
    head : int
        Channels of the back-projection units.
    inversion : Module, optional
        Maps images (B, 1, Y, X) to estimates (B, inversions, 2 Y, 2 X), the first smooth, the last
        sharp; default bilinear enlargement.
    inversions : int
        Number of estimates.
    measure : callable, optional
        Maps light (B, 1, 2 Y, 2 X) to its image (B, 1, Y, X), for the conservation of light;
        default binning.
    """

    def __init__(
        self,
        features: int = 24,
        head: int = 16,
        inversion: nn.Module | None = None,
        inversions: int = 1,
        measure: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        n = features
        self.inversion = (
            inversion if inversion is not None else nn.Upsample(scale_factor=2, mode="bilinear")
        )
        self.measure = pooled if measure is None else measure
        self.first = _conv(1 + 4 * inversions, n)
        self.down = nn.ModuleList([_Block(n, n), _Block(n, 2 * n), _Block(2 * n, 4 * n)])
        self.rise = nn.ModuleList(
            [
                nn.ConvTranspose2d(4 * n, 2 * n, 2, 2, bias=False),
                nn.ConvTranspose2d(2 * n, n, 2, 2, bias=False),
            ],
        )
        self.up = nn.ModuleList([_Block(4 * n, 2 * n), _Block(2 * n, n)])
        self.narrow = _conv(n, head, 1)
        self.project_up, self.project_down, self.project_again = _Up(head), _Down(head), _Up(head)
        self.gather = _conv(2 * head, head, 1)
        self.out = _conv(2 * head + inversions, 1)
        with torch.no_grad():
            # The network starts close to its base.
            self.out.weight.mul_(FIRST_DRAWN)
        self.brightness, self.flux = Smooth(SMOOTH_PX), Smooth(FLUX_PX)

    def trunk(self, seen: Tensor) -> Tensor:
        """Return features (B, features, Y, X) of the image and its inversions."""
        full = self.down[0](self.first(seen))
        half = self.down[1](f.max_pool2d(full, 2))
        quarter = self.down[2](f.max_pool2d(half, 2))
        half = self.up[0](torch.cat([self.rise[0](quarter), half], 1))
        out: Tensor = self.up[1](torch.cat([self.rise[1](half), full], 1))
        return out

    def forward(self, y: Tensor) -> Tensor:
        """Map images (B, 1, Y, X) without background to light (B, 1, 2 Y, 2 X), not negative.

        Each pixel of the result is a brightness: a constant image keeps its value. Sides are padded
        to multiples of 4 with the last rows and columns.
        """
        height, width = y.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            wide = f.pad(y, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
            whole: Tensor = self(wide)
            return whole[..., : 2 * height, : 2 * width]
        fine = self.inversion(y)
        low = self.narrow(self.trunk(torch.cat([y, f.pixel_unshuffle(fine, 2)], 1)))
        high = self.project_up(low)
        back = self.project_down(high)
        again = self.project_again(self.gather(torch.cat([low, back], 1)))
        drawn = self.out(torch.cat([high, again, fine], 1)).float()
        with torch.autocast(y.device.type, enabled=False):
            around = enlarged(self.brightness(y.float().abs())) + TINY
            believed = self._believed(fine.float(), around)
            return self._lit(drawn + believed, y.float())

    def _believed(self, fine: Tensor, around: Tensor) -> Tensor:
        """Return the base: smooth, and sharp where the smooth estimate exceeds its surroundings."""
        even, sharp = fine[:, :1], fine[:, -1:]
        share = torch.sigmoid(STANDS_OUT[0] * (even / around - STANDS_OUT[1]))
        return torch.lerp(even, sharp, share)

    def _lit(self, drawn: Tensor, y: Tensor) -> Tensor:
        """Make the result positive and conserve the measured light locally."""
        width = enlarged(FLOOR_SHARE * self.brightness(y.abs()) + TINY)
        light = _even(width * f.softplus(drawn / width))
        has, wants = self.flux(self.measure(light)), self.flux(y)
        change = (wants / (has + TINY)).clamp(1 / LARGEST_FLUX_CHANGE, LARGEST_FLUX_CHANGE)
        return light * enlarged(change)


def _even(image: Tensor) -> Tensor:
    """Remove the finest pattern of the grid, invisible after binning: (1, 2, 1) / 4."""
    wide = f.pad(image, (1, 1, 1, 1), mode="replicate")
    across = wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]
    return (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 16


def enlarged(image: Tensor) -> Tensor:
    """Return an image on the grid twice as fine, by bilinear interpolation."""
    return f.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)


def pooled(image: Tensor) -> Tensor:
    """Return the means of blocks of 2 × 2 pixels."""
    return f.avg_pool2d(image, 2)
