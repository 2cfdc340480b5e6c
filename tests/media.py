"""Recipes of small real media: each function writes one file and states codec, size and times.

Unless a recipe says otherwise a picture is 64x48, and frame k is at k/25 s.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet
from av.video.reformatter import ColorRange
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT, FRAMES, RATE = 64, 48, 12, 25

SUBTITLES = ((0, 160, "First line"), (240, 400, "Second, with a comma"))
"""Begin and end in milliseconds, and text."""

COVER = (40, 30)
"""Width and height of the cover picture."""

ALWAYS_B: Any = {"b-adapt": "0"}
"""Makes x264 use as many B-frames as it may."""

ATTACHMENT = b"notes about the film\n"

CHAPTERS = ((0, 200, "Opening"), (200, 480, "Ending"))
"""Begin and end in milliseconds, and title."""

MASTERING_DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
LIGHT_LEVEL = "1000,400"
"""HDR10 static metadata in x264's notation: a P3 display of 1000 cd/m2; MaxCLL, MaxFALL."""

ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, \
Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@lru_cache(maxsize=256)
def scene(index: int, height: int, width: int, seed: int) -> NDArray[np.float64]:
    """A plane of frame `index`, (height, width) of 0.1 to 0.9: waves and grain that move.

    It is kept, as most tests are of the same few pictures, and so is only to be read.
    """
    y, x = np.mgrid[:height, :width] + [[[index]], [[2 * index]]]
    waves = np.sin(x / 7 + seed) * np.cos(y / 5) + np.sin((x + y) / 23)
    grain = np.random.default_rng(seed).uniform(-1, 1, (height, width))
    plane = np.asarray(0.5 + 0.15 * waves + 0.1 * np.roll(grain, index, axis=1))
    plane.flags.writeable = False
    return plane


def picture(
    index: int, width: int = WIDTH, height: int = HEIGHT, pix_fmt: str = "yuv420p"
) -> av.VideoFrame:
    """Frame `index` in a planar format of 8 to 16 bits; each plane has a scene of its own."""
    frame = av.VideoFrame(width, height, pix_fmt)
    bits = frame.format.components[0].bits
    for seed, plane in enumerate(frame.planes):
        dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        samples = np.frombuffer(memoryview(plane), dtype)
        samples = samples.reshape(-1, plane.line_size // dtype.itemsize)
        codes = scene(index, plane.height, plane.width, seed) * ((1 << bits) - 1)
        samples[: plane.height, : plane.width] = np.rint(codes)
    return frame


def jpeg(index: int, quality: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Frame `index` as libjpeg writes it, 4:2:2, with the standard tables at `quality`."""
    planes = [np.rint(scene(index, height, width, seed) * 255).astype(np.uint8) for seed in (0, 1)]
    image = Image.fromarray(np.dstack([planes[0], planes[1], 255 - planes[1]]), mode="YCbCr")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:2")
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """A small picture as PNG."""
    grey = np.rint(scene(0, height, width, 0) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(file, "PNG")
    return file.getvalue()


def tone(rate: int, seconds: float, layout: str = "mono") -> Iterator[AudioFrame]:
    """A gliding tone in frames of 512 samples, s16."""
    time = np.arange(round(rate * seconds)) / rate
    wave = np.rint(12000 * np.sin(2 * np.pi * (300 + 200 * time) * time)).astype(np.int16)
    channels = av.AudioLayout(layout).nb_channels
    for first in range(0, len(wave), 512):
        part = np.repeat(wave[first : first + 512], channels)[None]
        frame = AudioFrame.from_ndarray(part, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        yield frame


def add_video(
    output: OutputContainer,
    codec: str = "libx264",
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    pix_fmt: str = "yuv420p",
    unit: Fraction = Fraction(1, RATE),
    rate: int = RATE,
    **options: Any,
) -> Any:
    """Add a video stream whose times count in `unit` seconds.

    rate: frames per second as the header says; `options` go to the encoder.
    """
    if codec == "libx264":
        options = {"crf": "20", "g": "6"} | options
    stream: Any = output.add_stream(codec, rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
    stream.codec_context.time_base = unit
    return stream


def fill_video(
    output: OutputContainer,
    stream: Any,
    times: Iterable[int] = range(FRAMES),
    *,
    order: str = "prog",
) -> None:
    """Encode picture after picture at `times`, in the unit of the stream, and flush.

    order: of the fields, "prog", "tff" or "bff".
    """
    context = stream.codec_context
    unit = context.time_base
    packed = context.format.is_rgb and not context.format.is_planar
    for index, time in enumerate(times):
        pix_fmt = "gbrp" if packed else context.pix_fmt
        frame = fields(picture(index, context.width, context.height, pix_fmt), order)
        frame.pts, frame.time_base = time, unit
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def fields(frame: av.VideoFrame, order: str) -> av.VideoFrame:
    """`frame` flagged as FFmpeg's setfield does: prog, tff or bff."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            template=None,
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=Fraction(1, RATE),
        ),
        graph.add("setfield", order),
        graph.add("buffersink"),
    ).configure()
    graph.vpush(frame)
    return graph.vpull()


