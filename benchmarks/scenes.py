"""Test stacks of the quality tables: fixed seeds that no shipped training uses.

::

    quality   a meristem for each microscope, from a good one to the stack one would throw away
    domains   meristems and filaments, imaged as in the trainings, but other specimens
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.photons import Camera
from zenhance.models.header import Card
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf_base import Psf
from zenhance.simulate.microscope import Microscope
from zenhance.simulate.presets import as_microscope
from zenhance.simulate.samples import simulate
from zenhance.stack import Stack, VoxelSize
from zenhance.types import FloatArray, FloatTriple

__all__ = ["Plan", "Scene", "domain_plans", "held_out_seeds", "quality_plans", "trained_on_test"]

Shape = tuple[int, int, int]

VOXEL_UM = (0.5, 0.22, 0.22)
SHAPE_PX, SMALL_SHAPE_PX = (32, 112, 112), (20, 72, 72)
QUALITY_MICROSCOPES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("default", {}),
    ("good", {"preset": "good"}),
    ("typical", {"preset": "typical"}),
    ("dim", {"preset": "dim"}),
    ("deep", {"preset": "deep"}),
    ("throw_away", {"preset": "throw_away"}),
)
QUALITY_SEED = 100
QUICK_STACKS = ("default", "dim")

DOMAIN_MERISTEM_SEED, DOMAIN_FILAMENTS_SEED = 120, 140
DOMAIN_MERISTEM_MICROSCOPES: tuple[dict[str, Any], ...] = (
    {},
    {"photons": 25.0},
    {"photons": 150.0},
    {"attenuation_um": 6.0},
)
DOMAIN_FILAMENTS_MICROSCOPES: tuple[dict[str, Any], ...] = (
    {"preset": "filaments_set1"},
    {"preset": "filaments_set2"},
)
# A third domain that nothing is trained on: other structures, a blur and a noise between those of
# the first two.
DOMAIN_STRUCTURES_SEED = 160
DOMAIN_STRUCTURES_KINDS = ("membranes", "dots", "rings", "areas")
_THIN: dict[str, Any] = {
    "sigma_shallow_um": (0.5, 0.16, 0.16),
    "sigma_deep_um": (0.5, 0.16, 0.16),
    "haze_deep": 0.0,
    "attenuation_um": 1e6,
    "depth_steps": 2,
    "background_photons": 1.0,
}
DOMAIN_STRUCTURES_MICROSCOPES: tuple[dict[str, Any], ...] = (
    {**_THIN, "photons": 600.0, "gain": 2.0},
    {**_THIN, "photons": 80.0},
)
STRUCTURES_VOXEL_UM = (0.2, 0.08, 0.08)
FILAMENTS_VOXEL_UM = (0.1, 0.025, 0.025)
FILAMENTS_SHAPE_PX = (1, 256, 256)


@dataclass(frozen=True, slots=True)
class Plan:
    """A stack to simulate: specimen, seed and microscope."""

    title: str
    specimen: str
    seed: int
    shape_px: Shape
    voxel_size_um: FloatTriple
    microscope: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Scene:
        """Simulate the stack."""
        seen = simulate(
            self.specimen,
            seed=self.seed,
            shape_px=self.shape_px,
            voxel_size_um=self.voxel_size_um,
            settings=self.settings,
            microscope=as_microscope(self.microscope),
        )
        scope = seen.microscope
        return Scene(
            self.title,
            self.seed,
            seen.measured,
            np.asarray(seen.truth.data, np.float32),
            np.asarray(seen.blurred.data, np.float32),
            np.asarray(seen.labels.data),
            np.asarray(seen.depth_um.data, np.float32),
            seen.psf_mean,
            PoissonGauss(scope.gain, scope.offset, scope.read_noise),
            scope,
            self.voxel_size_um,
        )


@dataclass(frozen=True)
class Scene:
    """A simulated stack with everything that is known about it.

    Parameters
    ----------
    measured : Stack
        What the methods get.
    truth, blurred : float32 array (Z, Y, X)
        The sharp specimen, and the measurement's expectation, in the measurement's units.
    labels : integer array (Z, Y, X)
        Cells from 1.
    depth_um : float32 array (Z, Y, X)
        Tissue above each voxel.
    psf : Psf
        Averaged over the emitted light.
    camera : Camera
        True gain, offset and read noise.
    microscope : Microscope
        What it was seen by.
    fine_voxel_um : tuple of float
        (z, y, x) of truth, labels and depth.
    """

    title: str
    seed: int
    measured: Stack
    truth: FloatArray
    blurred: FloatArray
    labels: npt.NDArray[Any]
    depth_um: FloatArray
    psf: Psf
    camera: Camera
    microscope: Microscope
    fine_voxel_um: FloatTriple

    @property
    def psf_spec(self) -> str:
        """The point spread function as a request takes it."""
        return "sigma_um=" + ",".join(f"{s:.4g}" for s in self.psf.sigma_um)

    @property
    def voxel_size_um(self) -> FloatTriple:
        """(z, y, x)."""
        return self.measured.voxel_size.require()

    def binned(self, scale: int) -> Scene:
        """Return the scene at pixels ``scale`` times larger (y, x); the truth stays fine.

        Notes
        -----
        The mean of n pixels has 1/n of the gain and 1/sqrt(n) of the read noise.
        """
        if scale == 1:
            return self
        data = self.measured.read().astype(np.float32)
        depth, height, width = data.shape
        blocks = data.reshape(depth, height // scale, scale, width // scale, scale).mean(
            axis=(2, 4)
        )
        z, y, x = self.voxel_size_um
        measured = self.measured.with_data(
            blocks, voxel_size=VoxelSize.of((z, y * scale, x * scale), "file")
        )
        camera = PoissonGauss(
            self.camera.gain / scale**2, self.camera.offset, self.camera.read_noise / scale
        )
        return replace(self, measured=measured, camera=camera)

    def imaged(self, image: FloatArray) -> FloatArray:
        """Return the noise-free image of a sharp specimen: blur and haze at each depth.

        The stage does not drift.


        Parameters
        ----------
        image : float32 array (Z, Y, X)
            On the voxels of the truth, in its units. Beyond the borders it is continued by its
            mirror image.

        Returns
        -------
        float32 array (Z, Y, X)
            In the same units; light that is spread out of the field is lost, and what comes in is
            the mirror image's.
        """
        scope, margin = self.microscope, self.microscope.margin_px(self.fine_voxel_um)
        around = [(m, m) for m in margin]
        emission = np.pad(
            (image - np.float32(scope.offset)) / np.float32(scope.gain), around, mode="symmetric"
        )
        depth = np.pad(self.depth_um, around, mode="symmetric")
        light = scope.blur_photons(emission[None], depth, self.fine_voxel_um)[0]
        z, y, x = (slice(m, m + n) for m, n in zip(margin, image.shape, strict=True))
        return np.asarray(
            light[z, y, x] * np.float32(scope.gain) + np.float32(scope.offset), np.float32
        )


def quality_plans(*, quick: bool = False) -> tuple[Plan, ...]:
    """Return the stacks of the quality table; with ``quick``, two small ones."""
    plans = []
    for number, (title, microscope) in enumerate(QUALITY_MICROSCOPES):
        if not quick or title in QUICK_STACKS:
            plans.append(
                Plan(
                    title,
                    "meristem",
                    QUALITY_SEED + number,
                    SMALL_SHAPE_PX if quick else SHAPE_PX,
                    VOXEL_UM,
                    microscope,
                )
            )
    return tuple(plans)


def domain_plans(*, quick: bool = False) -> dict[str, tuple[Plan, ...]]:
    """Return the test stacks of each domain, all of one size; with ``quick``, fewer and smaller."""
    rounds = (1, 1) if quick else (2, 5)
    meristems = DOMAIN_MERISTEM_MICROSCOPES * rounds[0]
    filaments = DOMAIN_FILAMENTS_MICROSCOPES * rounds[1]
    shape = (8, 64, 64) if quick else (24, 128, 128)
    return {
        "meristem": tuple(
            Plan(f"meristem {n}", "meristem", DOMAIN_MERISTEM_SEED + n, shape, VOXEL_UM, m)
            for n, m in enumerate(meristems[:2] if quick else meristems)
        ),
        "filaments": tuple(
            Plan(
                f"filaments {n}",
                "filaments",
                DOMAIN_FILAMENTS_SEED + n,
                FILAMENTS_SHAPE_PX,
                FILAMENTS_VOXEL_UM,
                m,
            )
            for n, m in enumerate(filaments)
        ),
        "structures": _structures(quick),
    }


def _structures(quick: bool) -> tuple[Plan, ...]:
    """Return every kind of structure, imaged by each microscope."""
    rows = [
        (kind, seen) for kind in DOMAIN_STRUCTURES_KINDS for seen in DOMAIN_STRUCTURES_MICROSCOPES
    ]
    return tuple(
        Plan(
            f"structures {n}",
            "structures",
            DOMAIN_STRUCTURES_SEED + n,
            FILAMENTS_SHAPE_PX,
            STRUCTURES_VOXEL_UM,
            seen,
            {"kind": kind},
        )
        for n, (kind, seen) in enumerate(rows[:2] if quick else rows)
    )


def _all_plans() -> Iterator[Plan]:
    yield from quality_plans()
    for plans in domain_plans().values():
        yield from plans


def held_out_seeds() -> frozenset[tuple[str, int]]:
    """Return every specimen and seed of the quality tables."""
    return frozenset((plan.specimen, plan.seed) for plan in _all_plans())


def trained_on_test(card: Card) -> tuple[str, ...]:
    """Return the test specimens in a model's training or validation; empty for a fair test."""
    ours, seen = held_out_seeds(), []
    for plan in card.recipe.get("data", {}).get("simulated", ()):
        first = int(plan.get("seed", 0))
        many = int(plan.get("count", 0)) + int(plan.get("validation", 0))
        seen += [
            f"{specimen} {seed}"
            for specimen, seed in sorted(ours)
            if specimen == plan.get("specimen") and first <= seed < first + many
        ]
    return tuple(seen)
