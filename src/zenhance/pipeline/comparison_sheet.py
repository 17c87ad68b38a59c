"""The contact sheet of a comparison: one HTML page and one PNG, all pictures at one contrast."""

from __future__ import annotations

import io
from html import escape

import numpy as np

from zenhance.assess.before_after import Cut, before_after
from zenhance.assess.drawing import picture
from zenhance.assess.report import STYLE
from zenhance.pipeline.comparing import Compared, Comparison
from zenhance.types import FloatArray

__all__ = ["pictures_of", "sheet_html", "sheet_png"]

BLACK_QUANTILE, WHITE_QUANTILE = 0.1, 99.7
SHEET_STYLE = (
    ".card{flex:1 1 300px;max-width:330px;border-top:6px solid #bbb;padding-top:6px}"
    ".card.green{background:none;border-color:#2e7d32}.card.amber{background:none;"
    "border-color:#e09000}.card.red{background:none;border-color:#c62828}"
)


def _shown(comparison: Comparison) -> list[Compared]:
    return [comparison.measured, *comparison.rows]


def _window(comparison: Comparison) -> tuple[float, float]:
    volumes = [row.volume for row in _shown(comparison) if row.volume is not None]
    limits = [np.nanpercentile(v, [BLACK_QUANTILE, WHITE_QUANTILE]) for v in volumes]
    # The median over the methods: one that overshoots does not darken all others.
    black, white = np.median(np.array(limits), axis=0)
    return float(black), float(white)


def _cuts(volume: FloatArray) -> dict[str, FloatArray]:
    depth, height, _ = volume.shape
    plane = {"plane": volume[depth // 2]}
    return plane | ({"xz": volume[:, height // 2]} if depth > 1 else {})


def pictures_of(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Return the pictures of each method as PNG data links, by name and by cut.

    The measurement has the empty name. The cuts are ``plane``, the middle one, and ``xz`` through
    the middle of a stack. Black and white are the same in all pictures.
    """
    window = _window(comparison)
    z, y, x = comparison.voxel_um
    pixel = {"plane": (y, x), "xz": (z, x)}
    return {
        row.method: {
            cut: picture(image, window, pixel[cut]) for cut, image in _cuts(row.volume).items()
        }
        for row in _shown(comparison)
        if row.volume is not None
    }


def sheet_html(comparison: Comparison) -> str:
    """Return the sheet as HTML text without script or link; pictures are inside it."""
    links, best = pictures_of(comparison), comparison.suggested
    cards = "".join(
        _card(row, links.get(row.method, {}), row is best) for row in _shown(comparison)
    )
    spans = ", ".join(
        f"{axis} {start} to {stop - 1}"
        for axis, (start, stop) in zip("zyx", comparison.crop, strict=True)
    )
    title = escape(f"Methods compared on {comparison.name}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}{SHEET_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{escape(spans)}; black and white are the same in all pictures. Suggested is the "
        "least noisy of the results that are not red and about as sharp as the sharpest."
        f'</p><div class="row">{cards}</div></body></html>\n'
    )


def _card(row: Compared, links: dict[str, str], best: bool) -> str:
    images = "".join(
        f'<img alt="{escape(f"{row.title}, {cut}")}" src="{link}">' for cut, link in links.items()
    )
    verdict = f"{row.verdict}: {row.sentence}" if row.verdict else row.sentence
    lines = [verdict, row.facts(), row.remark]
    said = "<br>".join(escape(line) for line in lines if line)
    name = escape(row.title) + (" — suggested" if best else "")
    return (
        f'<figure class="card {row.verdict}"><strong>{name}</strong>{images}'
        f"<figcaption>{said}</figcaption></figure>"
    )


def sheet_png(comparison: Comparison) -> bytes:
    """Return the sheet as one grey picture with title, verdict and figures above each column."""
    depth, height = (stop - start for start, stop in comparison.crop[:2])
    cuts = [Cut("plane", 0, depth // 2)]
    if depth > 1:
        cuts.append(Cut("xz cut", 1, height // 2))
    volumes = {
        _heading(row): np.nan_to_num(row.volume)
        for row in _shown(comparison)
        if row.volume is not None
    }
    buffer = io.BytesIO()
    window = _window(comparison)
    before_after(volumes, comparison.voxel_um, tuple(cuts), window).save(
        buffer, "png", optimize=True
    )
    return buffer.getvalue()


def _heading(row: Compared) -> str:
    # Pillow's own font has no µ.
    facts = row.facts().replace("finest detail ", "").replace("µm", "um").replace(" · ", ", ")
    return ": ".join(part for part in (row.title, row.verdict, facts) if part)
