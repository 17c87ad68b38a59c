"""Measure how well a method restores a bundled sample, against the truth that ships with it.

Every method gets the same measured stack and, if it takes one, the same point spread function: the
true one of the simulation, averaged over depth. Times are those of the whole call, statistics and
noise estimate included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.cells import CellReport, cells_found
from zenhance.assess.truth import TruthReport, compare_with_truth
from zenhance.errors import StackError
from zenhance.io import open_sample, open_sample_truth
from zenhance.io.samples import sample_path
from zenhance.pipeline.request import EnhanceRequest
from zenhance.pipeline.run import EnhanceResult, Progress, enhance_steps
from zenhance.simulate.specimen import tissue_above_um
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

__all__ = ["QualityRow", "SampleScene"]


@dataclass(frozen=True, slots=True)
class QualityRow:
    """The figures of one method."""

    name: str
    title: str
    quality: TruthReport
    cells: CellReport
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class SampleScene:
    """A bundled sample with its truth.

    Parameters
    ----------
    measured, truth : Stack
        The measurement and the sharp specimen.
    psf : str
        The true point spread function, averaged over depth.
    voxel_um : tuple of float
        (z, y, x).
    clean : float32 array (Z, Y, X)
        The truth as an array.
    labels : integer array (Z, Y, X)
        True cells from 1, 0 outside.
    depth_um : float32 array (Z, Y, X)
        Tissue above each voxel.
    """

    measured: Stack
    truth: Stack
    psf: str
    voxel_um: FloatTriple
    clean: FloatArray
    labels: npt.NDArray[np.integer[Any]]
    depth_um: FloatArray

    @classmethod
    def load(cls, name: str) -> SampleScene:
        """Open a bundled sample of one volume.

        Raises
        ------
        StackError
            The sample is unknown, has several channels or time points, or has no truth, labels or
            record.
        """
        measured, known = open_sample(name), open_sample_truth(name)
        record = sample_path(name).with_name(f"{name}.json")
        if measured.axes != "ZYX" or not {"truth", "labels"} <= set(known) or not record.is_file():
            raise StackError(
                f'sample "{name}" cannot be judged; '
                "it must be one volume (ZYX) with truth, labels and a .json record"
            )
        labels = known["labels"].read()
        voxel = measured.voxel_size.require()
        return cls(
            measured=measured,
            truth=known["truth"],
            psf=str(json.loads(record.read_text(encoding="utf-8"))["psf"]),
            voxel_um=voxel,
            clean=known["truth"].read().astype(np.float32),
            labels=labels,
            depth_um=tissue_above_um(labels > 0, voxel[0]),
        )

    def judge(
        self, name: str, title: str, image: FloatArray, seconds: float, note: str = ""
    ) -> QualityRow:
        """Compare an image with the truth."""
        quality = compare_with_truth(image, self.clean)
        cells = cells_found(image, self.labels, self.voxel_um, self.depth_um)
        return QualityRow(name, title, quality, cells, seconds, note)

    def enhance_steps(
        self, name: str, title: str, request: EnhanceRequest
    ) -> Generator[Progress, None, tuple[QualityRow, EnhanceResult]]:
        """Enhance the sample step by step and compare the result with the truth."""
        started = time.perf_counter()
        result = yield from enhance_steps(self.measured, request)
        seconds = time.perf_counter() - started
        image = result.stack.read().astype(np.float32)
        return self.judge(name, title, image, seconds), result
