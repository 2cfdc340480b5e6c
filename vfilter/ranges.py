"""Ranges: what of a file's frames and packets lies in one, cut to it and shifted to 0."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from av.packet import Packet
from av.video.frame import VideoFrame

from vfilter.errors import ArgumentError
from vfilter.frames import pts_of
from vfilter.opening import is_picture, pcm_block
from vfilter.timeline import packet_time, shift

LONGEST_TIME = 1_000_000_000
"""Most seconds of a time: in nanoseconds, the finest unit of a container, they fit 64 bits."""

SLACK = Fraction(2)
"""Seconds that streams of one file may be interleaved apart (muxers aim at 1 or less)."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Part of a file: from `start` to `end` in seconds, at most `frames` frames; None for open."""

    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None

    @classmethod
    def of(cls, start: float | None, duration: float | None, frames: int | None) -> Self:
        """The range of so many seconds and frames.

        Raises ArgumentError if it can hold nothing, or is of more seconds than `LONGEST_TIME`.
        """
        most = f"at most {LONGEST_TIME:,} seconds"
        if start is not None and not 0 <= start <= LONGEST_TIME:
            raise ArgumentError(f"start must be 0 or more and {most}, got {start}")
        if duration is not None and not 0 < duration <= LONGEST_TIME:
            raise ArgumentError(f"duration must be more than 0 and {most}, got {duration}")
        if frames is not None and frames < 1:
            raise ArgumentError(f"frames must be 1 or more, got {frames}")
        begin = exact(start or 0)
        end = None if duration is None else begin + exact(duration)
        return cls(start=begin or None, end=end, frames=frames)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self.start is None and self.end is None and self.frames is None

    def frame_count(self, total: int, rate: Fraction) -> int:
        """Frames that it holds of a film of `total` at `rate` frames per second."""
        whole = Fraction(total) / rate
        end = whole if self.end is None else min(whole, self.end)
        count = max(0, round((end - (self.start or 0)) * rate))
        return count if self.frames is None else min(count, self.frames)


class Cut:
    """What of `items` lies in a range, shifted so that its first frame is at 0.

    items: frames and packets, with times from the begin of the file, frames in `time_base`.
    begin: time of the first frame in seconds, 0 before that is known.
    """

    def __init__(
        self,
        part: Range,
        items: Iterable[VideoFrame | Packet[Any]],
        time_base: Fraction,
        *,
        has_sound: bool,
    ) -> None:
        self._part, self._items, self._time_base = part, items, time_base
        self._has_sound = has_sound
        self._begun: dict[int, Fraction] = {}
        self.begin = Fraction(0)

    def expected_end(self, rate: Fraction) -> Fraction | None:
        """Where it will end in seconds, as far as the frame rate tells; None if open."""
        if self._part.frames is None:
            return self._part.end
        last = self.begin + self._part.frames / rate
        return last if self._part.end is None else min(self._part.end, last)

    def items(self, rate: Fraction) -> Iterator[VideoFrame | Packet[Any]]:
        """What lies in the range; captions that reach beyond it are cut by the frame `rate`.

        A packet of another stream waits until the video has reached its time, so that the
        number of frames bounds it too. Only a frame ends the reading: those before it may still be
        in the decoder when sound from beyond the end comes.
        """
        part = self._part
        if part.is_whole:
            yield from self._items
            return
        waiting: deque[Packet[Any]] = deque()
        end = part.end
        count = 0
        for item in self._items:
            if isinstance(item, Packet):
                if is_picture(item.stream):
                    yield item
                elif end is None or not _beyond(item, end + SLACK):
                    waiting.append(item)
                continue
            time = pts_of(item) * self._time_base
            if end is not None and (count == part.frames or time >= end):
                if time >= end + SLACK or not self._has_sound:
                    break
            elif part.start is None or time >= part.start:
                self.begin = time if count == 0 else self.begin
                count += 1
                until = time + self._time_base * item.duration
                until = until if end is None else min(until, end)
                if count == part.frames:
                    end = until
                item.pts = pts_of(item) - round(self.begin / self._time_base)
                yield item
                bounded = end is not None or part.frames is not None
                yield from self._due(waiting, until if bounded else None, self.expected_end(rate))
        if count:
            yield from self._due(waiting, end, end)

    def _due(
        self, waiting: deque[Packet[Any]], until: Fraction | None, end: Fraction | None
    ) -> Iterator[Packet[Any]]:
        """Take from `waiting` what is before `until`; give what lies in the range, shifted."""
        for _ in range(len(waiting)):
            packet = waiting.popleft()
            time = _time_in_order(packet)
            if time is not None and until is not None and time >= until:
                waiting.append(packet)
            elif (kept := self._cut_to(packet, end)) is not None:
                shift(kept, self.begin)
                yield kept

    def _cut_to(self, packet: Packet[Any], end: Fraction | None) -> Packet[Any] | None:
        """What of `packet` lies between `begin` and `end`."""
        time = packet_time(packet)
        if time is None:
            return None
        if packet.stream.type == "subtitle" and packet.duration:
            return _shortened(packet, time, self.begin, end)
        if packet.stream.type == "video":
            return packet if self._is_decodable(packet, time) else None
        return packet if time >= self.begin else _rest_of_sound(packet, time, self.begin)

    def _is_decodable(self, packet: Packet[Any], time: Fraction) -> bool:
        """Whether `packet`, shown at `time`, is of a video from its first key frame in range on."""
        if packet.is_keyframe and time >= self.begin:
            self._begun.setdefault(packet.stream.index, time)
        begun = self._begun.get(packet.stream.index)
        return begun is not None and time >= begun


