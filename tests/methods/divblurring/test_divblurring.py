"""DivBlurring: mean, deviation and samples, tiles and whole, and its errors."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from zenhance.contract import registry
from zenhance.contract.learner import Batch
from zenhance.contract.spec import MethodContext, PlanContext, VolumeStatistics
from zenhance.errors import CheckpointError, MethodError, RunCancelled
from zenhance.methods.divblurring import MAX_STEPS, METHOD
from zenhance.methods.divblurring.inference import halo_px, steps_for
from zenhance.methods.divblurring.network import FlatVae, LadderVae
from zenhance.methods.divblurring.training import VaeArchitecture, VaeLearner
from zenhance.models.checkpoint import dump_checkpoint
from zenhance.models.header import Card
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import Psf, gaussian
from zenhance.pipeline import EnhanceRequest, enhance, enhance_steps
from zenhance.solvers.deconvolved import deconvolved_reach_px
from zenhance.stack import Stack
from zenhance.training.data import of_stacks, with_optics
from zenhance.training.patches import PatchSampler

LEARNER = VaeLearner()
SIZE_UM = (0.5, 0.2, 0.2)
PSF = "sigma_um=0.5,0.2,0.2"
LADDER: dict[str, Any] = {
    "window": 3, "planes": 3, "features": [6, 8, 8], "latents": [1, 2, 3], "deconvolved": [2, 4],
    "truth": 30.0,
    "kl_weight": 0.1, "measured": 0.1, "warmup_steps": 0,
}  # fmt: skip
FLAT: dict[str, Any] = {
    "kind": "flat",
    "features": [8],
    "latents": [4],
    "positive": False,
    "noise": "gaussian",
    "kl_weight": 0.1,
    "free_bits": 0.1,
}
FINER: dict[str, Any] = {
    "features": [6, 8, 8],
    "latents": [1, 2, 3],
    "scale": 2,
    "truth": 30.0,
    "kl_weight": 0.1,
}
OUTPUTS = {"samples": 3, "uncertainty": True, "keep_samples": 3}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(registry._BUILT_IN, "divblurring", "zenhance.methods.divblurring:METHOD")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def walls(
    shape: tuple[int, int, int], seed: int = 0, finer: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Thin random walls from 0 to 1, and the same blurred with noise."""
    rng = np.random.default_rng(seed)
    fine = (shape[0], finer * shape[1], finer * shape[2])
    field = gaussian_filter(rng.normal(size=fine), (min(2, shape[0] - 1), 4 * finer, 4 * finer))
    sharp = (np.abs(field) < 0.25 * field.std()).astype(np.float32)
    blurred = gaussian_filter(sharp, (min(1, shape[0] - 1), finer, finer))
    blurred = blurred.reshape(shape[0], shape[1], finer, shape[2], finer).mean((2, 4))
    return sharp, np.float32(rng.poisson(60 * blurred) / 60)


def batch(architecture: Mapping[str, Any]) -> Batch:
    """Patches of four specimens, with all that the loop would tell of them."""
    volumes, finer = [], architecture.get("scale", 1)
    size_um = (0.5, 0.2 / finer, 0.2 / finer)
    for seed in range(4):
        sharp, measured = (np.float32(400 * x + 100) for x in walls((3, 40, 40), seed, finer))
        (volume,) = of_stacks(
            "pair",
            Stack.from_array(measured, "ZYX", SIZE_UM),
            Stack.from_array(sharp, "ZYX", size_um),
        )
        volumes.append(
            with_optics(volume, PSF).with_estimates(tuple(architecture.get("deconvolved", ())))
        )
    return PatchSampler(volumes, LEARNER.patch_px(architecture, 32), 6, 0, with_optics=True).draw(0)


