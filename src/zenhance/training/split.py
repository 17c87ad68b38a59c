"""Validation where there is one stack only: a strip at its end is kept apart, so that no validated voxel was ever trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zenhance.measurement.volume import VolumeReader
from zenhance.training.data import TrainingVolume

__all__ = ["strips_apart"]


def strips_apart(
    volumes: Sequence[TrainingVolume], share: float, patch_px: int
) -> tuple[list[TrainingVolume], list[TrainingVolume]]:
    """Divide each volume along its longer side in the plane.

    Parameters
    ----------
    volumes : sequence of TrainingVolume
        A volume too small for two parts, or read from disk piece by piece, goes to both lists whole; the card then says so.
    share : float
        Part (0 ... 1) to validate on; at least one patch.
    patch_px : int
        Side of a patch in measured pixels; neither part is smaller.

    Returns
    -------
    tuple of two lists
        To train on, and to validate on.
    """
    train, held = [], []
    for volume in volumes:
        axis = 1 if volume.shape_px[1] >= volume.shape_px[2] else 2
        size = volume.shape_px[axis]
        cut = size - max(patch_px, round(share * size))
        in_memory = isinstance(volume.measured.stack.data, np.ndarray)
        if cut < patch_px or not in_memory:
            train.append(volume)
            held.append(volume)
            continue
        train.append(_part(volume, axis, 0, cut))
        held.append(_part(volume, axis, cut, size))
    return train, held


def _part(volume: TrainingVolume, axis: int, first: int, last: int) -> TrainingVolume:
    letter = "ZYX"[axis]

    def cut(reader: VolumeReader, factor: int) -> VolumeReader:
        return replace(
            reader, stack=reader.stack.crop({letter: slice(first * factor, last * factor)})
        )

    truth = None if volume.truth is None else cut(volume.truth, volume.scale)
    return replace(
        volume,
        name=f"{volume.name}, {letter.lower()} {first}:{last}",
        measured=cut(volume.measured, 1),
        truth=truth,
    )
