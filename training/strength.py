"""The strength that serves a source best, by what its stream tells, fitted on training data.

A blind network restores by what it takes the damage for; on what it wasn't trained on it does too
little or, far worse, too much. Where the stream tells how coarse it is, the residual is scaled by
the factor of least squared error, <residual, original - distorted> / <residual, residual>.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from training.data import Luma, encoded, jpeg
from vfilter.bitstream import MACROBLOCK
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer
from vfilter.weights import Model

Curve = dict[str, float]

QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 98, 100)
"""Where the strength for JPEG is fitted: closer where it changes more."""

LARGEST = 2.0
"""Largest strength: a limit for sources far below the trained range."""

ENCODERS: dict[str, tuple[str, tuple[dict[str, str], ...]]] = {
    "h264": ("libx264", tuple({"crf": str(crf)} for crf in (16, 20, 24, 28, 32, 36, 40))),
    "mpeg4": ("mpeg4", tuple({"qmin": str(q), "qmax": str(q)} for q in (2, 4, 8, 16, 28))),
    "mpeg2video": (
        "mpeg2video",
        tuple({"qmin": str(q), "qmax": str(q)} for q in (2, 4, 8, 16, 28)),
    ),
}
"""By codec: the encoder, and the settings at which the clips are encoded."""

BIN = 3
"""Quantizers that share a point of a curve."""

FEWEST = 200
"""Macroblocks that a point needs."""

FRAMES = 3
SIZE = 160
"""Frames and pixels, across and down, that are taken of each clip."""


def training_clips(folder: Path) -> list[Path]:
    """Every second of the clips in `folder` by name; the others are for checking."""
    return sorted(folder.glob("*.mkv"))[::2]


def read_clip(path: Path) -> list[Luma]:
    """Luma planes of the first frames of a clip, their centre, (H, W) uint8, sides even."""
    with av.open(str(path)) as container:
        planes = [luma_plane(f).copy() for f in islice(container.decode(video=0), FRAMES)]
    height, width = (min(SIZE, length // 2 * 2) for length in planes[0].shape)
    top, left = ((a - b) // 2 for a, b in zip(planes[0].shape, (height, width), strict=True))
    return [np.ascontiguousarray(p[top : top + height, left : left + width]) for p in planes]


def fit_jpeg(model: Model, planes: Sequence[Luma]) -> Curve:
    """The factor of least squared error over `planes` by JPEG quality, 0 to `LARGEST`."""
    curve = {}
    with Restorer(model, precision="fp32") as restorer:
        for quality in QUALITIES:
            sums = np.zeros(2)
            for plane in planes:
                distorted = jpeg(plane, quality)
                sums += _products(restorer, distorted, plane).sum(axis=(0, 1))
            curve[str(quality)] = _factor(sums)
    return curve


def fit_codec(model: Model, codec: str, clips: Sequence[Sequence[Luma]]) -> Curve:
    """The factor of least squared error over the macroblocks of `clips` by their quantizer.

    It is not let rise towards finer quantizers, where encoders put the blocks that are easy.
    """
    encoder, settings = ENCODERS[codec]
    bins: dict[int, NDArray[np.float64]] = {}
    counts: dict[int, int] = {}
    with Restorer(model, precision="fp32") as restorer:
        for options in settings:
            for clip in clips:
                for (distorted, qp), plane in zip(
                    recoded(clip, encoder, options), clip, strict=True
                ):
                    if qp is None:
                        continue
                    products = _products(restorer, distorted, plane)
                    which = qp[: products.shape[0], : products.shape[1]] // BIN
                    for index in np.unique(which):
                        chosen = products[which == index]
                        bins[index] = bins.get(index, np.zeros(2)) + chosen.sum(axis=0)
                        counts[index] = counts.get(index, 0) + len(chosen)
    centre = (BIN - 1) / 2
    known = sorted((index for index in bins if counts[index] >= FEWEST), reverse=True)
    falling = np.minimum.accumulate([LARGEST] + [_factor(bins[index]) for index in known])[1:]
    return {
        f"{index * BIN + centre:g}": float(factor)
        for index, factor in zip(reversed(known), reversed(falling), strict=True)
    }


def recoded(
    clip: Sequence[Luma], encoder: str, options: dict[str, str]
) -> Iterator[tuple[Luma, NDArray[np.int32] | None]]:
    """The luma of `clip` encoded and decoded, and the quantizer of each macroblock if told."""
    with av.open(encoded(clip, encoder, options), "r") as container:
        video = container.streams.video[0]
        video.codec_context.options = {"export_side_data": "venc_params"}
        for frame in container.decode(video):
            side_data: Any = frame.side_data
            told = side_data.get("VIDEO_ENC_PARAMS")
            yield luma_plane(frame).copy(), None if told is None else told.qp_map()


def _products(restorer: Restorer, distorted: Luma, plane: Luma) -> NDArray[np.float64]:
    """<residual, original - distorted> and <residual, residual> by macroblock, (R, C, 2)."""
    residual = restorer.luma(distorted).astype(np.float64) - distorted
    missing = plane.astype(np.float64) - distorted
    height, width = (length // MACROBLOCK * MACROBLOCK for length in plane.shape)
    tiles = np.stack([residual * missing, residual**2], axis=-1)[:height, :width]
    shape = (height // MACROBLOCK, MACROBLOCK, width // MACROBLOCK, MACROBLOCK, 2)
    return np.asarray(tiles.reshape(shape).sum(axis=(1, 3)))


def _factor(sums: NDArray[np.float64]) -> float:
    along, square = sums
    return round(float(min(max(along / max(square, 1.0), 0.0), LARGEST)), 3)
