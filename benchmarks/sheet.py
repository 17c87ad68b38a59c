"""Sheet of one crop in many versions: a shallow and a deep plane, all at one contrast.

::

    title        title        title        title
    [sh][deep]   [sh][deep]   [sh][deep]   [sh][deep]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zenhance.errors import StackError
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["picture_sheet"]

ACROSS = 4
TILE_PX = 176
INNER_GAP_PX, GAP_PX, TITLE_PX = 3, 14, 22
BLACK_QUANTILE, WHITE_QUANTILE = 0.5, 99.7
MICROMETRE = "um"
"""Pillow's own font has no µ."""


def picture_sheet(
    crops: Mapping[str, FloatArray], depths_um: tuple[float, float], pixel_um: float
) -> Image:
    """Draw the sheet.

    Parameters
    ----------
    crops : mapping of str to float32 array (2, Y, X)
        Title, and shallow and deep plane; the first is the truth, which may saturate and does not
        decide the contrast.
    depths_um : tuple of float
        Of the two planes, for the caption.
    pixel_um : float
        Of the crops.

    Returns
    -------
    PIL.Image.Image
        Grey. Black and white are the same in all shallow planes, and in all deep ones.

    Raises
    ------
    StackError
        There is nothing to draw, or the crops differ in shape.
    """
    from PIL import Image, ImageDraw, ImageFont

    shapes = {crop.shape for crop in crops.values()}
    if len(shapes) != 1:
        raise StackError(
            f"a picture sheet needs crops of one shape; the shapes are {sorted(shapes)}"
        )
    limits = [
        _limits([crop[n] for crop in list(crops.values())[1:] or list(crops.values())])
        for n in range(2)
    ]
    wide = 2 * TILE_PX + INNER_GAP_PX + GAP_PX
    high = TILE_PX + TITLE_PX + GAP_PX
    down = -(-len(crops) // ACROSS)
    sheet = Image.new(
        "L", (min(ACROSS, len(crops)) * wide + GAP_PX, down * high + GAP_PX + TITLE_PX), 255
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    side_um = next(iter(shapes))[2] * pixel_um
    left_um, right_um = depths_um
    caption = (
        f"left: z = {left_um:.1f} {MICROMETRE}, right: z = {right_um:.1f} {MICROMETRE}; "
        f"each {side_um:.1f} {MICROMETRE} wide"
    )
    draw.text((GAP_PX, 4), caption, fill=0, font=font)
    for number, (title, crop) in enumerate(crops.items()):
        left, top = GAP_PX + number % ACROSS * wide, TITLE_PX + GAP_PX + number // ACROSS * high
        draw.text((left, top), title, fill=0, font=font)
        for n in range(2):
            tile = Image.fromarray(_grey(crop[n], limits[n])).resize(
                (TILE_PX, TILE_PX), Image.Resampling.NEAREST
            )
            sheet.paste(tile, (left + n * (TILE_PX + INNER_GAP_PX), top + TITLE_PX))
    return sheet


def _limits(planes: list[FloatArray]) -> tuple[float, float]:
    black, white = np.percentile(np.stack(planes), [BLACK_QUANTILE, WHITE_QUANTILE])
    return float(black), float(white)


def _grey(plane: FloatArray, limits: tuple[float, float]) -> npt.NDArray[np.uint8]:
    span = max(limits[1] - limits[0], 1e-12)
    return np.asarray(np.clip((plane - limits[0]) / span * 255, 0, 255), np.uint8)
