"""A trained method whose estimate is known beforehand: tests put it into :data:`ESTIMATES`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from zenhance.contract.spec import ENHANCED, MethodParameters, MethodSpec, OutputSpec, Prepared

ESTIMATES: dict[str, np.ndarray] = {}


class CutOutParameters(MethodParameters):
    estimate: str = Field("truth", description="which estimate")
    samples: int = Field(0, ge=0, le=9, description="samples, each one grey value brighter")

    @property
    def outputs(self):
        if not self.samples:
            return (ENHANCED,)
        spread = OutputSpec("std", "standard deviation")
        return (ENHANCED, spread, OutputSpec("samples", "samples", series=self.samples))


@dataclass
class _Prepared(Prepared):
    parameters: CutOutParameters

    def __call__(self, tile, origin_px):
        yield 1.0
        region = tuple(slice(o, o + n) for o, n in zip(origin_px, tile.shape, strict=True))
        found = ESTIMATES[self.parameters.estimate][region]
        outside = [(0, n - m) for n, m in zip(tile.shape, found.shape, strict=True)]
        found = np.pad(found.astype(np.float32), outside, mode="edge")
        out = {"enhanced": found}
        if self.parameters.samples:
            steps = np.arange(self.parameters.samples, dtype=np.float32)
            steps -= steps.mean()
            out["samples"] = found + steps[:, None, None, None]
            out["std"] = np.full_like(found, steps.std())
        return out


class _Method:
    spec = MethodSpec(
        "cut_out", "cut out", "known beforehand", CutOutParameters, (1, 8, 8), learns="pairs"
    )

    def plan_halo_px(self, plan):
        return (0, 0, 0)

    def prepare(self, context):
        yield 0.5
        return _Prepared(parameters=context.parameters, warnings=[], remark="")


METHOD = _Method()
