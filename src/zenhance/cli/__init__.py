"""The command line: ``zenhance enhance``, ``train``, ``assess``, ``info`` and the other commands.

One file holds one command. The command line turns words into a request, shows progress, and turns
every failure into one sentence and an exit code. The rooms below do the work. Heavy libraries load
only when a command needs them, so ``zenhance --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the program's name; those of the process by default.

    Raises
    ------
    SystemExit
        Always, with a status from the table in ``zenhance.errors``.
    """
    try:
        from zenhance.device.choice import spin_briefly

        spin_briefly()
        from zenhance.cli.app import command

        command().main(args=list(sys.argv[1:] if argv is None else argv), prog_name="zenhance")
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, MemoryError, OSError) as error:
        # The gate catches every error of a command; here the program itself could not be loaded.
        _leave_without_memory(error)
        raise


def _leave_without_memory(error: Exception) -> None:
    """Exit with one sentence if memory is too short to load the program; else return."""
    lacking = isinstance(error, MemoryError) or "failed to map segment" in str(error)
    if lacking or "annot allocate memory" in str(error):
        sys.stderr.write("zenhance: the computer ran out of memory; close other programs\n")
        sys.exit(5)
