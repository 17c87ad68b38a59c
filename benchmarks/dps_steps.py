"""Measures of the steps of DPS besides ``extend``, on pictures that no training has seen.

::

    structures ─► noise-free picture ─┬─► photons ─► denoise ─► compared with the noise-free picture
                                      ├─► twice the PSF, binned by 2, photons ─► sim_like ─► same
                                      └─► stripes or honeycomb, photons ─► artefacts ─► same

The rivals get the setting that is best by the truth of each picture, which favours them: no user
knows it. The steps of DPS have no such setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.experiments.photographs import aligned_psnr_db
from benchmarks.experiments.resolution import PIXEL_UM, PSF
from benchmarks.patterns import Pattern, put_on, share_left
from benchmarks.resolving import STRAY, Scene, line_chart, smallest_distance_px
from benchmarks.rivals import FineMicroscope, enlarged
from zenhance.physics.psf import parse_psf
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.simulate.specimen import Grid
from zenhance.simulate.structures import KINDS, Structures
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = [
    "ALL_KINDS",
    "MEASURED",
    "SIGMAS_PX",
    "Cleaned",
    "Finer",
    "fine_scene",
    "measure_artefacts",
    "measure_denoising",
    "measure_finer",
    "step_of",
    "wide_scene",
]

ALL_KINDS = (*KINDS, "mixed")
FIELD_PX = 192
MEASURED = "measurement"
SIGMAS_PX = tuple(float(v) for v in np.geomspace(0.4, 5.0, 14))
VARIATION = tuple(float(v) for v in np.geomspace(0.02, 1.2, 10))
LIKE_PATCHES = tuple(float(v) for v in np.geomspace(0.02, 0.6, 8))
"""h of non-local means, in units of the brightest pixel."""
WIDE_FWHM_UM = 0.18
"""Twice the width of the PSF, in pixels of twice the size."""
Draw = Callable[[FloatArray], FloatArray]
Tried = Iterable[FloatArray]
Tell = Callable[[str, float], None]


def step_of(
    settings: Mapping[str, Any],
    weights: str | None = None,
    device: str = "cpu",
    *,
    fwhm_um: float = 0.09,
) -> Draw:
    """Return a step of DPS as a function of a background-free picture.

    Parameters
    ----------
    settings : mapping
        Of the method.
    weights : str, optional
        Name or path; left out, those that ship.
    device : str
        Where to compute.
    fwhm_um : float
        Of the PSF; pixels are a third of it.
    """

    def run(y: FloatArray) -> FloatArray:
        stack = Stack.from_array(
            np.ascontiguousarray(y, np.float32), "YX", (fwhm_um / 3, fwhm_um / 3)
        )
        request = EnhanceRequest(
            method="dps",
            arbitrate=False,
            settings=dict(settings),
            psf=f"srpsf:fwhm_um={fwhm_um:g}",
            weights=weights,
            device=device,
            background=0.0,
        )
        found = np.asarray(enhance(stack, request).stack.read(), np.float32)
        return found.reshape(found.shape[-2:])

    return run


@cache
def fine_scene(kind: str, seed: int, size_px: int = FIELD_PX) -> Scene:
    """Return structures of a kind and their noise-free picture; the PSF is 3 pixels wide."""
    microscope = FineMicroscope(parse_psf(PSF, 2), PIXEL_UM)
    pixel = PIXEL_UM / microscope.finer
    grid = Grid((1, size_px * microscope.finer, size_px * microscope.finer), (1.0, pixel, pixel))
    truth = Structures.model_validate({"kind": kind}).render(grid, seed).density[0, 0]
    return _scene(kind, truth, microscope.expected(truth))


def _scene(kind: str, truth: FloatArray, expected: FloatArray, facts: Any = None) -> Scene:
    top = np.float32(np.percentile(expected, 99.9))
    return Scene(
        kind, np.asarray(truth / top, np.float32), np.asarray(expected / top, np.float32), facts
    )


def _best(images: Tried, truth: FloatArray) -> float:
    """Return the highest PSNR of all settings."""
    return max(aligned_psnr_db(image, truth) for image in images)


def _rivals(y: FloatArray) -> dict[str, Tried]:
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    return {
        MEASURED: [y],
        "Gaussian": (_gaussian(sigma)(y) for sigma in SIGMAS_PX),
        "total variation": (
            np.asarray(denoise_tv_chambolle(y, weight=weight), np.float32) for weight in VARIATION
        ),
        "non-local means": (
            np.asarray(
                denoise_nl_means(y, patch_size=5, patch_distance=6, h=h, fast_mode=True), np.float32
            )
            for h in LIKE_PATCHES
        ),
    }


def measure_denoising(
    draws: Mapping[str, Draw],
    levels: Sequence[float],
    seeds: Sequence[int],
    tell: Tell = lambda _title, _share: None,
    *,
    kinds: Sequence[str] = ALL_KINDS,
    size_px: int = FIELD_PX,
) -> dict[str, dict[float, dict[str, float]]]:
    """Return PSNR in dB against the noise-free picture.

    The keys are method, photons in the brightest pixel, and kind of structure.


    Parameters
    ----------
    draws : mapping
        Rows besides the rivals: a picture in, a picture out.
    levels : sequence of float
        Photons in the brightest pixel.
    seeds : sequence of int
        Of the specimens, which no training has seen.
    tell : callable
        Told what comes next, and the share that is done.
    kinds : sequence of str
        Of structures.
    size_px : int
        Edge of a picture.
    """
    found: dict[str, dict[float, dict[str, list[float]]]] = {}
    for number, photons in enumerate(levels):
        tell(f"noise at {photons:g} photons", number / len(levels))
        for kind in kinds:
            for seed in seeds:
                scene = fine_scene(kind, seed, size_px)
                y = scene.measured(photons, seed)
                for name, images in {
                    **_rivals(y),
                    **{name: [draw(y)] for name, draw in draws.items()},
                }.items():
                    figures = found.setdefault(name, {}).setdefault(photons, {})
                    figures.setdefault(kind, []).append(_best(images, scene.expected))
    return {
        name: {
            photons: {kind: float(np.mean(values)) for kind, values in figures.items()}
            for photons, figures in rows.items()
        }
        for name, rows in found.items()
    }


@dataclass(frozen=True)
class Finer:
    """Smallest distance of line pairs in nm, and PSNR in dB against the sharper picture by kind."""

    distance_nm: float
    psnr_db: Mapping[str, float]


@dataclass(frozen=True)
class _Pair:
    """Noise-free picture of a sharper microscope, and the scene at half its resolution."""

    sharper: FloatArray
    wide: Scene


@cache
def _microscopes() -> tuple[FineMicroscope, FineMicroscope]:
    """Return the sharper microscope, and the one that adds a Gaussian and bins pixels by two."""
    extra = (WIDE_FWHM_UM**2 - (WIDE_FWHM_UM / 2) ** 2) ** 0.5
    return FineMicroscope(parse_psf(PSF, 2), PIXEL_UM, 1), FineMicroscope(
        parse_psf(f"fwhm_um={extra},{extra}", 2), 2 * PIXEL_UM
    )


def wide_scene(kind: str, seed: int, size_px: int = FIELD_PX) -> _Pair:
    """Return a pair of pictures of structures of a kind, or of a chart of line ``pairs``."""
    sharp, wider = _microscopes()
    if kind == "pairs":
        chart = line_chart(wider, seed)
        truth, facts = chart.truth, chart.facts
    else:
        grid = Grid((1, 2 * size_px, 2 * size_px), (1.0, PIXEL_UM, PIXEL_UM))
        truth, facts = (
            Structures.model_validate({"kind": kind}).render(grid, seed).density[0, 0],
            None,
        )
    picture = sharp.expected(truth)
    return _Pair(
        np.asarray(picture / np.percentile(picture, 99.9), np.float32),
        _scene(kind, truth, wider.expected(picture), facts),
    )


def measure_finer(
    draws: Mapping[str, Draw],
    levels: Sequence[float],
    seeds: Sequence[int],
    tell: Tell = lambda _title, _share: None,
    *,
    kinds: Sequence[str] = ALL_KINDS,
    size_px: int = FIELD_PX,
) -> dict[str, dict[float, Finer]]:
    """Return how much of the sharper picture is recovered, by method and photons.

    The row of the sharper picture itself, without noise, is the upper bound. Parameters as for
    :func:`measure_denoising`; the functions return pictures on the pixels of the sharper one.
    """
    _, wider = _microscopes()
    kept: dict[str, dict[float, dict[str, list[float]]]] = {}
    for number, photons in enumerate(levels):
        tell(f"half the resolution at {photons:g} photons", number / len(levels))
        for kind in ("pairs", *kinds):
            for seed in seeds:
                pair = wide_scene(kind, seed, size_px)
                y = pair.wide.measured(photons, seed)
                tried: dict[str, list[FloatArray]] = {
                    "enlarged": [enlarged(y, 2)],
                    "RL": [image for _, image in wider.richardson_lucy(y, STRAY)],
                    **{name: [draw(y)] for name, draw in draws.items()},
                    "sharper picture": [pair.sharper],
                }
                for name, images in tried.items():
                    figures = kept.setdefault(name, {}).setdefault(photons, {})
                    figures.setdefault(kind, []).append(_figure(images, pair, wider))
    return {
        name: {
            photons: Finer(
                1000 * wider.pixel_um * float(np.mean(figures["pairs"])),
                {kind: float(np.mean(figures[kind])) for kind in kinds},
            )
            for photons, figures in rows.items()
        }
        for name, rows in kept.items()
    }


def _figure(images: Sequence[FloatArray], pair: _Pair, wider: FineMicroscope) -> float:
    """Return the smallest distance of a chart, or the best PSNR of structures."""
    if pair.wide.kind == "pairs":
        found = [smallest_distance_px(image, pair.wide, wider) for image in images]
        return min((v for v in found if np.isfinite(v)), default=float("nan"))
    return _best(images, pair.sharper)


@dataclass(frozen=True)
class Cleaned:
    """PSNR in dB with and without a pattern, and the share of the pattern's energy left."""

    psnr_db: float
    left: float
    plain_db: float


