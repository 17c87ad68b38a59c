"""What every method of the registry keeps to; a new method is tested by its line there."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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
# Less of what is slow: the contract holds for any number of steps and samples.
QUICK = {"diffusion": {"steps": 2}, "divblurring": {"samples": 2}}


def stack() -> Stack:
    data = walls(1, SHAPE)[0]
    data.setflags(write=False)
    return Stack.from_array(data, "ZYX", SIZE_UM, name="walls")


def run(name: str, **fields: Any) -> EnhanceResult:
    settings = QUICK.get(name, {})
    fields = {"method": name, "psf": PSF, "device": "cpu", "settings": settings} | fields
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
        method=name, psf=PSF, device="cpu", settings=QUICK.get(name, {}), dtype="float32"
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
    assert float(np.mean([0.5 <= ratio <= 2.0 for ratio in told])) >= 0.7, told
