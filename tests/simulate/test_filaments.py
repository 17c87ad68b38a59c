"""Filaments: worm-like chains of a known width, and the two published microscopes."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.errors import StackError
from zenhance.simulate.filaments import Filaments
from zenhance.simulate.presets import PRESETS, microscope
from zenhance.simulate.samples import simulate
from zenhance.simulate.specimen import Grid

PLANE = Grid((1, 200, 200), (0.1, 0.025, 0.025))
EVEN = {"brightness_spread": 0.0, "unevenness": 0.0}


def _one_filament(width_um: float, seed: int = 0) -> np.ndarray:
    """A stiff filament that crosses the field alone."""
    settings = {
        "width_um": width_um,
        "length_um": 40.0,
        "persistence_um": 1e5,
        "density_per_um": 0.02,
        **EVEN,
    }
    for attempt in range(seed, seed + 200):
        dye = Filaments(**settings).render(PLANE, attempt)
        if dye.labels.max() == 1 and (dye.density[0, 0].sum(axis=1) > 0).all():
            return dye.density[0, 0]
    pytest.fail("no seed gave a single filament that crosses the field")


@pytest.mark.parametrize("width_um", [0.025, 0.1])
def test_a_filament_covers_its_width_of_every_pixel_row(width_um: float) -> None:
    plane = _one_filament(width_um)
    rows = plane.sum(axis=1) * 0.025
    centre = (plane * np.arange(200)).sum(axis=1) / plane.sum(axis=1)
    slope = np.polyfit(np.arange(200), centre, 1)[0]
    # A row cuts a band of width w under its slope over w·sqrt(1 + slope²).
    inner = rows[20:-20]
    assert inner.mean() == pytest.approx(width_um * np.sqrt(1 + slope**2), rel=0.01)


def test_the_profile_across_is_that_of_a_round_rod() -> None:
    plane = _one_filament(0.3)
    rows = np.arange(200.0)
    centre = (plane * rows).sum(axis=1) / plane.sum(axis=1)
    slope = np.polyfit(rows[20:-20], centre[20:-20], 1)[0]
    variance = (plane * (rows - centre[:, None]) ** 2).sum(axis=1) / plane.sum(axis=1)
    # Seen from the side, a filled rod of diameter d has variance d²/16; the row cuts it aslant; a
    # pixel adds 1/12.
    across_px2 = (variance[20:-20].mean() - 1 / 12) / (1 + slope**2)
    assert np.sqrt(across_px2) * 4 * 0.025 == pytest.approx(0.3, rel=0.03)


def test_directions_are_forgotten_over_the_persistence_length() -> None:
    step_um, model = 0.02, Filaments(persistence_um=2.0, length_um=2.0)
    path, _, _ = model._walk(PLANE, 4000, 100, step_um, True, np.random.default_rng(0))
    along = np.diff(path, axis=1) / step_um
    cosine = (along[:, 0] * along[:, 50]).sum(axis=1).mean()
    # Bending in one plane: <cos> = exp(-s / 2P).
    assert cosine == pytest.approx(np.exp(-50 * step_um / (2 * 2.0)), rel=0.02)


def test_the_field_holds_the_length_that_was_asked_for() -> None:
    model = Filaments(density_per_um=3.0, length_um=2.0, width_um=0.025, **EVEN)
    dye_um2 = [model.render(PLANE, seed).density.sum() * 0.025**2 for seed in range(20)]
    assert np.mean(dye_um2) / 0.025 / (5.0 * 5.0) == pytest.approx(3.0, rel=0.1)


def test_a_stack_holds_the_same_dye_per_layer_as_a_plane() -> None:
    stack = Grid((12, 120, 120), (0.1, 0.025, 0.025))
    model = Filaments(length_um=3.0, layer_um=0.6, **EVEN)
    dye_um2 = [model.render(stack, seed).density.sum() * 0.025**2 for seed in range(12)]
    # 1.2 µm are two layers of 0.6 µm; two µm of filament a µm².
    assert np.mean(dye_um2) / 0.025 / (3.0 * 3.0) == pytest.approx(2 * 2.0, rel=0.15)


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not() -> None:
    first, again, other = (Filaments().render(PLANE, seed) for seed in (3, 3, 4))
    assert first.density.tobytes() == again.density.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert not np.array_equal(first.density, other.density)


def test_a_flat_field_is_blurred_within_its_plane_only() -> None:
    seen = simulate(
        "filaments",
        seed=1,
        shape_px=(1, 96, 96),
        voxel_size_um=(0.1, 0.025, 0.025),
        microscope=microscope("filaments_set1"),
    )
    for stack in (seen.truth, seen.blurred, seen.measured):
        assert stack.shape == (1, 96, 96)
    scope = seen.microscope
    truth = (seen.truth.read() - scope.offset) / scope.gain
    light = (seen.blurred.read() - scope.offset) / scope.gain - scope.background_photons
    # Nothing is lost to other planes: as much light as the specimen sends, but for what crosses the
    # field's edges.
    assert light.sum() == pytest.approx(truth.sum(), rel=0.25)
    assert seen.measured.read().dtype == np.uint16


@pytest.mark.parametrize(("name", "sigma_px"), [("filaments_set1", 3.8), ("filaments_set2", 3.0)])
def test_the_published_sets_have_their_blur_in_pixels_of_25_nm(name: str, sigma_px: float) -> None:
    scope = microscope(name)
    assert np.asarray(scope.sigma_shallow_um[1:]) / 0.025 == pytest.approx([sigma_px, sigma_px])
    assert scope.sigma_deep_um == scope.sigma_shallow_um


def test_the_second_set_is_the_noisier_one() -> None:
    ratio = []
    for name in ("filaments_set1", "filaments_set2"):
        seen = simulate(
            "filaments",
            seed=2,
            shape_px=(1, 96, 96),
            voxel_size_um=(0.1, 0.025, 0.025),
            microscope=microscope(name),
        )
        measured, clean = (s.read().astype(np.float64) for s in (seen.measured, seen.blurred))
        ratio.append(clean.std() / (measured - clean).std())
    assert ratio[0] > 2 * ratio[1]


def test_a_stack_of_filaments_is_blurred_along_z_too() -> None:
    seen = simulate(
        "filaments",
        seed=1,
        shape_px=(6, 64, 64),
        voxel_size_um=(0.15, 0.025, 0.025),
        microscope=microscope("filaments_set2"),
    )
    assert seen.measured.shape == (6, 64, 64)
    truth, blurred = (s.read().astype(np.float64) for s in (seen.truth, seen.blurred))
    assert np.abs(np.diff(blurred, axis=0)).mean() < 0.5 * np.abs(np.diff(truth, axis=0)).mean()


def test_an_unknown_microscope_is_refused_with_the_nearest_name() -> None:
    assert "filaments_set1" in PRESETS
    with pytest.raises(
        StackError, match='there is no microscope "filaments_set3"; did you mean "filaments_set'
    ):
        microscope("filaments_set3")
    with pytest.raises(StackError, match='there is no microscope "zzz"; choose one of'):
        microscope("zzz")


def test_a_preset_gives_way_to_settings_of_ones_own() -> None:
    assert microscope("filaments_set1", photons=7.0).photons == 7.0
    assert microscope("filaments_set1", photons=7.0).read_noise == 2.0
