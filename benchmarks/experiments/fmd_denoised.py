"""``--output denoised`` on real pairs: one frame against the mean of fifty.

Six scenes of the FMD set (Zhang et al., CVPR 2019). Gaussian smoothing and non-local means after
variance stabilisation are tuned on the truth, scene by scene. Ours chooses nothing by the truth.
The files record neither pixel size nor PSF: ours takes a PSF of 3 pixels (FWHM), which is what
sampling by the Nyquist criterion gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.console import Tell
from benchmarks.runner import QUICK, Experiment, Option
from benchmarks.tables import TextTable
from zenhance.errors import StackError
from zenhance.physics.noise import PoissonGauss
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.types import FloatArray

__all__ = ["EXPERIMENT", "FmdReport", "measure", "stabilised_means", "table"]

FOLDER = "../shared/data/fluorescence/fmd_pairs"
SCENES = (
    "Confocal_BPAE_B",
    "Confocal_BPAE_R",
    "TwoPhoton_BPAE_B",
    "TwoPhoton_BPAE_R",
    "WideField_BPAE_B",
    "WideField_BPAE_G",
)
FWHM_PX = 3.0
WHITE = 255.0
GAUSSIAN_PX = (0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0)
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
PATCHES_PX = (3, 5, 7)
VARIANTS = ("richardson_lucy", "wiener")


@dataclass(frozen=True, slots=True)
class FmdReport:
    """Peak signal-to-noise ratio in decibels: row -> one for each scene."""

    scenes: tuple[str, ...]
    decibels: Mapping[str, tuple[float, ...]]

    def record(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold."""
        return {"scenes": list(self.scenes), **{k: list(v) for k, v in self.decibels.items()}}


def _psnr(image: FloatArray, truth: FloatArray) -> float:
    return 10.0 * float(np.log10(WHITE**2 / ((image - truth) ** 2).mean(dtype=np.float64)))


def _read(folder: Path, name: str) -> FloatArray:
    from PIL import Image

    path = folder / f"{name}.png"
    if not path.is_file():
        raise StackError(f'the picture "{path}" is missing; give the folder with --folder')
    return np.asarray(Image.open(path), np.float32)


def noise_against(raw: FloatArray, truth: FloatArray) -> PoissonGauss:
    """Return gain and read noise of a frame from its truth: variance as a line over brightness."""
    edges = np.quantile(truth, np.linspace(0.0, 1.0, 33))
    inside = [(truth >= a) & (truth <= b) for a, b in pairwise(edges)]
    mean = np.array([truth[i].mean() for i in inside], np.float64)
    spread = np.array([(raw[i] - truth[i]).var() for i in inside], np.float64)
    gain, ground = np.polyfit(mean, spread, 1, w=1.0 / np.maximum(spread, 1.0))
    return PoissonGauss(max(float(gain), 1e-3), 0.0, float(np.sqrt(max(ground, 0.0))))


def stabilised_means(
    raw: FloatArray, noise: PoissonGauss, strength: float, patch_px: int
) -> FloatArray:
    """Return non-local means of the frame after a generalised Anscombe transform.

    Sources: Buades et al. 2005 (CVPR); Makitalo & Foi 2013 (IEEE TIP 22:91) for the transform and
    the closed form of its inverse.
    """
    from skimage.restoration import denoise_nl_means

    sigma = noise.read_noise / noise.gain
    counts = (raw.astype(np.float64) - noise.offset) / noise.gain
    root = 2.0 * np.sqrt(np.maximum(counts + 0.375 + sigma**2, 0.0))
    seen = denoise_nl_means(
        root, patch_size=patch_px, patch_distance=6, h=strength, sigma=1.0, fast_mode=True
    )
    d = np.maximum(seen, 2.0 * np.sqrt(0.375 + sigma**2))
    back = d**2 / 4 + np.sqrt(1.5) / 4 / d - 11 / 8 / d**2 + 5 / 8 * np.sqrt(1.5) / d**3 - 0.125
    return np.asarray((back - sigma**2) * noise.gain + noise.offset, np.float32)


def _ours(raw: FloatArray, variant: str) -> FloatArray:
    request = EnhanceRequest(
        # One pixel counts as 1 µm, because the files do not say how large it is.
        voxel_size_um=(None, 1.0, 1.0),
        psf=f"fwhm_um={FWHM_PX:g},{FWHM_PX:g}",
        settings={"variant": variant},
        output="denoised",
        device="cpu",
    )
    return np.asarray(enhance(raw.astype(np.uint8), request).stack.data)


def _best(
    candidates: Sequence[Callable[[], FloatArray]], truth: FloatArray, tell: Callable[[float], None]
) -> float:
    found = []
    for number, candidate in enumerate(candidates):
        tell(number / len(candidates))
        found.append(_psnr(candidate(), truth))
    return max(found)


def measure(folder: Path, scenes: Sequence[str], tell: Tell) -> FmdReport:
    """Denoise the first frame of each scene in every way."""
    rows: dict[str, list[float]] = {}
    for number, scene in enumerate(scenes):
        truth, raw = _read(folder, f"gt_{scene}"), _read(folder, f"raw_{scene}_1")

        def told(fraction: float, place: int = number, title: str = scene) -> None:
            tell(title, (place + fraction) / len(scenes))

        noise = noise_against(raw, truth)
        smooth = [lambda s=s, y=raw: ndimage.gaussian_filter(y, s) for s in GAUSSIAN_PX]  # type: ignore[misc]
        means = [
            lambda h=h, p=p, y=raw, n=noise: stabilised_means(y, n, h, p)  # type: ignore[misc]
            for h in STRENGTHS
            for p in PATCHES_PX
        ]
        found = {
            "one frame": _psnr(raw, truth),
            "Gaussian smoothing, tuned on the truth": _best(smooth, truth, told),
            "non-local means after variance stabilisation, tuned on the truth": _best(
                means, truth, told
            ),
            **{f"ours, denoised, {v}": _psnr(_ours(raw, v), truth) for v in VARIANTS},
        }
        for title, decibels in found.items():
            rows.setdefault(title, []).append(decibels)
    return FmdReport(tuple(scenes), {title: tuple(values) for title, values in rows.items()})


def table(report: FmdReport) -> TextTable:
    """Return a row for each way, with the mean first."""
    rows = [
        (title, f"{np.mean(values):.2f}", *(f"{v:.2f}" for v in values))
        for title, values in report.decibels.items()
    ]
    header = ("PSNR, dB", "mean", *(s.replace("_BPAE_", " ") for s in report.scenes))
    notes = (
        f"{len(report.scenes)} scenes of 512 × 512 pixels, 8 bit; peak 255; truth: mean of 50 "
        f"frames. Ours takes a PSF of {FWHM_PX:g} px (FWHM) and measures the noise on the frame.",
    )
    return TextTable("Denoised against the mean of fifty frames", header, tuple(rows), notes)


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure(
        Path(options.folder), SCENES[:1] if options.quick else SCENES, tell
    ),
    tables=lambda report: {"fmd_denoised": table(report)},
    page="physics.md",
    options=(QUICK, Option("folder", "Folder with the pictures.", "DIR", FOLDER)),
)
