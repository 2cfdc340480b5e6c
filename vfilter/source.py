"""Reading: the frames of the one restored video stream, and the packets of all others."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vfilter.bitstream import MACROBLOCK, QP_CODECS, Hints, jpeg_hints
from vfilter.errors import ArgumentError, InputError
from vfilter.luma import SD_HEIGHT, luma_depth

STANDARD_STREAM = "-"
"""The name that stands for standard input or output."""

INDEXED = ("mov,mp4", "matroska", "avi")
"""Demuxers that seek by an index, and so land exactly on a key frame."""

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""The decoders that give alpha too, by the names of those that don't."""

SLACK = Fraction(2)
"""Seconds that streams of one file may be interleaved apart (muxers aim at 1 or less)."""

JOINABLE = ("mpeg", "mpegts")
"""Demuxers of files that may be joined as they are, so that times may begin anew."""

BACKWARDS = Fraction(1, 10)
"""Seconds that packets of a stream go back at least where times begin anew (as FFmpeg's command
line has it)."""

READ_FURTHER = 16 << 20
"""Bytes behind the last packet that are read to tell the end of a file from a failing disk: more
than a packet that reading failed in."""

JPEG_BEGIN = b"\xff\xd8\xff"
JPEG_FRAME = rb"\xff[\xc0-\xc2]\x00.\x08(..)"
"""Begin of a JPEG image, and its frame header with the number of lines (ITU-T T.81, B.2.2)."""

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

MAX_PIXELS = 8192 * 8192
"""Most pixels of a frame by default: memory for a larger one is not taken."""

