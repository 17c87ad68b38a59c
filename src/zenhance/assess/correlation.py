"""Resolution from measured data: Fourier ring and shell correlation of independent halves.

Two images of one specimen with independent noise agree at coarse detail and disagree beyond the
resolution::

    FRC(f) = Re Σ A B* / sqrt(Σ |A|² Σ |B|²)    over the ring (plane) or shell (volume) of f

The halves must be *measured* independently: two exposures, or one whose photons were split. Two
outputs of a method are never compared with each other, because both contain what the method
invents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.photons import Camera
from zenhance.errors import StackError
from zenhance.physics.thinning import split_photons
from zenhance.types import FloatArray, FloatTriple

__all__ = ["CorrelationCurve", "correlate_halves", "correlation_of_raw"]

AXIAL_CONE = 45.0


@dataclass(frozen=True, slots=True)
class CorrelationCurve:
    """Correlation over spatial frequency.

    Parameters
    ----------
    frequency : tuple of float
        Middle of each ring in cycles per µm.
    correlation : tuple of float
        Between -1 and 1.
    half_bit : tuple of float
        The half-bit line of each ring (van Heel & Schatz 2005, J. Struct. Biol. 151:250, eq. 17).
    resolution_half_bit_um, resolution_seventh_um, resolution_143_um : float or None
        Inverse of the frequency where the curve first stays below the half-bit line, 1/7
        (Nieuwenhuizen et al. 2013), or 0.143 (Rosenthal & Henderson 2003); None if it never does,
        because the pixels limit, not the data.
    """

    frequency: tuple[float, ...]
    correlation: tuple[float, ...]
    half_bit: tuple[float, ...]
    resolution_half_bit_um: float | None
    resolution_seventh_um: float | None
    resolution_143_um: float | None


def correlate_halves(
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    voxel_size_um: FloatTriple,
    *,
    mode: str = "ring",
) -> CorrelationCurve:
    """Correlate two independent measurements of the same specimen.

    Use it for two exposures or for split photons, never for two results of a method.

    Parameters
    ----------
    first, second : array (Z, Y, X)
        Of one shape; any intensity scale.
    voxel_size_um : tuple of float
        (z, y, x).
    mode : {'ring', 'shell', 'axial'}
        Rings in each plane, summed over the planes (lateral resolution); shells in the volume; or
        their part within 45° of the z-axis.

    Raises
    ------
    StackError
        The shapes differ, a side is too short, or the mode is unknown.
    """
    _check(first, second, mode)
    flat = mode == "ring"
    frequency, use = _frequency_grid(first.shape, voxel_size_um, mode)
    sides = first.shape[1:] if flat else first.shape
    nyquist = min(0.5 / v for v in (voxel_size_um[1:] if flat else voxel_size_um))
    if mode == "axial":
        nyquist = 0.5 / voxel_size_um[0]
    rings = max(4, min(sides) // 2) if mode != "axial" else max(4, first.shape[0] // 2)
    index = np.where(
        use, np.minimum(frequency / nyquist * rings, rings).astype(np.int64), rings
    ).ravel()
    sums = np.zeros((4, rings + 1))
    window = _window(sides)
    for a, b in zip(*(((first, second)) if flat else ((first[None], second[None]))), strict=True):
        fa, fb = (np.fft.rfftn((v - v.mean(dtype=np.float64)) * window) for v in (a, b))
        for row, values in enumerate(((fa * fb.conj()).real, np.abs(fa) ** 2, np.abs(fb) ** 2)):
            sums[row] += np.bincount(index, values.ravel(), rings + 1)
        # One half of the spectrum is stored, and the window keeps about its mean square of the
        # voxels.
        sums[3] += np.bincount(index, minlength=rings + 1) * 2.0 * float(np.mean(window**2))
    cross, power_a, power_b, count = sums[:, 1:rings]
    norm = np.sqrt(power_a * power_b)
    correlation = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    middle = (np.arange(1, rings) + 0.5) * nyquist / rings
    return _curve(middle, correlation, _half_bit(np.maximum(count, 1.0)))


def correlation_of_raw(
    raw: npt.NDArray[Any],
    camera: Camera,
    voxel_size_um: FloatTriple,
    *,
    mode: str = "ring",
    seed: int = 0,
) -> CorrelationCurve:
    """Split the photons of one measurement and correlate the halves; see correlate_halves.

    Either half has half the light, so that the resolution of the whole is at least this good.
    """
    return correlate_halves(*split_photons(raw, camera, 0.5, seed), voxel_size_um, mode=mode)


def _check(first: npt.NDArray[Any], second: npt.NDArray[Any], mode: str) -> None:
    if mode not in ("ring", "shell", "axial"):
        raise StackError(f'correlation mode "{mode}" is unknown; choose ring, shell or axial')
    if first.ndim != 3 or first.shape != second.shape:
        raise StackError(
            f"halves of shapes {first.shape} and {second.shape} cannot be correlated; "
            "give two volumes (z, y, x) of one shape"
        )
    sides = first.shape[1:] if mode == "ring" else first.shape
    if min(sides) < 8:
        raise StackError(
            f"a {mode} correlation needs at least 8 voxels along each side, not {min(sides)}; "
            "use a larger field"
        )


def _frequency_grid(
    shape: tuple[int, ...], voxel_size_um: FloatTriple, mode: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Frequency of each stored Fourier coefficient in cycles per µm, and which ones count."""
    nz, ny, nx = shape
    fy = np.fft.fftfreq(ny, voxel_size_um[1])[:, None]
    fx = np.fft.rfftfreq(nx, voxel_size_um[2])[None, :]
    lateral = np.sqrt(fy**2 + fx**2)
    if mode == "ring":
        return lateral, np.ones(lateral.shape, bool)
    fz = np.abs(np.fft.fftfreq(nz, voxel_size_um[0]))[:, None, None]
    radius = np.sqrt(fz**2 + lateral[None] ** 2)
    use = np.ones(radius.shape, bool)
    if mode == "axial":
        use = fz >= radius * math.cos(math.radians(AXIAL_CONE))
    return radius, use


