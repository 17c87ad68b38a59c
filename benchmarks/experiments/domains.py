"""Cross-domain test: each network on the domain it was trained on, and on others.

Each network was trained on meristems, on filaments, and on both. Each training is tested on new
meristems and new filaments, imaged by the microscopes of the trainings, and on a third kind of
specimen and microscope that no training has seen. Diffusion has a row for each number of steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.contenders import Contender
from benchmarks.judging import enhance_scene
from benchmarks.machine import Machine, describe_machine
from benchmarks.measures import sharpness
from benchmarks.paths import weights
from benchmarks.quality_notes import FAILED, versus
from benchmarks.runner import DEVICE, QUICK, Experiment, Tell
from benchmarks.scenes import Plan, Scene, domain_plans
from benchmarks.tables import TextTable, mean_sd
from zenhance.assess.similarity import frobenius_255
from zenhance.assess.truth import TruthReport, compare_with_truth
from zenhance.errors import RunCancelled, sentence

__all__ = [
    "EXPERIMENT",
    "DomainReport",
    "DomainScore",
    "domain_contenders",
    "domains_table",
    "measure_domains",
]

NETWORKS: tuple[tuple[str, str], ...] = (("srcnn", "SRCNN"), ("rdn", "RDN"))
STEPS = (1, 5, 20, 100)
"""Of diffusion."""
DIFFUSION = "diffusion"
TRAININGS: tuple[tuple[str, str], ...] = (
    ("meristem", "meristem"),
    ("filaments", "filaments"),
    ("meristem_filaments", "both"),
)


@dataclass(frozen=True, slots=True)
class DomainScore:
    """Figures of one network on one stack, or why it failed.

    ``sum_rmse`` is the root of the summed squares on a scale of 0 to 255.
    """

    quality: TruthReport | None = None
    sum_rmse: float = 0.0
    sharp: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class DomainReport:
    """All figures; ``scores[contender][domain]`` has one entry a stack."""

    contenders: tuple[Contender, ...]
    plans: Mapping[str, tuple[Plan, ...]]
    scores: Mapping[str, Mapping[str, tuple[DomainScore, ...]]]
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return {
            "stacks": {
                domain: [asdict(plan) for plan in plans] for domain, plans in self.plans.items()
            },
            "scores": {
                name: {d: [asdict(s) for s in scores] for d, scores in by.items()}
                for name, by in self.scores.items()
            },
            "machine": asdict(self.machine),
        }

    def psnr_db(self, name: str, domain: str) -> list[float]:
        """Return the PSNR on each stack of a domain; empty where one failed or is missing."""
        scores = self.scores.get(name, {}).get(domain, ())
        return (
            [s.quality.psnr_db for s in scores if s.quality is not None]
            if all(s.quality for s in scores)
            else []
        )


def domain_contenders() -> tuple[Contender, ...]:
    """Return the identity and each network with each training, installed or not."""
    rows = [Contender("identity", "none (identity)", "identity", deblurs=False)]
    for method, title in NETWORKS:
        rows += [
            Contender(
                f"{method}_{data}",
                f"{title} on {words}",
                method,
                weights=weights(f"{method}_{data}"),
            )
            for data, words in TRAININGS
        ]
    return (*rows, *_diffusion())


def _diffusion() -> Iterator[Contender]:
    for data, words in TRAININGS:
        name = f"{DIFFUSION}_{data}"
        model = weights(name)
        for steps in STEPS:
            title = f"Diffusion on {words}, N = {steps}"
            yield Contender(f"{name}_{steps}", title, DIFFUSION, {"steps": steps}, model)
        title = f"Diffusion on {words}, N = {STEPS[1]}, without data consistency"
        yield Contender(
            f"{name}_drawn",
            title,
            DIFFUSION,
            {"steps": STEPS[1], "data_consistency": 0.0},
            model,
        )


def measure_domains(
    contenders: Sequence[Contender],
    plans: Mapping[str, tuple[Plan, ...]],
    *,
    device: str = "cpu",
    on_progress: Tell | None = None,
) -> DomainReport:
    """Test every network on every stack of every domain.

    Parameters
    ----------
    contenders : sequence of Contender
        From :func:`domain_contenders`.
    plans : mapping of str to tuple of Plan
        Test stacks by domain.
    device : str
        Where to compute.
    on_progress : callable, optional
        Called with a title and the fraction done.
    """
    machine = describe_machine()
    scores: dict[str, dict[str, list[DomainScore]]] = {
        c.name: {domain: [] for domain in plans} for c in contenders
    }
    total, done = sum(len(p) for p in plans.values()), 0
    for domain, stacks in plans.items():
        for plan in stacks:
            if on_progress is not None:
                on_progress(plan.title, done / total)
            scene = plan.make()
            for contender in contenders:
                scores[contender.name][domain].append(_score(contender, scene, device))
            done += 1
    frozen = {name: {d: tuple(s) for d, s in by.items()} for name, by in scores.items()}
    return DomainReport(tuple(contenders), dict(plans), frozen, machine)


def _score(contender: Contender, scene: Scene, device: str) -> DomainScore:
    try:
        image, _, _ = enhance_scene(contender, scene, device)
        quality = compare_with_truth(image, scene.truth)
        return DomainScore(
            quality, frobenius_255(image, scene.truth, quality.data_range), sharpness(image, scene)
        )
    except RunCancelled:
        raise
    except Exception as error:  # noqa: BLE001 - a benchmark shows how a model failed instead of ending with it
        return DomainScore(failure=sentence(error))


def domains_table(report: DomainReport) -> TextTable:
    """Return a row for each training, and five figures for each test domain."""
    header = ["trained"]
    for domain in report.plans:
        header += [f"{domain}: RMSE %", "sum RMSE", "PSNR dB", "SSIM", "sharp"]
    rows = []
    for contender in report.contenders:
        cells = [contender.title]
        for domain in report.plans:
            cells += _cells(report.scores[contender.name][domain])
        rows.append(tuple(cells))
    return TextTable(
        "Trained here, tested there",
        tuple(header),
        tuple(rows),
        _foot(report),
        ("sum RMSE", "PSNR dB", "SSIM", "sharp"),
    )


def _cells(scores: Sequence[DomainScore]) -> list[str]:
    good = [s.quality for s in scores if s.quality is not None]
    if len(good) < len(scores):
        return [FAILED, "-", "-", "-", "-"]
    return [
        mean_sd([100 * q.rmse / q.data_range for q in good], 2),
        f"{np.mean([s.sum_rmse for s in scores]):.0f}",
        mean_sd([q.psnr_db for q in good], 2),
        mean_sd([q.ssim for q in good], 3),
        f"{np.mean([s.sharp for s in scores]):.2f}",
    ]


def _foot(report: DomainReport) -> tuple[str, ...]:
    lines = []
    for domain, plans in report.plans.items():
        shape = " × ".join(str(n) for n in plans[0].shape_px)
        seeds = f"{plans[0].seed}-{plans[-1].seed}"
        lines.append(
            f"{domain}: {len(plans)} stacks of {shape} voxels, seeds {seeds}, none of them seen "
            "in training."
        )
    lines.append(
        "RMSE % of the data range (0.1 % to 99.9 % of the truth), a pixel; sum RMSE: sqrt of the "
        "summed squares on a scale of 0 to 255, "
        "which grows with the number of pixels, so it compares within a column only; sharp: share "
        "of the truth's edges, 1 is as sharp."
    )
    lines.append("Every method that takes a PSF got the true one, averaged over depth.")
    lines += [_in_words(report, domain) for domain in report.plans]
    failures = {
        f"{c.title}: {s.failure}."
        for c in report.contenders
        for by in report.scores[c.name].values()
        for s in by
        if s.failure
    }
    return (*lines, *sorted(failures), f"Measured on {report.machine.describe()}.")


def _in_words(report: DomainReport, domain: str) -> str:
    """Compare the networks on a domain stack by stack.

    At home they are compared with each other, elsewhere with doing nothing.
    """
    parts = []
    steps = STEPS[1]
    rows = [(title, f"{method}_{{}}") for method, title in NETWORKS] + [
        (f"diffusion, N = {steps},", f"{DIFFUSION}_{{}}_{steps}")
    ]
    known = domain in {name for name, _ in TRAININGS}
    raw = report.psnr_db("identity", domain)
    if known:
        at_home = [(title, report.psnr_db(name.format(domain), domain)) for title, name in rows]
        for (first, weaker), (second, stronger) in itertools.pairwise(at_home):
            if weaker and stronger:
                parts.append(
                    f"both trained on them, {second} against {first} {versus(stronger, weaker)}"
                )
    away = [
        name for name, _ in TRAININGS if domain not in name.split("_") and (known or "_" in name)
    ]
    for title, name in rows:
        for other in away:
            values = report.psnr_db(name.format(other), domain)
            if values and raw:
                parts.append(
                    f"{title} trained on {other.replace('_', ' and ')} against doing nothing "
                    f"{versus(values, raw)}"
                )
    return f"On {domain}: {'; '.join(parts)}." if parts else f"On {domain}: no model to compare."


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_domains(
        domain_contenders(),
        domain_plans(quick=options.quick),
        device=options.device,
        on_progress=tell,
    ),
    tables=lambda report: {"domains": domains_table(report)},
    options=(QUICK, DEVICE),
)
