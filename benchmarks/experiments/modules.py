"""Steps of DPS besides extend: denoising, SIM-like reconstruction, artefact removal."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import dps_steps as steps
from benchmarks.dps_losses import VGG_WEIGHT, Taught, taught_by_other_losses
from benchmarks.dps_steps import ALL_KINDS, MEASURED, Cleaned, Finer
from benchmarks.runner import (
    DEVICE,
    QUICK,
    Experiment,
    Option,
    Section,
    Tell,
    minutes,
    path,
)
from benchmarks.tables import TextTable, figure

__all__ = [
    "DENOISE",
    "EXPERIMENT",
    "FINER",
    "SHIPS",
    "ModulesReport",
    "artefacts_table",
    "denoising_table",
    "finer_table",
    "modules_tables",
]

DENOISE, FINER, SHIPS = "dps_denoise", "dps_sim", "dps_artefacts"
"""Rows of the weights that ship."""
SEEDS, QUICK_SEEDS = (930, 931), (930,)
NOISE, QUICK_NOISE = (10.0, 30.0, 100.0, 1000.0), (10.0, 100.0)
LEVELS, QUICK_LEVELS = (100.0, 1000.0), (100.0,)
MINUTES, QUICK_MINUTES = 3.0, 0.5
ARTEFACTS = {"reconstruction": "none", "artefacts": True}


@dataclass(frozen=True)
class ModulesReport:
    """Figures of the three steps by method and photons, and the trainings with other losses.

    Parameters
    ----------
    denoising : mapping
        Method, photons, kind of structure: PSNR in dB.
    finer : mapping
        Method, photons: smallest distance, and PSNR by kind.
    cleaned : mapping
        Method, photons: PSNR with a pattern and without, energy left.
    taught : mapping
        Row of ``cleaned`` to its training.
    seeds : int
        Specimens of each kind.
    """

    denoising: Mapping[str, Mapping[float, Mapping[str, float]]]
    finer: Mapping[str, Mapping[float, Finer]]
    cleaned: Mapping[str, Mapping[float, Cleaned]]
    taught: Mapping[str, Taught] = field(default_factory=dict)
    seeds: int = 1

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "specimens_of_each_kind": self.seeds,
            "denoise_psnr_db": {
                name: {f"{p:g}": dict(k) for p, k in rows.items()}
                for name, rows in self.denoising.items()
            },
            "sim_like": {
                name: {f"{p:g}": asdict(v) for p, v in rows.items()}
                for name, rows in self.finer.items()
            },
            "artefacts": {
                name: {f"{p:g}": asdict(v) for p, v in rows.items()}
                for name, rows in self.cleaned.items()
            },
            "taught": {
                name: {"steps": t.steps, "minutes": round(t.minutes, 2)}
                for name, t in self.taught.items()
            },
        }


def _levels(rows: Mapping[str, Mapping[float, Any]]) -> list[float]:
    return sorted({photons for figures in rows.values() for photons in figures})


def _ahead(value: float) -> str:
    return f"{abs(value):.2f} dB {'ahead of' if value >= 0 else 'behind'}"


def denoising_table(report: ModulesReport) -> TextTable:
    """Return the mean PSNR over the kinds of structure, by method and photons."""
    rows, levels = report.denoising, _levels(report.denoising)
    means = {
        name: {p: fmean(figures[p].values()) for p in levels} for name, figures in rows.items()
    }
    words = []
    for p in levels:
        ours, rivals = (
            rows[DENOISE][p],
            {n: f[p] for n, f in rows.items() if n not in (DENOISE, MEASURED)},
        )
        leads = ", ".join(f"{_ahead(means[DENOISE][p] - means[n][p])} {n}" for n in rivals)
        least = {kind: ours[kind] - max(f[kind] for f in rivals.values()) for kind in ours}
        kind = min(least, key=lambda k: least[k])
        words.append(
            f"At {p:g} photons {leads}; worst on {kind}, {_ahead(least[kind])} the best of them."
        )
    foot = (
        "PSNR in dB against the picture without noise, after the best affine fit, by photons in "
        "the brightest pixel; mean over"
        f" {_of_each(report.seeds)}.",
        "Rivals: width, weight or h that is best by the truth of each picture. DPS has none to "
        "choose.",
        *words,
    )
    return TextTable("Denoise", ("method", *(f"{p:g}" for p in levels)), _rows(means, levels), foot)


def _of_each(many: int) -> str:
    return (
        f"{', '.join(ALL_KINDS)}, {many} unseen {'specimen' if many == 1 else 'specimens'} of each"
    )


def _rows(
    means: Mapping[str, Mapping[float, float]], levels: Sequence[float]
) -> tuple[tuple[str, ...], ...]:
    return tuple((name, *(figure(figures[p]) for p in levels)) for name, figures in means.items())


def finer_table(report: ModulesReport) -> TextTable:
    """Return smallest distance and PSNR against the sharper picture, by method and photons."""
    levels = _levels(report.finer)
    header = ("method", *(f"nm at {p:g}" for p in levels), *(f"dB at {p:g}" for p in levels))

    def psnr(name: str, p: float) -> float:
        return fmean(report.finer[name][p].psnr_db.values())

    rows = []
    for name, figures in report.finer.items():
        reached = [figure(psnr(name, p)) if psnr(name, p) < 100 else "-" for p in levels]
        rows.append((name, *(figure(figures[p].distance_nm, 0) for p in levels), *reached))
    words = []
    for p in levels:
        leads = ", ".join(
            f"{_ahead(psnr(FINER, p) - psnr(n, p))} {title}"
            for n, title in (("enlarged", "cubics"), ("RL", "RL"))
        )
        least = {
            k: v - max(report.finer[n][p].psnr_db[k] for n in ("enlarged", "RL"))
            for k, v in report.finer[FINER][p].psnr_db.items()
        }
        kind = min(least, key=lambda k: least[k])
        words.append(
            f"At {p:g} photons {leads}; worst on {kind}, {_ahead(least[kind])} the better of the "
            "two."
        )
    foot = (
        "nm: smallest distance of line pairs down to which all show a dip of 26 %. dB: PSNR "
        "against the sharper microscope's picture"
        f" without noise, after the best affine fit, mean over {_of_each(report.seeds)}.",
        "Input: the sharper picture (PSF 90 nm wide, pixels of 30 nm) blurred to twice the width, "
        "pixels of 60 nm; photons in its brightest"
        " pixel. Enlarged: by cubics. RL: given the blur between the two; for every figure the "
        "iteration that is best by the truth.",
        *words,
    )
    return TextTable("SIM-like reconstruction", header, tuple(rows), foot)


def artefacts_table(report: ModulesReport) -> TextTable:
    """Return PSNR, the pattern's energy left, and the PSNR of clean pictures, by photons."""
    levels = _levels(report.cleaned)
    header = (
        "method",
        *(f"{title} {p:g}" for p in levels for title in ("dB", "left %", "plain dB")),
    )
    rows = []
    for name, figures in report.cleaned.items():
        cells = []
        for p in levels:
            found = figures[p]
            cells += [figure(found.psnr_db), figure(100 * found.left, 1), figure(found.plain_db)]
        rows.append((name, *cells))
    words = []
    for p in levels:
        before, ours = report.cleaned[MEASURED][p], report.cleaned[SHIPS][p]
        gain, plain = ours.psnr_db - before.psnr_db, ours.plain_db - before.plain_db
        words.append(
            f"At {p:g} photons `{SHIPS}` leaves {100 * ours.left:.0f} % of the pattern's energy "
            f"and gains {gain:.2f} dB;"
            f" plain pictures {'gain' if plain >= 0 else 'lose'} {abs(plain):.2f} dB."
        )
    trained = "; ".join(
        f"{name} {t.steps} steps in {t.minutes:.1f} min" for name, t in report.taught.items()
    )
    given = "VGG16, your file" in report.taught
    foot = (
        "By photons in the brightest pixel. dB: PSNR against the picture without pattern and "
        "noise, after the best affine fit; left: energy"
        " at the pattern's frequencies beyond the picture's own, as a share of what was added; "
        "plain dB: the same PSNR for pictures that"
        " never had a pattern.",
        "Stripes and honeycomb in turns, at random angles, periods and phases, on "
        f"{_of_each(report.seeds)}. Gaussian: the width"
        " that is best by the truth of each picture with the pattern, and the same for the plain "
        "one.",
        *words,
        *(
            [
                f"Trained by this command, with other losses: {trained}; VGG16 with a weight of "
                f"{VGG_WEIGHT:g}. `{SHIPS}` ships."
            ]
            if trained
            else []
        ),
        *(
            []
            if given
            else [
                "VGG16 with the weights of ImageNet has no row: they do not ship. `--features "
                "FILE` with a file of them adds it."
            ]
        ),
    )
    return TextTable(
        "Artefact removal", header, tuple(rows), foot, tuple(f"plain dB {p:g}" for p in levels)
    )


