"""The networks as PyTorch modules: what trains, and what the PyTorch engine runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vfilter.networks import Network


class TorchNetwork(nn.Module):
    """`network` as a module with parameters named as in `Network.shapes`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, layer.channels, layer.kernel)
            for layer, inputs in zip(network.layers, network.inputs, strict=True)
        )

    def forward(self, luma: Tensor) -> Tensor:
        """The residual to add to `luma`.

        luma: (N, 1, H, W) float, code / full scale - 0.5; H and W above twice the radius.
        Returns (N, 1, H - 2r, W - 2r), same scale, r the network's radius.
        """
        last = len(self.layers) - 1
        x = luma
        first = luma
        for i, (layer, conv) in enumerate(zip(self.network.layers, self.layers, strict=True)):
            if layer.skip:
                margin = (first.shape[-1] - x.shape[-1]) // 2
                height, width = x.shape[-2:]
                centre = first[..., margin : margin + height, margin : margin + width]
                x = torch.cat([x, centre], dim=1)
            x = conv(x)
            if i < last:
                x = torch.relu_(x)
            if i == 0:
                first = x
        return x
