"""DivBlurring's two variational auto-encoders: the report's flat one, and a ladder.

Both draw the light of a specimen from latents. The finer latents of the ladder keep details that
the flat network blurs::

    flat     image ─► encoder ─► z (1/4 of the resolution, 64 channels) ─► decoder ─► light
    ladder   image ─► encoder ─┬─► z3 (1/4) ─► top-down ─► z2 (1/2) ─► top-down ─► z1 (1/1) ─► light
                               └─────── the image's part of z2 and z1 ──┴───────────────┘

The learner, not the network, applies the microscope to the light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "Encoded",
    "FlatVae",
    "Gaussian",
    "LadderVae",
    "Latents",
    "Vae",
    "divergence",
    "reach_px",
]

Noise = Callable[[int, tuple[int, ...]], Tensor]
"""Takes the level and the shape (B, C, Y, X) of its latents, returns standard normal numbers."""
MIN_LOG_VARIANCE, MAX_LOG_VARIANCE = -12.0, 6.0
SHARPNESS = 12.0


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent normal distributions, each of mean and log variance (B, C, Y, X)."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def of(cls, both: Tensor) -> Gaussian:
        """Split (B, 2C, Y, X) into float32 means and bounded log variances."""
        mean, log_variance = both.float().chunk(2, 1)
        return cls(mean, log_variance.clamp(MIN_LOG_VARIANCE, MAX_LOG_VARIANCE))

    def draw(self, noise: Tensor) -> Tensor:
        """Return a draw made from standard normal numbers."""
        return self.mean + (0.5 * self.log_variance).exp() * noise


def divergence(q: Gaussian, p: Gaussian | None) -> Tensor:
    """Return the Kullback-Leibler divergence of q from p in nats, per latent (B, C, Y, X).

    A p of None is the standard normal.
    """
    if p is None:
        return 0.5 * (q.mean.square() + q.log_variance.exp() - 1 - q.log_variance)
    ratio = (q.log_variance - p.log_variance).exp()
    return 0.5 * (
        (q.mean - p.mean).square() * (-p.log_variance).exp()
        + ratio
        - 1
        - q.log_variance
        + p.log_variance
    )


@dataclass(frozen=True, slots=True)
class Encoded:
    """Features of images by level, coarsest first; computed once for all samples."""

    features: tuple[Tensor, ...]

    def repeated(self, times: int) -> Encoded:
        """Return the features repeated for several samples of each image."""
        return Encoded(tuple(f.repeat_interleave(times, 0) for f in self.features))


@dataclass(frozen=True, slots=True)
class Latents:
    """Posterior and prior of each level, coarsest first; a prior of None is the standard normal."""

    posterior: tuple[Gaussian, ...]
    prior: tuple[Gaussian | None, ...]

    def divergences(self) -> list[Tensor]:
        """Return the divergence of each level in nats, summed over an image: (B,)."""
        return [
            divergence(q, p).flatten(1).sum(1)
            for q, p in zip(self.posterior, self.prior, strict=True)
        ]


class Vae(nn.Module):
    """Base of both networks.

    Parameters
    ----------
    stride : int
        Pixels per coarsest latent; images are multiples of it.
    planes : int
        Planes of light that are drawn; the middle one belongs to the middle of the window.
    scale : {1, 2}
        Light pixels per image pixel.
    """

    stride: int
    planes: int
    scale: int
    levels: tuple[tuple[int, int], ...]
    """Stride and channels of each level's latents, coarsest first."""
    architecture: Any
    """What the network was built from; set by the learner."""
    camera: nn.Module
    """The trained noise model, if there is one."""
    warm: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("warm", torch.zeros(()))
        """Progress of the warm-up: 1 at its end, 2 after twice that time."""
        self.quiet = 0
        """Consecutive batches whose latents carry no information."""

    def encode(self, image: Tensor) -> Encoded:
        """Encode images (B, window, Y, X)."""
        raise NotImplementedError

    def decode(
        self, encoded: Encoded, noise: Noise | None, only_middle: bool = False
    ) -> tuple[Tensor, Latents]:
        """Draw light (B, planes, sY, sX).

        Parameters
        ----------
        encoded : Encoded
            Of the images.
        noise : callable or None
            Standard normal numbers of each level; None decodes the posterior's means.
        only_middle : bool
            Draw the middle plane alone, (B, 1, sY, sX).
        """
        raise NotImplementedError

    def _latent(self, q: Gaussian, level: int, noise: Noise | None) -> Tensor:
        if noise is None:
            return q.mean
        return q.draw(noise(level, tuple(q.mean.shape)))

    def forward(self, image: Tensor) -> Tensor:
        """Return the middle plane (B, 1, sY, sX) of the light at the posterior's means."""
        return self.decode(self.encode(image), None, only_middle=True)[0]


