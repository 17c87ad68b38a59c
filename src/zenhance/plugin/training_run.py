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

from zenhance.errors import RecipeError, RunCancelled
from zenhance.models.card import Card
from zenhance.pipeline import Progress
from zenhance.plugin.snapshot import Snapshot
from zenhance.plugin.task import Steps
from zenhance.stack import Stack
from zenhance.training.recipe import Recipe
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from zenhance.training.data import TrainingVolume
    from zenhance.training.loop import TrainProgress, TrainResult

__all__ = [
    "LayerPair",
    "Trained",
    "TrainingView",
    "VolumeSteps",
    "layer_volumes",
    "recipe_volumes",
    "training_steps",
]

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


def recipe_volumes(recipe: Recipe) -> VolumeSteps:
    """Load or simulate what the recipe names."""
    from zenhance.training.data import volume_steps

    return (yield from volume_steps(recipe))


def layer_volumes(pairs: Sequence[LayerPair], recipe: Recipe) -> VolumeSteps:
    """Make training volumes of layers, and keep some pairs, or a strip of a single one, for
    validation.

    Layers without a truth stay whole.

    Raises
    ------
    RecipeError
        A truth does not fit its measurement.
    """
    from zenhance.training.data import kept_for_validation, of_stacks
    from zenhance.training.self_training import learns_alone
    from zenhance.training.split import strips_apart

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
    if held or learns_alone(recipe, train):
        return train, held
    return strips_apart(train, recipe.data.validation_share, recipe.patch_px)


def _check_scale(recipe: Recipe, volumes: VolumeLists) -> None:
    wanted = int(recipe.architecture.get("scale", 1))
    for volume in (*volumes[0], *volumes[1]):
        if volume.truth is not None and volume.scale != wanted:
            raise RecipeError(
                f'the truth of "{volume.name}" has {volume.scale} × its pixels along y and x, '
                f"but this model makes {wanted} ×; choose another recipe to start from, "
                "or other pairs"
            )


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
    make_volumes: Callable[[], VolumeSteps],
    stop: threading.Event,
    device: str = "auto",
    command: str = "",
) -> Steps:
    """Train, in the worker; yield :class:`TrainingView` and return :class:`Trained`.

    Parameters
    ----------
    make_volumes : callable
        Returns the steps that load the data.
    stop : threading.Event
        Ends the training after its present step; the best model so far is the result.

    Raises
    ------
    RunCancelled
        Stopped before the first step: there is no model.
    """
    yield TrainingView("data", 0.0, None, "starting")
    volumes = yield from _loaded(make_volumes(), stop)
    _check_scale(recipe, volumes)
    from zenhance.training.loop import train_steps

    curves = _Curves()
    with TemporaryDirectory(prefix="zenhance-training-", ignore_cleanup_errors=True) as folder:
        steps = train_steps(
            recipe, Path(folder) / "run", stop=stop, device=device, volumes=volumes, command=command
        )
        view = TrainingView("data", 0.0, None, "preparing the data")
        try:
            while True:
                try:
                    progress = next(steps)
                except StopIteration as done:
                    result: TrainResult = done.value
                    return Trained(result.path.read_bytes(), result.card, result.ended, view)
                curves.add(progress)
                view = curves.view(progress)
                yield view
        finally:
            steps.close()


def _loaded(steps: VolumeSteps, stop: threading.Event) -> Generator[Progress, None, VolumeLists]:
    while True:
        try:
            name, share = next(steps)
        except StopIteration as done:
            volumes: VolumeLists = done.value
            return volumes
        if stop.is_set():
            raise RunCancelled("the training was stopped before its first step; there is no model")
        yield TrainingView("data", share, None, f"preparing the data: {name}")
