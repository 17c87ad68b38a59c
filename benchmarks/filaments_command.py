"""What ``zenhance benchmark filaments`` does and prints."""

from __future__ import annotations

from pathlib import Path

from benchmarks.console import progress, show, write_json
from benchmarks.docs import DOCS_PAGE, write_between_markers

__all__ = ["run_filaments_benchmark"]

PICTURE_NAME = "filaments_loss.png"
KEPT = "filaments"


def run_filaments_benchmark(
    out: str | Path | None = None,
    *,
    images: int | None = None,
    repeats: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Train on filaments without a truth, judge with it; print the table and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON), the plot of the losses and the trained networks; what an earlier run with the same options has
        trained there is taken up.
    images, repeats, steps : int, optional
        Images to learn from, trainings of each row, and steps of each; left out, what two cores do in about half an hour.
    minutes : float, optional
        At most so long for each training.
    write_docs : bool
        Put the table into ``docs/benchmark.md`` and the plot beside it.
    json_line : bool
        Print one line of JSON on stdout instead of the table.
    device : str
        Where to compute.
    """
    from benchmarks.filaments import measure_filaments
    from benchmarks.filaments_rows import FilamentOptions
    from benchmarks.filaments_table import filaments_table, loss_panels
    from benchmarks.plots import draw_panels

    usual = FilamentOptions()
    options = FilamentOptions(
        images or usual.images, repeats or usual.repeats, steps or usual.steps, minutes
    )
    folder = None if out is None else Path(out)
    with progress(silent=json_line) as tell:
        report = measure_filaments(
            options,
            folder=None if folder is None else folder / KEPT,
            device=device,
            on_progress=tell,
        )
    table, panels = filaments_table(report), loss_panels(report)
    files: tuple[Path, ...] = ()
    places = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        files = (write_json(folder / f"{KEPT}.json", report.record()),)
        places.append(folder / PICTURE_NAME)
    if write_docs:
        files = (*files, write_between_markers(DOCS_PAGE, KEPT, table.markdown()))
        places.append(DOCS_PAGE.parent / "images" / PICTURE_NAME)
    if panels:
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            draw_panels(panels, 2).save(place, optimize=True)
            files = (*files, place)
    show(table, report.record(), files, json_line)
    return files
