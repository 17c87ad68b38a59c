"""Microscopes by name, from good to unusable, and the two of the published filament data.

The filament sets repeat the simulated tubulin of S. Muttavarapu, "Variational autoencoders for
image deconvolution in fluorescence microscopy" (2022): pixels of 25 nm, a PSF of "FWHM" 3.8 pixels
with low noise, and of 3.0 pixels with high noise. The source uses these numbers as standard
deviations, which alone makes them physical: 3.8 px = 95 nm is an FWHM of 224 nm, 3.0 px = 75 nm one
of 177 nm. They are standard deviations here too. The axial ones belong to a wide-field lens of that
resolution (Zhang et al., Applied Optics 46:1819, 2007): NA 1.15 in water, NA 1.45 in oil.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zenhance.contract.settings import validate
from zenhance.errors import StackError
from zenhance.simulate.microscope import Microscope
from zenhance.wording import hint_for, quoted

__all__ = ["PRESETS", "as_microscope", "microscope"]

# A thin specimen in focus: the blur is the same everywhere, nothing is absorbed or scattered.
_THIN: dict[str, Any] = {
    "haze_deep": 0.0,
    "attenuation_um": 1e6,
    "offset": 100.0,
    "depth_steps": 2,
    "pinhole_au": 100.0,
}

PRESETS: dict[str, dict[str, Any]] = {
    "good": {
        "sigma_shallow_um": (0.45, 0.13, 0.13),
        "sigma_deep_um": (0.7, 0.2, 0.2),
        "deep_at_um": 30.0,
        "haze_deep": 0.1,
        "attenuation_um": 40.0,
        "photons": 800.0,
        "background_photons": 0.3,
        "gain": 2.5,
        "offset": 40.0,
        "read_noise": 3.0,
        "bits": 12,
        "na": 1.1,
        "pinhole_au": 1.0,
    },
    "typical": {
        "sigma_shallow_um": (1.0, 0.14, 0.14),
        "sigma_deep_um": (1.4, 0.17, 0.17),
        "deep_at_um": 40.0,
        "haze_deep": 0.13,
        "haze_sigma_um": (4.0, 2.5, 2.5),
        "attenuation_um": 58.0,
        "photons": 400.0,
        "background_photons": 5.0,
        "gain": 1.22,
        "offset": 11.0,
        "read_noise": 0.7,
        "dtype": "uint8",
    },
    "dim": {
        "sigma_shallow_um": (0.56, 0.16, 0.16),
        "sigma_deep_um": (1.0, 0.3, 0.3),
        "photons": 15.0,
        "background_photons": 0.5,
        "gain": 12.0,
        "offset": 10.0,
        "read_noise": 4.0,
        "bits": 12,
    },
    "deep": {
        "sigma_shallow_um": (0.7, 0.2, 0.2),
        "sigma_deep_um": (1.8, 0.55, 0.55),
        "haze_deep": 0.5,
        "attenuation_um": 7.0,
        "photons": 120.0,
        "background_photons": 1.0,
        "gain": 20.0,
        "bleached_per_plane": 0.01,
    },
    "throw_away": {
        "sigma_shallow_um": (0.9, 0.25, 0.25),
        "sigma_deep_um": (2.2, 0.7, 0.7),
        "haze_deep": 0.6,
        "attenuation_um": 5.0,
        "photons": 12.0,
        "background_photons": 2.0,
        "gain": 8.0,
        "offset": 12.0,
        "read_noise": 8.0,
        "dtype": "uint8",
        "bleached_per_plane": 0.02,
        "jitter_um": 0.15,
        "drift_um_per_plane": (0.03, 0.02),
        "hot_pixels": 0.002,
        "hot_grey": 80.0,
        "pinhole_au": 3.0,
    },
    "filaments_set1": {
        **_THIN,
        "sigma_shallow_um": (0.41, 0.095, 0.095),
        "sigma_deep_um": (0.41, 0.095, 0.095),
        "photons": 3000.0,
        "background_photons": 8.0,
        "gain": 0.4,
        "read_noise": 2.0,
        "na": 1.15,
        "refractive_index": 1.33,
        "excitation_nm": (488.0,),
        "emission_nm": (520.0,),
    },
    "filaments_set2": {
        **_THIN,
        "sigma_shallow_um": (0.29, 0.075, 0.075),
        "sigma_deep_um": (0.29, 0.075, 0.075),
        "photons": 300.0,
        "background_photons": 2.0,
        "gain": 3.0,
        "read_noise": 10.0,
        "na": 1.45,
        "refractive_index": 1.515,
        "excitation_nm": (488.0,),
        "emission_nm": (520.0,),
    },
}
"""Name → settings of :class:`~zenhance.simulate.microscope.Microscope` (not the defaults)."""


def microscope(preset: str | None = None, **settings: Any) -> Microscope:
    """Return a microscope by name, with settings of one's own in place of the preset's.

    Parameters
    ----------
    preset : str, optional
        One of :data:`PRESETS`; left out, the microscope's defaults.
    **settings
        Fields of :class:`~zenhance.simulate.microscope.Microscope`.

    Raises
    ------
    StackError
        There is no such preset or setting, or a value is out of range.
    """
    if preset is not None and preset not in PRESETS:
        raise StackError(f"there is no microscope {quoted(preset)}; {hint_for(preset, PRESETS)}")
    start = {} if preset is None else PRESETS[preset]
    return validate(Microscope, {**start, **settings}, "microscope setting", StackError)


def as_microscope(given: Microscope | Mapping[str, Any] | str | None) -> Microscope:
    """Return a microscope given as itself, by settings (with an optional ``preset``), or by name.

    Raises
    ------
    StackError
        A preset or a setting is unknown, or a value is out of range.
    """
    if isinstance(given, Microscope):
        return given
    return microscope(given) if isinstance(given, str) else microscope(**(given or {}))
