"""Arbitration: a network's estimate where it predicts held-out photons better than deconvolution.

Nine tenths of the photons go to the network and to Richardson-Lucy, and the tenth that both have
not seen decides, block by block. Then both run on all photons and are blended::

    measurement ─┬─ kept ────► network, Richardson-Lucy ──► views ──┐
                 └─ held out ───────────────────────────────────────┴──► share of the network
    measurement ────► network · share + Richardson-Lucy · (1 - share)

A network leaves out what it learnt to leave out, such as haze. Each of its estimates therefore also
competes after a few Richardson-Lucy steps, which add what the photons demand, and every prediction
is fitted to the kept photons first (:mod:`zenhance.pipeline.evidence`). The network has to be
better beyond doubt; otherwise deconvolution is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from zenhance.contract import registry
from zenhance.contract.spec import (
    STD,
    Method,
    MethodContext,
    MethodParameters,
    MethodSpec,
    OutputSpec,
    PlanContext,
    Prepared,
    PsfLike,
)
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.thinning import camera_of_share, grey_of_share, split_photons
from zenhance.pipeline.evidence import Blocks, Contest, Tally
from zenhance.solvers.receptive_field import iteration_reach_px
from zenhance.steps import relay
from zenhance.tiling.geometry import Tile, TilePlan, plan_tiles
from zenhance.tiling.run import run_tiles
from zenhance.types import FloatArray, Region, Triple

if TYPE_CHECKING:
    import torch

    from zenhance.physics.blur import BlurOperator, PsfKernels

__all__ = [
    "BASELINE",
    "NETWORK_SHARE",
    "Effort",
    "Prepare",
    "alone",
    "arbitrated_bytes_per_voxel",
    "arbitration_halo_px",
    "arbitration_steps",
    "can_arbitrate",
    "not_arbitrated",
]

NETWORK_SHARE = OutputSpec("network_share", "share of the network")
"""The map of the network's share, 0 ... 1; elsewhere the result is deconvolution."""
BASELINE = "gaussian_deconvolution"
KEPT_SHARE = 0.9
STEPS = (0, 2, 6, 12)
"""Richardson-Lucy steps after which a network's estimate competes."""
ENOUGH = 0.5
"""The result has the fewest steps that reach this part of the best gain."""
NARROW, WIDE = 0.7, 1.0
"""Other views: a narrower PSF, and the PSF blurred once more, in widths of the PSF."""
VIEWS = 3
DARK = 0.05
"""Least expected light for the weights, in mean light of the volume."""
# The volume is judged in tiles of this many voxels at most, whatever memory there is.
TRIAL_PX = (48, 256, 256)
MAX_TRIAL_VOXELS = 3_000_000
"""A larger volume is judged on a sample of columns, of about so many voxels in all."""
TRIAL_COLUMNS = 6
"""At least so many, each from another part of the ranking by brightness."""
MIN_TRIAL_SIDE_PX = 48
TRIAL_RIM_PX = (4, 8, 8)
"""Context of a trial's tile (z, y, x), beside twice the radius of the PSF."""

STEP_WORK = 0.5
"""Of a Richardson-Lucy step, in units of measuring a voxel."""

Step = TypeVar("Step")
Prepare = Callable[
    [Method, MethodContext, Callable[[float], Step]], Generator[Step, None, Prepared]
]


def can_arbitrate(spec: MethodSpec, parameters: MethodParameters) -> bool:
    """Return whether a method is learnt, removes blur and keeps the grid of the measurement."""
    return spec.learns != "no" and parameters.deblurs and max(parameters.output_scale) == 1


def arbitration_halo_px(
    halo_px: Triple, psf: PsfLike, context_shape_px: Triple, voxel_size_um: tuple[float, ...]
) -> Triple:
    """Return the halo (z, y, x) of a network, deconvolution included."""
    method = registry.load(BASELINE)
    size = (voxel_size_um[0], voxel_size_um[1], voxel_size_um[2])
    z, y, x = psf.radius_px(size)
    reach = iteration_reach_px((z if context_shape_px[0] > 1 else 0, y, x), max(STEPS), False)
    baseline = method.plan_halo_px(PlanContext(method.spec.defaults, context_shape_px, size, psf))
    return _largest(baseline, _sum(halo_px, reach))


