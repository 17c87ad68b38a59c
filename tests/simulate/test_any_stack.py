"""Stacks of all kinds: the same number gives the same stack, within the ranges, to full depth."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.errors import StackError
from zenhance.simulate.any_stack import DEEPEST_UM, FAMILIES, GRAMMARS, HELD_BACK, draw_stack
from zenhance.simulate.clutter import Clutter
from zenhance.simulate.foam import Foam
from zenhance.simulate.samples import simulate
from zenhance.simulate.specimen import Grid

GRID = Grid((12, 40, 40), (0.5, 0.25, 0.25))


def test_the_same_number_gives_the_same_stack() -> None:
    one, two = (draw_stack(3, 5, grammar="foam", shape_px=(6, 24, 24)) for _ in range(2))
    assert one == two
    first, second = (np.asarray(simulate(**d.arguments).measured.data) for d in (one, two))
    assert np.array_equal(first, second)
    assert draw_stack(3, 6).seed != draw_stack(3, 5).seed


def test_nothing_that_is_held_back_is_drawn_unless_asked_for() -> None:
    drawn = [draw_stack(1, number) for number in range(300)]
    assert {d.grammar for d in drawn} == set(GRAMMARS) - set(HELD_BACK)
    assert {d.family for d in drawn} == set(FAMILIES) - set(HELD_BACK)
    asked = draw_stack(1, 0, grammar="shells", family="gibson_lanni")
    assert (asked.grammar, asked.family) == HELD_BACK
    assert asked.microscope.psf is not None
    assert asked.microscope.psf.startswith("gibson_lanni")


def test_voxel_sizes_photons_and_depth_span_the_stated_ranges() -> None:
    drawn = [draw_stack(2, number) for number in range(400)]
    planes = [d.voxel_size_um[0] for d in drawn]
    pixels = [d.voxel_size_um[1] for d in drawn]
    assert 0.2 <= min(planes) < 0.3
    assert 1.2 < max(planes) <= 1.5
    assert 0.06 <= min(pixels) < 0.1
    assert 0.4 < max(pixels) <= 0.5
    photons = [d.microscope.photons for d in drawn]
    assert min(photons) < 5
    assert max(photons) > 700
    bottom = [d.shape_px[0] * d.voxel_size_um[0] - d.settings.get("surface_um", 0.0) for d in drawn]
    assert DEEPEST_UM * 0.9 < max(bottom) <= DEEPEST_UM * 1.2


def test_a_crop_keeps_the_depth_of_the_tissue_above_it() -> None:
    deep = Foam(surface_um=-20.0).render(GRID, 1).depth_um
    assert deep.min() > 15
    clutter = Clutter(kind="nuclei", surface_um=-20.0).render(GRID, 1)
    assert np.allclose(clutter.depth_um[0], 20.25)


@pytest.mark.parametrize("kind", ["filaments", "dots", "nuclei", "shells", "texture"])
def test_clutter_repeats_and_stays_below_its_surface(kind: str) -> None:
    model = Clutter(kind=kind, surface_um=2.0, scale_um=3.0, density=2.0)
    dye = model.render(GRID, 4)
    assert np.array_equal(dye.density, model.render(GRID, 4).density)
    assert dye.density[0, :3].max() == 0
    assert dye.density[0, 5:].std() > 0.01
    assert (dye.labels > 0).any()


def test_shells_are_hollow_and_nuclei_full() -> None:
    grid = Grid((40, 40, 40), (0.1, 0.1, 0.1))
    settings = {"scale_um": 3.0, "line_um": 0.2, "haze": 0.0, "density": 5.0, "surface_um": -5.0}
    full = Clutter(kind="nuclei", **settings).render(grid, 2)
    hollow = Clutter(kind="shells", **settings).render(grid, 2)
    inside = full.labels > 0
    assert (full.density[0][inside] > 0.05).mean() > 0.95
    assert (hollow.density[0][hollow.labels > 0] > 0.05).mean() < 0.6


def test_a_foam_wall_is_as_thick_as_asked_for() -> None:
    grid = Grid((60, 60, 60), (0.1, 0.1, 0.1))
    settings = {"wall_spread": 0.0, "bend_um": 0.0, "cytoplasm": 0.0, "surface_um": -5.0}
    share = [
        float(Foam(wall_um=wall, **settings).render(grid, 3).density.mean()) for wall in (0.1, 0.2)
    ]
    # Thin walls fill space in proportion to their thickness.
    assert share[1] / share[0] == pytest.approx(2, rel=0.1)


def test_doubled_walls_are_dark_in_between_and_spaces_hold_no_dye() -> None:
    grid = Grid((40, 40, 40), (0.1, 0.1, 0.1))
    settings = {"wall_um": 0.1, "wall_spread": 0.0, "bend_um": 0.0, "surface_um": -5.0}
    plain = Foam(**settings, cytoplasm=0.0).render(grid, 3).density[0]
    double = Foam(**settings, cytoplasm=0.0, gap_um=0.6).render(grid, 3).density[0]
    assert double[plain > 0.5].mean() < 0.3
    filled = Foam(**settings, cytoplasm=0.5).render(grid, 3).density[0]
    open_ = Foam(**settings, cytoplasm=0.5, space_um=0.4).render(grid, 3).density[0]
    assert (filled > 0).all()
    assert 0.005 < (open_ == 0).mean() < 0.5


def test_an_unknown_grammar_is_refused() -> None:
    with pytest.raises(StackError, match='no grammar "moss"; choose one of meristem'):
        draw_stack(1, 1, grammar="moss")
