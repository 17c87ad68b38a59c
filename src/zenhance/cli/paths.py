"""Plan and check which files a call reads and where each result goes, before any computation."""

from __future__ import annotations

import glob
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zenhance.errors import FailureKind, MethodError, ReadError, WriteError
from zenhance.io.names import OUTPUT_SUFFIXES, images_in, is_image_folder, left_out, stem
from zenhance.wording import format_bytes, quoted

__all__ = [
    "OUTPUT_SUFFIXES",
    "Job",
    "JobPlan",
    "batch_status",
    "check_early",
    "check_free_space",
    "check_report",
    "check_target",
    "extra_path",
    "is_zarr",
    "make_folder",
    "plan_jobs",
    "plan_reports",
    "stem",
]

MAX_NAME_BYTES = 255
# The result is first written under a longer name (such as ".NAME.partial"), which must fit too.
PARTIAL_NAME_BYTES = 40


@dataclass(frozen=True, slots=True)
class Job:
    """One file to enhance, where its result goes, and where a report on it, if one is wanted."""

    source: Path
    target: Path
    report: Path | None = None


@dataclass(frozen=True, slots=True)
class JobPlan:
    """All files of a call.

    Parameters
    ----------
    jobs : list of Job
        In the order in which they are done.
    batch : bool
        Whether the inputs were several, or might have been.
    folder : Path or None
        Where the results go, for a batch or where OUTPUT is a folder.
    left_out : dict of Path to str
        What the folders given hold beside the images, and why it is not read.
    """

    jobs: list[Job]
    batch: bool
    folder: Path | None
    left_out: dict[Path, str] = field(default_factory=dict)


def extra_path(target: Path, name: str) -> Path:
    """Return where a further output of a method goes: beside the first, its name added."""
    base = stem(target)
    return target.with_name(f"{base}_{name}{target.name[len(base) :]}")


