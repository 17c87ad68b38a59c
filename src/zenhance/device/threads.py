"""Keep torch's threads from spinning long while they wait for each other.

GNU OpenMP, which PyTorch uses on Linux, lets waiting threads spin for milliseconds by default. If
another program, or the viewer's own thread, holds one of the cores, the other threads burn theirs
while they wait. Threads that sleep at once wake too slowly for the many small steps of a blur. Ten
Richardson-Lucy iterations on 32 × 256 × 256 voxels, two cores, in seconds, fastest and slowest of
four, measured once:

==================  ===========  ==============  ===============
waiting threads     idle         one core busy   two cores busy
==================  ===========  ==============  ===============
as GNU has it       0.13 - 0.16  0.27 - 0.58     0.89 - 1.08
spin briefly        0.13 - 0.15  0.68 - 0.83     0.55 - 0.62
sleep at once       0.69 - 0.79  0.31 - 0.33     0.32 - 0.94
==================  ===========  ==============  ===============

No setting is best everywhere: brief spinning keeps the speed of the idle machine and never took a
second, but is slower with one busy core. GNU's default once took 27 s for forty blurs on two busy
cores.
"""

from __future__ import annotations

import os
import sys

__all__ = ["SPINS", "spin_briefly"]

SPINS = 1000
"""Looks at the lock before a thread goes to sleep."""


def spin_briefly() -> None:
    """Limit OpenMP's spinning unless the user chose otherwise; call before torch is imported."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
