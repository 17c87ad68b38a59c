"""Hallucination probes: known weak structures planted into a measurement, and what becomes of them.

::

    measurement ─┬─ + spots, wall pieces (light added) ──┐
                 ├─ - gaps in walls (light taken away) ──┼─► method ─► found? by strength and depth
                 └─ planes in random order ──────────────┼─► method ─► continuity that is not there
    no specimen, clouds without walls ── camera ─────────┴─► method ─► structure that is not there

Light is added as photons, and taken away by thinning: each photon stays with the probability that
it comes from elsewhere. Both leave Poisson noise exact. A structure counts as found where its
contrast in the result exceeds that of 95 of 100 places without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import binomtest

from zenhance.assess.photons import Camera
from zenhance.assess.smoothness import MatchedFilter, peak_threshold
from zenhance.types import FloatArray, FloatTriple, Triple

__all__ = [
    "GAP",
    "PIECE",
    "SPOT",
    "Blank",
    "Field",
    "Finding",
    "Plant",
    "blank",
    "continuity",
    "false_structure",
    "findings",
    "plan_rounds",
    "planted",
    "shuffled_order",
    "summary",
]

SPOT, PIECE, GAP = "spot", "wall piece", "gap in a wall"
SHARES = (0.05, 0.15, 0.4)
"""Brightness of spots and wall pieces over that of the structures at the same depth."""
GAPS_FWHM = (1.0, 1.5, 2.5)
"""Widths, and heights, of gaps over the PSF's full width at half maximum in the plane."""
PIECE_FWHM = 3.0
"""Length of a wall piece, likewise."""
MAX_BANDS = 3
WANTED = 10
"""Structures of each kind, strength and band of depth, where there is room."""
FALSE_ALARMS = 0.05
MAX_CANDIDATES = 400
MAX_NULL = 150
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
_EMPTY, _WALL = 0.3, 0.4
"""Light over the brightness: at most so much beside a spot, at least so much in a wall."""

Blur = Callable[[FloatArray], FloatArray]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Plant:
    """A planted structure.

    Parameters
    ----------
    kind : str
        :data:`SPOT`, :data:`PIECE` or :data:`GAP`.
    strength : float
        Brightness over that of the structures at its depth; of a gap its width in µm.
    band : int
        Of depth, from the surface.
    at : tuple of int
        Voxel (z, y, x).
    angle : float
        Of its direction in the plane, from y to x, in radians.
    """

    kind: str
    strength: float
    band: int
    at: Triple
    angle: float


@dataclass(frozen=True, slots=True)
class Finding:
    """How often a kind of structure was found.

    Parameters
    ----------
    kind, strength
        As of :class:`Plant`.
    from_um, to_um : float
        Depths.
    planted, found : int
        Counts.
    low, high : float
        95 % interval of the share found (Wilson).
    shown : float
        Median contrast of the planted structure in the result over that in the measurement.
    """

    kind: str
    strength: float
    from_um: float
    to_um: float
    planted: int
    found: int
    low: float
    high: float
    shown: float

    @property
    def share(self) -> float:
        """Share found."""
        return self.found / self.planted

    def describe(self) -> str:
        """Return what was planted: ``gap in a wall of 0.6 µm``, ``spot of 20 %``."""
        size = f"{self.strength:.1f} µm" if self.kind == GAP else f"{100 * self.strength:.0f} %"
        return f"{self.kind} of {size}"


