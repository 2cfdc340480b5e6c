"""Pictures for a browser: planes of luma with the chroma of a film, as PNG or JPEG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from vfilter.comparison.shots import Place
from vfilter.luma import MATRIX_BT709, SD_HEIGHT
from vfilter.source import Source

LOSSLESS_PIXELS = 640 * 480
"""Frames of at most so many pixels are shown as PNG; larger ones as JPEG of quality 95, 4:4:4."""

UNSPECIFIED = 2
"""Colour matrix that a file tells nothing of (ITU-T H.273, table 4)."""

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
"""Weights of red and blue in luma (ITU-R BT.601-7, 2.5.1; BT.709-6, 3.2)."""


class Painter:
    """Makes pictures of luma planes.

    frames: by number the frames, planar YUV of 8 bits, whose chroma they have.
    full_range: whether the codes go from 0 to 255 and not from 16 to 235.
    """

    def __init__(self, frames: Mapping[int, VideoFrame], *, full_range: bool) -> None:
        self._frames = frames
        self._full_range = full_range

    def whole(self, number: int, plane: NDArray[np.uint8]) -> str:
        """Data URL of frame `number` with luma `plane`."""
        rgb = self._rgb(self._frames[number], plane)
        return data_url(rgb, lossless=plane.size <= LOSSLESS_PIXELS)

    def part(self, place: Place, crop: NDArray[np.uint8]) -> str:
        """Data URL of a place with luma `crop`."""
        frame = self._frames[place.frame]
        plane = np.zeros((frame.height, frame.width), dtype=np.uint8)
        plane[place.area] = crop
        return data_url(self._rgb(frame, plane)[place.area], lossless=True)

    def _rgb(self, frame: VideoFrame, luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) of `frame` with other luma (H, W)."""
        blue, red = (_chroma(frame, number) for number in (1, 2))
        is_709 = frame.colorspace == MATRIX_BT709 or (
            frame.colorspace == UNSPECIFIED and frame.height > SD_HEIGHT
        )
        weight_r, weight_b = WEIGHTS["bt709" if is_709 else "bt601"]
        y = luma.astype(np.float64)
        if not self._full_range:
            y, blue, red = (y - 16) * 255 / 219, blue * 255 / 224, red * 255 / 224
        r, b = y + 2 * (1 - weight_r) * red, y + 2 * (1 - weight_b) * blue
        g = (y - weight_r * r - weight_b * b) / (1 - weight_r - weight_b)
        return np.clip(np.stack([r, g, b], axis=-1).round(), 0, 255).astype(np.uint8)


def _chroma(frame: VideoFrame, number: int) -> NDArray[Any]:
    """A chroma plane at the size of luma, around 0."""
    plane = frame.planes[number]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    codes = np.ascontiguousarray(lines[: plane.height, : plane.width]).astype(np.float64)
    size = (frame.width, frame.height)
    return np.asarray(cv2.resize(codes, size, interpolation=cv2.INTER_LINEAR) - 128)


def read_frames(film: Path, numbers: Set[int]) -> dict[int, VideoFrame]:
    """The frames of `film` of the given numbers."""
    found: dict[int, VideoFrame] = {}
    with Source(film, hints=False) as source:
        frames = (item for item in source if isinstance(item, VideoFrame))
        for number, frame in enumerate(frames):
            if number in numbers:
                found[number] = frame
            if len(found) == len(numbers):
                break
    return found


def data_url(rgb: NDArray[np.uint8], *, lossless: bool) -> str:
    """(H, W, 3) uint8 as a data URL."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if lossless:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
