"""A recipe: all that decides what a method learns, in one frozen object that reads YAML.

The user's own files become its data by their names: ``NAME_truth`` is the truth of ``NAME``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zenhance.contract import registry
from zenhance.contract.settings import explain, worst
from zenhance.errors import ReadError, RecipeError
from zenhance.io.names import IMAGE_SUFFIXES, images_in, is_image_folder, stem
from zenhance.stack import VoxelSize
from zenhance.wording import hint_for
from zenhance.yaml_text import load_yaml, read_text

__all__ = [
    "TRUTH",
    "Data",
    "Drawn",
    "Pair",
    "Recipe",
    "Simulated",
    "find_data",
    "load_recipe",
    "recipe_names",
]

# Bounds far above anything that is useful; what fits into this computer is checked before a run.
MAX_STEPS = 10**8
MAX_MINUTES = 60 * 24 * 60
MAX_STACKS = 10_000
MAX_SIMULATED_VOXELS = 10**9


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Simulated(_Strict):
    """Training pairs from the simulator."""

    specimen: str = Field(description="name of the specimen, as `zenhance simulate` takes it")
    count: int = Field(8, ge=1, le=MAX_STACKS, description="how many stacks to train on")
    validation: int = Field(
        2, ge=1, le=MAX_STACKS, description="how many further stacks to validate on"
    )
    seed: int = Field(
        1000, ge=0, lt=2**63, description="seed of the first stack; the next one's is one higher"
    )
    shape_px: tuple[int, int, int] = Field(
        (24, 160, 160), description="size of a stack z, y, x in voxels"
    )
    voxel_size_um: tuple[float, float, float] = Field(
        (0.5, 0.22, 0.22), description="voxel size z, y, x in µm"
    )
    scale: int = Field(1, ge=1, le=4, description="truth voxels per measured voxel along y and x")
    microscopes: tuple[dict[str, Any], ...] = Field(
        ({},), description="microscopes, taken in turn: preset and settings"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the specimen")
    measured_only: bool = Field(
        False,
        description="hide the truth from training and validation, as with your own stacks",
    )

    @model_validator(mode="after")
    def _is_possible(self) -> Simulated:
        voxels = math.prod(self.shape_px)
        if min(self.shape_px) < 1 or voxels > MAX_SIMULATED_VOXELS:
            raise RecipeError(
                f"data.simulated.shape_px is {self.shape_px}; give 1 or more voxels z, y, x, "
                f"{MAX_SIMULATED_VOXELS:,} in all at most"
            )
        VoxelSize.of(self.voxel_size_um)
        if not self.microscopes:
            raise RecipeError("data.simulated.microscopes is empty; name one, or leave it out")
        return self


class Drawn(_Strict):
    """Training pairs of all kinds: grid, optics, light, camera and specimen vary by stack."""

    count: int = Field(200, ge=1, le=MAX_STACKS, description="how many stacks to train on")
    validation: int = Field(
        20, ge=1, le=MAX_STACKS, description="how many further stacks to validate on"
    )
    seed: int = Field(1000, ge=0, lt=2**31, description="seed of all of them")


class Pair(_Strict):
    """A measured file and its sharp counterpart."""

    measured: str = Field(description="file with the measured stack")
    truth: str = Field(
        description="file with the sharp stack, same place and shape (or a whole multiple of it)"
    )


class Data(_Strict):
    """What to learn from; give at least one kind."""

    simulated: tuple[Simulated, ...] = Field((), description="simulated pairs")
    drawn: tuple[Drawn, ...] = Field((), description="simulated pairs of all kinds")
    pairs: tuple[Pair, ...] = Field((), description="the user's own pairs")
    stacks: tuple[str, ...] = Field(
        (), description="measured stacks alone, for methods that learn without truth"
    )
    psf: str | None = Field(
        None,
        description="point spread function of measured stacks alone; left out, from the file or a "
        "default",
    )
    psf_growth: float = Field(
        1.0,
        ge=0.2,
        le=5,
        description="width of the PSF in a stack's last plane over that in its first, for stacks "
        "alone",
    )
    validation_share: float = Field(
        0.2, gt=0, lt=1, description="share of the user's files (at least one) kept for validation"
    )

    @model_validator(mode="after")
    def _something(self) -> Data:
        if not (self.simulated or self.drawn or self.pairs or self.stacks):
            raise RecipeError("the recipe names no data; give simulated, drawn, pairs or stacks")
        return self


class Recipe(_Strict):
    """How to train a method.

    Raises
    ------
    RecipeError
        A key is unknown (the nearest one is offered), missing, or out of range.
    """

    method: str = Field(description="name of the method")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="name of the model, and of its file"
    )
    description: str = Field("", description="what the model is for, in one sentence")
    architecture: dict[str, Any] = Field(
        default_factory=dict, description="what decides the network's shape; the method checks it"
    )
    data: Data = Field(description="what to learn from")
    patch_px: int = Field(64, ge=8, le=1024, description="patch size along y and x in pixels")
    batch: int = Field(16, ge=1, le=4096, description="patches per step")
    steps: int = Field(4000, ge=1, le=MAX_STEPS, description="optimiser steps")
    minutes: float | None = Field(
        None,
        gt=0,
        le=MAX_MINUTES,
        description="time budget; the run ends there if the steps are not done before",
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="peak learning rate of AdamW")
    weight_decay: float = Field(1e-4, ge=0, le=1e3, description="weight decay of AdamW")
    warmup_steps: int = Field(
        100, ge=0, le=MAX_STEPS, description="steps of linear warm-up before the cosine"
    )
    ema: float = Field(
        0.995,
        ge=0,
        lt=1,
        description="decay of the running mean of the weights, which is what is kept",
    )
    clip_norm: float = Field(1.0, gt=0, le=1e9, description="largest gradient norm")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="arithmetic of the forward pass"
    )
    validate_every: int = Field(200, ge=1, le=MAX_STEPS, description="steps between validations")
    validation_patches: int = Field(32, ge=1, le=4096, description="patches in a validation")
    patience: int = Field(
        20, ge=1, le=MAX_STEPS, description="validations without a better one before stopping"
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="seed of initialisation, patches and augmentation"
    )
    start: str = Field(
        "", description="name or path of the weights to begin from; left out, from random ones"
    )
    rounds: int = Field(
        2,
        ge=1,
        le=10,
        description="how often the estimate is renewed when learning from measured stacks alone",
    )

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RecipeError(_where(error)) from error

    @model_validator(mode="after")
    def _fits_method(self) -> Recipe:
        learns = registry.load(self.method).spec.learns
        if learns == "no":
            raise RecipeError(
                f"the method {self.method} does not learn; choose one that does, see `zenhance "
                "methods`"
            )
        if learns == "pairs" and self.data.stacks:
            raise RecipeError(
                f"the method {self.method} learns from pairs only; give pairs or simulated, not "
                "stacks"
            )
        return self

    def to_yaml(self) -> str:
        """Return the recipe as YAML, without what is left at its default."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Read what :meth:`to_yaml` wrote, or what a user typed.

        Raises
        ------
        RecipeError
            The text is no YAML mapping, or a key or value is wrong.
        """
        fields = load_yaml(text, "the recipe")
        if not isinstance(fields, dict):
            raise RecipeError(
                "the recipe is not a list of key: value lines; begin with method: and name:"
            )
        return cls(**fields)


def _where(error: ValidationError) -> str:
    """Name the key in the model that it is part of, at any depth."""
    parts: dict[str, type[BaseModel]] = {
        "data": Data,
        "simulated": Simulated,
        "drawn": Drawn,
        "pairs": Pair,
    }
    model: type[BaseModel] = Recipe
    first = worst(error)
    for part in first["loc"][:-1]:
        model = parts.get(str(part), model)
    if first["type"] == "extra_forbidden" and model is not Recipe:
        name = str(first["loc"][-1])
        hint = hint_for(name, model.model_fields)
        return f'there is no recipe key called "{".".join(str(p) for p in first["loc"])}"; {hint}'
    return explain(error, Recipe, "recipe key")


def _shipped() -> dict[str, Path]:
    """Return the recipes that ship, by name: each method keeps its own in ``recipes/``."""
    found = [p for m in registry.names() for p in (registry.folder(m) / "recipes").glob("*.yaml")]
    return {path.stem: path for path in sorted(found, key=lambda path: path.stem)}


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that ship."""
    return tuple(_shipped())


