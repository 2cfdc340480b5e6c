"""One frame before and after, side by side, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from vfilter.errors import InputError, OutputError
from vfilter.opening import is_pipe
from vfilter.pipeline import check_target
from vfilter.restorer import Restorer
from vfilter.sink import part_of
from vfilter.source import MAX_PIXELS, Source, hints_of, open_input

TELLING = 1 / 3
"""Where in a film to look if nothing is said: its share of the length, past any black opening."""

TOGETHER = 3
"""Frames from there on that are read: those after the first help it."""

GAP = 8
"""White columns between the two pictures, in pixels."""


def write_preview(
    path: str | Path,
    picture: str | Path,
    restore: Restorer,
    *,
    start: float | None = None,
    temporal: bool = True,
    hints: bool = True,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
) -> None:
    """Write one frame of `path` before (left) and after (right) to `picture`, a PNG.

    start: the frame's time in seconds; by default at a third of the length, 0 in a pipe.
    temporal: whether the frames after it help it.
    hints: whether to heed what the stream tells of its compression.
    max_pixels: most pixels of the frame, whose memory is bounded by that.
    Raises InputError and OutputError, and ValueError where both paths are one file.
    """
    check_target(path, picture, overwrite=overwrite)
    if Path(picture).suffix.lower() != ".png":
        raise OutputError(f"{picture}: the preview is a PNG; name a file ending in .png")
    with _open_at(path, start, hints=hints, max_pixels=max_pixels) as source:
        shown = [item for item in source if isinstance(item, VideoFrame)]
        if temporal:
            restored = next(restore.film(shown))
        else:
            restored = restore(shown[0], hints=hints_of(shown[0]))
        before, after = _rgb(shown[0]), _rgb(restored)
    gap = np.full((before.shape[0], GAP, 3), 255, dtype=np.uint8)
    try:
        _save(Image.fromarray(np.hstack([before, gap, after])), Path(picture).resolve())
    except OSError as error:
        raise OutputError(f"{picture}: can't be written ({error.strerror or error})") from error


def _save(image: Image.Image, target: Path) -> None:
    """Write a PNG that has its name, or replaces what had it, only when it is complete."""
    part = part_of(target)
    try:
        image.save(part, format="PNG")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _open_at(path: str | Path, start: float | None, **options: Any) -> Source:
    """The frame at `start`; without one, at a third of the length or, if none is there, the first.

    A single picture has none there, nor a file that is shorter than its header says. A pipe, which
    can be opened but once, gives the first.
    """
    if start is not None or is_pipe(path):
        return Source(path, start=start, frames=TOGETHER, **options)
    with open_input(path) as container:
        telling = (container.duration or 0) / 1_000_000 * TELLING
    try:
        return Source(path, start=telling, frames=TOGETHER, **options)
    except InputError:
        return Source(path, frames=TOGETHER, **options)


def _rgb(frame: VideoFrame) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """(H, W, 3) uint8 RGB of a frame of any format."""
    return frame.to_ndarray(format="rgb24")  # type: ignore[return-value]
