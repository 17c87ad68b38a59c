"""gaussian_deconvolution: quality, conservation, tiles, and the page that documents it."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from zenhance.contract import registry
from zenhance.contract.spec import WHOLE_VOXELS, MethodContext, VolumeStatistics
from zenhance.errors import MethodError, RunCancelled
from zenhance.methods import deconvolution as module
from zenhance.methods.deconvolution import METHOD, GaussianDeconvolutionParameters
from zenhance.physics.blur import Blur
from zenhance.physics.psf import gaussian
from zenhance.tiling.geometry import plan_tiles
from zenhance.tiling.run import run_tiles

FEW = 20_000
whole_voxels = WHOLE_VOXELS
VOXEL_UM = (0.25, 0.125, 0.125)
PSF = gaussian((0.3, 0.15, 0.15))
VARIANTS = {
    "richardson_lucy": {},
    "richardson_lucy 2-D": {"dimensions": 2},
    "richardson_lucy with total variation": {"tv_weight": 0.002},
    "richardson_lucy plain": {"acceleration": False, "stop": "fixed"},
    "wiener": {"variant": "wiener"},
    "wiener 2-D": {"variant": "wiener", "dimensions": 2},
    "id3d": {"variant": "imagej"},
    "rl10": {"variant": "imagej", "imagej_form": "rl10"},
    "wpl5": {"variant": "imagej", "imagej_form": "wpl5"},
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def large(monkeypatch):
    """Let any volume above 20 000 voxels count as too large to be solved at once."""
    monkeypatch.setattr(module, "WHOLE_VOXELS", FEW)
    monkeypatch.setattr(sys.modules[__name__], "whole_voxels", FEW)


def _finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def _specimen(shape):
    """Walls 2 to 3 voxels thick in two directions, brighter towards one side, with a dark rim."""
    z, y, x = np.indices(shape)
    walls = ((y + z) % 17 < 3) | ((x - z) % 19 < 2)
    rim = (
        (y > 5) & (y < shape[1] - 6) & (x > 5) & (x < shape[2] - 6)
        if min(shape[1:]) > 20
        else np.ones(shape, bool)
    )
    return (walls & rim).astype(np.float32) * (0.5 + 0.5 * x / shape[2]).astype(np.float32)


def _image(shape=(12, 64, 72), photons=80.0, gain=2.0, offset=100.0, background=3.0, seed=1):
    """Return truth and measurement in grey values."""
    light = _specimen(shape) * photons
    mean = Blur.from_psf(PSF, VOXEL_UM, shape)(torch.from_numpy(light)).numpy() + background
    rng = np.random.default_rng(seed)
    y = gain * rng.poisson(mean) + offset + rng.normal(0, 2, shape)
    return gain * (light + background) + offset, y.astype(np.float32)


def _context(y, settings, *, noise=True, psf=PSF, background=None, given=False):
    statistics = VolumeStatistics(
        float(y.min()),
        float(y.max()),
        float(y.mean()),
        float(y.std()),
        float(np.percentile(y, 0.1)),
        float(np.percentile(y, 99.9)),
        float(np.percentile(y, 10)) if background is None else background,
    )
    camera = SimpleNamespace(gain=2.0, offset=100.0, read_noise=2.0) if noise else None
    parameters = GaussianDeconvolutionParameters(**settings)
    limits = {"whole_voxels": whole_voxels, "background_given": given}
    return MethodContext(
        parameters,
        y.shape,
        VOXEL_UM,
        statistics=statistics,
        read=lambda region: y[region].copy(),
        psf=psf,
        noise=camera,
        **limits,
    )


def _run(y, settings, **options):
    prepared = _finish(METHOD.prepare(_context(y, settings, **options)))
    return _finish(prepared(y, (0, 0, 0)))["enhanced"], prepared


def _psnr(a, truth):
    return 10 * np.log10(np.ptp(truth) ** 2 / np.mean((a - truth) ** 2))


@pytest.mark.parametrize(
    "name",
    [
        "richardson_lucy",
        "richardson_lucy 2-D",
        "richardson_lucy with total variation",
        "wiener",
        "wiener 2-D",
        "rl10",
    ],
)
def test_the_result_is_closer_to_the_truth_than_the_measurement(name):
    truth, y = _image()
    result, _ = _run(y, VARIANTS[name])
    assert _psnr(result, truth) > _psnr(y, truth) + 0.5


def test_richardson_lucy_in_3_d_beats_the_plane_by_plane_forms():
    truth, y = _image()
    best = _psnr(_run(y, {})[0], truth)
    assert all(
        best > _psnr(_run(y, VARIANTS[name])[0], truth) + 0.5
        for name in ("id3d", "rl10", "wpl5", "wiener", "richardson_lucy 2-D")
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_the_flux_is_kept_and_nothing_is_negative(name):
    _, y = _image()
    result, _ = _run(y, VARIANTS[name])
    light = float((y - 106.0).sum(dtype=np.float64))
    assert abs(float(result.sum(dtype=np.float64) - y.sum(dtype=np.float64))) < 1e-3 * light
    assert result.min() >= 0.0
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_constant_image_stays_constant_to_the_last_voxel(name):
    y = np.full((5, 33, 28), 100.0, np.float32)
    for background in (0.0, 100.0):
        result, _ = _run(y, VARIANTS[name], background=background)
        assert np.abs(result - 100.0).max() < 1e-2


@pytest.mark.parametrize("name", VARIANTS)
def test_tiled_equals_whole(name, large):
    _, y = _image((6, 60, 150))
    prepared = _finish(METHOD.prepare(_context(y, {"iterations": 5, **VARIANTS[name]})))
    whole = _finish(prepared(y, (0, 0, 0)))["enhanced"]
    tiled = np.full_like(y, np.nan)

    def write(_, region, array):
        tiled[region] = array

    plan = plan_tiles(y.shape, (3, 60, 60), prepared.halo_px)
    assert len(plan.tiles) > 3
    _finish(run_tiles(plan, lambda region: y[region].copy(), prepared, write))
    span = np.percentile(whole, 99.9) - np.percentile(whole, 0.1)
    assert np.abs(tiled - whole).max() <= 1e-5 * span


def test_tiles_of_a_small_volume_are_cut_out_of_its_solution():
    _, y = _image()
    prepared = _finish(METHOD.prepare(_context(y, {})))
    whole = _finish(prepared(y, (0, 0, 0)))["enhanced"]
    part = _finish(prepared(y[2:5, 10:30, 40:72], (2, 10, 40)))["enhanced"]
    assert prepared.halo_px == (0, 0, 0)
    assert np.array_equal(part, whole[2:5, 10:30, 40:72])


def test_a_large_volume_is_enhanced_as_well_from_probe_blocks(large):
    truth, y = _image((8, 96, 100))
    result, prepared = _run(y, {})
    assert "4 blocks" in prepared.notes["measured_on"]
    assert _psnr(result, truth) > _psnr(y, truth) + 2.0
    assert float((result - 106.0).mean(dtype=np.float64)) == pytest.approx(
        float((y - 106.0).mean(dtype=np.float64)), rel=1e-3
    )


@pytest.mark.parametrize(("background", "read_noise"), [(0.0, 0.0), (0.0, 1.5), (100.0, 1.5)])
@pytest.mark.parametrize(
    "name",
    ["richardson_lucy", "richardson_lucy 2-D", "richardson_lucy with total variation", "wiener"],
)
def test_the_flux_of_a_sparse_volume_in_tiles_is_kept(name, background, read_noise, large):
    """A few spots in a corner: probe blocks cannot tell how much light there is."""
    rng = np.random.default_rng(4)
    light = np.zeros((8, 120, 130), np.float32)
    for z, y, x in rng.integers((1, 5, 5), (7, 80, 60), (60, 3)):
        light[z, y : y + 3, x : x + 3] += 60.0
    mean = Blur.from_psf(PSF, VOXEL_UM, light.shape)(torch.from_numpy(light)).numpy()
    y = (
        (rng.poisson(mean + 0.5) + rng.normal(background, read_noise, light.shape))
        .clip(min=0)
        .astype(np.float32)
    )
    context = replace(
        _context(y, VARIANTS[name], background=background),
        noise=SimpleNamespace(gain=1.0, offset=background, read_noise=read_noise),
    )
    prepared = _finish(METHOD.prepare(context))
    tiled = np.full_like(y, np.nan)

    def write(_, region, array):
        tiled[region] = array

    assert max(prepared.halo_px) > 0
    _finish(
        run_tiles(
            plan_tiles(y.shape, (8, 60, 70), prepared.halo_px),
            lambda region: y[region].copy(),
            prepared,
            write,
        )
    )
    measured = float((y - background).sum(dtype=np.float64))
    assert float((tiled - background).sum(dtype=np.float64)) == pytest.approx(measured, rel=1e-3)


def test_a_volume_may_be_prepared_in_ever_smaller_blocks():
    truth, y = _image((8, 96, 100))
    whole = _finish(METHOD.prepare(_context(y, {})))
    assert whole.notes["measured_on"] == "whole volume"
    for limit in (60_000, 30_000):
        prepared = _finish(METHOD.prepare(replace(_context(y, {}), whole_voxels=limit)))
        blocks = prepared.notes["measured_on"]
        assert blocks.startswith("4 blocks")
        assert 4 * np.prod([int(n) for n in re.findall(r"\d+", blocks)[1:]]) <= limit
        assert _psnr(_finish(prepared(y, (0, 0, 0)))["enhanced"], truth) > _psnr(y, truth) + 2.0


@pytest.mark.parametrize("name", VARIANTS)
def test_the_planned_halo_covers_the_one_that_is_used(name, large):
    _, y = _image((6, 60, 80))
    context = _context(y, VARIANTS[name])
    planned = METHOD.plan_halo_px(context)
    assert all(
        p >= h for p, h in zip(planned, _finish(METHOD.prepare(context)).halo_px, strict=True)
    )


def test_two_dimensions_need_no_neighbouring_plane(large):
    _, y = _image((6, 60, 80))
    assert _finish(METHOD.prepare(_context(y, {"dimensions": 2}))).halo_px[0] == 0
    assert _finish(METHOD.prepare(_context(y, {"dimensions": 3}))).halo_px[0] > 0


def test_settings_that_solve_plane_by_plane_are_known_as_two_dimensional():
    settings = [{}, {"dimensions": 2}, {"variant": "imagej"}, {"variant": "wiener"}]
    assert [GaussianDeconvolutionParameters(**s).solved_dimensions for s in settings] == [
        3,
        2,
        2,
        3,
    ]
    assert registry.load("identity").spec.defaults.solved_dimensions == 3


def test_planes_solved_in_2_d_do_not_see_each_other():
    _, y = _image((4, 40, 40))
    settings = {"dimensions": 2, "stop": "fixed", "acceleration": False}
    prepared = _finish(METHOD.prepare(_context(y, settings, background=106.0, given=True)))
    both = _finish(prepared(y, (0, 0, 0)))["enhanced"]
    other = y.copy()
    other[2] = 106.0
    changed, _ = _run(other, settings, background=106.0, given=True)
    assert np.abs(changed[0] - both[0]).max() < 1e-2
    assert np.abs(changed[2] - both[2]).max() > 10


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 33), (2, 3, 4), (9, 1, 7), (3, 9, 8)])
def test_small_and_flat_images_are_processed(name, shape):
    y = np.random.default_rng(0).uniform(101, 300, shape).astype(np.float32)
    result, _ = _run(y, VARIANTS[name])
    assert result.shape == shape
    assert np.isfinite(result).all()


@pytest.mark.parametrize("iterations", [3, 8])
def test_a_volume_solved_from_probes_agrees_to_one_percent_where_the_iterations_are_fixed(
    iterations, monkeypatch
):
    """Background and extrapolation from probe blocks are those of the volume; see the warning."""
    _, y = _image((16, 80, 88))
    settings = {"stop": "fixed", "iterations": iterations}
    whole, prepared = _run(y, settings)
    assert prepared.notes["measured_on"] == "whole volume"
    monkeypatch.setattr(sys.modules[__name__], "whole_voxels", y.size // 3)
    probed, prepared = _run(y, settings)
    assert prepared.notes["measured_on"].startswith("4 blocks")
    assert any("with stop=fixed the results agree to 1 %" in said for said in prepared.warnings)
    span = np.percentile(whole, 99.9) - np.percentile(whole, 0.1)
    assert np.abs(probed - whole).max() < 0.01 * span


def test_a_two_dimensional_image_is_solved_in_two_dimensions_whatever_is_asked():
    _, y = _image((1, 64, 72))
    assert np.array_equal(_run(y, {"dimensions": 3})[0], _run(y, {"dimensions": 2})[0])


def test_gain_and_offset_of_the_camera_pass_through():
    _, y = _image()
    plain, _ = _run(y, {"stop": "fixed"}, background=106.0, given=True)
    context = _context(10 * y + 50, {"stop": "fixed"}, background=1110.0, given=True)
    scaled_noise = SimpleNamespace(gain=20.0, offset=1050.0, read_noise=20.0)
    prepared = _finish(METHOD.prepare(replace(context, noise=scaled_noise)))
    scaled = _finish(prepared(10 * y + 50, (0, 0, 0)))["enhanced"]
    assert np.abs((scaled - 50) / 10 - plain).max() < 5e-3 * np.ptp(plain)


def test_without_a_noise_model_the_noise_is_estimated():
    truth, y = _image()
    result, prepared = _run(y, {}, noise=False)
    assert prepared.notes["gain"] > 0
    assert _psnr(result, truth) > _psnr(y, truth) + 2.0


def test_a_background_estimate_that_is_too_high_is_lowered():
    truth, y = _image(background=5.0)
    high, prepared = _run(y, {}, background=float(np.median(y)) + 20)
    assert prepared.notes["background"] < np.median(y)
    assert _psnr(high, truth) > _psnr(y, truth) + 2.0


def test_a_background_that_is_given_is_taken_as_it_is():
    _, y = _image(background=5.0)
    given = float(np.median(y)) + 20
    assert _run(y, {}, background=given, given=True)[1].notes["background"] == given


def test_the_stop_rules_curve_is_recorded():
    _, y = _image()
    _, prepared = _run(y, {})
    count = prepared.notes["iterations"]
    assert 1 < count < 100
    assert len(prepared.curves["alpha"]) == count
    assert len(prepared.curves["chi2"]) == len(prepared.curves["freedom"]) > count
    assert _run(y, {"stop": "fixed", "iterations": 4})[1].notes["iterations"] == 4


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, r"after \d+ iterations, where the stop rule's score was smallest"),
        ({"iterations": 3}, "after 3 iterations, the limit; the stop rule would have continued"),
        ({"iterations": 4, "stop": "fixed"}, "after 4 iterations, as set"),
    ],
)
def test_the_record_says_why_it_stopped(settings, reason):
    _, y = _image()
    prepared = _run(y, settings)[1]
    assert re.fullmatch(reason, prepared.notes["stop"])
    assert prepared.warnings == []


def test_a_default_psf_is_not_followed_for_long_where_no_noise_says_when_to_stop():
    smooth = Blur.from_psf(PSF, VOXEL_UM, (12, 64, 72))(torch.from_numpy(_specimen((12, 64, 72))))
    y = 5.0 + 50.0 * smooth.numpy()
    guess = gaussian((0.36, 0.18, 0.18), "default")
    stopped = _run(y, {}, psf=guess, noise=False)[1]
    assert stopped.notes["iterations"] == 10
    assert stopped.notes["stop"] == "after 10 iterations, because neither noise nor PSF is known"
    assert any("give the PSF, or set iterations" in w for w in stopped.warnings)
    for psf, settings in ((PSF, {}), (guess, {"iterations": 14})):
        prepared = _run(y, settings, noise=False, psf=psf)[1]
        assert prepared.notes["iterations"] > 10
        assert not any("set iterations" in w for w in prepared.warnings)
    noisy = _image()[1]
    assert not any("set iterations" in w for w in _run(noisy, {}, psf=guess)[1].warnings)


def test_it_warns_where_noise_leaves_nothing_to_sharpen():
    y = np.random.default_rng(2).poisson(50.0, (6, 40, 40)).astype(np.float32)
    prepared = _run(y, {}, background=0.0)[1]
    assert prepared.notes["iterations"] == 0
    assert "the stop rule chose 0 iterations" in prepared.warnings[0]


def test_imagej_records_each_planes_iterations_and_the_middle_planes_curve():
    _, y = _image((5, 40, 40))
    prepared = _finish(METHOD.prepare(_context(y, {"variant": "imagej"})))
    counts = prepared.notes["iterations_per_plane"]
    assert counts == [0] * 5
    _finish(prepared(y, (0, 0, 0)))
    assert min(counts) > 1
    assert len(prepared.curves["mean_change_percent"]) == counts[2]
    assert (
        _run(y, {"variant": "imagej", "imagej_form": "rl10"})[1].notes["iterations_per_plane"]
        == [10] * 5
    )


def test_imagej_refuses_parts_of_planes():
    _, y = _image((2, 40, 40))
    prepared = _finish(METHOD.prepare(_context(y, {"variant": "imagej"})))
    with pytest.raises(
        MethodError,
        match=r"need whole planes, and this tile of \(20, 40\) px is a part of \(40, 40\) px",
    ):
        _finish(prepared(y[:, :20], (0, 0, 0)))


def test_it_says_that_it_needs_a_psf():
    _, y = _image((2, 40, 40))
    with pytest.raises(MethodError, match="needs a point spread function; give one with --psf"):
        _finish(METHOD.prepare(_context(y, {}, psf=None)))


def test_standard_iterations_belong_to_the_variant():
    def most(**settings):
        return GaussianDeconvolutionParameters(**settings).most_iterations

    assert (most(), most(stop="fixed"), most(iterations=7)) == (100, 10, 7)
    assert [most(variant="imagej", imagej_form=form) for form in ("id3d", "rl10", "wpl5")] == [
        100,
        10,
        5,
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"iterations": 0},
        {"tv_weight": -0.1},
        {"tv_weight": 0.2},
        {"variant": "magic"},
        {"dimensions": 4},
        {"wiener_noise": 0.0},
        {"iteration": 5},
    ],
)
def test_settings_out_of_bounds_are_refused(settings):
    with pytest.raises(ValidationError):
        GaussianDeconvolutionParameters(**settings)


@pytest.mark.parametrize("name", VARIANTS)
def test_both_steps_yield_and_may_be_closed_half_way(name):
    _, y = _image((4, 40, 40))
    steps = METHOD.prepare(_context(y, VARIANTS[name]))
    assert 0.0 <= next(steps) <= 1.0
    steps.close()
    prepared = _finish(METHOD.prepare(_context(y, VARIANTS[name])))
    before = copy.deepcopy(dict(prepared.notes))
    work = prepared(y, (0, 0, 0))
    assert 0.0 < next(work) <= 1.0
    work.close()
    assert dict(prepared.notes) == before
    assert np.array_equal(_finish(prepared(y, (0, 0, 0)))["enhanced"], _run(y, VARIANTS[name])[0])


def test_a_cancelled_run_writes_nothing_of_the_tile(large):
    _, y = _image((6, 60, 80))
    prepared = _finish(METHOD.prepare(_context(y, {"stop": "fixed"})))
    cancel = threading.Event()
    written = []
    steps = run_tiles(
        plan_tiles(y.shape, y.shape, prepared.halo_px),
        lambda r: y[r],
        prepared,
        lambda *a: written.append(a),
        cancel=cancel,
    )
    next(steps)
    cancel.set()
    with pytest.raises(RunCancelled):
        _finish(steps)
    assert written == []


def test_importing_the_method_does_not_load_torch():
    code = (
        "import sys, zenhance.methods.deconvolution, zenhance.methods.identity; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_planning_does_not_load_torch():
    code = (
        "import sys; from zenhance.methods.deconvolution import METHOD as M; from "
        "zenhance.physics.psf import gaussian; from zenhance.contract.spec import PlanContext as C;"
        "p = gaussian((.3, .1, .1)); v = (.3, .1, .1); s = (200, 999, 999); P = M.spec.parameters;"
        "[M.plan_halo_px(C(P(variant=name), s, v, p)) for name in ('wiener', 'imagej', "
        "'richardson_lucy')];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_setting_that_may_be_left_empty_says_where_to_start():
    for name, field in GaussianDeconvolutionParameters.model_fields.items():
        if field.default is None:
            start = field.json_schema_extra["start"]
            assert getattr(GaussianDeconvolutionParameters(**{name: start}), name) == start


def test_every_setting_has_a_unit_and_a_description():
    for field in GaussianDeconvolutionParameters.model_fields.values():
        assert "unit" in field.json_schema_extra
        assert 10 < len(field.description) <= 140


def test_the_page_lists_every_setting_with_its_default_unit_and_description():
    page = (
        Path(__file__).resolve().parents[3] / "docs" / "methods" / "gaussian_deconvolution.md"
    ).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", page, flags=re.MULTILINE)
    expected = [
        (
            name,
            "empty"
            if f.default is None
            else str(f.default).lower()
            if isinstance(f.default, bool)
            else str(f.default),
            f.json_schema_extra["unit"],
            f.description,
        )
        for name, f in GaussianDeconvolutionParameters.model_fields.items()
    ]
    assert rows == expected
