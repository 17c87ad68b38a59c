"""Blur: the microscope's point spread function as a linear operator with its exact adjoint.

Beyond its edge the specimen continues as its mirror image (see :mod:`zenhance.physics.boundary`).
Nothing wraps around, constants stay constant to the last voxel, and a symmetric PSF keeps every
photon.

A separable PSF is applied along one axis after the other. Each step is a product with a banded
matrix that includes the mirror, cut into blocks that hold hardly any zeros::

    [ B B . . ]       along x:  out[:, s:e] = in[:, lo:hi] @ block
    [ B B B . ]       along y:  out[s:e, :] = block @ in[lo:hi, :]
    [ . B B B ]
    [ . . B B ]       any other PSF: product of spectra of the mirrored image, margin cropped
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from zenhance.errors import MethodError, StackError
from zenhance.physics.boundary import fold_kernel, mirror_index, mirror_matrix
from zenhance.types import FloatArray, Triple

__all__ = [
    "Blur",
    "BlurOperator",
    "MatrixBlock",
    "PsfKernels",
    "VaryingBlur",
    "cut_into_blocks",
]

Operator = Callable[[Tensor, bool, Tensor | None], Tensor]
T = TypeVar("T")

# Blocks of 32 outputs were the fastest of 16 ... 256 on CPUs for Gaussians of 1 to 4 px; wide
# kernels need blocks as wide as their radius.
_MIN_BLOCK = 32
_CACHED_SHAPES = 8


class PsfKernels(Protocol):
    """What blurring needs to know of a point spread function (see ``physics.psf.Psf``)."""

    def kernel(self, voxel_size_um: tuple[float, float, float], ndim: int = 3) -> FloatArray:
        """Return the kernel (Z, Y, X), odd and centred, sum one."""

    def axis_kernels(
        self, voxel_size_um: tuple[float, float, float], ndim: int = 3
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """Return kernels along z, y, x whose outer product is the kernel, or None."""


class _Memory:
    """The few most recently used matrices or spectra; safe to use from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return cast(T, self._kept[key])
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return made


def _checked_kernel(kernel: npt.ArrayLike, dimensions: int, what: str) -> npt.NDArray[np.float64]:
    """Return a private, read-only float64 copy that sums to one."""
    array = np.array(kernel, dtype=np.float64)
    if array.ndim != dimensions or any(n % 2 == 0 for n in array.shape):
        raise MethodError(
            f"{what} of shape {array.shape} cannot be used; it needs {dimensions} axes "
            "and an odd, centred size along each"
        )
    if not np.isfinite(array).all() or array.min() < 0.0 or array.sum() <= 0.0:
        raise MethodError(
            f"{what} has values that are negative, not finite, or all zero; "
            "a point spread function is a distribution of light"
        )
    array /= array.sum()
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class MatrixBlock:
    """``out[start:stop] = matrix @ in[low:high]`` along one axis."""

    start: int
    stop: int
    low: int
    high: int
    matrix: Tensor


def cut_into_blocks(
    matrix: npt.NDArray[np.float64], radius: int, size: int, like: Tensor
) -> tuple[MatrixBlock, ...]:
    """Cut a banded matrix into blocks of `size` rows, without the zeros beyond `radius`."""
    length = matrix.shape[0]
    blocks = []
    for start in range(0, length, size):
        stop = min(start + size, length)
        low, high = max(0, start - radius), min(length, stop + radius)
        piece = (
            torch.from_numpy(np.ascontiguousarray(matrix[start:stop, low:high]))
            .to(dtype=like.dtype)
            .to(like.device)
        )
        blocks.append(MatrixBlock(start, stop, low, high, piece))
    return tuple(blocks)


def _multiply_axis(x: Tensor, blocks: tuple[MatrixBlock, ...], axis: int, out: Tensor) -> Tensor:
    """Multiply one of the last three axes of a contiguous tensor by a banded matrix.

    Parameters
    ----------
    x, out : Tensor (..., Z, Y, X)
        Contiguous, of one shape, not the same memory.
    axis : {-3, -2, -1}
        Which axis.
    """
    length = x.shape[axis]
    inner = int(np.prod(x.shape[x.ndim + axis + 1 :], dtype=np.int64))
    outer = x.numel() // (length * inner)
    if inner == 1:
        flat, flat_out = x.view(outer, length), out.view(outer, length)
        for b in blocks:
            torch.mm(flat[:, b.low : b.high], b.matrix.t(), out=flat_out[:, b.start : b.stop])
    elif outer == 1:
        flat, flat_out = x.view(length, inner), out.view(length, inner)
        for b in blocks:
            torch.mm(b.matrix, flat[b.low : b.high], out=flat_out[b.start : b.stop])
    else:
        flat, flat_out = x.view(outer, length, inner), out.view(outer, length, inner)
        for b in blocks:
            torch.bmm(
                b.matrix.expand(outer, -1, -1),
                flat[:, b.low : b.high],
                out=flat_out[:, b.start : b.stop],
            )
    return out


