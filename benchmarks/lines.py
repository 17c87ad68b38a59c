"""Real parallel lines before and after: width of single lines, modulation between neighbours.

::

    plane where they are sharpest   mean along the lines, after a fit of their angle
    | | ||  |                         ╭╮    ╭╮╭╮   ╭╮      width: a single line at half its height
    | | ||  |                       ──╯╰────╯╰╯╰───╯╰──    modulation: contrast of two neighbours

The darkest tenth of the profile is the background. A line has a width of its own and extends above
and below the plane, so its width is not that of the microscope alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from benchmarks.measures import full_width
from benchmarks.tables import TextTable
from zenhance.errors import StackError
from zenhance.io import open_stack
from zenhance.physics.psf import parse_psf
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.types import FloatArray

__all__ = [
    "LineFigures",
    "LineReport",
    "Lines",
    "find_lines",
    "grid_table",
    "line_figures",
    "lines_alone",
    "measure_lines",
]

Profile = npt.NDArray[np.float64]
MAX_ANGLE_DEG = 15.0
ANGLE_STEP_DEG = 0.25
STEP_PX = 0.5
BACKGROUND = 10.0
"""Percentile of the profile."""
MIN_HEIGHT = 0.1
"""A line stands out from its surroundings by at least this share of the profile's range."""
MIN_ALIKE = 0.8
"""Correlation of the profiles of both halves: lines go on from one to the other, spots do not."""
LONE = 0.25
"""A line stands alone if it falls below this share of its height on both sides: then its neighbours
hardly widen it at half height."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Position of the lines of a measurement.

    Parameters
    ----------
    plane : int
        Where they are sharpest.
    vertical : bool
        They run along y; else along x.
    angle_deg : float
        From there.
    places : tuple of int
        Samples of the profile, half a pixel apart, with a line each.
    """

    plane: int
    vertical: bool
    angle_deg: float
    places: tuple[int, ...]

    def profile(self, volume: FloatArray) -> Profile:
        """Return the mean along the lines in their plane, half a pixel a sample."""
        plane = np.asarray(volume[self.plane], np.float64)
        return _profile(plane if self.vertical else plane.T, self.angle_deg)


@dataclass(frozen=True, slots=True)
class LineFigures:
    """Median full width of single lines in µm; modulation of the closest pair, and mean of all."""

    width_um: float
    closest: float
    mean: float


@dataclass(frozen=True)
class LineReport:
    """Figures by method, and what was measured."""

    name: str
    psf: str
    lines: Lines
    pitch_um: float
    """Distance of the closest pair."""
    single: int
    """How many lines stand alone, in the measurement."""
    pixel_um: float
    figures: Mapping[str, LineFigures]

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            **asdict(self),
            "figures": {name: asdict(found) for name, found in self.figures.items()},
        }


def _profile(plane: Profile, angle_deg: float, *, inner: bool = False) -> Profile:
    """Average along lines that lean by an angle from the vertical.

    Samples that are outside for more than half of the length are left out; ``inner`` samples are
    the same at every angle.
    """
    rows, columns = plane.shape
    reach = (
        max(columns / 4, columns / 2 - rows / 2 * math.tan(math.radians(MAX_ANGLE_DEG)))
        if inner
        else (columns - 1) / 2
    )
    across = np.arange(-reach, reach + STEP_PX / 2, STEP_PX)
    along = np.arange(rows, dtype=np.float64) - (rows - 1) / 2
    lean = math.tan(math.radians(angle_deg))
    x = across[None, :] + lean * along[:, None] + (columns - 1) / 2
    y = np.broadcast_to(np.arange(rows, dtype=np.float64)[:, None], x.shape)
    values = ndimage.map_coordinates(plane, [y, x], order=1 if inner else 3, mode="nearest")
    inside = (x >= 0) & (x <= columns - 1)
    enough = inside.sum(axis=0) > rows / 2
    sums = np.where(inside, values, 0.0).sum(axis=0)
    return np.asarray(sums[enough] / inside.sum(axis=0)[enough])


