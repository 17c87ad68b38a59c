"""Learning to extend resolution from measurements alone, and the three learnt modules around it.

::

    module        the network's image is compared                                    with
    extend        blurred by the PSF that the architecture fixes, binned by 2        the measurement              no truth
    denoise       binned by 2                                                        the truth, or the measurement where there is none
    reconstruct   as it is, on the grid twice as fine                                the truth
    artefacts     through the features of a network that has learnt to see           the truth

A network that is compared with the noisy measurement it was given gains by repeating noise. ``extend`` is therefore given something else:
its own estimate, brought closer to the measurement by some Richardson-Lucy steps, and measured again with fewer photons::

    y ──► network ──► Richardson-Lucy steps towards y ──► x ──► measured again with 15 ... 1000 photons ──► network ──► x'
                                                          └────────────── again · |x' - x| ──────────────────────────────┤
    y ◄────────────────────────── 1 - SSIM, intensity ──────────────────────────── blurred ◄───────────────────────────┘

``denoise`` shares noise out between input and target so that the two are independent (Pang et al., CVPR (2021)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learning import Batch, Optics
from zenhance.contract.settings import validate
from zenhance.errors import RecipeError
from zenhance.nets.res_u_dbpn import MULTIPLE, SMOOTH_PX, ResUDbpn, Smooth, pooled
from zenhance.nets.sparse_losses import fourier_difference, hessian, light_concentration, structural_difference
from zenhance.physics.blur import Blur
from zenhance.physics.psf import gaussian_from_fwhm, sr_psf_from_fwhm
from zenhance.physics.psf_base import Psf

__all__ = ["DpsArchitecture", "DpsLearner", "network_psf"]

# Of a patch, so many pixels at its rim see light from outside of it and are not compared.
RIM_PX = 8
SHARED = 0.7
"""How noise is shared out between input and target: y + a n and y - n / a."""


PHOTONS_A_STEP = 40.0
"""Peak photons of a measurement that allow for one more step towards it: steps beyond would follow its noise."""
PEDESTAL = 0.03
"""Light that is added to both sides of a step, as a share of the range, so that dark noise is not divided by."""
INVERSION_RADIUS_PX = 8
"""Of the PSF, so much is used by the inversion within the network: main peak and first ring."""
INVERSION_REACH_PX = 40
"""Pixels further away change its estimates by less than 1e-5 of the range."""
TINY = 1e-6


class DpsArchitecture(BaseModel):
    """What a recipe says of the network and of what it learns; frozen, unknown keys refused. Weights are of means per pixel."""

    model_config = {"frozen": True, "extra": "forbid"}

    module: Literal["extend", "denoise", "reconstruct", "artefacts"] = Field("extend", description="what the network is for")
    features: int = Field(24, ge=4, le=64, description="channels of the trunk at full size")
    head: int = Field(16, ge=4, le=64, description="channels of the back-projection units")
    psf: Literal["srpsf", "gaussian"] = Field("srpsf", description="shape of the PSF that is fixed in the network")
    fwhm_px: float = Field(3.0, ge=1.5, le=8, description="its full width at half maximum in input pixels")
    inversion: tuple[int, ...] = Field(
        (8, 16, 32), min_length=1, description="steps of Richardson-Lucy after which its estimate is looked at"
    )
    planes: int = Field(1, ge=1, le=9, description="planes of a training patch, for continuity along the third axis")
    ssim: float = Field(1.0, ge=0, description="weight of 1 - SSIM")
    intensity: float = Field(1.0, ge=0, description="weight of the mean absolute difference")
    spectrum: float = Field(0.0, ge=0, description="weight of the mean absolute difference of spectra")
    features_loss: float = Field(0.0, ge=0, description="weight of the perceptual difference, of artefacts alone")
    hessian: float = Field(1e-3, ge=0, description="weight of the Hessian term")
    continuity: float = Field(0.5, ge=0, le=4, description="sigma, weight of the third axis in the Hessian term")
    sparsity: float = Field(1e-3, ge=0, description="weight of the plain L1 norm")
    concentration: float = Field(0.0, ge=0, description="weight of the reweighted L1 norm")
    floor: float = Field(0.1, gt=0, description="intensity below which light counts as none in it")
    again: float = Field(1.0, ge=0, description="weight of the estimate found again when it is measured again; 0 leaves this out")
    refined: int = Field(10, ge=0, le=100, description="Richardson-Lucy steps that bring the estimate closer to the measurement before")
    photons: tuple[float, float] = Field((15.0, 1000.0), description="range of peak photons that inputs are thinned to")


def checked(architecture: Mapping[str, Any]) -> DpsArchitecture:
    """Return the architecture of a recipe or a card."""
    return validate(DpsArchitecture, architecture, "architecture key", RecipeError)


def network_psf(a: DpsArchitecture) -> Psf:
    """Return the PSF that a network has learnt, with an input pixel as its micrometre."""
    return sr_psf_from_fwhm(a.fwhm_px) if a.psf == "srpsf" else gaussian_from_fwhm((a.fwhm_px, a.fwhm_px))


@cache
def _fine_blur(a: DpsArchitecture) -> Blur:
    psf = network_psf(a)
    return Blur.from_kernel(psf.kernel((1.0, 0.5, 0.5), 2)[0])


@cache
def _inner_blur(a: DpsArchitecture) -> Blur:
    """The middle of the PSF on the input's grid."""
    kernel = network_psf(a).kernel((1.0, 1.0, 1.0), 2)[0]
    middle = kernel.shape[0] // 2
    part = slice(max(0, middle - INVERSION_RADIUS_PX), middle + INVERSION_RADIUS_PX + 1)
    return Blur.from_kernel(kernel[part, part])


