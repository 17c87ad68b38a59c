"""Cells found: on boxes with walls the count is known without any segmentation."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.assess.cells import cells_found, segment_cells
from zenhance.errors import StackError

VOXEL = (0.5, 0.25, 0.25)
SIDE = (10, 20, 20)  # 5 µm


def _boxes(count: tuple[int, int, int] = (2, 3, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Return cubic cells of 5 µm whose outermost voxels are bright, and their labels."""
    numbers = np.arange(1, np.prod(count) + 1, dtype=np.uint16).reshape(count)
    labels = np.kron(numbers, np.ones(SIDE, np.uint16))
    image = np.full(labels.shape, 100.0, np.float32)
    for axis, side in enumerate(SIDE):
        position = np.arange(labels.shape[axis]) % side
        wall = (position == 0) | (position == side - 1)
        image += 400.0 * wall.reshape([-1 if a == axis else 1 for a in range(3)])
    return image, labels


def test_all_walled_boxes_are_found() -> None:
    image, labels = _boxes()
    report = cells_found(image, labels, VOXEL)
    assert (report.found, report.total) == (18, 18)
    assert report.share == 1.0
    assert report.mean_iou > 0.9


def test_without_the_wall_between_them_two_equal_cells_are_both_lost() -> None:
    image, labels = _boxes()
    plain, _ = _boxes((1, 1, 1))
    image[1:9, 1:19, 18:22] = plain[
        5, 10, 10
    ]  # the wall between cells 1 and 2: each has half the merged basin, IoU 0.5
    assert cells_found(image, labels, VOXEL).found == 16


def test_scale_and_offset_of_the_image_do_not_matter() -> None:
    image, labels = _boxes()
    noisy = image + np.random.default_rng(0).normal(0, 60, image.shape).astype(np.float32)
    first = cells_found(noisy, labels, VOXEL)
    assert cells_found(noisy * 0.01 - 3, labels, VOXEL) == first


def test_dim_cells_count_as_much_as_bright_ones() -> None:
    image, labels = _boxes((4, 3, 3))
    dimmed = image * np.exp(-np.arange(40) / 20).astype(np.float32)[:, None, None]
    assert cells_found(dimmed, labels, VOXEL).found == 36


def test_the_count_is_split_by_depth() -> None:
    image, labels = _boxes()
    depth = np.broadcast_to((np.arange(20) * 0.5 + 0.25)[:, None, None], labels.shape).astype(
        np.float32
    )
    image[11:19] = 100.0  # nothing to see in the lower layer
    report = cells_found(image, labels, VOXEL, depth, (0.0, 5.0))
    upper, lower = report.by_depth
    assert (upper.found, upper.total, upper.to_um) == (9, 9, 5.0)
    assert (lower.total, lower.to_um) == (9, None)
    assert lower.found < 9
    assert upper.found + lower.found == report.found


def test_slivers_are_not_asked_for() -> None:
    image, labels = _boxes()
    labels[0, 0, :5] = 19  # 5 voxels are 0.16 µm³
    assert cells_found(image, labels, VOXEL).total == 18


def test_an_image_without_structure_has_no_cells() -> None:
    _, labels = _boxes()
    assert cells_found(np.full(labels.shape, 5.0), labels, VOXEL).found == 0
    assert segment_cells(np.zeros((4, 8, 8)), VOXEL).max() <= 1


def test_labels_of_another_shape_are_refused() -> None:
    image, labels = _boxes()
    with pytest.raises(
        StackError, match=r"image \(20, 60, 60\) and labels \(19, 60, 60\) must be volumes"
    ):
        cells_found(image, labels[1:], VOXEL)
