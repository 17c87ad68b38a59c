"""Photographs blurred, made noisy and restored by DPS and by classical methods.

Every rival gets the true PSF and the setting that is best by the truth of each picture. DPS is a
network that was trained once, on simulated structures; it gets the PSF and nothing else.
Intensities are aligned by the best ``a · image + b`` before every comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from benchmarks.published_rivals import (
    DeepPrior,
    deep_prior,
    mean_shift_resolution,
    sparse_deconvolution,
)
from benchmarks.rivals import TV_WEIGHTS, FineMicroscope
from benchmarks.runner import DEVICE, Experiment, Option, whole
from benchmarks.tables import TextTable
from zenhance.errors import ReadError
from zenhance.physics.psf import parse_psf
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = [
    "DEFAULT_PSF",
    "EXPERIMENT",
    "PhotographReport",
    "Setting",
    "aligned_psnr_db",
    "measure_photographs",
    "photographs_table",
    "read_photographs",
]

DEFAULT_PSF = "srpsf:fwhm_um=3"
"""With pixels of 1 µm: the width that the shipped network knows, so that nothing is resampled."""
BORDER_PX = 12
"""Not compared: beyond the border nobody knows."""
MAX_PX = 256
MIN_PX = 64
SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".pgm")
SMOOTHING = (0.005, 0.01, 0.02, 0.04, 0.08)
"""Weights of total variation without deblurring."""
METHODS = ("identity", "Wiener", "RL", "RL-TV", "TV", "MSSR", "Sparse", "DPS")
DEEP = ("SelfDeblur", "W-DIP")
"""Blind, and fitted to each picture for minutes: only where iterations are asked for."""
SEEDS = 3
"""Of each deep row, which tells their mean."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Degradation of photographs: PSF for pixels of 1 µm, photons in white, read noise.

    The read noise is a share of white.
    """

    psf: str = DEFAULT_PSF
    photons: float = 1000.0
    read_noise: float = 0.005

    @property
    def fwhm_px(self) -> float:
        """Full width at half maximum of the PSF."""
        kernel = parse_psf(self.psf, 2).kernel((1.0, 1.0, 1.0), 2)[0]
        return 2.0 * float(np.sqrt((kernel >= 0.5 * kernel.max()).sum() / np.pi))


@dataclass(frozen=True)
class PhotographReport:
    """PSNR in dB of each picture and method, and the setting of the best."""

    setting: Setting
    weights: str
    psnr_db: Mapping[str, Mapping[str, float]]
    best: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    deep_iterations: int = 0

    @property
    def methods(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(next(iter(self.psnr_db.values())))

    def mean_db(self, method: str) -> float:
        """Return a method's mean over the pictures."""
        return float(np.mean([row[method] for row in self.psnr_db.values()]))

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        means = {name: self.mean_db(name) for name in self.methods}
        return {
            "psf": self.setting.psf,
            "photons": self.setting.photons,
            "read_noise": self.setting.read_noise,
            "weights": self.weights,
            "deep_iterations": self.deep_iterations,
            "mean_psnr_db": means,
            "psnr_db": {k: dict(v) for k, v in self.psnr_db.items()},
            "best": {k: dict(v) for k, v in self.best.items()},
        }


