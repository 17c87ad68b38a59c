"""The commands that make data or figures: ``sample`` and ``simulate``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from zenhance.cli.errors import print_json
from zenhance.cli.options import Json, Overwrite, text_option
from zenhance.errors import MethodError

__all__ = ["nearest", "sample", "simulate"]

MAX_COUNT = 10_000
MICROSCOPE = "microscope."


def nearest(kind: str, name: str, known: Sequence[str]) -> MethodError:
    """Return the error for a name that is not known; the nearest one is offered."""
    near = difflib.get_close_matches(name, known, n=1)
    return MethodError(
        f'there is no {kind} "{name[:60]}"; '
        + (f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}")
    )


def _done(paths: Sequence[Path], json_line: bool) -> None:
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
            metavar="OUT", help="File ending in .ome.tif, .tif or .ome.zarr, or an existing folder."
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

    if name not in sample_names():
        raise nearest("sample", name, sample_names())
    target = out / f"{name}.ome.tif" if out.is_dir() and out.suffix.lower() != ".zarr" else out
    stacks = {target: open_sample(name)}
    if truth:
        stacks |= {extra_path(target, key): stack for key, stack in open_sample_truth(name).items()}
    for path in stacks:
        check_target(None, path, overwrite)
    _done(
        [write_stack(path, stack, overwrite=overwrite) for path, stack in stacks.items()], json_line
    )


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

    if specimen not in specimen_names():
        raise nearest("specimen", specimen, specimen_names())
    given = parse_settings(settings or [])
    scope = {
        key.removeprefix(MICROSCOPE): value
        for key, value in given.items()
        if key.startswith(MICROSCOPE)
    }
    files = simulate_to_folder(
        specimen, out,
        seed=parse_whole("--seed", seed), count=parse_whole("--count", count, MAX_COUNT, least=1),
        shape_px=None if shape is None else parse_tile(shape, "--shape"),
        voxel_size_um=None if voxel_size is None else VoxelSize.of(parse_voxel_size(voxel_size)).require(),
        settings={key: value for key, value in given.items() if not key.startswith(MICROSCOPE)},
        microscope=scope if preset is None else {"preset": preset, **scope},
        blurred=blurred, overwrite=overwrite,
    )  # fmt: skip
    _done(files, json_line)
