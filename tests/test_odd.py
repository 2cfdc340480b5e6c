"""The contract over odd real files: an error of the expected kind, or nothing of theirs is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import odd_table
import pytest
from comparison import Film, Track, assert_planes, assert_times, read_film, read_tracks
from odd_table import LARGE

from vfilter import Summary, restore_video
from vfilter.errors import InputError

FRAMES = 15
"""Frames of each file that are looked at: more than any decoder or encoder holds back."""

MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is to be expected of a file where that is not the plain contract.

    error: part of the message of the InputError.
    lost: kinds of the streams that no container in question holds.
    why: what is odd about its pictures, which are then compared in number and size alone.
    """

    error: str = ""
    lost: frozenset[str] = field(default_factory=frozenset)
    why: str = ""


DATA = frozenset({"data"})
NO_FRAME = "no frame of its video could be decoded"

ODD = {
    "ffmpegcore__input_audio_only_10sec.mp4": Expected(error="no video stream to restore"),
    "androidx__invalid-bitstream.webm": Expected(error=NO_FRAME),
    "libwebm__invalid_vp9_bitstream-bug_1416.webm": Expected(error="its video can't be decoded"),
    "androidx__h265_with_metadata_track.mp4": Expected(lost=DATA),
    "androidx__sample_with_color_info.mp4": Expected(lost=DATA),
    "getid3__206.126.8.225_2003-11-17-10-43-04_4301.mov": Expected(lost=DATA),
    "auto_editor__h264-mjpeg.mkv": Expected(why="two frames leave the decoder in wrong order"),
    "openh264__Error_I_P.264": Expected(why="no times, and its size changes"),
    "vpf__test_res_change.h264": Expected(why="no times, and its size changes"),
    "mp4parse__no_timescale.mp4": Expected(why="damaged at random"),
}

UNSUPPORTED = (".264", ".h264", ".ogv", ".flv")
"""Endings whose container is for no output: it has no times or scrambles them, or no encoder."""

NAMES = [
    "androidx__bbb_176x144_128kbps_15fps_h263.3gp",
    "androidx__bbb_176x144_192kbps_15fps_mpeg4.mp4",
    "androidx__bbb_960x540_60fps_vp8.webm",
    "androidx__bear-vp9-odd-dimensions.webm",
    "androidx__bt601.mov",
    "androidx__fragmented_captions.mp4",
    "androidx__h265_with_metadata_track.mp4",
    "androidx__hdr10-av1.mp4",
    "androidx__hlg10-color-test.mp4",
    "androidx__iibbibb_editlist_videoonly.mp4",
    "androidx__invalid-bitstream.webm",
    "androidx__roadtrip-vp92-10bit.webm",
    "androidx__sample_edit_list_no_sync_frame_before_edit.mp4",
    "androidx__sample_rotate_and_reflect.mp4",
    "androidx__sample_with_ass_subtitles.mkv",
    "androidx__sample_with_chapters.mkv",
    "androidx__sample_with_color_info.mp4",
    "androidx__sample_with_pgs_subtitles.mkv",
    "androidx__sample_with_vobsub.mp4",
    "auto_editor__SAR-2by3.mp4",
    "auto_editor__h264-mjpeg.mkv",
    "auto_editor__h264-png.mp4",
    "auto_editor__mov_text.mp4",
    "auto_editor__test_yuv422p.mp4",
    "auto_editor__testsrc_with_attachment.mkv",
    "auto_editor__webvtt.mkv",
    "decord__corrupted.mp4",
    "decord__unordered.mov",
    "decord__video_90.mov",
    "drewnoakes__100_0306.AVI",
    "ffmpegcore__input_audio_only_10sec.mp4",
    "getid3__206.126.8.225_2003-11-17-10-43-04_4301.mov",
    "getid3__DivX5-noaudio.avi",
    "getid3__MJ2C.avi",
    "getid3__Type-2 DV.avi",
    "getid3__crappy-01.mov",
    "getid3__h264_bug.flv",
    "getid3__mpeg1.mpg",
    "getid3__mpeg2.mpg",
    "getid3__small.ogv",
    "getid3__truncated.avi",
    "libwebm__invalid_vp9_bitstream-bug_1416.webm",
    "mediabunny__cursed-vfr.mp4",
    "mediabunny__no-initial-keyframe.ts",
    "mediabunny__transparency.webm",
    "mp4parse__no_timescale.mp4",
    "openh264__Error_I_P.264",
    "openshot__test1.mp4",
    "torchcodec__testsrc2_odd_height_444.mp4",
    "torchcodec__testsrc2_odd_height_and_width_444.mp4",
    "torchcodec__testsrc2_odd_height_and_width_444_10bit.mp4",
    "torchcodec__testsrc2_odd_height_and_width_mpeg2.mp4",
    "torchcodec__testsrc2_odd_height_and_width_vp9.mp4",
    "torchcodec__testsrc2_odd_height_and_width_vp9_10bit.mp4",
    "torchcodec__testsrc2_odd_height_vp9.mp4",
    "torchcodec__testsrc2_odd_height_vp9_10bit.mp4",
    "torchcodec__testsrc2_odd_width_444.mp4",
    "torchcodec__testsrc2_odd_width_mpeg2.mp4",
    "torchcodec__testsrc2_odd_width_vp9.mp4",
    "torchcodec__testsrc2_odd_width_vp9_10bit.mp4",
    "vpf__test_res_change.h264",
]


