"""From a napari image layer to a :class:`~zenhance.stack.Stack`, and from a result to layers.

Our reader keeps what the file says in ``layer.metadata["zenhance_file"]``; the record of the run
that made an image is in ``layer.metadata["zenhance"]``. Other layers have neither; their scale,
units and axis labels are used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from zenhance.errors import StackError
from zenhance.plugin.placement import LENGTH_UNIT, Placement, micrometres
from zenhance.provenance import METADATA_KEY, SAMPLES_AXIS, Provenance
from zenhance.stack import AXES, ArrayLike, Origin, Stack, VoxelSize

__all__ = [
    "FILE_KEY",
    "OWN_KEYS",
    "SAMPLE_LABEL",
    "LayerFacts",
    "LayerLook",
    "Luminance",
    "is_result",
    "layer_tuple",
    "level_zero",
    "origin_of",
    "pixels",
    "plain_json",
    "read_facts",
    "set_voxel_size",
]

FILE_KEY = "zenhance_file"
# What our reader adds to what the file says. A layer marked ``derived`` was made from that file.
OWN_KEYS = frozenset(
    (
        "path",
        "axes",
        "voxel_size_um",
        "voxel_size_origins",
        "channel_names",
        "channel",
        "channels",
        "image",
        "images",
        "derived",
    )
)
_DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
# Files and viewers have no axis for samples, so the samples of a result use the time axis.
SAMPLE_LABEL = "sample"
_WORDS = {
    SAMPLE_LABEL: SAMPLES_AXIS,
    "time": "T",
    "channel": "C",
    "depth": "Z",
    "height": "Y",
    "width": "X",
    "row": "Y",
    "column": "X",
}
# ITU-R BT.709 weights of red, green and blue.
_LUMINANCE = (0.2126, 0.7152, 0.0722)
_LOOK = (
    "blending",
    "opacity",
    "gamma",
    "rendering",
    "attenuation",
    "iso_threshold",
    "projection_mode",
)


@dataclass(frozen=True)
class LayerFacts:
    """What a layer says about itself before the user corrects it.

    Parameters
    ----------
    axes : str
        A letter per dimension, in the layer's own order.
    shape : tuple of int
        Of the finest level, without the colour axis.
    voxel_size : VoxelSize
        In µm, with origins.
    metadata : mapping
        What the file says (``na``, ``emission_nm`` ...).
    rgb : bool
        Whether the layer is a colour image, whose luminance is used.
    note : str
        What the user should know, or empty.
    """

    axes: str
    shape: tuple[int, ...]
    voxel_size: VoxelSize
    metadata: Mapping[str, Any] = field(default_factory=dict)
    rgb: bool = False
    note: str = ""

    @property
    def base_axes(self) -> str:
        """Axes for a Stack of the untransposed data: these, or the usual ones if out of order."""
        ordered = "".join(a for a in AXES if a in self.axes)
        return self.axes if ordered == self.axes else _DEFAULT_AXES[len(self.axes)]

    def stack(self, data: ArrayLike, name: str) -> Stack:
        """Wrap the layer's data; a request with other ``axes`` relabels and transposes them."""
        names = tuple(self.metadata.get("channel_names", ())) if "C" in self.base_axes else ()
        sizes = dict(zip(self.base_axes, data.shape, strict=True))
        names = names if len(names) == sizes.get("C") else ()
        path = None if self.metadata.get("derived") else self.metadata.get("path")
        passed_on = {key: value for key, value in self.metadata.items() if key not in OWN_KEYS}
        return Stack(
            data,
            self.base_axes,
            self.voxel_size,
            names,
            name,
            passed_on,
            None if path is None else Path(path),
        )


@dataclass(frozen=True)
class LayerLook:
    """How a layer is drawn; the result is drawn alike."""

    name: str
    colormap: Any
    contrast_limits: tuple[float, float] | None
    keywords: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @classmethod
    def of_layer(cls, layer: Any) -> LayerLook:
        """Take a snapshot."""
        limits = (
            None
            if layer.rgb
            else (float(layer.contrast_limits[0]), float(layer.contrast_limits[1]))
        )
        keywords = {key: getattr(layer, key) for key in _LOOK if hasattr(layer, key)}
        keywords = {
            key: str(value) if key in ("blending", "rendering", "projection_mode") else value
            for key, value in keywords.items()
        }
        return cls(
            layer.name,
            None if layer.rgb else layer.colormap,
            limits,
            keywords,
            dict(layer.metadata),
        )


