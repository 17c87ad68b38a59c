"""What ``zenhance benchmark sample`` and ``speed`` do and print."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.console import console, progress, show, write_json
from benchmarks.docs import DOCS_PAGE, write_between_markers
from benchmarks.tables import sample_table, speed_table

if TYPE_CHECKING:
    from benchmarks.sample import SampleReport

__all__ = ["run_sample_benchmark", "run_speed_benchmark"]

PICTURE_NAME = "before_after.png"


def run_sample_benchmark(
    out: str | Path | None = None,
    *,
    name: str = "meristem_deep",
    everything: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
    overwrite: bool = True,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Judge the methods on a bundled sample; print the table and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the enhanced stack (OME-TIFF), the before/after picture and the figures (JSON); left out, nothing is written.
    name : str
        Of the sample.
    everything : bool
        All rows instead of the short table.
    write_docs : bool
        Put the table into ``docs/benchmark.md`` and the picture beside it.
    json_line : bool
        Print one line of JSON on stdout instead of the table.
    overwrite : bool
        Whether files of an earlier run may be replaced.
    device : str
        Where to compute.
    """
    from benchmarks.sample import measure_sample

    with progress(silent=json_line) as tell:
        report = measure_sample(name, everything=everything, device=device, on_progress=tell)
    table = sample_table(report)
    files = _write_results(report, Path(out), overwrite) if out is not None else ()
    if write_docs:
        write_between_markers(DOCS_PAGE, "sample", table.markdown())
        files = (
            *files,
            DOCS_PAGE,
            _save_picture(report, DOCS_PAGE.parent / "images" / PICTURE_NAME),
        )
    show(table, report.record(), files, json_line)
    if not json_line:
        _say_how_to_open(files)
    return files


def run_speed_benchmark(
    *,
    iterations: int = 10,
    repeats: int = 5,
    write_docs: bool = False,
    json_line: bool = False,
    out: str | Path | None = None,
) -> tuple[Path, ...]:
    """Time Richardson-Lucy here and elsewhere; print the table and return the files written.

    Parameters
    ----------
    iterations, repeats : int
        Of Richardson-Lucy, and of the measurement.
    write_docs : bool
        Put the table into ``docs/benchmark.md``.
    json_line : bool
        Print one line of JSON on stdout instead of the table.
    out : str or Path, optional
        File for the figures (JSON).
    """
    from benchmarks.speed import measure_speed

    with progress(silent=json_line) as tell:
        report = measure_speed(iterations=iterations, repeats=repeats, on_progress=tell)
    table = speed_table(report)
    files: tuple[Path, ...] = ()
    if out is not None:
        files = (write_json(Path(out), report.record()),)
    if write_docs:
        files = (*files, write_between_markers(DOCS_PAGE, "speed", table.markdown()))
    show(table, report.record(), files, json_line)
    return files


def _write_results(report: SampleReport, folder: Path, overwrite: bool) -> tuple[Path, ...]:
    from zenhance.io import write_stack

    folder.mkdir(parents=True, exist_ok=True)
    stack = write_stack(
        folder / f"{report.sample}_enhanced.ome.tif",
        report.best.stack,
        overwrite=overwrite,
        provenance=report.best.provenance,
    )
    picture = _save_picture(report, folder / PICTURE_NAME)
    return (stack, picture, write_json(folder / "benchmark.json", report.record()))


def _save_picture(report: SampleReport, path: Path) -> Path:
    from benchmarks.picture import before_after, standard_cuts

    measured = report.measured
    voxel = measured.voxel_size.require()
    columns = {
        "measured": measured.read(),
        report.rows[-1].title: report.best.stack.read(),
        "truth": report.truth.read(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    before_after(columns, voxel, standard_cuts(measured.volume_shape, voxel[0])).save(
        path, optimize=True
    )
    return path


def _say_how_to_open(files: tuple[Path, ...]) -> None:
    images = [str(f) for f in files if f.name.endswith(".ome.tif")]
    under_display = (
        os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
        or sys.platform in ("win32", "darwin")
    )
    if images and under_display:
        console().print(
            f"open it in napari: napari {' '.join(images)}", highlight=False, markup=False
        )
