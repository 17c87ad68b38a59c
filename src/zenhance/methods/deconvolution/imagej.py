"""ImageJ's plane-by-plane deconvolutions: Iterative Deconvolve 3D, WPL, DeconvolutionLab2's RL.

Rewritten from the algorithms' descriptions, with FFTs in place of Hartley transforms. Their edges,
stop rules and omissions are kept even where this package would differ, because the purpose is
comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from zenhance.contract.spec import MethodContext, Prepared, PsfLike, TileGenerator
from zenhance.errors import MethodError
from zenhance.methods.deconvolution.parameters import GaussianDeconvolutionParameters
from zenhance.solvers.tensors import exact_mean, to_device, to_numpy
from zenhance.steps import relay
from zenhance.types import FloatArray, Triple

__all__ = [
    "Id3dSettings",
    "PlaneResult",
    "Planes",
    "iterative_deconvolve",
    "prepare_imagej",
    "richardson_lucy_circular",
]

MAX_LIGHT_CHANGE = 0.02
"""The total intensity may change by this share without a warning."""
_WIENER_ON = 1e-4
_DIVISION_FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class Id3dSettings:
    """Settings of Iterative Deconvolve 3D under the plugin's names and defaults (PSF normalised).

    Parameters
    ----------
    iterations : int
        At most this many.
    gamma : float
        Wiener preconditioning, used above 1e-4.
    low_pass_px : float
        Gaussian low-pass per iteration; 1 keeps 0.7788 at the Nyquist frequency, 0 switches it off.
    terminate_percent : float
        Stop when the mean change falls by less than this from one iteration to the next.
    anti_ringing : bool
        Blend the mirrored margin into its blurred self.
    detect_divergence : bool
        Stop when the mean change grows.
    padding : {'id3d', 'wpl'}
        To the next power of 2 of at least 1.5 n, or as Parallel Iterative Deconvolution does: image
        plus kernel, made a power of 2 unless that is 1.5 times as much.
    """

    iterations: int = 100
    gamma: float = 0.0
    low_pass_px: float = 1.0
    terminate_percent: float = 0.01
    anti_ringing: bool = True
    detect_divergence: bool = True
    padding: str = "id3d"


@dataclass(frozen=True, slots=True)
class PlaneResult:
    """A deconvolved plane, float32 (Y, X), its iterations, and the mean change (%) after each."""

    plane: torch.Tensor
    iterations: int
    percent: tuple[float, ...] = ()


def _padded_id3d(size: int) -> int:
    padded = 4
    while size > 1 and padded < 1.5 * size:
        padded *= 2
    return padded


def _padded_wpl(image: int, kernel: int) -> int:
    least = image + kernel
    power = 1 << (least - 1).bit_length()
    return max(4, least if power >= 1.5 * least else power)


def _low_pass(size: int, filter_px: float, half: bool) -> npt.NDArray[np.float64]:
    frequency = (
        np.arange(size // 2 + 1) if half else np.minimum(np.arange(size), size - np.arange(size))
    )
    return np.exp(-((frequency * (filter_px + 1e-6) / size) ** 2))


def _margin_ramp(size: int, padded: int) -> npt.NDArray[np.float64]:
    """0 inside, rising linearly to 1 at the outer edge."""
    before = (padded - size + 1) // 2
    position = np.arange(padded) - before
    ramp = np.where(position < 0, -position, np.where(position >= size, position - size, 0))
    return ramp / max(before, 1)


def _mirror(plane: torch.Tensor, padded: tuple[int, int]) -> torch.Tensor:
    for axis in (0, 1):
        size = plane.shape[axis]
        place = (np.arange(padded[axis]) - (padded[axis] - size + 1) // 2) % (2 * size)
        place = np.where(place < size, place, 2 * size - 1 - place)
        plane = plane.index_select(axis, torch.from_numpy(place).to(plane.device))
    return plane


def _spectrum(
    kernel: npt.NDArray[np.float32], padded: tuple[int, int], device: torch.device
) -> torch.Tensor:
    """Spectrum of a kernel put into an empty plane with its centre, int(n / 2), at the origin."""
    plane = np.zeros(padded)
    plane[: kernel.shape[0], : kernel.shape[1]] = kernel
    plane = np.roll(plane, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), axis=(0, 1))
    return torch.from_numpy(np.fft.rfft2(plane).astype(np.complex64)).to(device)


def iterative_deconvolve(
    plane: torch.Tensor, kernel: npt.NDArray[np.float32], settings: Id3dSettings | None = None
) -> Generator[float, None, PlaneResult]:
    """Deconvolve one plane as Iterative Deconvolve 3D does (or WPL: its padding, 5 iterations).

    Each iteration is ``X <- G X; d = Y - A X / aSum; X <- max(0, X + d)`` with a Gaussian low-pass
    G, the padded image Y, and aSum the sum of magnitudes of the (preconditioned) kernel. At the end
    ``X <- G X / aSum``.

    Parameters
    ----------
    plane : Tensor (Y, X)
        float32.
    kernel : ndarray (Y, X)
        Scaled to unit sum here (the plugin's "Normalize PSF" switched on).
    settings : Id3dSettings, optional
        Default: the plugin's.

    Yields
    ------
    float
        Fraction of the iterations done. Each iteration reads the change back from the device, as
        the plugin's stop rule requires.

    Notes
    -----
    The plugin tests divergence after termination, so the divergence test acts only with a negative
    `terminate_percent`; the same holds here. Source: Iterative Deconvolve 3D 5.2 (R. P. Dougherty,
    OptiNav 2005); Dougherty 2005, AIAA Paper 2005-2961 (DAMAS2 and 3).
    """
    settings = settings or Id3dSettings()
    kernel = kernel / np.float32(kernel.sum(dtype=np.float64))
    height, width = plane.shape
    if settings.padding == "wpl":
        padded = (_padded_wpl(height, kernel.shape[0]), _padded_wpl(width, kernel.shape[1]))
    else:
        padded = (
            max(_padded_id3d(height), _padded_id3d(kernel.shape[0])),
            max(_padded_id3d(width), _padded_id3d(kernel.shape[1])),
        )
    y, blur = _prepare_plane(plane, kernel, padded, settings)
    a_sum = exact_mean(torch.fft.irfft2(blur, s=padded).abs()) * padded[0] * padded[1]
    low_pass = np.outer(
        _low_pass(padded[0], settings.low_pass_px, False),
        _low_pass(padded[1], settings.low_pass_px, True),
    )
    smooth = torch.from_numpy(low_pass.astype(np.float32)).to(plane.device)
    top, left = (padded[0] - height + 1) // 2, (padded[1] - width + 1) // 2
    x = y
    percent: list[float] = []
    for k in range(settings.iterations):
        spectrum = torch.fft.rfft2(x).mul_(smooth)
        delta = torch.fft.irfft2(spectrum * blur, s=padded).div_(-a_sum).add_(y)
        x = torch.fft.irfft2(spectrum, s=padded).add_(delta)
        change = delta.abs_().masked_fill_(x < 0, 0.0).sum()
        x.clamp_(min=0.0)
        light = x[top : top + height, left : left + width].sum()
        percent.append(float(100.0 * change / light) if float(light) > 0.0 else 0.0)
        yield (k + 1) / settings.iterations
        if _is_done(percent, settings):
            break
    x = torch.fft.irfft2(torch.fft.rfft2(x).mul_(smooth).div_(a_sum), s=padded)
    return PlaneResult(
        x[top : top + height, left : left + width].contiguous(), len(percent), tuple(percent)
    )


def _prepare_plane(
    plane: torch.Tensor,
    kernel: npt.NDArray[np.float32],
    padded: tuple[int, int],
    settings: Id3dSettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the padded (anti-ringing, preconditioned) image and the spectrum of its kernel."""
    y = _mirror(plane, padded)
    blur = _spectrum(kernel, padded, plane.device)
    if settings.anti_ringing:
        rows, columns = (
            _margin_ramp(plane.shape[0], padded[0]),
            _margin_ramp(plane.shape[1], padded[1]),
        )
        ramp = torch.from_numpy(np.maximum(rows[:, None], columns[None, :]).astype(np.float32)).to(
            plane.device
        )
        y = torch.lerp(y, torch.fft.irfft2(torch.fft.rfft2(y).mul_(blur), s=padded), ramp)
    if settings.gamma > _WIENER_ON:
        power = blur.abs().square_()
        divisor = (power + settings.gamma * power.max()).mul_(2.0)
        y = torch.fft.irfft2(torch.fft.rfft2(y) * blur.conj() / divisor, s=padded)
        blur = (power / divisor).to(torch.complex64)
    return y, blur


def _is_done(percent: list[float], settings: Id3dSettings) -> bool:
    if len(percent) < 2:
        return False
    fell = percent[-2] - percent[-1]
    return fell < settings.terminate_percent or (settings.detect_divergence and fell < 0.0)


def richardson_lucy_circular(
    plane: torch.Tensor, kernel: npt.NDArray[np.float32], iterations: int = 10
) -> Generator[float, None, PlaneResult]:
    """Deconvolve one plane as DeconvolutionLab2's Richardson-Lucy does.

    Boundaries are periodic, the first estimate is the image itself, and nothing is constrained. A
    quotient whose divisor is at most 1e-6 in magnitude becomes 0. A kernel larger than the plane is
    folded into it.

    Parameters
    ----------
    plane : Tensor (Y, X)
        float32.
    kernel : ndarray (Y, X)
        Scaled to unit sum here.
    iterations : int
        All of them are run.

    Notes
    -----
    Source: Sage et al. 2017 (Methods 115:28).
    """
    kernel = kernel / np.float32(kernel.sum(dtype=np.float64))
    shape = (int(plane.shape[0]), int(plane.shape[1]))
    blur = _spectrum(_folded(kernel, shape), shape, plane.device)
    x = plane
    for k in range(iterations):
        model = torch.fft.irfft2(torch.fft.rfft2(x).mul_(blur), s=shape)
        quotient = torch.where(
            model.abs() > _DIVISION_FLOOR, plane / model, torch.zeros_like(model)
        )
        x = x * torch.fft.irfft2(torch.fft.rfft2(quotient).mul_(blur.conj()), s=shape)
        yield (k + 1) / iterations
    return PlaneResult(x, iterations)


def _folded(kernel: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Wrap a kernel that is larger than the plane round it, its centre staying at int(n / 2)."""
    rows, columns = (
        (np.arange(n) - n // 2 + size // 2) % size if n > size else np.arange(n)
        for n, size in zip(kernel.shape, shape, strict=True)
    )
    folded = np.zeros(
        [min(n, size) for n, size in zip(kernel.shape, shape, strict=True)], dtype=np.float32
    )
    np.add.at(folded, (rows[:, None], columns[None, :]), kernel)
    return folded


@dataclass
class Planes(Prepared):
    """Whole planes, each with its own stop.

    The lists of iterations and curves are handed out empty and filled in as planes are done.

    Parameters
    ----------
    solve : callable
        Takes a plane (Y, X) and returns a generator of fractions that returns a
        :class:`zenhance.methods.deconvolution.imagej.PlaneResult`.
    shape_px : tuple of int
        (Z, Y, X) of the volume.
    device : str
        Where the work is done.
    form : str
        Name of the algorithm, for the notes.
    lowest : float
        The grey value that counts as zero light: 0, or the lowest value of signed data.
        These algorithms set negative values to zero.
    """

    solve: Callable[[torch.Tensor], Generator[float, None, PlaneResult]]
    shape_px: Triple
    device: str
    form: str
    lowest: float = 0.0
    iterations: list[int] = field(init=False)
    _light: list[float] = field(init=False, default_factory=lambda: [0.0, 0.0])

    def __post_init__(self) -> None:
        """Fill in what is handed out: the plugins pad, and may stop, by all of a plane."""
        self.halo_px = (0, self.shape_px[1], self.shape_px[2])
        self.iterations = [0] * self.shape_px[0]
        self.curves = {"mean_change_percent": []}
        self.notes = {
            "imagej_form": self.form,
            "iterations_per_plane": self.iterations,
            "zero_light": self.lowest,
        }

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Solve the planes (Y, X) of a tile one after the other."""
        if tile.shape[1:] != self.shape_px[1:]:
            raise MethodError(
                f"ImageJ's plugins need whole planes, and this tile of {tile.shape[1:]} px is a "
                f"part of {self.shape_px[1:]} px; use variant richardson_lucy, or crop the stack"
            )
        planes = to_device(tile, self.device)
        enhanced = np.empty_like(tile)
        for index in range(tile.shape[0]):
            result = yield from relay(
                self.solve(planes[index] - self.lowest),
                lambda fraction, done=index: (  # type: ignore[misc]
                    (done + fraction) / tile.shape[0]
                ),
            )
            self._light[0] += exact_mean(planes[index]) - self.lowest
            self._light[1] += exact_mean(result.plane)
            enhanced[index] = to_numpy(result.plane) + np.float32(self.lowest)
            z = origin_px[0] + index
            self.iterations[z] = result.iterations
            if z == self.shape_px[0] // 2:
                self.curves["mean_change_percent"][:] = result.percent
        self._compare_light()
        return {"enhanced": enhanced}

    def _compare_light(self) -> None:
        """Warn when the planes done so far changed the total intensity."""
        before, after = self._light
        gained = after / before - 1.0 if before > 0.0 else 0.0
        changed = (
            f"{self.form} changed the total intensity by {100 * gained:+.0f} %, as the ImageJ "
            "plugin does; use variant richardson_lucy to keep it"
        )
        self.warnings = [changed] if abs(gained) > MAX_LIGHT_CHANGE else []


def prepare_imagej(context: MethodContext, psf: PsfLike) -> Generator[float, None, Prepared]:
    """Hand out planes to be solved one by one; nothing is measured on the volume."""
    p: GaussianDeconvolutionParameters = context.parameters
    kernel = psf.kernel(context.voxel_size_um, 2)[0]
    padding = "wpl" if p.imagej_form == "wpl5" else "id3d"
    settings = Id3dSettings(
        p.most_iterations,
        p.wiener_gamma,
        p.low_pass_px,
        p.terminate_percent,
        p.anti_ringing,
        padding=padding,
    )
    yield 1.0

    def solve(plane: torch.Tensor) -> Generator[float, None, PlaneResult]:
        if p.imagej_form == "rl10":
            return richardson_lucy_circular(plane, kernel, p.most_iterations)
        return iterative_deconvolve(plane, kernel, settings)

    lowest = min(0.0, context.statistics.minimum)
    return Planes(solve, context.shape_px, context.device, p.imagej_form, lowest)
