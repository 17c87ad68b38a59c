"""Pictures before and after: the same planes of several volumes at one contrast.

::

              measured     enhanced     truth
    shallow   [       ]    [       ]    [       ]
    deep      [       ]    [       ]    [       ]
    xz        [       ]    [       ]    [       ]      z stretched to the scale of x

A scale bar in µm is drawn into each row. More than four columns go into blocks of equal width,
one below the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import StackError
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Cut", "before_after", "standard_cuts"]

ByteArray = npt.NDArray[np.uint8]
GAP_PX = 8
TITLE_PX = 26
MARGIN_PX = 150
WIDTH_PX = 360
MAX_COLUMNS = 4
SCALE_BAR_UM = 10.0
MICROMETRE = "um"
"""Pillow's own font has no µ."""
# Brighter voxels than these are drawn white; the darkest per mille sets black.
WHITE_QUANTILE, BLACK_QUANTILE = 99.7, 0.1


@dataclass(frozen=True, slots=True)
class Cut:
    """A plane through a volume: ``axis`` z (an optical slice) or y (an xz cut), at an index."""

    title: str
    axis: int
    index: int

    def of(self, volume: npt.NDArray[Any]) -> FloatArray:
        """Return the plane, (rows, columns)."""
        return np.asarray(np.take(volume, self.index, axis=self.axis), np.float32)


def standard_cuts(shape_px: tuple[int, int, int], z_step_um: float) -> tuple[Cut, Cut, Cut]:
    """Return a shallow and a deep optical slice and the xz cut through the middle."""
    shallow, deep = int(shape_px[0] * 0.35), int(shape_px[0] * 0.8)

    def name(what: str, z: int) -> str:
        return f"{what}\nz = {(z + 0.5) * z_step_um:.1f} {MICROMETRE}"

    return (
        Cut(name("shallow", shallow), 0, shallow),
        Cut(name("deep", deep), 0, deep),
        Cut("xz cut", 1, shape_px[1] // 2),
    )


def before_after(
    volumes: Mapping[str, npt.NDArray[Any]],
    voxel_size_um: tuple[float, float, float],
    cuts: tuple[Cut, ...],
    window: tuple[float, float] | None = None,
) -> Image:
    """Draw a picture with one column per volume and one row per cut.

    Parameters
    ----------
    volumes : mapping of str to array (Z, Y, X)
        Title and volume of each column, all of one shape and in one intensity unit. Black and
        white are the same in a whole row.
    voxel_size_um : tuple of float
        (z, y, x).
    cuts : tuple of Cut
        One a row.
    window : tuple of float, optional
        Intensities shown black and white; left out, they come from all columns of a row except the
        last, which is the truth and may saturate.

    Returns
    -------
    PIL.Image.Image
        Grey, ready to be saved.

    Raises
    ------
    StackError
        There is nothing to draw or the shapes differ.
    """
    shapes = {tuple(v.shape) for v in volumes.values()}
    if len(shapes) != 1 or not cuts:
        raise StackError(
            "a before/after picture needs volumes of one shape and at least one cut; "
            f"the shapes are {sorted(shapes)}"
        )
    rows = [_row([cut.of(v) for v in volumes.values()], cut, voxel_size_um, window) for cut in cuts]
    blocks = -(-len(volumes) // MAX_COLUMNS)
    across = -(-len(volumes) // blocks)
    names, titles, width_um = (
        list(volumes),
        [cut.title for cut in cuts],
        next(iter(shapes))[2] * voxel_size_um[2],
    )
    drawn = [
        _assembled([r[k : k + across] for r in rows], names[k : k + across], titles, width_um)
        for k in range(0, len(names), across)
    ]
    return drawn[0] if len(drawn) == 1 else _stacked(drawn)


def _stacked(pictures: list[Image]) -> Image:
    from PIL import Image

    sheet = Image.new("L", (max(p.width for p in pictures), sum(p.height for p in pictures)), 255)
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def _row(
    planes: list[FloatArray],
    cut: Cut,
    voxel_size_um: tuple[float, float, float],
    window: tuple[float, float] | None,
) -> list[ByteArray]:
    shown = np.concatenate([p.ravel() for p in planes[: max(1, len(planes) - 1)]])
    black, white = window or np.percentile(shown, [BLACK_QUANTILE, WHITE_QUANTILE])
    row_um = voxel_size_um[1] if cut.axis == 0 else voxel_size_um[0]
    height = max(
        1, round(WIDTH_PX * planes[0].shape[0] * row_um / (planes[0].shape[1] * voxel_size_um[2]))
    )
    span = max(float(white - black), 1e-12)
    return [
        _resized(np.clip((p - black) / span * 255, 0, 255).astype(np.uint8), height) for p in planes
    ]


def _resized(plane: ByteArray, height_px: int) -> ByteArray:
    """Repeat voxels, so that drawing does not smooth."""
    from PIL import Image

    return np.asarray(
        Image.fromarray(plane).resize((WIDTH_PX, height_px), Image.Resampling.NEAREST)
    )


def _assembled(
    rows: list[list[ByteArray]], columns: list[str], titles: list[str], width_um: float
) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    width = MARGIN_PX + len(columns) * (WIDTH_PX + GAP_PX)
    height = TITLE_PX + sum(row[0].shape[0] + GAP_PX for row in rows)
    picture = Image.new("L", (width, height), 255)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=15)
    for number, column in enumerate(columns):
        draw.text((MARGIN_PX + number * (WIDTH_PX + GAP_PX), 4), column, fill=0, font=font)
    top = TITLE_PX
    for row, title in zip(rows, titles, strict=True):
        draw.multiline_text((6, top + 4), title, fill=0, font=font)
        for number, plane in enumerate(row):
            left = MARGIN_PX + number * (WIDTH_PX + GAP_PX)
            picture.paste(Image.fromarray(plane), (left, top))
        bar_px = round(SCALE_BAR_UM / width_um * WIDTH_PX)
        if bar_px < WIDTH_PX - 20:
            bottom = top + row[0].shape[0] - 10
            draw.rectangle((MARGIN_PX + 10, bottom - 4, MARGIN_PX + 10 + bar_px, bottom), fill=255)
            draw.text(
                (MARGIN_PX + 10, bottom - 24),
                f"{SCALE_BAR_UM:g} {MICROMETRE}",
                fill=255,
                font=font,
                stroke_width=2,
                stroke_fill=0,
            )
        top += row[0].shape[0] + GAP_PX
    return picture