def modules_tables(report: ModulesReport) -> tuple[TextTable, ...]:
    """Return the three tables."""
    return denoising_table(report), finer_table(report), artefacts_table(report)


def _part(tell: Tell, start: float, share: float) -> Tell:
    """Pass progress on as a part of the whole."""
    return lambda title, fraction: tell(title, start + share * fraction)


def _measure(options: Namespace, tell: Tell) -> ModulesReport:
    quick, device = options.quick, options.device
    seeds = QUICK_SEEDS if quick else SEEDS
    levels = QUICK_LEVELS if quick else LEVELS
    with TemporaryDirectory() as temporary:
        taught = taught_by_other_losses(
            (options.out or Path(temporary)) / "modules",
            minutes=options.minutes or (QUICK_MINUTES if quick else MINUTES),
            features=options.features,
            device=device,
            tell=_part(tell, 0.0, 0.6),
        )
        denoise = steps.step_of({"reconstruction": "none", "denoise": True}, device=device)
        finer = steps.step_of(
            {"reconstruction": "sim_like", "scale": 2}, device=device, fwhm_um=steps.WIDE_FWHM_UM
        )
        cleaners = {
            SHIPS: steps.step_of(ARTEFACTS, device=device),
            **{name: steps.step_of(ARTEFACTS, made.path, device) for name, made in taught.items()},
        }
        return ModulesReport(
            steps.measure_denoising(
                {DENOISE: denoise}, QUICK_NOISE if quick else NOISE, seeds, _part(tell, 0.6, 0.15)
            ),
            steps.measure_finer({FINER: finer}, levels, seeds, _part(tell, 0.75, 0.1)),
            steps.measure_artefacts(cleaners, levels, seeds, _part(tell, 0.85, 0.15)),
            taught,
            len(seeds),
        )


def _sections(report: ModulesReport) -> list[Section]:
    text = "\n".join(f"**{t.title}**\n\n{t.markdown()}" for t in modules_tables(report))
    return [Section("methods/dps.md", "modules", text)]


EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda report: {table.title: table for table in modules_tables(report)},
    page="methods/dps.md",
    sections=_sections,
    options=(
        Option(
            "minutes",
            "Duration of each training with another loss. Default: 3.",
            "MINUTES",
            None,
            minutes,
        ),
        Option(
            "features",
            "Weights of VGG16 (safetensors, torchvision's names), for one more row.",
            "FILE",
            None,
            path,
        ),
        QUICK,
        DEVICE,
    ),
)
