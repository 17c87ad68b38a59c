"""How the network of the reverse process learns.

Each patch is looked at three times: as it was measured, at its own timestep; on the way that the network itself goes from there, at a random
timestep below; and as the forward process makes it from the truth, at a random timestep and noise ratio. In all three the truth is wanted::

    measured y ────────────────────► f(y, t*) = x̂        compared with the truth
    moved(y, x̂, t* → t) ───────────► f(x_t, t)           compared with the truth
    degraded(truth, any t, any r) ─► f(x_t, t)           compared with the truth
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Batch, Learner, Optics
from zenhance.contract.settings import validate
from zenhance.errors import RecipeError
from zenhance.methods._shared.planes import mirrored
from zenhance.methods.diffusion.forward_process import blurred, degraded, moved
from zenhance.methods.diffusion.network import STRIDE, DiffusionNetwork, reach_px
from zenhance.methods.diffusion.noise_schedule import (
    MIN_NOISE_RATIO,
    STEPS,
    Timestep,
    match_timestep,
)
from zenhance.types import Triple

__all__ = [
    "LEARNER",
    "MAX_REACH_PX",
    "DiffusionArchitecture",
    "DiffusionLearner",
    "as_tensor",
    "windows",
]

MAX_REACH_PX = 64
"""Networks that look further along y and x in one step are refused: tiles are planned before weights are read."""

# What a user says of blur and noise is not exact; nor is what the network is told while it learns.
_TIMESTEP_DOUBT = 0.15
_NOISE_DOUBT = 0.3
# Blur along z in pixels relative to that in the plane, of stacks made by the forward process.
_SHAPES_Z = (0.4, 2.5)
# Brightness of such patches is changed by at most this factor: states at low timesteps may be far brighter than what they came from, or not.
_MAX_GAIN = 8.0
# The network walks at most so many steps of its own before it is asked again.
_MAX_JUMPS = 3
# Share of the steps in which it draws noise anew.
_RANDOM_SHARE = 0.2


class DiffusionArchitecture(BaseModel):
    """What a recipe says of the network, and of what it learns; frozen, unknown keys refused."""

    model_config = {"frozen": True, "extra": "forbid"}

    window: int = Field(1, ge=1, le=9, description="planes that it sees at once, odd")
    features: int = Field(32, ge=8, le=256, description="channels at half the resolution")
    deep_features: int = Field(
        32, ge=8, le=256, description="channels at a quarter of the resolution"
    )
    blocks: int = Field(3, ge=2, le=8, description="residual blocks at half the resolution")
    deep_blocks: int = Field(
        2, ge=1, le=8, description="residual blocks at a quarter of the resolution"
    )
    embedding: int = Field(24, ge=8, le=256, description="channels that carry the timestep")
    planes: int = Field(1, ge=1, le=64, description="planes of a training patch")
    absolute: float = Field(
        0.1, ge=0, description="weight of the mean absolute difference, beside the mean square"
    )
    measured: float = Field(
        1.0,
        ge=0,
        description="weight of the patches as they were measured, 0 for the forward process alone",
    )
    walked: float = Field(
        1.0,
        ge=0,
        description="weight of the states that the network itself comes to; needs measured",
    )
    made: float = Field(
        0.5, ge=0, description="weight of the patches that the forward process makes"
    )


def _checked(architecture: Mapping[str, Any]) -> DiffusionArchitecture:
    checked = validate(DiffusionArchitecture, architecture, "architecture key", RecipeError)
    if checked.window % 2 == 0:
        raise RecipeError(
            f"the window is {checked.window} planes; it must be odd, so that there is a middle one"
        )
    if (checked.planes > 1) != (checked.window > 1):
        raise RecipeError(
            f"a window of {checked.window} planes does not go with patches of {checked.planes}; both are 1, or both more"
        )
    if not checked.measured + checked.made:
        raise RecipeError(
            "measured and made are both 0, so there is nothing to learn from; give one of them a weight"
        )
    if (reach := reach_px(checked.blocks, checked.deep_blocks)) > MAX_REACH_PX:
        raise RecipeError(
            f"this network would look {reach} pixels far; at most {MAX_REACH_PX} are allowed, give fewer blocks"
        )
    return checked


def windows(stack: Tensor, window: int, first: int = 0, last: int | None = None) -> Tensor:
    """Return the planes about each of some planes: (B, Z, Y, X) becomes (B, last - first, window, Y, X), mirrored at the ends."""
    depth = stack.shape[1]
    half = window // 2
    index = mirrored(
        np.arange(first, depth if last is None else last)[:, None]
        + np.arange(-half, half + 1)[None],
        depth,
    )
    return stack[:, torch.from_numpy(index).to(stack.device)]


def as_tensor(timesteps: list[Timestep], device: torch.device) -> Tensor:
    """Return what the network is told of timesteps: t and r (B, 2)."""
    return torch.tensor(
        [(timestep.t, timestep.ratio) for timestep in timesteps], dtype=torch.float32, device=device
    )


def predict_stacks(network: DiffusionNetwork, states: Tensor, timesteps: Tensor) -> Tensor:
    """Return the specimens (B, Z, Y, X) of states of that shape, each at its timestep (B, 2)."""
    count, depth = states.shape[:2]
    planes = windows(states, network.window).flatten(0, 1)
    out: Tensor = network(planes, timesteps.repeat_interleave(depth, 0)).float()
    return out[:, 0].reshape(count, depth, *out.shape[-2:])


class DiffusionLearner(Learner):
    """Learns to tell the specimen from an image at any timestep."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network.

        Raises
        ------
        RecipeError
            The architecture has an unknown key or a value out of range.
        """
        a = _checked(architecture)
        network = DiffusionNetwork(
            a.window, a.features, a.deep_features, a.blocks, a.deep_blocks, a.embedding
        )
        network.architecture = a
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> Triple:
        """Return (planes, size, size).

        Raises
        ------
        RecipeError
            The size is no multiple of 4.
        """
        a = _checked(architecture)
        if size_px % STRIDE:
            raise RecipeError(f"patch_px is {size_px}; it must be a multiple of {STRIDE}")
        return (a.planes, size_px, size_px)

    def needs_optics(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether measured patches are learnt from: their timestep follows from how they were measured."""
        return _checked(architecture).measured > 0

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Compare what the network makes of patches, of its own states and of the forward process with the truth.

        Raises
        ------
        RecipeError
            The batch has no truth on the measurement's grid, or does not say how it was measured.
        """
        net = cast(DiffusionNetwork, network)
        a = cast(DiffusionArchitecture, net.architecture)
        truth, measured = batch.truth, batch.measured
        if truth is None:
            raise RecipeError(
                "this method learns from pairs, but a training stack has no truth; give pairs or simulated"
            )
        if truth.shape != measured.shape:
            raise RecipeError(
                "the truth is finer than the measurement; this method does not enlarge, give truth on the same grid"
            )
        draw = np.random.default_rng(int(torch.randint(2**31, (1,))))
        total, logs = measured.new_zeros(()), {}
        states, targets, timesteps, weights = [], [], [], []
        if a.measured:
            if not batch.optics:
                raise RecipeError(
                    "how a training patch was measured is not known; give data.psf in the recipe"
                )
            own = [
                _timestep_of_optics(optics, draw, planar=a.window == 1) for optics in batch.optics
            ]
            told = as_tensor(own, measured.device)
            estimate = predict_stacks(net, measured, told)
            first = self._difference(estimate, truth, a)
            guess = net.guess_loss(measured[:, measured.shape[1] // 2][:, None], told)
            total, logs["measured"] = (
                total + a.measured * first + 0.1 * guess,
                float(first.detach()),
            )
            logs["guess"] = float(guess.detach())
            if a.walked:
                walked, at = _walk(net, measured, estimate.detach(), own, draw)
                states, targets, timesteps, weights = [walked], [truth], at, [a.walked]
        if a.made:
            made, wanted, at = _made(truth, measured, draw, planar=a.window == 1)
            states, targets, timesteps, weights = (
                [*states, made],
                [*targets, wanted],
                [*timesteps, *at],
                [*weights, a.made],
            )
        if states:
            found = predict_stacks(net, torch.cat(states), as_tensor(timesteps, measured.device))
            parts = torch.split(found, len(measured))
            for name, part, target, weight in zip(
                ("walked", "made")[-len(states) :], parts, targets, weights, strict=True
            ):
                apart = self._difference(part, target, a)
                total, logs[name] = total + weight * apart, float(apart.detach())
        return total, logs

    def _difference(self, found: Tensor, wanted: Tensor, a: DiffusionArchitecture) -> Tensor:
        difference = found - wanted
        return difference.square().mean() + a.absolute * difference.abs().mean()

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the middle plane (B, 1, Y, X) in one step, from the timestep that the patches seem to have."""
        net = cast(DiffusionNetwork, network)
        return _first_word(net, measured, net.guess(measured[:, measured.shape[1] // 2][:, None]))

    def predict_batch(self, network: Module, batch: Batch) -> Tensor:
        """Return the same from the timestep that their optics give them; without optics, from the one they seem to have."""
        net = cast(DiffusionNetwork, network)
        if not batch.optics:
            return self.predict(network, batch.measured)
        own = [_timestep_of_optics(optics, None, planar=net.window == 1) for optics in batch.optics]
        return _first_word(net, batch.measured, as_tensor(own, batch.measured.device))


LEARNER = DiffusionLearner()


def _first_word(network: DiffusionNetwork, measured: Tensor, timesteps: Tensor) -> Tensor:
    middle = measured.shape[1] // 2
    out: Tensor = network(windows(measured, network.window, middle, middle + 1)[:, 0], timesteps)
    return out


def _timestep_of_optics(
    optics: Optics, draw: np.random.Generator | None, *, planar: bool
) -> Timestep:
    """Return the timestep of a patch, with some doubt where one is to be drawn, as whoever enhances a stack has it too."""
    z, y, x = optics.sigma_px
    bright, dark = (float(optics.variance(torch.tensor(v))) for v in (1.0, 0.0))
    first, second = (0.0, 0.0) if draw is None else (draw.standard_normal(), draw.standard_normal())
    wrong = math.exp(_TIMESTEP_DOUBT * first)
    noise = math.sqrt(max(bright, 0.0)) * math.exp(_NOISE_DOUBT * second)
    sigma = (0.0 if planar else z * wrong, y * wrong, x * wrong)
    return match_timestep(sigma, noise, max(dark, 0.0) / max(bright, 1e-12))


def _walk(
    network: DiffusionNetwork,
    measured: Tensor,
    estimate: Tensor,
    own: list[Timestep],
    draw: np.random.Generator,
) -> tuple[Tensor, list[Timestep]]:
    """Return the states that cold sampling comes to in a few steps of random length, and their timesteps."""
    states, at = measured, own
    for jump in range(int(draw.integers(1, _MAX_JUMPS + 1))):
        if jump:
            with torch.no_grad():
                estimate = predict_stacks(network, states, as_tensor(at, measured.device))
        to = [timestep.t * draw.uniform(0.05, 1.0) for timestep in at]
        share = float(draw.uniform(0.0, 1.0)) if draw.random() < _RANDOM_SHARE else 0.0
        with torch.autocast(measured.device.type, enabled=False):
            steps = zip(states, estimate, at, to, strict=True)
            states = torch.stack(
                [
                    moved(image, made, timestep, t, torch.randn_like(image), share)
                    for image, made, timestep, t in steps
                ]
            )
        at = [timestep.at(t) for timestep, t in zip(at, to, strict=True)]
    return states, at


def _made(
    truth: Tensor, measured: Tensor, draw: np.random.Generator, *, planar: bool
) -> tuple[Tensor, Tensor, list[Timestep]]:
    """Return states that the forward process makes of the truth, what is wanted of them, and their timesteps."""
    states, wanted, timesteps = [], [], []
    with torch.autocast(truth.device.type, enabled=False):
        for sharp, seen in zip(truth, measured, strict=True):
            t = draw.integers(1, STEPS + 1) / STEPS
            ratio = MIN_NOISE_RATIO ** draw.uniform(0.0, 1.0)
            z = 0.0 if planar else round(math.exp(draw.uniform(*np.log(_SHAPES_Z))), 1)
            timestep = Timestep(t, ratio, draw.uniform(0.05, 1.0), (z, 1.0, 1.0))
            expected = blurred(sharp, timestep)
            peak = float(seen.amax()) / max(float(expected.amax()), 1e-3)
            gain = min(_MAX_GAIN, max(1 / _MAX_GAIN, peak)) ** draw.uniform(0.0, 1.0)
            states.append(degraded(gain * sharp, timestep, torch.randn_like(sharp)))
            wanted.append(gain * sharp)
            timesteps.append(timestep)
    return torch.stack(states), torch.stack(wanted), timesteps
