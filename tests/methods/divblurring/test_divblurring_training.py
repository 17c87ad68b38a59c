"""The loss of DivBlurring: likelihood, divergence, penalties and the truth term."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from zenhance.contract.learner import Batch
from zenhance.errors import RecipeError
from zenhance.methods.divblurring.network import Encoded, Gaussian, Latents, Vae
from zenhance.methods.divblurring.training import VaeArchitecture, VaeLearner, energy
from zenhance.physics.psf import gaussian
from zenhance.training.optics import PlaneOptics

LEARNER = VaeLearner()
SIZE_UM = (0.5, 0.2, 0.2)
FLAT: dict[str, Any] = {"kind": "flat", "features": [8], "latents": [4], "warmup_steps": 0}
LADDER: dict[str, Any] = {"features": [6, 8, 8], "latents": [1, 2, 3], "warmup_steps": 0}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def optics(photons: float = 200.0, read_noise: float = 0.02) -> PlaneOptics:
    """A PSF of 1.2 px, stray light, and an offset: nothing of it is 0."""
    return PlaneOptics(
        ((1.0, gaussian((0.5, 0.24, 0.24))),), SIZE_UM, -0.1, 0.05, -0.1, 1 / photons, read_noise
    )


def specimen(planes: int = 1, size: int = 64, seed: int = 0) -> Tensor:
    """Thin random walls of light 1 on a faint ground, (planes, size, size)."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(planes, size, size)), (min(2, planes - 1), 3, 3))
    return torch.from_numpy(
        np.where(np.abs(field) < 0.25 * field.std(), 1.0, 0.1).astype(np.float32)
    )


def measured(light: Tensor, through: PlaneOptics, finer: int = 1, seed: int = 0) -> Tensor:
    expected = through.expected(light, finer)
    rng = torch.Generator().manual_seed(seed)
    return expected + through.variance(expected).sqrt() * torch.randn(expected.shape, generator=rng)


def batch(
    window: int = 1,
    size: int = 32,
    *,
    count: int = 4,
    finer: int = 1,
    estimates: int = 0,
    through: PlaneOptics | None = None,
) -> Batch:
    told = through or optics()
    lights = torch.stack([specimen(window, finer * size, seed) for seed in range(count)])
    seen = torch.stack([measured(light, told, finer, seed) for seed, light in enumerate(lights)])
    deconvolved = seen[:, None].repeat(1, estimates, 1, 1, 1) if estimates else None
    return Batch(seen, lights + told.dark, torch.zeros(count), (told,) * count, deconvolved)


