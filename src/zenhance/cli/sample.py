"""``zenhance sample``: a bundled sample as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from zenhance.cli.options import Json, Overwrite
from zenhance.cli.output import print_json
from zenhance.errors import MethodError
from zenhance.wording import hint_for, quoted

__all__ = ["check_name", "print_files", "sample"]


def check_name(kind: str, name: str, known: Sequence[str]) -> None:
    """Refuse an unknown name and offer the nearest one.

    Raises
    ------
    MethodError
        The name is not among the known ones.
    """
    if name not in known:
        raise MethodError(f"there is no {kind} {quoted(name)}; {hint_for(name, known)}")


def print_files(paths: Sequence[Path], json_line: bool) -> None:
    """Print the files that a command wrote, one a line or as one line of JSON."""
    if json_line:
        print_json({"files": [str(path) for path in paths]})
    else:
        for path in paths:
            print(path)


def sample(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A bundled sample; a wrong name lists them.")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="File ending in .ome.tif, .tif, .ome.zarr or .h5, or an existing folder.",
        ),
    ],
    truth: Annotated[
        bool,
        typer.Option(
            "--truth", help="Also write the truth and the cell labels beside it; default off."
        ),
    ] = False,
    overwrite: Overwrite = False,
    json_line: Json = False,
) -> None:
    """Write a bundled sample to a file."""
    from zenhance.cli.paths import check_target, extra_path
    from zenhance.io import open_sample, open_sample_truth, sample_names, write_stack

    check_name("sample", name, sample_names())
    target = out / f"{name}.ome.tif" if out.is_dir() and out.suffix.lower() != ".zarr" else out
    stacks = {target: open_sample(name)}
    if truth:
        stacks |= {extra_path(target, key): stack for key, stack in open_sample_truth(name).items()}
    for path in stacks:
        check_target(None, path, overwrite)
    written = [write_stack(path, stack, overwrite=overwrite) for path, stack in stacks.items()]
    print_files(written, json_line)
