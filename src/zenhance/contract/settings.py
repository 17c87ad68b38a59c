"""Validates settings that people type; an error is one sentence on what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zenhance.errors import MethodError, ZenhanceError
from zenhance.wording import hint_for, quoted

__all__ = ["RENAMED", "current_names", "explain", "validate", "worst"]

M = TypeVar("M", bound=BaseModel)

RENAMED: Mapping[str, str] = {
    "agreement": "data_consistency",
    "spread": "sample_temperature",
    "turned": "self_ensemble",
}
"""Setting names of version 0.1 and their new names; old requests and records use them."""


def current_names(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their current names; unknown names are kept."""
    fields = model.model_fields
    found: dict[str, Any] = {}
    for name, value in values.items():
        new = RENAMED.get(name, name)
        found[new if new in fields and name not in fields and new not in values else name] = value
    return found


def worst(error: ValidationError) -> Any:
    """Return the error to show: an unknown name first, because it often causes the others."""
    complaints = error.errors(include_url=False)
    return next((c for c in complaints if c["type"] == "extra_forbidden"), complaints[0])


def explain(error: ValidationError, model: type[BaseModel], what: str) -> str:
    """Return a sentence on the first error of a validation.

    Parameters
    ----------
    error : ValidationError
        As pydantic raised it.
    model : type of BaseModel
        The model that raised it; the sentence offers the nearest of its field names.
    what : str
        Name of the thing that is set, such as ``setting of gaussian_deconvolution``.
    """
    first = worst(error)
    path = [str(part) for part in first["loc"]]
    name = path[0] if path else ""
    if first["type"] == "extra_forbidden":
        return f"there is no {what} called {quoted(name)}; {hint_for(name, model.model_fields)}"
    if first["type"] == "missing":
        return f"{what} {'.'.join(path)} is missing; give it"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ZenhanceError):
        return str(cause)
    value = repr(first.get("input"))
    value = value if len(value) <= 60 else value[:57] + "..."
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{what} {'.'.join(path)} is {value}: it {message}" if path else f"{what}: {message}"


def validate(
    model: type[M], values: Mapping[str, Any], what: str, raises: type[ZenhanceError] = MethodError
) -> M:
    """Return the model filled with values.

    Raises
    ------
    MethodError
        (or the given class) A name is unknown or a value is out of range.
    """
    try:
        return model(**current_names(model, values))
    except ValidationError as error:
        raise raises(explain(error, model, what)) from error
