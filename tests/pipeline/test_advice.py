"""Which method for a stack: the measured light, depth and kind of structure decide."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.judge_scenes import KINDS, VOXEL_UM, make_scene
from zenhance.cli.app import app
from zenhance.io import write_stack
from zenhance.pipeline.advice import PLATES, advise, plate_share
from zenhance.stack import Stack


def stack_of(kind, photons=60.0, voxel_um=VOXEL_UM, **options):
    data = make_scene(kind, photons, 3, gain=4.0, **options).measured
    return Stack.from_array(data, "ZYX", voxel_um, name=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("photons", [10.0, 100.0])
def test_walls_are_told_from_other_structures(kind, photons):
    share = plate_share(make_scene(kind, photons, 5).measured.astype(np.float32), VOXEL_UM)
    assert (share >= PLATES) == ("walls" in kind), share


def test_walls_like_those_of_the_training_get_the_model_for_walls():
    found = advise(stack_of("walls"))
    assert (found.method, found.learn) == ("dqlr", False)
    assert "walls" in found.reason
    assert any("photons in the brightest places" in fact for fact in found.facts)
    assert not found.doubts


def test_walls_on_other_voxels_are_learnt_first():
    found = advise(stack_of("walls", voxel_um=(2.0, 0.8, 0.8)))
    assert (found.method, found.learn) == ("dqlr", True)
    assert found.command("a.tif").endswith("--method dqlr --learn 10min")


@pytest.mark.parametrize("kind", ["nuclei", "spots", "filaments"])
def test_other_structures_get_a_method_without_a_prior_of_shapes(kind):
    found = advise(stack_of(kind))
    assert (found.method, found.learn) == ("gaussian_deconvolution", False)
    assert "not walls" in found.reason


def test_a_stack_of_unknown_voxel_size_is_told_what_to_give():
    bare = Stack.from_array(make_scene("walls", 60.0, 3).measured, "ZYX")
    found = advise(bare)
    assert found.method == "gaussian_deconvolution"
    assert "voxel size is unknown" in found.reason
    assert any("--voxel-size" in doubt for doubt in found.doubts)


def test_little_light_is_said():
    found = advise(stack_of("walls", photons=1.0, read_photons=0.3))
    assert any("so little light" in doubt for doubt in found.doubts)


def test_a_plane_has_no_depth_for_a_model_of_stacks():
    plane = Stack.from_array(make_scene("walls", 60.0, 3).measured[16], "YX", (0.2, 0.2))
    found = advise(plane)
    assert found.method == "gaussian_deconvolution"
    assert "With 1 plane a model of stacks has no depth" in found.reason


def test_the_command_prints_the_command_line_and_the_reason(tmp_path):
    path = tmp_path / "walls.ome.tif"
    write_stack(path, stack_of("walls"))
    result = CliRunner().invoke(app, ["advise", str(path), "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["method"] == "dqlr"
    assert record["command"] == f"zenhance enhance {path} better.ome.tif --method dqlr"
    shown = CliRunner().invoke(app, ["advise", str(path)])
    assert shown.stdout.startswith(record["command"])
    assert "walls" in shown.stdout
