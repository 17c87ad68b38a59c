"""Prepare the data of a training: one way for the command line, the dock and learning from a stack.

::

    files, layers or a stack ──► volumes ──► same scale? ──► truth missing: whole, self-supervised
                                                        └──► one list: hold out a strip to validate
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Learner
from zenhance.errors import RecipeError
from zenhance.measurement.reader import VolumeReader
from zenhance.steps import relay
from zenhance.tiling.budget import free_bytes
from zenhance.training.data import TrainingVolume, volume_steps, with_optics
from zenhance.training.patches import PatchSampler
from zenhance.training.recipe import Recipe
from zenhance.training.self_training import is_self_supervised
from zenhance.wording import format_bytes

__all__ = [
    "Session",
    "VolumeSteps",
    "Volumes",
    "check_memory",
    "holdout_strip",
    "optics_steps",
    "session_steps",
]

Volumes = tuple[list[TrainingVolume], list[TrainingVolume]]
VolumeSteps = Generator[tuple[str, float], None, Volumes]
# Copies in float32 of each weight: value, gradient, two moments, running mean, best.
COPIES_OF_WEIGHTS = 6
# A stack is read into memory for its strip if it takes at most this share of the free memory.
IN_MEMORY_SHARE = 0.25


@dataclass(frozen=True)
class Session:
    """The volumes of a training.

    Parameters
    ----------
    train, validation : list of TrainingVolume
        To train on, and to validate on.
    self_supervised : bool
        Whether the truth is estimated from the stacks themselves.
    """

    train: list[TrainingVolume]
    validation: list[TrainingVolume]
    self_supervised: bool

    @property
    def volumes(self) -> Volumes:
        """Both lists, as ``train_steps`` takes them."""
        return self.train, self.validation

    @property
    def in_both(self) -> int:
        """Number of volumes that are trained on and validated on."""
        return sum(any(volume is other for other in self.train) for volume in self.validation)


def session_steps(
    recipe: Recipe,
    loading: VolumeSteps | None = None,
    *,
    advice: Callable[[int], str] = "set architecture.scale to {}".format,
    holdout: bool = True,
) -> Generator[tuple[str, float], None, Session]:
    """Load the volumes of a training and divide them.

    Parameters
    ----------
    recipe : Recipe
        Of the training.
    loading : generator, optional
        Yields (name, share done) and returns the volumes to train on and to validate on; the
        second list is the first one where there is nothing else to validate on. Default: the
        files and simulated stacks of the recipe.
    advice : callable
        Says what to do about a truth of another scale, given that scale.
    holdout : bool
        Whether to hold out a strip where only one list was loaded.

    Yields
    ------
    tuple of str and float
        The name of the volume that comes next, and the share that is done.

    Raises
    ------
    RecipeError
        There is no volume, or a truth has another scale than the network's output.
    """
    train, validation = yield from (volume_steps(recipe) if loading is None else loading)
    if not train:
        raise RecipeError("there is nothing to train on; give at least one stack")
    _check_scale(recipe, [*train, *validation], advice)
    self_supervised = is_self_supervised(recipe, [*train, *validation])
    if holdout and validation is train and not self_supervised:
        train, validation = holdout_strip(
            [_in_memory(volume) for volume in train], recipe.data.validation_share, recipe.patch_px
        )
    return Session(train, validation, self_supervised)


def _check_scale(
    recipe: Recipe, volumes: Sequence[TrainingVolume], advice: Callable[[int], str]
) -> None:
    wanted = int(recipe.architecture.get("scale", 1))
    for volume in volumes:
        if volume.truth is not None and volume.scale != wanted:
            raise RecipeError(
                f'the truth of "{volume.name}" has {volume.scale} × its pixels along y and x, '
                f"but this model makes {wanted} ×; {advice(volume.scale)}"
            )


def _in_memory(volume: TrainingVolume) -> TrainingVolume:
    """Read a stack that fits into memory, because a strip is cut from an array."""

    def read(reader: VolumeReader) -> VolumeReader:
        stack = reader.stack
        return replace(reader, stack=stack.with_data(np.asarray(stack.data[...])))

    stacks = [reader.stack for reader in (volume.measured, volume.truth) if reader is not None]
    if all(isinstance(stack.data, np.ndarray) for stack in stacks):
        return volume
    size = sum(math.prod(stack.shape) * stack.dtype.itemsize for stack in stacks)
    if size > IN_MEMORY_SHARE * free_bytes("cpu"):
        return volume
    truth = None if volume.truth is None else read(volume.truth)
    return replace(volume, measured=read(volume.measured), truth=truth)


def holdout_strip(volumes: Sequence[TrainingVolume], share: float, patch_px: int) -> Volumes:
    """Divide each volume along its longer side in the plane; no validated voxel is trained on.

    Parameters
    ----------
    volumes : sequence of TrainingVolume
        A volume that is too small for two parts, or is not in memory, goes whole to both lists.
    share : float
        Part (0 ... 1) to validate on; at least one patch.
    patch_px : int
        Side of a patch in measured pixels; neither part is smaller.

    Returns
    -------
    tuple of two lists
        To train on, and to validate on.
    """
    train, validation = [], []
    for volume in volumes:
        axis = 1 if volume.shape_px[1] >= volume.shape_px[2] else 2
        size = volume.shape_px[axis]
        cut = size - max(patch_px, round(share * size))
        in_memory = isinstance(volume.measured.stack.data, np.ndarray)
        whole = cut < patch_px or not in_memory
        train.append(volume if whole else _part(volume, axis, 0, cut))
        validation.append(volume if whole else _part(volume, axis, cut, size))
    return train, validation


def _part(volume: TrainingVolume, axis: int, first: int, last: int) -> TrainingVolume:
    letter = "ZYX"[axis]

    def cut(reader: VolumeReader, factor: int) -> VolumeReader:
        region = {letter: slice(first * factor, last * factor)}
        return replace(reader, stack=reader.stack.crop(region))

    truth = None if volume.truth is None else cut(volume.truth, volume.scale)
    name = f"{volume.name}, {letter.lower()} {first}:{last}"
    return replace(volume, name=name, measured=cut(volume.measured, 1), truth=truth)


def optics_steps(
    recipe: Recipe, learner: Learner, volumes: Volumes
) -> Generator[float, None, Volumes]:
    """Return the volumes with the optics, estimates and light that the learner needs.

    A volume in both lists is measured once. Yields the share that is done.
    """
    if not learner.needs_optics(recipe.architecture):
        return volumes
    known: dict[int, TrainingVolume] = {}
    different = list({id(volume): volume for some in volumes for volume in some}.values())

    def part_of(number: int) -> Callable[[float], float]:
        return lambda share: (number + share) / len(different)

    for number, volume in enumerate(different):
        known[id(volume)] = yield from relay(
            _with_optics_steps(recipe, learner, volume),
            part_of(number),
        )
    train, validation = ([known[id(volume)] for volume in some] for some in volumes)
    return train, validation


def _with_optics_steps(
    recipe: Recipe, learner: Learner, volume: TrainingVolume
) -> Generator[float, None, TrainingVolume]:
    found = with_optics(volume, recipe.data.psf, recipe.data.psf_growth)
    yield 0.0
    iterations = learner.deconvolved(recipe.architecture)
    if learner.front_end(recipe.architecture) and found.estimates is None:
        found = yield from found.feature_steps()
    if iterations and found.estimates is None:
        found = yield from found.estimate_steps(iterations)
    if found.light is None:
        found = yield from found.light_steps(learner, recipe.architecture)
    return found


def check_memory(
    recipe: Recipe, learner: Learner, network: Module, sampler: PatchSampler, device: str
) -> None:
    """Refuse a training that needs more memory than is free.

    The loss of one patch is computed on a copy of the network; what autograd keeps for it counts
    once for each patch of the batch. The count stops as soon as the memory is exceeded.

    Parameters
    ----------
    recipe : Recipe
        Its ``batch`` counts.
    network : Module
        On the CPU; it is not changed, and neither is the state of torch's random numbers.
    sampler : PatchSampler
        Of the training.
    device : str
        Where it will run.

    Raises
    ------
    RecipeError
        Weights, moments and activations exceed the free memory.
    """
    free = free_bytes(device)
    weights = COPIES_OF_WEIGHTS * sum(p.numel() * p.element_size() for p in network.parameters())
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        needed = weights + recipe.batch * sum(kept.values())
        if needed > free:
            raise RecipeError(
                f"training with batch {recipe.batch} and patch_px {recipe.patch_px} needs more "
                "than "
                f"{format_bytes(free)}, the free memory of {device}; lower batch or patch_px"
            )
        return tensor

    batch = replace(sampler, batch=1).draw(0)
    trial = copy.deepcopy(network).train()
    with (
        torch.random.fork_rng(devices=[]),
        torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
    ):
        learner.loss(trial, batch)
