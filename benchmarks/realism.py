"""How real a simulated stack looks: the same five measures of a real and a simulated one.

::

    histogram        share of voxels by grey value
    noise            variance by mean, from differences of neighbours in which slopes cancel
    power spectrum   of the planes, by spatial frequency
    wall profile     across walls that run straight through a plane
    depth            brightness, contrast and signal-to-noise by depth below the surface

Nothing is assumed about either stack but its voxel size, and each is measured in the same way, so
that a bias of a measure is in both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.assess.depth import contrast_by_depth, depth_below_surface, find_surface
from zenhance.types import FloatArray, FloatTriple

__all__ = [
    "Curve",
    "Look",
    "curves_apart",
    "look_at",
    "noise_by_mean",
    "power_spectrum",
    "wall_profile",
]

Float64Array = npt.NDArray[np.float64]

REACH_UM = 2.4
MIN_VOXELS = 1500
SMOOTH_UM = 0.3
DEPTHS_UM = (0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0)
DARKEST_PERCENT = 4.0
STRAIGHT = 3.0
"""A wall runs straight where the picture bends this many times more across it than along it."""
FLOOR_UM = (1.4, 2.0)
"""Distance from a wall at which the level between walls is read."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a figure."""

    x: Float64Array
    y: Float64Array


@dataclass(frozen=True)
class Look:
    """What the measures say of a stack.

    Parameters
    ----------
    offset : float
        Grey value of darkness: where nothing is.
    gain : float
        Slope of variance by mean; not a number where a stack has no noise that can be seen between
        neighbours.
    noise_correlation : float
        Of neighbouring voxels where it is dark: 0 for a camera's raw picture, more after
        interpolation or filtering.
    wall_um : float
        Width of a wall at half of its height above the level beside it.
    floor : float
        That level, as a share of the wall's peak: cytoplasm, haze and blur.
    half_depth_um : float
        Depth over which walls lose half of their brightness, from an exponential through the depth
        curve; infinite where they do not.
    curves : dict
        ``histogram``, ``noise``, ``spectrum``, ``wall``, ``brightness``, ``contrast``, ``snr``;
        what cannot be measured is left out.
    """

    offset: float
    gain: float
    noise_correlation: float
    wall_um: float
    floor: float
    half_depth_um: float
    curves: dict[str, Curve] = field(default_factory=dict)


def look_at(
    volume: npt.NDArray[np.generic],
    voxel_size_um: FloatTriple,
    *,
    has_surface: bool = True,
    bins: int = 64,
) -> Look:
    """Measure a stack (Z, Y, X) of whole grey values or floats.

    Parameters
    ----------
    volume : array (Z, Y, X)
        The stack.
    voxel_size_um : tuple of float
        (z, y, x).
    has_surface : bool
        Whether the specimen's surface is in the field; without one nothing is measured by depth.
    bins : int
        Of the histogram.

    Raises
    ------
    StackError
        Nothing stands out from the surroundings.
    """
    image = np.asarray(volume, np.float32)
    offset = float(np.percentile(image, 1.0))
    noise, gain = noise_by_mean(image)
    profile, wall_um, floor = wall_profile(image, voxel_size_um, offset)
    depth_curves, half_depth_um = (
        _by_depth(image, voxel_size_um, offset) if has_surface else ({}, float("nan"))
    )
    curves = {
        "noise": noise,
        "spectrum": power_spectrum(image, voxel_size_um),
        "wall": profile,
        **depth_curves,
    }
    share, edges = np.histogram(
        image, bins=bins, range=(float(image.min()), float(image.max()) + 1)
    )
    curves["histogram"] = Curve((edges[1:] + edges[:-1]) / 2, share / image.size)
    return Look(offset, gain, noise_correlation(image), wall_um, floor, half_depth_um, curves)


