"""Reading: the frames of the one restored video stream, and the packets of all others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from vfilter.bitstream import (
    DQT,
    QP_CODECS,
    Hints,
    add_quantizers,
    hints_of,
    jpeg_hints,
    own_quantizers,
)
from vfilter.errors import ArgumentError, InputError
from vfilter.frames import field_marking, pts_of, reformatted, side_data, tags_of
from vfilter.opening import (
    MAX_PIXELS,
    STANDARD_STREAM,
    Pipe,
    check_readable,
    check_size,
    decoder_of,
    is_picture,
    is_pipe,
    lossy_codec,
    main_video,
    open_input,
    packets_of,
)
from vfilter.ranges import Cut, Range
from vfilter.timeline import Timeline, packet_time, shift, with_following

__all__ = [
    "MAX_PIXELS",
    "STANDARD_STREAM",
    "Source",
    "hints_of",
    "is_picture",
    "main_video",
    "open_input",
    "own_quantizers",
    "packet_time",
    "pts_of",
    "reformatted",
    "side_data",
]

RAW = "yuv4mpegpipe"
"""The demuxer of y4m, which tells nothing either of a file or a pipe that ends within a frame."""

CUT_SHORT = Fraction(98, 100)
"""Share of the length in Matroska's header that a file must have, but for a second; its demuxer
tells nothing of a file that was cut off. Others do, or have no length in their header."""

INDEXED = ("mov,mp4", "matroska", "avi")
"""Demuxers that seek by an index, and so land exactly on a key frame."""

REORDERED = 40
"""Frames that a key frame is decoded at most before one that is shown earlier: those between two of
the longest pyramids in use (32), and as many as are held to be put in order."""


class Source:
    """An opened input; iterating gives `VideoFrame` of `video` and `Packet` of other streams.

    Frames come in order of presentation with strictly increasing pts in `video.time_base`;
    frames and packets are shifted together so that the earliest stream starts at 0 or later.
    Pixel format and size of all frames are those of the first. Meanwhile it counts what it met:
    `damaged`, `repaired` (times), `resized`, and `retagged` (by name in `TAGS`, the frames that
    are not tagged as the first one).

    start, duration: the range to read, in seconds from the beginning of the file.
    frames: the most frames to read.
    hints: whether the frames carry what the stream tells of their compression (`hints_of`).
    strict: whether the first damaged packet or frame is an error.
    max_pixels: most pixels of a frame; larger ones are not decoded.
    Raises InputError if the file can't be read, is encrypted, or no frame of it decoded, and while
    iterating if reading fails; ArgumentError for a range that can hold no frame; ValueError while
    iterating once it is closed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start: float | None = None,
        duration: float | None = None,
        frames: int | None = None,
        hints: bool = True,
        strict: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._part = Range.of(start, duration, frames)
        if max_pixels < 1:
            raise ArgumentError(f"max_pixels must be 1 or more, got {max_pixels}")
        self.name = str(path)
        self.pipe = Pipe(path) if is_pipe(path) else None
        self._strict = strict
        self._reached = 0
        self._mark_fields: Callable[[VideoFrame], VideoFrame] | None = None
        self.damaged = 0
        self.resized = 0
        self.retagged: dict[str, int] = {}
        self._closed = False
        self._opened = ExitStack()
        if self.pipe is not None:
            self._opened.callback(self.pipe.close)
        try:
            self.container = open_input(path, self.pipe, max_pixels=max_pixels)
            self._opened.callback(self.container.close)
            self.video = main_video(self.container, self.name)
            self.others = [s for s in self.container.streams if s.index != self.video.index]
            self._codec = lossy_codec(self.video) if hints else None
            self._prepare_decoder(max_pixels)
            self._times = Timeline(self.container, self.video)
            self._seek()
            has_sound = bool(self.container.streams.audio)
            self._cut = Cut(self._part, self._all(), self.time_base, has_sound=has_sound)
            self._items = self._cut.items(self.rate)
            self._ahead: deque[VideoFrame | Packet[Any]] = deque()
            self.first = self._first()
        except BaseException:
            self._opened.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._opened.close()

    def __iter__(self) -> Iterator[VideoFrame | Packet[Any]]:
        while self._ahead:
            yield self._ahead.popleft()
        tags = tags_of(self.first)
        while (item := self._next()) is not None:
            if isinstance(item, VideoFrame):
                self._compare(item, tags)
            yield item

    def _next(self) -> VideoFrame | Packet[Any] | None:
        """What follows, None at the end; FFmpeg would read a closed file's memory."""
        if self._closed:
            raise ValueError("the source is closed: open a new one")
        return next(self._items, None)

    @property
    def rate(self) -> Fraction:
        """Frames per second, 25 where the file doesn't tell."""
        return self._times.rate

    @property
    def time_base(self) -> Fraction:
        """The unit of the frames' pts, in seconds."""
        return self._times.time_base

    @property
    def repaired(self) -> int:
        """Times so far that were missing, twice the same, or out of order."""
        return self._times.repaired

    @property
    def frame_count(self) -> int | None:
        """The number of frames to come as far as the header tells, None if it doesn't."""
        total = self.video.frames
        if not total and self.container.duration:
            total = round(Fraction(self.container.duration, av.time_base) * self.rate)
        return self._part.frame_count(total, self.rate) if total else self._part.frames

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """Width by height of a pixel, told by the container or else the decoder, or None."""
        return self.video.sample_aspect_ratio or self._decoder.sample_aspect_ratio or None

    def lateness(self, stream: Stream) -> Fraction:
        """Seconds that `stream` begins after the first frame, by its header; 0 if it is earlier."""
        if stream.start_time is None or stream.time_base is None:
            return Fraction(0)
        film = pts_of(self.first) * self.time_base + self._cut.begin
        return max(stream.start_time * stream.time_base - self._times.origin - film, Fraction(0))

    def chapters(self) -> list[Any]:
        """The chapters in the range, shifted like the frames, as PyAV takes them."""
        begin, end = self._cut.begin, self._cut.expected_end(self.rate)
        shifted = []
        for chapter in self.container.chapters():
            base = chapter["time_base"] or Fraction(1)
            times = (chapter[side] * base - self._times.origin for side in ("start", "end"))
            start, stop = (max(t if end is None else min(t, end), begin) for t in times)
            if start < stop or self._part.is_whole:
                ticks = {"start": round((start - begin) / base)}
                ticks["end"] = round((stop - begin) / base)
                shifted.append({**chapter, **ticks})
        return shifted

    def _prepare_decoder(self, max_pixels: int) -> None:
        self._decoder = decoder_of(self.video)
        check_size(self._decoder, max_pixels, self.name)
        # frame threads race where decoders like MPEG-4's conceal damage, and where H.264's exports
        # the quantizers of a picture that another thread still decodes: no two runs were alike
        racing = QP_CODECS.get(self._decoder.name) in ("mpeg4", "h264")
        # packets hand their hints to their frames, which frame threads would free, waiting for
        # Python's lock, while Python waits for them
        handing = self._codec == "mjpeg"
        self._decoder.copy_opaque = handing
        self._decoder.thread_type = "AUTO"
        if racing or handing:  # nor threads for slices: they don't tell what was concealed
            self._decoder.thread_count = 1
        exported = {"export_side_data": "venc_params"} if self._codec in QP_CODECS else {}
        self._decoder.options = {"max_pixels": str(max_pixels)} | exported

    @cached_property
    def _bits_per_pixel(self) -> float | None:
        """Bits for a pixel by the headers; None if they tell those of all streams together."""
        alone = len(self.container.streams) == 1
        bits = self.video.bit_rate or (self.container.bit_rate if alone else None)
        pixels = self.video.width * self.video.height * (self.video.average_rate or 0)
        return float(bits / pixels) if bits and pixels else None

    def _seek(self) -> None:
        """Go near the begin of the range, where that is exact; the rest is read and passed over."""
        if not (self._part.start and self.container.format.name.startswith(INDEXED)):
            return
        origin = self._times.origin / self.time_base
        target = int(origin + self._part.start / self.time_base)
        if not self.container.format.name.startswith("matroska"):
            target = self._decoded_before(target)
        if target > origin:  # AVI misreads what is before 0
            with suppress(av.FFmpegError):  # with a damaged index all is read
                self.container.seek(target, stream=self.video)

    def _decoded_before(self, target: int) -> int:
        """The decoding time, which mp4 and AVI seek by, of a frame `REORDERED` before `target`.

        target: a time of presentation in `time_base`. Where the header tells no number of frames,
        the index may grow while fragments are read, and the frame rate tells.
        """
        if not self.video.frames:
            return target - round(REORDERED / (self.rate * self.time_base))
        index = self.video.index_entries
        place = index.search_timestamp(target, any_frame=True)
        return int(index[max(0, place - REORDERED)].timestamp) if len(index) else 0

    def _first(self) -> VideoFrame:
        for item in self._items:
            self._ahead.append(item)
            if isinstance(item, VideoFrame):
                packets = (other for other in self._ahead if isinstance(other, Packet))
                self._times.begin_at_zero(item, packets)
                return item
        piped = self.pipe is not None and not self.pipe.seekable()
        piped = piped and self.container.format.name != RAW  # that needs no seeking
        hint = "a pipe can't be sought in, so name the file" if piped else "is the file complete?"
        in_part = self._part.start is not None and not piped
        raise InputError(
            f"{self.name}: no frame of its video could be decoded"
            + (" in the range asked for" if in_part else f"; {hint}")
        )

    def _all(self) -> Iterator[VideoFrame | Packet[Any]]:
        """Everything in the file, in the order of its packets."""
        last: VideoFrame | None = None
        for item, following in with_following(self._decoded()):
            if isinstance(item, Packet):
                shift(item, self._times.origin)
                yield item
                continue
            self._times.stamp(item, following)
            add_quantizers(item, last)
            last = self._like(item, last)
            yield last

    def _decoded(self) -> Iterator[VideoFrame | Packet[Any]]:
        """Everything in the file with its own times; frames without the quantizers."""
        table: Hints | None = None
        for packet in self._packets():
            self._check_encryption(packet)
            if packet.stream.index != self.video.index:
                if packet.size:
                    yield packet
                continue
            if packet.size and self._codec == "mjpeg":
                told = jpeg_hints(bytes(packet))
                if told.luma_table is not None:
                    table = told
                elif table is not None and DQT not in bytes(packet):
                    told = replace(table)  # as FFmpeg; a copy, since PyAV keeps each object once
                packet.opaque = told
            if packet.size and self._mark_fields is None:
                self._mark_fields = field_marking(self._decoder, bytes(packet), self.time_base)
            for frame in self._decode(packet):
                if self._codec not in (None, "mjpeg"):
                    frame.opaque = Hints(codec=self._codec, bits_per_pixel=self._bits_per_pixel)
                yield self._mark_fields(frame) if self._mark_fields else frame

    def _packets(self) -> Iterator[Packet[Any]]:
        """All packets; damage of the container ends them as the end of the file would.

        Raises InputError where reading failed and not the file: FFmpeg tells many a failing disk
        as the end of the file.
        """
        end = Fraction(0)
        try:
            for packet in packets_of(self.container):
                self._reached = max(self._reached, (packet.pos or 0) + packet.size)
                missing = self._times.recover(packet)
                whole = packet.stream.index == self.video.index  # there a unit of time is a frame
                self._count_damage(missing if whole else bool(missing), "packets are missing")
                self._times.join(packet)
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                yield packet
        except av.FFmpegError as error:
            self._count_damage(1, str(error))
        except IndexError:  # PyAV, at the end, of a stream that appeared on the way
            self._count_damage(1, "a stream appears that the header does not tell")
        if self.pipe is not None:
            self.pipe.check()
        else:
            check_readable(Path(self.name), self._reached)
        told = Fraction(self.container.duration or 0, av.time_base)
        if "matroska" in self.container.format.name and end < CUT_SHORT * told - 1:
            self._count_damage(
                1, f"it ends after {float(end):.1f} of the {float(told):.1f} s in its header"
            )
        if self.container.format.name == RAW:
            size = self.container.size
            if self.pipe is not None and not self.pipe.seekable():
                size = self.pipe.size
            self._count_damage(size > self._reached > 0, "it ends within a frame")

    def _check_encryption(self, packet: Packet[Any]) -> None:
        if packet.has_sidedata("encryption_info"):
            raise InputError(
                f"{self.name}: stream {packet.stream.index} ({packet.stream.type}) is encrypted; "
                "decrypt the file first"
            )

    def _decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        try:
            frames: list[VideoFrame] = self._decoder.decode(packet)
        except av.FFmpegError as error:
            self._count_damage(1, str(error))
            return []
        incomplete = sum(frame.is_corrupt for frame in frames)
        if packet.is_corrupt and self._decoder.name == "mjpeg":  # which says nothing of it
            incomplete = max(incomplete, 1)
        self._count_damage(incomplete, "a frame is incomplete")
        return frames

    def _count_damage(self, count: int, what: str) -> None:
        """Count damaged packets or frames. Raises InputError at the first one if strict."""
        self.damaged += count
        if count and self._strict:
            raise InputError(
                f"{self.name}: damaged at byte {self._reached} or before ({what}); "
                "without --strict it is restored as far as it goes"
            )

    def _compare(self, frame: VideoFrame, tags: Mapping[str, Any]) -> None:
        """Count what `frame` is tagged with otherwise than the first one, whose tags are `tags`."""
        for name, value in tags_of(frame).items():
            if value != tags.get(name):
                self.retagged[name] = self.retagged.get(name, 0) + 1

    def _like(self, frame: VideoFrame, last: VideoFrame | None) -> VideoFrame:
        """`frame` in the size and pixel format of the frames before it, as FFmpeg scales them."""
        if last is None:
            return frame
        shape = (last.width, last.height, last.format.name)
        if (frame.width, frame.height, frame.format.name) == shape:
            return frame
        self.resized += 1
        frame = reformatted(frame, *shape)
        # its blocks are no longer where they were
        frame.opaque = Hints(codec=self._codec, bits_per_pixel=self._bits_per_pixel)
        return frame
