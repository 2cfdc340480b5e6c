"""The encoder for a container and a source: the first that keeps size, subsampling and depth."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import av
from av.codec import Codec
from av.codec.codec import PixFmtLoss, find_best_pix_fmt_of_list
from av.container import OutputContainer
from av.sidedata.sidedata import Type
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from vfilter.errors import OutputError
from vfilter.hdr import PARAMETERS, has_hdr, with_hdr
from vfilter.luma import planar_name
from vfilter.source import side_data

ENCODERS = {"h264": "libx264", "hevc": "libx265", "h265": "libx265", "vp9": "libvpx-vp9"} | {
    "av1": "libsvtav1"
}
"""Encoder for each name of a codec that people type; other names go to FFmpeg as they are."""

LOSSY = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1")
LOSSY_BY_MUXER = {
    "mov": ("libx264", "libx265", "mjpeg", "mpeg4"),
    "webm": ("libvpx-vp9", "libsvtav1"),
    "mpegts": ("libx264", "libx265"),
}
LOSSLESS = {
    "matroska": ("ffv1",),
    "avi": ("ffv1",),
    "mp4": ("libx264", "ffv1"),
    "mov": ("libx264",),
    "webm": ("libvpx-vp9",),
    "mpegts": ("libx264",),
}
WITH_ALPHA = ("libvpx-vp9", "ffv1")
"""Encoders in order of preference, by what is asked of them and by muxer."""

WITH_CRF = ("libx264", "libx265", "libvpx-vp9", "libsvtav1")

USUAL_CRF = 10.0
"""Constant rate factor where the quality of the source is unknown: costs 0.1 dB at 36 dB."""

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

MARKING_FIELDS = ("libx264", "ffv1", "mpeg2video", "mpeg4", "wrapped_avframe")
"""Encoders that mark interlaced frames."""

SHAPELESS = ("libvpx-vp9", "libsvtav1")
"""Encoders that don't tell the aspect ratio of a pixel."""

TURNING = ("mp4", "mov", "ipod", "matroska", "webm")
"""Muxers that hold a rotation."""

IN_BOTH = {"h264", "hevc", "mpeg1video", "mpeg2video", "mp1", "mp2", "mp3", "ac3", "dts", "truehd"}
IN_MPEGTS = IN_BOTH | {
    *("vvc", "mpeg4", "vc1", "dirac", "aac", "aac_latm", "eac3", "opus", "s302m"),
    *("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "data"),
}
IN_MPEGPS = IN_BOTH | {"pcm_s16be", "pcm_dvd", "dvd_subtitle"}
READABLE = {"mpegts": IN_MPEGTS} | dict.fromkeys(("mpeg", "vob", "dvd", "svcd"), IN_MPEGPS)
"""Codecs that MPEG's streams have names for; FFmpeg writes others as bytes that no reader knows."""


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
    jpeg_quality: int | None = None,
    sample_aspect_ratio: Fraction | None = None,
) -> Encoding:
    """The encoding of a stream of frames like `frame` for FFmpeg's muxer `muxer`.

    jpeg_quality: nearest IJG quality of the source if that is known, for the default `crf`.
    sample_aspect_ratio: width by height of a pixel, to tell if it is lost.
    Raises OutputError if no encoder of that container can keep what the frame has.
    """
    given = dict(options or {})
    wanted = pix_fmt or planar_name(frame.format)
    factor = transparent_crf(jpeg_quality) if crf is None else crf
    oblong = sample_aspect_ratio not in (None, 1)
    found = _candidates(muxer, frame, lossless=lossless, oblong=oblong)
    names = (ENCODERS.get(codec, codec),) if codec else found
    for name in names:
        target = _pixel_format(name, wanted, free=pix_fmt is None, lossless=lossless)
        if target is None or not _keeps_size(name, target, frame):
            continue
        if not holds(muxer, Codec(name, "w").canonical_name):
            continue
        settings = with_hdr(_settings(name, muxer, factor, preset, lossless) | given, name, frame)
        add = partial(_add, encoder=name, frame=frame, pix_fmt=target)
        if fits(muxer, partial(add, options=settings, taken=given)):
            chosen = lossless or codec is not None
            notes = _notes(name, target, names[0], wanted, frame, lossless=chosen)
            notes += _losses(muxer, name, frame, oblong=oblong)
            return Encoding(
                codec=name,
                pix_fmt=target,
                options=settings,
                lossless=lossless or name == "ffv1" or muxer == Y4M,
                notes=notes,
            )
        if fits(muxer, partial(add, options=_settings(name, muxer, USUAL_CRF, None, lossless))):
            raise OutputError(f"encoder {name} doesn't take {_asked(crf, preset, given)}")
    shape = f"{wanted} at {frame.width}x{frame.height}"
    if codec:
        raise OutputError(
            f"encoder {codec} can't put {shape} into {muxer};"
            " leave --codec out, or name another --codec or --pix-fmt"
        )
    raise OutputError(
        f"no {'lossless ' if lossless else ''}encoder puts {shape} into {muxer};"
        " name an output ending in .mkv"
    )


