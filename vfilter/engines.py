"""What runs a network on tiles of luma: which engine, on which device, in which precision.

PyTorch runs on CUDA. On the processor a trial of half a megapixel tells which engine is fastest;
its outcome is kept in the cache folder and holds until the processor or a version changes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vfilter.errors import DeviceError
from vfilter.networks import Network

ENGINES = ("openvino", "torch")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")

TRIAL_PIXELS = 8 * 128**2
TRIAL_ROUNDS = 3
"""Pixels of a run, and most runs of each engine, in a trial."""

HOPELESS = 1.5
"""Times the fastest engine's duration that end another's trial."""

Weights = Mapping[str, NDArray[np.float32]]


class Engine(Protocol):
    """A network with weights on a device in a precision.

    radius: pixels that a residual loses on each side; tile: largest side of a tile in pixels that
    suits the device; multiple: what both sides of a tile must divide by.
    """

    device: str
    precision: str
    radius: int
    tile: int
    multiple: int

    @property
    def description(self) -> str:
        """What runs where and in which precision, for people."""

    def __call__(self, tiles: Iterable[Any]) -> Iterator[Any]:
        """The residuals to add to `tiles`, in their order.

        tiles: (H, W) float32, code / full scale - 0.5, all of one size, twice the radius and a
            positive multiple of `multiple`; arrays on the processor, tensors on CUDA.
        Yields (H - 2r, W - 2r) float32 of the same type, valid until the next is asked for.
        """


def choose(engine: str, device: str, precision: str) -> tuple[tuple[str, ...], str, str]:
    """The engines to try, the device, and the precision.

    engine: "auto", "openvino" or "torch"; device and precision: as `choose_device` and
    `choose_precision` take them.
    Raises DeviceError if one of them isn't there, ValueError if a name is another.
    """
    if engine not in ("auto", *ENGINES):
        raise ValueError(f"engine must be auto, {', '.join(ENGINES)}, got {engine!r}")
    if engine != "auto" and not installed(engine):
        raise DeviceError(
            f"engine {engine} is not installed: pip install vdeblock[openvino] or use auto"
        )
    device = "cpu" if engine == "openvino" and device == "auto" else choose_device(device)
    if device != "cpu" and engine == "openvino":
        raise DeviceError(f"engine openvino has no device {device}: use cpu, or engine torch")
    precision = choose_precision(precision, device)
    if precision == "int8" and (engine == "torch" or not installed("openvino")):
        raise DeviceError("precision int8 needs OpenVINO: pip install vdeblock[openvino]")
    if precision == "int8":
        return ("openvino",), device, precision
    if device != "cpu":
        return ("torch",), device, precision
    engines = (engine,) if engine != "auto" else tuple(filter(installed, ENGINES))
    return engines, device, precision


def installed(engine: str) -> bool:
    """Whether the package of an engine is there."""
    return find_spec(engine) is not None


def choose_device(device: str) -> str:
    """The device of a name: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Imports PyTorch only where there is a driver of CUDA, or CUDA is asked for.
    Raises DeviceError if it isn't there, ValueError if the name is another.
    """
    if device == "cpu" or (device == "auto" and not has_cuda_driver()):
        return "cpu"
    kind, _, number = device.partition(":")
    if device != "auto" and (kind != "cuda" or (":" in device and not number.isdecimal())):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    import torch

    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if not available:
        raise DeviceError(
            f"device {device} is not available: PyTorch {torch.__version__} finds no CUDA GPU "
            "here; use cpu, or install a CUDA build of PyTorch and the driver"
        )
    count = torch.cuda.device_count()
    if number and int(number) >= count:
        raise DeviceError(f"device {device} is not available: use cuda:0 to cuda:{count - 1}")
    return device


def has_cuda_driver() -> bool:
    """Whether the system has NVIDIA's driver library."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def choose_precision(precision: str, device: str) -> str:
    """The precision of a name: "auto", "fp32", "bf16", "fp16" or "int8".

    "auto" is fp16 on CUDA; on the processor bf16 if it computes in that natively, else fp32.
    "int8" is for the processor alone, and asked for alone: it changes the result.
    Raises DeviceError if `device` doesn't have it, ValueError if the name is another.
    """
    if precision == "auto":
        return native_precision() if device == "cpu" else "fp16"
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "fp16" and device == "cpu":
        raise DeviceError("precision fp16 needs CUDA: use fp32 or bf16 on the processor")
    if precision == "int8" and device != "cpu":
        raise DeviceError(f"precision int8 is for the processor: use fp16 on {device}")
    if precision == "bf16" and device != "cpu":
        import torch

        if not torch.cuda.is_bf16_supported():
            raise DeviceError(f"device {device} has no bf16: use fp16 or fp32")
    return precision


