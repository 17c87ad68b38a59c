"""Res-U-DBPN: a residual U-Net as the trunk, dense back-projection units as the head, an output on a grid twice as fine.

::

    y ─► inversion ─► conv ─► block ─┬─────────────────────► block ─► L0 ─► up ─► H1 ─► down ─► L1 ─► up [L0, L1] ─► H2
                                     └ pool ─► block ─┬─► block ─ up ┘                    [H1, H2, inversions] ─► conv ─► + believed ─► x
                                                      └ pool ─► block ─ up ┘

The inversion is fixed and physical: accelerated Richardson-Lucy with the PSF, looked at after some of its steps, and once evened out by
total variation. What is believed of it is fixed too: where the even estimate stands out from its surroundings, as lines and dots do, the
sharpest one, elsewhere the even one. The network draws what is to be added to that; it so begins with what is known without learning.

No convolution has a bias, activations are leaky with a slope of 0.1 (learning the slope, as PReLU does, takes a quarter of the
training's time), pooling takes maxima, and the softplus at the end has a width that is a share of the local brightness: k times the input
gives k times the output, at every intensity. Nothing looks further than :func:`reach_px`, and nothing is normalised over the image.

Sources: Haris, Shakhnarovich & Ukita, CVPR (2018), for the back-projection units; Zhang, Liu & Wang, IEEE GRSL 15:749 (2018), for residual
blocks in a U-Net; Mohan et al., ICLR (2020), for networks without biases; the name and the combination: Ye et al., Intelligent
Computing 3:0082 (2024).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as f

__all__ = ["MULTIPLE", "STANDS_OUT", "ResUDbpn", "Smooth", "enlarged", "pooled", "reach_px"]

MULTIPLE = 4
"""Tiles of an image must begin at multiples of this along y and x: two poolings."""
FLOOR_SHARE = 0.02
"""Width of the softplus, as a share of the local brightness."""
SMOOTH_PX = 4.0
"""Standard deviation of the Gaussian that local brightness is taken over, in input pixels."""
FLUX_PX = 3.0
"""Standard deviation of the Gaussian over which light is kept, in input pixels."""
LARGEST_FLUX_CHANGE = 2.0
TINY = 1e-6
FIRST_DRAWN = 0.05
"""Share of the usual size that the last weights begin with."""
STANDS_OUT = (6.0, 1.85)
"""Of what is believed: how fast, and from how many times the brightness around, the sharp estimate takes over from the even one."""
SLOPE = 0.1
"""Of the activations, below 0."""


def reach_px() -> int:
    """Return how many input pixels away a pixel can have a say in the output, apart from inversion and PSF."""
    trunk = (
        (1 + 2 + 2) + 2 * (2 + 2 + 1) + 4 * (2 + 1)
    )  # at full, half and quarter size, with the pixels that pooling joins
    head = (
        3 * 5 + 2
    )  # three units of three 6 × 6 kernels of half a pixel's stride, and the last convolutions
    kept = int(4 * FLUX_PX + 1) + 2  # the light around that is kept
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
    """Two convolutions, and the input added through a 1 × 1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one, self.two = _conv(inputs, outputs), _conv(outputs, outputs)
        self.short = _conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _leaky(self.two(_leaky(self.one(x))) + self.short(x))
        return out


class _Up(nn.Module):
    """Up-projection: H = D1 L + D2 (L - C D1 L); the error of the way back is fed forward."""

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
    """A fixed Gaussian, edges repeated; one channel."""

    def __init__(self, sigma_px: float) -> None:
        super().__init__()
        radius = int(4 * sigma_px + 1)
        at = torch.arange(-radius, radius + 1, dtype=torch.float32)
        profile = torch.exp(-0.5 * (at / sigma_px) ** 2)
        self.register_buffer("profile", profile / profile.sum(), persistent=False)
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        profile, r = torch.as_tensor(self.profile), self.radius
        wide = f.pad(x, (r, r, r, r), mode="replicate")
        return f.conv2d(f.conv2d(wide, profile[None, None, None]), profile[None, None, :, None])


class ResUDbpn(nn.Module):
    """The network.

    Parameters
    ----------
    features : int
        Channels of the trunk at full size; twice and four times as many below.
    head : int
        Channels of the back-projection units.
    inversion : Module, optional
        Maps images (B, 1, Y, X) to ``inversions`` versions of them (B, inversions, 2 Y, 2 X); the first even,
        the last sharp. Without one it is the image, enlarged.
    inversions : int
        How many.
    measure : callable, optional
        Maps light (B, 1, 2 Y, 2 X) to the image (B, 1, Y, X) that it gives, by which light is kept; without one it is binned.
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
            # So the network begins close to its base, and does not have to unlearn what it draws before it has seen anything.
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
        """Map an image (B, 1, Y, X), zero where there is no light, to the light (B, 1, 2 Y, 2 X), nowhere negative.

        Each pixel of the result is a brightness, not an amount: a constant image stays a constant of the same value. An image whose sides
        are no multiple of 4 is continued to one by its last rows and columns.
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
        """Return the even estimate, and the sharp one where the even one shows more light than there is around."""
        even, sharp = fine[:, :1], fine[:, -1:]
        share = torch.sigmoid(STANDS_OUT[0] * (even / around - STANDS_OUT[1]))
        return torch.lerp(even, sharp, share)

    def _lit(self, drawn: Tensor, y: Tensor) -> Tensor:
        """Make it light: nowhere negative, and as much of it place by place as was measured."""
        width = enlarged(FLOOR_SHARE * self.brightness(y.abs()) + TINY)
        light = _even(width * f.softplus(drawn / width))
        has, wants = self.flux(self.measure(light)), self.flux(y)
        change = (wants / (has + TINY)).clamp(1 / LARGEST_FLUX_CHANGE, LARGEST_FLUX_CHANGE)
        return light * enlarged(change)


def _even(image: Tensor) -> Tensor:
    """Take out the finest pattern of the grid, which no binned picture can show: (1, 2, 1) / 4 along both axes."""
    wide = f.pad(image, (1, 1, 1, 1), mode="replicate")
    across = wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]
    return (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 16


def enlarged(image: Tensor) -> Tensor:
    """Return an image on the grid twice as fine, linearly between pixel centres."""
    return f.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)


def pooled(image: Tensor) -> Tensor:
    """Return the means of blocks of 2 × 2 pixels."""
    return f.avg_pool2d(image, 2)
