"""The specimen: layered cells under a dome, thin walls, nothing outside."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from zenhance.errors import StackError
from zenhance.simulate.cells import coverage, relaxed_seeds
from zenhance.simulate.meristem import Meristem
from zenhance.simulate.specimen import (
    Dye,
    Grid,
    load_specimen,
    renumbered,
    specimen_names,
    tissue_above_um,
)
from zenhance.simulate.tissue import Tissue, Waves

GRID = Grid((24, 96, 96), (0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def dye() -> Dye:
    return Meristem().render(GRID, 3)


def test_the_same_seed_gives_the_same_bytes(dye: Dye) -> None:
    again = Meristem().render(GRID, 3)
    assert again.density.tobytes() == dye.density.tobytes()
    assert again.labels.tobytes() == dye.labels.tobytes()


def test_another_seed_gives_another_specimen(dye: Dye) -> None:
    assert not np.array_equal(Meristem().render(GRID, 4).labels, dye.labels)


def test_outside_the_specimen_there_is_nothing(dye: Dye) -> None:
    far = ndimage.distance_transform_edt(dye.labels == 0, sampling=GRID.voxel_size_um) > 1.0
    assert far.sum() > 1000
    assert np.all(dye.density[0][far] == 0)
    assert np.all(dye.depth_um[dye.labels == 0] == 0)


def test_labels_count_from_one_without_gaps(dye: Dye) -> None:
    assert np.array_equal(np.unique(dye.labels), np.arange(dye.labels.max() + 1))


def test_whole_cells_have_the_size_that_was_asked_for() -> None:
    grid = Grid((48, 128, 128), (0.5, 0.25, 0.25))
    labels = Meristem(cell_um=4.0, layer_um=4.0, flower=False).render(grid, 1).labels
    cut = np.unique(
        np.concatenate(
            [labels[-1].ravel(), labels[:, [0, -1]].ravel(), labels[:, :, [0, -1]].ravel()]
        )
    )
    whole = np.setdiff1d(np.unique(labels), np.append(cut, 0))
    volume_um3 = np.bincount(labels.ravel())[whole] * 0.5 * 0.25 * 0.25
    assert len(whole) > 10
    assert np.median(volume_um3) == pytest.approx(4.0**3, rel=0.3)


def test_each_cell_is_one_piece(dye: Dye) -> None:
    sizes = np.bincount(dye.labels.ravel())
    for cell in np.flatnonzero(sizes > 200)[1:20]:
        _, pieces = ndimage.label(dye.labels == cell, np.ones((3, 3, 3)))
        assert pieces == 1


def test_walls_are_bright_where_two_cells_meet_and_faint_inside(dye: Dye) -> None:
    labels, membrane = dye.labels, dye.density[0]
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :, 1:] |= labels[:, :, 1:] != labels[:, :, :-1]
    inner = (
        ndimage.distance_transform_edt(
            ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
        )
        > 3
    )
    inner &= labels > 0
    assert membrane[boundary].mean() > 5 * membrane[inner].mean() > 0


def test_the_epidermis_is_one_cell_thick() -> None:
    grid = Grid((40, 96, 96), (0.25, 0.25, 0.25))
    dye = Meristem(flower=False, bend_um=0.0, bump_um=0.0, layer_um=5.0).render(grid, 2)
    epidermis = dye.labels[(dye.depth_um > 0.5) & (dye.depth_um < 2.0)]
    below = dye.labels[(dye.depth_um > 8.0)]
    assert len(np.intersect1d(epidermis, below)) == 0


def test_folded_layers_keep_the_skin_and_stray_from_their_depth_by_what_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    flat = Waves.random(rng, 10, 0.0)
    dome = Tissue(
        np.array([[50.0, 0, 0]], np.float32),
        np.array([40.0], np.float32),
        0.8,
        flat,
        Waves.random(rng, 8, 0.6),
    )
    points = rng.uniform(-40, 40, size=(20000, 3)).astype(np.float32) + np.array(
        [50, 0, 0], np.float32
    )
    inward = dome.inward_um(points)
    stray = dome.layered_um(points, inward) - inward
    assert stray[inward > 3].std() == pytest.approx(0.6, rel=0.1)
    assert np.all(stray[inward <= 0] == 0)


def test_folds_change_layers_but_not_the_shape(dye: Dye) -> None:
    folded = Meristem(fold_um=1.0).render(GRID, 3)
    assert np.array_equal(folded.labels > 0, dye.labels > 0)
    assert not np.array_equal(folded.density, dye.density)


def test_a_second_channel_has_one_nucleus_per_cell() -> None:
    dye = Meristem(nuclei=True).render(GRID, 3)
    assert dye.channel_names == ("membrane", "nuclei")
    bright = dye.density[1] > 0.3
    assert 0.02 < bright[dye.labels > 0].mean() < 0.4
    # Nuclei keep clear of the walls: nearly none of their voxels lies beside another cell.
    edge = ndimage.minimum_filter(dye.labels, 3) != ndimage.maximum_filter(dye.labels, 3)
    assert (bright & edge).sum() < 0.1 * bright.sum()


def test_a_specimen_without_cytoplasm_has_finite_nuclei() -> None:
    assert np.isfinite(
        Meristem(nuclei=True, cytoplasm=0.0).render(Grid((6, 24, 24), (1, 0.5, 0.5)), 0).density
    ).all()


@pytest.mark.parametrize(("thickness", "width"), [(0.3, 0.22), (0.2, 0.5), (1.0, 0.22)])
def test_coverage_summed_over_voxels_gives_the_walls_thickness(
    thickness: float, width: float
) -> None:
    for shift in (0.0, 0.3, 0.5):
        centres = ((np.arange(-20, 21) + shift) * width).astype(np.float32)
        share = coverage(centres, np.full(41, width, np.float32), thickness)
        assert share.sum() * width == pytest.approx(thickness, rel=1e-5)
        assert share.max() <= 1


def test_relaxing_spreads_seeds_evenly() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 10, size=(20000, 3)).astype(np.float32)

    def closest(seeds: np.ndarray) -> float:
        gaps = np.linalg.norm(seeds[:, None] - seeds[None], axis=-1) + 99 * np.eye(len(seeds))
        return float(gaps.min())

    assert closest(relaxed_seeds(points, 64, 8, np.random.default_rng(1))) > 2 * closest(
        relaxed_seeds(points, 64, 0, np.random.default_rng(1))
    )


def test_the_distance_below_a_lone_smooth_dome_is_that_below_a_sphere() -> None:
    flat = Waves.random(np.random.default_rng(0), 10, 0.0)
    dome = Tissue(np.array([[20.0, 0, 0]], np.float32), np.array([15.0], np.float32), 0.8, flat)
    inward = dome.inward_um(np.array([[5, 0, 0], [10, 0, 0], [20, 15, 0], [20, 18, 0]], np.float32))
    assert inward == pytest.approx([0, 5, 0, -3], abs=1e-5)
    assert dome.layer(np.array([1.0, 6.0, 11.0], np.float32), (5.0, 5.0)).tolist() == [0, 1, 2]


def test_waves_have_the_amplitude_that_was_asked_for() -> None:
    points = np.random.default_rng(0).uniform(0, 500, size=(50000, 3)).astype(np.float32)
    assert Waves.random(np.random.default_rng(1), 7, 0.4)(points).std() == pytest.approx(
        0.4, rel=0.05
    )


def test_depth_counts_the_tissue_above_and_skips_gaps() -> None:
    within = np.array([0, 1, 1, 0, 1], bool).reshape(5, 1, 1)
    assert tissue_above_um(within, 2.0).ravel().tolist() == [0.0, 1.0, 3.0, 0.0, 5.0]


def test_renumbering_closes_gaps_and_keeps_zero() -> None:
    assert renumbered(np.array([0, 7, 7, 3, 900])).tolist() == [0, 2, 2, 1, 3]


def test_more_cells_than_16_bits_are_refused() -> None:
    with pytest.raises(StackError, match="70000 cells do not fit into 16-bit labels"):
        renumbered(np.arange(70001))


def test_an_unknown_specimen_is_refused_by_name() -> None:
    assert "meristem" in specimen_names()
    with pytest.raises(StackError, match='there is no specimen "cactus"; choose one of .*meristem'):
        load_specimen("cactus")


def test_an_impossible_grid_is_refused() -> None:
    with pytest.raises(StackError, match="at least one voxel along z, y and x"):
        Grid((0, 4, 4), (1, 1, 1))
    with pytest.raises(StackError, match="voxel size of a simulated stack must be positive"):
        Grid((4, 4, 4), (1, 0, 1))


def test_a_grown_grid_keeps_the_place_of_the_field() -> None:
    grown = GRID.grown((2, 3, 4))
    for small, large, margin in zip(GRID.margins, grown.margins, (2, 3, 4), strict=True):
        assert np.allclose(large[margin:-margin], small, atol=1e-5)
