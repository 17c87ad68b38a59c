"""Boundary condition: beyond the edge the image is mirrored, the outermost voxel included.

::

    ... c b a | a b c d | d c b ...      half-sample symmetric, period 2 n (scipy: "reflect")

Blurring such an image keeps constants constant to the last voxel and, with a symmetric kernel,
every photon.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["fold_kernel", "mirror_index", "mirror_matrix"]


def mirror_index(positions: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Return the voxel (0 ... length - 1) at each position of the mirrored axis."""
    wrapped = np.mod(positions, 2 * length)
    return np.where(wrapped < length, wrapped, 2 * length - 1 - wrapped)


def mirror_matrix(kernel: npt.NDArray[np.floating], length: int) -> npt.NDArray[np.float64]:
    """Return the matrix (length, length) that convolves a mirrored axis with an odd kernel.

    Row i holds ``sum_k h[k] x[mirror(i - k)]``. The transpose is the adjoint; for a symmetric
    kernel the two are equal.
    """
    radius = kernel.size // 2
    offsets = np.arange(-radius, radius + 1, dtype=np.int64)
    rows = np.broadcast_to(np.arange(length, dtype=np.int64)[:, None], (length, kernel.size))
    columns = mirror_index(rows - offsets[None, :], length)
    matrix = np.zeros((length, length), dtype=np.float64)
    np.add.at(matrix, (rows, columns), np.broadcast_to(kernel.astype(np.float64), rows.shape))
    return matrix


def fold_kernel(
    kernel: npt.NDArray[np.floating], shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Shorten a kernel that reaches further than the image is long, without changing what it does.

    The mirrored axis repeats after 2 n voxels: offsets that differ by 2 n meet the same voxel, so
    their weights add up.

    Returns
    -------
    ndarray of float64
        Odd along each axis, reaching at most n voxels.
    """
    folded = kernel.astype(np.float64)
    for axis, length in enumerate(shape):
        radius = folded.shape[axis] // 2
        if radius <= length:
            continue
        offsets = np.mod(np.arange(-radius, radius + 1) + length, 2 * length)
        short = np.zeros(
            (*folded.shape[:axis], 2 * length + 1, *folded.shape[axis + 1 :]), dtype=np.float64
        )
        np.add.at(np.moveaxis(short, axis, 0), offsets, np.moveaxis(folded, axis, 0))
        folded = short
    return folded
