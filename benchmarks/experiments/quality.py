"""Quality of all methods on simulated stacks that no training has seen."""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contenders import IDENTITY, Contender, list_contenders, select
from benchmarks.experiments.real import RealStacks, measure_stacks, real_table
from benchmarks.judging import (
    DEPTH_EDGES_UM,
    Figures,
    Outcome,
    QualityReport,
    measure_quality,
)
from benchmarks.measures import RIM_SIGMAS
from benchmarks.quality_notes import FAILED, remarks, verdicts
from benchmarks.runner import DEVICE, METHODS, QUICK, Experiment, Option, Tell
from benchmarks.scenes import quality_plans
from benchmarks.sheet import picture_sheet
from benchmarks.tables import TextTable, mean_sd
from zenhance.assess.reblur_report import Grade

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EXPERIMENT", "by_depth_table", "by_stack_table", "quality_table"]

GRADES: tuple[Grade, ...] = ("pass", "warn", "fail")
COLUMNS = (
    "gain dB",
    "gain re-blurred",
    "PSNR dB",
    "SSIM",
    "PSNR fit",
    "SSIM fit",
    "RMSE %",
    "sharp",
    "cells",
)


def quality_table(report: QualityReport) -> TextTable:
    """Return means and standard deviations over the stacks, a row for each contender."""
    depths = _depth_titles()
    header = ("method", *COLUMNS, *depths, "re-blur", "flagged %", "s", "MB")
    rows = tuple(_row(c, report) for c in report.contenders)
    detail = (
        "gain dB",
        "gain re-blurred",
        "PSNR fit",
        "SSIM fit",
        "RMSE %",
        "sharp",
        *depths,
        "re-blur",
        "flagged %",
        "s",
        "MB",
    )
    return TextTable("Quality on simulated meristems", header, rows, _foot(report), detail)


def _depth_titles() -> tuple[str, ...]:
    edges = DEPTH_EDGES_UM
    return (*(f"{a:g}-{b:g} µm" for a, b in pairwise(edges)), f"> {edges[-1]:g} µm")


def _row(contender: Contender, report: QualityReport) -> tuple[str, ...]:
    outcomes = report.outcomes[contender.name]
    good = [o.figures for o in outcomes if o.figures is not None]
    if not good:
        return (
            contender.title,
            FAILED,
            FAILED,
            FAILED,
            *["-"] * (len(COLUMNS) + len(DEPTH_EDGES_UM) + 1),
        )
    title = (
        contender.title
        if len(good) == len(outcomes)
        else f"{contender.title} ({FAILED} on {len(outcomes) - len(good)})"
    )
    return (
        title,
        mean_sd(
            _gains_db(outcomes, report.outcomes.get(IDENTITY, ()), lambda f: f.quality.psnr_db), 2
        ),
        mean_sd(
            _gains_db(outcomes, report.outcomes.get(IDENTITY, ()), lambda f: f.blurred_psnr_db), 2
        ),
        mean_sd([f.quality.psnr_db for f in good], 2),
        mean_sd([f.quality.ssim for f in good], 3),
        mean_sd([f.quality.psnr_fit_db for f in good], 2),
        mean_sd([f.quality.ssim_fit for f in good], 3),
        mean_sd([100 * f.quality.rmse / f.quality.data_range for f in good], 1),
        f"{np.mean([f.sharpness for f in good]):.2f}",
        *_cells(good),
        *_reblur(good),
        f"{np.mean([f.seconds for f in good]):.1f}",
        _megabytes(good),
    )


def _gains_db(
    outcomes: Sequence[Outcome], raw: Sequence[Outcome], figure: Callable[[Figures], float | None]
) -> list[float]:
    """Return a figure in dB above that of the measurement, stack by stack."""
    pairs = [(o.figures, r.figures) for o, r in zip(outcomes, raw, strict=False)]
    both = [(figure(o), figure(r)) for o, r in pairs if o is not None and r is not None]
    return [a - b for a, b in both if a is not None and b is not None]


def _cells(good: Sequence[Figures]) -> tuple[str, ...]:
    found, total = sum(f.cells.found for f in good), sum(f.cells.total for f in good)
    bins = zip(*(f.cells.by_depth for f in good), strict=True)
    by_depth = tuple(f"{sum(b.found for b in same)}/{sum(b.total for b in same)}" for same in bins)
    return (f"{found} of {total}", *by_depth)


def _reblur(good: Sequence[Figures]) -> tuple[str, str]:
    grades = Counter(f.reblur.grade for f in good)
    said = ", ".join(f"{grades[grade]} {grade}" for grade in GRADES if grades[grade])
    return said, f"{100 * np.mean([f.reblur.flagged_share for f in good]):.2g}"


def _megabytes(good: Sequence[Figures]) -> str:
    peaks = [f.peak_bytes for f in good if f.peak_bytes is not None]
    return f"{max(peaks) / 1e6:.0f}" if peaks else "-"


def by_depth_table(report: QualityReport) -> TextTable:
    """Return PSNR and gain over the measurement by depth, a row for each contender."""
    titles = _depth_titles()
    header = (
        "method",
        *(column for title in titles for column in (f"{title}: gain dB", "PSNR dB")),
    )
    rows = tuple((c.title, *_layers(c, report, len(titles))) for c in report.contenders)
    foot = (
        "Means ± standard deviations over the stacks, inside the specimen, by the tissue above; "
        "gain: above the measurement in that layer.",
        "Data range of a layer: 0.1 % to 99.9 % of the truth within it, so PSNR compares within a "
        "column, and gain across columns too.",
    )
    return TextTable("Quality by depth", header, rows, foot, ("PSNR dB",))


