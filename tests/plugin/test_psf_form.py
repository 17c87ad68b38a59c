"""PSF fields and their marks: file, user, default."""

from __future__ import annotations

import pytest

from zenhance.errors import MethodError
from zenhance.physics.psf import resolve_psf
from zenhance.plugin.fields import NumberField
from zenhance.plugin.psf_form import PsfForm

FILE = {"na": 1.2, "refractive_index": 1.33, "emission_nm": 600.0}


@pytest.fixture
def form(qtbot):
    made = PsfForm()
    qtbot.addWidget(made)
    made.show_layer(FILE, 3)
    return made


def type_into(field, text):
    field.line.setText(text)
    field.line.editingFinished.emit()


def test_each_number_is_marked_with_its_origin(form):
    marks = {name: form.optics[name].origin for name in ("na", "n", "em_nm", "ex_nm", "pinhole_au")}
    assert marks == {
        "na": "file",
        "n": "file",
        "em_nm": "file",
        "ex_nm": "default",
        "pinhole_au": "default",
    }
    assert form.optics["na"].mark.text() == "file"
    assert form.optics["pinhole_au"].mark.text() == "default"


def test_the_file_decides_as_long_as_the_user_says_nothing(form):
    assert form.spec() is None


def test_typing_over_a_number_marks_it_user_and_asks_for_that_number_only(form):
    type_into(form.optics["na"], "0,8")
    assert form.optics["na"].origin == "user"
    assert form.spec() == "confocal:na=0.8"
    psf = resolve_psf(form.spec(), FILE)
    assert {v.name: (v.value, v.origin) for v in psf.values}["na"] == (0.8, "user")
    assert {v.name: (v.value, v.origin) for v in psf.values}["em_nm"] == (600.0, "file")


def test_clearing_a_number_gives_the_files_back(form):
    type_into(form.optics["na"], "0.8")
    type_into(form.optics["na"], "")
    assert form.optics["na"].value == 1.2
    assert form.spec() is None


def test_a_light_sheet_file_gets_the_wide_field_numbers(form):
    form.show_layer(FILE | {"modality": "lightsheet"}, 3)
    assert form.optics["pinhole_au"].isHidden()
    assert not form.optics["na"].isHidden()
    type_into(form.optics["na"], "0.5")
    assert form.spec() == "widefield:na=0.5"


def test_impossible_numbers_are_explained(form):
    type_into(form.optics["na"], "1.5")
    type_into(form.optics["n"], "1.2")
    assert not form.trouble.isHidden()
    assert "na" in form.trouble.text().lower()


@pytest.mark.parametrize(
    "spec",
    [
        "sigma_um=0.5,0.2,0.2",
        "fwhm_um=0.7,0.3,0.25",
        "confocal:na=1.1,em_nm=520",
        "widefield:na=0.9",
        "gibson_lanni:na=1.2,depth_um=30",
        "measured:/data/beads.tif",
        None,
    ],
)
def test_a_request_is_shown_and_given_back(form, spec):
    form.show_spec(spec)
    assert form.spec() == spec


def test_two_dimensional_layers_have_two_widths(form):
    form.show_layer({}, 2)
    form.show_spec("sigma_um=0.3,0.2")
    assert form.widths["Z"].isHidden()
    assert form.spec() == "sigma_um=0.3,0.2"


def test_a_number_field_keeps_more_digits_than_it_shows(qtbot):
    field = NumberField()
    qtbot.addWidget(field)
    field.set_given(0.123456789, "file")
    assert field.line.text() == "0.1235"
    field.line.editingFinished.emit()
    assert field.value == 0.123456789
    assert field.origin == "file"


@pytest.mark.parametrize("nonsense", ["abc", "nan", "inf", "--"])
def test_a_number_field_takes_numbers_only(qtbot, nonsense):
    field = NumberField()
    qtbot.addWidget(field)
    field.set_given(0.5, "file")
    type_into(field, nonsense)
    assert field.value == 0.5
    assert field.line.text() == "0.5"


@pytest.mark.parametrize(
    "spec",
    ["sigma_um=abc", "confocal:na=x", "confocal:nn=1", "fwhm_um=1", "blob", "widefield:na=99"],
)
def test_a_text_that_is_no_psf_is_refused_and_the_form_stays_as_it_was(form, spec):
    form.show_spec("widefield:na=0.9")
    with pytest.raises(MethodError):
        form.show_spec(spec)
    assert form.spec() == "widefield:na=0.9"


@pytest.mark.parametrize("kind", ["sigma_um", "fwhm_um"])
def test_a_gaussian_nobody_typed_is_the_automatic_psf_and_not_the_users(form, kind):
    form.kind.setCurrentIndex(form.kind.findData(kind))
    assert form.spec() is None
    assert form.widths["X"].origin == "default"
    type_into(form.widths["X"], "0.3")
    assert form.spec().startswith(f"{kind}=")
    assert form.spec().endswith(",0.3")
    assert [form.widths[axis].origin for axis in "ZYX"] == ["user"] * 3
    type_into(form.widths["X"], "")
    assert form.spec() is None


def test_the_widths_shown_are_those_of_the_microscope_in_the_file(form):
    form.show_layer(FILE | {"modality": "widefield"}, 3)
    form.kind.setCurrentIndex(form.kind.findData("sigma_um"))
    automatic = resolve_psf(None, FILE | {"modality": "widefield"})
    assert tuple(form.widths[axis].value for axis in "ZYX") == pytest.approx(automatic.sigma_um)
    assert form.widths["Z"].origin == "file"
    assert form.optics["na"].isHidden()
