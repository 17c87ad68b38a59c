"""The commands and their options; each option says its unit and default once, here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from zenhance._version import __version__
from zenhance.cli import inquiries, judging, learning, making
from zenhance.cli.errors import Gate
from zenhance.cli.options import Assess, Axes, Device, Json, Overwrite, Series, text_option

__all__ = ["app", "command"]

app = typer.Typer(
    name="zenhance",
    cls=Gate,
    help="Enhance confocal z-stacks and say how far to believe the result.",
    epilog="Start with: zenhance sample NAME stack.ome.tif, then: zenhance enhance stack.ome.tif better.ome.tif",
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@cache
def command() -> Any:
    """Return the parser built from the commands below."""
    return typer.main.get_command(app)


@app.callback()
def root(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Print the traceback of an error too; default off. May stand anywhere."
        ),
    ] = False,
) -> None:
    """Enhance confocal z-stacks and say how far to believe the result."""
    del debug  # the gate has looked for it already: it must hold for errors of the parser too
    if show_version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


@app.command()
def enhance(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Image file, OME-Zarr folder, folder of images, or glob pattern; several may be given.",
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT",
            help="File ending in .ome.tif, .tif or .ome.zarr; a folder for several inputs.",
        ),
    ],
    method: Annotated[
        str | None,
        text_option("NAME", "Method, see `zenhance methods`; default gaussian_deconvolution."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the method, see `zenhance methods NAME`; default the method's own.",
        ),
    ] = None,
    voxel_size: Annotated[
        str | None, text_option("Z,Y,X", "Voxel size in µm, ? keeps a length; default the file's.")
    ] = None,
    axes: Axes = None,
    channel: Annotated[
        str | None, text_option("N", "The one channel to enhance, counted from 0; default all.")
    ] = None,
    crop: Annotated[
        str | None,
        text_option(
            "z0:z1,y0:y1,x0:x1", "Region in pixels, stop not included; default the whole stack."
        ),
    ] = None,
    series: Series = "0",
    psf: Annotated[
        str | None,
        text_option(
            "SPEC",
            "Point spread function in µm and nm, such as sigma_um=0.6,0.2,0.2; default from the file, else confocal.",
        ),
    ] = None,
    background: Annotated[
        str | None,
        text_option("VALUE", "Intensity without specimen, in the file's units; default estimated."),
    ] = None,
    statistics: Annotated[
        str | None,
        text_option(
            "per_volume|shared",
            "Intensity statistics of each time point, or of all together; default per_volume.",
        ),
    ] = None,
    device: Device = None,
    tile: Annotated[
        str | None,
        text_option("Z,Y,X", "Largest tile in pixels; default planned from free memory."),
    ] = None,
    weights: Annotated[
        str | None,
        text_option(
            "NAME|PATH",
            "Learnt weights, or none with --learn; default those that come with the method.",
        ),
    ] = None,
    learn: Annotated[
        str | None,
        text_option(
            "TIME",
            "Learn from the image itself first, such as 10min, 600s or 1h; default it does not learn.",
        ),
    ] = None,
    seed: Annotated[
        str | None, text_option("N", "Seed of random draws, 0 or more; default 0.")
    ] = None,
    dtype: Annotated[
        str | None, text_option("float32|input", "Pixel type of the result; default float32.")
    ] = None,
    request: Annotated[
        Path | None,
        text_option(
            "FILE",
            "Settings to start from, or an earlier result to repeat; options given beside it win; default none.",
        ),
    ] = None,
    save_request: Annotated[
        Path | None,
        text_option("FILE", "Write the settings of this run as YAML; default not written."),
    ] = None,
    assess: Assess = False,
    report: Annotated[
        Path | None,
        text_option(
            "FILE", "Judge, and write an .html; a folder for several inputs; default none."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json_line: Json = False,
) -> None:
    """Enhance an image, a folder of images or a glob."""
    from zenhance.cli.parsing import parse_whole
    from zenhance.cli.paths import check_early, make_folder, plan_jobs, plan_reports
    from zenhance.cli.requesting import RequestOptions, build_request
    from zenhance.cli.running import RunOptions, run_jobs
    from zenhance.pipeline.request_file import write_request

    session = replace(context.obj, json_wanted=json_line)
    typed = RequestOptions(
        method, set_, voxel_size, axes, channel, crop, psf, background, device, weights, learn, seed, dtype, statistics, tile
    )  # fmt: skip
    options = RunOptions(
        overwrite,
        parse_whole("--series", series),
        assess or report is not None,
        len(voxel_size.split(",")) if voxel_size else 0,
    )
    typed.given()
    check_early(inputs, output, overwrite)
    wanted = build_request(typed, request)
    plan = plan_reports(plan_jobs(inputs, output, wanted.method), report, overwrite)
    if plan.folder is not None:
        make_folder(plan.folder)
    if save_request is not None:
        write_request(save_request, wanted, overwrite)
    raise typer.Exit(run_jobs(plan.jobs, plan.batch, wanted, options, session))


for _command in (
    inquiries.methods,
    inquiries.info,
    judging.assess,
    learning.train,
    learning.weights,
    making.sample,
    making.simulate,
    inquiries.verify,
    inquiries.doctor,
):
    app.command()(_command)
