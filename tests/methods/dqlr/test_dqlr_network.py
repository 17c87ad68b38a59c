"""The network of DQLR: size, causality, receptive field, and stacks slice by slice."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from zenhance.contract.spec import PlanContext
from zenhance.methods import dqlr as method
from zenhance.methods.dqlr.inference import restore_sequence
from zenhance.methods.dqlr.network import Dqlr, reach_px
from zenhance.methods.dqlr.training import DqlrLearner
from zenhance.physics.psf import Psf, gaussian

TINY: dict[str, Any] = {
    "features": 8,
    "inner": 4,
    "blocks": 1,
    "hidden": 4,
    "words": 8,
    "dimensions": 4,
}
PAPER: dict[str, Any] = {
    "window": 1, "features": 128, "inner": 32, "blocks": 2, "stride": 4,
    "recurrence": "forward", "hidden": 64,
    "levels": 1,
}  # fmt: skip


def build(**architecture: Any) -> Dqlr:
    torch.manual_seed(0)
    return DqlrLearner().build({**TINY, **architecture})  # type: ignore[return-value]


def used(network: Dqlr, sequence: Tensor) -> Dqlr:
    """The network after its dictionaries have seen the sequence, in use."""
    with torch.no_grad():
        for _ in range(5):
            network.train()(sequence)
    return network.eval()


def restored(network: Dqlr, stack: Tensor, **options: Any) -> tuple[Tensor, Tensor, list[float]]:
    steps, fractions = restore_sequence(network, stack, **options), []
    while True:
        try:
            fractions.append(next(steps))
        except StopIteration as done:
            return (*done.value, fractions)


@pytest.mark.parametrize(
    ("architecture", "weights", "buffers"),
    [
        ({}, 346_561, 4 * (2 * 128 * 64 + 128 + 1)),
        (PAPER, 990_465, 2 * 128 * 64 + 128 + 1),
        ({**PAPER, "recurrence": "none"}, 748_417, 2 * 128 * 64 + 128 + 1),
    ],
)
def test_preset_and_published_form_have_their_numbers_of_weights(
    architecture: dict[str, Any], weights: int, buffers: int
) -> None:
    network = DqlrLearner().build(architecture)
    assert sum(p.numel() for p in network.parameters()) == weights
    assert sum(b.numel() for b in network.buffers()) == buffers


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("recurrence", ["none", "forward", "both"])
@pytest.mark.parametrize("words", [0, 8])
def test_shapes_for_every_recurrence_with_and_without_quantisation(
    stride: int, recurrence: str, words: int
) -> None:
    network = build(stride=stride, recurrence=recurrence, words=words, levels=3, window=3)
    sequence = torch.rand(2, 5, 16, 24)
    made = network.train()(sequence, 2)
    ahead = 0 if recurrence == "none" else 2
    assert made.enhanced.shape == (2, 5, 16, 24)
    assert made.predicted.shape == (2, ahead, 16, 24)
    assert made.index.shape == (2, 5, 3 if words else 0, 16 // stride, 24 // stride)
    assert (float(made.commitment.detach()) > 0) == bool(words)
    (made.enhanced.sum() + made.predicted.sum() + made.commitment).backward()
    idle = [
        name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())
    ]
    assert not idle, "every weight has a say"
    assert network(sequence).predicted.shape == (2, 0, 16, 24)


@pytest.mark.parametrize("recurrence", ["forward", "both"])
def test_what_is_predicted_knows_nothing_of_later_slices(recurrence: str) -> None:
    sequence = torch.rand(1, 7, 16, 16)
    network = used(build(recurrence=recurrence, window=1), sequence)
    later, earlier = sequence.clone(), sequence.clone()
    later[:, 4:] = torch.rand(1, 3, 16, 16)
    earlier[:, 3] = torch.rand(1, 16, 16)
    with torch.inference_mode():
        before, after, other = (network(s, 3).predicted for s in (sequence, later, earlier))
    assert torch.allclose(before, after, atol=1e-6)
    assert float((before - other).abs().max()) > 1e-4


def test_without_both_ways_no_slice_knows_of_later_ones() -> None:
    sequence = torch.rand(1, 6, 16, 16)
    changed = sequence.clone()
    changed[:, 4:] = torch.rand(1, 2, 16, 16)
    for recurrence, sees in (("none", False), ("forward", False), ("both", True)):
        network = used(build(recurrence=recurrence), sequence)
        with torch.inference_mode():
            moved = (network(sequence).enhanced - network(changed).enhanced)[:, :3].abs().max()
        assert (float(moved) > 1e-6) == sees, recurrence


@pytest.mark.parametrize("recurrence", ["none", "forward", "both"])
@pytest.mark.parametrize(("stride", "window", "words"), [(2, 3, 8), (4, 1, 8), (2, 1, 0)])
def test_a_stack_slice_by_slice_equals_the_sequence(
    recurrence: str, stride: int, window: int, words: int
) -> None:
    sequence = torch.rand(1, 9, 24, 16)
    network = used(
        build(recurrence=recurrence, stride=stride, window=window, words=words, levels=2), sequence
    )
    with torch.inference_mode():
        whole = network(sequence)
    for at_once in (1, 2 * 24 * 16, 2**20):
        enhanced, index, fractions = restored(network, sequence[0], pixels_at_once=at_once)
        assert float((enhanced - whole.enhanced[0]).abs().max()) <= 1e-5, at_once
        assert torch.equal(index, whole.index[0])
        assert all(a < b for a, b in itertools.pairwise(fractions))
        assert fractions[-1] == pytest.approx(1)
    assert torch.equal(restored(network, sequence[0])[0], restored(network, sequence[0])[0])


@pytest.mark.parametrize("depth", [1, 2])
def test_stacks_of_one_or_two_slices_are_enhanced(depth: int) -> None:
    network = used(build(window=3, recurrence="both"), torch.rand(1, 5, 16, 16))
    enhanced, index, _ = restored(network, torch.rand(depth, 16, 20))
    assert enhanced.shape == (depth, 16, 20)
    assert index.shape == (depth, 4, 8, 10)
    assert bool(torch.isfinite(enhanced).all())


@pytest.mark.parametrize("recurrence", ["none", "both"])
@pytest.mark.parametrize(("stride", "blocks"), [(2, 1), (2, 3), (4, 1), (4, 2)])
def test_a_pixel_has_no_say_beyond_the_declared_reach(
    stride: int, blocks: int, recurrence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measure it by gradients in double precision, without the dictionary, which has none."""
    monkeypatch.setattr(
        Dqlr,
        "begin",
        lambda self, latents, hidden: latents.new_zeros((1, hidden, *latents.shape[-2:])),
    )
    network = build(
        stride=stride,
        blocks=blocks,
        recurrence=recurrence,
        words=0,
        window=3,
        features=24,
        inner=12,
    )
    network = network.double().eval()
    reach = reach_px(stride, blocks, recurrence != "none")
    assert reach % stride == 0
    assert reach <= method.MAX_REACH_PX
    side = 2 * (reach + 3 * stride)
    furthest = 0
    for place in range(side // 2, side // 2 + stride):
        sequence = torch.rand(1, 4, side, side, dtype=torch.float64, requires_grad=True)
        network(sequence).enhanced[0, 1, place, place].backward()
        assert sequence.grad is not None
        for axes in ((0, 1, 2), (0, 1, 3)):
            seen = torch.nonzero(sequence.grad.abs().sum(dim=axes) > 0).flatten()
            furthest = max(furthest, place - int(seen.min()), int(seen.max()) - place)
    assert reach - 2 * stride <= furthest <= reach


@pytest.mark.parametrize("stride", [2, 4])
def test_a_change_beyond_the_reach_changes_nothing_behind_the_dictionary_either(
    stride: int,
) -> None:
    network = used(build(stride=stride, recurrence="both"), torch.rand(1, 4, 32, 32))
    reach = reach_px(stride, 1, recurrent=True)
    stack = torch.rand(4, 16, 2 * reach + 32)
    changed = stack.clone()
    changed[..., reach + 16 :] = torch.rand(4, 16, reach + 16)
    moved = (restored(network, stack)[0] - restored(network, changed)[0]).abs().amax((0, 1))
    assert float(moved[:16].max()) == 0
    assert float(moved[reach + 16 :].max()) > 1e-3


@pytest.mark.parametrize("stride", [2, 4])
def test_flat_codes_make_a_flat_image_without_checkerboard(stride: int) -> None:
    network = build(stride=stride).eval()
    with torch.inference_mode():
        image = network.generator(torch.randn(1, 4, 1, 1).expand(1, 4, 24, 24).contiguous())[0, 0]
    border = reach_px(stride, 1, recurrent=False)
    inside = image[border:-border, border:-border]
    assert inside.numel() >= 16
    assert float(inside.max() - inside.min()) < 1e-6
    assert float(image.max() - image.min()) > 1e-3


def test_tiles_are_planned_with_the_reach_that_networks_are_held_to() -> None:
    def plan(psf: Psf | None) -> tuple[int, int, int]:
        settings = method.DqlrParameters()
        context = PlanContext(settings, (7, 100, 100), (1.0, 1.0, 1.0), psf)
        return method.METHOD.plan_halo_px(context)

    most = method.MAX_REACH_PX
    assert plan(None) == (7, most, most)
    # The blur goes back and forth in the data consistency; deconvolutions reach further when wide.
    assert plan(gaussian((1.0, 1.0, 1.0))) == (7, most + 8, most + 8)
    assert plan(gaussian((1.0, 3.0, 3.0)))[1] > most + 2 * 12
