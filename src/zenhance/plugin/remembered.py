"""What a dock remembers when it is closed: everything within a session, lasting choices beyond it.

Within a session, a dock that is opened again in the same viewer shows what it showed before.
Across sessions, only choices that do not belong to one image return (method and its settings,
device, ...). They are kept in ``~/.zenhance/docks.json``, or in the file that ``ZENHANCE_DOCKS``
names. A file of another version of zenhance is ignored, so that stale values never come back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zenhance._version import __version__

__all__ = ["forget_session", "lasting", "recall", "remember", "settings_path", "write_lasting"]

LOG = logging.getLogger(__name__)
FORMAT = 1
MAX_BYTES = 2**18
# By the viewer's identity and the dock's name. Viewers are not hashable.
_SESSION: dict[tuple[int, str], Mapping[str, Any]] = {}


def settings_path() -> Path:
    """Return where the lasting choices are kept."""
    given = os.environ.get("ZENHANCE_DOCKS")
    return Path(given).expanduser() if given else Path.home() / ".zenhance" / "docks.json"


def remember(viewer: Any, dock: str, state: Mapping[str, Any]) -> None:
    """Keep the state of a dock until its viewer is gone; the state must not refer to the viewer."""
    key = (id(viewer), dock)
    if key not in _SESSION:
        weakref.finalize(viewer, _SESSION.pop, key, None)
    _SESSION[key] = state


def recall(viewer: Any, dock: str) -> Mapping[str, Any]:
    """Return what the dock of this viewer showed last; empty for its first one."""
    return _SESSION.get((id(viewer), dock), {})


def forget_session() -> None:
    """Forget the docks of all viewers."""
    _SESSION.clear()


def _read() -> dict[str, Any]:
    path = settings_path()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return {}
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        LOG.warning('the remembered settings in "%s" cannot be read: %s', path, error)
        return {}
    current = isinstance(record, dict) and (record.get("format"), record.get("zenhance")) == (
        FORMAT,
        __version__,
    )
    return record if current else {}


def lasting(dock: str) -> Mapping[str, Any]:
    """Return the choices that an earlier session left for a dock."""
    found = _read().get(dock)
    return found if isinstance(found, dict) else {}


def write_lasting(dock: str, choices: Mapping[str, Any]) -> None:
    """Keep choices for later sessions; a failure is logged, because nothing depends on it."""
    record = _read()
    if record.get(dock) == choices:
        return
    path = settings_path()
    if path.exists() and not path.is_file():
        LOG.warning('the settings are not remembered, because "%s" is not a file', path)
        return
    record |= {"format": FORMAT, "zenhance": __version__, dock: dict(choices)}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        partial.replace(path)
    except (OSError, TypeError, ValueError) as error:
        LOG.warning('the settings cannot be remembered in "%s": %s', path, error)
        with contextlib.suppress(OSError):
            partial.unlink()
