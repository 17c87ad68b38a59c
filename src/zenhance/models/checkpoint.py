"""A model on disk: one safetensors file with the weights, a card, and a test input with its output.

Weights come from strangers. Pickle files are never loaded. The header is checked before a tensor is
made. Names, shapes, types and values are checked before the network is allocated. The test input
must give the test output before the model is used. Only then is a model copied into the user's
folder of weights.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor
from torch.nn import Module

from zenhance.contract import registry
from zenhance.contract.learner import Learner, LearningMethod
from zenhance.errors import (
    CheckpointError,
    MethodError,
    OutputExistsError,
    ReadError,
    RecipeError,
    WriteError,
)
from zenhance.io.commit import write_bytes
from zenhance.io.limits import read_bounded
from zenhance.models.catalogue import (
    SUFFIX,
    WeightsEntry,
    find_weights,
    shipped_folder,
    user_folder,
)
from zenhance.models.header import CARD_KEY, MAX_FILE_BYTES, Card, read_card

__all__ = [
    "Checkpoint",
    "check_name",
    "dump_checkpoint",
    "install_model",
    "load_network",
    "model_of",
    "read_checkpoint",
    "try_model",
]

NETWORK, TEST_INPUT, TEST_OUTPUT = "network.", "test.input", "test.output"
MAX_WEIGHT = 1e4
# A test is a small patch of scaled intensities, 0 ... 1 for the most part.
MAX_TEST_VALUES = 2**18
MAX_TEST_MAGNITUDE = 1e3
# The test output can differ by this share of its range (other CPUs add in another order), in all
# but 100 of a million values.
TEST_TOLERANCE = 1e-3
TEST_OUTLIERS = 1e-4


@dataclass(frozen=True)
class Checkpoint:
    """A model that was read and checked, but not yet run.

    Parameters
    ----------
    card : Card
        Its own description.
    state : mapping of str to Tensor
        The network's weights by name.
    test_input, test_output : Tensor (B, Z, Y, X)
        Scaled patches, and the network's output for them when it was saved.
    sha256 : str
        Of the file.
    path : Path
        The file.
    """

    card: Card
    state: Mapping[str, Tensor]
    test_input: Tensor
    test_output: Tensor
    sha256: str
    path: Path

    def check_fit(self, network: Module) -> None:
        """Compare the names and shapes of the weights with those of a network.

        Raises
        ------
        CheckpointError
            A name or shape differs; the first three are named.
        """
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        given = {name: tuple(value.shape) for name, value in self.state.items()}
        wrong = [f"{n} missing" for n in wanted if n not in given] + [
            f"{n} not known" for n in given if n not in wanted
        ]
        wrong += [
            f"{n} is {given[n]} instead of {wanted[n]}"
            for n in wanted
            if n in given and given[n] != wanted[n]
        ]
        if wrong:
            raise CheckpointError(
                f'the model "{self.path.name}" does not fit the method {self.card.method}: '
                f"{'; '.join(wrong[:3])}"
            )

    def load_into(self, network: Module) -> Module:
        """Put the weights into a network of exactly this shape and make it ready for inference.

        Raises
        ------
        CheckpointError
            See :meth:`check_fit`.
        """
        self.check_fit(network)
        network.load_state_dict(
            {name: value.to(network.state_dict()[name].dtype) for name, value in self.state.items()}
        )
        return network.eval()

    def verify(self, predict: Callable[[Tensor], Tensor]) -> None:
        """Run the test input and compare the result with the test output.

        Parameters
        ----------
        predict : callable
            Takes and returns a tensor (B, Z, Y, X), on the CPU.

        Raises
        ------
        CheckpointError
            The output is not finite or differs: the weights are not those that were saved.
        """
        with torch.inference_mode():
            found = predict(self.test_input)
        expected = self.test_output
        if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
            raise CheckpointError(
                f'the model "{self.path.name}" fails its own test (shape or values not finite); '
                "fetch or train it again"
            )
        reach = max(float(expected.max() - expected.min()), 1e-6)
        off = (found - expected).abs() > TEST_TOLERANCE * reach
        if float(off.float().mean()) > TEST_OUTLIERS:
            worst = float((found - expected).abs().max()) / reach
            raise CheckpointError(
                f'the model "{self.path.name}" fails its own test by {worst:.2g} of the range: '
                "its weights were changed; fetch or train it again"
            )


def dump_checkpoint(
    card: Card, state: Mapping[str, Tensor], test_input: Tensor, test_output: Tensor
) -> bytes:
    """Return the bytes of a checkpoint file; ``io.write_bytes`` writes them.

    Raises
    ------
    CheckpointError
        A weight or a value of the test is not finite or too large.
    """
    _check_values(state, card.name)
    _check_test(test_input, test_output, card.name)
    tensors = {
        NETWORK + name: value.detach().cpu().float().contiguous() for name, value in state.items()
    }
    tensors |= {
        TEST_INPUT: test_input.detach().cpu().float().contiguous(),
        TEST_OUTPUT: test_output.detach().cpu().float().contiguous(),
    }
    return save_safetensors(tensors, metadata={CARD_KEY: card.to_json()})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check everything that can be checked without the network.

    Parameters
    ----------
    path : Path
        A safetensors file written by this package.

    Raises
    ------
    CheckpointError
        It is a pickle, not a safetensors file, damaged, too large, or its values cannot be weights
        or a test.
    """
    card = read_card(path)
    try:
        # The file may have been exchanged since its header was read.
        blob = read_bounded(path, MAX_FILE_BYTES)
    except ReadError as error:
        raise CheckpointError(f'the model "{path}" cannot be read: {error}') from error
    try:
        tensors = load_safetensors(blob)
    except SafetensorError as error:
        raise CheckpointError(
            f'the model "{path.name}" is damaged ({error}); fetch or train it again'
        ) from error
    state = {
        name.removeprefix(NETWORK): value
        for name, value in tensors.items()
        if name.startswith(NETWORK)
    }
    if TEST_INPUT not in tensors or TEST_OUTPUT not in tensors or not state:
        raise CheckpointError(
            f'the model "{path.name}" has no weights or no test input and output; '
            "fetch or train it again"
        )
    _check_values(state, path.name)
    test_input, test_output = tensors[TEST_INPUT].float(), tensors[TEST_OUTPUT].float()
    _check_test(test_input, test_output, path.name)
    digest = hashlib.sha256(blob).hexdigest()
    return Checkpoint(card, state, test_input, test_output, digest, path)


