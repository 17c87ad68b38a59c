"""What a bad day adds to a measurement; each defect is measured in the picture."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from zenhance.physics.psf_models import confocal_sigma_um
from zenhance.simulate.defects import bleaching, heat, moved_planes, pinhole_share
from zenhance.simulate.microscope import Microscope
from zenhance.simulate.presets import PRESETS, as_microscope, microscope
from zenhance.simulate.samples import simulate
from zenhance.simulate.specimen import Dye

VOXEL = (0.5, 0.2, 0.2)
EVEN = {"level": 1.0}


def test_bleaching_dims_plane_after_plane() -> None:
    scope = Microscope(photons=400.0, background_photons=0.0, offset=0.0, bleached_per_plane=0.1)
    seen = simulate(
        "empty", seed=1, shape_px=(6, 40, 40), voxel_size_um=VOXEL, settings=EVEN, microscope=scope
    )
    for stack in (seen.truth, seen.blurred, seen.measured):
        means = stack.read().astype(np.float64).mean(axis=(1, 2))
        assert means / means[0] == pytest.approx(0.9 ** np.arange(6), rel=0.01)
    assert bleaching(3, 0.5) == pytest.approx([1, 0.5, 0.25])


def test_haze_spreads_its_share_of_the_light_widely() -> None:
    density = np.zeros((1, 31, 101, 101), np.float32)
    density[0, 15, 50, 50] = 1000.0
    dye = Dye(
        density,
        np.ones((31, 101, 101), np.uint16),
        np.full((31, 101, 101), 30.0, np.float32),
        ("m",),
    )
    narrow = {
        "sigma_shallow_um": (0.5, 0.2, 0.2),
        "sigma_deep_um": (0.5, 0.2, 0.2),
        "haze_sigma_um": (1.5, 1.5, 1.5),
    }
    light = Microscope(haze_deep=0.4, deep_at_um=20.0, **narrow).blur_photons(
        dye.density, dye.depth_um, VOXEL
    )[0]
    clear = Microscope(haze_deep=0.0, deep_at_um=20.0, **narrow).blur_photons(
        dye.density, dye.depth_um, VOXEL
    )[0]
    assert light.sum() == pytest.approx(clear.sum(), rel=1e-4)
    radius = np.hypot(*np.meshgrid((np.arange(101) - 50) * 0.2, (np.arange(101) - 50) * 0.2))
    far = radius > 1.2  # six σ of the clear light, 0.8 σ of the haze
    assert clear[:, far].sum() < 1e-4 * clear.sum()
    assert light[:, far].sum() / light.sum() == pytest.approx(
        0.4 * np.exp(-((1.2 / 1.5) ** 2) / 2), rel=0.03
    )


def test_the_stage_moves_each_plane_by_what_the_facts_say() -> None:
    settings = {"count": 12, "distance_um": 3.0, "diameter_um": 0.4, "in_plane": True}
    scope = Microscope(
        sigma_shallow_um=(9.0, 0.4, 0.4),
        sigma_deep_um=(9.0, 0.4, 0.4),
        jitter_um=0.3,
        drift_um_per_plane=(0.1, -0.05),
    )
    still = scope.model_copy(update={"jitter_um": 0.0, "drift_um_per_plane": (0.0, 0.0)})
    moved, held = (
        simulate(
            "beads",
            seed=4,
            shape_px=(5, 90, 90),
            voxel_size_um=VOXEL,
            settings=settings,
            microscope=s,
        )
        for s in (scope, still)
    )
    assert np.array_equal(moved.truth.read(), held.truth.read())
    assert "displacement_um" not in held.facts
    dark = scope.offset + scope.gain * scope.background_photons
    found = []
    for plane in range(5):
        now, before = (
            np.clip(s.blurred.read()[plane].astype(np.float64) - dark, 0, None)
            for s in (moved, held)
        )
        found.append(
            (np.asarray(ndimage.center_of_mass(now)) - np.asarray(ndimage.center_of_mass(before)))
            * 0.2
        )
    assert np.asarray(found) == pytest.approx(np.asarray(moved.facts["displacement_um"]), abs=0.02)


def test_drift_alone_is_steady() -> None:
    scope = Microscope(drift_um_per_plane=(0.2, 0.1))
    seen = simulate("empty", seed=0, shape_px=(4, 8, 8), voxel_size_um=VOXEL, microscope=scope)
    assert np.asarray(seen.facts["displacement_um"]) == pytest.approx(
        np.outer(np.arange(4), (0.2, 0.1))
    )


def test_moving_by_whole_pixels_is_a_roll() -> None:
    light = ndimage.gaussian_filter(
        np.random.default_rng(0).uniform(0, 9, size=(1, 1, 40, 40)), (0, 0, 1, 1)
    ).astype(np.float32)
    moved = moved_planes(light, np.array([[3.0, -2.0]], np.float32))
    assert moved[0, 0, 10:30, 10:30] == pytest.approx(light[0, 0, 7:27, 12:32], rel=1e-4)


def test_hot_pixels_are_as_many_as_asked_for_and_stay_where_they_are() -> None:
    scope = Microscope(
        hot_pixels=0.01, hot_grey=400.0, read_noise=0.0, background_photons=0.0, offset=10.0
    )
    seen = simulate("empty", seed=2, shape_px=(5, 100, 120), voxel_size_um=VOXEL, microscope=scope)
    glow = seen.measured.read().astype(np.float64) - 10
    hot = glow.min(axis=0) > 0
    # Of 120 pixels, all but those fainter than half a grey value show.
    assert hot.sum() == pytest.approx(0.01 * 100 * 120, abs=2)
    assert glow.max(axis=0)[hot].mean() == pytest.approx(400, rel=0.35)
    assert np.ptp(seen.blurred.read()) < 1e-3


def test_no_hot_pixels_leave_the_picture_alone() -> None:
    grey = np.ones((1, 1, 5, 5), np.float32)
    assert heat(grey, 0.0, 100.0, np.random.default_rng(0)) is grey


@pytest.mark.parametrize(
    ("bits", "dtype", "white"),
    [(8, "uint16", 255), (12, "uint16", 4095), (None, "uint16", 65535), (None, "uint8", 255)],
)
def test_the_converter_clips_at_its_bits(bits: int | None, dtype: str, white: int) -> None:
    grey = Microscope(bits=bits, dtype=dtype, gain=1000.0).digitise(
        np.full((1, 1, 2, 2), 500.0, np.float32), np.random.default_rng(0)
    )
    assert grey.max() == grey.min() == white
    assert grey.dtype == dtype


def test_more_bits_than_the_pixel_type_has_are_refused() -> None:
    with pytest.raises(ValidationError, match="12 bits do not fit into uint8"):
        Microscope(bits=12, dtype="uint8")


def test_a_pinhole_passes_the_airy_patterns_encircled_energy() -> None:
    # Born & Wolf, § 8.5.2: 83.8 % within the first dark ring, 91.0 % within the second (7.016 /
    # 3.832 of its radius).
    assert pinhole_share(1.0) == pytest.approx(0.838, abs=0.001)
    assert pinhole_share(7.0156 / 3.8317) == pytest.approx(0.910, abs=0.001)
    assert pinhole_share(1e-6) == pytest.approx(0.0, abs=1e-9)


def test_a_pinhole_that_acts_sets_blur_light_and_stray_light() -> None:
    open_, closed = (
        Microscope(
            pinhole_acts=True, pinhole_au=au, photons=100.0, background_photons=1.0
        ).settled()
        for au in (3.0, 1.0)
    )
    assert closed.sigma_shallow_um == pytest.approx(confocal_sigma_um(0.9, 1.33, 561.0, 615.0, 1.0))
    assert closed.photons == pytest.approx(83.8, abs=0.1)
    assert closed.haze_passed == pytest.approx(1.0)
    assert closed.background_photons == pytest.approx(1.0)
    assert open_.sigma_shallow_um[0] > closed.sigma_shallow_um[0]
    assert open_.photons > closed.photons
    assert open_.background_photons == pytest.approx(9.0)
    # Scattered light lies wide, so an open pinhole passes more of it; not quite in proportion to
    # its area, since its spread is finite.
    assert 5 < open_.haze_passed * open_.photons / closed.photons < 9
    assert open_.sigma_deep_um[1] / open_.sigma_shallow_um[1] == pytest.approx(0.36 / 0.16)


def test_a_pinhole_that_acts_images_as_its_settled_microscope_does() -> None:
    scope = Microscope(pinhole_acts=True, pinhole_au=2.0)
    one, other = (
        simulate(
            "beads", seed=1, shape_px=(6, 32, 32), voxel_size_um=VOXEL, microscope=s
        ).measured.read()
        for s in (scope, scope.settled())
    )
    assert np.array_equal(one, other)
    assert Microscope().settled() == Microscope()


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_can_be_used(name: str) -> None:
    measured = simulate(
        "filaments", seed=1, shape_px=(2, 24, 24), voxel_size_um=VOXEL, microscope=microscope(name)
    ).measured.read()
    assert measured.shape == (2, 24, 24)
    assert measured.max() <= microscope(name).brightest_grey


def test_presets_fall_from_good_to_what_one_throws_away() -> None:
    snr = {}
    for name in ("good", "typical", "dim", "throw_away"):
        seen = simulate(
            "meristem",
            seed=1,
            shape_px=(14, 48, 48),
            voxel_size_um=(1.0, 0.3, 0.3),
            microscope=microscope(name),
        )
        clean, measured = (s.read().astype(np.float64) for s in (seen.blurred, seen.measured))
        snr[name] = clean.std() / (measured - clean).std()
    assert snr["good"] > snr["typical"] > snr["dim"] > snr["throw_away"]


def test_the_noise_variance_is_gain_times_mean() -> None:
    scope = Microscope(gain=1.4, offset=12.0, read_noise=0.8, photons=90.0, background_photons=1.0)
    means, variances = [], []
    for level in (0.2, 0.5, 1.0):
        seen = simulate(
            "empty",
            seed=1,
            shape_px=(3, 100, 100),
            voxel_size_um=VOXEL,
            settings={"level": level},
            microscope=scope,
        )
        grey = seen.measured.read().astype(np.float64)
        means.append(grey.mean())
        variances.append(grey.var())
    slope, start = np.polyfit(means, variances, 1)
    assert slope == pytest.approx(scope.gain, rel=0.05)
    assert -start / slope == pytest.approx(
        scope.offset - (scope.read_noise**2 + 1 / 12) / scope.gain, abs=4
    )


def test_microscopes_come_by_name_by_settings_or_as_they_are() -> None:
    scope = Microscope(photons=3.0)
    assert as_microscope(scope) is scope
    assert as_microscope("dim") == microscope("dim")
    assert as_microscope({"preset": "dim", "photons": 4.0}) == microscope("dim", photons=4.0)
    assert as_microscope(None) == Microscope()
