"""Training volumes: the measurement, its truth where there is one, and the scaling of both."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zenhance.contract.learner import Learner, Scaling
from zenhance.contract.spec import VolumeStatistics
from zenhance.errors import RecipeError
from zenhance.io import open_stack
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure, measure_noise, measure_volume
from zenhance.methods._shared.front_end import LocalLight, feature_steps
from zenhance.physics.blur import BlurOperator
from zenhance.physics.noise import PoissonGauss
from zenhance.provenance import ArrayHash
from zenhance.simulate.any_stack import draw_stack
from zenhance.simulate.presets import microscope
from zenhance.simulate.samples import simulate
from zenhance.solvers.deconvolved import deconvolved_steps
from zenhance.stack import Stack, VoxelSize
from zenhance.steps import drain, relay
from zenhance.training.optics import (
    OpticsOf,
    PlaneOptics,
    ToldPsf,
    optics_of_camera,
    optics_of_specimen,
    psf_for_learning,
    told_of_specimen,
)
from zenhance.training.recipe import Data, Drawn, Recipe, Simulated
from zenhance.types import FloatArray, Region

__all__ = [
    "TrainingVolume",
    "files_for_test",
    "kept_for_test",
    "kept_for_validation",
    "load_volumes",
    "measured_steps",
    "of_stacks",
    "volume_steps",
    "with_optics",
]

MIN_FILES_FOR_TEST = 6
MAX_VOLUMES = 16
"""Of a long time series, so many time points and channels are learnt from."""


@dataclass(frozen=True)
class TrainingVolume:
    """One volume to cut patches from; only the pixels of a patch are read.

    Parameters
    ----------
    name : str
        For the card.
    measured : VolumeReader
        The measurement.
    truth : VolumeReader or None
        Its sharp counterpart, on the same grid or one finer by ``scale`` along y and x.
    scaling : Scaling
        From the measurement's statistics, for both.
    statistics : VolumeStatistics
        Of the measurement.
    scale : int
        Truth voxels per measured voxel along y and x.
    estimated_from : TrainingVolume, optional
        The real measurement, where this one is simulated and its truth an estimate made from that.
    optics_of : callable, optional
        Tells how a plane was measured, where a network is taught with it.
    estimates : float16 array (K, Z, Y, X), optional
        Richardson-Lucy estimates of the whole volume, scaled, or the features of the front end,
        where the network gets to see them.
    told : ToldPsf, optional
        What is known of the blur; left out, what ``optics_of`` gives for the middle plane.
    drawn : bool
        Whether it is one of many small stacks of all kinds, of which none counts more and no part
        less.
    light : float16 array (Z, sY, sX), optional
        What the method took the specimen to be before it learnt, scaled.
    """

    name: str
    measured: VolumeReader
    truth: VolumeReader | None
    scaling: Scaling
    statistics: VolumeStatistics
    scale: int = 1
    estimated_from: TrainingVolume | None = None
    optics_of: OpticsOf | None = None
    estimates: npt.NDArray[np.float16] | None = None
    light: npt.NDArray[np.float16] | None = None
    told: ToldPsf | None = None
    drawn: bool = False

    @property
    def shape_px(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the measurement."""
        return self.measured.stack.volume_shape

    def read_measured(self, region: Region) -> FloatArray:
        """Return a region (z, y, x) of the measurement, scaled."""
        return self.scaling.forward(self.measured.read(region))

    def read_truth(self, region: Region) -> FloatArray | None:
        """Return the truth of a region given in measured voxels, scaled like the measurement."""
        if self.truth is None:
            return None
        z, y, x = region
        fine_y, fine_x = (slice(r.start * self.scale, r.stop * self.scale) for r in (y, x))
        return self.scaling.forward(self.truth.read((z, fine_y, fine_x)))

    def optics(self, z: int) -> PlaneOptics:
        """Return how a plane was measured.

        Raises
        ------
        RecipeError
            That is not known: see :func:`with_optics`.
        """
        if self.optics_of is None:
            raise RecipeError(
                f'how "{self.name}" was measured is not known; give data.psf in the recipe'
            )
        return self.optics_of(z)

    def estimate_steps(self, iterations: tuple[int, ...]) -> Generator[float, None, TrainingVolume]:
        """Return the volume with Richardson-Lucy estimates; yield the share that is done.

        The PSF is that of the middle plane, as a user would give one for the stack; haze is not
        known to it.
        """
        blur, _, measured, noise = self._seen()
        steps = deconvolved_steps(measured, blur, noise, self.statistics, iterations)
        made = yield from steps
        return replace(
            self,
            estimates=np.stack(
                [np.asarray(light.numpy() / self.scaling.span, np.float16) for light in made]
            ),
        )

    def _seen(self) -> tuple[BlurOperator, torch.Tensor, torch.Tensor, PoissonGauss]:
        """Return blur and widths as the user knows them, the whole measurement, and its noise."""
        depth, height, width = self.shape_px
        optics = self.optics(depth // 2)
        told = self.told or ToldPsf((optics.parts[0][1],))
        voxel, shape = optics.voxel_size_um, self.shape_px
        measured = self.measured.read((slice(0, depth), slice(0, height), slice(0, width)))
        noise = measure_noise([self.measured], self.statistics)
        return (
            told.blur(voxel, shape),
            told.sigma_px(voxel, shape),
            torch.from_numpy(measured),
            noise,
        )

    def feature_steps(self) -> Generator[float, None, TrainingVolume]:
        """Return the volume with the features of the methods' front end; yield the share done."""
        blur, sigma_px, measured, noise = self._seen()
        voxel = self.optics(0).voxel_size_um
        local = yield from relay(
            LocalLight.steps(self.measured.read, self.shape_px, voxel, noise, self.statistics),
            lambda share: 0.1 * share,
        )
        z, y, x = (slice(0, n) for n in self.shape_px)
        light = torch.from_numpy(local.at((z, y, x)))
        features = yield from relay(
            feature_steps(measured, light, blur, sigma_px, noise, self.statistics),
            lambda share: 0.1 + 0.9 * share,
        )
        features[0] /= self.scaling.span
        return replace(self, estimates=np.asarray(features.numpy(), np.float16))

    def with_estimates(self, iterations: tuple[int, ...]) -> TrainingVolume:
        """Return what :meth:`estimate_steps` gives; with no iterations, the volume itself."""
        if not iterations:
            return self
        return drain(self.estimate_steps(iterations))

    def light_steps(
        self, learner: Learner, architecture: Mapping[str, Any]
    ) -> Generator[float, None, TrainingVolume]:
        """Return the volume with the light that a learner finds, or itself; yield the share."""
        depth, height, width = self.shape_px
        found = []
        for z in range(depth):
            plane = self.read_measured((slice(z, z + 1), slice(0, height), slice(0, width)))[0]
            light = learner.light_of(architecture, plane, self.optics(z))
            if light is None:
                return self
            found.append(np.asarray(light, np.float16))
            yield (z + 1) / depth
        return replace(self, light=np.stack(found))

    def sha256(self) -> str:
        """Return the hash of the measurement's pixels."""
        reader = self.measured
        digest = ArrayHash(reader.stack.dtype, reader.stack.volume_shape)
        for z in range(self.shape_px[0]):
            digest.add(reader.raw((slice(z, z + 1), slice(None), slice(None))))
        return digest.hexdigest()


def of_stacks(name: str, measured: Stack, truth: Stack | None = None) -> Iterator[TrainingVolume]:
    """Yield a training volume for each (t, c) volume of a stack.

    Raises
    ------
    RecipeError
        The truth is not on the measurement's grid, nor on one finer by a whole number along y and
        x.
    """
    scale = 1 if truth is None else _scale_between(name, measured, truth)
    for t, c in measured.volumes():
        reader = VolumeReader(measured, t, c)
        statistics, _ = measure([reader])
        sharp = (
            None
            if truth is None
            else VolumeReader(truth, min(t, truth.size("T") - 1), min(c, truth.size("C") - 1))
        )
        yield TrainingVolume(name, reader, sharp, Scaling.of(statistics), statistics, scale)


def measured_steps(
    stack: Stack, *, repair_outliers: bool, background: float | None, shared: bool
) -> Generator[tuple[str, float], None, tuple[list[TrainingVolume], list[TrainingVolume]]]:
    """Measure the volumes of one stack as a run on it does: a network then sees the same in both.

    Parameters
    ----------
    stack : Stack
        Of a long time series, :data:`MAX_VOLUMES` volumes are used, evenly spaced.
    repair_outliers, shared : bool
        Whether hot and dead pixels are replaced, and all time points share their statistics.
    background : float or None
        In the stack's units; None estimates it.

    Yields
    ------
    tuple of str and float
        The volume that is measured, and the share of it that was read.

    Returns
    -------
    tuple of two lists
        The same one, to train on and to validate on.
    """
    every = list(stack.volumes())
    wanted = sorted(
        {round(i) for i in np.linspace(0, len(every) - 1, min(MAX_VOLUMES, len(every)))}
    )
    known: dict[int, VolumeStatistics] = {}
    volumes = []
    for t, c in (every[i] for i in wanted):
        where = "" if len(every) == 1 else f", time point {t}, channel {c}"
        name = f"{stack.name}{where}"
        reader = VolumeReader(stack, t, c, repair_outliers)
        if c not in known:
            others = range(stack.size("T")) if shared else [t]
            readers = [VolumeReader(stack, i, c, repair_outliers) for i in others]
            found = yield from relay(
                measure_volume(readers, background), partial(_named_share, name)
            )
            known[c] = found.statistics
            reader = next(r for r in found.readers if (r.t, r.c) == (t, c))
        statistics = known[c] if shared else known.pop(c)
        volumes.append(TrainingVolume(name, reader, None, Scaling.of(statistics), statistics))
    return volumes, volumes


def _named_share(name: str, share: float) -> tuple[str, float]:
    return name, share


def with_optics(volume: TrainingVolume, psf: str | None, growth: float = 1.0) -> TrainingVolume:
    """Return the volume with its optics.

    Optics that it lacks are the PSF of recipe, file or default, and the noise of the volume.

    Parameters
    ----------
    volume : TrainingVolume
        To be learnt from.
    psf : str, optional
        As a recipe names it.
    growth : float
        Its width in the last plane over that in the first.

    Raises
    ------
    StackError
        The stack's voxel size is not known.
    """
    if volume.optics_of is not None:
        return volume
    stack = volume.measured.stack
    shape = psf_for_learning(stack, volume.measured.c, psf)
    lengths = stack.voxel_size.require("ZYX" if "Z" in stack.axes else "YX")
    voxel = (
        (lengths[0], lengths[1], lengths[2]) if len(lengths) == 3 else (1.0, lengths[0], lengths[1])
    )
    noise = measure_noise([volume.measured], volume.statistics)
    return replace(
        volume,
        optics_of=optics_of_camera(shape, noise, voxel, volume.scaling, volume.shape_px[0], growth),
    )


def _scale_between(name: str, measured: Stack, truth: Stack) -> int:
    (z, y, x), (tz, ty, tx) = measured.volume_shape, truth.volume_shape
    scale = max(1, ty // y)
    if (tz, ty, tx) != (z, scale * y, scale * x):
        raise RecipeError(
            f'the truth of "{name}" has shape {(tz, ty, tx)}; it must have the measurement\'s '
            f"{(z, y, x)}, "
            "or a whole multiple of it along y and x"
        )
    return scale


def _simulated(plan: Simulated) -> Iterator[list[TrainingVolume]]:
    z, y, x = plan.shape_px
    z_um, y_um, x_um = plan.voxel_size_um
    for number in range(plan.count + plan.validation):
        seed = plan.seed + number
        specimen = simulate(
            plan.specimen,
            seed=seed,
            shape_px=(z, y * plan.scale, x * plan.scale),
            voxel_size_um=(z_um, y_um / plan.scale, x_um / plan.scale),
            settings=dict(plan.settings),
            microscope=microscope(**plan.microscopes[number % len(plan.microscopes)]),
        )
        volumes = of_stacks(
            f"{plan.specimen} seed {seed}",
            _binned(specimen.measured, plan.scale),
            None if plan.measured_only else specimen.truth,
        )
        known = plan.scale == 1 and "C" not in specimen.measured.axes
        yield [
            replace(v, optics_of=optics_of_specimen(specimen, v.scaling)) if known else v
            for v in volumes
        ]


def _drawn(plan: Drawn, number: int) -> list[TrainingVolume]:
    """Simulate a stack of any kind; one in which nothing was recorded is left out."""
    specimen = simulate(**draw_stack(plan.seed, number).arguments)
    told = told_of_specimen(specimen, np.random.default_rng([plan.seed, number, 11]))
    return [
        replace(v, optics_of=optics_of_specimen(specimen, v.scaling), told=told, drawn=True)
        for v in of_stacks(f"drawn {plan.seed}:{number}", specimen.measured, specimen.truth)
        if v.statistics.percentile_high > v.statistics.background
    ]


def _binned(stack: Stack, scale: int) -> Stack:
    """Average blocks of pixels along y and x, as a camera with larger pixels would."""
    if scale == 1:
        return stack
    data = np.asarray(stack.data, np.float32)
    *front, height, width = data.shape
    blocks = data.reshape(*front, height // scale, scale, width // scale, scale).mean(axis=(-3, -1))
    z_um, y_um, x_um = stack.voxel_size.require()
    return stack.with_data(
        blocks, voxel_size=VoxelSize.of((z_um, y_um * scale, x_um * scale), "file")
    )


def volume_steps(
    recipe: Recipe,
) -> Generator[tuple[str, float], None, tuple[list[TrainingVolume], list[TrainingVolume]]]:
    """Load or simulate the volumes one by one, so that progress is shown and Cancel works.

    Yields
    ------
    tuple of str and float
        The stack that comes next, and the share of them that is done.

    Returns
    -------
    tuple of two lists
        As :func:`load_volumes`, which also says what is raised.
    """
    train: list[TrainingVolume] = []
    held: list[TrainingVolume] = []
    files = [(p.measured, p.truth) for p in recipe.data.pairs] + [
        (path, None) for path in recipe.data.stacks
    ]
    total = len(files) + sum(plan.count + plan.validation for plan in recipe.data.simulated)
    total += sum(plan.count + plan.validation for plan in recipe.data.drawn)
    done = 0
    for drawn in recipe.data.drawn:
        for number in range(drawn.count + drawn.validation):
            yield f"drawn stack {number}", done / total
            (train if number < drawn.count else held).extend(_drawn(drawn, number))
            done += 1
    for plan in recipe.data.simulated:
        pairs = _simulated(plan)
        for number in range(plan.count + plan.validation):
            yield f"{plan.specimen} seed {plan.seed + number}", done / total
            (train if number < plan.count else held).extend(next(pairs))
            done += 1
    kept, apart = (
        kept_for_validation(len(files), recipe.data),
        kept_for_test(len(files), recipe.data),
    )
    for number, (path, sharp) in enumerate(files):
        if number in apart:
            done += 1
            continue
        yield Path(path).name, done / total
        pair = (open_stack(Path(path)), None if sharp is None else open_stack(Path(sharp)))
        (held if number in kept else train).extend(of_stacks(Path(path).name, *pair))
        done += 1
    _check_grids(train + held)
    return train, held or train


def load_volumes(recipe: Recipe) -> tuple[list[TrainingVolume], list[TrainingVolume]]:
    """Return the volumes to train on and to validate on; no file or simulated stack is in both.

    Raises
    ------
    RecipeError
        A pair does not fit, or there are too few files to keep one for validation.
    ReadError
        A file cannot be read.
    """
    return drain(volume_steps(recipe))


def kept_for_validation(count: int, data: Data) -> set[int]:
    """Spread the validation files evenly over the list; a single file serves for both."""
    if count < 2:
        return set()
    held = max(1, round(count * data.validation_share))
    return {round((i + 0.5) * count / held - 0.5) for i in range(held)}


def kept_for_test(count: int, data: Data) -> set[int]:
    """Choose the files kept for testing: of six or more, as many as for validation.

    Six plants are so divided into four to train on, one to validate on and one to test with.
    """
    if count < MIN_FILES_FOR_TEST:
        return set()
    validating = kept_for_validation(count, data)
    others = [number for number in range(count) if number not in validating]
    many = min(len(validating), len(others) - 1)
    return {others[round((i + 0.5) * len(others) / many - 0.5)] for i in range(many)}


def files_for_test(recipe: Recipe) -> list[str]:
    """Return the measured files that a training leaves untouched; see :func:`kept_for_test`."""
    files = [pair.measured for pair in recipe.data.pairs] + list(recipe.data.stacks)
    return [files[number] for number in sorted(kept_for_test(len(files), recipe.data))]


def _check_grids(volumes: list[TrainingVolume]) -> None:
    scales = {v.scale for v in volumes if v.truth is not None}
    if len(scales) > 1:
        raise RecipeError(
            f"the training pairs have different scales {sorted(scales)}; train one model for each"
        )
