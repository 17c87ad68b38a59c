"""``zenhance weights``: what models there are, and how one is taken in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.contract import registry
from zenhance.errors import CheckpointError
from zenhance.models import checkpoint as install
from zenhance.models.catalogue import find_weights
from zenhance.models.checkpoint import dump_checkpoint
from zenhance.models.header import Card

ARCHITECTURE = {"kernels": [3, 1, 3], "widths": [4, 4], "window": 1}


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["weights", *(str(word) for word in words)])


def write_model(path: Path, method: str = "srcnn", honest: bool = True, **card: Any) -> Path:
    """Write a small network with random weights and what it makes of a random input."""
    torch.manual_seed(0)
    network = registry.load("srcnn").learner().build(ARCHITECTURE).eval()  # type: ignore[attr-defined]
    test = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        expected = network(test)
    fields = {
        "name": "mine",
        "version": "1",
        "description": "for tests",
        "metrics": {"psnr_db": 31.25},
        "voxel_size_um": (0.5, 0.2, 0.2),
    }
    made = Card(**(fields | {"method": method, "architecture": ARCHITECTURE} | card))
    path.write_bytes(
        dump_checkpoint(made, network.state_dict(), test, expected if honest else expected + 1)
    )
    return path


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path / "own" / "weights"))
    return tmp_path / "own" / "weights"


def test_a_model_is_tested_and_copied_and_then_found_by_its_name(tmp_path: Path, own: Path) -> None:
    file = write_model(tmp_path / "model.safetensors")
    result = run("add", file)
    assert result.exit_code == 0, result.output
    assert [path.name for path in own.iterdir()] == ["mine.safetensors"]
    assert (own / "mine.safetensors").read_bytes() == file.read_bytes()
    assert "--method srcnn --weights mine" in result.stdout
    assert find_weights("srcnn", "mine") == own / "mine.safetensors"
    again = run("add", file)
    assert again.exit_code == 9
    assert 'a model called "mine" exists already' in again.stderr
    renamed = json.loads(run("add", file, "--name", "second", "--json").stdout)
    assert (renamed["name"], renamed["path"]) == ("second", str(own / "second.safetensors"))


def test_the_list_names_method_origin_voxel_size_and_figures(tmp_path: Path, own: Path) -> None:
    run("add", write_model(tmp_path / "model.safetensors"))
    rows = [line for line in run("srcnn").stdout.splitlines() if line.split()[:1] == ["mine"]]
    assert len(rows) == 1
    assert re.search(r"mine +srcnn +yours +0\.5 × 0\.2 × 0\.2 +31\.2 dB +for tests", rows[0])
    found = json.loads(run("--json").stdout)
    mine = next(record for record in found if record["name"] == "mine")
    assert (mine["method"], mine["ships"], mine["default"]) == ("srcnn", False, False)
    assert mine["card"]["metrics"] == {"psnr_db": 31.25}
    assert {record["method"] for record in json.loads(run("rdn", "--json").stdout)} <= {"rdn"}


def test_where_there_is_no_model_the_list_says_how_to_get_one(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zenhance.models import catalogue as weights

    monkeypatch.setattr(weights, "list_weights", lambda method: ())
    result = run()
    assert (result.exit_code, result.stdout) == (
        0,
        "there are no models yet; train one, see: zenhance train --help\n",
    )


def test_models_that_cannot_be_trusted_are_refused(tmp_path: Path, own: Path) -> None:
    (tmp_path / "evil.safetensors").write_bytes(b"\x80\x04pickle" * 10)
    wrong = run("add", write_model(tmp_path / "changed.safetensors", honest=False))
    assert wrong.exit_code == 4
    assert "fails its own test" in wrong.stderr
    evil = run("add", tmp_path / "evil.safetensors")
    assert evil.exit_code == 4
    assert "Python pickle" in evil.stderr
    foreign = run("add", write_model(tmp_path / "foreign.safetensors", method="elsewhere"))
    assert foreign.exit_code == 4
    assert 'cannot be used: there is no method "elsewhere"' in foreign.stderr
    plain = run("add", write_model(tmp_path / "plain.safetensors", method="identity"))
    assert "is for identity, which uses no weights" in plain.stderr
    assert run("add", tmp_path / "gone.safetensors").exit_code == 4
    assert not own.exists()


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        (("add",), 2, r"zenhance weights add needs a file"),
        (("srcnn", "x.safetensors"), 2, r"a file or a name needs add"),
        (("identity",), 2, r"the method identity uses no trained weights"),
        (("srcn",), 2, r'there is no method "srcn"; did you mean "srcnn"\?'),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: tuple[str, ...], code: int, pattern: str, own: Path
) -> None:
    result = run(*words)
    assert result.exit_code == code
    assert re.search(pattern, result.stderr)


def test_a_name_that_ships_or_is_no_name_is_refused(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    write_model(shipped / "srcnn_stack.safetensors")
    monkeypatch.setattr(install, "shipped_folder", lambda method: shipped)
    with pytest.raises(
        CheckpointError,
        match='"srcnn_stack" ships with zenhance; give yours another name with --name',
    ):
        install.check_name("srcnn_stack")
    for name in ("../x", "", "a b", "x" * 101, ".hidden"):
        with pytest.raises(CheckpointError, match="cannot be the name of a model"):
            install.check_name(name)


def test_a_folder_that_cannot_be_made_is_told(own: Path, tmp_path: Path) -> None:
    own.parent.write_text("a file in the way")
    result = run("add", write_model(tmp_path / "model.safetensors"))
    assert result.exit_code == 6
    assert "set ZENHANCE_WEIGHTS to a folder that you can write to" in result.stderr
