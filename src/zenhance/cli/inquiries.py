"""The commands that only look: ``methods``, ``info``, ``verify`` and ``doctor``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zenhance.cli.errors import print_json
from zenhance.cli.options import Json, Series

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["doctor", "info", "methods", "verify"]

LOG_WIDTH = 160


def show(table: Table) -> None:
    """Print a table as wide as the terminal, or wide enough to be searched when it goes into a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else LOG_WIDTH).print(table)


def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A method, to see its settings; default all methods."),
    ] = None,
    json_line: Json = False,
) -> None:
    """List the methods, or the settings of one."""
    from zenhance.cli.listing import method_record, methods_table, settings_table
    from zenhance.contract import registry

    specs = [registry.load(one).spec for one in ([name] if name is not None else registry.names())]
    if json_line:
        records = [method_record(spec) for spec in specs]
        print_json(records if name is None else records[0])
        return
    if name is None:
        show(methods_table(specs))
        print("Settings of one: zenhance methods NAME")
        return
    spec = specs[0]
    print(f"{spec.name}: {spec.title}\n{spec.summary}")
    show(settings_table(spec))
    if spec.source:
        print(f"Source: {spec.source}")


def info(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Image file or OME-Zarr folder; only its headers are read."
        ),
    ],
    series: Series = "0",
    json_line: Json = False,
) -> None:
    """Show what a file says about itself.

    Shape, axes, voxel size, optics, the PSF that would be used, and how zenhance made the file if it did.
    """
    from zenhance.cli.info import info_record, info_table
    from zenhance.cli.parsing import parse_whole

    record = info_record(file, parse_whole("--series", series))
    if json_line:
        print_json(record)
    else:
        show(info_table(record))


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that zenhance wrote.")],
    json_line: Json = False,
) -> None:
    """Check that a file is as zenhance wrote it."""
    from zenhance.io import verify_image

    planes = verify_image(file)
    if json_line:
        print_json({"path": str(file), "planes": planes, "sound": True})
    else:
        print(f"{file}: all {planes} planes are as they were written")


def doctor(json_line: Json = False) -> None:
    """Say what is installed, found and missing."""
    from zenhance.cli.doctor import is_healthy, report, run_checks

    checks = run_checks()
    if json_line:
        print_json(report(checks))
    else:
        for check in checks:
            print(f"{check.state:>4}  {check.name}: {check.detail}")
    raise typer.Exit(0 if is_healthy(checks) else 1)
