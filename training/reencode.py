"""What encoding the restored frames costs at the default quality, by kind of source and encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from training.data import Luma, decoded, encoded, gray_frame, read_luma
from vfilter.bitstream import Hints
from vfilter.comparison.degrade import degrade
from vfilter.comparison.metrics import mse
from vfilter.encoders import choose_encoding
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of

SOURCES: dict[str, tuple[int, ...]] = {
    "mjpeg": (20, 40, 60, 80, 90, 95),
    "h264": (34, 28, 23, 18),
    "mpeg4": (12, 6, 3),
    "mpeg2video": (12, 6, 3),
    "hevc": (32, 24),
}
"""By codec, as `training.sources` has them; the better the source, the dearer its encoding."""

CLIPS = ("foreman_qcif_rawavi", "davis_tennis_240p", "vid4_city")
"""Small clips of camera video; of larger ones the centre is taken."""

SIZE = (352, 240)
"""Most pixels across and down of what is measured."""


def cost_table(
    clips: Sequence[Path], model: str, encoder: str, frames: int
) -> Iterator[dict[str, Any]]:
    """A row for each kind of source, means over `clips`.

    gain: what PSNR gains by restoring with the hints, cost: what it then loses by encoding as
    `choose_encoding` has it, both in dB; worst: the cost on the clip where it is highest; crf: what
    was chosen for each clip; kilobits: size of an encoded frame.
    """
    with Restorer(model) as restore, TemporaryDirectory() as folder:
        for codec, settings in SOURCES.items():
            for setting in settings:
                path = Path(folder) / ("source.avi" if codec == "mjpeg" else "source.mkv")
                rows = []
                for clip in clips:
                    clean = _centre(clip, frames)
                    degrade([gray_frame(plane) for plane in clean], codec, setting, path)
                    rows.append(_measured(restore, path, clean, encoder))
                gains, costs, sizes, chosen = zip(*rows, strict=True)
                yield {
                    "codec": codec,
                    "setting": setting,
                    "gain": round(float(np.mean(gains)), 2),
                    "crf": " ".join(chosen),
                    "cost": round(float(np.mean(costs)), 3),
                    "worst": round(max(costs), 3),
                    "kilobits": round(float(np.mean(sizes)), 1),
                }


def _centre(clip: Path, frames: int) -> list[Luma]:
    """The centre of the luma planes of a clip's first frames, at most `SIZE`."""
    planes = read_luma(clip, frames)
    height, width = planes[0].shape
    top, left = (max(0, (side - most) // 2) for side, most in ((height, SIZE[1]), (width, SIZE[0])))
    return [plane[top : top + SIZE[1], left : left + SIZE[0]] for plane in planes]


def _measured(
    restore: Restorer, path: Path, clean: Sequence[Luma], encoder: str
) -> tuple[float, float, float, str]:
    """Gain and cost in dB, kilobits per frame, and the chosen quality, of one degraded file."""
    with Source(path) as source:
        options = _options(source.first, hints_of(source.first), encoder)
        frames = [item for item in source if isinstance(item, VideoFrame)]
    damaged = [luma_plane(frame) for frame in frames]
    restored = [luma_plane(frame) for frame in restore.film(frames)]
    file = encoded(restored, encoder, dict(options))
    before, after = _mean_error(damaged, clean), _mean_error(restored, clean)
    return (
        _decibel(before, after),
        _decibel(_mean_error(decoded(file), clean), after),
        len(file.getvalue()) * 8 / 1000 / len(clean),
        _quality(options),
    )


def _options(first: VideoFrame, hints: Hints, encoder: str) -> Mapping[str, str]:
    """The options by default for frames like `first` (yuv420p: range and chroma don't matter)."""
    gray = gray_frame(luma_plane(first))
    return choose_encoding("matroska", gray, codec=encoder, hints=hints).options


def _quality(options: Mapping[str, str]) -> str:
    """The rate factor among `options`, or what is in its place."""
    return "finest" if "qmax" in options else options.get("crf", "lossless")


def _mean_error(planes: Sequence[Luma], clean: Sequence[Luma]) -> float:
    return float(np.mean([mse(a, b) for a, b in zip(planes, clean, strict=True)]))


def _decibel(error: float, other: float) -> float:
    """How much lower `other` is than `error`, in dB."""
    return 10 * float(np.log10(error / other))
