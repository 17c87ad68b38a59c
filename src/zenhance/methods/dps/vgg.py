"""VGG16-D for the perceptual loss; no weights ship with the package.

The loss compares the first nine convolutions (conv1_1 ... conv4_2) before their activation; the
slides on DPS do not say which nine. Source: Simonyan & Zisserman, ICLR (2015), table 1, column D.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["LAYERS", "VggFeatures"]

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
