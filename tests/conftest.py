"""Fixtures shared by all tests: the folder of real microscope files, threads, and a home of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from zenhance.device.threads import spin_briefly

spin_briefly()

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real microscope files beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real microscope files are not on this machine ({SHARED_DATA})")
    return SHARED_DATA
