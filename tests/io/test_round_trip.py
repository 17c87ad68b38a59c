"""What goes out comes back: pixels, dtype, axes, voxel size, names, light and provenance, in every format written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zenhance.errors import ReadError, WriteError
from zenhance.io import open_stack, verify_image, write_stack
from zenhance.provenance import Provenance
from zenhance.stack import Stack

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
    "ome.tif": ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "bool"],
    "tif": ["uint8", "uint16", "float32"],
    "ome.zarr": ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64", "bool"],
}
LIGHT = {"na": 1.2, "refractive_index": 1.33, "excitation_nm": 488.0, "emission_nm": 520.0, "pinhole_au": 1.1, "modality": "confocal"}


def assert_same_lengths(found: tuple[float | None, ...], meant: tuple[float | None, ...]) -> None:
    """Compare voxel sizes to 1e-6; unknown only equals unknown."""
    assert [v is None for v in found] == [v is None for v in meant]
    assert [v for v in found if v is not None] == pytest.approx([v for v in meant if v is not None], rel=1e-6)


def make_stack(axes: str, shape: tuple[int, ...], dtype: str = "uint16", **changes: object) -> Stack:
    pixels = (np.random.default_rng(7).random(shape) * 200 - (60 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
    voxel_um = (0.37, 0.1234567, 0.0712345) if "Z" in axes else (0.1234567, 0.0712345)
    names = tuple(f"channel {i} µ" for i in range(shape[axes.index("C")])) if "C" in axes else ()
    given = {"voxel_size_um": voxel_um, "channel_names": names, "metadata": dict(LIGHT), **changes}
    return Stack.from_array(pixels, axes, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ending", "dtype"), [(e, d) for e, names in DTYPES.items() for d in names])
def test_each_pixel_type_comes_back_equal(tmp_path: Path, ending: str, dtype: str) -> None:
    stack = make_stack("CZYX", (2, 3, 7, 5), dtype)
    back = open_stack(write_stack(tmp_path / f"a.{ending}", stack))
    assert back.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(back.data[...]), stack.data)


@pytest.mark.parametrize("ending", list(DTYPES))
@pytest.mark.parametrize(("axes", "shape"), LAYOUTS)
def test_axes_voxel_size_names_and_provenance_come_back(tmp_path: Path, ending: str, axes: str, shape: tuple[int, ...]) -> None:
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
    assert open_stack(write_stack(tmp_path / f"a.{ending}", stack)).metadata["excitation_nm"] == [405.0, 561.0]


@pytest.mark.parametrize("ending", list(DTYPES))
def test_unknown_voxel_sizes_stay_unknown(tmp_path: Path, ending: str) -> None:
    back = open_stack(write_stack(tmp_path / f"a.{ending}", make_stack("ZYX", (5, 6, 7), voxel_size_um=None)))
    assert back.voxel_size.zyx_um == (None, None, None)


@pytest.mark.parametrize("ending", list(DTYPES))
def test_a_depth_alone_unknown_stays_alone_unknown(tmp_path: Path, ending: str) -> None:
    back = open_stack(write_stack(tmp_path / f"a.{ending}", make_stack("ZYX", (5, 6, 7), voxel_size_um=(None, 0.2, 0.1))))
    assert_same_lengths(back.voxel_size.zyx_um, (None, 0.2, 0.1))


def test_an_imagej_file_that_cannot_say_y_without_x_says_neither(tmp_path: Path) -> None:
    back = open_stack(write_stack(tmp_path / "a.tif", make_stack("ZYX", (5, 6, 7), voxel_size_um=(0.5, None, 0.1))))
    assert back.voxel_size.zyx_um == (0.5, None, None)


@pytest.mark.parametrize("ending", list(DTYPES))
@pytest.mark.parametrize("length_um", [0.001, 0.0333333333333333, 1.0, 7.77777777777, 999.9])
def test_voxel_sizes_keep_six_digits(tmp_path: Path, ending: str, length_um: float) -> None:
    stack = make_stack("ZYX", (5, 6, 7), voxel_size_um=(length_um, length_um * 1.0000001, length_um))
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


@pytest.mark.parametrize(("ending", "dtype", "words"), [("ome.tif", "float16", "no float16 pixels"), ("tif", "int16", "no int16 pixels")])
def test_a_format_without_the_pixel_type_is_refused(tmp_path: Path, ending: str, dtype: str, words: str) -> None:
    with pytest.raises(WriteError, match=words):
        write_stack(tmp_path / f"a.{ending}", make_stack("YX", (3, 4), dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a", ".ome.tif", "a.zarr.txt"])
def test_an_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WriteError, match="end the name in"):
        write_stack(tmp_path / name, make_stack("YX", (3, 4)))


@pytest.mark.parametrize("ending", list(DTYPES))
def test_every_plane_is_verified(tmp_path: Path, ending: str) -> None:
    assert verify_image(write_stack(tmp_path / f"a.{ending}", make_stack("TCZYX", (2, 3, 4, 5, 6)))) == 24


def test_a_foreign_image_cannot_be_verified(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 8), np.uint8))
    with pytest.raises(ReadError, match="carries no checksums"):
        verify_image(tmp_path / "a.tif")
