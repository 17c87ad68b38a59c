"""A batch given again: done files are verified and skipped, everything else is said."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.io import write_stack
from zenhance.pipeline.journal import Journal
from zenhance.stack import Stack

VOXEL_UM = (0.5, 0.25, 0.2)
PSF = "sigma_um=0.5,0.25,0.2"


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["enhance", *(str(word) for word in words)])


def write_image(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).poisson(50, (6, 20, 24)).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_stack(path, Stack.from_array(pixels, "ZYX", VOXEL_UM))


def results_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_rerun_of_a_batch_skips_what_is_done_and_does_the_rest(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.ome.tif")
    words = (tmp_path / "in", tmp_path / "out", "--method", "identity")
    assert run(*words).exit_code == 0
    first = results_in(tmp_path / "out")
    write_image(tmp_path / "in" / "b.ome.tif", seed=1)
    again = run(*words)
    assert again.exit_code == 0, again.output
    assert "skipped: " in again.stdout
    assert again.stdout.splitlines()[-1] == "1 done, 1 skipped, 0 failed"
    assert first.items() < results_in(tmp_path / "out").items()
    record = json.loads(run(*words, "--json").stdout)
    assert (record["done"], record["skipped"], record["failed"]) == (0, 2, 0)
    assert all(one["skipped"] == "its result exists and is unchanged" for one in record["results"])


def test_a_folder_says_what_was_left_out_and_why(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_image(folder / "a.ome.tif")
    for number in range(7):
        (folder / f"note{number}.txt").write_text("no image")
    (folder / "plain").write_text("no image")
    (folder / ".hidden").write_text("no image")
    (folder / "more").mkdir()
    done = run(folder, tmp_path / "out", "--method", "identity")
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.startswith("left out: ")]
    assert lines == [
        "left out: more (a folder, give it by itself)",
        "left out: note0.txt, note1.txt, note2.txt, note3.txt, note4.txt and 2 more "
        '(".txt" is not the name of an image, give the file by itself to try it)',
        "left out: plain (no image by its first bytes)",
    ]
    record = json.loads(run(folder, tmp_path / "out", "--method", "identity", "--json").stdout)
    assert len(record["left_out"]) == 9
    assert record["left_out"][str(folder / "more")] == "a folder, give it by itself"


def test_the_parts_of_one_image_are_said_to_be_its_parts(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = np.random.default_rng(0).poisson(50, (2, 6, 20, 24)).astype(np.uint16)
    names = ["one_0.ome.tif", "one_1.ome.tif"]
    xml = _two_files(names)
    for name, channel in zip(names, pixels, strict=True):
        tifffile.imwrite(folder / name, channel, description=xml, metadata=None)
    done = run(folder, tmp_path / "out", "--method", "identity")
    assert done.exit_code == 0, done.output
    assert "left out: one_1.ome.tif (a part of one_0.ome.tif)" in done.stdout


def _two_files(names: list[str]) -> str:
    """Return the OME-XML of an image whose two channels are in a file each."""
    places = "".join(
        f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:0000000{c}-0000-0000-0000-000000000000</UUID></TiffData>'
        for c, name in enumerate(names)
        for z in range(6)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        'SizeX="24" SizeY="20" SizeZ="6" SizeC="2" SizeT="1">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f'<Channel ID="Channel:0:1" SamplesPerPixel="1"/>{places}</Pixels></Image></OME>'
    )


def test_a_rerun_with_overwrite_does_all_again(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.ome.tif")
    words = (tmp_path / "in", tmp_path / "out", "--method", "identity")
    assert run(*words).exit_code == 0
    again = run(*words, "--overwrite")
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "1 done, 0 skipped, 0 failed")


def test_an_interrupted_batch_skips_continues_and_retries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file is done, the second lost its disk on the way, the third is broken."""
    for number, name in enumerate("ab"):
        write_image(tmp_path / "in" / f"{name}.ome.tif", number)
    (tmp_path / "in" / "broken.tif").write_bytes(b"II*\0 no image at all")
    words = (tmp_path / "in", tmp_path / "out", "--method", "identity", "--format", "ome.zarr")
    words = (*words, "--tile", "3,8,8")
    finish, done = Journal.finish, list[int]()

    def full(self: Journal, outputs: Any, reader: Any, number: int, *rest: Any) -> None:
        if len(done) == 18 + 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        finish(self, outputs, reader, number, *rest)
        done.append(number)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", full)
        first = run(*words)
    assert (first.exit_code, first.stdout.splitlines()[-1]) == (10, "1 done, 0 skipped, 2 failed")
    assert re.search(r"b\.ome\.tif +failed: .*No space left", first.stdout)
    assert len(list((tmp_path / "out").glob(".b*/tiles/*.json"))) == 5
    done.clear()
    monkeypatch.setattr(Journal, "finish", lambda *args: (finish(*args), done.append(args[3])))
    again = run(*words)
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (10, "1 done, 1 skipped, 1 failed")
    assert re.search(r"broken\.tif +failed: ", again.stdout)
    assert done == list(range(5, 18))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a_identity.ome.zarr",
        "b_identity.ome.zarr",
    ]


