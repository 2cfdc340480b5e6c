"""What runs a network on batches of luma: PyTorch, on CUDA or on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vfilter.errors import DeviceError
from vfilter.networks import Network
from vfilter.torch_module import TorchNetwork

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

TILES = {"cpu": 192, "cuda": 512}
"""Largest side of a tile in pixels by type of device.

cpu: L4 and L8 in fp32 at 640x480 take 1.2 times less processor time in tiles of 128 to 256 than
as a whole frame, less gain below 128 for the halo (measured, 2 cores with AVX-512).
cuda: not measured; it bounds memory.
"""

BATCH_PIXELS = {"cpu": 192**2, "cuda": 1 << 20}
"""Output pixels of a batch by type of device: what bounds the memory of the activations.

cpu: batches of several tiles are slower than single ones (measured as above).
cuda: L8 in fp16 holds about 0.5 kB a pixel, so 0.5 GB.
"""


class TorchEngine:
    """A network with weights on a device in a precision.

    tile: side of a tile in pixels that suits the device; batch_pixels: output pixels at a time.
    """

    def __init__(
        self,
        network: Network,
        weights: Mapping[str, NDArray[np.float32]],
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        """weights: named and shaped as in `network.shapes`.

        Raises DeviceError if the device or the precision isn't there.
        """
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.radius = network.radius
        self.tile = TILES[self.device.type]
        self.batch_pixels = BATCH_PIXELS[self.device.type]
        module = TorchNetwork(network)
        module.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
        module = module.to(self.device, self.precision)
        # PyTorch's stub of Module.to lacks memory_format.
        self._module = module.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @property
    def description(self) -> str:
        """What runs where and in which precision, for people."""
        name = next(name for name, dtype in PRECISIONS.items() if dtype == self.precision)
        return f"PyTorch on {self.device}, {name}"

    def __call__(self, luma: Tensor) -> Tensor:
        """The residual to add to `luma`.

        luma: (N, 1, H, W) float, code / full scale - 0.5; H and W above twice the radius.
        Returns (N, 1, H - 2r, W - 2r) float32 on the same scale, on the engine's device.
        """
        with torch.inference_mode():
            batch = luma.to(self.device, self.precision, memory_format=torch.channels_last)
            residual: Tensor = self._module(batch)
            return residual.float()


def choose_device(device: str) -> torch.device:
    """The device of a name: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Raises DeviceError if it isn't there, ValueError if the name is another.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    kind, _, number = device.partition(":")
    if kind != "cuda" or (":" in device and not number.isdecimal()):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"device {device} is not available: PyTorch {torch.__version__} finds no CUDA GPU "
            "here; use cpu, or install a CUDA build of PyTorch and the driver"
        )
    count = torch.cuda.device_count()
    if number and int(number) >= count:
        raise DeviceError(f"device {device} is not available: use cuda:0 to cuda:{count - 1}")
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """The precision of a name: "auto", "fp32", "bf16" or "fp16".

    "auto" is fp16 on CUDA; on the processor bf16 if it computes in that natively, else fp32.
    Raises DeviceError if `device` doesn't have it, ValueError if the name is another.
    """
    if precision == "auto" and device.type == "cuda":
        return torch.float16
    if precision == "auto":
        return torch.bfloat16 if _processor_has_bfloat16() else torch.float32
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be auto, fp32, bf16 or fp16, got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("precision fp16 needs CUDA: use fp32 or bf16 on the processor")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"device {device} has no bf16: use fp16 or fp32")
    return PRECISIONS[precision]


def _processor_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 products (AVX-512 BF16 or AMX).

    oneDNN also emulates bfloat16, four times slower than fp32, and calls that supported. A
    PyTorch too old to tell counts as none.
    """
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
