"""The command line as a process: how fast it starts, what it loads, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from zenhance.io import open_stack, write_stack
from zenhance.stack import Stack

PROGRAM = (sys.executable, "-m", "zenhance.cli")
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
HEAVY = (
    "torch",
    "napari",
    "qtpy",
    "magicgui",
    "dask",
    "zarr",
    "tifffile",
    "numpy",
    "scipy",
    "skimage",
)


def write_image(path: Path, shape: tuple[int, int, int] = (6, 20, 24)) -> Path:
    pixels = np.random.default_rng(0).poisson(50, shape).astype(np.uint16)
    return write_stack(path, Stack.from_array(pixels, "ZYX", (0.5, 0.2, 0.2)))


def test_help_takes_less_than_half_a_second_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time\n"
        "from zenhance.cli import main\n"
        "try:\n    main(['enhance', '--help'])\n"
        "except SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {HEAVY} if name in sys.modules])\n"
        "print(time.process_time())\n"
    )
    # the processor's time, not the clock's: other tests may be running on the same cores
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=QUIET
        )
        for _ in range(3)
    ]
    lines = runs[0].stdout.splitlines()
    assert any("--voxel-size" in line for line in lines)
    assert lines[-2] == "LOADED []"
    assert min(float(done.stdout.splitlines()[-1]) for done in runs) < 0.5


def test_an_enhancement_loads_neither_napari_nor_qt(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    code = (
        "import sys\n"
        "from zenhance.cli import main\n"
        f"try:\n    main(['enhance', {str(source)!r}, {str(tmp_path / 'b.ome.tif')!r}, '--method', "
        "'identity', '--json'])\n"
        "except SystemExit as left:\n    print('STATUS', left.code)\n"
        "print('LOADED', [name for name in ('napari', 'qtpy', 'magicgui', 'PyQt6') if name in "
        "sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=QUIET
    )
    lines = done.stdout.splitlines()
    assert json.loads(lines[0])["method"] == "identity"
    assert lines[1:] == ["STATUS 0", "LOADED []"]


def test_a_failure_of_the_process_is_its_exit_code_and_one_line_on_stderr(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "info", "gone.tif"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=QUIET,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith('zenhance: cannot read "gone.tif"')
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT or SIGTERM to a child")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("stage", "variant"),
    [("measure", "richardson_lucy"), ("prepare", "richardson_lucy"), ("enhance", "imagej")],
)
def test_a_signal_stops_the_run_and_leaves_no_file(
    tmp_path: Path, number: signal.Signals, status: int, stage: str, variant: str
) -> None:
    source = write_image(tmp_path / "a.ome.tif", (40, 256, 256))
    before = source.read_bytes()
    words = [
        *PROGRAM,
        "enhance",
        str(source),
        str(tmp_path / "b.ome.tif"),
        "--device",
        "cpu",
        "--psf",
        "sigma_um=0.6,0.3,0.3",
    ]
    words += [
        "--set",
        f"variant={variant}",
        "--set",
        "iterations=500",
        "--set",
        "stop=fixed",
        "--tile",
        "10,256,256",
    ]
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=QUIET
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith(stage):
            break
    started = time.perf_counter()
    process.send_signal(number)
    stdout, rest = process.communicate(timeout=60)
    assert process.returncode == status, "".join(seen) + rest
    assert time.perf_counter() - started < 10
    assert rest.splitlines()[-1].startswith("zenhance: the run was cancelled")
    assert stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.tif"]
    assert source.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a child")
def test_a_signal_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    source, target = write_image(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif"
    old = np.asarray(open_stack(write_image(target, (3, 8, 9))).data[...])
    new = np.asarray(open_stack(source).data[...])
    words = ["enhance", str(source), str(target), "--method", "identity", "--overwrite", "--json"]
    code = f"from zenhance.cli import main\nprint('READY', flush=True)\nmain({words!r})"
    # a signal amid an import leaves Python's own open file to the garbage collector, which only a
    # user of warnings gets to see
    environment = {**QUIET, "PYTHONWARNINGS": "error,ignore::ResourceWarning"}
    for delay_s in (0.0, 0.1, 0.5, 1.0, 1.5):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "READY\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        # a signal after the last line of Python is the interpreter's own to answer
        assert process.returncode in (0, 130, -signal.SIGINT), errors
        assert "Traceback" not in errors
        found = np.asarray(open_stack(target).data[...])
        assert np.array_equal(found, old) or np.array_equal(found, new)
        assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
