"""What a file is: its streams, and how its video was compressed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vfilter.bitstream import (
    QP_CODECS,
    Hints,
    hints_of,
    jpeg_hints,
    own_quantizers,
    scaled_luma_table,
)
from vfilter.errors import InputError
from vfilter.frames import pts_of
from vfilter.opening import is_picture, is_pipe, main_video, open_input, packets_of
from vfilter.source import Source
from vfilter.streams import codec_name
from vfilter.timeline import packet_time

WHOLE = 60.0
"""Seconds of MJPEG up to which the quality of each frame is read."""

SAMPLES = 240
"""Frames of a longer film whose quality is read."""

ALIKE = 2
"""IJG qualities that frames may lie apart and still be told as one."""

FINER = 0.9
"""Share of a film's frames that are no better than the one whose quality the encoding is for: the
rest, one dark second for example, would make all of it large."""

MOST_RUNS = 8
"""Changes of quality that are told one by one."""

FIELD_ORDERS = (
    *("unknown", "progressive", "top first", "bottom first"),
    *("top coded, bottom shown first", "bottom coded, top shown first"),
)
"""By FFmpeg's AVFieldOrder."""

RANGES = ("unknown", "limited", "full")


def probe(path: str | Path) -> dict[str, Any]:
    """Container, duration in seconds, tags and streams of a file, ready for JSON.

    The video stream that would be restored has "restored": True and, as far as it tells that,
    "jpeg_quality": lowest and highest nearest IJG quality of MJPEG, and
    "jpeg_quality_over_time": {"from": seconds, "quality"} of each run of frames of one quality,
    and "jpeg_quality_sampled": whether that is of `SAMPLES` frames spread evenly, as in a film
    longer than `WHOLE`;
    "quantizer": {"mean", "lowest", "highest"} of the blocks in its first second, on the codec's
    own scale.
    Raises InputError if the file can't be read.
    """
    with open_input(path) as container:
        videos = [
            s
            for s in container.streams.video
            if s.codec_context is not None and s.codec_context.width and not is_picture(s)
        ]
        chosen = main_video(container, str(path)).index if videos else None
        duration = container.duration
        return {
            "file": str(path),
            "container": container.format.name,
            "duration": None if duration is None else duration / 1_000_000,
            "metadata": dict(container.metadata),
            "chapters": len(container.chapters()),
            "streams": [
                _stream(stream, restored=stream.index == chosen)
                | (_compression(container, stream, path) if stream.index == chosen else {})
                for stream in container.streams
            ],
        }


def _compression(container: InputContainer, stream: Any, path: str | Path) -> dict[str, Any]:
    """How the restored stream was compressed, of what `probe` tells."""
    codec = codec_name(stream)
    piped = is_pipe(path)
    if codec == "mjpeg":
        found = list(jpeg_qualities(container, stream, seekable=not piped))
        runs = quality_runs(found)
        return {
            "jpeg_quality": _ends([quality for _, quality in found]),
            "jpeg_quality_over_time": [{"from": time, "quality": q} for time, q in runs],
            "jpeg_quality_sampled": is_sampled(container),
        }
    if codec in QP_CODECS and not piped:
        return {"quantizer": quantizers(path)}
    return {}


def _ends(values: Sequence[int]) -> list[int] | None:
    return [min(values), max(values)] if values else None


def jpeg_qualities(
    container: InputContainer, stream: VideoStream, *, seekable: bool = True
) -> Iterator[tuple[float, int]]:
    """Time in seconds and nearest IJG quality, 1 to 100, of the frames of an MJPEG stream.

    Of each frame; of `SAMPLES` spread evenly where the film is longer than `WHOLE`, or of its
    first `WHOLE` where it is not `seekable`. Nothing is decoded; damage ends it.
    """
    begin = max(container.start_time or 0, 0) / av.time_base
    is_long = is_sampled(container)
    with suppress(av.FFmpegError):
        for packet in _spread(container, stream) if is_long and seekable else _all(stream):
            quality = jpeg_hints(bytes(packet)).jpeg_quality
            time = float(packet_time(packet) or 0) - begin
            if time > WHOLE and is_long and not seekable:
                return
            if quality is not None:
                yield round(time, 3), quality


def best_hints(source: Source) -> Hints:
    """What a finer tenth of the frames of MJPEG tells, of the whole film; elsewhere, and where it
    can't be read twice, what the first frame does."""
    first = hints_of(source.first)
    if first.codec != "mjpeg" or source.pipe is not None:
        return first
    with open_input(source.name) as container:
        stream = main_video(container, source.name)
        qualities = [quality for _, quality in jpeg_qualities(container, stream)]
    if not qualities:
        return first
    quality = int(np.quantile(qualities, FINER, method="higher"))
    return replace(first, luma_table=tuple(scaled_luma_table(quality).tolist()))


