"""Width of the point spread function by depth, from the power spectra of blocks.

::

    P(kz, kr) = a |k|^-p exp(-t² k² - σ_yx² kr² - σ_z² kz²) + noise

The model holds at each depth. On average the specimen looks alike along all axes, with a power
law between cell size and the thickness ``t`` of its finest structures. The noise is known from the
camera. Widths are linear in depth between a few knots; priors hold them where spectra cannot tell.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zenhance.measurement.light_by_depth import Surface
from zenhance.physics.noise_estimate import FILTERED, CameraFit
from zenhance.types import FloatTriple, Triple

__all__ = ["BlurFit", "BlurPrior", "blur_steps"]

Floats = npt.NDArray[np.float64]

BLOCK_UM = 6.0
AXIAL_UM = 9.0
GROUPS = 6
KNOTS = 3
MAX_BLOCKS = 48
MIN_K = 1.3
"""Spatial frequencies (rad/µm) across the axis below this one belong to cells, not to blur."""
MODEL_ERROR = 0.2
"""Scatter of log power that the model does not explain."""
EXPONENT = (1.7, 0.5)
"""Power law of the specimen, with its scatter: filaments have 1, sheets such as walls 2."""
WINDOW = 0.235
"""Standard deviation of a Hann window of length 1, as it cuts correlations short.

That of its shape is 0.181. Power laws suffer less; found on simulated stacks.
"""
RATIO_SCATTER = 0.2
"""Scatter of the logarithm of σ_z / σ_yx at each depth."""
MAX_SHRINKING = 0.1
"""Scatter of the logarithm by which a width may fall from knot to knot: blur grows with depth."""
THICKNESS_UM, THICKNESS_SCATTER = 0.05, 1.0
"""Typical standard deviation across the finest structures, and the scatter of its logarithm."""
ANISOTROPY = {"yx": 0.09, "z": 0.15}
"""Relative error of a width from specimens that differ along z, found on simulated stacks."""


@dataclass(frozen=True, slots=True)
class BlurPrior:
    """What is expected of the widths before the stack is seen (normal in their logarithms).

    Parameters
    ----------
    sigma_z_um, sigma_yx_um : float
        At the surface.
    relative : float
        Standard deviation of the logarithm of both.
    widening : float
        Growth of their logarithm per µm of depth.
    """

    sigma_z_um: float = 0.7
    sigma_yx_um: float = 0.2
    relative: float = 0.5
    widening: float = 0.008


@dataclass(frozen=True, slots=True)
class BlurFit:
    """Widths at the knots with 90 % intervals.

    Parameters
    ----------
    depth_um : array (K,)
    sigma_z_um, sigma_yx_um : array (K, 3)
        Value, low, high.
    measured_z, measured_yx : array (K,) of bool
        Whether the spectra tell more than the prior.
    """

    depth_um: Floats
    sigma_z_um: Floats
    sigma_yx_um: Floats
    measured_z: npt.NDArray[np.bool_]
    measured_yx: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Spectra:
    depth_um: Floats
    kz: Floats
    kr: Floats
    power: Floats
    """(groups, kz, kr)."""
    noise: Floats
    """(groups,)."""
    modes: Floats
    """Independent modes, (kz, kr)."""
    window_um: tuple[float, float]
    """Standard deviations of the window along z and across."""


def blur_steps(
    volume: npt.NDArray[np.float32],
    voxel_um: FloatTriple,
    surface: Surface,
    camera: CameraFit,
    attenuation_um: float,
    prior: BlurPrior,
) -> Generator[float, None, BlurFit]:
    """Fit the widths by depth; ``attenuation_um`` evens out the light within a block.

    The fraction done is yielded. An image whose noise is unknown or filtered keeps the prior: its
    spectra have another floor.
    """
    deepest = float(
        np.clip((volume.shape[0] - 1) * voxel_um[0] - np.median(surface.height_um), 1e-3, None)
    )
    knots = np.linspace(0.0, deepest, KNOTS)
    spectra = None
    if camera.determined and not camera.whiteness < FILTERED:
        spectra = yield from _spectra(volume, voxel_um, surface, camera, attenuation_um, deepest)
    return _fit(spectra, voxel_um, knots, prior)


@dataclass(frozen=True)
class _Blocks:
    """Where blocks of one size are cut, and how their frequencies are gathered in rings."""

    shape_px: Triple
    corners: list[tuple[int, int]]
    kz: Floats
    kr: Floats
    rings: npt.NDArray[np.int64]

    @classmethod
    def fitting(cls, shape_px: Triple, voxel_um: FloatTriple, deepest_um: float) -> _Blocks | None:
        """Return the blocks for a volume (Z, Y, X), or None where none fits."""
        planes, height, width = shape_px
        side = int(min(height, width, max(24, 2 * round(BLOCK_UM / voxel_um[1] / 2))))
        reach = min(AXIAL_UM, 0.5 * deepest_um)
        axial = int(min(planes, max(6, 2 * round(reach / voxel_um[0] / 2))))
        if side < 12 or axial < 5:
            return None
        kz = 2.0 * np.pi * np.fft.fftfreq(axial, voxel_um[0])
        ky = 2.0 * np.pi * np.fft.fftfreq(side, voxel_um[1])
        kx = 2.0 * np.pi * np.fft.fftfreq(side, voxel_um[2])
        step = 2.0 * np.pi / (side * max(voxel_um[1:]))
        ring = np.rint(np.hypot(ky[:, None], kx[None, :]) / step).astype(int)
        half = axial // 2 + 1
        kr = np.asarray(np.arange(side // 2) * step, np.float64)
        corners = _corners(height, width, side)
        return cls((axial, side, side), corners, np.abs(kz[:half]), kr, ring)

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """The frequencies (Y, X) inside a ring."""
        return self.rings < self.kr.size

    @property
    def place(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row and ring of each frequency inside: ±kz share a row."""
        axial = self.shape_px[0]
        fold = np.minimum(np.arange(axial), axial - np.arange(axial))
        return fold[:, None], self.rings[self.inside][None, :]

    @property
    def taper(self) -> Floats:
        """The Hann window (Z, Y, X)."""
        z, y, x = (np.hanning(n + 2)[1:-1] for n in self.shape_px)
        return np.asarray(z[:, None, None] * y[None, :, None] * x[None, None, :])


