"""Samples and a standard deviation become files with their own records, or are refused early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sampling_method import STD
from zenhance.cli.app import app
from zenhance.contract import registry
from zenhance.io import open_stack, write_stack
from zenhance.io.write import verify_image
from zenhance.provenance import Provenance, sample_count
from zenhance.stack import Stack


@pytest.fixture(autouse=True)
def sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._BUILT_IN, "sampling", "sampling_method:METHOD")


def source(folder: Path, axes: str = "ZYX") -> Path:
    shape = [{"T": 2, "Z": 4, "Y": 12, "X": 14}[a] for a in axes]
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    return write_stack(folder / "cells.ome.tif", Stack.from_array(pixels, axes, (0.5, 0.25, 0.2)))


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [*(str(word) for word in words)])


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".ome.zarr"])
def test_each_output_is_a_file_of_its_own_that_says_what_it_holds(
    tmp_path: Path, suffix: str
) -> None:
    path = source(tmp_path)
    done = run(
        "enhance",
        path,
        tmp_path / f"out{suffix}",
        "--method",
        "sampling",
        "--set",
        "samples=3",
        "--dtype",
        "input",
        "--json",
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["extras"] == {
        name: str(tmp_path / f"out_{name}{suffix}") for name in ("std", "samples")
    }
    pixels = np.asarray(open_stack(path).data[...])
    found = {
        name: open_stack(tmp_path / f"out{end}{suffix}")
        for name, end in (("", ""), ("std", "_std"), ("samples", "_samples"))
    }
    assert found[""].dtype == np.uint8
    assert np.array_equal(np.asarray(found["std"].data[...]), np.full((4, 12, 14), STD, np.float32))
    samples = found["samples"]
    assert (samples.axes, samples.shape, samples.dtype) == ("TZYX", (3, 4, 12, 14), np.float32)
    assert np.array_equal(
        np.asarray(samples.data[...]),
        pixels.astype(np.float32) + np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1),
    )
    assert samples.voxel_size.zyx_um == pytest.approx((0.5, 0.25, 0.2))
    assert verify_image(tmp_path / f"out_samples{suffix}") == 12
    for name, count in (("", 0), ("std", 0), ("samples", 3)):
        kept = Provenance.find(found[name].metadata)
        assert kept is not None
        assert kept.input_name == "cells.ome.tif"
        assert sample_count(kept.model_dump(mode="json")) == count
        assert kept.notes.get("output", {}).get("name", "") == name
    told = " ".join(run("info", tmp_path / f"out_samples{suffix}").output.split())
    assert "T Z Y X (T is not time: 3 samples)" in told
    assert "samples)" not in run("info", tmp_path / f"out_std{suffix}").output


def test_several_time_points_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = source(tmp_path, "TZYX")
    done = run("enhance", path, tmp_path / "out.ome.tif", "--method", "sampling", "--json")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error.startswith(
        '"cells.ome.tif" cannot be enhanced: samples are kept for one time point and the stack has '
        "2"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["cells.ome.tif"]
    assert (
        run(
            "enhance", path, tmp_path / "out.ome.tif", "--method", "sampling", "--set", "samples=0"
        ).exit_code
        == 0
    )


def test_a_format_that_ends_before_the_samples_do_is_refused_before_they_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source(tmp_path)
    monkeypatch.setattr("zenhance.io.write_tiff.BIG_BYTES", 4 * 4 * 12 * 14 * 4 - 1)
    done = run("enhance", path, tmp_path / "out.tif", "--method", "sampling", "--set", "samples=4")
    assert done.exit_code == 2
    assert "an ImageJ TIFF ends at" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["cells.ome.tif"]
