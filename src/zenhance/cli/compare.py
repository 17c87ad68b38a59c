"""``zenhance compare``: all methods on one crop of a file, on one sheet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.options import Axes, Device, Json, Overwrite, Series, VoxelSize, text_option
from zenhance.cli.output import plain_table, print_json, show
from zenhance.cli.paths import make_folder

if TYPE_CHECKING:
    from zenhance.pipeline.comparing import Comparison

__all__ = ["compare"]

HEADINGS = ("method", "verdict", "seconds", "finest detail µm", "noise %")
NAMES = ("comparison.html", "comparison.png", "comparison.json")


def compare(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The measurement.")],
    out: Annotated[Path, text_option("DIR", "Folder of the sheet; default comparison.")] = Path(
        "comparison"
    ),
    crop: Annotated[
        str | None,
        text_option(
            "Z0:Z1,Y0:Y1,X0:X1",
            "The part in pixels; default the brightest place, at most 16 × 160 × 160.",
        ),
    ] = None,
    methods: Annotated[
        str | None, text_option("NAME,NAME", "Methods to compare; default all.")
    ] = None,
    psf: Annotated[
        str | None,
        text_option("SPEC", "Point spread function, as for enhance; default that of the file."),
    ] = None,
    voxel_size: VoxelSize = None,
    axes: Axes = None,
    series: Series = None,
    device: Device = None,
    overwrite: Overwrite = False,
    json_line: Json = False,
) -> None:
    """Compare methods on one crop of a file.

    Each method runs as it would on the whole file and is judged. Writes one HTML page, one picture
    and the figures; the exit code is 0 whatever the verdicts.
    """
    from zenhance.cli.parsing import parse_axes, parse_crop, parse_voxel_size, parse_whole
    from zenhance.cli.progress import open_reporter
    from zenhance.io import open_stack
    from zenhance.io.commit import check_output
    from zenhance.pipeline import EnhanceRequest
    from zenhance.pipeline.comparing import compare_steps
    from zenhance.steps import drain

    given: dict[str, Any] = {
        "psf": psf,
        "voxel_size_um": None if voxel_size is None else parse_voxel_size(voxel_size),
        "axes": None if axes is None else parse_axes(axes),
        "series": None if series is None else parse_whole("--series", series),
        "device": device,
    }
    request = EnhanceRequest(**{name: v for name, v in given.items() if v is not None})
    part = None if crop is None else EnhanceRequest(crop=parse_crop(crop)).crop
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    make_folder(out)
    for name in NAMES:
        check_output(out / name, overwrite=overwrite, sources=[file], folder=False)
    stack = open_stack(file, axes=request.axes, series=request.series)
    session = replace(context.obj, json_wanted=json_line)
    with open_reporter(session.json_wanted) as reporter, session.stop.watched() as cancel:
        reporter.line(f"{file.name}: {stack.describe()}")
        steps = compare_steps(
            stack, request.model_copy(update={"axes": None}), part, names, cancel=cancel
        )
        found = drain(steps, reporter.update)
    files = _write(out, found, overwrite)
    if json_line:
        print_json({**found.record(), "files": [str(path) for path in files]})
    else:
        _print(found, files)


def _write(folder: Path, found: Comparison, overwrite: bool) -> list[Path]:
    from zenhance.io.commit import write_bytes
    from zenhance.pipeline.comparison_sheet import sheet_html, sheet_png

    figures = json.dumps(found.record(), indent=2, ensure_ascii=False) + "\n"
    contents = (sheet_html(found).encode(), sheet_png(found), figures.encode())
    return [
        write_bytes(folder / name, content, overwrite=overwrite)
        for name, content in zip(NAMES, contents, strict=True)
    ]


def _print(found: Comparison, files: list[Path]) -> None:
    show(
        plain_table(
            HEADINGS,
            (
                (
                    row.title,
                    row.verdict or row.sentence,
                    f"{row.seconds:.1f}",
                    "–" if row.detail_um is None else f"{row.detail_um:.2f}",
                    "–" if row.noise_percent is None else f"{row.noise_percent:.2g}",
                )
                for row in (found.measured, *found.rows)
            ),
        )
    )
    best = found.suggested
    if best is not None:
        print(
            f"suggested: {best.title}; zenhance enhance FILE better.ome.tif --method {best.method}"
        )
    for path in files:
        print(f"wrote {path}")
