"""Nobody's file is followed, overwritten or removed: locks, interrupted writes, stores."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from zenhance.errors import OutputExistsError, exit_code
from zenhance.io import commit as gate
from zenhance.io import open_stack, write_stack
from zenhance.io.commit import write_bytes
from zenhance.io.limits import read_bounded
from zenhance.io.lock import locked
from zenhance.io.partial import clean_orphans, process_is_alive, process_start
from zenhance.io.write_zarr import foreign_in_store
from zenhance.stack import Stack

OLD = Stack.from_array(np.full((7, 20, 30), 1, np.uint8), "ZYX", (1, 1, 1))
NEW = Stack.from_array(np.full((7, 20, 30), 2, np.uint8), "ZYX", (1, 1, 1))
OURS = {"pid": 1, "host": "a", "since": "2026-01-01 00:00:00"}

posix = pytest.mark.skipif(os.name != "posix", reason="uses links, pipes and devices of POSIX")


def tree(folder: Path) -> dict[str, bytes | str]:
    """Everything in a folder: contents of files, targets of links, kinds of the rest."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = path.read_bytes() if path.is_file() else str(path.lstat().st_mode)
    return found


def link_to_text(lock: Path) -> None:
    (lock.parent / "thesis.txt").write_text("years of work")
    lock.symlink_to("thesis.txt")


def link_to_empty(lock: Path) -> None:
    (lock.parent / "empty.txt").touch()
    lock.symlink_to("empty.txt")


def link_to_lock(lock: Path) -> None:
    (lock.parent / "other.json").write_text(json.dumps(OURS))
    lock.symlink_to("other.json")


def second_name(lock: Path) -> None:
    (lock.parent / "empty.txt").touch()
    os.link(lock.parent / "empty.txt", lock)


def folder_with_file(lock: Path) -> None:
    lock.mkdir()
    (lock / "note.txt").write_text("mine")


VICTIMS: dict[str, Callable[[Path], object]] = {
    "link to a text": link_to_text,
    "link to an empty file": link_to_empty,
    "link to a lock": link_to_lock,
    "link to nothing": lambda lock: lock.symlink_to("absent.txt"),
    "second name": second_name,
    "folder": folder_with_file,
    "empty folder": lambda lock: lock.mkdir(),
    "pipe": lambda lock: os.mkfifo(lock),
    "text": lambda lock: lock.write_text("my notes"),
    "json": lambda lock: lock.write_text('{"pid": 1, "host": "a", "since": "b", "note": "mine"}'),
    "pid as a float": lambda lock: lock.write_text('{"pid": 1e30, "host": "a", "since": "b"}'),
    "list": lambda lock: lock.write_text("[1, 2]"),
    "deep": lambda lock: lock.write_text("[" * 4000),
    "digits": lambda lock: lock.write_text('{"pid": ' + "9" * 4050 + "}"),
    "large": lambda lock: lock.write_text(json.dumps(OURS) + " " * 5000),
    "zeros": lambda lock: lock.write_bytes(b"\0" * 64),
}


@posix
@pytest.mark.parametrize("name", [n for n in VICTIMS if n != "pipe" or hasattr(os, "mkfifo")])
@pytest.mark.parametrize("writer", ["tif", "zarr", "bytes"])
def test_what_has_the_name_of_the_lock_survives_and_is_named(
    tmp_path: Path, name: str, writer: str
) -> None:
    path = tmp_path / {"tif": "a.ome.tif", "zarr": "a.ome.zarr", "bytes": "a.yaml"}[writer]
    VICTIMS[name](tmp_path / f".{path.name}.lock")
    before = tree(tmp_path)
    with pytest.raises(OutputExistsError, match=r"was not changed; rename or remove it") as caught:
        write_bytes(path, b"x") if writer == "bytes" else write_stack(path, NEW, overwrite=True)
    assert f".{path.name}.lock" in str(caught.value)
    assert exit_code(caught.value) == 9
    assert tree(tmp_path) == before


