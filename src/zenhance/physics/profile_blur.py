"""Blur by depth from a few PSFs of any shape, blended where the light comes from.

::

    y = sum_k B_k (w_k x)        w_k: hat functions of the source voxel's depth, sum_k w_k = 1
    A* y = sum_k w_k (B_k* y)    the exact adjoint

Light spreads by the PSF of the depth it comes from, so the operator keeps every photon. Each blur
runs only on the part of the volume where its weight is not zero. For the Gaussians of a profile,
:mod:`zenhance.physics.surface_blur` is faster and follows each plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zenhance.errors import MethodError, StackError
from zenhance.physics.blur import Blur, VaryingBlur
from zenhance.physics.profile import MicroscopeProfile
from zenhance.physics.psf_base import Psf
from zenhance.types import Triple

__all__ = ["DepthBlur", "blend_depths"]

MAX_RATIO = 1.7
"""Neighbouring blurs differ by at most this factor in width, within :data:`MAX_BLURS`."""
MAX_BLURS = 3

Span = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One blur and its weight, on the box where the weight is not zero, grown by the reach."""

    blur: Blur
    box: Span
    weight: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class DepthBlur(VaryingBlur):
    """Depth-dependent blur for volumes of one shape; build it with :meth:`from_psfs`."""

    _parts: tuple[_Part, ...]

    @classmethod
    def from_psfs(
        cls,
        psfs: Sequence[Psf],
        knots_um: Sequence[float],
        depth_um: npt.ArrayLike,
        voxel_size_um: tuple[float, float, float],
        device: str = "cpu",
        shape_px: Triple | None = None,
    ) -> DepthBlur:
        """Blend PSFs (measured at several depths, Gibson-Lanni, ...) linearly between their depths.

        Parameters
        ----------
        psfs : sequence of Psf
            One a knot.
        knots_um : sequence of float
            Their depths, ascending.
        depth_um : array (Z, Y, X) or (Z,)
            Depth below the surface of each voxel or plane.
        voxel_size_um : tuple of float
            (z, y, x).
        device : str
            Where the volumes are.
        shape_px : tuple of int, optional
            (Z, Y, X); needed where ``depth_um`` has one number a plane.

        Raises
        ------
        MethodError
            The knots do not ascend, or there is not one PSF a knot.
        StackError
            The depths do not fit the shape.
        """
        knots = [float(k) for k in knots_um]
        if not knots or len(knots) != len(psfs) or any(b <= a for a, b in pairwise(knots)):
            raise MethodError(
                f"a depth-dependent blur needs one PSF at each of its ascending depths, "
                f"not {len(psfs)} at {knots}; give them in order"
            )
        depth = _depths(depth_um, shape_px)
        share = np.interp(depth, knots, np.arange(len(knots)))
        return cls._blended(psfs, share, voxel_size_um, device)

    @classmethod
    def _blended(
        cls,
        psfs: Sequence[Psf],
        share: npt.NDArray[np.float64],
        voxel_size_um: tuple[float, float, float],
        device: str,
    ) -> DepthBlur:
        """Make hat functions of a position ``share`` (Z, Y, X or 1) between the PSFs."""
        shape = cast(Triple, share.shape)
        parts, largest = [], (1, 1, 1)
        for k, psf in enumerate(psfs):
            weight = np.clip(1.0 - np.abs(share - k), 0.0, None)
            weight[weight < 1e-9] = 0.0
            blur = Blur.from_psf(psf, voxel_size_um, (min(shape[0], 2), 1, 1))
            z, y, x = (max(a, b) for a, b in zip(largest, blur.kernel_shape_px, strict=True))
            largest = (z, y, x)
            box = _box(weight, blur.radius_px)
            if box is not None:
                kept = torch.from_numpy(np.ascontiguousarray(weight[box], dtype=np.float64))
                parts.append(_Part(blur, box, kept.to(_dtype_on(device)).to(device)))
        return cls(largest, shape, tuple(parts))

    def _apply(self, x: Tensor, adjoint: bool, out: Tensor | None) -> Tensor:
        self._check(x, out)
        result = torch.zeros_like(x) if out is None else out.zero_()
        for part in self._parts:
            weight = part.weight.to(x.dtype)
            inside = x[..., part.box[0], part.box[1], part.box[2]]
            target = result[..., part.box[0], part.box[1], part.box[2]]
            if adjoint:
                target.addcmul_(part.blur.adjoint(inside.contiguous()), weight)
            else:
                target.add_(part.blur(inside * weight))
        return result


def _dtype_on(device: str) -> torch.dtype:
    return torch.float32 if device.startswith(("cuda", "mps")) else torch.float64


def _depths(depth_um: npt.ArrayLike, shape_px: Triple | None) -> npt.NDArray[np.float64]:
    depth = np.asarray(depth_um, dtype=np.float64)
    if depth.ndim == 1 and shape_px is not None and depth.size == shape_px[0]:
        depth = np.broadcast_to(depth[:, None, None], shape_px)
    if depth.ndim != 3 or (shape_px is not None and depth.shape != tuple(shape_px)):
        raise StackError(
            f"depths of shape {np.shape(depth_um)} do not fit a volume of {shape_px}; give one "
            "number a voxel, or one a plane together with the shape"
        )
    if not np.isfinite(depth).all():
        raise StackError("a depth is not finite; give 0 above the specimen")
    return np.asarray(depth)


def blend_depths(profile: MicroscopeProfile) -> list[float]:
    """Return the depths whose blurs are blended, so that neighbours differ little in width."""
    fine = np.linspace(
        0.0, max(profile.sigma_z_um.depth_um[-1], profile.sigma_yx_um.depth_um[-1]), 65
    )
    logs = np.stack([np.log(profile.sigma_z_um.at(fine)), np.log(profile.sigma_yx_um.at(fine))])
    # The path length of the widths on a logarithmic scale; cut into equal steps.
    path = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(logs, axis=1)).max(axis=0))])
    if path[-1] < 0.02:
        return [0.0]
    count = min(MAX_BLURS, 1 + max(1, int(np.ceil(path[-1] / np.log(MAX_RATIO)))))
    return [float(np.interp(p, path, fine)) for p in np.linspace(0.0, path[-1], count)]


def _box(weight: npt.NDArray[np.float64], radius: Triple) -> Span | None:
    """Return the box where a weight is not zero, grown by the reach.

    The mirror at a cut then meets zeros only.
    """
    spans = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(weight.any(axis=others))
        if not where.size:
            return None
        low, high = int(where[0]) - radius[axis], int(where[-1]) + 1 + radius[axis]
        spans.append(slice(max(0, low), min(weight.shape[axis], high)))
    return (spans[0], spans[1], spans[2])
