"""The commands that look, and those that make data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from zenhance.cli import doctor
from zenhance.cli.app import app
from zenhance.cli.doctor import Check
from zenhance.io import open_sample, open_stack, sample_names, write_stack
from zenhance.provenance import Provenance
from zenhance.stack import Stack

VOXEL_UM = (0.5, 0.25, 0.2)


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def make_stack(axes: str = "CZYX", **metadata: Any) -> Stack:
    sizes = {"T": 2, "C": 2, "Z": 6, "Y": 20, "X": 24}
    pixels = np.random.default_rng(0).poisson(50, [sizes[a] for a in axes]).astype(np.uint16)
    names = ("wall", "nuclei") if "C" in axes else ()
    return Stack.from_array(pixels, axes, VOXEL_UM, channel_names=names, metadata=metadata)


def test_info_tells_axes_voxel_size_channels_and_the_default_psf_with_its_marks(
    tmp_path: Path,
) -> None:
    path = write_stack(tmp_path / "a b µ.ome.tif", make_stack())
    result = run("info", path)
    assert result.exit_code == 0, result.output
    for words in (
        "C Z Y X",
        "2 × 6 × 20 × 24",
        "uint16",
        "z 0.5 µm (file), y 0.25 µm (file), x 0.2 µm (file)",
        "wall, nuclei",
        "not by zenhance",
    ):
        assert words in result.stdout
    assert re.search(r"PSF +confocal: .*\(default\)", result.stdout)


def test_info_as_json_is_one_line_with_every_origin(tmp_path: Path) -> None:
    result = run("info", write_stack(tmp_path / "a.ome.tif", make_stack()), "--json")
    record = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert record["voxel_size_um"]["x"] == {"value": pytest.approx(0.2), "origin": "file"}
    assert (record["axes"], record["shape"], record["channels"]) == (
        "CZYX",
        [2, 6, 20, 24],
        ["wall", "nuclei"],
    )
    assert record["decoded_bytes"] == 2 * 6 * 20 * 24 * 2
    assert {value["origin"] for value in record["psf"]["values"].values()} == {"default"}
    assert len(record["psf"]["per_channel"]) == 2
    assert record["provenance"] == {}


def test_info_of_a_result_holds_its_account_and_a_paragraph_for_the_paper(tmp_path: Path) -> None:
    made = Provenance(
        version="9.9.9",
        request={"method": "identity"},
        input_name="raw.lsm",
        voxel_size_um=VOXEL_UM,
        device="cpu (CPU)",
    )
    path = write_stack(tmp_path / "a.ome.tif", make_stack("ZYX"), provenance=made)
    table = run("info", path)
    assert "zenhance 9.9.9" in table.stdout
    assert "from raw.lsm" in table.stdout
    assert "Images were enhanced with zenhance 9.9.9" in table.stdout
    record = json.loads(run("info", path, "--json").stdout)
    assert record["provenance"]["record"] == made.model_dump(mode="json")


def test_info_opens_every_real_file_that_can_be_opened_and_tells_one_sentence_of_the_rest(
    shared_data: Path,
) -> None:
    small = [
        p
        for p in sorted((shared_data / "formats").iterdir())
        if p.suffix in (".lsm", ".stk", ".czi", ".tif") and p.stat().st_size < 3e6
    ]
    assert len(small) >= 5
    for path in small:
        result = run("info", path, "--json")
        record = json.loads(result.stdout)
        assert result.exit_code in (0, 3), (path, record)
        if result.exit_code == 0:
            assert len(record["axes"]) == len(record["shape"])
        else:
            assert path.name in record["error"]


def test_verify_accepts_a_file_as_written_and_refuses_it_with_one_byte_changed(
    tmp_path: Path,
) -> None:
    path = write_stack(tmp_path / "a.ome.tif", make_stack("ZYX"), compression="none")
    good = run("verify", path)
    assert (good.exit_code, good.stdout) == (0, f"{path}: all 6 planes are as they were written\n")
    assert json.loads(run("verify", path, "--json").stdout) == {
        "path": str(path),
        "planes": 6,
        "sound": True,
    }
    pixels = np.asarray(open_stack(path).data[3]).tobytes()
    raw = bytearray(path.read_bytes())
    raw[raw.index(pixels) + 7] ^= 1
    path.write_bytes(raw)
    bad = run("verify", path)
    assert bad.exit_code == 3
    assert "1 of its 6 planes changed after it was written, the first is plane 4" in bad.stderr


def test_a_sample_is_written_with_its_truth_and_labels(tmp_path: Path) -> None:
    name = sample_names()[0]
    result = run("sample", name, tmp_path / "s.ome.tif", "--truth")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "s.ome.tif",
        "s_labels.ome.tif",
        "s_truth.ome.tif",
    ]
    assert np.array_equal(
        np.asarray(open_stack(tmp_path / "s.ome.tif").data[...]),
        np.asarray(open_sample(name).data[...]),
    )
    again = run("sample", name, tmp_path / "s.ome.tif")
    assert again.exit_code == 9
    assert run("sample", name, tmp_path / "s.ome.tif", "--overwrite").exit_code == 0
    assert json.loads(run("sample", name, tmp_path, "--json").stdout) == {
        "files": [str(tmp_path / f"{name}.ome.tif")]
    }


def test_an_unknown_sample_is_told_with_those_there_are(tmp_path: Path) -> None:
    result = run("sample", "qqq", tmp_path / "s.ome.tif")
    assert result.exit_code == 2
    assert re.search(
        rf'there is no sample "qqq"; choose one of .*{sample_names()[0]}', result.stderr
    )


def test_simulated_stacks_differ_by_seed_and_repeat_with_it(tmp_path: Path) -> None:
    words = ("--seed", "5", "--shape", "8,24,24", "--voxel-size", "1,0.5,0.5")
    result = run("simulate", "meristem", tmp_path / "one", *words, "--count", "2", "--json")
    assert result.exit_code == 0, result.output
    stacks = [
        path
        for path in json.loads(result.stdout)["files"]
        if re.search(r"meristem_\d+\.ome\.tif", path)
    ]
    assert [Path(path).name for path in stacks] == ["meristem_5.ome.tif", "meristem_6.ome.tif"]
    assert run("simulate", "meristem", tmp_path / "two", *words).exit_code == 0
    first, second = (np.asarray(open_stack(path).data[...]) for path in stacks)
    again = np.asarray(open_stack(tmp_path / "two" / "meristem_5.ome.tif").data[...])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert first.shape == (8, 24, 24)


def test_a_simulation_takes_settings_of_specimen_and_microscope(tmp_path: Path) -> None:
    words = ("--seed", "2", "--shape", "1,32,40", "--preset", "filaments_set2", "--blurred")
    more = (
        "--set",
        "width_um=0.05",
        "--set",
        "microscope.photons=500",
        "--set",
        "microscope.hot_pixels=0.01",
    )
    for folder in ("one", "two"):
        assert run("simulate", "filaments", tmp_path / folder, *words, *more).exit_code == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        f"filaments_2{end}"
        for end in (".json", ".ome.tif", "_blurred.ome.tif", "_labels.ome.tif", "_truth.ome.tif")
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    record = json.loads((tmp_path / "one" / "filaments_2.json").read_text(encoding="utf-8"))
    assert record["voxel_size_um"] == [0.1, 0.025, 0.025]
    assert record["specimen_settings"]["width_um"] == 0.05
    scope = record["microscope_settings"]
    assert (scope["photons"], scope["hot_pixels"], scope["read_noise"]) == (500.0, 0.01, 10.0)


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (
            ["meristem", "out", "--set", "wal_um=1"],
            r'no setting of meristem called "wal_um"; did you mean "wall_um"\?',
        ),
        (
            ["meristem", "out", "--set", "microscope.photon=1"],
            r'no microscope setting called "photon"; did you mean "photons"\?',
        ),
        (
            ["meristem", "out", "--set", "microscope.bits=13"],
            r"microscope setting bits is 13: it should be 8, 12 or 16",
        ),
        (
            ["meristem", "out", "--preset", "tyical"],
            r'no microscope "tyical"; did you mean "typical"\?',
        ),
        (["meristm", "out"], r'there is no specimen "meristm"; did you mean "meristem"\?'),
        (
            ["meristem", "out", "--count", "99999"],
            r'--count is "99999", allowed are whole numbers from 1 to 10000',
        ),
        (["meristem", "out", "--shape", "0,1,1"], r'--shape is "0,1,1"'),
        (["meristem", "out", "--voxel-size", "1,1"], r"voxel size in z is unknown"),
    ],
)
def test_a_simulation_that_cannot_be_is_refused(
    words: list[str], pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("simulate", *words)
    assert result.exit_code == 2
    assert re.search(pattern, result.stderr)
    assert not (tmp_path / "out").exists()


def test_the_doctor_finds_this_installation_healthy() -> None:
    result = run("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0, report
    found = {check["name"]: check for check in report["checks"]}
    assert {
        "zenhance",
        "libraries",
        "device",
        "memory",
        "threads",
        "methods",
        "samples",
        "file formats",
        "napari",
    } <= set(found)
    assert "torch" in found["libraries"]["detail"]
    assert re.search(r"trained models: dqlr has \d+, dps has \d+", found["methods"]["detail"])
    assert re.search(r"^(cpu|cuda|mps) \(.+\): .+", found["device"]["detail"])
    assert sample_names()[0] in found["samples"]["detail"]
    assert run("doctor").stdout.count("\n") == len(report["checks"])


def test_the_doctor_exits_1_when_something_needed_is_broken_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def _check_broken_thing() -> Check:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(
        doctor, "_CHECKS", (_check_broken_thing, lambda: Check("next", "note", "optional"))
    )
    result = run("doctor")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith(
        "fail  broken thing: unexpected RuntimeError: no such luck"
    )
    assert result.stdout.splitlines()[1] == "note  next: optional"


def test_the_doctor_says_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda name: None)
    checks = {check.name: check for check in doctor.run_checks()}
    assert checks["libraries"].state == "fail"
    assert "python -m pip install numpy scipy" in checks["libraries"].detail
    assert checks["napari"] == Check(
        "napari",
        "note",
        'napari is not installed; only the plugin needs it: python -m pip install "zenhance[all]"',
    )
    assert 'python -m pip install "zenhance[io]"' in checks["file formats"].detail


def test_info_tells_the_psf_of_each_channel_where_the_file_says_different_colours(
    tmp_path: Path,
) -> None:
    from zenhance.cli.info import info_record, info_table

    path = write_stack(
        tmp_path / "a.ome.tif",
        make_stack(
            excitation_nm=[405.0, 561.0], emission_nm=[450.0, 610.0], na=1.1, modality="confocal"
        ),
    )
    record = info_record(path)
    assert [
        re.findall(r"(?:ex|em)_nm (\d+) nm \(file\)", text) for text in record["psf"]["per_channel"]
    ] == [
        ["405", "450"],
        ["561", "610"],
    ]
    assert list(info_table(record).columns[0].cells)[9:11] == ["PSF, channel 0", "PSF, channel 1"]


def test_info_shows_what_a_reader_noted_and_the_name_of_the_image(tmp_path: Path) -> None:
    import numpy as np
    import tifffile

    from zenhance.cli.info import info_record, info_table

    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="9" SizeY="8" SizeZ="6" '
        'SizeC="1" SizeT="1"/></Image></OME>'
    )
    path = tmp_path / "a.ome.tif"
    data = np.ones((6, 8, 9), np.uint16)
    tifffile.imwrite(path, data, description=xml, metadata=None, ome=False)
    record = info_record(path)
    assert "list no planes" in record["notes"][0]
    cells = list(info_table(record).columns[0].cells)
    assert "note" in [str(cell) for cell in cells]


def test_info_with_profile_measures_the_microscope_and_says_where_each_number_comes_from(
    tmp_path: Path,
) -> None:
    from zenhance.physics.noise import PoissonGauss

    light = np.zeros((12, 48, 48))
    light[3:, ::6] = 60.0
    y = np.rint(PoissonGauss(2.0, 100.0, 1.5).sample(light, 0)).astype(np.uint16)
    path = write_stack(tmp_path / "a.ome.tif", Stack.from_array(y, "ZYX", (1.0, 0.2, 0.2)))
    (profile,) = json.loads(run("info", path, "--profile", "--json").stdout)["profile"]
    assert profile["gain"]["origin"] == "measured"
    assert profile["offset"]["value"] == pytest.approx(100.0, abs=2.0)
    table = run("info", path, "--profile").stdout
    assert "grey values per photon" in table
    assert "profile" not in json.loads(run("info", path, "--json").stdout)
