"""DQLR: how well the recurrence over z predicts the next slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch

from benchmarks.machine import Machine, describe_machine
from benchmarks.paths import table_models
from benchmarks.quality_notes import versus
from benchmarks.runner import QUICK, Experiment, Tell
from benchmarks.scenes import Plan, Scene, quality_plans
from benchmarks.tables import TextTable, mean_sd
from zenhance.contract.learner import Scaling
from zenhance.errors import MethodError
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure
from zenhance.methods.dqlr.network import Dqlr
from zenhance.methods.dqlr.quantiser import effective_words
from zenhance.methods.dqlr.training import LEARNER
from zenhance.models.checkpoint import load_network, read_checkpoint
from zenhance.types import FloatArray

__all__ = [
    "EXPERIMENT",
    "PredictionReport",
    "measure_prediction",
    "predict_slices",
    "prediction_table",
]

METHOD = "dqlr"
AHEAD = 2


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """PSNR in dB of the next slice and the one after it, against sharp and blurred specimen."""

    title: str
    sharp_db: tuple[tuple[float, ...], ...]
    blurred_db: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class PredictionReport:
    """All rows and the stacks they were measured on."""

    rows: tuple[PredictionRow, ...]
    plans: tuple[Plan, ...]
    machine: Machine
    words: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By model, how many words of each dictionary are effectively used over all stacks."""

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return asdict(self)


def predict_slices(network: Dqlr, stack: torch.Tensor) -> torch.Tensor:
    """Predict the next slices from every slice and those before it.

    Parameters
    ----------
    network : Dqlr
        In evaluation mode, with a recurrence that predicts.
    stack : Tensor (Z, Y, X)
        Scaled; Y and X multiples of the stride.

    Returns
    -------
    Tensor (Z, P, Y, X)
        ``[i, k]`` is slice ``i + 1 + k`` as predicted from slice i and those before it; no later
        slice has a say.

    Raises
    ------
    MethodError
        The network has no such recurrence.
    """
    if not network.predicted:
        raise MethodError(
            "this network has no recurrence that predicts slices; choose a model with "
            "architecture.predicted above 0"
        )
    way = network.recurrences[0]
    found = []
    with torch.inference_mode():
        entering = way.prepare(network.encode(stack[None], 0, len(stack))[0])
        before = network.begin(stack.new_zeros(1, 1, *entering.shape[-2:]), way.hidden)
        for i in range(len(stack)):
            # The encoder of slice i would look at the next one too: to it the stack ends here.
            last = way.prepare(network.encode(stack[None, : i + 1], i, i + 1)[0])
            vectors, _, _ = network.quantise(network.predict(way.step(last, before))[0])
            found.append(network.generator(vectors)[:, 0])
            before = way.step(entering[i : i + 1], before)
    return torch.stack(found)


def measure_prediction(plans: Sequence[Plan], on_progress: Tell | None = None) -> PredictionReport:
    """Let every model with a predicting recurrence predict each stack.

    Parameters
    ----------
    plans : sequence of Plan
        The stacks.
    on_progress : callable, optional
        Called with a title and the fraction done.
    """
    machine = describe_machine()
    models = _models()
    titles = [
        "copy of the measured slice",
        *(f"{title} {what}" for title in models for what in ("predicts", "enhances, copied")),
    ]
    sharp: dict[str, list[tuple[float, ...]]] = {title: [] for title in titles}
    blurred: dict[str, list[tuple[float, ...]]] = {title: [] for title in titles}
    used: dict[str, list[torch.Tensor]] = {title: [] for title in models}
    for number, plan in enumerate(plans):
        if on_progress is not None:
            on_progress(plan.title, number / len(plans))
        scene = plan.make()
        for title, slices in _slices_of(scene, models, used).items():
            sharp[title].append(_psnr_db(slices, scene.truth))
            blurred[title].append(_psnr_db(slices, scene.blurred))
    rows = tuple(
        PredictionRow(title, tuple(sharp[title]), tuple(blurred[title])) for title in titles
    )
    words = {
        title: tuple(round(effective_words(counts), 1) for counts in torch.stack(found).sum(0))
        for title, found in used.items()
        if found
    }
    return PredictionReport(rows, tuple(plans), machine, words)


