"""Checkpoints: nothing is executed, and damaged or changed files are refused."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from zenhance.errors import CheckpointError
from zenhance.models.catalogue import find_weights, list_weights
from zenhance.models.checkpoint import dump_checkpoint, read_checkpoint
from zenhance.models.header import Card, read_card

CARD = Card(
    method="srcnn", name="tiny", version="0", architecture={"width": 4}, metrics={"psnr": 30.5}
)


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 3, padding=1)
    ).eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    net = network()
    sample = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        blob = dump_checkpoint(CARD, net.state_dict(), sample, net(sample))
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(blob)
    return path


def test_a_model_reads_back_whole_and_passes_its_own_test(file: Path) -> None:
    checkpoint = read_checkpoint(file)
    assert checkpoint.card == CARD == read_card(file)
    other = network(seed=9)
    checkpoint.load_into(other)
    checkpoint.verify(other)
    for name, value in network().state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize("copy", range(20))
def test_tampered_weights_fail_the_models_own_test(file: Path, copy: int) -> None:
    tensors = load(file.read_bytes())
    rng = np.random.default_rng(copy)
    key = ("network.0.weight", "network.2.weight")[copy % 2]
    if copy % 4 < 2:
        tensors[key] = tensors[key].flip(0 if key.startswith("network.0") else 1).contiguous()
    else:
        tensors[key] = torch.from_numpy(
            rng.normal(size=tuple(tensors[key].shape)).astype(np.float32) * 0.3
        )
    file.write_bytes(save(tensors, metadata={"zenhance": CARD.to_json()}))
    checkpoint = read_checkpoint(file)
    net = checkpoint.load_into(network(seed=5))
    with pytest.raises(CheckpointError, match="fails its own test"):
        checkpoint.verify(net)


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_refused_and_never_opened(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "evil.safetensors", tmp_path / "PWNED"
    path.write_bytes(pickle.dumps(_Evil(mark), protocol=protocol))
    with pytest.raises(CheckpointError, match="pickle|not a safetensors"):
        read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_torch_file_is_refused_and_never_opened(tmp_path: Path, legacy: bool) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "PWNED"
    torch.save(_Evil(mark), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="pickle|not a safetensors"):
        read_checkpoint(path)
    assert not mark.exists()


def _with_header(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
META = {"__metadata__": {"zenhance": CARD.to_json()}}


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "not a safetensors"),
        (b"\x00" * 4, "not a safetensors"),
        (struct.pack("<Q", 2**63) + b"{}", "not a safetensors"),
        (struct.pack("<Q", 5 * 2**20) + b" " * (5 * 2**20), "not a safetensors"),
        (_with_header(b"{]"), "damaged"),
        (_with_header(b"[" * 100_000), "damaged"),
        (_with_header([1]), "too many tensors or none"),
        (_with_header({f"t{i}": ENTRY for i in range(10_001)}), "too many tensors"),
        (_with_header(b'{"a": 1, "a": 2}'), "names a tensor twice"),
        (_with_header({"a": ENTRY}, b"1234"), "no card"),
        (_with_header({**META, "a": {**ENTRY, "dtype": "I64"}}), "allowed are F16"),
        (_with_header({"__metadata__": {"zenhance": "{"}}), "card cannot be read"),
        (_with_header({**META, "a": {**ENTRY, "data_offsets": [0, 9]}}, b"1234"), "damaged"),
        (_with_header({**META, "a": {**ENTRY, "shape": [2**40]}}, b"1234"), "damaged"),
        (_with_header({**META, "network.a": ENTRY}, b"\x00\x00\x80\x3f"), "no test input"),
    ],
)
def test_a_hostile_or_broken_file_is_refused_in_one_sentence(
    tmp_path: Path, blob: bytes, message: str
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(blob)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError):
            read_checkpoint(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 0.0])
def test_values_that_cannot_be_weights_are_refused(file: Path, value: float) -> None:
    tensors = {
        k: torch.full_like(v, value) if k.startswith("network") else v
        for k, v in load(file.read_bytes()).items()
    }
    file.write_bytes(save(tensors, metadata={"zenhance": CARD.to_json()}))
    with pytest.raises(CheckpointError, match="not finite|all weights"):
        read_checkpoint(file)


def test_weights_of_another_shape_are_refused_with_the_names(file: Path) -> None:
    other = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 1, 3),
        torch.nn.Conv2d(1, 1, 1),
    )
    with pytest.raises(CheckpointError, match=r"3\.weight missing; 3\.bias missing; 0\.weight is"):
        read_checkpoint(file).load_into(other)


def test_a_models_own_folder_is_searched_and_the_nearest_name_offered(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path))
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    entries = [entry for entry in list_weights("srcnn") if not entry.ships]
    assert [entry.name for entry in entries] == ["tiny"]
    assert find_weights("srcnn", "tiny") == file
    assert find_weights("srcnn", str(file)) == file
    with pytest.raises(CheckpointError, match='did you mean "tiny"'):
        find_weights("srcnn", "tinny")
    with pytest.raises(CheckpointError, match="there is no file"):
        find_weights("srcnn", str(tmp_path / "none.safetensors"))
    with pytest.raises(CheckpointError, match="zenhance train identity"):
        find_weights("identity", None)
