"""One file through the main path: opened, planned, computed, judged, written and reported."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenhance.cli.errors import Session
from zenhance.cli.paths import (
    Job,
    check_free_space,
    check_report,
    check_target,
    extra_path,
    is_zarr,
)
from zenhance.cli.progress import Reporter
from zenhance.errors import RunCancelled, StackError
from zenhance.steps import drain
from zenhance.wording import format_seconds

if TYPE_CHECKING:
    from zenhance.assess.assessment import Assessment
    from zenhance.pipeline import EnhanceRequest, EnhanceResult, RunPlan
    from zenhance.pipeline.journal import Journal
    from zenhance.provenance import Provenance
    from zenhance.scaleout.cluster import Workers
    from zenhance.stack import Stack

    Distributed = Callable[..., Generator[Any, None, EnhanceResult]]

__all__ = ["RunOptions", "enhance_file", "open_input", "print_result", "targets_of"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, as opposed to what: nothing here changes a voxel of the result.

    ``lengths`` is how many numbers the user typed for the voxel size; 0 for none. ``restart``
    forgets what an interrupted run has left. ``memory_share`` is the share of the free memory,
    where other runs share the computer.
    """

    overwrite: bool = False
    assess: bool = False
    lengths: int = 0
    restart: bool = False
    memory_share: float = 1.0


def targets_of(job: Job, request: EnhanceRequest) -> dict[str, Path]:
    """Return where each output of the method goes; the key of the first one is ``""``."""
    extras = request.outputs()[1:]
    return {"": job.target, **{spec.name: extra_path(job.target, spec.name) for spec in extras}}


def open_input(source: Path, request: EnhanceRequest, lengths: int = 0) -> Stack:
    """Open the image that a request means.

    Raises
    ------
    ReadError
        The file cannot be read.
    StackError
        The voxel size was given as two numbers and the image has planes along z.
    """
    from zenhance.io import open_stack

    stack = open_stack(source, axes=request.axes, series=request.series)
    if lengths == 2 and stack.size("Z") > 1:
        raise StackError(
            f'"{source.name}" has planes along z, but --voxel-size has two numbers; '
            "give z, y and x, for example --voxel-size 0.5,0.2,0.2, "
            "or ?,0.2,0.2 to keep the z of the file"
        )
    return stack


def _check_pixel_type(target: Path, result: Stack) -> None:
    """Refuse a format that cannot hold the result's pixels or its size."""
    from zenhance.io.ome_write import ome_type
    from zenhance.io.write_hdf import check_hdf
    from zenhance.io.write_tiff import check_imagej

    name = target.name.lower()
    if name.endswith((".ome.tif", ".ome.tiff")):
        ome_type(result.dtype)
    elif name.endswith(".h5"):
        check_hdf(result)
    elif name.endswith((".tif", ".tiff")):
        check_imagej(result)


def _plan(
    job: Job,
    stack: Stack,
    request: EnhanceRequest,
    options: RunOptions,
    workers: Workers | None,
) -> RunPlan:
    """Plan the run, and refuse a result that could not be written; no pixel is read."""
    import numpy as np

    from zenhance.pipeline import plan_run

    try:
        share = options.memory_share if workers is None else 1 / workers.on_one_host
        plan = plan_run(stack, request, memory_share=share)
    except StackError as error:
        raise StackError(f'"{job.source.name}" cannot be enhanced: {error}') from error
    for layout in plan.outputs.values():
        stand_in = np.broadcast_to(np.zeros((), layout.dtype), layout.shape)
        _check_pixel_type(job.target, plan.stack.with_data(stand_in, axes=layout.axes))
    # The tiles of a run that can be continued lie beside the result until it is written.
    copies = 2 if _keeps_tiles(job.target, workers) else 1
    check_free_space(job.target, copies * plan.result_bytes)
    return plan


def _compute(
    stack: Stack,
    request: EnhanceRequest,
    session: Session,
    reporter: Reporter,
    journal: Journal | None,
    distributed: Distributed | None,
    memory_share: float,
) -> EnhanceResult:
    """Run the request and show each step; the first Ctrl-C ends it at the next one."""
    from zenhance.pipeline import enhance_steps

    with session.stop.watched() as cancel:
        if distributed is None or journal is None:
            steps = enhance_steps(
                stack, request, cancel, journal=journal, memory_share=memory_share
            )
        else:
            steps = distributed(stack, request, cancel, journal)
        result: EnhanceResult = drain(steps, reporter.update)
    if cancel.is_set():
        raise RunCancelled("the run was cancelled; nothing was written")
    return result


def _judge(
    stack: Stack,
    result: EnhanceResult,
    request: EnhanceRequest,
    provenance: Provenance,
    reporter: Reporter,
) -> tuple[Assessment | None, Provenance]:
    """Judge the result by its own input and add the figures to the record of the run.

    A result that cannot be judged is still a result: the record then holds a warning. Ctrl-C ends
    the judging at once.
    """
    from zenhance.pipeline import Progress
    from zenhance.pipeline.assessing import ASSESSMENT, assess_result, assessment_notes

    what = "blurring the result again and comparing it with its input"
    reporter.update(Progress("assess", 1.0, None, what))
    try:
        verdict = assess_result(stack, result.stack, request)
    except StackError as error:
        said = f"the result could not be assessed: {error}"
        return None, provenance.model_copy(update={"warnings": (*provenance.warnings, said)})
    notes = {**provenance.notes, ASSESSMENT: assessment_notes(verdict)}
    return verdict, provenance.model_copy(update={"notes": notes})


