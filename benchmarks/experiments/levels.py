"""Diffusion: the start timestep, and what becomes of noise without structure.

::

    start   RMSE against the start, on a meristem and on filaments: the image's own timestep
            should be the best one
    noise   light without structure: false structures, a wrong mean, or a repeated pattern
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from benchmarks.contenders import Contender
from benchmarks.judging import enhance_scene
from benchmarks.machine import Machine, describe_machine
from benchmarks.plots import Panel, draw_panels
from benchmarks.runner import DEVICE, QUICK, Experiment, Tell
from benchmarks.scenes import Plan, domain_plans
from benchmarks.tables import TextTable
from benchmarks.trajectory_figure import way_back_picture
from zenhance.assess.truth import compare_with_truth
from zenhance.physics.blur import Blur
from zenhance.physics.psf import resolve_psf
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.stack import Stack
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "EXPERIMENT",
    "LevelsReport",
    "NoiseRow",
    "StartRow",
    "level_plans",
    "measure_levels",
    "noise_table",
    "start_picture",
    "start_table",
]

METHOD = "diffusion"
STARTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STEPS = (1, 5, 20)
# Light without structure, for the F5 test: photons per voxel, a PSF of these standard deviations,
# and beads to compare with.
LIGHT = (2.0, 10.0)
NOISE_SHAPE_PX, NOISE_VOXEL_UM = (24, 128, 128), (0.5, 0.22, 0.22)
NOISE_PSF = "sigma_um=1.0,0.286,0.286"
BEAD_PHOTONS = 10.0
"""Light that a bead adds at the brightest voxel of its image."""
RIM_PX = 8


@dataclass(frozen=True, slots=True)
class StartRow:
    """RMSE in % of the data range by stack and number of steps.

    ``start`` is None for the timestep that the image itself has.
    """

    start: float | None
    rmse: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class NoiseRow:
    """Result of a method on light without structure.

    Parameters
    ----------
    title : str
        The method.
    false : tuple of float
        Structures per million voxels stronger than half a bead, for each light of :data:`LIGHT`.
    mean_error : tuple of float
        Relative.
    repeated : tuple of float
        Correlation of what two independent noises became.
    bead : tuple of float
        What a bead that adds 10 photons became, in photons.
    """

    title: str
    false: tuple[float, ...]
    mean_error: tuple[float, ...]
    repeated: tuple[float, ...]
    bead: tuple[float, ...]


@dataclass(frozen=True)
class LevelsReport:
    """All figures; ``own`` is the timestep of each stack itself."""

    own: Mapping[str, float]
    starts: tuple[StartRow, ...]
    noise: tuple[NoiseRow, ...]
    machine: Machine
    plans: tuple[Plan, ...] = field(default=())
    device: str = "cpu"

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return {
            "stacks": [asdict(plan) for plan in self.plans],
            "levels": dict(self.own),
            "start": [asdict(row) for row in self.starts],
            "noise": [asdict(row) for row in self.noise],
            "machine": asdict(self.machine),
        }


def level_plans(*, quick: bool = False) -> tuple[Plan, ...]:
    """Return a meristem and a field of filaments of the domains' test stacks."""
    plans = domain_plans(quick=quick)
    return (plans["meristem"][0], plans["filaments"][0])


def measure_levels(
    *,
    quick: bool = False,
    device: str = "cpu",
    on_progress: Tell | None = None,
    weights: str | None = None,
) -> LevelsReport:
    """Start from many timesteps, and from light without structure.

    Parameters
    ----------
    quick : bool
        Fewer starts, smaller stacks.
    device : str
        Where to compute.
    on_progress : callable, optional
        Called with a title and the fraction done.
    weights : str, optional
        Of diffusion; left out, its default.
    """
    machine, plans = describe_machine(), level_plans(quick=quick)
    tell = on_progress or (lambda _title, _fraction: None)
    starts = (None, 0.2, 0.8) if quick else (None, *STARTS)
    scenes = {plan.specimen: plan.make() for plan in plans}
    found: list[StartRow] = []
    for number, start in enumerate(starts):
        tell("own timestep" if start is None else f"start {start:g}", 0.7 * number / len(starts))
        rmse: dict[str, tuple[float, ...]] = {}
        for name, scene in scenes.items():
            figures = []
            for steps in STEPS:
                settings = {"steps": steps, "data_consistency": 0.0} | (
                    {} if start is None else {"start": start}
                )
                image, _, _ = enhance_scene(
                    Contender("", "", METHOD, settings, weights), scene, device
                )
                report = compare_with_truth(image, scene.truth)
                figures.append(100 * report.rmse / report.data_range)
            rmse[name] = tuple(figures)
        found.append(StartRow(start, rmse))
    own = {
        name: _own_level(scene.measured, scene.psf_spec, device, weights)
        for name, scene in scenes.items()
    }
    rows = _rivals(weights)
    noise = []
    for number, (title, request) in enumerate(rows.items()):
        tell(f"noise, {title}", 0.7 + 0.3 * number / len(rows))
        noise.append(_noise_row(title, request, device, quick))
    return LevelsReport(own, tuple(found), tuple(noise), machine, plans, device)


