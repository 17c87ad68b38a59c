"""Which method? The advice on a layer, measured in the worker and put into the form."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from zenhance.contract import registry
from zenhance.pipeline import EnhanceRequest, Progress
from zenhance.plugin.dock_form import DockForm
from zenhance.plugin.dock_words import in_dock_words
from zenhance.plugin.snapshot import Snapshot
from zenhance.plugin.task import Steps

if TYPE_CHECKING:
    from zenhance.pipeline.advice import Advice

__all__ = ["advice_steps", "follow"]

LEARN_MINUTES = 10.0


def advice_steps(snapshot: Snapshot, request: EnhanceRequest, _cancel: threading.Event) -> Steps:
    """Measure the layer and return the advice."""
    from zenhance.pipeline.advice import advise

    yield from snapshot.copy_steps()
    yield Progress("measure", 0.1, None, "measuring light, depth and structures")
    return advise(snapshot.stack(), request)


def follow(form: DockForm, advice: Advice) -> str:
    """Choose the recommended method in the form, and return the reason for the message line."""
    form.method.setCurrentIndex(form.method.findData(advice.method))
    form.learn.show_minutes(LEARN_MINUTES if advice.learn else None)
    title = registry.load(advice.method).spec.title.partition(" (")[0]
    lines = (
        f"recommended and chosen: {title}. {advice.reason}",
        f"measured: {'; '.join(advice.facts)}",
        *advice.doubts,
    )
    return "\n".join(map(in_dock_words, lines))
