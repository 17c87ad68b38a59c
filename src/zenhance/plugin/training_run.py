"""One training as steps for a worker: data, the loop of :mod:`zenhance.training`, the model.

Each step carries the whole curve so far, so that the window can skip steps without missing a
point. Nothing stays on disk: the loop's folder is temporary and is removed when the steps end.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from zenhance.errors import RunCancelled
from zenhance.models.header import Card
from zenhance.pipeline import Progress
from zenhance.plugin.snapshot import Snapshot
from zenhance.plugin.task import Steps
from zenhance.stack import Stack
from zenhance.steps import relay
from zenhance.training.recipe import Recipe
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from zenhance.training.data import TrainingVolume
    from zenhance.training.loop import TrainProgress

__all__ = ["LayerPair", "Trained", "TrainingView", "VolumeSteps", "layer_volumes", "training_steps"]

VolumeLists = tuple[list["TrainingVolume"], list["TrainingVolume"]]
VolumeSteps = Generator[tuple[str, float], None, VolumeLists]
# A plot of a few hundred pixels shows no more points than these.
MAX_POINTS = 2000


@dataclass(frozen=True)
class TrainingView(Progress):
    """What the dock shows of a training.

    Parameters
    ----------
    losses : tuple of (step, loss)
        Of training, thinned out when there are many.
    checks : tuple of (step, figures)
        One entry a validation.
    preview : mapping of str to float32 array (Y, X)
        ``measured``, ``predicted`` and perhaps ``truth`` of the last validation, scaled to 0 ... 1.
    """

    losses: tuple[tuple[int, float], ...] = ()
    checks: tuple[tuple[int, Mapping[str, float]], ...] = ()
    preview: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A trained model: its file's bytes, its card, why the training ended, and the last view."""

    blob: bytes
    card: Card
    ended: str
    view: TrainingView


@dataclass(frozen=True)
class LayerPair:
    """A measured layer and its truth, if there is one, as they were at the start."""

    measured: Snapshot
    truth: Snapshot | None


# ---------------------------------------------------------------------- data


def _stack_of(snapshot: Snapshot) -> Stack:
    stack = snapshot.stack()
    if snapshot.axes == stack.axes:
        return stack
    return Stack.from_array(
        stack.data,
        snapshot.axes,
        stack.voxel_size,
        name=stack.name,
        metadata=stack.metadata,
        path=stack.path,
    )


def layer_volumes(pairs: Sequence[LayerPair], recipe: Recipe) -> VolumeSteps:
    """Make training volumes of layers, and keep some pairs for validation.

    Raises
    ------
    RecipeError
        A truth does not fit its measurement.
    """
    from zenhance.training.data import kept_for_validation, of_stacks

    train: list[TrainingVolume] = []
    held: list[TrainingVolume] = []
    kept = kept_for_validation(len(pairs), recipe.data)
    for number, pair in enumerate(pairs):
        name, share = pair.measured.look.name, number / len(pairs)
        for snapshot in (pair.measured, pair.truth):
            for _ in snapshot.copy_steps() if snapshot is not None else ():
                yield f"a copy of {name}", share
        yield name, share
        truth = None if pair.truth is None else _stack_of(pair.truth)
        (held if number in kept else train).extend(of_stacks(name, _stack_of(pair.measured), truth))
    return train, held or train


# ---------------------------------------------------------------------- steps


class _Curves:
    """Collects the curves of a training."""

    def __init__(self) -> None:
        self.losses: list[tuple[int, float]] = []
        self.checks: list[tuple[int, Mapping[str, float]]] = []
        self.preview: Mapping[str, FloatArray] = {}
        self._every = 1

    def add(self, progress: TrainProgress) -> None:
        if progress.step % self._every == 0 and math.isfinite(progress.loss):
            self.losses.append((progress.step, progress.loss))
        if len(self.losses) > MAX_POINTS:
            self.losses = self.losses[1::2]
            self._every *= 2
        if progress.validation is not None:
            self.checks.append((progress.step, dict(progress.validation.metrics)))
            self.preview = progress.validation.preview

    def view(self, progress: TrainProgress) -> TrainingView:
        words = {"data": "preparing the data", "save": "saving"}
        text = words.get(progress.stage) or f"step {progress.step} of {progress.steps}"
        if self.checks and "psnr_db" in self.checks[-1][1]:
            figures = self.checks[-1][1]
            text += f"; validation {figures['psnr_db']:.1f} dB"
            text += (
                f", untreated {figures['psnr_identity_db']:.1f} dB"
                if "psnr_identity_db" in figures
                else ""
            )
        return TrainingView(
            progress.stage,
            progress.fraction,
            progress.seconds_left,
            text,
            tuple(self.losses),
            tuple(self.checks),
            self.preview,
        )


def training_steps(
    recipe: Recipe,
    make_volumes: Callable[[], VolumeSteps | None],
    stop: threading.Event,
    device: str = "auto",
    command: str = "",
) -> Steps:
    """Train, in the worker; yield :class:`TrainingView` and return :class:`Trained`.

    Parameters
    ----------
    make_volumes : callable
        Returns the steps that load the data, None for those of the recipe.
    stop : threading.Event
        Ends the training after its present step; the best model so far is the result.

    Raises
    ------
    RunCancelled
        Stopped before the first step: there is no model.
    """
    yield TrainingView("data", 0.0, None, "starting")
    from zenhance.training.session import session_steps

    session = yield from relay(
        session_steps(recipe, make_volumes(), advice=_other_recipe),
        lambda step: TrainingView("data", step[1], None, f"preparing the data: {step[0]}"),
        lambda: _check_stop(stop),
    )
    from zenhance.training.loop import train_steps

    curves = _Curves()
    with TemporaryDirectory(prefix="zenhance-training-", ignore_cleanup_errors=True) as folder:
        steps = train_steps(
            recipe,
            Path(folder) / "run",
            stop=stop,
            device=device,
            volumes=session.volumes,
            command=command,
        )
        view = TrainingView("data", 0.0, None, "preparing the data")

        def show(progress: TrainProgress) -> TrainingView:
            nonlocal view
            curves.add(progress)
            view = curves.view(progress)
            return view

        result = yield from relay(steps, show)
        return Trained(result.path.read_bytes(), result.card, result.ended, view)


def _check_stop(stop: threading.Event) -> None:
    if stop.is_set():
        raise RunCancelled("the training was stopped before its first step; there is no model")


def _other_recipe(_scale: int) -> str:
    return "choose another recipe to start from, or other pairs"
