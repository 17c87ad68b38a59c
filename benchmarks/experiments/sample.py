"""Quality of each method on the bundled sample, against the truth that ships with it.

Every row has the same measured stack and, where it takes one, the same PSF: the true one of the
simulation, averaged over depth. Times are those of the whole call, with statistics and noise
estimate.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from benchmarks.console import console
from benchmarks.machine import Machine, describe_machine
from benchmarks.runner import DEVICE, Experiment, Option
from benchmarks.tables import TextTable
from zenhance.assess.before_after import before_after, standard_cuts
from zenhance.assess.cells import CellReport, DepthBin
from zenhance.assess.truth import psnr_db, robust_range
from zenhance.errors import StackError
from zenhance.io import write_stack
from zenhance.pipeline import EnhanceRequest, EnhanceResult
from zenhance.pipeline.sample_quality import QualityRow, SampleScene
from zenhance.stack import Stack
from zenhance.steps import drain
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "CANDIDATES",
    "EXPERIMENT",
    "Candidate",
    "SampleReport",
    "measure_sample",
    "sample_table",
]

SAMPLE = "meristem_deep"
GAUSSIAN_SIGMAS_UM = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
TV_WEIGHT = 0.002
Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the table: a request or, without a method, Gaussian smoothing."""

    name: str
    title: str
    method: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    by_default: bool = True


DECONVOLUTION = "gaussian_deconvolution"
CANDIDATES: tuple[Candidate, ...] = (
    Candidate("raw", "measured (identity)", "identity"),
    Candidate("gaussian", "Gaussian smoothing", None),
    Candidate("imagej", "ImageJ 2-D, id3d", DECONVOLUTION, {"variant": "imagej"}),
    Candidate(
        "imagej_rl10",
        "ImageJ 2-D, rl10",
        DECONVOLUTION,
        {"variant": "imagej", "imagej_form": "rl10"},
        by_default=False,
    ),
    Candidate(
        "imagej_wpl5",
        "ImageJ 2-D, wpl5",
        DECONVOLUTION,
        {"variant": "imagej", "imagej_form": "wpl5"},
        by_default=False,
    ),
    Candidate("wiener", "Wiener 3-D", DECONVOLUTION, {"variant": "wiener"}),
    Candidate("rl_2d", "RL 2-D, stop rule", DECONVOLUTION, {"dimensions": 2}, by_default=False),
    Candidate(
        "rl_fixed", "RL 3-D, 10 iterations", DECONVOLUTION, {"stop": "fixed"}, by_default=False
    ),
    Candidate("rl", "RL 3-D, stop rule", DECONVOLUTION),
    Candidate("rl_tv", "RL 3-D, TV, stop rule", DECONVOLUTION, {"tv_weight": TV_WEIGHT}),
    Candidate("srcnn", "SRCNN", "srcnn", by_default=False),
    Candidate("rdn", "RDN", "rdn"),
    Candidate("divblurring", "DivBlurring, 20 samples", "divblurring"),
    Candidate("diffusion_1", "Diffusion, N = 1", "diffusion", {"steps": 1}, by_default=False),
    Candidate("diffusion_20", "Diffusion, N = 20", "diffusion", {"steps": 20}, by_default=False),
    Candidate("diffusion", "Diffusion", "diffusion", by_default=False),
    Candidate(
        "dqlr_drawn",
        "DQLR, without data consistency",
        "dqlr",
        {"data_consistency": 0.0},
        by_default=False,
    ),
    Candidate("dqlr", "DQLR", "dqlr"),
)
"""The rows of the table; the last one is the one that is written and drawn."""


@dataclass(frozen=True)
class SampleReport:
    """The whole table and what it was measured on.

    Parameters
    ----------
    rows : tuple of QualityRow
        In the order of :data:`CANDIDATES`.
    best : EnhanceResult
        Of the last row, for the picture and the file.
    measured, truth : Stack
        The sample.
    """

    sample: str
    psf: str
    rows: tuple[QualityRow, ...]
    best: EnhanceResult
    measured: Stack
    truth: Stack
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        rows = [
            {**asdict(row), "quality": asdict(row.quality), "cells": asdict(row.cells)}
            for row in self.rows
        ]
        return {
            "sample": self.sample,
            "psf": self.psf,
            "rows": rows,
            "machine": asdict(self.machine),
        }

    def row(self, name: str) -> QualityRow:
        """Return a row by name."""
        return next(row for row in self.rows if row.name == name)


def measure_sample(
    name: str = SAMPLE,
    *,
    everything: bool = False,
    device: str = "cpu",
    on_progress: Tell | None = None,
) -> SampleReport:
    """Enhance a bundled sample with each candidate and compare with its truth.

    Parameters
    ----------
    name : str
        A bundled sample of one volume, with truth and labels.
    everything : bool
        Also the candidates that are not needed for the short table.
    device : str
        Where to compute.
    on_progress : callable, optional
        Called with a title and the fraction done of all rows.

    Raises
    ------
    StackError
        The sample is unknown, has several channels or time points, or lacks its truth, labels or
        record.
    """
    machine, scene = describe_machine(), SampleScene.load(name)
    wanted = [c for c in CANDIDATES if everything or c.by_default]
    rows, result = [], None
    for number, candidate in enumerate(wanted):

        def tell(title: str, fraction: float, number: int = number) -> None:
            if on_progress is not None:
                on_progress(title, (number + fraction) / len(wanted))

        tell(candidate.title, 0.0)
        if candidate.method is None:
            rows.append(_smoothed(scene, candidate))
        else:
            row, result = _enhanced(scene, candidate, device, tell)
            rows.append(row)
    if result is None:
        raise StackError(
            "no candidate of the sample benchmark enhances anything; add one to CANDIDATES"
        )
    return SampleReport(name, scene.psf, tuple(rows), result, scene.measured, scene.truth, machine)


