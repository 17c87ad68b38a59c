"""Point spread functions in micrometres, from widths, objective data or measured beads."""

from __future__ import annotations

from zenhance.physics.psf_base import (
    FWHM_PER_SIGMA,
    GaussianShape,
    Psf,
    PsfOrigin,
    PsfShape,
    PsfValue,
    gaussian,
    gaussian_from_fwhm,
    gaussian_kernel_1d,
)
from zenhance.physics.psf_diffraction import airy, gibson_lanni
from zenhance.physics.psf_measured import measured
from zenhance.physics.psf_models import confocal, confocal_sigma_um, widefield, widefield_sigma_um
from zenhance.physics.psf_spec import DEFAULTS, PSF_NUMBERS, ReadMeasured, parse_psf, resolve_psf
from zenhance.physics.psf_sr import sr_psf, sr_psf_from_fwhm

__all__ = [
    "DEFAULTS",
    "FWHM_PER_SIGMA",
    "PSF_NUMBERS",
    "GaussianShape",
    "Psf",
    "PsfOrigin",
    "PsfShape",
    "PsfValue",
    "ReadMeasured",
    "airy",
    "confocal",
    "confocal_sigma_um",
    "gaussian",
    "gaussian_from_fwhm",
    "gaussian_kernel_1d",
    "gibson_lanni",
    "measured",
    "parse_psf",
    "resolve_psf",
    "sr_psf",
    "sr_psf_from_fwhm",
    "widefield",
    "widefield_sigma_um",
]
