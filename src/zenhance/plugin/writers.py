"""napari writers: OME-TIFF, ImageJ TIFF and OME-Zarr with voxel size, units and provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zenhance.errors import WriteError
from zenhance.plugin.layer_bridge import FILE_KEY, OWN_KEYS, LayerFacts, origin_of, read_facts
from zenhance.plugin.placement import Placement
from zenhance.provenance import METADATA_KEY
from zenhance.stack import Stack

__all__ = ["stack_of_layers", "write_image", "write_images"]


class _LayerView:
    """The attributes of a layer, from the data and keywords that napari hands to writers."""

    def __init__(self, data: Any, keywords: Mapping[str, Any]) -> None:
        self.data = data
        self.name = str(keywords.get("name", "image"))
        self.rgb = bool(keywords.get("rgb", False))
        self.multiscale = bool(keywords.get("multiscale", False))
        self.metadata = dict(keywords.get("metadata") or {})
        finest = data[0] if self.multiscale else data
        ndim = len(finest.shape) - int(self.rgb)
        self.axis_labels = keywords.get("axis_labels") or tuple(str(i - ndim) for i in range(ndim))
        self.scale = np.asarray(keywords.get("scale", np.ones(ndim)), dtype=float)
        self.units = tuple(keywords.get("units") or ("pixel",) * ndim)
        self.affine = _Matrix(keywords.get("affine"), ndim)
        self.translate = _given(keywords, "translate", np.zeros(ndim))
        self.rotate = _given(keywords, "rotate", np.eye(ndim))
        self.shear = _given(keywords, "shear", np.eye(ndim))


def show_warning(text: str) -> None:
    """Warn the user; imports napari only then, so that its list of writers opens quickly."""
    from napari.utils import notifications

    notifications.show_warning(text)


def _given(keywords: Mapping[str, Any], name: str, default: Any) -> Any:
    value = keywords.get(name)
    return default if value is None else np.asarray(value, dtype=float)


class _Matrix:
    def __init__(self, matrix: Any, ndim: int) -> None:
        given = getattr(matrix, "affine_matrix", matrix)
        self.affine_matrix = np.eye(ndim + 1) if given is None else np.asarray(given, dtype=float)


def stack_of_layers(
    layers: Sequence[tuple[Any, Mapping[str, Any], str]], warn: Callable[[str], object]
) -> Stack:
    """Combine image layers into one stack; several layers become channels.

    Parameters
    ----------
    layers : sequence of tuple
        (data, keywords, type) as napari hands them to writers.
    warn : callable
        Takes a sentence on what the file cannot hold. In a worker thread it must not be a
        notification of napari.

    Raises
    ------
    WriteError
        The layers differ in shape, axes or voxel size, or one is a colour image.
    """
    stacks = [_stack(_LayerView(data, keywords), warn) for data, keywords, _ in layers]
    first = stacks[0]
    if len(stacks) == 1:
        return first
    for other in stacks[1:]:
        if other.shape != first.shape or other.axes != first.axes or "C" in other.axes:
            raise WriteError(
                f'layers "{first.name}" {first.shape} and "{other.name}" {other.shape} do not fit '
                "into one file as channels; save them one by one"
            )
        if not _same_lengths(first, other):
            raise WriteError(
                f'layers "{first.name}" and "{other.name}" have different voxel sizes; '
                "save them one by one"
            )
    dtype = np.result_type(*(s.dtype for s in stacks))
    if any(s.dtype != dtype for s in stacks):
        raise WriteError(
            f"the layers have different pixel types ({', '.join(str(s.dtype) for s in stacks)}); "
            "save them one by one"
        )
    at = 1 if "T" in first.axes else 0
    axes = first.axes[:at] + "C" + first.axes[at:]
    data = np.stack([np.asarray(s.data[...]) for s in stacks], axis=at)
    return Stack(
        data, axes, first.voxel_size, tuple(s.name for s in stacks), first.name, first.metadata
    )


def _same_lengths(a: Stack, b: Stack) -> bool:
    for one, other in zip(a.voxel_size.zyx_um, b.voxel_size.zyx_um, strict=True):
        if (one is None) != (other is None) or (
            one is not None and other is not None and abs(one - other) > 1e-6 * one
        ):
            return False
    return True


def _stack(layer: _LayerView, warn: Callable[[str], object]) -> Stack:
    if layer.rgb:
        raise WriteError(
            f'layer "{layer.name}" is a colour image, which zenhance does not write; '
            "save it with napari's own writer"
        )
    facts = read_facts(layer)
    data = layer.data[0] if layer.multiscale else layer.data
    metadata = {
        key: value
        for key, value in facts.metadata.items()
        if key not in OWN_KEYS and key not in ("parts", "origin_um")
    }
    metadata |= _position(layer, facts, warn)
    provenance = layer.metadata.get(METADATA_KEY)
    if isinstance(provenance, Mapping):
        # Unchanged: a later version may have written more into it than this one knows.
        metadata[METADATA_KEY] = json.dumps(provenance)
    return Stack.from_array(data, facts.axes, facts.voxel_size, name=layer.name, metadata=metadata)


def _position(
    layer: _LayerView, facts: LayerFacts, warn: Callable[[str], object]
) -> dict[str, Any]:
    """Return the layer's position, as far as a file can hold it."""
    placement = Placement.of_layer(layer, facts.axes)
    if placement.first_voxel_um() is None:
        warn(
            f'layer "{layer.name}" is rotated, sheared or mirrored, which the file cannot hold; '
            "pixels and voxel size are saved without it"
        )
    origin = origin_of(placement, facts.voxel_size)
    return {} if origin is None else {"origin_um": origin}


def _sources(layers: Sequence[tuple[Any, Mapping[str, Any], str]]) -> list[Path]:
    """Return all files that the layers came from; none of them may be overwritten."""
    found: list[Path] = []
    for _, keywords, _ in layers:
        record = (keywords.get("metadata") or {}).get(FILE_KEY)
        if isinstance(record, Mapping):
            parts = record.get("parts") or ()
            files = [record.get("path"), *((parts,) if isinstance(parts, str) else parts)]
            found += [Path(file) for file in files if file]
    return found


def write_images(path: str, layers: Sequence[tuple[Any, Mapping[str, Any], str]]) -> list[str]:
    """Write image layers, several as channels; the name's ending chooses the format.

    napari's file dialog has already asked about replacing an existing file.

    Raises
    ------
    WriteError
        Nothing was changed; the text says why.
    """
    from zenhance.io import write_stack

    stack = stack_of_layers(layers, lambda text: show_warning(text))
    return [str(write_stack(path, stack, overwrite=True, source=_sources(layers)))]


def write_image(path: str, data: Any, keywords: Mapping[str, Any]) -> list[str]:
    """Write one image layer."""
    return write_images(path, [(data, keywords, "image")])
