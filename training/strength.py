"""The strength that serves a source best, by what its stream tells, fitted on training data.

A blind network restores by what it takes the damage for; on what it wasn't trained on it does too
little or, far worse, too much. Where the stream tells how coarse it is, the residual is scaled by
the factor of least error, <residual, original - distorted> / <residual, residual>; relative error,
so that a clip counts as much as it does in dB.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from training.data import Luma, encoded, jpeg, read_luma
from training.drawings import drawing, drawn_film
from training.video import film
from vfilter.bitstream import MACROBLOCK, QP_CODECS, Hints, scaled_luma_table
from vfilter.comparison.metrics import mse, psnr
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of
from vfilter.weights import Model

Curve = dict[str, float]

QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 98, 100)
"""Where the strength for JPEG is fitted: closer where it changes more."""

LARGEST = 2.0
"""Largest strength: a limit for sources far below the trained range."""


def _scales(*scales: int) -> tuple[dict[str, str], ...]:
    """Options of FFmpeg's MPEG encoders for these quantiser scales."""
    return tuple({"qmin": str(scale), "qmax": str(scale)} for scale in scales)


ENCODERS: dict[str, tuple[str, tuple[dict[str, str], ...]]] = {
    "h264": ("libx264", tuple({"crf": str(crf)} for crf in (14, 18, 22, 26, 30, 34, 38, 42))),
    "mpeg4": ("mpeg4", _scales(2, 3, 4, 6, 8, 12, 18, 28)),
    "mpeg2video": ("mpeg2video", _scales(2, 3, 4, 6, 8, 12, 18, 28)),
    "vp9": (
        "libvpx-vp9",
        tuple({"crf": str(crf), "b": "0", "cpu-used": "4"} for crf in (10, 20, 30, 40, 50)),
    ),
    "hevc": ("libx265", ({"crf": "24", "x265-params": "log-level=error"},)),
    "av1": ("libsvtav1", ({"crf": "28", "preset": "8"},)),
    "vp8": ("libvpx", ({"crf": "10", "b": "2M", "cpu-used": "4"},)),
}
"""By codec: the encoder, and the settings at which the clips are encoded; those whose streams tell
no quantizer at one good setting."""

FITTED = {
    "jpeg": ("h264", "mpeg4", "mpeg2video"),
    "h264": ("h264", "vp9", "hevc", "av1", "vp8"),
    "mpeg": ("mpeg4", "mpeg2video"),
}
"""By codec of the training: the codecs that its models get a curve for."""

BINS = {"vp9": 24}
"""Quantizers that share a point of a curve, by codec; `BIN` for the others."""

BIN = 3

COARSEST = {"h264": 51, "mpeg": 62}
"""The highest quantizer, on the scale of `Hints.qp`, by codec of the training."""

FEWEST = 500
"""Macroblocks that a point needs."""

FRAMES = 8
SHOWN = (0, 3, 5, 7)
SIZE = 192
"""Frames of each clip that are encoded, those of them that count, and their side in pixels."""


DRAWN = 2
"""Drawn films beside the clips of a fit."""

MARGIN = 0.01
"""PSNR in dB by which a model must be better on films of photographs to be taken for real ones."""


def training_clips(folder: Path) -> list[Path]:
    """Every second of the clips in `folder` by name; the others are for checking."""
    return sorted(folder.glob("*.mkv"))[::2]


