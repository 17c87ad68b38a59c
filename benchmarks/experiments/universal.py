"""Universality of DPS: a network trained on one kind of structure, tested on all four.

Beside the four networks, each trained for the same time, stand the one that ships, trained on all
kinds, and the measurement itself.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.experiments.resolution import PIXEL_UM, PSF, dps_of
from benchmarks.resolving import Scene
from benchmarks.rivals import FineMicroscope, enlarged
from benchmarks.runner import DEVICE, Experiment, Option, Tell, minutes
from benchmarks.tables import TextTable
from zenhance.physics.psf import parse_psf
from zenhance.simulate.specimen import Grid
from zenhance.simulate.structures import Structures
from zenhance.training.loop import train
from zenhance.training.recipe import load_recipe
from zenhance.types import FloatArray

__all__ = ["EXPERIMENT", "KINDS", "measure_universality", "universality_table"]

KINDS = ("filaments", "membranes", "dots", "rings")
LOSS_GOAL_DB = 1.0
STEPS, EVERY, STACKS = 20_000, 200, 16
"""Of the networks of one kind each. The time ends a training; the learning rate falls over these
steps."""


def measure_universality(
    models: Mapping[str, str],
    *,
    device: str = "cpu",
    seeds: Sequence[int] = (920,),
    photons: float = 200.0,
) -> dict[str, dict[str, float]]:
    """Return PSNR in dB of each model, and of the measurement, on each kind of structure.

    Images are aligned by the best affine fit.


    Parameters
    ----------
    models : mapping of str to str
        Name of a row to weights.
    device : str
        Where to compute.
    seeds : sequence of int
        Of the test specimens, which no training has seen.
    photons : float
        In the brightest pixel.
    """
    microscope = FineMicroscope(parse_psf(PSF, 2), PIXEL_UM)
    rows: dict[str, dict[str, list[float]]] = {
        name: {k: [] for k in KINDS} for name in ("measurement", *models)
    }
    draws = {name: dps_of(weights, device) for name, weights in models.items()}
    for kind in KINDS:
        for seed in seeds:
            truth = (
                Structures.model_validate({"kind": kind})
                .render(Grid((1, 384, 384), (1.0, PIXEL_UM / 2, PIXEL_UM / 2)), seed)
                .density[0, 0]
            )
            expected = microscope.expected(truth)
            top = np.float32(np.percentile(expected, 99.9))
            scene = Scene(kind, truth / top, expected / top, None)
            y = scene.measured(photons, seed)
            rows["measurement"][kind].append(_psnr_db(enlarged(y, 2), scene.truth))
            for name, draw in draws.items():
                rows[name][kind].append(_psnr_db(draw(y), scene.truth))
    return {
        name: {kind: float(np.mean(values)) for kind, values in row.items()}
        for name, row in rows.items()
    }


def _psnr_db(image: FloatArray, truth: FloatArray) -> float:
    """Return the PSNR after the best affine fit, 16 pixels off the border.

    The range is the 99.9 % percentile of the truth.
    """
    inside = (slice(16, -16),) * 2
    a, b = image[inside].astype(np.float64).ravel(), truth[inside].astype(np.float64).ravel()
    slope, offset = np.polyfit(a, b, 1)
    return float(
        -10 * np.log10(np.mean((slope * a + offset - b) ** 2) / np.percentile(b, 99.9) ** 2)
    )


def universality_table(
    psnr: Mapping[str, Mapping[str, float]], trained: Mapping[str, str]
) -> TextTable:
    """Return PSNR by training and test, and the loss against training on the test's kind.

    Parameters
    ----------
    psnr : mapping
        Row, kind of structure, dB.
    trained : mapping
        Kind of structure to the row that was trained on it.
    """
    header = ("trained on", *KINDS, "mean loss dB")
    rows = []
    for name, figures in psnr.items():
        losses = [
            psnr[trained[kind]][kind] - figures[kind]
            for kind in KINDS
            if trained.get(kind) in psnr and trained[kind] != name
        ]
        cells = [
            f"**{figures[k]:.2f}**" if trained.get(k) == name else f"{figures[k]:.2f}"
            for k in KINDS
        ]
        rows.append(
            (
                name,
                *cells,
                f"{sum(losses) / len(losses):.2f}" if losses and name in trained.values() else "-",
            )
        )
    worst = max(
        (psnr[trained[kind]][kind] - figures[kind], name, kind)
        for name, figures in psnr.items()
        if name in trained.values()
        for kind in KINDS
    )
    foot = (
        "PSNR in dB after the best affine fit, tested on unseen specimens of each kind at 200 "
        "photons; bold: trained on that kind.",
        "Loss: how much less than the network that was trained on the test's own kind, mean over "
        "the other three.",
        f"The largest loss is {worst[0]:.2f} dB, of the one trained on {worst[1]} on {worst[2]}; "
        f"below {LOSS_GOAL_DB:g} dB was the "
        f"goal{'' if worst[0] < LOSS_GOAL_DB else ', which is missed'}.",
    )
    return TextTable("Universality", header, tuple(rows), foot)


def train_by_kind(
    folder: Path, *, minutes: float, device: str = "cpu", tell: Tell = lambda _title, _share: None
) -> dict[str, str]:
    """Train a network on each kind of structure and return the models.

    Models already in the folder are reused.


    Parameters
    ----------
    folder : Path
        For the models.
    minutes : float
        Duration of each training.
    device : str
        Where to train.
    tell : callable
        Called with a title and the fraction done.
    """
    recipe = load_recipe("dps_stack")
    models = {}
    for number, kind in enumerate(KINDS):
        tell(f"training on {kind}", number / len(KINDS))
        plan = recipe.data.simulated[0].model_copy(
            update={"settings": {"kind": kind}, "count": STACKS}
        )
        update = {
            "name": f"dps_{kind}",
            "data": recipe.data.model_copy(update={"simulated": (plan,)}),
            "minutes": minutes,
            "steps": STEPS,
            "validate_every": EVERY,
        }
        kept = folder / f"universal_{kind}" / f"dps_{kind}.safetensors"
        if not kept.is_file():
            train(recipe.model_copy(update=update), kept.parent, device=device)
        models[kind] = str(kept)
    return models


@dataclass(frozen=True)
class Universality:
    """PSNR in dB by model and kind of structure, and how long each network was trained."""

    psnr_db: Mapping[str, Mapping[str, float]]
    minutes: float

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"psnr_db": {k: dict(v) for k, v in self.psnr_db.items()}, "minutes": self.minutes}


def _measure(options: Namespace, tell: Tell) -> Universality:
    with TemporaryDirectory() as temporary:
        models = train_by_kind(
            options.out or Path(temporary),
            minutes=options.minutes,
            device=options.device,
            tell=tell,
        )
        found = measure_universality(
            {**models, "mixed (ships)": "dps_stack"}, device=options.device
        )
    return Universality(found, options.minutes)


EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda report: {
        "universal": universality_table(report.psnr_db, {kind: kind for kind in KINDS})
    },
    page="methods/dps.md",
    options=(Option("minutes", "Duration of each training.", "MINUTES", 3.0, minutes), DEVICE),
)
