"""Structures of several kinds look like their names; dye does not depend on the pixel."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.simulate.microscope import Microscope
from zenhance.simulate.samples import simulate
from zenhance.simulate.specimen import Grid
from zenhance.simulate.structures import KINDS, Structures
from zenhance.types import FloatArray

FINE = Grid((1, 192, 192), (0.1, 0.03, 0.03))


def _dye(kind: str, seed: int = 3, grid: Grid = FINE, **settings: float) -> FloatArray:
    density: FloatArray = (
        Structures.model_validate({"kind": kind, "haze": 0.0, **settings})
        .render(grid, seed)
        .density[0, 0]
    )
    return density


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes_and_another_one_another_picture(kind: str) -> None:
    assert np.array_equal(_dye(kind), _dye(kind))
    assert not np.array_equal(_dye(kind), _dye(kind, 4))


def test_dots_are_sparse_lines_are_connected_and_areas_fill_the_field() -> None:
    dots, lines, areas = (
        float((_dye(kind) > 0.05).mean()) for kind in ("dots", "filaments", "areas")
    )
    assert dots < 0.02 < lines < 0.3
    assert areas > 0.9
    assert float(np.unique(_dye("areas")).size) < 0.6 * FINE.shape_px[1] * FINE.shape_px[2]


def test_lines_hold_the_same_dye_on_a_finer_grid() -> None:
    coarse, fine = _dye("rings"), _dye("rings", grid=Grid((1, 384, 384), (0.1, 0.015, 0.015)))
    assert coarse.sum() * 0.03**2 == pytest.approx(fine.sum() * 0.015**2, rel=0.03)


def test_mixtures_name_their_kinds_and_differ() -> None:
    kinds = {tuple(Structures().render(FINE, seed).facts["kinds"]) for seed in range(12)}
    assert len(kinds) > 4
    assert all(set(found) <= set(KINDS) for found in kinds)


def test_every_plane_of_a_stack_is_the_same() -> None:
    stack = Structures(kind="membranes").render(Grid((3, 96, 96), (0.2, 0.05, 0.05)), 1).density[0]
    assert np.array_equal(stack[0], stack[2])


def test_a_microscope_may_have_a_psf_of_its_own() -> None:
    seen = simulate(
        "structures",
        seed=2,
        shape_px=(1, 96, 96),
        microscope=Microscope(psf="srpsf:fwhm_um=0.12", attenuation_um=1e6),
    )
    assert seen.psf_mean.kind == "srpsf"
    blurred, truth = (np.asarray(s.data, np.float64) for s in (seen.blurred, seen.truth))
    assert blurred.std() < 0.8 * truth.std()


def test_a_texture_changes_the_brightness_of_areas_and_not_their_place() -> None:
    even, textured = _dye("areas"), _dye("areas", texture=0.8)
    ratio = textured[even > 0] / even[even > 0]
    assert 0.2 <= float(ratio.min()) < 0.8
    assert 1.2 < float(ratio.max()) <= 1.81
    assert abs(float(np.median(ratio)) - 1) < 0.05
    np.testing.assert_array_equal(textured, _dye("areas", texture=0.8))
