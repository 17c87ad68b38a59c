"""``zenhance enhance``: one file after another through the main path, each with its own result or its own sentence."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenhance.cli.errors import Session, failure_record, print_json
from zenhance.cli.judging import write_report
from zenhance.cli.paths import Job, batch_status, check_free_space, check_target, extra_path
from zenhance.cli.progress import Reporter, open_reporter
from zenhance.contract.spec import REMARK
from zenhance.errors import RunCancelled, StackError
from zenhance.wording import format_seconds

if TYPE_CHECKING:
    from zenhance.assess.assessment import Assessment
    from zenhance.pipeline import EnhanceRequest, EnhanceResult, RunPlan
    from zenhance.provenance import Provenance
    from zenhance.stack import Stack

__all__ = ["RunOptions", "run_jobs"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, as opposed to what: nothing here changes a voxel of the result.

    ``lengths`` is how many numbers the user typed for the voxel size; 0 where none.
    """

    overwrite: bool = False
    series: int = 0
    assess: bool = False
    lengths: int = 0


def _compute(
    stack: Stack, request: EnhanceRequest, session: Session, reporter: Reporter
) -> EnhanceResult:
    """Run the request, showing each step; the first Ctrl-C ends it at the next one."""
    from zenhance.pipeline import enhance_steps

    with session.stop.watched() as cancel:
        steps = enhance_steps(stack, request, cancel)
        try:
            while True:
                try:
                    step = next(steps)
                except StopIteration as done:
                    result: EnhanceResult = done.value
                    break
                reporter.update(step)
        finally:
            steps.close()
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
    """Judge the result by its own input; the figures go into the account of the run.

    A result that cannot be judged is a result all the same: the account then holds a warning. Ctrl-C ends it on the spot.
    """
    from zenhance.pipeline import Progress
    from zenhance.pipeline.assessing import ASSESSMENT, assess_result, assessment_notes

    reporter.update(
        Progress("assess", 1.0, None, "blurring the result again and comparing it with its input")
    )
    try:
        verdict = assess_result(stack, result.stack, request)
    except StackError as error:
        said = f"the result could not be assessed: {error}"
        return None, provenance.model_copy(update={"warnings": (*provenance.warnings, said)})
    return verdict, provenance.model_copy(
        update={"notes": {**provenance.notes, ASSESSMENT: assessment_notes(verdict)}}
    )


def _verdict_record(verdict: Assessment, job: Job) -> dict[str, Any]:
    """Return what ``--json`` says of an assessment; all figures are in the file's account and in the report."""
    return {
        "assessment": {
            "verdict": verdict.verdict,
            "headline": verdict.headline,
            "sentences": list(verdict.sentences),
        },
        "report": None if job.report is None else str(job.report),
    }


def _targets(job: Job, request: EnhanceRequest) -> dict[str, Path]:
    """Return where each output of the method goes; the first one's name is the key ``""``."""

    extras = request.outputs()[1:]
    return {"": job.target, **{spec.name: extra_path(job.target, spec.name) for spec in extras}}


def _open(job: Job, request: EnhanceRequest, options: RunOptions) -> Stack:
    from zenhance.io import open_stack

    stack = open_stack(job.source, axes=request.axes, series=options.series)
    if options.lengths == 2 and stack.size("Z") > 1:
        raise StackError(
            f'"{job.source.name}" has planes along z, but --voxel-size two numbers; give z, y and x, for example --voxel-size 0.5,0.2,0.2, '
            "or ?,0.2,0.2 to keep the z of the file"
        )
    return stack


def _check_pixel_type(target: Path, result: Stack) -> None:
    """Refuse a format that cannot hold the result's pixels or its size."""
    from zenhance.io.ome_write import ome_type
    from zenhance.io.write_tiff import check_imagej

    name = target.name.lower()
    if name.endswith((".ome.tif", ".ome.tiff")):
        ome_type(result.dtype)
    elif name.endswith((".tif", ".tiff")):
        check_imagej(result)


def _plan(job: Job, stack: Stack, request: EnhanceRequest) -> RunPlan:
    """Plan the run and refuse what its results could not be written as; no pixel is read."""
    import numpy as np

    from zenhance.pipeline import plan_run

    try:
        plan = plan_run(stack, request)
    except StackError as error:
        raise StackError(f'"{job.source.name}" cannot be enhanced: {error}') from error
    for layout in plan.outputs.values():
        stand_in = np.broadcast_to(np.zeros((), layout.dtype), layout.shape)
        _check_pixel_type(job.target, plan.stack.with_data(stand_in, axes=layout.axes))
    check_free_space(job.target, plan.result_bytes)
    return plan