def _spectra(
    volume: npt.NDArray[np.float32],
    voxel_um: FloatTriple,
    surface: Surface,
    camera: CameraFit,
    attenuation_um: float,
    deepest: float,
) -> Generator[float, None, _Spectra | None]:
    """Return mean periodograms of blocks at like depth, or None where no block fits."""
    planes, height, width = volume.shape
    blocks = _Blocks.fitting((planes, height, width), voxel_um, deepest)
    if blocks is None:
        return None
    axial, side, _ = blocks.shape_px
    taper, place, inside, corners = blocks.taper, blocks.place, blocks.inside, blocks.corners
    modes = np.zeros((blocks.kz.size, blocks.kr.size))
    np.add.at(modes, place, 1.0)
    tilt = np.exp(np.clip((np.arange(axial) - axial / 2) * voxel_um[0] / attenuation_um, -2, 2))
    powers, noises, depths = [], [], []
    half = 0.5 * min(axial * voxel_um[0], deepest)
    for number, centre in enumerate(np.linspace(half, deepest - half, GROUPS)):
        yield number / GROUPS
        total, noise, depth = np.zeros_like(modes), 0.0, 0.0
        for y, x in corners:
            under = surface.height_at(y + side // 2, x + side // 2)
            first = round((under + centre) / voxel_um[0] - axial / 2)
            first = int(np.clip(first, 0, planes - axial))
            block = volume[first : first + axial, y : y + side, x : x + side]
            power, floor, weight = _periodogram(block, taper, tilt, camera)
            np.add.at(total, place, power[:, inside])
            noise += floor
            below = (first + np.arange(axial)) * voxel_um[0] - under
            depth += float((weight * np.maximum(below, 0.0)).sum() / weight.sum())
        powers.append(total / np.maximum(modes * len(corners), 1.0))
        noises.append(noise / len(corners))
        depths.append(max(depth / len(corners), 0.0))
    return _Spectra(
        depth_um=np.array(depths),
        kz=blocks.kz,
        kr=blocks.kr,
        power=np.array(powers),
        noise=np.array(noises),
        # Neighbouring frequencies and overlapping blocks are correlated.
        modes=0.25 * len(corners) * modes,
        window_um=(WINDOW * axial * voxel_um[0], WINDOW * side * voxel_um[1]),
    )


def _periodogram(
    block: npt.NDArray[np.float32], taper: Floats, tilt: Floats, camera: CameraFit
) -> tuple[Floats, float, Floats]:
    """Return the power spectrum of a block's light, the noise in it, and the weight of each plane.

    ``tilt`` evens out the loss of light along z. The power comes mostly from bright planes.
    """
    grey = block.astype(np.float64)
    scale = taper * tilt[:, None, None]
    variance = np.maximum(camera.slope * grey + camera.intercept, 1e-12)
    light = (grey - camera.background.value) * scale
    level = (light * taper).sum() / (taper**2).sum()
    power = np.abs(np.fft.fftn(light - level * taper)) ** 2
    weight = np.maximum(light.mean(axis=(1, 2)), 0.0) ** 2 + 1e-12
    return np.asarray(power), float((variance * scale**2).sum()), np.asarray(weight)


def _corners(height: int, width: int, side: int) -> list[tuple[int, int]]:
    """Return the corners of at most 48 blocks that cover the field evenly."""
    across = [max(1, min(n // (side // 2) - 1, 7)) for n in (height, width)]
    rows, columns = (
        np.unique(np.linspace(0, n - side, c).round().astype(int))
        for n, c in zip((height, width), across, strict=True)
    )
    corners = [(int(y), int(x)) for y in rows for x in columns]
    step = max(1, -(-len(corners) // MAX_BLOCKS))
    return corners[::step]


def _fit(
    spectra: _Spectra | None, voxel_um: FloatTriple, knots: Floats, prior: BlurPrior
) -> BlurFit:
    """Maximise the posterior; the intervals are those of its curvature."""
    count = len(knots)
    share = knots / max(knots[-1], 1e-9)
    mean = np.concatenate(
        [
            np.log(prior.sigma_yx_um) + prior.widening * knots,
            np.log(prior.sigma_z_um) + prior.widening * knots,
            [EXPONENT[0], np.log(THICKNESS_UM)],
        ]
    )
    rows = _prior_rows(count, share, prior)
    groups = 0 if spectra is None else len(spectra.depth_um)
    data = None if spectra is None else _Data.of(spectra, voxel_um)

    def misfit(p: Floats) -> Floats:
        held = rows @ (p[: mean.size] - mean)
        steps = np.diff(p[: 2 * count].reshape(2, count), axis=1).ravel()
        held = np.concatenate([held, np.minimum(steps, 0.0) / MAX_SHRINKING])
        if data is None:
            return held
        return np.concatenate([held, data.misfit(p, knots)])

    start = np.concatenate([mean, data.level(mean, knots) if data else np.zeros(0)])
    # Imported here, because a dock must open fast.
    from scipy import optimize

    found = optimize.least_squares(misfit, start, loss="linear", x_scale="jac", max_nfev=60)
    covariance = np.linalg.pinv(found.jac.T @ found.jac)
    freedom = max(1, found.fun.size - found.x.size)
    covariance *= max(1.0, float((found.fun**2).sum()) / freedom)
    prior_spread = np.sqrt(np.diag(np.linalg.pinv(rows.T @ rows)))
    spread = np.sqrt(np.diag(covariance))
    values = found.x[: 2 * count]
    error = np.hypot(spread[: 2 * count], np.repeat([ANISOTROPY["yx"], ANISOTROPY["z"]], count))
    table = np.exp(np.stack([values, values - 1.645 * error, values + 1.645 * error], axis=1))
    told = (spread[: 2 * count] < 0.6 * prior_spread[: 2 * count]) & (groups > 0)
    return BlurFit(knots, table[count:], table[:count], told[count:], told[:count])


def _prior_rows(count: int, share: Floats, prior: BlurPrior) -> Floats:
    """Return the prior as rows of whitened linear constraints on the parameters."""
    size = 2 * count + 2
    rows = []

    def add(weights: dict[int, float], spread: float) -> None:
        row = np.zeros(size)
        for index, weight in weights.items():
            row[index] = weight / spread
        rows.append(row)

    z = count
    add({0: 1.0}, prior.relative)
    add({z: 1.0, 0: -1.0}, min(prior.relative, 0.3))
    for first in (0, z):
        for k in range(1, count):
            # A step of the widths, wide enough for three-fold blur at the deep end.
            add({first + k: 1.0, first + k - 1: -1.0}, 0.5 * float(share[1]) + 0.05)
        for k in range(1, count - 1):
            add({first + k: 2.0, first + k - 1: -1.0, first + k + 1: -1.0}, 0.3)
    for k in range(count):
        add({z + k: 1.0, k: -1.0}, RATIO_SCATTER)
    add({2 * count: 1.0}, EXPONENT[1])
    add({2 * count + 1: 1.0}, THICKNESS_SCATTER)
    return np.array(rows)


@dataclass(frozen=True, slots=True)
class _Data:
    """Spectra as vectors of the bins that are fitted."""

    depth: Floats
    group: npt.NDArray[np.int64]
    kz2: Floats
    kr2: Floats
    observed: Floats
    noise: Floats
    error: Floats
    window_um: tuple[float, float]

    @classmethod
    def of(cls, spectra: _Spectra, voxel_um: FloatTriple) -> _Data:
        """Choose the bins that belong to structure and to the sampled band."""
        kz, kr = np.meshgrid(spectra.kz, spectra.kr, indexing="ij")
        usable = (kr >= MIN_K) & (kr <= 0.9 * np.pi / voxel_um[1]) & (kr >= 2.5 * spectra.kr[1])
        usable &= spectra.modes > 0.0
        groups = len(spectra.depth_um)
        group = np.repeat(np.arange(groups), int(usable.sum()))
        noise = np.repeat(spectra.noise, int(usable.sum()))
        modes = np.tile(spectra.modes[usable], groups)
        return cls(
            spectra.depth_um,
            group,
            np.tile(kz[usable] ** 2, groups),
            np.tile(kr[usable] ** 2, groups),
            np.log(np.concatenate([p[usable] for p in spectra.power])),
            noise,
            np.hypot(1.0 / np.sqrt(modes), MODEL_ERROR),
            spectra.window_um,
        )

    def _shape(self, p: Floats, knots: Floats) -> Floats:
        count = len(knots)
        yx = np.exp(np.interp(self.depth, knots, p[:count]))[self.group]
        z = np.exp(np.interp(self.depth, knots, p[count : 2 * count]))[self.group]
        power, thick = p[2 * count], np.exp(p[2 * count + 1])
        k2 = self.kz2 + self.kr2
        # The window cuts correlations short, so that a spectrum looks wider than it is.
        narrow_z, narrow_yx = (
            1.0 / (1.0 / w**2 + 1.0 / s**2) for w, s in zip((z, yx), self.window_um, strict=True)
        )
        exponent = -narrow_yx * self.kr2 - narrow_z * self.kz2 - thick**2 * k2
        return np.asarray(k2 ** (-power / 2.0) * np.exp(exponent))

    def level(self, p: Floats, knots: Floats) -> Floats:
        """Return the log amplitude of each group that fits its total power."""
        shape = self._shape(p, knots)
        levels = []
        for g in range(len(self.depth)):
            mine = self.group == g
            above = np.maximum(np.exp(self.observed[mine]) - self.noise[mine], 0.0).sum()
            levels.append(np.log(max(above, 1e-3 * self.noise[mine].sum(), 1e-300)))
            levels[-1] -= np.log(max(float(shape[mine].sum()), 1e-300))
        return np.array(levels)

    def misfit(self, p: Floats, knots: Floats) -> Floats:
        """Return whitened residuals of the log power."""
        level = np.exp(np.clip(p[2 * len(knots) + 2 :], -600, 600))[self.group]
        model = level * self._shape(p, knots) + self.noise
        off = (self.observed - np.log(model)) / self.error
        # Outliers count less (pseudo-Huber), smoothly, so that the curvature stays meaningful.
        return np.asarray(off / np.sqrt(1.0 + np.abs(off) / 4.0))
