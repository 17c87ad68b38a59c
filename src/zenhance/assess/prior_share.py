"""How much of what a result shows is prior: power at frequencies that the measurement cannot see.

::

    share seen at a frequency   W = |B|² / (|B|² + N)
    prior share                 Σ (1 - W) |X|² / Σ |X|²

X is the spectrum of the result, B that of the result imaged again, N the power of the noise. What
imaging sinks below the noise could be taken out of the result, or be something else, and the
measurement would look the same (null space: Bhadra et al. 2021, IEEE Trans. Med. Imaging 40:3249).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.types import FloatArray

__all__ = ["prior_share"]

SIDE_PX = 128
PLANES = 32
NEAR = 3
"""Spectra are smoothed over so many neighbours along each axis."""

Spectrum = npt.NDArray[np.float64]


def prior_share(result: FloatArray, blurred: FloatArray, slope: float, variance: float) -> float:
    """Return the share of a result's power that is invisible to the measurement, 0 to 1.

    Parameters
    ----------
    result : float32 array (Z, Y, X)
        On voxels a whole number of times finer than the measurement's.
    blurred : float32 array (Z, Y, X)
        The result imaged again, on the measurement's voxels.
    slope : float
        Brings ``blurred`` to the measurement's units.
    variance : float
        Mean variance of the measurement's noise.

    Notes
    -----
    The middle of the volume counts, 32 × 128 × 128 measured voxels at most. A constant is no
    structure: frequency 0 is left out.
    """
    factors = [n // m for n, m in zip(result.shape, blurred.shape, strict=True)]
    coarse = [_middle(n, side) for n, side in zip(blurred.shape, (PLANES, SIDE_PX, SIDE_PX),
                                                  strict=True)]  # fmt: skip
    fine = [slice(s.start * f, s.stop * f) for s, f in zip(coarse, factors, strict=True)]
    seen, noise = _power(blurred[tuple(coarse)] * np.float32(slope))
    shown, _ = _power(result[tuple(fine)])
    smooth = ndimage.uniform_filter(seen, [min(NEAR, n) for n in seen.shape], mode="wrap")
    visible = np.zeros(shown.shape)
    visible[_low(shown.shape, seen.shape)] = (smooth / (smooth + noise * max(variance, 1e-12)))[
        _low(seen.shape, shown.shape)
    ]
    shown.flat[0] = 0.0
    total = float(shown.sum())
    return float(((1.0 - visible) * shown).sum() / total) if total > 0 else 0.0


def _middle(size: int, most: int) -> slice:
    start = max(0, (size - most) // 2)
    return slice(start, start + min(size, most))


def _power(volume: npt.NDArray[Any]) -> tuple[Spectrum, float]:
    """Return the power spectrum of a windowed volume, and the power of noise of variance 1."""
    window = np.ones(())
    for size in volume.shape:
        window = np.multiply.outer(window, np.hanning(size + 2)[1:-1] if size > 1 else np.ones(1))
    data = volume.astype(np.float64)
    data -= float((data * window).sum() / window.sum())
    return np.abs(np.fft.fftn(data * window)) ** 2, float((window**2).sum())


def _low(shape: tuple[int, ...], other: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the places in a spectrum of the frequencies that one of another size has too."""
    places = []
    for n, m in zip(shape, other, strict=True):
        size = min(n, m)
        whole = np.fft.fftfreq(size, 1.0 / size).round().astype(np.int64)
        places.append(whole % n)
    return np.ix_(*places)
