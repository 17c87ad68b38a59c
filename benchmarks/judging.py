"""Quality of a result on simulated stacks that no training has seen.

::

    scene ──► contender ──► image ──┬─ truth          PSNR, SSIM, RMSE; PSNR by depth
                                    ├─ blurred truth  PSNR of the result blurred again
                                    ├─ labels         cells found, by depth
                                    └─ measurement    re-blur check

A contender that fails keeps its row, which says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.contenders import Contender
from benchmarks.filters import FILTERS, Filtered
from benchmarks.machine import Machine, describe_machine
from benchmarks.measures import blurred_psnr_db, psnr_by_depth_db, sharpness
from benchmarks.peak_memory import PeakMemory
from benchmarks.scenes import Plan, Scene
from zenhance.assess.cells import CellReport, cells_found
from zenhance.assess.reblur import reblur_check
from zenhance.assess.reblur_report import ReblurReport
from zenhance.assess.truth import TruthReport, compare_with_truth
from zenhance.contract import registry
from zenhance.errors import RunCancelled, sentence
from zenhance.pipeline import enhance
from zenhance.types import FloatArray

__all__ = [
    "DEPTH_EDGES_UM",
    "Figures",
    "Outcome",
    "QualityReport",
    "enhance_scene",
    "measure_quality",
]

DEPTH_EDGES_UM = (0.0, 5.0, 10.0)
CROP_PX = 64
Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one contender achieved on one scene.

    Parameters
    ----------
    quality : TruthReport
        Against the sharp truth.
    blurred_psnr_db : float
        Against the noise-free blurred specimen (:func:`~benchmarks.measures.blurred_psnr_db`).
    depth_psnr_db : tuple of float or None
        Against the sharp truth in each layer that :data:`DEPTH_EDGES_UM` begins.
    cells, reblur : CellReport, ReblurReport
        Cells found, and the result blurred again against the measurement.
    seconds : float
        Of the whole call.
    peak_bytes : int or None
        None where the system does not tell.
    note : str
        What the table has to say of it, a line each.
    """

    quality: TruthReport
    blurred_psnr_db: float
    depth_psnr_db: tuple[float | None, ...]
    sharpness: float
    cells: CellReport
    reblur: ReblurReport
    seconds: float
    peak_bytes: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One contender on one scene: its figures, or in a sentence why there are none."""

    figures: Figures | None = None
    failure: str = ""


@dataclass(frozen=True)
class QualityReport:
    """All figures.

    Parameters
    ----------
    contenders, plans : tuple
        Rows, and the stacks they were measured on.
    outcomes : mapping of str to tuple of Outcome
        By the contender's name, one a stack.
    crops : mapping of str to float32 array (2, Y, X)
        A shallow and a deep plane of the first stack, for the picture sheet; those that failed are
        missing.
    """

    contenders: tuple[Contender, ...]
    plans: tuple[Plan, ...]
    outcomes: dict[str, tuple[Outcome, ...]]
    machine: Machine
    crops: dict[str, FloatArray] = field(default_factory=dict)
    crop_planes: tuple[int, int] = (0, 0)

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        rows = [
            {
                "name": c.name,
                "title": c.title,
                "outcomes": [asdict(outcome) for outcome in self.outcomes[c.name]],
            }
            for c in self.contenders
        ]
        stacks = [asdict(plan) for plan in self.plans]
        return {"stacks": stacks, "rows": rows, "machine": asdict(self.machine)}


def measure_quality(
    contenders: Sequence[Contender],
    plans: Sequence[Plan],
    *,
    device: str = "cpu",
    on_progress: Tell | None = None,
) -> QualityReport:
    """Give every stack to every contender and judge what comes back.

    Parameters
    ----------
    contenders : sequence of Contender
        The rows.
    plans : sequence of Plan
        The stacks; each is simulated when its turn comes.
    device : str
        Where to compute.
    on_progress : callable, optional
        Called with a title and the fraction done.
    """
    machine = describe_machine()
    found: dict[str, list[Outcome]] = {c.name: [] for c in contenders}
    crops: dict[str, FloatArray] = {}
    planes = (0, 0)
    for number, plan in enumerate(plans):
        scene = plan.make()
        for place, contender in enumerate(contenders):
            if on_progress is not None:
                done = (number + place / len(contenders)) / len(plans)
                on_progress(f"{plan.title} stack, {contender.title}", done)
            outcome, image = _run(contender, scene, device)
            found[contender.name].append(outcome)
            if number == 0 and image is not None:
                planes = _shown_planes(scene.truth.shape[0])
                crops[contender.name] = _crop(image, planes)
    return QualityReport(
        tuple(contenders),
        tuple(plans),
        {k: tuple(v) for k, v in found.items()},
        machine,
        crops,
        planes,
    )


def _shown_planes(depth: int) -> tuple[int, int]:
    return int(depth * 0.35), int(depth * 0.8)


def _crop(image: FloatArray, planes: tuple[int, int]) -> FloatArray:
    top, left = ((n - min(n, CROP_PX)) // 2 for n in image.shape[1:])
    return np.array(image[list(planes), top : top + CROP_PX, left : left + CROP_PX], np.float32)


def _run(contender: Contender, scene: Scene, device: str) -> tuple[Outcome, FloatArray | None]:
    """Run and judge; whatever goes wrong becomes the row's text."""
    try:
        with PeakMemory() as memory:
            image, seconds, note = _produce(contender, scene, device)
        return Outcome(_judged(contender, scene, image, seconds, memory.peak_bytes, note)), image
    except RunCancelled:
        raise
    except Exception as error:  # noqa: BLE001 - a benchmark shows how a method failed instead of ending with it
        return Outcome(failure=sentence(error)), None


def _produce(contender: Contender, scene: Scene, device: str) -> Filtered:
    if contender.method is None:
        return FILTERS[contender.name](scene)
    return enhance_scene(contender, scene.binned(contender.scale), device)


def enhance_scene(contender: Contender, scene: Scene, device: str) -> Filtered:
    """Run a method of the registry on a scene; the seconds are those of the whole call."""
    psf = scene.psf_spec if registry.load(str(contender.method)).spec.defaults.needs_psf else None
    started = time.perf_counter()
    result = enhance(scene.measured, contender.request(device, psf))
    seconds = time.perf_counter() - started
    return result.stack.read().astype(np.float32), seconds, "\n".join(result.provenance.warnings)


def _judged(
    contender: Contender,
    scene: Scene,
    image: FloatArray,
    seconds: float,
    peak_bytes: int | None,
    note: str,
) -> Figures:
    seen = scene.binned(contender.scale)
    # Blurred with the true blur and haze of each depth: a single PSF would blame the truth.
    reblur, _ = reblur_check(
        seen.measured.read(),
        scene.imaged(image) if contender.deblurs else image,
        scene.psf,
        seen.voxel_size_um,
        seen.camera,
        deblurred=False,
    )
    return Figures(
        compare_with_truth(image, scene.truth),
        blurred_psnr_db(image, scene, deblurred=contender.deblurs),
        psnr_by_depth_db(image, scene, DEPTH_EDGES_UM),
        sharpness(image, scene),
        cells_found(image, scene.labels, scene.voxel_size_um, scene.depth_um, DEPTH_EDGES_UM),
        reblur,
        seconds,
        peak_bytes,
        note,
    )
