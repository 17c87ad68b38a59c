"""A method of known arithmetic with samples.

Sample ``k`` is the input plus ``k``, and its standard deviation is a quarter everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from zenhance.contract.spec import MethodParameters, MethodSpec, OutputSpec, Prepared

STD = 0.25


class SamplingParameters(MethodParameters):
    samples: int = Field(
        4,
        ge=0,
        le=50,
        description="how many samples are kept",
        json_schema_extra={"unit": "samples"},
    )
    finer: int = Field(
        1, ge=1, le=2, description="how much finer the grid is", json_schema_extra={"unit": "times"}
    )
    trouble: Literal["none", "one too few", "not finite"] = Field(
        "none", description="what goes wrong"
    )

    @property
    def outputs(self):
        always = (OutputSpec("enhanced", "enhanced"), OutputSpec("std", "standard deviation"))
        samples = OutputSpec("samples", "samples", series=self.samples)
        return (*always, samples) if self.samples else always

    @property
    def output_scale(self):
        return (self.finer,) * 3


@dataclass
class _Prepared(Prepared):
    parameters: SamplingParameters

    def __call__(self, tile, origin_px):
        yield 1.0
        for axis in range(3):
            tile = np.repeat(tile, self.parameters.finer, axis=axis)
        count = self.parameters.samples
        drawn = tile + np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1)
        if self.parameters.trouble == "one too few":
            drawn = drawn[1:]
        if self.parameters.trouble == "not finite":
            drawn[-1, :, 3, 3] = np.nan
        outputs = {"enhanced": tile + np.float32(0.5), "std": np.full_like(tile, STD)}
        return outputs | ({"samples": drawn} if count else {})


@dataclass(frozen=True)
class _Method:
    spec: MethodSpec

    def plan_halo_px(self, plan):
        return (1, 1, 1)

    def prepare(self, context):
        yield 1.0
        return _Prepared(context.parameters, halo_px=(1, 1, 1))


METHOD = _Method(
    MethodSpec(
        "sampling",
        "sampling",
        "adds a number to each sample",
        SamplingParameters,
        bytes_per_voxel=16,
        stochastic=True,
    )
)
