"""A method of known arithmetic (input plus one) and any duration, to test all around a method."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from zenhance.contract.spec import MethodParameters, MethodSpec, OutputSpec, Prepared


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


class BlurredParameters(SlowParameters):
    @property
    def needs_psf(self):
        return True


class FinerParameters(SlowParameters):
    @property
    def outputs(self):
        return (OutputSpec("enhanced", "enhanced"), OutputSpec("doubt", "doubt"))

    @property
    def output_scale(self):
        return (2, 2, 2)


@dataclass
class _Prepared(Prepared):
    parameters: SlowParameters

    def __call__(self, tile, origin_px):
        for step in range(self.parameters.steps):
            time.sleep(self.parameters.step_s)
            if self.parameters.trouble == "raise" and step == self.parameters.steps - 1:
                raise ZeroDivisionError("the slow method divides by nothing")
            if self.parameters.trouble == "warn":
                warnings.warn("the slow method warns", UserWarning, stacklevel=1)
            yield (step + 1) / self.parameters.steps
        result = tile + np.float32(1)
        finer, *_ = self.parameters.output_scale
        for axis in range(3):
            result = np.repeat(result, finer, axis=axis)
        outputs = {"enhanced": result}
        if finer > 1:
            outputs["doubt"] = np.zeros_like(result)
        return outputs


@dataclass(frozen=True)
class _Method:
    spec: MethodSpec

    def plan_halo_px(self, plan):
        return (0, 0, 0)

    def prepare(self, context):
        yield 1.0
        return _Prepared(context.parameters, curves={"steps": [1.0, 0.5]})


SLOW = _Method(MethodSpec("slow", "slow", "adds one, slowly", SlowParameters, bytes_per_voxel=8))
NEEDS_PSF = _Method(
    MethodSpec(
        "blurred",
        "blurred",
        "adds one, and needs a PSF",
        BlurredParameters,
        bytes_per_voxel=8,
    )
)
FINER = _Method(
    MethodSpec(
        "finer",
        "finer",
        "adds one, on a grid twice as fine, and says how sure it is",
        FinerParameters,
        bytes_per_voxel=64,
    )
)
