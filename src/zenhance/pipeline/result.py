"""What a run gathers on its way, and what it gives back: the enhanced stack with its provenance."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zenhance._version import __version__
from zenhance.contract.spec import (
    Method,
    MethodContext,
    OutputSpec,
    VolumeStatistics,
)
from zenhance.errors import RunCancelled
from zenhance.io.beads import bead_file
from zenhance.measurement.reader import PixelHash, VolumeReader
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.profile import MicroscopeProfile
from zenhance.pipeline.changes import VolumeChange, change_warnings
from zenhance.pipeline.journal import Journal
from zenhance.pipeline.output import Output
from zenhance.pipeline.plan import RunPlan, work_of
from zenhance.pipeline.request import EnhanceRequest
from zenhance.provenance import METADATA_KEY, Provenance, libraries, sample_count
from zenhance.stack import Stack, VoxelSize
from zenhance.tiling.run import RunReport

if TYPE_CHECKING:
    from zenhance.physics.profile_volume import ProfiledVolume

# What a run finds about its volumes, volume by volume.
_REPORTED = (
    "statistics", "noise", "psfs", "profiles", "warnings", "curves", "notes", "weights_sha256",
    "freedom", "deblurs",
)  # fmt: skip

__all__ = ["EnhanceResult", "Progress", "Run", "input_warnings", "result_of"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run: stage in words, fraction 0 ... 1, seconds left if known."""

    stage: str
    fraction: float
    seconds_left: float | None
    message: str


@dataclass(frozen=True)
class EnhanceResult:
    """What a run gives back.

    Parameters
    ----------
    stack : Stack
        The enhanced image, same place in space as the input; its metadata carry the provenance.
    extras : mapping of str to Stack
        Further outputs, such as an uncertainty. Samples lie along the axis T, as their record says.
    provenance : Provenance
        The account of the run.
    """

    stack: Stack
    extras: Mapping[str, Stack]
    provenance: Provenance

    def samples(self, name: str) -> int:
        """Return how many samples a further output has; 0 where it is one image."""
        record = self.extras[name].metadata.get(METADATA_KEY)
        return sample_count(json.loads(record)) if isinstance(record, str) else 0

    def account(self, name: str = "") -> Provenance:
        """Return the provenance of an output: the enhanced image, or another one by its name."""
        return self.provenance.of_output(name, self.samples(name)) if name else self.provenance


@dataclass
class Run:
    """What one run gathers on its way."""

    plan: RunPlan
    method: Method
    request: EnhanceRequest
    cancel: threading.Event
    outputs: dict[str, Output]
    known: tuple[VolumeStatistics, PoissonGauss] | None
    # Hashes the input while it is measured; None where the journal knows the hash already.
    pixels: PixelHash | None
    journal: Journal | None = None
    started: float = field(default_factory=time.perf_counter)
    # Learning from the stack comes first: it has its share of the progress, and says what to go on
    # with.
    weights: str | None = None
    learnt_share: float = 0.0
    enhancing: float = field(default_factory=time.perf_counter)
    statistics: list[VolumeStatistics] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    noise: list[PoissonGauss] = field(default_factory=list)
    psfs: list[str] = field(default_factory=list)
    reports: list[RunReport] = field(default_factory=list)
    changes: list[VolumeChange] = field(default_factory=list)
    weights_sha256: str = ""
    freedom: list[float] = field(default_factory=list)
    deblurs: list[bool] = field(default_factory=list)
    kept: dict[int, MethodContext] = field(default_factory=dict)
    profiles: dict[int, MicroscopeProfile | None] = field(default_factory=dict)
    profiled: ProfiledVolume | None = None
    readers: dict[tuple[int, int], VolumeReader] = field(default_factory=dict)

    def reader(self, t: int, c: int) -> VolumeReader:
        """Return the reader of a volume, which knows its missing voxels once it was measured."""
        return self.readers.setdefault(
            (t, c), VolumeReader(self.plan.stack, t, c, self.request.repair_outliers)
        )

    def progress(self, stage: str, fraction: float, message: str) -> Progress:
        """Return the progress of the whole run, with the seconds left once they are known."""
        passed = time.perf_counter() - self.enhancing
        left = passed * (1 - fraction) / fraction if fraction > 0.02 and passed > 0.5 else None
        return Progress(
            stage, self.learnt_share + (1 - self.learnt_share) * fraction, left, message
        )

    def shares(self, whole_voxels: int) -> tuple[float, float]:
        """Return the shares of a volume's work that measuring and preparing take."""
        voxels = math.prod(self.plan.stack.volume_shape)
        read = self.plan.read_voxels // self.plan.volumes
        before, after = work_of(self.request, voxels, read, whole_voxels)
        total = voxels + before + after
        return voxels / total, before / total

    def report(self) -> dict[str, Any]:
        """Return what was found about volumes, for :meth:`absorb` in another process."""
        return {name: getattr(self, name) for name in _REPORTED}

    def absorb(self, report: Mapping[str, Any]) -> None:
        """Add what another process found about volumes."""
        for name in _REPORTED:
            own, more = getattr(self, name), report[name]
            if isinstance(own, dict):
                own.update(more)
            elif name in ("warnings", "psfs"):
                own += [text for text in more if text not in own]
            elif isinstance(own, list):
                own += more
            else:
                setattr(self, name, more or own)

    def check(self) -> None:
        """Raise :class:`RunCancelled` where the user cancelled."""
        if self.cancel.is_set():
            raise RunCancelled("the run was cancelled; the original is unchanged")


