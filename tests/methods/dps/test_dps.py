"""DPS: training without a truth, resampling to the network's PSF, tiles and whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from zenhance.contract.learner import Batch
from zenhance.contract.spec import MethodContext, VolumeStatistics
from zenhance.errors import CheckpointError, RecipeError
from zenhance.methods.dps import METHOD, DpsParameters
from zenhance.methods.dps import inference as running
from zenhance.methods.dps.features import VggFeatures, feature_difference, load_features
from zenhance.methods.dps.optics import (
    INVERSION_REACH_PX,
    Inversion,
    checked,
    closer,
    measured_from,
    network_psf,
    zoom_between,
)
from zenhance.methods.dps.pairs import make_pairs, on_network_grid
from zenhance.methods.dps.training import DpsLearner
from zenhance.models.checkpoint import dump_checkpoint
from zenhance.models.header import Card
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.simulate.presets import as_microscope
from zenhance.simulate.samples import simulate
from zenhance.stack import Stack
from zenhance.types import FloatArray

LEARNER = DpsLearner()
TINY: dict[str, Any] = {"features": 6, "head": 4, "inversion": [4, 12]}
PIXEL_UM = 0.03
PSF = "srpsf:fwhm_um=0.09"
KNOWN_PX = network_psf(checked(TINY)).sigma_um[1]


@dataclass(frozen=True)
class Camera:
    """Noise of photons alone, so many in a brightness of 1."""

    photons: float
    sigma_px: tuple[float, float, float] = (0.0, KNOWN_PX, KNOWN_PX)

    @property
    def dark(self) -> float:
        return 0.0

    @property
    def base(self) -> float:
        return 0.0

    def expected(self, light: Tensor, finer: int = 1) -> Tensor:
        return light

    def variance(self, expected: Tensor) -> Tensor:
        return expected.clamp_min(0) / self.photons


def _specimen(seed: int, size: int = 96) -> tuple[FloatArray, FloatArray]:
    scope = as_microscope({"preset": "filaments_set1", "psf": PSF, "photons": 4000.0, "gain": 0.5})
    seen = simulate(
        "structures",
        seed=seed,
        shape_px=(1, size, size),
        settings={"kind": "rings"},
        microscope=scope,
    )
    measured, truth = (np.asarray(s.data, np.float32)[0] - 110 for s in (seen.measured, seen.truth))
    top = np.percentile(measured, 99.9)
    return measured / top, truth / top


def batch(size: int = 48, photons: float = 4000.0) -> Batch:
    patches = [torch.from_numpy(_specimen(seed, size)[0])[None] for seed in (1, 2, 3)]
    return Batch(torch.stack(patches), None, torch.zeros(3), (Camera(photons),) * len(patches))


def learnt(architecture: Mapping[str, Any], steps: int) -> tuple[Any, list[float]]:
    torch.manual_seed(0)
    network: Any = LEARNER.build(architecture).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    patches = batch()
    for _ in range(steps):
        loss, _ = LEARNER.loss(network, patches)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    return network.eval(), losses


def save(
    folder: Path, module: str = "extend", name: str = "tiny", method: str = "dps", **more: Any
) -> str:
    architecture = {**TINY, "module": module, **more}
    network, _ = learnt(architecture, 4)
    sample = batch(32).measured[:1]
    with torch.inference_mode():
        expected = LEARNER.predict(network, sample)
    card = Card(
        method=method,
        name=name,
        version="0",
        architecture=architecture,
        voxel_size_um=(0.1, PIXEL_UM, PIXEL_UM),
    )
    path = folder / f"{name}.safetensors"
    path.write_bytes(dump_checkpoint(card, network.state_dict(), sample, expected))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("model"))


def context(
    array: FloatArray, weights: str, psf: str = PSF, pixel_um: float = PIXEL_UM, **settings: Any
) -> MethodContext:
    from zenhance.physics.psf import parse_psf

    levels = np.percentile(array, (0.1, 99.9))
    known = VolumeStatistics(
        float(array.min()),
        float(array.max()),
        float(array.mean()),
        float(array.std()),
        float(levels[0]),
        float(levels[1]),
        100.0,
    )
    return MethodContext(
        parameters=DpsParameters(**settings), shape_px=array.shape,
        voxel_size_um=(0.1, pixel_um, pixel_um), statistics=known,
        read=lambda region: array[region], psf=parse_psf(psf), weights=weights,
    )  # fmt: skip


def drained(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def run(array: FloatArray, weights: str, **fields: Any) -> tuple[FloatArray, Any]:
    prepared = drained(METHOD.prepare(context(array, weights, **fields)))
    return drained(prepared(array, (0, 0, 0)))["enhanced"], prepared


def picture(size: int = 96, planes: int = 1, seed: int = 5) -> FloatArray:
    one, _ = _specimen(seed, size)
    rng = np.random.default_rng(seed)
    return np.asarray(
        [100 + rng.poisson(np.clip(one, 0, None) * 60 + 2) * 3.0 for _ in range(planes)], np.float32
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", ["extend", "denoise", "reconstruct", "artefacts"])
def test_every_module_learns_from_measurements_alone(module: str) -> None:
    steps = 60 if module == "extend" else 24
    _, losses = learnt(
        {**TINY, "module": module, "spectrum": 0.05 if module == "denoise" else 0.0}, steps
    )
    assert np.mean(losses[-5:]) < 0.97 * np.mean(losses[:5])


def test_what_is_seen_shares_no_noise_with_what_is_wanted() -> None:
    """Of an even field the two differ from it by noises that do not correlate."""
    flat = torch.full((4, 1, 64, 64), 0.5)
    noisy = (
        flat
        + torch.randn(flat.shape, generator=torch.Generator().manual_seed(0)) * (0.5 / 200) ** 0.5
    )
    patches = Batch(noisy, None, torch.zeros(4), (Camera(200.0),) * 4)
    a = checked({**TINY, "module": "denoise", "photons": (1e6, 1e7)})
    pairs = make_pairs(patches, a, torch.Generator().manual_seed(1))
    first, second = ((x - x.mean()).flatten() for x in (pairs.seen, pairs.wanted))
    assert abs(float((first * second).mean() / (first.std() * second.std()))) < 0.03
    assert float(first.std()) > 1.1 * (0.5 / 200) ** 0.5


def test_patches_of_another_psf_are_learnt_from_on_the_networks_grid() -> None:
    patches = batch(80)
    wide = Batch(
        patches.measured,
        None,
        patches.depth,
        (Camera(800.0, (1.0, 2 * KNOWN_PX, 1.25 * KNOWN_PX)),) * 3,
    )
    resampled = on_network_grid(wide, checked(TINY))
    assert resampled.measured.shape == (3, 1, 40, 64)
    assert float(resampled.measured.mean()) == pytest.approx(
        float(patches.measured.mean()), rel=0.02
    )
    loss, _ = LEARNER.loss(LEARNER.build(TINY), wide)
    assert bool(torch.isfinite(loss))
    assert on_network_grid(patches, checked(TINY)) is patches
    with pytest.raises(RecipeError, match="larger patch_px"):
        LEARNER.loss(
            LEARNER.build(TINY),
            Batch(patches.measured, None, patches.depth, (Camera(800.0, (1.0, 9.0, 9.0)),) * 3),
        )


def test_steps_towards_the_measurement_explain_it_better_and_keep_light() -> None:
    a = checked(TINY)
    measured, _ = _specimen(4)
    y = torch.from_numpy(measured)[None, None].clamp_min(0)
    light = torch.full((1, 1, 192, 192), float(y.mean()))
    found = [light, *closer(light, y, a, (5, 20), 0.03)]
    misfit = [float((measured_from(x, a) - y).square().mean()) for x in found]
    assert misfit[2] < 0.3 * misfit[1] < 0.3 * misfit[0]
    assert float(found[-1].mean()) == pytest.approx(float(y.mean()), rel=0.02)


def test_the_inversion_is_in_proportion_to_the_light_and_looks_no_further_than_it_says() -> None:
    a = checked({"inversion": [10, 32]})
    inversion = Inversion(a)
    y = torch.rand(1, 1, 160, 40, generator=torch.Generator().manual_seed(0))
    assert float((inversion(7 * y) / 7 - inversion(y)).abs().max()) < 1e-3
    changed = y.clone()
    changed[..., 20, :] += 1.0
    difference = (inversion(changed) - inversion(y)).abs()[0].amax((0, 2))
    assert float(difference[40:60].max()) > 0.1
    assert float(difference[2 * (20 + INVERSION_REACH_PX) :].max()) < 1e-4


def test_sharper_and_in_the_units_of_the_measurement(model: str) -> None:
    array = picture()
    found, prepared = run(array, model)
    assert found.shape == array.shape
    assert float(found.mean()) == pytest.approx(float(array.mean()), rel=0.05)
    assert float(found.min()) >= 100.0
    assert float(np.abs(np.diff(found)).max()) > 1.5 * float(np.abs(np.diff(array)).max()) / 2
    assert "none: the PSF is" in prepared.notes["resampling"]


def test_images_of_larger_pixels_take_the_weights_that_know_them(
    monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    asked: list[tuple[str | None, str]] = []

    def note(weights: str | None, default: str, _device: str) -> None:
        asked.append((weights, default))
        raise CheckpointError("enough")

    monkeypatch.setattr(running, "_loaded", note)
    array = picture()
    for weights, pixel_um in (
        (None, PIXEL_UM),
        (None, 1.5 * PIXEL_UM),
        (None, 0.6 * PIXEL_UM),
        (model, 1.5 * PIXEL_UM),
    ):
        told = replace(context(array, model, pixel_um=pixel_um), weights=weights)
        with pytest.raises(CheckpointError, match="enough"):
            drained(METHOD.prepare(told))
    assert asked == [
        (None, "dps_stack"),
        (None, "dps_coarse"),
        (None, "dps_stack"),
        (model, "dps_stack"),
    ]


def test_twice_the_light_gives_twice_the_result(model: str) -> None:
    array = picture()
    once, _ = run(array, model)
    twice, _ = run(100 + 2 * (array - 100), model)
    assert float(np.abs((twice - 100) - 2 * (once - 100)).max()) < 0.002 * float(twice.max() - 100)


def test_on_a_grid_twice_as_fine_pixels_are_the_parts_of_those_of_the_input(model: str) -> None:
    array = picture()
    coarse, _ = run(array, model)
    fine, _ = run(array, model, scale=2)
    assert fine.shape == (1, 192, 192)
    binned = fine.reshape(1, 96, 2, 96, 2).mean((2, 4))
    assert float(np.abs(binned - coarse).max()) < 0.35 * float(np.ptp(coarse))
    assert float(binned.mean()) == pytest.approx(float(coarse.mean()), rel=1e-3)


@pytest.mark.parametrize(
    ("psf", "settings"),
    [(PSF, {"scale": 2}), ("srpsf:fwhm_um=0.15", {}), ("sigma_um=0.3,0.025,0.025", {})],
)
def test_tiled_equals_whole(model: str, psf: str, settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    tile = picture(96, 2)
    array = np.tile(tile, (1, 4, 3))[:, :360, :270] * rng.uniform(0.8, 1.2, (2, 1, 1)).astype(
        np.float32
    )
    stack = Stack.from_array(array, "ZYX", (0.1, PIXEL_UM, PIXEL_UM))
    request = EnhanceRequest(
        method="dps", weights=model, psf=psf, settings=settings, device="cpu", arbitrate=False
    )
    whole = enhance(stack, request).stack.read()
    tiled = enhance(stack, request.model_copy(update={"tile_px": (1, 120, 270)})).stack.read()
    assert float(np.abs(whole - tiled).max()) < 1e-5 * float(np.ptp(whole))


def test_other_psf_widths_are_resampled_there_and_back(model: str) -> None:
    array = picture()
    found, prepared = run(array, model, psf="srpsf:fwhm_um=0.18")
    assert prepared.zooms == pytest.approx((0.5, 0.5), rel=0.03)
    assert "6 × 6 pixels wide, the network's 3" in prepared.notes["resampling"]
    assert found.shape == array.shape
    assert prepared.warnings == []
    _, narrow = run(array, model, psf="srpsf:fwhm_um=0.03")
    assert "too narrow for the camera" in narrow.warnings[0]
    assert zoom_between(1.0, 1.03) == 1.0


def test_the_background_goes_where_a_ball_is_asked_for(model: str) -> None:
    y, x = np.mgrid[:96, :96]
    hill = 300 * np.exp(-((y - 48) ** 2 + (x - 48) ** 2) / 3000)
    array = np.asarray(picture() + hill[None], np.float32)
    kept, _ = run(array, model)
    gone, prepared = run(array, model, background_um=0.6)
    assert float(np.median(gone)) < 0.5 * float(np.median(kept)) + 60
    assert prepared.halo_px[1] > run(array, model)[1].halo_px[1]


def test_continuity_averages_neighbouring_planes(model: str) -> None:
    array = picture(64, 6)
    alone, _ = run(array, model)
    together, prepared = run(array, model, continuity=1.0)
    assert prepared.halo_px[0] == 1
    assert float(together.std(0).mean()) < 0.8 * float(alone.std(0).mean())


def test_the_plan_allows_for_the_halo(model: str) -> None:
    array = picture()
    for psf, settings in (
        (PSF, {}),
        ("srpsf:fwhm_um=0.2", {"background_um": 0.5}),
        ("sigma_um=0.3,0.01,0.01", {"continuity": 0.5}),
    ):
        given = context(array, model, psf=psf, **settings)
        planned = METHOD.plan_halo_px(given)
        prepared = drained(METHOD.prepare(given))
        assert all(has <= may for has, may in zip(prepared.halo_px, planned, strict=True))


def test_it_learns_from_the_stack_itself_whatever_its_psf(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path))
    stack = Stack.from_array(picture(72, 2), "ZYX", (0.1, PIXEL_UM, PIXEL_UM), name="mine")
    result = enhance(
        stack,
        method="dps",
        weights=model,
        psf="srpsf:fwhm_um=0.13",
        learn_minutes=0.1,
        device="cpu",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["dps_mine.safetensors"]
    assert result.stack.volume_shape == stack.volume_shape
    assert bool(np.isfinite(result.stack.read()).all())


def test_weights_of_another_step_or_method_are_refused(tmp_path: Path) -> None:
    denoiser = save(tmp_path, "denoise", "denoiser")
    with pytest.raises(CheckpointError, match="trained for the step denoise; choose weights"):
        run(picture(), denoiser)
    other = save(tmp_path, "extend", "other", method="rdn")
    with pytest.raises(CheckpointError, match="belongs to the method rdn"):
        run(picture(), other)


def test_a_recipe_with_a_wrong_key_or_patch_is_refused() -> None:
    with pytest.raises(RecipeError, match="fwhm_px"):
        LEARNER.build({"fwhm": 3})
    with pytest.raises(RecipeError, match="needs at least 32 pixels"):
        LEARNER.patch_px({}, 30)
    with pytest.raises(RecipeError, match="noise must be known"):
        LEARNER.loss(LEARNER.build(TINY), Batch(torch.rand(1, 1, 48, 48), None, torch.zeros(1)))


def test_features_of_vgg_are_read_from_a_file_of_ones_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VggFeatures()
    assert [tuple(p.shape) for p in network.parameters()][::2] == [
        (64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3),
        (256, 256, 3, 3), (256, 256, 3, 3), (512, 256, 3, 3), (512, 512, 3, 3),
    ]  # fmt: skip
    path = tmp_path / "vgg16.safetensors"
    extra = {"features.28.weight": torch.zeros(1), "classifier.0.weight": torch.zeros(1)}
    save_file({**network.state_dict(), **extra}, path)
    features = load_features(str(path))
    image = torch.rand(1, 1, 32, 32)
    assert len(features(image)) == 9
    assert float(feature_difference(features, image, image)) == 0.0
    assert float(feature_difference(features, image, image.flip(-1))) > 0.0
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no weights of VGG16"):
        load_features(str(tmp_path / "other.safetensors"))
