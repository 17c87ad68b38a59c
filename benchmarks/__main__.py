"""``python -m benchmarks NAME``: measures one experiment of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zenhance.cli.options import Json, text_option
from zenhance.cli.sample import check_name
from zenhance.cli.simulate import MAX_COUNT
from zenhance.errors import MethodError

MAX_PHOTONS = 10**9
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
    from benchmarks import (
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
    from zenhance.device.choice import choose_device

    check_name("benchmark", which, BENCHMARKS)
    many = parse_whole("--iterations", iterations, MAX_COUNT, minimum=1)
    times, pictures, rounds = (
        parse_whole(name, text, MAX_COUNT, minimum=1) if text else None
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
        white = float(parse_whole("--photons", photons, MAX_PHOTONS, minimum=1))
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


if __name__ == "__main__":
    typer.run(benchmark)
