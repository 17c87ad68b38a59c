"""How training volumes were measured: PSF and noise of each plane, in scaled intensities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from zenhance.contract.learner import Scaling
from zenhance.errors import RecipeError
from zenhance.io.beads import read_beads
from zenhance.physics.blur import Blur, BlurOperator
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.profile_blur import DepthBlur
from zenhance.physics.psf import Psf, gaussian
from zenhance.physics.psf_spec import resolve_psf
from zenhance.simulate.microscope import Specimen
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = [
    "OpticsOf",
    "PlaneOptics",
    "ToldPsf",
    "grown_psf",
    "optics_of_camera",
    "optics_of_specimen",
    "psf_for_learning",
    "told_of_specimen",
]

OpticsOf = Callable[[int], "PlaneOptics"]
"""Tells the optics of a plane of a volume."""
SAME_WIDTH = 0.02
TOLD_SPREAD = 0.15
"""How wrong the widths are that a user gives (log-normal): a network must not rely on them."""
DEPTHS = 6
"""So many depths of a simulated stack have optics of their own; planes between take the nearest."""


@dataclass(frozen=True, eq=False)
class PlaneOptics:
    """Optics of planes that were measured alike; see :class:`zenhance.contract.learner.Optics`.

    Parameters
    ----------
    parts : tuple of (float, Psf)
        Shares of the light, and how each is spread; scattered light is a second, wide part.
    voxel_size_um : tuple of float
        (z, y, x).
    dark : float
        Scaled intensity of a truth voxel without dye.
    base : float
        Expected scaled measurement where there is no dye: camera offset and stray light.
    no_photons : float
        Scaled measurement without any light.
    gain : float
        Scaled intensity per photon.
    read_noise : float
        Standard deviation, scaled.
    """

    parts: tuple[tuple[float, Psf], ...]
    voxel_size_um: tuple[float, float, float]
    dark: float
    base: float
    no_photons: float
    gain: float
    read_noise: float
    _blurs: dict[tuple[int, int, int, int, str], list[tuple[float, Blur]]] = field(
        default_factory=dict, repr=False
    )

    @property
    def sigma_px(self) -> tuple[float, float, float]:
        """Standard deviation of the first part's blur along z, y, x."""
        return self.parts[0][1].sigma_px(self.voxel_size_um)

    @property
    def turns(self) -> bool:
        """Whether a turn by 90 degrees keeps the blur: as wide along y as along x, in px."""
        _, y, x = (self.parts[0][1].sigma_um[axis] / self.voxel_size_um[axis] for axis in range(3))
        return abs(y - x) <= SAME_WIDTH * max(y, x)

    def expected(self, light: Tensor, finer: int = 1) -> Tensor:
        """Return the expected measurement of light (..., Z, finer Y, finer X) above ``dark``."""
        depth, height, width = light.shape[-3:]
        key = (depth, height, width, finer, str(light.device))
        if key not in self._blurs:
            z, y, x = self.voxel_size_um
            voxel, shape = (z, y / finer, x / finer), (depth, height, width)
            self._blurs[key] = [
                (w, Blur.from_psf(psf, voxel, shape, str(light.device))) for w, psf in self.parts
            ]
        with torch.autocast(light.device.type, enabled=False):
            exact = light.float().contiguous()
            seen = torch.stack([weight * blur(exact) for weight, blur in self._blurs[key]]).sum(0)
            return (seen if finer == 1 else avg_pool2d(seen, finer)) + self.base

    def variance(self, expected: Tensor) -> Tensor:
        """Return the variance of a measurement with this expectation: photons and read-out."""
        return self.gain * (expected - self.no_photons).clamp_min(0) + self.read_noise**2


def optics_of_camera(
    psf: Psf,
    noise: PoissonGauss,
    voxel_size_um: tuple[float, float, float],
    scaling: Scaling,
    depth: int = 1,
    growth: float = 1.0,
) -> OpticsOf:
    """Return the optics of a stack with a known PSF and noise; darkness is the background.

    Parameters
    ----------
    psf, noise : Psf, PoissonGauss
        Of the stack; the PSF is that of its middle plane.
    voxel_size_um : tuple of float
        (z, y, x).
    scaling : Scaling
        Of the stack.
    depth : int
        Its planes.
    growth : float
        Width of the PSF in the last plane over that in the first (:func:`grown_psf`).
    """
    offset = (noise.offset - scaling.offset) / scaling.span

    @cache
    def at(knot: int) -> PlaneOptics:
        shape = grown_psf(psf, growth, knot / (DEPTHS - 1))
        return PlaneOptics(
            ((1.0, shape),),
            voxel_size_um,
            0.0,
            0.0,
            offset,
            noise.gain / scaling.span,
            noise.read_noise / scaling.span,
        )

    return lambda z: at(round(z / max(depth - 1, 1) * (DEPTHS - 1)) if growth != 1 else 0)