def model_of(method: str, wanted: str | None, default: str) -> Checkpoint:
    """Return the model that a request asks for.

    Parameters
    ----------
    method : str
        Name of the method that will use it.
    wanted : str or None
        Name or path; None means the default.
    default : str
        Name of the method's default weights.

    Raises
    ------
    CheckpointError
        There is no model of that name, it cannot be read, or it belongs to another method.
    """
    checkpoint = read_checkpoint(find_weights(method, wanted, default))
    if checkpoint.card.method != method:
        raise CheckpointError(
            f'the model "{checkpoint.card.name}" belongs to the method {checkpoint.card.method}, '
            f"not to {method}"
        )
    return checkpoint


def _check_values(state: Mapping[str, Tensor], name: str) -> None:
    for key, value in state.items():
        if not value.is_floating_point():
            raise CheckpointError(
                f'the weight {key} of the model "{name}" is {value.dtype}, not floating point'
            )
        if not bool(torch.isfinite(value).all()) or (
            value.numel() and float(value.abs().max()) > MAX_WEIGHT
        ):
            raise CheckpointError(
                f'the weight {key} of the model "{name}" is not finite or beyond ±{MAX_WEIGHT:g}; '
                "train it again"
            )
    if state and all(not bool(value.any()) for value in state.values()):
        raise CheckpointError(f'all weights of the model "{name}" are zero; train it again')


