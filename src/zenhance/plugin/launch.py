"""Open napari with a stack and the Enhance dock: ``python -m zenhance.plugin.launch [FILE]``.

Without FILE, it opens the bundled sample.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["main", "open_viewer"]

SAMPLE = "meristem_deep"
# The cells of the middle third are the ones that are dim and blurred.
DEEP = 0.6


def open_viewer(path: str | None = None, **viewer_keywords: Any) -> tuple[Any, Any]:
    """Open a viewer with a stack and the Enhance dock.

    Parameters
    ----------
    path : str, optional
        The file to open; left out, the bundled sample.

    Returns
    -------
    viewer : napari.Viewer
    dock : EnhanceDock
    """
    import napari

    viewer = napari.Viewer(title="zenhance", **viewer_keywords)
    if path is None:
        viewer.open_sample("zenhance", SAMPLE)
    else:
        viewer.open(path, plugin="zenhance")
    _, dock = viewer.window.add_plugin_dock_widget("zenhance", "Enhance")
    for index, label in enumerate(viewer.dims.axis_labels):
        if label.lower() == "z":
            viewer.dims.set_current_step(index, round(DEEP * viewer.dims.nsteps[index]))
    return viewer, dock


def main(arguments: Sequence[str] | None = None) -> int:
    """Run napari until it is closed; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) > 1 or any(a in ("-h", "--help") for a in given):
        print("usage: python -m zenhance.plugin.launch [FILE]")
        return 0 if len(given) == 1 else 2
    import napari

    open_viewer(*given)
    napari.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
