"""What the methods are and what can be set: tables and JSON from what each method declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zenhance.contract.spec import MethodSpec
from zenhance.pipeline.methods_paragraph import typed_value

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Setting", "method_record", "methods_table", "settings_of", "settings_table"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a method, in words."""

    name: str
    default: str
    unit: str
    allowed: str
    help: str


def _limits(schema: Mapping[str, Any]) -> list[str]:
    """Return the kinds of value a JSON schema allows, each in words."""
    if "anyOf" in schema:
        return [words for part in schema["anyOf"] for words in _limits(part)]
    if "enum" in schema or "const" in schema:
        return [str(value) for value in schema.get("enum", [schema.get("const")])]
    kind = {
        "null": "null",
        "boolean": "true, false",
        "integer": "whole number",
        "number": "number",
        "string": "text",
    }
    words = kind.get(schema.get("type", ""), "list")
    low = [(">=", "minimum"), (">", "exclusiveMinimum")]
    high = [("<=", "maximum"), ("<", "exclusiveMaximum")]
    bounds = [f"{sign} {schema[key]:g}" for sign, key in (*low, *high) if key in schema]
    if "minimum" in schema and "maximum" in schema:
        return [f"{schema['minimum']:g} to {schema['maximum']:g}"]
    return [f"{words} {' and '.join(bounds)}".strip() if bounds else words]


def settings_of(spec: MethodSpec) -> list[Setting]:
    """Return a method's settings as its pydantic fields declare them."""
    properties = spec.parameters.model_json_schema()["properties"]
    rows = []
    for name, field in spec.parameters.model_fields.items():
        schema = properties[name]
        allowed = ", ".join(dict.fromkeys(_limits(schema)))
        rows.append(
            Setting(
                name,
                typed_value(field.default),
                str(schema.get("unit", "")),
                allowed,
                field.description or "",
            )
        )
    return rows


def method_record(spec: MethodSpec) -> dict[str, Any]:
    """Return everything a method declares, with the JSON schema of its settings."""
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


def methods_table(specs: list[MethodSpec]) -> Table:
    """Return a table of all methods."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("method", style="bold", no_wrap=True)
    table.add_column("when to use it", overflow="fold")
    for spec in specs:
        table.add_row(spec.name, escape(spec.summary))
    return table


def settings_table(spec: MethodSpec) -> Table:
    """Return a table of one method's settings."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("setting", style="bold", no_wrap=True)
    for heading in ("default", "unit", "allowed", "what it does"):
        table.add_column(heading, overflow="fold")
    for row in settings_of(spec):
        table.add_row(
            *(escape(text) for text in (row.name, row.default, row.unit, row.allowed, row.help))
        )
    return table
