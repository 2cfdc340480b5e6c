"""What becomes of the streams that are not restored: copied, converted, attached, or lost."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal

import av
from av.audio.format import AudioFormat
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.codec import Codec
from av.container import OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, DataStream, Discard, Stream
from av.video.stream import VideoStream

from vfilter.encoders import Y4M, fits, holds, muxer_options
from vfilter.opening import is_picture, open_alone
from vfilter.timeline import packet_time

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

SILENCE = {"pcm_u8": b"\x80", "pcm_alaw": b"\xd5", "pcm_mulaw": b"\xff"}
"""The bytes of silence in PCM that are not zero."""

SHORTEST_GAP, LONGEST_GAP = Fraction(1, 50), 60
"""Seconds between which what sound lags its times by is made silence: less is the coarseness of a
container's times, more is no time at all."""

COVERLESS = ("mov", "3gp", "3g2")
"""Muxers that take a cover picture and leave it out of the file."""

UNTOLD_LANGUAGE = "und"

IN_QUICKTIME = {
    *("alb", "amh", "ara", "arm", "asm", "aym", "aze", "baq", "bel", "ben", "bul", "bur"),
    *("cat", "ces", "chi", "dan", "dut", "dzo", "eng", "epo", "est", "fin", "fra", "geo"),
    *("ger", "gre", "grn", "guj", "heb", "hin", "hun", "ice", "ind", "iri", "ita", "jav"),
    *("jpn", "kan", "kas", "kaz", "khm", "kin", "kir", "kor", "kur", "lao", "lat", "lav"),
    *("lit", "mac", "mal", "mar", "may", "mlg", "mlt", "mol", "mon", "nep", "nor", "nya"),
    *("ori", "orm", "per", "pol", "por", "pus", "que", "ron", "run", "rus", "san", "sin"),
    *("slk", "slv", "smi", "snd", "som", "spa", "sve", "swa", "tam", "tat", "tel", "tgk"),
    *("tgl", "tha", "tib", "tir", "tuk", "tur", "uig", "ukr", "urd", "uzb", "vie", "wel"),
    *("yid", "hr "),
}
"""Languages that FFmpeg's mov muxer has a number for; all others come back as none."""

TWINS = {
    **{"alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces"},
    **{"dut": "nld", "fre": "fra", "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl"},
    **{"mac": "mkd", "may": "msa", "per": "fas", "rum": "ron", "slo": "slk", "tib": "bod"},
    "wel": "cym",
}
"""The two codes of languages that ISO 639-2 has two for, bibliographic and terminological."""

QUICKTIMES_OWN = {"swe": "sve", "hrv": "hr ", "gle": "iri"}
"""Languages that the mov muxer knows by a name that ISO 639-2 doesn't."""

CHROMA_SITING = re.compile(rb"\x55\xb7\x81(.)\x55\xb8\x81(.)", re.DOTALL)
"""ChromaSitingHorz and ChromaSitingVert of Matroska (RFC 9559, 5.1.4.1.28), of one byte each."""

SITINGS = {(1, 1): "topleft", (1, 2): "left", (2, 2): "center"}
Y4M_SITINGS = {b"paldv": "topleft", b"mpeg2": "left", b"jpeg": "center"}
"""FFmpeg's names of chroma locations by Matroska's and y4m's."""


@dataclass(frozen=True)
class StreamPlan:
    """What happens to one stream that is not restored; plain values, valid after the file closes.

    index: the stream's number in the input; kind: its type, as PyAV names it.
    codec: name of the input's codec, or the kind where FFmpeg has no decoder.
    encoder: name of FFmpeg's encoder where it is converted; cover: whether it is a cover picture.
    reason: why it is converted or dropped, for the user.
    unavoidable: whether no container could hold it, so that losing it doesn't stop a run.
    """

    index: int
    kind: str
    codec: str
    action: Action
    encoder: str | None = None
    reason: str = ""
    cover: bool = False
    unavoidable: bool = False


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
        if muxer != "matroska":
            return plan("drop", reason=f"{muxer} holds no attachments")
        reason = _why_not_attached(stream)
        return plan("drop", reason=reason) if reason else plan("attach")
    if is_picture(stream) and muxer in COVERLESS:
        return plan("drop", reason=f"{muxer} holds no cover pictures")
    if _is_made_by_muxers(stream):
        return plan("drop")
    if muxer == "avi" and _has_lengths(stream):
        return plan("drop", reason="avi can't hold h264 in the form that mp4, mov and mkv hold it")
    if holds(muxer, codec_name(stream)) and fits(muxer, lambda trial: copy_stream(trial, stream)):
        return plan("copy")
    reason = f"{muxer} can't hold {codec_name(stream)}"
    for encoder in _encoders(muxer, stream):
        known = holds(muxer, Codec(encoder, "w").canonical_name)
        if known and fits(muxer, partial(_add_encoder, encoder=encoder, stream=stream)):
            return plan("convert", encoder, reason)
    if isinstance(stream, DataStream) and stream.name is None:
        reason = "FFmpeg knows no codec of it, so no container can hold it"
        return plan("drop", reason=reason, unavoidable=True)
    return plan("drop", reason=reason)


