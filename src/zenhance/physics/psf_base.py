"""The point spread function: a shape in micrometres, sampled on any voxel grid.

A :class:`Psf` keeps the numbers it was made from, each marked with its origin, and a shape that
samples itself on a grid. Kernels are odd, centred on their middle voxel, sum to one, and omit less
than 1e-4 of the total.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from zenhance.errors import MethodError
from zenhance.types import FloatArray

__all__ = [
    "FWHM_PER_SIGMA",
    "GaussianShape",
    "Psf",
    "PsfOrigin",
    "PsfShape",
    "PsfValue",
    "gaussian",
    "gaussian_from_fwhm",
    "gaussian_kernel_1d",
]

VoxelSizeUm = tuple[float, float, float]
PsfOrigin = Literal["file", "user", "default"]

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""Full width at half maximum of a Gaussian with standard deviation 1: 2.3548."""

MAX_SIGMA_UM = 100.0
MAX_KERNEL_VOXELS = 2**27
# Beyond 4.16 sigma lie 3.2e-5 of a Gaussian: less than 1e-4 over three axes.
_CUT_SIGMA = 4.16


@dataclass(frozen=True, slots=True)
class PsfValue:
    """One number behind a point spread function, with its unit and where it came from."""

    name: str
    value: float | str | tuple[float, ...]
    unit: str
    origin: PsfOrigin

    def describe(self) -> str:
        """Return the value in words, for example ``na 1.2 (file)``."""
        numbers = self.value if isinstance(self.value, tuple) else (self.value,)
        text = " x ".join(v if isinstance(v, str) else f"{v:.4g}" for v in numbers)
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} {text}{unit} ({self.origin})"


class PsfShape(Protocol):
    """A distribution of light in micrometres that can be sampled on a grid."""

    @property
    def sigma_um(self) -> tuple[float, float, float]:
        """Standard deviation (z, y, x) in µm."""

    def kernel(self, voxel_size_um: VoxelSizeUm, ndim: int) -> FloatArray:
        """Return the kernel (Z, Y, X), sum one."""

    def radius_px(self, voxel_size_um: VoxelSizeUm, ndim: int) -> tuple[int, int, int]:
        """Return the half widths of the kernel in pixels."""


def _sampled_variance(sigma_px: float) -> float:
    """Variance of a Gaussian that is sampled at the integers and normalised."""
    reach = math.ceil(12.0 * sigma_px) + 1
    offsets = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (offsets / sigma_px) ** 2)
    return float((weights * offsets**2).sum() / weights.sum())


def gaussian_kernel_1d(sigma_px: float) -> FloatArray:
    """Sample a Gaussian at voxel centres; the samples have the requested standard deviation.

    Parameters
    ----------
    sigma_px : float
        Standard deviation in pixels, 0 or more; 0 gives the kernel ``[1]``.

    Returns
    -------
    ndarray of float32, shape (2 r + 1,)
        Symmetric, sum one, r = max(ceil(4 sigma), ceil(4.16 sigma - 1/2)).

    Notes
    -----
    Sampled at the integers, a Gaussian narrower than a pixel has too small a standard deviation
    (1.2 % at 0.6 px, 10 % at 0.4 px). The curve is therefore widened until its samples have the
    requested one. From 1 px on the correction is below 1e-6.
    """
    if not (math.isfinite(sigma_px) and sigma_px >= 0.0):
        raise MethodError(
            f"the PSF's standard deviation is {sigma_px:g} px, allowed is 0 or more; "
            "check the PSF and the voxel size"
        )
    if sigma_px < 0.05:
        # Below 1e-2 of a pixel's squared width, no neighbour gets over 0.13 % of the light.
        return np.ones(1, dtype=np.float32)
    width = sigma_px
    if sigma_px < 1.0:
        from scipy.optimize import brentq

        width = float(
            brentq(lambda s: _sampled_variance(s) - sigma_px**2, 0.1, sigma_px + 0.5, xtol=1e-12)
        )
    radius = max(math.ceil(4.0 * sigma_px), math.ceil(_CUT_SIGMA * sigma_px - 0.5), 1)
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (offsets / width) ** 2)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def _sigma_px(
    sigma_um: tuple[float, float, float], voxel_size_um: VoxelSizeUm, ndim: int
) -> tuple[float, float, float]:
    z, y, x = (s / v for s, v in zip(sigma_um, voxel_size_um, strict=True))
    return (0.0 if ndim == 2 else z, y, x)


