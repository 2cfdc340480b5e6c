"""The networks are those of the paper: size, receptive field, cost, skip connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import conv2d, relu

from vfilter.networks import L4, L8, NETWORKS, Layer, Network
from vfilter.torch_module import TorchNetwork

BOTH = pytest.mark.parametrize("network", [L4, L8], ids=lambda network: network.name)


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("network", "parameters", "flop", "field"),
    [(L4, 72_097, 143_840, 19), (L8, 220_545, 440_128, 25)],
    ids=["l4", "l8"],
)
def test_size_cost_and_receptive_field(
    network: Network, parameters: int, flop: int, field: int
) -> None:
    assert network.parameters == parameters
    assert network.flop_per_pixel == flop
    assert 2 * network.radius + 1 == field
    assert NETWORKS[network.name] is network


@BOTH
def test_module_has_the_described_parameters(network: Network) -> None:
    module = TorchNetwork(network)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert shapes == network.shapes
    assert sum(value.numel() for value in module.parameters()) == network.parameters


@BOTH
@pytest.mark.parametrize("height, width", [(1, 1), (1, 8), (5, 3)])
def test_output_loses_the_radius(network: Network, height: int, width: int) -> None:
    margin = 2 * network.radius
    with torch.inference_mode():
        residual = TorchNetwork(network)(torch.zeros(2, 1, height + margin, width + margin))
    assert residual.shape == (2, 1, height, width)


@BOTH
def test_output_pixel_sees_its_receptive_field_and_no_more(network: Network) -> None:
    radius = network.radius
    luma = torch.randn(1, 1, 2 * radius + 7, 2 * radius + 5, requires_grad=True)
    TorchNetwork(network)(luma)[0, 0, 2, 1].backward()
    assert luma.grad is not None
    seen = luma.grad[0, 0].nonzero()
    assert seen.min(dim=0).values.tolist() == [2, 1]
    assert seen.max(dim=0).values.tolist() == [2 + 2 * radius, 1 + 2 * radius]


def test_l8_joins_the_first_layer_to_the_fourth_and_sixth() -> None:
    module = TorchNetwork(L8)
    luma = torch.randn(2, 1, 34, 31)
    state = module.state_dict()
    weights = [(state[f"layers.{i}.weight"], state[f"layers.{i}.bias"]) for i in range(8)]
    with torch.inference_mode():
        first = relu(conv2d(luma, *weights[0]))
        fourth = relu(conv2d(first, *weights[1]))
        fourth = relu(conv2d(fourth, *weights[2]))
        fourth = relu(conv2d(fourth, *weights[3]))
        fifth = relu(conv2d(torch.cat([fourth, first[..., 3:-3, 3:-3]], 1), *weights[4]))
        sixth = relu(conv2d(fifth, *weights[5]))
        seventh = relu(conv2d(torch.cat([sixth, first[..., 5:-5, 5:-5]], 1), *weights[6]))
        expected = conv2d(seventh, *weights[7])
        torch.testing.assert_close(module(luma), expected)


def test_layer_checks_itself() -> None:
    with pytest.raises(ValueError, match="kernel must be odd and positive, got 4"):
        Layer(kernel=4, channels=1)
    with pytest.raises(ValueError, match="channels must be positive, got 0"):
        Layer(kernel=3, channels=0)
