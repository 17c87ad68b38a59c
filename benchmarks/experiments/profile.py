"""Numbers of microscopes drawn at random, measured from their stacks alone.

Microscopes are drawn at random and image two specimens through their full depth: a meristem (walls)
and a mesh of filaments, which follows another grammar. Each number of the profile is compared with
the microscope's, in each third of the depth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.console import Tell
from benchmarks.runner import QUICK, Experiment
from benchmarks.tables import TextTable
from zenhance.measurement.profile import measure_profile
from zenhance.physics.profile import MicroscopeProfile, Quantity
from zenhance.simulate.microscope import Microscope
from zenhance.simulate.specimen import Dye, Grid, inside_margin, load_specimen, tissue_above_um
from zenhance.types import FloatArray, FloatTriple

__all__ = ["EXPERIMENT", "Figures", "ProfileReport", "draw_microscope", "full_depth", "table"]

DEPTH_UM = 64.0
SIDE_PX = 96
SURFACE_UM = 3.0
SPECIMENS = ("meristem", "filaments")
SEEDS = range(300, 312)
"""Microscopes of the table; none of them was used to choose a constant of the measurement."""
THIRDS = ("shallow", "middle", "deep")
TITLES = {
    "sigma_yx": "σ_yx",
    "sigma_z": "σ_z",
    "attenuation": "attenuation length",
    "gain": "gain",
    "offset": "offset",
}
GOALS = {"sigma_yx": 15.0, "sigma_z": 20.0, "attenuation": 10.0, "gain": 10.0, "offset": 3.0}
Z_STEPS_UM = (0.3, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True, slots=True)
class Figures:
    """Errors of one stack: percent (grey values for the offset), and whether the interval holds.

    Parameters
    ----------
    specimen : str
        Which one.
    z_um : float
        Distance of planes.
    seconds : float
        Of the measurement.
    errors : dict
        Quantity and third of the depth -> absolute error.
    covered : dict
        The same keys -> whether the 90 % interval holds the truth.
    told : dict
        The same keys -> where the number comes from.
    """

    specimen: str
    z_um: float
    seconds: float
    errors: dict[tuple[str, int], float]
    covered: dict[tuple[str, int], bool]
    told: dict[tuple[str, int], str]


def draw_microscope(seed: int) -> tuple[Microscope, FloatTriple]:
    """Return a microscope at random and the voxel size that suits it."""
    rng = np.random.default_rng([seed, 77])
    yx = float(rng.uniform(0.13, 0.28))
    z = yx * float(rng.uniform(2.5, 4.5))
    wider = float(rng.uniform(1.2, 2.4))
    gain = float(np.exp(rng.uniform(np.log(0.5), np.log(20.0))))
    photons = float(np.exp(rng.uniform(np.log(80.0), np.log(600.0))))
    scope = Microscope(
        sigma_shallow_um=(z, yx, yx),
        sigma_deep_um=(z * wider, yx * wider, yx * wider),
        deep_at_um=60.0,
        depth_steps=6,
        haze_deep=float(rng.uniform(0.0, 0.35)),
        attenuation_um=float(rng.uniform(18.0, 60.0)),
        photons=photons,
        background_photons=float(rng.uniform(0.1, 2.0)),
        gain=gain,
        offset=float(rng.uniform(5.0, 300.0)),
        read_noise=float(rng.uniform(0.0, 5.0)),
    )
    step = float(rng.choice(Z_STEPS_UM))
    pixel = round(float(rng.uniform(0.8, 1.2)) * yx, 3)
    return scope, (step, pixel, pixel)


def _meristem(grid: Grid, seed: int) -> Dye:
    model = load_specimen("meristem")(radius_um=120.0, apex_um=SURFACE_UM, flower=False)
    return model.render(grid, seed)


def _filaments(grid: Grid, seed: int) -> Dye:
    """Return filaments in all directions below a slanted surface."""
    settings = {"tilt_rad": 0.9, "width_um": 0.05, "density_per_um": 1.2, "layer_um": 2.0}
    dye = load_specimen("filaments")(**settings).render(grid, seed)
    z, _, x = np.meshgrid(*grid.margins, indexing="ij")
    within = z > SURFACE_UM + 0.1 * x
    density = np.asarray(dye.density * within * 6.0, np.float32)
    return replace(dye, density=density, depth_um=tissue_above_um(within, grid.voxel_size_um[0]))


RENDER: dict[str, Callable[[Grid, int], Dye]] = {"meristem": _meristem, "filaments": _filaments}


def full_depth(
    specimen: str, scope: Microscope, voxel_um: FloatTriple, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return a measured stack (Z, Y, X) of the full depth, and the depth of each voxel in µm."""
    grid = Grid((round(DEPTH_UM / voxel_um[0]), SIDE_PX, SIDE_PX), voxel_um)
    margin = scope.margin_px(voxel_um)
    dye = RENDER[specimen](grid.grown(margin), seed)
    seen = scope.photograph(dye, grid, seed)
    inner = inside_margin(margin, dye.labels.shape)
    return np.asarray(seen.measured.data), np.asarray(dye.depth_um[inner])


