"""The report on a real stack as a table."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contenders import IDENTITY
from benchmarks.quality_notes import FAILED
from benchmarks.real import RealReport, RealRow
from benchmarks.tables import TextTable

__all__ = ["real_table"]


def real_table(reports: Sequence[RealReport], left_out: Sequence[str] = ()) -> TextTable:
    """Return a row a stack and contender: SNR of each third, contrast and re-blur check of the deepest.

    Parameters
    ----------
    reports : sequence of RealReport
        One a stack.
    left_out : sequence of str
        Why other files were not measured.
    """
    header = (
        "stack",
        "method",
        "SNR shallow",
        "SNR middle",
        "SNR deep",
        "contrast deep",
        "re-blur",
        "flagged %",
        "re-blur deep",
        "flagged deep %",
        "residual",
    )
    rows = tuple(
        (report.file, *_row(row, len(header) - 1)) for report in reports for row in report.rows
    )
    foot = [line for report in reports for line in _foot(report)]
    foot += [f"Left out: {reason}." for reason in left_out]
    foot += [f"Measured on {reports[0].machine.describe()}."] if reports else []
    return TextTable(
        "Real stacks, without truth",
        header,
        rows,
        tuple(foot),
        (
            "stack",
            "SNR middle",
            "contrast deep",
            "re-blur",
            "flagged %",
            "flagged deep %",
            "residual",
        ),
    )


def _row(row: RealRow, columns: int) -> tuple[str, ...]:
    if row.reblur is None or len(row.layers) != 3:
        return (row.title, FAILED, *["-"] * (columns - 2))
    return (
        row.title,
        *(f"{layer.snr:.1f}" for layer in row.layers),
        f"{row.layers[-1].contrast:.2f}",
        row.reblur.grade,
        f"{100 * row.reblur.flagged_share:.2g}",
        row.deep_grade,
        f"{100 * row.deep_share:.2g}",
        f"{row.reblur.discrepancy:.2f}",
    )


def _foot(report: RealReport) -> tuple[str, ...]:
    shape, whole = (" × ".join(str(n) for n in s) for s in (report.shape_px, report.whole_shape_px))
    part = (
        f"the middle {shape} of {whole} voxels"
        if report.shape_px != report.whole_shape_px
        else f"{shape} voxels"
    )
    voxel = " × ".join(f"{v:.3g}" for v in report.voxel_size_um)
    shallow, deep = report.thirds_um
    return (
        f"`{report.file}`: {part} of {voxel} µm (z, y, x). PSF: {report.psf}. Camera: {report.noise}.",
        f"Thirds of the specimen by depth below its surface: to {shallow:.1f} µm, to {deep:.1f} µm, deeper.",
        "SNR: (bright - dark) over the fast variation where it is dark; residual: deviance of the re-blurred result over its expectation.",
        *_verdicts(report),
        *_warnings(report),
        *(f"{row.title}: {FAILED}, {row.failure}." for row in report.rows if row.failure),
    )


def _warnings(report: RealReport) -> list[str]:
    """What methods warn of; what several say is said once."""
    said: dict[str, list[str]] = {}
    for row in report.rows:
        for text in row.warnings:
            said.setdefault(text, []).append(row.title)
    return [f"{', '.join(titles)}: {text}." for text, titles in said.items()]


def _verdicts(report: RealReport) -> list[str]:
    """Say for each method that learns what it did to the deepest third."""
    raw = next((row for row in report.rows if row.name == IDENTITY and row.layers), None)
    said = []
    for row in report.rows:
        if raw is None or not row.layers or not row.learnt:
            continue
        before, after = raw.layers[-1].snr, row.layers[-1].snr
        change = "raises" if after > before else "does not raise"
        passed = {"pass": "passes", "warn": "is doubted by", "fail": "fails"}[row.deep_grade]
        said.append(
            f"{row.title}: {change} the SNR of the deepest third ({before:.1f} → {after:.1f}) and {passed} the re-blur check there "
            f"({100 * row.deep_share:.2g} % flagged)."
        )
    return said
