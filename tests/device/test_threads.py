"""Waiting threads spin only briefly, unless the user or an earlier import of torch decided."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zenhance.device.choice import SPINS

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
CODE = """
import os
{first}
from zenhance.device.choice import choose_device
choose_device('cpu')
print(os.environ.get('GOMP_SPINCOUNT'))
"""


@pytest.mark.parametrize(
    ("first", "chosen", "expected"),
    [
        ("", {}, str(SPINS)),
        ("", {"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
        ("", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("import torch", {}, "None"),
    ],
)
def test_threads_spin_briefly_unless_someone_chose_otherwise(
    first: str, chosen: dict[str, str], expected: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in NAMES} | chosen
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(first=first)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == expected
