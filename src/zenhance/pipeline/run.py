"""The main path: a request meets a stack, tile by tile, and a result with its provenance comes out.

::

    request.apply_to(stack) -> learn from it first, where asked for -> for each (t, c) volume:
        measure (once a volume) -> method.prepare (once a volume) -> tiles -> method -> result
    -> Stack beside the original + Provenance

It is a generator: each yield is a point where the run can be stopped, so the viewer never freezes
and Cancel is answered at once.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from zenhance.contract import registry
from zenhance.contract.spec import (
    REMARK,
    WHOLE_VOXELS,
    Method,
    MethodContext,
    Prepared,
    VolumeStatistics,
)
from zenhance.device.choice import release_memory
from zenhance.errors import FailureKind, MemoryBudgetError, RunCancelled, classify
from zenhance.measurement.reader import PixelHash, VolumeReader
from zenhance.measurement.volume import measure_volume
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import Psf
from zenhance.pipeline.arbitration import Effort, alone, arbitration_steps, not_arbitrated
from zenhance.pipeline.denoised import denoised
from zenhance.pipeline.even_light import even_light
from zenhance.pipeline.journal import Journal, identity
from zenhance.pipeline.learning import Learnt, learn_steps
from zenhance.pipeline.output import Output, allocate
from zenhance.pipeline.plan import RunPlan, arbitrated_psf, plan_run, psf_for
from zenhance.pipeline.profile import (
    blur_profile_steps,
    noise_of,
    profile_of_steps,
    profiled_volume_steps,
    statistics_of,
)
from zenhance.pipeline.request import MEASURE, NO_PROFILE, EnhanceRequest
from zenhance.pipeline.result import EnhanceResult, Progress, Run, input_warnings, result_of
from zenhance.pipeline.tiles import TiledVolume, tile_steps, tiled_volume
from zenhance.stack import ArrayLike, Stack
from zenhance.steps import drain, relay

if TYPE_CHECKING:
    from zenhance.physics.profile import MicroscopeProfile
    from zenhance.physics.profile_volume import ProfiledVolume

__all__ = [
    "EnhanceResult",
    "Progress",
    "begin_run_steps",
    "channel_steps",
    "enhance",
    "enhance_steps",
    "ready_volume_steps",
    "record_volume",
]

# How often preparing is tried again on half as much of the volume after memory ran out.
MAX_HALVINGS = 8
# Of the progress of a run that learns first, this much is learning.
LEARN_SHARE = 0.9


def enhance_steps(
    stack: Stack,
    request: EnhanceRequest,
    cancel: threading.Event | None = None,
    known: tuple[VolumeStatistics, PoissonGauss] | None = None,
    *,
    axes_named: bool = False,
    profiled: ProfiledVolume | None = None,
    journal: Journal | None = None,
    memory_share: float = 1.0,
) -> Generator[Progress, None, EnhanceResult]:
    """Run a request on a stack step by step.

    Parameters
    ----------
    stack : Stack
        The input; it is only read.
    request : EnhanceRequest
        What to do.
    cancel : threading.Event, optional
        Set from any thread, it ends the run at the next step with RunCancelled.
    known : tuple of VolumeStatistics and PoissonGauss, optional
        Statistics and noise of the volume that the stack was cut from, in place of the stack's own.
    axes_named : bool
        Whether the stack was already read with the axes of the request.
    profiled : ProfiledVolume, optional
        The microscope of the volume that the stack was cut from, cut as the stack is.
    journal : Journal, optional
        Keeps the finished tiles, with which an interrupted run continues.
    memory_share : float
        Of the free memory, where other runs share the computer.

    Yields
    ------
    Progress
        At least once per tile and per iteration.

    Returns
    -------
    EnhanceResult
        float32 in the input's intensity units, or the input's type where asked for.

    Raises
    ------
    StackError, MethodError, MemoryBudgetError, RunCancelled
        Each with one sentence on what to do.
    """
    run = yield from begin_run_steps(
        stack,
        request,
        cancel,
        axes_named=axes_named,
        journal=journal,
        memory_share=memory_share,
    )
    run.known, run.profiled = known, profiled
    volumes = list(run.plan.stack.volumes())
    try:
        for number, (t, c) in enumerate(volumes):
            yield from _volume_steps(run, t, c, number, len(volumes))
        digest = yield from _digest_steps(run)
    finally:
        run.kept.clear()
        release_memory(run.plan.device.name)
    return result_of(run, digest)


def begin_run_steps(
    stack: Stack,
    request: EnhanceRequest,
    cancel: threading.Event | None = None,
    *,
    axes_named: bool = False,
    journal: Journal | None = None,
    memory_share: float = 1.0,
) -> Generator[Progress, None, Run]:
    """Do what comes before the first volume: plan, outputs, learning; see :func:`enhance_steps`."""
    started = time.perf_counter()
    plan = plan_run(stack, request, axes_named=axes_named, memory_share=memory_share)
    cancel = cancel or threading.Event()
    # Before learning: a full disk is refused now, not after ten minutes.
    if journal is None:
        outputs = allocate(plan.outputs)
    else:
        outputs = yield from _begin_steps(journal, plan, request, cancel)
    learnt = yield from _learn_steps(plan, request, cancel, journal)
    pixels = PixelHash(plan.stack) if journal is None else None
    method = registry.load(request.method)
    run = Run(plan, method, request, cancel, outputs, None, pixels, journal, started)
    run.weights = request.weights
    run.warnings += input_warnings(plan)
    if learnt is not None:
        run.weights, run.learnt_share = str(learnt.path), LEARN_SHARE
        run.notes["learnt"] = dict(learnt.notes)
        run.warnings += learnt.warnings
    return run


def _digest_steps(run: Run) -> Generator[Progress, None, str]:
    """Return the hash of the input."""
    if run.pixels is None:
        return str(cast("Journal", run.journal).job["input"][0])
    return (
        yield from relay(
            run.pixels.finish(),
            lambda _: run.progress("record", 1.0, "hashing the input"),
            run.check,
        )
    )


def _begin_steps(
    journal: Journal, plan: RunPlan, request: EnhanceRequest, cancel: threading.Event
) -> Generator[Progress, None, dict[str, Output]]:
    """Read the whole input for its hash, and find what an interrupted run has left."""

    def check() -> None:
        if cancel.is_set():
            raise RunCancelled("the run was cancelled; the original is unchanged")

    told = Progress("measure", 0.0, None, "hashing the input")
    digest = yield from relay(PixelHash(plan.stack).finish(), lambda _: told, check)
    journal.begin(identity(plan, request, digest), plan.tiles.core_shape_px)
    return journal.outputs(plan.outputs)


def _learn_steps(
    plan: RunPlan, request: EnhanceRequest, cancel: threading.Event, journal: Journal | None
) -> Generator[Progress, None, Learnt | None]:
    """Learn from the stack first, where the request asks for it and no interrupted run has."""
    if request.learn_minutes is None:
        return None
    known = None if journal is None else journal.learnt()
    if known is not None and Path(known["path"]).exists():
        return Learnt(Path(known["path"]), known["notes"], tuple(known["warnings"]))
    try:
        learnt = yield from relay(
            learn_steps(plan, request, cancel, partial(enhance_steps, cancel=cancel)),
            lambda progress: replace(progress, fraction=LEARN_SHARE * progress.fraction),
        )
    finally:
        release_memory(plan.device.name)
    if journal is not None:
        kept = {"notes": dict(learnt.notes), "warnings": list(learnt.warnings)}
        journal.keep_learnt({"path": str(learnt.path), **kept})
    return learnt


def _volume_steps(
    run: Run, t: int, c: int, number: int, count: int
) -> Generator[Progress, None, None]:
    volume = yield from ready_volume_steps(run, t, c, number, count)
    done = sum(run.shares(volume.whole_voxels))
    yield from tile_steps(
        run,
        volume,
        _where(number, count),
        lambda f: (number + done + (1 - done) * f) / count,
    )
    record_volume(run, volume.prepared, number, count)


def _where(number: int, count: int) -> str:
    return f"volume {number + 1} of {count}, " if count > 1 else ""


def channel_steps(run: Run, c: int) -> Generator[Progress, None, None]:
    """Find what all time points of a channel share: statistics where asked for, microscope."""

    def told(fraction: float, message: str) -> Progress:
        return run.progress("measure", fraction, message)

    if run.request.statistics == "shared":
        run.kept[c] = yield from _context_steps(run, 0, c, told)
    else:
        yield from _blur_steps(run, 0, c, told)


def ready_volume_steps(
    run: Run, t: int, c: int, number: int, count: int
) -> Generator[Progress, None, TiledVolume]:
    """Measure and prepare a volume; its tiles come next."""
    where = _where(number, count)

    def at(fraction: float) -> float:
        return (number + fraction) / count

    run.check()
    yield run.progress("measure", at(0.0), f"{where}measuring intensities")

    def told(fraction: float, message: str) -> Progress:
        return run.progress("measure", at(fraction), f"{where}{message}")

    measuring, _ = run.shares(WHOLE_VOXELS)
    context = run.kept.get(c)
    if context is None:
        context = yield from _context_steps(run, t, c, lambda f, said: told(measuring * f, said))
        if run.request.statistics == "shared":
            run.kept[c] = context
    else:
        of_volume = run.reader(t, c)
        context = replace(context, read=of_volume.read, mask=of_volume.mask)
    measuring, preparing = run.shares(context.whole_voxels)
    title = f"{where}preparing {run.method.spec.title}"
    prepared = yield from _ready_steps(
        run, context, c, lambda f: run.progress("prepare", at(measuring + preparing * f), title)
    )
    if run.request.even_light:
        done = measuring + preparing
        lit = yield from _light_steps(run, t, c, lambda _, said: told(done, said))
        prepared = even_light(prepared, context, lit)
    run.statistics.append(context.statistics)
    if run.journal is not None:
        run.journal.check_weights(prepared.weights_sha256)
    return tiled_volume(run, run.reader(t, c), prepared, context, where)


def _ready_steps(
    run: Run, context: MethodContext, c: int, progress: Callable[[float], Progress]
) -> Generator[Progress, None, Prepared]:
    """Prepare a volume, let a network compete, and blur the result again, as the request asks."""
    first = 1.0
    if run.request.arbitrates:
        voxels = math.prod(context.shape_px)
        sizes = (voxels, voxels, context.whole_voxels)
        first = Effort.of(run.request.parameters(), *sizes).ends()[0]
    prepared = yield from _prepare_steps(run, run.method, context, lambda f: progress(first * f))
    if run.request.arbitrates:
        psf = _competing_psf(run, c, context)
        reason = not_arbitrated(context, prepared)
        if psf is None or reason:
            prepared = alone(prepared, reason)
        else:
            competing = arbitration_steps(
                prepared,
                run.method,
                context,
                psf,
                partial(_prepare_steps, run),
                lambda f: first + (1 - first) * f,
            )
            prepared = yield from relay(competing, progress, run.check)
    if run.request.output == "denoised":
        prepared = denoised(prepared, context, _psf(run, c))
    return prepared


def _competing_psf(run: Run, c: int, context: MethodContext) -> Psf | None:
    """Return the PSF with which a network competes: the profile's in the middle of the depths."""
    if context.profiled is None:
        return arbitrated_psf(run.plan.stack, run.request, c)
    volume = cast("ProfiledVolume", context.profiled)
    return volume.profile.psf_at(0.5 * volume.deepest_um)


