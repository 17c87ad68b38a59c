"""What ``zenhance benchmark quality``, ``alone``, ``domains``, ``folders``, ``levels``, ``real`` and ``models`` do and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.console import Tell, progress, show, write_json
from benchmarks.docs import DOCS_PAGE, write_between_markers
from benchmarks.tables import TextTable

if TYPE_CHECKING:
    from benchmarks.quality import QualityReport
    from benchmarks.real import RealReport

__all__ = [
    "run_alone_benchmark",
    "run_domains_benchmark",
    "run_folders_benchmark",
    "run_levels_benchmark",
    "run_models_table",
    "run_prediction_benchmark",
    "run_quality_benchmark",
    "run_real_benchmark",
]

SHEET_NAME = "quality_sheet.png"


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
    from benchmarks.contenders import list_contenders, select
    from benchmarks.quality import measure_quality
    from benchmarks.quality_tables import by_depth_table, by_stack_table, quality_table
    from benchmarks.scenes import quality_plans

    contenders = list_contenders(own_models=not write_docs)
    chosen = select(contenders, methods) if methods else contenders
    with progress(silent=json_line) as tell:
        report = measure_quality(
            chosen, quality_plans(quick=quick), device=device, on_progress=tell
        )
        measured = None if real is None else _measure_places(real, device, tell)
    tables = {
        "quality": quality_table(report),
        "depths": by_depth_table(report),
        "microscopes": by_stack_table(report),
    }
    record = report.record()
    if measured is not None:
        record, tables = {**record, "real": measured[1]}, {**tables, "real": measured[0]}
    files = _filed(out, "quality.json", record)
    if out is not None and report.crops:
        files = (*files, _save_sheet(report, Path(out) / SHEET_NAME))
    if write_docs:
        files = (
            *files,
            *_documented(tables),
            _save_sheet(report, DOCS_PAGE.parent / "images" / SHEET_NAME),
        )
    show(tuple(tables.values()), record, files, json_line)
    return files


def run_alone_benchmark(
    out: str | Path | None = None,
    *,
    minutes: float = 10.0,
    methods: Sequence[str] = (),
    quick: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Let methods learn from a single noisy stack; print the tables and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON).
    minutes : float
        How long each learns.
    methods : sequence of str
        Only these rows or methods, beside the measurement; the tables then go to places of their own in the docs, named after the first.
    quick, write_docs, json_line, device
        As in :func:`run_quality_benchmark`.
    """
    from benchmarks.alone import measure_alone
    from benchmarks.quality_tables import by_depth_table, quality_table

    with progress(silent=json_line) as tell:
        report = measure_alone(
            minutes, methods=methods, quick=quick, device=device, on_progress=tell
        )
    mark = f"alone {methods[0].partition('_')[0]}" if methods else "alone"
    tables = {mark: quality_table(report), f"{mark} depths": by_depth_table(report)}
    files = _filed(out, "alone.json", report.record())
    if write_docs:
        files = (*files, *_documented(tables))
    show(tuple(tables.values()), report.record(), files, json_line)
    return files


def run_prediction_benchmark(
    out: str | Path | None = None,
    *,
    quick: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
) -> tuple[Path, ...]:
    """Let recurrences foresee slices; print the table and return the files written; options as in :func:`run_quality_benchmark`."""
    from benchmarks.prediction import measure_prediction, prediction_table
    from benchmarks.scenes import quality_plans

    with progress(silent=json_line) as tell:
        report = measure_prediction(quality_plans(quick=quick), tell)
    table = prediction_table(report)
    files = _filed(out, "prediction.json", report.record())
    if write_docs:
        files = (*files, *_documented({"prediction": table}))
    show(table, report.record(), files, json_line)
    return files


