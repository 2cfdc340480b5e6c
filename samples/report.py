"""python samples/report.py

Compares our networks with the other filters on samples/camera.avi, against its pristine frames,
into demo/report.html; where Chromium is installed, samples/report.png is its picture.
On a laptop, in seconds: python samples/report.py 4  (frames of the clip)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.video.reformatter import ColorRange
from make import clip_of, jfif_planes, pristine
from PIL import Image

from vfilter import compare

FRAMES = 8

ROOT = Path(__file__).resolve().parents[1]

REPORT = ROOT / "demo" / "report.html"
PICTURE = ROOT / "samples" / "report.png"

SIZE = (1180, 1640)
"""Width and height of the picture in pixels: the slider and the table."""

COLOURS = 96
"""Of the picture's palette, which keeps the file small."""


def write_pristine(path: Path, frames: int) -> None:
    """The first frames of camera.avi before compression, without loss: FFV1 in Matroska."""
    clip = clip_of("camera")
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=clip.rate)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv444p"
        stream.codec_context.color_range = ColorRange.JPEG
        for index, rgb in enumerate(islice(pristine("camera"), frames)):
            planes = np.stack(jfif_planes(rgb))
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            frame.pts, frame.time_base = index, 1 / Fraction(clip.rate)
            frame.color_range = ColorRange.JPEG
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def photograph(report: Path, picture: Path) -> None:
    """A picture of the top of a report, as Chromium shows it; none, and a word, without it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here, so no picture of it")
        return
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", size]
    command = [browser, *options, f"--screenshot={picture}", report.as_uri()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
            picture, optimize=True
        )


def main() -> None:
    """Compares, writes the report, draws it."""
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else FRAMES
    REPORT.parent.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        reference = Path(folder) / "pristine.mkv"
        write_pristine(reference, frames)
        result = compare(
            ROOT / "samples" / "camera.avi",
            reference=reference,
            frames=frames,
            report=REPORT,
            overwrite=True,
            progress=print,
        )
    print(result.to_text())
    photograph(REPORT, PICTURE)


if __name__ == "__main__":
    main()
