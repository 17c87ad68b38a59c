"""Features of the perceptual loss: of VGG16 from a user's file, or of the shipped network.

.. math::
    \\frac{1}{9} \\sum_j \\frac{1}{C_j H_j W_j} \\lVert \\Phi_j(\\hat y) - \\Phi_j(y) \\rVert_2^2

Source: Johnson, Alahi & Fei-Fei, ECCV (2016), the feature reconstruction loss. The slides on DPS
use nine layers of VGG16-D and no style loss; they do not say which. Here they are the first nine
convolutions (conv1_1 ... conv4_2) before their activation (Simonyan & Zisserman, ICLR (2015),
table 1, column D). No VGG weights ship with the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as f

from zenhance.errors import CheckpointError
from zenhance.methods.dps.network import ResUDbpn, enlarged
from zenhance.methods.dps.optics import build_network, checked
from zenhance.models.catalogue import find_weights
from zenhance.models.checkpoint import read_checkpoint

__all__ = ["LAYERS", "VggFeatures", "feature_difference", "load_features"]

PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512)
"""Channels of each 3 × 3 convolution; 0 is a pooling."""
LAYERS = 9
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, whose statistics the published weights expect."""


class VggFeatures(nn.Module):
    """The first nine convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in PLAN:
            if channels == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Load weights in torchvision's layout (``features.0.weight`` ...), without later layers.

        Raises
        ------
        KeyError
            A weight is missing.
        RuntimeError
            A weight has another shape.
        """
        self.load_state_dict({name: state[name] for name in self.state_dict()})

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features (N, C, Y, X) of images (N, 1, Y, X) of range 1, of each layer."""
        x = (image.expand(-1, 3, -1, -1) - torch.as_tensor(self.mean)) / torch.as_tensor(
            self.deviation
        )
        found: list[Tensor] = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                found.append(x)
                if len(found) == LAYERS:
                    break
        return found


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
