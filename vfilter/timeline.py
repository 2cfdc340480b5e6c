"""The times of frames and packets: one origin for all streams, and repaired where they are none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vfilter.frames import pts_of

JOINABLE = ("mpeg", "mpegts")
"""Demuxers of files that may be joined as they are, so that times may begin anew."""

BACKWARDS = Fraction(1, 10)
"""Seconds that packets of a stream go back at least where times begin anew (as FFmpeg's command
line has it)."""

SHORTEST = Fraction(1, 1000)
"""Seconds that a frame is shown at least, where damaged files tell less: mp4 counts the length of a
film in these, and players leave out a last frame that is shorter."""

CHUNK_HEADER = 8
"""Bytes of the name and the size of a chunk (RIFF), which an AVI's index points at."""


class Timeline:
    """The times of one input's items, shifted together so that the earliest is at 0 or later.

    rate: frames per second, 25 where the file doesn't tell; time_base: unit of the frames' pts,
    in seconds. origin: the file's time in seconds that becomes 0.
    repaired: times so far that were missing, twice the same, or out of order.
    """

    def __init__(self, container: InputContainer, video: VideoStream) -> None:
        self.rate: Fraction = video.guessed_rate or video.average_rate or Fraction(25)
        self.time_base: Fraction = video.time_base or 1 / self.rate
        self.origin = max(Fraction(container.start_time or 0, av.time_base), Fraction(0))
        self.repaired = 0
        self._counts_dts = container.format.name == "avi"
        self._joinable = container.format.name in JOINABLE
        self._tells_times = video.start_time is not None
        self._latest: int | None = None
        self._jump = Fraction(0)
        self._due: dict[int, Fraction] = {}
        self._indexed = {
            stream.index: {
                entry.pos + CHUNK_HEADER: entry.timestamp for entry in stream.index_entries
            }
            for stream in container.streams
            if self._counts_dts
        }
        self._missing: dict[int, int] = {}
        # what the index counts for a unit of time: frames, else what two packets have in common
        self._units = {video.index: Fraction(1)}
        self._likely: dict[int, Fraction] = {}

    def recover(self, packet: Packet[Any]) -> int:
        """Let what follows lost chunks of an AVI keep the time that its index tells.

        FFmpeg counts the chunks it finds, so that a stream that lost some would run ahead.
        Returns how many units of the stream's time, frames for a video, are missing before it.
        """
        index, lost = packet.stream.index, 0
        told = self._indexed.get(index, {}).get(packet.pos or 0)
        unit = self._units.get(index)
        if told is not None and packet.dts is not None and unit is not None:
            lost = max(0, int(told / unit) - packet.dts - self._missing.get(index, 0))
            self._missing[index] = self._missing.get(index, 0) + lost
        elif told and packet.dts:
            likely, self._likely[index] = self._likely.get(index), Fraction(told, packet.dts)
            if likely == self._likely[index]:
                self._units[index] = likely
        if missing := self._missing.get(index, 0):
            shift(packet, -missing * packet.time_base)
        return lost

    def join(self, packet: Packet[Any]) -> None:
        """Let the times of recordings that were joined go on where they begin anew."""
        if not self._joinable:
            return
        shift(packet, self._jump)
        if packet.dts is None or packet.stream.type not in ("audio", "video"):
            return
        time = packet.dts * packet.time_base
        due = self._due.get(packet.stream.index, time)
        if time < due - BACKWARDS:
            shift(packet, time - due)
            self._jump += time - due
            self.repaired += 1
            time = due
        self._due[packet.stream.index] = time + (packet.duration or 0) * packet.time_base

    def stamp(self, frame: VideoFrame, following: VideoFrame | None) -> None:
        """Give `frame` its pts and duration in `time_base`, pts later than the one before.

        A pts no earlier than that of the `following` frame is out of order; the decoding times
        of frames put out rise, and are right there.
        """
        frame.time_base = self.time_base
        step = max(1, round(1 / (self.rate * self.time_base)))
        shortest = min(step, math.ceil(SHORTEST / self.time_base))
        frame.duration = max(frame.duration, shortest) if frame.duration else step
        times = self._times(frame)
        upcoming = [] if following is None else self._times(following)
        in_order = not times or not upcoming or times[0] < upcoming[0]
        latest = self._latest
        later = [t for t in times[:: 1 if in_order else -1] if latest is None or t > latest]
        if later:
            frame.pts = later[0]
        else:
            frame.pts = 0 if latest is None else latest + (1 if times else step)
        self._latest = frame.pts
        self.repaired += frame.pts != times[0] if times else self._tells_times
        frame.dts = None

    def begin_at_zero(self, first: VideoFrame, packets: Iterable[Packet[Any]]) -> None:
        """Move all streams later if the `first` frame lies before 0, where mp4 would hide it.

        packets: those that were shifted already.
        """
        early = pts_of(first) * self.time_base
        if early >= 0:
            return
        self.origin += early
        first.pts = self._latest = 0
        for packet in packets:
            shift(packet, early)

    def _times(self, frame: VideoFrame) -> list[int]:
        """The times told of `frame`, the likelier first: its pts, and what it was decoded at.

        AVI holds no pts; what FFmpeg derives for streams with packed B-frames goes back and
        forth, while the decoding times of the frames put out are right.
        """
        given = [frame.pts, frame.dts]
        told = [t for t in (given[::-1] if self._counts_dts else given) if t is not None]
        origin = round(self.origin / self.time_base)
        return [t - origin for t in (told[:1] if self._counts_dts else told)]


def shift(packet: Packet[Any], seconds: Fraction) -> None:
    """Move the times of `packet` back by `seconds`."""
    ticks = round(seconds / packet.time_base)
    if ticks and packet.pts is not None:
        packet.pts -= ticks
    if ticks and packet.dts is not None:
        packet.dts -= ticks


def packet_time(packet: Packet[Any]) -> Fraction | None:
    """The presentation time of `packet` in seconds, None if it has none."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else ticks * packet.time_base


def with_following(
    items: Iterable[VideoFrame | Packet[Any]],
) -> Iterator[tuple[VideoFrame | Packet[Any], VideoFrame | None]]:
    """Each of `items`, a frame with the frame after it; None beside packets and the last frame."""
    held: VideoFrame | None = None
    for item in items:
        if isinstance(item, Packet):
            yield item, None
            continue
        if held is not None:
            yield held, item
        held = item
    if held is not None:
        yield held, None
