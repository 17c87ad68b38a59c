"""Judgement against a known truth: PSNR, SSIM and RMSE, with every convention stated.

The data range is that of the truth between its 0.1 % and 99.9 % quantiles, so a single hot voxel
does not raise the figures. Each figure is given twice: for the image as it is, and after the affine
fit ``a · image + b`` that is closest to the truth, which forgives a changed intensity scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import StackError
from zenhance.types import FloatArray

__all__ = ["TruthReport", "affine_fit", "compare_with_truth", "psnr_db", "robust_range", "ssim"]

SSIM_SIGMA_PX = 1.5
SSIM_WINDOW_PX = 11


@dataclass(frozen=True, slots=True)
class TruthReport:
    """How close an image is to the truth.

    Parameters
    ----------
    psnr_db, ssim, rmse : float
        Of the image as it is; RMSE in the truth's units.
    psnr_fit_db, ssim_fit, rmse_fit : float
        After the affine fit ``fit_slope · image + fit_offset``.
    data_range : float
        The peak of PSNR and the range of SSIM.
    """

    psnr_db: float
    ssim: float
    rmse: float
    psnr_fit_db: float
    ssim_fit: float
    rmse_fit: float
    data_range: float
    fit_slope: float
    fit_offset: float


def robust_range(truth: npt.NDArray[Any]) -> float:
    """Return the distance between the 0.1 % and the 99.9 % quantile.

    Raises
    ------
    StackError
        The truth is constant, so that no range can be named.
    """
    low, high = np.percentile(truth, [0.1, 99.9])
    span = float(high - low)
    if span > 0:
        return span
    span = float(np.max(truth)) - float(np.min(truth))
    if not span > 0:
        raise StackError(
            "the truth is constant, so PSNR and SSIM have no data range; "
            "choose a truth with structure"
        )
    return span


def affine_fit(image: npt.NDArray[Any], truth: npt.NDArray[Any]) -> tuple[float, float]:
    """Return (a, b) that minimise ``Σ (a · image + b - truth)²``; a constant image gives a = 0."""
    x, y = image.astype(np.float64).ravel(), truth.astype(np.float64).ravel()
    x_mean, y_mean = x.mean(), y.mean()
    spread = float(np.mean((x - x_mean) ** 2))
    slope = float(np.mean((x - x_mean) * (y - y_mean))) / spread if spread > 0 else 0.0
    return slope, float(y_mean - slope * x_mean)


def psnr_db(image: FloatArray, truth: FloatArray, data_range: float) -> float:
    """Return ``20 log10(data_range / RMSE)`` in dB; infinity where both are equal."""
    error = _rmse(image, truth)
    return math.inf if error == 0 else 20 * math.log10(data_range / error)


def ssim(image: FloatArray, truth: FloatArray, data_range: float) -> float:
    """Return the mean structural similarity (Wang et al., IEEE TIP 13:600, 2004).

    Parameters
    ----------
    image, truth : float32 array (Z, Y, X)
        Of equal shape, at least 11 voxels along y and x.
    data_range : float
        Of both.

    Notes
    -----
    Gaussian window with σ = 1.5 voxels, 11 wide, K1 = 0.01, K2 = 0.03, as in the paper; in 3-D from
    11 planes on, else the mean over the planes.
    """
    from skimage.metrics import structural_similarity

    if min(image.shape[-2:]) < SSIM_WINDOW_PX:
        raise StackError(
            f"SSIM needs at least {SSIM_WINDOW_PX} rows and columns, "
            f"not {image.shape[-2]} × {image.shape[-1]}; use a larger field"
        )

    def one(a: FloatArray, b: FloatArray) -> float:
        options = {"gaussian_weights": True, "sigma": SSIM_SIGMA_PX, "use_sample_covariance": False}
        return float(structural_similarity(a, b, data_range=data_range, **options))

    if image.shape[0] >= SSIM_WINDOW_PX:
        return one(image, truth)
    return float(np.mean([one(a, b) for a, b in zip(image, truth, strict=True)]))


def compare_with_truth(
    image: npt.NDArray[Any], truth: npt.NDArray[Any], data_range: float | None = None
) -> TruthReport:
    """Compare a volume with its truth.

    Parameters
    ----------
    image, truth : array (Z, Y, X)
        Of equal shape, in the same intensity units.
    data_range : float, optional
        Left out, it is :func:`robust_range` of the truth.

    Raises
    ------
    StackError
        The shapes differ or are not 3-D, a voxel is not finite, or the truth is constant.
    """
    if image.ndim != 3 or image.shape != truth.shape:
        raise StackError(
            f"image {image.shape} and truth {truth.shape} must be volumes (z, y, x) of one shape; "
            "crop or pick a channel first"
        )
    x, y = image.astype(np.float32), truth.astype(np.float32)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise StackError(
            "the image or its truth has voxels that are not finite, so no figure can be given; "
            "replace them first"
        )
    span = robust_range(y) if data_range is None else data_range
    slope, offset = affine_fit(x, y)
    fitted = x * np.float32(slope) + np.float32(offset)
    return TruthReport(
        psnr_db=psnr_db(x, y, span),
        ssim=ssim(x, y, span),
        rmse=_rmse(x, y),
        psnr_fit_db=psnr_db(fitted, y, span),
        ssim_fit=ssim(fitted, y, span),
        rmse_fit=_rmse(fitted, y),
        data_range=span,
        fit_slope=slope,
        fit_offset=offset,
    )


def _rmse(image: FloatArray, truth: FloatArray) -> float:
    return math.sqrt(float(np.mean((image.astype(np.float64) - truth) ** 2)))
