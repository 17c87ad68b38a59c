"""Resolution of a result: line pairs, thin lines, and Fourier ring correlation with the truth.

::

    line pairs   smallest distance down to which every pair has Rayleigh's dip of 26 %
    thin lines   median full width at half maximum of straight lines at all angles
    rings        Fourier ring correlation with the truth falls below 1/2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.measures import full_width
from benchmarks.rivals import FineMicroscope
from zenhance.assess.correlation import correlate_halves
from zenhance.simulate.charts import Charts
from zenhance.simulate.filaments import Filaments
from zenhance.simulate.specimen import Grid
from zenhance.types import FloatArray

__all__ = [
    "DIP",
    "Scene",
    "Sharpness",
    "line_chart",
    "line_width_px",
    "ring_limit_px",
    "sharpness",
    "smallest_distance_px",
    "thin_lines",
]

DIP = 0.26
"""Of two points a Rayleigh distance apart, the middle is 26 % darker than the peaks (Born & Wolf, §
8.6.2)."""
LIKE = 0.5
FINER = 2
FIELD_PX = 192
"""Edge of a scene in camera pixels."""
STRAY = 0.02
"""Stray light, relative to the brightest pixel."""
LARGEST, SMALLEST, STEPS = 8.0, 1.5, 20
"""Distances of line pairs in camera pixels."""
LINE_PX = 0.5
Profile = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """A truth on the fine grid, its noise-free picture (brightest pixel 1), and its facts."""

    kind: str
    truth: FloatArray
    expected: FloatArray
    facts: Any

    def measured(self, photons: float, seed: int) -> FloatArray:
        """Return the picture at so many photons in the brightest pixel, stray light subtracted."""
        rng = np.random.default_rng([seed, 77])
        return np.asarray(
            rng.poisson((self.expected + STRAY) * photons) / photons - STRAY, np.float32
        )


@dataclass(frozen=True, slots=True)
class Sharpness:
    """Figures in camera pixels; NaN where no distance is resolved or correlation never falls."""

    pairs_px: float
    width_px: float
    rings_px: float


def _scene(kind: str, density: FloatArray, facts: Any, microscope: FineMicroscope) -> Scene:
    expected = microscope.expected(density)
    top = float(np.percentile(expected, 99.9))
    return Scene(
        kind, np.asarray(density / top, np.float32), np.asarray(expected / top, np.float32), facts
    )


def _fine_grid(microscope: FineMicroscope) -> Grid:
    pixel = microscope.pixel_um / FINER
    return Grid((1, FIELD_PX * FINER, FIELD_PX * FINER), (1.0, pixel, pixel))


def line_chart(microscope: FineMicroscope, seed: int) -> Scene:
    """Return a chart of line pairs."""
    pixel = microscope.pixel_um
    chart = Charts(
        largest_um=LARGEST * pixel,
        smallest_um=SMALLEST * pixel,
        steps=STEPS,
        line_um=LINE_PX * pixel,
        gap_um=2 * LARGEST * pixel,
    )
    dye = chart.render(_fine_grid(microscope), seed)
    return _scene("pairs", dye.density[0, 0], dye.facts["pairs"], microscope)


def thin_lines(microscope: FineMicroscope, seed: int) -> Scene:
    """Return separate straight thin lines at all angles; the facts are their ends (y, x).

    The ends are in fine pixels.
    """
    rng = np.random.default_rng([seed, 5])
    size, length = FIELD_PX * FINER, 60.0 * FINER
    plane = np.zeros((size, size), np.float64)
    ends: list[tuple[Profile, Profile]] = []
    cell = size // 4
    for row in range(4):
        for column in range(4):
            angle = rng.uniform(0, np.pi)
            middle = (np.array([row, column]) + 0.5) * cell + rng.uniform(-4, 4, 2)
            half = 0.4 * min(length, cell) * np.array([np.sin(angle), np.cos(angle)])
            ends.append((middle - half, middle + half))
            points = middle + half * np.linspace(-1, 1, 8 * cell)[:, None]
            _spill(plane, points, rng.uniform(0.5, 1.0))
    return _scene("lines", plane.astype(np.float32), ends, microscope)


def _spill(plane: npt.NDArray[np.float64], points: Profile, bright: float) -> None:
    low = np.floor(points).astype(int)
    share = points - low
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - share[:, 0]) * np.abs(1 - right - share[:, 1]) * bright
            np.add.at(plane, (low[:, 0] + down, low[:, 1] + right), weight)


def filaments(microscope: FineMicroscope, seed: int) -> Scene:
    """Return crowded curved filaments, for the correlation with the truth."""
    pixel = microscope.pixel_um
    model = Filaments(
        width_um=min(0.5, 0.8 * pixel),
        length_um=200 * pixel,
        persistence_um=400 * pixel,
        density_per_um=0.04 / pixel,
    )
    return _scene(
        "filaments", model.render(_fine_grid(microscope), seed).density[0, 0], None, microscope
    )


def smallest_distance_px(image: FloatArray, scene: Scene, microscope: FineMicroscope) -> float:
    """Return the smallest resolved distance of line pairs in camera pixels, interpolated."""
    pixel = microscope.pixel_um / FINER
    before: tuple[float, float] | None = None
    for pair in scene.facts:
        distance = pair["distance_um"] / microscope.pixel_um
        dip = _dip(image, pair, pixel)
        if dip < DIP:
            if before is None:
                return float("nan")
            return float(distance + (before[0] - distance) * (DIP - dip) / (before[1] - dip))
        before = (distance, dip)
    return before[0] if before else float("nan")


def _dip(image: FloatArray, pair: Any, pixel_um: float) -> float:
    """Return how much darker the middle between two lines is than the fainter line."""
    start, stop = (round(v / pixel_um) for v in pair["span_um"])
    spare = (stop - start) // 8
    profile = image[start + spare : stop - spare].astype(np.float64).mean(axis=0)
    first, second = (v / pixel_um - 0.5 for v in pair["centres_um"])
    apart = second - first
    places = np.arange(profile.size)

    def level(low: float, high: float) -> Profile:
        return np.asarray(np.interp(np.linspace(low, high, 15), places, profile))

    peaks = [level(c - 0.35 * apart, c + 0.35 * apart).max() for c in (first, second)]
    valley = level(first + 0.3 * apart, second - 0.3 * apart).min()
    return float(1 - valley / max(min(peaks), 1e-9))


def line_width_px(image: FloatArray, scene: Scene) -> float:
    """Return the median full width of the lines at half maximum, in camera pixels."""
    widths = []
    across = np.linspace(-8 * FINER, 8 * FINER, 16 * FINER * 8 + 1)
    for a, b in scene.facts:
        along = (b - a) / np.linalg.norm(b - a)
        normal = np.array([-along[1], along[0]])
        places = a + (b - a) * np.linspace(0.15, 0.85, 60)[:, None]
        points = places[:, None] + across[None, :, None] * normal
        profile = ndimage.map_coordinates(
            image, points.transpose(2, 0, 1), order=1, mode="nearest"
        ).mean(axis=0)
        level = profile - np.percentile(profile, 20)
        widths.append(full_width(level, int(level.argmax())) * (across[1] - across[0]) / FINER)
    return float(np.median(widths))


def ring_limit_px(image: FloatArray, scene: Scene) -> float:
    """Return the period in camera pixels where correlation with the truth falls below 1/2."""
    pitch = 1.0 / FINER
    curve = correlate_halves(image[None], scene.truth[None], (1.0, pitch, pitch), mode="ring")
    like, frequency = np.asarray(curve.correlation), np.asarray(curve.frequency)
    below = np.flatnonzero(like < LIKE)
    if below.size == 0:
        return 2 * pitch
    k = int(below[0])
    if k == 0:
        return float(1 / frequency[0])
    share = (like[k - 1] - LIKE) / (like[k - 1] - like[k])
    return float(1 / (frequency[k - 1] + share * (frequency[k] - frequency[k - 1])))


def sharpness(
    method: Callable[[FloatArray], FloatArray],
    microscope: FineMicroscope,
    photons: float,
    seeds: Sequence[int],
) -> Sharpness:
    """Measure a method on charts, lines and filaments of several seeds; means over the seeds."""
    found: dict[str, list[float]] = {"pairs": [], "lines": [], "rings": []}
    for seed in seeds:
        chart, lines, crowd = (
            make(microscope, seed) for make in (line_chart, thin_lines, filaments)
        )
        found["pairs"].append(
            smallest_distance_px(method(chart.measured(photons, seed)), chart, microscope)
        )
        found["lines"].append(line_width_px(method(lines.measured(photons, seed)), lines))
        found["rings"].append(ring_limit_px(method(crowd.measured(photons, seed)), crowd))
    return Sharpness(*(float(np.mean(found[name])) for name in ("pairs", "lines", "rings")))