def native_precision() -> str:
    """The precision "bf16" where the processor computes in it natively, else "fp32"."""
    if installed("openvino"):
        from vfilter import openvino_engine

        return openvino_engine.native_precision()
    from vfilter import torch_engine

    return torch_engine.native_precision()


def make(
    network: Network,
    weights: Weights,
    maxima: Sequence[Sequence[float]] | None = None,
    *,
    engines: tuple[str, ...],
    device: str,
    precision: str,
) -> Engine:
    """The fastest of `engines` with a network; see `choose`.

    maxima: the highest activation of each channel of each layer but the last, which int8 needs.
    """
    name = engines[0] if len(engines) == 1 else fastest(network, engines, precision)
    return _make(name, network, weights, device, precision, maxima)


def _make(
    name: str,
    network: Network,
    weights: Weights,
    device: str,
    precision: str,
    maxima: Sequence[Sequence[float]] | None = None,
) -> Engine:
    if name == "torch":
        from vfilter.torch_engine import TorchEngine

        return TorchEngine(network, weights, device=device, precision=precision)
    from vfilter.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(network, weights, precision=precision, maxima=maxima)


@cache
def fastest(network: Network, engines: tuple[str, ...], precision: str) -> str:
    """The fastest of `engines` on this processor, as remembered or else by a trial."""
    circumstances = (*engines, network.name, precision, *_platform())
    digest = hashlib.sha256("\n".join(circumstances).encode()).hexdigest()
    name = f"fastest-{network.name}-{precision}-{digest[:16]}.txt"
    with suppress(OSError, RuntimeError, UnicodeDecodeError):
        remembered = (cache_folder() / name).read_text(encoding="utf-8").partition("\n")[0]
        if remembered in engines:
            return remembered
    seconds = trial(network, engines, precision)
    best = min(seconds, key=lambda name: seconds[name])
    table = "".join(f"{name}: {1e9 * seconds[name]:.0f} ns a pixel\n" for name in engines)
    with suppress(OSError, RuntimeError):
        _write(cache_folder() / name, f"{best}\n{table}" + "\n".join(circumstances) + "\n")
    return best


def trial(network: Network, names: tuple[str, ...], precision: str) -> dict[str, float]:
    """Seconds a pixel that each engine takes on the processor: the best of interleaved runs."""
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 0.01, shape).astype(np.float32)
        for name, shape in network.shapes.items()
    }
    engines = {name: _make(name, network, weights, "cpu", precision) for name in names}
    for engine in engines.values():
        _seconds_a_pixel(engine, tiles=1)  # warms up
    times = dict.fromkeys(names, np.inf)
    for _ in range(TRIAL_ROUNDS):
        hopeful = [name for name in names if not times[name] > HOPELESS * min(times.values())]
        for name in hopeful:
            tiles = max(1, TRIAL_PIXELS // engines[name].tile ** 2)
            times[name] = min(times[name], _seconds_a_pixel(engines[name], tiles))
    return times


def _seconds_a_pixel(engine: Engine, tiles: int) -> float:
    """How long `engine` takes for so many tiles of noise, by pixels of residual."""
    side = engine.tile + 2 * engine.radius
    noise = np.random.default_rng(0).random((side, side), np.float32)
    began = time.perf_counter()
    deque(engine([noise] * tiles), maxlen=0)
    return (time.perf_counter() - began) / (tiles * engine.tile**2)


def cache_folder() -> Path:
    """Where outcomes of trials are kept: that of the platform, which need not be there.

    Raises RuntimeError for a user without a home, as in a container, unless the variable tells it.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vdeblock"


def _platform() -> tuple[str, ...]:
    """What a trial's outcome depends on besides the network."""
    packages = (f"{name} {version(name)}" for name in ENGINES if installed(name))
    return (_processor(), f"{os.cpu_count()} cores", *packages)


def _processor() -> str:
    if installed("openvino"):
        from vfilter import openvino_engine

        return openvino_engine.processor()
    return platform.processor() or platform.machine()


def _write(path: Path, text: str) -> None:
    """Write a small file at once, so that no other run reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)
