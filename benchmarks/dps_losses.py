"""Networks for artefact removal trained with other losses than the shipped one, equally long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from zenhance.methods.dps.features import VggFeatures
from zenhance.models.checkpoint import read_checkpoint
from zenhance.training.loop import train
from zenhance.training.recipe import Recipe, load_recipe

__all__ = ["VGG_WEIGHT", "Taught", "random_vgg", "taught_by_other_losses"]

RECIPE = "dps_artefacts"
SEED = 16
VGG_WEIGHT = 0.1
"""Of the features of VGG16, which differ more than one's own do: with it their term is about as
large as that of the recipe."""


@dataclass(frozen=True, slots=True)
class Taught:
    """File of a model, and the steps and minutes of its training."""

    path: str
    steps: int
    minutes: float


def random_vgg(path: Path, seed: int = SEED) -> Path:
    """Write VGG16 with random weights in torchvision's layout, the same for the same seed.

    The weights follow He et al., ICCV (2015), so that features neither fade nor grow from layer to
    layer. Biases are zero.
    """
    generator = torch.Generator().manual_seed(seed)
    network = VggFeatures()
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    save_file(network.state_dict(), path)
    return path


def _changes(place: Path, features: Path | None) -> dict[str, dict[str, Any]]:
    """Return what each loss changes in the architecture of the shipped recipe."""
    vgg = {"perceptual": VGG_WEIGHT}
    found: dict[str, dict[str, Any]] = {
        "own features": {},
        "L1 alone": {"perceptual": 0.0, "intensity": 1.0},
        "VGG16, random": {
            **vgg,
            "features_from": str(random_vgg(place / "vgg16_random.safetensors")),
        },
    }
    return (
        found
        if features is None
        else {**found, "VGG16, your file": {**vgg, "features_from": str(features)}}
    )


def taught_by_other_losses(
    place: Path,
    *,
    minutes: float,
    features: Path | None = None,
    device: str = "cpu",
    recipe: Recipe | None = None,
    tell: Callable[[str, float], None] = lambda _title, _share: None,
) -> dict[str, Taught]:
    """Train a network with each loss by the recipe that ships.

    Models already in the folder are reused.


    Parameters
    ----------
    place : Path
        Folder for the models.
    minutes : float
        How long each learns.
    features : Path, optional
        Weights of VGG16 in torchvision's layout, for one more row.
    device : str
        Where to train.
    recipe : Recipe, optional
        Left out, the one that ships.
    tell : callable
        Told the loss, and the share that is done.

    Raises
    ------
    CheckpointError
        The file of features cannot be used.
    """
    recipe = load_recipe(RECIPE) if recipe is None else recipe
    place.mkdir(parents=True, exist_ok=True)
    changes = _changes(place, features)
    found = {}
    for number, (name, change) in enumerate(changes.items()):
        tell(f"learning by {name}", number / len(changes))
        model = "artefacts_" + "".join(c if c.isalnum() else "_" for c in name.lower())
        kept = place / model / f"{model}.safetensors"
        if not kept.is_file():
            update = {
                "name": model,
                "architecture": {**recipe.architecture, **change},
                "minutes": minutes,
                "validate_every": min(recipe.validate_every, 50),
            }
            train(recipe.model_copy(update=update), kept.parent, device=device)
        card = read_checkpoint(kept).card
        found[name] = Taught(str(kept), card.steps, card.seconds / 60)
    return found