def find_lines(volume: FloatArray, fwhm_px: float) -> Lines:
    """Find parallel lines, all of nearly one direction along y or x.

    Parameters
    ----------
    volume : float32 array (Z, Y, X)
        Of any unit.
    fwhm_px : float
        Width of the blur: what is narrower than half of it is noise.

    Raises
    ------
    StackError
        No lines stand out, or what does is not long.
    """
    calm = ndimage.gaussian_filter(volume.astype(np.float32), (0.0, fwhm_px / 4, fwhm_px / 4))
    contrast = [
        (float(p.mean(axis=axis).std()), z, axis == 0)
        for z, p in enumerate(calm)
        for axis in (0, 1)
    ]
    _, plane, vertical = max(contrast)
    smooth = np.asarray(calm[plane] if vertical else calm[plane].T, np.float64)
    angles = np.arange(-MAX_ANGLE_DEG, MAX_ANGLE_DEG + ANGLE_STEP_DEG / 2, ANGLE_STEP_DEG)
    spread = [float(_profile(smooth, float(a), inner=True).var()) for a in angles]
    angle = _peak_of(angles, spread)
    half = smooth.shape[0] // 2
    first, second = _profile(smooth[:half], angle), _profile(smooth[half:], angle)
    lean = round(half * math.tan(math.radians(angle)) / STEP_PX)
    profile = _profile(smooth, angle)
    near = max(1, round(fwhm_px / 4 / STEP_PX))
    peaks, _ = signal.find_peaks(
        profile, prominence=MIN_HEIGHT * float(np.ptp(profile)), distance=near
    )
    flat = float(np.ptp(profile)) <= 1e-6 * float(np.abs(profile).max())
    if flat or peaks.size == 0 or _alike(first, second, lean) < MIN_ALIKE:
        raise StackError(
            "no straight, parallel lines stand out along y or x; give a stack of a line pattern"
        )
    return Lines(plane, vertical, angle, tuple(int(p) for p in peaks))


def _peak_of(places: npt.NDArray[np.float64], values: list[float]) -> float:
    """Return the position of the maximum, by a parabola through its neighbours."""
    k = int(np.argmax(values))
    if k in (0, len(values) - 1):
        return float(places[k])
    below, here, above = values[k - 1 : k + 2]
    bend = below - 2 * here + above
    return float(
        places[k] + (0.5 * (below - above) / bend if bend < 0 else 0.0) * (places[1] - places[0])
    )


def _alike(first: Profile, second: Profile, lean: int) -> float:
    """Correlate the profiles of two halves; the second is shifted by ``lean`` samples."""
    count = min(first.size, second.size) - abs(lean)
    if count < 8:
        return 0.0
    a, b = (first, second[lean:]) if lean > 0 else (first[-lean:], second)
    a, b = a[:count], b[:count]
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def lines_alone(profile: Profile, places: tuple[int, ...]) -> tuple[int, ...]:
    """Return the isolated lines: they fall below :data:`LONE` of their height on both sides."""
    level = _level(profile)
    return tuple(
        n
        for n, (peak, low, high) in enumerate(_peaks(level, places))
        if _is_alone(level, peak, low, high)
    )


def line_figures(
    profile: Profile, places: tuple[int, ...], pixel_um: float, alone: tuple[int, ...]
) -> LineFigures:
    """Measure a profile at lines.

    Parameters
    ----------
    profile, places
        Of :class:`Lines`.
    pixel_um : float
        Across the lines.
    alone : tuple of int
        Whose widths count, by number.
    """
    level = _level(profile)
    peaks = _peaks(level, places)
    widths = [w for w in (full_width(level, *peaks[n]) for n in alone) if math.isfinite(w)]
    pairs = [_modulation(level[a : b + 1]) for (a, _, _), (b, _, _) in itertools.pairwise(peaks)]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    width = float(np.median(widths)) * STEP_PX * pixel_um if widths else math.nan
    closest, mean = (
        (pairs[int(np.argmin(gaps))], float(np.mean(pairs))) if pairs else (math.nan, math.nan)
    )
    return LineFigures(width, closest, mean)


def _level(profile: Profile) -> Profile:
    return np.asarray(profile - np.percentile(profile, BACKGROUND))


