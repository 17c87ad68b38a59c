"""Choose a run's point spread function: the user's, else the file's, else a stated default.

::

    sigma_um=0.5,0.2,0.2          fwhm_um=0.7,0.3,0.3          (two numbers y,x for a 2-D image)
    confocal:na=1.2,n=1.33,ex_nm=488,em_nm=520,pinhole_au=1
    widefield:na=1.2,n=1.33,em_nm=520        airy:na=...,n=...,em_nm=...
    gibson_lanni:na=1.2,n=1.33,em_nm=520,n_sample=1.36,depth_um=10
    srpsf:na=1.49,em_nm=520,m_f=2           (a plane; m_f 1 wide field, 1.41 confocal, 2 SIM;
                                             or fwhm_um=0.1 alone)
    srpsf_sim:na=1.49,em_nm=520             (m_f 2; likewise srpsf_confocal, srpsf_widefield)
    measured:beads.tif
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import MethodError
from zenhance.physics.psf_base import Psf, PsfOrigin, gaussian, gaussian_from_fwhm
from zenhance.physics.psf_diffraction import airy, gibson_lanni
from zenhance.physics.psf_measured import measured
from zenhance.physics.psf_models import LIMITS, confocal, widefield
from zenhance.physics.psf_sr import MODULATION, sr_psf, sr_psf_from_fwhm
from zenhance.wording import hint_for

__all__ = ["DEFAULTS", "PSF_NUMBERS", "ReadMeasured", "parse_psf", "resolve_psf"]

ReadMeasured = Callable[[str], tuple[npt.NDArray[Any], tuple[float, float, float]]]
Known = dict[str, tuple[float, PsfOrigin]]

DEFAULTS = {
    "na": 0.8,
    "n": 1.33,
    "ex_nm": 488.0,
    "em_nm": 520.0,
    "pinhole_au": 1.0,
    "n_sample": 1.36,
    "depth_um": 0.0,
    "m_f": 1.0,
}
"""Water immersion, GFP, pinhole 1 AU, tissue index 1.36, focus at the coverslip, unmodulated."""

PSF_NUMBERS: dict[str, tuple[str, ...]] = {
    "confocal": ("na", "n", "ex_nm", "em_nm", "pinhole_au"),
    "widefield": ("na", "n", "em_nm"),
    "airy": ("na", "n", "em_nm"),
    "gibson_lanni": ("na", "n", "em_nm", "n_sample", "depth_um"),
    "srpsf": ("na", "em_nm", "m_f"),
}
"""The numbers that each model of a point spread function takes."""
_SR = "srpsf"
_METADATA_KEYS = {
    "na": "na",
    "n": "refractive_index",
    "ex_nm": "excitation_nm",
    "em_nm": "emission_nm",
    "pinhole_au": "pinhole_au",
}
_FORMS = (
    "sigma_um=Z,Y,X, fwhm_um=Z,Y,X, confocal:..., widefield:..., airy:..., gibson_lanni:..., "
    "srpsf:... or measured:FILE"
)
_OIL_N = 1.515
_DEFAULT_MAX_NA_WATER = 1.27


def _numbers(text: str, name: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise MethodError(
            f'"{text[:60]}" in the PSF is not a list of numbers; write {name}=Z,Y,X in µm, '
            f"for example {name}=0.5,0.2,0.2"
        ) from error
    return values


def _widths(text: str, name: str, ndim: int) -> tuple[float, ...]:
    values = _numbers(text, name)
    if ndim == 3 and len(values) != 3:
        raise MethodError(
            f"{name} has {len(values)} numbers, a stack needs three; write {name}=Z,Y,X in µm"
        )
    if ndim == 2 and len(values) not in (2, 3):
        raise MethodError(
            f"{name} has {len(values)} numbers, a 2-D image needs two; write {name}=Y,X in µm"
        )
    return values


def _options(text: str, kind: str) -> dict[str, float]:
    """Read ``na=1.2,n=1.33``."""
    found: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = part.partition("=")
        name = name.strip()
        if name not in PSF_NUMBERS[kind]:
            hint = hint_for(name, PSF_NUMBERS[kind])
            raise MethodError(f'the {kind} PSF has no number "{name[:30]}"; {hint}')
        if name in found:
            raise MethodError(f'the {kind} PSF gives "{name}" twice; give it once')
        try:
            found[name] = float(value if equals else "nothing")
        except ValueError as error:
            raise MethodError(
                f'{name} of the {kind} PSF is "{value[:30]}", not a number; '
                f"write for example {name}={DEFAULTS[name]:g}"
            ) from error
    return found


def _complete(kind: str, known: Known) -> Known:
    """Fill in defaults that agree with the numbers already known."""
    full = dict(known)
    na = known.get("na", (DEFAULTS["na"], "default"))[0]
    for name in PSF_NUMBERS[kind]:
        if name in full:
            continue
        value = DEFAULTS[name]
        if name == "n" and na > _DEFAULT_MAX_NA_WATER:
            value = _OIL_N
        elif name == "ex_nm" and "em_nm" in full:
            value = full["em_nm"][0] * DEFAULTS["ex_nm"] / DEFAULTS["em_nm"]
        elif name == "em_nm" and "ex_nm" in full:
            value = full["ex_nm"][0] * DEFAULTS["em_nm"] / DEFAULTS["ex_nm"]
        full[name] = (value, "default")
    return {name: full[name] for name in PSF_NUMBERS[kind]}


def _build(kind: str, known: Known) -> Psf:
    full = _complete(kind, known)
    values = {name: value for name, (value, _) in full.items()}
    origins = {name: origin for name, (_, origin) in full.items()}
    makers: dict[str, Callable[..., Psf]] = {
        "confocal": confocal,
        "widefield": widefield,
        "airy": airy,
        "gibson_lanni": gibson_lanni,
        _SR: sr_psf,
    }
    return makers[kind](**values, origins=origins)


def _per_channel(value: Any, channel: int) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return value[channel] if channel < len(value) else None
    return value


def _from_metadata(metadata: Mapping[str, Any], channel: int) -> Known:
    """Return the optical numbers a file gives for a channel, without impossible ones."""
    found: Known = {}
    for name, key in _METADATA_KEYS.items():
        value = _per_channel(metadata.get(key), channel)
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        low, high = LIMITS[name]
        if math.isfinite(number) and low <= number <= high and number > 0.0:
            found[name] = (number, "file")
    if "n" in found and "na" in found and found["na"][0] >= found["n"][0]:
        del found["n"]
    return found


def parse_psf(
    spec: str,
    ndim: int = 3,
    read_measured: ReadMeasured | None = None,
    metadata: Mapping[str, Any] | None = None,
    channel: int = 0,
) -> Psf:
    """Read a PSF as the user writes it.

    Parameters
    ----------
    spec : str
        One of the forms in the module's docstring. Missing optical numbers come from the metadata,
        else from :data:`DEFAULTS`.
    ndim : {3, 2}
        Of the image to be blurred.
    read_measured : callable, optional
        Takes a path, returns the bead stack (Z, Y, X) and its voxel size (z, y, x in µm); needed
        for ``measured:FILE``.
    metadata : mapping, optional
        What the image file says.
    channel : int
        Which entry counts where the metadata has a list.

    Raises
    ------
    MethodError
        The text is not a PSF, or a number in it is impossible.
    StackError
        The measured beads cannot be used.
    """
    text = spec.strip()
    if text.startswith("sigma_um="):
        return gaussian(_widths(text.removeprefix("sigma_um="), "sigma_um", ndim))
    if text.startswith("fwhm_um="):
        return gaussian_from_fwhm(_widths(text.removeprefix("fwhm_um="), "fwhm_um", ndim))
    kind, _, rest = text.partition(":")
    if kind == "measured":
        return _read_measured(rest.strip(), read_measured)
    if kind == _SR and rest.strip().startswith("fwhm_um="):
        return sr_psf_from_fwhm(_numbers(rest.strip().removeprefix("fwhm_um="), "fwhm_um")[0])
    start: Known = {}
    if kind.startswith(f"{_SR}_") and kind.removeprefix(f"{_SR}_") in MODULATION:
        start, kind = {"m_f": (MODULATION[kind.removeprefix(f"{_SR}_")], "user")}, _SR
    if kind not in PSF_NUMBERS:
        raise MethodError(f'"{text[:40]}" is not a PSF; write {_FORMS}')
    known = {**_from_metadata(metadata or {}, channel), **start}
    known.update({name: (value, "user") for name, value in _options(rest, kind).items()})
    return _build(kind, known)


def _read_measured(path: str, read_measured: ReadMeasured | None) -> Psf:
    if not path:
        raise MethodError("measured: names no file; write measured:FILE with a stack of beads")
    if read_measured is None:
        raise MethodError(
            f'no reader for the measured PSF "{path[-60:]}" was given; '
            "pass read_measured, or use psf.measured(array, voxel_size_um)"
        )
    beads, voxel_size_um = read_measured(path)
    return measured(beads, voxel_size_um, name=path)


def resolve_psf(
    spec: str | None,
    metadata: Mapping[str, Any],
    ndim: int = 3,
    channel: int = 0,
    read_measured: ReadMeasured | None = None,
) -> Psf:
    """Return the PSF of a run: the user's, else the file's, else the default.

    Parameters
    ----------
    spec : str or None
        As for :func:`parse_psf`; None or empty when the user said nothing.
    metadata : mapping
        Keys ``na``, ``refractive_index``, ``excitation_nm``, ``emission_nm``, ``pinhole_au``
        (numbers, or lists with one entry per channel) and ``modality``: ``widefield`` and
        ``lightsheet`` use the wide-field model, all others the confocal one.
    ndim : {3, 2}
        Of the image.
    channel : int
        Which channel.
    read_measured : callable, optional
        As for :func:`parse_psf`.
    """
    if spec and spec.strip():
        return parse_psf(spec, ndim, read_measured, metadata, channel)
    modality = (
        str(_per_channel(metadata.get("modality"), channel) or "")
        .lower()
        .replace("-", "")
        .replace(" ", "")
    )
    kind = "widefield" if modality in ("widefield", "lightsheet", "spim") else "confocal"
    return _build(kind, _from_metadata(metadata, channel))
