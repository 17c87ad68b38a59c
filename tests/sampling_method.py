"""A method of known arithmetic with samples: sample ``k`` is the input plus ``k``, and its standard deviation is a quarter everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from zenhance.contract.spec import MethodParameters, MethodSpec, OutputSpec

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


@dataclass(frozen=True)
class _Prepared:
    parameters: SamplingParameters
    halo_px: tuple[int, int, int] = (1, 1, 1)
    curves: Any = field(default_factory=dict)
    notes: Any = field(default_factory=dict)

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

    def plan_halo_px(self, parameters, psf, voxel_size_um, shape_px):
        return (1, 1, 1)

    def prepare(self, context):
        yield 1.0
        return _Prepared(context.parameters)


def _outputs(parameters):
    always = (OutputSpec("enhanced", "enhanced"), OutputSpec("std", "standard deviation"))
    return always + (
        (OutputSpec("samples", "samples", series=parameters.samples),) if parameters.samples else ()
    )


METHOD = _Method(
    MethodSpec(
        "sampling",
        "sampling",
        "adds a number to each sample",
        SamplingParameters,
        outputs=(
            OutputSpec("enhanced", "enhanced"),
            OutputSpec("std", "standard deviation"),
            OutputSpec("samples", "samples", series=4),
        ),
        outputs_of=_outputs,
        output_scale_of=lambda parameters: (parameters.finer,) * 3,
        bytes_per_voxel=16,
        stochastic=True,
    )
)
