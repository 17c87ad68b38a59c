"""One training loop for all methods, from patches to a checkpoint; it can stop and resume.

It is a generator like the enhancement itself, so the dock and the command line watch, stop and draw
it in the same way::

    load_volumes -> [ draw(step) -> loss -> AdamW -> running mean -> validate ] -> best checkpoint
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel

from zenhance.contract import registry
from zenhance.contract.learner import Batch, Learner, LearningMethod
from zenhance.device.choice import choose_device, release_memory
from zenhance.errors import MethodError, RecipeError, RunCancelled
from zenhance.io.commit import write_bytes
from zenhance.steps import drain, relay
from zenhance.training.data import TrainingVolume, load_volumes
from zenhance.training.model import fill, initial_weights, model_bytes, source_commit
from zenhance.training.patches import VALIDATION, PatchSampler
from zenhance.training.recipe import Recipe
from zenhance.training.self_training import is_self_supervised, self_training_steps
from zenhance.training.session import check_memory, optics_steps
from zenhance.training.state import (
    RECIPE_FILE,
    STATE_FILE,
    TrainingState,
    TrainProgress,
    TrainResult,
)
from zenhance.training.validate import Board, Validation, to_device, validate

__all__ = ["TrainProgress", "TrainResult", "train", "train_steps"]

LOG_FILE = "log.csv"
# The learning rate ends at this share of its peak.
FINAL_RATE = 0.01


@dataclass
class _Training:
    recipe: Recipe
    folder: Path
    learner: Learner
    device: str
    train: list[TrainingVolume]
    validation: list[TrainingVolume]
    state: TrainingState
    sampler: PatchSampler
    checks: list[Batch]
    board: Board
    earlier_s: float
    commit: str = field(default_factory=source_commit)
    started: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        return self.earlier_s + time.perf_counter() - self.started

    def fraction(self, step: int) -> float:
        by_steps = step / self.recipe.steps
        by_time = (
            0.0 if self.recipe.minutes is None else self.seconds() / (60 * self.recipe.minutes)
        )
        return min(1.0, max(by_steps, by_time))

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a hundredth of the peak."""
        warm = min(1.0, (step + 1) / max(1, self.recipe.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * self.fraction(step)))
        return self.recipe.learning_rate * warm * (FINAL_RATE + (1 - FINAL_RATE) * cosine)

    def progress(
        self, step: int, loss: float, logs: Mapping[str, float], validation: Validation | None
    ) -> TrainProgress:
        fraction = self.fraction(step)
        passed = self.seconds()
        left = passed * (1 - fraction) / fraction if fraction > 0.005 else None
        return TrainProgress(
            "train", step, self.recipe.steps, fraction, left, loss, logs, validation
        )


def _learning(name: str) -> LearningMethod:
    method = registry.load(name)
    if not isinstance(method, LearningMethod):
        raise MethodError(
            f"the method {name} does not learn; choose one that does, see `zenhance methods`"
        )
    return method


def train_steps(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    stop: threading.Event | None = None,
    device: str = "auto",
    volumes: tuple[list[TrainingVolume], list[TrainingVolume]] | None = None,
    command: str = "",
    initial: Mapping[str, Tensor] | None = None,
) -> Generator[TrainProgress, None, TrainResult]:
    """Train step by step.

    Where a method needs a truth and the stacks have none, self-training makes one; see
    :mod:`zenhance.training.self_training`.

    Parameters
    ----------
    recipe : Recipe
        Everything that decides the result.
    folder : Path
        Where state, log and checkpoint go; made if need be.
    resume : bool
        Go on from the state in the folder, if there is one.
    stop : threading.Event, optional
        Set from any thread, it ends the training after this step; the best model is kept.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    volumes : tuple of two lists, optional
        Volumes to train and to validate on, in place of the recipe's data (layers of a viewer).
    command : str
        For the card: how to make this model again.
    initial : mapping of str to Tensor, optional
        Weights to begin from, in place of those that the recipe names.

    Yields
    ------
    TrainProgress
        After each step.

    Returns
    -------
    TrainResult
        The checkpoint holds the running mean of the weights at the best validation.

    Raises
    ------
    RecipeError
        Data and recipe do not fit, or the loss was NaN or infinite before any validation.
    OutputExistsError
        The folder holds a model or a state already, and ``resume`` was not asked for.
    RunCancelled
        The user stopped it before its first step.
    """
    stop = stop or threading.Event()
    chosen = choose_device(device).name
    yield TrainProgress("data", 0, recipe.steps, 0.0, None)
    volumes = volumes if volumes is not None else load_volumes(recipe)
    everything = _once_each(volumes)
    if is_self_supervised(recipe, everything):
        return (
            yield from self_training_steps(
                recipe,
                folder,
                everything,
                train_steps,
                device=chosen,
                resume=resume,
                stop=stop,
                command=command,
            )
        )
    _check_truths(recipe, everything)
    volumes = yield from _with_optics(recipe, volumes, stop)
    goes_on = resume and (folder / STATE_FILE).is_file()
    run = _begin(
        recipe,
        folder,
        resume,
        chosen,
        volumes,
        initial if initial is not None or goes_on else initial_weights(recipe),
    )
    try:
        ended = yield from _loop(run, stop)
        yield TrainProgress("save", run.state.done.step, recipe.steps, 1.0, 0.0)
        return _finish(run, ended, command)
    finally:
        run.board.close()
        release_memory(chosen)


