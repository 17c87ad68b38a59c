"""Applies networks of one PSF width to a tile: resamples each plane to their grid and back.

::

    plane ─► continuity ─► background ─► network's grid ─► denoise ─► artefacts ─► extend ─► output
                           subtraction   (PSF fwhm_px wide)                        (2 × finer)  grid
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
"""Pixels of an image count as larger above this multiple of the network's pixels."""


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
        """Set the halo of all networks in turn, the resampling and the ball, in volume pixels."""
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
            # Interpolation undershoots beside sharp structures, but light is never negative.
            out[z] = (
                (there if self.last is None else there.clamp_min(0))[0, 0].float().cpu().numpy()
            )
            yield (z + 1) / depth
        return {"enhanced": self.scaling.inverse(out)}

    def _run(self, image: Tensor) -> tuple[Tensor, int]:
        """Apply the networks to an image; return the result and how much finer its grid is."""
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
    """Load the networks and find the resampling of the volume.

    Raises
    ------
    CheckpointError
        There are no such weights, or they belong to another method or step.
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
                f'the model "{model}" was trained for the step {module}; '
                "choose weights of this step"
            )
        networks.append(network)
        models.append(model)
        shas.append(sha)
    zooms, said, warnings = _zooms(networks, context)
    balls = tuple(p.background_um / size for size in context.voxel_size_um[1:])
    if p.background_um and max(balls) > 1.05 * min(balls):
        warnings.append(
            "pixels are not square, so that the rolling ball uses the mean pixel size of y and x"
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
    """Return the weights of the reconstruction; None without one."""
    if not p.deblurs:
        return None
    if p.reconstruction == "extend" and context.weights is None and has_larger_pixels(context):
        return LARGER_PIXELS
    return MODULES[p.reconstruction]


def has_larger_pixels(context: MethodContext) -> bool:
    """Return whether the shipped network needs the image on a finer grid, along y or x."""
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
    """Return the zoom along y and x, a description of it, and warnings."""
    if not networks or context.psf is None:
        return (1.0, 1.0), "none", []
    a = cast(DpsArchitecture, networks[-1].architecture)
    knows = network_psf(a).sigma_um[1]
    has = context.psf.sigma_px(context.voxel_size_um)[1:]
    zooms = (zoom_between(has[0], knows), zoom_between(has[1], knows))
    widths = " × ".join(f"{a.fwhm_px * s / knows:.3g}" for s in has)
    if zooms == (1.0, 1.0):
        return zooms, f"none: the PSF is {widths} pixels wide, the network's {a.fwhm_px:g}", []
    factors = " × ".join(f"{z:.3g}" for z in zooms)
    said = (
        f"the PSF is {widths} pixels wide, the network's {a.fwhm_px:g}: "
        f"resampled {factors} times along y, x, and back"
    )
    warnings = []
    if any(knows / max(h, 1e-6) > ZOOMS[1] * (1 + SAME) for h in has):
        warnings.append(
            f"the PSF is {widths} pixels wide, too narrow for the camera to record the resolution; "
            "check PSF and voxel size"
        )
    return zooms, said, warnings
