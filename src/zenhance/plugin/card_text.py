"""The card of a model in a few lines, for a dock and for a tooltip."""

from __future__ import annotations

from html import escape

from zenhance.models.card import Card
from zenhance.wording import format_seconds

__all__ = ["card_html", "card_line"]


def _quality(card: Card) -> str:
    figures = card.metrics
    if "psnr_db" not in figures:
        return f"validation loss {figures['loss']:.3g}" if "loss" in figures else ""
    against = " against its own estimate" if card.is_self_judged else ""
    text = f"validation PSNR{against} {figures['psnr_db']:.1f} dB"
    text += (
        f" (untreated {figures['psnr_identity_db']:.1f} dB)"
        if "psnr_identity_db" in figures
        else ""
    )
    return text + (f", SSIM {figures['ssim']:.3f}" if "ssim" in figures else "")


def _voxel(card: Card) -> str:
    return (
        ""
        if card.voxel_size_um is None
        else f"voxels {' × '.join(f'{v:.3g}' for v in card.voxel_size_um)} µm (z y x)"
    )


def _data(card: Card) -> str:
    names = {
        role: [str(entry.get("name")) for entry in card.data if entry.get("role") == role]
        for role in ("train", "validation")
    }
    if not names["train"]:
        return ""
    count = len(names["train"])
    some = ", ".join(dict.fromkeys(names["train"][:3])) + (" …" if count > 3 else "")
    text = f"trained on {count} volume{'s' if count > 1 else ''} ({some})"
    return text + (
        "; validated on the same" if set(names["validation"]) <= set(names["train"]) else ""
    )


def card_line(card: Card) -> str:
    """Return the card in one line: quality and voxel size."""
    return "; ".join(part for part in (_quality(card), _voxel(card)) if part)


def card_html(card: Card) -> str:
    """Return the card as a few lines of rich text; everything in it is escaped, since models come from strangers."""
    made = f"{card.steps} steps, {format_seconds(card.seconds, rough=True)} on {card.device or 'an unknown device'}, {card.parameters:,} weights"
    lines = [
        card.description,
        _quality(card),
        _voxel(card),
        _data(card),
        made,
        f"{card.created[:10]}, zenhance {card.version}",
    ]
    return "<br>".join(
        [
            f"<b>{escape(card.name)}</b> ({escape(card.method)})",
            *(escape(line) for line in lines if line),
        ]
    )
