"""Training of the network of the reverse process.

The network sees each patch in three states: as measured, at the patch's own timestep; on the
network's own path from there, at a random lower timestep; and as the forward process makes it from
the truth, at a random timestep and noise ratio. All three are trained against the truth::

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
from zenhance.methods.diffusion.forward_process import (
    MIN_NOISE_RATIO,
    STEPS,
    Timestep,
    blurred,
    degraded,
    match_timestep,
    moved,
)
from zenhance.methods.diffusion.network import STRIDE, DiffusionNetwork, reach_px
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
"""Largest receptive field of one step along y and x: tiles are planned before weights are read."""

# A user's figures of blur and noise are not exact; training disturbs them by as much.
_TIMESTEP_DOUBT = 0.15
_NOISE_DOUBT = 0.3
# Range of the blur along z relative to that in the plane, in stacks of the forward process.
_SHAPES_Z = (0.4, 2.5)
# Such patches are made at most this factor brighter or dimmer: a state at a low timestep can be
# far brighter than its measurement.
_MAX_GAIN = 8.0
# Most steps of the network's own path before it is compared with the truth.
_MAX_JUMPS = 3
# Share of these steps that draw new noise.
_RANDOM_SHARE = 0.2


class DiffusionArchitecture(BaseModel):
    """A recipe's settings of network and loss; frozen, unknown keys refused."""

    model_config = {"frozen": True, "extra": "forbid"}

    window: int = Field(1, ge=1, le=9, description="planes seen at once, odd")
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
        0.1, ge=0, description="weight of the mean absolute difference, added to the mean square"
    )
    measured: float = Field(
        1.0,
        ge=0,
        description="weight of the patches as measured; 0 for the forward process alone",
    )
    walked: float = Field(
        1.0,
        ge=0,
        description="weight of the states on the network's own path; needs measured",
    )
    made: float = Field(
        0.5, ge=0, description="weight of the patches that the forward process makes"
    )


def _checked(architecture: Mapping[str, Any]) -> DiffusionArchitecture:
    checked = validate(DiffusionArchitecture, architecture, "architecture key", RecipeError)
    if checked.window % 2 == 0:
        raise RecipeError(
            f"the window is {checked.window} planes; it must be odd, with a middle plane"
        )
    if (checked.planes > 1) != (checked.window > 1):
        raise RecipeError(
            f"a window of {checked.window} planes does not fit patches of {checked.planes}; "
            "set both to 1, or both to more"
        )
    if not checked.measured + checked.made:
        raise RecipeError(
            "measured and made are both 0, so there is nothing to learn from; "
            "give one of them a weight"
        )
    if (reach := reach_px(checked.blocks, checked.deep_blocks)) > MAX_REACH_PX:
        raise RecipeError(
            f"the receptive field of this network has a radius of {reach} pixels, at most "
            f"{MAX_REACH_PX} are allowed; give fewer blocks"
        )
    return checked


def windows(stack: Tensor, window: int, first: int = 0, last: int | None = None) -> Tensor:
    """Return the window around each plane from ``first`` to ``last``, mirrored at the ends.

    A stack (B, Z, Y, X) becomes (B, last - first, window, Y, X).
    """
    depth = stack.shape[1]
    half = window // 2
    index = mirrored(
        np.arange(first, depth if last is None else last)[:, None]
        + np.arange(-half, half + 1)[None],
        depth,
    )
    return stack[:, torch.from_numpy(index).to(stack.device)]


def as_tensor(timesteps: list[Timestep], device: torch.device) -> Tensor:
    """Return t and r (B, 2) of timesteps, an input of the network."""
    return torch.tensor(
        [(timestep.t, timestep.ratio) for timestep in timesteps], dtype=torch.float32, device=device
    )


def predict_stacks(network: DiffusionNetwork, states: Tensor, timesteps: Tensor) -> Tensor:
    """Return the specimens of states (B, Z, Y, X), each at its timestep (B, 2)."""
    count, depth = states.shape[:2]
    planes = windows(states, network.window).flatten(0, 1)
    out: Tensor = network(planes, timesteps.repeat_interleave(depth, 0)).float()
    return out[:, 0].reshape(count, depth, *out.shape[-2:])


