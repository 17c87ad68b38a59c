"""What is written is read back: pixels, axes, voxel size, names, light and provenance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zenhance.errors import ReadError, WriteError
from zenhance.io import open_stack, verify_image, write_stack
from zenhance.provenance import Provenance
from zenhance.stack import Stack, VoxelSize

LAYOUTS = [
    ("YX", (13, 11)),
    ("ZYX", (5, 17, 23)),
    ("ZYX", (1, 6, 7)),
    ("ZYX", (4, 1, 1)),
    ("CYX", (2, 6, 7)),
    ("TYX", (3, 4, 4)),
    ("CZYX", (3, 4, 5, 6)),
    ("TCZYX", (2, 3, 4, 9, 8)),
]
DTYPES = {
    "ome.tif": [
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "float32",
        "float64",
        "bool",
    ],
    "tif": ["uint8", "uint16", "int16", "float32"],
    "ome.zarr": [
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "float32",
        "float64",
        "bool",
    ],
}
LIGHT = {
    "na": 1.2,
    "refractive_index": 1.33,
    "excitation_nm": 488.0,
    "emission_nm": 520.0,
    "pinhole_au": 1.1,
    "modality": "confocal",
}


def assert_same_lengths(found: tuple[float | None, ...], meant: tuple[float | None, ...]) -> None:
    """Compare voxel sizes to 1e-6; unknown only equals unknown."""
    assert [v is None for v in found] == [v is None for v in meant]
    assert [v for v in found if v is not None] == pytest.approx(
        [v for v in meant if v is not None], rel=1e-6
    )


def make_stack(
    axes: str, shape: tuple[int, ...], dtype: str = "uint16", **changes: object
) -> Stack:
    pixels = (
        np.random.default_rng(7).random(shape) * 200 - (60 if np.dtype(dtype).kind in "if" else 0)
    ).astype(dtype)
    voxel_um = (0.37, 0.1234567, 0.0712345) if "Z" in axes else (0.1234567, 0.0712345)
    names = tuple(f"channel {i} µ" for i in range(shape[axes.index("C")])) if "C" in axes else ()
    given = {"voxel_size_um": voxel_um, "channel_names": names, "metadata": dict(LIGHT), **changes}
    return Stack.from_array(pixels, axes, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ending", "dtype"), [(e, d) for e, names in DTYPES.items() for d in names]
)
def test_each_pixel_type_comes_back_equal(tmp_path: Path, ending: str, dtype: str) -> None:
    stack = make_stack("CZYX", (2, 3, 7, 5), dtype)
    back = open_stack(write_stack(tmp_path / f"a.{ending}", stack))
    assert back.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(back.data[...]), stack.data)


@pytest.mark.parametrize("ending", list(DTYPES))
@pytest.mark.parametrize(("axes", "shape"), LAYOUTS)
def test_axes_voxel_size_names_and_provenance_come_back(
    tmp_path: Path, ending: str, axes: str, shape: tuple[int, ...]
) -> None:
    stack = make_stack(axes, shape)
    record = Provenance(version="0.1", request={"method": "identity", "note": "µ < & >"})
    back = open_stack(write_stack(tmp_path / f"a.{ending}", stack, provenance=record))
    assert (back.axes, back.shape, back.channel_names) == (axes, shape, stack.channel_names)
    assert_same_lengths(back.voxel_size.zyx_um, stack.voxel_size.zyx_um)
    assert back.voxel_size.origin(back.spatial_axes) == "file"
    assert Provenance.find(back.metadata) == record
    np.testing.assert_array_equal(np.asarray(back.data[...]), stack.data)


@pytest.mark.parametrize("ending", ["ome.tif", "ome.zarr"])
def test_the_light_and_the_objective_come_back(tmp_path: Path, ending: str) -> None:
    back = open_stack(write_stack(tmp_path / f"a.{ending}", make_stack("ZYX", (2, 3, 4))))
    assert {k: back.metadata[k] for k in LIGHT} == LIGHT


@pytest.mark.parametrize("ending", ["ome.tif", "ome.zarr"])
def test_wavelengths_come_back_per_channel(tmp_path: Path, ending: str) -> None:
    stack = make_stack("CYX", (2, 3, 4), metadata={"excitation_nm": [405.0, 561.0]})
    assert open_stack(write_stack(tmp_path / f"a.{ending}", stack)).metadata["excitation_nm"] == [
        405.0,
        561.0,
    ]


@pytest.mark.parametrize("ending", list(DTYPES))
def test_unknown_voxel_sizes_stay_unknown(tmp_path: Path, ending: str) -> None:
    back = open_stack(
        write_stack(tmp_path / f"a.{ending}", make_stack("ZYX", (5, 6, 7), voxel_size_um=None))
    )
    assert back.voxel_size.zyx_um == (None, None, None)


@pytest.mark.parametrize("ending", list(DTYPES))
def test_a_depth_alone_unknown_stays_alone_unknown(tmp_path: Path, ending: str) -> None:
    back = open_stack(
        write_stack(
            tmp_path / f"a.{ending}", make_stack("ZYX", (5, 6, 7), voxel_size_um=(None, 0.2, 0.1))
        )
    )
    assert_same_lengths(back.voxel_size.zyx_um, (None, 0.2, 0.1))


def test_an_imagej_file_that_cannot_say_y_without_x_says_neither(tmp_path: Path) -> None:
    back = open_stack(
        write_stack(
            tmp_path / "a.tif", make_stack("ZYX", (5, 6, 7), voxel_size_um=(0.5, None, 0.1))
        )
    )
    assert back.voxel_size.zyx_um == (0.5, None, None)


@pytest.mark.parametrize("ending", list(DTYPES))
@pytest.mark.parametrize("length_um", [0.001, 0.0333333333333333, 1.0, 7.77777777777, 999.9])
def test_voxel_sizes_keep_six_digits(tmp_path: Path, ending: str, length_um: float) -> None:
    stack = make_stack(
        "ZYX", (5, 6, 7), voxel_size_um=(length_um, length_um * 1.0000001, length_um)
    )
    back = open_stack(write_stack(tmp_path / f"a.{ending}", stack))
    assert_same_lengths(back.voxel_size.zyx_um, stack.voxel_size.zyx_um)


@pytest.mark.parametrize("ending", list(DTYPES))
def test_a_stack_goes_through_all_formats_unchanged(tmp_path: Path, ending: str) -> None:
    first = make_stack("TCZYX", (2, 2, 3, 8, 9))
    stack = open_stack(write_stack(tmp_path / "1.ome.tif", first))
    stack = open_stack(write_stack(tmp_path / "2.ome.zarr", stack))
    stack = open_stack(write_stack(tmp_path / f"3.{ending}", stack))
    np.testing.assert_array_equal(np.asarray(stack.data[...]), first.data)
    assert stack.voxel_size.zyx_um == pytest.approx(first.voxel_size.zyx_um, rel=1e-6)


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_compression_changes_no_pixel(tmp_path: Path, compression: str) -> None:
    stack = make_stack("ZYX", (5, 64, 65), "float32")
    back = open_stack(write_stack(tmp_path / "a.ome.tif", stack, compression=compression))  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(back.data[...]), stack.data)


@pytest.mark.parametrize(
    ("ending", "dtype", "words"),
    [("ome.tif", "float16", "no float16 pixels"), ("tif", "int32", "no int32 pixels")],
)
def test_a_format_without_the_pixel_type_is_refused(
    tmp_path: Path, ending: str, dtype: str, words: str
) -> None:
    with pytest.raises(WriteError, match=words):
        write_stack(tmp_path / f"a.{ending}", make_stack("YX", (3, 4), dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a", ".ome.tif", "a.zarr.txt"])
def test_an_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WriteError, match="end the name in"):
        write_stack(tmp_path / name, make_stack("YX", (3, 4)))


@pytest.mark.parametrize("ending", list(DTYPES))
def test_every_plane_is_verified(tmp_path: Path, ending: str) -> None:
    assert (
        verify_image(write_stack(tmp_path / f"a.{ending}", make_stack("TCZYX", (2, 3, 4, 5, 6))))
        == 24
    )


@pytest.mark.parametrize("ending", list(DTYPES))
@pytest.mark.parametrize(
    "kind",
    ["fortran", "negative", "readonly", "big-endian", "dask", "zarr", "memmap", "transposed"],
)
def test_arrays_of_every_make_are_written_alike(tmp_path: Path, ending: str, kind: str) -> None:
    import dask.array
    import zarr

    meant = make_stack("ZYX", (5, 17, 23)).data
    assert isinstance(meant, np.ndarray)
    if kind == "memmap":
        mapped = np.memmap(tmp_path / "raw", meant.dtype, "w+", shape=meant.shape)
        mapped[:] = meant
    made = {
        "fortran": lambda: np.asfortranarray(meant),
        "negative": lambda: np.ascontiguousarray(meant[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
        "readonly": lambda: np.frombuffer(meant.tobytes(), meant.dtype).reshape(meant.shape),
        "big-endian": lambda: meant.astype(">u2"),
        "dask": lambda: dask.array.from_array(meant, chunks=(2, 8, 8)),
        "zarr": lambda: zarr.create_array(
            store=str(tmp_path / "b.zarr"), data=meant, chunks=(2, 8, 8)
        ),
        "memmap": lambda: mapped,
        "transposed": lambda: np.ascontiguousarray(meant.transpose(2, 1, 0)),
    }[kind]()
    stack = Stack.from_array(made, "XYZ" if kind == "transposed" else "ZYX", (0.3, 0.2, 0.1))
    back = open_stack(write_stack(tmp_path / f"a.{ending}", stack))
    np.testing.assert_array_equal(np.asarray(back.data[...]), meant)


@pytest.mark.parametrize("ending", list(DTYPES))
def test_odd_channel_names_come_back_exactly(tmp_path: Path, ending: str) -> None:
    names = ("", 'a<&>"b', "tab\tbell\x07")
    stack = make_stack("CYX", (3, 4, 5), channel_names=names)
    assert open_stack(write_stack(tmp_path / f"a.{ending}", stack)).channel_names == names


@pytest.mark.parametrize("ending", list(DTYPES))
def test_not_a_number_and_infinity_are_kept(tmp_path: Path, ending: str) -> None:
    pixels = np.array([[[np.nan, np.inf], [-np.inf, 1.5]]] * 5, np.float32)
    back = open_stack(write_stack(tmp_path / f"a.{ending}", Stack.from_array(pixels, "ZYX")))
    np.testing.assert_array_equal(np.asarray(back.data[...]), pixels)


def test_the_record_of_the_input_travels_on_and_must_be_json(tmp_path: Path) -> None:
    record = Provenance(version="0.1", request={"seed": 3})
    first = open_stack(
        write_stack(tmp_path / "1.ome.tif", make_stack("YX", (4, 5)), provenance=record)
    )
    assert Provenance.find(open_stack(write_stack(tmp_path / "2.tif", first)).metadata) == record
    with pytest.raises(WriteError, match="provenance is not JSON"):
        write_stack(tmp_path / "3.ome.tif", first, provenance="{")


def test_a_record_of_a_later_version_travels_on_whole(tmp_path: Path) -> None:
    record = {"version": "9.0", "request": {}, "mood": {"of": "the microscope"}}
    for place in ("1.ome.tif", "2.ome.zarr", "3.tif"):
        stack = make_stack("YX", (4, 5))
        back = open_stack(
            write_stack(
                tmp_path / place, stack.with_data(stack.data, metadata={"zenhance": record})
            )
        )
        assert json.loads(back.metadata["zenhance"]) == record
        found = Provenance.find(back.metadata)
        assert found is not None
        assert found.version == "9.0"


def test_a_damaged_record_of_the_input_does_not_keep_a_result_from_being_written(
    tmp_path: Path,
) -> None:
    stack = make_stack("YX", (4, 5))
    with pytest.warns(UserWarning, match="provenance record cannot be read"):
        path = write_stack(
            tmp_path / "a.ome.tif", stack.with_data(stack.data, metadata={"zenhance": "{"})
        )
    assert "zenhance" not in open_stack(path).metadata


def test_large_images_become_bigtiff_and_no_imagej_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zenhance.io.write_tiff.BIG_BYTES", 1000)
    stack = make_stack("ZYX", (5, 17, 23))
    path = write_stack(tmp_path / "a.ome.tif", stack)
    assert path.read_bytes()[:4] == b"II+\0"
    np.testing.assert_array_equal(np.asarray(open_stack(path).data), stack.data)
    with pytest.raises(WriteError, match=r"an ImageJ TIFF ends at 3.9 GB"):
        write_stack(tmp_path / "a.tif", stack)


def test_stacks_are_written_and_verified_in_slabs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lazy array that counts what is asked for at once: never more than the slab allows."""
    monkeypatch.setattr("zenhance.io.write_tiff.SLAB_BYTES", 2 * 17 * 23 * 2)
    monkeypatch.setattr("zenhance.io.write_zarr.SLAB_BYTES", 2 * 17 * 23 * 2)
    whole = make_stack("ZYX", (9, 17, 23)).data
    asked: list[int] = []

    class Counting:
        shape, dtype = whole.shape, whole.dtype

        def __getitem__(self, key: object) -> object:
            block = whole[key]
            asked.append(block.size)
            return block

    for ending in DTYPES:
        write_stack(tmp_path / f"a.{ending}", Stack(Counting(), "ZYX"))
    assert max(asked) == 2 * 17 * 23
    assert sum(asked) == 3 * 9 * 17 * 23


