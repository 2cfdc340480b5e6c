"""The settings of a filter that serve a film best: tried on samples of its frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vfilter.comparison.metrics import psnr
from vfilter.comparison.rivals import RIVALS
from vfilter.errors import InputError

ROUNDS = 2
"""Times that each setting is swept again where a filter has more than one."""

SAMPLE_FRAMES = 4
"""Frames, spread evenly, on which settings are swept."""

SAMPLE_SIZE = (288, 352)
"""Most lines and columns of the centre that settings are swept on."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A setting tried in a sweep: `chain` as FFmpeg takes it, mean `psnr` over the sample in dB."""

    rival: str
    chain: str
    psnr: float


def sample_of(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The centre of some of the planes (N, H, W): of even sides, on the grid of macroblocks."""
    count, height, width = planes.shape
    chosen = np.linspace(0, count - 1, min(count, SAMPLE_FRAMES)).round().astype(int)
    rows, columns = map(_centre, (height, width), SAMPLE_SIZE)
    return np.ascontiguousarray(planes[chosen][:, rows, columns])


def _centre(length: int, most: int) -> slice:
    """At most `most` pixels in the middle of `length`, from a multiple of 16 on, even in number."""
    size = min(length, most) // 2 * 2
    begin = (length - size) // 2 // 16 * 16
    return slice(begin, begin + size)


def sweep(
    name: str,
    damaged: NDArray[np.uint8],
    clean: NDArray[np.uint8],
    run: Callable[[NDArray[np.uint8], str], NDArray[np.uint8]],
) -> tuple[dict[str, str], list[Trial]]:
    """The best chain of each group of the rival `name`, and all that was tried.

    damaged, clean: samples (N, H, W) of the degraded film and of the original.
    run: makes of planes (N, H, W) what a chain makes of them. A chain that it raises InputError
        for is worse than all others.
    """
    rival = RIVALS[name]
    harmed = (damaged != clean).any(axis=(1, 2))
    if harmed.any():  # a frame as good as the original, mostly black, would make all means infinite
        damaged, clean = damaged[harmed], clean[harmed]
    damaged, clean = damaged[:: rival.every], clean[:: rival.every]
    tried: dict[str, float] = {}

    def score(chain: str) -> float:
        chain = chain.replace(*rival.quicker)
        if chain not in tried:
            try:
                pairs = zip(run(damaged, chain), clean, strict=True)
                tried[chain] = float(np.mean([psnr(*pair) for pair in pairs]))
            except InputError:
                tried[chain] = -math.inf
        return tried[chain]

    best = {
        label: max((_tuned(template, rival.axes, score) for template in templates), key=score)
        for label, templates in rival.groups.items()
    }
    ran = {chain: value for chain, value in tried.items() if value > -math.inf}
    return best, [Trial(rival=name, chain=chain, psnr=value) for chain, value in ran.items()]


def _tuned(
    template: str, axes: Mapping[str, tuple[float, ...]], score: Callable[[str], float]
) -> str:
    """`template` with the values of `axes` that score best, one axis after the other."""
    chosen = {name: values[len(values) // 3] for name, values in axes.items()}
    for _ in range(ROUNDS if len(axes) > 1 else 1):
        for name, values in axes.items():
            chosen[name] = best_value(values, partial(_score, template, chosen, name, score))
    return template.format(**chosen)


def _score(
    template: str,
    chosen: Mapping[str, float],
    name: str,
    score: Callable[[str], float],
    value: float,
) -> float:
    """The score of `template` with the values `chosen`, but `value` for `name`."""
    return score(template.format(**{**chosen, name: value}))


def best_value(values: Sequence[float], score: Callable[[float], float]) -> float:
    """The one of `values`, in order, that scores best: each fourth, then those between."""
    step = 4
    best = max(range(0, len(values), step), key=lambda i: score(values[i]))
    while step > 1:
        step //= 2
        near = [i for i in (best - step, best, best + step) if 0 <= i < len(values)]
        best = max(near, key=lambda i: score(values[i]))
    return values[best]