def _why_not_attached(stream: Stream) -> str:
    """Why a cover picture can't be attached, nothing if it can, as all attachments can."""
    if isinstance(stream, AttachmentStream):
        return ""
    if codec_name(stream) not in PICTURE_TYPES:
        return f"a cover of {codec_name(stream)} can't be attached, only JPEG or PNG"
    if not stream.container.name.startswith("file:"):
        return "a cover from a pipe can't be attached, as it comes after the header is written"
    return "" if attachment(stream) else "the cover is empty"


def _is_made_by_muxers(stream: Stream) -> bool:
    """Whether this is a track of timecode or chapter titles of QuickTime, or Ogg's skeleton.

    Muxers make the first two anew, from the metadata and the chapters (FFmpeg discards the titles);
    the third is an index.
    """
    made = TIMECODE in stream.metadata or stream.discard == Discard.all
    skeleton = stream.container.format.name == "ogg"
    return stream.type == "data" and (made or skeleton)


def _has_lengths(stream: Stream) -> bool:
    """Whether it is H.264 whose units come after their lengths, as its header's begin tells
    (ISO/IEC 14496-15, 5.3.3.1), and not after start codes, as FFmpeg's AVI muxer wants them."""
    context: Any = stream.codec_context
    is_h264 = context is not None and codec_name(stream) == "h264"
    return is_h264 and bytes(context.extradata or b"")[:1] == b"\x01"


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
    """Give `output` the metadata and dispositions of `stream`.

    What mp4 and mov read as `name` they write from `title`, and other containers hold as that.
    """
    stale = ("encoder", "vendor_id", "bps", "duration", "number_of_", "_statistics", "alpha_mode")
    kept = {k: v for k, v in stream.metadata.items() if not k.lower().startswith(stale)}
    name = next((key for key in kept if key.lower() == "name"), None)
    if name is not None and "title" not in kept:
        kept["title"] = kept.pop(name)
    if "language" in kept:
        kept["language"] = language_in(output.container.format.name, kept["language"])
    output.metadata.update(kept)
    output.disposition = stream.disposition


def language_in(muxer: str, language: str) -> str:
    """The code by which `muxer` holds `language`, else that of ISO 639-2."""
    to_iso = {own: code for code, own in QUICKTIMES_OWN.items()}
    language = to_iso.get(language, language)
    if muxer != "mov":
        return language
    by_twin = TWINS | {second: first for first, second in TWINS.items()} | QUICKTIMES_OWN
    other = by_twin.get(language, language)
    return other if other in IN_QUICKTIME else language


def attachment(stream: Stream) -> tuple[str, str, bytes] | None:
    """File name, MIME type and bytes of an attachment, or of a JPEG or PNG cover in a file.

    None for a picture without a packet.
    """
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if isinstance(stream, AttachmentStream):
        name = tags.get("filename") or stream.name or "attachment"
        return name, stream.mimetype or "application/octet-stream", bytes(stream.data)
    name, mimetype = PICTURE_TYPES[codec_name(stream)]
    with open_alone(stream.container.name) as again:
        packet = next((p for p in again.demux(again.streams[stream.index]) if p.size), None)
        if packet is None:
            return None
        return tags.get("filename", name), tags.get("mimetype", mimetype), bytes(packet)


def chroma_location(video: VideoStream) -> str | None:
    """Where the chroma samples of `video` lie: "left", "center", "topleft", or None if unknown.

    PyAV doesn't tell; but the headers do that FFmpeg writes for a copy of the stream.
    """
    raw = video.container.format.name == Y4M
    muxer = Y4M if raw else "matroska"
    header = io.BytesIO()
    try:
        with av.open(header, "w", format=muxer, container_options=muxer_options(muxer)) as copy:
            copy.add_stream_from_template(video, opaque=True)
            copy.start_encoding()
    except (ValueError, av.FFmpegError):
        return None
    if raw:
        told = re.search(rb" C420(paldv|mpeg2|jpeg)", header.getvalue())
        return None if told is None else Y4M_SITINGS[told[1]]
    found = CHROMA_SITING.search(header.getvalue())
    return None if found is None else SITINGS.get((found[1][0], found[2][0]))


