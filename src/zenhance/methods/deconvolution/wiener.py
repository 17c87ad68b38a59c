"""Prepare Wiener filters: one for a volume, or one for each depth of a microscope profile."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from zenhance.contract.spec import MethodContext, Prepared, ProfiledLike, PsfLike
from zenhance.methods.deconvolution.parameters import GaussianDeconvolutionParameters
from zenhance.methods.deconvolution.volume import (
    CutOut,
    Replayed,
    constant_blur,
    is_whole,
    read_probes,
)
from zenhance.physics.blur import BlurOperator
from zenhance.solvers.flux import keep_flux
from zenhance.solvers.receptive_field import wiener_reach_px
from zenhance.solvers.tensors import exact_mean, to_device, to_numpy
from zenhance.solvers.wiener import Wiener, best_noise_to_signal
from zenhance.steps import relay
from zenhance.types import FloatArray, Region

__all__ = ["prepare_wiener"]


@dataclass(frozen=True)
class _WienerSolver:
    """Wiener filters of one depth each, blended by depth, with the light of the measurement."""

    kernels: Sequence[FloatArray]
    ratios: Sequence[float]
    constant: BlurOperator
    profiled: ProfiledLike | None
    device: str
    lowest: float

    def __call__(
        self, measured: torch.Tensor, regions: Sequence[Region]
    ) -> Generator[float, None, torch.Tensor]:
        """Solve blocks (B, Z, Y, X) of a volume; return x above the lowest value, not scaled."""
        count = len(self.kernels)
        light = torch.zeros_like(measured)
        for number, (kernel, ratio) in enumerate(zip(self.kernels, self.ratios, strict=True)):
            part = yield from relay(
                Wiener(kernel, ratio).apply(measured),
                lambda fraction, done=number: (done + fraction) / count,  # type: ignore[misc]
            )
            if count > 1:
                part = part * _kernel_weight(self.profiled, regions, self.device, number)
            light = light.add_(part) if count > 1 else part
        light = light.sub_(self.lowest)
        blur = self.constant
        if self.profiled is not None:
            blur = self.profiled.blur(regions, self.device)
        return keep_flux(light.clamp(min=0.0), blur(blur(light)), blur)


def prepare_wiener(context: MethodContext, psf: PsfLike) -> Generator[float, None, Prepared]:
    """Choose the strength of the filter at each depth, and solve a volume that is small enough."""
    parameters: GaussianDeconvolutionParameters = context.parameters
    regions, measured = yield from read_probes(context)
    y = to_device(measured, context.device)
    ndim = parameters.ndim(context.shape_px)
    profiled = context.profiled if ndim == 3 else None
    kernels = (psf.kernel(context.voxel_size_um, ndim),) if profiled is None else profiled.kernels()
    ratios = []
    for number, kernel in enumerate(kernels):
        part = y if len(kernels) == 1 else _windowed(y, profiled, regions, number)
        ratios.append(parameters.wiener_noise or best_noise_to_signal(part, kernel))
        yield 0.3 * (number + 1) / len(kernels)
    constant = constant_blur(context, psf, y, ndim)
    lowest = min(0.0, context.statistics.minimum)
    solve = _WienerSolver(kernels, ratios, constant, profiled, context.device, lowest)
    light = yield from solve(y, regions)
    mean_light = exact_mean(light)
    scale = (exact_mean(y) - lowest) / mean_light if mean_light > 0.0 else 1.0
    notes = {"noise_to_signal": ratios[0] if len(ratios) == 1 else ratios, "flux_scale": scale}
    if is_whole(context):
        return CutOut(to_numpy(light.mul_(scale).add_(lowest))[0], notes=notes)

    def replay(tile: torch.Tensor, region: Region) -> Generator[float, None, torch.Tensor]:
        return (yield from solve(tile[None], [region]))[0].mul_(scale).add_(lowest)

    halo = np.max([wiener_reach_px(k, [r]) for k, r in zip(kernels, ratios, strict=True)], axis=0)
    z, y_, x = (int(n) for n in halo)
    return Replayed(replay, context.device, halo_px=(z, y_, x), notes=notes)


def _kernel_weight(
    profiled: ProfiledLike | None, regions: Sequence[Region], device: str, number: int
) -> torch.Tensor:
    """Return the weight of one kernel in each voxel; those of all kernels sum to 1."""
    position: torch.Tensor = cast("ProfiledLike", profiled).kernel_position(regions, device)
    return position.sub_(float(number)).abs_().neg_().add_(1.0).clamp_(min=0.0)


def _windowed(
    y: torch.Tensor, profiled: ProfiledLike | None, regions: Sequence[Region], number: int
) -> torch.Tensor:
    """Return the measurement where one kernel counts, faded to its mean elsewhere."""
    weight = _kernel_weight(profiled, regions, str(y.device), number)
    mean = float((y * weight).sum() / weight.sum().clamp(min=1e-30))
    return (y - mean).mul_(weight).add_(mean)
