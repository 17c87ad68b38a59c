"""``zenhance simulate``: confocal stacks with their truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zenhance.cli.options import Json, Overwrite, text_option
from zenhance.cli.sample import check_name, print_files

__all__ = ["simulate"]

MAX_COUNT = 10_000
MICROSCOPE = "microscope."


def simulate(
    specimen: Annotated[
        str, typer.Argument(metavar="SPECIMEN", help="What to simulate, such as meristem.")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="Folder for the stacks, their truth, labels and settings; made if missing.",
        ),
    ],
    seed: Annotated[
        str,
        text_option("N", "Seed of the first stack, 0 or more; the next ones count up. Default 0."),
    ] = "0",
    count: Annotated[str, text_option("K", "How many stacks; default 1.")] = "1",
    settings: Annotated[
        list[str] | None,
        text_option(
            "KEY=VALUE",
            "A setting of the specimen, or of the microscope as microscope.KEY; default none.",
            "--set",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        text_option(
            "NAME",
            "Microscope, from good to throw_away; a wrong name lists them; default built in.",
        ),
    ] = None,
    shape: Annotated[
        str | None,
        text_option("Z,Y,X", "Size in pixels; default 40,160,160, flat for filaments and charts."),
    ] = None,
    voxel_size: Annotated[
        str | None,
        text_option(
            "Z,Y,X",
            "Voxel size in µm; default 0.5,0.22,0.22, finer for filaments, charts and beads.",
        ),
    ] = None,
    blurred: Annotated[
        bool,
        typer.Option("--blurred", help="Also write the noise-free blurred stack; default off."),
    ] = False,
    overwrite: Overwrite = False,
    json_line: Json = False,
) -> None:
    """Simulate confocal stacks with their truth."""
    from zenhance.cli.parsing import parse_settings, parse_tile, parse_voxel_size, parse_whole
    from zenhance.simulate.samples import simulate_to_folder
    from zenhance.simulate.specimen import specimen_names
    from zenhance.stack import VoxelSize

    check_name("specimen", specimen, specimen_names())
    given = parse_settings(settings or [])
    scope = {
        key.removeprefix(MICROSCOPE): given.pop(key)
        for key in list(given)
        if key.startswith(MICROSCOPE)
    }
    voxel = None if voxel_size is None else VoxelSize.of(parse_voxel_size(voxel_size)).require()
    files = simulate_to_folder(
        specimen,
        out,
        seed=parse_whole("--seed", seed),
        count=parse_whole("--count", count, MAX_COUNT, minimum=1),
        shape_px=None if shape is None else parse_tile(shape, "--shape"),
        voxel_size_um=voxel,
        settings=given,
        microscope=scope if preset is None else {"preset": preset, **scope},
        blurred=blurred,
        overwrite=overwrite,
    )
    print_files(files, json_line)