DEFAULT_SCORE = 5_000_000
"""Pixels that the default disposition is worth when FFmpeg chooses a video stream."""


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
    Raises InputError if the file can't be read or no frame of it decoded, and while iterating if
    reading fails; ArgumentError for a range that can hold no frame.
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
        _check_range(start, duration, frames)
        if max_pixels < 1:
            raise ArgumentError(f"max_pixels must be 1 or more, got {max_pixels}")
        self.name = str(path)
        self._standard = StandardInput() if self.name == STANDARD_STREAM else None
        self._reached = 0
        self._strict = strict
        self.container = open_input(path, self._standard, max_pixels=max_pixels)
        try:
            self.video = main_video(self.container, self.name)
            self._decoder = decoder_of(self.video)
            _check_size(self._decoder, max_pixels, self.name)
            options = {"max_pixels": str(max_pixels)}
            self._codec = lossy_codec(self.video) if hints else None
            # frame threads race where these decoders conceal damage: no two runs were alike
            concealing = QP_CODECS.get(self._decoder.name) == "mpeg4"
            # packets hand their hints to their frames, which frame threads would free, waiting for
            # Python's lock, while Python waits for them
            handing = self._codec == "mjpeg"
            self._decoder.copy_opaque = handing
            self._decoder.thread_type = "SLICE" if concealing or handing else "AUTO"
            self.others = [s for s in self.container.streams if s.index != self.video.index]
            self.damaged = 0
            self.repaired = 0
            self.resized = 0
            self._jump = Fraction(0)
            self._due: dict[int, Fraction] = {}
            self._mark_fields: Callable[[VideoFrame], VideoFrame] | None = None
            self.retagged: dict[str, int] = {}
            if self._codec in QP_CODECS:
                options["export_side_data"] = "venc_params"
            self._decoder.options = options
            self._origin = self._earliest()
            self._start = _exact(start) if start else None
            self._end = None if duration is None else _exact(start or 0) + _exact(duration)
            self._limit = frames
            self._cut = Fraction(0)
            self._latest: int | None = None
            self._seek()
            self._items = self._ranged() if self._has_range else self._all()
            self._ahead: deque[VideoFrame | Packet[Any]] = deque()
            self.first = self._first()
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[VideoFrame | Packet[Any]]:
        while self._ahead:
            yield self._ahead.popleft()
        tags = _tags(self.first)
        for item in self._items:
            if isinstance(item, VideoFrame):
                self._compare(item, tags)
            yield item

    @property
    def rate(self) -> Fraction:
        """Frames per second, 25 where the file doesn't tell."""
        return self.video.guessed_rate or self.video.average_rate or Fraction(25)

    @property
    def time_base(self) -> Fraction:
        """The unit of the frames' pts, in seconds."""
        base = self.video.time_base
        return base if base else 1 / self.rate

    @property
    def frame_count(self) -> int | None:
        """The number of frames to come as far as the header tells, None if it doesn't."""
        total = self.video.frames
        if not total and self.container.duration:
            total = round(Fraction(self.container.duration, av.time_base) * self.rate)
        if not total:
            return self._limit
        whole = Fraction(total) / self.rate
        end = min(whole, self._end) if self._end is not None else whole
        count = max(0, round((end - (self._start or 0)) * self.rate))
        return count if self._limit is None else min(count, self._limit)

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """Width by height of a pixel, told by the container or else the decoder, or None."""
        return self.video.sample_aspect_ratio or self._decoder.sample_aspect_ratio or None

    def lateness(self, stream: Stream) -> Fraction:
        """Seconds that `stream` begins after the first frame, by its header; 0 if it is earlier."""
        if stream.start_time is None or stream.time_base is None:
            return Fraction(0)
        film = pts_of(self.first) * self.time_base + self._cut
        return max(stream.start_time * stream.time_base - self._origin - film, Fraction(0))

    def chapters(self) -> list[Any]:
        """The chapters in the range, shifted like the frames, as PyAV takes them."""
        end = self._expected_end
        shifted = []
        for chapter in self.container.chapters():
            base = chapter["time_base"] or Fraction(1)
            times = (chapter[side] * base - self._origin for side in ("start", "end"))
            start, stop = (max(t if end is None else min(t, end), self._cut) for t in times)
            if start < stop or not self._has_range:
                ticks = {"start": round((start - self._cut) / base)}
                ticks["end"] = round((stop - self._cut) / base)
                shifted.append({**chapter, **ticks})
        return shifted

    @property
    def _expected_end(self) -> Fraction | None:
        """Where the range will end in seconds, as far as the frame rate tells; None if open."""
        if self._limit is None:
            return self._end
        last = self._cut + self._limit / self.rate
        return last if self._end is None else min(self._end, last)

    @property
    def _has_range(self) -> bool:
        return not (self._start is None and self._end is None and self._limit is None)

    def _earliest(self) -> Fraction:
        """The start of the earliest stream in seconds, 0 if it is before 0 or unknown."""
        return max(Fraction(self.container.start_time or 0, av.time_base), Fraction(0))

    def _seek(self) -> None:
        if self._start and self.container.format.name.startswith(INDEXED):
            target = int((self._origin + self._start) / self.time_base)
            self.container.seek(target, stream=self.video)

    def _first(self) -> VideoFrame:
        for item in self._items:
            self._ahead.append(item)
            if isinstance(item, VideoFrame):
                self._begin_at_zero(item)
                return item
        piped = self._standard is not None and not self._standard.seekable()
        hint = "a pipe can't be sought in, so name the file" if piped else "is the file complete?"
        raise InputError(
            f"{self.name}: no frame of its video could be decoded"
            + (" in the range asked for" if self._has_range and not piped else f"; {hint}")
        )

    def _begin_at_zero(self, first: VideoFrame) -> None:
        """Move all streams later if the first frame lies before 0, where mp4 would hide it."""
        early = pts_of(first)
        if early >= 0:
            return
        self._origin += early * self.time_base
        first.pts = self._latest = 0
        for packet in self._ahead:
            if isinstance(packet, Packet):
                shift(packet, early * self.time_base)

    def _all(self) -> Iterator[VideoFrame | Packet[Any]]:
        """Everything in the file, in the order of its packets."""
        last: VideoFrame | None = None
        for item, following in _with_following(self._decoded()):
            if isinstance(item, Packet):
                shift(item, self._origin)
                yield item
                continue
            self._stamp(item, following)
            self._add_quantizers(item, last)
            last = self._like(item, last)
            yield last

    def _decoded(self) -> Iterator[VideoFrame | Packet[Any]]:
        """Everything in the file with its own times; frames without the quantizers."""
        for packet in self._packets():
            if packet.stream.index != self.video.index:
                if packet.size:
                    yield packet
                continue
            if packet.size and self._codec == "mjpeg":
                packet.opaque = jpeg_hints(bytes(packet))
            if packet.size and self._mark_fields is None:
                self._mark_fields = self._marking(bytes(packet))
            for frame in self._decode(packet):
                if self._codec not in (None, "mjpeg"):
                    frame.opaque = Hints(codec=self._codec)
                yield self._mark_fields(frame) if self._mark_fields else frame

    def _ranged(self) -> Iterator[VideoFrame | Packet[Any]]:
        """What lies in the range, shifted so that its first frame is at 0.

        A packet of another stream waits until the video has reached its time, so that the
        number of frames bounds it too.
        """
        waiting: deque[Packet[Any]] = deque()
        end = self._end
        count = 0
        for item in self._all():
            if isinstance(item, Packet):
                if is_picture(item.stream):
                    yield item
                    continue
                if end is not None and _beyond(item, end + SLACK):
                    break
                waiting.append(item)
                continue
            time = pts_of(item) * self.time_base
            if end is not None and (count == self._limit or time >= end):
                if time >= end + SLACK or not self.container.streams.audio:
                    break
            elif self._start is None or time >= self._start:
                self._cut = time if count == 0 else self._cut
                count += 1
                until = time + self.time_base * item.duration
                if count == self._limit:
                    end = until
                item.pts = pts_of(item) - round(self._cut / self.time_base)
                yield item
                bounded = end is not None or self._limit is not None
                yield from _due(waiting, self._cut, until if bounded else None, self._expected_end)
        if count:
            yield from _due(waiting, self._cut, end, end)

    def _packets(self) -> Iterator[Packet[Any]]:
        """All packets; damage of the container ends them as the end of the file would.

        Raises InputError where reading failed and not the file: FFmpeg tells many a failing disk
        as the end of the file.
        """
        try:
            for packet in self.container.demux():
                self._reached = max(self._reached, (packet.pos or 0) + packet.size)
                if self.container.format.name in JOINABLE:
                    self._continue(packet)
                yield packet
        except av.FFmpegError as error:
            self._count_damage(1, str(error))
        if self._standard is not None:
            self._standard.check()
        else:
            check_readable(Path(self.name), self._reached)

    def _continue(self, packet: Packet[Any]) -> None:
        """Let the times of recordings that were joined go on where they begin anew."""
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

    def _decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        try:
            frames: list[VideoFrame] = self._decoder.decode(packet)
        except av.FFmpegError as error:
            self._count_damage(1, str(error))
            return []
        self._count_damage(sum(frame.is_corrupt for frame in frames), "a frame is incomplete")
        return frames

    def _count_damage(self, count: int, what: str) -> None:
        """Count damaged packets or frames. Raises InputError at the first one if strict."""
        self.damaged += count
        if count and self._strict:
            raise InputError(
                f"{self.name}: damaged at byte {self._reached} or before ({what}); "
                "without --strict it is restored as far as it goes"
            )

    def _marking(self, packet: bytes) -> Callable[[VideoFrame], VideoFrame]:
        """What marks frames as interlaced where the decoder doesn't, by the first video packet.

        FFmpeg weaves MJPEG of two images a frame, without a word, the first into the odd lines
        unless the file says that its top field comes first.
        """
        if self._decoder.name != "mjpeg" or not _is_pair(packet, self._decoder.height):
            return lambda frame: frame
        top_first = self._decoder.field_order in TOP_FIRST
        return FieldMarker("tff" if top_first else "bff", self.time_base)

    def _add_quantizers(self, frame: VideoFrame, last: VideoFrame | None) -> None:
        """Add to the hints of `frame` the quantizers that its decoder exported.

        A frame that comes when the file has ended is without them: those of the one before serve.
        """
        hints = hints_of(frame)
        if hints.codec not in QP_CODECS:
            return
        side_data: Any = frame.side_data
        told = side_data.get("VIDEO_ENC_PARAMS")
        if told is not None and hints.codec == "vp9":
            frame.opaque = replace(hints, qp=np.array([[told.qp]], dtype=np.float32))
        elif told is not None and told.nb_blocks * MACROBLOCK >= frame.width:
            depth = luma_depth(frame) if hints.codec == "h264" else 8
            qp = _quantizers(told, frame.width) - 6 * (depth - 8)  # QP' of H.264, 7.4.2.1.1
            frame.opaque = replace(hints, qp=qp)
        elif last is not None:
            frame.opaque = replace(hints, qp=hints_of(last).qp)

    def _stamp(self, frame: VideoFrame, following: VideoFrame | None) -> None:
        """Give `frame` its pts and duration in `time_base`, pts later than the one before.

        A pts no earlier than that of the `following` frame is out of order; the decoding times
        of frames put out rise, and are right there.
        """
        frame.time_base = self.time_base
        step = max(1, round(1 / (self.rate * self.time_base)))
        if not frame.duration:
            frame.duration = step
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
        self.repaired += frame.pts != times[0] if times else self.video.start_time is not None
        frame.dts = None

    def _times(self, frame: VideoFrame) -> list[int]:
        """The times told of `frame`, the likelier first: its pts, and what it was decoded at.

        AVI holds no pts; what FFmpeg derives for streams with packed B-frames goes back and
        forth, while the decoding times of the frames put out are right.
        """
        given = [frame.pts, frame.dts]
        is_avi = self.container.format.name == "avi"
        told = [t for t in (given[::-1] if is_avi else given) if t is not None]
        origin = round(self._origin / self.time_base)
        return [t - origin for t in (told[:1] if is_avi else told)]

    def _compare(self, frame: VideoFrame, tags: Mapping[str, Any]) -> None:
        """Count what `frame` is tagged with otherwise than the first one, whose tags are `tags`."""
        for name, value in _tags(frame).items():
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
        frame.opaque = Hints(codec=self._codec)  # its blocks are no longer where they were
        return frame


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
    image = re.search(JPEG_FRAME, packet, re.DOTALL)
    if image is None or packet.count(JPEG_BEGIN) < 2:
        return False
    return int.from_bytes(image[1]) * 4 < height * 3


