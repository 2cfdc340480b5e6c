"""The encoder for a container and a source: the first that keeps size, subsampling and depth."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import av
from av.codec import Codec
from av.codec.codec import find_best_pix_fmt_of_list
from av.container import OutputContainer
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from vfilter.errors import OutputError
from vfilter.luma import planar_name

ENCODERS = {"h264": "libx264", "hevc": "libx265", "h265": "libx265", "vp9": "libvpx-vp9"} | {
    "av1": "libsvtav1"
}
"""Encoder for each name of a codec that people type; other names go to FFmpeg as they are."""

LOSSY = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1")
LOSSY_MOV = ("libx264", "libx265", "mjpeg", "mpeg4")
LOSSY_WEBM = ("libvpx-vp9", "libsvtav1")
LOSSLESS = {
    "matroska": ("ffv1",),
    "avi": ("ffv1",),
    "mp4": ("libx264", "ffv1"),
    "mov": ("libx264",),
    "webm": ("libvpx-vp9",),
}
WITH_ALPHA = ("libvpx-vp9", "ffv1")
"""Encoders in order of preference, by what is asked of them and by muxer."""

CRF = {"libx264": "14", "libx265": "14", "libvpx-vp9": "12", "libsvtav1": "14"}
"""Default constant rate factors; that of libx264 is measured (see the README), the others near."""

FINEST_QSCALE = {"flags": "+qscale", "global_quality": str(2 * 118)}
"""Quantizer 2 of MPEG-4 Part 2 and MJPEG, in FFmpeg's lambda units (FF_QP2LAMBDA = 118)."""

AVI_X264 = {"bf": "0", "x264-params": "nal-hrd=vbr:vbv-maxrate=50000:vbv-bufsize=50000"}
"""AVI holds decoding times alone, so no B-frames; and FFmpeg reads H.264 from it a frame late
unless timing is in the bitstream (HRD), which wants a bound: that of level 4.1, in kbit/s."""

LOSSLESS_OPTIONS = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "lossless=1:log-level=error"},
    "libvpx-vp9": {"lossless": "1"},
    "ffv1": {"level": "3", "slicecrc": "1"},
}

