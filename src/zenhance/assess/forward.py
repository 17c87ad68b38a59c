"""Explain a measurement by a result: blur it again, fit its intensity scale and the PSF's width.

``ŷ = a · H x̂ + b`` with a and b by weighted least squares, so a method may change the intensity
scale. The width of the PSF may be fitted too, by the smallest deviance, because no PSF is known
exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.photons import Camera, poisson_deviance
from zenhance.errors import StackError
from zenhance.physics.psf_base import Psf
from zenhance.types import FloatArray, FloatTriple, Region

__all__ = [
    "AffineFit",
    "WidthFit",
    "block_factors",
    "blur_result",
    "fit_affine",
    "fit_width",
    "sparse_plane",
]


FIT_ROUNDS = 4
SUM_VOXELS = 500_000
"""Sums over more voxels than this are taken over every n-th row and column."""
FIT_VOXELS = 400_000
"""The width is fitted on a part of the volume of about this size."""
CHI2_95 = 3.84


@dataclass(frozen=True, slots=True)
class AffineFit:
    """``ŷ = slope · blurred + offset`` in the measurement's units."""

    slope: float
    offset: float


@dataclass(frozen=True, slots=True)
class WidthFit:
    """The factor on the point spread function's width that explains the measurement best."""

    width: float
    at_bound: bool


