"""Files as microscopes and programs write them, made here in several layouts of each kind."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from zenhance.errors import ReadError, StackError
from zenhance.io import inspect_image, open_stack, write_stack
from zenhance.io.beads import read_beads
from zenhance.io.names import images_in, stem
from zenhance.io.units import to_seconds, to_um, um_per_unit
from zenhance.stack import Stack

h5py = pytest.importorskip("h5py")


def ramp(*shape: int, dtype: str = "uint16") -> np.ndarray[Any, Any]:
    return (np.arange(np.prod(shape)) % 60000 + 1).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        *[
            (u, 1.0)
            for u in ("um", "µm", "μm", "UM", "micron", "microns", "micrometers", "Micro-meter")
        ],
        *[
            (u, 1.0)
            for u in ("\\u00B5m", "\\u03bcm", "Âµm", "&micro;m", "µ", "micrometre", '"um"', " um.")
        ],
        *[(u, 1e-3) for u in ("nm", "nanometer", "nanometers", "nanometre")],
        *[(u, 1e3) for u in ("mm", "millimeter", "millimetres", "MM")],
        *[(u, 1e4) for u in ("cm", "centimeter", "centimetres")],
        *[(u, 25400.0) for u in ("inch", "inches", "in", "Inch")],
        *[(u, 1e-4) for u in ("Å", "\u212b", "angstrom", "Angstroms")],
        *[(u, 1e6) for u in ("m", "meter", "metres")],
        ("pm", 1e-6),
    ],
)
def test_units_of_length_in_all_spellings(unit: str, um: float) -> None:
    assert um_per_unit(unit) == pytest.approx(um)


@pytest.mark.parametrize(
    "unit", ["pixel", "pixels", "", None, "s", "reference frame", "sec", "u" * 100, "1e3", "voxel"]
)
def test_an_unknown_unit_of_length_stays_unknown(unit: str | None) -> None:
    assert to_um(0.5, unit) is None


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [
        *[(u, 1.0) for u in ("s", "sec", "secs", "second", "Seconds", "sec.")],
        *[(u, 1e-3) for u in ("ms", "msec", "msecs", "millisecond", "milliseconds", "MSEC")],
        *[(u, 1e-6) for u in ("us", "µs", "μs", "usec", "microsecond")],
        *[(u, 60.0) for u in ("min", "mins", "minute", "minutes")],
        *[(u, 3600.0) for u in ("h", "hr", "hrs", "hour", "hours")],
        *[(u, 86400.0) for u in ("d", "day", "days")],
        ("ns", 1e-9),
    ],
)
def test_units_of_time_in_all_spellings(unit: str, seconds: float) -> None:
    assert to_seconds(2, unit) == pytest.approx(2 * seconds)


@pytest.mark.parametrize(
    ("value", "unit"), [(2, "frame"), (2, None), (2, "um"), (0, "s"), (-1, "s"), ("x", "s")]
)
def test_an_unknown_time_stays_unknown(value: Any, unit: str | None) -> None:
    assert to_seconds(value, unit) is None


@pytest.mark.parametrize(("unit", "step"), [("hr", 7200.0), ("msec", 2e-3), ("frames", None)])
def test_imagej_keeps_a_time_unit_that_it_knows_only(
    tmp_path: Path, unit: str, step: float | None
) -> None:
    data = ramp(2, 3, 8, 9)
    meta = {"axes": "TZYX", "finterval": 2.0, "tunit": unit}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata=meta)
    assert open_stack(tmp_path / "a.tif").metadata.get("time_step_s") == step


def imaris(path: Path, shape: tuple[int, int, int], channels: int, times: int, unit: str) -> None:
    """Write what Imaris 5.5 does: padded volumes, sizes and extents one character an item."""

    def text(value: object) -> np.ndarray[Any, Any]:
        return np.frombuffer(str(value).encode(), "S1")

    padded = tuple(-(-n // 8) * 8 for n in shape)
    with h5py.File(path, "w") as file:
        file.attrs["ImarisDataSet"] = text("ImarisDataSet")
        image = file.create_group("DataSetInfo/Image")
        for i, (axis, n) in enumerate(zip("XYZ", shape[::-1], strict=True)):
            image.attrs[axis] = text(n)
            image.attrs[f"ExtMin{i}"] = text(10 * i)
            image.attrs[f"ExtMax{i}"] = text(10 * i + n * (i + 1) / 4)
        image.attrs["Unit"] = text(unit)
        info = file.create_group("DataSetInfo/TimeInfo")
        for t in range(times):
            info.attrs[f"TimePoint{t + 1}"] = text(f"2026-01-01 10:0{t}:00.000")
        for c in range(channels):
            settings = file.create_group(f"DataSetInfo/Channel {c}")
            settings.attrs["Name"] = text(f"dye {c}")
            settings.attrs["LSMEmissionWavelength"] = text(500 + c)
        for t in range(times):
            for c in range(channels):
                data = np.zeros(padded, np.uint16)
                data[tuple(slice(n) for n in shape)] = ramp(*shape) + 1000 * t + 100 * c
                place = f"DataSet/ResolutionLevel 0/TimePoint {t}/Channel {c}"
                group = file.create_group(place)
                group.create_dataset("Data", data=data, chunks=(8, 8, 8), compression="gzip")
                group.create_dataset("Histogram", data=np.arange(256))
                for axis, n in zip("XYZ", shape[::-1], strict=True):
                    group.attrs[f"ImageSize{axis}"] = text(n)
                low = f"DataSet/ResolutionLevel 1/TimePoint {t}/Channel {c}/Data"
                file.create_dataset(low, data=data[::2, ::2, ::2])
        file["Thumbnail/Data"] = np.zeros((64, 256), np.uint8)


@pytest.mark.parametrize(("channels", "times", "unit"), [(1, 1, "um"), (3, 1, "nm"), (11, 2, "mm")])
def test_imaris_volumes_come_without_padding_and_in_order(
    tmp_path: Path, channels: int, times: int, unit: str
) -> None:
    imaris(tmp_path / "a.ims", (5, 11, 13), channels, times, unit)
    stack = open_stack(tmp_path / "a.ims")
    assert stack.axes == ("T" if times > 1 else "") + ("C" if channels > 1 else "") + "ZYX"
    for t in range(times):
        for c in range(channels):
            np.testing.assert_array_equal(stack.read(t, c), ramp(5, 11, 13) + 1000 * t + 100 * c)
    factor = {"um": 1.0, "nm": 1e-3, "mm": 1e3}[unit]
    wanted = [v * factor for v in (0.75, 0.5, 0.25)]
    for found, length in zip(stack.voxel_size.zyx_um, wanted, strict=True):
        assert found == (pytest.approx(length) if 0.001 <= length <= 1000 else None)
    assert stack.metadata["origin_um"] == pytest.approx((20 * factor, 10 * factor, 0.0))
    assert stack.metadata.get("time_step_s") == (60.0 if times > 1 else None)
    if channels > 1:
        assert stack.channel_names == tuple(f"dye {c}" for c in range(channels))


def test_a_lost_imaris_channel_is_named(tmp_path: Path) -> None:
    imaris(tmp_path / "a.ims", (5, 11, 13), 2, 2, "um")
    with h5py.File(tmp_path / "a.ims", "r+") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 1/Channel 1"]
    with pytest.raises(ReadError, match=r"TimePoint 1/Channel 1/Data\" is missing"):
        open_stack(tmp_path / "a.ims")


def bdv(path: Path, setups: int, times: int, *, xml: str | None) -> None:
    with h5py.File(path, "w") as file:
        for s in range(setups):
            file[f"s{s:02d}/resolutions"] = np.array([[1.0, 1, 1], [2, 2, 1]])
            file[f"s{s:02d}/subdivisions"] = np.array([[16, 16, 4], [16, 16, 4]])
            for t in range(times):
                data = (ramp(4, 20 + s, 18) + 40000).view(np.int16) + np.int16(t)
                file.create_dataset(f"t{t:05d}/s{s:02d}/0/cells", data=data, chunks=(4, 10, 9))
                file.create_dataset(f"t{t:05d}/s{s:02d}/1/cells", data=data[:, ::2, ::2])
    if xml is not None:
        views = "".join(
            f"<ViewSetup><id>{s}</id><name>view {s}</name><size>18 20 4</size><voxelSize>"
            f"<unit>µm</unit><size>0.1 0.2 {0.5 + s}</size></voxelSize></ViewSetup>"
            for s in range(setups)
        )
        text = (
            f'<SpimData version="0.2"><SequenceDescription><ImageLoader format="bdv.hdf5">'
            f'<hdf5 type="relative">{path.name}</hdf5></ImageLoader><ViewSetups>{views}'
            "</ViewSetups></SequenceDescription></SpimData>"
        )
        path.with_name(xml).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("xml", ["a.xml", "other.xml", None])
@pytest.mark.parametrize(("setups", "times"), [(1, 1), (2, 3)])
def test_big_data_viewer_gives_cells_of_a_view_with_their_voxel_size(
    tmp_path: Path, setups: int, times: int, xml: str | None
) -> None:
    bdv(tmp_path / "a.h5", setups, times, xml=xml)
    info = inspect_image(tmp_path / "a.h5")
    assert info.series == setups
    for s in range(setups):
        stack = open_stack(tmp_path / "a.h5", series=s)
        assert stack.dtype == np.uint16
        assert stack.axes == ("TZYX" if times > 1 else "ZYX")
        for t in range(times):
            np.testing.assert_array_equal(stack.read(t), ramp(4, 20 + s, 18) + 40000 + t)
        wanted = (0.5 + s, 0.2, 0.1) if xml else (None, None, None)
        assert stack.voxel_size.zyx_um == wanted
    assert info.series_names == tuple((f"view {s}" if xml else f"s{s:02d}") for s in range(setups))
    assert bool(info.metadata.get("warnings")) == (xml is None)


def test_a_lost_time_point_of_big_data_viewer_is_named(tmp_path: Path) -> None:
    bdv(tmp_path / "a.h5", 2, 3, xml=None)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["t00001/s01"]
        file["t00002/s00"].move("0", "9")
    with pytest.raises(ReadError, match="1 of 3 time points"):
        open_stack(tmp_path / "a.h5", series=1)
    with pytest.raises(ReadError, match=r"t00002/s00/0/cells\" is missing"):
        open_stack(tmp_path / "a.h5")


@pytest.mark.parametrize("keys", ["xyz", "zyx", "yxc", "tzyxc", "cxy", "xy"])
def test_ilastiks_axistags_name_the_axes(tmp_path: Path, keys: str) -> None:
    sizes = {"t": 2, "c": 3, "z": 6, "y": 7, "x": 8}
    data = ramp(*(sizes[k] for k in keys))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported_data"] = data
        tags = {"axes": [{"key": k, "typeFlags": 2} for k in keys]}
        file["exported_data"].attrs["axistags"] = json.dumps(tags)
    stack = open_stack(tmp_path / "a.h5")
    order = [a for a in "tczyx" if a in keys]
    assert stack.axes == "".join(order).upper()
    np.testing.assert_array_equal(
        np.asarray(stack.data), data.transpose([keys.index(k) for k in order])
    )


@pytest.mark.parametrize("tags", ["{", "[]", '{"axes": 3}', '{"axes": [{"key": "y"}]}', "\0"])
def test_broken_axistags_are_ignored(tmp_path: Path, tags: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = ramp(6, 7, 8)
        file["raw"].attrs["axistags"] = np.bytes_(tags.encode() or b" ")
    assert open_stack(tmp_path / "a.h5").axes == "ZYX"


def test_tables_are_not_images_and_unwritten_data_are_not_black(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a_table"] = np.ones((2, 3))
        file["volume"] = ramp(6, 7, 8)
        file["volume"].dims[0].label = "z"
    assert inspect_image(tmp_path / "a.h5").series_names == ("/volume",)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("raw", (6, 7, 8), "u2", chunks=(6, 7, 8))
    with pytest.raises(ReadError, match="would read as black"):
        open_stack(tmp_path / "b.h5")


@pytest.mark.parametrize(("slices", "pages"), [(9, 6), (100, 6), (7, 6)])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_imagej_header_that_promises_more_than_there_is_is_refused(
    tmp_path: Path, slices: int, pages: int, compression: str | None
) -> None:
    text = f"ImageJ=1.54f\nimages={slices}\nslices={slices}\n"
    tifffile.imwrite(
        tmp_path / "a.tif",
        ramp(pages, 8, 9),
        description=text,
        metadata=None,
        compression=compression,
    )
    with pytest.raises(
        ReadError, match=f"promises {slices} planes|of its {slices} planes are missing|cut short"
    ):
        open_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["uint16", "uint8"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_only_the_calibration_of_signed_16_bit_is_undone(
    tmp_path: Path, dtype: str, compression: str | None
) -> None:
    data = ramp(6, 8, 9, dtype=dtype)
    for c0, signed in ((-32768.0, dtype == "uint16"), (5.0, False)):
        text = f"ImageJ=1.54f\nimages=6\nslices=6\ncf=0\nc0={c0}\nc1=1.0\nvunit=Gray Value\n"
        tifffile.imwrite(
            tmp_path / "a.tif", data, description=text, metadata=None, compression=compression
        )
        stack = open_stack(tmp_path / "a.tif")
        wanted = (data.astype(np.int32) - 32768).astype(np.int16) if signed else data
        np.testing.assert_array_equal(np.asarray(stack.data), wanted)
        np.testing.assert_array_equal(stack.read(0, 0)[2, 3], wanted[2, 3])


@pytest.mark.parametrize("previews", ["first", "last", "both"])
def test_previews_are_not_the_image(tmp_path: Path, previews: str) -> None:
    data = ramp(6, 20, 24)
    small = {"subfiletype": 1, "photometric": "minisblack", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        if previews in ("first", "both"):
            tif.write(data[0, ::4, ::4], **small)
        for page in data:
            tif.write(page, photometric="minisblack", metadata=None)
        if previews in ("last", "both"):
            tif.write(data[0, ::2, ::2], **small)
    stack = open_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(stack.data), data)
    assert inspect_image(tmp_path / "a.tif").series == 1


def mm_stack(
    path: Path, data: np.ndarray[Any, Any], positions: int, summary: dict[str, Any]
) -> None:
    """Write Micro-Manager's multipage TIFF without OME-XML: an index of pages, then a summary.

    ``data`` is (position and z, y, x).
    """
    n, rows, columns = data.shape
    text = json.dumps({"MicroManagerVersion": "2.0", **summary}).encode()
    head_bytes = 40 + len(text)
    at = head_bytes + (-head_bytes % 16)
    page_bytes = 162 + rows * columns * 2
    body, places = b"", []
    for i in range(n):
        offset = at + i * page_bytes
        places.append(offset)
        tags = [
            (256, 4, 1, columns),
            (257, 4, 1, rows),
            (258, 3, 1, 16),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, offset + 162),
            (277, 3, 1, 1),
            (278, 4, 1, rows),
            (279, 4, 1, rows * columns * 2),
            # Micro-Manager's own tag, here the summary again
            (51123, 2, len(text), 40),
        ]
        nxt = 0 if i == n - 1 else offset + page_bytes
        ifd = struct.pack("<H", len(tags))
        ifd += b"".join(struct.pack("<HHII", *t) for t in tags) + struct.pack("<I", nxt)
        body += ifd.ljust(162, b"\0") + data[i].astype("<u2").tobytes()
    index = struct.pack("<II", 3453623, n)
    depth = n // positions
    for i, offset in enumerate(places):
        index += struct.pack("<5I", 0, i % depth, 0, i // depth, offset)
    head = struct.pack("<2sHI", b"II", 42, at)
    head += struct.pack("<II", 54773648, at + len(body)) + struct.pack("<IIII", 0, 0, 0, 0)
    head += struct.pack("<II", 2355492, len(text)) + text
    path.write_bytes(head.ljust(at, b"\0") + body + index)


SUMMARY = {
    "Channels": 1,
    "Frames": 1,
    "PixelSize_um": 0.2,
    "z-step_um": 0.5,
    "ChNames": ["DAPI"],
    "TimeFirst": True,
    "SlicesFirst": True,
}


def test_micro_manager_without_ome_xml_has_positions_as_series(tmp_path: Path) -> None:
    data = ramp(10, 16, 17)
    path = tmp_path / "a_MMStack_Pos0.tif"
    mm_stack(path, data, 2, {**SUMMARY, "Slices": 5, "Positions": 2})
    assert inspect_image(path).series == 2
    for position in range(2):
        stack = open_stack(path, series=position)
        assert (stack.axes, stack.voxel_size.zyx_um) == ("ZYX", (0.5, 0.2, 0.2))
        np.testing.assert_array_equal(stack.read(), data[5 * position : 5 * position + 5])


def test_a_part_of_a_micro_manager_stack_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a_MMStack_Pos0.tif"
    mm_stack(path, ramp(5, 16, 17), 1, {**SUMMARY, "Slices": 9, "Positions": 1})
    with pytest.raises(ReadError, match="promises 9 slices|planes are missing"):
        open_stack(path)


def numbered_folder(folder: Path, names: list[str]) -> np.ndarray[Any, Any]:
    folder.mkdir()
    data = ramp(len(names), 8, 9)
    for name, page in zip(names, data, strict=True):
        tifffile.imwrite(folder / name, page, photometric="minisblack", metadata=None)
    return data


@pytest.mark.parametrize(
    ("pattern", "first", "axes"),
    [
        ("img_{:04d}.tif", 0, "ZYX"),
        ("s{:03d}_raw.tiff", 7, "ZYX"),
        ("cell1_t{:02d}.tif", 1, "TYX"),
        ("a-ch{:02d}.tif", 0, "CYX"),
        ("leaf_z{:02d}_c1.tif", 9, "ZYX"),
    ],
)
def test_numbered_slices_in_a_folder_are_one_stack(
    tmp_path: Path, pattern: str, first: int, axes: str
) -> None:
    names = [pattern.format(first + i) for i in range(6)]
    data = numbered_folder(tmp_path / "leaf", names)
    assert images_in(tmp_path / "leaf") == [tmp_path / "leaf"]
    stack = open_stack(tmp_path / "leaf")
    assert stack.axes == axes
    np.testing.assert_array_equal(np.asarray(stack.data), data)
    assert "6 numbered files were taken as one stack" in stack.metadata["warnings"][0]
    assert stack.name == "leaf"


@pytest.mark.parametrize(
    "names",
    [
        ["a_01.tif", "a_02.tif", "a_04.tif"],
        ["a_1.tif", "a_2.tif", "a_3.tif"],
        ["a_01.tif", "b_02.tif", "c_03.tif"],
        ["a_01.tif", "a_02.tif"],
        ["a_01.tif", "a_02.tif", "a_03.tif", "b.tif"],
        ["a1_01.tif", "a1_02.tif", "a2_01.tif", "a2_02.tif"],
    ],
)
def test_files_that_are_not_one_gapless_series_stay_apart(tmp_path: Path, names: list[str]) -> None:
    numbered_folder(tmp_path / "leaf", names)
    assert [p.name for p in images_in(tmp_path / "leaf")] == names


def test_zarr_folders_are_found_by_content(tmp_path: Path) -> None:
    made = Stack.from_array(ramp(5, 8, 9), "ZYX", (1, 1, 1))
    write_stack(tmp_path / "x.ome.zarr", made).rename(tmp_path / "plain.zarr")
    write_stack(tmp_path / "x.ome.zarr", made).rename(tmp_path / "no_suffix")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "text").write_text("hello")
    assert [p.name for p in images_in(tmp_path)] == ["no_suffix", "plain.zarr"]
    assert stem(tmp_path / "plain.zarr") == "plain"


def test_a_store_of_ours_without_its_finest_level_is_refused(tmp_path: Path) -> None:
    root = write_stack(tmp_path / "a.ome.zarr", Stack.from_array(ramp(5, 300, 300), "ZYX"))
    (root / "0").rename(tmp_path / "lost")
    with pytest.raises(ReadError, match='finest level "0" is missing'):
        open_stack(root)


@pytest.mark.parametrize("ending", ["ome.tif", "tif"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_file_whose_end_became_zeros_says_so(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"a.{ending}"
    tifffile.imwrite(path, ramp(40, 64, 64), imagej=ending == "tif", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        whole = tif.series[0].dataoffset + 40 * 64 * 64 * 2
    data = bytearray(path.read_bytes()[:whole] if ending == "tif" else path.read_bytes())
    keep = int(len(data) * share)
    path.write_bytes(bytes(data[:keep]) + b"\0" * (len(data) - keep))
    try:
        notes = inspect_image(path).metadata["warnings"]
    except ReadError:
        return
    assert f"{100 * (1 - share):.0f} % of it, is zeros" in notes[0]


def test_more_dimensions_than_there_are_axes_give_a_sentence_to_follow(tmp_path: Path) -> None:
    data = ramp(2, 2, 2, 2, 2, 4, 5)
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "THCRZYX"})
    with pytest.raises(ReadError, match="it has 7 dimensions .* save one value of each further"):
        open_stack(tmp_path / "a.tif")


def test_a_psf_file_without_voxel_size_is_named_and_takes_one(tmp_path: Path) -> None:
    path = tmp_path / "beads.tif"
    tifffile.imwrite(path, ramp(6, 8, 9), photometric="minisblack", metadata=None)
    with pytest.raises(ReadError, match=r"PSF file .* in z, y, x; write measured:beads.tif@Z,Y,X"):
        read_beads(str(path))
    assert read_beads(f"{path}@0.3,0.1,0.2")[1] == (0.3, 0.1, 0.2)
    for bad in ("0,1,2", "1,2,3,4", "1,,2"):
        with pytest.raises(StackError):
            read_beads(f"{path}@{bad}")
    path.rename(tmp_path / "b@1,2,3")
    with pytest.raises(ReadError, match="b@1,2,3"):
        read_beads(str(tmp_path / "b@1,2,3"))


@pytest.mark.parametrize("pointer", ["a.companion.ome", "first.ome.tif"])
def test_a_part_whose_metadata_file_is_missing_names_it(tmp_path: Path, pointer: str) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        f'<BinaryOnly MetadataFile="{pointer}" UUID="urn:uuid:9"/></OME>'
    )
    path = tmp_path / "b.ome.tif"
    tifffile.imwrite(path, ramp(8, 9), description=xml, metadata=None, ome=False)
    with pytest.raises(ReadError, match=f'metadata are in "{pointer}", which is missing'):
        open_stack(path)
