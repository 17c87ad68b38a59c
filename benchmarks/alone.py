"""What a method learns from one noisy stack alone, beside what ships with the package and what needs no learning."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from benchmarks.contenders import IDENTITY, Contender, list_contenders, select
from benchmarks.quality import QualityReport, Tell, measure_quality
from benchmarks.scenes import Plan, quality_plans
from zenhance.contract import registry
from zenhance.contract.spec import MethodSpec

__all__ = ["alone_contenders", "alone_plans", "learning_contenders", "measure_alone", "own_folder"]

BESIDE = (
    "truth",
    "ideal_denoiser",
    IDENTITY,
    "gaussian_smoothing",
    "total_variation",
    "non_local_means",
)
STACKS = ("default",)
WEIGHTS_FOLDER = "ZENHANCE_WEIGHTS"


def alone_plans(*, quick: bool = False) -> tuple[Plan, ...]:
    """Return the stacks to learn from, each by itself: of the quality table the one with the simulator's default microscope."""
    return tuple(plan for plan in quality_plans(quick=quick) if plan.title in STACKS)


def alone_contenders(minutes: float) -> tuple[Contender, ...]:
    """Return the references and the deconvolutions of the quality table, and each method that learns as it ships and after learning.

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


def learning_contenders(spec: MethodSpec, minutes: float) -> list[Contender]:
    """Return a method that can learn from the stack, from random weights and from those that ship."""
    title, budget = spec.title, f"{minutes:g} min"
    alone = Contender(
        f"{spec.name}_alone",
        f"{title}, learnt from the stack alone, {budget}",
        spec.name,
        weights="none",
        learn_minutes=minutes,
    )
    adapted = Contender(
        f"{spec.name}_adapted",
        f"{title}, as it ships, then adapted to the stack, {budget}",
        spec.name,
        learn_minutes=minutes,
    )
    return [alone, adapted]


@contextmanager
def own_folder() -> Iterator[None]:
    """Keep what is learnt here apart from the user's own models."""
    before = os.environ.get(WEIGHTS_FOLDER)
    with TemporaryDirectory(prefix="zenhance-benchmark-") as folder:
        os.environ[WEIGHTS_FOLDER] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[WEIGHTS_FOLDER]
            else:
                os.environ[WEIGHTS_FOLDER] = before


def measure_alone(
    minutes: float = 10.0,
    *,
    methods: Sequence[str] = (),
    quick: bool = False,
    device: str = "cpu",
    on_progress: Tell | None = None,
) -> QualityReport:
    """Let every method that can learn from a stack do so, and judge all rows.

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
