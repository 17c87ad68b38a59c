"""A file that is replaced or cut while it is read is an error, never a wrong image."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from zenhance.errors import ReadError
from zenhance.io import open_stack, write_stack
from zenhance.pipeline import EnhanceRequest, enhance_steps
from zenhance.stack import Stack
from zenhance.steps import drain

SHAPE = (6, 64, 48)
PIXELS = np.random.default_rng(0).integers(0, 4000, SHAPE, np.uint16)


def plain(path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "ZYX"}, ome=True)
    return path


def packed(path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    tifffile.imwrite(
        path, pixels, compression="zlib", photometric="minisblack", metadata={"axes": "ZYX"}
    )
    return path


def big_endian(path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    tifffile.imwrite(path, pixels, byteorder=">", imagej=True, metadata={"axes": "ZYX"})
    return path


def zarr(path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    return write_stack(
        path.parent / f"{path.name.partition('.')[0]}.ome.zarr",
        Stack.from_array(pixels, "ZYX", (1, 1, 1)),
    )


def replace(path: Path) -> None:
    other = path.with_name("other.tif")
    other = FORMS[path.name.partition(".")[0]](other, PIXELS[:, ::-1])
    if path.is_dir():
        path.rename(path.with_name("old.zarr"))
    other.replace(path)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0" * 64)
    os.utime(path, ns=(1, 1))


def remove(path: Path) -> None:
    path.unlink()


FORMS: dict[str, Callable[[Path, Any], Path]] = {
    "plain": plain,
    "packed": packed,
    "big_endian": big_endian,
    "zarr": zarr,
}
CHANGES: dict[str, Callable[[Path], None]] = {
    "replaced": replace,
    "cut": cut,
    "rewritten": rewrite,
    "removed": remove,
}
CASES = [(f, c) for f in FORMS for c in CHANGES if f != "zarr" or c == "replaced"]


def made(form: str, folder: Path) -> Path:
    return FORMS[form](folder / f"{form}.tif", PIXELS)


@pytest.mark.parametrize(("form", "change"), CASES)
def test_a_run_whose_input_changes_ends_with_one_sentence(
    tmp_path: Path, form: str, change: str
) -> None:
    path = made(form, tmp_path)
    stack = open_stack(path)
    request = EnhanceRequest(method="identity", tile_px=(2, 32, 32), voxel_size_um=(1, 1, 1))
    steps = enhance_steps(stack, request)
    while next(steps).stage != "enhance":
        pass
    CHANGES[change](path)
    with pytest.raises(ReadError, match=r"since it was opened.*open it again"):
        drain(steps)


@pytest.mark.parametrize(("form", "change"), CASES)
def test_a_stack_that_was_opened_before_the_change_is_refused(
    tmp_path: Path, form: str, change: str
) -> None:
    path = made(form, tmp_path)
    stack = open_stack(path)
    CHANGES[change](path)
    with pytest.raises(ReadError, match="since it was opened"):
        stack.read()


@pytest.mark.parametrize("form", FORMS)
def test_an_unchanged_file_gives_its_pixels(tmp_path: Path, form: str) -> None:
    stack = open_stack(made(form, tmp_path))
    for _ in range(2):
        np.testing.assert_array_equal(stack.read(), PIXELS)
    region = (slice(1, 4), slice(10, 50), slice(3, 40))
    np.testing.assert_array_equal(stack.read(region=region), PIXELS[region])


@pytest.mark.parametrize("form", FORMS)
def test_a_stack_in_a_file_opens_again_in_another_process(tmp_path: Path, form: str) -> None:
    stack = open_stack(made(form, tmp_path)).crop({"Z": slice(1, 5), "X": slice(4, 40)})
    text = pickle.dumps(stack)
    assert len(text) < 10_000, "the pixels stay in the file"
    again = pickle.loads(text)
    assert (again.axes, again.shape, again.voxel_size) == (
        stack.axes,
        stack.shape,
        stack.voxel_size,
    )
    np.testing.assert_array_equal(again.read(), stack.read())
    code = "import pickle,sys; print(int(pickle.load(open(sys.argv[1],'rb')).read().sum()))"
    (tmp_path / "stack.pickle").write_bytes(text)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "stack.pickle")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert int(done.stdout) == int(PIXELS[1:5, :, 4:40].sum())


def test_a_pickled_stack_of_a_file_that_was_replaced_is_refused(tmp_path: Path) -> None:
    path = made("plain", tmp_path)
    text = pickle.dumps(open_stack(path))
    replace(path)
    with pytest.raises(ReadError, match="since it was opened"):
        pickle.loads(text)


def test_axes_in_another_order_survive_the_pickle(tmp_path: Path) -> None:
    stack = open_stack(made("packed", tmp_path), axes="XYZ")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stack)).read(), stack.read())
    np.testing.assert_array_equal(stack.read(), PIXELS.transpose(2, 1, 0))