def _largest(*halos: Triple) -> Triple:
    z, y, x = (max(n) for n in zip(*halos, strict=True))
    return (z, y, x)


def _sum(*halos: Triple) -> Triple:
    z, y, x = (sum(n) for n in zip(*halos, strict=True))
    return (z, y, x)


def arbitrated_bytes_per_voxel(own: int) -> int:
    """Return the working memory per voxel of a tile, from that of the network alone.

    Both work one after the other; their images, the share and the blend are kept beside.
    """
    return max(own, registry.load(BASELINE).spec.bytes_per_voxel) + 6 * 4


@dataclass(frozen=True)
class Effort:
    """The work of a network that competes, in the units of ``MethodParameters.work``."""

    load: float
    enhance: float
    solve: float
    cut: float
    step: float
    tried: float

    @classmethod
    def of(
        cls, parameters: MethodParameters, volume_voxels: int, read_voxels: int, whole_voxels: int
    ) -> Effort:
        """Return the work for a volume and its tiles."""
        sizes = (volume_voxels, read_voxels, whole_voxels)
        network = parameters.work(*sizes)
        baseline = registry.load(BASELINE).spec.defaults.work(*sizes)
        tried = min(1.0, MAX_TRIAL_VOXELS / volume_voxels)
        return cls(*network, *baseline, STEP_WORK * volume_voxels, tried)

    @property
    def phases(self) -> tuple[float, float, float, float, float]:
        """Prepare the network; it and deconvolution for the kept photons; trial; deconvolution."""
        trial = self.tried * (self.cut + self.enhance + max(STEPS) * self.step)
        return self.load, self.load, self.tried * self.solve, trial, self.solve

    @property
    def tiles(self) -> float:
        """The work of the tiles after the trial."""
        return self.enhance + self.cut

    def ends(self) -> list[float]:
        """Return the share of the work that is done after each phase."""
        done = np.cumsum(self.phases)
        return [float(d) for d in done / done[-1]]

    def within_tile(self, steps: int) -> tuple[float, float]:
        """Return the share of a tile's work done after deconvolution and after the network."""
        whole = self.cut + self.enhance + steps * self.step
        return self.cut / whole, (self.cut + self.enhance) / whole


def _constant(fraction: float) -> Callable[[float], float]:
    return lambda _: fraction


def not_arbitrated(context: MethodContext, prepared: Prepared) -> str:
    """Say why a run cannot be arbitrated; empty where it can."""
    if prepared.deblurs is False:
        return (
            "the result was not compared with deconvolution, because the model keeps the blur of "
            "the microscope"
        )
    axes = "".join(a for a in context.unknown_axes if a != "z" or context.shape_px[0] > 1)
    if axes:
        return (
            f"the result was not compared with deconvolution, because the voxel size along {axes} "
            "is unknown; give the voxel size"
        )
    return ""


