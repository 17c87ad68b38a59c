"""Training of DPS and its three other modules from measurements alone, without sharp images.

::

    module        input                           output, compared         with
    extend        resimulated measurement         blurred and binned       measurement, its light
    denoise       part of the noise               binned                   the other part
    reconstruct   measurement, half resolution    twice as fine            measurement
    artefacts     measurement with stripes        by network features      measurement

A network that is trained to reproduce its own noisy input learns to repeat noise. The input of
``extend`` is therefore resimulated: Richardson-Lucy estimates the light of a well-lit measurement,
which is then resimulated with fewer photons::

    y ──► Richardson-Lucy, once ──► x ──► measured with few or many photons ──► network ──► x'
                                    └────────────── again · |x' - x| ───────────────────────┤
    y ◄───────────────────────── 1 - SSIM, intensity ──────── blurred ◄─────────────────────┘

``denoise`` splits the noise between input and target, so that both are independent (Pang et al.,
CVPR (2021)); so does ``extend`` for measurements that are too dim, such as a user's own stack.

The loss terms of continuity, sparsity and spectra are means per pixel, so that weights do not
depend on the patch size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Batch, Learner, Optics
from zenhance.errors import RecipeError
from zenhance.methods._shared.ssim import structural_dissimilarity
from zenhance.methods.dps.features import feature_difference, load_features
from zenhance.methods.dps.network import pooled
from zenhance.methods.dps.optics import DpsArchitecture, build_network, checked, measured_from
from zenhance.methods.dps.pairs import (
    WELL_LIT,
    Pairs,
    light_of,
    make_pairs,
    noise_of,
    on_network_grid,
    zooms_of,
)
from zenhance.types import FloatArray

__all__ = ["LEARNER", "DpsLearner", "fourier_difference", "hessian", "light_concentration"]


def _derivative(x: Tensor, axis: int, other: int) -> Tensor:
    """Return the second derivative along one axis or two, where all neighbours exist."""
    if axis == other:
        n = x.shape[axis]
        return x.narrow(axis, 2, n - 2) - 2 * x.narrow(axis, 1, n - 2) + x.narrow(axis, 0, n - 2)
    first = x.diff(dim=axis)
    return first.diff(dim=other)


def hessian(x: Tensor, continuity: float = 0.0) -> Tensor:
    """Return the mean absolute second derivatives of images (B, Z, Y, X).

    .. math:: |f_{xx}| + |f_{yy}| + 2|f_{xy}|
        + \\sigma |f_{zz}| + 2\\sqrt{\\sigma} |f_{xz}| + 2\\sqrt{\\sigma} |f_{yz}|

    Parameters
    ----------
    x : Tensor (B, Z, Y, X)
        The third axis may be depth or time.
    continuity : float
        sigma, weight of the third axis; 0 for none. Fewer than three planes have no second
        derivative.

    Notes
    -----
    Source: Huang et al., Nat. Biotechnol. 36:451 (2018), with time as the third axis.
    """
    total = (
        _derivative(x, -1, -1).abs().mean()
        + _derivative(x, -2, -2).abs().mean()
        + 2 * _derivative(x, -1, -2).abs().mean()
    )
    planes = x.shape[-3]
    if continuity > 0 and planes > 1:
        cross = _derivative(x, -3, -1).abs().mean() + _derivative(x, -3, -2).abs().mean()
        total = total + 2 * continuity**0.5 * cross
        if planes > 2:
            total = total + continuity * _derivative(x, -3, -3).abs().mean()
    return total


def light_concentration(x: Tensor, floor: float) -> Tensor:
    """Return the reweighted L1 norm: the mean of x / (x + floor), with a constant divisor.

    Parameters
    ----------
    x : Tensor
        Not negative.
    floor : float
        Intensity below which light counts as none; near 0 the term counts bright pixels.

    Notes
    -----
    A PSF conserves light, so that the plain L1 norm is the same for all specimens that explain the
    measurement. Reweighting (Candès, Wakin & Boyd, J. Fourier Anal. Appl. 14:877, 2008) makes light
    on fewer pixels cheaper.
    """
    return (x / (x.detach() + floor)).mean()


def fourier_difference(image: Tensor, reference: Tensor) -> Tensor:
    """Return the mean absolute difference of the orthonormal spectra of images (..., Y, X)."""
    with torch.autocast(image.device.type, enabled=False):
        difference: Tensor = torch.fft.rfft2(image.float(), norm="ortho") - torch.fft.rfft2(
            reference.float(), norm="ortho"
        )
        return difference.abs().mean()


# Width of a patch's rim that receives light from outside and is not compared.
RIM_PX = 8
MIN_PX = 32
DIM = 0.5
"""Light below which squared differences count in full; above, they count as photon noise."""


class DpsLearner(Learner):
    """Learns one of the modules."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network."""
        a = checked(architecture)
        network: Any = build_network(a)
        network.architecture = a
        return cast(Module, network.to(memory_format=torch.channels_last))

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> tuple[int, int, int]:
        """Return (planes, size, size).

        Raises
        ------
        RecipeError
            The size is too small for the rim that is not compared.
        """
        if size_px < MIN_PX:
            raise RecipeError(
                f"patch_px is {size_px}; a patch needs at least {MIN_PX} pixels, "
                f"of which {2 * RIM_PX} at its rim are not compared"
            )
        return (checked(architecture).planes, size_px, size_px)

    def needs_truth(self, architecture: Mapping[str, Any]) -> bool:
        """Return False: no module needs a truth."""
        return False

    def needs_optics(self, architecture: Mapping[str, Any]) -> bool:
        """Return True: the noise must be known."""
        return True

    def light_of(
        self, architecture: Mapping[str, Any], measured: FloatArray, optics: Optics
    ) -> FloatArray | None:
        """Return the light (2 Y, 2 X) of a well-lit plane with the network's PSF, else None."""
        a = checked(architecture)
        if a.module != "extend" or not a.again or set(zooms_of(optics, a)) != {1.0}:
            return None
        plane = torch.from_numpy(measured)[None, None]
        photons = (1 / noise_of(plane, (optics,))[0])[:, None, None, None]
        if float(photons) < WELL_LIT:
            return None
        return np.asarray(light_of(plane, photons, a)[0, 0].numpy(), np.float32)

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Return the loss of a batch; see the module's docstring."""
        a = cast(DpsArchitecture, network.architecture)
        generator = (
            None if network.training else torch.Generator(batch.measured.device).manual_seed(0)
        )
        batch = on_network_grid(batch, a)
        if min(batch.measured.shape[-2:]) < MIN_PX:
            raise RecipeError(
                f"patches have {batch.measured.shape[-1]} pixels on the network's grid; "
                "give a larger patch_px"
            )
        pairs = make_pairs(batch, a, generator)
        light: Tensor = network(pairs.seen).float()
        loss, logs = _fidelity(light, pairs, a)
        if pairs.known is not None:
            rim = 2 * RIM_PX
            known = pairs.known[..., rim:-rim, rim:-rim]
            # Squares, because the median of light at an uncertain position is darkness.
            found = ((light[..., rim:-rim, rim:-rim] - known).square() / (known + DIM)).mean()
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


LEARNER = DpsLearner()


def _fidelity(light: Tensor, pairs: Pairs, a: DpsArchitecture) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted difference of the network's image from the target, and figures."""
    image = (
        measured_from(light, a)
        if a.module == "extend"
        else light
        if a.module == "reconstruct"
        else pooled(light)
    )
    image, target = (x[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX] for x in (image, pairs.wanted))
    difference = (image - target).abs().mean()
    loss, logs = a.intensity * difference, {"intensity": float(difference.detach())}
    if a.ssim:
        loss = loss + a.ssim * structural_dissimilarity(image, target)
    if a.spectrum:
        loss = loss + a.spectrum * fourier_difference(image, target)
    if a.perceptual:
        seen = feature_difference(load_features(a.features_from), image, target)
        loss, logs["perceptual"] = loss + a.perceptual * seen, float(seen.detach())
    return loss, logs
