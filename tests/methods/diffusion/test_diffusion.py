"""Diffusion: what it learns from, the timestep it starts at, and how runs repeat and differ."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from zenhance.contract.learner import Batch, Scaling
from zenhance.errors import CheckpointError, MethodError, RecipeError, RunCancelled
from zenhance.methods.diffusion.forward_process import match_timestep
from zenhance.methods.diffusion.network import DiffusionNetwork
from zenhance.methods.diffusion.training import DiffusionLearner
from zenhance.models.checkpoint import dump_checkpoint
from zenhance.models.header import Card
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import gaussian
from zenhance.pipeline import EnhanceRequest, enhance, enhance_steps, plan_run
from zenhance.stack import Stack
from zenhance.training.optics import optics_of_camera
from zenhance.training.validate import validate

LEARNER = DiffusionLearner()
FLAT: dict[str, Any] = {"features": 16, "deep_features": 16, "blocks": 2, "deep_blocks": 1}
TINY: dict[str, Any] = {**FLAT, "window": 3, "planes": 4}
PSF = "sigma_um=0.5,0.2,0.2"
SIZE_UM = (0.5, 0.2, 0.2)
SIGMA_PX = (1.0, 1.0, 1.0)


def walls(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Thin random walls from 0 to 1, and the same blurred with noise."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), (min(2, shape[0] - 1), 4, 4))
    sharp = (np.abs(field) < 0.2 * field.std()).astype(np.float32)
    blurred = gaussian_filter(sharp, (min(1, shape[0] - 1), 1, 1))
    return sharp, np.float32(rng.poisson(30 * blurred) / 30)


def batch(
    shape: tuple[int, int, int] = (4, 24, 24), *, truth: bool = True, optics: bool = True
) -> Batch:
    pairs = [walls(shape, seed) for seed in range(4)]
    sharp, measured = (torch.from_numpy(np.stack(images)) for images in zip(*pairs, strict=True))
    psf = gaussian(tuple(s * v for s, v in zip(SIGMA_PX, SIZE_UM, strict=True)))
    told = optics_of_camera(psf, PoissonGauss(1 / 30), SIZE_UM, Scaling(0.0, 1.0))(0)
    return Batch(measured, sharp if truth else None, torch.zeros(4), (told,) * 4 if optics else ())


def learnt(
    architecture: Mapping[str, Any], pairs: Batch, steps: int
) -> tuple[DiffusionNetwork, list[float], dict[str, float]]:
    torch.manual_seed(0)
    network: Any = LEARNER.build(architecture).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses, logs = [], {}
    for step in range(steps):
        torch.manual_seed(step)
        loss, found = LEARNER.loss(network, pairs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        logs = dict(found)
    return network, losses, logs


def loss_of(network: DiffusionNetwork, pairs: Batch) -> float:
    """The mean over many levels, the same for every network."""
    losses = []
    for seed in range(1000, 1020):
        torch.manual_seed(seed)
        with torch.no_grad():
            losses.append(float(LEARNER.loss(network, pairs)[0]))
    return float(np.mean(losses))


def save(
    folder: Path, architecture: Mapping[str, Any], name: str = "tiny", method: str = "diffusion"
) -> str:
    network, _, _ = learnt(
        architecture, batch((1, 24, 24) if "window" not in architecture else (4, 24, 24)), 60
    )
    network.eval()
    sample = batch().measured[:1, : architecture.get("planes", 1)]
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
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("models"), TINY)


@pytest.fixture(scope="module")
def measured() -> Stack:
    _, seen = walls((6, 100, 116), 7)
    return Stack.from_array(np.float32(100 * seen + 20), "ZYX", SIZE_UM)


def run(
    stack: Stack,
    model: str,
    tile_px: tuple[int, int, int] | None = None,
    seed: int = 0,
    **settings: Any,
) -> Any:
    settings = {"steps": 3, **settings}
    return enhance(
        stack,
        EnhanceRequest(
            method="diffusion",
            settings=settings,
            weights=model,
            psf=PSF,
            seed=seed,
            device="cpu",
            tile_px=tile_px,
            arbitrate=False,
        ),
    )


@pytest.mark.slow
def test_it_learns_in_all_three_ways() -> None:
    _, losses, logs = learnt(TINY, batch(), 150)
    assert {"measured", "walked", "made", "guess"} <= set(logs)
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.slow
def test_pictures_alone_teach_it_too() -> None:
    """With the forward process alone nothing needs to be known of how anything was measured."""
    only = {**FLAT, "measured": 0.0}
    assert not LEARNER.needs_optics(only)
    pairs = batch((1, 24, 24), optics=False)
    network, _, logs = learnt(only, pairs, 300)
    assert set(logs) == {"made"}
    new, _, _ = learnt(only, pairs, 0)
    assert loss_of(network, pairs) < 0.8 * loss_of(new, pairs)


def test_what_it_cannot_learn_from_is_refused() -> None:
    network = LEARNER.build(TINY)
    with pytest.raises(RecipeError, match="no truth"):
        LEARNER.loss(network, batch(truth=False))
    with pytest.raises(RecipeError, match="optics of a training patch are unknown"):
        LEARNER.loss(network, batch(optics=False))
    finer = batch()
    assert finer.truth is not None
    with pytest.raises(RecipeError, match="finer"):
        LEARNER.loss(
            network,
            Batch(finer.measured, finer.truth.repeat(1, 1, 2, 2), finer.depth, finer.optics),
        )


@pytest.mark.slow
def test_it_comes_closer_to_the_truth_than_the_measurement(tmp_path: Path) -> None:
    pairs = batch((4, 32, 32))
    network, _, _ = learnt(TINY, pairs, 300)
    assert pairs.truth is not None
    with torch.inference_mode():
        found = LEARNER.predict(network.eval(), pairs.measured)[:, 0]
    middle = pairs.truth[:, 2]
    assert (found - middle).square().mean() < 0.5 * (pairs.measured[:, 2] - middle).square().mean()


def test_a_validation_tells_the_network_the_level_of_the_optics() -> None:
    pairs = batch()
    network, _, _ = learnt(TINY, pairs, 3)
    network.eval()
    with torch.inference_mode():
        told = LEARNER.predict_batch(network, pairs)
        guessed = LEARNER.predict(network, pairs.measured)
        torch.testing.assert_close(
            LEARNER.predict_batch(network, replace(pairs, optics=())), guessed
        )
        found = validate(LEARNER, network, [pairs], "cpu")
    assert pairs.truth is not None
    assert float((told - guessed).abs().max()) > 1e-5
    wanted = -10 * math.log10(float((told[:, 0] - pairs.truth[:, 2]).square().mean()))
    assert found.metrics["psnr_db"] == pytest.approx(wanted, abs=1e-3)


def test_the_start_is_the_level_of_blur_and_noise_and_can_be_chosen(
    measured: Stack, model: str
) -> None:
    notes = run(measured, model).provenance.notes
    sigma = (0.5 / 0.5, 0.2 / 0.2, 0.2 / 0.2)
    assert notes["blur at that timestep, px (z, y, x)"] == pytest.approx(sigma, abs=0.02)
    assert (
        notes["timestep"]
        == notes["timestep of the image"]
        == pytest.approx(match_timestep(sigma, 0.1).t, abs=0.05)
    )
    chosen = run(measured, model, start=0.8).provenance.notes
    assert chosen["timestep"] == 0.8
    assert chosen["timestep of the image"] == notes["timestep of the image"]


def test_steps_start_sampler_and_agreement_all_matter(measured: Stack, model: str) -> None:
    usual = run(measured, model).stack.read()
    for other in (
        {"steps": 1},
        {"steps": 20},
        {"start": 0.9},
        {"sampler": "indi"},
        {"sampler": "stochastic"},
        {"data_consistency": 0.0},
    ):
        found = run(measured, model, **other).stack.read()
        assert np.isfinite(found).all()
        assert np.abs(found - usual).max() > 0.5, other


@pytest.mark.parametrize(
    "settings", [{"data_consistency": 0.0}, {"steps": 8}, {"sampler": "stochastic", "steps": 4}]
)
def test_tiles_and_whole_agree(model: str, settings: dict[str, Any]) -> None:
    _, seen = walls((3, 280, 60), 3)
    stack = Stack.from_array(np.float32(100 * seen + 20), "ZYX", SIZE_UM)
    whole, tiled = (run(stack, model, tile_px=tile, **settings) for tile in (None, (3, 140, 60)))
    assert len(plan_run(stack, _request(model)).tiles.tiles) >= 2
    a, b = (np.asarray(r.stack.read(), np.float64) for r in (whole, tiled))
    assert np.abs(a - b).max() <= 1e-5 * np.ptp(a)


def _request(model: str) -> EnhanceRequest:
    return EnhanceRequest(
        method="diffusion", weights=model, psf=PSF, device="cpu", tile_px=(3, 140, 60)
    )


def test_samples_differ_and_their_mean_and_standard_deviation_are_given(
    measured: Stack, model: str
) -> None:
    result = run(measured, model, sampler="stochastic", samples=3)
    samples = np.asarray(result.extras["samples"].data)
    assert samples.shape[0] == 3
    assert np.abs(samples[0] - samples[1]).max() > 0.5
    assert np.allclose(samples.mean(0), result.stack.read(), atol=1e-3)
    assert np.allclose(samples.std(0, ddof=1), np.asarray(result.extras["std"].data), atol=1e-3)


def test_another_seed_gives_another_result(measured: Stack, model: str) -> None:
    a, b = (run(measured, model, sampler="stochastic", seed=s).stack.read() for s in (1, 2))
    assert np.abs(a - b).max() > 0.5


def test_samples_of_a_way_without_chance_are_refused() -> None:
    for wrong in (
        {"samples": 4},
        {"samples": 1, "sampler": "stochastic"},
        {"samples": 3, "sampler": "indi"},
    ):
        with pytest.raises(MethodError, match="stochastic"):
            EnhanceRequest(method="diffusion", settings=wrong).parameters()


def test_gain_and_offset_of_the_camera_come_through(measured: Stack, model: str) -> None:
    other = measured.with_data(np.float32(3 * measured.read() + 500))
    a, b = (run(s, model).stack.read() for s in (measured, other))
    assert np.abs(3 * a + 500 - b).max() <= 2e-3 * np.ptp(b)


def test_cancel_is_answered_within_a_step(model: str) -> None:
    _, seen = walls((8, 64, 64), 3)
    stack = Stack.from_array(np.float32(100 * seen + 20), "ZYX", SIZE_UM)
    cancel = threading.Event()
    request = EnhanceRequest(
        method="diffusion", settings={"steps": 100}, weights=model, psf=PSF, device="cpu"
    )
    fractions = []

    def until_it_stops() -> None:
        for progress in enhance_steps(stack, request, cancel):
            fractions.append(progress.fraction)
            if progress.fraction > 0.05:
                cancel.set()

    with pytest.raises(RunCancelled):
        until_it_stops()
    assert fractions[-1] < 0.05 + 2 / 100


def test_a_single_plane_is_enhanced_in_the_plane(model: str) -> None:
    _, seen = walls((1, 60, 52), 3)
    notes = run(
        Stack.from_array(np.float32(100 * seen[0] + 20), "YX", (0.2, 0.2)), model
    ).provenance.notes
    assert notes["blur at that timestep, px (z, y, x)"][0] == 0.0


def test_another_methods_weights_are_refused(tmp_path: Path, measured: Stack) -> None:
    with pytest.raises(CheckpointError, match="belongs to the method"):
        run(measured, save(tmp_path, TINY, "other", "rdn"))
