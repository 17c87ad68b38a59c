"""Models that ship: what their cards say, for the page of each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.runner import Experiment, Section
from benchmarks.tables import TextTable
from zenhance.contract import registry
from zenhance.contract.learner import LearningMethod
from zenhance.models.catalogue import list_weights
from zenhance.models.header import Card

__all__ = ["EXPERIMENT", "learning_methods", "models_table", "shipped_cards"]

UNKNOWN = "-"


def learning_methods() -> tuple[str, ...]:
    """Return the names of the methods with weights."""
    return tuple(name for name in registry.names() if registry.load(name).spec.learns != "no")


def shipped_cards(method: str) -> tuple[Card, ...]:
    """Return the cards of the models of a method that ship."""
    return tuple(entry.card for entry in list_weights(method) if entry.ships)


def models_table(method: str, cards: Sequence[Card]) -> TextTable:
    """Return a row for each model: purpose, size, training and validation.

    Parameters
    ----------
    method : str
        Name of the method.
    cards : sequence of Card
        Of its models.
    """
    header = (
        "model",
        "for",
        "planes",
        "enlarges",
        "weights",
        "voxel size µm",
        "steps",
        "minutes",
        "PSNR dB",
        "identity dB",
    )
    default = registry.load(method).spec.defaults.weights
    rows = tuple(_row(card, default) for card in cards)
    foot = (
        "Planes: how many the network sees at once; weights: number of them; PSNR of patches of "
        "the validation stacks, which were not"
        " trained on, in units of their scaled range; each model drew its own, so compare it with "
        "the identity on the same ones.",
        *(
            [
                "Bold: the default model; trained with zenhance "
                f"{', '.join(sorted({c.version for c in cards}))}."
            ]
            if cards
            else []
        ),
    )
    return TextTable(
        f"Models of {method}",
        header,
        rows,
        foot,
        ("for", "planes", "enlarges", "voxel size µm", "minutes"),
    )


def _planes(card: Card) -> int:
    """Return how many planes a network sees at once; a card may leave it at the default."""
    said = card.architecture.get("window")
    method = registry.load(card.method)
    if said is not None or not isinstance(method, LearningMethod):
        return int(said or 1)
    return int(getattr(method.learner().build(card.architecture), "window", 1))


def _row(card: Card, default: str) -> tuple[str, ...]:
    def figure(key: str) -> str:
        return f"{card.metrics[key]:.2f}" if key in card.metrics else UNKNOWN

    name = f"**`{card.name}`**" if card.name == default else f"`{card.name}`"
    voxel = (
        UNKNOWN if card.voxel_size_um is None else " × ".join(f"{v:g}" for v in card.voxel_size_um)
    )
    return (
        name,
        card.description,
        str(_planes(card)),
        f"{card.architecture.get('scale', 1)} ×",
        f"{card.parameters}",
        voxel,
        f"{card.steps}",
        f"{card.seconds / 60:.0f}",
        figure("psnr_db"),
        figure("psnr_identity_db"),
    )


@dataclass(frozen=True)
class ModelsReport:
    """Cards of the models that ship, by method."""

    cards: Mapping[str, tuple[Card, ...]]

    def record(self) -> dict[str, Any]:
        """Return the cards as JSON can hold them."""
        found = [card.model_dump(mode="json") for cards in self.cards.values() for card in cards]
        return {"models": found}

    def tables(self) -> dict[str, TextTable]:
        """Return a table for each method."""
        return {method: models_table(method, cards) for method, cards in self.cards.items()}

    def sections(self) -> list[Section]:
        """Return each table for the page of its method."""
        return [
            Section(f"methods/{method}.md", "models", table.markdown())
            for method, table in self.tables().items()
        ]


EXPERIMENT = Experiment(
    measure=lambda _options, _tell: ModelsReport({m: shipped_cards(m) for m in learning_methods()}),
    tables=ModelsReport.tables,
    sections=ModelsReport.sections,
    page="methods/METHOD.md",
)
