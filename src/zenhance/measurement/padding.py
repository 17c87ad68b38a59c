"""Voxels that hold a constant because nothing was measured there.

Registration leaves a rim, deskewing leaves corners, and a lost frame leaves a whole plane of one
value. Real dark background differs in two ways: some of the measured voxels beside it have the
same value by chance, and the blur of the microscope allows no step from it to the specimen.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["framing", "is_constant", "looks_blank", "padding_of"]

Mask = npt.NDArray[np.bool_]

# Fewer equal voxels in a row along the border, or in a region, can occur by chance.
MIN_RUN = 8
MIN_REGION = 16
# A value that so many of the measured voxels nearby have may be measured, too.
MAX_CHANCE = 0.2
# Padding borders on noise, so that the voxels nearby have at least so many values.
MIN_VALUES = 4
# Level beside the region relative to that farther away; behind a real dark place it rises slowly.
MIN_STEP = 0.5
# Voxels of the value that stick out of the region, per voxel along its edge: padding has straight
# edges, noise has not.
MAX_RAGGED = 0.4
BAND_PX = 8
# Padding frames what was measured: so many gaps per measured voxel along rows or columns at most.
MAX_GAPS = 0.05


def is_constant(plane: npt.NDArray[Any]) -> bool:
    """Return whether a plane holds one finite value only."""
    first = plane.flat[0]
    return bool(np.isfinite(first) and (plane == first).all())


def looks_blank(value: float, measured: npt.NDArray[Any]) -> bool:
    """Return whether a plane of one value is blank, given the next plane (Y, X) that is not."""
    finite = measured[np.isfinite(measured)]
    if not finite.size or np.unique(finite[: 64 * MIN_VALUES]).size < MIN_VALUES:
        return False
    return bool(np.mean(finite == value) <= MAX_CHANCE)


def padding_of(plane: npt.NDArray[Any]) -> Mask | None:
    """Find the padding of a plane.

    Parameters
    ----------
    plane : ndarray (Y, X)
        As stored.

    Returns
    -------
    ndarray of bool (Y, X) or None
        None where there is no padding. A plane of one value has none: the other planes decide.
    """
    value = _border_value(plane)
    if value is None:
        return None
    same = plane == value
    labels, _ = ndimage.label(same)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    sizes = np.bincount(labels.ravel())
    touching = np.unique(edges[edges > 0])
    touching = touching[sizes[touching] >= MIN_REGION]
    if not touching.size:
        return None
    region = _solid(np.isin(labels, touching))
    if region is None or not _frames(region):
        return None
    rings = [region]
    for steps in (1, 2, BAND_PX - 3):
        rings.append(ndimage.binary_dilation(rings[-1], np.ones((3, 3)), steps))
    first, near, far = (after & ~before for before, after in pairwise(rings))
    if not _is_padding(plane, value, near, far):
        return None
    return region | first if _is_interpolated(plane, value, first, near) else region


def framing(missing: Mask) -> Mask | None:
    """Return the missing voxels (Y, X) that frame a plane as padding does; None where none do."""
    labels, _ = ndimage.label(missing)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.unique(edges[edges > 0])
    if missing.all() or not touching.size:
        return None
    region = _solid(np.isin(labels, touching))
    return region if region is not None and _frames(region) else None


def _solid(region: Mask) -> Mask | None:
    """Return a region without the chance voxels at its edge; None where the edge is ragged."""
    wide = np.pad(region, 2, mode="edge")
    solid: Mask = ndimage.binary_opening(wide, np.ones((3, 3)))[2:-2, 2:-2]
    edge = (
        solid & ndimage.binary_dilation(~np.pad(solid, 1, mode="edge"), np.ones((3, 3)))[1:-1, 1:-1]
    )
    ragged = np.count_nonzero(region & ~solid)
    if not solid.any() or ragged > MAX_RAGGED * np.count_nonzero(edge):
        return None
    return solid


def _frames(region: Mask) -> bool:
    """Return whether the voxels outside a region are unbroken along rows and columns.

    A shift, a rotation and a deskew move a whole frame; dark background lies between structures.
    """
    measured = ~region
    count = np.count_nonzero(measured)
    for view in (measured, measured.T):
        lines = view[view.any(axis=1)]
        first = lines.argmax(axis=1)
        last = lines.shape[1] - lines[:, ::-1].argmax(axis=1)
        if np.sum(last - first) - count > MAX_GAPS * count:
            return False
    return True


def _border_value(plane: npt.NDArray[Any]) -> Any | None:
    """Return the value of the longest run of equal voxels along the border, None if it is short."""
    best, found = 0, None
    for edge in (plane[0], plane[-1], plane[:, 0], plane[:, -1]):
        stops = np.flatnonzero(np.concatenate([[True], edge[1:] != edge[:-1], [True]]))
        runs = np.diff(stops)
        longest = int(runs.argmax())
        if runs[longest] > best and runs[longest] >= min(MIN_RUN, edge.size):
            best, found = int(runs[longest]), edge[stops[longest]]
    if found is None or not np.isfinite(found):
        return None
    saturated = plane.dtype.kind in "iu" and found == np.iinfo(plane.dtype).max
    return None if saturated or plane.dtype.kind == "b" else found


def _is_padding(plane: npt.NDArray[Any], value: Any, near: Mask, far: Mask) -> bool:
    beside = plane[near | far]
    beside = beside[np.isfinite(beside)]
    if beside.size < MIN_REGION or np.mean(beside == value) > MAX_CHANCE:
        return False
    if np.unique(beside).size < MIN_VALUES:
        return False
    step = float(abs(_level(plane, near) - value))
    return step > 0.0 and step >= MIN_STEP * float(abs(_level(plane, far) - value))


def _is_interpolated(plane: npt.NDArray[Any], value: Any, first: Mask, near: Mask) -> bool:
    """Return whether the pixels beside the padding are a mixture of padding and measurement."""
    if not first.any() or not near.any():
        return False
    beside, beyond = np.abs(plane[first] - float(value)), np.abs(plane[near] - float(value))
    return bool(np.nanpercentile(beside, 75) < np.nanpercentile(beyond, 25))


def _level(plane: npt.NDArray[Any], where: Mask) -> float:
    chosen = plane[where]
    chosen = chosen[np.isfinite(chosen)]
    return float(np.median(chosen)) if chosen.size else 0.0
