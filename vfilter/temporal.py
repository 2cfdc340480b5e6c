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

SHARES = (0.8, 0.55, 0.4)
"""What frames 1, 2 and 3 away count where they agree; the frame itself counts 1."""

REFERENCE_SHARES = (0.45, 0.14, 0.08)
"""The same of the frame's references, those that it was predicted from."""

WINDOW = 7
"""Side in pixels of the square in which two planes are compared."""

LINES = 64
"""Lines that are helped at a time, so that all that is between stays in the processor's cache."""

TRUST = 0.5
"""Factor of `Model.tolerated` and `Model.texture` for what neighbours add: most damage is gone by
then."""

SMALLEST, LARGEST = 32, 32766
"""Least and most pixels across and down in which motion is sought. OpenCV's search reads beyond
wide planes of 16 to 31 lines, and its remapping counts pixels in 16 bits."""

INTER = (PictureType.P, PictureType.S, PictureType.SP, PictureType.B)
"""Types of the frames that are predicted from others."""

Motion = NDArray[np.float32] | None
"""Where each square of two by two pixels of a plane is in another: (2, ceil(H / 2), ceil(W / 2)),
how many such columns and rows away; None where the two planes are the same."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """A restored frame that waits for those after it.

    luma: restored, (H, W) codes in the depth of `frame`, which is as it was decoded.
    more: what `Temporal.add` was given besides.
    agreement: of `Model.agreement`, in squared codes of 8 bits; share: factor of `SHARES`, 0 to 1.
    lines: of each of its fields, or of the whole frame; planes: their restored luma, float32.
    forward, backward: by field, the motion to the next frame and to the one before.
    """

    frame: VideoFrame
    luma: NDArray[Any]
    hints: Hints
    more: tuple[Any, ...]
    agreement: float
    share: float
    lines: tuple[slice, ...]
    planes: tuple[NDArray[np.float32], ...]
    forward: list[Motion] = field(default_factory=list)
    backward: list[Motion] = field(default_factory=list)


class Temporal:
    """Restored frames, each helped by those around it; finished in order, three frames later.

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
        planes = tuple(luma[field_lines].astype(np.float32) for field_lines in lines)
        now = Waiting(frame, luma, hints, more, agreement, share, lines, planes)
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
            change = self._added(index, number, agreement)
            change /= np.float32(full)
            if change.any():
                trust = kept(plane, texture, even, full=full)
                plane = restored_by_blocks(plane, change, trust, tolerated, None, full=full)
            if change.any() and table is not None:
                change = np.subtract(plane, decoded[lines], dtype=np.float32)
                change /= np.float32(full)
                plane = restored_by_blocks(decoded[lines], change, 1.0, None, table)
            helped[lines] = plane
        return helped

    def _added(self, index: int, number: int, agreement: float) -> NDArray[np.float32]:
        """What those around add to the field `number` of the frame at `index`, as `added`."""
        plane = self._frames[index].planes[number]
        near = list(self._near(index, number))
        change = np.empty_like(plane)
        beside = WINDOW // 2
        for top in range(0, len(plane), LINES):
            lines = slice(max(0, top - beside), min(len(plane), top + LINES + beside))
            here = ((share, moved(other, motion, lines)) for share, other, motion in near)
            part = added(plane[lines], here, agreement)
            change[top : top + LINES] = part[top - lines.start :][:LINES]
        return change

    def _near(
        self, index: int, number: int
    ) -> Iterator[tuple[float, NDArray[np.float32], NDArray[np.float32]]]:
        """What the field `number` counts of each frame around that at `index`, its plane, and the
        motion from here to there; without the frames that are the same."""
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
                further = (last.forward if towards > 0 else last.backward)[number]
                if motion is None:
                    motion = further
                elif further is not None:
                    motion = motion + _led(further, motion)
                if motion is not None:
                    yield shares[distance - 1] * now.share, other.planes[number], motion