def level_zero(layer: Any) -> Any:
    """Return the finest level of a layer's data."""
    return layer.data[0] if layer.multiscale else layer.data


def pixels(layer: Any) -> ArrayLike:
    """Return the pixels to enhance: the finest level, or the luminance of a colour image."""
    data = level_zero(layer)
    return Luminance(data) if layer.rgb else cast(ArrayLike, data)


class Luminance:
    """The luminance (ITU-R BT.709) of a colour image (..., 3 or 4), computed on access.

    Parameters
    ----------
    colours : array-like
        Red, green, blue and optionally alpha along the last axis. The luminance is float32 in
        the same intensity range.
    """

    def __init__(self, colours: Any) -> None:
        self.colours = colours
        self.shape: tuple[int, ...] = tuple(int(n) for n in colours.shape[:-1])
        self.dtype: np.dtype[Any] = np.dtype(np.float32)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        picked = np.asarray(self.colours[key], dtype=np.float32)
        return np.asarray(picked[..., :3] @ np.array(_LUMINANCE, dtype=np.float32))

    def transpose(self, order: Sequence[int]) -> npt.NDArray[Any]:
        """Return all of it as an array with its axes in another order."""
        return self[...].transpose(order)


def read_facts(layer: Any) -> LayerFacts:
    """Understand a napari image layer.

    Parameters
    ----------
    layer : napari.layers.Image
        Multiscale layers are read at their finest level, colour images by their luminance.

    Raises
    ------
    StackError
        The layer has fewer than two or more than five dimensions.
    """
    shape = tuple(int(n) for n in pixels(layer).shape)
    if len(shape) not in _DEFAULT_AXES:
        raise StackError(
            f'layer "{layer.name}" has {len(shape)} dimensions; 2 to 5 (of T, C, Z, Y, X) are '
            "allowed; split or project it first"
        )
    axes = _axes_of(layer.axis_labels, len(shape))
    kept = layer.metadata.get(FILE_KEY)
    metadata = dict(kept) if isinstance(kept, Mapping) else {}
    notes = []
    if layer.rgb:
        notes.append("colour image: its luminance is enhanced")
    if layer.multiscale:
        notes.append("pyramid: its finest level is enhanced")
    if metadata.get("images"):
        notes.append(f"{metadata['images']} of its file")
    return LayerFacts(
        axes, shape, _voxel_size(layer, axes, metadata), metadata, bool(layer.rgb), "; ".join(notes)
    )


def _axes_of(labels: Any, ndim: int) -> str:
    letters = [_WORDS.get(str(label).lower(), str(label).upper()) for label in labels]
    usable = (
        len(letters) == ndim
        and len(set(letters)) == ndim
        and {"Y", "X"} <= set(letters) <= set(AXES)
    )
    return "".join(letters) if usable else _DEFAULT_AXES[ndim]


def _voxel_size(layer: Any, axes: str, metadata: Mapping[str, Any]) -> VoxelSize:
    """Read the voxel size from scale and units; napari's default (1 pixel) means unknown.

    A negative scale mirrors the layer; its magnitude is the size of a voxel.
    """
    stretch = np.linalg.norm(np.asarray(layer.affine.affine_matrix)[:-1, :-1], axis=0)
    spans = {
        axis: (abs(float(layer.scale[i] * stretch[i])), micrometres(str(layer.units[i])))
        for i, axis in enumerate(axes)
    }
    spatial = [spans[a] for a in "ZYX" if a in spans]
    untouched = all(unit is None and length == 1.0 for length, unit in spatial)
    told = dict(zip("ZYX", metadata.get("voxel_size_um") or (None,) * 3, strict=True))
    origins = dict(zip("ZYX", metadata.get("voxel_size_origins") or ("unknown",) * 3, strict=True))
    values: list[float | None] = []
    marks: list[Origin] = []
    for axis in "ZYX":
        if axis not in spans or untouched:
            values.append(None)
            marks.append("unknown")
            continue
        length_um = spans[axis][0] * (spans[axis][1] or 1.0)
        of_reader = metadata.get("voxel_size_um") is not None
        same = told[axis] is not None and abs(told[axis] - length_um) <= 1e-6 * length_um
        placeholder = of_reader and told[axis] is None and length_um == 1.0
        values.append(None if placeholder else length_um)
        marks.append("unknown" if placeholder else cast(Origin, origins[axis]) if same else "user")
    return VoxelSize(values[0], values[1], values[2], (marks[0], marks[1], marks[2]))


