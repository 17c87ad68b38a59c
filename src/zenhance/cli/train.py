"""``zenhance train``: from words to a recipe and a folder, then to the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zenhance.cli.options import Device, Json, text_option
from zenhance.errors import RecipeError

if TYPE_CHECKING:
    from zenhance.cli.train_recipe import TrainWords
    from zenhance.training.recipe import Recipe

__all__ = ["train"]


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
            help="File or folder with NAME and NAME_truth, repeatable; default the recipe's data.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        text_option("FOLDER", "Folder of the run, made if missing; default named after the model."),
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
            "--resume", help="Resume the run in the folder, if there is one; default off."
        ),
    ] = False,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="Make the trained model available by its name; default off."
        ),
    ] = False,
    json_line: Json = False,
) -> None:
    """Train a model.

    On simulated stacks or your own. Ctrl-C stops after the current step and keeps the best model.
    """
    from zenhance.cli.train_recipe import TrainWords, build_recipe, command_of
    from zenhance.cli.train_run import RECIPE_FILE, TrainRun, check_folder, run_training
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
    """Return the recipe of a run to resume; it must be of the named method or recipe."""
    from zenhance.cli.train_run import RECIPE_FILE
    from zenhance.training.recipe import load_recipe

    recipe = load_recipe(str(folder / RECIPE_FILE))
    is_file = words.wanted.lower().endswith((".yaml", ".yml"))
    if not is_file and words.wanted not in (recipe.method, recipe.name):
        raise RecipeError(
            f'the training in "{folder}" is {recipe.name} of the method {recipe.method}, not '
            f"{words.wanted[:60]}; "
            f"go on with: zenhance train {recipe.method} --resume --out FOLDER"
        )
    return recipe
