"""Where a run computes: the device, its name for people, and why it was chosen.

torch is imported only where a GPU has to be asked for; choosing ``cpu`` imports nothing.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zenhance.errors import MethodError
from zenhance.wording import format_bytes

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["SPINS", "Device", "choose_device", "release_memory", "spin_briefly"]

SPINS = 1000
"""Looks at the lock before a thread goes to sleep."""


def spin_briefly() -> None:
    """Limit OpenMP's spinning unless the user chose otherwise; call before torch is imported.

    Notes
    -----
    GNU OpenMP, which PyTorch uses on Linux, lets waiting threads spin for milliseconds by default.
    If another program, or the viewer's own thread, holds a core, the other threads burn theirs
    while they wait. Threads that sleep at once wake too slowly for the many small steps of a blur.
    Ten Richardson-Lucy iterations on 32 × 256 × 256 voxels, two cores, in seconds, fastest and
    slowest of four, measured once:

    ==================  ===========  ==============  ===============
    waiting threads     idle         one core busy   two cores busy
    ==================  ===========  ==============  ===============
    as GNU has it       0.13 - 0.16  0.27 - 0.58     0.89 - 1.08
    spin briefly        0.13 - 0.15  0.68 - 0.83     0.55 - 0.62
    sleep at once       0.69 - 0.79  0.31 - 0.33     0.32 - 0.94
    ==================  ===========  ==============  ===============

    No setting is best everywhere. Brief spinning keeps the speed of the idle machine and never took
    a second, but is slower with one busy core. GNU's default once took 27 s for forty blurs on two
    busy cores.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


@dataclass(frozen=True, slots=True)
class Device:
    """A device that is there.

    Parameters
    ----------
    name : str
        As torch takes it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    title : str
        For people, such as ``NVIDIA H200``.
    reason : str
        Why this one, such as ``CPU: no CUDA GPU found``.
    """

    name: str
    title: str
    reason: str


def _cpu(reason: str) -> Device:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return Device("cpu", f"CPU, {cores} core{'s' if cores > 1 else ''}", f"CPU: {reason}")


def _has_mps(torch: ModuleType) -> bool:
    return bool(torch.backends.mps.is_available())


def _why_no_gpu(torch: ModuleType) -> str:
    if sys.platform == "darwin":
        return "this Mac has no GPU that PyTorch can use"
    if torch.version.cuda is None and torch.version.hip is None:
        return "PyTorch is a CPU build"
    return "no CUDA GPU found"


def _cuda(torch: ModuleType, number: int | None) -> Device:
    index = torch.cuda.current_device() if number is None else number
    title = str(torch.cuda.get_device_name(index))
    free, _ = torch.cuda.mem_get_info(index)
    return Device(
        "cuda" if number is None else f"cuda:{number}",
        title,
        f"CUDA: {title}, {format_bytes(free)} free",
    )


def _mps() -> Device:
    return Device(
        "mps", "Apple GPU", "MPS: Apple GPU; results can differ from the CPU's in the last digits"
    )


def _auto() -> Device:
    import torch

    if torch.cuda.is_available():
        try:
            return _cuda(torch, None)
        except RuntimeError as error:
            return _cpu(f"the CUDA GPU does not answer ({' '.join(str(error).split())[:80]})")
    return _mps() if _has_mps(torch) else _cpu(_why_no_gpu(torch))


def _asked_cuda(wanted: str, number: int | None) -> Device:
    import torch

    if not torch.cuda.is_available():
        raise MethodError(
            f'device "{wanted}" is not available: {_why_no_gpu(torch)}; choose "auto" or "cpu"'
        )
    count = torch.cuda.device_count()
    if number is not None and number >= count:
        raise MethodError(
            f'device "{wanted}" is not available: GPUs are numbered 0 to {count - 1}; '
            'choose one of them or "auto"'
        )
    try:
        return _cuda(torch, number)
    except RuntimeError as error:
        raise MethodError(
            f'device "{wanted}" does not answer ({" ".join(str(error).split())[:80]}); choose "cpu"'
        ) from None


def choose_device(wanted: str = "auto") -> Device:
    """Return the device to compute on.

    Parameters
    ----------
    wanted : str
        ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises
    ------
    MethodError
        The name is none of these, or a GPU is asked for that is not there.
    """
    spin_briefly()
    if wanted == "auto":
        return _auto()
    if wanted == "cpu":
        return _cpu("as asked")
    if wanted == "mps":
        import torch

        if not _has_mps(torch):
            raise MethodError(
                'device "mps" is not available: it needs a Mac with Apple silicon; '
                'choose "auto" or "cpu"'
            )
        return _mps()
    asked = re.fullmatch(r"cuda(?::(\d{1,3}))?", wanted)
    if asked is None:
        raise MethodError(
            f'there is no device "{wanted}"; allowed are auto, cpu, cuda, cuda:N and mps'
        )
    return _asked_cuda(wanted, int(asked.group(1)) if asked.group(1) else None)


def release_memory(device: str) -> None:
    """Return unreferenced memory to a GPU; does nothing for the CPU and never imports torch.

    Parameters
    ----------
    device : str
        As :func:`choose_device` names it.
    """
    torch = sys.modules.get("torch")
    if torch is None or device == "cpu":
        return
    gc.collect()
    if device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.ipc_collect()
    elif device == "mps":
        torch.mps.empty_cache()