def add_sound(
    output: OutputContainer, codec: str, rate: int, *, layout: str = "mono", **options: str
) -> Any:
    """Add a sound stream."""
    stream: Any = output.add_stream(codec, rate=rate, options=options)
    stream.codec_context.layout = layout
    return stream


def fill_sound(
    output: OutputContainer, stream: Any, seconds: float = FRAMES / RATE, *, delay: int = 0
) -> None:
    """Encode a tone of `seconds` that begins `delay` samples late, and flush."""
    context = stream.codec_context
    context.open(strict=False)
    resampler = av.AudioResampler(
        context.format, context.layout, context.rate, frame_size=context.frame_size
    )
    for frame in (*tone(context.rate, seconds, context.layout.name), None):
        for even in resampler.resample(frame):
            even.pts = (even.pts or 0) + delay
            output.mux(stream.encode(even))
    output.mux(stream.encode(None))


def add_text(output: OutputContainer, codec: str) -> Any:
    """Add a stream of text subtitles."""
    stream: Any = output.add_stream(codec)
    stream.codec_context.subtitle_header = ASS_HEADER
    stream.time_base = Fraction(1, 1000)
    return stream


def fill_text(output: OutputContainer, stream: Any) -> None:
    """Encode `SUBTITLES`."""
    for order, (begin, end, text) in enumerate(SUBTITLES):
        event = f"{order},0,Default,,0,0,0,,{text}".encode()
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(event, 0, end - begin))
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = begin
        packet.duration = end - begin
        output.mux(packet)


def chapters(marks: Iterable[tuple[int, int, str]] = CHAPTERS) -> list[Any]:
    """Begins and ends in milliseconds with titles, as PyAV wants them."""
    return [
        {
            "id": number,
            "start": begin,
            "end": end,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": title},
        }
        for number, (begin, end, title) in enumerate(marks)
    ]


def kept(recipe: Callable[..., Path]) -> Callable[..., Path]:
    """`recipe`, which encodes a file of one ending and the same options once, and then copies it.

    Most tests are of the same few clips.
    """
    files: dict[str, bytes] = {}

    @wraps(recipe)
    def write(path: Path, *arguments: Any, **options: Any) -> Path:
        wanted = repr((path.suffix, arguments, options))
        if wanted in files:
            path.write_bytes(files[wanted])
        else:
            files[wanted] = recipe(path, *arguments, **options).read_bytes()
        return path

    return write


@kept
def video_file(path: Path, codec: str = "libx264", *, frames: int = FRAMES, **options: Any) -> Path:
    """One video stream alone; `options` as for `add_video`."""
    with av.open(path, "w") as output:
        stream = add_video(output, codec, **options)
        fill_video(output, stream, range(frames))
    return path


@kept
def song(path: Path) -> Path:
    """MP3 of 44.1 kHz with a cover picture, and no film."""
    with av.open(path, "w") as output:
        sound = add_sound(output, "libmp3lame", 44100)
        cover: Any = output.add_mux_stream("png", width=COVER[0], height=COVER[1])
        cover.disposition = Disposition.attached_pic
        packet: Any = Packet(png(*COVER))
        packet.stream, packet.pts, packet.dts = cover, 0, 0
        packet.is_keyframe = True
        output.mux(packet)
        fill_sound(output, sound)
    return path


@kept
def camera(path: Path, quality: int = 50, sound: str = "pcm_u8") -> Path:
    """The file of an old camera: MJPEG 4:2:2 of full range at 15 fps, 8-bit mono at 11025 Hz.

    12 frames at k/15 s; the JPEGs are libjpeg's at `quality`.
    """
    with av.open(path, "w") as output:
        video: Any = output.add_mux_stream("mjpeg", rate=15, width=WIDTH, height=HEIGHT)
        video.time_base = Fraction(1, 15)
        audio = add_sound(output, sound, 11025)
        for index in range(FRAMES):
            packet: Any = Packet(jpeg(index, quality))
            packet.stream, packet.time_base = video, Fraction(1, 15)
            packet.pts = packet.dts = index
            packet.duration, packet.is_keyframe = 1, True
            output.mux(packet)
        fill_sound(output, audio, FRAMES / 15)
    return path


