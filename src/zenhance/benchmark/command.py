"""What ``zenhance benchmark`` does and prints: the only place of the benchmark that writes to the terminal or to files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenhance.benchmark.docs import write_between_markers
from zenhance.benchmark.tables import TextTable, sample_table, speed_table

if TYPE_CHECKING:
    from rich.console import Console

    from zenhance.benchmark.quality import QualityReport
    from zenhance.benchmark.sample import SampleReport

__all__ = [
    "DOCS_PAGE",
    "run_domains_benchmark",
    "run_models_table",
    "run_quality_benchmark",
    "run_real_benchmark",
    "run_sample_benchmark",
    "run_speed_benchmark",
]

DOCS_PAGE = Path("docs") / "benchmark.md"
PICTURE_NAME = "before_after.png"
SHEET_NAME = "quality_sheet.png"
WIDE_COLUMNS = 140


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
    from zenhance.benchmark.sample import measure_sample

    with _progress(silent=json_line) as tell:
        report = measure_sample(name, everything=everything, device=device, on_progress=tell)
    table = sample_table(report)
    files = _write_results(report, Path(out), overwrite) if out is not None else ()
    if write_docs:
        write_between_markers(DOCS_PAGE, "sample", table.markdown())
        files = (*files, DOCS_PAGE, _save_picture(report, DOCS_PAGE.parent / "images" / PICTURE_NAME))
    _show(table, report.record(), files, json_line)
    if not json_line:
        _say_how_to_open(files)
    return files


def run_speed_benchmark(
    *, iterations: int = 10, repeats: int = 5, write_docs: bool = False, json_line: bool = False, out: str | Path | None = None
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
    from zenhance.benchmark.speed import measure_speed

    with _progress(silent=json_line) as tell:
        report = measure_speed(iterations=iterations, repeats=repeats, on_progress=tell)
    table = speed_table(report)
    files: tuple[Path, ...] = ()
    if out is not None:
        files = (_write_json(Path(out), report.record()),)
    if write_docs:
        files = (*files, write_between_markers(DOCS_PAGE, "speed", table.markdown()))
    _show(table, report.record(), files, json_line)
    return files


def _write_results(report: SampleReport, folder: Path, overwrite: bool) -> tuple[Path, ...]:
    from zenhance.io import write_stack

    folder.mkdir(parents=True, exist_ok=True)
    stack = write_stack(
        folder / f"{report.sample}_enhanced.ome.tif", report.best.stack, overwrite=overwrite, provenance=report.best.provenance
    )
    picture = _save_picture(report, folder / PICTURE_NAME)
    return (stack, picture, _write_json(folder / "benchmark.json", report.record()))


def _save_picture(report: SampleReport, path: Path) -> Path:
    from zenhance.benchmark.picture import before_after, standard_cuts

    measured = report.measured
    voxel = measured.voxel_size.require()
    columns = {"measured": measured.read(), report.rows[-1].title: report.best.stack.read(), "truth": report.truth.read()}
    path.parent.mkdir(parents=True, exist_ok=True)
    before_after(columns, voxel, standard_cuts(measured.volume_shape, voxel[0])).save(path, optimize=True)
    return path


def _write_json(path: Path, record: dict[str, Any]) -> Path:
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


@contextmanager
def _progress(*, silent: bool) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on a terminal; without one, say each title once, on stderr, so that stdout stays clean."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    if silent:
        yield lambda _title, _fraction: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = _console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("benchmark", total=1.0)
        said: set[str] = set()

        def tell(title: str, fraction: float) -> None:
            bar.update(task, description=title, completed=fraction)
            if not console.is_terminal and title not in said:
                said.add(title)
                console.print(f"{fraction:4.0%}  {title}", highlight=False)

        yield tell


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True)


def _show(table: TextTable, record: dict[str, Any], files: tuple[Path, ...], json_line: bool) -> None:
    if json_line:
        sys.stdout.write(json.dumps({**record, "files": [str(f) for f in files]}, ensure_ascii=False) + "\n")
        return
    from rich.table import Table

    console = _console()
    if console.width < WIDE_COLUMNS:
        table = table.narrow()
    shown = Table(title=table.title)
    for number, column in enumerate(table.header):
        shown.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)
    for line in table.foot:
        console.print(line, highlight=False, markup=False)
    for file in files:
        console.print(f"wrote {file}", highlight=False, markup=False)


def _say_how_to_open(files: tuple[Path, ...]) -> None:
    images = [str(f) for f in files if f.name.endswith(".ome.tif")]
    under_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform in ("win32", "darwin")
    if images and under_display:
        _console().print(f"open it in napari: napari {' '.join(images)}", highlight=False, markup=False)


def run_quality_benchmark(
    out: str | Path | None = None,
    *,
    methods: Sequence[str] = (),
    quick: bool = False,
    real: str | Path | None = None,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Judge every method on simulated stacks that no training has seen; print the tables and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON) and the picture sheet.
    methods : sequence of str
        Names of methods or rows; empty means all.
    quick : bool
        Two small stacks.
    real : str or Path, optional
        A z-stack, or a folder of them, to be measured without a truth as well, as :func:`run_real_benchmark` does.
    write_docs : bool
        Put the tables into ``docs/benchmark.md`` and the picture beside it; models of the user's own are then left out.
    json_line : bool
        Print one line of JSON on stdout instead of the tables.
    device : str
        Where to compute.

    Raises
    ------
    MethodError
        A name in ``methods`` is not known.
    """
    from zenhance.benchmark.contenders import list_contenders, select
    from zenhance.benchmark.quality import measure_quality
    from zenhance.benchmark.quality_tables import by_stack_table, quality_table
    from zenhance.benchmark.scenes import quality_plans

    contenders = list_contenders(own_models=not write_docs)
    chosen = select(contenders, methods) if methods else contenders
    with _progress(silent=json_line) as tell:
        report = measure_quality(chosen, quality_plans(quick=quick), device=device, on_progress=tell)
        measured = None if real is None else _measure_places(real, device, tell)
    tables = {"quality": quality_table(report), "microscopes": by_stack_table(report)}
    record = report.record()
    if measured is not None:
        record, tables = {**record, "real": measured[1]}, {**tables, "real": measured[0]}
    files = _filed(out, "quality.json", record)
    if out is not None and report.crops:
        files = (*files, _save_sheet(report, Path(out) / SHEET_NAME))
    if write_docs:
        files = (*files, *_documented(tables), _save_sheet(report, DOCS_PAGE.parent / "images" / SHEET_NAME))
    _show_all(tuple(tables.values()), record, files, json_line)
    return files


