"""``zenhance cite``: the papers behind a result or a method, as BibTeX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zenhance._version import __version__
from zenhance.cli.options import Json
from zenhance.cli.output import print_json

if TYPE_CHECKING:
    from zenhance.contract.spec import Reference

__all__ = ["cite"]


def cite(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="RESULT|METHOD", help="A result of zenhance, or a method; default all methods."
        ),
    ] = None,
    json_line: Json = False,
) -> None:
    """Print what to cite, as BibTeX: zenhance, and the papers of the method."""
    version, methods = _cited(what)
    found = {one.key: one for method in methods for one in _references(method)}
    entries = [_software(version), *(one.bibtex() for one in found.values())]
    if json_line:
        dois = [one.doi for one in found.values()]
        print_json({"methods": methods, "version": version, "dois": dois, "bibtex": entries})
    else:
        print("\n\n".join(entries))


def _cited(what: str | None) -> tuple[str, list[str]]:
    """Return the version of zenhance and the methods that a result was made with.

    Raises
    ------
    ReadError
        The file is not a result of zenhance.
    MethodError
        There is neither such a file nor such a method.
    """
    from zenhance.contract import registry
    from zenhance.errors import ReadError
    from zenhance.io import inspect_image
    from zenhance.provenance import Provenance

    if what is None:
        return __version__, list(registry.names())
    path = Path(what)
    if what in registry.names() or not path.exists():
        return __version__, [registry.load(what).spec.name]
    record = Provenance.find(inspect_image(path).metadata)
    if record is None:
        raise ReadError(path, "it holds no record of a run, as zenhance did not write it")
    return record.version, [str(record.request["method"])]


def _references(method: str) -> tuple[Reference, ...]:
    from zenhance.contract import registry

    return registry.load(method).spec.references


def _software(version: str) -> str:
    return (
        "@software{zenhance,\n"
        "  author = {{The zenhance developers}},\n"
        "  title = {{zenhance: enhances confocal z-stacks and says how far to believe the "
        "result}},\n"
        f"  version = {{{version}}}\n}}"
    )
