"""How DQLR learns: slices of a sequence, all of them at once, and those that follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import conv2d

from zenhance.contract.learner import Batch, Learner
from zenhance.contract.settings import validate
from zenhance.errors import RecipeError
from zenhance.methods.dqlr.network import Dqlr, reach_px
from zenhance.methods.dqlr.quantiser import perplexity
from zenhance.types import Triple

__all__ = [
    "LEARNER",
    "MAX_REACH_PX",
    "DqlrArchitecture",
    "DqlrLearner",
    "structural_dissimilarity",
]

MAX_REACH_PX = 48
"""Networks that look further along y and x are refused: tiles are planned before weights are read."""

# Of the structural similarity index (Wang et al., IEEE TIP 13:600, 2004), for a range of 1.
SSIM_SIGMA_PX, SSIM_RADIUS_PX = 1.5, 5
C1, C2 = 0.01**2, 0.03**2


class DqlrArchitecture(BaseModel):
    """What a recipe says of the network, and of what it learns; frozen, unknown keys refused. The defaults are the preset ``dqlr``.

    Notes
    -----
    The loss is the mean squared difference, plus each of the others times its weight.
    """

    model_config = {"frozen": True, "extra": "forbid"}

    window: int = Field(3, ge=1, le=9, description="slices that the encoder sees at once, odd")
    features: int = Field(64, ge=8, le=256, description="channels of encoder and generator")
    inner: int = Field(32, ge=4, le=256, description="channels inside the residual blocks")
    blocks: int = Field(3, ge=1, le=8, description="residual blocks of encoder and of generator")
    stride: Literal[2, 4] = Field(2, description="pixels per latent along y and x")
    recurrence: Literal["none", "forward", "both"] = Field(
        "both", description="over z: none, from the first slice, from both ends"
    )
    hidden: int = Field(32, ge=4, le=256, description="channels of the recurrence")
    words: int = Field(
        128, ge=0, le=4096, description="words of a dictionary; 0 leaves quantisation out"
    )
    dimensions: int = Field(64, ge=4, le=256, description="size of a latent vector")
    levels: int = Field(
        4, ge=1, le=16, description="dictionaries, each for what the one before leaves over"
    )
    predicted: int = Field(2, ge=0, le=4, description="slices ahead that the recurrence predicts")
    planes: int = Field(8, ge=1, le=64, description="slices of a training sequence")
    target: Literal["truth", "measured"] = Field(
        "truth", description="what is compared with: the sharp specimen, or the measured slice"
    )
    absolute: float = Field(0.1, ge=0, description="weight of the mean absolute difference")
    ssim: float = Field(0.0, ge=0, description="weight of the structural dissimilarity")
    commitment: float = Field(
        0.05, ge=0, description="weight of the distance between latents and their words"
    )
    prediction: float = Field(0.2, ge=0, description="weight of the slices ahead")


def _checked(architecture: Mapping[str, Any]) -> DqlrArchitecture:
    checked = validate(DqlrArchitecture, architecture, "architecture key", RecipeError)
    if checked.window % 2 == 0:
        raise RecipeError(
            f"the window is {checked.window} slices; it must be odd, so that there is a middle one"
        )
    if checked.predicted and checked.planes <= checked.predicted:
        raise RecipeError(
            f"{checked.predicted} slices ahead cannot be learnt from sequences of {checked.planes}; give more planes"
        )
    if (
        reach := reach_px(checked.stride, checked.blocks, checked.recurrence != "none")
    ) > MAX_REACH_PX:
        raise RecipeError(
            f"this network would look {reach} pixels far; at most {MAX_REACH_PX} are allowed, give fewer blocks"
        )
    return checked


def structural_dissimilarity(image: Tensor, reference: Tensor) -> Tensor:
    """Return 1 - SSIM, averaged over images (N, 1, Y, X) with intensities of range 1; the standard form with covariance.

    Notes
    -----
    Gaussian window of standard deviation 1.5 pixels, 11 × 11 pixels, only where it lies inside.
    """
    offsets = torch.arange(
        -SSIM_RADIUS_PX, SSIM_RADIUS_PX + 1, device=image.device, dtype=torch.float32
    )
    profile = torch.exp(-0.5 * (offsets / SSIM_SIGMA_PX) ** 2)
    profile = profile / profile.sum()

    def smooth(x: Tensor) -> Tensor:
        return conv2d(conv2d(x, profile[None, None, None]), profile[None, None, :, None])

    a, b = image.float(), reference.float()
    with torch.autocast(image.device.type, enabled=False):
        mean_a, mean_b = smooth(a), smooth(b)
        var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
        both = smooth(a * b) - mean_a * mean_b
        similar = (
            (2 * mean_a * mean_b + C1)
            * (2 * both + C2)
            / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))
        )
    return 1 - similar.mean()


class DqlrLearner(Learner):
    """Learns slices of a sequence, all of them at once, and those that follow."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network.

        Raises
        ------
        RecipeError
            The architecture has an unknown key or a value out of range.
        """
        a = _checked(architecture)
        network = Dqlr(
            a.window,
            a.features,
            a.inner,
            a.blocks,
            a.stride,
            a.recurrence,
            a.hidden,
            a.words,
            a.dimensions,
            a.levels,
            a.predicted,
        )
        network.architecture = a
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> Triple:
        """Return (planes, size, size).

        Raises
        ------
        RecipeError
            The size is no multiple of the stride, or smaller than the window of the structural similarity where that is learnt with.
        """
        a = _checked(architecture)
        if size_px % a.stride:
            raise RecipeError(
                f"patch_px is {size_px}; it must be a multiple of the stride, {a.stride}"
            )
        if a.ssim and size_px <= 2 * SSIM_RADIUS_PX:
            raise RecipeError(
                f"patch_px is {size_px}; with ssim in the loss it must be more than {2 * SSIM_RADIUS_PX}"
            )
        return (a.planes, size_px, size_px)

    def needs_truth(self, architecture: Mapping[str, Any]) -> bool:
        """Tell whether the target is the truth."""
        return _checked(architecture).target == "truth"

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Compare every slice of the sequences with the target, and the predicted ones with those that followed.

        Raises
        ------
        RecipeError
            The target is the truth, and the batch has none on the measurement's grid.
        """
        net = cast(Dqlr, network)
        a = cast(DqlrArchitecture, net.architecture)
        target = batch.measured if a.target == "measured" else batch.truth
        if target is None:
            raise RecipeError(
                "a training stack has no truth; give pairs or simulated, learn with target: measured, or learn from a stack"
            )
        if target.shape != batch.measured.shape:
            raise RecipeError(
                "the truth is finer than the measurement; this method does not enlarge, give truth on the same grid"
            )
        count = target.shape[1]
        last = int(torch.randint(count - net.predicted, (1,))) if net.predicted else None
        made = net(batch.measured, last)
        difference = made.enhanced.float() - target
        loss = difference.square().mean() + a.absolute * difference.abs().mean()
        logs = {"commitment": float(made.commitment.detach())}
        if a.ssim:
            loss = loss + a.ssim * structural_dissimilarity(
                made.enhanced.flatten(0, 1)[:, None], target.flatten(0, 1)[:, None]
            )
        loss = loss + a.commitment * made.commitment
        if last is not None:
            ahead = (
                (made.predicted.float() - target[:, last + 1 : last + 1 + net.predicted])
                .square()
                .mean()
            )
            loss, logs["prediction"] = loss + a.prediction * ahead, float(ahead.detach())
        for level in range(made.index.shape[2]):
            logs[f"perplexity_{level + 1}"] = perplexity(made.index[:, :, level], a.words)
        return loss, logs

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the enhanced middle slice (B, 1, Y, X)."""
        enhanced: Tensor = cast(Dqlr, network)(measured).enhanced
        return enhanced[:, measured.shape[1] // 2][:, None]


LEARNER = DqlrLearner()
