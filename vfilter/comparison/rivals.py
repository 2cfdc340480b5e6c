"""The other filters, and the settings that are tried with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vfilter.errors import ArgumentError

QPS = (*range(1, 25), 26, 28, 30, 32, 36, 40, 48, 56, 63)
"""Quantizers of a sweep; 63 is the largest that spp takes."""

STRENGTHS = (-8, -4, 0, 4, 8, 16, 24)
"""Strengths of fspp; it takes -15 to 32."""

THRESHOLDS = (0.01, 0.02, 0.035, 0.05, 0.07, 0.098, 0.13, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0)
"""Detection thresholds of deblock, as a share of the peak; 0.098 and 0.05 are its defaults."""

STEPS = (3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128)
"""Quantization steps of SA-DCT's sweep: of a flat table, on the 8-bit scale."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A filter and what is tried with it.

    typed: the filter as most people type it in FFmpeg; None if it is none of FFmpeg's.
    groups: by label, the settings among which the best is run; {qp} and the like are swept.
    axes: the values of what is swept.
    table: the filter with the quantizer of a JPEG's luma table, where that was its users' way;
        SA-DCT with the table itself, as its authors set it.
    share: its best quantizer as a share of that one, measured at qualities 10 and 20.
    quicker: what is replaced in a setting while it is swept, and by what.
    every: of so many frames of the sample one serves the sweep of what is slow.
    """

    typed: str | None
    groups: Mapping[str, tuple[str, ...]]
    axes: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {"qp": QPS})
    table: str | None = None
    share: float | None = None
    quicker: tuple[str, str] = ("", "")
    every: int = 1


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
        share=0.56,
    ),
    "fspp": Rival(
        typed="fspp",
        groups={"quality 5": ("fspp=quality=5:qp={qp}:strength={strength}",)},
        axes={"qp": QPS, "strength": STRENGTHS},
        share=0.38,
    ),
    "uspp": Rival(
        typed="uspp",
        groups={"quality 8": ("uspp=quality=8:qp={qp}:codec=mjpeg",)},
        share=0.56,
        quicker=("quality=8", "quality=4"),
    ),
    "pp7": Rival(
        typed="pp7",
        groups={"": tuple(f"pp7=qp={{qp}}:mode={mode}" for mode in ("soft", "medium", "hard"))},
        share=0.25,
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
    "sadct": Rival(
        typed=None,
        groups={"": ("sadct=step={step}",)},
        axes={"step": STEPS},
        table="sadct=table",
        every=2,
    ),
}
"""By FFmpeg's name, and SA-DCT, which is run here. uspp's default codec, snow, is the weaker and
much slower one; its best quantizer is that of a sixteenth of its shifts (measured)."""

FFMPEG = tuple(name for name, rival in RIVALS.items() if rival.typed is not None)
"""The rivals that are filters of FFmpeg."""

BY_QUANTIZER = tuple(name for name in FFMPEG if "qp" in RIVALS[name].axes)
"""Those of them that need a quantizer."""


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

    Half the larger of the steps that are 1 and 8 in zigzag order (libavcodec/mjpegdec.c,
    ff_mjpeg_decode_dqt), which its filters got as long as its MJPEG decoder told any.
    """
    return min(63, max(1, max(table[1], table[17]) // 2))


def guessed(name: str, qp: int) -> list[str]:
    """The first chain of each group of the rival `name` at a table's quantizer `qp`, unswept.

    The strength is that of fspp which was best at qualities 10 and 20.
    """
    rival = RIVALS[name]
    if rival.share is None:
        return []
    best = max(1, round(rival.share * qp))
    return [templates[0].format(qp=best, strength=-4) for templates in rival.groups.values()]
