"""An interrupted run goes on with its finished tiles and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.errors import OutputExistsError, RunCancelled
from zenhance.io import open_stack, verify_image, write_stack
from zenhance.pipeline import EnhanceRequest, EnhanceResult, enhance, enhance_steps
from zenhance.pipeline import journal as journal_module
from zenhance.pipeline.journal import Journal, journal_beside
from zenhance.provenance import Provenance
from zenhance.stack import Stack
from zenhance.steps import drain

VOXEL_UM = (0.5, 0.25, 0.2)
PSF = "sigma_um=0.5,0.25,0.2"
TILED = {"psf": PSF, "tile_px": (4, 16, 16), "profile": "none", "device": "cpu"}
STEPS = {"iterations": 3, "stop": "fixed"}


class Crash(RuntimeError):
    """Stands for whatever ends a process."""


def stack(seed: int = 0, axes: str = "TZYX", dtype: Any = np.uint16) -> Stack:
    shape = {"T": 2, "C": 2, "Z": 9, "Y": 30, "X": 37}
    pixels = np.random.default_rng(seed).poisson(50, [shape[a] for a in axes]).astype(dtype)
    return Stack.from_array(pixels, axes, VOXEL_UM)


def run(request: EnhanceRequest, image: Stack, target: Path, **how: Any) -> EnhanceResult:
    with journal_beside(target, **how) as journal:
        result = drain(enhance_steps(image, request, journal=journal))
        # The arrays lie in the journal's folder, which goes away.
        stacks = {name: s.with_data(np.asarray(s.data)) for name, s in result.extras.items()}
        whole = result.stack.with_data(np.asarray(result.stack.data))
        return EnhanceResult(whole, stacks, result.provenance)


def crash_after(monkeypatch: pytest.MonkeyPatch, tiles: int) -> list[int]:
    """Let a run crash when it has finished so many tiles; return the numbers of those finished."""
    finish, done = Journal.finish, list[int]()

    def crashing(self: Journal, outputs: Any, reader: Any, number: int, *rest: Any) -> None:
        if len(done) == tiles:
            raise Crash
        finish(self, outputs, reader, number, *rest)
        done.append(number)

    monkeypatch.setattr(Journal, "finish", crashing)
    return done


def facts(record: Provenance) -> dict[str, Any]:
    return record.model_dump(exclude={"created", "seconds"})


@pytest.mark.parametrize(
    ("fields", "axes"),
    [
        ({"method": "gaussian_deconvolution", "settings": STEPS}, "TZYX"),
        ({"method": "gaussian_deconvolution", "settings": STEPS, "dtype": "input"}, "CZYX"),
        ({"method": "gaussian_deconvolution", "settings": STEPS, "statistics": "shared"}, "TZYX"),
        ({"method": "identity"}, "YX"),
        ({"method": "srcnn", "settings": {"scale": 2}, "arbitrate": False}, "ZYX"),
        (
            {
                "method": "diffusion",
                "settings": {"samples": 2, "steps": 2, "sampler": "stochastic"},
                "arbitrate": False,
            },
            "ZYX",
        ),
    ],
    ids=["series", "input's type", "shared statistics", "plane", "finer grid", "samples"],
)
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: Any, axes: str
) -> None:
    request, image = EnhanceRequest(**TILED, **fields), stack(axes=axes)
    undisturbed = run(request, image, tmp_path / "whole.ome.zarr")
    with monkeypatch.context() as patch:
        crash_after(patch, 5)
        with pytest.raises(Crash):
            run(request, image, tmp_path / "a.ome.zarr")
    assert len(list(tmp_path.glob(".a.*/tiles/*.json"))) == 5
    done = crash_after(monkeypatch, 1000)
    result = run(request, image, tmp_path / "a.ome.zarr")
    assert len(done) == undisturbed.provenance.tiles["count"] - 5
    np.testing.assert_array_equal(result.stack.data, undisturbed.stack.data)
    assert result.extras.keys() == undisturbed.extras.keys()
    for name, extra in undisturbed.extras.items():
        np.testing.assert_array_equal(result.extras[name].data, extra.data)
    assert facts(result.provenance) == facts(undisturbed.provenance)
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_a_journal_gives_the_voxels_of_one_without(tmp_path: Path) -> None:
    request = EnhanceRequest(**TILED, method="gaussian_deconvolution", settings=STEPS)
    kept = run(request, stack(), tmp_path / "a.ome.zarr")
    plain = enhance(stack(), request)
    np.testing.assert_array_equal(kept.stack.data, plain.stack.data)
    assert facts(kept.provenance) == facts(plain.provenance)


def flip(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(bytes(blob))


DAMAGES = {
    "flipped bit": flip,
    "lost chunk": Path.unlink,
    "cut chunk": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "zeroed chunk": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("what", ["enhanced/c/0/1/0/0", "tiles/0-0-1.json"])
def test_a_damaged_tile_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, what: str
) -> None:
    request = EnhanceRequest(**{**TILED, "tile_px": (4, 30, 37)}, method="identity")
    with monkeypatch.context() as patch:
        crash_after(patch, 4)
        with pytest.raises(Crash):
            run(request, stack(), tmp_path / "a.ome.zarr")
    (folder,) = tmp_path.iterdir()
    damage(folder / what)
    done = crash_after(monkeypatch, 1000)
    result = run(request, stack(), tmp_path / "a.ome.zarr")
    assert done == [1, 1, 2]
    np.testing.assert_array_equal(result.stack.data, np.asarray(stack().data, np.float32))


def words(folder: Path, *more: str) -> list[str]:
    tiled = ["--tile", "4,16,16", "--psf", PSF, "--profile", "none", "--set", "iterations=3"]
    paths = [str(folder / "in.ome.tif"), str(folder / "out.ome.zarr")]
    return ["enhance", *paths, *tiled, "--set", "stop=fixed", *more]


def start(folder: Path, monkeypatch: pytest.MonkeyPatch, tiles: int = 3) -> None:
    write_stack(folder / "in.ome.tif", stack(axes="ZYX"))
    with monkeypatch.context() as patch:
        crash_after(patch, tiles)
        assert CliRunner().invoke(app, words(folder)).exit_code == 1


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        ("", ("--set", "tv_weight=0.01"), "had another settings;"),
        ("", ("--seed", "4", "--dtype", "input"), "had another dtype and seed;"),
        ("", ("--psf", "sigma_um=0.5,0.25,0.25"), "had another point spread function;"),
        ("", ("--voxel-size", "0.5,0.2,0.2"), "had another input and voxel_size_um;"),
        ("input", (), "had another input;"),
        ("version", (), "had another version of zenhance;"),
        ("model", (), "had another model;"),
    ],
)
def test_another_run_is_refused_until_it_is_started_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, more: tuple[str, ...], said: str
) -> None:
    start(tmp_path, monkeypatch)
    if change == "input":
        write_stack(tmp_path / "in.ome.tif", stack(1, "ZYX"), overwrite=True)
    if change == "version":
        monkeypatch.setattr(journal_module, "__version__", "9.9")
    if change == "model":
        journal = Journal(next(tmp_path.glob(".*unfinished")))
        job = json.loads((journal.folder / "job.json").read_text().split("\n")[1])
        journal._write("job.json", {**job, "weights": "0" * 64})
    before = sorted(tmp_path.rglob("*"))
    refused = CliRunner().invoke(app, words(tmp_path, *more))
    assert refused.exit_code == 9
    assert 'an unfinished run to "out.ome.zarr"' in refused.stderr
    assert said in refused.stderr
    assert "start over with --restart" in refused.stderr
    assert sorted(tmp_path.rglob("*")) == before
    again = CliRunner().invoke(app, words(tmp_path, *more, "--restart"))
    assert again.exit_code == 0, again.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.ome.tif", "out.ome.zarr"]


def test_a_cancelled_run_says_what_it_keeps(tmp_path: Path) -> None:
    request = EnhanceRequest(**TILED, method="identity")
    cancel = threading.Event()

    def stop(progress: Any) -> None:
        if "tile 4 " in progress.message:
            cancel.set()

    with (
        pytest.raises(RunCancelled, match=r"; 3 tiles are kept, and the same command continues it"),
        journal_beside(tmp_path / "a.ome.zarr") as journal,
    ):
        drain(enhance_steps(stack(), request, cancel, journal=journal), stop)
    assert run(request, stack(), tmp_path / "a.ome.zarr").provenance.tiles["count"] == 36


def test_a_run_that_fails_before_its_first_tile_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_after(monkeypatch, 0)
    with pytest.raises(Crash):
        run(EnhanceRequest(**TILED, method="identity"), stack(), tmp_path / "a.ome.zarr")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    theirs = tmp_path / ".a.ome.zarr.zenhance-unfinished"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(OutputExistsError, match="is not of zenhance and was not changed"):
            run(EnhanceRequest(), stack(), tmp_path / "a.ome.zarr", restart=restart)
    assert (theirs / "thesis.txt").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_process_is_continued_bit_for_bit(tmp_path: Path) -> None:
    write_stack(tmp_path / "in.ome.tif", stack(axes="TCZYX"))
    command = [sys.executable, "-m", "zenhance.cli", *words(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob(".*/tiles/*.json"))) < 5 and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "out.ome.zarr").exists()
    finished = len(list(tmp_path.glob(".*/tiles/*.json")))
    assert 5 <= finished < 144
    again = CliRunner().invoke(app, words(tmp_path))
    assert again.exit_code == 0, again.output
    verify_image(tmp_path / "out.ome.zarr")
    request = EnhanceRequest(**TILED, method="gaussian_deconvolution", settings=STEPS)
    whole = enhance(open_stack(tmp_path / "in.ome.tif"), request)
    np.testing.assert_array_equal(
        np.asarray(open_stack(tmp_path / "out.ome.zarr").data), whole.stack.data
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.ome.tif", "out.ome.zarr"]
