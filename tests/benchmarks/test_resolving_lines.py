"""Lines are found whatever way they lean.

And their width and modulation are those they were made with.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import lines as lines_module
from benchmarks import runner
from benchmarks.experiments import beads as beads_module
from benchmarks.lines import (
    STEP_PX,
    find_lines,
    grid_table,
    line_figures,
    lines_alone,
    measure_lines,
)
from zenhance.errors import StackError
from zenhance.io import open_stack, write_stack
from zenhance.pipeline import EnhanceRequest
from zenhance.stack import Stack, VoxelSize
from zenhance.types import FloatArray

FWHM_PX = 7.0
SIGMA_PX = FWHM_PX / 2.3548
PLACES_PX = (-40.0, -4.0, 6.0, 36.0)


def lines(lean_deg: float = 0.0, vertical: bool = True, fwhm_px: float = FWHM_PX) -> FloatArray:
    """Three planes with four lines of which two are close; the middle plane is in focus."""
    rows, columns = np.mgrid[-60:60, -70:70].astype(np.float64)
    across = columns - math.tan(math.radians(lean_deg)) * rows
    planes = []
    for width in (2.0, 1.0, 1.6):
        sigma = width * fwhm_px / 2.3548
        planes.append(sum(np.exp(-0.5 * ((across - p) / sigma) ** 2) / width for p in PLACES_PX))
    volume = np.stack(planes).astype(np.float32)
    return 20 + 100 * (volume if vertical else volume.transpose(0, 2, 1))


@pytest.mark.parametrize("lean", [-9.0, 0.0, 3.4])
@pytest.mark.parametrize("vertical", [True, False])
def test_lines_are_found_with_their_plane_direction_and_angle(lean: float, vertical: bool) -> None:
    found = find_lines(lines(lean, vertical), FWHM_PX)
    assert (found.plane, found.vertical) == (1, vertical)
    assert found.angle_deg == pytest.approx(lean, abs=0.1)
    gaps = np.diff(found.places) * STEP_PX
    assert gaps == pytest.approx(np.diff(PLACES_PX), abs=1.1)


def test_width_and_modulation_are_those_that_were_made() -> None:
    for width, alone in ((5.0, (0, 1, 2, 3)), (FWHM_PX, (0, 3))):
        volume = lines(3.4, fwhm_px=width)
        found = find_lines(volume, FWHM_PX)
        profile = found.profile(volume)
        assert lines_alone(profile, found.places) == alone
        figures = line_figures(profile, found.places, 0.03, alone)
        assert figures.width_um == pytest.approx(0.03 * width, rel=0.04)
        # Two Gaussians ten pixels apart: what is between them, and what each is where the other
        # still gives light.
        sigma = width / 2.3548
        valley, peak = 2 * math.exp(-0.5 * (5 / sigma) ** 2), 1 + math.exp(-0.5 * (10 / sigma) ** 2)
        assert figures.closest == pytest.approx((peak - valley) / (peak + valley), abs=0.03)
        assert figures.mean > figures.closest


def test_lines_are_found_in_few_photons() -> None:
    noisy = np.random.default_rng(0).poisson((lines(1.5) - 20) / 50 + 0.2).astype(np.float32)
    found = find_lines(noisy, FWHM_PX)
    assert len(found.places) == 4
    assert found.angle_deg == pytest.approx(1.5, abs=0.4)
    assert line_figures(found.profile(noisy), found.places, 1.0, (0, 3)).width_um == pytest.approx(
        FWHM_PX, rel=0.15
    )


def test_spots_noise_and_light_without_structure_are_no_lines() -> None:
    rng = np.random.default_rng(1)
    spots = np.zeros((3, 120, 120), np.float32)
    for y, x in ((20, 30), (35, 90), (80, 55), (100, 15)):
        spots[1, y - 3 : y + 4, x - 3 : x + 4] = 50.0
    for volume in (
        spots,
        rng.poisson(5.0, (3, 120, 120)).astype(np.float32),
        np.ones((3, 120, 120), np.float32),
    ):
        with pytest.raises(StackError, match="no straight, parallel lines stand out"):
            find_lines(volume, FWHM_PX)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    stack = Stack(lines(2.0), "ZYX", VoxelSize.of((0.1, 0.03, 0.03), "file"))
    return write_stack(tmp_path / "grid.ome.tif", stack)


def test_each_method_is_measured_at_the_same_lines_with_the_psf_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EnhanceRequest] = []

    def sharpened(stack: Stack, request: EnhanceRequest) -> SimpleNamespace:
        asked.append(request)
        return SimpleNamespace(
            stack=stack.with_data(lines(2.0, fwhm_px=4.0 if request.method == "dps" else 5.0))
        )

    monkeypatch.setattr(lines_module, "enhance", sharpened)
    report = measure_lines(file, "fwhm_um=0.3,0.21,0.21", weights="mine")
    assert [(r.method, r.psf, r.weights) for r in asked] == [
        ("gaussian_deconvolution", "fwhm_um=0.3,0.21,0.21", None),
        ("dps", "fwhm_um=0.3,0.21,0.21", "mine"),
    ]
    assert report.pitch_um == pytest.approx(0.3, abs=0.03)
    table = grid_table(report, "beads.tif")
    assert [row[0] for row in table.rows] == ["measurement", "Richardson-Lucy", "DPS"]
    assert float(table.rows[2][1]) == pytest.approx(120, abs=6)
    assert float(table.rows[2][2]) == pytest.approx(7 / 4, abs=0.1)
    assert float(table.rows[0][3]) < float(table.rows[1][3]) < float(table.rows[2][3])
    assert "4 lines along y, 2.0° askew, 2 of them alone" in table.foot[0]
    assert "the width of the beads of `beads.tif`" in table.foot[-1]
    json.dumps(report.record())


def test_beads_and_lines_go_to_the_page_with_the_beads_width_told(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spots = np.zeros((3, 90, 90), np.float32)
    spots[1, 30, 30] = spots[1, 60, 60] = 1000.0
    spots = ndimage.gaussian_filter(spots, (0.5, 3.0, 3.0))
    beads = write_stack(
        tmp_path / "beads.ome.tif", Stack(spots, "ZYX", VoxelSize.of((0.1, 0.03, 0.03), "file"))
    )
    asked: list[str | None] = []

    def unchanged(stack: Stack, request: EnhanceRequest) -> SimpleNamespace:
        asked.append(request.psf)
        return SimpleNamespace(stack=stack)

    for module in (lines_module, beads_module):
        monkeypatch.setattr(module, "enhance", unchanged)
    page = tmp_path / "methods" / "dps.md"
    page.parent.mkdir()
    page.write_text(
        "".join(f"<!-- begin {m} -->\nworn\n<!-- end {m} -->\n" for m in ("beads", "grid")),
        encoding="utf-8",
    )
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    runner.run("beads", "--real", f"{beads},{file}", "--out", tmp_path, "--write-docs", "--json")
    width = float(str(asked[0]).rpartition(",")[2])
    assert width == pytest.approx(0.03 * 3 * 2.3548, rel=0.06)
    assert len(asked) == 4
    assert len(set(asked)) == 1
    text = page.read_text(encoding="utf-8")
    assert "worn" not in text
    assert "`beads.ome.tif`: 2 beads" in text
    assert "the width of the beads of `beads.ome.tif`" in text
    record = json.loads((tmp_path / "beads.json").read_text(encoding="utf-8"))
    assert record["grid"]["psf"] == record["beads"]["psf"]
    capsys.readouterr()
    with pytest.raises(StackError, match="3 files were given to measure; give one of beads"):
        runner.run("beads", "--real", "a.tif,b.tif,c.tif")


def test_a_stack_without_lines_is_named(tmp_path: Path) -> None:
    flat = write_stack(
        tmp_path / "flat.ome.tif",
        Stack(np.ones((2, 60, 60), np.float32), "ZYX", VoxelSize.of((0.1, 0.03, 0.03), "file")),
    )
    with pytest.raises(
        StackError,
        match=r'"flat.ome.tif": no straight, parallel lines stand out .* give a stack of a line '
        r"pattern",
    ):
        measure_lines(flat, "fwhm_um=0.3,0.2,0.2")


def test_the_real_grid_has_four_lines_of_which_two_are_close(shared_data: Path) -> None:
    stack = open_stack(shared_data / "fluorescence" / "confocal_vertical_grid_1AU_mpicbg.tif")
    volume = np.asarray(stack.read(), np.float32)
    found = find_lines(volume, 9.0)
    assert (found.vertical, len(found.places)) == (True, 4)
    profile = found.profile(volume)
    assert lines_alone(profile, found.places) == (0, 3)
    figures = line_figures(profile, found.places, 0.022, (0, 3))
    assert figures.closest < 0.3 < figures.mean
    with pytest.raises(StackError):
        find_lines(
            np.asarray(
                open_stack(shared_data / "fluorescence" / "confocal_beads_mpicbg.tif").read(),
                np.float32,
            ),
            9.0,
        )
