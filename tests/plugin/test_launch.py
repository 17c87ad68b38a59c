"""The commands that open napari: with the sample and the dock, and for the pictures in the docs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from zenhance.plugin import launch


def test_the_launcher_explains_itself(capsys):
    assert launch.main(["--help"]) == 0
    assert "usage" in capsys.readouterr().out
    assert launch.main(["a", "b"]) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_screenshot_command_clicks_enhance_and_makes_both_pictures(
    make_napari_viewer, tmp_path
):
    # The fixture is not used: it stands for the display that the child process needs.
    command = [
        sys.executable, "-m", "benchmarks", "screenshots",
        "--only", "enhance", "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=560, check=False)
    assert done.returncode == 0, done.stderr
    from skimage.io import imread

    before, after = (imread(tmp_path / name) for name in ("dock_before.png", "dock_after.png"))
    for picture in (before, after):
        assert picture.shape[0] > 600
        assert picture.shape[1] > 1000
    # The result is beside the original: the middle of the window differs, no picture is blank.
    assert before.std() > 10
    assert after.std() > 10
    assert before.shape != after.shape or np.mean(before != after) > 0.01
