"""Threads sleep while they wait, unless the user or an earlier import of torch has decided otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = "import os; {first}; from zenhance.tiling.device import choose_device; choose_device('cpu'); print(os.environ.get('OMP_WAIT_POLICY'))"


@pytest.mark.parametrize(
    ("first", "chosen", "expected"),
    [("pass", None, "PASSIVE"), ("pass", "ACTIVE", "ACTIVE"), ("import torch", None, "None")],
)
def test_threads_wait_asleep_unless_someone_chose_otherwise(first: str, chosen: str | None, expected: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if chosen is not None:
        environment["OMP_WAIT_POLICY"] = chosen
    code = CODE.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected
