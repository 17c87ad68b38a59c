"""Blur that changes with the depth below a curved surface, at the cost of two constant blurs.

::

    A  = L Z                light spreads along z first, then across
    Z  = Z1 (1 - w) + Z2 w  each plane has its own blurs: the narrowest and the widest one of the
    L  = L1 (1 - v) + L2 v  depths that it cuts, shared so that the variance is that of the depth
    A* = ((1 - w) Z1* + w Z2*) ((1 - v) L1* + v L2*)       the exact adjoint

Under a flat surface one blur a plane is enough. Shares add up to 1, so that every photon is kept.
The width across is that of the depth where the light arrives, which differs from that of its
origin by the growth of the width over one axial width. Widths are rounded to steps of
:data:`STEP`, the same ones in all tiles. Where one plane cuts depths whose widths differ by more
than a factor of 1.5, the blend of its two blurs has a higher peak than a Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zenhance.errors import StackError
from zenhance.physics.blur import Blur, MatrixBlock, VaryingBlur, cut_into_blocks
from zenhance.physics.boundary import mirror_matrix
from zenhance.physics.profile import DepthCurve, MicroscopeProfile
from zenhance.physics.psf_base import gaussian_kernel_1d
from zenhance.types import FloatArray, FloatTriple

__all__ = ["SurfaceBlur"]

STEP = 0.03
"""Ratio between neighbouring widths, less 1."""
MAX_STEPS = 1
"""A plane whose widths differ by so many steps at most has one blur."""
COARSE = 2
"""The two blurs of a plane are this many steps apart, or a multiple of it."""
_BLOCK = 32

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Widths:
    """A width over depth, rounded to a few values (µm) in equal ratios."""

    curve: DepthCurve
    values: Floats

    @classmethod
    def of(cls, curve: DepthCurve) -> _Widths:
        low, high = min(curve.values), max(curve.values)
        count = 1 + math.ceil(math.log(high / low) / math.log1p(STEP) - 1e-9)
        return cls(curve, np.geomspace(low, high, count) if count > 1 else np.array([low]))

    def position(self, sigma_um: npt.ArrayLike) -> Floats:
        """Return where widths are among the values: 0 ... count - 1."""
        at = np.interp(np.log(sigma_um), np.log(self.values), np.arange(len(self.values)))
        return np.asarray(at)

    def between(self, shallow_um: float, deep_um: float) -> tuple[int, int]:
        """Return the values that enclose the widths between two depths."""
        inside = [d for d in self.curve.depth_um if shallow_um < d < deep_um]
        at = self.position(self.curve.at([shallow_um, *inside, deep_um]))
        return math.floor(at.min() + 1e-6), math.ceil(at.max() - 1e-6)

    def pairs(self, z_um: Floats, reach_um: tuple[float, float]) -> list[tuple[int, int]]:
        """Return the two values of each plane; they are equal where one is enough."""
        found = []
        for z in z_um:
            low, high = self.between(max(z - reach_um[1], 0.0), max(z - reach_um[0], 0.0))
            if high - low > MAX_STEPS:
                # Few different pairs: neighbouring planes are blurred together.
                last = len(self.values) - 1
                found.append((low // COARSE * COARSE, min(-(-high // COARSE) * COARSE, last)))
            else:
                found.append((low, low))
        return found

    def share(
        self, pairs: list[tuple[int, int]], z_um: Floats, height: Floats
    ) -> FloatArray | None:
        """Return the weight of the wider value in each voxel, or None where all are 0."""
        if all(low == high for low, high in pairs):
            return None
        share = np.zeros((z_um.size, *height.shape), np.float32)
        for plane, (low, high) in enumerate(pairs):
            if low < high:
                below = np.clip(z_um[plane] - height, 0.0, None)
                narrow, wide = self.values[[low, high]] ** 2
                wanted = (self.curve.at(below) ** 2 - narrow) / (wide - narrow)
                share[plane] = np.clip(wanted, 0.0, 1.0)
        return share


@lru_cache(maxsize=512)
def _across(sigma_um: float, y_um: float, x_um: float) -> Blur:
    """Return the blur of a plane; tiles share its matrices."""
    kernels = (gaussian_kernel_1d(sigma_um / step) for step in (y_um, x_um))
    return Blur.from_axis_kernels([1.0], *kernels)


@dataclass(frozen=True, slots=True)
class _Slab:
    """Neighbouring planes with the same blurs; one blur where their depths are alike."""

    start: int
    stop: int
    low: Blur
    high: Blur | None


@dataclass(frozen=True, eq=False)
class _Axial:
    """Matrices (Z, Z) of the narrower and of the wider blur along z."""

    low: Floats
    high: Floats
    radius: int
    share: Tensor | None
    _blocks: dict[tuple[bool, bool, torch.dtype], tuple[MatrixBlock, ...]] = field(
        default_factory=dict
    )

    def spread(self, x: Tensor, out: Tensor, spare: list[Tensor]) -> None:
        """Multiply a volume (Z, Y, X)."""
        if self.share is None:
            self._product(x, out, wide=False, adjoint=False)
            return
        wide = torch.mul(x, self.share.to(x.dtype), out=spare[0])
        narrow = torch.sub(x, wide, out=spare[1])
        self._product(narrow, out, wide=False, adjoint=False)
        self._product(wide, out, wide=True, adjoint=False, add=True)

    def gathered(self, y: Tensor, out: Tensor, spare: list[Tensor]) -> None:
        """Apply the adjoint."""
        self._product(y, out, wide=False, adjoint=True)
        if self.share is not None:
            self._product(y, spare[0], wide=True, adjoint=True)
            out.lerp_(spare[0], self.share.to(y.dtype))

    def _product(
        self, x: Tensor, out: Tensor, *, wide: bool, adjoint: bool, add: bool = False
    ) -> None:
        key = (wide, adjoint, x.dtype)
        if key not in self._blocks:
            matrix = self.high if wide else self.low
            turned = matrix.T if adjoint else matrix
            self._blocks[key] = cut_into_blocks(turned, self.radius, _BLOCK, x)
        source, result = x.reshape(x.shape[0], -1), out.view(x.shape[0], -1)
        for b in self._blocks[key]:
            rows = result[b.start : b.stop]
            if add:
                rows.addmm_(b.matrix, source[b.low : b.high])
            else:
                torch.mm(b.matrix, source[b.low : b.high], out=rows)


@dataclass(frozen=True, eq=False)
class SurfaceBlur(VaryingBlur):
    """Blur of a profile below a surface; build it with :meth:`from_heights`."""

    _axial: _Axial
    _slabs: tuple[_Slab, ...]
    _share: Tensor | None
    _spare: dict[torch.dtype, list[Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_heights(
        cls,
        profile: MicroscopeProfile,
        height_um: FloatArray,
        planes: int,
        voxel_size_um: FloatTriple,
        *,
        device: str = "cpu",
        first: int = 0,
        reach_um: tuple[float, float] | None = None,
    ) -> SurfaceBlur:
        """Take the widths of a profile.

        Parameters
        ----------
        profile : MicroscopeProfile
            Widths by depth.
        height_um : array (Y, X)
            Distance of the surface from plane 0.
        planes : int
            Z of the volume.
        voxel_size_um : tuple of float
            (z, y, x).
        device : str
            Where the volumes are.
        first : int
            Number of the volume's first plane, where it is a tile.
        reach_um : tuple of float, optional
            Lowest and highest surface of the whole that a tile was cut from.

        Raises
        ------
        StackError
            A height is not finite, or the heights are not an image.
        """
        height = np.asarray(height_um, np.float64)
        if height.ndim != 2 or not np.isfinite(height).all():
            raise StackError(
                f"the surface has heights of shape {height.shape}; give a finite one for each "
                "column (Y, X)"
            )
        z_um = voxel_size_um[0] * np.arange(first, first + planes, dtype=np.float64)
        reach = (float(height.min()), float(height.max())) if reach_um is None else reach_um
        shape = (planes, *height.shape)
        along = _Widths.of(profile.sigma_z_um)
        pairs = along.pairs(z_um, reach)
        share = _there(along.share(pairs, z_um, height), device)
        axial = _axial(along.values / voxel_size_um[0], pairs, share)
        across = _Widths.of(profile.sigma_yx_um)
        blurs = [_across(float(v), *voxel_size_um[1:]) for v in across.values]
        pairs = across.pairs(z_um, reach)
        share = _there(across.share(pairs, z_um, height), device)
        kernel = (2 * axial.radius + 1, *blurs[-1].kernel_shape_px[1:])
        return cls(kernel, shape, axial, _slabs(blurs, pairs), share)

    def _apply(self, x: Tensor, adjoint: bool, out: Tensor | None) -> Tensor:
        self._check(x, out)
        result = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
        share = None if self._share is None else self._share.to(x.dtype)
        if x.dtype not in self._spare:
            # New memory for each call would take longer than the sums in it.
            self._spare[x.dtype] = [x.new_empty(self.shape_px) for _ in range(3)]
        spare = self._spare[x.dtype]
        sources = x.reshape(-1, *self.shape_px)
        for source, target in zip(sources, result.view(-1, *self.shape_px), strict=True):
            if adjoint:
                self._gather(source, share, spare)
                self._axial.gathered(spare[2], target, spare)
            else:
                self._axial.spread(source, spare[2], spare)
                self._spread(share, target, spare)
        return result

    def _spread(self, share: Tensor | None, out: Tensor, spare: list[Tensor]) -> None:
        """Blur each plane of the last spare volume."""
        light, wide, more = spare[2], spare[0], spare[1]
        if share is not None:
            light.sub_(torch.mul(light, share, out=wide))
        for slab in self._slabs:
            part = slice(slab.start, slab.stop)
            slab.low(light[part], out=out[part])
            if slab.high is not None:
                out[part].add_(slab.high(wide[part], out=more[part]))

    def _gather(self, seen: Tensor, share: Tensor | None, spare: list[Tensor]) -> None:
        """Apply the adjoint of :meth:`_spread`; the last spare volume receives the result."""
        out, wide = spare[2], spare[0]
        for slab in self._slabs:
            part = slice(slab.start, slab.stop)
            slab.low.adjoint(seen[part], out=out[part])
            if slab.high is not None and share is not None:
                out[part].lerp_(slab.high.adjoint(seen[part], out=wide[part]), share[part])


def _there(share: FloatArray | None, device: str) -> Tensor | None:
    return None if share is None else torch.from_numpy(share).to(device)


def _axial(sigma_px: Floats, pairs: list[tuple[int, int]], share: Tensor | None) -> _Axial:
    """Return the matrices along z, whose columns are the kernels of the planes."""
    count = len(pairs)
    low, high = np.empty((count, count)), np.empty((count, count))
    # That of the whole, also for a tile that has no wide kernel.
    radius = gaussian_kernel_1d(float(sigma_px[-1])).size // 2
    for k, sigma in enumerate(sigma_px):
        columns = [[p for p in range(count) if pairs[p][side] == k] for side in (0, 1)]
        if not any(columns):
            continue
        made = mirror_matrix(gaussian_kernel_1d(float(sigma)), count)
        for matrix, chosen in zip((low, high), columns, strict=True):
            matrix[:, chosen] = made[:, chosen]
    return _Axial(low, high, radius, share)


def _slabs(blurs: list[Blur], pairs: list[tuple[int, int]]) -> tuple[_Slab, ...]:
    """Join neighbouring planes with the same blurs."""
    starts = [0, *(i for i in range(1, len(pairs)) if pairs[i] != pairs[i - 1]), len(pairs)]
    slabs = []
    for start, stop in pairwise(starts):
        low, high = pairs[start]
        slabs.append(_Slab(start, stop, blurs[low], None if low == high else blurs[high]))
    return tuple(slabs)
