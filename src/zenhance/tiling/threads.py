"""How torch's threads wait for each other: asleep, so that a busy computer does not bring them to a standstill.

By default OpenMP's threads spin while they wait. Where another program, or the viewer's own thread, holds one of the cores, the others
burn theirs waiting for it: 40 blurs of a 32 × 256 × 256 volume took up to 27 s on two busy cores, and 0.6 s with sleeping threads.
"""

from __future__ import annotations

import os
import sys

__all__ = ["wait_asleep"]


def wait_asleep() -> None:
    """Let OpenMP threads sleep while they wait, unless the user has chosen otherwise; only works before torch is imported."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
