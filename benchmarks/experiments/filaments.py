"""Filaments learnt without a truth: the table of the report on DivBlurring, repeated."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.filaments.measure import FilamentReport, RowScore, measure_filaments
from benchmarks.filaments.rows import (
    ROWS,
    SETS,
    TRAINING_SEED,
    WEIGHTS,
    FilamentOptions,
    Row,
)
from benchmarks.filaments.training import ALONE_IMAGES, BATCH, PATCH_PX
from benchmarks.plots import Panel, draw_panels
from benchmarks.quality_notes import FAILED, versus
from benchmarks.runner import DEVICE, Experiment, Option, Tell, minutes, whole
from benchmarks.tables import TextTable, mean_sd

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EXPERIMENT", "filaments_table", "loss_panels"]

RAW, RIVAL, DENOISED, PLAIN = "raw", "rl_best", "divnoising", "divblurring_plain"
CURVES: tuple[tuple[str, ...], ...] = (
    (DENOISED, PLAIN, "divblurring_l1", "divblurring_l2"),
    (PLAIN, "divblurring_small", "divblurring_large", "divblurring_both"),
)
"""Rows that share a plot."""


def filaments_table(report: FilamentReport) -> TextTable:
    """Return a row for each method: PSNR, gain, nats per latent and the report's figure by set."""
    header = ["method"]
    for preset, title in SETS:
        if preset in report.scores:
            header += [f"{title}: PSNR dB", "gain dB", "nats a latent", "report dB"]
    rows = []
    for row in report.rows:
        cells = [row.title]
        for number, (preset, _) in enumerate(SETS):
            if preset in report.scores:
                cells += [
                    *_cells(report.scores[preset][row.name], report.scores[preset].get(RAW)),
                    row.report[number],
                ]
        rows.append(tuple(cells))
    detail = ("nats a latent", "report dB")
    return TextTable(
        "Filaments, learnt without a truth", tuple(header), tuple(rows), _foot(report), detail
    )


def _cells(score: RowScore, raw: RowScore | None) -> list[str]:
    if score.failure or not score.psnr_db:
        return [FAILED, "-", "-"]
    gain = "-"
    if raw is not None and raw.psnr_db:
        gain = mean_sd([mean - raw.by_repeat()[0] for mean in score.by_repeat()], 2)
    nats = " / ".join(f"{n:.2g}" for n in score.nats) or "-"
    return [mean_sd(score.by_repeat(), 2), gain, nats]