@dataclass(frozen=True)
class _Views:
    """A volume's microscope: the views of an estimate, and Richardson-Lucy steps from it."""

    context: MethodContext
    psf: PsfLike
    noise: PoissonGauss

    def blur(self, region: Region) -> BlurOperator:
        """Return the microscope's blur of a region (1, Z, Y, X)."""
        if self.context.profiled is not None and self.context.shape_px[0] > 1:
            return cast("BlurOperator", self.context.profiled.blur([region], self.context.device))
        return self._told

    def _constant(self, psf: PsfKernels) -> BlurOperator:
        from zenhance.physics.blur import Blur

        context = self.context
        return Blur.from_psf(psf, context.voxel_size_um, context.shape_px, context.device)

    @cached_property
    def _told(self) -> BlurOperator:
        return self._constant(cast("PsfKernels", self.psf))

    @cached_property
    def _others(self) -> tuple[BlurOperator, BlurOperator]:
        return self._gaussian(NARROW), self._gaussian(WIDE)

    def _gaussian(self, width: float) -> BlurOperator:
        """Return the blur by a Gaussian of so many widths of the PSF."""
        from zenhance.physics.psf import gaussian

        size = self.context.voxel_size_um
        z, y, x = (
            max(width * s * v, 1e-3 * v) for s, v in zip(self.psf.sigma_px(size), size, strict=True)
        )
        return self._constant(gaussian((z, y, x)))

    def seen(self, image: torch.Tensor, blur: BlurOperator) -> list[torch.Tensor]:
        """Return the views of an image (1, Z, Y, X) in grey values: given PSF, narrower, wider."""
        light = (image - self.noise.offset) / self.noise.gain
        told = blur(light)
        narrow, wide = self._others
        return [told, narrow(light), wide(told)]

    def stepped(
        self, image: torch.Tensor, measured: torch.Tensor, blur: BlurOperator, steps: int
    ) -> Generator[float, None, torch.Tensor]:
        """Return an image (1, Z, Y, X) after some Richardson-Lucy steps."""
        if steps == 0:
            return image
        from zenhance.solvers.richardson_lucy import RichardsonLucy
        from zenhance.solvers.schedule import CameraModel, Schedule

        noise, statistics = self.noise, self.context.statistics
        ground = statistics.background
        camera = CameraModel(ground, noise.gain, noise.offset, noise.read_noise)
        signal = max(statistics.percentile_high, statistics.mean) - ground
        problem = RichardsonLucy(blur, measured, camera, max(signal, 0.0))
        start = (image - ground).clamp_(min=0.1 * problem.floor)
        x = yield from problem.replay(Schedule((0.0,) * steps), start=start)
        return x + ground


def _valid(shape_px: Triple, origin_px: Triple, tile: FloatArray) -> Region:
    """Return the part of a tile that is inside the volume."""
    z, y, x = (
        slice(0, min(n, s - o)) for s, o, n in zip(shape_px, origin_px, tile.shape, strict=True)
    )
    return (z, y, x)


def _place(origin_px: Triple, shape: tuple[int, ...]) -> Region:
    z, y, x = (slice(o, o + n) for o, n in zip(origin_px, shape, strict=True))
    return (z, y, x)