def is_sampled(container: InputContainer) -> bool:
    """Whether not every frame's quality is read."""
    return (container.duration or 0) > WHOLE * av.time_base


def _all(stream: Any) -> Iterator[Any]:
    return (packet for packet in packets_of(stream.container, stream) if packet.size)


def _spread(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """`SAMPLES` packets of a long film, spread evenly."""
    begin, length = container.start_time or 0, container.duration or 0
    for number in range(SAMPLES):
        container.seek(begin + length * number // SAMPLES)
        packet = next(_all(stream), None)
        if packet is not None:
            yield packet


def quality_runs(found: Iterable[tuple[float, int]]) -> list[tuple[float, int]]:
    """Begin in seconds and median quality of each run of frames within `ALIKE` of each other.

    found: time in seconds and quality of each frame.
    """
    runs: list[tuple[float, list[int]]] = []
    for time, quality in found:
        if runs:
            lowest, highest = min(runs[-1][1]), max(runs[-1][1])
            if max(highest, quality) - min(lowest, quality) <= ALIKE:
                runs[-1][1].append(quality)
                continue
        runs.append((time, [quality]))
    return [(time, round(median(qualities))) for time, qualities in runs]


def quantizers(path: str | Path) -> dict[str, float] | None:
    """Mean, lowest and highest quantizer of the blocks in the first second of a file's video.

    On the codec's own scale; None if no frame can be decoded or its codec tells none.
    """
    maps = []
    try:
        with Source(path) as source:
            end = pts_of(source.first) * source.time_base + 1
            for item in source:
                if not isinstance(item, VideoFrame):
                    continue
                if pts_of(item) * source.time_base >= end:
                    break
                if hints_of(item).qp is not None:
                    maps.append(own_quantizers(hints_of(item)).ravel())
    except InputError:
        return None
    if not maps:
        return None
    blocks = np.concatenate(maps)
    summary = {"mean": blocks.mean(), "lowest": blocks.min(), "highest": blocks.max()}
    return {name: round(float(value), 1) for name, value in summary.items()}


def compression(path: str | Path) -> str:
    """How the restored video of a file was compressed, over its length; empty if nothing tells.

    Raises InputError as `probe`.
    """
    return next(compression_text(s) for s in probe(path)["streams"] if s.get("restored"))


def compression_text(facts: dict[str, Any]) -> str:
    """What `probe` tells of a stream's compression, in a few words; empty if that is nothing."""
    told = facts.get("quantizer")
    if told is not None:
        return f"quantizer {told['mean']:g} ({told['lowest']:g} to {told['highest']:g})"
    runs = [(run["from"], run["quality"]) for run in facts.get("jpeg_quality_over_time", [])]
    if not runs:
        return ""
    sampled = f" (in {SAMPLES} frames spread evenly)" if facts["jpeg_quality_sampled"] else ""
    if len(runs) > MOST_RUNS:
        lowest, highest = facts["jpeg_quality"]
        return f"JPEG quality {lowest} to {highest}, changing {len(runs) - 1} times{sampled}"
    if len(runs) == 1:
        return f"JPEG quality {runs[0][1]}{sampled}"
    changes = ", ".join(f"{quality} from {_minutes(time)}" for time, quality in runs)
    return f"JPEG quality {changes}{sampled}"


def _minutes(seconds: float) -> str:
    """Seconds as 0:00, rounded down."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _stream(stream: Any, *, restored: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "index": stream.index,
        "type": stream.type,
        "codec": codec_name(stream),
        "language": stream.language,
        "disposition": [flag.name for flag in Disposition if flag & stream.disposition],
        "metadata": dict(stream.metadata),
    }
    context = stream.codec_context
    if context is not None and stream.type == "video" and context.width:
        sar = stream.sample_aspect_ratio
        facts |= {
            "restored": restored,
            "width": context.width,
            "height": context.height,
            "pixel_format": context.pix_fmt,
            "frame_rate": str(stream.guessed_rate) if stream.guessed_rate else None,
            "frames": stream.frames or None,
            "sample_aspect_ratio": str(sar) if sar else None,
            "field_order": FIELD_ORDERS[context.field_order],
            "range": RANGES[context.color_range],
        }
    if context is not None and stream.type == "audio":
        facts |= {"sample_rate": context.sample_rate, "channels": context.layout.nb_channels}
    return facts