class Inversion(Module):
    """Accelerated Richardson-Lucy with the network's PSF, and its estimates after some of the steps; nothing in it is learnt.

    The step goes from ``p_k = x_k + (k - 1) / (k + 2) (x_k - x_k-1)`` (Nesterov 1983). What is added to both sides of a step is a share of
    the local brightness, so that k times the image gives k times the estimates.
    """

    def __init__(self, a: DpsArchitecture) -> None:
        super().__init__()
        self.architecture: Any = a
        self.brightness = Smooth(SMOOTH_PX)

    def forward(self, y: Tensor) -> Tensor:
        """Map images (B, 1, Y, X) to estimates (B, number, Y, X)."""
        with torch.no_grad(), torch.autocast(y.device.type, enabled=False):
            return self._estimates(y.detach().float())

    def _estimates(self, y: Tensor) -> Tensor:
        a = cast(DpsArchitecture, self.architecture)
        blur, steps = _inner_blur(a), a.inversion
        pedestal = PEDESTAL * self.brightness(y.abs()) + TINY
        data = (y + pedestal).clamp_min(0)
        x = before = self.brightness(y).clamp_min(0) + pedestal
        kept = []
        for k in range(1, max(steps) + 1):
            point = torch.lerp(before, x, 1 + (k - 1) / (k + 2)).clamp_min(0)
            ratio = data / (blur(point.contiguous()) + pedestal)
            before, x = x, point * blur.adjoint(ratio)
            if k in steps:
                kept.append(x)
        return torch.cat(kept, 1)


def measured_from(light: Tensor, a: DpsArchitecture) -> Tensor:
    """Return what the microscope shows of light (N, 1, 2 Y, 2 X): blurred, and binned to (N, 1, Y, X)."""
    with torch.autocast(light.device.type, enabled=False):
        return pooled(_fine_blur(a)(light.float().contiguous()))


