"""What the default gains on each kind of source: the clips that no strength was fitted on."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from training.data import Luma
from vfilter.compare.metrics import mse
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of

SOURCES: dict[str, tuple[int, ...]] = {
    "h264": (34, 28, 23, 18),
    "mpeg4": (12, 6, 3),
    "mpeg2video": (12, 6, 3),
    "mjpeg": (10, 20, 40, 60, 80, 95),
}
"""By codec: crf of libx264 at its preset medium, quantiser scale, or IJG quality."""


def checking_clips(folder: Path) -> list[Path]:
    """Every second of the clips in `folder`: those that `training_clips` leaves."""
    return sorted(folder.glob("*.mkv"))[1::2]


def read_frames(path: Path, frames: int) -> list[VideoFrame]:
    """The first frames of a clip."""
    with av.open(str(path)) as container:
        return list(islice(container.decode(video=0), frames))


def degrade(frames: Sequence[VideoFrame], codec: str, setting: int, path: Path) -> None:
    """Write `frames`, yuv420p, to `path` (an AVI) as `codec` at `setting` of `SOURCES`."""
    height, width = frames[0].height, frames[0].width
    encoders = {"h264": "libx264", "mjpeg": "mjpeg"}
    options = {"crf": str(setting)} if codec == "h264" else {}
    if codec in ("mpeg4", "mpeg2video"):
        options = {"qmin": str(setting), "qmax": str(setting)}
    with av.open(str(path), "w") as output:
        if codec == "mjpeg":
            stream: Any = output.add_mux_stream("mjpeg", rate=25, width=width, height=height)
            stream.time_base = Fraction(1, 25)
        else:
            stream = output.add_stream(encoders.get(codec, codec), rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index, frame in enumerate(frames):
            if codec == "mjpeg":
                packet: Any = av.Packet(color_jpeg(frame, setting))
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = index
                packet.is_keyframe = True
                output.mux(packet)
                continue
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.pict_type = 0
            output.mux(stream.encode(frame))
        if codec != "mjpeg":
            output.mux(stream.encode(None))


def color_jpeg(frame: VideoFrame, quality: int) -> bytes:
    """A yuv420p frame as a JPEG, 4:2:0, of the same codes."""
    size = (frame.width, frame.height)
    planes: list[NDArray[Any]] = [luma_plane(frame)]
    for plane in frame.planes[1:]:
        shape = (plane.height, plane.line_size)
        chroma = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(shape)[:, : plane.width]
        planes.append(cv2.resize(chroma, size, interpolation=cv2.INTER_NEAREST))
    buffer = io.BytesIO()
    image = Image.merge("YCbCr", [Image.fromarray(np.ascontiguousarray(p)) for p in planes])
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def gains(clips: Sequence[Path], model: str, frames: int) -> Iterator[dict[str, Any]]:
    """A row for each source: gain in PSNR over the decoded video, mean over `clips`, in dB.

    blind: at the constant strength 1; default: by what the stream tells; worst: the default's
    on the clip where it gains least.
    """
    with Restorer(model) as restore, TemporaryDirectory() as folder:
        for codec, settings in SOURCES.items():
            for setting in settings:
                blind, told = [], []
                for clip in clips:
                    pristine = read_frames(clip, frames)
                    path = Path(folder) / "degraded.avi"
                    if codec == "h264":
                        path = path.with_suffix(".mp4")
                    degrade(pristine, codec, setting, path)
                    clean = [luma_plane(frame) for frame in pristine]
                    pair = _gains(restore, path, clean)
                    blind.append(pair[0])
                    told.append(pair[1])
                yield {
                    "codec": codec,
                    "setting": setting,
                    "blind": round(float(np.mean(blind)), 2),
                    "default": round(float(np.mean(told)), 2),
                    "worst": round(min(told), 2),
                }


def _gains(restore: Restorer, path: Path, clean: Sequence[Luma]) -> tuple[float, float]:
    """Gains in dB on one clip, without and with hints."""
    errors = np.zeros(3)
    with Source(path) as source:
        frames = (item for item in source if isinstance(item, VideoFrame))
        for frame, original in zip(frames, clean, strict=True):
            damaged = luma_plane(frame)
            errors += [
                mse(damaged, original),
                mse(restore.luma(damaged), original),
                mse(luma_plane(restore(frame, hints=hints_of(frame))), original),
            ]
    before, blind, told = errors
    return 10 * float(np.log10(before / blind)), 10 * float(np.log10(before / told))
