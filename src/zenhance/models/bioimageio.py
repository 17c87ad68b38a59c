"""Export a model as a bioimage.io package: model description 0.5 with TorchScript weights.

The package holds the network alone. What zenhance does around it (statistics of the volume, the
window of planes, deconvolved estimates, tiles, data consistency) is described in its README. The
safetensors file lies in the package too, so that ``zenhance weights add`` takes the model back.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn import Module

from zenhance.contract import registry
from zenhance.contract.learner import Learner, LearningMethod
from zenhance.contract.spec import Reference
from zenhance.errors import CheckpointError, FailureKind, WriteError
from zenhance.io.commit import write_bytes
from zenhance.models.catalogue import SUFFIX, list_weights
from zenhance.models.checkpoint import Checkpoint, load_network, read_checkpoint
from zenhance.models.header import Card
from zenhance.wording import hint_for, quoted

__all__ = ["FORMAT_VERSION", "export_bioimageio"]

FORMAT_VERSION = "0.5.4"
STEP_PX = 16
"""Where the traced network agrees with the original at another size, sizes go in such steps."""
TOLERANCE = 1e-4
"""Of the output's range, between the traced network and the original one."""
COVER_PX = 512


def export_bioimageio(name: str, path: Path, *, overwrite: bool = False) -> Path:
    """Write a model as a bioimage.io package.

    Parameters
    ----------
    name : str
        Of a model that ships or of the user's own, as ``zenhance weights`` lists it.
    path : Path
        Ends in ``.zip``.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    CheckpointError
        There is no such model, it fails its own test, or its network cannot be traced.
    WriteError, OutputExistsError
        Nothing was written; the text says why.
    """
    if path.suffix.lower() != ".zip":
        raise WriteError(
            f'a bioimage.io package is a zip file, "{path.name}" is not; end the name in .zip',
            FailureKind.BAD_PARAMETER,
        )
    checkpoint = read_checkpoint(_found(name))
    method = registry.load(checkpoint.card.method)
    if not isinstance(method, LearningMethod):
        raise CheckpointError(
            f'the model "{name}" is for {method.spec.name}, which uses no weights'
        )
    learner = method.learner()
    network = _Prediction(learner, load_network(checkpoint, learner, "cpu")).eval()
    weights, free = _traced(network, checkpoint)
    files = {
        "weights.pt": weights,
        "test_input.npy": _npy(checkpoint.test_input),
        "test_output.npy": _npy(_run(network, checkpoint.test_input)),
        "cover.png": _cover(checkpoint),
        f"{checkpoint.card.name}{SUFFIX}": checkpoint.path.read_bytes(),
        "README.md": _readme(checkpoint.card, learner).encode(),
    }
    description = _description(checkpoint, method.spec.references, files, free)
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    return write_bytes(path, _zipped({"rdf.yaml": text.encode(), **files}), overwrite=overwrite)


@dataclass(frozen=True, slots=True)
class _Freedom:
    """Whether a traced network takes patches of other sizes, and several at once."""

    size: bool
    batch: bool


class _Prediction(Module):
    """A network as its learner uses it: scaled patches in, the enhanced middle plane out."""

    def __init__(self, learner: Learner, network: Module) -> None:
        super().__init__()
        self.network = network
        self._predict = learner.predict

    def forward(self, measured: Tensor) -> Tensor:
        """Return the middle plane (B, 1, sY, sX) of patches (B, C, Y, X)."""
        return self._predict(self.network, measured)


def _found(name: str) -> Path:
    methods = [n for n in registry.names() if registry.load(n).spec.learns != "no"]
    entries = {entry.name: entry.path for n in methods for entry in list_weights(n)}
    if name not in entries:
        raise CheckpointError(f"there is no model {quoted(name)}; {hint_for(name, entries)}")
    return entries[name]


