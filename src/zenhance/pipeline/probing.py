"""Hallucination probes of a method on a stack: plant, enhance again, count what comes back."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zenhance.assess.probes import (
    GAP,
    Field,
    Finding,
    Plant,
    blank,
    continuity,
    false_structure,
    findings,
    plan_rounds,
    planted,
    shuffled_order,
    summary,
)
from zenhance.errors import MethodError, RunCancelled, StackError
from zenhance.measurement.light_by_depth import find_surface
from zenhance.measurement.volume import measure
from zenhance.physics.blur import Blur
from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import fit_camera
from zenhance.physics.profile import MicroscopeProfile
from zenhance.pipeline.assessing import noise_of_volume
from zenhance.pipeline.judging import Judged, brightest_column
from zenhance.pipeline.plan import psf_for
from zenhance.pipeline.profile import blur_profile_steps, profiled_volume
from zenhance.pipeline.request import NO_PROFILE, EnhanceRequest, replayed
from zenhance.pipeline.result import Progress
from zenhance.pipeline.run import enhance_steps
from zenhance.stack import Stack
from zenhance.steps import drain, relay
from zenhance.types import FloatArray, Region

__all__ = ["ProbeReport", "probe", "probe_judged_steps", "probe_steps"]

MAX_VOXELS = 400_000
"""Probed of a larger stack: its brightest column, all depths."""
MIN_PLANES = 8
ROUNDS = 3
REFERENCE = "gaussian_deconvolution"
"""Tells the light of the wall pieces that are taken away."""
CONTINUES = 0.2
"""Gain in correlation of planes in random order from which a method draws continuity."""


@dataclass(frozen=True)
class ProbeReport:
    """What the probes found.

    Parameters
    ----------
    method : str
        Name of the method.
    findings : tuple of Finding
        Planted structures, by kind, strength and depth.
    false_in_noise, false_in_clouds : float
        Structures per mm² of a section as thick as the PSF that were drawn into even light and
        into clouds of the tissue's light without walls.
    faintest_photons : tuple of float
        Peak of the spot that counts as a structure there: what the measurement shows beyond doubt.
    continuity : float
        Gain in correlation of planes in random order.
    region : tuple of slice
        What was probed of the first volume, (z, y, x).
    sentence : str
        Sensitivity in a sentence.
    pictures : mapping of str to array (Z, Y, X)
        Of the first round: planted, result, result without, and where light was changed.
    voxel_um : tuple of float
        Of the pictures.
    shown : Plant or None
        The structure through which the pictures are cut.
    """

    method: str
    findings: tuple[Finding, ...]
    false_in_noise: float
    false_in_clouds: float
    faintest_photons: tuple[float, float]
    continuity: float
    region: Region
    sentence: str
    seconds: float
    pictures: dict[str, npt.NDArray[Any]] = field(repr=False)
    voxel_um: tuple[float, float, float]
    shown: Plant | None

    @property
    def sentences(self) -> tuple[str, str, str]:
        """Sensitivity, false structure, and continuity, a sentence each."""
        false = ", ".join(
            f"{'none' if count == 0 else f'{count:.3g} per mm²'} in {where}"
            for count, where in (
                (self.false_in_noise, "noise without specimen"),
                (self.false_in_clouds, "tissue without walls"),
            )
        )
        drawn = "become alike" if self.continuity > CONTINUES else "stay unlike each other"
        return (
            self.sentence,
            f"False structure: {false}.",
            f"Planes in random order {drawn} (correlation {self.continuity:+.2f}).",
        )

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return {
            "method": self.method,
            "sentences": self.sentences,
            "findings": [
                {**dataclasses.asdict(f), "shown": f.shown if math.isfinite(f.shown) else None}
                for f in self.findings
            ],
            "false_per_mm2": {"noise": self.false_in_noise, "clouds": self.false_in_clouds},
            "faintest_photons": self.faintest_photons,
            "continuity": self.continuity,
            "region_px": [[part.start, part.stop] for part in self.region],
            "seconds": self.seconds,
        }

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return a head and a row for each planted structure, a column for each depth."""
        depths = sorted({(f.from_um, f.to_um) for f in self.findings})
        head = ("planted", *(f"{low:g} to {high:g} µm deep" for low, high in depths))
        names = list(dict.fromkeys(f.describe() for f in self.findings))
        cells = {(f.describe(), f.from_um): f for f in self.findings}
        rows = []
        for name in names:
            at = [cells.get((name, low)) for low, _ in depths]
            rows.append((name, *("–" if f is None else _cell(f) for f in at)))
        return head, rows

    def page(self) -> str:
        """Return sentences, table and picture as a page without scripts or links."""
        drawn = io.BytesIO()
        self.picture().save(drawn, "PNG", optimize=True)
        picture = base64.b64encode(drawn.getvalue()).decode("ascii")
        head, rows = self.table()
        cells = ["<tr>" + "".join(f"<th>{escape(c)}</th>" for c in head) + "</tr>"]
        cells += ["<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows]
        said = "".join(f"<p>{escape(text)}</p>" for text in self.sentences)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Probes of {self.method}'
            f"</title><style>body{{font-family:sans-serif;margin:2em;max-width:60em}}"
            f"td,th{{padding:0.2em 1em;text-align:left}}img{{max-width:100%}}</style>"
            f"<h1>Probes of {escape(self.method)}</h1>{said}<table>{''.join(cells)}</table>"
            f"<p>Found of planted, with the 95 % interval of the share.</p>"
            f'<img alt="planted structures" src="data:image/png;base64,{picture}"></html>'
        )

    def picture(self) -> Any:
        """Return a picture: a place in the planted measurement and in the results."""
        from zenhance.assess.before_after import MICROMETRE, Cut, before_after

        z, y = (n // 2 for n in next(iter(self.pictures.values())).shape[:2])
        cuts = [Cut("middle plane", 0, z), Cut("xz cut", 1, y)]
        if self.shown is not None:
            deep = (self.shown.at[0] + 0.5) * self.voxel_um[0]
            name = f"{self.shown.kind}\nz = {deep:.1f} {MICROMETRE}"
            cuts = [Cut(name, 0, self.shown.at[0]), Cut("xz cut", 1, self.shown.at[1])]
        return before_after(self.pictures, self.voxel_um, (cuts[0], cuts[1]))


def _cell(f: Finding) -> str:
    return f"{f.found} of {f.planted} ({100 * f.low:.0f}–{100 * f.high:.0f} %)"


@dataclass(frozen=True)
class _Bench:
    """A part of the stack, and how its method is run on it."""

    part: Stack
    request: EnhanceRequest
    cancel: threading.Event

    def steps(
        self, data: npt.NDArray[Any], told: Callable[[float], Progress], method: str = ""
    ) -> Generator[Progress, None, FloatArray]:
        """Enhance other pixels in the place of the part's."""
        changed: dict[str, Any] = {}
        if method:
            changed = {"method": method, "settings": {}, "weights": None}
        request = self.request.model_copy(update=changed)
        steps = enhance_steps(self.part.with_data(data), request, self.cancel)
        result = yield from relay(steps, lambda p: told(p.fraction))
        return _on_voxels(result.stack.read().astype(np.float32), data.shape)


def _on_voxels(image: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Bring a finer result to the measurement's voxels."""
    z, y, x = (n // m for n, m in zip(image.shape, shape, strict=True))
    blocks = image.reshape(shape[0], z, shape[1], y, shape[2], x)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), np.float32)


def probe_steps(
    stack: Stack,
    request: EnhanceRequest | None = None,
    cancel: threading.Event | None = None,
    *,
    rounds: int = ROUNDS,
) -> Generator[Progress, None, ProbeReport]:
    """Probe a method on the first volume of a stack, or on its brightest column.

    Parameters
    ----------
    stack : Stack
        As opened; the request's axes, voxel size, channel and crop are applied to it.
    request : EnhanceRequest, optional
        The method and its settings.
    cancel : threading.Event, optional
        Looked at between the steps.
    rounds : int
        Measurements that are planted in, 1 at least; ten structures of each kind are shared among
        them.

    Raises
    ------
    StackError
        Fewer than eight planes, or the voxel size is unknown.
    MethodError
        The request would learn from the stack, which takes too long to be repeated.
    RunCancelled
        The user stopped it.
    """
    started, stop = time.perf_counter(), cancel or threading.Event()
    request = request or EnhanceRequest()
    if request.learn_minutes is not None:
        raise MethodError(
            "probes run a method many times and cannot learn anew each time; learn first, save the "
            "model, and name it with weights"
        )
    yield Progress("probe", 0.0, None, "measuring the microscope")
    bench, region = _bench(stack, request, stop)
    pause = _Counter(rounds + 5, stop)
    sharp = yield from bench.steps(bench.part.read(), pause.next("looking at the stack"), REFERENCE)
    seen = _field(bench, sharp)
    before = yield from bench.steps(seen.measured, pause.next("enhancing the stack"))
    plants, empty = plan_rounds(seen, rounds, request.seed)
    given, after = [], []
    for number, there in enumerate(plants):
        given.append(planted(seen, there, request.seed + number))
        told = pause.next(f"planted structures, {number + 1} of {rounds}")
        after.append((yield from bench.steps(given[-1], told)))
    false, faintest = yield from _blank_steps(bench, seen, pause)
    order = shuffled_order(seen.measured.shape[0], request.seed)
    mixed = yield from bench.steps(seen.measured[order], pause.next("planes in random order"))
    found = findings(seen, plants, empty, before, after, given)
    shown = next((p for p in plants[0] if p.kind == GAP and p.band == 0),
                 plants[0][0] if plants[0] else None)  # fmt: skip
    return ProbeReport(
        request.method,
        found,
        false[0],
        false[1],
        (faintest[0], faintest[1]),
        continuity(seen, before, mixed, order),
        region,
        summary(found),
        time.perf_counter() - started,
        {
            "planted": given[0],
            "result": after[0],
            "result without": before,
            "light changed": np.float32(seen.background)
            + np.abs(given[0].astype(np.float32) - seen.measured),
        },
        seen.voxel_um,
        shown,
    )


def _blank_steps(
    bench: _Bench, seen: Field, pause: _Counter
) -> Generator[Progress, None, tuple[list[float], list[float]]]:
    """Return false structure in even light and in clouds, and what counts as structure there."""
    false, faintest = [], []
    for clouds in (False, True):
        without = blank(seen, clouds=clouds, seed=bench.request.seed)
        told = pause.next("tissue without walls" if clouds else "noise without specimen")
        drawn = yield from bench.steps(without.measured, told)
        false.append(false_structure(seen, without, drawn))
        faintest.append(without.photons)
    return false, faintest


class _Counter:
    """Progress over several runs, with what each is for."""

    def __init__(self, runs: int, cancel: threading.Event) -> None:
        self.runs, self.done, self.cancel = runs, -1, cancel
        self.started = time.perf_counter()

    def next(self, message: str) -> Callable[[float], Progress]:
        """Return what tells the progress of the next run."""
        if self.cancel.is_set():
            raise RunCancelled("the probes were cancelled; the original is unchanged")
        self.done += 1
        first = self.done

        def told(fraction: float) -> Progress:
            share = (first + fraction) / self.runs
            passed = time.perf_counter() - self.started
            left = passed * (1.0 - share) / share if share > 0.05 else None
            return Progress("probe", share, left, f"probing: {message}")

        return told


def _bench(stack: Stack, request: EnhanceRequest, cancel: threading.Event) -> tuple[_Bench, Region]:
    """Return the part that is probed, with the microscope of the whole."""
    seen = request.apply_to(stack).pick_channel(0)
    if seen.volume_shape[0] < MIN_PLANES:
        raise StackError(
            f"probes need a stack of at least {MIN_PLANES} planes, and this image has "
            f"{seen.volume_shape[0]}; choose another stack"
        )
    seen.voxel_size.require("ZYX")
    region = brightest_column(seen, MAX_VOXELS)
    profile, _ = drain(blur_profile_steps(seen, request, 0))
    cut = seen.crop(dict(zip("ZYX", region, strict=True)))
    # A copy: a view would keep the whole stack in memory.
    part = Stack(
        np.array(cut.read()), "ZYX", seen.voxel_size, name=seen.name, metadata=cut.metadata
    )
    alone = EnhanceRequest(
        **{
            **request.model_dump(exclude_unset=True),
            **dict.fromkeys(_OF_THE_FILE),
            "series": 0,
            "output": request.output,
            "profile": NO_PROFILE if profile is None else json.dumps(
                profile.model_dump(mode="json"), sort_keys=True
            ),
        }
    )  # fmt: skip
    return _Bench(part, alone, cancel), region


def _field(bench: _Bench, sharp: FloatArray) -> Field:
    """Return the measurement with the light of its specimen, and the microscope."""
    part, request = bench.part, bench.request
    camera, reader = noise_of_volume(part, request, 0, 0)
    background = measure([reader], request.background)[0].background
    voxel = part.voxel_size.require("ZYX")
    raw = part.read()
    psf = psf_for(part, request, 0)
    sigma = psf.sigma_um
    if request.profile == NO_PROFILE:
        shape = part.volume_shape
        one = Blur.from_psf(psf, voxel, shape)

        def blur(image: FloatArray) -> FloatArray:
            return np.asarray(one(torch.from_numpy(np.ascontiguousarray(image))).numpy())
    else:
        profile = MicroscopeProfile.model_validate_json(str(request.profile))
        volume = profiled_volume(part, 0, 0, profile)
        by_depth = volume.blur([volume.whole], "cpu")
        sigma = profile.sigma_at_um(0.5 * volume.deepest_um)

        def blur(image: FloatArray) -> FloatArray:
            block = torch.from_numpy(np.ascontiguousarray(image))[None]
            return np.asarray(by_depth(block)[0].numpy())

    light = np.maximum((sharp - np.float32(background)) / np.float32(camera.gain), 0.0)
    surface = find_surface(raw.astype(np.float32), voxel, fit_camera(measure_blocks(raw)))
    depth = surface.depth_um(part.volume_shape, voxel[0])
    return Field(raw, camera, light, background, depth, blur, sigma, voxel)


_OF_THE_FILE = ("axes", "voxel_size_um", "channel", "crop")
"""Fields of a request that are applied to a part before it is probed."""


def probe_judged_steps(
    judged: Judged, cancel: threading.Event
) -> Generator[Progress, None, ProbeReport]:
    """Probe the run that made a judged result, on the part that was judged."""
    fields = replayed(judged.provenance.model_dump(mode="json"))
    for name in (*_OF_THE_FILE, "series"):
        fields.pop(name, None)
    if fields.pop("learn_minutes", None) is not None:
        fields["weights"] = judged.provenance.notes["learnt"]["model"]
    return (yield from probe_steps(judged.raw, EnhanceRequest(**fields), cancel))


def probe(
    image: Stack,
    request: EnhanceRequest | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    **fields: Any,
) -> ProbeReport:
    """Probe how a method treats weak structures, and whether it draws some that are not there.

    Parameters
    ----------
    image : Stack
        The measurement, with its voxel size.
    request : EnhanceRequest, optional
        What to do; or give its fields as keywords: ``method``, ``settings``, ``psf`` ...
    on_progress : callable, optional
        Called with a :class:`Progress` at each step.
    cancel : threading.Event, optional
        Set from another thread, it ends the probes with RunCancelled.

    Returns
    -------
    ProbeReport
        ``report.sentences`` says it in words, ``report.table()`` and ``report.picture()`` show it.

    Raises
    ------
    StackError, MethodError, RunCancelled
        Each with one sentence on what to do.
    """
    known = {} if request is None else request.model_dump(exclude_unset=True)
    wanted = EnhanceRequest(**{**known, **fields})
    return drain(probe_steps(image, wanted, cancel), on_progress)
