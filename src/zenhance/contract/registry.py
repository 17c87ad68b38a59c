"""How a method is found: one line each, as text, so that nothing is imported before it is asked for.

Other packages add methods through the entry point group ``zenhance.methods``; a name of ours cannot be taken over.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from zenhance.contract.spec import Method
from zenhance.errors import MethodError
from zenhance.wording import hint_for, quoted

__all__ = ["ENTRY_POINT_GROUP", "folder", "load", "names"]

ENTRY_POINT_GROUP = "zenhance.methods"

_BUILT_IN = {
    "gaussian_deconvolution": "zenhance.methods.deconvolution:METHOD",
    "srcnn": "zenhance.methods.srcnn:METHOD",
    "rdn": "zenhance.methods.rdn:METHOD",
    "divblurring": "zenhance.methods.divblurring:METHOD",
    "diffusion": "zenhance.methods.diffusion:METHOD",
    "dqlr": "zenhance.methods.dqlr:METHOD",
    "dps": "zenhance.methods.dps:METHOD",
    "identity": "zenhance.methods.identity:METHOD",
}


@cache
def _plugged_in() -> tuple[EntryPoint, ...]:
    """Look once for what other packages offer: the search goes through every installed package."""
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _sources() -> dict[str, str]:
    return {**{point.name: point.value for point in _plugged_in()}, **_BUILT_IN}


def names() -> tuple[str, ...]:
    """Return the names of all methods, our own first."""
    return (*_BUILT_IN, *sorted(set(_sources()) - set(_BUILT_IN)))


@cache
def _folder(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise MethodError(
            f"the module {module} of a method cannot be found; install its package again"
        )
    return Path(spec.origin).parent


def folder(name: str) -> Path:
    """Return the folder of a method: its recipes stand in ``recipes/`` there, its weights in ``weights/``.

    Raises
    ------
    MethodError
        There is no such method, or its package is gone.
    """
    return _folder(_source(name).partition(":")[0])


@cache
def _load(name: str, target: str) -> Method:
    module, _, attribute = target.partition(":")
    if name in _BUILT_IN:
        return cast(Method, getattr(import_module(module), attribute))
    return cast(Method, EntryPoint(name, target, ENTRY_POINT_GROUP).load())


def load(name: str) -> Method:
    """Return the method of that name.

    Raises
    ------
    MethodError
        No method has that name; the nearest one is offered.
    """
    return _load(name, _source(name))


def _source(name: str) -> str:
    sources = _sources()
    if name not in sources:
        raise MethodError(f"there is no method {quoted(name)}; {hint_for(name, names())}")
    return sources[name]
