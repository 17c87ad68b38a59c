"""Training of variational auto-encoders whose decoder ends in the microscope.

For an image ``y``, latents ``z`` and the light ``x = g(z)`` of a specimen::

    loss = - E_q(z|y) log p(y | A x) + weight KL(q(z|y) || p(z)) + penalties on x [ + truth term ]

``A`` is the point spread function, ``p`` the camera's noise. Without blur this is DivNoising.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import avg_pool2d

from zenhance.contract.learner import Batch, Learner, Optics
from zenhance.contract.settings import validate
from zenhance.errors import RecipeError
from zenhance.methods.divblurring.network import FlatVae, LadderVae, Vae
from zenhance.methods.divblurring.noise_mixture import MixtureNoise
from zenhance.types import Triple

__all__ = ["LEARNER", "VaeArchitecture", "VaeLearner", "energy"]

MAX_ITERATIONS = 100
"""Most iterations of an estimate, for which tiles are planned."""
COLLAPSED = 1e-5
"""Nats per pixel below which latents carry no information; DivNoising's own limit."""
QUIET = 20
"""Consecutive such batches that count as posterior collapse."""


class VaeArchitecture(BaseModel):
    """A recipe's settings of network and loss; frozen, unknown keys refused.

    The defaults are the preset ``divblurring``. Penalties are means over pixels, in scaled
    intensities.
    """

    model_config = {"frozen": True, "extra": "forbid"}

    kind: Literal["flat", "ladder"] = Field(
        "ladder", description="the report's flat network, or the ladder"
    )
    window: int = Field(1, ge=1, le=9, description="planes seen at once, odd")
    planes: int = Field(
        1,
        ge=1,
        le=9,
        description="planes of light drawn in training, odd: the PSF's extent along z",
    )
    features: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(
        (16, 32, 64),
        max_length=3,
        description="channels at full, half and quarter resolution; flat: of the first level",
    )
    latents: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(
        (1, 4, 16),
        max_length=3,
        description="channels of the latents there; flat: of the only level",
    )
    deconvolved: tuple[int, ...] = Field(
        (),
        max_length=8,
        description="iterations of the Richardson-Lucy estimates that the network also sees",
    )
    blocks: int = Field(
        1, ge=1, le=2, description="residual blocks of the ladder's encoder at each resolution"
    )
    shortcut: bool = Field(
        False,
        description="whether the ladder draws a correction that is added to the last estimate",
    )
    scale: Literal[1, 2] = Field(1, description="light pixels per image pixel along y and x")
    positive: bool = Field(
        True,
        description="whether the light of the flat network is positive; the ladder's always is",
    )
    blur: bool = Field(
        True, description="whether the decoder ends in the blur; without it this is DivNoising"
    )
    noise: Literal["poisson_gauss", "gaussian", "mixture"] = Field(
        "poisson_gauss",
        description="camera noise: photons and read-out, one width for all pixels, "
        "or a trained mixture of Gaussians",
    )
    sigma: float | None = Field(
        None,
        gt=0,
        description="noise width in scaled intensities, for gaussian; default from the volume",
    )
    kl_weight: float = Field(1.0, ge=0, description="weight of the divergence; below 1 a beta-VAE")
    warmup_steps: int = Field(
        500, ge=0, le=1_000_000, description="steps over which that weight rises from 0"
    )
    free_bits: float = Field(
        0.0,
        ge=0,
        description="free nats per latent channel and pixel of its grid, for each level",
    )
    l1: float = Field(0.0, ge=0, description="weight of the mean absolute light")
    l2: float = Field(0.0, ge=0, description="weight of the mean squared light")
    positivity: float = Field(0.0, ge=0, description="weight of the mean squared negative light")
    total_variation: float = Field(
        0.0, ge=0, description="weight of the mean length of the gradient"
    )
    huber: float = Field(
        0.0, ge=0, description="weight of the Huber function of the gradient, width 0.05"
    )
    truth: float = Field(
        0.0,
        ge=0,
        description="weight of the truth term; 0 trains on measurements alone",
    )
    measured: float = Field(1.0, ge=0, description="weight of the likelihood of the measurement")

    @property
    def seen(self) -> int:
        """Input planes of the network: the window of the measurement and of each estimate."""
        return self.window * (1 + len(self.deconvolved))


