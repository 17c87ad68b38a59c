"""The speed table: equal results away from the borders, honest rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.experiments import speed
from benchmarks.experiments.speed import SpeedReport, measure_speed, speed_table
from zenhance.errors import MethodError

SHAPE = (28, 64, 64)


@pytest.fixture(scope="module")
def report() -> SpeedReport:
    return measure_speed(shape_px=SHAPE, iterations=3, repeats=2)


def test_scikit_image_and_plain_fft_agree_with_ours_away_from_the_borders(
    report: SpeedReport,
) -> None:
    rows = {row.program: row for row in report.rows if row.device == "cpu"}
    for program in ("scikit-image", "plain torch.fft"):
        assert rows[program].difference is not None
        assert rows[program].difference < 1e-3
    assert rows["zenhance"].difference == 0.0


def test_the_borders_are_where_programs_differ() -> None:
    problem, _ = speed._make_problem(SHAPE, 3)
    ours = speed._ours(problem, speed._flat_start(problem))
    theirs = speed._scikit_image(problem)
    assert speed._difference(theirs, ours, (0, 0, 0)) > 10 * speed._difference(
        theirs, ours, problem.border_px
    )


@pytest.mark.slow
def test_redlionfish_is_reproduced_only_with_its_psf_one_voxel_off_centre() -> None:
    pytest.importorskip("RedLionfishDeconv")
    problem, _ = speed._make_problem(SHAPE, 2)
    theirs = speed._redlionfish(problem)

    def plain(shift: int) -> np.ndarray:
        x = problem.data.copy()
        for _ in range(problem.iterations):
            seen = np.roll(ndimage.convolve(x, problem.kernel), (shift,) * 3, axis=(0, 1, 2))
            x = x * ndimage.convolve(problem.data / np.maximum(seen, 1e-14), problem.kernel)
        return x

    assert speed._difference(theirs, plain(-1), problem.border_px) < 1e-4
    assert speed._difference(theirs, plain(0), problem.border_px) > 0.05
    assert speed._difference(plain(0), speed._ours(problem, problem.data), problem.border_px) < 1e-3


def test_every_row_says_how_it_was_measured(report: SpeedReport) -> None:
    assert report.rows[0].times_slower == 1.0
    for row in report.rows:
        if row.best_s is not None and row.median_s is not None:
            assert 0 < row.best_s <= row.median_s
    assert report.machine.cpu
    assert report.machine.threads >= 1
    table = speed_table(report)
    assert "28 × 64 × 64 voxels" in " ".join(table.foot)
    assert table.markdown().startswith("| program | device |")
    json.dumps(report.record())


def test_a_program_that_is_not_installed_gets_an_empty_row(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = speed._programs()
    missing = speed._Program(
        "elsewhere", speed._flat_start, speed._scikit_image, "no_such_module_anywhere"
    )
    monkeypatch.setattr(speed, "_programs", lambda: (programs[0], missing))
    report = measure_speed(shape_px=SHAPE, iterations=1, repeats=1)
    assert report.rows[1].best_s is None
    assert report.rows[1].note == "not installed"
    assert speed_table(report).rows[1] == ("elsewhere", "cpu", "-", "-", "-", "-")


def test_numbers_that_make_no_measurement_are_refused() -> None:
    with pytest.raises(MethodError, match="repeats \\(0\\) must be at least 1"):
        measure_speed(repeats=0)
    with pytest.raises(MethodError, match="leaves nothing away from the borders; use at least"):
        measure_speed(shape_px=(8, 64, 64))
