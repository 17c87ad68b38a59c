"""Compare methods on one crop: each is run as on the whole stack, judged and measured.

::

    crop ──► method 1 ──► judge ──► verdict, seconds, sharpness, noise ──┐
         ──► method 2 ──► …                                              ├──► Comparison ──► sheet
         ──► …                                                           ┘

A crop gets the statistics, the noise and the microscope of the whole volume, as a preview does.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zenhance.assess.decorrelation import decorrelation_resolution
from zenhance.assess.depth import contrast_by_depth
from zenhance.contract import registry
from zenhance.contract.spec import REMARK
from zenhance.errors import RunCancelled, StackError, ZenhanceError
from zenhance.pipeline.judging import brightest_column, judge_steps
from zenhance.pipeline.preview import as_requested, measure_sample, part_steps
from zenhance.pipeline.request import NO_WEIGHTS, EnhanceRequest, Range
from zenhance.pipeline.result import Progress
from zenhance.stack import Stack
from zenhance.steps import relay
from zenhance.types import FloatArray, FloatTriple

__all__ = ["Compared", "Comparison", "compare_steps", "crop_around"]

MAX_PLANES = 16
MAX_SIDE_PX = 160
"""All methods take a minute or two on two cores for such a crop."""
MIN_SIDE_PX = 32
SHARPNESS_PLANES = 3
MEASURED = "measured"
BLURRIER = 1.15
"""Finest details within this factor of the finest count as equal."""

Crop = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Compared:
    """One method on the crop, or the measurement itself.

    Parameters
    ----------
    method, title : str
        Its name, and its name for people; the measurement has no name.
    request : EnhanceRequest
        That enhances the whole stack with it.
    volume : float32 array (Z, Y, X) or None
        On the voxels of the measurement; None if the method failed.
    verdict : str
        ``green``, ``amber`` or ``red``; empty where there is none.
    sentence : str
        The verdict in words, or why there is none.
    remark : str
        What the run says about its result.
    seconds : float
        Of the run on the crop, without the judge.
    detail_um : float or None
        Finest detail that stands out of the noise (decorrelation analysis), in the plane.
    noise_percent : float or None
        What varies faster than 1 µm in the dark places of the measurement, in percent of the
        difference between its bright and its dark places.
    """

    method: str
    title: str
    request: EnhanceRequest
    volume: FloatArray | None = None
    verdict: str = ""
    sentence: str = ""
    remark: str = ""
    seconds: float = math.nan
    detail_um: float | None = None
    noise_percent: float | None = None

    def facts(self) -> str:
        """Return seconds, sharpness and noise in one line."""
        said = [f"{self.seconds:.1f} s"] if math.isfinite(self.seconds) else []
        if self.detail_um is not None:
            said.append(f"finest detail {self.detail_um:.2f} µm")
        if self.noise_percent is not None:
            said.append(f"noise {self.noise_percent:.2g} %")
        return " · ".join(said)

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        figures = {
            "method": self.method,
            "title": self.title,
            "verdict": self.verdict or None,
            "sentence": self.sentence,
            "remark": self.remark,
            "seconds": round(self.seconds, 3) if math.isfinite(self.seconds) else None,
            "finest_detail_um": self.detail_um,
            "noise_percent": self.noise_percent,
        }
        return {**figures, "failed": self.volume is None}


@dataclass(frozen=True)
class Comparison:
    """Several methods on one crop.

    Parameters
    ----------
    name : str
        Of the stack.
    crop : tuple of (start, stop)
        In voxels of the stack, z, y, x.
    voxel_um : tuple of float
        (z, y, x); 1 where it is unknown.
    measured : Compared
        The measurement, with its own sharpness and noise.
    rows : tuple of Compared
        One a method, in the order of the registry.
    """

    name: str
    crop: Crop
    voxel_um: FloatTriple
    measured: Compared
    rows: tuple[Compared, ...]

    @property
    def suggested(self) -> Compared | None:
        """The method to run on the whole: not red, about as sharp as the sharpest, and least noisy.

        A method that failed, or that changes nothing, is never suggested. A red result is suggested
        only where all are red.
        """
        rows = [row for row in self.rows if row.volume is not None and self.changes(row)]
        believed = [row for row in rows if row.verdict != "red"] or rows
        sharpest = min((row.detail_um or math.inf for row in believed), default=math.inf)
        sharp = [row for row in believed if (row.detail_um or math.inf) <= BLURRIER * sharpest]
        return min(sharp, key=_rank, default=None)

    def changes(self, row: Compared) -> bool:
        """Tell whether a row's result differs from the measurement."""
        shown, own = self.measured.volume, row.volume
        return shown is None or own is None or not np.array_equal(shown, own)

    def record(self) -> dict[str, Any]:
        """Return all figures as JSON can hold them."""
        best = self.suggested
        return {
            "name": self.name,
            "crop": [list(span) for span in self.crop],
            "voxel_um": list(self.voxel_um),
            "suggested": None if best is None else best.method,
            "measured": self.measured.record(),
            "rows": [row.record() for row in self.rows],
        }


