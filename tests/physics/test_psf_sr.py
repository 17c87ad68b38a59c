"""The in-focus pattern with a modulation factor: widths, area sampling, presets, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import j1

from zenhance.errors import MethodError
from zenhance.physics.blur import Blur
from zenhance.physics.psf import parse_psf, sr_psf, sr_psf_from_fwhm
from zenhance.physics.psf_sr import SrShape


def _shape(text: str) -> SrShape:
    shape = parse_psf(text).shape
    assert isinstance(shape, SrShape)
    return shape


def test_widths_are_the_published_ones() -> None:
    sim = _shape("srpsf:na=1.5,em_nm=488,m_f=2")
    assert sim.fwhm_um == pytest.approx(0.0837, abs=5e-5)
    assert sim.rayleigh_um == pytest.approx(0.0992, abs=5e-5)
    assert _shape("srpsf:na=1.49,em_nm=520").fwhm_um == pytest.approx(0.1796, abs=1e-4)


def test_a_preset_is_a_modulation_factor() -> None:
    wide, confocal, sim = (
        _shape(f"srpsf_{kind}:na=1.2,em_nm=520").wave_um
        for kind in ("widefield", "confocal", "sim")
    )
    assert wide / confocal == pytest.approx(2**0.5)
    assert wide / sim == pytest.approx(2.0)
    assert _shape("srpsf_sim:na=1.2,em_nm=520,m_f=1.8").wave_um == pytest.approx(wide / 1.8)
    assert "m_f 2 (user)" in parse_psf("srpsf_sim:na=1.2").describe()


def test_a_width_alone_gives_that_width_on_a_fine_grid() -> None:
    psf = sr_psf_from_fwhm(0.3)
    profile = psf.kernel((1.0, 0.005, 0.005))[0]
    line = profile[profile.shape[0] // 2]
    above = np.flatnonzero(line >= line.max() / 2)
    assert 0.005 * (above[-1] - above[0]) == pytest.approx(0.3, abs=0.011)


def test_samples_are_averages_over_pixels() -> None:
    """Nine fine pixels hold the light of one coarse pixel."""
    shape = SrShape(0.4)
    coarse, fine = shape.kernel((1.0, 0.06, 0.06), 2)[0], shape.kernel((1.0, 0.02, 0.02), 2)[0]
    middle, centre = coarse.shape[0] // 2, fine.shape[0] // 2
    blocks = [
        fine[centre - 1 + 3 * a : centre + 2 + 3 * a, centre - 1 : centre + 2].sum()
        for a in range(-3, 4)
    ]
    assert coarse[middle - 3 : middle + 4, middle] == pytest.approx(np.asarray(blocks), rel=0.03)
    u = 2 * np.pi * 0.12 / 0.4
    point = (2 * j1(u) / u) ** 2
    assert coarse[middle + 2, middle] / coarse[middle, middle] != pytest.approx(point, rel=1e-3)


def test_a_kernel_is_symmetric_and_of_one_plane_even_in_a_stack() -> None:
    kernel = sr_psf(1.49, 520.0, 2.0).kernel((0.3, 0.03, 0.05), 3)
    assert kernel.shape[0] == 1
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(kernel, kernel[:, ::-1, ::-1])
    assert Blur.from_kernel(kernel).is_symmetric
    blurred = Blur.from_psf(sr_psf(1.49, 520.0), (0.3, 0.05, 0.05), (2, 60, 60))(
        torch.ones(2, 60, 60)
    )
    assert float((blurred - 1).abs().max()) < 1e-5


@pytest.mark.parametrize(
    "text",
    ["srpsf:na=1.2,m_f=9", "srpsf:na=3", "srpsf:fwhm_um=-1", "srpsf_steed:na=1.2", "srpsf:n=1.3"],
)
def test_what_no_microscope_has_is_refused(text: str) -> None:
    with pytest.raises(MethodError):
        parse_psf(text)
