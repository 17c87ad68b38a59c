"""Shape of a plant organ: rounded domes with a smooth crease, and the layers below their surface.

::

          ___________                 depth 0        surface
        /  L1 L1 L1  \\   ___          0 ... L1        epidermis, one cell thick
       / L2 L2 L2 L2  \\/ L1 \\         L1 ... L1+L2    second layer
      /  corpus corpus    L2  \\       deeper          no layers

Everything is an analytic function of the position in µm, evaluated at cell seeds and voxels alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zenhance.types import FloatArray

__all__ = ["Tissue", "Waves"]

IntArray = npt.NDArray[np.int64]
UNFOLDED_UM = 2.0
"""Depth below the skin from which boundaries between layers fold fully."""


@dataclass(frozen=True, slots=True)
class Waves:
    """A smooth random function of position: a sum of plane waves of random direction and phase.

    Parameters
    ----------
    vectors : array (N, 3)
        Wave vectors in rad/µm.
    phases : array (N,)
        In rad.
    amplitude : float
        Standard deviation of the function.
    """

    vectors: FloatArray
    phases: FloatArray
    amplitude: float

    @classmethod
    def random(
        cls, rng: np.random.Generator, wavelength_um: float, amplitude: float, count: int = 8
    ) -> Waves:
        """Draw waves of 0.75 ... 1.5 times a wavelength in µm."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = wavelength_um * rng.uniform(0.75, 1.5, size=(count, 1))
        phases = rng.uniform(0, 2 * np.pi, size=count)
        return cls(
            np.asarray(directions * (2 * np.pi / lengths), np.float32),
            np.asarray(phases, np.float32),
            amplitude,
        )

    def __call__(self, points_um: FloatArray) -> FloatArray:
        """Return the function at points (N, 3), as (N,)."""
        value = np.zeros(len(points_um), np.float32)
        for vector, phase in zip(self.vectors, self.phases, strict=True):
            value += np.cos(points_um @ vector + phase)
        return value * np.float32(self.amplitude * np.sqrt(2.0 / len(self.phases)))


@dataclass(frozen=True, slots=True)
class Tissue:
    """Domes under a bumpy skin.

    Parameters
    ----------
    centres_um : array (N, 3)
        Centres of the spheres, (z, y, x).
    radii_um : array (N,)
        Their radii.
    crease_um : float
        How far two domes melt into each other where they meet.
    bumps : Waves
        Height of the skin above the spheres, in µm.
    folds : Waves, optional
        Deviation of the boundaries between layers from their depth, in µm; by default they follow
        the skin exactly.
    """

    centres_um: FloatArray
    radii_um: FloatArray
    crease_um: float
    bumps: Waves
    folds: Waves | None = None

    def layered_um(self, points_um: FloatArray, inward_um: FloatArray) -> FloatArray:
        """Return the folded depth below the skin (N,) that decides the layer of points (N, 3)."""
        if self.folds is None:
            return inward_um
        return np.asarray(
            inward_um + self.folds(points_um) * np.clip(inward_um / UNFOLDED_UM, 0, 1), np.float32
        )

    def inward_um(self, points_um: FloatArray) -> FloatArray:
        """Return the distance below the skin, across it, in µm (N,); negative outside.

        Notes
        -----
        The union of the spheres' distances is smooth: ``c log Σ exp(d_i / c)``.
        """
        distances = np.stack(
            [
                r - np.linalg.norm(points_um - c, axis=1)
                for c, r in zip(self.centres_um, self.radii_um, strict=True)
            ]
        )  # (domes, N)
        nearest = distances.max(axis=0)
        blend = np.log(np.exp((distances - nearest) / self.crease_um).sum(axis=0)) * self.crease_um
        return np.asarray(nearest + blend + self.bumps(points_um), np.float32)

    def layer(self, inward_um: FloatArray, thicknesses_um: tuple[float, ...]) -> IntArray:
        """Return the layer number (N,) of depths: 0 for the epidermis, the last for the corpus."""
        return np.searchsorted(np.cumsum(thicknesses_um), inward_um, side="right").astype(np.int64)
