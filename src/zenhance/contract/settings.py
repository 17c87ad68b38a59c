"""Turn what people type into a frozen settings model, or into one sentence that says what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zenhance.errors import MethodError, ZenhanceError
from zenhance.wording import hint_for, quoted

__all__ = ["explain", "validate", "worst"]

M = TypeVar("M", bound=BaseModel)


def worst(error: ValidationError) -> Any:
    """Return the complaint to show: an unknown name before all others, since it often causes them."""
    complaints = error.errors(include_url=False)
    return next((c for c in complaints if c["type"] == "extra_forbidden"), complaints[0])


def explain(error: ValidationError, model: type[BaseModel], what: str) -> str:
    """Put the first complaint of a validation into words.

    Parameters
    ----------
    error : ValidationError
        As pydantic raised it.
    model : type of BaseModel
        The model that refused; its field names serve to find the nearest one.
    what : str
        What is being set, such as ``setting of gaussian_deconvolution``.
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
        (or the class given) A name is unknown or a value is out of range; the sentence says which.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise raises(explain(error, model, what)) from error
