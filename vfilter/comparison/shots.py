"""The frames and places that a report shows, and what each filter made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vfilter.comparison.measure import Clip

CROP = 96
"""Side of a crop in pixels; at most half of the frame's shorter side."""

STEP = 8
"""Pixels between the places looked at: crops keep the grid of blocks."""

PLACES = 2
"""Crops where most is gained, and as many where least is."""

REFERENCE = "original"
SOURCE = "source"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A square of a frame: its top left corner in pixels, its side, and why it is shown."""

    frame: int
    top: int
    left: int
    side: int
    why: str

    @property
    def area(self) -> tuple[slice, slice]:
        """The rows and columns of it."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


class Shots:
    """Chosen frames and crops of a film, and the luma that each filter made of them.

    frames: why each frame is shown, by its number; places: the crops.
    planes: luma (H, W) by number of the frame and name of the run; crops: likewise by place.
    """

    def __init__(self, source: Clip, reference: Clip | None) -> None:
        self._source = source
        self._reference = reference
        self.frames: dict[int, str] = {}
        self.places: list[Place] = []
        self.planes: dict[int, dict[str, NDArray[np.uint8]]] = {}
        self.crops: dict[Place, dict[str, NDArray[np.uint8]]] = {}

    def choose(self, clip: Clip) -> None:
        """Choose by what `clip`, the first that is shown, gains; keep film and reference there."""
        if self.frames:
            return
        gains = np.stack([self._gain(clip, number) for number in range(clip.frames)])
        side = self._side
        self.frames = _telling_frames(gains.mean(axis=(1, 2)), self._reference is not None)
        self.places = _telling_places(gains, side, self._reference is not None)
        self.keep(SOURCE, self._source)
        if self._reference is not None:
            self.keep(REFERENCE, self._reference)

    def keep(self, name: str, clip: Clip) -> None:
        """Keep what the run `name` made of the chosen frames and places."""
        planes = clip.planes
        for number in self.frames:
            self.planes.setdefault(number, {})[name] = planes[number].copy()
        for place in self.places:
            self.crops.setdefault(place, {})[name] = planes[place.frame][place.area].copy()

    @property
    def _side(self) -> int:
        shortest = min(self._source.height, self._source.width)
        return min(CROP, shortest // 2 // STEP * STEP)

    def _gain(self, clip: Clip, number: int) -> NDArray[np.float64]:
        """The mean over each crop, each `STEP` pixels, of how much squared error `clip` takes away.

        Without a reference, of how much it changes.
        """
        before = self._source.planes[number].astype(np.float64)
        after = clip.planes[number].astype(np.float64)
        if self._reference is None:
            gain = (after - before) ** 2
        else:
            clean = self._reference.planes[number]
            gain = (before - clean) ** 2 - (after - clean) ** 2
        total: NDArray[Any] = cv2.integral(gain)
        side = self._side
        sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side]
        sums = sums + total[:-side, :-side]
        return np.asarray(sums[::STEP, ::STEP] / side**2, dtype=np.float64)


def _telling_frames(gains: NDArray[np.float64], has_reference: bool) -> dict[int, str]:
    """The frames of most, of middling and of least gain, (N,), and why."""
    order = np.argsort(gains, kind="stable")
    what = "gain" if has_reference else "change"
    chosen = {int(order[-1]): f"most {what}"}
    chosen.setdefault(int(order[len(order) // 2]), f"middling {what}")
    chosen.setdefault(int(order[0]), f"least {what}")
    return chosen


def _telling_places(gains: NDArray[np.float64], side: int, has_reference: bool) -> list[Place]:
    """Places of most and of least gain, (N, rows, columns), no two at one spot."""
    kinds = (("best", 1.0), ("worst", -1.0)) if has_reference else (("most changed", 1.0),)
    open_ = np.ones(gains.shape[1:], dtype=bool)
    places = []
    for _ in range(PLACES):
        for why, sign in kinds:
            if not open_.any():
                break
            ranked = np.where(open_, sign * gains, -np.inf)
            frame, row, column = (int(i) for i in np.unravel_index(ranked.argmax(), gains.shape))
            spots = {"top": row * STEP, "left": column * STEP}
            places.append(Place(frame=frame, **spots, side=side, why=why))
            reach = side // STEP
            rows = slice(max(0, row - reach + 1), row + reach)
            open_[rows, max(0, column - reach + 1) : column + reach] = False
    return sorted(places, key=lambda place: place.why)
