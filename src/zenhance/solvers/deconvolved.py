"""Richardson-Lucy estimates that a network receives beside the image, early and late ones.

The data decide nothing here, unlike in the deconvolution method: the iterations and their
extrapolations are fixed, so every tile and every training volume is treated alike.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch

from zenhance.contract.spec import NoiseLike, PsfLike, VolumeStatistics
from zenhance.physics.blur import BlurOperator
from zenhance.solvers.receptive_field import iteration_reach_px
from zenhance.solvers.richardson_lucy import RichardsonLucy
from zenhance.solvers.schedule import CameraModel, Schedule
from zenhance.types import Triple

__all__ = ["deconvolved_reach_px", "deconvolved_steps", "fixed_schedule"]

LARGEST_ALPHA = 0.9
"""Extrapolation beyond this was unsteady in noise."""


def fixed_schedule(iterations: int) -> Schedule:
    """Return Nesterov's extrapolations (k - 1) / (k + 2), bounded; 0 in the first two steps."""
    return Schedule(tuple(min(LARGEST_ALPHA, max(0, k - 1) / (k + 2)) for k in range(iterations)))


def deconvolved_steps(
    measured: torch.Tensor,
    blur: BlurOperator,
    noise: NoiseLike,
    statistics: VolumeStatistics,
    iterations: Sequence[int],
) -> Generator[float, None, list[torch.Tensor]]:
    """Deconvolve a volume or a tile of one.

    Parameters
    ----------
    measured : Tensor
        float32 (..., Z, Y, X), grey values.
    blur, noise : BlurOperator, NoiseLike
        Of the microscope.
    statistics : VolumeStatistics
        Of the whole volume.
    iterations : sequence of int
        After how many an estimate is kept, rising.

    Yields
    ------
    float
        Fraction done.

    Returns
    -------
    list of Tensor
        Estimates (..., Z, Y, X) of the light above the background, in grey values, one for each
        number of iterations.
    """
    camera = CameraModel(statistics.background, noise.gain, noise.offset, noise.read_noise)
    signal = max(statistics.percentile_high, statistics.mean) - camera.background
    problem = RichardsonLucy(blur, measured, camera, max(signal, 0.0))
    kept = []
    for done, x in enumerate(problem.path(fixed_schedule(max(iterations))), 1):
        if done in iterations:
            kept.append(x.clone())
        yield done / max(iterations)
    return kept


def deconvolved_reach_px(
    psf: PsfLike, voxel_size_um: tuple[float, float, float], iterations: Sequence[int], depth: int
) -> Triple:
    """Return the receptive field (z, y, x) of the estimates; 0 along z in a single plane."""
    if not iterations:
        return (0, 0, 0)
    z, y, x = psf.radius_px(voxel_size_um)
    return iteration_reach_px((z if depth > 1 else 0, y, x), max(iterations), accelerated=True)
