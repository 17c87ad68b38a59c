"""Between arrays and tensors (loads torch only when called)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zenhance.types import FloatArray

if TYPE_CHECKING:
    import torch

__all__ = ["exact_mean", "to_device", "to_numpy"]


def to_device(array: FloatArray, device: str) -> torch.Tensor:
    """Return a float32 tensor on a device; on the CPU it may share the array's memory."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)


def to_numpy(tensor: torch.Tensor) -> FloatArray:
    """Return a tensor as an array."""
    array: FloatArray = tensor.cpu().numpy()
    return array


def exact_mean(tensor: torch.Tensor) -> float:
    """Return the mean summed in float64 (on the CPU for devices without it, such as Metal)."""
    import torch

    return float(
        (tensor.cpu() if tensor.device.type == "mps" else tensor).mean(dtype=torch.float64)
    )