def enhance_file(
    job: Job, request: EnhanceRequest, options: RunOptions, session: Session, reporter: Reporter
) -> dict[str, Any]:
    """Enhance one file and write the result.

    Returns
    -------
    dict
        What ``--json`` prints: paths, seconds, device, warnings and a summary of the provenance.

    Raises
    ------
    ZenhanceError
        Whatever went wrong; the output path is as it was before.
    """
    from zenhance.io import write_stack
    from zenhance.pipeline import Progress

    started = time.perf_counter()
    targets = _targets(job, request)
    for target in targets.values():
        check_target(job.source, target, options.overwrite)
    stack = _open(job, request, options)
    # the reader has put the axes into order already; the record keeps them as the file has them
    running = request.model_copy(update={"axes": None})
    plan = _plan(job, stack, running)
    reporter.line(f"{job.source.name}: {plan.stack.describe()}")
    if plan.psf is not None:
        reporter.line(f"  PSF: {plan.psf.describe()}")
    reporter.line(f"  {plan.describe()}")
    result = _compute(stack, running, session, reporter)
    provenance = result.provenance.model_copy(
        update={"request": request.model_dump(mode="json"), "input_name": job.source.name}
    )
    verdict: Assessment | None = None
    if options.assess:
        verdict, provenance = _judge(stack, result, running, provenance, reporter)
    reporter.update(Progress("write", 1.0, None, str(job.target)))
    result = replace(result, provenance=provenance)
    for name, target in targets.items():
        image = result.extras[name] if name else result.stack
        write_stack(
            target,
            image,
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
            provenance=provenance,
            overwrite=options.overwrite,
        )
    return _record(job, targets, provenance, verdict, time.perf_counter() - started)


def _record(
    job: Job,
    targets: dict[str, Path],
    provenance: Provenance,
    verdict: Assessment | None,
    seconds: float,
) -> dict[str, Any]:
    """Return what ``--json`` prints of one file."""
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
        **({} if verdict is None else _verdict_record(verdict, job)),
        "provenance": {
            "version": provenance.version,
            "input_sha256": provenance.input_sha256,
            "request": provenance.request,
            "psf": provenance.psf,
            "noise": provenance.noise,
            "tiles": provenance.tiles,
            "seed": provenance.seed,
            "clipped_voxels": provenance.clipped_voxels,
        },
    }


def _print_result(record: dict[str, Any]) -> None:
    for warning in record["warnings"]:
        print(f"zenhance: warning: {warning}", file=sys.stderr)
    print(
        f"{record['output']}  ({format_seconds(record['seconds'])}, {record['device']})", flush=True
    )
    if REMARK in record:
        print(record[REMARK], flush=True)
    if "learnt" in record:
        model, seconds = record["learnt"]["model"], record["learnt"]["seconds"]
        print(
            f"learnt in {format_seconds(seconds)}: {model}; without learning again: --weights {model}",
            flush=True,
        )
    if "assessment" in record:
        print(f"{record['assessment']['verdict']}: {record['assessment']['headline']}", flush=True)


def _print_summary(records: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for heading in ("file", "result"):
        table.add_column(heading, overflow="fold")
    for record in records:
        failed = "error" in record
        text = (
            record["error"]
            if failed
            else f"{record['output']}, {format_seconds(record['seconds'])}"
        )
        if "assessment" in record:
            text += f", {record['assessment']['verdict']}: {record['assessment']['headline']}"
        table.add_row(
            escape(Path(record["input"]).name),
            f"{'[red]failed[/red]' if failed else '[green]done[/green]'}: {escape(text)}",
        )
    # a table cut at 80 columns in a log would break the paths in it
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def run_jobs(
    jobs: Sequence[Job], batch: bool, request: EnhanceRequest, options: RunOptions, session: Session
) -> int:
    """Enhance all files and return the exit code.

    A single file's error is raised. In a batch each error is told at once and in the summary, and the next file is begun.

    Returns
    -------
    int
        0 if all went well, 10 if some files failed, the first failure's code if all did.
    """
    if not batch:
        with open_reporter(session.json_wanted) as reporter:
            record = enhance_file(jobs[0], request, options, session, reporter)
        print_json(record) if session.json_wanted else _print_result(record)
        return 0
    records = [_batch_record(job, request, options, session) for job in jobs]
    status = batch_status(record.get("exit_code", 0) for record in records)
    if session.json_wanted:
        failed = sum("error" in record for record in records)
        print_json(
            {
                "results": records,
                "done": len(records) - failed,
                "failed": failed,
                "exit_code": status,
            }
        )
    else:
        _print_summary(records)
    return status


def _batch_record(
    job: Job, request: EnhanceRequest, options: RunOptions, session: Session
) -> dict[str, Any]:
    try:
        with open_reporter(session.json_wanted) as reporter:
            return enhance_file(job, request, options, session, reporter)
    except RunCancelled:
        raise
    except Exception as error:
        # the documented rule of a batch: one failing file never stops the rest
        if session.stop.event.is_set():
            raise
        if session.debug:
            import traceback

            traceback.print_exception(error, file=sys.stderr)
        record = {"input": str(job.source), **failure_record(error, session.stop)}
        print(f"zenhance: {job.source.name}: {record['error']}", file=sys.stderr, flush=True)
        return record
