"""The dictionary follows the latents, keeps all its words in use, and chooses without seams."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from zenhance.methods.dqlr import quantiser as module
from zenhance.methods.dqlr.quantiser import MIXING_SHARE, Codebook, Quantiser, perplexity


def blobs(
    words: int = 8, each: int = 50, spread: float = 0.05, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Latents in well separated clusters, and the clusters' centres (words, 5)."""
    torch.manual_seed(seed)
    centres = 4 * torch.eye(words)[:, :5] + 10 * torch.arange(words)[:, None].float()
    return (centres[:, None] + spread * torch.randn(words, each, 5)).reshape(-1, 5)[
        torch.randperm(words * each)
    ], centres


def trained(latents: Tensor, words: int = 16, levels: int = 3, rounds: int = 30) -> Quantiser:
    """A quantiser that has followed the latents for a while, in use."""
    quantiser = Quantiser(words, latents.shape[1], levels).train()
    for _ in range(rounds):
        quantiser(latents)
    return quantiser.eval()


def by_hand(latents: Tensor, book: Codebook) -> tuple[Tensor, Tensor]:
    """Return the mixture of the two nearest words in float64, and the index of the nearest."""
    words, latents = book.words.double(), latents.double()
    two = (
        torch.cdist(latents, words, compute_mode="donot_use_mm_for_euclid_dist")
        .square()
        .topk(2, dim=1, largest=False)
    )
    first, second = words[two.indices[:, 0]], words[two.indices[:, 1]]
    margin = (two.values[:, 1] - two.values[:, 0]) / (first - second).square().sum(1)
    share = 0.5 * (1 - margin / MIXING_SHARE).clamp(0, 1)
    return first + share[:, None] * (second - first), two.indices[:, 0]


def test_k_means_finds_the_clusters_of_the_first_batch() -> None:
    latents, centres = blobs(each=200)
    found = []
    for seed in range(5):
        torch.manual_seed(seed)
        book = Codebook(24, 5)
        book.begin(latents)
        assert float(book.begun) == 1
        assert float(book.shares.sum()) == pytest.approx(1, rel=0.05)
        found.append(float(torch.cdist(centres, book.words).amin(1).max()))
        assert float(torch.cdist(latents, book.words).amin(1).mean()) < 0.2
    assert sorted(found)[2] < 0.2


def test_words_start_from_the_first_batch_and_only_in_training() -> None:
    latents, _ = blobs()
    quantiser = Quantiser(8, 5)
    quantiser.eval()(latents)
    assert not bool(quantiser._books[0].words.any())
    quantiser.train()(latents)
    assert bool(quantiser._books[0].words.any())


def test_words_move_to_the_mean_of_the_latents_that_chose_them() -> None:
    latents, centres = blobs()
    quantiser = Quantiser(8, 5)
    book = quantiser._books[0]
    book.words.copy_(centres)
    book.sums.copy_(centres / 8)
    book.begun.fill_(1)
    moved = latents + 1.0
    quantiser.train()(moved)
    once = book.words.clone()
    assert torch.allclose(once - centres, torch.full_like(once, 0.01), atol=2e-3), (
        "one batch moves them by a hundredth"
    )
    for _ in range(600):
        quantiser(moved)
    assert torch.allclose(book.words, centres + 1.0, atol=0.05)
    assert torch.allclose(book.shares, torch.full((8,), 1 / 8), atol=1e-3)
    before = book.words.clone()
    quantiser.eval()(latents)
    assert torch.equal(book.words, before), "in use they stay where they are"


def test_words_of_no_use_are_put_where_latents_are() -> None:
    latents, centres = blobs()
    quantiser = Quantiser(8, 5)
    book = quantiser._books[0]
    far = centres.clone()
    far[1:] = 1e3 + torch.arange(7)[:, None]
    book.words.copy_(far)
    book.sums.copy_(far / 8)
    book.begun.fill_(1)
    quantiser.train()
    for _ in range(700):
        quantiser(latents)
    done = quantiser.eval()(latents)
    assert float(book.words.max()) < 100
    assert perplexity(done.index, 8) > 4
    assert (
        float((done.vectors - latents).square().sum(1).mean())
        < float((latents - latents.mean(0)).square().sum(1).mean()) / 10
    )


def test_perplexity_counts_the_words_that_are_effectively_used() -> None:
    assert perplexity(torch.arange(128).repeat(5), 128) == pytest.approx(128)
    assert perplexity(torch.zeros(40, dtype=torch.int64), 128) == pytest.approx(1)
    shares = torch.tensor([3, 1])
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert perplexity(torch.repeat_interleave(torch.arange(2), shares), 2) == pytest.approx(
        expected
    )


