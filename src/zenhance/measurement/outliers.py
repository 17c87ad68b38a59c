"""Single voxels that the blur of a microscope cannot produce: hot and dead pixels, cosmic rays.

A point source spreads over its neighbours. Even for a standard deviation of half a pixel, the
least that this module expects, the four nearest neighbours together hold 0.54 of the excess of
the brightest pixel::

    . b b b b b      b  ring at a distance of two pixels: local level and its scatter
      b . n . b      n  nearest neighbours: together at least 0.54 of the excess of p
      b n p n b      p  the pixel in question
      b . n . b
      b b b b b

A voxel is an outlier where its neighbours hold less than half of that, and where neither photon
noise nor read noise explains what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.contract.spec import NoiseLike
from zenhance.types import FloatArray

__all__ = ["Candidates", "find_candidates"]

# Share of a peak's excess that its four nearest neighbours hold: 4 exp(-1 / (2 * 0.5**2)).
NEIGHBOUR_SHARE = 0.54
MAX_SHARE_OF_PEAK = 0.5 * NEIGHBOUR_SHARE
# Standard deviations of the noise that the excess and the light missing beside it must exceed.
MIN_EXCESS = 8.0
MIN_DEFICIT = 6.0
MAX_PER_PLANE = 10_000
_SAMPLE = 512
_RING = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if max(abs(dy), abs(dx)) == 2]
_NEXT = [(-1, 0), (1, 0), (0, -1), (0, 1)]
_AROUND = [*_NEXT, (-1, -1), (-1, 1), (1, -1), (1, 1)]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Voxels of one plane that stand out; each array has one entry a voxel.

    Parameters
    ----------
    places : ndarray of int
        Flat indices in the plane.
    level, scatter : ndarray
        Median and robust standard deviation of the ring, in grey values.
    excess : ndarray
        Grey value above the level; negative for dead pixels.
    beside : ndarray
        Sum of the four nearest neighbours' excesses.
    repaired : ndarray of float32
        Median of the eight neighbours.
    """

    places: npt.NDArray[np.int64]
    level: npt.NDArray[np.float64]
    scatter: npt.NDArray[np.float64]
    excess: npt.NDArray[np.float64]
    beside: npt.NDArray[np.float64]
    repaired: FloatArray

    def outliers(self, noise: NoiseLike) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Return flat indices and repaired values of the voxels that the noise does not explain."""
        light = np.clip(self.level - noise.offset, 0.0, None)
        dark = noise.gain * light + noise.read_noise**2
        size = np.abs(self.excess)
        spread = NEIGHBOUR_SHARE * noise.gain * np.clip(self.excess, 0.0, None)
        deficit = NEIGHBOUR_SHARE * size - np.sign(self.excess) * self.beside
        uncertain = np.sqrt(spread + 4.0 * dark + 1.6 * self.scatter**2)
        chosen = (size > MIN_EXCESS * np.sqrt(dark)) & (deficit > MIN_DEFICIT * uncertain)
        return self.places[chosen], self.repaired[chosen]


def find_candidates(
    plane: npt.NDArray[Any], missing: npt.NDArray[np.bool_] | None = None
) -> Candidates:
    """Find the voxels of a plane that stand out from their neighbours as no blurred point does.

    Parameters
    ----------
    plane : ndarray (Y, X)
        Grey values as stored.
    missing : ndarray of bool (Y, X), optional
        Voxels without data; they are neither candidates nor neighbours.
    """
    grey = plane.astype(np.float32)
    if missing is not None:
        grey[missing] = np.nan
    if min(plane.shape) < 3:
        return _measured(np.pad(grey, 2, mode="edge"), np.zeros(0, np.int64), plane.shape[1])
    padded = np.pad(grey, 2, mode="reflect")
    above = grey - _extreme(padded, np.fmax)
    below = _extreme(padded, np.fmin) - grey
    standing = np.fmax(above, below)
    steps = np.diff(grey, axis=1)[:: max(1, plane.shape[0] // _SAMPLE)]
    steps = steps[np.isfinite(steps)]
    # The difference of two voxels has sqrt(2) times the standard deviation of one.
    noise = 1.4826 / 2**0.5 * float(np.median(np.abs(steps))) if steps.size else 0.0
    with np.errstate(invalid="ignore"):
        places = np.flatnonzero(standing > 3.0 * noise)
    if places.size > MAX_PER_PLANE:
        order = np.argsort(-standing.ravel()[places], kind="stable")[:MAX_PER_PLANE]
        places = np.sort(places[order])
    return _measured(padded, places, plane.shape[1])


def _extreme(padded: FloatArray, of: np.ufunc) -> FloatArray:
    """Return the largest or smallest of the four nearest neighbours; NaN where there is none."""
    height, width = padded.shape[0] - 4, padded.shape[1] - 4
    shifted = [padded[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for dy, dx in _NEXT]
    found: FloatArray = of(of(shifted[0], shifted[1]), of(shifted[2], shifted[3]))
    return found


def _measured(padded: FloatArray, places: npt.NDArray[np.int64], width: int) -> Candidates:
    """Measure the neighbourhoods and keep the voxels whose shape no blurred point has."""
    y, x = np.divmod(places, width)

    def at(offsets: list[tuple[int, int]]) -> npt.NDArray[np.float64]:
        rows = [padded[2 + y + dy, 2 + x + dx] for dy, dx in offsets]
        return np.stack(rows).astype(np.float64)

    ring, beside = at(_RING), at(_NEXT)
    whole = np.isfinite(ring).sum(axis=0) >= len(_RING) // 2
    whole &= np.isfinite(beside).sum(axis=0) >= 2
    places, ring, beside, y, x = places[whole], ring[:, whole], beside[:, whole], y[whole], x[whole]
    level = np.nanmedian(ring, axis=0) if places.size else np.zeros(0)
    scatter = 1.4826 * np.nanmedian(np.abs(ring - level), axis=0) if places.size else np.zeros(0)
    excess = padded[2 + y, 2 + x].astype(np.float64) - level
    shared = 4.0 * np.nanmean(beside - level, axis=0) if places.size else np.zeros(0)
    sharp = (np.sign(excess) * shared < MAX_SHARE_OF_PEAK * np.abs(excess)) & (
        np.abs(excess) > MIN_EXCESS * scatter
    )
    y, x = y[sharp], x[sharp]
    around = at(_AROUND)
    repaired = np.nanmedian(around, axis=0) if sharp.any() else np.zeros(0)
    return Candidates(
        places[sharp],
        level[sharp],
        scatter[sharp],
        excess[sharp],
        shared[sharp],
        repaired.astype(np.float32),
    )
