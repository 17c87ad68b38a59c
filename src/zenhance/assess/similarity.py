"""Further similarity to a truth: MS-SSIM, microSSIM, and one comparison's sum-type RMSE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.assess.truth import robust_range
from zenhance.errors import StackError

__all__ = ["frobenius_255", "micro_ssim", "ms_ssim"]

Plane = npt.NDArray[np.float64]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first (Wang, Simoncelli & Bovik 2003, section 3.2)."""
SIGMA_PX = 1.5
WINDOW_PX = 11
K1, K2 = 0.01, 0.03
BACKGROUND_PERCENT = 3.0


def _check(image: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
    if image.ndim != 3 or image.shape != truth.shape or min(image.shape[1:]) < WINDOW_PX:
        raise StackError(
            f"image {image.shape} and truth {truth.shape} must be volumes (z, y, x) of one shape "
            f"with at least {WINDOW_PX} rows and columns"
        )
    if not (np.isfinite(image).all() and np.isfinite(truth).all()):
        raise StackError(
            "the image or its truth has voxels that are not finite, so no figure can be given; "
            "replace them first"
        )


def _mean(plane: Plane) -> Plane:
    return np.asarray(ndimage.gaussian_filter(plane, SIGMA_PX, radius=WINDOW_PX // 2))


def _moments(a: Plane, b: Plane) -> tuple[Plane, Plane, Plane, Plane, Plane]:
    """Local means, variances and covariance, half a window away from the border."""
    rim = WINDOW_PX // 2
    inner = (slice(rim, -rim or None),) * 2
    ua, ub = _mean(a), _mean(b)
    va, vb, vab = _mean(a * a) - ua * ua, _mean(b * b) - ub * ub, _mean(a * b) - ua * ub
    return ua[inner], ub[inner], va[inner], vb[inner], vab[inner]


def ms_ssim(
    image: npt.NDArray[Any], truth: npt.NDArray[Any], data_range: float | None = None
) -> float:
    """Return the multi-scale structural similarity, mean over the planes.

    Parameters
    ----------
    image, truth : array (Z, Y, X)
        In the same units.
    data_range : float, optional
        Left out, the truth's between its 0.1 % and 99.9 % quantiles.

    Notes
    -----
    Product over scales of contrast · structure, times luminance at the coarsest, each to its weight
    (Wang, Simoncelli & Bovik, Asilomar 2003, eq. 7). Planes smaller than 176 pixels have fewer than
    five scales; the remaining weights are scaled to sum one. A negative mean contrast · structure
    counts as 0.
    """
    _check(image, truth)
    span = robust_range(truth) if data_range is None else data_range
    base = float(truth.min())
    scales = 1 + min(len(WEIGHTS) - 1, int(math.log2(min(image.shape[1:]) / WINDOW_PX)))
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    values = []
    for one, other in zip(image, truth, strict=True):
        a, b = one.astype(np.float64) - base, other.astype(np.float64) - base
        value = 1.0
        for scale, weight in enumerate(weights):
            ua, ub, va, vb, vab = _moments(a, b)
            part = (2 * vab + c2) / (va + vb + c2)
            if scale == scales - 1:
                part = part * (2 * ua * ub + c1) / (ua**2 + ub**2 + c1)
            value *= max(float(part.mean()), 0.0) ** float(weight)
            a, b = _halved(a), _halved(b)
        values.append(value)
    return float(np.mean(values))


def _halved(plane: Plane) -> Plane:
    ny, nx = (n // 2 * 2 for n in plane.shape)
    return np.asarray(plane[:ny, :nx].reshape(ny // 2, 2, nx // 2, 2).mean(axis=(1, 3)))


def micro_ssim(image: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """Return SSIM without background and intensity scale, mean over the planes.

    Parameters
    ----------
    image, truth : array (Z, Y, X)
        Any intensity scale each.

    Notes
    -----
    Both lose their 3 % quantile and are divided by the truth's maximum; one factor on the image for
    the whole volume then maximises SSIM (Ashesh & Jug, "MicroSSIM", ECCV workshops 2024). Finite
    for constant images too.

    Raises
    ------
    StackError
        Shapes differ, voxels are not finite, or the truth is constant.
    """
    from scipy.optimize import minimize_scalar

    _check(image, truth)
    low = float(np.percentile(truth, BACKGROUND_PERCENT))
    top = float(truth.max()) - low
    if not top > 0:
        raise StackError(
            "the truth is constant, so microSSIM has no data range; choose a truth with structure"
        )
    base = float(np.percentile(image, BACKGROUND_PERCENT))
    planes = [
        _moments((a.astype(np.float64) - base) / top, (b.astype(np.float64) - low) / top)
        for a, b in zip(image, truth, strict=True)
    ]

    def loss(log_factor: float) -> float:
        return -_mean_ssim(planes, math.exp(log_factor))

    # The image's own scale may be anything: the search begins where means of squares agree.
    power_a = sum(float((p[0] ** 2 + p[2]).sum()) for p in planes)
    power_b = sum(float((p[1] ** 2 + p[3]).sum()) for p in planes)
    centre = 0.5 * math.log(power_b / power_a) if power_a > 0 and power_b > 0 else 0.0
    best = minimize_scalar(
        loss, bounds=(centre - 2.5, centre + 2.5), method="bounded", options={"xatol": 1e-3}
    )
    return float(-best.fun)


def _mean_ssim(planes: list[tuple[Plane, Plane, Plane, Plane, Plane]], factor: float) -> float:
    c1, c2 = K1**2, K2**2
    total, count = 0.0, 0
    for ua, ub, va, vb, vab in planes:
        luminance = (2 * factor * ua * ub + c1) / (factor**2 * ua**2 + ub**2 + c1)
        structure = (2 * factor * vab + c2) / (factor**2 * va + vb + c2)
        total += float((luminance * structure).sum())
        count += ua.size
    return total / count


def frobenius_255(
    image: npt.NDArray[Any], truth: npt.NDArray[Any], data_range: float | None = None
) -> float:
    """Return the Frobenius norm of the difference on a scale of 0 to 255.

    This sum-type "RMSE" grows with the number of voxels. A slide set on blur-and-noise diffusion
    compares methods by an undefined "RMSE" of about 2 · 10⁵; only a sum over pixels reaches such
    values. This is our reading of it, for images of one size only.

    Parameters
    ----------
    image, truth : array
        Of one shape, in the same units.
    data_range : float, optional
        Mapped to 255; left out, the truth's between its 0.1 % and 99.9 % quantiles.
    """
    span = robust_range(truth) if data_range is None else data_range
    return float(
        np.linalg.norm((image.astype(np.float64) - truth.astype(np.float64)).ravel()) * 255.0 / span
    )
