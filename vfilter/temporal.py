"""What the frames around add: restored planes, moved along the motion, where they agree.

An encoder damages the same thing otherwise in each frame, so that its mean over frames, from where
it is in each, has less of the damage than one of them. A frame that this one was predicted from
tells less than those after it: it has the damage of that one already. The motion is sought in the
restored luma, by dense inverse search (Kroeger, Timofte, Dai and Van Gool, "Fast Optical Flow using
Dense Inverse Search", ECCV 2016) in OpenCV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray

from vfilter.bitstream import Hints
from vfilter.coefficients import kept, restored_by_blocks
from vfilter.luma import luma_depth, luma_plane, with_luma
from vfilter.restorer import Restorer

SHARES = (0.7, 0.45)
"""What a frame 1 away and one 2 away count where they agree; the frame itself counts 1."""

REFERENCE_SHARES = (0.45, 0.14)
"""The same of the frame's references, those that it was predicted from."""

WINDOW = 7
"""Side in pixels of the square in which two planes are compared."""

TRUST = 0.5
"""Factor of `Model.tolerated` and `Model.texture` for what neighbours add: most damage is gone by
then."""

SMALLEST, LARGEST = 32, 32766
"""Least and most pixels across and down in which motion is sought. OpenCV's search reads beyond
wide planes of 16 to 31 lines, and its remapping counts pixels in 16 bits."""

INTER = (PictureType.P, PictureType.S, PictureType.SP, PictureType.B)
"""Types of the frames that are predicted from others."""

