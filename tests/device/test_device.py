"""Choice of the device, with the reason in words, on machines played by a stand-in for torch."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest

from zenhance.device import choice as device
from zenhance.device.choice import choose_device, release_memory
from zenhance.errors import MethodError


def machine(monkeypatch, *, cuda=(), mps=False, build="12.8", failure=None, platform="linux"):
    """Play a machine with these CUDA GPUs (names), an Apple GPU or none."""
    calls = []

    def memory(index):
        if failure:
            raise RuntimeError(failure)
        return (139_000_000_000 - index * 1_000_000_000, 150_000_000_000)

    torch = SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: bool(cuda),
            device_count=lambda: len(cuda),
            current_device=lambda: 0,
            get_device_name=lambda index: cuda[index],
            mem_get_info=memory,
            empty_cache=lambda: calls.append("empty_cache"),
            ipc_collect=lambda: calls.append("ipc_collect"),
        ),
        mps=SimpleNamespace(empty_cache=lambda: calls.append("mps.empty_cache")),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
        version=SimpleNamespace(cuda=build, hip=None),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(sys, "platform", platform)
    return calls


def test_auto_takes_cuda_first_and_says_how_much_is_free(monkeypatch):
    machine(monkeypatch, cuda=("NVIDIA H200",), mps=True)
    chosen = choose_device()
    assert (chosen.name, chosen.title, chosen.reason) == (
        "cuda",
        "NVIDIA H200",
        "CUDA: NVIDIA H200, 139 GB free",
    )


def test_auto_takes_an_apple_gpu_next_with_a_note(monkeypatch):
    machine(monkeypatch, mps=True, build=None, platform="darwin")
    chosen = choose_device("auto")
    assert (chosen.name, chosen.title) == ("mps", "Apple GPU")
    assert chosen.reason.startswith("MPS: Apple GPU; results can differ")


@pytest.mark.parametrize(
    ("build", "platform", "reason"),
    [
        (None, "linux", "CPU: PyTorch is a CPU build"),
        ("12.8", "linux", "CPU: no CUDA GPU found"),
        (None, "darwin", "CPU: this Mac has no GPU that PyTorch can use"),
    ],
)
def test_auto_falls_back_to_the_cpu_and_says_why(monkeypatch, build, platform, reason):
    machine(monkeypatch, build=build, platform=platform)
    chosen = choose_device()
    assert (chosen.name, chosen.reason) == ("cpu", reason)
    assert chosen.title.startswith("CPU, ")


def test_auto_passes_over_a_gpu_that_does_not_answer(monkeypatch):
    machine(
        monkeypatch, cuda=("NVIDIA H200",), failure="CUDA error: all CUDA-capable devices are busy"
    )
    assert (
        choose_device().reason
        == "CPU: the CUDA GPU does not answer (CUDA error: all CUDA-capable devices are busy)"
    )


def test_a_gpu_can_be_asked_for_by_number(monkeypatch):
    machine(monkeypatch, cuda=("NVIDIA A40", "NVIDIA T4"))
    chosen = choose_device("cuda:1")
    assert (chosen.name, chosen.title, chosen.reason) == (
        "cuda:1",
        "NVIDIA T4",
        "CUDA: NVIDIA T4, 138 GB free",
    )


@pytest.mark.parametrize(
    ("wanted", "there", "message"),
    [
        ("cuda", {}, 'device "cuda" is not available: no CUDA GPU found; choose "auto" or "cpu"'),
        ("cuda:0", {"build": None}, 'device "cuda:0" is not available: PyTorch is a CPU build'),
        (
            "cuda:2",
            {"cuda": ("a", "b")},
            'device "cuda:2" is not available: GPUs are numbered 0 to 1; '
            'choose one of them or "auto"',
        ),
        (
            "cuda",
            {"cuda": ("a",), "failure": "CUDA error: busy"},
            r'device "cuda" does not answer \(CUDA error: busy\); choose "cpu"',
        ),
        ("mps", {}, 'device "mps" is not available: it needs a Mac with Apple silicon'),
        ("gpu", {}, 'there is no device "gpu"; allowed are auto, cpu, cuda, cuda:N and mps'),
        ("cuda:-1", {"cuda": ("a",)}, 'there is no device "cuda:-1"'),
        ("cuda:x", {"cuda": ("a",)}, 'there is no device "cuda:x"'),
        ("", {}, 'there is no device ""'),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_what_to_choose(
    monkeypatch, wanted, there, message
):
    machine(monkeypatch, **there)
    with pytest.raises(MethodError, match=message):
        choose_device(wanted)


def test_the_cpu_can_be_chosen_and_its_memory_released_without_torch():
    code = (
        "import sys; from zenhance.device.choice import choose_device, release_memory; chosen = "
        "choose_device('cpu');"
        "release_memory('cpu'); print(chosen.reason, 'torch' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "CPU: as asked False"


def test_releasing_the_gpus_memory_collects_cycles_and_the_cpus_costs_nothing(monkeypatch):
    class Node:
        pass

    machine(monkeypatch, cuda=("a",))
    node = Node()
    node.itself = node
    alive = weakref.ref(node)
    gc.disable()
    try:
        del node
        release_memory("cpu")
        assert alive() is not None
        release_memory("cuda")
    finally:
        gc.enable()
    assert alive() is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cuda", ["empty_cache", "ipc_collect"]),
        ("cuda:1", ["empty_cache", "ipc_collect"]),
        ("mps", ["mps.empty_cache"]),
        ("cpu", []),
    ],
)
def test_releasing_memory_empties_the_cache_of_that_device_only(monkeypatch, name, expected):
    calls = machine(monkeypatch, cuda=("a", "b"))
    release_memory(name)
    assert calls == expected


def test_the_number_of_cores_is_that_of_this_process(monkeypatch):
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert choose_device("cpu").title == "CPU, 1 core"
