"""The microscope of one channel by depth: light, camera and blur, with intervals and origins.

Depth is the length of specimen above a voxel along the optical axis, in µm; 0 is the surface.
Curves over depth are linear between their knots and constant beyond the first and the last one.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zenhance.errors import MethodError, ReadError, RecipeError
from zenhance.physics.psf_base import MAX_SIGMA_UM, Psf, gaussian
from zenhance.yaml_text import load_yaml, read_text

__all__ = ["DepthCurve", "MicroscopeProfile", "Origin", "Quantity", "load_profile"]

Origin = Literal["file", "user", "measured", "default"]
"""Where a number comes from: the image file, the user, the stack itself, or a stated default."""

Width = Annotated[float, Field(gt=0, le=MAX_SIGMA_UM)]

MAX_ATTENUATION_UM = 1e6
"""An attenuation length that stands for "no loss of light with depth"."""
FORMAT = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Quantity(_Frozen):
    """A number with its 90 % interval and its origin.

    Parameters
    ----------
    value, low, high : float
        ``low <= value <= high``.
    origin : {'file', 'user', 'measured', 'default'}
        Where the number comes from.
    """

    value: float
    low: float
    high: float
    origin: Origin

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"the interval {self.low:g} to {self.high:g} misses {self.value:g}")
        return self

    @classmethod
    def given(cls, value: float, origin: Origin = "user") -> Self:
        """Return a number that is known: its interval has no width."""
        return cls(value=value, low=value, high=value, origin=origin)

    def describe(self, unit: str = "") -> str:
        """Return the number in words, for example ``21.3 µm (18.9 to 24.1, measured)``."""
        unit = f" {unit}" if unit else ""
        if self.low == self.high:
            return f"{self.value:.3g}{unit} ({self.origin})"
        return f"{self.value:.3g}{unit} ({self.low:.3g} to {self.high:.3g}, {self.origin})"


class DepthCurve(_Frozen):
    """A quantity at several depths.

    Parameters
    ----------
    depth_um : tuple of float
        Knots below the surface, 0 or more, ascending.
    values, low, high : tuple of float
        One number and its 90 % interval a knot.
    origins : tuple of str
        One a knot.
    """

    depth_um: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    origins: tuple[Origin, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        count = len(self.depth_um)
        if any(len(c) != count for c in (self.values, self.low, self.high, self.origins)):
            raise ValueError(f"a curve with {count} depths needs {count} numbers of each kind")
        if any(b <= a for a, b in pairwise(self.depth_um)):
            raise ValueError(f"the depths {self.depth_um} do not ascend")
        for depth, value, low, high in zip(
            self.depth_um, self.values, self.low, self.high, strict=True
        ):
            if not low <= value <= high:
                raise ValueError(
                    f"at {depth:g} µm the interval {low:g} to {high:g} misses {value:g}"
                )
        return self

    @classmethod
    def constant(cls, quantity: Quantity) -> Self:
        """Return the curve of a quantity that does not change with depth."""
        return cls(
            depth_um=(0.0,),
            values=(quantity.value,),
            low=(quantity.low,),
            high=(quantity.high,),
            origins=(quantity.origin,),
        )

    def at(self, depth_um: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the value at depths in µm (any shape)."""
        return np.asarray(np.interp(np.asarray(depth_um, np.float64), self.depth_um, self.values))

    def quantity_at(self, depth_um: float) -> Quantity:
        """Return value and interval at one depth, with the origin of the nearest knot."""
        value, low, high = (
            float(np.interp(depth_um, self.depth_um, c)) for c in (self.values, self.low, self.high)
        )
        nearest = int(np.argmin(np.abs(np.asarray(self.depth_um) - depth_um)))
        return Quantity(value=value, low=low, high=high, origin=self.origins[nearest])


