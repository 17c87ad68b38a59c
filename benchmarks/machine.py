"""Description of the machine behind a measured time."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "describe_machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, threads and libraries behind a measurement.

    ``load`` is the number of runnable processes in the minute before it.
    """

    cpu: str
    cores: int
    threads: int
    gpu: str
    python: str
    torch: str
    load: float | None = None

    @property
    def is_busy(self) -> bool:
        """Whether other work made the times longer than they should be."""
        return self.load is not None and self.load > 0.5 * self.cores

    def describe(self) -> str:
        """One line for the foot of a table."""
        threads = "thread" if self.threads == 1 else "threads"
        gpu = f", {self.gpu}" if self.gpu else ""
        busy = (
            f"; the machine was busy (load {self.load:.1f}), so times are too long"
            if self.is_busy
            else ""
        )
        return (
            f"{self.cpu}, {self.cores} cores, {self.threads} {threads}{gpu}; "
            f"Python {self.python}, torch {self.torch}{busy}"
        )


def describe_machine() -> Machine:
    """Describe the machine; call it before the measurement, which is a load itself."""
    import torch

    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return Machine(
        cpu=_cpu_name(),
        cores=len(allowed) if allowed else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        gpu=gpu,
        python=platform.python_version(),
        torch=torch.__version__,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown processor"
