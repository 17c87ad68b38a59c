"""The form that is made from a method's settings."""

from __future__ import annotations

import pytest
from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, SpinBox
from pydantic import Field
from slow_method import SlowParameters

from zenhance.contract.spec import MethodParameters
from zenhance.plugin.form import OptionalNumber, SettingsForm, bounds_of


@pytest.fixture
def form(qtbot):
    made = SettingsForm(SlowParameters)
    qtbot.addWidget(made)
    return made


def test_each_field_gets_the_widget_of_its_type(form):
    kinds = {name: type(widget) for name, widget in form.fields.items()}
    assert kinds == {
        "steps": SpinBox,
        "step_s": FloatSpinBox,
        "trouble": ComboBox,
        "weight": OptionalNumber,
        "tidy": CheckBox,
    }


def test_bounds_tooltip_and_unit_come_from_the_field(form):
    steps = form.fields["steps"]
    assert (steps.min, steps.max) == (1, 1000)
    assert steps.tooltip == "how many steps a tile takes"
    assert steps.label == "steps"
    assert form.fields["step_s"].label == "step [s]"
    assert bounds_of(SlowParameters.model_fields["weight"]) == (0.0, 1.0)


def test_advanced_fields_are_tucked_away(form):
    assert form.advanced is not None
    assert form.advanced.isAncestorOf(form.fields["trouble"].native)
    assert not form.advanced.isAncestorOf(form.fields["steps"].native)
    assert not form.advanced.isExpanded()


def test_untouched_form_gives_no_settings(form):
    assert form.settings() == {}


def test_what_is_shown_is_given_back_exactly(form):
    wanted = {"steps": 7, "step_s": 0.0012345, "trouble": "warn", "weight": 0.25, "tidy": False}
    form.show_settings(wanted)
    assert form.settings() == wanted
    SlowParameters(**form.settings())


def test_fields_that_settings_leave_out_go_back_to_their_default(form):
    form.show_settings({"steps": 7, "weight": 0.5})
    form.show_settings({"tidy": False})
    assert form.settings() == {"tidy": False}


def test_a_number_can_be_left_to_the_method(form):
    weight = form.fields["weight"]
    assert weight.value is None
    weight.automatic.value = False
    weight.number.value = 0.5
    assert form.settings() == {"weight": 0.5}
    weight.automatic.value = True
    assert form.settings() == {}


def test_each_edit_is_announced(form, qtbot):
    with qtbot.waitSignal(form.changed, timeout=500):
        form.fields["steps"].value = 9
    with qtbot.waitSignal(form.changed, timeout=500):
        form.fields["weight"].automatic.value = False


def test_the_form_of_every_built_in_method_starts_at_its_defaults(qtbot):
    from zenhance.contract import registry

    for name in registry.names():
        model = registry.load(name).spec.parameters
        made = SettingsForm(model)
        qtbot.addWidget(made)
        assert made.settings() == {}
        assert model(**made.settings()) == model()


def test_small_defaults_can_be_set_finely(qtbot):
    class Fine(MethodParameters):
        regularisation: float = Field(0.0005, ge=0.0, le=1.0)

    made = SettingsForm(Fine)
    qtbot.addWidget(made)
    made.fields["regularisation"].value = 0.00052
    assert made.settings() == {"regularisation": 0.00052}


def test_a_number_that_was_left_to_the_method_starts_at_its_usual_value(qtbot):
    class Told(MethodParameters):
        iterations: int | None = Field(None, ge=1, le=1000, json_schema_extra={"start": 12})
        noise: float | None = Field(None, ge=1e-6, le=100.0)
        share: float | None = Field(None, gt=0.0, le=1.0)
        level: float | None = Field(None)

    made = SettingsForm(Told)
    qtbot.addWidget(made)
    for field in made.fields.values():
        field.automatic.value = False
    # Without a start: the geometric mean of positive bounds, a tenth of the largest value, or 0.
    assert made.settings() == {"iterations": 12, "noise": 0.01, "share": 0.1, "level": 0.0}


def test_no_built_in_method_starts_at_the_end_of_a_range(qtbot):
    from zenhance.contract import registry

    looked_at = []
    for name in registry.names():
        made = SettingsForm(registry.load(name).spec.parameters)
        qtbot.addWidget(made)
        for field, widget in made.fields.items():
            if isinstance(widget, OptionalNumber):
                low, high = bounds_of(made.model.model_fields[field])
                widget.automatic.value = False
                assert widget.value not in (low, high)
                looked_at.append(field)
    assert {"iterations", "wiener_noise"} <= set(looked_at)
