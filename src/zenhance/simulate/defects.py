"""Defects of an acquisition: bleaching, stage drift and jitter, a pinhole, hot pixels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import j0, j1

from zenhance.types import FloatArray

__all__ = ["bleaching", "displacements_um", "heat", "moved_planes", "pinhole_share"]

FIRST_DARK_RING = 3.8317
"""First zero of the Airy pattern in 2π·NA·r/λ: the radius of a pinhole of one Airy unit."""


def bleaching(planes: int, share_per_plane: float) -> FloatArray:
    """Return the remaining share of the dye for each plane, (planes,).

    Every scan excites the whole depth, so the plane that is taken last is the dimmest wherever its
    dye is.
    """
    return np.asarray((1.0 - share_per_plane) ** np.arange(planes), np.float32)


def displacements_um(
    planes: int, jitter_um: float, drift_um_per_plane: tuple[float, float], rng: np.random.Generator
) -> tuple[tuple[float, float], ...]:
    """Return the specimen's displacement (y, x) in each plane in µm: drift and jitter."""
    path = np.arange(planes)[:, None] * np.asarray(drift_um_per_plane)[None]
    path = path + (rng.normal(0, jitter_um, size=(planes, 2)) if jitter_um > 0 else 0.0)
    return tuple((float(y), float(x)) for y, x in path)


def moved_planes(light: FloatArray, displacement_px: FloatArray) -> FloatArray:
    """Shift each plane of light (C, Z, Y, X) by (y, x) pixels, (Z, 2), with cubic splines.

    Beyond the edge the image is mirrored, so give it a margin. Values never fall below the darkest
    pixel.
    """
    moved = np.empty_like(light)
    for channel in range(light.shape[0]):
        for plane, shift_px in enumerate(displacement_px):
            moved[channel, plane] = ndimage.shift(
                light[channel, plane], shift_px, order=3, mode="mirror"
            )
    return np.asarray(np.maximum(moved, light.min()), np.float32)


def pinhole_share(diameter_au: float) -> float:
    """Return the share of a point's light that passes a pinhole: ``1 - J0(v)² - J1(v)²``.

    Rayleigh's encircled energy of the Airy pattern (Born & Wolf, Principles of Optics, § 8.5.2),
    with ``v = 3.83`` at one Airy unit: 0.838.
    """
    v = FIRST_DARK_RING * diameter_au
    return 1.0 - float(j0(v)) ** 2 - float(j1(v)) ** 2


def heat(grey: FloatArray, share: float, mean_grey: float, rng: np.random.Generator) -> FloatArray:
    """Add hot pixels to grey values (C, Z, Y, X), the same in all planes and channels."""
    height, width = grey.shape[-2:]
    count = round(share * height * width)
    if count == 0:
        return grey
    place = rng.choice(height * width, size=count, replace=False)
    glow = np.zeros(height * width, np.float32)
    glow[place] = rng.exponential(mean_grey, size=count)
    return np.asarray(grey + glow.reshape(height, width), np.float32)
