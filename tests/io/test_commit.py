"""Existing files survive every kind of failure, and files of others are never touched."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zenhance.errors import BusyError, OutputExistsError, WriteError, exit_code
from zenhance.io import commit as gate
from zenhance.io import open_stack, partial, verify_image, write, write_stack
from zenhance.io.lock import locked
from zenhance.io.partial import Partial, clean_orphans, process_is_alive, remove_partial
from zenhance.stack import Stack

OLD = Stack.from_array(np.full((7, 20, 30), 1, np.uint8), "ZYX", (1, 1, 1))
NEW = Stack.from_array(np.full((7, 20, 30), 2, np.uint8), "ZYX", (1, 1, 1))
ENDINGS = ["ome.tif", "tif", "ome.zarr"]
POINTS = ["after_open", "half", "before_fsync", "before_replace", "after_replace"]


def value_of(path: Path) -> int:
    verify_image(path)
    return int(np.asarray(open_stack(path).data).max())


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("replaces", [False, True])
def test_a_kill_at_any_point_leaves_the_old_image_or_the_new_one(
    tmp_path: Path, ending: str, replaces: bool
) -> None:
    """One process imports the libraries and forks a victim for every point."""
    code = f"""
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    import tifffile, zarr
    from zenhance.io import commit, write_stack, open_stack
    from zenhance.stack import Stack

    for point in {POINTS}:
        pid = os.fork()
        if pid == 0:
            kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
            commit.reach = lambda name: kill() if name == point else None
            new = Stack.from_array(np.full((7, 20, 30), 2, np.uint8), "ZYX", (1, 1, 1))
            write_stack(Path(sys.argv[1]) / point / "a.{ending}", new, overwrite={replaces})
            os._exit(0)
        print(os.WTERMSIG(os.waitpid(pid, 0)[1]))
    """
    for point in POINTS:
        (tmp_path / point).mkdir()
        if replaces:
            write_stack(tmp_path / point / f"a.{ending}", OLD)
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert run.stdout.split() == [str(int(signal.SIGKILL))] * len(POINTS)
    for point in POINTS:
        path = tmp_path / point / f"a.{ending}"
        if point == "after_replace":
            assert value_of(path) == 2
        elif replaces:
            assert value_of(path) == 1
        else:
            assert not path.exists()
        assert any(name.endswith(".partial") for name in leftovers(path.parent))
        write_stack(path, NEW, overwrite=True)
        assert value_of(path) == 2
        assert leftovers(path.parent) == []


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("point", POINTS[:-1])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("16777216 requested and 2621312 written"),
        KeyboardInterrupt(),
        MemoryError(),
    ],
)
def test_a_failure_keeps_the_old_image_and_cleans_up(
    tmp_path: Path, ending: str, point: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_stack(tmp_path / f"a.{ending}", OLD)

    def fail(name: str) -> None:
        if name == point:
            raise error

    monkeypatch.setattr(gate, "reach", fail)
    with pytest.raises((WriteError, KeyboardInterrupt)) as caught:
        write_stack(path, NEW, overwrite=True)
    monkeypatch.undo()
    if isinstance(error, OSError):
        assert exit_code(caught.value) == 6
        assert "what was there before is unchanged" in str(caught.value)
    assert value_of(path) == 1
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_seen_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(WriteError, match=r"too full: .* needed, 1 kB free") as caught:
        write_stack(tmp_path / "a.ome.tif", NEW)
    assert exit_code(caught.value) == 6
    assert list(tmp_path.iterdir()) == []


def test_files_fsync_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = gate.fsync_path
    monkeypatch.setattr(
        gate, "fsync_path", lambda p: (calls.append("folder" if p == tmp_path else "file"), real(p))
    )
    monkeypatch.setattr(
        gate, "place_file", lambda *a: (calls.append("rename"), partial.place_file(*a))[1]
    )
    write_stack(tmp_path / "a.ome.tif", NEW)
    assert calls == ["file", "rename", "folder"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_result_that_reads_back_differently_is_thrown_away(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_stack(tmp_path / f"a.{ending}", OLD)
    monkeypatch.setattr(write, "hash_planes", lambda *_, **__: ["0" * 64] * 7)
    with pytest.raises(WriteError, match="did not read back as written"):
        write_stack(path, NEW, overwrite=True)
    monkeypatch.undo()
    assert value_of(path) == 1
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_existing_output_is_kept_unless_asked(tmp_path: Path, ending: str) -> None:
    path = write_stack(tmp_path / f"a.{ending}", OLD)
    with pytest.raises(OutputExistsError, match="exists already and was not changed") as caught:
        write_stack(path, NEW)
    assert exit_code(caught.value) == 9
    assert value_of(path) == 1
    assert value_of(write_stack(path, NEW, overwrite=True)) == 2


def test_the_output_may_not_be_the_input_in_any_disguise(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.ome.tif", OLD)
    before = path.read_bytes()
    (tmp_path / "sub").mkdir()
    os.link(path, tmp_path / "hard.ome.tif")
    (tmp_path / "soft.ome.tif").symlink_to(path)
    for output in (
        path,
        tmp_path / "sub" / ".." / "a.ome.tif",
        tmp_path / "hard.ome.tif",
        tmp_path / "soft.ome.tif",
    ):
        with pytest.raises(WriteError, match="is the input or lies within it") as caught:
            write_stack(output, NEW, overwrite=True, source=path)
        assert exit_code(caught.value) == 2
        with pytest.raises(WriteError, match="is the input"):
            write_stack(output, open_stack(path), overwrite=True)
    assert path.read_bytes() == before


def test_the_output_may_not_lie_in_the_input_store_nor_hold_it(tmp_path: Path) -> None:
    store = write_stack(tmp_path / "a.ome.zarr", OLD)
    with pytest.raises(WriteError, match="is the input or lies within it"):
        write_stack(store / "0" / "b.ome.tif", NEW, source=store)
    with pytest.raises(WriteError, match="is the input or lies within it"):
        write_stack(store, NEW, overwrite=True, source=store)
    with pytest.raises(WriteError, match="is the input or lies within it"):
        write_stack(store, NEW, overwrite=True, source=store / "0")
    assert value_of(store) == 1


def test_a_link_is_never_written_through(tmp_path: Path) -> None:
    target = tmp_path / "precious.txt"
    target.write_text("x")
    (tmp_path / "a.ome.tif").symlink_to(target)
    with pytest.raises(OutputExistsError, match="is a link"):
        write_stack(tmp_path / "a.ome.tif", NEW, overwrite=True)
    assert target.read_text() == "x"


@pytest.mark.parametrize("ending", ["ome.tif", "tif"])
def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").mkdir()
    with pytest.raises(OutputExistsError, match="not an image written by zenhance"):
        write_stack(tmp_path / f"a.{ending}", NEW, overwrite=True)


def test_a_file_is_never_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.ome.zarr").write_text("x")
    with pytest.raises(OutputExistsError, match="not replaced by a folder"):
        write_stack(tmp_path / "a.ome.zarr", NEW, overwrite=True)
    assert (tmp_path / "a.ome.zarr").read_text() == "x"


def test_a_missing_folder_and_a_closed_one_are_said_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WriteError, match="does not exist; make it first"):
        write_stack(tmp_path / "absent" / "a.ome.tif", NEW)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WriteError, match="may not be written to") as caught:
        write_stack(tmp_path / "a.ome.tif", NEW)
    assert exit_code(caught.value) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX signal")
def test_a_second_writer_is_told_who_is_writing_and_a_kill_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    code = """
import sys, time
from pathlib import Path
from zenhance.io.lock import locked
with locked(Path(sys.argv[1])):
    print('locked', flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        with pytest.raises(
            BusyError, match=f"being written by process {child.pid} on .* since"
        ) as caught:
            write_stack(path, NEW)
        assert exit_code(caught.value) == 8
        child.kill()
    assert value_of(write_stack(path, NEW)) == 2
    assert leftovers(tmp_path) == []


def test_a_lock_is_released_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / "a"):
            raise ZeroDivisionError
    assert leftovers(tmp_path) == []


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def samestat(*_: Any) -> bool:
        tries.append(1)
        return len(tries) == 3

    monkeypatch.setattr("zenhance.io.lock.os.path.samestat", samestat)
    with locked(tmp_path / "a"):
        assert len(tries) == 3
    monkeypatch.setattr("zenhance.io.lock.os.path.samestat", lambda *_: False)
    with (
        pytest.raises(BusyError, match=r'the lock of "b" was removed 100 times'),
        locked(tmp_path / "b"),
    ):
        pass


