"""``zenhance train``: from words to a recipe and a folder, then to the training."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.options import Device, Json, text_option
from zenhance.cli.parsing import parse_number, parse_settings, parse_whole
from zenhance.errors import MethodError, RecipeError
from zenhance.wording import hint_for, quoted

if TYPE_CHECKING:
    from zenhance.training.recipe import Recipe

__all__ = ["TrainWords", "build_recipe", "command_of", "train"]


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
        from zenhance.models.checkpoint import check_name

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
            f"{words.wanted[:60]}; resume it with: zenhance train {recipe.method} --resume --out "
            "FOLDER"
        )
    return recipe


@dataclass(frozen=True, slots=True)
class TrainWords:
    """The words that decide what is learnt, as typed; None or empty where one was left out."""

    wanted: str
    data: Sequence[str] = ()
    name: str | None = None
    set: Sequence[str] = ()
    minutes: str | None = None
    steps: str | None = None
    seed: str | None = None

    @property
    def changes_recipe(self) -> bool:
        """Whether anything but the recipe itself was named."""
        return bool(self.data or self.set) or not (
            self.name is self.minutes is self.steps is self.seed is None
        )


def build_recipe(words: TrainWords) -> Recipe:
    """Return the named recipe, changed by the options and checked.

    Raises
    ------
    RecipeError, MethodError
        The recipe or a key is unknown (the nearest is offered), or a value is out of range.
    ReadError
        A file or folder of ``--data`` does not exist.
    """
    from zenhance.contract import registry
    from zenhance.contract.learner import LearningMethod
    from zenhance.training.recipe import Recipe

    fields = _starting_fields(words)
    if words.data:
        _replace_data(fields, words)
    for key, value in parse_settings(words.set).items():
        _put(fields, key, value)
    if words.minutes is not None:
        fields["minutes"] = parse_number("--minutes", words.minutes)
    for key, text, minimum in (("steps", words.steps, 1), ("seed", words.seed, 0)):
        if text is not None:
            fields[key] = parse_whole(f"--{key}", text, minimum=minimum)
    if words.name is not None:
        fields["name"] = words.name
    recipe = Recipe(**fields)
    method = registry.load(recipe.method)
    if isinstance(method, LearningMethod):
        method.learner().build(recipe.architecture)
    return recipe


def _starting_fields(words: TrainWords) -> dict[str, Any]:
    from zenhance.contract import registry
    from zenhance.training.recipe import load_recipe, recipe_names

    wanted = words.wanted
    is_file = wanted.lower().endswith((".yaml", ".yml"))
    known = recipe_names()
    if not is_file and wanted not in known and f"{wanted}_stack" not in known:
        if wanted not in registry.names():
            learning = _learning_names()
            instead = f"choose one of {', '.join(learning)}, or a file ending in .yaml"
            hint = hint_for(wanted, (*known, *learning), instead)
            raise RecipeError(f"there is no recipe or method {quoted(wanted)}; {hint}")
        if registry.load(wanted).spec.learns == "no":
            raise MethodError(
                f"the method {wanted} does not learn; "
                f"choose one that does: {', '.join(_learning_names())}"
            )
        if not words.data:
            raise RecipeError(
                f"no recipe for {wanted} ships with zenhance; "
                "give your own stacks with --data, or a recipe file"
            )
        return {"method": wanted, "name": wanted}
    return dict(load_recipe(wanted).model_dump(mode="json", exclude_defaults=True))


def _learning_names() -> tuple[str, ...]:
    from zenhance.contract import registry

    return tuple(name for name in registry.names() if registry.load(name).spec.learns != "no")


def _replace_data(fields: dict[str, Any], words: TrainWords) -> None:
    """Replace the recipe's data by the user's files, and name the model after them."""
    from zenhance.io.names import stem
    from zenhance.training.recipe import find_data

    found = find_data(words.data, str(fields["method"])).model_dump(
        mode="json", exclude_defaults=True
    )
    share = fields.get("data", {}).get("validation_share")
    fields["data"] = found if share is None else {**found, "validation_share": share}
    first = Path(words.data[0]).expanduser().absolute()
    fields["name"] = (
        f"{fields['method']}_{re.sub('[^A-Za-z0-9_.-]+', '_', stem(first)).strip('_.-') or 'own'}"
    )
    fields["description"] = (
        f"Trained on {', '.join(Path(path).name or path for path in words.data)}."
    )


def _put(fields: dict[str, Any], key: str, value: Any) -> None:
    """Set a key; dots lead inside, as in ``architecture.window`` or ``data.simulated.0.count``."""
    *front, last = key.split(".")
    place: Any = fields
    for number, part in enumerate(front):
        if isinstance(place, dict):
            place = place.setdefault(part, {})
        elif isinstance(place, list):
            place = place[_index(place, part, key)]
        if not isinstance(place, dict | list):
            raise RecipeError(
                f'--set "{key[:60]}": {".".join(front[: number + 1])[:60]} is one value '
                "without parts; set it as a whole"
            )
    place[_index(place, last, key) if isinstance(place, list) else last] = value


def _index(entries: list[Any], part: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(entries):
        raise RecipeError(
            f'--set "{key[:60]}": "{part[:20]}" is not one of its {len(entries)} entries, '
            "counted from 0"
        )
    return int(part)


def command_of(words: TrainWords) -> str:
    """Return the command that makes the model again, for its card."""
    parts = ["zenhance", "train", words.wanted]
    parts += [word for path in words.data for word in ("--data", path)]
    parts += [word for pair in words.set for word in ("--set", pair)]
    for option, value in (
        ("--minutes", words.minutes),
        ("--steps", words.steps),
        ("--seed", words.seed),
        ("--name", words.name),
    ):
        parts += [] if value is None else [option, value]
    return shlex.join(parts)
