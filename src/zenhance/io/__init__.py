"""Read and write image files; heavy libraries load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zenhance.io.open import ImageInfo, inspect_image, open_stack
    from zenhance.io.samples import open_sample, open_sample_truth, sample_names
    from zenhance.io.write import verify_image, write_stack

_HOMES = {
    "ImageInfo": "zenhance.io.open",
    "inspect_image": "zenhance.io.open",
    "open_sample": "zenhance.io.samples",
    "open_sample_truth": "zenhance.io.samples",
    "open_stack": "zenhance.io.open",
    "sample_names": "zenhance.io.samples",
    "verify_image": "zenhance.io.write",
    "write_stack": "zenhance.io.write",
}

__all__ = [
    "ImageInfo",
    "inspect_image",
    "open_sample",
    "open_sample_truth",
    "open_stack",
    "sample_names",
    "verify_image",
    "write_stack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zenhance.io' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
