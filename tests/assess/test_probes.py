"""Probes tell a method that shows what is there from one that ignores, erases or invents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from zenhance.assess.probes import (
    GAP,
    SPOT,
    Field,
    Finding,
    Plant,
    blank,
    continuity,
    false_structure,
    findings,
    plan_rounds,
    planted,
    shuffled_order,
    summary,
)
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import gaussian

SHAPE, VOXEL_UM, SIGMA_UM = (24, 72, 72), (0.5, 0.2, 0.2), (0.6, 0.24, 0.24)
CAMERA = PoissonGauss(3.0, 100.0, 2.0)
BLUR = Blur.from_psf(gaussian(SIGMA_UM), VOXEL_UM, SHAPE)


def blurred(x):
    return BLUR(torch.from_numpy(np.ascontiguousarray(x, np.float32))).numpy()


def walls(photons):
    """Straight walls that are lit unevenly along their length, 4.8 µm apart."""
    z, y, x = np.indices(SHAPE)
    light = ((y % 24 == 12) | (x % 24 == 12)).astype(np.float32)
    light *= 1.0 + 0.2 * np.sin(y / 5.0) * np.cos(x / 7.0 + z / 6.0)
    return light * np.float32(photons / np.quantile(blurred(light), 0.99))


def field(photons, seed=0):
    specimen = walls(photons)
    grey = CAMERA.sample(np.maximum(blurred(specimen) + 1.0, 0.0), seed)
    depth = np.broadcast_to(np.arange(SHAPE[0])[:, None, None] * VOXEL_UM[0], SHAPE)
    return Field(
        np.rint(grey).astype(np.uint16),
        CAMERA,
        specimen,
        103.0,
        np.asarray(depth, np.float32),
        blurred,
        SIGMA_UM,
        VOXEL_UM,
    )


def identity(y):
    return y.astype(np.float32)


def smooth(y):
    return ndimage.gaussian_filter(y.astype(np.float32), (0.7, 0.7, 0.7))


def mesh(y):
    """Ignores the data: draws lines as bright as the walls."""
    _, row, column = np.indices(y.shape)
    lines = (row % 9 < 2) | (column % 9 < 2)
    return (103.0 + 90.0 * lines).astype(np.float32)


def filled(y):
    """Closes gaps: the brightest within 1.4 µm along either axis."""
    seen = smooth(y)
    return ndimage.grey_closing(seen, (1, 9, 9))


def drawn_along_z(y):
    return ndimage.uniform_filter1d(y.astype(np.float32), 11, axis=0)


def sensitivity(method, photons, seed=0):
    known = field(photons, seed)
    rounds, empty = plan_rounds(known, 1, seed)
    given = [planted(known, there, seed + n) for n, there in enumerate(rounds)]
    after = [method(y) for y in given]
    found = findings(known, rounds, empty, method(known.measured), after, given)
    return {(f.kind, f.strength, f.from_um): f for f in found}


def total(found, kind, strength=None):
    rows = [f for f in found.values() if f.kind == kind and strength in (None, f.strength)]
    return sum(f.found for f in rows) / sum(f.planted for f in rows)


def test_spots_add_the_photons_they_state_and_the_noise_stays_poisson():
    known = field(40.0)
    at = (12, 24, 24)
    spot = Plant(SPOT, 0.4, 0, at, 0.0)
    more = np.mean([planted(known, [spot], n)[at] for n in range(40)]) - known.measured[at]
    peak = 0.4 * np.quantile(known.light()[known.inner], 0.99) * CAMERA.gain
    assert more == pytest.approx(peak, rel=0.25)
    others = planted(known, [spot], 0)
    far = np.ones(SHAPE, bool)
    far[6:19, 14:35, 14:35] = False
    np.testing.assert_array_equal(others[far], known.measured[far])


def test_a_gap_takes_the_light_of_its_piece_of_wall_away():
    known = field(200.0)
    gap = Plant(GAP, 1.5, 0, (12, 12, 24), np.pi / 2)
    given = np.mean([planted(known, [gap], n).astype(float) for n in range(12)], axis=0)
    without = known.specimen.copy()
    box = np.abs(np.arange(72) - 24) * 0.2 <= 0.75
    without[11:14, 9:16, box] = 0.0
    wanted = CAMERA.gain * (blurred(known.specimen) - blurred(without))
    lost = known.measured - given
    near = (slice(9, 16), slice(8, 17), slice(16, 33))
    assert lost[near].sum() == pytest.approx(wanted[near].sum(), rel=0.1)
    assert lost[12, 12, 24] == pytest.approx(wanted[12, 12, 24], rel=0.3)


def test_the_measurement_itself_shows_strong_structures_and_hides_weak_ones():
    bright, dim = sensitivity(identity, 150.0), sensitivity(identity, 6.0)
    assert total(bright, SPOT, 0.4) > 0.9
    widths = sorted({f.strength for f in dim.values() if f.kind == GAP})
    assert total(bright, GAP, widths[-1]) > 0.9
    assert total(bright, GAP) > total(dim, GAP)
    assert total(dim, GAP, widths[0]) < total(dim, GAP, widths[-1])
    assert total(dim, GAP, widths[0]) < 0.7
    assert all(f.shown == pytest.approx(1.0) for f in bright.values())


def test_a_method_that_ignores_the_data_finds_nothing_and_one_that_fills_gaps_finds_none():
    assert total(sensitivity(mesh, 150.0), SPOT) == 0.0
    assert total(sensitivity(filled, 150.0), GAP) < 0.3
    assert total(sensitivity(smooth, 150.0), GAP) > 0.6


@pytest.mark.parametrize("clouds", [False, True])
@pytest.mark.parametrize("photons", [10.0, 150.0])
def test_only_what_is_drawn_counts_as_false_structure(clouds, photons):
    known = field(photons)
    without = blank(known, clouds=clouds, seed=0)
    assert false_structure(known, without, identity(without.measured)) == 0.0
    assert false_structure(known, without, smooth(without.measured)) == 0.0
    assert false_structure(known, without, mesh(without.measured)) > 1e4


def test_clouds_have_the_light_of_the_tissue_and_no_walls():
    known = field(60.0)
    without = blank(known, clouds=True, seed=0)
    light = (without.truth - 103.0) / CAMERA.gain
    assert light.mean() == pytest.approx(known.light().mean(), rel=0.1)
    assert light.std() < 0.5 * known.light().std()


def test_continuity_that_is_drawn_into_planes_in_random_order_is_seen():
    rng = np.random.default_rng(1)
    known = field(60.0)
    pieces = blurred(60.0 * (rng.random(SHAPE) > 0.99)) + 1.0
    measured = np.rint(CAMERA.sample(np.maximum(pieces, 0), 1)).astype(np.uint16)
    order = shuffled_order(SHAPE[0], 0)
    assert sorted(order) == list(range(SHAPE[0]))
    for method, low, high in ((smooth, -0.1, 0.1), (drawn_along_z, 0.25, 1.0)):
        found = continuity(known, method(measured), method(measured[order]), order)
        assert low < found < high, method


def test_the_sentence_names_the_smallest_gap_that_is_found_and_how_deep():
    def row(width, low, high, count):
        return Finding(GAP, width, low, high, 10, count, count / 10 - 0.2, count / 10 + 0.2, 1.0)

    rows = [row(0.4, 0, 10, 3), row(0.4, 10, 20, 1), row(0.6, 0, 10, 9), row(0.6, 10, 20, 9)]
    rows += [row(0.6, 20, 30, 4)]
    assert summary(rows) == (
        "A gap of 0.6 µm in a wall is found 9 times of 10 down to 20 µm, 4 times of 10 below."
    )
    assert summary([row(0.4, 0, 10, 1)]).endswith("1 time of 10 down to 10 µm.")
    assert summary([]).startswith("There was no room")
