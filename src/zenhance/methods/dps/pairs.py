"""Inputs and targets of DPS, made from measurements alone, with independent noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as f

from zenhance.contract.learner import Batch, Optics
from zenhance.errors import RecipeError
from zenhance.methods.dps.network import STANDS_OUT, enlarged, pooled
from zenhance.methods.dps.optics import (
    FLAT_SHARE,
    TINY,
    DpsArchitecture,
    Inversion,
    closer,
    left_blur,
    measured_from,
    network_psf,
    zoom_between,
)
from zenhance.methods.dps.regrid import Samples, regrid, samples_of
from zenhance.physics.blur import Blur
from zenhance.physics.psf import gaussian
from zenhance.physics.psf_base import FWHM_PER_SIGMA

__all__ = ["WELL_LIT", "Pairs", "light_of", "make_pairs", "noise_of", "on_network_grid", "zooms_of"]

SHARED = 0.7
"""a of the split of noise between input and target: y + a n and y - n / a."""
PHOTONS_A_STEP = 40.0
"""Peak photons per Richardson-Lucy step; more steps would fit the noise."""
WELL_LIT = 2000.0
"""Peak photons above which the light of a measurement is estimated; dimmer ones are split."""
LIGHT_VARIATION, LIGHT_EVEN_STEPS, LIGHT_STANDS_OUT = 0.003, 80, 2.2
"""Weight and most steps of total variation in estimated light, and the ratio to the surroundings
above which it counts as a line. Chosen on simulated areas, filaments and rings of 10 000 and 40 000
photons with known truth."""
COARSEST = 2.4
"""Largest camera pixel, in pixels of the network's grid."""
STRIPES, STRIPE_SHARE = 3, 0.25
"""Directions of the structured illumination pattern, and its largest share of the local light."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Inputs and targets.

    Parameters
    ----------
    seen : Tensor (N, 1, Y, X)
        Input of the network.
    wanted : Tensor (N, 1, Y, X) or (N, 1, 2 Y, 2 X)
        Target, on the network's finer grid for ``reconstruct``.
    known : Tensor (N, 1, 2 Y, 2 X) or None
        The light of a resimulated input.
    """

    seen: Tensor
    wanted: Tensor
    known: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Photons of a brightness of 1, measured and resimulated, and dark light (N, 1, 1, 1)."""

    own: Tensor
    fewer: Tensor
    dark: Tensor


def make_pairs(batch: Batch, a: DpsArchitecture, generator: torch.Generator | None) -> Pairs:
    """Make inputs whose noise is independent of the targets' noise.

    Parameters
    ----------
    batch : Batch
        Measured patches, with their optics.
    a : DpsArchitecture
        Defines the module and the photons.
    generator : torch.Generator or None
        Default torch's own.
    """
    y = batch.measured
    gain, variance = noise_of(y, batch.optics)
    low, high = a.photons
    drawn = low * (high / low) ** torch.rand(len(y), generator=generator, device=y.device)
    dark = 0.1 * torch.rand(len(y), generator=generator, device=y.device)
    own, fewer, dark = (
        v.repeat_interleave(y.shape[1])[:, None, None, None] for v in (1 / gain, drawn, dark)
    )
    draw = _Drawn(own, fewer, dark)
    flat, spread = y.flatten(0, 1)[:, None], variance.flatten(0, 1)[:, None]
    if a.module == "extend" and a.again and float(own.min()) >= WELL_LIT:
        known = (
            light_of(flat, own, a) if batch.light is None else batch.light.flatten(0, 1)[:, None]
        )
        seen = _counted(measured_from(known, a), draw, generator)
        return Pairs(
            _seen_coarser(seen, known, draw, a, generator) if a.coarse else seen, flat, known
        )
    if a.module == "reconstruct":
        return Pairs(_counted(_widened(flat, a), draw, generator), flat)
    if a.module == "artefacts":
        return Pairs(_counted(_striped(flat, a, generator), draw, generator), flat)
    noise = torch.randn(flat.shape, generator=generator, device=y.device) * spread.sqrt()
    seen, wanted = flat + SHARED * noise, flat - noise / SHARED
    return Pairs(torch.where(fewer < own / 2, _counted(seen, draw, generator), seen), wanted)


def zooms_of(optics: Optics, a: DpsArchitecture) -> tuple[float, float]:
    """Return the zoom along y and x that makes a microscope's PSF as wide as the network's."""
    knows = network_psf(a).sigma_um[1]
    return (zoom_between(optics.sigma_px[1], knows), zoom_between(optics.sigma_px[2], knows))


def on_network_grid(batch: Batch, a: DpsArchitecture) -> Batch:
    """Return patches resampled to the network's PSF width, cropped to an even common size."""
    zooms = [zooms_of(o, a) for o in batch.optics]
    y = batch.measured
    sides = [
        int(n * min(pair[axis] for pair in zooms)) // 2 * 2 if zooms else n
        for axis, n in enumerate(y.shape[-2:])
    ]
    if set(zooms) <= {(1.0, 1.0)} and sides == list(y.shape[-2:]):
        return batch
    own = (Samples(0, y.shape[-2], 1.0), Samples(0, y.shape[-1], 1.0))
    with torch.autocast(y.device.type, enabled=False):
        made = [
            regrid(
                patch.float(),
                own,
                (Samples(0, sides[0], 1 / down), Samples(0, sides[1], 1 / across)),
            )
            for patch, (down, across) in zip(y, zooms or [(1.0, 1.0)] * len(y), strict=True)
        ]
    return replace(batch, measured=torch.stack(made))


