"""Writing: the restored stream, its tags, and everything that is kept beside it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Self

import av
from av.codec.context import CodecContext, Flags
from av.container import OutputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame

from vfilter.encoders import Y4M, Encoding, bottom_first, muxer_options, open_encoder
from vfilter.errors import OutputError
from vfilter.luma import planar
from vfilter.opening import pcm_block
from vfilter.segments import Segments
from vfilter.source import (
    STANDARD_STREAM,
    Source,
    is_picture,
    pts_of,
    reformatted,
    side_data,
)
from vfilter.streams import (
    IN_QUICKTIME,
    UNTOLD_LANGUAGE,
    Converter,
    StreamPlan,
    attachment,
    copy_stream,
    describe,
    language_in,
    silence_before,
)
from vfilter.timeline import packet_time
from vfilter.verify import NOTICED, Record
from vfilter.y4m import Y4mFile

ITUNES = {
    *("title", "artist", "album", "album_artist", "comment", "composer", "copyright", "date"),
    *("description", "encoder", "episode_id", "genre", "grouping", "keywords", "lyrics"),
    *("network", "performer", "show", "sort_name", "synopsis", "track", "disc", "location"),
    *("creation_time", "timecode", "compatible_brands", "major_brand", "minor_version"),
}
"""Metadata that mp4 holds in its ordinary atoms; any other makes it use QuickTime keys for all."""

OF_THE_FILE = {"compatible_brands", "major_brand", "minor_version", "encoder", "duration"}
"""Metadata that describes the input's container and not what it holds."""

