"""Walls, junctions, similarity and depth figures against drawings whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity

from zenhance.assess.depth import contrast_by_depth, depth_below_surface, find_surface
from zenhance.assess.similarity import frobenius_255, micro_ssim, ms_ssim
from zenhance.assess.structure import compare_structures, false_walls_per_mm2, wall_lines

VOXEL = (0.5, 0.2, 0.2)


def mesh(shape=(4, 120, 120), spacing=24):
    """A brick wall: straight walls one voxel thick, blurred to 0.25 µm, and its labels."""
    labels = np.zeros(shape, np.int32)
    y, x = np.indices(shape[1:])
    row = y // spacing
    labels[:] = (row * 100 + (x + (row % 2) * spacing // 2) // spacing + 1)[None]
    edge = np.zeros(shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:, :, :-1] |= labels[:, :, :-1] != labels[:, :, 1:]
    return ndimage.gaussian_filter(edge.astype(np.float32), (0, 1.3, 1.3)) * 100 + 5, labels


def test_the_truth_itself_has_full_precision_and_recall():
    walls, labels = mesh()
    report = compare_structures(3 * walls + 50, VOXEL, truth=walls)
    assert report.walls.precision == report.walls.recall == report.walls.f1 == 1.0
    assert report.junctions.precision == report.junctions.recall == 1.0
    by_labels = compare_structures(walls, VOXEL, labels=labels)
    assert by_labels.walls.precision > 0.95
    assert by_labels.walls.recall > 0.95
    assert by_labels.junctions.recall > 0.8


def test_a_missing_half_halves_recall_and_false_walls_lower_precision():
    walls, _ = mesh()
    half = walls.copy()
    half[:, :, 60:] = 5.0
    report = compare_structures(half, VOXEL, truth=walls)
    assert report.walls.precision > 0.9
    assert report.walls.recall == pytest.approx(0.5, abs=0.06)
    false = walls.copy()
    false[:, :, 6::12] += 25.0
    report = compare_structures(ndimage.gaussian_filter(false, (0, 1, 1)), VOXEL, truth=walls)
    assert report.walls.recall > 0.9
    assert report.walls.precision < 0.75


def test_false_walls_are_counted_in_tissue_without_walls_alone():
    walls, labels = mesh(spacing=40)
    labels[:] = labels.max() + 1 - labels
    assert false_walls_per_mm2(walls, VOXEL, labels) == 0.0
    drawn = walls.copy()
    drawn[:, 48:72, 40] += 60.0  # in the middle of a cell, 20 pixels from its walls
    drawn = ndimage.gaussian_filter(drawn, (0, 1, 1))
    one = false_walls_per_mm2(drawn, VOXEL, labels)
    free = sum(
        (ndimage.distance_transform_edt(cell) * VOXEL[1] > 1.0).sum()
        for cell in (np.pad(labels[0] == n, 1, mode="edge") for n in np.unique(labels))
    )
    assert one == pytest.approx(1 / (free * VOXEL[1] * VOXEL[2] * 1e-6), rel=0.2)
    assert np.isnan(false_walls_per_mm2(drawn, VOXEL, np.zeros_like(labels)))


def test_walls_moved_beyond_the_tolerance_do_not_count():
    walls, _ = mesh()
    near = compare_structures(np.roll(walls, 1, axis=2), VOXEL, truth=walls)
    far = compare_structures(np.roll(walls, (5, 5), axis=(1, 2)), VOXEL, truth=walls)
    assert near.walls.recall == 1.0
    assert far.walls.recall < 0.4


def test_an_empty_plane_has_no_walls():
    assert not wall_lines(np.zeros((40, 40)), (0.2, 0.2)).any()
    report = compare_structures(np.zeros((2, 40, 40)), VOXEL, truth=np.ones((2, 40, 40)))
    assert report.walls.f1 == 0.0


def test_structures_without_a_truth_or_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="without a truth"):
        compare_structures(np.zeros((2, 8, 8)), VOXEL)
    with pytest.raises(ValueError, match="of one shape"):
        compare_structures(np.zeros((2, 8, 8)), VOXEL, truth=np.zeros((2, 8, 9)))


def test_ms_ssim_of_one_scale_is_the_ssim_of_scikit_image():
    rng = np.random.default_rng(0)
    truth = ndimage.gaussian_filter(rng.random((1, 20, 20)), (0, 1, 1))
    image = truth + 0.02 * rng.standard_normal(truth.shape)
    base = truth.min()
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 0.3,
    }
    expected = structural_similarity(image[0] - base, truth[0] - base, **options)
    assert ms_ssim(image, truth, 0.3) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_is_one_for_equal_images_and_falls_with_noise():
    rng = np.random.default_rng(1)
    truth = ndimage.gaussian_filter(rng.random((2, 200, 200)), (0, 2, 2))
    values = [
        ms_ssim(truth + s * rng.standard_normal(truth.shape), truth) for s in (0.0, 0.01, 0.05)
    ]
    assert values[0] == pytest.approx(1.0)
    assert values[0] > values[1] > values[2] > 0
    assert ms_ssim(2 * truth.mean() - truth, truth) < 0.2


def test_micro_ssim_forgives_scale_and_offset_only():
    rng = np.random.default_rng(2)
    truth = ndimage.gaussian_filter(rng.random((2, 100, 100)), (0, 2, 2)) ** 4
    assert micro_ssim(1000 * truth + 77, truth) == pytest.approx(1.0, abs=1e-4)
    noisy = truth + 0.2 * truth.std() * rng.standard_normal(truth.shape)
    assert micro_ssim(noisy, truth) < 0.99
    assert micro_ssim(40 * noisy + 3, truth) == pytest.approx(micro_ssim(noisy, truth), abs=1e-3)
    assert np.isfinite(micro_ssim(np.zeros_like(truth), truth))
    with pytest.raises(ValueError, match="truth is constant"):
        micro_ssim(truth, np.ones_like(truth))


def test_the_sum_type_rmse_is_a_norm_on_255_grey_values():
    truth = np.zeros((1, 10, 10))
    truth[0, :5] = 1.0
    assert frobenius_255(truth + 1 / 255, truth, 1.0) == pytest.approx(10.0)


def test_similarity_refuses_what_cannot_be_compared():
    with pytest.raises(ValueError, match="at least 11"):
        ms_ssim(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)))
    with pytest.raises(ValueError, match="not finite"):
        micro_ssim(np.full((1, 16, 16), np.nan), np.zeros((1, 16, 16)))


def dome(rng=None):
    """A half ball of 14 µm of stripes (a wall every 2 µm), dimmer with depth, apex at 2 µm."""
    shape, voxel = (40, 140, 140), (0.5, 0.25, 0.25)
    z, y, x = (np.arange(n) * v for n, v in zip(shape, voxel, strict=True))
    zz, yy, xx = np.meshgrid(z - 16.0, y - y.mean(), x - x.mean(), indexing="ij")
    radius = np.sqrt(zz**2 + yy**2 + xx**2)
    inside = (radius < 14.0) & (zz <= 4.0)
    depth = np.where(inside, 14.0 - radius, -1.0)
    walls = (np.arange(140)[None, None, :] % 8 < 2) | (np.arange(140)[None, :, None] % 8 < 2)
    light = (
        np.where(inside, (60.0 * walls + 20.0) * np.exp(-np.maximum(depth, 0) / 12.0), 0.0) + 5.0
    )
    return (
        light.astype(np.float32) if rng is None else rng.poisson(light).astype(np.float32),
        depth,
        voxel,
    )


def test_the_surface_of_a_dome_is_found_within_a_micrometre():
    volume, depth, voxel = dome(np.random.default_rng(3))
    surface = find_surface(volume, voxel)
    found = depth_below_surface(surface, volume.shape[0], voxel)
    assert surface[70, 70] == pytest.approx(2.0, abs=1.0)
    assert np.isinf(surface[0, 0])
    both = (depth > 1.0) & (found > 0)
    assert both.sum() > 0.97 * (depth > 1.0).sum()
    assert np.median(np.abs(found[both] - depth[both])) < 1.0


def test_contrast_and_snr_fall_with_depth_and_rise_by_smoothing():
    volume, depth, voxel = dome(np.random.default_rng(4))
    smooth = ndimage.gaussian_filter(volume, (1, 0, 0))
    figures = contrast_by_depth(volume, {"before": volume, "after": smooth}, voxel, depth)
    before, after = figures["before"], figures["after"]
    assert [f.name for f in before] == ["L1", "L2", "L3"][: len(before)]
    snr = [f.snr for f in before]
    assert snr[0] > 1.1 * snr[-1]
    assert all(a.snr > b.snr for a, b in zip(after, before, strict=True))
    assert before[0].contrast == pytest.approx((80 - 20) / (80 + 20), abs=0.12)


def test_depth_needs_a_volume_with_a_specimen():
    with pytest.raises(ValueError, match="constant"):
        find_surface(np.ones((4, 20, 20)), VOXEL)
    with pytest.raises(ValueError, match="no surface to find"):
        find_surface(np.ones((20, 20)), VOXEL)
    with pytest.raises(ValueError, match="differ in shape"):
        contrast_by_depth(np.ones((4, 8, 8)), {"result": np.ones((4, 8, 9))}, VOXEL)
