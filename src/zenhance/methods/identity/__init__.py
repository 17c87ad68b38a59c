"""The method that changes nothing: for tests of everything around a method, and as the benchmark's first row."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from zenhance.contract.spec import (
    MethodContext,
    MethodParameters,
    MethodSpec,
    Prepared,
    PsfLike,
    TileGenerator,
)
from zenhance.types import FloatArray

__all__ = ["METHOD", "Identity", "IdentityParameters"]


class IdentityParameters(MethodParameters):
    """There is nothing to set."""


@dataclass(frozen=True, slots=True)
class _PassThrough:
    """Gives each tile back as it came, bit for bit."""

    halo_px: tuple[int, int, int] = (0, 0, 0)

    @property
    def curves(self) -> Mapping[str, list[float]]:
        return {}

    @property
    def notes(self) -> Mapping[str, Any]:
        return {}

    def __call__(self, tile: FloatArray, origin_px: tuple[int, int, int]) -> TileGenerator:
        yield 1.0
        return {"enhanced": tile.copy()}


class Identity:
    """The identity as the registry hands it out."""

    spec = MethodSpec(
        name="identity",
        title="Identity (no change)",
        summary="Gives the stack back as it came, to check that reading, tiling and writing change nothing.",
        parameters=IdentityParameters,
        consumes="volume",
        bytes_per_voxel=8,
        deblurs=False,
    )

    def plan_halo_px(
        self,
        parameters: Any,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: tuple[int, int, int],
    ) -> tuple[int, int, int]:
        """No voxel needs another."""
        return (0, 0, 0)

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """There is nothing to prepare."""
        yield 1.0
        return _PassThrough()


METHOD = Identity()
"""The method, for the registry."""