class MicroscopeProfile(_Frozen):
    """What one channel of a stack was imaged with, by depth.

    Parameters
    ----------
    name : str
        Under which it is saved.
    voxel_size_um : tuple of float
        (z, y, x) of the stack that it was measured on.
    gain, offset, read_noise : Quantity
        Grey values per photon; grey value without light; standard deviation in grey values.
    background : Quantity
        Grey value where there is no specimen: offset and stray light.
    attenuation_um : Quantity
        Depth over which the light of the structures falls to 1/e; 1e6 is "no loss".
    bleached_per_plane : Quantity
        Share of the dye that is lost while a plane is recorded.
    brightness : DepthCurve
        Light of the structures, relative to the surface.
    haze : DepthCurve
        Light between the structures above the background, in grey values.
    sigma_z_um, sigma_yx_um : DepthCurve
        Standard deviations of the point spread function.
    doubts : tuple of str
        What cannot be right or could not be measured, one sentence each.
    """

    format: Literal[1] = 1
    name: str = "profile"
    voxel_size_um: tuple[Width, Width, Width]
    gain: Quantity
    offset: Quantity
    read_noise: Quantity
    background: Quantity
    attenuation_um: Quantity
    bleached_per_plane: Quantity
    brightness: DepthCurve
    haze: DepthCurve
    sigma_z_um: DepthCurve
    sigma_yx_um: DepthCurve
    doubts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _physical(self) -> Self:
        for name, quantity, least in (
            ("gain", self.gain, 1e-300),
            ("read_noise", self.read_noise, 0.0),
            ("attenuation_um", self.attenuation_um, 1e-300),
            ("bleached_per_plane", self.bleached_per_plane, 0.0),
        ):
            if quantity.value < least:
                raise ValueError(f"{name} is {quantity.value:g}, it must be above 0")
        for name, curve in (("sigma_z_um", self.sigma_z_um), ("sigma_yx_um", self.sigma_yx_um)):
            if not all(0.0 < v <= MAX_SIGMA_UM for v in curve.values):
                raise ValueError(f"{name} is {curve.values}, allowed are 0 to {MAX_SIGMA_UM:g} µm")
        return self

    @property
    def blur_is_measured(self) -> bool:
        """Whether a width of the PSF was measured, along z or across, at any depth."""
        return "measured" in (*self.sigma_z_um.origins, *self.sigma_yx_um.origins)

    def sigma_at_um(self, depth_um: float) -> tuple[float, float, float]:
        """Return the PSF's standard deviation (z, y, x) at a depth."""
        yx = float(self.sigma_yx_um.at(depth_um))
        return (float(self.sigma_z_um.at(depth_um)), yx, yx)

    def widened(self, z: float, yx: float) -> MicroscopeProfile:
        """Return the profile with PSFs wider by these factors along z and in the plane."""

        def times(curve: DepthCurve, factor: float) -> DepthCurve:
            scaled = {
                name: tuple(v * factor for v in getattr(curve, name))
                for name in ("values", "low", "high")
            }
            return curve.model_copy(update=scaled)

        wider = {
            "sigma_z_um": times(self.sigma_z_um, z),
            "sigma_yx_um": times(self.sigma_yx_um, yx),
        }
        return self.model_copy(update=wider)

    def psf_at(self, depth_um: float) -> Psf:
        """Return the point spread function at a depth."""
        return gaussian(self.sigma_at_um(depth_um))

    def describe(self) -> tuple[str, ...]:
        """Return the profile in lines for a report, the doubts last."""
        ends = sorted({0.0, self.sigma_yx_um.depth_um[-1]})
        lines = [
            f"gain {self.gain.describe('grey values per photon')}",
            f"offset {self.offset.describe('grey values')}",
            f"read noise {self.read_noise.describe('grey values')}",
            f"background {self.background.describe('grey values')}",
            "attenuation length "
            + (
                f"not finite ({self.attenuation_um.origin})"
                if self.attenuation_um.value >= MAX_ATTENUATION_UM
                else self.attenuation_um.describe("µm")
            ),
        ]
        for depth in ends:
            lines.append(
                f"PSF at {depth:.3g} µm: σ_z {self.sigma_z_um.quantity_at(depth).describe('µm')}, "
                f"σ_yx {self.sigma_yx_um.quantity_at(depth).describe('µm')}"
            )
        return (*lines, *self.doubts)

    def to_json(self) -> str:
        """Return the profile as JSON; equal profiles give equal text."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the profile to a ``.json``, ``.yaml`` or ``.yml`` file.

        Raises
        ------
        MethodError
            The name has another ending.
        """
        target = Path(path)
        if _kind(target) == "json":
            target.write_text(self.to_json(), encoding="utf-8")
            return
        import yaml

        target.write_text(
            yaml.safe_dump(self.model_dump(mode="json"), sort_keys=True), encoding="utf-8"
        )


def _kind(path: Path) -> Literal["json", "yaml"]:
    ending = path.suffix.lower()
    if ending == ".json":
        return "json"
    if ending in (".yaml", ".yml"):
        return "yaml"
    raise MethodError(f'"{path.name}" is not a profile; its name must end in .json, .yaml or .yml')


def load_profile(path: str | Path) -> MicroscopeProfile:
    """Read a profile that :meth:`MicroscopeProfile.save` wrote.

    Raises
    ------
    MethodError
        The file is missing, is not JSON or YAML, or holds a number that no microscope has.
    """
    source = Path(path)
    kind = _kind(source)
    try:
        text = read_text(source, "a profile that zenhance saved")
    except ReadError as error:
        raise MethodError(f'the profile "{source}" cannot be read: {error}') from error
    return _parsed(_loaded(text, kind, source), source)


def _loaded(text: str, kind: str, source: Path) -> Any:
    try:
        return json.loads(text) if kind == "json" else load_yaml(text, f'the profile "{source}"')
    except RecipeError as error:
        raise MethodError(f'the profile "{source}" is not valid {kind.upper()}: {error}') from error
    except (ValueError, RecursionError) as error:
        raise MethodError(
            f'the profile "{source}" is not valid {kind.upper()}; write it again'
        ) from error


def _parsed(data: Any, source: Path) -> MicroscopeProfile:
    try:
        # JSON mode takes lists for tuples and stays strict about numbers.
        return MicroscopeProfile.model_validate_json(json.dumps(data))
    except TypeError as error:  # YAML has dates and binary data, which JSON has not
        raise MethodError(f'the profile "{source}" cannot be used: {error}') from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "profile"
        raise MethodError(
            f'the profile "{source}" cannot be used: {place}: {first["msg"]}; correct it there'
        ) from error


def knots_um(deepest_um: float, count: int) -> tuple[float, ...]:
    """Return ``count`` evenly spaced depths from the surface to the deepest structure."""
    if not (math.isfinite(deepest_um) and deepest_um > 0.0):
        return (0.0,)
    return tuple(float(d) for d in np.linspace(0.0, deepest_um, count))
