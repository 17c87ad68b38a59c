"""Which PSF a run gets: the user's, the file's, the default; each number keeps its origin."""

import numpy as np
import pytest

from zenhance.errors import MethodError
from zenhance.physics.psf import Psf, confocal, parse_psf, resolve_psf, widefield


def _origins(psf: Psf) -> dict[str, tuple[object, str]]:
    return {v.name: (v.value, v.origin) for v in psf.values}


def test_widths_are_read_as_written() -> None:
    assert parse_psf("sigma_um=0.5,0.2,0.2", 3).sigma_um == (0.5, 0.2, 0.2)
    assert parse_psf(" sigma_um=0.2,0.3 ", 2).sigma_um == (0.0, 0.2, 0.3)
    assert parse_psf("fwhm_um=0.6,0.4,0.4", 3).sigma_um[0] == pytest.approx(0.6 / 2.35482)


def test_optics_are_read_as_written() -> None:
    psf = parse_psf("confocal:na=1.1,n=1.34,ex_nm=561,em_nm=600,pinhole_au=0.8", 3)
    assert psf.sigma_um == confocal(1.1, 1.34, 561.0, 600.0, 0.8).sigma_um
    assert {v.origin for v in psf.values} == {"user"}
    assert (
        parse_psf("widefield:na=0.8,n=1.0,em_nm=600", 3).sigma_um
        == widefield(0.8, 1.0, 600.0).sigma_um
    )


def test_numbers_left_out_come_from_the_file_then_from_the_default() -> None:
    psf = resolve_psf(
        "confocal:na=1.1", {"emission_nm": [520, 600], "pinhole_au": 2.0}, 3, channel=1
    )
    said = _origins(psf)
    assert said["na"] == (1.1, "user")
    assert said["em_nm"] == (600.0, "file")
    assert said["pinhole_au"] == (2.0, "file")
    assert said["n"] == (1.33, "default")
    # An excitation that nobody named keeps the default's ratio of wavelengths.
    assert said["ex_nm"] == (pytest.approx(600.0 * 488.0 / 520.0), "default")


def test_without_a_word_the_default_is_a_confocal_with_a_water_dipping_objective() -> None:
    psf = resolve_psf(None, {}, 3)
    assert psf.kind == "confocal"
    assert _origins(psf) == {
        "na": (0.8, "default"),
        "n": (1.33, "default"),
        "ex_nm": (488.0, "default"),
        "em_nm": (520.0, "default"),
        "pinhole_au": (1.0, "default"),
    }
    assert resolve_psf("", {}, 3) == psf


def test_the_file_decides_where_it_speaks() -> None:
    metadata = {
        "na": 0.8,
        "refractive_index": 1.0,
        "excitation_nm": np.array([405.0, 561.0]),
        "emission_nm": (450.0, 600.0),
        "pinhole_au": None,
    }
    said = _origins(resolve_psf(None, metadata, 3, channel=1))
    assert said["na"] == (0.8, "file")
    assert said["ex_nm"] == (561.0, "file")
    assert said["pinhole_au"] == (1.0, "default")


@pytest.mark.parametrize("modality", ["widefield", "Wide-field", "lightsheet"])
def test_a_file_of_another_microscope_takes_the_wide_field_model(modality: str) -> None:
    assert resolve_psf(None, {"modality": modality}, 3).kind == "widefield"


def test_an_oil_objective_brings_its_oil() -> None:
    assert _origins(resolve_psf(None, {"na": 1.4}, 3))["n"] == (1.515, "default")


def test_an_index_without_an_aperture_keeps_the_aperture_possible() -> None:
    said = _origins(resolve_psf(None, {"refractive_index": 1.0}, 3))
    assert said["na"][1] == "default"
    assert said["na"][0] < said["n"][0]


@pytest.mark.parametrize("nonsense", [0, -1.0, "many", None, float("nan"), [], 1e9])
def test_numbers_no_microscope_has_are_passed_over_in_files(nonsense: object) -> None:
    assert resolve_psf(
        None, {"na": nonsense, "emission_nm": nonsense, "pinhole_au": nonsense}, 3
    ) == resolve_psf(None, {}, 3)


def test_a_file_whose_index_contradicts_its_aperture_loses_the_index() -> None:
    said = _origins(resolve_psf(None, {"na": 1.4, "refractive_index": 1.0}, 3))
    assert said["na"] == (1.4, "file")
    assert said["n"] == (1.515, "default")


def test_a_measured_psf_is_read_by_the_reader_given() -> None:
    z, y, x = np.meshgrid(*(np.arange(-8.0, 9.0),) * 3, indexing="ij")
    bead = 1000.0 * np.exp(-(z**2 / 8.0 + (y**2 + x**2) / 4.5)) + np.random.default_rng(0).normal(
        100.0, 1.0, z.shape
    )
    asked = []

    def read(path: str) -> tuple[np.ndarray, tuple[float, float, float]]:
        asked.append(path)
        return bead, (0.2, 0.1, 0.1)

    psf = parse_psf("measured:my beads.tif", 3, read)
    assert asked == ["my beads.tif"]
    assert psf.sigma_um == pytest.approx((0.4, 0.15, 0.15), rel=0.05)


@pytest.mark.parametrize(
    ("spec", "ndim", "message"),
    [
        ("laser", 3, r'"laser" is not a PSF; write sigma_um=Z,Y,X'),
        ("sigma_um=a,b,c", 3, r'"a,b,c" in the PSF is not a list of numbers; write sigma_um=Z,Y,X'),
        ("sigma_um=0.2,0.2", 3, r"sigma_um has 2 numbers, a stack needs three"),
        ("fwhm_um=0.2", 2, r"fwhm_um has 1 numbers, a 2-D image needs two"),
        ("confocal:nan=1.2", 3, r'the confocal PSF has no number "nan"; did you mean "na"\?'),
        (
            "widefield:pinhole_au=1",
            3,
            r'the widefield PSF has no number "pinhole_au"; choose one of na, n, em_nm',
        ),
        (
            "confocal:na=big",
            3,
            r'na of the confocal PSF is "big", not a number; write for example na=0\.8',
        ),
        ("confocal:na", 3, r'na of the confocal PSF is "", not a number'),
        ("confocal:na=1,na=1.1", 3, r'the confocal PSF gives "na" twice'),
        ("measured:", 3, r"measured: names no file"),
        ("measured:b.tif", 3, r'no reader for the measured PSF "b\.tif" was given'),
    ],
)
def test_what_is_not_a_psf_is_refused_with_what_is(spec: str, ndim: int, message: str) -> None:
    with pytest.raises(MethodError, match=message) as caught:
        parse_psf(spec, ndim)
    assert len(str(caught.value)) <= 240