def _run(network: Module, measured: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network(measured)
    return found


def _traced(network: Module, checkpoint: Checkpoint) -> tuple[bytes, _Freedom]:
    """Return the network as TorchScript, and which other inputs it takes."""
    given = checkpoint.test_input
    rows, columns = given.shape[-2:]
    other = given.repeat(1, 1, 2, 2)[..., : rows + STEP_PX, : columns + 2 * STEP_PX]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Tracing warns of shapes that become constants; what they do is measured below.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(network, given, check_trace=False)  # type: ignore[no-untyped-call]
            buffer = io.BytesIO()
            torch.jit.save(traced, buffer)
            loaded = torch.jit.load(io.BytesIO(buffer.getvalue()))  # type: ignore[no-untyped-call]
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(
            f'the network of the model "{checkpoint.card.name}" cannot be written as TorchScript '
            f"({str(error).splitlines()[0][:100]}); its safetensors file can be shared instead"
        ) from error
    if not _same(loaded, network, given):
        raise CheckpointError(
            f'the network of the model "{checkpoint.card.name}" computes something else as '
            "TorchScript; its safetensors file can be shared instead"
        )
    pair = torch.cat([given, given.flip(-1)])
    free = _Freedom(_same(loaded, network, other), _same(loaded, network, pair))
    return buffer.getvalue(), free


def _same(traced: Module, network: Module, measured: Tensor) -> bool:
    wanted = _run(network, measured)
    try:
        found = _run(traced, measured)
    except RuntimeError:
        return False
    reach = max(float(wanted.max() - wanted.min()), 1e-6)
    return found.shape == wanted.shape and float((found - wanted).abs().max()) <= TOLERANCE * reach


def _npy(tensor: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, tensor.numpy().astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def _cover(checkpoint: Checkpoint) -> bytes:
    """Return the middle plane of the test input beside the test output, as a PNG."""
    from PIL import Image

    measured, found = checkpoint.test_input, checkpoint.test_output[0, 0]
    window = int(checkpoint.card.architecture.get("window", 1))
    middle = measured[0, window // 2 if window <= measured.shape[1] else 0]
    panels = []
    for plane in (middle, found):
        low, high = float(plane.min()), float(plane.max())
        grey = ((plane - low) / max(high - low, 1e-6) * 255).round().to(torch.uint8).numpy()
        panels.append(Image.fromarray(grey).resize((COVER_PX, COVER_PX)))
    cover = Image.new("L", (2 * COVER_PX, COVER_PX))
    for k, panel in enumerate(panels):
        cover.paste(panel, (k * COVER_PX, 0))
    buffer = io.BytesIO()
    cover.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file; equal content gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _described(name: str, files: Mapping[str, bytes]) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def _description(
    checkpoint: Checkpoint,
    references: tuple[Reference, ...],
    files: Mapping[str, bytes],
    free: _Freedom,
) -> dict[str, Any]:
    """Return the model description."""
    card = checkpoint.card
    what = card.description or f"A model of the method {card.method} of zenhance."
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": f"zenhance {card.name}",
        "description": what,
        "authors": [{"name": "The zenhance developers"}],
        "cite": [{"text": one.text, "doi": one.doi} for one in references],
        "license": card.licence,
        "documentation": _described("README.md", files),
        "covers": ["cover.png"],
        "tags": ["zenhance", card.method, "restoration", "fluorescence", "confocal", "2d"],
        "timestamp": card.created,
        "version": "1.0.0",
        "inputs": [_input(checkpoint, files, free)],
        "outputs": [_output(checkpoint, files)],
        "weights": {
            "torchscript": {
                **_described("weights.pt", files),
                "pytorch_version": torch.__version__.partition("+")[0],
            }
        },
        "attachments": [_described(f"{card.name}{SUFFIX}", files)],
        "config": {"zenhance": json.loads(card.to_json())},
    }


def _space(axis: str, um: float | None, size: Any) -> dict[str, Any]:
    known = {} if um is None else {"unit": "micrometer", "scale": um}
    return {"type": "space", "id": axis, "size": size, **known}


def _input(checkpoint: Checkpoint, files: Mapping[str, bytes], free: _Freedom) -> dict[str, Any]:
    _, channels, rows, columns = checkpoint.test_input.shape
    um = checkpoint.card.voxel_size_um or (None, None, None)
    sizes = [{"min": n, "step": STEP_PX} if free.size else n for n in (rows, columns)]
    return {
        "id": "measured",
        "description": "scaled patches: background 0, the volume's 99.9 % quantile 1",
        "axes": [
            {"type": "batch"} | ({} if free.batch else {"size": 1}),
            {"type": "channel", "channel_names": [f"plane{k}" for k in range(channels)]},
            _space("y", um[1], sizes[0]),
            _space("x", um[2], sizes[1]),
        ],
        "test_tensor": _described("test_input.npy", files),
        "data": {"type": "float32"},
    }


def _output(checkpoint: Checkpoint, files: Mapping[str, bytes]) -> dict[str, Any]:
    um = checkpoint.card.voxel_size_um or (None, None, None)
    finer = checkpoint.test_output.shape[-1] // checkpoint.test_input.shape[-1]
    return {
        "id": "enhanced",
        "description": "the enhanced middle plane, in the scaling of the input",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": ["enhanced"]},
            *(
                _space(axis, None if size is None else size / finer,
                       {"tensor_id": "measured", "axis_id": axis})
                for axis, size in (("y", um[1]), ("x", um[2]))
            ),
        ],
        "test_tensor": _described("test_output.npy", files),
        "data": {"type": "float32"},
    }  # fmt: skip


def _readme(card: Card, learner: Learner) -> str:
    """Return the documentation: what the channels are, and what zenhance does besides."""
    extra = _estimates(card, learner)
    trained = (
        "any voxel size"
        if card.voxel_size_um is None
        else f"voxels of {' × '.join(f'{v:g}' for v in card.voxel_size_um)} µm (z, y, x)"
    )
    figures = "\n".join(f"- {name}: {value:.4g}" for name, value in sorted(card.metrics.items()))
    return f"""# {card.name}

{card.description}

A model of the method `{card.method}` of zenhance, for {trained}.

## Use

Input: patches with axes batch, channel, y, x in float32. The channels are neighbouring planes
along z, the enhanced one in the middle{f", then {extra}" if extra else ""}.
Intensities are scaled once a volume: its background becomes 0, its 99.9 % quantile 1.
Output: the enhanced middle plane in the same scaling.

zenhance itself measures the volume, cuts planes and tiles, and checks the result by its
measurement; outside zenhance none of this is done:

    zenhance enhance IN OUT --method {card.method} --weights {card.name}

`{card.name}.safetensors` in this package can be added to zenhance with `zenhance weights add`.

## Training

{card.command or "see the recipe in config.zenhance of the description"}

## Validation

Figures on validation data, in the units of the training:

{figures or "none were recorded"}

Validate it on your own stacks: compare with a sharp reference if you have one; if not, blur the
result with the point spread function and compare it with the measurement
(`zenhance assess RAW RESULT`).
"""


def _estimates(card: Card, learner: Learner) -> str:
    """Return what the channels hold besides the measured planes; empty for nothing."""
    if learner.front_end(card.architecture):
        return "the features of zenhance's front end (evened light, noise, PSF, deconvolutions)"
    if steps := learner.deconvolved(card.architecture):
        counts = " and ".join(str(n) for n in steps)
        return f"Richardson-Lucy estimates of the same planes after {counts} iterations"
    return ""