def test_none_of_several_inputs_is_overwritten(tmp_path: Path) -> None:
    inputs = [write_stack(tmp_path / f"{name}.ome.tif", OLD) for name in "ab"]
    for path in inputs:
        with pytest.raises(WriteError, match="is the input"):
            write_stack(path, NEW, overwrite=True, source=inputs)
    assert [value_of(path) for path in inputs] == [1, 1]


def orphan(path: Path, **changes: Any) -> Path:
    folder = path.with_name(f".{path.name}.zenhance-abc123.partial")
    folder.mkdir()
    record = {"run": "abc123", "pid": 2**22 + 1, "host": platform.node(), "started": 0.0, **changes}
    (folder / "owner.json").write_text(json.dumps(record))
    (folder / "payload.ome.tif").write_text("half")
    return folder


def test_orphans_of_dead_processes_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    folder = orphan(path)
    write_stack(path, NEW)
    assert not folder.exists()


@pytest.mark.parametrize(
    "changes", [{"pid": os.getpid()}, {"host": "elsewhere"}, {"run": "other"}, {"pid": "12"}]
)
def test_partial_folders_of_living_or_unknown_owners_are_left_alone(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = tmp_path / "a.ome.tif"
    folder = orphan(path, **changes)
    write_stack(path, NEW)
    assert (folder / "payload.ome.tif").read_text() == "half"


def test_an_image_moved_aside_by_a_killed_run_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    folder = orphan(path)
    write_stack(tmp_path / "b.ome.zarr", OLD).rename(folder / "replaced")
    with locked(path):
        clean_orphans(path)
    assert value_of(path) == 1
    assert leftovers(tmp_path) == []


def test_a_folder_without_our_record_is_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "ch1.txt").write_text("x")
    remove_partial(Partial(folder, folder / "ch1.txt"))
    assert (folder / "ch1.txt").read_text() == "x"


