"""Models as bioimage.io packages: valid, and computing the same without zenhance."""

from __future__ import annotations

import io
import json
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.contract import registry
from zenhance.errors import CheckpointError, OutputExistsError, WriteError
from zenhance.models.bioimageio import export_bioimageio
from zenhance.models.catalogue import list_weights
from zenhance.models.checkpoint import read_checkpoint

# One that sees features, one that sees neighbouring planes, and one that makes finer pixels.
MODELS = ("dqlr_any", "srcnn_stack", "srcnn_x2")


@pytest.fixture(scope="module", params=MODELS)
def package(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("bioimageio") / f"{request.param}.zip"
    return request.param, export_bioimageio(request.param, path)


# The library warns at its own import.
@pytest.mark.filterwarnings("ignore")
def test_a_package_is_valid_by_the_specification(package: tuple[str, Path]) -> None:
    spec = pytest.importorskip("bioimageio.spec", reason="bioimageio.spec is not installed")
    found = spec.load_description(package[1], perform_io_checks=True)
    summary = found.validation_summary
    assert summary.status in ("valid-format", "passed"), summary.format()
    assert found.type == "model"
    assert found.documentation is not None


@pytest.mark.filterwarnings("ignore")
def test_the_library_gets_the_recorded_output(package: tuple[str, Path]) -> None:
    core = pytest.importorskip("bioimageio.core", reason="bioimageio.core is not installed")
    if tuple(int(n) for n in version("bioimageio.spec").split(".")[:3]) < (0, 5, 14):
        pytest.skip("bioimageio.core came with a bioimageio.spec that fails with pydantic 2.14")
    summary = core.test_model(str(package[1]), weight_format="torchscript", determinism="full")
    assert summary.status == "passed", summary.format()


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
def test_the_weights_run_with_torch_alone_as_they_do_here(package: tuple[str, Path]) -> None:
    name, path = package
    with zipfile.ZipFile(path) as archive:
        description = yaml.safe_load(archive.read("rdf.yaml"))
        network = torch.jit.load(io.BytesIO(archive.read("weights.pt")))
        given, wanted = (
            np.load(io.BytesIO(archive.read(f"test_{n}.npy"))) for n in ("input", "output")
        )
        inside = archive.read(f"{name}.safetensors")
    with torch.inference_mode():
        found = network(torch.from_numpy(given)).numpy()
    assert np.abs(found - wanted).max() <= 1e-4 * np.ptp(wanted)
    entries = [e for m in registry.names() if registry.load(m).spec.learns != "no"
               for e in list_weights(m)]  # fmt: skip
    (entry,) = [e for e in entries if e.name == name]
    assert inside == entry.path.read_bytes()
    saved = read_checkpoint(entry.path).test_output.numpy()
    assert np.abs(found - saved).max() <= 2e-3 * np.ptp(saved)
    axes = {axis.get("id"): axis for axis in description["inputs"][0]["axes"]}
    if isinstance(axes["y"]["size"], dict):
        size = axes["y"]["size"]
        larger = torch.rand(1, given.shape[1], size["min"] + size["step"], size["min"])
        with torch.inference_mode():
            assert (
                network(larger).shape[-2] * given.shape[-2] == larger.shape[-2] * wanted.shape[-2]
            )


def test_a_method_without_citations_cannot_be_exported_unnoticed() -> None:
    for name in registry.names():
        spec = registry.load(name).spec
        if spec.learns != "no":
            assert spec.references, name


def test_unknown_names_and_taken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='no model "dqlr_ani"; did you mean "dqlr_any"'):
        export_bioimageio("dqlr_ani", tmp_path / "a.zip")
    with pytest.raises(WriteError, match=r"end the name in \.zip"):
        export_bioimageio("srcnn_stack", tmp_path / "a.tif")
    (tmp_path / "b.zip").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        export_bioimageio("srcnn_stack", tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == b"mine"


def test_the_command_line_exports_a_model(tmp_path: Path) -> None:
    words = ["weights", "export", str(tmp_path / "a.zip"), "--name", "srcnn_stack", "--json"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout) == {"name": "srcnn_stack", "path": str(tmp_path / "a.zip")}
    said = CliRunner().invoke(app, ["weights", "export", "a.zip"])
    assert said.exit_code == 2
    assert "needs a file and the name of a model" in said.stderr
