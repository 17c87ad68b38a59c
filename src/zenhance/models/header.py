"""The header of a checkpoint and the card in it, checked without torch before a tensor is made.

The card states the purpose of a model, its training data and its validation figures.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zenhance.errors import CheckpointError, ReadError
from zenhance.io.limits import open_regular

__all__ = ["CARD_KEY", "ESTIMATED", "MAX_FILE_BYTES", "Card", "read_card"]

ESTIMATED = "estimated"
"""Kind of truth in a card's ``data``: estimated from the measurement itself."""


class Card(BaseModel):
    """Description of a checkpoint; frozen, kept in the safetensors header.

    Raises
    ------
    CheckpointError
        (from :meth:`from_json`) The text is not a card.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(description="name of the method these weights belong to")
    name: str = Field(description="name of the model, as --weights takes it")
    description: str = Field(default="", description="its purpose, in one sentence")
    version: str = Field(description="version of zenhance that trained it")
    created: str = Field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"),
        description="when, in UTC",
    )
    commit: str = Field(default="", description="commit of the source that trained it")
    command: str = Field(default="", description="command that trains it again")
    recipe: dict[str, Any] = Field(default_factory=dict, description="the whole recipe")
    architecture: dict[str, Any] = Field(
        default_factory=dict, description="what decides the network's shape"
    )
    parameters: int = Field(default=0, description="number of weights")
    data: tuple[dict[str, Any], ...] = Field(
        default=(), description="training data: name, sha256, licence"
    )
    seed: int = Field(default=0, description="seed of initialisation and patches")
    steps: int = Field(default=0, description="optimiser steps until these weights")
    seconds: float = Field(default=0.0, description="training time")
    device: str = Field(default="", description="device it was trained on")
    voxel_size_um: tuple[float, float, float] | None = Field(
        default=None, description="voxel size z, y, x it was trained at, in µm"
    )
    psf: str = Field(default="", description="point spread function of the training data")
    intensity: dict[str, float] = Field(
        default_factory=dict, description="intensity statistics of the training data"
    )
    metrics: dict[str, float] = Field(
        default_factory=dict, description="figures on validation data"
    )
    licence: str = Field(default="BSD-3-Clause", description="licence of the weights")

    @property
    def is_self_judged(self) -> bool:
        """Whether the figures refer to an estimated truth, because no truth was measured."""
        return any(entry.get("truth") == ESTIMATED for entry in self.data)

    def to_json(self) -> str:
        """Return the card as JSON text."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card written by :meth:`to_json`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the card"
            raise CheckpointError(
                f"the model's card cannot be read: {where} {first['msg'].lower()}; "
                "train or fetch the model again"
            ) from error


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
