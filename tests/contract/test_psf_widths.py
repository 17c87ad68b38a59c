"""Solvers and methods with PSFs from far narrower than a voxel to wider than the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zenhance
from zenhance.contract import registry
from zenhance.contract.spec import VolumeStatistics
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import gaussian
from zenhance.solvers.data_consistency import data_consistency_step
from zenhance.solvers.deconvolved import deconvolved_steps
from zenhance.solvers.flux import keep_flux
from zenhance.solvers.richardson_lucy import RichardsonLucy
from zenhance.solvers.schedule import CameraModel
from zenhance.solvers.wiener import Wiener, best_noise_to_signal
from zenhance.steps import drain

SIGMAS_PX = (0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 8.0, 20.0)
SHAPES = {"2-D": (1, 40, 36), "3-D": (9, 28, 26)}
OFFSET = 100.0
VOXEL_UM = (0.3, 0.1, 0.1)
DECONVOLUTION = {
    "richardson_lucy": {},
    "fixed": {"stop": "fixed"},
    "total variation": {"tv_weight": 0.002},
    "plane by plane": {"dimensions": 2},
    "wiener": {"variant": "wiener"},
    "id3d": {"variant": "imagej"},
}


def _measured(shape: tuple[int, int, int]) -> np.ndarray:
    rng = np.random.default_rng(3)
    photons = np.full(shape, 4.0)
    photons[:, 10:20, 8:18] += 60.0
    return (OFFSET + 2.0 * rng.poisson(photons)).astype(np.float32)


def _psf(sigma_px: float):
    return gaussian(tuple(sigma_px * v for v in VOXEL_UM))


def _solve(name: str, y: torch.Tensor, sigma_px: float) -> float:
    """Run one solver and return the light that comes out over the light that goes in."""
    psf, shape = _psf(sigma_px), tuple(y.shape)
    blur = Blur.from_psf(psf, VOXEL_UM, shape)
    kernel = psf.kernel(VOXEL_UM, 2 if shape[0] == 1 else 3)
    camera = CameraModel(OFFSET, 2.0, OFFSET, 0.0)
    light = float((y - OFFSET).double().sum())
    if name == "wiener":
        ratio = best_noise_to_signal(y, kernel)
        return float((drain(Wiener(kernel, ratio).apply(y)) - OFFSET).double().sum()) / light
    if name == "richardson_lucy":
        problem = RichardsonLucy(blur, y, camera, 100.0, 0.002)
        image = problem.image(*drain(problem.measure(6)))
        return float((image - OFFSET).double().sum()) / light
    if name == "data consistency":
        image = data_consistency_step(y, y, blur, OFFSET, 0.1, 1.0)
        return float((image - OFFSET).double().sum()) / light
    if name == "flux":
        start = (y - OFFSET).clamp(min=0.1)
        return float(keep_flux(start, y - OFFSET, blur).double().sum()) / light
    statistics = VolumeStatistics(100.0, 250.0, 120.0, 30.0, 100.0, 240.0, OFFSET)
    estimates = drain(deconvolved_steps(y, blur, PoissonGauss(2.0, OFFSET), statistics, (3, 6)))
    return float(estimates[-1].double().sum()) / light


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("sigma_px", SIGMAS_PX)
@pytest.mark.parametrize(
    "name", ["wiener", "richardson_lucy", "data consistency", "flux", "deconvolved"]
)
def test_a_solver_keeps_the_light_and_never_writes_into_its_input(name, sigma_px, shape):
    y = torch.from_numpy(_measured(shape))
    before = y.clone()
    assert _solve(name, y, sigma_px) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(y, before)


def _with_psf() -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = []
    for name in registry.names():
        spec = registry.load(name).spec
        if spec.parameters().needs_psf and spec.learns == "no":
            found += [(name, settings) for settings in DECONVOLUTION.values()]
    return found


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("sigma_px", SIGMAS_PX[::3] + SIGMAS_PX[-1:])
@pytest.mark.parametrize(("name", "settings"), _with_psf())
def test_a_method_keeps_the_light_and_never_writes_into_its_input(name, settings, sigma_px, shape):
    y = _measured(shape)
    before = y.copy()
    sigma = ",".join(f"{sigma_px * v:.6g}" for v in VOXEL_UM)
    result = zenhance.enhance(
        y,
        axes="ZYX",
        method=name,
        settings=settings,
        arbitrate=False,
        voxel_size_um=VOXEL_UM,
        psf=f"sigma_um={sigma}",
        background=OFFSET,
        device="cpu",
    )
    image = np.asarray(result.stack.data, np.float64)
    assert np.isfinite(image).all()
    kept = image.sum() / np.asarray(y, np.float64).sum()
    assert abs(kept - 1.0) < 0.02 or any(
        f"changed the total intensity by {100 * (kept - 1):+.0f} %" in warning
        for warning in result.provenance.warnings
    )
    np.testing.assert_array_equal(y, before)
