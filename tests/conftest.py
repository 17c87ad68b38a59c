"""Fixtures shared by all tests.

The folder of real microscope files, threads, and a home of one's own.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zenhance.device.choice import spin_briefly

spin_briefly()

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real microscope files beside the checkout.

    Tests that need it are skipped where it is absent.
    """
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real microscope files are not on this machine ({SHARED_DATA})")
    return SHARED_DATA


@pytest.fixture
def patience() -> float:
    """How much a time limit is stretched while others use the cores; 1 on an idle machine."""
    slower = 2.0 if os.environ.get("CI") else 1.0
    if not hasattr(os, "getloadavg"):
        return 2 * slower
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) * slower