@dataclass(kw_only=True)
class _Both(Prepared):
    """A network and deconvolution, made ready for the same photons."""

    network: Prepared
    baseline: Prepared
    views: _Views
    effort: Effort

    def solved(
        self, tile: FloatArray, origin_px: Triple, steps: int
    ) -> Generator[float, None, FloatArray]:
        """Return the image of deconvolution, of the part of a tile inside the volume."""
        inside = _valid(self.views.context.shape_px, origin_px, tile)
        cut, _ = self.effort.within_tile(steps)
        found = yield from relay(self.baseline(tile[inside].copy(), origin_px), lambda f: cut * f)
        return found["enhanced"]

    def found(
        self, tile: FloatArray, origin_px: Triple, steps: int
    ) -> Generator[float, None, dict[str, FloatArray]]:
        """Return the outputs of the network."""
        cut, end = self.effort.within_tile(steps)
        found = yield from relay(self.network(tile, origin_px), lambda f: cut + (end - cut) * f)
        return dict(found)

    def tensor(self, array: FloatArray) -> torch.Tensor:
        """Return an array as a tensor (1, Z, Y, X) on the run's device."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(
            self.views.context.device
        )[None]


@dataclass(kw_only=True)
class _Trial(_Both):
    """What both make of the kept photons, and the held-out photons, tile by tile."""

    camera: PoissonGauss
    darkest: float

    def __call__(
        self, tile: FloatArray, origin_px: Triple
    ) -> Generator[float, None, dict[str, FloatArray]]:
        """Return all views of both, both shares of the photons, and the weights (K, Z, Y, X)."""
        kept, held = split_photons(
            tile, self.camera, KEPT_SHARE, self.views.context.seed, origin_px
        )
        grey = grey_of_share(kept, self.camera, KEPT_SHARE)
        inside = _valid(self.views.context.shape_px, origin_px, tile)
        region = _place(origin_px, tile[inside].shape)
        solved = yield from self.solved(grey, origin_px, max(STEPS))
        found = yield from self.found(grey.copy(), origin_px, max(STEPS))
        blur, measured = self.views.blur(region), self.tensor(grey[inside])
        seen = self.views.seen(self.tensor(solved), blur)
        image = self.tensor(found["enhanced"][inside])
        _, end = self.effort.within_tile(max(STEPS))
        for before, after in zip((0, *STEPS), STEPS, strict=False):
            steps = self.views.stepped(image, measured, blur, after - before)
            done = end + (1 - end) * before / max(STEPS)
            image = yield from relay(steps, _constant(done))
            seen += self.views.seen(image, blur)
        added = (self.camera.read_noise / self.camera.gain) ** 2
        weight = 1.0 / (seen[0].clamp(min=self.darkest) + added)
        mask = self.views.context.mask
        missing = None if mask is None else mask(region)
        if missing is not None:
            weight = weight * self.tensor(np.asarray(~missing, np.float32))
        parts = [np.asarray(part[0].cpu().numpy(), np.float32) for part in (*seen, weight)]
        held, kept = held[inside] / (1 - KEPT_SHARE), kept[inside] / KEPT_SHARE
        outside = [(0, n - v) for n, v in zip(tile.shape, held.shape, strict=True)]
        return {"trial": np.pad(np.stack([*parts, kept, held]), [(0, 0), *outside])}


@dataclass(frozen=True)
class _Verdict:
    """The network's share in each block, and the steps that its estimate needs."""

    blocks: Blocks
    shares: np.ndarray[Any, np.dtype[np.float64]]
    steps: int
    compared: tuple[Contest, ...]
    tried: float

    @classmethod
    def of(cls, blocks: Blocks, compared: tuple[Contest, ...], tried: float) -> _Verdict:
        """Judge by the network's estimate whose blend predicts best, after a share was tried."""
        sigma = blocks.sigma()
        gains = [comparison.reached(sigma) for comparison in compared]
        best = max(range(len(gains)), key=gains.__getitem__)
        fewest = next(n for n, g in enumerate(gains) if g >= min(ENOUGH * gains[best], gains[best]))
        return cls(blocks, compared[best].shares(sigma), STEPS[fewest], compared, tried)

    @property
    def by_depth(self) -> list[float]:
        """Mean share of each layer of blocks, the first plane's first."""
        return [round(float(layer.mean()), 3) for layer in self.shares]

    def share(self) -> float:
        """Mean share over the voxels."""
        sizes = [
            np.diff(np.append(np.arange(0, n, s), n)).astype(np.float64)
            for n, s in zip(self.blocks.shape_px, self.blocks.size_px, strict=True)
        ]
        weight = sizes[0][:, None, None] * sizes[1][:, None] * sizes[2]
        return float((self.shares * weight).sum() / weight.sum())

    def sentence(self) -> str:
        """Say where the network was taken."""
        share = self.share()
        if share >= 0.995:
            return "the network was used everywhere: it predicts the held-out light better"
        if share < 0.005:
            return (
                "deconvolution was used everywhere: the network does not predict the held-out "
                "light better, so the model does not suit this stack"
            )
        return (
            f"the network was used in {100 * share:.0f} % of the volume; elsewhere deconvolution "
            "was used, because the network does not predict the held-out light better there"
        )

    def notes(self) -> dict[str, Any]:
        """Return what the record keeps."""
        rounds = [contest.baseline for contest in self.compared]
        return {
            "network_share": round(self.share(), 4),
            "network_share_by_depth": self.by_depth,
            "planes_per_layer": self.blocks.size_px[0],
            "tried": round(self.tried, 4),
            "richardson_lucy_steps": self.steps,
            "gain_nats": {str(n): round(c.total, 2) for n, c in zip(STEPS, rounds, strict=True)},
            "certainty": round(max(c.certainty for c in rounds), 2),
        }


