"""The films of a comparison: read or degraded, their luma on disk, checked to belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.video.frame import VideoFrame

from vfilter.bitstream import Hints
from vfilter.comparison.degrade import degrade as write_degraded
from vfilter.comparison.degrade import parse_degradation
from vfilter.comparison.measure import Clip
from vfilter.errors import InputError
from vfilter.frames import UNSPECIFIED, is_full_range
from vfilter.luma import luma_depth, luma_plane
from vfilter.source import Source, hints_of

PLANAR = ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p", "yuv440p")
"""Pixel formats, less the j of full range, that all of the filters take."""

LEAST = 16
"""Least pixels across and down: a macroblock, and more than the windows of SSIM."""

RATES_APART = Fraction(1, 1000)
"""Share by which two frame rates may differ and be told as one: 29.97 and 30000/1001."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """A film whose luma is in `clip`. index: of its stream; format: of its pixels, less the j.

    hints, tags: of its first frame, these by PyAV's names; full_range: whether it is tagged so.
    """

    path: Path
    clip: Clip
    index: int
    rate: Fraction
    format: str
    codec: str
    hints: Hints
    full_range: bool
    tags: Mapping[str, Any]


def read_films(
    input: str | Path,
    reference: str | Path | None,
    degrade: str | None,
    limit: int | None,
    folder: Path,
) -> tuple[Film, Film | None]:
    """The film to restore, and the pristine one if there is one.

    Raises InputError if they don't fit together.
    """
    if degrade is not None:
        codec, setting = parse_degradation(degrade)
        path = folder / ("degraded.avi" if codec == "mjpeg" else "degraded.mkv")
        clean = _degraded(input, path, codec, setting, limit)
        return _read(path, folder / "source.y", None), clean
    source = _read(input, folder / "source.y", limit)
    if reference is None:
        return source, None
    clean = _read(reference, folder / "reference.y", limit, hints=False)
    _check_alike(source, clean)
    return source, clean


def _degraded(input: str | Path, path: Path, codec: str, setting: int, limit: int | None) -> Film:
    """`input` as pristine film; what it becomes as `codec` at `setting` is written to `path`."""
    target = path.with_name("reference.y")
    with Source(input, frames=limit, hints=False) as source:

        def pristine() -> Iterator[VideoFrame]:
            with target.open("wb") as file:
                for frame in frames_of(source):
                    file.write(luma_bytes(frame))
                    yield frame

        like: dict[str, Any] = {"rate": source.rate, "aspect": source.sample_aspect_ratio}
        write_degraded(pristine(), codec, setting, path, **like)
        size = source.first.height, source.first.width
        return _film(source, input, Clip.of(target, *size))


def _read(path: str | Path, target: Path, limit: int | None, *, hints: bool = True) -> Film:
    """The film at `path`, whose luma is written to `target`."""
    with Source(path, frames=limit, hints=hints) as source:
        _check_format(source)
        with target.open("wb") as file:
            for frame in frames_of(source):
                file.write(luma_bytes(frame))
        return _film(source, path, Clip.of(target, source.first.height, source.first.width))


def _film(source: Source, path: str | Path, clip: Clip) -> Film:
    first = source.first
    return Film(
        path=Path(path).absolute(),
        clip=clip,
        index=source.video.index,
        rate=source.rate,
        format=first.format.name.replace("yuvj", "yuv"),
        codec=source.video.codec_context.codec.canonical_name,
        hints=hints_of(first),
        full_range=is_full_range(first),
        tags={name: getattr(first, name) for name in UNSPECIFIED},
    )


def frames_of(source: Source) -> Iterator[VideoFrame]:
    """The frames of `source`.

    Raises InputError unless all of the filters take what it has.
    """
    _check_format(source)
    return (item for item in source if isinstance(item, VideoFrame))


def _check_format(source: Source) -> None:
    """Raise InputError unless all of the filters take what `source` has."""
    first = source.first
    if luma_depth(first) != 8 or first.format.name.replace("yuvj", "yuv") not in PLANAR:
        raise InputError(
            f"{source.name}: pixels are {first.format.name}, but not all of the filters take "
            f"others than {', '.join(PLANAR)}; convert it to one of these first"
        )
    if min(first.width, first.height) < LEAST:
        raise InputError(
            f"{source.name}: {first.width}x{first.height} is too small to measure; "
            f"sides must be {LEAST} pixels or more"
        )


def luma_bytes(frame: VideoFrame) -> bytes:
    """The luma of an 8-bit frame, line after line."""
    return luma_plane(frame).tobytes()


def _check_alike(source: Film, clean: Film) -> None:
    """Raise InputError unless the reference `clean` is of the size, rate and length of `source`."""
    pairs = {
        "size": [f"{film.clip.width}x{film.clip.height}" for film in (clean, source)],
        "length": [f"{film.clip.frames} frames" for film in (clean, source)],
    }
    if abs(clean.rate - source.rate) > RATES_APART * source.rate:
        pairs["frame rate"] = [f"{float(film.rate):.3f} frames/s" for film in (clean, source)]
    for what, (one, other) in pairs.items():
        if one != other:
            raise InputError(
                f"{clean.path}: the reference has another {what} than the input: {one} and "
                f"{other}; both must be the same film"
            )
