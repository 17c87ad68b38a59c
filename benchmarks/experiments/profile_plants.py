"""Profiles of real stacks, and what deconvolution with them makes of a shallow and a deep plane.

Each file is measured and deconvolved with the defaults, the middle of its field over all planes.
The picture shows the measurement and the result at one contrast; the table lists what was measured
and what is doubted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.console import Tell
from benchmarks.paths import real_stacks
from benchmarks.runner import Experiment, Option, Section
from benchmarks.tables import TextTable
from zenhance.assess.before_after import before_after, standard_cuts
from zenhance.errors import ReadError
from zenhance.io import open_stack
from zenhance.io.names import stem
from zenhance.physics.profile import MAX_ATTENUATION_UM, MicroscopeProfile
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EXPERIMENT", "PlantReport", "measure", "table"]

FIELD_PX = 200
MIN_PLANES = 8


@dataclass(frozen=True, slots=True)
class Plant:
    """One file: its profile, its pixels before and after, the iterations of each third."""

    name: str
    voxel_um: FloatTriple
    profile: MicroscopeProfile
    used: bool
    iterations: tuple[int, ...]
    before: FloatArray
    after: FloatArray


@dataclass(frozen=True, slots=True)
class PlantReport:
    """All files."""

    plants: tuple[Plant, ...]

    def record(self) -> dict[str, Any]:
        """Return profiles and iterations as values that JSON can hold."""
        return {
            p.name: {
                "used": p.used,
                "iterations": list(p.iterations),
                "profile": p.profile.model_dump(mode="json"),
            }
            for p in self.plants
        }


def _stack(path: Path) -> Stack | None:
    """Return the first channel's middle field over all planes, or None of an unsuitable file."""
    try:
        stack = open_stack(path)
    except ReadError:
        return None
    if stack.size("Z") < MIN_PLANES or None in stack.voxel_size.zyx_um or "label" in path.stem:
        return None
    spans = [(max(0, (n - FIELD_PX) // 2), FIELD_PX) for n in stack.volume_shape[1:]]
    rows, columns = (slice(start, start + size) for start, size in spans)
    volume = stack.read(0, 0, (slice(0, stack.volume_shape[0]), rows, columns))
    return Stack(volume, "ZYX", stack.voxel_size, name=stem(path), metadata=stack.metadata)


def measure(files: str, tell: Tell) -> PlantReport:
    """Measure and deconvolve each stack of at least 8 planes whose voxel size is known."""
    plants = []
    paths = sorted(real_stacks(files))
    for number, path in enumerate(paths):
        tell(path.name, number / len(paths))
        stack = _stack(path)
        if stack is None:
            continue
        result = enhance(stack, EnhanceRequest(device="cpu"))
        found = (result.provenance.notes.get("profiles") or [None])[0]
        used = found is not None
        if found is None:
            asked = enhance(
                stack, EnhanceRequest(device="cpu", method="identity", profile="measure")
            )
            found = asked.provenance.notes["profiles"][0]
        stops = result.provenance.notes.get("iterations_by_depth")
        z, y, x = (float(v or 1.0) for v in stack.voxel_size.zyx_um)
        plants.append(
            Plant(
                stem(path),
                (z, y, x),
                MicroscopeProfile.model_validate(found, strict=False),
                used,
                tuple(stops or (result.provenance.notes["iterations"],)),
                np.asarray(stack.data, np.float32),
                np.asarray(result.stack.data, np.float32),
            )
        )
    return PlantReport(tuple(plants))


def _row(plant: Plant) -> tuple[str, ...]:
    profile = plant.profile
    length = profile.attenuation_um
    light = "not measured" if length.origin == "default" else f"{length.value:.3g} µm"
    if length.origin != "default" and length.value >= MAX_ATTENUATION_UM:
        light = "no loss"
    ends = (0.0, profile.sigma_yx_um.depth_um[-1])
    widths = []
    for curve in (profile.sigma_z_um, profile.sigma_yx_um):
        marks = "" if "measured" in curve.origins else " (default)"
        values = " → ".join(f"{curve.quantity_at(d).value:.2f}" for d in ends)
        widths.append(f"{values} µm{marks}")
    depth = f"{ends[1]:.0f} µm"
    stops = " ".join(str(n) for n in plant.iterations)
    run = stops if plant.used else f"{stops} (default PSF)"
    return (plant.name, depth, *widths, light, run, "; ".join(profile.doubts) or "-")


def table(report: PlantReport) -> TextTable:
    """Return a row for each file."""
    header = ("file", "depth", "σ_z", "σ_yx", "attenuation", "iterations", "doubted")
    notes = ("Widths at the surface and at the deepest plane; iterations of each third.",)
    return TextTable("Profiles of real stacks", header, tuple(map(_row, report.plants)), notes)


def _pictures(report: PlantReport) -> dict[str, Image]:
    return {
        f"profile_{p.name}.png": before_after(
            {"measured": p.before, "deconvolved": p.after},
            p.voxel_um,
            standard_cuts((p.before.shape[0], *p.before.shape[1:]), p.voxel_um[0]),
        )
        for p in report.plants
    }


def _sections(report: PlantReport) -> list[Section]:
    shown = [
        f"![{p.name}: measured and deconvolved](images/profile_{p.name}.png)" for p in report.plants
    ]
    text = "\n\n".join([table(report).markdown(), *shown])
    return [Section("physics.md", "profile_plants", text)]


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure(options.real, tell),
    tables=lambda report: {"profile_plants": table(report)},
    pictures=_pictures,
    sections=_sections,
    page="physics.md",
    options=(
        Option(
            "real",
            "Real files or folders of them.",
            "PATH,PATH",
            required="the experiment profile_plants needs a stack; give one with --real FILE, or "
            "a folder",
        ),
    ),
)
