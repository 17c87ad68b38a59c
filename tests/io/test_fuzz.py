"""Readers meet nonsense: whatever bytes come, they give data or a ReadError, and quickly."""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zenhance.errors import ReadError
from zenhance.io import inspect_image, open_stack
from zenhance.io.limits import check_xml
from zenhance.io.ome_xml import parse_ome
from zenhance.io.source import LazyArray

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
QUICK = settings(
    max_examples=150,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIXELS = np.arange(5 * 9 * 8, dtype=np.uint16).reshape(5, 9, 8)
Changes = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6
)


@cache
def sample(kind: str) -> bytes:
    """Return a small valid file of a kind."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        options: dict[str, Any] = {
            "imagej": {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 0.5, "unit": "um"}},
            "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
            "zlib": {"compression": "zlib"},
            "big": {"bigtiff": True, "byteorder": ">"},
        }
        if kind in options:
            tifffile.imwrite(path, PIXELS, photometric="minisblack", **options[kind])
            return path.read_bytes()
    if kind == "inr":
        head = (
            b"#INRIMAGE-4#{\nXDIM=8\nYDIM=9\nZDIM=5\nVDIM=1\nTYPE=unsigned fixed\nPIXSIZE=16 "
            b"bits\nCPU=decm\nVX=0.1\nVY=0.1\nVZ=0.5\n"
        )
        return head.ljust(252, b"\n") + b"##}\n" + PIXELS.tobytes()
    name = {
        "czi": "ndev_T3_C4_Z3_zstd.czi",
        "lsm": "zeiss_single_plane.lsm",
        "dv": "deltavision_toxo_c2_z17.dv",
        "stk": "metamorph.stk",
    }[kind]
    path = DATA / "formats" / name
    if not path.is_file():
        pytest.skip("real microscope files are not on this machine")
    return path.read_bytes()


def read_all(path: Path) -> None:
    with contextlib.suppress(ReadError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        info = inspect_image(path)
        if info.decoded_bytes < 2**26:
            axes = "TCZYX"[-len(info.axes) :] if "?" in info.axes else None
            stack = open_stack(path, axes=axes)
            assert np.asarray(stack.data[...]).shape == stack.shape


@pytest.mark.parametrize("kind", ["imagej", "ome", "zlib", "big", "inr"])
@given(changes=Changes, keep=st.floats(0.05, 1), near=st.booleans())
@QUICK
def test_mutated_small_files_give_data_or_a_sentence(
    tmp_path: Path, kind: str, changes: list[tuple[float, int]], keep: float, near: bool
) -> None:
    data = bytearray(sample(kind))
    span = min(400, len(data)) if near else len(data)
    for place, value in changes:
        data[int(place * span)] = value
    path = tmp_path / "a.tif"
    path.write_bytes(data[: max(8, int(len(data) * keep))] if not near else data)
    read_all(path)


@pytest.mark.parametrize("kind", ["czi", "lsm", "dv", "stk"])
@given(changes=Changes, span=st.sampled_from([256, 2048, 65_536]), end=st.booleans())
@settings(QUICK, max_examples=40)
def test_mutated_vendor_files_give_data_or_a_sentence(
    tmp_path: Path, kind: str, changes: list[tuple[float, int]], span: int, end: bool
) -> None:
    data = bytearray(sample(kind))
    span = min(span, len(data))
    for place, value in changes:
        at = int(place * span)
        data[len(data) - 1 - at if end else at] = value
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    read_all(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
ARRAY = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [5, 9, 8],
    "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 9, 8]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "dimension_names": ["z", "y", "x"],
    "attributes": {},
}
AXES = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
LEVEL = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.1, 0.1]}]}
OME = {
    "version": "0.5",
    "multiscales": [{"axes": AXES, "datasets": [LEVEL]}],
    "omero": {"channels": [{"label": "a"}]},
}


@given(
    array_key=st.sampled_from([*ARRAY, None]),
    image_key=st.sampled_from(["version", "multiscales", "omero", "axes", "datasets", None]),
    value=JSON,
)
@QUICK
def test_mutated_zarr_metadata_give_data_or_a_sentence(
    tmp_path: Path, array_key: str | None, image_key: str | None, value: Any
) -> None:
    root = tmp_path / "a.ome.zarr"
    (root / "0").mkdir(parents=True, exist_ok=True)
    array, ome = dict(ARRAY), json.loads(json.dumps(OME))
    if array_key:
        array[array_key] = value
    if image_key in ("axes", "datasets"):
        ome["multiscales"][0][image_key] = value
    elif image_key:
        ome[image_key] = value
    (root / "0" / "zarr.json").write_text(json.dumps(array))
    (root / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})
    )
    read_all(root)


@given(text=st.text(max_size=200) | st.text(alphabet='<>/!="abOME? ', max_size=200))
@QUICK
def test_any_text_as_ome_xml_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(ReadError):
        check_xml(Path("a.tif"), text)
        parse_ome(Path("a.tif"), text)


indices = st.integers(-4, 3) | st.slices(4)


@given(
    key=st.lists(indices, max_size=4).map(tuple) | indices | st.just(...) | st.just((..., 1)),
    order=st.permutations(range(4)),
)
@settings(QUICK, max_examples=300)
def test_a_lazy_array_indexes_as_numpy_does(key: Any, order: list[int]) -> None:
    whole = np.arange(4**4).reshape(4, 4, 4, 4)
    lazy = LazyArray(
        Path("a"), (4, 4), (4, 4), whole.dtype, lambda i: whole.reshape(16, 4, 4)[i]
    ).transpose(*order)
    np.testing.assert_array_equal(lazy[key], whole.transpose(order)[key])
    assert lazy.shape == (4, 4, 4, 4)


def test_a_lazy_array_takes_lists_and_masks_and_refuses_too_many_indices() -> None:
    whole = np.arange(24).reshape(2, 3, 4)
    lazy = LazyArray(Path("a"), (2,), (3, 4), whole.dtype, lambda i: whole[i])
    np.testing.assert_array_equal(lazy[[1, 0], 1], whole[[1, 0], 1])
    np.testing.assert_array_equal(lazy[whole > 5], whole[whole > 5])
    np.testing.assert_array_equal(np.asarray(lazy, np.float32), whole.astype(np.float32))
    assert (len(lazy), lazy.ndim, lazy.size, lazy.nbytes) == (2, 3, 24, whole.nbytes)
    for key in ((0, 0, 0, 0), 2, -3):
        with pytest.raises(IndexError):
            lazy[key]


def test_a_lazy_array_reads_only_the_blocks_it_needs_and_each_once() -> None:
    read: list[int] = []

    def block(index: int) -> np.ndarray[Any, np.dtype[Any]]:
        read.append(index)
        return np.full((3, 4), index)

    lazy = LazyArray(Path("a"), (5,), (3, 4), np.int64, block)
    assert lazy[1:3, 0, 0].tolist() == [1, 2]
    assert lazy[2, 1].tolist() == [2] * 4
    assert read == [1, 2]
