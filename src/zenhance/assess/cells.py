"""Cells found: a plain 3-D watershed of walls or bodies, counted against the true cells.

The procedure is fixed in µm and the same for every image: subtract the background, smooth, divide
by the local mean (so that deep, dim cells count as much as shallow ones), flood from the minima
that are deep enough, compare by overlap. It is a yardstick for images, not the best possible
segmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import StackError
from zenhance.types import FloatArray, FloatTriple

__all__ = [
    "MIN_IOU",
    "CellReport",
    "DepthBin",
    "LabelArray",
    "cells_found",
    "overlaps",
    "segment_bodies",
    "segment_cells",
    "specimen",
]

SMOOTH_UM = 0.35
LOCAL_MEAN_UM = 4.0
MINIMUM_DEPTH = 0.25
"""Depth of a minimum below its pass, as a share of the local mean; best for the truth itself."""
BODY_LEVEL = 1.3
"""Bodies begin at so many local means; best for the nuclei of a real ovule (41 of 47 found)."""
OUTSIDE_SHARE = 0.1
"""Where the local mean is below this share of its 95 % quantile, there is no specimen."""
MIN_IOU = 0.6
MIN_CELL_UM3 = 15.0
"""Smaller true cells are slivers that the border of the field left over; they are not asked for."""
DEPTH_EDGES_UM = (0.0, 5.0, 10.0, 15.0)

LabelArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class DepthBin:
    """Cells with a mean depth in ``from_um ... to_um`` (None: no end)."""

    from_um: float
    to_um: float | None
    found: int
    total: int


@dataclass(frozen=True, slots=True)
class CellReport:
    """How many true cells the watershed finds with an overlap (IoU) above ``min_iou``."""

    found: int
    total: int
    mean_iou: float
    min_iou: float
    by_depth: tuple[DepthBin, ...] = ()

    @property
    def share(self) -> float:
        """Found cells as a share of all."""
        return self.found / self.total if self.total else 0.0


def segment_cells(image: npt.NDArray[Any], voxel_size_um: FloatTriple) -> LabelArray:
    """Segment a volume whose walls are bright.

    Parameters
    ----------
    image : array (Z, Y, X)
        Any intensity scale and offset.
    voxel_size_um : tuple of float
        (z, y, x).

    Returns
    -------
    int32 array (Z, Y, X)
        Basins numbered from 1; the surroundings are basins too.
    """
    from skimage.morphology import h_minima
    from skimage.segmentation import watershed

    walls, _ = _relative(image, voxel_size_um)
    seeds, _ = ndimage.label(h_minima(walls, MINIMUM_DEPTH), np.ones((3, 3, 3)))
    return np.asarray(watershed(walls, seeds), np.int32)


def segment_bodies(image: npt.NDArray[Any], voxel_size_um: FloatTriple) -> LabelArray:
    """Segment a volume of bright bodies, such as nuclei; 0 between them.

    The same procedure as :func:`segment_cells` upside down, within what is brighter than
    ``BODY_LEVEL`` local means.
    """
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    bodies, inside = _relative(image, voxel_size_um)
    mask = (bodies > BODY_LEVEL) & inside
    seeds, _ = ndimage.label(h_maxima(bodies, MINIMUM_DEPTH) * mask, np.ones((3, 3, 3)))
    return np.asarray(watershed(-bodies, seeds, mask=mask), np.int32)


def specimen(image: npt.NDArray[Any], voxel_size_um: FloatTriple) -> npt.NDArray[np.bool_]:
    """Return where there is specimen: the local mean is not near that of the background."""
    return _relative(image, voxel_size_um)[1]


def _relative(
    image: npt.NDArray[Any], voxel_size_um: FloatTriple
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the smoothed image in units of its local mean, and where there is specimen."""
    volume = image.astype(np.float32)
    volume -= np.float32(np.percentile(volume, 1))
    smooth = ndimage.gaussian_filter(volume, [SMOOTH_UM / v for v in voxel_size_um])
    local = ndimage.gaussian_filter(
        smooth, [LOCAL_MEAN_UM / v for v in voxel_size_um], truncate=2.5
    )
    # Outside the specimen the local mean is near zero: the floor prevents amplified noise.
    floor = max(OUTSIDE_SHARE * float(np.percentile(local, 95)), 1e-6)
    return np.asarray(smooth / np.maximum(local, floor), np.float32), local > floor