class DiffusionLearner(Learner):
    """Learns to predict the specimen from an image at any timestep."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network."""
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
            The size is not a multiple of 4.
        """
        a = _checked(architecture)
        if size_px % STRIDE:
            raise RecipeError(f"patch_px is {size_px}; it must be a multiple of {STRIDE}")
        return (a.planes, size_px, size_px)

    def needs_optics(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether patches are used as measured: their optics give the timestep."""
        return _checked(architecture).measured > 0

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Compare the network's specimens with the truth; see the module's docstring.

        Raises
        ------
        RecipeError
            The batch has no truth on the measurement's grid, or its optics are unknown.
        """
        net = cast(DiffusionNetwork, network)
        a = cast(DiffusionArchitecture, net.architecture)
        truth, measured = batch.truth_on_grid, batch.measured
        draw = np.random.default_rng(int(torch.randint(2**31, (1,))))
        total: Tensor = measured.new_zeros(())
        logs: dict[str, float] = {}
        drawn: dict[str, tuple[float, _States]] = {}
        if a.measured:
            if not batch.optics:
                raise RecipeError(
                    "the optics of a training patch are unknown; give data.psf in the recipe"
                )
            own = [_timestep_of_optics(o, draw, planar=a.window == 1) for o in batch.optics]
            told = as_tensor(own, measured.device)
            estimate = predict_stacks(net, measured, told)
            first = _difference(estimate, truth, a)
            guess = net.guess_loss(_middle(measured), told)
            total = total + a.measured * first + 0.1 * guess
            logs |= {"measured": float(first.detach()), "guess": float(guess.detach())}
            if a.walked:
                states, at = _walk(net, measured, estimate.detach(), own, draw)
                drawn["walked"] = (a.walked, (states, truth, at))
        if a.made:
            drawn["made"] = (a.made, _made(truth, measured, draw, planar=a.window == 1))
        if drawn:
            states = torch.cat([states for _, (states, _, _) in drawn.values()])
            timesteps = [timestep for _, (_, _, at) in drawn.values() for timestep in at]
            found = predict_stacks(net, states, as_tensor(timesteps, measured.device))
            parts = torch.split(found, len(measured))
            for part, (name, (weight, (_, wanted, _))) in zip(parts, drawn.items(), strict=True):
                difference = _difference(part, wanted, a)
                total, logs[name] = total + weight * difference, float(difference.detach())
        return total, logs

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the middle plane (B, 1, Y, X) in one step, from the guessed timesteps."""
        net = cast(DiffusionNetwork, network)
        return _first_step(net, measured, net.guess(_middle(measured)))

    def predict_batch(self, network: Module, batch: Batch) -> Tensor:
        """Return the same from the timesteps of the optics; guessed without optics."""
        net = cast(DiffusionNetwork, network)
        if not batch.optics:
            return self.predict(network, batch.measured)
        own = [_timestep_of_optics(optics, None, planar=net.window == 1) for optics in batch.optics]
        return _first_step(net, batch.measured, as_tensor(own, batch.measured.device))


LEARNER = DiffusionLearner()

_States = tuple[Tensor, Tensor, list[Timestep]]
"""States, the specimens that belong to them (B, Z, Y, X each), and their timesteps."""


def _middle(stack: Tensor) -> Tensor:
    """Return the middle plane (B, 1, Y, X) of stacks."""
    return stack[:, stack.shape[1] // 2][:, None]


def _difference(found: Tensor, wanted: Tensor, a: DiffusionArchitecture) -> Tensor:
    difference = found - wanted
    return difference.square().mean() + a.absolute * difference.abs().mean()


def _first_step(network: DiffusionNetwork, measured: Tensor, timesteps: Tensor) -> Tensor:
    middle = measured.shape[1] // 2
    out: Tensor = network(windows(measured, network.window, middle, middle + 1)[:, 0], timesteps)
    return out


def _timestep_of_optics(
    optics: Optics, draw: np.random.Generator | None, *, planar: bool
) -> Timestep:
    """Return the timestep of a patch; ``draw`` disturbs it as much as a user's own figures."""
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
    """Return the states of cold sampling after some steps of random length, and timesteps."""
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


def _made(truth: Tensor, measured: Tensor, draw: np.random.Generator, *, planar: bool) -> _States:
    """Return states of the forward process, made from the truth at random timesteps."""
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
