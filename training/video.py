"""Pairs of what a video encoder made of a film and the film: photographs in motion, and clips."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from training.data import Luma, decoded, encoded

WINDOW = 128
"""Side of the films that are encoded for training, in pixels: whole macroblocks."""

SCALES = (0.5, 1.1)
"""Times its size that a photograph in motion is seen at."""

ROOM = 1.3
"""Sides of the window that a photograph in motion has at least, so that there is room to move."""

SMALLEST = math.ceil(WINDOW * ROOM / SCALES[1])
"""Least side in pixels of the photographs that training sets in motion."""

FRAMES = (8, 13)
"""Frames of a film: at least, and fewer than."""

PRESETS = ("ultrafast", "veryfast", "faster", "medium", "slow")
"""Presets of libx264 that are mixed: without and with deblocking, trellis, many references."""

STILL = 0.2
"""Share of the photographs that don't move: their first frame's artifacts stay for good."""

GRAINY = 0.15
"""Share of the photographs with grain, fresh in every frame: nothing can bring that back."""


def film(plane: Luma, size: int, frames: int, rng: np.random.Generator) -> list[Luma]:
    """`frames` planes (size, size) of what a camera sees that moves over `plane`.

    It pans, zooms and turns evenly, trembles by a fraction of a pixel, and sees the plane at
    `SCALES` times its size, averaged, so that most of the plane's own compression goes.
    """
    least, most = SCALES
    least = max(least, size * ROOM / min(plane.shape))
    scale = float(np.exp(rng.uniform(math.log(least), math.log(most))))
    scaled = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = scaled.shape
    centre = rng.uniform([size / 2, size / 2], [width - size / 2, height - size / 2])
    moves = rng.random() >= STILL
    speed = moves * rng.normal(size=2) * rng.choice([0.3, 1.5, 4.0])
    zooming, turning = moves * rng.normal(size=2) * [0.006, 0.006]
    trembling = moves * rng.choice([0.0, 0.3])
    grain = rng.uniform(1, 8) if rng.random() < GRAINY else 0.0
    seen = []
    for time in range(frames):
        zoom, angle = math.exp(zooming * time), turning * time
        cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
        x, y = centre + speed * time + trembling * rng.normal(size=2)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        corner = np.array([x, y]) - turn @ [size / 2, size / 2]
        view = cv2.warpAffine(
            scaled,
            np.column_stack([turn, corner]),
            (size, size),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        if grain:
            noisy = view + grain * rng.normal(size=view.shape)
            view = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        seen.append(np.asarray(view, dtype=np.uint8))
    return seen


def window(clip: Sequence[Luma], size: int, frames: int, rng: np.random.Generator) -> list[Luma]:
    """A window (size, size) of at most `frames` successive frames of a clip, at random."""
    height, width = (min(size, length // 16 * 16) for length in clip[0].shape)
    first = int(rng.integers(max(1, len(clip) - frames + 1)))
    top = int(rng.integers(clip[0].shape[0] - height + 1))
    left = int(rng.integers(clip[0].shape[1] - width + 1))
    return [plane[top : top + height, left : left + width] for plane in clip[first:][:frames]]


def recoded(
    planes: Sequence[Luma], codec: str, setting: float, rng: np.random.Generator
) -> list[Luma]:
    """`planes` after an encoder of `codec`, its other options mixed.

    codec: "h264", `setting` being the constant rate factor, or "mpeg" (MPEG-4 Part 2 or MPEG-2),
    `setting` being the quantiser scale.
    """
    if codec == "h264":
        options = {"crf": f"{setting:g}", "preset": str(rng.choice(PRESETS)), "threads": "1"}
        if rng.random() < 0.3:
            options["bf"] = "0"
        return decoded(encoded(planes, "libx264", options))
    encoder = str(rng.choice(["mpeg4", "mpeg2video"]))
    options = {"qmin": f"{setting:g}", "qmax": f"{setting:g}", "threads": "1"}
    options["bf"] = str(rng.choice(["0", "0", "2"]))
    return decoded(encoded(planes, encoder, options))


def crops_of(
    film: Sequence[Luma], damaged: Sequence[Luma], size: int, rng: np.random.Generator
) -> tuple[Luma, Luma]:
    """A crop (size, size) of a random frame, damaged and not, flipped and transposed at random."""
    index = int(rng.integers(len(film)))
    height, width = film[index].shape
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    pair = np.stack([damaged[index], film[index]])[:, top : top + size, left : left + size]
    pair = pair[:, :: rng.choice([1, -1]), :: rng.choice([1, -1])]
    if rng.random() < 0.5:
        pair = pair.transpose(0, 2, 1)
    distorted, clean = np.ascontiguousarray(pair)
    return distorted, clean


def coarseness(codec: str, setting: float) -> float:
    """About how the squared error of `codec` grows with its setting (`training.video.recoded`)."""
    return float(2 ** (setting / 6)) if codec == "h264" else float(setting)