def cells_found(
    image: npt.NDArray[Any],
    labels: npt.NDArray[np.integer],
    voxel_size_um: tuple[float, float, float],
    depth_um: FloatArray | None = None,
    depth_edges_um: Sequence[float] = DEPTH_EDGES_UM,
) -> CellReport:
    """Count the true cells that a plain watershed of the image finds.

    Parameters
    ----------
    image : array (Z, Y, X)
        Bright walls, any intensity scale.
    labels : integer array (Z, Y, X)
        True cells from 1, 0 outside.
    voxel_size_um : tuple of float
        (z, y, x).
    depth_um : float32 array (Z, Y, X), optional
        Depth of each voxel; given, the count is also split by the cells' mean depth.
    depth_edges_um : sequence of float
        Where the depth bins begin; the last is open.

    Raises
    ------
    StackError
        The shapes differ.
    """
    if image.shape != labels.shape or image.ndim != 3:
        raise StackError(
            f"image {image.shape} and labels {labels.shape} must be volumes (z, y, x) "
            "of one shape; crop or pick a channel first"
        )
    basins = segment_cells(image, voxel_size_um)
    overlap = _best_iou(labels, basins)
    size = np.bincount(labels.ravel())[1:] * float(np.prod(voxel_size_um))
    asked = size >= MIN_CELL_UM3
    hit = asked & (overlap > MIN_IOU)
    bins: tuple[DepthBin, ...] = ()
    if depth_um is not None:
        bins = _by_depth(labels, depth_um, asked, hit, depth_edges_um)
    mean_iou = float(overlap[asked].mean()) if asked.any() else 0.0
    return CellReport(int(hit.sum()), int(asked.sum()), mean_iou, MIN_IOU, bins)


def _best_iou(labels: npt.NDArray[np.integer], basins: LabelArray) -> FloatArray:
    """Largest intersection over union of each true cell (1, 2, …) with any basin."""
    cells, regions = int(labels.max(initial=0)), int(basins.max(initial=0))
    cell, basin, together = overlaps(labels, basins)
    cell_size = np.bincount(labels.ravel(), minlength=cells + 1)
    basin_size = np.bincount(basins.ravel(), minlength=regions + 1)
    iou = together / (cell_size[cell] + basin_size[basin] - together)
    best = np.zeros(cells + 1)
    np.maximum.at(best, cell, iou)
    return best[1:].astype(np.float32)


def overlaps(
    a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each pair of labels that meet, as two arrays, and how many voxels they share."""
    regions = int(b.max(initial=0)) + 1
    pair = a.ravel().astype(np.int64) * regions + b.ravel()
    codes, together = np.unique(pair, return_counts=True)
    return codes // regions, codes % regions, together


def _by_depth(
    labels: npt.NDArray[np.integer],
    depth_um: FloatArray,
    asked: npt.NDArray[np.bool_],
    hit: npt.NDArray[np.bool_],
    edges_um: Sequence[float],
) -> tuple[DepthBin, ...]:
    size = np.bincount(labels.ravel())
    depth = (np.bincount(labels.ravel(), weights=depth_um.ravel()) / np.maximum(size, 1))[1:]
    ends: list[float | None] = [*edges_um[1:], None]
    bins = []
    for start, end in zip(edges_um, ends, strict=True):
        within = (depth >= start) & (depth < (np.inf if end is None else end))
        bins.append(
            DepthBin(float(start), end, int((hit & within).sum()), int((asked & within).sum()))
        )
    return tuple(bins)
