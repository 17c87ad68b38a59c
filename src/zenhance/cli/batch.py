"""Several files in one call: each is done, skipped because it was done before, or failed.

A file counts as done before if all its results exist, are as they were written, and were made by
the same request from the same pixels. A batch that stopped can thus be given again as it is.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenhance.cli.enhance_file import RunOptions, enhance_file, open_input, targets_of
from zenhance.cli.errors import Session, failure_record
from zenhance.cli.output import print_json, show
from zenhance.cli.paths import Job, JobPlan, batch_status
from zenhance.cli.process import StopRequest
from zenhance.cli.progress import Reporter, SilentReporter, open_reporter
from zenhance.errors import OutputExistsError, ReadError, RunCancelled, ZenhanceError
from zenhance.wording import format_seconds

if TYPE_CHECKING:
    from zenhance.pipeline import EnhanceRequest
    from zenhance.provenance import Provenance
    from zenhance.scaleout.cluster import Workers

__all__ = ["earlier_result", "run_batch"]

NOT_COMPARED = frozenset({"device", "tile_px", "settings"})
"""Fields of a request that do not change the result, or that are compared on their own."""
ANOTHER = "replace it with --overwrite, or choose another folder"
MAX_NAMED = 5
COLOURS = {"done": "green", "skipped": "green", "failed": "red"}


def run_batch(
    plan: JobPlan,
    request: EnhanceRequest,
    options: RunOptions,
    session: Session,
    workers: Workers | None = None,
) -> int:
    """Enhance all files and return the exit code; with workers, each of them takes whole files.

    An error is printed at once and again in the summary; then the next file begins. The summary
    names what the folders hold beside the images.

    Returns
    -------
    int
        0 if no file failed, 10 if some failed, the code of the first failure if all did.
    """
    if workers is None:
        records = [_batch_record(job, request, options, session) for job in plan.jobs]
    else:
        records = _shared_batch(plan.jobs, request, options, session, workers)
    status = batch_status(record.get("exit_code", 0) for record in records)
    if session.json_wanted:
        counts = Counter(_state(record) for record in records)
        totals = {state: counts[state] for state in COLOURS}
        left_out = {str(path): why for path, why in plan.left_out.items()}
        print_json({"results": records, **totals, "left_out": left_out, "exit_code": status})
    else:
        _print_summary(records)
        for line in _left_out_lines(plan.left_out):
            print(line, flush=True)
    return status


def _batch_record(
    job: Job, request: EnhanceRequest, options: RunOptions, session: Session
) -> dict[str, Any]:
    with open_reporter(session.json_wanted) as reporter:
        record = _file_record(job, request, options, session, reporter)
    _tell_error(job, record)
    return record


def _tell_error(job: Job, record: dict[str, Any]) -> None:
    if "error" in record:
        print(f"zenhance: {job.source.name}: {record['error']}", file=sys.stderr, flush=True)


def _file_record(
    job: Job, request: EnhanceRequest, options: RunOptions, session: Session, reporter: Reporter
) -> dict[str, Any]:
    """Return the record of one file: done, skipped or failed."""
    try:
        found = None if options.overwrite else earlier_result(job, request, options)
        if found is not None:
            reporter.line(f"{job.source.name}: skipped, {found['skipped']}")
            return found
        return enhance_file(job, request, options, session, reporter)
    except RunCancelled:
        raise
    except Exception as error:
        # The documented rule of a batch: one failing file never stops the rest.
        if session.stop.event.is_set():
            raise
        if session.debug:
            traceback.print_exception(error, file=sys.stderr)
        return {"input": str(job.source), **failure_record(error, session.stop)}


def _worker_record(
    job: Job, request: EnhanceRequest, options: RunOptions, neighbours: int
) -> dict[str, Any]:
    """Enhance a file in a worker, which shares its computer with its neighbours."""
    from zenhance.scaleout.cluster import use_threads

    use_threads(neighbours)
    return _file_record(job, request, options, Session(StopRequest()), SilentReporter())


def _shared_batch(
    jobs: Sequence[Job],
    request: EnhanceRequest,
    options: RunOptions,
    session: Session,
    workers: Workers,
) -> list[dict[str, Any]]:
    """Let workers take one file after another; each runs as it would alone."""
    neighbours = workers.on_one_host
    options = replace(options, memory_share=options.memory_share / neighbours)
    absolute = [
        Job(*(None if p is None else p.absolute() for p in (j.source, j.target, j.report)))  # type: ignore[arg-type]
        for j in jobs
    ]
    places: dict[str, int] = {}
    records: dict[int, dict[str, Any]] = {}

    def tasks() -> Iterator[Any]:
        for number, job in enumerate(absolute):
            task = workers.submit(_worker_record, job, request, options, neighbours)
            places[task.key] = number
            yield task

    with session.stop.watched() as cancel, open_reporter(session.json_wanted) as reporter:
        for task, record in workers.results(tasks(), cancel.is_set):
            if task is not None:
                number = places[task.key]
                records[number] = {**record, "input": str(jobs[number].source)}
                _tell_error(jobs[number], record)
                reporter.line(f"{jobs[number].source.name}: {_state(record)}")
        if cancel.is_set():
            raise RunCancelled(f"the batch was cancelled after {len(records)} of {len(jobs)} files")
    return [records[number] for number in range(len(jobs))]


def earlier_result(job: Job, request: EnhanceRequest, options: RunOptions) -> dict[str, Any] | None:
    """Return the record of a job that was done before, or None if it must be run.

    Raises
    ------
    OutputExistsError
        A result exists, but it is damaged, or was made by other settings or from other pixels.
    """
    from zenhance.io import inspect_image, verify_image
    from zenhance.provenance import Provenance

    targets = targets_of(job, request)
    if not job.target.exists():
        return None
    try:
        record = Provenance.find(inspect_image(job.target).metadata)
        if record is None:
            # Not a result of zenhance: the run refuses to write there, in its own words.
            return None
        _check_same(job, request, record, options)
        for target in targets.values():
            verify_image(target)
    except ReadError as error:
        raise OutputExistsError(f"an earlier result exists, but {error}; {ANOTHER}") from error
    said: dict[str, Any] = {"skipped": "its result exists and is unchanged"}
    if options.assess:
        said |= _earlier_assessment(job, request, record, options)
    return {
        "input": str(job.source),
        "output": str(job.target),
        "extras": {name: str(target) for name, target in targets.items() if name},
        "method": request.method,
        "warnings": list(record.warnings),
        **said,
    }


def _check_same(job: Job, request: EnhanceRequest, record: Provenance, options: RunOptions) -> None:
    """Refuse an earlier result of other settings or of other pixels."""
    from zenhance.pipeline.assessing import is_made_from

    different = _differences(record, request)
    if different:
        raise OutputExistsError(
            f'"{job.target}" exists already, but its run had another {" and ".join(different)}; '
            f"{ANOTHER}"
        )
    stack = open_input(job.source, request, options.lengths)
    running = request.model_copy(update={"axes": None})
    if not is_made_from(running.apply_to(stack), record):
        raise OutputExistsError(
            f'"{job.target}" exists already, but it was made from other pixels than those of '
            f'"{job.source.name}"; {ANOTHER}'
        )


def _differences(record: Provenance, request: EnhanceRequest) -> list[str]:
    """Return which fields of the request the earlier run had otherwise."""
    from zenhance.pipeline import EnhanceRequest

    try:
        earlier = EnhanceRequest(**record.request)
        before, after = (
            {
                **one.model_dump(mode="json", exclude=set(NOT_COMPARED)),
                **one.parameters().model_dump(mode="json"),
            }
            for one in (earlier, request)
        )
    except ZenhanceError:
        return ["request"]
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _earlier_assessment(
    job: Job, request: EnhanceRequest, record: Provenance, options: RunOptions
) -> dict[str, Any]:
    """Return the verdict on an earlier result; write the report if there is none yet."""
    from zenhance.cli.assess import write_report
    from zenhance.io import open_stack
    from zenhance.pipeline.assessing import ASSESSMENT, assess_result

    report = None if job.report is None else str(job.report)
    noted = record.notes.get(ASSESSMENT, {})
    if "verdict" in noted and (job.report is None or job.report.exists()):
        names = ("verdict", "headline", "sentences")
        return {"assessment": {name: noted.get(name) for name in names}, "report": report}
    before = open_input(job.source, request, options.lengths)
    running = request.model_copy(update={"axes": None})
    after = open_stack(job.target)
    found = assess_result(before, after, running)
    if job.report is not None and not job.report.exists():
        seen = running.apply_to(before)
        write_report(job.report, found, seen, after, provenance=record)
    figures = {
        "verdict": found.verdict,
        "headline": found.headline,
        "sentences": list(found.sentences),
    }
    return {"assessment": figures, "report": report}


def _state(record: dict[str, Any]) -> str:
    return "failed" if "error" in record else "skipped" if "skipped" in record else "done"


def _summary_text(record: dict[str, Any], state: str) -> str:
    if state == "failed":
        return str(record["error"])
    text = f"{record['output']}, " + (
        str(record["skipped"]) if state == "skipped" else format_seconds(record["seconds"])
    )
    if "assessment" in record:
        text += f", {record['assessment']['verdict']}: {record['assessment']['headline']}"
    return text


def _left_out_lines(left_out: dict[Path, str]) -> list[str]:
    """Say what was not read and why, with at most :data:`MAX_NAMED` names for each reason."""
    lines = []
    for why in dict.fromkeys(left_out.values()):
        names = [path.name for path, reason in left_out.items() if reason == why]
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        lines.append(f"left out: {', '.join(names[:MAX_NAMED])}{more} ({why})")
    return lines


def _print_summary(records: Sequence[dict[str, Any]]) -> None:
    """Print a table with one row a file, and how many were done, skipped and failed."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for heading in ("file", "result"):
        table.add_column(heading, overflow="fold")
    states = [_state(record) for record in records]
    for record, state in zip(records, states, strict=True):
        colour, text = COLOURS[state], escape(_summary_text(record, state))
        name = escape(Path(record["input"]).name)
        table.add_row(name, f"[{colour}]{state}[/{colour}]: {text}")
    show(table)
    counts = Counter(states)
    print(", ".join(f"{counts[state]} {state}" for state in COLOURS), flush=True)
