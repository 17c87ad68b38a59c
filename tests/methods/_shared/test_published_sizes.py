"""Networks have the published numbers of weights and the declared receptive fields."""

from __future__ import annotations

import pytest
import torch

from zenhance.methods import rdn, srcnn
from zenhance.methods._shared.planes import restore_planes
from zenhance.methods.rdn.network import RDN
from zenhance.methods.srcnn.network import SRCNN


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("kernels", "weights"), [((9, 5, 5), 57_281), ((9, 1, 5), 8_129)])
def test_srcnn_has_the_published_number_of_weights(
    kernels: tuple[int, int, int], weights: int
) -> None:
    assert count(SRCNN(kernels=kernels)) == weights


@pytest.mark.parametrize(
    ("sizes", "millions"),
    [
        ({"blocks": 16, "layers": 8, "growth": 64, "scale": 2}, 22.12),
        ({"blocks": 20, "layers": 6, "growth": 32, "scale": 2}, 5.6),
        ({"blocks": 4, "layers": 4, "growth": 32, "scale": 2}, 0.81),
    ],
)
def test_rdn_has_the_published_number_of_weights(sizes: dict[str, int], millions: float) -> None:
    with torch.device("meta"):
        assert count(RDN(**sizes)) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", ["srcnn", "rdn"])
def test_a_pixel_has_no_say_beyond_the_declared_halo(kind: str, scale: int) -> None:
    torch.manual_seed(0)
    if kind == "srcnn":
        learner, architecture = srcnn.METHOD.learner(), {"scale": scale, "window": 3}
    else:
        learner = rdn.METHOD.learner()
        architecture = {
            "scale": scale,
            "window": 3,
            "features": 8,
            "growth": 8,
            "blocks": 2,
            "layers": 2,
        }
    network = learner.build(architecture).double().eval()
    radius = learner.architecture(**architecture).radius_px
    image = torch.rand(1, 3, 61, 61, dtype=torch.float64, requires_grad=True)
    middle = 30 * scale
    network(image)[0, 0, middle, middle].backward()
    assert image.grad is not None
    rows = torch.nonzero(image.grad.abs().sum(dim=(0, 1, 3)) > 0).flatten()
    assert 30 - radius <= int(rows.min())
    assert int(rows.max()) <= 30 + radius
    assert max(30 - int(rows.min()), int(rows.max()) - 30) >= radius - 2


class _Sum(torch.nn.Module):
    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return planes.sum(dim=1, keepdim=True)


def test_planes_beyond_the_ends_are_mirrored() -> None:
    stack = torch.arange(4.0)[:, None, None].expand(4, 2, 2).contiguous()
    steps = restore_planes(_Sum(), stack, window=3, scale=1, pixels_at_once=4)
    fractions = []
    while True:
        try:
            fractions.append(next(steps))
        except StopIteration as done:
            restored = done.value
            break
    assert fractions == [0.25, 0.5, 0.75, 1.0]
    assert restored[:, 0, 0].tolist() == [1.0, 3.0, 6.0, 8.0]
