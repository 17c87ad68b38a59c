"""Self-training from measurements alone: the microscope images an estimate of the specimen again.

::

    measured y ──► first estimate x (deconvolution, or the model to start from)
                       │
        ┌──────────────┴─────────────┐
        ▼                            │
    blurred with the PSF,            │
    noise of this camera ──► pairs (resimulated, x) ──► training ──► network
                                                                          │
                     next estimate  x = network(y)  ◄─────────────────────┘   a few rounds

What is resimulated has the specimen's own structures, the stack's own blur and noise of its own
kind, drawn several times in each round: the network learns to remove what the microscope adds,
and cannot learn to repeat the noise of ``y``. The estimate is only as good as PSF and noise model,
and keeps what the first one has invented; the re-blur check (``zenhance assess``) tells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch

from zenhance.contract import registry
from zenhance.contract.learner import LearningMethod
from zenhance.errors import CheckpointError, RecipeError, RunCancelled
from zenhance.io.commit import write_bytes
from zenhance.models.catalogue import SUFFIX, find_weights
from zenhance.models.checkpoint import read_checkpoint
from zenhance.steps import relay
from zenhance.training.data import TrainingVolume
from zenhance.training.pseudo_pairs import Column, cut_columns, estimate_steps, pair_steps
from zenhance.training.recipe import Recipe, load_recipe
from zenhance.training.state import RECIPE_FILE, TrainProgress, TrainResult
from zenhance.training.validate import Validation

__all__ = ["FIRST_ESTIMATE", "is_self_supervised", "self_training_steps"]

FIRST_ESTIMATE = "gaussian_deconvolution"
"""The method of the first estimate where there is no model to start from."""
CUT_SHARE, READY_SHARE = 0.01, 0.1
"""Of a round's progress: when the stacks have been cut, and when its first step comes."""

Train = Callable[..., Generator[TrainProgress, None, TrainResult]]
T = TypeVar("T")


def is_self_supervised(recipe: Recipe, volumes: Sequence[TrainingVolume]) -> bool:
    """Whether a recipe's network needs a truth and no volume has one."""
    method = registry.load(recipe.method)
    needs = isinstance(method, LearningMethod) and method.learner().needs_truth(recipe.architecture)
    return bool(volumes) and needs and all(volume.truth is None for volume in volumes)


def self_training_steps(
    recipe: Recipe,
    folder: Path,
    volumes: Sequence[TrainingVolume],
    train: Train,
    *,
    device: str,
    resume: bool = False,
    stop: threading.Event | None = None,
    command: str = "",
) -> Generator[TrainProgress, None, TrainResult]:
    """Learn from stacks without truth, in the recipe's rounds.

    Parameters
    ----------
    recipe : Recipe
        ``rounds``, ``start`` and ``data.psf`` are meant for this; steps and minutes are those of
        all rounds together.
    folder : Path
        Each round has its own folder in it; the final model is written beside them.
    volumes : sequence of TrainingVolume
        The measurements; a truth is not looked at.
    train : callable
        ``train_steps``; called once a round with pairs.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    resume : bool
        Go on after the last round that was finished, and in it where its state was kept.
    stop : threading.Event, optional
        Ends the training after the step it is at; the best model of that round is kept.
    command : str
        For the card.

    Yields
    ------
    TrainProgress

    Returns
    -------
    TrainResult

    Raises
    ------
    StackError
        A stack's voxel size is not known.
    RecipeError
        There are no stacks.
    RunCancelled
        Stopped before the first step: there is no model.
    """
    if not volumes:
        raise RecipeError("there is nothing to learn from; give at least one stack")
    run = _Alone(recipe, folder, train, device, resume, stop or threading.Event(), command)
    run.begin()
    result = run.finished()
    if run.done < recipe.rounds:
        columns = yield from _unless(
            run.stop, run.told(cut_columns(volumes, recipe), run.done, 0.0, CUT_SHARE)
        )
        for number in range(run.done, recipe.rounds):
            lists = yield from _made(run, columns or (), number)
            if run.stop.is_set():
                break
            result = yield from run.round(number, lists)
    if result is None:
        raise RunCancelled("the training was stopped before its first step; there is no model")
    path = write_bytes(folder / f"{recipe.name}{SUFFIX}", result.path.read_bytes(), overwrite=True)
    return replace(result, path=path)


Lists = tuple[list[TrainingVolume], list[TrainingVolume]]