def _prepare_steps(
    run: Run, method: Method, context: MethodContext, progress: Callable[[float], Progress]
) -> Generator[Progress, None, Prepared]:
    """Prepare a volume; each time memory runs out, prepare on half as much of it."""
    for _ in range(MAX_HALVINGS):
        failure: str | None = None
        try:
            prepared: Prepared = yield from relay(method.prepare(context), progress, run.check)
        except Exception as error:
            if classify(error) not in (FailureKind.OOM_HOST, FailureKind.OOM_DEVICE):
                raise
            failure = str(error)
        else:
            return prepared
        # Outside the except block: an exception keeps its frames alive, and those keep the arrays.
        voxels = min(context.whole_voxels, math.prod(context.shape_px))
        run.warnings.append(
            f"memory ran out while preparing {voxels} voxels at once; continued with half "
            f"({failure[:80]})"
        )
        context = replace(context, whole_voxels=voxels // 2)
        gc.collect()
        release_memory(context.device)
    raise MemoryBudgetError(
        "not even a small part of the volume fits into memory; close other programs or crop the "
        "stack"
    )


def record_volume(run: Run, prepared: Prepared, number: int, count: int) -> None:
    """Record what the method reports for a volume; some of it is known only after the tiles."""
    run.curves.update(
        {_label(name, number, count): list(curve) for name, curve in prepared.curves.items()}
    )
    run.warnings += [w for w in prepared.warnings if w not in run.warnings]
    run.weights_sha256 = prepared.weights_sha256 or run.weights_sha256
    notes = {_label(name, number, count): note for name, note in prepared.notes.items()}
    if prepared.remark:
        key = _label(REMARK, number, count)
        earlier = f"{run.notes[key]} " if key in run.notes else ""
        notes[key] = f"{earlier}{prepared.remark}"
    run.notes.update(notes)
    run.freedom.append(prepared.freedom or 0.0)
    if prepared.deblurs is not None:
        run.deblurs.append(prepared.deblurs)


def _label(name: str, number: int, count: int) -> str:
    return name if count == 1 else f"{name}[{number}]"


def _context_steps(
    run: Run, t: int, c: int, told: Callable[[float, str], Progress]
) -> Generator[Progress, None, MethodContext]:
    shared = run.request.statistics == "shared"
    # Half of the progress is the microscope's, where it may be measured.
    share = 0.5 if run.request.needs_blur_by_depth or run.request.profile else 1.0
    readers = [run.reader(i, c) for i in (range(run.plan.stack.size("T")) if shared else [t])]
    statistics, noise = yield from _measured(
        run, readers, lambda f: told(share * f, "measuring intensities")
    )
    reader = run.reader(t, c)
    parameters = run.request.parameters()
    psf = _psf(run, c)
    profiled = yield from _blur_steps(
        run, t, c, lambda f, said: told(share + (1 - share) * f, said)
    )
    if profiled is not None:
        profile = profiled.profile
        noise, statistics = noise_of(profile), statistics_of(statistics, profile, run.request)
        run.warnings += [d for d in profile.doubts if d not in run.warnings]
        # A method that takes one blur for all depths gets that of the middle.
        psf = profile.psf_at(0.5 * profiled.deepest_um)
    run.noise.append(noise)
    _record_psf(run, psf, profiled)
    lengths = reader.stack.voxel_size.zyx_um
    z, y, x = (1.0 if v is None else v for v in lengths)
    unknown = "".join(axis for axis, v in zip("zyx", lengths, strict=True) if v is None)
    return MethodContext(
        parameters=parameters,
        shape_px=reader.stack.volume_shape,
        voxel_size_um=(z, y, x),
        statistics=statistics,
        read=reader.read,
        mask=reader.mask,
        device=run.plan.device.name,
        seed=run.request.seed + 1000003 * t,
        psf=psf if parameters.needs_psf else None,
        noise=noise,
        weights=run.weights,
        background_given=run.request.background is not None,
        unknown_axes=unknown,
        profiled=profiled,
    )


def _measured(
    run: Run, readers: list[VolumeReader], told: Callable[[float], Progress]
) -> Generator[Progress, None, tuple[VolumeStatistics, PoissonGauss]]:
    """Measure the intensities and the noise of volumes, where they are not known yet."""
    if run.known is not None:
        for reader in readers:
            reader.settle(run.known[1])
        return run.known
    measuring = measure_volume(readers, run.request.background, run.pixels)
    found = yield from relay(measuring, told, run.check)
    run.warnings += [w for w in found.warnings if w not in run.warnings]
    run.readers.update({(r.t, r.c): r for r in found.readers})
    return found.statistics, found.noise


def _record_psf(run: Run, psf: Psf | None, profiled: ProfiledVolume | None) -> None:
    words = [] if psf is None else [psf.describe()]
    if profiled is not None:
        words = [w for w in profiled.profile.describe() if w.startswith("PSF at")]
    run.psfs += [w for w in words if w not in run.psfs]


def _blur_steps(
    run: Run, t: int, c: int, told: Callable[[float, str], Progress]
) -> Generator[Progress, None, ProfiledVolume | None]:
    """Return a volume with its microscope, or None where one PSF serves all depths."""
    stack, request = run.plan.stack, run.request
    if run.profiled is not None and request.profile not in (None, NO_PROFILE):
        run.profiles[c] = run.profiled.profile
        return run.profiled
    if c not in run.profiles:
        found, why = yield from relay(
            blur_profile_steps(stack, request, c),
            lambda step: told(0.8 * step[1], step[0]),
            run.check,
        )
        if found is None and not why:
            return None
        run.profiles[c] = found
        if why:
            run.notes[REMARK] = f"{why[0].upper()}{why[1:]}."
    profile = run.profiles[c]
    if profile is None:
        return None
    return (
        yield from _surface_steps(run, t, c, profile, lambda f, said: told(0.8 + 0.2 * f, said))
    )


def _light_steps(
    run: Run, t: int, c: int, told: Callable[[float, str], Progress]
) -> Generator[Progress, None, ProfiledVolume]:
    """Return a volume with the microscope whose light is evened out, measured where need be."""
    if run.profiled is not None:
        return run.profiled
    stack, request = run.plan.stack, run.request
    profile = run.profiles.get(c)
    if profile is None:
        asked = request.model_copy(update={"profile": MEASURE})
        profile = yield from relay(
            profile_of_steps(stack, asked, c, psf_for(stack, request, c)),
            lambda step: told(step[1], step[0]),
            run.check,
        )
    return (yield from _surface_steps(run, t, c, cast("MicroscopeProfile", profile), told))


def _surface_steps(
    run: Run,
    t: int,
    c: int,
    profile: MicroscopeProfile,
    told: Callable[[float, str], Progress],
) -> Generator[Progress, None, ProfiledVolume]:
    return (
        yield from relay(
            profiled_volume_steps(run.plan.stack, t, c, profile),
            lambda step: told(step[1], step[0]),
            run.check,
        )
    )


def _psf(run: Run, c: int) -> Psf | None:
    """Return the point spread function of a channel, or None where the run needs none."""
    return psf_for(run.plan.stack, run.request, c) if run.request.needs_psf() else None


def enhance(
    image: Stack | ArrayLike | npt.ArrayLike,
    request: EnhanceRequest | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    **fields: Any,
) -> EnhanceResult:
    """Enhance a stack.

    Parameters
    ----------
    image : Stack or array
        The input; of a bare array name ``axes`` where they are not (Z, Y, X) or (Y, X), and
        ``voxel_size_um``.
    request : EnhanceRequest, optional
        What to do; or give its fields as keywords: ``method``, ``settings``, ``voxel_size_um``,
        ``psf``, ``device`` ...
    on_progress : callable, optional
        Called with a :class:`Progress` at each step.
    cancel : threading.Event, optional
        Set from another thread, it ends the run with RunCancelled.

    Returns
    -------
    EnhanceResult
        ``result.stack.data`` is the enhanced array, float32 in the input's units unless
        ``dtype="input"``.

    Raises
    ------
    StackError, MethodError, RecipeError, MemoryBudgetError, RunCancelled
        Each with one sentence on what to do.

    Examples
    --------
    >>> import numpy as np, zenhance
    >>> spots = np.random.default_rng(0).poisson(20, (8, 32, 32)).astype(np.uint16)
    >>> better = zenhance.enhance(
    ...     spots, voxel_size_um=(0.5, 0.2, 0.2), psf="sigma_um=0.6,0.2,0.2",
    ...     settings={"iterations": 5},
    ... )
    >>> better.stack.shape
    (8, 32, 32)
    """
    if request is None:
        request = EnhanceRequest(**fields)
    elif fields:
        request = EnhanceRequest(**{**request.model_dump(exclude_unset=True), **fields})
    axes_named = not isinstance(image, Stack)
    if not isinstance(image, Stack):
        lazy = hasattr(image, "shape") and hasattr(image, "dtype")
        image = Stack.from_array(
            cast("ArrayLike", image) if lazy else np.asarray(image), request.axes
        )
    steps = enhance_steps(image, request, cancel, axes_named=axes_named)
    return drain(steps, on_progress)
