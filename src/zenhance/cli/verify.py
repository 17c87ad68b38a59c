"""``zenhance verify``: whether a file is still as zenhance wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zenhance.cli.options import Json
from zenhance.cli.output import print_json

__all__ = ["verify"]


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
