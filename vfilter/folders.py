"""Runs over many files: what is a video among them, and what each becomes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vfilter.encoders import Y4M
from vfilter.errors import ArgumentError, InputError, OutputError
from vfilter.opening import unreadable
from vfilter.segments import ENDING as STATE
from vfilter.sink import muxer_of

VIDEOS = {
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2t", ".m2ts", ".m2v"),
    *(".m4v", ".mjpg", ".mjpeg", ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".ts", ".vob", ".webm"),
    *(".wmv", ".xvid", ".y4m"),
}
"""Endings of names, in lower case, by which a folder's files are taken for videos."""

ANY = ".mkv"
"""Ending of what holds everything, for inputs whose own container is not written."""


UNUSUAL = ("mpeg", Y4M)
"""Muxers that are written where they are asked for, but not by default: few players know program
streams of anything but MPEG-1 and 2, and y4m is large and holds no sound."""


def pairs_of(inputs: Sequence[Path], folder: Path, ending: str | None) -> list[tuple[Path, Path]]:
    """Each video of `inputs`, files and folders, and the file in `folder` that it becomes.

    The videos of a folder keep their places in its tree, and all keep their names; `ending`, or
    `ANY` where the container is not one that is usually written, replaces theirs, and is added to
    it where two would get the same name. An input that isn't there comes as it is, and so does a
    folder that can't be read: restoring it tells so, and the others are done.
    Raises InputError if a folder holds no video, ArgumentError if two inputs would become one file
    all the same, `folder` holds an input or `ending` is none, OutputError if `folder` is a file.
    """
    if ending is not None and not _is_ending(ending):
        raise ArgumentError(f"ending must be one of a file's name, like mp4, got {ending!r}")
    if folder.is_file():
        raise OutputError(f"{folder}: is a file; name a folder for the outputs")
    placed = [(path, place) for given in inputs for path, place in _videos(given, folder)]
    targets = [place.with_suffix(_ending(place, ending)) for _, place in placed]
    counts = Counter(targets)
    pairs = []
    for (path, place), target in zip(placed, targets, strict=True):
        shared = counts[target] > 1 and target.suffix != place.suffix
        whole = place.with_name(place.name + target.suffix) if shared else target
        pairs.append((path, folder / whole))
    for target, count in Counter(target for _, target in pairs).items():
        if count > 1:
            raise ArgumentError(f"{target}: {count} inputs would become this file; rename one")
    return pairs


@contextmanager
def folder_of(output: Path) -> Iterator[None]:
    """Make the folder of `output` and those above it; what is empty of them goes with an error.

    Raises OutputError if they can't be made.
    """
    try:
        made = [path for path in output.parents if not path.exists()]
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output.parent}: can't be made a folder ({error.strerror})") from error
    try:
        yield
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def _videos(given: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """The videos that `given` stands for, each with its place in the output's tree."""
    try:
        if not given.is_dir():
            yield given, Path(given.name)
            return
        whole = given.resolve()
        if folder.resolve() in (whole, *whole.parents):  # outputs would be inputs next time
            raise ArgumentError(f"{folder}: holds the input {given}; name another folder")
        next(given.iterdir(), None)  # raises if nothing in it can be read
        found = [path for path in sorted(_files(given)) if _is_taken(path, given, folder)]
    except (OSError, RuntimeError) as error:
        raise unreadable(given, error) from error
    if not found:
        raise InputError(f"{given}: holds no file whose name ends like a video's")
    for path in found:
        yield path, path.relative_to(given)


def _files(given: Path) -> Iterator[Path]:
    """The files in a folder and in those below it, and which of these folders can't be read."""
    unread: list[Path] = []
    for folder, _, names in os.walk(given, onerror=lambda e: unread.append(Path(e.filename))):
        yield from (Path(folder, name) for name in names)
    yield from unread


def _is_taken(path: Path, given: Path, folder: Path) -> bool:
    """Whether `path` in the folder `given` is a video, or can't be read, and no output of ours."""
    parts = path.relative_to(given).parts
    hidden = any(part.startswith(".") or part.endswith(STATE) for part in parts)
    is_video = path.suffix.lower() in VIDEOS and path.is_file()  # a loop of links is none
    if hidden or not (is_video or path.is_dir()):
        return False
    return not path.resolve().is_relative_to(folder.resolve())


def _is_ending(text: str) -> bool:
    """Whether a file's name can end in `text`, with or without a dot before."""
    name = text.removeprefix(".")
    return name != "" and Path(f"name.{name}").suffix == f".{name}"


def _ending(place: Path, ending: str | None) -> str:
    """The ending that the output of an input at `place` gets."""
    if ending is not None:
        return "." + ending.removeprefix(".")
    try:
        return ANY if muxer_of(place) in UNUSUAL else place.suffix
    except OutputError:
        return ANY
