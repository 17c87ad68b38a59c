"""Running networks that know one PSF width over a tile: resampled to it, plane by plane, and back.

::

    plane ─ continuity ─ background off ─► the network's grid ─► denoise ─► artefacts ─► extend (grid twice as fine) ─► the output's grid
                                           PSF of fwhm_px pixels       each on the network's grid
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Scaling
from zenhance.contract.spec import MethodContext, Prepared, TileGenerator
from zenhance.errors import CheckpointError
from zenhance.methods.dps import LARGER_PIXELS, MODULES, DpsParameters
from zenhance.methods.dps.network import MULTIPLE, pooled, reach_px
from zenhance.methods.dps.optics import (
    INVERSION_REACH_PX,
    SAME,
    ZOOMS,
    DpsArchitecture,
    network_psf,
    zoom_between,
)
from zenhance.methods.dps.regrid import Samples, regrid, samples_of
from zenhance.methods.dps.rolling_ball import reach_px as ball_reach_px
from zenhance.methods.dps.rolling_ball import rolled_background
from zenhance.methods.dps.training import LEARNER
from zenhance.models.checkpoint import load_network, model_of
from zenhance.types import FloatArray, Triple

__all__ = ["Resolver", "has_larger_pixels", "prepare"]

LARGER = 1.1
"""From how many times the network's pixels those of an image count as larger."""