def _check_test(test_input: Tensor, test_output: Tensor, name: str) -> None:
    """Refuse a test that no network could pass, or that is too large to run at each load."""
    for what, value in (("input", test_input), ("output", test_output)):
        if value.ndim != 4 or not 0 < value.numel() <= MAX_TEST_VALUES:
            raise CheckpointError(
                f'the test {what} of the model "{name}" has the shape {tuple(value.shape)}, '
                f"allowed are four axes and {MAX_TEST_VALUES} values; train it again"
            )
        if not bool(torch.isfinite(value).all()) or float(value.abs().max()) > MAX_TEST_MAGNITUDE:
            raise CheckpointError(
                f'the test {what} of the model "{name}" is not finite or beyond '
                f"±{MAX_TEST_MAGNITUDE:g}; train it again"
            )


def load_network(checkpoint: Checkpoint, learner: Learner, device: str) -> Module:
    """Build the network of a checkpoint, fill it, and run its own test.

    The network is first built without memory, to compare names and shapes with the weights.

    Raises
    ------
    CheckpointError
        The weights do not fit, or fail the test.
    """
    try:
        with torch.device("meta"):
            checkpoint.check_fit(learner.build(checkpoint.card.architecture))
        network = learner.build(checkpoint.card.architecture)
    except RecipeError as error:
        raise CheckpointError(
            f'the model "{checkpoint.path.name}" asks for a network that cannot be built: {error}'
        ) from error
    checkpoint.load_into(network)
    checkpoint.verify(lambda measured: learner.predict(network, measured))
    return network.to(device)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(name: str) -> Path:
    """Return the path at which a model of this name is kept.

    Raises
    ------
    CheckpointError
        The name is not a file name, or a model of that name ships.
    OutputExistsError
        The user has a model of that name.
    """
    if not NAME.fullmatch(name) or len(name) > 100:
        raise CheckpointError(
            f'"{name[:60]}" cannot be the name of a model; '
            "use letters, digits, _, - and dots, at most 100 of them"
        )
    if any((shipped_folder(m) / f"{name}{SUFFIX}").is_file() for m in registry.names()):
        raise CheckpointError(
            f'a model called "{name}" ships with zenhance; give yours another name with --name'
        )
    path = user_folder() / f"{name}{SUFFIX}"
    if path.exists():
        raise OutputExistsError(
            f'a model called "{name}" exists already in "{path.parent}"; '
            "give this one another name with --name"
        )
    return path


def try_model(path: Path) -> Checkpoint:
    """Read a model and run its own test with the network of its method.

    Raises
    ------
    CheckpointError
        It is not a model of this package, is damaged or changed, or its method is not installed.
    """
    checkpoint = read_checkpoint(path)
    try:
        method = registry.load(checkpoint.card.method)
    except MethodError as error:
        raise CheckpointError(f'the model "{path.name}" cannot be used: {error}') from error
    if not isinstance(method, LearningMethod):
        raise CheckpointError(
            f'the model "{path.name}" cannot be used: it is for {checkpoint.card.method}, '
            "which uses no weights"
        )
    load_network(checkpoint, method.learner(), "cpu")
    return checkpoint


def install_model(path: Path, name: str | None = None) -> WeightsEntry:
    """Copy a model into the user's folder, where ``weights: NAME`` finds it.

    Parameters
    ----------
    path : Path
        A safetensors file that a training wrote.
    name : str, optional
        Name to install it under; default the name on its card.

    Raises
    ------
    CheckpointError
        See :func:`try_model` and :func:`check_name`.
    OutputExistsError, WriteError
        The name is taken, or the folder cannot be written.
    """
    checkpoint = try_model(path)
    target = check_name(checkpoint.card.name if name is None else name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f'the folder "{target.parent}" for models cannot be made ({error.strerror}); '
            "set ZENHANCE_WEIGHTS to a folder that you can write to"
        ) from error
    write_bytes(target, path.read_bytes())
    return WeightsEntry(target.name.removesuffix(SUFFIX), target, checkpoint.card, False)
