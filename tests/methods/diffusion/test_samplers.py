"""Ways back: whoever predicts perfectly arrives at the specimen, and each step can be stopped."""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

import pytest
import torch

from zenhance.methods.diffusion.forward_process import Timestep, blurred, degraded
from zenhance.methods.diffusion.inference import Sampler, reverse

LEVEL = Timestep(0.6, 0.3, 0.3, (1.0, 1.0, 1.0))
SAMPLERS: tuple[Sampler, ...] = ("cold", "indi", "stochastic")


def specimen() -> torch.Tensor:
    return torch.rand((5, 32, 28), generator=torch.Generator().manual_seed(3)) ** 4


def normal(seed: int) -> torch.Tensor:
    return torch.randn((5, 32, 28), generator=torch.Generator().manual_seed(seed))


class Predictor:
    """Says what the specimen is, and remembers the states that it was shown."""

    def __init__(self, answer: torch.Tensor | None) -> None:
        self.answer = answer
        self.seen: list[tuple[torch.Tensor, Timestep]] = []

    def __call__(
        self, state: torch.Tensor, level: Timestep
    ) -> Generator[float, None, torch.Tensor]:
        self.seen.append((state, level))
        yield 0.5
        return state if self.answer is None else self.answer


def walk(predictor: Predictor, steps: int, sampler: Sampler, **more: object) -> torch.Tensor:
    work = reverse(
        predictor,
        degraded(specimen(), LEVEL, normal(1)),
        LEVEL,
        steps,
        sampler,
        fresh=normal,
        **more,
    )  # type: ignore[arg-type]
    fractions = []
    while True:
        try:
            fractions.append(next(work))
        except StopIteration as done:
            assert fractions == sorted(fractions)
            assert fractions[-1] == 1.0
            return cast(torch.Tensor, done.value)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 100])
def test_a_perfect_predictor_recovers_the_specimen_exactly(sampler: Sampler, steps: int) -> None:
    assert torch.equal(walk(Predictor(specimen()), steps, sampler), specimen())


def test_with_a_perfect_predictor_cold_states_are_those_of_the_forward_process() -> None:
    predictor = Predictor(specimen())
    walk(predictor, 4, "cold")
    assert [level.t for _, level in predictor.seen] == pytest.approx([0.6, 0.45, 0.3, 0.15])
    for state, level in predictor.seen:
        assert torch.allclose(state, degraded(specimen(), level, normal(1)), atol=1e-4)


def test_indi_goes_straight() -> None:
    predictor = Predictor(specimen())
    walk(predictor, 2, "indi")
    start, halfway = predictor.seen[0][0], predictor.seen[1][0]
    assert torch.allclose(halfway, 0.5 * (start + specimen()), atol=1e-6)


def test_the_stochastic_way_is_random_in_its_states_and_repeats_with_its_numbers() -> None:
    cold, drawn, again = (Predictor(specimen()) for _ in range(3))
    walk(cold, 3, "cold")
    walk(drawn, 3, "stochastic")
    walk(again, 3, "stochastic")
    assert not torch.allclose(cold.seen[1][0], drawn.seen[1][0], atol=1e-2)
    assert torch.equal(drawn.seen[2][0], again.seen[2][0])


def test_a_predictor_that_does_nothing_leaves_blur_behind() -> None:
    """The sampler alone sharpens nothing: what comes out is what the predictor says."""
    out = walk(Predictor(None), 5, "cold")
    assert float((out - specimen()).square().mean()) > 0.1 * float(
        (blurred(specimen(), LEVEL) - specimen()).square().mean()
    )


def test_every_estimate_is_drawn_towards_the_measurement() -> None:
    seen: list[torch.Tensor] = []

    def agree(estimate: torch.Tensor) -> torch.Tensor:
        seen.append(estimate)
        return 0.5 * estimate

    out = walk(Predictor(specimen()), 3, "cold", agree=agree)
    assert len(seen) == 3
    assert torch.equal(out, 0.5 * specimen())


def test_it_can_be_left_within_a_step() -> None:
    predictor = Predictor(specimen())
    work = reverse(predictor, specimen(), LEVEL, 100, "cold")
    next(work)
    work.close()
    assert len(predictor.seen) == 1
