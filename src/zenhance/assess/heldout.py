"""Held-out photons: a method sees nine tenths of the light and has to predict the last tenth.

Each photon of the measurement goes to one of two independent parts. A method that keeps the signal
predicts the part it has not seen; a method that keeps noise or invents structures predicts it worse
than plain smoothing. The check needs raw counts (not averaged, not filtered) and runs the method
once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.assess.forward import block_factors, blur_result, fit_affine
from zenhance.assess.photons import Camera
from zenhance.assess.small_counts import poisson_deviance
from zenhance.errors import StackError
from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import correlation_px
from zenhance.physics.psf_base import Psf
from zenhance.physics.thinning import split_photons
from zenhance.types import FloatArray

__all__ = ["HeldOutReport", "held_out_photons"]

SEEN_SHARE = 0.9
GAUSSIAN_WIDTHS = (0.35, 0.5, 0.7, 1.0, 1.4)
"""Smoothing widths tried for the baseline, times the PSF's; the best counts."""
RL_ITERATIONS = 10
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOutReport:
    """How well the held-out photons were predicted.

    Parameters
    ----------
    grade : {'pass', 'warn', 'fail'}
        'fail': worse than Gaussian smoothing by more than two standard errors; 'pass': better than
        it, and not worse than ten iterations of Richardson-Lucy by more than two standard errors;
        'warn': in between.
    method, gaussian, richardson_lucy : float
        Mean Poisson deviance per voxel of the held-out photons; the lower the better.
    standard_error : float
        Of the difference between method and Gaussian smoothing.
    standard_error_rl : float
        Of the difference between method and Richardson-Lucy.
    correlated : bool
        The noise of neighbouring voxels is correlated, as after filtering or resampling: the parts
        are then not independent, and the grade is 'warn'.
    """

    grade: Literal["pass", "warn", "fail"]
    method: float
    gaussian: float
    richardson_lucy: float
    standard_error: float
    standard_error_rl: float
    correlated: bool = False


def held_out_photons(
    raw: npt.NDArray[Any],
    method: Callable[[FloatArray], npt.NDArray[Any]],
    psf: Psf,
    voxel_size_um: tuple[float, float, float],
    camera: Camera,
    *,
    deblurred: bool = True,
    seed: int = 0,
) -> HeldOutReport:
    """Run a method on 90 % of the photons and score how it predicts the other 10 %.

    Parameters
    ----------
    raw : array (Z, Y, X)
        Grey values as measured, neither averaged nor filtered.
    method : callable
        Takes grey values (float32, Z, Y, X) and returns a volume on the same voxels, or a whole
        number of times finer.
    psf : Psf
        Of the microscope.
    voxel_size_um : tuple of float
        (z, y, x).
    camera : Camera
        Gain, offset and read noise in grey values.
    deblurred : bool
        False for a method that only takes noise away.
    seed : int
        Of the split.

    Raises
    ------
    StackError
        The raw volume is not 3-D, or the method's result does not fit it.
    """
    if raw.ndim != 3:
        raise StackError(
            f"a measurement of shape {raw.shape} cannot be split; "
            "give one volume (z, y, x), with Z = 1 for a plane"
        )
    seen, hidden = split_photons(raw, camera, SEEN_SHARE, seed)
    grey = seen * np.float32(camera.gain) + np.float32(camera.offset)
    extra = (1 - SEEN_SHARE) * (camera.read_noise / camera.gain) ** 2
    counts = np.maximum(hidden + extra, 0.0)

    def deviance(expected_grey: npt.NDArray[Any]) -> Float64Array:
        photons = np.maximum((expected_grey.astype(np.float64) - camera.offset) / camera.gain, 1e-3)
        return poisson_deviance(counts, photons * (1 - SEEN_SHARE) / SEEN_SHARE + extra)

    def predict(result: npt.NDArray[Any], blurs: bool) -> FloatArray:
        factors = block_factors(raw.shape, result.shape)
        blurred = blur_result(
            np.nan_to_num(result.astype(np.float32)), psf if blurs else None, voxel_size_um, factors
        )
        fit = fit_affine(blurred, grey, camera)
        return np.asarray(fit.slope * blurred + fit.offset, np.float32)

    ours = deviance(predict(np.asarray(method(grey)), deblurred))
    sigma = [
        s if n > 1 else 0.0 for s, n in zip(psf.sigma_px(voxel_size_um), raw.shape, strict=True)
    ]
    smoothings = [
        deviance(ndimage.gaussian_filter(grey, [w * s for s in sigma], mode="reflect"))
        for w in GAUSSIAN_WIDTHS
    ]
    gaussian = min(smoothings, key=lambda d: float(d.mean()))
    reference = deviance(predict(_richardson_lucy(grey, psf, voxel_size_um, camera), True))
    report = _report(ours, gaussian, reference)
    if correlation_px(measure_blocks(raw)) > 0.0:
        return replace(report, grade="warn", correlated=True)
    return report


def _richardson_lucy(
    grey: FloatArray, psf: Psf, voxel_size_um: tuple[float, float, float], camera: Camera
) -> FloatArray:
    import torch

    from zenhance.physics.blur import Blur
    from zenhance.solvers.richardson_lucy import RichardsonLucy
    from zenhance.solvers.schedule import CameraModel

    y = torch.from_numpy(grey)
    background = float(np.percentile(grey, 1.0))
    signal = max(float(np.percentile(grey, 99.0)) - background, 1e-6)
    model = CameraModel(background, camera.gain, camera.offset, camera.read_noise)
    solver = RichardsonLucy(
        Blur.from_psf(psf, voxel_size_um, (grey.shape[0], grey.shape[1], grey.shape[2])),
        y,
        model,
        signal,
    )
    steps = solver.measure(RL_ITERATIONS, accelerate=False)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            x, schedule = done.value
            return np.asarray(solver.image(x, schedule).numpy(), np.float32)


def _report(ours: Float64Array, gaussian: Float64Array, reference: Float64Array) -> HeldOutReport:
    def error(other: Float64Array) -> float:
        return float(np.std(ours - other)) / math.sqrt(ours.size)

    method, smooth, rl = (float(d.mean()) for d in (ours, gaussian, reference))
    se, se_rl = error(gaussian), error(reference)
    grade: Literal["pass", "warn", "fail"] = "warn"
    if method > smooth + 2 * se:
        grade = "fail"
    elif method < smooth and method <= rl + 2 * se_rl:
        grade = "pass"
    return HeldOutReport(grade, method, smooth, rl, se, se_rl)
