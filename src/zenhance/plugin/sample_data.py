"""napari samples: the simulated stacks that ship with the package, opened offline with their voxel size."""

from __future__ import annotations

from typing import Any

__all__ = ["meristem_deep", "meristem_two_channel"]

LayerData = tuple[Any, dict[str, Any], str]


def _open(name: str) -> list[LayerData]:
    from zenhance.io import open_sample
    from zenhance.plugin.readers import stack_layers

    return stack_layers(open_sample(name))


def meristem_deep() -> list[LayerData]:
    """Open a shoot apical meristem whose deep layers are dim, noisy and blurred."""
    return _open("meristem_deep")


def meristem_two_channel() -> list[LayerData]:
    """Open a meristem with a membrane and a nuclear marker."""
    return _open("meristem_two_channel")