@pytest.mark.parametrize("renames", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_writing_works_where_links_and_swaps_are_refused(
    tmp_path: Path, ending: str, renames: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    if not renames:
        monkeypatch.setattr(partial, "_renameat2", lambda *_: False)
    path = tmp_path / f"a.{ending}"
    assert value_of(write_stack(path, OLD)) == 1
    assert value_of(write_stack(path, NEW, overwrite=True)) == 2
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_name_taken_while_writing_is_not_clobbered(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ome.tif"

    def appear(name: str) -> None:
        if name == "before_replace":
            path.write_text("somebody else's")

    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(gate, "reach", appear)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OutputExistsError, match="appeared while"):
        write_stack(path, NEW)
    assert path.read_text() == "somebody else's"


def test_the_process_table_is_read_right() -> None:
    assert process_is_alive(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert not process_is_alive(child.pid)


@pytest.mark.parametrize(
    "name",
    ["a b.ome.tif", "日本.ome.tif", "-a.ome.tif", "é" * 100 + ".ome.tif", "a" * 247 + ".ome.tif"],
)
def test_odd_names_are_written(tmp_path: Path, name: str) -> None:
    assert value_of(write_stack(tmp_path / name, NEW)) == 2


def test_flipped_bits_in_tiff_pixels_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for ending in ("ome.tif", "tif"):
        path = write_stack(tmp_path / f"a.{ending}", OLD, compression="none")
        good = path.read_bytes()
        at = good.index(b"\x01" * 600)
        for _ in range(20):
            data = bytearray(good)
            data[at + rng.integers(600 * 7)] ^= 1 << rng.integers(8)
            path.write_bytes(data)
            with pytest.raises(
                OSError, match="planes changed after it was written, the first is plane"
            ):
                verify_image(path)
