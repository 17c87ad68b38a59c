"""Loss terms of DPS: each weight changed alone, and what comes of it.

Every row continues from the same weights, on the same stacks, with the same patches and noise; one
number of the recipe differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.experiments.resolution import PIXEL_UM, PSF, dps_of
from benchmarks.experiments.universal import measure_universality
from benchmarks.hallucination import Draw, noise_structures, reblurred_deviance
from benchmarks.resolving import FINER, Sharpness, sharpness
from benchmarks.rivals import FineMicroscope, enlarged
from benchmarks.runner import DEVICE, Experiment, Option, whole
from benchmarks.tables import TextTable
from zenhance.methods.dps.training import DpsLearner
from zenhance.physics.psf import parse_psf
from zenhance.steps import drain
from zenhance.training.data import TrainingVolume, load_volumes
from zenhance.training.loop import train
from zenhance.training.recipe import Recipe, load_recipe
from zenhance.training.session import optics_steps

__all__ = [
    "EXPERIMENT",
    "FACTORS",
    "SweepReport",
    "SweepRow",
    "measure_sweep",
    "measured_row",
    "sweep_table",
]

SEED, PHOTONS = 930, 100.0
"""Of the charts and lines, which neither the training nor the table of resolution has seen, and
their brightest pixel."""
MEASURED = "measurement"
RATE = 5e-4
STACKS = 8
"""So many stacks of each kind in the recipe are learnt from."""
FACTORS: Mapping[str, tuple[float, ...]] = {
    "hessian": (0.0, 10.0, 100.0),
    "sparsity": (0.0, 10.0, 100.0),
    "concentration": (0.0, 10.0),
    "ssim": (0.0,),
    "again": (0.0,),
}
"""What the recipe's weight of each term is multiplied with; 1 is the first row."""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A term of the loss, its weight, and the figures.

    Parameters
    ----------
    term : str
        Key of the architecture; empty for the recipe as it is, ``measurement`` for the picture
        itself, enlarged.
    weight : float
        Its value.
    sharpness : Sharpness
        On unseen charts, lines and filaments at 100 photons.
    psnr_db : float
        Mean over the four kinds of structure, at 200 photons.
    deviance : float
        Of the re-blurred result, over what photons alone give.
    false_spots : float
        Per 10^6 pixels of even light of 10 photons.
    """

    term: str
    weight: float
    sharpness: Sharpness
    psnr_db: float
    deviance: float
    false_spots: float


@dataclass(frozen=True)
class SweepReport:
    """Rows, and the steps of each training."""

    steps: int
    rows: tuple[SweepRow, ...]

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"steps": self.steps, "rows": [asdict(row) for row in self.rows]}


def measure_sweep(
    steps: int,
    *,
    start: str = "dps_stack",
    device: str = "cpu",
    on_progress: Callable[[str, float], None] = lambda _title, _share: None,
) -> SweepReport:
    """Train one network for each value of each term, and measure it.

    Parameters
    ----------
    steps : int
        Of each training.
    start : str
        Weights to go on from.
    device : str
        Where to compute.
    on_progress : callable
        Told what comes next, and the share that is done.
    """
    recipe = load_recipe("dps_stack")
    plans = tuple(
        plan.model_copy(update={"count": min(STACKS, plan.count), "validation": 1})
        for plan in recipe.data.simulated
    )
    recipe = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"simulated": plans}),
            "steps": steps,
            "minutes": None,
            "learning_rate": RATE,
            "warmup_steps": 10,
            "validate_every": steps,
            "start": start,
        }
    )
    on_progress("stacks", 0.0)
    volumes = _looked_at(recipe)
    wanted = [
        ("", 1.0),
        *((term, factor) for term, factors in FACTORS.items() for factor in factors),
    ]
    rows = [measured_row()]
    with TemporaryDirectory() as place:
        for number, (term, factor) in enumerate(wanted):
            weight = float(recipe.architecture.get(term, 1.0)) * factor if term else factor
            on_progress(f"{term or 'as shipped'} {weight:g}", number / len(wanted))
            changed = (
                recipe
                if not term
                else recipe.model_copy(
                    update={"architecture": {**recipe.architecture, term: weight}}
                )
            )
            made = train(changed, Path(place) / str(number), device=device, volumes=volumes)
            rows.append(_learnt_row(term, weight, str(made.path), device))
    return SweepReport(steps, tuple(rows))


def _looked_at(recipe: Recipe) -> tuple[list[TrainingVolume], list[TrainingVolume]]:
    """Return the volumes with their estimated light, computed once for all rows."""
    return drain(optics_steps(recipe, DpsLearner(), load_volumes(recipe)))


def measured_row() -> SweepRow:
    """Return the figures of the measurement itself."""
    return _row(
        MEASURED,
        0.0,
        lambda y: enlarged(y, FINER),
        measure_universality({}, seeds=(SEED,))["measurement"],
    )


def _learnt_row(term: str, weight: float, model: str, device: str) -> SweepRow:
    found = measure_universality({"model": model}, device=device, seeds=(SEED,))["model"]
    return _row(term, weight, dps_of(model, device), found)


def _row(term: str, weight: float, draw: Draw, found: Mapping[str, float]) -> SweepRow:
    microscope = FineMicroscope(parse_psf(PSF, 2), PIXEL_UM)
    return SweepRow(
        term,
        weight,
        sharpness(draw, microscope, PHOTONS, (SEED,)),
        float(np.mean(list(found.values()))),
        reblurred_deviance(draw, microscope, PHOTONS, SEED),
        noise_structures(draw, microscope, 10.0, 1)[0],
    )


def sweep_table(report: SweepReport) -> TextTable:
    """Return the rows: how fine, how like the truth, how far it follows noise."""
    header = (
        "term",
        "weight",
        "line pairs px",
        "thin lines px",
        "rings px",
        "PSNR dB",
        "deviance",
        "false at 10",
    )
    rows = tuple(
        (
            row.term or "as shipped",
            "-" if row.term in ("", MEASURED) else f"{row.weight:g}",
            *(
                f"{v:.2f}"
                for v in (row.sharpness.pairs_px, row.sharpness.width_px, row.sharpness.rings_px)
            ),
            f"{row.psnr_db:.2f}",
            f"{row.deviance:.3f}",
            f"{row.false_spots:.0f}",
        )
        for row in report.rows
    )
    foot = (
        f"Each row continues from `dps_stack` for {report.steps} steps with one weight changed; as "
        "shipped: with none.",
        "Line pairs, thin lines, rings and deviance at 100 photons, PSNR over four kinds of "
        "structure at 200, false spots per million"
        " pixels of even light of 10 photons; all on seeds that no training has seen.",
    )
    return TextTable("Weights of the terms", header, rows, foot)


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_sweep(
        options.steps, device=options.device, on_progress=tell
    ),
    tables=lambda report: {"sweep": sweep_table(report)},
    page="methods/dps.md",
    options=(Option("steps", "Steps of each training.", "N", 200, whole), DEVICE),
)
