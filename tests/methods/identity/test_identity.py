"""identity: bit for bit, whatever the tiles."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from zenhance.contract.spec import MethodContext, PlanContext, VolumeStatistics
from zenhance.methods.identity import METHOD, IdentityParameters
from zenhance.tiling.geometry import plan_tiles
from zenhance.tiling.run import run_tiles


def _finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_all_values_of_16_bit_images_come_back_exactly_through_tiles(dtype):
    info = np.iinfo(dtype)
    values = np.linspace(info.min, info.max, 3 * 40 * 50).astype(dtype).reshape(3, 40, 50)
    volume = values.astype(np.float32)
    context = MethodContext(
        IdentityParameters(),
        volume.shape,
        (1.0, 1.0, 1.0),
        statistics=VolumeStatistics(*[0.0] * 7),
        read=lambda r: volume[r].copy(),
    )
    prepared = _finish(METHOD.prepare(context))
    result = np.zeros_like(volume)

    def write(_, region, array):
        result[region] = array

    _finish(
        run_tiles(
            plan_tiles(volume.shape, (2, 16, 16), prepared.halo_px),
            lambda r: volume[r].copy(),
            prepared,
            write,
        )
    )
    assert np.array_equal(result.astype(dtype), values)
    assert np.array_equal(result, volume)


def test_there_is_nothing_to_set_nor_any_context_needed():
    plan = PlanContext(IdentityParameters(), (3, 4, 5), (1.0, 1.0, 1.0))
    assert METHOD.plan_halo_px(plan) == (0, 0, 0)
    with pytest.raises(ValidationError):
        IdentityParameters(strength=1)
