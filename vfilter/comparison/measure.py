"""Luma planes on disk, and every metric of them frame by frame."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vfilter.comparison.ffmpeg import FFmpeg
from vfilter.comparison.metrics import (
    Plane,
    blocking_effect,
    flicker,
    mse,
    psnr,
    psnr_b,
    ssim_gaussian,
    ssim_uniform,
)

METRICS: dict[str, Callable[[Plane, Plane], float]] = {
    "psnr": psnr,
    "psnr_b": psnr_b,
    "ssim_uniform": ssim_uniform,
    "ssim_gaussian": ssim_gaussian,
}
"""Against the reference, of each frame by itself."""

XPSNR = re.compile(r"XPSNR y: *(\S+)")
"""The luma's value in a line of the filter's log: a number, inf or nan."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The luma planes of a film in a file, one after the other."""

    path: Path
    frames: int
    height: int
    width: int

    @classmethod
    def of(cls, path: Path, height: int, width: int) -> Self:
        """The clip in `path`, of planes (height, width)."""
        count = path.stat().st_size // (height * width)
        return cls(path=path, frames=count, height=height, width=width)

    @property
    def planes(self) -> NDArray[np.uint8]:
        """(N, H, W) uint8, in the file."""
        shape = (self.frames, self.height, self.width)
        return np.asarray(np.memmap(self.path, np.uint8, "r", shape=shape))


def measured(clip: Clip, source: Clip, reference: Clip | None) -> dict[str, list[float]]:
    """By metric, a value for each frame of `clip`.

    With a reference: PSNR and PSNR-B in dB, SSIM, and flicker in squared codes, not a number in
    the first frame. Without: blocking effect factor in squared codes, and the root mean square
    of the change from `source` in codes.
    """
    planes = clip.planes
    if reference is None:
        return {
            "blockiness": [blocking_effect(plane) for plane in planes],
            "change": [
                math.sqrt(mse(plane, before))
                for plane, before in zip(planes, source.planes, strict=True)
            ],
        }
    clean = reference.planes
    scores = {
        name: [metric(plane, true) for plane, true in zip(planes, clean, strict=True)]
        for name, metric in METRICS.items()
    }
    pairs = range(1, clip.frames)
    later = [flicker(planes[i], planes[i - 1], clean[i], clean[i - 1]) for i in pairs]
    return scores | {"flicker": [math.nan, *later]}


def perceptual_scores(
    ffmpeg: FFmpeg,
    names: Sequence[str],
    clip: Clip,
    reference: Clip,
    rate: Fraction,
    folder: Path,
) -> dict[str, list[float]]:
    """XPSNR in dB and VMAF of each frame's luma, those of `names` ("xpsnr", "libvmaf").

    rate: frames per second, which both weigh by.
    """
    inputs = [part for one in (clip, reference) for part in _raw(one, rate)]
    scores: dict[str, list[float]] = {}
    if "xpsnr" in names:
        graph = "[0:v][1:v]xpsnr=stats_file=xpsnr.log"
        ffmpeg.run([*inputs, "-lavfi", graph, "-f", "null", "-"], folder)
        found = XPSNR.findall((folder / "xpsnr.log").read_text())
        scores["xpsnr"] = [float(value) for value in found]
    if "libvmaf" in names:
        # every plane is the luma: its codes are then those of the file, which `format` may scale
        same = "mergeplanes=0x000000:yuv444p"
        graph = f"[0:v]{same}[a];[1:v]{same}[b];[a][b]libvmaf=log_fmt=json:log_path=vmaf.json"
        ffmpeg.run([*inputs, "-lavfi", graph, "-f", "null", "-"], folder)
        told = json.loads((folder / "vmaf.json").read_text())
        scores["vmaf"] = [float(frame["metrics"]["vmaf"]) for frame in told["frames"]]
    return scores


def _raw(clip: Clip, rate: Fraction) -> list[str]:
    """Arguments that make FFmpeg read the luma of `clip` as gray."""
    size = f"{clip.width}x{clip.height}"
    pixels = ("-f", "rawvideo", "-pixel_format", "gray", "-video_size", size)
    return [*pixels, "-framerate", str(rate), "-i", f"file:{clip.path}"]
