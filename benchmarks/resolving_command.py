"""What ``zenhance benchmark resolution``, ``beads``, ``universal``, ``sweep`` and ``photographs`` do and print."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.console import progress, show, write_json
from benchmarks.docs import write_between_markers
from benchmarks.tables import TextTable
from zenhance.errors import StackError

__all__ = [
    "PAGE",
    "run_beads_benchmark",
    "run_photographs_benchmark",
    "run_resolution_benchmark",
    "run_sweep_benchmark",
    "run_universal_benchmark",
]

UNIVERSAL_STEPS, UNIVERSAL_EVERY, UNIVERSAL_STACKS = 20_000, 200, 16
"""Of the networks of one kind each; the time ends them, but their learning rate falls as far."""
PAGE = Path("docs") / "methods" / "dps.md"


def _finished(
    tables: dict[str, TextTable],
    record: dict[str, Any],
    out: str | Path | None,
    name: str,
    *,
    write_docs: bool,
    json_line: bool,
) -> tuple[Path, ...]:
    """Write what is wanted, show the tables, return the files."""
    files: tuple[Path, ...] = ()
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        files = (write_json(Path(out) / f"{name}.json", record),)
    if write_docs:
        files += tuple(
            write_between_markers(PAGE, mark, table.markdown()) for mark, table in tables.items()
        )
    show(tuple(tables.values()), record, files, json_line)
    return files


def run_resolution_benchmark(
    out: str | Path | None = None,
    *,
    weights: str | None = None,
    beads: str | Path | None = None,
    quick: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Measure resolution and honesty of DPS and its rivals; print the tables and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON).
    weights : str, optional
        Of DPS; left out, those that ship.
    beads : str or Path, optional
        A stack of real beads, and if wanted one of lines after a comma, measured as :func:`run_beads_benchmark` does.
    quick : bool
        One seed, one photon level.
    write_docs : bool
        Put the tables into the page of DPS.
    json_line : bool
        Print one line of JSON on stdout instead of the tables.
    device : str
        Where DPS computes.
    """
    from benchmarks.resolving_report import measure_resolution
    from benchmarks.resolving_tables import factor_table, honesty_table

    with progress(silent=json_line) as tell:
        report = measure_resolution(weights=weights, device=device, quick=quick, on_progress=tell)
    tables, record = (
        {"resolution": factor_table(report), "honesty": honesty_table(report)},
        report.record(),
    )
    if beads is not None:
        more, figures = _beads_and_lines(beads, weights, device)
        tables, record = {**tables, **more}, {**record, **figures}
    return _finished(tables, record, out, "resolution", write_docs=write_docs, json_line=json_line)


