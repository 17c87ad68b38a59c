"""What a measurement says about the machine it was made on."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.machine import Machine, describe_machine

IDLE = Machine(
    cpu="Some CPU", cores=4, threads=4, gpu="", python="3.12.1", torch="2.13.0", load=0.3
)


def test_a_busy_machine_is_named_as_such() -> None:
    assert not IDLE.is_busy
    assert IDLE.describe() == "Some CPU, 4 cores, 4 threads; Python 3.12.1, torch 2.13.0"
    busy = replace(IDLE, load=3.6)
    assert busy.is_busy
    assert "the machine was busy (load 3.6), so times are too long" in busy.describe()


def test_a_system_without_a_load_figure_is_not_called_busy() -> None:
    assert not replace(IDLE, load=None).is_busy


def test_this_machine_is_described() -> None:
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.threads == torch.get_num_threads()
    assert machine.torch == torch.__version__
