"""The gate of the command line: every failure leaves as one sentence on stderr and an exit code.

With ``--json`` stdout also gets one line of JSON. Only ``--debug`` shows a traceback.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from zenhance.cli.output import print_json
from zenhance.cli.process import StopRequest, Streams, guarded_streams, stop_on_signals
from zenhance.errors import FailureKind, RunCancelled, ZenhanceError, classify, exit_code, sentence
from zenhance.wording import hint_for, quoted

__all__ = ["Gate", "Session", "failure_record", "failure_sentence", "failure_status"]

MAX_SENTENCE = 240
LOST_TEXT = 6
"""Exit code of a command that only prints, and whose text was lost."""
WRITING = ("enhance", "train", "sample", "simulate", "demo")
"""Commands whose product is a file; the others only print."""

# typer has its own copy of click since 0.20 and used the click package before; this finds the
# class in either.
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError"
)


@dataclass(frozen=True, slots=True)
class Session:
    """What all commands of one call share: the wish to stop, and how errors are shown."""

    stop: StopRequest
    debug: bool = False
    json_wanted: bool = False


def failure_sentence(error: BaseException) -> str:
    """Return the sentence for an error; text of foreign libraries is cut to 240 characters."""
    text = sentence(error)
    if not isinstance(error, ZenhanceError) and len(text) > MAX_SENTENCE:
        is_bug = classify(error) is FailureKind.BUG
        tail = "; run again with --debug and report the traceback" if is_bug else ""
        text = text.removesuffix(tail)[: MAX_SENTENCE - len(tail) - 1] + "…" + tail
    return text


def failure_status(error: BaseException, stop: StopRequest) -> int:
    """Return the exit code for an error; that of a cancelled run depends on the signal."""
    if isinstance(error, RunCancelled | KeyboardInterrupt):
        return stop.exit_code
    return exit_code(error)


def failure_record(error: BaseException, stop: StopRequest) -> dict[str, Any]:
    """Return what ``--json`` prints for an error."""
    return {
        "error": failure_sentence(error),
        "kind": str(classify(error)),
        "exit_code": failure_status(error, stop),
    }


def _unknown_option(error: Any, parameters: Sequence[Any], help_hint: str) -> str:
    words = [word for p in parameters if p.param_type_name == "option" for word in p.opts]
    instead = f"{help_hint}; for a file whose name begins with - write ./-name"
    hint = hint_for(error.option_name, [w for w in words if w.startswith("--")], instead)
    return f"there is no option {quoted(error.option_name)}; {hint}"


def _usage_sentence(error: Any) -> str:
    """Return a parser error as one sentence with the nearest word or the place of the help."""
    context = error.ctx
    where = context.command_path if context is not None else "zenhance"
    parameters = context.command.params if context is not None else []
    help_hint = f'"{where} --help" explains'
    kind = type(error).__name__
    if kind == "NoSuchOption":
        return _unknown_option(error, parameters, help_hint)
    text = " ".join(error.format_message().split())
    unknown = re.match(r"No such command ['\"](.*?)['\"]", text)
    if unknown is not None and context is not None:
        name = unknown.group(1)
        hint = hint_for(name, context.command.list_commands(context))
        return f"there is no command {quoted(name)}; {hint}"
    if kind == "MissingParameter":
        needed = " ".join(
            p.metavar or p.name.upper()
            for p in parameters
            if p.param_type_name == "argument" and p.required
        )
        return f"{where} needs {needed}; {help_hint}"
    return f"{text[:1].lower()}{text[1:].rstrip('.')[:MAX_SENTENCE]}; {help_hint}"


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False


def _prepared(words: Sequence[str]) -> list[str]:
    """Let ``--debug`` stand anywhere, and let the name of an existing file begin with a dash.

    ``zenhance info *.tif`` may produce such a name.
    """
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    options, rest = words[:end], words[end:]
    # No option has a dot before its value, so an existing "-1.tif" can only be a file.
    options = [
        f".{os.sep}{w}" if w.startswith("-") and "." in w and _exists(w) else w for w in options
    ]
    debug = ["--debug"] if "--debug" in options else []
    return debug + [word for word in options if word != "--debug"] + rest


def _before_the_dashes(words: Sequence[str], option: str) -> bool:
    return option in (words[: words.index("--")] if "--" in words else words)


class Gate(TyperGroup):
    """The root command; its ``main`` catches everything and always ends in an exit code."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        """Run the words of ``args``; see :func:`zenhance.cli.main`."""
        words = _prepared(sys.argv[1:] if args is None else args)
        dropped = ("standalone_mode", "windows_expand_args", "obj")
        extra = {key: value for key, value in extra.items() if key not in dropped}
        with guarded_streams() as streams, stop_on_signals() as stop:
            session = Session(
                stop, _before_the_dashes(words, "--debug"), _before_the_dashes(words, "--json")
            )
            try:
                status = super().main(
                    words,
                    prog_name or "zenhance",
                    complete_var,
                    standalone_mode=False,
                    obj=session,
                    **extra,
                )
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the gate
                status = _leave(error, session)
            else:
                # The parser itself turns an interrupt into status 130.
                status = stop.exit_code if stop.event.is_set() and status == 130 else status
            status = status if isinstance(status, int) else 0
            status = _report_lost_text(streams, words, status)
        sys.exit(status)


def _leave(error: BaseException, session: Session) -> int:
    """Print what went wrong and return the exit code."""
    cause = error
    stopped = session.stop.event.is_set() and not isinstance(error, RunCancelled)
    if isinstance(error, typer.Abort) or stopped:
        # An interrupt inside a library can come out as any error of that library.
        error = KeyboardInterrupt()
    if isinstance(error, _UsageError):
        record: dict[str, Any] = {
            "error": _usage_sentence(error),
            "kind": str(FailureKind.BAD_PARAMETER),
            "exit_code": 2,
        }
    else:
        record = failure_record(error, session.stop)
    if session.debug:
        traceback.print_exception(cause, file=sys.stderr)
    if session.json_wanted:
        print_json(record)
    print(f"zenhance: {record['error']}", file=sys.stderr, flush=True)
    return int(record["exit_code"])


def _report_lost_text(streams: Streams, words: Sequence[str], status: int) -> int:
    """Report text that stdout did not take; it is a failure only where text was all there is."""
    sys.stdout.flush()
    if streams.lost is None:
        return status
    name = next((word for word in words if not word.startswith("-")), "")
    rest = "its files are written" if name in WRITING and status == 0 else "free some space"
    print(
        f"zenhance: warning: standard output cannot be written ({streams.lost}); {rest}",
        file=sys.stderr,
        flush=True,
    )
    return LOST_TEXT if status == 0 and name not in WRITING else status