def save(
    folder: Path,
    architecture: Mapping[str, Any],
    name: str = "tiny",
    method: str = "divblurring",
    steps: int = 60,
) -> str:
    torch.manual_seed(0)
    network: Any = LEARNER.build(architecture).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    pairs = batch(architecture)
    for step in range(steps):
        torch.manual_seed(step)
        loss, _ = LEARNER.loss(network, pairs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    sample = pairs.seen[:1]
    with torch.inference_mode():
        blob = dump_checkpoint(
            Card(
                method=method,
                name=name,
                version="0",
                architecture=dict(architecture),
                voxel_size_um=SIZE_UM,
            ),
            network.state_dict(),
            sample,
            LEARNER.predict(network, sample),
        )
    path = folder / f"{name}.safetensors"
    path.write_bytes(blob)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    made = {
        "ladder": save(folder, LADDER, "ladder", steps=120),
        "flat": save(folder, FLAT, "flat", steps=240),
        "finer": save(folder, FINER, "finer"),
    }
    torch.set_num_threads(before)
    return made


def stack(shape: tuple[int, ...] = (3, 40, 44), seed: int = 9) -> Stack:
    _, measured = walls((1, *shape) if len(shape) == 2 else shape, seed)
    return Stack.from_array(
        np.float32(400 * measured + 100).reshape(shape),
        "ZYX"[-len(shape) :],
        SIZE_UM[-len(shape) :],
    )


def run(
    image: Stack,
    weights: str,
    *,
    seed: int = 0,
    tile_px: tuple[int, int, int] | None = None,
    **settings: Any,
) -> Any:
    settings = {"samples": 3, **settings}
    return enhance(
        image,
        EnhanceRequest(
            method="divblurring",
            settings=settings,
            weights=weights,
            psf=PSF,
            seed=seed,
            device="cpu",
            tile_px=tile_px,
            arbitrate=False,
        ),
    )


def images(result: Any) -> dict[str, np.ndarray]:
    """All outputs as arrays."""
    return {"enhanced": np.asarray(result.stack.data)} | {
        name: np.asarray(extra.data) for name, extra in result.extras.items()
    }


@pytest.mark.parametrize(
    ("kind", "settings", "width"),
    [
        ("ladder", {}, 312),
        ("ladder", {"sample_temperature": 1.5, "data_consistency": 0}, 312),
        ("ladder", {"self_ensemble": True}, 312),
        ("flat", {}, 140),
        ("flat", {"self_ensemble": True}, 140),
        ("finer", {"scale": 2}, 240),
    ],
)
def test_tiles_and_whole_agree_in_all_outputs(
    models: dict[str, str], kind: str, settings: dict[str, Any], width: int
) -> None:
    image = stack((2, 45, width))
    whole = run(image, models[kind], **OUTPUTS, **settings)
    tiled = run(image, models[kind], tile_px=(2, 45, 40), **OUTPUTS, **settings)
    assert whole.provenance.tiles["count"] == 1
    assert tiled.provenance.tiles["count"] >= 4
    a, b = images(whole), images(tiled)
    assert set(a) == {"enhanced", "std", "samples"}
    assert a["samples"].shape == (3, *a["enhanced"].shape)
    span = np.percentile(a["enhanced"], 99.9) - np.percentile(a["enhanced"], 0.1)
    for name in a:
        assert np.abs(a[name] - b[name]).max() <= 1e-5 * span, name
    assert a["std"].mean() > 1e-3 * span, "samples differ, or the test is none"


def test_tiles_along_z_and_y_agree_too(models: dict[str, str]) -> None:
    image = stack((14, 150, 24))
    a, b = (
        images(run(image, models["flat"], tile_px=tile, data_consistency=0, **OUTPUTS))
        for tile in (None, (3, 56, 24))
    )
    for name in a:
        assert np.abs(a[name] - b[name]).max() <= 1e-5 * np.ptp(a["enhanced"]), name


@pytest.mark.parametrize("kind", ["ladder", "flat"])
def test_mean_and_deviation_are_those_of_the_samples(models: dict[str, str], kind: str) -> None:
    found = images(run(stack(), models[kind], samples=11, keep_samples=11, uncertainty=True))
    samples = found["samples"].astype(np.float64)
    span = np.ptp(found["enhanced"])
    assert np.abs(samples.mean(0) - found["enhanced"]).max() <= 1e-5 * span
    assert np.abs(samples.std(0, ddof=1) - found["std"]).max() <= 1e-4 * span
    assert np.abs(samples[0] - samples[1]).mean() > 1e-3 * span


def test_another_seed_changes_all_outputs(models: dict[str, str]) -> None:
    a, b = (images(run(stack(), models["ladder"], seed=seed, **OUTPUTS)) for seed in (1, 2))
    for name in a:
        assert np.abs(a[name] - b[name]).max() > 1e-3 * np.ptp(a["enhanced"]), name


def test_more_samples_leave_the_first_ones_as_they_are_and_calm_the_mean(
    models: dict[str, str],
) -> None:
    few, many = (images(run(stack(), models["ladder"], samples=n, keep_samples=2)) for n in (2, 24))
    assert np.array_equal(few["samples"], many["samples"])
    others = [
        images(run(stack(), models["ladder"], samples=n, seed=5))["enhanced"] for n in (2, 24)
    ]
    apart = [np.abs(a["enhanced"] - b).mean() for a, b in zip((few, many), others, strict=True)]
    assert apart[1] < 0.5 * apart[0]


@pytest.mark.parametrize("kind", ["ladder", "flat"])
def test_twice_the_spread_doubles_the_deviations(models: dict[str, str], kind: str) -> None:
    usual, wide = (
        images(
            run(
                stack(),
                models[kind],
                samples=6,
                keep_samples=6,
                uncertainty=True,
                data_consistency=0,
                sample_temperature=spread,
            )
        )
        for spread in (1, 2)
    )
    # Where light would be negative it is cut off at the background, in the ladder.
    background = wide["samples"].min()
    free = (wide["samples"] > background + 1).all(0)
    assert free.sum() > 300
    assert np.allclose(wide["std"][free], 2 * usual["std"][free], rtol=2e-3, atol=1e-3)
    centre = 2 * usual["samples"] - wide["samples"]
    assert np.abs(centre - centre[0])[:, free].max() < 1e-3 * np.ptp(usual["enhanced"]), (
        "all move away from one centre"
    )


def test_turned_draws_see_the_image_in_its_eight_positions_each_once(
    models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    encode = LadderVae.encode

    def watched(self: LadderVae, image: Tensor) -> Any:
        seen.append(image[0, 1].clone())
        return encode(self, image)

    image = stack((1, 64, 64))
    monkeypatch.setattr(LadderVae, "encode", watched)
    plain = images(run(image, models["ladder"], samples=16, keep_samples=16))["samples"]
    assert sum(tuple(x.shape) == (64, 64) for x in seen) == 1, "encoded once for sixteen draws"
    seen.clear()
    turned = images(run(image, models["ladder"], samples=16, keep_samples=16, self_ensemble=True))[
        "samples"
    ]
    positions = [x for x in seen if tuple(x.shape) == (64, 64)]
    assert len(positions) == 8
    eight = {
        p.rot90(k).flip(-1).numpy().tobytes() if f else p.rot90(k).numpy().tobytes()
        for p in positions[:1]
        for k in range(4)
        for f in (0, 1)
    }
    assert {p.contiguous().numpy().tobytes() for p in positions} == eight
    assert np.array_equal(turned[0], plain[0]), "the first position is the image's own"
    assert np.abs(turned[1] - plain[1]).max() > 1e-3 * np.ptp(plain)
    for number, sample in enumerate(turned):
        assert np.corrcoef(sample.ravel(), plain.mean(0).ravel())[0, 1] > 0.5, (
            f"sample {number} is turned back"
        )


def test_the_encoder_is_run_once_for_all_draws(
    models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"encode": 0, "decode": 0}
    for name in calls:
        inner = getattr(FlatVae, name)

        def counted(
            self: FlatVae, *given: Any, name: str = name, inner: Any = inner, **options: Any
        ) -> Any:
            calls[name] += 1
            return inner(self, *given, **options)

        monkeypatch.setattr(FlatVae, name, counted)
    run(stack((1, 24, 24)), models["flat"], samples=1)
    once = dict(calls)
    run(stack((1, 24, 24)), models["flat"], samples=21)
    assert calls["encode"] == 2 * once["encode"]
    assert calls["decode"] == 2 * once["decode"] + 20


def test_a_hundred_samples_are_never_in_memory_together(
    models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, calls, alive = (2, 24, 40), [], []
    decode = FlatVae.decode

    def counted(self: FlatVae, *given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) in (5, 50, 100):
            alive.append(
                sum(
                    type(thing) is Tensor and thing.numel() >= np.prod(shape)
                    for thing in gc.get_objects()
                )
            )
        return decode(self, *given, **options)

    monkeypatch.setattr(FlatVae, "decode", counted)
    run(stack(shape), models["flat"], samples=100, uncertainty=True, keep_samples=2)
    assert len(calls) >= 100
    assert alive[2] <= alive[1] <= alive[0] + 2, "as many after a hundred draws as after five"


def test_gain_and_offset_of_the_camera_come_through(models: dict[str, str]) -> None:
    image = stack()
    for kind in ("ladder", "flat"):
        a, b = (
            images(run(i, models[kind], **OUTPUTS))
            for i in (image, image.with_data(2 * image.data + 500))
        )
        span = np.ptp(a["enhanced"])
        assert np.abs((b["enhanced"] - 500) / 2 - a["enhanced"]).max() <= 5e-3 * span
        assert np.abs((b["samples"] - 500) / 2 - a["samples"]).max() <= 5e-3 * span
        assert np.abs(b["std"] / 2 - a["std"]).max() <= 5e-3 * span


def test_the_mean_is_nearer_the_truth_than_the_measurement_and_than_a_sample(
    models: dict[str, str],
) -> None:
    sharp, measured = (400 * x + 100 for x in walls((4, 48, 48), 77))
    image = Stack.from_array(np.float32(measured), "ZYX", SIZE_UM)
    mean, one = (run(image, models["ladder"], samples=samples).stack for samples in (20, 1))
    assert mean.voxel_size.zyx_um == SIZE_UM
    assert mean.data.dtype == np.float32
    errors = [float(np.square(x - sharp).mean()) for x in (mean.data, one.data, measured)]
    assert errors[0] < min(0.85 * errors[1], errors[2])


def test_agreement_brings_samples_towards_the_measurement(models: dict[str, str]) -> None:
    image = stack()
    plain = run(image, models["ladder"], data_consistency=0).stack.data
    away, near = (
        np.abs(run(image, models["ladder"], data_consistency=s).stack.data - plain).mean()
        for s in (6, 1)
    )
    assert away > 1.3 * near > 0


@pytest.mark.parametrize(("photons", "steps"), [(5, 1), (60, 2), (240, 4), (800, 6), (1e6, 8)])
def test_brighter_stacks_take_more_steps_back(photons: float, steps: int) -> None:
    known = VolumeStatistics(0.0, 2 * photons, 1.0, 1.0, 0.0, 10 + 2.0 * photons, 10.0)
    context = MethodContext(
        None,
        (4, 8, 8),
        SIZE_UM,
        statistics=known,
        read=lambda _: np.zeros((4, 8, 8), np.float32),
        noise=PoissonGauss(2.0, 10.0, 1.0),
    )
    assert steps_for(context) == steps


def test_the_papers_preset_gives_what_the_network_drew_and_may_be_negative(
    models: dict[str, str],
) -> None:
    image = stack()
    paper = run(image, models["flat"], preset="paper", data_consistency=3)
    assert np.array_equal(
        paper.stack.data,
        run(image, models["flat"], data_consistency=0, sample_temperature=1.0).stack.data,
    )
    assert not np.array_equal(paper.stack.data, run(image, models["flat"]).stack.data)
    parameters = METHOD.spec.parameters
    assert parameters(preset="paper").weights == "divblurring_paper"
    assert parameters().weights == METHOD.spec.defaults.weights == "divblurring_stack"


def test_an_image_of_one_plane_is_enhanced(models: dict[str, str]) -> None:
    found = images(run(stack((41, 50)), models["ladder"], **OUTPUTS))
    assert found["enhanced"].shape == found["std"].shape == (41, 50)
    assert found["samples"].shape == (3, 41, 50)
    assert all(np.isfinite(x).all() for x in found.values())


def test_a_finer_grid_is_finer_in_all_outputs(models: dict[str, str]) -> None:
    result = run(stack((2, 41, 50)), models["finer"], scale=2, **OUTPUTS)
    found = images(result)
    assert found["enhanced"].shape == found["std"].shape == (2, 82, 100)
    assert found["samples"].shape == (3, 2, 82, 100)
    assert result.stack.voxel_size.zyx_um == (0.5, 0.1, 0.1)
    coarse = found["enhanced"].reshape(2, 41, 2, 50, 2).mean((2, 4))
    assert np.corrcoef(coarse.ravel(), stack((2, 41, 50)).data.ravel())[0, 1] > 0.6


def test_outputs_are_declared_only_where_they_are_asked_for(models: dict[str, str]) -> None:
    parameters = METHOD.spec.parameters

    def names(**settings: Any) -> list[tuple[str, int]]:
        return [(output.name, output.series) for output in parameters(**settings).outputs]

    assert names() == [("enhanced", 0)]
    assert names(uncertainty=True) == [("enhanced", 0), ("std", 0)]
    assert names(keep_samples=7) == [("enhanced", 0), ("samples", 7)]
    assert names(keep_samples=7, samples=4, uncertainty=True) == [
        ("enhanced", 0),
        ("std", 0),
        ("samples", 4),
    ]
    result = run(stack(), models["flat"])
    assert not result.extras
    with pytest.raises(MethodError, match="at least 2 samples"):
        run(stack(), models["flat"], samples=1, uncertainty=True)
    assert result.provenance.notes["model"] == "flat"
    assert result.provenance.notes["samples"] == 3
    assert result.provenance.weights_sha256


def test_weights_of_another_method_or_grid_are_refused(
    models: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(
        CheckpointError, match='"foreign" belongs to the method dqlr, not to divblurring'
    ):
        run(stack(), save(tmp_path, FLAT, "foreign", "dqlr"))
    with pytest.raises(
        CheckpointError,
        match='"finer" enlarges 2 ×, but the scale is set to 1; choose other weights',
    ):
        run(stack(), models["finer"])
    with pytest.raises(
        CheckpointError,
        match='"flat" enlarges 1 ×, but the scale is set to 2; choose other weights',
    ):
        run(stack(), models["flat"], scale=2)


@pytest.mark.parametrize(
    "settings",
    [
        {"samples": 0},
        {"data_consistency": 1.5},
        {"sample_temperature": 0.0},
        {"preset": "best"},
        {"keep_samples": 101},
    ],
)
def test_settings_out_of_bounds_are_refused(
    settings: dict[str, Any], models: dict[str, str]
) -> None:
    with pytest.raises(MethodError):
        run(stack(), models["flat"], **settings)


@pytest.mark.parametrize("kind", ["ladder", "flat"])
def test_cancel_is_answered_between_two_draws(models: dict[str, str], kind: str) -> None:
    cancel = threading.Event()
    request = EnhanceRequest(
        method="divblurring",
        settings={"samples": 200},
        weights=models[kind],
        psf=PSF,
        device="cpu",
        arbitrate=False,
    )
    fractions = []

    def until_it_stops() -> None:
        for progress in enhance_steps(stack(), request, cancel):
            fractions.append(progress.fraction)
            if progress.fraction > 0.3:
                cancel.set()

    with pytest.raises(RunCancelled):
        until_it_stops()
    assert fractions == sorted(fractions)
    assert fractions[-1] < 0.3 + 3 / 200


@pytest.mark.parametrize(
    "psf", [gaussian(s) for s in ((0.3, 0.05, 0.05), (0.5, 0.2, 0.2), (2.0, 0.5, 0.9))]
)
@pytest.mark.parametrize("shape", [(1, 512, 512), (4, 512, 512), (80, 512, 512)])
def test_what_is_planned_is_never_less_than_what_is_needed(
    psf: Psf, shape: tuple[int, int, int]
) -> None:
    planned = METHOD.plan_halo_px(PlanContext(METHOD.spec.defaults, shape, SIZE_UM, psf))
    for change in (
        {"kind": "flat"},
        {"blocks": 2},
        {"window": 9},
        {"blocks": 2, "window": 9, "deconvolved": [20, 100]},
    ):
        for steps in (0, MAX_STEPS):
            needed = halo_px(VaeArchitecture(**change), psf, SIZE_UM, shape, steps)
            assert all(p >= n for p, n in zip(planned, needed, strict=True)), change
    assert planned[0] <= shape[0]
    plain, more = (
        halo_px(VaeArchitecture(deconvolved=n), psf, SIZE_UM, shape, 0) for n in ((), (4, 9))
    )
    assert (
        tuple(m - p for m, p in zip(more, plain, strict=True))[1:]
        == deconvolved_reach_px(psf, SIZE_UM, (4, 9), shape[0])[1:]
    )
