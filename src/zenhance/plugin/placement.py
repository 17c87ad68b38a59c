"""Where a layer sits in the world, as plain arrays: cropped, put on a finer grid, or with an axis taken away.

napari places voxel ``i`` of a layer at ``affine · (translate + rotate · shear · (scale * i))``; a voxel's coordinate is that of its
centre. A grid ``k`` times finer therefore does not start where the old one did::

    old   |     0     |     1     |        s_old
    new   |  0  |  1  |  2  |  3  |        s_new = s_old / 2, first centre moved by (s_new - s_old) / 2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Placement"]

Matrix = npt.NDArray[np.float64]


def _shear_matrix(shear: Any, ndim: int) -> Matrix:
    """Return napari's shear, a vector of the upper triangle or a matrix, as a matrix."""
    given = np.asarray(shear, dtype=float)
    if given.ndim == 2:
        return given
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, 1)] = given
    return matrix


@dataclass(frozen=True)
class Placement:
    """Transform, units and axis names of a layer, one entry per dimension of its data.

    Parameters
    ----------
    axes : str
        A letter of ``TCZYX`` per dimension, in the layer's own order.
    scale, translate : ndarray
        (n,), in the layer's units.
    rotate, shear : ndarray
        (n, n).
    affine : ndarray
        (n + 1, n + 1), applied after all others.
    units, axis_labels : tuple of str
        As napari takes them.
    """

    axes: str
    scale: Matrix
    translate: Matrix
    rotate: Matrix
    shear: Matrix
    affine: Matrix
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    @classmethod
    def of_layer(cls, layer: Any, axes: str) -> Placement:
        """Take a snapshot of a napari layer's transform."""
        ndim = len(axes)
        return cls(
            axes=axes,
            scale=np.array(layer.scale, dtype=float),
            translate=np.array(layer.translate, dtype=float),
            rotate=np.array(layer.rotate, dtype=float),
            shear=_shear_matrix(layer.shear, ndim),
            affine=np.array(layer.affine.affine_matrix, dtype=float),
            units=tuple(str(unit) for unit in layer.units),
            axis_labels=tuple(str(label) for label in layer.axis_labels),
        )

    def _moved(self, offset: Matrix) -> Matrix:
        return self.translate + self.rotate @ self.shear @ offset

    def resized(self, factors: Mapping[str, float]) -> Placement:
        """Return the placement of a grid that covers the same field with so many times the voxels along the named axes."""
        ratio = np.array([float(factors.get(axis, 1.0)) for axis in self.axes])
        scale = self.scale / ratio
        return replace(self, scale=scale, translate=self._moved((scale - self.scale) / 2))

    def cropped(self, starts_px: Mapping[str, int]) -> Placement:
        """Return the placement of data cut out from these first voxels on."""
        start = np.array([float(starts_px.get(axis, 0)) for axis in self.axes])
        return replace(self, translate=self._moved(self.scale * start))

    def rescaled(self, lengths: Mapping[str, float], unit: str) -> Placement:
        """Return a copy with other voxel edge lengths along the named axes, in a unit."""
        scale = np.array([float(lengths.get(axis, own)) for axis, own in zip(self.axes, self.scale, strict=True)])
        units = tuple(unit if axis in lengths else own for axis, own in zip(self.axes, self.units, strict=True))
        return replace(self, scale=scale, units=units)

    def without(self, axis: str) -> Placement:
        """Return the placement of data that have lost one axis; what the axis contributed to the others is dropped."""
        gone = self.axes.index(axis)

        def cut(matrix: Matrix) -> Matrix:
            return np.delete(np.delete(matrix, gone, 0), gone, 1)

        def rest(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(v for i, v in enumerate(values) if i != gone)

        return Placement(
            axes=self.axes.replace(axis, ""),
            scale=np.delete(self.scale, gone),
            translate=np.delete(self.translate, gone),
            rotate=cut(self.rotate),
            shear=cut(self.shear),
            affine=cut(self.affine),
            units=rest(self.units),
            axis_labels=rest(self.axis_labels),
        )

    def keywords(self) -> dict[str, Any]:
        """Return the entries of a ``LayerDataTuple`` that place it."""
        return {
            "scale": self.scale.copy(),
            "translate": self.translate.copy(),
            "rotate": self.rotate.copy(),
            "shear": self.shear.copy(),
            "affine": self.affine.copy(),
            "units": self.units,
            "axis_labels": self.axis_labels,
        }
