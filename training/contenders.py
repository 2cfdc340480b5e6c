"""What `bench` holds against each other: our engines, and what others run the networks with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from training.data import Luma
from vfilter.comparison.ffmpeg import FFmpeg
from vfilter.engines import Engine
from vfilter.networks import Network
from vfilter.restorer import Restorer
from vfilter.tiles import cuts
from vfilter.torch_engine import PRECISIONS
from vfilter.torch_module import TorchNetwork
from vfilter.weights import Model

Work = Callable[[Luma], object]

PEAK_SIDE = 2048
"""Side of the matrices whose product stands for the machine's peak."""

PRODUCTS = 4
"""Products of a run: one alone is too short to be timed well."""

SPP_FRAMES = 4
SPP = "spp=6:8"
"""FFmpeg's simple postprocessing at its highest quality, of what the quantizer 8 leaves."""


def ours(model: Model, engine: str, precision: str) -> Restorer:
    """A restorer on the processor that computes every tile of every plane."""
    return Restorer(model, device="cpu", engine=engine, precision=precision, reuse=False)


def engine_alone(engine: Engine, shape: tuple[int, ...]) -> None:
    """The tiles of a plane of `shape`, (H, W), through an engine, without cutting and joining.

    Of noise, as the planes of the others: with zeros L4 takes a tenth less time.
    """
    (rows, height), (columns, width) = (
        cuts(length, engine.tile, engine.multiple) for length in shape
    )
    margin = 2 * engine.radius
    tile = np.random.default_rng(0).random((height + margin, width + margin), np.float32)
    deque(engine([tile] * (len(rows) * len(columns))), maxlen=0)


def eager(model: Model) -> Work:
    """PyTorch as it is commonly used: fp32, the whole plane at once, the default layout."""
    module = TorchNetwork(model.network)
    module.load_state_dict({name: torch.tensor(array) for name, array in model.weights.items()})

    def work(y: Luma) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(_padded(y, model.network.radius)))

    return work


def onnx_runtime(model: Model) -> Work:
    """ONNX Runtime on the processor in fp32, the whole plane at once."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        onnx_bytes(model.network, model.weights), providers=["CPUExecutionProvider"]
    )
    return lambda y: session.run(None, {"luma": _padded(y, model.network.radius)})


def _padded(y: Luma, radius: int) -> NDArray[np.float32]:
    """A plane (H, W) as the network takes it, (1, 1, H + 2r, W + 2r)."""
    luma = np.pad(y, radius, mode="edge") / np.float32(255) - np.float32(0.5)
    return np.asarray(luma[None, None], np.float32)


def onnx_bytes(network: Network, weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """`network` with `weights` as an ONNX model from "luma" to "residual"."""
    from onnx import TensorProto, helper, numpy_helper

    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    nodes = []
    before, margin = "luma", 0
    for i, layer in enumerate(network.layers):
        if layer.skip:
            pads = np.array([0, 0, -margin, -margin] * 2, np.int64)
            tensors.append(numpy_helper.from_array(pads, f"pads{i}"))
            nodes.append(helper.make_node("Pad", ["map0", f"pads{i}"], [f"centre{i}"]))
            nodes.append(helper.make_node("Concat", [before, f"centre{i}"], [f"in{i}"], axis=1))
            before = f"in{i}"
        last = i == len(network.layers) - 1
        parameters = [f"layers.{i}.weight", f"layers.{i}.bias"]
        nodes.append(
            helper.make_node("Conv", [before, *parameters], ["residual" if last else f"sum{i}"])
        )
        if not last:
            nodes.append(helper.make_node("Relu", [f"sum{i}"], [f"map{i}"]))
        before = f"map{i}"
        margin += layer.kernel // 2 if i else 0
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info("luma", TensorProto.FLOAT, [1, 1, "h", "w"])],
        [helper.make_tensor_value_info("residual", TensorProto.FLOAT, [1, 1, "y", "x"])],
        tensors,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def product(precision: str) -> Callable[[], object]:
    """`PRODUCTS` matrix products in a precision, `PEAK_SIDE` the side of each."""
    matrix = torch.randn(PEAK_SIDE, PEAK_SIDE).to(PRECISIONS[precision])
    return lambda: [matrix @ matrix for _ in range(PRODUCTS)]


def spp_seconds(ffmpeg: FFmpeg, y: Luma) -> float:
    """Seconds a plane (H, W) that FFmpeg's spp takes, the process's start left out."""
    height, width = y.shape
    with TemporaryDirectory() as folder:
        Path(folder, "luma.raw").write_bytes(y.tobytes() * SPP_FRAMES)
        run = partial(_spp_run, ffmpeg, f"{width}x{height}", Path(folder))
        return (run(SPP) - run("null")) / SPP_FRAMES


def _spp_run(ffmpeg: FFmpeg, size: str, folder: Path, chain: str) -> float:
    raw = ["-f", "rawvideo", "-pixel_format", "gray", "-video_size", size, "-i", "luma.raw"]
    return ffmpeg.run([*raw, "-vf", chain, "-f", "null", "-"], folder).seconds
