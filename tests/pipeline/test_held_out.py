"""Photons that are held out decide: learning never ends worse than it began, and says so."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tiny_model import PSF, small_stack, tiny_model, walls
from zenhance.models.catalogue import list_weights
from zenhance.models.checkpoint import read_checkpoint
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.thinning import grey_of_share, split_photons
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.pipeline.held_out import SEEN_SHARE, Errors, HeldOut, is_better
from zenhance.stack import Stack
from zenhance.training import loop


def scene() -> tuple[HeldOut, np.ndarray[Any, Any]]:
    """A measurement with divided photons, and the truth behind it."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=(8, 64, 64)), (2, 4, 4))
    truth = np.where(np.abs(field) < 0.2 * field.std(), 300.0, 20.0)
    seen = gaussian_filter(truth, (0.6, 1.25, 1.25), mode="nearest")
    noise = PoissonGauss(2.0, 50.0, 1.0)
    measured = np.float32(rng.poisson(seen / 2) * 2.0 + 50 + rng.normal(0, 1, seen.shape))
    kept, rest = split_photons(measured, noise, SEEN_SHARE)
    held = grey_of_share(rest, noise, 1 - SEEN_SHARE)
    stack = Stack.from_array(grey_of_share(kept, noise, SEEN_SHARE), "ZYX", (0.5, 0.2, 0.2))
    request = EnhanceRequest(method="gaussian_deconvolution", psf="sigma_um=0.3,0.25,0.25")
    return HeldOut(stack, held, noise, request), np.float32(truth + 50)


def test_the_truth_beats_the_measurement_and_what_is_worse_never_wins() -> None:
    held, truth = scene()
    measured = held.errors()
    assert is_better(held.errors(truth), measured)
    # One but for the weights, which are taken from noisy photons; at the edges the blur differs.
    inside = held.errors(truth).plain[2:-2, 6:-6, 6:-6]
    assert inside.mean() == pytest.approx(1.0, abs=0.1)
    dim = 50 + 0.8 * (truth - 50)
    shifted = np.roll(truth, 3, axis=2)
    rough = truth + np.float32(
        80 * gaussian_filter(np.random.default_rng(5).normal(size=truth.shape), 1.5) / 0.1
    )
    for worse in (dim, shifted, rough):
        assert not is_better(held.errors(worse), held.errors(truth))
    assert not is_better(held.errors(truth), held.errors(truth)), "the same is no better"
    broken = Errors(*(np.full_like(measured.plain, np.nan),) * 2)
    assert not is_better(broken, measured)


def test_a_better_scale_alone_is_no_better_model() -> None:
    held, truth = scene()
    dim, blunt = 50 + 0.7 * (truth - 50), gaussian_filter(truth, (0.3, 0.7, 0.7))
    # The shipped model has the structure but not the scale, the learnt one the reverse.
    before, after = held.errors(np.float32(dim)), held.errors(np.float32(blunt))
    assert after.plain.mean() < before.plain.mean()
    assert not is_better(after, before)
    # Nor is a model believed that keeps the structure and loses the light.
    assert not is_better(held.errors(np.float32(50 + 0.3 * (truth - 50))), held.errors(blunt))


def test_a_gain_within_the_noise_is_not_believed() -> None:
    """Of 200 pairs of equal models none is taken for better than the other."""
    rng = np.random.default_rng(0)
    held, truth = scene()
    for _ in range(200):
        one, two = (
            held.errors(truth + np.float32(rng.normal(0.0, 3.0, truth.shape))) for _ in range(2)
        )
        assert not is_better(one, two)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same network, hardly trained and trained for longer."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "poor": tiny_model(folder / "poor", "poor", steps=1),
        "good": tiny_model(folder / "good", "good", steps=200),
    }


def learn(
    models: dict[str, Path], start: str, learnt: str, monkeypatch: pytest.MonkeyPatch, home: Path
) -> Any:
    """Learn with a trainer that gives a model of our choice."""

    def fake(recipe: Any, folder: Path, **_: Any) -> Generator[Any, None, Any]:
        yield loop.TrainProgress("train", 1, 1, 0.5, None, 0.1)
        path = models[learnt]
        return loop.TrainResult(path, read_checkpoint(path).card, "done", ())

    monkeypatch.setattr(loop, "train_steps", fake)
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(home / "weights"))
    weights = "none" if start == "none" else str(models[start])
    return enhance(
        small_stack(3), method="dqlr", weights=weights, learn_minutes=0.05, psf=PSF, device="cpu"
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def own_models() -> list[str]:
    return [entry.name for entry in list_weights("dqlr") if not entry.ships]


def test_a_learner_that_gets_worse_changes_nothing_and_says_so(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = learn(models, "good", "poor", monkeypatch, tmp_path)
    record = result.provenance
    assert any("learning changed nothing" in warning for warning in record.warnings)
    assert record.weights_sha256 == sha256(models["good"])
    notes = record.notes["learnt"]
    assert notes["used"] is False
    assert notes["held_out_error_before"] <= notes["held_out_error_after"]
    assert own_models() == []
    plain = enhance(
        small_stack(3), method="dqlr", weights=str(models["good"]), psf=PSF, device="cpu"
    )
    np.testing.assert_array_equal(result.stack.data, plain.stack.data)


def test_a_learner_that_learns_nothing_changes_nothing(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = learn(models, "good", "good", monkeypatch, tmp_path)
    assert any("learning changed nothing" in said for said in result.provenance.warnings)


def test_a_learner_that_gets_better_is_kept(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = learn(models, "poor", "good", monkeypatch, tmp_path)
    notes = result.provenance.notes["learnt"]
    assert notes["used"] is True
    assert notes["held_out_error_after"] < notes["held_out_error_before"]
    assert not any("changed nothing" in said for said in result.provenance.warnings)
    assert len(own_models()) == 1


def test_from_random_weights_the_measurement_is_what_must_be_beaten(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = learn(models, "none", "poor", monkeypatch, tmp_path)
    held_out = result.provenance.notes["learnt"]
    said = any("no better than the measurement" in w for w in result.provenance.warnings)
    assert said == (held_out["held_out_error_after"] >= held_out["held_out_error_before"])
    truth = walls(3)[1]
    assert truth.shape == result.stack.shape