def input_warnings(plan: RunPlan) -> list[str]:
    """Say what is unusual about the input: notes of its reader, other images, voxel size."""
    said = [f"the input: {note}" for note in plan.stack.metadata.get("warnings", ())]
    image, images = (plan.stack.metadata.get(key) for key in ("image", "images"))
    if image is not None and images is not None:
        name = plan.stack.path.name if plan.stack.path else plan.stack.name
        said.append(f'{images} in "{name}" was taken (series {image}); choose another by series')
    for axis, length in zip("ZYX", plan.stack.voxel_size.zyx_um, strict=True):
        if axis in plan.stack.axes and length is not None and not 0.005 <= length <= 100:
            said.append(
                f"voxel size in {axis.lower()} is {length:g} µm, unusual for a light microscope; "
                "check it"
            )
    z, y, _ = plan.stack.voxel_size.zyx_um
    if z is not None and y is not None and "Z" in plan.stack.axes and not y / 10 <= z <= 100 * y:
        said.append(f"voxel size in z is {z:g} µm but {y:g} µm in y; check the unit")
    return said


def _finer(voxel_size: VoxelSize, scale: tuple[int, int, int]) -> VoxelSize:
    lengths = [None if v is None else v / s for v, s in zip(voxel_size.zyx_um, scale, strict=True)]
    return VoxelSize(lengths[0], lengths[1], lengths[2], voxel_size.origins)


def result_of(run: Run, input_sha256: str) -> EnhanceResult:
    """Return the result of a finished run, whose input has the given hash."""
    stack, request, report = run.plan.stack, run.request, run.reports[-1]
    main = run.outputs[request.outputs()[0].name]
    # Evening out the light changes the total on purpose.
    changed = [] if request.even_light else list(change_warnings(run.changes))
    provenance = Provenance(
        version=__version__,
        request={**request.model_dump(mode="json"), "series": _series(run)},
        input_name=stack.path.name if stack.path else stack.name,
        input_sha256=input_sha256,
        input_axes=stack.axes,
        input_shape=stack.shape,
        input_dtype=str(stack.dtype),
        voxel_size_um=stack.voxel_size.zyx_um,
        voxel_size_origins=stack.voxel_size.origins,
        psf="; ".join(run.psfs),
        noise="; ".join(_describe_noise(n) for n in run.noise),
        statistics=tuple(_finite_record(s) for s in run.statistics),
        weights_sha256=run.weights_sha256,
        device=f"{run.plan.device.name} ({run.plan.device.title})",
        device_reason=run.plan.device.reason,
        seed=request.seed,
        seconds=round(time.perf_counter() - run.started, 3),
        tiles={
            "count": sum(r.tiles for r in run.reports),
            "core_px": list(report.core_shape_px),
            "halo_px": list(report.halo_px),
            "shrunk": sum(r.shrunk for r in run.reports),
        },
        curves=run.curves,
        notes=_notes(run),
        freedom=tuple(run.freedom) if any(run.freedom) else (),
        deblurs=tuple(run.deblurs),
        clipped_voxels=main.clipped,
        warnings=tuple(run.warnings + main.warnings() + changed),
        libraries=libraries(),
    )
    first, *further = request.outputs()
    enhanced = _stack_of(run, first, provenance)
    extras = {
        spec.name: _stack_of(run, spec, provenance.of_output(spec.name, spec.series))
        for spec in further
    }
    return EnhanceResult(enhanced, extras, provenance)


def _series(run: Run) -> int:
    """Return the stack's image number in its file, so that a replay uses the same one."""
    return int(run.plan.stack.metadata.get("image", run.request.series))


def _notes(run: Run) -> dict[str, Any]:
    """Return the method's notes, the hash of a measured PSF, and the input's own provenance."""
    notes = dict(run.notes)
    if run.profiles:
        found = (run.profiles[c] for c in sorted(run.profiles))
        notes["profiles"] = [None if p is None else p.model_dump(mode="json") for p in found]
    kind, _, text = (run.request.psf or "").partition(":")
    if kind.strip() == "measured" and (path := bead_file(text.strip())[0]).is_file():
        notes["psf_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    earlier = run.plan.stack.metadata.get(METADATA_KEY)
    if isinstance(earlier, str):
        notes["input_record"] = json.loads(earlier)
    return notes


def _describe_noise(noise: PoissonGauss) -> str:
    return f"gain {noise.gain:.4g}, offset {noise.offset:.4g}, read noise {noise.read_noise:.4g}"


def _finite_record(statistics: VolumeStatistics) -> dict[str, float]:
    names = VolumeStatistics.__slots__
    return {
        name: value for name in names if math.isfinite(value := float(getattr(statistics, name)))
    }


def _stack_of(run: Run, spec: OutputSpec, provenance: Provenance) -> Stack:
    source = run.plan.stack
    layout = run.plan.outputs[spec.name]
    metadata = {**source.metadata, METADATA_KEY: provenance.to_json()}
    for key in ("image", "images", *(("time_step_s",) if layout.series else ())):
        metadata.pop(key, None)
    scale = run.request.parameters().output_scale
    origin, lengths = source.metadata.get("origin_um"), source.voxel_size.zyx_um
    if origin and max(scale) > 1:
        # The first voxel of a finer grid has its centre nearer to the corner.
        moved = (
            o if o is None or v is None else o + (v / s - v) / 2
            for o, v, s in zip(origin, lengths, scale, strict=True)
        )
        metadata["origin_um"] = tuple(moved)
    return source.with_data(
        run.outputs[spec.name].array,
        axes=layout.axes,
        voxel_size=_finer(source.voxel_size, run.request.parameters().output_scale),
        name=f"{source.name} {spec.title}",
        metadata=metadata,
        path=None,
    )
