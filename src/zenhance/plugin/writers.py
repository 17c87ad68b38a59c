"""napari writers: OME-TIFF, ImageJ TIFF and OME-Zarr with voxel size, units, channel names and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zenhance.errors import WriteError
from zenhance.plugin.layer_bridge import FILE_KEY, read_facts
from zenhance.provenance import METADATA_KEY, Provenance
from zenhance.stack import Stack

__all__ = ["stack_of_layers", "write_image", "write_images"]


class _LayerView:
    """The attributes of a layer that was taken apart into data and keywords, as napari hands it to writers."""

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


class _Matrix:
    def __init__(self, matrix: Any, ndim: int) -> None:
        given = getattr(matrix, "affine_matrix", matrix)
        self.affine_matrix = np.eye(ndim + 1) if given is None else np.asarray(given, dtype=float)


def stack_of_layers(layers: Sequence[tuple[Any, Mapping[str, Any], str]]) -> Stack:
    """Put image layers together as one stack; several layers become channels.

    Parameters
    ----------
    layers : sequence of tuple
        (data, keywords, type) as napari hands them to writers.

    Raises
    ------
    WriteError
        The layers differ in shape, axes or voxel size, or one is a colour image.
    """
    stacks = [_stack(_LayerView(data, keywords)) for data, keywords, _ in layers]
    first = stacks[0]
    if len(stacks) == 1:
        return first
    for other in stacks[1:]:
        if other.shape != first.shape or other.axes != first.axes or "C" in other.axes:
            raise WriteError(
                f'layers "{first.name}" {first.shape} and "{other.name}" {other.shape} do not fit into one file as channels; '
                "save them one by one"
            )
        if not _same_lengths(first, other):
            raise WriteError(f'layers "{first.name}" and "{other.name}" have different voxel sizes; save them one by one')
    dtype = np.result_type(*(s.dtype for s in stacks))
    if any(s.dtype != dtype for s in stacks):
        raise WriteError(f"the layers have different pixel types ({', '.join(str(s.dtype) for s in stacks)}); save them one by one")
    at = 1 if "T" in first.axes else 0
    axes = first.axes[:at] + "C" + first.axes[at:]
    data = np.stack([np.asarray(s.data[...]) for s in stacks], axis=at)
    return Stack(data, axes, first.voxel_size, tuple(s.name for s in stacks), first.name, first.metadata)


def _same_lengths(a: Stack, b: Stack) -> bool:
    for one, other in zip(a.voxel_size.zyx_um, b.voxel_size.zyx_um, strict=True):
        if (one is None) != (other is None) or (one is not None and other is not None and abs(one - other) > 1e-6 * one):
            return False
    return True


def _stack(layer: _LayerView) -> Stack:
    if layer.rgb:
        raise WriteError(f'layer "{layer.name}" is a colour image, which is not written here; save it with napari\'s own writer')
    facts = read_facts(layer)
    data = layer.data[0] if layer.multiscale else layer.data
    metadata = dict(facts.metadata)
    for own in ("path", "voxel_size_um", "voxel_size_origins", "channel_names", "channel"):
        metadata.pop(own, None)
    provenance = layer.metadata.get(METADATA_KEY)
    if isinstance(provenance, Mapping):
        metadata[METADATA_KEY] = Provenance.from_json(json.dumps(provenance)).to_json()
    return Stack.from_array(data, facts.axes, facts.voxel_size, name=layer.name, metadata=metadata)


def _source(layers: Sequence[tuple[Any, Mapping[str, Any], str]]) -> Path | None:
    """Return the file that the first layer came from, so that it is never overwritten."""
    record = (layers[0][1].get("metadata") or {}).get(FILE_KEY)
    path = record.get("path") if isinstance(record, Mapping) else None
    return None if path is None else Path(path)


def write_images(path: str, layers: Sequence[tuple[Any, Mapping[str, Any], str]]) -> list[str]:
    """Write image layers, several as channels; the name's ending chooses the format.

    napari's file dialog has asked before an existing file is replaced.

    Raises
    ------
    WriteError
        Nothing was changed; the text says why.
    """
    from zenhance.io import write_stack

    return [str(write_stack(path, stack_of_layers(layers), overwrite=True, source=_source(layers)))]


def write_image(path: str, data: Any, keywords: Mapping[str, Any]) -> list[str]:
    """Write one image layer."""
    return write_images(path, [(data, keywords, "image")])
