"""The registry: one line of text a method, so that a method is imported only when it is used.

Other packages add methods through the entry point group ``zenhance.methods``. They cannot replace
a built-in method.
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

# The order of every list of methods: those that help a biologist most come first.
_BUILT_IN = {
    "gaussian_deconvolution": "zenhance.methods.deconvolution:METHOD",
    "dqlr": "zenhance.methods.dqlr:METHOD",
    "dps": "zenhance.methods.dps:METHOD",
    "divblurring": "zenhance.methods.divblurring:METHOD",
    "diffusion": "zenhance.methods.diffusion:METHOD",
    "rdn": "zenhance.methods.rdn:METHOD",
    "srcnn": "zenhance.methods.srcnn:METHOD",
    "identity": "zenhance.methods.identity:METHOD",
}


@cache
def _plugged_in() -> tuple[EntryPoint, ...]:
    """Return the methods of other packages; the search runs once, over all installed packages."""
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _sources() -> dict[str, str]:
    return {**{point.name: point.value for point in _plugged_in()}, **_BUILT_IN}


def names() -> tuple[str, ...]:
    """Return the names of all methods, the built-in ones first."""
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
    """Return the folder of a method; it holds ``recipes/`` and ``weights/``.

    Raises
    ------
    MethodError
        There is no such method, or its package was removed.
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
        No method has that name; the message offers the nearest one.
    """
    return _load(name, _source(name))


def _source(name: str) -> str:
    sources = _sources()
    if name not in sources:
        raise MethodError(f"there is no method {quoted(name)}; {hint_for(name, names())}")
    return sources[name]
