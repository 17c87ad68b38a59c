"""The curves of a running training: loss on the left axis, PSNR of validation on the right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Axis", "LossPlot", "draw_labels", "draw_line", "smoothed"]

Curve = Sequence[tuple[float, float]]
# Readable on napari's dark and light themes alike.
LOSS, PSNR, NOTHING = QColor("#4a90d9"), QColor("#e0912f"), QColor("#8a8a8a")
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 44, 44, 20, 20
# Weight of the past in the thick line; the thin one is the loss of each step.
MEMORY = 0.95


def smoothed(curve: Curve, memory: float = MEMORY) -> list[tuple[float, float]]:
    """Return the running mean of a curve, with Adam's bias correction for the first points."""
    kept, weight, found = 0.0, 0.0, []
    for x, y in curve:
        kept, weight = memory * kept + (1 - memory) * y, memory * weight + (1 - memory)
        found.append((x, kept / weight))
    return found


class Axis:
    """Maps values of one axis to 0 ... 1, with room above and below."""

    def __init__(self, values: Sequence[float], logarithmic: bool) -> None:
        self.logarithmic = logarithmic
        scaled = [self._scaled(v) for v in values]
        low, high = min(scaled), max(scaled)
        room = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-3)
        self.low, self.high = low - room, high + room

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.logarithmic else value

    def __call__(self, value: float) -> float:
        """Return the position of a value, 0 ... 1."""
        return (self._scaled(value) - self.low) / (self.high - self.low)

    def ticks(self, count: int = 3) -> list[tuple[float, str]]:
        """Return positions 0 ... 1 and their labels."""
        found = []
        for number in range(count):
            place = 0.08 + 0.84 * number / (count - 1)
            value = self.low + place * (self.high - self.low)
            found.append((place, f"{10**value:.2g}" if self.logarithmic else f"{value:.4g}"))
        return found


class LossPlot(QWidget):
    """A small plot of whole curves.

    The attributes ``losses`` and ``psnr`` hold what is drawn.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.losses: list[tuple[float, float]] = []
        self.psnr: list[tuple[float, float]] = []
        self.check_losses: list[tuple[float, float]] = []
        self.untreated_db: float | None = None
        self.setMinimumHeight(180)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "blue: training loss (thin: each step, thick: smoothed); orange: PSNR of validation "
            "patches; dashed: PSNR of the same patches without treatment"
        )

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for a low, wide box."""
        return QSize(380, 180)

    def clear(self) -> None:
        """Draw nothing but the axes."""
        self.show_curves((), ())

    def show_curves(
        self, losses: Sequence[tuple[int, float]], checks: Sequence[tuple[int, Mapping[str, float]]]
    ) -> None:
        """Draw these curves from now on.

        Parameters
        ----------
        losses : sequence of (step, loss)
            Of training.
        checks : sequence of (step, figures)
            Of validation: ``psnr_db`` and ``psnr_identity_db``, or ``loss`` without a truth.
        """
        self.losses = [(float(s), v) for s, v in losses]
        self.psnr = [(float(s), f["psnr_db"]) for s, f in checks if "psnr_db" in f]
        self.check_losses = (
            [] if self.psnr else [(float(s), f["loss"]) for s, f in checks if "loss" in f]
        )
        self.untreated_db = next(
            (f["psnr_identity_db"] for _, f in checks if "psnr_identity_db" in f), None
        )
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(7.5)
        painter.setFont(font)
        box = QRectF(
            LEFT_PX, TOP_PX, self.width() - LEFT_PX - RIGHT_PX, self.height() - TOP_PX - BOTTOM_PX
        )
        painter.setPen(QPen(NOTHING, 1))
        painter.drawRect(box)
        if self.losses:
            self._draw_curves(painter, box)
        else:
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, "loss and validation appear here")
        painter.end()

    def _draw_curves(self, painter: QPainter, box: QRectF) -> None:
        last = max(self.losses[-1][0], self.psnr[-1][0] if self.psnr else 1.0, 1.0)
        thick = smoothed(self.losses)
        left = Axis([v for _, v in self.losses + self.check_losses], logarithmic=True)
        draw_line(painter, box, self.losses, last, left, QColor(74, 144, 217, 90), 1.0)
        draw_line(painter, box, thick, last, left, LOSS, 2.0)
        draw_line(painter, box, self.check_losses, last, left, PSNR, 2.0, dots=True)
        draw_labels(painter, box, left, LOSS, on_left=True)
        if self.psnr:
            floor = [] if self.untreated_db is None else [self.untreated_db]
            right = Axis([v for _, v in self.psnr] + floor, logarithmic=False)
            for level in floor:
                draw_line(
                    painter, box, [(0.0, level), (last, level)], last, right, PSNR, 1.0, dashed=True
                )
            draw_line(painter, box, self.psnr, last, right, PSNR, 2.0, dots=True)
            draw_labels(painter, box, right, PSNR, on_left=False)
        self._write_legend(painter, box, last)

    def _write_legend(self, painter: QPainter, box: QRectF, last: float) -> None:
        above = QRectF(4, 0, self.width() - 8, TOP_PX - 2)
        painter.setPen(LOSS)
        painter.drawText(
            above, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, "training loss"
        )
        if self.psnr or self.check_losses:
            text = "validation loss" if self.check_losses else "validation PSNR [dB]"
            text += ", dashed: untreated" if self.untreated_db is not None else ""
            painter.setPen(PSNR)
            painter.drawText(
                above, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, text
            )
        painter.setPen(NOTHING)
        below = QRectF(box.left(), box.bottom() + 2, box.width(), BOTTOM_PX - 2)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, f"step {last:.0f}")


def draw_line(
    painter: QPainter,
    box: QRectF,
    curve: Curve,
    last: float,
    axis: Axis,
    colour: QColor,
    width: float,
    *,
    dashed: bool = False,
    dots: bool = False,
) -> None:
    """Draw a curve from 0 to ``last`` along x."""
    pen = QPen(colour, width)
    pen.setStyle(Qt.PenStyle.DashLine if dashed else Qt.PenStyle.SolidLine)
    painter.setPen(pen)
    points = [
        QPointF(box.left() + box.width() * x / last, box.bottom() - box.height() * axis(y))
        for x, y in curve
    ]
    painter.drawPolyline(QPolygonF(points))
    for point in points if dots else ():
        painter.drawEllipse(point, 1.5, 1.5)


def draw_labels(
    painter: QPainter, box: QRectF, axis: Axis, colour: QColor, *, on_left: bool
) -> None:
    """Write an axis' numbers beside the box."""
    painter.setPen(colour)
    for place, text in axis.ticks():
        y = box.bottom() - place * box.height()
        area = (
            QRectF(0, y - 8, LEFT_PX - 5, 16)
            if on_left
            else QRectF(box.right() + 5, y - 8, RIGHT_PX - 6, 16)
        )
        side = Qt.AlignmentFlag.AlignRight if on_left else Qt.AlignmentFlag.AlignLeft
        painter.drawText(area, side | Qt.AlignmentFlag.AlignVCenter, text)