@dataclass(frozen=True, slots=True)
class GaussianShape:
    """A Gaussian with one standard deviation per axis; separable, so that it blurs fast."""

    sigma_um: tuple[float, float, float]

    def axis_kernels(
        self, voxel_size_um: VoxelSizeUm, ndim: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the kernels along z, y and x; z is ``[1]`` for a 2-D image."""
        kz, ky, kx = (gaussian_kernel_1d(s) for s in _sigma_px(self.sigma_um, voxel_size_um, ndim))
        return (kz, ky, kx)

    def radius_px(self, voxel_size_um: VoxelSizeUm, ndim: int) -> tuple[int, int, int]:
        """Return the half widths of the kernel in pixels."""
        z, y, x = (k.size // 2 for k in self.axis_kernels(voxel_size_um, ndim))
        return (z, y, x)

    def kernel(self, voxel_size_um: VoxelSizeUm, ndim: int) -> FloatArray:
        """Return the outer product of the three axis kernels."""
        kz, ky, kx = (k.astype(np.float64) for k in self.axis_kernels(voxel_size_um, ndim))
        if kz.size * ky.size * kx.size > MAX_KERNEL_VOXELS:
            raise MethodError(
                f"a PSF of {kz.size} x {ky.size} x {kx.size} voxels does not fit into memory; "
                f"check its width ({self.sigma_um} µm) "
                "and the voxel size"
            )
        kernel = kz[:, None, None] * ky[None, :, None] * kx[None, None, :]
        return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def _check_grid(voxel_size_um: VoxelSizeUm, ndim: int) -> None:
    if ndim not in (2, 3):
        raise MethodError(
            f"a PSF has 2 or 3 dimensions, not {ndim}; give ndim=2 for an image, 3 for a stack"
        )
    if len(voxel_size_um) != 3 or not all(math.isfinite(v) and v > 0.0 for v in voxel_size_um):
        raise MethodError(
            f"the voxel size {tuple(voxel_size_um)} is not three positive lengths "
            "(z, y, x in µm); set it before asking for a PSF"
        )


@dataclass(frozen=True)
class Psf:
    """A point spread function in micrometres.

    Parameters
    ----------
    kind : str
        ``gaussian``, ``confocal``, ``widefield``, ``airy``, ``gibson_lanni`` or ``measured``.
    values : tuple of PsfValue
        The numbers it was made from, each with its origin.
    shape : PsfShape
        The distribution of light itself.
    """

    kind: str
    values: tuple[PsfValue, ...]
    shape: PsfShape

    @property
    def sigma_um(self) -> tuple[float, float, float]:
        """Standard deviation (z, y, x) in µm; if not Gaussian, of the fit through the peak."""
        return self.shape.sigma_um

    def sigma_px(self, voxel_size_um: VoxelSizeUm) -> tuple[float, float, float]:
        """Return :attr:`sigma_um` in pixels of the given size (z, y, x in µm)."""
        _check_grid(voxel_size_um, 3)
        return _sigma_px(self.sigma_um, voxel_size_um, 3)

    def kernel(self, voxel_size_um: VoxelSizeUm, ndim: int = 3) -> FloatArray:
        """Sample the PSF on a grid.

        Parameters
        ----------
        voxel_size_um : tuple of float
            (z, y, x).
        ndim : {3, 2}
            2 gives the plane in focus alone.

        Returns
        -------
        ndarray of float32, shape (Z, Y, X), or (1, Y, X) for ``ndim=2``
            Odd, centred on the middle voxel, sum one; less than 1e-4 of the light is outside.
        """
        _check_grid(voxel_size_um, ndim)
        return self.shape.kernel(voxel_size_um, ndim)

    def axis_kernels(
        self, voxel_size_um: VoxelSizeUm, ndim: int = 3
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """Return 1-D kernels (z, y, x) whose outer product is :meth:`kernel`, or None."""
        _check_grid(voxel_size_um, ndim)
        return (
            self.shape.axis_kernels(voxel_size_um, ndim)
            if isinstance(self.shape, GaussianShape)
            else None
        )

    def radius_px(self, voxel_size_um: VoxelSizeUm, ndim: int = 3) -> tuple[int, int, int]:
        """Return the half widths (z, y, x) of :meth:`kernel` in pixels."""
        _check_grid(voxel_size_um, ndim)
        return self.shape.radius_px(voxel_size_um, ndim)

    def describe(self) -> str:
        """Return one line: the kind, each number with its origin, and the resulting widths."""
        widths = " x ".join(f"{s:.3g}" for s in self.sigma_um)
        numbers = ", ".join(v.describe() for v in self.values)
        return f"{self.kind}: {numbers}; standard deviation {widths} µm (z, y, x)"


def _three_widths(widths_um: tuple[float, ...], name: str) -> tuple[float, float, float]:
    values = tuple(float(w) for w in widths_um)
    if len(values) not in (2, 3):
        raise MethodError(
            f"{name} has {len(values)} numbers; give three (z, y, x in µm), "
            "or two (y, x) for a 2-D image"
        )
    for value in values:
        if not (math.isfinite(value) and 0.0 < value <= MAX_SIGMA_UM):
            raise MethodError(
                f"{name} is {value:g} µm, allowed are more than 0 and at most {MAX_SIGMA_UM:g}; "
                "give it in micrometres"
            )
    z, y, x = values if len(values) == 3 else (0.0, *values)
    return (z, y, x)


def gaussian(sigma_um: tuple[float, ...], origin: PsfOrigin = "user") -> Psf:
    """Return a Gaussian PSF with the given standard deviations.

    Parameters
    ----------
    sigma_um : tuple of float
        Standard deviations (z, y, x) in µm, or (y, x) for a PSF that does not blur along z.
    origin : {'file', 'user', 'default'}
        Where the numbers came from.

    Raises
    ------
    MethodError
        A number is not positive or above 100 µm, or there are not two or three of them.
    """
    widths = _three_widths(sigma_um, "sigma_um")
    return Psf(
        "gaussian",
        (PsfValue("sigma_um", widths[-len(sigma_um) :], "µm", origin),),
        GaussianShape(widths),
    )


def gaussian_from_fwhm(fwhm_um: tuple[float, ...], origin: PsfOrigin = "user") -> Psf:
    """Return a Gaussian PSF from FWHM (z, y, x) or (y, x) in µm; sigma = FWHM / 2.3548."""
    widths = _three_widths(fwhm_um, "fwhm_um")
    z, y, x = (w / FWHM_PER_SIGMA for w in widths)
    return Psf(
        "gaussian",
        (PsfValue("fwhm_um", widths[-len(fwhm_um) :], "µm", origin),),
        GaussianShape((z, y, x)),
    )
