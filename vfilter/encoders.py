"""The encoder for a container and a source: the first that keeps size, subsampling and depth."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from math import log2, nan
from pathlib import Path
from typing import Any

import av
from av.codec import Codec
from av.codec.codec import PixFmtLoss, find_best_pix_fmt_of_list
from av.codec.context import Flags
from av.container import OutputContainer
from av.sidedata.sidedata import Type
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from vfilter.bitstream import QP_CODECS, Hints
from vfilter.errors import ArgumentError, OutputError
from vfilter.frames import is_full_range
from vfilter.hdr import PARAMETERS, has_hdr, hdr_options
from vfilter.luma import planar_name
from vfilter.source import side_data
from vfilter.weights import USUAL_QP

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

THREADS = Path("/proc/self/task")
"""The threads of this process, where Linux tells them."""

CRF_SCALE = {"libx264": 1.0, "libx265": 1.0, "libvpx-vp9": 0.7, "libsvtav1": 0.55}
"""Encoders with a constant rate factor, and how many times that of x264 costs as much."""

WHOLE_CRF = ("libvpx-vp9", "libsvtav1")
"""Encoders whose constant rate factor is a whole number."""

RATE_OPTIONS = {"crf", "qp", "b", "q", "qscale", "global_quality"}
"""Options that set the quality: beside any of them the default is left out."""

FINEST_QSCALE = {"flags": "+qscale", "global_quality": str(2 * 118)}
"""Quantizer 2 of MPEG-4 Part 2 and MJPEG, in FFmpeg's lambda units (FF_QP2LAMBDA = 118)."""

FINEST_X264 = {"crf": "1", "qmax": "2", "tune": "psnr"}
"""As fine as 8-bit x264 is without being lossless, with the quantizer bound too."""

PARAMS = ("x264-params", "x265-params", "svtav1-params")
"""Options that hold the encoder's own, joined by colons; of two of one name the last counts."""

LOSSLESS_OPTIONS = {
    "libx264": {"x264-params": "qp=0"},
    "libx265": {"x265-params": "lossless=1"},
    "libvpx-vp9": {"lossless": "1"},
    "libsvtav1": {"svtav1-params": "lossless=1"},
}
"""What makes encoders lossless that are lossy else; it goes after whatever they are told."""

AVI_X264 = {"x264-params": "bframes=0:nal-hrd=vbr"}
"""AVI holds decoding times alone, so no B-frames; and FFmpeg reads H.264 from it a frame late
unless timing is in the bitstream (HRD)."""

FRAMES_WHOLE = {"x264-params": "interlaced=0"}
"""Makes x264 code frames whole whatever their fields; it goes after whatever else is told."""

HRD_RATE, LEAST_HRD_RATE = 250, 50_000
"""HRD wants a bound of the bit rate, and none that binds: bits per second for each pixel (at 25
frames per second the finest encoding of grainy clips takes 110), and the least in kbit/s."""

Y4M = "yuv4mpegpipe"
WRAPPED = "wrapped_avframe"

MARKING_FIELDS = ("libx264", "ffv1", "mpeg2video", "mpeg4", WRAPPED)
"""Encoders that mark interlaced frames."""

SHAPELESS = ("libvpx-vp9", "libsvtav1")
"""Encoders that don't tell the aspect ratio of a pixel."""

TURNING = ("mp4", "mov", "matroska", "webm")
"""Muxers that hold a rotation."""

MOST_CRF = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63}

PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
"""Presets of x264 and x265, which print an error of their own at others."""

LOCATING = ("matroska", "webm")
"""Muxers that tell where chroma samples lie, whatever the codec."""

LOCATIONS = {
    **dict.fromkeys(("libx264", "libx265", WRAPPED), ("left", "center", "topleft")),
    "libsvtav1": ("left", "topleft"),
    **dict.fromkeys(("mjpeg", "mpeg1video"), ("center",)),
}
"""Where chroma samples of 4:2:0 may lie for the encoders to tell it; all others are taken to mean
left. In 4:2:2, where it is a quarter of a sample's shift, none tells it (README)."""