def _own_level(stack: Stack, psf: str, device: str, weights: str | None) -> float:
    request = EnhanceRequest(
        method=METHOD,
        settings={"steps": 1},
        psf=psf,
        device=device,
        weights=weights,
        arbitrate=False,
    )
    return float(enhance(stack, request).provenance.notes["timestep of the image"])


def _rivals(weights: str | None) -> dict[str, EnhanceRequest]:
    def asked(method: str, **settings: Any) -> EnhanceRequest:
        needs = None if method == "identity" else NOISE_PSF
        return EnhanceRequest(
            method=method,
            settings=settings,
            psf=needs,
            weights=weights if method == METHOD else None,
            arbitrate=False,
        )

    rows = {
        "measured (identity)": asked("identity"),
        "RL 3-D, 10 iterations": asked("gaussian_deconvolution", stop="fixed"),
        "RL 3-D, 25 iterations": asked("gaussian_deconvolution", stop="fixed", iterations=25),
        "RL 3-D, stop rule": asked("gaussian_deconvolution"),
    }
    rows |= {f"diffusion, N = {n}": asked(METHOD, steps=n) for n in STEPS}
    return rows | {
        f"diffusion, N = {n}, without data consistency": asked(
            METHOD, steps=n, data_consistency=0.0
        )
        for n in STEPS
    }


