"""Sheet of real files before and after, both at the grey scale of the measurement."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zenhance.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["SheetRow", "as_small_png", "draw_sheet"]

TILE_PX = 300
"""A larger plane is cut to its middle, a smaller one enlarged by a whole number."""
MARGIN_PX, GAP_PX, TITLE_PX = 130, 6, 24
BLACK, WHITE = 0.5, 99.8
"""Percentiles of the measured tile that are drawn black and white."""
MAX_BYTES = 400_000
GREYS = (256, 64, 32, 16, 8)


@dataclass(frozen=True)
class SheetRow:
    """One plane before and after (Y, X), its label, and the size of its pixels."""

    label: str
    measured: FloatArray
    result: FloatArray
    pixel_um: float


def draw_sheet(rows: Sequence[SheetRow], titles: tuple[str, str]) -> Image:
    """Draw the rows below each other under the titles of the two columns; return a grey picture."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=14)
    tiles = [_tiles(row) for row in rows]
    height = TITLE_PX + sum(pair[0].shape[0] + GAP_PX for pair, _ in tiles)
    pitch = max(pair[0].shape[1] for pair, _ in tiles) + GAP_PX
    sheet = Image.new("L", (MARGIN_PX + 2 * pitch, height), 255)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((MARGIN_PX + column * pitch, 4), title, fill=0, font=font)
    top = TITLE_PX
    for row, (pair, factor) in zip(rows, tiles, strict=True):
        lines = [
            line
            for part in row.label.split("\n")
            for line in textwrap.wrap(part.replace("_", " "), 16)
        ]
        draw.multiline_text((4, top + 2), "\n".join(lines), fill=0, font=font)
        for column, tile in enumerate(pair):
            sheet.paste(Image.fromarray(tile), (MARGIN_PX + column * pitch, top))
        _bar(draw, pair[0].shape, top, row.pixel_um / factor)
        top += pair[0].shape[0] + GAP_PX
    return sheet


def _tiles(row: SheetRow) -> tuple[list[npt.NDArray[np.uint8]], int]:
    """Return both planes in grey, and by how much they were enlarged."""
    parts = []
    for plane in (row.measured, row.result):
        high, wide = (min(n, TILE_PX) for n in plane.shape)
        top, left = (plane.shape[0] - high) // 2, (plane.shape[1] - wide) // 2
        parts.append(np.nan_to_num(plane[top : top + high, left : left + wide]))
    black, white = np.percentile(parts[0], [BLACK, WHITE])
    factor = max(1, TILE_PX // max(parts[0].shape))
    span = max(float(white - black), 1e-12)
    grey = [np.clip((p - black) / span * 255, 0, 255).astype(np.uint8) for p in parts]
    return [np.repeat(np.repeat(g, factor, axis=0), factor, axis=1) for g in grey], factor


def _bar(draw: ImageDraw, shape: tuple[int, ...], top: int, pixel_um: float) -> None:
    """Draw a scale bar of a round length, a third of the tile at most."""
    from PIL import ImageFont

    most_um = shape[1] * pixel_um / 3
    power = 10.0 ** np.floor(np.log10(most_um))
    length_um = max(power * m for m in (1, 2, 5) if power * m <= most_um)
    left, bottom = MARGIN_PX + 8, top + shape[0] - 8
    draw.rectangle((left, bottom - 3, left + round(length_um / pixel_um) - 1, bottom), fill=255)
    font = ImageFont.load_default(size=13)
    draw.text(
        (left, bottom - 21), f"{length_um:g} um", fill=255, font=font, stroke_width=2, stroke_fill=0
    )


def as_small_png(picture: Image, max_bytes: int = MAX_BYTES) -> bytes:
    """Return a PNG with as many greys as the size allows, from 256 down to 8."""
    from PIL import Image

    pixels = np.asarray(picture)
    for count in GREYS:
        step = 256 // count
        fewer = pixels // step * (255 / (count - 1))
        held = io.BytesIO()
        Image.fromarray(np.round(fewer).astype(np.uint8)).save(held, "PNG", optimize=True)
        if held.tell() <= max_bytes:
            break
    return held.getvalue()
