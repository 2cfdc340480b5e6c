"""The networks of the paper as lists of layers: what each is, independent of what runs it.

Svoboda, Hradis, Barina, Zemcik: "Compression Artifacts Removal Using Convolutional Neural
Networks", WSCG 2016, tables 1 (L8) and 2 (L4). Dong, Deng, Loy, Tang: "Compression Artifacts
Reduction by a Deep Convolutional Network", ICCV 2015 (AR-CNN), the baseline of the former.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One valid (unpadded) convolution, followed by ReLU in every layer but the last.

    kernel: side of the square filter in pixels, odd.
    channels: number of output channels.
    skip: whether the first layer's activations, cropped to the centre, join the input.
    """

    kernel: int
    channels: int
    skip: bool = False

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and positive, got {self.kernel}")
        if self.channels < 1:
            raise ValueError(f"channels must be positive, got {self.channels}")


@dataclass(frozen=True)
class Network:
    """A fully convolutional network from one luma plane to one residual plane."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def radius(self) -> int:
        """Pixels that the output loses on each side: half the receptive field, rounded down."""
        return sum(layer.kernel // 2 for layer in self.layers)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Input channels of each layer, the skipped ones included."""
        counts = []
        before = 1
        for layer in self.layers:
            counts.append(before + (self.layers[0].channels if layer.skip else 0))
            before = layer.channels
        return tuple(counts)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameters by name: layers.K.weight (out, in, kernel, kernel), layers.K.bias (out)."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (layer, inputs) in enumerate(zip(self.layers, self.inputs, strict=True)):
            shapes[f"layers.{i}.weight"] = (layer.channels, inputs, layer.kernel, layer.kernel)
            shapes[f"layers.{i}.bias"] = (layer.channels,)
        return shapes

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return self.flop_per_pixel // 2 + sum(layer.channels for layer in self.layers)

    @property
    def flop_per_pixel(self) -> int:
        """Floating point operations per output pixel; a multiply-add counts as two."""
        return 2 * sum(
            inputs * layer.channels * layer.kernel**2
            for layer, inputs in zip(self.layers, self.inputs, strict=True)
        )


L4 = Network(
    "l4",
    (
        Layer(kernel=11, channels=48),
        Layer(kernel=3, channels=64),
        Layer(kernel=3, channels=64),
        Layer(kernel=5, channels=1),
    ),
)

L8 = Network(
    "l8",
    (
        Layer(kernel=11, channels=32),
        Layer(kernel=3, channels=64),
        Layer(kernel=3, channels=64),
        Layer(kernel=3, channels=64),
        Layer(kernel=1, channels=64, skip=True),
        Layer(kernel=5, channels=64),
        Layer(kernel=1, channels=128, skip=True),
        Layer(kernel=5, channels=1),
    ),
)

ARCNN = Network(
    "arcnn",
    (
        Layer(kernel=9, channels=64),
        Layer(kernel=7, channels=32),
        Layer(kernel=1, channels=16),
        Layer(kernel=5, channels=1),
    ),
)

NETWORKS = {network.name: network for network in (L4, L8, ARCNN)}