def noise_by_mean(image: FloatArray, bins: int = 14) -> tuple[Curve, float]:
    """Return the noise variance by mean grey value, and its slope.

    From ``a - b - c + d`` of 2 × 2 neighbours in a plane, in which any slope cancels; its variance
    is four times a voxel's. The median of absolute values keeps edges of structures out. The slope
    is fitted over the darker half, where they matter least.
    """
    smooth = ndimage.gaussian_filter(image, (0, 1.5, 1.5))
    rest = image[:, :-1, :-1] - image[:, 1:, :-1] - image[:, :-1, 1:] + image[:, 1:, 1:]
    mean = (smooth[:, :-1, :-1] + smooth[:, 1:, 1:]) / 2
    low, high = (float(q) for q in np.percentile(mean, [0.5, 99.5]))
    places, variances = [], []
    for start, stop in zip(edges := np.linspace(low, high, bins + 1), edges[1:], strict=False):
        chosen = (mean >= start) & (mean < stop)
        if chosen.sum() >= MIN_VOXELS:
            places.append(float(mean[chosen].mean()))
            variances.append(float((1.4826 * np.median(np.abs(rest[chosen]))) ** 2 / 4))
    curve = Curve(np.asarray(places), np.asarray(variances))
    half = max(3, len(places) // 2)
    gain = (
        float(np.polyfit(curve.x[:half], curve.y[:half], 1)[0])
        if len(places) >= 3
        else float("nan")
    )
    return curve, gain


def noise_correlation(image: FloatArray) -> float:
    """Return how far neighbours in a plane share their noise, where it is darkest."""
    smooth = ndimage.gaussian_filter(image, (0, 3, 3))
    rest = image - smooth
    dark = smooth[:, :, 1:] <= np.percentile(smooth, DARKEST_PERCENT)
    left, right = (part[dark].astype(np.float64) for part in (rest[:, :, :-1], rest[:, :, 1:]))
    return float(
        (left * right).mean() / max(float(np.sqrt((left**2).mean() * (right**2).mean())), 1e-12)
    )


def power_spectrum(image: FloatArray, voxel_size_um: FloatTriple) -> Curve:
    """Return log10 of the planes' power by spatial frequency (cycles/µm).

    Relative to the mean square above darkness.

    Planes are windowed (Hann) and cut to a square; rings are one frequency step wide.
    """
    side = min(image.shape[1:])
    square = image[:, :side, :side] - np.float32(np.percentile(image, 1.0))
    window = np.hanning(side)
    power = np.zeros((side, side))
    for plane in square:
        power += np.abs(np.fft.fft2((plane - plane.mean()) * np.outer(window, window))) ** 2
    power /= max(
        float((square.astype(np.float64) ** 2).sum()) * float((window**2).mean()) ** 2, 1e-12
    )
    frequency = np.fft.fftfreq(side) * side
    ring = np.rint(np.hypot(frequency[:, None], frequency[None])).astype(int).ravel()
    total, count = np.bincount(ring, power.ravel()), np.bincount(ring)
    rings = np.arange(2, side // 2)
    return Curve(
        np.asarray(rings / side / voxel_size_um[2], np.float64),
        np.asarray(np.log10(total[rings] / count[rings]), np.float64),
    )


def wall_profile(
    image: FloatArray, voxel_size_um: FloatTriple, offset: float
) -> tuple[Curve, float, float]:
    """Return the mean profile across walls in the planes (peak 1, by µm).

    Its width at half height and the level beside it.

    A wall is where the smoothed picture is the brightest within reach along x (then along y), bends
    more across than along, and is among the brightest quarter of what is brighter than darkness.
    Where there is none, nothing is a number.
    """
    reach = max(3, round(REACH_UM / voxel_size_um[2]))
    parts = [
        _profiles_along_x(part, voxel_size_um[2], reach, offset)
        for part in (image, image.transpose(0, 2, 1))
    ]
    profiles = np.concatenate(parts)
    x = (np.arange(2 * reach + 1) - reach) * voxel_size_um[2]
    if len(profiles) == 0:
        return Curve(np.asarray(x, np.float64), np.full(x.size, np.nan)), float("nan"), float("nan")
    mean = profiles.mean(axis=0, dtype=np.float64) - offset
    mean = (mean + mean[::-1]) / 2 / mean[reach]
    beside = (np.abs(x) >= FLOOR_UM[0]) & (np.abs(x) <= FLOOR_UM[1])
    floor = float(mean[beside].min())
    half = (1 + floor) / 2
    right = mean[reach:]
    first = int(np.argmax(right < half)) if (right < half).any() else reach
    step = (right[first - 1] - half) / max(right[first - 1] - right[first], 1e-12) if first else 0.0
    return (
        Curve(np.asarray(x, np.float64), np.asarray(mean, np.float64)),
        float(2 * (first - 1 + step) * voxel_size_um[2]),
        floor,
    )


def _profiles_along_x(image: FloatArray, step_um: float, reach: int, offset: float) -> FloatArray:
    smooth = ndimage.gaussian_filter(image, (0, SMOOTH_UM / step_um, SMOOTH_UM / step_um))
    across = -(np.roll(smooth, 1, 2) - 2 * smooth + np.roll(smooth, -1, 2))
    along = np.abs(np.roll(smooth, 1, 1) - 2 * smooth + np.roll(smooth, -1, 1))
    lit = smooth > offset + 0.1 * (np.percentile(smooth, 99) - offset)
    level = np.percentile(smooth[lit], 75) if lit.any() else np.inf
    top = ndimage.maximum_filter1d(smooth, reach, axis=2) == smooth
    wall = top & (smooth >= level) & (across > STRAIGHT * along)
    wall[:, :, :reach] = wall[:, :, -reach:] = False
    z, y, x = np.nonzero(wall)
    columns = x[:, None] + np.arange(-reach, reach + 1)
    return np.asarray(image[z[:, None], y[:, None], columns], np.float32)


def _by_depth(
    image: FloatArray, voxel_size_um: FloatTriple, offset: float
) -> tuple[dict[str, Curve], float]:
    depth = depth_below_surface(find_surface(image, voxel_size_um), image.shape[0], voxel_size_um)
    figures = contrast_by_depth(image, {"it": image}, voxel_size_um, depth, DEPTHS_UM)["it"]
    middles = np.asarray([(f.from_um + (f.to_um or f.from_um + 5.0)) / 2 for f in figures])
    bright = []
    for figure in figures:
        within = (depth >= figure.from_um) & (depth >= 0) & (depth < (figure.to_um or np.inf))
        bright.append(float(np.percentile(image[within], 90)) - offset)
    curves = {
        "brightness": Curve(middles, np.asarray(bright)),
        "contrast": Curve(middles, np.asarray([f.contrast for f in figures])),
        "snr": Curve(middles, np.asarray([f.snr for f in figures])),
    }
    deep = middles >= 4.0
    fall = (
        -np.polyfit(middles[deep], np.log(np.maximum(bright, 1e-6))[deep], 1)[0]
        if deep.sum() >= 2
        else 0.0
    )
    return curves, float(np.log(2) / fall) if fall > 0 else float("inf")


def curves_apart(real: Curve, simulated: Curve) -> float:
    """Return the root mean square difference of two curves, as a share of the real one's range."""
    low, high = max(real.x.min(), simulated.x.min()), min(real.x.max(), simulated.x.max())
    inside = (real.x >= low) & (real.x <= high)
    if inside.sum() < 2:
        return float("nan")
    away = real.y[inside] - np.interp(real.x[inside], simulated.x, simulated.y)
    return float(np.sqrt(np.mean(away**2)) / max(float(np.ptp(real.y)), 1e-12))
