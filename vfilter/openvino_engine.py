"""The networks on the processor by OpenVINO."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfilter.networks import Network


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Keep OpenVINO from telling its makers over the network that it was imported.

    It does so in a process forked from a thread, which hung where standard input was being read.
    """
    modules: dict[str, Any] = sys.modules
    name = "openvino_telemetry"
    held = modules.get(name)
    modules[name] = None  # imports of it fail, as if it weren't installed
    try:
        yield
    finally:
        del modules[name]
        if held is not None:
            modules[name] = held


with _without_telemetry():
    import openvino
    from openvino import opset13 as ops

Floats = NDArray[np.float32]

Maxima = Sequence[Sequence[float]]
"""The highest activation of each channel of each layer but the last, of luma as code / full scale -
0.5, after ReLU; 0 for a channel that never was above it."""

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}

TILE = 128
"""Largest side of a tile in pixels: its activations fit the 2 MB of cache of a core.

GFLOP/s of useful work on one AVX-512 core, halo counted as loss, L8 and L4: 64 pixels 133 and 135,
96 pixels 145 and 138, 120x128 150 and 150, 240x320 154 and 159. L8 in bf16 on two cores with AMX:
64 pixels 1612, 96 pixels 1948, 120x128 1935, 180x160 1974, 240x320 1762. Larger tiles gain little
and are seldom the same in two frames.
"""

SQUARE = 4
"""Side in pixels of the squares of output that the last layer computes as its channels.

A convolution to one channel leaves 15 of the 16 lanes of an AVX-512 register idle: L8's last took
16 % of the time for 1.5 % of the work. Measured as above: L8 130 without squares, 145 with squares
of 2, 153 of 4; L4 119, 144, 155.
"""


QUIET = 1e-3
"""Share of a layer's highest activation that every channel is taken to reach."""


class OpenVinoEngine:
    """A network with weights on the processor in a precision.

    tile: largest side of a tile in pixels that suits it; multiple: what both sides must divide by.
    """

    device = "cpu"
    tile = TILE
    multiple = SQUARE

    def __init__(
        self,
        network: Network,
        weights: Mapping[str, Floats],
        *,
        precision: str,
        maxima: Maxima | None = None,
    ) -> None:
        """weights: named and shaped as in `network.shapes`; precision: a key of `PRECISIONS`, or
        "int8", which needs maxima.
        """
        self.precision = precision
        self.radius = network.radius
        whole = native_precision() if precision == "int8" else precision
        properties = {
            "PERFORMANCE_HINT": "THROUGHPUT",  # a tile on each core, not one on all
            "INFERENCE_PRECISION_HINT": PRECISIONS[whole],
        }
        model = graph(network, weights, maxima if precision == "int8" else None)
        compiled = openvino.Core().compile_model(model, "CPU", properties)
        self.parallel = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        # Two more than run in parallel, so that no core waits for Python.
        self._requests = [compiled.create_infer_request() for _ in range(self.parallel + 2)]

    @property
    def description(self) -> str:
        """What runs where and in which precision, for people."""
        return f"OpenVINO on {self.device}, {self.precision}"

    def __call__(self, tiles: Iterable[Floats]) -> Iterator[Floats]:
        """The residuals to add to `tiles`, in their order.

        tiles: (H, W) float32, code / full scale - 0.5, all of one size; H and W are twice the
            radius and a positive multiple of `multiple`.
        Yields (H - 2r, W - 2r) float32 on the same scale, valid until the next is asked for.
        """
        idle, running = list(self._requests), deque[Any]()
        try:
            for tile in tiles:
                if not idle:
                    yield _residual(running[0])
                    idle.append(running.popleft())
                running.append(idle.pop())
                running[-1].start_async(tile[None, None], share_inputs=True)
            while running:
                yield _residual(running[0])
                running.popleft()
        finally:
            for request in running:
                request.wait()


def _residual(request: Any) -> Floats:
    request.wait()
    residual: Floats = request.get_output_tensor().data[0, 0]
    return residual


def native_precision() -> str:
    """The precision "bf16" where the processor has its products (AVX-512, AMX), or "fp32"."""
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "fp32"


