"""What ``zenhance benchmark pictures`` does and prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.console import progress, show, write_json
from benchmarks.docs import DOCS_PAGE, write_between_markers
from benchmarks.pictures import PictureFile, PicturesReport, measure_pictures
from benchmarks.pictures_sheet import SheetRow, draw_sheet, save_small
from benchmarks.pictures_tables import pictures_table
from benchmarks.psf_rules import read_rules
from zenhance.contract import registry
from zenhance.errors import MethodError
from zenhance.io.names import stem

__all__ = ["run_pictures_benchmark"]


def run_pictures_benchmark(
    place: str | Path,
    out: str | Path | None = None,
    *,
    methods: Sequence[str],
    psf: str = "",
    quick: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Enhance real files by methods as they ship; print a table a method, draw before and after, and return the files written.

    Parameters
    ----------
    place : str or Path
        A file, a folder, or several separated by commas; those of one folder share a picture.
    out : str or Path, optional
        Folder for the figures (JSON) and the pictures.
    methods : sequence of str
        Of the registry.
    psf : str
        Told to all files, or by name: see :mod:`benchmarks.psf_rules`; empty for what each file says, else the default.
    quick : bool
        Smaller parts of the files.
    write_docs : bool
        Put tables and pictures into each method's page ``docs/methods/NAME.md``.
    json_line : bool
        Print one line of JSON on stdout instead of the tables.
    device : str
        Where to compute.

    Raises
    ------
    MethodError
        No method is named, or one that is not known.
    StackError, ReadError
        No file could be measured.
    """
    if not methods:
        raise MethodError(
            "the benchmark pictures needs methods; name them with --methods, such as dps,diffusion"
        )
    rules = read_rules(psf)
    with progress(silent=json_line) as tell:
        report = measure_pictures(
            place, methods, rules, quick=quick, device=device, on_progress=tell
        )
    tables = {method: pictures_table(report, method) for method in methods}
    files: tuple[Path, ...] = ()
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        files = (write_json(Path(out) / "pictures.json", report.record()),)
        for method in methods:
            files += tuple(_save_sheets(report, method, Path(out)).values())
    if write_docs:
        for method, table in tables.items():
            drawn = _save_sheets(report, method, DOCS_PAGE.parent / "images")
            shown = "\n\n".join(
                f"![{_says(report, method, name)}](../images/{path.name})"
                for name, path in drawn.items()
            )
            page = DOCS_PAGE.parent / "methods" / f"{method}.md"
            files += (
                write_between_markers(page, "pictures", f"{shown}\n\n{table.markdown()}"),
                *drawn.values(),
            )
    show(tuple(tables.values()), report.record(), files, json_line)
    return files


def _sets(report: PicturesReport) -> dict[str, list[PictureFile]]:
    """Files by the name of their folder."""
    sets: dict[str, list[PictureFile]] = {}
    for file in report.files:
        sets.setdefault(file.path.resolve().parent.name, []).append(file)
    return sets


def _says(report: PicturesReport, method: str, name: str) -> str:
    files = ", ".join(stem(file.path) for file in _sets(report)[name])
    return f"{files}: as measured, and by {registry.load(method).spec.title}, at the measurement's grey scale"


def _save_sheets(report: PicturesReport, method: str, folder: Path) -> dict[str, Path]:
    """Draw a sheet a folder of files; what failed has no row."""
    saved = {}
    for name, files in _sets(report).items():
        rows = [
            SheetRow(f"{stem(file.path)}\n{cut.title}", measured, result, file.voxel_size_um[2])
            for file in files
            for cut, measured, result in zip(
                file.cuts, file.planes, file.rows[method].planes, strict=False
            )
        ]
        if rows:
            sheet = draw_sheet(rows, ("measured", registry.load(method).spec.title))
            saved[name] = save_small(sheet, folder / f"pictures_{method}_{name}.png")
    return saved
