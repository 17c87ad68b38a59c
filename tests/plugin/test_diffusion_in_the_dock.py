"""Diffusion in the dock: its start is shown and can be changed; several runs give samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter


@pytest.fixture
def dim(bench):
    """A small dim stack, added to the viewer with its voxel size."""
    rng = np.random.default_rng(1)
    sharp = (np.abs(gaussian_filter(rng.normal(size=(5, 40, 44)), (1, 4, 4))) < 0.004).astype(float)
    seen = rng.poisson(40 * gaussian_filter(sharp, (1, 1, 1)) + 1).astype(np.uint16)
    return bench.add(seen, scale=(0.5, 0.22, 0.22), units=("um", "um", "um"))


def test_the_level_is_told_after_the_run_and_a_chosen_one_is_too(bench, dim):
    bench.choose("diffusion", steps=2)
    (enhanced,) = bench.run()
    assert enhanced.data.shape == dim.data.shape
    assert "started at timestep" in bench.dock.panel.note.text()
    bench.choose("diffusion", steps=2, start=0.9)
    bench.run()
    assert "started at timestep 0.90 as set" in bench.dock.panel.note.text()


def test_runs_with_chance_come_as_samples_and_deviation(bench, dim):
    bench.choose("diffusion", steps=2, sampler="stochastic", samples=3)
    enhanced, std, samples = bench.run()
    assert samples.data.shape == (3, *dim.data.shape)
    assert np.allclose(np.asarray(samples.data).mean(0), enhanced.data, rtol=1e-3, atol=0.05)
    assert float(np.asarray(std.data).max()) > 0


def test_samples_without_chance_are_explained(bench, dim, said):
    bench.choose("diffusion", samples=4)
    bench.dock.panel.enhance.click()
    assert any("stochastic" in text for _, text in said)