class Given(Vae):
    """Draws the light it was given, and has latents that say as much as it was told."""

    def __init__(self, light: Tensor, said: float = 0.0, **architecture: Any) -> None:
        super().__init__()
        self.light = light
        self.said = said
        self.stride, self.planes, self.levels = 4, light.shape[1], ((4, 2),)
        self.architecture = VaeArchitecture(
            **{"kind": "flat", "features": (8,), "latents": (2,), "warmup_steps": 0, **architecture}
        )
        self.scale = self.architecture.scale

    def encode(self, image: Tensor) -> Encoded:
        return Encoded((image,))

    def decode(
        self, encoded: Encoded, noise: Any, only_middle: bool = False
    ) -> tuple[Tensor, Latents]:
        count, _, height, width = encoded.features[0].shape
        mean = torch.full((count, 2, height // 4, width // 4), self.said)
        return self.light.expand(count, -1, -1, -1), Latents(
            (Gaussian(mean, torch.zeros_like(mean)),), (None,)
        )


def loss(light: Tensor, seen: Batch, **architecture: Any) -> float:
    return float(LEARNER.loss(Given(light, **architecture).eval(), seen)[0])


def learnt(
    architecture: dict[str, Any], seen: Batch, steps: int
) -> tuple[Any, list[float], dict[str, float]]:
    torch.manual_seed(0)
    network: Any = LEARNER.build(architecture).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses, logs = [], {}
    for step in range(steps):
        torch.manual_seed(step)
        found, told = LEARNER.loss(network, seen)
        optimiser.zero_grad()
        found.backward()
        optimiser.step()
        losses.append(float(found.detach()))
        logs = dict(told)
    return network, losses, logs


@pytest.mark.parametrize(
    "change",
    [
        FLAT,
        {**FLAT, "noise": "gaussian", "positive": False},
        {**FLAT, "noise": "gaussian", "sigma": 0.07},
        {**FLAT, "blur": False},
        {**FLAT, "scale": 2},
        {**LADDER, "window": 3, "planes": 3},
        {
            **LADDER,
            "window": 3,
            "deconvolved": [2, 8],
            "truth": 10.0,
            "kl_weight": 0.1,
            "measured": 0.1,
        },
        {**LADDER, "noise": "mixture"},
        {**LADDER, "scale": 2, "truth": 10.0},
    ],
)
def test_the_loss_falls(change: dict[str, Any]) -> None:
    seen = batch(
        change.get("window", 1),
        finer=change.get("scale", 1),
        estimates=len(change.get("deconvolved", ())),
    )
    _, losses, logs = learnt(change, seen, 60)
    assert (
        np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
        or np.mean(losses[-10:]) < np.mean(losses[:5]) - 1
    )
    assert {"measured", "kl_1"} <= set(logs)
    assert ("kl_3" in logs) == (change.get("kind") != "flat")
    assert ("truth" in logs) == bool(change.get("truth"))
    assert all(isinstance(value, float) for value in logs.values())


NOISES: list[dict[str, Any]] = [
    {"noise": "gaussian", "sigma": 0.06},
    {"noise": "gaussian"},
    {"noise": "poisson_gauss"},
]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("planes", "finer"), [(1, 1), (5, 1), (1, 2)])
def test_the_true_light_explains_the_measurement_and_others_less(
    noise: dict[str, Any], planes: int, finer: int
) -> None:
    told = optics()
    light = specimen(planes, 96 * finer)
    if noise.get("sigma"):
        told = optics(photons=1e6, read_noise=0.06)
    seen = Batch(measured(light, told, finer)[None], None, torch.zeros(1), (told,))
    how = {**noise, "window": planes, "planes": planes, "scale": finer}
    right = loss(light[None], seen, **how)
    assert right == pytest.approx(0.5, rel=0.06), "half of chi-squared per pixel"
    others = [
        0.85 * light,
        1.15 * light,
        light + 0.03,
        light.roll(finer, -1),
        torch.from_numpy(gaussian_filter(light.numpy(), (0, 1, 1))),
    ]
    for other in others:
        assert loss(other[None], seen, **how) > 1.02 * right


def test_where_it_is_dark_photons_tell_more_than_where_it_is_bright() -> None:
    told = optics(read_noise=0.005)
    light = torch.zeros(1, 64, 64)
    light[..., 32:] = 1.0
    seen = Batch(told.expected(light)[None], None, torch.zeros(1), (told,))
    dark, bright = light.clone(), light.clone()
    dark[:, 28:36, 12:20] += 0.05
    bright[:, 28:36, 44:52] += 0.05
    costs = [loss(x[None], seen) for x in (dark, bright)]
    assert costs[0] > 3 * costs[1]
    plain = [loss(x[None], seen, noise="gaussian") for x in (dark, bright)]
    assert plain[0] == pytest.approx(plain[1], rel=0.02)


def test_with_photon_noise_the_gradient_vanishes_at_the_true_light() -> None:
    told = optics(photons=20.0)
    light = specimen(size=192)
    seen = Batch(measured(light, told)[None], None, torch.zeros(1), (told,))

    def slope(factor: float) -> float:
        strength = torch.tensor(factor, requires_grad=True)
        LEARNER.loss(Given(light[None] * strength).eval(), seen)[0].backward()
        return float(strength.grad)  # type: ignore[arg-type]

    below, at, above = (slope(f) for f in (0.8, 1.0, 1.2))
    assert below < 0 < above
    assert abs(at) < 0.2 * min(-below, above)


def test_without_blur_it_is_divnoising() -> None:
    told = optics(photons=1000.0)
    light = specimen(size=96)
    seen = Batch(measured(light, told)[None], None, torch.zeros(1), (told,))
    blurred = told.expected(light) - told.base
    assert loss(blurred[None], seen, blur=False) == pytest.approx(0.5, rel=0.06)
    assert loss(light[None], seen, blur=False) > 1
    assert loss(blurred[None], seen) > 1
    fine = blurred.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert loss(fine[None], seen, blur=False, scale=2) == pytest.approx(0.5, rel=0.06)


def test_light_at_the_rim_of_a_patch_is_not_judged() -> None:
    """Light from beyond the patch reaches there, and the network cannot know it."""
    told, light = optics(), specimen()
    seen = Batch(measured(light, told)[None], None, torch.zeros(1), (told,))
    other = light.clone()
    other[:, :2] = other[:, :, -2:] = 5.0
    assert loss(other[None], seen) == pytest.approx(loss(light[None], seen), rel=1e-3)


@pytest.mark.parametrize("name", ["l1", "l2", "positivity", "total_variation", "huber"])
def test_each_penalty_acts_as_its_weight_says_at_any_size(name: str) -> None:
    light = specimen(size=32) - 0.3
    costs = []
    for times in (1, 2):
        large = light.tile(1, times, times)
        seen = Batch(torch.zeros_like(large)[None], None, torch.zeros(1), (optics(),))
        off, once, twice = (loss(large[None], seen, **{name: weight}) for weight in (0.0, 1.0, 2.0))
        assert once - off > 1e-3
        assert twice - off == pytest.approx(2 * (once - off), rel=1e-3)
        costs.append(once - off)
    assert costs[0] == pytest.approx(costs[1], rel=0.05)


@pytest.mark.parametrize(
    ("name", "levels", "slope", "cost"),
    [
        ("l1", (-0.5, 1.5), 0.0, 1.0),
        ("l2", (-0.5, 1.5), 0.0, 1.25),
        ("positivity", (-0.5, 1.5), 0.0, 0.125),
        ("positivity", (0.0, 1.5), 0.0, 0.0),
        ("total_variation", (0.0, 0.0), 0.02, 0.02),
        ("total_variation", (0.0, 0.0), 0.5, 0.5),
        ("huber", (0.0, 0.0), 0.02, 0.02**2 / 0.1),
        ("huber", (0.0, 0.0), 0.5, 0.5 - 0.025),
    ],
)
def test_penalties_are_what_they_are_called(
    name: str, levels: tuple[float, float], slope: float, cost: float
) -> None:
    light = (
        torch.tensor(levels).repeat(1, 1, 32, 16)
        + slope * torch.arange(32)[:, None]
        - (0 if slope == 0 else 4)
    )
    seen = Batch(torch.zeros(1, 1, 32, 32), None, torch.zeros(1), (optics(),))
    assert loss(light, seen, **{name: 1.0}) - loss(light, seen) == pytest.approx(
        cost, rel=1e-2, abs=2e-3 * loss(light, seen) + 1e-6
    )


@pytest.mark.parametrize("size", [32, 64])
def test_the_latents_cost_their_nats_per_pixel_beyond_what_is_free(size: int) -> None:
    light, seen = (
        torch.ones(1, 1, size, size),
        Batch(torch.ones(1, 1, size, size), None, torch.zeros(1), (optics(),)),
    )
    nats = 2 * 0.5 * 0.8**2 / 16  # two channels of mean 0.8 and width 1 on a grid of 4 pixels

    def cost(**how: Any) -> float:
        return loss(light, seen, said=0.8, **how) - loss(
            light, seen, said=0.0, **{**how, "free_bits": 0.0}
        )

    assert cost() == pytest.approx(nats, rel=1e-3)
    assert cost(kl_weight=0.1) == pytest.approx(0.1 * nats, rel=1e-3)
    assert cost(free_bits=0.2) == pytest.approx(nats, rel=1e-3), "0.32 nats a latent are above 0.2"
    assert cost(free_bits=0.5) == pytest.approx(0.5 * 2 / 16, rel=1e-3), (
        "below, it costs the same whatever it is"
    )
    assert loss(light, seen, said=0.8, free_bits=0.5) == pytest.approx(
        loss(light, seen, said=0.1, free_bits=0.5), rel=1e-5
    )


def test_the_weight_of_the_latents_rises_while_it_warms_up_and_is_whole_in_a_validation() -> None:
    light, seen = (
        torch.ones(1, 1, 32, 32),
        Batch(torch.ones(1, 1, 32, 32), None, torch.zeros(1), (optics(),)),
    )
    network = Given(light, 0.8, warmup_steps=4).train()
    base = loss(light, seen)
    whole = loss(light, seen, said=0.8) - base
    paid = [float(LEARNER.loss(network, seen)[0]) - base for _ in range(6)]
    assert paid == pytest.approx([whole * share for share in (0.25, 0.5, 0.75, 1, 1, 1)], rel=1e-3)
    early = Given(light, 0.8, warmup_steps=4).eval()
    assert float(LEARNER.loss(early, seen)[0]) - base == pytest.approx(whole, rel=1e-3)
    assert float(early.warm) == 0


def test_the_energy_score_is_least_for_draws_of_the_right_spread() -> None:
    rng = torch.Generator().manual_seed(0)
    truth, one, two = (torch.randn(16, 1, 64, 64, generator=rng) for _ in range(3))
    scores = {
        width: float(energy(width * one, width * two, truth))
        for width in (0.0, 0.5, 0.8, 1.0, 1.25, 2.0)
    }
    assert min(scores, key=lambda width: scores[width]) == 1.0
    assert scores[0.0] > scores[0.5] > scores[0.8] > scores[1.0] < scores[1.25] < scores[2.0]
    assert float(energy(one + 0.5, two + 0.5, truth)) > 1.05 * scores[1.0], (
        "nor may they lie elsewhere"
    )


def test_blocks_of_pixels_tell_whether_draws_vary_together_as_the_truth_does() -> None:
    rng = torch.Generator().manual_seed(0)

    def coarse() -> Tensor:
        return (
            torch.randn(16, 1, 16, 16, generator=rng)
            .repeat_interleave(4, -1)
            .repeat_interleave(4, -2)
        )

    truth, one, two = (coarse() for _ in range(3))
    fine = [torch.randn(16, 1, 64, 64, generator=rng) for _ in range(2)]
    right, wrong = float(energy(one, two, truth)), float(energy(*fine, truth))
    assert wrong > 1.05 * right
    alone = [float(energy(a, b, truth, grids=(1,))) for a, b in ((one, two), fine)]
    assert alone[0] == pytest.approx(alone[1], rel=0.05), "pixel by pixel they look alike"


def test_a_truth_judges_mean_and_spread_of_two_draws() -> None:
    seen = batch(count=1)
    assert seen.truth is not None
    target = (seen.truth - seen.optics[0].dark).clamp_min(0)
    noise = 0.1 * torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))

    def told(light: Tensor) -> tuple[float, float]:
        found, logs = LEARNER.loss(Given(light, truth=1.0, measured=0.0).eval(), seen)
        return float(found), logs["truth"]

    right, mean = told(target + noise)
    assert abs(mean) < 2e-3, "the mean is judged without the draws' own spread"
    assert right == pytest.approx(
        mean + float(energy(target + noise[:1], target + noise[1:], target)), rel=1e-4
    )
    assert told(target + noise + 0.3)[1] == pytest.approx(0.09, abs=0.01)
    twice = float(LEARNER.loss(Given(target + noise, truth=2.0, measured=0.0).eval(), seen)[0])
    assert twice == pytest.approx(2 * right, rel=1e-4)


