"""The header of a checkpoint, read and checked without torch, before any tensor is made."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zenhance.errors import CheckpointError, ReadError
from zenhance.io.limits import open_regular
from zenhance.models.card import Card

__all__ = ["CARD_KEY", "MAX_FILE_BYTES", "read_card"]

CARD_KEY = "zenhance"
MAX_HEADER_BYTES = 4 * 2**20
MAX_TENSORS = 10_000
MAX_FILE_BYTES = 256 * 2**20
DTYPES = ("F16", "BF16", "F32")


def read_card(path: Path) -> Card:
    """Read the card of a checkpoint, after checking its whole header.

    Parameters
    ----------
    path : Path
        A safetensors file written by this package.

    Raises
    ------
    CheckpointError
        It is a pickle, not a safetensors file, damaged or too large, or has no card.
    """
    return _card_of(_read_header(path), path)


def _refuse_pickle(start: bytes, path: Path) -> None:
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        raise CheckpointError(
            f'"{path.name}" is a Python pickle and could run programs; '
            "only safetensors files are read"
        )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CheckpointError(
            "the model's header names a tensor twice; it was tampered with, fetch or train it again"
        )
    return found


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8) or size > MAX_FILE_BYTES:
                _refuse_pickle(start, path)
                raise CheckpointError(
                    f'"{path.name}" is not a safetensors file of this package ({size} bytes); '
                    "give one that `zenhance train` wrote"
                )
            text = file.read(length)
    except ReadError as error:
        raise CheckpointError(f'the model "{path}" cannot be opened: {error}') from error
    except OSError as error:
        raise CheckpointError(
            f'the model "{path}" cannot be opened: {error.strerror or error}; check the path'
        ) from error
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f'the header of the model "{path.name}" is damaged; fetch or train it again'
        ) from error
    _check_header(header, path)
    return header  # type: ignore[no-any-return]


def _check_header(header: Any, path: Path) -> None:
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise CheckpointError(
            f'the header of the model "{path.name}" lists too many tensors or none; '
            "fetch or train it again"
        )
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if dtype not in DTYPES:
            raise CheckpointError(
                f'the tensor {name[:60]} of the model "{path.name}" is {dtype}, '
                f"allowed are {', '.join(DTYPES)}"
            )


def _card_of(header: Mapping[str, Any], path: Path) -> Card:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or CARD_KEY not in metadata:
        raise CheckpointError(
            f'the model "{path.name}" has no card of this package; '
            "only models that `zenhance train` wrote can be used"
        )
    return Card.from_json(metadata[CARD_KEY])