MUXERS = ("mp4", "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "3gp", "3g2", Y4M)
"""Muxers whose files are known to hold what they are given; m4v's (ipod) gives way to mp4's."""

TOP_FIRST, BOTTOM_FIRST = 2, 3
"""FFmpeg's AVFieldOrder: the field that comes first and is shown first."""

UNEVEN = Fraction(1, 100)
"""How far the mean frame rate may be from the rate of a film of even times, as a share."""

COUNTING = ("avi", Y4M)
"""Muxers of containers that tell times by counting frames."""

COUNTING_SAMPLES = ("avi", "mp4", "mov", "3gp", "3g2")
"""Muxers of containers that tell the times of PCM by counting its samples."""

CHAPTERLESS = ("avi", "mpegts", "mpeg", "flv")
"""Muxers of containers that hold no chapters."""

MPEG4_TICKS = 65535
"""Most ticks per second of MPEG-4 Part 2 (ISO/IEC 14496-2, vop_time_increment_resolution)."""

RATE_TOLERANCE = 128_000
"""Bits per second that PyAV gives the encoder of a stream for its rate to be off."""

AVI_RATE = 240
"""Most frames per second of an AVI, whose times are multiples of one frame."""


class Sink:
    """An output being written; complete, and under its name, only when closed without an error.

    Meanwhile it counts: `damaged` packets of other streams that were left out, and `moved`
    frames, whose time is off by more than half a frame, as the container counts frames.

    segments: where the encoded segments are kept, and taken from; None to keep none.
    record: notes what is to be found again in the complete output.
    seal: called with the complete output's path before it has its name.
    Raises OutputError if it can't be written.
    """

    def __init__(
        self,
        path: str | Path,
        source: Source,
        encoding: Encoding,
        plans: Sequence[StreamPlan],
        segments: Segments | None = None,
        record: Record | None = None,
        seal: Callable[[Path], None] | None = None,
    ) -> None:
        self.path = path
        self.muxer = muxer_of(path)
        self._target = None if str(path) == STANDARD_STREAM else Path(path).resolve()
        self._part = None if self._target is None else part_of(self._target)
        if segments is not None:
            self._part = segments.part
        self._source = source
        self._encoding = encoding
        self._converters: dict[int, Converter] = {}
        self._copies: dict[int, Stream] = {}
        self._last_dts: dict[int, int] = {}
        self._undated: dict[int, list[Packet[Any]]] = {}
        self._heard: dict[int, Fraction] = {}
        self._last_video_dts: int | None = None
        self._segments = segments
        self._record = record
        self._seal = seal
        self._segment = 0
        self._stored: Iterator[Packet[Any]] = iter(())
        self._encoder: Any = None
        self._times: list[Fraction] = []
        self._places = 0
        self.moved = 0
        self._y4m: Y4mFile | None = None
        self.container = self._open(plans)
        try:
            self.video = self._add_video()
            self._add_others(plans)
            self._describe()
            open_encoder(self.video.codec_context)
            self.container.start_encoding()
        except (av.FFmpegError, ValueError, OSError) as error:
            self._abandon()
            raise self._unwritable(error) from error
        except BaseException:
            self._abandon()
            raise

    @property
    def damaged(self) -> int:
        """Packets so far of other streams that were too damaged to be converted."""
        return sum(converter.damaged for converter in self._converters.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish()
        else:
            self._fail(error)

    def write(self, frame: VideoFrame, segment: int = 0) -> None:
        """Encode one frame of the restored stream, with its pts, as one of `segment`."""
        self._turn_to(segment)
        if self._encoder is None:
            self._encoder = self._next_encoder()
        frame = encodable(frame, self._encoding.pix_fmt)
        frame.opaque = None  # else threads of the encoder would free it, waiting for Python's lock
        frame.pict_type = PictureType.NONE
        self._time(frame)
        self._encode(frame)

    def keep(self, frame: VideoFrame, segment: int) -> None:
        """Pass over a frame, not restored, of a finished `segment`: it is taken from there."""
        if self._segments is None:
            raise ValueError(f"segment {segment} can't be kept: there are no segments")
        if self._turn_to(segment):
            self._stored = self._segments.read(segment)
        self._time(frame)
        self._mux_video(packet for _, packet in zip(range(1), self._stored, strict=False))

    def _turn_to(self, segment: int) -> bool:
        """End the segment before `segment`, and tell whether that is another one, or the first."""
        if segment == self._segment and self._times:
            return False
        self._end_segment()
        self._segment = segment
        return True

    def _end_segment(self) -> None:
        """Write what is left of the current segment."""
        if self._encoder is not None:
            self._encode(None)
            if self._segments is not None:
                tick = self._encoder.time_base
                self._segments.finish(self._segment, self._times, tick)
            self._encoder = None
        self._mux_video(self._stored)
        self._times = []

    def _encode(self, frame: VideoFrame | None) -> None:
        packets = self._encoder.encode(frame)
        if self._segments is not None:
            for packet in packets:
                self._segments.add(packet)
        self._mux_video(packets)

    def _mux_video(self, packets: Iterable[Packet[Any]]) -> None:
        """Write packets of the restored stream, their dts rising across segments too.

        x265 gives no dts worth the name to the one or two frames of a short segment.
        """
        for packet in packets:
            last = self._last_video_dts
            if last is not None and packet.dts is not None and packet.pts is not None:
                packet.dts = max(min(packet.dts, packet.pts), last + 1)
            self._last_video_dts = packet.dts
            packet.stream = self.video
            self.container.mux(packet)

    def _time(self, frame: VideoFrame) -> None:
        """Note the time of `frame`, which becomes that of the output where that counts frames."""
        if self.muxer in COUNTING:
            self._place(frame)
        time = pts_of(frame) * (frame.time_base or self._source.time_base)
        self._times.append(time)
        if self._record is not None:
            self._record.add_frame(encodable(frame, self._encoding.pix_fmt), time)

    def copy(self, packet: Packet[Any]) -> None:
        """Write a packet of another stream, as it is or converted."""
        index = packet.stream.index
        if index in self._converters:
            for converted in self._converters[index].convert(packet):
                if self._record is not None:
                    self._record.add_stream(converted.stream.index)
                self.container.mux(converted)
        elif index in self._copies:
            if is_picture(packet.stream):
                packet.pts = packet.dts = 0
            for whole in self._without_gap(packet):
                self._copy(whole, self._copies[index])

    def _copy(self, packet: Packet[Any], copy: Stream) -> None:
        """Write a packet to the stream `copy`, unless it has no time at all.

        The first packets of a video with B-frames have no dts in Matroska: they wait for one that
        has.
        """
        if packet.pts is None and packet.dts is None:
            return
        if self._record is not None:
            self._record.add_packet(copy.index, packet)
        index = packet.stream.index
        if packet.dts is None and packet.stream.type == "video" and index not in self._last_dts:
            self._undated.setdefault(index, []).append(packet)
            return
        for undated in self._dated(index, packet.dts):
            self._mux_copy(undated, copy)
        self._mux_copy(packet, copy)

    def _dated(self, index: int, due: int | None) -> Iterator[Packet[Any]]:
        """The packets of a video that wait for a dts, decoded one frame each before `due`.

        due: dts of the packet after them, None at the end.
        """
        waiting = self._undated.pop(index, [])
        times = [packet.pts for packet in waiting] + [due]
        latest = min((time for time in times if time is not None), default=0)
        for left, packet in zip(range(len(waiting), 0, -1), waiting, strict=True):
            packet.dts = latest - left * max(1, packet.duration or 0)
            yield packet

    def _mux_copy(self, packet: Packet[Any], copy: Stream) -> None:
        self._order(packet)
        packet.stream = copy
        self.container.mux(packet)

    def _without_gap(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """`packet`, after silence where PCM lost some and the container counts what there is."""
        block = pcm_block(packet.stream) if self.muxer in COUNTING_SAMPLES else None
        time = packet_time(packet)
        if block is not None and time is not None:
            context: Any = packet.stream.codec_context
            due = self._heard.get(packet.stream.index, time)
            if (silent := silence_before(packet, due, block)) is not None:
                due = time
                yield silent
            length = Fraction(packet.size, block * context.sample_rate)
            self._heard[packet.stream.index] = due + length
        yield packet

    def _order(self, packet: Packet[Any]) -> None:
        """Give a packet to be copied times that any muxer takes.

        That is dts later than the last one's, pts no earlier than dts, and both there. Streams
        that come in bursts (subtitles, data) may have several packets at a time.
        """
        told = [time for time in (packet.pts, packet.dts) if time is not None]
        pts, dts = told[0], told[-1]
        last = self._last_dts.get(packet.stream.index)
        if packet.stream.type == "video":
            dts = min(dts, pts)
        if packet.stream.type in ("audio", "video") and last is not None:
            dts = max(dts, last + 1)
        packet.dts, packet.pts = dts, max(pts, dts)
        self._last_dts[packet.stream.index] = dts

    def _open(self, plans: Sequence[StreamPlan]) -> OutputContainer:
        options = muxer_options(self.muxer)
        coverless = self.muxer == "mov" or (self.muxer == "mp4" and not _has_cover(plans))
        if coverless and _beyond_itunes(self._source):
            options["movflags"] = "use_metadata_tags"
        try:
            if self._target is not None:
                _check_name(self._target)
            if self.muxer == Y4M:
                self._y4m = Y4mFile(self._part, self._source.sample_aspect_ratio)
            target: Any = self._y4m or f"file:{self._part}"
            return av.open(target, "w", format=self.muxer, container_options=options)
        except (av.FFmpegError, OSError) as error:
            raise self._unwritable(error) from error

    def _add_video(self) -> Any:
        source, encoding, first = self._source, self._encoding, self._source.first
        stream: Any = self.container.add_stream(
            encoding.codec, rate=source.rate, options=dict(encoding.options)
        )
        self._configure(stream.codec_context)
        describe(stream, source.video)
        matrix = side_data(first, Type.DISPLAYMATRIX)
        if matrix is not None:
            stream.set_display_matrix(struct.unpack("=9i", matrix))
        return stream

    def _next_encoder(self) -> Any:
        """A new encoder for a segment, whose memory goes with it; else the stream's own.

        The stream's own, whose header the output has, is there until the output is complete.
        """
        if self._segments is None:
            return self.video.codec_context
        context: Any = CodecContext.create(self._encoding.codec, "w")
        context.options = dict(self._encoding.options)
        context.framerate = self._source.rate
        context.bit_rate, context.bit_rate_tolerance = 0, RATE_TOLERANCE  # as in a stream
        context.flags |= self.video.codec_context.flags & Flags.global_header
        self._configure(context)
        open_encoder(context)
        return context

    def _configure(self, context: Any) -> None:
        """Tell an encoder all that the frames and the source tell, before it is opened."""
        source, encoding, first = self._source, self._encoding, self._source.first
        context.width, context.height = first.width, first.height
        context.pix_fmt = encoding.pix_fmt
        context.time_base = self._time_base()
        context.flags |= Flags.frame_duration
        if source.sample_aspect_ratio:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        for tag in ("color_primaries", "color_trc"):
            setattr(context, tag, getattr(first, tag))
        given = encodable(first, encoding.pix_fmt)
        context.color_range, context.colorspace = given.color_range, given.colorspace
        context.field_order = source.video.codec_context.field_order
        if first.interlaced_frame:
            context.field_order = BOTTOM_FIRST if bottom_first(first) else TOP_FIRST
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me

    def _time_base(self) -> Fraction:
        """The source's, if the encoder can; one frame where the container counts in frames."""
        if self.muxer in COUNTING:
            finest = self._source.video.base_rate or self._source.rate
            rate = max(self._source.rate, min(finest, Fraction(AVI_RATE)))
            return 1 / (rate if self.muxer == "avi" else self._source.rate)
        base = self._source.time_base
        if self._encoding.codec == "mpeg4":
            base *= -(-base.denominator // MPEG4_TICKS)
        return base

    def _place(self, frame: VideoFrame) -> None:
        """Give `frame` its time in a container that counts frames: in AVI the nearest free place.

        An AVI begins with a frame at 0. If the first one is at most a place late, all come that
        much earlier; if more, it is held until the next.
        """
        unit = self._time_base()
        late = pts_of(self._source.first) * self._source.time_base
        held = self.muxer == "avi" and late > unit
        time = pts_of(frame) * self._source.time_base - (0 if held else late)
        place = self._places
        if self.muxer == "avi":
            place = max(place, round(time / unit))
        self.moved += abs(place * unit - time) > unit / 2
        length = round(frame.duration * self._source.time_base / unit)
        frame.pts, frame.duration, frame.time_base = place, max(1, length), unit
        self._places = place + 1

    def _add_others(self, plans: Sequence[StreamPlan]) -> None:
        for plan in plans:
            stream = self._source.container.streams[plan.index]
            if plan.action == "copy":
                self._copies[plan.index] = copy_stream(self.container, stream)
            elif plan.action == "convert" and plan.encoder is not None:
                self._converters[plan.index] = Converter(self.container, stream, plan.encoder)
            elif plan.action == "attach":
                self._attach(stream)

    def _attach(self, stream: Stream) -> None:
        found = attachment(stream)
        if found is not None:
            attached = self.container.add_attachment(*found)
            title = {k: v for k, v in stream.metadata.items() if k.lower() == "title"}
            attached.metadata.update(title)

    def _describe(self) -> None:
        source = self._source.container
        self.container.metadata.update(
            {
                k: v
                for k, v in source.metadata.items()
                if k.lower() not in OF_THE_FILE and not _is_twin(k, source.metadata)
            }
        )
        chapters = self._source.chapters()
        if chapters:
            self.container.set_chapters(chapters)

    def _finish(self) -> None:
        try:
            self._end_segment()
            for index in tuple(self._undated):
                for packet in self._dated(index, None):
                    self._mux_copy(packet, self._copies[index])
            for converter in self._converters.values():
                for packet in converter.convert(None):
                    self.container.mux(packet)
            self.container.close()
            if self._y4m is not None:
                self._y4m.close()
            if self._part is not None and self._target is not None:
                if self._seal is not None:
                    self._seal(self._part)
                _save(self._part)
                self._part.replace(self._target)
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """Leave nothing behind; raise OutputError if `error` is one of writing."""
        self._abandon()
        if isinstance(error, (av.FFmpegError, OSError)):
            raise self._unwritable(error) from error

    def _unwritable(self, error: BaseException) -> OutputError:
        return OutputError(f"{self.path}: can't be written ({_reason(error)})")

    def _abandon(self) -> None:
        with suppress(av.FFmpegError, ValueError, OSError):  # the error that led here says more
            self.container.close()
            if self._y4m is not None:
                self._y4m.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)


def _save(path: Path) -> None:
    """Wait until the disk holds a file, so that a power cut after this can't take it."""
    with path.open("ab") as file:
        os.fsync(file.fileno())


def encodable(frame: VideoFrame, pix_fmt: str) -> VideoFrame:
    """`frame` in the encoder's pixel format: the same codes, unless that is of another kind."""
    frame = planar(frame)
    if frame.format.name == pix_fmt:
        return frame
    return reformatted(frame, frame.width, frame.height, pix_fmt)


def muxer_of(path: str | Path) -> str:
    """FFmpeg's muxer for a file name: by its ending, y4m for "-".

    Raises OutputError if no muxer goes by that ending, or none that is known to serve.
    """
    if str(path) == STANDARD_STREAM:
        return Y4M
    probe = "file:name" + Path(path).suffix
    advice = "use .mp4, .mkv, .mov, .avi or .webm"
    try:
        with av.open(probe, "w") as container:
            muxer = {"ipod": "mp4"}.get(container.format.name, container.format.name)
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"{path}: no container goes by that ending; {advice}") from error
    if muxer not in MUXERS:
        raise OutputError(f"{path}: the container {muxer} is not supported; {advice}")
    return muxer


def part_of(path: Path) -> Path:
    """A name beside `path`, short and of its own, for an output until it is complete."""
    return path.with_name(f".{token_hex(4)}.part")


def _check_name(path: Path) -> None:
    """Raise OSError if the file system takes no such name, before there is work to lose."""
    with suppress(FileNotFoundError):
        path.lstat()


def untold(muxer: str, source: Source, plans: Sequence[StreamPlan]) -> tuple[str, ...]:
    """What the container can't tell beside its streams, each a sentence for the user."""
    notes = []
    chapters = len(source.chapters())
    if chapters and muxer in CHAPTERLESS:
        notes.append(f"{muxer} can't hold the {chapters} chapters")
    for plan in plans:
        late = source.lateness(source.container.streams[plan.index])
        if muxer == "avi" and plan.kind == "audio" and late > NOTICED:
            notes.append(f"avi can't hold that stream {plan.index} begins {float(late):.2f} s late")
    if muxer == Y4M and _is_uneven(source):
        rate = f"{float(source.rate):.4g}"
        notes.append(f"y4m holds no times: frames of a varying rate are told to be at {rate}/s")
    if muxer == "mov":
        notes.extend(_languages_lost(source, plans))
    tags = _beyond_itunes(source)
    if tags and muxer == "mp4" and _has_cover(plans):
        notes.append(f"mp4 with a cover picture can't hold the tags {', '.join(tags)}")
    return tuple(notes)


def _is_uneven(source: Source) -> bool:
    """Whether the frame rate varies, as far as the header tells.

    Then the mean is another, or the finest one more than that of fields.
    """
    mean = source.video.average_rate or source.rate
    finest = source.video.base_rate or source.rate
    return abs(mean / source.rate - 1) > UNEVEN or finest > source.rate * (2 + UNEVEN)


def _languages_lost(source: Source, plans: Sequence[StreamPlan]) -> list[str]:
    """A note for each stream whose language mov has no number for."""
    kept = [source.video.index, *(p.index for p in plans if p.action in ("copy", "convert"))]
    languages = {i: source.container.streams[i].metadata.get("language") for i in kept}
    return [
        f"mov can't hold the language {language} of stream {index}"
        for index, language in languages.items()
        if language not in (None, UNTOLD_LANGUAGE)
        and language_in("mov", str(language)) not in IN_QUICKTIME
    ]


def _has_cover(plans: Sequence[StreamPlan]) -> bool:
    return any(plan.cover and plan.action == "copy" for plan in plans)


def _beyond_itunes(source: Source) -> list[str]:
    """The names of the file's tags that mp4 holds only among QuickTime keys."""
    tags = source.container.metadata
    return [key for key in tags if key.lower() not in ITUNES and not _is_twin(key, tags)]


def _is_twin(key: str, tags: Mapping[str, str]) -> bool:
    """Whether a tag is FFmpeg's second reading of one in mp4, with the language in its name."""
    name, _, language = key.rpartition("-")
    return len(language) == 3 and tags.get(name) == tags[key]


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
