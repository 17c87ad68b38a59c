"""Segmentation before and after: on boxes with walls every count is known without segmenting."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zenhance.assess.segmentation import Cellpose, Watershed, cell_sizes, compare_labels
from zenhance.errors import MethodError, StackError
from zenhance.pipeline.segmenting import check_segmentation
from zenhance.stack import Stack, VoxelSize

VOXEL = (0.5, 0.25, 0.25)
SIDE = (10, 20, 20)  # 5 µm: a cell has 125 µm³
REAL = Path("/work/shared/data/plant_tissue")


def _boxes(count: tuple[int, int, int] = (2, 3, 3)) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(1, np.prod(count) + 1, dtype=np.uint16).reshape(count)
    labels = np.kron(numbers, np.ones(SIDE, np.uint16))
    image = np.full(labels.shape, 100.0, np.float32)
    for axis, side in enumerate(SIDE):
        position = np.arange(labels.shape[axis]) % side
        wall = (position == 0) | (position == side - 1)
        image += 400.0 * wall.reshape([-1 if a == axis else 1 for a in range(3)])
    return image, labels


def _stack(data: np.ndarray, size: tuple[float, float, float] = VOXEL) -> Stack:
    return Stack(data, "ZYX", VoxelSize.of(size))


def _without_a_wall(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[1:9, 1:19, 18:22] = 100.0  # between the first and the second cell
    return image


def test_a_wall_that_the_result_brings_out_splits_one_cell() -> None:
    image, labels = _boxes()
    found = check_segmentation(
        _stack(_without_a_wall(image)), _stack(image), labels=_stack(labels), kind="walls"
    )
    assert (found.original.cells, found.result.cells) == (17, 18)
    a = found.agreement
    assert (a.matched, a.split, a.merged, a.lost, a.gained) == (16, 1, 0, 0, 0)
    assert found.original_truth is not None
    assert found.result_truth is not None
    assert (found.original_truth.matched, found.original_truth.merged) == (16, 2)
    assert found.result_truth.matched == 18
    assert "of 18 true cells 16 are found in the original, 18 in the result" in found.headline()


def test_a_wall_that_the_result_loses_merges_two_cells() -> None:
    image, _ = _boxes()
    a = check_segmentation(_stack(image), _stack(_without_a_wall(image)), kind="walls").agreement
    assert (a.matched, a.split, a.merged, a.lost, a.gained) == (16, 0, 2, 0, 0)


def test_a_result_on_finer_planes_is_compared_on_the_voxels_of_the_original() -> None:
    image, labels = _boxes()
    fine = np.repeat(image, 2, 0)
    found = check_segmentation(
        _stack(image), _stack(fine, (0.25, 0.25, 0.25)), labels=_stack(labels), kind="walls"
    )
    assert found.agreement.matched == found.result.cells == 18
    assert found.labels["result"].shape == image.shape
    assert found.result.median_um3 == pytest.approx(125.0, rel=0.1)


def test_the_part_is_that_of_the_run_and_then_of_the_call() -> None:
    image, labels = _boxes((2, 4, 4))
    part = (slice(0, 10), slice(0, 40), slice(0, 20))  # one layer, two of four cells by one
    found = check_segmentation(
        _stack(image), _stack(image), labels=_stack(labels), region=part, kind="walls"
    )
    assert found.original.cells == 2
    assert found.figures()["region_px"] == [[0, 10], [0, 40], [0, 20]]


def test_bodies_are_told_from_walls_and_counted() -> None:
    z, y, x = np.indices((40, 80, 80)) * np.array(VOXEL).reshape(3, 1, 1, 1)
    image = np.full((40, 80, 80), 10.0, np.float32)
    for at in ((4, 5, 5), (4, 15, 5), (4, 5, 15), (15, 15, 15), (15, 6, 12)):
        r2 = (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2
        image[r2 < 1.5**2] = 200.0
    dim = image * np.linspace(1.0, 0.3, 40, dtype=np.float32)[:, None, None]
    found = check_segmentation(_stack(dim), _stack(image))
    assert found.kind == "bodies"
    assert (found.original.cells, found.result.cells, found.agreement.matched) == (5, 5, 5)


def test_outside_the_specimen_there_are_no_cells() -> None:
    image, _ = _boxes((2, 3, 3))
    beside = np.zeros((20, 60, 200), np.float32)
    beside[:, :, :60] = image
    assert Watershed()(beside, VOXEL)[:, :, 120:].max() == 0


def test_labels_that_agree_by_chance_are_neither_matched_nor_lost_twice() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a = np.kron(rng.integers(0, 6, (2, 3, 3)), np.ones((2, 4, 4), int)).astype(np.int32)
        b = np.kron(rng.integers(0, 6, (2, 4, 4)), np.ones((2, 3, 3), int)).astype(np.int32)
        found = compare_labels(a, b)
        cells = int(a.max(initial=0))
        assert found.matched + found.split + found.merged + found.lost == cells
        assert min(found.matched, found.lost, found.gained) >= 0
    same = compare_labels(a, a)
    assert (same.rand_error, same.gained) == (0.0, 0)


def test_sizes_are_those_of_whole_cells() -> None:
    labels = np.zeros((5, 9, 9), np.int32)
    labels[1:4, 3:6, 3:6] = 1  # 27 voxels, whole
    labels[0:4, 0:2, 0:2] = 2  # cut
    found = cell_sizes(labels, 0.5)
    assert (found.cells, found.cut_by_border, found.median_um3) == (2, 1, 13.5)


def test_the_picture_shows_both_side_by_side_with_borders() -> None:
    import io

    image, _ = _boxes()
    found = check_segmentation(_stack(image), _stack(image), kind="walls")
    shown = np.asarray(Image.open(io.BytesIO(found.picture)).convert("RGB"))
    assert shown.shape[1] > 1.9 * shown.shape[0]
    borders = (np.abs(shown.astype(int) - (255, 196, 0)).sum(-1) < 30).mean(0)
    half = len(borders) // 2
    assert borders[:half].mean() > 0.02
    assert borders[half:].mean() == pytest.approx(borders[:half].mean(), rel=0.2)


def test_stacks_of_another_place_and_wrong_names_are_refused() -> None:
    image, _ = _boxes()
    with pytest.raises(StackError, match="give the original that the result was made from"):
        check_segmentation(_stack(image), _stack(image[:15]))
    with pytest.raises(StackError, match="voxel size in z, y, x is unknown"):
        check_segmentation(Stack(image, "ZYX", VoxelSize.of((None, None, None))), _stack(image))
    with pytest.raises(MethodError, match='no segmenter "stardust"'):
        check_segmentation(_stack(image), _stack(image), segmenter="stardust")
    with pytest.raises(MethodError, match='no kind "wall"; did you mean "walls"'):
        check_segmentation(_stack(image), _stack(image), kind="wall")


def test_cellpose_gets_the_volume_and_its_anisotropy(monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = _boxes()
    calls: list[dict[str, Any]] = []

    class Model:
        """The part of CellposeModel (cellpose 4) that is used."""

        def __init__(self, gpu: bool) -> None:
            assert gpu in (True, False)

        def eval(self, x: np.ndarray, **options: Any) -> tuple[np.ndarray, list, np.ndarray]:
            calls.append(options | {"ndim": x.ndim})
            return labels.astype(np.uint16).reshape(x.shape), [], np.zeros(256)

    module = types.ModuleType("cellpose")
    module.models = types.SimpleNamespace(CellposeModel=Model)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cellpose", module)
    found = check_segmentation(_stack(image), _stack(image), segmenter="cellpose", kind="walls")
    assert (found.segmenter, found.result.cells) == ("cellpose", 18)
    assert calls[0] == {"z_axis": 0, "do_3D": True, "anisotropy": 2.0, "ndim": 3}
    labels = labels[:1]
    Cellpose()(image[:1], VOXEL)
    assert calls[-1] == {"ndim": 2}


def test_cellpose_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cellpose", None)
    image, _ = _boxes()
    with pytest.raises(MethodError, match="pip install cellpose, or use watershed"):
        check_segmentation(_stack(image), _stack(image), segmenter="cellpose")


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared real stacks are not here")
def test_most_nuclei_of_a_real_ovule_are_found_as_bodies() -> None:
    from zenhance.io import open_stack

    raw, true = (open_stack(REAL / f"ovule_nuclei_1135_{n}.tif") for n in ("raw", "label"))
    part = (slice(20, 80), slice(0, 100), slice(0, 100))
    found = check_segmentation(raw, raw, labels=true, region=part)
    assert found.kind == "bodies"
    truth = found.original_truth
    assert truth is not None
    asked = truth.matched + truth.split + truth.merged + truth.lost
    assert truth.matched / asked > 0.5
