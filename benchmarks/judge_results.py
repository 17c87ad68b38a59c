"""Results for the judge of known honesty: plain restorations, and the truth with planted errors.

Each planted error is a change of the sharp truth, which steps towards the data may then cover up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage

from benchmarks.judge_scenes import SIGMA_UM, VOXEL_UM, JudgedScene, blur_by
from zenhance.assess.reblur import PSF_TOLERANCE
from zenhance.assess.smoothness import MatchedFilter
from zenhance.physics.blur import Blur
from zenhance.physics.psf import gaussian
from zenhance.solvers.data_consistency import data_consistency_step
from zenhance.solvers.wiener import Wiener
from zenhance.steps import drain
from zenhance.types import FloatArray

__all__ = ["HONEST", "LIARS", "expected_score", "richardson_lucy", "towards_the_data"]

RIM_PX = (9, 14, 14)
"""Errors are planted so far from the border."""
SIGMA_PX = tuple(s / v for s, v in zip(SIGMA_UM, VOXEL_UM, strict=True))

Liar = Callable[[JudgedScene, np.random.Generator], FloatArray]


def _blur(scene: JudgedScene) -> Blur:
    depth, height, width = scene.measured.shape
    return Blur.from_psf(scene.profile.psf_at(0.0), VOXEL_UM, (depth, height, width))


def towards_the_data(scene: JudgedScene, x: FloatArray, steps: int) -> FloatArray:
    """Return a result in photons after so many damped Richardson-Lucy steps towards the data."""
    background, gain = np.float32(scene.profile.background.value), np.float32(scene.camera.gain)
    shift = float(background) - scene.camera.read_noise**2 / scene.camera.gain - 0.5 * float(gain)
    estimate = torch.from_numpy(np.ascontiguousarray(x * gain + background))
    measured, blur = torch.from_numpy(scene.measured.astype(np.float32)), _blur(scene)
    for _ in range(steps):
        estimate = data_consistency_step(estimate, measured, blur, shift, 1e-3 * float(gain), 1.0)
    return np.asarray((estimate.numpy() - background) / gain, np.float32)


def richardson_lucy(scene: JudgedScene, iterations: int, smooth: float = 0.0) -> FloatArray:
    """Return a plain Richardson-Lucy estimate, with a total-variation prior if asked for."""
    blur = _blur(scene)
    data, background = _photons(scene)
    x = torch.full_like(data, float(data.mean()))
    for _ in range(iterations):
        update = blur.adjoint(data / (blur(x) + background).clamp_min(1e-3))
        if smooth:
            update /= (1.0 - smooth * _curvature(x)).clamp_min(0.3)
        x = x * update
    return np.asarray(x.numpy())


def _photons(scene: JudgedScene) -> tuple[torch.Tensor, float]:
    """Return the measurement in photons with the read noise as light, and that of no specimen."""
    gain, offset = scene.camera.gain, scene.camera.offset
    extra = (scene.camera.read_noise / gain) ** 2
    data = torch.from_numpy((scene.measured.astype(np.float32) - offset) / gain + extra)
    return data.clamp_min(0), (scene.profile.background.value - offset) / gain + extra


def posterior_mean(scene: JudgedScene, rounds: int = 60) -> FloatArray:
    """Return the mean of a factorised posterior: Poisson light, sparse gamma prior (Cemgil 2009).

    Each voxel's light has shape 0.5 in advance, and the mean of the measurement.
    """
    blur = _blur(scene)
    data, background = _photons(scene)
    shape = 0.5
    rate = shape / max(float(data.mean()) - background, 1e-3)
    counts = data.clone()
    for _ in range(rounds):
        typical = torch.exp(torch.digamma(shape + counts)) / (rate + 1.0)
        seen = (blur(typical) + background).clamp_min(1e-3)
        counts = typical * blur.adjoint(data / seen)
    return np.asarray(((shape + counts) / (rate + 1.0)).numpy())


def wiener(scene: JudgedScene) -> FloatArray:
    """Return the Wiener filter's result, with the noise-to-signal ratio of the truth."""
    data, background = _photons(scene)
    kernel = scene.profile.psf_at(0.0).kernel(VOXEL_UM)
    filtered = Wiener(kernel, float(data.mean()) / float(np.square(scene.truth).mean()))
    return np.asarray(drain(filtered.apply(data - background)).numpy())


def _curvature(x: torch.Tensor) -> torch.Tensor:
    """Return the divergence of the normalised gradient (Dey et al. 2006)."""
    steps = [torch.diff(x, dim=a, append=x.narrow(a, -1, 1)) for a in range(3)]
    length = torch.sqrt(sum(s * s for s in steps) + 1e-4 * float(x.mean()) ** 2 + 1e-8)
    return sum(
        torch.diff(s / length, dim=a, prepend=torch.zeros_like(s.narrow(a, 0, 1)))
        for a, s in enumerate(steps)
    )


def _steps_of_truth(scene: JudgedScene) -> FloatArray:
    return towards_the_data(scene, scene.truth, 6)