def test_imagej_itself_would_read_the_calibration(tmp_path: Path) -> None:
    """The tags and the description as ImageJ documents them, read by an independent library."""
    import tifffile

    path = write_stack(tmp_path / "a.tif", make_stack("TCZYX", (2, 3, 4, 9, 8)))
    with tifffile.TiffFile(path) as tif:
        assert tif.is_imagej
        metadata = tif.imagej_metadata
        assert (metadata["frames"], metadata["channels"], metadata["slices"]) == (2, 3, 4)
        assert (metadata["unit"], metadata["spacing"]) == ("micron", 0.37)
        top, bottom = tif.pages[0].tags["XResolution"].value
        assert bottom / top == pytest.approx(0.0712345, rel=1e-8)
        assert tif.series[0].axes == "TZCYX"


def test_ome_libraries_read_our_metadata(tmp_path: Path) -> None:
    ome_types = pytest.importorskip("ome_types")
    import tifffile

    path = write_stack(tmp_path / "a.ome.tif", make_stack("TCZYX", (2, 3, 4, 9, 8)))
    ome = ome_types.from_tiff(path)
    pixels = ome.images[0].pixels
    assert (pixels.physical_size_z, pixels.physical_size_x, pixels.physical_size_x_unit.value) == (
        0.37,
        0.0712345,
        "µm",
    )
    assert [c.name for c in pixels.channels] == ["channel 0 µ", "channel 1 µ", "channel 2 µ"]
    assert ome.instruments[0].objectives[0].lens_na == 1.2
    with tifffile.TiffFile(path) as tif:
        assert (tif.series[0].axes, tif.series[0].shape) == ("TCZYX", (2, 3, 4, 9, 8))


