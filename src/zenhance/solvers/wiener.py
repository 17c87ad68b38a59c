"""Wiener deconvolution in the domain of the cosine transform, where a mirrored image has no edge.

With half-sample symmetric boundaries, the discrete cosine transform of type II turns a symmetric
blur into a product with its transfer function H. An axis that the PSF does not blur is not
transformed, so a plane stays a plane.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from zenhance.solvers.receptive_field import SMALLEST_NOISE_TO_SIGNAL

__all__ = ["Wiener", "best_noise_to_signal"]

_CANDIDATES = tuple(float(v) for v in np.logspace(np.log10(SMALLEST_NOISE_TO_SIGNAL), 1.0, 71))
_AXES = (-3, -2, -1)


def _cosine_matrix(size: int, device: torch.device) -> torch.Tensor:
    """Orthonormal DCT-II: row k is cos(pi k (2 i + 1) / (2 size))."""
    index = np.arange(size)
    matrix = np.sqrt(2.0 / size) * np.cos(np.pi * np.outer(index, 2 * index + 1) / (2 * size))
    matrix[0] /= np.sqrt(2.0)
    return torch.from_numpy(matrix.astype(np.float32)).to(device)


def _multiply(x: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.movedim(torch.matmul(torch.movedim(x, axis, -1), matrix.t()), -1, axis)


@dataclass(frozen=True)
class Wiener:
    """The regularised inverse of one kernel.

    .. math:: F = (1 + \\epsilon) \\frac{H}{H^2 + \\epsilon}

    Use it for a quick look or as a linear reference: it rings beside bright spots, and the noise it
    passes may be negative.

    Parameters
    ----------
    kernel : ndarray (Z, Y, X)
        Odd, centred, of unit sum. If a kernel is not mirror-symmetric along an axis, its symmetric
        part is inverted.
    noise_to_signal : float
        epsilon, above 0.

    Notes
    -----
    The factor 1 + epsilon makes F = 1 at frequency zero, which keeps the mean and constant images.
    Peak memory: 5 float32 arrays of the size of the image. Source: Wiener 1949; Strang 1999 (SIAM
    Rev. 41:135) for the cosine transform.
    """

    kernel: npt.NDArray[np.float32]
    noise_to_signal: float

    def transfer(self, shape_px: Sequence[int], device: torch.device | str = "cpu") -> torch.Tensor:
        """H, float32 (Z, Y, X); size 1 along axes that the kernel does not touch."""
        values = self.kernel.astype(np.float64)
        for axis, size in zip(_AXES, tuple(shape_px)[-3:], strict=True):
            length = values.shape[axis]
            if length == 1:
                continue
            offsets = np.arange(length) - length // 2
            cosines = np.cos(np.pi * np.outer(np.arange(size), offsets) / size)
            values = np.moveaxis(np.tensordot(values, cosines, axes=(axis, 1)), -1, axis)
        return torch.from_numpy(values.astype(np.float32)).to(device)

    def coefficients(self, y: torch.Tensor) -> torch.Tensor:
        """Cosine transform of y (..., Z, Y, X) along the axes the kernel touches."""
        for axis in _AXES:
            if self.kernel.shape[axis] > 1:
                y = _multiply(y, _cosine_matrix(y.shape[axis], y.device), axis)
        return y

    def apply(self, y: torch.Tensor) -> Generator[float, None, torch.Tensor]:
        """Filter y, float32 (..., Z, Y, X); yield the fraction done, return the same shape."""
        spectrum = self.coefficients(y)
        yield 0.5
        transfer = self.transfer(y.shape, y.device)
        spectrum = spectrum * transfer.mul(1.0 + self.noise_to_signal).div_(
            transfer.square().add_(self.noise_to_signal)
        )
        for axis in _AXES:
            if self.kernel.shape[axis] > 1:
                spectrum = _multiply(spectrum, _cosine_matrix(y.shape[axis], y.device).t(), axis)
        yield 1.0
        return spectrum


def best_noise_to_signal(y: torch.Tensor, kernel: npt.NDArray[np.float32]) -> float:
    """Choose epsilon by generalised cross-validation.

    Minimises ``mean((1 - H F)^2 c^2) / (1 - mean(H F))^2`` over 71 values from 1e-6 to 10, with c
    the cosine transform of y. The noise need not be known; it shows in the frequencies that the PSF
    does not pass.

    Parameters
    ----------
    y : Tensor (..., Z, Y, X)
        The measurement, or blocks of it.
    kernel : ndarray (Z, Y, X)
        As for :class:`Wiener`.

    Notes
    -----
    Source: Golub, Heath & Wahba 1979 (Technometrics 21:215).
    """
    probe = Wiener(kernel, 1.0)
    transfer = probe.transfer(y.shape, y.device).square()
    # Not in place: without an axis to transform, the coefficients are y itself.
    power = probe.coefficients(y).square()
    scores = []
    for epsilon in _CANDIDATES:
        lost = 1.0 - transfer.mul(1.0 + epsilon).div_(transfer + epsilon)
        share = float(lost.mean())
        scores.append(
            float(lost.square_().mul(power).mean()) / share**2 if share > 0.0 else float("inf")
        )
    return _CANDIDATES[int(np.argmin(scores))]
