"""Small line plots for the documentation, drawn with Pillow: axes, ticks, legend, lines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["Panel", "draw_panels", "ticks_between"]

Float64Array = npt.NDArray[np.float64]
WIDTH_PX, HEIGHT_PX = 380, 280
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 58, 12, 28, 44
COLOURS = ((20, 60, 160), (210, 90, 0), (0, 130, 70), (150, 0, 120))
"""Told apart also by people who see no red or green; lines differ in dashes too."""
DASH_PX = (0, 7, 3, 11)
TICKS = 5


@dataclass(frozen=True)
class Panel:
    """One plot.

    Parameters
    ----------
    title, x_title, y_title : str
        What is shown; plain letters, for Pillow's own font has few others.
    lines : mapping of str to (x, y)
        By their name in the legend.
    """

    title: str
    x_title: str
    y_title: str
    lines: Mapping[str, tuple[Float64Array, Float64Array]]


def ticks_between(low: float, high: float, most: int = TICKS) -> list[float]:
    """Return round numbers between two values, at most ``most + 1`` of them.

    They are 1, 2 or 5 times a power of ten apart.
    """
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next((power * m for m in (1, 2, 5, 10) if span / (power * m) <= most), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def draw_panels(panels: list[Panel], columns: int = 3) -> Image:
    """Draw panels in rows on white.

    A panel without a finite point has empty axes.
    """
    from PIL import Image

    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * WIDTH_PX, rows * HEIGHT_PX), "white")
    for number, panel in enumerate(panels):
        sheet.paste(_drawn(panel), ((number % columns) * WIDTH_PX, (number // columns) * HEIGHT_PX))
    return sheet


def _drawn(panel: Panel) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    x_range, y_range = _range(panel, 0), _range(panel, 1)
    right, bottom = WIDTH_PX - RIGHT_PX, HEIGHT_PX - BOTTOM_PX

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / (y_range[1] - y_range[0])
        return (LEFT_PX + across * (right - LEFT_PX), bottom - up * (bottom - TOP_PX))

    for tick in ticks_between(*x_range):
        draw.line([place(tick, y_range[0]), place(tick, y_range[1])], fill=(225, 225, 225))
        draw.text(
            (place(tick, y_range[0])[0], bottom + 4),
            f"{tick:g}",
            fill="black",
            font=font,
            anchor="ma",
        )
    for tick in ticks_between(*y_range):
        draw.line([place(x_range[0], tick), place(x_range[1], tick)], fill=(225, 225, 225))
        draw.text(
            (LEFT_PX - 5, place(x_range[0], tick)[1]),
            f"{tick:g}",
            fill="black",
            font=font,
            anchor="rm",
        )
    draw.rectangle([LEFT_PX, TOP_PX, right, bottom], outline="black")
    draw.text(
        (WIDTH_PX / 2, 6),
        panel.title,
        fill="black",
        font=ImageFont.load_default(size=14),
        anchor="ma",
    )
    draw.text(
        ((LEFT_PX + right) / 2, HEIGHT_PX - 18), panel.x_title, fill="black", font=font, anchor="ma"
    )
    draw.text((4, 8), panel.y_title, fill="black", font=font)
    for number, (name, (x, y)) in enumerate(panel.lines.items()):
        known = np.isfinite(x) & np.isfinite(y)
        points = [place(float(a), float(b)) for a, b in zip(x[known], y[known], strict=True)]
        _line(draw, points, COLOURS[number % 4], DASH_PX[number % 4])
        height = TOP_PX + 12 + 16 * number
        _line(
            draw,
            [(right - 128, height), (right - 104, height)],
            COLOURS[number % 4],
            DASH_PX[number % 4],
        )
        draw.text((right - 98, height), name, fill="black", font=font, anchor="lm")
    return picture


def _range(panel: Panel, which: int) -> tuple[float, float]:
    values = np.concatenate(
        [np.asarray(line[which], float).ravel() for line in panel.lines.values()] or [np.zeros(0)]
    )
    values = values[np.isfinite(values)]
    if values.size == 0:
        return (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) if which == 1 else 0.0
    return (low - margin, high + margin) if high > low else (low - 0.5, high + 0.5)


def _line(
    draw: ImageDraw, points: list[tuple[float, float]], colour: tuple[int, int, int], dash_px: int
) -> None:
    """Draw a line, dashed where ``dash_px`` is above 0; dashes run on from point to point."""
    if len(points) < 2:
        return
    if dash_px == 0:
        draw.line(points, fill=colour, width=2)
        return
    way = np.concatenate(
        [[0.0], np.cumsum([math.dist(a, b) for a, b in itertools.pairwise(points)])]
    )
    xs, ys = np.asarray(points).T
    for start in np.arange(0.0, way[-1], 2 * dash_px):
        along = np.linspace(start, min(start + dash_px, way[-1]), 4)
        draw.line(
            list(
                zip(
                    np.interp(along, way, xs).tolist(),
                    np.interp(along, way, ys).tolist(),
                    strict=True,
                )
            ),
            fill=colour,
            width=2,
        )
