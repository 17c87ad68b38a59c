"""The array and index types that every room shares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "FloatTriple", "Region", "Triple"]

FloatArray = npt.NDArray[np.float32]
"""A float32 image or volume; its docstring gives the axes."""
Triple = tuple[int, int, int]
"""Whole numbers along (z, y, x): a shape, an origin, a halo, a scale."""
FloatTriple = tuple[float, float, float]
"""Lengths or ratios along (z, y, x); the name of the variable gives the unit."""
Region = tuple[slice, slice, slice]
"""A box of a volume along (z, y, x)."""
