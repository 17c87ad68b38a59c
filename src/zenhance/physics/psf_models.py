"""Wide-field and confocal point spread functions from the numbers on the objective.

Source of the Gaussian approximations: B. Zhang, J. Zerubia, J.-C. Olivo-Marin, "Gaussian
approximations of fluorescence microscope point-spread function models", Applied Optics 46(10),
1819-1829 (2007), doi 10.1364/AO.46.001819. Each matches the curvature of the diffraction model at
its peak. With the wave number k = 2 pi / wavelength and the half angle sin(alpha) = NA / n::

    paraxial      sigma_r = sqrt(2) / (k NA)             = 0.225 wavelength / NA
                  sigma_z = 2 sqrt(6) n / (k NA^2)       = 0.780 n wavelength / NA^2
    nonparaxial   see :func:`_nonparaxial_um`; equal to the paraxial ones for small NA
    confocal      1 / sigma^2 = 1 / sigma_excitation^2 + w / sigma_emission^2,
                  w(pinhole) from 1 (closed) to 0 (wide open)
"""

from __future__ import annotations

import math

from scipy.special import j0, j1

from zenhance.errors import MethodError
from zenhance.physics.psf_base import GaussianShape, Psf, PsfOrigin, PsfValue

__all__ = [
    "LIMITS",
    "check_optics",
    "confocal",
    "confocal_sigma_um",
    "widefield",
    "widefield_sigma_um",
]

LIMITS = {
    "na": (0.02, 1.75),
    "n": (1.0, 1.8),
    "ex_nm": (200.0, 2000.0),
    "em_nm": (200.0, 2000.0),
    "pinhole_au": (0.0, 100.0),
    "n_sample": (1.0, 1.8),
    "depth_um": (0.0, 1000.0),
}
UNITS = {"fwhm_um": "µm", "ex_nm": "nm", "em_nm": "nm", "pinhole_au": "AU", "depth_um": "µm"}


def check_optics(**numbers: float) -> None:
    """Refuse numbers that no light microscope has.

    Raises
    ------
    MethodError
        A number is outside :data:`LIMITS`, or the numerical aperture is not below the refractive
        index.
    """
    for name, value in numbers.items():
        low, high = LIMITS[name]
        if not (math.isfinite(value) and low <= value <= high):
            raise MethodError(
                f"{name} is {value:g}, allowed are {low:g} to {high:g}; correct it in the PSF, "
                f"for example {name}={_example(name)}"
            )
    na, n = numbers.get("na", 0.0), numbers.get("n", math.inf)
    if na >= n:
        raise MethodError(
            f"na {na:g} is not below the refractive index n {n:g}; "
            "give n of the immersion (1 air, 1.33 water, 1.515 oil)"
        )


def _example(name: str) -> str:
    return {
        "na": "1.2",
        "n": "1.33",
        "ex_nm": "488",
        "em_nm": "520",
        "pinhole_au": "1",
        "n_sample": "1.36",
        "depth_um": "10",
    }[name]


def _paraxial_um(na: float, n: float, wavelength_um: float) -> tuple[float, float]:
    """Zhang 2007, 3-D wide-field, paraxial: (sigma_z, sigma_r)."""
    k = 2.0 * math.pi / wavelength_um
    return 2.0 * math.sqrt(6.0) * n / (k * na**2), math.sqrt(2.0) / (k * na)


def _nonparaxial_um(na: float, n: float, wavelength_um: float) -> tuple[float, float]:
    """Zhang 2007, 3-D wide-field, nonparaxial: (sigma_z, sigma_r)."""
    k = 2.0 * math.pi / wavelength_um
    c = math.cos(math.asin(na / n))
    radial = (4.0 - 7.0 * c**1.5 + 3.0 * c**3.5) / (7.0 * (1.0 - c**1.5))
    axial = 4.0 * c**5 - 25.0 * c**3.5 + 42.0 * c**2.5 - 25.0 * c**1.5 + 4.0
    sigma_r = 1.0 / (n * k * math.sqrt(radial))
    sigma_z = 5.0 * math.sqrt(7.0) * (1.0 - c**1.5) / (math.sqrt(6.0) * n * k * math.sqrt(axial))
    return sigma_z, sigma_r


def widefield_sigma_um(
    na: float, n: float, em_nm: float, paraxial: bool = False
) -> tuple[float, float, float]:
    """Return the wide-field standard deviations (z, y, x) in µm (Zhang 2007, table 1)."""
    check_optics(na=na, n=n, em_nm=em_nm)
    # Below NA / n = 0.1 the nonparaxial expressions are differences of nearly equal numbers; they
    # equal the paraxial ones to 0.5 %.
    model = _paraxial_um if paraxial or na / n < 0.1 else _nonparaxial_um
    sigma_z, sigma_r = model(na, n, em_nm * 1e-3)
    return (sigma_z, sigma_r, sigma_r)