def grown_psf(psf: Psf, growth: float, share: float) -> Psf:
    """Return the PSF at a share of the stack's depth, 0 ... 1.

    Its width grows evenly; midway it is that of the given one.

    Raises
    ------
    RecipeError
        The PSF is not Gaussian, so that it has no width to grow.
    """
    if growth == 1:
        return psf
    if psf.axis_kernels((1.0, 1.0, 1.0)) is None:
        raise RecipeError(
            "data.psf_growth needs a Gaussian point spread function; give data.psf as sigma_um or "
            "fwhm_um, or leave psf_growth out"
        )
    factor = 2 * (1 + share * (growth - 1)) / (1 + growth)
    return gaussian(tuple(s * factor for s in psf.sigma_um))


def optics_of_specimen(specimen: Specimen, scaling: Scaling) -> OpticsOf:
    """Return the optics of a simulated stack, with the blur and haze of each plane's depth."""
    microscope = specimen.microscope.settled()
    truth, depth = (
        np.asarray(specimen.truth.data, np.float64),
        np.asarray(specimen.depth_um.data, np.float64),
    )
    light = truth if truth.ndim == 3 else truth[0]
    light = light - microscope.offset
    weight = light.sum((1, 2))
    mean_um = np.where(
        weight > 0, (light * depth).sum((1, 2)) / np.maximum(weight, 1e-12), depth.mean((1, 2))
    )
    share = np.clip(mean_um / microscope.deep_at_um, 0, 1)
    z_um, y_um, x_um = specimen.measured.voxel_size.require()
    dark = (microscope.offset - scaling.offset) / scaling.span
    gain = microscope.gain / scaling.span
    base, read_noise = (
        dark + microscope.background_photons * gain,
        microscope.read_noise / scaling.span,
    )

    @cache
    def at(knot: int) -> PlaneOptics:
        deep = knot / (DEPTHS - 1)
        haze = deep * microscope.haze_deep
        parts = [(1 - haze, microscope.psf_at(deep * microscope.deep_at_um))]
        if haze > 0:
            parts.append((haze * microscope.haze_passed, gaussian(microscope.haze_sigma_um)))
        return PlaneOptics(tuple(parts), (z_um, y_um, x_um), dark, base, dark, gain, read_noise)

    return lambda z: at(round(float(share[z]) * (DEPTHS - 1)))


@dataclass(frozen=True, eq=False)
class ToldPsf:
    """What the user of a stack says of its blur: a PSF, or one at each of several depths.

    Parameters
    ----------
    psfs : tuple of Psf
        One a knot.
    knots_um : tuple of float
        Depths, ascending.
    depth_um : float32 array (Z, Y, X), optional
        Of each voxel, where there are several knots.
    """

    psfs: tuple[Psf, ...]
    knots_um: tuple[float, ...] = (0.0,)
    depth_um: FloatArray | None = None

    def blur(
        self, voxel_size_um: tuple[float, float, float], shape_px: tuple[int, int, int]
    ) -> BlurOperator:
        """Return the blur of a volume."""
        if self.depth_um is None:
            return Blur.from_psf(self.psfs[0], voxel_size_um, shape_px)
        return DepthBlur.from_psfs(self.psfs, self.knots_um, self.depth_um, voxel_size_um)

    def sigma_px(
        self, voxel_size_um: tuple[float, float, float], shape_px: tuple[int, int, int]
    ) -> Tensor:
        """Return the widths (2, Z, Y, X) along z, and along y and x; 0 along z in one plane."""
        widths = np.array([psf.sigma_px(voxel_size_um)[:2] for psf in self.psfs], np.float32)
        if shape_px[0] == 1:
            widths[:, 0] = 0
        depth = np.zeros((1, 1, 1)) if self.depth_um is None else self.depth_um
        found = [np.interp(depth, self.knots_um, widths[:, axis]) for axis in (0, 1)]
        return torch.from_numpy(np.stack(found).astype(np.float32))


def told_of_specimen(specimen: Specimen, rng: np.random.Generator) -> ToldPsf:
    """Return what a user may say of a simulated stack's blur, somewhat wrong.

    Often by depth, as a measured profile tells it; else the PSF of the surface, or of the middle of
    the light.
    """
    scope = specimen.microscope.settled()
    wrong = np.exp(rng.normal(0, TOLD_SPREAD, 2))

    def told(psf: Psf) -> Psf:
        z, y, x = psf.sigma_um
        return gaussian((z * wrong[0], y * wrong[1], x * wrong[1]))

    way = rng.random()
    if scope.psf is not None:
        return ToldPsf((specimen.psf_mean if way < 0.5 else told(specimen.psf_mean),))
    if way < 0.4 and specimen.measured.volume_shape[0] > 1:
        knots = tuple(np.linspace(0, scope.deep_at_um, 3).tolist())
        psfs = tuple(told(scope.psf_at(depth)) for depth in knots)
        return ToldPsf(psfs, knots, np.asarray(specimen.depth_um.data, np.float32))
    return ToldPsf((told(specimen.psf_shallow if way > 0.8 else specimen.psf_mean),))


def psf_for_learning(stack: Stack, channel: int, psf: str | None) -> Psf:
    """Return the PSF to learn a stack with: the recipe's, else the file's, else the default."""
    return resolve_psf(
        psf,
        stack.metadata,
        3 if "Z" in stack.axes else 2,
        channel=channel,
        read_measured=read_beads,
    )
