"""Training of DQLR: all slices of a sequence at once, and the slices that follow one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Batch, Learner
from zenhance.contract.settings import validate
from zenhance.errors import RecipeError
from zenhance.methods._shared.front_end import CHANNELS
from zenhance.methods._shared.ssim import RADIUS_PX as SSIM_RADIUS_PX
from zenhance.methods._shared.ssim import structural_dissimilarity
from zenhance.methods.dqlr import FRONT_END_REACH_PX, MAX_REACH_PX
from zenhance.methods.dqlr.network import Dqlr, reach_px
from zenhance.methods.dqlr.quantiser import perplexity
from zenhance.types import Triple

__all__ = ["LEARNER", "DqlrArchitecture", "DqlrLearner"]

TYPICAL_PEAK = 4.0
"""The brightest of a volume relative to the local light, where without the front end it is 1."""
LARGE = 3.0
"""Difference relative to the light beyond which the loss grows linearly; about a dot's peak."""
MIN_POWER = 0.1
"""Of a patch without structure, relative to the light."""


class DqlrArchitecture(BaseModel):
    """A recipe's settings of network and loss; frozen, unknown keys refused.

    The defaults are the preset ``dqlr``. The loss is the mean squared difference, plus each other
    term times its weight.
    """

    model_config = {"frozen": True, "extra": "forbid"}

    window: int = Field(3, ge=1, le=9, description="slices that the encoder sees at once, odd")
    features: int = Field(64, ge=8, le=256, description="channels of encoder and generator")
    inner: int = Field(32, ge=4, le=256, description="channels inside the residual blocks")
    blocks: int = Field(3, ge=1, le=8, description="residual blocks of encoder and of generator")
    stride: Literal[2, 4] = Field(2, description="pixels per latent along y and x")
    recurrence: Literal["none", "forward", "both"] = Field(
        "both", description="over z: none, from the first slice, from both ends"
    )
    hidden: int = Field(32, ge=4, le=256, description="channels of the recurrence")
    words: int = Field(
        128, ge=0, le=4096, description="words of a dictionary; 0 for no quantisation"
    )
    dimensions: int = Field(64, ge=4, le=256, description="size of a latent vector")
    levels: int = Field(
        4, ge=1, le=16, description="dictionaries, each for the residual of the one before"
    )
    predicted: int = Field(2, ge=0, le=4, description="slices ahead that the recurrence predicts")
    planes: int = Field(8, ge=1, le=64, description="slices of a training sequence")
    target: Literal["truth", "measured"] = Field(
        "truth", description="target of the loss: the sharp specimen, or the measured slice"
    )
    front_end: bool = Field(
        False,
        description="whether the network sees evened light, noise, PSF and deconvolutions, and "
        "works relative to the local light",
    )
    absolute: float = Field(0.1, ge=0, description="weight of the mean absolute difference")
    reblur: float = Field(
        0.0, ge=0, description="weight of the difference after the blur, in noise units"
    )
    ssim: float = Field(0.0, ge=0, description="weight of the structural dissimilarity")
    commitment: float = Field(
        0.05, ge=0, description="weight of the distance between latents and their words"
    )
    prediction: float = Field(0.2, ge=0, description="weight of the slices ahead")


def _checked(architecture: Mapping[str, Any]) -> DqlrArchitecture:
    checked = validate(DqlrArchitecture, architecture, "architecture key", RecipeError)
    if checked.window % 2 == 0:
        raise RecipeError(
            f"the window is {checked.window} slices; it must be odd, with a middle slice"
        )
    if checked.predicted and checked.planes <= checked.predicted:
        raise RecipeError(
            f"{checked.predicted} slices ahead cannot be learnt from sequences of "
            f"{checked.planes}; give more planes"
        )
    most = FRONT_END_REACH_PX if checked.front_end else MAX_REACH_PX
    recurrent = checked.recurrence != "none"
    reach = reach_px(checked.stride, checked.blocks, recurrent, checked.front_end)
    if reach > most:
        raise RecipeError(
            f"the receptive field of this network has a radius of {reach} pixels, at most "
            f"{most} are allowed; give fewer blocks"
        )
    return checked