Motion = NDArray[np.float32] | None
"""Where each pixel of a plane is in another: (H, W, 2), how many columns and rows away; None where
the two planes are the same."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """A restored frame that waits for those after it.

    luma: restored, (H, W) codes in the depth of `frame`, which is as it was decoded.
    more: what `Temporal.add` was given besides.
    agreement: of `Model.agreement`, in squared codes of 8 bits; share: factor of `SHARES`, 0 to 1.
    lines: of each of its fields, or of the whole frame.
    forward, backward: by field, the motion to the next frame and to the one before.
    """

    frame: VideoFrame
    luma: NDArray[Any]
    hints: Hints
    more: tuple[Any, ...]
    agreement: float
    share: float
    lines: tuple[slice, ...]
    forward: list[Motion] = field(default_factory=list)
    backward: list[Motion] = field(default_factory=list)


class Temporal:
    """Restored frames, each helped by those around it; finished in order, two frames later.

    restore: what restored them, and knows what their sources told.
    finish: called with each finished frame, and with what else `add` was given.
    Frames of which nothing is known are finished at once, as they are. A field of an interlaced
    frame is helped by those of its parity.
    """

    def __init__(self, restore: Restorer, finish: Callable[..., None]) -> None:
        self._restore = restore
        self._finish = finish
        self._frames: list[Waiting] = []
        self._finished = 0  # of these: they are kept for those after them

    def add(self, frame: VideoFrame, luma: NDArray[Any], hints: Hints, *more: Any) -> None:
        """The next frame as it was decoded, with its restored luma, (H, W) codes in its depth, and
        what the stream told of it."""
        agreement = self._restore.model_for(hints).agreement(hints)
        share = min(1.0, self._restore.mean_strength(hints))
        if agreement is None or share == 0:
            self.end()
            self._finish(with_luma(frame, luma), *more)
            return
        fields = 2 if frame.interlaced_frame and frame.height > 1 else 1
        lines = tuple(slice(first, None, fields) for first in range(fields))
        now = Waiting(frame, luma, hints, more, agreement, share, lines)
        if self._frames and not _alike(self._frames[-1], now):
            self.end()
        if self._frames:
            _connect(self._frames[-1], now)
        self._frames.append(now)
        if len(self._frames) > self._finished + len(SHARES):
            self._finish_next()

    def end(self) -> None:
        """Finish what waits. What comes then is no neighbour of it."""
        while self._finished < len(self._frames):
            self._finish_next()
        self._frames, self._finished = [], 0

    def _finish_next(self) -> None:
        now = self._frames[self._finished]
        self._finish(with_luma(now.frame, self._helped(self._finished)), *now.more)
        now.forward.clear()  # large, and of no more use
        if self._finished + 1 >= len(SHARES):
            self._frames[self._finished + 1 - len(SHARES)].backward.clear()
        if self._finished < len(SHARES):
            self._finished += 1
        else:
            del self._frames[0]

    def _helped(self, index: int) -> NDArray[Any]:
        """The luma of the frame at `index` with what those around it add."""
        now = self._frames[index]
        depth = luma_depth(now.frame)
        full = 2**depth - 1
        agreement = now.agreement * (full / 255) ** 2
        model = self._restore.model_for(now.hints)
        tolerated, texture = model.tolerated(now.hints), model.texture(now.hints)
        even = model.evenness(now.hints)
        if tolerated is not None:
            tolerated = TRUST * tolerated
        if texture is not None:
            texture = TRUST * texture
        table = now.hints.luma_table if self._restore.project and depth == 8 else None
        decoded = luma_plane(now.frame)
        helped = np.empty_like(now.luma)
        for number, lines in enumerate(now.lines):
            plane = now.luma[lines]
            change = added(plane, self._near(index, number), agreement) / np.float32(full)
            if change.any():
                trust = kept(plane, texture, even, full=full)
                plane = restored_by_blocks(plane, change, trust, tolerated, None, full=full)
            if change.any() and table is not None:
                change = (plane - decoded[lines].astype(np.float32)) / np.float32(full)
                plane = restored_by_blocks(decoded[lines], change, 1.0, None, table)
            helped[lines] = plane
        return helped

    def _near(self, index: int, number: int) -> Iterator[tuple[float, NDArray[np.float32]]]:
        """The field `number` in the frames around that at `index`, moved to where it is there,
        after what each counts; without those that are the same."""
        now = self._frames[index]
        for towards in (-1, 1):
            motion: Motion = None
            chained = True
            for distance in range(1, len(SHARES) + 1):
                at = index + towards * distance
                if not 0 <= at < len(self._frames):
                    break
                last, other = self._frames[at - towards], self._frames[at]
                reference = chained and _is_reference(other.frame, now.frame, towards)
                shares = REFERENCE_SHARES if reference else SHARES
                chained &= other.frame.pict_type in INTER  # nothing is from beyond an I frame
                motion = _joined(motion, (last.forward if towards > 0 else last.backward)[number])
                if motion is not None:
                    plane = other.luma[now.lines[number]]
                    yield shares[distance - 1] * now.share, moved(plane, motion)


def added(
    plane: NDArray[Any], near: Iterable[tuple[float, NDArray[np.float32]]], agreement: float
) -> NDArray[np.float32]:
    """What is to be added to `plane` so that it is the mean of itself and of those `near`.

    plane: (H, W) codes; near: shares, and planes (H, W) of codes, moved to where it is.
    agreement: in squared codes. Where the mean squared difference from `plane` over `WINDOW`
        pixels square is d, a plane counts by its share times 1 / (1 + (d / agreement)^1.5).
    Returns (H, W) float32 codes.
    """
    own = plane.astype(np.float32)
    change, count = np.zeros_like(own), np.ones_like(own)
    for share, other in near:
        other -= own
        weight = np.asarray(cv2.sqrBoxFilter(other, cv2.CV_32F, (WINDOW, WINDOW)), np.float32)
        np.maximum(weight, 0, out=weight)  # it is from running sums, which may end below
        weight *= np.float32(1 / agreement)
        weight *= np.sqrt(weight)
        weight += 1
        np.divide(np.float32(share), weight, out=weight)
        count += weight
        other *= weight
        change += other
    change /= count
    return change


def moved(plane: NDArray[Any], motion: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `plane` has where `motion` leads, cubic between its pixels, (H, W) float32 codes.

    plane: (H, W) codes, or a motion itself, (H, W, 2), then linear between its pixels.
    """
    values = plane.astype(np.float32, copy=False)
    where: Any = _pixels(*motion.shape[:2]) + motion
    between = cv2.INTER_CUBIC if plane.ndim == 2 else cv2.INTER_LINEAR
    absent: Any = None  # no second map
    led = cv2.remap(values, where, absent, between, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(led, np.float32)


def _joined(motion: Motion, further: Motion) -> Motion:
    """A motion, and then that from there on."""
    if motion is None or further is None:
        return further if motion is None else motion
    return motion + moved(further, motion)


@lru_cache(maxsize=1)
def _pixels(height: int, width: int) -> NDArray[np.float32]:
    """Column and row of each pixel, (H, W, 2)."""
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)
    return np.dstack(np.meshgrid(columns, rows))


def _is_reference(other: VideoFrame, frame: VideoFrame, towards: int) -> bool:
    """Whether `frame` is taken to be predicted from `other`, or from what was predicted from it.

    B frames count as no references: those that are ones are finer, and tell as much as others.
    towards: 1 if `other` is shown after it, -1 if before.
    """
    if frame.pict_type not in INTER or other.pict_type == PictureType.B:
        return False
    return frame.pict_type == PictureType.B or towards < 0


def _alike(one: Waiting, other: Waiting) -> bool:
    """Whether two frames can be neighbours: whole frames or fields, and luma of one size."""
    sizes = {(waiting.luma.shape, luma_depth(waiting.frame)) for waiting in (one, other)}
    return one.lines == other.lines and len(sizes) == 1


def _connect(before: Waiting, after: Waiting) -> None:
    """Seek the motion between two successive frames, both ways."""
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    excess = luma_depth(after.frame) - 8
    for lines in after.lines:
        one, two = (waiting.luma[lines] for waiting in (before, after))
        found: tuple[Motion, Motion] = (None, None)
        if min(one.shape) >= SMALLEST and max(one.shape) <= LARGEST and (one != two).any():
            one, two = ((plane >> excess).astype(np.uint8, order="C") for plane in (one, two))
            found = search.calc(one, two, None), search.calc(two, one, None)
        before.forward.append(found[0])
        after.backward.append(found[1])
