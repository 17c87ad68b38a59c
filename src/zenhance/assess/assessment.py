"""Assessment: every figure about one result in one record, with a verdict in words.

::

    raw, result ──► re-blur check, depth figures, resolution ──┐
    + truth     ──► PSNR, SSIM, MS-SSIM, microSSIM, RMSE ──────┼──► Assessment (JSON) ──► report
    + labels    ──► cells found, walls, junctions ─────────────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from zenhance.assess.cells import CellReport, cells_found
from zenhance.assess.correlation import CorrelationCurve, correlation_of_raw
from zenhance.assess.decorrelation import DecorrelationResult, decorrelation_resolution
from zenhance.assess.depth import DepthFigures, contrast_by_depth, depth_below_surface, find_surface
from zenhance.assess.heldout import HeldOutReport, held_out_photons
from zenhance.assess.photons import Camera
from zenhance.assess.reblur import Microscopy, reblur_check
from zenhance.assess.reblur_report import ReblurReport
from zenhance.assess.similarity import frobenius_255, micro_ssim, ms_ssim
from zenhance.assess.structure import StructureReport, compare_structures
from zenhance.assess.truth import TruthReport, compare_with_truth
from zenhance.assess.verdict import Light, decide
from zenhance.errors import StackError
from zenhance.physics.psf_base import Psf
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

__all__ = ["Assessment", "TruthFigures", "assess"]

Volume = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TruthFigures:
    """Likeness of one volume to the truth."""

    figures: TruthReport
    ms_ssim: float
    micro_ssim: float
    frobenius_255: float


class Assessment(BaseModel):
    """What was found about one result; frozen, JSON in and out.

    Mappings have one entry a volume: ``measurement`` and ``result``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    verdict: Light = Field(description="green, amber or red")
    headline: str = Field(description="the verdict in one sentence")
    sentences: tuple[str, ...] = Field(
        default=(), description="reasons, limits and figures in words"
    )
    raw_name: str = Field(default="", description="the measurement")
    result_name: str = Field(default="", description="the result")
    time_point: int = Field(default=0, description="which time point was judged")
    channel: int = Field(default=0, description="which channel was judged")
    shape_px: tuple[int, int, int] = Field(description="of the measurement, z, y, x")
    voxel_size_um: tuple[float | None, float | None, float | None] = Field(
        description="z, y, x in µm"
    )
    psf: str = Field(
        default="", description="the point spread function, each value with its origin"
    )
    noise: str = Field(
        default="", description="gain, offset and read noise, and whether they were estimated"
    )
    reblur: ReblurReport | None = Field(default=None, description="the re-blur check")
    held_out: HeldOutReport | None = Field(
        default=None, description="held-out photons, where a method was given"
    )
    truth: dict[str, TruthFigures] = Field(
        default_factory=dict, description="likeness to the truth"
    )
    cells: dict[str, CellReport] = Field(
        default_factory=dict, description="true cells that a plain watershed finds"
    )
    structures: dict[str, StructureReport] = Field(
        default_factory=dict, description="walls and junctions against the truth"
    )
    correlation: dict[str, CorrelationCurve] = Field(
        default_factory=dict, description="Fourier correlation of the measurement's split photons"
    )
    decorrelation: dict[str, DecorrelationResult] = Field(
        default_factory=dict, description="decorrelation analysis of the middle plane"
    )
    depth: dict[str, tuple[DepthFigures, ...]] = Field(
        default_factory=dict, description="contrast and SNR by depth below the surface"
    )
    seconds: float = Field(default=0.0, description="how long the assessment took")
    _z_map: Stack | None = PrivateAttr(default=None)

    @property
    def z_map(self) -> Stack | None:
        """The re-blur check's map, z-scores on the measurement's voxels; not part of the JSON."""
        return self._z_map

    def with_z_map(self, z_map: Stack | None) -> Assessment:
        """Keep the map with this record and return the record."""
        self._z_map = z_map
        return self

    def to_json(self, indent: int | None = None) -> str:
        """Return the record as JSON text (without the z-map)."""
        return self.model_dump_json(indent=indent)

    @classmethod
    def from_json(cls, text: str) -> Assessment:
        """Read a record written by :meth:`to_json`.

        Raises
        ------
        StackError
            The text is not such a record.
        """
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            raise StackError(
                f"the assessment cannot be read ({str(error).splitlines()[0]}); "
                "make it again with zenhance assess"
            ) from error


