"""The commands that make data or figures: ``sample``, ``simulate`` and ``benchmark``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from zenhance.cli.gate import print_json
from zenhance.cli.options import Json, Overwrite, text_option
from zenhance.errors import MethodError

__all__ = ["benchmark", "sample", "simulate"]

MAX_COUNT = 10_000
MAX_PHOTONS = 10**9
MICROSCOPE = "microscope."
BENCHMARKS = (
    "speed",
    "seconds",
    "sample",
    "quality",
    "alone",
    "prediction",
    "domains",
    "folders",
    "levels",
    "resolution",
    "beads",
    "universal",
    "sweep",
    "photographs",
    "modules",
    "filaments",
    "calibration",
    "real",
    "pictures",
    "models",
)


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


def benchmark(
    which: Annotated[
        str,
        typer.Argument(
            metavar="|".join(BENCHMARKS),
            help="What to measure; see docs/benchmark.md. models: what the models that ship say.",
        ),
    ],
    out: Annotated[
        Path | None,
        text_option(
            "DIR",
            "Folder for figures, picture and enhanced stack, replaced there; default not written.",
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="All rows of the sample's table instead of the short one; default off."
        ),
    ] = False,
    methods: Annotated[
        str,
        text_option(
            "NAME,NAME",
            "Methods of pictures; or only these rows of quality, alone or real, beside the measurement; default all.",
        ),
    ] = "",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Quality, domains, levels and pictures on fewer or smaller stacks; default off.",
        ),
    ] = False,
    real: Annotated[
        Path | None,
        text_option(
            "PATH,PATH",
            "Real files or folders of them; for resolution and beads BEADS or BEADS,LINES; default none.",
        ),
    ] = None,
    folders: Annotated[
        str,
        text_option(
            "DIR,DIR,DIR",
            "Two folders of pictures to learn from, and a third to test on; for folders; default none.",
        ),
    ] = "",
    features: Annotated[
        Path | None,
        text_option(
            "FILE",
            "Weights of VGG16 (safetensors, torchvision's names) for a row of modules; default none.",
        ),
    ] = None,
    psf: Annotated[
        str,
        text_option(
            "SPEC",
            "Of photographs in µm pixels, default srpsf:fwhm_um=3; of pictures, also SPEC@FILES;…, default each file's.",
        ),
    ] = "",
    photons: Annotated[
        str, text_option("N", "Photons in a white pixel of photographs; default 1000.")
    ] = "1000",
    device: Annotated[
        str, text_option("auto|cpu|cuda|mps", "Where to compute, except for speed; default cpu.")
    ] = "cpu",
    iterations: Annotated[
        str, text_option("N", "Iterations of the speed test; default 10.")
    ] = "10",
    repeats: Annotated[
        str,
        text_option(
            "N",
            "Repeats of the speed test, default 5, or trainings of each row of filaments, default 3.",
        ),
    ] = "",
    images: Annotated[
        str, text_option("N", "Images of each set that filaments learns from; default 128.")
    ] = "",
    steps: Annotated[
        str,
        text_option(
            "N", "Steps of each training of filaments, default 400, or of sweep, default 200."
        ),
    ] = "",
    minutes: Annotated[
        str,
        text_option(
            "N",
            "How long each learns; default 10 for alone, 5 for folders, 3 for modules, none for real, --steps for filaments.",
        ),
    ] = "",
    write_docs: Annotated[
        bool,
        typer.Option(
            "--write-docs", help="Put the tables into the docs folder of a checkout; default off."
        ),
    ] = False,
    json_line: Json = False,
) -> None:
    """Measure speed, or quality: on the sample, on unseen stacks, after learning from one, across domains, on pictures or real stacks."""
    from zenhance.benchmark import (
        calibration,
        command,
        filaments_command,
        judging,
        modules_command,
        pictures_command,
        resolving_command,
        seconds,
    )
    from zenhance.cli.parsing import parse_minutes, parse_whole
    from zenhance.tiling.device import choose_device

    if which not in BENCHMARKS:
        raise nearest("benchmark", which, BENCHMARKS)
    many = parse_whole("--iterations", iterations, MAX_COUNT, least=1)
    times, pictures, rounds = (
        parse_whole(name, text, MAX_COUNT, least=1) if text else None
        for name, text in (("--repeats", repeats), ("--images", images), ("--steps", steps))
    )
    if which in ("real", "pictures", "beads") and real is None:
        hint = "BEADS, or BEADS,LINES" if which == "beads" else "FILE, or a folder of them"
        raise MethodError(f"the benchmark {which} needs a stack; give one with --real {hint}")
    if which == "photographs" and not folders:
        raise MethodError(
            "the benchmark photographs needs pictures; give a folder of them with --folders DIR"
        )
    if which == "models":
        judging.run_models_table(write_docs=write_docs, json_line=json_line)
        return
    if which == "speed":
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        command.run_speed_benchmark(
            iterations=many,
            repeats=times or 5,
            write_docs=write_docs,
            json_line=json_line,
            out=None if out is None else out / "speed.json",
        )
        return
    name = choose_device(device).name
    wanted = [word for word in methods.split(",") if word]
    budget = parse_minutes("--minutes", minutes) if minutes else None
    if which == "seconds":
        seconds.run_seconds_benchmark(
            out,
            methods=wanted,
            quick=quick,
            write_docs=write_docs,
            json_line=json_line,
            device=name,
        )
    elif which == "sample":
        command.run_sample_benchmark(
            out, everything=everything, write_docs=write_docs, json_line=json_line, device=name
        )
    elif which == "quality":
        judging.run_quality_benchmark(
            out,
            methods=wanted,
            quick=quick,
            real=real,
            write_docs=write_docs,
            json_line=json_line,
            device=name,
        )
    elif which == "alone":
        judging.run_alone_benchmark(
            out,
            minutes=budget or 10.0,
            methods=wanted,
            quick=quick,
            write_docs=write_docs,
            json_line=json_line,
            device=name,
        )
    elif which == "prediction":
        judging.run_prediction_benchmark(
            out, quick=quick, write_docs=write_docs, json_line=json_line
        )
    elif which == "domains":
        judging.run_domains_benchmark(
            out, quick=quick, write_docs=write_docs, json_line=json_line, device=name
        )
    elif which == "resolution":
        resolving_command.run_resolution_benchmark(
            out, beads=real, quick=quick, write_docs=write_docs, json_line=json_line, device=name
        )
    elif which == "universal":
        resolving_command.run_universal_benchmark(
            out, minutes=budget or 3.0, write_docs=write_docs, json_line=json_line, device=name
        )
    elif which == "sweep":
        resolving_command.run_sweep_benchmark(
            out, steps=rounds or 200, write_docs=write_docs, json_line=json_line, device=name
        )
    elif which == "photographs":
        white = float(parse_whole("--photons", photons, MAX_PHOTONS, least=1))
        resolving_command.run_photographs_benchmark(
            folders,
            out,
            psf=psf,
            photons=white,
            write_docs=write_docs,
            json_line=json_line,
            device=name,
        )
    elif which == "modules":
        modules_command.run_modules_benchmark(
            out,
            minutes=budget,
            features=features,
            quick=quick,
            write_docs=write_docs,
            json_line=json_line,
            device=name,
        )
    elif which == "folders":
        places = [word for word in folders.split(",") if word]
        judging.run_folders_benchmark(
            places, out, minutes=budget or 5.0, json_line=json_line, device=name
        )
    elif which == "levels":
        judging.run_levels_benchmark(
            out, quick=quick, write_docs=write_docs, json_line=json_line, device=name
        )
    elif which == "calibration":
        calibration.run_calibration_benchmark(
            out, quick=quick, write_docs=write_docs, json_line=json_line, device=name
        )
    elif which == "filaments":
        filaments_command.run_filaments_benchmark(
            out,
            images=pictures,
            repeats=times,
            steps=rounds,
            minutes=budget,
            write_docs=write_docs,
            json_line=json_line,
            device=name,
        )
    elif which == "beads" and real is not None:
        resolving_command.run_beads_benchmark(
            real, out, write_docs=write_docs, json_line=json_line, device=name
        )
    elif which == "pictures" and real is not None:
        pictures_command.run_pictures_benchmark(
            real,
            out,
            methods=wanted,
            psf=psf,
            quick=quick,
            write_docs=write_docs,
            json_line=json_line,
            device=name,
        )
    elif real is not None:
        judging.run_real_benchmark(
            real,
            out,
            minutes=budget,
            methods=wanted,
            write_docs=write_docs,
            json_line=json_line,
            device=name,
        )
