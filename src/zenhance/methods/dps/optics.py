"""What is fixed in a network of DPS: its settings, its PSF, and the inversion that it begins with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import Module

from zenhance.contract.settings import validate
from zenhance.errors import RecipeError
from zenhance.methods.dps.network import SMOOTH_PX, ResUDbpn, Smooth, enlarged, pooled
from zenhance.physics.blur import Blur
from zenhance.physics.psf import gaussian, gaussian_from_fwhm, sr_psf_from_fwhm
from zenhance.physics.psf_base import Psf

__all__ = [
    "INVERSION_REACH_PX",
    "PEDESTAL",
    "DpsArchitecture",
    "Inversion",
    "checked",
    "fine_blur",
    "left_blur",
    "measured_from",
    "network_psf",
]

PEDESTAL = 0.03
"""Light that is added to both sides of a step, as a share of the range, so that dark noise is not divided by."""
INVERSION_REACH_PX = 58
"""Pixels further away change its estimates by less than 1e-5 of the range; and the reach of the PSF by which light is kept."""
INVERSION_WIDTHS = 3.0
"""So many widths of the PSF on either side are used by the inversion."""
FLAT_SHARE = 0.05
"""Gradient that counts as none in total variation, as a share of the local brightness."""
TINY = 1e-6
SAME = 0.05
"""PSF widths that differ by less than this share are taken for equal."""
ZOOMS = (0.1, 2.5)
"""An image is resampled by at most so much; a PSF narrower than the camera can show gains nothing by more."""


class DpsArchitecture(BaseModel):
    """What a recipe says of the network and of what it learns; frozen, unknown keys refused. Weights are of means per pixel."""

    model_config = {"frozen": True, "extra": "forbid"}

    module: Literal["extend", "denoise", "reconstruct", "artefacts"] = Field(
        "extend", description="what the network is for"
    )
    features: int = Field(24, ge=4, le=64, description="channels of the trunk at full size")
    head: int = Field(16, ge=4, le=64, description="channels of the back-projection units")
    psf: Literal["srpsf", "gaussian"] = Field(
        "srpsf", description="shape of the PSF that is fixed in the network"
    )
    fwhm_px: float = Field(
        3.0, ge=2.8, le=8, description="its full width at half maximum in input pixels"
    )
    inversion: tuple[Annotated[int, Field(ge=1, le=400)], ...] = Field(
        (8, 16, 32),
        min_length=1,
        max_length=8,
        description="steps of Richardson-Lucy after which its estimate is looked at",
    )
    variation: float = Field(
        0.01,
        ge=0,
        le=0.1,
        description="weight of total variation in one more estimate, after the last steps but one; 0 leaves it out",
    )
    planes: int = Field(
        1, ge=1, le=9, description="planes of a training patch, for continuity along the third axis"
    )
    ssim: float = Field(1.0, ge=0, description="weight of 1 - SSIM")
    intensity: float = Field(1.0, ge=0, description="weight of the mean absolute difference")
    spectrum: float = Field(
        0.0, ge=0, description="weight of the mean absolute difference of spectra"
    )
    perceptual: float = Field(
        0.0, ge=0, description="weight of the mean squared difference of a network's features"
    )
    features_from: str = Field(
        "",
        description="safetensors file of VGG16 in torchvision's layout; left out, the trunk of dps_stack",
    )
    hessian: float = Field(1e-3, ge=0, description="weight of the Hessian term")
    continuity: float = Field(
        0.5, ge=0, le=4, description="sigma, weight of the third axis in the Hessian term"
    )
    sparsity: float = Field(1e-3, ge=0, description="weight of the plain L1 norm")
    concentration: float = Field(0.0, ge=0, description="weight of the reweighted L1 norm")
    floor: float = Field(0.1, gt=0, description="intensity below which light counts as none in it")
    again: float = Field(
        1.0,
        ge=0,
        description="weight of finding the light of a measurement again when it is measured again; 0 for none",
    )
    left_px: float = Field(
        0.15,
        ge=0,
        le=2,
        description="standard deviation of the blur that is left in that light, in input pixels",
    )
    refined: int = Field(
        200,
        ge=1,
        le=400,
        description="Richardson-Lucy steps, at most, by which that light is found",
    )
    coarse: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of patches seen as by a camera of larger pixels and resampled, as in a run",
    )
    photons: tuple[float, float] = Field(
        (15.0, 1000.0), description="range of peak photons that inputs are thinned to"
    )


def checked(architecture: Mapping[str, Any]) -> DpsArchitecture:
    """Return the architecture of a recipe or a card."""
    return validate(DpsArchitecture, architecture, "architecture key", RecipeError)


def network_psf(a: DpsArchitecture) -> Psf:
    """Return the PSF that a network has learnt, with an input pixel as its micrometre."""
    return (
        sr_psf_from_fwhm(a.fwhm_px)
        if a.psf == "srpsf"
        else gaussian_from_fwhm((a.fwhm_px, a.fwhm_px))
    )


@cache
def fine_blur(a: DpsArchitecture) -> Blur:
    psf = network_psf(a)
    return Blur.from_kernel(psf.kernel((1.0, 0.5, 0.5), 2)[0])


@dataclass(frozen=True)
class Measure:
    """The microscope of a network, as a function of light."""

    architecture: DpsArchitecture

    def __call__(self, light: Tensor) -> Tensor:
        """Return :func:`measured_from` of it."""
        return measured_from(light, self.architecture)


def build_network(a: DpsArchitecture) -> ResUDbpn:
    """Return a new network; those that take blur away have an inversion, and their microscope to keep light by."""
    if a.module not in ("extend", "reconstruct"):
        return ResUDbpn(a.features, a.head)
    return ResUDbpn(
        a.features,
        a.head,
        Inversion(a),
        len(a.inversion) + (a.variation > 0),
        Measure(a) if a.module == "extend" else None,
    )


class Inversion(Module):
    """Accelerated Richardson-Lucy with the network's PSF on the fine grid, and its estimates after some of the steps; nothing is learnt.

    The step goes from ``p_k = x_k + (k - 1) / (k + 2) (x_k - x_k-1)`` (Nesterov 1983). What is added to both sides of a step is a share of
    the local brightness, so that k times the image gives k times the estimates.
    """

    def __init__(self, a: DpsArchitecture) -> None:
        super().__init__()
        self.architecture: Any = a
        self.brightness = Smooth(SMOOTH_PX)

    def forward(self, y: Tensor) -> Tensor:
        """Map images (B, 1, Y, X) to estimates (B, number, 2 Y, 2 X)."""
        with torch.no_grad(), torch.autocast(y.device.type, enabled=False):
            image = y.detach().float()
            a = cast(DpsArchitecture, self.architecture)
            begun, pedestal = self.begin(image)
            found = list(closer(begun, image, a, a.inversion, pedestal))
            if a.variation:
                found[:0] = closer(
                    begun,
                    image,
                    a,
                    a.inversion[-2:][:1],
                    pedestal,
                    FLAT_SHARE * enlarged(self.brightness(image.abs()) + TINY),
                )
            return torch.cat(found, 1)

    def begin(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first estimate of an image, smooth, and the pedestal."""
        pedestal = PEDESTAL * self.brightness(image.abs()) + TINY
        return enlarged(self.brightness(image).clamp_min(0) + pedestal), pedestal