def _checked(architecture: Mapping[str, Any]) -> VaeArchitecture:
    a = validate(VaeArchitecture, architecture, "architecture key", RecipeError)
    if a.window % 2 == 0 or a.planes % 2 == 0 or a.planes > a.window:
        raise RecipeError(
            f"window {a.window} and planes {a.planes} must be odd, and planes at most the window"
        )
    if list(a.deconvolved) != sorted(set(a.deconvolved)) or any(
        not 1 <= n <= MAX_ITERATIONS for n in a.deconvolved
    ):
        raise RecipeError(
            f"deconvolved is {list(a.deconvolved)}; "
            f"give rising numbers of iterations, at most {MAX_ITERATIONS}"
        )
    if a.shortcut and (a.kind == "flat" or a.scale != 1 or not a.deconvolved):
        raise RecipeError(
            "shortcut needs the ladder, scale 1 and at least one estimate; "
            "give deconvolved, or leave shortcut out"
        )
    levels = 1 if a.kind == "flat" else 3
    if len(a.features) != levels or len(a.latents) != levels:
        raise RecipeError(
            f"features and latents of the {a.kind} network need {levels} "
            f"number{'s' if levels > 1 else ''} each"
        )
    return a


class VaeLearner(Learner):
    """Learns to draw light that explains an image."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network."""
        a = _checked(architecture)
        network: Vae
        if a.kind == "flat":
            network = FlatVae(a.seen, a.planes, a.latents[0], a.features[0], a.scale, a.positive)
        else:
            network = LadderVae(
                a.seen,
                a.planes,
                a.features,
                a.latents,
                a.blocks,
                a.scale,
                a.window if a.shortcut else 0,
            )
        network.architecture = a
        if a.noise == "mixture":
            network.camera = MixtureNoise()
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> Triple:
        """Return (window, size, size).

        Raises
        ------
        RecipeError
            The size is not a multiple of the coarsest latents' grid.
        """
        a = _checked(architecture)
        stride = 4 if a.kind == "flat" else 8
        if size_px % stride:
            raise RecipeError(f"patch_px is {size_px}; it must be a multiple of {stride}")
        return (a.window, size_px, size_px)

    def needs_truth(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether the loss has a truth term."""
        return _checked(architecture).truth > 0

    def needs_optics(self, architecture: Mapping[str, Any]) -> bool:
        """Return True: the decoder ends in the microscope."""
        return True

    def deconvolved(self, architecture: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the iterations of the estimates that the network sees."""
        return _checked(architecture).deconvolved

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Draw light, simulate its measurement, and compare both with measurement and truth.

        Raises
        ------
        RecipeError
            A needed truth is missing, or the posterior has collapsed.
        """
        net = cast(Vae, network)
        a = cast(VaeArchitecture, net.architecture)
        many = 2 if a.truth else 1
        light, latents = net.decode(
            net.encode(batch.seen).repeated(many), _random(batch.measured.device)
        )
        inside = (slice(None), slice((a.window - a.planes) // 2, (a.window + a.planes) // 2))
        measured = batch.measured[inside].repeat_interleave(many, 0)
        optics = [o for o in batch.optics for _ in range(many)]
        pixels = measured.shape[-2] * measured.shape[-1]
        levels = [d / pixels for d in latents.divergences()]
        logs = {f"kl_{number + 1}": float(d.detach().mean()) for number, d in enumerate(levels)}
        self._check_collapse(net, logs)
        likelihood = _likelihood(net, a, light, measured, optics)
        logs["measured"] = float(likelihood.detach())
        warm = self._warm(net, a)
        paid = sum(
            (_beyond(d, free) for d, free in zip(levels, _free(a, net), strict=True)),
            torch.zeros_like(levels[0]),
        )
        loss = a.measured * likelihood + warm * a.kl_weight * paid.mean() + _penalties(a, light)
        if a.truth:
            loss = loss + a.truth * self._truth(a, light, batch, inside, logs)
        return loss, logs

    def _truth(
        self,
        a: VaeArchitecture,
        light: Tensor,
        batch: Batch,
        inside: tuple[slice, slice],
        logs: dict[str, float],
    ) -> Tensor:
        if batch.truth is None:
            raise RecipeError(
                "a training stack has no truth; give pairs or simulated, "
                "set architecture.truth to 0, or learn from a stack"
            )
        truth = batch.truth[inside]
        if truth.shape[-1] != light.shape[-1]:
            raise RecipeError(
                f"the truth has {truth.shape[-1]} pixels where the network draws "
                f"{light.shape[-1]}; set architecture.scale to fit"
            )
        dark = torch.tensor([o.dark for o in batch.optics], device=truth.device)[
            :, None, None, None
        ]
        target = (truth - dark).clamp_min(0)
        one, two = light[0::2], light[1::2]
        mean = ((one - target) * (two - target)).mean()
        logs["truth"] = float(mean.detach())
        return mean + energy(one, two, target)

    @staticmethod
    def _warm(network: Vae, a: VaeArchitecture) -> float:
        """Return the warm-up's share of the divergence's weight; count a step in training."""
        if not network.training:
            return 1.0
        step = 1.0 if a.warmup_steps == 0 else 1 / a.warmup_steps
        network.warm.add_(step).clamp_(max=2.0)
        return min(1.0, float(network.warm))

    @staticmethod
    def _check_collapse(network: Vae, logs: Mapping[str, float]) -> None:
        """Raise after the warm-up if the latents of many batches carry no information."""
        said = sum(logs.values())
        if not network.training:
            return
        network.quiet = network.quiet + 1 if float(network.warm) >= 2.0 and said < COLLAPSED else 0
        if network.quiet >= QUIET:
            raise RecipeError(
                f"the latents no longer depend on the image ({said:.1g} nats per pixel: "
                "posterior collapse); set architecture.free_bits to 0.05, lower kl_weight, or "
                "lengthen warmup_steps"
            )

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the middle plane (B, 1, sY, sX) of the light at the posterior's means."""
        out: Tensor = network(measured)
        return out.float()


LEARNER = VaeLearner()


def _random(device: torch.device) -> Any:
    return lambda _, shape: torch.randn(shape, device=device)


def _free(a: VaeArchitecture, network: Vae) -> list[float]:
    """Return the free nats per pixel of each level."""
    return [a.free_bits * channels / stride**2 for stride, channels in network.levels]


def _beyond(divergence: Tensor, free: float) -> Tensor:
    """Return the divergence (B,), at least the free nats."""
    return divergence.clamp_min(free) if free else divergence


def _likelihood(
    network: Vae, a: VaeArchitecture, light: Tensor, measured: Tensor, optics: list[Optics]
) -> Tensor:
    """Return minus the mean log likelihood of the measured pixels.

    The patch's edge, where light from outside is missing, does not count.
    """
    expected = torch.empty_like(measured)
    variance = torch.empty_like(measured)
    for alike in dict.fromkeys(optics):
        rows = [number for number, other in enumerate(optics) if other is alike]
        seen = (
            alike.expected(light[rows], a.scale)
            if a.blur
            else _binned(light[rows], a.scale) + alike.base
        )
        expected[rows] = seen
        variance[rows] = alike.variance(
            measured[rows].mean((1, 2, 3), keepdim=True) if a.noise == "gaussian" else seen.detach()
        )
    if a.noise == "gaussian" and a.sigma is not None:
        variance = torch.full_like(variance, a.sigma**2)
    third, rim = a.planes // 3, min(8, measured.shape[-1] // 8)
    inner = (slice(None), slice(third, a.planes - third), slice(rim, -rim), slice(rim, -rim))
    y, mean, spread = measured[inner], expected[inner], variance[inner].clamp_min(1e-8)
    if a.noise == "mixture":
        density: Tensor = network.camera(y, mean, spread)
        return -density.mean()
    return 0.5 * ((y - mean).square() / spread).mean()


def _binned(light: Tensor, scale: int) -> Tensor:
    return light if scale == 1 else avg_pool2d(light, scale)


def _penalties(a: VaeArchitecture, light: Tensor) -> Tensor:
    total = light.new_zeros(())
    if a.l1:
        total = total + a.l1 * light.abs().mean()
    if a.l2:
        total = total + a.l2 * light.square().mean()
    if a.positivity:
        total = total + a.positivity * light.clamp_max(0).square().mean()
    if a.total_variation or a.huber:
        dy, dx = (
            light[..., 1:, :-1] - light[..., :-1, :-1],
            light[..., :-1, 1:] - light[..., :-1, :-1],
        )
        length = (dy.square() + dx.square() + 1e-8).sqrt()
        total = total + a.total_variation * length.mean()
        width = 0.05
        total = (
            total
            + a.huber
            * torch.where(
                length < width, 0.5 * length.square() / width, length - 0.5 * width
            ).mean()
        )
    return total


def energy(one: Tensor, two: Tensor, truth: Tensor, grids: tuple[int, ...] = (1, 2, 4)) -> Tensor:
    """Return the energy score of two independent draws (B, P, Y, X), over pixels and grids.

    Notes
    -----
    The score ``E|X - t| - E|X - X'| / 2`` is least if draws come from the distribution of the truth
    (Gneiting and Raftery, J. Am. Stat. Assoc. 102:359, 2007), so that it calibrates their spread;
    grids of pixel blocks calibrate the spread of larger structures.
    """
    total = one.new_zeros(())
    for grid in grids:
        a, b, t = (x if grid == 1 else avg_pool2d(x, grid) for x in (one, two, truth))
        total = total + (0.5 * ((a - t).abs() + (b - t).abs()) - 0.5 * (a - b).abs()).mean()
    return total / len(grids)
