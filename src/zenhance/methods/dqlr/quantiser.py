"""Vector quantisation: each latent vector becomes a word of a dictionary, or a sum of words.

The dictionary follows the latents as a running mean (van den Oord et al., NeurIPS 2017, appendix
A.1). It starts from k-means of the first batch; unused words are replaced by latents. Each of
several levels quantises the residual of the level before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

__all__ = ["Codebook", "Quantised", "Quantiser", "effective_words", "perplexity"]

K_MEANS_ROUNDS = 10
# Smallest divisor of running sums.
SMOOTHING = 1e-8
# Words used less than this share of their mean use are replaced.
DEAD_SHARE = 0.05
# In inference, a latent within this share of half-way between two words becomes a mixture of both.
# Otherwise a rounding error could choose another word in a tile than in the whole: a seam.
MIXING_SHARE = 0.02
DISTANCES_AT_ONCE = 2**20


@dataclass(frozen=True)
class Quantised:
    """Result for latents (N, D).

    Parameters
    ----------
    vectors : Tensor (N, D)
        Sum of the chosen words; gradients pass straight through.
    commitment : Tensor
        Mean squared distance between latents and their words; scalar, a term of the loss.
    index : Tensor (N, levels)
        int64, the word chosen at each level.
    """

    vectors: Tensor
    commitment: Tensor
    index: Tensor


def perplexity(index: Tensor, words: int) -> float:
    """Return the effective number of words that an index of one level uses."""
    return effective_words(torch.bincount(index.reshape(-1), minlength=words))


def effective_words(counts: Tensor) -> float:
    """Return exp of the entropy of use counts (K,): K for equal use, 1 for a single word."""
    share = counts.double() / counts.sum()
    used = share[share > 0]
    return float(torch.exp(-(used * used.log()).sum()))


class Codebook(Module):
    """One dictionary.

    Parameters
    ----------
    words, dimensions : int
        Size of the dictionary and of its vectors.
    decay : float
        Of the running mean.
    """

    words: Tensor
    shares: Tensor
    sums: Tensor
    begun: Tensor

    def __init__(self, words: int, dimensions: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("words", torch.zeros(words, dimensions))
        self.register_buffer("shares", torch.full((words,), 1 / words))
        self.register_buffer("sums", torch.zeros(words, dimensions))
        self.register_buffer("begun", torch.zeros(()))

    def distances(self, latents: Tensor) -> Tensor:
        """Return squared distances (N, K), minus the squared length of the latent."""
        return self.words.square().sum(1)[None] - 2 * latents @ self.words.t()

    def nearest(self, latents: Tensor) -> Tensor:
        """Return the index (N,) of the nearest word."""
        return self.distances(latents).argmin(1)

    def widest(self) -> Tensor:
        """Return the squared distance (K,) from each word to the one furthest from it."""
        lengths = self.words.square().sum(1)
        return torch.addmm(
            lengths[None] + lengths[:, None], self.words, self.words.t(), alpha=-2
        ).amax(1)

    def mixed(self, latents: Tensor, widest: Tensor) -> tuple[Tensor, Tensor]:
        """Return words (N, D), continuous in the latents, and the index (N,) of the nearest.

        Parameters
        ----------
        latents : Tensor (N, D)
        widest : Tensor (K,)
            From :meth:`widest`; words further apart than it allows are not mixed.
        """
        distances = torch.addmm(self.words.square().sum(1), latents, self.words.t(), alpha=-2)
        best, index = distances.min(1)
        words = self.words.index_select(0, index)
        second, other = distances.scatter_(1, index[:, None], math.inf).min(1)
        gap = second - best
        close = (gap < MIXING_SHARE * widest.index_select(0, index)).nonzero()[:, 0]
        if len(close):
            step = self.words.index_select(0, other[close]) - words.index_select(0, close)
            # The difference of the squared distances falls from the squared gap to 0 half-way.
            margin = gap[close] / step.square().sum(1).clamp_min(1e-12)
            share = 0.5 * (1 - margin / MIXING_SHARE).clamp(0, 1)
            words.index_add_(0, close, share[:, None] * step)
        return words, index

    @torch.no_grad()
    def follow(self, latents: Tensor, index: Tensor) -> None:
        """Move words towards the latents that chose them; replace unused words by latents."""
        k = len(self.words)
        share = 1 / len(latents)
        chosen = torch.bincount(index, minlength=k).to(latents.dtype) * share
        total = torch.zeros_like(self.sums).index_add_(0, index, latents * share)
        self.shares.lerp_(chosen, 1 - self.decay)
        self.sums.lerp_(total, 1 - self.decay)
        self.words.copy_(self.sums / self.shares.clamp_min(SMOOTHING)[:, None])
        mean = float(self.shares.mean())
        dead = (self.shares < DEAD_SHARE * mean).nonzero()[:, 0]
        if len(dead):
            fresh = latents[torch.randint(len(latents), (len(dead),), device=latents.device)]
            self.words[dead], self.sums[dead], self.shares[dead] = fresh, fresh * mean, mean

    @torch.no_grad()
    def begin(self, latents: Tensor) -> None:
        """Start from k-means of a batch."""
        k = len(self.words)
        self.words.copy_(latents[torch.randint(len(latents), (k,), device=latents.device)])
        for _ in range(K_MEANS_ROUNDS):
            index = self.nearest(latents)
            counts = torch.bincount(index, minlength=k).to(latents.dtype)
            total = torch.zeros_like(self.words).index_add_(0, index, latents)
            empty = counts == 0
            self.words.copy_(
                torch.where(empty[:, None], self.words, total / counts.clamp_min(1)[:, None])
            )
            if bool(empty.any()):
                self.words[empty] = latents[
                    torch.randint(len(latents), (int(empty.sum()),), device=latents.device)
                ]
        self.shares.copy_(counts.clamp_min(1) / len(latents))
        self.sums.copy_(self.words * self.shares[:, None])
        self.begun.fill_(1)


class Quantiser(Module):
    """Quantises latents with one dictionary a level, each for the residual of the one before.

    Parameters
    ----------
    words, dimensions, levels : int
        Words of a dictionary, size of the vectors, and number of dictionaries.
    """

    def __init__(self, words: int, dimensions: int, levels: int = 1) -> None:
        super().__init__()
        self._books = [Codebook(words, dimensions) for _ in range(levels)]
        self.books = ModuleList(self._books)

    def forward(self, latents: Tensor) -> Quantised:
        """Quantise latents (N, D), always in float32; in training the dictionaries follow."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._quantised(latents)

    def _quantised(self, latents: Tensor) -> Quantised:
        if not self.training:
            return self._mixed(latents.float())
        rest = latents.float()
        total = torch.zeros_like(rest)
        chosen, commitment = [], torch.zeros((), device=rest.device)
        for book in self._books:
            if not float(book.begun):
                book.begin(rest.detach())
            index = book.nearest(rest)
            word = book.words[index]
            book.follow(rest.detach(), index)
            commitment = commitment + (rest - word.detach()).square().mean() / len(self._books)
            chosen.append(index)
            total, rest = total + word, rest - word.detach()
        return Quantised(latents + (total - latents).detach(), commitment, torch.stack(chosen, 1))

    def _mixed(self, latents: Tensor) -> Quantised:
        """Quantise in parts whose distances fit into the cache."""
        many = max(1, DISTANCES_AT_ONCE // len(self._books[0].words))
        widest = [book.widest() for book in self._books]
        vectors = torch.empty_like(latents)
        chosen = torch.empty(
            (len(latents), len(self._books)), dtype=torch.int64, device=latents.device
        )
        squares = torch.zeros((), device=latents.device)
        for first in range(0, len(latents), many):
            rest = latents[first : first + many]
            part = vectors[first : first + many].zero_()
            for level, (book, reach) in enumerate(zip(self._books, widest, strict=True)):
                word, chosen[first : first + many, level] = book.mixed(rest, reach)
                rest = rest - word
                squares += rest.square().sum()
                part += word
        return Quantised(vectors, squares / (latents.numel() * len(self._books)), chosen)
