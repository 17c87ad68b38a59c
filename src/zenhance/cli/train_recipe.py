"""Build a recipe from the options of ``zenhance train``, and the command from the options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenhance.cli.parsing import parse_number, parse_settings, parse_whole
from zenhance.errors import MethodError, RecipeError
from zenhance.wording import hint_for, quoted

if TYPE_CHECKING:
    from zenhance.training.recipe import Recipe

__all__ = ["TrainWords", "build_recipe", "command_of"]


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
    from zenhance.training.pairing import find_data

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
            f'--set "{key[:60]}": "{part[:20]}" is none of its {len(entries)} entries; '
            "they are counted from 0"
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
