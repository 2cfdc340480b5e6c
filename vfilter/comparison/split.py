"""A film whose left half is as before and whose right half is restored, with its sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vfilter.comparison.ffmpeg import FFmpeg
from vfilter.luma import luma_plane, with_luma
from vfilter.pipeline import plan_video
from vfilter.restorer import Restorer
from vfilter.sink import Sink
from vfilter.source import Source, hints_of
from vfilter.temporal import Temporal

BLACK, WHITE = 16, 235
"""Codes of black and white of limited range (ITU-R BT.601), dark and light enough in full range."""

LETTERS = 1 / 500
"""Scale of the letters by the height of the frame."""


def write_split(
    path: Path,
    output: str | Path,
    model: str | Path,
    device: str,
    precision: str,
    frames: int | None,
    tags: Mapping[str, Any],
) -> None:
    """Write to `output` the film at `path`, 8-bit planar YUV: before | after, labelled.

    frames: the most; tags: of colour, by PyAV's names, which a degradation may have lost.
    Raises InputError and OutputError.
    """
    with (
        Restorer(model, device=device, precision=precision) as restore,
        Source(path, frames=frames) as source,
    ):
        for name, value in tags.items():
            setattr(source.first, name, value)
        plan = plan_video(source, output)
        with Sink(output, source, plan.encoding, plan.streams) as sink:

            def write(after: VideoFrame, before: VideoFrame) -> None:
                sink.write(with_luma(after, halves(luma_plane(before), luma_plane(after))))

            helped = Temporal(restore, write)
            for item in source:
                if isinstance(item, Packet):
                    sink.copy(item)
                    continue
                hints = hints_of(item)
                helped.add(item, restore.luma_of(item, hints=hints), hints, item)
            helped.end()


def with_sound(ffmpeg: FFmpeg, film: Path, sounding: str | Path) -> Path:
    """A copy of the silent `film`, in Matroska, which holds any sound: with that of `sounding`."""
    both = film.with_name("sounding.mkv")
    inputs = ("-i", f"file:{film.name}", "-i", f"file:{Path(sounding).absolute()}")
    streams = ("-map", "0:v", "-map", "1:a?", "-c", "copy", "-shortest")
    ffmpeg.run([*inputs, *streams, "-y", both.name], film.parent)
    return both


def halves(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.uint8]:
    """The left half of plane `before` and the right half of `after`, (H, W) uint8, labelled."""
    middle = before.shape[1] // 2
    joined = np.concatenate([before[:, :middle], after[:, middle:]], axis=1)
    joined[:, max(0, middle - 1) : middle + 1] = WHITE
    _label(joined[:, : middle - 1], "before")
    _label(joined[:, middle + 1 :], "after")
    return joined


def _label(plane: NDArray[np.uint8], text: str) -> None:
    """Write `text` on dark ground into the top left of a plane (H, W), if there is room."""
    height, width = plane.shape
    scale, thick = max(0.35, height * LETTERS), max(1, height // 300)
    (across, up), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    margin = max(2, up // 2)
    if across + 2 * margin > width or up + below + 2 * margin > height:
        return
    box = np.full((up + below + 2 * margin, across + 2 * margin), BLACK, dtype=np.uint8)
    origin = (margin, margin + up)
    cv2.putText(box, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, WHITE, thick, cv2.LINE_AA)
    plane[: box.shape[0], : box.shape[1]] = box
