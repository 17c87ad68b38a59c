"""Which method for a stack: light, depth, blur and kind of structure, measured, and a reason.

The advice follows the tables of docs/benchmark.md: on simulated stacks of walls DQLR is nearest to
the truth under every microscope, on real ones it agrees with the measurement where the stack is
like those that it was trained on, or after learning from it. For anything else there is no such
evidence, and deconvolution, which has no prior of shapes, comes first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from zenhance.contract import registry
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure, measure_noise
from zenhance.models.catalogue import list_weights
from zenhance.pipeline.judging import brightest_column
from zenhance.pipeline.plan import psf_for
from zenhance.pipeline.request import EnhanceRequest
from zenhance.simulate.any_stack import PIXELS_UM, PLANES_UM
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

__all__ = ["Advice", "advise", "alike", "plate_share"]

PLATES = 0.75
"""Share of plate-like curvature from which structures are walls: 0.81 and more on simulated and
real membranes, 0.67 and less on nuclei, spots and filaments."""
SCALE_UM = 0.35
STRONG = 97.0
FEW_PHOTONS = 5.0
MIN_PLANES = 8
LIKE = 1.6
"""Voxels that differ by more than this factor from the training's are unlike them."""
ONLY_CLEANER = (
    "Only noise is to go: deconvolution, blurred again, needs no model, and on six real scenes it "
    "is 6 dB nearer to the mean of 50 frames than one frame."
)
DEFAULT, WALLS = "gaussian_deconvolution", "dqlr"


@dataclass(frozen=True, slots=True)
class Advice:
    """A method for a stack, and why.

    Parameters
    ----------
    method : str
        Its name.
    learn : bool
        Whether it should first learn from the stack.
    reason : str
        One sentence.
    facts, doubts : tuple of str
        What was measured, and what to check first.
    """

    method: str
    learn: bool
    reason: str
    facts: tuple[str, ...]
    doubts: tuple[str, ...]

    def command(self, path: str) -> str:
        """Return the command line that follows the advice."""
        learn = " --learn 10min" if self.learn else ""
        return f"zenhance enhance {path} better.ome.tif --method {self.method}{learn}"


def advise(stack: Stack, request: EnhanceRequest | None = None) -> Advice:
    """Measure the first volume of a stack and recommend a method.

    Parameters
    ----------
    stack : Stack
        As opened; axes, voxel size and channel of the request are applied to it.
    request : EnhanceRequest, optional
        What is known beyond the file.

    Raises
    ------
    StackError
        The stack cannot be read as the request says.
    """
    request = request or EnhanceRequest()
    seen = request.apply_to(stack)
    reader = VolumeReader(seen)
    statistics, _ = measure([reader], request.background)
    noise = measure_noise([reader], statistics)
    block = reader.read(brightest_column(seen))
    # Smoothed: with few photons the brightest single voxels are noise.
    smooth = ndimage.gaussian_filter(block, [1.0 if n > 1 else 0.0 for n in block.shape])
    bright = float(np.percentile(smooth, 99.9)) - statistics.background
    photons = max(bright, 0.0) / noise.gain
    known = seen.voxel_size.is_known(seen.spatial_axes)
    z, y, x = (1.0 if v is None else v for v in seen.voxel_size.zyx_um)
    planes = seen.volume_shape[0]
    plates = plate_share(block, (z, y, x)) if known and planes >= MIN_PLANES else math.nan
    facts = [
        f"about {photons:.3g} photons in the brightest places",
        "one plane" if planes == 1 else f"{planes} planes",
    ]
    if known and planes > 1:
        facts.append(f"{planes * z:.3g} µm deep")
    if math.isfinite(plates):
        kind = "walls" if plates >= PLATES else "spots, threads or bodies"
        facts.append(f"structures are {kind} (plate-like share {plates:.2f})")
    method, learn, reason = (
        (DEFAULT, False, ONLY_CLEANER)
        if request.output == "denoised"
        else _choice(plates, planes, known, (z, y, x))
    )
    return Advice(method, learn, reason, tuple(facts), tuple(_doubts(seen, request, photons)))


