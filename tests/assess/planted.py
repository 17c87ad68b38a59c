"""A phantom with known photons, honest restorations of it and five planted liars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from zenhance.physics.blur import Blur
from zenhance.physics.psf import gaussian

VOXEL_UM = (1.0, 1.0, 1.0)
SIGMA_PX = (2.0, 1.3, 1.3)
BACKGROUND = 2.0
PSF = gaussian(SIGMA_PX, "user")


@dataclass(frozen=True)
class Ideal:
    """A camera that counts photons."""

    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0


def blurred(x):
    return Blur.from_psf(PSF, VOXEL_UM, x.shape)(
        torch.from_numpy(np.ascontiguousarray(x, np.float32))
    ).numpy()


def specimen(shape, rng):
    """Spots, curved filaments and a thin shell; returns the volume and the places of the spots."""
    x = np.zeros(shape, np.float32)
    spots = np.stack([rng.integers(7, n - 7, 24) for n in shape], 1)
    for z, r, c in spots:
        x[z, r, c] += rng.uniform(20, 60)
    for _ in range(8):
        start, end = (np.array([rng.uniform(6, n - 6) for n in shape]) for _ in range(2))
        bend = rng.normal(0, 6, 3)
        for t in np.linspace(0, 1, 400):
            p = start + t * (end - start) + bend * np.sin(np.pi * t)
            if all(1 <= v < n - 1 for v, n in zip(p, shape, strict=True)):
                x[tuple(np.rint(p).astype(int))] += 0.8
    grid = np.indices(shape).astype(np.float32)
    centre = np.array([n / 2 for n in shape])
    radius = np.sqrt(
        sum(((g - c) / (0.38 * n)) ** 2 for g, c, n in zip(grid, centre, shape, strict=True))
    )
    x[np.abs(radius - 1) < 0.03] += 2.0
    return ndimage.gaussian_filter(x, 0.6), spots


def phantom(peak, shape, seed):
    """Return counts, the specimen in photons, and the spots, whose blurred peak is ``peak``."""
    rng = np.random.default_rng(seed)
    x, spots = specimen(shape, rng)
    x *= peak / blurred(x).max()
    y = rng.poisson(blurred(x) + BACKGROUND).astype(np.uint16)
    return y, x, spots


def richardson_lucy(y, iterations):
    blur = Blur.from_psf(PSF, VOXEL_UM, y.shape)
    data = torch.from_numpy(y.astype(np.float32))
    x = torch.full_like(data, float(data.mean()))
    kept = {}
    for k in range(1, max(iterations) + 1):
        x = x * blur.adjoint(data / (blur(x) + BACKGROUND))
        if k in iterations:
            kept[k] = x.numpy().copy()
    return kept


def _point(amplitude):
    """Sharp flux whose blurred peak has this amplitude."""
    probe = np.zeros((25, 25, 25), np.float32)
    probe[12, 12, 12] = 1.0
    return amplitude / blurred(probe).max()


def bead_adder(x, peak, rng, contrast=0.1):
    """False beads, 20 per half a million voxels, of a share of the blurred peak."""
    out = x.copy()
    count = max(4, round(20 * x.size / 524288))
    for _ in range(count):
        out[
            tuple(
                rng.integers(int(3 * s) + 2, n - int(3 * s) - 2)
                for s, n in zip(SIGMA_PX, x.shape, strict=True)
            )
        ] += _point(contrast * peak)
    return out


def eraser(x, spots):
    """Eight real spots replaced by what is around them."""
    out = x.copy()
    for z, r, c in spots[:8]:
        box = (
            slice(max(z - 4, 0), z + 5),
            slice(max(r - 4, 0), r + 5),
            slice(max(c - 4, 0), c + 5),
        )
        out[box] = np.minimum(out[box], np.median(out[box]))
    return out


def filament_prior(x):
    """A restoration that believes in lines: whatever resembles one along y or x is made one."""
    smooth = ndimage.gaussian_filter(x, 1.0)
    lines = np.maximum(
        ndimage.uniform_filter1d(smooth, 11, axis=1), ndimage.uniform_filter1d(smooth, 11, axis=2)
    )
    sharp = np.maximum(lines - ndimage.gaussian_filter(x, 3.0), 0)
    return (sharp * x.sum() / sharp.sum()).astype(np.float32)


def gamma(x, power=0.6):
    top = np.percentile(x, 99.9)
    return (top * (np.maximum(x, 0) / top) ** power).astype(np.float32)


def shift(x):
    return np.roll(x, 1, axis=2)


def liars(x, peak, spots, rng):
    return {
        "bead adder 10 %": bead_adder(x, peak, rng),
        "eraser": eraser(x, spots),
        "filament prior": filament_prior(x),
        "gamma 0.6": gamma(x),
        "1-voxel shift": shift(x),
    }
