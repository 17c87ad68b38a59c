"""DQLR: what it learns from, its errors, and tiles and whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from zenhance.contract.learner import Batch
from zenhance.errors import CheckpointError, MethodError, RecipeError
from zenhance.methods.dqlr import METHOD
from zenhance.methods.dqlr.network import Dqlr
from zenhance.methods.dqlr.training import DqlrLearner
from zenhance.models.checkpoint import dump_checkpoint
from zenhance.models.header import Card
from zenhance.pipeline import EnhanceRequest, enhance, plan_run
from zenhance.pipeline.plan import plan_volume
from zenhance.stack import Stack

LEARNER = DqlrLearner()
TINY: dict[str, Any] = {
    "features": 16,
    "inner": 8,
    "blocks": 1,
    "hidden": 8,
    "words": 16,
    "dimensions": 16,
    "levels": 2,
    "planes": 4,
}
PSF = "sigma_um=0.5,0.2,0.2"
SIZE_UM = (0.5, 0.2, 0.2)


def walls(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Thin random walls from 0 to 1, and the same blurred with noise."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), (min(2, shape[0] - 1), 4, 4))
    sharp = (np.abs(field) < 0.2 * field.std()).astype(np.float32)
    blurred = gaussian_filter(sharp, (min(1, shape[0] - 1), 1, 1))
    return sharp, np.float32(rng.poisson(30 * blurred) / 30)


def batch(shape: tuple[int, int, int] = (4, 24, 24), *, truth: bool = True) -> Batch:
    pairs = [walls(shape, seed) for seed in range(4)]
    sharp, measured = (torch.from_numpy(np.stack(images)) for images in zip(*pairs, strict=True))
    return Batch(measured, sharp if truth else None, torch.zeros(4))


def learnt(
    architecture: Mapping[str, Any], pairs: Batch, steps: int
) -> tuple[Dqlr, list[float], dict[str, float]]:
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


def save(
    folder: Path, architecture: Mapping[str, Any], name: str = "tiny", method: str = "dqlr"
) -> str:
    network, _, _ = learnt(architecture, batch(), 40)
    network.eval()
    sample = batch().measured[:1]
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
    return save(tmp_path_factory.mktemp("model"), TINY)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    form = {"window": 1, "stride": 4, "recurrence": "forward", "levels": 1, "target": "measured"}
    return save(tmp_path_factory.mktemp("model"), {**TINY, **form}, "published")


def stack(shape: tuple[int, ...] = (5, 90, 101), seed: int = 9) -> Stack:
    _, measured = walls((1, *shape) if len(shape) == 2 else shape, seed)
    # A camera's noise everywhere: a dark area of one value would count as padding.
    noise = np.random.default_rng(seed).normal(0.0, 1.0, measured.shape)
    measured = np.float32(400 * measured + 100 + noise)
    return Stack.from_array(measured.reshape(shape), "ZYX"[-len(shape) :], SIZE_UM[-len(shape) :])


def run(image: Stack, weights: str, **fields: Any) -> Any:
    return enhance(
        image, method="dqlr", weights=weights, psf=PSF, device="cpu", arbitrate=False, **fields
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{}, {"ssim": 0.1}, {"words": 0}, {"recurrence": "none"}, {"stride": 4}]
)
def test_the_loss_falls_in_sixty_steps(change: dict[str, Any]) -> None:
    _, losses, logs = learnt({**TINY, **change}, batch(), 60)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert ("prediction" in logs) == (change.get("recurrence") != "none")
    if "words" not in change:
        assert logs["perplexity_1"] > 1.5
    assert all(isinstance(value, float) for value in logs.values())


@pytest.mark.slow
def test_what_is_learnt_is_closer_to_the_truth_than_the_measurement() -> None:
    pairs = batch()
    network, _, _ = learnt(TINY, pairs, 150)
    with torch.inference_mode():
        restored = LEARNER.predict(network.eval(), pairs.measured)
    assert restored.shape == (4, 1, 24, 24)
    middle = pairs.measured.shape[1] // 2
    assert pairs.truth is not None
    truth = pairs.truth[:, middle][:, None]
    assert float((restored - truth).square().mean()) < 0.8 * float(
        (pairs.measured[:, middle][:, None] - truth).square().mean()
    )


def test_measured_slices_are_target_enough_for_the_published_form() -> None:
    form = {**TINY, "target": "measured"}
    assert LEARNER.needs_truth(TINY)
    assert not LEARNER.needs_truth(form)
    _, losses, _ = learnt(form, batch(truth=False), 40)
    assert losses[-1] < losses[0]
    with pytest.raises(RecipeError, match="a training stack has no truth; give pairs or simulated"):
        LEARNER.loss(LEARNER.build(TINY), batch(truth=False))


def test_each_part_of_the_loss_weighs_as_the_recipe_says() -> None:
    pairs = batch()
    off: dict[str, Any] = {**TINY, "absolute": 0.0, "commitment": 0.0, "prediction": 0.0}

    def loss(**weights: float) -> float:
        torch.manual_seed(0)
        network = LEARNER.build({**off, **weights}).train()
        torch.manual_seed(1)
        return float(LEARNER.loss(network, pairs)[0].detach())

    base = loss()
    for name in ("absolute", "ssim", "commitment", "prediction"):
        once, twice = loss(**{name: 1.0}) - base, loss(**{name: 2.0}) - base
        assert once > 1e-4, name
        assert twice == pytest.approx(2 * once, rel=1e-3), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 2}, "the window is 2 slices; it must be odd"),
        ({"planes": 2}, "2 slices ahead cannot be learnt from sequences of 2; give more planes"),
        (
            {"stride": 4, "blocks": 8},
            r"has a radius of \d+ pixels, at most \d+ are allowed; give fewer blocks",
        ),
        ({"stride": 3}, "stride is 3"),
        ({"word": 64}, 'called "word"; did you mean "words"'),
        ({"recurrence": "sideways"}, "recurrence is 'sideways'"),
    ],
)
def test_an_architecture_that_makes_no_sense_is_refused_in_one_sentence(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        LEARNER.build({**TINY, **change})
    assert "\n" not in str(caught.value)


def test_patches_fit_the_stride_and_the_truth_the_grid() -> None:
    assert LEARNER.patch_px(TINY, 48) == (4, 48, 48)
    with pytest.raises(RecipeError, match="patch_px is 50; it must be a multiple of the stride, 4"):
        LEARNER.patch_px({**TINY, "stride": 4}, 50)
    assert LEARNER.patch_px({**TINY, "ssim": 0.1}, 12) == (4, 12, 12)
    with pytest.raises(
        RecipeError, match="patch_px is 10; with ssim in the loss it must be more than 10"
    ):
        LEARNER.patch_px({**TINY, "ssim": 0.1}, 10)
    pairs = batch()
    assert pairs.truth is not None
    fine = Batch(
        pairs.measured, pairs.truth.repeat_interleave(2, 2).repeat_interleave(2, 3), pairs.depth
    )
    with pytest.raises(
        RecipeError,
        match="the truth has finer pixels than the measurement, but this method does not",
    ):
        LEARNER.loss(LEARNER.build(TINY), fine)


@pytest.mark.parametrize("settings", [{}, {"data_consistency": 0.0}])
@pytest.mark.parametrize("kind", ["model", "published"])
def test_tiled_equals_whole(
    kind: str, settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    weights = request.getfixturevalue(kind)
    image = stack()
    whole = run(image, weights, settings={**settings, "codes": True})
    again = run(image, weights, settings={**settings, "codes": True})
    assert np.array_equal(whole.stack.data, again.stack.data), (
        "the same input gives the same output"
    )
    span = np.percentile(whole.stack.data, 99.9) - np.percentile(whole.stack.data, 0.1)
    for tile_px in ((5, 24, 36), (3, 52, 101)):
        tiled = run(image, weights, settings={**settings, "codes": True}, tile_px=tile_px)
        assert tiled.provenance.tiles["count"] >= 4
        assert np.abs(tiled.stack.data - whole.stack.data).max() <= 1e-5 * span
        assert np.array_equal(tiled.extras["codes"].data, whole.extras["codes"].data)
        assert tiled.provenance.curves == whole.provenance.curves, (
            "what several tiles read is counted once"
        )
        assert tiled.provenance.notes["perplexity"] == whole.provenance.notes["perplexity"]


def test_the_result_keeps_grid_voxel_size_and_units(model: str) -> None:
    image = stack()
    result = run(image, model).stack
    assert result.shape == image.shape
    assert result.voxel_size.zyx_um == image.voxel_size.zyx_um
    assert result.data.dtype == np.float32
    assert np.isfinite(result.data).all()
    assert np.median(result.data) == pytest.approx(
        np.median(image.data), abs=float(0.2 * np.ptp(image.data))
    )
    plain, other = (
        run(i, model, settings={"data_consistency": 0.0}).stack.data
        for i in (image, image.with_data(10 * image.data + 50))
    )
    assert np.abs((other - 50) / 10 - plain).max() <= 5e-3 * np.ptp(plain)
    away, near = (
        np.abs(run(image, model, settings={"data_consistency": s}).stack.data - plain).mean()
        for s in (1.0, 0.1)
    )
    assert away > 2 * near > 0


def test_an_image_of_one_plane_is_enhanced(model: str) -> None:
    flat = run(stack((61, 70)), model, settings={"codes": True})
    assert flat.stack.shape == flat.extras["codes"].shape == (61, 70)
    assert np.isfinite(flat.stack.data).all()
    assert flat.stack.data.std() > 0
    assert flat.stack.data.mean() == pytest.approx(stack((61, 70)).data.mean(), rel=0.2), (
        "however little light the noise leaves"
    )
    tiled = run(stack((61, 70)), model, tile_px=(1, 32, 32))
    assert np.abs(tiled.stack.data - flat.stack.data).max() <= 1e-5 * np.ptp(flat.stack.data)


def test_codes_are_labels_and_their_use_is_recorded(model: str) -> None:
    image = stack()
    result = run(image, model, settings={"codes": True})
    codes = result.extras["codes"]
    assert codes.shape == image.shape
    assert codes.data.dtype.kind in "iu"
    used = np.unique(codes.data)
    assert 4 < len(used) <= TINY["words"]
    assert used.min() >= 1
    assert used.max() <= TINY["words"]
    blocks = codes.data[:, :90:2, :100:2]
    assert np.array_equal(blocks, codes.data[:, 1:90:2, 1:101:2]), (
        "a word fills the pixels of its latent"
    )
    curves, notes = result.provenance.curves, result.provenance.notes
    assert [len(curves[f"codes used, level {n}"]) for n in (1, 2)] == [16, 16]
    assert {i + 1 for i, n in enumerate(curves["codes used, level 1"]) if n} >= set(used.tolist())
    assert len(notes["perplexity"]) == 2
    assert all(sum(counts) == 5 * 45 * 51 for counts in curves.values()), (
        "each latent of the image counts once"
    )
    share = np.array(curves["codes used, level 1"]) / sum(curves["codes used, level 1"])
    expected = np.exp(-sum(p * np.log(p) for p in share if p > 0))
    assert notes["perplexity"][0] == pytest.approx(expected, abs=0.06)
    assert notes["model"] == "tiny"
    assert "codes" not in run(image, model).extras


def test_without_dictionary_there_are_no_codes_to_tell_of(tmp_path: Path) -> None:
    result = run(stack((3, 40, 44)), save(tmp_path, {**TINY, "words": 0}), settings={"codes": True})
    assert not result.extras["codes"].data.any()
    assert "perplexity" not in result.provenance.notes
    assert not result.provenance.curves


def test_weights_of_another_method_or_shape_are_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(CheckpointError, match='"foreign" belongs to the method srcnn, not to dqlr'):
        run(stack((3, 40, 44)), save(tmp_path, TINY, "foreign", "srcnn"))
    with pytest.raises(CheckpointError, match="belongs to the method dqlr, not to rdn"):
        enhance(stack((3, 40, 44)), method="rdn", weights=model, device="cpu")


@pytest.mark.parametrize(
    "settings", [{"preset": "best"}, {"code": True}, {"data_consistency": 1.5}]
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any], model: str) -> None:
    with pytest.raises(MethodError):
        run(stack((3, 40, 44)), model, settings=settings)


@pytest.mark.parametrize(("free_gb", "most_work"), [(16, 2.0), (6, 3.5)])
def test_a_deep_stack_is_cut_along_y_and_x_only(
    free_gb: int, most_work: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recurrence needs all planes, so that tiles along z would read them all again."""
    monkeypatch.setattr("zenhance.pipeline.plan.free_bytes", lambda device: free_gb * 10**9)
    shape = (200, 2048, 2048)
    image = Stack.from_array(np.broadcast_to(np.uint16(1), shape), "ZYX", SIZE_UM)
    request = EnhanceRequest(method="dqlr", device="cpu", psf=PSF, arbitrate=False)
    planned = plan_run(image, request)
    used = plan_volume(METHOD, request, shape, (200, 24, 24), "cpu")
    for plan, limit in ((planned.tiles, most_work), (used, 1.5)):
        assert all(tile.core[0] == slice(0, 200) for tile in plan.tiles)
        read = sum(
            np.prod([s.stop - s.start for s in tile.read], dtype=np.int64) for tile in plan.tiles
        )
        assert read < limit * np.prod(shape, dtype=np.int64)
    assert planned.working_bytes <= free_gb * 10**9 / 2


def test_it_can_be_stopped_in_between(model: str) -> None:
    """Every part yields, so that Cancel is answered."""
    seen: list[str] = []
    run(stack(), model, on_progress=lambda progress: seen.append(progress.stage))
    assert seen.count("enhance") >= 5
