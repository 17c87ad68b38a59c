"""Real beads, and lines, before and after Richardson-Lucy and DPS: full width at half maximum.

The PSF for DPS is the median width of the beads themselves, as a user without other knowledge would
choose it. A bead is not a point: the width that remains is that of the bead, the network and the
noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.lines import LineReport, grid_table, measure_lines
from benchmarks.measures import full_width
from benchmarks.paths import places_in
from benchmarks.runner import DEVICE, Experiment, Option
from benchmarks.tables import TextTable
from zenhance.errors import StackError
from zenhance.io import open_stack
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = [
    "EXPERIMENT",
    "BeadReport",
    "BeadsAndLines",
    "bead_widths_um",
    "beads_table",
    "measure_beads",
    "measure_beads_and_lines",
    "read_beads",
]

SMOOTH_PX = 2.0
MAX_BEADS = 40
BRIGHT = 0.3
"""A bead is at least this bright, as a share of the brightest."""


@dataclass(frozen=True)
class BeadReport:
    """Widths of beads in µm by method, and the PSF that the methods got."""

    name: str
    psf: str
    places: int
    widths_um: Mapping[str, tuple[float, ...]]
    pixel_um: tuple[float, float]

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "name": self.name,
            "psf": self.psf,
            "beads": self.places,
            "fwhm_um": {k: list(v) for k, v in self.widths_um.items()},
        }


def bead_widths_um(
    volume: FloatArray,
    places: list[tuple[int, int, int]],
    pixel_um: tuple[float, float],
    reach_um: float,
) -> tuple[float, ...]:
    """Return the full width at half maximum of each bead, geometric mean of y and x.

    Parameters
    ----------
    volume : float32 array (Z, Y, X)
        Of any unit.
    places : list of tuple
        (z, y, x) of each bead.
    pixel_um : tuple of float
        (y, x).
    reach_um : float
        Half length of the profiles; the darkest tenth of them is the background.
    """
    found = []
    for z, y, x in places:
        widths = []
        for axis, size in ((0, pixel_um[0]), (1, pixel_um[1])):
            reach = max(3, round(reach_um / size))
            plane = volume[z] if axis == 1 else volume[z].T
            row, column = (y, x) if axis == 1 else (x, y)
            near = max(1, reach // 8)
            low, high = max(0, column - reach), min(plane.shape[1], column + reach + 1)
            profile = (
                plane[max(0, row - near) : row + near + 1, low:high].mean(axis=0).astype(np.float64)
            )
            widths.append(
                _width(profile - np.percentile(profile, 10), min(column - low, profile.size - 1))
                * size
            )
        found.append(float(np.sqrt(widths[0] * widths[1])))
    return tuple(found)


def _width(profile: npt.NDArray[np.float64], near: int) -> float:
    span = slice(max(0, near - 6), near + 7)
    return full_width(profile, span.start + int(profile[span].argmax()))


def find_beads(volume: FloatArray, pixel_um: tuple[float, float]) -> list[tuple[int, int, int]]:
    """Return the positions of beads: isolated maxima of the smoothed volume, off the borders."""
    smooth = ndimage.gaussian_filter(volume.astype(np.float32), (0.7, SMOOTH_PX, SMOOTH_PX))
    apart = [max(3, round(0.4 / p)) for p in pixel_um]
    peaks = (
        smooth
        == ndimage.maximum_filter(smooth, (volume.shape[0], 2 * apart[0] + 1, 2 * apart[1] + 1))
    ) & (smooth > np.median(smooth) + BRIGHT * (smooth.max() - np.median(smooth)))
    inner = np.zeros_like(peaks)
    inner[:, apart[0] : -apart[0], apart[1] : -apart[1]] = True
    found = [(int(z), int(y), int(x)) for z, y, x in np.argwhere(peaks & inner)]
    return sorted(found, key=lambda p: -float(smooth[p]))[:MAX_BEADS]


@dataclass(frozen=True)
class Beads:
    """Beads of a file: positions (z, y, x), widths in µm, and the PSF of their median width.

    Along z the PSF is three times as wide as in the plane.
    """

    stack: Stack
    volume: FloatArray
    pixel_um: tuple[float, float]
    places: list[tuple[int, int, int]]
    widths_um: tuple[float, ...]
    psf: str


def read_beads(path: Path) -> Beads:
    """Find the beads of a file.

    Raises
    ------
    StackError
        No bead stands out.
    ReadError
        The file cannot be read.
    """
    stack = open_stack(path)
    sizes = stack.voxel_size.require("ZYX" if "Z" in stack.axes else "YX")
    pixel = (sizes[-2], sizes[-1])
    volume = np.asarray(stack.read(), np.float32).reshape(stack.volume_shape)
    places = find_beads(volume, pixel)
    if not places:
        raise StackError(
            f'no bead stands out in "{path.name}"; give a stack of single bright beads'
        )
    widths = bead_widths_um(volume, places, pixel, 0.6)
    width = float(np.nanmedian(widths))
    psf = (
        f"fwhm_um={3 * width:.4g},{width:.4g},{width:.4g}"
        if "Z" in stack.axes
        else f"fwhm_um={width:.4g},{width:.4g}"
    )
    return Beads(stack, volume, pixel, places, widths, psf)


def measure_beads(path: Path, *, weights: str | None = None, device: str = "cpu") -> BeadReport:
    """Measure beads of a file before and after DPS and Richardson-Lucy with its own defaults.

    Raises
    ------
    StackError
        No bead stands out.
    ReadError
        The file cannot be read.
    """
    beads = read_beads(path)
    found = {"measurement": beads.widths_um}
    for name, request in (
        (
            "Richardson-Lucy",
            EnhanceRequest(method="gaussian_deconvolution", psf=beads.psf, device=device),
        ),
        (
            "DPS",
            EnhanceRequest(
                method="dps", psf=beads.psf, weights=weights, device=device, arbitrate=False
            ),
        ),
    ):
        image = np.asarray(enhance(beads.stack, request).stack.read(), np.float32).reshape(
            beads.volume.shape
        )
        found[name] = bead_widths_um(image, beads.places, beads.pixel_um, 0.6)
    return BeadReport(path.name, beads.psf, len(beads.places), found, beads.pixel_um)


def beads_table(report: BeadReport) -> TextTable:
    """Return the median widths, and how many times narrower each method makes them."""
    before = float(np.nanmedian(report.widths_um["measurement"]))
    rows = tuple(
        (
            name,
            f"{1000 * float(np.nanmedian(widths)):.0f}",
            f"{before / float(np.nanmedian(widths)):.2f}",
        )
        for name, widths in report.widths_um.items()
    )
    foot = (
        f"`{report.name}`: {report.places} beads, pixels of {1000 * report.pixel_um[1]:.3g} nm; "
        "median full width at half maximum, mean of"
        " y and x, in the plane where each is brightest.",
        f"PSF given: `{report.psf}`, the beads' own median width in the plane, three times as much "
        "along z.",
    )
    return TextTable("Real beads", ("method", "FWHM nm", "times narrower"), rows, foot)


@dataclass(frozen=True)
class BeadsAndLines:
    """Figures of real beads and, from a second file, of lines."""

    beads: BeadReport
    lines: LineReport | None = None

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        found = {"beads": self.beads.record()}
        return found if self.lines is None else {**found, "grid": self.lines.record()}

    def tables(self) -> dict[str, TextTable]:
        """Return the tables by marker."""
        found = {"beads": beads_table(self.beads)}
        return (
            found
            if self.lines is None
            else {**found, "grid": grid_table(self.lines, self.beads.name)}
        )


def measure_beads_and_lines(
    place: str | Path, *, weights: str | None = None, device: str = "cpu"
) -> BeadsAndLines:
    """Measure real beads, and lines, before and after DPS and Richardson-Lucy.

    Parameters
    ----------
    place : str or Path
        A stack of single bright beads; after a comma, if wanted, one of parallel lines from the
        same microscope, whose PSF is the width of the beads.
    weights : str, optional
        Of DPS; left out, those that ship.
    device : str
        Where to compute.

    Raises
    ------
    StackError
        There are more than two files, or no bead or line stands out.
    """
    files = places_in(place)
    if len(files) not in (1, 2):
        raise StackError(
            f"{len(files)} files were given to measure; give one of beads, and if there is one, "
            "one of lines: BEADS,LINES"
        )
    beads = measure_beads(files[0], weights=weights, device=device)
    if len(files) == 1:
        return BeadsAndLines(beads)
    return BeadsAndLines(beads, measure_lines(files[1], beads.psf, weights=weights, device=device))


EXPERIMENT = Experiment(
    measure=lambda options, _tell: measure_beads_and_lines(options.real, device=options.device),
    tables=BeadsAndLines.tables,
    page="methods/dps.md",
    options=(
        Option(
            "real",
            "A stack of beads and, after a comma, one of lines from the same microscope.",
            "BEADS,LINES",
            required="the experiment beads needs a stack; give one with --real BEADS, or "
            "BEADS,LINES",
        ),
        DEVICE,
    ),
)
