"""Deconvolution with a known PSF: Richardson-Lucy, Wiener or ImageJ's plane-by-plane plugins.

``prepare`` decides everything that belongs to the volume: background, noise, number of iterations,
extrapolation, flux. It solves a volume of up to ``whole_voxels`` as a whole and cuts its tiles out
of the result. For a larger volume it solves four fixed blocks, and each tile replays their
schedule.
"""

from __future__ import annotations

import math
from collections.abc import Generator

from zenhance.contract.spec import (
    WHOLE_VOXELS,
    MethodContext,
    MethodSpec,
    PlanContext,
    Prepared,
    Reference,
)
from zenhance.errors import MethodError
from zenhance.methods.deconvolution.parameters import GaussianDeconvolutionParameters
from zenhance.solvers.receptive_field import (
    SMALLEST_NOISE_TO_SIGNAL,
    iteration_reach_px,
    wiener_reach_px,
)
from zenhance.types import Triple

__all__ = ["METHOD", "GaussianDeconvolution", "GaussianDeconvolutionParameters"]


class GaussianDeconvolution:
    """Deconvolution as the registry hands it out; see the module's docstring."""

    spec = MethodSpec(
        name="gaussian_deconvolution",
        title="Deconvolution (Richardson-Lucy, Wiener, ImageJ)",
        summary=(
            "Removes the microscope's blur without training; sharpened noise looks like grains "
            "or rings."
        ),
        parameters=GaussianDeconvolutionParameters,
        bytes_per_voxel=112,
        source="Richardson 1972; Lucy 1974; Biggs & Andrews 1997; Dey et al. 2006; Dougherty 2005",
        references=(
            Reference(
                key="richardson1972",
                authors="Richardson, William Hadley",
                title="Bayesian-Based Iterative Method of Image Restoration",
                journal="Journal of the Optical Society of America 62:55",
                year=1972,
                doi="10.1364/JOSA.62.000055",
            ),
            Reference(
                key="lucy1974",
                authors="Lucy, L. B.",
                title=("An iterative technique for the rectification of observed distributions"),
                journal="The Astronomical Journal 79:745",
                year=1974,
                doi="10.1086/111605",
            ),
            Reference(
                key="biggs1997",
                authors="Biggs, David S. C. and Andrews, Mark",
                title="Acceleration of iterative image restoration algorithms",
                journal="Applied Optics 36:1766",
                year=1997,
                doi="10.1364/AO.36.001766",
            ),
            Reference(
                key="dey2006",
                authors="Dey, Nicolas and others",
                title=(
                    "Richardson-Lucy algorithm with total variation regularization for 3D c"
                    "onfocal microscope deconvolution"
                ),
                journal="Microscopy Research and Technique 69:260",
                year=2006,
                doi="10.1002/jemt.20294",
            ),
        ),
    )

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Measure the volume, or solve it if it is small.

        Raises
        ------
        MethodError
            The point spread function is missing.
        """
        variant = context.parameters.variant
        if context.psf is None:
            raise MethodError(
                "deconvolution needs a point spread function; give one with --psf, "
                "for example --psf sigma_um=0.3,0.1,0.1"
            )
        if variant == "imagej":
            from zenhance.methods.deconvolution.imagej import prepare_imagej as prepare
        elif variant == "wiener":
            from zenhance.methods.deconvolution.wiener import prepare_wiener as prepare
        else:
            from zenhance.methods.deconvolution.richardson_lucy import (
                prepare_richardson_lucy as prepare,
            )
        return (yield from prepare(context, context.psf))

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return the largest halo that ``prepare`` can ask for; cheap, and without torch."""
        parameters, psf, shape_px = plan.parameters, plan.psf, plan.shape_px
        if parameters.variant == "imagej":
            return 0, shape_px[1], shape_px[2]
        if psf is None or math.prod(shape_px) <= WHOLE_VOXELS:
            return 0, 0, 0
        kernel = psf.kernel(plan.voxel_size_um, parameters.ndim(shape_px))
        if parameters.variant == "wiener":
            span = [SMALLEST_NOISE_TO_SIGNAL * 10.0**k for k in range(8)]
            return wiener_reach_px(
                kernel, [parameters.wiener_noise] if parameters.wiener_noise else span
            )
        return iteration_reach_px(
            [n // 2 for n in kernel.shape], parameters.most_iterations, parameters.acceleration
        )


METHOD = GaussianDeconvolution()
"""The method, for the registry."""