def holds(muxer: str, codec: str) -> bool:
    """Whether readers of files by `muxer` know the codec, where the muxer itself won't say."""
    return muxer not in READABLE or codec in READABLE[muxer]


def fits(muxer: str, add: Callable[[OutputContainer], object]) -> bool:
    """Whether `muxer` takes the stream that `add` makes: asked of it by writing an empty file."""
    trial = av.open(io.BytesIO(), "w", format=muxer, container_options=muxer_options(muxer))
    try:
        add(trial)
        trial.start_encoding()
        trial.close()  # mp4 writes its header at the end
    except (ValueError, av.FFmpegError):
        return False
    return True


def transparent_crf(jpeg_quality: int | None) -> float:
    """The constant rate factor at which x264 costs the restored luma less than 0.1 dB of PSNR.

    The better the source, the less room there is: a line through 10 at quality 40 and 3.2 at 80,
    measured by `python -m training reencode`.
    """
    if jpeg_quality is None:
        return USUAL_CRF
    return round(min(12.0, max(2.0, 16.8 - 0.17 * jpeg_quality)), 1)


def muxer_options(muxer: str) -> dict[str, str]:
    """The options a muxer needs to take all that it can.

    AVI's times are whole frames: sound that begins before 0 must not shift the pictures.
    """
    options = {Y4M: {"strict": "-1"}, "mp4": {"strict": "-2"}}
    return options.get(muxer, {"avoid_negative_ts": "disabled"} if muxer == "avi" else {})


def _candidates(muxer: str, frame: VideoFrame, *, lossless: bool, oblong: bool) -> tuple[str, ...]:
    """The encoders to try. oblong: whether pixels are not square."""
    if muxer == Y4M:
        return ("wrapped_avframe",)
    if lossless and muxer == "matroska" and (oblong or has_hdr(frame) or _captioned(frame)):
        return ("libx264", "ffv1")  # FFV1 tells of none of these where a reader looks for it
    if lossless:
        return LOSSLESS.get(muxer, ("libx264", "ffv1"))
    if has_alpha(frame.format):
        return WITH_ALPHA if muxer in ("webm", "matroska") else ("ffv1",)
    return LOSSY_BY_MUXER.get(muxer, LOSSY)


def has_alpha(pixel_format: VideoFormat) -> bool:
    """Whether a pixel format has an alpha plane or channel."""
    return any(part.is_alpha for part in pixel_format.components)


