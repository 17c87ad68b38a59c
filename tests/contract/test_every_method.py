"""The contract of every method in the registry."""

from __future__ import annotations

import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from tiny_model import PSF, SIZE_UM, walls
from zenhance.contract import registry
from zenhance.contract.learner import LearningMethod
from zenhance.io import open_sample, sample_names
from zenhance.models.catalogue import find_weights
from zenhance.models.checkpoint import dump_checkpoint, read_checkpoint
from zenhance.pipeline import EnhanceRequest, EnhanceResult
from zenhance.pipeline.run import enhance_steps
from zenhance.stack import Stack
from zenhance.steps import drain

NAMES = registry.names()
LEARNT = [name for name in NAMES if isinstance(registry.load(name), LearningMethod)]
SHAPE = (4, 40, 44)
# Fewer steps and samples: the contract holds for any number.
QUICK = {"diffusion": {"steps": 2}, "divblurring": {"samples": 2}}


def stack() -> Stack:
    data = walls(1, SHAPE)[0]
    data.setflags(write=False)
    return Stack.from_array(data, "ZYX", SIZE_UM, name="walls")


def run(name: str, **fields: Any) -> EnhanceResult:
    settings = QUICK.get(name, {})
    # The contract is the method's own; what arbitration makes of it has tests of its own.
    fields = {"method": name, "psf": PSF, "device": "cpu", "settings": settings} | fields
    fields = {"arbitrate": False} | fields
    return drain(enhance_steps(stack(), EnhanceRequest(**fields)))


@cache
def whole(name: str) -> EnhanceResult:
    return run(name)


def pixels(result: EnhanceResult) -> np.ndarray[Any, Any]:
    return np.asarray(result.stack.data)


@pytest.mark.parametrize("name", NAMES)
def test_the_result_has_the_declared_shape_type_and_outputs(name: str) -> None:
    result = whole(name)
    parameters = registry.load(name).spec.parameters(**QUICK.get(name, {}))
    scale = parameters.output_scale
    assert result.stack.shape == tuple(n * s for n, s in zip(SHAPE, scale, strict=True))
    assert result.stack.dtype == np.float32
    assert np.isfinite(pixels(result)).all()
    assert list(result.extras) == [output.name for output in parameters.outputs[1:]]
    assert pixels(result).std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_neither_written_to_nor_returned(name: str) -> None:
    # The input is read-only: a method that writes into it fails in the run.
    assert not np.shares_memory(pixels(whole(name)), np.asarray(stack().data))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_pixels(name: str) -> None:
    assert np.array_equal(pixels(run(name)), pixels(whole(name)))


@pytest.mark.parametrize("name", NAMES)
def test_tiles_give_the_pixels_of_the_whole(name: str) -> None:
    tiled, one = run(name, tile_px=(SHAPE[0], 16, 24)), whole(name)
    assert one.provenance.tiles["count"] == 1
    assert tiled.provenance.tiles["count"] > 1
    difference = np.abs(pixels(tiled) - pixels(one)).max()
    assert difference <= 1e-4 * np.ptp(pixels(one))