def exact(seconds: float) -> Fraction:
    """The decimal that was meant, to the microsecond: 0.2 is a fifth and not a little more."""
    return Fraction(seconds).limit_denominator(1_000_000)


def _beyond(packet: Packet[Any], end: Fraction) -> bool:
    """Whether `packet` is audio from after `end`."""
    time = packet_time(packet)
    return packet.stream.type == "audio" and time is not None and time >= end


def _time_in_order(packet: Packet[Any]) -> Fraction | None:
    """The time in seconds by which the packets of a stream rise: that of decoding for a video.

    None if it has none, as the first packets of a video with B-frames in Matroska.
    """
    if packet.stream.type != "video":
        return packet_time(packet)
    return None if packet.dts is None else packet.dts * packet.time_base


def _shortened(
    packet: Packet[Any], time: Fraction, origin: Fraction, end: Fraction | None
) -> Packet[Any] | None:
    """A caption that begins at `time` as it is shown from `origin` to `end`, None if it isn't."""
    whole = time, time + (packet.duration or 0) * packet.time_base
    begin, stop = max(time, origin), whole[1] if end is None else min(whole[1], end)
    if begin >= stop:
        return None
    if (begin, stop) != whole:
        packet.pts = packet.dts = round(begin / packet.time_base)
        packet.duration = max(1, round((stop - begin) / packet.time_base))
    return packet


def _rest_of_sound(packet: Packet[Any], time: Fraction, origin: Fraction) -> Packet[Any] | None:
    """PCM that begins at `time` from `origin` on; None if that is nothing, or it is no PCM."""
    block = pcm_block(packet.stream)
    if block is None:
        return None
    context: Any = packet.stream.codec_context
    passed = round((origin - time) * context.sample_rate) * block
    if passed >= packet.size:
        return None
    rest: Packet[Any] = Packet(bytes(packet)[passed:])
    rest.stream, rest.time_base = packet.stream, packet.time_base
    rest.pts = rest.dts = round(origin / packet.time_base)
    length = Fraction(rest.size, block * context.sample_rate)
    rest.duration = round(length / packet.time_base)
    return rest
