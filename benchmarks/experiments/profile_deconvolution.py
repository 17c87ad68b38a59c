"""Gain of deconvolution from the profile measured on the stack.

Microscopes at random image walls and filaments 64 µm deep, as in the experiment ``profile``.
Richardson-Lucy runs with the default PSF, with the profile measured on the stack and with the true
one. The reference is the specimen as it is lit: sharp, its light lost with depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.console import Tell
from benchmarks.experiments.profile import DEPTH_UM, RENDER, SPECIMENS, SURFACE_UM, draw_microscope
from benchmarks.runner import QUICK, Experiment
from benchmarks.tables import TextTable
from zenhance.measurement.profile import measure_profile
from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.pipeline.request import NO_PROFILE
from zenhance.simulate.microscope import Microscope
from zenhance.simulate.specimen import Grid
from zenhance.types import FloatArray, FloatTriple

__all__ = ["EXPERIMENT", "ProfileGains", "decibels", "true_profile"]

SIDE_PX = 64
SEEDS = range(200, 206)
WAYS = ("default PSF", "measured profile", "true profile")
KNOTS = 7


@dataclass(frozen=True, slots=True)
class Gain:
    """Decibels that one stack gains, whole and in the deepest third, for each of :data:`WAYS`."""

    specimen: str
    seed: int
    whole: tuple[float, ...]
    deep: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ProfileGains:
    """Gains of all stacks."""

    gains: tuple[Gain, ...]

    def record(self) -> dict[str, Any]:
        """Return the gains as values that JSON can hold."""
        return {"ways": list(WAYS), "stacks": [asdict(gain) for gain in self.gains]}


def decibels(image: FloatArray, lit: FloatArray) -> float:
    """Return the signal-to-noise ratio of an image, its scale and offset fitted."""
    x, y = image.astype(np.float64).ravel(), lit.astype(np.float64).ravel()
    slope, offset = np.polyfit(x, y, 1)
    return 10.0 * float(np.log10(y.var() / max(((slope * x + offset - y) ** 2).mean(), 1e-30)))


def true_profile(scope: Microscope, voxel_um: FloatTriple) -> MicroscopeProfile:
    """Return the profile of a simulated microscope."""
    depths = tuple(float(d) for d in np.linspace(0.0, scope.deep_at_um, KNOTS))

    def curve(values: Sequence[float]) -> DepthCurve:
        known = tuple(float(v) for v in values)
        return DepthCurve(
            depth_um=depths, values=known, low=known, high=known, origins=("user",) * KNOTS
        )

    sigmas = [scope.sigma_at_um(d) for d in depths]
    background = scope.offset + scope.gain * scope.background_photons
    return MicroscopeProfile(
        name="truth",
        voxel_size_um=voxel_um,
        gain=Quantity.given(scope.gain),
        offset=Quantity.given(scope.offset),
        read_noise=Quantity.given(scope.read_noise),
        background=Quantity.given(background),
        attenuation_um=Quantity.given(scope.attenuation_um),
        bleached_per_plane=Quantity.given(0.0),
        brightness=curve([float(np.exp(-d / scope.attenuation_um)) for d in depths]),
        haze=curve([0.0] * KNOTS),
        sigma_z_um=curve([s[0] for s in sigmas]),
        sigma_yx_um=curve([s[1] for s in sigmas]),
    )


def gain_of(specimen: str, seed: int, side_px: int) -> Gain:
    """Return what Richardson-Lucy gains on one stack."""
    scope, voxel = draw_microscope(seed)
    grid = Grid((round(DEPTH_UM / voxel[0]), side_px, side_px), voxel)
    dye = RENDER[specimen](grid.grown(scope.margin_px(voxel)), seed)
    seen = scope.photograph(dye, grid, seed)
    measured = np.asarray(seen.measured.data)
    lit = np.asarray(seen.truth.data, np.float32)
    depth = np.asarray(seen.depth_um.data)
    deep = depth > (DEPTH_UM - SURFACE_UM) * 2.0 / 3.0
    profiles = (None, measure_profile(measured, voxel), true_profile(scope, voxel))
    whole, deepest = [], []
    for profile in profiles:
        request = EnhanceRequest(
            voxel_size_um=voxel,
            device="cpu",
            profile=NO_PROFILE if profile is None else profile.to_json(),
        )
        image = np.asarray(enhance(measured, request).stack.data)
        whole.append(decibels(image, lit) - decibels(measured, lit))
        deepest.append(decibels(image[deep], lit[deep]) - decibels(measured[deep], lit[deep]))
    return Gain(specimen, seed, tuple(whole), tuple(deepest))


def measure(seeds: Sequence[int], side_px: int, tell: Tell) -> ProfileGains:
    """Simulate, measure and deconvolve; one stack a seed and specimen."""
    gains = []
    for seed in seeds:
        for specimen in SPECIMENS:
            tell(f"microscope {seed}, {specimen}", len(gains) / (len(seeds) * len(SPECIMENS)))
            gains.append(gain_of(specimen, seed, side_px))
    return ProfileGains(tuple(gains))


def table(report: ProfileGains) -> TextTable:
    """Return the mean gains, and what the measured profile reaches of the true one's."""
    rows = []
    for part, title in (("whole", "whole stack"), ("deep", "deepest third")):
        for specimen in (*SPECIMENS, None):
            chosen = [g for g in report.gains if specimen in (None, g.specimen)]
            means = np.mean([getattr(g, part) for g in chosen], axis=0)
            better = sum(getattr(g, part)[1] > getattr(g, part)[0] for g in chosen)
            cells = [f"{m:+.2f} dB" for m in means]
            rows.append((title, specimen or "both", *cells, f"{better} of {len(chosen)}"))
    header = ("depth", "specimen", *WAYS, "stacks where measured beats default")
    note = f"Mean gain over the measurement, {len(report.gains)} stacks, against the lit specimen."
    return TextTable("Richardson-Lucy with a microscope profile", header, tuple(rows), (note,))


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure(
        SEEDS[:2] if options.quick else SEEDS, SIDE_PX // (2 if options.quick else 1), tell
    ),
    tables=lambda report: {"profile_deconvolution": table(report)},
    page="physics.md",
    options=(QUICK,),
)
