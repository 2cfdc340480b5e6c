"""Everything beside the film: copied packet for packet, converted with a word, or an error."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from av.packet import Packet
from av.stream import Disposition
from comparison import (
    Track,
    assert_times,
    open_file,
    read_film,
    read_sound,
    read_text,
    read_tracks,
)

from vfilter import Summary, restore_video
from vfilter.errors import OutputError
from vfilter.pipeline import plan_video
from vfilter.sink import Sink
from vfilter.source import Source

EMPTY_CAPTION = "c4103f122d27677c9db144cae1394a66"
"""MD5 of two zero bytes, which mov muxers put between captions."""

MILLISECOND = Fraction(1, 1000)


def restored(path: Path, output: Path, **options: Any) -> Summary:
    if output.suffix == ".webm":  # the encoder of VP9 has no presets
        return restore_video(path, output, strength=0, **options)
    return restore_video(path, output, strength=0, preset="ultrafast", **options)


def payloads(track: Track) -> list[str]:
    return [payload for payload in track.hashes if payload != EMPTY_CAPTION]


def metadata_of(path: Path) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Tags of the file and of its streams, keys in lower case."""
    with open_file(path) as container:
        tables = [container.metadata, *(stream.metadata for stream in container.streams)]
    of_file, *of_streams = ({k.lower(): v for k, v in table.items()} for table in tables)
    return of_file, of_streams


def chapters_of(path: Path) -> list[tuple[float, float, str]]:
    with open_file(path) as container:
        return [
            (
                float(chapter["start"] * (chapter["time_base"] or 1)),
                float(chapter["end"] * (chapter["time_base"] or 1)),
                chapter["metadata"]["title"],
            )
            for chapter in container.chapters()
        ]


@pytest.mark.parametrize(
    ("source", "target"),
    [("mp4", "mp4"), ("mp4", "mov"), ("mov", "mp4"), ("mov", "mov"), ("mkv", "mkv")],
)
def test_sound_and_captions_are_copied_packet_for_packet(
    source: str, target: str, tmp_path: Path
) -> None:
    path, output = media.phone(tmp_path / f"in.{source}"), tmp_path / f"out.{target}"
    summary = restored(path, output)
    assert {plan.action for plan in summary.plan.streams if plan.kind != "data"} == {"copy"}
    before, after = read_tracks(path), read_tracks(output)
    assert [(t.kind, t.codec, payloads(t)) for t in after] == [
        (t.kind, t.codec, payloads(t)) for t in before
    ]
    for found, wanted in zip(after[:2], before[:2], strict=True):
        assert found.times == wanted.times


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_chapters_survive(source: str, target: str, tmp_path: Path) -> None:
    path, output = media.phone(tmp_path / f"in.{source}"), tmp_path / f"out.{target}"
    restored(path, output)
    expected = [(start / 1000, end / 1000, title) for start, end, title in media.CHAPTERS]
    assert chapters_of(path) == chapters_of(output) == expected


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_metadata_and_languages_survive(source: str, target: str, tmp_path: Path) -> None:
    path, output = media.phone(tmp_path / f"in.{source}"), tmp_path / f"out.{target}"
    restored(path, output)
    of_file, of_streams = metadata_of(output)
    assert of_file.items() >= {"title": "A small film", "comment": "made for tests"}.items()
    languages = [tags.get("language") for tags in of_streams[:4]]
    assert languages == ["eng", "fra", "ger" if target == "mov" else "deu", "spa"]
    handlers = [tags.get("handler_name") for tags in of_streams[:3]]
    assert handlers == ["The picture", "The sound", "The director"]


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_dispositions_survive(target: str, tmp_path: Path) -> None:
    path, output = media.phone(tmp_path / "in.mp4"), tmp_path / f"out.{target}"
    restored(path, output)
    dispositions = [track.disposition for track in read_tracks(output)[:3]]
    assert dispositions == [Disposition.default, Disposition.comment, Disposition.default]


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
def test_metadata_of_any_name_survives(target: str, tmp_path: Path) -> None:
    path, output = tmp_path / "in.mkv", tmp_path / f"out.{target}"
    with av.open(path, "w") as container:
        container.metadata.update({"title": "A film", "CAMERA": "of my aunt", "Größe": "mäßig"})
        media.fill_video(container, media.add_video(container))
    restored(path, output)
    of_file, _ = metadata_of(output)
    expected = {"title": "A film", "camera": "of my aunt", "größe": "mäßig"}
    assert of_file.items() >= expected.items()


