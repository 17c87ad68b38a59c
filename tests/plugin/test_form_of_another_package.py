"""The form of a method in a folder of its own, made from what the method declares."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zenhance.contract import registry
from zenhance.plugin.form import SettingsForm

OUTSIDE = Path(__file__).parents[1] / "contract"


def test_the_form_shows_and_returns_the_settings(qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OUTSIDE))
    monkeypatch.setitem(registry._BUILT_IN, "tiny", "tiny_method:METHOD")
    try:
        form = SettingsForm(registry.load("tiny").spec.parameters)
        qtbot.addWidget(form)
        assert list(form.fields) == ["strength"]
        form.show_settings({"strength": 0.25})
        assert form.settings() == {"strength": 0.25}
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] == "tiny_method"]:
            del sys.modules[name]
