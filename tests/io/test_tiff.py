"""TIFF flavours: axes, units, samples, byte orders and parts, by hand or by another writer."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from zenhance.errors import ReadError, StackError, WriteError
from zenhance.io import inspect_image, open_stack, write_stack
from zenhance.io.source import RawArray, wrap_errors
from zenhance.io.units import resolution_um, to_um


def ramp(*shape: int, dtype: str = "uint16") -> np.ndarray[Any, np.dtype[Any]]:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("unit", "value", "um"),
    [
        ("um", 0.2, 0.2),
        ("µm", 0.2, 0.2),
        ("μm", 0.2, 0.2),
        ("\\u00B5m", 0.2, 0.2),
        ("micron", 0.2, 0.2),
        ("microns", 0.2, 0.2),
        ("Micrometers", 0.2, 0.2),
        ("nm", 200, 0.2),
        ("mm", 0.0002, 0.2),
        ("cm", 0.00002, 0.2),
        ("m", 2e-7, 0.2),
        ("inch", 0.2 / 25400, 0.2),
        ("Å", 2000, 0.2),
        ("pixel", 0.2, None),
        ("pixels", 0.2, None),
        ("null", 0.2, None),
        ("", 0.2, None),
        (None, 0.2, None),
        ("um", 0, None),
        ("um", 1e-19, None),
        ("um", 1e9, None),
        ("um", float("nan"), None),
        ("um", float("inf"), None),
        ("um", -0.2, 0.2),
        ("um", "0.2", 0.2),
    ],
)
def test_lengths_become_micrometres_or_unknown(
    unit: str | None, value: object, um: float | None
) -> None:
    assert to_um(value, unit) == (None if um is None else pytest.approx(um, rel=1e-12))


@pytest.mark.parametrize(
    ("resolution", "unit", "um"),
    [
        ((50000, 10000), "um", 0.2),
        ((5, 1), "micron", 0.2),
        ((50000, 1), "cm", 0.2),
        ((300, 1), "inch", None),
        ((72, 1), "inch", None),
        ((2834, 100), "cm", None),
        ((127000, 1), "inch", 0.2),
        ((0, 1), "um", None),
        ((1, 0), "um", None),
        ((2147483646, 5000), "um", None),
        ((1, 1), None, None),
    ],
)
def test_resolutions_become_pixel_sizes_unless_they_are_for_printing(
    resolution: tuple[int, int], unit: str | None, um: float | None
) -> None:
    assert resolution_um(resolution, unit) == (None if um is None else pytest.approx(um, rel=1e-12))


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej_units_and_spacing_give_the_voxel_size(tmp_path: Path, unit: str) -> None:
    pixels = ramp(5, 6, 7)
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": unit}
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, resolution=(10.0, 5.0), metadata=metadata
    )
    stack = open_stack(tmp_path / "a.tif")
    assert stack.voxel_size.zyx_um == pytest.approx((0.5, 0.2, 0.1), rel=1e-6)
    assert stack.voxel_size.origins == ("file", "file", "file")
    np.testing.assert_array_equal(np.asarray(stack.data), pixels)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_real_micro_sign_is_understood_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    description = "ImageJ=1.54f\nimages=5\nslices=5\nunit=µm\nspacing=0.5\n".encode(encoding)
    tifffile.imwrite(
        tmp_path / "a.tif",
        ramp(5, 6, 7),
        photometric="minisblack",
        resolution=(10.0, 5.0),
        resolutionunit=1,
        description=description,
        metadata=None,
    )
    assert open_stack(tmp_path / "a.tif").voxel_size.zyx_um == pytest.approx(
        (0.5, 0.2, 0.1), rel=1e-6
    )


def test_an_imagej_depth_that_is_not_written_is_unknown_and_not_one(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        ramp(5, 6, 7),
        imagej=True,
        resolution=(10.0, 10.0),
        metadata={"axes": "ZYX", "unit": "um"},
    )
    assert open_stack(tmp_path / "a.tif").voxel_size.zyx_um == (
        None,
        pytest.approx(0.1),
        pytest.approx(0.1),
    )


def test_the_users_voxel_size_takes_the_place_of_the_files(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        ramp(5, 6, 7),
        imagej=True,
        resolution=(10.0, 10.0),
        metadata={"axes": "ZYX", "unit": "um"},
    )
    size = open_stack(tmp_path / "a.tif", voxel_size_um=(0.3, None, None)).voxel_size
    assert size.zyx_um == (0.3, pytest.approx(0.1), pytest.approx(0.1))
    assert size.origins == ("user", "file", "file")


@pytest.mark.parametrize("order", ["".join(p) for p in itertools.permutations("TCZ")])
def test_ome_axes_in_any_order_give_the_same_stack(tmp_path: Path, order: str) -> None:
    meant = ramp(2, 3, 4, 5, 6)
    stored = meant.transpose(["TCZ".index(a) for a in order] + [3, 4])
    tifffile.imwrite(
        tmp_path / "a.ome.tif", stored, photometric="minisblack", metadata={"axes": order + "YX"}
    )
    stack = open_stack(tmp_path / "a.ome.tif")
    assert stack.axes == "TCZYX"
    np.testing.assert_array_equal(np.asarray(stack.data), meant)


@pytest.mark.parametrize("given", ["".join(p) for p in itertools.permutations("CZYX")])
def test_axes_named_by_the_user_are_put_in_order(tmp_path: Path, given: str) -> None:
    meant = ramp(5, 6, 7, 8)
    stored = meant.transpose(["CZYX".index(a) for a in given])
    tifffile.imwrite(
        tmp_path / "a.tif", np.ascontiguousarray(stored), photometric="minisblack", metadata=None
    )
    pages = open_stack(tmp_path / "a.tif", axes="ZYX")
    assert pages.shape[1:] == stored.shape[2:]
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        np.ascontiguousarray(stored),
        photometric="minisblack",
        metadata={"axes": "CZYX"},
    )
    stack = open_stack(tmp_path / "a.ome.tif", axes=given)
    assert stack.axes == "CZYX"
    np.testing.assert_array_equal(np.asarray(stack.data), meant)


@pytest.mark.parametrize("axes", ["ZY", "ZZYX", "QYX", "ZYXC"])
def test_axes_that_do_not_fit_are_refused(tmp_path: Path, axes: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(5, 6, 7), photometric="minisblack", metadata=None)
    with pytest.raises(StackError, match="do not name the 3 dimensions"):
        open_stack(tmp_path / "a.tif", axes=axes)


@pytest.mark.parametrize("pages", [2, 3, 4])
def test_few_pages_without_axes_are_asked_about(tmp_path: Path, pages: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(pages, 6, 7), photometric="minisblack", metadata=None)
    with pytest.raises(ReadError, match="name the axes, for example --axes ZYX"):
        open_stack(tmp_path / "a.tif")
    assert inspect_image(tmp_path / "a.tif").axes == "?YX"
    assert open_stack(tmp_path / "a.tif", axes="CYX").size("C") == pages


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_samples_become_named_channels_and_never_slices(tmp_path: Path, planar: str) -> None:
    pixels = ramp(6, 7, 3, dtype="uint8")
    stored = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, metadata=None
    )
    stack = open_stack(tmp_path / "a.tif")
    assert (stack.axes, stack.channel_names) == ("CYX", ("red", "green", "blue"))
    np.testing.assert_array_equal(np.asarray(stack.data), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_pixels_are_refused(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(6, 7, dtype=dtype), metadata=None)
    with pytest.raises(ReadError, match="complex numbers"):
        open_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"tile": (16, 16)},
        {"compression": "lzw"},
        {"compression": "zstd"},
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_every_storage_gives_the_same_native_pixels(
    tmp_path: Path, order: str, big: bool, options: dict[str, Any], dtype: str
) -> None:
    pixels = ramp(5, 33, 31, dtype=dtype)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="minisblack",
        byteorder=order,
        bigtiff=big,
        metadata=None,
        **options,
    )
    stack = open_stack(tmp_path / "a.tif")
    assert stack.dtype.isnative
    assert stack.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(stack.data[...]), pixels)
    np.testing.assert_array_equal(
        stack.read(region=(slice(1, 3), slice(4, 20), slice(7, 8))), pixels[1:3, 4:20, 7:8]
    )


def test_uncompressed_stacks_in_one_piece_are_read_by_rows(tmp_path: Path) -> None:
    pixels = ramp(5, 6, 7)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "ZYX"})
    data = open_stack(tmp_path / "a.tif").data
    assert isinstance(data, RawArray)
    for key in np.s_[2], np.s_[1:4, 2:3], np.s_[:, ::-2, ::-1], np.s_[::2, 5:1:-3, 3], np.s_[4:4]:
        np.testing.assert_array_equal(data[key], pixels[key])


def write_parts(folder: Path) -> None:
    """Write an OME-TIFF of two planes, one in each file, by hand."""
    parts = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID '
        f'FileName="p{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(2)
    )
    for z in range(2):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{z}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint16" SizeX="7" SizeY="6" SizeZ="2" SizeC="1" '
            'SizeT="1" PhysicalSizeX="100" '
            f'PhysicalSizeXUnit="nm">{parts}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / f"p{z}.ome.tif",
            ramp(6, 7) + 1000 * z,
            description=xml,
            metadata=None,
            ome=False,
        )


def test_an_ome_image_in_two_files_opens_whole_from_either(tmp_path: Path) -> None:
    write_parts(tmp_path)
    for z in range(2):
        stack = open_stack(tmp_path / f"p{z}.ome.tif")
        assert (stack.axes, stack.shape) == ("ZYX", (2, 6, 7))
        assert stack.voxel_size.x_um == pytest.approx(0.1)
        np.testing.assert_array_equal(
            np.asarray(stack.data), np.stack([ramp(6, 7), ramp(6, 7) + 1000])
        )


def test_no_part_of_an_input_is_ever_overwritten(tmp_path: Path) -> None:
    write_parts(tmp_path)
    before = (tmp_path / "p1.ome.tif").read_bytes()
    with pytest.raises(WriteError, match="is the input"):
        write_stack(tmp_path / "p1.ome.tif", open_stack(tmp_path / "p0.ome.tif"), overwrite=True)
    assert (tmp_path / "p1.ome.tif").read_bytes() == before


def test_an_ome_image_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    write_parts(tmp_path)
    (tmp_path / "p1.ome.tif").unlink()
    with pytest.raises(ReadError, match="1 of its 2 planes are missing"):
        open_stack(tmp_path / "p0.ome.tif")


def test_a_missing_codec_names_the_extra() -> None:
    error = wrap_errors(
        Path("a.tif"), ValueError("<COMPRESSION.ZSTD: 50000> requires the 'imagecodecs' package")
    )
    assert 'pip install "zenhance[io]"' in str(error)


def test_memory_that_runs_out_while_decoding_is_said_so() -> None:
    assert "not enough memory" in str(wrap_errors(Path("a.tif"), MemoryError()))


def test_a_file_of_seven_dimensions_is_told_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "modulo.tif"
    tifffile.imwrite(
        path, np.zeros((2, 2, 2, 2, 5, 16, 16), np.uint8), metadata={"axes": "QRUTZYX"}
    )
    for axes in (None, "TCZYX"):
        with pytest.raises(
            ReadError, match="has 7 dimensions .* save one value of each further dimension"
        ):
            open_stack(path, axes=axes)