def test_a_foreign_image_cannot_be_verified(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 8), np.uint8))
    with pytest.raises(ReadError, match="carries no checksums"):
        verify_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("axes", "shape"), [("ZYX", (3, 9, 8)), ("CZYX", (2, 3, 9, 8)), ("YX", (9, 8))]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
def test_hdf5_is_what_plantseg_reads(
    axes: str, shape: tuple[int, ...], dtype: str, tmp_path: Path
) -> None:
    """PlantSeg takes the only dataset, its array, and ``element_size_um`` as (z, y, x)."""
    h5py = pytest.importorskip("h5py")
    pixels = (np.arange(np.prod(shape)).reshape(shape) % 251).astype(dtype)
    names = ("membrane", "nuclei") if "C" in axes else ()
    stack = Stack(pixels, axes, VoxelSize.of((0.3, 0.13, 0.11)), channel_names=names)
    path = write_stack(tmp_path / "a.h5", stack, provenance='{"made": "here"}')
    with h5py.File(path) as file:
        assert list(file) == ["raw"]
        assert np.array_equal(file["raw"][...], pixels)
        assert file["raw"].compression == "gzip"
        z_um = 0.3 if "Z" in axes else 1.0
        assert list(file["raw"].attrs["element_size_um"]) == [z_um, 0.13, 0.11]
    back = open_stack(path)
    assert (back.axes, back.channel_names) == (axes, names)
    assert back.metadata["zenhance"] == '{"made": "here"}'
    assert verify_image(path) == np.prod(shape[:-2], dtype=int)


def test_hdf5_drops_axes_of_one_and_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    pixels = np.zeros((1, 1, 3, 9, 8), np.uint8)
    size = VoxelSize.of((0.3, 0.1, 0.1))
    assert open_stack(write_stack(tmp_path / "a.h5", Stack(pixels, "TCZYX", size))).axes == "ZYX"
    with pytest.raises(WriteError, match="no time series, and this image has 2 time points"):
        write_stack(tmp_path / "b.h5", Stack(np.zeros((2, 3, 9, 8), np.uint8), "TZYX", size))
    with pytest.raises(WriteError, match="give it with --voxel-size"):
        write_stack(tmp_path / "c.h5", Stack(pixels[0, 0], "ZYX", VoxelSize.of((None, 0.1, 0.1))))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]


def test_hdf5_takes_any_number_of_checksums(tmp_path: Path) -> None:
    """An attribute of HDF5 is limited to 64 KiB; the checksums of 1100 planes take more."""
    pytest.importorskip("h5py")
    stack = Stack(np.zeros((1100, 2, 2), np.uint8), "ZYX", VoxelSize.of((1.0, 1.0, 1.0)))
    assert verify_image(write_stack(tmp_path / "a.h5", stack)) == 1100
