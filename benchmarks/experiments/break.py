"""What is lost or silently wrong after kills, cuts, zeroed ends, bombs and foreign lock files."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import multiprocessing
import os
import signal
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.console import Tell
from benchmarks.runner import Experiment, Option, Section, whole
from benchmarks.tables import TextTable
from zenhance.errors import OutputExistsError, ReadError
from zenhance.io import inspect_image, open_stack, verify_image, write_stack
from zenhance.stack import Stack
from zenhance.steps import drain

__all__ = ["EXPERIMENT", "BreakReport", "measure_break", "survival_table"]

SHAPE = (12, 48, 50)
MAX_SECONDS = 5.0
MAX_GROWTH_BYTES = 2**30
PIXELS = (np.random.default_rng(5).random(SHAPE) * 60000 + 1).astype(np.uint16)
ENDINGS = ("ome.tif", "tif", "ome.zarr")

Attempt = Callable[[Path, np.random.Generator, int], str | None]


@dataclass
class BreakReport:
    """Tries, and what was lost, by kind; a loss has a sentence."""

    tries: Counter[str] = field(default_factory=Counter)
    lost: dict[str, list[str]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        return asdict(self)


def _stack(value: int) -> Stack:
    return Stack.from_array(np.full((24, 300, 300), value, np.uint16), "ZYX", (1, 1, 1))


def kill(folder: Path, rng: np.random.Generator, number: int) -> str | None:
    """Kill a process at any moment while it replaces an image."""
    path = folder / f"a.{ENDINGS[number % len(ENDINGS)]}"
    if not path.exists():
        write_stack(path, _stack(1))
    child = os.fork()
    if child == 0:
        write_stack(path, _stack(2), overwrite=True)
        os._exit(0)
    time.sleep(float(rng.uniform(0, 0.4)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        verify_image(path)
        value = int(np.asarray(open_stack(path).data).max())
    except ReadError as error:
        return str(error)
    return None if value in (1, 2) else f"{path.name} holds {value}"


def _enhance(source: Path, target: Path) -> None:
    """Enhance a file as the command line does, in tiles of which there are 30 in two volumes."""
    from zenhance.pipeline import EnhanceRequest, enhance_steps
    from zenhance.pipeline.journal import journal_beside

    request = EnhanceRequest(
        method="gaussian_deconvolution",
        settings={"iterations": 5, "stop": "fixed"},
        psf="sigma_um=0.5,0.25,0.25",
        profile="none",
        tile_px=(8, 20, 20),
        device="cpu",
    )
    with journal_beside(target) as journal:
        result = drain(enhance_steps(open_stack(source), request, journal=journal))
        write_stack(target, result.stack, provenance=result.provenance)


def _child(source: Path, target: Path) -> Any:
    """Begin :func:`_enhance` in a process of its own, forked from one that has computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zenhance.pipeline.run", "zenhance.io.write_zarr", "torch"])
    child = context.Process(target=_enhance, args=(source, target))
    child.start()
    return child


