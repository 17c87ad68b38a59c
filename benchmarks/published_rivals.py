"""Published rivals of DPS for single pictures: MSSR, Sparse deconvolution, SelfDeblur and W-DIP.

Each is written from its publication:

* MSSR, mean-shift super-resolution (Torres-García et al. 2022): the mean-shift magnitude of each
  pixel, normalised and repeated. It is no estimate of the light: not linear in intensity.
* Sparse deconvolution (Zhao et al. 2022): ``fidelity/2 ‖f - y‖² + ‖Hessian f‖₁ + sparsity ‖f‖₁`` by
  split Bregman iterations, then Richardson-Lucy.
* SelfDeblur (Ren et al. 2020): blind; one untrained network draws the picture, another the kernel,
  and both are fitted to the one blurred picture.
* W-DIP (Bredell et al. 2023): the same, and the picture is held near the Wiener filter of the
  kernel in use, less and less so.

The last two learn 5000 iterations of 128 channels a picture in their publications, hours on a CPU;
:class:`DeepPrior` says what is used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as f

from benchmarks.rivals import FineMicroscope
from zenhance.methods._shared.ssim import structural_dissimilarity
from zenhance.types import FloatArray

__all__ = ["DeepPrior", "deep_prior", "mean_shift_resolution", "sparse_deconvolution"]

FIDELITIES, SPARSITIES = (15.0, 150.0, 1500.0), (1.0, 10.0)
"""The published pair is (150, 10)."""
BREGMAN_ITERATIONS = 100


def mean_shift_resolution(y: FloatArray, fwhm_px: float, order: int = 1) -> FloatArray:
    """Return the MSSR picture (Y, X), from 0 to 1.

    Parameters
    ----------
    y : float array (Y, X)
        The picture.
    fwhm_px : float
        Of the PSF; half of it is the spatial bandwidth.
    order : int
        How often the magnitude is normalised by what the last order left out.
    """
    reach = max(round(0.5 * fwhm_px), 1)
    size = 2 * reach + 1
    low, high = (
        filtered(y, size=size) for filtered in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    largest = np.maximum(np.maximum(high - y, y - low), 1e-9)
    total, weights = np.zeros(y.shape), np.zeros(y.shape)
    padded = np.pad(y.astype(np.float64), reach, mode="symmetric")
    for row, column in product(range(size), repeat=2):
        squared = (row - reach) ** 2 + (column - reach) ** 2
        if not 0 < squared <= reach**2 + 1:
            continue
        near = padded[row : row + y.shape[0], column : column + y.shape[1]]
        weight = np.exp(-squared / reach**2 - ((near - y) / largest) ** 2)
        total += weight * near
        weights += weight
    found = _to_one(np.maximum(y - total / np.maximum(weights, 1e-12), 0.0))
    before = _to_one(y - y.min())
    for _ in range(order):
        left_out = np.abs(before - found)
        before, found = found, _to_one(found * _to_one(left_out.max() - left_out))
    return np.asarray(found, np.float32)


def sparse_deconvolution(
    y: FloatArray, microscope: FineMicroscope, pedestal: float
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the result of each fidelity, sparsity and number of Richardson-Lucy iterations.

    Parameters
    ----------
    y : float array (Y, X)
        Light above the background.
    microscope : FineMicroscope
        On the grid of the picture.
    pedestal : float
        As in :meth:`benchmarks.rivals.FineMicroscope.richardson_lucy`.
    """
    for fidelity, sparsity in product(FIDELITIES, SPARSITIES):
        sparse = _sparse(y, fidelity, sparsity)
        for count, image in microscope.richardson_lucy(sparse, pedestal):
            yield f"fidelity {fidelity:g}, sparsity {sparsity:g}, {count} iterations", image


def _sparse(y: FloatArray, fidelity: float, sparsity: float) -> FloatArray:
    """Minimise the sparse Hessian functional; every operator is a product of spectra."""
    edge = 16
    scale = max(float(y.max()), 1e-9)
    data = torch.from_numpy(np.pad(y / scale, edge, mode="symmetric").astype(np.float64))
    second = _second_differences(data.shape)
    spectrum = torch.fft.rfft2(data)
    power = (second.abs() ** 2).sum(dim=0)
    split = torch.zeros((len(second) + 1, *data.shape), dtype=data.dtype)
    rest = torch.zeros_like(split)
    thresholds = torch.tensor([1.0] * len(second) + [sparsity], dtype=data.dtype)[:, None, None]
    x = data
    for _ in range(BREGMAN_ITERATIONS):
        wanted = torch.fft.rfft2(split - rest)
        top = fidelity * spectrum + (second.conj() * wanted[:-1]).sum(dim=0) + wanted[-1]
        found = top / (fidelity + power + 1.0)
        x = torch.fft.irfft2(found, s=data.shape)
        seen = torch.cat([torch.fft.irfft2(second * found, s=data.shape), x[None]])
        moved = seen + rest
        # A threshold of one unit at the published fidelity of 150, for data that reach 1.
        split = moved.sign() * (moved.abs() - thresholds / 150.0).clamp(min=0.0)
        rest = moved - split
    inside = x[edge:-edge, edge:-edge].clamp(min=0.0) * scale
    return np.asarray(inside.numpy(), np.float32)


