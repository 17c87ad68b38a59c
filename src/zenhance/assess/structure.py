"""Compare the walls and junctions of an image with those of the truth.

Walls are the ridges of each plane, thinned to lines; junctions are where lines meet. A line of the
image is right if a true line is within the tolerance, and a true line is found if one of the image
is::

    precision = right lines of the image / all its lines
    recall = found true lines / all true lines
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import StackError
from zenhance.types import FloatArray, FloatTriple

__all__ = [
    "PrecisionRecall",
    "StructureReport",
    "compare_structures",
    "false_walls_per_mm2",
    "wall_lines",
]

BoolArray = npt.NDArray[np.bool_]

RIDGE_UM = 0.3
LOCAL_UM = 4.0
RIDGE_SHARE = 0.15
"""How strong a ridge must be, as a share of the local mean."""
MIN_LENGTH_UM = 1.5
MAX_PLANES = 16
WALL_TOLERANCE_UM = 0.4
JUNCTION_TOLERANCE_UM = 0.8
FREE_UM = 1.0
"""Tissue so far from every true wall is free of walls."""


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision and recall of one kind of structure; 0 where there is none."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class StructureReport:
    """Walls and junctions against the truth, over the planes that were looked at."""

    walls: PrecisionRecall
    junctions: PrecisionRecall
    wall_tolerance_um: float
    junction_tolerance_um: float
    planes: int


def wall_lines(
    plane: npt.NDArray[Any], pixel_size_um: tuple[float, float], level: float | None = None
) -> BoolArray:
    """Return the ridge lines (Y, X) of a plane with bright walls.

    Parameters
    ----------
    plane : array (Y, X)
        Any intensity scale; the darkest percent counts as background.
    pixel_size_um : tuple of float
        (y, x).
    level : float, optional
        Intensity below which the local mean counts as background, so that noise there makes no
        ridges; by default a tenth of the plane's 95 % quantile.

    Notes
    -----
    A ridge is where the second derivative across it, smoothed over 0.3 µm, is negative and exceeds
    15 % of the local mean over 4 µm (in units of the smoothing width). The lines are thinned, and
    pieces shorter than 1.5 µm dropped.
    """
    from skimage.morphology import skeletonize

    image = plane.astype(np.float32)
    image -= np.float32(np.percentile(image, 1.0))
    local = ndimage.gaussian_filter(image, [LOCAL_UM / v for v in pixel_size_um], mode="reflect")
    floor = level if level is not None else 0.1 * float(np.percentile(local, 95))
    strength = _ridge_strength(image, pixel_size_um) / np.maximum(local, max(floor, 1e-6))
    lines = skeletonize(strength > RIDGE_SHARE)
    pieces, count = ndimage.label(lines, np.ones((3, 3)))
    if count == 0:
        return np.asarray(lines, bool)
    lengths = np.bincount(pieces.ravel()) * float(np.mean(pixel_size_um))
    keep = lengths >= MIN_LENGTH_UM
    keep[0] = False
    return np.asarray(keep[pieces], bool)


def _ridge_strength(image: FloatArray, pixel_size_um: tuple[float, float]) -> FloatArray:
    """Curvature across the ridge (minus the Hessian's lowest eigenvalue), scale-normalised."""
    sigma = [RIDGE_UM / v for v in pixel_size_um]
    (sy, sx) = sigma
    yy, xx, yx = (
        ndimage.gaussian_filter(image, sigma, order=o, mode="reflect")
        for o in ((2, 0), (0, 2), (1, 1))
    )
    yy, xx, yx = yy * sy**2, xx * sx**2, yx * sy * sx
    root = np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    return np.asarray(np.maximum(root - (yy + xx) / 2, 0.0), np.float32)


def compare_structures(
    image: npt.NDArray[Any],
    voxel_size_um: FloatTriple,
    *,
    truth: npt.NDArray[Any] | None = None,
    labels: npt.NDArray[np.integer] | None = None,
    wall_tolerance_um: float = WALL_TOLERANCE_UM,
    junction_tolerance_um: float = JUNCTION_TOLERANCE_UM,
) -> StructureReport:
    """Compare walls and junctions of an image with the true ones.

    Parameters
    ----------
    image : array (Z, Y, X)
        Bright walls, any intensity scale.
    voxel_size_um : tuple of float
        (z, y, x).
    truth : array (Z, Y, X), optional
        The sharp specimen; its ridges are the true walls.
    labels : integer array (Z, Y, X), optional
        True cells, 0 outside; the lines between labels are the true walls. One of both is needed;
        labels take precedence.
    wall_tolerance_um, junction_tolerance_um : float
        How far off a line or a junction may lie.

    Raises
    ------
    StackError
        Neither truth nor labels are given, or the shapes differ.

    Notes
    -----
    Up to 16 planes, evenly spread, are looked at.
    """
    reference = labels if labels is not None else truth
    if reference is None:
        raise StackError(
            "walls cannot be compared without a truth; give the sharp specimen or its cell labels"
        )
    if image.ndim != 3 or image.shape != reference.shape:
        raise StackError(
            f"image {image.shape} and truth {reference.shape} must be volumes (z, y, x) "
            "of one shape; crop or pick a channel first"
        )
    pixel = (voxel_size_um[1], voxel_size_um[2])
    planes = np.unique(
        np.linspace(0, image.shape[0] - 1, min(MAX_PLANES, image.shape[0])).round().astype(int)
    )
    level = _level(image)
    true_level = None if labels is not None or truth is None else _level(truth)
    walls, junctions = np.zeros(4), np.zeros(4)
    for z in planes:
        found = wall_lines(image[z], pixel, level)
        true = (
            _label_lines(labels[z])
            if labels is not None
            else wall_lines(reference[z], pixel, true_level)
        )
        walls += _matched(found, true, pixel, wall_tolerance_um)
        junctions += _matched(_junctions(found), _junctions(true), pixel, junction_tolerance_um)
    return StructureReport(
        _agreement(walls),
        _agreement(junctions),
        wall_tolerance_um,
        junction_tolerance_um,
        len(planes),
    )


def false_walls_per_mm2(
    image: npt.NDArray[Any],
    voxel_size_um: FloatTriple,
    labels: npt.NDArray[np.integer],
    planes: slice = slice(None),
) -> float:
    """Return how many walls an image shows in a square millimetre of tissue that has none.

    Parameters
    ----------
    image : array (Z, Y, X)
        Bright walls, any intensity scale.
    voxel_size_um : tuple of float
        (z, y, x).
    labels : integer array (Z, Y, X)
        True cells, 0 outside.
    planes : slice
        Where to look.

    Returns
    -------
    float
        Pieces of line of 1.5 µm and more, further than 1 µm from every true wall in all three
        directions, over the area of such tissue; NaN where there is none.
    """
    wall = np.zeros(labels.shape, bool)
    for axis in range(3):
        before, after = ([slice(None)] * 3 for _ in range(2))
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        differs = labels[tuple(before)] != labels[tuple(after)]
        wall[tuple(before)] |= differs
        wall[tuple(after)] |= differs
    free = labels > 0
    if wall.any():
        free &= ndimage.distance_transform_edt(~wall, sampling=voxel_size_um) > FREE_UM
    pixel = (voxel_size_um[1], voxel_size_um[2])
    level, count, pixels = _level(image), 0, 0
    for plane, inside in zip(image[planes], free[planes], strict=True):
        pieces, _ = ndimage.label(wall_lines(plane, pixel, level) & inside, np.ones((3, 3)))
        lengths = np.bincount(pieces.ravel())[1:] * float(np.mean(pixel))
        count += int(np.count_nonzero(lengths >= MIN_LENGTH_UM))
        pixels += int(np.count_nonzero(inside))
    return count / (pixels * pixel[0] * pixel[1] * 1e-6) if pixels else math.nan


def _level(volume: npt.NDArray[Any]) -> float:
    low, high = np.percentile(volume, [1.0, 99.0])
    return 0.05 * float(high - low)


def _label_lines(labels: npt.NDArray[np.integer]) -> BoolArray:
    """Thin lines between differing labels; cell against outside counts as a wall too."""
    from skimage.morphology import skeletonize

    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    # Labels that leave the walls at 0 give two edges per wall; closing merges them into one line.
    closed = ndimage.binary_closing(np.pad(edge, 4), np.ones((5, 5)))[4:-4, 4:-4]
    return np.asarray(skeletonize(closed), bool)


def _junctions(lines: BoolArray) -> BoolArray:
    """Middle of each group of line pixels with three or more neighbours."""
    neighbours = (
        ndimage.convolve(lines.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant") - 1
    )
    groups, count = ndimage.label(lines & (neighbours >= 3), np.ones((3, 3)))
    points = np.zeros(lines.shape, bool)
    for y, x in (
        ndimage.center_of_mass(groups > 0, groups, np.arange(1, count + 1)) if count else []
    ):
        points[round(float(y)), round(float(x))] = True
    return points


def _matched(
    found: BoolArray, true: BoolArray, pixel: tuple[float, float], tolerance_um: float
) -> npt.NDArray[np.float64]:
    """Right and all pixels of the image, found and all pixels of the truth."""

    def near(points: BoolArray) -> BoolArray:
        if not points.any():
            return np.zeros(points.shape, bool)
        return np.asarray(ndimage.distance_transform_edt(~points, sampling=pixel) <= tolerance_um)

    return np.array(
        [(found & near(true)).sum(), found.sum(), (true & near(found)).sum(), true.sum()],
        np.float64,
    )


def _agreement(sums: npt.NDArray[np.float64]) -> PrecisionRecall:
    right, all_found, hit, all_true = (float(v) for v in sums)
    return PrecisionRecall(
        right / all_found if all_found else 0.0, hit / all_true if all_true else 0.0
    )