def _rank(row: Compared) -> tuple[float, bool, float]:
    noise = math.inf if row.noise_percent is None else row.noise_percent
    return (noise, row.verdict != "green", row.detail_um or math.inf)


def compare_steps(
    stack: Stack,
    request: EnhanceRequest,
    crop: tuple[Range, Range, Range] | None = None,
    methods: Sequence[str] | None = None,
    *,
    t: int = 0,
    c: int = 0,
    cancel: threading.Event | None = None,
) -> Generator[Progress, None, Comparison]:
    """Run, judge and measure methods on one crop, step by step.

    Parameters
    ----------
    stack : Stack
        The whole input.
    request : EnhanceRequest
        What all methods have in common; its settings and weights count for its own method, all
        others take their defaults. Nothing is learnt.
    crop : tuple of (start, stop), optional
        z, y, x in voxels; left out, the brightest place, at most 16 × 160 × 160 voxels.
    methods : sequence of str, optional
        Names; left out, all that change something.
    t, c : int
        Time point and channel.
    cancel : threading.Event, optional
        Set from any thread, it ends the comparison at the next step.

    Yields
    ------
    Progress
        Over all methods.

    Raises
    ------
    MethodError
        A method is unknown.
    StackError
        The crop is empty, or smaller than 32 pixels along y or x.
    RunCancelled
        The user stopped it.

    Notes
    -----
    A method that fails is a row that says why; the others run on.
    """
    cancel = cancel or threading.Event()
    names = list(dict.fromkeys(methods or registry.names()))
    wanted = {name: _for_method(request, name) for name in names}
    whole = as_requested(stack, request)
    whole = whole.crop({a: slice(i, i + 1) for a, i in (("T", t), ("C", c)) if a in whole.axes})
    span = _checked(crop, whole) if crop is not None else _brightest(whole)
    part = EnhanceRequest(crop=span).apply_to(whole)
    measured = np.asarray(part.read(), np.float32)
    voxel = _voxel_um(whole)
    yield Progress("measure", 0.0, None, "measuring statistics and noise")
    known = measure_sample(whole, request)
    rows = []
    for number, (name, own) in enumerate(wanted.items()):
        title = registry.load(name).spec.title.partition(" (")[0]

        def told(step: Progress, number: int = number, title: str = title) -> Progress:
            fraction = (number + min(max(step.fraction, 0.0), 1.0)) / len(wanted)
            return Progress("compare", fraction, None, f"{title}: {step.message}")

        blank = Compared(name, title, own)
        rows.append((yield from relay(_row_steps(whole, blank, span, known, cancel), told)))
    compared = Comparison(
        stack.name, span, voxel, Compared("", MEASURED, request, measured), tuple(rows)
    )
    return _measured(compared, keep_all=methods is not None)


def _row_steps(
    whole: Stack, blank: Compared, crop: Crop, known: Any, cancel: threading.Event
) -> Generator[Progress, None, Compared]:
    """Run one method on the crop and judge the result; a failure becomes the sentence."""
    request = blank.request
    started = time.perf_counter()
    try:
        result, profiled = yield from part_steps(whole, request, crop, cancel, known)
    except RunCancelled:
        raise
    except ZenhanceError as error:
        return replace(blank, sentence=f"failed: {error}")
    row = replace(
        blank,
        seconds=time.perf_counter() - started,
        volume=_on_grid(result.stack.read(), tuple(b - a for a, b in crop)),
        remark=str(result.provenance.notes.get(REMARK) or ""),
    )
    try:
        own = EnhanceRequest(**result.provenance.request)
        judged = yield from judge_steps(whole, result, own, cancel, profiled)
    except RunCancelled:
        raise
    except ZenhanceError as error:
        return replace(row, sentence=f"not judged: {error}")
    found = judged.assessment
    return replace(row, verdict=found.verdict, sentence=found.headline)


