"""A network is taken where it predicts held-out photons better than deconvolution does."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cut_out_method import ESTIMATES
from zenhance.contract import registry
from zenhance.errors import RunCancelled
from zenhance.pipeline import (
    EnhanceRequest,
    EnhanceResult,
    Progress,
    arbitration,
    enhance,
    enhance_steps,
    profile,
)
from zenhance.pipeline.evidence import Blocks, Comparison, Tally
from zenhance.pipeline.plan import plan_run
from zenhance.stack import Stack
from zenhance.steps import drain

SIZE_UM = (0.5, 0.2, 0.2)
PSF = "sigma_um=0.6,0.3,0.3"
SHAPE = (12, 72, 76)
OFFSET, GAIN = 50.0, 4.0
DECONVOLUTION = "gaussian_deconvolution"


def blurred(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image, (1.2, 1.5, 1.5), mode="reflect")


def measured(light: np.ndarray, seed: int = 0) -> Stack:
    counts = np.random.default_rng(seed).poisson(blurred(light)) * GAIN + OFFSET
    return Stack.from_array(counts.astype(np.uint16), "ZYX", SIZE_UM)


def walls(seed: int = 1) -> np.ndarray:
    """Photons of thin random walls."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), (2, 5, 5))
    return np.where(np.abs(field) < 0.12 * field.std(), 120.0, 2.0)