class StandardInput:
    """Standard input as PyAV reads it, whose callbacks lose every exception but `Exception`."""

    def __init__(self) -> None:
        self._file = sys.stdin.buffer
        self._failed: BaseException | None = None
        self.seekable = self._file.seekable
        self.seek = self._file.seek
        self.tell = self._file.tell

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end and when reading fails."""
        try:
            return self._file.read(size)
        except BaseException as error:
            self._failed = error
            return b""

    def check(self) -> None:
        """Raise InputError if reading has failed, and what interrupted it if something did."""
        if isinstance(self._failed, OSError):
            raise _unreadable(STANDARD_STREAM, self._failed) from self._failed
        if self._failed is not None:
            raise self._failed


def check_readable(path: Path, begin: int) -> None:
    """Raise InputError if the next bytes from `begin` on of a regular file can't be read."""
    if not path.is_file():
        return
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(begin)
            while file.tell() < begin + READ_FURTHER and file.read(1 << 20):
                pass
    except FileNotFoundError:
        return  # deleted since it was opened, which does not end reading
    except OSError as error:
        raise _unreadable(str(path), error) from error


def _unreadable(name: str, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"{name}: reading failed ({reason}); check its disk or connection")


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


def open_input(
    path: str | Path, standard: StandardInput | None = None, *, max_pixels: int = MAX_PIXELS
) -> InputContainer:
    """Open a local file, or standard input for "-", read through `standard` if that is given.

    max_pixels: most pixels of a frame that is decoded to find out what the file holds.

    Raises InputError if it can't be read or is no media file. Playlists can't reach further:
    only local files and pipes are opened.
    """
    name = str(path)
    if name == STANDARD_STREAM and standard is None:
        standard = StandardInput()
    file: Any = standard or _local(Path(path))
    try:
        container: InputContainer = av.open(
            file,
            "r",
            metadata_errors="replace",
            options={"max_pixels": str(max_pixels)},
            container_options={"protocol_whitelist": "file,pipe,fd"},
        )
    except (av.FFmpegError, OSError) as error:
        if standard is not None:
            standard.check()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name}: not readable as media ({reason})") from error
    if standard is not None:
        standard.check()
    return container


