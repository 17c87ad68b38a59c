"""The judge on a real confocal stack, whose noise and PSF nobody planted."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from zenhance.assess.assessment import assess
from zenhance.assess.reblur import reblur_check
from zenhance.assess.verdict import decide
from zenhance.io import open_stack
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss, estimate
from zenhance.physics.psf import gaussian
from zenhance.stack import Stack

VOXEL_UM = (1.0, 0.200319, 0.200319)
PSF = gaussian((0.8, 0.22, 0.22), "user")


@pytest.fixture(scope="module")
def meristem(shared_data):
    """A part of a floral meristem, and ten Richardson-Lucy iterations of it."""
    path = shared_data / "plant_tissue" / "p60_floral_meristem_membrane_raw.tif"
    raw = tifffile.imread(path)[10:50, 170:290, 170:290]
    blur = Blur.from_psf(PSF, VOXEL_UM, raw.shape)
    data = torch.from_numpy(raw.astype(np.float32))
    x = torch.full_like(data, float(data.mean()))
    for _ in range(10):
        x = x * blur.adjoint(data / (blur(x) + 13.5))
    return Stack.from_array(raw, "ZYX", VOXEL_UM, name="p60"), x.numpy()


def test_the_truth_of_a_sparse_stack_with_read_noise_is_green(shared_data):
    raw, truth = (
        Stack.from_array(tifffile.imread(shared_data / "cases" / name), "ZYX", (0.5, 0.2, 0.2))
        for name in ("c24_2.tif", "c24_truth_2.tif")
    )
    given = {"psf": gaussian((0.75, 0.24, 0.24), "user"), "noise": PoissonGauss(2.0, 100.0, 1.5)}
    found = assess(raw, truth, quick=True, **given)
    assert found.verdict == "green", found.sentences
    wrong = np.roll(truth.data, 2, axis=2)
    assert assess(raw, truth.with_data(wrong), quick=True, **given).verdict != "green"


def test_richardson_lucy_of_a_real_stack_is_not_red(meristem):
    raw, restored = meristem
    found = assess(raw, Stack.from_array(restored, "ZYX", VOXEL_UM), psf=PSF)
    assert found.verdict != "red", found.sentences
    assert found.reblur.flagged_share < 1e-4
    assert 0.3 < found.correlation["lateral"].resolution_seventh_um < 1.2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_real_result_moved_by_one_voxel_is_red(meristem, axis):
    raw, restored = meristem
    moved = Stack.from_array(np.roll(restored, 1, axis), "ZYX", VOXEL_UM)
    assert assess(raw, moved, psf=PSF, quick=True).verdict == "red"


def _planted(shape):
    """Structures that networks have drawn into real stacks: mesh, comb, cells and foam."""
    rng = np.random.default_rng(0)
    _, y, x = np.indices(shape)
    points = rng.uniform(0, shape[1:], (max(8, shape[1] * shape[2] // 120), 2))
    away, _ = cKDTree(points).query(np.stack([y[0].ravel(), x[0].ravel()], 1), k=2)
    field = ndimage.gaussian_filter(rng.normal(size=shape), (1, 3, 3))
    return {
        "mesh": (y % 8 < 2) | (x % 8 < 2),
        "comb": x % 6 < 2,
        "cells": np.broadcast_to((away[:, 1] - away[:, 0] < 2).reshape(shape[1:]), shape),
        "foam": np.abs(field) < 0.15 * field.std(),
    }


STACKS = {
    "p60_floral_meristem_membrane_raw.tif": (0.8, 0.24, 0.24),
    "arabidopsis_nuclei_12z.tif": (0.8, 0.17, 0.17),
    "ovule_nuclei_1135_raw.tif": (0.34, 0.15, 0.15),
}


@pytest.mark.parametrize("name", STACKS)
def test_smoothing_is_never_red_and_planted_structures_never_green(shared_data, name):
    stack = open_stack(shared_data / "plant_tissue" / name)
    whole = stack.read(0, 0)
    z, y, x = (
        slice((n - m) // 2, (n + m) // 2) for n, m in zip(whole.shape, (12, 96, 96), strict=True)
    )
    raw, camera = whole[z, y, x], estimate(whole)
    voxel, psf = stack.voxel_size.require("ZYX"), gaussian(STACKS[name], "user")
    measured = raw.astype(np.float32)
    smooth = ndimage.gaussian_filter(measured, (0.5, 1.0, 1.0))

    def light(result):
        return decide(reblur_check(raw, result, psf, voxel, camera, deblurred=False)[0], None).light

    for honest in (measured, smooth, ndimage.gaussian_filter(measured, (1.0, 2.0, 2.0))):
        assert light(honest) != "red"
    span = np.float32(np.percentile(measured, 99) - np.percentile(measured, 5))
    for kind, where in _planted(raw.shape).items():
        planted = smooth + np.float32(0.1) * span * where.astype(np.float32)
        assert light(planted) != "green", kind
