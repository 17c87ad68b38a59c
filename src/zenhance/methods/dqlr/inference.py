"""DQLR on a volume: the network over a tile, and the words that it uses.

A tile holds all planes of its column, so the recurrence over z sees the whole stack in every tile.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zenhance.contract.learner import Scaling
from zenhance.contract.spec import MethodContext, Prepared, TileGenerator
from zenhance.methods._shared.loading import LEARN_FIRST, load_model, voxel_warnings
from zenhance.methods.dqlr import DqlrParameters
from zenhance.methods.dqlr.network import Dqlr, reach_px, restore_sequence
from zenhance.methods.dqlr.quantiser import effective_words
from zenhance.methods.dqlr.training import LEARNER, DqlrArchitecture
from zenhance.solvers.data_consistency import DataConsistency, data_consistency_of
from zenhance.types import FloatArray, Triple

__all__ = ["SequenceRestorer", "prepare"]


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
        stack = torch.from_numpy(self.scaling.forward(tile)).to(self.device)
        enhanced, index = yield from restore_sequence(self.network, stack)
        self._count(index, origin_px)
        found = {"enhanced": self.scaling.inverse(enhanced.cpu().numpy())}
        if self.consistency is not None:
            estimate = torch.from_numpy(found["enhanced"]).to(self.device)
            found["enhanced"] = (
                self.consistency(estimate, torch.from_numpy(tile).to(self.device)).cpu().numpy()
            )
        if self.with_codes:
            found["codes"] = self._labels(index)
        return found

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
    reach = reach_px(a.stride, a.blocks, a.recurrence != "none")
    # A network that reproduces the blurred measurement needs no data consistency.
    consistency = (
        None if a.target == "measured" else data_consistency_of(context, p.data_consistency)
    )
    around = (0, 0, 0) if consistency is None else consistency.radius_px
    return SequenceRestorer(
        network,
        Scaling.of(context.statistics),
        context.device,
        context.shape_px,
        a.words,
        p.codes,
        consistency,
        halo_px=(context.shape_px[0], reach + around[1], reach + around[2]),
        warnings=voxel_warnings(context, model.checkpoint, LEARN_FIRST),
        deblurs=a.target == "truth",
        **model.facts,
    )