def main_video(container: InputContainer, name: str) -> VideoStream:
    """The stream that FFmpeg would choose among the videos; never a cover picture.

    Raises InputError if there is none that can be decoded.
    """
    videos = [
        s
        for s in container.streams.video
        if s.codec_context is not None and not is_picture(s) and s.codec_context.width
    ]
    if not videos:
        kinds = sorted({s.type for s in container.streams})
        if any(not is_picture(stream) for stream in container.streams.video):
            raise InputError(
                f"{name}: its video can't be decoded: the codec is unknown, the data is broken, "
                "or the picture has no size or more pixels than --max-pixels allows"
            )
        raise InputError(f"{name}: no video stream to restore (found: {', '.join(kinds)})")

    def score(stream: VideoStream) -> int:
        default = bool(stream.disposition & Disposition.default)
        return stream.width * stream.height + DEFAULT_SCORE * default

    return max(videos, key=score)


def _check_size(decoder: VideoCodecContext, max_pixels: int, name: str) -> None:
    if decoder.width * decoder.height > max_pixels:
        raise InputError(
            f"{name}: {decoder.width}x{decoder.height} are more than {max_pixels} pixels a frame; "
            "--max-pixels allows more"
        )


def decoder_of(video: VideoStream) -> VideoCodecContext:
    """The decoder of `video`: FFmpeg's own, or libvpx for alpha, which the own one leaves out."""
    decoder: Any = video.codec_context
    told = {key.lower(): value for key, value in video.metadata.items()}
    if told.get("alpha_mode") == "1" and decoder.name in WITH_ALPHA:
        decoder = CodecContext.create(WITH_ALPHA[decoder.name], "r")
    return decoder  # type: ignore[no-any-return]


def lossy_codec(video: VideoStream) -> str | None:
    """FFmpeg's name of the codec of `video`, None if that never loses anything."""
    codec = video.codec_context.codec
    return codec.canonical_name if codec.lossy else None