def _choice(
    plates: float, planes: int, known: bool, voxel_um: FloatTriple
) -> tuple[str, bool, str]:
    if not known:
        return DEFAULT, False, "The voxel size is unknown, so no model can be trusted to fit."
    if planes < MIN_PLANES:
        return DEFAULT, False, (
            f"With {planes} {'plane' if planes == 1 else 'planes'} a model of stacks has no depth "
            "to use."
        )  # fmt: skip
    if not plates >= PLATES:
        return DEFAULT, False, (
            "The structures are not walls; deconvolution assumes nothing about shapes."
        )  # fmt: skip
    if not _trained_on(voxel_um):
        return WALLS, True, (
            "The structures are walls, but the voxels are unlike those the model was trained on; "
            "it should learn from this stack first."
        )  # fmt: skip
    return WALLS, False, (
        "The structures are walls, for which this method is nearest to the truth on simulated "
        "stacks of every microscope."
    )  # fmt: skip


def _trained_on(voxel_um: FloatTriple) -> bool:
    """Return whether the shipped model for walls was trained on such voxels."""
    wanted = registry.load(WALLS).spec.defaults.weights
    trained = [entry.card.voxel_size_um for entry in list_weights(WALLS) if entry.name == wanted]
    if not trained:
        return False
    if trained[0] is not None:
        return alike(voxel_um, trained[0])
    # A model of stacks of all kinds.
    ranges = (PLANES_UM, PIXELS_UM, PIXELS_UM)
    return all(low <= v <= high for v, (low, high) in zip(voxel_um, ranges, strict=True))


def alike(voxel_um: FloatTriple, trained_um: FloatTriple) -> bool:
    """Tell whether voxels are like those of a training."""
    ratios = [max(a / b, b / a) for a, b in zip(voxel_um, trained_um, strict=True)]
    return max(ratios) <= LIKE


def _doubts(stack: Stack, request: EnhanceRequest, photons: float) -> list[str]:
    said = []
    if not stack.voxel_size.is_known(stack.spatial_axes):
        said.append("Give the voxel size with --voxel-size; blur and depth follow from it.")
    elif request.psf is None and stack.volume_shape[0] < MIN_PLANES:
        psf = psf_for(stack, request)
        if any(value.origin == "default" for value in psf.values):
            said.append("The point spread function is a default; give --psf for a verdict.")
    if photons < FEW_PHOTONS:
        said.append(
            "There is so little light that any method shows mostly its own assumptions; "
            "doubt every detail."
        )
    return said


def plate_share(volume: FloatArray, voxel_um: FloatTriple) -> float:
    """Return how plate-like the bright structures are: 1 for flat walls, 0 for threads and spots.

    Parameters
    ----------
    volume : float32 array (Z, Y, X)
        At least eight planes.
    voxel_um : tuple of float
        (z, y, x).

    Notes
    -----
    (λ1 - λ2) / λ1 of the negated Hessian's eigenvalues, λ1 the largest, at the strongest three
    percent of the voxels (linear, planar and spherical shares: Westin et al. 2002, Med. Image
    Anal. 6:93); smoothed over 0.35 µm, or 0.8 voxels where these are larger.
    """
    smooth = ndimage.gaussian_filter(volume, [max(SCALE_UM / v, 0.8) for v in voxel_um])
    first = np.gradient(smooth, *voxel_um)
    hessian = np.empty((*volume.shape, 3, 3), np.float32)
    for i in range(3):
        for j, second in enumerate(np.gradient(first[i], *voxel_um)):
            hessian[..., i, j] = second
    inner = tuple(slice(4, -4) if n > 12 else slice(None) for n in volume.shape)
    curves = np.sort(-np.linalg.eigvalsh(hessian[inner].reshape(-1, 3, 3)), axis=1)
    strong = np.maximum(curves[curves[:, 2] >= np.percentile(curves[:, 2], STRONG)], 0.0)
    top = float(strong[:, 2].mean())
    return float((strong[:, 2] - strong[:, 1]).mean()) / top if top > 0 else 0.0