class DpsLearner:
    """Learns one of the modules."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network.

        Raises
        ------
        RecipeError
            The architecture has an unknown key or a value out of range.
        """
        a = checked(architecture)
        deblurs = a.module in ("extend", "reconstruct")
        network: Any = ResUDbpn(a.features, a.head, Inversion(a), len(a.inversion)) if deblurs else ResUDbpn(a.features, a.head)
        network.architecture = a
        return cast(Module, network.to(memory_format=torch.channels_last))

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> tuple[int, int, int]:
        """Return (planes, size, size).

        Raises
        ------
        RecipeError
            The size is no multiple of 4, or hardly larger than the rim that is not compared.
        """
        if size_px % MULTIPLE or size_px < 4 * RIM_PX:
            raise RecipeError(f"patch_px is {size_px}; give a multiple of {MULTIPLE}, at least {4 * RIM_PX}")
        return (checked(architecture).planes, size_px, size_px)

    def needs_truth(self, architecture: Mapping[str, Any]) -> bool:
        """Tell whether the module is learnt from pairs."""
        return checked(architecture).module in ("reconstruct", "artefacts")

    def needs_optics(self, architecture: Mapping[str, Any]) -> bool:
        """Tell that without a truth the noise must be known."""
        return not self.needs_truth(architecture)

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Return the loss of a batch; see the module's docstring for what is compared."""
        a = cast(DpsArchitecture, network.architecture)
        generator = None if network.training else torch.Generator(batch.measured.device).manual_seed(0)
        pairs = _pairs(network, batch, a, generator)
        light: Tensor = network(pairs.seen).float()
        image = measured_from(light, a) if a.module == "extend" else pooled(light)
        image, target = _inside(image), _inside(pairs.wanted)
        difference = (image - target).abs().mean()
        loss = a.ssim * structural_difference(image, target) + a.intensity * difference
        logs = {"intensity": float(difference.detach())}
        if a.spectrum:
            loss = loss + a.spectrum * fourier_difference(image, target)
        if pairs.known is not None:
            rim = 2 * RIM_PX
            found = (light - pairs.known)[..., rim:-rim, rim:-rim].abs().mean()
            loss, logs["again"] = loss + a.again * found, float(found.detach())
        stack = light.reshape(*batch.measured.shape[:2], *light.shape[-2:])
        if a.hessian:
            loss = loss + a.hessian * hessian(stack, a.continuity)
        if a.sparsity:
            loss = loss + a.sparsity * stack.abs().mean()
        if a.concentration:
            loss = loss + a.concentration * light_concentration(stack, a.floor)
        return loss, logs

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the image of the middle plane (B, 1, Y, X), on the input's grid."""
        light: Tensor = network(measured[:, measured.shape[1] // 2][:, None])
        return pooled(light)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Input and target (N, 1, Y, X), and the light (N, 1, 2 Y, 2 X) that the input was measured from, where it was measured again."""

    seen: Tensor
    wanted: Tensor
    known: Tensor | None


def _pairs(network: Module, batch: Batch, a: DpsArchitecture, generator: torch.Generator | None) -> _Pairs:
    """Make inputs whose noise has nothing to do with that of the targets."""
    y = batch.measured
    gain, variance = _noise(y, batch.optics)
    own = 1 / gain
    low, high = a.photons
    drawn = low * (high / low) ** torch.rand(len(y), generator=generator, device=y.device)
    dark = 0.1 * torch.rand(len(y), generator=generator, device=y.device)
    planes = y.shape[1]
    own, drawn, dark = (v.repeat_interleave(planes)[:, None, None, None] for v in (own, drawn, dark))
    flat, spread = y.flatten(0, 1)[:, None], variance.flatten(0, 1)[:, None]
    if a.module == "extend" and a.again:
        with torch.no_grad():
            steps = min(a.refined, int(float(own.min()) / PHOTONS_A_STEP))
            known = refined(network(flat).float(), flat, a, steps)
            return _Pairs(_counted(measured_from(known, a), torch.minimum(drawn, own), dark, generator), flat, known)
    noise = torch.randn(flat.shape, generator=generator, device=y.device) * spread.sqrt()
    seen, wanted = flat + SHARED * noise, flat - noise / SHARED
    fewer = _counted(seen, drawn, dark, generator)
    return _Pairs(torch.where(drawn < own / 2, fewer, seen), wanted, None)


def refined(light: Tensor, y: Tensor, a: DpsArchitecture, steps: int) -> Tensor:
    """Bring an estimate closer to its measurement by Richardson-Lucy steps through the network's own PSF.

    Parameters
    ----------
    light : Tensor (N, 1, 2 Y, 2 X)
        The estimate, nowhere negative.
    y : Tensor (N, 1, Y, X)
        The measurement.
    a : DpsArchitecture
        Names the PSF.
    steps : int
        How many.
    """
    blur, x = _fine_blur(a), light.contiguous()
    data = (y + PEDESTAL).clamp_min(0)
    for _ in range(steps):
        ratio = data / (pooled(blur(x)) + PEDESTAL)
        x = x * blur.adjoint(ratio.repeat_interleave(2, -1).repeat_interleave(2, -2).contiguous())
    return x.clamp_min(0)


def _counted(y: Tensor, photons: Tensor, dark: Tensor, generator: torch.Generator | None) -> Tensor:
    """Count photons of an image on a dark light that is taken off again."""
    light = (y + dark).clamp_min(0)
    return torch.poisson(light * photons, generator=generator) / photons - dark


def _noise(y: Tensor, optics: Sequence[Optics]) -> tuple[Tensor, Tensor]:
    """Return the brightness of a photon in each patch (B,), and the variance of each pixel.

    Raises
    ------
    RecipeError
        How the patches were measured is not known.
    """
    if not optics:
        raise RecipeError("without a truth the noise must be known, but the patches do not tell it; train with zenhance's own loop")
    expected = torch.nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
    variance = torch.stack([o.variance(e) for o, e in zip(optics, expected, strict=True)])
    one = torch.ones(1, device=y.device)
    gain = torch.cat([o.variance(one) - o.variance(0 * one) for o in optics]).clamp_min(1e-6)
    return gain, variance.clamp_min(0)


def _inside(image: Tensor) -> Tensor:
    return image[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