def _window(sides: tuple[int, ...]) -> FloatArray:
    """Apodise to all sides; flat parts would leak coarse detail beyond a sharp band limit."""
    from scipy.signal.windows import hann

    window = np.ones(())
    for size in sides:
        window = np.multiply.outer(window, hann(size))
    return np.asarray(window, np.float32)


def _half_bit(count: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    root = np.sqrt(count)
    return np.asarray(np.minimum((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root), 1.0))


def _curve(
    frequency: npt.NDArray[np.float64],
    correlation: npt.NDArray[np.float64],
    half_bit: npt.NDArray[np.float64],
) -> CorrelationCurve:
    from scipy.ndimage import uniform_filter1d

    smooth = uniform_filter1d(correlation, 3, mode="nearest")
    return CorrelationCurve(
        tuple(float(v) for v in frequency),
        tuple(float(v) for v in correlation),
        tuple(float(v) for v in half_bit),
        _resolution(frequency, smooth - half_bit),
        _resolution(frequency, smooth - 1 / 7),
        _resolution(frequency, smooth - 0.143),
    )


def _resolution(
    frequency: npt.NDArray[np.float64], excess: npt.NDArray[np.float64]
) -> float | None:
    """One over the frequency where the excess first turns negative for two rings, interpolated."""
    below = excess < 0
    for k in range(len(excess)):
        if below[k : k + 2].all():
            if k == 0:
                return float(1.0 / frequency[0])
            share = excess[k - 1] / (excess[k - 1] - excess[k])
            return float(1.0 / (frequency[k - 1] + share * (frequency[k] - frequency[k - 1])))
    return None
