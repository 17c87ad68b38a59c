"""The models that ship, as a table for the pages of their methods: everything in it stands on the models' own cards."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import TextTable
from zenhance.contract import registry
from zenhance.contract.learner import LearningMethod
from zenhance.models.card import Card
from zenhance.models.catalogue import list_weights

__all__ = ["learning_methods", "models_table", "shipped_cards"]

UNKNOWN = "-"


def learning_methods() -> tuple[str, ...]:
    """Return the names of the methods with weights."""
    return tuple(name for name in registry.names() if registry.load(name).spec.learns != "no")


def shipped_cards(method: str) -> tuple[Card, ...]:
    """Return the cards of the models of a method that ship."""
    return tuple(entry.card for entry in list_weights(method) if entry.ships)


def models_table(method: str, cards: Sequence[Card]) -> TextTable:
    """Return a row a model: what it is for, how large it is, what it was trained for, and how it did on its validation stacks.

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
        "Planes: how many the network sees at once; weights: number of them; PSNR of patches of the validation stacks, which were not"
        " trained on, in units of their scaled range; each model drew its own, so compare it with the identity on the same ones.",
        *(
            [
                f"In bold the one that is taken where none is named; trained with zenhance {', '.join(sorted({c.version for c in cards}))}."
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
    """Return how many planes a network sees at once; a card may leave it at the method's own default."""
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
