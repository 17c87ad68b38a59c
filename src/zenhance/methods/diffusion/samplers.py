"""Samplers: from a measurement back to the specimen, timestep by timestep.

::

    x_t ──► predictor ──► estimate of x_0 ──► (data consistency) ──► x_s, s < t ──► ... ──► x_0

With a perfect predictor, each sampler ends at the specimen, for any number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Literal

from torch import Tensor

from zenhance.methods.diffusion.forward_process import moved
from zenhance.methods.diffusion.noise_schedule import Timestep
from zenhance.steps import relay

__all__ = ["FRESH_SHARE", "Sampler", "reverse"]

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
