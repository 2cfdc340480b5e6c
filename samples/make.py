"""python samples/make.py

Makes the clips in this folder from photographs that scikit-image ships, a moving crop of each
standing in for a hand-held camera. A folder as argument gets them instead:
python samples/make.py /tmp

The pristine frames stay at hand for measuring: `pristine` and `pristine_luma`. The recipe of
each clip and the licence of each photograph are in README.md beside this file.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import cv2
import numpy as np
import skimage.data
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

Rgb = NDArray[np.uint8]
Plane = NDArray[np.uint8]
Packets: TypeAlias = "list[av.Packet[Stream]]"

IJG_QUALITY = 20
"""Quality of camera.avi on libjpeg's scale, 1 to 100: blocks are plain to see."""

QSCALE = 12
"""Quantizer of every macroblock of divx.avi, 1 to 31 (ISO/IEC 14496-2)."""

BIT_RATE = 100_000
"""Bits per second for the pictures of phone.mp4: too few for 640x360 at 25 frames a second."""

BT601 = (0.299, 0.587, 0.114)
"""Shares of R, G and B in luma (ITU-R BT.601-7, 2.5.1; also JFIF)."""

BT709 = (0.2126, 0.7152, 0.0722)
"""Shares of R, G and B in luma (ITU-R BT.709-6, 3.2)."""


@dataclass(frozen=True)
class View:
    """Where the camera looks: centre in pixels of the photograph, zoom, and roll in degrees."""

    x: float
    y: float
    zoom: float
    roll: float


@dataclass(frozen=True)
class Shot:
    """`frames` frames from one view of a photograph of `skimage.data` to another."""

    photograph: str
    frames: int
    start: View
    end: View
    seed: int


@dataclass(frozen=True)
class Clip:
    """File name, size in pixels, frames per second, and the shots one after the other."""

    file: str
    width: int
    height: int
    rate: int
    shots: tuple[Shot, ...]


CLIPS = {
    "camera": Clip(
        "camera.avi",
        640,
        480,
        15,
        (
            Shot("astronaut", 34, View(256, 192, 1.30, 0.0), View(256, 312, 1.35, 0.8), 1),
            Shot("coffee", 26, View(272, 197, 1.27, -0.5), View(322, 203, 1.33, 0.4), 2),
        ),
    ),
    "phone": Clip(
        "phone.mp4",
        640,
        360,
        25,
        (
            Shot("rocket", 48, View(288, 255, 1.18, -0.6), View(362, 232, 1.30, 0.9), 3),
            Shot("coffee", 52, View(288, 216, 1.15, 0.8), View(338, 178, 1.30, -0.6), 6),
        ),
    ),
    "divx": Clip(
        "divx.avi",
        512,
        384,
        25,
        (
            Shot("chelsea", 60, View(202, 150, 1.34, 0.0), View(240, 149, 1.40, 0.5), 4),
            Shot("astronaut", 40, View(256, 192, 1.06, 0.5), View(256, 276, 1.12, -0.4), 5),
        ),
    ),
}


def pristine(name: str) -> Iterator[Rgb]:
    """The frames of a clip before compression, each (H, W, 3) uint8 full-range RGB."""
    clip = clip_of(name)
    for shot in clip.shots:
        photograph = np.asarray(getattr(skimage.data, shot.photograph)())
        drift = jitter(shot.frames, shot.seed)
        for index in range(shot.frames):
            view = between(shot.start, shot.end, index / (shot.frames - 1))
            yield look(photograph, view, drift[index], clip.width, clip.height)


def pristine_luma(name: str) -> Iterator[Plane]:
    """The luma planes given to a clip's encoder, (H, W) uint8 in the clip's range and matrix.

    Full-range BT.601 for "camera", limited-range BT.709 for "phone" and BT.601 for "divx".
    """
    for rgb in pristine(name):
        yield PLANES[name](rgb)[0]


def clip_of(name: str) -> Clip:
    """The clip of that name; raises ValueError if there is none."""
    if name not in CLIPS:
        raise ValueError(f"no clip named {name!r}: take one of {', '.join(CLIPS)}")
    return CLIPS[name]


