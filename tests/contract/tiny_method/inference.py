"""The tiny method on a volume."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch

from zenhance.contract.learner import Scaling
from zenhance.contract.spec import MethodContext, Prepared, TileGenerator
from zenhance.methods._shared.loading import load_model
from zenhance.types import FloatArray, Triple

from .network import Affine
from .training import LEARNER


@dataclass
class TinyRestorer(Prepared):
    """The network made ready for one volume."""

    network: Affine
    scaling: Scaling
    strength: float

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Enhance a tile plane by plane."""
        result = tile.copy()
        for z, plane in enumerate(tile):
            with torch.inference_mode():
                out = self.network(torch.from_numpy(self.scaling.forward(plane))).numpy()
            result[z] += self.strength * (self.scaling.inverse(out) - plane)
            yield (z + 1) / len(tile)
        return {"enhanced": result}


def prepare(context: MethodContext) -> Generator[float, None, TinyRestorer]:
    """Load the weights."""
    model = yield from load_model("tiny", LEARNER, context)
    scaling = Scaling.of(context.statistics)
    strength = context.parameters.strength
    return TinyRestorer(model.network, scaling, strength, **model.facts)
