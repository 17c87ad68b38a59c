"""Build a request from the options of ``zenhance enhance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenhance.cli.parsing import (
    parse_axes,
    parse_crop,
    parse_minutes,
    parse_number,
    parse_settings,
    parse_tile,
    parse_voxel_size,
    parse_whole,
)

if TYPE_CHECKING:
    from zenhance.pipeline import EnhanceRequest

__all__ = ["RequestOptions", "build_request"]


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options as typed; None where an option was left out."""

    method: str | None = None
    set: Sequence[str] | None = None
    voxel_size: str | None = None
    axes: str | None = None
    series: str | None = None
    channel: str | None = None
    crop: str | None = None
    psf: str | None = None
    profile: str | None = None
    even_light: bool | None = None
    background: str | None = None
    repair_outliers: bool | None = None
    device: str | None = None
    weights: str | None = None
    learn: str | None = None
    output: str | None = None
    seed: str | None = None
    dtype: str | None = None
    statistics: str | None = None
    tile: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the request's fields that were typed, in the request's own names and types."""
        typed = {
            f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None
        }
        for option, (field, parse) in _PARSED.items():
            if option in typed:
                typed[field] = parse(typed.pop(option))
        return typed


def _crop_fields(text: str) -> tuple[tuple[int | None, int | None], ...]:
    """Two ranges are y and x of an image without z."""
    spans = parse_crop(text)
    return spans if len(spans) == 3 else ((None, None), *spans)


_PARSED: Mapping[str, Any] = {
    "set": ("settings", parse_settings),
    "voxel_size": ("voxel_size_um", parse_voxel_size),
    "axes": ("axes", parse_axes),
    "series": ("series", lambda text: parse_whole("--series", text)),
    "channel": ("channel", lambda text: parse_whole("--channel", text)),
    "background": ("background", lambda text: parse_number("--background", text)),
    "learn": ("learn_minutes", lambda text: parse_minutes("--learn", text)),
    "seed": ("seed", lambda text: parse_whole("--seed", text)),
    "crop": ("crop", _crop_fields),
    "tile": ("tile_px", parse_tile),
}


def build_request(options: RequestOptions, request_file: Path | None = None) -> EnhanceRequest:
    """Build the request from the options and, if given, a settings file or an earlier result.

    Options win over the file. ``--set`` completes the settings of the file, unless ``--method``
    names another method: the settings belong to their method.

    Raises
    ------
    ReadError
        The settings file cannot be read.
    RecipeError, StackError, MethodError
        A field, a setting or the method is invalid; no pixel was read.
    """
    from zenhance.pipeline import EnhanceRequest
    from zenhance.pipeline.request_file import read_request

    given = options.given()
    base: dict[str, Any] = {}
    if request_file is not None:
        base = read_request(request_file).model_dump(exclude_unset=True)
        if "method" in given and given["method"] != base.get("method", given["method"]):
            base.pop("settings", None)
        given["settings"] = {**base.get("settings", {}), **given.get("settings", {})}
    request = EnhanceRequest(**{**base, **given})
    request.parameters()
    return request
