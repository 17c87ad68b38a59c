"""Richardson-Lucy with a blur that widens with depth, on a stack that was imaged with one."""

import numpy as np
import pytest
import torch

from zenhance.physics.blur import Blur, BlurOperator
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity
from zenhance.physics.surface_blur import SurfaceBlur
from zenhance.solvers.richardson_lucy import RichardsonLucy
from zenhance.solvers.schedule import CameraModel
from zenhance.steps import drain

VOXEL = (1.0, 0.25, 0.25)
SHAPE = (40, 40, 40)


def _profile() -> MicroscopeProfile:
    def curve(*values: float) -> DepthCurve:
        depths = tuple(float(d) for d in np.linspace(0.0, 40.0, len(values)))
        return DepthCurve(
            depth_um=depths, values=values, low=values, high=values, origins=("user",) * len(values)
        )

    one = Quantity.given(1.0)
    return MicroscopeProfile(
        voxel_size_um=VOXEL,
        gain=one,
        offset=Quantity.given(100.0),
        read_noise=one,
        background=Quantity.given(100.0),
        attenuation_um=Quantity.given(50.0),
        bleached_per_plane=Quantity.given(0.0),
        brightness=curve(1.0),
        haze=curve(0.0),
        sigma_z_um=curve(0.8, 2.4),
        sigma_yx_um=curve(0.2, 0.7),
    )


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return 10.0 * float(np.log10(truth.max() ** 2 / ((image - truth) ** 2).mean()))


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, torch.Tensor, dict[str, BlurOperator]]:
    rng = np.random.default_rng(0)
    light = np.zeros(SHAPE, np.float32)
    for _ in range(160):
        z, y, x = (int(rng.integers(1, n - 6)) for n in SHAPE)
        axis = rng.integers(0, 2)
        light[z, y : y + (6 if axis else 1), x : x + (1 if axis else 6)] = rng.uniform(100, 300)
    profile = _profile()
    blurs: dict[str, BlurOperator] = {
        "by depth": SurfaceBlur.from_heights(profile, np.zeros(SHAPE[1:]), SHAPE[0], VOXEL)
    }
    for name, depth in (("shallow", 0.0), ("mean", 20.0), ("deep", 40.0)):
        blurs[name] = Blur.from_psf(profile.psf_at(depth), VOXEL, SHAPE)
    seen = blurs["by depth"](torch.from_numpy(light)).numpy()
    y = PoissonGauss(1.0, 100.0, 1.0).sample(np.clip(seen, 0.0, None), 1)
    return light, torch.from_numpy(y), blurs


def _deconvolved(blur: BlurOperator, y: torch.Tensor) -> np.ndarray:
    problem = RichardsonLucy(blur, y, CameraModel(100.0, 1.0, 100.0, 1.0), 100.0)
    x, schedule = drain(problem.measure(30))
    return problem.image(x, schedule).numpy() - 100.0


def test_it_beats_every_constant_blur(scene) -> None:
    light, y, blurs = scene
    gained = {name: _psnr(_deconvolved(blur, y), light) for name, blur in blurs.items()}
    best = max(v for name, v in gained.items() if name != "by depth")
    assert gained["by depth"] > best + 0.3
    assert gained["by depth"] > _psnr(y.numpy() - 100.0, light) + 1.0


def test_each_depth_is_as_sharp_as_with_its_own_blur(scene) -> None:
    light, y, blurs = scene
    by_depth = _deconvolved(blurs["by depth"], y)
    for name, planes in (("shallow", slice(1, 7)), ("deep", slice(33, 39))):
        own = _psnr(_deconvolved(blurs[name], y)[planes], light[planes])
        assert _psnr(by_depth[planes], light[planes]) > own - 0.3


def test_iterations_keep_the_light(scene) -> None:
    _, y, blurs = scene
    found = _deconvolved(blurs["by depth"], y)
    assert found.sum() == pytest.approx(float((y - 100.0).sum()), rel=0.01)
