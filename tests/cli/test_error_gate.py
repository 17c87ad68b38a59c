"""Whatever goes wrong leaves the command line as one sentence and an exit code of the table."""

from __future__ import annotations

import errno
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from zenhance.cli import main
from zenhance.cli.app import app
from zenhance.cli.errors import Gate, failure_sentence, failure_status
from zenhance.cli.process import StopRequest
from zenhance.errors import (
    BusyError,
    CheckpointError,
    FailureKind,
    MemoryBudgetError,
    MethodError,
    OutputExistsError,
    ReadError,
    RunCancelled,
    WriteError,
)


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (
            ["enhance", "--voxelsize", "1,1,1", "a", "b"],
            r'there is no option "--voxelsize"; did you mean "--voxel-size"\?',
        ),
        (
            ["enhance", "--ovewrite", "a", "b"],
            r'there is no option "--ovewrite"; did you mean "--overwrite"\?',
        ),
        (
            ["enhance", "-stack.tif", "b"],
            r'there is no option "-s"; "zenhance enhance --help" explains; .* begins with - write '
            r"\./-name",
        ),
        (["enhnace", "a", "b"], r'there is no command "enhnace"; did you mean "enhance"\?'),
        (["qqqq"], r'there is no command "qqqq"; choose one of enhance, methods, info'),
        (["enhance"], r'zenhance enhance needs INPUT OUTPUT; "zenhance enhance --help" explains'),
        (["enhance", "a"], r"zenhance enhance needs INPUT OUTPUT"),
        (["info"], r"zenhance info needs FILE"),
        (["enhance", "a", "b", "--psf"], r"option '--psf' requires an argument"),
    ],
)
def test_a_misspelt_call_exits_2_with_one_sentence_that_names_the_nearest_word(
    words: list[str], pattern: str
) -> None:
    import re

    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("zenhance: ")
    assert re.search(pattern, result.stderr)
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) <= 240
    assert result.stdout == ""


def test_a_misspelt_call_with_json_is_one_json_line_on_stdout() -> None:
    result = run("enhance", "--json", "--nothing", "a", "b")
    record = json.loads(result.stdout)
    assert record["exit_code"] == result.exit_code == 2
    assert record["kind"] == "bad parameter"
    assert record["error"].startswith('there is no option "--nothing"')
    assert result.stdout.count("\n") == 1


def test_words_after_two_dashes_are_files_even_if_they_look_like_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("info", "--", "--json")
    assert result.exit_code == 3
    assert 'cannot read "--json"' in result.stderr
    assert result.stdout == ""


def test_an_existing_file_may_begin_with_a_dash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-odd.tif").write_bytes(b"")
    result = run("info", "-odd.tif")
    assert result.exit_code == 3
    assert "the file is empty" in result.stderr


def test_no_words_print_the_help() -> None:
    result = run()
    assert result.exit_code == 0
    assert "Commands:" in result.stdout


def test_version_is_that_of_the_package() -> None:
    import zenhance

    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"{zenhance.__version__}\n")


@pytest.mark.parametrize(
    "words",
    [
        ["--debug", "info", "missing.tif"],
        ["info", "missing.tif", "--debug"],
        ["info", "--debug", "missing.tif"],
    ],
)
def test_debug_may_stand_anywhere_and_shows_the_traceback(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 3
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith('zenhance: cannot read "missing.tif"')


def test_without_debug_there_is_no_traceback() -> None:
    result = run("info", "missing.tif")
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_main_always_leaves_with_a_status() -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0


FAILURES: list[tuple[BaseException, int, str]] = [
    (MethodError("no such setting"), 2, "no such setting"),
    (ReadError("a.tif", "it is empty"), 3, 'cannot read "a.tif": it is empty'),
    (CheckpointError("weights are damaged"), 4, "weights are damaged"),
    (MemoryBudgetError("too large"), 5, "too large"),
    (MemoryError(), 5, "ran out of memory"),
    (RuntimeError("CUDA error: unspecified launch failure"), 7, "GPU stopped answering"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 5, "GPU ran out of memory"),
    (OSError(errno.ENOSPC, "No space left on device"), 6, "disk is full"),
    (PermissionError(errno.EACCES, "Permission denied"), 6, "refused access"),
    (WriteError("no folder"), 6, "no folder"),
    (WriteError("full", FailureKind.DISK_FULL), 6, "full"),
    (BusyError("another run"), 8, "another run"),
    (OutputExistsError("it exists"), 9, "it exists"),
    (KeyError("x"), 1, "unexpected KeyError.*--debug"),
    (
        RuntimeError("very long " * 100),
        1,
        "unexpected RuntimeError: very long.*; run again with --debug and report the traceback$",
    ),
    (RunCancelled("stopped"), 130, "stopped"),
]


@pytest.mark.parametrize(("error", "status", "pattern"), FAILURES)
def test_every_kind_of_failure_has_its_exit_code_and_a_short_sentence(
    error: BaseException, status: int, pattern: str
) -> None:
    import re

    broken = typer.Typer(cls=Gate, add_completion=False, pretty_exceptions_enable=False)

    @broken.callback()
    def root(debug: bool = False) -> None: ...

    @broken.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(broken, ["fail"])
    assert result.exit_code == status
    assert result.stderr == f"zenhance: {failure_sentence(error)}\n"
    assert re.search(pattern, failure_sentence(error))
    assert len(failure_sentence(error)) <= 240


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_only_sets_the_event_while_a_run_looks_at_it(
    number: signal.Signals, status: int
) -> None:
    stop = StopRequest()
    with stop.watched() as event:
        stop.handle(number)
        assert event.is_set()
        with pytest.raises(KeyboardInterrupt):
            stop.handle(number)
    assert failure_status(RunCancelled("stopped"), stop) == status


def test_a_signal_interrupts_at_once_where_nothing_looks_at_the_event() -> None:
    stop = StopRequest()
    with pytest.raises(KeyboardInterrupt):
        stop.handle(signal.SIGTERM)
    assert failure_status(KeyboardInterrupt(), stop) == 143


def test_whatever_a_library_makes_of_an_interrupt_is_a_cancelled_run() -> None:
    broken = typer.Typer(cls=Gate, add_completion=False)

    @broken.callback()
    def root() -> None: ...

    @broken.command()
    def fail(context: typer.Context) -> None:
        try:
            context.obj.stop.handle(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("half imported") from None

    result = CliRunner().invoke(broken, ["fail"])
    assert (result.exit_code, result.stderr) == (
        143,
        "zenhance: the run was cancelled; nothing was written\n",
    )


def test_handlers_of_before_are_back_after_a_call() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run("--version")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
