"""Bring a result into the viewer in which it was started, in the place of what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.layers import Layer

from zenhance.contract.spec import STD
from zenhance.pipeline import EnhanceRequest, EnhanceResult
from zenhance.plugin.layer_bridge import layer_tuple
from zenhance.plugin.sample_player import sample_axis
from zenhance.plugin.snapshot import Snapshot
from zenhance.stack import Stack

__all__ = ["add_preview", "add_results", "result_entries"]

LayerData = tuple[Any, dict[str, Any], str]
# Perceptually uniform: twice the deviation looks twice as bright.
STD_COLORMAP = "inferno"


def _starts(request: EnhanceRequest) -> dict[str, int]:
    crop = request.crop or ((None, None),) * 3
    return {axis: start or 0 for axis, (start, _) in zip("ZYX", crop, strict=True)}


def _add(viewer: Any, entry: LayerData, above: Any) -> Any:
    """Add a layer right above another one; the new layer becomes the selected one, as with any layer that is added."""
    layer = viewer.add_layer(Layer.create(*entry))
    if above is not None and above in viewer.layers:
        target = viewer.layers.index(above) + 1
        own = viewer.layers.index(layer)
        if target < own:
            viewer.layers.move(own, target)
    return layer


def _source_shape(result: EnhanceResult) -> dict[str, int]:
    return dict(zip(result.provenance.input_axes, result.provenance.input_shape, strict=True))


def result_entries(
    snapshot: Snapshot, request: EnhanceRequest, result: EnhanceResult
) -> list[LayerData]:
    """Make the layers of a result, the enhanced one first; takes no viewer, and may be called from any thread."""
    outputs: list[tuple[str, Stack]] = [("", result.stack), *result.extras.items()]
    entries = []
    for name, stack in outputs:
        samples = bool(name) and result.samples(name) > 0
        data, keywords, kind = layer_tuple(
            stack, result.account(name), snapshot.axes, _source_shape(result), snapshot.placement, snapshot.look, stack.name,
            _starts(request), samples,
        )  # fmt: skip
        if name:
            keywords["visible"] = False
        if name == STD:
            keywords |= {
                "colormap": STD_COLORMAP,
                "contrast_limits": _from_zero(stack),
                "blending": "opaque",
            }
        elif samples:
            # Of the original's look only what would show several layers as their sum does not fit.
            keywords["blending"] = "opaque"
        elif name:
            # Another quantity: the original's contrast means nothing for it.
            keywords.pop("contrast_limits", None)
            keywords.pop("colormap", None)
        entries.append((data, keywords, kind))
    return entries


def _from_zero(stack: Stack) -> tuple[float, float]:
    """Return contrast limits from zero to the 99.9 % percentile, of about two million voxels."""
    step = max(1, int(np.prod(stack.shape, dtype=np.int64)) // 2_000_000)
    values = np.asarray(stack.data).reshape(-1)[::step]
    values = values[np.isfinite(values)]
    high = float(np.percentile(values, 99.9)) if values.size else 0.0
    return (0.0, high if high > 0.0 else 1.0)


def add_results(
    viewer: Any, snapshot: Snapshot, request: EnhanceRequest, result: EnhanceResult
) -> list[Any]:
    """Add the enhanced layer and whatever else the method gives back.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the run was started.
    snapshot : Snapshot
        Of the layer at the start.
    request : EnhanceRequest
        What was asked for.
    result : EnhanceResult
        What came out.

    Returns
    -------
    list of napari.layers.Image
        The enhanced layer first.
    """
    added = []
    above = snapshot.layer()
    for entry in result_entries(snapshot, request, result):
        above = _add(viewer, entry, above)
        added.append(above)
    # The further ones are hidden: what the user turns to now is the enhanced one.
    viewer.layers.selection.active = added[0]
    for layer in added[1:]:
        if sample_axis(layer) is not None:
            # Also where the original had no contrast limits, as a colour image.
            layer.contrast_limits = added[0].contrast_limits
    source = snapshot.layer()
    if source is not None and snapshot.look.keywords.get("blending") == "additive":
        # Blended additively, original and result would be shown as their sum.
        source.visible = False
    return added


def add_preview(
    viewer: Any, snapshot: Snapshot, result: EnhanceResult, view: Mapping[str, int]
) -> Any:
    """Add a preview: one plane of a field, at its place in the original.

    Parameters
    ----------
    view : mapping
        Index of the plane (``Z``), time point (``T``) and channel (``C``) in view.
    """
    crop = result.provenance.request["crop"]
    starts = {axis: int(start or 0) for axis, (start, _) in zip("ZYX", crop, strict=True)} | dict(
        view
    )
    shape = _source_shape(result) | {"Z": 1}
    data, keywords, kind = layer_tuple(
        result.stack,
        result.provenance,
        snapshot.axes,
        shape,
        snapshot.placement,
        snapshot.look,
        f"{snapshot.look.name} preview",
        starts,
    )
    keywords["blending"] = "opaque"
    return _add(viewer, (data, keywords, kind), snapshot.layer())