def run_domains_benchmark(
    out: str | Path | None = None,
    *,
    quick: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
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
    from benchmarks.domains import domain_contenders, domains_table, measure_domains
    from benchmarks.scenes import domain_plans

    with progress(silent=json_line) as tell:
        report = measure_domains(
            domain_contenders(), domain_plans(quick=quick), device=device, on_progress=tell
        )
    table = domains_table(report)
    files = _filed(out, "domains.json", report.record())
    if write_docs:
        files = (*files, *_documented({"domains": table}))
    show(table, report.record(), files, json_line)
    return files


def run_folders_benchmark(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    minutes: float = 5.0,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Repeat the experiment of the domains on folders of pictures; print the table and return the files written.

    Parameters
    ----------
    folders : sequence of str or Path
        Two folders to learn from and test on, and if wanted a third to test on.
    out : str or Path, optional
        Folder for the figures (JSON).
    minutes : float
        How long each of the nine networks learns, at most.
    json_line, device
        As in :func:`run_quality_benchmark`.
    """
    from benchmarks.folders import folders_table, measure_folders

    with progress(silent=json_line) as tell:
        report = measure_folders(folders, minutes=minutes, device=device, on_progress=tell)
    files = _filed(out, "folders.json", report.record())
    show(folders_table(report), report.record(), files, json_line)
    return files


def run_levels_benchmark(
    out: str | Path | None = None,
    *,
    quick: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Start diffusion from many levels and from noise alone; print the tables, draw curve and way back, and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON) and the pictures.
    quick : bool
        Fewer starts, smaller stacks.
    write_docs : bool
        Put tables and pictures into the method's page.
    json_line, device
        As in :func:`run_quality_benchmark`.
    """
    from benchmarks.levels import (
        level_plans,
        measure_levels,
        noise_table,
        start_picture,
        start_table,
    )
    from benchmarks.trajectory_figure import way_back_picture

    with progress(silent=json_line) as tell:
        report = measure_levels(quick=quick, device=device, on_progress=tell)
    tables = {"start": start_table(report), "noise": noise_table(report)}
    pictures = {"diffusion_start.png": start_picture(report)}
    pictures["diffusion_way_back.png"] = way_back_picture(
        level_plans(quick=quick)[0].make(), device=device
    )
    files = _filed(out, "levels.json", report.record())
    folders = [] if out is None else [Path(out)]
    if write_docs:
        page = DOCS_PAGE.parent / "methods" / "diffusion.md"
        files = (
            *files,
            *(
                write_between_markers(page, mark, table.markdown())
                for mark, table in tables.items()
            ),
        )
        folders.append(DOCS_PAGE.parent / "images")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            picture.save(folder / name, optimize=True)
            files = (*files, folder / name)
    show(tuple(tables.values()), report.record(), files, json_line)
    return files


def run_real_benchmark(
    place: str | Path,
    out: str | Path | None = None,
    *,
    minutes: float | None = None,
    methods: Sequence[str] = (),
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Measure real stacks without a truth; print a table a stack and return the files written.

    Parameters
    ----------
    place : str or Path
        A z-stack, or a folder of them, or several separated by commas; what is no z-stack is named and left out.
    out : str or Path, optional
        Folder for the figures (JSON) and a picture of each stack.
    minutes : float, optional
        How long methods that can learn from the stack do so; left out, they do not.
    methods : sequence of str
        Only these rows or methods, beside the measurement, in table and picture; empty means all.
    write_docs, json_line, device
        As in :func:`run_quality_benchmark`.

    Raises
    ------
    StackError, ReadError
        No stack could be measured; the reason of the first is given.
    MethodError
        A name in ``methods`` is not known.
    """
    with progress(silent=json_line) as tell:
        table, record, reports = _measure_places(place, device, tell, minutes, methods)
    files = _filed(out, "real.json", record)
    if out is not None:
        files = (*files, *_save_pictures(reports, Path(out)))
    if write_docs:
        files = (
            *files,
            *_documented({"real": table}),
            *_save_pictures(reports, DOCS_PAGE.parent / "images"),
        )
    show(table, record, files, json_line)
    return files


def _save_pictures(reports: Sequence[RealReport], folder: Path) -> tuple[Path, ...]:
    """Draw a shallow and a deep plane and an xz cut of each stack."""
    from benchmarks.picture import before_after, standard_cuts
    from zenhance.io.names import stem

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for report in reports:
        path = folder / f"real_{stem(Path(report.file))}.png"
        before_after(
            report.volumes,
            report.voxel_size_um,
            standard_cuts(report.shape_px, report.voxel_size_um[0]),
        ).save(path, optimize=True)
        paths.append(path)
    return tuple(paths)


def _measure_places(
    place: str | Path,
    device: str,
    tell: Tell,
    minutes: float | None = None,
    methods: Sequence[str] = (),
) -> tuple[TextTable, dict[str, Any], list[RealReport]]:
    from benchmarks.contenders import select
    from benchmarks.real import measure_real, real_contenders, real_stacks
    from benchmarks.real_tables import real_table
    from zenhance.errors import ReadError, StackError

    reports, refused = [], []
    contenders = real_contenders(minutes)
    rows = select(contenders, methods) if methods else contenders
    for path in real_stacks(place):
        try:
            reports.append(measure_real(path, rows, device=device, on_progress=tell))
        except (StackError, ReadError) as error:
            refused.append(error)
    if not reports and refused:
        raise refused[0]
    left_out = tuple(str(error) for error in refused)
    return (
        real_table(reports, left_out),
        {"stacks": [report.record() for report in reports], "left_out": left_out},
        reports,
    )


def run_models_table(*, write_docs: bool = False, json_line: bool = False) -> tuple[Path, ...]:
    """Print what the models that ship say of themselves, and return the pages written.

    Parameters
    ----------
    write_docs : bool
        Put each method's table into its page ``docs/methods/NAME.md``.
    json_line : bool
        Print one line of JSON on stdout instead of the tables.
    """
    from benchmarks.models import learning_methods, models_table, shipped_cards

    cards = {method: shipped_cards(method) for method in learning_methods()}
    tables = {method: models_table(method, found) for method, found in cards.items()}
    files: tuple[Path, ...] = ()
    if write_docs:
        pages = {method: DOCS_PAGE.parent / "methods" / f"{method}.md" for method in tables}
        files = tuple(
            write_between_markers(pages[method], "models", table.markdown())
            for method, table in tables.items()
        )
    record = {
        "models": [card.model_dump(mode="json") for found in cards.values() for card in found]
    }
    show(tuple(tables.values()), record, files, json_line)
    return files


def _documented(tables: Mapping[str, TextTable]) -> tuple[Path, ...]:
    for mark, table in tables.items():
        write_between_markers(DOCS_PAGE, mark, table.markdown())
    return (DOCS_PAGE,)


def _filed(out: str | Path | None, name: str, record: dict[str, Any]) -> tuple[Path, ...]:
    if out is None:
        return ()
    Path(out).mkdir(parents=True, exist_ok=True)
    return (write_json(Path(out) / name, record),)


def _save_sheet(report: QualityReport, path: Path) -> Path:
    from benchmarks.sheet import picture_sheet

    voxel = report.plans[0].voxel_size_um
    crops = {c.title: report.crops[c.name] for c in report.contenders if c.name in report.crops}
    shallow, deep = ((plane + 0.5) * voxel[0] for plane in report.crop_planes)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture_sheet(crops, (shallow, deep), voxel[2]).save(path, optimize=True)
    return path
