"""Build hook: finds room inside the package for what stands at the top of the repository.

The manifest and the samples.

npe2 and ``importlib.resources`` look for them in the package folder. A wheel gets them as files. An
editable install runs from ``src/zenhance``, so there they are linked, or copied where the system
refuses links (Windows without developer mode); git ignores both paths.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TOP_LEVEL = ("napari.yaml", "sample_data")


def place(source: Path, target: Path) -> None:
    """Link target to source, or copy it; what an earlier build left at target is replaced."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    try:
        target.symlink_to(Path("..", "..", source.name), target_is_directory=source.is_dir())
    except OSError:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)


class TopLevelFilesHook(BuildHookInterface):
    """Puts the manifest and the samples into the package folder."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Link for an editable install.

        Include as files in a wheel, which may come from an sdist.
        """
        root = Path(self.root)
        for name in TOP_LEVEL:
            if version == "editable":
                place(root / name, root / "src" / "zenhance" / name)
            else:
                build_data["force_include"][str(root / name)] = f"zenhance/{name}"