def run_domains_benchmark(
    out: str | Path | None = None, *, quick: bool = False, write_docs: bool = False, json_line: bool = False, device: str = "cpu"
) -> tuple[Path, ...]:
    """Test networks trained on one domain, or both, on each; print the table and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON).
    quick : bool
        Few small stacks.
    write_docs, json_line, device
        As in :func:`run_quality_benchmark`.
    """
    from zenhance.benchmark.domains import domain_contenders, domains_table, measure_domains
    from zenhance.benchmark.scenes import domain_plans

    with _progress(silent=json_line) as tell:
        report = measure_domains(domain_contenders(), domain_plans(quick=quick), device=device, on_progress=tell)
    table = domains_table(report)
    files = _filed(out, "domains.json", report.record())
    if write_docs:
        files = (*files, *_documented({"domains": table}))
    _show_all((table,), report.record(), files, json_line)
    return files


def run_real_benchmark(
    place: str | Path, out: str | Path | None = None, *, write_docs: bool = False, json_line: bool = False, device: str = "cpu"
) -> tuple[Path, ...]:
    """Measure real stacks without a truth; print a table a stack and return the files written.

    Parameters
    ----------
    place : str or Path
        A z-stack, or a folder of them; of a folder, what is no z-stack is named and left out.
    out : str or Path, optional
        Folder for the figures (JSON).
    write_docs, json_line, device
        As in :func:`run_quality_benchmark`.

    Raises
    ------
    StackError, ReadError
        No stack could be measured; the reason of the first is given.
    """
    with _progress(silent=json_line) as tell:
        table, record = _measure_places(place, device, tell)
    files = _filed(out, "real.json", record)
    if write_docs:
        files = (*files, *_documented({"real": table}))
    _show_all((table,), record, files, json_line)
    return files


def _measure_places(place: str | Path, device: str, tell: Callable[[str, float], None]) -> tuple[TextTable, dict[str, Any]]:
    from zenhance.benchmark.real import measure_real, real_stacks
    from zenhance.benchmark.real_tables import real_table
    from zenhance.errors import ReadError, StackError

    reports, refused = [], []
    for path in real_stacks(place):
        try:
            reports.append(measure_real(path, device=device, on_progress=tell))
        except (StackError, ReadError) as error:
            refused.append(error)
    if not reports and refused:
        raise refused[0]
    left_out = tuple(str(error) for error in refused)
    return real_table(reports, left_out), {"stacks": [report.record() for report in reports], "left_out": left_out}


def run_models_table(*, write_docs: bool = False, json_line: bool = False) -> tuple[Path, ...]:
    """Print what the models that ship say of themselves, and return the pages written.

    Parameters
    ----------
    write_docs : bool
        Put each method's table into its page ``docs/methods/NAME.md``.
    json_line : bool
        Print one line of JSON on stdout instead of the tables.
    """
    from zenhance.benchmark.models import learning_methods, models_table, shipped_cards

    cards = {method: shipped_cards(method) for method in learning_methods()}
    tables = {method: models_table(method, found) for method, found in cards.items()}
    files: tuple[Path, ...] = ()
    if write_docs:
        pages = {method: DOCS_PAGE.parent / "methods" / f"{method}.md" for method in tables}
        files = tuple(write_between_markers(pages[method], "models", table.markdown()) for method, table in tables.items())
    record = {"models": [card.model_dump(mode="json") for found in cards.values() for card in found]}
    _show_all(tuple(tables.values()), record, files, json_line)
    return files


def _documented(tables: Mapping[str, TextTable]) -> tuple[Path, ...]:
    for mark, table in tables.items():
        write_between_markers(DOCS_PAGE, mark, table.markdown())
    return (DOCS_PAGE,)


def _filed(out: str | Path | None, name: str, record: dict[str, Any]) -> tuple[Path, ...]:
    if out is None:
        return ()
    Path(out).mkdir(parents=True, exist_ok=True)
    return (_write_json(Path(out) / name, record),)


def _save_sheet(report: QualityReport, path: Path) -> Path:
    from zenhance.benchmark.sheet import picture_sheet

    voxel = report.plans[0].voxel_size_um
    crops = {c.title: report.crops[c.name] for c in report.contenders if c.name in report.crops}
    shallow, deep = ((plane + 0.5) * voxel[0] for plane in report.crop_planes)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture_sheet(crops, (shallow, deep), voxel[2]).save(path, optimize=True)
    return path


def _show_all(tables: tuple[TextTable, ...], record: dict[str, Any], files: tuple[Path, ...], json_line: bool) -> None:
    for number, table in enumerate(tables):
        last = number == len(tables) - 1
        if last or not json_line:
            _show(table, record, files if last else (), json_line)