@cache
def _undisturbed(source_pixels: bytes) -> tuple[bytes, float]:
    """Return the voxels of a run that nothing disturbs, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        source = _input(Path(folder), source_pixels)
        for name in ("warm", "timed"):
            start = time.perf_counter()
            child = _child(source, Path(folder, f"{name}.ome.zarr"))
            child.join()
        seconds = time.perf_counter() - start
        return np.asarray(open_stack(Path(folder, "timed.ome.zarr")).data).tobytes(), seconds


def _input(folder: Path, pixels: bytes) -> Path:
    grey = np.frombuffer(pixels, np.uint16).reshape(2, *SHAPE)
    return write_stack(folder / "in.ome.tif", Stack.from_array(grey, "TZYX", (0.5, 0.25, 0.25)))


def resume(folder: Path, rng: np.random.Generator, _number: int) -> str | None:
    """Kill a run twice at any moment; what continues it must end as if nothing had happened."""
    pixels = np.random.default_rng(6).poisson(50, (2, *SHAPE)).astype(np.uint16).tobytes()
    expected, seconds = _undisturbed(pixels)
    source, target = _input(folder, pixels), folder / "out.ome.zarr"
    for _ in range(2):
        child = _child(source, target)
        time.sleep(float(rng.uniform(0, seconds)))
        child.kill()
        child.join()
        if target.exists():
            # It was done before the kill; what is there must be whole.
            verify_image(target)
            break
    else:
        child = _child(source, target)
        child.join()
        if child.exitcode:
            return f"the run did not continue after it was killed (exit code {child.exitcode})"
    if np.asarray(open_stack(target).data).tobytes() != expected:
        return "the continued run gave other voxels"
    left = sorted(path.name for path in folder.iterdir())
    return None if left == ["in.ome.tif", "out.ome.zarr"] else f"it left {', '.join(left)[:120]}"


def _written(folder: Path, number: int) -> Path:
    """Write one of several kinds of file; the number chooses."""
    import tifffile

    kinds: list[tuple[str, dict[str, Any]]] = [
        ("imagej.tif", {"imagej": True, "metadata": {"axes": "ZYX"}}),
        ("imagej_zlib.tif", {"imagej": True, "compression": "zlib"}),
        ("x.ome.tif", {"ome": True, "metadata": {"axes": "ZYX"}}),
        ("x_zlib.ome.tif", {"ome": True, "compression": "zlib"}),
        ("plain.tif", {"metadata": None}),
        ("tiled.tif", {"metadata": None, "tile": (16, 16)}),
        ("shaped.tif", {"metadata": {"axes": "ZYX"}}),
        ("data.h5", {}),
        ("data.inr.gz", {}),
    ]
    name, options = kinds[number % len(kinds)]
    path = folder / name
    if name.endswith(".h5"):
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("raw", data=PIXELS, chunks=(4, 24, 25), compression="gzip")
    elif name.endswith(".inr.gz"):
        z, y, x = SHAPE
        head = (
            f"#INRIMAGE-4#{{\nXDIM={x}\nYDIM={y}\nZDIM={z}\nVDIM=1\nTYPE=unsigned fixed\n"
            "PIXSIZE=16 bits\nCPU=decm\n"
        )
        body = head.encode().ljust(252, b"\n") + b"##}\n" + PIXELS.tobytes()
        path.write_bytes(gzip.compress(body))
    else:
        tifffile.imwrite(path, PIXELS, photometric="minisblack", **options)
    return path


def _silent(path: Path, *, said: str = "") -> str | None:
    """Return a sentence if a damaged file reads as other pixels without a word."""
    try:
        stack = open_stack(path, axes="ZYX")
        found = np.asarray(stack.data)
    except (ReadError, ValueError):
        return None
    notes = " ".join(stack.metadata.get("warnings", ()))
    same = np.array_equal(found, PIXELS)
    return None if same or (said and said in notes) else f"{path.name} reads as {found.shape}"


def cut(folder: Path, rng: np.random.Generator, number: int) -> str | None:
    """Cut a file anywhere."""
    path = _written(folder, number)
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(len(data)))])
    return _silent(path)


def zero_end(folder: Path, rng: np.random.Generator, number: int) -> str | None:
    """Replace the end of a file by zeros, as an interrupted copy leaves it."""
    path = _written(folder, number)
    data = path.read_bytes()
    plane = 2 * SHAPE[1] * SHAPE[2]
    keep = int(rng.integers(max(len(data) - plane, 1)))
    path.write_bytes(data[:keep].ljust(len(data), b"\0"))
    return _silent(path, said="is zeros")


def _zeros(name: str, mib: int) -> bytes:
    block = b"\0" * 2**20
    made: Any = {
        "bz2": bz2.BZ2Compressor,
        "lzma": lambda: lzma.LZMACompressor(preset=0),
        "zlib": lambda: zlib.compressobj(9),
        "gzip": lambda: zlib.compressobj(9, 8, 31),
    }[name]()
    held = io.BytesIO()
    for _ in range(mib):
        held.write(made.compress(block))
    held.write(made.flush())
    return held.getvalue()


def bomb(folder: Path, rng: np.random.Generator, number: int) -> str | None:
    """Open a zarr chunk of 64 bytes that becomes gigabytes; one stream or many."""
    name = ("bz2", "lzma", "zlib", "gzip")[number % 4]
    many = bool(rng.integers(2)) and name != "zlib"
    body = _zeros(name, 1) * 2048 if many else _zeros(name, int(rng.integers(64, 256)))
    root = folder / "bomb.zarr"
    root.mkdir(exist_ok=True)
    meta = {"zarr_format": 2, "shape": [4, 4, 4], "chunks": [4, 4, 4], "dtype": "|u1"}
    settings = {"id": name, "level": 9} if name != "lzma" else {"id": name, "format": 1}
    meta |= {"fill_value": 0, "order": "C", "filters": None, "compressor": settings}
    (root / ".zarray").write_text(json.dumps(meta))
    (root / "0.0.0").write_bytes(body)
    import resource

    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        np.asarray(open_stack(root, axes="ZYX").data)
        return f"a {name} bomb of {len(body)} bytes was decoded"
    except ReadError:
        pass
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    seconds = time.perf_counter() - start
    if grown > MAX_GROWTH_BYTES or seconds > MAX_SECONDS:
        return f"a {name} bomb took {grown} bytes and {seconds:.1f} s"
    return None


def foreign_lock(folder: Path, rng: np.random.Generator, number: int) -> str | None:
    """Write an image while its lock's name is a link to somebody's file, or that file."""
    path, victim = folder / f"b.{ENDINGS[number % len(ENDINGS)]}", folder / "thesis.txt"
    lock = path.with_name(f".{path.name}.lock")
    content = rng.bytes(int(rng.integers(1, 200)))
    victim.write_bytes(content)
    (lock.symlink_to if rng.integers(2) else lock.hardlink_to)(victim)
    try:
        write_stack(path, Stack.from_array(PIXELS, "ZYX"), overwrite=True)
        return f"{path.name} was written over a foreign lock"
    except OutputExistsError:
        pass
    whole_still = victim.read_bytes() == content and os.path.lexists(lock)
    lock.unlink(missing_ok=True)
    return None if whole_still else "the file that the lock pointed to changed"


def noise(folder: Path, rng: np.random.Generator, number: int) -> str | None:
    """Change bytes anywhere in a file; anything but a ReadError or an image is a loss."""
    path = _written(folder, number)
    data = bytearray(path.read_bytes())
    for place in rng.integers(len(data), size=int(rng.integers(1, 20))):
        data[place] = rng.integers(256)
    path.write_bytes(data)
    start = time.perf_counter()
    try:
        inspect_image(path)
        np.asarray(open_stack(path, axes="ZYX").data)
    except (ReadError, ValueError):
        pass
    except Exception as error:  # noqa: BLE001 - any other exception is what is looked for
        return f"{path.name}: {type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    return f"{path.name} took {seconds:.1f} s" if seconds > MAX_SECONDS else None


KINDS: dict[str, tuple[Attempt, float]] = {
    "killed while replacing": (kill, 1.0),
    "enhancing, killed twice": (resume, 0.1),
    "cut files": (cut, 1.0),
    "files with a zeroed end": (zero_end, 1.0),
    "changed bytes": (noise, 1.0),
    "bombs": (bomb, 0.1),
    "foreign lock files": (foreign_lock, 0.2),
}
"""What is tried, and its share of the tries asked for."""


def _attempts(tries: int) -> Iterator[tuple[str, Attempt, int]]:
    for kind, (attempt, share) in KINDS.items():
        for number in range(max(1, round(tries * share))):
            yield kind, attempt, number


def measure_break(tries: int, seed: int = 0, tell: Tell = lambda *_: None) -> BreakReport:
    """Try to break the reading and writing of images.

    Parameters
    ----------
    tries : int
        For each kind; some kinds take a part of it.
    seed : int
        Of the random places and moments.
    tell : callable
        Told the kind and the fraction done.
    """
    report, rng = BreakReport(), np.random.default_rng(seed)
    plan = list(_attempts(tries))
    for done, (kind, attempt, number) in enumerate(plan):
        tell(kind, done / len(plan))
        with tempfile.TemporaryDirectory() as folder:
            loss = attempt(Path(folder), rng, number)
        report.tries[kind] += 1
        if loss is not None:
            report.lost.setdefault(kind, []).append(loss)
    return report


def survival_table(report: BreakReport) -> TextTable:
    """Return tries, survived and lost by kind; the foot lists the first losses."""
    rows = []
    for kind, tries in report.tries.items():
        lost = len(report.lost.get(kind, ()))
        rows.append((kind, str(tries), str(tries - lost), str(lost)))
    total = sum(report.tries.values())
    lost = sum(map(len, report.lost.values()))
    rows.append(("all", str(total), str(total - lost), str(lost)))
    foot = [f"{kind}: {text}"[:200] for kind, said in report.lost.items() for text in said[:3]]
    title = "What is lost or silently wrong"
    return TextTable(title, ("what was done", "tries", "survived", "lost"), tuple(rows), (*foot,))


def _sections(_report: BreakReport) -> list[Section]:
    """Return nothing: the table is for those who change the code."""
    return []


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_break(options.tries, options.seed, tell),
    tables=lambda report: {"break": survival_table(report)},
    options=(
        Option("tries", "How often each kind of damage is tried.", "N", 500, whole),
        Option("seed", "Of the random places and moments.", "N", 1, whole),
    ),
    sections=_sections,
)