def graph(
    network: Network, weights: Mapping[str, Floats], maxima: Maxima | None = None
) -> openvino.Model:
    """`network` with `weights` for OpenVINO: from (1, 1, H, W) float32 as `vfilter.networks` has
    it to the residual, (1, 1, H - 2r, W - 2r), whose sides are multiples of `SQUARE`.

    A layer that the first layer's map joins is the sum of two convolutions, which takes less time
    than joining the maps (L8: 3 % of all).
    maxima: with them activations become codes of 8 bits up to the highest of their layer, and
        filters of 8 bits too, once they are `evened`; but not the first layer's, whose input is
        luma (with it L8 lost 0.08 dB, without it 0.007).
    """
    if maxima is not None:
        weights = evened(network, weights, maxima)
    x = first = luma = ops.parameter([1, 1, -1, -1], np.float32, name="luma")
    last = len(network.layers) - 1
    margin = 0
    for i, layer in enumerate(network.layers):
        weight, bias = weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"]
        convolution = partial(_convolution, quantized=maxima is not None and i > 0)
        if i == last:
            x = convolution(x, squares(weight), SQUARE)
            x = ops.depth_to_space(x, "blocks_first", SQUARE)
        elif layer.skip:
            ours = network.layers[i - 1].channels
            centre = ops.slice(first, [margin] * 2, [-margin] * 2, [1, 1], [2, 3])
            x = ops.add(convolution(x, weight[:, :ours]), convolution(centre, weight[:, ours:]))
        else:
            x = convolution(x, weight)
        x = ops.add(x, ops.constant(bias.reshape(1, -1, 1, 1)))
        if i < last:
            x = ops.relu(x)
        if i < last and maxima is not None:
            ends = np.float32(0), np.float32(max(maxima[i]))
            x = ops.fake_quantize(x, *ends, *ends, 256)
        first = x if i == 0 else first
        margin += layer.kernel // 2 if i else 0
    return openvino.Model([ops.result(x)], [luma], network.name)


def evened(network: Network, weights: Mapping[str, Floats], maxima: Maxima) -> dict[str, Floats]:
    """`weights` that give the same residual, with channels that reach more alike.

    ReLU lets a factor through: what divides a channel's filter and bias multiplies it where it is
    read (Nagel, van Baalen, Blankevoort, Welling: "Data-free quantization through weight
    equalization and bias correction", ICCV 2019, section 4.1). Each channel is brought half the
    way, in octaves, to the highest of its layer, so that what is unlike all that was seen has room.
    Returns new arrays where they differ, named and shaped as `weights`.
    """
    factors = []
    for highest in map(np.array, maxima):
        factors.append(np.sqrt(np.maximum(highest / highest.max(), QUIET)).astype(np.float32))
    even = dict(weights)
    for i, layer in enumerate(network.layers):
        weight, bias = f"layers.{i}.weight", f"layers.{i}.bias"
        if i > 0:
            read = [factors[i - 1], factors[0]] if layer.skip else [factors[i - 1]]
            even[weight] = even[weight] * np.concatenate(read)[:, None, None]
        if i < len(factors):
            even[weight] = even[weight] / factors[i][:, None, None, None]
            even[bias] = even[bias] / factors[i]
    return even


def _convolution(x: Any, weight: Floats, stride: int = 1, *, quantized: bool) -> Any:
    """quantized: whether each filter is rounded to 255 codes around 0."""
    kernel = ops.constant(np.ascontiguousarray(weight))
    if quantized:
        largest = np.maximum(np.abs(weight).max(axis=(1, 2, 3), keepdims=True), np.float32(1e-9))
        kernel = ops.fake_quantize(kernel, -largest, largest, -largest, largest, 255)
    return ops.convolution(x, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1])


def squares(weight: Floats) -> Floats:
    """The filters of a layer to one channel that give `SQUARE`**2 neighbouring pixels at a time.

    weight: (1, in, k, k). Returns (SQUARE**2, in, k + SQUARE - 1, k + SQUARE - 1), each filter
    `weight` moved to one pixel of the square, in raster order, and 0 around it.
    """
    inputs, side = weight.shape[1:3]
    filters = np.zeros((SQUARE, SQUARE, inputs, *[side + SQUARE - 1] * 2), np.float32)
    for row in range(SQUARE):
        for column in range(SQUARE):
            filters[row, column, :, row : row + side, column : column + side] = weight[0]
    return filters.reshape(-1, *filters.shape[2:])


def processor() -> str:
    """What OpenVINO calls the processor."""
    return str(openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"))
