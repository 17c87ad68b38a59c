"""Models made to hurt: tests that nothing can fail, and cards that ask for endless networks."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load, save

from zenhance.contract import registry
from zenhance.contract.learner import LearningMethod
from zenhance.errors import CheckpointError
from zenhance.models.catalogue import find_weights, list_weights
from zenhance.models.checkpoint import load_network, read_checkpoint, try_model
from zenhance.models.header import Card, read_card

LEARNT = [n for n in registry.names() if registry.load(n).spec.learns != "no"]
MAX_SECONDS, MAX_BYTES = 5.0, 1e9


def architecture_of(method: str) -> type[BaseModel]:
    """Return the model of a method's architecture settings."""
    training = import_module(f"{type(registry.load(method)).__module__}.training")
    found = [
        value
        for name, value in vars(training).items()
        if name.endswith("Architecture") and name != "Architecture"
    ]
    assert len(found) == 1
    return found[0]  # type: ignore[no-any-return]


def shipped(method: str) -> Path:
    return find_weights(method, None, registry.load(method).spec.defaults.weights)


def altered(method: str, folder: Path, tensors: dict[str, Any], **architecture: Any) -> Path:
    """Write the model that ships with other tensors or another architecture on its card."""
    source = shipped(method)
    card = read_card(source)
    changed = card.model_copy(update={"architecture": card.architecture | architecture})
    path = folder / source.name
    path.write_bytes(
        save(load(source.read_bytes()) | tensors, metadata={"zenhance": changed.to_json()})
    )
    return path


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("which", ["test.output", "test.input"])
def test_a_test_that_cannot_be_failed_is_refused(tmp_path: Path, which: str, value: float) -> None:
    tensor = load(shipped("srcnn").read_bytes())[which]
    for changed in (torch.full_like(tensor, value), tensor.clone().index_fill_(3, _FIRST, value)):
        path = altered("srcnn", tmp_path, {which: changed})
        with pytest.raises(CheckpointError, match=f"the {which.replace('.', ' ')} .* not finite"):
            try_model(path)


_FIRST = torch.tensor([0])


@pytest.mark.parametrize("shape", [(1, 1, 4096, 4096), (32, 32), (0, 1, 8, 8)])
def test_a_test_that_would_take_for_ever_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = altered("srcnn", tmp_path, {"test.input": torch.zeros(shape)})
    with pytest.raises(CheckpointError, match=r"allowed are four axes"):
        read_checkpoint(path)


def bombs(method: str) -> Iterator[dict[str, Any]]:
    """Yield each integer of an architecture, and each list of them, with a huge value."""
    for name, field in architecture_of(method).model_fields.items():
        if field.annotation is int:
            # How long a warm-up takes does not decide the network.
            most = (10**9, -1) if name == "warmup_steps" else (6000, 100_000, 10**9, -1)
            yield from ({name: value} for value in most)
        elif get_origin(field.annotation) is tuple and "float" not in str(field.annotation):
            count = len(field.default) or 1
            yield from ({name: [value] * count} for value in (6000, 10**9))
            yield {name: [1] * 100_000}


@pytest.mark.parametrize("method", LEARNT)
def test_a_card_cannot_ask_for_an_endless_network(method: str) -> None:
    found = registry.load(method)
    assert isinstance(found, LearningMethod)
    learner, sound = found.learner(), read_checkpoint(shipped(method))
    tried = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for architecture in bombs(method):
        card = sound.card.model_copy(
            update={"architecture": sound.card.architecture | architecture}
        )
        started = time.process_time()
        with pytest.raises(CheckpointError) as caught:
            load_network(_with(sound, card), learner, "cpu")
        assert time.process_time() - started < MAX_SECONDS, architecture
        assert len(str(caught.value)) < 500, architecture
        assert "\n" not in str(caught.value)
        tried += 1
    assert tried > 5
    unit = 1 if sys.platform == "darwin" else 1024
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * unit < MAX_BYTES


def _with(sound: Any, card: Card) -> Any:
    return type(sound)(
        card, sound.state, sound.test_input, sound.test_output, sound.sha256, sound.path
    )


def test_a_large_network_that_is_allowed_is_compared_before_it_is_made(tmp_path: Path) -> None:
    path = altered("rdn", tmp_path, {}, features=256, growth=256, blocks=16, layers=8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="does not fit the method rdn"):
        try_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_a_network_that_sees_further_than_tiles_are_planned_for_is_refused(tmp_path: Path) -> None:
    path = altered("rdn", tmp_path, {}, blocks=64, layers=64)
    with pytest.raises(CheckpointError, match="radius of .* pixels, at most 134"):
        try_model(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_a_device_or_a_folder_in_place_of_a_model_is_never_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "pipe.safetensors")
    (tmp_path / "device.safetensors").symlink_to("/dev/zero")
    (tmp_path / "folder.safetensors").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(CheckpointError, match="cannot be opened.*(not a regular|a folder)"):
            try_model(path)
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path))
    assert all(entry.ships for method in LEARNT for entry in list_weights(method))
