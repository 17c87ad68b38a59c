"""TensorBoard event files of a training, where the tensorboard package is installed (``pip install "zenhance[train]"``)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from zenhance.types import FloatArray

__all__ = ["Board"]


class Board:
    """Writes scalars and preview pictures; silently nothing where tensorboard is missing.

    Parameters
    ----------
    folder : Path
        For the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def write(
        self, step: int, figures: Mapping[str, float], pictures: Mapping[str, FloatArray]
    ) -> None:
        """Write the figures and pictures of one validation."""
        if self._writer is None:
            if find_spec("tensorboard") is None:
                return
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        for name, value in figures.items():
            if name != "step":
                self._writer.add_scalar(name, value, step)
        for name, picture in pictures.items():
            self._writer.add_image(name, np.clip(picture, 0, 1)[np.newaxis], step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
