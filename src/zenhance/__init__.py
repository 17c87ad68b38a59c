"""zenhance enhances confocal z-stacks and says how far to believe the result.

Public names load on first use: ``import zenhance`` is cheap and imports neither torch, napari nor
dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zenhance._version import __version__

if TYPE_CHECKING:
    from zenhance.contract.registry import names as methods
    from zenhance.io import open_stack, write_stack
    from zenhance.pipeline import EnhanceRequest, EnhanceResult, enhance
    from zenhance.pipeline.probing import probe
    from zenhance.provenance import Provenance
    from zenhance.stack import Stack, VoxelSize

_HOMES = {
    "EnhanceRequest": "zenhance.pipeline",
    "EnhanceResult": "zenhance.pipeline",
    "Provenance": "zenhance.provenance",
    "Stack": "zenhance.stack",
    "VoxelSize": "zenhance.stack",
    "enhance": "zenhance.pipeline",
    "methods": "zenhance.contract.registry",
    "open_stack": "zenhance.io",
    "probe": "zenhance.pipeline.probing",
    "write_stack": "zenhance.io",
}

__all__ = [
    "EnhanceRequest",
    "EnhanceResult",
    "Provenance",
    "Stack",
    "VoxelSize",
    "__version__",
    "enhance",
    "methods",
    "open_stack",
    "probe",
    "write_stack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zenhance' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), "names" if name == "methods" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
