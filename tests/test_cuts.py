"""A part of a file: the frames asked for, what belongs to them beside, all beginning at 0."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import media
import pytest
from av.packet import Packet
from comparison import (
    Film,
    assert_planes,
    assert_times,
    open_file,
    planes_of,
    read_film,
    read_sound,
    read_tracks,
)

from vfilter import restore_video
from vfilter.errors import ArgumentError, InputError
from vfilter.source import Source

LENGTH = 100
"""Frames of the long take, at 25 per second with a key frame every 10."""

MILLISECOND = Fraction(1, 1000)

ENDINGS = ["mp4", "mov", "mkv", "avi", "ts"]


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Film]]:
    """The long take in a container and its decoded frames, made once."""
    folder = tmp_path_factory.mktemp("takes")
    made: dict[str, tuple[Path, Film]] = {}

    def make(ending: str) -> tuple[Path, Film]:
        if ending not in made:
            path = media.long_take(folder / f"take.{ending}")
            made[ending] = path, read_film(path)
        return made[ending]

    return make


def cut(path: Path, output: Path, **span: Any) -> Film:
    restore_video(path, output, strength=0, lossless=True, **span)
    return read_film(output)


def assert_frames(found: Film, whole: Film, first: int, count: int) -> None:
    """Fail unless `found` is frames `first` on of `whole`, begun at 0."""
    origin = whole.times[first]
    times = [time - origin for time in whole.times[first : first + count]]
    assert_times(found.times, times, unit=MILLISECOND)
    for planes, wanted in zip(found.planes, whole.planes[first : first + count], strict=True):
        assert_planes(planes, wanted)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("first", [1, 8, 9, 10, 11, 18, 19, 20, 35, 99])
def test_start_is_exact_to_the_frame(
    ending: str, first: int, takes: Callable[[str], tuple[Path, Film]], tmp_path: Path
) -> None:
    path, whole = takes(ending)
    origin = whole.times[0] if ending == "ts" else 0
    start = float(whole.times[first] - origin)
    if ending == "ts":  # sound begins the file there
        start += float(begin_of_sound(path))
    found = cut(path, tmp_path / "out.mkv", start=start, frames=3)
    assert_frames(found, whole, first, min(3, LENGTH - first))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("in.mp4", "libx264"),
        ("in.mov", "mpeg2video"),
        ("in.avi", "mpeg4"),
        ("in.avi", "mpeg2video"),
        ("in.mkv", "libx264"),
    ],
)
def test_start_is_exact_where_key_frames_are_shown_out_of_order(
    name: str, codec: str, tmp_path: Path
) -> None:
    path = media.video_file(tmp_path / name, codec, frames=66, **media.REORDERED[codec])
    assert_starts_are_exact(path, range(54, 63))


def test_start_is_exact_in_a_file_of_fragments(tmp_path: Path) -> None:
    path, flags = tmp_path / "in.mp4", {"movflags": "frag_keyframe+empty_moov"}
    with av.open(path, "w", container_options=flags) as file:
        stream = media.add_video(file, **media.REORDERED["libx264"])
        media.fill_video(file, stream, range(66))
    assert_starts_are_exact(path, range(54, 63))


def test_start_is_exact_where_key_frames_are_decoded_long_before(tmp_path: Path) -> None:
    """Two frames, which here are 20 s, before they are shown."""
    path = tmp_path / "in.mp4"
    with av.open(path, "w") as file:
        stream = media.add_video(file, unit=Fraction(1), **media.REORDERED["libx264"])
        media.fill_video(file, stream, range(0, 660, 10))
    assert_starts_are_exact(path, range(54, 63))


def assert_starts_are_exact(path: Path, numbers: range) -> None:
    """Fail unless reading from the times of frames on begins with them, decoded alike."""
    with Source(path) as source:
        unit = source.time_base
        whole = [(frame.pts * unit, planes_of(frame)) for frame in source]
    for time, planes in whole[numbers.start : numbers.stop]:
        with Source(path, start=float(time)) as source:
            assert_planes(planes_of(source.first), planes)


def begin_of_sound(path: Path) -> Fraction:
    """Seconds that the film begins after the sound, if it does."""
    with open_file(path) as container:
        film, sound = (s[0].start_time * s[0].time_base for s in streams_of(container))
        return max(Fraction(film - sound), Fraction(0))


def streams_of(container: Any) -> tuple[Any, Any]:
    return container.streams.video, container.streams.audio


@pytest.mark.parametrize("ending", ENDINGS)
def test_duration_ends_before_the_frame_at_the_end(
    ending: str, takes: Callable[[str], tuple[Path, Film]], tmp_path: Path
) -> None:
    path, whole = takes(ending)
    found = cut(path, tmp_path / "out.mkv", duration=1 + float(begin_of_sound(path)))
    assert_frames(found, whole, 0, 25)


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_counts(
    ending: str, takes: Callable[[str], tuple[Path, Film]], tmp_path: Path
) -> None:
    path, whole = takes(ending)
    assert_frames(cut(path, tmp_path / "out.mkv", frames=7), whole, 0, 7)


def test_more_than_there_is_gives_all(
    takes: Callable[[str], tuple[Path, Film]], tmp_path: Path
) -> None:
    path, whole = takes("mp4")
    assert_frames(cut(path, tmp_path / "out.mkv", frames=1000, duration=60), whole, 0, LENGTH)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(
    ("span", "begin", "end"),
    [
        ({"start": 1.0}, 1, 4),
        ({"start": 1.0, "duration": 2.0}, 1, 3),
        ({"start": 1.0, "frames": 25}, 1, 2),
        ({"frames": 50}, 0, 2),
        ({"duration": 0.2}, 0, 0.2),
    ],
)
def test_sound_is_cut_with_the_film(
    ending: str,
    span: dict[str, Any],
    begin: float,
    end: float,
    takes: Callable[[str], tuple[Path, Film]],
    tmp_path: Path,
) -> None:
    path, _ = takes(ending)
    output = tmp_path / f"out.{ending}"
    restore_video(path, output, strength=0, preset="ultrafast", allow_loss=True, **span)
    (before,), (after,) = sound_tracks(path), sound_tracks(output)
    expected = [
        (payload, time - begin)
        for payload, time in before
        if begin <= time < end or abs(float(time) - begin) < 1e-6
    ]
    assert [payload for payload, _ in after] == [payload for payload, _ in expected]
    if ending != "avi":  # whose sound has no times of its own
        for (_, found), (_, wanted) in zip(after, expected, strict=True):
            assert abs(found - wanted) <= MILLISECOND


@pytest.mark.parametrize("late", [0, 1, 7])
def test_frames_far_apart_are_all_in_a_range_with_sound(late: int, tmp_path: Path) -> None:
    """Sound from beyond the end is read before them, as a decoder holds some."""
    path = media.slides(tmp_path / "in.mp4")
    with Source(path, start=late, duration=10 - late) as source:
        items = list(source)
        frames = [item for item in items if isinstance(item, av.VideoFrame)]
        times = [frame.pts * source.time_base + late for frame in frames]
    begin = 9 if late == 7 else late
    assert [time + begin - late for time in times] == [
        t for t in media.SLIDE_TIMES if late <= t < 10
    ]
    sound = [item.pts * item.time_base for item in items if isinstance(item, Packet)]
    assert 10 - begin - Fraction(1, 10) < max(sound) < 10 - begin


@pytest.mark.parametrize("target", ["avi", "mov", "mkv"])
@pytest.mark.parametrize("source", ["avi", "mov"])
@pytest.mark.parametrize("first", [13, 35])
def test_pcm_is_cut_to_the_sample(first: int, source: str, target: str, tmp_path: Path) -> None:
    path, output = media.in_blocks(tmp_path / f"in.{source}"), tmp_path / f"out.{target}"
    restore_video(path, output, strength=0, preset="ultrafast", start=first / 25, verify=True)
    times, samples = read_sound(output)
    assert times[0] == 0
    assert (samples.ravel() * 2**15).tolist() == list(range(first * 320, 16000))


@pytest.mark.parametrize("span", [{"duration": 0.4}, {"frames": 10}])
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_second_film_ends_with_the_first(
    codec: str, ending: str, span: dict[str, Any], tmp_path: Path
) -> None:
    """In decoding order: what others are predicted from may be shown after the end."""
    path, output = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    whole = read_film(media.two_films(path, codec, frames=30, **media.REORDERED[codec]), index=1)
    restore_video(path, output, strength=0, preset="ultrafast", **span)
    found = read_film(output, index=1)
    numbers = [round(time * 25) for time in found.times]
    assert numbers[:10] == list(range(10))
    assert len(numbers) <= 13
    for number, planes in zip(numbers, found.planes, strict=True):
        assert_planes(planes, whole.planes[number])


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_second_film_begins_with_a_key_frame(codec: str, ending: str, tmp_path: Path) -> None:
    path, output = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    whole = read_film(media.two_films(path, codec, frames=30, **media.REORDERED[codec]), index=1)
    key = first_key_frame(path, after=12)
    restore_video(path, output, strength=0, preset="ultrafast", start=0.48)
    found = read_film(output, index=1)
    assert_times(found.times, [Fraction(k - 12, 25) for k in range(key, 30)], unit=MILLISECOND)
    for planes, wanted in zip(found.planes, whole.planes[key:], strict=True):
        assert_planes(planes, wanted)


def first_key_frame(path: Path, *, after: int) -> int:
    """The number of the first key frame of the second film from frame `after` on."""
    with open_file(path) as container:
        packets = list(container.demux(video=1))
        keys = (round(p.pts * p.time_base * 25) for p in packets if p.is_keyframe and p.size)
        return min(key for key in keys if key >= after)


def sound_tracks(path: Path) -> list[list[tuple[str, Any]]]:
    return [
        [(payload, time) for payload, (time, _) in zip(t.hashes, t.times, strict=True)]
        for t in read_tracks(path)
        if t.kind == "audio"
    ]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_chapters_are_cut_and_shifted(
    ending: str, takes: Callable[[str], tuple[Path, Film]], tmp_path: Path
) -> None:
    output = tmp_path / f"out.{ending}"
    restore_video(takes(ending)[0], output, strength=0, start=0.52, duration=2)
    with open_file(output) as container:
        found = [
            (chapter["metadata"]["title"], *times_of(chapter)) for chapter in container.chapters()
        ]
    expected = [("0", 0, 0.48), ("1", 0.48, 1.48), ("2", 1.48, 2)]
    assert found == [pytest.approx(chapter) for chapter in expected]


def times_of(chapter: Any) -> tuple[float, float]:
    return (
        float(chapter["start"] * chapter["time_base"]),
        float(chapter["end"] * chapter["time_base"]),
    )


def test_captions_are_cut_with_the_film(tmp_path: Path) -> None:
    path, output = media.captioned(tmp_path / "in.mkv", "subrip"), tmp_path / "out.mkv"
    restore_video(path, output, strength=0, start=0.2)
    (captions,) = read_tracks(output)
    assert captions.times == [(Fraction(40, 1000), Fraction(160, 1000))]
    assert captions.hashes == read_tracks(path)[0].hashes[1:]


@pytest.mark.parametrize("ending", ENDINGS)
def test_parts_make_the_whole(
    ending: str, takes: Callable[[str], tuple[Path, Film]], tmp_path: Path
) -> None:
    """Each frame is in exactly one of the parts that follow upon each other."""
    path, whole = takes(ending)
    marks = [0, 0.5, 1.23, 2.0, 10]
    counts = [
        len(
            cut(
                path, tmp_path / f"{start}.mkv", start=start, duration=end - start, overwrite=True
            ).times
        )
        for start, end in pairwise(marks)
    ]
    assert sum(counts) == len(whole.times)


@pytest.mark.parametrize(
    ("span", "match"),
    [
        ({"start": -1}, "start must be 0 or more and at most 1,000,000,000 seconds, got -1"),
        ({"start": 1e20}, "start must be 0 or more and at most 1,000,000,000 seconds, got 1e"),
        ({"start": math.nan}, "start must be 0 or more and at most 1,000,000,000 seconds, got nan"),
        ({"duration": math.inf}, "duration must be more than 0 and at most 1,000,000,000 seconds"),
        ({"duration": 0}, "duration must be more than 0 and at most 1,000,000,000 seconds, got 0"),
        ({"frames": 0}, "frames must be 1 or more, got 0"),
    ],
)
def test_a_range_that_can_hold_nothing_is_refused(
    span: dict[str, Any], match: str, tmp_path: Path
) -> None:
    path = media.y4m(tmp_path / "in.y4m")
    with pytest.raises(ValueError, match=match) as raised:
        restore_video(path, tmp_path / "out.mkv", strength=0, **span)
    assert raised.type is ArgumentError


def test_a_file_without_times_is_cut_by_its_frame_rate(tmp_path: Path) -> None:
    path = media.video_file(tmp_path / "in.h264", frames=50, bf="0")
    whole = read_film(path)
    found = cut(path, tmp_path / "out.mkv", start=1, frames=10)
    assert_times(found.times, [Fraction(k, 25) for k in range(10)], unit=MILLISECOND)
    for planes, wanted in zip(found.planes, whole.planes[25:35], strict=True):
        assert_planes(planes, wanted)


def test_a_range_beyond_the_end_is_an_error(
    takes: Callable[[str], tuple[Path, Film]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no frame of its video could be decoded in the range"):
        cut(takes("mp4")[0], tmp_path / "out.mkv", start=4.1)
    assert list(tmp_path.iterdir()) == []


def test_captions_are_shortened_to_the_range(tmp_path: Path) -> None:
    """One that is on the screen where the range begins, and one where it ends."""
    path, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(path, "w") as file:
        video = media.add_video(file, "libx264", crf="30")
        text = media.add_text(file, "subrip")
        media.fill_video(file, video, range(30))
        media.fill_text(file, text)
    whole = captions(path)
    begin = float(whole[0][0]) + float(whole[0][1]) / 2
    end = float(whole[1][0]) + float(whole[1][1]) / 2
    restore_video(path, output, strength=0, start=begin, duration=end - begin)
    found = captions(output)
    assert [text for *_, text in found] == [text for *_, text in whole[:2]]
    assert found[0][0] == 0
    assert 0 < found[0][1] < whole[0][1]
    assert found[1][0] + found[1][1] <= Fraction(end - begin) + Fraction(1, 20)


def captions(path: Path) -> list[tuple[Fraction, Fraction, bytes]]:
    """Begin, length and text of the captions of a file."""
    with av.open(path) as file:
        return [
            (p.pts * p.time_base, p.duration * p.time_base, bytes(p))
            for p in file.demux(subtitles=0)
            if p.size
        ]


def test_a_decoder_is_left_early_without_hanging(tmp_path: Path) -> None:
    """Its threads must not wait for Python's lock while Python waits for them."""
    path = media.video_file(tmp_path / "a.webm", "libvpx-vp9", frames=24, crf="40", b="0")
    script = (
        "import sys\n"
        "from vfilter.source import Source\n"
        "for count in range(60):\n"
        "    with Source(sys.argv[1]) as source:\n"
        "        for index, _ in enumerate(source):\n"
        "            if index == count % 7: break\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=120)