def _models() -> dict[str, Dqlr]:
    """Return the models that ship and predict slices, by name."""
    found = {}
    for entry in table_models(METHOD):
        network = cast(Dqlr, load_network(read_checkpoint(entry.path), LEARNER, "cpu").eval())
        # With the front end a slice ahead is relative to a light that nobody has seen yet.
        if network.predicted and network.finish is None:
            found[entry.name] = network
    return found


def _slices_of(
    scene: Scene, models: dict[str, Dqlr], used: dict[str, list[torch.Tensor]]
) -> dict[str, FloatArray]:
    """Return (Z, P, Y, X) for each row: slice ``i + 1 + k`` as predicted from slice i.

    The counts of each word are added to ``used``.
    """
    measured = scene.measured.read().astype(np.float32)
    statistics, _ = measure([VolumeReader(scene.measured)])
    scaling = Scaling.of(statistics)
    stack = torch.from_numpy(scaling.forward(measured))
    found = {"copy of the measured slice": _copied(measured)}
    for title, network in models.items():
        found[f"{title} predicts"] = scaling.inverse(predict_slices(network, stack).numpy())
        with torch.inference_mode():
            made = network(stack[None])
        found[f"{title} enhances, copied"] = _copied(scaling.inverse(made.enhanced[0].numpy()))
        if network.quantiser is not None:
            levels = made.index[0].unbind(1)
            used[title].append(
                torch.stack(
                    [torch.bincount(level.reshape(-1), minlength=network.words) for level in levels]
                )
            )
    return found


def _copied(volume: FloatArray) -> FloatArray:
    return np.repeat(volume[:, None], AHEAD, axis=1)


def _psnr_db(slices: FloatArray, truth: FloatArray) -> tuple[float, ...]:
    """Compare predicted with actual slices, as far as the stack goes."""
    low, high = np.percentile(truth, [0.1, 99.9])
    found = []
    for k in range(min(AHEAD, slices.shape[1])):
        wrong = slices[: len(truth) - 1 - k, k] - truth[1 + k :]
        found.append(
            float(10 * np.log10((high - low) ** 2 / np.mean(np.square(wrong, dtype=np.float64))))
        )
    return tuple(found)


def prediction_table(report: PredictionReport) -> TextTable:
    """Return means and standard deviations over the stacks, a row for each predictor."""
    header = (
        "slice predicted by",
        "next: sharp dB",
        "next: blurred dB",
        "after next: sharp dB",
        "after next: blurred dB",
    )
    rows = tuple(
        (
            row.title,
            *(
                mean_sd([stack[k] for stack in figures], 2)
                for k in range(AHEAD)
                for figures in (row.sharp_db, row.blurred_db)
            ),
        )
        for row in report.rows
    )
    beaten = [_said(row, report.rows[0]) for row in report.rows if row.title.endswith("predicts")]
    foot = (
        "PSNR of a slice as predicted from the one before it, or from the second before it, and "
        "all earlier ones; against the sharp "
        "specimen, and against the blurred one without noise.",
        "The prediction uses the recurrence from the first slice on; for the encoder the "
        "stack ends there, so no later slice contributes.",
        f"{len(report.plans)} simulated meristems: "
        f"{', '.join(f'{p.title} {p.seed}' for p in report.plans)}.",
        *beaten,
        *(
            f"{name}: {', '.join(f'{n:g}' for n in levels)} words of each dictionary are "
            "effectively used."
            for name, levels in report.words.items()
        ),
        f"Measured on {report.machine.describe()}.",
    )
    return TextTable("Slices predicted", header, rows, foot)


def _said(row: PredictionRow, copy: PredictionRow) -> str:
    sharp, blurred = (
        versus([stack[0] for stack in mine], [stack[0] for stack in theirs])
        for mine, theirs in ((row.sharp_db, copy.sharp_db), (row.blurred_db, copy.blurred_db))
    )
    return (
        f"{row.title} the next slice, against a copy of the measured one: "
        f"sharp {sharp}; blurred {blurred}."
    )


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_prediction(quality_plans(quick=options.quick), tell),
    tables=lambda report: {"prediction": prediction_table(report)},
    options=(QUICK,),
)
