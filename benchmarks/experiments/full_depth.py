"""Deconvolution and DQLR to the full depth, also on PSFs and specimens never trained on.

Simulated stacks of 36 to 48 µm, drawn as the training draws them but with other seeds, and real
bright stacks that are blurred by a known PSF and dimmed. Figures are gains over the measurement.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.console import Tell
from benchmarks.experiments.profile_deconvolution import true_profile
from benchmarks.measures import blurred_psnr_db
from benchmarks.quality_notes import versus
from benchmarks.runner import QUICK, Experiment, Option
from benchmarks.scenes import Plan, Scene
from benchmarks.tables import TextTable, figure
from zenhance.assess.cells import cells_found
from zenhance.assess.structure import false_walls_per_mm2
from zenhance.io import open_stack
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import gaussian
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.pipeline.request import MEASURE, NO_PROFILE
from zenhance.simulate.any_stack import HELD_BACK, draw_stack
from zenhance.stack import Stack, VoxelSize
from zenhance.types import FloatArray, FloatTriple

__all__ = ["EXPERIMENT", "KINDS", "ROWS", "FullDepth", "Gain", "degraded", "gain_db", "summary"]

SEED, STACKS = 77, 2
DEPTHS_UM = (0.0, 8.0, 16.0, 24.0, 40.0)
DEEP_UM = 24.0
FINE, COARSE = (0.5, 0.22, 0.22), (1.0, 0.2, 0.2)
KINDS: dict[str, dict[str, Any]] = {
    "meristem, planes 0.5 µm": {"grammar": "meristem", "voxel_size_um": FINE},
    "meristem, planes 1 µm": {"grammar": "meristem", "voxel_size_um": COARSE},
    "foam": {"grammar": "foam", "voxel_size_um": FINE},
    f"unseen grammar ({HELD_BACK[0]})": {"grammar": HELD_BACK[0], "voxel_size_um": FINE},
    "unseen PSF (Gibson-Lanni)": {
        "grammar": "meristem", "family": HELD_BACK[1], "voxel_size_um": FINE,
    },
}  # fmt: skip
TRUE = "true"
_ANY: dict[str, Any] = {"method": "dqlr", "weights": "dqlr_any"}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "Richardson-Lucy, default PSF": ({"method": "gaussian_deconvolution"}, NO_PROFILE),
    "Richardson-Lucy, measured profile": ({"method": "gaussian_deconvolution"}, MEASURE),
    "Richardson-Lucy, true PSF": ({"method": "gaussian_deconvolution"}, TRUE),
    "dqlr_stack": ({"method": "dqlr", "weights": "dqlr_stack"}, TRUE),
    "dqlr_any, default PSF": (_ANY, NO_PROFILE),
    "dqlr_any, measured profile": (_ANY, MEASURE),
    "dqlr_any arbitrated, default PSF": (_ANY | {"arbitrate": True}, NO_PROFILE),
    "dqlr_any arbitrated, measured profile": (_ANY | {"arbitrate": True}, MEASURE),
    "dqlr_any, true PSF": (_ANY, TRUE),
}
"""Title → request, and its blur: the default's, measured, or the true one by depth."""
IDEAL, MEASUREMENT = "ideal denoiser", "measurement"
REAL = (
    "plant_tissue/ovule_membrane_crop_raw.tif",
    "plant_tissue/p60_floral_meristem_membrane_raw.tif",
    "plant_tissue/ovule_nuclei_1135_raw.tif",
    "plant_tissue/lateral_root_membrane_lightsheet.tif",
)
REAL_SIGMA_PX, REAL_PHOTONS, REAL_SHAPE = (1.5, 2.0, 2.0), 15.0, (32, 96, 96)


@dataclass(frozen=True, slots=True)
class Gain:
    """What one row gains on one stack.

    Parameters
    ----------
    kind, row : str
        Of the stack, and of the table.
    stack : int
        Number within its kind.
    lit : tuple of float
        dB against the specimen as it is lit: of the whole stack, then of each layer of depth, NaN
        where a layer is missing.
    again : float
        dB against the noise-free measurement after the blur.
    cells : float
        Share of the true cells that are found below ``DEEP_UM``; NaN where there are none.
    false_walls : float
        Walls shown in a square millimetre of tissue without walls, below ``DEEP_UM``.
    """

    kind: str
    row: str
    stack: int
    lit: tuple[float, ...]
    again: float
    cells: float = math.nan
    false_walls: float = math.nan


@dataclass(frozen=True, slots=True)
class FullDepth:
    """All gains."""

    gains: tuple[Gain, ...]

    def record(self) -> dict[str, Any]:
        """Return the gains as values that JSON can hold."""
        return {"gains": [asdict(gain) for gain in self.gains]}


