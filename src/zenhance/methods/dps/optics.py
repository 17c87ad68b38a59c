"""The fixed parts of a DPS network: its settings, its PSF and its inversion."""

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
"""Share of the local brightness added to both sides of a step, against division by noise."""
INVERSION_REACH_PX = 58
"""Distance beyond which pixels change estimates by less than 1e-5 of the range, PSF included."""
INVERSION_WIDTHS = 3.0
"""Radius of the inversion's PSF, in full widths at half maximum."""
FLAT_SHARE = 0.05
"""Gradient that counts as 0 in total variation, as a share of the local brightness."""
TINY = 1e-6
SAME = 0.05
"""PSF widths that differ by less than this share count as equal."""
ZOOMS = (0.1, 2.5)
"""Smallest and largest zoom of an image to the network's grid."""


class DpsArchitecture(BaseModel):
    """A recipe's settings of network and loss; frozen, unknown keys refused."""

    model_config = {"frozen": True, "extra": "forbid"}

    module: Literal["extend", "denoise", "reconstruct", "artefacts"] = Field(
        "extend", description="step of the network"
    )
    features: int = Field(24, ge=4, le=64, description="channels of the trunk at full size")
    head: int = Field(16, ge=4, le=64, description="channels of the back-projection units")
    psf: Literal["srpsf", "gaussian"] = Field("srpsf", description="shape of the network's PSF")
    fwhm_px: float = Field(
        3.0, ge=2.8, le=8, description="its full width at half maximum in input pixels"
    )
    inversion: tuple[Annotated[int, Field(ge=1, le=400)], ...] = Field(
        (8, 16, 32),
        min_length=1,
        max_length=8,
        description="steps of the Richardson-Lucy estimates",
    )
    variation: float = Field(
        0.01,
        ge=0,
        le=0.1,
        description="weight of total variation in one more estimate, with the last steps but one; "
        "0 for none",
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
        description="safetensors file of VGG16 in torchvision's layout; "
        "default the trunk of dps_stack",
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
        description="weight of the difference from the light of a resimulated input; 0 for none",
    )
    left_px: float = Field(
        0.15,
        ge=0,
        le=2,
        description="standard deviation of the blur that remains in that light, in input pixels",
    )
    refined: int = Field(
        200,
        ge=1,
        le=400,
        description="most Richardson-Lucy steps of that light",
    )
    coarse: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of patches simulated with larger pixels and resampled, as in a run",
    )
    photons: tuple[float, float] = Field(
        (15.0, 1000.0), description="range of peak photons of resimulated inputs"
    )


def checked(architecture: Mapping[str, Any]) -> DpsArchitecture:
    """Return the architecture of a recipe or a card."""
    return validate(DpsArchitecture, architecture, "architecture key", RecipeError)


def network_psf(a: DpsArchitecture) -> Psf:
    """Return a network's PSF, with the input pixel as its micrometre."""
    return (
        sr_psf_from_fwhm(a.fwhm_px)
        if a.psf == "srpsf"
        else gaussian_from_fwhm((a.fwhm_px, a.fwhm_px))
    )


@cache
def fine_blur(a: DpsArchitecture) -> Blur:
    """Return the blur of a network's PSF on the fine grid."""
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
    """Return a new network; with an inversion and a microscope if it deblurs."""
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
    """Accelerated Richardson-Lucy with the network's PSF on the fine grid; nothing is trained.

    A step starts from ``p_k = x_k + (k - 1) / (k + 2) (x_k - x_k-1)`` (Nesterov 1983). A share of
    the local brightness is added to both sides, so that k times the image gives k times the
    estimates.
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
        """Return the first, smooth estimate of an image, and the pedestal."""
        pedestal = PEDESTAL * self.brightness(image.abs()) + TINY
        return enlarged(self.brightness(image).clamp_min(0) + pedestal), pedestal


@cache
def _inner_blur(a: DpsArchitecture) -> Blur:
    """Return the blur of the PSF's peak and first rings on the fine grid."""
    kernel = network_psf(a).kernel((1.0, 0.5, 0.5), 2)[0]
    middle, reach = kernel.shape[0] // 2, round(2 * INVERSION_WIDTHS * a.fwhm_px)
    part = slice(max(0, middle - reach), middle + reach + 1)
    return Blur.from_kernel(kernel[part, part])


def curvature(x: Tensor, flat: Tensor) -> Tensor:
    """Return the divergence of the normalised gradient of images (N, 1, Y, X).

    Notes
    -----
    Gradients below ``flat`` count as 0. Forward differences and their exact adjoint (Dey et al.,
    Microsc. Res. Tech. 69:260, 2006); within ± 4.
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
    """Yield the estimate after some accelerated Richardson-Lucy steps.

    Parameters
    ----------
    light : Tensor (N, 1, 2 Y, 2 X)
        The first estimate, not negative.
    y : Tensor (N, 1, Y, X)
        The measurement.
    a : DpsArchitecture
        Defines the PSF.
    steps : sequence of int
        Numbers of steps after which to yield.
    pedestal : Tensor or float
        Added to both sides of a step.
    flat : Tensor, optional
        Gradient (N, 1, 2 Y, 2 X) that counts as 0; adds total variation with the architecture's
        ``variation`` as weight. Default without.
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
    """Return the narrow blur that remains in estimates, on the fine grid."""
    return Blur.from_psf(gaussian((2 * a.left_px, 2 * a.left_px)), (1.0, 1.0, 1.0), (1, 64, 64))


def measured_from(light: Tensor, a: DpsArchitecture) -> Tensor:
    """Return the image (N, 1, Y, X) of light (N, 1, 2 Y, 2 X): blurred and binned."""
    with torch.autocast(light.device.type, enabled=False):
        return pooled(fine_blur(a)(light.float().contiguous()))


def zoom_between(sigma_px: float, network_sigma_px: float) -> float:
    """Return the zoom from an image to the network's grid that makes the PSF widths equal."""
    zoom = network_sigma_px / max(sigma_px, 1e-6)
    if abs(zoom - 1) <= SAME:
        return 1.0
    return min(max(zoom, ZOOMS[0]), ZOOMS[1])
