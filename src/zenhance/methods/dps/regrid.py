"""Resampling of images: one matrix product per axis, with the same result for a tile and the whole.

Grids are counted from the corner of the volume, so that tiles share one grid. A coarser grid
averages over its pixels' areas; a finer grid interpolates with cubics (Keys, IEEE TASSP 29:1153,
1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Samples", "regrid", "samples_of"]


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples along an axis.

    Parameters
    ----------
    first : int
        Index of the first sample on the volume's grid of this pitch.
    count : int
        Number of samples.
    pitch : float
        Distance of samples in pixels of the volume; the centre of sample k is ``(k + 1/2) pitch``.
    """

    first: int
    count: int
    pitch: float

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Positions in pixels of the volume, counted from its corner."""
        return np.asarray((self.first + np.arange(self.count) + 0.5) * self.pitch)


def samples_of(start_px: int, length_px: int, pitch: float, multiple: int) -> Samples:
    """Return samples that cover part of an axis, with ends at multiples of ``multiple``."""
    first = math.floor(start_px / pitch / multiple + 1e-9) * multiple
    last = math.ceil((start_px + length_px) / pitch / multiple - 1e-9) * multiple
    return Samples(first, last - first, pitch)


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic with a = -1/2."""
    d = np.abs(distance)
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def _matrix(source: Samples, target: Samples) -> npt.NDArray[np.float32]:
    """Return weights (target, source); the end samples of the source are repeated."""
    if source == target:
        return np.eye(source.count, dtype=np.float32)
    place = target.centres / source.pitch - 0.5 - source.first
    ratio = target.pitch / source.pitch
    reach = math.ceil(max(2.0, ratio / 2 + 1))
    index = np.floor(place)[:, None].astype(np.int64) + np.arange(-reach, reach + 1)
    away = index - place[:, None]
    weights = (
        _cubic(away) if ratio <= 1 + 1e-9 else np.clip((ratio + 1) / 2 - np.abs(away), 0.0, 1.0)
    )
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((target.count, source.count))
    rows = np.broadcast_to(np.arange(target.count)[:, None], index.shape)
    np.add.at(matrix, (rows, np.clip(index, 0, source.count - 1)), weights)
    return matrix.astype(np.float32)


def regrid(
    image: Tensor, source: tuple[Samples, Samples], target: tuple[Samples, Samples]
) -> Tensor:
    """Return images (..., Y, X) on another grid.

    Parameters
    ----------
    image : Tensor
        Sampled at ``source`` along y and x.
    source, target : tuple of Samples
        For y and x.
    """
    down, across = (
        torch.from_numpy(_matrix(s, t)).to(image.device)
        for s, t in zip(source, target, strict=True)
    )
    return torch.matmul(torch.matmul(down, image), across.t())
