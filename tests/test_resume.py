"""Resume: a run that is cut short, by whatever, goes on where it stopped, to the same result."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import pty
import random
import resource
import select
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import pytest
from comparison import assert_films, read_film, read_tracks
from typer.testing import CliRunner

from vfilter import Summary, restore_video
from vfilter.cli import app
from vfilter.errors import OutputError
from vfilter.job import is_finished, mark
from vfilter.pipeline import Progress
from vfilter.segments import ENDING, SEGMENT, Segments, discard, folder_of

COMMAND = [sys.executable, "-c", "from vfilter.cli import main; main()"]

SHORT = 0.4
"""Seconds of the segments here: ten frames."""

SIZE = {"width": 128, "height": 96}
"""Smaller frames x264 encodes differently each time (its macroblock tree)."""

KILLED = """
import json, os, signal, sys, threading
from vfilter import restore_video

input, output, frame, delay, options = json.loads(sys.argv[1])

def progress(step):
    if step.frames == frame:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

restore_video(input, output, progress=progress, **options)
"""
"""A run that is killed by SIGKILL some time after it has restored a frame."""


def killed(input: Path, output: Path, frame: int, delay: float, **options: Any) -> bool:
    """Run `restore_video`, killed `delay` seconds after `frame`; whether it was still running."""
    point = json.dumps([str(input), str(output), frame, delay, options])
    done = subprocess.run([sys.executable, "-c", KILLED, point], capture_output=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def kept(output: Path) -> set[int]:
    """Numbers of the segments that an unfinished run into `output` has left."""
    return {int(path.stem) for path in folder_of(output).glob(f"*{SEGMENT}")}


def assert_alike(found: Path, wanted: Path) -> None:
    """Fail unless two files hold the same frames, at the same times, and the same of all else."""
    assert_films(read_film(found), read_film(wanted))
    assert read_tracks(found) == read_tracks(wanted)


class Cut(Exception):
    """What stops a run in this process."""


def stop_at(frame: int, error: BaseException | None = None) -> Any:
    """A progress callback that raises `error`, or `Cut`, at `frame`."""

    def progress(step: Any) -> None:
        if step.frames == frame:
            raise error or Cut

    return progress


def cut_short(input: Path, output: Path, frame: int = 55, **options: Any) -> None:
    """Leave the state of an unfinished run, stopped at `frame`."""
    with pytest.raises(Cut):
        restore_video(input, output, progress=stop_at(frame), segment=SHORT, **options)
    assert kept(output)


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames with sound and chapters."""
    return media.long_take(tmp_path_factory.mktemp("take") / "in.mp4", **SIZE)


FAST: Any = {"strength": 0, "segment": SHORT, "preset": "ultrafast"}


def fast(take: Path) -> list[str]:
    """The arguments of a command that does what `FAST` does, into out.mkv."""
    options = ["--strength", "0", "--segment", f"{SHORT}", "--preset", "ultrafast"]
    return [str(take), "out.mkv", *options]


PART: Any = {"frames": 60, "segment": SHORT}