@pytest.mark.parametrize(
    ("output", "ending", "said"),
    [
        ("out", "png", 'the format "png" cannot be written; choose ome.tif, tif, ome.zarr or h5'),
        ("a.ome.tif", "ome.zarr", "its name chooses the format"),
    ],
)
def test_a_format_that_cannot_be_is_refused(
    tmp_path: Path, output: str, ending: str, said: str
) -> None:
    image = write_image(tmp_path / "in" / "a.ome.tif")
    source = image.parent if output == "out" else image
    refused = run(source, tmp_path / output, "--format", ending)
    assert refused.exit_code == 2
    assert said in refused.stderr


def damage(folder: Path) -> None:
    path = folder / "out" / "a_identity.ome.tif"
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[2].dataoffsets[0] + tif.pages[2].databytecounts[0] // 2
    blob = bytearray(path.read_bytes())
    blob[place] ^= 255
    path.write_bytes(bytes(blob))


def change_the_input(folder: Path) -> None:
    (folder / "in" / "a.ome.tif").unlink()
    write_image(folder / "in" / "a.ome.tif", seed=7)


def put_a_foreign_file(folder: Path) -> None:
    shutil.copy(folder / "in" / "a.ome.tif", folder / "foreign.tif")
    (folder / "out" / "a_identity.ome.tif").unlink()
    tifffile.imwrite(folder / "out" / "a_identity.ome.tif", np.zeros((6, 20, 24), np.float32))


@pytest.mark.parametrize(
    ("change", "options", "pattern"),
    [
        (damage, (), r"an earlier result exists, but cannot read .*; replace it with --overwrite"),
        (change_the_input, (), r"made from other pixels than those of .a\.ome\.tif.; replace it"),
        (put_a_foreign_file, (), r"exists already"),
        (None, ("--seed", "3"), r"its run had another seed; replace it with --overwrite"),
        (None, ("--crop", ":,0:9,:"), r"its run had another crop; replace it"),
    ],
)
def test_a_rerun_fails_where_the_earlier_result_is_not_the_one_asked_for(
    tmp_path: Path, change: Any, options: tuple[str, ...], pattern: str
) -> None:
    write_image(tmp_path / "in" / "a.ome.tif")
    words = (tmp_path / "in", tmp_path / "out", "--method", "identity")
    assert run(*words).exit_code == 0
    if change is not None:
        change(tmp_path)
    before = results_in(tmp_path / "out")
    again = run(*words, *options)
    assert again.exit_code == 9
    assert re.search(pattern, again.stderr), again.stderr
    assert results_in(tmp_path / "out") == before


def test_where_a_run_computes_does_not_make_its_result_another_one(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.ome.tif")
    words = (tmp_path / "in", tmp_path / "out", "--method", "identity")
    assert run(*words, "--device", "cpu").exit_code == 0
    again = run(*words, "--tile", "4,8,8")
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "0 done, 1 skipped, 0 failed")


def test_a_rerun_writes_the_report_that_is_missing(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.ome.tif")
    words = (tmp_path / "in", tmp_path / "out", "--method", "identity", "--psf", PSF)
    assert run(*words).exit_code == 0
    again = run(*words, "--report", tmp_path / "reports")
    assert again.exit_code == 0, again.output
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["a_identity.html"]
    assert run(*words, "--report", tmp_path / "reports").exit_code == 0