def measure_artefacts(
    draws: Mapping[str, Draw],
    levels: Sequence[float],
    seeds: Sequence[int],
    tell: Tell = lambda _title, _share: None,
    *,
    kinds: Sequence[str] = ALL_KINDS,
    size_px: int = FIELD_PX,
) -> dict[str, dict[float, Cleaned]]:
    """Return what remains of stripes and honeycomb, and what happens to clean pictures.

    Parameters as for :func:`measure_denoising`.
    """
    kept: dict[str, dict[float, list[tuple[float, float, float]]]] = {}
    for number, photons in enumerate(levels):
        tell(f"patterns at {photons:g} photons", number / len(levels))
        for place, kind in enumerate(kinds):
            for seed in seeds:
                scene = fine_scene(kind, seed, size_px)
                pattern = Pattern.drawn(
                    ("stripes", "honeycomb")[(place + seed) % 2], 1000 * place + seed
                )
                bad = Scene(
                    kind, scene.truth, np.clip(put_on(scene.expected, pattern), 0, None), None
                )
                y, plain = bad.measured(photons, seed), scene.measured(photons, seed + 1)
                sigma = max(
                    SIGMAS_PX, key=lambda s: aligned_psnr_db(_gaussian(s)(y), scene.expected)
                )
                rows: dict[str, Draw] = {
                    MEASURED: lambda image: image,
                    "Gaussian": _gaussian(sigma),
                    **draws,
                }
                for name, draw in rows.items():
                    image = np.asarray(draw(y), np.float32)
                    found = (
                        aligned_psnr_db(image, scene.expected),
                        share_left(image, scene.expected, pattern),
                        aligned_psnr_db(np.asarray(draw(plain), np.float32), scene.expected),
                    )
                    kept.setdefault(name, {}).setdefault(photons, []).append(found)
    return {
        name: {
            photons: Cleaned(*(float(v) for v in np.mean(found, axis=0)))
            for photons, found in rows.items()
        }
        for name, rows in kept.items()
    }


def _gaussian(sigma: float) -> Draw:
    return lambda y: np.asarray(ndimage.gaussian_filter(y, sigma), np.float32)
