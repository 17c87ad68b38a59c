"""Stacks of all kinds, to the full depth: grid, optics, light, camera and specimen from one number.

::

    (seed, number) ──► grammar · PSF family · voxel size · depth · photons · camera ──► Drawing
                                                                          │
                                                     simulate(**drawing)  ▼  measurement, truth

A stack is a crop of a few thousand planes' pixels that keeps its depth: tissue of up to
``DEEPEST_UM`` lies above it. One grammar and one PSF family are held back from training
(:data:`HELD_BACK`), so that a network can be asked what it does with what it never saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zenhance.errors import StackError
from zenhance.simulate.microscope import Microscope
from zenhance.types import FloatTriple, Triple

__all__ = ["FAMILIES", "GRAMMARS", "HELD_BACK", "PIXELS_UM", "PLANES_UM", "Drawing", "draw_stack"]

PLANES_UM = (0.2, 1.5)
"""Least and largest distance of the planes of a drawn stack."""
PIXELS_UM = (0.06, 0.5)
"""Least and largest pixel of a drawn stack."""

GRAMMARS = ("meristem", "foam", "filaments", "dots", "nuclei", "texture", "plane", "shells")
"""Those of ``meristem``, ``foam`` and ``clutter``; ``plane`` is one plane of ``structures``."""
FAMILIES = ("gaussian", "airy", "gibson_lanni")
HELD_BACK = ("shells", "gibson_lanni")
"""The grammar and the PSF family that no shipped network was trained on."""
GRAMMAR_SHARES = {"meristem": 7.0, "foam": 4.0}
FAMILY_SHARES = {"gaussian": 5.0}
DEEPEST_UM = 60.0
MAX_GREY = 30_000.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """A stack to simulate: the arguments of :func:`zenhance.simulate.samples.simulate`."""

    grammar: str
    family: str
    specimen: str
    seed: int
    shape_px: Triple
    voxel_size_um: FloatTriple
    settings: dict[str, Any]
    microscope: Microscope

    @property
    def arguments(self) -> dict[str, Any]:
        """For ``simulate``."""
        return {
            "specimen": self.specimen,
            "seed": self.seed,
            "shape_px": self.shape_px,
            "voxel_size_um": self.voxel_size_um,
            "settings": self.settings,
            "microscope": self.microscope,
        }


def draw_stack(
    seed: int,
    number: int,
    *,
    grammar: str | None = None,
    family: str | None = None,
    voxel_size_um: FloatTriple | None = None,
    shape_px: Triple | None = None,
) -> Drawing:
    """Draw a stack.

    Parameters
    ----------
    seed, number : int
        The same pair gives the same stack.
    grammar, family : str, optional
        One of :data:`GRAMMARS` and of :data:`FAMILIES`; left out, any that is not held back.
    voxel_size_um : tuple of float, optional
        (z, y, x); left out, within :data:`PLANES_UM` and :data:`PIXELS_UM`.
    shape_px : tuple of int, optional
        (Z, Y, X); left out, 24 to 44 planes of 72 × 72 pixels.

    Raises
    ------
    StackError
        There is no such grammar or family.
    """
    rng = np.random.default_rng([seed, number, 7])
    chosen = _choice(rng, "grammar", GRAMMARS, GRAMMAR_SHARES, grammar)
    optics = _choice(rng, "PSF family", FAMILIES, FAMILY_SHARES, family)
    voxel, sigma = _grid(rng, voxel_size_um)
    planes = int(rng.integers(24, 45))
    shape = shape_px or ((1, 96, 96) if chosen == "plane" else (planes, 72, 72))
    scope = _microscope(rng, optics, sigma)
    extent = shape[0] * voxel[0]
    above = rng.uniform(0, max(DEEPEST_UM - extent, 0)) if rng.random() < 0.5 else 0.0
    surface = -above if above else rng.uniform(0, min(3.0, 0.3 * extent))
    settings = _settings(rng, chosen, surface, voxel)
    specimen = {"meristem": chosen, "foam": chosen, "plane": "structures"}.get(chosen, "clutter")
    key = (seed * 1_000_003 + number) % 2**62
    return Drawing(chosen, optics, specimen, key, shape, voxel, settings, scope)


def _choice(
    rng: np.random.Generator,
    what: str,
    names: tuple[str, ...],
    shares: dict[str, float],
    wanted: str | None,
) -> str:
    if wanted is not None and wanted not in names:
        raise StackError(f'there is no {what} "{wanted}"; choose one of {", ".join(names)}')
    allowed = [name for name in names if name not in HELD_BACK]
    weight = np.array([shares.get(name, 1.0) for name in allowed])
    drawn = str(rng.choice(allowed, p=weight / weight.sum()))
    return wanted or drawn


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _grid(
    rng: np.random.Generator, given: FloatTriple | None
) -> tuple[FloatTriple, tuple[float, float]]:
    """Return a voxel size, and widths of a PSF (z, yx) in µm that it samples, if coarsely."""
    if given is None:
        pixel = float(np.clip(0.19 * np.exp(rng.normal(0, 0.35)), *PIXELS_UM))
        sigma_yx = 0.16 * np.exp(rng.normal(0, 0.25))
        sigma_yx = float(np.clip(sigma_yx, max(0.08, 0.5 * pixel), min(0.4, 3.0 * pixel)))
        sigma_z = sigma_yx * rng.uniform(2.5, 5.0)
        plane = float(np.clip(_log(rng, *PLANES_UM), 0.2 * sigma_z, 2.5 * sigma_z))
        given = (float(np.clip(plane, *PLANES_UM)), pixel, pixel)
    else:
        sigma_yx = rng.uniform(0.11, 0.2)
        sigma_z = sigma_yx * rng.uniform(2.5, 5.0)
    return given, (float(sigma_z), float(sigma_yx))


def _microscope(rng: np.random.Generator, family: str, sigma: tuple[float, float]) -> Microscope:
    growth = rng.uniform(1.0, 2.4)
    shallow = (sigma[0], sigma[1], sigma[1])
    photons = float(np.clip(60 * np.exp(rng.normal(0, 1.2)), 3.0, 1000.0))
    gain = _log(rng, 0.3, max(0.31, min(60.0, MAX_GREY / photons)))
    return Microscope(
        sigma_shallow_um=shallow,
        sigma_deep_um=(shallow[0] * growth, shallow[1] * growth, shallow[1] * growth),
        deep_at_um=rng.uniform(20.0, 50.0),
        psf=_diffraction(rng, family, sigma[1]),
        haze_deep=rng.uniform(0.0, 0.5),
        attenuation_um=_log(rng, 8.0, 60.0),
        photons=photons,
        background_photons=_log(rng, 0.05, 4.0),
        gain=gain,
        offset=rng.uniform(0.0, 150.0),
        read_noise=gain * _log(rng, 0.05, 3.0),
    )


def _diffraction(rng: np.random.Generator, family: str, sigma_yx_um: float) -> str | None:
    """Return the PSF of a wide-field lens of about that width, or None for Gaussian ones."""
    depth = rng.uniform(2.0, 25.0)
    if family == "gaussian":
        return None
    # A Gaussian through the Airy disc's middle has a standard deviation of 0.21 wavelengths / NA.
    na = float(np.clip(0.21 * 0.52 / sigma_yx_um, 0.5, 1.2))
    extra = f",n_sample=1.38,depth_um={depth:.3g}" if family == "gibson_lanni" else ""
    return f"{family}:na={na:.3g},n=1.33,em_nm=520{extra}"


def _settings(
    rng: np.random.Generator, grammar: str, surface_um: float, voxel: FloatTriple
) -> dict[str, Any]:
    # Cells no larger than the field, structures no finer than half a pixel.
    field, pixel = 72 * voxel[1], voxel[1]
    cell = float(np.clip(_log(rng, 3.0, 10.0), 2.5, max(2.6, 0.8 * field)))
    wall = max(rng.uniform(0.15, 0.5), 0.6 * pixel)
    spread, cytoplasm = rng.uniform(0.2, 0.8), rng.uniform(0.01, 0.2)
    doubled, spaces = rng.random() < 0.3, rng.random() < 0.35
    if grammar == "meristem":
        return {
            "cell_um": float(np.clip(cell, 3.0, 9.0)),
            "layer_um": float(np.clip(cell, 3.0, 9.0)) * rng.uniform(0.8, 1.1),
            "wall_um": min(wall, 1.0),
            "radius_um": rng.uniform(18.0, 90.0),
            "apex_um": max(surface_um, 0.0),
            "wall_spread": spread,
            "cytoplasm": cytoplasm,
            "fold_um": rng.uniform(0.0, 0.8),
            "flower": bool(doubled),
        }
    if grammar == "foam":
        return {
            "cell_um": cell,
            "size_spread": rng.uniform(0.0, 0.8),
            "wall_um": wall,
            "wall_spread": spread,
            "gap_um": wall * rng.uniform(1.0, 3.0) if doubled else 0.0,
            "space_um": cell * rng.uniform(0.05, 0.15) if spaces else 0.0,
            "bend_um": 0.15 * cell * rng.random(),
            "cytoplasm": cytoplasm,
            "surface_um": surface_um,
        }
    return _structures(rng, grammar, cell, (wall, spread, cytoplasm), surface_um)


def _structures(
    rng: np.random.Generator,
    grammar: str,
    cell: float,
    drawn: tuple[float, float, float],
    surface_um: float,
) -> dict[str, Any]:
    """Return the settings of what is not made of cells, from a scale, a width and two shares."""
    wall, spread, cytoplasm = drawn
    if grammar == "plane":
        return {
            "width_um": min(wall, 1.0) * 0.5,
            "scale_um": cell,
            "density": _log(rng, 0.5, 2.0),
            "brightness_spread": spread,
            "texture": float(rng.random()),
            "haze": cytoplasm,
        }
    scale = {"filaments": 0.6, "dots": 0.5, "texture": 0.5}.get(grammar, 1.0) * cell
    return {
        "kind": grammar,
        "scale_um": float(np.clip(scale, 0.5, 40.0)),
        "line_um": wall,
        "density": _log(rng, 0.4, 2.5),
        "brightness_spread": spread,
        "haze": cytoplasm * 0.5,
        "surface_um": surface_um,
    }
