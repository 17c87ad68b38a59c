"""The tables of resolution, honesty, universality and photographs, for the terminal and for the page of DPS."""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmarks.photographs import METHODS, PhotographReport
from benchmarks.resolving import DIP, Sharpness
from benchmarks.resolving_report import (
    KINDS,
    PIXEL_UM,
    PSF,
    RL_ITERATIONS,
    ResolutionReport,
)
from benchmarks.tables import TextTable

__all__ = ["factor_table", "honesty_table", "photographs_table", "universality_table"]

GOAL = 1.67
LOSS_GOAL_DB = 1.0


def _number(value: float, digits: int = 2) -> str:
    return "-" if not math.isfinite(value) else f"{value:.{digits}f}"


def factor_table(report: ResolutionReport) -> TextTable:
    """Return resolution and its gain over the measurement, by method and photons."""
    base = report.sharpness["measurement"]
    header = ("method", *(f"{p:g}" for p in report.photons))
    rows = []
    for title, part in (
        ("line pairs", "pairs_px"),
        ("thin lines", "width_px"),
        ("rings", "rings_px"),
    ):
        for name, figures in report.sharpness.items():
            cells = []
            for photons in report.photons:
                value = getattr(figures[photons], part)
                gain = getattr(base[photons], part) / value
                cells.append(
                    _number(value)
                    if name == "measurement"
                    else f"{_number(value)} ({_number(gain)} ×)"
                )
            rows.append((f"{title}: {name}", *cells))
    foot = (
        f"By photons in the brightest pixel; lengths in camera pixels of {1000 * PIXEL_UM:g} nm, in brackets how many times finer than the"
        f" measurement. PSF `{PSF}`; charts, lines and filaments of seeds that no training has seen.",
        f"Line pairs: smallest distance down to which all pairs show a dip of {100 * DIP:.0f} %. Thin lines: full width at half maximum."
        " Rings: period at which correlation with the truth falls below 1/2.",
        "Wiener, RL and RL-TV: true PSF and, for every figure and scene, the setting that is best by the truth; DPS has none to choose.",
        *_words(report),
        f"Weights `{report.weights}`.",
    )
    return TextTable("Resolution", header, tuple(rows), foot)


def _words(report: ResolutionReport) -> tuple[str, ...]:
    """Say whether the gain that is claimed for DPS is reached at 100 photons, and by how much it is missed."""
    if 100.0 not in report.photons:
        return ()
    ours, before = report.sharpness["DPS"][100.0], report.sharpness["measurement"][100.0]
    return (f"At 100 photons the gain is {_gain(before, ours)}; {GOAL} is what was published.",)


def _gain(before: Sharpness, ours: Sharpness) -> str:
    parts = (
        ("line pairs", before.pairs_px / ours.pairs_px),
        ("thin lines", before.width_px / ours.width_px),
        ("rings", before.rings_px / ours.rings_px),
    )
    return ", ".join(
        f"{value:.2f} for {name} ({'reached' if value >= GOAL else f'{GOAL - value:.2f} short'})"
        for name, value in parts
    )


def honesty_table(report: ResolutionReport) -> TextTable:
    """Return what methods make of noise, of what is put in, and of twice the light."""
    header = (
        "method",
        "false at 2",
        "false at 10",
        "mean error %",
        "beads",
        "squares",
        "rings",
        "moved px",
        "2 × bead",
        "2 × image %",
        "deviance",
    )
    rows = tuple(
        (
            name,
            f"{h.false_dim:.0f}",
            f"{h.false_bright:.0f}",
            f"{100 * h.mean_error:.2f}",
            *(_number(v) for v in h.injected),
            _number(h.moved_px),
            f"{h.doubled:.3f}",
            f"{100 * h.scaled:.2f}",
            f"{h.discrepancy:.3f}",
        )
        for name, h in report.honesty.items()
    )
    foot = (
        "False: spots per million pixels of even light of 2 and of 10 photons, above half of what a bead of 10 photons gives.",
        "Beads, squares, rings: light found again of what was put on filaments at 100 photons; moved: of the bead's peak.",
        "2 × bead: light of a bead twice as bright over that of the other; 2 × image: largest deviation from proportion, of the range.",
        "Deviance: of the re-blurred result from the measurement, over what photons alone give; 1 is faithful, below 0.9 it kept noise.",
        f"RL: {RL_ITERATIONS} iterations.",
    )
    return TextTable("Honesty", header, rows, foot)


def universality_table(
    psnr: Mapping[str, Mapping[str, float]], trained: Mapping[str, str]
) -> TextTable:
    """Return PSNR by training and test, and the loss against training on the test's own kind.

    Parameters
    ----------
    psnr : mapping
        Row, kind of structure, dB.
    trained : mapping
        Kind of structure to the row that was trained on it.
    """
    header = ("trained on", *KINDS, "mean loss dB")
    rows = []
    for name, figures in psnr.items():
        losses = [
            psnr[trained[kind]][kind] - figures[kind]
            for kind in KINDS
            if trained.get(kind) in psnr and trained[kind] != name
        ]
        cells = [
            f"**{figures[k]:.2f}**" if trained.get(k) == name else f"{figures[k]:.2f}"
            for k in KINDS
        ]
        rows.append(
            (
                name,
                *cells,
                f"{sum(losses) / len(losses):.2f}" if losses and name in trained.values() else "-",
            )
        )
    worst = max(
        (psnr[trained[kind]][kind] - figures[kind], name, kind)
        for name, figures in psnr.items()
        if name in trained.values()
        for kind in KINDS
    )
    foot = (
        "PSNR in dB after the best affine fit, tested on unseen specimens of each kind at 200 photons; bold: trained on that kind.",
        "Loss: how much less than the network that was trained on the test's own kind, mean over the other three.",
        f"The largest loss is {worst[0]:.2f} dB, of the one trained on {worst[1]} on {worst[2]}; "
        f"below {LOSS_GOAL_DB:g} dB was the goal{'' if worst[0] < LOSS_GOAL_DB else ', which is missed'}.",
    )
    return TextTable("Universality", header, tuple(rows), foot)


def photographs_table(report: PhotographReport) -> TextTable:
    """Return PSNR of every picture and method, and the mean."""
    header = ("picture", *METHODS)
    rows = [
        (title, *(f"{row[name]:.2f}" for name in METHODS)) for title, row in report.psnr_db.items()
    ]
    rows.append(("**mean**", *(f"**{report.mean_db(name):.2f}**" for name in METHODS)))
    ahead = report.mean_db("DPS") - report.mean_db("RL")
    setting = report.setting
    foot = (
        f"PSNR in dB after the best affine fit, 12 pixels from the border. PSF `{setting.psf}` with pixels of 1 µm,"
        f" {setting.photons:g} photons in white, read noise {100 * setting.read_noise:g} % of white.",
        "Wiener, RL, RL-TV and TV: true PSF and, for each picture, the setting that is best by the truth. DPS: trained once, on simulated"
        f" structures, weights `{report.weights}`.",
        f"DPS is {abs(ahead):.2f} dB {'above' if ahead >= 0 else 'below'} the best iteration of RL on the mean.",
    )
    return TextTable("Photographs", header, tuple(rows), foot)
