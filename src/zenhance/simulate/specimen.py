"""Specimens: a model that renders dye on a grid, and the catalogue of models.

::

    SpecimenModel.render(grid, seed) -> Dye            sharp, dimensionless: where the dye is
    Microscope.photograph(dye, grid, seed) -> Specimen the field blurred, dimmed, counted, digitised

A further specimen is one file with one frozen model, and one line in :data:`SPECIMENS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from zenhance.errors import StackError
from zenhance.types import FloatArray, FloatTriple

__all__ = [
    "SPECIMENS",
    "Dye",
    "Grid",
    "Parameters",
    "SpecimenModel",
    "ThinSpecimen",
    "inside_margin",
    "load_specimen",
    "renumbered",
    "setting",
    "specimen_names",
    "tissue_above_um",
]

LabelArray = npt.NDArray[np.uint16]

SPECIMENS = {
    "beads": "zenhance.simulate.beads:Beads",
    "charts": "zenhance.simulate.charts:Charts",
    "clutter": "zenhance.simulate.clutter:Clutter",
    "empty": "zenhance.simulate.beads:Empty",
    "filaments": "zenhance.simulate.filaments:Filaments",
    "foam": "zenhance.simulate.foam:Foam",
    "meristem": "zenhance.simulate.meristem:Meristem",
    "structures": "zenhance.simulate.structures:Structures",
}
"""Name on the command line → module and model."""


class Parameters(BaseModel):
    """Base of specimen and microscope settings: frozen, no unknown keys, finite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


def setting(default: Any, description: str, unit: str | None = None, **bounds: Any) -> Any:
    """Return a field of :class:`Parameters`; ``bounds`` are gt, ge, lt and le."""
    extra: Any = None if unit is None else {"unit": unit}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


@dataclass(frozen=True, slots=True)
class Grid:
    """Voxels in space; voxel (0, 0, 0) has its centre half a voxel inside ``origin_um``.

    Parameters
    ----------
    shape_px : tuple of int
        (Z, Y, X).
    voxel_size_um : tuple of float
        (z, y, x).
    origin_um : tuple of float
        Corner of the first voxel, (z, y, x).

    Raises
    ------
    StackError
        An axis is empty or a length is not positive.
    """

    shape_px: tuple[int, int, int]
    voxel_size_um: FloatTriple
    origin_um: FloatTriple = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.shape_px) < 1:
            raise StackError(
                f"a simulated stack needs at least one voxel along z, y and x, "
                f"not {self.shape_px}; give a larger shape"
            )
        if not min(self.voxel_size_um) > 0:
            raise StackError(
                f"the voxel size of a simulated stack must be positive, "
                f"not {self.voxel_size_um} µm; give it as z, y, x"
            )

    @property
    def size_um(self) -> FloatTriple:
        """Edge lengths of the field, (z, y, x)."""
        z, y, x = (n * v for n, v in zip(self.shape_px, self.voxel_size_um, strict=True))
        return (z, y, x)

    @property
    def field_um(self) -> FloatTriple:
        """Edge lengths (z, y, x) of the field without the margin that :meth:`grown` added."""
        z, y, x = (
            size + 2 * min(origin, 0.0)
            for size, origin in zip(self.size_um, self.origin_um, strict=True)
        )
        return (z, y, x)

    @property
    def margins(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Coordinates of the voxel centres along each axis, in µm."""
        z, y, x = (
            np.asarray(o + (np.arange(n) + 0.5) * v, np.float32)
            for n, v, o in zip(self.shape_px, self.voxel_size_um, self.origin_um, strict=True)
        )
        return (z, y, x)

    def points_um(self) -> FloatArray:
        """Centres of all voxels, (Z·Y·X, 3), in µm."""
        return np.stack(np.meshgrid(*self.margins, indexing="ij"), axis=-1).reshape(-1, 3)

    def grown(self, margin_px: tuple[int, int, int]) -> Grid:
        """Return the grid with a margin, so that light from beyond the edges is included."""
        z, y, x = (n + 2 * m for n, m in zip(self.shape_px, margin_px, strict=True))
        oz, oy, ox = (
            o - m * v for o, m, v in zip(self.origin_um, margin_px, self.voxel_size_um, strict=True)
        )
        return Grid((z, y, x), self.voxel_size_um, (oz, oy, ox))


@dataclass(frozen=True, slots=True)
class Dye:
    """A sharp specimen on a grid.

    Parameters
    ----------
    density : float32 array (C, Z, Y, X)
        Dye per voxel, 1 for a voxel filled with typical wall or nucleus; zero outside the specimen.
    labels : uint16 array (Z, Y, X)
        Cell numbers from 1, zero outside.
    depth_um : float32 array (Z, Y, X)
        Length of tissue above the voxel along the optical axis, in µm; zero above the specimen.
    channel_names : tuple of str
        One a channel.
    facts : mapping
        Further facts, such as distances on a chart; lengths in µm, measured from the corner of the
        first voxel of a field at the origin; plain numbers, texts and lists.
    """

    density: FloatArray
    labels: LabelArray
    depth_um: FloatArray
    channel_names: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def window(self, part: tuple[slice, slice, slice]) -> Dye:
        """Return a (z, y, x) part of the specimen; cells keep their numbers."""
        return Dye(
            self.density[:, *part],
            self.labels[part],
            self.depth_um[part],
            self.channel_names,
            self.facts,
        )


class SpecimenModel(Protocol):
    """What a specimen file offers: a frozen model of settings that renders itself."""

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return the sharp specimen on the grid; the same seed gives the same bytes."""
        ...


class ThinSpecimen:
    """Marks specimens that are complete in one plane, without light from other planes."""


def inside_margin(
    margin_px: tuple[int, int, int], shape_px: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """Return the (z, y, x) slices of what a margin surrounds."""
    z, y, x = (slice(m, n - m) for m, n in zip(margin_px, shape_px[-3:], strict=True))
    return (z, y, x)


def renumbered(labels: npt.NDArray[Any]) -> LabelArray:
    """Return labels with the numbers that occur replaced by 1, 2, 3 …, zero kept.

    Raises
    ------
    StackError
        There are more cells than 16 bits can count.
    """
    present = np.unique(labels)
    present = present[present > 0]
    if len(present) > np.iinfo(np.uint16).max:
        raise StackError(
            f"{len(present)} cells do not fit into 16-bit labels (65535 at most); "
            "simulate a smaller field"
        )
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
    table[present] = np.arange(1, len(present) + 1)
    return np.asarray(table[labels], np.uint16)


def tissue_above_um(within: npt.NDArray[np.bool_], step_um: float) -> FloatArray:
    """Return the tissue (Z, Y, X) above each voxel in µm; light enters at z = 0."""
    through = np.cumsum(within, axis=0, dtype=np.float32)
    return np.asarray((through - 0.5 * within) * within * step_um, np.float32)


def specimen_names() -> tuple[str, ...]:
    """Names of the specimens that can be simulated."""
    return tuple(sorted(SPECIMENS))


def load_specimen(name: str) -> type[SpecimenModel]:
    """Return the model of a specimen by name.

    Raises
    ------
    StackError
        There is no such specimen.
    """
    if name not in SPECIMENS:
        raise StackError(
            f'there is no specimen "{name}"; choose one of {", ".join(specimen_names())}'
        )
    module, _, attribute = SPECIMENS[name].partition(":")
    return cast("type[SpecimenModel]", getattr(importlib.import_module(module), attribute))