def enhance_file(
    job: Job,
    request: EnhanceRequest,
    options: RunOptions,
    session: Session,
    reporter: Reporter,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Enhance one file and write the result; with workers, they compute it.

    Returns
    -------
    dict
        What ``--json`` prints: paths, seconds, device, warnings and a summary of the record.

    Raises
    ------
    ZenhanceError
        Whatever went wrong; the output path is as it was before.
    """
    started = time.perf_counter()
    targets = targets_of(job, request)
    for target in targets.values():
        check_target(job.source, target, options.overwrite)
    if job.report is not None:
        check_report(job.report, options.overwrite, [job.source])
    stack = open_input(job.source, request, options.lengths)
    # The reader has put the axes into order already; the record keeps them as the file has them.
    running = request.model_copy(update={"axes": None})
    plan = _plan(job, stack, running, options, workers)
    _describe(job.source, plan, reporter)
    verdict: Assessment | None = None
    distributed = None if workers is None else _distributed(workers, job.source, request)
    with _journal(job.target, options.restart, workers) as journal:
        share = options.memory_share
        result = _compute(stack, running, session, reporter, journal, distributed, share)
        provenance = result.provenance.model_copy(
            update={"request": request.model_dump(mode="json"), "input_name": job.source.name}
        )
        if options.assess:
            verdict, provenance = _judge(stack, result, running, provenance, reporter)
        result = replace(result, provenance=provenance)
        _write(job, targets, plan, result, verdict, options, reporter)
    return _record(job, targets, provenance, verdict, time.perf_counter() - started)


def _distributed(workers: Workers, source: Path, opened_as: EnhanceRequest) -> Distributed:
    """Return what runs a request on workers."""
    from zenhance.scaleout.run import distributed_steps

    return partial(distributed_steps, workers, source, opened_as)


def _keeps_tiles(target: Path, workers: Workers | None) -> bool:
    """Tell whether tiles are kept beside the output: in a run to OME-Zarr, or on workers."""
    return workers is not None or is_zarr(target)


def _journal(
    target: Path, restart: bool, workers: Workers | None
) -> AbstractContextManager[Journal | None]:
    """Return the journal of a run whose tiles are kept; others are written at the end."""
    from zenhance.pipeline.journal import journal_beside

    kept = _keeps_tiles(target, workers)
    return journal_beside(target, restart=restart) if kept else nullcontext()


def _describe(source: Path, plan: RunPlan, reporter: Reporter) -> None:
    """Show what is read, with which PSF, and how the run is divided."""
    images = plan.stack.metadata.get("images")
    which = f"{images}; choose one with --series; " if images else ""
    reporter.line(f"{source.name}: {which}{plan.stack.describe()}")
    if plan.psf is not None:
        reporter.line(f"  PSF: {plan.psf.describe()}")
    reporter.line(f"  {plan.describe()}")


def _write(
    job: Job,
    targets: dict[str, Path],
    plan: RunPlan,
    result: EnhanceResult,
    verdict: Assessment | None,
    options: RunOptions,
    reporter: Reporter,
) -> None:
    """Write all outputs and the report."""
    from zenhance.cli.assess import write_report
    from zenhance.io import write_stack
    from zenhance.pipeline import Progress

    reporter.update(Progress("write", 1.0, None, str(job.target)))
    for name, target in targets.items():
        write_stack(
            target,
            result.extras[name] if name else result.stack,
            overwrite=options.overwrite,
            source=job.source,
            provenance=result.account(name),
        )
    if verdict is not None and job.report is not None:
        write_report(
            job.report,
            verdict,
            plan.stack,
            result.stack,
            provenance=result.provenance,
            overwrite=options.overwrite,
        )


def _record(
    job: Job,
    targets: dict[str, Path],
    provenance: Provenance,
    verdict: Assessment | None,
    seconds: float,
) -> dict[str, Any]:
    """Return what ``--json`` prints for one file."""
    from zenhance.contract.spec import REMARK

    judged: dict[str, Any] = {}
    if verdict is not None:
        judged["assessment"] = {
            "verdict": verdict.verdict,
            "headline": verdict.headline,
            "sentences": list(verdict.sentences),
        }
        judged["report"] = None if job.report is None else str(job.report)
    summary = ("version", "input_sha256", "request", "psf", "noise", "tiles", "seed")
    return {
        "input": str(job.source),
        "output": str(job.target),
        "extras": {name: str(target) for name, target in targets.items() if name},
        "method": provenance.request["method"],
        "seconds": round(seconds, 3),
        "device": provenance.device,
        "device_reason": provenance.device_reason,
        "warnings": list(provenance.warnings),
        **{name: provenance.notes[name] for name in ("learnt", REMARK) if name in provenance.notes},
        **judged,
        "provenance": {name: getattr(provenance, name) for name in (*summary, "clipped_voxels")},
    }


def print_result(record: dict[str, Any]) -> None:
    """Print what a person wants to know about one result."""
    from zenhance.contract.spec import REMARK

    for warning in record["warnings"]:
        print(f"zenhance: warning: {warning}", file=sys.stderr)
    took = format_seconds(record["seconds"])
    print(f"{record['output']}  ({took}, {record['device']})", flush=True)
    if REMARK in record:
        print(record[REMARK], flush=True)
    if "learnt" in record:
        model, seconds = record["learnt"]["model"], record["learnt"]["seconds"]
        print(
            f"learnt in {format_seconds(seconds)}: {model}; "
            f"use it again without learning: --weights {model}",
            flush=True,
        )
    if "assessment" in record:
        print(f"{record['assessment']['verdict']}: {record['assessment']['headline']}", flush=True)
