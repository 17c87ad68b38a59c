"""Reading and writing through napari: voxel size, units, names, channels and provenance return."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

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


@pytest.mark.parametrize(
    "name",
    ["A.TIF", "b.ome.tiff", "c.ome.zarr/", "d.czi", "e.lif", "f.nd2", "g.oib", "h.dv", "i.lsm"],
)
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
    assert [keywords["metadata"][FILE_KEY]["emission_nm"] for _, keywords, _ in layers] == [
        520.0,
        610.0,
    ]
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
    layer = viewer.add_image(
        cells, scale=voxel_um, units=("micrometer",) * 3, name="cells", axis_labels=("z", "y", "x")
    )
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
    layers = [
        (cells, {"name": "wall"} | keywords, "image"),
        (cells + 1, {"name": "nuclei"} | keywords, "image"),
    ]
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
        (
            (np.zeros((6, 20, 25), np.uint16), {"scale": (0.5, 0.2, 0.2)}),
            "do not fit into one file",
        ),
        ((np.zeros((6, 20, 24), np.uint16), {"scale": (0.6, 0.2, 0.2)}), "different voxel sizes"),
        ((np.zeros((6, 20, 24), np.float32), {"scale": (0.5, 0.2, 0.2)}), "different pixel types"),
        ((np.zeros((6, 20, 24, 3), np.uint8), {"rgb": True}), "is a colour image"),
    ],
)
def test_layers_that_do_not_belong_together_are_refused(cells, other, says):
    with pytest.raises(WriteError, match=says):
        stack_of_layers(
            [(cells, {"scale": (0.5, 0.2, 0.2), "name": "a"}, "image"), (*other, "image")], print
        )


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
    (layer,) = viewer.open(
        str(shared_data / "plant_tissue" / "p60_floral_meristem_membrane_raw.tif"),
        plugin="zenhance",
    )
    assert layer.ndim == 3
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    layers = viewer.open(str(shared_data / "formats" / "olympus_3channel.oib"), plugin="zenhance")
    assert len(layers) == 3


@pytest.mark.parametrize("ending", ["ome.tif", "ome.zarr"])
def test_the_place_of_a_layer_comes_back(make_napari_viewer, tmp_path, cells, ending):
    viewer = make_napari_viewer()
    stretch = np.diag([2.0, 1.0, 1.0, 1.0])
    stretch[:3, 3] = (1.0, 0.0, -4.0)
    layer = viewer.add_image(
        cells, scale=(250, 200, 200), translate=(1500, 4000, 5000), units=("nm",) * 3, name="cells"
    )
    layer.affine = stretch
    # Worked out by hand: 2 x 1500 + 1, 4000, 5000 - 4, in nm.
    layer.save(str(tmp_path / f"a.{ending}"), plugin="zenhance")
    (again,) = viewer.open(str(tmp_path / f"a.{ending}"), plugin="zenhance")
    np.testing.assert_allclose(again.translate, (3.001, 4.0, 4.996))
    np.testing.assert_allclose(again.scale, (0.5, 0.2, 0.2))


def test_of_a_turned_layer_the_user_is_told_that_its_place_is_not_kept(
    make_napari_viewer, tmp_path, cells, monkeypatch
):
    from zenhance.plugin import writers

    told = []
    monkeypatch.setattr(writers, "show_warning", told.append)
    layer = make_napari_viewer().add_image(
        cells, scale=(0.5, 0.2, 0.2), rotate=20.0, translate=(1, 2, 3), name="cells"
    )
    layer.save(str(tmp_path / "a.ome.tif"), plugin="zenhance")
    assert "rotated, sheared or mirrored" in told[0]
    assert read_layers(str(tmp_path / "a.ome.tif"))[0][1]["translate"] == [0.0, 0.0, 0.0]


def test_a_result_of_a_part_lies_where_the_part_lies_also_on_disk(bench, cells, tmp_path):
    from zenhance.pipeline import EnhanceRequest

    write_image(
        str(tmp_path / "raw.ome.tif"),
        cells,
        {"scale": (0.5, 0.2, 0.2), "translate": (10, 20, 30), "name": "raw"},
    )
    (layer,) = bench.viewer.open(str(tmp_path / "raw.ome.tif"), plugin="zenhance")
    bench.dock.form.source.choose(layer)
    bench.dock.show_request(EnhanceRequest(method="identity", crop=((1, 4), (2, 12), (5, 20))))
    (result,) = bench.run()
    result.save(str(tmp_path / "part.ome.tif"), plugin="zenhance")
    ((_, read, _),) = read_layers(str(tmp_path / "part.ome.tif"))
    assert read["translate"] == pytest.approx((10.5, 20.4, 31.0))


def test_no_file_that_any_of_the_layers_came_from_is_overwritten(tmp_path, cells):
    keywords = {"scale": (0.5, 0.2, 0.2), "units": ("um",) * 3}
    paths = [tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"]
    for path in paths:
        write_image(str(path), cells, keywords | {"name": path.name[0]})
    before = [path.read_bytes() for path in paths]
    layers = [read_layers(str(path))[0] for path in paths]
    for path in paths:
        with pytest.raises(WriteError, match="is the input"):
            write_images(str(path), layers)
    assert [path.read_bytes() for path in paths] == before


def two_files(folder, cells):
    """An OME-TIFF whose second half is in a second file, as microscopes write it."""
    import tifffile

    half = len(cells) // 2
    xml = (
        '<?xml version="1.0"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint16" SizeX="24" SizeY="20" SizeZ="6" SizeC="1" SizeT="1" '
        'PhysicalSizeX="0.2" PhysicalSizeY="0.2" PhysicalSizeZ="0.5">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{}</Pixels>'
        "</Image></OME>"
    )
    data = "".join(
        f'<TiffData IFD="{z % half}" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{"ab"[z // half]}.ome.tif">urn:uuid:'
        f"0000000{z // half}-0000-4000-8000-000000000000</UUID></TiffData>"
        for z in range(len(cells))
    )
    for number, name in enumerate("ab"):
        text = xml.format(data).replace(
            "<OME ", f'<OME UUID="urn:uuid:0000000{number}-0000-4000-8000-000000000000" '
        )
        planes = cells[number * half : (number + 1) * half]
        tifffile.imwrite(
            folder / f"{name}.ome.tif",
            planes,
            description=text.encode(),
            metadata=None,
            photometric="minisblack",
        )


def test_a_result_of_an_image_in_two_files_is_saved_and_neither_file_is_overwritten(
    bench, tmp_path, cells
):
    two_files(tmp_path, cells)
    (layer,) = bench.viewer.open(str(tmp_path / "a.ome.tif"), plugin="zenhance")
    np.testing.assert_array_equal(np.asarray(layer.data), cells)
    assert layer.metadata[FILE_KEY]["parts"] == [str(tmp_path / "b.ome.tif")]
    bench.choose("slow")
    bench.dock.form.source.choose(layer)
    (result,) = bench.run()
    assert result.save(str(tmp_path / "res.ome.tif"), plugin="zenhance")
    before = (tmp_path / "b.ome.tif").read_bytes()
    with pytest.raises(WriteError, match="is the input"):
        result.save(str(tmp_path / "b.ome.tif"), plugin="zenhance")
    assert (tmp_path / "b.ome.tif").read_bytes() == before


def test_a_file_with_the_record_of_a_later_version_opens_and_keeps_it(tmp_path, cells):
    from zenhance.io import open_stack, write_stack

    record = {"version": "9.0", "request": {"method": "future"}, "mood": ["good"]}
    write_stack(tmp_path / "new.ome.tif", Stack(cells, "ZYX", metadata={"zenhance": record}))
    ((data, keywords, _),) = read_layers(str(tmp_path / "new.ome.tif"))
    assert keywords["metadata"]["zenhance"] == record
    write_image(str(tmp_path / "copy.ome.tif"), data, keywords)
    assert json.loads(open_stack(tmp_path / "copy.ome.tif").metadata["zenhance"]) == record


def test_a_record_that_cannot_be_read_does_not_keep_a_file_from_opening(cells, caplog):
    ((_, keywords, _),) = stack_layers(Stack(cells, "ZYX", metadata={"zenhance": "{"}, name="odd"))
    assert "zenhance" not in keywords["metadata"]
    assert 'the provenance record in "odd" cannot be read' in caplog.text


@pytest.mark.parametrize(
    ("names", "colours"),
    [
        (("red", "green", "blue"), ["red", "green", "blue"]),
        (("Blue ", "RED", "green", "alpha"), ["blue", "red", "green", "gray"]),
        (("wall", "green"), ["magenta", "green"]),
        (("EGFP", "mCherry", "DAPI"), ["green", "magenta", "cyan"]),
        ((), ["green", "magenta"]),
    ],
)
def test_a_channel_named_after_a_colour_has_it_and_no_two_channels_share_one(names, colours):
    shape = (len(colours), 4, 5, 6)
    stack = Stack(np.zeros(shape, np.uint8), "CZYX", channel_names=names)
    assert [keywords["colormap"] for _, keywords, _ in stack_layers(stack)] == colours


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_the_layer_of_each_colour_of_a_picture_has_that_name_and_colour(tmp_path, ending):
    picture = np.random.default_rng(0).integers(0, 255, (16, 20, 3), dtype=np.uint8)
    path = tmp_path / f"picture{ending}"
    if ending == ".png":
        from PIL import Image

        Image.fromarray(picture).save(path)
    else:
        tifffile.imwrite(path, picture, photometric="rgb")
    for index, (data, keywords, _) in enumerate(read_layers(str(path))):
        np.testing.assert_array_equal(data, picture[..., index])
        colour = ("red", "green", "blue")[index]
        assert (keywords["name"], keywords["colormap"]) == (f"picture {colour}", colour)


def test_of_a_file_with_several_images_the_reader_says_which_one_it_shows(
    bench, tmp_path, cells, monkeypatch
):
    from zenhance.plugin import readers

    told = []
    monkeypatch.setattr(readers, "show_warning", told.append)
    path = tmp_path / "positions.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        for offset in range(3):
            file.write(cells + offset, metadata={"axes": "ZYX"})
    (layer,) = bench.viewer.open(str(path), plugin="zenhance")
    np.testing.assert_array_equal(layer.data, cells)
    assert "image 1 of 3 is shown" in told[0]
    bench.dock.form.source.choose(layer)
    assert "image 1 of 3 of its file" in bench.dock.form.source.line.text()
    one = tmp_path / "one.ome.tif"
    tifffile.imwrite(one, cells, metadata={"axes": "ZYX"})
    read_layers(str(one))
    assert len(told) == 1