def gain_db(image: FloatArray, before: FloatArray, truth: FloatArray) -> float:
    """Return how many dB an image is closer to the truth than the measurement.

    Each may have an offset of its own (stray light), but no scale. NaN for an empty or even truth.
    """
    if not truth.size or truth.min() == truth.max():
        return math.nan
    errors = [float(np.std(x.astype(np.float64) - truth)) for x in (image, before)]
    return 20 * math.log10(errors[1] / max(errors[0], 1e-12))


def _request(row: str, scene: Scene) -> EnhanceRequest:
    asked, blur = ROWS[row]
    known: dict[str, Any] = {"device": "cpu", "arbitrate": False, **asked}
    known["voxel_size_um"] = scene.voxel_size_um
    if blur != TRUE:
        known["profile"] = blur
    elif scene.microscope.psf is not None:
        known["psf"] = scene.microscope.psf
    else:
        known["profile"] = true_profile(scene.microscope, scene.voxel_size_um).to_json()
    return EnhanceRequest(**known)


def _simulated(kind: str, number: int, side_px: int) -> Scene:
    depth_um = 44.0 if KINDS[kind]["voxel_size_um"] == COARSE else 36.0
    shape = (round(depth_um / KINDS[kind]["voxel_size_um"][0]), side_px, side_px)
    drawing = draw_stack(SEED, number, shape_px=shape, **KINDS[kind])
    # Told from the surface on, and bright enough that something can be seen at it.
    settings = {k: v for k, v in drawing.settings.items() if k != "surface_um"}
    scope = drawing.microscope.model_dump() | {
        "photons": max(drawing.microscope.photons, 25.0),
        "sigma_deep_um": tuple(min(s, 2.2) for s in drawing.microscope.sigma_deep_um),
    }
    return Plan(
        kind, drawing.specimen, drawing.seed, shape, drawing.voxel_size_um, scope, settings
    ).make()


def _judged(kind: str, row: str, number: int, image: FloatArray, scene: Scene) -> Gain:
    before = np.asarray(scene.measured.data, np.float32)
    lit = [gain_db(image, before, scene.truth)]
    for start, end in zip(DEPTHS_UM, (*DEPTHS_UM[1:], math.inf), strict=True):
        layer = (scene.depth_um >= start) & (scene.depth_um < end) & (scene.labels > 0)
        lit.append(gain_db(image[layer], before[layer], scene.truth[layer]))
    raw = blurred_psnr_db(before, scene, deblurred=False)
    sharp = row not in (IDEAL, MEASUREMENT)
    again = blurred_psnr_db(image, scene, deblurred=sharp) - raw if row != IDEAL else math.nan
    cells = false_walls = math.nan
    if "meristem" in kind or kind == "foam":
        found = cells_found(
            image, scene.labels, scene.voxel_size_um, scene.depth_um, (0.0, DEEP_UM)
        ).by_depth[-1]
        cells = found.found / found.total if found.total else math.nan
        deep = slice(round(DEEP_UM / scene.voxel_size_um[0]), None)
        false_walls = false_walls_per_mm2(image, scene.voxel_size_um, scene.labels, deep)
    return Gain(kind, row, number, tuple(lit), again, cells, false_walls)