@kept
def phone(path: Path) -> Path:
    """H.264 with B-frames, AAC stereo at 48 kHz, text subtitles, chapters, metadata, languages."""
    text = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "subrip"}[path.suffix]
    with av.open(path, "w") as output:
        video = add_video(output, bf="3", **ALWAYS_B)
        audio = add_sound(output, "aac", 48000, layout="stereo")
        commentary = add_sound(output, "aac", 48000)
        subtitle = add_text(output, text)
        output.metadata.update(title="A small film", comment="made for tests")
        video.metadata.update(language="eng", handler_name="The picture")
        audio.metadata.update(language="fra", handler_name="The sound")
        commentary.metadata.update(language="deu", handler_name="The director")
        commentary.disposition = Disposition.comment
        subtitle.metadata["language"] = "spa"
        output.set_chapters(chapters())
        fill_video(output, video)
        fill_sound(output, audio)
        fill_sound(output, commentary)
        fill_text(output, subtitle)
    return path


VFR_TIMES = (0, 40, 80, 200, 233, 266, 300, 500, 510, 520, 760, 800)
"""Frame times of `uneven` in milliseconds."""


@kept
def uneven(path: Path, **metadata: str) -> Path:
    """Matroska of variable frame rate: H.264 at `VFR_TIMES`, SubRip, an attachment, a cover."""
    with av.open(path, "w") as output:
        output.metadata.update(metadata)
        video = add_video(output, unit=Fraction(1, 1000), rate=100, bf="2")
        subtitle = add_text(output, "subrip")
        output.add_attachment("notes.txt", "text/plain", ATTACHMENT)
        output.add_attachment("cover.png", "image/png", png(*COVER))
        fill_video(output, video, VFR_TIMES)
        fill_text(output, subtitle)
    return path


@kept
def with_cover(path: Path) -> Path:
    """MP4: MPEG-4 Part 2, AAC, and a cover picture as a PNG of 40x30."""
    with av.open(path, "w") as output:
        video = add_video(output, "mpeg4", qscale="3")
        audio = add_sound(output, "aac", 48000)
        cover: Any = output.add_mux_stream("png", width=COVER[0], height=COVER[1])
        cover.disposition = Disposition.attached_pic
        fill_video(output, video)
        fill_sound(output, audio)
        packet: Any = Packet(png(*COVER))
        packet.stream, packet.pts, packet.dts = cover, 0, 0
        packet.is_keyframe = True
        output.mux(packet)
    return path


@kept
def talkie(
    path: Path,
    sound: str,
    *,
    rate: int = 44100,
    layout: str = "stereo",
    late: float = 0,
    **options: str,
) -> Path:
    """MPEG-4 Part 2 with sound of one codec, which begins `late` seconds after the film."""
    with av.open(path, "w") as output:
        video = add_video(output, "mpeg4", qscale="3")
        audio = add_sound(output, sound, rate, layout=layout, **options)
        fill_video(output, video)
        fill_sound(output, audio, delay=round(late * rate))
    return path


@kept
def captioned(path: Path, codec: str) -> Path:
    """H.264 with one stream of text subtitles."""
    with av.open(path, "w") as output:
        video = add_video(output)
        subtitle = add_text(output, codec)
        fill_video(output, video)
        fill_text(output, subtitle)
    return path


@kept
def two_films(path: Path, codec: str = "libx264", *, frames: int = FRAMES, **options: Any) -> Path:
    """H.264 of 64x48, and a smaller film of 32x24 beside it, of `codec` with its `options`."""
    with av.open(path, "w") as output:
        large = add_video(output)
        small = add_video(output, codec, width=32, height=24, **options)
        fill_video(output, large, range(frames))
        fill_video(output, small, range(frames))
    return path


