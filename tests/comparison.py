"""Reading files back without vfilter, and comparing frames with a stated tolerance."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition
from numpy.typing import NDArray

Planes = tuple[NDArray[Any], ...]

SIDE_DATA = (
    *(Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL),
    *(Type.DISPLAYMATRIX, Type.A53_CC),
)


@dataclass(frozen=True, kw_only=True)
class Film:
    """The decoded pictures of a file.

    times, durations: of each frame in seconds; AVI, which holds no pts, tells them by its dts.
    planes: of each frame, each (H, W) of codes, packed formats as one plane of bytes.
    interlaced: the flag of each frame; side_data: bytes by kind, of the first frame.
    tags: what holds for all frames and for the stream.
    """

    times: list[Fraction]
    durations: list[Fraction]
    planes: list[Planes]
    interlaced: list[bool]
    side_data: dict[str, bytes]
    tags: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Track:
    """A stream beside the film.

    hashes: MD5 of each packet's payload; times: its (pts, duration) in seconds.
    """

    index: int
    kind: str
    codec: str | None
    language: str | None
    disposition: Disposition
    hashes: list[str]
    times: list[tuple[Fraction | None, Fraction]]


@dataclass(frozen=True)
class Shown:
    """What FFmpeg's `showinfo` says of a frame: chroma location, and tff, bff or prog."""

    chroma: str
    field: str


