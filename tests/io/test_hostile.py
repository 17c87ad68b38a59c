"""Broken and hostile files are refused with one sentence."""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from zenhance.errors import ReadError, exit_code
from zenhance.io import inspect_image, open_stack

PIXELS = (np.random.default_rng(3).random((6, 24, 25)) * 60000).astype(np.uint16)
XML = (
    '<?xml version="1.0"?>{extra}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'UUID="urn:uuid:1"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="25" SizeY="24" SizeZ="6" '
    'SizeC="1" SizeT="1">{data}</Pixels>'
    "</Image></OME>"
)
FLAVOURS: dict[str, dict[str, Any]] = {
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 0.5, "unit": "um"}},
    "imagej_zlib": {"imagej": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "ome": {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.1}},
    "ome_zlib": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "shaped": {"metadata": {"axes": "ZYX"}},
    "shaped_truncate": {"metadata": {"axes": "ZYX"}, "truncate": True},
    "plain": {"metadata": None},
    "plain_zlib": {"metadata": None, "compression": "zlib"},
    "big": {"metadata": None, "bigtiff": True},
    "tiled": {"metadata": None, "tile": (16, 16)},
}


def write_flavour(path: Path, name: str) -> None:
    tifffile.imwrite(path, PIXELS, photometric="minisblack", **FLAVOURS[name])


@pytest.mark.parametrize("name", list(FLAVOURS))
def test_a_cut_file_never_reads_as_a_shorter_stack(tmp_path: Path, name: str) -> None:
    whole, cut = tmp_path / "a.tif", tmp_path / "b.tif"
    write_flavour(whole, name)
    data = whole.read_bytes()
    np.testing.assert_array_equal(np.asarray(open_stack(whole).data), PIXELS)
    wrong = []
    for percent in range(100):
        cut.write_bytes(data[: len(data) * percent // 100])
        try:
            found = np.asarray(open_stack(cut).data)
        except ReadError:
            continue
        if not np.array_equal(found, PIXELS):
            wrong.append((percent, found.shape))
    assert wrong == []


@pytest.mark.parametrize("name", ["imagej_zlib", "shaped", "ome"])
def test_a_stack_whose_writer_was_killed_is_not_a_shorter_one(tmp_path: Path, name: str) -> None:
    """A killed writer leaves a valid chain of fewer pages: the promise in the first page tells."""
    path = tmp_path / "a.tif"
    options = {**FLAVOURS[name], "compression": "zlib"}
    tifffile.imwrite(path, PIXELS, photometric="minisblack", **options)
    with tifffile.TiffFile(path) as tif:
        entry = tif.pages[3].offset
    data = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", data, entry)
    struct.pack_into("<I", data, entry + 2 + 12 * count, 0)
    path.write_bytes(data)
    with pytest.raises(ReadError):
        np.asarray(open_stack(path).data)


def ome_file(path: Path, extra: str = "", data: str = '<TiffData IFD="0" PlaneCount="6"/>') -> Path:
    tifffile.imwrite(
        path,
        PIXELS,
        photometric="minisblack",
        metadata=None,
        ome=False,
        description=XML.format(extra=extra, data=data),
    )
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../secret.tif",
        "/etc/passwd",
        "sub/secret.tif",
        "..\\secret.tif",
        "C:\\secret.tif",
        "\\\\host\\share\\a.tif",
        "",
    ],
)
def test_ome_parts_outside_the_folder_are_refused_and_never_opened(
    tmp_path: Path, name: str, opened_files: list[str]
) -> None:
    (tmp_path / "inner" / "sub").mkdir(parents=True)
    for place in (tmp_path / "secret.tif", tmp_path / "inner" / "sub" / "secret.tif"):
        tifffile.imwrite(place, PIXELS[0])
    data = (
        '<TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID '
        f'FileName="{name}">urn:uuid:2</UUID></TiffData>'
    )
    path = ome_file(tmp_path / "inner" / "a.ome.tif", data=data)
    opened_files.clear()
    with pytest.raises(ReadError, match="outside its folder"):
        open_stack(path)
    assert [p for p in opened_files if "secret" in p or "passwd" in p] == []


_EVENTS: list[str] = []
_WATCHING: list[bool] = []


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _WATCHING and event == "open":
        _EVENTS.append(str(args[0]))


@pytest.fixture
def opened_files() -> Any:
    """The names of all files opened during a test."""
    if not hasattr(_watch, "installed"):
        sys.addaudithook(_watch)
        _watch.installed = True  # type: ignore[attr-defined]
    _EVENTS.clear()
    _WATCHING.append(True)
    yield _EVENTS
    _WATCHING.clear()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ('<!DOCTYPE OME [<!ENTITY a "b">]>', "DOCTYPE"),
        ('<!DOCTYPE OME SYSTEM "file:///etc/passwd">', "DOCTYPE"),
        ('<!doctype x><!entity % y SYSTEM "http://127.0.0.1/">', "DOCTYPE"),
    ],
)
def test_xml_that_could_expand_or_fetch_is_refused(
    tmp_path: Path, extra: str, words: str, opened_files: list[str]
) -> None:
    path = ome_file(tmp_path / "a.ome.tif", extra=extra)
    opened_files.clear()
    with pytest.raises(ReadError, match=words):
        open_stack(path)
    assert not any("passwd" in p for p in opened_files)


