"""The table of denoised frames against the mean of fifty."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks.experiments.fmd_denoised import (
    FmdReport,
    measure,
    noise_against,
    stabilised_means,
    table,
)
from zenhance.errors import StackError
from zenhance.physics.noise import PoissonGauss


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A smooth scene and one frame of it, 64 × 64, with gain 3 and read noise 2."""
    rng = np.random.default_rng(0)
    scene = ndimage.gaussian_filter((rng.random((64, 64)) < 0.02) * 1.8e3, 3.0) + 10.0
    frame = PoissonGauss(3.0, 0.0, 2.0).sample(scene / 3.0, 1)
    return scene.astype(np.float32), np.clip(frame, 0, 255).astype(np.float32)


def test_gain_and_read_noise_follow_from_the_truth(pair) -> None:
    truth, frame = pair
    assert noise_against(frame, truth).gain == pytest.approx(3.0, rel=0.3)


def test_non_local_means_after_stabilisation_come_closer_to_the_scene(pair) -> None:
    truth, frame = pair
    seen = stabilised_means(frame, PoissonGauss(3.0, 0.0, 2.0), 1.0, 5)
    assert ((seen - truth) ** 2).mean() < 0.4 * ((frame - truth) ** 2).mean()
    assert seen.mean() == pytest.approx(frame.mean(), rel=0.03)


def test_each_way_is_a_row_and_ours_beats_the_frame(pair, tmp_path) -> None:
    truth, frame = pair
    for name, image in (("gt_A", truth), ("raw_A_1", frame)):
        Image.fromarray(np.rint(image).clip(0, 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    report = measure(tmp_path, ["A"], lambda *_: None)
    assert len(table(report).rows) == 5
    assert report.decibels["ours, denoised, richardson_lucy"] > report.decibels["one frame"]
    assert isinstance(report, FmdReport)


def test_a_missing_picture_is_named(tmp_path) -> None:
    with pytest.raises(StackError, match="is missing; give the folder"):
        measure(tmp_path, ["A"], lambda *_: None)
