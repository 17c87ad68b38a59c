"""A command does its work and exits with the right code whatever becomes of stdout and stderr."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zenhance.cli.process import GuardedStream, Streams, guarded_streams
from zenhance.io import open_stack, verify_image, write_stack
from zenhance.stack import Stack

NEEDS_SHELL = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="there is no /dev/full and no POSIX shell here"
)
STATES = {
    "closed": ">&- 2>&- <&-",
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "stdout full": ">/dev/full",
    "stderr full": "2>/dev/full",
    "both full": ">/dev/full 2>/dev/full",
    "head": "2>&1 | head -c 1 >/dev/null",
    "no reader": "2>&1 | true",
}
SOME = ("closed", "stdout full", "head")
# Words, the states of the streams to try, the exit code, and that with a full stdout.
COMMANDS = {
    "enhance": (
        "enhance a.ome.tif OUT.ome.tif --method identity --device cpu",
        tuple(STATES),
        0,
        0,
    ),
    "info": ("info a.ome.tif --json", SOME, 0, 6),
    "an error": ("info gone.tif", SOME, 3, 3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams")
    pixels = np.random.default_rng(0).poisson(50, (3, 12, 10)).astype(np.uint16)
    write_stack(path / "a.ome.tif", Stack.from_array(pixels, "ZYX", (0.5, 0.2, 0.2)))
    return path


@NEEDS_SHELL
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works_in_every_state_of_its_streams(folder: Path, command: str) -> None:
    words, states, code, code_when_full = COMMANDS[command]
    program = f"{shlex.quote(sys.executable)} -m zenhance.cli"
    # One shell runs all states, with its own streams kept as 8 and 9.
    script = "set -o pipefail\nexec 8>&1 9>&2\n"
    for number, state in enumerate(states):
        line = words.replace("OUT", f"{command.replace(' ', '_')}_{number}")
        script += f"{program} {line} {STATES[state]}\necho $? >&8\n"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    codes = [int(line) for line in done.stdout.splitlines() if line.isdecimal()]
    # head and true leave the pipe, and the exit code of the pipe is then that of the command
    expected = [code_when_full if "full" in s and "err" not in s else code for s in states]
    assert dict(zip(states, codes, strict=True)) == dict(zip(states, expected, strict=True))
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if command.startswith("enhance"):
        pixels = np.asarray(open_stack(folder / "a.ome.tif").data[...])
        for number in range(len(states)):
            written = folder / f"{command.replace(' ', '_')}_{number}.ome.tif"
            assert verify_image(written) == 3
            assert np.array_equal(np.asarray(open_stack(written).data[...]), pixels)


class Failing(io.StringIO):
    """A stream that takes a few characters and then fails."""

    def __init__(self, error: Exception, room: int) -> None:
        super().__init__()
        self.failure, self.room = error, room

    def write(self, text: str) -> int:
        if len(self.getvalue()) + len(text) > self.room:
            raise self.failure
        return super().write(text)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), None),
        (ValueError("I/O operation on closed file."), "I/O operation on closed file."),
    ],
)
def test_the_first_failure_of_a_stream_is_kept_and_later_text_is_dropped(
    error: Exception, lost: str | None
) -> None:
    stream = Failing(error, 8)
    guarded = GuardedStream(stream)
    for word in ("first\n", "second\n", "x"):
        assert guarded.write(word) == len(word)
        guarded.flush()
    assert stream.getvalue() == "first\n"
    assert guarded.error is error
    assert Streams(guarded, GuardedStream(io.StringIO())).lost == lost


def test_the_streams_of_before_are_back_after_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    before = sys.stdout, sys.stderr
    with guarded_streams() as streams:
        print("text for nobody")
        assert sys.stdout is streams.out
    assert (sys.stdout, sys.stderr) == before
    assert streams.lost is None


@NEEDS_SHELL
def test_a_library_that_prints_cannot_write_into_a_file_of_the_user(folder: Path) -> None:
    """A file that is opened while descriptor 2 is free gets that number."""
    code = (
        "import os, json\n"
        "from zenhance.cli.process import guarded_streams\n"
        "with guarded_streams():\n"
        "    file = os.open('result.bin', os.O_RDWR | os.O_CREAT)\n"
        "    os.write(2, b'a complaint of libtiff')\n"
        "    json.dump([file, os.fstat(file).st_size], open('found.json', 'w'))\n"
    )
    subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- 2>&- <&-"],
        cwd=folder,
        check=True,
    )
    number, size = json.loads((folder / "found.json").read_text())
    assert number > 2
    assert size == 0