def _expand(word: str) -> tuple[list[Path], bool]:
    """Return the files that one INPUT word stands for, and whether it may stand for several."""
    path = Path(word)
    if os.path.lexists(path):
        return (
            (images_in(path), True)
            if path.is_dir() and not is_image_folder(path)
            else ([path], False)
        )
    if glob.has_magic(word):
        found = [Path(name) for name in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207 - Path.glob takes no absolute patterns
        found = [p for p in found if not p.is_dir() or is_image_folder(p)]
        if not found:
            raise ReadError(word[:150], "no file matches; check the pattern and the folder")
        return found, True
    raise ReadError(word[:150], "there is no such file; check the path")


def _left_out(inputs: Sequence[str]) -> dict[Path, str]:
    """Return what the folders among the inputs hold and is not read, and why."""
    folders = [Path(w) for w in inputs if os.path.isdir(w) and not is_image_folder(Path(w))]  # noqa: PTH112
    return {path: why for folder in folders for path, why in left_out(folder).items()}


def _names(sources: Sequence[Path], method: str, ending: str) -> list[str]:
    """Return a different result name for each source, even where only suffix or folder differ."""
    names = [stem(source) for source in sources]
    doubles = Counter(name.casefold() for name in names)
    names = [
        n if doubles[n.casefold()] == 1 else s.name.replace(".", "_")
        for n, s in zip(names, sources, strict=True)
    ]
    doubles = Counter(name.casefold() for name in names)
    names = [
        n if doubles[n.casefold()] == 1 else f"{s.parent.name}_{n}"
        for n, s in zip(names, sources, strict=True)
    ]
    clash = [
        name for name, count in Counter(name.casefold() for name in names).items() if count > 1
    ]
    if clash:
        raise MethodError(
            f'several inputs are called "{clash[0]}"; '
            "enhance their folders one at a time, into different folders"
        )
    return [f"{name}_{method}{ending}" for name in names]


def plan_jobs(
    inputs: Sequence[str], output: str, method: str, ending: str | None = None
) -> JobPlan:
    """Pair each input file with its output; nothing is made or changed.

    Parameters
    ----------
    inputs : sequence of str
        Files, OME-Zarr folders, folders of images, or glob patterns.
    output : str
        A file for one input; a folder for several, with results ``NAME_METHOD.ome.tif``.
    method : str
        Name of the method.
    ending : str, optional
        Of the names of results in a folder, such as ``.ome.zarr``; ``.ome.tif`` by default.

    Raises
    ------
    ReadError
        An input is not there.
    MethodError
        OUTPUT is empty, two results would share a name, or there is no such format.
    """
    if ending is not None and f".{ending.lstrip('.')}" not in OUTPUT_SUFFIXES:
        raise MethodError(
            f"the format {quoted(ending)} cannot be written; choose ome.tif, tif, ome.zarr or h5"
        )
    suffix = ".ome.tif" if ending is None else f".{ending.lstrip('.')}"
    # one missing file among several fails by itself, later; it must not stop the rest
    expanded = [
        ([Path(w)], False)
        if len(inputs) > 1 and not glob.has_magic(w) and not os.path.lexists(w)
        else _expand(w)
        for w in inputs
    ]
    sources = list(dict.fromkeys(path for paths, _ in expanded for path in paths))
    batch = len(sources) > 1 or any(several for _, several in expanded)
    if not output.strip():
        raise MethodError(
            "OUTPUT is empty; name a file ending in .ome.tif, .tif, .ome.zarr or .h5, or a folder, "
            "such as . for this one"
        )
    target = Path(output)
    # Path.is_dir raises where a name is too long, which a later check reports.
    is_folder = output.endswith(("/", os.sep)) or (
        os.path.isdir(target) and not is_image_folder(target)  # noqa: PTH112
    )
    if batch or is_folder:
        return JobPlan(
            [
                Job(s, target / n)
                for s, n in zip(sources, _names(sources, method, suffix), strict=True)
            ],
            batch,
            target,
            _left_out(inputs),
        )
    if ending is not None:
        raise MethodError(
            f'--format names the format of results in a folder, but the output is "{output}"; '
            "leave --format out, its name chooses the format"
        )
    return JobPlan([Job(sources[0], target)], False, None)


def plan_reports(plan: JobPlan, report: Path | None, overwrite: bool) -> JobPlan:
    """Give each job its report: the file given, or one in the folder given, named like the result.

    The folder is made. Reports of a batch are checked when their file is run.

    Raises
    ------
    MethodError
        A single report's name does not end in ``.html``.
    OutputExistsError, WriteError
        A report exists already, or its folder cannot be made or written to.
    """
    if report is None:
        return plan
    if plan.batch:
        make_folder(report)
        plan = replace(
            plan,
            jobs=[replace(job, report=report / f"{stem(job.target)}.html") for job in plan.jobs],
        )
    else:
        check_report(report, overwrite, [plan.jobs[0].source])
        plan = replace(plan, jobs=[replace(plan.jobs[0], report=report)])
    return plan


def make_folder(folder: Path) -> None:
    """Make the folder of a batch, but only its last level, so that a typing error shows.

    Raises
    ------
    WriteError
        There is a file of that name, the folder above is missing, or the system refuses.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise WriteError(
            f'several inputs need a folder to go to, but the output "{folder}" is a file; '
            "name a folder",
            FailureKind.BAD_PARAMETER,
        ) from None
    except FileNotFoundError:
        raise WriteError(
            f'the folder "{folder.parent}" for the output does not exist; '
            "make it first or choose another"
        ) from None
    except OSError as error:
        raise WriteError(
            f'the folder "{folder}" cannot be made ({error.strerror}); '
            "choose a folder where you may write"
        ) from error


def check_early(inputs: Sequence[str], output: str, overwrite: bool) -> None:
    """Refuse a single input or output that cannot be, before anything heavy is imported.

    Raises
    ------
    ReadError, MethodError, WriteError
        As :func:`plan_jobs` and :func:`check_target` do.
    """
    # a single output's name does not depend on the method
    plan = plan_jobs(inputs, output, "")
    if plan.folder is None:
        check_target(plan.jobs[0].source, plan.jobs[0].target, overwrite)


def is_zarr(target: Path) -> bool:
    """Tell whether a result is an OME-Zarr, which is a folder."""
    return target.suffix.lower() == ".zarr"


def check_target(source: Path | None, target: Path, overwrite: bool) -> None:
    """Refuse an output path that could not be written in the end, before the work begins.

    Raises
    ------
    MethodError
        The suffix is not one that can be written.
    OutputExistsError
        The path is taken, and ``overwrite`` is false or zenhance did not write what is there.
    WriteError
        The folder is missing or not writable, the name is too long, or the output is the input.
    """
    from zenhance.io.commit import check_output
    from zenhance.io.write_zarr import foreign_in_store

    if not target.name.lower().endswith(OUTPUT_SUFFIXES) or target.name.lower() in OUTPUT_SUFFIXES:
        raise MethodError(
            f'the output "{target}" cannot be written; '
            "its name must end in .ome.tif, .tif, .ome.zarr or .h5"
        )
    most = MAX_NAME_BYTES - PARTIAL_NAME_BYTES
    if len(os.fsencode(target.name)) > most:
        raise WriteError(
            f'the output name "{target.name[:60]}..." is too long; '
            f"allowed are {most} bytes, choose a shorter one"
        )
    sources = [source] if source is not None and source.exists() else []
    folder = is_zarr(target)
    check_output(
        target,
        overwrite=overwrite,
        sources=sources,
        folder=folder,
        foreign=foreign_in_store,
    )


def check_report(path: Path, overwrite: bool, sources: list[Path]) -> None:
    """Refuse a report that could not be written in the end.

    Raises
    ------
    MethodError
        The name does not end in ``.html``.
    OutputExistsError, WriteError
        As for any output.
    """
    from zenhance.io.commit import check_output

    if not path.name.lower().endswith((".html", ".htm")):
        raise MethodError(f'the report "{path}" cannot be written; its name must end in .html')
    check_output(
        path,
        overwrite=overwrite,
        sources=[s for s in sources if s.exists()],
        folder=False,
    )


def check_free_space(target: Path, needed_bytes: int) -> None:
    """Refuse a run whose result would not fit on the disk, a tenth to spare.

    Raises
    ------
    WriteError
        The text says how much is needed and how much is free.
    """
    free = shutil.disk_usage(target.parent).free
    if needed_bytes * 1.1 > free:
        raise WriteError(
            f'the disk of "{target.parent}" has {format_bytes(free)} free, '
            f"but the result needs {format_bytes(needed_bytes * 1.1)}; "
            "free some space or choose another folder",
            FailureKind.DISK_FULL,
        )


def batch_status(codes: Iterable[int]) -> int:
    """Return the exit code of a batch: 0, 10 if some failed, the first code if all did."""
    codes = list(codes)
    failed = [code for code in codes if code]
    return 0 if not failed else failed[0] if len(failed) == len(codes) else 10
