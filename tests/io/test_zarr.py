"""OME-Zarr: both versions in, ours out; missing, damaged, hostile and linked chunks."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from zenhance.errors import OutputExistsError, ReadError
from zenhance.io import inspect_image, open_stack, verify_image, write_stack
from zenhance.stack import Stack

PIXELS = (np.random.default_rng(5).random((2, 20, 300, 290)) * 4000).astype(np.uint16)
AXES = [
    {"name": "c", "type": "channel"},
    *({"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"),
]


def ngff(
    version: str, scale: list[float], path: Any = "0", axes: Any = None, **more: Any
) -> dict[str, Any]:
    dataset = {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {
        "version": version,
        "multiscales": [
            {"version": version, "axes": AXES if axes is None else axes, "datasets": [dataset]}
        ],
        **more,
    }


def store_v2(root: Path, pixels: np.ndarray[Any, np.dtype[Any]] = PIXELS, **more: Any) -> Path:
    """Write NGFF 0.4 with the library alone."""
    root.mkdir()
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    (root / ".zattrs").write_text(json.dumps(ngff("0.4", [1.0, 0.5, 0.2, 0.1], **more)))
    zarr.create_array(store=str(root / "0"), data=pixels, chunks=(1, 10, 128, 128), zarr_format=2)
    return root


def store_v3(root: Path, pixels: np.ndarray[Any, np.dtype[Any]] = PIXELS, **more: Any) -> Path:
    """Write NGFF 0.5 with the library alone."""
    root.mkdir()
    zarr.create_array(store=str(root / "0"), data=pixels, chunks=(1, 10, 128, 128))
    attributes = {"ome": ngff("0.5", [1.0, 0.5, 0.2, 0.1], **more)}
    (root / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes})
    )
    return root


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """An image that this program wrote: 2 channels, 20 planes, 3 levels."""
    stack = Stack.from_array(PIXELS, "CZYX", (0.2, 0.2, 0.2), channel_names=["a", "b"])
    return write_stack(tmp_path / "ours.ome.zarr", stack)


@pytest.mark.parametrize("make", [store_v2, store_v3])
def test_foreign_images_of_both_versions_open_lazily(tmp_path: Path, make: Any) -> None:
    root = make(tmp_path / "a.ome.zarr", omero={"channels": [{"label": "DAPI"}, {"label": "GFP"}]})
    stack = open_stack(root)
    assert (stack.axes, stack.shape, stack.channel_names) == ("CZYX", PIXELS.shape, ("DAPI", "GFP"))
    assert stack.voxel_size.zyx_um == (0.5, 0.2, 0.1)
    assert not isinstance(stack.data, np.ndarray)
    np.testing.assert_array_equal(
        stack.read(c=1, region=(slice(3, 5), slice(0, 7), slice(280, 290))),
        PIXELS[1, 3:5, :7, 280:],
    )


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("micrometer", 0.5),
        ("nanometer", None),
        ("millimeter", 500.0),
        (None, None),
        ("pixel", None),
    ],
)
def test_units_scale_the_voxel_and_none_means_unknown(
    tmp_path: Path, unit: str | None, um: float | None
) -> None:
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", **({"unit": unit} if unit else {})},
        *AXES[2:],
    ]
    assert open_stack(store_v3(tmp_path / "a.ome.zarr", axes=axes)).voxel_size.z_um == um


def test_the_highest_level_that_is_there_is_taken_with_its_own_scale(ours: Path) -> None:
    import shutil

    shutil.rmtree(ours / "0")
    content = json.loads((ours / "zarr.json").read_text())
    del content["attributes"]["zenhance"]
    (ours / "zarr.json").write_text(json.dumps(content))
    stack = open_stack(ours)
    assert stack.shape == (2, 10, 150, 145)
    assert stack.voxel_size.zyx_um == pytest.approx((0.4, 0.4, 0.4))
    assert stack.metadata["origin_um"] == pytest.approx((0.1, 0.1, 0.1))


def test_the_pyramid_averages_and_moves_by_half_a_voxel(ours: Path) -> None:
    levels = json.loads((ours / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0][
        "datasets"
    ]
    assert [d["path"] for d in levels] == ["0", "1"]
    assert levels[0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 0.2, 0.2, 0.2]}
    ]
    scale, shift = (t[t["type"]] for t in levels[1]["coordinateTransformations"])
    assert scale == pytest.approx([1.0, 0.4, 0.4, 0.4])
    assert shift == pytest.approx([0.0, 0.1, 0.1, 0.1])
    level = zarr.open_array(store=str(ours / "1"), mode="r")[...]
    meant = PIXELS.reshape(2, 10, 2, 150, 2, 145, 2).astype(float).mean(axis=(2, 4, 6))
    np.testing.assert_array_equal(level, np.rint(meant))


def test_coarse_planes_are_not_averaged_along_z(tmp_path: Path) -> None:
    stack = Stack.from_array(PIXELS[0], "ZYX", (1.0, 0.2, 0.2))
    root = write_stack(tmp_path / "a.ome.zarr", stack)
    assert zarr.open_array(store=str(root / "1"), mode="r").shape == (20, 150, 145)


def test_a_lost_chunk_of_ours_is_named_and_never_black(ours: Path) -> None:
    chunks = sorted(p for p in (ours / "0" / "c").rglob("*") if p.is_file())
    for chunk in chunks:
        saved = chunk.read_bytes()
        for damage in (None, b""):
            chunk.unlink() if damage is None else chunk.write_bytes(damage)
            with pytest.raises(ReadError, match=r"1 of its \d+ chunks are missing"):
                open_stack(ours)
        chunk.write_bytes(saved)
    assert verify_image(ours) == 40


def test_every_flipped_bit_in_our_chunks_is_found(ours: Path) -> None:
    rng = np.random.default_rng(1)
    chunks = sorted(p for p in (ours / "0" / "c").rglob("*") if p.is_file())
    for _ in range(60):
        chunk = chunks[rng.integers(len(chunks))]
        saved = chunk.read_bytes()
        data = bytearray(saved)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        chunk.write_bytes(data)
        with pytest.raises(ReadError):
            verify_image(ours)
        chunk.write_bytes(saved)


def test_our_chunks_carry_a_checksum_and_empty_ones_are_written(tmp_path: Path) -> None:
    root = write_stack(
        tmp_path / "a.ome.zarr",
        Stack.from_array(np.zeros((40, 300, 300), np.uint8), "ZYX", (1, 1, 1)),
    )
    meta = json.loads((root / "0" / "zarr.json").read_text())
    assert {"name": "zstd", "configuration": {"level": 3, "checksum": True}} in meta["codecs"]
    assert sum(1 for p in (root / "0" / "c").rglob("*") if p.is_file()) == 3 * 2 * 2


@pytest.mark.parametrize(
    "path", ["../secret", "/etc", "0/../../secret", "..\\secret", "C:/x", "link"]
)
def test_levels_outside_the_store_are_refused(tmp_path: Path, path: Any) -> None:
    zarr.create_array(store=str(tmp_path / "secret"), data=PIXELS)
    root = store_v3(tmp_path / "a.ome.zarr", path=path)
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ReadError, match="outside of it"):
        open_stack(root)


def test_links_inside_a_store_are_warned_of(tmp_path: Path) -> None:
    root = store_v3(tmp_path / "a.ome.zarr")
    chunk = next(p for p in (root / "0" / "c").rglob("*") if p.is_file())
    os.replace(chunk, tmp_path / "elsewhere")  # noqa: PTH105
    chunk.symlink_to(tmp_path / "elsewhere")
    assert "links inside it" in open_stack(root).metadata["warnings"][0]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("shape", [10**12, 10, 10, 10], "2\\^40|claims"),
        ("shape", [10**10, 10**3, 10**3, 10**3], "claims"),
        ("shape", [2, 0, 300, 290], "damaged"),
        ("shape", [2, -5, 300, 290], "damaged"),
        ("shape", ["a", 5, 300, 290], "damaged"),
        ("shape", "2", "damaged"),
        ("shape", None, "damaged"),
        ("shape", [2, 20, 300], "do not fit"),
        ("data_type", "complex64", "not real numbers"),
        ("data_type", "string", "not real numbers"),
        ("node_type", "group", "is not an array"),
        ("chunk_grid", {"name": "rectilinear"}, "only regular grids"),
        (
            "chunk_grid",
            {"name": "regular", "configuration": {"chunk_shape": [0, 1, 1, 1]}},
            "damaged",
        ),
        (
            "chunk_grid",
            {"name": "regular", "configuration": {"chunk_shape": [2, 10**5, 10**3, 10**3]}},
            "one of its chunks would take",
        ),
        ("codecs", [{"name": "nonsense"}], 'codec "nonsense", which is not read'),
    ],
)
def test_absurd_array_metadata_are_refused_from_the_header(
    tmp_path: Path, key: str, value: Any, words: str
) -> None:
    root = store_v3(tmp_path / "a.ome.zarr")
    content = json.loads((root / "0" / "zarr.json").read_text())
    content[key] = value
    (root / "0" / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(ReadError, match=words):
        inspect_image(root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "no record"),
        ("{}", "without image metadata"),
        ('{"attributes": {"ome": []}}', "hold no record"),
        ('{"attributes": {"ome": {"multiscales": []}}}', "name no image level"),
        (
            '{"attributes": {"ome": {"multiscales": [{"datasets": [{"path": null}, {"path": 3}, '
            "5]}]}}}",
            "none of its 3 resolution levels",
        ),
        (
            '{"attributes": {"ome": {"multiscales": [{"datasets": [{"path": "9"}]}]}}}',
            "none of its 1 resolution levels",
        ),
        (
            '{"attributes": {"ome": {"multiscales": [{"datasets": [{"path": "0"}], "axes": ["y", '
            '"x"]}]}}}',
            "2 axes for 4 dimensions",
        ),
        ('{"attributes": {"ome": {"plate": {}}}}', "name 0 wells"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_damaged_group_metadata_give_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    root = store_v3(tmp_path / "a.ome.zarr")
    (root / "zarr.json").write_text(content)
    with pytest.raises(ReadError, match=words):
        open_stack(root)


def bomb(codec: str) -> bytes:
    """Compose a chunk that says it becomes 4 GB or so."""
    if codec == "zstd":
        return b"\x28\xb5\x2f\xfd" + bytes([0xE0]) + struct.pack("<Q", 2**32) + b"\0" * 20
    if codec == "blosc":
        return struct.pack("<BBBBIII", 2, 1, 1, 1, 2**31 - 1, 2**20, 64) + b"\0" * 48
    packer = zlib.compressobj(wbits=31)
    return packer.compress(b"\0" * 50_000_000) + packer.flush()


@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip"])
def test_chunks_that_would_explode_are_refused_before_decoding(tmp_path: Path, codec: str) -> None:
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    compressor = {"zstd": ZstdCodec(), "blosc": BloscCodec(), "gzip": GzipCodec()}[codec]
    root = store_v3(tmp_path / "a.ome.zarr")
    array = zarr.create_array(
        store=str(root / "1"), data=PIXELS[0], chunks=(10, 128, 128), compressors=compressor
    )
    assert array.shape == PIXELS[0].shape
    content = json.loads((root / "zarr.json").read_text())
    content["attributes"]["ome"] = ngff("0.5", [0.5, 0.2, 0.1], path="1", axes=AXES[1:])
    (root / "zarr.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(np.asarray(open_stack(root).data), PIXELS[0])
    (root / "1" / "c" / "0" / "0" / "0").write_bytes(bomb(codec))
    with pytest.raises(ReadError, match="its chunk c/0/0/0 becomes"):
        open_stack(root)


def test_a_chunk_that_was_refused_is_refused_again(tmp_path: Path) -> None:
    root = store_v3(tmp_path / "a.ome.zarr")
    array = zarr.create_array(
        store=str(root / "1"),
        data=PIXELS[0],
        chunks=(10, 128, 128),
        compressors=zarr.codecs.ZstdCodec(),
    )
    assert array.shape == PIXELS[0].shape
    content = json.loads((root / "zarr.json").read_text())
    content["attributes"]["ome"] = ngff("0.5", [0.5, 0.2, 0.1], path="1", axes=AXES[1:])
    (root / "zarr.json").write_text(json.dumps(content))
    data = open_stack(root).data
    (root / "1" / "c" / "1" / "2" / "2").write_bytes(bomb("zstd"))
    for _ in range(2):
        with pytest.raises(ReadError, match="its chunk c/1/2/2 becomes"):
            data[19, 299, 289]


def test_an_array_without_image_metadata_opens_with_named_axes(tmp_path: Path) -> None:
    zarr.create_array(
        store=str(tmp_path / "a.zarr"), data=PIXELS, dimension_names=["c", "z", "y", "x"]
    )
    assert open_stack(tmp_path / "a.zarr").axes == "CZYX"
    zarr.create_array(store=str(tmp_path / "b.zarr"), data=PIXELS)
    with pytest.raises(ReadError, match="name the axes"):
        open_stack(tmp_path / "b.zarr")
    assert open_stack(tmp_path / "b.zarr", axes="CZYX").size("Z") == 20


def test_a_collection_of_images_is_read_by_series(tmp_path: Path) -> None:
    root = tmp_path / "a.zarr"
    root.mkdir()
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    (root / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    for series in range(2):
        store_v2(root / str(series), PIXELS + series)
    assert open_stack(root, series=1).read()[0, 0, 0] == PIXELS[0, 0, 0, 0] + 1
    assert inspect_image(root).series == 2
    with pytest.raises(ReadError, match="series 2 was requested"):
        open_stack(root, series=2)


def test_only_an_image_folder_of_ours_without_foreign_files_is_replaced(
    ours: Path, tmp_path: Path
) -> None:
    stack = Stack.from_array(PIXELS[0], "ZYX", (1, 1, 1))
    with pytest.raises(OutputExistsError, match="exists already"):
        write_stack(ours, stack)
    assert open_stack(write_stack(ours, stack, overwrite=True)).axes == "ZYX"
    note = ours / "0" / "thesis.txt"
    note.write_text("ten years")
    with pytest.raises(OutputExistsError, match=r'holds "0/thesis.txt", which zenhance did not'):
        write_stack(ours, stack, overwrite=True)
    assert note.read_text() == "ten years"
    for folder in (store_v3(tmp_path / "b.ome.zarr"), tmp_path / "c.ome.zarr"):
        folder.mkdir(exist_ok=True)
        (folder / "mine.txt").write_text("x")
        before = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
        with pytest.raises(OutputExistsError, match="not an image written by zenhance"):
            write_stack(folder, stack, overwrite=True)
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == before