@dataclass(kw_only=True)
class _Arbitrated(_Both):
    """The blend of a network and deconvolution, tile by tile."""

    verdict: _Verdict
    outputs: Mapping[str, OutputSpec]

    def __call__(
        self, tile: FloatArray, origin_px: Triple
    ) -> Generator[float, None, dict[str, FloatArray]]:
        """Enhance a tile (Z, Y, X) with either or both, and blend them."""
        count = self.verdict.steps
        inside = _valid(self.views.context.shape_px, origin_px, tile)
        region = _place(origin_px, tile[inside].shape)
        inner = self.verdict.blocks.interpolate(self.verdict.shares, region)
        outside = [(0, n - v) for n, v in zip(tile.shape, inner.shape, strict=True)]
        share, base = np.pad(inner, outside, mode="edge"), None
        if inner.min() < 1.0:
            base = np.pad((yield from self.solved(tile, origin_px, count)), outside, mode="edge")
        if base is not None and not inner.any() and self._blended():
            return self._solved_alone(base)
        found = yield from self.found(tile.copy(), origin_px, count)
        # Some of what a method reports is known only after its tiles.
        self.curves, self.warnings = self.network.curves, self.network.warnings
        self.notes = {**self.notes, **self.network.notes}
        image = found["enhanced"]
        if count and inner.any():
            steps = self.views.stepped(
                self.tensor(image[inside]),
                self.tensor(tile[inside]),
                self.views.blur(region),
                count,
            )
            _, end = self.effort.within_tile(count)
            stepped = yield from relay(steps, lambda f: end + (1 - end) * f)
            image = np.pad(stepped[0].cpu().numpy(), outside, mode="edge")
        return self._blend(found, image, base, share)

    def _blended(self) -> bool:
        """Whether all outputs are blends, so that the network is not needed without a share."""
        return all(o.name == STD or o.kind == "image" for o in self.outputs.values())

    def _solved_alone(self, base: FloatArray) -> dict[str, FloatArray]:
        """Return the outputs where the network has no share."""
        out = {}
        for name, output in self.outputs.items():
            out[name] = np.zeros_like(base) if name == STD else base
            if output.series:
                out[name] = np.broadcast_to(base, (output.series, *base.shape))
        return {**out, "enhanced": base, NETWORK_SHARE.name: np.zeros_like(base)}

    def _blend(
        self,
        found: dict[str, FloatArray],
        image: FloatArray,
        base: FloatArray | None,
        share: FloatArray,
    ) -> dict[str, FloatArray]:
        """Return the outputs, the network's estimate replaced by an image after the steps."""

        def mixed(estimate: FloatArray) -> FloatArray:
            mix = estimate if base is None else base + share * (estimate - base)
            return np.asarray(mix, np.float32)

        out = {**found, "enhanced": mixed(image), NETWORK_SHARE.name: share}
        for name, output in self.outputs.items():
            if output.series and output.kind == "image":
                # Every sample takes up what the steps added to the estimate.
                out[name] = mixed(found[name] + (image - found["enhanced"]))
        if STD in out:
            out[STD] = np.asarray(share * found[STD], np.float32)
        return out


@dataclass(kw_only=True)
class _Alone(Prepared):
    """A method that was not arbitrated, with its share of one."""

    network: Prepared

    def __call__(
        self, tile: FloatArray, origin_px: Triple
    ) -> Generator[float, None, dict[str, FloatArray]]:
        """Enhance a tile (Z, Y, X)."""
        found = yield from self.network(tile, origin_px)
        self.curves, self.notes = self.network.curves, self.network.notes
        return {**found, NETWORK_SHARE.name: np.ones_like(found["enhanced"])}


def _report(prepared: Prepared) -> dict[str, Any]:
    return {f.name: getattr(prepared, f.name) for f in fields(Prepared)}


def alone(prepared: Prepared, reason: str) -> Prepared:
    """Return a network that does not compete, with a reason for the user."""
    report = _report(prepared)
    report["warnings"] = [*prepared.warnings, *([reason] if reason else [])]
    return _Alone(network=prepared, **report)


