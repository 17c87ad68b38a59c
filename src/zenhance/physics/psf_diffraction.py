"""Scalar diffraction: the Airy pattern through focus, and Gibson-Lanni for a focus deep in tissue.

The integrals are those of the library psf-generator (Liu et al., EPFL, MIT licence; needs torch,
loaded on first use): the scalar Debye integral in spherical coordinates with the sine condition's
apodisation,

    E(r, z) = int_0^alpha  sqrt(cos t) exp(i k n z cos t + i W(t))  J0(k n r sin t)  sin t dt,

PSF = |E|^2, where W is the path difference of Gibson & Lanni, J. Opt. Soc. Am. A 9, 154 (1992). The
light of a wide-field PSF never ends: each plane holds as much as the plane in focus. The PSF is cut
axially at three zeros (2 n wavelength / NA^2 each), and laterally at six Airy radii or at the cone
of light, whichever is larger, and at 64 voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.physics.psf_base import Psf, PsfOrigin, VoxelSizeUm
from zenhance.physics.psf_models import check_optics, optical_values
from zenhance.physics.psf_sampled import fitted_sigma_um, trimmed
from zenhance.types import FloatArray

__all__ = ["DiffractionShape", "airy", "gibson_lanni"]

_AXIAL_ZEROS = 3.0
_AIRY_RADII = 6.0
_MAX_RADIUS_PX = 64
_ANGLES = 255
_COVERSLIP_N = 1.515
_COVERSLIP_UM = 170.0


@dataclass(frozen=True, slots=True)
class DiffractionShape:
    """Scalar diffraction at a focus ``depth_um`` deep in a medium of index ``n_sample``."""

    na: float
    n: float
    em_nm: float
    n_sample: float | None = None
    depth_um: float = 0.0

    def reach_um(self) -> tuple[float, float]:
        """Return how far the kernel goes along z and laterally."""
        wavelength_um = self.em_nm * 1e-3
        axial = _AXIAL_ZEROS * 2.0 * self.n * wavelength_um / self.na**2
        cone = axial * math.tan(math.asin(self.na / self.n))
        return axial, max(_AIRY_RADII * 0.61 * wavelength_um / self.na, 0.5 * cone)

    @property
    def sigma_um(self) -> tuple[float, float, float]:
        """Standard deviations of Gaussians fitted through the peak, sampled at 1/8 Airy radius."""
        step = 0.61 * self.em_nm * 1e-3 / self.na / 8.0
        voxel = (step * 2.0 * self.n / self.na, step, step)
        return fitted_sigma_um(self.kernel(voxel, 3), voxel)

    def radius_px(self, voxel_size_um: VoxelSizeUm, ndim: int) -> tuple[int, int, int]:
        """Return the half widths of the kernel in pixels."""
        z, y, x = (n // 2 for n in self.kernel(voxel_size_um, ndim).shape)
        return (z, y, x)

    def kernel(self, voxel_size_um: VoxelSizeUm, ndim: int) -> FloatArray:
        """Return the kernel on a grid, peak in the middle, sum one."""
        return _diffraction_kernel(self, tuple(voxel_size_um), ndim).copy()


@lru_cache(maxsize=4)
def _diffraction_kernel(
    shape: DiffractionShape, voxel_size_um: tuple[float, ...], ndim: int
) -> FloatArray:
    axial_um, lateral_um = shape.reach_um()
    dz, dy, dx = voxel_size_um
    radii = [
        min(_MAX_RADIUS_PX, math.ceil(r / v))
        for r, v in zip((axial_um, lateral_um, lateral_um), voxel_size_um, strict=True)
    ]
    shift_um = _focal_shift_um(shape, axial_um)
    if ndim == 2:
        radii[0] = 0
    # The library's pixels are square: if y and x differ, compute a finer square grid and sample it
    # at the voxel centres.
    step = min(dy, dx)
    half = max(math.ceil(radii[1] * dy / step), math.ceil(radii[2] * dx / step))
    planes = radii[0] + math.ceil(abs(shift_um) / dz) + (1 if shift_um else 0)
    intensity = _library_intensity(shape, 2 * half + 1, step, 2 * planes + 1, dz)
    offsets = np.arange(-radii[0], radii[0] + 1) + shift_um / dz + planes
    rows = np.arange(-radii[1], radii[1] + 1) * dy / step + half
    columns = np.arange(-radii[2], radii[2] + 1) * dx / step + half
    grid = np.meshgrid(offsets, rows, columns, indexing="ij")
    kernel = np.clip(ndimage.map_coordinates(intensity, grid, order=3, mode="nearest"), 0.0, None)
    return trimmed(kernel)


def _focal_shift_um(shape: DiffractionShape, axial_um: float) -> float:
    """Where along z the axis is brightest: index mismatch moves the focus."""
    if shape.n_sample is None or shape.depth_um == 0.0:
        return 0.0
    reach_um = axial_um + 0.3 * shape.depth_um
    count = 2 * math.ceil(reach_um / (axial_um / 60.0)) + 1
    step_um = 2.0 * reach_um / (count - 1)
    profile = _library_intensity(shape, 1, 1e-6, count, step_um)[:, 0, 0]
    peak = int(profile.argmax())
    return (peak - count // 2) * step_um


def _library_intensity(
    shape: DiffractionShape, pixels: int, pixel_um: float, planes: int, step_um: float
) -> npt.NDArray[np.float64]:
    """Return |E|^2 on ``planes`` x ``pixels`` x ``pixels`` points around the nominal focus.

    The library spreads ``n`` points over ``n`` steps, end to end, rounds the ends along z to whole
    units of length, and with Gibson-Lanni takes the sample's index for the immersion's. The lengths
    passed to it compensate for all three.
    """
    import torch
    from psf_generator import ScalarSphericalPropagator

    with_layers = shape.n_sample is not None
    scale = shape.n / shape.n_sample if shape.n_sample is not None else 1.0
    half_um = max(step_um * (planes - 1) / 2.0, 1e-3)
    unit_um = half_um * scale / 1e6
    layers = (
        {
            "gibson_lanni": True,
            "z_p": shape.depth_um / unit_um,
            "n_s": shape.n_sample,
            "n_g": _COVERSLIP_N,
            "n_g0": _COVERSLIP_N,
            "t_g": _COVERSLIP_UM / unit_um,
            "t_g0": _COVERSLIP_UM / unit_um,
            "t_i0": 100.0 / unit_um,
        }
        if with_layers
        else {}
    )
    propagator = ScalarSphericalPropagator(
        n_pix_pupil=_ANGLES,
        n_pix_psf=pixels,
        wavelength=shape.em_nm * 1e-3 / unit_um,
        na=shape.na,
        pix_size=pixel_um * scale / unit_um * max(pixels - 1, 1) / pixels,
        defocus_step=2e6 / planes if planes > 1 else 0.0,
        n_defocus=planes,
        apod_factor=True,
        n_i=shape.n,
        n_i0=shape.n,
        **layers,
    )
    with torch.no_grad():
        field = propagator.compute_focus_field()
    return np.asarray((field.abs() ** 2).double().sum(dim=1).cpu().numpy(), dtype=np.float64)


def airy(na: float, n: float, em_nm: float, origins: dict[str, PsfOrigin] | None = None) -> Psf:
    """Return the wide-field PSF of scalar diffraction without aberrations (Airy, with defocus).

    Parameters
    ----------
    na, n : float
        Numerical aperture, and refractive index of the immersion.
    em_nm : float
        Wavelength of emission in vacuum, in nm.
    origins : dict, optional
        Where each number came from; 'user' where not said.
    """
    check_optics(na=na, n=n, em_nm=em_nm)
    return Psf(
        "airy", optical_values(origins, na=na, n=n, em_nm=em_nm), DiffractionShape(na, n, em_nm)
    )


def gibson_lanni(
    na: float,
    n: float,
    em_nm: float,
    n_sample: float = 1.36,
    depth_um: float = 0.0,
    origins: dict[str, PsfOrigin] | None = None,
) -> Psf:
    """Return the wide-field PSF at a depth in a specimen of another index than the immersion's.

    Parameters
    ----------
    na, n, em_nm : float
        As for :func:`airy`.
    n_sample : float
        Refractive index of the specimen; about 1.36 for living plant tissue.
    depth_um : float
        Depth of the focus below the cover slip (170 µm, 1.515, as the objective was designed for).
    origins : dict, optional
        Where each number came from; 'user' where not said.

    References
    ----------
    Gibson, Lanni, J. Opt. Soc. Am. A 9, 154-166 (1992).
    """
    check_optics(na=na, n=n, em_nm=em_nm, n_sample=n_sample, depth_um=depth_um)
    values = optical_values(origins, na=na, n=n, em_nm=em_nm, n_sample=n_sample, depth_um=depth_um)
    return Psf("gibson_lanni", values, DiffractionShape(na, n, em_nm, n_sample, depth_um))