class Resampler:
    """Makes the sound that an encoder takes of frames whose format, layout and rate may change.

    context: the encoder's, opened.
    """

    def __init__(self, context: Any) -> None:
        self._target = context.format, context.layout, context.rate
        self._sizer = AudioResampler(*self._target, frame_size=context.frame_size)
        self._resampler = AudioResampler(*self._target)
        self._kind: tuple[str, str, int] | None = None

    def resample(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """The encoder's frames for one frame of the input; None at the end."""
        for alike in self._alike(frame):
            yield from self._sizer.resample(alike)
        if frame is None:
            yield from self._sizer.resample(None)

    def _alike(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """`frame` in the target's format, layout and rate, after what is left of another kind."""
        kind = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            yield from self._resampler.resample(None)
            self._resampler, self._kind = AudioResampler(*self._target), kind
        if frame is not None:
            yield from self._resampler.resample(frame)


class Converter:
    """Decodes the packets of one audio or text stream and encodes them for the output.

    damaged: packets so far that couldn't be decoded.
    """

    def __init__(self, output: OutputContainer, stream: Stream, encoder: str) -> None:
        self.input: Any = stream
        self.output: Any = _add_encoder(output, encoder=encoder, stream=stream)
        describe(self.output, stream)
        self.damaged = 0
        self._resampler: Resampler | None = None
        self._end: Fraction | None = None

    def convert(self, packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        """The output's packets for one of the input's; None at the end."""
        if self.input.type == "subtitle":
            yield from self._text(packet)
            return
        for frame in self._decode(packet):
            for even in self._stamp(frame):
                yield from self._encode(even)
        if packet is None:
            if self._resampler is not None:
                yield from self._encode(None)
            yield from self.output.encode(None)

    def _decode(self, packet: Packet[Any] | None) -> list[Any]:
        try:
            return list(self.input.decode(packet))
        except av.FFmpegError:
            self.damaged += 1
            return []

    def _stamp(self, frame: Any) -> Iterator[Any]:
        """`frame` right after the last one, after silence where sound is missing between them.

        Its time is told in samples, as AVI's unit is longer than an encoder's frame; smaller gaps
        than that silence, and frames that overlap, are the coarseness of their times.
        """
        rate = frame.sample_rate
        time = None if frame.pts is None else frame.pts * frame.time_base
        if self._end is None or (time is not None and time - self._end >= LONGEST_GAP):
            self._end = time or Fraction(0)
        frame.time_base = Fraction(1, rate)
        if time is not None and time - self._end > SHORTEST_GAP:
            silent = _silence(frame, round((time - self._end) * rate))
            silent.pts = round(self._end * rate)
            self._end = time
            yield silent
        frame.pts = round(self._end * rate)
        self._end += Fraction(frame.samples, rate)
        yield frame

    def _encode(self, frame: Any) -> Iterator[Packet[Any]]:
        if self._resampler is None:
            context = self.output.codec_context
            context.open(strict=False)
            self._resampler = Resampler(context)
        for even in self._resampler.resample(frame):
            yield from self.output.encode(even)

    def _text(self, packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        if packet is None or not packet.size:
            return
        try:
            subtitle = self.input.codec_context.decode2(packet)
            if subtitle is None or not len(subtitle):
                return
            encoded = self.output.codec_context.encode_subtitle(subtitle)
        except (ValueError, av.FFmpegError):
            self.damaged += 1
            return
        encoded.stream = self.output
        encoded.pts = encoded.dts = packet.pts
        encoded.duration = packet.duration
        encoded.time_base = packet.time_base
        yield encoded


def silence_before(packet: Packet[Any], due: Fraction, block: int) -> Packet[Any] | None:
    """Silence from `due` seconds on until a packet of PCM, None where there is no gap to fill.

    block: bytes of a sample of all channels.
    """
    context: Any = packet.stream.codec_context
    gap = (packet_time(packet) or due) - due
    if not SHORTEST_GAP < gap < LONGEST_GAP:
        return None
    size = round(gap * context.sample_rate) * block
    silent: Packet[Any] = Packet(SILENCE.get(context.name, b"\0") * size)
    silent.stream, silent.time_base = packet.stream, packet.time_base
    silent.pts = silent.dts = round(due / packet.time_base)
    return silent


def _silence(like: Any, samples: int) -> AudioFrame:
    """A frame of `samples` silent samples, in the format, layout and rate of `like`."""
    silent = AudioFrame(like.format.name, like.layout.name, samples)
    for plane in silent.planes:
        plane.update((b"\x80" if "u8" in like.format.name else b"\0") * plane.buffer_size)
    silent.sample_rate, silent.time_base = like.sample_rate, like.time_base
    return silent


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
