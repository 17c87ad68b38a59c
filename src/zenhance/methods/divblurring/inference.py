"""Draws specimens from the posterior of a tile: encodes once, draws many times.

::

    tile ─► Richardson-Lucy ─► encoder ─┬─► draw 1 ─► data consistency ─► mean, spread
            estimates          (once)   ├─► draw 2 ─► …
                                        └─► draw K
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from zenhance.contract.learner import Scaling
from zenhance.contract.spec import MethodContext, Prepared, PsfLike, TileGenerator
from zenhance.errors import CheckpointError, MethodError
from zenhance.methods._shared.loading import LEARN_FIRST, load_model, voxel_warnings
from zenhance.methods._shared.planes import mirrored
from zenhance.methods.divblurring import DivblurringParameters
from zenhance.methods.divblurring.network import Encoded, Vae, reach_px
from zenhance.methods.divblurring.training import LEARNER, VaeArchitecture
from zenhance.physics.blur import Blur, PsfKernels
from zenhance.physics.noise_field import noise_field
from zenhance.solvers.data_consistency import DataConsistency, data_consistency_of
from zenhance.solvers.deconvolved import deconvolved_reach_px, deconvolved_steps
from zenhance.solvers.receptive_field import iteration_reach_px
from zenhance.types import FloatArray, Triple

__all__ = ["Posterior", "prepare", "steps_for"]

# Most pixels of a decoded batch: fills a device, but fits into caches and responds to Cancel.
PIXELS_AT_ONCE = {"cpu": 2**18, "cuda": 2**23, "mps": 2**22}
# Work of deconvolution and encoder, in draws.
ESTIMATES_DRAWS = 1.5


@dataclass
class Posterior(Prepared):
    """A network made ready for one volume."""

    network: Vae
    architecture: VaeArchitecture
    parameters: DivblurringParameters
    steps: int
    context: MethodContext
    scaling: Scaling
    consistency: DataConsistency | None

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Draw from a tile (Z, Y, X)."""
        device = self.context.device
        measured = torch.from_numpy(np.ascontiguousarray(tile)).to(device)
        seen = yield from self._seen(measured)
        many = self.parameters.samples
        keeps = self.parameters.kept_samples
        total, squares = _Sum(), _Sum()
        kept: FloatArray | None = None
        encoded: dict[int, list[Encoded]] = {}
        centre: Tensor | None = None
        first: Tensor | None = None
        count = many + (self.parameters.temperature != 1.0)
        done = 0
        for position, draw in self._order():
            if position not in encoded:
                encoded.clear()
                encoded[position] = yield from self._encoded(_turned(seen, position), done / count)
            drawn = None if draw < 0 else draw
            light = yield from self._decoded(
                encoded[position], tile.shape, origin_px, position, drawn, done / count, 1 / count
            )
            light = _turned_back(light, position)
            done += 1
            if draw < 0:
                centre = light
                continue
            if centre is not None:
                light = centre + self.parameters.temperature * (light - centre)
                light = (
                    light.clamp_min_(0)
                    if self.architecture.kind == "ladder" or self.architecture.positive
                    else light
                )
            light = yield from self._finished(light, measured, done / count)
            first = light if first is None else first
            # Sums of differences from the first draw are exact even at large intensities.
            total.add(light - first)
            squares.add((light - first).square())
            if draw < keeps:
                kept = np.empty((keeps, *light.shape), np.float32) if kept is None else kept
                kept[draw] = light.cpu().numpy()
        return self._outputs(cast(Tensor, first), total, squares, many, kept)

    @property
    def _begun(self) -> float:
        """Fraction of the work on a tile before the first draw."""
        count = self.parameters.samples + (self.parameters.temperature != 1.0)
        return ESTIMATES_DRAWS / (ESTIMATES_DRAWS + count)

    def _order(self) -> list[tuple[int, int]]:
        """Return the draws with their position (rotation or reflection), sorted by position.

        Each position is thus encoded once. Draw -1 is the centre of the others.
        """
        draws = [
            (draw % 8 if self.parameters.self_ensemble else 0, draw)
            for draw in range(self.parameters.samples)
        ]
        return [(0, -1)] * (self.parameters.temperature != 1.0) + sorted(draws)

    def _outputs(
        self, first: Tensor, total: _Sum, squares: _Sum, many: int, kept: FloatArray | None
    ) -> dict[str, FloatArray]:
        mean = total.value / many
        found = {"enhanced": (first + mean).cpu().numpy()}
        if self.parameters.uncertainty:
            variance = (squares.value / many - mean.square()).clamp_min(0) * (
                many / max(many - 1, 1)
            )
            found["std"] = variance.sqrt().cpu().numpy()
        if kept is not None:
            found["samples"] = kept
        return found

    def _seen(self, measured: Tensor) -> Generator[float, None, Tensor]:
        """Return the network's input (1 + K, Z, Y, X), scaled."""
        scaled = (measured - self.scaling.offset) / self.scaling.span
        if not self.architecture.deconvolved:
            yield 0.0
            return scaled[None]
        context = self.context
        if context.psf is None or context.noise is None:
            raise MethodError(
                "these weights need a deconvolved image as well; "
                "give a point spread function, for example psf sigma_um=0.3,0.1,0.1"
            )
        shape = (measured.shape[0], measured.shape[1], measured.shape[2])
        steps = deconvolved_steps(
            measured,
            Blur.from_psf(
                cast(PsfKernels, context.psf), context.voxel_size_um, shape, str(measured.device)
            ),
            context.noise,
            context.statistics,
            self.architecture.deconvolved,
        )
        while True:
            try:
                yield self._begun * next(steps)
            except StopIteration as end:
                lights: list[Tensor] = end.value
                return torch.stack([scaled, *(light / self.scaling.span for light in lights)])

    def _encoded(self, seen: Tensor, done: float) -> Generator[float, None, list[Encoded]]:
        """Encode every plane; each item is a batch of planes."""
        half = self.architecture.window // 2
        depth = seen.shape[1]
        parts = []
        for start, stop in self._batches(seen.shape[1:]):
            index = mirrored(
                np.arange(start, stop)[:, None] + np.arange(-half, half + 1)[None], depth
            )
            with torch.inference_mode():
                planes = seen[
                    :, torch.from_numpy(index).to(seen.device)
                ]  # (1 + K, B, window, Y, X)
                entered = (
                    planes.transpose(0, 1)
                    .flatten(1, 2)
                    .contiguous(memory_format=torch.channels_last)
                )
                parts.append(self.network.encode(entered))
            yield self._begun + (1 - self._begun) * done
        return parts

    def _decoded(
        self,
        parts: list[Encoded],
        shape: Triple,
        origin_px: Triple,
        position: int,
        draw: int | None,
        done: float,
        share: float,
    ) -> Generator[float, None, Tensor]:
        """Draw the light (Z, sY, sX) of a tile, in the position of its encoding."""
        turned_shape = shape if position % 2 == 0 else (shape[0], shape[2], shape[1])
        planes = []
        for number, ((start, stop), encoded) in enumerate(
            zip(self._batches(turned_shape), parts, strict=True)
        ):
            noise = (
                None
                if draw is None
                else self._noise(draw, (start, stop), shape, origin_px, position)
            )
            with torch.inference_mode():
                planes.append(self.network.decode(encoded, noise, only_middle=True)[0][:, 0])
            yield self._begun + (1 - self._begun) * (done + share * (number + 1) / len(parts))
        return torch.cat(planes)

    def _noise(
        self, draw: int, planes: tuple[int, int], shape: Triple, origin_px: Triple, position: int
    ) -> Any:
        """Return a function of level and shape that draws normal numbers for a tile's planes."""

        def at(level: int, wanted: tuple[int, ...]) -> Tensor:
            stride, channels = self.network.levels[level]
            origin = (origin_px[0] + planes[0], origin_px[1] // stride, origin_px[2] // stride)
            size = (planes[1] - planes[0], shape[1] // stride, shape[2] // stride)
            field = torch.from_numpy(
                noise_field(self.context.seed, level, draw, channels, origin, size)
            )
            turned = _turned(field, position)
            if tuple(turned.shape) != wanted:
                raise MethodError(
                    f"a tile of {shape} pixels is not aligned to the latents' grid "
                    f"of {stride} pixels"
                )
            return turned.to(self.context.device)

        return at

    def _batches(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        depth, height, width = shape
        many = max(
            1, PIXELS_AT_ONCE.get(self.context.device.partition(":")[0], 2**18) // (height * width)
        )
        return [(start, min(start + many, depth)) for start in range(0, depth, many)]

    def _finished(
        self, light: Tensor, measured: Tensor, done: float
    ) -> Generator[float, None, Tensor]:
        """Return a draw in grey values, after the data consistency steps."""
        grey = light * self.scaling.span + self.scaling.offset
        if self.consistency is None or grey.shape != measured.shape:
            return grey
        for _ in range(self.steps):
            grey = self.consistency(grey, measured)
            yield self._begun + (1 - self._begun) * done
        return grey


@dataclass
class _Sum:
    """A running sum."""

    value: Any = 0.0

    def add(self, more: Tensor) -> None:
        self.value = self.value + more


def _turned(x: Tensor, position: int) -> Tensor:
    """Rotate the last two axes by quarter turns; flip them in the last four positions."""
    turned = torch.rot90(x, position % 4, (-2, -1))
    return turned.flip(-1) if position >= 4 else turned


def _turned_back(x: Tensor, position: int) -> Tensor:
    unflipped = x.flip(-1) if position >= 4 else x
    return torch.rot90(unflipped, -(position % 4), (-2, -1))


def prepare(context: MethodContext) -> Generator[float, None, Posterior]:
    """Load weights and make the network ready for a volume.

    Raises
    ------
    CheckpointError
        The weights cannot be used, or have another scale than the request.
    """
    p: DivblurringParameters = context.parameters
    model = yield from load_model("divblurring", LEARNER, context)
    network: Vae = model.network
    a = cast(VaeArchitecture, network.architecture)
    if a.scale != p.scale:
        raise CheckpointError(
            f'the model "{model.checkpoint.card.name}" enlarges {a.scale} ×, '
            f"but the scale is set to {p.scale}; choose other weights"
        )
    # Data consistency needs a sharp estimate on the measurement's grid.
    steps, consistency = 0, None
    if a.blur and a.scale == 1:
        steps = steps_for(context) if p.steps_back is None else p.steps_back
        consistency = data_consistency_of(context, float(steps > 0), dark_stays_dark=True)
    facts = model.facts
    facts["notes"] |= {"samples": p.samples, "steps_back": steps}
    return Posterior(
        network,
        a,
        p,
        steps,
        context,
        Scaling.of(context.statistics),
        consistency,
        halo_px=halo_px(
            a,
            context.psf,
            context.voxel_size_um,
            context.shape_px,
            0 if consistency is None else steps,
        ),
        warnings=voxel_warnings(context, model.checkpoint, LEARN_FIRST),
        deblurs=a.blur,
        **facts,
    )


def halo_px(
    architecture: VaeArchitecture,
    psf: PsfLike | None,
    voxel_size_um: tuple[float, float, float],
    shape_px: Triple,
    steps: int,
) -> Triple:
    """Return the halo (z, y, x) of network, estimates and data consistency."""
    reach = reach_px(architecture.kind, architecture.blocks)
    z, y, x = architecture.window // 2, reach, reach
    if psf is not None and architecture.deconvolved:
        more = deconvolved_reach_px(psf, voxel_size_um, architecture.deconvolved, shape_px[0])
        z, y, x = z + more[0], y + more[1], x + more[2]
    if psf is not None and steps:
        radius = psf.radius_px(voxel_size_um)
        back = iteration_reach_px(
            (radius[0] if shape_px[0] > 1 else 0, *radius[1:]), steps, accelerated=False
        )
        z, y, x = z + back[0], y + back[1], x + back[2]
    return min(z, shape_px[0]), y, x


def steps_for(context: MethodContext) -> int:
    """Return the number of data consistency steps, by the photons of the brightest voxels.

    Two for 60 photons, and one more for each doubling, at most eight: with few photons, a step
    mostly adds noise.
    """
    if context.noise is None:
        return 1
    photons = (context.statistics.percentile_high - context.statistics.background) / max(
        context.noise.gain, 1e-12
    )
    return int(np.clip(round(float(np.log2(max(photons, 1.0) / 15))), 1, 8))
