"""Two measures that need a simulated scene: against the blurred truth, and by depth.

The sharp truth rates a result, but a network can come close to it by drawing what is likely. The
*blurred* truth is the expectation of the measurement. A result that is blurred again by the
microscope of the scene, with the blur of each depth, must agree with it; invented or lost walls do
not. Detail finer than the blur does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.scenes import Scene
from zenhance.assess.truth import psnr_db, robust_range
from zenhance.errors import StackError
from zenhance.types import FloatArray

__all__ = [
    "RIM_SIGMAS",
    "blurred_psnr_db",
    "edge_share",
    "full_width",
    "psnr_by_depth_db",
    "sharpness",
]

RIM_SIGMAS = 2.0
"""So many standard deviations of the PSF are left out at each border, where light from outside the
field is missing in a result."""


def blurred_psnr_db(image: FloatArray, scene: Scene, *, deblurred: bool) -> float:
    """Return the PSNR in dB against the noise-free blurred specimen, off the borders.

    Parameters
    ----------
    image : float32 array (Z, Y, X)
        The result, in the measurement's units, on the voxels of the truth.
    scene : Scene
        What is known.
    deblurred : bool
        Whether the result claims to be sharp, so that it is blurred again; else it is compared as
        it is.

    Raises
    ------
    StackError
        The result has another shape, or voxels that are not finite.

    Notes
    -----
    The result may have another offset, the best-fitting one: stray light is part of the measurement
    but not of the truth that networks train on, and no camera separates the two. The data range is
    that of the blurred specimen, 0.1 % to 99.9 %.
    """
    _check(image, scene)
    seen = scene.imaged(image) if deblurred else image
    inner = _inside(scene)
    difference = seen[inner].astype(np.float64) - scene.blurred[inner]
    error = float(np.std(difference))
    return math.inf if error == 0 else 20 * math.log10(robust_range(scene.blurred) / error)


def psnr_by_depth_db(
    image: FloatArray, scene: Scene, edges_um: Sequence[float]
) -> tuple[float | None, ...]:
    """Return the PSNR in dB against the sharp truth by layer; None where a layer is missing.

    Parameters
    ----------
    image : float32 array (Z, Y, X)
        The result, in the measurement's units, on the voxels of the truth.
    scene : Scene
        What is known.
    edges_um : sequence of float
        Where the layers begin, in µm of tissue above; the last one is open. Voxels outside the
        specimen belong to none.

    Raises
    ------
    StackError
        The result has another shape, or voxels that are not finite.

    Notes
    -----
    The data range of a layer is that of the truth within it, 0.1 % to 99.9 %, so that a bright
    layer does not flatter a dim one.
    """
    _check(image, scene)
    specimen = scene.labels > 0
    found: list[float | None] = []
    for start, end in zip(edges_um, (*edges_um[1:], math.inf), strict=True):
        layer = specimen & (scene.depth_um >= start) & (scene.depth_um < end)
        truth = scene.truth[layer]
        found.append(
            psnr_db(image[layer], truth, robust_range(truth))
            if truth.size and truth.min() < truth.max()
            else None
        )
    return tuple(found)


def sharpness(image: FloatArray, scene: Scene) -> float:
    """Return the share of the truth's edges in a result: 1 is as sharp as the truth.

    Parameters
    ----------
    image : float32 array (Z, Y, X)
        The result, on the voxels of the truth.
    scene : Scene
        What is known.

    Raises
    ------
    StackError
        The result has another shape, or voxels that are not finite.

    Notes
    -----
    The slope of the result's gradient on the truth's, ``<grad r, grad t> / <grad t, grad t>``,
    along y and x in the specimen, with intensities as they are. On average, noise and invented
    edges have nothing in common with the truth's gradient and do not count as sharp.
    """
    _check(image, scene)
    return edge_share(image, scene.truth, scene.labels > 0)


def edge_share(image: FloatArray, truth: FloatArray, specimen: npt.NDArray[np.bool_]) -> float:
    """Return :func:`sharpness` where there is specimen; NaN where the truth has no edges."""
    shared = norm = 0.0
    for axis in (1, 2):
        mine, true = (
            np.gradient(v.astype(np.float64), axis=axis)[specimen] for v in (image, truth)
        )
        shared += float(np.dot(mine, true))
        norm += float(np.dot(true, true))
    return shared / norm if norm > 0 else math.nan


def _check(image: FloatArray, scene: Scene) -> None:
    if image.shape != scene.truth.shape:
        raise StackError(
            f"the result's shape is {image.shape}, the truth's is {scene.truth.shape}; both must "
            "be the same"
        )
    if not np.isfinite(image).all():
        raise StackError(
            "the result has voxels that are not finite, so no figure can be given; look at the "
            "method's warnings"
        )


def _inside(scene: Scene) -> tuple[slice, slice, slice]:
    """Return the field without its rim; at least a third of each axis stays."""
    sigma = scene.psf.sigma_px(scene.fine_voxel_um)
    rims = [
        min(math.ceil(RIM_SIGMAS * s), (n - 1) // 3)
        for s, n in zip(sigma, scene.truth.shape, strict=True)
    ]
    z, y, x = (slice(r, n - r) for r, n in zip(rims, scene.truth.shape, strict=True))
    return (z, y, x)


def full_width(
    level: npt.NDArray[np.float64], peak: int, low: int = 0, high: int | None = None
) -> float:
    """Return the full width at half maximum in samples, interpolated on both flanks.

    Parameters
    ----------
    level : float64 array (N,)
        Profile above its background.
    peak : int
        Sample of the maximum.
    low, high : int
        First and last sample that belong to the peak.

    Returns
    -------
    float
        NaN where a flank does not fall to half.
    """
    half, total = level[peak] / 2, 0.0
    end = level.size if high is None else high + 1
    for side in (level[peak:end], level[low : peak + 1][::-1]):
        below = np.flatnonzero(side < half)
        if below.size == 0:
            return math.nan
        k = int(below[0])
        total += k - 1 + float(side[k - 1] - half) / max(float(side[k - 1] - side[k]), 1e-12)
    return total
