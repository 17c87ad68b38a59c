"""Background of a plane by a rolling ball.

The ball is that of scikit-image (Sternberg, Computer 16:22, 1983). A large ball rolls over an image
of block minima, as in ImageJ, so that the work does not grow with its radius. Blocks are counted
from the corner of the volume, so that tiles agree.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from skimage.restoration import ellipsoid_kernel, rolling_ball

from zenhance.types import FloatArray

__all__ = ["block_px", "reach_px", "rolled_background"]

MAX_RADIUS_PX = 8
"""A larger ball is rolled over block minima."""
SMOOTH_PX = 1.5
"""Smoothing before the ball, which touches minima, in pixels."""


def block_px(radius_px: float) -> int:
    """Return the edge of the blocks of a ball."""
    return max(1, math.ceil(radius_px / MAX_RADIUS_PX))


def reach_px(radius_px: float) -> int:
    """Return the halo of the ball, the interpolation between blocks and the smoothing."""
    return math.ceil(radius_px) + 3 * block_px(radius_px) + math.ceil(4 * SMOOTH_PX) + 1


def rolled_background(
    plane: FloatArray, radius_px: float, height: float, origin_px: tuple[int, int] = (0, 0)
) -> FloatArray:
    """Return the background of a plane.

    Parameters
    ----------
    plane : float32 array (Y, X)
        In any unit.
    radius_px : float
        Of the ball, along y and x.
    height : float
        Radius of the ball along the intensity axis; positive.
    origin_px : tuple of int
        Position of the plane's corner in its volume (y, x).

    Returns
    -------
    float32 array (Y, X)
        Nowhere above the smoothed plane by more than its noise.
    """
    smooth = ndimage.gaussian_filter(plane, SMOOTH_PX, mode="nearest", truncate=4.0)
    block = block_px(radius_px)
    before = [o % block for o in origin_px]
    around = [(b, -(b + n) % block) for b, n in zip(before, plane.shape, strict=True)]
    padded = np.pad(smooth, around, mode="edge")
    rows, columns = (n // block for n in padded.shape)
    small = padded.reshape(rows, block, columns, block).min(axis=(1, 3))
    radius = max(1, round(radius_px / block))
    kernel = ellipsoid_kernel((2 * radius + 1, 2 * radius + 1), float(height) * 2.0)
    touched = np.minimum(rolling_ball(small, kernel=kernel), small)
    if block > 1:
        at = [
            (np.arange(n) + b + 0.5) / block - 0.5 for n, b in zip(plane.shape, before, strict=True)
        ]
        touched = ndimage.map_coordinates(
            touched, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest"
        )
    return np.asarray(touched, np.float32)
