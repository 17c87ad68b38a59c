"""Rows of the tables: every method of the registry with its named settings and models.

Only the table of named settings (:data:`benchmarks.experiments.sample.CANDIDATES`) knows methods by
name. A registered method and an installed model get their rows without further ado.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.experiments.sample import CANDIDATES, Candidate
from benchmarks.paths import table_models
from benchmarks.scenes import trained_on_test
from zenhance.contract import registry
from zenhance.contract.spec import MethodSpec
from zenhance.errors import MethodError
from zenhance.models.catalogue import WeightsEntry, list_weights
from zenhance.pipeline import EnhanceRequest

__all__ = [
    "Contender",
    "deblurs",
    "learning_contenders",
    "list_contenders",
    "own_folder",
    "select",
]

IDENTITY = "identity"
WEIGHTS_FOLDER = "ZENHANCE_WEIGHTS"


@dataclass(frozen=True, slots=True)
class Contender:
    """A row.

    Parameters
    ----------
    name, title : str
        For ``--methods``, and for the table.
    method : str or None
        In the registry; None for a reference or filter of :data:`benchmarks.filters.FILTERS`.
    settings, weights : mapping, str or None
        Of the method.
    scale : int
        It gets the stack with pixels so many times larger along y and x, and gives back the fine
        ones.
    deblurs : bool
        Whether the result claims to be free of the microscope's blur, so that the re-blur check
        blurs it.
    note : str
        What the table has to say of it.
    learn_minutes : float or None
        It learns from the stack for so long before it enhances it.
    """

    name: str
    title: str
    method: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    scale: int = 1
    deblurs: bool = True
    note: str = ""
    learn_minutes: float | None = None

    def request(self, device: str, psf: str | None = None) -> EnhanceRequest:
        """Return what a run of the row's method is asked for.

        Raises
        ------
        MethodError
            The row has no method.
        """
        if self.method is None:
            raise MethodError(
                f'the row "{self.name}" is no method of the registry, so it cannot be run; choose '
                "one that is"
            )
        return EnhanceRequest(
            method=self.method,
            settings=dict(self.settings),
            weights=self.weights,
            psf=psf,
            device=device,
            learn_minutes=self.learn_minutes,
            arbitrate=False,
        )


def list_contenders(*, own_models: bool = True) -> tuple[Contender, ...]:
    """Return all rows.

    Parameters
    ----------
    own_models : bool
        Also the models that the user trained, not only those that ship.
    """
    rows: list[Contender] = []
    for name in registry.names():
        rows += _of_method(name, own_models)
    first = [row for row in rows if row.name == IDENTITY]
    rest = [row for row in rows if row.name != IDENTITY]
    enlarged = (
        [Contender("cubic_x2", "pixels twice as large, cubic", scale=2, deblurs=False)]
        if any(r.scale > 1 for r in rest)
        else []
    )
    plain = [row for row in rest if row.scale == 1]
    return (
        Contender("truth", "the truth itself"),
        Contender("ideal_denoiser", "ideal denoiser", deblurs=False),
        *first,
        Contender("gaussian_smoothing", "Gaussian smoothing", deblurs=False),
        Contender("total_variation", "total variation (scikit-image)", deblurs=False),
        Contender("non_local_means", "non-local means (scikit-image)", deblurs=False),
        *plain,
        *enlarged,
        *(row for row in rest if row.scale > 1),
    )


def _of_method(name: str, own_models: bool) -> list[Contender]:
    try:
        spec = registry.load(name).spec
    except Exception:  # noqa: BLE001 - a method of another package that cannot be loaded gets a row, which then says why
        return [Contender(name, name, name)]
    named = [c for c in CANDIDATES if c.method == name]
    if spec.learns != "no":
        return _of_models(spec, own_models) + [_with_settings(spec, c) for c in named if c.settings]
    if name == IDENTITY or not named:
        title = named[0].title if named else spec.title
        return [Contender(name, title, name, deblurs=spec.defaults.deblurs)]
    return [
        Contender(c.name, c.title, name, c.settings, deblurs=spec.defaults.deblurs) for c in named
    ]


def _with_settings(spec: MethodSpec, c: Candidate) -> Contender:
    return Contender(c.name, c.title, spec.name, c.settings, deblurs=spec.defaults.deblurs)


def _of_models(spec: MethodSpec, own_models: bool) -> list[Contender]:
    own = [e for e in list_weights(spec.name) if not e.ships] if own_models else []
    entries = [e for e in (*table_models(spec.name), *own) if not _serves_a_step(e)]
    if not entries:
        return [Contender(spec.name, spec.title, spec.name, deblurs=spec.defaults.deblurs)]
    rows = []
    for entry in entries:
        scale = int(entry.card.architecture.get("scale", 1))
        settings = {"scale": scale} if "scale" in spec.parameters.model_fields else {}
        seen = trained_on_test(entry.card)
        note = (
            f"it was trained on test stacks ({', '.join(seen)}), so its figures are worthless"
            if seen
            else ""
        )
        title = (
            f"{spec.title}, {entry.name}" if entry.ships else f"{spec.title}, {entry.name} (own)"
        )
        rows.append(
            Contender(
                entry.name,
                title,
                spec.name,
                settings,
                str(entry.path),
                scale,
                deblurs(spec, entry),
                note,
            )
        )
    return rows


def _serves_a_step(entry: WeightsEntry) -> bool:
    """Return whether a model serves a step before the reconstruction and gives no result alone."""
    return entry.card.architecture.get("module") in ("denoise", "artefacts")


def deblurs(spec: MethodSpec, entry: WeightsEntry) -> bool:
    """Return whether a model removes blur; a model trained to repeat the measurement does not."""
    return spec.defaults.deblurs and entry.card.architecture.get("target") != "measured"


def learning_contenders(spec: MethodSpec, minutes: float) -> list[Contender]:
    """Return rows for self-training on the stack: from random and from shipped weights."""
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
    """Keep the models trained here out of the user's own folder."""
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


def select(contenders: Sequence[Contender], wanted: Sequence[str]) -> tuple[Contender, ...]:
    """Return the rows of these names or methods, and always the identity for comparison.

    Raises
    ------
    MethodError
        There is no such row; the nearest one is offered.
    """
    known = {c.name for c in contenders} | {c.method for c in contenders if c.method}
    for one in wanted:
        if one not in known:
            near = difflib.get_close_matches(one, sorted(known), n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(sorted(known))}"
            raise MethodError(f'the quality table has no row "{one[:60]}"; {hint}'[:239])
    return tuple(
        c for c in contenders if c.name in wanted or c.method in wanted or c.name == IDENTITY
    )
