"""DQLR: encoder, recurrence over z, vector quantisation and generator.

::

    z_i ──► E ──► x_i ──► R (over z) ──► y_i ──► Q (dictionary) ──► G ──► enhanced slice i
                          │ its own codes fed back
                          └──► y_i+1, y_i+2 ──► Q ──► G ──► predicted slices i+1, i+2

After Gupta, Aich, Rodriguez, Reddy and Roy-Chowdhury, "Deep quantized representation for enhanced
reconstruction" (arXiv 2107.14368). Only convolutions of known size mix pixels, and the state of the
recurrence stays in place, so that the receptive field along y and x does not grow with depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from zenhance.methods._shared.front_end import CHANNELS
from zenhance.methods._shared.planes import mirrored
from zenhance.methods.dqlr.quantiser import Quantiser

__all__ = ["Dqlr", "DqlrOutput", "Recurrence", "reach_px"]


FINISH_MAPS = 16
"""Maps that the generator gives where features and maps make the slice together."""


@dataclass(frozen=True)
class DqlrOutput:
    """Result of the network for a sequence of slices.

    Parameters
    ----------
    enhanced : Tensor (B, T, Y, X)
        The enhanced slices.
    predicted : Tensor (B, P, Y, X)
        The slices predicted from one slice and those before it; P is 0 without prediction.
    commitment : Tensor
        Of the quantiser; scalar, 0 without quantisation.
    index : Tensor (B, T, levels, Y/stride, X/stride)
        int64, the chosen words.
    """

    enhanced: Tensor
    predicted: Tensor
    commitment: Tensor
    index: Tensor


class _Residual(nn.Module):
    """ReLU, 3 × 3, ReLU, 1 × 1, beside the identity."""

    def __init__(self, features: int, inner: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(features, inner, 3, padding=1)
        self.narrow = nn.Conv2d(inner, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.narrow(relu(self.wide(relu(x))))
        return out


class _Encoder(nn.Module):
    """Slices (N, window channels, Y, X) to latents (N, features, Y/stride, X/stride)."""

    def __init__(self, entering: int, features: int, inner: int, blocks: int, stride: int) -> None:
        super().__init__()
        half = features // 2
        if stride == 4:
            down = [
                nn.Conv2d(entering, half, 4, 2, 1),
                nn.ReLU(),
                nn.Conv2d(half, features, 4, 2, 1),
                nn.ReLU(),
            ]
        else:
            down = [nn.Conv2d(entering, features, 4, 2, 1), nn.ReLU()]
        body = [
            nn.Conv2d(features, features, 3, padding=1),
            *(_Residual(features, inner) for _ in range(blocks)),
            nn.ReLU(),
        ]
        self.layers = nn.Sequential(*down, *body)

    def forward(self, slices: Tensor) -> Tensor:
        out: Tensor = self.layers(slices)
        return out


class _Enlarge(nn.Module):
    """Nearest-neighbour upsampling and a convolution: no checkerboard as after a transposed one."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class _Generator(nn.Module):
    """Codes (N, D, Y/stride, X/stride) to slices (N, maps, Y, X)."""

    def __init__(
        self, dimensions: int, features: int, inner: int, blocks: int, stride: int, maps: int = 1
    ) -> None:
        super().__init__()
        half = features // 2
        body = [
            nn.Conv2d(dimensions, features, 3, padding=1),
            *(_Residual(features, inner) for _ in range(blocks)),
            nn.ReLU(),
        ]
        up: list[nn.Module] = [_Enlarge(features, features), nn.ReLU()] if stride == 4 else []
        self.layers = nn.Sequential(
            *body, *up, _Enlarge(features, half), nn.ReLU(), nn.Conv2d(half, maps, 3, padding=1)
        )

    def forward(self, codes: Tensor) -> Tensor:
        out: Tensor = self.layers(codes)
        return out


