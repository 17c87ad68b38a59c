"""What volumes are looked at for before a training: how they were measured, estimates that the network sees, light that it has to find."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from zenhance.contract.learner import Learner
from zenhance.training.data import TrainingVolume, with_optics
from zenhance.training.recipe import Recipe

__all__ = ["look_steps"]

Volumes = list[TrainingVolume]


def look_steps(
    recipe: Recipe, learner: Learner, volumes: tuple[Volumes, Volumes]
) -> Generator[float, None, tuple[Volumes, Volumes]]:
    """Return the volumes with what the learner wants to know of them; each is looked at once, also where it is in both lists.

    Yields
    ------
    float
        The share that is done.
    """
    if not learner.needs_optics(recipe.architecture):
        return volumes
    known: dict[int, TrainingVolume] = {}
    different = list({id(volume): volume for some in volumes for volume in some}.values())
    for number, volume in enumerate(different):
        steps = _one(recipe, learner, volume)
        while True:
            try:
                yield (number + next(steps)) / len(different)
            except StopIteration as done:
                known[id(volume)] = done.value
                break
    return _in_place(volumes[0], known), _in_place(volumes[1], known)


def _in_place(volumes: Sequence[TrainingVolume], known: dict[int, TrainingVolume]) -> Volumes:
    return [known[id(volume)] for volume in volumes]


def _one(
    recipe: Recipe, learner: Learner, volume: TrainingVolume
) -> Generator[float, None, TrainingVolume]:
    found = with_optics(volume, recipe.data.psf, recipe.data.psf_growth)
    yield 0.0
    iterations = learner.deconvolved(recipe.architecture)
    if iterations and found.estimates is None:
        found = yield from found.estimate_steps(iterations)
    if found.light is None:
        found = yield from found.light_steps(learner, recipe.architecture)
    return found
