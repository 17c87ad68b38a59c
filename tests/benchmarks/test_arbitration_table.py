"""The figures of the experiment arbitration."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.experiments.arbitration import (
    BACKGROUND_PHOTONS,
    GAIN,
    OFFSET,
    PHOTONS,
    ArbitrationReport,
    Score,
    degraded,
    tables,
)


def test_a_degraded_image_has_the_photons_that_are_stated() -> None:
    rng = np.random.default_rng(0)
    image = np.full((12, 60, 60), 10.0, np.float32)
    image[:, 20:40] = 200.0
    image += rng.normal(0, 0.01, image.shape).astype(np.float32)
    grey, truth = degraded(image, 3)
    assert truth[:, 25:35].mean() == pytest.approx(
        GAIN * (PHOTONS + BACKGROUND_PHOTONS) + OFFSET, rel=0.01
    )
    bright = grey[2:-2, 28:32]
    assert bright.mean() == pytest.approx(truth[:, 28:32].mean(), rel=0.02)
    assert bright.var() == pytest.approx(GAIN**2 * (PHOTONS + 0.5) + 1 + 1 / 12, rel=0.1)
    np.testing.assert_array_equal(degraded(image, 3)[0], grey)


def test_the_foot_says_what_was_lost_and_what_was_kept() -> None:
    def scores(base: float, alone: float, both: float, share: float) -> dict[str, Score]:
        return {
            "raw": Score(15.0),
            "deconvolution": Score(base),
            "dqlr": Score(alone),
            "dqlr, arbitrated": Score(both, share),
        }

    report = ArbitrationReport(
        {"a": "simulated", "b": "simulated", "c": "degraded"},
        ("dqlr",),
        {
            "a": scores(20.0, 24.0, 23.0, 0.8),
            "b": scores(20.0, 21.0, 21.0, 1.0),
            "c": scores(25.0, 20.0, 24.95, 0.0),
        },
    )
    table = tables(report)["arbitration"]
    assert table.rows[0] == ("a (simulated)", "15.0", "20.0", "24.0 → 23.0 (80 %)")
    assert "against RL at worst +1.00 dB arbitrated, +1.00 dB alone; 80 %" in table.foot[1]
    assert "against RL at worst -0.05 dB arbitrated, -5.00 dB alone." in table.foot[2]
