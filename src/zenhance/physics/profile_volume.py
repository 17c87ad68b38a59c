"""A volume seen with a microscope profile: depth, blur, haze and light of each of its voxels.

The depth of a voxel follows from the height of the specimen's surface above it. Everything here
depends on that height and on the profile, never on the tile, so that tiles agree with the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from zenhance.physics.profile import MAX_ATTENUATION_UM, MicroscopeProfile
from zenhance.physics.profile_blur import blend_depths
from zenhance.physics.surface_blur import SurfaceBlur
from zenhance.types import FloatArray, FloatTriple, Region, Triple

__all__ = ["BlockBlur", "ProfiledVolume"]

BANDS = 3
"""Bands of depth that stop on their own."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockBlur:
    """Blur of several blocks of one shape (B, Z, Y, X), each at its own depth."""

    blurs: tuple[SurfaceBlur, ...]

    @property
    def radius_px(self) -> Triple:
        """How far one voxel's light reaches along z, y, x at most."""
        return self.blurs[0].radius_px

    def __call__(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Blur the blocks."""
        result = torch.empty_like(x) if out is None else out
        for blur, block, target in zip(self.blurs, x, result, strict=True):
            blur(block, out=target)
        return result

    def adjoint(self, y: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Apply the transposed operator."""
        result = torch.empty_like(y) if out is None else out
        for blur, block, target in zip(self.blurs, y, result, strict=True):
            blur.adjoint(block, out=target)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class ProfiledVolume:
    """One volume and the microscope that it was imaged with.

    Parameters
    ----------
    profile : MicroscopeProfile
        Of the channel.
    height_um : float32 array (Y, X)
        Distance of the specimen's surface from the centre of the first plane.
    planes : int
        Z of the volume.
    voxel_size_um : tuple of float
        (z, y, x).
    reach_um : tuple of float, optional
        Lowest and highest surface of the volume that this one was cut from.
    """

    profile: MicroscopeProfile
    height_um: FloatArray
    planes: int
    voxel_size_um: FloatTriple
    reach_um: tuple[float, float] | None = None

    @property
    def deepest_um(self) -> float:
        """Depth of the last plane in the middle of the surface's range."""
        last = (self.planes - 1) * self.voxel_size_um[0]
        return max(last - float(np.median(self.height_um)), self.voxel_size_um[0])

    @property
    def whole(self) -> Region:
        """The region of the whole volume."""
        height, width = self.height_um.shape
        return (slice(0, self.planes), slice(0, height), slice(0, width))

    def depth_um(self, region: Region) -> npt.NDArray[np.float64]:
        """Return the depth of each voxel of a region (Z, Y, X); 0 above the surface."""
        z = np.arange(region[0].start, region[0].stop) * self.voxel_size_um[0]
        below = z[:, None, None] - self.height_um[region[1], region[2]].astype(np.float64)
        return np.clip(below, 0.0, None)

    def blur(self, regions: Sequence[Region], device: str) -> BlockBlur:
        """Return the blur of regions of one shape."""
        reach = (float(self.height_um.min()), float(self.height_um.max()))
        if self.reach_um is not None:
            reach = self.reach_um
        return BlockBlur(
            tuple(
                SurfaceBlur.from_heights(
                    self.profile,
                    self.height_um[region[1], region[2]],
                    region[0].stop - region[0].start,
                    self.voxel_size_um,
                    device=device,
                    first=region[0].start,
                    reach_um=reach,
                )
                for region in regions
            )
        )

    def sigma_px(self, region: Region) -> FloatArray:
        """Return the blur's widths (2, Z, Y, X) along z, and along y and x, in voxels."""
        depth = self.depth_um(region)
        widths = (self.profile.sigma_z_um.at(depth), self.profile.sigma_yx_um.at(depth))
        return np.stack(
            [w / v for w, v in zip(widths, self.voxel_size_um[:2], strict=True)]
        ).astype(np.float32)

    def kernels(self) -> tuple[FloatArray, ...]:
        """Return the kernels at the depths between which the blur is blended."""
        return tuple(
            self.profile.psf_at(depth).kernel(self.voxel_size_um)
            for depth in blend_depths(self.profile)
        )

    def kernel_position(self, regions: Sequence[Region], device: str) -> torch.Tensor:
        """Return where each voxel is among :meth:`kernels`: 0 ... kernels - 1, float32."""
        knots = blend_depths(self.profile)
        return self._position(knots, regions, device)

    def bands(self, regions: Sequence[Region], device: str) -> torch.Tensor:
        """Return where each voxel is among the bands of depth: 0 ... BANDS - 1, float32."""
        centres = [(number + 0.5) / BANDS * self.deepest_um for number in range(BANDS)]
        return self._position(centres, regions, device)

    def _position(
        self, knots: Sequence[float], regions: Sequence[Region], device: str
    ) -> torch.Tensor:
        depth = np.stack([self.depth_um(region) for region in regions])
        share = np.interp(depth, knots, np.arange(len(knots))).astype(np.float32)
        return torch.from_numpy(share).to(device)

    def haze(self, regions: Sequence[Region], device: str) -> torch.Tensor:
        """Return the light between the structures above the background, grey values, float32."""
        depth = np.stack([self.depth_um(region) for region in regions])
        return torch.from_numpy(self.profile.haze.at(depth).astype(np.float32)).to(device)

    def light(self, region: Region) -> FloatArray:
        """Return the light that reaches each voxel and comes back, relative to the surface.

        The attenuation length serves where it is known, because the brightness by depth also
        follows the specimen's own density.
        """
        depth = self.depth_um(region)
        profile = self.profile
        if profile.attenuation_um.value < MAX_ATTENUATION_UM:
            light = np.exp(-depth / profile.attenuation_um.value)
        elif profile.attenuation_um.origin == "default":
            light = np.clip(profile.brightness.at(depth), 1e-6, None)
        else:
            light = np.ones_like(depth)
        kept = 1.0 - min(profile.bleached_per_plane.value, 0.5)
        planes = np.arange(region[0].start, region[0].stop, dtype=np.float64)
        return np.asarray(light * (kept**planes)[:, None, None], np.float32)

    def cropped(self, region: Region) -> ProfiledVolume:
        """Return a region as a separate volume."""
        planes = region[0].stop - region[0].start
        above = region[0].start * self.voxel_size_um[0]
        low, high = self.reach_um or (float(self.height_um.min()), float(self.height_um.max()))
        height = np.asarray(self.height_um[region[1], region[2]] - above, np.float32)
        return replace(self, height_um=height, planes=planes, reach_um=(low - above, high - above))
