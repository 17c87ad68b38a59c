"""Provenance: what made an image, stored in every file and layer; it can be replayed.

A record holds the request as it was given, what it was applied to (a hash of the pixels), with what
(versions, device, seed, tiles) and what came out of it (seconds, warnings, curves such as a stop
rule's).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from zenhance.errors import StackError

__all__ = [
    "METADATA_KEY",
    "SAMPLES_AXIS",
    "ArrayHash",
    "Provenance",
    "hash_array",
    "libraries",
    "sample_count",
]

METADATA_KEY = "zenhance"
SAMPLES_AXIS = "T"
"""The axis of samples in a series; files and viewers have no axis of samples but one of time."""

_OUTPUT = "output"


class ArrayHash:
    """sha256 over dtype, shape and pixels, fed block by block; storage does not matter.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the whole array.
    shape : tuple of int
        Of the whole array.
    """

    def __init__(self, dtype: npt.DTypeLike, shape: Sequence[int]) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._digest = hashlib.sha256(f"{self._dtype.str}{tuple(int(n) for n in shape)}".encode())

    def add(self, block: npt.NDArray[Any]) -> None:
        """Feed the next pixels in C order."""
        self._digest.update(np.ascontiguousarray(block, dtype=self._dtype).tobytes())

    def hexdigest(self) -> str:
        """Return the digest of what was fed so far."""
        return self._digest.hexdigest()


def hash_array(array: npt.NDArray[Any]) -> str:
    """Return the sha256 over dtype, shape and pixels of one array."""
    digest = ArrayHash(array.dtype, array.shape)
    digest.add(array)
    return digest.hexdigest()


class Provenance(BaseModel):
    """A complete account of one run; frozen, JSON in and out.

    Fields that a later version wrote are passed over when a record is read; files keep them,
    because a record is copied as text.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = Field(description="version of zenhance")
    created: str = Field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"),
        description="when, in UTC",
    )
    request: dict[str, Any] = Field(
        description="the request, as `zenhance enhance --request` reads it back"
    )
    input_name: str = Field(default="", description="file or layer the pixels came from")
    input_sha256: str = Field(
        default="", description="sha256 over dtype, shape and pixels of the input"
    )
    input_axes: str = Field(default="", description="axes of the input")
    input_shape: tuple[int, ...] = Field(default=(), description="shape of the input")
    input_dtype: str = Field(default="", description="pixel type of the input")
    voxel_size_um: tuple[float | None, float | None, float | None] = Field(
        default=(None, None, None), description="z, y, x in µm"
    )
    voxel_size_origins: tuple[str, str, str] = Field(
        default=("unknown",) * 3, description="file, user or unknown, for z, y, x"
    )
    psf: str = Field(
        default="", description="the point spread function, each value with its origin"
    )
    noise: str = Field(default="", description="the noise model that was used or estimated")
    statistics: tuple[dict[str, float], ...] = Field(
        default=(), description="intensity statistics, one a volume"
    )
    weights_sha256: str = Field(
        default="", description="sha256 of the trained weights, empty where there are none"
    )
    device: str = Field(default="", description="cpu, cuda or mps, with its name")
    device_reason: str = Field(default="", description="why this device")
    seed: int = Field(default=0, description="seed of every random draw")
    seconds: float = Field(default=0.0, description="run time")
    tiles: dict[str, Any] = Field(
        default_factory=dict, description="how many tiles, their core and halo in pixels"
    )
    curves: dict[str, list[float]] = Field(
        default_factory=dict, description="figures per iteration, such as the stop rule's"
    )
    notes: dict[str, Any] = Field(default_factory=dict, description="other notes of the method")
    freedom: tuple[float, ...] = Field(
        default=(),
        description="share of the measurement's degrees of freedom used, one a volume",
    )
    deblurs: tuple[bool, ...] = Field(
        default=(), description="whether the weights remove blur, one a volume; empty: see request"
    )
    clipped_voxels: int = Field(
        default=0, description="voxels clipped by the cast to the output type"
    )
    warnings: tuple[str, ...] = Field(default=(), description="what the user was warned of")
    libraries: dict[str, str] = Field(
        default_factory=dict, description="versions of numpy, torch and the like"
    )

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, values: Any) -> Any:
        """Move what version 0.1 kept among the notes to its own fields."""
        if not isinstance(values, Mapping) or not isinstance(values.get("notes"), Mapping):
            return values
        notes, moved = dict(values["notes"]), dict(values)
        for name in ("freedom", "deblurs"):
            keys = [key for key in notes if key.partition("[")[0] == name]
            if keys and not values.get(name):
                moved[name] = [notes.pop(key) for key in sorted(keys, key=lambda k: (len(k), k))]
        return {**moved, "notes": notes}

    def of_output(self, name: str, samples: int = 0) -> Provenance:
        """Return the record of a further output of the run, with the axis of its samples."""
        said: dict[str, Any] = {"name": name}
        if samples:
            said |= {"samples": samples, "samples_axis": SAMPLES_AXIS}
        return self.model_copy(update={"notes": {**self.notes, _OUTPUT: said}})

    def to_json(self, indent: int | None = None) -> str:
        """Return the record as JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read a record written by :meth:`to_json`.

        Raises
        ------
        StackError
            The text is not such a record.
        """
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            first = str(error).splitlines()[0]
            raise StackError(
                f"the provenance record cannot be read ({first}); the image itself is not affected"
            ) from error

    @classmethod
    def find(cls, metadata: Mapping[str, Any]) -> Provenance | None:
        """Return the record kept in a stack's or layer's metadata, or None."""
        record = metadata.get(METADATA_KEY)
        if isinstance(record, Provenance):
            return record
        if isinstance(record, str):
            return cls.from_json(record)
        if isinstance(record, Mapping):
            return cls.from_json(json.dumps(record))
        return None


def sample_count(record: Any) -> int:
    """Return the number of samples along :data:`SAMPLES_AXIS` that a record states, or 0."""
    for key in ("notes", _OUTPUT):
        record = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(record, Mapping) or record.get("samples_axis") != SAMPLES_AXIS:
        return 0
    count = record.get("samples")
    return count if isinstance(count, int) and count > 0 else 0


def libraries() -> dict[str, str]:
    """Return the versions of the libraries on which the voxels of a result depend."""
    found = {}
    for name in ("numpy", "scipy", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