def test_attachments_and_covers_of_matroska_survive(tmp_path: Path) -> None:
    path, output = media.uneven(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    restored(path, output)
    before, after = read_tracks(path), read_tracks(output)
    assert [(t.kind, t.codec, t.hashes) for t in after] == [
        (t.kind, t.codec, t.hashes) for t in before
    ]
    assert after[2].disposition == Disposition.attached_pic
    assert metadata_of(output)[1][2] == {"filename": "notes.txt", "mimetype": "text/plain"}


@pytest.mark.parametrize("frames", [None, 5])
@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_a_cover_survives(target: str, frames: int | None, tmp_path: Path) -> None:
    path, output = media.with_cover(tmp_path / "in.mp4"), tmp_path / f"out.{target}"
    restored(path, output, frames=frames)
    cover = read_tracks(output)[1]
    assert cover.disposition == Disposition.attached_pic
    assert cover.hashes == read_tracks(path)[1].hashes


def test_a_cover_survives_before_tags_where_mp4_can_hold_one_of_them(tmp_path: Path) -> None:
    path, output = media.uneven(tmp_path / "in.mkv", CAMERA="of my aunt"), tmp_path / "out.mp4"
    summary = restored(path, output, allow_loss=True)
    assert Disposition.attached_pic in [track.disposition for track in read_tracks(output)]
    assert summary.plan.notes == ("mp4 with a cover picture can't hold the tags CAMERA",)


@pytest.mark.parametrize("target", ["avi", "ts"])
def test_lost_chapters_are_told(target: str, tmp_path: Path) -> None:
    path, output = media.phone(tmp_path / "in.mp4"), tmp_path / f"out.{target}"
    notes = restored(path, output, allow_loss=True).plan.notes
    assert any("can't hold the 2 chapters" in note for note in notes)


def test_a_second_film_is_copied(tmp_path: Path) -> None:
    path, output = media.two_films(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    restored(path, output)
    assert read_tracks(output)[0].hashes == read_tracks(path)[0].hashes


@pytest.mark.parametrize("frames", [1, 2, 12])
@pytest.mark.parametrize("target", ["mp4", "mkv"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_a_second_film_with_b_frames_keeps_its_times(
    source: str, target: str, frames: int, tmp_path: Path
) -> None:
    """Matroska doesn't tell when its first packets are decoded."""
    path, output = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    options: dict[str, Any] = {"bf": "3", "b-pyramid": "normal", **media.ALWAYS_B}
    media.two_films(path, frames=frames, **options)
    restored(path, output, verify=True)
    assert read_tracks(output)[0].hashes == read_tracks(path)[0].hashes
    before, after = read_film(path, index=1), read_film(output, index=1)
    assert_times(after.times, before.times, unit=MILLISECOND)
    assert after.planes[-1][0].tolist() == before.planes[-1][0].tolist()


@pytest.mark.parametrize(
    ("sound", "source", "target", "encoder"),
    [
        ("pcm_u8", "avi", "mp4", "alac"),
        ("adpcm_ima_wav", "avi", "mp4", "alac"),
        ("adpcm_ima_wav", "avi", "mov", "alac"),
        ("adpcm_ms", "avi", "mp4", "alac"),
        ("pcm_mulaw", "avi", "mp4", "alac"),
        ("pcm_mulaw", "avi", "m4v", "alac"),
        ("adpcm_ima_wav", "avi", "mkv", "flac"),
        ("pcm_s16be", "mov", "avi", "pcm_s16le"),
        ("alac", "mov", "avi", "pcm_s32le"),
        ("pcm_s24be", "mov", "avi", "pcm_s32le"),
        ("pcm_f32be", "mov", "avi", "pcm_f32le"),
    ],
)
def test_sound_that_has_to_be_converted_keeps_every_sample(
    sound: str, source: str, target: str, encoder: str, tmp_path: Path
) -> None:
    path, output = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    media.talkie(path, sound, rate=11025, layout="mono")
    summary = restored(path, output)
    assert [plan.encoder for plan in summary.plan.streams] == [encoder]
    assert summary.plan.streams[0].reason == f"{summary.plan.muxer} can't hold {sound}"
    assert np.array_equal(read_sound(output)[1], read_sound(path)[1])


@pytest.mark.parametrize(
    ("sound", "source", "target", "encoder"),
    [
        ("aac", "mp4", "webm", "libopus"),
        ("pcm_u8", "avi", "webm", "libopus"),
        ("wmav2", "avi", "mp4", "aac"),
        ("pcm_s16le", "avi", "ts", "aac"),
    ],
)
def test_sound_that_loses_something_keeps_its_place_and_length(
    sound: str, source: str, target: str, encoder: str, tmp_path: Path
) -> None:
    path, output = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    media.talkie(path, sound, b="96k")
    summary = restored(path, output)
    assert [plan.encoder for plan in summary.plan.streams] == [encoder]
    old, new = (sound_on_the_clock(file) for file in (path, output))
    assert abs(np.flatnonzero(old)[-1] - np.flatnonzero(new)[-1]) < 0.06 * 48000
    assert abs(lateness(new, old)) < 0.003


def sound_on_the_clock(path: Path) -> np.ndarray[Any, Any]:
    """The first second of the first channel at 48 kHz, sample 0 at the first picture's time."""
    with open_file(path) as container:
        resampler = av.AudioResampler("dblp", rate=48000)
        frames: list[Any] = list(container.decode(audio=0))
        begin = frames[0].pts * frames[0].time_base - read_film(path).times[0]
        parts = [e.to_ndarray()[0] for f in (*frames, None) for e in resampler.resample(f)]
    samples = np.concatenate(parts)
    lead = round(begin * 48000)
    placed = np.concatenate([np.zeros(max(lead, 0)), samples[max(-lead, 0) :]])
    return np.pad(placed, (0, 48000))[:48000]


def lateness(sound: np.ndarray[Any, Any], than: np.ndarray[Any, Any]) -> float:
    """Seconds that `sound` lies after `than`, where both fit best."""
    spectra = [np.fft.rfft(np.pad(s, (0, 48000))) for s in (sound, than)]
    fit = np.fft.irfft(spectra[0] * spectra[1].conj())
    best = int(np.argmax(fit))
    return (best if best < 48000 else best - 96000) / 48000


@pytest.mark.parametrize("late", [0.0, 0.2])
@pytest.mark.parametrize("target", ["mp4", "mov", "mkv", "ts", "webm"])
@pytest.mark.parametrize(("sound", "source"), [("aac", "mp4"), ("libopus", "mkv")])
def test_sound_stays_in_step_with_the_film(
    sound: str, source: str, target: str, late: float, tmp_path: Path
) -> None:
    path, output = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    media.talkie(path, sound, rate=48000, late=late)
    restored(path, output)
    assert abs(lateness(sound_on_the_clock(output), sound_on_the_clock(path))) < 0.003


def test_avi_holds_no_late_sound_and_that_is_told(tmp_path: Path) -> None:
    for late, notes in (
        (0.0, ()),
        (0.2, ("avi can't hold that stream 1 begins 0.20 s late",)),
    ):
        path, output = tmp_path / "in.mkv", tmp_path / "out.avi"
        media.talkie(path, "pcm_s16le", late=late)
        assert restored(path, output, overwrite=True).plan.notes == notes
    assert restored(path, output, overwrite=True, start=0.2).plan.notes == ()


@pytest.mark.parametrize(("sound", "source"), [("pcm_u8", "avi"), ("mp2", "avi"), ("aac", "mp4")])
def test_sound_in_avi_is_in_step(sound: str, source: str, tmp_path: Path) -> None:
    """Within 45 ms, from where it is noticed: AVI has no place for what an encoder puts before."""
    path, output = tmp_path / f"in.{source}", tmp_path / "out.avi"
    media.talkie(path, sound, rate=48000)
    restored(path, output)
    assert abs(lateness(sound_on_the_clock(output), sound_on_the_clock(path))) < 0.045


@pytest.mark.parametrize("target", ["mp4", "mkv", "mov"])
def test_a_broadcast_begins_at_zero_and_stays_in_step(target: str, tmp_path: Path) -> None:
    path, output = media.broadcast(tmp_path / "in.ts"), tmp_path / f"out.{target}"
    restored(path, output)
    assert 0 <= read_film(output).times[0] < Fraction(1, 20)
    assert abs(lateness(sound_on_the_clock(output), sound_on_the_clock(path))) < 0.002


@pytest.mark.parametrize(
    ("codec", "source", "target", "encoder"),
    [
        ("mov_text", "mp4", "mkv", "subrip"),
        ("mov_text", "mp4", "webm", "webvtt"),
        ("subrip", "mkv", "mp4", "mov_text"),
        ("subrip", "mkv", "webm", "webvtt"),
        ("webvtt", "mkv", "mp4", "mov_text"),
        ("ass", "mkv", "mp4", "mov_text"),
        ("ass", "mkv", "mov", "mov_text"),
    ],
)
def test_captions_are_converted_word_for_word(
    codec: str, source: str, target: str, encoder: str, tmp_path: Path
) -> None:
    path, output = media.captioned(tmp_path / f"in.{source}", codec), tmp_path / f"out.{target}"
    summary = restored(path, output)
    assert [plan.encoder for plan in summary.plan.streams] == [encoder]
    expected = [
        (begin * MILLISECOND, (end - begin) * MILLISECOND, text)
        for begin, end, text in media.SUBTITLES
    ]
    assert read_text(output) == expected


@pytest.mark.parametrize(
    ("recipe", "source", "target", "match"),
    [
        (media.phone, "mp4", "avi", r"stream 3 \(subtitle, mov_text\) is lost: avi can't hold"),
        (media.phone, "mp4", "ts", "mpegts can't hold mov_text; --allow-loss goes on without"),
        (media.phone, "mp4", "mpg", "mpeg can't hold mov_text"),
        (media.uneven, "mkv", "mp4", "stream 2 .* is lost: mp4 holds no attachments"),
        (media.with_cover, "mp4", "mov", "mov holds no cover pictures"),
        (media.with_cover, "mp4", "webm", "webm can't hold png"),
    ],
)
def test_a_loss_is_an_error_unless_allowed(
    recipe: Any, source: str, target: str, match: str, tmp_path: Path
) -> None:
    path, output = recipe(tmp_path / f"in.{source}"), tmp_path / f"out.{target}"
    with pytest.raises(OutputError, match=match):
        restored(path, output)
    assert not output.exists()
    summary = restored(path, output, allow_loss=True)
    assert summary.plan.lost
    assert len(read_film(output).times) == summary.frames


def test_timecode_survives(tmp_path: Path) -> None:
    path, output = tmp_path / "in.mov", tmp_path / "out.mov"
    with av.open(path, "w") as container:
        stream = media.add_video(container)
        stream.metadata["timecode"] = "01:02:03:04"
        media.fill_video(container, stream)
    restored(path, output)
    assert {tags.get("timecode") for tags in metadata_of(output)[1]} == {"01:02:03:04"}
    assert read_tracks(output)[0].hashes == read_tracks(path)[0].hashes


def spoken(path: Path, *languages: str) -> Path:
    """A film with a sound track in each of `languages`."""
    with av.open(path, "w") as output:
        video = media.add_video(output)
        tracks = [media.add_sound(output, "aac", 48000) for _ in languages]
        for track, language in zip(tracks, languages, strict=True):
            track.metadata["language"] = language
        media.fill_video(output, video)
        for track in tracks:
            media.fill_sound(output, track)
    return path


def languages_of(path: Path) -> list[str | None]:
    return [tags.get("language") for tags in metadata_of(path)[1][1:]]


def test_languages_survive_in_mov_by_its_own_names(tmp_path: Path) -> None:
    codes = ("deu", "ger", "fre", "nld", "zho", "ces", "swe", "hrv", "gle")
    path, film, again = spoken(tmp_path / "in.mkv", *codes), tmp_path / "a.mov", tmp_path / "b.mkv"
    assert restored(path, film).plan.notes == ()
    assert languages_of(film) == ["ger", "ger", "fra", "dut", "chi", "ces", "sve", "hr ", "iri"]
    restored(film, again)
    assert languages_of(again) == ["ger", "ger", "fra", "dut", "chi", "ces", "swe", "hrv", "gle"]
    restored(film, tmp_path / "c.mov")
    assert languages_of(tmp_path / "c.mov") == languages_of(film)


def test_a_language_that_mov_does_not_know_is_told(tmp_path: Path) -> None:
    path = spoken(tmp_path / "in.mkv", "eng", "nob", "und")
    notes = restored(path, tmp_path / "out.mov").plan.notes
    assert notes == ("mov can't hold the language nob of stream 2",)
    assert restored(path, tmp_path / "out.mp4").plan.notes == ()


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize("source", ["mp4", "mov", "mkv"])
def test_titles_of_streams_survive(source: str, target: str, tmp_path: Path) -> None:
    path, output = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    with av.open(path, "w") as container:
        video = media.add_video(container)
        audio = media.add_sound(container, "aac", 48000)
        video.metadata["title"], audio.metadata["title"] = "The film", "The director speaks"
        media.fill_video(container, video)
        media.fill_sound(container, audio)
    restored(path, output)
    key, other = ("name", "title") if target in ("mp4", "mov") else ("title", "name")
    tags = metadata_of(output)[1]
    assert [t.get(key) for t in tags] == ["The film", "The director speaks"]
    assert all(other not in t for t in tags)


def test_names_and_titles_of_attachments_survive(tmp_path: Path) -> None:
    path, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(path, "w") as container:
        video = media.add_video(container)
        notes = container.add_attachment("notes.txt", "text/plain", media.ATTACHMENT)
        notes.metadata["title"] = "What was thought"
        poster = media.png(*media.COVER)
        container.add_attachment("poster small.png", "image/png", poster).metadata["title"] = "Art"
        media.fill_video(container, video)
    restored(path, output)
    assert metadata_of(output)[1][1:] == metadata_of(path)[1][1:]
    assert metadata_of(output)[1][2]["filename"] == "poster small.png"
    assert metadata_of(output)[1][2]["title"] == "Art"


def damage(path: Path, stream: int, number: int) -> None:
    """Overwrite a packet of `stream` with ones."""
    with av.open(path) as container:
        packet = [p for p in container.demux(container.streams[stream]) if p.size][number]
        place, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[place : place + size] = bytes([255] * size)
    path.write_bytes(content)


def sunk(path: Path, output: Path) -> Sink:
    """The sink through which all of `path` went to `output` unrestored."""
    with Source(path) as source:
        plan = plan_video(source, output)
        with Sink(output, source, plan.encoding, plan.streams) as sink:
            for item in source:
                if isinstance(item, Packet):
                    sink.copy(item)
                else:
                    sink.write(item)
    return sink


def test_a_damaged_caption_is_left_out_and_counted(tmp_path: Path) -> None:
    path, output = media.captioned(tmp_path / "in.mp4", "mov_text"), tmp_path / "out.mkv"
    damage(path, stream=1, number=0)
    assert sunk(path, output).damaged == 1
    assert [text for _, _, text in read_text(output)] == [media.SUBTITLES[1][2]]


def test_damaged_sound_that_is_converted_is_counted(tmp_path: Path) -> None:
    path, output = tmp_path / "in.mp4", tmp_path / "out.webm"
    media.talkie(path, "aac")
    assert sunk(path, output).damaged == 0
    damage(path, stream=1, number=8)
    assert sunk(path, output).damaged == 1
    assert len(read_sound(output)[0]) > 10


def test_a_location_is_told_once(tmp_path: Path) -> None:
    """FFmpeg reads that of an mp4 twice, the second time with its language in the name."""
    path, output = tmp_path / "in.mp4", tmp_path / "out.mkv"
    with av.open(path, "w") as file:
        file.metadata["location"] = "+48.1379+011.5753/"
        media.fill_video(file, media.add_video(file), range(4))
    with av.open(path) as file:
        assert {"location", "location-eng"} <= set(file.metadata)
    restored(path, output)
    with av.open(output) as file:
        told = [key for key in file.metadata if key.lower().startswith("location")]
    assert len(told) == 1


def test_a_track_that_no_container_holds_is_told_and_left_out(tmp_path: Path) -> None:
    """A phone's track of metadata, of a codec that FFmpeg doesn't know."""
    path, output = media.phone(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    captions = path.read_bytes()
    assert b"sbtl" in captions and b"tx3g" in captions
    path.write_bytes(captions.replace(b"sbtl", b"meta").replace(b"tx3g", b"mebx"))
    summary = restored(path, output)
    assert [(plan.kind, plan.unavoidable) for plan in summary.plan.lost] == [("data", True)]
    assert "no container can hold it" in summary.plan.lost[0].reason
    assert len(read_film(output).times) == summary.frames


@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_a_second_film_of_h264_that_avi_cant_hold_is_told_beforehand(
    source: str, tmp_path: Path
) -> None:
    path, output = media.two_films(tmp_path / f"in.{source}"), tmp_path / "out.avi"
    with pytest.raises(OutputError, match=r"stream 1 \(video, h264\) is lost: avi can't hold h264"):
        restored(path, output)
    assert not output.exists()
    assert restored(path, output, allow_loss=True).frames == media.FRAMES
    broadcast = media.two_films(tmp_path / "in.ts")
    assert restored(broadcast, tmp_path / "broadcast.avi").plan.lost == []
