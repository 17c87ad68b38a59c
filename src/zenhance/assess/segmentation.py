"""Segmentation before and after: the same procedure on two images, and how far they agree.

A cell of one image is *matched* if a cell of the other covers the same place (IoU above 0.6). What
is not matched is *split* (most of two or more cells of the other image lie in it), *merged* (it
lies, with another one, in one cell of the other image), or *lost*; a cell of the other image that
takes part in none of these is *gained*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zenhance.assess.cells import (
    MIN_IOU,
    LabelArray,
    overlaps,
    segment_bodies,
    segment_cells,
    specimen,
)
from zenhance.assess.drawing import encode_png
from zenhance.errors import MethodError
from zenhance.types import FloatTriple

__all__ = [
    "KINDS",
    "Cellpose",
    "LabelAgreement",
    "Segmenter",
    "Sizes",
    "Watershed",
    "borders_picture",
    "cell_sizes",
    "compare_labels",
    "without_slivers",
]

KINDS = ("walls", "bodies")
MIN_SIZE_UM3 = {"walls": 15.0, "bodies": 2.0}
"""Smaller regions are slivers and are not counted."""
WITHIN = 0.5
"""A cell lies in another one if more than this share of it does."""
PICTURE_PX = 1600
GAP_PX = 4
BORDER_COLOUR = (255, 196, 0)


class Segmenter(Protocol):
    """Label each cell of a volume from 1; 0 is background."""

    @property
    def name(self) -> str:
        """What segmented, for the record."""
        ...

    def __call__(self, volume: npt.NDArray[Any], voxel_size_um: FloatTriple) -> LabelArray:
        """Segment a volume (Z, Y, X)."""
        ...


@dataclass(frozen=True, slots=True)
class Watershed:
    """The plain watershed of :mod:`zenhance.assess.cells`; basins outside the specimen are 0."""

    kind: str = "walls"
    name: str = "watershed"

    def __call__(self, volume: npt.NDArray[Any], voxel_size_um: FloatTriple) -> LabelArray:
        """Segment a volume (Z, Y, X) of bright walls or bright bodies."""
        if self.kind == "bodies":
            return segment_bodies(volume, voxel_size_um)
        labels = segment_cells(volume, voxel_size_um)
        inside = specimen(volume, voxel_size_um)
        size = np.bincount(labels.ravel())
        within = np.bincount(labels.ravel(), weights=inside.ravel())
        return np.where((within > 0.5 * size)[labels], labels, 0).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Cellpose:
    """Cellpose with its default model, if it is installed; zenhance does not depend on it."""

    name: str = "cellpose"

    def __call__(self, volume: npt.NDArray[Any], voxel_size_um: FloatTriple) -> LabelArray:
        """Segment a volume (Z, Y, X) in 3-D, or its only plane in 2-D.

        Raises
        ------
        MethodError
            Cellpose is not installed.
        """
        try:
            from cellpose import models
        except ImportError as error:
            raise MethodError(
                'the segmenter "cellpose" is not installed; install it with pip install cellpose, '
                "or use watershed"
            ) from error
        import torch

        model = models.CellposeModel(gpu=torch.cuda.is_available())
        if len(volume) == 1:
            return np.asarray(model.eval(volume[0])[0], np.int32)[None]
        z_um, y_um, _ = voxel_size_um
        masks = model.eval(volume, z_axis=0, do_3D=True, anisotropy=z_um / y_um)[0]
        return np.asarray(masks, np.int32)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many cells there are, how many of them the border cuts, and their sizes in µm³.

    Sizes are those of the cells that the border does not cut, or of all if it cuts them all; those
    of a single plane are in µm².
    """

    cells: int
    cut_by_border: int
    median_um3: float
    quartiles_um3: tuple[float, float]


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """How far two segmentations agree, from the first one's point of view.

    ``rand_error`` is the adapted Rand error (0: the same, 1: nothing in common; Arganda-Carreras
    et al. 2015), None where one of them has no cells.
    """

    matched: int
    mean_iou: float
    split: int
    merged: int
    lost: int
    gained: int
    rand_error: float | None


def without_slivers(labels: LabelArray, kind: str, voxel_um3: float) -> LabelArray:
    """Return the labels numbered from 1 without gaps; regions that are too small become 0."""
    size = np.bincount(labels.ravel()) * voxel_um3
    keep = size >= MIN_SIZE_UM3[kind]
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return np.asarray(number[labels], np.int32)