@dataclass
class Resolver(Prepared):
    """Networks made ready for one volume."""

    before: tuple[Module, ...]
    last: Module | None
    scaling: Scaling
    zooms: tuple[float, float]
    balls_px: tuple[float, float]
    continuity: float
    scale: int
    device: str

    def __post_init__(self) -> None:
        """The halo: all networks in turn, the resampling and the ball, in pixels of the volume."""
        nets = max(1, len(self.before) + (self.last is not None))
        around = []
        for zoom, ball in zip(self.zooms, self.balls_px, strict=True):
            per_px = max(1.0, 1.0 / zoom)
            around.append(
                math.ceil((nets * (reach_px() + INVERSION_REACH_PX) + MULTIPLE) / zoom + 4 * per_px)
                + (2 * ball_reach_px(ball) if ball else 0)
            )
        self.halo_px = (1 if self.continuity else 0, around[0], around[1])

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Enhance a tile (Z, Y, X)."""
        planes = self._averaged(self.scaling.forward(tile))
        depth, height, width = tile.shape
        grids = [
            samples_of(o, n, 1 / zoom, MULTIPLE)
            for o, n, zoom in zip(origin_px[1:], (height, width), self.zooms, strict=True)
        ]
        own = (Samples(origin_px[1], height, 1.0), Samples(origin_px[2], width, 1.0))
        target = tuple(
            Samples(s.first * self.scale, s.count * self.scale, 1 / self.scale) for s in own
        )
        out = np.empty((depth, height * self.scale, width * self.scale), np.float32)
        for z in range(depth):
            plane = self._flattened(planes[z], (origin_px[1], origin_px[2]))
            with torch.inference_mode():
                image = regrid(
                    torch.from_numpy(plane).to(self.device)[None, None], own, (grids[0], grids[1])
                )
                light, fine = self._run(image)
                found = tuple(
                    Samples(g.first * fine, g.count * fine, g.pitch / fine) for g in grids
                )
                there = regrid(light, (found[0], found[1]), (target[0], target[1]))
            # Interpolation swings below 0 beside what is sharp; there is no negative light.
            out[z] = (
                (there if self.last is None else there.clamp_min(0))[0, 0].float().cpu().numpy()
            )
            yield (z + 1) / depth
        return {"enhanced": self.scaling.inverse(out)}

    def _run(self, image: Tensor) -> tuple[Tensor, int]:
        """Run the networks on an image of their grid; return it, and how much finer its grid is now."""
        image = image.contiguous(memory_format=torch.channels_last)
        for network in self.before:
            image = pooled(network(image))
        return (image, 1) if self.last is None else (self.last(image), 2)

    def _averaged(self, planes: FloatArray) -> FloatArray:
        if not self.continuity or len(planes) == 1:
            return planes
        wide = np.pad(planes, ((1, 1), (0, 0), (0, 0)), mode="edge")
        share = np.float32(self.continuity / 3)
        return np.asarray(planes * (1 - 2 * share) + share * (wide[:-2] + wide[2:]), np.float32)

    def _flattened(self, plane: FloatArray, origin_px: tuple[int, int]) -> FloatArray:
        if not self.balls_px[0]:
            return plane
        return plane - rolled_background(plane, self.balls_px[0], 1.0, origin_px)


def _loaded(name: str | None, default: str, device: str) -> tuple[Module, str, str]:
    checkpoint = model_of("dps", name, default)
    return (
        load_network(checkpoint, LEARNER, device).eval(),
        checkpoint.card.name,
        checkpoint.sha256,
    )


def prepare(context: MethodContext) -> Generator[float, None, Resolver]:
    """Load the networks and find how the volume has to be resampled.

    Raises
    ------
    CheckpointError
        There are no such weights, they belong to another method or were taught another step.
    """
    p: DpsParameters = context.parameters
    last = _last_weights(p, context)
    names = [*(MODULES[step] for step in p.preceding), *([last] if last is not None else [])]
    networks, models, shas = [], [], []
    for number, name in enumerate(names):
        yield number / (len(names) + 1)
        asked = context.weights if number == len(names) - 1 else None
        network, model, sha = _loaded(asked, name, context.device)
        module = cast(DpsArchitecture, network.architecture).module
        fits = ("extend", "reconstruct") if name == last else ("denoise", "artefacts")
        if module not in fits:
            raise CheckpointError(
                f'the model "{model}" was taught to {module}, which is another step; '
                "choose weights of this one"
            )
        networks.append(network)
        models.append(model)
        shas.append(sha)
    zooms, said, warnings = _zooms(networks, context)
    balls = tuple(p.background_um / size for size in context.voxel_size_um[1:])
    if p.background_um and max(balls) > 1.05 * min(balls):
        warnings.append(
            "pixels are not square, so the ball that finds the background is one along y and x "
            "only on average"
        )
        balls = (sum(balls) / 2,) * 2
    return Resolver(
        tuple(networks[:-1] if last is not None else networks),
        networks[-1] if last is not None else None,
        Scaling.of(context.statistics),
        zooms,
        (balls[0], balls[1]),
        p.continuity,
        p.scale,
        context.device,
        notes={"model": ", ".join(models), "resampling": said},
        weights_sha256=shas[-1] if shas else "",
        warnings=warnings,
    )


def _last_weights(p: DpsParameters, context: MethodContext) -> str | None:
    """Return the weights of the step that reconstructs; None where there is none."""
    if not p.deblurs:
        return None
    if p.reconstruction == "extend" and context.weights is None and has_larger_pixels(context):
        return LARGER_PIXELS
    return MODULES[p.reconstruction]


def has_larger_pixels(context: MethodContext) -> bool:
    """Tell whether an image has to be resampled to a finer grid, along y or x, for the network that ships to know its PSF."""
    if context.psf is None:
        return False
    knows = network_psf(DpsArchitecture()).sigma_um[1]
    return any(
        zoom_between(sigma, knows) > LARGER
        for sigma in context.psf.sigma_px(context.voxel_size_um)[1:]
    )


def _zooms(
    networks: list[Module], context: MethodContext
) -> tuple[tuple[float, float], str, list[str]]:
    """Return the zoom along y and x, and what to say of it."""
    if not networks or context.psf is None:
        return (1.0, 1.0), "none", []
    a = cast(DpsArchitecture, networks[-1].architecture)
    knows = network_psf(a).sigma_um[1]
    has = context.psf.sigma_px(context.voxel_size_um)[1:]
    zooms = (zoom_between(has[0], knows), zoom_between(has[1], knows))
    widths = " × ".join(f"{a.fwhm_px * s / knows:.3g}" for s in has)
    if zooms == (1.0, 1.0):
        return zooms, f"none: the PSF is {widths} pixels wide, the network knows {a.fwhm_px:g}", []
    factors = " × ".join(f"{z:.3g}" for z in zooms)
    said = f"the PSF is {widths} pixels wide and the network knows {a.fwhm_px:g}: resampled {factors} times along y, x, and back"
    warnings = []
    if any(knows / max(h, 1e-6) > ZOOMS[1] * (1 + SAME) for h in has):
        warnings.append(
            f"the PSF is {widths} pixels wide, hardly more than a pixel: the camera has not recorded what could be resolved; "
            "check PSF and voxel size"
        )
    return zooms, said, warnings
