"""``zenhance enhance``: from options to a request, and each file to its result or its error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.batch import run_batch
from zenhance.cli.enhance_file import RunOptions, enhance_file, print_result
from zenhance.cli.options import (
    Assess,
    Axes,
    Device,
    Json,
    Overwrite,
    Series,
    VoxelSize,
    text_option,
)
from zenhance.cli.output import print_json
from zenhance.cli.parsing import (
    parse_axes,
    parse_crop,
    parse_minutes,
    parse_number,
    parse_settings,
    parse_tile,
    parse_voxel_size,
    parse_whole,
)
from zenhance.cli.paths import check_early, make_folder, plan_jobs, plan_reports
from zenhance.cli.progress import open_reporter

if TYPE_CHECKING:
    from zenhance.pipeline import EnhanceRequest
    from zenhance.scaleout.cluster import Workers

__all__ = ["RequestOptions", "build_request", "enhance"]


def enhance(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Image file, OME-Zarr folder, folder of images, or glob pattern; one or more.",
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT",
            help="File ending in .ome.tif, .tif, .ome.zarr or .h5; a folder for several inputs.",
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
    voxel_size: VoxelSize = None,
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
    series: Series = None,
    psf: Annotated[
        str | None,
        text_option(
            "SPEC",
            "Point spread function in µm and nm, such as sigma_um=0.6,0.2,0.2; "
            "default from the file, else confocal.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        text_option(
            "measure|FILE|none",
            "Microscope by depth: measured, from a file, or none; default: measured to deblur "
            "where no PSF is known.",
        ),
    ] = None,
    even_light: Annotated[
        bool | None,
        typer.Option(
            "--even-light",
            help="Divide the result by the light at each depth; intensities are then no longer "
            "proportional to photons; default off.",
            show_default=False,
        ),
    ] = None,
    arbitrate: Annotated[
        bool | None,
        typer.Option(
            "--arbitrate/--no-arbitrate",
            help="Use a network only where it predicts held-out photons better than "
            "deconvolution; default yes, else --no-arbitrate.",
            show_default=False,
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
    repair_outliers: Annotated[
        bool | None,
        typer.Option(
            "--repair-outliers/--keep-outliers",
            help="Replace hot and dead pixels by their neighbours' median; default repair, "
            "else --keep-outliers.",
            show_default=False,
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
            "Trained weights, or none with --learn; default those that come with the method.",
        ),
    ] = None,
    learn: Annotated[
        str | None,
        text_option(
            "TIME",
            "Learn from the image itself first, such as 10min, 600s or 1h; default no learning.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        text_option(
            "sharp|denoised",
            "Sharp estimate, or blurred again without the noise; default sharp.",
            "--output",
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
            "Settings to start from, or an earlier result; other options win; default none.",
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
            "FILE", "Judge, and write an .html file; a folder for several inputs; default none."
        ),
    ] = None,
    format_: Annotated[
        str | None,
        text_option(
            "ome.tif|tif|ome.zarr|h5", "Format of results in a folder; default ome.tif.", "--format"
        ),
    ] = None,
    overwrite: Overwrite = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Forget the tiles that an interrupted run to OME-Zarr has left; default go on "
            "with them.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            help="Share the work among so many processes of this computer; default one.",
            show_default=False,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        text_option(
            "ADDRESS", "Share it among the workers of a dask scheduler, tcp://...; default none."
        ),
    ] = None,
    json_line: Json = False,
) -> None:
    """Enhance an image, a folder of images or a glob."""
    from zenhance.pipeline.request import write_request

    session = replace(context.obj, json_wanted=json_line)
    typed = RequestOptions(
        method=method,
        set=set_,
        voxel_size=voxel_size,
        axes=axes,
        series=series,
        channel=channel,
        crop=crop,
        psf=psf,
        profile=profile,
        even_light=even_light,
        arbitrate=arbitrate,
        background=background,
        repair_outliers=repair_outliers,
        device=device,
        weights=weights,
        learn=learn,
        output=kind,
        seed=seed,
        dtype=dtype,
        statistics=statistics,
        tile=tile,
    )
    lengths = len(voxel_size.split(",")) if voxel_size else 0
    options = RunOptions(overwrite, assess or report is not None, lengths, restart)
    typed.given()
    check_early(inputs, output, overwrite)
    wanted = build_request(typed, request)
    plan = plan_jobs(inputs, output, wanted.method, format_)
    plan = plan_reports(plan, report, overwrite)
    if plan.folder is not None:
        make_folder(plan.folder)
    if save_request is not None:
        write_request(save_request, wanted, overwrite)
    with _workers(workers, scheduler) as crew:
        if plan.batch:
            raise typer.Exit(run_batch(plan, wanted, options, session, crew))
        with open_reporter(session.json_wanted) as reporter:
            record = enhance_file(plan.jobs[0], wanted, options, session, reporter, crew)
    print_json(record) if session.json_wanted else print_result(record)


def _workers(count: int | None, scheduler: str | None) -> AbstractContextManager[Workers | None]:
    """Return the workers asked for, or none."""
    if count is None and scheduler is None:
        return nullcontext()
    from zenhance.scaleout.cluster import open_workers

    return open_workers(count, scheduler)


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options as typed; None where an option was left out."""

    method: str | None = None
    set: Sequence[str] | None = None
    voxel_size: str | None = None
    axes: str | None = None
    series: str | None = None
    channel: str | None = None
    crop: str | None = None
    psf: str | None = None
    profile: str | None = None
    even_light: bool | None = None
    arbitrate: bool | None = None
    background: str | None = None
    repair_outliers: bool | None = None
    device: str | None = None
    weights: str | None = None
    learn: str | None = None
    output: str | None = None
    seed: str | None = None
    dtype: str | None = None
    statistics: str | None = None
    tile: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the request's fields that were typed, in the request's own names and types."""
        typed = {
            f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None
        }
        for option, (field, parse) in _PARSED.items():
            if option in typed:
                typed[field] = parse(typed.pop(option))
        return typed


def _crop_fields(text: str) -> tuple[tuple[int | None, int | None], ...]:
    """Two ranges are y and x of an image without z."""
    spans = parse_crop(text)
    return spans if len(spans) == 3 else ((None, None), *spans)


_PARSED: Mapping[str, Any] = {
    "set": ("settings", parse_settings),
    "voxel_size": ("voxel_size_um", parse_voxel_size),
    "axes": ("axes", parse_axes),
    "series": ("series", lambda text: parse_whole("--series", text)),
    "channel": ("channel", lambda text: parse_whole("--channel", text)),
    "background": ("background", lambda text: parse_number("--background", text)),
    "learn": ("learn_minutes", lambda text: parse_minutes("--learn", text)),
    "seed": ("seed", lambda text: parse_whole("--seed", text)),
    "crop": ("crop", _crop_fields),
    "tile": ("tile_px", parse_tile),
}


def build_request(options: RequestOptions, request_file: Path | None = None) -> EnhanceRequest:
    """Build the request from the options and, if given, a settings file or an earlier result.

    Options win over the file. ``--set`` completes the settings of the file, unless ``--method``
    names another method: the settings belong to their method.

    Raises
    ------
    ReadError
        The settings file cannot be read.
    RecipeError, StackError, MethodError
        A field, a setting or the method is invalid; no pixel was read.
    """
    from zenhance.pipeline import EnhanceRequest
    from zenhance.pipeline.request import read_request

    given = options.given()
    base: dict[str, Any] = {}
    if request_file is not None:
        base = read_request(request_file).model_dump(exclude_unset=True)
        if "method" in given and given["method"] != base.get("method", given["method"]):
            base.pop("settings", None)
        given["settings"] = {**base.get("settings", {}), **given.get("settings", {})}
    request = EnhanceRequest(**{**base, **given})
    request.parameters()
    return request
