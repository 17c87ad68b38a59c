"""Richardson-Lucy estimates that a network sees: fixed steps, the same in each tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from zenhance.contract.spec import VolumeStatistics
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import Psf, gaussian
from zenhance.solvers.deconvolved import (
    LARGEST_ALPHA,
    deconvolved_reach_px,
    deconvolved_steps,
    fixed_schedule,
)
from zenhance.solvers.richardson_lucy import RichardsonLucy
from zenhance.solvers.schedule import CameraModel
from zenhance.stack import Stack

VOXEL_UM = (0.5, 0.2, 0.2)
PSF = gaussian((0.5, 0.24, 0.24))
NOISE = PoissonGauss(2.0, 90.0, 3.0)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scene(
    shape: tuple[int, int, int] = (6, 64, 64), noisy: bool = True
) -> tuple[Tensor, Tensor, VolumeStatistics]:
    """Walls above a background of 100, what is measured of them, and its statistics."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=shape), (min(2, shape[0] - 1), 4, 4))
    light = np.where(np.abs(field) < 0.2 * field.std(), 800.0, 0.0).astype(np.float32)
    expected = Blur.from_psf(PSF, VOXEL_UM, shape)(torch.from_numpy(light)).numpy() + 100
    seen = NOISE.sample((expected - NOISE.offset) / NOISE.gain, 1) if noisy else expected
    stack = Stack.from_array(np.float32(seen), "ZYX", VOXEL_UM)
    statistics, _ = measure([VolumeReader(stack, 0, 0)])
    return (
        torch.from_numpy(light),
        torch.from_numpy(np.float32(seen)),
        replace(statistics, background=100.0),
    )


def estimates(
    measured: Tensor,
    statistics: VolumeStatistics,
    *iterations: int,
    psf: Psf = PSF,
    noise: PoissonGauss = NOISE,
) -> list[Tensor]:
    z, y, x = measured.shape
    blur = Blur.from_psf(psf, VOXEL_UM, (z, y, x))
    steps = deconvolved_steps(measured, blur, noise, statistics, iterations)
    fractions = []
    while True:
        try:
            fractions.append(next(steps))
        except StopIteration as end:
            assert fractions == pytest.approx(
                [(k + 1) / max(iterations) for k in range(max(iterations))]
            )
            found: list[Tensor] = end.value
            return found


def test_the_first_two_steps_are_plain_richardson_lucy() -> None:
    _, measured, statistics = scene()
    one, two = estimates(measured, statistics, 1, 2)
    camera = CameraModel(statistics.background, NOISE.gain, NOISE.offset, NOISE.read_noise)
    problem = RichardsonLucy(
        Blur.from_psf(PSF, VOXEL_UM, (6, 64, 64)),
        measured,
        camera,
        max(statistics.percentile_high, statistics.mean) - camera.background,
    )
    for found, iterations in ((one, 1), (two, 2)):
        steps = problem.measure(iterations, accelerate=False)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            torch.testing.assert_close(found, end.value[0], rtol=1e-5, atol=1e-3)


def test_steps_grow_up_to_a_largest_one_and_depend_on_nothing_else() -> None:
    alphas = fixed_schedule(60).alphas
    assert alphas[:2] == (0.0, 0.0)
    assert alphas[2] == pytest.approx(1 / 4)
    assert list(alphas) == sorted(alphas)
    assert max(alphas) == LARGEST_ALPHA < 1
    assert fixed_schedule(20).alphas == alphas[:20]


def test_more_iterations_come_closer_to_the_truth_where_there_is_no_noise() -> None:
    light, measured, statistics = scene(noisy=False)
    found = estimates(measured, statistics, 1, 4, 16, 64, noise=PoissonGauss(1.0, 100.0, 0.0))
    errors = [float((x - light).square().mean()) for x in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]
    assert all(float(x.min()) >= 0 for x in found)


def test_extrapolated_steps_are_worth_many_plain_ones() -> None:
    light, measured, statistics = scene(noisy=False)
    found = estimates(measured, statistics, 16, noise=PoissonGauss(1.0, 100.0, 0.0))[0]
    camera = CameraModel(statistics.background, 1.0, 100.0, 0.0)
    steps = RichardsonLucy(
        Blur.from_psf(PSF, VOXEL_UM, (6, 64, 64)), measured, camera, 500.0
    ).measure(32, accelerate=False)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        plain = float((end.value[0] - light).square().mean())
    assert float((found - light).square().mean()) < plain


def test_an_estimate_is_kept_as_it_was_while_the_next_ones_are_made() -> None:
    _, measured, statistics = scene()
    together, alone = (
        estimates(measured, statistics, 3, 8),
        [estimates(measured, statistics, n)[0] for n in (3, 8)],
    )
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize(
    ("psf", "iterations", "depth"),
    [
        (gaussian((0.5, 0.2, 0.2)), (4, 8), 3),
        (gaussian((0.5, 0.2, 0.2)), (30,), 1),
        (gaussian((0.5, 0.4, 0.3)), (10,), 1),
    ],
)
def test_a_tile_with_its_reach_agrees_with_the_whole(
    psf: Psf, iterations: tuple[int, ...], depth: int
) -> None:
    z, _, x = deconvolved_reach_px(psf, VOXEL_UM, iterations, depth)
    assert (z > 0) == (depth > 1)
    shape = (depth, 40, 2 * x + 40)
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=shape), (min(1, depth - 1), 3, 3))
    light = np.where(np.abs(field) < 0.25 * field.std(), 800.0, 0.0).astype(np.float32)
    expected = Blur.from_psf(psf, VOXEL_UM, shape)(torch.from_numpy(light)).numpy() + 100
    seen = torch.from_numpy(np.float32(NOISE.sample((expected - NOISE.offset) / NOISE.gain, 1)))
    statistics, _ = measure([VolumeReader(Stack.from_array(seen.numpy(), "ZYX", VOXEL_UM), 0, 0)])
    middle = shape[2] // 2
    whole = estimates(seen, statistics, *iterations, psf=psf)
    part = estimates(seen[..., middle - x :].contiguous(), statistics, *iterations, psf=psf)
    for a, b in zip(whole, part, strict=True):
        span = float(a.max() - a.min())
        assert float((a[..., middle:] - b[..., x:]).abs().max()) <= 1e-5 * span
    near = estimates(seen[..., middle - 2 :].contiguous(), statistics, *iterations, psf=psf)
    off = max(
        float((a[..., middle:] - b[..., 2:]).abs().max() / (a.max() - a.min()))
        for a, b in zip(whole, near, strict=True)
    )
    assert off > 1e-3, "without the context it would not"


def test_nothing_asked_for_reaches_nowhere_and_more_iterations_further() -> None:
    assert deconvolved_reach_px(PSF, VOXEL_UM, (), 6) == (0, 0, 0)
    few, many = (deconvolved_reach_px(PSF, VOXEL_UM, (n,), 6) for n in (5, 50))
    assert all(a < b for a, b in zip(few, many, strict=True))
    assert deconvolved_reach_px(PSF, VOXEL_UM, (5, 50), 6) == many
