"""The commands of what is learnt: ``train`` and ``weights``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.errors import print_json
from zenhance.cli.options import Device, Json, text_option
from zenhance.errors import MethodError, RecipeError

if TYPE_CHECKING:
    from rich.table import Table

    from zenhance.cli.recipes import TrainWords
    from zenhance.models.catalogue import WeightsEntry
    from zenhance.training.recipe import Recipe

__all__ = ["train", "weights"]

ADD = "add"


def train(
    context: typer.Context,
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="METHOD|RECIPE|FILE",
            help="A method that learns, a recipe by name, or a recipe file ending in .yaml.",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="File or folder with NAME and NAME_truth; may be repeated; default the recipe's data.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        text_option(
            "FOLDER", "Folder of the run, made if missing; default one called as the model."
        ),
    ] = None,
    name: Annotated[
        str | None,
        text_option("NAME", "Name of the model; default the recipe's, or METHOD_DATA with --data."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key of the recipe, such as architecture.window=5; default the recipe's.",
        ),
    ] = None,
    minutes: Annotated[
        str | None,
        text_option("M", "Time budget in minutes, beside the steps; default the recipe's."),
    ] = None,
    steps: Annotated[
        str | None, text_option("N", "Optimiser steps, 1 or more; default the recipe's.")
    ] = None,
    seed: Annotated[
        str | None,
        text_option("N", "Seed of initialisation and patches, 0 or more; default the recipe's."),
    ] = None,
    device: Device = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in the folder, if there is one; default off."
        ),
    ] = False,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="Make the model available by its name in the end; default off."
        ),
    ] = False,
    json_line: Json = False,
) -> None:
    """Train a model.

    On simulated stacks, or on your own. Ctrl-C stops after the step it is at and keeps the best model.
    """
    from zenhance.cli.recipes import TrainWords, build_recipe, command_of
    from zenhance.cli.training import RECIPE_FILE, TrainRun, check_folder, run_training
    from zenhance.device.choice import choose_device

    session = replace(context.obj, json_wanted=json_line)
    words = TrainWords(wanted, tuple(data or ()), name, tuple(set_ or ()), minutes, steps, seed)
    earlier = (
        out
        if resume and out is not None and not words.changes_recipe and (out / RECIPE_FILE).is_file()
        else None
    )
    recipe = build_recipe(words) if earlier is None else _recipe_in(earlier, words)
    device = device or "auto"
    choose_device(device)
    folder = Path(recipe.name) if out is None else out
    resume = resume and (folder / RECIPE_FILE).is_file()
    check_folder(folder, resume)
    if install:
        from zenhance.models.installing import check_name

        check_name(recipe.name)
    command = command_of(
        words if earlier is None else replace(words, wanted=str(earlier / RECIPE_FILE))
    )
    run_training(TrainRun(recipe, folder, resume, device, install, command), session)


def _recipe_in(folder: Path, words: TrainWords) -> Recipe:
    """Return the recipe of a run to go on with; it must be of the method or recipe that was named."""
    from zenhance.cli.training import RECIPE_FILE
    from zenhance.training.recipe import load_recipe

    recipe = load_recipe(str(folder / RECIPE_FILE))
    is_file = words.wanted.lower().endswith((".yaml", ".yml"))
    if not is_file and words.wanted not in (recipe.method, recipe.name):
        raise RecipeError(
            f'the training in "{folder}" is {recipe.name} of the method {recipe.method}, not {words.wanted[:60]}; '
            f"go on with: zenhance train {recipe.method} --resume --out FOLDER"
        )
    return recipe


def weights(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="METHOD|add",
            help="A method, to see its models only; or add, to take in a file; default all.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="After add: a model that `zenhance train` wrote."),
    ] = None,
    name: Annotated[
        str | None, text_option("NAME", "With add: what to call it; default the name on its card.")
    ] = None,
    json_line: Json = False,
) -> None:
    """List the learnt models, or add one.

    `zenhance weights add FILE` tests a model and copies it to your own folder; then --weights NAME and the viewer find it.
    """
    if what == ADD:
        _add(file, name, json_line)
        return
    if file is not None or name is not None:
        raise RecipeError(
            "a file or a name goes with add only; write: zenhance weights add FILE --name NAME"
        )
    found = _listed(what)
    if json_line:
        print_json([_record(entry, default) for entry, default in found])
    elif found:
        from zenhance.cli.inquiries import show

        show(_table(found))
    else:
        print("there are no models yet; train one, see: zenhance train --help")


def _add(file: Path | None, name: str | None, json_line: bool) -> None:
    from zenhance.models.installing import install_model

    if file is None:
        raise RecipeError(
            "zenhance weights add needs a file; give a model that `zenhance train` wrote"
        )
    entry = install_model(file, name)
    if json_line:
        print_json(_record(entry, False))
    else:
        print(
            f"{entry.path}\nuse it: zenhance enhance INPUT OUTPUT --method {entry.card.method} --weights {entry.name}"
        )


def _listed(method: str | None) -> list[tuple[WeightsEntry, bool]]:
    """Return the models of one method, or of all, and whether each is its method's default."""
    from zenhance.contract import registry
    from zenhance.models.catalogue import list_weights

    specs = [
        registry.load(name).spec for name in (registry.names() if method is None else [method])
    ]
    if method is not None and specs[0].learns == "no":
        raise MethodError(
            f"the method {method} uses no learnt weights; `zenhance weights` lists the models of those that do"
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


def _table(found: list[tuple[WeightsEntry, bool]]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("model", style="bold", no_wrap=True)
    for heading in ("method", "from", "voxel µm", "validation PSNR", "what it is for"):
        table.add_column(heading, overflow="fold")
    for entry, default in found:
        card = entry.card
        origin = ("ships" if entry.ships else "yours") + (", default" if default else "")
        voxel = (
            "any"
            if card.voxel_size_um is None
            else " × ".join(f"{v:.3g}" for v in card.voxel_size_um)
        )
        psnr = card.metrics.get("psnr_db")
        figure = "–" if psnr is None else f"{psnr:.1f} dB"
        table.add_row(
            *(
                escape(text)
                for text in (entry.name, card.method, origin, voxel, figure, card.description)
            )
        )
    return table
