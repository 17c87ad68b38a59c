"""Resolution of a single image by decorrelation analysis.

Source: Descloux, Grußmayer & Radenovic 2019, Nat. Methods 16:918.

The image is correlated with itself after its spectrum is set to modulus one and cut off at a radius
r. As r grows, the correlation rises while there is signal and falls once only noise is added: the
peak is the highest frequency with signal. High-pass filters, weak to strong, reveal ever higher
peaks; the highest peak is the cut-off. Sharpened noise has a cut-off too: read it beside the
re-blur check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import StackError

__all__ = ["DecorrelationResult", "decorrelation_resolution"]

Float64Array = npt.NDArray[np.float64]

RADII = 50
FILTERS = 10
MIN_DROP = 5e-4
"""A maximum counts as a peak if the curve falls by this much after it."""
MIN_PEAK = 0.05
EDGE_PX = 20


@dataclass(frozen=True, slots=True)
class DecorrelationResult:
    """The cut-off of an image.

    Parameters
    ----------
    resolution_um : float or None
        One over the cut-off frequency; None where no signal was found.
    cutoff : float
        In units of the Nyquist frequency, 0 ... 1.
    peak : float
        Height of the peak without a high-pass filter, 0 ... 1: the more signal, the higher.
    """

    resolution_um: float | None
    cutoff: float
    peak: float


def decorrelation_resolution(image: npt.NDArray[Any], pixel_size_um: float) -> DecorrelationResult:
    """Estimate the lateral resolution of one plane.

    Parameters
    ----------
    image : array (Y, X)
        At least 32 pixels along each side, finite.
    pixel_size_um : float
        Edge of a pixel, the same along y and x.

    Raises
    ------
    StackError
        The image is too small, not 2-D or not finite.

    Notes
    -----
    With I the spectrum and I_n = I / |I|, eq. 1 of the paper is d(r) = Σ_{k<r} Re I I_n* / sqrt(Σ
    |I|² Σ_{k<r} |I_n|²). Two rounds: filters over their whole range, then around the best.
    """
    if image.ndim != 2 or min(image.shape) < 32:
        raise StackError(
            "decorrelation analysis needs a plane of at least 32 × 32 pixels, "
            f"not {image.shape}; use a larger field"
        )
    if not np.isfinite(image).all():
        raise StackError(
            "decorrelation analysis needs finite pixels; replace NaN and infinite ones"
        )
    modulus, radius = _spectrum(image.astype(np.float64))
    if not modulus.any():
        return DecorrelationResult(None, 0.0, 0.0)
    grid = np.linspace(0.0, 1.0, RADII)
    first, height = _peak(_curve(modulus, radius, grid), grid)
    size = min(image.shape)
    weak, strong = (2.0 / first if first > 0 else size / 4.0), 0.15
    found: list[tuple[float, float, float]] = [(first, height, size / 4.0)]
    for _ in range(2):
        widths = np.geomspace(weak, strong, FILTERS)
        for width in widths:
            passed = modulus * (1.0 - np.exp(-2.0 * (width * np.pi * radius / 2.0) ** 2))
            found.append((*_peak(_curve(passed, radius, grid), grid), float(width)))
        cutoff, _, best = max((f for f in found if f[1] >= MIN_PEAK), default=(0.0, 0.0, weak))
        step = grid[1]
        grid = np.linspace(max(cutoff - 2 * step, 0.0), min(cutoff + 0.3, 1.0), RADII)
        weak, strong = min(best * 2.0, size / 4.0), max(best / 2.0, 0.1)
    cutoff = max((f[0] for f in found if f[1] >= MIN_PEAK), default=0.0)
    return DecorrelationResult(2.0 * pixel_size_um / cutoff if cutoff > 0 else None, cutoff, height)


def _spectrum(image: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Spectrum's modulus and radius of each coefficient (1 at Nyquist), sorted by radius."""
    window = np.ones(())
    for size in image.shape:
        ramp = np.minimum(
            1.0,
            (np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5) / min(EDGE_PX, size // 4),
        )
        window = np.multiply.outer(window, np.sin(0.5 * np.pi * ramp) ** 2)
    transform = np.fft.fftn((image - image.mean()) * window)
    fy, fx = (2.0 * np.fft.fftfreq(n) for n in image.shape)
    radius = np.hypot(fy[:, None], fx[None, :]).ravel()
    inside = (radius <= 1.0) & (radius > 0.0)
    order = np.argsort(radius[inside], kind="stable")
    return np.abs(transform).ravel()[inside][order], radius[inside][order]


def _curve(modulus: Float64Array, radius: Float64Array, grid: Float64Array) -> Float64Array:
    total = float(np.sqrt((modulus**2).sum()))
    reach = np.searchsorted(radius, grid, side="right")
    sums = np.concatenate([[0.0], np.cumsum(modulus)])[reach]
    return (
        np.asarray(sums / (total * np.sqrt(np.maximum(reach, 1))))
        if total > 0
        else np.zeros_like(grid)
    )


def _peak(curve: Float64Array, grid: Float64Array) -> tuple[float, float]:
    """Position and height of the last true maximum; position 0 if the curve only rises."""
    end = len(curve)
    while end > 1:
        top = int(np.argmax(curve[:end]))
        if top == 0:
            return 0.0, float(curve[0])
        if top < end - 1 and curve[top] - curve[top:].min() >= MIN_DROP:
            return float(grid[top]), float(curve[top])
        end = top if top == end - 1 else end - 1
    return 0.0, float(curve[0])
