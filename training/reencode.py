"""What encoding the restored frames costs, by constant rate factor: how the default was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import av
import numpy as np

from training.data import Luma, decoded, encoded, jpeg
from vfilter.compare.metrics import mse
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer

QUALITIES = (20, 40, 60, 80)
"""JPEG qualities of the sources: the better the source, the dearer its encoding."""

FACTORS = (3.2, 6.6, 10, 12, 14, 16)
"""Constant rate factors that are tried."""

CLIPS = ("foreman_qcif_rawavi", "cisco_vt2people_320x192", "davis_tennis_240p", "mobile_cif_ipcm")
"""Small pristine clips of camera video."""


def read_luma(path: Path, frames: int) -> list[Luma]:
    """Luma planes of the first frames of a clip, (H, W) uint8."""
    with av.open(str(path)) as container:
        decoded = islice(container.decode(video=0), frames)
        return [luma_plane(frame).copy() for frame in decoded]


def cost_table(
    clips: Sequence[Path], model: str, encoder: str, frames: int
) -> Iterator[dict[str, float]]:
    """A row for each source quality and factor, means over `clips`.

    gain: what PSNR gains by restoring, cost: what it then loses by encoding, both in dB;
    kilobits: size of an encoded frame.
    """
    with Restorer(model) as restore:
        for quality in QUALITIES:
            cost = {factor: 0.0 for factor in FACTORS}
            size = {factor: 0.0 for factor in FACTORS}
            gain = 0.0
            for clip in clips:
                clean = read_luma(clip, frames)
                damaged = [jpeg(plane, quality) for plane in clean]
                restored = [restore.luma(plane) for plane in damaged]
                before, after = _mean_error(damaged, clean), _mean_error(restored, clean)
                gain += _decibel(before, after) / len(clips)
                for factor in FACTORS:
                    options = {"crf": f"{factor:g}", "preset": "medium"}
                    if encoder == "libvpx-vp9":
                        options = {"crf": f"{factor:g}", "b": "0", "cpu-used": "2"}
                    file = encoded(restored, encoder, options)
                    bytes_taken = len(file.getvalue())
                    again = decoded(file)
                    cost[factor] += _decibel(_mean_error(again, clean), after) / len(clips)
                    size[factor] += bytes_taken * 8 / 1000 / len(clean) / len(clips)
            for factor in FACTORS:
                yield {
                    "quality": quality,
                    "gain": round(gain, 3),
                    "crf": factor,
                    "cost": round(cost[factor], 3),
                    "kilobits": round(size[factor], 1),
                }


def _mean_error(planes: Sequence[Luma], clean: Sequence[Luma]) -> float:
    return float(np.mean([mse(a, b) for a, b in zip(planes, clean, strict=True)]))


def _decibel(error: float, other: float) -> float:
    """How much lower `other` is than `error`, in dB."""
    return 10 * float(np.log10(error / other))