REORDERED: dict[str, Any] = {
    "libx264": {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=8:min-keyint=8:scenecut=0"},
    "mpeg2video": {"bf": "2", "g": "8"},
    "mpeg4": {"bf": "2", "g": "8"},
}
"""Options by codec: key frames, 6 or 8 apart, come before B-frames that are shown earlier."""


@kept
def slides(path: Path) -> Path:
    """H.264 with B-frames at `SLIDE_TIMES`, and AAC at 16 kHz beside it, 30 s long."""
    with av.open(path, "w", container_options={"max_interleave_delta": "0"}) as output:
        video = add_video(output, unit=Fraction(1, 1000), rate=1, bf="3", **ALWAYS_B)
        sound = add_sound(output, "aac", 16000)
        fill_video(output, video, [1000 * time for time in SLIDE_TIMES])
        fill_sound(output, sound, 30)
    return path


SLIDE_TIMES = (0, 1, 2, 9, 20, 29)
"""Frame times of `slides` in seconds."""


@kept
def in_blocks(path: Path, rate: int = 8000) -> Path:
    """MJPEG, and 2 s of PCM in packets of a second, whose samples are their numbers."""
    with av.open(path, "w") as output:
        video = add_video(output, "mjpeg", pix_fmt="yuvj420p")
        sound = add_sound(output, "pcm_s16le", rate)
        fill_video(output, video, range(2 * RATE))
        for first in (0, rate):
            samples = np.arange(first, first + rate, dtype=np.int16)[None]
            frame = AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            output.mux(sound.encode(frame))
    return path


@kept
def interlaced(path: Path, codec: str = "libx264", *, order: str = "tff") -> Path:
    """Interlaced frames, `order` "tff" or "bff", of libx264, mpeg2video or ffv1."""
    with av.open(path, "w") as output:
        stream = add_video(output, codec, flags="+ildct+ilme")
        fill_video(output, stream, order=order)
    return path


@kept
def rotated(path: Path) -> Path:
    """H.264 to be turned by 90 degrees."""
    with av.open(path, "w") as output:
        stream = add_video(output)
        stream.set_display_rotation(90)
        fill_video(output, stream)
    return path


@kept
def anamorphic(path: Path) -> Path:
    """H.264 of pixels 4/3 as wide as high."""
    with av.open(path, "w") as output:
        stream = add_video(output)
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        fill_video(output, stream)
    return path


@kept
def tagged(path: Path, codec: str = "libx264") -> Path:
    """H.264 or another codec, tagged as BT.709 primaries, sRGB transfer, BT.709 matrix, limited."""
    with av.open(path, "w") as output:
        stream = add_video(output, codec)
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 1, 13, 1
        context.color_range = ColorRange.MPEG
        fill_video(output, stream)
    return path


@kept
def full_range(path: Path) -> Path:
    """H.264 of full range (yuvj420p)."""
    with av.open(path, "w") as output:
        stream = add_video(output, pix_fmt="yuvj420p")
        fill_video(output, stream)
    return path


@kept
def hdr10(path: Path) -> Path:
    """H.264 of 10 bits in BT.2020 and PQ with HDR10 static metadata."""
    with av.open(path, "w") as output:
        params: Any = {"x264-params": f"mastering-display={MASTERING_DISPLAY}:cll={LIGHT_LEVEL}"}
        stream = add_video(output, pix_fmt="yuv420p10le", **params)
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9
        fill_video(output, stream)
    return path


@kept
def broadcast(path: Path, origin: int = 90) -> Path:
    """MPEG-TS of H.264 with B-frames and AAC, whose first frame is at `origin` seconds."""
    with av.open(path, "w") as output:
        video = add_video(output, bf="2", **ALWAYS_B)
        audio = add_sound(output, "aac", 48000)
        fill_video(output, video, range(origin * RATE, origin * RATE + FRAMES))
        fill_sound(output, audio, delay=origin * 48000)
    return path


@kept
def long_take(path: Path, *, seconds: int = 4, gop: int = 10, **size: int) -> Path:
    """A key frame every `gop` and sound of 48 kHz to cut beside it.

    H.264 with B-frames, AAC and a chapter a second; in AVI MPEG-4 Part 2 without and MP2.
    """
    avi = path.suffix == ".avi"
    with av.open(path, "w") as output:
        if path.suffix != ".ts":
            output.set_chapters(
                chapters([(s * 1000, (s + 1) * 1000, f"{s}") for s in range(seconds)])
            )
        options: Any = {"qscale": "3"} if avi else {"bf": "2", "sc_threshold": "0"} | ALWAYS_B
        video = add_video(output, "mpeg4" if avi else "libx264", g=str(gop), **options, **size)
        audio = add_sound(output, "mp2" if avi else "aac", 48000)
        fill_video(output, video, range(seconds * RATE))
        fill_sound(output, audio, seconds)
    return path


@kept
def y4m(path: Path, *, frames: int = FRAMES, times: int = 1) -> Path:
    """YUV4MPEG2, 4:2:0, of so many frames again and again."""
    with av.open(path, "w", format="yuv4mpegpipe", options={"strict": "-1"}) as output:
        stream = add_video(output, "wrapped_avframe")
        fill_video(output, stream, range(frames))
    content = path.read_bytes()
    begin = content.index(b"FRAME")
    path.write_bytes(content[:begin] + times * content[begin:])
    return path
