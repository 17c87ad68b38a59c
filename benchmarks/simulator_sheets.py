"""Picture sheets of the simulator: specimens as truth, blurred and measured; all presets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zenhance.simulate.presets import microscope
from zenhance.simulate.samples import simulate

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PRESET_ROW", "SPECIMEN_ROWS", "captioned", "draw_sheets"]

PLANE = (1, 160, 160)
CAPTION_PX = 18
GAP_PX = 4
SPECIMEN_ROWS: dict[str, dict[str, Any]] = {
    "filaments, set 1": {
        "specimen": "filaments",
        "voxel_size_um": (0.1, 0.025, 0.025),
        "microscope": "filaments_set1",
    },
    "filaments, set 2": {
        "specimen": "filaments",
        "voxel_size_um": (0.1, 0.025, 0.025),
        "microscope": "filaments_set2",
    },
    "charts, lines": {
        "specimen": "charts",
        "voxel_size_um": (0.3, 0.05, 0.05),
        "settings": {"gap_um": 0.8, "steps": 9},
        "microscope": "good",
    },
    "charts, star": {
        "specimen": "charts",
        "voxel_size_um": (0.3, 0.05, 0.05),
        "settings": {"pattern": "star"},
        "microscope": "good",
    },
    "beads": {
        "specimen": "beads",
        "voxel_size_um": (0.3, 0.05, 0.05),
        "settings": {"dye_voxels": 30.0, "distance_um": 1.0},
        "microscope": "dim",
    },
}
"""Title → what to simulate."""
PRESET_ROW = ("good", "typical", "dim", "deep", "throw_away")
MERISTEM: dict[str, Any] = {"fold_um": 0.8, "wall_spread": 0.25}


def draw_sheets() -> dict[str, Image]:
    """Return the sheet of specimens and the sheet of presets by file name."""
    columns = ("truth", "blurred", "measured")
    rows = []
    for title, job in SPECIMEN_ROWS.items():
        seen = simulate(
            job["specimen"],
            seed=3,
            shape_px=PLANE,
            voxel_size_um=job["voxel_size_um"],
            settings=job.get("settings"),
            microscope=microscope(job["microscope"]),
        )
        rows.append([(f"{title}: {name}", getattr(seen, name).read()[0]) for name in columns])
    shallow, deep = [], []
    for name in PRESET_ROW:
        seen = simulate(
            "meristem",
            seed=3,
            shape_px=(28, 140, 140),
            voxel_size_um=(0.7, 0.25, 0.25),
            settings=MERISTEM,
            microscope=microscope(name),
        )
        volume = seen.measured.read()
        shallow.append((f"{name}, 6 um", volume[8]))
        deep.append((f"{name}, 18 um", volume[25]))
    return {
        "simulator_specimens.png": captioned(rows),
        "simulator_presets.png": captioned([shallow, deep]),
    }


def captioned(rows: Sequence[Sequence[tuple[str, npt.NDArray[Any]]]]) -> Image:
    """Return pictures in rows, each with its own contrast and a caption."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = rows[0][0][1].shape
    size = (len(rows[0]) * (width + GAP_PX) - GAP_PX, len(rows) * (height + CAPTION_PX))
    sheet = Image.new("L", size, 255)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for r, row in enumerate(rows):
        for c, (caption, plane) in enumerate(row):
            left, top = c * (width + GAP_PX), r * (height + CAPTION_PX)
            draw.text((left + 2, top + 2), caption, fill=0, font=font)
            sheet.paste(Image.fromarray(_stretched(plane)), (left, top + CAPTION_PX))
    return sheet


def _stretched(plane: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(plane, [0.5, 99.7])
    if high <= low:
        low, high = float(plane.min()), max(float(plane.max()), float(plane.min()) + 1)
    return np.asarray(
        np.clip((plane.astype(np.float32) - low) / (high - low) * 255, 0, 255), np.uint8
    )
