"""Wiener: against the normal equations solved densely, and what it conserves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zenhance.physics.blur import Blur
from zenhance.solvers.receptive_field import filter_reach_px
from zenhance.solvers.wiener import Wiener, best_noise_to_signal


def _finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def _kernel(*sigmas):
    axes = []
    for sigma in sigmas:
        index = np.arange(-int(4 * sigma + 0.99), int(4 * sigma + 0.99) + 1)
        axes.append(np.exp(-(index**2) / (2 * sigma**2)) if sigma else np.ones(1))
    kernel = np.einsum("i,j,k->ijk", *axes)
    return (kernel / kernel.sum()).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 12, 15), (5, 7, 8)])
def test_it_solves_the_regularised_normal_equations_of_the_blur(shape):
    kernel = _kernel(0.7 if shape[0] > 1 else 0, 1.0, 1.3)
    blur = Blur.from_kernel(kernel)
    voxels = int(np.prod(shape))
    basis = torch.eye(voxels, dtype=torch.float64).reshape(voxels, *shape)
    matrix = blur(basis).reshape(voxels, voxels).T
    y = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    epsilon = 0.02
    right = (1 + epsilon) * matrix.T @ y.double().flatten()
    expected = torch.linalg.solve(matrix.T @ matrix + epsilon * torch.eye(voxels), right).reshape(
        shape
    )
    result = _finish(Wiener(kernel, epsilon).apply(y))
    assert float((result - expected).abs().max()) < 1e-4


def test_mean_and_constants_are_kept():
    y = torch.rand((6, 20, 17), generator=torch.Generator().manual_seed(1)) * 100
    wiener = Wiener(_kernel(1.5, 1.0, 1.0), 1e-3)
    assert float(_finish(wiener.apply(y)).mean()) == pytest.approx(float(y.mean()), rel=1e-5)
    flat = torch.full((6, 20, 17), 100.0)
    assert float((_finish(wiener.apply(flat)) - 100.0).abs().max()) < 1e-2


def test_an_axis_the_kernel_does_not_touch_is_left_alone():
    y = torch.rand((4, 16, 16), generator=torch.Generator().manual_seed(2))
    wiener = Wiener(_kernel(0, 1.0, 1.0), 0.01)
    together = _finish(wiener.apply(y))
    for z in range(4):
        assert torch.allclose(together[z : z + 1], _finish(wiener.apply(y[z : z + 1])), atol=1e-5)


@pytest.mark.parametrize("photons", [10.0, 100.0, 1000.0])
def test_the_chosen_noise_to_signal_is_near_the_best_prediction(photons):
    rng = np.random.default_rng(3)
    truth = np.zeros((1, 64, 64), np.float32)
    truth[0, rng.integers(8, 56, 40), rng.integers(8, 56, 40)] = 8 * photons
    kernel = _kernel(0, 1.5, 1.5)
    blur = Blur.from_kernel(kernel)
    mean = blur(torch.from_numpy(truth)) + photons
    y = torch.from_numpy(rng.poisson(mean.numpy()).astype(np.float32))

    def miss(epsilon):
        return float((blur(_finish(Wiener(kernel, epsilon).apply(y))) - mean).square().mean())

    chosen = best_noise_to_signal(y, kernel)
    assert miss(chosen) < 1.15 * min(miss(e) for e in np.logspace(-5, 1, 31))


def test_beyond_its_reach_the_filter_sees_nothing():
    kernel = _kernel(0, 1.5, 1.5)
    wiener = Wiener(kernel, 3e-3)
    reach = filter_reach_px(kernel, 3e-3)
    assert reach[0] == 0
    y = torch.rand((1, 20, 3 * reach[2]), generator=torch.Generator().manual_seed(4)) * 100
    whole = _finish(wiener.apply(y))
    tile = _finish(wiener.apply(y[..., : 2 * reach[2]]))
    assert float((tile - whole[..., : 2 * reach[2]])[..., : reach[2]].abs().max()) < 1e-5 * float(
        whole.max() - whole.min()
    )
    assert float((tile - whole[..., : 2 * reach[2]])[..., -2:].abs().max()) > 1e-3 * float(
        whole.max() - whole.min()
    )