class DqlrLearner(Learner):
    """Learns all slices of a sequence at once, and the slices that follow."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network."""
        a = _checked(architecture)
        network = Dqlr(
            a.window,
            a.features,
            a.inner,
            a.blocks,
            a.stride,
            a.recurrence,
            a.hidden,
            a.words,
            a.dimensions,
            a.levels,
            a.predicted,
            a.front_end,
        )
        network.architecture = a
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def adopt(self, network: Module, initial: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights to begin from; those without the front end begin a network with it.

        It then repeats what they make of the evened measurement, and learns what the features
        are good for.
        """
        net = cast(Dqlr, network)
        if net.finish is None or any(name.startswith("finish.") for name in initial):
            return initial
        return widened(net, initial, TYPICAL_PEAK)

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> Triple:
        """Return (planes, size, size).

        Raises
        ------
        RecipeError
            The size is not a multiple of the stride, or smaller than the window of SSIM, if the
            loss uses it.
        """
        a = _checked(architecture)
        if size_px % a.stride:
            raise RecipeError(
                f"patch_px is {size_px}; it must be a multiple of the stride, {a.stride}"
            )
        if a.ssim and size_px <= 2 * SSIM_RADIUS_PX:
            raise RecipeError(
                f"patch_px is {size_px}; "
                f"with ssim in the loss it must be more than {2 * SSIM_RADIUS_PX}"
            )
        return (a.planes, size_px, size_px)

    def needs_truth(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether the target is the truth."""
        return _checked(architecture).target == "truth"

    def needs_optics(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether the front end or the loss needs them."""
        checked = _checked(architecture)
        return checked.front_end or checked.reblur > 0

    def front_end(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether the network sees the features of the front end."""
        return _checked(architecture).front_end

    def score(self, network: Module, metrics: Mapping[str, float]) -> float:
        """Return minus the loss where patches differ too much in light for one PSNR."""
        a = cast(DqlrArchitecture, network.architecture)
        return -metrics["loss"] if a.front_end else super().score(network, metrics)

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Compare every slice with the target, and the predicted slices with those that follow.

        Raises
        ------
        RecipeError
            The target is the truth, and the batch has no truth on the measurement's grid.
        """
        net = cast(Dqlr, network)
        a = cast(DqlrArchitecture, net.architecture)
        seen, light = _entering(net, batch.seen)
        target = _target(a, batch, light)
        count = target.shape[1]
        last = int(torch.randint(count - net.predicted, (1,))) if net.predicted else None
        made = net(seen, last)
        difference = made.enhanced.float() - target
        power = _power(target) if a.front_end else light
        loss = (_bounded(difference) / power).mean()
        loss = loss + a.absolute * (difference.abs() / power.sqrt()).mean()
        logs = {"commitment": float(made.commitment.detach())}
        if a.reblur:
            again = _reblurred(difference, light, seen, batch)
            loss, logs["reblur"] = loss + a.reblur * again, float(again.detach())
        if a.ssim:
            loss = loss + a.ssim * structural_dissimilarity(
                made.enhanced.flatten(0, 1)[:, None], target.flatten(0, 1)[:, None]
            )
        loss = loss + a.commitment * made.commitment
        if last is not None:
            follow = target[:, last + 1 : last + 1 + net.predicted]
            ahead = (_bounded(made.predicted.float() - follow) / power).mean()
            loss, logs["prediction"] = loss + a.prediction * ahead, float(ahead.detach())
        for level in range(made.index.shape[2]):
            logs[f"perplexity_{level + 1}"] = perplexity(made.index[:, :, level], a.words)
        return loss, logs

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the enhanced middle slice (B, 1, Y, X)."""
        net = cast(Dqlr, network)
        seen, light = _entering(net, measured)
        enhanced = net(seen).enhanced.float() * light
        middle: Tensor = enhanced[:, enhanced.shape[1] // 2][:, None]
        return middle


def _entering(network: Dqlr, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the network's sequence, and the light (B, T, Y, X) that its result is relative to."""
    if network.finish is None:
        return seen, seen.new_ones(())
    many = 1 + len(CHANNELS)
    parts = seen.reshape(
        len(seen), many, -1, *seen.shape[-2:]
    )  # measurement, light, further features
    light = parts[:, 1]
    return torch.cat([(parts[:, 0] / light)[:, None], parts[:, 2:]], 1), light


def _target(a: DqlrArchitecture, batch: Batch, light: Tensor) -> Tensor:
    """Return what the network should give (B, T, Y, X).

    With the front end it is what the camera would record without blur and noise: stray light
    belongs to it, because no camera separates the two.
    """
    if a.target == "measured":
        return batch.measured / light
    if not a.front_end:
        return batch.truth_on_grid
    stray = batch.measured.new_tensor([o.base - o.dark for o in batch.optics])
    return (batch.truth_on_grid + stray[:, None, None, None]) / light


def _bounded(difference: Tensor) -> Tensor:
    """Return squares that grow only linearly far from 0: a few bright dots must not decide."""
    return 2 * LARGE**2 * ((1 + (difference / LARGE).square()).sqrt() - 1)


def _power(target: Tensor) -> Tensor:
    """Return what the loss of a patch is relative to (B, 1, 1, 1): sparse or dense, all count."""
    return _bounded(target).mean((1, 2, 3), keepdim=True) + MIN_POWER


def _reblurred(difference: Tensor, light: Tensor, seen: Tensor, batch: Batch) -> Tensor:
    """Return how much of a difference the microscope would see: mean log(1 + t²), t in noise."""
    found = []
    for error, scale, noise, optics in zip(
        difference, light, seen[:, 1], batch.optics, strict=True
    ):
        blurred = optics.expected(error * scale) - optics.base
        found.append(torch.log1p((blurred / (scale * noise.exp())).square()).mean())
    return torch.stack(found).mean()


LEARNER = DqlrLearner()


def widened(network: Dqlr, initial: Mapping[str, Tensor], peak: float) -> Mapping[str, Tensor]:
    """Return weights with which a network with the front end repeats one without.

    Parameters
    ----------
    network : Dqlr
        With the front end; of the same architecture else.
    initial : mapping of str to Tensor
        Weights of the other network.
    peak : float
        What is 1 in the other network's images, relative to the light.

    Notes
    -----
    The first layer sees the evened measurement alone. The last maps hold the other network's slice
    and its negative, of which one passes the ReLU; the blend of the estimates is subtracted.
    """
    first, last = "encoder.layers.0.weight", f"generator.layers.{len(network.generator.layers) - 1}"
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state |= {name: value.clone() for name, value in initial.items()}
    state[first] = torch.zeros_like(network.state_dict()[first])
    state[first][:, : network.window] = initial[first] / peak
    for part in ("weight", "bias"):
        name = f"{last}.{part}"
        state[name] = network.state_dict()[name].clone()
        state[name][:2] = torch.cat([initial[name], -initial[name]])
    join, give = state["finish.join.weight"], state["finish.give.weight"]
    maps = give.shape[1]
    join[:4], state["finish.join.bias"][:4] = 0, 0
    for out, entering in enumerate((0, 1, maps + len(CHANNELS) - 2, maps + len(CHANNELS) - 1)):
        join[out, entering, 1, 1] = 1
    give[0, :4, 1, 1] = torch.tensor([peak, -peak, -0.5, -0.5])
    return state
