"""The matched filter of the re-blur check, and how high pure noise climbs in what it gives.

The filter ``k = h - h(2.5 × wider)`` responds to blobs of the size of the PSF and not to slow
trends. Filtered white noise is a smooth random field, whose expected number of peaks above a level
follows from its smoothness and extent (Worsley et al. 1996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zenhance.physics.psf_base import gaussian_kernel_1d
from zenhance.types import FloatArray, FloatTriple

__all__ = ["MatchedFilter", "peak_threshold"]

SURROUND = 2.5


@dataclass(frozen=True, slots=True)
class MatchedFilter:
    """The filter ``h - h(2.5 × wider)`` for a Gaussian h.

    Parameters
    ----------
    sigma_px : tuple of float
        Standard deviation of h along z, y, x; 0 leaves an axis alone.
    """

    sigma_px: FloatTriple

    def apply(self, residuals: FloatArray) -> FloatArray:
        """Return z-scores (Z, Y, X): filtered residuals, standard normal for white noise."""
        import torch

        from zenhance.physics.blur import Blur

        tensor = torch.from_numpy(np.ascontiguousarray(residuals, np.float32))
        scores = Blur.from_axis_kernels(*self._axes(1.0))(tensor)
        scores -= Blur.from_axis_kernels(*self._axes(SURROUND))(tensor)
        scores /= math.sqrt(self._inner(None))
        return np.asarray(scores.numpy())

    def fwhm_px(self) -> FloatTriple:
        """Return the smoothness (z, y, x) of filtered white noise as an equivalent Gaussian FWHM.

        From the variance of neighbours' differences; 0 along an axis that is not filtered.
        """
        power = self._inner(None)
        widths = []
        for axis, sigma in enumerate(self.sigma_px):
            roughness = 2.0 * (1.0 - self._inner(axis) / power)
            widths.append(
                math.sqrt(4.0 * math.log(2.0) / roughness) if sigma > 0 and roughness > 0 else 0.0
            )
        return (widths[0], widths[1], widths[2])

    def response(self) -> float:
        """Return the z-score of a spot shaped like h with a peak of one noise sigma."""
        peak, answer = 1.0, [1.0, 1.0]
        for narrow, wide in zip(self._axes(1.0), self._axes(SURROUND), strict=True):
            peak *= float(narrow.max())
            answer[0] *= _correlation(narrow, narrow, 0)
            answer[1] *= _correlation(narrow, wide, 0)
        return (answer[0] - answer[1]) / (peak * math.sqrt(self._inner(None)))

    def _axes(self, factor: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        z, y, x = (gaussian_kernel_1d(factor * s) for s in self.sigma_px)
        return (z, y, x)

    def _inner(self, lag_axis: int | None) -> float:
        """Autocorrelation of the filter at lag 0, or at lag 1 along one axis."""
        total = 0.0
        for sign, one, other in ((1.0, 1.0, 1.0), (-2.0, 1.0, SURROUND), (1.0, SURROUND, SURROUND)):
            product = sign
            for axis, (a, b) in enumerate(zip(self._axes(one), self._axes(other), strict=True)):
                product *= _correlation(a, b, 1 if axis == lag_axis else 0)
            total += product
        return total


def _correlation(a: FloatArray, b: FloatArray, lag: int) -> float:
    """Inner product of two centred kernels, one of them shifted."""
    half = max(a.size, b.size) // 2 + lag
    wide: list[npt.NDArray[np.float64]] = [
        np.pad(k.astype(np.float64), half - k.size // 2) for k in (a, b)
    ]
    return float(wide[0] @ np.roll(wide[1], lag))


def peak_threshold(
    shape_px: tuple[int, int, int], fwhm_px: FloatTriple, false_peaks: float = 0.005
) -> float:
    """Return the z-score above which noise has ``false_peaks`` expected peaks in a volume.

    Parameters
    ----------
    shape_px : tuple of int
        The judged part of the volume, (Z, Y, X).
    fwhm_px : tuple of float
        Smoothness along z, y, x; 0 for an axis of length 1.
    false_peaks : float
        Allowed per volume and sign.

    Notes
    -----
    Expected Euler characteristic of a Gaussian field over a box, Σ R_d ρ_d(t) (Worsley et al. 1996,
    Hum. Brain Mapp. 4:58, table II).
    """
    from scipy.optimize import brentq

    lengths = [(n - 1) / f for n, f in zip(shape_px, fwhm_px, strict=True) if n > 1 and f > 0]
    resels = np.zeros(4)
    resels[0] = 1.0
    for length in lengths:
        resels[1:] += resels[:-1] * length
    return float(brentq(lambda t: _euler(t, resels) - false_peaks, 2.0, 12.0))


def _euler(t: float, resels: npt.NDArray[np.float64]) -> float:
    from scipy.special import ndtr

    tail, log = math.exp(-(t**2) / 2.0), 4.0 * math.log(2.0)
    densities = (
        float(ndtr(-t)),
        math.sqrt(log) / (2 * math.pi) * tail,
        log / (2 * math.pi) ** 1.5 * t * tail,
        log**1.5 / (2 * math.pi) ** 2 * (t**2 - 1) * tail,
    )
    return float(sum(float(r) * d for r, d in zip(resels, densities, strict=True)))
