"""``zenhance weights``: the trained models, and how a new one is added."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.options import Json, Overwrite, text_option
from zenhance.cli.output import plain_table, print_json, show
from zenhance.errors import MethodError, RecipeError

if TYPE_CHECKING:
    from zenhance.models.catalogue import WeightsEntry

__all__ = ["weights"]

ADD, EXPORT = "add", "export"
HEADINGS = ("model", "method", "from", "voxel µm", "validation PSNR", "what it is for")


def weights(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="METHOD|add|export",
            help="A method, to list only its models; or add or export, with a file; default all.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="After add: a model of `zenhance train`; after export: the .zip to write.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        text_option("NAME", "Name of the model to add or export; default with add: its card's."),
    ] = None,
    overwrite: Overwrite = False,
    json_line: Json = False,
) -> None:
    """List the trained models, add one, or export one for bioimage.io.

    `zenhance weights add FILE` tests a model and copies it to your own folder; --weights NAME and
    the dock then find it. `zenhance weights export OUT.zip --name NAME` writes a bioimage.io
    package (model description 0.5, TorchScript weights).
    """
    if what == EXPORT:
        _export(file, name, overwrite, json_line)
        return
    if what == ADD:
        _add(file, name, json_line)
        return
    if file is not None or name is not None:
        raise RecipeError(
            "a file or a name needs add; write: zenhance weights add FILE --name NAME"
        )
    found = _listed(what)
    if json_line:
        print_json([_record(entry, default) for entry, default in found])
    elif found:
        show(plain_table(HEADINGS, (_row(entry, default) for entry, default in found)))
    else:
        print("there are no models yet; train one, see: zenhance train --help")


def _add(file: Path | None, name: str | None, json_line: bool) -> None:
    from zenhance.models.checkpoint import install_model

    if file is None:
        raise RecipeError(
            "zenhance weights add needs a file; give a model that `zenhance train` wrote"
        )
    entry = install_model(file, name)
    if json_line:
        print_json(_record(entry, False))
        return
    print(entry.path)
    print(
        f"use it: zenhance enhance INPUT OUTPUT --method {entry.card.method} --weights {entry.name}"
    )


def _export(file: Path | None, name: str | None, overwrite: bool, json_line: bool) -> None:
    from zenhance.models.bioimageio import export_bioimageio

    if file is None or name is None:
        raise RecipeError(
            "zenhance weights export needs a file and the name of a model; write: "
            "zenhance weights export OUT.zip --name NAME"
        )
    path = export_bioimageio(name, file, overwrite=overwrite)
    print_json({"name": name, "path": str(path)}) if json_line else print(path)


def _listed(method: str | None) -> list[tuple[WeightsEntry, bool]]:
    """Return the models of one method, or of all, and whether each is its method's default."""
    from zenhance.contract import registry
    from zenhance.models.catalogue import list_weights

    names = registry.names() if method is None else [method]
    specs = [registry.load(name).spec for name in names]
    if method is not None and specs[0].learns == "no":
        raise MethodError(
            f"the method {method} uses no trained weights; "
            "`zenhance weights` lists the models of those that do"
        )
    return [
        (entry, entry.name == spec.defaults.weights)
        for spec in specs
        for entry in list_weights(spec.name)
    ]


def _record(entry: WeightsEntry, default: bool) -> dict[str, Any]:
    return {
        "name": entry.name,
        "method": entry.card.method,
        "path": str(entry.path),
        "ships": entry.ships,
        "default": default,
        "card": entry.card.model_dump(mode="json"),
    }


def _row(entry: WeightsEntry, default: bool) -> tuple[str, ...]:
    card = entry.card
    origin = ("ships" if entry.ships else "yours") + (", default" if default else "")
    voxel = "any"
    if card.voxel_size_um is not None:
        voxel = " × ".join(f"{v:.3g}" for v in card.voxel_size_um)
    psnr = card.metrics.get("psnr_db")
    figure = "–" if psnr is None else f"{psnr:.1f} dB"
    return (entry.name, card.method, origin, voxel, figure, card.description)
