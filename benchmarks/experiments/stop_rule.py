"""Richardson-Lucy: dB at the stop rule's iteration, at the best one, and at the start.

Filaments (2-D) and walls (3-D) with the microscope's PSF known, at several numbers of photons and
with Poisson or Gaussian noise. Gain, offset and read noise are estimated, as in a run.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.runner import QUICK, Experiment, Tell
from benchmarks.tables import TextTable
from zenhance import EnhanceRequest, enhance
from zenhance.types import FloatArray, Triple

__all__ = ["EXPERIMENT", "StopReport", "StopRow", "measure_stop_rule", "stop_rule_table"]

SIGMA_PX = 1.6
VOXEL_UM = (0.1, 0.1, 0.1)
SHAPES: Mapping[str, Triple] = {"filaments, 2-D": (1, 160, 160), "walls, 3-D": (16, 72, 72)}
PHOTONS = (6.0, 30.0, 300.0)
"""In bright structures before the blur."""
OFFSET, GAIN, READ_NOISE = 100.0, 2.0, 2.0
# With acceleration the best iteration was never later.
LAST_ITERATION = 60
SEED = 11


@dataclass(frozen=True, slots=True)
class StopRow:
    """PSNR in dB of one image: as measured, smoothed (0 iterations), at the stop, and best."""

    specimen: str
    noise: str
    photons: float
    measured_db: float
    start_db: float
    stop_db: float
    best_db: float
    stop: int
    best: int


@dataclass(frozen=True)
class StopReport:
    """All rows."""

    rows: tuple[StopRow, ...]

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return asdict(self)


def specimen_of(name: str) -> FloatArray:
    """Return a specimen from 0 to 1: lines in a plane, or walls of a foam."""
    rng = np.random.default_rng(SEED)
    shape = SHAPES[name]
    width = 5.0 if shape[0] == 1 else 4.0
    field = ndimage.gaussian_filter(
        rng.normal(size=shape), [0.0 if n == 1 else width for n in shape]
    )
    lines = (np.abs(field) < 0.12 * field.std()).astype(np.float32)
    return np.asarray(
        lines * (0.3 + 0.7 * ndimage.gaussian_filter(rng.random(shape), 8.0)), np.float32
    )


def measure_stop_rule(
    photons: Sequence[float] = PHOTONS, on_progress: Tell | None = None
) -> StopReport:
    """Deconvolve each image with the stop rule, and with every number of iterations.

    Parameters
    ----------
    photons : sequence of float
        Light of the images.
    on_progress : callable, optional
        Called with a title and the fraction done.
    """
    cases = [(s, n, p) for s in SHAPES for n in ("Poisson", "Gaussian") for p in photons]
    rows = []
    for number, case in enumerate(cases):
        if on_progress is not None:
            on_progress(f"{case[0]}, {case[1]}, {case[2]:g} photons", number / len(cases))
        rows.append(_row(*case))
    return StopReport(tuple(rows))


def _row(specimen: str, noise: str, photons: float) -> StopRow:
    truth = specimen_of(specimen)
    truth = truth / truth.max() * photons
    sigma = [0.0 if n == 1 else SIGMA_PX for n in truth.shape]
    light = ndimage.gaussian_filter(truth, sigma, mode="reflect") + 0.02 * photons
    rng = np.random.default_rng(SEED + 1)
    if noise == "Poisson":
        counts = rng.poisson(light).astype(np.float64)
    else:
        counts = light + rng.normal(0.0, np.sqrt(light.mean()), light.shape)
    grey = OFFSET + GAIN * counts + rng.normal(0.0, READ_NOISE, light.shape)
    measured = np.rint(np.clip(grey, 0, 65535)).astype(np.uint16)
    wanted = OFFSET + GAIN * (truth + 0.02 * photons)

    def run(**settings: Any) -> tuple[FloatArray, Mapping[str, Any]]:
        request = EnhanceRequest(
            method="gaussian_deconvolution",
            psf="sigma_um=" + ",".join(f"{s * VOXEL_UM[0] or 0.1:g}" for s in sigma),
            voxel_size_um=VOXEL_UM,
            device="cpu",
            settings=settings,
            axes="ZYX",
        )
        result = enhance(measured, request)
        return np.asarray(result.stack.data, np.float32), result.provenance.notes

    ruled, notes = run()
    curve = [_psnr(run(stop="fixed", iterations=k)[0], wanted) for k in _tried()]
    best = int(np.argmax(curve))
    smooth = OFFSET + ndimage.gaussian_filter(measured - OFFSET, sigma, mode="reflect")
    return StopRow(
        specimen,
        noise,
        photons,
        _psnr(measured.astype(np.float32), wanted),
        _psnr(smooth.astype(np.float32), wanted),
        _psnr(ruled, wanted),
        curve[best],
        int(notes["iterations"]),
        _tried()[best],
    )


def _tried() -> list[int]:
    """Return the numbers of iterations that are tried: all of the first, then fewer."""
    return [*range(1, 16), 18, 22, 27, 33, 40, 50, LAST_ITERATION]


def _psnr(image: FloatArray, wanted: FloatArray) -> float:
    """Return the PSNR in dB over the range of the truth."""
    error = float(np.mean(np.square(np.asarray(image, np.float64) - wanted)))
    return float(20.0 * np.log10(np.ptp(wanted)) - 10.0 * np.log10(error))


def stop_rule_table(report: StopReport) -> TextTable:
    """Return one row an image."""
    return TextTable(
        "Where the stop rule ends Richardson-Lucy",
        (
            "image",
            "noise",
            "photons",
            "measured",
            "start",
            "at its stop",
            "best fixed",
            "iterations",
        ),
        tuple(
            (
                row.specimen,
                row.noise,
                f"{row.photons:g}",
                f"{row.measured_db:.1f}",
                f"{row.start_db:.1f}",
                f"{row.stop_db:.1f}",
                f"{row.best_db:.1f}",
                f"{row.stop} / {row.best}",
            )
            for row in report.rows
        ),
        (
            "PSNR in dB over the range of the truth; start: the measurement smoothed with the PSF, "
            "0 iterations; best fixed: the best number of iterations by the truth, with "
            "stop=fixed and the gain as estimated, which the stop rule raises where it is next to "
            "nothing; iterations: of both.",
            f"PSF of sigma {SIGMA_PX:g} px; gain {GAIN:g}, offset {OFFSET:g}, read noise "
            f"{READ_NOISE:g} grey values, all estimated.",
        ),
    )


def _measure(options: Namespace, tell: Tell) -> StopReport:
    return measure_stop_rule(PHOTONS[1:2] if options.quick else PHOTONS, tell)


EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda report: {"stop rule": stop_rule_table(report)},
    options=(QUICK,),
)
