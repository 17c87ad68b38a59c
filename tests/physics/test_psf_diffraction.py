"""Scalar diffraction against its closed forms: Airy disc, axial sinc, symmetry, no aberration."""

import numpy as np
import pytest
from scipy.special import j0, j1

from zenhance.errors import MethodError
from zenhance.physics.psf import airy, gibson_lanni, parse_psf, widefield_sigma_um


def test_in_focus_a_slow_objective_shows_the_airy_disc() -> None:
    kernel = airy(0.1, 1.0, 520.0).kernel((20.0, 0.3, 0.3), ndim=2)[0]
    middle = kernel.shape[0] // 2
    v = 2.0 * np.pi / 0.52 * 0.1 * 0.3 * np.abs(np.arange(kernel.shape[1]) - middle)
    expected = np.ones_like(v)
    expected[v > 0] = (2.0 * j1(v[v > 0]) / v[v > 0]) ** 2
    assert kernel[middle] / kernel[middle, middle] == pytest.approx(expected, abs=1e-3)


def test_along_the_axis_a_slow_objective_shows_a_squared_sinc() -> None:
    kernel = airy(0.1, 1.0, 520.0).kernel((5.0, 3.0, 3.0))
    z_um = 5.0 * (np.arange(kernel.shape[0]) - kernel.shape[0] // 2)
    profile = kernel[:, kernel.shape[1] // 2, kernel.shape[2] // 2]
    # Born & Wolf 8.8: sin^2(u/4) / (u/4)^2 with u = k z NA^2 / n; numpy's sinc has pi in it.
    assert profile / profile.max() == pytest.approx(
        np.sinc(z_um * 0.01 / (2.0 * 0.52)) ** 2, abs=3e-3
    )


def test_a_fast_objective_follows_the_integral_done_anew() -> None:
    na, n, wavelength_um = 1.2, 1.33, 0.52
    kernel = airy(na, n, 520.0).kernel((0.25, 0.1, 0.1)).astype(float)
    angle = np.linspace(0.0, np.arcsin(na / n), 4001)
    k = 2.0 * np.pi * n / wavelength_um

    def intensity(r_um: float, z_um: float) -> float:
        integrand = (
            np.sqrt(np.cos(angle))
            * np.exp(1j * k * z_um * np.cos(angle))
            * j0(k * r_um * np.sin(angle))
            * np.sin(angle)
        )
        return float(np.abs(np.trapezoid(integrand, angle)) ** 2)

    middle = tuple(s // 2 for s in kernel.shape)
    for dz, dy, dx in ((0, 0, 3), (2, 0, 0), (1, 2, 2), (4, 0, 5), (3, 6, 1)):
        seen = kernel[middle[0] + dz, middle[1] + dy, middle[2] + dx] / kernel[middle]
        assert seen == pytest.approx(
            intensity(0.1 * np.hypot(dy, dx), 0.25 * dz) / intensity(0.0, 0.0), abs=2e-4
        )


def test_it_is_symmetric_with_unit_sum_and_its_peak_in_the_middle() -> None:
    kernel = airy(1.2, 1.33, 520.0).kernel((0.25, 0.1, 0.1))
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == tuple(n // 2 for n in kernel.shape)
    assert kernel == pytest.approx(kernel[::-1, ::-1, ::-1], abs=1e-7)
    assert kernel == pytest.approx(kernel.transpose(0, 2, 1), abs=1e-7)


def test_its_central_peak_is_as_wide_as_the_gaussian_that_the_paper_fits() -> None:
    # Zhang 2007: fitted over the peak instead of matched at its tip, sigma is 0.21 wavelength / NA.
    assert airy(0.2, 1.0, 520.0).sigma_um[2] == pytest.approx(0.21 * 0.52 / 0.2, rel=0.03)
    assert airy(1.2, 1.33, 520.0).sigma_um == pytest.approx(
        widefield_sigma_um(1.2, 1.33, 520.0), rel=0.1
    )


def test_pixels_that_are_not_square_are_read_off_at_their_centres() -> None:
    psf = airy(1.2, 1.33, 520.0)
    square, oblong = psf.kernel((0.25, 0.1, 0.1), 2)[0], psf.kernel((0.25, 0.1, 0.2), 2)[0]
    middle_s, middle_o = square.shape[0] // 2, tuple(n // 2 for n in oblong.shape)
    a = square[middle_s : middle_s + 6, middle_s : middle_s + 10 : 2] / square[middle_s, middle_s]
    b = oblong[middle_o[0] : middle_o[0] + 6, middle_o[1] : middle_o[1] + 5] / oblong[middle_o]
    assert b == pytest.approx(a, abs=1e-3)


def test_without_mismatch_depth_does_not_matter() -> None:
    expected = airy(1.2, 1.33, 520.0).kernel((0.25, 0.1, 0.1))
    kernel = gibson_lanni(1.2, 1.33, 520.0, n_sample=1.33, depth_um=20.0).kernel((0.25, 0.1, 0.1))
    assert float(abs(kernel - expected).max()) < 2e-5 * float(expected.max())


def test_mismatch_broadens_with_depth_and_breaks_the_symmetry_along_z() -> None:
    shallow, deep = (gibson_lanni(1.2, 1.33, 520.0, 1.38, depth) for depth in (2.0, 30.0))
    assert deep.sigma_um[0] > 1.15 * shallow.sigma_um[0]
    kernel = deep.kernel((0.25, 0.1, 0.1))
    assert (
        abs(
            int(
                kernel.sum(axis=(1, 2)).size // 2
                - kernel[:, kernel.shape[1] // 2, kernel.shape[2] // 2].argmax()
            )
        )
        <= 1
    )
    assert abs(kernel - kernel[::-1]).max() > 0.05 * kernel.max()


def test_it_can_be_asked_for_by_name() -> None:
    psf = parse_psf("gibson_lanni:na=1.2,n=1.33,em_nm=520,n_sample=1.36,depth_um=5", 3)
    assert psf.kind == "gibson_lanni"
    assert psf.axis_kernels((0.25, 0.1, 0.1)) is None
    assert psf.radius_px((0.25, 0.1, 0.1)) == tuple(
        n // 2 for n in psf.kernel((0.25, 0.1, 0.1)).shape
    )


def test_an_impossible_specimen_is_refused() -> None:
    with pytest.raises(MethodError, match=r"n_sample is 0\.9, allowed are 1 to 1\.8"):
        gibson_lanni(1.2, 1.33, 520.0, n_sample=0.9)
