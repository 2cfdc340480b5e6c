"""What becomes of the streams that are not restored: copied, converted, attached, or lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal

import av
from av.audio.format import AudioFormat
from av.audio.resampler import AudioResampler
from av.codec import Codec
from av.container import OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Stream

from vfilter.encoders import Y4M, fits, holds
from vfilter.source import is_picture

Action = Literal["copy", "convert", "attach", "drop"]

PCM_LIKE = ("pcm_", "adpcm_", "flac", "alac")
"""Decoders of sound that is worth keeping without loss."""

LOSSLESS_AUDIO = {"mp4": ("alac", "flac"), "mov": ("alac",), "ipod": ("alac",)}
"""Lossless encoders by muxer; AVI gets PCM, all others FLAC."""

PCM = {"u8": "pcm_u8", "s16": "pcm_s16le", "s32": "pcm_s32le", "flt": "pcm_f32le"}
"""Encoders of PCM by FFmpeg's sample format."""

LOSSY_AUDIO = ("aac", "libopus", "libmp3lame")

LAYOUTS = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}
"""What unnamed channels are taken for, as FFmpeg does."""

TEXT = ("subrip", "mov_text", "webvtt", "ass")
"""Encoders to try in turn."""

TEXT_DECODERS = {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}

PICTURE_TYPES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}

TIMECODE = "timecode"

COVERLESS = ("mov", "3gp", "3g2")
"""Muxers that take a cover picture and leave it out of the file."""


@dataclass(frozen=True)
class StreamPlan:
    """What happens to one stream that is not restored; plain values, valid after the file closes.

    index: the stream's number in the input; kind: its type, as PyAV names it.
    codec: name of the input's codec, or the kind where FFmpeg has no decoder.
    encoder: name of FFmpeg's encoder where it is converted; cover: whether it is a cover picture.
    reason: why it is converted or dropped, for the user.
    """

    index: int
    kind: str
    codec: str
    action: Action
    encoder: str | None = None
    reason: str = ""
    cover: bool = False


def codec_name(stream: Stream) -> str:
    """The canonical codec name of `stream`, or its type where FFmpeg has no decoder for it."""
    context = stream.codec_context
    return str(stream.type) if context is None else str(context.codec.canonical_name)


def plan_streams(muxer: str, streams: list[Stream]) -> list[StreamPlan]:
    """What becomes of each of `streams` in a file of FFmpeg's muxer `muxer`.

    Asked of the muxer itself: a stream is copied if its header can be written.
    """
    return [_plan(muxer, stream) for stream in streams]


def _plan(muxer: str, stream: Stream) -> StreamPlan:
    plan = partial(
        StreamPlan, stream.index, str(stream.type), codec_name(stream), cover=is_picture(stream)
    )
    if muxer == Y4M:
        return plan("drop", reason="y4m holds one video stream alone")
    if isinstance(stream, AttachmentStream) or (is_picture(stream) and muxer == "matroska"):
        if muxer == "matroska" and attachment(stream) is not None:
            return plan("attach")
        unread = "a cover from a pipe, or neither JPEG nor PNG, can't be attached"
        reason = unread if muxer == "matroska" else f"{muxer} holds no attachments"
        return plan("drop", reason=reason)
    if is_picture(stream) and muxer in COVERLESS:
        return plan("drop", reason=f"{muxer} holds no cover pictures")
    if _is_made_by_muxers(stream):
        return plan("drop")
    if holds(muxer, codec_name(stream)) and fits(muxer, lambda trial: copy_stream(trial, stream)):
        return plan("copy")
    reason = f"{muxer} can't hold {codec_name(stream)}"
    for encoder in _encoders(muxer, stream):
        known = holds(muxer, Codec(encoder, "w").canonical_name)
        if known and fits(muxer, partial(_add_encoder, encoder=encoder, stream=stream)):
            return plan("convert", encoder, reason)
    return plan("drop", reason=reason)


def _is_made_by_muxers(stream: Stream) -> bool:
    """Whether this is a QuickTime track of timecode or of chapter titles (which FFmpeg discards).

    Muxers make them anew, from the metadata and the chapters.
    """
    made = TIMECODE in stream.metadata or stream.discard == Discard.all
    return stream.type == "data" and made


def _encoders(muxer: str, stream: Stream) -> tuple[str, ...]:
    context: Any = stream.codec_context
    if context is None:
        return ()
    if stream.type == "audio":
        lossless = LOSSLESS_AUDIO.get(muxer, ("flac",))
        if muxer == "avi":
            lossless = (PCM.get(context.format.packed.name, "pcm_s16le"),)
        return (*lossless, *LOSSY_AUDIO) if context.name.startswith(PCM_LIKE) else LOSSY_AUDIO
    if stream.type == "subtitle" and context.name in TEXT_DECODERS:
        return TEXT
    return ()


def copy_stream(output: OutputContainer, stream: Stream) -> Any:
    """Add to `output` a stream that takes the packets of `stream` as they are."""
    copy: Any = output.add_stream_from_template(stream, opaque=True)
    if stream.type == "audio":
        copy.codec_context.layout = _layout(stream)
    describe(copy, stream)
    return copy


