"""What networks are trained towards (paper, section 3), and how their weights begin."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from training.recipes import Initialization, Objective
from vfilter.comparison.metrics import BLOCK
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


def blocking_effect(image: Tensor, first: int) -> Tensor:
    """How much higher steps at block boundaries are than others in a batch; no less than 0.

    The blocking effect factor, by which PSNR-B is below PSNR (Yim and Bovik, "Quality assessment of
    deblocked images", IEEE TIP 20(1), 2011), without its factor for the size of the image.
    image: (N, 1, H, W), on the networks' scale; first: row and column of a pixel after a boundary.
    Returns a scalar in squares of that scale.
    """
    difference = image.new_zeros(())
    for axis in (-2, -1):
        squares = image.diff(dim=axis) ** 2
        boundary = torch.arange(squares.shape[axis], device=image.device) % BLOCK
        boundary = boundary == (first - 1) % BLOCK
        at, others = (
            squares.index_select(axis, where.nonzero().flatten()).mean()
            for where in (boundary, ~boundary)
        )
        difference = difference + (at - others) / 2
    return difference.clamp(min=0)


def dissimilarity(image: Tensor, clean: Tensor) -> Tensor:
    """1 - SSIM of a batch, with the paper's uniform window of 8x8 pixels.

    image, clean: (N, 1, H, W), on the networks' scale. Returns a scalar, 0 to 2
    (Wang et al., "Image quality assessment", IEEE TIP 13(4), 2004, equation 13).
    """

    def local(plane: Tensor) -> Tensor:
        return avg_pool2d(plane, BLOCK, stride=1)

    x, y = local(image), local(clean)
    variances = local(image**2) - x**2 + local(clean**2) - y**2
    covariance = local(image * clean) - x * y
    x, y = x + 0.5, y + 0.5  # luma is centred
    numerator = (2 * x * y + 0.01**2) * (2 * covariance + 0.03**2)
    denominator = (x**2 + y**2 + 0.01**2) * (variances + 0.03**2)
    return 1 - (numerator / denominator).mean()


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
