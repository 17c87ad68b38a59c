"""Notes below the quality table: comparisons, settings, warnings and failures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.contenders import IDENTITY, Contender
from benchmarks.judging import QualityReport
from zenhance.contract import registry

__all__ = ["FAILED", "remarks", "verdicts", "versus"]

FAILED = "failed"
RIVALS = (IDENTITY, "gaussian_smoothing", "total_variation", "non_local_means", "rl", "rl_tv")
"""Whom every model that is taken by default has to beat, beside the other such models."""


def versus(values: Sequence[float], others: Sequence[float]) -> str:
    """Say how much better figures in dB are than others of the same stacks."""
    gains = [v - o for v, o in zip(values, others, strict=True)]
    mean, better = float(np.mean(gains)), sum(g > 0 for g in gains)
    return f"{mean:+.2f} dB (better on {better} of {len(gains)} stacks)"


def verdicts(report: QualityReport) -> tuple[str, ...]:
    """Return a line for each trained method: its default model's PSNR against the rivals."""
    known = {c.name: c for c in report.contenders}
    models = [
        c.name
        for c in report.contenders
        if c.method and c.scale == 1 and c.name == _default_model(c.method)
    ]
    lines = []
    for place, name in enumerate(models):
        mine = _psnr_db(report, name)
        parts = []
        for rival in (*(r for r in RIVALS if r in known), *models[:place]):
            theirs = _psnr_db(report, rival)
            if mine and theirs:
                parts.append(f"{known[rival].title} {versus(mine, theirs)}")
        if parts:
            lines.append(f"{known[name].title}, PSNR against {'; '.join(parts)}.")
    return tuple(lines)


def _default_model(method: str) -> str | None:
    """Return the default weights; None for a method that does not learn or is unknown."""
    if method not in registry.names():
        return None
    spec = registry.load(method).spec
    return spec.defaults.weights if spec.learns != "no" else None


def _psnr_db(report: QualityReport, name: str) -> list[float]:
    """Return the PSNR on each stack; empty where one failed."""
    found = [
        math.nan if o.figures is None else o.figures.quality.psnr_db for o in report.outcomes[name]
    ]
    return found if all(math.isfinite(v) for v in found) else []


def remarks(report: QualityReport) -> tuple[str, ...]:
    """Return settings, warnings and failures of the contenders; a common remark appears once."""
    own = _sayings(report)
    shared: dict[str, list[str]] = {}
    for name, said in own.items():
        for text in said:
            shared.setdefault(text, []).append(name)
    titles = {c.name: c.title for c in report.contenders}
    methods = {
        c.name
        for c in report.contenders
        if c.method is not None and c.scale == 1 and _ran(report, c)
    }
    lines = []
    for text, names in shared.items():
        if len(names) > 1:
            who = (
                "Every method that got these pixels"
                if methods <= set(names)
                else "; ".join(titles[name] for name in names)
            )
            lines.append(f"{who}: {text}.")
    for contender in report.contenders:
        parts = [text for text in own[contender.name] if len(shared[text]) == 1]
        parts += [contender.note] if contender.note else []
        if parts:
            lines.append(f"{contender.title}: {'; '.join(parts)}.")
    return tuple(lines)


def _ran(report: QualityReport, contender: Contender) -> bool:
    return any(o.figures is not None for o in report.outcomes[contender.name])


def _sayings(report: QualityReport) -> Mapping[str, list[str]]:
    """Return the remarks of each contender, with the stacks where these are not all.

    A note has one remark a line.
    """
    found: dict[str, list[str]] = {}
    for contender in report.contenders:
        said: dict[str, list[str]] = {}
        for plan, outcome in zip(report.plans, report.outcomes[contender.name], strict=True):
            texts = (
                [f"{FAILED}, {outcome.failure}"]
                if outcome.figures is None
                else outcome.figures.note.splitlines()
            )
            for text in texts:
                said.setdefault(text, []).append(plan.title)
        found[contender.name] = [
            text if len(stacks) == len(report.plans) else f"{text} ({', '.join(stacks)})"
            for text, stacks in said.items()
        ]
    return found