def expected_of(name: str) -> Expected:
    return ODD.get(name, Expected())


def files(names: Iterable[str]) -> pytest.MarkDecorator:
    """The parameter `name`, the large ones marked as slow."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=slow) if name in LARGE else name for name in names]
    )


@pytest.fixture(scope="module")
def odd(data: Path) -> Path:
    return data / "odd"


def test_every_odd_file_is_listed(odd: Path) -> None:
    assert {path.name for path in odd.iterdir()} == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_table_says_what_becomes_of_it(name: str, odd: Path, tmp_path: Path) -> None:
    assert odd_table.row(odd / name, tmp_path) in odd_table.TABLE.read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_frames_before_the_beginning_are_not_hidden(ending: str, odd: Path, tmp_path: Path) -> None:
    """The film begins a third of a second before 0, where an edit list would leave it out."""
    path = odd / "androidx__sample_edit_list_no_sync_frame_before_edit.mp4"
    output = tmp_path / f"out.{ending}"
    summary = restore_video(path, output, strength=0, preset="ultrafast")
    before, after = both_films(path, output, summary, 1000)
    assert before.times[0] == -Fraction(1, 3)
    assert_same_times(after, before)
    apart = [
        read_tracks(f)[0].times[0][0] - film.times[0]
        for f, film in ((path, before), (output, after))
    ]
    assert abs(apart[0] - apart[1]) <= MILLISECOND


@files(NAMES)
def test_lossless_matroska_keeps_everything(name: str, odd: Path, tmp_path: Path) -> None:
    expected = expected_of(name)
    path, output = odd / name, tmp_path / "out.mkv"
    options: dict[str, Any] = {"strength": 0, "lossless": True, "frames": FRAMES}
    if expected.error:
        with pytest.raises(InputError, match=expected.error):
            restore_video(path, output, **options)
        assert list(tmp_path.iterdir()) == []
        return
    summary = restore_video(path, output, **options)
    assert {plan.kind for plan in summary.plan.lost} == expected.lost
    before, after = both_films(path, output, summary, FRAMES)
    assert_same_shape(after, before)
    if not expected.why:
        assert_same_times(after, before)
        if name not in ("mediabunny__transparency.webm", "getid3__MJ2C.avi"):
            for found, wanted in zip(after.planes, before.planes, strict=True):
                assert_planes(found, wanted)
        if summary.plan.encoding.codec == "ffv1":
            assert tags_of(after) == tags_of(before) | {"sample aspect ratio": None}
        else:
            assert tags_of(after) == tags_of(before)
    assert_tracks_kept(path, output, summary, before)


@files(n for n in NAMES if Path(n).suffix not in UNSUPPORTED and not expected_of(n).error)
def test_its_own_container_keeps_everything(name: str, odd: Path, tmp_path: Path) -> None:
    expected = expected_of(name)
    path, output = odd / name, tmp_path / ("out" + Path(name).suffix)
    fast: Any = {"preset": "ultrafast"} if name in LARGE and ".webm" not in name else {}
    summary = restore_video(path, output, strength=0, frames=6, **fast)
    before, after = both_films(path, output, summary, 6)
    assert_same_shape(after, before)
    if not expected.why:
        assert_same_times(after, before)
        converted = {"format", "matrix"} if name == "getid3__MJ2C.avi" else set()
        converted |= {"sample aspect ratio"} if name == "getid3__Type-2 DV.avi" else set()
        found, wanted = tags_of(after), tags_of(before)
        assert {k: found[k] for k in found.keys() - converted} == {
            k: wanted[k] for k in wanted.keys() - converted
        }
    assert_tracks_kept(path, output, summary, before)


@pytest.mark.parametrize(
    "name",
    [
        "drewnoakes__100_0306.AVI",
        "getid3__DivX5-noaudio.avi",
        "getid3__Type-2 DV.avi",
        "getid3__mpeg2.mpg",
        "torchcodec__testsrc2_odd_height_and_width_vp9_10bit.mp4",
    ],
)
def test_the_network_leaves_all_but_luma(name: str, odd: Path, tmp_path: Path, model: Path) -> None:
    path, output = odd / name, tmp_path / "out.mkv"
    summary = restore_video(path, output, model=model, lossless=True, frames=3)
    before, after = both_films(path, output, summary, 3)
    assert_same_times(after, before)
    for (luma, *chroma), (old, *old_chroma) in zip(after.planes, before.planes, strict=True):
        assert_planes(chroma, old_chroma)
        assert (luma != old).mean() > 0.1


def both_films(path: Path, output: Path, summary: Summary, count: int) -> tuple[Film, Film]:
    before = read_film(path, limit=count, index=summary.plan.video)
    after = read_film(output)
    assert len(after.times) == len(before.times) == summary.frames
    return before, after


def assert_same_shape(after: Film, before: Film) -> None:
    assert after.tags["size"] == before.tags["size"]
    assert after.interlaced == before.interlaced


def assert_same_times(after: Film, before: Film) -> None:
    """Fail if times differ by more than a common offset and the milliseconds of Matroska."""
    times = [time - before.times[0] for time in before.times]
    assert_times([time - after.times[0] for time in after.times], times, unit=MILLISECOND)


def tags_of(film: Film) -> dict[str, Any]:
    """What must be the same: untold range is limited; alpha is not seen by FFmpeg's VP9."""
    alike = {"yuva420p": "yuv420p", "bgr0": "rgb24"}
    name = film.tags["format"]
    return {**film.tags, "range": film.tags["range"] or 1, "format": alike.get(name, name)}


