"""python -m training.footprint l8 INPUT OUTPUT: restore a clip, and print the peak of memory in MB.

A process by itself, so that nothing else is counted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BOX = 64
"""Side in pixels of what moves over an otherwise static clip."""


def footprint(model: str, clip: Path) -> float:
    """Peak memory in MB of a process that restores `clip` from file to file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __name__, model, str(clip), str(Path(folder, "out.mp4"))]
        ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(ran.stdout)


def make_clip(path: Path, width: int, height: int, frames: int, *, static: bool) -> Path:
    """A clip of noise, H.264 at 25 frames a second: new in each frame, or behind a moving box."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width + 7 * frames % 97 + 97), np.uint8)
    with av.open(path, "w") as output:
        options = {"preset": "ultrafast", "crf": "30"}
        stream = output.add_stream("libx264", 25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            left = 0 if static else 7 * index % 97
            luma = noise[:, left : left + width].copy()
            luma[:BOX, index % (width - BOX) :][:, :BOX] = 128
            planes = np.full((height * 3 // 2, width), 128, np.uint8)
            planes[:height] = luma
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def peak_memory() -> float:
    """Most memory in MB that this process had resident, what it was forked from not counted."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        import resource  # which is not everywhere

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main() -> None:
    """Restore and tell."""
    from vfilter.memory import steady
    from vfilter.pipeline import restore_video

    steady()
    model, clip, output = sys.argv[1:]
    restore_video(clip, output, model=model, device="cpu")
    print(round(peak_memory(), 1))


if __name__ == "__main__":
    main()
