"""Options of ``zenhance enhance`` into the request that every door builds."""

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
from zenhance.cli.paths import OUTPUT_SUFFIXES
from zenhance.errors import ReadError, WriteError

if TYPE_CHECKING:
    from zenhance.pipeline import EnhanceRequest

__all__ = ["RequestOptions", "build_request", "write_request"]

MAX_REQUEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options as typed; None where an option was left out."""

    method: str | None = None
    set: Sequence[str] | None = None
    voxel_size: str | None = None
    axes: str | None = None
    channel: str | None = None
    crop: str | None = None
    psf: str | None = None
    background: str | None = None
    device: str | None = None
    weights: str | None = None
    learn: str | None = None
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
    "channel": ("channel", lambda text: parse_whole("--channel", text)),
    "background": ("background", lambda text: parse_number("--background", text)),
    "learn": ("learn_minutes", lambda text: parse_minutes("--learn", text)),
    "seed": ("seed", lambda text: parse_whole("--seed", text)),
    "crop": ("crop", _crop_fields),
    "tile": ("tile_px", parse_tile),
}


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_REQUEST_BYTES:
            raise ReadError(
                path, "settings are at most 1 MB of text; give a file that --save-request wrote"
            )
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReadError(
            path, "it is no text; give a YAML file that --save-request wrote"
        ) from error
    except FileNotFoundError as error:
        raise ReadError(path, "there is no such file; check the path after --request") from error
    except OSError as error:
        raise ReadError(
            path,
            f"{(error.strerror or 'it cannot be opened').lower()}; check the path after --request",
        ) from error


def _from_image(path: Path) -> EnhanceRequest:
    """Return the request that made an image, from the account inside it."""
    from zenhance.io import inspect_image
    from zenhance.pipeline import EnhanceRequest
    from zenhance.provenance import Provenance

    record = Provenance.find(inspect_image(path).metadata)
    if record is None:
        raise ReadError(
            path,
            "no account of a run is inside, as zenhance did not write it; give a YAML file that --save-request wrote",
        )
    return EnhanceRequest(**record.request)


def _starting_request(path: Path) -> EnhanceRequest:
    from zenhance.pipeline import EnhanceRequest

    if path.name.lower().endswith(OUTPUT_SUFFIXES):
        return _from_image(path)
    return EnhanceRequest.from_yaml(_read_text(path))


def build_request(options: RequestOptions, request_file: Path | None = None) -> EnhanceRequest:
    """Build the request from a settings file or an earlier result, if there is one, and the options, which have the last word.

    Settings of the file are kept and completed by those of ``--set``, unless ``--method`` names another method: settings of
    one method mean nothing to another.

    Raises
    ------
    ReadError
        The settings file cannot be read.
    RecipeError, StackError, MethodError
        A field, a setting or the method is not as it should be; nothing was read or computed yet.
    """
    from zenhance.pipeline import EnhanceRequest

    given = options.given()
    base: dict[str, Any] = {}
    if request_file is not None:
        base = _starting_request(request_file).model_dump(exclude_unset=True)
        if "method" in given and given["method"] != base.get("method", given["method"]):
            base.pop("settings", None)
        given["settings"] = {**base.get("settings", {}), **given.get("settings", {})}
    request = EnhanceRequest(**{**base, **given})
    request.parameters()
    return request


def write_request(path: Path, request: EnhanceRequest, overwrite: bool) -> None:
    """Write the request as YAML, whole or not at all, for ``--request`` and for the dock's Load settings.

    Raises
    ------
    OutputExistsError
        The file exists and overwriting was not asked for.
    WriteError
        The folder is missing or not writable, or the disk is full.
    """
    from zenhance.io.commit import commit

    content = request.to_yaml().encode()

    def check(partial: Path) -> None:
        if partial.read_bytes() != content:
            raise WriteError(
                f'the settings in "{path}" read back differently; write them to another folder'
            )

    commit(
        path,
        lambda partial: _put(partial, content),
        verify=check,
        needed_bytes=len(content),
        overwrite=overwrite,
    )


def _put(partial: Path, content: bytes) -> None:
    partial.write_bytes(content)
