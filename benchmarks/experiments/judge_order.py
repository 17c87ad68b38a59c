"""Order of results by held-out photons against their order by a long average, on real pairs."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage, stats
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from benchmarks.machine import Machine, describe_machine
from benchmarks.runner import Experiment, Option, Tell, path
from benchmarks.tables import TextTable
from zenhance.assess.forward import fit_affine
from zenhance.assess.small_counts import poisson_deviance
from zenhance.assess.truth import compare_with_truth
from zenhance.errors import ReadError
from zenhance.io import open_stack
from zenhance.physics.noise import PoissonGauss, estimate
from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import correlation_px
from zenhance.physics.thinning import grey_of_share, split_photons
from zenhance.types import FloatArray

__all__ = ["EXPERIMENT", "FILTERS", "OrderReport", "held_out_deviance"]

SEEN_SHARE = 0.9


def _gaussian(sigma: float) -> Callable[[FloatArray], FloatArray]:
    return lambda image: ndimage.gaussian_filter(image, (0.0, sigma, sigma))


def _median(side: int) -> Callable[[FloatArray], FloatArray]:
    return lambda image: ndimage.median_filter(image, (1, side, side))


def _total_variation(weight: float) -> Callable[[FloatArray], FloatArray]:
    def smooth(image: FloatArray) -> FloatArray:
        scale = float(np.percentile(image, 99.9))
        return np.asarray(denoise_tv_chambolle(image[0] / scale, weight)[None] * scale, np.float32)

    return smooth


def _non_local(strength: float) -> Callable[[FloatArray], FloatArray]:
    def smooth(image: FloatArray) -> FloatArray:
        scale = float(np.percentile(image, 99.9))
        plane = denoise_nl_means(image[0] / scale, 5, 6, h=strength, fast_mode=True)
        return np.asarray(plane[None] * scale, np.float32)

    return smooth


def _with_mesh(image: FloatArray) -> FloatArray:
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    span = np.float32(np.percentile(image, 99) - np.percentile(image, 5))
    lines = ((y % 8 < 2) | (x % 8 < 2)).astype(np.float32)
    return _gaussian(1.0)(image) + np.float32(0.2) * span * lines


FILTERS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "measured": lambda image: image,
    **{f"Gaussian, σ {s:g}": _gaussian(s) for s in (0.5, 1.0, 1.5, 2.0, 3.0)},
    **{f"median, {n} pixels": _median(n) for n in (3, 5)},
    **{f"total variation, {w:g}": _total_variation(w) for w in (0.03, 0.1, 0.3)},
    "non-local means": _non_local(0.08),
    "Gaussian and a mesh": _with_mesh,
}


@dataclass(frozen=True)
class OrderReport:
    """Rank correlation of each scene, and what it is made of.

    Parameters
    ----------
    scenes : tuple of str
        Files of the single exposures.
    correlations : tuple of float
        Spearman's, of the held-out deviance with minus the PSNR.
    deviances, psnr_db : tuple of tuple of float
        By scene and method.
    judged : tuple of bool
        Whether the judge takes the scene: not where the noise of neighbouring pixels is correlated.
    """

    scenes: tuple[str, ...]
    correlations: tuple[float, ...]
    deviances: tuple[tuple[float, ...], ...]
    psnr_db: tuple[tuple[float, ...], ...]
    judged: tuple[bool, ...]
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return {"methods": list(FILTERS), **asdict(self)}


def held_out_deviance(
    measured: FloatArray, method: Callable[[FloatArray], FloatArray], camera: PoissonGauss
) -> float:
    """Return the deviance per pixel of a tenth of the photons from a result of the other nine."""
    seen, hidden = split_photons(measured, camera, SEEN_SHARE, 0)
    grey = grey_of_share(seen, camera, SEEN_SHARE)
    result = method(grey)
    fit = fit_affine(result, grey, camera)
    expected = (fit.slope * result + fit.offset - camera.offset) / camera.gain
    read = (1.0 - SEEN_SHARE) ** 0.5 * camera.read_noise / camera.gain
    held = np.maximum(expected, 1e-3) * (1.0 - SEEN_SHARE)
    return float(poisson_deviance(hidden, held, read).mean())


def measure_order(options: Namespace, tell: Tell) -> OrderReport:
    """Rank the filters on each pair.

    Raises
    ------
    ReadError
        The folder holds no pairs.
    """
    pairs = [(raw, _partner(raw)) for raw in sorted(options.data.glob("raw_*.png"))]
    if not pairs:
        raise ReadError(
            options.data,
            "it holds no pairs raw_NAME_1.png and gt_NAME.png; give another folder with --data",
        )
    deviances, likeness, correlations, judged = [], [], [], []
    for number, (raw, partner) in enumerate(pairs):
        tell(raw.name, number / len(pairs))
        measured = open_stack(raw).read(0, 0)
        average = open_stack(partner).read(0, 0).astype(np.float32)
        camera, image = estimate(measured), measured.astype(np.float32)
        found = [held_out_deviance(measured, method, camera) for method in FILTERS.values()]
        psnr = [
            compare_with_truth(method(image), average).psnr_fit_db for method in FILTERS.values()
        ]
        correlations.append(float(stats.spearmanr(found, [-v for v in psnr]).statistic))
        judged.append(correlation_px(measure_blocks(measured)) == 0.0)
        deviances.append(tuple(found))
        likeness.append(tuple(psnr))
    names = tuple(raw.name for raw, _ in pairs)
    return OrderReport(
        names,
        tuple(correlations),
        tuple(deviances),
        tuple(likeness),
        tuple(judged),
        describe_machine(),
    )


def _partner(raw: Path) -> Path:
    return raw.with_name(raw.name.replace("raw_", "gt_").rpartition("_")[0] + ".png")


def order_table(report: OrderReport) -> dict[str, TextTable]:
    """Return a row a scene."""
    rows = []
    for name, value, deviances, psnr, taken in zip(
        report.scenes,
        report.correlations,
        report.deviances,
        report.psnr_db,
        report.judged,
        strict=True,
    ):
        titles = list(FILTERS)
        first, best = titles[int(np.argmin(deviances))], titles[int(np.argmax(psnr))]
        rows.append((name, "yes" if taken else "no", f"{value:.2f}", first, best))
    pairs = list(zip(report.correlations, report.judged, strict=True))
    means = [float(np.mean([v for v, t in pairs if t])) if any(report.judged) else math.nan,
             float(np.mean(report.correlations))]  # fmt: skip
    rows.append(("mean of those judged", "", f"{means[0]:.2f}", "", ""))
    rows.append(("mean of all", "", f"{means[1]:.2f}", "", ""))
    foot = (
        f"{len(FILTERS)} filters, ranked by the deviance of a tenth of the photons that they had "
        "not seen, and by the PSNR against the average of 50 exposures (best affine fit). Not "
        "judged: the noise of neighbouring pixels is correlated, so the two parts are not "
        "independent; the judge then says so and gives no grade.",
        f"Measured on {report.machine.describe()}.",
    )
    header = ("single exposure", "judged", "rank correlation", "best by photons", "best by average")
    return {"judge_order": TextTable("Order without the truth", header, tuple(rows), foot)}


EXPERIMENT = Experiment(
    measure=measure_order,
    tables=order_table,
    page="assessment.md",
    options=(
        Option(
            "data",
            "Folder with pairs raw_NAME_1.png, gt_NAME.png.",
            "DIR",
            Path("../shared/data/fluorescence/fmd_pairs"),
            path,
        ),
    ),
)