def _pixel_format(encoder: str, wanted: str, *, free: bool, lossless: bool) -> str | None:
    """What `encoder` is given for frames of `wanted`: the same, or for RGB its nearest; or None.

    The nearest may be YUV, unless `lossless`; it loses neither depth nor resolution.
    """
    try:
        formats = Codec(encoder, "w").video_formats or []
    except ValueError as error:
        raise OutputError(
            f"no encoder named {encoder!r}; try h264, hevc, vp9, av1 or ffv1"
        ) from error
    names = [f.name for f in formats]
    source = VideoFormat(wanted)
    if not names and source.is_rgb and not lossless:
        depth = source.components[0].bits
        return "yuv444p" if depth == 8 else f"yuv444p{depth}le"
    if not names or wanted in names:
        return wanted
    if free and source.is_rgb:
        best, loss = find_best_pix_fmt_of_list(names, wanted)
        allowed = PixFmtLoss.NONE if lossless else PixFmtLoss.COLORSPACE
        return best.name if best is not None and not loss & ~allowed else None
    return None


def _keeps_size(encoder: str, pix_fmt: str, frame: VideoFrame) -> bool:
    """Whether `encoder` codes odd sizes: x264 and x265 want whole chroma samples."""
    chroma = VideoFormat(pix_fmt, 2, 2)
    across, down = 2 // chroma.chroma_width(2), 2 // chroma.chroma_height(2)
    whole = frame.width % across == 0 and frame.height % down == 0
    return whole or encoder not in ("libx264", "libx265")


def _settings(
    encoder: str, muxer: str, crf: float, preset: str | None, lossless: bool
) -> dict[str, str]:
    settings: dict[str, str] = {}
    if lossless:
        settings |= LOSSLESS_OPTIONS.get(encoder, {})
    elif encoder in WITH_CRF:
        settings["crf"] = f"{crf:g}"
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


def _asked(crf: float | None, preset: str | None, options: Mapping[str, str]) -> str:
    asked = {"crf": crf, "preset": preset} | dict(options)
    return ", ".join(f"{key}={value}" for key, value in asked.items() if value is not None)


def _add(
    trial: OutputContainer,
    encoder: str,
    frame: VideoFrame,
    pix_fmt: str,
    options: dict[str, str],
    taken: Collection[str] = (),
) -> None:
    """Add `encoder` to `trial`; raise ValueError if it knows not all options named in `taken`."""
    stream: Any = trial.add_stream(encoder, rate=Fraction(25), options=options)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
    full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
    stream.codec_context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
    stream.codec_context.open(strict=False)
    left = stream.codec_context.options.keys() & set(taken)
    if left:
        raise ValueError(f"{encoder} has no option {', '.join(left)}")


def _notes(
    encoder: str, target: str, first: str, wanted: str, frame: VideoFrame, *, lossless: bool
) -> tuple[str, ...]:
    notes = []
    if encoder != first:
        lost = "odd size" if (frame.width % 2 or frame.height % 2) else "pixel format"
        notes.append(f"{encoder} instead of {first}, which can't keep the {lost}")
    if encoder == "ffv1" and not lossless:
        notes.append("ffv1 is lossless: the file will be large")
    if VideoFormat(target).is_rgb != VideoFormat(wanted).is_rgb:
        notes.append(f"{wanted} becomes {target}, the nearest that {encoder} takes")
    return tuple(notes)


def _captioned(frame: VideoFrame) -> bool:
    """Whether closed captions travel with `frame` (CTA-708, in the video stream)."""
    return side_data(frame, Type.A53_CC) is not None


def _losses(muxer: str, encoder: str, frame: VideoFrame, *, oblong: bool) -> tuple[str, ...]:
    """What else the source says that neither the encoder nor the container can."""
    full = frame.color_range == ColorRange.JPEG and not frame.format.is_rgb
    losses = {
        "which lines are which field": frame.interlaced_frame and encoder not in MARKING_FIELDS,
        "HDR metadata": has_hdr(frame) and encoder not in PARAMETERS,
        "rotation": side_data(frame, Type.DISPLAYMATRIX) is not None and muxer not in TURNING,
        "closed captions": _captioned(frame) and encoder not in ("libx264", "libx265"),
        "the shape of pixels": (oblong and encoder in SHAPELESS and muxer not in ("mp4", "mov")),
        "that the range is full": full and muxer == "avi" and encoder == "ffv1",
    }
    return tuple(f"{encoder} in {muxer} can't tell {name}" for name, lost in losses.items() if lost)
