"""What networks are trained towards (paper, section 3), and how their weights begin."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from training.recipes import Initialization, Objective
from vfilter.torch_module import TorchNetwork

SOBEL = torch.tensor(
    [
        [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]],
        [[-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]],
    ]
)[:, None]
"""G of equation 3: horizontal and vertical derivative, (2, 1, 3, 3), not normalized."""


def centre(planes: Tensor, radius: int) -> Tensor:
    """`planes` (..., H, W) without `radius` pixels on each side."""
    return planes[..., radius : planes.shape[-2] - radius, radius : planes.shape[-1] - radius]


def loss(
    objective: Objective, output: Tensor, distorted: Tensor, clean: Tensor, weight: Tensor
) -> Tensor:
    """The mean of the squared error over the output pixels, a scalar on the networks' scale.

    "residual": `output` is what is to be added to `distorted`; "direct": it is the image itself
    (equation 2); "edge": likewise, and the squared error of its derivatives (equation 3) is added.
    output, distorted, clean: (N, 1, H, W); weight: of each crop's error, (N, 1, 1, 1).
    """
    target = clean - distorted if objective == "residual" else clean
    error = output - target
    squared = (weight * error**2).mean()
    if objective != "edge":
        return squared
    edges = conv2d(error, SOBEL.to(error))
    return squared + (weight * edges**2).sum(dim=1).mean()


def initialize(module: TorchNetwork, kind: Initialization, generator: torch.Generator) -> None:
    """Xavier's initialization, and in the last layer a Gaussian of lower variation.

    "symmetric": every filter is made zero-mean besides (paper, section 3); "plain": it is not.
    """
    last = len(module.layers) - 1
    for i, layer in enumerate(module.layers):
        weight = layer.weight
        assert isinstance(weight, Tensor) and isinstance(layer.bias, Tensor)
        torch.nn.init.zeros_(layer.bias)
        if i == last:
            torch.nn.init.normal_(weight, std=1e-3, generator=generator)
            continue
        torch.nn.init.xavier_normal_(weight, generator=generator)
        if kind == "symmetric":
            with torch.no_grad():
                weight -= weight.mean(dim=(1, 2, 3), keepdim=True)
