"""The estimate imaged by the microscope again: noise removed, blur kept.

A deblurred estimate claims structure below the resolution of the microscope. Blurred with the PSF
that it was deblurred with, it claims only what the microscope can resolve: it is an estimate of the
noise-free measurement, which an average over many frames approaches.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from zenhance.contract.spec import MethodContext, MethodParameters, OutputSpec, Prepared, PsfLike
from zenhance.errors import MethodError, RecipeError
from zenhance.pipeline.arbitration import NETWORK_SHARE
from zenhance.types import FloatArray, FloatTriple, Region, Triple

if TYPE_CHECKING:
    from zenhance.physics.blur import BlurOperator, PsfKernels

__all__ = ["check_denoised", "denoised", "denoised_halo_px", "denoised_outputs"]

TITLE = "denoised"


def check_denoised(parameters: MethodParameters, method: str) -> None:
    """Refuse settings whose result cannot be imaged again on the grid of the measurement.

    Raises
    ------
    RecipeError
        The result has a finer grid than the measurement.
    """
    if max(parameters.output_scale) > 1:
        z, y, x = parameters.output_scale
        raise RecipeError(
            f"output denoised keeps the grid of the measurement, but {method} is set to {z} × {y} "
            f"× {x} voxels per voxel; set the scale to 1, or output to sharp"
        )


def denoised_outputs(outputs: tuple[OutputSpec, ...]) -> tuple[OutputSpec, ...]:
    """Return the images that exist of a denoised result: the enhanced one and drawn samples.

    The standard deviation of a sharp estimate and its labels do not describe the blurred one.
    """
    first, *further = outputs
    series = [spec for spec in further if spec.series and spec.kind == "image"]
    return (replace(first, title=TITLE), *series)


def denoised_halo_px(
    halo_px: Triple, psf: PsfLike, voxel_size_um: FloatTriple, ndim: int
) -> Triple:
    """Return the halo of a method, wider by the radius of the PSF (z, y, x)."""
    z, y, x = (n // 2 for n in _kernel_shape(psf, voxel_size_um, ndim))
    return (halo_px[0] + z, halo_px[1] + y, halo_px[2] + x)


def _kernel_shape(psf: PsfLike, voxel_size_um: FloatTriple, ndim: int) -> Triple:
    shape = psf.kernel(voxel_size_um, ndim).shape
    z, y, x = (1,) * (3 - len(shape)) + tuple(shape)
    return (z, y, x)


@dataclass(kw_only=True)
class _Denoised(Prepared):
    """A prepared method whose estimate is blurred again, tile by tile, where it was deblurred."""

    inner: Prepared
    names: frozenset[str]
    blur: Callable[[Region], BlurOperator] | None
    device: str

    def __call__(
        self, tile: FloatArray, origin_px: Triple
    ) -> Generator[float, None, dict[str, FloatArray]]:
        """Enhance a tile (Z, Y, X) and blur each image of the result."""
        found = yield from self.inner(tile, origin_px)
        # Some of what a method reports is known only after its tiles.
        self.notes, self.curves = self.inner.notes, self.inner.curves
        self.warnings = self.inner.warnings
        place = tuple(slice(o, o + n) for o, n in zip(origin_px, tile.shape, strict=True))
        seen = {
            name: self._seen(image, (place[0], place[1], place[2]))
            for name, image in found.items()
            if name in self.names
        }
        share = NETWORK_SHARE.name
        return {**seen, share: found[share]} if share in found else seen

    def _seen(self, image: FloatArray, region: Region) -> FloatArray:
        if self.blur is None:
            return image
        import torch

        x = torch.from_numpy(np.ascontiguousarray(image, np.float32)).to(self.device)
        blur = self.blur(region)
        # A blur that varies with depth takes blocks (B, Z, Y, X); of a series, one after another.
        samples = x.reshape(-1, 1, *x.shape[-3:])
        seen = torch.cat([blur(sample) for sample in samples]).reshape(x.shape)
        return np.asarray(seen.cpu().numpy())


def denoised(prepared: Prepared, context: MethodContext, psf: PsfLike | None) -> Prepared:
    """Return a prepared method whose result keeps the resolution of the microscope.

    Parameters
    ----------
    prepared : Prepared
        The method, ready for one volume.
    context : MethodContext
        The volume.
    psf : PsfLike or None
        The blur of the microscope; not needed by a method that does not deblur.

    Raises
    ------
    MethodError
        The method deblurs, and there is no point spread function to blur its result with.

    Notes
    -----
    The blur has unit sum and mirrors the image at its edges, so that it keeps the total and a
    constant background. A method that works plane by plane is blurred in the plane.
    """
    parameters: MethodParameters = context.parameters
    names = frozenset(spec.name for spec in denoised_outputs(parameters.outputs))
    deblurs = parameters.deblurs if prepared.deblurs is None else prepared.deblurs
    blur = _blur(context, psf) if deblurs else None
    corner = (slice(0, 1), slice(0, 1), slice(0, 1))
    z, y, x = (0, 0, 0) if blur is None else blur(corner).radius_px
    report: dict[str, Any] = {f.name: getattr(prepared, f.name) for f in fields(Prepared)}
    halo = prepared.halo_px
    report |= {"halo_px": (halo[0] + z, halo[1] + y, halo[2] + x), "deblurs": False}
    return _Denoised(inner=prepared, names=names, blur=blur, device=context.device, **report)


def _blur(context: MethodContext, psf: PsfLike | None) -> Callable[[Region], BlurOperator]:
    if psf is None:
        raise MethodError(
            "output denoised needs the point spread function of the microscope; give a PSF, "
            "or set output to sharp"
        )
    from zenhance.physics.blur import Blur

    z, y, x = context.shape_px
    flat = z == 1 or context.parameters.solved_dimensions == 2
    profiled = context.profiled
    if profiled is not None and not flat:
        return lambda region: cast("BlurOperator", profiled.blur([region], context.device))
    constant = Blur.from_psf(
        cast("PsfKernels", psf), context.voxel_size_um, (1 if flat else z, y, x), context.device
    )
    return lambda _region: constant
