"""python tests/soak.py --frames 20000

Restores a film of many small frames, and tells whether memory and open files stay flat, and
whether all frames come out. A small version: the same with --frames 2000.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import media

from vfilter import restore_video

WARM = 0.1
"""Share of the frames after which memory is taken to have found its level."""

RISE = 1.03
"""How much more memory at most is in use at the end than then."""

PAGE = resource.getpagesize()


def film(path: Path, frames: int) -> Path:
    """MPEG-4 Part 2 of 64x48 with sound; the same twelve pictures again and again."""
    pictures = [media.picture(index) for index in range(media.FRAMES)]
    with av.open(path, "w") as output:
        video = media.add_video(output, "mpeg4", qscale="6")
        sound = media.add_sound(output, "mp2", 48000)
        for index in range(frames):
            frame = pictures[index % len(pictures)]
            frame.pts, frame.time_base = index, video.codec_context.time_base
            output.mux(video.encode(frame))
            if index % media.RATE == 0:
                a_moment(output, sound, index // media.RATE)
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    return path


def a_moment(output: Any, stream: Any, second: int) -> None:
    """Encode the next 1152 samples of a tone at each second."""
    for number in range(2):
        frame = av.AudioFrame("s16", "mono", 1152)
        frame.planes[0].update(bytes(2304))
        frame.sample_rate, frame.pts = 48000, second * 48000 + number * 1152
        output.mux(stream.encode(frame))


def in_use() -> tuple[int, int]:
    """Bytes of memory, and open files, of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE, len(list(Path("/proc/self/fd").iterdir()))


def soak(folder: Path, frames: int, **options: Any) -> list[tuple[int, int]]:
    """Memory and files after each hundredth of a run of so many frames, all of which came out."""
    path, output = film(folder / "in.mkv", frames), folder / "out.mkv"
    seen: list[tuple[int, int]] = []

    def look(step: Any) -> None:
        if step.frames % (frames // 100) == 0:
            seen.append(in_use())

    summary = restore_video(path, output, progress=look, **options)
    with av.open(output) as container:
        found = sum(1 for packet in container.demux(video=0) if packet.size)
    if not frames == summary.frames == found:
        raise SystemExit(f"{found} frames written, {summary.frames} told, of {frames}")
    return seen


def levels(seen: list[tuple[int, int]]) -> tuple[int, int]:
    """Memory in bytes at most in the tenth after warming up, and in the last tenth."""
    first, tenth = round(len(seen) * WARM), round(len(seen) / 10)
    return max(m for m, _ in seen[first : first + tenth]), max(m for m, _ in seen[-tenth:])


def main() -> None:
    """Run and tell; exit code 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=20000)
    parser.add_argument("--model", default="l4")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = soak(Path(folder), arguments.frames, model=arguments.model)
    before, after = levels(seen)
    files = {count for _, count in seen[len(seen) // 10 :]}
    print(
        f"{arguments.frames} frames, all written; memory {before / 2**20:.1f} MiB after a tenth, "
        f"{after / 2**20:.1f} MiB at the end ({100 * (after / before - 1):+.1f} %); "
        f"open files {min(files)} to {max(files)}"
    )
    sys.exit(after > RISE * before or len(os.listdir("/proc/self/fd")) > max(files))  # noqa: PTH208


if __name__ == "__main__":
    main()
