"""Rules of the room: light imports, one place that writes and removes, samples that are found."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zenhance
from zenhance.errors import StackError
from zenhance.io import open_sample, open_sample_truth, sample_names, samples, write_stack
from zenhance.stack import Stack

PACKAGE = Path(zenhance.__file__).parent
# The modules of the gate out; nothing else may open a path for writing or remove anything.
WRITERS = {
    "commit.py",
    "lock.py",
    "partial.py",
    "write_tiff.py",
    "write_zarr.py",
}
FORBIDDEN_CALLS = {
    "imwrite",
    "rmtree",
    "unlink",
    "rmdir",
    "removedirs",
    "imsave",
    "write_bytes",
    "save_array",
    "memmap_write",
}
REMOVERS = {"partial.py", "lock.py"}


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def modes(call: ast.Call) -> list[str]:
    values = list(call.args[:2]) + [k.value for k in call.keywords if k.arg == "mode"]
    return [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]


def test_nothing_in_the_room_writes_or_removes_outside_the_gate_out() -> None:
    found = []
    for path in sorted((PACKAGE / "io").glob("*.py")):
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            name, keywords = name_of(call), {k.arg: k.value for k in call.keywords}
            overwrites = (
                isinstance(keywords.get("overwrite"), ast.Constant)
                and keywords["overwrite"].value is True
            )  # type: ignore[union-attr]
            opens = name in ("open", "open_group", "open_array", "group", "TiffWriter") and any(
                set(m) & set("wax+") for m in modes(call) if len(m) < 4
            )
            if path.name not in WRITERS and (name in FORBIDDEN_CALLS or opens):
                found.append((path.name, call.lineno, name))
            if overwrites or (name in ("rmtree", "unlink") and path.name not in REMOVERS):
                found.append((path.name, call.lineno, name))
            if name in ("open_group", "create_group", "open_array", "create_array") and any(
                "w" in m for m in modes(call) if len(m) < 3
            ):
                found.append((path.name, call.lineno, name))
    assert found == []


def test_no_other_room_calls_an_image_writer_or_removes_folders() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name == "io":
            continue
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            name = name_of(call)
            if name in ("imwrite", "imsave", "TiffWriter", "rmtree") or (
                name == "create_array" and any(k.arg == "overwrite" for k in call.keywords)
            ):
                found.append((str(path.relative_to(PACKAGE)), call.lineno, name))
    assert found == []


def test_importing_the_room_loads_no_image_library() -> None:
    heavy = ("tifffile", "zarr", "h5py", "dask", "torch", "PIL")
    code = (
        f"import sys, zenhance.io, json; print(json.dumps([m for m in {heavy} if m in "
        "sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []


def test_the_public_names_are_all_there() -> None:
    from zenhance import io

    assert dir(io) == sorted(io.__all__)
    assert all(callable(getattr(io, name)) for name in io.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        io.nothing  # noqa: B018


@pytest.fixture
def sample_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two samples in a folder of their own, the first with its truth."""
    for name, value in (("beads", 1), ("beads_truth", 2), ("beads_labels", 3), ("cells", 4)):
        write_stack(
            tmp_path / f"{name}.ome.tif",
            Stack.from_array(np.full((5, 6, 7), value, np.uint8), "ZYX", (0.5, 0.1, 0.1)),
        )
    monkeypatch.setattr(samples, "_folders", lambda: iter([tmp_path / "absent", tmp_path]))
    return tmp_path


@pytest.mark.usefixtures("sample_folder")
def test_samples_open_by_name_with_their_voxel_size_and_truth() -> None:
    assert sample_names() == ("beads", "cells")
    assert open_sample("beads").voxel_size.zyx_um == (0.5, 0.1, 0.1)
    truth = open_sample_truth("beads")
    assert {k: int(np.asarray(v.data).max()) for k, v in truth.items()} == {"truth": 2, "labels": 3}
    assert open_sample_truth("cells") == {}


@pytest.mark.usefixtures("sample_folder")
@pytest.mark.parametrize("name", ["nothing", "beads_truth", "../beads"])
def test_an_unknown_sample_is_named_with_those_there_are(name: str) -> None:
    with pytest.raises(StackError, match=r"there is no sample .* there are: beads, cells"):
        open_sample(name)


def test_samples_are_looked_for_in_the_package_and_then_in_the_checkout() -> None:
    folders = list(samples._folders())
    assert folders[0] == PACKAGE / "sample_data"
    assert folders[1:] in ([], [PACKAGE.parent.parent / "sample_data"])