def _radial_pinhole_weight(r0_um: float, sigma_em_um: float) -> float:
    """How much the emission narrows the lateral PSF: 1 for a closed pinhole, 0 for a wide one.

    Zhang 2007, nonparaxial 3-D confocal: u / (exp(u) - 1), u = r0^2 / (2 sigma_em^2).
    """
    u = r0_um**2 / (2.0 * sigma_em_um**2)
    if u < 1e-8:
        return 1.0
    return u / math.expm1(u) if u < 700.0 else 0.0


def _axial_pinhole_weight(c2: float) -> float:
    """How much the emission narrows the axial PSF: 1 for a closed pinhole, 0 for a wide one.

    Zhang 2007, paraxial 3-D confocal, c2 = k_em r0 NA: (48 c2^2 (J0^2 + J1^2) - 192 J1^2) / (c2^4
    (1 - J0^2 - J1^2)).
    """
    if c2 < 0.1:
        # 0/0 in floating point; the series begins 1 - c2^4 / 720, which is 1 to 1.4e-7 here.
        return 1.0
    squares = j0(c2) ** 2 + j1(c2) ** 2
    return float((48.0 * c2**2 * squares - 192.0 * j1(c2) ** 2) / (c2**4 * (1.0 - squares)))


def confocal_sigma_um(
    na: float, n: float, ex_nm: float, em_nm: float, pinhole_au: float
) -> tuple[float, float, float]:
    """Return the confocal standard deviations (z, y, x) in µm.

    Widths of excitation and emission are the nonparaxial ones of Zhang 2007. The pinhole of radius
    r0 = 0.61 em / NA per Airy unit (object space) lets the emission narrow the excitation spot by a
    weight: laterally that of the nonparaxial confocal model, axially that of the paraxial one (the
    paper's nonparaxial model has no pinhole along z).
    """
    check_optics(na=na, n=n, ex_nm=ex_nm, em_nm=em_nm, pinhole_au=pinhole_au)
    z_ex, r_ex, _ = widefield_sigma_um(na, n, ex_nm)
    z_em, r_em, _ = widefield_sigma_um(na, n, em_nm)
    r0_um = pinhole_au * 0.61 * em_nm * 1e-3 / na
    c2 = 2.0 * math.pi / (em_nm * 1e-3) * r0_um * na
    sigma_r = (r_ex**-2 + _radial_pinhole_weight(r0_um, r_em) * r_em**-2) ** -0.5
    sigma_z = (z_ex**-2 + _axial_pinhole_weight(c2) * z_em**-2) ** -0.5
    return (sigma_z, sigma_r, sigma_r)


def optical_values(origins: dict[str, PsfOrigin] | None, **numbers: float) -> tuple[PsfValue, ...]:
    """Mark each number with its unit and its origin; 'user' where nothing else is said."""
    marks = origins or {}
    return tuple(
        PsfValue(name, float(value), UNITS.get(name, ""), marks.get(name, "user"))
        for name, value in numbers.items()
    )


def confocal(
    na: float,
    n: float,
    ex_nm: float,
    em_nm: float,
    pinhole_au: float = 1.0,
    origins: dict[str, PsfOrigin] | None = None,
) -> Psf:
    """Return the Gaussian approximation of a confocal PSF.

    Parameters
    ----------
    na, n : float
        Numerical aperture, and refractive index of the immersion.
    ex_nm, em_nm : float
        Wavelengths of excitation and emission in vacuum, in nm.
    pinhole_au : float
        Pinhole diameter in Airy units (1 AU = 1.22 em / NA in object space); 0 is an infinitely
        small pinhole.
    origins : dict, optional
        Where each number came from; 'user' where not said.

    Raises
    ------
    MethodError
        A number is outside what a light microscope has.

    References
    ----------
    Zhang, Zerubia, Olivo-Marin, Appl. Opt. 46, 1819 (2007); see :func:`confocal_sigma_um`.
    """
    sigma = confocal_sigma_um(na, n, ex_nm, em_nm, pinhole_au)
    return Psf(
        "confocal",
        optical_values(origins, na=na, n=n, ex_nm=ex_nm, em_nm=em_nm, pinhole_au=pinhole_au),
        GaussianShape(sigma),
    )


def widefield(
    na: float, n: float, em_nm: float, origins: dict[str, PsfOrigin] | None = None
) -> Psf:
    """Return the Gaussian approximation of a wide-field PSF (Zhang 2007, nonparaxial).

    It follows the central peak. The rings and the cone of a wide-field microscope, which hold much
    of its light, need :func:`gibson_lanni`.
    """
    sigma = widefield_sigma_um(na, n, em_nm)
    return Psf("widefield", optical_values(origins, na=na, n=n, em_nm=em_nm), GaussianShape(sigma))
