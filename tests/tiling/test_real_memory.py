"""Memory that really runs out: a child process with an address-space limit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CHILD = """
import json, resource, sys
from pathlib import Path
import numpy as np
import torch
from zenhance.tiling.budget import choose_core, free_bytes
from zenhance.tiling.geometry import plan_tiles
from zenhance.tiling.run import run_tiles

library, planned = sys.argv[1], sys.argv[2] == "planned"
torch.ones(1000) + 1
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)

PER_VOXEL = 512
volume = np.random.default_rng(0).random((16, 256, 256), dtype=np.float32)
image = np.zeros_like(volume)

def process(tile, origin_px):
    floats = PER_VOXEL // 4 * tile.size
    work = np.ones(floats, np.float32) if library == "numpy" else torch.ones(floats)
    yield 0.5
    return {"enhanced": tile * float(work[-1])}

def write(name, region, array):
    image[region] = array

core = volume.shape
if planned:
    core = choose_core(volume.shape, (0, 2, 2), (1, 1, 1), PER_VOXEL, free_bytes("cpu"))
tiles = plan_tiles(volume.shape, core, (0, 2, 2))
run = run_tiles(tiles, lambda region: volume[region], process, write)
while True:
    try:
        next(run)
    except StopIteration as stop:
        same = bool(np.array_equal(image, volume))
        print(json.dumps({"shrunk": stop.value.shrunk, "tiles": stop.value.tiles, "equal": same}))
        break
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="address-space limits are enforced on Linux"
)


@pytest.mark.parametrize(
    ("library", "plan"), [("numpy", "whole"), ("torch", "whole"), ("torch", "planned")]
)
def test_a_run_ends_well_in_less_memory_than_the_volume_needs(library, plan):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, library, plan],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["equal"]
    assert report["tiles"] >= 2
    assert (report["shrunk"] == 0) is (plan == "planned")
