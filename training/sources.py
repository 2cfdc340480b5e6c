"""What the default gains on each kind of source: the clips that no strength was fitted on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice, tee
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from training.data import Luma, gray_frame
from training.drawings import drawn_film
from vfilter.bitstream import Hints
from vfilter.comparison.degrade import degrade
from vfilter.comparison.metrics import mse, ssim_gaussian
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer
from vfilter.source import Source
from vfilter.weights import Model

SOURCES: dict[str, tuple[int, ...]] = {
    "h264": (34, 28, 23, 18),
    "mpeg4": (12, 6, 3),
    "mpeg2video": (12, 6, 3),
    "mjpeg": (10, 20, 40, 60, 80, 95),
    "hevc": (32, 24),
    "vp9": (45, 30),
    "av1": (45, 30),
}
"""By codec: crf at the preset medium or its like, quantiser scale, or IJG quality."""

CODECS = {"jpeg": (), "h264": ("h264",), "mpeg": ("mpeg4", "mpeg2video")}
"""By codec of the training: those of `SOURCES` that its models are measured on."""

DRAWN = 8
DRAWN_SIZE = 320
DRAWN_SEED = 1000
"""How many drawn films are measured on, their side in pixels, and the seed of the first; the fit of
the strength takes seeds from 0 on, training pairs of numbers."""

GRAIN = 4.0
"""Standard deviation of the grain on still pictures, in codes."""

CONSTANTS = np.arange(0, 2.01, 0.05)
"""Constant strengths among which the best is looked for."""


def checking_clips(folder: Path) -> list[Path]:
    """Every second of the clips in `folder`: those that `training_clips` leaves."""
    return sorted(folder.glob("*.mkv"))[1::2]


def read_frames(path: Path, frames: int) -> list[VideoFrame]:
    """The first frames of a clip."""
    with av.open(str(path)) as container:
        return list(islice(container.decode(video=0), frames))


def drawn_frames(frames: int) -> list[list[VideoFrame]]:
    """Films of drawings like those of the training, which have other seeds.

    yuv420p without colour, `DRAWN_SIZE` pixels square.
    """
    return [
        [gray_frame(plane) for plane in drawn_film(DRAWN_SIZE, frames, np.random.default_rng(seed))]
        for seed in range(DRAWN_SEED, DRAWN_SEED + DRAWN)
    ]


def grainy_frames(clips: Sequence[Path], frames: int) -> list[list[VideoFrame]]:
    """Films of the first frames of clips of 8 bits, standing still, with grain of `GRAIN` that is
    another in each frame; yuv420p without colour, `DRAWN_SIZE` pixels square at most."""
    films = []
    for number, path in enumerate(clips):
        (first,) = read_frames(path, 1)
        picture = luma_plane(first)[:DRAWN_SIZE, :DRAWN_SIZE]
        picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        grain = np.random.default_rng(number).normal(0, GRAIN, (frames, *picture.shape))
        planes = np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)
        films.append([gray_frame(plane) for plane in planes])
    return films


def gains(
    films: Sequence[Sequence[VideoFrame]],
    model: str | Model,
    codecs: Collection[str],
    settings: Sequence[int] = (),
) -> Iterator[dict[str, Any]]:
    """A row for each source of `codecs`, means over `films`, in dB of PSNR of the decoded luma.

    settings: crf, quantiser scales or qualities in place of those of `SOURCES`.
    Columns: psnr: of the source; one: gain at the constant strength 1; best: gain at the one
    constant strength, `at`, that serves this row's films best; told: gain by what the stream tells,
    the default; worst: that on the film where it is least; ssim: what SSIM (Gaussian window) gains.
    """
    with Restorer(model) as restore, TemporaryDirectory() as folder:
        for codec in codecs:
            network = restore.model_for(Hints(codec=codec))
            with Restorer(network) as blind:
                for setting in settings or SOURCES[codec]:
                    scores = []
                    for pristine in films:
                        path = Path(folder) / ("clip.avi" if codec == "mjpeg" else "clip.mkv")
                        degrade(pristine, codec, setting, path)
                        clean = [luma_plane(frame) for frame in pristine]
                        scores.append(_scores(restore, blind, path, clean))
                    yield {"codec": codec, "setting": setting} | _row(np.array(scores))


def _row(scores: NDArray[np.float64]) -> dict[str, float]:
    """What a row says of the scores (clips, ...) of `_scores`."""
    before, told, ssim, *constant = scores.T
    by_constant = 10 * np.log10(before / np.array(constant)).mean(axis=1)
    gain = 10 * np.log10(before / told)
    return {
        "psnr": round(float(10 * np.log10(255**2 / before).mean()), 2),
        "one": round(float(by_constant[np.isclose(CONSTANTS, 1)].item()), 2),
        "best": round(float(by_constant.max()), 2),
        "at": round(float(CONSTANTS[by_constant.argmax()]), 2),
        "told": round(float(gain.mean()), 2),
        "worst": round(float(gain.min()), 2),
        "ssim": round(float(ssim.mean()), 4),
    }


def _scores(
    restore: Restorer, blind: Restorer, path: Path, clean: Sequence[Luma]
) -> NDArray[np.float64]:
    """Means over the frames of a clip (3 + len(`CONSTANTS`),).

    Squared errors of the source, and with hints; gain in SSIM; squared errors at `CONSTANTS`.
    blind: reuses what it found in a plane for all of these.
    """
    means = np.zeros(3 + len(CONSTANTS))
    with Source(path) as source:
        frames = (item for item in source if isinstance(item, VideoFrame))
        given, wanted = tee(frames)
        for frame, restored, original in zip(given, restore.film(wanted), clean, strict=True):
            damaged, told = luma_plane(frame), luma_plane(restored)
            gained = ssim_gaussian(told, original) - ssim_gaussian(damaged, original)
            means[:3] += [mse(damaged, original), mse(told, original), gained]
            for number, constant in enumerate(CONSTANTS):
                blind.strength = float(constant)
                means[3 + number] += mse(blind.luma(damaged), original)
    return means / len(clean)