def hints_of(frame: VideoFrame) -> Hints:
    """What the stream told about the compression of a frame that a Source gave."""
    return frame.opaque if isinstance(frame.opaque, Hints) else Hints()


def own_quantizers(hints: Hints) -> NDArray[np.float32]:
    """The quantizers of `hints` on the scale of their codec, of MPEG-1, 2 and 4 that of qscale.

    Raises ValueError if they tell none.
    """
    if hints.qp is None or hints.codec is None:
        raise ValueError(f"hints without quantizers: {hints}")
    doubled = QP_CODECS.get(hints.codec) in ("mpeg4", "mpeg2video")
    return hints.qp / np.float32(2 if doubled else 1)


def _quantizers(told: Any, width: int) -> NDArray[np.float32]:
    """The quantizers of the macroblocks, (rows, columns), of a frame `width` pixels wide.

    Interlaced H.264 and MPEG-2 code an even number of rows, where PyAV's own map wants those of
    the picture (and takes a hundred times longer).
    """
    columns = -(-width // MACROBLOCK)
    blocks = map(told.block_params, range(told.nb_blocks // columns * columns))
    codes = [told.qp + block.delta_qp for block in blocks]
    return np.array(codes, dtype=np.float32).reshape(-1, columns)


def _with_following(
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


def _tags(frame: VideoFrame) -> dict[str, Any]:
    """What `frame` is tagged with, by the names in `TAGS` and "HDR metadata"."""
    values = {name: (attribute, getattr(frame, attribute)) for name, attribute in TAGS.items()}
    hdr = [side_data(frame, kind) for kind in HDR]
    told = {name: v for name, (at, v) in values.items() if v != UNSPECIFIED.get(at)}
    return told | ({"HDR metadata": hdr} if any(hdr) else {})


def pts_of(frame: VideoFrame) -> int:
    """The pts of a frame that a Source has stamped.

    Raises ValueError if it has none.
    """
    if frame.pts is None:
        raise ValueError("the frame has no pts")
    return frame.pts


def side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    """The bytes of a frame's side data of one kind, None if it has none."""
    held: Any = frame.side_data
    found = held.get(kind)
    return None if found is None else bytes(found)


def is_picture(stream: Stream) -> bool:
    """Whether `stream` is a cover picture."""
    return bool(stream.disposition & Disposition.attached_pic)


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


def _exact(seconds: float) -> Fraction:
    """The decimal that was meant, to the microsecond: 0.2 is a fifth and not a little more."""
    return Fraction(seconds).limit_denominator(1_000_000)


def _check_range(start: float | None, duration: float | None, frames: int | None) -> None:
    if start is not None and start < 0:
        raise ArgumentError(f"start must be 0 seconds or more, got {start}")
    if duration is not None and duration <= 0:
        raise ArgumentError(f"duration must be more than 0 seconds, got {duration}")
    if frames is not None and frames < 1:
        raise ArgumentError(f"frames must be 1 or more, got {frames}")


def _beyond(packet: Packet[Any], end: Fraction) -> bool:
    """Whether `packet` is audio from after `end`."""
    time = packet_time(packet)
    return packet.stream.type == "audio" and time is not None and time >= end


def _due(
    waiting: deque[Packet[Any]], origin: Fraction, until: Fraction | None, end: Fraction | None
) -> Iterator[Packet[Any]]:
    """Take from `waiting` what is before `until`; give what is from `origin` to `end`, shifted."""
    for _ in range(len(waiting)):
        packet = waiting.popleft()
        time = packet_time(packet)
        if time is not None and until is not None and time >= until:
            waiting.append(packet)
        elif time is not None and _cut_to(packet, time, origin, end):
            shift(packet, origin)
            yield packet


def _cut_to(packet: Packet[Any], time: Fraction, origin: Fraction, end: Fraction | None) -> bool:
    """Whether `packet` lies in the range; a caption that is shown in a part of it is shortened."""
    if packet.stream.type != "subtitle" or not packet.duration:
        return time >= origin
    begin, stop = max(time, origin), time + packet.duration * packet.time_base
    stop = stop if end is None else min(stop, end)
    if (begin, stop) != (time, time + packet.duration * packet.time_base) and begin < stop:
        packet.pts = packet.dts = round(begin / packet.time_base)
        packet.duration = max(1, round((stop - begin) / packet.time_base))
    return begin < stop


def _local(path: Path) -> str:
    """The FFmpeg name of a local file, after the checks that give a better reason than FFmpeg's."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name one video file")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: is empty")
    return f"file:{path}"
