"""Measures of how real a stack looks, each on a picture of which the answer is known.

And the plots.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import runner, simulator_sheets
from benchmarks.experiments import simulator
from benchmarks.plots import COLOURS, Panel, draw_panels, ticks_between
from benchmarks.realism import (
    Curve,
    curves_apart,
    look_at,
    noise_by_mean,
    noise_correlation,
    power_spectrum,
    wall_profile,
)
from zenhance.errors import ReadError
from zenhance.simulate.presets import microscope

VOXEL = (1.0, 0.2, 0.2)


def _ramp(rng: np.random.Generator, gain: float, offset: float) -> np.ndarray:
    photons = np.broadcast_to(np.linspace(2, 100, 200), (6, 200, 200))
    return (gain * rng.poisson(photons) + offset).astype(np.float32)


def test_the_noise_curve_finds_the_gain_of_a_ramp() -> None:
    curve, gain = noise_by_mean(_ramp(np.random.default_rng(0), 3.0, 20.0))
    assert gain == pytest.approx(3.0, rel=0.1)
    assert curve.y == pytest.approx(3.0 * (curve.x - 20.0), rel=0.2)


def test_neighbours_share_no_noise_until_a_filter_makes_them() -> None:
    noise = np.random.default_rng(0).normal(50, 5, size=(4, 150, 150)).astype(np.float32)
    assert noise_correlation(noise) == pytest.approx(0.0, abs=0.05)
    # Two neighbours averaged with equal weights share half of their noise.
    averaged = (noise[:, :, 1:] + noise[:, :, :-1]) / 2
    assert noise_correlation(averaged) == pytest.approx(0.5, abs=0.06)


def test_a_walls_width_and_the_level_beside_it_are_found() -> None:
    x = np.arange(200) * 0.2
    wall = np.exp(-(((x - 20.0) / 0.5) ** 2) / 2)
    image = np.broadcast_to(10 + 40 + 60 * wall, (5, 200, 200)).astype(np.float32)
    curve, width_um, floor = wall_profile(image, VOXEL, 10.0)
    assert width_um == pytest.approx(2.3548 * 0.5, rel=0.02)
    assert floor == pytest.approx(0.4, abs=0.02)
    assert curve.x[np.argmax(curve.y)] == pytest.approx(0.0, abs=1e-9)


def test_an_even_picture_has_no_wall() -> None:
    _, width_um, floor = wall_profile(np.full((2, 60, 60), 7.0, np.float32), VOXEL, 0.0)
    assert np.isnan(width_um)
    assert np.isnan(floor)


def test_a_blurs_spectrum_falls_as_its_gaussian() -> None:
    noise = np.random.default_rng(1).normal(0, 1, size=(6, 160, 160))
    sharp, soft = (
        power_spectrum(
            (100 + 40 * ndimage.gaussian_filter(noise, (0, s, s))).astype(np.float32), VOXEL
        )
        for s in (0.0, 1.5)
    )
    fall = (soft.y - soft.y[4]) - (sharp.y - sharp.y[4])
    # Power falls by exp(-(2π f σ)²) with σ = 1.5 px = 0.3 µm.
    f = soft.x
    expected = -((2 * np.pi * 0.3) ** 2) * (f**2 - f[4] ** 2) / np.log(10)
    inside = (f > 0.3) & (f < 0.9)
    assert fall[inside] == pytest.approx(expected[inside], abs=0.25)


def test_brightness_falls_by_half_over_the_depth_it_says() -> None:
    rng = np.random.default_rng(2)
    cells = ndimage.gaussian_filter(rng.normal(size=(40, 80, 80)), (1, 2, 2))
    tissue = (
        np.where(cells > 0, 200.0, 60.0) * np.exp(-np.arange(40) * np.log(2) / 12.0)[:, None, None]
    )
    image = np.concatenate([np.zeros((6, 80, 80)), tissue]).astype(np.float32) + rng.normal(
        10, 0.5, size=(46, 80, 80)
    ).astype(np.float32)
    look = look_at(image, VOXEL)
    assert look.half_depth_um == pytest.approx(12.0, rel=0.1)
    assert look.curves["brightness"].y[0] > look.curves["brightness"].y[-1]
    assert look.curves["histogram"].y.sum() == pytest.approx(1.0)


def test_curves_apart_is_the_root_mean_square_share_of_the_range() -> None:
    x = np.linspace(0, 1, 11)
    assert curves_apart(Curve(x, 10 * x), Curve(x, 10 * x + 1)) == pytest.approx(0.1)
    assert np.isnan(curves_apart(Curve(x, x), Curve(x + 5, x)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (-0.3, 0.9, [0.0, 0.5]), (3, 250, [50, 100, 150, 200, 250])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks_between(low, high) == pytest.approx(expected)


def test_a_plot_draws_each_line_in_its_colour_where_it_belongs() -> None:
    x = np.linspace(0, 10, 50)
    panel = Panel("t", "x", "y", {"flat": (x, np.zeros(50)), "steep": (x, x)})
    pixels = np.asarray(draw_panels([panel, panel], columns=2))
    assert pixels.shape == (280, 760, 3)
    rows, _ = np.nonzero((pixels[:, :380] == COLOURS[0]).all(axis=-1))
    # The flat line lies at the bottom of the axes; its sample in the legend at the top.
    assert rows.max() > 210
    assert (pixels == COLOURS[1]).all(axis=-1).sum() > 100


def test_a_plot_without_a_finite_point_is_drawn_empty() -> None:
    nothing = np.full(3, np.nan)
    pixels = np.asarray(draw_panels([Panel("t", "x", "y", {"a": (nothing, nothing)})], columns=1))
    assert pixels.shape == (280, 380, 3)


def test_a_sheet_stretches_each_picture_under_its_caption() -> None:
    faint, bright = (np.linspace(0, top, 400).reshape(20, 20) for top in (3.0, 3000.0))
    pixels = np.asarray(
        simulator_sheets.captioned([[("a", faint), ("b", bright), ("c", np.full((20, 20), 7.0))]])
    )
    assert pixels.shape == (20 + simulator_sheets.CAPTION_PX, 3 * 20 + 2 * simulator_sheets.GAP_PX)
    left, right = pixels[-20:, :20], pixels[-20:, 24:44]
    assert np.abs(left.astype(int) - right).max() <= 1
    assert left.min() == 0
    assert left.max() == 255
    assert pixels[-20:, 48:].max() == 0


def test_a_missing_folder_of_real_stacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ReadError, match="there is no such file; give the folder of the real stacks with --real"
    ):
        simulator.compare(simulator.PAIRS["p60"], tmp_path)


def test_the_typical_microscope_looks_like_a_real_one(shared_data: Path) -> None:
    pair = simulator.PAIRS["p60"]
    part = (slice(0, 30), slice(180, 300), slice(180, 300))
    real, made, look, other = simulator.compare(
        simulator.Pair(
            pair.title, pair.file, part, pair.voxel_size_um, pair.preset, pair.settings, pair.scope
        ),
        shared_data / "plant_tissue",
    )
    assert real.shape == made.shape == (30, 120, 120)
    assert other.gain == pytest.approx(look.gain, rel=0.25)
    assert microscope("typical").gain == pytest.approx(look.gain, rel=0.25)
    assert other.wall_um == pytest.approx(look.wall_um, rel=0.25)
    assert other.curves["brightness"].y[1] == pytest.approx(
        look.curves["brightness"].y[1], rel=0.35
    )


def test_the_page_gets_its_table_and_its_figures(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = simulator.PAIRS["embryo"]
    part = (slice(0, 60), slice(10, 100), slice(10, 100))
    small = simulator.Pair(
        pair.title,
        pair.file,
        part,
        (0.3, 0.3, 0.3),
        "typical",
        pair.settings,
        pair.scope,
        scaled=True,
    )
    monkeypatch.setattr(simulator, "PAIRS", {"embryo": small})
    monkeypatch.setattr(simulator_sheets, "PRESET_ROW", ("dim",))
    page = tmp_path / "simulator.md"
    page.write_text("head\n<!-- begin realism -->\n<!-- end realism -->\n", encoding="utf-8")
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    runner.run("simulator", "--real", shared_data / "plant_tissue", "--write-docs")
    assert "| width of a wall, µm |" in page.read_text(encoding="utf-8")
    assert {f.name for f in (tmp_path / "images").iterdir()} == {
        "simulator_embryo.png",
        "simulator_embryo_planes.png",
        "simulator_specimens.png",
        "simulator_presets.png",
    }
