"""The identity: changes nothing, for tests and benchmarks of everything around a method."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from zenhance.contract.spec import (
    MethodContext,
    MethodParameters,
    MethodSpec,
    PlanContext,
    Prepared,
    TileGenerator,
)
from zenhance.types import FloatArray, Triple

__all__ = ["METHOD", "Identity", "IdentityParameters"]


class IdentityParameters(MethodParameters):
    """The identity has no settings."""

    voxel_work: ClassVar[float] = 0.5

    @property
    def deblurs(self) -> bool:
        """The blur remains."""
        return False


@dataclass
class _PassThrough(Prepared):
    """Returns each tile bit for bit."""

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        copy = np.empty_like(tile)
        for z, plane in enumerate(tile):
            copy[z] = plane
            yield (z + 1) / len(tile)
        return {"enhanced": copy}


class Identity:
    """The identity as a method."""

    spec = MethodSpec(
        name="identity",
        title="Identity (no change)",
        summary="Returns the stack unchanged, to check reading, tiling and writing.",
        parameters=IdentityParameters,
        bytes_per_voxel=8,
    )

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return no halo."""
        return (0, 0, 0)

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Prepare nothing."""
        yield 1.0
        return _PassThrough()


METHOD = Identity()
