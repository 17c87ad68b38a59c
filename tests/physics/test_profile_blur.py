"""The contract of every blur, for the one that widens with depth."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from zenhance.errors import MethodError, StackError
from zenhance.physics.blur import Blur
from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity
from zenhance.physics.profile_blur import DepthBlur
from zenhance.physics.psf import airy, gaussian
from zenhance.physics.surface_blur import STEP, SurfaceBlur

VOXEL = (1.0, 0.25, 0.25)
SHAPE = (24, 30, 26)


def _curve(values: tuple[float, ...]) -> DepthCurve:
    depths = tuple(float(d) for d in np.linspace(0.0, 20.0, len(values)))
    return DepthCurve(
        depth_um=depths, values=values, low=values, high=values, origins=("user",) * len(values)
    )


def _profile(z: tuple[float, ...], yx: tuple[float, ...]) -> MicroscopeProfile:
    one = Quantity.given(1.0)
    return MicroscopeProfile(
        voxel_size_um=VOXEL,
        gain=one,
        offset=one,
        read_noise=one,
        background=one,
        attenuation_um=one,
        bleached_per_plane=Quantity.given(0.0),
        brightness=_curve((1.0,)),
        haze=_curve((0.0,)),
        sigma_z_um=_curve(z),
        sigma_yx_um=_curve(yx),
    )


DEEP = _profile((0.8, 2.4), (0.25, 0.75))


def _heights(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape[1:]), indexing="ij")
    return 2.0 + ((y - shape[1] / 2) ** 2 + (x - shape[2] / 2) ** 2) * 0.04


def _below(
    profile: MicroscopeProfile,
    height: np.ndarray | None = None,
    planes: int = SHAPE[0],
    **fields: object,
) -> SurfaceBlur:
    return SurfaceBlur.from_heights(
        profile, _heights() if height is None else height, planes, VOXEL, **fields
    )


def _dome(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.clip(np.arange(shape[0])[:, None, None] - _heights(shape), 0.0, None)


def _random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).to(dtype)


OPERATORS = {
    "dome": lambda: _below(DEEP),
    "planes": lambda: _below(DEEP, np.zeros(SHAPE[1:])),
    "constant": lambda: _below(_profile((1.5,), (0.4,))),
    "narrowing": lambda: _below(_profile((2.0, 0.8), (0.3, 0.3))),
    "waist": lambda: _below(_profile((2.0, 0.8, 1.6), (0.5, 0.25, 0.5))),
    "airy": lambda: DepthBlur.from_psfs(
        [airy(0.8, 1.33, 520.0), airy(0.4, 1.33, 520.0)], [0.0, 20.0], _dome(), VOXEL
    ),
}


@pytest.fixture(scope="module", params=OPERATORS.values(), ids=OPERATORS.keys())
def blur(request: pytest.FixtureRequest) -> SurfaceBlur | DepthBlur:
    return request.param()


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_adjoint_of_a_blur_by_depth_is_exact(
    blur: SurfaceBlur | DepthBlur, lead: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    x, y = _random((*lead, *SHAPE), 1, dtype) - 0.5, _random((*lead, *SHAPE), 2, dtype) - 0.5
    forward = (blur(x).double() * y.double()).sum()
    backward = (x.double() * blur.adjoint(y).double()).sum()
    scale = float(x.double().norm() * y.double().norm())
    assert abs(float(forward - backward)) <= tolerance * scale


def test_a_blur_by_depth_keeps_every_photon(blur: SurfaceBlur | DepthBlur) -> None:
    x = _random(SHAPE, 3)
    assert float(blur(x).sum() / x.sum()) == pytest.approx(1.0, abs=1e-7)
    # In other words: the adjoint keeps constants, up to the edge.
    constant = torch.full(SHAPE, 7.0, dtype=torch.float64)
    torch.testing.assert_close(blur.adjoint(constant), constant, rtol=1e-6, atol=0.0)


def test_it_is_linear_in_the_light(blur: SurfaceBlur | DepthBlur) -> None:
    x, y = _random(SHAPE, 4), _random(SHAPE, 5)
    torch.testing.assert_close(
        blur(2.5 * x - 0.5 * y), 2.5 * blur(x) - 0.5 * blur(y), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("depth", [0.0, 4.0, 10.0, 20.0])
def test_a_point_has_the_width_of_its_depth(depth: float) -> None:
    shape = (41, 41, 41)
    # Widths double over 40 µm. The surface is as far above the point's plane as that is deep.
    profile = _profile((0.8, 1.2), (0.25, 0.375))
    blur = _below(profile, np.full(shape[1:], 20.0 - depth), 41)
    point = torch.zeros(shape, dtype=torch.float64)
    point[20, 20, 20] = 1.0
    seen = blur(point).numpy()
    offsets = np.arange(41.0) - 20.0
    for axis, (sigma, step) in enumerate(zip(profile.sigma_at_um(depth), VOXEL, strict=True)):
        others = tuple(a for a in range(3) if a != axis)
        variance = (seen.sum(axis=others) * offsets**2).sum() * step**2
        assert np.sqrt(variance) == pytest.approx(sigma, rel=STEP)


def test_light_spreads_by_the_depth_it_comes_from_not_where_it_lands() -> None:
    shape = (24, 31, 31)
    depth = np.zeros(shape)
    depth[12:] = 20.0
    psfs = [gaussian((0.8, 0.25, 0.25)), gaussian((2.4, 0.75, 0.75))]
    blur = DepthBlur.from_psfs(psfs, [0.0, 20.0], depth, VOXEL)
    for z, sigma in ((11, 0.8), (12, 2.4)):
        point = torch.zeros(shape, dtype=torch.float64)
        point[z, 15, 15] = 1.0
        expected = Blur.from_psf(gaussian((sigma, 0.3125 * sigma, 0.3125 * sigma)), VOXEL, shape)
        torch.testing.assert_close(blur(point), expected(point), rtol=1e-6, atol=1e-9)


def test_without_change_over_depth_it_is_the_constant_blur_to_the_last_voxel() -> None:
    x = _random(SHAPE, 6)
    constant = Blur.from_psf(gaussian((1.5, 0.4, 0.4)), VOXEL, SHAPE)
    torch.testing.assert_close(OPERATORS["constant"]()(x), constant(x), rtol=1e-7, atol=1e-9)


def test_it_agrees_with_a_loop_over_depths_by_scipy() -> None:
    x, depth = np.random.default_rng(8).random(SHAPE), _dome()
    psfs = [gaussian((1.0, 0.3, 0.3)), gaussian((2.0, 0.8, 0.8))]
    weight = np.clip(depth / 15.0, 0.0, 1.0)
    expected = sum(
        ndimage.gaussian_filter(
            x * w,
            [s / v for s, v in zip(p.sigma_um, VOXEL, strict=True)],
            radius=p.radius_px(VOXEL),
        )
        for p, w in zip(psfs, (1.0 - weight, weight), strict=True)
    )
    blur = DepthBlur.from_psfs(psfs, [0.0, 15.0], depth, VOXEL)
    # scipy's samples of a Gaussian and ours differ below a pixel or two
    assert blur(torch.from_numpy(x)).numpy() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "adjoint"])
def test_tiles_with_a_halo_equal_the_whole(backward: bool) -> None:
    shape = (24, 64, 40)
    height, x = _heights(shape), _random(shape, 9, torch.float32)
    whole = _below(DEEP, height)
    span = (float(height.min()), float(height.max()))
    expected = whole.adjoint(x) if backward else whole(x)
    reach = whole.radius_px[1]
    for start in (0, 16, 32, 48):
        low, high = max(0, start - reach), min(64, start + 16 + reach)
        part = _below(DEEP, height[low:high], reach_um=span)
        piece = x[:, low:high].contiguous()
        got = part.adjoint(piece) if backward else part(piece)
        torch.testing.assert_close(
            got[:, start - low : start - low + 16],
            expected[:, start : start + 16],
            rtol=0.0,
            atol=1e-5,
        )


def test_tiles_along_z_know_which_plane_they_begin_with() -> None:
    height, x = _heights(), _random(SHAPE, 9, torch.float32)
    whole = _below(DEEP, height)
    part = _below(DEEP, height, 14, first=10)
    # Far from the cut, a point spreads as in the whole.
    point = torch.zeros_like(x)
    point[22] = x[22]
    torch.testing.assert_close(part(point[10:])[2:], whole(point)[12:], rtol=0.0, atol=1e-5)


def test_it_follows_the_widths_of_a_loop_over_points() -> None:
    # Widths double over 20 µm, and the surface rises by 6 µm.
    profile, height, wanted = _profile((0.8, 1.6), (0.25, 0.5)), 0.4 * _heights(), np.zeros(SHAPE)
    rng = np.random.default_rng(3)
    light = np.zeros(SHAPE)
    for z, y, x in zip(*(rng.integers(4, n - 4, 40) for n in SHAPE), strict=True):
        light[z, y, x] += 1.0
        alone = torch.zeros(SHAPE, dtype=torch.float64)
        alone[z, y, x] = 1.0
        psf = gaussian(profile.sigma_at_um(max(z * VOXEL[0] - height[y, x], 0.0)))
        wanted += Blur.from_psf(psf, VOXEL, SHAPE)(alone).numpy()
    found = _below(profile, height)(torch.from_numpy(light)).numpy()
    assert np.abs(found - wanted).max() < 0.1 * wanted.max()
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


def test_gradients_flow_through_a_blur_by_depth() -> None:
    blur = OPERATORS["dome"]()
    x = _random(SHAPE, 10).requires_grad_()
    weight = _random(SHAPE, 11)
    (blur(x) * weight).sum().backward()
    torch.testing.assert_close(x.grad, blur.adjoint(weight))


def test_the_result_can_be_written_into_a_given_tensor() -> None:
    blur, x = OPERATORS["dome"](), _random(SHAPE, 12)
    out = torch.full(SHAPE, 9.0, dtype=torch.float64)
    assert blur(x, out=out) is out
    torch.testing.assert_close(out, blur(x))
    with pytest.raises(StackError, match="out is the image itself"):
        blur(x, out=x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_graphics_card_gives_the_same_blur_by_depth() -> None:
    x = _random(SHAPE, 13, torch.float32)
    there = _below(DEEP, device="cuda")
    torch.testing.assert_close(there(x.cuda()).cpu(), OPERATORS["dome"]()(x), rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(StackError, match="made for volumes of"):
        OPERATORS["dome"]()(torch.zeros(5, 5, 5))
    psfs = [gaussian((1.0, 0.3, 0.3)), gaussian((2.0, 0.8, 0.8))]
    with pytest.raises(StackError, match="do not fit a volume"):
        DepthBlur.from_psfs(psfs, [0.0, 5.0], np.zeros(7), VOXEL, shape_px=SHAPE)
    with pytest.raises(StackError, match="depth is not finite"):
        DepthBlur.from_psfs(psfs, [0.0, 5.0], np.full(SHAPE, np.nan), VOXEL)
    with pytest.raises(StackError, match="give a finite one"):
        _below(DEEP, np.full(SHAPE[1:], np.nan))
    with pytest.raises(MethodError, match="ascending depths"):
        DepthBlur.from_psfs([gaussian((1.0, 1.0, 1.0))], [0.0, 5.0], _dome(), VOXEL)