def cell_sizes(labels: LabelArray, voxel_um3: float) -> Sizes:
    """Count cells (from 1, without gaps) and measure them; an axis of one plane has no border."""
    cells = int(labels.max(initial=0))
    if cells == 0:
        return Sizes(0, 0, 0.0, (0.0, 0.0))
    cut = np.zeros(cells + 1, bool)
    for axis in (a for a in range(3) if labels.shape[a] > 1):
        for end in (0, -1):
            cut[np.unique(labels.take(end, axis))] = True
    size, cut = np.bincount(labels.ravel())[1:] * voxel_um3, cut[1:]
    whole = size[~cut] if not cut.all() else size
    low, median, high = (float(v) for v in np.percentile(whole, [25, 50, 75]))
    return Sizes(cells, int(cut.sum()), median, (low, high))


def compare_labels(a: LabelArray, b: LabelArray) -> LabelAgreement:
    """Compare two segmentations of one shape, numbered from 1 without gaps.

    Parameters
    ----------
    a, b : int32 array (Z, Y, X)
        0 is no cell.
    """
    cells, others = int(a.max(initial=0)), int(b.max(initial=0))
    i, j, together = overlaps(a, b)
    size_a, size_b = np.bincount(a.ravel()), np.bincount(b.ravel())
    iou = together / (size_a[i] + size_b[j] - together)
    real = (i > 0) & (j > 0)
    hit = real & (iou > MIN_IOU)
    done_a, done_b = np.zeros(cells + 1, bool), np.zeros(others + 1, bool)
    done_a[i[hit]], done_b[j[hit]] = True, True
    matched = int(hit.sum())
    # Which cells of one image lie in a cell of the other.
    b_in_a = real & (together > WITHIN * size_b[j])
    a_in_b = real & (together > WITHIN * size_a[i])
    pieces = np.bincount(i[b_in_a], minlength=cells + 1)
    joined = np.bincount(j[a_in_b], minlength=others + 1)
    split = ~done_a & (pieces >= 2)
    merged = np.zeros(cells + 1, bool)
    merged[i[a_in_b & (joined[j] >= 2)]] = True
    merged &= ~done_a & ~split
    done_b[j[b_in_a & split[i]]] = True
    done_b[j[a_in_b & merged[i]]] = True
    lost = cells - matched - int(split.sum()) - int(merged.sum())
    return LabelAgreement(
        matched=matched,
        mean_iou=float(iou[hit].mean()) if matched else 0.0,
        split=int(split.sum()),
        merged=int(merged.sum()),
        lost=lost,
        gained=others - int(done_b[1:].sum()),
        rand_error=_rand_error(a, b) if cells and others else None,
    )


def _rand_error(a: LabelArray, b: LabelArray) -> float:
    from skimage.metrics import adapted_rand_error

    return float(adapted_rand_error(a, b)[0])


def borders_picture(
    images: tuple[npt.NDArray[Any], ...],
    labels: tuple[LabelArray, ...],
    pixel_size: tuple[float, float],
) -> bytes:
    """Return planes of one shape side by side as a PNG, each with the borders of its cells.

    Parameters
    ----------
    images : tuple of arrays (Y, X)
        Shown from their 1 % to their 99.7 % quantile.
    labels : tuple of int arrays (Y, X)
        0 is no cell.
    pixel_size : tuple of float
        (y, x).
    """
    from skimage.segmentation import find_boundaries

    rows, _ = images[0].shape
    panels: list[npt.NDArray[np.uint8]] = []
    for image, cells in zip(images, labels, strict=True):
        low, high = np.percentile(image, [1.0, 99.7])
        grey = np.clip((image - low) / max(float(high - low), 1e-12), 0, 1)
        # Twice as fine, so that borders stay thin lines.
        panel = np.repeat((255 * grey).astype(np.uint8)[..., None], 3, -1)
        panel = panel.repeat(2, 0).repeat(2, 1)
        panel[find_boundaries(cells.repeat(2, 0).repeat(2, 1), mode="inner")] = BORDER_COLOUR
        panels += [panel, np.full((2 * rows, GAP_PX, 3), 255, np.uint8)]
    return encode_png(np.concatenate(panels[:-1], 1), pixel_size, PICTURE_PX)
