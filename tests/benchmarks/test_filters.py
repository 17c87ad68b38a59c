"""References and filters of the quality table."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.filters import FILTERS, anscombe, inverse_anscombe
from benchmarks.peak_memory import PeakMemory
from benchmarks.scenes import Plan
from zenhance.physics.noise import PoissonGauss


@pytest.mark.parametrize("photons", [5.0, 20.0, 200.0])
def test_the_transformed_noise_has_a_standard_deviation_of_one_and_returns_to_its_mean(
    photons: float,
) -> None:
    camera = PoissonGauss(12.0, 100.0, 4.0)
    rng = np.random.default_rng(0)
    grey = (
        camera.gain * rng.poisson(photons, 60_000)
        + camera.offset
        + rng.normal(0, camera.read_noise, 60_000)
    ).astype(np.float32)
    even = anscombe(grey, camera)
    assert even.std() == pytest.approx(1.0, abs=0.05)
    back = inverse_anscombe(np.full(1, even.mean(), np.float32), camera)
    # The asymptotically unbiased inverse is within a few hundredths of a photon from 5 photons on.
    assert back[0] == pytest.approx(grey.mean(dtype=np.float64), abs=0.05 * camera.gain)


@pytest.mark.parametrize("name", ["gaussian_smoothing", "total_variation", "non_local_means"])
def test_a_filter_at_its_best_strength_is_closer_to_the_truth_than_a_dim_measurement(
    name: str,
) -> None:
    scene = Plan("dim", "meristem", 5, (12, 40, 40), (0.5, 0.22, 0.22), {"preset": "dim"}).make()
    image, seconds, note = FILTERS[name](scene)

    def error(volume: np.ndarray) -> float:
        return float(np.square(volume.astype(np.float64) - scene.truth).mean())

    assert error(image) < 0.9 * error(scene.measured.read())
    assert seconds > 0
    assert note


def test_larger_pixels_enlarged_again_keep_a_smooth_image() -> None:
    scene = Plan(
        "t", "meristem", 5, (4, 40, 40), (0.5, 0.22, 0.22), {"photons": 1e4, "gain": 1.0}
    ).make()
    image, _, _ = FILTERS["cubic_x2"](scene)
    assert image.shape == scene.truth.shape
    coarse = scene.binned(2).measured.read()
    inner = image[:, 8:-8, 8:-8].reshape(4, 12, 2, 12, 2).mean(axis=(2, 4))
    assert np.abs(inner - coarse[:, 4:-4, 4:-4]).mean() < 0.02 * np.ptp(coarse)


def test_peak_memory_sees_what_was_freed_again() -> None:
    with PeakMemory() as memory:
        block = np.ones(100 * 2**20, np.uint8)
        del block
    if memory.peak_bytes is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert 90 * 2**20 < memory.peak_bytes < 160 * 2**20
    with PeakMemory() as idle:
        pass
    assert idle.peak_bytes is not None
    assert idle.peak_bytes < 20 * 2**20
