"""Simulated and real stacks side by side, for the page of the simulator.

The real stacks are not part of this project. The experiment reads them from a folder and writes
figures, a table and a thumbnail of a few planes.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.plots import Panel, draw_panels
from benchmarks.realism import Curve, Look, curves_apart, look_at
from benchmarks.runner import Experiment, Option, Section, Tell, words
from benchmarks.simulator_sheets import draw_sheets
from benchmarks.tables import TextTable, figure
from zenhance.errors import MethodError, ReadError
from zenhance.io import open_stack
from zenhance.simulate.presets import microscope
from zenhance.simulate.samples import simulate
from zenhance.types import FloatTriple

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EXPERIMENT", "PAIRS", "Pair", "compare", "realism_table"]

SCALED_TO = 200.0
THUMB_PX = 200
NOTHING = Curve(np.full(1, np.nan), np.full(1, np.nan))
"""Stands for a curve that was not measured."""


@dataclass(frozen=True)
class Pair:
    """A real stack and its simulated counterpart.

    Parameters
    ----------
    file : str
        Name in the folder of real stacks.
    part : tuple of slice
        Of the real stack.
    voxel_size_um : tuple of float
        (z, y, x), also of the simulated one.
    preset, scope, settings
        Of the simulated one: microscope, its settings beside the preset, and those of the meristem.
    scaled : bool
        Whether both are brought to one brightness first, because the real one's grey values were
        stretched.
    noise_free : bool
        Whether the simulated stack's noise-free image is compared, rounded to whole numbers,
        because the real one was denoised.
    has_surface : bool
        Whether the specimen's surface is in the field.
    """

    title: str
    file: str
    part: tuple[slice, slice, slice]
    voxel_size_um: FloatTriple
    preset: str
    settings: dict[str, Any]
    scope: dict[str, Any] = field(default_factory=dict)
    scaled: bool = False
    noise_free: bool = False
    has_surface: bool = True
    seed: int = 21


PAIRS: dict[str, Pair] = {
    "p60": Pair(
        "floral meristem p60",
        "p60_floral_meristem_membrane_raw.tif",
        (slice(0, 44), slice(130, 350), slice(130, 350)),
        (1.0, 0.200319, 0.200319),
        "typical",
        {
            "radius_um": 31.0,
            "cell_um": 5.8,
            "layer_um": 5.4,
            "apex_um": 3.0,
            "wall_um": 0.22,
            "fold_um": 0.8,
            "bend_um": 0.35,
            "wall_spread": 0.2,
            "cytoplasm": 0.035,
        },
        {"photons": 820.0},
    ),
    "p60_unseen": Pair(
        "floral meristem p60, a part that nothing was fitted to",
        "p60_floral_meristem_membrane_raw.tif",
        (slice(0, 44), slice(0, 180), slice(280, 460)),
        (1.0, 0.200319, 0.200319),
        "typical",
        {
            "radius_um": 31.0,
            "cell_um": 5.8,
            "layer_um": 5.4,
            "apex_um": 0.0,
            "wall_um": 0.22,
            "fold_um": 0.8,
            "bend_um": 0.35,
            "wall_spread": 0.2,
            "cytoplasm": 0.035,
        },
        {"photons": 820.0},
        seed=22,
    ),
    "ovule": Pair(
        "ovule",
        "ovule_membrane_crop_raw.tif",
        (slice(None), slice(None), slice(None)),
        (0.235, 0.15, 0.15),
        "good",
        {
            "radius_um": 100.0,
            "cell_um": 6.0,
            "layer_um": 5.0,
            "wall_um": 1.0,
            "apex_um": 0.0,
            "flower": False,
            "fold_um": 0.8,
            "wall_spread": 0.25,
            "cytoplasm": 0.05,
        },
        {"sigma_shallow_um": (0.6, 0.5, 0.5), "sigma_deep_um": (0.6, 0.5, 0.5), "haze_deep": 0.1},
        scaled=True,
        noise_free=True,
        has_surface=False,
    ),
    "embryo": Pair(
        "embryo",
        "arabidopsis_embryo_membrane.tif",
        (slice(None), slice(None), slice(None)),
        (0.3, 0.3, 0.3),
        "typical",
        {
            "radius_um": 14.0,
            "cell_um": 7.5,
            "layer_um": 6.5,
            "apex_um": 2.0,
            "flower": False,
            "wall_spread": 0.25,
            "cytoplasm": 0.03,
        },
        {
            "dtype": "uint16",
            "photons": 400.0,
            "attenuation_um": 200.0,
            "background_photons": 0.5,
            "sigma_shallow_um": (0.7, 0.18, 0.18),
        },
        scaled=True,
    ),
}
"""What is compared. The embryo's voxel size is not recorded; 0.3 µm is assumed for both."""


