"""Benchmark reports as tables of text: the same cells on the terminal and in the documentation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.sample import SampleReport
from benchmarks.speed import SpeedReport, SpeedRow
from zenhance.assess.cells import CellReport, DepthBin

__all__ = ["TextTable", "sample_table", "speed_table"]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table ready to be shown: first column text, the others figures, and lines below it; ``detail`` names columns to spare."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    foot: tuple[str, ...]
    detail: tuple[str, ...] = ()

    def narrow(self) -> TextTable:
        """Return the table without its detail, for a terminal of 80 columns."""
        kept = [n for n, column in enumerate(self.header) if column not in self.detail]
        rows = tuple(tuple(row[n] for n in kept) for row in self.rows)
        return replace(self, header=tuple(self.header[n] for n in kept), rows=rows, detail=())

    def markdown(self) -> str:
        """Return the table and its foot as Markdown."""
        rule = "|---|" + "---:|" * (len(self.header) - 1)
        lines = [_line(self.header), rule, *(_line(row) for row in self.rows), ""]
        return "\n".join([*lines, *(f"{text}  " for text in self.foot)]).rstrip() + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


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
        f"PSNR and SSIM over the whole volume, data range {first.quality.data_range:.0f} grey values (0.1 % to 99.9 % of the truth);"
        " SSIM in 3-D, Gaussian window of σ 1.5 voxels; 'fit': after the best a · image + b.",
        f"Cells: plain watershed, overlap (IoU) above {first.cells.min_iou:g}, also by the cells' depth in the tissue.",
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


def speed_table(report: SpeedReport) -> TextTable:
    """Return the speed table: best and median time, how many times ours, largest difference."""
    header = ("program", "device", "best s", "median s", "times ours", "difference")
    rows = tuple(_speed_row(row) for row in report.rows)
    z, y, x = report.shape_px
    sigma = " × ".join(f"{s:.2f}" for s in report.sigma_px)
    border = " × ".join(str(b) for b in report.border_px)
    foot = (
        f"Richardson-Lucy, {report.iterations} plain iterations, {z} × {y} × {x} voxels, Gaussian PSF of σ {sigma} px (z, y, x).",
        f"Best and median of {report.repeats} repeats taken in turns; largest difference from ours as a share of the range,"
        f" {border} voxels away from the borders, ours begun from the same first estimate.",
        *(f"{row.program} on {row.device}: {row.note}." for row in report.rows if row.note),
        f"Measured on {report.machine.describe()}.",
    )
    return TextTable("Speed of Richardson-Lucy", header, rows, foot)


def _speed_row(row: SpeedRow) -> tuple[str, ...]:
    if row.best_s is None or row.median_s is None:
        return (row.program, row.device, "-", "-", "-", "-")
    slower = "-" if row.times_slower is None else f"{row.times_slower:.1f}"
    difference = "-" if row.difference is None else f"{row.difference:.1e}"
    return (row.program, row.device, f"{row.best_s:.3f}", f"{row.median_s:.3f}", slower, difference)