def assess(
    raw: Stack,
    result: Stack,
    *,
    psf: Psf | None,
    noise: Camera | None = None,
    truth: Stack | None = None,
    labels: Stack | None = None,
    method: Callable[[FloatArray], Volume] | None = None,
    deblurred: bool = True,
    freedom: float = 0.0,
    quick: bool = False,
    t: int = 0,
    c: int = 0,
    seed: int = 0,
    microscopy: Microscopy | None = None,
    missing: npt.NDArray[np.bool_] | None = None,
    on_blur: Callable[[], None] | None = None,
) -> Assessment:
    """Judge a result by the measurement it was made from, and by the truth where it is known.

    Parameters
    ----------
    raw : Stack
        The measurement, as the camera gave it.
    result : Stack
        The restored stack, on the same voxels or a whole number of times finer.
    psf : Psf or None
        Of the microscope; None leaves the re-blur check out and makes the verdict amber.
    noise : Camera, optional
        Gain, offset and read noise (``physics.noise.PoissonGauss``); by default estimated from the
        measurement.
    truth : Stack, optional
        The sharp specimen, on the result's voxels.
    labels : Stack, optional
        True cells from 1, 0 outside, on the result's voxels.
    method : callable, optional
        Grey values (float32, Z, Y, X) in, volume out; if given, it is run once more for the
        held-out photons.
    deblurred : bool
        False for a method that only takes noise away.
    freedom : float
        Of the fit per voxel, if the method's stop rule measured it; the deviance ratio is judged
        against one minus it.
    quick : bool
        Only the re-blur check (and what the truth says, if given).
    t, c : int
        Which volume; a truth or result with a single time point or channel serves all.
    seed : int
        Of all random parts.
    microscopy : Microscopy, optional
        Blur by depth and haze, in place of `psf` alone.
    missing : bool array (Z, Y, X), optional
        Voxels of the measurement that do not count.
    on_blur : callable, optional
        Called each time the result is blurred; may raise to stop.

    Returns
    -------
    Assessment
        With the z-map as a stack beside the figures.

    Raises
    ------
    StackError
        The volumes do not fit together.
    """
    started = time.perf_counter()
    before, after = raw.read(t, c), _pick(result, t, c)
    camera, noise_text = _camera(before, noise)
    notes: list[str] = []
    parts, z_map, reason = _against_measurement(
        before,
        after,
        raw,
        psf,
        camera,
        method,
        deblurred,
        freedom,
        seed,
        microscopy,
        missing,
        on_blur,
    )
    if truth is not None or labels is not None:
        sharp, cells = (None if s is None else _pick(s, t, c) for s in (truth, labels))
        parts |= _against_truth(before, after, sharp, cells, _result_voxel(raw, result), notes)
    if not quick:
        parts |= _without_truth(before, after, camera, raw, notes, seed)
    assumed = deblurred and psf is not None and any(v.origin == "default" for v in psf.values)
    verdict = decide(parts.get("reblur"), parts.get("held_out"), reason, default_psf=assumed)
    assessment = Assessment(
        verdict=verdict.light,
        headline=verdict.headline,
        sentences=(*verdict.reasons, *_in_words(parts), *notes),
        raw_name=raw.name,
        result_name=result.name,
        time_point=t,
        channel=c,
        shape_px=raw.volume_shape,
        voxel_size_um=raw.voxel_size.zyx_um,
        psf="" if psf is None else psf.describe(),
        noise=noise_text,
        seconds=time.perf_counter() - started,
        **parts,
    )
    return assessment.with_z_map(z_map)


def _against_measurement(
    before: Volume,
    after: Volume,
    raw: Stack,
    psf: Psf | None,
    camera: Camera,
    method: Callable[[FloatArray], Volume] | None,
    deblurred: bool,
    freedom: float,
    seed: int,
    microscopy: Microscopy | None = None,
    missing: npt.NDArray[np.bool_] | None = None,
    on_blur: Callable[[], None] | None = None,
) -> tuple[dict[str, Any], Stack | None, str]:
    """Re-blur check and held-out photons, the z-map, and why there are none."""
    if psf is None:
        return {}, None, "the point spread function is unknown"
    if not raw.voxel_size.is_known(raw.spatial_axes):
        return {}, None, "the voxel size is unknown"
    voxel = raw.voxel_size.require(raw.spatial_axes)
    report, scores = reblur_check(
        before,
        after,
        psf,
        voxel,
        camera,
        deblurred=deblurred,
        seed=seed,
        microscopy=microscopy,
        missing=missing,
        on_blur=on_blur,
    )
    parts: dict[str, Any] = {"reblur": report.counting(freedom)}
    if method is not None:
        parts["held_out"] = held_out_photons(
            before, method, psf, voxel, camera, deblurred=deblurred, seed=seed
        )
    return parts, _map_stack(raw, scores), ""


def _pick(stack: Stack, t: int, c: int) -> Volume:
    """Read a volume of a stack that may have fewer time points or channels than the measurement."""
    return stack.read(t if stack.size("T") > t else 0, c if stack.size("C") > c else 0)


def _camera(raw: Volume, noise: Camera | None) -> tuple[Camera, str]:
    origin = "given"
    if noise is None:
        from zenhance.physics.noise import estimate

        noise, origin = estimate(raw), "estimated"
    return (
        noise,
        f"gain {noise.gain:.4g} per photon, offset {noise.offset:.4g}, "
        f"read noise {noise.read_noise:.3g} ({origin})",
    )


def _map_stack(raw: Stack, scores: FloatArray) -> Stack:
    data = scores if "Z" in raw.axes else scores[0]
    return Stack(data, raw.spatial_axes, raw.voxel_size, name=f"{raw.name} re-blur z-map")


