"""The rivals of tables 3 and 4 that run here: FFmpeg's spp, and SA-DCT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.data import Luma, jpeg
from vfilter.bitstream import scaled_luma_table
from vfilter.comparison.ffmpeg import FFmpeg
from vfilter.comparison.metrics import psnr
from vfilter.comparison.rivals import QPS, table_qp
from vfilter.comparison.sadct import sadct
from vfilter.comparison.sweep import best_value

EVERY = 3
"""Of so many images one serves the sweep of spp's quantizer."""


def by_spp(planes: Sequence[Luma], qp: int) -> list[Luma]:
    """`planes`, (H, W) uint8, after spp at its best: 64 shifts, hard thresholds; qp of FFmpeg."""
    ffmpeg = FFmpeg()
    filtered: list[Luma] = list(planes)
    for size in {plane.shape for plane in planes}:
        chosen = [i for i, plane in enumerate(planes) if plane.shape == size]
        padding = [(0, side % 2) for side in size]  # 4:2:0 has even sides
        stack = np.stack([np.pad(planes[i], padding, mode="edge") for i in chosen])
        found = ffmpeg.filtered(stack, f"spp=quality=6:qp={qp}:mode=hard")
        for i, plane in zip(chosen, found, strict=True):
            filtered[i] = plane[: size[0], : size[1]]
    return filtered


def best_qp(planes: Sequence[Luma], quality: int) -> int:
    """The QP of spp that gives every `EVERY`th plane the highest PSNR after JPEG of `quality`."""
    originals = planes[::EVERY]
    distorted = [jpeg(plane, quality) for plane in originals]

    def score(qp: float) -> float:
        pairs = zip(by_spp(distorted, round(qp)), originals, strict=True)
        return float(np.mean([psnr(*pair) for pair in pairs]))

    return round(best_value(QPS, score))


def told_qp(quality: int) -> int:
    """The QP that the luma table of JPEG `quality` stands for."""
    return table_qp(scaled_luma_table(quality).tolist())


def by_sadct(planes: Sequence[Luma], quality: int) -> list[Luma]:
    """`planes`, decoded from JPEG of `quality`, after SA-DCT, told the quantization table."""
    table = scaled_luma_table(quality).tolist()
    return [sadct(plane, table) for plane in planes]
