"""Small simulated measurements on which the judge is judged: specimens, microscopes and liars.

::

    specimen ──► blur (constant or by depth) + haze ──► camera ──► measured
        └──► truth, honest restorations, liars ──► 0, 1, 3 or 6 steps towards the data ──► judge
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity
from zenhance.physics.profile_volume import ProfiledVolume
from zenhance.types import FloatArray, FloatTriple

__all__ = ["KINDS", "JudgedScene", "make_scene", "random_scene"]

SHAPE_PX = (32, 64, 64)
RIM_PX = 8
"""Simulated around the field, so that light comes in from outside."""
VOXEL_UM = (0.5, 0.2, 0.2)
SIGMA_UM = (0.75, 0.26, 0.26)
OFFSET = 100.0


@dataclass(frozen=True)
class JudgedScene:
    """A measurement with all that is known about it.

    Parameters
    ----------
    title : str
        Specimen and microscope in words.
    measured : uint16 array (Z, Y, X)
        Grey values.
    truth : float32 array (Z, Y, X)
        The sharp specimen in photons, without haze.
    camera : PoissonGauss
        True gain, offset and read noise.
    profile : MicroscopeProfile
        True blur and haze by depth.
    """

    title: str
    measured: np.ndarray
    truth: FloatArray
    camera: PoissonGauss
    profile: MicroscopeProfile
    photons: float
    seed: int

    @property
    def volume(self) -> ProfiledVolume:
        """The measured volume with its surface in the first plane."""
        height = np.zeros(self.measured.shape[1:], np.float32)
        return ProfiledVolume(self.profile, height, self.measured.shape[0], VOXEL_UM)

    @property
    def constant(self) -> bool:
        """Whether the blur is the same at every depth."""
        return len(self.profile.sigma_z_um.depth_um) == 1

    def sigma_um(self) -> FloatTriple:
        """Return the PSF's standard deviations in the middle of the stack."""
        return self.profile.sigma_at_um(0.5 * self.volume.deepest_um)

    def haze(self) -> FloatArray:
        """Return the haze in grey values (Z, Y, X)."""
        return self.volume.haze([self.volume.whole], "cpu")[0].numpy()

    def blurred(self, x: FloatArray, z: float = 1.0, yx: float = 1.0) -> FloatArray:
        """Blur a specimen (Z, Y, X) with the PSF widened along z and in the plane."""
        return blur_by(self.profile.widened(z, yx), x)

    def expected(self, x: FloatArray) -> FloatArray:
        """Return the photons that a specimen would give, with haze."""
        return self.blurred(x) + self.haze() / np.float32(self.camera.gain)

    @property
    def known(self) -> PoissonGauss:
        """The camera as it is stated: rounding to grey values counts as read noise."""
        read = (self.camera.read_noise**2 + 1.0 / 12.0) ** 0.5
        return PoissonGauss(self.camera.gain, self.camera.offset, read)

    def measure(self, photons: FloatArray, seed: int) -> np.ndarray:
        """Take a picture of expected photons."""
        grey = self.camera.sample(np.maximum(photons, 0.0), seed)
        return np.clip(np.rint(grey), 0, 65535).astype(np.uint16)


def blur_by(profile: MicroscopeProfile, x: FloatArray) -> FloatArray:
    """Blur a specimen (Z, Y, X) whose surface is the first plane."""
    image = torch.from_numpy(np.ascontiguousarray(x, np.float32))
    if len(profile.sigma_z_um.depth_um) == 1:
        shape = (x.shape[0], x.shape[1], x.shape[2])
        return Blur.from_psf(profile.psf_at(0.0), VOXEL_UM, shape)(image).numpy()
    volume = ProfiledVolume(profile, np.zeros(x.shape[1:], np.float32), x.shape[0], VOXEL_UM)
    return volume.blur([volume.whole], "cpu")(image[None])[0].numpy()


def _walls(shape: tuple[int, int, int], rng: np.random.Generator, um: float) -> FloatArray:
    """Walls between cells of random size, about two voxels thick, of random brightness."""
    size = np.array(shape) * VOXEL_UM
    count = max(4, int(np.prod(size) / um**3))
    seeds = rng.uniform(-0.1, 1.1, (count, 3)) * size
    at = np.stack(np.meshgrid(*[np.arange(n) * v for n, v in zip(shape, VOXEL_UM, strict=True)],
                              indexing="ij"), -1).reshape(-1, 3)  # fmt: skip
    away, who = cKDTree(seeds).query(at, k=2)
    shine = rng.uniform(0.5, 1.5, count)
    wall = np.clip(1.5 - (away[:, 1] - away[:, 0]) / 0.25, 0.0, 1.0)
    return (wall * np.sqrt(shine[who[:, 0]] * shine[who[:, 1]])).reshape(shape).astype(np.float32)


def _spots(shape: tuple[int, int, int], rng: np.random.Generator, count: int) -> FloatArray:
    x = np.zeros(shape, np.float32)
    at = tuple(rng.integers(0, n, count) for n in shape)
    np.add.at(x, at, rng.uniform(0.3, 1.0, count).astype(np.float32))
    return ndimage.gaussian_filter(x, 0.5)


def _filaments(shape: tuple[int, int, int], rng: np.random.Generator, count: int) -> FloatArray:
    x = np.zeros(shape, np.float32)
    for _ in range(count):
        start, end = rng.uniform(0, 1, (2, 3)) * (np.array(shape) - 1)
        bend = rng.normal(0, 5, 3)
        t = np.linspace(0, 1, 300)[:, None]
        path = np.rint(start + t * (end - start) + bend * np.sin(np.pi * t)).astype(int)
        path = path[((path >= 0) & (path < shape)).all(axis=1)]
        x[tuple(path.T)] = 1.0
    return ndimage.gaussian_filter(x, 0.5)