@dataclass
class _Alone:
    """A training in rounds, and how far it is."""

    recipe: Recipe
    folder: Path
    train: Train
    device: str
    resume: bool
    stop: threading.Event
    command: str
    started: float = field(default_factory=time.perf_counter)
    earlier_s: float = 0.0
    done: int = 0
    method: str = FIRST_ESTIMATE
    weights: str | None = None
    initial: dict[str, torch.Tensor] | None = None
    # Of all rounds so far; a round that the time ends has fewer than its share.
    steps_done: int = 0

    def begin(self) -> None:
        """Write the recipe, and start from the weights that it names."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.resume:
            write_bytes(self.folder / RECIPE_FILE, self.recipe.to_yaml().encode(), overwrite=False)
        if self.recipe.start:
            self._start_from(find_weights(self.recipe.method, self.recipe.start))

    def _start_from(self, path: Path) -> None:
        checkpoint = read_checkpoint(path)
        if checkpoint.card.method != self.recipe.method:
            raise CheckpointError(
                f'the model "{path.name}" belongs to the method {checkpoint.card.method}, not to '
                f"{self.recipe.method}"
            )
        self.method, self.weights, self.initial = (
            self.recipe.method,
            str(path),
            dict(checkpoint.state),
        )

    def finished(self) -> TrainResult | None:
        """Resume the rounds that an earlier session finished; return the result of the last one."""
        result: TrainResult | None = None
        while (
            self.resume
            and self.done < self.recipe.rounds
            and (path := self._kept(self.done)).is_file()
        ):
            card = read_checkpoint(path).card
            result = TrainResult(
                path, card, f"all {self.recipe.rounds} rounds were done before", ()
            )
            self.earlier_s += card.seconds
            self.steps_done += card.steps
            self._start_from(path)
            self.done += 1
        return result

    def _kept(self, number: int) -> Path:
        """Return the path of the model of a finished round."""
        return self.folder / f"round_{number + 1}{SUFFIX}"

    def told(
        self, steps: Generator[float, None, T], number: int, first: float, last: float
    ) -> Generator[TrainProgress, None, T]:
        """Pass on steps of preparation as progress of a round, from one share of it to another."""
        share = 0.0

        def convert(fraction: float) -> TrainProgress:
            # A method counts its two parts, preparing and running, each from 0.
            nonlocal share
            share = max(share, fraction)
            at = (number + first + (last - first) * share) / self.recipe.rounds
            return TrainProgress("data", self.steps_done, self.recipe.steps, at, None)

        return (yield from relay(steps, convert))

    def round(self, number: int, lists: Lists) -> Generator[TrainProgress, None, TrainResult]:
        """Train on the pairs of a round, and keep its model for the next one."""
        place, began = self.folder / f"round_{number + 1}", time.perf_counter()
        again = self.resume and (place / RECIPE_FILE).is_file()
        # The time that is left differs from sitting to sitting, but a state belongs to the recipe
        # that it was made with.
        part = (
            load_recipe(str(place / RECIPE_FILE))
            if again
            else _round(self.recipe, number, self.earlier_s + began - self.started)
        )
        inner = self.train(
            part,
            place,
            volumes=lists,
            device=self.device,
            initial=self.initial,
            resume=again,
            stop=self.stop,
            command=self.command,
        )
        result = yield from self.counted(inner, number)
        self.earlier_s += (
            max(0.0, result.card.seconds - (time.perf_counter() - began)) if again else 0.0
        )
        if not self.stop.is_set():
            self._start_from(
                write_bytes(self._kept(number), result.path.read_bytes(), overwrite=True)
            )
        return result

    def counted(
        self, steps: Generator[TrainProgress, None, TrainResult], number: int
    ) -> Generator[TrainProgress, None, TrainResult]:
        """Pass on the progress of a round as that of all rounds."""
        before, rounds = self.steps_done, self.recipe.rounds

        def convert(progress: TrainProgress) -> TrainProgress:
            left, found = progress.seconds_left, progress.validation
            if left is not None:
                is_over = progress.fraction >= 1
                share = 1 - progress.fraction
                left = None if is_over else left * (rounds - number - progress.fraction) / share
            done = number + READY_SHARE + (1 - READY_SHARE) * progress.fraction
            self.steps_done = max(self.steps_done, before + progress.step)
            return replace(
                progress,
                step=before + progress.step,
                steps=self.recipe.steps,
                fraction=min(1.0, done / rounds),
                seconds_left=left,
                validation=None if found is None else _of_estimate(found),
            )

        return (yield from relay(steps, convert))


def _made(
    run: _Alone, columns: Sequence[Column], number: int
) -> Generator[TrainProgress, None, Lists]:
    """Estimate the specimen in each column and image it again; the user can stop in between."""
    train_on: list[TrainingVolume] = []
    held: list[TrainingVolume] = []
    for index, column in enumerate(columns):
        first, last = (
            CUT_SHARE + (READY_SHARE - CUT_SHARE) * (index + part) / len(columns) for part in (0, 1)
        )
        middle = 0.7 * last + 0.3 * first
        seed = run.recipe.seed * 1009 + number * len(columns) + index
        made = run.told(
            estimate_steps(run.method, run.weights, column, run.device, run.recipe.seed),
            number,
            first,
            middle,
        )
        estimate = yield from _unless(run.stop, made)
        if estimate is None:
            break
        pairs = yield from _unless(
            run.stop, run.told(pair_steps(column, estimate, seed), number, middle, last)
        )
        if pairs is None:
            break
        train_on += pairs[0]
        held.append(pairs[1])
    return train_on, held


def _unless(
    stop: threading.Event, steps: Generator[TrainProgress, None, T]
) -> Generator[TrainProgress, None, T | None]:
    """Pass on steps until they end or the user stops; None where the user did."""

    def check() -> None:
        if stop.is_set():
            raise _Stopped

    try:
        return (yield from relay(steps, lambda progress: progress, check))
    except _Stopped:
        return None


class _Stopped(Exception):
    """The user stopped the training."""


def _round(recipe: Recipe, number: int, spent_s: float) -> Recipe:
    """Return the recipe of one round: its share of the steps, and of the minutes that are left."""
    left = recipe.rounds - number
    minutes = None if recipe.minutes is None else max(0.02, (recipe.minutes - spent_s / 60) / left)
    steps = max(1, recipe.steps // recipe.rounds)
    return recipe.model_copy(
        update={"steps": steps, "minutes": minutes, "seed": recipe.seed + number}
    )


def _of_estimate(found: Validation) -> Validation:
    """Return a validation whose picture does not call the estimate a truth."""
    names = {"truth": "estimate"}
    return replace(
        found, preview={names.get(name, name): picture for name, picture in found.preview.items()}
    )
