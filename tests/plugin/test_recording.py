"""The record of a run in the viewer, replayed on the layer's file, is the same run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from zenhance.cli import main
from zenhance.io import open_stack, write_stack
from zenhance.pipeline import EnhanceRequest
from zenhance.plugin.layer_bridge import FILE_KEY, LayerFacts
from zenhance.plugin.recording import of_file
from zenhance.plugin.snapshot import Snapshot
from zenhance.provenance import Provenance, hash_array
from zenhance.stack import Stack, VoxelSize


@pytest.fixture
def two_channels(tmp_path):
    rng = np.random.default_rng(3)
    wall = rng.poisson(30, (6, 24, 26))
    stack = Stack(
        np.stack([wall, rng.poisson(90, wall.shape)]).astype(np.uint16),
        "CZYX",
        VoxelSize.of((0.5, 0.2, 0.2), "file"),
        ("wall", "nuclei"),
        metadata={"emission_nm": [510.0, 610.0], "na": 1.1},
    )
    return write_stack(tmp_path / "two.ome.tif", stack)


@pytest.mark.timeout(180)
def test_the_replay_of_a_result_of_one_channel_gives_the_same_pixels(bench, two_channels, tmp_path):
    bench.choose("gaussian_deconvolution", iterations=3, stop="fixed")
    form = bench.dock.form
    form.device.setCurrentIndex(form.device.findData("cpu"))
    _, second = bench.viewer.open(str(two_channels), plugin="zenhance")
    form.source.choose(second)
    (result,) = bench.run()
    assert result.metadata["zenhance"]["request"]["channel"] == 1
    result.save(str(tmp_path / "res.ome.tif"), plugin="zenhance")
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "enhance",
                str(two_channels),
                str(tmp_path / "again.ome.tif"),
                "--request",
                str(tmp_path / "res.ome.tif"),
            ]
        )
    assert ended.value.code == 0
    ours, again = open_stack(tmp_path / "res.ome.tif"), open_stack(tmp_path / "again.ome.tif")
    assert hash_array(ours.read()) == hash_array(again.read())
    records = [Provenance.find(stack.metadata) for stack in (ours, again)]
    assert records[0].input_name == records[1].input_name == "two.ome.tif"
    assert records[0].psf == records[1].psf


def test_saved_settings_name_the_channel_and_run_on_the_layer_all_the_same(
    bench, two_channels, tmp_path
):
    bench.choose("slow")
    _, second = bench.viewer.open(str(two_channels), plugin="zenhance")
    bench.dock.form.source.choose(second)
    bench.dock.save_settings(tmp_path / "mine.yaml")
    assert EnhanceRequest.from_yaml((tmp_path / "mine.yaml").read_text()).channel == 1
    bench.dock.load_settings(tmp_path / "mine.yaml")
    assert bench.dock.request().channel is None
    (result,) = bench.run()
    np.testing.assert_array_equal(result.data, second.data.astype(np.float32) + 1)


def test_axes_told_of_the_file_are_shown_for_its_channel(bench, two_channels):
    bench.choose("slow")
    _, second = bench.viewer.open(str(two_channels), plugin="zenhance")
    bench.dock.form.source.choose(second)
    bench.dock.show_request(EnhanceRequest(method="slow", axes="CTYX", channel=1))
    assert bench.dock.request().axes == "TYX"


def facts(letters="ZYX", origins=("file",) * 3, **told):
    return LayerFacts(
        letters,
        (3,) * len(letters),
        VoxelSize(0.5, 0.2, 0.2, origins),
        {"path": "two.ome.tif"} | told,
    )


def test_axes_that_were_named_get_the_channel_axis_of_the_file():
    request = EnhanceRequest(method="identity", axes="TYX")
    told = {"channels": 2, "channel": 0, "axes": "CZYX"}
    recorded = of_file(request, facts(**told))
    assert (recorded.axes, recorded.channel) == ("CTYX", 0)
    recorded = of_file(EnhanceRequest(axes="TYX"), facts(**told | {"axes": "TCYX"}))
    assert recorded.axes == "TCYX"


def test_a_voxel_size_that_was_set_on_the_layer_is_recorded():
    recorded = of_file(EnhanceRequest(), facts(origins=("user", "file", "file")))
    assert recorded.voxel_size_um == (0.5, None, None)


@pytest.mark.parametrize(
    "told",
    [
        {"channels": 1, "channel": 0},
        {"channels": 2, "channel": 1, "derived": True},
        {"path": None, "channels": 2},
    ],
)
def test_layers_that_are_the_whole_file_or_none_are_recorded_as_they_ran(told):
    request = EnhanceRequest(seed=4)
    assert of_file(request, facts(**told)) == request


def test_a_result_is_not_taken_for_the_file_it_was_made_from(bench, two_channels, monkeypatch):
    monkeypatch.setattr(type(bench.dock), "ask", lambda _, question: "already a result" in question)
    bench.choose("slow")
    _, second = bench.viewer.open(str(two_channels), plugin="zenhance")
    bench.dock.form.source.choose(second)
    (result,) = bench.run()
    assert result.metadata["zenhance"]["input_name"] == "two.ome.tif"
    assert json.loads(json.dumps(result.metadata[FILE_KEY]))["derived"] is True
    bench.dock.form.source.choose(result)
    (twice,) = bench.run()
    assert twice.metadata["zenhance"]["input_name"] == result.name
    assert twice.metadata["zenhance"]["request"]["channel"] is None
    assert Snapshot(twice, bench.dock.form.facts_now(), "ZYX").facts.metadata["path"] == str(
        two_channels
    )
