"""A method of known arithmetic and any duration, to test everything around a method: the result is the input plus one."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from zenhance.contract.spec import MethodParameters, MethodSpec, OutputSpec


class SlowParameters(MethodParameters):
    steps: int = Field(
        2,
        ge=1,
        le=1000,
        description="how many steps a tile takes",
        json_schema_extra={"unit": "steps"},
    )
    step_s: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="how long each step takes",
        json_schema_extra={"unit": "s"},
    )
    trouble: Literal["none", "raise", "warn"] = Field(
        "none", description="what goes wrong", json_schema_extra={"advanced": True}
    )
    weight: float | None = Field(
        None, gt=0.0, le=1.0, description="a number that may be left to the method"
    )
    tidy: bool = Field(True, description="a switch")


@dataclass(frozen=True)
class _Prepared:
    parameters: SlowParameters
    finer: int = 1
    halo_px: tuple[int, int, int] = (0, 0, 0)
    curves: Any = field(default_factory=lambda: {"steps": [1.0, 0.5]})
    notes: Any = field(default_factory=dict)

    def __call__(self, tile, origin_px):
        for step in range(self.parameters.steps):
            time.sleep(self.parameters.step_s)
            if self.parameters.trouble == "raise" and step == self.parameters.steps - 1:
                raise ZeroDivisionError("the slow method divides by nothing")
            if self.parameters.trouble == "warn":
                warnings.warn("the slow method warns", UserWarning, stacklevel=1)
            yield (step + 1) / self.parameters.steps
        result = tile + np.float32(1)
        for axis in range(3):
            result = np.repeat(result, self.finer, axis=axis)
        outputs = {"enhanced": result}
        if self.finer > 1:
            outputs["doubt"] = np.zeros_like(result)
        return outputs


@dataclass(frozen=True)
class _Method:
    spec: MethodSpec
    finer: int = 1

    def plan_halo_px(self, parameters, psf, voxel_size_um, shape_px):
        return (0, 0, 0)

    def prepare(self, context):
        yield 1.0
        return _Prepared(context.parameters, self.finer)


SLOW = _Method(MethodSpec("slow", "slow", "adds one, slowly", SlowParameters, bytes_per_voxel=8))
NEEDS_PSF = _Method(
    MethodSpec(
        "blurred",
        "blurred",
        "adds one, and needs a PSF",
        SlowParameters,
        bytes_per_voxel=8,
        needs_psf=True,
    )
)
FINER = _Method(
    MethodSpec(
        "finer",
        "finer",
        "adds one, on a grid twice as fine, and says how sure it is",
        SlowParameters,
        outputs=(OutputSpec("enhanced", "enhanced"), OutputSpec("doubt", "doubt")),
        output_scale=(2, 2, 2),
        bytes_per_voxel=64,
    ),
    2,
)
