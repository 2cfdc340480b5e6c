"""python tests/odd_table.py --data DIR

Runs the first 30 frames of every odd file through `restore_video`, into Matroska, and writes what
comes out, or which error, to `tests/odd.md`. `test_odd.py` holds each row against a new run.

DIR: the development data.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from comparison import read_film, read_tracks

from vfilter import restore_video
from vfilter.errors import VdeblockError

TABLE = Path(__file__).with_name("odd.md")

FRAMES = 30

LARGE = {
    "androidx__bbb_960x540_60fps_vp8.webm",
    "androidx__h265_with_metadata_track.mp4",
    "androidx__hdr10-av1.mp4",
    "androidx__hlg10-color-test.mp4",
    "androidx__sample_edit_list_no_sync_frame_before_edit.mp4",
    "androidx__sample_with_color_info.mp4",
    "mediabunny__cursed-vfr.mp4",
}
"""Files of large pictures, which take seconds; all are H.264 afterwards, whose preset is no part of
what the table tells."""

HEAD = """# What becomes of odd files

The first 30 frames of each into Matroska, by `python tests/odd_table.py --data DIR`. Times are
those of the first and the last frame; sound and the like are told with the number of their packets;
what happened on the way is told last.

| file | frames | times in s | size, format | other streams | told |
|---|---:|---|---|---|---|
"""


def row(path: Path, folder: Path) -> str:
    """The row of the table for one file; its output goes to `folder`."""
    output = folder / "out.mkv"
    try:
        summary = restore_video(
            path,
            output,
            strength=0,
            frames=FRAMES,
            overwrite=True,
            preset="ultrafast" if path.name in LARGE else None,
        )
    except VdeblockError as error:
        reason = str(error).replace(str(path), "").removeprefix(": ")
        return f"| {path.name} | | | | | exit {error.exit_code}: {reason} |"
    film, tracks = read_film(output), read_tracks(output)
    counts = [f"{track.codec or track.kind} {len(track.hashes)}" for track in tracks]
    told = [f"{lost.kind} {lost.codec} is lost" for lost in summary.plan.lost]
    for name in ("damaged", "repaired", "resized"):
        if count := getattr(summary, name):
            told.append(f"{count} {name}")
    told += [f"{count} of another {name}" for name, count in summary.retagged.items()]
    width, height = film.tags["size"]
    times = f"{float(film.times[0]):.3f} to {float(film.times[-1]):.3f}"
    cells = (path.name, len(film.times), times, f"{width}x{height} {film.tags['format']}")
    return "| " + " | ".join(map(str, (*cells, ", ".join(counts), ", ".join(told)))) + " |"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    files = sorted((parser.parse_args().data / "odd").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(path, Path(folder)) for path in files]
    TABLE.write_text(HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
