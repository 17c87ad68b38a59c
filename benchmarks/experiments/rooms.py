"""Rooms of the package and who imports whom, drawn from the source."""

from __future__ import annotations

import ast
import html
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.house import Checkout
from benchmarks.runner import Experiment, Option, path
from benchmarks.tables import TextTable
from zenhance.errors import MethodError

__all__ = ["EXPERIMENT", "Rooms", "draw_rooms", "measure_rooms", "reduced", "rooms_table"]

WIDTH_PX, ROW_PX, BOX_PX, GAP_PX, TOP_PX = 960, 86, 40, 18, 34
LETTER_PX = 7.6
COLOURS = ("#b3d4fc", "#c9e4ca", "#fde2b8", "#e6d3f2", "#f9cfcf", "#d6d6d6")
STYLE = "font-family='Helvetica,Arial,sans-serif'"


@dataclass(frozen=True)
class Rooms:
    """Rooms by layer from the top, what each holds, and which rooms it imports."""

    layers: tuple[tuple[str, ...], ...]
    purpose: Mapping[str, str]
    imports: Mapping[str, frozenset[str]]

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "layers": [list(layer) for layer in self.layers],
            "imports": {room: sorted(others) for room, others in self.imports.items()},
        }


def measure_rooms(root: Path) -> Rooms:
    """Read the layers from ``pyproject.toml`` and the imports from the source.

    Raises
    ------
    MethodError
        The folder holds no checkout of zenhance.
    """
    project = root / "pyproject.toml"
    checkout = Checkout(root)
    if not project.is_file() or not checkout.sources:
        raise MethodError(f'"{root}" is not a checkout of zenhance; give its top folder')
    contracts = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["importlinter"]
    lines = contracts["contracts"][0]["layers"]
    layers = tuple(
        tuple(name.strip().rpartition(".")[2] for name in line.split("|")) for line in lines
    )
    purpose = {
        room: _first_sentence(checkout.trees[f"{checkout.package}.{room}"])
        for layer in layers
        for room in layer
        if f"{checkout.package}.{room}" in checkout.trees
    }
    shown = tuple(
        tuple(room for room in layer if room in purpose and room[0] != "_") for layer in layers
    )
    return Rooms(tuple(layer for layer in shown if layer), purpose, checkout.rooms())


def _first_sentence(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").partition("\n\n")[0].replace("\n", " ")


def reduced(imports: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the imports without those that follow from others (transitive reduction)."""

    def below(room: str, seen: set[str]) -> set[str]:
        for other in imports.get(room, frozenset()):
            if other not in seen:
                seen.add(other)
                below(other, seen)
        return seen

    found = {}
    for room, others in imports.items():
        implied = {far for other in others for far in below(other, set())}
        found[room] = frozenset(others - implied)
    return found


def rooms_table(rooms: Rooms) -> TextTable:
    """Return a row for each room, from the top layer to the ground."""
    rows = tuple(
        (f"`{room}`", f"{len(rooms.layers) - number}", rooms.purpose[room].rstrip("."))
        for number, layer in enumerate(rooms.layers)
        for room in layer
    )
    return TextTable("Rooms", ("room", "layer", "what it holds"), rows, ())


def draw_rooms(rooms: Rooms) -> str:
    """Return an SVG: a row of boxes for each layer, and arrows for the direct imports."""
    height = TOP_PX + len(rooms.layers) * ROW_PX
    boxes = _boxes(rooms)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH_PX} {height}' {STYLE}>",
        "<rect width='100%' height='100%' fill='white'/>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
        "markerHeight='7' orient='auto'><path d='M0 0L8 4L0 8z' fill='#555'/></marker></defs>",
        f"<text x='12' y='20' font-size='13' fill='#555'>{_caption()}</text>",
    ]
    parts += [
        _arrow(boxes[room], boxes[other])
        for room, others in reduced(rooms.imports).items()
        for other in sorted(others)
        if room in boxes and other in boxes and other not in rooms.layers[-1]
    ]
    for number, layer in enumerate(rooms.layers):
        parts += [_box(room, boxes[room], COLOURS[number % len(COLOURS)]) for room in layer]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _caption() -> str:
    return (
        "An arrow means: imports. Arrows that follow from others, and those to the lowest layer, "
        "which every room uses, are left out."
    )


def _boxes(rooms: Rooms) -> dict[str, tuple[float, float, float]]:
    """Return left edge, top edge and width of each room's box."""
    found = {}
    for number, layer in enumerate(rooms.layers):
        widths = [max(84.0, LETTER_PX * len(room) + 24) for room in layer]
        left = (WIDTH_PX - sum(widths) - GAP_PX * (len(layer) - 1)) / 2
        for room, width in zip(layer, widths, strict=True):
            found[room] = (left, TOP_PX + number * ROW_PX + 10.0, width)
            left += width + GAP_PX
    return found


def _box(room: str, place: tuple[float, float, float], colour: str) -> str:
    left, top, width = place
    return (
        f"<rect x='{left:.0f}' y='{top:.0f}' width='{width:.0f}' height='{BOX_PX}' rx='6' "
        f"fill='{colour}' stroke='#555'/>"
        f"<text x='{left + width / 2:.0f}' y='{top + 25:.0f}' font-size='14' "
        f"text-anchor='middle'>{html.escape(room)}</text>"
    )


def _arrow(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    x0, y0 = start[0] + start[2] / 2, start[1] + BOX_PX
    x1, y1 = end[0] + end[2] / 2, end[1] - 2
    bend = (y1 - y0) / 2
    return (
        f"<path d='M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} "
        f"{x1:.0f} {y1:.0f}' fill='none' stroke='#888' marker-end='url(#tip)'/>"
    )


EXPERIMENT = Experiment(
    measure=lambda options, _tell: measure_rooms(options.checkout),
    tables=lambda rooms: {"rooms": rooms_table(rooms)},
    page="architecture.md",
    pictures=lambda rooms: {"rooms.svg": draw_rooms(rooms)},
    options=(Option("checkout", "Top of the checkout to draw.", "DIR", Path(), path),),
)