def read_clip(path: Path) -> list[Luma]:
    """Luma planes of the first frames of a clip, their centre, (H, W) uint8, whole macroblocks."""
    planes = read_luma(path, FRAMES)
    height, width = (min(SIZE, length // MACROBLOCK * MACROBLOCK) for length in planes[0].shape)
    top, left = ((a - b) // 2 for a, b in zip(planes[0].shape, (height, width), strict=True))
    return [np.ascontiguousarray(p[top : top + height, left : left + width]) for p in planes]


def unseen_clips(photographs: Sequence[Luma]) -> list[list[Luma]]:
    """Films of `photographs`, planes (H, W) uint8, as those of the training."""
    return [
        film(plane, SIZE, FRAMES, np.random.default_rng(number))
        for number, plane in enumerate(photographs)
    ]


def drawn_clips() -> list[list[Luma]]:
    """Films of drawings for the fit, so that no strength is chosen by camera films alone."""
    return [drawn_film(SIZE, FRAMES, np.random.default_rng(i)) for i in range(DRAWN)]


def drawn_stills(count: int) -> list[Luma]:
    """Drawings for the fit, (`SIZE`, `SIZE`) uint8 luma."""
    return [drawing(SIZE, np.random.default_rng(i)) for i in range(count)]


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


def fit_range(model: Model, other: Model, planes: Sequence[Luma]) -> list[int]:
    """Lowest and highest JPEG quality around its own at which `model` serves better than `other`.

    Both are told the quantization table; by the mean PSNR over `planes`. Empty if there is none.
    """
    own = model.quality[0]
    with Restorer(model) as restore, Restorer(other) as otherwise:

        def better(quality: int) -> bool:
            hints = Hints(luma_table=tuple(scaled_luma_table(quality).tolist()))
            gain = 0.0
            for plane in planes:
                distorted = jpeg(plane, quality)
                one, two = (r.luma(distorted, hints=hints) for r in (restore, otherwise))
                gain += psnr(one, plane) - psnr(two, plane)
            return gain > 0

        if not better(own):
            return []
        below = takewhile(better, range(own - 1, 0, -1))
        above = takewhile(better, range(own + 1, 101))
        return [own - len(list(below)), own + len(list(above))]


def fit_codec(model: Model, codec: str, clips: Sequence[Sequence[Luma]]) -> Curve:
    """The factor of least error over the macroblocks of `clips` by their quantizer.

    It is not let rise towards finer quantizers, where encoders put the blocks that are easy.
    A codec whose streams tell no quantizer has one point, at 0.
    """
    encoder, settings = ENCODERS[codec]
    width = BINS.get(codec, BIN)
    bins: dict[int, NDArray[np.float64]] = {}
    counts: dict[int, int] = {}
    with Restorer(model, precision="fp32") as restorer, TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        for options in settings:
            for clip in clips:
                path.write_bytes(encoded(clip, encoder, options).getvalue())
                for index, (distorted, hints) in enumerate(_hinted(path)):
                    if index not in SHOWN:
                        continue
                    qp = np.asarray([[0]] if hints.qp is None else hints.qp, dtype=np.int64)
                    products = _products(restorer, distorted, clip[index])
                    which = np.broadcast_to(qp // width, products.shape[:2])
                    for point in np.unique(which):
                        chosen = products[which == point]
                        bins[point] = bins.get(point, np.zeros(2)) + chosen.sum(axis=0)
                        counts[point] = counts.get(point, 0) + len(chosen)
    known = sorted((point for point in bins if counts[point] >= FEWEST), reverse=True)
    falling = np.minimum.accumulate([LARGEST] + [_factor(bins[point]) for point in known])[1:]
    centre = (width - 1) / 2 if codec in QP_CODECS else 0
    return {
        f"{point * width + centre:g}": float(factor)
        for point, factor in zip(reversed(known), reversed(falling), strict=True)
    }


def fit_quantizers(
    model: Model, other: Model, codecs: Sequence[str], clips: Sequence[Sequence[Luma]]
) -> list[int]:
    """The mean quantizers of frames at which `model` serves better than `other`, both told them.

    codecs: keys of `ENCODERS`; clips: (H, W) uint8 luma of their frames, sides whole macroblocks,
    that neither was trained on: on what both know, the one for less is flattered.
    Returns the lowest on the scale of `Hints.qp`, from which on it does by `MARGIN`, and the
    highest there is; empty if it never does. By the mean gain in PSNR over frames of `clips`.
    """
    gains: dict[int, list[float]] = {}
    with (
        Restorer(model) as restore,
        Restorer(other) as otherwise,
        TemporaryDirectory() as folder,
    ):
        path = Path(folder) / "clip.mkv"
        for encoder, settings in (ENCODERS[codec] for codec in codecs):
            for options, clip in product(settings, clips):
                path.write_bytes(encoded(clip, encoder, options).getvalue())
                for index, (distorted, hints) in enumerate(_hinted(path)):
                    if index in SHOWN and hints.coarseness is not None:
                        one, two = (r.luma(distorted, hints=hints) for r in (restore, otherwise))
                        gain = psnr(one, clip[index]) - psnr(two, clip[index])
                        gains.setdefault(hints.coarseness // BIN, []).append(gain)
    falling = sorted(gains, reverse=True)
    better = list(takewhile(lambda point: np.mean(gains[point]) > MARGIN, falling))
    return [better[-1] * BIN, COARSEST[model.codec]] if better else []


def _hinted(path: Path) -> list[tuple[Luma, Hints]]:
    """The luma of a file's frames and what the stream tells of them."""
    with Source(path) as source:
        frames = (item for item in source if isinstance(item, VideoFrame))
        return [(luma_plane(frame).copy(), hints_of(frame)) for frame in frames]


def _products(restorer: Restorer, distorted: Luma, plane: Luma) -> NDArray[np.float64]:
    """<residual, original - distorted> and <residual, residual> by macroblock, (R, C, 2).

    Relative to the error of `distorted`.
    """
    residual = restorer.luma(distorted).astype(np.float64) - distorted
    missing = plane.astype(np.float64) - distorted
    height, width = (length // MACROBLOCK * MACROBLOCK for length in plane.shape)
    tiles = np.stack([residual * missing, residual**2], axis=-1)[:height, :width]
    shape = (height // MACROBLOCK, MACROBLOCK, width // MACROBLOCK, MACROBLOCK, 2)
    return np.asarray(tiles.reshape(shape).sum(axis=(1, 3))) / max(mse(distorted, plane), 0.1)


def _factor(sums: NDArray[np.float64]) -> float:
    along, square = sums
    return round(float(min(max(along / max(square, 1.0), 0.0), LARGEST)), 3)
