"""Where the output goes: what is refused, and that only a complete file gets its name."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from hashlib import md5
from pathlib import Path
from typing import Any

import av
import media
import pytest
from comparison import assert_films, assert_times, read_film, read_tracks

from vfilter import restore_video
from vfilter.errors import InputError, OutputError
from vfilter.pipeline import plan_video
from vfilter.sink import Sink
from vfilter.source import Source


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    return media.camera(tmp_path / "in.avi")


def raising(error: BaseException, at: int = 5) -> Any:
    """A progress callback that raises `error` at frame `at`."""

    def progress(step: Any) -> None:
        if step.frames == at:
            raise error

    return progress


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_existing_output_is_kept_unless_told(camera: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"out.mp4: exists already; --overwrite replaces it"):
        restore_video(camera, output, strength=0)
    assert output.read_bytes() == b"precious"
    restore_video(camera, output, strength=0, overwrite=True)
    assert len(read_film(output).times) == media.FRAMES


@pytest.mark.parametrize("ending", ["wmv", "asf", "flv", "ogv", "mxf", "png", "gif"])
def test_a_container_that_scrambles_films_is_refused(
    ending: str, camera: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"the container \w+ is not supported; use \.mp4, \.mkv"):
        restore_video(camera, tmp_path / f"out.{ending}", strength=0)
    assert names(tmp_path) == {"in.avi"}


ENDINGS = ("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "3gp", "3g2", "y4m")


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_other_container_keeps_the_times(ending: str, tmp_path: Path) -> None:
    path, output = media.video_file(tmp_path / "in.mp4", bf="2"), tmp_path / f"out.{ending}"
    restore_video(path, output, strength=0)
    times = read_film(output).times
    expected = [Fraction(k, 25) for k in range(media.FRAMES)]
    assert_times([time - times[0] for time in times], expected, unit=Fraction(1, 1000))


def test_m4v_is_mp4_and_not_the_older_format_of_that_name(camera: Path, tmp_path: Path) -> None:
    summary = restore_video(camera, tmp_path / "out.m4v", strength=0)
    assert summary.plan.muxer == "mp4"


def test_a_name_of_any_length_serves(camera: Path, tmp_path: Path) -> None:
    output = tmp_path / ("n" * 251 + ".mkv")
    restore_video(camera, output, strength=0)
    assert len(read_film(output).times) == media.FRAMES
    assert names(tmp_path) == {"in.avi", output.name}


def test_what_can_not_be_opened_is_an_error(camera: Path, tmp_path: Path) -> None:
    with Source(camera) as source:
        for name in ("n" * 252 + ".mkv", "n" * 252 + ".y4m", "nowhere/out.mkv", "nowhere/out.y4m"):
            plan = plan_video(source, tmp_path / name)
            with pytest.raises(
                OutputError, match=r"can't be written \((File name too|No such file)"
            ):
                Sink(tmp_path / name, source, plan.encoding, plan.streams)
    assert names(tmp_path) == {"in.avi"}


def test_a_pipe_is_not_replaced(camera: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.mkv")
    with pytest.raises(OutputError, match=r"out.mkv: is a pipe or a device; name a file, or - for"):
        restore_video(camera, tmp_path / "out.mkv", strength=0, overwrite=True)
    assert (tmp_path / "out.mkv").is_fifo()


@pytest.mark.parametrize("there", [True, False])
def test_an_output_that_is_a_link_stays_one(there: bool, camera: Path, tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "out.mkv"
    folder.mkdir()
    target = folder / "target.mkv"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(target)
    restore_video(camera, link, strength=0, overwrite=True)
    assert link.is_symlink()
    assert len(read_film(target).times) == media.FRAMES
    assert names(folder) == {"target.mkv"}


def test_uneven_times_that_y4m_loses_are_told_and_counted(tmp_path: Path) -> None:
    path, output = tmp_path / "in.mp4", tmp_path / "out.y4m"
    with av.open(path, "w") as container:
        stream = media.add_video(container, unit=Fraction(1, 1000), rate=100)
        media.fill_video(container, stream, media.VFR_TIMES)
    with Source(path) as source:
        plan = plan_video(source, output)
        rate = source.rate
        with Sink(output, source, plan.encoding, plan.streams) as sink:
            for frame in source:
                sink.write(frame)
    told = f"y4m holds no times: frames of a varying rate are told to be at {float(rate):.4g}/s"
    assert plan.notes == (told,)
    off = [abs(Fraction(t, 1000) - k / rate) for k, t in enumerate(media.VFR_TIMES)]
    assert sink.moved == sum(distance > 1 / (2 * rate) for distance in off) > 0


def test_even_times_are_neither_told_nor_counted(camera: Path, tmp_path: Path) -> None:
    for name in ("out.y4m", "out.avi"):
        with Source(camera) as source:
            plan = plan_video(source, tmp_path / name)
            with Sink(tmp_path / name, source, plan.encoding, plan.streams) as sink:
                for item in source:
                    if isinstance(item, av.VideoFrame):
                        sink.write(item)
        assert not any("varying" in note for note in plan.notes)
        assert sink.moved == 0


def test_a_missing_folder_is_an_error(camera: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no folder .*nowhere; make it first"):
        restore_video(camera, tmp_path / "nowhere" / "out.mp4", strength=0)


def test_a_folder_is_no_output(camera: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file"):
        restore_video(camera, tmp_path, strength=0, overwrite=True)


@pytest.mark.parametrize("name", ["out", "out.nonsense", "out.txt"])
def test_an_ending_without_container_is_an_error(name: str, camera: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no container goes by that ending; use \.mp4"):
        restore_video(camera, tmp_path / name, strength=0)
    assert names(tmp_path) == {"in.avi"}


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_without_permission_is_an_error(camera: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="is not writable"):
        restore_video(camera, folder / "out.mp4", strength=0)


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hard link"])
def test_the_input_is_never_the_output(
    way: str, camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = camera.read_bytes()
    output = {"same": camera, "relative": Path("../" + tmp_path.name) / "in.avi"}.get(
        way, tmp_path / "link.avi"
    )
    if way == "symlink":
        output.symlink_to(camera)
    if way == "hard link":
        output.hardlink_to(camera)
    with pytest.raises(ValueError, match="input and output are the same file"):
        restore_video(camera, output, strength=0, overwrite=True)
    assert camera.read_bytes() == before


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), OSError("full")])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "y4m"])
def test_nothing_is_left_of_a_run_that_fails(
    error: BaseException, ending: str, camera: Path, tmp_path: Path
) -> None:
    output = tmp_path / f"out.{ending}"
    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        restore_video(camera, output, strength=0, allow_loss=True, progress=raising(error))
    assert names(tmp_path) == {"in.avi"}


def test_an_old_output_survives_a_run_that_fails(camera: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(KeyboardInterrupt):
        restore_video(
            camera, output, strength=0, overwrite=True, progress=raising(KeyboardInterrupt())
        )
    assert output.read_bytes() == b"precious"
    assert names(tmp_path) == {"in.avi", "out.mp4"}


def test_the_name_comes_when_the_file_is_complete(camera: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    seen: list[set[str]] = []
    restore_video(camera, output, strength=0, progress=lambda step: seen.append(names(tmp_path)))
    assert all("out.mp4" not in found and len(found) == 2 for found in seen)
    assert names(tmp_path) == {"in.avi", "out.mp4"}


@pytest.mark.parametrize("resume", [True, False])
def test_what_comes_to_the_name_meanwhile_is_kept(
    resume: bool, camera: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"

    def progress(step: Any) -> None:
        output.write_bytes(b"precious")

    options: Any = {"strength": 0, "resume": resume, "progress": progress}
    with pytest.raises(OutputError, match="exists already; --overwrite replaces it"):
        restore_video(camera, output, **options)
    assert output.read_bytes() == b"precious"
    assert names(tmp_path) - {"out.mp4.vdeblock"} == {"in.avi", "out.mp4"}
    assert restore_video(camera, output, overwrite=True, **options).reused == resume
    assert len(read_film(output).times) == media.FRAMES


@pytest.mark.parametrize("resume", [True, False])
def test_an_output_outlives_its_input(resume: bool, camera: Path, tmp_path: Path) -> None:
    output, changed = tmp_path / "out.mp4", camera.stat().st_mtime_ns

    def progress(step: Any) -> None:
        camera.unlink(missing_ok=True)

    summary = restore_video(camera, output, strength=0, resume=resume, progress=progress)
    assert len(read_film(output).times) == summary.frames == media.FRAMES
    assert output.stat().st_mtime_ns == changed
    assert names(tmp_path) == {"out.mp4"}


@pytest.mark.parametrize("resume", [True, False])
def test_interruption_at_the_last_moment_leaves_no_output(
    resume: bool, camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target.name == "out.mp4":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore_video(camera, tmp_path / "out.mp4", strength=0, resume=resume)
    assert names(tmp_path) == {"in.avi"} | ({"out.mp4.vdeblock"} if resume else set())


@pytest.mark.parametrize("name", ["a:b.avi", "-v.avi", "%03d.avi", "ä ö\nü.avi", "pipe:.avi"])
def test_names_are_only_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = media.camera(tmp_path / "plain.avi").rename(tmp_path / name)
    output = Path(name).with_suffix(".mkv")
    restore_video(Path(name), output, strength=0, lossless=True)
    assert_films(read_film(output.absolute()), read_film(path), unit=Fraction(1, 1000))


def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path / "caf") + b"\xe9.avi"))
    media.camera(tmp_path / "plain.avi").rename(path)
    output = path.with_suffix(".mkv")
    restore_video(path, output, strength=0, lossless=True)
    assert output.exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"What shall we do with a drunken sailor?" * 100, "not readable as media"),
    ],
)
def test_an_input_that_is_none(content: bytes | None, match: str, tmp_path: Path) -> None:
    path = tmp_path / "in.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=match):
        restore_video(path, tmp_path / "out.mkv", strength=0)


def test_a_folder_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name one video file"):
        restore_video(tmp_path, tmp_path / "out.mkv", strength=0)


def test_sound_alone_is_no_input(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    with av.open(path, "w") as container:
        media.fill_sound(container, media.add_sound(container, "pcm_s16le", 8000))
    with pytest.raises(InputError, match=r"no video stream to restore \(found: audio\)"):
        restore_video(path, tmp_path / "out.mkv", strength=0)


def test_a_playlist_does_not_reach_the_network(tmp_path: Path) -> None:
    path = tmp_path / "in.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n")
    with pytest.raises(InputError):
        restore_video(path, tmp_path / "out.mkv", strength=0)


def test_a_truncated_input_is_restored_as_far_as_it_goes(camera: Path, tmp_path: Path) -> None:
    whole = camera.read_bytes()
    short = tmp_path / "short.avi"
    short.write_bytes(whole[: len(whole) * 2 // 3])
    summary = restore_video(short, tmp_path / "out.mkv", strength=0, lossless=True)
    assert 4 < summary.frames < media.FRAMES
    assert len(read_film(tmp_path / "out.mkv").times) == summary.frames


def test_a_killed_run_leaves_nothing_under_the_name(camera: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    code = (
        "import sys, time, vfilter\n"
        "def pause(step):\n    print(step.frames, flush=True)\n"
        "    for _ in range(300):\n        time.sleep(0.1)\n"  # one long sleep can miss a signal
        "vfilter.restore_video(*sys.argv[1:], strength=0, progress=pause)\n"
    )
    command = [sys.executable, "-c", code, str(camera), str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"1\n"
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        run.wait(20)
        assert time.monotonic() - began < 10
    assert names(tmp_path) == {"in.avi"}


def test_y4m_through_standard_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = media.y4m(tmp_path / "in.y4m")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", Standard(path.read_bytes()))
    monkeypatch.setattr(sys, "stdout", Standard(written))
    restore_video("-", "-", strength=0)
    output = tmp_path / "out.y4m"
    output.write_bytes(written.getvalue())
    assert_films(read_film(output), read_film(path))


class Standard:
    """A standard stream of bytes."""

    def __init__(self, content: bytes | io.BytesIO) -> None:
        self.buffer = io.BytesIO(content) if isinstance(content, bytes) else content

    def write(self, text: str) -> None:
        raise AssertionError(f"written to standard output: {text}")

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("ending", ["avi", "ts", "mkv"])
def test_other_containers_through_standard_input(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media.long_take(tmp_path / f"in.{ending}", seconds=1)
    monkeypatch.setattr(sys, "stdin", Standard(path.read_bytes()))
    summary = restore_video("-", tmp_path / "out.mkv", strength=0, lossless=True)
    assert summary.frames == media.RATE
    before, after = read_film(path), read_film(tmp_path / "out.mkv")
    for found, wanted in zip(after.planes, before.planes, strict=True):
        assert (found[0] == wanted[0]).all()


def test_a_cover_from_a_pipe_is_lost_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media.uneven(tmp_path / "in.mkv")
    monkeypatch.setattr(sys, "stdin", Standard(path.read_bytes()))
    with pytest.raises(OutputError, match="a cover from a pipe can't be attached, as it comes"):
        restore_video("-", tmp_path / "out.mkv", strength=0)
    assert names(tmp_path) == {"in.mkv"}
    monkeypatch.setattr(sys, "stdin", Standard(path.read_bytes()))
    summary = restore_video("-", tmp_path / "out.mkv", strength=0, allow_loss=True)
    assert [plan.cover for plan in summary.plan.lost] == [True]
    notes = [track for track in read_tracks(tmp_path / "out.mkv") if track.kind == "attachment"]
    assert [track.hashes for track in notes] == [[md5(media.ATTACHMENT).hexdigest()]]


def test_y4m_keeps_shape_fields_and_range(tmp_path: Path) -> None:
    for recipe, tag in (
        (media.anamorphic, "sample aspect ratio"),
        (media.full_range, "range"),
        (media.interlaced, None),
    ):
        path, output = recipe(tmp_path / "in.mp4"), tmp_path / "out.y4m"
        restore_video(path, output, strength=0, overwrite=True)
        before, after = read_film(path), read_film(output)
        assert after.interlaced == before.interlaced
        if tag:
            assert after.tags[tag] == before.tags[tag]
