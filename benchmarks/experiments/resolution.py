"""Resolution and hallucination of DPS and its rivals, by number of photons."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.experiments.beads import BeadsAndLines, measure_beads_and_lines
from benchmarks.hallucination import Honesty, judge_honesty
from benchmarks.machine import Machine, describe_machine
from benchmarks.resolving import (
    DIP,
    STRAY,
    Scene,
    Sharpness,
    filaments,
    line_chart,
    line_width_px,
    ring_limit_px,
    smallest_distance_px,
    thin_lines,
)
from benchmarks.rivals import TV_WEIGHTS, FineMicroscope, enlarged
from benchmarks.runner import DEVICE, QUICK, Experiment, Option, Tell
from benchmarks.tables import TextTable, figure
from zenhance.physics.psf import parse_psf
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = [
    "EXPERIMENT",
    "PSF",
    "ResolutionReport",
    "dps_of",
    "factor_table",
    "honesty_table",
    "measure_resolution",
]

PSF, PIXEL_UM = "srpsf:fwhm_um=0.09", 0.03
PHOTONS = (20.0, 50.0, 100.0, 200.0, 1000.0)
SEEDS, QUICK_SEEDS = (910, 911), (910,)
RL_ITERATIONS = 25
"""Of the Richardson-Lucy whose honesty is measured beside."""
GOAL = 1.67
"""Gain in resolution that was published for DPS."""
Draw = Callable[[FloatArray], FloatArray]
Tried = Iterable[tuple[str, FloatArray]]


@dataclass(frozen=True)
class ResolutionReport:
    """Resolution by method and photons, and hallucination by method."""

    photons: tuple[float, ...]
    sharpness: Mapping[str, Mapping[float, Sharpness]]
    honesty: Mapping[str, Honesty]
    machine: Machine
    weights: str

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "psf": PSF,
            "pixel_um": PIXEL_UM,
            "sharpness": {
                name: {str(p): asdict(s) for p, s in rows.items()}
                for name, rows in self.sharpness.items()
            },
            "honesty": {name: asdict(h) for name, h in self.honesty.items()},
            "machine": asdict(self.machine),
            "weights": self.weights,
        }


def dps_of(weights: str | None = None, device: str = "cpu") -> Draw:
    """Return DPS as a function of a background-free picture, on a grid twice as fine."""

    def run(y: FloatArray) -> FloatArray:
        stack = Stack.from_array(np.ascontiguousarray(y, np.float32), "YX", (PIXEL_UM, PIXEL_UM))
        request = EnhanceRequest(
            method="dps",
            settings={"scale": 2},
            psf=PSF,
            weights=weights,
            device=device,
            background=0.0,
        )
        found = np.asarray(enhance(stack, request).stack.read(), np.float32)
        return found.reshape(found.shape[-2:])

    return run


def _rivals(y: FloatArray, microscope: FineMicroscope) -> dict[str, Tried]:
    variation = (
        (f"{w:g}, {n}", x) for w in TV_WEIGHTS for n, x in microscope.richardson_lucy(y, STRAY, w)
    )
    return {
        "measurement": [("", enlarged(y, microscope.finer))],
        "Wiener": ((f"{r:.2g}", x) for r, x in microscope.wiener(y)),
        "RL": ((f"{n}", x) for n, x in microscope.richardson_lucy(y, STRAY)),
        "RL-TV": variation,
    }


def _smallest(values: Iterable[float]) -> float:
    found = [v for v in values if np.isfinite(v)]
    return min(found) if found else float("nan")


def _sharpest(tried: Tried, scene: Scene, microscope: FineMicroscope) -> float:
    """Return the best figure of any setting on a scene."""
    if scene.kind == "pairs":
        return _smallest(smallest_distance_px(image, scene, microscope) for _, image in tried)
    if scene.kind == "lines":
        return _smallest(line_width_px(image, scene) for _, image in tried)
    return _smallest(ring_limit_px(image, scene) for _, image in tried)


def measure_resolution(
    *,
    weights: str | None = None,
    device: str = "cpu",
    quick: bool = False,
    on_progress: Tell = lambda _title, _share: None,
) -> ResolutionReport:
    """Measure DPS and its rivals on charts, lines and filaments that no training has seen.

    Parameters
    ----------
    weights : str, optional
        Of DPS; left out, those that ship.
    device : str
        Where DPS computes.
    quick : bool
        One seed, one photon level.
    on_progress : callable
        Told what comes next, and the share that is done.
    """
    machine = describe_machine()
    microscope = FineMicroscope(parse_psf(PSF, 2), PIXEL_UM)
    dps = dps_of(weights, device)
    levels = (100.0,) if quick else PHOTONS
    seeds = QUICK_SEEDS if quick else SEEDS
    names = ("measurement", "Wiener", "RL", "RL-TV", "DPS")
    kept: dict[str, dict[float, dict[str, list[float]]]] = {
        name: {p: {"pairs": [], "lines": [], "filaments": []} for p in levels} for name in names
    }
    for number, photons in enumerate(levels):
        on_progress(f"resolution at {photons:g} photons", 0.8 * number / len(levels))
        for seed in seeds:
            for scene in (make(microscope, seed) for make in (line_chart, thin_lines, filaments)):
                y = scene.measured(photons, seed)
                for name, tried in {**_rivals(y, microscope), "DPS": [("", dps(y))]}.items():
                    kept[name][photons][scene.kind].append(_sharpest(tried, scene, microscope))
    found = {
        name: {
            p: Sharpness(*(float(np.mean(rows[p][k])) for k in ("pairs", "lines", "filaments")))
            for p in levels
        }
        for name, rows in kept.items()
    }
    on_progress("honesty", 0.8)
    honest = {"measurement": judge_honesty(lambda y: enlarged(y, microscope.finer), microscope)}
    honest[f"RL, {RL_ITERATIONS} iterations"] = judge_honesty(_plain_rl(microscope), microscope)
    honest["DPS"] = judge_honesty(dps, microscope)
    return ResolutionReport(levels, found, honest, machine, weights or "dps_stack")


def _plain_rl(microscope: FineMicroscope) -> Draw:
    """Return plain Richardson-Lucy.

    Its pedestal is a share of the brightness, so that the scale does not matter.
    """

    def run(y: FloatArray) -> FloatArray:
        pedestal = STRAY * max(float(np.percentile(y, 99.9)), 1e-6)
        estimates = microscope.richardson_lucy(y, pedestal)
        return next(image for count, image in estimates if count >= RL_ITERATIONS)

    return run


def factor_table(report: ResolutionReport) -> TextTable:
    """Return resolution and its gain over the measurement, by method and photons."""
    base = report.sharpness["measurement"]
    header = ("method", *(f"{p:g}" for p in report.photons))
    rows = []
    for title, part in (
        ("line pairs", "pairs_px"),
        ("thin lines", "width_px"),
        ("rings", "rings_px"),
    ):
        for name, figures in report.sharpness.items():
            cells = []
            for photons in report.photons:
                value = getattr(figures[photons], part)
                gain = getattr(base[photons], part) / value
                cells.append(
                    figure(value)
                    if name == "measurement"
                    else f"{figure(value)} ({figure(gain)} ×)"
                )
            rows.append((f"{title}: {name}", *cells))
    foot = (
        f"By photons in the brightest pixel; lengths in camera pixels of {1000 * PIXEL_UM:g} nm, "
        "in brackets how many times finer than the"
        f" measurement. PSF `{PSF}`; charts, lines and filaments of seeds that no training has "
        "seen.",
        f"Line pairs: smallest distance down to which all pairs show a dip of {100 * DIP:.0f} %. "
        "Thin lines: full width at half maximum."
        " Rings: period at which correlation with the truth falls below 1/2.",
        "Wiener, RL and RL-TV: true PSF and, for every figure and scene, the setting that is best "
        "by the truth; DPS has none to choose.",
        *_words(report),
        f"Weights `{report.weights}`.",
    )
    return TextTable("Resolution", header, tuple(rows), foot)


def _words(report: ResolutionReport) -> tuple[str, ...]:
    """Say whether the published gain is reached at 100 photons, and by how much it is missed."""
    if 100.0 not in report.photons:
        return ()
    ours, before = report.sharpness["DPS"][100.0], report.sharpness["measurement"][100.0]
    return (f"At 100 photons the gain is {_gain(before, ours)}; {GOAL} was published.",)


def _gain(before: Sharpness, ours: Sharpness) -> str:
    parts = (
        ("line pairs", before.pairs_px / ours.pairs_px),
        ("thin lines", before.width_px / ours.width_px),
        ("rings", before.rings_px / ours.rings_px),
    )
    return ", ".join(
        f"{value:.2f} for {name} ({'reached' if value >= GOAL else f'{GOAL - value:.2f} short'})"
        for name, value in parts
    )


def honesty_table(report: ResolutionReport) -> TextTable:
    """Return the response of methods to noise, to injected structure, and to twice the light."""
    header = (
        "method",
        "false at 2",
        "false at 10",
        "mean error %",
        "beads",
        "squares",
        "rings",
        "moved px",
        "2 × bead",
        "2 × image %",
        "deviance",
    )
    rows = tuple(
        (
            name,
            f"{h.false_dim:.0f}",
            f"{h.false_bright:.0f}",
            f"{100 * h.mean_error:.2f}",
            *(figure(v) for v in h.injected),
            figure(h.moved_px),
            f"{h.doubled:.3f}",
            f"{100 * h.scaled:.2f}",
            f"{h.discrepancy:.3f}",
        )
        for name, h in report.honesty.items()
    )
    foot = (
        "False: spots per million pixels of even light of 2 and of 10 photons, above half of what "
        "a bead of 10 photons gives.",
        "Beads, squares, rings: light recovered, as a share of that added to filaments at 100 "
        "photons; "
        "moved: of the bead's peak.",
        "2 × bead: light of a bead twice as bright over that of the other; 2 × image: largest "
        "deviation from proportion, of the range.",
        "Deviance: of the re-blurred result from the measurement, over what photons alone give; 1 "
        "is faithful, below 0.9 it kept noise.",
        f"RL: {RL_ITERATIONS} iterations.",
    )
    return TextTable("Honesty", header, rows, foot)


@dataclass(frozen=True)
class Resolution:
    """Figures of simulated scenes and, where wanted, of real beads and lines."""

    simulated: ResolutionReport
    real: BeadsAndLines | None = None

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        figures = self.simulated.record()
        return figures if self.real is None else {**figures, **self.real.record()}

    def tables(self) -> dict[str, TextTable]:
        """Return the tables by marker."""
        found = {
            "resolution": factor_table(self.simulated),
            "honesty": honesty_table(self.simulated),
        }
        return found if self.real is None else {**found, **self.real.tables()}


def _measure(options: Namespace, tell: Tell) -> Resolution:
    report = measure_resolution(device=options.device, quick=options.quick, on_progress=tell)
    real = measure_beads_and_lines(options.real, device=options.device) if options.real else None
    return Resolution(report, real)


EXPERIMENT = Experiment(
    measure=_measure,
    tables=Resolution.tables,
    page="methods/dps.md",
    options=(
        QUICK,
        Option("real", "Real beads, and lines of the same microscope, as in beads.", "BEADS,LINES"),
        DEVICE,
    ),
)
