"""Where a layer is in the world, as plain arrays: cropped, on a finer grid, or without an axis.

napari places the centre of voxel ``i`` at ``affine · (translate + rotate · shear · (scale * i))``.
A grid ``k`` times finer therefore starts elsewhere::

    old   |     0     |     1     |        s_old
    new   |  0  |  1  |  2  |  3  |        s_new = s_old / 2; first centre moves (s_new - s_old) / 2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LENGTH_UNIT", "Placement", "micrometres"]

LENGTH_UNIT = "micrometer"


@cache
def micrometres(unit: str) -> float | None:
    """Return a unit of length in micrometres; None for pixels and other units."""
    import pint

    registry: Any = pint.get_application_registry()  # type: ignore[no-untyped-call]
    try:
        return float(registry.Quantity(1.0, unit).to(LENGTH_UNIT).magnitude)
    except (pint.DimensionalityError, pint.UndefinedUnitError):
        return None


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
        """Return the placement of a grid of the same field with ``factors`` times the voxels."""
        ratio = np.array([float(factors.get(axis, 1.0)) for axis in self.axes])
        scale = self.scale / ratio
        return replace(self, scale=scale, translate=self._moved((scale - self.scale) / 2))

    def cropped(self, starts_px: Mapping[str, int]) -> Placement:
        """Return the placement of data cut out from these first voxels on."""
        start = np.array([float(starts_px.get(axis, 0)) for axis in self.axes])
        return replace(self, translate=self._moved(self.scale * start))

    @property
    def stretch(self) -> Matrix:
        """How much the affine transform lengthens a step along each axis, (n,)."""
        return np.asarray(np.linalg.norm(self.affine[:-1, :-1], axis=0), dtype=float)

    def in_unit(self, unit: str) -> Placement:
        """Return the same place with all lengths in one unit; other axes stay as they are."""
        known = [micrometres(own) for own in self.units]
        target = micrometres(unit) or 1.0
        factors = np.array([1.0 if length is None else length / target for length in known])
        affine = self.affine.copy()
        affine[:-1, :-1] *= factors[:, None] / factors[None, :]
        affine[:-1, -1] *= factors
        units = tuple(
            own if length is None else unit for own, length in zip(self.units, known, strict=True)
        )
        return replace(
            self,
            scale=self.scale * factors,
            translate=self.translate * factors,
            affine=affine,
            units=units,
        )

    def rescaled(self, lengths: Mapping[str, float], unit: str) -> Placement:
        """Return a copy with other voxel edge lengths in the world; mirrored axes stay mirrored."""
        own = self.in_unit(unit)
        scale = own.scale.copy()
        for index, axis in enumerate(self.axes):
            if axis in lengths and own.stretch[index] > 0.0:
                length = float(lengths[axis]) / own.stretch[index]
                scale[index] = np.copysign(length, own.scale[index])
        units = tuple(
            unit if axis in lengths else unit_now
            for axis, unit_now in zip(self.axes, own.units, strict=True)
        )
        return replace(own, scale=scale, units=units)

    def first_voxel_um(self) -> dict[str, float] | None:
        """Return the centre of the first voxel along each spatial axis in µm.

        None for a turned, sheared or mirrored layer, whose place takes more than one number.
        """
        linear = self.affine[:-1, :-1]
        straight = (
            self.rotate,
            self.shear,
            linear / np.where(self.stretch > 0.0, self.stretch, 1.0),
        )
        turned = not all(np.allclose(matrix, np.eye(len(self.axes))) for matrix in straight)
        if turned or (self.scale < 0.0).any():
            return None
        world = linear @ self.translate + self.affine[:-1, -1]
        lengths = [micrometres(unit) or 1.0 for unit in self.units]
        return {
            a: float(p * um)
            for a, p, um in zip(self.axes, world, lengths, strict=True)
            if a in "ZYX"
        }

    def without(self, axis: str) -> Placement:
        """Return the placement of data without one axis; its effect on the others is dropped."""
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

    def with_axis(self, axis: str, at: int, label: str) -> Placement:
        """Return the placement of data with an axis inserted at an index, in steps of 1."""

        def wider(matrix: Matrix, row: int) -> Matrix:
            spread = np.insert(np.insert(matrix, row, 0.0, 0), row, 0.0, 1)
            spread[row, row] = 1.0
            return spread

        def with_one(values: tuple[str, ...], new: str) -> tuple[str, ...]:
            return (*values[:at], new, *values[at:])

        return Placement(
            axes=self.axes[:at] + axis + self.axes[at:],
            scale=np.insert(self.scale, at, 1.0),
            translate=np.insert(self.translate, at, 0.0),
            rotate=wider(self.rotate, at),
            shear=wider(self.shear, at),
            affine=wider(self.affine, at),
            units=with_one(self.units, "pixel"),
            axis_labels=with_one(self.axis_labels, label),
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