def _once_each(volumes: tuple[list[TrainingVolume], list[TrainingVolume]]) -> list[TrainingVolume]:
    """Return the volumes of both lists; without a truth, one can be in both."""
    train, held = volumes
    return train + [volume for volume in held if not any(volume is other for other in train)]


def _with_optics(
    recipe: Recipe,
    volumes: tuple[list[TrainingVolume], list[TrainingVolume]],
    stop: threading.Event,
) -> Generator[TrainProgress, None, tuple[list[TrainingVolume], list[TrainingVolume]]]:
    """Return the volumes with the optics that the method needs; the user can stop it."""

    def check() -> None:
        if stop.is_set():
            raise RunCancelled("the training was stopped before its first step; there is no model")

    return (
        yield from relay(
            optics_steps(recipe, _learning(recipe.method).learner(), volumes),
            lambda share: TrainProgress("data", 0, recipe.steps, share, None),
            check,
        )
    )


def _check_truths(recipe: Recipe, volumes: Sequence[TrainingVolume]) -> None:
    """Refuse stacks of which only some have the truth that the method needs."""
    without = [volume.name for volume in volumes if volume.truth is None]
    if without and _learning(recipe.method).learner().needs_truth(recipe.architecture):
        raise RecipeError(
            f'"{without[0]}" has no truth, but other stacks have; give one for each, or give '
            "stacks without a truth alone"
        )