@cache
def _inner_blur(a: DpsArchitecture) -> Blur:
    """The middle of the PSF on the fine grid: its peak and first rings, which are what can be inverted."""
    kernel = network_psf(a).kernel((1.0, 0.5, 0.5), 2)[0]
    middle, reach = kernel.shape[0] // 2, round(2 * INVERSION_WIDTHS * a.fwhm_px)
    part = slice(max(0, middle - reach), middle + reach + 1)
    return Blur.from_kernel(kernel[part, part])


def curvature(x: Tensor, flat: Tensor) -> Tensor:
    """Return the divergence of the normalised gradient of images (N, 1, Y, X); gradients below ``flat`` count as none.

    Notes
    -----
    Forward differences and their exact adjoint (Dey et al., Microsc. Res. Tech. 69:260, 2006); within ± 4.
    """
    down, across = x.diff(dim=-2, append=x[..., -1:, :]), x.diff(dim=-1, append=x[..., -1:])
    norm = (down.square() + across.square() + flat.square()).rsqrt_()
    down, across = down * norm, across * norm
    return down.diff(dim=-2, prepend=torch.zeros_like(x[..., :1, :])) + across.diff(
        dim=-1, prepend=torch.zeros_like(x[..., :1])
    )


def closer(
    light: Tensor,
    y: Tensor,
    a: DpsArchitecture,
    steps: Sequence[int],
    pedestal: Tensor | float,
    flat: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield what becomes of an estimate after some of the accelerated Richardson-Lucy steps towards its measurement.

    Parameters
    ----------
    light : Tensor (N, 1, 2 Y, 2 X)
        The estimate, nowhere negative.
    y : Tensor (N, 1, Y, X)
        The measurement.
    a : DpsArchitecture
        Names the PSF.
    steps : sequence of int
        After which to yield.
    pedestal : Tensor or float
        What is added to both sides.
    flat : Tensor, optional
        Gradient (N, 1, 2 Y, 2 X) that counts as none: then each step also evens the estimate out, by total variation with the
        architecture's ``variation`` as weight.
    """
    blur = _inner_blur(a)
    x = before = light.contiguous()
    data = (y + pedestal).clamp_min(0)
    for k in range(1, max(steps, default=0) + 1):
        point = torch.lerp(before, x, 1 + (k - 1) / (k + 2)).clamp_min(0)
        ratio = data / (pooled(blur(point)) + pedestal)
        before, x = (
            x,
            point
            * blur.adjoint(ratio.repeat_interleave(2, -1).repeat_interleave(2, -2).contiguous()),
        )
        if flat is not None:
            x = x / (1 - a.variation * curvature(point, flat)).clamp(0.5, 1.5)
        if k in steps:
            yield x


@cache
def left_blur(a: DpsArchitecture) -> Blur:
    """Return the narrow blur that estimates keep, on the fine grid."""
    return Blur.from_psf(gaussian((2 * a.left_px, 2 * a.left_px)), (1.0, 1.0, 1.0), (1, 64, 64))


def measured_from(light: Tensor, a: DpsArchitecture) -> Tensor:
    """Return what the microscope shows of light (N, 1, 2 Y, 2 X): blurred, and binned to (N, 1, Y, X)."""
    with torch.autocast(light.device.type, enabled=False):
        return pooled(fine_blur(a)(light.float().contiguous()))


def zoom_between(sigma_px: float, network_sigma_px: float) -> float:
    """Return how many pixels of the network's grid a pixel of an image becomes, from the PSF's width in both."""
    zoom = network_sigma_px / max(sigma_px, 1e-6)
    if abs(zoom - 1) <= SAME:
        return 1.0
    return min(max(zoom, ZOOMS[0]), ZOOMS[1])
