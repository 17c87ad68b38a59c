"""``zenhance assess``, and the wording of every assessment: a line, a table, a report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.options import Axes, Json, Overwrite, Series, text_option
from zenhance.cli.output import facts_table, print_json, show

if TYPE_CHECKING:
    from rich.table import Table

    from zenhance.assess.assessment import Assessment
    from zenhance.pipeline import EnhanceRequest
    from zenhance.provenance import Provenance
    from zenhance.stack import Stack

__all__ = ["assess", "assessment_table", "verdict_line", "write_report"]

COLOURS = {"green": "green", "amber": "yellow", "red": "red"}


def assess(
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="The measurement.")],
    result: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT", help="The enhanced image, from zenhance or another program."
        ),
    ],
    truth: Annotated[
        Path | None, text_option("FILE", "The sharp specimen on the result's voxels; default none.")
    ] = None,
    labels: Annotated[
        Path | None,
        text_option("FILE", "True cells from 1, 0 outside, on the result's voxels; default none."),
    ] = None,
    psf: Annotated[
        str | None,
        text_option("SPEC", "Point spread function, as for enhance; default that of the run."),
    ] = None,
    voxel_size: Annotated[
        str | None,
        text_option("Z,Y,X", "Voxel size in µm, ? keeps a length; default that of the run."),
    ] = None,
    axes: Axes = None,
    series: Series = None,
    denoised: Annotated[
        bool,
        typer.Option(
            "--denoised",
            help="RESULT keeps the blur, only noise was removed; default its method's.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        text_option("FILE", "Write a report with pictures, a file ending in .html; default none."),
    ] = None,
    overwrite: Overwrite = False,
    json_line: Json = False,
) -> None:
    """Judge a result by its measurement.

    Prints green, amber or red, and why. The exit code is 0 whatever the verdict.
    """
    from zenhance.cli.paths import check_report
    from zenhance.io import open_stack
    from zenhance.pipeline.assessing import assess_result
    from zenhance.provenance import Provenance

    given = _given(psf=psf, voxel_size=voxel_size, axes=axes, series=series)
    if report is not None:
        check_report(report, overwrite, [raw, result])
    after = open_stack(result)
    record = Provenance.find(after.metadata)
    if record is None and axes is not None:
        after = open_stack(result, axes=given["axes"])
    request = _request(record, given)
    before = open_stack(raw, axes=request.axes, series=request.series)
    sharp, cells = (None if path is None else open_stack(path) for path in (truth, labels))
    found = assess_result(
        before,
        after,
        request,
        truth=sharp,
        labels=cells,
        deblurred=False if denoised else None,
        axes_named=True,
    )
    if report is not None:
        seen = request.apply_to(before, axes_named=True)
        same = sharp if sharp is not None and sharp.volume_shape == after.volume_shape else None
        write_report(report, found, seen, after, truth=same, overwrite=overwrite)
    _print(found, report, json_line)


def _given(
    *, psf: str | None, voxel_size: str | None, axes: str | None, series: str | None
) -> dict[str, Any]:
    """Return the request's fields that the options name."""
    from zenhance.cli.parsing import parse_axes, parse_voxel_size, parse_whole

    given: dict[str, Any] = {} if psf is None else {"psf": psf}
    given |= {} if voxel_size is None else {"voxel_size_um": parse_voxel_size(voxel_size)}
    given |= {} if axes is None else {"axes": parse_axes(axes)}
    return given | ({} if series is None else {"series": parse_whole("--series", series)})


def _print(found: Assessment, report: Path | None, json_line: bool) -> None:
    if json_line:
        written = None if report is None else str(report)
        print_json({**json.loads(found.to_json()), "report": written})
        return
    print(verdict_line(found))
    show(assessment_table(found))
    if report is not None:
        print(report)


def _request(record: Provenance | None, given: dict[str, Any]) -> EnhanceRequest:
    """Return the request that made the result, if it is known, changed by the options."""
    from zenhance.pipeline import EnhanceRequest

    return EnhanceRequest(**{**({} if record is None else record.request), **given})


def write_report(
    path: Path,
    assessment: Assessment,
    raw: Stack,
    result: Stack,
    *,
    truth: Stack | None = None,
    provenance: Provenance | None = None,
    overwrite: bool = False,
) -> None:
    """Write the report as one HTML file, completely or not at all."""
    from zenhance.assess.report import render_report
    from zenhance.io.commit import write_bytes

    text = render_report(assessment, raw, result, truth=truth, provenance=provenance)
    write_bytes(path, text.encode("utf-8"), overwrite=overwrite)


def verdict_line(assessment: Assessment) -> str:
    """Return the verdict in one line."""
    return f"{assessment.verdict}: {assessment.headline}"


def assessment_table(assessment: Assessment) -> Table:
    """Return the verdict, its reasons and the figures as a table for people."""
    from rich.markup import escape

    colour = COLOURS[assessment.verdict]
    verdict = f"[{colour}]{assessment.verdict}[/]: {escape(assessment.headline)}"
    reasons = (("", text) for text in assessment.sentences)
    rows = [(name, escape(value)) for name, value in (*reasons, *_figures(assessment))]
    return facts_table([("verdict", verdict), *rows])


def _figures(assessment: Assessment) -> Iterator[tuple[str, str]]:
    if (found := assessment.reblur) is not None:
        share = 100 * found.flagged_share
        yield "flagged voxels", f"{share:.4f} % (0 passes, above 0.1 % fails)"
        yield "deviance ratio", f"{found.discrepancy:.3f} (0.95 to 1.05)"
    for name, likeness in assessment.truth.items():
        best = likeness.figures
        yield (
            f"truth, {name}",
            f"PSNR {best.psnr_fit_db:.2f} dB, SSIM {best.ssim_fit:.3f}, "
            f"RMSE {best.rmse_fit:.4g} (best affine fit)",
        )
    for name, cells in assessment.cells.items():
        yield f"cells, {name}", f"{cells.found} of {cells.total}"
    for number, layer in enumerate(assessment.depth.get("measurement", ())):
        new = assessment.depth["result"][number]
        yield (
            layer.name,
            f"contrast {layer.contrast:.2f} to {new.contrast:.2f}, "
            f"signal to noise {layer.snr:.1f} to {new.snr:.1f}",
        )
    yield "PSF", assessment.psf
    yield "noise", assessment.noise