def _for_method(request: EnhanceRequest, name: str) -> EnhanceRequest:
    """Return the request with another method, which takes its default settings and weights."""
    if name not in registry.names():
        registry.load(name)  # raises the sentence with the known names
    fields = request.model_dump(exclude_unset=True) | {
        "method": name,
        "crop": None,
        "learn_minutes": None,
    }
    if name != request.method:
        fields |= {"settings": {}, "weights": None}
    if fields.get("weights") == NO_WEIGHTS:
        fields["weights"] = None
    return EnhanceRequest(**fields)


def _checked(crop: Sequence[Range], stack: Stack) -> Crop:
    spans = []
    for axis, (first, last), size in zip("zyx", crop, stack.volume_shape, strict=True):
        start, stop = first or 0, size if last is None else min(last, size)
        least = 1 if axis == "z" else MIN_SIDE_PX
        if stop - start < least:
            raise StackError(
                f"the crop {start}:{stop} along {axis} leaves {max(stop - start, 0)} of {size} "
                f"voxels; give at least {least}"
            )
        spans.append((start, stop))
    return (spans[0], spans[1], spans[2])


def crop_around(
    shape_px: tuple[int, int, int],
    plane: int,
    field: Mapping[str, slice] | None = None,
) -> Crop:
    """Return what of a view to compare: planes about the one in view, and the middle of the field.

    Parameters
    ----------
    shape_px : tuple of int
        Of the volume, (Z, Y, X).
    plane : int
        In view.
    field : mapping, optional
        Slices along ``Y`` and ``X`` in view; left out, the whole plane.
    """
    spans = []
    for axis, size, most in zip(
        "ZYX", shape_px, (MAX_PLANES, MAX_SIDE_PX, MAX_SIDE_PX), strict=True
    ):
        seen = slice(plane, plane + 1) if axis == "Z" else (field or {}).get(axis, slice(None))
        start, stop, _ = seen.indices(size)
        length = most if axis == "Z" else max(MIN_SIDE_PX, min(most, stop - start))
        first = min(max(0, (start + stop - length) // 2), max(size - length, 0))
        spans.append((first, min(first + length, size)))
    return (spans[0], spans[1], spans[2])


def _brightest(stack: Stack) -> Crop:
    z, y, x = brightest_column(stack)
    crop = crop_around(stack.volume_shape, (z.start + z.stop) // 2, {"Y": y, "X": x})
    return _checked(crop, stack)


def _voxel_um(stack: Stack) -> FloatTriple:
    z, y, x = (1.0 if v is None else v for v in stack.voxel_size.zyx_um)
    return (z, y, x)


def _on_grid(volume: Any, shape: tuple[int, ...]) -> FloatArray:
    """Return a result on the voxels of the measurement: blocks of finer voxels are averaged."""
    data = np.asarray(volume, np.float32)
    for axis, size in enumerate(shape):
        if data.shape[axis] != size:
            factor = data.shape[axis] // size
            split = (*data.shape[:axis], size, factor, *data.shape[axis + 1 :])
            data = data.reshape(split).mean(axis=axis + 1)
    return data


def _measured(compared: Comparison, *, keep_all: bool) -> Comparison:
    """Add sharpness and noise; drop methods that change nothing unless they were requested."""
    rows = [row for row in compared.rows if keep_all or compared.changes(row)]
    volumes = {
        number: row.volume
        for number, row in enumerate([compared.measured, *rows])
        if row.volume is not None
    }
    measured = np.nan_to_num(volumes[0])
    figures = contrast_by_depth(
        measured,
        {str(number): np.nan_to_num(volume) for number, volume in volumes.items()},
        compared.voxel_um,
        np.zeros(measured.shape, np.float32),
        (0.0,),
    )

    def told(number: int, row: Compared) -> Compared:
        if row.volume is None:
            return row
        snr = next((layer.snr for layer in figures[str(number)]), math.nan)
        noise = 100.0 / snr if snr > 0 else None
        return replace(
            row, noise_percent=noise, detail_um=_finest_um(row.volume, compared.voxel_um[2])
        )

    first, *others = (told(n, row) for n, row in enumerate([compared.measured, *rows]))
    return replace(compared, measured=first, rows=tuple(others))


def _finest_um(volume: FloatArray, pixel_um: float) -> float | None:
    """Return the median cut-off of three planes in µm; None where nothing stands out."""
    planes = np.unique(np.linspace(0, len(volume) - 1, SHARPNESS_PLANES + 2).round()[1:-1])
    found = [
        decorrelation_resolution(np.nan_to_num(volume[int(z)]), pixel_um).resolution_um
        for z in planes
    ]
    cuts = [value for value in found if value is not None]
    return float(np.median(cuts)) if cuts else None
