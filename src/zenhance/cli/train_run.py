"""Run a training with its progress on the terminal; it can be stopped and resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenhance.cli.errors import Session
from zenhance.cli.output import print_json
from zenhance.cli.progress import Reporter, open_reporter
from zenhance.errors import FailureKind, OutputExistsError, RunCancelled, WriteError
from zenhance.wording import format_seconds

if TYPE_CHECKING:
    from zenhance.measurement.volume import VolumeReader
    from zenhance.training.data import TrainingVolume
    from zenhance.training.loop import TrainProgress, TrainResult
    from zenhance.training.recipe import Recipe
    from zenhance.training.validate import Validation

    Volumes = tuple[list[TrainingVolume], list[TrainingVolume]]

__all__ = ["RECIPE_FILE", "STATE_FILE", "TrainRun", "check_folder", "run_training"]

# The names that the loop uses; the checks below run before torch is imported.
RECIPE_FILE, STATE_FILE = "recipe.yaml", "state.safetensors"


@dataclass(frozen=True, slots=True)
class TrainRun:
    """Where and how to train, as opposed to what.

    Parameters
    ----------
    recipe : Recipe
        What is learnt.
    folder : Path
        Of the run.
    resume : bool
        Whether to resume from its state.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    install : bool
        Whether to copy the trained model into the user's folder.
    command : str
        For the card.
    """

    recipe: Recipe
    folder: Path
    resume: bool
    device: str
    install: bool
    command: str


@dataclass(frozen=True, slots=True)
class _Shown:
    stage: str
    fraction: float
    seconds_left: float | None
    message: str


def check_folder(folder: Path, resume: bool) -> None:
    """Refuse a folder that cannot hold the training, before anything is loaded.

    Raises
    ------
    OutputExistsError
        It holds a training, and ``resume`` is false.
    WriteError
        It is a file, the folder above is missing, or the system refuses.
    """
    if folder.exists() and not folder.is_dir():
        raise WriteError(
            f'"{folder}" for the training is a file; name a folder with --out',
            FailureKind.BAD_PARAMETER,
        )
    if not folder.parent.is_dir():
        raise WriteError(
            f'the folder "{folder.parent}" for the training does not exist; '
            "make it first or choose another with --out"
        )
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        raise WriteError(
            f'the folder "{folder}" for the training may not be written to; '
            "choose another one with --out"
        )
    if not resume and any((folder / name).exists() for name in (RECIPE_FILE, STATE_FILE)):
        raise OutputExistsError(
            f'there is a training in "{folder}" already; '
            "go on with it by --resume, or name another folder with --out"
        )


def run_training(run: TrainRun, session: Session) -> None:
    """Train, show the progress, and print where the model is.

    Raises
    ------
    RunCancelled
        Stopped before anything could be kept, or interrupted a second time.
    ZenhanceError
        Whatever else went wrong; a run that has not been validated yet leaves no folder behind.
    """
    started = time.perf_counter()
    with open_reporter(session.json_wanted) as reporter:
        reporter.line(
            f"{run.recipe.name}: {run.recipe.method}, {run.recipe.steps} "
            f"steps{_budget(run.recipe)}, in {run.folder}"
        )
        volumes = _load(run.recipe, reporter)
        with _kept_or_gone(run):
            result = _train(run, volumes, session, reporter)
    from zenhance.training.data import files_for_test

    installed = _install(result.path) if run.install else None
    record = {
        "model": str(result.path),
        "name": run.recipe.name,
        "method": run.recipe.method,
        "folder": str(run.folder),
        "ended": result.ended,
        "seconds": round(time.perf_counter() - started, 3),
        "installed": installed,
        "for_test": files_for_test(run.recipe),
        "card": result.card.model_dump(mode="json"),
    }
    print_json(record) if session.json_wanted else _print_result(record)


def _budget(recipe: Recipe) -> str:
    return "" if recipe.minutes is None else f" or {recipe.minutes:g} min"


def _load(recipe: Recipe, reporter: Reporter) -> Volumes:
    """Simulate or open the data; an interrupt here ends the program, as nothing is learnt yet."""
    from zenhance.training.data import files_for_test, volume_steps

    steps = volume_steps(recipe)
    while True:
        try:
            name, share = next(steps)
        except StopIteration as done:
            if _is_alone(recipe, done.value):
                reporter.line(_alone_line(recipe, done.value))
                return done.value  # type: ignore[no-any-return]
            train, held = _apart(done.value, recipe)
            both = sum(any(volume is other for other in train) for volume in held)
            note = (
                f"; {both} of them in both, too small to be divided, so the validation flatters"
                if both
                else ""
            )
            reporter.line(
                f"  {_counted(len(train), 'volume')} to train on, {len(held)} to validate on{note}"
            )
            if apart := files_for_test(recipe):
                reporter.line(
                    "  left untouched, for a test of yours: "
                    f"{', '.join(Path(path).name for path in apart)}"
                )
            return train, held
        reporter.update(_Shown("data", share, None, name))


def _is_alone(recipe: Recipe, volumes: Volumes) -> bool:
    from zenhance.training.self_training import learns_alone

    return learns_alone(recipe, [*volumes[0], *volumes[1]])


def _alone_line(recipe: Recipe, volumes: Volumes) -> str:
    """Return how many volumes without truth are used, and which point spread function."""
    from zenhance.training.optics import psf_for_learning

    train, held = volumes
    count = len(train) + (0 if held is train else len(held))
    first = train[0].measured
    psf = psf_for_learning(first.stack, first.c, recipe.data.psf)
    return f"  {_counted(count, 'volume')} to learn from, without a truth\n  PSF: {psf.describe()}"


def _apart(volumes: Volumes, recipe: Recipe) -> Volumes:
    """Hold out a strip of a single stack for validation if there is no second stack."""
    from zenhance.training.split import strips_apart

    train, held = volumes
    if held is not train:
        return volumes
    return strips_apart(
        [_in_memory(volume) for volume in train], recipe.data.validation_share, recipe.patch_px
    )


def _in_memory(volume: TrainingVolume) -> TrainingVolume:
    """Read a stack that fits into memory, because a strip is cut from an array."""
    import numpy as np

    from zenhance.tiling.budget import free_bytes

    def read(reader: VolumeReader) -> VolumeReader:
        stack = reader.stack
        return dataclasses.replace(reader, stack=stack.with_data(np.asarray(stack.data[...])))

    shapes = [reader.stack for reader in (volume.measured, volume.truth) if reader is not None]
    if (
        sum(math.prod(stack.shape) * stack.dtype.itemsize for stack in shapes)
        > free_bytes("cpu") // 4
    ):
        return volume
    truth = None if volume.truth is None else read(volume.truth)
    return dataclasses.replace(volume, measured=read(volume.measured), truth=truth)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _train(run: TrainRun, volumes: Volumes, session: Session, reporter: Reporter) -> TrainResult:
    """Run the loop; the first Ctrl-C ends it after the current step."""
    from zenhance.device.choice import choose_device
    from zenhance.training.loop import train_steps

    reporter.line(f"  on {choose_device(run.device).reason}")
    last: Validation | None = None
    with session.stop.watched() as stop:
        steps = train_steps(
            run.recipe,
            run.folder,
            resume=run.resume,
            stop=stop,
            device=run.device,
            volumes=volumes,
            command=run.command,
        )
        try:
            while True:
                try:
                    progress = next(steps)
                except StopIteration as done:
                    result: TrainResult = done.value
                    return result
                if progress.validation is not None:
                    last = progress.validation
                    reporter.line(
                        f"  step {progress.step}: loss {progress.loss:.4g}, "
                        f"{_figures(last.metrics)}"
                    )
                reporter.update(_shown(progress, last))
        finally:
            steps.close()


def _shown(progress: TrainProgress, last: Validation | None) -> _Shown:
    words = [] if progress.step == 0 else [f"step {progress.step} of {progress.steps}"]
    if math.isfinite(progress.loss):
        words.append(f"loss {progress.loss:.3g}")
    if last is not None and "psnr_db" in last.metrics:
        words.append(f"{last.metrics['psnr_db']:.2f} dB")
    return _Shown(progress.stage, progress.fraction, progress.seconds_left, ", ".join(words))


def _figures(metrics: Any, against: str = "") -> str:
    """Return what a validation found, in words."""
    if "psnr_db" not in metrics:
        return f"validation loss {metrics['loss']:.4g}"
    text = f"validation PSNR{against} {metrics['psnr_db']:.2f} dB"
    return text + (
        f" (measurement {metrics['psnr_identity_db']:.2f} dB)"
        if "psnr_identity_db" in metrics
        else ""
    )


@contextlib.contextmanager
def _kept_or_gone(run: TrainRun) -> Iterator[None]:
    """Remove the folder of a run that kept nothing, so that the same command works again."""
    existed, earlier = run.folder.exists(), set(_rounds(run.folder))
    try:
        yield
    except OutputExistsError:
        raise
    except BaseException as error:
        if any((place / STATE_FILE).exists() for place in (run.folder, *_rounds(run.folder))):
            if isinstance(error, KeyboardInterrupt):
                raise RunCancelled(
                    "the training was interrupted; "
                    f'go on with it from its last validation in "{run.folder}" by --resume'
                ) from None
            raise
        if not run.resume:
            places = [place for place in _rounds(run.folder) if place not in earlier]
            for place in (*places, run.folder):
                (place / RECIPE_FILE).unlink(missing_ok=True)
                if place in places or not existed:
                    with contextlib.suppress(OSError):
                        place.rmdir()
        raise


def _rounds(folder: Path) -> list[Path]:
    """Return the folders of the rounds of self-training; each holds its own recipe and state."""
    return [path.parent for path in sorted(folder.glob(f"round_*/{RECIPE_FILE}"))]


def _install(path: Path) -> str:
    from zenhance.models.installing import install_model

    return str(install_model(path).path)


def _print_result(record: dict[str, Any]) -> None:
    card = record["card"]
    from zenhance.models.card import Card
    from zenhance.models.catalogue import list_weights

    self_judged = Card(**card).is_self_judged
    print(f"{record['model']}  ({format_seconds(record['seconds'])}, {card['device']})")
    print(
        f"{record['ended']}; kept is step {card['steps']}: "
        f"{_figures(card['metrics'], ' against its own estimate' if self_judged else '')}"
    )
    if card["metrics"].get("psnr_db", math.inf) <= card["metrics"].get(
        "psnr_identity_db", -math.inf
    ):
        said = "the model comes no closer to the truth than the measurement itself"
        if self_judged:
            said = "the model comes no closer to its own estimate than the stack measured again"
        print(f"zenhance: warning: {said}; give it more steps or more data", file=sys.stderr)
    model = shlex.quote(record["model"])
    if record["installed"]:
        print(
            f"use it: zenhance enhance INPUT OUTPUT --method {record['method']} --weights "
            f"{record['name']}",
            flush=True,
        )
        return
    print(f"use it: zenhance enhance INPUT OUTPUT --method {record['method']} --weights {model}")
    other_name = (
        f" --name my_{record['name']}"
        if any(e.ships and e.name == record["name"] for e in list_weights(record["method"]))
        else ""
    )
    print(
        f"to choose it by its name, in the viewer too: zenhance weights add {model}{other_name}",
        flush=True,
    )
