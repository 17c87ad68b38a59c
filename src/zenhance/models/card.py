"""The card of a model: its purpose, its training data and its validation figures."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zenhance.errors import CheckpointError

__all__ = ["ESTIMATED", "Card"]

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
