"""Read small text files and YAML from outside within bounds of size, depth and content."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

from zenhance.errors import ReadError, RecipeError

__all__ = ["MAX_TEXT_BYTES", "load_yaml", "read_text"]

# A request has a few hundred bytes, the record of a run with its curves some ten thousand.
MAX_TEXT_BYTES = 2**20
MAX_YAML_DEPTH = 32
MAX_DIGITS = 20
# Decimal, hexadecimal, binary, and the base 60 of YAML 1.1 (1:30:00).
_WHOLE = re.compile(r"[0-9]+|0x[0-9a-fA-F]+|0b[01]+|[0-9]+(:[0-9]+)+")
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(path: str | Path, wanted: str = "a YAML file") -> str:
    """Return the text of a small regular file.

    Parameters
    ----------
    path : str or Path
        The file. Folders, devices, pipes and links to them are refused without being read.
    wanted : str
        What to name instead, for the error.

    Raises
    ------
    ReadError
        The file is missing, not a regular file, larger than 1 MiB, or not UTF-8 text.
    """
    path = Path(path)
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ReadError(path, f"it is not a regular file; give {wanted}")
            content = file.read(MAX_TEXT_BYTES + 1)
    except FileNotFoundError as error:
        raise ReadError(path, f"there is no such file; check the path, or give {wanted}") from error
    except IsADirectoryError as error:
        raise ReadError(path, f"it is a folder; give {wanted}") from error
    except ReadError:
        raise
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "it cannot be opened").lower()
        raise ReadError(path, f"{reason}; check the path, or give {wanted}") from error
    if len(content) > MAX_TEXT_BYTES:
        size = max(len(content), status.st_size)
        raise ReadError(
            path, f"it has {size} bytes, at most {MAX_TEXT_BYTES} are read; give {wanted}"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ReadError(path, f"it is not text; give {wanted}") from error


def load_yaml(text: str, what: str) -> Any:
    """Return what a YAML text says: mappings, lists, strings, numbers, booleans and nulls.

    Parameters
    ----------
    text : str
        At most 1 MiB.
    what : str
        Names the text in errors, such as ``the recipe``.

    Raises
    ------
    RecipeError
        The text is not YAML, is too large or too deep, has an alias, or a whole number of more
        than 20 digits.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise RecipeError(
            f"cannot read {what}: {len(text)} characters, at most {MAX_TEXT_BYTES}; shorten it"
        )
    try:
        _check_events(text, what)
        value = yaml.load(text, _LOADER)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"cannot read {what}: not valid YAML ({' '.join(str(error).split())[:120]}); "
            "write key: value lines"
        ) from error
    except (ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"cannot read {what}: one of its values ({' '.join(str(error).split())[:80]}); "
            "put text into quotes"
        ) from error
    return value


def _check_events(text: str, what: str) -> None:
    """Refuse aliases, deep nesting and endless numbers before any object is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            raise RecipeError(
                f'cannot read {what}: it uses the YAML alias "{str(anchor)[:40]}"; '
                "write the value in full"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_YAML_DEPTH:
                raise RecipeError(
                    f"cannot read {what}: it is nested more than {MAX_YAML_DEPTH} levels deep; "
                    "write it flatter"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        # The style of a plain scalar is None, or empty where libyaml parses.
        elif isinstance(event, yaml.ScalarEvent) and not event.style:
            digits = event.value.lstrip("+-").replace("_", "")
            if len(digits) > MAX_DIGITS and _WHOLE.fullmatch(digits):
                raise RecipeError(
                    f"cannot read {what}: a number has {len(digits)} digits, at most {MAX_DIGITS}; "
                    "put text into quotes"
                )
