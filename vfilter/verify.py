"""Reading a complete output back, and holding it against what went into it."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from vfilter.errors import OutputError

TICK = Fraction(1, 1000)
"""Seconds of the coarsest unit of time among containers that tell times (Matroska)."""

NOTICED = Fraction(45, 1000)
"""Seconds between sound and picture from which on it is noticed (ITU-R BT.1359-1)."""

REWRITTEN = {"aac", "h264", "hevc", "vvc", "av1", "mov_text", "webvtt", "ass", "tmcd", "bin_data"}
"""Codecs whose packets muxers may write in another form, so that only their number counts."""

FILLER = 2
"""Bytes of the packets that mp4 has between captions, each time others."""


class Record:
    """What went into an output: the times of the frames, and the packets of copied streams.

    lossless: whether chroma is to be found again to the bit.
    verdict: what `check` has found to be right, in one line.
    """

    def __init__(self, *, lossless: bool) -> None:
        self.verdict = ""
        self._lossless = lossless
        self._times: list[Fraction] = []
        self._chroma = hashlib.sha256()
        self._filled = {0}
        self._packets: dict[int, int] = {}
        self._bytes: dict[int, Any] = {}
        self._begins: dict[int, Fraction] = {}
        self._shown: dict[int, list[Fraction]] = {}

    def add_frame(self, frame: VideoFrame, time: Fraction) -> None:
        """Note a frame of the restored stream, shown at `time` seconds."""
        self._times.append(time)
        if self._lossless:
            self._chroma.update(chroma_bytes(frame))

    def add_stream(self, index: int) -> None:
        """Note that stream `index` of the output, of which the restored one is 0, has packets."""
        self._filled.add(index)

    def add_packet(self, index: int, packet: Packet[Any]) -> None:
        """Note a packet that is copied into stream `index` of the output."""
        self.add_stream(index)
        if packet.size <= FILLER and _codec(packet.stream) == "mov_text":
            return
        if packet.pts is not None:
            time = packet.pts * packet.time_base
            self._begins.setdefault(index, time)
            if packet.stream.type == "video" and packet.stream.container.format.name != "avi":
                self._shown.setdefault(index, []).append(time)
        self._packets[index] = self._packets.get(index, 0) + 1
        self._bytes.setdefault(index, hashlib.sha256()).update(bytes(packet))

    def check(self, output: Path) -> None:
        """Read `output` back.

        Raises OutputError if a frame, a time, a packet or, of a lossless one, chroma is not what
        went in.
        """
        found = Record(lossless=self._lossless)
        with av.open(f"file:{output}", metadata_errors="replace") as container:
            video = container.streams.video[0]
            places = self._places([stream.index for stream in container.streams])
            codecs = {places[stream.index]: _codec(stream) for stream in container.streams}
            for packet in container.demux():
                if packet.stream.index == video.index:
                    for frame in packet.decode():
                        if isinstance(frame, VideoFrame):
                            found.add_frame(frame, _time(frame, container.format.name))
                elif packet.size:
                    found.add_packet(places[packet.stream.index], packet)
        self.verdict = self._compare(found, codecs)

    def _places(self, found: list[int]) -> dict[int, int]:
        """The streams that the `found` ones were when written; mp4 leaves out the empty ones."""
        filled = sorted(self._filled)
        return dict(zip(found, filled if len(found) == len(filled) else found, strict=True))

    def _compare(self, found: Record, codecs: dict[int, str]) -> str:
        frames = len(self._times)
        if len(found._times) != frames:
            raise _wrong(f"{len(found._times)} frames came back of {frames}")
        late = [b - a for a, b in zip(self._times, found._times, strict=True)]
        _check_spread(late, "frames")
        if self._lossless and found._chroma.digest() != self._chroma.digest():
            raise _wrong("chroma is not what it was")
        for index in self._begins.keys() & found._begins.keys():
            apart = found._begins[index] - self._begins[index] - min(late, default=Fraction(0))
            if abs(apart) > NOTICED:
                raise _wrong(f"stream {index} is {float(apart):+.3f} s off the frames")
        for index in self._shown.keys() & found._shown.keys():
            shown = [sorted(record._shown[index]) for record in (self, found)]
            if len(shown[0]) == len(shown[1]):
                _check_spread([b - a for a, b in zip(*shown, strict=True)], f"stream {index}")
        for index in self._packets.keys() - codecs.keys():
            raise _wrong(f"stream {index} is missing")
        exact = {index for index in self._packets if codecs[index] not in REWRITTEN}
        for index in exact:
            if found._digest(index) != self._digest(index):
                raise _wrong(f"the bytes of stream {index} ({codecs[index]}) differ")
        for index in self._packets.keys() - exact:
            counts = [record._packets.get(index, 0) for record in (found, self)]
            if counts[0] != counts[1]:
                raise _wrong("{} packets came back of {} in stream {}".format(*counts, index))
        rest = len(self._packets) - len(exact)
        parts = [f"{frames} frames at their times"]
        parts += ["chroma to the bit"] * self._lossless
        parts += [f"copied streams to the byte: {len(exact)}"] * bool(exact)
        parts += [f"by the number of packets: {rest}"] * bool(rest)
        return ", ".join(parts)

    def _digest(self, index: int) -> bytes:
        """SHA-256 of the bytes of all packets of stream `index`, however they were cut."""
        return bytes(self._bytes.get(index, hashlib.sha256()).digest())


def _check_spread(late: list[Fraction], what: str) -> None:
    """Raise OutputError if times came back unequally late, in seconds."""
    spread = max(late, default=Fraction(0)) - min(late, default=Fraction(0))
    if spread > 2 * TICK:
        raise _wrong(f"times of {what} differ by {float(spread):.3f} s")


def chroma_bytes(frame: VideoFrame) -> bytes:
    """The samples of all planes but the first of a planar frame, without the padding of lines."""
    parts = []
    for plane, component in zip(frame.planes[1:], frame.format.components[1:], strict=False):
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        parts.append(lines[:, : plane.width * -(-component.bits // 8)].tobytes())
    return b"".join(parts)


def _time(frame: VideoFrame, muxer: str) -> Fraction:
    """When `frame` is shown, in seconds; AVI tells decoding times alone."""
    ticks = frame.dts if muxer == "avi" or frame.pts is None else frame.pts
    return ticks * frame.time_base if ticks is not None and frame.time_base else Fraction(0)


def _codec(stream: Stream) -> str:
    """FFmpeg's name of the codec of a stream, empty if unknown."""
    context = stream.codec_context
    return "" if context is None else str(context.codec.canonical_name)


def _wrong(what: str) -> OutputError:
    return OutputError(
        f"the output read back is not what was written: {what}; it is not kept. Try another "
        "container or encoder, and tell the authors of vdeblock"
    )