@dataclass(frozen=True)
class Field:
    """A measurement to plant in, and what is known of it.

    Parameters
    ----------
    measured : array (Z, Y, X)
        Grey values.
    camera : Camera
        Gain, offset and read noise in grey values.
    specimen : float32 array (Z, Y, X)
        A sharp estimate of the specimen above the background, in photons.
    background : float
        Grey value without specimen.
    depth_um : float32 array (Z, Y, X)
        Below the specimen's surface.
    blur : callable
        The microscope.
    sigma_um, voxel_um : tuple of float
        Width of its PSF in the middle of the depths, and voxel size.
    """

    measured: npt.NDArray[Any]
    camera: Camera
    specimen: FloatArray
    background: float
    depth_um: FloatArray
    blur: Blur
    sigma_um: FloatTriple
    voxel_um: FloatTriple

    def light(self) -> FloatArray:
        """Return the expected photons above the background (Z, Y, X)."""
        return np.maximum(self.blur(self.specimen), 0.0)

    @property
    def fwhm_um(self) -> tuple[float, float]:
        """Full width at half maximum of the PSF along z and in the plane, a voxel at least."""
        return (
            max(FWHM * self.sigma_um[0], self.voxel_um[0]),
            max(FWHM * math.sqrt(self.sigma_um[1] * self.sigma_um[2]), self.voxel_um[1]),
        )

    @property
    def sigma_px(self) -> FloatTriple:
        """The PSF's width in voxels."""
        z, y, x = (s / v for s, v in zip(self.sigma_um, self.voxel_um, strict=True))
        return (z, y, x)

    @property
    def inner(self) -> tuple[slice, slice, slice]:
        """The part to which hardly any light comes from outside."""
        rims = [
            min(math.ceil(3.0 * s), (n - 1) // 4)
            for s, n in zip(self.sigma_px, self.measured.shape, strict=True)
        ]
        z, y, x = (slice(r, n - r) for r, n in zip(rims, self.measured.shape, strict=True))
        return (z, y, x)

    def bands_um(self) -> npt.NDArray[np.float64]:
        """Return the edges of the bands of depth, whole micrometres."""
        deepest = float(np.quantile(self.depth_um[self.inner], 0.99))
        count = int(np.clip(deepest / (3.0 * self.fwhm_um[0]), 1, MAX_BANDS))
        return np.unique(np.ceil(np.linspace(0.0, deepest, count + 1)))

    def strengths(self) -> dict[str, tuple[float, ...]]:
        """Return what is planted of each kind."""
        gaps = tuple(round(k * self.fwhm_um[1], 1) for k in GAPS_FWHM)
        return {SPOT: SHARES, PIECE: SHARES, GAP: gaps}

    def photons(self) -> float:
        """Return photons of light without specimen."""
        return max((self.background - self.camera.offset) / self.camera.gain, 0.0)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where a structure's own light is, and where that is which it is compared with."""

    field: Field

    def _local(self, plant: Plant) -> tuple[tuple[slice, ...], list[npt.NDArray[np.float64]]]:
        """Return the surroundings of a place, and z, along and across in µm from it."""
        reach_um = (self.field.fwhm_um[0] * 1.5, *([self.field.fwhm_um[1] * 4.5] * 2))
        part, away = [], []
        for a, v, r, n in zip(plant.at, self.field.voxel_um, reach_um,
                              self.field.measured.shape, strict=True):  # fmt: skip
            low, high = max(0, a - math.ceil(r / v)), min(n, a + math.ceil(r / v) + 1)
            part.append(slice(low, high))
            away.append((np.arange(low, high) - a) * v)
        z, y, x = np.meshgrid(*away, indexing="ij")
        cos, sin = math.cos(plant.angle), math.sin(plant.angle)
        return tuple(part), [np.abs(z), np.abs(y * cos + x * sin), np.abs(x * cos - y * sin)]

    def body(self, plant: Plant) -> tuple[tuple[slice, ...], Mask]:
        """Return where a structure is put: a voxel, a thin plate, or a box across a wall."""
        part, (z, along, across) = self._local(plant)
        fwhm_z, fwhm = self.field.fwhm_um
        half = [0.51 * v for v in self.field.voxel_um]
        if plant.kind == SPOT:
            return part, (z <= half[0]) & (along <= half[1]) & (across <= half[1])
        if plant.kind == PIECE:
            long, wide, high = 0.5 * PIECE_FWHM * fwhm, half[1], 0.5 * fwhm_z
        else:
            long, wide, high = (
                0.5 * plant.strength,
                fwhm,
                0.5 * max(plant.strength, self.field.voxel_um[0]),
            )
        return part, (z <= high) & (along <= max(long, half[1])) & (across <= wide)

    def contrast(self, plant: Plant, image: FloatArray, unit: float) -> float:
        """Return the contrast at a place: of a gap its depth, else light beside the light around.

        Parameters
        ----------
        image : float32 array (Z, Y, X)
            Above the background.
        unit : float
            Brightness of the structures at that depth.
        """
        part, (z, along, across) = self._local(plant)
        fwhm_z, fwhm = self.field.fwhm_um
        level = z <= max(0.5 * fwhm_z, 0.5 * plant.strength if plant.kind == GAP else 0.0)
        if plant.kind == SPOT:
            away = np.hypot(along, across)
            core, around = away <= 0.5 * fwhm, (away >= fwhm) & (away <= 2.0 * fwhm)
        elif plant.kind == PIECE:
            near = along <= 0.5 * PIECE_FWHM * fwhm
            core = near & (across <= 0.5 * fwhm)
            around = near & (across >= fwhm) & (across <= 2.0 * fwhm)
        else:
            near, end = across <= 0.5 * fwhm, 0.5 * plant.strength
            core = near & (along <= max(end, 0.51 * self.field.voxel_um[1]))
            around = near & (along >= end + 0.5 * fwhm) & (along <= end + 1.5 * fwhm)
        seen = image[part]
        inside, beside = float(seen[core & level].mean()), float(seen[around & level].mean())
        if plant.kind == GAP:
            return 1.0 - inside / max(beside, 0.1 * unit)
        return (inside - beside) / unit


def _brightness(field: Field, light: FloatArray, edges: npt.NDArray[np.float64]) -> list[float]:
    """Return the photons of bright structures in each band."""
    inner = light[field.inner]
    band = _band(field, edges)[field.inner]
    whole = max(float(np.quantile(inner, 0.99)), 1e-3)
    return [
        max(float(np.quantile(inner[band == b], 0.99)), 0.05 * whole)
        if (band == b).any()
        else whole
        for b in range(len(edges) - 1)
    ]


def _band(field: Field, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.clip(np.digitize(field.depth_um, edges[1:-1]), 0, len(edges) - 2)


def _walls(field: Field, light: FloatArray) -> tuple[Mask, FloatArray]:
    """Return the middle lines of walls that stand on the plane, and their directions."""
    sigma = (0.0, field.sigma_px[1], field.sigma_px[2])
    yy, yx, xx = (
        ndimage.gaussian_filter(light, sigma, order=order)
        for order in ((0, 2, 0), (0, 1, 1), (0, 0, 2))
    )
    middle, apart = 0.5 * (yy + xx), np.hypot(0.5 * (yy - xx), yx)
    angle = 0.5 * np.arctan2(2.0 * yx, yy - xx)
    ridge = apart - middle
    straight = (ridge > 0) & (np.abs(middle + apart) < 0.5 * ridge)
    at = np.indices(light.shape, np.float32)

    def beside(along: float, across: float) -> FloatArray:
        dy = (along * np.cos(angle) - across * np.sin(angle)) / field.voxel_um[1]
        dx = (along * np.sin(angle) + across * np.cos(angle)) / field.voxel_um[2]
        moved = [at[0], at[1] + dy, at[2] + dx]
        found = ndimage.map_coordinates(light, moved, order=1, mode="nearest")
        return np.asarray(found, np.float32)

    step, end = field.voxel_um[1], (0.5 * GAPS_FWHM[-1] + 1.0) * field.fwhm_um[1]
    for across in (-step, step):
        straight &= light >= beside(0.0, across)
    for along in (-end, end):
        straight &= beside(along, 0.0) >= 0.5 * light
    return straight, angle


def _candidates(
    field: Field, light: FloatArray, edges: npt.NDArray[np.float64], rng: np.random.Generator
) -> dict[tuple[str, int], list[tuple[Triple, float]]]:
    """Return places and directions for each kind of structure in each band."""
    band = _band(field, edges)
    unit = np.array(_brightness(field, light, edges))[band]
    inside = np.zeros(light.shape, bool)
    inside[field.inner] = True
    size = [
        2 * math.ceil(k * f / v) + 1
        for k, f, v in zip((0.5, 1.5, 1.5), (field.fwhm_um[0], *[field.fwhm_um[1]] * 2),
                           field.voxel_um, strict=True)
    ]  # fmt: skip
    crowd = ndimage.maximum_filter(light, size) / unit
    walls, angle = _walls(field, light)
    walls &= inside & (light >= _WALL * unit)
    found: dict[tuple[str, int], list[tuple[Triple, float]]] = {}
    for b in range(len(edges) - 1):
        here = inside & (band == b)
        free = here & (crowd <= max(_EMPTY, float(np.quantile(crowd[here], 0.02, method="higher")))
                       if here.any() else False)  # fmt: skip
        for kind, mask in ((SPOT, free), (PIECE, free), (GAP, walls & (band == b))):
            places = np.argwhere(mask)
            chosen = places[rng.permutation(len(places))[:MAX_CANDIDATES]]
            turns = rng.uniform(0.0, math.pi, len(chosen))
            found[kind, b] = [
                ((int(z), int(y), int(x)), float(angle[z, y, x] if kind == GAP else turn))
                for (z, y, x), turn in zip(chosen, turns, strict=True)
            ]
    return found


def plan_rounds(field: Field, rounds: int, seed: int) -> tuple[list[list[Plant]], list[Plant]]:
    """Choose what to plant where.

    Parameters
    ----------
    rounds : int
        How many measurements are planted in.
    seed : int
        Of the places.

    Returns
    -------
    rounds : list of list of Plant
        Of each measurement, far enough apart.
    empty : list of Plant
        Places of the same kinds where nothing is planted, for comparison.
    """
    rng = np.random.default_rng([seed, 0x9B])
    light, edges = field.light(), field.bands_um()
    candidates = _candidates(field, light, edges, rng)
    cells = [(kind, s, b) for kind, values in field.strengths().items() for s in values
             for b in range(len(edges) - 1)]  # fmt: skip
    used: dict[tuple[str, int], Mask] = {
        key: np.zeros(len(places), bool) for key, places in candidates.items()
    }
    chosen: list[list[Plant]] = []
    for _ in range(rounds):
        there: list[Plant] = []
        turns = [cell for cell in cells for _ in range(-(-WANTED // rounds))]
        for number in rng.permutation(len(turns)):
            kind, strength, b = turns[number]
            places = candidates[kind, b]
            free = np.flatnonzero(~used[kind, b] & _apart(field, places, there))
            if free.size:
                used[kind, b][free[0]] = True
                there.append(Plant(kind, strength, b, *places[free[0]]))
        chosen.append(there)
    empty = [
        Plant(kind, s, b, at, angle)
        for kind, s, b in cells
        for at, angle in candidates[kind, b][:MAX_NULL]
        if kind == GAP or s == SHARES[0]
    ]
    return chosen, empty


def _apart(field: Field, places: Sequence[tuple[Triple, float]], others: Sequence[Plant]) -> Mask:
    """Return which places are far from those that are taken."""
    far = (2.0 * field.fwhm_um[0], *[4.0 * field.fwhm_um[1]] * 2)
    reach = np.array([f / v for f, v in zip(far, field.voxel_um, strict=True)])
    at = np.array([place for place, _ in places], float).reshape(-1, 1, 3)
    taken = np.array([plant.at for plant in others], float).reshape(1, -1, 3)
    return np.asarray((np.square((at - taken) / reach).sum(-1) >= 1.0).all(axis=1))


def planted(field: Field, plants: Sequence[Plant], seed: int) -> npt.NDArray[Any]:
    """Return a measurement with structures planted, in the dtype of the measurement.

    Parameters
    ----------
    plants : sequence of Plant
        Far enough apart.
    seed : int
        Of the photons.
    """
    shape, rng = _Shape(field), np.random.default_rng([seed, 0x9C])
    light = field.light()
    unit = _brightness(field, light, field.bands_um())
    added, gone = np.zeros_like(light), np.zeros_like(light)
    bodies = [(plant, *shape.body(plant)) for plant in plants]
    for plant, part, mask in bodies:
        if plant.kind == GAP:
            gone[part][mask] = field.specimen[part][mask]
        else:
            added[part][mask] = 1.0
    peaks = field.blur(added)
    for plant, part, mask in bodies:
        if plant.kind != GAP:
            added[part][mask] = plant.strength * unit[plant.band] / max(peaks[plant.at], 1e-12)
    gain, offset = field.camera.gain, field.camera.offset
    photons = (field.measured.astype(np.float64) - offset) / gain
    less = np.clip(field.blur(np.maximum(gone, 0.0)) / (light + field.photons() + 1e-6), 0.0, 1.0)
    taken = rng.binomial(np.rint(np.maximum(photons, 0.0)).astype(np.int64), less)
    more = rng.poisson(np.maximum(field.blur(added), 0.0))
    return _as_measured(field, gain * (photons - taken + more) + offset)


def _as_measured(field: Field, grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return grey values in the dtype of the measurement."""
    if field.measured.dtype.kind not in "iu":
        return np.asarray(grey, field.measured.dtype)
    limits = np.iinfo(field.measured.dtype)
    return np.asarray(np.clip(np.rint(grey), limits.min, limits.max), field.measured.dtype)


def findings(
    field: Field,
    plants: Sequence[Sequence[Plant]],
    empty: Sequence[Plant],
    before: FloatArray,
    after: Sequence[FloatArray],
    given: Sequence[npt.NDArray[Any]],
) -> tuple[Finding, ...]:
    """Count what was found.

    Parameters
    ----------
    plants : sequence of sequence of Plant
        Of each round.
    empty : sequence of Plant
        Places without.
    before : float32 array (Z, Y, X)
        Result of the measurement itself.
    after : sequence of float32 array
        Results of the rounds.
    given : sequence of array
        Their measurements.
    """
    shape, edges = _Shape(field), field.bands_um()
    unit = [u * field.camera.gain for u in _brightness(field, field.light(), edges)]

    def contrast(plant: Plant, image: npt.NDArray[Any]) -> float:
        return shape.contrast(plant, image - np.float32(field.background), unit[plant.band])

    def cell(plant: Plant) -> tuple[str, float, int]:
        return plant.kind, plant.strength if plant.kind == GAP else SHARES[0], plant.band

    nulls: dict[tuple[str, float, int], list[float]] = {}
    for plant in empty:
        nulls.setdefault(cell(plant), []).append(contrast(plant, before))
    limits = {key: float(np.quantile(values, 1.0 - FALSE_ALARMS)) for key, values in nulls.items()}
    counts: dict[tuple[str, float, int], list[tuple[bool, float, float]]] = {}
    for there, image, seen in zip(plants, after, given, strict=True):
        for plant in there:
            now, then = contrast(plant, image), contrast(plant, before)
            real = contrast(plant, seen) - contrast(plant, field.measured)
            found = now > limits[cell(plant)] and now > then
            key = (plant.kind, plant.strength, plant.band)
            counts.setdefault(key, []).append((found, now - then, real))
    return tuple(
        _finding(key, edges, counts[key])
        for key in sorted(counts, key=lambda k: ((SPOT, PIECE, GAP).index(k[0]), k[1], k[2]))
    )


def _finding(
    key: tuple[str, float, int],
    edges: npt.NDArray[np.float64],
    each: Sequence[tuple[bool, float, float]],
) -> Finding:
    kind, strength, band = key
    found = sum(e[0] for e in each)
    interval = binomtest(found, len(each)).proportion_ci(0.95, "wilson")
    # Of the medians: that of single ratios would blow up where the noise hides the structure.
    real = float(np.median([e[2] for e in each]))
    shown = float(np.median([e[1] for e in each])) / real if real > 0 else math.nan
    low, high = float(edges[band]), float(edges[band + 1])
    return Finding(kind, strength, low, high, len(each), found, float(interval.low),
                   float(interval.high), shown)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Blank:
    """A measurement without structure, in which a few spots are planted as a standard.

    Parameters
    ----------
    measured : array (Z, Y, X)
        Grey values.
    truth : float32 array (Z, Y, X)
        Expected grey values without the spots.
    spots : tuple of tuple of int
        Voxels of the spots.
    photons : float
        Their peak: the weakest that the measurement itself shows beyond doubt.
    """

    measured: npt.NDArray[Any]
    truth: FloatArray
    spots: tuple[Triple, ...]
    photons: float


def blank(field: Field, *, clouds: bool, seed: int) -> Blank:
    """Image a volume without structure.

    Parameters
    ----------
    clouds : bool
        Clouds with the tissue's light, without its walls: its large scales with random phases.
        Without: even light in each plane, that of the darkest fifth of the tissue.
    seed : int
        Of clouds and photons.
    """
    from zenhance.assess.reblur import detection_limit_photons

    rng = np.random.default_rng([seed, 0x9D, clouds])
    light = field.light()
    dark = np.quantile(light, 0.2, axis=(1, 2), keepdims=True)
    truth = _clouds(field, light, rng) if clouds else np.broadcast_to(dark, light.shape)
    expected = truth + field.photons()
    read = (field.camera.read_noise / field.camera.gain) ** 2
    filtered = MatchedFilter(field.sigma_px)
    bright = float(np.quantile(expected, 0.99)) + read
    peak = detection_limit_photons(bright, filtered.response(), _threshold(field))
    step = [math.ceil(k * s) for k, s in zip((10.0, 14.0, 14.0), field.sigma_px, strict=True)]
    spots = np.zeros_like(light)
    spots[
        tuple(slice(i.start + n // 2, i.stop, n) for i, n in zip(field.inner, step, strict=True))
    ] = 1
    seen = field.blur(spots)
    seen *= np.float32(peak / max(float(np.quantile(seen[spots > 0], 0.5)), 1e-12))
    grey = field.camera.gain * rng.poisson(np.maximum(expected + seen, 0.0)).astype(np.float64)
    grey += field.camera.offset + rng.normal(0.0, field.camera.read_noise, grey.shape)
    places = tuple((int(z), int(y), int(x)) for z, y, x in np.argwhere(spots > 0))
    true = np.asarray(expected * field.camera.gain + field.camera.offset, np.float32)
    return Blank(_as_measured(field, grey), true, places, peak)


def _threshold(field: Field) -> float:
    """Return the score that noise hardly ever reaches in the judged part of the volume."""
    z, y, x = (s.stop - s.start for s in field.inner)
    return peak_threshold((z, y, x), MatchedFilter(field.sigma_px).fwhm_px())


def _clouds(field: Field, light: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return light of the tissue's distribution and large scales, with random phases."""
    smooth = ndimage.gaussian_filter(light, [3.0 * s for s in field.sigma_px], mode="reflect")
    power = np.abs(np.fft.rfftn(smooth - smooth.mean()))
    noise = np.fft.rfftn(rng.normal(size=light.shape))
    cloudy = np.fft.irfftn(
        power * noise / np.maximum(np.abs(noise), 1e-12), light.shape, axes=(0, 1, 2)
    )
    ranks = np.empty(light.size)
    ranks[np.argsort(cloudy, axis=None)] = np.sort(smooth, axis=None)
    clouds = ndimage.gaussian_filter(ranks.reshape(light.shape), [2.0 * s for s in field.sigma_px])
    return np.asarray(clouds, np.float32)


def false_structure(field: Field, without: Blank, result: FloatArray) -> float:
    """Return structures per mm² of a section that a method drew where there are none.

    Parameters
    ----------
    without : Blank
        What the method was given.
    result : float32 array (Z, Y, X)
        What it made of it.

    Notes
    -----
    A structure is a maximum of the matched filter's answer, as high as that to the planted spots
    (their median, less what noise takes off in one of twenty). Where a method shows less than a
    tenth of the spots' contrast, a tenth of it serves. The section is as thick as the PSF.
    """
    filtered = MatchedFilter(field.sigma_px)
    scores = filtered.apply(result - without.truth)
    at = tuple(np.array(without.spots).T)
    shown = float(np.median(scores[at])) - float(np.median(scores[field.inner]))
    gain = field.camera.gain
    even = filtered.response() * without.photons * gain
    threshold = _threshold(field)
    limit = max(shown, 0.1 * even) * threshold / (threshold + 1.645)
    reach = [max(1, round(FWHM * s)) for s in field.sigma_px]
    spots = np.zeros(scores.shape, bool)
    spots[at] = True
    near = ndimage.maximum_filter(spots, [4 * r + 1 for r in reach])
    tops = (scores == ndimage.maximum_filter(scores, [2 * r + 1 for r in reach])) & (scores > limit)
    free = (~near)[field.inner]
    section = free.sum() * math.prod(field.voxel_um) / field.fwhm_um[0] * 1e-6
    return float((tops & ~near)[field.inner].sum() / max(section, 1e-12))


def shuffled_order(planes: int, seed: int) -> npt.NDArray[np.int64]:
    """Return an order of planes in which neighbours are far apart in the measurement."""
    rng = np.random.default_rng([seed, 0x9E])
    orders = [rng.permutation(planes) for _ in range(200)]
    away = [float(np.abs(np.diff(order)).mean()) for order in orders]
    return orders[int(np.argmax(away))]


def continuity(
    field: Field, before: FloatArray, shuffled: FloatArray, order: npt.NDArray[np.int64]
) -> float:
    """Return by how much planes in random order became alike: 0 for not at all, 1 for wholly.

    Parameters
    ----------
    before, shuffled : float32 array (Z, Y, X)
        Results of the measurement, and of its planes in another order.
    order : int array (Z,)
        Which plane of the measurement is where.

    Notes
    -----
    Correlation of planes of the result, as far apart as the PSF reaches (2.6 standard deviations),
    less that of the same two planes in the result of the measurement itself.
    """
    lag = max(1, math.ceil(2.6 * field.sigma_px[0]))
    fine = 4.0 * field.fwhm_um[1] / field.voxel_um[1]

    def detail(image: FloatArray) -> FloatArray:
        return np.asarray(image - ndimage.gaussian_filter(image, (0.0, fine, fine)), np.float32)[
            (slice(None), *field.inner[1:])
        ]

    now, then = detail(shuffled), detail(before)[order]
    pairs = range(len(order) - lag)
    return float(np.mean([_alike(now[z], now[z + lag]) - _alike(then[z], then[z + lag])
                          for z in pairs]))  # fmt: skip


def _alike(one: FloatArray, other: FloatArray) -> float:
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / max(math.sqrt(float((a * a).sum() * (b * b).sum())), 1e-12))


def summary(found: Sequence[Finding]) -> str:
    """Return the sensitivity in one sentence: the smallest that is found at the surface.

    Of gaps in walls where there are any, else of spots.
    """
    kinds: Mapping[str, list[Finding]] = {
        kind: [f for f in found if f.kind == kind] for kind in (GAP, PIECE, SPOT)
    }
    of = next((rows for rows in kinds.values() if rows), [])
    if not of:
        return "There was no room to plant anything; choose a larger region."
    sizes = sorted({f.strength for f in of})
    rows: list[Finding] = []
    for size in sizes:
        rows = sorted((f for f in of if f.strength == size), key=lambda f: f.from_um)
        if rows[0].share >= 0.8:
            break
    return _in_words(rows)


def _in_words(rows: Sequence[Finding]) -> str:
    """Say how often one size is found, bands of like shares together."""
    groups: list[list[Finding]] = [[rows[0]]]
    for row in rows[1:]:
        last = groups[-1]
        alike = row.low <= sum(f.found for f in last) / sum(f.planted for f in last) <= row.high
        last.append(row) if alike else groups.append([row])
    said = []
    for number, group in enumerate(groups):
        tenths = round(10 * sum(f.found for f in group) / sum(f.planted for f in group))
        times = f"{tenths} {'time' if tenths == 1 else 'times'} of 10"
        if number == len(groups) - 1 and number > 0:
            said.append(f"{times} below")
        else:
            said.append(f"{times} down to {group[-1].to_um:g} µm")
    article = "A wall piece" if rows[0].kind == PIECE else f"A {rows[0].kind}"
    what = rows[0].describe().removeprefix(rows[0].kind)
    if rows[0].kind == GAP:
        article, what = f"A gap of {rows[0].strength:.1f} µm in a wall", ""
    return f"{article}{what} is found {', '.join(said)}."
