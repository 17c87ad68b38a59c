"""``zenhance methods``: the methods and their settings, from what each method declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.options import Json
from zenhance.cli.output import plain_table, print_json, show

if TYPE_CHECKING:
    from zenhance.contract.spec import MethodSpec

__all__ = ["Setting", "method_record", "methods", "settings_of"]

KINDS = {
    "null": "null",
    "boolean": "true, false",
    "integer": "whole number",
    "number": "number",
    "string": "text",
}
BOUNDS = {
    ">=": "minimum",
    ">": "exclusiveMinimum",
    "<=": "maximum",
    "<": "exclusiveMaximum",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a method, in words."""

    name: str
    default: str
    unit: str
    allowed: str
    help: str


def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A method, to list its settings; default all methods."),
    ] = None,
    json_line: Json = False,
) -> None:
    """List the methods, or the settings of one."""
    from zenhance.contract import registry

    specs = [registry.load(one).spec for one in ([name] if name is not None else registry.names())]
    if json_line:
        records = [method_record(spec) for spec in specs]
        print_json(records if name is None else records[0])
        return
    if name is None:
        show(plain_table(("method", "when to use it"), ((s.name, s.summary) for s in specs)))
        print("Settings of one: zenhance methods NAME")
        return
    spec = specs[0]
    print(f"{spec.name}: {spec.title}\n{spec.summary}")
    headings = ("setting", "default", "unit", "allowed", "what it does")
    rows = ((s.name, s.default, s.unit, s.allowed, s.help) for s in settings_of(spec))
    show(plain_table(headings, rows))
    if spec.source:
        print(f"Source: {spec.source}")


def _limits(schema: Mapping[str, Any]) -> list[str]:
    """Return the kinds of value that a JSON schema allows, each in words."""
    if "anyOf" in schema:
        return [words for part in schema["anyOf"] for words in _limits(part)]
    if "enum" in schema or "const" in schema:
        return [str(value) for value in schema.get("enum", [schema.get("const")])]
    if "minimum" in schema and "maximum" in schema:
        return [f"{schema['minimum']:g} to {schema['maximum']:g}"]
    words = KINDS.get(schema.get("type", ""), "list")
    bounds = [f"{sign} {schema[key]:g}" for sign, key in BOUNDS.items() if key in schema]
    return [f"{words} {' and '.join(bounds)}".strip() if bounds else words]


def settings_of(spec: MethodSpec) -> list[Setting]:
    """Return a method's settings as its pydantic fields declare them."""
    from zenhance.pipeline.methods_paragraph import typed_value

    properties = spec.parameters.model_json_schema()["properties"]
    rows = []
    for name, field in spec.parameters.model_fields.items():
        schema = properties[name]
        allowed = ", ".join(dict.fromkeys(_limits(schema)))
        rows.append(
            Setting(
                name=name,
                default=typed_value(field.default),
                unit=str(schema.get("unit", "")),
                allowed=allowed,
                help=field.description or "",
            )
        )
    return rows


def method_record(spec: MethodSpec) -> dict[str, Any]:
    """Return everything that a method declares, with the JSON schema of its settings."""
    return {
        "name": spec.name,
        "title": spec.title,
        "summary": spec.summary,
        "outputs": [output.name for output in spec.defaults.outputs],
        "output_scale": spec.defaults.output_scale,
        "needs_psf": spec.defaults.needs_psf,
        "stochastic": spec.stochastic,
        "learns": spec.learns,
        "source": spec.source,
        "settings": spec.parameters.model_json_schema(),
    }
