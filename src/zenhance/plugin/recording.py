"""The request as it applies to the layer's file.

The dock shows a file with several channels as one layer a channel. A run on such a layer names no
channel, but a replay of its record starts from the file: it needs the channel, and the voxel size
that the user gave the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zenhance.pipeline import EnhanceRequest, EnhanceResult
from zenhance.plugin.layer_bridge import LayerFacts

__all__ = ["of_file", "with_record_of_file"]


def of_file(request: EnhanceRequest, facts: LayerFacts) -> EnhanceRequest:
    """Return the request that does to the layer's file what the given one does to the layer.

    Parameters
    ----------
    request : EnhanceRequest
        As it runs on the layer.
    facts : LayerFacts
        Of the layer. The request stays as it is if the layer came from no file, or is a result.
    """
    changes = _changes(request, facts)
    return (
        request
        if not changes
        else EnhanceRequest(**{**request.model_dump(exclude_unset=True), **changes})
    )


def _changes(request: EnhanceRequest, facts: LayerFacts) -> dict[str, Any]:
    told: Mapping[str, Any] = facts.metadata
    if told.get("path") is None or told.get("derived"):
        return {}
    found: dict[str, Any] = {}
    if told.get("image") is not None and told["image"] != request.series:
        found["series"] = told["image"]
    axes = request.axes
    if int(told.get("channels") or 1) > 1 and "C" not in facts.base_axes + (axes or ""):
        found["channel"] = told.get("channel")
        if axes is not None:
            at = str(told.get("axes", "C")).index("C")
            found["axes"] = f"{axes[:at]}C{axes[at:]}"
    typed = request.voxel_size_um or (None, None, None)
    set_on_layer = [
        v if mark == "user" else None
        for v, mark in zip(facts.voxel_size.zyx_um, facts.voxel_size.origins, strict=True)
    ]
    lengths = tuple(
        own if given is None else given for given, own in zip(typed, set_on_layer, strict=True)
    )
    if lengths != typed:
        found["voxel_size_um"] = lengths
    return found


def with_record_of_file(
    result: EnhanceResult, request: EnhanceRequest, facts: LayerFacts
) -> EnhanceResult:
    """Return a result whose record names the file's channel; the pixels are the same."""
    changes = _changes(request, facts)
    if not changes:
        return result
    recorded = of_file(request, facts).model_dump(mode="json")
    return replace(result, provenance=result.provenance.model_copy(update={"request": recorded}))
