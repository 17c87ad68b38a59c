"""Charts: what their facts say is what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from zenhance.errors import StackError
from zenhance.simulate.charts import Charts
from zenhance.simulate.samples import simulate
from zenhance.simulate.specimen import Grid

PLANE = Grid((1, 200, 240), (0.3, 0.05, 0.05))


def _rows(density: np.ndarray, span_um: list[float], step_um: float = 0.05) -> np.ndarray:
    first, last = (int(s / step_um) for s in span_um)
    return density[first + 1 : last - 1]


@pytest.mark.parametrize("along", ["x", "y"])
@pytest.mark.parametrize("seed", [0, 5])
def test_line_pairs_lie_as_far_apart_as_they_say(along: str, seed: int) -> None:
    dye = Charts(along=along, steps=8, smallest_um=0.3, largest_um=1.2).render(PLANE, seed)
    picture = dye.density[0, 0] if along == "x" else dye.density[0, 0].T
    pairs = dye.facts["pairs"]
    assert [p["distance_um"] for p in pairs] == pytest.approx(list(np.geomspace(1.2, 0.3, 8)))
    position = (np.arange(picture.shape[1]) + 0.5) * 0.05
    for pair in pairs:
        profile = _rows(picture, pair["span_um"]).mean(axis=0)
        middle = sum(pair["centres_um"]) / 2
        measured = []
        for side in (
            (position < middle) & (position > middle - 1),
            (position > middle) & (position < middle + 1),
        ):
            measured.append(float((profile * position)[side].sum() / profile[side].sum()))
            # Each line holds its width of dye.
            assert profile[side].sum() * 0.05 == pytest.approx(0.1, rel=1e-3)
        assert measured == pytest.approx(pair["centres_um"], abs=0.005)
        assert measured[1] - measured[0] == pytest.approx(pair["distance_um"], abs=0.005)


def test_pairs_upright_in_a_stack_measure_depth() -> None:
    grid = Grid((80, 40, 80), (0.1, 0.1, 0.1))
    dye = Charts(along="z", steps=1, largest_um=1.0, line_um=0.2).render(grid, 1)
    profile = dye.density[0].mean(axis=(1, 2))
    (pair,) = dye.facts["pairs"]
    position = (np.arange(80) + 0.5) * 0.1
    middle = sum(pair["centres_um"]) / 2
    upper, lower = (
        (profile * position)[s].sum() / profile[s].sum()
        for s in (position < middle, position > middle)
    )
    assert lower - upper == pytest.approx(1.0, abs=0.01)


def test_a_flat_field_has_no_depth_to_measure() -> None:
    with pytest.raises(StackError, match="a chart along z needs a stack of several planes"):
        Charts(along="z").render(PLANE, 0)


def test_a_star_has_its_spokes_and_half_of_its_disc_is_bright() -> None:
    dye = Charts(pattern="star", spokes=16).render(PLANE, 2)
    picture, (y, x), radius = dye.density[0, 0], dye.facts["centre_um"], dye.facts["radius_um"]
    assert picture.sum() * 0.05**2 == pytest.approx(np.pi * radius**2 / 2, rel=0.005)
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    r = 0.7 * radius
    around = picture[
        ((y + r * np.sin(angles)) / 0.05).astype(int), ((x + r * np.cos(angles)) / 0.05).astype(int)
    ]
    spectrum = np.abs(np.fft.rfft(around - around.mean()))
    assert spectrum.argmax() == 16


def test_point_pairs_have_their_distances_and_equal_dye() -> None:
    dye = Charts(pattern="points", steps=4, smallest_um=0.5, point_voxels=12.0).render(PLANE, 3)
    picture = dye.density[0, 0]
    assert picture.sum() == pytest.approx(2 * 4 * 12.0, rel=1e-4)
    position = (np.arange(240) + 0.5) * 0.05
    for pair in dye.facts["pairs"]:
        row = int(pair["span_um"][0] / 0.05)
        profile = picture[row - 4 : row + 5].sum(axis=0)
        near = [np.abs(position - c) < 0.2 for c in pair["centres_um"]]
        centres = [(profile * position)[n].sum() / profile[n].sum() for n in near]
        assert centres[1] - centres[0] == pytest.approx(pair["distance_um"], abs=0.002)


def test_a_grid_has_its_period() -> None:
    dye = Charts(pattern="grid", largest_um=1.0).render(PLANE, 4)
    profile = dye.density[0, 0].min(axis=0)
    position = (np.arange(240) + 0.5) * 0.05
    for centre in dye.facts["centres_um"][1][1:-1]:
        near = np.abs(position - centre) < 0.3
        assert (profile * position)[near].sum() / profile[near].sum() == pytest.approx(
            centre, abs=0.005
        )
    assert np.diff(dye.facts["centres_um"][1]) == pytest.approx(1.0)


def test_a_chart_stands_through_the_stack_or_fills_the_height_that_was_asked_for() -> None:
    stack = Grid((20, 100, 120), (0.1, 0.1, 0.1))
    pillar = Charts(steps=2, line_um=0.2).render(stack, 0).density[0]
    assert np.array_equal(pillar[0], pillar[-1])
    sheet = Charts(steps=2, line_um=0.2, height_um=0.5).render(stack, 0).density[0]
    assert sheet.sum(axis=0).max() * 0.1 == pytest.approx(0.5, rel=1e-5)
    assert sheet[9:11].max() == 1.0
    assert sheet[0].max() == 0.0


def test_facts_hold_in_the_picture_that_a_microscope_takes() -> None:
    seen = simulate(
        "charts",
        seed=7,
        shape_px=(1, 120, 200),
        voxel_size_um=(0.3, 0.05, 0.05),
        settings={"steps": 2, "largest_um": 2.0},
    )
    position = (np.arange(200) + 0.5) * 0.05
    pair = seen.facts["pairs"][0]
    first, last = (int(s / 0.05) for s in pair["span_um"])
    for stack in (seen.truth, seen.blurred):
        profile = stack.read()[0, first + 20 : last - 20].astype(np.float64).mean(axis=0)
        profile -= profile.min()
        near = np.abs(position - pair["centres_um"][0]) < 0.6
        assert (profile * position)[near].sum() / profile[near].sum() == pytest.approx(
            pair["centres_um"][0], abs=0.02
        )


def test_a_chart_that_does_not_fit_is_refused() -> None:
    with pytest.raises(StackError, match="needs 11.6 µm along x, the field has 2 µm"):
        Charts(largest_um=10).render(Grid((1, 40, 40), (1, 0.05, 0.05)), 0)
    with pytest.raises(StackError, match="100 rows of pairs do not fit"):
        Charts(steps=100).render(Grid((1, 40, 70), (1, 0.05, 0.05)), 0)
    with pytest.raises(ValidationError, match="smallest_um is 3 µm, above largest_um 1"):
        Charts(smallest_um=3, largest_um=1)
