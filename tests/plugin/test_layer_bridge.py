"""What is understood of a layer: axes, voxel size with its origin, colours, pyramids."""

from __future__ import annotations

import json

import numpy as np
import pytest
from napari.layers import Image

from zenhance.errors import StackError
from zenhance.plugin.layer_bridge import (
    FILE_KEY,
    Luminance,
    pixels,
    plain_json,
    read_facts,
    set_voxel_size,
)


def test_axis_labels_name_the_axes():
    facts = read_facts(Image(np.zeros((2, 3, 4, 5)), axis_labels=("c", "z", "y", "x")))
    assert facts.axes == facts.base_axes == "CZYX"


@pytest.mark.parametrize(("ndim", "axes"), [(2, "YX"), (3, "ZYX"), (4, "TZYX"), (5, "TCZYX")])
def test_layers_without_labels_get_the_usual_axes(ndim, axes):
    assert read_facts(Image(np.zeros((3,) * ndim))).axes == axes


def test_axes_in_another_order_are_kept_for_the_request_to_transpose():
    facts = read_facts(
        Image(
            np.zeros((3, 4, 5)),
            axis_labels=("x", "y", "z"),
            scale=(0.1, 0.2, 0.7),
            units=("um",) * 3,
        )
    )
    assert facts.axes == "XYZ"
    assert facts.base_axes == "ZYX"
    assert facts.voxel_size.zyx_um == pytest.approx((0.7, 0.2, 0.1))


def test_scale_in_nanometres_is_told_in_micrometres():
    facts = read_facts(Image(np.zeros((3, 4, 5)), scale=(500, 220, 220), units=("nm",) * 3))
    assert facts.voxel_size.zyx_um == pytest.approx((0.5, 0.22, 0.22))
    assert facts.voxel_size.origins == ("user",) * 3


def test_a_scale_without_units_is_taken_as_micrometres():
    assert read_facts(
        Image(np.zeros((3, 4, 5)), scale=(0.5, 0.2, 0.2))
    ).voxel_size.zyx_um == pytest.approx((0.5, 0.2, 0.2))


def test_the_default_scale_means_that_the_voxel_size_is_unknown():
    assert read_facts(Image(np.zeros((3, 4, 5)))).voxel_size.zyx_um == (None, None, None)


def test_an_affine_that_stretches_counts():
    stretch = np.diag([2.0, 1.0, 1.0, 1.0])
    facts = read_facts(
        Image(np.zeros((3, 4, 5)), scale=(0.5, 0.2, 0.2), units=("um",) * 3, affine=stretch)
    )
    assert facts.voxel_size.z_um == pytest.approx(1.0)


def test_lengths_of_the_file_keep_their_origin_until_the_scale_is_changed():
    record = {"voxel_size_um": [None, 0.2, 0.2], "voxel_size_origins": ["unknown", "file", "file"]}
    layer = Image(
        np.zeros((3, 4, 5)), scale=(1.0, 0.2, 0.2), units=("um",) * 3, metadata={FILE_KEY: record}
    )
    facts = read_facts(layer)
    assert facts.voxel_size.zyx_um == (None, 0.2, 0.2)
    assert facts.voxel_size.origins == ("unknown", "file", "file")
    layer.scale = (0.7, 0.2, 0.3)
    facts = read_facts(layer)
    assert facts.voxel_size.zyx_um == pytest.approx((0.7, 0.2, 0.3))
    assert facts.voxel_size.origins == ("user", "file", "user")


def test_colour_images_give_their_luminance():
    colours = np.zeros((4, 5, 3), dtype=np.uint8)
    colours[0, 0] = (100, 0, 0)
    colours[1, 1] = (10, 10, 10)
    layer = Image(colours, rgb=True)
    facts = read_facts(layer)
    assert facts.axes == "YX"
    assert "luminance" in facts.note
    grey = pixels(layer)
    assert grey.shape == (4, 5)
    assert grey[0, 0] == pytest.approx(21.26)
    assert grey[1, 1] == pytest.approx(10.0, rel=1e-6)
    assert Luminance(colours).transpose((1, 0)).shape == (5, 4)


def test_pyramids_give_their_finest_level():
    layer = Image([np.ones((8, 64, 64)), np.ones((4, 32, 32))], multiscale=True)
    facts = read_facts(layer)
    assert facts.shape == (8, 64, 64)
    assert "finest" in facts.note


def test_layers_of_six_dimensions_are_refused_in_words():
    with pytest.raises(StackError, match="has 6 dimensions; 2 to 5 .* are allowed"):
        read_facts(Image(np.zeros((2,) * 6)))


def test_metadata_become_plain_json():
    value = plain_json({"a": np.float32(1.5), 2: (np.array([1, 2]), None), "p": pytest})
    assert json.loads(json.dumps(value))["2"] == [[1, 2], None]
    assert value["a"] == 1.5


def test_a_typed_length_is_the_length_in_the_world_whatever_the_affine_does():
    layer = Image(
        np.zeros((3, 4, 5)),
        scale=(0.5, 0.2, 0.2),
        units=("um",) * 3,
        affine=np.diag([2.0, 1.0, 1.0, 1.0]),
    )
    assert set_voxel_size(layer, "ZYX", {"Z": 1.5})
    assert read_facts(layer).voxel_size.zyx_um == pytest.approx((1.5, 0.2, 0.2))
    np.testing.assert_allclose(layer.scale, (0.75, 0.2, 0.2))


def test_a_layer_in_nanometres_stays_where_it_is_when_its_lengths_are_typed_in_micrometres():
    shift = np.eye(4)
    shift[:3, 3] = (500, 0, 0)
    layer = Image(
        np.zeros((3, 4, 5)),
        scale=(500, 200, 200),
        translate=(1000, 0, 3000),
        units=("nm",) * 3,
        affine=shift,
    )
    assert set_voxel_size(layer, "ZYX", {"Z": 0.7})
    np.testing.assert_allclose(layer.scale, (0.7, 0.2, 0.2))
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), (1.5, 0, 3.0))
    assert {str(unit) for unit in layer.units} == {"micrometer"}


def test_a_length_that_the_layer_has_already_changes_nothing():
    layer = Image(np.zeros((3, 4, 5)), scale=(500, 200, 200), units=("nm",) * 3)
    assert not set_voxel_size(layer, "ZYX", {"Z": 0.5, "X": 0.2})
    np.testing.assert_allclose(layer.scale, (500, 200, 200))