def compare(
    pair: Pair, folder: str | Path
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Look, Look]:
    """Return the real and the simulated pixels and the measures of each.

    Raises
    ------
    ReadError
        The real stack is not in the folder.
    """
    path = Path(folder) / pair.file
    if not path.is_file():
        raise ReadError(
            path, "there is no such file; give the folder of the real stacks with --real"
        )
    real = np.asarray(open_stack(path).read())[pair.part]
    z, y, x = real.shape
    scope = microscope(pair.preset, **pair.scope)
    seen = simulate(
        "meristem",
        seed=pair.seed,
        shape_px=(z, y, x),
        voxel_size_um=pair.voxel_size_um,
        settings=pair.settings,
        microscope=scope,
    )
    made = (seen.blurred if pair.noise_free else seen.measured).read()
    if pair.scaled:
        real, made = _scaled(real), _scaled(made)
    if pair.noise_free:
        made = np.rint(made)
    looks = [
        look_at(volume, pair.voxel_size_um, has_surface=pair.has_surface) for volume in (real, made)
    ]
    return real, made, looks[0], looks[1]


def _scaled(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    low, high = np.percentile(volume, [1.0, 99.0])
    return np.asarray(
        (volume.astype(np.float32) - low) * (SCALED_TO / max(high - low, 1e-6)), np.float32
    )


def _panels(real: Look, made: Look) -> list[Panel]:
    titles = {
        "histogram": ("intensity", "grey value", "log10 share"),
        "noise": ("noise", "mean grey value", "variance"),
        "spectrum": ("power spectrum", "cycles per um", "log10 power"),
        "wall": ("across a wall", "um", "brightness"),
        "brightness": ("brightness of walls", "um below the surface", "grey above dark"),
        "contrast": ("contrast", "um below the surface", ""),
    }
    panels = []
    for key, said in titles.items():
        lines = {}
        for name, look in (("real", real), ("simulated", made)):
            curve = look.curves.get(key, NOTHING)
            y = np.log10(np.maximum(curve.y, 1e-6)) if key == "histogram" else curve.y
            lines[name] = (curve.x, y)
        panels.append(Panel(*said, lines))
    return panels


def realism_table(looks: Mapping[str, tuple[Look, Look]]) -> TextTable:
    """Return the measures as rows, a real and a simulated stack beside each other."""
    head = ["", *(f"{name} {kind}" for name in looks for kind in ("real", "simulated"))]
    rows: dict[str, Callable[[Look], str]] = {
        "gain, grey values per photon (slope of variance by mean)": lambda k: f"{k.gain:.2f}",
        "grey value of darkness (1st percentile)": lambda k: f"{k.offset:.1f}",
        "correlation of neighbours' noise in the dark": lambda k: f"{k.noise_correlation:.2f}",
        "width of a wall, µm": lambda k: f"{k.wall_um:.2f}",
        "level beside a wall, share of its peak": lambda k: f"{k.floor:.2f}",
        "depth over which walls lose half, µm": lambda k: (
            "no fall" if np.isinf(k.half_depth_um) else figure(k.half_depth_um, 0)
        ),
        "contrast, shallowest layer": lambda k: figure(k.curves.get("contrast", NOTHING).y[0], 2),
        "contrast, deepest layer": lambda k: figure(k.curves.get("contrast", NOTHING).y[-1], 2),
        "signal-to-noise, shallowest layer": lambda k: figure(k.curves.get("snr", NOTHING).y[0], 1),
        "signal-to-noise, deepest layer": lambda k: figure(k.curves.get("snr", NOTHING).y[-1], 1),
    }
    cells = [
        (title, *(say(look) for pair in looks.values() for look in pair))
        for title, say in rows.items()
    ]
    for key, title in (
        ("histogram", "histogram"),
        ("spectrum", "power spectrum"),
        ("wall", "wall profile"),
        ("noise", "noise curve"),
    ):
        apart: list[str] = []
        for real, made in looks.values():
            apart += ["", f"{100 * curves_apart(real.curves[key], made.curves[key]):.0f} %"]
        cells.append((f"{title}: rms difference, share of its range", *apart))
    return TextTable("Simulated beside real", tuple(head), tuple(cells), ())


def _thumbnail(
    real: npt.NDArray[Any], made: npt.NDArray[Any], voxel_size_um: FloatTriple
) -> npt.NDArray[np.uint8]:
    """Return a shallow plane, a deep plane and an xz cut of both stacks, real above simulated."""
    stretch = max(1, round(voxel_size_um[0] / voxel_size_um[2]))
    rows = []
    for volume in (real, made):
        high = float(np.percentile(volume, 99.7))
        side = min(THUMB_PX, *volume.shape[1:])
        cuts = [volume[int(volume.shape[0] * part), :side, :side] for part in (0.25, 0.75)]
        upright = np.repeat(volume[:, volume.shape[1] // 2, :side], stretch, axis=0)[:side]
        cuts.append(np.pad(upright, ((0, side - upright.shape[0]), (0, 0))))
        rows.append(
            np.hstack(
                [np.clip(c.astype(np.float32) / high * 255, 0, 255).astype(np.uint8) for c in cuts]
            )
        )
    return np.vstack(rows)


@dataclass(frozen=True)
class Realism:
    """What the measures say of each pair, and thumbnails of its planes."""

    looks: Mapping[str, tuple[Look, Look]]
    planes: Mapping[str, npt.NDArray[np.uint8]]
    complete: bool

    def record(self) -> dict[str, Any]:
        """Return the table's figures as JSON can hold them."""
        table = realism_table(self.looks)
        return {"columns": list(table.header[1:]), "rows": {row[0]: row[1:] for row in table.rows}}

    def sections(self) -> list[Section]:
        """Return the table; of some pairs only, it does not go to the page."""
        text = realism_table(self.looks).markdown()
        return [Section("simulator.md", "realism", text)] if self.complete else []

    def pictures(self) -> dict[str, Image]:
        """Return curves and planes of each pair and, of all pairs, the simulator's sheets."""
        from PIL import Image

        found = dict(draw_sheets()) if self.complete else {}
        for name, looks in self.looks.items():
            found[f"simulator_{name}.png"] = draw_panels(_panels(*looks))
            found[f"simulator_{name}_planes.png"] = Image.fromarray(self.planes[name])
        return found


def _measure(options: Namespace, tell: Tell) -> Realism:
    chosen = options.only or tuple(PAIRS)
    if wrong := [name for name in chosen if name not in PAIRS]:
        raise MethodError(f'there is no pair "{wrong[0][:60]}"; known are {", ".join(PAIRS)}')
    looks, planes = {}, {}
    for number, name in enumerate(chosen):
        tell(name, number / len(chosen))
        real, made, look, other = compare(PAIRS[name], options.real)
        looks[name] = (look, other)
        planes[name] = _thumbnail(real, made, PAIRS[name].voxel_size_um)
    return Realism(looks, planes, not options.only)


EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda report: {"realism": realism_table(report.looks)},
    page="simulator.md",
    sections=Realism.sections,
    pictures=Realism.pictures,
    options=(
        Option(
            "real",
            "Folder of the real stacks.",
            "DIR",
            required="the experiment simulator needs real stacks; give their folder with --real "
            "DIR",
        ),
        Option("only", "Only these pairs; pictures, no table on the page.", "NAME,NAME", (), words),
    ),
)