@pytest.mark.parametrize("shift", [-32768, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_a_constant_added_to_the_data_is_added_to_the_result_and_nothing_else(
    name: str, shift: int
) -> None:
    rng = np.random.default_rng(8)
    photons = np.full(SHAPE, 3.0)
    photons[:, 12:20, 10:30] += 40.0
    data = (100 + 2 * rng.poisson(photons)).astype(np.int16)
    request = EnhanceRequest(
        method=name,
        psf=PSF,
        device="cpu",
        settings=QUICK.get(name, {}),
        dtype="float32",
        arbitrate=False,
    )
    plain, moved = (
        pixels(drain(enhance_steps(Stack.from_array(d, "ZYX", SIZE_UM), request)))
        for d in (data, data + np.int16(shift))
    )
    # Near 32768, float32 has steps of 1/256 grey value.
    assert np.abs(moved.astype(float) - shift - plain).max() <= 0.05


@pytest.mark.parametrize("name", LEARNT)
def test_a_checkpoint_that_is_written_again_gives_the_same_pixels(
    name: str, tmp_path: Path
) -> None:
    default = registry.load(name).spec.parameters(**QUICK.get(name, {})).weights
    kept = read_checkpoint(find_weights(name, None, default))
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(dump_checkpoint(kept.card, kept.state, kept.test_input, kept.test_output))
    assert np.array_equal(pixels(run(name, weights=str(copy))), pixels(whole(name)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_another_device_gives_nearly_the_same_pixels(name: str) -> None:
    there, here = pixels(run(name, device="cuda")), pixels(whole(name))
    assert np.abs(there - here).mean() <= 1e-2 * np.ptp(here)


TISSUE_SHAPE = (4, 96, 104)
# The filled-in rim is inside the receptive field of most networks up to here.
CENTRE = (slice(None), slice(38, -38), slice(38, -38))


@cache
def tissue() -> np.ndarray[Any, Any]:
    """Return blurred walls with photon noise on a dark, noisy background, in whole grey values."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices(TISSUE_SHAPE)
    walls_ = (((y + z) % 23 < 3) | ((x - z) % 19 < 3)).astype(np.float64)
    photons = 100.0 * ndimage.gaussian_filter(walls_, (1.0, 1.2, 1.2)) + 10.0
    return np.rint(100.0 + 2.0 * rng.poisson(photons) + rng.normal(0.0, 1.5, TISSUE_SHAPE)).astype(
        np.float32
    )


def run_on(
    name: str, image: np.ndarray[Any, Any], background: float | None = 118.0
) -> EnhanceResult:
    settings = QUICK.get(name, {})
    request = EnhanceRequest(
        method=name,
        psf=PSF,
        device="cpu",
        settings=settings,
        background=background,
        arbitrate=False,
    )
    return drain(enhance_steps(Stack.from_array(image, "ZYX", SIZE_UM), request))


@cache
def on_tissue(name: str) -> EnhanceResult:
    return run_on(name, tissue())


def robust_range(image: np.ndarray[Any, Any]) -> float:
    return float(np.percentile(image, 99.9) - np.percentile(image, 0.1))


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_total_is_said_in_a_warning(name: str) -> None:
    result = on_tissue(name)
    background = 118.0
    before = tissue().mean(dtype=np.float64) - background
    after = pixels(result).mean(dtype=np.float64) - background
    change = 100.0 * (after / before - 1.0)
    said = [w for w in result.provenance.warnings if w.startswith("the total intensity above")]
    assert bool(said) == (abs(change) > 2.0), change
    if said:
        found = re.search(r"changed by ([+-][0-9]+) %", said[0])
        assert found is not None
        assert int(found[1]) == pytest.approx(change, abs=0.6)


# Of a rim without data: its value and its width.
RIMS = {"zeros": (0.0, 2), "constant": (7.0, 3), "NaN": (np.nan, 2)}


@pytest.mark.parametrize("name", NAMES)
def test_a_rim_without_data_does_not_change_the_centre(name: str) -> None:
    """The background is estimated: every number that is measured must leave the rim out."""
    expected = pixels(run_on(name, tissue(), background=None))
    for value, width in RIMS.values():
        image = np.full(TISSUE_SHAPE, value, np.float32)
        inside = (slice(None), slice(width, -width), slice(width, -width))
        image[inside] = tissue()[inside]
        result = pixels(run_on(name, image, background=None))
        outside = np.ones(TISSUE_SHAPE, bool)
        outside[inside] = False
        np.testing.assert_array_equal(result[outside], value)
        difference = np.abs(result - expected)[CENTRE].max()
        assert difference <= 0.01 * robust_range(expected), (value, width)


@pytest.mark.parametrize("name", NAMES)
def test_one_hot_pixel_changes_nothing_elsewhere(name: str) -> None:
    place = (2, 48, 52)
    hot, mended = tissue().copy(), tissue().copy()
    hot[place] = 65535.0
    around = tissue()[2, 47:50, 51:54].ravel()
    mended[place] = np.median(np.delete(around, 4))
    expected = pixels(run_on(name, mended))
    result = run_on(name, hot)
    difference = np.abs(pixels(result) - expected).max()
    assert difference <= 1e-3 * robust_range(expected)
    assert any(said.startswith("1 hot or dead pixel") for said in result.provenance.warnings)


# Parts of the bundled sample on which a method takes seconds at most.
PARTS = {"srcnn": (40, 160, 160), "rdn": (40, 160, 160), "identity": (40, 160, 160)}
PARTS |= {"gaussian_deconvolution": (40, 160, 160), "dqlr": (24, 160, 160), "dps": (12, 64, 64)}


@pytest.mark.parametrize("name", NAMES)
def test_progress_rises_with_the_work(name: str) -> None:
    sample = open_sample(sample_names()[0])
    depth, height, width = PARTS.get(name, (16, 96, 96))

    def passes(*size: int) -> list[tuple[float, float]]:
        """Return fraction and CPU seconds, which other programs do not change, at each step."""
        crop = tuple((0, n) for n in size)
        started, seen = time.process_time(), []
        request = EnhanceRequest(method=name, device="cpu", crop=crop)
        for progress in enhance_steps(sample, request):
            seen.append((progress.fraction, time.process_time() - started))
        return [*seen, (1.0, time.process_time() - started)]

    passes(2, 32, 32)  # imports and caches
    found = passes(depth, height, width)
    fractions = [fraction for fraction, _ in found]
    assert fractions == sorted(fractions)
    assert len({round(fraction, 3) for fraction in fractions}) >= 10
    total = found[-1][1]
    told = [
        (spent * (1 - fraction) / fraction) / (total - spent)
        for fraction, spent in found
        if fraction >= 0.1 and 0.1 * total <= spent <= 0.8 * total
    ]
    if total < 1.0:
        return  # the time left is not shown for so short a run
    assert 0.5 <= float(np.median(told)) <= 2.0, told
    assert float(np.mean([0.5 <= ratio <= 2.0 for ratio in told])) >= 0.8, told