def light_of(y: Tensor, photons: Tensor, a: DpsArchitecture) -> Tensor:
    """Return the estimated light (N, 1, 2 Y, 2 X) of well-lit images (N, 1, Y, X).

    Plain Richardson-Lucy recovers lines and dots but breaks areas into grains; total variation
    keeps areas but weakens lines. As in the network, the plain estimate is used where the other is
    brighter than its surroundings.

    Parameters
    ----------
    y : Tensor (N, 1, Y, X)
        Measured, scaled.
    photons : Tensor (N, 1, 1, 1)
        Of a brightness of 1; they set the number of steps.
    a : DpsArchitecture
        Defines the PSF, the steps, and the blur that remains.
    """
    steps = max(1, min(a.refined, int(float(photons.min()) / PHOTONS_A_STEP)))
    with torch.no_grad(), torch.autocast(y.device.type, enabled=False):
        inversion = Inversion(a).to(y.device)
        begun, pedestal = inversion.begin(y)
        around = enlarged(inversion.brightness(y.abs()) + TINY)
        sharp = next(closer(begun, y, a, (steps,), pedestal))
        calm = a.model_copy(update={"variation": LIGHT_VARIATION})
        even = next(
            closer(begun, y, calm, (min(steps, LIGHT_EVEN_STEPS),), pedestal, FLAT_SHARE * around)
        )
        light = torch.lerp(
            even, sharp, torch.sigmoid(STANDS_OUT[0] * (even / around - LIGHT_STANDS_OUT))
        )
        return left_blur(a)(light) if a.left_px else light


def _seen_coarser(
    seen: Tensor, known: Tensor, draw: _Drawn, a: DpsArchitecture, generator: torch.Generator | None
) -> Tensor:
    """Replace a share of the patches by images with larger pixels, resampled as in a run.

    Their noise is correlated between pixels and the pixel size adds to the blur, as in images whose
    PSF, in pixels, is narrower than the network's.
    """
    many, _, height, width = seen.shape
    chosen = torch.rand(many, generator=generator, device=seen.device) < a.coarse
    larger = COARSEST ** torch.rand(many, generator=generator, device=seen.device)
    out = seen.clone()
    own = (Samples(0, height, 1.0), Samples(0, width, 1.0))
    for k in torch.nonzero(chosen).flatten().tolist():
        pitch, one = float(larger[k]), slice(k, k + 1)
        wide = tuple(samples_of(0, s.count, pitch, 1) for s in own)
        image = regrid(measured_from(known[one], a), own, (wide[0], wide[1]))
        counted = _counted(image, _Drawn(draw.own[one], draw.fewer[one], draw.dark[one]), generator)
        out[one] = regrid(counted, (wide[0], wide[1]), own)
    return out


@cache
def _widening(fwhm_px: float) -> Blur:
    """Return the Gaussian that doubles the width of a PSF, in pixels of the sharper image."""
    sigma = fwhm_px * math.sqrt(4 - 1) / FWHM_PER_SIGMA
    return Blur.from_psf(gaussian((sigma, sigma)), (1.0, 1.0, 1.0), (1, 64, 64))


def _widened(y: Tensor, a: DpsArchitecture) -> Tensor:
    """Return an image at half the resolution, with pixels twice as large."""
    return pooled(_widening(a.fwhm_px)(y.float().contiguous()))


def _striped(y: Tensor, a: DpsArchitecture, generator: torch.Generator | None) -> Tensor:
    """Return an image with the residual stripes or honeycomb of structured illumination."""
    many, _, height, width = y.shape

    def some(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=y.device)

    rows = torch.arange(height, device=y.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=y.device, dtype=torch.float32)
    turn, period = torch.pi * some(many), a.fwhm_px * (1.2 + 1.3 * some(many))
    pattern = torch.zeros_like(y[:, 0])
    for direction in range(STRIPES):
        angle = (turn + direction * torch.pi / STRIPES)[:, None, None]
        strength = STRIPE_SHARE * some(many)[:, None, None] * (some(many) < 0.7)[:, None, None]
        wave = (
            2
            * torch.pi
            / period[:, None, None]
            * (torch.sin(angle) * rows + torch.cos(angle) * columns)
        )
        pattern = pattern + strength * torch.cos(wave + 2 * torch.pi * some(many)[:, None, None])
    around = f.avg_pool2d(y, 5, 1, 2, count_include_pad=False)
    return y + pattern[:, None] * around


def _counted(y: Tensor, draw: _Drawn, generator: torch.Generator | None) -> Tensor:
    """Draw photons of an image on dark light, which is subtracted; at most the measured photons."""
    photons = torch.minimum(draw.fewer, draw.own)
    light = (y + draw.dark).clamp_min(0)
    return torch.poisson(light * photons, generator=generator) / photons - draw.dark


def noise_of(y: Tensor, optics: Sequence[Optics]) -> tuple[Tensor, Tensor]:
    """Return the brightness of a photon in each patch (B,), and the variance of each pixel.

    Raises
    ------
    RecipeError
        The optics of the patches are unknown.
    """
    if not optics:
        raise RecipeError(
            "without a truth the noise must be known, but the patches have no optics; "
            "train with zenhance's own loop"
        )
    expected = f.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
    variance = torch.stack([o.variance(e) for o, e in zip(optics, expected, strict=True)])
    one = torch.ones(1, device=y.device)
    gain = torch.cat([o.variance(one) - o.variance(0 * one) for o in optics]).clamp_min(1e-6)
    return gain, variance.clamp_min(0)