@pytest.fixture(scope="module")
def whole(take: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`PART` of the take, by the random model in one go."""
    output = tmp_path_factory.mktemp("whole") / "whole.mp4"
    assert restore_video(take, output, model=str(model), **PART).reused == 0
    return output


@pytest.mark.parametrize(("frame", "delay"), [(33, 0.0), (47, 0.01)])
def test_a_killed_run_goes_on(
    frame: int, delay: float, take: Path, whole: Path, tmp_path: Path, model: Path
) -> None:
    options: Any = {"model": str(model), **PART}
    output = tmp_path / "out.mp4"
    assert killed(take, output, frame, delay, **options)
    assert names(tmp_path) == {"out.mp4.vdeblock"}
    left = kept(output)
    summary = restore_video(take, output, **options)
    assert summary.reused == len(left) >= 1
    assert summary.frames == 60
    assert names(tmp_path) == {"out.mp4"}
    assert_alike(output, whole)


def clip(recipe: str, folder: Path) -> Path:
    """An input of some seconds."""
    if recipe == "uneven":
        path = folder / "uneven.mkv"
        with av.open(path, "w") as output:
            unit = Fraction(1, 1000)
            stream = media.add_video(output, unit=unit, rate=100, bf="2", **SIZE)
            times = [800 * n + t for n in range(6) for t in media.VFR_TIMES[:-1]]
            media.fill_video(output, stream, times)
        return path
    if recipe == "ten bits":
        return media.video_file(
            folder / "ten.mkv", "ffv1", frames=60, pix_fmt="yuv422p10le", width=130, height=98
        )
    return media.long_take(folder / recipe, seconds=3, **SIZE)


KILLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mp4": ("in.mp4", "out.mp4", {}),
    "mov, hevc": ("in.mov", "out.mov", {"codec": "hevc", "preset": "fast"}),
    "mkv, ffv1": ("in.mkv", "out.mkv", {"lossless": True, "verify": True}),
    "avi from avi": ("in.avi", "out.avi", {}),
    "webm, vp9": ("in.mkv", "out.webm", {"allow_loss": True}),
    "mkv, av1": ("in.mp4", "out.mkv", {"codec": "av1", "preset": "10"}),
    "ts from ts": ("in.ts", "out.ts", {"crf": 20, "preset": "faster"}),
    "uneven times": ("uneven", "out.mkv", {"verify": True}),
    "a range": ("in.mp4", "out.mp4", {"start": 0.5, "duration": 2.0}),
    "ten bits, odd size": ("ten bits", "out.mkv", {"strength": 0.5}),
}
"""Input, output, and options."""

POINTS = 2
"""Random points of each of `KILLS` at which a run is killed: 20 in all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
def test_killed_at_random_points(name: str, tmp_path: Path, model: Path) -> None:
    recipe, ending, told = KILLS[name]
    options: dict[str, Any] = {"model": str(model), "segment": SHORT} | told
    path, whole, rng = clip(recipe, tmp_path), tmp_path / f"whole-{ending}", random.Random(name)
    frames = restore_video(path, whole, **options).frames
    wanted = media_of(whole)
    for point in range(POINTS):
        output = tmp_path / str(point) / ending
        output.parent.mkdir()
        frame, delay = rng.randrange(1, frames), rng.random() / 20
        running = killed(path, output, frame, delay, **options)
        left = kept(output)
        if running and not output.exists():
            summary = restore_video(path, output, **options)
            assert (summary.frames, summary.reused) == (frames, len(left))
        else:  # killed after it had its name; the command then discards what is left, as this does
            discard(output)
        print(f"{name}: killed {delay:.3f} s after frame {frame} of {frames}, {len(left)} reused")
        assert names(output.parent) == {ending}
        assert_films(media_of(output)[0], wanted[0])
        assert media_of(output)[1] == wanted[1]


def media_of(path: Path) -> tuple[Any, Any]:
    return read_film(path), read_tracks(path)


@pytest.mark.slow
def test_killed_again_and_again(take: Path, tmp_path: Path, model: Path) -> None:
    options: Any = {"model": str(model), "segment": SHORT}
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore_video(take, whole, **options)
    before: set[int] = set()
    for frame in (25, 50, 75):
        assert killed(take, output, frame, 0.0, **options)
        assert kept(output) >= before
        before = kept(output)
    assert restore_video(take, output, **options).reused == len(before) >= 5
    assert_alike(output, whole)


def test_a_run_that_fails_keeps_what_it_has(take: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    for error in (KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")):
        with pytest.raises((KeyboardInterrupt, OutputError)):
            restore_video(take, output, progress=stop_at(55, error), **FAST)
        assert names(tmp_path) == {"out.mkv.vdeblock"}
        assert all(
            name.endswith((SEGMENT, "job.json", "lock")) for name in names(folder_of(output))
        )
    assert restore_video(take, output, **FAST).reused >= 4
    assert names(tmp_path) == {"out.mkv"}


def test_progress_tells_the_speed_of_what_is_restored(take: Path, tmp_path: Path) -> None:
    """What an unfinished run has left comes in no time, and tells nothing of the rest."""
    output = tmp_path / "out.mkv"
    cut_short(take, output, strength=0, preset="ultrafast")
    seen: list[Progress] = []
    restore_video(take, output, progress=seen.append, **FAST)
    kept = seen[-1].kept
    assert 0 < kept <= 55 and seen[kept - 1].kept == kept
    assert seen[kept - 1].eta is None and seen[kept - 1].speed == 0
    assert 0 < seen[-1].keeping < seen[-1].seconds and seen[-1].fps > 0
    half = Progress(frames=60, total=100, seconds=11, media_seconds=6, kept=50, keeping=1)
    assert (half.fps, half.eta) == (1, 40)
    assert half.speed == pytest.approx(0.1)


def test_a_run_that_finished_nothing_leaves_nothing(take: Path, tmp_path: Path) -> None:
    with pytest.raises(Cut):
        restore_video(take, tmp_path / "out.mkv", progress=stop_at(5), **FAST)
    assert names(tmp_path) == set()


def test_without_resume_nothing_is_kept(take: Path, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    output = tmp_path / "out.mkv"
    restore_video(
        take, output, resume=False, progress=lambda step: seen.append(names(tmp_path)), **FAST
    )
    assert not any(ENDING in name for found in seen for name in found)
    cut_short(take, tmp_path / "other.mkv", strength=0, preset="ultrafast")
    restore_video(take, tmp_path / "other.mkv", resume=False, **FAST)
    assert names(tmp_path) == {"out.mkv", "other.mkv"}


def test_another_job_is_refused_and_named(
    take: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    path, output = tmp_path / "in.mp4", tmp_path / "out.mkv"
    path.write_bytes(take.read_bytes())
    cut_short(path, output, strength=0.5)
    left = kept(output)

    def refused(match: str, **options: Any) -> None:
        with pytest.raises(OutputError, match=match) as error:
            restore_video(path, output, **{"strength": 0.5, "segment": SHORT} | options)
        assert "repeat its command to finish it, or use --no-resume" in str(error.value)
        assert (kept(output), output.exists()) == (left, False)

    refused(r"unfinished run .*\(strength was 0.5, is 1.0\)", strength=1.0)
    refused(r"\(model was .*; weights was .*\)", model=str(model))
    refused(r"crf was null, is 30; encoding was", crf=30)
    refused(r"\(segment was 0.4, is 2.0\)", segment=2.0)
    with monkeypatch.context() as patch:
        patch.setattr("vfilter.job.__version__", "99.0")
        refused(r'\(version was ".*", is "99.0"\)')
    os.utime(path, (1, 1))
    refused(r'\(input was \{"name": "in.mp4"')
    assert restore_video(path, output, strength=0.5, resume=False).reused == 0
    assert names(tmp_path) == {"in.mp4", "out.mkv"}


def test_a_damaged_segment_is_made_anew(take: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    restore_video(take, whole, **FAST)
    cut_short(take, output, strength=0, preset="ultrafast")
    left = sorted(folder_of(output).glob(f"*{SEGMENT}"))
    content = bytearray(left[1].read_bytes())
    content[len(content) // 2] ^= 1
    left[1].write_bytes(content)
    left[2].write_bytes(left[2].read_bytes()[:-9])
    left[3].write_bytes(b"")
    assert restore_video(take, output, **FAST).reused == len(left) - 3
    assert_alike(output, whole)


@pytest.mark.parametrize("content", [None, "", '{"version": "0'])
def test_segments_of_an_unknown_job_are_not_taken(
    content: str | None, take: Path, tmp_path: Path
) -> None:
    """As after a power cut, or one in the midst of clearing up."""
    output = tmp_path / "out.mkv"
    cut_short(take, output, strength=0, preset="ultrafast")
    job = folder_of(output) / "job.json"
    job.unlink() if content is None else job.write_text(content)
    assert restore_video(take, output, **FAST).reused == 0
    assert names(tmp_path) == {"out.mkv"}


def test_a_folder_of_somebody_else_is_left_alone(take: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.mkv.vdeblock"
    folder.mkdir()
    (folder / "precious.txt").write_text("precious")
    with pytest.raises(OutputError, match="is in the way, and not vdeblock's; move it elsewhere"):
        restore_video(take, tmp_path / "out.mkv", **FAST)
    assert names(folder) == {"precious.txt"}
    folder.rename(tmp_path / "moved")
    folder.write_text("a file")
    with pytest.raises(OutputError, match=r"out.mkv.vdeblock: can't be written"):
        restore_video(take, tmp_path / "out.mkv", **FAST)
    assert names(tmp_path) == {"moved", "out.mkv.vdeblock"}


def test_two_runs_into_one_output(take: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"

    def second(step: Any) -> None:
        if step.frames == 50:
            for resume in (True, False):
                with pytest.raises(OutputError, match="another run is writing this output"):
                    restore_video(take, output, resume=resume, **FAST)

    restore_video(take, output, progress=second, **FAST)
    assert names(tmp_path) == {"out.mkv"}


@pytest.mark.parametrize("where", ["beside", "moved"])
def test_a_folder_with_an_unfinished_run_may_be_moved(
    where: str, take: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    cut_short(take, first / "out.mkv", strength=0, preset="ultrafast")
    if where == "moved":
        first.rename(second)
    folder = second if where == "moved" else first
    assert restore_video(take, folder / "out.mkv", **FAST).reused >= 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(take: Path, small_disk: Path) -> None:
    output = small_disk / "out.mkv"
    options: Any = {**FAST, "lossless": True, "preset": None}
    with pytest.raises(OutputError, match=r"out.mkv: can't be written .No space left on device"):
        restore_video(take, output, **options)
    assert not output.exists()
    left = len(kept(output))
    assert left >= 1 and not list(folder_of(output).glob("*.part"))
    mount = ["mount", "-o", "remount,size=64m", str(small_disk)]
    subprocess.run(mount, check=True)
    assert restore_video(take, output, **options).reused == left
    assert names(small_disk) == {"out.mkv"}


def test_a_quota(take: Path, tmp_path: Path) -> None:
    """No file may grow beyond 64 KiB, as where a disk or quota is exhausted."""
    command = [*COMMAND, str(take), "out.mkv", "--lossless", "--strength", "0", "--segment", "0.4"]
    limit = 64 << 10
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1] == "vdeblock: out.mkv: can't be written (File too large)"
    assert names(tmp_path) <= {"out.mkv.vdeblock"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert names(tmp_path) == {"out.mkv"}


def test_the_same_command_goes_on_and_tells_so(
    take: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with --resume a finished output is no error, as long as it is of this job."""
    cut_short(take, tmp_path / "out.mkv", strength=0, preset="ultrafast")
    left = len(kept(tmp_path / "out.mkv"))
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> tuple[int, str]:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*fast(take), *options])
        return done.exit_code, done.stderr.splitlines()[-1]

    told = f"{left} segments taken from the unfinished run"
    assert run() == (0, told)
    before = (tmp_path / "out.mkv").stat()
    assert run("--resume") == (0, "vdeblock: out.mkv: finished already")
    assert run("--resume", "--crf", "30") == (
        5,
        "vdeblock: out.mkv: exists already; --overwrite replaces it",
    )
    assert run()[0] == 5
    after = (tmp_path / "out.mkv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert run("--resume", "--crf", "30", "--overwrite")[0] == 0


def test_a_finished_output_is_known_by_its_time_where_files_hold_no_marks(
    take: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)
    output, copy = tmp_path / "out.mkv", tmp_path / "copy.mp4"
    restore_video(take, output, **FAST)
    assert is_finished(output, take, {})
    copy.write_bytes(take.read_bytes())
    os.utime(copy, ns=(0, take.stat().st_mtime_ns))
    assert not is_finished(copy, take, {})
    os.utime(output, ns=(0, 0))
    assert not is_finished(output, take, {})


def test_an_input_that_changes_meanwhile_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = media.video_file(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    before, content = path.stat(), path.read_bytes()
    jobs = []

    def noted(output: Path, input: Any, arguments: Any) -> None:
        jobs.append(arguments)
        mark(output, input, arguments)

    def grow(step: Any) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr("vfilter.pipeline.mark", noted)
    restore_video(path, output, strength=0, progress=grow)
    (job,) = jobs
    assert not is_finished(output, path, job)
    path.write_bytes(content)
    os.utime(path, ns=(0, before.st_mtime_ns))
    assert is_finished(output, path, job)


def test_a_large_segment_is_checked_piece_by_piece(tmp_path: Path) -> None:
    size = 32 << 20
    with Segments(tmp_path / "out.mkv", {}) as segments:
        path = segments.folder / f"000000{SEGMENT}"
        path.write_bytes(bytes(size) + hashlib.sha256(bytes(size)).digest())
        tracemalloc.start()
        try:
            assert segments.has(0)
            assert tracemalloc.get_traced_memory()[1] < size // 8
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_a_terminal_is_asked(answer: str, take: Path, tmp_path: Path) -> None:
    cut_short(take, tmp_path / "out.mkv", strength=0, preset="ultrafast")
    left = len(kept(tmp_path / "out.mkv"))
    command = [*COMMAND, *fast(take)]
    parent, child = pty.openpty()
    pipes: Any = {"stdin": child, "stdout": child, "stderr": child}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        os.close(child)
        told = read_until(parent, b"[Y/n]")
        assert b"out.mkv: go on with the unfinished run?" in told
        os.write(parent, answer.encode() + b"\n")
        told = read_until(parent, None)
        assert process.wait(60) == 0
    os.close(parent)
    goes_on = f"{left} segments taken from the unfinished run".encode() in told
    assert goes_on == (answer != "n")
    assert names(tmp_path) == {"out.mkv"}


def test_ctrl_c_at_the_question_leaves_what_can_be_gone_on_with(take: Path, tmp_path: Path) -> None:
    cut_short(take, tmp_path / "out.mkv", strength=0, preset="ultrafast")
    left = kept(tmp_path / "out.mkv")
    command = [*COMMAND, *fast(take)]
    parent, child = pty.openpty()
    pipes: Any = {"stdin": child, "stdout": child, "stderr": child}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        os.close(child)
        read_until(parent, b"[Y/n]")
        time.sleep(0.5)  # it waits for the answer by now
        process.send_signal(signal.SIGINT)
        told = read_until(parent, None)
        assert process.wait(60) == 130
    os.close(parent)
    assert b"vdeblock: interrupted" in told and b"fault" not in told
    assert kept(tmp_path / "out.mkv") == left


def read_until(terminal: int, mark: bytes | None) -> bytes:
    """What comes from a terminal up to `mark`, or its end."""
    told = b""
    while mark is None or mark not in told:
        assert select.select([terminal], [], [], 60)[0]
        try:
            told += os.read(terminal, 4096)
        except OSError:  # as Linux tells that the other side was closed
            return told
    return told


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_what_can_be_gone_on_with(name: str, take: Path, tmp_path: Path) -> None:
    number = getattr(signal, name)
    command = [*COMMAND, str(take), "out.mkv", "--model", "l8", "--segment", "0.4"]
    command += ["--no-hints", "--progress", "json"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line).get("frame") == 21:
                break
        process.send_signal(number)
        *_, asked, told, last = process.stderr.read().splitlines()
        assert process.wait(60) == 128 + number
    what = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert asked.startswith(("{", f"vdeblock: {what}: stopping after this frame; once more"))
    assert last == f"vdeblock: {what}"
    assert told.endswith("out.mkv.vdeblock keeps what is done; the same command goes on")
    assert names(tmp_path) == {"out.mkv.vdeblock"}
    assert restore_video(take, tmp_path / "out.mkv", segment=SHORT, hints=False).reused >= 1
    assert names(tmp_path) == {"out.mkv"}


@pytest.mark.slow
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc",
    reason="only glibc can be asked for zeroed memory, without which x264 differs between runs",
)
def test_segments_come_out_alike_in_each_run(tmp_path: Path) -> None:
    """x264 reads memory that it never wrote; frames of 192x128 once differed in each run."""
    media.long_take(tmp_path / "in.mkv", seconds=6, width=192, height=128)
    films = []
    for name in ("one.mkv", "two.mkv", "three.mkv"):
        command = [*COMMAND, "in.mkv", name, "--strength", "0", "--segment", "1", "--quiet"]
        subprocess.run(command, cwd=tmp_path, check=True)
        with av.open(tmp_path / name) as container:
            films.append([bytes(packet) for packet in container.demux(video=0)])
    assert films[0] == films[1] == films[2]


def test_ctrl_c_before_anything_has_begun(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "vfilter", "in.mkv", "out.mkv"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "click" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(60) == 130
    assert [line for line in told.splitlines() if not line.startswith("import time:")] == [
        "vdeblock: interrupted"
    ]


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """In the midst of a frame that takes long; and no process is left."""
    path = media.video_file(tmp_path / "in.mkv", frames=3, width=1920, height=1440)
    command = [*COMMAND, "in.mkv", "out.mkv", "--model", "l8", "--no-hints", "--progress", "json"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        while '"progress"' not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        while "once more stops at once" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        *_, last = process.stderr.read().splitlines()
        assert process.wait(60) == 130
        assert last == "vdeblock: interrupted"
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    assert names(tmp_path) == {path.name}


def test_the_lock_goes_with_its_process(take: Path, tmp_path: Path) -> None:
    cut_short(take, tmp_path / "out.mkv", strength=0, preset="ultrafast")
    lock = folder_of(tmp_path / "out.mkv") / "lock"
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    summary: Summary = restore_video(take, tmp_path / "out.mkv", **FAST)
    assert summary.reused >= 4


def test_reading_waits_for_nobody(tmp_path: Path) -> None:
    """A named pipe that nobody writes to: one signal ends it."""
    os.mkfifo(tmp_path / "in.avi")
    command = [*COMMAND, "in.avi", "out.mkv", "--strength", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stderr.read() == "vdeblock: stopped by SIGTERM\n"
    assert names(tmp_path) == {"in.avi"}


def test_a_named_pipe_is_read_like_standard_input(tmp_path: Path) -> None:
    path, output = media.y4m(tmp_path / "in.y4m"), tmp_path / "out.mkv"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cp", str(path), str(pipe)]):
        restore_video(pipe, output, strength=0, lossless=True)
    assert_films(read_film(output), read_film(path))
    assert names(tmp_path) == {"in.y4m", "pipe", "out.mkv"}
