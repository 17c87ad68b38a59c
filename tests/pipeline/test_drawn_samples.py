"""Outputs of several samples are kept as float32 along T, recorded, and planned for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sampling_method import STD
from zenhance.contract import registry
from zenhance.errors import MethodError, StackError
from zenhance.io import open_stack, write_stack
from zenhance.pipeline import EnhanceResult, enhance, plan_run, preview_steps
from zenhance.pipeline.request import EnhanceRequest
from zenhance.provenance import METADATA_KEY, Provenance, sample_count
from zenhance.stack import Stack

VOXEL_UM = (0.5, 0.2, 0.25)


@pytest.fixture(autouse=True)
def sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._BUILT_IN, "sampling", "sampling_method:METHOD")


def source(axes: str = "ZYX", dtype: str = "uint8", **sizes: int) -> Stack:
    lengths = {"T": 1, "C": 2, "Z": 5, "Y": 9, "X": 11, **sizes}
    pixels = np.random.default_rng(3).integers(0, 200, [lengths[a] for a in axes]).astype(dtype)
    return Stack.from_array(
        pixels, axes, VOXEL_UM, name="cells", metadata={"time_step_s": 2.0, "na": 1.2}
    )


def sampled(stack: Stack, **fields: Any) -> EnhanceResult:
    return enhance(stack, method="sampling", **{"tile_px": (3, 4, 5), **fields})


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CZYX", "TZYX", "TCYX"])
def test_samples_lie_along_t_in_front_of_the_axes_of_the_source(axes: str) -> None:
    stack = source(axes)
    result = sampled(stack)
    samples = result.extras["samples"]
    assert samples.axes == "T" + axes.replace("T", "")
    own = np.asarray(stack.data, np.float32).reshape(samples.shape[1:])
    assert np.array_equal(
        samples.data, own + np.arange(4, dtype=np.float32).reshape(-1, *[1] * own.ndim)
    )
    assert result.stack.axes == result.extras["std"].axes == axes
    assert samples.voxel_size == stack.voxel_size
    assert samples.metadata["na"] == 1.2
    assert "time_step_s" not in samples.metadata
    assert result.stack.metadata["time_step_s"] == 2.0


def test_a_finer_grid_is_finer_for_each_sample() -> None:
    result = sampled(source(), settings={"finer": 2})
    samples = result.extras["samples"]
    assert samples.shape == (4, 10, 18, 22)
    assert np.array_equal(samples.data[3] - samples.data[0], np.full((10, 18, 22), 3, np.float32))
    assert samples.voxel_size.zyx_um == (0.25, 0.1, 0.125)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool"])
def test_only_the_enhanced_image_is_ever_kept_in_the_type_of_the_input(dtype: str) -> None:
    result = sampled(source(dtype=dtype), dtype="input")
    assert result.stack.dtype == np.dtype("uint8" if dtype == "bool" else dtype)
    assert result.extras["std"].dtype == result.extras["samples"].dtype == np.float32
    assert (np.asarray(result.extras["std"].data) == STD).all()


def test_voxels_that_are_not_finite_stay_so_in_each_sample() -> None:
    data = np.ones((5, 9, 11), np.float32)
    data[2, 4, 5] = np.nan
    samples = np.asarray(sampled(Stack.from_array(data, "ZYX")).extras["samples"].data)
    assert [tuple(place) for place in np.argwhere(np.isnan(samples))] == [
        (k, 2, 4, 5) for k in range(4)
    ]


def test_each_record_says_which_output_it_came_with_and_which_axis_holds_samples() -> None:
    result = sampled(source())
    told = {name: json.loads(stack.metadata[METADATA_KEY]) for name, stack in result.extras.items()}
    assert told["std"]["notes"]["output"] == {"name": "std"}
    assert told["samples"]["notes"]["output"] == {
        "name": "samples",
        "samples": 4,
        "samples_axis": "T",
    }
    assert (sample_count(told["std"]), sample_count(told["samples"])) == (0, 4)
    assert (result.samples("std"), result.samples("samples")) == (0, 4)
    assert "output" not in result.provenance.notes
    assert result.account() is result.provenance
    assert sample_count(result.account("samples").model_dump(mode="json")) == 4
    replayed = EnhanceRequest.from_yaml(json.dumps(told["samples"]))
    assert replayed.method == "sampling"


@pytest.mark.parametrize(
    "record",
    [None, "text", {"notes": 3}, {"notes": {"output": {"samples": "4", "samples_axis": "T"}}}],
)
def test_a_record_that_says_nothing_of_samples_counts_none(record: Any) -> None:
    assert sample_count(record) == 0


def test_several_time_points_are_refused_before_anything_runs() -> None:
    stack = source("TZYX", T=3)
    with pytest.raises(
        StackError, match="samples are kept for one time point and the stack has 3; switch them off"
    ):
        plan_run(stack, EnhanceRequest(method="sampling"))
    assert sampled(stack, settings={"samples": 0}).extras["std"].axes == "TZYX"


def test_the_plan_counts_the_samples() -> None:
    voxels, samples = 5 * 9 * 11, 10
    without = plan_run(source(), EnhanceRequest(method="sampling", settings={"samples": 0}))
    plan = plan_run(
        source(), EnhanceRequest(method="sampling", dtype="input", settings={"samples": samples})
    )
    assert without.result_bytes == voxels * (4 + 4)
    assert plan.result_bytes == voxels * (1 + 4 + 4 * samples)
    assert plan.working_bytes - without.working_bytes == voxels * 4 * samples
    assert {name: layout.shape for name, layout in plan.outputs.items()}["samples"] == (
        10,
        5,
        9,
        11,
    )


def test_what_does_not_fit_beside_the_rest_is_mapped_to_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = 4 * 5 * 9 * 11
    # Room for four images: the enhanced one and the deviation, but not for four samples as well.
    monkeypatch.setattr("zenhance.pipeline.output.free_bytes", lambda _device: 4 * one / 0.4)
    result = sampled(source())
    assert not isinstance(result.stack.data, np.memmap)
    assert not isinstance(result.extras["std"].data, np.memmap)
    assert isinstance(result.extras["samples"].data, np.memmap)
    assert np.array_equal(
        result.extras["samples"].data[2] - result.extras["samples"].data[0],
        np.full((5, 9, 11), 2, np.float32),
    )


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        ("one too few", r'gave "samples" of shape \(3, .*expected \(4, '),
        ("not finite", r'voxels of "samples" that are not finite'),
    ],
)
def test_samples_of_another_number_or_not_finite_are_refused_with_their_tile(
    trouble: str, text: str
) -> None:
    with pytest.raises(MethodError, match=text):
        sampled(source(), settings={"trouble": trouble})


def test_a_preview_has_its_plane_of_each_sample() -> None:
    steps = preview_steps(source(), EnhanceRequest(method="sampling"), 2)
    try:
        while True:
            next(steps)
    except StopIteration as done:
        result = done.value
    assert result.stack.shape == (1, 9, 11)
    assert result.extras["samples"].shape == (4, 1, 9, 11)


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".ome.zarr"])
@pytest.mark.parametrize("axes", ["YX", "ZYX", "CZYX"])
def test_samples_come_back_from_a_file_as_they_were_written(
    tmp_path: Path, suffix: str, axes: str
) -> None:
    result = sampled(source(axes))
    for name, stack in result.extras.items():
        back = open_stack(
            write_stack(tmp_path / f"cells_{name}{suffix}", stack, provenance=result.account(name))
        )
        assert (back.axes, back.shape, back.dtype) == (stack.axes, stack.shape, np.float32)
        assert np.array_equal(np.asarray(back.data[...]), stack.data)
        assert back.voxel_size.is_known("YX")
        record = Provenance.find(back.metadata)
        assert record is not None
        assert sample_count(record.model_dump(mode="json")) == (4 if name == "samples" else 0)
