"""The re-blur check on real files as a table, and what has to be said below a picture of them."""

from __future__ import annotations

from benchmarks.credits import credit_of
from benchmarks.pictures import PictureFile, PictureRow, PicturesReport
from benchmarks.quality_notes import FAILED
from benchmarks.tables import TextTable
from zenhance.contract import registry

__all__ = ["pictures_table"]

HEADER = ("file", "re-blur", "flagged %", "residual", "SNR shallow", "SNR middle", "SNR deep")


def pictures_table(report: PicturesReport, method: str) -> TextTable:
    """Return a row a file for one method.

    Parameters
    ----------
    report : PicturesReport
        Of several methods.
    method : str
        Which.
    """
    spec = registry.load(method).spec
    rows = tuple((file.path.name, *_figures(file, file.rows[method])) for file in report.files)
    flat = spec.defaults.solved_dimensions == 2
    again = (
        f"{spec.title.partition(' (')[0]} works plane by plane, so it is blurred again in the plane alone."
        if flat
        else ""
    )
    foot = (
        "Re-blur, flagged: where the result, blurred again, is not what was measured. Residual: deviance of the re-blurred result over its "
        f"expectation, near 1 where it explains the measurement down to its noise, below where it kept noise. {again}".strip(),
        *(
            ["SNR: before → after, in thirds of a deep stack by depth below the surface."]
            if any(f.snr for f in report.files)
            else []
        ),
        *(_of_file(file) for file in report.files),
        *_warnings(report, method),
        *(
            f"`{file.path.name}`: {FAILED}, {file.rows[method].failure}."
            for file in report.files
            if file.rows[method].failure
        ),
        *(f"Left out: {reason}." for reason in report.left_out),
    )
    detail = ("SNR shallow", "SNR middle", "SNR deep")
    return TextTable(f"{spec.title} on real files", HEADER, rows, foot, detail)


def _figures(file: PictureFile, row: PictureRow) -> tuple[str, ...]:
    if row.report is None:
        return (FAILED, *["-"] * (len(HEADER) - 2))
    snr = (
        [f"{a:.1f} → {b:.1f}" for a, b in zip(file.snr, row.snr, strict=True)]
        if len(file.snr) == len(row.snr) == 3
        else ["-"] * 3
    )
    return (
        row.report.grade,
        f"{100 * row.report.flagged_share:.2g}",
        f"{row.report.discrepancy:.2f}",
        *snr,
    )


def _of_file(file: PictureFile) -> str:
    first = 0 if file.is_stack else 1
    shape, whole = (
        " × ".join(str(n) for n in s[first:]) for s in (file.shape_px, file.whole_shape_px)
    )
    part = f"the middle {shape} of {whole}" if shape != whole else shape
    voxel = " × ".join(f"{v:.3g}" for v in file.voxel_size_um[first:])
    thirds = (
        f" Thirds end at {file.thirds_um[0]:.1f} and {file.thirds_um[1]:.1f} µm."
        if file.snr
        else ""
    )
    data = credit_of(file.path)
    kind = "voxels" if file.is_stack else "pixels"
    return (
        f"`{file.path.name}`: {part} {kind} of {voxel} µm. PSF: {file.psf}. Camera: {file.noise}.{thirds}"
        + f" Data: {data}." * bool(data)
    )


def _warnings(report: PicturesReport, method: str) -> list[str]:
    """What the method warns of; what it says of several files is said once."""
    said: dict[str, list[str]] = {}
    for file in report.files:
        for text in file.rows[method].warnings:
            said.setdefault(text, []).append(f"`{file.path.name}`")
    return [f"{', '.join(names)}: {text}." for text, names in said.items()]
