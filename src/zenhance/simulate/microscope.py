"""The microscope that images a specimen: attenuation, blur by depth, photon noise, camera.

::

    emission  a(z) = dye · photons · exp(-depth / attenuation length)      without blur and noise
    light     Σ_k B_k (w_k(depth) · a) + background     B_k: blur at depth k, Σ_k w_k = 1
    measured  round(gain · Poisson(light) + offset + N(0, read noise²))    clipped to the bits

Light is spread by the blur of the depth it comes from, which conserves photons. Bleaching from
plane to plane, stage drift and jitter, a pinhole that acts on light and blur, and hot pixels are
off by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from zenhance.simulate.defects import bleaching, displacements_um, heat, moved_planes, pinhole_share
from zenhance.simulate.specimen import Dye, Grid, Parameters, inside_margin, setting
from zenhance.stack import Stack, VoxelSize
from zenhance.types import FloatArray, FloatTriple

if TYPE_CHECKING:
    from zenhance.physics.psf import Psf

__all__ = ["Microscope", "Specimen"]

Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Specimen:
    """A simulated stack with everything that is known about it.

    Parameters
    ----------
    measured : Stack
        What the microscope gives, uint8 or uint16.
    truth : Stack
        float32, in the intensity units of ``measured``: ``gain · emission + offset``, without blur,
        noise and background light.
    blurred : Stack
        float32, in the same units: the measurement's expectation.
    labels : Stack
        uint16 cell numbers as the dye has them, 0 outside.
    depth_um : Stack
        float32, length of tissue above each voxel in µm.
    psf_shallow, psf_mean, psf_deep : Psf
        At the surface, averaged over the emitted light, and at ``deep_at_um``.
    microscope : Microscope
        The settings.
    facts : mapping
        Further facts, for example distances on a chart (:class:`~zenhance.simulate.specimen.Dye`),
        and the stage's ``displacement_um`` (y, x) in each plane. Truth, labels and depth are not
        displaced; the measurement is.
    """

    measured: Stack
    truth: Stack
    blurred: Stack
    labels: Stack
    depth_um: Stack
    psf_shallow: Psf
    psf_mean: Psf
    psf_deep: Psf
    microscope: Microscope
    facts: Mapping[str, Any] = field(default_factory=dict)


class Microscope(Parameters):
    """Settings of a confocal microscope with a water-dipping lens and scattering tissue."""

    sigma_shallow_um: tuple[Positive, Positive, Positive] = setting(
        (0.56, 0.16, 0.16), "PSF at the surface (z, y, x)", "µm, σ"
    )
    sigma_deep_um: tuple[Positive, Positive, Positive] = setting(
        (1.1, 0.36, 0.36), "PSF at deep_at_um (z, y, x)", "µm, σ"
    )
    deep_at_um: float = setting(20.0, "depth at which the PSF is the deep one", "µm", gt=0)
    depth_steps: int = setting(4, "number of blurs that are blended over depth", ge=2, le=16)
    psf: str | None = setting(
        None,
        "point spread function as --psf takes it, the same at every depth, "
        "in place of the Gaussian ones",
    )
    haze_deep: float = setting(
        0.25, "share of the light that is scattered widely at deep_at_um", ge=0, lt=1
    )
    haze_sigma_um: tuple[Positive, Positive, Positive] = setting(
        (2.5, 1.5, 1.5), "spread of the scattered light (z, y, x)", "µm, σ"
    )
    haze_passed: float = setting(
        1.0,
        "brightness of the scattered light at the detector, relative to what was scattered",
        ge=0,
    )
    attenuation_um: float = setting(10.0, "depth over which the signal falls to 37 %", "µm", gt=0)
    photons: float = setting(
        60.0, "photons from a voxel full of dye at the surface", "photons", gt=0
    )
    background_photons: float = setting(0.4, "stray light in every voxel", "photons", ge=0)
    gain: float = setting(20.0, "grey values per photon", gt=0)
    offset: float = setting(100.0, "grey value of darkness", ge=0)
    read_noise: float = setting(6.0, "standard deviation of the read-out", "grey values", ge=0)
    dtype: Literal["uint8", "uint16"] = setting("uint16", "pixel type")
    na: float = setting(0.9, "numerical aperture", gt=0)
    refractive_index: float = setting(1.33, "of the immersion medium", gt=0)
    excitation_nm: tuple[Positive, ...] = setting((561.0, 458.0), "one a channel", "nm")
    emission_nm: tuple[Positive, ...] = setting((615.0, 475.0), "one a channel", "nm")
    pinhole_au: float = setting(1.5, "pinhole", "Airy units", gt=0)
    pinhole_acts: bool = setting(
        False,
        "whether the pinhole, with NA, index and wavelengths, decides "
        "sigma_shallow_um and scales the other numbers: "
        "photons are then those of an open pinhole, "
        "haze_deep and background_photons those at 1 Airy unit",
    )
    modality: Literal["confocal", "widefield"] = setting(
        "confocal", "kind of microscope that the file names"
    )
    bits: Literal[8, 12, 16] | None = setting(
        None, "bits of the converter; left out, those of the pixel type"
    )
    bleached_per_plane: float = setting(
        0.0, "share of the dye that is lost while a plane is taken", ge=0, lt=1
    )
    jitter_um: float = setting(
        0.0, "random displacement of each plane along y and x", "µm, σ", ge=0, le=5
    )
    drift_um_per_plane: tuple[float, float] = setting(
        (0.0, 0.0), "steady drift of the stage (y, x)", "µm per plane"
    )
    hot_pixels: float = setting(
        0.0, "share of the camera's pixels that glow, in every plane", ge=0, le=0.1
    )
    hot_grey: float = setting(500.0, "mean glow of a hot pixel (exponential)", "grey values", gt=0)

    @model_validator(mode="after")
    def _fits_the_pixel_type(self) -> Self:
        if self.bits is not None and self.bits > np.iinfo(self.dtype).bits:
            raise ValueError(
                f"{self.bits} bits do not fit into {self.dtype}; take uint16, or 8 bits"
            )
        return self

    @property
    def brightest_grey(self) -> int:
        """Largest grey value that the converter gives."""
        return (1 << (self.bits or np.iinfo(self.dtype).bits)) - 1

    def settled(self) -> Microscope:
        """Return the microscope with the pinhole's effects worked into the other numbers.

        Notes
        -----
        The PSF is the Gaussian one of Zhang et al. 2007 (see
        :func:`~zenhance.physics.psf_models.confocal_sigma_um`), wider deep in the tissue by as much
        as ``sigma_deep_um`` exceeds ``sigma_shallow_um``. Of a point in focus the encircled share
        of the Airy pattern passes; of scattered light the part of its Gaussian spread inside the
        pinhole; of stray light a share proportional to the pinhole's area.
        """
        if not self.pinhole_acts:
            return self
        from zenhance.physics.psf_models import confocal_sigma_um

        sigma = confocal_sigma_um(
            self.na,
            self.refractive_index,
            self.excitation_nm[0],
            self.emission_nm[0],
            self.pinhole_au,
        )
        wider = [d / s for s, d in zip(self.sigma_shallow_um, self.sigma_deep_um, strict=True)]
        radius_um = 0.61e-3 * self.emission_nm[0] / self.na
        haze_at_one, haze_passed = (
            1 - np.exp(-((radius_um * au / self.haze_sigma_um[1]) ** 2) / 2)
            for au in (1.0, self.pinhole_au)
        )
        passed = pinhole_share(self.pinhole_au)
        return self.model_copy(
            update={
                "pinhole_acts": False,
                "sigma_shallow_um": sigma,
                "sigma_deep_um": tuple(s * w for s, w in zip(sigma, wider, strict=True)),
                "photons": self.photons * passed,
                "haze_passed": float(haze_passed / haze_at_one / passed * pinhole_share(1.0)),
                "background_photons": self.background_photons * self.pinhole_au**2,
            }
        )

    def sigma_at_um(self, depth_um: float) -> FloatTriple:
        """Return the PSF's sigma (z, y, x) at a depth; constant beyond ``deep_at_um``."""
        share = float(np.clip(depth_um / self.deep_at_um, 0, 1))
        z, y, x = (
            s + share * (d - s)
            for s, d in zip(self.sigma_shallow_um, self.sigma_deep_um, strict=True)
        )
        return (z, y, x)

    def psf_at(self, depth_um: float) -> Psf:
        """Return the PSF at a depth."""
        from zenhance.physics.psf import gaussian, parse_psf

        return gaussian(self.sigma_at_um(depth_um)) if self.psf is None else parse_psf(self.psf)

    def margin_px(self, voxel_size_um: FloatTriple) -> tuple[int, int, int]:
        """Return the margin (z, y, x) that light crosses: 3 sigma, or the radius of ``psf``."""
        if self.psf is not None:
            return self.psf_at(0.0).radius_px(voxel_size_um)
        z, y, x = (
            int(np.ceil(3 * s / v)) for s, v in zip(self.sigma_deep_um, voxel_size_um, strict=True)
        )
        return (z, y, x)

    def emission_photons(self, dye: Dye) -> FloatArray:
        """Return expected photons per voxel of a sharp microscope, (C, Z, Y, X)."""
        return np.asarray(
            dye.density * self.photons * np.exp(-dye.depth_um / self.attenuation_um), np.float32
        )

    def blur_photons(
        self, emission: FloatArray, depth_um: FloatArray, voxel_size_um: FloatTriple
    ) -> FloatArray:
        """Spread photons (C, Z, Y, X) by the blur of the depth they come from."""
        import torch

        from zenhance.physics.blur import Blur
        from zenhance.physics.psf import gaussian

        shape = (emission.shape[1], emission.shape[2], emission.shape[3])
        share = np.clip(depth_um / self.deep_at_um, 0, 1)
        light = torch.zeros(emission.shape)
        haze = emission * share * self.haze_deep
        for knot in range(self.depth_steps):
            weight = np.clip(1 - np.abs(share * (self.depth_steps - 1) - knot), 0, 1)
            if not weight.any():
                continue
            psf = self.psf_at(self.deep_at_um * knot / (self.depth_steps - 1))
            light += Blur.from_psf(psf, voxel_size_um, shape)(
                torch.from_numpy((emission - haze) * weight)
            )
        if self.haze_deep > 0 and haze.any():
            haze *= np.float32(self.haze_passed)
            light += Blur.from_psf(gaussian(self.haze_sigma_um), voxel_size_um, shape)(
                torch.from_numpy(haze)
            )
        return np.asarray(light.numpy(), np.float32)

    def digitise(self, light_photons: FloatArray, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Count photons and read them out as whole grey values of the pixel type."""
        from zenhance.physics.noise import PoissonGauss

        grey = PoissonGauss(self.gain, self.offset, self.read_noise).sample(light_photons, rng)
        grey = heat(grey, self.hot_pixels, self.hot_grey, rng)
        return np.asarray(np.clip(np.rint(grey), 0, self.brightest_grey), np.dtype(self.dtype))

    def mean_depth_um(self, emission: FloatArray, depth_um: FloatArray) -> float:
        """Return the mean depth of the emitted light."""
        return float(
            (emission[0] * depth_um).sum(dtype=np.float64)
            / max(float(emission[0].sum(dtype=np.float64)), 1e-12)
        )

    def photograph(self, dye: Dye, grid: Grid, seed: int, name: str = "specimen") -> Specimen:
        """Image a specimen rendered on ``grid`` grown by up to :meth:`margin_px`.

        Parameters
        ----------
        dye : Dye
            With its margin.
        grid : Grid
            The field, without margin.
        seed : int
            Of the noise; the same seed gives the same bytes on the same machine.
        name : str
            Of the stacks.

        Returns
        -------
        Specimen
            Every stack with axes ``ZYX``, or ``CZYX`` if the dye has several channels (labels and
            depth are always ``ZYX``).
        """
        if self.pinhole_acts:
            return self.settled().photograph(dye, grid, seed, name)
        z, y, x = ((wide - n) // 2 for wide, n in zip(dye.labels.shape, grid.shape_px, strict=True))
        inner = inside_margin((z, y, x), dye.labels.shape)
        emission = self.emission_photons(dye)
        light = self.blur_photons(emission, dye.depth_um, grid.voxel_size_um)
        light, stage_um = self._displaced(light, grid, z, seed)
        left = bleaching(grid.shape_px[0], self.bleached_per_plane)[:, None, None]
        light = light[:, *inner] * left + np.float32(self.background_photons)
        window, emission = dye.window(inner), emission[:, *inner] * left
        mean_um = self.mean_depth_um(emission, window.depth_um)
        measured = self.digitise(light, np.random.default_rng([seed, 2]))
        stack = _StackMaker(grid, window.channel_names, self.metadata(len(window.channel_names)))
        return Specimen(
            measured=stack.image(measured, name),
            truth=stack.image(
                emission * np.float32(self.gain) + np.float32(self.offset), f"{name}_truth"
            ),
            blurred=stack.image(
                light * np.float32(self.gain) + np.float32(self.offset), f"{name}_blurred"
            ),
            labels=stack.map(window.labels, f"{name}_labels"),
            depth_um=stack.map(window.depth_um, f"{name}_depth_um"),
            psf_shallow=self.psf_at(0.0),
            psf_mean=self.psf_at(mean_um),
            psf_deep=self.psf_at(self.deep_at_um),
            microscope=self,
            facts=dict(dye.facts) | ({"displacement_um": stage_um} if stage_um else {}),
        )

    def _displaced(
        self, light: FloatArray, grid: Grid, first_px: int, seed: int
    ) -> tuple[FloatArray, tuple[tuple[float, float], ...]]:
        """Move the field's planes as the stage does; return also where it stood in each."""
        planes, still = grid.shape_px[0], self.jitter_um == 0 and not any(self.drift_um_per_plane)
        if still:
            return light, ()
        stage_um = displacements_um(
            planes, self.jitter_um, self.drift_um_per_plane, np.random.default_rng([seed, 4])
        )
        inside = slice(first_px, first_px + planes)
        moved = light.copy()
        stage_px = np.asarray(np.asarray(stage_um) / np.asarray(grid.voxel_size_um[1:]), np.float32)
        moved[:, inside] = moved_planes(light[:, inside], stage_px)
        return moved, stage_um

    def metadata(self, channels: int) -> dict[str, Any]:
        """Return what a microscope's file would say, under the keys that readers fill."""
        return {
            "na": self.na,
            "refractive_index": self.refractive_index,
            "excitation_nm": list(self.excitation_nm[:channels]),
            "emission_nm": list(self.emission_nm[:channels]),
            "pinhole_au": self.pinhole_au,
            "modality": self.modality,
        }


@dataclass(frozen=True, slots=True)
class _StackMaker:
    grid: Grid
    channel_names: tuple[str, ...]
    metadata: dict[str, Any]

    def image(self, data: npt.NDArray[Any], name: str) -> Stack:
        size = VoxelSize.of(self.grid.voxel_size_um, "file")
        if len(self.channel_names) == 1:
            return Stack(data[0], "ZYX", size, self.channel_names, name, self.metadata)
        return Stack(data, "CZYX", size, self.channel_names, name, self.metadata)

    def map(self, data: npt.NDArray[Any], name: str) -> Stack:
        return Stack(data, "ZYX", VoxelSize.of(self.grid.voxel_size_um, "file"), (), name, {})
