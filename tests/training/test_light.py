"""Light that a method finds in a whole volume before it learns, cut and turned as patches."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.rivals import FineMicroscope
from zenhance.errors import RunCancelled
from zenhance.methods.dps.network import enlarged, pooled
from zenhance.methods.dps.optics import Inversion, checked, closer, measured_from
from zenhance.methods.dps.pairs import light_of, make_pairs
from zenhance.methods.dps.training import DpsLearner
from zenhance.physics.psf import parse_psf
from zenhance.simulate.specimen import Grid
from zenhance.simulate.structures import Structures
from zenhance.training.data import TrainingVolume, volume_steps
from zenhance.training.loop import train_steps
from zenhance.training.patches import PatchSampler
from zenhance.training.recipe import Recipe
from zenhance.training.session import optics_steps

ARCHITECTURE = {
    "features": 4,
    "head": 4,
    "inversion": [2, 4],
    "variation": 0.0,
    "again": 1.0,
    "refined": 60,
    "photons": [50.0, 500.0],
}


def _recipe(fwhm_um: float = 0.09, photons: float = 10000.0) -> Recipe:
    camera = {
        "preset": "filaments_set1",
        "psf": f"srpsf:fwhm_um={fwhm_um}",
        "photons": photons,
        "gain": 0.2,
        "background_photons": 20.0,
    }
    plan = {
        "specimen": "structures",
        "count": 1,
        "validation": 1,
        "seed": 7,
        "shape_px": [1, 96, 96],
        "measured_only": True,
    }
    data = {
        "simulated": [
            {
                **plan,
                "voxel_size_um": [0.1, 0.03, 0.03],
                "settings": {"kind": "filaments"},
                "microscopes": [camera],
            }
        ]
    }
    return Recipe(
        method="dps",
        name="tiny",
        architecture=ARCHITECTURE,
        data=data,
        patch_px=40,
        batch=4,
        steps=2,
        validate_every=2,
        validation_patches=2,
    )


def drained(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def _volumes(recipe: Recipe) -> list[TrainingVolume]:
    return list(drained(volume_steps(recipe))[0])


def test_whoever_waits_for_what_is_looked_at_before_is_told_and_can_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    steps = train_steps(_recipe(), tmp_path / "run", device="cpu", stop=stop)
    told = [next(steps) for _ in range(3)]
    assert {(progress.stage, progress.step) for progress in told} == {("data", 0)}
    assert told[-1].fraction > 0
    stop.set()
    with pytest.raises(RunCancelled, match="stopped before its first step"):
        next(steps)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_volume_in_both_lists_is_looked_at_once() -> None:
    (volume,) = _volumes(_recipe())
    (train,), (held,) = drained(optics_steps(_recipe(), DpsLearner(), ([volume], [volume])))
    assert train is held
    assert train.light is not None


def test_light_is_cut_and_turned_with_the_patch_it_belongs_to() -> None:
    learner = DpsLearner()
    ((volume,), _) = drained(optics_steps(_recipe(), learner, (_volumes(_recipe()), [])))
    batch = PatchSampler([volume], (1, 40, 40), 12, 0, with_optics=True).draw(0)
    assert batch.light is not None
    assert batch.light.shape == (12, 1, 80, 80)
    image = measured_from(batch.light, checked(ARCHITECTURE))[..., 8:-8, 8:-8]
    for found, seen in zip(image, batch.measured[..., 8:-8, 8:-8], strict=True):
        assert float(np.corrcoef(found.flatten(), seen.flatten())[0, 1]) > 0.97
    sharper = (
        pooled(batch.light).diff(dim=-1).abs().mean() / batch.measured.diff(dim=-1).abs().mean()
    )
    assert float(sharper) > 1.3


def test_light_of_another_psf_is_found_in_the_batch_instead() -> None:
    recipe = _recipe(0.15)
    ((volume,), _) = drained(optics_steps(recipe, DpsLearner(), (_volumes(recipe), [])))
    assert volume.optics_of is not None
    assert volume.light is None


def test_in_a_dim_stack_no_light_is_sought_and_noise_is_shared_out_instead(tmp_path: Path) -> None:
    recipe = _recipe(photons=100.0)
    ((volume,), _) = drained(optics_steps(recipe, DpsLearner(), (_volumes(recipe), [])))
    assert volume.light is None
    logs = [
        set(progress.logs)
        for progress in train_steps(recipe, tmp_path / "run", device="cpu")
        if progress.stage == "train"
    ]
    assert logs
    assert all(names == {"intensity"} for names in logs)


def test_training_on_it_runs_to_a_model_and_the_loss_says_how_well_it_is_found_again(
    tmp_path: Path,
) -> None:
    logs = [
        dict(progress.logs)
        for progress in train_steps(_recipe(), tmp_path / "run", device="cpu")
        if progress.step
    ]
    assert all(np.isfinite(entry["again"]) for entry in logs if entry)
    assert len(logs) >= 2
    assert (tmp_path / "run" / "tiny.safetensors").is_file()


@pytest.mark.parametrize(("kind", "settings"), [("areas", {"scale_um": 2.0}), ("filaments", {})])
def test_light_is_about_as_near_to_the_truth_as_the_better_way_of_richardson_lucy(
    kind: str, settings: dict[str, float]
) -> None:
    """Total variation alone loses lines, none breaks areas up; the mixture does well on both."""
    architecture = checked({**ARCHITECTURE, "refined": 200})
    microscope = FineMicroscope(parse_psf("srpsf:fwhm_um=0.09", 2), 0.03)
    density = (
        Structures.model_validate({"kind": kind, **settings})
        .render(Grid((1, 256, 256), (0.1, 0.015, 0.015)), 77)
        .density[0, 0]
    )
    expected = microscope.expected(density)
    truth, expected = (
        density / np.percentile(expected, 99.9),
        expected / np.percentile(expected, 99.9),
    )
    photons = 40_000.0
    counted = np.random.default_rng(0).poisson((expected + 0.02) * photons) / photons - 0.02
    y = torch.from_numpy(counted.astype(np.float32))[None, None]
    begun, pedestal = Inversion(architecture).begin(y)
    around = enlarged(Inversion(architecture).brightness(y.abs()) + 1e-6)
    with torch.no_grad():
        plain = next(closer(begun, y, architecture, (200,), pedestal))
        even = next(
            closer(
                begun,
                y,
                architecture.model_copy(update={"variation": 0.003}),
                (80,),
                pedestal,
                0.05 * around,
            )
        )
    found = light_of(y, torch.full((1, 1, 1, 1), photons), architecture)

    def apart(light: torch.Tensor) -> float:
        inside = (slice(24, -24),) * 2
        return float(np.square(light[0, 0].numpy() - truth)[inside].mean())

    assert apart(found) < 1.3 * min(apart(plain), apart(even))
    assert apart(found) < 0.75 * max(apart(plain), apart(even))


def test_some_patches_are_seen_as_by_a_camera_of_larger_pixels() -> None:
    recipe = _recipe()
    volumes, _ = drained(optics_steps(recipe, DpsLearner(), (_volumes(recipe), [])))
    batch = PatchSampler(volumes, (1, 40, 40), 12, 0, with_optics=True).draw(0)
    draws = [
        make_pairs(
            batch, checked({**ARCHITECTURE, "coarse": share}), torch.Generator().manual_seed(3)
        )
        for share in (0.0, 1.0)
    ]
    for pairs in draws:
        assert pairs.seen.shape == batch.measured.shape
        assert (
            float((pairs.seen.mean((1, 2, 3)) / batch.measured.mean((1, 2, 3)) - 1).abs().mean())
            < 0.05
        )
    likeness = []
    for pairs in draws:
        assert pairs.known is not None
        noise = (pairs.seen - measured_from(pairs.known, checked(ARCHITECTURE)))[..., 8:-8, 8:-8]
        likeness.append(float((noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean()))
    assert abs(likeness[0]) < 0.1
    assert likeness[1] > 0.3