IN_BOTH = {"h264", "hevc", "mpeg1video", "mpeg2video", "mp1", "mp2", "mp3", "ac3", "dts", "truehd"}
IN_MPEGTS = IN_BOTH | {
    *("vvc", "mpeg4", "vc1", "dirac", "aac", "aac_latm", "eac3", "opus", "s302m"),
    *("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "data"),
}
IN_MPEGPS = IN_BOTH | {"pcm_s16be", "pcm_dvd", "dvd_subtitle"}
READABLE = {"mpegts": IN_MPEGTS} | dict.fromkeys(("mpeg", "vob", "dvd", "svcd"), IN_MPEGPS)
"""Codecs that MPEG's streams have names for; FFmpeg writes others as bytes that no reader knows."""

SELDOM_SHOWN = (
    "chroma finer than 4:2:0 is kept, which some players can't show: they want --pix-fmt yuv420p"
)

NOTHING = Hints()


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the restored stream is encoded.

    codec: name of FFmpeg's encoder; pix_fmt: what it is given; options: its options.
    notes: what the user should know about the choice.
    """

    codec: str
    pix_fmt: str
    options: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """The encoder for people."""
        return _plain(self.codec)


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
    hints: Hints = NOTHING,
    sample_aspect_ratio: Fraction | None = None,
    chroma_location: str | None = None,
) -> Encoding:
    """The encoding of a stream of frames like `frame` for FFmpeg's muxer `muxer`.

    hints: what the source tells of its compression, for the default quality.
    sample_aspect_ratio: width by height of a pixel, to tell if it is lost.
    chroma_location: where chroma samples lie: "left", "center" or "topleft"; None if unknown.
    Raises OutputError if no encoder of that container can keep what the frame has, or the one
    named can't do what is asked; ArgumentError for a quality with `lossless`.
    """
    asked = dict(options or {})
    asked |= {k: f"{v}" for k, v in (("crf", crf), ("preset", preset)) if v is not None}
    rates = sorted(RATE_OPTIONS & asked.keys())
    if lossless and rates:
        raise ArgumentError(f"lossless and {', '.join(rates)} exclude each other: leave one out")
    wanted = pix_fmt or planar_name(frame.format)
    oblong = sample_aspect_ratio not in (None, 1)
    found = _candidates(muxer, frame, lossless=lossless, oblong=oblong)
    names = (ENCODERS.get(codec, codec),) if codec else found
    for name in names:
        target = _pixel_format(name, wanted, free=pix_fmt is None, lossless=lossless)
        if target is None or not _keeps_size(name, target, frame):
            continue
        if not holds(muxer, Codec(name, "w").canonical_name):
            continue
        _check_asked(name, muxer, asked, lossless=lossless)
        ours = _options(name, muxer, frame, hints, asked, lossless=lossless)
        if chroma_location is not None:
            ours["chroma_sample_location"] = chroma_location
        forced = _forced(name, muxer, frame, target, lossless=lossless)
        settings = joined(joined(ours, asked), forced)
        add = partial(_add, encoder=name, frame=frame, pix_fmt=target)
        if fits(muxer, partial(add, options=settings, taken=asked)):
            chosen = lossless or codec is not None
            notes = _notes(name, muxer, target, names[0], wanted, frame, lossless=chosen)
            if pix_fmt is None and not lossless and _seldom_shown(name, muxer, target):
                notes += (SELDOM_SHOWN,)
            notes += _losses(muxer, name, frame, target, chroma_location, oblong=oblong)
            return Encoding(codec=name, pix_fmt=target, options=settings, notes=notes)
        if asked and fits(muxer, partial(add, options=joined(ours, forced))):
            pairs = ", ".join(f"{key}={value}" for key, value in asked.items())
            raise OutputError(f"encoder {_plain(name)} doesn't take {pairs}; leave it out")
    shape = f"{wanted} at {frame.width}x{frame.height}"
    if codec:
        raise OutputError(
            f"encoder {codec} can't put {shape} into {muxer};"
            " leave --codec out, or name another --codec or --pix-fmt"
        )
    advice = (
        "name another --pix-fmt"
        if muxer == "matroska"
        else ("name an output ending in .mkv, or another --pix-fmt")
    )
    raise OutputError(
        f"no {'lossless ' if lossless else ''}encoder puts {shape} into {muxer}; {advice}"
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


def transparent_crf(hints: Hints) -> float:
    """The constant rate factor at which x264 costs the restored luma less than 0.1 dB of PSNR.

    The better the source, the less room there is. Lines through what `python -m training reencode`
    measures, over the quality of a JPEG, or the H.264 QP that is or would be the quantizer's;
    below 1 (where 8-bit x264 is lossless) no factor is fine enough.
    """
    quality = hints.jpeg_quality
    if quality is not None:
        return round(min(12.0, 18.6 - 0.215 * quality), 1)
    return round(min(12.0, 0.58 * (_qp(hints) - 19.4)), 1)


def muxer_options(muxer: str) -> dict[str, str]:
    """The options a muxer needs to take all that it can.

    AVI's times are whole frames: sound that begins before 0 must not shift the pictures.
    """
    options = {Y4M: {"strict": "-1"}, "mp4": {"strict": "-2"}}
    return options.get(muxer, {"avoid_negative_ts": "disabled"} if muxer == "avi" else {})


def joined(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """The options of both, of equals those of `second`; what is within `PARAMS` is joined too."""
    both = {key: f"{first[key]}:{second[key]}" for key in PARAMS if key in first and key in second}
    return {**first, **second, **both}


def bottom_first(frame: VideoFrame) -> bool:
    """Whether the bottom field of `frame` is shown first; False for a progressive frame.

    PyAV tells only that a frame is interlaced; FFmpeg's `select` knows the order.
    """
    graph = av.filter.Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(
            template=None,
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=Fraction(1, 25),
        ),
        graph.add("select", "eq(interlace_type,BOTTOMFIRST)"),
        graph.add("buffersink"),
    ).configure()
    graph.vpush(frame)
    graph.vpush(None)
    try:
        graph.vpull()
    except (av.error.BlockingIOError, av.error.EOFError):
        return False
    return True


def _qp(hints: Hints) -> float:
    """The mean H.264 QP of the hints, or one of about the same step; a usual one if untold.

    A QP of 0 is a step of 0.625 (ITU-T H.264, 8.5.9), twice as much each 6; MPEG tells the step.
    VP9's steps, an eighth of those in its table, are near those of H.264 at 16 + q_idx / 10.
    """
    kind = QP_CODECS.get(hints.codec or "")
    if hints.qp is None or kind is None:
        return USUAL_QP
    mean = float(hints.qp.mean())
    if kind == "vp9":
        return 16 + mean / 10
    if kind == "h264":
        return mean
    return 6 * log2(max(mean, 1) / 0.625)


def _candidates(muxer: str, frame: VideoFrame, *, lossless: bool, oblong: bool) -> tuple[str, ...]:
    """The encoders to try. oblong: whether pixels are not square."""
    if muxer == Y4M:
        return (WRAPPED,)
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


def _video_codec(encoder: str) -> Codec:
    try:
        found = Codec(encoder, "w")
    except ValueError as error:
        raise OutputError(
            f"no encoder named {encoder!r}; try h264, hevc, vp9, av1 or ffv1"
        ) from error
    if found.type != "video":
        raise OutputError(
            f"{encoder} encodes {found.type} and not video; try h264, hevc, vp9, av1 or ffv1"
        )
    return found


def _pixel_format(encoder: str, wanted: str, *, free: bool, lossless: bool) -> str | None:
    """What `encoder` is given for frames of `wanted`: the same, or for RGB its nearest; or None.

    The nearest may be YUV, unless `lossless`; it loses neither depth nor resolution nor alpha.
    """
    names = [f.name for f in _video_codec(encoder).video_formats or []]
    source = VideoFormat(wanted)
    if not names and source.is_rgb and not lossless:
        depth = source.components[0].bits
        return "yuv444p" if depth == 8 else f"yuv444p{depth}le"
    if not names or wanted in names:
        return wanted
    if free and source.is_rgb:
        best, loss = find_best_pix_fmt_of_list(names, wanted, has_alpha=has_alpha(source))
        allowed = PixFmtLoss.NONE if lossless else PixFmtLoss.COLORSPACE
        return best.name if best is not None and not loss & ~allowed else None
    return None


def _keeps_size(encoder: str, pix_fmt: str, frame: VideoFrame) -> bool:
    """Whether `encoder` codes odd sizes: x264 and x265 want whole chroma samples."""
    across, down = _subsampling(pix_fmt)
    whole = frame.width % across == 0 and frame.height % down == 0
    return whole or encoder not in ("libx264", "libx265")


def _marks_fields(encoder: str, pix_fmt: str, frame: VideoFrame) -> bool:
    """Whether `encoder` marks the fields of `frame`: x264 wants whole chroma samples in each."""
    _, down = _subsampling(pix_fmt)
    whole = frame.height % (2 * down) == 0
    return encoder in MARKING_FIELDS and (whole or encoder != "libx264")


def _subsampling(pix_fmt: str) -> tuple[int, int]:
    """Luma samples across and down for one of chroma."""
    shape = VideoFormat(pix_fmt, 64, 64)
    return 64 // shape.chroma_width(64), 64 // shape.chroma_height(64)


def _plain(encoder: str) -> str:
    """An encoder for people: y4m holds frames as they are."""
    return "raw (y4m)" if encoder == WRAPPED else encoder


def _check_asked(encoder: str, muxer: str, asked: Mapping[str, str], *, lossless: bool) -> None:
    """Refuse what `encoder` would silently do otherwise, and what readers of AVI get late."""
    by_nature = not Codec(encoder, "w").lossy
    if lossless and encoder not in LOSSLESS_OPTIONS and not by_nature:
        raise OutputError(
            f"encoder {encoder} has no lossless mode known here; leave --codec out, or name"
            " h264, hevc, vp9, av1 or ffv1"
        )
    most = MOST_CRF.get(encoder)
    if most is not None and not 0 <= _number(asked.get("crf", "0")) <= most:
        raise ArgumentError(f"crf of {encoder} must be 0 to {most}, got {asked['crf']}")
    if encoder in ("libx264", "libx265") and asked.get("preset", PRESETS[0]) not in PRESETS:
        presets = ", ".join(PRESETS)
        raise ArgumentError(f"preset of {encoder} must be {presets}; got {asked['preset']}")
    if encoder == "libsvtav1" and asked.get("crf") in ("0", "0.0"):
        raise OutputError("encoder libsvtav1 takes crf from 1 on; --lossless is finer")
    pairs = [pair.partition("=")[::2] for pair in asked.get("x264-params", "").split(":")]
    told = [*asked.items(), *pairs]
    constant = any(key == "qp" or (key == "crf" and value in ("0", "0.0")) for key, value in told)
    if encoder == "libx264" and muxer == "avi" and (lossless or constant):
        raise OutputError(
            "H.264 without loss or of one quantizer is read a frame late from AVI; leave --codec"
            " out or name an output ending in .mkv"
        )


def _number(text: str) -> float:
    """The number in `text`, NaN if there is none."""
    try:
        return float(text)
    except ValueError:
        return nan


def _options(
    encoder: str,
    muxer: str,
    frame: VideoFrame,
    hints: Hints,
    asked: Mapping[str, str],
    *,
    lossless: bool,
) -> dict[str, str]:
    """The options of `encoder` before those that are asked for."""
    options: dict[str, str] = {}
    if encoder == "libvpx-vp9":
        options = {"row-mt": "1", "cpu-used": "2"}
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # else it writes its settings to stderr
    if encoder == "libx265":
        options = {"x265-params": "log-level=error"}
    if encoder == "ffv1":
        options = {"level": "3", "slicecrc": "1"}
    if encoder == "libx264" and muxer == "avi":
        rate = max(LEAST_HRD_RATE, HRD_RATE * frame.width * frame.height // 1000)
        options = {"x264-params": f"vbv-maxrate={rate}:vbv-bufsize={rate}"}
    if encoder == "libx264" and frame.interlaced_frame and bottom_first(frame):
        options = joined(options, {"x264-params": "bff=1"})
    if encoder == "libvpx-vp9" and "crf" in asked:
        options["b"] = "0"
    elif not lossless and not RATE_OPTIONS & asked.keys():
        options = joined(options, _quality(encoder, frame, hints))
    return joined(options, hdr_options(encoder, frame))


def _quality(encoder: str, frame: VideoFrame, hints: Hints) -> dict[str, str]:
    """The options that make `encoder` nearly transparent for a source of `hints`.

    What is finer than any rate factor is encoded without loss, which all decoders take but
    those of H.264.
    """
    if encoder in ("mpeg4", "mjpeg"):
        return FINEST_QSCALE
    if encoder not in CRF_SCALE:
        return {}
    depth = frame.format.components[0].bits
    factor = transparent_crf(hints)
    if factor < 1 and encoder != "libx264":
        return LOSSLESS_OPTIONS[encoder]
    if factor < 1 and depth == 8:
        return FINEST_X264
    factor = max(1.0, factor * CRF_SCALE[encoder])
    options = {"crf": str(int(factor)) if encoder in WHOLE_CRF else f"{factor:g}"}
    if encoder == "libx264":
        options["tune"] = "psnr"
    if encoder == "libvpx-vp9":
        options["b"] = "0"
    return options


def _forced(
    encoder: str, muxer: str, frame: VideoFrame, pix_fmt: str, *, lossless: bool
) -> dict[str, str]:
    """The options of `encoder` that go after all others."""
    options = AVI_X264 if encoder == "libx264" and muxer == "avi" else {}
    if lossless:
        options = LOSSLESS_OPTIONS.get(encoder, {})
    fields = frame.interlaced_frame and encoder == "libx264"
    if fields and not _marks_fields(encoder, pix_fmt, frame):
        options = joined(options, FRAMES_WHOLE)
    return options


def open_encoder(context: Any) -> None:
    """Open the encoder of `context`, a PyAV codec context, unless it is open.

    What the threads are to the scheduler stays as it is: libsvtav1, where it may, makes those of
    its own and the caller's real-time ones of the highest priority (SCHED_FIFO, 99), and what
    computes in one of them then stops all else on its processor.
    Raises ValueError or av.FFmpegError, as PyAV does, if the encoder doesn't take its parameters.
    """
    before = _scheduled()
    try:
        context.open(strict=False)
    finally:
        after = _scheduled()
        if before and after and before["0"] != after["0"]:
            for thread in {"0"} | after.keys() - before.keys():
                with suppress(OSError):  # it has ended since
                    os.sched_setscheduler(int(thread), *before["0"])


def _scheduled() -> dict[str, tuple[int, os.sched_param]]:
    """Policy and priority of the threads of this process, as far as the system tells them.

    "0" is the caller's.
    """
    told: dict[str, tuple[int, os.sched_param]] = {}
    with suppress(AttributeError, OSError):  # not everywhere, or not allowed
        for thread in ("0", *(path.name for path in THREADS.iterdir())):
            with suppress(ProcessLookupError):
                number = int(thread)
                told[thread] = os.sched_getscheduler(number), os.sched_getparam(number)
    return told


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
    full = is_full_range(frame)
    stream.codec_context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
    if frame.interlaced_frame:
        stream.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
    open_encoder(stream.codec_context)
    left = stream.codec_context.options.keys() & set(taken)
    if left:
        raise ValueError(f"{encoder} has no option {', '.join(left)}")


def _notes(
    encoder: str,
    muxer: str,
    target: str,
    first: str,
    wanted: str,
    frame: VideoFrame,
    *,
    lossless: bool,
) -> tuple[str, ...]:
    notes = []
    if encoder != first:
        format_taken = _pixel_format(first, wanted, free=True, lossless=lossless)
        lost = "odd size" if format_taken else f"pixel format {wanted}"
        notes.append(f"{encoder} instead of {first}, which can't keep the {lost}")
    if encoder == "ffv1" and not lossless:
        notes.append("ffv1 is lossless: the file will be large")
    if encoder == "ffv1" and muxer in ("mp4", "mov"):
        notes.append(f"few players open ffv1 in {muxer}: name an output ending in .mkv")
    if VideoFormat(target).is_rgb != VideoFormat(wanted).is_rgb:
        notes.append(f"{wanted} becomes {target}, the nearest that {encoder} takes")
    return tuple(notes)


def _seldom_shown(encoder: str, muxer: str, pix_fmt: str) -> bool:
    """Whether it is H.264 of a profile above High, which players by hardware, browsers and Windows
    mostly lack, in a container that is made for them."""
    of = VideoFormat(pix_fmt, 16, 16)
    finer = len(of.components) > 1 and not of.is_rgb and of.chroma_height() > 8
    return encoder == "libx264" and muxer in ("mp4", "mov") and finer


def _captioned(frame: VideoFrame) -> bool:
    """Whether closed captions travel with `frame` (CTA-708, in the video stream)."""
    return side_data(frame, Type.A53_CC) is not None


def _losses(
    muxer: str,
    encoder: str,
    frame: VideoFrame,
    target: str,
    chroma_location: str | None,
    *,
    oblong: bool,
) -> tuple[str, ...]:
    """What else the source says that neither the encoder nor the container can."""
    full = frame.color_range == ColorRange.JPEG and not frame.format.is_rgb
    losses = {
        "which lines are which field": (
            frame.interlaced_frame and not _marks_fields(encoder, target, frame)
        ),
        "HDR metadata": has_hdr(frame) and encoder not in PARAMETERS,
        "rotation": side_data(frame, Type.DISPLAYMATRIX) is not None and muxer not in TURNING,
        "closed captions": _captioned(frame) and encoder not in ("libx264", "libx265"),
        "the shape of pixels": (oblong and encoder in SHAPELESS and muxer not in ("mp4", "mov")),
        "that the range is full": full and muxer == "avi" and encoder == "ffv1",
        f"that chroma lies at the {chroma_location}": (
            chroma_location is not None
            and _subsampling(target) == (2, 2)
            and not _locates(muxer, encoder, target, chroma_location)
        ),
    }
    where = "y4m" if muxer == Y4M else f"{encoder} in {muxer}"
    return tuple(f"{where} can't tell {name}" for name, lost in losses.items() if lost)


def _locates(muxer: str, encoder: str, pix_fmt: str, location: str) -> bool:
    """Whether readers know from the file that chroma samples lie at `location`."""
    subsampling = _subsampling(pix_fmt)
    if muxer in LOCATING or subsampling == (1, 1):
        return True
    marked = subsampling == (2, 2) and (encoder != WRAPPED or pix_fmt == "yuv420p")
    return location in (LOCATIONS.get(encoder, ("left",)) if marked else ("left",))
