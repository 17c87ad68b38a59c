"""The judge on a real confocal stack, whose noise and PSF nobody planted."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch

from zenhance.assess.assessment import assess
from zenhance.physics.blur import Blur
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
