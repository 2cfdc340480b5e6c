"""Compress pristine frames as badly as wanted: what a comparison starts from."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray
from PIL import Image

from vfilter.encoders import open_encoder
from vfilter.errors import ArgumentError, InputError
from vfilter.frames import is_full_range
from vfilter.luma import luma_plane

ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {}),
    "mpeg4": ("mpeg4", {}),
    "mpeg2video": ("mpeg2video", {"strict": "experimental"}),  # or else at few frame rates alone
    "hevc": ("libx265", {"x265-params": "log-level=error"}),
    "vp9": ("libvpx-vp9", {"b": "0", "cpu-used": "4"}),
    "av1": ("libsvtav1", {"preset": "8"}),
}
"""Encoders besides Pillow's for JPEG, and their options."""

FINEST = 65535
"""Units of time in a second at most that MPEG-4 has (ISO/IEC 14496-2, vop_time_increment_resolution
of 16 bits), which what phones record may exceed."""

DEGRADATIONS = {
    "mjpeg": ("mjpeg", 1, 100),
    "mpeg2": ("mpeg2video", 1, 31),
    "mpeg2video": ("mpeg2video", 1, 31),
    "mpeg4": ("mpeg4", 1, 31),
    "h264": ("h264", 0, 51),
    "hevc": ("hevc", 0, 51),
    "vp9": ("vp9", 0, 63),
    "av1": ("av1", 0, 63),
}
"""By what may be asked for: FFmpeg's name of the codec, and the range of IJG quality, quantiser
scale or crf."""


LIMITED = b"CS=ITU601"
"""The comment by which FFmpeg, and who writes such JPEGs, knows those of limited range."""

DENSEST = 255
"""Largest denominator of the shape of a pixel in a JPEG; its densities have 16 bits."""


def parse_degradation(text: str) -> tuple[str, int]:
    """The codec, by FFmpeg's name, and the setting of "CODEC:SETTING", such as "mjpeg:20".

    Raises ArgumentError.
    """
    name, _, number = text.partition(":")
    if name not in DEGRADATIONS or not number.isdecimal():
        known = ", ".join(DEGRADATIONS)
        raise ArgumentError(f"degrade must be CODEC:SETTING with one of {known}, got {text!r}")
    codec, low, high = DEGRADATIONS[name]
    if not low <= int(number) <= high:
        raise ArgumentError(f"the setting of {name} must be {low} to {high}, got {number}")
    return codec, int(number)


def degrade(
    frames: Iterable[VideoFrame],
    codec: str,
    setting: int,
    path: Path,
    *,
    rate: Fraction = Fraction(25),
    aspect: Fraction | None = None,
) -> None:
    """Write `frames`, yuv420p or, for "mjpeg", planar YUV of 8 bits, to `path` as `codec`.

    setting: IJG quality of "mjpeg" (every frame a JPEG of Pillow's), quantiser scale of MPEG-2
        and MPEG-4, else crf; see `DEGRADATIONS`.
    rate: frames per second; aspect: width by height of a pixel, None if unknown.
    Raises InputError if there are no frames, or the encoder takes none of their kind.
    """
    pending = iter(frames)
    first = next(pending, None)
    if first is None:
        raise InputError(f"{path}: there are no frames to degrade")
    if codec != "mjpeg" and first.format.name != "yuv420p":
        raise InputError(
            f"frames are {first.format.name}, and {codec} is made of yuv420p; convert them first, "
            "or try mjpeg"
        )
    every = chain([first], pending)
    try:
        with av.open(str(path), "w") as output:
            write = _write_jpegs if codec == "mjpeg" else _encode
            write(output, every, codec, setting, rate, (first.width, first.height), aspect)
    except av.FFmpegError as error:
        raise InputError(
            f"{codec}:{setting} can't be made of {first.width}x{first.height} "
            f"{first.format.name} frames ({error.strerror or error}); try mjpeg"
        ) from error


def color_jpeg(frame: VideoFrame, quality: int, aspect: Fraction | None = None) -> bytes:
    """A frame of planar YUV of 8 bits as a JPEG, 4:2:0, of the same codes and range.

    aspect: width by height of a pixel, of which JFIF tells the densities' ratio, None if unknown.
    """
    size = (frame.width, frame.height)
    planes: list[NDArray[Any]] = [luma_plane(frame)]
    for plane in frame.planes[1:3]:
        shape = (plane.height, plane.line_size)
        chroma = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(shape)[:, : plane.width]
        planes.append(cv2.resize(chroma, size, interpolation=cv2.INTER_NEAREST))
    buffer = io.BytesIO()
    image = Image.merge("YCbCr", [Image.fromarray(np.ascontiguousarray(p)) for p in planes])
    told: dict[str, Any] = {} if is_full_range(frame) else {"comment": LIMITED}
    if aspect is not None:
        told["dpi"] = aspect.limit_denominator(DENSEST).as_integer_ratio()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0", **told)
    return buffer.getvalue()


def _write_jpegs(
    output: Any,
    frames: Iterable[VideoFrame],
    codec: str,
    quality: int,
    rate: Fraction,
    size: tuple[int, int],
    aspect: Fraction | None,
) -> None:
    stream = output.add_mux_stream(codec, rate=rate, width=size[0], height=size[1])
    stream.time_base = 1 / rate
    for index, frame in enumerate(frames):
        packet: Any = av.Packet(color_jpeg(frame, quality, aspect))
        packet.stream, packet.time_base = stream, 1 / rate
        packet.pts = packet.dts = index
        packet.is_keyframe = True
        output.mux(packet)


def _encode(
    output: Any,
    frames: Iterable[VideoFrame],
    codec: str,
    setting: int,
    rate: Fraction,
    size: tuple[int, int],
    aspect: Fraction | None,
) -> None:
    encoder, options = ENCODERS[codec]
    scale = {"qmin": str(setting), "qmax": str(setting)}
    given = scale if codec.startswith("mpeg") else {"crf": str(setting)}
    unit = (1 / rate).limit_denominator(FINEST)
    stream = output.add_stream(encoder, rate=1 / unit, options=options | given)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    if aspect is not None:
        stream.codec_context.sample_aspect_ratio = aspect
    open_encoder(stream.codec_context)
    for index, frame in enumerate(frames):
        frame.pts, frame.time_base = index, unit
        frame.pict_type = PictureType.NONE
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
