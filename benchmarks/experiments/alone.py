"""Methods that learn from one noisy stack alone, beside models that ship and classical filters."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import (
    IDENTITY,
    Contender,
    learning_contenders,
    list_contenders,
    own_folder,
    select,
)
from benchmarks.experiments.quality import by_depth_table, quality_table
from benchmarks.judging import QualityReport, Tell, measure_quality
from benchmarks.runner import DEVICE, METHODS, QUICK, Experiment, Option, minutes
from benchmarks.scenes import Plan, quality_plans
from zenhance.contract import registry

__all__ = ["EXPERIMENT", "alone_contenders", "alone_plans", "measure_alone"]

BESIDE = (
    "truth",
    "ideal_denoiser",
    IDENTITY,
    "gaussian_smoothing",
    "total_variation",
    "non_local_means",
)
STACKS = ("default",)


def alone_plans(*, quick: bool = False) -> tuple[Plan, ...]:
    """Return the stacks to train on: the default microscope of the quality table."""
    return tuple(plan for plan in quality_plans(quick=quick) if plan.title in STACKS)


def alone_contenders(minutes: float) -> tuple[Contender, ...]:
    """Return references, deconvolutions, and each trained method as shipped and self-trained.

    Parameters
    ----------
    minutes : float
        How long is learnt.
    """
    rows = [
        c
        for c in list_contenders(own_models=False)
        if c.name in BESIDE or c.method == "gaussian_deconvolution"
    ]
    specs = [registry.load(name).spec for name in registry.names()]
    rows += [
        Contender(s.defaults.weights, f"{s.title}, as it ships", s.name, deblurs=s.defaults.deblurs)
        for s in specs
        if s.defaults.weights
    ]
    for spec in specs:
        if spec.learns == "own_stack":
            rows += learning_contenders(spec, minutes)
    return tuple(rows)


def measure_alone(
    minutes: float = 10.0,
    *,
    methods: Sequence[str] = (),
    quick: bool = False,
    device: str = "cpu",
    on_progress: Tell | None = None,
) -> QualityReport:
    """Train each method that can on the stack alone, and judge all rows.

    Parameters
    ----------
    minutes : float
        How long each learns.
    methods : sequence of str
        Only these rows or methods, beside the measurement.
    quick : bool
        A smaller stack.
    device : str
        Where to compute.
    on_progress : callable, optional
        Called with a title and the fraction done.
    """
    rows = alone_contenders(minutes)
    with own_folder():
        return measure_quality(
            select(rows, methods) if methods else rows,
            alone_plans(quick=quick),
            device=device,
            on_progress=on_progress,
        )


@dataclass(frozen=True)
class AloneReport:
    """Figures, and the markers of their tables: those of chosen rows have their own."""

    found: QualityReport
    mark: str

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return self.found.record()


def _measure(options: Namespace, tell: Tell) -> AloneReport:
    methods = options.methods
    report = measure_alone(
        options.minutes,
        methods=methods,
        quick=options.quick,
        device=options.device,
        on_progress=tell,
    )
    return AloneReport(report, f"alone {methods[0].partition('_')[0]}" if methods else "alone")


EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda report: {
        report.mark: quality_table(report.found),
        f"{report.mark} depths": by_depth_table(report.found),
    },
    options=(
        Option("minutes", "Duration of each training.", "MINUTES", 10.0, minutes),
        METHODS,
        QUICK,
        DEVICE,
    ),
)
