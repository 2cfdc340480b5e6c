"""The other filters, and the settings that serve each best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vfilter.comparison.ffmpeg import FFmpeg
from vfilter.comparison.metrics import psnr
from vfilter.errors import ArgumentError

QPS = (*range(1, 25), 26, 28, 30, 32, 36, 40, 48, 56, 63)
"""Quantizers of a sweep; 63 is the largest that spp takes."""

THRESHOLDS = (0.01, 0.02, 0.035, 0.05, 0.07, 0.098, 0.13, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0)
"""Detection thresholds of deblock, as a share of the peak; 0.098 and 0.05 are its defaults."""

ROUNDS = 2
"""Times that each setting is swept again where a filter has more than one."""

SAMPLE_FRAMES = 4
"""Frames, spread evenly, on which settings are swept."""

SAMPLE_SIZE = (288, 352)
"""Most lines and columns of the centre that settings are swept on."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A filter of FFmpeg and what is tried with it.

    typed: the filter as most people type it.
    groups: by label, the settings among which the best is run; {qp} and the like are swept.
    axes: the values of what is swept.
    table: the filter with the quantizer of a JPEG's luma table, where that was its users' way.
    share: its best quantizer as a share of that one, measured at qualities 10 and 20.
    """

    typed: str
    groups: Mapping[str, tuple[str, ...]]
    axes: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {"qp": QPS})
    table: str | None = None
    share: float | None = None


RIVALS = {
    "spp": Rival(
        typed="spp",
        groups={
            f"quality {quality}": tuple(
                f"spp=quality={quality}:qp={{qp}}:mode={mode}" for mode in ("hard", "soft")
            )
            for quality in (3, 6)
        },
        table="spp=quality=6:qp={qp}:mode=hard",
        share=0.6,
    ),
    "fspp": Rival(
        typed="fspp",
        groups={
            "quality 5": tuple(
                f"fspp=quality=5:qp={{qp}}:strength={strength}"
                for strength in (-4, 0, -8, 4, 8, 16, 24)
            )
        },
        share=0.4,
    ),
    "uspp": Rival(
        typed="uspp",
        groups={"quality 8": ("uspp=quality=8:qp={qp}:codec=mjpeg",)},
        share=0.6,
    ),
    "pp7": Rival(
        typed="pp7",
        groups={"": tuple(f"pp7=qp={{qp}}:mode={mode}" for mode in ("soft", "medium", "hard"))},
        share=0.27,
    ),
    "deblock": Rival(
        typed="deblock",
        groups={
            "": tuple(
                f"deblock=filter={kind}:block=8:alpha={{alpha}}"
                ":beta={rest}:gamma={rest}:delta={rest}"
                for kind in ("strong", "weak")
            )
        },
        axes={"alpha": THRESHOLDS, "rest": THRESHOLDS},
    ),
}
"""By FFmpeg's name. uspp's default codec, snow, is the weaker and much slower one."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A setting tried in a sweep: `chain` as FFmpeg takes it, mean `psnr` over the sample in dB."""

    rival: str
    chain: str
    psnr: float


def parse_rivals(names: Sequence[str]) -> list[str]:
    """The names of rivals, each once.

    Raises ArgumentError.
    """
    unknown = [name for name in names if name not in RIVALS]
    if unknown:
        raise ArgumentError(
            f"no filter to compare with is called {', '.join(unknown)}; "
            f"there are {', '.join(RIVALS)}"
        )
    return list(dict.fromkeys(names))


def table_qp(table: Sequence[int]) -> int:
    """The quantizer of a JPEG's luma `table`, 64 steps in raster order, as FFmpeg reckoned it.

    Half the larger of the first two AC steps (libavcodec/mjpegdec.c, ff_mjpeg_decode_dqt), which
    its filters got as long as its MJPEG decoder told any.
    """
    return min(63, max(1, max(table[1], table[8]) // 2))


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
    ffmpeg: FFmpeg, name: str, damaged: NDArray[np.uint8], clean: NDArray[np.uint8]
) -> tuple[dict[str, str], list[Trial]]:
    """The best chain of each group of the rival `name`, and all that was tried.

    damaged, clean: samples (N, H, W) of the degraded film and of the original.
    """
    rival = RIVALS[name]
    tried: dict[str, float] = {}

    def score(chain: str) -> float:
        if chain not in tried:
            restored = ffmpeg.filtered(damaged, chain)
            tried[chain] = float(
                np.mean([psnr(*pair) for pair in zip(restored, clean, strict=True)])
            )
        return tried[chain]

    best = {
        label: max((_tuned(template, rival.axes, score) for template in templates), key=score)
        for label, templates in rival.groups.items()
    }
    return best, [Trial(rival=name, chain=chain, psnr=value) for chain, value in tried.items()]


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


def guessed(name: str, qp: int) -> list[str]:
    """The first chain of each group of the rival `name` at a table's quantizer `qp`, unswept."""
    rival = RIVALS[name]
    if rival.share is None:
        return []
    best = max(1, round(rival.share * qp))
    return [templates[0].format(qp=best) for templates in rival.groups.values()]
