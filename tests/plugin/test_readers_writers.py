"""Reading and writing through napari: voxel size, units, names, channels and provenance come back."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.errors import ReadError, WriteError
from zenhance.plugin.layer_bridge import FILE_KEY
from zenhance.plugin.readers import get_reader, read_layers, stack_layers
from zenhance.plugin.writers import stack_of_layers, write_image, write_images
from zenhance.stack import Stack


@pytest.mark.parametrize("name", ["notes.txt", "cells.png.bak", "/data/folder", "a.csv", "x.h5ad"])
def test_foreign_files_are_left_to_others(name):
    assert get_reader(name) is None


def test_several_files_at_once_are_left_to_others():
    assert get_reader(["a.tif", "b.tif"]) is None


@pytest.mark.parametrize("name", ["A.TIF", "b.ome.tiff", "c.ome.zarr/", "d.czi", "e.lif", "f.nd2", "g.oib", "h.dv", "i.lsm"])
def test_known_files_are_taken_by_name(name):
    assert get_reader(name) is not None


def test_a_broken_file_gives_one_sentence_that_names_it(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0 nothing")
    with pytest.raises(ReadError, match=r"broken\.tif"):
        read_layers(str(tmp_path / "broken.tif"))


def test_channels_become_layers_with_names_and_their_own_optics(cells):
    stack = Stack(
        np.stack([cells, cells + 1]),
        "CZYX",
        channel_names=("wall", "nuclei"),
        name="plant",
        metadata={"emission_nm": [520.0, 610.0], "na": 1.2},
    )
    layers = stack_layers(stack)
    assert [keywords["name"] for _, keywords, _ in layers] == ["plant wall", "plant nuclei"]
    assert [keywords["metadata"][FILE_KEY]["emission_nm"] for _, keywords, _ in layers] == [520.0, 610.0]
    assert [keywords["metadata"][FILE_KEY]["na"] for _, keywords, _ in layers] == [1.2, 1.2]
    assert all(keywords["blending"] == "additive" for _, keywords, _ in layers)
    np.testing.assert_array_equal(layers[1][0], cells + 1)


def test_stacks_too_large_for_memory_are_read_plane_by_plane(monkeypatch, tmp_path, cells):
    import dask.array as da

    from zenhance.io import write_stack
    from zenhance.plugin import readers

    write_stack(tmp_path / "big.ome.tif", Stack.from_array(cells, "ZYX", (0.5, 0.2, 0.2)))
    monkeypatch.setattr(readers, "IN_MEMORY_BYTES", 0)
    ((data, _, _),) = read_layers(str(tmp_path / "big.ome.tif"))
    assert isinstance(data, da.Array)
    np.testing.assert_array_equal(np.asarray(data), cells)


def test_voxel_size_round_trips_through_ome_tiff_and_ome_zarr(make_napari_viewer, tmp_path, cells):
    voxel_um = (0.4567891, 0.1234567, 0.0987654)
    viewer = make_napari_viewer()
    layer = viewer.add_image(cells, scale=voxel_um, units=("micrometer",) * 3, name="cells", axis_labels=("z", "y", "x"))
    for name in ("one.ome.tif", "two.ome.zarr", "three.ome.tif"):
        path = tmp_path / name
        assert layer.save(str(path), plugin="zenhance") == [str(path)]
        (layer,) = viewer.open(str(path), plugin="zenhance")
        np.testing.assert_allclose(layer.scale, voxel_um, rtol=1e-6)
        assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
        assert layer.axis_labels == ("z", "y", "x")
        assert layer.metadata[FILE_KEY]["voxel_size_origins"] == ["file"] * 3
        np.testing.assert_array_equal(np.asarray(layer.data), cells)


def test_imagej_tiff_keeps_the_voxel_size_too(tmp_path, cells):
    keywords = {"scale": (0.5, 0.21, 0.21), "units": ("um",) * 3, "name": "cells"}
    write_image(str(tmp_path / "cells.tif"), cells, keywords)
    ((_, read, _),) = read_layers(str(tmp_path / "cells.tif"))
    np.testing.assert_allclose(read["scale"], (0.5, 0.21, 0.21), rtol=1e-6)


def test_an_unknown_voxel_size_stays_unknown(tmp_path, cells):
    write_image(str(tmp_path / "cells.ome.tif"), cells, {"name": "cells"})
    ((_, read, _),) = read_layers(str(tmp_path / "cells.ome.tif"))
    assert read["units"] == ["pixel"] * 3
    assert read["metadata"][FILE_KEY]["voxel_size_um"] == [None] * 3


def test_several_layers_become_channels(tmp_path, cells):
    keywords = {"scale": (0.5, 0.2, 0.2), "units": ("um",) * 3}
    layers = [(cells, {"name": "wall"} | keywords, "image"), (cells + 1, {"name": "nuclei"} | keywords, "image")]
    write_images(str(tmp_path / "both.ome.tif"), layers)
    read = read_layers(str(tmp_path / "both.ome.tif"))
    assert [entry[1]["name"] for entry in read] == ["both wall", "both nuclei"]
    np.testing.assert_array_equal(read[1][0], cells + 1)


def test_provenance_travels_through_the_file(bench, cells, tmp_path):
    bench.choose("slow", steps=3)
    bench.add(cells)
    (result,) = bench.run()
    result.save(str(tmp_path / "better.ome.tif"), plugin="zenhance")
    (again,) = bench.viewer.open(str(tmp_path / "better.ome.tif"), plugin="zenhance")
    assert again.metadata["zenhance"] == result.metadata["zenhance"]
    bench.dock.form.source.choose(again)
    assert "0.5 × 0.2 × 0.2 µm (file)" in bench.dock.form.source.line.text()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ((np.zeros((6, 20, 25), np.uint16), {"scale": (0.5, 0.2, 0.2)}), "do not fit into one file"),
        ((np.zeros((6, 20, 24), np.uint16), {"scale": (0.6, 0.2, 0.2)}), "different voxel sizes"),
        ((np.zeros((6, 20, 24), np.float32), {"scale": (0.5, 0.2, 0.2)}), "different pixel types"),
        ((np.zeros((6, 20, 24, 3), np.uint8), {"rgb": True}), "is a colour image"),
    ],
)
def test_layers_that_do_not_belong_together_are_refused(cells, other, says):
    with pytest.raises(WriteError, match=says):
        stack_of_layers([(cells, {"scale": (0.5, 0.2, 0.2), "name": "a"}, "image"), (*other, "image")])


def test_the_file_a_layer_came_from_is_never_overwritten(tmp_path, cells):
    path = tmp_path / "raw.ome.tif"
    write_image(str(path), cells, {"name": "raw"})
    before = path.read_bytes()
    ((data, keywords, _),) = read_layers(str(path))
    with pytest.raises(WriteError, match="is the input"):
        write_image(str(path), data, keywords)
    assert path.read_bytes() == before


def test_the_samples_open_with_their_voxel_size(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.open_sample("zenhance", "meristem_deep")
    viewer.open_sample("zenhance", "meristem_two_channel")
    assert len(viewer.layers) == 3
    for layer in viewer.layers:
        assert [str(unit) for unit in layer.units[-3:]] == ["micrometer"] * 3
        assert layer.axis_labels[-3:] == ("z", "y", "x")
        assert all(0.1 <= length <= 2.0 for length in layer.scale[-3:])


def test_real_files_open_in_napari_with_their_voxel_size(make_napari_viewer, shared_data):
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(shared_data / "plant_tissue" / "p60_floral_meristem_membrane_raw.tif"), plugin="zenhance")
    assert layer.ndim == 3
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    layers = viewer.open(str(shared_data / "formats" / "olympus_3channel.oib"), plugin="zenhance")
    assert len(layers) == 3
