"""Rivals of DPS: Wiener, Richardson-Lucy, and Richardson-Lucy with total variation.

All work on the grid of the truth, with the true PSF and camera and the setting that is best by the
truth, which favours them: no user knows it.

.. math:: y = B A x, \\qquad x \\leftarrow x\\, A^T B^T \\frac{y}{B A x + b}

with A the blur on the fine grid and B the binning of its pixels to those of the camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as f

from zenhance.physics.blur import Blur
from zenhance.physics.psf_base import Psf
from zenhance.solvers.total_variation import variation_factor_
from zenhance.steps import drain
from zenhance.types import FloatArray

__all__ = ["ITERATIONS", "NOISE_TO_SIGNAL", "TV_WEIGHTS", "FineMicroscope", "enlarged"]

ITERATIONS = (2, 4, 7, 10, 15, 20, 30, 45, 70, 100, 150, 200)
TV_WEIGHTS = (0.003, 0.01)
NOISE_TO_SIGNAL = tuple(float(v) for v in np.geomspace(1e-4, 1.0, 13))


def enlarged(image: FloatArray, finer: int) -> FloatArray:
    """Return an image (Y, X) on a grid ``finer`` times as fine, by cubic interpolation."""
    if finer == 1:
        return image
    wide = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return np.asarray(
        f.interpolate(wide, scale_factor=finer, mode="bicubic", align_corners=False)[0, 0].numpy(),
        np.float32,
    )


@dataclass(frozen=True)
class FineMicroscope:
    """A microscope whose camera bins pixels of a finer grid.

    Parameters
    ----------
    psf : Psf
        Of the microscope.
    pixel_um : float
        Of the camera.
    finer : int
        Pixels of the truth's grid along a camera's pixel.
    """

    psf: Psf
    pixel_um: float
    finer: int = 2

    def blur(self) -> Blur:
        """Return A."""
        fine = self.pixel_um / self.finer
        return Blur.from_kernel(self.psf.kernel((1.0, fine, fine), 2)[0])

    def expected(self, light: FloatArray) -> FloatArray:
        """Return the expected picture (Y, X) of light on the fine grid."""
        seen = _binned(
            self.blur()(torch.from_numpy(np.ascontiguousarray(light, np.float32))[None]), self.finer
        )
        return np.asarray(seen[0].numpy(), np.float32)

    def richardson_lucy(
        self, y: FloatArray, pedestal: float, tv_weight: float = 0.0
    ) -> Iterator[tuple[int, FloatArray]]:
        """Yield the estimate after each of :data:`ITERATIONS`.

        Parameters
        ----------
        y : float32 array (Y, X)
            Light above the background, which is ``pedestal`` high; both in the same unit,
            proportional to photons.
        pedestal : float
            b above.
        tv_weight : float
            Of total variation (Dey et al. 2006); 0 for none.
        """
        blur = self.blur()
        data = (
            torch.from_numpy(np.ascontiguousarray(y, np.float32))[None].add(pedestal).clamp_min(0.0)
        )
        x = torch.full(
            (1, data.shape[1] * self.finer, data.shape[2] * self.finer),
            max(float(data.mean()) - pedestal, 1e-3),
        )
        smoothing = max(0.01, 8 * tv_weight) * float(np.percentile(y, 99.9))
        for count in range(1, ITERATIONS[-1] + 1):
            model = _binned(blur(x), self.finer).add_(pedestal).clamp_min_(1e-6)
            step = blur.adjoint(_spread(data / model, self.finer)).mul_(x)
            x = (
                variation_factor_(step, x, tv_weight, smoothing, (0.0, 1.0, 1.0))
                if tv_weight
                else step
            )
            if count in ITERATIONS:
                yield count, np.asarray(x[0].numpy(), np.float32).copy()

    def wiener(self, y: FloatArray) -> Iterator[tuple[float, FloatArray]]:
        """Yield the filtered picture, enlarged, for each of :data:`NOISE_TO_SIGNAL`."""
        from zenhance.solvers.wiener import Wiener

        kernel = self.psf.kernel((1.0, self.pixel_um, self.pixel_um), 2)
        data = torch.from_numpy(np.ascontiguousarray(y, np.float32))[None]
        for ratio in NOISE_TO_SIGNAL:
            found: Tensor = drain(Wiener(kernel, ratio).apply(data))
            yield ratio, enlarged(found[0].numpy(), self.finer)


def _binned(x: Tensor, finer: int) -> Tensor:
    return f.avg_pool2d(x[None], finer)[0] if finer > 1 else x


def _spread(x: Tensor, finer: int) -> Tensor:
    """Apply the adjoint of binning, times the pixels of a bin, so that ones stay ones."""
    return x.repeat_interleave(finer, -1).repeat_interleave(finer, -2) if finer > 1 else x
