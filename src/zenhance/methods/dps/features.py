"""Features of the perceptual loss: of VGG16 from a user's file, or of the shipped network.

.. math::
    \\frac{1}{9} \\sum_j \\frac{1}{C_j H_j W_j} \\lVert \\Phi_j(\\hat y) - \\Phi_j(y) \\rVert_2^2

Source: Johnson, Alahi & Fei-Fei, ECCV (2016), the feature reconstruction loss. The slides on DPS
use nine layers of VGG16-D and no style loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as f

from zenhance.errors import CheckpointError
from zenhance.methods.dps.network import ResUDbpn, enlarged
from zenhance.methods.dps.optics import build_network, checked
from zenhance.methods.dps.vgg import VggFeatures
from zenhance.models.catalogue import find_weights
from zenhance.models.checkpoint import read_checkpoint

__all__ = ["feature_difference", "load_features"]

OWN = "dps_stack"
Features = Callable[[Tensor], list[Tensor]]


class _Trunk:
    """Nine stages of a trained trunk: first layer, layers of three blocks down, two blocks up."""

    def __init__(self, network: ResUDbpn) -> None:
        self._network = network.requires_grad_(False).eval()

    def __call__(self, image: Tensor) -> list[Tensor]:
        net: Any = self._network
        # The image itself replaces its inversions, since only features are needed.
        fine = f.pixel_unshuffle(enlarged(image), 2)
        x = net.first(torch.cat([image, fine.repeat(1, (net.first.in_channels - 1) // 4, 1, 1)], 1))
        found, kept = [x], []
        for block in net.down:
            found.append(block.one(x))
            x = block(x)
            found.append(x)
            kept.append(x)
            x = f.max_pool2d(x, 2)
        half = net.up[0](torch.cat([net.rise[0](kept[2]), kept[1]], 1))
        found += [half, net.up[1](torch.cat([net.rise[1](half), kept[0]], 1))]
        return found


@cache
def load_features(path: str) -> Features:
    """Return the function that maps images (N, 1, Y, X) of range 1 to nine feature maps.

    Parameters
    ----------
    path : str
        A safetensors file with weights of VGG16 in torchvision's layout; empty for the trunk of the
        shipped network.

    Raises
    ------
    CheckpointError
        The file is missing or holds other weights.
    """
    if path:
        network = VggFeatures().requires_grad_(False).eval()
        try:
            network.fill(load_file(Path(path).expanduser()))
        except (OSError, KeyError, RuntimeError) as error:
            raise CheckpointError(
                f'"{path[-80:]}" holds no weights of VGG16 in torchvision\'s layout ({error}); '
                "give another file"
            ) from error
        return cast(Features, network)
    checkpoint = read_checkpoint(find_weights("dps", None, OWN))
    a = checked(checkpoint.card.architecture)
    own = build_network(a)
    checkpoint.load_into(own)
    return _Trunk(own)


def feature_difference(features: Features, image: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of features, averaged over layers.

    The images (N, 1, Y, X) have sides that are multiples of 4.
    """
    with torch.autocast(image.device.type, enabled=False):
        pairs = zip(features(image.float()), features(target.float()), strict=True)
        return torch.stack([(a - b).square().mean() for a, b in pairs]).mean()