class _Separable:
    """Three banded matrix products."""

    def __init__(self, kernels: Sequence[npt.NDArray[np.float64]]) -> None:
        self._kernels = tuple(kernels)
        self._symmetric = tuple(bool(np.array_equal(k, k[::-1])) for k in kernels)
        self._memory = _Memory(3 * 2 * _CACHED_SHAPES)

    def blocks(
        self, axis: int, length: int, adjoint: bool, like: Tensor
    ) -> tuple[MatrixBlock, ...]:
        kernel = self._kernels[axis]
        adjoint = adjoint and not self._symmetric[axis]

        def make() -> tuple[MatrixBlock, ...]:
            matrix = mirror_matrix(kernel, length)
            radius = kernel.size // 2
            # Metal copies views before it multiplies: one dense product is faster there.
            size = length if like.device.type == "mps" else max(_MIN_BLOCK, radius // 16 * 16)
            return cut_into_blocks(matrix.T if adjoint else matrix, radius, size, like)

        return self._memory.get((axis, length, adjoint, like.dtype, str(like.device)), make)

    def apply(self, x: Tensor, adjoint: bool, out: Tensor) -> Tensor:
        axes = [axis for axis in (-1, -2, -3) if self._kernels[axis].size > 1]
        if not axes:
            return out.copy_(x)
        # Two buffers take turns so that the last product lands in `out`.
        spare = torch.empty_like(out) if len(axes) > 1 else out
        targets = [out, spare] if len(axes) % 2 == 1 else [spare, out]
        source = x
        for turn, axis in enumerate(axes):
            blocks = self.blocks(axis, x.shape[axis], adjoint, x)
            source = _multiply_axis(source, blocks, axis, targets[turn % 2])
        return out


class _Fourier:
    """Product of spectra over the mirrored image."""

    def __init__(self, kernel: npt.NDArray[np.float64]) -> None:
        self._kernel = kernel
        self.axes = tuple(a for a in (-3, -2, -1) if kernel.shape[a] > 1)
        self._memory = _Memory(_CACHED_SHAPES)

    def plan(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], Tensor]:
        """Return margins and lengths along the transformed axes, and the spectrum of the kernel."""
        shape = tuple(x.shape[-3:])

        def make() -> tuple[tuple[int, ...], tuple[int, ...], Tensor]:
            folded = fold_kernel(self._kernel, shape)
            margins = tuple(folded.shape[a] // 2 for a in self.axes)
            lengths = tuple(
                next_fast_len(shape[a] + 2 * m, real=True)
                for a, m in zip(self.axes, margins, strict=True)
            )
            padded = np.zeros(
                [lengths[self.axes.index(a)] if a in self.axes else 1 for a in (-3, -2, -1)]
            )
            padded[tuple(slice(n) for n in folded.shape)] = folded
            padded = np.roll(padded, tuple(-m for m in margins), axis=self.axes)
            spectrum = np.fft.rfftn(padded, axes=self.axes)
            kind = np.complex128 if x.dtype == torch.float64 else np.complex64
            return margins, lengths, torch.from_numpy(spectrum.astype(kind)).to(x.device)

        return self._memory.get((shape, x.dtype, str(x.device)), make)

    def apply(self, x: Tensor, adjoint: bool, out: Tensor) -> Tensor:
        if not self.axes:
            return out.copy_(x)
        margins, lengths, spectrum = self.plan(x)
        if not adjoint:
            padded = x
            for axis, margin in zip(self.axes, margins, strict=True):
                padded = _extend(padded, axis, margin)
            product = torch.fft.rfftn(padded, s=lengths, dim=self.axes).mul_(spectrum)
            wide = torch.fft.irfftn(product, s=lengths, dim=self.axes)
            for axis, margin in zip(self.axes, margins, strict=True):
                wide = wide.narrow(axis, margin, x.shape[axis])
            return out.copy_(wide)
        embedded = x.new_zeros(
            (
                *x.shape[:-3],
                *(
                    x.shape[a] if a not in self.axes else lengths[self.axes.index(a)]
                    for a in (-3, -2, -1)
                ),
            )
        )
        inside = embedded
        for axis, margin in zip(self.axes, margins, strict=True):
            inside = inside.narrow(axis, margin, x.shape[axis])
        inside.copy_(x)
        product = torch.fft.rfftn(embedded, s=lengths, dim=self.axes).mul_(spectrum.conj())
        wide = torch.fft.irfftn(product, s=lengths, dim=self.axes)
        for axis, margin in zip(self.axes, margins, strict=True):
            wide = _fold_back(wide, axis, margin, x.shape[axis])
        return out.copy_(wide)


def _extend(x: Tensor, axis: int, margin: int) -> Tensor:
    """Mirror an axis outwards by a margin."""
    index = mirror_index(np.arange(-margin, x.shape[axis] + margin, dtype=np.int64), x.shape[axis])
    return x.index_select(axis, torch.from_numpy(index).to(x.device))


def _fold_back(wide: Tensor, axis: int, margin: int, length: int) -> Tensor:
    """Add a margin of at most the axis' length to the voxels it mirrors: adjoint of _extend."""
    core = wide.narrow(axis, margin, length).clone()
    core.narrow(axis, 0, margin).add_(wide.narrow(axis, 0, margin).flip(axis))
    core.narrow(axis, length - margin, margin).add_(
        wide.narrow(axis, margin + length, margin).flip(axis)
    )
    return core


class _Differentiable(torch.autograd.Function):
    """Lets gradients flow: the derivative of a linear operator is its adjoint."""

    @staticmethod
    def forward(context: Any, x: Tensor, operator: Operator, adjoint: bool) -> Tensor:
        context.operator, context.adjoint = operator, adjoint
        return operator(x.detach(), adjoint, None)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return differentiable(context.operator, gradients[0], not context.adjoint), None, None


def differentiable(
    operator: Operator, x: Tensor, adjoint: bool, out: Tensor | None = None
) -> Tensor:
    """Apply a linear operator or its adjoint so that gradients flow where they are needed."""
    if out is None and x.requires_grad and torch.is_grad_enabled():
        result = _Differentiable.apply(x, operator, adjoint)  # type: ignore[no-untyped-call]
        return cast(Tensor, result)
    return operator(x, adjoint, out)


@dataclass(frozen=True, slots=True, eq=False)
class BlurOperator(ABC):
    """A linear blur of unit sum with its adjoint: :class:`Blur`, or one that varies with depth.

    ``blur(x)`` and ``blur.adjoint(y)`` take float32 tensors (..., Z, Y, X) on any device (float64
    where the device has it) and return a new tensor of the same shape. Gradients flow.
    """

    kernel_shape_px: Triple
    """Size of the (widest) kernel along z, y, x."""

    @property
    def radius_px(self) -> Triple:
        """How far one voxel's light reaches along z, y, x at most."""
        z, y, x = (n // 2 for n in self.kernel_shape_px)
        return (z, y, x)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Blur a specimen.

        Parameters
        ----------
        x : Tensor (..., Z, Y, X)
            float32 or float64.
        out : Tensor, optional
            Contiguous, of the same shape, type and device, and not ``x`` itself; receives the
            result (without gradients).

        Returns
        -------
        Tensor
            ``out``, or a new one.
        """
        return differentiable(self._apply, x, False, out)

    def adjoint(self, y: Tensor, out: Tensor | None = None) -> Tensor:
        """Apply the transposed operator; arguments as for calling the operator itself."""
        return differentiable(self._apply, y, True, out)

    @abstractmethod
    def _apply(self, x: Tensor, adjoint: bool, out: Tensor | None) -> Tensor:
        """Apply the operator or its adjoint, without gradients."""


@dataclass(frozen=True, slots=True, eq=False)
class VaryingBlur(BlurOperator):
    """A blur that varies with depth, for volumes of one shape."""

    shape_px: Triple
    """(Z, Y, X) of the volumes."""

    is_symmetric: ClassVar[bool] = False
    is_separable: ClassVar[bool] = False

    def _check(self, x: Tensor, out: Tensor | None) -> None:
        """Refuse a volume of another shape, and a result in its place."""
        if x.ndim < 3 or tuple(x.shape[-3:]) != self.shape_px:
            raise StackError(
                f"this blur was made for volumes of {self.shape_px}, the image has shape "
                f"{tuple(x.shape)}; make one for its depths"
            )
        if out is not None and out.data_ptr() == x.data_ptr():
            raise StackError("out is the image itself; give another tensor")


@dataclass(frozen=True, slots=True, eq=False)
class Blur(BlurOperator):
    """Convolution with a PSF, mirrored at the edges; build it with a ``from_`` function.

    Both directions satisfy ``<A x, y> = <x, A* y>`` to rounding, also for asymmetric kernels and
    for images smaller than the kernel. Peak memory: two images (separable), or about ten mirrored
    images (otherwise).
    """

    is_separable: bool
    """Whether the three axes are blurred one by one."""
    is_symmetric: bool
    """Whether the operator is its own adjoint and keeps every photon."""
    _engine: _Separable | _Fourier = field(repr=False)

    @classmethod
    def from_axis_kernels(cls, kz: npt.ArrayLike, ky: npt.ArrayLike, kx: npt.ArrayLike) -> Blur:
        """Build from three 1-D kernels, odd and centred, each scaled to sum one.

        Raises
        ------
        MethodError
            A kernel is even, empty, negative or not finite.
        """
        kernels = [_checked_kernel(k, 1, "an axis kernel") for k in (kz, ky, kx)]
        z, y, x = (k.size for k in kernels)
        symmetric = all(np.array_equal(k, k[::-1]) for k in kernels)
        return cls((z, y, x), True, symmetric, _Separable(kernels))

    @classmethod
    def from_kernel(cls, kernel: npt.ArrayLike) -> Blur:
        """Build from a kernel (Z, Y, X) or (Y, X), odd and centred, scaled to sum one.

        Raises
        ------
        MethodError
            The kernel is even along an axis, negative or not finite.
        """
        array = np.asarray(kernel)
        array = _checked_kernel(array[None] if array.ndim == 2 else array, 3, "a kernel")
        z, y, x = array.shape
        return cls(
            (z, y, x), False, bool(np.array_equal(array, array[::-1, ::-1, ::-1])), _Fourier(array)
        )

    @classmethod
    def from_psf(
        cls,
        psf: PsfKernels,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
        device: str = "cpu",
    ) -> Blur:
        """Build from a point spread function for images of a given shape.

        Parameters
        ----------
        psf : PsfKernels
            For example a ``physics.psf.Psf``.
        voxel_size_um : tuple of float
            (z, y, x).
        shape_px : tuple of int
            (Z, Y, X); with Z = 1 only the plane in focus counts. Matrices for this shape are made
            at once, for others when needed.
        device : str
            Where the first images will be.
        """
        ndim = 2 if shape_px[0] == 1 else 3
        separable = psf.axis_kernels(voxel_size_um, ndim)
        blur = (
            cls.from_kernel(psf.kernel(voxel_size_um, ndim))
            if separable is None
            else cls.from_axis_kernels(*separable)
        )
        blur.prepare(shape_px, device)
        return blur

    def _apply(self, x: Tensor, adjoint: bool, out: Tensor | None) -> Tensor:
        if x.ndim < 3 or x.numel() == 0:
            raise StackError(
                "an image to blur has at least the axes Z, Y, X, none of them empty; "
                f"its shape is {tuple(x.shape)}"
            )
        if x.dtype not in (torch.float32, torch.float64):
            raise StackError(
                f"an image to blur is float32 or float64, not {x.dtype}; convert it with .float()"
            )
        if out is None:
            out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        elif (
            out.shape != x.shape
            or out.dtype != x.dtype
            or out.device != x.device
            or not out.is_contiguous()
        ):
            raise StackError(
                f"out has shape {tuple(out.shape)} and type {out.dtype}; "
                f"give a contiguous one like the image, {tuple(x.shape)} {x.dtype}"
            )
        elif out.data_ptr() == x.data_ptr():
            raise StackError(
                "out is the image itself; blurring in place would read voxels already overwritten, "
                "give another tensor"
            )
        return self._engine.apply(x.contiguous(), adjoint, out)

    def prepare(self, shape_px: Triple, device: str) -> None:
        """Make matrices or spectra for images of a shape before they are needed."""
        like = torch.empty(1, dtype=torch.float32, device=device).expand(shape_px)
        if isinstance(self._engine, _Fourier):
            if self._engine.axes:
                self._engine.plan(like)
            return
        for axis in (-1, -2, -3):
            if self.kernel_shape_px[axis] > 1:
                self._engine.blocks(axis, shape_px[axis], False, like)
