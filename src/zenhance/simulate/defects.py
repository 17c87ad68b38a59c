"""What else happens to light on its way to the file: bleaching, a stage that moves, a pinhole, a camera's hot pixels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import j0, j1

from zenhance.types import FloatArray

__all__ = ["bleaching", "displacements_um", "heat", "moved_planes", "pinhole_share"]

FIRST_DARK_RING = 3.8317
"""First zero of the Airy pattern, in its dimensionless radius 2π·NA·r/λ: a pinhole of one Airy unit has this radius."""


def bleaching(planes: int, share_per_plane: float) -> FloatArray:
    """Return what is left of the dye while each plane is taken, (planes,).

    Every scan excites the whole depth, so the plane that is taken last is the dimmest wherever its dye lies.
    """
    return np.asarray((1.0 - share_per_plane) ** np.arange(planes), np.float32)


def displacements_um(
    planes: int, jitter_um: float, drift_um_per_plane: tuple[float, float], rng: np.random.Generator
) -> tuple[tuple[float, float], ...]:
    """Return where the specimen lies (y, x) in each plane, relative to where it would: steady drift and a normal jitter, in µm."""
    path = np.arange(planes)[:, None] * np.asarray(drift_um_per_plane)[None]
    path = path + (rng.normal(0, jitter_um, size=(planes, 2)) if jitter_um > 0 else 0.0)
    return tuple((float(y), float(x)) for y, x in path)


def moved_planes(light: FloatArray, displacement_px: FloatArray) -> FloatArray:
    """Move each plane of blurred light (C, Z, Y, X) by (y, x) pixels, (Z, 2); cubic splines, never below the darkest pixel.

    Beyond the edge the picture goes on as its mirror image; give it with a margin.
    """
    moved = np.empty_like(light)
    for channel in range(light.shape[0]):
        for plane, shift_px in enumerate(displacement_px):
            moved[channel, plane] = ndimage.shift(
                light[channel, plane], shift_px, order=3, mode="mirror"
            )
    return np.asarray(np.maximum(moved, light.min()), np.float32)


def pinhole_share(diameter_au: float) -> float:
    """Return the share of a point's light that passes a pinhole: ``1 - J0(v)² - J1(v)²`` with ``v = 3.83`` at one Airy unit.

    Rayleigh's encircled energy of the Airy pattern (Born & Wolf, Principles of Optics, § 8.5.2): 0.838 at one Airy unit.
    """
    v = FIRST_DARK_RING * diameter_au
    return 1.0 - float(j0(v)) ** 2 - float(j1(v)) ** 2


def heat(grey: FloatArray, share: float, mean_grey: float, rng: np.random.Generator) -> FloatArray:
    """Add a camera's hot pixels to grey values (C, Z, Y, X): the same ones in every plane and channel, exponential brightness."""
    height, width = grey.shape[-2:]
    count = round(share * height * width)
    if count == 0:
        return grey
    place = rng.choice(height * width, size=count, replace=False)
    glow = np.zeros(height * width, np.float32)
    glow[place] = rng.exponential(mean_grey, size=count)
    return np.asarray(grey + glow.reshape(height, width), np.float32)
