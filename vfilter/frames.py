"""What a frame tells beside its codes: time, tags, side data, fields; and its conversion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from vfilter.luma import SD_HEIGHT

JPEG_BEGIN = b"\xff\xd8\xff"
JPEG_FRAME = (0xC0, 0xC1, 0xC2)
JPEG_SCAN = 0xDA
"""Begin of a JPEG image, and the markers of frame headers and scans (ITU-T T.81, B.1.1.3)."""

TOP_FIRST = (2, 4)
"""By FFmpeg's AVFieldOrder: TT and TB."""

TAGS = {
    "interlacing": "interlaced_frame",
    "colour matrix": "colorspace",
    "colour primaries": "color_primaries",
    "transfer function": "color_trc",
    "colour range": "color_range",
}
"""What is tagged for a whole stream in most outputs, and how PyAV names it in a frame."""

HDR = (Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL)

UNSPECIFIED = {"colorspace": 2, "color_primaries": 2, "color_trc": 2, "color_range": 0}
"""By FFmpeg's AVCOL_*_UNSPECIFIED."""


def pts_of(frame: VideoFrame) -> int:
    """The pts of a frame that a Source has stamped.

    Raises ValueError if it has none.
    """
    if frame.pts is None:
        raise ValueError("the frame has no pts")
    return frame.pts


def _unnamed(kind: type[Type], value: int) -> Type:
    """A member for side data of a kind that PyAV has no name for (Exif, the view of a stereo pair):
    without one it reads none of a frame that has it."""
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"KIND_{value}", value
    return member  # type: ignore[no-any-return]


Type._missing_ = classmethod(_unnamed)  # type: ignore[assignment, method-assign]


def held_side_data(frame: VideoFrame, kind: Type) -> Any:
    """A frame's side data of one kind, None if it has none.

    Not by `frame.side_data`: that and the frame keep each other until the garbage collector comes,
    by when hundreds of MB of 1920x1080 wait for it.
    """
    return SideDataContainer(frame).get(kind)  # type: ignore[call-arg]  # stubs


def side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    """The bytes of a frame's side data of one kind, None if it has none."""
    found = held_side_data(frame, kind)
    return None if found is None else bytes(found)


def tags_of(frame: VideoFrame) -> dict[str, Any]:
    """What `frame` is tagged with, by the names in `TAGS` and "HDR metadata"."""
    values = {name: (attribute, getattr(frame, attribute)) for name, attribute in TAGS.items()}
    hdr = [side_data(frame, kind) for kind in HDR]
    told = {name: v for name, (at, v) in values.items() if v != UNSPECIFIED.get(at)}
    return told | ({"HDR metadata": hdr} if any(hdr) else {})


def is_full_range(frame: VideoFrame) -> bool:
    """Whether `frame` is tagged as of full range."""
    return frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG


def reformatted(frame: VideoFrame, width: int, height: int, pix_fmt: str) -> VideoFrame:
    """`frame` scaled and converted, its times kept; the range stays unless RGB becomes YUV.

    RGB becomes limited-range YUV by BT.601 up to 576 lines and BT.709 above, and is tagged so.
    """
    to_yuv = frame.format.is_rgb and not VideoFormat(pix_fmt).is_rgb
    by_size = Colorspace.ITU601 if height <= SD_HEIGHT else Colorspace.ITU709
    color_range = ColorRange.MPEG if to_yuv else frame.color_range
    changed = frame.reformat(
        width,
        height,
        pix_fmt,
        dst_colorspace=by_size if to_yuv else None,
        src_color_range=ColorRange.JPEG if to_yuv else frame.color_range,
        dst_color_range=color_range,
        threads=1,
    )
    changed.color_range = color_range
    changed.pts, changed.duration = frame.pts, frame.duration
    changed.time_base = frame.time_base
    return changed


def field_marking(
    decoder: VideoCodecContext, packet: bytes, time_base: Fraction
) -> Callable[[VideoFrame], VideoFrame]:
    """What marks frames as interlaced where the decoder doesn't, by the first video `packet`.

    FFmpeg weaves MJPEG of two images a frame, without a word, the first into the odd lines
    unless the file says that its top field comes first.
    """
    if decoder.name != "mjpeg" or not _is_pair(packet, decoder.height):
        return lambda frame: frame
    return FieldMarker("tff" if decoder.field_order in TOP_FIRST else "bff", time_base)


class FieldMarker:
    """Marks frames as interlaced, `order` "tff" or "bff", all else of them left as it is."""

    def __init__(self, order: str, time_base: Fraction) -> None:
        self._order, self._time_base = order, time_base
        self._shape: tuple[int, int, str] | None = None
        self._graph = av.filter.Graph()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """`frame` marked."""
        shape = (frame.width, frame.height, frame.format.name)
        if shape != self._shape:
            self._graph, self._shape = self._graph_for(frame), shape
        self._graph.vpush(frame)
        return self._graph.vpull()

    def _graph_for(self, frame: VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = 1
        shape: Any = {"width": frame.width, "height": frame.height, "format": frame.format}
        entry = graph.add_buffer(**shape, time_base=self._time_base)
        graph.link_nodes(entry, graph.add("setfield", self._order), graph.add("buffersink"))
        graph.configure()
        return graph


def _is_pair(packet: bytes, height: int) -> bool:
    """Whether an MJPEG packet holds two images, of half the `height` each (ITU-T T.81, B.2.2)."""
    headers = (body for marker, body in jpeg_segments(packet) if marker in JPEG_FRAME)
    lines = int.from_bytes(next(headers, b"")[1:3])
    return packet.count(JPEG_BEGIN) > 1 and 0 < lines * 4 < height * 3


def jpeg_segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment of a JPEG before its first scan (ITU-T T.81, B.1.1.4).

    An image in one of them, as cameras leave a small one in Exif, is part of its body.
    """
    at = 2 if jpeg.startswith(JPEG_BEGIN) else len(jpeg)
    while jpeg[at : at + 1] == b"\xff" and at + 1 < len(jpeg) and jpeg[at + 1] != JPEG_SCAN:
        if jpeg[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(jpeg[at + 2 : at + 4])
        yield jpeg[at + 1], jpeg[at + 4 : at + 2 + length]
        at += 2 + length
