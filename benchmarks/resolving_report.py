"""What ``zenhance benchmark resolution`` measures: resolution against photons, honesty, universality, real beads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.hallucination import Honesty, judge_honesty
from benchmarks.machine import Machine, describe_machine
from benchmarks.resolving import (
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
from zenhance.physics.psf import parse_psf
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.simulate.specimen import Grid
from zenhance.simulate.structures import Structures
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = ["PSF", "ResolutionReport", "dps_of", "measure_resolution", "measure_universality"]

PSF, PIXEL_UM = "srpsf:fwhm_um=0.09", 0.03
PHOTONS = (20.0, 50.0, 100.0, 200.0, 1000.0)
SEEDS, QUICK_SEEDS = (910, 911), (910,)
RL_ITERATIONS = 25
"""Of the Richardson-Lucy whose honesty is measured beside."""
KINDS = ("filaments", "membranes", "dots", "rings")
Draw = Callable[[FloatArray], FloatArray]
Tried = Iterable[tuple[str, FloatArray]]
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class ResolutionReport:
    """Figures by method and photons, and honesty by method."""

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
    """Return DPS as a function of a picture above its background, on the grid twice as fine."""

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
    """Return the best that any setting reaches on a scene."""
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
    """Return plain Richardson-Lucy; its pedestal is a share of the picture's brightness, so that scale does not matter."""

    def run(y: FloatArray) -> FloatArray:
        pedestal = STRAY * max(float(np.percentile(y, 99.9)), 1e-6)
        estimates = microscope.richardson_lucy(y, pedestal)
        return next(image for count, image in estimates if count >= RL_ITERATIONS)

    return run


def measure_universality(
    models: Mapping[str, str],
    *,
    device: str = "cpu",
    seeds: Sequence[int] = (920,),
    photons: float = 200.0,
) -> dict[str, dict[str, float]]:
    """Return PSNR in dB, after the best affine fit, of each model on each kind of structure, and of the measurement under ``measurement``.

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
    """Return the PSNR after the best affine fit, for the range that 99.9 % of the truth's pixels keep, 16 pixels from the border."""
    inside = (slice(16, -16),) * 2
    a, b = image[inside].astype(np.float64).ravel(), truth[inside].astype(np.float64).ravel()
    slope, offset = np.polyfit(a, b, 1)
    return float(
        -10 * np.log10(np.mean((slope * a + offset - b) ** 2) / np.percentile(b, 99.9) ** 2)
    )
