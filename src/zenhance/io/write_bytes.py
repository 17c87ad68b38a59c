"""Files of a training run, each written whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from zenhance.errors import FailureKind, WriteError
from zenhance.io.commit import commit

__all__ = ["write_bytes"]


def write_bytes(path: Path, blob: bytes, *, overwrite: bool = False) -> Path:
    """Write bytes through the package's gate out, and read them back.

    Raises
    ------
    OutputExistsError, WriteError
        As for any result.
    """
    digest = hashlib.sha256(blob).hexdigest()

    def verify(partial: Path) -> None:
        if hashlib.sha256(partial.read_bytes()).hexdigest() != digest:
            raise WriteError(
                f'"{path.name}" did not read back as written; the disk may be failing',
                FailureKind.DISK_FULL,
            )

    return commit(
        path,
        lambda partial: _fill(partial, blob),
        verify=verify,
        needed_bytes=len(blob),
        overwrite=overwrite,
    )


def _fill(partial: Path, blob: bytes) -> None:
    partial.write_bytes(blob)
