"""One damped step towards the measurement: nearer to it, no further, and the same in every tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from zenhance.physics.blur import Blur
from zenhance.physics.psf import gaussian
from zenhance.solvers.data_consistency import data_consistency_step

VOXEL_UM = (0.5, 0.2, 0.2)
PSF = gaussian((0.5, 0.25, 0.25))
LEAST = 0.05


def scene() -> tuple[Tensor, Tensor, Blur]:
    """Walls above a shift of 90, and what is measured of them without noise."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=(8, 48, 56)), (2, 4, 4))
    truth = torch.from_numpy(
        np.where(np.abs(field) < 0.2 * field.std(), 200.0, 5.0).astype(np.float32)
    )
    blur = Blur.from_psf(PSF, VOXEL_UM, (8, 48, 56))
    return truth + 90, blur(truth) + 90, blur


def misfit(estimate: Tensor, measured: Tensor, blur: Blur) -> float:
    return float((blur(estimate - 90) + 90 - measured).square().mean())


def test_the_step_brings_a_wrong_estimate_nearer_the_further_it_goes() -> None:
    truth, measured, blur = scene()
    wrong = (truth - 90) * 0.7 + 90
    wrong[:, 10:20, 10:20] += 40
    fits = [
        misfit(data_consistency_step(wrong.clone(), measured, blur, 90.0, LEAST, s), measured, blur)
        for s in (0.0, 0.3, 0.6, 1.0)
    ]
    assert fits[0] == pytest.approx(misfit(wrong, measured, blur), rel=1e-4)
    assert fits[0] > 1.5 * fits[1] > 2 * fits[2]
    assert fits[3] < 0.3 * fits[0]


def test_an_estimate_that_agrees_already_stays() -> None:
    truth, measured, blur = scene()
    assert (
        float(
            (data_consistency_step(truth.clone(), measured, blur, 90.0, LEAST, 1.0) - truth)
            .abs()
            .max()
        )
        < 1e-2
    )


def test_what_was_left_out_begins_to_come_back_and_nothing_falls_below_the_shift() -> None:
    truth, measured, blur = scene()
    without = truth.clone()
    without[4, 20:28, 20:28] = 0.0
    made = data_consistency_step(without, measured, blur, 90.0, LEAST, 1.0)
    assert float(made[4, 20:28, 20:28].mean()) > 90 + LEAST
    assert float(made.min()) >= 90


def test_inputs_are_left_as_they_are() -> None:
    truth, measured, blur = scene()
    estimate, before = truth.clone(), measured.clone()
    data_consistency_step(estimate, measured, blur, 90.0, LEAST, 0.5)
    assert torch.equal(estimate, truth)
    assert torch.equal(measured, before)


def test_a_part_is_treated_as_in_the_whole() -> None:
    truth, measured, blur = scene()
    estimate = truth * 0.8 + 20
    whole = data_consistency_step(estimate, measured, blur, 90.0, LEAST, 0.75)
    halo = 2 * PSF.radius_px(VOXEL_UM)[2]
    cut = 56 - 16
    part = data_consistency_step(
        estimate[:, :, cut - halo :].contiguous(),
        measured[:, :, cut - halo :].contiguous(),
        blur,
        90.0,
        LEAST,
        0.75,
    )
    assert cut - halo > 0
    assert float((part[:, :, halo:] - whole[:, :, cut:]).abs().max()) <= 1e-5 * float(
        whole.max() - whole.min()
    )


def test_with_a_known_background_dark_stays_dark_and_what_agrees_stays() -> None:
    truth, measured, blur = scene()
    background = float(truth.min())
    dark = torch.full_like(truth, background)
    kept = data_consistency_step(dark, measured, blur, background - 10.0, LEAST, 1.0, background)
    assert float((kept - background).abs().max()) == 0
    exact = blur(truth - background) + background
    same = data_consistency_step(
        truth.clone(), exact, blur, background - 10.0, LEAST, 1.0, background
    )
    assert float((same - truth).abs().max()) < 1e-2


def test_with_a_known_background_steps_bring_the_fit_closer() -> None:
    truth, measured, blur = scene()
    background = float(truth.min())
    estimate = (truth - background) * 0.6 + background
    fits = [misfit(estimate, measured, blur)]
    for _ in range(3):
        estimate = data_consistency_step(
            estimate, measured, blur, background - 10.0, LEAST, 1.0, background
        )
        fits.append(misfit(estimate, measured, blur))
    assert fits == sorted(fits, reverse=True)
    assert fits[-1] < 0.5 * fits[0]
