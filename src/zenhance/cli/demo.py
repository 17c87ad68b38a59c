"""``zenhance demo``: enhance the bundled sample and compare it with its truth."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.errors import Session
from zenhance.cli.options import Device, Json, text_option
from zenhance.cli.output import plain_table, print_json, show
from zenhance.cli.paths import make_folder
from zenhance.cli.progress import Reporter, open_reporter
from zenhance.errors import RunCancelled
from zenhance.steps import drain

if TYPE_CHECKING:
    from zenhance.pipeline import EnhanceResult
    from zenhance.pipeline.sample_quality import QualityRow, SampleScene

__all__ = ["demo"]

SAMPLE = "meristem_deep"
METHODS = ("identity", "gaussian_deconvolution", "dqlr")
"""The rows of the table; the last one is written and drawn."""
HEADINGS = ("method", "PSNR dB", "SSIM", "cells found", "seconds")
PICTURE_NAME = "before_after.png"


def demo(
    context: typer.Context,
    out: Annotated[
        Path,
        text_option("DIR", "Folder of the files, which are replaced there; default demo."),
    ] = Path("demo"),
    device: Device = None,
    json_line: Json = False,
) -> None:
    """Enhance the bundled sample and compare it with its truth.

    Writes the enhanced stack, a picture before and after, and the figures as JSON.
    """
    from zenhance.device.choice import choose_device
    from zenhance.pipeline.sample_quality import SampleScene

    session = replace(context.obj, json_wanted=json_line)
    chosen = choose_device(device or "auto")
    make_folder(out)
    scene = SampleScene.load(SAMPLE)
    with open_reporter(session.json_wanted) as reporter:
        reporter.line(f"{SAMPLE}: {scene.measured.describe()}")
        reporter.line(f"  on {chosen.reason}")
        rows, best = _measure(scene, chosen.name, session, reporter)
    record = {
        "sample": SAMPLE,
        "psf": scene.psf,
        "device": best.provenance.device,
        "rows": [asdict(row) for row in rows],
    }
    files = _write(out, scene, rows[-1], best, record)
    if json_line:
        print_json({**record, "files": [str(file) for file in files]})
    else:
        _print(scene, rows, best, files)


def _measure(
    scene: SampleScene, device: str, session: Session, reporter: Reporter
) -> tuple[list[QualityRow], EnhanceResult]:
    """Enhance the sample with each method; return all rows, and the result of the last one."""
    from zenhance.contract import registry
    from zenhance.pipeline import EnhanceRequest, Progress

    rows: list[QualityRow] = []
    best: EnhanceResult | None = None
    with session.stop.watched() as cancel:
        for number, name in enumerate(METHODS):
            spec = registry.load(name).spec
            request = EnhanceRequest(method=name, device=device)
            if request.needs_psf() or request.arbitrates:
                request = request.model_copy(update={"psf": scene.psf})

            def tell(step: Progress, number: int = number, name: str = name) -> None:
                if cancel.is_set():
                    raise RunCancelled("the demo was cancelled; nothing was written")
                fraction = (number + step.fraction) / len(METHODS)
                reporter.update(Progress(name, fraction, None, step.stage))

            title = "measured" if name == "identity" else spec.title
            row, best = drain(scene.enhance_steps(name, title, request), tell)
            rows.append(row)
    if best is None:
        raise ValueError("METHODS is empty; name a method")
    return rows, best


def _write(
    folder: Path,
    scene: SampleScene,
    row: QualityRow,
    best: EnhanceResult,
    record: dict[str, Any],
) -> list[Path]:
    """Write the stack, the picture and the figures; files of an earlier demo are replaced."""
    from zenhance.assess.before_after import before_after, standard_cuts
    from zenhance.io import write_stack
    from zenhance.io.commit import write_bytes

    columns = {
        "measured": scene.measured.read(),
        row.title: best.stack.read(),
        "truth": scene.clean,
    }
    cuts = standard_cuts(scene.measured.volume_shape, scene.voxel_um[0])
    png = io.BytesIO()
    before_after(columns, scene.voxel_um, cuts).save(png, "png", optimize=True)
    figures = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    stack = write_stack(
        folder / f"{SAMPLE}_enhanced.ome.tif",
        best.stack,
        overwrite=True,
        provenance=best.provenance,
    )
    return [
        stack,
        write_bytes(folder / PICTURE_NAME, png.getvalue(), overwrite=True),
        write_bytes(folder / "demo.json", figures.encode(), overwrite=True),
    ]


def _print(
    scene: SampleScene, rows: Sequence[QualityRow], best: EnhanceResult, files: Sequence[Path]
) -> None:
    cells = rows[0].cells
    show(plain_table(HEADINGS, (_cells_of(row) for row in rows)))
    print(
        f"PSNR and SSIM against the truth of the whole volume; cells: watershed, overlap with the "
        f"true cell above {cells.min_iou:g}."
    )
    print(f"PSF of the methods that take one: {scene.psf}. Times on {best.provenance.device}.")
    for file in files:
        print(f"wrote {file}")
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_display or sys.platform in ("win32", "darwin"):
        print(f"open it in napari: napari {files[0]}")


def _cells_of(row: QualityRow) -> tuple[str, ...]:
    quality, cells = row.quality, row.cells
    found = f"{cells.found} of {cells.total}"
    return (row.title, f"{quality.psnr_db:.2f}", f"{quality.ssim:.3f}", found, f"{row.seconds:.1f}")
