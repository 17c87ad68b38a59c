"""Small files that would become gigabytes, or that never end, are refused in time and memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zenhance.errors import ReadError
from zenhance.io import inspect_image, open_stack
from zenhance.io.compound import check_compound
from zenhance.io.decoded import decoded_bytes

ZEROS = b"\0" * 2**20
MIB = 2**20
LIMIT = 200_000


def streamed(compress: Callable[[bytes], bytes], flush: Callable[[], bytes], count: int) -> bytes:
    return b"".join([compress(ZEROS) for _ in range(count)] + [flush()])


def bomb(name: str, mib: int = 64) -> bytes:
    """Compress so many MiB of zeros; zstd by hand, in blocks that repeat a byte."""
    if name == "zstd":
        return zstd_frame(mib * 8)
    made: Any = {
        "bz2": bz2.BZ2Compressor,
        "lzma": lambda: lzma.LZMACompressor(preset=1),
        "zlib": lambda: zlib.compressobj(9),
        "gzip": lambda: zlib.compressobj(9, 8, 31),
    }[name]()
    return streamed(made.compress, made.flush, mib)


def zstd_frame(blocks: int, size: int = 128 * 1024) -> bytes:
    """A frame without a stated size, of blocks that repeat a zero (RFC 8878, 3.1.1)."""
    body = b"".join(
        (size << 3 | 1 << 1 | (i == blocks - 1)).to_bytes(3, "little") + b"\0"
        for i in range(blocks)
    )
    return b"\x28\xb5\x2f\xfd" + bytes([0x00, 0x58]) + body


SMALL = {
    "bz2": bz2.compress(b"a" * 1000),
    "lzma": lzma.compress(b"a" * 1000),
    "zlib": zlib.compress(b"a" * 1000),
    "gzip": gzip.compress(b"a" * 1000),
    "zstd": zstd_frame(1, 1000),
}
FORMS = {
    "one stream": lambda n: bomb(n),
    "a small stream first": lambda n: SMALL[n] + bomb(n),
    "many streams": lambda n: bomb(n, 1) * 64,
}


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("form", list(FORMS))
def test_data_are_measured_no_further_than_the_limit(name: str, form: str) -> None:
    found = decoded_bytes(name, FORMS[form](name), LIMIT)
    if name == "zlib" and form != "one stream":
        # A zlib decoder ends with the first stream.
        assert found <= LIMIT or form == "many streams"
    else:
        assert found > LIMIT
        assert found <= LIMIT + 128 * MIB


@pytest.mark.parametrize("name", list(SMALL))
def test_honest_data_are_below_the_limit(name: str) -> None:
    assert decoded_bytes(name, SMALL[name], LIMIT) <= 1000
    noise = np.random.default_rng(0).bytes(MIB)
    packed = {"bz2": bz2, "lzma": lzma, "zlib": zlib, "gzip": gzip}.get(name)
    if packed is not None:
        assert decoded_bytes(name, packed.compress(noise), MIB) <= MIB


def store(folder: Path, compressor: Any, chunk: bytes, filters: Any = None) -> Path:
    """A zarr 2 array of one chunk, 4 x 4 x 4 bytes."""
    folder.mkdir(parents=True)
    meta = {
        "zarr_format": 2,
        "shape": [4, 4, 4],
        "chunks": [4, 4, 4],
        "dtype": "|u1",
        "fill_value": 0,
        "order": "C",
        "filters": filters,
        "compressor": compressor,
    }
    (folder / ".zarray").write_text(json.dumps(meta))
    (folder / "0.0.0").write_bytes(chunk)
    return folder


SETTINGS: dict[str, dict[str, Any]] = {
    "bz2": {"id": "bz2", "level": 9},
    "lzma": {"id": "lzma", "format": 1, "check": -1, "preset": None, "filters": None},
    "zlib": {"id": "zlib", "level": 9},
    "gzip": {"id": "gzip", "level": 9},
    "zstd": {"id": "zstd", "level": 1},
}


@pytest.mark.parametrize("name", list(SETTINGS))
@pytest.mark.parametrize("form", ["one stream", "a small stream first"])
def test_a_zarr_chunk_that_would_explode_is_refused(tmp_path: Path, name: str, form: str) -> None:
    if (name, form) == ("zlib", "a small stream first"):
        pytest.skip("a zlib decoder ends with the first stream")
    root = store(tmp_path / "a.zarr", SETTINGS[name], FORMS[form](name))
    with pytest.raises(ReadError, match=r"chunk 0.0.0 becomes .* instead of 64 B"):
        np.asarray(open_stack(root, axes="ZYX").data)


@pytest.mark.parametrize(
    ("compressor", "filters", "words"),
    [
        ({"id": "pickle"}, None, 'codec "pickle"'),
        (None, [{"id": "pickle"}], 'codec "pickle"'),
        (None, [{"id": "json2"}], 'codec "json2"'),
        ({"id": "zlib"}, [{"id": "bz2"}], "compressed more than once"),
        ({"id": "lzma", "format": 3, "filters": [{"id": 33}]}, None, "no header"),
        ("text", None, 'codec "text"'),
    ],
)
def test_codecs_that_run_code_or_are_not_bounded_are_refused_from_the_header(
    tmp_path: Path, compressor: Any, filters: Any, words: str
) -> None:
    root = store(tmp_path / "a.zarr", compressor, b"\0" * 64, filters)
    with pytest.raises(ReadError, match=words):
        inspect_image(root)


@pytest.mark.skipif(os.name != "posix", reason="uses pipes and devices")
def test_a_chunk_that_is_a_pipe_or_a_device_is_refused(tmp_path: Path) -> None:
    root = store(tmp_path / "a.zarr", None, b"\0" * 64)
    (root / "0.0.0").unlink()
    (root / "0.0.0").symlink_to("/dev/zero")
    with pytest.raises(ReadError, match="not a regular file"):
        open_stack(root, axes="ZYX")
    (root / "0.0.0").unlink()
    os.mkfifo(root / "0.0.0")
    with pytest.raises(ReadError):
        open_stack(root, axes="ZYX")


def test_an_uncompressed_chunk_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    root = store(tmp_path / "a.zarr", None, b"\0" * 64)
    with (root / "0.0.0").open("r+b") as handle:
        handle.truncate(2**34)
    with pytest.raises(ReadError, match="becomes 17"):
        open_stack(root, axes="ZYX")


def test_a_billion_chunks_are_counted_without_looking_at_each(tmp_path: Path) -> None:
    root = store(tmp_path / "a.zarr", None, b"\0")
    meta = json.loads((root / ".zarray").read_text())
    meta.update(shape=[1000, 1000, 1000], chunks=[1, 1, 1])
    (root / ".zarray").write_text(json.dumps(meta))
    info = inspect_image(root)
    assert "999999999 of its 1000000000 chunks are missing" in info.metadata["warnings"][0]
    meta.update(shape=[4, 2**15, 2**15])
    (root / ".zarray").write_text(json.dumps(meta))
    with pytest.raises(ReadError, match="chunks of shape .* are needed at once"):
        np.asarray(open_stack(root, axes="ZYX").data[0])


def test_an_array_without_any_chunk_is_not_a_black_image(tmp_path: Path) -> None:
    root = store(tmp_path / "a.zarr", None, b"\0" * 64)
    (root / "0.0.0").unlink()
    with pytest.raises(ReadError, match="all of its 1 chunks are missing"):
        open_stack(root, axes="ZYX")


def inr(mib: int) -> bytes:
    head = (
        f"#INRIMAGE-4#{{\nXDIM=1024\nYDIM=1024\nZDIM={mib}\nVDIM=1\nTYPE=unsigned fixed\n"
        "PIXSIZE=8 bits\nCPU=decm\n"
    ).encode()
    return head.ljust(252, b"\n") + b"##}\n"


def test_an_inrimage_that_would_explode_is_refused(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, 8, 31)
    body = packer.compress(inr(300)) + streamed(packer.compress, packer.flush, 300)
    (tmp_path / "a.inr.gz").write_bytes(body)
    with pytest.raises(ReadError, match="would grow from"):
        inspect_image(tmp_path / "a.inr.gz")


def test_an_hdf5_chunk_that_would_explode_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "raw", (1, 1024, 1024), "u1", chunks=(1, 1024, 1024), compression="gzip"
        )
        packer = zlib.compressobj(1)
        body = streamed(packer.compress, packer.flush, 200)
        assert len(body) * 1040 > 512 * MIB
        made.id.write_direct_chunk((0, 0, 0), body)
    with pytest.raises(ReadError, match="its chunk at .* becomes"):
        np.asarray(open_stack(path, axes="ZYX").data)


def compound(streams: dict[str, bytes]) -> bytearray:
    """Compose a compound file of version 3 with streams of at least 4096 bytes."""
    sectors: list[bytes] = []
    fat: list[int] = []
    entries: list[bytes] = []

    def entry(name: str, kind: int, start: int, size: int) -> bytes:
        text = (name + "\0").encode("utf-16-le")
        return (
            text.ljust(64, b"\0")
            + struct.pack("<HBB", len(text), kind, 1)
            + struct.pack("<III", *[0xFFFFFFFF] * 3)
            + b"\0" * 36
            + struct.pack("<IQ", start, size)
        )

    entries.append(entry("Root Entry", 5, 0xFFFFFFFE, 0))
    for name, data in streams.items():
        first = len(sectors)
        parts = [data[i : i + 512].ljust(512, b"\0") for i in range(0, len(data), 512)]
        sectors += parts
        fat += [*range(first + 1, first + len(parts)), 0xFFFFFFFE]
        entries.append(entry(name, 2, first, len(data)))
    directory = len(sectors)
    raw = b"".join(entries).ljust(512, b"\0")
    sectors.append(raw)
    fat.append(0xFFFFFFFE)
    table = len(sectors)
    fat.append(0xFFFFFFFD)
    sectors.append(struct.pack("<128I", *fat, *[0xFFFFFFFF] * (128 - len(fat))))
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 16
    head += struct.pack("<HHHHH6xIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, directory)
    head += struct.pack("<IIIIII", 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    head += struct.pack("<109I", table, *[0xFFFFFFFF] * 108)
    return bytearray(head + b"".join(sectors))


def test_a_compound_file_is_followed_to_the_end_of_each_chain(tmp_path: Path) -> None:
    path = tmp_path / "a.oib"
    whole = compound({"one": b"1" * 5000, "two": b"2" * 9000})
    path.write_bytes(whole)
    check_compound(path)
    table = len(whole) - 512
    for place, value, words in [
        (3, 1, "broken"),  # a circle
        (3, 0, "broken"),  # as in a zeroed table
        (3, 500, "broken"),  # beyond the end
        (3, 0xFFFFFFFE, "has 4 of 10 sectors"),
        (3, 0xFFFFFFFF, "broken"),
        (9, 12, "share sectors"),
    ]:
        damaged = bytearray(whole)
        struct.pack_into("<I", damaged, table + 4 * place, value)
        path.write_bytes(damaged)
        with pytest.raises(ReadError, match=words):
            check_compound(path)
    for keep in range(0, len(whole), 512):
        path.write_bytes(whole[:keep].ljust(len(whole), b"\0"))
        with pytest.raises(ReadError):
            check_compound(path)


def test_no_bomb_takes_more_than_a_gigabyte_or_five_seconds(tmp_path: Path) -> None:
    """All codecs in one process with a limit of 1 GiB above what it has; each becomes 4 GiB."""
    pytest.importorskip("resource")
    for name in SETTINGS:
        body = zstd_frame(32 * 1024) if name == "zstd" else bomb(name, 1) * 4096
        store(tmp_path / f"{name}.zarr", SETTINGS[name], body)
    code = """
    import resource, sys, time
    from pathlib import Path
    from zenhance.errors import ReadError
    from zenhance.io import open_stack
    import zarr, numcodecs.zstd
    for path in sorted(Path(sys.argv[1]).glob("*.zarr")):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        try:
            open_stack(path, axes="ZYX")
            said = "opened"
        except ReadError as error:
            said = "refused"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        print(path.stem, said, grown, round(time.perf_counter() - start, 1))
    """
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    rows = [line.split() for line in run.stdout.splitlines()]
    assert [r[0] for r in rows] == sorted(SETTINGS)
    for name, said, grown, seconds in rows:
        # Zlib ends after the first MiB, which is more than the chunk as well.
        assert said == "refused", name
        assert int(grown) < 1024, name
        assert float(seconds) < 5, name


def tiff_of(folder: Path, codec: str, segment: bytes) -> Path:
    """A stack of four tiles of 64 x 64 pixels, each of which is the segment."""
    tifffile = pytest.importorskip("tifffile")
    shape, photometric = ((4, 64, 64, 3), "rgb") if codec == "webp" else ((4, 64, 64), "minisblack")
    path = folder / f"{codec}.tif"
    tifffile.imwrite(
        path,
        iter([segment] * 4),
        shape=shape,
        dtype=np.uint8,
        tile=(64, 64),
        compression=codec,
        photometric=photometric,
    )
    return path


def read_all(path: Path) -> np.ndarray[Any, Any]:
    axes = "ZYXC" if path.stem == "webp" else "ZYX"
    return np.asarray(open_stack(path, axes=axes).data)


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "png", "webp"])
@pytest.mark.parametrize("side", [64, 3000])
def test_a_tile_whose_picture_is_far_larger_than_the_tile_is_not_decoded(
    tmp_path: Path, codec: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    colours = (3,) if codec == "webp" else ()
    picture = np.zeros((side, side, *colours), np.uint8)
    encode = {"jpeg": "jpeg", "jpeg2000": "jpeg2k", "png": "png", "webp": "webp"}[codec]
    path = tiff_of(tmp_path, codec, getattr(imagecodecs, f"{encode}_encode")(picture))
    if side == 64:
        assert not read_all(path).any()
        return
    monkeypatch.setattr(imagecodecs, f"{encode}_decode", _not_decoded)
    with pytest.raises(ReadError, match="a strip or tile of .* would become more than"):
        read_all(path)


def _not_decoded(*_: Any, **__: Any) -> None:
    raise AssertionError("the picture was decoded")


@pytest.mark.parametrize(("codec", "name"), [("adobe_deflate", "zlib"), ("lzma", "lzma")])
@pytest.mark.parametrize("installed", [True, False])
def test_a_tile_that_expands_takes_no_memory_with_or_without_imagecodecs(
    tmp_path: Path, codec: str, name: str, installed: bool
) -> None:
    path = tiff_of(tmp_path, codec, bomb(name, 512))
    code = f"""
    import resource, sys
    import numpy as np
    from zenhance.errors import ReadError
    if not {installed}:
        sys.modules["imagecodecs"] = None
    import tifffile
    from zenhance.io import open_stack
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        np.asarray(open_stack({str(path)!r}, axes="ZYX").data)
    except ReadError as error:
        print(str(error)[:300], file=sys.stderr)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200 * 1024, done.stdout
    if not installed:
        assert "would become more than" in done.stderr


def test_a_codec_whose_size_is_not_known_is_refused(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    path = tiff_of(tmp_path, "lerc", imagecodecs.lerc_encode(np.zeros((64, 64), np.uint8)))
    with pytest.raises(ReadError, match="compressed as LERC, which is not read; save it as TIFF"):
        read_all(path)
