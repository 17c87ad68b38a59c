"""napari reader and samples: one layer per channel, with voxel size, units and axis labels.

The metadata of each layer hold what its file says.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zenhance.plugin.layer_bridge import FILE_KEY, SAMPLE_LABEL, plain_json
from zenhance.plugin.placement import LENGTH_UNIT
from zenhance.provenance import METADATA_KEY, SAMPLES_AXIS, sample_count
from zenhance.stack import Stack

__all__ = ["SUFFIXES", "get_reader", "meristem_deep", "meristem_two_channel", "stack_layers"]

LOG = logging.getLogger(__name__)
LayerData = tuple[Any, dict[str, Any], str]

SUFFIXES = (
    ".tif",
    ".tiff",
    ".btf",
    ".tf8",
    ".lsm",
    ".stk",
    ".czi",
    ".lif",
    ".nd2",
    ".oib",
    ".dv",
    ".r3d",
    ".inr",
    ".inr.gz",
)
# A stack up to this size is read into memory, where napari is fastest; a larger one plane by plane.
IN_MEMORY_BYTES = 512 * 2**20
# What a file may say of each channel. Other lists (the parts of an image, a position) stay whole.
_PER_CHANNEL = ("na", "refractive_index", "excitation_nm", "emission_nm", "pinhole_au", "modality")
_COLOURS = ("green", "magenta", "cyan", "yellow", "red", "blue")
# Channels that are named after a colour are shown in that colour.
_NAMED = {name: name for name in _COLOURS} | {"alpha": "gray", "grey": "gray", "gray": "gray"}


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """Return a reader for files that zenhance reads; decides by the name alone.

    Parameters
    ----------
    path : str or sequence of str
        Several paths at once (napari's "open as stack") are left to others.
    """
    if not isinstance(path, str | Path):
        return None
    name = str(path).lower().rstrip("/\\")
    return read_layers if name.endswith(SUFFIXES) or name.endswith(".zarr") else None


def read_layers(path: str) -> list[LayerData]:
    """Read a file as napari layers.

    Raises
    ------
    ReadError
        One sentence naming the file.
    """
    from zenhance.io import open_stack

    stack = open_stack(path)
    if "images" in stack.metadata:
        show_warning(
            f'"{Path(path).name}": {stack.metadata["images"]} is shown. Save the others as files '
            "of their own to open them here, or enhance them on the command line with --series"
        )
    return stack_layers(stack)


def show_warning(text: str) -> None:
    """Warn the user; imports napari only then, so that its list of readers opens quickly."""
    from napari.utils import notifications

    notifications.show_warning(text)


def _shown(data: Any) -> Any:
    """Return pixels as napari shows them best: in memory, or as a dask array of planes."""
    if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        return data
    if int(np.prod(data.shape, dtype=np.int64)) * np.dtype(data.dtype).itemsize <= IN_MEMORY_BYTES:
        return np.array(data[...])
    import dask.array as da

    chunks = tuple(1 for _ in data.shape[:-2]) + tuple(data.shape[-2:])
    return (
        data
        if isinstance(data, da.Array)
        else da.from_array(data, chunks=chunks, name=False, asarray=False)
    )


def stack_layers(stack: Stack) -> list[LayerData]:
    """Turn a stack into napari layers, one per channel.

    Parameters
    ----------
    stack : Stack
        As the readers return it.

    Returns
    -------
    list of tuple
        (data, keywords, ``"image"``).
    """
    data = _shown(stack.data)
    if "C" not in stack.axes:
        return [_layer(stack, data, 0)]
    at = stack.axes.index("C")
    channels = [data[(slice(None),) * at + (c,)] for c in range(stack.size("C"))]
    return [_layer(stack, channel, c) for c, channel in enumerate(channels)]


def _layer(stack: Stack, data: Any, channel: int) -> LayerData:
    axes = stack.axes.replace("C", "")
    known = dict(zip("ZYX", stack.voxel_size.zyx_um, strict=True))
    some = any(known[a] is not None for a in axes if a in "ZYX")
    metadata = _metadata(stack, channel)
    samples = sample_count(metadata.get(METADATA_KEY)) == stack.size(SAMPLES_AXIS)
    keywords: dict[str, Any] = {
        "name": _name(stack, channel),
        "scale": [1.0 if known.get(a) is None else known[a] for a in axes],
        "translate": _position(stack, axes, known),
        "units": [LENGTH_UNIT if a in "ZYX" and some else "pixel" for a in axes],
        "axis_labels": [SAMPLE_LABEL if samples and a == SAMPLES_AXIS else a.lower() for a in axes],
        "metadata": metadata,
    }
    if stack.size("C") > 1:
        keywords["colormap"] = _colour(stack.channel_names, channel)
        keywords["blending"] = "additive"
    limits = _contrast(data)
    if limits is not None:
        keywords["contrast_limits"] = limits
    return data, keywords, "image"


def _colour(names: Sequence[str], channel: int) -> str:
    """Return the colour that a channel is named after, else a colour that no other name claims."""
    named = [_NAMED.get(name.strip().lower()) for name in names]
    own = named[channel] if channel < len(named) else None
    free = [colour for colour in _COLOURS if colour not in named] or list(_COLOURS)
    return own or free[channel % len(free)]


def _position(stack: Stack, axes: str, known: Mapping[str, float | None]) -> list[float]:
    """Return the first voxel's position, as far as the file says it and the voxel size is known."""
    origin = stack.metadata.get("origin_um")
    told = (
        dict(zip("ZYX", origin, strict=True))
        if isinstance(origin, Sequence) and len(origin) == 3
        else {}
    )
    return [
        float(told[a]) if told.get(a) is not None and known.get(a) is not None else 0.0
        for a in axes
    ]


def _name(stack: Stack, channel: int) -> str:
    if stack.size("C") == 1:
        return stack.name
    label = (
        stack.channel_names[channel] if channel < len(stack.channel_names) else f"channel {channel}"
    )
    return f"{stack.name} {label}"


def _metadata(stack: Stack, channel: int) -> dict[str, Any]:
    """Return what the file says as JSON values; of lists per channel, this channel's entry."""
    count = stack.size("C")
    told = {key: value for key, value in stack.metadata.items() if key != METADATA_KEY}
    for key in _PER_CHANNEL:
        if isinstance(told.get(key), list | tuple) and len(told[key]) == count:
            told[key] = told[key][channel]
    record = {
        **told,
        "path": None if stack.path is None else str(stack.path),
        "axes": stack.axes,
        "voxel_size_um": stack.voxel_size.zyx_um,
        "voxel_size_origins": stack.voxel_size.origins,
        "channel_names": stack.channel_names[channel : channel + 1],
        "channel": channel,
        "channels": count,
    }
    found = {FILE_KEY: plain_json(record)}
    provenance = _provenance(stack)
    return found if provenance is None else found | {METADATA_KEY: provenance}


def _provenance(stack: Stack) -> dict[str, Any] | None:
    """Return the record of an earlier run; the image opens even if it is unreadable."""
    text = stack.metadata.get(METADATA_KEY)
    if text is None:
        return None
    try:
        record = json.loads(text)
    except (TypeError, ValueError) as error:
        LOG.warning('the provenance record in "%s" cannot be read: %s', stack.name, error)
        return None
    return record if isinstance(record, dict) else None


def _contrast(data: Any) -> tuple[float, float] | None:
    """Return contrast limits over a whole stack in memory; napari's own use one plane only."""
    if not isinstance(data, np.ndarray):
        return None
    step = max(1, data.size // 2_000_000)
    sample = data.ravel()[::step]
    sample = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    if sample.size == 0:
        return None
    low, high = (float(v) for v in np.percentile(sample, [0.1, 99.9]))
    return (low, high) if high > low else None


def _open(name: str) -> list[LayerData]:
    from zenhance.io import open_sample

    return stack_layers(open_sample(name))


def meristem_deep() -> list[LayerData]:
    """Open a shoot apical meristem whose deep layers are dim, noisy and blurred."""
    return _open("meristem_deep")


def meristem_two_channel() -> list[LayerData]:
    """Open a meristem with a membrane and a nuclear marker."""
    return _open("meristem_two_channel")
