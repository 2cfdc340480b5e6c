"""What a file is: its streams, and how its video was compressed."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from av.stream import Disposition
from av.video.stream import VideoStream

from vfilter.bitstream import jpeg_hints
from vfilter.source import is_picture, main_video, open_input
from vfilter.streams import codec_name

SAMPLED_PACKETS = 300
"""Packets of an MJPEG stream whose quality is looked at."""

FIELD_ORDERS = (
    *("unknown", "progressive", "top first", "bottom first"),
    *("top coded, bottom shown first", "bottom coded, top shown first"),
)
"""By FFmpeg's AVFieldOrder."""

RANGES = ("unknown", "limited", "full")


def probe(path: str | Path) -> dict[str, Any]:
    """Container, duration in seconds, tags and streams of a file, ready for JSON.

    The video stream that would be restored has "restored": True and, if it is MJPEG,
    "jpeg_quality": lowest and highest nearest IJG quality over its first packets.
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
                _stream(stream, restored=stream.index == chosen) for stream in container.streams
            ],
        }


def jpeg_qualities(stream: VideoStream) -> list[int]:
    """Nearest IJG quality of each of the first packets of an MJPEG stream, 1 to 100."""
    packets: Any = stream.container.demux(stream)  # type: ignore[attr-defined]
    found = (jpeg_hints(bytes(packet)).jpeg_quality for packet in islice(packets, SAMPLED_PACKETS))
    return [quality for quality in found if quality is not None]


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
        if restored and facts["codec"] == "mjpeg" and not is_picture(stream):
            qualities = jpeg_qualities(stream)
            facts["jpeg_quality"] = [min(qualities), max(qualities)] if qualities else None
    if context is not None and stream.type == "audio":
        facts |= {"sample_rate": context.sample_rate, "channels": context.layout.nb_channels}
    return facts
