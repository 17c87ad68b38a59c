"""Richardson-Lucy against other implementations, what it conserves, what its schedule promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.restoration import richardson_lucy as skimage_richardson_lucy

from zenhance.methods.deconvolution.volume import probe_regions
from zenhance.physics.blur import Blur
from zenhance.physics.psf_base import gaussian_kernel_1d
from zenhance.solvers.receptive_field import iteration_reach_px
from zenhance.solvers.richardson_lucy import RichardsonLucy
from zenhance.solvers.schedule import CameraModel, DiscrepancyRule, Fit, Schedule
from zenhance.solvers.total_variation import variation_factor_


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def _gaussian(sigma):
    if sigma == 0:
        return np.ones(1, np.float32)
    index = np.arange(-int(4 * sigma + 1), int(4 * sigma + 1) + 1)
    return np.exp(-(index**2) / (2 * sigma**2)).astype(np.float32)


def _blur(*sigmas):
    return Blur.from_axis_kernels(*(_gaussian(s) for s in sigmas))


def _specimen(shape=(12, 40, 44), seed=0):
    """Bright blocks and thin sheets on black, away from the border."""
    rng = np.random.default_rng(seed)
    x = np.zeros(shape, np.float32)
    for _ in range(12):
        z, y, w = (int(rng.integers(n // 5, 4 * n // 5)) for n in shape)
        x[max(z - 1, 0) : z + 2, y : y + 3, w : w + 6] += rng.uniform(0.3, 1.0)
    return x


def _image(peak=100.0, background=5.0, seed=1, sigmas=(1.5, 1.5, 1.5)):
    truth = _specimen() * peak
    blur = _blur(*sigmas)
    mean = blur(torch.from_numpy(truth)).numpy() + background
    return (
        truth,
        torch.from_numpy(np.random.default_rng(seed).poisson(mean).astype(np.float32)),
        blur,
    )


def _psnr(a, truth):
    return 10 * np.log10(np.ptp(truth) ** 2 / np.mean((a - truth) ** 2))


def test_it_agrees_with_scikit_image_away_from_the_borders():
    truth = np.zeros((24, 64, 64), np.float32)
    truth[6:18, 20:44, 20:44] = _specimen((12, 24, 24))
    truth += 0.05
    sigmas = (1.0, 1.2, 1.2)
    kernel = np.einsum("i,j,k->ijk", *(_gaussian(s) / _gaussian(s).sum() for s in sigmas))
    y = _blur(*sigmas)(torch.from_numpy(truth)).clone()
    reference = skimage_richardson_lucy(y.numpy(), kernel, num_iter=10, clip=False)
    start = torch.full_like(y, 0.5)
    problem = RichardsonLucy(_blur(*sigmas), y, CameraModel(0.0), 1.0)
    mine, _ = _finish(problem.measure(10, accelerate=False, start=start))
    inside = (slice(10, 14), slice(26, 38), slice(26, 38))
    assert np.abs(mine.numpy() - reference)[inside].max() < 1e-3 * np.ptp(reference)


def test_it_agrees_with_redlionfish_once_its_offset_of_one_voxel_is_allowed_for():
    """RedLionfish 0.10, at even sizes, blurs one voxel off centre but mirrors the PSF correctly."""
    deconvolution = pytest.importorskip("RedLionfishDeconv.RLDeconv3DScipy")
    truth = np.zeros((40, 70, 70), np.float32)
    truth[14:26, 20:44, 20:44] = _specimen((12, 24, 24))
    truth += 0.05
    sigmas = (1.0, 1.2, 1.2)
    kernel = np.einsum("i,j,k->ijk", *(_gaussian(s) / _gaussian(s).sum() for s in sigmas))
    blur = _blur(*sigmas)

    class OffCentre:
        def __call__(self, x, out=None):
            return torch.roll(blur(x), (-1, -1, -1), (0, 1, 2))

        def adjoint(self, y, out=None):
            return blur.adjoint(y, out=out)

    y = blur(torch.from_numpy(truth))
    reference = deconvolution.doRLDeconvolution12(y.numpy(), kernel, niter=3)
    mine, _ = _finish(
        RichardsonLucy(OffCentre(), y, CameraModel(0.0), 1.0).measure(3, accelerate=False, start=y)
    )
    inside = (slice(15, 25), slice(22, 42), slice(22, 42))
    assert np.abs(mine.numpy() - reference)[inside].max() < 1e-3 * np.ptp(reference)


def test_one_step_is_lucys_equation():
    y = torch.rand((3, 6, 7), generator=torch.Generator().manual_seed(0)) * 9 + 1
    start = torch.rand((3, 6, 7), generator=torch.Generator().manual_seed(1)) + 0.1
    blur = _blur(0.5, 0.8, 0.8)
    mine, _ = _finish(RichardsonLucy(blur, y, CameraModel(0.5), 1.0).measure(1, start=start))
    assert torch.allclose(mine, start * blur.adjoint(y / (blur(start) + 0.5)), rtol=1e-5)


def test_the_data_are_shifted_so_that_their_variance_is_gain_times_mean():
    camera = CameraModel(background=110.0, gain=2.0, offset=100.0, read_noise=4.0)
    assert camera.shift == 92.0
    assert camera.pedestal == 18.0
    mean = 150.0
    assert (
        camera.gain * (mean - camera.shift)
        == camera.gain * (mean - camera.offset) + camera.read_noise**2
    )
    assert CameraModel(background=50.0, offset=100.0).pedestal == 0.0


@pytest.mark.parametrize("tv_weight", [0.0, 0.01])
@pytest.mark.parametrize("background", [0.0, 5.0])
def test_the_flux_of_the_image_is_kept(background, tv_weight):
    _, y, blur = _image(peak=20.0, background=background)
    problem = RichardsonLucy(blur, y, CameraModel(background), 20.0, tv_weight)
    x, schedule = _finish(problem.measure(12))
    result = problem.image(x, schedule).double()
    light = float((y - background).sum())
    assert abs(float(result.sum() - y.sum())) < 1e-3 * light


def test_without_background_each_iteration_keeps_the_sum():
    _, y, blur = _image(background=0.0)
    x, _ = _finish(RichardsonLucy(blur, y, CameraModel(0.0), 100.0).measure(9, accelerate=True))
    assert float(x.sum(dtype=torch.float64)) == pytest.approx(
        float(y.sum(dtype=torch.float64)), rel=1e-5
    )


@pytest.mark.parametrize("background", [0.0, 20.0, 100.0])
def test_a_constant_image_stays_constant_to_the_last_voxel(background):
    y = torch.full((7, 21, 30), 100.0)
    problem = RichardsonLucy(
        _blur(2.0, 1.5, 1.5), y, CameraModel(background), 100.0 - background, 0.01
    )
    x, schedule = _finish(problem.measure(30))
    assert float((problem.image(x, schedule) - 100.0).abs().max()) < 1e-2


def test_the_estimate_is_never_negative():
    _, y, blur = _image(peak=5.0, background=2.0)
    x, _ = _finish(RichardsonLucy(blur, y - 1.0, CameraModel(3.0), 5.0).measure(20))
    assert float(x.min()) >= 0.0


def test_a_black_image_stays_black():
    y = torch.zeros((1, 9, 9))
    problem = RichardsonLucy(_blur(0, 1.0, 1.0), y, CameraModel(0.0), 0.0)
    assert (
        float(problem.image(*_finish(problem.measure(10, rule=DiscrepancyRule()))).abs().max())
        < 1e-12
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (2, 3, 5), (9, 1, 2), (4, 4, 4)])
def test_images_smaller_than_the_psf_are_solved(shape):
    y = torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 50 + 3
    problem = RichardsonLucy(_blur(2.0, 2.0, 2.0), y, CameraModel(1.0), 50.0, 0.01)
    image = problem.image(*_finish(problem.measure(8, rule=DiscrepancyRule())))
    assert image.shape == shape
    assert bool(torch.isfinite(image).all())


def test_acceleration_reaches_the_same_chi_squared_in_fewer_iterations():
    _, y, blur = _image(sigmas=(2.0, 2.0, 2.0))
    problem = RichardsonLucy(blur, y, CameraModel(5.0), 100.0)
    endless = {"patience": 999, "tolerance": -1.0}
    slow = _finish(problem.measure(60, accelerate=False, rule=DiscrepancyRule(**endless)))[1].chi2
    fast = _finish(problem.measure(60, accelerate=True, rule=DiscrepancyRule(**endless)))[1].chi2
    target = slow[-1]
    assert next(k for k, value in enumerate(fast) if value <= target) <= 60 / 2.5


def test_acceleration_factors_are_biggs_and_andrews_inner_products():
    _, y, blur = _image()
    camera = CameraModel(5.0)
    _, schedule = _finish(RichardsonLucy(blur, y, camera, 100.0).measure(6))

    def step(p):
        return p * blur.adjoint(y / (blur(p) + 5.0))

    x = previous = RichardsonLucy(blur, y, camera, 100.0).start()
    last, alpha, alphas = None, 0.0, []
    for _ in range(6):
        p = (x + alpha * (x - previous)).clamp(min=0)
        alphas.append(alpha)
        previous, x = x, step(p)
        g = (x - p).double()
        alpha = 0.0 if last is None else float(((g * last).sum() / (last * last).sum()).clamp(0, 1))
        last = g
    assert schedule.alphas == pytest.approx(alphas, abs=2e-4)
    assert max(alphas) > 0.3


@pytest.mark.parametrize(("sigma", "peak"), [(1.0, 15.0), (1.5, 60.0), (2.0, 300.0)])
def test_the_stop_rule_comes_close_to_the_best_iteration(sigma, peak):
    truth, y, blur = _image(peak=peak, background=3.0, sigmas=(sigma,) * 3)
    problem = RichardsonLucy(blur, y, CameraModel(3.0), peak)
    x, _ = _finish(problem.measure(100, rule=DiscrepancyRule()))
    reached = _psnr(x.numpy(), truth)
    best = max(
        _psnr(_finish(problem.measure(n))[0].numpy(), truth)
        for n in (2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 50, 70, 100)
    )
    assert reached > _psnr(y.numpy() - 3.0, truth) + 1.0
    assert reached > best - 0.5


def test_the_stop_rule_does_not_depend_on_the_gain():
    _, y, blur = _image(peak=60.0)
    counts = [
        _finish(
            RichardsonLucy(blur, y, CameraModel(5.0, gain=g), 60.0).measure(
                60, rule=DiscrepancyRule()
            )
        )[1].iterations
        for g in (0.9, 1, 1.1)
    ]
    assert max(counts) - min(counts) <= 1


def test_the_stop_rules_curve_falls_until_it_stops():
    _, y, blur = _image(peak=60.0)
    rule = DiscrepancyRule()
    _, schedule = _finish(RichardsonLucy(blur, y, CameraModel(5.0), 60.0).measure(100, rule=rule))
    assert 3 < schedule.iterations < 100
    assert len(schedule.chi2) == schedule.iterations + rule.patience + 1
    scores = [rule.score(k) for k in range(schedule.iterations + 1)]
    assert all(later < earlier for earlier, later in itertools.pairwise(scores))
    assert all(
        later < earlier
        for earlier, later in itertools.pairwise(schedule.chi2[: schedule.iterations])
    )
    assert 0.0 < schedule.freedom[schedule.iterations] < 0.3


def test_the_kept_estimate_is_the_one_its_schedule_replays():
    _, y, blur = _image(peak=60.0)
    problem = RichardsonLucy(blur, y, CameraModel(5.0), 60.0, 0.002)
    x, schedule = _finish(problem.measure(100, rule=DiscrepancyRule()))
    assert torch.equal(x, _finish(problem.replay(schedule)))


def test_a_rule_that_never_improves_stops_after_its_patience():
    rule = DiscrepancyRule(patience=2)
    assert [rule.reached(Fit(chi2, 0.1)) for chi2 in (1.0, 1.1, 1.2)] == [False, False, True]
    assert rule.best == 0
    flat = DiscrepancyRule(patience=2, tolerance=1e-3)
    assert [flat.reached(Fit(chi2, 0.0)) for chi2 in (1.0, 0.9, 0.8, 0.7999)] == [
        False,
        False,
        False,
        True,
    ]


def test_the_freedom_of_a_fit_that_is_the_data_is_one():
    rule = DiscrepancyRule()
    rule.reached(Fit(0.0, 1.0))
    assert rule.score(0) == float("inf")


@pytest.mark.parametrize(
    ("sigma", "count", "accelerate", "tv_weight"),
    [(1.0, 20, True, 0.0), (2.0, 12, True, 0.01), (1.5, 25, False, 0.0)],
)
def test_a_tile_with_its_halo_agrees_with_the_whole(sigma, count, accelerate, tv_weight):
    rng = np.random.default_rng(5)
    wide = 64 + 2 * iteration_reach_px((0, 0, int(4 * sigma + 1)), count, accelerate)[2]
    truth = (rng.uniform(size=(1, 48, wide)) > 0.96).astype(np.float32) * 200
    blur = _blur(0, sigma, sigma)
    y = torch.from_numpy(rng.poisson(blur(torch.from_numpy(truth)).numpy() + 2).astype(np.float32))
    settings = (CameraModel(2.0), 50.0, tv_weight, (0.0, 1.0, 1.0))
    whole, schedule = _finish(
        RichardsonLucy(blur, y, *settings).measure(count, accelerate=accelerate)
    )
    middle, halo = wide // 2, iteration_reach_px(blur.radius_px, count, accelerate)[2]
    tile = _finish(RichardsonLucy(blur, y[..., : middle + halo], *settings).replay(schedule))
    assert float((tile[..., :middle] - whole[..., :middle]).abs().max()) <= 1e-5 * float(
        whole.max() - whole.min()
    )
    short = _finish(RichardsonLucy(blur, y[..., : middle + 1], *settings).replay(schedule))
    assert float((short[..., :middle] - whole[..., :middle]).abs().max()) > 1e-3 * float(
        whole.max() - whole.min()
    )


def test_a_replay_without_iterations_is_the_start():
    _, y, blur = _image()
    problem = RichardsonLucy(blur, y, CameraModel(5.0), 100.0)
    assert torch.equal(_finish(problem.replay(Schedule(()))), problem.start())


def test_total_variation_divides_by_one_minus_the_weighted_divergence():
    x = torch.tensor([[[0.0, 0.0, 4.0, 4.0, 1.0]]])
    update = torch.ones_like(x)
    variation_factor_(update, x, 0.1, 1e-12, (1.0, 1.0, 1.0))
    # The normalised differences are 0, +1, 0, -1; their divergence is 0, 1, -1, -1, 1.
    expected = 1.0 / (1.0 - 0.1 * torch.tensor([[[0.0, 1.0, -1.0, -1.0, 1.0]]]))
    assert torch.allclose(update, expected)


def test_total_variation_leaves_out_an_axis_of_weight_zero():
    x = torch.rand((4, 5, 6), generator=torch.Generator().manual_seed(3))
    together = variation_factor_(torch.ones_like(x), x, 0.05, 0.01, (0.0, 1.0, 1.0))
    for z in range(4):
        alone = variation_factor_(
            torch.ones_like(x[z : z + 1]), x[z : z + 1], 0.05, 0.01, (0.0, 1.0, 1.0)
        )
        assert torch.equal(together[z : z + 1], alone)


def test_total_variation_makes_a_noisy_plateau_flatter():
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.poisson(30.0, (1, 48, 48)).astype(np.float32))
    blur = _blur(0, 1.0, 1.0)
    rough, _ = _finish(
        RichardsonLucy(blur, y, CameraModel(0.0), 30.0, 0.0, (0.0, 1.0, 1.0)).measure(30)
    )
    calm, _ = _finish(
        RichardsonLucy(blur, y, CameraModel(0.0), 30.0, 0.02, (0.0, 1.0, 1.0)).measure(30)
    )
    assert float(calm.std()) < 0.5 * float(rough.std())


def test_correlated_noise_takes_up_more_freedom_and_stops_the_iteration_earlier():
    rng = np.random.default_rng(4)
    light = ndimage.gaussian_filter((rng.random((1, 96, 96)) < 0.005) * 4e3, (0, 1.5, 1.5))
    filtered = ndimage.gaussian_filter(rng.normal(0.0, 1.0, light.shape), (0, 0.7, 0.7))
    filtered *= 40.0 / filtered.std()
    data = torch.from_numpy((light + filtered + 100.0).astype(np.float32))
    blur = Blur.from_axis_kernels([1.0], *(gaussian_kernel_1d(1.5) for _ in range(2)))
    iterations, share = {}, []
    for told in (0.0, 0.7):
        # Differences of neighbours show a fourth of the noise.
        camera = CameraModel(100.0, 0.1, 100.0, 10.0)
        problem = RichardsonLucy(blur, data, camera, 250.0, noise_px=told)
        _, schedule = _finish(problem.measure(60, rule=DiscrepancyRule()))
        iterations[told] = schedule.iterations
        share.append(schedule.freedom[0])
    assert iterations[0.7] < iterations[0.0]
    assert share[1] > 1.2 * share[0]


def test_a_hot_voxel_does_not_keep_the_solver_going():
    _, y, blur = _image(peak=60.0)
    plain = _finish(
        RichardsonLucy(blur, y, CameraModel(5.0), 60.0).measure(60, rule=DiscrepancyRule())
    )[1].iterations
    hot = y.clone()
    hot[2, 3, 3] = 65535.0
    spoilt = _finish(
        RichardsonLucy(blur, hot, CameraModel(5.0), 60.0).measure(60, rule=DiscrepancyRule())
    )[1].iterations
    assert abs(plain - spoilt) <= 4


def test_a_small_volume_is_probed_as_a_whole():
    whole = _finish(
        probe_regions((4, 50, 60), lambda region: np.zeros((1, 1, 1), np.float32), 12_000)
    )
    assert whole == ((slice(0, 4), slice(0, 50), slice(0, 60)),)


@pytest.mark.parametrize("limit", [4_000_000, 500_000, 30_000])
@pytest.mark.parametrize("shape", [(50, 1000, 900), (300, 400, 500), (1, 3000, 2000)])
def test_a_large_volume_is_probed_in_four_blocks_of_one_shape(shape, limit):
    def read(region):
        return np.full((2, 2, 2), region[1].start * 1000 + region[2].start, np.float32)

    regions = _finish(probe_regions(shape, read, limit))
    sizes = {tuple(s.stop - s.start for s in region) for region in regions}
    assert len(regions) == 4
    assert len(sizes) == 1
    assert 0.9 * limit < 4 * np.prod(sizes.pop()) <= limit
    assert all(
        0 <= s.start < s.stop <= n for region in regions for s, n in zip(region, shape, strict=True)
    )
    assert regions == _finish(probe_regions(shape, read, limit))


def _blurred_walls(shape, photons):
    """Walls of equal brightness on a dim background, seen through the blur of `_BLUR`."""
    z, y, x = np.indices(shape)
    walls = (((y + z) % 17 < 3) | ((x - z) % 19 < 2)).astype(np.float32)
    specimen = photons * (walls + 0.02)
    sigma = (1.2 if shape[0] > 1 else 0.0, 1.2, 1.2)
    axes = []
    for width in sigma:
        index = np.arange(-5, 6)
        axes.append(np.exp(-0.5 * (index / width) ** 2) if width else np.ones(1))
    blur = Blur.from_axis_kernels(*axes)
    return specimen, blur(torch.from_numpy(specimen)).numpy(), blur


def test_gaussian_noise_is_recognised_from_the_residuals():
    _, blurred, blur = _blurred_walls((1, 96, 96), 100.0)
    rng = np.random.default_rng(3)
    scores = {}
    for name in ("gaussian", "poisson"):
        noisy = rng.poisson(blurred) if name == "poisson" else rng.normal(blurred, 3.0)
        # The gain is that of photon noise in both: wrong for the Gaussian one.
        camera = CameraModel(0.0, 1.0, 0.0, 3.0)
        y = torch.from_numpy(noisy.astype(np.float32))
        rule = DiscrepancyRule()
        problem = RichardsonLucy(blur, y, camera, 100.0)
        x, schedule = _finish(problem.measure(100, rule=rule))
        scores[name] = (rule.is_even, schedule.iterations)
        again = _finish(problem.replay(schedule))
        assert torch.equal(x, again)
    assert scores["gaussian"][0]
    assert not scores["poisson"][0]
    assert scores["gaussian"][1] > scores["poisson"][1]


def test_the_rule_goes_back_to_an_estimate_that_it_had_passed():
    rule = DiscrepancyRule(patience=2)
    even = [3.0, 1.0, 2.0, 2.5, 2.6]
    chi2 = [3.0, 2.0, 1.0, 1.5, 1.6]
    stops = [
        rule.reached(Fit(a, 0.1, b, contrast=1.0, predicted_contrast=4.0))
        for a, b in zip(chi2, even, strict=True)
    ]
    assert stops == [False, False, False, False, True]
    assert (rule.is_even, rule.best) == (True, 1)
