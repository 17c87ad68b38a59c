"""Response of a sharpening method to noise, to injected structure, and to twice the light.

::

    noise      uniform light: spots above half the response to a bead of 10 photons, per 10^6 pixels
    injected   beads, squares and rings added before the noise: recovered light, recovered position
    linearity  a bead twice as bright beside the first: ratio of the recovered light
    re-blur    deviance ratio of the result blurred again, and the share of flagged voxels

Beads, squares and rings are differences of means over several draws of noise, so that only the
injected structure differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmarks.resolving import FINER, STRAY, Scene
from benchmarks.rivals import FineMicroscope
from zenhance.simulate.specimen import Grid
from zenhance.simulate.structures import Structures
from zenhance.types import FloatArray

__all__ = ["Honesty", "judge_honesty", "noise_structures", "reblurred_deviance"]

Draw = Callable[[FloatArray], FloatArray]
BEAD_PHOTONS = 10.0
DRAWS = 6
FIELD_PX = 192


@dataclass(frozen=True, slots=True)
class Honesty:
    """Figures of a method.

    Parameters
    ----------
    false_dim, false_bright : float
        Spots per 10^6 pixels in even light of 2 and of 10 photons.
    mean_error : float
        Of the mean light there, as a share.
    injected : tuple of float
        Light found again of beads, squares and rings, as a share of what was put in.
    moved_px : float
        Largest displacement of a bead's peak, in camera pixels.
    doubled : float
        Light found of a bead twice as bright, over that of the first.
    scaled : float
        Largest difference between twice the result and the result of twice the picture, as a share
        of the range.
    discrepancy : float
        Deviance of the re-blurred result over its expectation, at 100 photons.
    """

    false_dim: float
    false_bright: float
    mean_error: float
    injected: tuple[float, float, float]
    moved_px: float
    doubled: float
    scaled: float
    discrepancy: float


def noise_structures(
    method: Draw, microscope: FineMicroscope, photons: float, seeds: int = 3
) -> tuple[float, float]:
    """Return false spots per 10^6 camera pixels of uniform light, and the error of the mean.

    A spot is a connected part above the mean by half the peak of a bead of 10 photons, imaged
    without noise on the same light. The result is in photons per camera pixel, as is the picture.
    """
    flat = np.full((FIELD_PX, FIELD_PX), photons, np.float32)
    bead = np.zeros((FIELD_PX * FINER,) * 2, np.float32)
    bead[FIELD_PX, FIELD_PX] = BEAD_PHOTONS * FINER**2
    response = float((method(flat + microscope.expected(bead)) - method(flat)).max())
    count, means = 0, []
    for seed in range(seeds):
        image = method(np.random.default_rng([seed, 9]).poisson(flat).astype(np.float32))
        inside = image[8 * FINER : -8 * FINER, 8 * FINER : -8 * FINER]
        means.append(float(inside.mean()))
        count += int(ndimage.label(inside > inside.mean() + response / 2)[1])
    pixels = seeds * (FIELD_PX - 16) ** 2
    return count / pixels * 1e6, float(np.mean(means) / photons - 1)


def _shape(kind: str, size: int, middle: tuple[int, int]) -> FloatArray:
    y, x = np.mgrid[:size, :size]
    dy, dx = np.abs(y - middle[0]), np.abs(x - middle[1])
    if kind == "bead":
        return np.asarray((dy <= 0) & (dx <= 0), np.float32)
    if kind == "square":
        return np.asarray((dy <= 5 * FINER) & (dx <= 5 * FINER), np.float32)
    away = np.hypot(dy, dx)
    return np.asarray((away > 4 * FINER) & (away < 5 * FINER), np.float32)


def _background(microscope: FineMicroscope, seed: int) -> Scene:
    """Return filaments to inject structure into, brightest pixel 1."""
    pixel = microscope.pixel_um / FINER
    dye = Structures(
        density=0.5,
        width_um=microscope.pixel_um,
        scale_um=60 * microscope.pixel_um,
        kind="filaments",
    ).render(Grid((1, FIELD_PX * FINER, FIELD_PX * FINER), (1.0, pixel, pixel)), seed)
    truth = dye.density[0, 0]
    expected = microscope.expected(truth)
    top = float(np.percentile(expected, 99.9))
    return Scene("filaments", truth / np.float32(top), expected / np.float32(top), None)


def judge_honesty(method: Draw, microscope: FineMicroscope, photons: float = 100.0) -> Honesty:
    """Measure a method.

    Parameters
    ----------
    method : callable
        Takes a picture (Y, X) above the background, returns light (2 Y, 2 X) in the same unit.
    microscope : FineMicroscope
        True PSF.
    photons : float
        In the brightest pixel, for what is injected and for the re-blur check.
    """
    false_dim, _ = noise_structures(method, microscope, 2.0)
    false_bright, mean_error = noise_structures(method, microscope, 10.0)
    scene = _background(microscope, 901)
    found, moved = [], 0.0
    for kind in ("bead", "square", "ring"):
        share, away = _injected(method, microscope, scene, kind, photons)
        found.append(share)
        moved = max(moved, away) if kind == "bead" else moved
    picture = scene.measured(photons, 901)
    once, twice = method(picture), method(2 * picture)
    scaled = float(
        np.abs(twice - 2 * once).max() / (2 * max(float(np.percentile(once, 99.9)), 1e-9))
    )
    discrepancy = _discrepancy(once, picture, microscope, photons)
    return Honesty(
        false_dim,
        false_bright,
        mean_error,
        (found[0], found[1], found[2]),
        moved,
        _doubled(method, microscope, photons),
        scaled,
        discrepancy,
    )


def _place(scene: Scene, margin: int = 24) -> tuple[int, int]:
    """Return the emptiest place (y, x) on the fine grid."""
    crowd = ndimage.uniform_filter(scene.truth, 24 * FINER)
    inner = crowd[margin * FINER : -margin * FINER, margin * FINER : -margin * FINER]
    row, column = np.unravel_index(int(inner.argmin()), inner.shape)
    return int(row) + margin * FINER, int(column) + margin * FINER


def _injected(
    method: Draw, microscope: FineMicroscope, scene: Scene, kind: str, photons: float
) -> tuple[float, float]:
    size, middle = scene.truth.shape[0], _place(scene)
    thing = _shape(kind, size, middle)
    thing *= 0.7 / float(microscope.expected(thing).max())
    with_it = Scene(kind, scene.truth + thing, scene.expected + microscope.expected(thing), None)
    after = np.mean([method(with_it.measured(photons, 40 + n)) for n in range(DRAWS)], axis=0)
    before = np.mean([method(scene.measured(photons, 60 + n)) for n in range(DRAWS)], axis=0)
    reach = 14 * FINER
    window = (
        slice(middle[0] - reach, middle[0] + reach + 1),
        slice(middle[1] - reach, middle[1] + reach + 1),
    )
    difference = (after - before)[window]
    share = float(difference.sum() / thing[window].sum())
    peak = np.unravel_index(
        int(ndimage.gaussian_filter(difference, FINER / 2).argmax()), difference.shape
    )
    return share, float(np.hypot(peak[0] - reach, peak[1] - reach) / FINER)


def _doubled(method: Draw, microscope: FineMicroscope, photons: float) -> float:
    """Return the light found of a bead twice as bright as another, over the other's."""
    size = FIELD_PX * FINER
    light = np.zeros((size, size), np.float32)
    places = [(size // 2, size // 4), (size // 2, 3 * size // 4)]
    for bright, (row, column) in zip((1.0, 2.0), places, strict=True):
        light[row, column] = bright
    light *= 1 / float(microscope.expected(light).max())
    scene = Scene("beads", light, microscope.expected(light), None)
    image = np.mean([method(scene.measured(photons, 80 + n)) for n in range(2 * DRAWS)], axis=0)
    dark = float(np.median(image))
    reach = 10 * FINER
    sums = [
        float((image[r - reach : r + reach + 1, c - reach : c + reach + 1] - dark).sum())
        for r, c in places
    ]
    return sums[1] / sums[0]


def reblurred_deviance(
    method: Draw, microscope: FineMicroscope, photons: float, seed: int
) -> float:
    """Return the deviance ratio of a method's re-blurred result on filaments of a seed."""
    picture = _background(microscope, seed).measured(photons, seed)
    return _discrepancy(method(picture), picture, microscope, photons)


def _discrepancy(
    result: FloatArray, picture: FloatArray, microscope: FineMicroscope, photons: float
) -> float:
    """Return the deviance ratio of the re-blurred result: deviance over its expectation."""
    from zenhance.assess.small_counts import expected_deviance, poisson_deviance

    inside = (slice(12, -12),) * 2
    model = np.clip((microscope.expected(result)[inside] + STRAY) * photons, 1e-3, None)
    counts = np.rint((picture[inside] + STRAY) * photons)
    return float(poisson_deviance(counts, model).mean() / expected_deviance(model, 0.0, 1.0).mean())
