"""Explain a measurement by a result: image it again and fit its intensity scale.

``ŷ = a · H x̂ + b + c · haze`` by weighted least squares, so a method may change the intensity
scale. The PSF's width is fitted in :mod:`zenhance.assess.psf_fit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zenhance.assess.photons import Camera
from zenhance.errors import StackError
from zenhance.physics.psf_base import Psf
from zenhance.types import FloatArray, FloatTriple, Region

__all__ = [
    "AffineFit",
    "Imaging",
    "Light",
    "block_factors",
    "blur_result",
    "fit_affine",
    "fit_light",
    "imaging_of",
    "is_smoothing",
    "sparse_plane",
]


FIT_ROUNDS = 4
SMOOTHED_SHARE = 0.995
SUM_VOXELS = 500_000
"""Sums over more voxels than this are taken over every n-th row and column."""


class Imaging(Protocol):
    """Images a specimen again, with a PSF that may be wider than stated."""

    def __call__(
        self, image: FloatArray, region: Region, /, z: float = 1.0, yx: float = 1.0
    ) -> FloatArray:
        """Return the blurred part (Z, Y, X) of a result on the measurement's voxels.

        Parameters
        ----------
        image : float32 array (Z, Y, X)
            The part of the result.
        region : tuple of slice
            Where it lies in the measurement.
        z, yx : float
            Factors on the PSF's width along the axis and in the plane.
        """


@dataclass(frozen=True, slots=True)
class AffineFit:
    """``ŷ = slope · blurred + offset`` in the measurement's units."""

    slope: float
    offset: float


@dataclass(frozen=True, slots=True)
class Light:
    """Weighted least squares of a measurement on several volumes and a constant.

    Parameters
    ----------
    factors : tuple of float
        One a volume.
    offset : float
        The constant, in the measurement's units.
    errors : tuple of float
        Standard errors of the factors from the camera's noise.
    """

    factors: tuple[float, ...]
    offset: float
    errors: tuple[float, ...] = ()

    def of(self, volumes: Sequence[FloatArray]) -> FloatArray:
        """Return the expected grey values (Z, Y, X)."""
        total = np.full(volumes[0].shape, self.offset, np.float32)
        for factor, volume in zip(self.factors, volumes, strict=True):
            total += np.float32(factor) * volume
        return total


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
        f"the result {result_shape} does not match the voxels of the measurement {raw_shape}; "
        "give the stack that the result was made from"
    )