def is_result(layer: Any) -> bool:
    """Tell whether an earlier run made this layer."""
    record = layer.metadata.get(METADATA_KEY)
    return isinstance(record, Mapping) and isinstance(record.get("request"), Mapping)


def plain_json(value: Any) -> Any:
    """Return metadata as JSON values; anything else becomes its text."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def layer_tuple(
    result: Stack,
    provenance: Provenance | None,
    axes: str,
    source_shape: Mapping[str, int],
    placement: Placement,
    look: LayerLook,
    name: str,
    starts_px: Mapping[str, int] | None = None,
    samples: bool = False,
) -> tuple[Any, dict[str, Any], str]:
    """Return (data, keywords, ``"image"``) of a result, in the place of the part it came from.

    Parameters
    ----------
    axes : str
        Of the original layer, in its order; ``placement`` and ``look`` are also of that layer.
    source_shape, starts_px : mapping
        Length and first voxel, per axis, of the enhanced part of the original.
    samples : bool
        Whether T holds the samples of the result instead of the original's time points.
    """
    kept = "".join(a for a in axes if a in result.axes and not (samples and a == SAMPLES_AXIS))
    for gone in set(axes) - set(kept):
        placement = placement.without(gone)
    placement = placement.cropped(starts_px or {})
    placement = placement.resized({a: result.size(a) / source_shape[a] for a in kept})
    if samples:
        at = sum(a in kept for a in axes.partition(SAMPLES_AXIS)[0]) if SAMPLES_AXIS in axes else 0
        # Every axis gets a name; otherwise samples would be taken for planes.
        placement = replace(placement, axis_labels=tuple(a.lower() for a in kept)).with_axis(
            SAMPLES_AXIS, at, SAMPLE_LABEL
        )
        kept = placement.axes
    data: Any = result.data
    if kept != result.axes:
        data = np.asarray(data[...]).transpose([result.axes.index(a) for a in kept])
    metadata = {key: value for key, value in look.metadata.items() if key != METADATA_KEY}
    if provenance is not None:
        metadata[METADATA_KEY] = json.loads(provenance.to_json())
    metadata[FILE_KEY] = _file_record(result, metadata.get(FILE_KEY), placement)
    keywords = {**placement.keywords(), **look.keywords, "name": name, "metadata": metadata}
    if look.colormap is not None:
        keywords["colormap"] = look.colormap
    if look.contrast_limits is not None and look.contrast_limits[1] > look.contrast_limits[0]:
        keywords["contrast_limits"] = look.contrast_limits
    return data, keywords, "image"


def _file_record(result: Stack, own: Any, placement: Placement) -> dict[str, Any]:
    """Return the file's record for a result: the file stays protected from overwriting."""
    record = dict(own) if isinstance(own, Mapping) else {}
    record = {
        key: value
        for key, value in record.items()
        if key not in ("axes", "channel", "channels", "image", "images", "origin_um")
    }
    record["voxel_size_um"] = list(result.voxel_size.zyx_um)
    record["voxel_size_origins"] = list(result.voxel_size.origins)
    record["derived"] = True
    origin = origin_of(placement, result.voxel_size)
    return record if origin is None else record | {"origin_um": list(origin)}


def origin_of(placement: Placement, voxel_size: VoxelSize) -> tuple[float | None, ...] | None:
    """Return the position of the first voxel along z, y, x in µm; None along unknown axes.

    Returns
    -------
    tuple of three, or None
        None if the layer is turned, sheared, mirrored, or at the origin.
    """
    place = placement.first_voxel_um()
    if place is None:
        return None
    known = zip("ZYX", voxel_size.zyx_um, strict=True)
    origin = tuple(None if length is None else place.get(axis) for axis, length in known)
    return origin if any(origin) else None


def set_voxel_size(layer: Any, axes: str, sizes_um: Mapping[str, float]) -> bool:
    """Give a layer the voxel size that the user typed, so that it and its result overlap.

    Returns
    -------
    bool
        False if the layer already has that size.
    """
    known = dict(zip("ZYX", read_facts(layer).voxel_size.zyx_um, strict=True))
    if all(
        abs((known[axis] or 0.0) - length_um) <= 1e-6 * length_um
        for axis, length_um in sizes_um.items()
    ):
        return False
    placement = Placement.of_layer(layer, axes).rescaled(sizes_um, LENGTH_UNIT)
    layer.scale = placement.scale
    layer.translate = placement.translate
    layer.affine = placement.affine
    layer.units = placement.units
    return True