def load_recipe(wanted: str) -> Recipe:
    """Return a recipe by the path of a YAML file, its own name, or the name of a method.

    A method stands for the recipe of its default weights.

    Raises
    ------
    RecipeError
        There is none, or it cannot be used as written.
    """
    path = Path(wanted).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if not path.exists():
            raise RecipeError(
                f'there is no recipe file "{wanted[-100:]}"; check the path, '
                f"or name a recipe that ships: {_some()}"
            )
        return Recipe.from_yaml(read_text(path, "a recipe, a YAML file"))
    shipped = _shipped()
    for name in (wanted, f"{wanted}_stack"):
        if name in shipped:
            return Recipe.from_yaml(shipped[name].read_text(encoding="utf-8"))
    hint = hint_for(wanted, recipe_names(), f"give a YAML file or one of {_some()}")
    raise RecipeError(f'there is no recipe "{wanted[:60]}"; {hint}')


def _some() -> str:
    """Name the recipes of the methods' default weights, and say that there are more."""
    return f"{', '.join(name for name in recipe_names() if name.endswith('_stack'))} and others"


TRUTH = "_truth"
# What the simulator writes besides, and nobody trains on.
COMPANIONS = ("_labels", "_blurred")


def find_data(paths: Sequence[str], method: str) -> Data:
    """Return what a method can learn from in files and folders.

    ``NAME.ext`` and ``NAME_truth.ext`` in one folder are a pair, as ``zenhance simulate`` writes
    them; the two may differ in ``ext``. A file without a truth is a stack, for methods that learn
    from measurements alone. ``NAME_labels`` and ``NAME_blurred`` beside a NAME are left out.

    Parameters
    ----------
    paths : sequence of str
        Files and folders.
    method : str
        Name of the method that is to learn.

    Raises
    ------
    ReadError
        A path is not there, or a folder holds no image.
    RecipeError
        A truth has no measurement, or a file no truth and the method needs one.
    """
    given = [path for text in paths for path in _files(text)]
    files = list(dict.fromkeys(given))
    measured = [path for path in files if _owner(path, TRUTH) is None and not _is_companion(path)]
    lost = [
        path
        for path in files
        if (name := _owner(path, TRUTH)) is not None and not _beside(path, name)
    ]
    if lost:
        name = _owner(lost[0], TRUTH)
        raise RecipeError(
            f'"{lost[0].name}" is a truth without its measurement; put "{name}.ome.tif" beside it, '
            "or rename it"
        )
    # a truth that is given alone stands for its pair
    measured += [
        own
        for path in files
        if (name := _owner(path, TRUTH)) is not None
        for own in _beside(path, name)[:1]
    ]
    pairs, stacks = [], []
    for path in dict.fromkeys(measured):
        truths = _beside(path, stem(path) + TRUTH)
        if truths:
            pairs.append(Pair(measured=str(path), truth=str(truths[0])))
        else:
            stacks.append(path)
    if stacks and registry.load(method).spec.learns != "own_stack":
        raise RecipeError(
            f'"{stacks[0].name}" has no truth beside it and {method} learns from pairs only; put '
            f'"{stem(stacks[0])}{TRUTH}.ome.tif" there'
        )
    return Data(pairs=tuple(pairs), stacks=tuple(str(path) for path in stacks))


def _files(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if not os.path.lexists(path):
        raise ReadError(text[:150], "there is no such file or folder; check the path after --data")
    return images_in(path) if path.is_dir() and not is_image_folder(path) else [path]


def _owner(path: Path, ending: str) -> str | None:
    """Return NAME of ``NAME_truth.ext``, or None for any other file."""
    name = stem(path)
    return name.removesuffix(ending) if name.endswith(ending) and len(name) > len(ending) else None


def _is_companion(path: Path) -> bool:
    return any(
        (name := _owner(path, ending)) is not None and bool(_beside(path, name))
        for ending in COMPANIONS
    )


def _beside(path: Path, name: str) -> list[Path]:
    """Return the images called ``name`` beside ``path``, those with its own suffix first."""
    own = path.name[len(stem(path)) :]
    endings = dict.fromkeys((own, *IMAGE_SUFFIXES))
    return [found for ending in endings if (found := path.with_name(name + ending)).exists()]
