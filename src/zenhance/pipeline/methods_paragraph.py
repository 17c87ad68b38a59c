"""The text for a paper: one paragraph for the Methods section, from the account of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zenhance.contract import registry
from zenhance.errors import MethodError
from zenhance.provenance import Provenance

__all__ = ["methods_paragraph", "typed_value"]


def typed_value(value: Any) -> str:
    """Return a setting's value as it would be typed after ``--set name=``."""
    if value is None:
        return "null"
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def methods_paragraph(record: Provenance) -> str:
    """Return a paragraph for the Methods section of a paper.

    Parameters
    ----------
    record : Provenance
        As in every file that zenhance wrote.
    """
    name = str(record.request.get("method", "an unnamed method"))
    try:
        spec = registry.load(name).spec
    except MethodError:
        spec = None
    settings = ", ".join(
        f"{key} = {typed_value(value)}" for key, value in record.request.get("settings", {}).items()
    )
    what = f"{spec.title} ({name})" if spec is not None else name
    sizes = [f"{v:.4g}" for v in record.voxel_size_um if v is not None]
    parts = [
        f"Images were enhanced with zenhance {record.version} by {what}, "
        f"{f'with {settings}' if settings else 'with default settings'}."
    ]
    if record.weights_sha256:
        model = record.notes.get("model")
        parts.append(
            f"Its weights were {f'{model}, ' if model else ''}sha256 {record.weights_sha256[:12]}."
        )
    learnt = record.notes.get("learnt")
    if isinstance(learnt, dict):
        begun = learnt.get("began_from")
        start = "random weights" if begun in (None, "none") else f"the weights {begun}"
        parts.append(
            f"They were trained on this stack alone for {learnt.get('minutes', 0):g} min, "
            f"beginning from {start}, without any sharp image."
        )
    if sizes:
        order = "z, y, x" if len(sizes) == 3 else "y, x"
        parts.append(f"The voxel size was {' × '.join(sizes)} µm ({order}).")
    if record.psf:
        parts.append(f"The point spread function was {record.psf}.")
    if spec is not None and spec.stochastic:
        parts.append(f"The random seed was {record.seed}.")
    parts += _verdict(record)
    parts.append(
        f"The computation ran on {record.device or 'an unknown device'}{_libraries(record)}."
    )
    if spec is not None and spec.source:
        parts.append(f"Reference: {spec.source.rstrip('.')}.")
    return " ".join(parts)


def _verdict(record: Provenance) -> list[str]:
    judged = record.notes.get("assessment")
    if not isinstance(judged, Mapping) or "headline" not in judged:
        return []
    headline = str(judged["headline"]).rstrip(".")
    return [f"Judged by its own measurement the result was {judged.get('verdict')}: {headline}."]


def _libraries(record: Provenance) -> str:
    return (
        f" with {', '.join(f'{k} {v}' for k, v in record.libraries.items())}"
        if record.libraries
        else ""
    )
