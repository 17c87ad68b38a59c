"""No method sets voxels to the floor or changes the total without saying so, with the figures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from zenhance.contract.spec import VolumeStatistics
from zenhance.measurement.reader import VolumeReader
from zenhance.pipeline import enhance
from zenhance.pipeline.changes import VolumeChange, change_warnings
from zenhance.stack import Stack

SIZE_UM = (0.5, 0.2, 0.2)


def tissue() -> Stack:
    """Tissue that fills the field: offset 100, 10 to 60 photons of 2 grey values everywhere."""
    rng = np.random.default_rng(0)
    x = np.arange(48)
    light = 35 + 25 * np.sin(x / 5)[:, None] * np.sin(x / 7)[None]
    photons = rng.poisson(np.broadcast_to(light, (6, 48, 48)))
    return Stack.from_array((100 + 2 * photons).astype(np.uint16), "ZYX", SIZE_UM)


def floor_share(result: np.ndarray[Any, Any], level: float) -> float:
    return float(np.mean(np.abs(result - level) < 1e-3 * 60))


@pytest.mark.parametrize("method", ["gaussian_deconvolution", "divblurring", "dqlr", "identity"])
@pytest.mark.parametrize("offset", [100.0, 170.0])
def test_a_wrong_offset_never_erases_voxels_without_a_word(method: str, offset: float) -> None:
    stack = tissue()
    result = enhance(
        stack, method=method, background=offset, psf="sigma_um=0.5,0.2,0.2", device="cpu"
    )
    data, before = np.asarray(result.stack.data), np.asarray(stack.data, np.float64)
    said = " ".join(result.provenance.warnings)
    if floor_share(data, offset) > 0.08:
        figure = re.search(r"set (\d+) % of the voxels to the floor", said)
        assert figure is not None, said
        assert int(figure[1]) == pytest.approx(100 * floor_share(data, offset), abs=4)
    change = data.mean() - before.mean()
    if abs(change) > 0.03 * max(abs(before.mean() - offset), 2.0):
        assert f"changed by {'+' if change > 0 else '-'}" in said
    if method == "identity":
        assert "floor" not in said
        assert "total" not in said


def reader(data: np.ndarray[Any, Any]) -> VolumeReader:
    return VolumeReader(Stack.from_array(data, "ZYX", SIZE_UM))


def whole(shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    z, y, x = (slice(0, n) for n in shape)
    return (z, y, x)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.04, 0.06, 0.5])
@pytest.mark.parametrize("factor", [0.97, 0.99, 1.0, 1.01, 1.03])
def test_the_two_figures_are_those_of_the_algebra(share: float, factor: float, scale: int) -> None:
    shape = (10, 10, 10)
    before = np.linspace(100, 1100, 1000, dtype=np.float32).reshape(shape)
    before[0, 0, 0] = np.nan
    fine = np.repeat(np.repeat(before, scale, axis=1), scale, axis=2)
    after = 100 + factor * (fine - 100)
    # As many voxels as are set to the floor keep the total: the others take their light.
    erased = int(share * after.size)
    flat = after.ravel()
    flat[after.size - erased :] = 0.0
    statistics = VolumeStatistics(100, 1100, 600, 288, 101, 1099, 100)
    change = VolumeChange("", statistics, 0.0)
    for z in range(10):
        part = (slice(z, z + 1), slice(0, 10), slice(0, 10))
        change.add(reader(before), part, after[z : z + 1])
    expected = np.nanmean(after, dtype=np.float64) / 1.0 - np.nanmean(before, dtype=np.float64)
    expected /= np.nanmean(before, dtype=np.float64) - 100
    assert change.total_change() == pytest.approx(expected, abs=1e-3)
    assert change.floor()[1] == pytest.approx(share, abs=3e-3)
    said = " ".join(change_warnings([change]))
    assert ("to the floor 0" in said) == (share > 0.05)
    assert (f"{100 * expected:+.0f} %" in said) == (abs(expected) > 0.02)


def test_zeros_that_were_measured_are_not_held_against_the_method() -> None:
    before = np.zeros((4, 8, 8), np.float32)
    before[:, :4] = np.arange(32, dtype=np.float32).reshape(4, 8)
    statistics = VolumeStatistics(0, 31, 8, 9, 0, 31, 0)
    change = VolumeChange("", statistics, 0.0)
    change.add(reader(before), whole(before.shape), before.copy())
    assert change_warnings([change]) == []


def test_the_worst_of_several_volumes_is_named() -> None:
    statistics = VolumeStatistics(100, 1100, 600, 288, 101, 1099, 100)
    before = np.linspace(100, 1100, 64, dtype=np.float32).reshape(4, 4, 4)
    changes = []
    for number, factor in enumerate((1.0, 0.5, 0.9)):
        change = VolumeChange(f" of volume {number + 1} of 3", statistics, 0.0)
        change.add(reader(before), whole(before.shape), 100 + factor * (before - 100))
        changes.append(change)
    (said,) = change_warnings(changes)
    assert "-50 % of volume 2 of 3" in said


@pytest.mark.parametrize("share", [0.03, 0.4])
@pytest.mark.parametrize("floor", [-300.0, 20.0, 90.0])
def test_a_plateau_at_the_lowest_value_is_named_wherever_the_method_clips(
    floor: float, share: float
) -> None:
    before = np.linspace(100, 1100, 1000, dtype=np.float32).reshape(10, 10, 10)
    after = before.copy()
    after.ravel()[: int(share * 1000)] = floor
    change = VolumeChange("", VolumeStatistics(100, 1100, 600, 288, 101, 1099, 150), 150.0)
    for z in reversed(range(10)):
        region = (slice(z, z + 1), slice(0, 10), slice(0, 10))
        change.add(reader(before), region, after[region])
    level, added = change.floor()
    # The one voxel of the measurement at its minimum does not count as set to the floor.
    assert added == pytest.approx(share, abs=0.002)
    assert level == floor
    assert (f"the floor {floor:.4g};" in " ".join(change_warnings([change]))) == (share > 0.05)


def test_the_total_of_a_nearly_black_volume_is_compared_as_well() -> None:
    before = np.zeros((1, 40, 40), np.float32)
    before[0, 20, 20] = 5000.0
    # The percentiles of such a volume do not see the specimen.
    statistics = VolumeStatistics(0, 5000, 3.1, 125, 0, 0, 0)
    change = VolumeChange("", statistics, 0.0)
    after = before.copy()
    after[0, 10, :] = 1000.0
    change.add(reader(before), whole(before.shape), after)
    (said,) = change_warnings([change])
    assert f"changed by {100 * 40 * 1000 / max(5000, 0.02 * 5000 * 1600):+.0f} %" in said
