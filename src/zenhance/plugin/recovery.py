"""Results of closed viewers: a few are kept as files, and the dock names them when it opens next.

They are in ``~/.zenhance/recovered``, or in the folder that ``ZENHANCE_RECOVERY`` names.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zenhance.errors import ZenhanceError, sentence

__all__ = ["MAX_KEPT", "keep", "keep_later", "recovery_folder", "recovery_notice"]

LOG = logging.getLogger(__name__)
LayerData = tuple[Any, dict[str, Any], str]

# Results are large; the oldest one is deleted when another arrives.
MAX_KEPT = 4
_NAMES = "*.recovered.ome.tif"
_TOLD = "told.txt"
# One at a time, so that two results do not delete each other.
_WRITING = threading.Lock()


def recovery_folder() -> Path:
    """Return the folder, whether it exists or not."""
    given = os.environ.get("ZENHANCE_RECOVERY")
    return Path(given).expanduser() if given else Path.home() / ".zenhance" / "recovered"


def _kept(folder: Path) -> list[Path]:
    """Return the kept files, the oldest first; their names begin with the time."""
    return sorted(
        path for path in folder.glob(_NAMES) if path.is_file() and not path.name.startswith(".")
    )


def keep(entries: Sequence[LayerData]) -> list[Path]:
    """Write the layers of a result into the folder; safe in any thread.

    Parameters
    ----------
    entries : sequence of tuple
        (data, keywords, ``"image"``), as they would have been added to the viewer.

    Returns
    -------
    list of Path
        What was written; what could not be written is in the log.
    """
    from zenhance.io import write_stack
    from zenhance.plugin.writers import stack_of_layers

    folder = recovery_folder()
    written: list[Path] = []
    with _WRITING:
        for number, entry in enumerate(entries):
            name = (
                re.sub(r"[^\w-]+", "-", str(entry[1].get("name", "result"))).strip("-")[:60]
                or "result"
            )
            stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}"
            path = folder / f"{stamp}-{number}-{name}.recovered.ome.tif"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                written.append(write_stack(path, stack_of_layers([entry], LOG.warning)))
                LOG.warning('a result whose viewer was closed was kept as "%s"', path)
            except (ZenhanceError, OSError, ValueError) as error:
                LOG.error(
                    'the result "%s", whose viewer was closed, could not be kept: %s',
                    name,
                    sentence(error),
                )
        if written:
            _make_room(folder, written)
    return written


def _make_room(folder: Path, written: Sequence[Path]) -> None:
    older = [path for path in _kept(folder) if path not in written]
    for path in older[: max(0, len(older) + len(written) - MAX_KEPT)]:
        try:
            path.unlink()
        except OSError as error:
            LOG.warning('the recovered result "%s" could not be removed: %s', path, error)


def keep_later(entries: Sequence[LayerData]) -> threading.Thread:
    """Write in a separate thread; the program waits for it before it ends."""
    thread = threading.Thread(target=keep, args=(list(entries),), name="zenhance-recovery")
    thread.start()
    return thread


def recovery_notice() -> str:
    """Return a sentence that names kept results once, or an empty text."""
    folder = recovery_folder()
    try:
        told = (folder / _TOLD).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        told = []
    kept = [path.name for path in _kept(folder)]
    new = [name for name in kept if name not in told]
    if not new:
        return ""
    try:
        (folder / _TOLD).write_text("\n".join(kept), encoding="utf-8")
    except OSError as error:
        LOG.warning("the list of recovered results could not be updated: %s", error)
    count = "a result was" if len(new) == 1 else f"{len(new)} results were"
    return (
        f"{count} finished after the viewer was closed and kept: open "
        f'{", ".join(new)} in "{folder}", or delete what you do not need'
    )
