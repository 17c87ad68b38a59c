"""Camera noise as a mixture of signal-dependent Gaussians, trained with the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

__all__ = ["MixtureNoise"]


class MixtureNoise(nn.Module):
    """Log density of measured values, given their expectation.

    Parameters
    ----------
    parts : int
        Gaussians of the mixture.

    Notes
    -----
    After Prakash, Lalit, Tomancak, Krull, Jug, ISBI 2020: weights, shifts and widths depend on the
    signal (here linearly). Shifts are relative to the mixture's mean, so that the mean is the
    signal. Their unit is the width of a first estimate of the noise (photons and read-out), with
    which an untrained mixture starts.
    """

    def __init__(self, parts: int = 3) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(parts, 2))
        self.shifts = nn.Parameter(
            torch.linspace(-0.1, 0.1, parts)[:, None].repeat(1, 2) * torch.tensor([1.0, 0.0])
        )
        widths = torch.zeros(parts, 2)
        widths[:, 0] = math.log(math.e - 1)
        self.widths = nn.Parameter(widths)

    def forward(self, measured: Tensor, expected: Tensor, variance: Tensor) -> Tensor:
        """Return the log density of each pixel.

        Parameters
        ----------
        measured, expected, variance : Tensor
            Scaled intensities of one shape; the variance is the first estimate of the noise.
        """
        signal = expected.detach()[..., None]
        weight, shift, width = (
            p[:, 0] + p[:, 1] * signal for p in (self.weights, self.shifts, self.widths)
        )
        share = weight.log_softmax(-1)
        shift = shift - (share.exp() * shift).sum(-1, keepdim=True)
        guess = variance.sqrt()[..., None]
        spread = softplus(width) * guess + 1e-6
        off = (measured[..., None] - expected[..., None] - shift * guess) / spread
        return torch.logsumexp(
            share - 0.5 * off.square() - spread.log() - 0.5 * math.log(2 * math.pi), -1
        )
