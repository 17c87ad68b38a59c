"""Richardson-Lucy at its best: true PSF, true camera, and the truth chooses when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.scenes import Scene
from zenhance.errors import StackError
from zenhance.physics.blur import Blur
from zenhance.solvers.richardson_lucy import RichardsonLucy
from zenhance.solvers.schedule import CameraModel, Schedule
from zenhance.steps import drain
from zenhance.types import FloatArray

__all__ = ["Best", "best_by_truth"]

Score = Callable[[FloatArray, FloatArray], float]


@dataclass(frozen=True, slots=True)
class Best:
    """The best estimate: PSNR in dB, iterations, and weight of total variation."""

    psnr_db: float
    iteration: int
    tv_weight: float


def best_by_truth(
    scene: Scene, truth: FloatArray, tv_weights: Sequence[float], iterations: int, score: Score
) -> Best:
    """Return the best of all iterations and weights, chosen with the truth of this image.

    Parameters
    ----------
    scene : Scene
        A plane.
    truth : float32 array (1, Y, X)
        What to score against.
    tv_weights : sequence of float
        To try; 0 is plain Richardson-Lucy.
    iterations : int
        To try at most, extrapolated as Biggs and Andrews do.
    score : callable
        Of image and truth; larger is better.

    Raises
    ------
    StackError
        There is no weight to try.
    """
    found = [_best(_problem(scene, weight), truth, iterations, score) for weight in tv_weights]
    if not found:
        raise StackError("there is no weight of total variation to try; give at least 0")
    return max(found, key=lambda best: best.psnr_db)


def _problem(scene: Scene, tv_weight: float) -> RichardsonLucy:
    measured = torch.from_numpy(scene.measured.read().astype(np.float32))
    scope = scene.microscope
    background = scope.offset + scope.background_photons * scope.gain
    camera = CameraModel(
        background, scene.camera.gain, scene.camera.offset, scene.camera.read_noise
    )
    shape = (measured.shape[0], measured.shape[1], measured.shape[2])
    signal = max(float(np.percentile(measured.numpy(), 99.9)) - background, 0.0)
    return RichardsonLucy(
        Blur.from_psf(scene.psf, scene.voxel_size_um, shape),
        measured,
        camera,
        signal,
        tv_weight,
        (0.0, 1.0, 1.0),
    )


def _best(problem: RichardsonLucy, truth: FloatArray, iterations: int, score: Score) -> Best:
    best = Best(-np.inf, 0, problem.tv_weight)
    for number, x in enumerate(problem.path(_schedule(problem, iterations)), 1):
        quality = score(x.numpy(), truth)
        if quality > best.psnr_db:
            best = Best(quality, number, problem.tv_weight)
    return best


def _schedule(problem: RichardsonLucy, iterations: int) -> Schedule:
    return drain(problem.measure(iterations))[1]
