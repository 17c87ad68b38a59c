"""Learn from a stack before it is enhanced, instead of using shipped weights or the user's own.

::

    stack as requested ──► training volumes ──► self-training, for the minutes ──► model, by name
                                                                                   │
                                                          the run uses it  ◄───────┘
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from zenhance.contract import registry
from zenhance.errors import (
    CheckpointError,
    OutputExistsError,
    RecipeError,
    RunCancelled,
    StackError,
    WriteError,
)
from zenhance.io.names import stem
from zenhance.models.catalogue import SUFFIX, WeightsEntry, find_weights, user_folder
from zenhance.models.header import read_card
from zenhance.pipeline.held_out import HeldOut, Trial, is_better
from zenhance.pipeline.plan import RunPlan
from zenhance.pipeline.request import NO_WEIGHTS, EnhanceRequest
from zenhance.pipeline.result import Progress
from zenhance.stack import Stack
from zenhance.steps import relay
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from zenhance.models.header import Card
    from zenhance.training.loop import TrainProgress
    from zenhance.training.recipe import Recipe
    from zenhance.training.session import Session

__all__ = ["LearningProgress", "Learnt", "learn_steps"]

# One watches: validations this frequent move the preview, and this small they cost a few per cent
# of the time.
VALIDATE_EVERY, VALIDATION_PATCHES = 50, 8
# The time decides when learning ends, and neither steps nor patience.
NEVER = 10**6
# Kept back for the last step, the last validation and the model's own test: this share, or so many
# seconds up to a tenth.
RESERVE_SHARE, RESERVE_S = 0.03, 2.0
# Kept for scoring what was learnt: as long as scoring the start took, at most this share.
MAX_TRIAL_SHARE = 0.05
WARMUP_STEPS_A_MINUTE = 10
MIN_PATCH_PX = 12
LONGEST_NAME = 80

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LearningProgress(Progress):
    """How far learning is.

    Parameters
    ----------
    loss : float
        Of the last step; NaN before the first.
    preview : mapping of str to float32 array (Y, X)
        ``measured``, ``predicted`` and perhaps ``estimate`` of the last validation's first patch,
        scaled to 0 ... 1.
    """

    loss: float = math.nan
    preview: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Learnt:
    """What was learnt.

    Parameters
    ----------
    path : Path
        Of the model, among the user's own.
    notes : mapping
        For the record: the model's name and hash, what it was learnt from and how long, and its
        figures.
    warnings : tuple of str
        What the user should know of it.
    """

    path: Path
    notes: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Start:
    """What learning begins from: ``name`` is empty for random weights."""

    name: str = ""
    sha256: str = ""
    card: Card | None = None
    path: Path = Path()

    @property
    def words(self) -> str:
        return self.name or "random weights"


@dataclass
class _Clock:
    """How much of the time is gone, and the last figures."""

    title: str
    minutes: float
    cancel: threading.Event
    started: float = field(default_factory=time.perf_counter)
    steps: int = 0
    reserve_s: float = 0.0
    loss: float = math.nan
    preview: Mapping[str, FloatArray] = field(default_factory=dict)

    def spent_s(self) -> float:
        return time.perf_counter() - self.started

    def training_s(self) -> float:
        """Return the time that training may take from now on."""
        whole = 60 * self.minutes
        reserve = max(RESERVE_SHARE * whole, min(RESERVE_S, 0.1 * whole)) + self.reserve_s
        return whole - self.spent_s() - reserve

    def progress(self, doing: str) -> LearningProgress:
        left = max(0.0, 60 * self.minutes - self.spent_s())
        fraction = 1.0 - left / (60 * self.minutes)
        return LearningProgress(
            "learn",
            fraction,
            left,
            f'learning from "{self.title}": {doing}',
            self.loss,
            self.preview,
        )

    def check(self) -> None:
        if self.cancel.is_set():
            raise RunCancelled(
                "the run was cancelled during learning; the original is unchanged, and nothing was "
                "kept"
            )

    def follow(
        self, steps: Generator[Any, None, T], doing: str
    ) -> Generator[LearningProgress, None, T]:
        """Pass on steps, stopping them when the user cancels."""
        return (
            yield from relay(
                steps, lambda step: self.progress(self._words(step) or doing), self.check
            )
        )

    def _words(self, step: Any) -> str:
        """Take down the figures of a training step, and put it into words."""
        if isinstance(step, float) or getattr(step, "stage", "") != "train":
            return ""
        progress: TrainProgress = step
        if math.isfinite(progress.loss):
            self.loss = progress.loss
        if progress.validation is not None:
            self.preview = progress.validation.preview
        self.steps += 1
        return f"step {self.steps}, loss {self.loss:.3g}"


def learn_steps(
    plan: RunPlan, request: EnhanceRequest, cancel: threading.Event, trial: Trial
) -> Generator[LearningProgress, None, Learnt]:
    """Learn from the stack that is to be enhanced, and keep the model among the user's own.

    Parameters
    ----------
    plan : RunPlan
        Of the run; its stack is cropped, with the channel picked.
    request : EnhanceRequest
        ``learn_minutes`` says how long, ``weights`` what to begin from.
    cancel : threading.Event
        Checked before each step; a cancelled run keeps nothing.
    trial : callable
        Runs a request on a stack in steps. Photons that are held out decide between what was
        learnt and what the run began from (:mod:`zenhance.pipeline.held_out`).

    Yields
    ------
    LearningProgress

    Returns
    -------
    Learnt

    Raises
    ------
    StackError
        The stack is too small to learn from, or a voxel size is not known.
    CheckpointError
        There are no weights to begin from, or they belong to another method.
    WriteError
        The user's folder of models cannot be written.
    RunCancelled
        The user stopped it.
    """
    if request.learn_minutes is None:
        raise RecipeError("the request does not say how long to learn; give learn_minutes")
    clock = _Clock(plan.stack.name or "the stack", request.learn_minutes, cancel)
    _check_folder()
    begin = _start(request)
    recipe = _recipe(plan, request, begin)
    session = yield from clock.follow(
        _session_steps(plan.stack, request, recipe), "measuring intensities"
    )
    from zenhance.training.loop import train_steps

    held = HeldOut.of(plan.stack, request, session.train[0].statistics)
    before = held.errors()
    if begin.name:
        began = time.perf_counter()
        before = yield from clock.follow(
            held.trial_steps(trial, request.weights), "scoring the initial weights"
        )
        # The first trial also pays for imports, which the second does not.
        spent = time.perf_counter() - began
        clock.reserve_s = min(spent, MAX_TRIAL_SHARE * 60 * clock.minutes)
    with TemporaryDirectory(prefix="zenhance-learning-", ignore_cleanup_errors=True) as folder:
        recipe = recipe.model_copy(update={"minutes": max(0.02, clock.training_s() / 60)})
        steps = train_steps(
            recipe, Path(folder) / "run", device=plan.device.name, volumes=session.volumes
        )
        result = yield from clock.follow(steps, "estimating the specimen")
        clock.check()
        after = yield from clock.follow(
            held.trial_steps(trial, str(result.path)), "scoring what was learnt"
        )
        scores = (before.mean, after.mean)
        better = is_better(after, before)
        if begin.name and not better:
            return _unchanged(plan.stack, request, result.card, begin, clock, scores)
        entry = _keep(result.path, recipe.name)
    learnt = _account(plan.stack, entry, result.card, begin, clock)
    notes = {**learnt.notes, **_held_out_notes(scores, used=True)}
    said = () if better else (_WORSE_THAN_MEASUREMENT.format(minutes=clock.minutes),)
    return Learnt(learnt.path, notes, (*learnt.warnings, *said))


_WORSE_THAN_MEASUREMENT = (
    "what was learnt in {minutes:g} min predicts held-out photons no better than the measurement "
    "itself; learn longer, or begin from weights that ship"
)


def _session_steps(
    stack: Stack, request: EnhanceRequest, recipe: Recipe
) -> Generator[tuple[str, float], None, Session]:
    """Measure the volumes as the run will, so that the network sees the same input."""
    from zenhance.training.data import measured_steps
    from zenhance.training.session import session_steps

    measuring = measured_steps(
        stack,
        repair_outliers=request.repair_outliers,
        background=request.background,
        shared=request.statistics == "shared",
    )
    return (yield from session_steps(recipe, measuring, holdout=False))


def _held_out_notes(scores: tuple[float, float], *, used: bool) -> dict[str, Any]:
    """Return the squared errors of held-out photons, in units of their noise, before and after."""
    return {
        "held_out_error_before": round(scores[0], 5),
        "held_out_error_after": round(scores[1], 5),
        "used": used,
    }


def _unchanged(
    stack: Stack,
    request: EnhanceRequest,
    card: Card,
    begin: _Start,
    clock: _Clock,
    scores: tuple[float, float],
) -> Learnt:
    """Go back to the weights that learning began from; nothing is kept."""
    entry = WeightsEntry(begin.name, begin.path, card, request.weights is None)
    learnt = _account(stack, entry, card, begin, clock)
    which = "the shipped weights" if request.weights is None else f'"{begin.name}"'
    said = (
        f"learning changed nothing; {which} were used: what was learnt in {clock.minutes:g} min "
        "predicts held-out photons no better, beyond what chance explains (squared error "
        f"{scores[1]:.4g}, {scores[0]:.4g} before)"
    )
    return Learnt(begin.path, {**learnt.notes, **_held_out_notes(scores, used=False)}, (said,))


def _check_folder() -> None:
    """Check before the run what would otherwise fail after ten minutes."""
    folder = user_folder()
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise WriteError(
            f'the folder "{folder}" of trained models cannot be written; set ZENHANCE_WEIGHTS to '
            "one you may write"
        )


def _start(request: EnhanceRequest) -> _Start:
    """Return what the request begins from.

    Raises
    ------
    CheckpointError
        There is no such model, or it belongs to another method.
    """
    if request.weights == NO_WEIGHTS:
        return _Start()
    path = find_weights(
        request.method,
        request.weights,
        request.parameters().weights,
    )
    card = read_card(path)
    if card.method != request.method:
        raise CheckpointError(
            f'the model "{card.name}" belongs to the method {card.method}, not to {request.method}'
        )
    return _Start(
        request.weights or path.name.removesuffix(SUFFIX),
        hashlib.sha256(path.read_bytes()).hexdigest(),
        card,
        path,
    )


def _base(request: EnhanceRequest) -> Recipe:
    """Return the recipe that ships for what this request begins from.

    From random weights that is the method's recipe for learning from a stack alone, where it has
    one; else the recipe of the weights that the request would use, of its method, or the defaults
    of all recipes.
    """
    from zenhance.training.recipe import Data, Recipe, load_recipe, recipe_names

    alone = [f"{request.method}_alone"] if request.weights == NO_WEIGHTS else []
    for name in (
        *alone,
        request.parameters().weights,
        request.method,
    ):
        if name and {name, f"{name}_stack"} & set(recipe_names()):
            recipe = load_recipe(name)
            if recipe.method == request.method:
                return recipe
    return Recipe(method=request.method, name=request.method, data=Data(stacks=("",)))


def _recipe(plan: RunPlan, request: EnhanceRequest, begin: _Start) -> Recipe:
    """Return the recipe of this learning; the time is filled in when it begins."""
    from zenhance.training.recipe import Data, Recipe

    base, minutes = _base(request), plan.learn_minutes or 0.0
    stack = plan.stack
    fields = base.model_dump(mode="json", exclude_unset=True) | {
        "name": _free_name(_wanted_name(request.method, stack)),
        "description": f'Learnt from "{stack.name}" alone in {minutes:g} min, beginning from '
        f"{begin.words}.",
        "architecture": base.architecture if begin.card is None else begin.card.architecture,
        "data": Data(stacks=(stack.path.name if stack.path else stack.name,), psf=request.psf),
        "patch_px": _patch_px(
            stack, base.patch_px, registry.load(request.method).spec.size_multiple
        ),
        "steps": NEVER * base.rounds,
        "patience": NEVER,
        "warmup_steps": min(base.warmup_steps, math.ceil(WARMUP_STEPS_A_MINUTE * minutes)),
        "validate_every": VALIDATE_EVERY,
        "validation_patches": VALIDATION_PATCHES,
        "seed": request.seed % 2**31,
        "start": begin.name,
    }
    return Recipe(**fields)


def _patch_px(stack: Stack, wanted_px: int, multiple: tuple[int, int, int]) -> int:
    """Return the patch of the recipe, or the largest one that the stack has room for.

    Raises
    ------
    StackError
        There is room for none.
    """
    _, height, width = stack.volume_shape
    side = min(height, width)
    if side >= wanted_px:
        return wanted_px
    fits = side - side % max(multiple[1:])
    if fits < MIN_PATCH_PX:
        raise StackError(
            f"the stack is {height} × {width} pixels, too small to learn from; at least "
            f"{MIN_PATCH_PX} each way are needed"
        )
    return fits


def _wanted_name(method: str, stack: Stack) -> str:
    name = stack.name if stack.path is None else stem(stack.path)
    plain = re.sub("[^A-Za-z0-9_.-]+", "_", name).strip("_.-")
    return f"{method}_{plain[:LONGEST_NAME] or 'stack'}"


def _free_name(wanted: str) -> str:
    """Return the name, with a number where it is taken."""
    from zenhance.models.checkpoint import check_name

    for number in range(1, NEVER):
        name = wanted if number == 1 else f"{wanted}-{number}"
        try:
            check_name(name)
        except (CheckpointError, OutputExistsError):
            continue
        return name
    raise WriteError(
        f'there are too many models called "{wanted}" in "{user_folder()}"; remove those you do '
        "not need"
    )


def _keep(path: Path, name: str) -> WeightsEntry:
    """Put the model among the user's own; a name that was taken meanwhile gets the next number."""
    from zenhance.models.checkpoint import install_model

    while True:
        try:
            return install_model(path, name)
        except OutputExistsError:
            name = _free_name(re.sub(r"-\d+$", "", name))


def _account(stack: Stack, entry: WeightsEntry, card: Card, begin: _Start, clock: _Clock) -> Learnt:
    notes = {
        "model": entry.name,
        "weights_sha256": hashlib.sha256(entry.path.read_bytes()).hexdigest(),
        "from": stack.path.name if stack.path else stack.name,
        "minutes": clock.minutes,
        "seconds": round(clock.spent_s(), 1),
        "began_from": begin.name or NO_WEIGHTS,
        "began_from_sha256": begin.sha256,
        "steps": clock.steps,
        "figures": dict(card.metrics),
    }
    poor = card.metrics.get("psnr_db", math.inf) <= card.metrics.get("psnr_identity_db", -math.inf)
    said = (
        f'what was learnt in {clock.minutes:g} min, "{entry.name}", comes no closer to its own '
        "estimate of the specimen than the "
        "measurement does; learn longer"
    )
    return Learnt(entry.path, notes, (said,) if poor else ())
