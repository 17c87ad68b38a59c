"""Networks alone and arbitrated, against deconvolution, on simulated and on real images.

::

    simulated   the bundled sample and meristems that no training has seen, with their true PSF
    degraded    real stacks taken as specimens: blurred, dimmed to 15 photons, with the PSF told
    averaged    one frame of a real scene, against the mean of 50 frames

``--data`` names the folder of real images; without it, only simulated stacks are measured. Images
of one frame are compared after blurring them again as well: their reference has the blur.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.console import Tell
from benchmarks.runner import DEVICE, METHODS, QUICK, Experiment, Option, path
from benchmarks.scenes import QUALITY_SEED, VOXEL_UM, quality_plans
from benchmarks.tables import TextTable
from zenhance.assess.truth import psnr_db, robust_range
from zenhance.contract import registry
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.pipeline.sample_quality import SampleScene
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

__all__ = ["EXPERIMENT", "ArbitrationReport", "Case", "Score", "degraded", "tables"]

DECONVOLUTION = "gaussian_deconvolution"
SHAPE_PX = (24, 80, 80)
FRAME_PX = 192
PHOTONS = 15.0
BLUR_PX = (1.5, 2.0, 2.0)
BACKGROUND_PHOTONS = 0.5
GAIN, OFFSET, READ_NOISE = 3.0, 20.0, 1.0
# Not the stacks on which the rules of the arbitration were chosen.
NEW_SEEDS = 400
SIMULATED = ("default", "good", "typical", "dim", "deep")
REAL: tuple[tuple[str, str, tuple[int, int, int], FloatTriple], ...] = (
    ("embryo", "arabidopsis_embryo_membrane.tif", (70, 16, 16), (0.5, 0.25, 0.25)),
    ("ovule", "ovule_membrane_crop_raw.tif", (2, 40, 8), (0.235, 0.15, 0.15)),
    ("p60", "p60_floral_meristem_membrane_raw.tif", (20, 240, 230), (1.0, 0.2003, 0.2003)),
    ("ovule nuclei", "ovule_nuclei_1137_raw.tif", (30, 10, 10), (0.2837, 0.1266, 0.1266)),
    ("meristem nuclei", "sam_nuclei_costanza_13h.tif", (4, 150, 60), (1.0, 0.3968, 0.3968)),
    ("root", "lateral_root_membrane_lightsheet.tif", (44, 60, 20), (0.5, 0.25, 0.25)),
)
FRAMES = tuple(
    f"{microscope}_BPAE_{colour}"
    for microscope, colours in (("Confocal", "BR"), ("TwoPhoton", "BR"), ("WideField", "BG"))
    for colour in colours
)
FRAME_UM = (1.0, 0.3, 0.3)


@dataclass(frozen=True)
class Case:
    """An image to enhance, with a reference.

    Parameters
    ----------
    title : str
        For the table.
    kind : str
        simulated, degraded or averaged.
    measured : Stack
        What the methods get.
    reference : float32 array (Z, Y, X)
        The specimen, or the mean of many frames.
    psf : str or None
        As told; None for the default.
    """

    title: str
    kind: str
    measured: Stack
    reference: FloatArray
    psf: str | None


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR in dB of a result, blurred again where that is the fair comparison."""

    psnr_db: float
    share: float = 1.0


@dataclass(frozen=True)
class ArbitrationReport:
    """``scores[case][row]``: raw, deconvolution, and each method alone and arbitrated."""

    kinds: dict[str, str]
    methods: tuple[str, ...]
    scores: dict[str, dict[str, Score]]

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return {
            "kinds": self.kinds,
            "scores": {
                case: {name: asdict(score) for name, score in rows.items()}
                for case, rows in self.scores.items()
            },
        }