def test_gradients_pass_straight_through_and_pull_latents_to_their_words() -> None:
    latents, _ = blobs()
    latents.requires_grad_()
    quantiser = Quantiser(4, 5, levels=2).train()
    done = quantiser(latents)
    weights = torch.randn_like(latents)
    (through,) = torch.autograd.grad((done.vectors * weights).sum(), latents, retain_graph=True)
    assert torch.equal(through, weights)
    (pull,) = torch.autograd.grad(done.commitment, latents)
    with torch.no_grad():
        shorter = quantiser.eval()(latents - 0.1 * len(latents) * pull).commitment
        assert float(shorter) < float(quantiser(latents).commitment)
    assert not any(p.requires_grad for p in quantiser.parameters())


def test_each_level_takes_away_some_of_what_the_one_before_left_over() -> None:
    torch.manual_seed(1)
    latents = torch.randn(4000, 6)
    errors = [
        float((trained(latents, levels=n)(latents).vectors - latents).square().mean())
        for n in (1, 2, 3, 4)
    ]
    assert all(after < 0.75 * before for before, after in itertools.pairwise(errors)), errors


def test_in_training_the_vectors_are_sums_of_words() -> None:
    torch.manual_seed(1)
    latents = torch.randn(500, 6)
    quantiser = Quantiser(16, 6, levels=3).train()
    quantiser(latents)
    before = [book.words.clone() for book in quantiser._books]
    done = quantiser(latents)
    words = sum(words[done.index[:, level]] for level, words in enumerate(before))
    moved = [
        float((book.words - old).abs().max())
        for book, old in zip(quantiser._books, before, strict=True)
    ]
    assert torch.allclose(done.vectors, words, atol=3 * max(moved) + 1e-5)


@pytest.mark.parametrize("at_once", [2**20, 16 * 7])
def test_in_use_the_two_nearest_words_are_mixed_half_way_between_them(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortcuts (second word only if close, few latents at a time) change nothing."""
    monkeypatch.setattr(module, "DISTANCES_AT_ONCE", at_once)
    torch.manual_seed(2)
    latents = torch.randn(2000, 4)
    quantiser = trained(latents, levels=1)
    done = quantiser(latents)
    mixture, nearest = by_hand(latents, quantiser._books[0])
    assert torch.allclose(done.vectors.double(), mixture, atol=1e-4)
    plain = quantiser._books[0].words[nearest]
    mixed = ((done.vectors - plain).abs().amax(1) > 1e-3).sum()
    assert 10 < int(mixed) < 200, "some latents lie nearly half-way between words"
    assert float((done.index[:, 0] == nearest).float().mean()) > 0.999
    assert float(done.commitment) == pytest.approx(
        float((latents - done.vectors).square().mean()), rel=1e-5
    )


def test_in_use_the_vectors_follow_the_latents_without_a_jump() -> None:
    book = Codebook(3, 2)
    book.words.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]]))
    quantiser = Quantiser(3, 2).eval()
    quantiser._books[0].words.copy_(book.words)
    x = torch.linspace(0.4, 0.6, 2001)
    vectors = quantiser(torch.stack([x, torch.full_like(x, 0.3)], 1)).vectors[:, 0]
    steps = vectors.diff()
    assert float(vectors[0]) == 0
    assert float(vectors[-1]) == 1
    assert float(steps.min()) > -1e-5
    assert float(steps.max()) < 0.012
    assert float(vectors[1000]) == pytest.approx(0.5, abs=1e-3)


def test_in_use_the_same_latents_give_the_same_vectors_in_any_company() -> None:
    torch.manual_seed(3)
    latents = torch.randn(5000, 6)
    quantiser = trained(latents)
    whole = quantiser(latents)
    assert torch.equal(whole.vectors, quantiser(latents).vectors)
    part = quantiser(latents[1234:2345].clone())
    assert torch.allclose(part.vectors, whole.vectors[1234:2345], atol=1e-5)


def test_words_stay_in_float32_under_autocast() -> None:
    latents, centres = blobs(spread=1e-3)
    quantiser = Quantiser(8, 5).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(3):
            done = quantiser(latents)
    assert done.vectors.dtype == quantiser._books[0].words.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        used = quantiser.eval()(latents)
        low = quantiser(latents.bfloat16())
    assert torch.equal(used.vectors, quantiser(latents).vectors)
    assert low.vectors.dtype == torch.float32
    # bfloat16 rounds 70.2 to 70.0: in it, both latents would choose the same word. The words
    # are put there by hand, because the order in which k-means finds them depends on the processor.
    near = centres[7] + torch.tensor([0.2, 0, 0, 0, 0])
    assert torch.equal(near.bfloat16(), centres[7].bfloat16())
    quantiser._books[0].words.copy_(torch.cat([centres[:6], near[None], centres[7:]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        chosen = quantiser(torch.stack([near, centres[7]])).index[:, 0]
    assert chosen.tolist() == [6, 7]
