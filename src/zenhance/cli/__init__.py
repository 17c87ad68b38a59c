"""The command line: ``zenhance enhance``, ``methods``, ``info``, ``sample``, ``doctor`` and the rest.

It parses words into a request, shows progress, and turns every failure into one sentence and an exit code; the work itself is
done by the rooms below. Nothing heavy is imported before a command needs it, so that ``zenhance --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the program's name; left out, those of the process.

    Raises
    ------
    SystemExit
        Always, with the status of the table in ``zenhance.errors``.
    """
    try:
        from zenhance.device.threads import spin_briefly

        spin_briefly()
        from zenhance.cli.app import command

        command().main(args=list(sys.argv[1:] if argv is None else argv), prog_name="zenhance")
    except KeyboardInterrupt:
        sys.exit(130)
