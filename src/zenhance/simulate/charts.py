"""Test charts that measure resolution: line pairs, a Siemens star, point pairs, a grid.

::

    lines    | |   ||   |    pairs, centre to centre:  d, d·q, d·q² …
    star                      spokes; period 2πr / spokes at radius r
    points   . .   :    '    the same distances between balls
    grid                      a mesh of one period

Charts are exact (the covered share of each voxel). The seed sets their subvoxel position. They
extend through the whole stack unless ``height_um`` limits them. The specimen's facts hold the
distances, positions and periods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from zenhance.errors import StackError
from zenhance.simulate.beads import Ball, deposit
from zenhance.simulate.specimen import Dye, Grid, Parameters, ThinSpecimen, setting
from zenhance.types import FloatArray

__all__ = ["Charts"]

# Axis of the lines, axis of the distances, axis along which the chart is extruded; 0 is z.
_ORIENTATION = {"x": (1, 2, 0), "y": (2, 1, 0), "z": (2, 0, 1)}
STAR_SAMPLES = 8
LINE_SHARE = 0.75


class Charts(Parameters, ThinSpecimen):
    """Settings of a chart; lengths in µm."""

    pattern: Literal["lines", "star", "points", "grid"] = setting("lines", "what is drawn")
    along: Literal["x", "y", "z"] = setting(
        "x", "axis of the distances; z draws the chart upright, to measure resolution in depth"
    )
    largest_um: float = setting(
        1.5, "largest distance, or the grid's period, centre to centre", "µm", gt=0, le=50
    )
    smallest_um: float = setting(0.15, "smallest distance", "µm", gt=0, le=50)
    steps: int = setting(12, "number of distances, evenly spaced by their ratio", ge=1, le=200)
    line_um: float = setting(0.1, "width of a line, diameter of a point", "µm", gt=0, le=10)
    gap_um: float = setting(1.5, "free space between two pairs", "µm", gt=0, le=50)
    spokes: int = setting(24, "bright spokes of the star", ge=2, le=720)
    point_voxels: float = setting(30.0, "dye of a point, in voxels full of dye", gt=0)
    height_um: float | None = setting(
        None, "height of the chart in the middle of the stack", "µm", gt=0
    )

    @model_validator(mode="after")
    def _falls(self) -> Charts:
        if self.smallest_um > self.largest_um:
            raise ValueError(
                f"smallest_um is {self.smallest_um:g} µm, above largest_um {self.largest_um:g} µm; "
                "exchange them"
            )
        return self

    @property
    def distances_um(self) -> tuple[float, ...]:
        """The distances, falling."""
        if self.steps == 1:
            return (self.largest_um,)
        return tuple(float(d) for d in np.geomspace(self.largest_um, self.smallest_um, self.steps))

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return the chart and its facts on a grid.

        Parameters
        ----------
        grid : Grid
            The field.
        seed : int
            Decides the place of the chart below a pixel.

        Returns
        -------
        Dye
            Channel ``chart``; labels are pair numbers, or 1 on the star and the grid.

        Raises
        ------
        StackError
            The field is too small for the chart, or a chart in depth is requested for a single
            plane.
        """
        if self.along == "z" and grid.shape_px[0] == 1:
            raise StackError(
                "a chart along z needs a stack of several planes, not one; "
                'give a larger shape or along="x"'
            )
        shift = np.random.default_rng([seed, 1]).uniform(-0.5, 0.5, size=3) * np.asarray(
            grid.voxel_size_um
        )
        page = _Page.of(grid, _ORIENTATION[self.along], shift)
        if self.pattern == "points":
            return self._points(grid, page, shift)
        draw = {"lines": self._lines, "star": self._star, "grid": self._grid}[self.pattern]
        picture, labels, facts = draw(page)
        facts = {"pattern": self.pattern, "along": self.along, **facts}
        height = np.ones(grid.shape_px[page.axes[2]], np.float32)
        if self.height_um is not None:
            half = self.height_um / 2
            middle = grid.field_um[page.axes[2]] / 2
            height = _covered(page.edges_um[2], middle - half, middle + half)
        volume = picture[:, :, None] * height
        marks = np.broadcast_to(labels[:, :, None], volume.shape) * (height > 0)
        order = tuple(int(i) for i in np.argsort(page.axes))
        density = np.ascontiguousarray(volume.transpose(order))[None]
        zeros = np.zeros(grid.shape_px, np.float32)
        return Dye(
            density,
            np.ascontiguousarray(marks.transpose(order)).astype(np.uint16),
            zeros,
            ("chart",),
            facts,
        )

    def _pairs(self, page: _Page) -> list[dict[str, Any]]:
        """Lay pairs out in rows and tell where each is."""
        pitch_um = self.largest_um + self.line_um + self.gap_um
        along_um, across_um = page.field_um[1], page.field_um[0]
        per_row = int(along_um // pitch_um)
        if per_row < 1:
            raise StackError(
                f"a pair of {self.largest_um:g} µm with its gap needs {pitch_um:.3g} µm "
                f"along {self.along}, "
                f"the field has {along_um:.3g} µm; give a larger shape or a smaller largest_um"
            )
        rows = -(-self.steps // per_row)
        row_um = across_um / rows
        if row_um < 3 * self.line_um:
            raise StackError(
                f"{rows} rows of pairs do not fit into {across_um:.3g} µm "
                f"with lines of {self.line_um:g} µm; "
                "give a larger shape or fewer steps"
            )
        pairs = []
        for number, distance in enumerate(self.distances_um):
            row, column = divmod(number, per_row)
            middle = (column + 0.5) * (along_um / per_row) + page.shift_um[1]
            start = (row + (1 - LINE_SHARE) / 2) * row_um + page.shift_um[0]
            places = [float(middle - distance / 2), float(middle + distance / 2)]
            span = [float(start), float(start + LINE_SHARE * row_um)]
            pairs.append({"distance_um": distance, "centres_um": places, "span_um": span})
        return pairs

    def _lines(self, page: _Page) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
        picture = np.zeros(page.shape_px, np.float32)
        labels = np.zeros(page.shape_px, np.float32)
        pairs = self._pairs(page)
        for number, pair in enumerate(pairs, start=1):
            length = _covered(page.edges_um[0], *pair["span_um"])
            for centre in pair["centres_um"]:
                line = np.outer(
                    length,
                    _covered(
                        page.edges_um[1], centre - self.line_um / 2, centre + self.line_um / 2
                    ),
                )
                picture += line
                labels[line > 0] = number
        return np.minimum(picture, 1), labels, {"pairs": pairs}

    def _star(self, page: _Page) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
        centre = [float(n / 2 + s) for n, s in zip(page.field_um[:2], page.shift_um, strict=True)]
        radius = 0.48 * min(page.field_um[:2])
        picture = np.zeros(page.shape_px, np.float32)
        a, b = (
            np.asarray((e[1:] + e[:-1]) / 2 - c)
            for e, c in zip(page.edges_um, centre, strict=False)
        )
        steps = [
            (np.diff(e[:2])[0], (np.arange(STAR_SAMPLES) + 0.5) / STAR_SAMPLES - 0.5)
            for e in page.edges_um[:2]
        ]
        for down in steps[0][0] * steps[0][1]:
            for right in steps[1][0] * steps[1][1]:
                y, x = np.meshgrid(a + down, b + right, indexing="ij")
                bright = np.floor(np.arctan2(y, x) * self.spokes / np.pi) % 2 == 0
                picture += bright & (y * y + x * x < radius * radius)
        picture /= STAR_SAMPLES**2
        facts = {
            "centre_um": centre,
            "radius_um": radius,
            "spokes": self.spokes,
            "period": "2·pi·r / spokes at radius r",
        }
        return picture, (picture > 0.5).astype(np.float32), facts

    def _grid(self, page: _Page) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
        profiles, centres = [], []
        for edges, size, shift in zip(
            page.edges_um[:2], page.field_um[:2], page.shift_um, strict=True
        ):
            first = size / 2 + shift
            low, high = (
                np.ceil((edges[0] - first) / self.largest_um),
                np.floor((edges[-1] - first) / self.largest_um),
            )
            places = first + self.largest_um * np.arange(low, high + 1)
            profile = np.sum(
                [_covered(edges, p - self.line_um / 2, p + self.line_um / 2) for p in places],
                axis=0,
                dtype=np.float32,
            )
            profiles.append(np.minimum(profile, 1))
            centres.append([float(p) for p in places if 0 <= p <= size])
        rows, columns = profiles
        picture = 1 - np.outer(1 - rows, 1 - columns)
        facts = {"period_um": self.largest_um, "centres_um": centres}
        return picture, (picture > 0.5).astype(np.float32), facts

    def _points(self, grid: Grid, page: _Page, shift: FloatArray) -> Dye:
        pairs, balls = self._pairs(page), []
        middle = grid.field_um[page.axes[2]] / 2 + float(shift[page.axes[2]])
        for number, pair in enumerate(pairs, start=1):
            pair["span_um"] = [sum(pair["span_um"]) / 2] * 2
            for centre in pair["centres_um"]:
                place = [0.0, 0.0, 0.0]
                for axis, value in zip(
                    page.axes, (pair["span_um"][0], centre, middle), strict=True
                ):
                    place[axis] = value
                balls.append(
                    Ball((place[0], place[1], place[2]), self.line_um, self.point_voxels, number)
                )
        density, labels = deposit(balls, grid)
        facts = {"pattern": "points", "along": self.along, "pairs": pairs}
        return Dye(density[None], labels, np.zeros(grid.shape_px, np.float32), ("chart",), facts)


@dataclass(frozen=True)
class _Page:
    """The plane a chart is drawn on: axes in the order line, distance, extrusion."""

    axes: tuple[int, int, int]
    edges_um: tuple[FloatArray, FloatArray, FloatArray]
    field_um: tuple[float, float, float]
    shift_um: tuple[float, float]

    @classmethod
    def of(cls, grid: Grid, axes: tuple[int, int, int], shift: FloatArray) -> _Page:
        edges = [
            grid.origin_um[a] + np.arange(grid.shape_px[a] + 1) * grid.voxel_size_um[a]
            for a in axes
        ]
        a, b, c = (grid.field_um[axis] for axis in axes)
        return cls(
            axes,
            (edges[0], edges[1], edges[2]),
            (a, b, c),
            (float(shift[axes[0]]), float(shift[axes[1]])),
        )

    @property
    def shape_px(self) -> tuple[int, int]:
        return (len(self.edges_um[0]) - 1, len(self.edges_um[1]) - 1)


def _covered(edges_um: FloatArray, start_um: float, stop_um: float) -> FloatArray:
    """Return the share of each voxel along an axis that an interval covers."""
    overlap = np.minimum(edges_um[1:], stop_um) - np.maximum(edges_um[:-1], start_um)
    return np.asarray(np.clip(overlap / np.diff(edges_um), 0, 1), np.float32)
