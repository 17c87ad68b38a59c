"""Inputs are found, outputs are named and checked before anything is computed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from zenhance.cli.paths import (
    Job,
    JobPlan,
    batch_status,
    check_early,
    check_free_space,
    check_target,
    extra_path,
    make_folder,
    plan_jobs,
    stem,
)
from zenhance.errors import (
    MethodError,
    OutputExistsError,
    ReadError,
    WriteError,
    ZenhanceError,
    exit_code,
)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", "a"),
        ("a.ome.tif", "a"),
        ("a.OME.TIFF", "a"),
        ("a.b.lsm", "a.b"),
        ("a.ome.zarr", "a"),
        ("brain.inr.gz", "brain"),
        (".tif", ".tif"),
        ("no suffix", "no suffix"),
    ],
)
def test_a_stem_loses_compound_suffixes_whole(name: str, expected: str) -> None:
    assert stem(Path(name)) == expected


def test_a_further_output_goes_beside_the_first() -> None:
    assert extra_path(Path("out/a.ome.tif"), "uncertainty") == Path("out/a_uncertainty.ome.tif")
    assert extra_path(Path("out/a.ome.zarr"), "uncertainty") == Path("out/a_uncertainty.ome.zarr")


def test_one_input_and_a_file_are_one_job(tmp_path: Path) -> None:
    touch(tmp_path / "a.tif")
    plan = plan_jobs([str(tmp_path / "a.tif")], str(tmp_path / "b.ome.tif"), "identity")
    assert plan == JobPlan(
        [Job(tmp_path / "a.tif", tmp_path / "b.ome.tif")], batch=False, folder=None
    )


def test_one_input_and_an_existing_folder_name_the_result_after_the_method(tmp_path: Path) -> None:
    touch(tmp_path / "a.ome.tif")
    (tmp_path / "out").mkdir()
    plan = plan_jobs([str(tmp_path / "a.ome.tif")], str(tmp_path / "out"), "identity")
    assert plan == JobPlan(
        [Job(tmp_path / "a.ome.tif", tmp_path / "out" / "a_identity.ome.tif")],
        batch=False,
        folder=tmp_path / "out",
    )


def test_a_quoted_glob_is_expanded_in_order_into_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "b.tif", tmp_path / "a.tif", tmp_path / "notes.txt")
    plan = plan_jobs([str(tmp_path / "*.tif")], str(tmp_path / "out"), "identity")
    assert plan.batch
    assert [job.source.name for job in plan.jobs] == ["a.tif", "b.tif"]
    assert [job.target.name for job in plan.jobs] == ["a_identity.ome.tif", "b_identity.ome.tif"]
    assert plan.folder == tmp_path / "out"
    assert not plan.folder.exists()


def test_a_folder_stands_for_the_images_in_it(tmp_path: Path) -> None:
    touch(
        tmp_path / "in" / "a.TIF",
        tmp_path / "in" / "b.czi",
        tmp_path / "in" / "notes.txt",
        tmp_path / "in" / ".hidden.tif",
    )
    plan = plan_jobs([str(tmp_path / "in")], str(tmp_path / "out"), "identity")
    assert plan.batch
    assert [job.source.name for job in plan.jobs] == ["a.TIF", "b.czi"]


def test_an_ome_zarr_folder_is_one_image(tmp_path: Path) -> None:
    touch(tmp_path / "a.ome.zarr" / "zarr.json", tmp_path / "plain" / ".zattrs")
    for name in ("a.ome.zarr", "plain"):
        plan = plan_jobs([str(tmp_path / name)], str(tmp_path / "b.ome.zarr"), "identity")
        assert plan.jobs == [Job(tmp_path / name, tmp_path / "b.ome.zarr")]


def test_brackets_in_a_file_name_are_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path / "a[1].tif", tmp_path / "a1.tif")
    plan = plan_jobs([str(tmp_path / "a[1].tif")], str(tmp_path / "b.tif"), "identity")
    assert ([job.source.name for job in plan.jobs], plan.batch) == (["a[1].tif"], False)


def test_results_of_inputs_with_the_same_stem_keep_apart(tmp_path: Path) -> None:
    touch(
        tmp_path / "a.tif",
        tmp_path / "a.lsm",
        tmp_path / "one" / "b.tif",
        tmp_path / "two" / "b.tif",
    )
    words = [str(tmp_path / name) for name in ("a.tif", "a.lsm", "one/b.tif", "two/b.tif")]
    plan = plan_jobs(words, str(tmp_path / "out"), "m")
    assert [job.target.name for job in plan.jobs] == [
        "a_tif_m.ome.tif",
        "a_lsm_m.ome.tif",
        "one_b_tif_m.ome.tif",
        "two_b_tif_m.ome.tif",
    ]


def test_a_file_named_twice_is_enhanced_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.tif")
    plan = plan_jobs([str(tmp_path / "a.tif"), str(tmp_path / "*.tif")], str(tmp_path / "out"), "m")
    assert len(plan.jobs) == 1


@pytest.mark.parametrize(
    ("word", "pattern", "status"),
    [
        ("missing.tif", r'cannot read ".*missing.tif": there is no such file; check the path', 3),
        ("*.none", r'cannot read ".*\*.none": no file matches; check the pattern', 3),
        ("empty", r'cannot read ".*empty": the folder holds no image', 3),
        ("x" * 5000, r"there is no such file; check the path", 3),
    ],
)
def test_inputs_that_are_not_there_are_told(
    tmp_path: Path, word: str, pattern: str, status: int
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match=pattern) as caught:
        plan_jobs([str(tmp_path / word)], str(tmp_path / "b.tif"), "identity")
    assert exit_code(caught.value) == status
    assert len(str(caught.value)) <= 240


def test_one_missing_file_among_several_is_left_to_fail_by_itself(tmp_path: Path) -> None:
    touch(tmp_path / "a.tif")
    plan = plan_jobs(
        [str(tmp_path / "a.tif"), str(tmp_path / "missing.tif")], str(tmp_path / "out"), "m"
    )
    assert (len(plan.jobs), plan.batch) == (2, True)


def test_a_file_cannot_be_the_folder_of_a_batch(tmp_path: Path) -> None:
    touch(tmp_path / "out.tif")
    with pytest.raises(
        WriteError,
        match=r'several inputs need a folder to go to, but the output ".*out.tif" is a file',
    ) as caught:
        make_folder(tmp_path / "out.tif")
    assert exit_code(caught.value) == 2


def test_only_the_last_folder_is_made(tmp_path: Path) -> None:
    make_folder(tmp_path / "out")
    make_folder(tmp_path / "out")
    assert (tmp_path / "out").is_dir()
    with pytest.raises(
        WriteError, match=r'the folder ".*typo" for the output does not exist'
    ) as caught:
        make_folder(tmp_path / "typo" / "out")
    assert exit_code(caught.value) == 6


def test_an_early_check_sees_a_single_output_and_leaves_batches_alone(tmp_path: Path) -> None:
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    with pytest.raises(OutputExistsError):
        check_early([str(tmp_path / "a.tif")], str(tmp_path / "b.tif"), overwrite=False)
    check_early([str(tmp_path / "*.tif")], str(tmp_path / "out"), overwrite=False)
    assert not (tmp_path / "out").exists()


def refusal(source: Path, target: Path, overwrite: bool = False) -> tuple[str, int]:
    with pytest.raises((MethodError, WriteError)) as caught:
        check_target(source, target, overwrite)
    assert len(str(caught.value)) <= 240 + len(str(target))
    return str(caught.value), exit_code(caught.value)


@pytest.mark.parametrize("name", ["out.png", "out", ".tif", "out.ome.tif.bak", "out.zarr"])
def test_a_suffix_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    text, status = refusal(tmp_path / "a.tif", tmp_path / name)
    assert "its name must end in .ome.tif, .tif, .ome.zarr or .h5" in text
    assert status == 2


def test_an_existing_output_is_refused_without_overwrite(tmp_path: Path) -> None:
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    with pytest.raises(OutputExistsError, match=r'"b.tif" exists') as caught:
        check_target(tmp_path / "a.tif", tmp_path / "b.tif", overwrite=False)
    assert exit_code(caught.value) == 9
    check_target(tmp_path / "a.tif", tmp_path / "b.tif", overwrite=True)
    assert (tmp_path / "b.tif").read_bytes() == b"pixels"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    text, status = refusal(tmp_path / "a.tif", tmp_path / "none" / "b.tif")
    assert "does not exist" in text
    assert status == 6


def test_a_folder_that_is_not_writable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # root may write anywhere, so the system's answer is stood in for
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK))
    text, status = refusal(tmp_path / "a.tif", tmp_path / "b.tif")
    assert "may not be written to" in text
    assert status == 6


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    text, status = refusal(tmp_path / "a.tif", tmp_path / f"{'x' * 240}.tif")
    assert "is too long" in text
    assert status == 6


@pytest.mark.parametrize(
    ("output", "message"),
    [("", "OUTPUT is empty"), (" ", "OUTPUT is empty"), (f"{'x' * 300}.tif", "is too long")],
)
def test_an_output_without_a_usable_name_is_refused_in_one_sentence(
    tmp_path: Path, output: str, message: str
) -> None:
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(ZenhanceError, match=message):
        check_early([str(tmp_path / "a.tif")], output, overwrite=False)


def test_the_output_is_never_the_input_by_any_name(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    touch(
        source, tmp_path / "in.ome.zarr" / "zarr.json", tmp_path / "out.ome.zarr" / "raw" / "a.tif"
    )
    ways = [source, tmp_path / "sub" / ".." / "a.tif"]
    (tmp_path / "sub").mkdir()
    os.link(source, tmp_path / "hard.tif")
    ways.append(tmp_path / "hard.tif")
    if sys.platform != "win32":
        (tmp_path / "soft.tif").symlink_to(source)
        ways.append(tmp_path / "soft.tif")
    pairs = [(source, way) for way in ways]
    pairs.append((tmp_path / "in.ome.zarr", tmp_path / "in.ome.zarr" / "b.tif"))
    pairs.append((tmp_path / "out.ome.zarr" / "raw" / "a.tif", tmp_path / "out.ome.zarr"))
    for given, target in pairs:
        text, status = refusal(given, target, overwrite=True)
        assert "is the input or lies" in text
        assert status == 2


def test_a_full_disk_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"free, but the result needs 1.1e\+03 TB") as caught:
        check_free_space(tmp_path / "b.tif", 10**15)
    assert exit_code(caught.value) == 6
    check_free_space(tmp_path / "b.tif", 1)


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0], 0), ([0, 3, 9], 10), ([3, 9], 3), ([9], 9), ([0], 0)]
)
def test_the_status_of_a_batch_tells_whether_some_or_all_failed(
    codes: list[int], expected: int
) -> None:
    assert batch_status(codes) == expected
