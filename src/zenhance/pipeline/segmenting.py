"""Segment the same place of a measurement and of its result, and compare."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.cells import LabelArray
from zenhance.assess.segmentation import (
    KINDS,
    Cellpose,
    LabelAgreement,
    Segmenter,
    Sizes,
    Watershed,
    borders_picture,
    cell_sizes,
    compare_labels,
    without_slivers,
)
from zenhance.errors import MethodError, StackError
from zenhance.pipeline.advice import MIN_PLANES, PLATES, plate_share
from zenhance.pipeline.assessing import part_of
from zenhance.pipeline.judging import brightest_column
from zenhance.pipeline.request import EnhanceRequest
from zenhance.pipeline.result import Progress
from zenhance.provenance import Provenance
from zenhance.stack import Stack
from zenhance.steps import drain
from zenhance.types import FloatTriple, Region
from zenhance.wording import hint_for, quoted

__all__ = ["SEGMENTERS", "SegmentationCheck", "check_segmentation", "segmentation_steps"]

SEGMENTERS = ("watershed", "cellpose")


@dataclass(frozen=True)
class SegmentationCheck:
    """The same segmentation of a measurement and of its result.

    Parameters
    ----------
    segmenter, kind : str
        What segmented, and the structures: ``walls`` or ``bodies``.
    region : tuple of slice
        The part that was segmented, (z, y, x) of the measurement as the run saw it.
    voxel_size_um : tuple of float
        Of the measurement.
    original, result : Sizes
        Cells of each.
    agreement : LabelAgreement
        Of the result with the original.
    original_truth, result_truth : LabelAgreement or None
        Of each with the true cells, seen from the truth: matched are found, lost are missed.
    labels : dict of str to Stack
        ``original`` and ``result`` (and ``truth``) on the measurement's voxels.
    picture : bytes
        PNG: the plane in the middle of the part, original and result, with the cells' borders.
    """

    segmenter: str
    kind: str
    region: Region
    voxel_size_um: FloatTriple
    original: Sizes
    result: Sizes
    agreement: LabelAgreement
    original_truth: LabelAgreement | None
    result_truth: LabelAgreement | None
    labels: dict[str, Stack]
    picture: bytes

    def figures(self) -> dict[str, Any]:
        """Return all numbers, ready for JSON."""
        skipped = ("labels", "picture", "region")
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in skipped}
        found = {
            name: asdict(value) if isinstance(value, Sizes | LabelAgreement) else value
            for name, value in plain.items()
        }
        return found | {"region_px": [[part.start, part.stop] for part in self.region]}

    def headline(self) -> str:
        """Return the outcome in one sentence."""
        a = self.agreement
        text = (
            f"{self.original.cells} cells in the original, {self.result.cells} in the result: "
            f"{a.matched} the same, {a.split} split, {a.merged} merged, {a.lost} lost, "
            f"{a.gained} gained"
        )
        before, after = self.original_truth, self.result_truth
        if before is None or after is None:
            return text
        asked = before.matched + before.split + before.merged + before.lost
        return (
            f"{text}; of {asked} true cells {before.matched} are found in the original, "
            f"{after.matched} in the result"
        )


def check_segmentation(original: Stack, result: Stack, **options: Any) -> SegmentationCheck:
    """Segment a measurement and its result by the same procedure, and compare.

    Parameters
    ----------
    original : Stack
        The measurement as it was opened.
    result : Stack
        What a run made of it, on its voxels or on finer ones.
    **options
        As for :func:`segmentation_steps`.

    Raises
    ------
    StackError
        The stacks do not show the same place, or the voxel size is unknown.
    MethodError
        The segmenter or the kind is unknown, or the segmenter is not installed.

    Notes
    -----
    The watershed is a yardstick, not the best possible segmentation: more cells are better only if
    they are there. Only true cells (``labels``) can tell.
    """
    return drain(segmentation_steps(original, result, **options))


def segmentation_steps(
    original: Stack,
    result: Stack,
    *,
    request: EnhanceRequest | None = None,
    labels: Stack | None = None,
    region: Region | None = None,
    kind: str | None = None,
    segmenter: str | Segmenter = "watershed",
    t: int = 0,
    c: int = 0,
) -> Generator[Progress, None, SegmentationCheck]:
    """Segment and compare in steps.

    Parameters
    ----------
    original, result : Stack
        As for :func:`check_segmentation`.
    request : EnhanceRequest, optional
        Of the run; left out, the one inside the result.
    labels : Stack, optional
        True cells from 1, 0 outside, on the voxels of the original or of the result.
    region : tuple of slice, optional
        The part (z, y, x) of the original, after the request's crop; left out, all of it, or of a
        stack with more than a million voxels the brightest part with all planes.
    kind : {'walls', 'bodies'}, optional
        Left out, measured on the original.
    segmenter : str or Segmenter
        ``watershed``, ``cellpose``, or any callable of a volume and its voxel size (z, y, x in µm)
        that has a ``name``.
    t, c : int
        Time point and channel, counted from 0.
    """
    if request is None:
        record = Provenance.find(result.metadata)
        request = EnhanceRequest(**({} if record is None else record.request))
    before = request.apply_to(original)
    size_um = before.voxel_size.require(before.spatial_axes)
    _check_grid(before, result)
    region = region or brightest_column(before)
    measured = before.volume_shape
    first, second = _volume(before, region, measured, t, c), _volume(result, region, measured, t, c)
    kind = kind or _kind(first, size_um)
    chosen = _chosen(segmenter, kind)
    voxel_um3 = float(np.prod(size_um))
    found: dict[str, LabelArray] = {}
    for name, volume in (("original", first), ("result", second)):
        yield Progress("assess", 0.5 * len(found), None, f"segmenting the {name}")
        fine = tuple(v * n / m for v, n, m in zip(size_um, first.shape, volume.shape, strict=True))
        cells = chosen(volume, (fine[0], fine[1], fine[2]))
        found[name] = without_slivers(_regridded(cells, first.shape), kind, voxel_um3)
    if labels is not None:
        true = _volume(_true(labels, original, request), region, measured, 0, 0)
        found["truth"] = without_slivers(_regridded(true, first.shape), kind, voxel_um3)
    middle = first.shape[0] // 2
    sharp = second[middle * second.shape[0] // first.shape[0]]
    shown = (first[middle], _regridded(sharp[None], (1, *first.shape[1:]))[0])
    truth = found.get("truth")
    return SegmentationCheck(
        chosen.name,
        kind,
        region,
        size_um,
        cell_sizes(found["original"], voxel_um3),
        cell_sizes(found["result"], voxel_um3),
        compare_labels(found["original"], found["result"]),
        None if truth is None else compare_labels(truth, found["original"]),
        None if truth is None else compare_labels(truth, found["result"]),
        {name: _as_stack(cells, name, before) for name, cells in found.items()},
        borders_picture(
            shown, (found["original"][middle], found["result"][middle]), (size_um[1], size_um[2])
        ),
    )


def _check_grid(before: Stack, result: Stack) -> None:
    """Refuse a result that is coarser than the measurement, or of another place."""
    ratios = [n / m for n, m in zip(result.volume_shape, before.volume_shape, strict=True)]
    if any(r < 1 or r != round(r) for r in ratios):
        raise StackError(
            f"the result has {result.volume_shape} voxels (z, y, x) and the original "
            f"{before.volume_shape}; give the original that the result was made from"
        )


def _chosen(segmenter: str | Segmenter, kind: str) -> Segmenter:
    if kind not in KINDS:
        raise MethodError(f"there is no kind {quoted(kind)}; {hint_for(kind, KINDS)}")
    if not isinstance(segmenter, str):
        return segmenter
    if segmenter not in SEGMENTERS:
        raise MethodError(
            f"there is no segmenter {quoted(segmenter)}; {hint_for(segmenter, SEGMENTERS)}"
        )
    return Watershed(kind) if segmenter == "watershed" else Cellpose()


def _kind(volume: npt.NDArray[Any], size_um: FloatTriple) -> str:
    """Tell walls from bodies as the advice does; few planes are taken for walls."""
    if volume.shape[0] < MIN_PLANES or min(volume.shape[1:]) < MIN_PLANES:
        return "walls"
    return "walls" if plate_share(volume.astype(np.float32), size_um) >= PLATES else "bodies"


def _volume(
    stack: Stack, region: Region, measured: tuple[int, ...], t: int, c: int
) -> npt.NDArray[Any]:
    part = part_of(stack, region, measured)
    values = part.read(t if stack.size("T") > t else 0, c if stack.size("C") > c else 0)
    return np.nan_to_num(values) if values.dtype.kind == "f" else values


def _true(labels: Stack, original: Stack, request: EnhanceRequest) -> Stack:
    """Crop true cells on the whole measurement as the request crops it."""
    if request.crop is None or labels.volume_shape != original.volume_shape:
        return labels
    return EnhanceRequest(crop=request.crop).apply_to(labels)


def _regridded(values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the voxels nearest to the middle of each voxel of a coarser grid."""
    picks = [
        ((np.arange(m) + 0.5) * n / m).astype(int) for n, m in zip(values.shape, shape, strict=True)
    ]
    return values[np.ix_(*picks)]


def _as_stack(labels: LabelArray, name: str, before: Stack) -> Stack:
    cells = labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.int32)
    return Stack(cells, "ZYX", before.voxel_size, name=f"{name} cells")