def test_deeply_nested_xml_is_refused(tmp_path: Path) -> None:
    path = ome_file(tmp_path / "a.ome.tif", data="<a>" * 300 + "</a>" * 300)
    with pytest.raises(ReadError, match="nested 30"):
        open_stack(path)


def test_broken_ome_xml_is_named_and_not_silently_ignored(tmp_path: Path) -> None:
    path = ome_file(tmp_path / "a.ome.tif", data="<TiffData")
    with pytest.raises(ReadError, match="OME-XML cannot be parsed"):
        open_stack(path)


def ifd(entries: list[tuple[int, int, int, int]], *, big: bool = False) -> bytes:
    """Compose a TIFF of one directory and no pixels."""
    if big:
        head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16)
        return (
            head
            + struct.pack("<Q", len(entries))
            + b"".join(struct.pack("<HHQQ", *e) for e in entries)
            + struct.pack("<Q", 0)
        )
    head = b"II*\0" + struct.pack("<I", 8)
    return (
        head
        + struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", *e) for e in entries)
        + struct.pack("<I", 0)
    )


def claim(width: int, height: int, count: int) -> list[tuple[int, int, int, int]]:
    return [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, count),
    ]


@pytest.mark.parametrize("big", [False, True])
def test_a_tiny_file_that_claims_a_terapixel_is_refused_from_its_header(
    tmp_path: Path, big: bool
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(ifd(claim(10**6, 10**6, 100), big=big))
    start = time.perf_counter()
    with pytest.raises(ReadError, match="claims 1 TB of pixels"):
        inspect_image(path)
    assert time.perf_counter() - start < 2.0


def test_a_sparse_file_that_claims_gigabytes_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(ifd(claim(80_000, 80_000, 0)))
    with path.open("r+b") as handle:
        handle.truncate(64 * 2**20)
    with pytest.raises(ReadError):
        inspect_image(path)


def test_directories_that_form_a_loop_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(ifd(claim(4, 4, 16))[:-4] + struct.pack("<I", 8))
    with pytest.raises(ReadError, match="form a loop"):
        open_stack(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tif", b"", "the file is empty"),
        ("a.tif", b"hello, this is text", "none of the formats known here"),
        ("a.czi", b"\0" * 4096, "none of the formats known here"),
        ("a.tif", b"II*\0", "not a TIFF"),
        ("a.tif", b"II*\0\0\0\0\0", "holds no image"),
        ("a.zip", b"PK\x03\x04" + b"\0" * 60, "zip archive"),
        ("a.mat", b"MATLAB 5.0 MAT-file", "MATLAB"),
        ("a.czi", b"ZISRAWFILE" + b"\0" * 200, "ZISRAWDIRECTORY|no ZISRAW|cut short"),
        ("a.lif", b"p\0\0\0" + b"\0" * 200, "damaged or of an unknown kind"),
        ("a.nd2", b"\xda\xce\xbe\x0a" + b"\0" * 200, "damaged or of an unknown kind"),
        (
            "a.oib",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 200,
            "was not copied or written to its end",
        ),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "damaged or of an unknown kind"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 60, "damaged or of an unknown kind"),
        ("a.gz", b"\x1f\x8b\x08\0" + b"\0" * 60, "damaged or of an unknown kind|no INRIMAGE"),
        ("a.inr", b"#INRIMAGE-4#{\nXDIM=3\n##}", "gives no sizes"),
        (
            "a.inr",
            b"#INRIMAGE-4#{\nXDIM=99999\nYDIM=99999\nZDIM=999\nVDIM=1\nTYPE=float\nPIXSIZE=32 "
            b"bits\n##}",
            "more than its",
        ),
    ],
)
def test_files_that_are_not_what_they_seem_give_one_sentence(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReadError, match=words) as caught:
        open_stack(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert exit_code(caught.value) == 3


def test_the_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS)
    os.replace(tmp_path / "a.tif", tmp_path / "a.czi")  # noqa: PTH105
    assert open_stack(tmp_path / "a.czi").shape == PIXELS.shape


def test_a_missing_file_a_plain_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no such file"):
        open_stack(tmp_path / "absent.tif")
    with pytest.raises(ReadError, match="not an OME-Zarr image"):
        open_stack(tmp_path)
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe.tif")
        for path in (tmp_path / "pipe.tif", Path("/dev/zero")):
            with pytest.raises(ReadError, match="not a regular file"):
                open_stack(path)


@pytest.mark.parametrize(
    "name",
    [
        "a b.tif",
        "é.tif",
        "日本.tif",
        "😀.tif",
        "-a.tif",
        "a" * 240 + ".tif",
        "a.b.c.tif",
        "new\nline.tif",
        "a'\".tif",
    ],
)
def test_odd_names_work(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    try:
        tifffile.imwrite(path, PIXELS, photometric="minisblack")
    except OSError:
        pytest.skip("this file system refuses the name")
    assert open_stack(path).shape == PIXELS.shape


def test_damaged_pixels_show_when_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="minisblack", compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[4].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(data)
    stack = open_stack(path)
    with pytest.raises(ReadError, match="damaged"):
        np.asarray(stack.data)
