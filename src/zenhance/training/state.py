"""The state of a training run, saved at every validation, so that a killed run can resume.

Patches and dropout depend on seed and step alone; what is left to remember are weights, their
running mean, the optimiser's moments and the best so far. All of it is tensors and JSON in one
safetensors file; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import Module
from torch.optim import AdamW

from zenhance.errors import CheckpointError, RecipeError
from zenhance.io.commit import write_bytes
from zenhance.io.limits import open_regular
from zenhance.models.header import Card
from zenhance.training.recipe import Recipe
from zenhance.training.validate import Validation

__all__ = [
    "RECIPE_FILE",
    "STATE_FILE",
    "Progressed",
    "TrainProgress",
    "TrainResult",
    "TrainingState",
]

RECIPE_FILE, STATE_FILE = "recipe.yaml", "state.safetensors"

KEY = "zenhance_training"
LENGTH = ("steps", "minutes", "validate_every", "patience")
"""Keys of a recipe that say how long it learns."""
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainProgress:
    """Where a training is.

    Parameters
    ----------
    stage : str
        ``data``, ``train`` or ``save``.
    step, steps : int
        Optimiser steps done and planned.
    fraction : float
        0 ... 1, of the steps or of the time budget, whichever is further.
    seconds_left : float or None
        Where it can be told.
    loss : float
        Of the last step; NaN before the first.
    logs : mapping of str to float
        What the method logs besides.
    validation : Validation or None
        Where this step was validated.
    """

    stage: str
    step: int
    steps: int
    fraction: float
    seconds_left: float | None
    loss: float = math.nan
    logs: Mapping[str, float] = field(default_factory=dict)
    validation: Validation | None = None


@dataclass(frozen=True)
class TrainResult:
    """What a training gives back: the checkpoint's path and card, and why it ended."""

    path: Path
    card: Card
    ended: str
    log: tuple[Mapping[str, float], ...]


@dataclass
class Progressed:
    """The figures of a run so far.

    Parameters
    ----------
    step : int
        Steps done.
    seconds : float
        Time spent, over all sittings.
    best_step, best_score : int, float
        Step of the weights kept, and their validation score (larger is better).
    best_metrics : dict
        Their validation figures.
    since_best : int
        Validations since then.
    log : list of dict
        One entry a validation: step, loss, learning rate, validation figures.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float = float("-inf")
    best_metrics: dict[str, float] = field(default_factory=dict)
    since_best: int = 0
    log: list[dict[str, float]] = field(default_factory=list)


@dataclass
class TrainingState:
    """What a run holds in memory and keeps on disk.

    Parameters
    ----------
    recipe : Recipe
        A state belongs to one recipe; another one refuses it.
    network : Module
        Being trained.
    mean : Module
        Running mean of the network's weights (``torch.optim.swa_utils.AveragedModel``).
    optimiser : AdamW
        Of the network.
    best : dict of str to Tensor
        Weights of the best running mean so far, on the CPU.
    """

    recipe: Recipe
    network: Module
    mean: Module
    optimiser: AdamW
    best: dict[str, Tensor] = field(default_factory=dict)
    done: Progressed = field(default_factory=Progressed)

    def recipe_sha256(self) -> str:
        """Return the hash of network, data and loss; a resumed run may change only its length."""
        fields = {
            name: value
            for name, value in self.recipe.model_dump(mode="json").items()
            if name not in LENGTH
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the state, replacing the one before."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"mean.{k}": v for k, v in self.mean.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for number, parameter in enumerate(self._parameters()):
            moments = self.optimiser.state.get(parameter, {})
            tensors |= {
                f"adam.{number}.{name}": moments[name] for name in MOMENTS if name in moments
            }
        record = json.dumps({"recipe": self.recipe_sha256(), "done": vars(self.done)})
        copies = {
            name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()
        }
        write_bytes(path, save(copies, metadata={KEY: record}), overwrite=True)

    def load(self, path: Path) -> None:
        """Go on from a state on disk.

        Raises
        ------
        CheckpointError
            The file is damaged or not a training state.
        RecipeError
            It belongs to another recipe.
        """
        try:
            # A pipe or device in its place would be waited for without end.
            open_regular(path).close()
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {})[KEY])
            tensors = load(path.read_bytes())
        except (SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(
                f'the training state "{path}" is damaged; start again without --resume'
            ) from error
        if record["recipe"] != self.recipe_sha256():
            raise RecipeError(
                f'the training state "{path.parent}" was made with another recipe; use that one, '
                "or another folder"
            )
        self.network.load_state_dict(_part(tensors, "network."))
        self.mean.load_state_dict(_part(tensors, "mean."))
        self.best = _part(tensors, "best.")
        self.done = Progressed(**record["done"])
        self._load_moments(tensors)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def _load_moments(self, tensors: dict[str, Tensor]) -> None:
        for number, parameter in enumerate(self._parameters()):
            moments: dict[str, Any] = {}
            for name in MOMENTS:
                if (value := tensors.get(f"adam.{number}.{name}")) is not None:
                    moments[name] = value if name == "step" else value.to(parameter.device)
            if moments:
                self.optimiser.state[parameter] = moments

    def keep_best(self, score: float, metrics: dict[str, float]) -> bool:
        """Keep the running mean if its score is the best so far; tell whether it was."""
        if not score > self.done.best_score:
            self.done.since_best += 1
            return False
        module = self.mean.module
        if not isinstance(module, Module):
            raise TypeError(f"the running mean holds {type(module).__name__}, not a network")
        self.best = {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
        self.done.best_score, self.done.best_step, self.done.best_metrics = (
            score,
            self.done.step,
            dict(metrics),
        )
        self.done.since_best = 0
        return True


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