def _result_voxel(raw: Stack, result: Stack) -> FloatTriple | None:
    for stack in (result, raw):
        if (
            stack.voxel_size.is_known(stack.spatial_axes)
            and stack.volume_shape == result.volume_shape
        ):
            return stack.voxel_size.require(stack.spatial_axes)
    return None


def _against_truth(
    before: Volume,
    after: Volume,
    truth: Volume | None,
    labels: Volume | None,
    voxel: FloatTriple | None,
    notes: list[str],
) -> dict[str, Any]:
    """Compare the result, and the measurement on the same voxels, with truth and labels."""
    volumes = {"result": np.nan_to_num(after.astype(np.float32))}
    if before.shape == after.shape:
        volumes = {"measurement": np.nan_to_num(before.astype(np.float32)), **volumes}
    parts: dict[str, Any] = {}
    if truth is not None:
        parts["truth"] = {name: _truth_figures(v, truth) for name, v in volumes.items()}
    if voxel is None:
        notes.append("Cells and walls were not assessed, because the voxel size is unknown.")
        return parts
    if labels is not None and before.shape[0] > 1:
        whole = labels.astype(np.int64)
        depth = depth_below_surface(_label_surface(whole, voxel), whole.shape[0], voxel)
        parts["cells"] = {name: cells_found(v, whole, voxel, depth) for name, v in volumes.items()}
    parts["structures"] = {
        name: compare_structures(v, voxel, truth=truth, labels=labels)
        for name, v in volumes.items()
    }
    return parts


def _label_surface(labels: npt.NDArray[np.int64], voxel: FloatTriple) -> FloatArray:
    inside = labels > 0
    first = inside.argmax(axis=0) * np.float32(voxel[0])
    return np.where(inside.any(axis=0), first, np.float32(np.inf)).astype(np.float32)


def _truth_figures(volume: Volume, truth: Volume) -> TruthFigures:
    figures = compare_with_truth(volume, truth)
    fitted = volume * figures.fit_slope + figures.fit_offset
    span = figures.data_range
    return TruthFigures(
        figures,
        ms_ssim(fitted, truth, span),
        micro_ssim(volume, truth),
        frobenius_255(fitted, truth, span),
    )


def _without_truth(
    before: Volume, after: Volume, camera: Camera, raw: Stack, notes: list[str], seed: int
) -> dict[str, Any]:
    parts: dict[str, Any] = {"correlation": {}, "decorrelation": {}, "depth": {}}
    if not raw.voxel_size.is_known(raw.spatial_axes):
        notes.append("Resolution and depth were not measured, because the voxel size is unknown.")
        return parts
    voxel = raw.voxel_size.require(raw.spatial_axes)
    finite = np.nan_to_num(before)
    modes = {"lateral": "ring", "axial": "axial"} if before.shape[0] >= 16 else {"lateral": "ring"}
    for name, mode in modes.items():
        try:
            parts["correlation"][name] = correlation_of_raw(
                finite, camera, voxel, mode=mode, seed=seed
            )
        except StackError as error:
            notes.append(f"The {name} resolution of the measurement was not found: {error}.")
    for name, volume in (("measurement", finite), ("result", np.nan_to_num(after))):
        try:
            finer = volume.shape[2] // before.shape[2]
            parts["decorrelation"][name] = decorrelation_resolution(
                volume[volume.shape[0] // 2], voxel[2] / finer
            )
        except StackError as error:
            notes.append(f"The cut-off of the {name} was not found: {error}.")
    if before.shape == after.shape and before.shape[0] > 1:
        try:
            depth = depth_below_surface(find_surface(finite, voxel), before.shape[0], voxel)
            parts["depth"] = contrast_by_depth(
                finite, {"measurement": finite, "result": np.nan_to_num(after)}, voxel, depth
            )
        except StackError as error:
            notes.append(f"Contrast by depth was not measured: {error}.")
    return parts


def _in_words(parts: dict[str, Any]) -> list[str]:
    words = []
    truth: dict[str, TruthFigures] = parts.get("truth", {})
    if truth:
        text = " to ".join(f"{f.figures.psnr_fit_db:.1f}" for f in truth.values())
        words.append(f"PSNR against the truth, best affine fit: {text} dB.")
    cells: dict[str, CellReport] = parts.get("cells", {})
    if cells:
        words.append(
            f"True cells found: {' to '.join(str(r.found) for r in cells.values())} "
            f"of {next(iter(cells.values())).total}."
        )
    depth: dict[str, tuple[DepthFigures, ...]] = parts.get("depth", {})
    if depth and depth["measurement"]:
        old, new = depth["measurement"][-1], depth["result"][-1]
        words.append(
            f"In the deepest layer ({old.name}) the contrast goes from {old.contrast:.2f} "
            f"to {new.contrast:.2f}, "
            f"signal to noise from {old.snr:.1f} to {new.snr:.1f}."
        )
    lateral = parts.get("correlation", {}).get("lateral")
    if lateral is not None and lateral.resolution_seventh_um is not None:
        words.append(
            f"The measurement resolves {lateral.resolution_seventh_um:.2f} µm laterally "
            "(Fourier ring correlation of split photons, 1/7)."
        )
    return words