def _pair(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.ReLU(),
    ]


class FlatVae(Vae):
    """The report's network: two levels down and up, without normalisation or skip connections.

    Parameters
    ----------
    window, planes : int
        Planes seen and drawn; 1 and 1 in the report.
    latents : int
        Channels of the latent image.
    features : int
        Of the first level; the second has twice as many.
    scale : {1, 2}
        Light pixels per image pixel along y and x; 2 adds one transposed convolution.
    positive : bool
        Whether the light is positive (not in the report).

    Notes
    -----
    261,281 parameters with the report's numbers (S. Muttavarapu, "Variational autoencoders for
    image deconvolution in fluorescence microscopy", 2022; after Prakash, Krull, Jug, "DivNoising",
    ICLR 2021).
    """

    def __init__(
        self,
        window: int = 1,
        planes: int = 1,
        latents: int = 64,
        features: int = 32,
        scale: int = 1,
        positive: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.planes, self.scale, self.levels = 4, planes, scale, ((4, latents),)
        self.positive = positive
        wide = 2 * features
        self.encoder = nn.Sequential(
            *_pair(window, features), nn.MaxPool2d(2), *_pair(features, wide), nn.MaxPool2d(2)
        )
        self.mean = nn.Conv2d(wide, latents, 3, padding=1)
        self.log_variance = nn.Conv2d(wide, latents, 3, padding=1)
        up = [
            *_pair(latents, wide),
            nn.ConvTranspose2d(wide, wide, 2, 2),
            *_pair(wide, features),
            nn.ConvTranspose2d(features, features, 2, 2),
        ]
        finer = [nn.ReLU(), nn.ConvTranspose2d(features, features, 2, 2)] if scale == 2 else []
        self.decoder = nn.Sequential(*up, *finer)
        self.head = nn.Conv2d(features, planes, 3, padding=1)

    def encode(self, image: Tensor) -> Encoded:
        """Encode images (B, window, Y, X)."""
        found = self.encoder(image)
        return Encoded((torch.cat([self.mean(found), self.log_variance(found)], 1),))

    def decode(
        self, encoded: Encoded, noise: Noise | None, only_middle: bool = False
    ) -> tuple[Tensor, Latents]:
        """Draw light (B, planes, sY, sX)."""
        q = Gaussian.of(encoded.features[0])
        made = _head(self.head, self.decoder(self._latent(q, 0, noise)), only_middle).float()
        return (_positive(made) if self.positive else made), Latents((q,), (None,))


class _Residual(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        second: Tensor = self.second(functional.relu(self.first(functional.relu(x))))
        return x + second


class LadderVae(Vae):
    """Latents on three grids; each level is drawn given the coarser ones.

    Parameters
    ----------
    window, planes : int
        Planes seen and drawn.
    features : sequence of three int
        Channels at full, half and quarter resolution.
    latents : sequence of three int
        Channels of the latents there.
    blocks : int
        Residual blocks of the encoder at each resolution.
    scale : {1, 2}
        Light pixels per image pixel along y and x.
    shortcut : int
        Planes at the end of the image with an estimate of the light, whose middle planes are added
        to the drawn light, so that an untrained network returns the estimate; 0 for none.

    Notes
    -----
    A ladder after Sønderby et al., NeurIPS 2016, as in HDN (Prakash et al., ICLR 2022). A steep
    softplus at the end keeps the light positive. No layer normalises over the image, so that a tile
    gives the same result as the whole.
    """

    def __init__(
        self,
        window: int = 1,
        planes: int = 1,
        features: Sequence[int] = (16, 32, 64),
        latents: Sequence[int] = (1, 4, 16),
        blocks: int = 1,
        scale: int = 1,
        shortcut: int = 0,
    ) -> None:
        super().__init__()
        self.stride, self.planes, self.scale, self.shortcut = 8, planes, scale, shortcut
        self.levels = tuple((2**i, latents[i]) for i in (2, 1, 0))
        f1, f2, f3 = features
        self.enter = nn.Conv2d(window, f1, 3, padding=1)
        self.down = nn.ModuleList(
            [nn.Conv2d(f1, f2, 2, 2), nn.Conv2d(f2, f3, 2, 2), nn.Conv2d(f3, f3, 2, 2)]
        )
        self.on = nn.ModuleList(
            [nn.Sequential(*(_Residual(f) for _ in range(blocks))) for f in (f2, f3)]
        )
        self.wide = nn.Sequential(_Residual(f3), nn.ReLU(), nn.ConvTranspose2d(f3, f3, 2, 2))
        self.back = nn.ModuleList(
            [nn.ConvTranspose2d(f3, f2, 2, 2), nn.ConvTranspose2d(f2, f1, 2, 2)]
        )
        self.joined = nn.ModuleList([_Residual(f3), _Residual(f2), _Residual(f1)])
        self.first = nn.Conv2d(f3, 2 * latents[2], 1)
        self.priors = nn.ModuleList(
            [nn.Conv2d(f2, 2 * latents[1], 1), nn.Conv2d(f1, 2 * latents[0], 1)]
        )
        self.posteriors = nn.ModuleList(
            [nn.Conv2d(2 * f2, 2 * latents[1], 1), nn.Conv2d(2 * f1, 2 * latents[0], 1)]
        )
        self.taken = nn.ModuleList(
            [
                nn.Conv2d(n, f, 3, padding=1)
                for n, f in zip(latents[::-1], (f3, f2, f1), strict=True)
            ]
        )
        self.drawn = nn.ModuleList([_Residual(f3), _Residual(f2), _Residual(f1)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(f3, f2, 2, 2), nn.ConvTranspose2d(f2, f1, 2, 2)]
        )
        self.finer = nn.ConvTranspose2d(f1, f1, 2, 2) if scale == 2 else nn.Identity()
        self.head = nn.Conv2d(f1, planes, 3, padding=1)
        if shortcut:
            nn.init.zeros_(self.head.weight)
        if self.head.bias is not None:
            nn.init.constant_(self.head.bias, 0.0 if shortcut else 0.1)
        for layer in (*self.priors, *self.posteriors):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def encode(self, image: Tensor) -> Encoded:
        """Encode images (B, window, Y, X)."""
        one = self.enter(image)
        two = self.on[0](self.down[0](functional.relu(one)))
        three = self.on[1](self.down[1](functional.relu(two)))
        three = self.joined[0](three + self.wide(self.down[2](functional.relu(three))))
        two = self.joined[1](two + self.back[0](functional.relu(three)))
        one = self.joined[2](one + self.back[1](functional.relu(two)))
        # The image's part of a posterior is the same for every draw: it is computed here once.
        parts = [
            self._image_part(level, functional.relu(feature))
            for level, feature in ((1, two), (2, one))
        ]
        found = (self.first(functional.relu(three)), *parts)
        return Encoded((*found, self._shortcut(image)) if self.shortcut else found)

    def _shortcut(self, image: Tensor) -> Tensor:
        """Return the middle planes of the estimate at the end of the image."""
        first = image.shape[1] - self.shortcut + (self.shortcut - self.planes) // 2
        return image[:, first : first + self.planes]

    def _image_part(self, level: int, feature: Tensor) -> Tensor:
        layer = cast(nn.Conv2d, self.posteriors[level - 1])
        return functional.conv2d(feature, layer.weight[:, feature.shape[1] :], layer.bias)

    def _drawn_part(self, level: int, feature: Tensor) -> Tensor:
        layer = cast(nn.Conv2d, self.posteriors[level - 1])
        return functional.conv2d(feature, layer.weight[:, : feature.shape[1]])

    def decode(
        self, encoded: Encoded, noise: Noise | None, only_middle: bool = False
    ) -> tuple[Tensor, Latents]:
        """Draw light (B, planes, sY, sX)."""
        posteriors = [Gaussian.of(encoded.features[0])]
        priors: list[Gaussian | None] = [None]
        known = self.drawn[0](self.taken[0](self._latent(posteriors[0], 0, noise)))
        for level in (1, 2):
            known = self.up[level - 1](functional.relu(known))
            active = functional.relu(known)
            prior = Gaussian.of(self.priors[level - 1](active))
            seen = self._drawn_part(level, active) + encoded.features[level]
            shift, log_variance = seen.float().chunk(2, 1)
            # The posterior is given as a difference from the prior.
            q = Gaussian(
                prior.mean + shift,
                (prior.log_variance + log_variance).clamp(MIN_LOG_VARIANCE, MAX_LOG_VARIANCE),
            )
            posteriors.append(q)
            priors.append(prior)
            known = self.drawn[level](known + self.taken[level](self._latent(q, level, noise)))
        made = _head(self.head, self.finer(functional.relu(known)), only_middle).float()
        if self.shortcut:
            estimate = encoded.features[3]
            made = made + _before_positive(
                estimate[:, self.planes // 2][:, None] if only_middle else estimate
            )
        return _positive(made), Latents(tuple(posteriors), tuple(priors))


def _head(layer: nn.Conv2d, features: Tensor, only_middle: bool) -> Tensor:
    """Apply the last layer, or only its part for the middle plane."""
    if not only_middle or layer.out_channels == 1:
        made: Tensor = layer(features)
        return made
    middle = slice(layer.out_channels // 2, layer.out_channels // 2 + 1)
    bias = None if layer.bias is None else layer.bias[middle]
    return functional.conv2d(features, layer.weight[middle], bias, padding=1)


def _before_positive(light: Tensor) -> Tensor:
    """Return the inverse of :func:`_positive`, for light of at least 0.01 of the span."""
    exact = light.float().clamp_min(0.01)
    return exact + torch.log(-torch.expm1(-SHARPNESS * exact)) / SHARPNESS


def _positive(made: Tensor) -> Tensor:
    """Return positive light, unchanged well above zero."""
    return functional.softplus(made, beta=SHARPNESS)


def reach_px(kind: str, blocks: int) -> int:
    """Return the radius of the receptive field along y and x, of either network.

    Notes
    -----
    Each 3 × 3 layer adds one pixel of its grid; pooling and strides round up to the coarsest grid.
    """
    if kind == "flat":
        # Encoder: two layers at 1, two at 1/2, one at 1/4; decoder: two at 1/4, two at 1/2, one
        # at 1 (and one finer).
        return 2 + 2 * 2 + 4 * 1 + 4 * 2 + 2 * 2 + 1 + 1 + 4
    full, half, quarter, eighth = (
        1 + 2 + 1 + 2 + 1,
        2 * blocks + 2 + 1 + 2,
        2 * blocks + 2 + 1 + 2,
        2,
    )
    return full + 2 * half + 4 * quarter + 8 * eighth + 8
