"""The judge judged: truths, honest results, planted errors after steps to the data, wrong PSFs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.judge_results import HONEST, LIARS, expected_score, towards_the_data
from benchmarks.judge_scenes import (
    KINDS,
    VOXEL_UM,
    JudgedScene,
    blur_by,
    make_scene,
    random_scene,
)
from benchmarks.machine import Machine, describe_machine
from benchmarks.runner import QUICK, Experiment, Option, Tell, whole
from benchmarks.tables import TextTable
from zenhance.assess.reblur import FOUND_SIGMA, Microscopy, reblur_check
from zenhance.assess.reblur_report import FITTED_BELOW, FITTED_LEAST, ReblurReport
from zenhance.assess.verdict import BLIND_SHARE, decide
from zenhance.physics.psf import gaussian
from zenhance.types import FloatArray, Region

__all__ = ["EXPERIMENT", "JudgeReport", "Tally", "judge_scene", "measure_judge"]

STEPS = (0, 1, 3, 6)
PHOTONS = (30.0, 100.0, 300.0, 1000.0)
PSF_FACTORS = (0.7, 0.85, 1.0, 1.2, 1.4)
LIGHTS = ("green", "amber", "red")


@dataclass(frozen=True)
class Tally:
    """How many of the results of one kind got which light.

    Parameters
    ----------
    name : str
        The kind.
    green, amber, red : int
        Lights.
    doubtful : int
        Where the PSF was called doubtful.
    blind : int
        Where there was too little light to judge.
    visible, found : int
        Errors above the detection limit, and how many of those are amber or red.
    left : float
        Sum of the shares of the errors that are left after the steps.
    """

    name: str
    green: int = 0
    amber: int = 0
    red: int = 0
    doubtful: int = 0
    blind: int = 0
    visible: int = 0
    found: int = 0
    left: float = 0.0

    @property
    def total(self) -> int:
        """All of them."""
        return self.green + self.amber + self.red

    def adding(self, report: ReblurReport, visible: bool = False, left: float = 0.0) -> Tally:
        """Count one more."""
        light = decide(report, None).light
        return replace(
            self,
            **{light: getattr(self, light) + 1},
            doubtful=self.doubtful + report.psf_doubtful,
            blind=self.blind + (report.smallest_visible > BLIND_SHARE),
            left=self.left + left,
            visible=self.visible + visible,
            found=self.found + (visible and light != "green"),
        )


@dataclass(frozen=True, slots=True)
class _Lie:
    """One planted error: the report, what is left of it, and whether it can be seen."""

    report: ReblurReport
    left: float
    visible: bool


@dataclass(frozen=True)
class JudgeReport:
    """Lights of truths, of honest results, of planted errors, and of the truth with wrong PSFs."""

    truths: tuple[Tally, ...]
    honest: tuple[Tally, ...]
    liars: tuple[Tally, ...]
    psfs: tuple[Tally, ...]
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return asdict(self)


def judge_scene(scene: JudgedScene, result: FloatArray, *, deblurred: bool = True) -> ReblurReport:
    """Judge a result of a scene with its true microscope."""

    def imaging(image: FloatArray, _region: Region, /, z: float = 1.0, yx: float = 1.0) -> Any:
        return blur_by(scene.profile.widened(z, yx), image)

    widths = (scene.profile.sigma_z_um, scene.profile.sigma_yx_um, scene.profile.sigma_yx_um)
    border = [3.0 * max(w.values) / v for w, v in zip(widths, VOXEL_UM, strict=True)]
    haze = scene.haze()
    known = Microscopy(imaging, haze if haze.any() else None, (border[0], border[1], border[2]))
    report, _ = reblur_check(
        scene.measured,
        result,
        gaussian(scene.sigma_um()),
        VOXEL_UM,
        scene.known,
        deblurred=deblurred,
        microscopy=known if deblurred else None,
    )
    return report


def measure_judge(options: Namespace, tell: Tell) -> JudgeReport:
    """Judge everything."""
    seeds = 1 if options.quick else options.seeds
    kinds = ("walls", "spots") if options.quick else tuple(KINDS)
    photons = (100.0,) if options.quick else PHOTONS
    scenes = [(kind, n, seed) for seed in range(seeds) for kind in kinds for n in photons]
    truths = Tally("truth, any camera")
    count = 5 if options.quick else options.truths
    for seed in range(count):
        tell("truths", 0.3 * seed / count)
        scene = random_scene(seed)
        truths = truths.adding(judge_scene(scene, scene.truth))
    honest = {name: Tally(name) for name in HONEST}
    liars = {(name, k): Tally(f"{name}, {k} steps") for name in LIARS for k in STEPS}
    psfs = {factor: Tally(f"truth, PSF × {factor:g}") for factor in PSF_FACTORS}
    for number, (kind, light, seed) in enumerate(scenes):
        tell(f"{kind}, {light:g} photons", 0.3 + 0.7 * number / len(scenes))
        scene = make_scene(kind, light, 500 + seed, gain=2.0, read_photons=0.3)
        for name, (method, deblurred) in HONEST.items():
            report = judge_scene(scene, method(scene), deblurred=deblurred)
            honest[name] = honest[name].adding(report)
        for name, steps, lie in _lies(scene, seed):
            liars[name, steps] = liars[name, steps].adding(lie.report, lie.visible, lie.left)
        for factor in PSF_FACTORS:
            wrong = replace(scene, profile=scene.profile.widened(factor, factor))
            psfs[factor] = psfs[factor].adding(judge_scene(wrong, scene.truth))
    return JudgeReport(
        (truths,),
        tuple(honest.values()),
        tuple(liars.values()),
        tuple(psfs.values()),
        describe_machine(),
    )


def _lies(scene: JudgedScene, seed: int) -> Iterator[tuple[str, int, _Lie]]:
    """Yield each planted error after each number of steps."""
    honest = {steps: towards_the_data(scene, scene.truth, steps) for steps in STEPS}
    for name, liar in LIARS.items():
        planted = liar(scene, np.random.default_rng([seed, 3]))
        error = (planted - scene.truth).ravel()
        for steps in STEPS:
            wrong = towards_the_data(scene, planted, steps)
            report = judge_scene(scene, wrong)
            left = float((wrong - honest[steps]).ravel() @ error / (error @ error))
            fitted = FITTED_LEAST < report.spread_z < FITTED_BELOW
            score = expected_score(scene, wrong, honest[steps])
            score /= report.spread_z if fitted else 1.0
            yield name, steps, _Lie(report, left, score >= report.threshold_z + FOUND_SIGMA)


def judge_tables(report: JudgeReport) -> dict[str, TextTable]:
    """Return the table of lights."""
    header = (
        *("result", "n", "green", "amber", "red"),
        *("blind", "PSF doubtful", "left", "visible", "found"),
    )
    rows = []
    for tally in (*report.truths, *report.honest, *report.liars, *report.psfs):
        planted = tally in report.liars
        left = f"{tally.left / tally.total:.0%}" if planted else "–"
        seen = (left, str(tally.visible), str(tally.found)) if planted else ("–", "–", "–")
        counts = (getattr(tally, name) for name in (*LIGHTS, "blind", "doubtful"))
        rows.append((tally.name, str(tally.total), *map(str, counts), *seen))
    foot = (
        "Simulated stacks of 32 × 64 × 64 voxels: spots, filaments, walls and nuclei. The first "
        "row has 0.3 to 1000 photons, gain 1 to 10, read noise up to 1.5 photons, haze and blur "
        f"by depth; the others {PHOTONS[0]:g} to {PHOTONS[-1]:g} photons, gain 2, read noise 0.3.",
        "Blind: too little light to judge anything, therefore amber. Steps: damped Richardson-Lucy "
        "steps towards the data from the truth with the planted error. Left: how much of the error "
        "is in the result after them. Visible: the expected z-score of what is left, in units of "
        "the noise that is left, exceeds the threshold by 1.645; found: amber or red among them.",
        f"Measured on {report.machine.describe()}.",
    )
    return {"judge": TextTable("What the judge says of known results", header, tuple(rows), foot)}


EXPERIMENT = Experiment(
    measure=measure_judge,
    tables=judge_tables,
    page="assessment.md",
    options=(
        QUICK,
        Option("truths", "Random truths.", "N", 100, whole),
        Option("seeds", "Scenes of each kind and number of photons.", "N", 1, whole),
    ),
)
