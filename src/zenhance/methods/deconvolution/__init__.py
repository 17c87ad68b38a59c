"""Deconvolution with a known PSF: Richardson-Lucy, Wiener or ImageJ's plane-by-plane plugins.

``prepare`` decides everything that belongs to the volume: background, noise, number of iterations,
extrapolation, flux. It solves a volume of up to ``whole_voxels`` as a whole and cuts its tiles out
of the result. For a larger volume it solves four fixed blocks, and each tile replays their
schedule.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field

from zenhance.contract.spec import (
    WHOLE_VOXELS,
    MethodContext,
    MethodParameters,
    MethodSpec,
    Prepared,
    ProfiledLike,
    PsfLike,
)
from zenhance.errors import MethodError
from zenhance.methods.deconvolution.prepared import CutOut, Planes, Replayed
from zenhance.methods.deconvolution.probes import probe_regions
from zenhance.solvers.receptive_field import (
    SMALLEST_NOISE_TO_SIGNAL,
    filter_reach_px,
    iteration_reach_px,
)
from zenhance.solvers.schedule import BandRules, CameraModel, DiscrepancyRule, Schedule
from zenhance.solvers.tensors import exact_mean, to_device, to_numpy
from zenhance.steps import relay
from zenhance.types import FloatArray, Region, Triple

if TYPE_CHECKING:
    import torch

    from zenhance.methods.deconvolution.imagej import PlaneResult
    from zenhance.physics.blur import BlurOperator, PsfKernels
    from zenhance.solvers.richardson_lucy import RichardsonLucy

__all__ = ["METHOD", "GaussianDeconvolution", "GaussianDeconvolutionParameters"]


_STANDARD_ITERATIONS = {"id3d": 100, "rl10": 10, "wpl5": 5, "discrepancy": 100, "fixed": 10}
_NOTHING_TO_SHARPEN = (
    "the stop rule chose 0 iterations, because the noise hides what the blur took away: the result "
    "is the measurement smoothed with the PSF"
)
_NO_BLUR = (
    "the PSF is narrower than a voxel, so there is hardly any blur to remove: the result is close "
    "to "
    "the measurement; check the PSF and the voxel size"
)
MAX_PEDESTAL = 0.5
"""The pedestal that stands for read noise, in typical intensities of the specimen."""
_MIN_SIGMA_PX = 0.3
"""Below this, a Gaussian PSF holds 82 % of its light in one voxel along each axis."""
# Of the work of solving a volume, reading it and making the blur.
SETUP_SHARE = 0.25


class GaussianDeconvolutionParameters(MethodParameters):
    """Settings of :data:`METHOD`."""

    variant: Literal["richardson_lucy", "wiener", "imagej"] = Field(
        "richardson_lucy",
        description="richardson_lucy: best for photon noise; wiener: one linear step; "
        "imagej: plane by plane as ImageJ's plugins do",
        json_schema_extra={"unit": ""},
    )
    dimensions: Literal[2, 3] = Field(
        3,
        description="3: the stack as a whole; 2: each plane by itself, with the PSF in focus "
        "(a 2-D image and imagej are always 2)",
        json_schema_extra={"unit": ""},
    )
    iterations: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="at most this many; empty: 100 with stop=discrepancy, 10 with stop=fixed, "
        "and for imagej id3d 100, rl10 10, wpl5 5",
        json_schema_extra={"unit": "iterations", "start": 10},
    )
    stop: Literal["discrepancy", "fixed"] = Field(
        "discrepancy",
        description="discrepancy: stop where the re-blurred result has reached the noise; "
        "fixed: do all iterations (richardson_lucy)",
        json_schema_extra={"unit": ""},
    )
    acceleration: bool = Field(
        True,
        description="extrapolate each step (Biggs-Andrews): 3 to 5 times fewer iterations "
        "(richardson_lucy)",
        json_schema_extra={"unit": ""},
    )
    tv_weight: float = Field(
        0.0,
        ge=0.0,
        le=0.1,
        description="total variation: 0 none, 0.002 calms noise in dim images, 0.02 flattens "
        "(richardson_lucy)",
        json_schema_extra={"unit": ""},
    )
    wiener_noise: float | None = Field(
        None,
        ge=SMALLEST_NOISE_TO_SIGNAL,
        le=100.0,
        description="noise power over signal power; larger is smoother; "
        "empty: chosen by cross-validation (wiener)",
        json_schema_extra={"unit": "", "start": 0.01},
    )
    imagej_form: Literal["id3d", "rl10", "wpl5"] = Field(
        "id3d",
        description="id3d: Iterative Deconvolve 3D; rl10: DeconvolutionLab2's RL; "
        "wpl5: WPL of Parallel Iterative Deconvolution",
        json_schema_extra={"unit": "", "advanced": True},
    )
    wiener_gamma: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Wiener filter before the iterations, used above 0.0001 (imagej id3d and wpl5)",
        json_schema_extra={"unit": "", "advanced": True},
    )
    low_pass_px: float = Field(
        1.0,
        ge=0.0,
        le=10.0,
        description="Gaussian low-pass in each iteration; 0 switches it off (imagej id3d and wpl5)",
        json_schema_extra={"unit": "px", "advanced": True},
    )
    terminate_percent: float = Field(
        0.01,
        ge=0.0,
        le=100.0,
        description="stop when the mean change falls by less than this (imagej id3d and wpl5)",
        json_schema_extra={"unit": "%", "advanced": True},
    )
    anti_ringing: bool = Field(
        True,
        description="blend the mirrored margin into its blurred self (imagej id3d and wpl5)",
        json_schema_extra={"unit": "", "advanced": True},
    )

    @property
    def most_iterations(self) -> int:
        """The limit on iterations, the standard of the variant where none is given."""
        if self.iterations is not None:
            return self.iterations
        return _STANDARD_ITERATIONS[self.imagej_form if self.variant == "imagej" else self.stop]

    @property
    def solved_dimensions(self) -> int:
        """2 where each plane is solved on its own."""
        return 2 if self.variant == "imagej" else self.dimensions

    @property
    def needs_psf(self) -> bool:
        """There is nothing to deconvolve without one."""
        return True

    def work(self, volume_voxels: int, read_voxels: int, whole_voxels: int) -> tuple[float, float]:
        """A volume that is solved as a whole leaves the tiles almost nothing to do."""
        if self.variant == "imagej":
            return 0.0, 2.0 * self.most_iterations * read_voxels
        each = 4.0
        if volume_voxels <= whole_voxels:
            return each * volume_voxels, 0.2 * read_voxels
        return each * whole_voxels, 0.5 * each * read_voxels


class GaussianDeconvolution:
    """Deconvolution as the registry hands it out; see the module's docstring."""

    spec = MethodSpec(
        name="gaussian_deconvolution",
        title="Deconvolution (Richardson-Lucy, Wiener, ImageJ)",
        summary="Takes the microscope's known blur out again; no training, "
        "and nothing in the result that the blur does not explain.",
        parameters=GaussianDeconvolutionParameters,
        bytes_per_voxel=112,
        source="Richardson 1972; Lucy 1974; Biggs & Andrews 1997; Dey et al. 2006; Dougherty 2005",
    )

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Measure the volume, or solve it if it is small.

        Raises
        ------
        MethodError
            The point spread function is missing.
        """
        parameters: GaussianDeconvolutionParameters = context.parameters
        psf = _psf(context)
        if parameters.variant == "imagej":
            return (yield from _prepare_imagej(context, psf))
        if parameters.variant == "wiener":
            return (yield from _prepare_wiener(context, psf))
        return (yield from _prepare_richardson_lucy(context, psf))

    def plan_halo_px(
        self,
        parameters: GaussianDeconvolutionParameters,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
    ) -> Triple:
        """The largest halo that ``prepare`` may come to ask for; cheap, and without torch."""
        if parameters.variant == "imagej":
            return 0, shape_px[1], shape_px[2]
        if psf is None or _is_whole(shape_px, WHOLE_VOXELS):
            return 0, 0, 0
        kernel = psf.kernel(voxel_size_um, _ndim(parameters, shape_px))
        if parameters.variant == "wiener":
            return _wiener_halo_px(
                kernel,
                [parameters.wiener_noise]
                if parameters.wiener_noise
                else [SMALLEST_NOISE_TO_SIGNAL * 10.0**k for k in range(8)],
            )
        return iteration_reach_px(
            [n // 2 for n in kernel.shape], parameters.most_iterations, parameters.acceleration
        )


def _prepare_richardson_lucy(
    context: MethodContext, psf: PsfLike
) -> Generator[float, None, Prepared]:
    from zenhance.physics.blur import Blur
    from zenhance.solvers.richardson_lucy import RichardsonLucy

    parameters: GaussianDeconvolutionParameters = context.parameters
    regions, measured = yield from _measured(context)
    y = to_device(measured, context.device)
    ndim = _ndim(parameters, context.shape_px)
    profiled = context.profiled if ndim == 3 else None
    blur: BlurOperator = (
        Blur.from_psf(
            cast("PsfKernels", psf), context.voxel_size_um, _blurred_shape(y, ndim), context.device
        )
        if profiled is None
        else profiled.blur(regions, context.device)
    )
    camera = _camera(context, y, blur)
    yield SETUP_SHARE
    signal = max(context.statistics.percentile_high, context.statistics.mean) - camera.background
    problem = RichardsonLucy(
        blur,
        y,
        camera,
        max(signal, 0.0),
        parameters.tv_weight,
        _axis_weights(context.voxel_size_um, ndim),
    )
    depths = None if profiled is None else _Depths.of(problem, profiled, regions, context.device)
    if depths is not None:
        problem = replace(problem, **depths.fields(regions))
    rule: DiscrepancyRule | BandRules | None = None
    if parameters.stop == "discrepancy":
        rule = DiscrepancyRule() if depths is None else BandRules.for_shares(depths.shares)
        problem = replace(problem, camera=_workable(camera, signal))
    x, schedule = yield from relay(
        problem.measure(parameters.most_iterations, accelerate=parameters.acceleration, rule=rule),
        lambda fraction: SETUP_SHARE + (1 - SETUP_SHARE) * fraction,
    )
    whole = _is_whole(context.shape_px, context.whole_voxels)
    said = _account(context, problem, schedule, whole=whole)
    if rule is not None:
        said["notes"]["noise"] = "Gaussian" if rule.is_even else "as estimated"
    if isinstance(rule, BandRules):
        said["notes"]["iterations_by_depth"] = list(schedule.stops)
        said["freedom"] = round(rule.freedom_at(schedule.stops), 4)
    if whole:
        return CutOut(to_numpy(problem.image(x, schedule))[0], **said)
    template = replace(problem, y=y[..., :1, :1, :1].clone(), haze=None, band=None)

    def solve(tile: torch.Tensor, region: Region) -> Generator[float, None, torch.Tensor]:
        fields = {} if depths is None else depths.fields([region])
        on_tile = replace(template, y=tile[None], **fields)
        return on_tile.image((yield from on_tile.replay(schedule)), schedule)[0]

    halo = iteration_reach_px(blur.radius_px, schedule.iterations, parameters.acceleration)
    return Replayed(solve, context.device, halo_px=halo, **said)


@dataclass(frozen=True)
class _Depths:
    """What changes with depth: blur, haze and the bands of the stop rule.

    ``haze_share`` and ``shares`` hold one number for each band.
    """

    profiled: ProfiledLike
    device: str
    haze_share: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(
        cls, problem: RichardsonLucy, profiled: ProfiledLike, regions: Sequence[Region], device: str
    ) -> _Depths:
        """Limit the haze of each band to its darkest percent, as the background is."""
        plain = cls(profiled, device, (), ())
        fields = plain.fields(regions)
        band, haze = fields["band"], fields["haze"]
        dark = to_numpy(problem.blur(problem.y).sub_(problem.camera.background))
        number, light = np.rint(to_numpy(band)).astype(int), to_numpy(haze)
        limits, shares = [], []
        for k in range(int(number.max(initial=0)) + 1):
            inside = number == k
            mean = float(light[inside].mean()) if inside.any() else 0.0
            darkest = float(np.percentile(dark[inside], 1.0)) if inside.any() else 0.0
            limits.append(float(np.clip(darkest / mean, 0.0, 1.0)) if mean > 0.0 else 0.0)
            shares.append(float(inside.mean()))
        return cls(profiled, device, tuple(limits), tuple(shares))

    def fields(self, regions: Sequence[Region]) -> dict[str, Any]:
        """Return the parts of a :class:`RichardsonLucy` that belong to these regions."""
        band = self.profiled.bands(regions, self.device)
        haze = self.profiled.haze(regions, self.device)
        if self.haze_share:
            below = band.floor().clamp_(max=max(len(self.haze_share) - 2, 0)).long()
            limits = band.new_tensor([*self.haze_share, self.haze_share[-1]])
            haze = haze.mul_(limits[below].lerp(limits[below + 1], band - below))
        return {"blur": self.profiled.blur(regions, self.device), "haze": haze, "band": band}


def _account(
    context: MethodContext, problem: RichardsonLucy, schedule: Schedule, *, whole: bool
) -> dict[str, Any]:
    """Return curves, notes, warnings and freedom of a solved or measured volume."""
    blocks, share = problem.y.shape[0], problem.y.numel() / math.prod(context.shape_px)
    on_blocks = f"{blocks} blocks of {tuple(problem.y.shape[1:])} px"
    notes = {
        "iterations": schedule.iterations,
        "stop": _why_stopped(context.parameters, schedule.iterations),
        "background": problem.camera.background,
        "flux_scale": schedule.scale,
        "gain": problem.camera.gain,
        "measured_on": "whole volume" if whole else on_blocks,
    }
    warnings = []
    sigma_px = _psf(context).sigma_px(context.voxel_size_um)
    if max(sigma_px[3 - _ndim(context.parameters, context.shape_px) :]) < _MIN_SIGMA_PX:
        warnings.append(_NO_BLUR)
    elif schedule.iterations == 0:
        warnings.append(_NOTHING_TO_SHARPEN)
    if not whole:
        warnings.append(
            f"the volume is too large to be solved at once; {on_blocks} ({100 * share:.0f} % of "
            "the "
            "voxels) decided how many iterations are done and how large they are. Compared with "
            "the whole volume, voxels differed by 0.5 to 15 % of the range in tests"
        )
    # Where the limit ended the run, the last estimate was not measured: the one before stands in.
    freedom = schedule.freedom[min(schedule.iterations, len(schedule.freedom) - 1) :][:1]
    return {
        "curves": {
            "alpha": list(schedule.alphas),
            "chi2": list(schedule.chi2),
            "freedom": list(schedule.freedom),
        },
        "notes": notes,
        "warnings": warnings,
        "freedom": round(freedom[0], 4) if freedom else None,
    }


def _why_stopped(parameters: GaussianDeconvolutionParameters, iterations: int) -> str:
    if parameters.stop == "fixed":
        return f"after {iterations} iterations, as set"
    if iterations == parameters.most_iterations:
        return f"after {iterations} iterations, the limit; the stop rule would have gone on"
    return f"after {iterations} iterations, where the stop rule's score was smallest"


def _prepare_imagej(context: MethodContext, psf: PsfLike) -> Generator[float, None, Prepared]:
    from zenhance.methods.deconvolution.imagej import (
        Id3dSettings,
        iterative_deconvolve,
        richardson_lucy_circular,
    )

    p: GaussianDeconvolutionParameters = context.parameters
    kernel = psf.kernel(context.voxel_size_um, 2)[0]
    padding = "wpl" if p.imagej_form == "wpl5" else "id3d"
    settings = Id3dSettings(
        p.most_iterations,
        p.wiener_gamma,
        p.low_pass_px,
        p.terminate_percent,
        p.anti_ringing,
        padding=padding,
    )
    yield 1.0

    def solve(plane: torch.Tensor) -> Generator[float, None, PlaneResult]:
        if p.imagej_form == "rl10":
            return richardson_lucy_circular(plane, kernel, p.most_iterations)
        return iterative_deconvolve(plane, kernel, settings)

    lowest = min(0.0, context.statistics.minimum)
    return Planes(solve, context.shape_px, context.device, p.imagej_form, lowest)


@dataclass(frozen=True)
class _WienerSolver:
    """Wiener filters of one depth each, blended by depth, with the light of the measurement."""

    kernels: Sequence[FloatArray]
    ratios: Sequence[float]
    constant: BlurOperator
    profiled: ProfiledLike | None
    device: str
    lowest: float

    def __call__(
        self, measured: torch.Tensor, regions: Sequence[Region]
    ) -> Generator[float, None, torch.Tensor]:
        """Solve blocks (B, Z, Y, X) of a volume; return x above the lowest value, not scaled."""
        import torch

        from zenhance.solvers.flux import keep_flux
        from zenhance.solvers.wiener import Wiener

        count = len(self.kernels)
        light = torch.zeros_like(measured)
        for number, (kernel, ratio) in enumerate(zip(self.kernels, self.ratios, strict=True)):
            part = yield from relay(
                Wiener(kernel, ratio).apply(measured),
                lambda fraction, done=number: (done + fraction) / count,  # type: ignore[misc]
            )
            if count > 1:
                part = part * _kernel_weight(self.profiled, regions, self.device, number)
            light = light.add_(part) if count > 1 else part
        light = light.sub_(self.lowest)
        blur = self.constant
        if self.profiled is not None:
            blur = self.profiled.blur(regions, self.device)
        return keep_flux(light.clamp(min=0.0), blur(blur(light)), blur)


def _prepare_wiener(context: MethodContext, psf: PsfLike) -> Generator[float, None, Prepared]:
    from zenhance.physics.blur import Blur
    from zenhance.solvers.wiener import best_noise_to_signal

    parameters: GaussianDeconvolutionParameters = context.parameters
    regions, measured = yield from _measured(context)
    y = to_device(measured, context.device)
    ndim = _ndim(parameters, context.shape_px)
    profiled = context.profiled if ndim == 3 else None
    kernels = (psf.kernel(context.voxel_size_um, ndim),) if profiled is None else profiled.kernels()
    ratios = []
    for number, kernel in enumerate(kernels):
        part = y if len(kernels) == 1 else _windowed(y, profiled, regions, number)
        ratios.append(parameters.wiener_noise or best_noise_to_signal(part, kernel))
        yield 0.3 * (number + 1) / len(kernels)
    constant = Blur.from_psf(
        cast("PsfKernels", psf), context.voxel_size_um, _blurred_shape(y, ndim), context.device
    )
    lowest = min(0.0, context.statistics.minimum)
    solve = _WienerSolver(kernels, ratios, constant, profiled, context.device, lowest)
    light = yield from solve(y, regions)
    mean_light = exact_mean(light)
    scale = (exact_mean(y) - lowest) / mean_light if mean_light > 0.0 else 1.0
    notes = {"noise_to_signal": ratios[0] if len(ratios) == 1 else ratios, "flux_scale": scale}
    if _is_whole(context.shape_px, context.whole_voxels):
        return CutOut(to_numpy(light.mul_(scale).add_(lowest))[0], notes=notes)

    def replay(tile: torch.Tensor, region: Region) -> Generator[float, None, torch.Tensor]:
        return (yield from solve(tile[None], [region]))[0].mul_(scale).add_(lowest)

    halo = np.max([_wiener_halo_px(k, [r]) for k, r in zip(kernels, ratios, strict=True)], axis=0)
    z, y_, x = (int(n) for n in halo)
    return Replayed(replay, context.device, halo_px=(z, y_, x), notes=notes)


def _kernel_weight(
    profiled: ProfiledLike | None, regions: Sequence[Region], device: str, number: int
) -> torch.Tensor:
    """Return the weight of one kernel in each voxel; those of all kernels sum to 1."""
    position: torch.Tensor = cast("ProfiledLike", profiled).kernel_position(regions, device)
    return position.sub_(float(number)).abs_().neg_().add_(1.0).clamp_(min=0.0)


def _windowed(
    y: torch.Tensor, profiled: ProfiledLike | None, regions: Sequence[Region], number: int
) -> torch.Tensor:
    """Return the measurement where one kernel counts, faded to its mean elsewhere."""
    weight = _kernel_weight(profiled, regions, str(y.device), number)
    mean = float((y * weight).sum() / weight.sum().clamp(min=1e-30))
    return (y - mean).mul_(weight).add_(mean)


def _wiener_halo_px(kernel: FloatArray, ratios: list[float]) -> Triple:
    """Reach of the filter and, less than three times that of the PSF, of keeping the flux.

    The filter's grows as it sharpens, but not from each step to the next: look at the whole span.
    """
    filtering = np.max([filter_reach_px(kernel, ratio) for ratio in ratios], axis=0)
    z, y, x = (int(reach) + 3 * (n // 2) for reach, n in zip(filtering, kernel.shape, strict=True))
    return z, y, x


def _blurred_shape(y: torch.Tensor, ndim: int) -> Triple:
    """Return the shape to make a blur for: 2-D or 3-D, and which matrices to make at once."""
    return (1 if ndim == 2 else max(2, y.shape[-3])), y.shape[-2], y.shape[-1]


def _measured(
    context: MethodContext,
) -> Generator[float, None, tuple[tuple[Region, ...], FloatArray]]:
    """Read the volume, or the blocks that stand for it, as (blocks, Z, Y, X), and where it is."""
    regions = yield from probe_regions(context.shape_px, context.read, context.whole_voxels)
    blocks = []
    for region in regions:
        blocks.append(context.read(region))
        yield 0.0
    return regions, np.stack(blocks)


def _camera(context: MethodContext, y: torch.Tensor, blur: BlurOperator) -> CameraModel:
    """Return background and noise; the background is at most the blurred data's 1st percentile.

    A background that is too high costs far more than one that is too low: the model then leaves
    light unexplained that no specimen can remove.
    """
    from zenhance.physics.noise import estimate

    background = context.statistics.background
    if not context.background_given:
        darkest = float(np.percentile(to_numpy(blur(y)), 1.0))
        background = min(background, darkest)
    noise = context.noise or estimate(to_numpy(y[0]))
    return CameraModel(background, noise.gain, noise.offset, noise.read_noise)


def _workable(camera: CameraModel, signal: float) -> CameraModel:
    """Return the camera with a gain at which Richardson-Lucy iterations make progress.

    Read noise acts as a pedestal of ``read_noise**2 / gain`` under the light, and each iteration
    changes an estimate by less the higher the pedestal is. Where an estimated gain is next to
    nothing, the stop rule would see no progress and keep the smooth first estimate.
    """
    least = camera.read_noise**2 / (MAX_PEDESTAL * signal) if signal > 0.0 else camera.gain
    return replace(camera, gain=max(camera.gain, least))


def _axis_weights(
    voxel_size_um: tuple[float, float, float], ndim: int
) -> tuple[float, float, float]:
    """Inverse pixel steps relative to the shortest axis; 0 along an axis that is not solved."""
    finest = min(voxel_size_um[3 - ndim :])
    z, y, x = (finest / step for step in voxel_size_um)
    return (0.0 if ndim == 2 else z), y, x


def _psf(context: MethodContext) -> PsfLike:
    if context.psf is None:
        raise MethodError(
            "deconvolution needs a point spread function; give one with --psf, "
            "for example --psf sigma_um=0.3,0.1,0.1"
        )
    return context.psf


def _ndim(parameters: GaussianDeconvolutionParameters, shape_px: Triple) -> int:
    return 2 if shape_px[0] == 1 else parameters.dimensions


def _is_whole(shape_px: Triple, whole_voxels: int) -> bool:
    return shape_px[0] * shape_px[1] * shape_px[2] <= whole_voxels


METHOD = GaussianDeconvolution()
"""The method, for the registry."""