def between(start: View, end: View, time: float) -> View:
    """The view at `time`, 0 to 1, of a move that starts and ends gently."""
    share = time * time * (3 - 2 * time)
    return View(
        start.x + share * (end.x - start.x),
        start.y + share * (end.y - start.y),
        start.zoom + share * (end.zoom - start.zoom),
        start.roll + share * (end.roll - start.roll),
    )


def jitter(frames: int, seed: int) -> NDArray[np.float64]:
    """Unsteadiness of a hand, (frames, 2) offsets in pixels of the photograph, sigma 1."""
    noise = np.random.default_rng(seed).normal(size=(frames + 4, 2))
    smooth = sum(noise[lag : lag + frames] for lag in range(5))
    return np.asarray(smooth / np.sqrt(5))


def look(photograph: Rgb, view: View, offset: NDArray[np.float64], width: int, height: int) -> Rgb:
    """The (height, width, 3) crop of an (H, W, 3) uint8 photograph that `view` shows.

    Raises ValueError if the view reaches beyond the photograph.
    """
    turn = np.deg2rad(view.roll)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / view.zoom
    middle = np.array([width - 1, height - 1]) / 2
    origin = np.array([view.x, view.y]) + offset - axes @ middle
    corners = origin + np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ axes.T
    limits = np.array([photograph.shape[1], photograph.shape[0]])
    if (corners < 0).any() or (corners > limits).any():
        raise ValueError(f"{view} reaches beyond the photograph of {photograph.shape}")
    warped = cv2.warpAffine(
        photograph,
        np.column_stack([axes, origin]),
        (width, height),
        flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(warped, dtype=np.uint8)


def jfif_planes(rgb: Rgb) -> tuple[Plane, Plane, Plane]:
    """Full-range BT.601 Y, Cb and Cr, each (H, W) uint8, of an (H, W, 3) uint8 image."""
    y, cb, cr = Image.fromarray(rgb).convert("YCbCr").split()
    return np.asarray(y), np.asarray(cb), np.asarray(cr)


def limited_planes(rgb: Rgb, shares: tuple[float, float, float]) -> tuple[Plane, Plane, Plane]:
    """Limited-range Y (H, W), Cb and Cr (H/2, W/2), uint8, of an (H, W, 3) uint8 image.

    Quantization and colour differences by ITU-R BT.601-7, 2.5; chroma sited left of its 2x2.
    """
    unit = rgb / 255
    luma = unit @ np.array(shares)
    blue = (unit[..., 2] - luma) / (2 - 2 * shares[2])
    red = (unit[..., 0] - luma) / (2 - 2 * shares[0])
    return codes(16 + 219 * luma), codes(128 + 224 * halve(blue)), codes(128 + 224 * halve(red))


def halve(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H/2, W/2) of (H, W): columns by [1 2 1]/4 about the even ones, rows by pairs."""
    columns = cv2.sepFilter2D(plane, cv2.CV_64F, np.array([0.25, 0.5, 0.25]), np.ones(1))[:, ::2]
    return np.asarray((columns[::2] + columns[1::2]) / 2)


def codes(plane: NDArray[np.float64]) -> Plane:
    """Rounded to uint8."""
    return np.asarray(np.rint(plane), dtype=np.uint8)


PLANES: dict[str, Callable[[Rgb], tuple[Plane, Plane, Plane]]] = {
    "camera": jfif_planes,
    "phone": lambda rgb: limited_planes(rgb, BT709),
    "divx": lambda rgb: limited_planes(rgb, BT601),
}
"""What turns RGB into the planes that the encoder of a clip gets."""


def chirp(rate: int, seconds: float) -> NDArray[np.float32]:
    """A soft tone that glides from 220 to 440 Hz, (1, samples) float32 within +-0.1."""
    time = np.arange(round(rate * seconds)) / rate
    phase = 2 * np.pi * (220 * time + 110 * time**2 / seconds)
    fade = np.minimum(1, np.minimum(time, seconds - time) / 0.1)
    return np.asarray(0.1 * fade * np.sin(phase), dtype=np.float32)[None]


def sound_of(stream: AudioStream, clip: Clip) -> Iterator[Packets]:
    """The packets of a chirp, in as many lots as the clip has frames and one that flushes."""
    frames = sum(shot.frames for shot in clip.shots)
    samples = chirp(stream.rate, frames / clip.rate)
    for index in range(frames):
        first, last = (stream.rate * (index + more) // clip.rate for more in (0, 1))
        part = np.ascontiguousarray(samples[:, first:last])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.rate, frame.pts = stream.rate, first
        frame.time_base = Fraction(1, stream.rate)
        yield list(stream.encode(frame))
    yield list(stream.encode(None))


def jpegs(stream: Stream, clip: Clip) -> Iterator[Packets]:
    """The frames of camera.avi as JPEGs by libjpeg, 4:2:2, one lot of packets per frame."""
    for index, rgb in enumerate(pristine("camera")):
        planes = [Image.fromarray(plane) for plane in jfif_planes(rgb)]
        buffer = io.BytesIO()
        Image.merge("YCbCr", planes).save(
            buffer, format="JPEG", quality=IJG_QUALITY, subsampling="4:2:2"
        )
        packet = av.Packet(buffer.getvalue())
        packet.stream, packet.time_base = stream, Fraction(1, clip.rate)
        packet.pts = packet.dts = index
        packet.duration, packet.is_keyframe = 1, True
        yield [packet]
    yield []


def encoded(stream: VideoStream, name: str) -> Iterator[Packets]:
    """The frames of a clip through its stream's encoder, one lot of packets per frame."""
    clip = clip_of(name)
    for index, rgb in enumerate(pristine(name)):
        planes = np.concatenate([plane.ravel() for plane in PLANES[name](rgb)])
        frame = av.VideoFrame.from_ndarray(planes.reshape(-1, clip.width), format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, clip.rate)
        frame.color_range = ColorRange.MPEG
        frame.colorspace = stream.codec_context.colorspace
        yield list(stream.encode(frame))
    yield list(stream.encode(None))


def write_camera(output: OutputContainer, clip: Clip) -> None:
    """A compact camera of the 2000s: Motion JPEG in AVI, sound of 8 bits."""
    video = output.add_mux_stream(
        "mjpeg",
        rate=clip.rate,
        width=clip.width,
        height=clip.height,
        time_base=Fraction(1, clip.rate),
    )
    audio = output.add_stream("pcm_u8", rate=11025, layout="mono")
    interleave(output, jpegs(video, clip), sound_of(audio, clip))


def write_phone(output: OutputContainer, clip: Clip) -> None:
    """A phone that saves memory: H.264 Baseline starved of bits, and AAC, in MP4."""
    options = {"profile": "baseline", "preset": "veryfast", "threads": "1", "g": "50"}
    video = output.add_stream("libx264", rate=clip.rate, options=options)
    video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
    video.bit_rate = BIT_RATE
    context = video.codec_context
    context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    audio = output.add_stream("aac", rate=44100, layout="mono")
    audio.bit_rate = 48_000
    interleave(output, encoded(video, "phone"), sound_of(audio, clip))


def write_divx(output: OutputContainer, clip: Clip) -> None:
    """A film passed around in the 2000s: MPEG-4 Part 2 and MP3 in AVI, no B-frames."""
    options = {"qmin": str(QSCALE), "qmax": str(QSCALE), "g": "100", "threads": "1"}
    video = output.add_stream("mpeg4", rate=clip.rate, options=options)
    video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
    video.codec_context.codec_tag = "XVID"
    audio = output.add_stream("libmp3lame", rate=44100, layout="mono")
    audio.bit_rate = 64_000
    interleave(output, encoded(video, "divx"), sound_of(audio, clip))


WRITERS: dict[str, Callable[[OutputContainer, Clip], None]] = {
    "camera": write_camera,
    "phone": write_phone,
    "divx": write_divx,
}


MUXING = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
"""No version or date in the files; MP3's negative start doesn't push AVI's pictures back."""


def interleave(
    output: OutputContainer,
    pictures: Iterator[Packets],
    sounds: Iterator[Packets],
) -> None:
    """Writes the packets of each frame, then those of its sound."""
    for picture, sound in zip(pictures, sounds, strict=True):
        output.mux([*picture, *sound])


def main() -> None:
    """Writes all clips beside this file, or into the folder given as argument."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, clip in CLIPS.items():
        path = folder / clip.file
        with av.open(path, "w", options=MUXING) as output:
            WRITERS[name](output, clip)
        print(f"{clip.file}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