def run_beads_benchmark(
    places: str | Path,
    out: str | Path | None = None,
    *,
    weights: str | None = None,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Measure real beads, and lines, before and after DPS and Richardson-Lucy; print the tables and return the files written.

    Parameters
    ----------
    places : str or Path
        A stack of single bright beads; after a comma, if wanted, one of parallel lines from the same microscope, for which the
        beads' own width is the PSF that is told.
    out : str or Path, optional
        Folder for the figures (JSON).
    weights : str, optional
        Of DPS; left out, those that ship.
    write_docs, json_line, device
        As in :func:`run_resolution_benchmark`.

    Raises
    ------
    StackError
        There are more than two files, or no bead or line stands out.
    """
    tables, record = _beads_and_lines(places, weights, device)
    return _finished(tables, record, out, "beads", write_docs=write_docs, json_line=json_line)


def _beads_and_lines(
    places: str | Path, weights: str | None, device: str
) -> tuple[dict[str, TextTable], dict[str, Any]]:
    from benchmarks.paths import places_in
    from benchmarks.resolving_beads import beads_table, measure_beads
    from benchmarks.resolving_lines import grid_table, measure_lines

    files = places_in(places)
    if len(files) not in (1, 2):
        raise StackError(
            f"{len(files)} files were given to measure; give one of beads, and if there is one, one of lines: BEADS,LINES"
        )
    beads = measure_beads(files[0], weights=weights, device=device)
    tables, record = {"beads": beads_table(beads)}, {"beads": beads.record()}
    if len(files) == 2:
        lines = measure_lines(files[1], beads.psf, weights=weights, device=device)
        tables["grid"], record["grid"] = grid_table(lines, beads.name), lines.record()
    return tables, record


def run_universal_benchmark(
    out: str | Path | None = None,
    *,
    minutes: float = 3.0,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Train DPS on one kind of structure at a time and test it on all; print the table and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON), and for the models; those that it holds already are taken.
    minutes : float
        How long each of the four networks learns.
    write_docs, json_line, device
        As in :func:`run_resolution_benchmark`.
    """
    from benchmarks.resolving_report import KINDS, measure_universality
    from benchmarks.resolving_tables import universality_table
    from zenhance.training.loop import train
    from zenhance.training.recipe import load_recipe

    recipe = load_recipe("dps_stack")
    models: dict[str, str] = {}
    with TemporaryDirectory() as temporary, progress(silent=json_line) as tell:
        place = Path(temporary if out is None else out)
        for number, kind in enumerate(KINDS):
            tell(f"training on {kind}", number / len(KINDS))
            plan = recipe.data.simulated[0]
            one = plan.model_copy(update={"settings": {"kind": kind}, "count": UNIVERSAL_STACKS})
            data = recipe.data.model_copy(update={"simulated": (one,)})
            update = {
                "name": f"dps_{kind}",
                "data": data,
                "minutes": minutes,
                "steps": UNIVERSAL_STEPS,
                "validate_every": UNIVERSAL_EVERY,
            }
            kept = place / f"universal_{kind}" / f"dps_{kind}.safetensors"
            if not kept.is_file():
                train(recipe.model_copy(update=update), kept.parent, device=device)
            models[kind] = str(kept)
        found = measure_universality({**models, "mixed (ships)": "dps_stack"}, device=device)
    table = universality_table(found, {kind: kind for kind in KINDS})
    return _finished(
        {"universal": table},
        {"psnr_db": found, "minutes": minutes},
        out,
        "universal",
        write_docs=write_docs,
        json_line=json_line,
    )


def run_sweep_benchmark(
    out: str | Path | None = None,
    *,
    steps: int = 200,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Change the weights of the terms that DPS learns by, one at a time; print the table and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON).
    steps : int
        Of each training.
    write_docs, json_line, device
        As in :func:`run_resolution_benchmark`.
    """
    from benchmarks.sweeping import measure_sweep, sweep_table

    with progress(silent=json_line) as tell:
        report = measure_sweep(steps, device=device, on_progress=tell)
    return _finished(
        {"sweep": sweep_table(report)},
        report.record(),
        out,
        "sweep",
        write_docs=write_docs,
        json_line=json_line,
    )


def run_photographs_benchmark(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    psf: str = "",
    photons: float = 1000.0,
    weights: str | None = None,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Blur the pictures of a folder, add noise, restore them by every method; print the table and return the files written.

    Parameters
    ----------
    folder : str or Path
        Of grey or colour pictures.
    out : str or Path, optional
        Folder for the figures (JSON).
    psf : str
        As ``--psf`` takes it, for pixels of 1 µm; empty for the width that the shipped network knows.
    photons : float
        In a white pixel.
    weights : str, optional
        Of DPS; left out, those that ship.
    write_docs, json_line, device
        As in :func:`run_resolution_benchmark`.
    """
    from benchmarks.photographs import DEFAULT_PSF, Setting, measure_photographs
    from benchmarks.resolving_tables import photographs_table

    setting = Setting(psf or DEFAULT_PSF, photons)
    with progress(silent=json_line) as tell:
        report = measure_photographs(
            Path(folder), setting, weights=weights, device=device, on_progress=tell
        )
    tables = {"photographs": photographs_table(report)}
    return _finished(
        tables, report.record(), out, "photographs", write_docs=write_docs, json_line=json_line
    )
