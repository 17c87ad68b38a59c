"""Applies a network that restores one plane from a window of planes to a whole tile.

::

    z-1  ─┐
    z    ─┼─►  network  ─►  plane z        beyond the first and last plane the stack is mirrored
    z+1  ─┘
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Module

__all__ = ["mirrored", "restore_planes"]

# Large enough to fill a device, small enough for Cancel and a smooth progress.
PIXELS_AT_ONCE = {"cpu": 2**16, "cuda": 2**20, "mps": 2**20}


def mirrored(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Fold indices beyond an axis back into it (… 1 0 | 0 1 … n-1 | n-1 n-2 …)."""
    folded = np.mod(index, 2 * size)
    return np.asarray(np.where(folded < size, folded, 2 * size - 1 - folded), np.int64)


def restore_planes(
    network: Module, stack: Tensor, window: int, scale: int, pixels_at_once: int | None = None
) -> Generator[float, None, Tensor]:
    """Restore every plane of a stack; a generator, so that it can be stopped between batches.

    Parameters
    ----------
    network : Module
        Maps (B, window, Y, X) to (B, 1, sY, sX).
    stack : Tensor (Z, Y, X)
        Scaled, on the network's device.
    window : int
        Input planes of the network, odd.
    scale : int
        Output pixels per input pixel along y and x.
    pixels_at_once : int, optional
        Planes are batched up to this many pixels; default by the device.

    Yields
    ------
    float
        Fraction done.

    Returns
    -------
    Tensor (Z, sY, sX)
    """
    depth, height, width = stack.shape
    out = torch.empty(
        (depth, height * scale, width * scale), dtype=torch.float32, device=stack.device
    )
    if pixels_at_once is None:
        pixels_at_once = PIXELS_AT_ONCE.get(stack.device.type, 2**16)
    many = max(1, pixels_at_once // (height * width))
    half = window // 2
    for start in range(0, depth, many):
        stop = min(start + many, depth)
        index = mirrored(np.arange(start, stop)[:, None] + np.arange(-half, half + 1)[None], depth)
        with torch.inference_mode():
            planes = stack[torch.from_numpy(index).to(stack.device)]  # (B, window, Y, X)
            out[start:stop] = network(planes)[:, 0]
        yield stop / depth
    return out