def _second_differences(shape: torch.Size) -> Tensor:
    """Return the spectra of the second differences yy, xx and twice the mixed one."""
    rows, columns = torch.fft.fftfreq(shape[0]), torch.fft.rfftfreq(shape[1])
    dy = torch.exp(2j * torch.pi * rows.double())[:, None] - 1.0
    dx = torch.exp(2j * torch.pi * columns.double())[None] - 1.0
    return torch.stack([dy * dy.conj() + 0 * dx, dx * dx.conj() + 0 * dy, 2.0 * dy * dx])


@dataclass(frozen=True, slots=True)
class DeepPrior:
    """Size of the networks that SelfDeblur and W-DIP fit to a picture.

    Parameters
    ----------
    channels : int
        Of the picture's network; published 128.
    iterations : int
        Of Adam; published 5000.
    kernel_px : int
        Odd side of the kernel that is sought.
    guided : bool
        Whether the Wiener filter guides it (W-DIP).
    seed : int
        Of weights and inputs.
    """

    channels: int = 16
    iterations: int = 600
    kernel_px: int = 15
    guided: bool = False
    seed: int = 0


class _Picture(nn.Module):
    """An hourglass with skips whose output is a picture from 0 to 1."""

    def __init__(self, channels: int, levels: int = 4, skip: int = 16, seen: int = 8) -> None:
        super().__init__()
        self.down, self.skips, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            entering = seen if level == 0 else channels
            self.skips.append(_unit(entering, skip, 1))
            self.down.append(
                nn.Sequential(_unit(entering, channels, 3, 2), _unit(channels, channels, 3))
            )
            self.up.append(
                nn.Sequential(_unit(channels + skip, channels, 3), _unit(channels, channels, 1))
            )
        self.last = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for skip, down in zip(self.skips, self.down, strict=True):
            kept.append(skip(x))
            x = down(x)
        for skipped, up in zip(reversed(kept), reversed(list(self.up)), strict=True):
            wide = f.interpolate(x, size=skipped.shape[-2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([wide, skipped], dim=1))
        return torch.sigmoid(self.last(x))


def _unit(entering: int, leaving: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(entering, leaving, size, stride, size // 2, padding_mode="reflect"),
        nn.BatchNorm2d(leaving),
        nn.LeakyReLU(0.2),
    )


def deep_prior(y: FloatArray, prior: DeepPrior) -> tuple[FloatArray, FloatArray]:
    """Fit a picture and a kernel to a blurred picture.

    Parameters
    ----------
    y : float array (Y, X)
        The blurred picture.
    prior : DeepPrior
        Networks and iterations.

    Returns
    -------
    image : float32 array (Y, X)
        In the unit of ``y``.
    kernel : float32 array (K, K)
        Its sum is 1.
    """
    torch.manual_seed(prior.seed)
    lowest, scale = float(y.min()), max(float(np.ptp(y)), 1e-9)
    data = torch.from_numpy(np.ascontiguousarray((y - lowest) / scale, np.float32))[None, None]
    reach, side = prior.kernel_px // 2, prior.kernel_px
    draw = _Picture(prior.channels)
    shape = nn.Sequential(nn.Linear(200, 1000), nn.ReLU6(), nn.Linear(1000, side**2))
    noise = torch.rand(1, 8, *(n + 2 * reach for n in y.shape)) * 0.1
    code = torch.rand(200) * 0.1
    optimiser = torch.optim.Adam(
        [{"params": draw.parameters(), "lr": 0.01}, {"params": shape.parameters(), "lr": 1e-4}]
    )
    halved = [int(prior.iterations * share) for share in (0.4, 0.6, 0.8)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, halved, 0.5)
    for step in range(prior.iterations):
        optimiser.zero_grad()
        image = draw(noise + 0.001 * torch.randn_like(noise))
        kernel = torch.softmax(shape(code), dim=0).reshape(1, 1, side, side)
        model = f.conv2d(image, kernel)
        early = step < prior.iterations // 5
        loss = f.mse_loss(model, data) if early else structural_dissimilarity(model, data)
        if prior.guided:
            guide = _wiener(data, kernel.detach())
            inside = image[..., reach : image.shape[-2] - reach, reach : image.shape[-1] - reach]
            loss = loss + 0.1 * (1 - step / prior.iterations) * f.mse_loss(inside, guide)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        image = draw(noise)[0, 0, reach : reach + y.shape[0], reach : reach + y.shape[1]]
        kernel = torch.softmax(shape(code), dim=0).reshape(side, side)
    return np.asarray(image.numpy() * scale + lowest, np.float32), kernel.numpy()


def _wiener(data: Tensor, kernel: Tensor, noise_to_signal: float = 0.01) -> Tensor:
    """Return the Wiener filter of a picture for a kernel that ``conv2d`` applied."""
    size = data.shape[-2:]
    padded = torch.zeros(size)
    side = kernel.shape[-1]
    padded[:side, :side] = kernel[0, 0].flip(0, 1)
    spectrum = torch.fft.rfft2(padded.roll((-(side // 2), -(side // 2)), (0, 1)))
    filtered = spectrum.conj() / (spectrum.abs() ** 2 + noise_to_signal)
    return torch.fft.irfft2(torch.fft.rfft2(data) * filtered, s=size).clamp(0.0, 1.0)


def _to_one(image: FloatArray | np.ndarray) -> np.ndarray:
    return image / max(float(image.max()), 1e-12)
