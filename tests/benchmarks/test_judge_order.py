"""Held-out photons order results as a long average does, where the noise is photon noise."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks.experiments.judge_order import FILTERS, measure_order, order_table
from zenhance.errors import ReadError


def test_the_order_by_held_out_photons_follows_the_truth(tmp_path):
    rng = np.random.default_rng(1)
    light = ndimage.gaussian_filter(rng.random((128, 128)) ** 12, 1.5)
    light = 20 * light / np.percentile(light, 99) + 1
    for name, image in (
        ("raw_texture_1.png", 4 * rng.poisson(light) + 10),
        ("gt_texture.png", 4 * light + 10),
    ):
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(tmp_path / name)
    report = measure_order(Namespace(data=tmp_path), lambda *_: None)
    assert report.correlations[0] > 0.8
    assert len(report.deviances[0]) == len(FILTERS)
    table = order_table(report)["judge_order"]
    value = f"{report.correlations[0]:.2f}"
    assert table.rows[0][:3] == ("raw_texture_1.png", "yes", value)
    assert table.rows[-2][:3] == ("mean of those judged", "", value)


def test_a_scene_with_correlated_noise_is_not_judged(tmp_path):
    rng = np.random.default_rng(2)
    light = 100.0 + 800.0 * ndimage.gaussian_filter(rng.normal(size=(160, 160)), 12)
    noisy = light + ndimage.gaussian_filter(rng.normal(0, 30, (160, 160)), 0.7)
    for name, image in (("raw_flat_1.png", noisy), ("gt_flat.png", light)):
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(tmp_path / name)
    report = measure_order(Namespace(data=tmp_path), lambda *_: None)
    assert report.judged == (False,)
    assert order_table(report)["judge_order"].rows[0][1] == "no"


def test_a_folder_without_pairs_is_refused(tmp_path):
    with pytest.raises(ReadError, match="holds no pairs"):
        measure_order(Namespace(data=tmp_path), lambda *_: None)
