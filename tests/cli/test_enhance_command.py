"""``zenhance enhance``: one image, a folder, a replay, and everything refused before the run."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from zenhance.cli import batch
from zenhance.cli.app import app, command
from zenhance.cli.enhance import RequestOptions
from zenhance.cli.paths import Job
from zenhance.errors import RunCancelled
from zenhance.io import open_stack, write_stack
from zenhance.io.lock import locked
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.provenance import Provenance
from zenhance.stack import Stack

VOXEL_UM = (0.5, 0.25, 0.2)
PSF = "sigma_um=0.5,0.25,0.2"
QUICK = (
    "--method",
    "gaussian_deconvolution",
    "--set",
    "variant=richardson_lucy",
    "--set",
    "iterations=2",
    "--psf",
    PSF,
    "--device",
    "cpu",
)


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["enhance", *(str(word) for word in words)])


def write_image(
    path: Path,
    axes: str = "ZYX",
    seed: int = 0,
    voxel_um: tuple[float, ...] | None = VOXEL_UM,
    **sizes: int,
) -> Path:
    """Write speckles of known sizes; ``uint16``, so that the identity method has to be exact."""
    lengths = {"T": 2, "C": 2, "Z": 6, "Y": 20, "X": 24, **sizes}
    pixels = np.random.default_rng(seed).poisson(50, [lengths[a] for a in axes]).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_stack(path, Stack.from_array(pixels, axes, voxel_um))


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(open_stack(path).data[...])


OPTIONS = [
    *(
        "--method",
        "--set",
        "--voxel-size",
        "--axes",
        "--channel",
        "--crop",
        "--series",
        "--psf",
        "--profile",
        "--even-light",
        "--arbitrate",
        "--background",
        "--statistics",
        "--repair-outliers",
    ),
    *(
        "--device",
        "--tile",
        "--weights",
        "--learn",
        "--output",
        "--seed",
        "--dtype",
        "--request",
        "--save-request",
        "--assess",
        "--report",
        "--format",
        "--overwrite",
        "--restart",
        "--workers",
        "--scheduler",
        "--json",
    ),
]


def test_the_options_are_those_that_are_documented_and_no_others() -> None:
    parameters = command().commands["enhance"].params
    assert [
        name
        for p in parameters
        if p.param_type_name == "option"
        for name in p.opts
        if name != "--help"
    ] == OPTIONS


def test_every_field_of_the_request_can_be_given_on_the_command_line() -> None:
    words = RequestOptions(
        method="identity", set=[], voxel_size="1,1,1", axes="ZYX", series="1", channel="0",
        crop=":,:,:", psf="x", background="1", device="cpu",
        weights="w", learn="1min", output="denoised", seed="1", dtype="input",
        statistics="shared", tile="8,8,8",
        profile="measure", even_light=True, repair_outliers=False, arbitrate=False,
    )  # fmt: skip
    assert set(words.given()) == set(EnhanceRequest.model_fields)


def test_an_image_is_enhanced_and_keeps_its_voxels_and_their_size(tmp_path: Path) -> None:
    source = write_image(tmp_path / "in put Zellwände µm.ome.tif")
    target = tmp_path / "ergebnis ü.ome.tif"
    result = run(source, target, "--method", "identity", "--dtype", "input")
    assert result.exit_code == 0, result.output
    assert str(target) in result.stdout.replace("\n", "")
    assert np.array_equal(pixels_of(target), pixels_of(source))
    assert open_stack(target).voxel_size.zyx_um == pytest.approx(VOXEL_UM, rel=1e-6)


def test_a_run_on_a_pipe_tells_voxel_size_device_and_reason_in_plain_lines(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    result = run(source, tmp_path / "b.ome.tif", *QUICK)
    assert result.exit_code == 0, result.output
    assert "a.ome.tif: Z Y X — 6 × 20 × 24, 0.5 × 0.25 × 0.2 µm (file)" in result.stderr
    assert re.search(r"PSF: gaussian: sigma_um .*\(user\)", result.stderr)
    assert "on CPU: as asked" in result.stderr
    assert "\x1b[" not in result.stderr


def test_json_is_one_line_with_result_seconds_device_warnings_and_provenance(
    tmp_path: Path,
) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    result = run(source, tmp_path / "b.ome.tif", *QUICK, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""
    record = json.loads(result.stdout)
    assert record["output"] == str(tmp_path / "b.ome.tif")
    assert record["device"].startswith("cpu")
    assert 0 < record["seconds"] < 60
    assert isinstance(record["warnings"], list)
    saved = Provenance.find(open_stack(tmp_path / "b.ome.tif").metadata)
    assert saved is not None
    assert record["provenance"]["input_sha256"] == saved.input_sha256
    assert saved.request["settings"] == {"variant": "richardson_lucy", "iterations": 2}


def test_the_command_line_and_python_give_identical_pixels(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    assert run(source, tmp_path / "b.ome.tif", *QUICK).exit_code == 0
    here = enhance(
        open_stack(source),
        settings={"variant": "richardson_lucy", "iterations": 2},
        psf=PSF,
        device="cpu",
    )
    assert np.asarray(here.stack.data).tobytes() == pixels_of(tmp_path / "b.ome.tif").tobytes()


def test_a_saved_request_replays_to_identical_pixels_and_options_win_over_it(
    tmp_path: Path,
) -> None:
    source, saved = write_image(tmp_path / "a.ome.tif"), tmp_path / "settings.yaml"
    first = run(
        source,
        tmp_path / "1.ome.tif",
        *QUICK,
        "--crop",
        "1:5,:,2:20",
        "--seed",
        "7",
        "--save-request",
        saved,
    )
    assert first.exit_code == 0, first.output
    assert run(source, tmp_path / "2.ome.tif", "--request", saved).exit_code == 0
    assert (
        pixels_of(tmp_path / "1.ome.tif").tobytes() == pixels_of(tmp_path / "2.ome.tif").tobytes()
    )
    assert pixels_of(tmp_path / "1.ome.tif").shape == (4, 20, 18)
    assert (
        run(
            source,
            tmp_path / "3.ome.tif",
            "--request",
            saved,
            "--set",
            "iterations=5",
            "--crop",
            ":,:,:",
        ).exit_code
        == 0
    )
    record = Provenance.find(open_stack(tmp_path / "3.ome.tif").metadata)
    assert record is not None
    assert record.request["settings"] == {"variant": "richardson_lucy", "iterations": 5}
    assert record.request["seed"] == 7
    assert pixels_of(tmp_path / "3.ome.tif").shape == (6, 20, 24)


def test_an_earlier_result_can_be_repeated_from_its_own_account(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    assert run(source, tmp_path / "1.ome.tif", *QUICK, "--crop", "1:5,:,:").exit_code == 0
    again = run(source, tmp_path / "2.ome.tif", "--request", tmp_path / "1.ome.tif")
    assert again.exit_code == 0, again.output
    assert (
        pixels_of(tmp_path / "1.ome.tif").tobytes() == pixels_of(tmp_path / "2.ome.tif").tobytes()
    )
    foreign = run(source, tmp_path / "3.ome.tif", "--request", source)
    assert foreign.exit_code == 3
    assert "it holds no record of a run, as zenhance did not write it" in foreign.stderr


def test_an_output_that_another_run_is_writing_exits_8(tmp_path: Path) -> None:
    source, target = write_image(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif"
    with locked(target):
        result = run(source, target, "--method", "identity")
    assert result.exit_code == 8
    assert '"b.ome.tif" is being written by' in result.stderr


def test_a_batch_that_is_stopped_begins_no_further_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_image(tmp_path / "in" / f"{name}.ome.tif")
    begun: list[str] = []

    def stop_at_the_second(job: Job, *rest: object) -> dict[str, Any]:
        begun.append(job.source.name)
        if len(begun) == 2:
            raise RunCancelled("the run was cancelled; nothing was written")
        return {"input": str(job.source), "output": "", "seconds": 0.0}

    monkeypatch.setattr(batch, "enhance_file", stop_at_the_second)
    result = run(tmp_path / "in", tmp_path / "out", "--method", "identity")
    assert result.exit_code == 130
    assert begun == ["a.ome.tif", "b.ome.tif"]


def test_settings_of_one_method_are_not_given_to_another(tmp_path: Path) -> None:
    source, saved = write_image(tmp_path / "a.ome.tif"), tmp_path / "settings.yaml"
    saved.write_text(
        "method: gaussian_deconvolution\nsettings:\n  iterations: 2\nseed: 3\n", encoding="utf-8"
    )
    result = run(
        source, tmp_path / "b.ome.tif", "--request", saved, "--method", "identity", "--json"
    )
    assert result.exit_code == 0, result.output
    request = json.loads(result.stdout)["provenance"]["request"]
    assert (request["settings"], request["seed"]) == ({}, 3)


def test_a_glob_with_one_broken_file_does_the_rest_and_exits_10(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b", "ç d")):
        write_image(tmp_path / "in" / f"{name}.ome.tif", seed=seed)
    (tmp_path / "in" / "broken.ome.tif").write_bytes(b"II*\0 this is no image")
    result = run(
        tmp_path / "in" / "*.tif", tmp_path / "out", "--method", "identity", "--dtype", "input"
    )
    assert result.exit_code == 10, result.output
    done = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert done == ["a_identity.ome.tif", "b_identity.ome.tif", "ç d_identity.ome.tif"]
    assert "zenhance: broken.ome.tif: cannot read" in result.stderr
    assert "failed" in result.stdout
    assert np.array_equal(
        pixels_of(tmp_path / "out" / "b_identity.ome.tif"), pixels_of(tmp_path / "in" / "b.ome.tif")
    )


def test_a_batch_with_json_is_one_line_that_tells_each_file(tmp_path: Path) -> None:
    write_image(tmp_path / "a.ome.tif")
    (tmp_path / "empty.tif").write_bytes(b"")
    result = run(
        tmp_path / "a.ome.tif",
        tmp_path / "empty.tif",
        tmp_path / "gone.tif",
        tmp_path / "out",
        "--method",
        "identity",
        "--json",
    )
    record = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert (record["done"], record["failed"], record["exit_code"], result.exit_code) == (
        1,
        2,
        10,
        10,
    )
    assert [r.get("kind") for r in record["results"]] == [
        None,
        "unreadable input",
        "unreadable input",
    ]


def test_a_batch_in_which_all_fail_exits_with_the_first_code(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "in" / name).write_bytes(b"")
    result = run(tmp_path / "in", tmp_path / "out", "--method", "identity")
    assert result.exit_code == 3


@pytest.mark.parametrize(
    ("axes", "shape"), [("TCZYX", (2, 2, 6, 20, 24)), ("CZYX", (2, 6, 20, 24)), ("YX", (20, 24))]
)
def test_channels_times_and_flat_images_come_out_as_they_went_in(
    tmp_path: Path, axes: str, shape: tuple[int, ...]
) -> None:
    source = write_image(
        tmp_path / "a.ome.tif", axes, voxel_um=VOXEL_UM if "Z" in axes else VOXEL_UM[1:]
    )
    assert run(source, tmp_path / "b.ome.tif", "--method", "identity").exit_code == 0
    assert pixels_of(tmp_path / "b.ome.tif").shape == shape
    assert np.array_equal(pixels_of(tmp_path / "b.ome.tif"), pixels_of(source))


def test_channel_crop_and_axes_pick_what_they_say(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.ome.tif", "CZYX")
    words = ("--method", "identity", "--channel", "1", "--crop", "2:4,:10,3:", "--axes", "CZYX")
    assert run(source, tmp_path / "b.ome.tif", *words).exit_code == 0
    assert np.array_equal(pixels_of(tmp_path / "b.ome.tif"), pixels_of(source)[1, 2:4, :10, 3:])


def test_axes_in_another_order_are_transposed_once(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    result = run(
        source,
        tmp_path / "b.ome.tif",
        "--method",
        "identity",
        "--axes",
        "YZX",
        "--voxel-size",
        "1,1,1",
        "--json",
    )
    assert result.exit_code == 0, result.output
    assert np.array_equal(pixels_of(tmp_path / "b.ome.tif"), pixels_of(source).transpose(1, 0, 2))
    assert json.loads(result.stdout)["provenance"]["request"]["axes"] == "YZX"


def test_a_missing_voxel_size_is_asked_for_by_name_and_taken_from_the_option(
    tmp_path: Path,
) -> None:
    source = write_image(tmp_path / "a.ome.tif", voxel_um=None)
    result = run(source, tmp_path / "b.ome.tif", *QUICK)
    assert result.exit_code == 2
    assert re.search(
        r'"a.ome.tif" cannot be enhanced: voxel size in z, y, x is unknown; give it with '
        r"--voxel-size",
        result.stderr,
    )
    assert (
        run(source, tmp_path / "b.ome.tif", *QUICK, "--voxel-size", "0.5,0.25,0.2").exit_code == 0
    )
    assert open_stack(tmp_path / "b.ome.tif").voxel_size.zyx_um == pytest.approx(VOXEL_UM)


REFUSALS: list[tuple[list[str], int, str]] = [
    (
        ["--method", "gaussian_deconvolutoin"],
        2,
        r'there is no method "gaussian_deconvolutoin"; did you mean "gaussian_deconvolution"\?',
    ),
    (["--set", "iteratoins=5"], 2, r'called "iteratoins"; did you mean "iterations"\?'),
    (["--set", "iterations=0"], 2, r"iterations is 0: it should be greater than or equal to 1"),
    (["--set", "iterations=-1"], 2, r"iterations is -1"),
    (["--set", "iterations=1e9"], 2, r"iterations is"),
    (["--set", "iterations=.nan"], 2, r"iterations is nan"),
    (["--set", "iterations=many"], 2, r"iterations is 'many'"),
    (["--set", "variant=magic"], 2, r"variant is 'magic': it should be "),
    (["--set", "iterations"], 2, r'--set is "iterations", allowed is key=value'),
    (["--voxel-size", "0,1,1"], 2, r'--voxel-size is "0,1,1"'),
    (["--voxel-size", "1e9,1,1"], 2, r"voxel size in z is 1e\+09 µm, allowed are 0.001 to 1000 µm"),
    (["--axes", "ZZYX"], 2, r'--axes is "ZZYX"'),
    (["--axes", "TCZYX"], 2, r'axes "TCZYX" do not name the 3 dimensions of "a.ome.tif"'),
    (["--channel", "3"], 2, r"channel 3 was requested, but the stack has one channel"),
    (["--channel", "-1"], 2, r'--channel is "-1", allowed are whole numbers from 0'),
    (["--crop", "0:5"], 2, r'--crop is "0:5"'),
    (["--crop", "0:99,:,:"], 2, r"crop z0:99 is outside the stack, which has 6 along z"),
    (["--seed", "x"], 2, r'--seed is "x"'),
    (["--dtype", "float64"], 2, r"dtype is 'float64': it should be 'float32' or 'input'"),
    (["--statistics", "none"], 2, r"statistics is 'none': it should be 'per_volume' or 'shared'"),
    (["--device", "gpu"], 2, r"device is 'gpu'"),
    (["--device", "cuda:77"], 2, r'device "cuda:77" is not available'),
    (["--tile", "0,1,1"], 2, r'--tile is "0,1,1"'),
    (["--series", "7"], 3, r'cannot read ".*a.ome.tif": .*7'),
    (["--psf", "sigma_um=0,0,0"], 2, r"sigma_um is 0 µm"),
    (["--psf", "magic:na=1"], 2, r"magic"),
    (["--background", "inf"], 2, r'--background is "inf"'),
    (
        ["--request", "nowhere.yaml"],
        3,
        r'cannot read "nowhere.yaml": there is no such file; check the path',
    ),
]


@pytest.mark.parametrize(("words", "status", "pattern"), REFUSALS)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    tmp_path: Path, words: list[str], status: int, pattern: str
) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    result = run(source, tmp_path / "b.ome.tif", *words, "--json")
    record = json.loads(result.stdout)
    assert (result.exit_code, record["exit_code"]) == (status, status)
    assert re.search(pattern, record["error"])
    assert result.stderr == f"zenhance: {record['error']}\n"
    assert len(record["error"]) - len(str(tmp_path)) * record["error"].count(str(tmp_path)) <= 240
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.tif"]


@pytest.mark.parametrize(
    ("text", "status", "pattern"),
    [
        ("", 2, r"settings are not a list of key: value lines"),
        ("method: [", 2, r"not valid YAML"),
        ("methud: identity", 2, r'no request field called "methud"; did you mean "method"\?'),
        ("method: identity\nseed: -3", 2, r"seed is -3"),
        ("method: identity\nsettings: {a: 1}", 2, r'called "a"'),
        ("!!python/object/apply:os.getcwd []", 2, r"not valid YAML"),
        ("\udcff", 3, r"it is not text"),
    ],
)
def test_a_settings_file_that_is_wrong_is_refused(
    tmp_path: Path, text: str, status: int, pattern: str
) -> None:
    source, settings = write_image(tmp_path / "a.ome.tif"), tmp_path / "settings.yaml"
    settings.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = run(source, tmp_path / "b.ome.tif", "--request", settings)
    assert result.exit_code == status
    assert re.search(pattern, result.stderr)
    assert not (tmp_path / "b.ome.tif").exists()


@pytest.mark.parametrize(
    ("target", "status", "pattern"),
    [
        ("a.ome.tif", 2, "is the input"),
        ("b.ome.tif", 9, "exists"),
        ("none/b.ome.tif", 6, "does not exist"),
        ("b.jpg", 2, "must end in .ome.tif, .tif, .ome.zarr or .h5"),
        ("b.ome.tif/", 2, "is a file; name a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_within_a_second(
    tmp_path: Path, target: str, status: int, pattern: str
) -> None:
    source = write_image(tmp_path / "a.ome.tif", Z=40, Y=400, X=400)
    other = write_image(tmp_path / "b.ome.tif")
    before = source.read_bytes(), other.read_bytes()
    # the processor's time, not the clock's: other tests may be running on the same cores
    started = time.process_time()
    result = CliRunner().invoke(app, ["enhance", str(source), f"{tmp_path}/{target}", *QUICK])
    assert time.process_time() - started < 1.0
    assert result.exit_code == status, result.output
    assert pattern in result.stderr
    assert (source.read_bytes(), other.read_bytes()) == before


@pytest.mark.parametrize(("dtype", "name"), [(np.int32, "b.tif"), (np.int64, "b.ome.tif")])
def test_a_format_that_could_not_hold_the_pixels_is_refused_before_the_run(
    tmp_path: Path, dtype: type, name: str
) -> None:
    source = write_stack(
        tmp_path / "a.ome.zarr", Stack.from_array(np.ones((6, 8, 9), dtype), "ZYX", VOXEL_UM)
    )
    result = run(source, tmp_path / name, "--method", "identity", "--dtype", "input")
    assert result.exit_code == 2
    assert f"has no {np.dtype(dtype).name} pixels" in result.stderr
    assert "working" not in result.stderr


def test_a_settings_file_that_exists_is_kept_unless_overwriting_was_asked_for(
    tmp_path: Path,
) -> None:
    source, saved = write_image(tmp_path / "a.ome.tif"), tmp_path / "settings.yaml"
    saved.write_text("mine", encoding="utf-8")
    result = run(source, tmp_path / "b.ome.tif", "--method", "identity", "--save-request", saved)
    assert (result.exit_code, saved.read_text(encoding="utf-8")) == (9, "mine")
    assert (
        run(
            source,
            tmp_path / "b.ome.tif",
            "--method",
            "identity",
            "--save-request",
            saved,
            "--overwrite",
        ).exit_code
        == 0
    )
    assert EnhanceRequest.from_yaml(saved.read_text(encoding="utf-8")) == EnhanceRequest(
        method="identity"
    )


def test_two_lengths_for_a_stack_with_planes_are_refused(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    done = run(source, tmp_path / "b.ome.tif", "--method", "identity", "--voxel-size", "0.5,0.2")
    assert done.exit_code != 0
    assert "has planes along z, but --voxel-size has two numbers; give z, y and x" in done.output
    assert not (tmp_path / "b.ome.tif").exists()


def test_labels_can_be_written_in_every_format_that_the_image_can(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.ome.tif")
    done = run(
        source,
        tmp_path / "b.tif",
        "--method",
        "dqlr",
        "--set",
        "codes=true",
        "--psf",
        "sigma_um=0.6,0.2,0.2",
    )
    assert done.exit_code == 0, done.output
    codes = open_stack(tmp_path / "b_codes.tif")
    assert codes.dtype == np.uint16
    assert codes.shape == open_stack(source).shape
    assert 1 <= int(np.min(codes.data)) <= int(np.max(codes.data)) <= 128
