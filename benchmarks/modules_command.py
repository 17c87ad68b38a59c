"""What ``zenhance benchmark modules`` does and prints."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.console import progress, show, write_json
from benchmarks.docs import write_between_markers
from benchmarks.resolving_command import PAGE

__all__ = ["run_modules_benchmark"]

SEEDS, QUICK_SEEDS = (930, 931), (930,)
NOISE, QUICK_NOISE = (10.0, 30.0, 100.0, 1000.0), (10.0, 100.0)
LEVELS, QUICK_LEVELS = (100.0, 1000.0), (100.0,)
MINUTES, QUICK_MINUTES = 3.0, 0.5
ARTEFACTS = {"reconstruction": "none", "artefacts": True}


def run_modules_benchmark(
    out: str | Path | None = None,
    *,
    minutes: float | None = None,
    features: str | Path | None = None,
    quick: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Measure the steps of DPS besides ``extend``; print the tables and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON) and for the models with other losses; those that it holds already are taken.
    minutes : float, optional
        How long each network with another loss learns; left out, 3, or half a minute where it is to be quick.
    features : str or Path, optional
        Weights of VGG16 in torchvision's layout, for one more loss.
    quick : bool
        One specimen of each kind, fewer photon levels, shorter trainings.
    write_docs : bool
        Put the tables into the page of DPS.
    json_line : bool
        Print one line of JSON on stdout instead of the tables.
    device : str
        Where to compute.
    """
    from benchmarks import modules
    from benchmarks.modules_tables import (
        DENOISE,
        FINER,
        SHIPS,
        ModulesReport,
        modules_tables,
    )
    from benchmarks.modules_training import taught_by_other_losses

    seeds = QUICK_SEEDS if quick else SEEDS
    with TemporaryDirectory() as temporary, progress(silent=json_line) as tell:
        place = Path(temporary if out is None else out) / "modules"
        taught = taught_by_other_losses(
            place,
            minutes=minutes or (QUICK_MINUTES if quick else MINUTES),
            features=None if features is None else Path(features).expanduser(),
            device=device,
            tell=lambda title, share: tell(title, 0.6 * share),
        )
        denoise = modules.step_of({"reconstruction": "none", "denoise": True}, device=device)
        finer = modules.step_of(
            {"reconstruction": "sim_like", "scale": 2}, device=device, fwhm_um=modules.WIDE_FWHM_UM
        )
        cleaners = {
            SHIPS: modules.step_of(ARTEFACTS, device=device),
            **{n: modules.step_of(ARTEFACTS, t.path, device) for n, t in taught.items()},
        }
        report = ModulesReport(
            modules.measure_denoising(
                {DENOISE: denoise},
                QUICK_NOISE if quick else NOISE,
                seeds,
                lambda t, s: tell(t, 0.6 + 0.15 * s),
            ),
            modules.measure_finer(
                {FINER: finer},
                QUICK_LEVELS if quick else LEVELS,
                seeds,
                lambda t, s: tell(t, 0.75 + 0.1 * s),
            ),
            modules.measure_artefacts(
                cleaners,
                QUICK_LEVELS if quick else LEVELS,
                seeds,
                lambda t, s: tell(t, 0.85 + 0.15 * s),
            ),
            taught,
            len(seeds),
        )
    tables, record = modules_tables(report), report.record()
    files: tuple[Path, ...] = ()
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        files = (write_json(Path(out) / "modules.json", record),)
    if write_docs:
        text = "\n".join(f"**{table.title}**\n\n{table.markdown()}" for table in tables)
        files = (*files, write_between_markers(PAGE, "modules", text))
    show(tables, record, files, json_line)
    return files