def block_factors(
    raw_shape: tuple[int, ...], result_shape: tuple[int, ...]
) -> tuple[int, int, int]:
    """Return how many result voxels there are per measured voxel along z, y, x.

    Raises
    ------
    StackError
        The result is not a whole multiple of the measurement.
    """
    if (
        len(raw_shape) == 3
        and len(result_shape) == 3
        and all(r % n == 0 for n, r in zip(raw_shape, result_shape, strict=True))
    ):
        z, y, x = (r // n for n, r in zip(raw_shape, result_shape, strict=True))
        return (z, y, x)
    raise StackError(
        f"the result {result_shape} does not lie on the voxels of the measurement {raw_shape}; "
        "give the stack that the result was made from"
    )


def blur_result(
    result: FloatArray,
    psf: Psf | None,
    voxel_size_um: FloatTriple,
    factors: tuple[int, int, int],
    width: float = 1.0,
    blur: Callable[[FloatArray], FloatArray] | None = None,
) -> FloatArray:
    """Blur a result and bring it to the measurement's voxels.

    Parameters
    ----------
    result : float32 array (Z, Y, X)
        On voxels ``factors`` times finer than the measurement's.
    psf : Psf or None
        None leaves the result as it is.
    voxel_size_um : tuple of float
        Of the measurement, (z, y, x).
    width : float
        Factor on the width of the PSF: sampled on voxels that are smaller by this factor, it is
        wider by it.
    """
    blurred = np.ascontiguousarray(result, np.float32)
    if psf is not None and blur is not None:
        blurred = blur(blurred)
    elif psf is not None:
        import torch

        from zenhance.physics.blur import Blur

        z, y, x = (v / f / width for v, f in zip(voxel_size_um, factors, strict=True))
        shape = (result.shape[0], result.shape[1], result.shape[2])
        blurred = np.asarray(
            Blur.from_psf(psf, (z, y, x), shape)(torch.from_numpy(blurred)).numpy()
        )
    if factors == (1, 1, 1):
        return blurred
    (fz, fy, fx), (nz, ny, nx) = factors, blurred.shape
    return np.asarray(
        blurred.reshape(nz // fz, fz, ny // fy, fy, nx // fx, fx).mean(axis=(1, 3, 5)), np.float32
    )


def fit_affine(
    blurred: FloatArray,
    raw: npt.NDArray[Any],
    camera: Camera,
    valid: npt.NDArray[np.bool_] | None = None,
) -> AffineFit:
    """Fit ``raw ≈ slope · blurred + offset`` by four rounds of weighted least squares.

    Parameters
    ----------
    blurred, raw : array (Z, Y, X)
        The re-blurred result and the measurement.
    camera : Camera
        Gain, offset and read noise in grey values.
    valid : bool array (Z, Y, X), optional
        Voxels to use.

    Returns
    -------
    AffineFit
        A constant result gives slope 0.
    """
    fit: AffineFit | None = None
    sparse = sparse_plane(raw.shape)
    for _ in range(FIT_ROUNDS):
        sums = np.zeros(5)
        for z in range(raw.shape[0]):
            keep = slice(None) if valid is None else valid[z][sparse]
            m, y = (v[z][sparse][keep].ravel().astype(np.float64) for v in (blurred, raw))
            weight = (
                np.ones_like(m)
                if fit is None
                else 1.0 / _variance(fit.slope * m + fit.offset, camera)
            )
            wm = weight * m
            sums += (weight.sum(), wm.sum(), weight @ y, wm @ m, wm @ y)
        fit = _solve(sums)
    return fit if fit is not None else AffineFit(0.0, 0.0)


def sparse_plane(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the step between rows and columns that keeps about half a million voxels."""
    step = max(1, int(math.sqrt(math.prod(shape) / SUM_VOXELS)))
    return (slice(None, None, step), slice(None, None, step))


def _variance(mean: npt.NDArray[np.float64], camera: Camera) -> npt.NDArray[np.float64]:
    # A tenth of a photon keeps dark voxels with an uncertain expectation from dominating the fit.
    return (
        np.maximum(camera.gain * (mean - camera.offset), 0.1 * camera.gain**2)
        + camera.read_noise**2
    )


def _solve(sums: npt.NDArray[np.float64]) -> AffineFit:
    w, m, y, mm, my = (float(s) for s in sums)
    if w <= 0:
        raise StackError(
            "the measurement has no voxel that is finite and not saturated, "
            "so nothing can be compared; choose another stack"
        )
    spread = mm - m * m / w
    slope = (my - m * y / w) / spread if spread > 1e-12 * max(mm, 1e-300) else 0.0
    return AffineFit(slope, (y - slope * m) / w)


def fit_width(
    raw: npt.NDArray[Any],
    result: FloatArray,
    psf: Psf,
    voxel_size_um: FloatTriple,
    factors: tuple[int, int, int],
    camera: Camera,
    valid: npt.NDArray[np.bool_],
    width_range: tuple[float, float],
) -> WidthFit:
    """Find the factor on the PSF's width with the smallest deviance, on a part of the volume.

    Of the widths that explain the data as well (within the 95 % likelihood-ratio interval) the
    narrowest is chosen: a PSF that is too narrow accepts faithful results, one that is too wide
    does not.
    """
    from scipy.optimize import minimize_scalar

    part, inner = _brightest_part(raw, psf, voxel_size_um)
    fine = tuple(slice(s.start * f, s.stop * f) for s, f in zip(part, factors, strict=True))
    y, x, keep = raw[part], np.ascontiguousarray(result[fine]), valid[part].copy()
    outside = np.ones(keep.shape, bool)
    outside[inner] = False
    keep[outside] = False
    if not keep.any():
        return WidthFit(1.0, False)
    extra = (camera.read_noise / camera.gain) ** 2

    def total(width: float) -> float:
        blurred = blur_result(x, psf, voxel_size_um, factors, width)
        fit = fit_affine(blurred, y, camera, keep)
        mean = (fit.slope * blurred[keep] + fit.offset - camera.offset) / camera.gain + extra
        return float(poisson_deviance((y[keep] - camera.offset) / camera.gain + extra, mean).sum())

    low, high = width_range
    best = minimize_scalar(total, bounds=width_range, method="bounded", options={"xatol": 0.01})
    width, least = float(best.x), float(best.fun)
    if min(width - low, high - width) < 0.02:
        return WidthFit(low if width - low < 0.02 else high, True)
    step = 0.02
    curvature = (total(width + step) + total(width - step) - 2.0 * least) / step**2
    slack = math.sqrt(2.0 * CHI2_95 / curvature) if curvature > 0 else 0.05
    return WidthFit(max(low, width - min(slack, 0.05)), False)


def _brightest_part(
    raw: npt.NDArray[Any], psf: Psf, voxel_size_um: FloatTriple
) -> tuple[Region, Region]:
    """Return a part around the brightest voxel, and its interior three standard deviations in."""
    shape, sigma = raw.shape, psf.sigma_px(voxel_size_um)
    depth = min(shape[0], 64)
    edge = max(64, int(math.sqrt(FIT_VOXELS / depth)))
    sizes = (depth, min(shape[1], edge), min(shape[2], edge))
    parts, inners = [], []
    for axis, size in enumerate(sizes):
        others = tuple(a for a in range(3) if a != axis)
        profile = raw.astype(np.float32).sum(axis=others, dtype=np.float64)
        sums = np.convolve(profile, np.ones(size), mode="valid")
        start = int(np.argmax(sums))
        parts.append(slice(start, start + size))
        rim = min(math.ceil(3.0 * sigma[axis]) if shape[axis] > 1 else 0, (size - 1) // 3)
        inners.append(slice(rim, size - rim))
    return (parts[0], parts[1], parts[2]), (inners[0], inners[1], inners[2])