def arbitration_steps(
    prepared: Prepared,
    method: Method,
    context: MethodContext,
    psf: PsfLike,
    prepare: Prepare[Step],
    progress: Callable[[float], Step],
) -> Generator[Step, None, Prepared]:
    """Compare a prepared network with deconvolution and return the blend of both.

    Parameters
    ----------
    prepared : Prepared
        The network, ready for the volume.
    method : Method
        The network's.
    context : MethodContext
        The volume.
    psf : PsfLike
        The blur of the microscope.
    prepare : callable
        Prepares a method for a volume; takes what ``progress`` is.
    progress : callable
        Turns the fraction done into a step to yield.

    Returns
    -------
    Prepared
        Its outputs are those of the network and :data:`NETWORK_SHARE`.

    Notes
    -----
    Peak memory is that of the network on a tile of the trial, and 36 float32 arrays of the tile. A
    volume beyond :data:`MAX_TRIAL_VOXELS` is judged on a sample; elsewhere the depth decides, less
    surely the more its windows differ.
    """
    noise, baseline = _noise(context), registry.load(BASELINE)
    seen = camera_of_share(noise, KEPT_SHARE)
    kept = replace(context, read=_kept(context, noise), noise=seen)
    if math.prod(context.shape_px) > MAX_TRIAL_VOXELS:
        kept = replace(kept, whole_voxels=min(context.whole_voxels, MAX_TRIAL_VOXELS // 2))
    settings: dict[str, Any] = {"parameters": baseline.spec.defaults, "psf": psf, "weights": None}
    voxels, parameters = math.prod(context.shape_px), cast("MethodParameters", context.parameters)
    effort = Effort.of(parameters, voxels, voxels, context.whole_voxels)
    _, loaded, solving, tried, _ = effort.ends()
    start = effort.ends()[0]

    def between(begin: float, end: float) -> Callable[[float], Step]:
        return lambda f: progress((begin + (end - begin) * f - start) / (1 - start))

    network = yield from prepare(method, kept, between(start, loaded))
    solved = yield from prepare(baseline, replace(kept, **settings), between(loaded, solving))
    trial = _Trial(
        network=network,
        baseline=solved,
        views=_Views(kept, psf, seen),
        effort=effort,
        camera=noise,
        darkest=DARK * max((context.statistics.mean - noise.offset) / noise.gain, 1e-3),
        halo_px=_near(_halo(network, solved, psf, context, max(STEPS)), psf, context),
    )
    judged = _judged(trial, context.read, method.spec.size_multiple)
    verdict = yield from relay(judged, between(solving, tried))
    del trial, network
    if verdict.shares.min() < 1.0:
        settled = replace(context, **settings)
        solved = yield from prepare(baseline, settled, between(tried, 1.0))
    report = _report(prepared)
    report["halo_px"] = _halo(prepared, solved, psf, context, verdict.steps)
    report["notes"] = {**prepared.notes, "arbitration": verdict.notes()}
    report["remark"] = "; ".join(part for part in (prepared.remark, verdict.sentence()) if part)
    return _Arbitrated(
        network=prepared,
        baseline=solved,
        views=_Views(context, psf, noise),
        effort=effort,
        verdict=verdict,
        outputs={o.name: o for o in parameters.outputs},
        **report,
    )


def _noise(context: MethodContext) -> PoissonGauss:
    noise = context.noise
    if noise is None:
        return PoissonGauss(1.0, context.statistics.background)
    return PoissonGauss(noise.gain, noise.offset, noise.read_noise)


def _kept(context: MethodContext, noise: PoissonGauss) -> Callable[[Region], FloatArray]:
    """Return a reader of the kept photons, as grey values of the measurement's brightness."""

    def read(region: Region) -> FloatArray:
        measured = context.read(region)
        z, y, x = (
            part.indices(size)[0] for part, size in zip(region, context.shape_px, strict=True)
        )
        kept, _ = split_photons(measured, noise, KEPT_SHARE, context.seed, (z, y, x))
        return grey_of_share(kept, noise, KEPT_SHARE)

    return read


def _halo(
    network: Prepared, solved: Prepared, psf: PsfLike, context: MethodContext, steps: int
) -> Triple:
    """Return the halo that both need, the steps from the network's estimate included."""
    z, y, x = psf.radius_px(context.voxel_size_um)
    radius = (z if context.shape_px[0] > 1 else 0, y, x)
    reach = iteration_reach_px(radius, steps, False) if steps else (0, 0, 0)
    return _largest(solved.halo_px, _sum(network.halo_px, reach))


def _near(halo_px: Triple, psf: PsfLike, context: MethodContext) -> Triple:
    """Return a halo with which estimates are good enough to be compared.

    Only a method that needs the whole depth gets it.
    """
    radius = psf.radius_px(context.voxel_size_um)
    z, y, x = (min(h, 2 * r + rim) for h, r, rim in zip(halo_px, radius, TRIAL_RIM_PX, strict=True))
    return (halo_px[0] if halo_px[0] >= context.shape_px[0] else z, y, x)


def _trial_plan(context: MethodContext, halo_px: Triple, multiple: Triple) -> TilePlan:
    """Plan the tiles of a trial: all, or columns of each brightness of a large volume."""
    shape, (thick, *sides) = context.shape_px, TRIAL_PX
    depth = shape[0] if halo_px[0] >= shape[0] else thick
    if math.prod(shape) <= MAX_TRIAL_VOXELS:
        return plan_tiles(shape, (depth, sides[0], sides[1]), halo_px, multiple)
    side = math.isqrt(MAX_TRIAL_VOXELS // (TRIAL_COLUMNS * shape[0]))
    side = max(MIN_TRIAL_SIDE_PX, min(side, min(sides)))
    plan = plan_tiles(shape, (depth, side, side), halo_px, multiple)
    columns: dict[tuple[int, int], list[Tile]] = {}
    for tile in plan.tiles:
        columns.setdefault((tile.core[1].start, tile.core[2].start), []).append(tile)
    full = max(_area(tiles[0].core) for tiles in columns.values())
    whole = [tiles for tiles in columns.values() if _area(tiles[0].core) == full]
    ranked = sorted(whole, key=lambda tiles: _brightness(context, tiles))
    count = max(TRIAL_COLUMNS, round(MAX_TRIAL_VOXELS / (full * shape[0])))
    chosen = {(2 * i + 1) * len(ranked) // (2 * count) for i in range(count)}
    return replace(plan, tiles=tuple(tile for i in sorted(chosen) for tile in ranked[i]))


def _area(region: Region) -> int:
    _, y, x = region
    return int((y.stop - y.start) * (x.stop - x.start))


def _brightness(context: MethodContext, tiles: list[Tile]) -> float:
    """Return the mean of the middle planes of a column's tiles."""
    means = []
    for tile in tiles:
        z, y, x = tile.core
        middle = (z.start + z.stop) // 2
        means.append(float(context.read((slice(middle, middle + 1), y, x)).mean()))
    return float(np.mean(means))


def _judged(
    trial: _Trial, read: Callable[[Region], FloatArray], multiple: Triple
) -> Generator[float, None, _Verdict]:
    """Judge a volume tile by tile."""
    context = trial.views.context
    blocks = Blocks.of(context.shape_px, context.voxel_size_um)
    tally = Tally(blocks, VIEWS, [n > 0 for n in STEPS], 1 - KEPT_SHARE)

    def write(_: str, region: Region, block: FloatArray) -> None:
        *views, weight, kept, held = block
        tally.add(region, np.stack(views), kept, held, weight)

    plan = _trial_plan(replace(context, read=read), trial.halo_px, multiple)
    voxels = sum(_area(t.core) * (t.core[0].stop - t.core[0].start) for t in plan.tiles)
    tried = voxels / math.prod(context.shape_px)
    series: Mapping[str, int] = {"trial": tally.size}
    steps = run_tiles(plan, read, trial, write, series=series)
    yield from relay(steps, lambda step: step.fraction / tried)
    return _Verdict.of(blocks, tally.compare(), tried)