def test_a_truth_that_is_missing_or_on_another_grid_is_refused() -> None:
    seen = batch()
    assert LEARNER.needs_truth({**LADDER, "truth": 1.0})
    assert not LEARNER.needs_truth(LADDER)
    with pytest.raises(
        RecipeError, match="no truth; give pairs or simulated, set architecture.truth to 0"
    ):
        LEARNER.loss(LEARNER.build({**LADDER, "truth": 1.0}), replace(seen, truth=None))
    with pytest.raises(
        RecipeError, match="32 pixels where the network draws 64; set architecture.scale to fit"
    ):
        LEARNER.loss(LEARNER.build({**LADDER, "truth": 1.0, "scale": 2}), seen)


def test_of_a_window_the_drawn_planes_are_compared() -> None:
    """Five planes are seen, three drawn: these are the middle ones."""
    told, light = optics(), specimen(5, 64)
    seen = Batch(measured(light, told)[None], None, torch.zeros(1), (told,))
    how = {"window": 5, "planes": 3}
    right = loss(light[None, 1:4], seen, **how)
    assert right < 0.8 * min(loss(light[None, at : at + 3], seen, **how) for at in (0, 2))


def test_patches_that_were_measured_otherwise_are_looked_at_otherwise() -> None:
    first, second = optics(), replace(optics(), base=0.5, _blurs={})
    light = specimen()
    pair = torch.stack([measured(light, first), measured(light, second)])
    mixed = Batch(pair, None, torch.zeros(2), (first, second))
    assert loss(light[None], mixed) == pytest.approx(0.5, rel=0.06)
    assert loss(light[None], replace(mixed, optics=(second, first))) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 2}, "window 2 and planes 1 must be odd"),
        ({"window": 3, "planes": 5}, "planes at most the window"),
        ({"deconvolved": [8, 2]}, "give rising numbers of iterations, at most 100"),
        ({"deconvolved": [200]}, "give rising numbers of iterations, at most 100"),
        ({"latents": [4]}, "features and latents of the ladder network need 3 numbers each"),
        ({"kind": "flat"}, "features and latents of the flat network need 1 number each"),
        ({"blocks": 7}, "blocks is 7"),
        ({"scale": 3}, "scale is 3"),
        ({"sigma": 0.0}, "sigma is 0"),
        ({"kl_weigth": 1.0}, 'called "kl_weigth"; did you mean "kl_weight"'),
        ({"noise": "shot"}, "noise is 'shot'"),
    ],
)
def test_an_architecture_that_makes_no_sense_is_refused_in_one_sentence(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        LEARNER.build({**LADDER, **change})
    assert "\n" not in str(caught.value)


def test_patches_fit_the_latents() -> None:
    assert LEARNER.patch_px({**LADDER, "window": 5}, 48) == (5, 48, 48)
    assert LEARNER.patch_px(FLAT, 36) == (1, 36, 36)
    with pytest.raises(RecipeError, match="patch_px is 36; it must be a multiple of 8"):
        LEARNER.patch_px(LADDER, 36)
    for architecture in (FLAT, LADDER):
        assert np.isfinite(
            float(LEARNER.loss(LEARNER.build(architecture), batch(size=8))[0].detach())
        ), "the smallest patch there is"
