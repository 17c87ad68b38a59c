"""The one gate out of the command line: whatever goes wrong leaves as one sentence on stderr and an exit code.

With ``--json`` the same is one JSON line on stdout. A traceback is shown with ``--debug`` only.
"""

from __future__ import annotations

import difflib
import json
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

from zenhance.cli.stopping import StopRequest, stop_on_signals
from zenhance.errors import FailureKind, RunCancelled, ZenhanceError, classify, exit_code, sentence

__all__ = ["Gate", "Session", "failure_record", "failure_sentence", "failure_status", "print_json"]

MAX_SENTENCE = 240

# typer carries its own copy of click since 0.20 and used the click package before; this finds the class in either.
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError"
)


@dataclass(frozen=True, slots=True)
class Session:
    """What every command of one call shares: the words it was called with and the user's wish to stop."""

    stop: StopRequest
    debug: bool = False
    json_wanted: bool = False


def print_json(record: Any) -> None:
    """Print one line of JSON on stdout; non-ASCII text is escaped, so that no terminal's encoding can refuse it."""
    print(json.dumps(record, ensure_ascii=True, default=str), flush=True)


def failure_sentence(error: BaseException) -> str:
    """Return the sentence for an error; what foreign libraries say is cut to 240 characters."""
    text = sentence(error)
    if not isinstance(error, ZenhanceError) and len(text) > MAX_SENTENCE:
        tail = (
            "; run again with --debug and report the traceback"
            if classify(error) is FailureKind.BUG
            else ""
        )
        text = text.removesuffix(tail)[: MAX_SENTENCE - len(tail) - 1] + "…" + tail
    return text


def failure_status(error: BaseException, stop: StopRequest) -> int:
    """Return the exit code for an error; a run that was stopped tells by which signal."""
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


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"


def _usage_sentence(error: Any) -> str:
    """Put a parser's complaint into one sentence that names the nearest option or command and where help is."""
    context = error.ctx
    where = context.command_path if context is not None else "zenhance"
    parameters = context.command.params if context is not None else []
    help_hint = f'"{where} --help" explains'
    kind = type(error).__name__
    if kind == "NoSuchOption":
        word = error.option_name
        options = [
            o
            for p in parameters
            if p.param_type_name == "option"
            for o in p.opts
            if o.startswith("--")
        ]
        near = difflib.get_close_matches(word, options, n=1)
        hint = (
            f'did you mean "{near[0]}"?'
            if near
            else f"{help_hint}; for a file whose name begins with - write ./-name"
        )
        return f'there is no option "{word}"; {hint}'
    text = " ".join(error.format_message().split())
    unknown = re.match(r"No such command ['\"](.*?)['\"]", text)
    if unknown is not None and context is not None:
        return f'there is no command "{unknown.group(1)}"; {_nearest(unknown.group(1), context.command.list_commands(context))}'
    if kind == "MissingParameter":
        needed = " ".join(
            p.metavar or p.name.upper()
            for p in parameters
            if p.param_type_name == "argument" and p.required
        )
        return f"{where} needs {needed}; {help_hint}"
    return f"{text[:1].lower()}{text[1:].rstrip('.')}; {help_hint}"


def _prepared(words: Sequence[str]) -> list[str]:
    """Let ``--debug`` stand anywhere, and let a file that exists begin with a dash (as ``zenhance info *.tif`` may give)."""
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    options, rest = words[:end], words[end:]
    # no option has a dot before its value, so an existing "-1.tif" can only be a file
    options = [
        f".{os.sep}{w}" if w.startswith("-") and "." in w and Path(w).exists() else w
        for w in options
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
        # file names may hold bytes or letters that the terminal's encoding lacks
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        extra = {
            key: value
            for key, value in extra.items()
            if key not in ("standalone_mode", "windows_expand_args", "obj")
        }
        with stop_on_signals() as stop:
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
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the documented gate: every failure becomes a sentence
                status = _leave(error, session)
            else:
                # the parser turns an interrupt into status 130 by itself
                status = stop.exit_code if stop.event.is_set() and status == 130 else status
        sys.exit(status if isinstance(status, int) else 0)


def _leave(error: BaseException, session: Session) -> int:
    """Say what went wrong and return the exit code."""
    cause = error
    if isinstance(error, typer.Abort) or (
        session.stop.event.is_set() and not isinstance(error, RunCancelled)
    ):
        # an interrupt in the midst of a library can come out as any error of that library
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
