"""The reverse process over a tile: from the measurement to the specimen, timestep by timestep.

::

    x_t ──► predictor ──► estimate of x_0 ──► (data consistency) ──► x_s, s < t ──► ... ──► x_0

With a perfect predictor, each sampler ends at the specimen, for any number of steps.

A tile holds all planes of its column. Random numbers depend on the voxel, the step and the run, not
on the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from zenhance.contract.learner import Scaling
from zenhance.contract.spec import MethodContext, Prepared, TileGenerator
from zenhance.methods._shared.loading import load_model, voxel_warnings
from zenhance.methods.diffusion import METHOD, DiffusionParameters
from zenhance.methods.diffusion.forward_process import Timestep, match_timestep, moved
from zenhance.methods.diffusion.network import STRIDE, DiffusionNetwork
from zenhance.methods.diffusion.training import LEARNER, as_tensor, windows
from zenhance.physics.noise_field import noise_field
from zenhance.solvers.data_consistency import DataConsistency, data_consistency_of
from zenhance.steps import relay
from zenhance.types import FloatArray, Triple

__all__ = ["FRESH_SHARE", "DiffusionSampler", "Sampler", "find_timestep", "prepare", "reverse"]

# Most pixels that the network processes at once: small enough to check for Cancel often.
_PIXELS_AT_ONCE = 2**17
# Without a PSF, the timestep is guessed from this many planes of at most so many pixels.
_GUESS_PLANES, _GUESS_PX = 8, 512


@dataclass
class DiffusionSampler(Prepared):
    """A network made ready for one volume."""

    network: DiffusionNetwork
    scaling: Scaling
    timestep: Timestep
    parameters: DiffusionParameters
    device: str
    seed: int
    consistency: DataConsistency | None

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Enhance a tile (Z, Y, X)."""
        grey = torch.from_numpy(tile).to(self.device)
        measured = torch.from_numpy(self.scaling.forward(tile)).to(self.device)
        runs = max(1, self.parameters.samples)
        found = []
        for run in range(runs):
            one = yield from relay(
                self._run(measured, grey, origin_px, run),
                lambda fraction, run=run: (run + fraction) / runs,  # type: ignore[misc]
            )
            found.append(self.scaling.inverse(one.cpu().numpy()))
        if not self.parameters.samples:
            return {"enhanced": found[0]}
        samples = np.stack(found)
        spread = samples.std(axis=0, ddof=1, dtype=np.float64)
        return {
            "enhanced": samples.mean(axis=0),
            "samples": samples,
            "std": spread.astype(np.float32),
        }

    def _run(
        self, measured: Tensor, grey: Tensor, origin_px: Triple, run: int
    ) -> Generator[float, None, Tensor]:
        with torch.inference_mode():
            work = reverse(
                self.predict,
                measured,
                self.timestep,
                self.parameters.steps,
                self.parameters.sampler,
                agree=None if self.consistency is None else partial(self.make_consistent, grey),
                fresh=partial(self._fresh, origin_px, run, measured),
            )
        while True:
            with torch.inference_mode():
                try:
                    fraction = next(work)
                except StopIteration as done:
                    return cast(Tensor, done.value)
            yield fraction

    def predict(self, state: Tensor, timestep: Timestep) -> Generator[float, None, Tensor]:
        """Return the estimated specimen (Z, Y, X) of a state at a timestep."""
        depth, height, width = state.shape
        many = max(1, _PIXELS_AT_ONCE // (height * width))
        out = torch.empty_like(state)
        told = as_tensor([timestep], state.device)
        for first in range(0, depth, many):
            last = min(depth, first + many)
            planes = windows(state[None], self.network.window, first, last)[0]
            out[first:last] = self.network(planes, told.expand(last - first, 2))[:, 0]
            yield last / depth
        return out

    def make_consistent(self, grey: Tensor, estimate: Tensor) -> Tensor:
        """Return a scaled estimate drawn towards the measurement in grey values."""
        consistency = cast(DataConsistency, self.consistency)
        drawn = consistency(estimate * self.scaling.span + self.scaling.offset, grey)
        return (drawn - self.scaling.offset) / self.scaling.span

    def _fresh(self, origin_px: Triple, run: int, like: Tensor, step: int) -> Tensor:
        depth, height, width = like.shape
        drawn = noise_field(self.seed, step, run, 1, origin_px, (depth, height, width))
        return torch.from_numpy(drawn[:, 0]).to(self.device)


def prepare(context: MethodContext) -> Generator[float, None, DiffusionSampler]:
    """Load weights, find the measurement's timestep, and make the network ready for a volume.

    Raises
    ------
    CheckpointError
        There are no such weights, or they belong to another method.
    """
    p: DiffusionParameters = context.parameters
    model = yield from load_model("diffusion", LEARNER, context)
    network: DiffusionNetwork = model.network
    scaling = Scaling.of(context.statistics)
    timestep = find_timestep(context, scaling, network)
    own = timestep.t
    if p.start is not None:
        timestep = timestep.started_at(p.start)
    facts = model.facts
    facts["notes"] |= {
        "timestep": round(timestep.t, 3),
        "timestep of the image": round(own, 3),
        "blur at that timestep, px (z, y, x)": [round(sigma, 2) for sigma in timestep.sigma_px],
        "noise at that timestep, of the brightest": round(timestep.noise, 3),
    }
    warnings = voxel_warnings(context, model.checkpoint)
    if own >= 1.0:
        warnings.append(
            "the image is more blurred or noisier than all training images; "
            "bin its pixels, and judge the result with care"
        )
    return DiffusionSampler(
        network,
        scaling,
        timestep,
        p,
        context.device,
        context.seed,
        data_consistency_of(context, p.data_consistency),
        halo_px=METHOD.plan_halo_px(context),
        warnings=warnings,
        remark=_remark(timestep, own),
        **facts,
    )


def find_timestep(context: MethodContext, scaling: Scaling, network: DiffusionNetwork) -> Timestep:
    """Return the timestep of a volume from its PSF and noise.

    Without a PSF, the network guesses the timestep from some planes.
    """
    noise, constant = _noise(context, scaling)
    if context.psf is not None:
        z, y, x = context.psf.sigma_px(context.voxel_size_um)
        return match_timestep(
            (0.0 if network.window == 1 or context.shape_px[0] == 1 else z, y, x), noise, constant
        )
    depth, height, width = context.shape_px
    guesses = []
    for z_px in np.unique(np.linspace(0, depth - 1, _GUESS_PLANES).round().astype(int)):
        top, left = (max(0, (n - _GUESS_PX) // 2 // STRIDE * STRIDE) for n in (height, width))
        plane = context.read(
            (slice(z_px, z_px + 1), slice(top, top + _GUESS_PX), slice(left, left + _GUESS_PX))
        )
        with torch.inference_mode():
            guesses.append(
                network.guess(torch.from_numpy(scaling.forward(plane))[None].to(context.device))[
                    0
                ].cpu()
            )
    t, ratio = (float(v) for v in torch.stack(guesses).median(0).values)
    if context.noise is not None:
        ratio = max(0.01, min(1.0, noise / t))
    return Timestep(t, ratio, constant, (0.0 if network.window == 1 else 1.0, 1.0, 1.0))


def _remark(timestep: Timestep, own: float) -> str:
    _, y, x = timestep.sigma_px
    chosen = "" if timestep.t == own else f" as set; the image's own is {own:.2f}"
    return (
        f"started at timestep {timestep.t:.2f}{chosen}: blur of {y:.2f} × {x:.2f} px (y, x), "
        f"noise {100 * timestep.noise:.0f} % of the brightest; set start to change it"
    )


def _noise(context: MethodContext, scaling: Scaling) -> tuple[float, float]:
    """Return the standard deviation of the noise at scaled intensity 1.

    The second value is the share of the variance that does not depend on light.
    """
    camera = context.noise
    if camera is None:
        return 0.0, 0.5
    dark, bright = (
        camera.gain * max(scaling.offset + v * scaling.span - camera.offset, 0.0)
        + camera.read_noise**2
        for v in (0.0, 1.0)
    )
    return bright**0.5 / scaling.span, dark / max(bright, 1e-30)


Sampler = Literal["cold", "indi", "stochastic"]
FRESH_SHARE = 0.5
"""Share of the noise's variance that the stochastic sampler draws again in each step."""


def reverse(
    predict: Callable[[Tensor, Timestep], Generator[float, None, Tensor]],
    measured: Tensor,
    timestep: Timestep,
    steps: int,
    sampler: Sampler,
    *,
    agree: Callable[[Tensor], Tensor] | None = None,
    fresh: Callable[[int], Tensor] | None = None,
) -> Generator[float, None, Tensor]:
    """Run the reverse process; a generator, so that it can be stopped within a step.

    Parameters
    ----------
    predict : callable
        Takes a state (..., Z, Y, X) and its timestep; yields the fraction done and returns the
        estimated specimen.
    measured : Tensor
        The state at ``timestep``, scaled.
    timestep : Timestep
        Of the measurement.
    steps : int
        N, at least 1; timesteps are evenly spaced in t.
    sampler : {'cold', 'indi', 'stochastic'}
        Cold diffusion's Algorithm 2 (Bansal et al. 2022); InDI (Delbracio and Milanfar 2023),
        ``x_s = (1 - s / t) x_0 + (s / t) x_t``; or Algorithm 2 with half of the noise drawn again
        in every step.
    agree : callable, optional
        Data consistency, applied to each estimate.
    fresh : callable, optional
        Standard normal numbers of a step, for the stochastic sampler.

    Yields
    ------
    float
        Fraction done.

    Returns
    -------
    Tensor
        The last estimate of the specimen.
    """
    state = estimate = measured
    for step in range(steps):
        here, there = (timestep.t * (1.0 - number / steps) for number in (step, step + 1))
        estimate = yield from relay(
            predict(state, timestep.at(here)),
            lambda fraction, step=step: (step + fraction) / steps,  # type: ignore[misc]
        )
        if agree is not None:
            estimate = agree(estimate)
        yield (step + 1) / steps
        if step + 1 == steps:
            break
        if sampler == "indi":
            state = estimate + (there / here) * (state - estimate)
        else:
            drawn = fresh(step) if sampler == "stochastic" and fresh is not None else None
            state = moved(state, estimate, timestep.at(here), there, drawn, FRESH_SHARE)
    return estimate