def degraded(image: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return an image (Z, Y, X) as a dim measurement of itself, and itself in its units."""
    low, high = np.percentile(image, [0.5, 99.9])
    light = np.clip((image - low) / (high - low), 0, None) * PHOTONS + BACKGROUND_PHOTONS
    rng = np.random.default_rng(seed)
    counts = rng.poisson(ndimage.gaussian_filter(light, BLUR_PX, mode="reflect"))
    grey = GAIN * counts + OFFSET + rng.normal(0, READ_NOISE, light.shape)
    return np.rint(grey).clip(0), np.asarray(GAIN * light + OFFSET, np.float32)


def _simulated() -> Iterator[Case]:
    sample = SampleScene.load("meristem_deep")
    inside = _middle(sample.clean.shape, SHAPE_PX)
    part = Stack.from_array(np.asarray(sample.measured.data)[inside], "ZYX", sample.voxel_um)
    yield Case("bundled sample", "simulated", part, sample.clean[inside], sample.psf)
    for plan in quality_plans():
        if plan.title in SIMULATED:
            scene = replace(plan, seed=plan.seed - QUALITY_SEED + NEW_SEEDS, shape_px=SHAPE_PX)
            made = replace(scene, voxel_size_um=VOXEL_UM).make()
            yield Case(
                f"meristem, {plan.title}", "simulated", made.measured, made.truth, made.psf_spec
            )


def _middle(shape: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    starts = [max(0, (n - s) // 2) for n, s in zip(shape, size, strict=True)]
    return tuple(slice(a, a + s) for a, s in zip(starts, size, strict=True))


def _real(data: Path) -> Iterator[Case]:
    from tifffile import imread

    for seed, (title, name, start, voxel) in enumerate(REAL):
        place = tuple(slice(a, a + n) for a, n in zip(start, SHAPE_PX, strict=True))
        image = imread(data / "plant_tissue" / name)[place].astype(np.float32)
        grey, truth = degraded(image, seed)
        stack = Stack.from_array(grey.astype(np.uint16), "ZYX", voxel)
        sigma = ",".join(f"{s * v:g}" for s, v in zip(BLUR_PX, voxel, strict=True))
        yield Case(title, "degraded", stack, truth, f"sigma_um={sigma}")


def _frames(data: Path) -> Iterator[Case]:
    from PIL import Image

    folder = data / "fluorescence" / "fmd_pairs"
    inside = (slice(128, 128 + FRAME_PX),) * 2
    for name in FRAMES:
        raw, mean = (
            np.asarray(Image.open(folder / f"{file}.png").convert("L"))[inside]
            for file in (f"raw_{name}_2", f"gt_{name}")
        )
        stack = Stack.from_array(raw[None], "ZYX", FRAME_UM)
        yield Case(name.replace("_", " "), "averaged", stack, mean[None].astype(np.float32), None)


def _score(case: Case, method: str, device: str, *, arbitrate: bool) -> Score:
    blurred = case.kind == "averaged" and method != "identity"
    request = EnhanceRequest(
        method=method,
        psf=case.psf,
        device=device,
        arbitrate=arbitrate,
        output="denoised" if blurred else "sharp",
    )
    result = enhance(case.measured, request)
    image = np.asarray(result.stack.data, np.float32)
    notes = result.provenance.notes.get("arbitration", {})
    found = psnr_db(image, case.reference, robust_range(case.reference))
    return Score(found, float(notes.get("network_share", 1.0)))


def measure(
    data: Path | None, methods: Sequence[str], device: str, *, quick: bool, tell: Tell
) -> ArbitrationReport:
    """Enhance every image with every method, alone and arbitrated."""
    cases = list(_simulated())
    if data is not None:
        cases += [*_real(data), *_frames(data)]
    cases = cases[:: 4 if quick else 1]
    scores: dict[str, dict[str, Score]] = {}
    for number, case in enumerate(cases):
        tell(case.title, number / len(cases))
        rows = {
            name: _score(case, method, device, arbitrate=False)
            for name, method in (("raw", "identity"), ("deconvolution", DECONVOLUTION))
        }
        for method in methods:
            rows[method] = _score(case, method, device, arbitrate=False)
            rows[f"{method}, arbitrated"] = _score(case, method, device, arbitrate=True)
        scores[case.title] = rows
    return ArbitrationReport({c.title: c.kind for c in cases}, tuple(methods), scores)


def tables(report: ArbitrationReport) -> dict[str, TextTable]:
    """Return a row for each image: PSNR alone → arbitrated, and the network's share."""
    header = ("image", "raw", "RL", *(registry.load(m).spec.name for m in report.methods))
    rows = []
    for title, found in report.scores.items():
        cells = [f"{title} ({report.kinds[title]})"]
        cells += [f"{found[name].psnr_db:.1f}" for name in ("raw", "deconvolution")]
        for method in report.methods:
            alone, both = found[method], found[f"{method}, arbitrated"]
            share = f"{100 * both.share:.0f} %"
            cells.append(f"{alone.psnr_db:.1f} → {both.psnr_db:.1f} ({share})")
        rows.append(tuple(cells))
    foot = (
        "PSNR in dB, network alone → arbitrated (mean share of the network); scenes of averaged "
        "frames are compared after blurring the result again.",
        *_summary(report),
    )
    return {"arbitration": TextTable("Arbitration", header, tuple(rows), foot)}


def _summary(report: ArbitrationReport) -> Iterator[str]:
    for kind in dict.fromkeys(report.kinds.values()):
        found = [report.scores[t] for t, k in report.kinds.items() if k == kind]
        worst, lead, kept = [], 0.0, 0.0
        for rows in found:
            base = rows["deconvolution"].psnr_db
            for method in report.methods:
                gain = rows[f"{method}, arbitrated"].psnr_db - base
                alone = rows[method].psnr_db - base
                worst.append((gain, alone))
                if alone > 0:
                    lead, kept = lead + alone, kept + gain
        least = min(gain for gain, _ in worst)
        before = min(alone for _, alone in worst)
        line = f"{kind}: against RL at worst {least:+.2f} dB arbitrated, {before:+.2f} dB alone"
        yield line + (f"; {100 * kept / lead:.0f} % of the leads over RL kept." if lead else ".")


def _methods(wanted: Sequence[str]) -> tuple[str, ...]:
    if wanted:
        return tuple(wanted)
    return tuple(name for name in registry.names() if EnhanceRequest(method=name).arbitrates)


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure(
        options.data, _methods(options.methods), options.device, quick=options.quick, tell=tell
    ),
    tables=tables,
    page="arbitration.md",
    options=(QUICK, METHODS, DEVICE, Option("data", "Folder of real images.", "DIR", None, path)),
)