HONEST: dict[str, tuple[Callable[[JudgedScene], FloatArray], bool]] = {
    "truth": (lambda scene: scene.truth, True),
    "truth, 6 steps": (_steps_of_truth, True),
    "Richardson-Lucy, 30": (lambda scene: richardson_lucy(scene, 30), True),
    "Richardson-Lucy, 100": (lambda scene: richardson_lucy(scene, 100), True),
    "Richardson-Lucy, TV": (lambda scene: richardson_lucy(scene, 100, 0.005), True),
    "Wiener": (wiener, True),
    "posterior mean": (posterior_mean, True),
    "ideal denoiser": (lambda scene: blur_by(scene.profile, scene.truth), False),
}
"""Results without inventions, and whether they are free of blur."""


def _place(scene: JudgedScene, rng: np.random.Generator, bright: bool = True) -> list[int]:
    """Return a bright, or an empty, voxel away from the border."""
    inner = scene.truth[tuple(slice(r, -r) for r in RIM_PX)]
    smooth = ndimage.gaussian_filter(inner, 1.0)
    chosen = smooth >= np.percentile(smooth, 98) if bright else smooth <= np.percentile(smooth, 20)
    places = np.argwhere(chosen)
    return list(places[rng.integers(len(places))] + RIM_PX)


def _box(at: list[int], sizes: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    z, y, x = (slice(a - n // 2, a - n // 2 + n) for a, n in zip(at, sizes, strict=True))
    return (z, y, x)


def _hole(scene: JudgedScene, rng: np.random.Generator) -> FloatArray:
    x = scene.truth.copy()
    x[_box(_place(scene, rng), (2, 3, 3))] = 0.0
    return x


def _gap(scene: JudgedScene, rng: np.random.Generator) -> FloatArray:
    x = scene.truth.copy()
    x[_box(_place(scene, rng), (4, 5, 5))] *= 0.3
    return x


def _bead(scene: JudgedScene, rng: np.random.Generator) -> FloatArray:
    x = scene.truth.copy()
    spot = np.zeros((25, 25, 25), np.float32)
    spot[12, 12, 12] = 1.0
    peak = float(blur_by(scene.profile, spot).max())
    x[tuple(_place(scene, rng, bright=False))] += 0.25 * scene.photons / peak
    return x


def _bridge(scene: JudgedScene, rng: np.random.Generator) -> FloatArray:
    x = scene.truth.copy()
    at = _place(scene, rng, bright=False)
    x[_box(at, (3, 2, 11))] += float(np.percentile(scene.truth, 99.5))
    return x


def _moved(scene: JudgedScene, rng: np.random.Generator) -> FloatArray:
    x = scene.truth.copy()
    box = _box(_place(scene, rng), (8, 12, 12))
    x[box] = np.roll(x[box], 2, axis=2)
    return x


def _mesh(scene: JudgedScene, _rng: np.random.Generator) -> FloatArray:
    y, x = np.mgrid[: scene.truth.shape[1], : scene.truth.shape[2]]
    lines = (y % 8 < 2) | (x % 8 < 2)
    return scene.truth + np.float32(0.15 * np.percentile(scene.truth, 99.5)) * lines.astype(
        np.float32
    )


def _foam(scene: JudgedScene, rng: np.random.Generator) -> FloatArray:
    field = ndimage.gaussian_filter(rng.normal(size=scene.truth.shape), (1, 3, 3))
    walls = np.abs(field) < 0.15 * field.std()
    return scene.truth + np.float32(0.3 * np.percentile(scene.truth, 99.5)) * walls.astype(
        np.float32
    )


LIARS: dict[str, Liar] = {
    "hole of 2 × 3 × 3 voxels": _hole,
    "gap, 70 % fainter": _gap,
    "false bead, 25 % of the peak": _bead,
    "false wall piece": _bridge,
    "wall piece moved by 2 voxels": _moved,
    "mesh": _mesh,
    "foam": _foam,
    "all moved by 1 voxel": lambda scene, _: np.roll(scene.truth, 1, axis=2),
}


def expected_score(scene: JudgedScene, wrong: FloatArray, right: FloatArray) -> float:
    """Return the largest z-score that the difference of two results has on average.

    What an error of 5 % of the PSF's width could explain is taken off, as the judge does.
    """
    seen = blur_by(scene.profile, wrong)
    expected = seen + (scene.profile.background.value - scene.camera.offset) / scene.camera.gain
    read = (scene.camera.read_noise / scene.camera.gain) ** 2
    noise = np.sqrt(np.maximum(expected, 0.1) + read)
    sigma = gaussian(scene.sigma_um()).sigma_px(VOXEL_UM)
    matched = MatchedFilter(sigma)

    def score(change: FloatArray) -> FloatArray:
        return np.abs(matched.apply(np.asarray(change / noise, np.float32)))

    z_map = score(seen - blur_by(scene.profile, right))
    for z, yx in ((1.0 + PSF_TOLERANCE, 1.0), (1.0, 1.0 + PSF_TOLERANCE)):
        z_map = z_map - score(blur_by(scene.profile.widened(z, yx), wrong) - seen)
    rims = [int(np.ceil(3.0 * s)) for s in sigma]
    return float(z_map[tuple(slice(r, -r) for r in rims)].max())
