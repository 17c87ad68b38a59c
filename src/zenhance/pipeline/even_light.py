"""Even out the light over depth: the result divided by the light that reaches each depth.

Deep layers become as visible as the surface, and so does their noise. Intensities are no longer
proportional to photons, so an even result serves for looking and segmenting, not for measuring.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from zenhance.contract.spec import STD, MethodContext, MethodParameters, Prepared
from zenhance.errors import RecipeError
from zenhance.types import FloatArray, Region, Triple

if TYPE_CHECKING:
    from zenhance.physics.profile_volume import ProfiledVolume

__all__ = ["MAX_FACTOR", "check_even", "even_factor", "even_light", "uneven"]

MAX_FACTOR = 20.0
"""Light, and with it noise, is amplified by at most this factor."""


def check_even(parameters: MethodParameters, method: str) -> None:
    """Refuse settings whose result has a finer grid than the depths.

    Raises
    ------
    RecipeError
        The output scale is not 1.
    """
    if max(parameters.output_scale) > 1:
        raise RecipeError(
            f"even_light keeps the grid of the measurement, but {method} is set to "
            f"{' × '.join(map(str, parameters.output_scale))} voxels per voxel; "
            "set the scale to 1, or switch even_light off"
        )


def even_factor(volume: ProfiledVolume, region: Region) -> FloatArray:
    """Return the factor on the light of each voxel of a region, 1 to :data:`MAX_FACTOR`."""
    return np.clip(1.0 / np.maximum(volume.light(region), 1e-6), 1.0, MAX_FACTOR)


def uneven(image: FloatArray, volume: ProfiledVolume) -> FloatArray:
    """Return an even image (Z, Y, X) with the light of the measurement again."""
    ground = volume.profile.background.value
    return np.asarray((image - ground) / even_factor(volume, volume.whole) + ground, np.float32)


@dataclass(kw_only=True)
class _Even(Prepared):
    """A prepared method whose images are divided by the light, tile by tile."""

    inner: Prepared
    volume: ProfiledVolume
    images: frozenset[str]

    def __call__(
        self, tile: FloatArray, origin_px: Triple
    ) -> Generator[float, None, dict[str, FloatArray]]:
        """Enhance a tile (Z, Y, X) and even out its images."""
        found = yield from self.inner(tile, origin_px)
        # Some of what a method reports is known only after its tiles.
        self.curves = self.inner.curves
        self.notes = {**self.notes, **self.inner.notes}
        self.warnings = [*self.inner.warnings, _warning(self.volume)]
        z, y, x = (slice(o, o + n) for o, n in zip(origin_px, tile.shape, strict=True))
        factor = even_factor(self.volume, (z, y, x))
        ground = np.float32(self.volume.profile.background.value)
        out: dict[str, FloatArray] = {}
        for name, image in found.items():
            if name == STD:
                out[name] = image * factor
            elif name in self.images:
                out[name] = (image - ground) * factor + ground
            else:
                out[name] = image
        return out


def even_light(prepared: Prepared, context: MethodContext, volume: ProfiledVolume) -> Prepared:
    """Return a prepared method whose result is as bright at every depth as at the surface.

    Parameters
    ----------
    prepared : Prepared
        The method, ready for one volume.
    context : MethodContext
        The volume.
    volume : ProfiledVolume
        Its light by depth.

    Notes
    -----
    ``y' = b + (y - b) min(1 / light, MAX_FACTOR)`` with b the background of the profile. The factor
    depends on depth alone, so it changes no structure within a depth.
    """
    parameters: MethodParameters = context.parameters
    images = frozenset(spec.name for spec in parameters.outputs if spec.kind == "image")
    report: dict[str, Any] = {f.name: getattr(prepared, f.name) for f in fields(Prepared)}
    highest = float(even_factor(volume, volume.whole).max())
    report["notes"] = {
        **prepared.notes,
        "even_light": "intensities are no longer proportional to photons",
        "even_light_highest_factor": round(highest, 3),
    }
    report["warnings"] = [*prepared.warnings, _warning(volume)]
    return _Even(inner=prepared, volume=volume, images=images, **report)


def _warning(volume: ProfiledVolume) -> str:
    factor = even_factor(volume, volume.whole)
    limited = float(np.mean(factor >= MAX_FACTOR))
    said = (
        "the light was evened out over depth, so intensities are no longer proportional to "
        "photons; "
        f"noise is amplified up to {float(factor.max()):.3g} times"
    )
    if limited > 0.0:
        said += f", the most allowed, in {100 * limited:.2g} % of the voxels"
    return said
