"""Methods compared on one crop: figures that mean something, failures that are rows, one sheet."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.errors import RunCancelled, StackError
from zenhance.io import write_stack
from zenhance.pipeline import EnhanceRequest
from zenhance.pipeline.comparing import Compared, Comparison, compare_steps, crop_around
from zenhance.pipeline.comparison_sheet import pictures_of, sheet_html, sheet_png
from zenhance.stack import Stack
from zenhance.steps import drain

VOXEL_UM = (0.5, 0.2, 0.2)
CROP = ((2, 10), (8, 56), (4, 52))
PSF = "sigma_um=0.4,0.15,0.15"


@pytest.fixture(scope="module")
def stack() -> Stack:
    rng = np.random.default_rng(3)
    truth = np.zeros((12, 64, 64))
    truth[:, ::16, :] = truth[:, :, ::16] = 1.0
    blurred = ndimage.gaussian_filter(truth, (0.8, 0.75, 0.75), mode="nearest")
    counts = rng.poisson(60 * blurred / blurred.max() + 2)
    return Stack.from_array(counts.astype(np.uint16), "ZYX", VOXEL_UM, name="grid")


@pytest.fixture(scope="module")
def compared(stack: Stack) -> Comparison:
    request = EnhanceRequest(psf=PSF)
    steps = compare_steps(stack, request, CROP, ["gaussian_deconvolution", "identity", "srcnn"])
    return drain(steps)


def test_each_method_is_judged_and_measured_beside_the_measurement(
    stack: Stack, compared: Comparison
) -> None:
    z, y, x = (slice(*span) for span in CROP)
    assert compared.measured.volume is not None
    assert np.array_equal(compared.measured.volume, stack.read(0, 0, (z, y, x)))
    deconvolved, identity, _ = compared.rows
    assert deconvolved.verdict in ("green", "amber", "red")
    assert deconvolved.sentence
    assert deconvolved.seconds > 0
    assert deconvolved.noise_percent is not None
    assert compared.measured.noise_percent is not None
    # The identity has the measurement's own figures, and is never suggested.
    assert identity.noise_percent == compared.measured.noise_percent
    assert identity.detail_um == compared.measured.detail_um
    assert compared.suggested is not None
    assert compared.suggested.method != "identity"


def test_the_noise_of_a_smoothed_measurement_is_lower_and_its_detail_coarser(
    compared: Comparison,
) -> None:
    from zenhance.pipeline import comparing

    raw = compared.measured.volume
    assert raw is not None
    smooth = Compared("s", "smooth", EnhanceRequest(), ndimage.gaussian_filter(raw, (0, 1, 1)))
    told = comparing._measured(
        Comparison("", CROP, VOXEL_UM, compared.measured, (smooth,)), keep_all=True
    )
    noise, own = told.rows[0].noise_percent, told.measured.noise_percent
    assert noise is not None
    assert own is not None
    assert noise < 0.8 * own
    assert (told.rows[0].detail_um or np.inf) > (told.measured.detail_um or 0.0)


def _row(name: str, verdict: str, detail_um: float, noise_percent: float) -> Compared:
    volume = np.full((1, 2, 2), float(len(name)), np.float32)
    figures = {"detail_um": detail_um, "noise_percent": noise_percent}
    return Compared(name, name, EnhanceRequest(), volume, verdict, **figures)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([("a", "green", 0.4, 8.0), ("bb", "amber", 0.42, 6.0)], "bb"),
        ([("a", "green", 0.4, 8.0), ("bb", "amber", 0.8, 6.0)], "a"),
        ([("a", "green", 0.4, 8.0), ("bb", "red", 0.4, 1.0)], "a"),
        ([("a", "red", 0.4, 8.0), ("bb", "red", 0.4, 1.0)], "bb"),
        ([("a", "amber", 0.4, 8.0), ("bb", "green", 0.4, 8.0)], "bb"),
    ],
)
def test_the_suggestion_is_not_red_not_blurred_and_least_noisy(
    rows: list[tuple[Any, ...]], chosen: str
) -> None:
    measured = Compared("", "measured", EnhanceRequest(), np.zeros((1, 2, 2), np.float32))
    found = Comparison("", CROP, VOXEL_UM, measured, tuple(_row(*row) for row in rows))
    assert found.suggested is not None
    assert found.suggested.method == chosen


def test_a_method_that_fails_is_a_row_with_its_reason(stack: Stack) -> None:
    request = EnhanceRequest(method="srcnn", weights="no_such_model")
    found = drain(compare_steps(stack, request, CROP, ["srcnn", "identity"]))
    failed, other = found.rows
    assert failed.volume is None
    assert "no_such_model" in failed.sentence
    assert other.volume is not None
    assert "no_such_model" in sheet_html(found)


def test_unknown_methods_small_crops_and_cancel_are_one_sentence(stack: Stack) -> None:
    with pytest.raises(Exception, match="dqlr"):
        drain(compare_steps(stack, EnhanceRequest(), CROP, ["dqlrr"]))
    with pytest.raises(StackError, match="leaves 8 of 64 voxels; give at least 32"):
        drain(compare_steps(stack, EnhanceRequest(), ((0, 4), (0, 8), (0, 64)), ["identity"]))
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(RunCancelled):
        drain(compare_steps(stack, EnhanceRequest(), CROP, ["identity"], cancel=cancel))


def test_the_crop_lies_about_the_plane_and_the_middle_of_the_field() -> None:
    assert crop_around((40, 500, 500), 20) == ((12, 28), (170, 330), (170, 330))
    field = {"Y": slice(0, 60), "X": slice(480, 500)}
    assert crop_around((40, 500, 500), 39, field) == ((24, 40), (0, 60), (468, 500))


def test_the_sheet_shows_all_methods_at_one_contrast(compared: Comparison) -> None:
    links = pictures_of(compared)
    assert set(links) == {"", "gaussian_deconvolution", "identity", "srcnn"}
    assert links[""] == links["identity"]
    assert links[""] != links["gaussian_deconvolution"]
    assert set(links[""]) == {"plane", "xz"}
    html = sheet_html(compared)
    for row in compared.rows:
        assert row.title in html
        assert f'class="card {row.verdict}"' in html
    assert sheet_png(compared).startswith(b"\x89PNG")


def test_the_command_writes_page_picture_and_figures(stack: Stack, tmp_path: Path) -> None:
    path, out = tmp_path / "grid.tif", tmp_path / "sheet"
    write_stack(path, stack)
    words = ["compare", str(path), "--out", str(out), "--crop", "2:10,8:56,4:52"]
    words += ["--methods", "identity,gaussian_deconvolution", "--psf", PSF]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert [row["method"] for row in record["rows"]] == ["identity", "gaussian_deconvolution"]
    assert record["suggested"] == "gaussian_deconvolution"
    assert sorted(p.name for p in out.iterdir()) == [
        "comparison.html", "comparison.json", "comparison.png",
    ]  # fmt: skip
    again = CliRunner().invoke(app, words)
    assert again.exit_code != 0