def added(
    plane: NDArray[Any], near: Iterable[tuple[float, NDArray[np.float32]]], agreement: float
) -> NDArray[np.float32]:
    """What is to be added to `plane` so that it is the mean of itself and of those `near`.

    plane: (H, W) codes; near: shares, and planes (H, W) of codes, moved to where it is.
    agreement: in squared codes. Where the mean squared difference from `plane` over `WINDOW`
        pixels square is d, a plane counts by its share times 1 / (1 + (d / agreement)^1.5).
    Returns (H, W) float32 codes.
    """
    own = plane.astype(np.float32, copy=False)
    change, count = np.zeros_like(own), np.ones_like(own)
    for share, other in near:
        apart = other - own
        weight = np.asarray(cv2.sqrBoxFilter(apart, cv2.CV_32F, (WINDOW, WINDOW)), np.float32)
        np.maximum(weight, 0, out=weight)  # it is from running sums, which may end below
        weight *= np.float32(1 / agreement)
        weight *= np.sqrt(weight)
        weight += 1
        np.divide(np.float32(share), weight, out=weight)
        count += weight
        apart *= weight
        change += apart
    change /= count
    return change


def moved(plane: NDArray[Any], motion: NDArray[np.float32], lines: slice) -> NDArray[np.float32]:
    """What `plane`, (H, W), has where `motion` (`Motion`) leads from `lines`, (h, W) float32."""
    height, width = lines.stop - lines.start, plane.shape[1]
    first = max(0, lines.start // 2 - 1)
    around = motion[:, first : lines.stop // 2 + 2]
    size = 2 * around.shape[2], 2 * around.shape[1]
    here = slice(lines.start - 2 * first, lines.stop - 2 * first)
    across, down = (2 * cv2.resize(part, size)[here, :width] for part in around)
    columns, rows = _pixels(lines.start, height, width)
    across += columns
    down += rows
    values = plane.astype(np.float32, copy=False)
    led = cv2.remap(values, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(led, np.float32)


def _led(further: NDArray[np.float32], motion: NDArray[np.float32]) -> NDArray[np.float32]:
    """The motion `further`, (2, h, w), where `motion`, (2, h, w), leads; of both as in `Motion`."""
    columns, rows = _pixels(0, *motion.shape[1:])
    where = columns + motion[0], rows + motion[1]
    edges = cv2.BORDER_REPLICATE
    return np.stack([cv2.remap(p, *where, cv2.INTER_LINEAR, borderMode=edges) for p in further])


@lru_cache(maxsize=64)
def _pixels(top: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of the pixels of a plane from the line `top` on, (1, W) and (H, 1)."""
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(top, top + height, dtype=np.float32)
    return columns[None], rows[:, None]


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
    """Seek the motion between two successive frames, from the first to the second.

    That from the second to the first is its opposite, where it leads: that is smoother than what
    a search of its own finds.
    """
    excess = luma_depth(after.frame) - 8
    for lines in after.lines:
        one, two = (waiting.luma[lines] for waiting in (before, after))
        forward: Motion = None
        backward: Motion = None
        if min(one.shape) >= SMALLEST and max(one.shape) <= LARGEST and (one != two).any():
            one, two = (_halved(plane >> excess) for plane in (one, two))
            forward = np.ascontiguousarray(_search().calc(one, two, None).transpose(2, 0, 1))
            backward = -_led(forward, -forward)
        before.forward.append(forward)
        after.backward.append(backward)


def _halved(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """The means of squares of two by two codes of 8 bits; an odd last line or column is doubled."""
    codes = plane.astype(np.uint8, order="C", copy=False)
    height, width = codes.shape
    edges = (0, height % 2, 0, width % 2)
    even = cv2.copyMakeBorder(codes, *edges, cv2.BORDER_REPLICATE) if any(edges) else codes
    size = even.shape[1] // 2, even.shape[0] // 2
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), np.uint8)


def _search() -> Any:
    """The search for motion; its numbers are chosen for what neighbours add by what it finds."""
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(0)
    search.setPatchSize(10)
    search.setPatchStride(6)
    search.setGradientDescentIterations(5)
    search.setVariationalRefinementAlpha(80)  # how smooth: the default of 20 follows the damage
    return search