def assert_tracks_kept(path: Path, output: Path, summary: Summary, before: Film) -> None:
    """Fail unless each copied stream holds the source's packets from within the film's time."""
    origin = before.times[0]
    span = (origin, before.times[-1] + before.durations[-1])
    actions = {plan.index: plan.action for plan in summary.plan.streams}
    sources = read_tracks(path, film_index=summary.plan.video)
    kept = [track for track in sources if actions[track.index] != "drop"]
    for source, found in zip(kept, aligned(read_tracks(output), kept), strict=True):
        if actions[source.index] == "attach":
            assert found == source.hashes
        elif actions[source.index] == "copy":
            assert is_part(found, source.hashes)
            assert is_part([h for h, t in timed(source) if within(t, span)], found)


def aligned(found: Sequence[Track], kept: Sequence[Track]) -> Iterator[list[str]]:
    """The packets of the output's streams in the order of the source's.

    Attachments are written last, and mp4 leaves out a stream without packets.
    """
    rest = list(found)
    for track in kept:
        alike = [t for t in rest if (t.kind, bool(t.codec)) == (track.kind, bool(track.codec))]
        if alike:
            rest.remove(alike[0])
        yield alike[0].hashes if alike else []


def timed(track: Track) -> Iterator[tuple[str, Fraction | None]]:
    for payload, (time, _) in zip(track.hashes, track.times, strict=True):
        yield payload, time


def within(time: Fraction | None, span: tuple[Fraction, Fraction]) -> bool:
    """Whether `time` is in `span` by more than what rounding may shift."""
    return time is not None and span[0] + 2 * MILLISECOND <= time < span[1] - 2 * MILLISECOND


def is_part(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether `part` is a run of `whole`."""
    starts = np.flatnonzero(np.array([*whole, ""]) == part[0]) if part else [0]
    return any(list(whole[int(at) : int(at) + len(part)]) == list(part) for at in starts)