def _noise_row(title: str, request: EnhanceRequest, device: str, quick: bool) -> NoiseRow:
    shape = (8, 64, 64) if quick else NOISE_SHAPE_PX
    false, mean, repeated, beads = [], [], [], []
    for light in LIGHT:
        made = [
            _enhanced(_light(shape, light, seed, beads=seed == 2), request, device)
            for seed in (0, 1, 2)
        ]
        inner = tuple(slice(min(RIM_PX, n // 4), n - min(RIM_PX, n // 4)) for n in shape)
        first, second = (image[inner] for image in made[:2])
        response = _response(made[2], shape)
        level = float(np.median(first)) + max(response, 1e-6) / 2
        _, count = ndimage.label(first > level)
        false.append(1e6 * count / first.size)
        mean.append(abs(float(first.mean()) / light - 1))
        repeated.append(
            abs(float(np.corrcoef(first.ravel(), second.ravel())[0, 1]))
            if first.std() * second.std() > 0
            else 0.0
        )
        beads.append(response)
    return NoiseRow(title, tuple(false), tuple(mean), tuple(repeated), tuple(beads))


def _places(shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Return the positions of beads: the middles of the eight octants of the field."""
    return [
        (z, y, x)
        for z in _quarters(shape[0])
        for y in _quarters(shape[1])
        for x in _quarters(shape[2])
    ]


def _quarters(length: int) -> tuple[int, int]:
    return length // 4, 3 * length // 4


def _light(shape: tuple[int, int, int], light: float, seed: int, *, beads: bool) -> Stack:
    """Return photons of uniform light, with beads or without."""
    import torch

    expected = np.full(shape, light, np.float64)
    if beads:
        sharp = torch.zeros(shape)
        for place in _places(shape):
            sharp[place] = 1.0
        image = Blur.from_psf(resolve_psf(NOISE_PSF, {}, 3), NOISE_VOXEL_UM, shape)(sharp).numpy()
        expected = expected + BEAD_PHOTONS * image / image.max()
    counts = np.random.default_rng([seed, int(light)]).poisson(expected)
    return Stack.from_array(counts.astype(np.float32), "ZYX", NOISE_VOXEL_UM)


def _enhanced(stack: Stack, request: EnhanceRequest, device: str) -> FloatArray:
    return np.asarray(
        enhance(stack, request.model_copy(update={"device": device})).stack.read(), np.float32
    )


def _response(image: FloatArray, shape: tuple[int, int, int]) -> float:
    """Return the median height of beads above their surroundings."""
    ground = float(np.median(image))
    peaks = [
        image[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].max() - ground
        for z, y, x in _places(shape)
    ]
    return float(np.median(peaks))


def start_table(report: LevelsReport) -> TextTable:
    """Return RMSE by start, a column for each stack and number of steps."""
    names = list(report.own)
    header = ("start", *(f"{name}, N = {n}" for name in names for n in STEPS))
    rows = []
    for row in report.starts:
        title = "own timestep" if row.start is None else f"{row.start:g}"
        rows.append((title, *(f"{v:.2f}" for name in names for v in row.rmse[name])))
    levels = ", ".join(f"{name} t = {report.own[name]:.2f}" for name in names)
    foot = [f"RMSE in % of the data range, without data consistency; own timestep: {levels}."]
    foot += [_best_start(report, name) for name in names]
    return TextTable(
        "RMSE against the chosen start",
        header,
        tuple(rows),
        (*foot, f"Measured on {report.machine.describe()}."),
    )


def _best_start(report: LevelsReport, name: str) -> str:
    chosen = [row for row in report.starts if row.start is not None]
    own = next(row for row in report.starts if row.start is None)
    parts = []
    for k, steps in enumerate(STEPS):
        best = min(chosen, key=lambda row: row.rmse[name][k])
        parts.append(
            f"N = {steps} best at {best.start:g} ({best.rmse[name][k]:.2f}, own timestep "
            f"{own.rmse[name][k]:.2f})"
        )
    return f"{name.capitalize()}: {'; '.join(parts)}."


def noise_table(report: LevelsReport) -> TextTable:
    """Return the figures of each method on light without structure."""
    header = (
        "method",
        *(
            f"{what}, {light:g} photons"
            for light in LIGHT
            for what in ("false per million", "bead", "mean off %", "repeated")
        ),
    )
    rows = []
    for row in report.noise:
        cells = []
        for k in range(len(LIGHT)):
            cells += [
                f"{row.false[k]:.0f}",
                f"{row.bead[k]:.1f}",
                f"{100 * row.mean_error[k]:.2f}",
                f"{row.repeated[k]:.3f}",
            ]
        rows.append((row.title, *cells))
    foot = (
        "Even light with photon noise; false: groups of voxels above half of what a bead becomes, "
        "per million voxels, borders left out.",
        f"Bead: brightest value in the result of a bead whose image is {BEAD_PHOTONS:g} photons "
        "high, in photons (median of 8).",
        "Repeated: correlation between the results of two independent noises; anything but 0 "
        "would be a pattern of the method's own.",
        f"Measured on {report.machine.describe()}.",
    )
    spare = tuple(title for title in header if title.startswith(("mean off", "repeated")))
    return TextTable("Light without structure", header, tuple(rows), foot, spare)


def start_picture(report: LevelsReport) -> Image:
    """Draw RMSE over the start: a panel for each stack, a line for each number of steps."""
    chosen = [row for row in report.starts if row.start is not None]
    starts = np.array([row.start for row in chosen], float)
    panels = []
    for name, own in report.own.items():
        lines = {
            f"N = {n}": (starts, np.array([row.rmse[name][k] for row in chosen]))
            for k, n in enumerate(STEPS)
        }
        panels.append(Panel(f"{name}, own timestep {own:.2f}", "start", "RMSE %", lines))
    return draw_panels(panels, columns=2)


def _pictures(report: LevelsReport) -> dict[str, Image]:
    way_back = way_back_picture(report.plans[0].make(), device=report.device)
    return {"diffusion_start.png": start_picture(report), "diffusion_way_back.png": way_back}


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_levels(
        quick=options.quick, device=options.device, on_progress=tell
    ),
    tables=lambda report: {"start": start_table(report), "noise": noise_table(report)},
    page="methods/diffusion.md",
    pictures=_pictures,
    options=(QUICK, DEVICE),
)
