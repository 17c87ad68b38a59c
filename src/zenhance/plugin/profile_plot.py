"""Light and blur of a microscope against depth, each curve with its 90 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from zenhance.physics.profile import MAX_ATTENUATION_UM, MicroscopeProfile
from zenhance.plugin.loss_plot import (
    BOTTOM_PX,
    LEFT_PX,
    LOSS,
    NOTHING,
    PSNR,
    RIGHT_PX,
    TOP_PX,
    Axis,
    draw_labels,
    draw_line,
)

__all__ = ["Band", "ProfilePlot", "bands"]

HEIGHT_PX = 140
LIGHT, SIGMA_Z, SIGMA_YX = LOSS, PSNR, QColor("#3fa66b")
_FILL_ALPHA = 60
_SIGMA_Z_PX = 102
"""Room for the legend of σ z, to the right of that of σ yx."""

Band = Sequence[tuple[float, float, float, float]]
"""Points of (depth, value, low, high)."""


def bands(profile: MicroscopeProfile) -> dict[str, Band]:
    """Return the curves ``light``, ``sigma_z`` and ``sigma_yx`` of a profile.

    The light is relative to the surface. Its interval contains the uncertainty of the attenuation
    length, which adds up with depth.
    """
    length = profile.attenuation_um
    light = []
    if length.origin != "default" or length.value < MAX_ATTENUATION_UM:
        curve = profile.brightness
        for d, v, low, high in zip(
            curve.depth_um, curve.values, curve.low, curve.high, strict=True
        ):
            rates = (1.0 / length.low, 1.0 / length.value, 1.0 / length.high)
            darker, brighter = (math.exp(d * (rates[1] - rate)) for rate in (rates[0], rates[2]))
            light.append((d, v, low * darker, high * brighter))
    found: dict[str, Band] = {"light": light}
    for name, curve in (("sigma_z", profile.sigma_z_um), ("sigma_yx", profile.sigma_yx_um)):
        found[name] = list(zip(curve.depth_um, curve.values, curve.low, curve.high, strict=True))
    return found


class ProfilePlot(QWidget):
    """A small plot: light on the left axis, standard deviations of the PSF on the right one.

    The attribute ``bands`` holds what is drawn.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bands: dict[str, Band] = {}
        self.setFixedHeight(HEIGHT_PX)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "blue: light of the structures relative to the surface; orange and green: standard "
            "deviation of the PSF along z and across; shaded: 90 % intervals"
        )

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for a low box of any width."""
        return QSize(300, HEIGHT_PX)

    def show_profile(self, profile: MicroscopeProfile | None) -> None:
        """Draw a profile from now on; None draws nothing."""
        self.bands = {} if profile is None else bands(profile)
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(7.5)
        painter.setFont(font)
        width, height = self.width() - LEFT_PX - RIGHT_PX, self.height() - TOP_PX - BOTTOM_PX
        box = QRectF(LEFT_PX, TOP_PX, width, height)
        painter.setPen(QPen(NOTHING, 1))
        painter.drawRect(box)
        if self.bands:
            self._draw(painter, box)
        painter.end()

    def _draw(self, painter: QPainter, box: QRectF) -> None:
        deepest = max(p[0] for band in self.bands.values() for p in band) or 1.0
        sides = (
            (True, LIGHT, {"light": LIGHT}),
            (False, SIGMA_Z, {"sigma_z": SIGMA_Z, "sigma_yx": SIGMA_YX}),
        )
        for on_left, colour, curves in sides:
            drawn = {name: _reaching(self.bands[name], deepest) for name in curves}
            heights = [v for band in drawn.values() for point in band for v in point[1:]]
            if not heights:
                continue
            axis = _FromZero(max(heights))
            for name, band in drawn.items():
                _draw_band(painter, box, band, deepest, axis, curves[name])
            draw_labels(painter, box, axis, colour, on_left=on_left)
        self._write_legend(painter, box, deepest)

    def _write_legend(self, painter: QPainter, box: QRectF, deepest: float) -> None:
        above = QRectF(4, 0, self.width() - 8, TOP_PX - 2)
        right, middle = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignVCenter
        for colour, text, side in (
            (LIGHT, "light" if self.bands["light"] else "", Qt.AlignmentFlag.AlignLeft),
            (SIGMA_Z, "σ z of the PSF [µm]", right),
        ):
            painter.setPen(colour)
            painter.drawText(above, side | middle, text)
        painter.setPen(SIGMA_YX)
        painter.drawText(above.adjusted(0, 0, -_SIGMA_Z_PX, 0), right | middle, "σ yx,")
        painter.setPen(NOTHING)
        below = QRectF(box.left(), box.bottom() + 2, box.width(), BOTTOM_PX - 2)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, "depth")
        painter.drawText(below, right, f"{deepest:.3g} µm")


class _FromZero(Axis):
    """An axis from 0 to a round number above the highest value."""

    def __init__(self, highest: float) -> None:
        super().__init__([0.0, 1.0], logarithmic=False)
        power = 10.0 ** math.floor(math.log10(max(highest, 1e-9) / 3.0))
        # Three equal steps of 1, 2, 2.5, 5 or 10 times a power of ten.
        step = next(power * s for s in (1.0, 2.0, 2.5, 5.0, 10.0) if 3.0 * power * s >= highest)
        self.low, self.high = 0.0, 3.0 * step

    def ticks(self, count: int = 4) -> list[tuple[float, str]]:
        """Return evenly spaced positions 0 ... 1 and their labels."""
        places = [number / (count - 1) for number in range(count)]
        return [(place, f"{place * self.high:.3g}") for place in places]


def _reaching(band: Band, deepest: float) -> Band:
    """Return a curve that is constant beyond its first and last knot."""
    if not band:
        return band
    return [(0.0, *band[0][1:]), *band, (deepest, *band[-1][1:])]


def _draw_band(
    painter: QPainter, box: QRectF, band: Band, last: float, axis: Axis, colour: QColor
) -> None:
    """Draw the interval as an area and the value as a line."""

    def point(depth: float, value: float) -> QPointF:
        x = box.left() + box.width() * depth / last
        return QPointF(x, box.bottom() - box.height() * axis(value))

    area = [point(d, low) for d, _, low, _ in band]
    area += [point(d, high) for d, _, _, high in reversed(band)]
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour.red(), colour.green(), colour.blue(), _FILL_ALPHA))
    painter.drawPolygon(QPolygonF(area))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    draw_line(painter, box, [(d, v) for d, v, _, _ in band], last, axis, colour, 2.0)