def _foot(report: FilamentReport) -> tuple[str, ...]:
    o = report.options
    z, y, x = o.shape_px
    size = f"{y} × {x} pixels" if z == 1 else f"{z} × {y} × {x} voxels"
    small, large = WEIGHTS.positivity
    budget = "" if o.minutes is None else f", at most {o.minutes:g} minutes each"
    lines = [
        "PSNR in the report's sense: 20 log10(largest light of the truth / RMSE), the truth above "
        "the camera's offset, "
        "after the best a · image + b for each image; gain: above the measurement.",
        f"{o.test_images} unseen images of {size} of each set, seeds "
        f"{o.test_seed}-{o.test_seed + o.test_images - 1}; "
        f"± is the standard deviation of that mean over {o.repeats} trainings from other seeds.",
        f"Learnt from {o.images} images of each set (seeds from {TRAINING_SEED}) without their "
        "truth, PSF and camera known: "
        f"{o.steps} steps of {BATCH} patches of {PATCH_PX} × {PATCH_PX} pixels{budget}; the "
        f"estimate is the mean of {o.samples} samples.",
        f"The ladder learns once, from {min(ALONE_IMAGES, o.images)} of these images, with as "
        "many steps in two rounds; "
        "its loss compares with estimates made from the images, never with the truth.",
        f"Weights of the penalties, per pixel of scaled light: ℓ1 {WEIGHTS.l1:g}, ℓ2 "
        f"{WEIGHTS.l2:g}, "
        f"positivity small {small:g} and large {large:g}.",
        "Nats a latent: how much each level's latents say of an image, coarsest first; near 0 "
        "they would have collapsed.",
        "Report: S. Muttavarapu (2022); the simulator behind its figures is not published, so its "
        "decibels cannot be compared with ours.",
    ]
    for preset, title in SETS:
        scores = report.scores.get(preset, {})
        notes = [
            f"{row.title}: {scores[row.name].note}"
            for row in report.rows
            if row.name in scores and scores[row.name].note
        ]
        if notes:
            lines.append(f"{_capital(title)}: {'; '.join(notes)}.")
        lines += _in_words(report.rows, scores, title)
    lines += [
        f"{_capital(s.title)} draws {s.per_second:.0f} samples of {s.shape_px[0]} × "
        f"{s.shape_px[1]} pixels a second, "
        f"in batches, the image encoded once in {1000 * s.encode_s:.0f} ms."
        for s in report.speeds
    ]
    failures = {
        f"{row.title}: {by[row.name].failure}."
        for row in report.rows
        for by in report.scores.values()
        if by[row.name].failure
    }
    return (*lines, *sorted(failures), f"Measured on {report.machine.describe()}.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _in_words(rows: Sequence[Row], scores: Mapping[str, RowScore], title: str) -> list[str]:
    """Compare, image by image, DivBlurring with DivNoising and learning with deconvolution."""
    titles = {row.name: row.title for row in rows}
    good = {name: score.by_image() for name, score in scores.items() if score.psnr_db}
    parts = []
    report_rows = [name for names in CURVES for name in names if name != DENOISED and name in good]
    if report_rows and DENOISED in good:
        best = max(dict.fromkeys(report_rows), key=lambda name: float(np.mean(good[name])))
        parts += [
            f"{titles[name]} against DivNoising {versus(good[name], good[DENOISED])}"
            for name in dict.fromkeys((PLAIN, best))
            if name in good
        ]
    if RIVAL in good:
        learnt = [
            row.name for row in rows if row.name in good and (row.alone or row.name == "ladder")
        ]
        parts += [
            f"{titles[name]} against {titles[RIVAL]} {versus(good[name], good[RIVAL])}"
            for name in learnt
        ]
    return [f"{_capital(title)}: {'; '.join(parts)}."] if parts else []


def loss_panels(report: FilamentReport) -> list[Panel]:
    """Return plots of the validation loss by step, a row for each set."""
    panels = []
    titles = {row.name: row.title for row in ROWS}
    for preset, title in SETS:
        scores = report.scores.get(preset, {})
        for names in CURVES:
            lines = {}
            for name in names:
                if name in scores and scores[name].loss:
                    steps, losses = np.asarray(scores[name].loss, np.float64).T
                    lines[_plain(titles[name])] = (steps, np.log10(np.maximum(losses, 1e-3)))
            panels.append(Panel(title, "step", "log10 loss", lines))
    return panels if any(panel.lines for panel in panels) else []


def _plain(title: str) -> str:
    """Return a title that fits a legend, in letters of Pillow's font."""
    short = title.removeprefix("DivBlurring + ").replace("ℓ", "l").replace("positivity, ", "pos. ")
    return short.replace(", and ", " + ")


def _measure(options: Namespace, tell: Tell) -> FilamentReport:
    wanted = FilamentOptions(options.images, options.repeats, options.steps, options.minutes)
    folder = None if options.out is None else options.out / "filaments"
    return measure_filaments(wanted, folder=folder, device=options.device, on_progress=tell)


def _pictures(report: FilamentReport) -> dict[str, Image]:
    panels = loss_panels(report)
    return {"filaments_loss.png": draw_panels(panels, 2)} if panels else {}


_USUAL = FilamentOptions()
EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda report: {"filaments": filaments_table(report)},
    pictures=_pictures,
    options=(
        Option("images", "Training images of each set.", "N", _USUAL.images, whole),
        Option("repeats", "Trainings of each row.", "N", _USUAL.repeats, whole),
        Option("steps", "Steps of each training.", "N", _USUAL.steps, whole),
        Option("minutes", "Longest duration of each training.", "MINUTES", None, minutes),
        DEVICE,
    ),
)
