"""``zenhance assess`` and ``enhance --assess``: a verdict, figures, and a report in one file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from zenhance.cli import enhance as running
from zenhance.cli.app import app
from zenhance.errors import StackError
from zenhance.io import open_stack, write_stack
from zenhance.provenance import Provenance
from zenhance.stack import Stack

VOXEL_UM = (0.5, 0.25, 0.25)
PSF = "sigma_um=0.6,0.3,0.3"
QUICK = (
    "--psf",
    PSF,
    "--device",
    "cpu",
    "--set",
    "variant=richardson_lucy",
    "--set",
    "iterations=15",
    "--set",
    "stop=fixed",
)


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def walls(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Walls between cells, their blurred image with photon noise, and the labels of the cells.

    A photon is 5 grey values; the offset is 100.
    """
    from scipy.ndimage import label

    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(12, 48, 48)), (2, 4, 4))
    wall = np.abs(field) < 0.2 * field.std()
    sharp = np.where(wall, 60.0, 2.0)
    blurred = gaussian_filter(sharp, (1.2, 1.2, 1.2), mode="reflect")
    return (
        (5.0 * rng.poisson(blurred) + 100).astype(np.uint16),
        (5 * sharp + 100).astype(np.float32),
        label(~wall)[0].astype(np.uint16),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measurement with truth and labels, a second one, an enhanced one, and a planted liar."""
    place = tmp_path_factory.mktemp("assess")
    measured, truth, labels = walls(0)
    for name, data in (
        ("raw", measured),
        ("truth", truth),
        ("labels", labels),
        ("second", walls(1)[0]),
    ):
        write_stack(place / f"{name}.ome.tif", Stack.from_array(data, "ZYX", VOXEL_UM))
    assert run("enhance", place / "raw.ome.tif", place / "better.ome.tif", *QUICK).exit_code == 0
    better = open_stack(place / "better.ome.tif")
    pixels = np.asarray(better.data[...]).copy()
    pixels[6, 20:28, 20:28] += 5 * np.ptp(pixels)
    write_stack(place / "liar.ome.tif", Stack.from_array(pixels, "ZYX", VOXEL_UM))
    return place


def test_the_verdict_its_reasons_and_figures_are_told_in_words(folder: Path) -> None:
    words = ("--truth", folder / "truth.ome.tif", "--labels", folder / "labels.ome.tif")
    result = run("assess", folder / "raw.ome.tif", folder / "better.ome.tif", *words)
    assert result.exit_code == 0, result.output
    assert re.match(r"(green|amber): [A-Z].+\.\n", result.stdout)
    for text in (
        "flagged voxels",
        "deviance ratio",
        "sigma_um 0.6 x 0.3 x 0.3 µm (user)",
        "(estimated, as in the run)",
    ):
        assert text in result.stdout
    assert re.search(r"truth, result +PSNR [\d.]+ dB, SSIM 0\.\d+", result.stdout)
    assert re.search(r"cells, result +\d+ of \d+", result.stdout)


def test_a_liar_is_red_and_the_exit_code_is_still_0(folder: Path) -> None:
    result = run("assess", folder / "raw.ome.tif", folder / "liar.ome.tif", "--psf", PSF)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("red: ")


def test_the_record_is_one_line_of_json_and_the_report_one_file(
    folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "report.html"
    words = (
        "assess",
        folder / "raw.ome.tif",
        folder / "better.ome.tif",
        "--report",
        target,
        "--json",
    )
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    record = json.loads(result.stdout)
    assert record["verdict"] in ("green", "amber")
    assert record["report"] == str(target)
    # Three standard deviations of the PSF, four planes at most here, are left out at either end.
    assert len(record["reblur"]["chi2_per_slice"]) == 6
    text = target.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert record["headline"] in text
    assert "How the result was made" in text
    again = run(*words)
    assert again.exit_code == 9
    assert run(*words, "--overwrite").exit_code == 0


def test_results_of_other_programs_are_judged_with_what_is_typed(
    folder: Path, tmp_path: Path
) -> None:
    bare = Stack.from_array(np.asarray(open_stack(folder / "better.ome.tif").data[...]), "ZYX")
    write_stack(tmp_path / "bare.ome.tif", bare)
    write_stack(tmp_path / "raw.ome.tif", Stack.from_array(walls(0)[0], "ZYX"))
    files = ("assess", tmp_path / "raw.ome.tif", tmp_path / "bare.ome.tif", "--json")
    unknown = json.loads(run(*files).stdout)
    assert unknown["verdict"] == "amber"
    assert "the voxel size is unknown" in unknown["headline"]
    known = json.loads(
        run(*files, "--voxel-size", "0.5,0.25,0.25", "--psf", PSF, "--axes", "ZYX").stdout
    )
    assert known["voxel_size_um"] == [0.5, 0.25, 0.25]
    own = json.loads(
        run("assess", folder / "raw.ome.tif", folder / "better.ome.tif", "--json").stdout
    )
    assert known["reblur"] == own["reblur"]
    kept = json.loads(
        run(*files, "--voxel-size", "0.5,0.25,0.25", "--psf", PSF, "--denoised").stdout
    )
    assert kept["reblur"]["discrepancy"] != known["reblur"]["discrepancy"]


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        (("raw.ome.tif", "gone.tif"), 3, r'cannot read "gone\.tif"'),
        (
            ("raw.ome.tif", "better.ome.tif", "--report", "report.txt"),
            2,
            r'the report "report\.txt" cannot be written; its name must end',
        ),
        (
            ("raw.ome.tif", "better.ome.tif", "--report", "gone/report.html"),
            6,
            r'the folder "gone" does not exist',
        ),
        (("raw.ome.tif", "better.ome.tif", "--psf", "nonsense"), 2, r'"nonsense" is not a PSF'),
        (("raw.ome.tif", "better.ome.tif", "--voxel-size", "0,0,0"), 2, r'--voxel-size is "0,0,0"'),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_sentence(
    words: tuple[str, ...], code: int, pattern: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = run("assess", *words)
    assert result.exit_code == code
    assert re.search(pattern, result.stderr)
    assert result.stderr.count("\n") == 1


# ---------------------------------------------------------------------- enhance --assess


def test_a_run_judges_its_own_result_and_keeps_the_figures_in_its_account(
    folder: Path, tmp_path: Path
) -> None:
    result = run("enhance", folder / "raw.ome.tif", tmp_path / "b.ome.tif", *QUICK, "--assess")
    assert result.exit_code == 0, result.output
    assert re.search(r"^(green|amber): [A-Z].+\.$", result.stdout, re.MULTILINE)
    assert "assess (blurring the result again" in result.stderr
    record = Provenance.find(open_stack(tmp_path / "b.ome.tif").metadata)
    assert record is not None
    kept = record.notes["assessment"]
    later = json.loads(
        run("assess", folder / "raw.ome.tif", tmp_path / "b.ome.tif", "--json").stdout
    )
    assert kept["verdict"] == later["verdict"]
    assert kept["reblur"] == later["reblur"]
    assert [path.name for path in tmp_path.iterdir()] == ["b.ome.tif"]


def test_a_report_is_written_beside_one_result_and_into_a_folder_for_several(
    folder: Path, tmp_path: Path
) -> None:
    one = run(
        "enhance",
        folder / "raw.ome.tif",
        tmp_path / "b.ome.tif",
        *QUICK,
        "--report",
        tmp_path / "b.html",
        "--json",
    )
    record = json.loads(one.stdout)
    assert record["report"] == str(tmp_path / "b.html")
    assert record["assessment"]["verdict"] in ("green", "amber")
    assert record["assessment"]["headline"] in (tmp_path / "b.html").read_text(encoding="utf-8")
    files = (folder / "raw.ome.tif", folder / "second.ome.tif")
    many = run("enhance", *files, tmp_path / "out", *QUICK, "--report", tmp_path / "reports")
    assert many.exit_code == 0, many.output
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == [
        "raw_gaussian_deconvolution.html", "second_gaussian_deconvolution.html",
    ]  # fmt: skip
    assert len(re.findall(r"(?:green|amber): [A-Z]", many.stdout)) == 2
    again = run(
        "enhance", files[0], tmp_path / "c.ome.tif", *QUICK, "--report", tmp_path / "b.html"
    )
    assert again.exit_code == 9
    assert not (tmp_path / "c.ome.tif").exists()


def test_a_result_that_cannot_be_judged_is_written_with_a_warning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zenhance.pipeline import assessing

    def refuse(*_: Any) -> Any:
        raise StackError("there is nothing to judge")

    monkeypatch.setattr(assessing, "assess_result", refuse)
    result = run(
        "enhance",
        folder / "raw.ome.tif",
        tmp_path / "b.ome.tif",
        "--method",
        "identity",
        "--report",
        tmp_path / "b.html",
    )
    assert result.exit_code == 0, result.output
    assert (
        "zenhance: warning: the result could not be assessed: there is nothing to judge"
        in result.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["b.ome.tif"]
    assert running.RunOptions().assess is False