def first_frame(path: Path) -> Shown:
    """What PyAV doesn't tell of the first frame of the first video, by the command of FFmpeg."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", f"file:{path}", "-map", "0:v:0"]
    command += ["-vf", "showinfo", "-frames:v", "1", "-f", "null", "-"]
    log = subprocess.run(command, capture_output=True, check=True).stderr.decode()
    found = re.search(r" cl:(\S+) .* i:(\w)", log)
    assert found, log
    return Shown(found[1], {"T": "tff", "B": "bff", "P": "prog"}[found[2]])


def open_file(path: Path) -> InputContainer:
    """Open `path` whatever its name and the encoding of its metadata."""
    container: InputContainer = av.open(f"file:{path}", "r", metadata_errors="replace")
    return container


def film_stream(container: InputContainer) -> Any:
    """The first video stream that is no cover and can be decoded."""
    return next(
        s
        for s in container.streams.video
        if s.codec_context is not None
        and s.codec_context.width
        and not s.disposition & Disposition.attached_pic
    )


def read_film(path: Path, *, limit: int | None = None, index: int | None = None) -> Film:
    """Decode the film of `path`, or its stream `index`, or its first `limit` frames.

    What is damaged is passed over as the decoder does.
    """
    with open_file(path) as container:
        stream: Any = film_stream(container) if index is None else container.streams[index]
        # what is made of damage depends on it, and frame threads of MPEG-4 race there
        stream.thread_type = "SLICE" if stream.codec_context.name == "mpeg4" else "AUTO"
        frames = list(islice(_frames(container, stream), limit))
        unit = stream.time_base
        counts_dts = container.format.name == "avi"
        ticks = [f.dts if counts_dts and f.dts is not None else f.pts for f in frames]
        sar = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        first = frames[0]
        return Film(
            times=[Fraction(-1) if t is None else t * unit for t in ticks],
            durations=[frame.duration * unit for frame in frames],
            planes=[planes_of(frame) for frame in frames],
            interlaced=[frame.interlaced_frame for frame in frames],
            side_data=_side_data(first),
            tags={
                "size": (first.width, first.height),
                "format": first.format.name.replace("yuvj", "yuv"),
                "range": int(first.color_range),
                "matrix": int(first.colorspace),
                "primaries": int(first.color_primaries),
                "transfer": int(first.color_trc),
                "sample aspect ratio": None if sar in (None, 1) else sar,
                "rotation": first.rotation,
            },
        )


def _frames(container: InputContainer, stream: Any) -> Any:
    with suppress(av.FFmpegError):
        for packet in container.demux(stream):
            with suppress(av.FFmpegError):
                yield from packet.decode()


def _side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    held: Any = frame.side_data
    found = {kind.name: held.get(kind) for kind in SIDE_DATA}
    return {name: bytes(data) for name, data in found.items() if data is not None}


def planes_of(frame: av.VideoFrame) -> Planes:
    """The codes of each plane, without the padding of its lines."""
    return tuple(_plane(frame, number) for number in range(len(frame.planes)))


def _plane(frame: av.VideoFrame, number: int) -> NDArray[Any]:
    plane = frame.planes[number]
    components = [c for c in frame.format.components if c.plane == number]
    wide = max((c.bits for c in components), default=8) > 8
    dtype = np.dtype(np.uint16 if wide else np.uint8)
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    packed = len(components) > 1
    width = plane.line_size // dtype.itemsize if packed else plane.width
    return lines[: plane.height].view(dtype)[:, :width].copy()


def read_tracks(path: Path, *, film_index: int | None = None) -> list[Track]:
    """Every stream beside the film, attachments and covers included, in the file's order.

    film_index: number of the film, by default as `film_stream` finds it.
    """
    with open_file(path) as container:
        film = film_stream(container) if film_index is None else container.streams[film_index]
        packets: dict[int, list[Any]] = {s.index: [] for s in container.streams}
        with suppress(av.FFmpegError):
            for packet in container.demux():
                if packet.size:
                    packets[packet.stream.index].append(packet)
        return [
            _track(stream, packets[stream.index])
            for stream in container.streams
            if stream.index != film.index
        ]


def _track(stream: Any, packets: Sequence[Any]) -> Track:
    context = stream.codec_context
    codec = None if context is None else context.codec.canonical_name
    payloads = [_payload(bytes(packet), codec) for packet in packets]
    if stream.type == "attachment":
        payloads = [bytes(stream.data)]
    return Track(
        index=stream.index,
        kind=str(stream.type),
        codec=codec,
        language=stream.language,
        disposition=Disposition(stream.disposition),
        hashes=[hashlib.md5(payload).hexdigest() for payload in payloads],
        times=[
            (
                None if packet.pts is None else packet.pts * packet.time_base,
                (packet.duration or 0) * packet.time_base,
            )
            for packet in packets
        ],
    )


def _payload(packet: bytes, codec: str | None) -> bytes:
    """A packet without what containers put before it: the ADTS header of AAC (ISO/IEC 13818-7)."""
    has_adts = codec == "aac" and packet[:1] == b"\xff" and packet[1] & 0xF6 == 0xF0
    return packet[7:] if has_adts else packet


def read_sound(path: Path, number: int = 0) -> tuple[list[Fraction], NDArray[np.float64]]:
    """Times of the frames in seconds, and all samples (channels, samples) within +-1."""
    with open_file(path) as container:
        frames: list[Any] = list(container.decode(audio=number))
    planar = av.AudioResampler("dblp")
    samples = [even.to_ndarray() for frame in frames for even in planar.resample(frame)]
    times = [frame.pts * frame.time_base for frame in frames]
    return times, np.concatenate(samples, axis=1)


def read_text(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """Begin and duration in seconds and the words of each subtitle of the first text stream."""
    found = []
    with open_file(path) as container:
        for packet in container.demux(subtitles=0):
            subtitles: Any = packet.decode() if packet.size else ()
            for subtitle in subtitles:
                begin = (packet.pts or 0) * packet.time_base
                length = (packet.duration or 0) * packet.time_base
                found.append((begin, length, subtitle.dialogue.decode()))
    return found


def assert_planes(
    actual: Sequence[NDArray[Any]],
    expected: Sequence[NDArray[Any]],
    *,
    tolerance: int = 0,
    why: str = "what is lossless is exact",
) -> None:
    """Fail if codes of any plane differ by more than `tolerance`; `why` says what allows it."""
    assert [p.shape for p in actual] == [p.shape for p in expected]
    for number, (found, wanted) in enumerate(zip(actual, expected, strict=True)):
        error = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
        if error.max() > tolerance:
            counts = np.bincount(np.minimum(error.ravel(), 8), minlength=9)
            raise AssertionError(
                f"plane {number}: error up to {error.max()}, mean {error.mean():.4f}, more than "
                f"{tolerance} ({why}); pixels off by 0 to 7 and by 8 or more: {counts.tolist()}"
            )


def assert_films(actual: Film, expected: Film, *, unit: Fraction = Fraction(0)) -> None:
    """Fail unless count, times and all codes are equal.

    unit: the resolution of the output's times in seconds, 0 if it holds those of the input.
    """
    assert_times(actual.times, expected.times, unit=unit)
    for found, wanted in zip(actual.planes, expected.planes, strict=True):
        assert_planes(found, wanted)


def assert_times(
    actual: Sequence[Fraction], expected: Sequence[Fraction], *, unit: Fraction = Fraction(0)
) -> None:
    """Fail unless both are of one length and equal, but for one `unit` of rounding."""
    assert len(actual) == len(expected)
    apart = [float(a - e) for a, e in zip(actual, expected, strict=True)]
    assert max(map(abs, apart), default=0) <= unit, f"times differ by {apart} s"
