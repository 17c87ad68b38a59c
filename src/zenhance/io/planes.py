"""Walk a stack plane by plane, in slabs that fit into any memory, and hash each plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.provenance import hash_array
from zenhance.stack import Stack

__all__ = ["SLAB_BYTES", "hash_planes", "iterate_planes", "plane_count"]

SLAB_BYTES = 64 * 2**20
Array = npt.NDArray[Any]


def plane_count(stack: Stack) -> int:
    """Return the number of (Y, X) planes."""
    return stack.size("T") * stack.size("C") * stack.size("Z")


def _slabs(stack: Stack) -> Iterator[slice]:
    plane_bytes = stack.size("Y") * stack.size("X") * stack.dtype.itemsize
    step = max(1, SLAB_BYTES // max(plane_bytes, 1))
    for z in range(0, stack.size("Z"), step):
        yield slice(z, min(z + step, stack.size("Z")))


def iterate_planes(stack: Stack, *, channels_inside: bool = False) -> Iterator[Array]:
    """Yield every plane (Y, X) in its stored dtype, native byte order.

    Parameters
    ----------
    stack : Stack
        At most 64 MiB of it, times the number of channels where these go inside, are in memory at
        once.
    channels_inside : bool
        Planes in the order t, z, c (ImageJ) instead of t, c, z.
    """
    whole = slice(None)
    for t in range(stack.size("T")):
        if channels_inside:
            for part in _slabs(stack):
                blocks = [stack.read(t, c, (part, whole, whole)) for c in range(stack.size("C"))]
                for z in range(len(blocks[0])):
                    for block in blocks:
                        yield np.ascontiguousarray(block[z])
        else:
            for c in range(stack.size("C")):
                for part in _slabs(stack):
                    yield from (
                        np.ascontiguousarray(plane)
                        for plane in stack.read(t, c, (part, whole, whole))
                    )


def hash_planes(stack: Stack, *, channels_inside: bool = False) -> list[str]:
    """Return the sha256 of every plane (over dtype, shape and pixels)."""
    return [hash_array(plane) for plane in iterate_planes(stack, channels_inside=channels_inside)]
