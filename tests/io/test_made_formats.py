"""CZI, DeltaVision, INRIMAGE, HDF5 and pictures, made byte by byte for every branch."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zenhance.errors import ReadError
from zenhance.io import inspect_image, open_stack

PIXELS = (np.random.default_rng(9).random((2, 3, 6, 8)) * 60000).astype(np.uint16)
Block = tuple[dict[str, tuple[int, int]], bytes]
XML = (
    "<ImageDocument><Metadata><Scaling><Items>"
    '<Distance Id="X"><Value>1e-7</Value></Distance><Distance Id="Y"><Value>2e-7</Value></Distance>'
    '<Distance Id="Z"><Value>5e-7</Value></Distance>'
    "</Items></Scaling><Information><Image><Dimensions><Channels>"
    '<Channel Id="0" '
    'Name="GFP"><AcquisitionMode>LaserScanningConfocalMicroscopy</AcquisitionMode><PinholeSizeAiry>1.5</PinholeSizeAiry>'
    '</Channel><Channel Id="1" Name="RFP"><PinholeSizeAiry>1.5</PinholeSizeAiry></Channel>'
    "</Channels></Dimensions></Image></Information></Metadata></ImageDocument>"
)


def segment(name: bytes, content: bytes) -> bytes:
    return struct.pack("<16sqq", name, len(content), len(content)) + content


def make_czi(
    path: Path,
    blocks: list[Block],
    *,
    pixel_type: int = 1,
    compression: int = 0,
    pyramid: int = 0,
    xml: str = XML,
) -> Path:
    """Write a CZI: header, sub-blocks, directory, metadata; dims are name -> (start, size)."""
    out = bytearray(segment(b"ZISRAWFILE", b"\0" * 512))
    entries = []
    for dims, data in blocks:
        packed = b"".join(
            struct.pack("<4siifi", a.encode(), start, size, 0.0, size)
            for a, (start, size) in dims.items()
        )
        entry = (
            struct.pack(
                "<2siqiib5xi", b"DV", pixel_type, len(out), 0, compression, pyramid, len(dims)
            )
            + packed
        )
        entries.append(entry)
        head = (struct.pack("<iiq", 0, 0, len(data)) + entry).ljust(256, b"\0")
        out += segment(b"ZISRAWSUBBLOCK", head + data)
    directory = len(out)
    out += segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    metadata = len(out)
    out += segment(b"ZISRAWMETADATA", struct.pack("<ii248x", len(xml), 0) + xml.encode())
    struct.pack_into("<qq", out, 32 + 52, directory, metadata)
    path.write_bytes(out)
    return path


def plane_blocks(
    pixels: np.ndarray[Any, np.dtype[Any]] = PIXELS, **more: tuple[int, int]
) -> list[Block]:
    return [
        (
            {"C": (c, 1), "Z": (z, 1), "Y": (-5, 6), "X": (7, 8), **more},
            np.ascontiguousarray(pixels[c, z]).tobytes(),
        )
        for c in range(pixels.shape[0])
        for z in range(pixels.shape[1])
    ]


def test_a_plain_czi_opens_with_its_scaling_and_channels(tmp_path: Path) -> None:
    stack = open_stack(make_czi(tmp_path / "a.czi", plane_blocks()))
    assert (stack.axes, stack.channel_names) == ("CZYX", ("GFP", "RFP"))
    assert stack.voxel_size.zyx_um == pytest.approx((0.5, 0.2, 0.1))
    assert (stack.metadata["modality"], stack.metadata["pinhole_au"]) == ("confocal", 1.5)
    np.testing.assert_array_equal(np.asarray(stack.data), PIXELS)


@pytest.mark.parametrize("split", [False, True])
def test_czi_zstd_with_and_without_split_bytes(tmp_path: Path, split: bool) -> None:
    import imagecodecs

    def pack(raw: bytes) -> bytes:
        plain = np.frombuffer(raw, np.uint8).reshape(-1, 2).T.tobytes() if split else raw
        return (b"\x03\x01" + bytes([split])) + imagecodecs.zstd_encode(plain)

    blocks = [(dims, pack(raw)) for dims, raw in plane_blocks()]
    np.testing.assert_array_equal(
        np.asarray(open_stack(make_czi(tmp_path / "a.czi", blocks, compression=6)).data), PIXELS
    )


def test_czi_tiles_are_put_in_their_places(tmp_path: Path) -> None:
    left, right = PIXELS[0, 0, :, :5], PIXELS[0, 0, :, 5:]
    tiles = [
        ({"M": (1, 1), "Y": (10, 6), "X": (-15, 3)}, np.ascontiguousarray(right).tobytes()),
        ({"M": (0, 1), "Y": (10, 6), "X": (-20, 5)}, np.ascontiguousarray(left).tobytes()),
    ]
    stack = open_stack(make_czi(tmp_path / "a.czi", tiles))
    np.testing.assert_array_equal(np.asarray(stack.data), PIXELS[0, 0])


def test_czi_colours_are_named_and_stored_blue_first(tmp_path: Path) -> None:
    rgb = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    block = ({"Y": (0, 6), "X": (0, 8)}, np.ascontiguousarray(rgb[..., ::-1]).tobytes())
    stack = open_stack(make_czi(tmp_path / "a.czi", [block], pixel_type=3))
    assert (stack.axes, stack.channel_names) == ("CYX", ("red", "green", "blue"))
    np.testing.assert_array_equal(np.asarray(stack.data), rgb.transpose(2, 0, 1))


def test_czi_scenes_are_series(tmp_path: Path) -> None:
    path = make_czi(tmp_path / "a.czi", plane_blocks(S=(0, 1)) + plane_blocks(PIXELS + 1, S=(1, 1)))
    assert inspect_image(path).series == 2
    np.testing.assert_array_equal(np.asarray(open_stack(path, series=1).data), PIXELS + 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b[1:], "1 of its 6 planes are missing"),
        (
            lambda b: [({**b[0][0], "H": (0, 1)}, b[0][1]), ({**b[0][0], "H": (1, 1)}, b[0][1])],
            'several values along the axis "H"',
        ),
        (lambda b: [({**b[0][0], "Z": (0, 3)}, b[0][1])], "several planes each"),
        (lambda b: [({"C": (0, 1)}, b[0][1])], "no image blocks"),
        (lambda _: [], "lists 0 blocks"),
        (lambda b: [(b[0][0], b[0][1][:40])], "damaged|cut short"),
    ],
)
def test_czi_files_that_cannot_be_a_stack_say_why(tmp_path: Path, change: Any, words: str) -> None:
    path = make_czi(tmp_path / "a.czi", change(plane_blocks()))
    with pytest.raises(ReadError, match=words):
        open_stack(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"pixel_type": 10}, "only one type of real numbers"), ({"compression": 99}, "method 99")],
)
def test_czi_pixels_of_unknown_kinds_are_refused(
    tmp_path: Path, options: dict[str, int], words: str
) -> None:
    with pytest.raises(ReadError, match=words):
        open_stack(make_czi(tmp_path / "a.czi", plane_blocks(), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("xml", ["<!DOCTYPE x><a/>", "<a", "<a>" * 300 + "</a>" * 300])
def test_czi_metadata_that_are_hostile_or_broken_are_refused(tmp_path: Path, xml: str) -> None:
    with pytest.raises(ReadError, match="DOCTYPE|cannot be parsed|nested"):
        open_stack(make_czi(tmp_path / "a.czi", plane_blocks(), xml=xml))


def test_a_cut_czi_never_reads_as_a_smaller_one(tmp_path: Path) -> None:
    data = make_czi(tmp_path / "a.czi", plane_blocks()).read_bytes()
    for percent in range(0, 100, 2):
        (tmp_path / "b.czi").write_bytes(data[: len(data) * percent // 100])
        with pytest.raises(ReadError):
            np.asarray(open_stack(tmp_path / "b.czi").data)


def make_dv(path: Path, sequence: int, order: str, *, kind: int = 6, times: int = 1) -> Path:
    head = bytearray(1024)
    struct.pack_into(order + "4i", head, 0, 8, 6, 6, kind)
    struct.pack_into(order + "3f", head, 40, 0.1, 0.2, 0.5)
    struct.pack_into(order + "ih", head, 92, 100, -16224)
    struct.pack_into(order + "2h", head, 180, times, sequence)
    struct.pack_into(order + "3h", head, 196, 2, 525, 605)
    stored = {0: PIXELS, 1: PIXELS.transpose(1, 0, 2, 3), 2: PIXELS}[sequence]
    path.write_bytes(bytes(head) + b"\0" * 100 + stored.astype(order + "u2").tobytes())
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_deltavision_planes_come_in_every_order(tmp_path: Path, sequence: int, order: str) -> None:
    stack = open_stack(make_dv(tmp_path / "a.dv", sequence, order))
    assert (stack.axes, stack.metadata["emission_nm"]) == ("CZYX", [525.0, 605.0])
    assert stack.voxel_size.zyx_um == pytest.approx((0.5, 0.2, 0.1))
    np.testing.assert_array_equal(np.asarray(stack.data), PIXELS)


def test_a_damaged_or_cut_deltavision_file_is_refused(tmp_path: Path) -> None:
    for options in ({"kind": 4}, {"times": 4}):
        with pytest.raises(ReadError, match="DeltaVision header is damaged"):
            open_stack(make_dv(tmp_path / "a.dv", 0, "<", **options))
    data = make_dv(tmp_path / "a.dv", 0, "<").read_bytes()
    for count in (500, 1024, len(data) - 1):
        (tmp_path / "a.dv").write_bytes(data[:count])
        with pytest.raises(ReadError, match="cut short"):
            open_stack(tmp_path / "a.dv")


def make_inr(
    path: Path, pixels: np.ndarray[Any, np.dtype[Any]], kind: str, cpu: str, waves: int = 1
) -> Path:
    z, y, x = pixels.shape[:3]
    lines = [
        f"XDIM={x}",
        f"YDIM={y}",
        f"ZDIM={z}",
        f"VDIM={waves}",
        f"TYPE={kind}",
        f"PIXSIZE={pixels.dtype.itemsize * 8} bits",
        f"CPU={cpu}",
    ]
    text = ("#INRIMAGE-4#{\n" + "\n".join([*lines, "VX=0.1", "VY=0.2", "VZ=0.5"]) + "\n").encode()
    data = (
        text.ljust(252, b"\n")
        + b"##}\n"
        + pixels.astype(pixels.dtype.newbyteorder(">" if cpu == "sun" else "<")).tobytes()
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.inr", "a.inr.gz"])
@pytest.mark.parametrize("cpu", ["decm", "sun"])
@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("uint8", "unsigned fixed"), ("int16", "signed fixed"), ("float32", "float")],
)
def test_inrimages_of_every_kind_open(
    tmp_path: Path, name: str, cpu: str, dtype: str, kind: str
) -> None:
    stack = open_stack(make_inr(tmp_path / name, PIXELS[0].astype(dtype), kind, cpu))
    assert (stack.axes, stack.dtype, stack.name) == ("ZYX", np.dtype(dtype), "a")
    assert stack.voxel_size.zyx_um == (0.5, 0.2, 0.1)
    np.testing.assert_array_equal(np.asarray(stack.data), PIXELS[0].astype(dtype))


def test_inrimage_vectors_become_channels_and_cuts_are_seen(tmp_path: Path) -> None:
    vectors = np.ascontiguousarray(PIXELS.transpose(1, 2, 3, 0))
    path = make_inr(tmp_path / "a.inr.gz", vectors, "unsigned fixed", "decm", waves=2)
    stack = open_stack(path)
    assert stack.axes == "CZYX"
    np.testing.assert_array_equal(np.asarray(stack.data), PIXELS)
    plain = make_inr(tmp_path / "b.inr", PIXELS[0], "unsigned fixed", "decm")
    for cut, count in ((path, len(path.read_bytes()) - 9), (plain, len(plain.read_bytes()) - 1)):
        cut.write_bytes(cut.read_bytes()[:count])
        with pytest.raises(ReadError):
            np.asarray(open_stack(cut).data)


def test_gzip_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"hello" * 100))
    with pytest.raises(ReadError, match="holds no INRIMAGE; unpack it first"):
        open_stack(tmp_path / "a.gz")


def test_hdf5_datasets_are_chosen_by_name_and_links_are_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["raw"] = PIXELS[0]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["label"] = np.zeros((9, 8, 7), np.uint8)
        file["raw"] = np.ones((9, 8, 7), np.uint8)
        file["raw"].attrs["element_size_um"] = (0.5, 0.2, 0.1)
        file["group/more"] = np.full((9, 8, 7), 2, np.uint8)
        file["text"] = "hello"
        file["line"] = np.arange(5)
        file["outside"] = h5py.ExternalLink("secret.h5", "/raw")
        file["soft"] = h5py.SoftLink("/raw")
    assert inspect_image(tmp_path / "a.h5").series == 3
    assert [
        int(np.asarray(open_stack(tmp_path / "a.h5", series=i).data).max()) for i in range(3)
    ] == [1, 2, 0]
    assert open_stack(tmp_path / "a.h5").voxel_size.zyx_um == (0.5, 0.2, 0.1)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("raw", (3, 8, 9), "u1", external=[("/etc/passwd", 0, 216)])
    with pytest.raises(ReadError, match="are in another file"):
        open_stack(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["line"] = np.arange(5)
    with pytest.raises(ReadError, match="no dataset that could be an image"):
        open_stack(tmp_path / "c.h5")


def test_hdf5_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ReadError,
        match=r'reading HDF5 needs the package h5py; install it with: pip install "zenhance\[io\]"',
    ):
        open_stack(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("mode", "axes", "names"),
    [
        ("L", "YX", ()),
        ("I;16", "YX", ()),
        ("1", "YX", ()),
        ("RGB", "CYX", ("red", "green", "blue")),
        ("RGBA", "CYX", ("red", "green", "blue", "alpha")),
        ("P", "CYX", ("red", "green", "blue")),
    ],
)
def test_pictures_of_every_mode_open_in_two_dimensions(
    tmp_path: Path, mode: str, axes: str, names: tuple[str, ...]
) -> None:
    from PIL import Image

    base = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    picture = (
        Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000)
        if mode == "I;16"
        else base.convert(mode)
    )
    picture.save(tmp_path / "a.png")
    stack = open_stack(tmp_path / "a.png")
    meant = np.asarray(picture if mode != "P" else picture.convert("RGB"))
    assert (stack.axes, stack.channel_names, stack.voxel_size.zyx_um) == (
        axes,
        names,
        (None, None, None),
    )
    np.testing.assert_array_equal(
        np.asarray(stack.data), meant if axes == "YX" else meant.transpose(2, 0, 1)
    )


def test_a_jpeg_opens_and_colours_of_16_bits_are_not_cut_to_8(tmp_path: Path) -> None:
    import zlib

    from PIL import Image

    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(tmp_path / "a.jpg")
    assert int(np.asarray(open_stack(tmp_path / "a.jpg").data).max()) == 77

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + b"\x12\x34" * 24 for _ in range(6)))
    (tmp_path / "b.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )
    with pytest.raises(ReadError, match="16-bit colours"):
        open_stack(tmp_path / "b.png")
