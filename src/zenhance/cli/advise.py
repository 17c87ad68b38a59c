"""``zenhance advise``: which method for a file, and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from zenhance.cli.options import Axes, Json, Series, VoxelSize
from zenhance.cli.output import facts_table, print_json, show

__all__ = ["advise"]


def advise(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The measurement.")],
    voxel_size: VoxelSize = None,
    axes: Axes = None,
    series: Series = None,
    json_line: Json = False,
) -> None:
    """Recommend a method for a file.

    Measures light, depth and kind of structure; prints the reason, and what to check first.
    """
    from zenhance.cli.parsing import parse_axes, parse_voxel_size, parse_whole
    from zenhance.io import open_stack
    from zenhance.pipeline import EnhanceRequest
    from zenhance.pipeline.advice import advise as advice_for

    given: dict[str, Any] = {}
    if voxel_size is not None:
        given["voxel_size_um"] = parse_voxel_size(voxel_size)
    if axes is not None:
        given["axes"] = parse_axes(axes)
    if series is not None:
        given["series"] = parse_whole("--series", series)
    request = EnhanceRequest(**given)
    stack = open_stack(file, axes=request.axes, series=request.series)
    found = advice_for(stack, request.model_copy(update={"axes": None}))
    if json_line:
        print_json({**asdict(found), "command": found.command(str(file))})
        return
    print(found.command(str(file)))
    rows = [("why", found.reason), *(("measured", text) for text in found.facts)]
    show(facts_table([*rows, *(("check first", text) for text in found.doubts)]))
