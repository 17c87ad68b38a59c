"""Confocal and wide-field Gaussians against the paper, its limits, and another implementation."""

import itertools
import math

import pytest

from zenhance.errors import MethodError
from zenhance.physics.psf import confocal, confocal_sigma_um, widefield, widefield_sigma_um


def test_the_paraxial_wide_field_has_the_constants_of_the_paper() -> None:
    # Zhang 2007: sqrt(2) / (k NA) = 0.225 wavelength / NA, and 2 sqrt(6) n / (k NA^2) = 0.78 n
    # wavelength / NA^2.
    sigma_z, sigma_y, sigma_x = widefield_sigma_um(0.5, 1.0, 520.0, paraxial=True)
    assert sigma_x == sigma_y == pytest.approx(0.225 * 0.52 / 0.5, rel=1e-3)
    assert sigma_z == pytest.approx(0.78 * 0.52 / 0.25, rel=1e-3)


@pytest.mark.parametrize("na", [0.101, 0.14, 0.2])
def test_the_nonparaxial_widths_become_the_paraxial_ones_for_small_apertures(na: float) -> None:
    assert widefield_sigma_um(na, 1.0, 520.0) == pytest.approx(
        widefield_sigma_um(na, 1.0, 520.0, paraxial=True), rel=0.6 * na**2
    )


def test_below_a_tenth_of_the_index_the_paraxial_widths_are_taken() -> None:
    assert widefield_sigma_um(0.05, 1.0, 520.0) == widefield_sigma_um(
        0.05, 1.0, 520.0, paraxial=True
    )


def test_wide_field_and_confocal_agree_with_another_implementation() -> None:
    # Optical units of the package "psf" (C. Gohlke) for ex 488, em 520, NA 1.2, n 1.333, pinhole
    # radius 0.55 µm: its documentation gives 2.588 and 1.370 for the confocal Gaussian; r = ou /
    # (k_ex NA), z = ou n / (k_ex NA^2). Its z has no pinhole, ours at 0 AU.
    k_ex = 2.0 * math.pi / 0.488
    radius_au = 0.55 / (0.61 * 0.520 / 1.2)
    assert confocal_sigma_um(1.2, 1.333, 488.0, 520.0, radius_au)[2] * k_ex * 1.2 == pytest.approx(
        1.370, abs=1e-3
    )
    assert confocal_sigma_um(1.2, 1.333, 488.0, 520.0, 0.0)[
        0
    ] * k_ex * 1.2**2 / 1.333 == pytest.approx(2.588, abs=1e-3)


def test_a_closed_pinhole_multiplies_excitation_and_emission() -> None:
    excitation, emission = (
        widefield_sigma_um(1.2, 1.33, 488.0),
        widefield_sigma_um(1.2, 1.33, 520.0),
    )
    expected = [1.0 / math.sqrt(e**-2 + m**-2) for e, m in zip(excitation, emission, strict=True)]
    assert confocal(1.2, 1.33, 488.0, 520.0, 0.0).sigma_um == pytest.approx(expected, rel=1e-6)


def test_a_wide_open_pinhole_leaves_the_excitation_alone() -> None:
    assert confocal(1.2, 1.33, 488.0, 520.0, 100.0).sigma_um == pytest.approx(
        widefield_sigma_um(1.2, 1.33, 488.0), rel=1e-3
    )


def test_at_one_airy_unit_the_pinhole_weights_are_those_of_the_formulas() -> None:
    # One Airy unit: c2 = 2 pi 0.61 = 3.8328, the first zero of J1 (J1 = 0 within 1e-3, J0 =
    # -0.4028), so the axial weight is 48 J0^2 / (c2^2 (1 - J0^2)) = 0.6329; laterally u = (0.61 em
    # / NA)^2 / (2 sigma^2), weight u / (exp(u) - 1).
    excitation, emission = (
        widefield_sigma_um(1.2, 1.33, 488.0),
        widefield_sigma_um(1.2, 1.33, 520.0),
    )
    u = (0.61 * 0.52 / 1.2) ** 2 / (2.0 * emission[2] ** 2)
    lateral = (excitation[2] ** -2 + u / (math.exp(u) - 1.0) * emission[2] ** -2) ** -0.5
    axial = (
        excitation[0] ** -2
        + 48.0 * 0.40276**2 / (3.8328**2 * (1.0 - 0.40276**2)) * emission[0] ** -2
    ) ** -0.5
    sigma = confocal(1.2, 1.33, 488.0, 520.0, 1.0).sigma_um
    assert sigma[2] == pytest.approx(lateral, rel=1e-6)
    assert sigma[0] == pytest.approx(axial, rel=2e-3)


def test_opening_the_pinhole_never_sharpens() -> None:
    widths = [
        confocal(1.2, 1.33, 488.0, 520.0, au).sigma_um
        for au in (0.0, 0.02, 0.05, 0.2, 0.5, 0.8, 1.0, 1.5, 3.0)
    ]
    for narrow, wide in itertools.pairwise(widths):
        assert wide[0] >= narrow[0] * (1.0 - 1e-6)
        assert wide[2] >= narrow[2] * (1.0 - 1e-6)


def test_wide_field_is_wider_than_confocal_along_each_axis() -> None:
    assert all(
        w > c
        for w, c in zip(
            widefield(1.2, 1.33, 520.0).sigma_um,
            confocal(1.2, 1.33, 488.0, 520.0, 1.0).sigma_um,
            strict=True,
        )
    )


def test_the_description_names_the_optics() -> None:
    text = confocal(
        1.2, 1.33, 488.0, 520.0, 1.0, {"na": "file", "pinhole_au": "default"}
    ).describe()
    assert text.startswith(
        "confocal: na 1.2 (file), n 1.33 (user), ex_nm 488 nm (user), em_nm 520 nm (user), "
        "pinhole_au 1 AU (default); "
    )


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (
            {"na": 1.4},
            r"na 1\.4 is not below the refractive index n 1\.33; give n of the immersion",
        ),
        ({"na": 0.0}, r"na is 0, allowed are 0\.02 to 1\.75"),
        ({"n": 3.0}, r"n is 3, allowed are 1 to 1\.8"),
        (
            {"ex_nm": 0.488},
            r"ex_nm is 0\.488, allowed are 200 to 2000; correct it in the PSF, for example "
            r"ex_nm=488",
        ),
        ({"em_nm": float("inf")}, r"em_nm is inf"),
        ({"pinhole_au": -1.0}, r"pinhole_au is -1, allowed are 0 to 100"),
    ],
)
def test_impossible_optics_are_refused(numbers: dict[str, float], message: str) -> None:
    optics = {"na": 1.2, "n": 1.33, "ex_nm": 488.0, "em_nm": 520.0, "pinhole_au": 1.0} | numbers
    with pytest.raises(MethodError, match=message):
        confocal(**optics)
