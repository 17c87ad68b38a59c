"""The report: one HTML file with the verdict, pictures at equal contrast, curves and tables.

It holds no script and no link; pictures are inside it. All texts are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.assessment import Assessment
from zenhance.assess.cells import CellReport
from zenhance.assess.drawing import Line, bar_chart, line_chart, picture, z_map_picture
from zenhance.assess.reblur_report import ReblurReport
from zenhance.provenance import Provenance
from zenhance.stack import Stack

__all__ = ["render_report"]

Volume = npt.NDArray[Any]
CODES_USED = "codes used"
"""Curves of a record that begin so are counts of a dictionary's words."""

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid #ddd}
.verdict{padding:.8rem 1rem;border-radius:6px;border-left:8px solid}
.green{background:#eaf5ec;border-color:#2e7d32}.amber{background:#fff5e0;border-color:#e09000}
.red{background:#fdeaea;border-color:#c62828}
.row{display:flex;flex-wrap:wrap;gap:12px}figure{margin:0;flex:1 1 240px;max-width:330px}
img{width:100%;image-rendering:pixelated}
figcaption,.note{font-size:.85rem;color:#555}table{border-collapse:collapse;margin:.5rem 0}
td,th{border-bottom:1px solid #ddd;padding:.2rem .7rem;text-align:right}
td:first-child,th:first-child{text-align:left}
svg.chart{width:460px;max-width:100%}svg .title{font:600 12px sans-serif}
svg .small{font:10px sans-serif}
svg .axis{fill:none;stroke:#444}svg .bar{fill:#0b6e99}svg .level{stroke:#999;stroke-dasharray:3 3}
pre{white-space:pre-wrap;font-size:.8rem}
"""


def render_report(
    assessment: Assessment,
    raw: Stack,
    result: Stack,
    *,
    truth: Stack | None = None,
    provenance: Provenance | None = None,
) -> str:
    """Return the report as HTML text.

    Parameters
    ----------
    assessment : Assessment
        From :func:`zenhance.assess.assessment.assess`, with its z-map.
    raw, result : Stack
        What was judged.
    truth : Stack, optional
        Shown beside them.
    provenance : Provenance, optional
        How the result was made; left out, the one that the result carries.
    """
    provenance = provenance or Provenance.find(result.metadata)
    blocks = [
        f"<h1>Assessment of {escape(assessment.result_name)}</h1>",
        _verdict(assessment),
        _pictures(assessment, raw, result, truth),
        _checks(assessment),
        _truth_tables(assessment),
        _resolution(assessment),
        _depth(assessment),
        _words(provenance),
        _origins(assessment, provenance),
    ]
    title = escape(f"{assessment.result_name}: {assessment.verdict}")
    head = f'<head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
    return (
        f'<!DOCTYPE html>\n<html lang="en">{head}<body>\n'
        + "\n".join(b for b in blocks if b)
        + "\n</body></html>\n"
    )


def _verdict(a: Assessment) -> str:
    items = "".join(f"<li>{escape(s)}</li>" for s in a.sentences)
    headline = f"<strong>{a.verdict.capitalize()}. {escape(a.headline)}</strong>"
    return f'<div class="verdict {a.verdict}">{headline}<ul>{items}</ul></div>'


def _volume(stack: Stack, a: Assessment) -> Volume:
    t, c = a.time_point, a.channel
    return stack.read(t if stack.size("T") > t else 0, c if stack.size("C") > c else 0)


def _window(volumes: Iterable[Volume]) -> tuple[float, float]:
    """From the darkest percent to the brightest 0.2 percent of all together."""
    samples = []
    for volume in volumes:
        flat = volume.ravel()[:: max(1, volume.size // 200_000)].astype(np.float64)
        samples.append(flat[np.isfinite(flat)][:200_000])
    together = np.concatenate(samples)
    if together.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(together, [1.0, 99.8])
    return float(low), float(high)


def _pictures(a: Assessment, raw: Stack, result: Stack, truth: Stack | None) -> str:
    stacks = {"Measurement": raw, "Result": result} | ({} if truth is None else {"Truth": truth})
    volumes = {name: _volume(stack, a) for name, stack in stacks.items()}
    window = _window(volumes.values())
    sizes = [1.0 if v is None else v for v in a.voxel_size_um]
    rows = []
    z, y = a.shape_px[0] // 2, a.shape_px[1] // 2
    for view, position in (("plane", z), ("side view", y)):
        if view == "side view" and a.shape_px[0] == 1:
            continue
        cells = []
        for name, volume in volumes.items():
            place = (
                position
                * volume.shape[0 if view == "plane" else 1]
                // a.shape_px[0 if view == "plane" else 1]
            )
            aspect = _aspect(a.shape_px, volume.shape, sizes, view)
            cells.append(
                _figure(
                    picture(_cut(volume, view, place), window, aspect), f"{name}, {view} {place}"
                )
            )
        if a.z_map is not None and a.reblur is not None:
            data = a.z_map.read()
            link = z_map_picture(
                _cut(data, view, position),
                a.reblur.threshold_z,
                _aspect(a.shape_px, data.shape, sizes, view),
            )
            cells.append(_figure(link, "z-map: red, not measured; blue, missing; white, agrees"))
        rows.append(f'<div class="row">{"".join(cells)}</div>')
    note = f"Black is {window[0]:.4g}, white {window[1]:.4g} in each picture of intensities."
    return f'<h2>Pictures</h2>{"".join(rows)}<p class="note">{escape(note)}</p>'


def _cut(volume: Volume, view: str, place: int) -> Volume:
    return volume[place] if view == "plane" else volume[:, place]


def _aspect(
    raw_shape: tuple[int, ...], shape: tuple[int, ...], sizes: Sequence[float], view: str
) -> tuple[float, float]:
    z, y, x = (s * n / m for s, n, m in zip(sizes, raw_shape, shape, strict=True))
    return (y, x) if view == "plane" else (z, x)


def _figure(link: str, caption: str) -> str:
    text = escape(caption)
    return f'<figure><img alt="{text}" src="{link}"><figcaption>{text}</figcaption></figure>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(v)}</td>" for v in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or not math.isfinite(value):
        return "–" if value is None or math.isnan(value) else "∞"
    return f"{value:.{digits}g}"


def _checks(a: Assessment) -> str:
    if a.reblur is None:
        return ""
    rows = _reblur_rows(a.reblur)
    if a.held_out is not None:
        h = a.held_out
        others = f"smoothing {h.gaussian:.5f}, Richardson-Lucy {h.richardson_lucy:.5f}"
        rows.append(("Held-out photons, deviance", f"{h.method:.5f}", others))
    chi2 = a.reblur.chi2_per_slice
    planes = list(range(a.reblur.first_plane, a.reblur.first_plane + len(chi2)))
    chart = line_chart(
        "χ² of each plane",
        "plane",
        "χ²",
        [Line("re-blurred result", planes, chi2)],
        {"noise alone": 1.0},
    )
    table = _table(("", "value", "reference"), rows)
    return f"<h2>Agreement with the measurement</h2>{table}{chart if len(planes) > 1 else ''}"


def _reblur_rows(r: ReblurReport) -> list[tuple[str, str, str]]:
    places = "; ".join(f"z {p.z_px} y {p.y_px} x {p.x_px}: {p.score:.1f}" for p in r.places[:5])
    flagged = f"{100 * r.flagged_share:.4f} %"
    bright = f"of the brightest; {100 * r.smallest_visible_bright:.2g} % in bright places"
    noise_limit = f"{r.expected_correlation:.4f} is what photon noise allows"
    extremes = f"{r.lowest_z:.1f} … {r.highest_z:.1f}"
    doubt = "doubtful" if r.psf_doubtful else ""
    widths = f"{r.width_z:.2f}, {r.width_yx:.2f}"
    return [
        ("Flagged voxels", flagged, "0 passes, above 0.1 % fails"),
        ("of these, structure not measured", f"{100 * r.added_share:.4f} %", ""),
        ("of these, light missing", f"{100 * r.missing_share:.4f} %", ""),
        ("z-map, lowest and highest", extremes, f"threshold {r.threshold_z:.2f}"),
        ("Deviance ratio", _number(r.discrepancy), "0.95 to 1.05"),
        ("Width of the PSF, fitted along z and in the plane", widths, doubt),
        ("Places that only a PSF of another width explains", str(r.psf_places), ""),
        ("Power that the measurement cannot see", f"{100 * r.prior_share:.2g} %", "prior"),
        ("Correlation with the measurement", _number(r.correlation, 4), noise_limit),
        ("Photons in the brightest places", _number(r.peak_photons), ""),
        ("Smallest false spot that is found", f"{100 * r.smallest_visible:.2g} %", bright),
        ("Places that disagree", str(r.place_count), places),
    ]


TRUTH_HEAD = (
    *("", "PSNR dB, fitted", "PSNR dB", "SSIM, fitted", "SSIM", "MS-SSIM", "microSSIM"),
    *("RMSE, fitted", "RMSE", "sum-type RMSE"),
)
LINES_HEAD = ("", "walls, precision", "walls, recall", "junctions, precision", "junctions, recall")


def _truth_tables(a: Assessment) -> str:
    if not (a.truth or a.cells or a.structures):
        return ""
    figures, lines = [], []
    for name, f in a.truth.items():
        t = f.figures
        ratios = (t.psnr_fit_db, t.psnr_db, t.ssim_fit, t.ssim, f.ms_ssim, f.micro_ssim)
        numbers = [_number(v) for v in (*ratios, t.rmse_fit, t.rmse)]
        figures.append([name, *numbers, _number(f.frobenius_255, 4)])
    for name, s in a.structures.items():
        pairs = (s.walls.precision, s.walls.recall, s.junctions.precision, s.junctions.recall)
        lines.append([name, *(_number(v) for v in pairs)])
    parts = [_table(TRUTH_HEAD, figures)] if figures else []
    if a.cells:
        parts.append(_cell_table(a.cells))
    if lines:
        parts.append(_table(LINES_HEAD, lines))
    return "<h2>Against the truth</h2>" + "".join(parts)


def _cell_table(cells: Mapping[str, CellReport]) -> str:
    depths = [
        f"{b.from_um:g} to {b.to_um:g} µm" if b.to_um is not None else f"below {b.from_um:g} µm"
        for b in next(iter(cells.values())).by_depth
    ]
    found = [
        [
            name,
            f"{c.found} of {c.total}",
            _number(c.mean_iou),
            *(f"{b.found}/{b.total}" for b in c.by_depth),
        ]
        for name, c in cells.items()
    ]
    return _table(("", "cells found", "mean IoU", *depths), found)


def _resolution(a: Assessment) -> str:
    if not (a.correlation or a.decorrelation):
        return ""
    rows = []
    for name, c in a.correlation.items():
        values = (c.resolution_seventh_um, c.resolution_143_um, c.resolution_half_bit_um)
        rows.append([f"Measurement, {name}, split photons", *(_number(v) for v in values)])
    table = _table(("Fourier correlation, µm", "1/7", "0.143", "half-bit"), rows) if rows else ""
    charts = "".join(
        line_chart(
            f"Fourier correlation, {name}",
            "cycles per µm",
            "correlation",
            [
                Line("split photons", c.frequency, c.correlation),
                Line("half-bit", c.frequency, c.half_bit, dashed=True),
            ],
            {"1/7": 1 / 7},
        )
        for name, c in a.correlation.items()
    )
    cuts = [
        [f"Decorrelation cut-off, {name}", _number(d.resolution_um), _number(d.peak)]
        for name, d in a.decorrelation.items()
    ]
    second = _table(("", "µm", "peak"), cuts) if cuts else ""
    return f'<h2>Resolution</h2>{table}<div class="row">{charts}</div>{second}'


def _depth(a: Assessment) -> str:
    if not a.depth.get("measurement"):
        return ""
    layers = a.depth["measurement"]
    rows = []
    for k, layer in enumerate(layers):
        reach = (
            f"{layer.from_um:g} to {layer.to_um:g} µm"
            if layer.to_um is not None
            else f"below {layer.from_um:g} µm"
        )
        rows.append(
            [
                f"{layer.name}, {reach}",
                *(
                    _number(v)
                    for figures in a.depth.values()
                    for v in (figures[k].contrast, figures[k].snr)
                ),
            ]
        )
    head = ["", *(f"{name}, {what}" for name in a.depth for what in ("contrast", "SNR"))]
    return f"<h2>By depth below the surface</h2>{_table(head, rows)}"


def _words(provenance: Provenance | None) -> str:
    """Show how often a method with dictionaries used their words, the most used first."""
    curves = {} if provenance is None else provenance.curves
    charts = []
    for name, counts in curves.items():
        if not name.startswith(CODES_USED) or not sum(counts) > 0:
            continue
        shares = sorted((100 * n / sum(counts) for n in counts), reverse=True)
        effective = math.exp(-sum(s / 100 * math.log(s / 100) for s in shares if s > 0))
        where = name.removeprefix(CODES_USED).strip(" ,")
        title = (
            f"{where[:1].upper()}{where[1:]}: as if {effective:.1f} of {len(shares)} words "
            "were used (perplexity)"
        )
        charts.append(bar_chart(title, "word, the most used first", "use in %", shares))
    return (
        f'<h2>Words of the dictionaries</h2><div class="row">{"".join(charts)}</div>'
        if charts
        else ""
    )


def _origins(a: Assessment, provenance: Provenance | None) -> str:
    voxel = " × ".join("?" if v is None else f"{v:.4g}" for v in a.voxel_size_um)
    rows = [
        ("Measurement", a.raw_name),
        (
            "Volume",
            f"{' × '.join(str(n) for n in a.shape_px)} voxels of {voxel} µm, "
            f"time {a.time_point}, channel {a.channel}",
        ),
        ("Point spread function", a.psf or "unknown"),
        ("Camera", a.noise),
    ]
    record = (
        ""
        if provenance is None
        else f"<h2>How the result was made</h2><pre>{escape(provenance.to_json(indent=1))}</pre>"
    )
    return f"<h2>What was judged</h2>{_table(('', ''), rows)}{record}"
