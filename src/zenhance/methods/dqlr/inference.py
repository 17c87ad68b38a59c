"""DQLR on a volume: the network over a tile, and the words that it uses.

A tile holds all planes of its column, so the recurrence over z sees the whole stack in every tile.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zenhance.contract.learner import Scaling
from zenhance.contract.spec import MethodContext, Prepared, TileGenerator
from zenhance.methods._shared.front_end import FrontEnd, front_end_reach_px
from zenhance.methods._shared.loading import LEARN_FIRST, load_model, voxel_warnings
from zenhance.methods._shared.planes import mirrored
from zenhance.methods.dqlr import DqlrParameters
from zenhance.methods.dqlr.network import Dqlr, reach_px
from zenhance.methods.dqlr.quantiser import effective_words
from zenhance.methods.dqlr.training import LEARNER, DqlrArchitecture
from zenhance.solvers.data_consistency import DataConsistency, data_consistency_of
from zenhance.steps import relay
from zenhance.types import FloatArray, Triple

__all__ = ["SequenceRestorer", "prepare", "restore_sequence"]

Cuts = list[tuple[int, int]]
# Fractions of the work on a tile that are done after the encoder, and after the recurrence.
ENCODED, RECURRED = 0.25, 0.45

LOOKING = 0.12
"""Share of the work on a tile that the front end takes."""
MIN_PLANES = 4
"""Thinner stacks are mirrored to so many planes, among which the recurrence settles."""


@dataclass
class SequenceRestorer(Prepared):
    """A network made ready for one volume."""

    network: Dqlr
    scaling: Scaling
    device: str
    shape_px: Triple
    words: int
    with_codes: bool
    consistency: DataConsistency | None
    front: FrontEnd | None
    notes: dict[str, Any] = field(kw_only=True)
    curves: dict[str, list[float]] = field(default_factory=dict, kw_only=True)
    use: list[Tensor] = field(default_factory=list)
    _counted: npt.NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _, height, width = self.shape_px
        self._counted = np.zeros(
            (-(-height // self.network.stride), -(-width // self.network.stride)), np.bool_
        )

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Enhance a tile (Z, Y, X)."""
        if self.front is None:
            grey, index = yield from self._plain(tile)
        else:
            grey, index = yield from self._evened(tile, origin_px, self.front)
        self._count(index, origin_px)
        found: dict[str, FloatArray] = {"enhanced": grey.cpu().numpy()}
        if self.with_codes:
            found["codes"] = self._labels(index)
        return found

    def _plain(self, tile: FloatArray) -> Generator[float, None, tuple[Tensor, Tensor]]:
        """Return the enhanced tile, in grey values, and the words; scaled once for the volume."""
        stack = torch.from_numpy(self.scaling.forward(tile)).to(self.device)
        enhanced, index = yield from restore_sequence(self.network, stack)
        grey = torch.from_numpy(self.scaling.inverse(enhanced.cpu().numpy())).to(self.device)
        if self.consistency is not None:
            grey = self.consistency(grey, torch.from_numpy(tile).to(self.device))
        return grey, index

    def _evened(
        self, tile: FloatArray, origin_px: Triple, front: FrontEnd
    ) -> Generator[float, None, tuple[Tensor, Tensor]]:
        """Return the enhanced tile and the words of a network that sees the front end."""
        seen = yield from relay(front.look(tile, origin_px), lambda share: LOOKING * share)
        depth = tile.shape[0]
        planes = torch.from_numpy(mirrored(np.arange(max(depth, MIN_PLANES)), depth))
        enhanced, index = yield from relay(
            restore_sequence(self.network, seen.features[:, planes.to(self.device)]),
            lambda share: LOOKING + (1 - LOOKING) * share,
        )
        grey = seen.grey(enhanced[:depth])
        if self.consistency is not None:
            shift = self.consistency.shift - seen.ground
            step = replace(self.consistency, shift=shift)
            grey = step(grey, seen.measured, seen.blur)
        _, y, x = (
            torch.from_numpy(mirrored(np.arange(n), m))
            for n, m in zip(tile.shape, grey.shape, strict=True)
        )
        return grey[:, y][:, :, x] + seen.ground, index[:depth]

    def _labels(self, index: Tensor) -> FloatArray:
        """Return the first dictionary's words, counted from 1, at every pixel."""
        stride = self.network.stride
        labels = (
            (index[:, 0] + 1 if index.shape[1] else torch.zeros_like(index.sum(1)))
            .cpu()
            .numpy()
            .astype(np.float32)
        )
        return np.asarray(labels.repeat(stride, axis=1).repeat(stride, axis=2), np.float32)

    def _count(self, index: Tensor, origin_px: Triple) -> None:
        """Count the use of each word, for the record; each latent counts once."""
        (first_y, rows), (first_x, columns) = (
            self._whole(axis, origin_px[axis], index.shape[axis + 1]) for axis in (1, 2)
        )
        top, left = (origin_px[axis] // self.network.stride for axis in (1, 2))
        seen = self._counted[top + first_y : top + rows, left + first_x : left + columns]
        fresh = torch.from_numpy(~seen)
        seen[:] = True
        for level in range(index.shape[1]):
            chosen = index[:, level, first_y:rows, first_x:columns].cpu()[:, fresh]
            counts = torch.bincount(chosen.reshape(-1), minlength=self.words)
            if level == len(self.use):
                self.use.append(counts)
            else:
                self.use[level] += counts
            self.curves[f"codes used, level {level + 1}"] = [float(n) for n in self.use[level]]
        if self.use:
            self.notes["perplexity"] = [round(effective_words(counts), 1) for counts in self.use]

    def _whole(self, axis: int, origin_px: int, latents: int) -> tuple[int, int]:
        """Return the range of latents of a tile whose receptive field was read completely."""
        stride = self.network.stride
        rim, last = (
            -(-self.halo_px[axis] // stride),
            -(-(self.shape_px[axis] - origin_px) // stride),
        )
        first = rim if origin_px else 0
        return first, last if last <= latents else max(first, latents - rim)


def prepare(context: MethodContext) -> Generator[float, None, SequenceRestorer]:
    """Load weights and make the network ready for a volume.

    Raises
    ------
    CheckpointError
        There are no such weights, or they belong to another method.
    """
    p: DqlrParameters = context.parameters
    model = yield from load_model("dqlr", LEARNER, context)
    network: Dqlr = model.network
    a = cast(DqlrArchitecture, network.architecture)
    reach = reach_px(a.stride, a.blocks, a.recurrence != "none", a.front_end)
    front = None
    if a.front_end:
        front = yield from relay(FrontEnd.steps(context), lambda share: 0.5 + 0.5 * share)
    # A network that reproduces the blurred measurement needs no data consistency.
    consistency = (
        None if a.target == "measured" else data_consistency_of(context, p.data_consistency)
    )
    around = (0, 0, 0) if consistency is None else consistency.radius_px
    if front is not None and context.psf is not None:
        more = front_end_reach_px(context.psf, context.voxel_size_um, context.shape_px[0])
        around = (0, around[1] + more[1], around[2] + more[2])
    return SequenceRestorer(
        network,
        Scaling.of(context.statistics),
        context.device,
        context.shape_px,
        a.words,
        p.codes,
        consistency,
        front,
        halo_px=(context.shape_px[0], reach + around[1], reach + around[2]),
        warnings=() if a.front_end else voxel_warnings(context, model.checkpoint, LEARN_FIRST),
        deblurs=a.target == "truth",
        **model.facts,
    )


def _correlated(
    network: Dqlr, latents: Tensor, cuts: Cuts, strips: Cuts
) -> Generator[float, None, Tensor]:
    """Run the recurrences over latents (Z, features, y, x); return states (Z, ways hidden, y, x).

    Parameters
    ----------
    cuts, strips : list of tuple of int
        Slices and rows to process at once, stop not included.

    Yields
    ------
    float
        From ``ENCODED`` to ``RECURRED``.
    """
    ways = network.recurrences
    if not ways:
        return latents
    depth, _, rows, columns = latents.shape
    joined = latents.new_empty((depth, sum(way.hidden for way in ways), rows, columns)).contiguous(
        memory_format=torch.channels_last
    )
    done, steps = 0, len(ways) * len(cuts) * len(strips)
    for number, way in enumerate(ways):
        kept = slice(number * way.hidden, (number + 1) * way.hidden)
        for top, bottom in strips:
            low, high = max(0, top - 1), min(rows, bottom + 1)
            state = network.begin(latents[:1, :, top:bottom], way.hidden)
            for first, last in cuts if number == 0 else cuts[::-1]:
                entering = way.prepare(latents[first:last, :, low:high])[
                    :, :, top - low : bottom - low
                ]
                order = range(first, last) if number == 0 else range(last - 1, first - 1, -1)
                for i in order:
                    state = way.step(entering[i - first : i - first + 1], state)
                    joined[i, kept, top:bottom] = state[0]
                done += 1
                yield ENCODED + (RECURRED - ENCODED) * done / steps
    return joined


def restore_sequence(
    network: Dqlr, stack: Tensor, pixels_at_once: int = 2**18
) -> Generator[float, None, tuple[Tensor, Tensor]]:
    """Enhance a whole stack; a generator, so that it can be stopped between batches of slices.

    Parameters
    ----------
    network : Dqlr
        In evaluation mode.
    stack : Tensor (Z, Y, X), or (channels, Z, Y, X) with features
        Scaled, on the network's device; Y and X multiples of the stride.
    pixels_at_once : int
        Slices are batched up to this many pixels, and larger ones are cut into strips.

    Yields
    ------
    float
        Fraction done.

    Returns
    -------
    enhanced : Tensor (Z, Y, X)
    index : Tensor (Z, levels, Y/stride, X/stride)
        The chosen words; int64.
    """
    depth, height, width = stack.shape[-3:]
    stride, rows = network.stride, height // network.stride
    many, tall = (
        max(1, pixels_at_once // (height * width)),
        max(1, pixels_at_once // (stride * width)),
    )
    cuts = [(first, min(first + many, depth)) for first in range(0, depth, many)]
    strips = [(top, min(top + tall, rows)) for top in range(0, rows, tall)]
    parts = [(first, last, top, bottom) for first, last in cuts for top, bottom in strips]
    with torch.inference_mode():
        latents = stack.new_empty((depth, network.features, rows, width // stride)).contiguous(
            memory_format=torch.channels_last
        )
        for number, (first, last, top, bottom) in enumerate(parts):
            low, high = max(0, top - network.margin), min(rows, bottom + network.margin)
            found = network.encode(stack[None, ..., low * stride : high * stride, :], first, last)[
                0
            ]
            latents[first:last, :, top:bottom] = found[:, :, top - low : bottom - low]
            yield ENCODED * (number + 1) / len(parts)
        joined = yield from _correlated(network, latents, cuts, strips)
        del latents
        enhanced = stack.new_empty(stack.shape[-3:], dtype=torch.float32)
        levels = network.levels if network.quantiser else 0
        index = torch.empty(
            (depth, levels, rows, width // stride), dtype=torch.int64, device=stack.device
        )
        for number, (first, last, top, bottom) in enumerate(parts):
            low, high = max(0, top - network.margin), min(rows, bottom + network.margin)
            vectors, _, words = network.quantise(network.codes(joined[first:last, :, low:high]))
            strip = slice(low * stride, high * stride)
            made = network.generate(
                vectors,
                None if stack.ndim == 3 else stack[:, first:last, strip].transpose(0, 1),
            )
            enhanced[first:last, top * stride : bottom * stride] = made[
                :, (top - low) * stride : (bottom - low) * stride
            ]
            index[first:last, :, top:bottom] = words[:, :, top - low : bottom - low]
            yield RECURRED + (1 - RECURRED) * (number + 1) / len(parts)
        return enhanced, index