def _smoothed(scene: SampleScene, candidate: Candidate) -> QualityRow:
    """Smooth with the width that has the highest PSNR against the truth, which no user knows."""
    raw, span = scene.measured.read().astype(np.float32), robust_range(scene.clean)
    best: tuple[float, float, float, FloatArray] | None = None
    for sigma_um in GAUSSIAN_SIGMAS_UM:
        started = time.perf_counter()
        image = ndimage.gaussian_filter(raw, [sigma_um / v for v in scene.voxel_um])
        seconds = time.perf_counter() - started
        quality = psnr_db(image, scene.clean, span)
        if best is None or quality > best[0]:
            best = (quality, sigma_um, seconds, image)
    if best is None:
        raise StackError("no width is listed for Gaussian smoothing; add one to GAUSSIAN_SIGMAS_UM")
    _, sigma_um, seconds, image = best
    return scene.judge(
        candidate.name,
        candidate.title,
        image,
        seconds,
        f"σ = {sigma_um:g} µm, the best of {len(GAUSSIAN_SIGMAS_UM)} by the truth",
    )


def _enhanced(
    scene: SampleScene, candidate: Candidate, device: str, tell: Tell
) -> tuple[QualityRow, EnhanceResult]:
    psf = None if candidate.method == "identity" else scene.psf
    request = EnhanceRequest(
        method=candidate.method, settings=dict(candidate.settings), psf=psf, device=device
    )
    steps = scene.enhance_steps(candidate.name, candidate.title, request)
    return drain(steps, lambda progress: tell(candidate.title, progress.fraction))


def sample_table(report: SampleReport) -> TextTable:
    """Return the quality table: figures as they are, after the affine fit, cells found, seconds."""
    first = report.rows[0]
    header = (
        "method",
        "PSNR dB",
        "SSIM",
        "PSNR fit",
        "SSIM fit",
        "cells found",
        *_depth_titles(first.cells),
        "seconds",
    )
    rows = []
    for row in report.rows:
        q, c = row.quality, row.cells
        figures = (
            f"{q.psnr_db:.2f}",
            f"{q.ssim:.3f}",
            f"{q.psnr_fit_db:.2f}",
            f"{q.ssim_fit:.3f}",
            f"{c.found} of {c.total}",
        )
        depths = tuple(f"{b.found}/{b.total}" for b in c.by_depth)
        rows.append((row.title, *figures, *depths, f"{row.seconds:.1f}"))
    notes = [f"{row.title}: {row.note}." for row in report.rows if row.note]
    foot = (
        f"Sample `{report.sample}`, PSF `{report.psf}` for every method that takes one.",
        f"PSNR and SSIM over the whole volume, data range {first.quality.data_range:.0f} grey "
        "values (0.1 % to 99.9 % of the truth);"
        " SSIM in 3-D, Gaussian window of σ 1.5 voxels; 'fit': after the best a · image + b.",
        f"Cells: plain watershed, overlap (IoU) above {first.cells.min_iou:g}, also by the cells' "
        "depth in the tissue.",
        *notes,
        f"Measured on {report.machine.describe()}.",
    )
    detail = ("PSNR fit", "SSIM fit", *_depth_titles(first.cells))
    return TextTable("Bundled sample against its truth", header, tuple(rows), foot, detail)


def _depth_titles(cells: CellReport) -> tuple[str, ...]:
    def name(depth: DepthBin) -> str:
        return (
            f"{depth.from_um:g}-{depth.to_um:g} µm"
            if depth.to_um is not None
            else f"> {depth.from_um:g} µm"
        )

    return tuple(name(depth) for depth in cells.by_depth)


def _files(report: SampleReport, folder: Path) -> tuple[Path, ...]:
    """Write the enhanced stack, and say how to open it where there is a display."""
    path = write_stack(
        folder / f"{report.sample}_enhanced.ome.tif",
        report.best.stack,
        overwrite=True,
        provenance=report.best.provenance,
    )
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if display or sys.platform in ("win32", "darwin"):
        screen = console(stderr=True)
        screen.print(f"open it in napari: napari {path}", highlight=False, markup=False)
    return (path,)


def _pictures(report: SampleReport) -> dict[str, Image]:
    measured = report.measured
    voxel = measured.voxel_size.require()
    columns = {
        "measured": measured.read(),
        report.rows[-1].title: report.best.stack.read(),
        "truth": report.truth.read(),
    }
    cuts = standard_cuts(measured.volume_shape, voxel[0])
    return {"before_after.png": before_after(columns, voxel, cuts)}


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_sample(
        everything=options.all, device=options.device, on_progress=tell
    ),
    tables=lambda report: {"sample": sample_table(report)},
    options=(Option("all", "Measure all rows, not only those of the short table."), DEVICE),
    pictures=_pictures,
    files=_files,
)
