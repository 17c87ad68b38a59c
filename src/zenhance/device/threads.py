"""How long torch's threads spin while they wait for each other: briefly, so that a busy computer does not bring them to a standstill.

GNU OpenMP, which PyTorch uses on Linux, lets waiting threads spin for milliseconds by default. Where another program, or the viewer's own
thread, holds one of the cores, the others burn theirs waiting for it. Threads that sleep at once are woken too slowly for the many small
steps of a blur. Ten Richardson-Lucy iterations on 32 × 256 × 256 voxels, two cores, in seconds, fastest and slowest of four, measured once:

==================  ===========  ==============  ===============
waiting threads     idle         one core busy   two cores busy
==================  ===========  ==============  ===============
as GNU has it       0.13 - 0.16  0.27 - 0.58     0.89 - 1.08
spin briefly        0.13 - 0.15  0.68 - 0.83     0.55 - 0.62
sleep at once       0.69 - 0.79  0.31 - 0.33     0.32 - 0.94
==================  ===========  ==============  ===============

None is best everywhere: brief spinning keeps the speed of the idle machine and never took a second, but loses with one busy core.
Earlier, GNU's default once took 27 s for forty blurs on two busy cores.
"""

from __future__ import annotations

import os
import sys

__all__ = ["SPINS", "spin_briefly"]

SPINS = 1000
"""Looks at the lock before a thread goes to sleep."""


def spin_briefly() -> None:
    """Let OpenMP threads wait with hardly any spinning, unless the user has chosen otherwise; only works before torch is imported."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
