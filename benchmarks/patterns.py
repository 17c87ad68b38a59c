"""Artefact patterns of structured illumination, with known directions and strengths.

.. math::

    y' = y + \\bar y \\sum_d s_d \\cos(2\\pi (\\sin\\alpha_d r + \\cos\\alpha_d c) / p + \\varphi_d)

with the local mean :math:`\\bar y` of the picture. One direction makes stripes; three at 60 degrees
make a honeycomb. Training uses the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.experiments.photographs import BORDER_PX
from zenhance.methods.dps.pairs import STRIPE_SHARE, STRIPES
from zenhance.types import FloatArray

__all__ = ["Pattern", "put_on", "share_left"]

FWHM_PX = 3.0
PERIODS = (1.2, 2.5)
"""In widths of the PSF."""
MIN_STRENGTH = 0.5
"""Share of the largest strength that every direction has at least: what is judged is there to be
seen."""
MEAN_PX = 5


@dataclass(frozen=True, slots=True)
class Pattern:
    """Directions (radians), strengths and phases of the waves, and their period in pixels."""

    angles: tuple[float, ...]
    strengths: tuple[float, ...]
    phases: tuple[float, ...]
    period_px: float

    @classmethod
    def drawn(cls, kind: Literal["stripes", "honeycomb"] | str, seed: int) -> Pattern:
        """Draw a pattern: stripes have one direction, a honeycomb three."""
        rng = np.random.default_rng([seed, 13])
        many = 1 if kind == "stripes" else STRIPES
        turn = rng.uniform(0, np.pi)
        return cls(
            tuple(float(turn + k * np.pi / STRIPES) for k in range(many)),
            tuple(float(v) for v in STRIPE_SHARE * rng.uniform(MIN_STRENGTH, 1.0, many)),
            tuple(float(v) for v in rng.uniform(0, 2 * np.pi, many)),
            float(FWHM_PX * rng.uniform(*PERIODS)),
        )

    def waves(self, shape_px: tuple[int, ...]) -> list[npt.NDArray[np.float64]]:
        """Return the phase of each wave, (Y, X)."""
        rows, columns = np.mgrid[: shape_px[0], : shape_px[1]].astype(np.float64)
        return [
            2 * np.pi / self.period_px * (np.sin(a) * rows + np.cos(a) * columns) + p
            for a, p in zip(self.angles, self.phases, strict=True)
        ]


def _around(picture: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(ndimage.uniform_filter(picture.astype(np.float64), MEAN_PX, mode="nearest"))


def put_on(picture: FloatArray, pattern: Pattern) -> FloatArray:
    """Return a picture (Y, X) with the pattern added."""
    waves = sum(
        s * np.cos(w) for s, w in zip(pattern.strengths, pattern.waves(picture.shape), strict=True)
    )
    return np.asarray(picture + _around(picture) * waves, np.float32)


def share_left(image: FloatArray, picture: FloatArray, pattern: Pattern) -> float:
    """Return the pattern's energy left in an image, as a share of what was added.

    The difference between image and picture is fitted by waves of the pattern's directions and
    period, as strong as the local mean of the picture, at any phase. The result is the sum of their
    squared strengths over that of the pattern.
    """
    inside = (slice(BORDER_PX, -BORDER_PX),) * 2
    around = _around(picture)[inside]
    waves = [w[inside] for w in pattern.waves(picture.shape)]
    columns = np.stack([(around * part(w)).ravel() for w in waves for part in (np.cos, np.sin)], 1)
    difference = (image.astype(np.float64) - picture)[inside].ravel()
    found, *_ = np.linalg.lstsq(columns, difference, rcond=None)
    return float(np.sum(found**2) / np.sum(np.square(pattern.strengths)))
