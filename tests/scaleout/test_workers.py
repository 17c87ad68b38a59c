"""Several processes share one run and give the voxels of one process, whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.errors import MethodError, RunCancelled, WriteError
from zenhance.io import open_stack, verify_image, write_stack
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.pipeline.journal import journal_beside
from zenhance.scaleout import cluster
from zenhance.scaleout.cluster import Workers, open_workers
from zenhance.stack import Stack
from zenhance.steps import drain

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="kills processes"),
    pytest.mark.timeout(900),
]

VOXEL_UM = (0.5, 0.25, 0.2)
PSF = "sigma_um=0.5,0.25,0.2"
TILED = {"psf": PSF, "tile_px": (4, 16, 16), "device": "cpu"}


@pytest.fixture(autouse=True)
def as_many_threads_as_a_worker() -> Iterator[None]:
    """Sums of other numbers of threads differ in their last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with open_workers(2) as found:
        yield found


def image(folder: Path, name: str = "in", axes: str = "TZYX", seed: int = 0) -> Path:
    shape = {"T": 2, "C": 2, "Z": 8, "Y": 30, "X": 37}
    pixels = np.random.default_rng(seed).poisson(50, [shape[a] for a in axes]).astype(np.uint16)
    return write_stack(folder / f"{name}.ome.tif", Stack.from_array(pixels, axes, VOXEL_UM))


def run(
    workers: Workers, source: Path, request: EnhanceRequest, on_progress: Any = None, **how: Any
) -> tuple[np.ndarray, Any]:
    from zenhance.scaleout.run import distributed_steps

    cancel = how.pop("cancel", None) or threading.Event()
    with journal_beside(source.with_name("out.ome.zarr"), **how) as journal:
        stack = open_stack(source)
        steps = distributed_steps(workers, source, request, stack, request, cancel, journal)
        result = drain(steps, on_progress)
        record = result.provenance.model_dump(exclude={"created", "seconds"})
        return np.asarray(result.stack.data), record


@pytest.mark.parametrize(
    "fields",
    [
        {"settings": {"iterations": 3}, "profile": "none"},
        {"settings": {"iterations": 3}, "statistics": "shared", "profile": "measure"},
        {"method": "srcnn", "channel": 0},
    ],
    ids=["each volume", "microscope and statistics shared", "network against deconvolution"],
)
def test_two_workers_give_the_voxels_and_the_record_of_one_process(
    tmp_path: Path, workers: Workers, fields: dict[str, Any]
) -> None:
    source = image(tmp_path, axes="TCZYX")
    request = EnhanceRequest(**TILED, **fields)
    voxels, record = run(workers, source, request)
    alone = enhance(open_stack(source), request)
    np.testing.assert_array_equal(voxels, alone.stack.data)
    assert record == alone.provenance.model_dump(exclude={"created", "seconds"})
    assert [p.name for p in tmp_path.iterdir()] == ["in.ome.tif"]


def test_the_tasks_of_a_killed_worker_are_done_again(tmp_path: Path, workers: Workers) -> None:
    source = image(tmp_path)
    request = EnhanceRequest(**TILED, settings={"iterations": 3}, profile="none")
    victim = next(iter(workers.client.run(os.getpid).values()))
    killed_at: list[float] = []

    def kill(progress: Any) -> None:
        if not killed_at and progress.fraction > 0:
            killed_at.append(progress.fraction)
            os.kill(victim, signal.SIGKILL)

    voxels, _ = run(workers, source, request, kill)
    assert killed_at[0] < 0.5
    deadline = time.monotonic() + 240
    while not _are_two_without(victim, workers):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    np.testing.assert_array_equal(voxels, enhance(open_stack(source), request).stack.data)


def _are_two_without(victim: int, workers: Workers) -> bool:
    found = list(workers.client.run(os.getpid, on_error="return").values())
    return len(found) == 2 and victim not in found and all(isinstance(n, int) for n in found)


def test_a_cancelled_run_keeps_its_tiles(tmp_path: Path, workers: Workers) -> None:
    source, cancel = image(tmp_path), threading.Event()
    request = EnhanceRequest(**TILED, settings={"iterations": 3}, profile="none")

    def stop(progress: Any) -> None:
        if progress.fraction > 0:
            cancel.set()

    with pytest.raises(RunCancelled, match="kept, and the same command continues it"):
        run(workers, source, request, stop, cancel=cancel)
    voxels, _ = run(workers, source, request)
    np.testing.assert_array_equal(voxels, enhance(open_stack(source), request).stack.data)


def command(*words: Any) -> Any:
    tiled = ("--tile", "4,16,16", "--psf", PSF, "--profile", "none", "--set", "iterations=2")
    return CliRunner().invoke(app, ["enhance", *map(str, words), *tiled])


def test_the_command_line_uses_a_scheduler_for_one_file(tmp_path: Path, workers: Workers) -> None:
    source, address = image(tmp_path, axes="ZYX"), workers.client.scheduler.address
    done = command(source, tmp_path / "out.ome.tif", "--scheduler", address)
    assert done.exit_code == 0, done.output
    verify_image(tmp_path / "out.ome.tif")
    assert command(source, tmp_path / "alone.ome.tif").exit_code == 0
    both = [open_stack(tmp_path / f"{name}.ome.tif") for name in ("out", "alone")]
    np.testing.assert_array_equal(*(np.asarray(stack.data) for stack in both))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "alone.ome.tif",
        "in.ome.tif",
        "out.ome.tif",
    ]


def test_workers_take_whole_files_of_a_folder(tmp_path: Path, workers: Workers) -> None:
    folder, address = tmp_path / "in", workers.client.scheduler.address
    folder.mkdir()
    for number, name in enumerate("abc"):
        image(folder, name, "ZYX", number)
    (folder / "broken.tif").write_bytes(b"II*\0 no image at all")
    words = (folder, tmp_path / "out", "--scheduler", address, "--json")
    done = command(*words)
    record = json.loads(done.stdout)
    assert (done.exit_code, record["done"], record["failed"]) == (10, 3, 1)
    assert [Path(one["input"]).name for one in record["results"]] == [
        "a.ome.tif",
        "b.ome.tif",
        "broken.tif",
        "c.ome.tif",
    ]
    assert "broken.tif" in record["results"][2]["error"]
    again = json.loads(command(*words).stdout)
    assert (again["done"], again["skipped"], again["failed"]) == (0, 3, 1)


def test_workers_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MethodError, match=r"--workers is 0; choose a number from 1 to 1024"):
        open_workers(0).__enter__()
    monkeypatch.setattr(cluster, "MAX_WAIT_S", 1.0)
    with pytest.raises(WriteError, match=r'"tcp://127\.0\.0\.1:9" does not answer'):
        open_workers(scheduler="tcp://127.0.0.1:9").__enter__()