def _nuclei(shape: tuple[int, int, int], rng: np.random.Generator) -> FloatArray:
    x = np.zeros(shape, np.float32)
    grid = (
        np.indices(shape).astype(np.float32) * np.array(VOXEL_UM, np.float32)[:, None, None, None]
    )
    for _ in range(14):
        centre = rng.uniform(0, 1, 3) * np.array(shape) * VOXEL_UM
        radius = rng.uniform(1.0, 2.0)
        away = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
        x = np.maximum(x, rng.uniform(0.4, 1.0) * (away < radius))
    grain = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
    return (x * np.clip(1 + 1.5 * grain, 0.1, 3)).astype(np.float32)


KINDS: dict[str, Callable[[tuple[int, int, int], np.random.Generator], FloatArray]] = {
    "walls": lambda shape, rng: _walls(shape, rng, 4.0),
    "dense walls": lambda shape, rng: _walls(shape, rng, 2.2),
    "spots": lambda shape, rng: _spots(shape, rng, 120),
    "sparse spots": lambda shape, rng: _spots(shape, rng, 25),
    "filaments": lambda shape, rng: _filaments(shape, rng, 14),
    "nuclei": _nuclei,
}


def make_scene(
    kind: str = "walls",
    photons: float = 60.0,
    seed: int = 0,
    *,
    gain: float = 1.0,
    read_photons: float = 0.0,
    background: float = 0.5,
    haze: float = 0.0,
    widening: float = 1.0,
    sigma_um: FloatTriple = SIGMA_UM,
) -> JudgedScene:
    """Simulate one measurement.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    photons : float
        99.9 % quantile of the blurred specimen.
    seed : int
        Of specimen and noise.
    gain, read_photons : float
        Grey values per photon; standard deviation of the read-out in photons.
    background : float
        Stray light in photons, the same everywhere.
    haze : float
        Light between the structures at the last plane, in photons; it rises from 0 at the surface.
    widening : float
        PSF's width at the last plane over that at the surface.
    sigma_um : tuple of float
        At the surface.
    """
    rng = np.random.default_rng([seed, 77])
    big = tuple(n + 2 * RIM_PX for n in SHAPE_PX)
    x = KINDS[kind]((big[0], big[1], big[2]), rng)
    deepest = (SHAPE_PX[0] - 1) * VOXEL_UM[0]
    profile = _profile(gain, read_photons, background, haze, widening, sigma_um, deepest)
    inner = tuple(slice(RIM_PX, RIM_PX + n) for n in SHAPE_PX)
    # The rim above the surface has the surface's blur: depth is clipped at 0.
    height = np.full(big[1:], RIM_PX * VOXEL_UM[0], np.float32)
    volume = ProfiledVolume(profile, height, big[0], VOXEL_UM)
    seen = volume.blur([volume.whole], "cpu")(torch.from_numpy(x)[None])[0].numpy()[inner]
    scale = np.float32(photons / np.percentile(seen, 99.9))
    camera = PoissonGauss(gain, OFFSET, read_photons * gain)
    title = f"{kind}, {photons:g} photons, gain {gain:g}, read noise {read_photons:g}"
    scene = JudgedScene(
        title, np.zeros(SHAPE_PX, np.uint16), x[inner] * scale, camera, profile, photons, seed
    )
    expected = seen * scale + np.float32(background) + scene.haze() / np.float32(gain)
    return replace(scene, measured=scene.measure(expected, seed + 1000))


def _profile(
    gain: float, read: float, background: float, haze: float, widening: float,
    sigma_um: FloatTriple, deepest: float,
) -> MicroscopeProfile:  # fmt: skip
    def curve(first: float, last: float) -> DepthCurve:
        if first == last:
            return DepthCurve.constant(Quantity.given(first))
        pair = (first, last)
        return DepthCurve(depth_um=(0.0, deepest), values=pair, low=pair, high=pair,
                          origins=("user", "user"))  # fmt: skip

    given = Quantity.given
    return MicroscopeProfile(
        voxel_size_um=VOXEL_UM,
        gain=given(gain),
        offset=given(OFFSET),
        read_noise=given(read * gain),
        background=given(OFFSET + gain * background),
        attenuation_um=given(1e6),
        bleached_per_plane=given(0.0),
        brightness=curve(1.0, 1.0),
        haze=curve(0.0, haze * gain),
        sigma_z_um=curve(sigma_um[0], sigma_um[0] * widening),
        sigma_yx_um=curve(sigma_um[1], sigma_um[1] * widening),
    )


def random_scene(seed: int) -> JudgedScene:
    """Draw specimen and microscope at random: photons, camera, depth and haze."""
    rng = np.random.default_rng([seed, 5])
    return make_scene(
        str(rng.choice(list(KINDS))),
        float(rng.choice([0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0])),
        seed,
        gain=float(rng.choice([1.0, 2.0, 4.0, 10.0])),
        read_photons=float(rng.choice([0.0, 0.3, 0.75, 1.5])),
        background=float(rng.choice([0.0, 0.05, 0.5, 3.0])),
        haze=float(rng.choice([0.0, 0.0, 1.0, 5.0])),
        widening=float(rng.choice([1.0, 1.0, 1.4, 1.8])),
    )