def _begin(
    recipe: Recipe,
    folder: Path,
    resume: bool,
    device: str,
    volumes: tuple[list[TrainingVolume], list[TrainingVolume]],
    initial: Mapping[str, Tensor] | None,
) -> _Training:
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / STATE_FILE
    if not resume:
        write_bytes(folder / RECIPE_FILE, recipe.to_yaml().encode(), overwrite=False)
    learner = _learning(recipe.method).learner()
    train, validation = volumes
    if not train:
        raise RecipeError("there is nothing to train on; give at least one stack")
    torch.manual_seed(recipe.seed)
    network = learner.build(recipe.architecture)
    if initial is not None:
        fill(network, learner.adopt(network, initial))
    patch = learner.patch_px(recipe.architecture, recipe.patch_px)
    physical = learner.needs_optics(recipe.architecture)
    sampler = PatchSampler(train, patch, recipe.batch, recipe.seed, with_optics=physical)
    size = min(recipe.batch, recipe.validation_patches)
    checker = PatchSampler(
        validation, patch, size, recipe.seed, augment=False, with_optics=physical
    )
    check_memory(recipe, learner, network, sampler, device)
    network = network.to(device)
    mean = AveragedModel(network, multi_avg_fn=_running_mean(recipe.ema), use_buffers=True)
    optimiser = AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    state = TrainingState(recipe, network, mean, optimiser)
    if resume and kept.is_file():
        state.load(kept)
    checks = [checker.draw(i, VALIDATION) for i in range(-(-recipe.validation_patches // size))]
    return _Training(
        recipe,
        folder,
        learner,
        device,
        train,
        validation,
        state,
        sampler,
        checks,
        Board(folder / "tensorboard"),
        state.done.seconds,
    )


def _running_mean(
    decay: float,
) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Return a running mean that begins short, so that it soon forgets the untrained network."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], seen: Tensor | int) -> None:
        count = float(seen)
        weight = 1.0 - min(decay, (1.0 + count) / (10.0 + count))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), weight)
            else:
                mean.copy_(value)

    return torch.no_grad()(update)


def _loop(run: _Training, stop: threading.Event) -> Generator[TrainProgress, None, str]:
    """Step until the steps, the time, the patience or the user ends it; return why it ended."""
    recipe, state = run.recipe, run.state
    while state.done.step < recipe.steps:
        step = state.done.step
        loss, logs = _step(run, step)
        if not math.isfinite(loss):
            if not state.best:
                raise RecipeError(
                    f"the loss is {loss} at step {step}, before any validation; lower "
                    f"learning_rate ({recipe.learning_rate:g})"
                )
            return f"the loss became {loss} at step {step}; the best model before it is kept"
        state.done.step = step + 1
        last = (
            state.done.step == recipe.steps or run.fraction(state.done.step) >= 1 or stop.is_set()
        )
        validation = None
        if state.done.step % recipe.validate_every == 0 or last:
            validation = _validate(run, loss, logs)
        yield run.progress(state.done.step, loss, logs, validation)
        if stop.is_set():
            if validation is None:
                _validate(run, loss, logs)
            return f"stopped by the user after {state.done.step} steps"
        if state.done.since_best >= recipe.patience:
            return f"no better model in {recipe.patience} validations"
        if last:
            break
    return f"done after {state.done.step} steps"


def _step(run: _Training, step: int) -> tuple[float, Mapping[str, float]]:
    state = run.state
    torch.manual_seed(run.recipe.seed * 1_000_003 + step)
    batch = to_device(run.sampler.draw(step), run.device)
    for group in state.optimiser.param_groups:
        group["lr"] = run.rate(step)
    state.network.train()
    kind = run.device.partition(":")[0]
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=run.recipe.precision == "bf16"):
        loss, logs = run.learner.loss(state.network, batch)
    value = float(loss.detach())
    if not math.isfinite(value):
        return value, logs
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), run.recipe.clip_norm)
    state.optimiser.step()
    cast(AveragedModel, state.mean).update_parameters(state.network)
    return value, logs


def _validate(run: _Training, loss: float, logs: Mapping[str, float]) -> Validation:
    state = run.state
    found = validate(run.learner, cast(Module, state.mean.module), run.checks, run.device)
    state.keep_best(found.score, dict(found.metrics))
    rate = run.rate(state.done.step - 1)
    state.done.log.append(
        {
            "step": state.done.step,
            "loss_train": loss,
            "learning_rate": rate,
            **logs,
            **found.metrics,
        }
    )
    state.done.seconds = run.seconds()
    state.save(run.folder / STATE_FILE)
    write_bytes(run.folder / LOG_FILE, _csv(state.done.log).encode(), overwrite=True)
    run.board.write(state.done.step, state.done.log[-1], found.preview)
    return found


def _csv(log: list[dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for entry in log for name in entry))
    lines = [",".join(names)] + [
        ",".join(f"{entry.get(name, math.nan):.6g}" for name in names) for entry in log
    ]
    return "\n".join(lines) + "\n"


def _finish(run: _Training, ended: str, command: str) -> TrainResult:
    state, recipe = run.state, run.recipe
    if not state.best:
        raise RecipeError(
            "the training ended before its first validation; give it more steps or minutes"
        )
    network = run.learner.build(recipe.architecture)
    network.load_state_dict(state.best)
    test = run.checks[0].seen[:1]
    blob, card = model_bytes(
        run.learner,
        network.eval(),
        recipe,
        state.done,
        (run.train, run.validation),
        test,
        run.device,
        (command, run.commit),
    )
    path = write_bytes(run.folder / f"{recipe.name}.safetensors", blob, overwrite=True)
    return TrainResult(path, card, ended, tuple(state.done.log))


def train(recipe: Recipe, folder: Path, **options: object) -> TrainResult:
    """Train to the end; options as for :func:`train_steps`."""
    return drain(train_steps(recipe, folder, **options))  # type: ignore[arg-type]
