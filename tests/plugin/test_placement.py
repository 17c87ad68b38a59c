"""Where results lie in the world: worked out by hand from napari's order of transforms."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from zenhance.plugin.placement import Placement

TURNED = {
    "scale": (2.0, 0.5, 0.5),
    "translate": (10.0, 20.0, 30.0),
    "rotate": 30.0,
    "shear": (0.1, 0.2, 0.3),
    "affine": np.array([[1, 0, 0, 5], [0, 0, -1, 6], [0, 1, 0, 7], [0, 0, 0, 1]], dtype=float),
    "units": ("micrometer",) * 3,
    "axis_labels": ("z", "y", "x"),
}


def turned_layer(shape=(4, 6, 8), **changes):
    return Image(np.zeros(shape), **(TURNED | changes))


def world(layer, index):
    return np.asarray(layer.data_to_world(index))


def test_keywords_put_a_second_layer_on_the_first():
    layer = turned_layer()
    twin = Image(np.zeros((4, 6, 8)), **Placement.of_layer(layer, "ZYX").keywords())
    for index in [(0, 0, 0), (1, 2, 3), (3, 5, 7)]:
        np.testing.assert_allclose(world(twin, index), world(layer, index), atol=1e-9)
    assert twin.units == layer.units
    assert twin.axis_labels == ("z", "y", "x")


def test_a_crop_lies_where_it_was_cut_out():
    layer = turned_layer()
    part = Image(
        np.zeros((2, 3, 4)),
        **Placement.of_layer(layer, "ZYX").cropped({"Z": 1, "Y": 2, "X": 3}).keywords(),
    )
    np.testing.assert_allclose(world(part, (0, 0, 0)), world(layer, (1, 2, 3)), atol=1e-9)
    np.testing.assert_allclose(world(part, (1, 2, 3)), world(layer, (2, 4, 6)), atol=1e-9)


def test_a_finer_grid_covers_the_same_field():
    layer = turned_layer()
    fine = Image(
        np.zeros((8, 12, 24)),
        **Placement.of_layer(layer, "ZYX").resized({"Z": 2, "Y": 2, "X": 3}).keywords(),
    )
    # Edges of voxels lie half a voxel before their centres, on either grid.
    np.testing.assert_allclose(
        world(fine, (-0.5, -0.5, -0.5)), world(layer, (-0.5, -0.5, -0.5)), atol=1e-9
    )
    np.testing.assert_allclose(
        world(fine, (7.5, 11.5, 23.5)), world(layer, (3.5, 5.5, 7.5)), atol=1e-9
    )


def test_translate_moves_by_half_the_difference_of_the_voxel_sizes():
    layer = Image(np.zeros((4, 6, 8)), scale=(2.0, 0.5, 0.5), translate=(1.0, 1.0, 1.0))
    fine = Placement.of_layer(layer, "ZYX").resized({"Z": 2, "Y": 5, "X": 1})
    np.testing.assert_allclose(fine.scale, (1.0, 0.1, 0.5))
    np.testing.assert_allclose(fine.translate, (1.0 + (1.0 - 2.0) / 2, 1.0 + (0.1 - 0.5) / 2, 1.0))


def test_an_axis_can_be_taken_away():
    layer = Image(
        np.zeros((2, 4, 6, 8)),
        scale=(1.0, 2.0, 0.5, 0.4),
        translate=(9.0, 1.0, 2.0, 3.0),
        axis_labels=("c", "z", "y", "x"),
    )
    rest = Placement.of_layer(layer, "CZYX").without("C")
    assert rest.axes == "ZYX"
    assert rest.axis_labels == ("z", "y", "x")
    np.testing.assert_allclose(rest.scale, (2.0, 0.5, 0.4))
    np.testing.assert_allclose(rest.translate, (1.0, 2.0, 3.0))
    assert rest.affine.shape == (4, 4)


@pytest.mark.parametrize(
    ("unit", "um"),
    [("micrometer", 1.0), ("nm", 1e-3), ("mm", 1e3), ("pixel", None), ("second", None)],
)
def test_units_of_length_are_told_in_micrometres(unit, um):
    from zenhance.plugin.placement import micrometres

    assert micrometres(unit) == (None if um is None else pytest.approx(um))
