"""The luma plane of a video frame as an array and back, for every pixel format of 8 to 16 bits.

`luma_plane` gives the luma codes as they are: no scaling, no range conversion, the range tag is
not looked at. `with_luma` puts codes back into a new frame and leaves chroma and alpha alone.
RGB has no luma of its own: there it is the weighted sum of the three channels, and what changes
in it is added to each of them, which leaves the colour differences (chroma) as they were.

Formats that hold several codes in one byte or word, or a palette (`EXPANDED`), are first written
out by `planar`, without loss; theirs are the luma, the depth and the new frame of that format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from vfilter.errors import InputError

EXPANDED = {
    "monob": "gray",
    "monow": "gray",
    "pal8": "bgra",
    "uyyvyy411": "yuv411p",
    "v30xle": "yuv444p10le",
    "xv30le": "yuv444p10le",
    "x2bgr10le": "gbrp10le",
    "x2rgb10le": "gbrp10le",
    **{f"{order}{bits}": "rgb24" for order in ("rgb", "bgr") for bits in ("555le", "555be")},
    **{f"{order}{bits}": "rgb24" for order in ("rgb", "bgr") for bits in ("565le", "565be")},
}

# Packed YUV, endianness cut off: order of the samples of a pixel (4:4:4) or of a pair of pixels
# (4:2:2) in memory, from FFmpeg's libavutil/pixfmt.h.
PACKED_YUV = {
    "yuyv422": "YUYV",
    "yvyu422": "YVYU",
    "uyvy422": "UYVY",
    "y210": "YUYV",
    "y212": "YUYV",
    "y216": "YUYV",
    "ayuv": "AYUV",
    "ayuv64": "AYUV",
    "uyva": "UYVA",
    "vuya": "VUYA",
    "vuyx": "VUYX",
    "vyu444": "VYU",
    "xv36": "UYVX",
    "xv48": "UYVX",
    "ya8": "YA",
    "ya16": "YA",
}

# Codes in the high bits of 16-bit samples, the low ones zero (libavutil/pixfmt.h).
HIGH_BITS = re.compile(r"p[024]1[02]|y21[02]|xv36|\w+msb")

SUBSAMPLING = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (4, 1): "411"}

# Weights of R, G, B in luma, times 2^16: ITU-R BT.601-7, 2.5.1, and BT.709-6, 3.2. Each sums to
# 2^16, so that grey keeps its code and a 16-bit sum stays below 2^32.
BT601 = (19595, 38470, 7471)
BT709 = (13933, 46871, 4732)
SD_HEIGHT = 576  # lines of the largest standard-definition picture (ITU-R BT.601)

# Matrix coefficients as in ITU-T H.273, table 4
MATRIX_BT709 = 1
MATRIX_RESERVED = 3
MATRIX_BT601 = (5, 6)  # 625 lines, 525 lines


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Where the codes of one channel lie: in which plane, from which sample on, how far apart."""

    plane: int
    first: int
    step: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a pixel format stores its luma.

    channels: of luma, or of red, green and blue.
    dtype: of a sample in memory, byte order included.
    depth: bits of a code, 8 to 16.
    shift: bits below the code in its sample, 0 to 6.
    """

    channels: tuple[Channel, ...]
    dtype: np.dtype[Any]
    depth: int
    shift: int

    def view(self, frame: av.VideoFrame, channel: Channel) -> NDArray[Any]:
        """The samples of one channel, (H, W), in the memory of `frame`."""
        line_size = frame.planes[channel.plane].line_size
        first_line = (1 - frame.height) * line_size if line_size < 0 else 0
        return np.ndarray(
            (frame.height, frame.width),
            self.dtype,
            buffer=memoryview(frame.planes[channel.plane]),
            offset=first_line + channel.first * self.dtype.itemsize,
            strides=(line_size, channel.step * self.dtype.itemsize),
        )


def luma_plane(frame: av.VideoFrame) -> NDArray[Any]:
    """The luma codes of `frame`.

    Returns (H, W) uint8 for 8 bits, else native uint16 with codes of 0 to 2^depth - 1. Where
    memory holds the codes as such, it is a read-only view of the frame (packed YUV: a strided
    one) that keeps it alive; big-endian, bottom-up and RGB frames, and codes in high bits
    (p010), are copied out. No `make_writable` on a frame with such a view: it frees the memory.
    """
    frame = _expanded(frame)
    layout = _layout(frame.format.name)
    if len(layout.channels) == 3:
        return _weighted_sum(frame, layout)
    samples = layout.view(frame, layout.channels[0])
    if layout.shift or not layout.dtype.isnative or samples.strides[0] < 0:
        return (samples >> layout.shift).astype(layout.dtype.newbyteorder("="), order="C")
    samples.flags.writeable = False
    return samples


def luma_depth(frame: av.VideoFrame) -> int:
    """Bits per luma code of `frame`, 8 to 16."""
    return _layout(EXPANDED.get(frame.format.name, frame.format.name)).depth


def with_luma(frame: av.VideoFrame, luma: NDArray[Any]) -> av.VideoFrame:
    """A new frame like `frame` with `luma` for luma; `frame` is left as it is.

    luma: as `luma_plane(frame)` gives it, the caller sees to it that no code exceeds the depth.
    Returns a frame in memory of its own, of the same format, with every other code, the times,
    tags, flags and side data of `frame`; pict_type is NONE. In RGB the change of luma is added
    to red, green and blue, each clipped, so that clipped pixels miss the luma asked for.
    """
    frame = _expanded(frame)
    layout = _layout(frame.format.name)
    shape, dtype = (frame.height, frame.width), layout.dtype.newbyteorder("=")
    if luma.shape != shape or luma.dtype != dtype:
        raise ValueError(
            f"luma of this {frame.format.name} frame must be {dtype} of shape {shape}, "
            f"got {luma.dtype} of shape {luma.shape}"
        )
    restored = _copy(frame)
    restored.pict_type = PictureType.NONE
    if len(layout.channels) == 3:
        _add_to_rgb(restored, layout, luma)
    else:
        layout.view(restored, layout.channels[0])[...] = (
            luma << layout.shift if layout.shift else luma
        )
    return restored


def planar(frame: av.VideoFrame) -> av.VideoFrame:
    """`frame` with the same codes and a plane for each channel of YUV, or itself if it has that.

    Full-range yuvj becomes yuv with the range tagged, semi-planar and packed YUV planar YUV,
    big-endian little-endian, and what is in `EXPANDED` as it says there. No code changes and
    none is scaled, except that rgb555 and rgb565 are widened to 8 bits.
    """
    name = frame.format.name
    target = planar_name(frame.format)
    if target == name:
        return frame
    # With the same range and matrix on both sides swscale only moves codes. In more than one
    # thread its slices overwrite each other's first pixels where lines have little padding.
    moved = frame.reformat(
        format=target,
        src_colorspace=Colorspace.ITU601,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    moved.colorspace = frame.colorspace
    moved.color_range = ColorRange.JPEG if name.startswith("yuvj") else frame.color_range
    return moved


def _expanded(frame: av.VideoFrame) -> av.VideoFrame:
    """`frame`, written out if it is of a format in `EXPANDED`."""
    return planar(frame) if frame.format.name in EXPANDED else frame


@cache
def _layout(name: str) -> Layout:
    """How the pixel format `name` stores its luma."""
    pixel_format = VideoFormat(name)
    bits = {component.bits for component in pixel_format.components}
    if not bits or not 8 <= min(bits) <= max(bits) <= 16 or _is_out_of_reach(pixel_format):
        raise _unsupported(name)
    base = re.sub("[lb]e$", "", name)
    depth = min(bits)
    order = ">" if pixel_format.is_big_endian else "<"
    return Layout(
        channels=_channels(pixel_format, base),
        dtype=np.dtype("u1" if depth == 8 else f"{order}u2"),
        depth=depth,
        shift=16 - depth if HIGH_BITS.fullmatch(base) else 0,
    )


def _is_out_of_reach(pixel_format: VideoFormat) -> bool:
    """Whether the codes are a mosaic, linear light or floats, or in words that nothing reads."""
    unread = re.search(r"^xyz|f(16|32)[lb]e$|^(x2rgb10|x2bgr10|y21\d)be$", pixel_format.name)
    return pixel_format.is_bayer or pixel_format.is_bit_stream or unread is not None


def _channels(pixel_format: VideoFormat, base: str) -> tuple[Channel, ...]:
    """The channel of luma, or those of red, green and blue.

    base: name of the format without its endianness.
    """
    if pixel_format.is_rgb and not pixel_format.is_planar:
        order = re.match("[rgba0]+", base)[0]  # type: ignore[index]
        return tuple(Channel(plane=0, first=order.index(c), step=len(order)) for c in "rgb")
    if pixel_format.is_rgb:
        planes = [component.plane for component in pixel_format.components[:3]]
        return tuple(Channel(plane=plane, first=0, step=1) for plane in planes)
    order = PACKED_YUV.get(base, "Y")
    step = len(order) // order.count("Y")
    return (Channel(plane=0, first=order.index("Y"), step=step),)


def planar_name(pixel_format: VideoFormat) -> str:
    """The format that `planar` moves the codes of `pixel_format` to."""
    name = EXPANDED.get(pixel_format.name, pixel_format.name)
    if name != pixel_format.name:
        return name
    depth = _layout(name).depth
    components = pixel_format.components
    shares_planes = len({component.plane for component in components}) < len(components)
    if shares_planes and len(components) > 2 and not pixel_format.is_rgb:
        chroma = (64 // pixel_format.chroma_width(64), 64 // pixel_format.chroma_height(64))
        alpha = "a" if len(components) == 4 else ""
        return f"yuv{alpha}{SUBSAMPLING[chroma]}p" + ("" if depth == 8 else f"{depth}le")
    return re.sub("be$", "le", name.replace("yuvj", "yuv"))


def _weighted_sum(frame: av.VideoFrame, layout: Layout) -> NDArray[Any]:
    """Luma of an RGB frame, (H, W), full range in the depth of its channels.

    The weights are those of the matrix that the frame is tagged with, BT.601 or BT.709; RGB
    mostly has no such tag, then BT.601 up to 576 lines and BT.709 above.
    """
    by_size = MATRIX_BT601[0] if frame.height <= SD_HEIGHT else MATRIX_BT709
    matrix = frame.colorspace if frame.colorspace in (MATRIX_BT709, *MATRIX_BT601) else by_size
    weights = BT709 if matrix == MATRIX_BT709 else BT601
    total = np.full((frame.height, frame.width), 1 << 15, np.uint32)
    for channel, weight in zip(layout.channels, weights, strict=True):
        codes = layout.view(frame, channel) >> layout.shift
        total += np.multiply(codes, np.uint32(weight), dtype=np.uint32)
    total >>= 16
    return total.astype(layout.dtype.newbyteorder("="))


def _add_to_rgb(frame: av.VideoFrame, layout: Layout, luma: NDArray[Any]) -> None:
    """Add to red, green and blue of `frame`, in place, what `luma` is above its luma."""
    signed = np.int16 if layout.depth == 8 else np.int32
    change = luma.astype(signed) - _weighted_sum(frame, layout)
    for channel in layout.channels:
        samples = layout.view(frame, channel)
        codes = change + (samples >> layout.shift)
        samples[...] = np.clip(codes, 0, (1 << layout.depth) - 1) << layout.shift


def _copy(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame with the codes and all properties of `frame`, in memory of its own.

    A filter graph that does nothing hands out a second reference to the same buffers with all
    that FFmpeg knows about the frame, much of it out of PyAV's reach (field order, chroma
    location, side data). Buffers with two holders can't be written, so that `make_writable`
    copies them, whatever a decoder still holds.
    """
    graph = av.filter.Graph()
    graph.threads = 1
    matrix = {} if frame.colorspace == MATRIX_RESERVED else {"colorspace": str(frame.colorspace)}
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base or 1),
        pixel_aspect="0/1",
        range=str(frame.color_range),
        **matrix,
    )
    source.link_to(graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    copied = graph.vpull()
    copied.make_writable()
    copied.time_base = frame.time_base or Fraction(0)
    copied.colorspace = frame.colorspace
    copied.color_range = frame.color_range
    return copied


def _unsupported(name: str) -> InputError:
    """The error for a frame whose pixel format has no luma codes of 8 to 16 bits."""
    if not VideoFormat(name).components:
        return InputError(
            f"pixel format {name} is in the memory of a device; decode without hardware "
            "acceleration"
        )
    target = "gray16le" if len(VideoFormat(name).components) < 3 else "rgb48le"
    return InputError(
        f"pixel format {name} is not supported, only luma or RGB codes of 8 to 16 bits are; "
        f"convert the video first: "
        f"ffmpeg -i INPUT -pix_fmt {target} -c:v ffv1 OUTPUT.mkv"
    )
