"""Hallucination probes of all methods: sensitivity by strength and depth, and false structure."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.judge_scenes import VOXEL_UM, make_scene
from benchmarks.machine import Machine, describe_machine
from benchmarks.plots import Panel, draw_panels
from benchmarks.runner import METHODS, QUICK, Experiment, Option, Tell, path
from benchmarks.tables import TextTable
from zenhance.assess.probes import GAP, PIECE, SPOT, Finding
from zenhance.contract import registry
from zenhance.errors import RunCancelled, sentence
from zenhance.io import open_stack
from zenhance.pipeline.probing import ProbeReport, probe
from zenhance.stack import Stack

__all__ = ["EXPERIMENT", "ProbesReport", "Row", "measure_probes", "probes_tables"]

REAL = {
    "meristem p60": (
        "p60_floral_meristem_membrane_raw.tif", (slice(8, 40), slice(170, 234), slice(170, 234))
    ),
    "ovule": ("ovule_membrane_crop_raw.tif", (slice(0, 32), slice(32, 96), slice(32, 96))),
}  # fmt: skip
PHOTONS = 20.0


@dataclass(frozen=True)
class Row:
    """One method on one stack: what the probes found, or why there is nothing."""

    stack: str
    method: str
    findings: tuple[Finding, ...] = ()
    false_in_noise: float = 0.0
    false_in_clouds: float = 0.0
    continuity: float = 0.0
    seconds: float = 0.0
    failure: str = ""

    @classmethod
    def of(cls, stack: str, found: ProbeReport) -> Row:
        """Take the figures of a report."""
        return cls(
            stack,
            found.method,
            found.findings,
            found.false_in_noise,
            found.false_in_clouds,
            found.continuity,
            found.seconds,
        )

    def shares(self, kind: str) -> list[tuple[float, list[float]]]:
        """Return strengths, and the share found in each band of depth."""
        of = [f for f in self.findings if f.kind == kind]
        return [
            (s, [f.share for f in sorted(of, key=lambda f: f.from_um) if f.strength == s])
            for s in sorted({f.strength for f in of})
        ]


@dataclass(frozen=True)
class ProbesReport:
    """All rows."""

    rows: tuple[Row, ...]
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return asdict(self)


def _stacks(options: Namespace) -> Iterator[tuple[str, Stack, str | None]]:
    """Yield title, stack and PSF of what is probed."""
    scene = make_scene("walls", PHOTONS, 3, gain=2.0, read_photons=0.3, haze=0.5)
    z, y, x = scene.sigma_um()
    yield "simulated walls", Stack.from_array(scene.measured, "ZYX", VOXEL_UM), (
        f"sigma_um={z},{y},{x}"
    )  # fmt: skip
    if options.quick:
        return
    for title, (name, region) in REAL.items():
        file = options.data / name
        if file.exists():
            stack = open_stack(file, axes="ZYX").crop(dict(zip("ZYX", region, strict=True)))
            yield title, stack, None


def measure_probes(options: Namespace, tell: Tell) -> ProbesReport:
    """Probe each method on each stack."""
    wanted = options.methods or registry.names()
    stacks, rows = list(_stacks(options)), []
    for number, (title, stack, psf) in enumerate(stacks):
        for place, method in enumerate(wanted):
            done = (number + place / len(wanted)) / len(stacks)
            tell(f"{title}, {method}", done)
            try:
                found = probe(stack, method=method, psf=psf, device="cpu")
            except RunCancelled:
                raise
            except Exception as error:  # noqa: BLE001 - a method that fails keeps its row
                rows.append(Row(title, method, failure=sentence(error)))
            else:
                rows.append(Row.of(title, found))
    return ProbesReport(tuple(rows), describe_machine())


def _by_depth(row: Row, kind: str) -> str:
    """Return the shares of the middle strength from the surface down."""
    found = row.shares(kind)
    if not found:
        return "–"
    return " · ".join(f"{100 * share:.0f}" for share in found[len(found) // 2][1])


def _by_strength(row: Row, kind: str) -> str:
    """Return the shares at all depths together, weak to strong."""
    totals = []
    for strength, _ in row.shares(kind):
        of = [f for f in row.findings if f.kind == kind and f.strength == strength]
        totals.append(100 * sum(f.found for f in of) / sum(f.planted for f in of))
    return " · ".join(f"{t:.0f}" for t in totals) or "–"


def probes_tables(report: ProbesReport) -> dict[str, TextTable]:
    """Return a row for each stack and method."""
    rows = []
    for row in report.rows:
        title = f"{row.stack}: {row.method}"
        if row.failure:
            rows.append((title, *["–"] * 6, row.failure))
            continue
        rows.append((
            title,
            _by_strength(row, SPOT),
            _by_strength(row, PIECE),
            _by_strength(row, GAP),
            _by_depth(row, GAP),
            f"{row.false_in_noise:.3g}",
            f"{row.false_in_clouds:.3g}",
            f"{row.continuity:+.2f}",
        ))  # fmt: skip
    widths = sorted({f.strength for row in report.rows for f in row.findings if f.kind == GAP})
    foot = (
        "Found, in % of what was planted, weak to strong: spots and wall pieces of 5, 15 and 40 % "
        "of the brightness at their depth, gaps of 1, 1.5 and 2.5 times the PSF's full width "
        f"({widths[0]:.1f} to {widths[-1]:.1f} µm). By depth: gaps of the middle width, from the "
        "surface down."
        if widths
        else "Nothing was planted.",
        "False structure per mm² of a section as thick as the PSF, in even light and in clouds of "
        "the tissue's light without walls. Continuity: gain in correlation of planes in random "
        "order; 0 is right.",
        f"Parts of 32 × 64 × 64 voxels. Measured on {report.machine.describe()}.",
    )
    header = (
        *("stack: method", "spots", "wall pieces", "gaps", "gaps by depth"),
        *("false in noise", "false in clouds", "continuity"),
    )
    return {"probes": TextTable("What probes find", header, tuple(rows), foot)}


def probes_pictures(report: ProbesReport) -> Mapping[str, Any]:
    """Return the sensitivity to gaps by width and depth, a panel for each stack."""
    stacks = dict.fromkeys(row.stack for row in report.rows if row.findings)
    panels = [
        Panel(stack, "width of the gap (um)", "found", _lines(report.rows, stack))
        for stack in stacks
    ]
    return {"probes.png": draw_panels(panels)} if panels else {}


def _lines(rows: Sequence[Row], stack: str) -> dict[str, tuple[Any, Any]]:
    lines = {}
    for row in rows:
        found = row.shares(GAP)
        if row.stack == stack and found:
            shares = [float(np.mean(at)) for _, at in found]
            lines[row.method[:18]] = (np.array([s for s, _ in found]), np.array(shares))
    return lines


EXPERIMENT = Experiment(
    measure=measure_probes,
    tables=probes_tables,
    page="assessment.md",
    pictures=probes_pictures,
    options=(
        QUICK,
        METHODS,
        Option(
            "data",
            "Folder with the real stacks.",
            "DIR",
            Path("../shared/data/plant_tissue"),
            path,
        ),
    ),
)
