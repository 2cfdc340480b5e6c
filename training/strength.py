"""The strength that serves a source best, by what its stream tells, fitted on training data.

A blind network restores by what it takes the damage for; on what it wasn't trained on it does too
little or, far worse, too much. Where the stream tells how coarse it is, the residual is scaled by
the factor of least error, <residual, original - distorted> / <residual, residual>; relative error,
so that a clip counts as much as it does in dB. Where the residual has more energy than quantization
explains, most of it is texture or grain, and it is trusted less (`vfilter.coefficients.Spectrum`),
likewise where the source kept grain or drawings (`vfilter.coefficients.kept`); the limit from which
on it is, is fitted too, and so is how far neighbours in time are to agree with a frame to help it
(`vfilter.temporal`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from training.data import Luma, encoded, gray_frame, halved, jpeg, load_folder, read_luma
from training.drawings import drawing, drawn_film
from training.sources import CODECS
from training.video import film
from vfilter.bitstream import (
    MACROBLOCK,
    QP_CODECS,
    Hints,
    scaled_luma_table,
)
from vfilter.coefficients import (
    BLOCK,
    Spectrum,
    kept,
    restored_by_blocks,
    transformed,
)
from vfilter.comparison.metrics import mse, psnr
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of
from vfilter.temporal import Temporal
from vfilter.tiles import residual_of
from vfilter.weights import ALIASES, TEXTURE, TRAINED, Model, even_doubt, explained, load

Curve = dict[str, float]

LIMITS = (math.inf, 2.2, 1.6, 1.1, 0.8, 0.56, 0.4, 0.28, 0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.025)
"""Shares of the explained error among which that of `Model.tolerated` is looked for; the first is
full trust."""

LOSS = 1.5
"""How much more a loss in dB counts than a gain in the choice of a limit."""


@dataclass(frozen=True)
class Sample:
    """What a frame tells about the strength at each of its macroblocks.

    along, square: <change, original - distorted> and <change, change>, the change being the
        residual as far as it is trusted, by each of `LIMITS` and by `kept`, (limits, rows,
        columns), relative to the frame's squared error.
    point: (rows, columns), the point of the curve that each is at.
    error: the frame's mean squared error, at least 0.1, in squared codes.
    """

    along: NDArray[np.float64]
    square: NDArray[np.float64]
    point: NDArray[np.int64]
    error: float

    def loss(self, limit: int, strengths: NDArray[np.float64]) -> float:
        """What is lost in dB at `strengths` by a number of `LIMITS`, rounding to whole codes
        included."""
        square = float((strengths**2 * self.square[limit]).sum())
        along = float((strengths * self.along[limit]).sum())
        rounding = min(square, 1 / 12 / self.error)
        return 10 * math.log10(max(1 - 2 * along + square + rounding, 1e-3))


AGREEMENTS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
"""Factors among which that of `Model.agreement` is looked for."""


@dataclass(frozen=True)
class Shot:
    """A film: luma planes, (H, W) uint8, the frames of its stream with what that told of them, and
    their luma restored one by one."""

    clean: Sequence[Luma]
    damaged: Sequence[tuple[VideoFrame, Hints]]
    restored: Sequence[Luma]

    def lost(self, model: Model, agreement: float) -> float:
        """What neighbours in time lose in dB at this factor of `Model.agreement`; of a loss
        `LOSS` times as much."""
        told = replace(model)  # reads its metrics anew
        told.metrics["agreements"] = dict.fromkeys(told.metrics["strength"], agreement)
        helped: list[VideoFrame] = []
        with Restorer(told) as restorer:  # its network never runs
            temporal = Temporal(restorer, helped.append)
            for (frame, hints), plane in zip(self.damaged, self.restored, strict=True):
                temporal.add(frame, plane, hints)
            temporal.end()
        planes = [luma_plane(frame) for frame in helped]
        before, after = (
            max(sum(mse(*pair) for pair in zip(these, self.clean, strict=True)), 0.1)
            for these in (self.restored, planes)
        )
        return _weighed(10 * math.log10(after / before))


QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 97, 98, 100)
"""Where the strength for JPEG is fitted: closer where it changes more."""

LARGEST = 2.0
"""Largest strength: a limit for sources far below the trained range."""


def _scales(*scales: int) -> tuple[dict[str, str], ...]:
    """Options of FFmpeg's MPEG encoders for these quantiser scales."""
    return tuple({"qmin": str(scale), "qmax": str(scale)} for scale in scales)