class _Finish(nn.Module):
    """Maps of the generator and features to a slice: a blend of the two estimates, and a rest.

    Untrained it gives the mean of the estimates.
    """

    def __init__(self, maps: int, channels: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(maps + channels, maps, 3, padding=1)
        self.give = nn.Conv2d(maps, 2, 3, padding=1)
        nn.init.zeros_(self.give.weight)
        nn.init.zeros_(cast(Tensor, self.give.bias))

    def forward(self, made: Tensor, features: Tensor) -> Tensor:
        """Return slices (N, 1, Y, X); the last two features are the estimates."""
        early, late = features[:, -2:].float().chunk(2, 1)
        joined = torch.cat([relu(made), features.to(made.dtype)], 1)
        rest, blend = self.give(relu(self.join(joined))).float().chunk(2, 1)
        out: Tensor = early + torch.sigmoid(blend) * (late - early) + rest
        return out


class Recurrence(nn.Module):
    """A gated recurrent unit over slices (Cho et al. 2014): 3 × 3 on the input, 1 × 1 on the state.

    Parameters
    ----------
    features, hidden : int
        Channels of the input and of the state.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.enter = nn.Conv2d(features, 3 * hidden, 3, padding=1)
        self.keep = nn.Conv2d(hidden, 2 * hidden, 1, bias=False)
        self.recall = nn.Conv2d(hidden, hidden, 1, bias=False)

    def prepare(self, latents: Tensor) -> Tensor:
        """Return the input of :meth:`step` for latents (N, features, y, x) of several slices."""
        out: Tensor = self.enter(latents)
        return out

    def step(self, entering: Tensor, state: Tensor) -> Tensor:
        """Return the new state (N, hidden, y, x) after a prepared slice (N, 3 hidden, y, x)."""
        update, reset, new = entering.chunk(3, 1)
        kept_update, kept_reset = self.keep(state).chunk(2, 1)
        update, reset = torch.sigmoid(update + kept_update), torch.sigmoid(reset + kept_reset)
        candidate = torch.tanh(new + self.recall(reset * state))
        return state + update * (candidate - state)


def _apart(flat: Tensor, like: Tensor) -> Tensor:
    """Undo ``flatten(0, 1)``: (B T, ...) becomes (B, T, ...) as it was in ``like``."""
    return flat.reshape(*like.shape[:2], *flat.shape[1:])


class Dqlr(nn.Module):
    """The network.

    Parameters
    ----------
    window : int
        Slices that the encoder sees at once; 1 in the paper.
    features, inner, blocks : int
        Channels of encoder and generator, channels inside their residual blocks, and number of
        blocks.
    stride : {2, 4}
        Pixels per latent along y and x.
    recurrence : {'none', 'forward', 'both'}
        Over z: none, from the first slice (the paper), or from both ends.
    hidden : int
        Channels of the recurrence.
    words, dimensions, levels : int
        Of the quantiser; there is none if ``words`` is 0.
    predicted : int
        Slices ahead that the recurrence predicts.
    front_end : bool
        Whether slices come with the features of :mod:`zenhance.methods._shared.front_end`: stacks
        are then (B, 1 + channels, Z, Y, X), the result is relative to the light.
    """

    architecture: Any
    """What the network was built from; set by the learner."""

    def __init__(
        self,
        window: int = 1,
        features: int = 128,
        inner: int = 32,
        blocks: int = 2,
        stride: int = 4,
        recurrence: Literal["none", "forward", "both"] = "forward",
        hidden: int = 64,
        words: int = 128,
        dimensions: int = 64,
        levels: int = 1,
        predicted: int = 2,
        front_end: bool = False,
    ) -> None:
        super().__init__()
        channels = len(CHANNELS) if front_end else 1
        maps = FINISH_MAPS if front_end else 1
        self.window, self.stride, self.levels, self.features = window, stride, levels, features
        self.words = words
        # Radius, in latents, of the receptive field of the encoder and of the generator.
        self.margin = blocks + (3 if front_end else 2)
        self.predicted = predicted if recurrence != "none" else 0
        self.encoder = _Encoder(window * channels, features, inner, blocks, stride)
        ways = {"none": 0, "forward": 1, "both": 2}[recurrence]
        self.recurrences = [Recurrence(features, hidden) for _ in range(ways)]
        self.ways = nn.ModuleList(self.recurrences)
        self.codes = nn.Conv2d(ways * hidden if ways else features, dimensions, 1)
        if self.predicted:
            self.ahead = nn.Conv2d(hidden, dimensions, 1)
            self.again = nn.Conv2d(dimensions, features, 1)
        self.quantiser = Quantiser(words, dimensions, levels) if words else None
        self.generator = _Generator(dimensions, features, inner, blocks, stride, maps)
        self.finish = _Finish(maps, channels) if front_end else None

    def encode(self, stack: Tensor, first: int, last: int) -> Tensor:
        """Return the latents (B, last - first, features, y, x) of slices of a stack.

        The stack (B, Z, Y, X), or (B, channels, Z, Y, X), is mirrored beyond its ends.
        """
        half = self.window // 2
        index = mirrored(
            np.arange(first, last)[:, None] + np.arange(-half, half + 1)[None], stack.shape[-3]
        )
        if stack.ndim == 4:
            slices = stack[:, torch.from_numpy(index).to(stack.device)]
        else:
            windows = stack[:, :, torch.from_numpy(index).to(stack.device)]
            slices = windows.transpose(1, 2).flatten(2, 3)  # (B, T, channels window, Y, X)
        entering = slices.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        latents: Tensor = self.encoder(entering)
        return _apart(latents, slices)

    def generate(self, vectors: Tensor, features: Tensor | None = None) -> Tensor:
        """Return slices (N, Y, X) of quantised codes, and of their features where there are any."""
        made: Tensor = self.generator(vectors)
        if self.finish is None:
            return made[:, 0]
        if features is None:  # a slice that was predicted, not seen
            _, _, height, width = made.shape
            features = made.new_zeros((len(made), len(CHANNELS), height, width))
        out: Tensor = self.finish(made, features)[:, 0]
        return out

    def begin(self, latents: Tensor, hidden: int) -> Tensor:
        """Return the first state: random in training, as in the paper; 0 in inference."""
        shape = (latents.shape[0], hidden, *latents.shape[-2:])
        return (
            torch.randn(shape, device=latents.device)
            if self.training
            else torch.zeros(shape, device=latents.device)
        )

    def correlate(self, latents: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the codes before quantisation (B, T, D, y, x) and the forward states.

        The states have shape (B, T, hidden, y, x); None without recurrence.
        """
        if not self.recurrences:
            return _apart(self.codes(latents.flatten(0, 1)), latents), None
        found = []
        for number, way in enumerate(self.recurrences):
            entering = _apart(way.prepare(latents.flatten(0, 1)), latents)
            order = range(latents.shape[1]) if number == 0 else range(latents.shape[1] - 1, -1, -1)
            state, states = self.begin(latents, way.hidden), {}
            for i in order:
                states[i] = state = way.step(entering[:, i], state)
            found.append(torch.stack([states[i] for i in range(latents.shape[1])], 1))
        joined = torch.cat(found, 2)
        return _apart(self.codes(joined.flatten(0, 1)), latents), found[0]

    def quantise(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return quantised codes (N, D, y, x), the commitment, and the index (N, levels, y, x)."""
        if self.quantiser is None:
            return (
                codes,
                codes.new_zeros(()),
                torch.zeros(
                    (len(codes), 0, *codes.shape[-2:]), dtype=torch.int64, device=codes.device
                ),
            )
        count, dimensions, height, width = codes.shape
        done = self.quantiser(codes.permute(0, 2, 3, 1).reshape(-1, dimensions))
        vectors = done.vectors.reshape(count, height, width, dimensions).permute(0, 3, 1, 2)
        index = done.index.reshape(count, height, width, -1).permute(0, 3, 1, 2)
        return vectors.contiguous(), done.commitment, index

    def predict(self, state: Tensor) -> Tensor:
        """Return codes (B, P, D, y, x) of the slices after a forward state (B, hidden, y, x)."""
        way = self.recurrences[0]
        found = []
        for _ in range(self.predicted):
            state = way.step(way.prepare(relu(self.again(self.ahead(state)))), state)
            found.append(self.ahead(state))
        return torch.stack(found, 1)

    def forward(self, sequence: Tensor, from_slice: int | None = None) -> DqlrOutput:
        """Enhance a sequence and predict the slices after one of its slices.

        Parameters
        ----------
        sequence : Tensor (B, T, Y, X), or (B, channels, T, Y, X) with features
            Scaled; Y and X multiples of the stride.
        from_slice : int, optional
            Slice after which to predict; default no prediction.
        """
        count = sequence.shape[-3]
        latents = self.encode(sequence, 0, count)
        codes, states = self.correlate(latents)
        wanted = [codes]
        if from_slice is not None and states is not None and self.predicted:
            wanted.append(self.predict(states[:, from_slice]))
        together = torch.cat(wanted, 1)
        vectors, commitment, index = self.quantise(together.flatten(0, 1))
        if self.finish is None:
            images = _apart(self.generate(vectors), together)
            enhanced, ahead = images[:, :count], images[:, count:]
        else:
            each = _apart(vectors, together)
            features = sequence.transpose(1, 2).flatten(0, 1)
            enhanced = _apart(self.generate(each[:, :count].flatten(0, 1), features), latents)
            ahead = enhanced[:, :0]
            if len(wanted) > 1:
                ahead = _apart(self.generate(each[:, count:].flatten(0, 1)), wanted[1])
        return DqlrOutput(enhanced, ahead, commitment, _apart(index, together)[:, :count])


def reach_px(stride: int, blocks: int, recurrent: bool, front_end: bool = False) -> int:
    """Return the radius of the receptive field in input pixels, rounded up to whole latents."""
    # Latents: encoder, generator and recurrence. Finer pixels: shrinking and enlarging layers.
    latent = 2 * (1 + blocks) + (1 if recurrent else 0)
    fine = {2: 2 + 2, 4: 2 + 4 + 2 + 2}[stride] + (2 if front_end else 0)
    return latent * stride + -(-fine // stride) * stride + stride
