"""The judge judged: truths, honest results, planted errors after steps to the data, wrong PSFs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.judge_results import (
    HONEST,
    LIARS,
    expected_score,
    richardson_lucy,
    towards_the_data,
)
from benchmarks.judge_scenes import (
    KINDS,
    VOXEL_UM,
    JudgedScene,
    blur_by,
    make_scene,
    random_scene,
)
from benchmarks.machine import Machine, describe_machine
from benchmarks.runner import QUICK, Experiment, Option, Tell, whole, words
from benchmarks.tables import TextTable
from zenhance.assess.reblur import FOUND_SIGMA, Microscopy, reblur_check
from zenhance.assess.reblur_report import FITTED_BELOW, FITTED_LEAST, ReblurReport
from zenhance.assess.verdict import BLIND_SHARE, decide
from zenhance.errors import RecipeError
from zenhance.physics.psf import gaussian
from zenhance.types import FloatArray, Region

__all__ = ["EXPERIMENT", "JudgeReport", "Tally", "judge_scene", "measure_judge"]

STEPS = (0, 1, 3, 6)
PHOTONS = (30.0, 100.0, 300.0, 1000.0)
PSF_FACTORS = (0.7, 0.85, 1.0, 1.2, 1.4)
OFF = (0.8, 1.2)
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
    """A result: the report; of a planted error what is left of it, and whether it can be seen."""

    report: ReblurReport
    left: float = 0.0
    visible: bool = False


@dataclass(frozen=True)
class JudgeReport:
    """Lights of results of known honesty.

    Parameters
    ----------
    parts : mapping of str to tuple of Tally
        Rows of each part of :data:`PARTS` that was measured.
    """

    parts: dict[str, tuple[Tally, ...]]
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
    """Judge what the options ask for.

    Raises
    ------
    RecipeError
        There is no such part.
    """
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise RecipeError(f'there is no part "{unknown[0][:40]}"; parts are {", ".join(PARTS)}')
    seeds = 1 if options.quick else options.seeds
    kinds = ("walls", "spots") if options.quick else tuple(KINDS)
    photons = (100.0,) if options.quick else PHOTONS
    scenes = [(kind, n, seed) for seed in range(seeds) for kind in kinds for n in photons]
    tables: dict[str, dict[str, Tally]] = {part: {} for part in options.parts}
    count = 5 if options.quick else options.truths
    for seed in range(count if "truths" in tables else 0):
        tell("truths", 0.3 * seed / count)
        scene = random_scene(seed)
        name = "truth, any camera"
        found = tables["truths"].get(name, Tally(name))
        tables["truths"][name] = found.adding(judge_scene(scene, scene.truth))
    for number, (kind, light, seed) in enumerate(scenes):
        tell(f"{kind}, {light:g} photons", 0.3 + 0.7 * number / len(scenes))
        scene = make_scene(kind, light, 500 + seed, gain=2.0, read_photons=0.3)
        for part in (part for part in _JUDGED if part in tables):
            for name, lie in _JUDGED[part](scene, number, seed):
                found = tables[part].get(name, Tally(name))
                tables[part][name] = found.adding(lie.report, lie.visible, lie.left)
    rows = {part: tuple(tallies.values()) for part, tallies in tables.items()}
    return JudgeReport(rows, describe_machine())


Named = Iterator[tuple[str, _Lie]]


def _honest(scene: JudgedScene, _number: int, _seed: int) -> Named:
    for name, (method, deblurred) in HONEST.items():
        yield name, _Lie(judge_scene(scene, method(scene), deblurred=deblurred))


def _errors(scene: JudgedScene, number: int, seed: int) -> Named:
    for name, steps, lie in _lies(scene, seed):
        yield f"{name}, {steps} steps", lie
    for _, steps, lie in _lies(_with_psf(scene, OFF[number % len(OFF)]), seed):
        yield f"any planted error, {steps} steps, PSF off by 20 %", lie


def _psfs(scene: JudgedScene, _number: int, _seed: int) -> Named:
    for factor in PSF_FACTORS:
        wrong = _with_psf(scene, factor)
        yield f"truth, PSF × {factor:g}", _Lie(judge_scene(wrong, scene.truth))
    for factor in PSF_FACTORS:
        wrong = _with_psf(scene, factor)
        made = judge_scene(wrong, richardson_lucy(wrong, 30))
        yield f"Richardson-Lucy, 30, PSF × {factor:g}", _Lie(made)


_JUDGED = {"honest": _honest, "errors": _errors, "psfs": _psfs}


def _with_psf(scene: JudgedScene, factor: float) -> JudgedScene:
    """Return a scene whose PSF is believed to be wider by a factor."""
    return replace(scene, profile=scene.profile.widened(factor, factor))


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
    """Return a table of lights for each part."""
    return {
        f"judge_{part}": _table(part, tallies, report.machine)
        for part, tallies in report.parts.items()
    }


def _table(part: str, tallies: tuple[Tally, ...], machine: Machine) -> TextTable:
    planted = part == "errors"
    header = ("result", "n", "green", "amber", "red", "blind", "PSF doubtful")
    rows = []
    for tally in tallies:
        counts = (getattr(tally, name) for name in (*LIGHTS, "blind", "doubtful"))
        seen = (f"{tally.left / tally.total:.0%}", str(tally.visible), str(tally.found))
        rows.append((tally.name, str(tally.total), *map(str, counts), *(seen if planted else ())))
    foot = (*NOTES[part], f"Measured on {machine.describe()}.")
    wide = (*header, "left", "visible", "found") if planted else header
    return TextTable("What the judge says of known results", wide, tuple(rows), foot)


SCENES = (
    f"Stacks of 32 × 64 × 64 voxels: walls, spots, filaments and nuclei, {PHOTONS[0]:g} to "
    f"{PHOTONS[-1]:g} photons, gain 2, read noise 0.3."
)
NOTES = {
    "truths": (
        "0.3 to 1000 photons, gain 1 to 10, read noise up to 1.5 photons, haze, blur by depth. "
        "Blind: too little light to show false structure, which the sentence says.",
    ),
    "honest": (SCENES,),
    "errors": (
        SCENES,
        "Steps: damped Richardson-Lucy steps to the data from the truth with the planted error. "
        "Left: how much of the error is in the result after them. Visible: the expected z-score "
        "of what is left, in units of the noise that is left, exceeds the threshold by 1.645; "
        "found: amber or red among them. PSF off by 20 %: steps and judge use one 0.8 or 1.2 "
        "times as wide.",
    ),
    "psfs": (SCENES, "Richardson-Lucy: made and judged with that PSF."),
}
PARTS = tuple(NOTES)


EXPERIMENT = Experiment(
    measure=measure_judge,
    tables=judge_tables,
    page="assessment.md",
    options=(
        QUICK,
        Option("parts", f"Of {', '.join(PARTS)}.", "NAME,NAME", PARTS, words),
        Option("truths", "Random truths.", "N", 100, whole),
        Option("seeds", "Scenes of each kind and number of photons.", "N", 1, whole),
    ),
)