def blur_result(
    result: FloatArray,
    psf: Psf | None,
    voxel_size_um: FloatTriple,
    factors: tuple[int, int, int],
    z: float = 1.0,
    yx: float = 1.0,
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
    z, yx : float
        Factors on the width of the PSF: sampled on voxels that are smaller by this factor, it is
        wider by it.
    """
    blurred = np.ascontiguousarray(result, np.float32)
    if psf is not None:
        import torch

        from zenhance.physics.blur import Blur

        widths = (z, yx, yx)
        sizes = [v / f / w for v, f, w in zip(voxel_size_um, factors, widths, strict=True)]
        shape = (result.shape[0], result.shape[1], result.shape[2])
        blur = Blur.from_psf(psf, (sizes[0], sizes[1], sizes[2]), shape)
        blurred = np.asarray(blur(torch.from_numpy(blurred)).numpy())
    if factors == (1, 1, 1):
        return blurred
    (fz, fy, fx), (nz, ny, nx) = factors, blurred.shape
    return np.asarray(
        blurred.reshape(nz // fz, fz, ny // fy, fy, nx // fx, fx).mean(axis=(1, 3, 5)), np.float32
    )


def imaging_of(
    psf: Psf, voxel_size_um: FloatTriple, factors: tuple[int, int, int], *, deblurred: bool
) -> Imaging:
    """Return how a result is imaged again with one PSF.

    A result from which no blur was taken is imaged as it is; a "wider PSF" then blurs it further
    by what the widened PSF exceeds the PSF by, and a narrower one sharpens it to first order.
    """

    def blur(image: FloatArray, _region: Region, z: float = 1.0, yx: float = 1.0) -> FloatArray:
        return blur_result(image, psf, voxel_size_um, factors, z, yx)

    sigma = psf.sigma_px(voxel_size_um)

    def keep(image: FloatArray, _region: Region, z: float = 1.0, yx: float = 1.0) -> FloatArray:
        seen = blur_result(image, None, voxel_size_um, factors)
        variances = [s**2 * (w**2 - 1.0) for s, w in zip(sigma, (z, yx, yx), strict=True)]
        return _spread(seen, variances)

    return blur if deblurred else keep


def _spread(image: FloatArray, variances: Sequence[float]) -> FloatArray:
    """Widen an image by variances in square pixels along each axis; negative ones sharpen it."""
    from scipy import ndimage

    for axis, variance in enumerate(variances):
        if image.shape[axis] == 1 or abs(variance) < 1e-9:
            continue
        if variance > 0:
            image = ndimage.gaussian_filter1d(image, math.sqrt(variance), axis, mode="reflect")
        else:
            bend = ndimage.convolve1d(image, [1.0, -2.0, 1.0], axis, mode="reflect")
            image = image + np.float32(variance / 2.0) * bend
    return np.asarray(image, np.float32)


def is_smoothing(result: FloatArray, raw: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> bool:
    """Tell whether a result is the measurement smoothed, and nothing else.

    Parameters
    ----------
    result, raw : array (Z, Y, X)
        On the same voxels.
    valid : bool array (Z, Y, X)
        Voxels to use.

    Notes
    -----
    Gaussian smoothing of up to three voxels explains 99.5 % of the result's variance.
    """
    from scipy import ndimage

    if result.shape != raw.shape:
        return False
    x, y = result[valid].astype(np.float64), np.nan_to_num(raw.astype(np.float32))
    x -= x.mean()
    along_z = (0.0, 0.5, 1.0, 2.0) if raw.shape[0] > 1 else (0.0,)
    for yx in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        flat = ndimage.gaussian_filter(y, (0.0, yx, yx), mode="reflect")
        for z in along_z:
            smooth = ndimage.gaussian_filter1d(flat, z, 0, mode="reflect") if z else flat
            s = smooth[valid].astype(np.float64)
            s -= s.mean()
            if (s @ x) ** 2 > SMOOTHED_SHARE * (s @ s) * (x @ x):
                return True
    return False


def fit_affine(
    blurred: FloatArray,
    raw: npt.NDArray[Any],
    camera: Camera,
    valid: npt.NDArray[np.bool_] | None = None,
) -> AffineFit:
    """Fit ``raw ≈ slope · blurred + offset``; see :func:`fit_light`.

    Returns
    -------
    AffineFit
        A constant result gives slope 0.
    """
    fit = fit_light((blurred,), raw, camera, valid)
    return AffineFit(fit.factors[0], fit.offset)


def fit_light(
    volumes: Sequence[FloatArray],
    raw: npt.NDArray[Any],
    camera: Camera,
    valid: npt.NDArray[np.bool_] | None = None,
) -> Light:
    """Fit ``raw ≈ Σ factor · volume + offset`` by four rounds of weighted least squares.

    Parameters
    ----------
    volumes : sequence of array (Z, Y, X)
        The re-blurred result, and what else may explain the measurement.
    raw : array (Z, Y, X)
        The measurement.
    camera : Camera
        Gain, offset and read noise in grey values.
    valid : bool array (Z, Y, X), optional
        Voxels to use.

    Returns
    -------
    Light
        The factor of a constant volume is 0.

    Raises
    ------
    StackError
        No voxel can be used.
    """
    fit: Light | None = None
    sparse = sparse_plane(raw.shape)
    for _ in range(FIT_ROUNDS):
        size = len(volumes) + 1
        normal, right = np.zeros((size, size)), np.zeros(size)
        for z in range(raw.shape[0]):
            keep = slice(None) if valid is None else valid[z][sparse]
            columns = [v[z][sparse][keep].ravel().astype(np.float64) for v in volumes]
            y = raw[z][sparse][keep].ravel().astype(np.float64)
            design = np.stack([*columns, np.ones_like(y)])
            weight = np.ones_like(y)
            if fit is not None:
                weight = 1.0 / _variance(np.array([*fit.factors, fit.offset]) @ design, camera)
            weighted = design * weight
            normal += weighted @ design.T
            right += weighted @ y
        fit = _solve(normal, right)
    return fit if fit is not None else Light((0.0,) * len(volumes), 0.0)


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


def _solve(normal: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> Light:
    """Solve for the factors about the means, leaving out volumes that are constant."""
    w = float(normal[-1, -1])
    if w <= 0:
        raise StackError(
            "the measurement has no voxel that is finite and not saturated, "
            "so nothing can be compared; choose another stack"
        )
    means = normal[-1, :-1] / w
    spread = normal[:-1, :-1] - w * np.outer(means, means)
    varies = np.diag(spread) > 1e-12 * np.maximum(np.diag(normal)[:-1], 1e-300)
    factors, errors = np.zeros(means.size), np.full(means.size, math.inf)
    if varies.any():
        scale = np.sqrt(np.diag(spread)[varies])
        inverse = np.linalg.pinv(spread[np.ix_(varies, varies)] / np.outer(scale, scale))
        shift = (right[:-1] - means * right[-1])[varies] / scale
        factors[varies] = inverse @ shift / scale
        errors[varies] = np.sqrt(np.maximum(np.diag(inverse), 0.0)) / scale
    offset = (float(right[-1]) - float(normal[-1, :-1] @ factors)) / w
    return Light(tuple(map(float, factors)), offset, tuple(map(float, errors)))