def _layers(contender: Contender, report: QualityReport, count: int) -> tuple[str, ...]:
    outcomes, raw = report.outcomes[contender.name], report.outcomes.get(IDENTITY, ())
    good = [o.figures for o in outcomes if o.figures is not None]
    if not good:
        return (FAILED, *["-"] * (2 * count - 1))
    cells: list[str] = []
    for n in range(count):
        values = [f.depth_psnr_db[n] for f in good]
        gains = _gains_db(outcomes, raw, _of_layer(n))
        cells += [mean_sd(gains, 2), mean_sd([v for v in values if v is not None], 2)]
    return tuple(cells)


def _of_layer(number: int) -> Callable[[Figures], float | None]:
    return lambda figures: figures.depth_psnr_db[number]


def by_stack_table(report: QualityReport) -> TextTable:
    """Return the PSNR by stack; the best contender that used only the measurement is in bold."""
    header = ("method", *(plan.title for plan in report.plans))
    fair = {c.name for c in report.contenders if c.method is not None}
    values = {
        c.name: [
            math.nan if o.figures is None else o.figures.quality.psnr_db
            for o in report.outcomes[c.name]
        ]
        for c in report.contenders
    }
    best = [
        max((values[name][n] for name in fair if not math.isnan(values[name][n])), default=math.nan)
        for n in range(len(report.plans))
    ]

    def cell(name: str, n: int) -> str:
        value = values[name][n]
        if math.isnan(value):
            return FAILED
        text = "∞" if math.isinf(value) else f"{value:.2f}"
        return f"**{text}**" if name in fair and value == best[n] else text

    rows = tuple(
        (c.title, *(cell(c.name, n) for n in range(len(report.plans)))) for c in report.contenders
    )
    foot = (
        "PSNR in dB of the unchanged image; bold: the best method, without references and "
        "filters tuned by the truth.",
    )
    return TextTable("PSNR by microscope", header, rows, foot, ("good", "typical"))


def _foot(report: QualityReport) -> tuple[str, ...]:
    first = report.plans[0]
    count = f"{len(report.plans)} simulated meristem{'' if len(report.plans) == 1 else 's'}"
    shape, voxel = (
        " × ".join(str(n) for n in first.shape_px),
        " × ".join(f"{v:g}" for v in first.voxel_size_um),
    )
    stacks = ", ".join(f"{plan.title} {plan.seed}" for plan in report.plans)
    return (
        f"{count} of {shape} voxels of {voxel} µm (z, y, x); microscope and seed: {stacks}.",
        "Means ± standard deviations over the stacks, which differ on purpose; gain: PSNR above "
        "that of the measurement, stack by stack.",
        "Gain re-blurred, dB: the result blurred again as the microscope did (where it claims to "
        "be sharp) against the noise-free blurred "
        f"specimen, {RIM_SIGMAS:g} σ of the PSF away from the borders and with the offset that "
        "fits best, above the measurement's.",
        "Data range of PSNR, SSIM and RMSE: 0.1 % to 99.9 % of the truth; fit: after the best a · "
        "image + b; cells: IoU above 0.6.",
        "Every method that takes a PSF got the true one, averaged over depth; s: mean seconds of "
        "a stack; MB: highest rise of memory.",
        *verdicts(report),
        *remarks(report),
        f"Measured on {report.machine.describe()}.",
    )


@dataclass(frozen=True)
class Quality:
    """Figures on simulated stacks and, where wanted, on real ones."""

    simulated: QualityReport
    real: RealStacks | None = None

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        figures = self.simulated.record()
        return figures if self.real is None else {**figures, "real": self.real.record()}

    def tables(self) -> dict[str, TextTable]:
        """Return the tables by marker."""
        found = {
            "quality": quality_table(self.simulated),
            "depths": by_depth_table(self.simulated),
            "microscopes": by_stack_table(self.simulated),
        }
        return found if self.real is None else {**found, "real": real_table(self.real)}


def _measure(options: Namespace, tell: Tell) -> Quality:
    """Measure all rows; models of the user are left out of the documentation."""
    rows = list_contenders(own_models=not options.write_docs)
    report = measure_quality(
        select(rows, options.methods) if options.methods else rows,
        quality_plans(quick=options.quick),
        device=options.device,
        on_progress=tell,
    )
    real = measure_stacks(options.real, device=options.device, tell=tell) if options.real else None
    return Quality(report, real)


def _pictures(quality: Quality) -> dict[str, Image]:
    report = quality.simulated
    voxel = report.plans[0].voxel_size_um
    crops = {c.title: report.crops[c.name] for c in report.contenders if c.name in report.crops}
    shallow, deep = ((plane + 0.5) * voxel[0] for plane in report.crop_planes)
    return {"quality_sheet.png": picture_sheet(crops, (shallow, deep), voxel[2])} if crops else {}


EXPERIMENT = Experiment(
    measure=_measure,
    tables=Quality.tables,
    pictures=_pictures,
    options=(
        METHODS,
        QUICK,
        Option("real", "Real stacks or folders, measured without a truth as well.", "PATH,PATH"),
        DEVICE,
    ),
)