ENCODERS: dict[str, tuple[str, tuple[dict[str, str], ...]]] = {
    "h264": ("libx264", tuple({"crf": str(crf)} for crf in (8, 14, 18, 22, 26, 30, 34, 38, 42))),
    "mpeg4": ("mpeg4", _scales(1, 2, 3, 4, 6, 8, 12, 18, 28)),
    "mpeg2video": ("mpeg2video", _scales(1, 2, 3, 4, 6, 8, 12, 18, 28)),
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

FOREIGN = tuple(options | {"strict": "-1"} for options in _scales(1, 2, 3, 5, 8))
"""Options of FFmpeg's MJPEG encoder, for limited range, in the fit for JPEG."""

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
"""Drawn films beside the clips of a fit, and drawings beside the photographs of `fit_part`."""

FINE = 85
LEAST = 0.02
"""The JPEG quality from which on is tried, after the fit, what it gains in whole codes, which undo
small changes; and the mean gain in dB below which a quality and all finer ones are left alone."""

MARGIN = 0.01
"""PSNR in dB by which a model must be better on films of photographs to be taken for real ones, and
that neighbours in time must add on the clips to be taken for others."""


def fit_strengths(model: Model, data: Path) -> dict[str, Any]:
    """Curves and limits of `model` as its metrics have them, fitted on half of the clips of `data`,
    photographs of BSDS500, and drawings."""
    fitted = {}
    clips = [read_clip(path) for path in training_clips(data / "clips")]
    if model.codec == "jpeg":
        photographs = [halved(plane) for plane in load_folder(data / "BSDS500/train")[::10]]
        planes = photographs + [clip[0] for clip in clips]
        fitted["mjpeg"] = fit_jpeg(model, planes + drawn_stills(len(planes) // 5))
    if model.quality[0] < model.quality[1]:
        films = clips + unseen_clips(load_folder(data / "BSDS500/val")[::5]) + drawn_clips()
        fitted |= {codec: fit_codec(model, codec, films) for codec in FITTED[model.codec]}
    limits = {codec: limit for codec, (_, limit) in fitted.items() if limit < math.inf}
    return {"strength": {codec: curve for codec, (curve, _) in fitted.items()}, "limits": limits}


def fit_agreements(model: Model, data: Path) -> dict[str, float]:
    """By codec that `model` has a strength for: how far neighbours in time are to agree with a
    frame (`Model.agreement`), that by which most is gained over every second clip of the training
    half of `data` and drawings in motion, in dB. None for a codec where that is less than `MARGIN`.

    Photographs in motion would flatter them: they move as evenly as nothing that is filmed.
    """
    clips = training_clips(data / "clips")[::2]
    films = [read_clip(path) for path in clips] + drawn_clips()
    agreements = {}
    with Restorer(model) as restorer:
        for codec in model.metrics["strength"]:
            shots = [
                Shot(clean, damaged, [restorer.luma_of(f, hints=told) for f, told in damaged])
                for clean, damaged in _damaged(codec, films)
            ]
            lost = {f: sum(shot.lost(model, f) for shot in shots) for f in AGREEMENTS}
            best = min(lost, key=lambda factor: lost[factor])
            if lost[best] < -MARGIN * len(shots):
                agreements[codec] = best
    return agreements


def fit_part(model: Model, data: Path) -> list[int]:
    """Where `model` serves better than the one for all qualities of its codec; empty for those."""
    alias = model.network.name
    if alias not in ALIASES or model.name in {f"{alias}-{codec}" for codec in TRAINED}:
        return []
    photographs = load_folder(data / "BSDS500/val")
    if model.codec == "jpeg":
        planes = [p[:240, :240] for p in photographs[::5]] + drawn_stills(DRAWN)
        return fit_range(model, load(ALIASES[alias]), planes)
    films = unseen_clips(photographs[::4]) + drawn_clips()
    return fit_quantizers(model, load(alias, codec=model.codec), CODECS[model.codec], films)


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


def fit_jpeg(model: Model, planes: Sequence[Luma]) -> tuple[Curve, float]:
    """The factor of least squared error over `planes` by JPEG quality, 0 to `LARGEST`, and the
    limit of `Model.tolerated`.

    Half of the planes are compressed by FFmpeg too, whose tables are flatter, as many cameras' are.
    It is 0 from the quality on at which it gains less than `LEAST`, of whole codes.
    """
    samples = []

    def add(distorted: Luma, plane: Luma, hints: Hints) -> None:
        nearest = min(QUALITIES, key=lambda quality: abs(quality - (hints.jpeg_quality or 0)))
        samples.append(_sample(restorer, distorted, plane, hints, np.array([[nearest]])))

    with Restorer(model) as restorer, TemporaryDirectory() as folder:
        for quality in QUALITIES:
            hints = Hints(luma_table=tuple(scaled_luma_table(quality).tolist()))
            for plane in planes:
                add(jpeg(plane, quality), plane, hints)
        path = Path(folder) / "still.mkv"
        for options, plane in product(FOREIGN, planes[1::2]):
            path.write_bytes(encoded([plane], "mjpeg", options).getvalue())
            ((frame, hints),) = _hinted(path)
            add(luma_plane(frame), plane, hints)
        factors, limit = _fit(samples)
        fine = [quality for quality in QUALITIES if quality >= FINE]
        served = takewhile(lambda q: _gain(restorer, planes, q, factors[q], limit) > LEAST, fine)
        factors |= dict.fromkeys(fine[len(list(served)) :], 0.0)
    return {str(point): round(factor, 3) for point, factor in sorted(factors.items())}, limit


def _gain(
    restorer: Restorer, planes: Sequence[Luma], quality: int, factor: float, limit: float
) -> float:
    """The mean gain in dB, a loss counting `LOSS` times, at a JPEG quality by this fit."""
    table = tuple(scaled_luma_table(quality).tolist())
    tolerated = None if limit == math.inf else limit * explained(Hints(luma_table=table))
    total = 0.0
    for plane in planes:
        before = jpeg(plane, quality)
        residual = residual_of(restorer.engine, before, 255, None, None).residual
        after = restored_by_blocks(before, residual, factor, tolerated, table)
        error, left = (max(mse(luma, plane), 0.1) for luma in (before, after))
        total -= _weighed(10 * math.log10(left / error))
    return total / len(planes)


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


def fit_codec(model: Model, codec: str, clips: Sequence[Sequence[Luma]]) -> tuple[Curve, float]:
    """The factor of least error over the macroblocks of `clips` by their quantizer, and the limit
    of `Model.tolerated`.

    It is not let rise towards finer quantizers, where encoders put the blocks that are easy.
    A codec whose streams tell no quantizer has one point, at 0.
    """
    encoder, settings = ENCODERS[codec]
    width = BINS.get(codec, BIN)
    samples = []
    with Restorer(model) as restorer, TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        for options, clip in product(settings, clips):
            path.write_bytes(encoded(clip, encoder, options).getvalue())
            for index, (frame, hints) in enumerate(_hinted(path)):
                if index in SHOWN:
                    distorted = luma_plane(frame)
                    qp = np.asarray([[0]] if hints.qp is None else hints.qp, dtype=np.int64)
                    point = qp // width
                    samples.append(_sample(restorer, distorted, clip[index], hints, point))
    factors, limit = _fit(samples, FEWEST, falling=True)
    centre = (width - 1) / 2 if codec in QP_CODECS else 0
    curve = {
        f"{point * width + centre:g}": round(factor, 3) for point, factor in sorted(factors.items())
    }
    return curve, limit


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
                for index, (frame, hints) in enumerate(_hinted(path)):
                    if index in SHOWN and hints.coarseness is not None:
                        distorted = luma_plane(frame)
                        one, two = (r.luma(distorted, hints=hints) for r in (restore, otherwise))
                        gain = psnr(one, clip[index]) - psnr(two, clip[index])
                        gains.setdefault(hints.coarseness // BIN, []).append(gain)
    falling = sorted(gains, reverse=True)
    better = list(takewhile(lambda point: np.mean(gains[point]) > MARGIN, falling))
    return [better[-1] * BIN, COARSEST[model.codec]] if better else []


def _damaged(
    codec: str, films: Sequence[Sequence[Luma]]
) -> Iterator[tuple[Sequence[Luma], list[tuple[VideoFrame, Hints]]]]:
    """Each of `films` beside what `codec` makes of it, at every second of its settings."""
    if codec == "mjpeg":
        for quality, planes in product(QUALITIES[1::2], films):
            hints = Hints(luma_table=tuple(scaled_luma_table(quality).tolist()))
            yield planes, [(gray_frame(jpeg(plane, quality)), hints) for plane in planes]
        return
    encoder, settings = ENCODERS[codec]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        for options, planes in product(settings[::2], films):
            path.write_bytes(encoded(planes, encoder, options).getvalue())
            yield planes, _hinted(path)


def _hinted(path: Path) -> list[tuple[VideoFrame, Hints]]:
    """A file's frames and what the stream tells of them."""
    with Source(path) as source:
        return [(item, hints_of(item)) for item in source if isinstance(item, VideoFrame)]


def _sample(
    restorer: Restorer, distorted: Luma, plane: Luma, hints: Hints, point: NDArray[np.int64]
) -> Sample:
    """The sample of a frame, sides whole macroblocks; point: of each of them, or (1, 1), of all."""
    residual = residual_of(restorer.engine, distorted, 255, None, None).residual
    missing = transformed(plane.astype(np.float32) - distorted)
    rows, columns = (length // MACROBLOCK for length in plane.shape)
    texture = TEXTURE * float(explained(hints).mean()) if hints.luma_table is None else None
    trust = kept(distorted, texture, even_doubt(hints)) * np.ones((2 * rows, 2 * columns))
    by_row = np.repeat(trust.astype(np.float32), BLOCK, axis=1)[:, None]
    sums = []
    for limit in LIMITS:
        spectrum = Spectrum(residual, None if limit == math.inf else limit * explained(hints))
        change = 255 * np.concatenate([spectrum.trusted(part) for part in spectrum.parts])
        change *= by_row
        products = np.stack([change * missing, change * change])
        of_macroblock = products.reshape(2, rows, MACROBLOCK, columns, MACROBLOCK)
        sums.append(of_macroblock.sum(axis=(2, 4), dtype=np.float64))
    error = max(mse(distorted, plane), 0.1)
    along, square = np.stack(sums, axis=1) / (error * plane.size)
    point = np.broadcast_to(point[:rows, :columns], (rows, columns))
    return Sample(along, square, point, error)


def _fit(
    samples: Sequence[Sample], fewest: int = 1, *, falling: bool = False
) -> tuple[dict[int, float], float]:
    """The factor of least error by point, and the limit with which they lose least in dB.

    fewest: macroblocks that a point needs; falling: whether the factor may not rise towards lower
    points.
    """
    sizes = np.bincount(np.concatenate([sample.point.ravel() for sample in samples]))
    points = [int(point) for point in np.flatnonzero(sizes >= min(fewest, sizes.max()))]
    best: tuple[float, dict[int, float], float] = (math.inf, {}, math.inf)
    for number, limit in enumerate(LIMITS):
        along, square = np.zeros(len(sizes)), np.zeros(len(sizes))
        for sample in samples:
            np.add.at(along, sample.point, sample.along[number])
            np.add.at(square, sample.point, sample.square[number])
        factors = np.clip(along[points] / np.maximum(square[points], 1e-9), 0, LARGEST)
        if falling:
            factors = np.minimum.accumulate(factors[::-1])[::-1]
        lost = 0.0
        for sample in samples:
            strengths = np.interp(sample.point, points, factors)
            lost += _weighed(sample.loss(number, strengths))
        if lost < best[0]:
            best = lost, dict(zip(points, factors.tolist(), strict=True)), limit
    return best[1:]


def _weighed(loss: float) -> float:
    """A loss in dB by what it counts, a gain being less than 0."""
    return loss * (LOSS if loss > 0 else 1)
