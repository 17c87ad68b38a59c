"""``zenhance probe``: what a method makes of weak structures, and of none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zenhance.cli.enhance import RequestOptions, build_request
from zenhance.cli.options import Axes, Device, Json, Overwrite, Series, text_option
from zenhance.cli.output import facts_table, print_json, show
from zenhance.cli.progress import open_reporter

if TYPE_CHECKING:
    from zenhance.pipeline.probing import ProbeReport

__all__ = ["probe"]


def probe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The measurement.")],
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
        str | None, text_option("N", "The channel to probe, counted from 0; default the first.")
    ] = None,
    crop: Annotated[
        str | None,
        text_option(
            "z0:z1,y0:y1,x0:x1", "Region in pixels, stop not included; default the brightest part."
        ),
    ] = None,
    series: Series = None,
    psf: Annotated[
        str | None,
        text_option("SPEC", "Point spread function, as for enhance; default as for enhance."),
    ] = None,
    profile: Annotated[
        str | None,
        text_option("measure|FILE|none", "Microscope by depth, as for enhance; default likewise."),
    ] = None,
    weights: Annotated[
        str | None, text_option("NAME|PATH", "Learnt weights; default the method's own.")
    ] = None,
    device: Device = None,
    seed: Annotated[
        str | None, text_option("N", "Seed of the places and photons, 0 or more; default 0.")
    ] = None,
    out: Annotated[
        Path | None, text_option("DIR", "Folder for probe.json and probe.png; default none.")
    ] = None,
    overwrite: Overwrite = False,
    json_line: Json = False,
) -> None:
    """Plant weak structures into a measurement, enhance it again, and count what comes back.

    Also shows what the method draws where there is nothing, and into planes in random order.
    """
    from zenhance.cli.paths import make_folder
    from zenhance.io import open_stack
    from zenhance.pipeline.probing import probe as probe_stack

    wanted = build_request(
        RequestOptions(
            method=method,
            set=set_,
            voxel_size=voxel_size,
            axes=axes,
            channel=channel,
            crop=crop,
            series=series,
            psf=psf,
            profile=profile,
            weights=weights,
            device=device,
            seed=seed,
        )
    )
    if out is not None:
        make_folder(out)
    stack = open_stack(file, axes=wanted.axes, series=wanted.series)
    with open_reporter(json_line) as reporter:
        found = probe_stack(
            stack,
            wanted.model_copy(update={"axes": None}),
            on_progress=reporter.update,
        )
    if out is not None:
        _write(found, out, overwrite)
    if json_line:
        print_json({**found.record(), "folder": None if out is None else str(out)})
        return
    print(found.sentences[0])
    head, rows = found.table()
    facts = [(name, "; ".join(f"{c} {h}" for c, h in zip(cells, head[1:], strict=True)))
             for name, *cells in rows]  # fmt: skip
    show(facts_table([*facts, ("not there", found.sentences[1]), ("along z", found.sentences[2])]))


def _write(found: ProbeReport, folder: Path, overwrite: bool) -> None:
    """Write the figures and the picture."""
    import json

    from zenhance.io.commit import write_bytes

    drawn = io.BytesIO()
    found.picture().save(drawn, "PNG", optimize=True)
    text = json.dumps(found.record(), indent=1, ensure_ascii=False)
    write_bytes(folder / "probe.json", text.encode("utf-8"), overwrite=overwrite)
    write_bytes(folder / "probe.png", drawn.getvalue(), overwrite=overwrite)
