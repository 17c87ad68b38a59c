"""Run a training with its progress on the terminal; it can be stopped and resumed."""

from __future__ import annotations

import contextlib
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
from zenhance.steps import drain
from zenhance.wording import format_seconds

if TYPE_CHECKING:
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
            "resume it with --resume, or name another folder with --out"
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
    from zenhance.training.data import files_for_test
    from zenhance.training.session import session_steps

    session = drain(
        session_steps(recipe), lambda step: reporter.update(_Shown("data", step[1], None, step[0]))
    )
    train, validation = session.volumes
    if session.self_supervised:
        reporter.line(_self_supervised_line(recipe, session.volumes))
        return session.volumes
    both = session.in_both
    note = (
        f"; {both} of them in both, too small to be divided, so the validation flatters"
        if both
        else ""
    )
    reporter.line(
        f"  {_counted(len(train), 'volume')} to train on, {len(validation)} to validate on{note}"
    )
    if apart := files_for_test(recipe):
        names = ", ".join(Path(path).name for path in apart)
        reporter.line(f"  kept for your own test: {names}")
    return train, validation


def _self_supervised_line(recipe: Recipe, volumes: Volumes) -> str:
    """Return how many volumes without truth are used, and which point spread function."""
    from zenhance.training.optics import psf_for_learning

    train, held = volumes
    count = len(train) + (0 if held is train else len(held))
    first = train[0].measured
    psf = psf_for_learning(first.stack, first.c, recipe.data.psf)
    return f"  {_counted(count, 'volume')} to learn from, without a truth\n  PSF: {psf.describe()}"


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

        def show(progress: TrainProgress) -> None:
            nonlocal last
            if progress.validation is not None:
                last = progress.validation
                reporter.line(
                    f"  step {progress.step}: loss {progress.loss:.4g}, {_figures(last.metrics)}"
                )
            reporter.update(_shown(progress, last))

        return drain(steps, show)


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
                    f'resume it from its last validation in "{run.folder}" with --resume'
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
    from zenhance.models.checkpoint import install_model

    return str(install_model(path).path)


def _print_result(record: dict[str, Any]) -> None:
    card = record["card"]
    from zenhance.models.catalogue import list_weights
    from zenhance.models.header import Card

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
            said = "the model comes no closer to its own estimate than the resimulated stack"
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
        f"to use it by its name, also in napari: zenhance weights add {model}{other_name}",
        flush=True,
    )
