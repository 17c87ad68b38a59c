"""Compare methods: all of them on the crop in view, on one sheet, and a click to run one."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QDialog,
    QFrame,
    QGridLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from zenhance.pipeline import EnhanceRequest
from zenhance.plugin.dock_words import in_dock_words
from zenhance.plugin.snapshot import Snapshot, View
from zenhance.plugin.task import Steps
from zenhance.plugin.verdict import COLOURS

if TYPE_CHECKING:
    from zenhance.pipeline.comparing import Compared, Comparison

__all__ = ["CompareSheet", "compare_view_steps"]

ACROSS = 4
PICTURE_PX = 220
SHEET_PX = (1000, 680)
Pictures = Mapping[str, Mapping[str, str]]


def compare_view_steps(
    snapshot: Snapshot, request: EnhanceRequest, view: View, cancel: threading.Event
) -> Steps:
    """Compare all methods on what is in view, in the worker; return comparison and pictures."""
    from zenhance.pipeline.comparing import compare_steps, crop_around
    from zenhance.pipeline.comparison_sheet import pictures_of
    from zenhance.pipeline.preview import as_requested

    yield from snapshot.copy_steps()
    stack = snapshot.stack()
    shape = as_requested(stack, request).volume_shape
    crop = crop_around(shape, view.at.get("Z", 0), view.field)
    channel = view.at.get("C", 0) if request.channel is None else request.channel
    found = yield from compare_steps(
        stack, request, crop, t=view.at.get("T", 0), c=channel, cancel=cancel
    )
    return found, pictures_of(found)


class CompareSheet(QDialog):
    """The contact sheet: a card a method, each with a button that runs it on the whole layer.

    Parameters
    ----------
    comparison : Comparison
        What was compared.
    pictures : mapping
        PNG data links by method and cut, as
        :func:`~zenhance.pipeline.comparison_sheet.pictures_of` returns them.
    parent : QWidget
        The dock.
    """

    chosen = Signal(object)

    def __init__(self, comparison: Comparison, pictures: Pictures, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Methods compared on {comparison.name}")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(*SHEET_PX)
        self.buttons: dict[str, QPushButton] = {}
        self.texts: dict[str, QLabel] = {}
        suggested = comparison.suggested
        cards = QWidget(self)
        grid = QGridLayout(cards)
        rows = [comparison.measured, *comparison.rows]
        for number, row in enumerate(rows):
            card = self._card(row, pictures.get(row.method, {}), row is suggested)
            grid.addWidget(card, number // ACROSS, number % ACROSS, Qt.AlignmentFlag.AlignTop)
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(cards)
        note = QLabel(
            "Black and white are the same in all pictures. Suggested: the least noisy of the "
            "results that are not red and about as sharp as the sharpest.",
            self,
        )
        note.setWordWrap(True)
        column = QVBoxLayout(self)
        column.addWidget(note)
        column.addWidget(area, 1)
        first = None if suggested is None else self.buttons[suggested.method]
        if first is not None:
            first.setDefault(True)
            first.setFocus()

    def _card(self, row: Compared, links: Mapping[str, str], suggested: bool) -> QWidget:
        card = QWidget(self)
        column = QVBoxLayout(card)
        column.setContentsMargins(0, 0, 0, 0)
        for cut, link in links.items():
            picture = QPixmap()
            picture.loadFromData(base64.b64decode(link.partition(",")[2]))
            label = QLabel(card)
            label.setPixmap(
                picture.scaledToWidth(PICTURE_PX, Qt.TransformationMode.SmoothTransformation)
            )
            label.setToolTip(f"{row.title}, {cut}")
            column.addWidget(label)
        text = QLabel(_words(row, suggested), card)
        text.setTextFormat(Qt.TextFormat.RichText)
        text.setWordWrap(True)
        text.setFixedWidth(PICTURE_PX)
        self.texts[row.method] = text
        column.addWidget(text)
        if row.method and row.volume is not None:
            button = QPushButton(f"Enhance with {row.title}", card)
            button.setToolTip("choose this method and run it on the whole layer")
            button.setAutoDefault(suggested)
            button.clicked.connect(partial(self._run, row.request))
            self.buttons[row.method] = button
            column.addWidget(button)
        column.addStretch(1)
        return card

    def _run(self, request: EnhanceRequest, *_: Any) -> None:
        self.chosen.emit(request)
        self.close()


def _words(row: Compared, suggested: bool) -> str:
    """Return title, verdict in its colour, figures and remark as rich text."""
    title = f"<b>{escape(row.title)}</b>" + (" · suggested" if suggested else "")
    lines = [title]
    if row.verdict:
        said = escape(in_dock_words(row.sentence))
        lines.append(f'<span style="color: {COLOURS[row.verdict]}">● {row.verdict}: {said}</span>')
    elif row.sentence:
        lines.append(escape(in_dock_words(row.sentence)))
    lines += [escape(text) for text in (row.facts(), in_dock_words(row.remark)) if text]
    return "<br>".join(lines)