def _layout(stream: Any) -> str:
    """The name of an audio stream's channel layout; AVI and WAV often leave it out."""
    layout = stream.codec_context.layout
    unnamed = layout.name == f"{layout.nb_channels} channels"
    return str(LAYOUTS.get(layout.nb_channels, layout.name) if unnamed else layout.name)


def describe(output: Stream, stream: Stream) -> None:
    """Give `output` the metadata and dispositions of `stream`."""
    stale = ("encoder", "vendor_id", "bps", "duration", "number_of_", "_statistics", "alpha_mode")
    output.metadata.update(
        {k: v for k, v in stream.metadata.items() if not k.lower().startswith(stale)}
    )
    output.disposition = stream.disposition


def attachment(stream: Stream) -> tuple[str, str, bytes] | None:
    """File name, MIME type and bytes of an attachment or of a cover picture.

    None for a picture that is neither JPEG nor PNG, or of a pipe, which can't be read twice.
    """
    if isinstance(stream, AttachmentStream):
        name = stream.metadata.get("filename") or stream.name or "attachment"
        return name, stream.mimetype or "application/octet-stream", bytes(stream.data)
    file = stream.container.name
    if codec_name(stream) not in PICTURE_TYPES or not file.startswith("file:"):
        return None
    with av.open(file, metadata_errors="replace") as again:
        packet = next((p for p in again.demux(again.streams[stream.index]) if p.size), None)
        return None if packet is None else (*PICTURE_TYPES[codec_name(stream)], bytes(packet))


class Converter:
    """Decodes the packets of one audio or text stream and encodes them for the output."""

    def __init__(self, output: OutputContainer, stream: Stream, encoder: str) -> None:
        self.input: Any = stream
        self.output: Any = _add_encoder(output, encoder=encoder, stream=stream)
        describe(self.output, stream)
        self._resampler: AudioResampler | None = None
        self._latest: int | None = None
        self._end = 0

    def convert(self, packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        """The output's packets for one of the input's; None at the end."""
        if self.input.type == "subtitle":
            yield from self._text(packet)
            return
        for frame in self._decode(packet):
            self._stamp(frame)
            yield from self._encode(frame)
        if packet is None:
            if self._resampler is not None:
                yield from self._encode(None)
            yield from self.output.encode(None)

    def _decode(self, packet: Packet[Any] | None) -> list[Any]:
        try:
            return list(self.input.decode(packet))
        except av.FFmpegError:
            return []

    def _stamp(self, frame: Any) -> None:
        """Tell the time of `frame` in samples, as AVI's unit is longer than an encoder's frame.

        A frame without a time, or before the last one, comes right after that.
        """
        rate = frame.sample_rate
        time = None if frame.pts is None else round(frame.pts * frame.time_base * rate)
        if time is None or (self._latest is not None and time < self._latest):
            time = self._end
        frame.pts, frame.time_base = time, Fraction(1, rate)
        self._latest, self._end = time, time + frame.samples

    def _encode(self, frame: Any) -> Iterator[Packet[Any]]:
        if self._resampler is None:
            context = self.output.codec_context
            context.open(strict=False)
            self._resampler = AudioResampler(
                context.format, context.layout, context.rate, frame_size=context.frame_size
            )
        for even in self._resampler.resample(frame):
            yield from self.output.encode(even)

    def _text(self, packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        if packet is None or not packet.size:
            return
        subtitle = self.input.codec_context.decode2(packet)
        if subtitle is None or not len(subtitle):
            return
        encoded = self.output.codec_context.encode_subtitle(subtitle)
        encoded.stream = self.output
        encoded.pts = encoded.dts = packet.pts
        encoded.duration = packet.duration
        encoded.time_base = packet.time_base
        yield encoded


def _nearest(formats: list[AudioFormat], wanted: AudioFormat) -> AudioFormat:
    """The smallest sample format that holds what `wanted` does, else the largest."""
    return min(formats, key=lambda f: (f.bytes < wanted.bytes, abs(f.bytes - wanted.bytes)))


def _add_encoder(output: OutputContainer, *, encoder: str, stream: Any) -> Any:
    """Add to `output` a stream that `encoder` fills from `stream` decoded."""
    if stream.type == "subtitle":
        stream.codec_context.open(strict=False)  # the decoder makes the header of styles
        added: Any = output.add_stream(encoder)
        added.codec_context.subtitle_header = stream.codec_context.subtitle_header
        added.time_base = stream.time_base
        return added
    context = stream.codec_context
    codec = Codec(encoder, "w")
    rates = codec.audio_rates
    rate = context.sample_rate
    if rates and rate not in rates:
        rate = min((r for r in rates if r >= rate), default=max(rates))
    added = output.add_stream(encoder, rate=rate)
    if codec.audio_formats:
        added.codec_context.format = _nearest(codec.audio_formats, context.format)
    channels = context.layout.nb_channels
    added.codec_context.layout = _layout(stream)
    if encoder in LOSSY_AUDIO:
        added.codec_context.bit_rate = 96_000 * channels
    return added