def _peaks(level: Profile, places: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return the brightest sample of each line and the bounds half-way to its neighbours."""
    edges = [0, *((a + b) // 2 for a, b in itertools.pairwise(places)), level.size - 1]
    return [
        (low + int(level[low : high + 1].argmax()), low, high)
        for low, high in itertools.pairwise(edges)
    ]


def _is_alone(level: Profile, peak: int, low: int, high: int) -> bool:
    return max(
        float(level[low : peak + 1].min()), float(level[peak : high + 1].min())
    ) < LONE * float(level[peak])


def _modulation(between: Profile) -> float:
    """Return the contrast of the valley between two peaks to the lower peak."""
    peak, valley = float(min(between[0], between[-1])), max(0.0, float(between.min()))
    return (peak - valley) / (peak + valley) if peak + valley > 0 else math.nan


def measure_lines(
    path: Path, psf: str, *, weights: str | None = None, device: str = "cpu"
) -> LineReport:
    """Measure the lines of a file before and after Richardson-Lucy with its own defaults, and DPS.

    Parameters
    ----------
    path : Path
        One image or z-stack with lines along y or x.
    psf : str
        That is told, as ``--psf`` takes it.
    weights : str, optional
        Of DPS.
    device : str
        Where to compute.

    Raises
    ------
    StackError
        No lines stand out.
    ReadError
        The file cannot be read.
    """
    stack = open_stack(path)
    sizes = stack.voxel_size.require(stack.spatial_axes)
    volume = np.asarray(stack.read(), np.float32).reshape(stack.volume_shape)
    told = parse_psf(psf, 3 if "Z" in stack.axes else 2)
    try:
        lines = find_lines(volume, float(np.mean(told.sigma_px(sizes)[1:])) * 2.3548)
    except StackError as error:
        raise StackError(f'"{path.name}": {error}') from error
    pixel = sizes[2] if lines.vertical else sizes[1]
    before = lines.profile(volume)
    alone = lines_alone(before, lines.places)
    found = {"measurement": line_figures(before, lines.places, pixel, alone)}
    for name, request in (
        (
            "Richardson-Lucy",
            EnhanceRequest(method="gaussian_deconvolution", psf=psf, device=device),
        ),
        (
            "DPS",
            EnhanceRequest(method="dps", psf=psf, weights=weights, device=device, arbitrate=False),
        ),
    ):
        image = np.asarray(enhance(stack, request).stack.read(), np.float32).reshape(volume.shape)
        found[name] = line_figures(lines.profile(image), lines.places, pixel, alone)
    gaps = np.diff(lines.places)
    pitch = float(gaps.min()) * STEP_PX * pixel if gaps.size else math.nan
    return LineReport(path.name, psf, lines, pitch, len(alone), pixel, found)


def grid_table(report: LineReport, beads: str = "") -> TextTable:
    """Return width and modulation by method; ``beads`` names the file of the PSF."""
    before = report.figures["measurement"].width_um
    rows = tuple(
        (
            name,
            _figure(1000 * f.width_um, 0),
            _figure(before / f.width_um, 2),
            _figure(f.closest, 2),
            _figure(f.mean, 2),
        )
        for name, f in report.figures.items()
    )
    lines, whose = report.lines, f", the width of the beads of `{beads}`" if beads else ""
    foot = (
        f"`{report.name}`: {len(lines.places)} lines along {'y' if lines.vertical else 'x'}, "
        f"{abs(lines.angle_deg):.1f}° askew, "
        f"{report.single} of them alone; pixels of {1000 * report.pixel_um:.3g} nm; mean along "
        f"the lines in plane {lines.plane + 1}, "
        "where they are sharpest.",
        "Line: median full width at half maximum of those that stand alone. Modulation: (peak - "
        "valley) / (peak + valley) of the mean "
        f"profile above its darkest tenth, of the closest pair ({1000 * report.pitch_um:.0f} nm "
        "apart) and the mean of all neighbours.",
        f"PSF given: `{report.psf}`{whose}.",
    )
    return TextTable(
        "Real lines",
        ("method", "line nm", "times narrower", "modulation, closest", "modulation, mean"),
        rows,
        foot,
    )


def _figure(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
