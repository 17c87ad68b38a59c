"""Put simulated and real stacks side by side in ``docs/simulator.md``: ``python -m benchmarks.simulator_docs --real FOLDER``.

The real stacks are not part of this project. The command reads them from a folder, writes figures and a table, and copies nothing else
but a thumbnail of one plane.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.docs import write_between_markers
from benchmarks.plots import Panel, draw_panels
from benchmarks.realism import Curve, Look, curves_apart, look_at
from benchmarks.simulator_sheets import write_sheets
from zenhance.errors import ReadError
from zenhance.io import open_stack
from zenhance.simulate.presets import microscope
from zenhance.simulate.samples import simulate
from zenhance.types import FloatTriple

__all__ = ["PAIRS", "Pair", "compare", "main"]

PAGE = Path("docs") / "simulator.md"
SCALED_TO = 200.0
THUMB_PX = 200
NOTHING = Curve(np.full(1, np.nan), np.full(1, np.nan))
"""Stands for a curve that was not measured."""


@dataclass(frozen=True)
class Pair:
    """A real stack and the simulated one that is meant to look like it.

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
        Whether both are brought to one brightness first, because the real one's grey values were stretched.
    noise_free : bool
        Whether the simulated stack's noise-free image is compared, rounded to whole numbers, because the real one was denoised.
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
        "floral meristem p60", "p60_floral_meristem_membrane_raw.tif", (slice(0, 44), slice(130, 350), slice(130, 350)),
        (1.0, 0.200319, 0.200319), "typical",
        {"radius_um": 31.0, "cell_um": 5.8, "layer_um": 5.4, "apex_um": 3.0, "wall_um": 0.22,
         "fold_um": 0.8, "bend_um": 0.35, "wall_spread": 0.2, "cytoplasm": 0.035},
        {"photons": 820.0},
    ),
    "p60_unseen": Pair(
        "floral meristem p60, a part that nothing was fitted to", "p60_floral_meristem_membrane_raw.tif",
        (slice(0, 44), slice(0, 180), slice(280, 460)), (1.0, 0.200319, 0.200319), "typical",
        {"radius_um": 31.0, "cell_um": 5.8, "layer_um": 5.4, "apex_um": 0.0, "wall_um": 0.22,
         "fold_um": 0.8, "bend_um": 0.35, "wall_spread": 0.2, "cytoplasm": 0.035},
        {"photons": 820.0}, seed=22,
    ),
    "ovule": Pair(
        "ovule", "ovule_membrane_crop_raw.tif", (slice(None), slice(None), slice(None)), (0.235, 0.15, 0.15), "good",
        {"radius_um": 100.0, "cell_um": 6.0, "layer_um": 5.0, "wall_um": 1.0, "apex_um": 0.0, "flower": False,
         "fold_um": 0.8, "wall_spread": 0.25, "cytoplasm": 0.05},
        {"sigma_shallow_um": (0.6, 0.5, 0.5), "sigma_deep_um": (0.6, 0.5, 0.5), "haze_deep": 0.1},
        scaled=True, noise_free=True, has_surface=False,
    ),
    "embryo": Pair(
        "embryo", "arabidopsis_embryo_membrane.tif", (slice(None), slice(None), slice(None)), (0.3, 0.3, 0.3), "typical",
        {"radius_um": 14.0, "cell_um": 7.5, "layer_um": 6.5, "apex_um": 2.0, "flower": False, "wall_spread": 0.25, "cytoplasm": 0.03},
        {"dtype": "uint16", "photons": 400.0, "attenuation_um": 200.0, "background_photons": 0.5, "sigma_shallow_um": (0.7, 0.18, 0.18)},
        scaled=True,
    ),
}  # fmt: skip
"""What is compared. The embryo's voxel size is not recorded; 0.3 µm is assumed for both."""


def compare(
    pair: Pair, folder: str | Path
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Look, Look]:
    """Return the real and the simulated pixels and what the measures say of each.

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
    for key, words in titles.items():
        lines = {}
        for name, look in (("real", real), ("simulated", made)):
            curve = look.curves.get(key, NOTHING)
            y = np.log10(np.maximum(curve.y, 1e-6)) if key == "histogram" else curve.y
            lines[name] = (curve.x, y)
        panels.append(Panel(*words, lines))
    return panels


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def _table(looks: dict[str, tuple[Look, Look]]) -> str:
    head = ["", *(f"{name} {kind}" for name in looks for kind in ("real", "simulated"))]
    rows: dict[str, Callable[[Look], str]] = {
        "gain, grey values per photon (slope of variance by mean)": lambda k: f"{k.gain:.2f}",
        "grey value of darkness (1st percentile)": lambda k: f"{k.offset:.1f}",
        "correlation of neighbours' noise in the dark": lambda k: f"{k.noise_correlation:.2f}",
        "width of a wall, µm": lambda k: f"{k.wall_um:.2f}",
        "level beside a wall, share of its peak": lambda k: f"{k.floor:.2f}",
        "depth over which walls lose half, µm": lambda k: (
            "no fall" if np.isinf(k.half_depth_um) else _number(k.half_depth_um, 0)
        ),
        "contrast, shallowest layer": lambda k: _number(k.curves.get("contrast", NOTHING).y[0], 2),
        "contrast, deepest layer": lambda k: _number(k.curves.get("contrast", NOTHING).y[-1], 2),
        "signal-to-noise, shallowest layer": lambda k: _number(
            k.curves.get("snr", NOTHING).y[0], 1
        ),
        "signal-to-noise, deepest layer": lambda k: _number(k.curves.get("snr", NOTHING).y[-1], 1),
    }
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for title, tell in rows.items():
        lines.append(
            "| "
            + " | ".join([title, *(tell(look) for pair in looks.values() for look in pair)])
            + " |"
        )
    for key, title in (
        ("histogram", "histogram"),
        ("spectrum", "power spectrum"),
        ("wall", "wall profile"),
        ("noise", "noise curve"),
    ):
        apart = []
        for real, made in looks.values():
            apart += ["", f"{100 * curves_apart(real.curves[key], made.curves[key]):.0f} %"]
        lines.append(
            "| " + " | ".join([f"{title}: rms difference, share of its range", *apart]) + " |"
        )
    return "\n".join(lines)


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


def main(words: Sequence[str] | None = None) -> int:
    """Compare, draw and write; return 0."""
    from PIL import Image

    parser = argparse.ArgumentParser(description="Compare simulated stacks with real ones.")
    parser.add_argument("--real", required=True, help="folder with the real stacks")
    parser.add_argument(
        "--page",
        default=str(PAGE),
        help="page that gets the table; figures go into images/ beside it",
    )
    parser.add_argument(
        "--only",
        choices=sorted(PAIRS),
        action="append",
        help="compare this pair only; figures, no table",
    )
    chosen = parser.parse_args(words)
    page = Path(chosen.page)
    images = page.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    looks = {}
    for name in chosen.only or PAIRS:
        real, made, look, other = compare(PAIRS[name], chosen.real)
        looks[name] = (look, other)
        draw_panels(_panels(look, other)).save(images / f"simulator_{name}.png", optimize=True)
        Image.fromarray(_thumbnail(real, made, PAIRS[name].voxel_size_um)).save(
            images / f"simulator_{name}_planes.png", optimize=True
        )
    table = _table(looks)
    print(table)
    if not chosen.only:
        write_sheets(images)
        write_between_markers(page, "realism", table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