@pytest.fixture(autouse=True)
def scene(monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Walls, and networks that see them rightly, halfway, dim, hazeless, or draw others."""
    monkeypatch.setitem(registry._BUILT_IN, "cut_out", "cut_out_method:METHOD")
    light = walls()
    haze = 4 + 0.15 * gaussian_filter(light, (6, 12, 12), mode="reflect")
    z = np.arange(SHAPE[1])[:, None]
    half = np.where(z < SHAPE[1] // 2, light, walls(7))
    estimates = {"truth": light, "mesh": walls(7), "dim": 0.7 * light, "half": half}
    ESTIMATES.clear()
    ESTIMATES.update({name: GAIN * image + OFFSET for name, image in estimates.items()})
    return measured(light + haze)


def run(stack: Stack, estimate: str = "truth", **fields: Any) -> EnhanceResult:
    settings = {"estimate": estimate, **fields.pop("settings", {})}
    given = {"psf": PSF, "device": "cpu", "background": OFFSET, **fields}
    return enhance(stack, method="cut_out", settings=settings, **given)


def share(result: EnhanceResult) -> np.ndarray:
    return np.asarray(result.extras["network_share"].data)


@pytest.mark.parametrize("estimate", ["truth", "dim"])
def test_a_network_that_sees_rightly_keeps_its_share_whatever_haze_and_scale(
    scene: Stack, estimate: str
) -> None:
    result = run(scene, estimate)
    assert share(result).mean() > 0.95
    notes = result.provenance.notes
    assert notes["arbitration"]["network_share"] == pytest.approx(share(result).mean(), abs=0.02)
    assert "the network was used" in notes["remark"]


def test_a_network_that_draws_what_is_not_there_loses_to_deconvolution(scene: Stack) -> None:
    result = run(scene, "mesh")
    assert share(result).max() == 0.0
    assert "deconvolution was used everywhere" in result.provenance.notes["remark"]
    plain = enhance(scene, method=DECONVOLUTION, psf=PSF, device="cpu", background=OFFSET)
    np.testing.assert_array_equal(result.stack.data, plain.stack.data)


def test_the_share_follows_the_evidence_from_place_to_place() -> None:
    gain = np.full((4, 8, 8), 6.0)
    gain[:, 4:] = -6.0
    compared = Comparison(gain, np.full(gain.shape, 12.0))
    found = compared.shares((1.0, 1.0, 1.0))
    assert found[:, :3].min() > 0.9
    assert found[:, 5:].max() == 0.0
    # Half as certain as counts, the network has no share.
    weak = Comparison(np.full((1, 2, 2), 0.2), np.full((1, 2, 2), 0.4))
    assert weak.shares((0.0, 1.0, 1.0)).max() == 0.0


def test_noise_alone_gives_the_network_no_share() -> None:
    dark = Stack.from_array(
        np.random.default_rng(3).poisson(2.0, SHAPE).astype(np.uint16), "ZYX", SIZE_UM
    )
    assert share(run(dark, "mesh", background=0.0)).mean() < 0.05


def test_planes_without_light_are_no_evidence() -> None:
    light = walls()
    light[:6] = 0.0
    stack = measured(light)
    assert np.isfinite(np.asarray(run(stack).stack.data)).all()
    assert share(run(stack))[8:].mean() > 0.9


@pytest.mark.parametrize(
    ("estimate", "least", "most"), [("truth", 0.9, 1.0), ("mesh", 0.0, 0.0), ("half", 0.0, 0.5)]
)
def test_a_large_volume_is_judged_on_a_sample_that_favours_deconvolution(
    scene: Stack, estimate: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arbitration, "MAX_TRIAL_VOXELS", 25_000)
    monkeypatch.setattr(arbitration, "MIN_TRIAL_SIDE_PX", 12)
    result = run(scene, estimate)
    found = share(result)
    assert 0.2 < result.provenance.notes["arbitration"]["tried"] < 0.6
    assert least <= found.mean() <= most
    if estimate == "half":
        # Where it draws what is not there, also between the columns that were looked at.
        assert found[:, 42:].mean() < 0.05


def test_a_sample_has_columns_of_every_brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arbitration, "MAX_TRIAL_VOXELS", 20_000)
    monkeypatch.setattr(arbitration, "MIN_TRIAL_SIDE_PX", 10)
    ramp = np.broadcast_to(np.arange(120.0, dtype=np.float32), (8, 120, 120))
    context = SimpleNamespace(shape_px=ramp.shape, read=lambda region: ramp[region])
    plan = arbitration._trial_plan(cast("Any", context), (8, 4, 4), (1, 1, 1))
    middles = sorted({t.core[2].start for t in plan.tiles})
    assert middles[0] < 25
    assert middles[-1] > 80
    assert sum(8 * arbitration._area(t.core) for t in plan.tiles) <= 1.2 * 20_000


def test_tiles_agree_with_the_whole(scene: Stack) -> None:
    whole, tiled = run(scene, "half"), run(scene, "half", tile_px=(12, 24, 40))
    assert tiled.provenance.tiles["count"] > 1
    span = float(np.ptp(whole.stack.data))
    np.testing.assert_allclose(tiled.stack.data, whole.stack.data, atol=1e-5 * span)
    np.testing.assert_array_equal(share(tiled), share(whole))


def test_a_record_replays_bit_for_bit_and_a_seed_changes_the_split(scene: Stack) -> None:
    first = run(scene, "half")
    request = EnhanceRequest(**first.provenance.request)
    np.testing.assert_array_equal(enhance(scene, request).stack.data, first.stack.data)
    gain = first.provenance.notes["arbitration"]["gain_nats"]
    assert run(scene, "half", seed=1).provenance.notes["arbitration"]["gain_nats"] != gain


def test_a_trial_can_be_cancelled(scene: Stack) -> None:
    cancel = threading.Event()
    request = EnhanceRequest(method="cut_out", psf=PSF, device="cpu")

    def stop(step: Progress) -> None:
        if step.stage == "prepare" and step.fraction > 0.3:
            cancel.set()

    with pytest.raises(RunCancelled):
        drain(enhance_steps(scene, request, cancel), stop)


def test_samples_and_their_spread_are_blended_with_the_same_map(scene: Stack) -> None:
    result = run(scene, "half", settings={"samples": 3})
    samples = np.asarray(result.extras["samples"].data)
    np.testing.assert_allclose(samples.mean(axis=0), result.stack.data, rtol=1e-4)
    np.testing.assert_allclose(samples.std(axis=0), result.extras["std"].data, atol=2e-3)


def test_each_time_point_is_judged_on_its_own_light() -> None:
    two = np.stack([np.asarray(measured(light).data) for light in (walls(), walls(9))])
    result = run(Stack.from_array(two, "TZYX", SIZE_UM), statistics="shared")
    found = share(result)
    assert found[0].mean() > 0.95
    assert found[1].mean() < 0.05


def test_a_deep_stack_is_measured_once_for_network_deconvolution_and_judge(
    scene: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "profiles" not in run(scene, psf=None).provenance.notes
    monkeypatch.setattr(profile, "MIN_NETWORK_DEPTH_UM", 5.0)
    result = run(scene, psf=None)
    (found,) = result.provenance.notes["profiles"]
    assert "measured" in found["sigma_yx_um"]["origins"]
    assert run(scene, psf=None, profile="measure").provenance.notes["profiles"] == [found]


def test_a_microscope_that_cannot_be_measured_is_told_beside_the_decision(
    scene: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "MIN_NETWORK_DEPTH_UM", 5.0)
    remark = run(scene.crop({"Y": slice(0, 40)}), psf=None).provenance.notes["remark"]
    assert "the default PSF was used." in remark
    assert "held-out light" in remark


def test_the_switch_leaves_the_network_alone(scene: Stack) -> None:
    result = run(scene, "mesh", arbitrate=False)
    assert "network_share" not in result.extras
    np.testing.assert_array_equal(result.stack.data, np.float32(ESTIMATES["mesh"]))


def test_without_a_voxel_size_the_network_is_taken_and_the_user_is_told(scene: Stack) -> None:
    result = run(Stack.from_array(np.asarray(scene.data), "ZYX"), "mesh", psf=None)
    assert any("voxel size along zyx is unknown" in w for w in result.provenance.warnings)
    assert share(result).min() == 1.0


def test_only_learnt_methods_that_deblur_on_the_grid_of_the_measurement_compete() -> None:
    for method in (DECONVOLUTION, "identity"):
        assert not EnhanceRequest(method=method).arbitrates
    assert EnhanceRequest(method="dqlr").arbitrates
    assert not EnhanceRequest(method="rdn", settings={"scale": 2}).arbitrates
    assert not EnhanceRequest(method="dqlr", arbitrate=False).arbitrates


def test_a_denoised_result_keeps_the_map(scene: Stack) -> None:
    result = run(scene, output="denoised")
    assert set(result.extras) == {"network_share"}
    assert share(result).max() <= 1.0


def test_the_plan_knows_the_context_and_the_psf_of_the_trial(scene: Stack) -> None:
    request = EnhanceRequest(method="cut_out", psf=PSF, device="cpu")
    plan = plan_run(scene, request)
    assert plan.psf is not None
    assert "network_share" in plan.outputs


def test_blocks_cover_the_volume_and_interpolate_between_their_middles() -> None:
    blocks = Blocks.of((7, 33, 40), SIZE_UM)
    assert blocks.size_px == (4, 10, 10)
    assert blocks.grid == (2, 4, 4)
    ramp = np.broadcast_to(np.arange(4.0), blocks.grid)
    x = blocks.interpolate(ramp, (slice(0, 7), slice(0, 33), slice(3, 40)))[0, 0]
    np.testing.assert_allclose(x, np.clip((np.arange(3, 40) + 0.5) / 10 - 0.5, 0, 3), atol=1e-6)
    assert np.prod(Blocks.of((600, 4000, 4000), SIZE_UM).grid) <= 40_000


def test_the_best_point_between_two_predictions_is_that_of_linear_regression() -> None:
    rng = np.random.default_rng(4)
    shape = (4, 40, 40)
    light = rng.uniform(5, 50, shape)
    baseline, estimate = (light + rng.normal(0, 8, shape) for _ in range(2))
    truth = 0.25 * baseline + 0.75 * estimate
    kept, held = (rng.normal(truth, 0.01) for _ in range(2))
    blocks = Blocks.of(shape, SIZE_UM)
    tally = Tally(blocks, 1, [False], 0.1)
    views = np.float32(np.stack([baseline, estimate]))
    ones = np.ones(shape, np.float32)
    for rows in (slice(0, 13), slice(13, 40)):
        region = (slice(0, 4), rows, slice(0, 40))
        part = (slice(None), rows)
        tally.add(region, views[:, :, rows], kept[part], held[part], ones[part])
    (contest,) = tally.compare()
    compared = contest.baseline
    # Both predictions are first fitted to the kept photons, which shrinks them alike.
    best = 0.5 + compared.total / compared.information.sum()
    fits = [np.polyval(np.polyfit(v.ravel(), kept.ravel(), 1), v) for v in (baseline, estimate)]
    step = fits[1] - fits[0]
    exact = float((step * (held - fits[0])).sum() / (step**2).sum())
    assert best == pytest.approx(exact, abs=0.03)