def compare(
    found: MicroscopeProfile, scope: Microscope, specimen: str, z_um: float, seconds: float
) -> Figures:
    errors: dict[tuple[str, int], float] = {}
    covered: dict[tuple[str, int], bool] = {}
    told: dict[tuple[str, int], str] = {}

    def put(key: tuple[str, int], quantity: Quantity, true: float, absolute: bool = False) -> None:
        error = abs(quantity.value - true)
        errors[key] = error if absolute else 100.0 * error / true
        covered[key] = quantity.low <= true <= quantity.high
        told[key] = quantity.origin

    for third in range(3):
        depth = (third + 0.5) * 60.0 / 3.0
        z, yx, _ = scope.sigma_at_um(depth)
        put(("sigma_yx", third), found.sigma_yx_um.quantity_at(depth), yx)
        put(("sigma_z", third), found.sigma_z_um.quantity_at(depth), z)
    put(("attenuation", 0), found.attenuation_um, scope.attenuation_um)
    put(("gain", 0), found.gain, scope.gain)
    put(("offset", 0), found.offset, scope.offset, absolute=True)
    return Figures(specimen, z_um, seconds, errors, covered, told)


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """Figures of all stacks."""

    figures: tuple[Figures, ...]

    def record(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold."""
        stacks = [
            {
                "specimen": f.specimen,
                "z_um": f.z_um,
                "seconds": f.seconds,
                "errors": {f"{name} {third}": e for (name, third), e in f.errors.items()},
                "covered": {f"{name} {third}": c for (name, third), c in f.covered.items()},
                "told": {f"{name} {third}": t for (name, third), t in f.told.items()},
            }
            for f in self.figures
        ]
        return {"stacks": stacks}


def measure_profiles(seeds: Sequence[int], tell: Tell) -> ProfileReport:
    """Simulate and measure; one stack a seed and specimen."""
    figures = []
    total = len(seeds) * len(SPECIMENS)
    for seed in seeds:
        scope, voxel = draw_microscope(seed)
        for specimen in SPECIMENS:
            tell(f"microscope {seed}, {specimen}", len(figures) / total)
            stack, _ = full_depth(specimen, scope, voxel, seed)
            start = time.perf_counter()
            found = measure_profile(stack, voxel)
            seconds = time.perf_counter() - start
            figures.append(compare(found, scope, specimen, voxel[0], seconds))
    return ProfileReport(tuple(figures))


def table(report: ProfileReport) -> TextTable:
    """Return median errors and coverage."""
    figures = report.figures
    rows = []
    for quantity, third in figures[0].errors:
        unit = "grey values" if quantity == "offset" else "%"
        where = THIRDS[third] if quantity.startswith("sigma") else "whole"
        cells = []
        for chosen in (*SPECIMENS, None):
            errors = [f.errors[quantity, third] for f in figures if chosen in (None, f.specimen)]
            cells.append(f"{np.median(errors):.1f} {unit}")
        held = 100.0 * float(np.mean([f.covered[quantity, third] for f in figures]))
        goal = f"{GOALS[quantity]:g} {unit}"
        rows.append((TITLES[quantity], where, goal, *cells, f"{held:.0f} %"))
    steps = [f.z_um for f in figures]
    note = (
        f"Median error over {len(figures)} stacks, z steps {min(steps):g} to {max(steps):g} µm; "
        f"slowest measurement {max(f.seconds for f in figures):.1f} s."
    )
    header = ("quantity", "depth", "goal", *SPECIMENS, "both", "90 % interval holds the truth")
    return TextTable("Microscopes measured from the stack", header, tuple(rows), (note,))


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_profiles(SEEDS[:2] if options.quick else SEEDS, tell),
    tables=lambda report: {"profile": table(report)},
    page="physics.md",
    options=(QUICK,),
)
