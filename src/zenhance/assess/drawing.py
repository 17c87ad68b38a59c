"""Pictures and curves of the report: PNG data links and inline SVG line charts, self-contained."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Line", "bar_chart", "encode_png", "line_chart", "picture", "z_map_picture"]

LONG_SIDE_PX = 480
COLOURS = ("#777777", "#0b6e99", "#b3541e", "#3a7d44", "#7a4a9e")
WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 28, 40


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart; values that are not finite are gaps."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def picture(
    plane: npt.NDArray[Any],
    window: tuple[float, float],
    pixel_size: tuple[float, float] = (1.0, 1.0),
) -> str:
    """Return a grey picture of a plane as a data link.

    Parameters
    ----------
    plane : array (rows, columns)
        Any type.
    window : tuple of float
        Intensities shown as black and as white.
    pixel_size : tuple of float
        Of rows and columns, for the aspect.
    """
    low, high = window
    grey = (plane.astype(np.float64) - low) / max(high - low, 1e-12)
    return _png(np.rint(np.clip(np.nan_to_num(grey), 0, 1) * 255).astype(np.uint8), pixel_size)


def z_map_picture(
    plane: npt.NDArray[Any], threshold: float, pixel_size: tuple[float, float] = (1.0, 1.0)
) -> str:
    """Return a picture of z-scores: blue for missing light, red for excess light, white between."""
    z = np.clip(plane.astype(np.float64) / (2 * threshold), -1, 1)
    fade = (1 - np.abs(z))[..., None]
    tint = np.where(
        (z >= 0)[..., None], np.array([10.0, 60.0, 170.0]), np.array([180.0, 20.0, 20.0])
    )
    return _png(np.rint(255 * fade + tint * (1 - fade)).astype(np.uint8), pixel_size)


def encode_png(
    pixels: npt.NDArray[np.uint8], pixel_size: tuple[float, float], long_side_px: int = LONG_SIDE_PX
) -> bytes:
    """Return grey (rows, columns) or coloured (rows, columns, 3) pixels as a PNG, in true aspect.

    Parameters
    ----------
    pixel_size : tuple of float
        Of rows and columns.
    long_side_px : int
        Of the picture.
    """
    from PIL import Image

    rows, columns = pixels.shape[:2]
    height, width = rows * pixel_size[0], columns * pixel_size[1]
    scale = long_side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrinks = size[0] < columns or size[1] < rows
    image = Image.fromarray(pixels).resize(
        size, Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    )
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _png(pixels: npt.NDArray[np.uint8], pixel_size: tuple[float, float]) -> str:
    encoded = base64.b64encode(encode_png(pixels, pixel_size)).decode("ascii")
    return "data:image/png;base64," + encoded


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    levels: Mapping[str, float] | None = None,
) -> str:
    """Return a chart as SVG text.

    Parameters
    ----------
    title, x_label, y_label : str
        Shown as they are, escaped.
    lines : sequence of Line
        Drawn in order.
    levels : mapping of str to float, optional
        Named horizontal lines.
    """
    levels = levels or {}
    xs = [v for line in lines for v in line.x if math.isfinite(v)]
    ys = [v for line in lines for v in line.y if math.isfinite(v)] + list(levels.values())
    if not xs or not ys:
        return ""
    frame = _Frame(min(xs), max(xs), min([*ys, 0.0]), max(ys))
    parts = [*_head(title), *frame.axes(x_label, y_label)]
    for name, level in levels.items():
        y = frame.y(level)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="level"/>'
        )
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="{y - 3:.1f}" class="small" '
            f'text-anchor="end">{escape(name)}</text>'
        )
    for k, line in enumerate(lines):
        colour = COLOURS[k % len(COLOURS)]
        dash = ' stroke-dasharray="4 3"' if line.dashed else ""
        parts.extend(
            f'<polyline points="{run}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>'
            for run in frame.runs(line)
        )
        parts.append(
            f'<text x="{LEFT + 8 + 105 * k}" y="{TOP - 2}" class="small" '
            f'fill="{colour}">{escape(line.name)}</text>'
        )
    return "".join(parts) + "</svg>"


def bar_chart(title: str, x_label: str, y_label: str, values: Sequence[float]) -> str:
    """Return a chart of one bar a value as SVG text; nothing where no value is more than 0.

    Parameters
    ----------
    title, x_label, y_label : str
        Shown as they are, escaped.
    values : sequence of float
        Finite, 0 or more; numbered from 1.
    """
    if not values or max(values) <= 0:
        return ""
    frame = _Frame(0.5, len(values) + 0.5, 0.0, max(values))
    base, width = frame.y(0.0), frame.x(1.9) - frame.x(1.0)
    bars = [
        f'<rect x="{frame.x(k + 0.55):.1f}" y="{frame.y(value):.1f}" width="{width:.2f}" '
        f'height="{base - frame.y(value):.1f}" class="bar"/>'
        for k, value in enumerate(values)
    ]
    axes = _Frame(1, max(2, len(values)), 0.0, max(values)).axes(x_label, y_label)
    return "".join([*_head(title), *bars, *axes]) + "</svg>"


def _head(title: str) -> list[str]:
    return [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">',
        f'<text x="{LEFT}" y="14" class="title">{escape(title)}</text>',
    ]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Map numbers to positions on the drawing."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / max(self.x_high - self.x_low, 1e-12) * (
            WIDTH - LEFT - RIGHT
        )

    def y(self, value: float) -> float:
        return (
            HEIGHT
            - BOTTOM
            - (value - self.y_low)
            / max(self.y_high - self.y_low, 1e-12)
            * (HEIGHT - TOP - BOTTOM - 6)
        )

    def axes(self, x_label: str, y_label: str) -> list[str]:
        base, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
        parts = [f'<path d="M{LEFT} {TOP} V{base} H{WIDTH - RIGHT}" class="axis"/>']
        for share in (0.0, 0.5, 1.0):
            x = self.x_low + share * (self.x_high - self.x_low)
            y = self.y_low + share * (self.y_high - self.y_low)
            parts.append(
                f'<text x="{self.x(x):.1f}" y="{base + 14}" class="small" '
                f'text-anchor="middle">{x:.3g}</text>'
            )
            parts.append(
                f'<text x="{LEFT - 5}" y="{self.y(y) + 3:.1f}" class="small" '
                f'text-anchor="end">{y:.3g}</text>'
            )
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" class="small" '
            f'text-anchor="middle">{escape(x_label)}</text>'
        )
        parts.append(
            f'<text transform="translate(12 {middle}) rotate(-90)" class="small" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        )
        return parts

    def runs(self, line: Line) -> list[str]:
        """Pieces of the curve between gaps."""
        runs: list[list[str]] = [[]]
        for x, y in zip(line.x, line.y, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                runs[-1].append(f"{self.x(x):.1f},{self.y(y):.1f}")
            elif runs[-1]:
                runs.append([])
        return [" ".join(run) for run in runs if run]