@posix
@pytest.mark.parametrize("name", [n for n in VICTIMS if n != "pipe" or hasattr(os, "mkfifo")])
def test_a_victim_that_appears_after_the_check_survives_as_well(tmp_path: Path, name: str) -> None:
    VICTIMS[name](tmp_path / ".a.lock")
    before = tree(tmp_path)
    with pytest.raises(OutputExistsError), locked(tmp_path / "a"):
        pass
    assert tree(tmp_path) == before


@pytest.mark.parametrize("content", ["", json.dumps(OURS), json.dumps({**OURS, "pid": 10**30})])
def test_an_empty_lock_and_one_of_ours_are_taken_and_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / ".a.lock").write_text(content)
    with locked(tmp_path / "a"):
        assert json.loads((tmp_path / ".a.lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_file_put_in_the_place_of_a_held_lock_is_kept(tmp_path: Path) -> None:
    with locked(tmp_path / "a"):
        (tmp_path / ".a.lock").rename(tmp_path / "moved")
        (tmp_path / ".a.lock").write_text("mine")
    assert (tmp_path / ".a.lock").read_text() == "mine"


def orphan(path: Path, **changes: object) -> Path:
    folder = path.with_name(f".{path.name}.zenhance-abc123.partial")
    folder.mkdir()
    record = {"run": "abc123", "pid": os.getpid(), "host": platform.node(), **changes}
    (folder / "owner.json").write_text(json.dumps(record))
    (folder / "payload.ome.tif").write_text("half")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="reads the process table of POSIX")
def test_an_interrupted_write_is_cleaned_after_its_process_number_was_given_away(
    tmp_path: Path,
) -> None:
    """The record names a living process which began at another time than the writer."""
    start = process_start(os.getpid())
    assert start is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        folder = orphan(tmp_path / "a", pid=other.pid, process_start=start)
        clean_orphans(tmp_path / "a")
        assert not folder.exists()
        folder = orphan(tmp_path / "a", pid=other.pid, process_start=process_start(other.pid))
        clean_orphans(tmp_path / "a")
        assert folder.exists()
        other.communicate(b"\n")
    clean_orphans(tmp_path / "a")
    assert not folder.exists()


@pytest.mark.parametrize("pid", [10**30, 1e30, -1, 0, 2**31, 2**63, "12", None, True])
def test_an_impossible_process_number_is_never_an_exception(tmp_path: Path, pid: object) -> None:
    orphan(tmp_path / "a.ome.tif", pid=pid)
    write_stack(tmp_path / "a.ome.tif", NEW)
    assert open_stack(tmp_path / "a.ome.tif").shape == NEW.shape
    assert not process_is_alive(10**30)


@posix
def test_an_owner_record_that_is_a_pipe_or_a_link_is_not_opened(tmp_path: Path) -> None:
    for number, make in enumerate((os.mkfifo, lambda p: p.symlink_to("/dev/zero"))):
        folder = tmp_path / f".a.zenhance-{number}.partial"
        folder.mkdir()
        make(folder / "owner.json")
    start = time.perf_counter()
    clean_orphans(tmp_path / "a")
    assert time.perf_counter() - start < 2
    assert len(list(tmp_path.iterdir())) == 2


@posix
def test_a_bounded_read_takes_regular_files_of_limited_size_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert read_bounded(tmp_path / "a", 100) == b"x" * 100
    with pytest.raises(OSError, match=r"larger than 99 B"):
        read_bounded(tmp_path / "a", 99)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    start = time.perf_counter()
    for name in ("pipe", "zero"):
        with pytest.raises(OSError, match=r"not a regular file"):
            read_bounded(tmp_path / name, 100)
    with pytest.raises(OSError, match=r"is a folder"):
        read_bounded(tmp_path, 100)
    with pytest.raises(OSError, match=r"no such file"):
        read_bounded(tmp_path / "absent", 100)
    assert time.perf_counter() - start < 2


@pytest.fixture(scope="module")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of ours with two levels."""
    pixels = np.arange(2 * 3 * 300, dtype=np.uint16).reshape(2, 3, 300)
    made = tmp_path_factory.mktemp("made") / "a.ome.zarr"
    return write_stack(made, Stack.from_array(pixels, "ZYX"))


@pytest.fixture
def store(made_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_store, tmp_path / "a.ome.zarr"))


def users_array(store: Path, name: str) -> None:
    zarr.create_array(store=str(store / name), data=np.ones((2, 2), np.uint8))


def users_own_level(store: Path) -> None:
    shutil.rmtree(store / "1")
    users_array(store, "1")


def users_attribute(store: Path) -> None:
    record = json.loads((store / "zarr.json").read_text())
    record["attributes"]["counted by hand"] = [1, 2, 3]
    (store / "zarr.json").write_text(json.dumps(record))


ADDED: dict[str, tuple[Callable[[Path], object], str]] = {
    "array": (lambda s: users_array(s, "2"), "2/"),
    "array in a level": (lambda s: users_array(s, "0/0"), "0/0/"),
    "array instead of a level": (users_own_level, "1/zarr.json"),
    "labels": (lambda s: users_array(s, "labels/cells"), "labels/"),
    "attribute": (users_attribute, "zarr.json: counted by hand"),
    "text": (lambda s: (s / "notes.txt").write_text("x"), "notes.txt"),
    "text in a level": (lambda s: (s / "0" / "notes.txt").write_text("x"), "0/notes.txt"),
    "chunk outside the grid": (
        lambda s: shutil.copytree(s / "0" / "c" / "0", s / "0" / "c" / "7"),
        "0/c/7/",
    ),
    "chunk of another spelling": (
        lambda s: shutil.copytree(s / "0" / "c" / "0", s / "0" / "c" / "00"),
        "0/c/00/",
    ),
    "file where folders are": (lambda s: (s / "0" / "c" / "x").write_text("x"), "0/c/x"),
    "empty folder": (lambda s: (s / "figures").mkdir(), "figures/"),
    "link": (lambda s: (s / "2").symlink_to(s / "0"), "2@"),
    "hidden": (lambda s: (s / ".git").mkdir(), ".git/"),
}


@posix
@pytest.mark.parametrize("name", ADDED)
def test_what_others_put_into_our_store_survives_overwriting_and_is_named(
    store: Path, name: str
) -> None:
    add, said = ADDED[name]
    add(store)
    before = tree(store)
    assert foreign_in_store(store) == said
    with pytest.raises(OutputExistsError, match=r"which zenhance did not write") as caught:
        write_stack(store, NEW, overwrite=True)
    assert f'"{said}"' in str(caught.value)
    assert tree(store) == before


def test_a_store_of_ours_is_replaced_also_with_lost_chunks_or_levels(store: Path) -> None:
    assert foreign_in_store(store) is None
    next((store / "0" / "c").rglob("*0")).rename(store.parent / "lost")
    assert foreign_in_store(store) is None
    write_stack(store, NEW, overwrite=True)
    assert int(np.asarray(open_stack(store).data).max()) == 2


@pytest.mark.parametrize("levels", [{}, [], None, [{"path": ".."}], [{"path": "labels"}], "0"])
def test_metadata_that_list_no_levels_of_ours_protect_the_folder(
    store: Path, levels: object
) -> None:
    record = json.loads((store / "zarr.json").read_text())
    record["attributes"]["ome"]["multiscales"][0]["datasets"] = levels
    (store / "zarr.json").write_text(json.dumps(record))
    assert foreign_in_store(store) == ("0/" if levels in ({}, []) else "")
    with pytest.raises(OutputExistsError):
        write_stack(store, NEW, overwrite=True)


def test_what_is_put_into_the_store_while_the_new_image_is_written_survives(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(point: str) -> None:
        if point == "before_replace":
            (store / "figure.png").write_text("mine")

    monkeypatch.setattr(gate, "reach", put)
    with pytest.raises(OutputExistsError, match=r'"figure.png"'):
        write_stack(store, NEW, overwrite=True)
    assert (store / "figure.png").read_text() == "mine"
    assert open_stack(store).shape == (2, 3, 300)


def test_a_lock_excludes_threads_of_one_process(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def second() -> None:
        try:
            with locked(tmp_path / "a"):
                pass
        except OSError as error:
            errors.append(error)

    with locked(tmp_path / "a"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert f"being written by process {os.getpid()}" in str(errors[0])
