"""Contrast and signal-to-noise by depth below the specimen's surface.

::

        z = 0   · · · · · · · · ·        light comes from above
                    · · · ╭───────╮ ·        surface: a smoothed column first passes half its height
                    · ╭───╯ L1    ╰─╮        L1   0-5 µm below the nearest point of the surface
                    ╭─╯ ╭─── L2 ──╮ ╰        L2   5-10 µm,  L3  10-15 µm,  deeper

Layers of a domed tissue follow its surface, so depth is the distance to the nearest point of the
surface, not the length of the light's path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import StackError
from zenhance.types import FloatArray, FloatTriple

__all__ = [
    "DEPTH_EDGES_UM",
    "DepthFigures",
    "contrast_by_depth",
    "depth_below_surface",
    "find_surface",
]


DEPTH_EDGES_UM = (0.0, 5.0, 10.0, 15.0)
SURFACE_SMOOTH_UM = 1.0
MIN_LEVEL = 0.15
"""A column belongs to the specimen if it climbs this far from the surroundings to the brightest."""
HOLE_UM = 4.0
STRUCTURE_UM = 0.3
NOISE_UM = 1.0
MIN_VOXELS = 200


@dataclass(frozen=True, slots=True)
class DepthFigures:
    """One layer.

    Parameters
    ----------
    name : str
        ``L1``, ``L2``, ``L3`` or ``deeper``.
    from_um, to_um : float, float or None
        Depth below the surface.
    voxels : int
        In the layer.
    contrast : float
        (bright - dark) / (bright + dark) above the background, of the structures of the
        *measurement*: 0 none, 1 full.
    snr : float
        (bright - dark) / noise, the noise being what varies faster than 1 µm where it is dark.
    """

    name: str
    from_um: float
    to_um: float | None
    voxels: int
    contrast: float
    snr: float


def find_surface(volume: npt.NDArray[Any], voxel_size_um: FloatTriple) -> FloatArray:
    """Find the specimen's upper surface.

    Parameters
    ----------
    volume : array (Z, Y, X)
        Bright specimen, dark surroundings; light comes from plane 0.
    voxel_size_um : tuple of float
        (z, y, x).

    Returns
    -------
    float32 array (Y, X)
        Depth of the surface in µm from the middle of plane 0; infinity where there is no specimen.

    Raises
    ------
    StackError
        The volume is not 3-D, or nothing stands out.
    """
    if volume.ndim != 3:
        raise StackError(
            f"a volume of shape {volume.shape} has no surface to find; give one volume (z, y, x)"
        )
    smooth = ndimage.gaussian_filter(
        volume.astype(np.float32), [SURFACE_SMOOTH_UM / v for v in voxel_size_um], mode="nearest"
    )
    low, high = np.percentile(smooth, [1.0, 99.5])
    if not high > low:
        raise StackError(
            "the volume is constant, so it has no surface; choose a channel with a specimen"
        )
    top = smooth.max(axis=0)
    seen = top > low + MIN_LEVEL * (high - low)
    # A blurred edge passes half of its height where the edge itself is.
    inside = smooth > (low + top) / 2.0
    first = np.where(seen, inside.argmax(axis=0), volume.shape[0]).astype(np.float32)
    # Dark cells at the surface look like pits: a closing from above bridges them.
    reach = [max(1, 2 * math.ceil(HOLE_UM / v / 2) + 1) for v in voxel_size_um[1:]]
    closed = ndimage.grey_dilation(ndimage.grey_erosion(first, reach), reach)
    surface = np.where(seen, np.minimum(first, closed), first) * np.float32(voxel_size_um[0])
    return np.where(seen, surface, np.float32(np.inf)).astype(np.float32)


def depth_below_surface(
    surface_um: FloatArray, planes: int, voxel_size_um: FloatTriple
) -> FloatArray:
    """Return the distance (Z, Y, X) of each voxel below the surface in µm; negative above.

    Parameters
    ----------
    surface_um : float32 array (Y, X)
        From :func:`find_surface`.
    planes : int
        Number of planes.
    """
    z = np.arange(planes, dtype=np.float32)[:, None, None] * np.float32(voxel_size_um[0])
    # A plane of air on top is where a specimen that fills the first plane has its surface.
    below = np.concatenate([np.zeros((1, *surface_um.shape), bool), z >= surface_um[None]])
    depth = ndimage.distance_transform_edt(below, sampling=voxel_size_um)[1:]
    return np.where(below[1:], depth, -1.0).astype(np.float32)


def contrast_by_depth(
    measured: npt.NDArray[Any],
    volumes: dict[str, npt.NDArray[Any]],
    voxel_size_um: FloatTriple,
    depth_um: FloatArray | None = None,
    edges_um: tuple[float, ...] = DEPTH_EDGES_UM,
) -> dict[str, tuple[DepthFigures, ...]]:
    """Compare contrast and SNR of several versions of one stack, layer by layer.

    Parameters
    ----------
    measured : array (Z, Y, X)
        The measurement; it decides where a layer is bright (its brightest 15 %) and dark (its
        darkest 30 %), for all versions alike.
    volumes : mapping of str to array (Z, Y, X)
        The versions, any intensity scale.
    voxel_size_um : tuple of float
        (z, y, x).
    depth_um : float32 array (Z, Y, X), optional
        Depth where it is known; left out, it is found from the measurement.
    edges_um : tuple of float
        Where the layers begin; the last is open.

    Returns
    -------
    mapping of str to tuple of DepthFigures
        Layers with fewer than 200 voxels are left out.
    """
    for name, volume in volumes.items():
        if volume.shape != measured.shape:
            raise StackError(
                f"{name} {volume.shape} and the measurement {measured.shape} differ in shape; "
                "bring them to the same voxels first"
            )
    if depth_um is None:
        depth_um = depth_below_surface(
            find_surface(measured, voxel_size_um), measured.shape[0], voxel_size_um
        )
    layers = _layers(_smooth(measured, STRUCTURE_UM, voxel_size_um), depth_um, edges_um)
    return {
        name: _figures(volume, layers, depth_um, voxel_size_um) for name, volume in volumes.items()
    }


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    from_um: float
    to_um: float | None
    voxels: int
    bright: npt.NDArray[np.int64]
    dark: npt.NDArray[np.int64]


def _layers(
    structure: FloatArray, depth_um: FloatArray, edges_um: tuple[float, ...]
) -> list[_Layer]:
    layers = []
    for k, start in enumerate(edges_um):
        end = edges_um[k + 1] if k + 1 < len(edges_um) else None
        within = np.flatnonzero(
            (depth_um >= start) & (depth_um >= 0) & (depth_um < (np.inf if end is None else end))
        )
        if within.size < MIN_VOXELS:
            continue
        values = structure.ravel()[within]
        dark, bright = np.percentile(values, [30.0, 85.0])
        name = f"L{k + 1}" if end is not None else "deeper"
        layers.append(
            _Layer(
                name, start, end, int(within.size), within[values >= bright], within[values <= dark]
            )
        )
    return layers


def _figures(
    volume: npt.NDArray[Any], layers: list[_Layer], depth_um: FloatArray, voxel_size_um: FloatTriple
) -> tuple[DepthFigures, ...]:
    image = volume.astype(np.float32)
    outside = image[depth_um < 0]
    background = (
        float(np.median(outside))
        if outside.size >= MIN_VOXELS
        else float(np.percentile(image, 1.0))
    )
    # Only within planes: neighbouring planes may be as far apart as a cell wall is thick.
    fast = image - ndimage.gaussian_filter(
        image, [0.0, *(NOISE_UM / v for v in voxel_size_um[1:])], mode="nearest"
    )
    figures = []
    for layer in layers:
        bright, dark = (
            float(image.ravel()[part].mean(dtype=np.float64)) - background
            for part in (layer.bright, layer.dark)
        )
        rest = fast.ravel()[layer.dark]
        noise = float(1.4826 * np.median(np.abs(rest - np.median(rest))))
        total = bright + dark
        contrast = (bright - dark) / total if total > 0 else 0.0
        snr = (bright - dark) / noise if noise > 0 else math.inf
        figures.append(
            DepthFigures(layer.name, layer.from_um, layer.to_um, layer.voxels, contrast, snr)
        )
    return tuple(figures)


def _smooth(volume: npt.NDArray[Any], sigma_um: float, voxel_size_um: FloatTriple) -> FloatArray:
    return np.asarray(
        ndimage.gaussian_filter(
            volume.astype(np.float32), [sigma_um / v for v in voxel_size_um], mode="nearest"
        ),
        np.float32,
    )
