"""Restoration of frames and luma planes: what a network finds, added to the input."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from vfilter.arrays import (
    Plane,
    copied,
    is_tensor,
    like,
    moved,
    namespace,
    returned,
    unchanged_precision,
)
from vfilter.bitstream import MACROBLOCK, Hints
from vfilter.coefficients import BLOCK, kept, restored_by_blocks
from vfilter.engines import Engine, choose, make
from vfilter.overlap import behind
from vfilter.tiles import Known, residual_of
from vfilter.weights import Model, load, trained_for

if TYPE_CHECKING:
    import av
    from av.packet import Packet
    from torch import Tensor

Luma = TypeVar("Luma", "NDArray[Any]", "Tensor")

NOTHING = Hints()

LINES = 128
"""Lines of an array that are summed at a time, so that what is between stays in cache: that takes
a third of the time at 1920x1080."""

HARDWARE_SHIFT = {"nv12": 0, "p010le": 6, "p016le": 0}
"""Bits below the luma code in the samples of a CUDA frame, by FFmpeg's pixel format."""


class Restorer:
    """Removes compression artifacts from video frames and luma planes.

    with Restorer("l8") as restore:
        frame = restore(frame)          # av.VideoFrame
        frames = restore.film(frames)   # of a film, each helped by those around it
        plane = restore.luma(plane)     # array or tensor, (H, W) or (N, H, W)

    Threads that share one take turns; pickled, it goes without its engines, which are made anew.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model = "l8",
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "auto",
        strength: float = 1.0,
        project: bool = True,
        tile: int | None = None,
        reuse: bool = True,
    ) -> None:
        """model: a name, a path (`vfilter.weights.load`) or a loaded model.

        device: "auto", "cpu", "cuda" or "cuda:N"; precision: "auto", "fp32", "bf16",
            "fp16" or "int8".
        engine: "auto" (PyTorch on CUDA, on the processor what is fastest there), "openvino" or
            "torch".
        strength: factor of the residual, 0 (leaves the input) to 2; times that for the source's
            quality (`Model.strength`) where hints tell it, and less where the residual is more than
            its quantization explains (`Model.tolerated`) or where it kept grain (`Model.texture`)
            or what was drawn (`Model.evenness`).
        project: whether to project onto what the hints' quantization table leaves possible.
        tile: largest side of the tiles in pixels; None for what suits the engine.
        reuse: whether tiles that the plane before had too are computed once; changes no byte.
        Raises ModelError if there is no such model, DeviceError if the device, the engine or the
        precision isn't there.
        """
        if not 0 <= strength <= 2:
            raise ValueError(f"strength must be 0 to 2, got {strength}")
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be positive, got {tile}")
        self.model = model if isinstance(model, Model) else load(model)
        self.strength = strength
        self.project = project
        self.tile = tile
        self.reuse = reuse
        self._asked = model
        self._models: dict[tuple[str, int | None], Model] = {("jpeg", None): self.model}
        engines, device, precision = choose(engine, device, precision)
        self._precision = precision
        self._make = partial(make, engines=engines, device=device, precision=precision)
        self._engines: dict[str, Engine] | None = {}
        self._known: dict[tuple[str, int, int], Known] = {}
        self._turn = Lock()  # for running the engines, and what is known
        self._making = Lock()  # for making the engines

    def __getstate__(self) -> dict[str, Any]:
        unused: dict[str, Engine] | None = None if self._engines is None else {}
        of_this_process = {"_engines": unused, "_known": {}, "_turn": None, "_making": None}
        return self.__dict__ | of_this_process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turn=Lock(), _making=Lock())

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
        with self._turn:
            self._engines = None
            self._known = {}

    @property
    def engine(self) -> Engine:
        """What runs the network of `model`.

        Raises ValueError if the restorer is closed.
        """
        return self._engine(self.model)

    def engine_for(self, hints: Hints) -> Engine:
        """What runs the network for frames with `hints`.

        Raises ModelError if its model is damaged, ValueError if the restorer is closed.
        """
        return self._engine(self.model_for(hints))

    def model_for(self, hints: Hints) -> Model:
        """The model for frames with `hints`: of names like `l8` the one trained for their codec,
        or for the part of its range that they are in.

        `model` where they tell nothing, and where one model was asked for.
        Raises ModelError if it is damaged.
        """
        if isinstance(self._asked, Model):
            return self.model
        source = trained_for(hints), hints.coarseness
        if source not in self._models:
            codec, coarseness = source
            model = load(self._asked, codec=codec, coarseness=coarseness)
            alike = (known for known in [*self._models.values()] if known.name == model.name)
            self._models[source] = next(alike, model)  # its weights once, for all quantizers
        return self._models[source]

    def mean_strength(self, hints: Hints) -> float:
        """The factor of the residual of a frame with `hints`, the mean over its macroblocks."""
        return float(np.mean(self.strength * self.model_for(hints).strength(hints)))

    def _engine(self, model: Model) -> Engine:
        with self._making:
            if self._engines is None:
                raise ValueError("the restorer is closed: make a new one")
            if model.name not in self._engines:
                maxima = model.maxima_for(self._precision)
                self._engines[model.name] = self._make(model.network, model.weights, maxima)
            return self._engines[model.name]

    def __call__(self, frame: av.VideoFrame, *, hints: Hints = NOTHING) -> av.VideoFrame:
        """A new frame with restored luma; format, times and all else are those of `frame`.

        hints: what the stream told about the compression of this frame.
        An interlaced frame is restored field by field. A CUDA frame stays on its GPU.
        """
        from vfilter.luma import with_luma

        if frame.format.name == "cuda":
            return self._hardware_frame(frame, hints)
        return with_luma(frame, self.luma_of(frame, hints=hints))

    def luma_of(self, frame: av.VideoFrame, *, hints: Hints = NOTHING) -> NDArray[Any]:
        """The restored luma of a frame in memory, as `vfilter.luma.luma_plane` has it."""
        from vfilter.luma import luma_depth, luma_plane

        luma, depth = luma_plane(frame), luma_depth(frame)
        restored: NDArray[Any] = self._fields(luma, depth, hints, frame.interlaced_frame)
        return restored

    def film(self, items: Iterable[av.VideoFrame | Packet[Any]]) -> Iterator[av.VideoFrame]:
        """The restored frames of a film, in the order they are shown, each helped by three before
        and after it (`vfilter.temporal`).

        items: frames in memory; what is none is passed over, so that a `vfilter.source.Source`
            will do, whose frames carry hints. Those of which nothing is known are restored one by
            one, as by a call; the others are helped in a thread of their own, while the next ones
            are read and restored in the caller's.
        Raises TypeError for a path.
        """
        if isinstance(items, (str, bytes, os.PathLike)):
            raise TypeError(f"film takes frames, got the path {items!r}: a Source reads it")
        import av

        from vfilter.source import hints_of
        from vfilter.temporal import Temporal

        done: deque[av.VideoFrame] = deque()
        temporal = Temporal(self, done.append)
        with behind(2) as later:  # while the network is at the next frame
            for item in items:
                if isinstance(item, av.VideoFrame):
                    told = hints_of(item)
                    helping = later(temporal.add, item, self.luma_of(item, hints=told), told)
                    if self.model_for(told).agreement(told) is None:
                        helping.result()  # it waits for none that follows
                while done:
                    yield done.popleft()
            later(temporal.end)
        yield from done

    def luma(self, y: Luma, *, depth: int | None = None, hints: Hints = NOTHING) -> Luma:
        """Restored luma: clip(round(y + strength * residual)); where hints are told, the strength
        by `Model.strength`, and the residual as far as it is trusted (`restored_by_blocks`,
        `kept`).

        y: (H, W), or (N, H, W) for N planes of their own; NumPy or PyTorch; uint8, or uint16
            with codes of 0 to 2**depth - 1. Strided views and read-only arrays serve.
        depth: bits per code, 9 to 16, required for uint16; 8 for uint8.
        hints: what the stream told about the compression of these planes.
        Returns new memory of the same type, shape, dtype and device.
        """
        restored: Luma = self._luma(y, _checked_depth(y, depth), hints, field=0)
        return restored

    def _luma(self, y: Plane, depth: int, hints: Hints, field: int) -> Plane:
        """`luma`; field: 1 for the second field of frames, 0 for the first and for whole frames."""
        model = self.model_for(hints)
        strength = self._strength(model, hints, y.shape[-2:])
        if not np.any(strength):
            return copied(y)
        engine = self._engine(model)
        planes = moved(y, engine.device)
        xp = namespace(planes)
        restored = xp.empty(planes.shape, dtype=planes.dtype, device=planes.device)
        height, width = y.shape[-2:]
        full = 2**depth - 1
        tolerated, texture = model.tolerated(hints), model.texture(hints)
        even = model.evenness(hints)
        table = hints.luma_table if self.project and depth == 8 else None
        with self._turn, unchanged_precision(planes):
            for plane, target in zip(
                planes.reshape(-1, height, width), restored.reshape(-1, height, width), strict=True
            ):
                residual = self._residual(model, plane, depth, field)
                plain = tolerated is None and texture is None and table is None
                if isinstance(strength, float) and plain:
                    factor = like(np.float32(full * strength), plane)
                    step = height if is_tensor(plane) else LINES
                    for top in range(0, height, step):
                        lines = slice(top, top + step)
                        sums = factor * residual[lines]
                        sums += plane[lines]
                        xp.round(sums, out=sums)
                        xp.clip(sums, 0, full, out=sums)
                        target[lines] = sums
                else:
                    trust = kept(plane, texture, even, full=full)
                    target[:] = restored_by_blocks(
                        plane, residual, strength * trust, tolerated, table, full=full
                    )
        return returned(restored, y)

    def _residual(self, model: Model, plane: Plane, depth: int, field: int) -> Plane:
        """The residual of a plane, (H, W) float32, in full scales."""
        key = (model.name, depth, field)
        known = self._known.pop(key, None)  # an error on the way leaves none behind
        known = residual_of(self._engine(model), plane, 2**depth - 1, self.tile, known)
        if self.reuse:
            self._known[key] = known
        return known.residual

    def _strength(
        self, model: Model, hints: Hints, shape: tuple[int, ...]
    ) -> float | NDArray[np.float32]:
        """The factor of the residual for planes of `shape`: one, or that of each block,
        (ceil(H / 8), ceil(W / 8)) float32, smooth."""
        factors = self.strength * model.strength(hints)
        if not isinstance(factors, np.ndarray):
            return float(factors)
        import cv2

        height, width = shape
        rows, columns = factors.shape
        of_field = rows * MACROBLOCK >= 2 * height
        size = (2 * columns, rows if of_field else 2 * rows)
        smooth = cv2.resize(factors, size, interpolation=cv2.INTER_LINEAR)
        if size[0] * BLOCK < width or size[1] * BLOCK < height:
            return float(factors.mean())  # a map of another size
        return np.asarray(smooth[: -(-height // BLOCK), : -(-width // BLOCK)])

    def _fields(self, y: Plane, depth: int, hints: Hints, interlaced: bool) -> Plane:
        """Restored luma of a frame, (H, W); the lines of an interlaced one as two planes."""
        if not interlaced or y.shape[0] < 2:
            return self.luma(y, depth=depth, hints=hints)
        restored = namespace(y).empty_like(y)
        for field in (0, 1):
            restored[field::2] = self._luma(y[field::2], depth, hints, field)
        return restored

    def _hardware_frame(self, frame: av.VideoFrame, hints: Hints) -> av.VideoFrame:
        """The restored frame of a frame in CUDA memory, which stays there.

        PyAV knows no CUDA streams in DLPack, hence the capsule and the two synchronizations.
        """
        import av
        import torch
        from torch.utils.dlpack import from_dlpack

        name = frame.sw_format.name if frame.sw_format else "unknown"
        if name not in HARDWARE_SHIFT:
            raise ValueError(f"CUDA frames must be {', '.join(HARDWARE_SHIFT)}, got {name}")
        shift = HARDWARE_SHIFT[name]
        torch.cuda.synchronize()
        samples = from_dlpack(frame.planes[0].__dlpack__())
        depth = samples.element_size() * 8 - shift
        luma = (samples.int() >> shift).to(samples.dtype)
        restored = self._fields(luma, depth, hints, frame.interlaced_frame)
        samples = (restored.int() << shift).to(samples.dtype).contiguous()
        torch.cuda.synchronize()
        result = av.VideoFrame.from_dlpack((samples, frame.planes[1]), format=name)
        result.pts, result.time_base = frame.pts, frame.time_base
        return result


def _checked_depth(y: Plane, depth: int | None) -> int:
    """The depth of luma `y` in bits, once `y` and `depth` are found to be what `luma` takes."""
    is_array = isinstance(y, np.ndarray) and not isinstance(y, np.matrix)  # which has no planes
    if not is_array and not is_tensor(y):
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
