"""Options that several commands share, each with one line of help."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["Assess", "Axes", "Device", "Json", "Overwrite", "Series", "VoxelSize", "text_option"]


def text_option(metavar: str, help_line: str, *names: str) -> Any:
    """Return an option that takes one word; its help line states unit and default."""
    return typer.Option(*names, metavar=metavar, help=help_line, show_default=False)


Json = Annotated[
    bool,
    typer.Option("--json", help="Print one line of JSON on stdout, errors included; default off."),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an existing output; default off. The input is never changed.",
    ),
]
Series = Annotated[
    str | None,
    text_option("N", "Image of a file that holds several, counted from 0; default 0."),
]
VoxelSize = Annotated[
    str | None,
    text_option("Z,Y,X", "Voxel size in µm, ? keeps a length; default the file's."),
]
Axes = Annotated[
    str | None,
    text_option("ZYX", "Dimensions in the file's order, letters of TCZYX; default the file's."),
]
Device = Annotated[
    str | None,
    text_option("auto|cpu|cuda|mps", "Where to compute; default auto: CUDA, else MPS, else CPU."),
]
Assess = Annotated[
    bool,
    typer.Option("--assess", help="Judge the result by its input; default off."),
]
