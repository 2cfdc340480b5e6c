"""Restoration of frames and luma planes: a network over tiles, its residual added to the input."""

from __future__ import annotations

import os
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from vfilter.bitstream import MACROBLOCK, Hints
from vfilter.engines import TorchEngine
from vfilter.projection import project
from vfilter.weights import Model, load, trained_for

if TYPE_CHECKING:
    import av

Luma = TypeVar("Luma", NDArray[Any], Tensor)

NOTHING = Hints()

HARDWARE_SHIFT = {"nv12": 0, "p010le": 6, "p016le": 0}
"""Bits below the luma code in the samples of a CUDA frame, by FFmpeg's pixel format."""


class Restorer:
    """Removes compression artifacts from video frames and luma planes.

    with Restorer("l8") as restore:
        frame = restore(frame)          # av.VideoFrame
        plane = restore.luma(plane)     # array or tensor, (H, W) or (N, H, W)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model = "l8",
        *,
        device: str = "auto",
        precision: str = "auto",
        strength: float = 1.0,
        project: bool = True,
        tile: int | None = None,
    ) -> None:
        """model: a name, a path (`vfilter.weights.load`) or a loaded model.

        device: "auto", "cpu", "cuda" or "cuda:N"; precision: "auto", "fp32", "bf16" or "fp16".
        strength: factor of the residual, 0 (leaves the input) to 2; times that for the source's
            quality (`Model.strength`) where hints tell it.
        project: whether to project onto what the hints' quantization table leaves possible.
        tile: largest side of the tiles in pixels; None for what suits the device.
        Raises ModelError if there is no such model, DeviceError if the device isn't there.
        """
        if not 0 <= strength <= 2:
            raise ValueError(f"strength must be 0 to 2, got {strength}")
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be positive, got {tile}")
        self.model = model if isinstance(model, Model) else load(model)
        self.strength = strength
        self.project = project
        self._asked = model
        self._models = {"jpeg": self.model}
        self._engines: dict[str, TorchEngine] | None = {}
        self._engine_of = partial(TorchEngine, device=device, precision=precision)
        self.tile = tile or self.engine.tile

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the network and its memory; the restorer is of no use afterwards."""
        self._engines = None

    @property
    def engine(self) -> TorchEngine:
        """What runs the network of `model`.

        Raises ValueError if the restorer is closed.
        """
        return self._engine(self.model)

    def model_for(self, hints: Hints) -> Model:
        """The model for frames with `hints`: of names like `l8` the one trained for their codec.

        `model` where they tell nothing, and where one model was asked for.
        Raises ModelError if it is damaged.
        """
        if isinstance(self._asked, Model):
            return self.model
        codec = trained_for(hints)
        if codec not in self._models:
            self._models[codec] = load(self._asked, codec=codec)
        return self._models[codec]

    def _engine(self, model: Model) -> TorchEngine:
        if self._engines is None:
            raise ValueError("the restorer is closed: make a new one")
        if model.name not in self._engines:
            self._engines[model.name] = self._engine_of(model.network, model.weights)
        return self._engines[model.name]

    def __call__(self, frame: av.VideoFrame, *, hints: Hints = NOTHING) -> av.VideoFrame:
        """A new frame with restored luma; format, times and all else are those of `frame`.

        hints: what the stream told about the compression of this frame.
        An interlaced frame is restored field by field. A CUDA frame stays on its GPU.
        """
        from vfilter.luma import luma_depth, luma_plane, with_luma

        if frame.format.name == "cuda":
            return self._hardware_frame(frame)
        luma, depth = luma_plane(frame), luma_depth(frame)
        return with_luma(frame, self._fields(luma, depth, hints, frame.interlaced_frame))

    def luma(self, y: Luma, *, depth: int | None = None, hints: Hints = NOTHING) -> Luma:
        """Restored luma: clip(round(y + strength * residual)).

        y: (H, W), or (N, H, W) for N planes of their own; NumPy or PyTorch; uint8, or uint16
            with codes of 0 to 2**depth - 1. Strided views and read-only arrays serve.
        depth: bits per code, 9 to 16, required for uint16; 8 for uint8.
        hints: what the stream told about the compression of these planes.
        Returns new memory of the same type, shape, dtype and device.
        """
        depth = _checked_depth(y, depth)
        if isinstance(y, np.ndarray):
            return self._planes(torch.from_numpy(np.array(y, order="C")), depth, hints).numpy()
        return self._planes(y, depth, hints)

    def _planes(self, y: Tensor, depth: int, hints: Hints) -> Tensor:
        model = self.model_for(hints)
        engine = self._engine(model)
        strength = self._strength(model, hints, y)
        if not torch.as_tensor(strength).any():
            return y.clone(memory_format=torch.contiguous_format)
        planes = y.to(engine.device)
        restored = torch.empty(planes.shape, dtype=planes.dtype, device=planes.device)
        height, width = y.shape[-2:]
        for plane, target in zip(
            planes.reshape(-1, height, width), restored.view(-1, height, width), strict=True
        ):
            self._restore_plane(engine, plane, target, 2**depth - 1, strength)
            if self.project and depth == 8 and hints.luma_table is not None:
                target.copy_(project(target, plane, hints.luma_table))
        return restored.to(y.device)

    def _strength(self, model: Model, hints: Hints, y: Tensor) -> float | Tensor:
        """The factor of the residual for planes y (..., H, W): one, or (1, H, W), smooth."""
        factors = self.strength * model.strength(hints)
        if isinstance(factors, float):
            return factors
        height, width = y.shape[-2:]
        rows, columns = factors.shape
        of_field = rows * MACROBLOCK >= 2 * height
        size = (columns * MACROBLOCK, rows * (MACROBLOCK // 2 if of_field else MACROBLOCK))
        smooth = cv2.resize(factors, size, interpolation=cv2.INTER_LINEAR)
        if smooth.shape[0] < height or smooth.shape[1] < width:
            return float(factors.mean())  # a map of another size
        return torch.from_numpy(smooth[None, :height, :width]).to(self.engine.device)

    def _restore_plane(
        self, engine: TorchEngine, y: Tensor, target: Tensor, full: int, strength: float | Tensor
    ) -> None:
        """Restore one plane y (H, W) of codes 0 to `full` into `target`, of the same shape.

        strength: one factor, or (1, H, W), of each pixel.
        Tiles are of one size and overlap by what that takes; a batch is of one plane, so that
        what a plane becomes does not depend on the planes beside it.
        """
        rows, height = _cuts(y.shape[0], self.tile)
        columns, width = _cuts(y.shape[1], self.tile)
        corners = [(top, left) for top in rows for left in columns]
        r = engine.radius
        extended = torch.nn.functional.pad(y.float()[None, None], (r, r, r, r), mode="replicate")[0]
        size = max(1, engine.batch_pixels // (height * width))
        for batch in (corners[i : i + size] for i in range(0, len(corners), size)):
            codes = _tiles(extended, batch, height + 2 * r, width + 2 * r)
            factor = strength
            if isinstance(strength, Tensor):
                factor = _tiles(strength, batch, height, width)
            residual = engine(codes / full - 0.5)
            centre = codes[..., r : r + height, r : r + width]
            restored = (centre + factor * full * residual).round_().clamp_(0, full)
            for (top, left), (tile,) in zip(batch, restored, strict=True):
                target[top : top + height, left : left + width] = tile

    def _fields(self, y: Luma, depth: int, hints: Hints, interlaced: bool) -> Luma:
        """Restored luma of a frame, (H, W); the lines of an interlaced one as two planes."""
        if not interlaced or y.shape[0] < 2:
            return self.luma(y, depth=depth, hints=hints)
        restored = np.empty(y.shape, y.dtype) if isinstance(y, np.ndarray) else torch.empty_like(y)
        for first in (0, 1):
            restored[first::2] = self.luma(y[first::2], depth=depth, hints=hints)
        return restored

    def _hardware_frame(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The restored frame of a frame in CUDA memory, which stays there.

        PyAV knows no CUDA streams in DLPack, hence the capsule and the two synchronizations.
        """
        import av

        name = frame.sw_format.name if frame.sw_format else "unknown"
        if name not in HARDWARE_SHIFT:
            raise ValueError(f"CUDA frames must be {', '.join(HARDWARE_SHIFT)}, got {name}")
        shift = HARDWARE_SHIFT[name]
        torch.cuda.synchronize()
        samples = from_dlpack(frame.planes[0].__dlpack__())
        depth = samples.element_size() * 8 - shift
        luma = (samples.int() >> shift).to(samples.dtype)
        restored = self._fields(luma, depth, NOTHING, frame.interlaced_frame)
        samples = (restored.int() << shift).to(samples.dtype).contiguous()
        torch.cuda.synchronize()
        result = av.VideoFrame.from_dlpack((samples, frame.planes[1]), format=name)
        result.pts, result.time_base = frame.pts, frame.time_base
        return result


def _checked_depth(y: NDArray[Any] | Tensor, depth: int | None) -> int:
    """The depth of luma `y` in bits, once `y` and `depth` are found to be what `luma` takes."""
    if not isinstance(y, np.ndarray | Tensor):
        raise TypeError(f"luma must be a NumPy array or a PyTorch tensor, got {type(y).__name__}")
    dtype = str(y.dtype).removeprefix("torch.")
    if dtype not in ("uint8", "uint16"):
        raise TypeError(f"luma must be uint8 or uint16, got {dtype}")
    if y.ndim not in (2, 3) or 0 in y.shape:
        raise ValueError(
            f"luma must be (H, W) or (N, H, W) with at least one pixel, got shape {tuple(y.shape)}"
        )
    if dtype == "uint8" and depth in (None, 8):
        return 8
    if dtype == "uint8":
        raise ValueError(f"depth of uint8 luma must be 8, got {depth}")
    if depth is None or not 9 <= depth <= 16:
        raise ValueError(f"depth of uint16 luma must be 9 to 16, got {depth}")
    return depth


def _tiles(plane: Tensor, corners: list[tuple[int, int]], height: int, width: int) -> Tensor:
    """Tiles (N, 1, height, width) of a plane (1, H, W), by their top left corners."""
    return torch.stack([plane[:, top : top + height, left : left + width] for top, left in corners])


def _cuts(length: int, tile: int) -> tuple[list[int], int]:
    """Cut `length` pixels into equal parts of at most `tile`: their first pixels, and their size.

    The last part ends with the length, so it may overlap the one before it.
    """
    count = -(-length // tile)
    size = -(-length // count)
    return [min(i * size, length - size) for i in range(count)], size
