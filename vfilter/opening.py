"""Opening: what is read at all, and which of its streams is restored, by which decoder."""

from __future__ import annotations

import errno
import re
import stat
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.format import formats_available
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vfilter.errors import InputError

STANDARD_STREAM = "-"
"""The name that stands for standard input or output."""

REACHING = {"concat", "hls", "image2", "rtp", "rtsp", "sap", "sdp", "vobsub"}
"""Demuxers that read other files than the one they are given, or the network."""

PHOTOGRAPHS = (".jpg", ".jpeg", ".jps", ".mpo")
"""Endings of JPEG files in lower case: FFmpeg takes some for lists of pictures, others for films of
all that they hold, where viewers show the first picture."""

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""The decoders that give alpha too, by the names of those that don't."""

READ_FURTHER = 16 << 20
"""Bytes behind the last packet that are read to tell the end of a file from a failing disk: more
than a packet that reading failed in."""

MAX_PIXELS = 8192 * 8192
"""Most pixels of a frame by default: memory for a larger one is not taken."""

DEFAULT_SCORE = 5_000_000
"""Pixels that the default disposition is worth when FFmpeg chooses a video stream."""


class Pipe:
    """A pipe as PyAV reads it, whose callbacks lose every exception but `Exception`."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        standard = self.name == STANDARD_STREAM
        opened = None if standard else Path(path).open("rb")  # noqa: SIM115 (see close)
        self._file: BinaryIO = opened or sys.stdin.buffer
        self._failed: BaseException | None = None
        self.size = 0  # bytes so far
        self.seekable = self._file.seekable
        self.seek = self._file.seek
        self.tell = self._file.tell

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end and when reading fails."""
        try:
            data = self._file.read(size)
        except BaseException as error:
            self._failed = error
            return b""
        self.size += len(data)
        return data

    def check(self) -> None:
        """Raise InputError if reading has failed, and what interrupted it if something did."""
        if isinstance(self._failed, OSError):
            raise unreadable(self.name, self._failed) from self._failed
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Close it, unless it is standard input."""
        if self.name != STANDARD_STREAM:
            self._file.close()


def is_pipe(path: str | Path) -> bool:
    """Whether `path` is standard input or a named pipe, where reading may wait for ever."""
    try:
        return str(path) == STANDARD_STREAM or Path(path).is_fifo()
    except OSError:
        return False  # opening it tells why


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
        raise unreadable(path, error) from error


def unreadable(name: str | Path, error: OSError | RuntimeError) -> InputError:
    """The error of a file or pipe that can't be read, or of a loop of links."""
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{name}: reading failed ({reason}); check its disk or connection")


def open_input(
    path: str | Path, pipe: Pipe | None = None, *, max_pixels: int = MAX_PIXELS
) -> InputContainer:
    """Open a local file, or a pipe ("-" is standard input), read through `pipe` if that is given.

    max_pixels: most pixels of a frame that is decoded to find out what the file holds.

    Raises InputError if it can't be read, is no media file, or one that leads to other files.
    """
    name = str(path)
    if pipe is None and is_pipe(path):
        pipe = Pipe(path)
    file: Any = pipe or _local(Path(path))
    try:
        container = open_alone(file, max_pixels=max_pixels)
    except (av.FFmpegError, OSError) as error:
        if pipe is not None:
            pipe.check()
        reason = getattr(error, "strerror", None) or str(error)
        if error.errno == errno.EINVAL:
            reason += "; a list of other files, like a playlist, is not followed"
        if error.errno == errno.EBUSY:  # FFmpeg adds 6 to EINVAL where y4m tells such sizes
            reason = "its header tells a size that no frame can have"
        raise InputError(f"{name}: not readable as media ({reason})") from error
    if pipe is not None:
        pipe.check()
    return container


def open_alone(file: Any, *, max_pixels: int = MAX_PIXELS) -> InputContainer:
    """Open `file`, a URL or a file object, so that nothing in it leads to any other file."""
    name = str(getattr(file, "name", file)).lower()
    container: InputContainer = av.open(
        file,
        "r",
        format="jpeg_pipe" if name.endswith(PHOTOGRAPHS) else None,
        metadata_errors="replace",
        options={"max_pixels": str(max_pixels)},
        container_options={
            "protocol_whitelist": "file,pipe,fd",
            "format_whitelist": _formats_alone(),
        },
    )
    return container


def packets_of(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """The packets of `streams`, of all if none is named; of a photograph its first picture.

    Behind that phones put a gain map for HDR, and cameras (MPO) small copies or another view.
    """
    alone = container.format.name == "jpeg_pipe" and container.name.lower().endswith(PHOTOGRAPHS)
    passed = False
    for packet in container.demux(*streams):
        if not (alone and passed and packet.size):
            yield packet
        passed = True


@cache
def _formats_alone() -> str:
    """The demuxers that read one file alone, as FFmpeg takes them."""
    return ",".join(sorted(formats_available - REACHING))


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


def check_size(decoder: VideoCodecContext, max_pixels: int, name: str) -> None:
    """Raise InputError if the frames of `decoder` have more than `max_pixels` pixels."""
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


def is_picture(stream: Stream) -> bool:
    """Whether `stream` is a cover picture."""
    return bool(stream.disposition & Disposition.attached_pic)


def pcm_block(stream: Stream) -> int | None:
    """Bytes of one sample of all channels of a stream of plain PCM, None if it is none.

    By the codec: the rate of bytes in a header may be wrong.
    """
    context: Any = stream.codec_context
    found = context and re.fullmatch(r"pcm_(?:[sf](\d+)(?:le|be)?|u8|alaw|mulaw)", context.name)
    return int(found[1] or 8) // 8 * int(context.channels) if found else None


def _local(path: Path) -> str:
    """The FFmpeg name of a local file, after the checks that give a better reason than FFmpeg's."""
    try:
        told = path.stat()
        if stat.S_ISDIR(told.st_mode):
            next(path.iterdir(), None)  # if it can't be read, that is why it is named
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if stat.S_ISDIR(told.st_mode):
        raise InputError(f"{path}: is a folder; name one video file")
    if stat.S_ISREG(told.st_mode) and told.st_size == 0:
        raise InputError(f"{path}: is empty")
    return f"file:{path}"