Y4M = "yuv4mpegpipe"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the restored stream is encoded.

    codec: name of FFmpeg's encoder; pix_fmt: what it is given; options: its options.
    notes: what the user should know about the choice.
    """

    codec: str
    pix_fmt: str
    options: Mapping[str, str]
    lossless: bool = False
    notes: tuple[str, ...] = field(default=())


def choose_encoding(
    muxer: str,
    frame: VideoFrame,
    *,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
    lossless: bool = False,
    options: Mapping[str, str] | None = None,
) -> Encoding:
    """The encoding of a stream of frames like `frame` for FFmpeg's muxer `muxer`.

    Raises OutputError if no encoder of that container can keep what the frame has.
    """
    given = dict(options or {})
    wanted = pix_fmt or planar_name(frame.format)
    names = (ENCODERS.get(codec, codec),) if codec else _candidates(muxer, frame, lossless)
    for name in names:
        target = _pixel_format(name, wanted, free=pix_fmt is None)
        if target is None or not _keeps_size(name, target, frame):
            continue
        settings = _settings(name, muxer, crf, preset, lossless) | given
        add = partial(_add, encoder=name, frame=frame, pix_fmt=target, options=settings)
        if fits(muxer, add):
            notes = _notes(name, target, names[0], wanted, frame, lossless)
            return Encoding(
                codec=name,
                pix_fmt=target,
                options=settings,
                lossless=lossless or name == "ffv1" or muxer == Y4M,
                notes=notes,
            )
    shape = f"{wanted} at {frame.width}x{frame.height}"
    if codec:
        raise OutputError(
            f"encoder {codec} can't put {shape} into {muxer}"
            + (f" with {given}" if given else "")
            + "; leave --codec out, or name another --codec or --pix-fmt"
        )
    raise OutputError(
        f"no {'lossless ' if lossless else ''}encoder puts {shape} into {muxer};"
        " name an output ending in .mkv"
    )


def fits(muxer: str, add: Callable[[OutputContainer], object]) -> bool:
    """Whether `muxer` takes the stream that `add` makes: asked of it by writing a header."""
    trial = av.open(io.BytesIO(), "w", format=muxer, options=muxer_options(muxer))
    try:
        add(trial)
        trial.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    finally:
        _discard(trial)
    return True


def muxer_options(muxer: str) -> dict[str, str]:
    """The options a muxer needs to take all that it can."""
    return {"strict": "-1"} if muxer == Y4M else {"strict": "-2"} if muxer == "mp4" else {}


def _candidates(muxer: str, frame: VideoFrame, lossless: bool) -> tuple[str, ...]:
    if muxer == Y4M:
        return ("wrapped_avframe",)
    if lossless:
        return LOSSLESS.get(muxer, ("libx264", "ffv1"))
    if has_alpha(frame.format):
        return WITH_ALPHA if muxer in ("webm", "matroska") else ("ffv1",)
    return {"webm": LOSSY_WEBM, "mov": LOSSY_MOV}.get(muxer, LOSSY)


def has_alpha(pixel_format: VideoFormat) -> bool:
    """Whether a pixel format has an alpha plane or channel."""
    return any(part.is_alpha for part in pixel_format.components)


def _pixel_format(encoder: str, wanted: str, *, free: bool) -> str | None:
    """What `encoder` is given for frames of `wanted`: the same, or for RGB its nearest; or None."""
    try:
        formats = Codec(encoder, "w").video_formats or []
    except ValueError as error:
        raise OutputError(
            f"no encoder named {encoder!r}; try h264, hevc, vp9, av1 or ffv1"
        ) from error
    names = [f.name for f in formats]
    source = VideoFormat(wanted)
    if not names and source.is_rgb:
        return "yuv444p"
    if not names or wanted in names:
        return wanted
    if free and (source.is_rgb or source.has_palette):
        best, _ = find_best_pix_fmt_of_list(names, wanted)
        return None if best is None else best.name
    return None


def _keeps_size(encoder: str, pix_fmt: str, frame: VideoFrame) -> bool:
    """Whether `encoder` codes odd sizes: x264 and x265 want whole chroma samples."""
    chroma = VideoFormat(pix_fmt, 2, 2)
    across, down = 2 // chroma.chroma_width(2), 2 // chroma.chroma_height(2)
    whole = frame.width % across == 0 and frame.height % down == 0
    return whole or encoder not in ("libx264", "libx265")


def _settings(
    encoder: str, muxer: str, crf: float | None, preset: str | None, lossless: bool
) -> dict[str, str]:
    settings: dict[str, str] = {}
    if lossless:
        settings |= LOSSLESS_OPTIONS.get(encoder, {})
    elif crf is not None or encoder in CRF:
        settings["crf"] = CRF.get(encoder, "") if crf is None else f"{crf:g}"
        if encoder == "libvpx-vp9":
            settings["b"] = "0"
    if encoder == "libvpx-vp9":
        settings |= {"row-mt": "1", "cpu-used": "2"}
    if encoder == "libx265" and not lossless:
        settings["x265-params"] = "log-level=error"
    if encoder in ("mpeg4", "mjpeg"):
        settings |= FINEST_QSCALE
    if encoder == "ffv1":
        settings |= LOSSLESS_OPTIONS["ffv1"]
    if preset is not None:
        settings["preset"] = preset
    if encoder == "libx264" and muxer == "avi":
        settings |= AVI_X264
    return settings


def _add(
    trial: OutputContainer, encoder: str, frame: VideoFrame, pix_fmt: str, options: dict[str, str]
) -> None:
    stream: Any = trial.add_stream(encoder, rate=Fraction(25), options=options)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
    full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
    stream.codec_context.color_range = ColorRange.JPEG if full else ColorRange.MPEG


def _discard(container: OutputContainer) -> None:
    with suppress(ValueError, av.FFmpegError):
        container.close()


def _notes(
    encoder: str, target: str, first: str, wanted: str, frame: VideoFrame, lossless: bool
) -> tuple[str, ...]:
    notes = []
    if encoder != first:
        lost = "odd size" if (frame.width % 2 or frame.height % 2) else "pixel format"
        notes.append(f"{encoder} instead of {first}, which can't keep the {lost}")
        if encoder == "ffv1" and not lossless:
            notes.append("ffv1 is lossless: the file will be large")
    if target != wanted:
        notes.append(f"{wanted} becomes {target}, the nearest that {encoder} takes")
    return tuple(notes)
