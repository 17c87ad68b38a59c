"""Patches whose place and orientation depend on seed and step alone, so that runs can resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from zenhance.contract.learner import Batch
from zenhance.errors import RecipeError
from zenhance.methods._shared.planes import mirrored
from zenhance.training.data import TrainingVolume
from zenhance.types import FloatArray

__all__ = ["PatchSampler"]

# A patch with hardly any specimen in it is drawn again, at most this often: a stack's corners teach
# little.
REDRAWS = 3
MIN_MEAN = 0.02
# Streams of random numbers: training patches and validation patches never coincide.
TRAINING, VALIDATION = 0, 1


@dataclass(frozen=True)
class _Patch:
    measured: FloatArray
    truth: FloatArray | None
    estimates: FloatArray | None
    light: FloatArray | None
    middle: int

    def turned(self, turn: int, flip: bool, upside_down: bool) -> _Patch:
        blocks = (self.measured, self.truth, self.estimates, self.light)
        parts = [None if a is None else _turned(a, turn, flip, upside_down) for a in blocks]
        return _Patch(np.asarray(parts[0]), parts[1], parts[2], parts[3], self.middle)


@dataclass(frozen=True)
class PatchSampler:
    """Cuts batches from volumes.

    Parameters
    ----------
    volumes : sequence of TrainingVolume
        Drawn with a probability proportional to their size; ``drawn`` ones with the same.
    patch_px : tuple of int
        (Z, Y, X) of a patch; a shorter stack is mirrored at its ends.
    batch : int
        Patches a batch.
    seed : int
        Of every draw.
    augment : bool
        Whether patches are turned and flipped (8 ways in the plane, z reversed or not).
    with_optics : bool
        Whether batches tell how their patches were measured.

    Raises
    ------
    RecipeError
        A volume is smaller than the patch along y or x.
    """

    volumes: Sequence[TrainingVolume]
    patch_px: tuple[int, int, int]
    batch: int
    seed: int
    augment: bool = True
    with_optics: bool = False

    def __post_init__(self) -> None:
        for volume in self.volumes:
            if volume.shape_px[1] < self.patch_px[1] or volume.shape_px[2] < self.patch_px[2]:
                raise RecipeError(
                    f'"{volume.name}" is {volume.shape_px[1]} × {volume.shape_px[2]} pixels, '
                    "smaller than the patch of "
                    f"{self.patch_px[1]} × {self.patch_px[2]}; lower patch_px"
                )

    def draw(self, step: int, stream: int = TRAINING) -> Batch:
        """Return the batch of a step, independent of earlier draws.

        Parameters
        ----------
        step : int
            Number of the batch.
        stream : {0, 1}
            0 for training, 1 for validation.
        """
        key = (np.uint64(self.seed) << np.uint64(1)) | np.uint64(stream)
        rng = np.random.Generator(np.random.Philox(key=int(key), counter=[0, 0, 0, step]))
        sizes = np.array(
            [1.0 if v.drawn else np.prod(v.shape_px, dtype=np.float64) for v in self.volumes]
        )
        picks = rng.choice(len(self.volumes), size=self.batch, p=sizes / sizes.sum())
        patches = [self._patch(self.volumes[int(i)], rng) for i in picks]
        measured = torch.from_numpy(np.stack([p.measured for p in patches]))
        sharp = [p.truth for p in patches if p.truth is not None]
        truth = torch.from_numpy(np.stack(sharp)) if len(sharp) == len(patches) else None
        blocks = [p.estimates for p in patches if p.estimates is not None]
        estimates = torch.from_numpy(np.stack(blocks)) if len(blocks) == len(patches) else None
        found = [p.light for p in patches if p.light is not None]
        light = torch.from_numpy(np.stack(found)) if len(found) == len(patches) else None
        planes = [p.middle for p in patches]
        chosen = [self.volumes[int(i)] for i in picks]
        depth = [z / max(v.shape_px[0] - 1, 1) for z, v in zip(planes, chosen, strict=True)]
        optics = (
            tuple(v.optics(z) for z, v in zip(planes, chosen, strict=True))
            if self.with_optics
            else ()
        )
        return Batch(
            measured, truth, torch.tensor(depth, dtype=torch.float32), optics, estimates, light
        )

    def _patch(self, volume: TrainingVolume, rng: np.random.Generator) -> _Patch:
        depth = volume.shape_px[0]
        for attempt in range(REDRAWS + 1):
            middle = int(rng.integers(depth))
            y, x = (
                int(rng.integers(n - p + 1))
                for n, p in zip(volume.shape_px[1:], self.patch_px[1:], strict=True)
            )
            measured = self._cut(volume, middle, y, x, truth=False)
            accept = attempt == REDRAWS or volume.drawn
            if measured is not None and (accept or float(measured.mean()) >= MIN_MEAN):
                break
        truth = self._cut(volume, middle, y, x, truth=True)
        turn, flip, upside_down = int(rng.integers(4)), bool(rng.integers(2)), bool(rng.integers(2))
        if self.with_optics and not volume.optics(middle).turns:
            turn -= (
                turn % 2
            )  # along y and x the blur differs: a quarter turn would belong to another microscope
        estimates = (
            None if volume.estimates is None else self._planes(volume.estimates, middle, y, x)
        )
        light = (
            None
            if volume.light is None
            else self._fine(volume.light, volume.shape_px, middle, y, x)
        )
        patch = _Patch(np.asarray(measured), truth, estimates, light, middle)
        return patch.turned(turn, flip, upside_down) if self.augment else patch

    def _planes(
        self, estimates: npt.NDArray[np.float16], middle: int, y: int, x: int
    ) -> FloatArray:
        """Return the estimates (K, Z, Y, X) of a patch."""
        window, height, width = self.patch_px
        planes = mirrored(
            np.arange(middle - window // 2, middle - window // 2 + window), estimates.shape[1]
        )
        return np.asarray(estimates[:, planes, y : y + height, x : x + width], np.float32)

    def _fine(
        self,
        light: npt.NDArray[np.float16],
        shape_px: tuple[int, int, int],
        middle: int,
        y: int,
        x: int,
    ) -> FloatArray:
        """Return the light (Z, sY, sX) of a patch."""
        window, height, width = self.patch_px
        planes = mirrored(
            np.arange(middle - window // 2, middle - window // 2 + window), light.shape[0]
        )
        s = light.shape[-1] // shape_px[-1]
        return np.asarray(
            light[planes, s * y : s * (y + height), s * x : s * (x + width)], np.float32
        )

    def _cut(
        self, volume: TrainingVolume, middle: int, y: int, x: int, *, truth: bool
    ) -> FloatArray | None:
        """Read the planes about a middle one; beyond the first and last, planes are mirrored."""
        window, height, width = self.patch_px
        first = middle - window // 2
        planes = mirrored(np.arange(first, first + window), volume.shape_px[0])
        low, high = int(planes.min()), int(planes.max()) + 1
        region = (slice(low, high), slice(y, y + height), slice(x, x + width))
        block = volume.read_truth(region) if truth else volume.read_measured(region)
        return None if block is None else np.ascontiguousarray(block[planes - low])


def _turned(block: FloatArray, turn: int, flip: bool, upside_down: bool) -> FloatArray:
    """Turn and flip the last two axes, and reverse the third last."""
    turned = np.rot90(block, turn, axes=(-2, -1))
    turned = turned[..., ::-1] if flip else turned
    return np.ascontiguousarray(turned[..., ::-1, :, :] if upside_down else turned)
