"""python samples/demo.py

Restores samples/camera.avi with the installed `vdeblock`, as a user would, into demo/camera.mp4,
prints what was gained against the pristine frames, and draws demo/before-after.png.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from make import pristine_luma
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vfilter.comparison.metrics import psnr, psnr_b, ssim_uniform
from vfilter.luma import luma_depth, luma_plane

Plane = NDArray[np.uint8]

ROOT = Path(__file__).resolve().parents[1]
BEFORE = Path("samples/camera.avi")
AFTER = Path("demo/camera.mp4")
PICTURE = Path("demo/before-after.png")

METRICS = {"PSNR": psnr, "PSNR-B": psnr_b, "SSIM": ssim_uniform}
UNITS = {"PSNR": " dB", "PSNR-B": " dB", "SSIM": ""}

SHOWN = 6
"""Index of the frame in the picture: the astronaut's face, sharp, early in the tilt."""

REGION = (184, 60, 397, 240)
"""Left, top, right and bottom, in pixels, of what is enlarged: skin, hair and smooth wall."""

ENLARGED = 3
"""Times the region is enlarged, pixel by pixel."""

CAPTION = 28
"""Height of a caption in pixels."""


def restore() -> None:
    """Runs the `vdeblock` of this environment on the clip; leaves with its exit code on failure."""
    program = shutil.which("vdeblock", path=str(Path(sys.executable).parent))
    if program is None:
        raise SystemExit(f"no vdeblock beside {sys.executable}: install it with pip install -e .")
    (ROOT / AFTER).parent.mkdir(exist_ok=True)
    arguments = [str(BEFORE), str(AFTER), "--model", "l8", "--overwrite"]
    print("$ vdeblock", *arguments, flush=True)
    status = subprocess.run([program, *arguments], cwd=ROOT, check=False).returncode
    if status:
        raise SystemExit(status)


def frames(path: Path) -> Iterator[av.VideoFrame]:
    """The decoded video frames of a file, its path given from the root of the repository."""
    with av.open(ROOT / path) as container:
        yield from container.decode(video=0)


def luma(frame: av.VideoFrame) -> Plane:
    """The luma plane of an 8-bit frame, (H, W) uint8 in the frame's own range."""
    if luma_depth(frame) != 8:
        raise ValueError(f"the metrics are for luma of 8 bits, the frame is {frame.format.name}")
    return np.asarray(luma_plane(frame), dtype=np.uint8)


def scores(path: Path) -> dict[str, NDArray[np.float64]]:
    """Each metric of each frame's luma against the pristine one, (frames,) per metric."""
    pairs = [
        (luma(frame), reference)
        for frame, reference in zip(frames(path), pristine_luma("camera"), strict=True)
    ]
    return {
        name: np.array([metric(plane, reference) for plane, reference in pairs])
        for name, metric in METRICS.items()
    }


def print_gain(
    before: dict[str, NDArray[np.float64]], after: dict[str, NDArray[np.float64]]
) -> None:
    """One line per metric, each a mean over all frames."""
    count = len(before["PSNR"])
    print(f"Luma against the pristine frames, mean of {count}:")
    for name, unit in UNITS.items():
        old, new = float(before[name].mean()), float(after[name].mean())
        digits = 2 if unit else 4
        print(f"  {name:6} {old:7.{digits}f} -> {new:7.{digits}f}  {new - old:+.{digits}f}{unit}")


def draw(captions: tuple[str, str]) -> Image.Image:
    """Before and after side by side, whole and beneath it the enlarged region."""
    halves = [half(path, text) for path, text in zip((BEFORE, AFTER), captions, strict=True)]
    width, height = halves[0].size
    picture = Image.new("RGB", (2 * width, height))
    for index, image in enumerate(halves):
        picture.paste(image, (index * width, 0))
    return picture


def half(path: Path, caption: str) -> Image.Image:
    """One side of the picture: caption, whole frame with the region framed, region enlarged."""
    frame = next(frame for index, frame in enumerate(frames(path)) if index == SHOWN)
    whole = Image.fromarray(frame.to_ndarray(format="rgb24"))
    region = whole.crop(REGION)
    region = region.resize(
        (ENLARGED * region.width, ENLARGED * region.height), Image.Resampling.NEAREST
    )
    image = Image.new(
        "RGB", (max(whole.width, region.width), CAPTION + whole.height + region.height)
    )
    image.paste(whole, (0, CAPTION))
    image.paste(region, (0, CAPTION + whole.height))
    pen = ImageDraw.Draw(image)
    pen.text((8, 4), caption, font=ImageFont.load_default(size=18))
    left, top, right, bottom = REGION
    pen.rectangle((left - 1, top + CAPTION - 1, right, bottom + CAPTION), outline="yellow")
    return image


def main() -> None:
    """Restores, measures and draws."""
    restore()
    before, after = scores(BEFORE), scores(AFTER)
    print_gain(before, after)
    old, new = before["PSNR"][SHOWN], after["PSNR"][SHOWN]
    draw((f"before: {old:.2f} dB", f"after: {new:.2f} dB")).save(ROOT / PICTURE)
    print(f"Restored clip: {AFTER}")
    print(f"Frame {SHOWN}, before and after: {PICTURE}")


if __name__ == "__main__":
    main()