def read_photographs(folder: Path, most_px: int = MAX_PX) -> dict[str, FloatArray]:
    """Return the pictures of a folder as grey values from 0 to 1.

    Sides are even and at most ``most_px`` pixels; larger pictures are cropped to their middle.

    Raises
    ------
    ReadError
        The folder holds no picture of 64 × 64 pixels or more.
    """
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() not in SUFFIXES:
            continue
        try:
            with Image.open(path) as image:
                grey = np.asarray(image.convert("F"), np.float32)
        except (UnidentifiedImageError, OSError) as error:
            raise ReadError(
                str(path), "it cannot be read as a picture; take it out of the folder"
            ) from error
        if min(grey.shape) < MIN_PX:
            continue
        rows, columns = ((n - min(n, most_px)) // 2 for n in grey.shape)
        height, width = (min(n, most_px) // 2 * 2 for n in grey.shape)
        part = grey[rows : rows + height, columns : columns + width]
        found[path.stem] = np.asarray(
            (part - part.min()) / max(float(part.max() - part.min()), 1e-6), np.float32
        )
    if not found:
        raise ReadError(
            str(folder),
            f"there is no picture of at least {MIN_PX} × {MIN_PX} pixels; give a folder of PNG, "
            "TIFF or JPEG",
        )
    return found


def aligned_psnr_db(image: FloatArray, truth: FloatArray) -> float:
    """Return the PSNR after the best ``a · image + b``, off the border, for a range of 1."""
    inside = (slice(BORDER_PX, -BORDER_PX),) * 2
    a, b = image[inside].astype(np.float64).ravel(), truth[inside].astype(np.float64).ravel()
    slope, offset = np.polyfit(a, b, 1)
    return float(-10 * np.log10(max(float(np.mean((slope * a + offset - b) ** 2)), 1e-12)))


def _degraded(truth: FloatArray, setting: Setting, seed: int) -> FloatArray:
    microscope = FineMicroscope(parse_psf(setting.psf, 2), 1.0, 1)
    rng = np.random.default_rng([seed, 3])
    counts = (
        rng.poisson(np.clip(microscope.expected(truth), 0, None) * setting.photons)
        / setting.photons
    )
    return np.asarray(counts + rng.normal(0, setting.read_noise, truth.shape), np.float32)


def _restored(
    y: FloatArray, setting: Setting, weights: str | None, device: str
) -> tuple[FloatArray, str]:
    """Return the result of DPS and the model that it used."""
    stack = Stack.from_array(y, "YX", (1.0, 1.0))
    request = EnhanceRequest(
        method="dps",
        psf=setting.psf,
        weights=weights,
        device=device,
        background=0.0,
        arbitrate=False,
    )
    result = enhance(stack, request)
    found = np.asarray(result.stack.read(), np.float32)
    return found.reshape(found.shape[-2:]), str(result.provenance.notes["model"])


def _best(truth: FloatArray, tried: Iterable[tuple[str, FloatArray]]) -> tuple[float, str]:
    return max(
        ((aligned_psnr_db(image, truth), name) for name, image in tried), key=lambda found: found[0]
    )


def _rivals(
    y: FloatArray, microscope: FineMicroscope, pedestal: float, fwhm_px: float
) -> dict[str, Iterable[tuple[str, FloatArray]]]:
    """Return the results of each rival by setting, computed on demand."""
    from skimage.restoration import denoise_tv_chambolle

    variation = (
        (f"weight {weight:g}, {count} iterations", image)
        for weight in TV_WEIGHTS
        for count, image in microscope.richardson_lucy(y, pedestal, weight)
    )
    return {
        "identity": [("", y)],
        "Wiener": (
            (f"noise to signal {ratio:.2g}", image) for ratio, image in microscope.wiener(y)
        ),
        "RL": (
            (f"{count} iterations", image)
            for count, image in microscope.richardson_lucy(y, pedestal)
        ),
        "RL-TV": variation,
        "TV": (
            (f"weight {weight:g}", np.asarray(denoise_tv_chambolle(y, weight=weight)))
            for weight in SMOOTHING
        ),
        "MSSR": (
            (f"order {order}", mean_shift_resolution(y, fwhm_px, order)) for order in (0, 1, 2)
        ),
        "Sparse": sparse_deconvolution(y, microscope, pedestal),
    }


def _deep(y: FloatArray, truth: FloatArray, iterations: int) -> dict[str, float]:
    """Return the mean PSNR over the seeds of the methods that find picture and kernel alone."""
    found = {}
    for name in DEEP:
        runs = [
            deep_prior(y, DeepPrior(iterations=iterations, guided=name == "W-DIP", seed=seed))
            for seed in range(SEEDS)
        ]
        found[name] = float(
            np.mean([aligned_psnr_db(_registered(image, truth), truth) for image, _ in runs])
        )
    return found


def _registered(image: FloatArray, truth: FloatArray) -> FloatArray:
    """Move a picture by whole pixels onto the truth: a blind method may shift it and its kernel."""
    from skimage.registration import phase_cross_correlation

    shift, _, _ = phase_cross_correlation(truth, image)
    rows, columns = (int(np.clip(round(n), -BORDER_PX, BORDER_PX)) for n in shift)
    return np.roll(image, (rows, columns), axis=(0, 1))


def measure_photographs(
    folder: Path,
    setting: Setting | None = None,
    *,
    weights: str | None = None,
    device: str = "cpu",
    most_px: int = MAX_PX,
    deep_iterations: int = 0,
    on_progress: Callable[[str, float], None] = lambda _title, _share: None,
) -> PhotographReport:
    """Degrade and restore every picture of a folder.

    Parameters
    ----------
    folder : Path
        Of pictures.
    setting : Setting, optional
        How they are degraded.
    weights : str, optional
        Of DPS; left out, those that ship.
    device : str
        Where to compute.
    most_px : int
        Longest side; larger pictures are cropped.
    deep_iterations : int
        Of SelfDeblur and W-DIP, each with three seeds; 0 leaves both out.
    on_progress : callable
        Told the picture and the share that is done.

    Raises
    ------
    ReadError
        There is no picture.
    MethodError
        The PSF cannot be used.
    """
    setting = setting or Setting()
    microscope = FineMicroscope(parse_psf(setting.psf, 2), 1.0, 1)
    pictures = read_photographs(folder, most_px)
    pedestal = setting.photons * setting.read_noise**2
    quality: dict[str, dict[str, float]] = {}
    best: dict[str, dict[str, str]] = {}
    model = ""
    for number, (title, truth) in enumerate(pictures.items()):
        on_progress(title, number / len(pictures))
        y = _degraded(truth, setting, number)
        tried = _rivals(y, microscope, pedestal, setting.fwhm_px)
        rows = {name: _best(truth, found) for name, found in tried.items()}
        image, model = _restored(y, setting, weights, device)
        rows["DPS"] = (aligned_psnr_db(image, truth), "")
        quality[title] = {name: rows[name][0] for name in METHODS}
        if deep_iterations:
            quality[title] |= _deep(y, truth, deep_iterations)
        best[title] = {name: rows[name][1] for name in METHODS if rows[name][1]}
    return PhotographReport(setting, model, quality, best, deep_iterations)


def photographs_table(report: PhotographReport) -> TextTable:
    """Return PSNR of every picture and method, and the mean."""
    methods = report.methods
    header = ("picture", *methods)
    rows = [
        (title, *(f"{row[name]:.2f}" for name in methods)) for title, row in report.psnr_db.items()
    ]
    rows.append(("**mean**", *(f"**{report.mean_db(name):.2f}**" for name in methods)))
    ahead = report.mean_db("DPS") - report.mean_db("RL")
    setting = report.setting
    foot = (
        f"PSNR in dB after the best affine fit, 12 pixels from the border. PSF `{setting.psf}` "
        "with pixels of 1 µm,"
        f" {setting.photons:g} photons in white, read noise {100 * setting.read_noise:g} % of "
        "white.",
        "Wiener, RL, RL-TV, TV, MSSR and Sparse: true PSF and, for each picture, the setting that "
        "is best by the truth. DPS: trained once, on simulated"
        f" structures, weights `{report.weights}`.",
        f"DPS is {abs(ahead):.2f} dB {'above' if ahead >= 0 else 'below'} the best iteration of "
        "RL on the mean.",
    )
    if set(DEEP) <= set(methods):
        foot += (
            f"SelfDeblur and W-DIP are blind: mean of {SEEDS} seeds, fitted with "
            f"{report.deep_iterations} iterations of {DeepPrior().channels} channels (published: "
            "5000 of 128), moved by whole pixels onto the truth.",
        )
    return TextTable("Photographs", header, tuple(rows), foot)


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_photographs(
        Path(options.folders),
        Setting(options.psf, float(options.photons)),
        device=options.device,
        most_px=int(options.size),
        deep_iterations=int(options.deep_iterations),
        on_progress=tell,
    ),
    tables=lambda report: {"photographs": photographs_table(report)},
    page="methods/dps.md",
    options=(
        Option(
            "folders",
            "Folder of grey or colour pictures.",
            "DIR",
            required="the experiment photographs needs pictures; give a folder of them with "
            "--folders DIR",
        ),
        Option("psf", "PSF for pixels of 1 µm.", "SPEC", DEFAULT_PSF),
        Option("photons", "Photons in a white pixel.", "N", 1000, whole),
        Option("size", "Longest side in pixels; larger pictures are cropped.", "N", MAX_PX, whole),
        Option(
            "deep_iterations",
            "Iterations of SelfDeblur and W-DIP; 0 leaves both out.",
            "N",
            0,
            lambda name, text: 0 if text == "0" else whole(name, text),
        ),
        DEVICE,
    ),
)