def degraded(sharp: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Blur a stack and dim it to so many photons at its brightest.

    Returns
    -------
    measured, blurred : float32 array (Z, Y, X)
        In photons, with and without noise.
    """
    scale = REAL_PHOTONS / float(np.percentile(sharp, 99.9))
    shape = (sharp.shape[0], sharp.shape[1], sharp.shape[2])
    blur = Blur.from_psf(gaussian(REAL_SIGMA_PX), (1.0, 1.0, 1.0), shape)
    blurred = blur(torch.from_numpy(sharp * np.float32(scale))).clamp_(min=0).numpy()
    noisy = PoissonGauss(1.0, 0.0, 0.3).sample(blurred, np.random.default_rng(seed))
    return noisy, blurred


def _real(path: Path, number: int, tell: Callable[[str], None]) -> list[Gain]:
    stack = open_stack(path)
    whole = np.asarray(stack.data, np.float32)
    _, y, x = ((n - min(n, m)) // 2 for n, m in zip(whole.shape, REAL_SHAPE, strict=True))
    sharp = whole[:32, y : y + REAL_SHAPE[1], x : x + REAL_SHAPE[2]]
    measured, blurred = degraded(sharp, number)
    sharp = sharp * np.float32(REAL_PHOTONS / float(np.percentile(sharp, 99.9)))
    # The blur is known in voxels; a plausible voxel size turns it into micrometres.
    voxel: FloatTriple = (0.5, 0.2, 0.2)
    psf = ",".join(f"{s * v:g}" for s, v in zip(REAL_SIGMA_PX, voxel, strict=True))
    shape = (sharp.shape[0], sharp.shape[1], sharp.shape[2])
    again = Blur.from_psf(gaussian(REAL_SIGMA_PX), (1.0, 1.0, 1.0), shape)
    gains = []
    for row, (asked, blur) in ROWS.items():
        if blur != TRUE:
            continue
        tell(row)
        request = EnhanceRequest(device="cpu", arbitrate=False, psf=f"sigma_um={psf}", **asked)
        given = Stack.from_array(measured, "ZYX", VoxelSize.of(voxel, "user"))
        image = np.asarray(enhance(given, request).stack.data, np.float32)
        seen = again(torch.from_numpy(image)).numpy()
        none = (math.nan,) * len(DEPTHS_UM)
        lit = (gain_db(image, measured, sharp), *none)
        gains.append(Gain(f"real: {path.stem}", row, number, lit, gain_db(seen, measured, blurred)))
    return gains


def measure(stacks: int, side_px: int, real: Path | None, tell: Tell) -> FullDepth:
    """Simulate, enhance and judge; then degrade the real stacks below a folder."""
    gains: list[Gain] = []
    files = [] if real is None else [real / name for name in REAL]
    total = len(KINDS) * stacks + len(files)
    for count, (kind, number) in enumerate((k, n) for k in KINDS for n in range(stacks)):
        scene = _simulated(kind, number, side_px)
        gains.append(_judged(kind, IDEAL, number, scene.blurred, scene))
        before = np.asarray(scene.measured.data, np.float32)
        gains.append(_judged(kind, MEASUREMENT, number, before, scene))
        for row in ROWS:
            tell(f"{kind} {number}, {row}", count / total)
            image = enhance(scene.measured, _request(row, scene)).stack.data
            gains.append(_judged(kind, row, number, np.asarray(image, np.float32), scene))
    for number, path in enumerate(files):
        done = (len(KINDS) * stacks + number) / total
        gains += _real(path, number, lambda row, d=done: tell(row, d))  # type: ignore[misc]
    return FullDepth(tuple(gains))


def summary(gains: Sequence[Gain], kind: str, row: str) -> tuple[str, ...]:
    """Return the cells of a line: means over the stacks of a kind, and the spread of the first."""
    chosen = [g for g in gains if g.kind == kind and g.row == row]
    columns = np.array([[*g.lit, g.again, g.cells, g.false_walls] for g in chosen], np.float64)
    known = np.isfinite(columns)
    digits = {2: 2, 1: 0}
    means = np.where(known, columns, 0).sum(0) / np.maximum(known.sum(0), 1)
    cells = [
        figure(m, digits.get(len(means) - at, 1)) if seen else "-"
        for at, (m, seen) in enumerate(zip(means, known.any(0), strict=True))
    ]
    if len(chosen) > 1:
        cells[0] += f" ± {np.std(columns[:, 0], ddof=1):.1f}"
    return tuple(cells)


def compared(gains: Sequence[Gain], row: str, other: str) -> str:
    """Return the paired differences of two rows over all stacks, in one line."""
    theirs = {(g.kind, g.stack): g for g in gains if g.row == other}
    pairs = [
        (g, theirs[g.kind, g.stack]) for g in gains if g.row == row and (g.kind, g.stack) in theirs
    ]
    if not pairs:
        return ""
    lit = versus([a.lit[0] for a, _ in pairs], [b.lit[0] for _, b in pairs])
    again = versus([a.again for a, _ in pairs], [b.again for _, b in pairs])
    return f"{row}, against {other}: as lit {lit}, blurred again {again}."


def tables(report: FullDepth) -> Mapping[str, TextTable]:
    """Return one table: kinds of stacks, and in each the rows."""
    lines = []
    for kind in dict.fromkeys(g.kind for g in report.gains):
        for row in dict.fromkeys(g.row for g in report.gains if g.kind == kind):
            lines.append((kind, row, *summary(report.gains, kind, row)))
    layers = [f"{a:g}-{b:g} µm" for a, b in pairwise(DEPTHS_UM)]
    header = ("stacks", "row", "dB as lit", *layers, f"> {DEPTHS_UM[-1]:g} µm", "blurred again, dB")
    note = (
        "Gains over the measurement, mean (± standard deviation) over the stacks; each image may "
        "have an offset of its own. Blurred again: against the noise-free measurement. "
        "False walls: lines further than 1 µm from every true wall, in a square millimetre of "
        f"such tissue below {DEEP_UM:g} µm. "
        "Networks run alone unless a row says that they were arbitrated."
    )
    title = "To the full depth"
    last = (f"cells below {DEEP_UM:g} µm", "false walls per mm²")
    told = [row for row, (_, blur) in ROWS.items() if blur == TRUE]
    pairs = [compared(report.gains, told[-1], other) for other in told[:-1]]
    foot = (note, *(line for line in pairs if line))
    return {"full_depth": TextTable(title, (*header, *last), tuple(lines), foot)}


def _measure(options: Namespace, tell: Tell) -> FullDepth:
    real = None if options.real is None else Path(options.real)
    return measure(1 if options.quick else STACKS, 48 if options.quick else 64, real, tell)


EXPERIMENT = Experiment(
    measure=_measure,
    tables=tables,
    page="methods/dqlr.md",
    options=(QUICK, Option("real", "Folder with real stacks to degrade.", "FOLDER")),
)
