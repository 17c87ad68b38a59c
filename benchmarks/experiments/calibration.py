"""Calibration of the uncertainty: draws on unseen simulated stacks against their truth."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.calibration import LEVELS, Calibration, calibration
from benchmarks.machine import Machine, describe_machine
from benchmarks.runner import DEVICE, QUICK, Experiment
from benchmarks.scenes import Plan, Scene, domain_plans, quality_plans
from benchmarks.tables import TextTable
from zenhance.assess.reblur import reblur_check
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.types import FloatArray

__all__ = [
    "EXPERIMENT",
    "CalibrationReport",
    "Drawer",
    "calibration_table",
    "drawers",
    "measure_calibration",
]

Tell = Callable[[str, float], None]
DRAWS = 20
CHECKED = 4
"""So many of the draws of each stack go through the re-blur check."""
LIT = 0.02
"""Voxels count where the draws' mean is above this share of its 99.9 % percentile: in the dark
there is nothing to be unsure of."""


@dataclass(frozen=True)
class Drawer:
    """A model whose draws are judged, and the stacks for it."""

    title: str
    request: EnhanceRequest
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class StackRow:
    """Figures of one stack."""

    title: str
    calibration: Calibration
    lit: float
    """Share of the voxels where the draws see light, over which the calibration is taken."""
    draws_flagged: tuple[float, ...]
    truth_flagged: float
    """Shares of voxels that the re-blur check flags, of some draws and of the truth."""
    seconds: float


@dataclass(frozen=True)
class CalibrationReport:
    """All drawers, each with its stacks."""

    rows: tuple[tuple[str, tuple[StackRow, ...]], ...]
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return asdict(self)


def drawers(*, quick: bool = False, spread: float | None = None) -> tuple[Drawer, ...]:
    """Return DivBlurring for meristems and for filaments, on stacks that no setting was tuned on.

    Parameters
    ----------
    quick : bool
        One small stack each.
    spread : float, optional
        Widening of the draws in place of what the weights say.
    """
    filaments = domain_plans(quick=quick)["filaments"][: 1 if quick else 6]
    stacks = {
        "divblurring_stack": quality_plans(quick=quick)[: 1 if quick else None],
        "divblurring_filaments": filaments,
    }
    found = []
    for name, plans in stacks.items():
        settings: dict[str, Any] = {"samples": DRAWS, "keep_samples": DRAWS} | (
            {} if spread is None else {"sample_temperature": spread}
        )
        found.append(
            Drawer(
                f"DivBlurring, {name}",
                EnhanceRequest(
                    method="divblurring", weights=name, settings=settings, arbitrate=False
                ),
                plans,
            )
        )
    return tuple(found)


def measure_calibration(
    chosen: Sequence[Drawer], on_progress: Tell | None = None, device: str = "cpu"
) -> CalibrationReport:
    """Draw from each stack and compare with its truth.

    Parameters
    ----------
    chosen : sequence of Drawer
        The rows.
    on_progress : callable, optional
        Called with a title and the fraction done.
    device : str
        Where to compute.
    """
    rows = []
    for number, drawer in enumerate(chosen):
        found = []
        for place, plan in enumerate(drawer.plans):
            if on_progress is not None:
                on_progress(
                    f"{drawer.title}, {plan.title}",
                    (number + place / len(drawer.plans)) / len(chosen),
                )
            found.append(_judged(plan.title, plan.make(), drawer.request, device))
        rows.append((drawer.title, tuple(found)))
    return CalibrationReport(tuple(rows), describe_machine())


def _judged(title: str, scene: Scene, request: EnhanceRequest, device: str) -> StackRow:
    started = time.perf_counter()
    result = enhance(
        scene.measured, request.model_copy(update={"psf": scene.psf_spec, "device": device})
    )
    seconds = time.perf_counter() - started
    draws = np.asarray(result.extras["samples"].data, np.float32)
    # What counts is the light of the dye: the truth above the camera's offset, a draw above the
    # background, which has the stray light too.
    known, _ = measure([VolumeReader(scene.measured)])
    light = scene.truth - np.float32(scene.microscope.offset)
    draws -= np.float32(known.background)
    mean = draws.mean(0)
    lit = mean > LIT * np.percentile(mean, 99.9)
    flagged = tuple(_flagged(scene, draw) for draw in draws[:CHECKED])
    return StackRow(
        title,
        calibration(draws, light, lit),
        float(lit.mean()),
        flagged,
        _flagged(scene, light),
        seconds,
    )


def _flagged(scene: Scene, light: FloatArray) -> float:
    """Return the share of voxels that the re-blur check flags, with the true blur and haze."""
    blurred = scene.imaged(light + np.float32(scene.microscope.offset))
    found, _ = reblur_check(
        scene.measured.read(),
        blurred,
        scene.psf,
        scene.voxel_size_um,
        scene.camera,
        deblurred=False,
    )
    return found.missing_share + found.added_share


def calibration_table(report: CalibrationReport) -> TextTable:
    """Return a row for each model, with means over its stacks, and a row for each stack."""
    header = (
        "model, stack",
        "spread/error",
        *(f"in {level:.0%}" for level in LEVELS),
        "rank corr.",
        "ENCE",
        "ranks",
        "lit",
        "draws flagged",
        "truth flagged",
    )
    rows = []
    for title, found in report.rows:
        rows.append((title, *_figures([row.calibration for row in found]), *_shares(found)))
        rows += [(f"· {row.title}", *_figures([row.calibration]), *_shares([row])) for row in found]
    foot = (
        f"{DRAWS} draws of each stack; a model's line has means over its stacks. spread/error: 1 "
        "is right, below it draws are overconfident.",
        "in 90 %: share of voxels whose truth lies in the central interval of that width "
        "(Student's t with the draws' mean and deviation).",
        "rank corr.: Spearman's, of deviation with absolute error. ENCE: expected normalised "
        "calibration error, 12 bins.",
        "ranks: reliability index of the rank histogram, 0 is flat. lit: share of the voxels "
        "where the draws' mean is above "
        f"{LIT:.0%} of its brightest; all figures before it are over those.",
        "flagged: share of voxels that the re-blur check doubts, with the true blur and haze of "
        f"each depth, {CHECKED} draws a stack and "
        "the truth (at a field's border light comes in from outside, which neither knows of).",
        f"Measured on {report.machine.describe()}.",
    )
    return TextTable("How far the spread can be believed", header, tuple(rows), foot)


def _figures(found: Sequence[Calibration]) -> tuple[str, ...]:
    covered = (f"{statistics.fmean(c.coverage[level] for c in found):.0%}" for level in LEVELS)
    plain = (
        f"{statistics.fmean(getattr(c, name) for c in found):.2f}"
        for name in ("spearman", "error", "ranks")
    )
    return (f"{statistics.fmean(c.spread_skill for c in found):.2f}", *covered, *plain)


def _shares(found: Sequence[StackRow]) -> tuple[str, str, str]:
    draws = statistics.fmean(share for row in found for share in row.draws_flagged)
    truth = statistics.fmean(row.truth_flagged for row in found)
    return f"{statistics.fmean(row.lit for row in found):.0%}", f"{draws:.3%}", f"{truth:.3%}"


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_calibration(
        drawers(quick=options.quick), tell, options.device
    ),
    tables=lambda report: {"calibration": calibration_table(report)},
    options=(QUICK, DEVICE),
)
