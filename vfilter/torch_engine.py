"""The networks by PyTorch, on CUDA or on the processor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vfilter.networks import Network
from vfilter.torch_module import TorchNetwork

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

TILES = {"cpu": 192, "cuda": 512}
"""Largest side of a tile in pixels by type of device.

cpu: L4 and L8 in fp32 at 640x480 take 1.2 times less processor time in tiles of 128 to 256 than
as a whole frame, less gain below 128 for the halo (measured, 2 cores with AVX-512). In bf16 with
AMX, GFLOP/s of useful work of L8 and L4: 64 pixels 787 and 655, 128 pixels 1012 and 985, 192
pixels 1149 and 984, 256 pixels 1134 and 853.
cuda: not measured; it bounds memory.
"""

BATCHES = {"cpu": 1, "cuda": 4}
"""Tiles at a time by type of device.

cpu: batches of several tiles are slower than single ones of that size (measured as above; with
AMX L8 in 192 pixels 969 for two).
cuda: L8 in fp16 holds about 0.5 kB a pixel, so 0.5 GB.
"""


class TorchEngine:
    """A network with weights on a device in a precision.

    tile: largest side of a tile in pixels that suits it; multiple: what both sides must divide by.
    """

    multiple = 1

    def __init__(
        self,
        network: Network,
        weights: Mapping[str, NDArray[np.float32]],
        *,
        device: str = "cpu",
        precision: str,
    ) -> None:
        """weights: named and shaped as in `network.shapes`; device: "cpu", "cuda" or "cuda:N".

        precision: a key of `PRECISIONS`.
        """
        self.device = device
        self.precision = precision
        self.radius = network.radius
        kind = torch.device(device).type
        self.tile, self.batch = TILES[kind], BATCHES[kind]
        with torch.device("meta"):  # no weights at random: those leave PyTorch's generator alone
            module = TorchNetwork(network)
        kept = {name: torch.tensor(array, device="cpu") for name, array in weights.items()}
        module.load_state_dict(kept, assign=True)
        module = module.to(device, PRECISIONS[precision])
        # PyTorch's stub of Module.to lacks memory_format.
        self._module = module.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._captured: tuple[Tensor, Tensor, torch.cuda.CUDAGraph] | None = None

    @property
    def description(self) -> str:
        """What runs where and in which precision, for people."""
        return f"PyTorch on {self.device}, {self.precision}"

    def __call__(self, tiles: Iterable[Any]) -> Iterator[Any]:
        """The residuals to add to `tiles`, in their order.

        tiles: (H, W) float32, code / full scale - 0.5, all of one size, H and W above twice the
            radius; arrays on the processor, tensors on CUDA.
        Yields (H - 2r, W - 2r) float32 on the same scale, of the same type.
        """
        tiles = iter(tiles)
        while batch := [torch.as_tensor(t, device=self.device) for t in islice(tiles, self.batch)]:
            luma = torch.stack(batch)[:, None]
            with torch.inference_mode(), torch.autocast(luma.device.type, enabled=False):
                residuals = (self._replay(luma) if luma.is_cuda else self._run(luma)).float()[:, 0]
            yield from residuals if luma.is_cuda else residuals.numpy()

    def _run(self, luma: Tensor) -> Tensor:
        residual: Tensor = self._module(
            luma.to(PRECISIONS[self.precision], memory_format=torch.channels_last)
        )
        return residual

    def _replay(self, luma: Tensor) -> Tensor:
        """As `_run`, by a CUDA graph of full batches: what a tile becomes depends on it alone."""
        shape = (self.batch, *luma.shape[1:])
        if self._captured is None or self._captured[0].shape != shape:
            self._captured = None
            self._captured = self._capture(luma.new_zeros(shape))
        given, residual, graph = self._captured
        given[: len(luma)] = luma
        graph.replay()
        return residual[: len(luma)]

    def _capture(self, given: Tensor) -> tuple[Tensor, Tensor, torch.cuda.CUDAGraph]:
        """A graph of `_run` on the memory of `given`, with that and the residual's."""
        aside = torch.cuda.Stream(given.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(given.device))
        with torch.cuda.stream(aside):
            for _ in range(3):  # PyTorch's CUDA graphs want a few runs before
                self._run(given)
        torch.cuda.current_stream(given.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(given.device), torch.cuda.graph(graph):
            residual = self._run(given)
        return given, residual, graph


def native_precision() -> str:
    """The precision "bf16" where the processor has its products (AVX-512 BF16 or AMX), or "fp32".

    oneDNN also emulates bfloat16, four times slower than fp32, and calls that
    supported. A PyTorch too old to tell counts as without.
    """
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bf16" if native else "fp32"
