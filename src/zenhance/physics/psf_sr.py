"""The in-focus diffraction pattern with a modulation factor, for resolution beyond the objective.

.. math:: h(r) = \\left[\\frac{2 J_1(u)}{u}\\right]^2,
          \\qquad u = \\frac{2 \\pi\\, m_f\\, NA\\, r}{\\lambda}

The factor m_f multiplies the numerical aperture: 1 for a wide-field image, sqrt(2) for a confocal
one with a closed pinhole (the product of two such patterns has half their width squared at the
peak), about 2 for structured illumination.

Source: slides on Ye et al., Intelligent Computing 3:0082 (2024), doi 10.34133/icomputing.0082. The
model is planar: the kernel is one plane high, for a stack as for an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import j1

from zenhance.errors import MethodError
from zenhance.physics.psf_base import Psf, PsfOrigin, VoxelSizeUm
from zenhance.physics.psf_models import check_optics, optical_values
from zenhance.physics.psf_sampled import fitted_sigma_um
from zenhance.types import FloatArray

__all__ = ["FIRST_ZERO_U", "HALF_U", "MODULATION", "SrShape", "sr_psf", "sr_psf_from_fwhm"]

HALF_U = 1.6163399561
"""Where the pattern has fallen to one half."""
FIRST_ZERO_U = 3.8317059702
"""First zero of J1: the Rayleigh distance."""
MODULATION = {"widefield": 1.0, "confocal": math.sqrt(2.0), "sim": 2.0}
"""The factor m_f of each kind of microscope."""
# 5 % of the light is beyond four dark rings, and no feasible cut leaves less than 1 %: the kernel
# is scaled to sum one.
_ZERO_RADII = 5.0
_MAX_RADIUS_PX = 64
_SAMPLES = 7
"""Gauss points along a pixel, over whose area the pattern is averaged; more for wide pixels."""


def _pattern(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    safe = np.where(np.abs(u) < 1e-6, 1.0, u)
    return np.asarray(np.where(np.abs(u) < 1e-6, 1.0, 2.0 * j1(safe) / safe) ** 2)


@dataclass(frozen=True, slots=True)
class SrShape:
    """The pattern on a plane; ``wave_um`` is the wavelength over m_f NA, in µm."""

    wave_um: float

    @property
    def fwhm_um(self) -> float:
        """Full width at half maximum: 0.5145 wavelengths over m_f NA."""
        return HALF_U / math.pi * self.wave_um

    @property
    def rayleigh_um(self) -> float:
        """Radius of the first dark ring: 0.61 wavelengths over m_f NA."""
        return FIRST_ZERO_U / (2.0 * math.pi) * self.wave_um

    @property
    def sigma_um(self) -> tuple[float, float, float]:
        """Standard deviations (z, y, x) of the Gaussian fitted through the peak; 0 along z."""
        step = self.rayleigh_um / 10.0
        _, y, x = fitted_sigma_um(_kernel(self, step, step), (1.0, step, step))
        return (0.0, y, x)

    def radius_px(self, voxel_size_um: VoxelSizeUm, ndim: int) -> tuple[int, int, int]:
        """Return the half widths of the kernel in pixels."""
        reach = _ZERO_RADII * self.rayleigh_um
        y, x = (min(_MAX_RADIUS_PX, max(1, math.ceil(reach / v))) for v in voxel_size_um[1:])
        return (0, y, x)

    def kernel(self, voxel_size_um: VoxelSizeUm, ndim: int) -> FloatArray:
        """Return the kernel (1, Y, X), averaged over the area of each pixel, sum one."""
        return _kernel(self, voxel_size_um[1], voxel_size_um[2]).copy()


@lru_cache(maxsize=8)
def _kernel(shape: SrShape, dy: float, dx: float) -> FloatArray:
    _, ry, rx = shape.radius_px((1.0, dy, dx), 2)
    per_um = 2.0 * math.pi / shape.wave_um
    total = np.zeros((2 * ry + 1, 2 * rx + 1))
    down, right = (_gauss(v * per_um) for v in (dy, dx))
    for shift_y, weight_y in zip(*down, strict=True):
        y = (np.arange(-ry, ry + 1) + shift_y) * dy
        for shift_x, weight_x in zip(*right, strict=True):
            x = (np.arange(-rx, rx + 1) + shift_x) * dx
            total += weight_y * weight_x * _pattern(per_um * np.hypot(y[:, None], x[None]))
    # Exactly symmetric, so that the blur is its own adjoint.
    total = total + total[::-1]
    total = total + total[:, ::-1]
    return np.ascontiguousarray((total / total.sum())[None], np.float32)


def _gauss(step_u: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return places in a pixel (-1/2 ... 1/2) and their weights; a pixel may span several rings."""
    places, weights = np.polynomial.legendre.leggauss(max(_SAMPLES, math.ceil(3.0 * step_u)))
    return places / 2.0, weights / 2.0


def sr_psf(
    na: float, em_nm: float, m_f: float = 1.0, origins: dict[str, PsfOrigin] | None = None
) -> Psf:
    """Return the pattern of an objective with a modulation factor.

    Parameters
    ----------
    na : float
        Numerical aperture of the objective.
    em_nm : float
        Wavelength of the light that is detected, in nm.
    m_f : float
        Modulation factor, 0.5 to 4; see :data:`MODULATION`.
    origins : dict, optional
        Where each number came from; 'user' where not said.

    Raises
    ------
    MethodError
        A number is outside what a light microscope has.
    """
    check_optics(na=na, em_nm=em_nm)
    if not (math.isfinite(m_f) and 0.5 <= m_f <= 4.0):
        raise MethodError(
            f"m_f is {m_f:g}, allowed are 0.5 to 4; "
            "1 is a wide-field image, 2 structured illumination"
        )
    values = optical_values(origins, na=na, em_nm=em_nm, m_f=m_f)
    return Psf("srpsf", values, SrShape(em_nm * 1e-3 / (m_f * na)))


def sr_psf_from_fwhm(fwhm_um: float, origin: PsfOrigin = "user") -> Psf:
    """Return the pattern with a given full width at half maximum in µm."""
    if not (math.isfinite(fwhm_um) and 0.0 < fwhm_um <= 100.0):
        raise MethodError(
            f"the width is {fwhm_um:g} µm, allowed are more than 0 and at most 100; "
            "give it in micrometres"
        )
    return Psf(
        "srpsf",
        optical_values({"fwhm_um": origin}, fwhm_um=fwhm_um),
        SrShape(math.pi * fwhm_um / HALF_U),
    )
