"""Bad, damaged and hostile input: one line, a code, nothing left behind; or the film, in sync."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from comparison import assert_films, assert_planes, assert_times, read_film, read_sound
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from vfilter import restore_video
from vfilter.cli import app
from vfilter.errors import InputError
from vfilter.probe import probe
from vfilter.source import Source

COMMAND = [sys.executable, "-c", "from vfilter.cli import main; main()"]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run(*arguments: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in this process and `tmp_path`, where none of its own is in question."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)

    return invoke


def silent(path: Path) -> None:
    with av.open(path, "w") as output:
        media.fill_sound(output, media.add_sound(output, "aac", 48000))


def empty_film(path: Path) -> None:
    """A header, and no frame."""
    with av.open(path, "w") as output:
        media.add_video(output)
        output.start_encoding()


def sized(width: int, height: int) -> Callable[[Path], None]:
    """Matroska whose header tells a size that its pictures have not."""

    def make(path: Path) -> None:
        media.video_file(path, "mpeg4", frames=2)
        content = path.read_bytes()
        for old, new, code in ((64, width, b"\xb0"), (48, height, b"\xba")):
            size = max(1, -(-new.bit_length() // 8))
            assert content.count(code + b"\x81" + bytes([old])) >= 1
            content = content.replace(
                code + b"\x81" + bytes([old]),
                code + bytes([0x80 | size]) + new.to_bytes(size),
            )
        path.write_bytes(content)

    return make


def y4m_of(width: int, height: int) -> Callable[[Path], Any]:
    """Raw video whose header tells a size, and little else."""
    return content(b"YUV4MPEG2 W%d H%d F25:1 Ip C420jpeg\nFRAME\n" % (width, height) + bytes(99))


def encrypted(path: Path) -> None:
    """Common Encryption: each frame is scrambled, and said to be."""
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16}
    key["encryption_kid"] = "11" * 16
    with av.open(path, "w", options=key) as output:
        stream = media.add_video(output)
        media.fill_video(output, stream)


def content(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


BAD: dict[str, tuple[Callable[[Path], Any] | None, str]] = {
    "missing": (None, "in.mkv: no such file"),
    "empty": (content(b""), "in.mkv: is empty"),
    "a folder of nothing": (Path.mkdir, "in.mkv: holds no file whose name ends like a video's"),
    "text": (content(b"Dear diary,\n" * 99), "in.mkv: not readable as media"),
    "zeros": (content(bytes(99_999)), "in.mkv: not readable as media"),
    "a picture's begin": (content(media.png(64, 48)[:40]), "in.mkv: its video can't be decoded"),
    "sound alone": (silent, "in.mkv: no video stream to restore (found: audio)"),
    "no frame": (empty_film, "in.mkv: "),
    "size 0x0": (y4m_of(0, 0), "in.mkv: not readable as media"),
    "absurd size": (sized(200_000, 200_000), "in.mkv: "),
    "absurd raw size": (y4m_of(60_000, 60_000), "tells a size that no frame can have"),
    "too large": (y4m_of(9000, 9000), "--max-pixels allows"),
}
"""What is wrong with the input, and what the one line says."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_line_and_code_3(name: str, tmp_path: Path) -> None:
    make, told = BAD[name]
    path = tmp_path / "in.mkv"
    if make is not None:
        make(path)
    done = run("in.mkv", "out.mkv", "--strength", "0", folder=tmp_path)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (3, "")
    assert line.startswith("vdeblock: ") and told in line
    assert names(tmp_path) == ({"in.mkv"} if make else set())


@pytest.mark.parametrize("size", [(64, 48), (1600, 1200)])
def test_a_photograph_is_read(
    size: tuple[int, int], here: Callable[..., Result], tmp_path: Path
) -> None:
    """FFmpeg takes some for lists of numbered pictures."""
    (tmp_path / "in.jpg").write_bytes(media.jpeg(0, 50, *size))
    done = here("in.jpg", "out.mkv", "--strength", "0")
    assert done.exit_code == 0
    assert "1 frame in" in done.stderr and "JPEG quality 50" in done.stderr


def test_an_encrypted_film_is_code_3(tmp_path: Path) -> None:
    encrypted(tmp_path / "in.mp4")
    done = run("in.mp4", "out.mkv", "--strength", "0", folder=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 3
    assert "is encrypted; decrypt the file first" in line
    assert names(tmp_path) == {"in.mp4"}


def test_debug_shows_where(tmp_path: Path) -> None:
    done = run("in.mkv", "out.mkv", "--debug", folder=tmp_path)
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "no such file" in done.stderr


WITHOUT_POWERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""A command before another one that takes root's leave to read and write everything."""


def without_powers() -> list[str]:
    """`WITHOUT_POWERS` for root, nothing for others; skips for a root that can't do without."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("everything is readable for root, and there is no setpriv")
    return WITHOUT_POWERS


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["secret.avi", "out.mkv"], 3, "secret.avi: not readable as media (Permission denied)"),
        (["sealed/in.avi", "out.mkv"], 3, "sealed/in.avi: reading failed (Permission denied)"),
        (["in.avi", "sealed/out.mkv"], 5, "sealed/out.mkv: can't be written (Permission denied)"),
        (["in.avi", "read-only/out.mkv"], 5, "folder read-only is not writable"),
        (["sealed", "out"], 3, "sealed: "),
        (["in.avi", "--output-dir", "read-only/out"], 5, "can't be made a folder (Permission"),
        (["in.avi", "out.mkv", "--model", "sealed/model"], 4, "sealed/model"),
    ],
)
def test_without_permission(arguments: list[str], code: int, told: str, tmp_path: Path) -> None:
    powerless = without_powers()
    media.camera(tmp_path / "in.avi")
    media.camera(tmp_path / "secret.avi").chmod(0)
    (tmp_path / "sealed").mkdir(mode=0)
    (tmp_path / "read-only").mkdir(mode=0o555)
    command = [*powerless, *COMMAND, *arguments, "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    (tmp_path / "sealed").chmod(0o700)
    assert (done.returncode, done.stdout) == (code, "")
    lines = done.stderr.splitlines()
    assert told in lines[-1] and all(line.startswith("vdeblock: ") for line in lines)
    assert names(tmp_path) == {"in.avi", "secret.avi", "sealed", "read-only"}


def test_a_folder_in_a_folder_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    powerless = without_powers()
    (tmp_path / "clips").mkdir()
    media.camera(tmp_path / "clips" / "in.avi")
    for name in ("sealed", ".hidden"):
        (tmp_path / "clips" / name).mkdir(mode=0)
    command = [*powerless, *COMMAND, "clips", "out", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    (tmp_path / "clips" / "sealed").chmod(0o700)
    (tmp_path / "clips" / ".hidden").chmod(0o700)
    told = "clips/sealed: reading failed (Permission denied); check its disk or connection"
    assert done.returncode == 3
    assert done.stderr.splitlines() == [f"vdeblock: {told}", f"vdeblock: failed: {told}"]
    assert names(tmp_path / "out") == {"in.avi"}


def cut_model(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def no_header(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"\xff" * 100)


def pickled(folder: Path) -> None:
    """What torch.save writes begins so; it is never unpickled."""
    (folder / "weights.safetensors").write_bytes(b"PK\x03\x04" + b"\x80\x02csystem\n" * 9)


def other_network(folder: Path) -> None:
    path = folder / "weights.safetensors"
    save_file(load_file(path), path, {"network": "unet", "objective": "residual"})


def other_shapes(folder: Path) -> None:
    path = folder / "weights.safetensors"
    weights = {name: array[..., :1] for name, array in load_file(path).items()}
    metadata = {"network": "l4", "objective": "residual", "codec": "jpeg"}
    save_file(
        {name: np.ascontiguousarray(array) for name, array in weights.items()},
        path,
        metadata | {"quality_min": "10", "quality_max": "60"},
    )


def not_ours(folder: Path) -> None:
    path = folder / "weights.safetensors"
    save_file({"bias": np.zeros(3, np.float32)}, path)


@pytest.mark.parametrize(
    "spoil", [cut_model, no_header, pickled, other_network, other_shapes, not_ours]
)
def test_a_bad_model_is_one_line_and_code_4(
    spoil: Callable[[Path], None], model: Path, here: Callable[..., Result], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    spoil(folder)
    media.camera(tmp_path / "in.avi")
    done = here("in.avi", "out.mkv", "--model", "model")
    assert (done.exit_code, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("vdeblock: ") and "model" in line
    assert names(tmp_path) == {"in.avi", "model"}


class Recorder(http.server.BaseHTTPRequestHandler):
    """A server that notes what it is asked for."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


def playlists(secret: Path, port: int) -> dict[str, tuple[str, str]]:
    """Names and contents of files that lead to other files, or to the network."""
    url = f"http://127.0.0.1:{port}/stolen.ts"
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n"
    return {
        "hls to a file": ("in.m3u8", f"{head}{secret}\n#EXT-X-ENDLIST\n"),
        "hls named avi": ("in.avi", f"{head}file://{secret}\n#EXT-X-ENDLIST\n"),
        "hls to the network": ("in.m3u8", f"{head}{url}\n#EXT-X-ENDLIST\n"),
        "hls by concat": ("in.m3u8", f"{head}concat:{secret}|{secret}\n#EXT-X-ENDLIST\n"),
        "concat": ("in.txt", f"ffconcat version 1.0\nfile '{secret}'\n"),
        "concat to the network": ("in.txt", f"ffconcat version 1.0\nfile '{url}'\n"),
        "dash": (
            "in.mpd",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
            '<Period><AdaptationSet contentType="video"><Representation id="1" bandwidth="9">'
            f"<BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        ),
        "sdp": ("in.sdp", f"v=0\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n"),
        "a sequence of pictures": ("in%03d.png", ""),
    }


@pytest.mark.parametrize("name", playlists(Path("secret.ts"), 80))
def test_a_list_of_other_files_is_not_followed(name: str, tmp_path: Path) -> None:
    secret = media.video_file(tmp_path / "secret.ts")
    for number in range(3):
        (tmp_path / f"in{number:03}.png").write_bytes(media.png(64, 48))
    Recorder.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        input, text = playlists(secret, server.server_address[1])[name]
        if text:
            (tmp_path / input).write_text(text)
        with pytest.raises(InputError, match=r"no such file|not readable as media|no video stream"):
            restore_video(tmp_path / input, tmp_path / "out.mkv", strength=0)
        server.shutdown()
    assert Recorder.asked == []
    assert not (tmp_path / "out.mkv").exists()


def test_an_mp4_that_refers_to_another_file_is_not_followed(tmp_path: Path) -> None:
    """The data reference of QuickTime, here of all tracks, that names an external file."""
    path = media.video_file(tmp_path / "in.mov")
    media.video_file(tmp_path / "secret.mov")
    content = path.read_bytes()
    inside = b"\0\0\0\x0curl \0\0\0\x01"
    assert inside in content
    path.write_bytes(content.replace(inside, b"\0\0\0\x0curl \0\0\0\0"))
    film = read_film(path)
    restore_video(path, tmp_path / "out.mkv", strength=0, lossless=True)
    assert_films(read_film(tmp_path / "out.mkv"), film, unit=Fraction(1, 1000))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("name", ["large.y4m", "large.mkv"])
def test_a_large_picture_takes_no_memory(name: str, tmp_path: Path) -> None:
    """20000 x 20000 are 600 MB a frame; the command as such takes half of that."""
    make = (y4m_of if name.endswith("y4m") else sized)(20_000, 20_000)
    make(tmp_path / name)
    code = f"from vfilter import restore_video\ntry:\n    restore_video({name!r}, "
    code += "'out.mkv', strength=0)\nexcept Exception as error:\n    print(type(error).__name__)\n"
    code += "told = open('/proc/self/status').read().partition('VmHWM:')[2]\n"  # since its exec
    code += "print(int(told.split()[0]) // 1024)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    kind, most = done.stdout.split()
    assert kind == "InputError"
    assert int(most) < 500


def test_a_closed_source_gives_no_more(tmp_path: Path) -> None:
    with Source(media.camera(tmp_path / "a.avi")) as source:
        next(iter(source))
    with pytest.raises(ValueError, match="the source is closed"):
        list(source)


def test_the_bound_of_pixels(here: Callable[..., Result], tmp_path: Path) -> None:
    path = media.video_file(tmp_path / "in.mkv", frames=2)
    restore_video(path, tmp_path / "out.mkv", strength=0, max_pixels=64 * 48)
    with pytest.raises(InputError, match="pixels"):
        restore_video(path, tmp_path / "more.mkv", strength=0, max_pixels=64 * 48 - 1)
    assert names(tmp_path) == {"in.mkv", "out.mkv"}
    for arguments in (["new.mkv", "--dry-run"], ["--preview", "look.png"]):
        done = here("in.mkv", *arguments, "--max-pixels", f"{64 * 48 - 1}")
        assert (done.exit_code, len(done.stderr.splitlines())) == (3, 1)
        assert "--max-pixels" in done.stderr
    assert names(tmp_path) == {"in.mkv", "out.mkv"}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251", "shift-jis", "utf-16"])
def test_metadata_in_any_encoding(
    encoding: str, here: Callable[..., Result], tmp_path: Path
) -> None:
    path = media.uneven(tmp_path / "in.mkv", title="#" * 16, comment="plain")
    title = {"latin-1": "Déjà", "cp1251": "Фильм", "shift-jis": "映画"}.get(encoding, "é映")
    raw = title.encode(encoding).ljust(16, b"!")
    assert b"#" * 16 in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"#" * 16, raw))
    restore_video(path, tmp_path / "out.mkv", strength=0, preset="ultrafast")
    assert len(read_film(tmp_path / "out.mkv").times) == media.FRAMES
    assert here("probe", "in.mkv").exit_code == 0


AWKWARD = ['it\'s "so".avi', "-i.avi", "--help.avi", "a\nb.avi", " .avi", "file:x.avi", "*?[].avi"]
AWKWARD += ["%d.avi", "$(ls).avi", os.fsdecode(b"caf\xe9.avi"), "\U0001f4fc.avi", "concat:a|b.avi"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_by_the_command(
    name: str, here: Callable[..., Result], tmp_path: Path
) -> None:
    media.camera(tmp_path / "plain.avi").rename(tmp_path / name)
    (tmp_path / "out").mkdir()
    output = f"out/{name}"
    done = run("--strength", "0", "--quiet", "--", name, output, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(tmp_path / "out") == {name}
    told = here("--strength", "0", "-y", "--", name, output)
    assert told.stderr.splitlines()[-1].startswith("out/")
    assert " frames in " in told.stderr.splitlines()[-1]
    missing = here("--quiet", "--", f"{name}x", "out.avi")
    assert missing.exit_code == 3
    assert len(missing.stderr.splitlines()) == 1


def holed(path: Path, *frames: int) -> None:
    """Overwrite the insides of some JPEGs of `media.camera`."""
    whole = path.read_bytes()
    for index in frames:
        hit = media.jpeg(index, 50)
        assert hit in whole
        whole = whole.replace(hit, bytes(len(hit)))
    path.write_bytes(whole)


def test_damage_in_the_middle_is_passed_over_and_told(
    here: Callable[..., Result], tmp_path: Path
) -> None:
    holed(media.camera(tmp_path / "in.avi"), 4, 8)
    done = here("in.avi", "out.mkv", "--strength", "0")
    assert done.exit_code == 0
    assert "2 damaged packets or frames" in done.stderr.splitlines()[-1]
    times = read_film(tmp_path / "out.mkv").times
    kept = [Fraction(k, 15) for k in range(media.FRAMES) if k not in (4, 8)]
    assert_times(times, kept, unit=Fraction(1, 1000))


def without_chunks(path: Path, numbers: Sequence[int]) -> None:
    """Overwrite the names and sizes of some chunks of each stream of an AVI."""
    content = bytearray(path.read_bytes())
    with av.open(path) as container:
        for stream in container.streams:
            entries = list(stream.index_entries)
            for number in numbers:
                begin = entries[number].pos
                content[begin : begin + 8] = b"\xff" * 8
    path.write_bytes(content)


@pytest.mark.parametrize("ending", ["avi", "mp4", "mkv", "webm"])
def test_an_avi_that_lost_chunks_stays_in_sync(
    ending: str, here: Callable[..., Result], tmp_path: Path
) -> None:
    """FFmpeg counts the chunks it finds, so that one stream would run ahead of the other."""
    path = flash_and_beep(tmp_path / "in.avi", at=30, frames=50)
    output = tmp_path / f"out.{ending}"
    without_chunks(path, [4, 5, 12])
    done = here("in.avi", output.name, "--strength", "0", "--verify")
    assert done.exit_code == 0
    assert "5 damaged packets or frames" in done.stderr  # three of the video, two of the sound
    assert abs(apart(output)) <= Fraction(20, 1000)
    assert abs(flash(output) - Fraction(30, 25)) <= Fraction(1, 1000)


@pytest.mark.parametrize("told", [48000, 192000])
def test_a_wrong_rate_of_bytes_in_an_avi_changes_nothing(told: int, tmp_path: Path) -> None:
    """The sound has 96000 bytes a second, and no gap."""
    path = flash_and_beep(tmp_path / "in.avi")
    content, rates = path.read_bytes(), struct.pack("<II", 48000, 96000)
    assert content.count(rates) == 1
    path.write_bytes(content.replace(rates, struct.pack("<II", 48000, told)))
    for name in ("out.avi", "out.mov"):
        summary = restore_video(path, tmp_path / name, strength=0, verify=True)
        assert summary.damaged == 0
        assert np.array_equal(read_sound(tmp_path / name)[1], read_sound(path)[1])


def test_a_matroska_that_was_cut_off_is_told(here: Callable[..., Result], tmp_path: Path) -> None:
    """FFmpeg's demuxer says nothing of it."""
    whole = media.long_take(tmp_path / "in.mkv").read_bytes()
    (tmp_path / "in.mkv").write_bytes(whole[: len(whole) // 2])
    done = here("in.mkv", "out.mkv", "--strength", "0")
    assert done.exit_code == 0
    assert "1 damaged packet or frame" in done.stderr.splitlines()[-1]
    strict = here("in.mkv", "no.mkv", "--strength", "0", "--strict", "--quiet")
    assert strict.exit_code == 3
    assert "of the 4.0 s in its header" in strict.stderr
    (tmp_path / "in.mkv").write_bytes(whole)
    assert restore_video(tmp_path / "in.mkv", tmp_path / "out2.mkv", strength=0).damaged == 0


def test_strict_stops_at_the_first_damage(tmp_path: Path) -> None:
    holed(media.camera(tmp_path / "in.avi"), 10)  # later than what waits to be written
    done = run("in.avi", "out.mkv", "--strength", "0", "--strict", "--quiet", folder=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 3
    assert "damaged at byte" in line and "without --strict it is restored as far as" in line
    assert names(tmp_path) == {"in.avi"}
    options = ["--strength", "0", "--strict", "--segment", "0.1"]
    done = run("in.avi", "out.mkv", *options, folder=tmp_path)
    assert done.returncode == 3
    *_, kept, _ = done.stderr.splitlines()
    assert kept.endswith("out.mkv.vdeblock keeps what is done; the same command goes on")
    assert names(tmp_path) == {"in.avi", "out.mkv.vdeblock"}
    whole = media.camera(tmp_path / "whole.avi")
    assert restore_video(whole, tmp_path / "new.mkv", strength=0, strict=True).damaged == 0


def test_a_change_of_size_in_the_middle_is_scaled_and_told(
    here: Callable[..., Result], tmp_path: Path
) -> None:
    small = media.video_file(tmp_path / "small.h264", width=64, height=48)
    large = media.video_file(tmp_path / "large.h264", width=128, height=96)
    joined = tmp_path / "in.h264"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    done = here("in.h264", "out.mkv", "--strength", "0", "--lossless")
    assert done.exit_code == 0
    assert f"{media.FRAMES} frames scaled to the first one's size" in done.stderr
    before, after = read_film(small), read_film(tmp_path / "out.mkv")
    assert after.tags["size"] == (64, 48)
    assert len(after.times) == 2 * media.FRAMES
    first, second = after.planes[: media.FRAMES], after.planes[media.FRAMES :]
    for planes, wanted in zip(first, before.planes, strict=True):
        assert_planes(planes, wanted)
    for (luma, *_), (wanted, *_) in zip(second, read_film(large).planes, strict=True):
        averaged = wanted.reshape(48, 2, 64, 2).mean(axis=(1, 3))
        assert np.abs(luma - averaged).mean() < 5  # bicubic beside averages


@pytest.mark.parametrize(
    ("stamps", "repaired", "count"),
    [
        ({80: 120}, [0, 40, 120, 121, 160, 200], 1),  # the same twice
        ({120: 40}, [0, 40, 80, 81, 160, 200], 1),  # going back
        ({80: 160}, [0, 40, 160, 161, 162, 200], 2),  # ahead of those that follow
    ],
)
def test_times_that_do_not_rise_are_repaired_and_told(
    stamps: dict[int, int],
    repaired: list[int],
    count: int,
    here: Callable[..., Result],
    tmp_path: Path,
) -> None:
    path = media.video_file(tmp_path / "in.mkv", "ffv1", frames=6)
    data = path.read_bytes()
    for old, new in stamps.items():
        track_and_time = b"\x81%b" % old.to_bytes(2, "big")  # of a block (RFC 9559, 10.1)
        head = re.search(re.escape(track_and_time) + b"[\x00\x80]", data, re.DOTALL)
        assert head is not None
        at = head.start() + 1
        data = data[:at] + new.to_bytes(2, "big") + data[at + 2 :]
    path.write_bytes(data)
    done = here("in.mkv", "out.mkv", "--strength", "0")
    assert done.exit_code == 0
    told = "1 timestamp repaired" if count == 1 else f"{count} timestamps repaired"
    assert told in done.stderr
    assert read_film(tmp_path / "out.mkv").times == [Fraction(t, 1000) for t in repaired]


@media.kept
def flash_and_beep(
    path: Path, at: int = 10, origin: int = 0, frames: int = 25, **options: Any
) -> Path:
    """A film of 25 frames a second, black but for frame `at`, when a beep of 40 ms is heard.

    origin: frames before the first one, as where pts do not begin at zero.
    """
    with av.open(path, "w", **options) as output:
        codec = "mpeg4" if path.suffix == ".avi" else "libx264"
        bf = {} if codec == "mpeg4" else {"bf": "2"} | media.ALWAYS_B
        video = media.add_video(output, codec, width=64, height=64, **bf)
        sound = media.add_sound(output, "pcm_s16le" if path.suffix != ".ts" else "mp2", 48000)
        for index in range(frames):
            frame = media.picture(0, 64, 64)
            luma = np.frombuffer(memoryview(frame.planes[0]), np.uint8)
            luma[...] = 235 if index == at else 16
            frame.pts, frame.time_base = index + origin, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        wave = np.zeros(frames * 1920, np.int16)
        wave[at * 1920 : (at + 1) * 1920] = 20000
        resampler = av.AudioResampler("s16", "mono", 48000, frame_size=1152)
        whole = AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        whole.sample_rate, whole.pts, whole.time_base = 48000, 0, Fraction(1, 48000)
        for even in (*resampler.resample(whole), *resampler.resample(None)):
            even.pts = (even.pts or 0) + origin * 1920
            output.mux(sound.encode(even))
        output.mux(sound.encode(None))
    return path


def apart(path: Path) -> Fraction:
    """Seconds from the flash to the beep."""
    return beep(path) - flash(path)


def flash(path: Path) -> Fraction:
    """When the flash is seen, in seconds."""
    film = read_film(path)
    seen = zip(film.times, film.planes, strict=True)
    return next(time for time, planes in seen if planes[0].mean() > 100)


def beep(path: Path) -> Fraction:
    """When the beep is heard, in seconds, by the times of the sound's packets."""
    planar = av.AudioResampler("dblp")
    with av.open(path) as container:
        for frame in container.decode(audio=0):
            for even in planar.resample(frame):
                loud = np.abs(even.to_ndarray()[0]) > 0.2
                if loud.any():
                    begin = (frame.pts or 0) * (frame.time_base or 0)
                    return begin + Fraction(int(loud.argmax()), 48000)
    raise AssertionError("no beep")


SYNC: dict[str, tuple[str, dict[str, Any]]] = {
    "from zero": ("in.mov", {}),
    "first pts not zero": ("in.ts", {"origin": 250}),
    "late begin in mkv": ("in.mkv", {"origin": 75}),
    "edit list": ("in.mov", {"origin": 30}),
    "negative dts": (
        "in.mov",
        {"options": {"movflags": "negative_cts_offsets", "use_editlist": "0"}},
    ),
    "avi": ("in.avi", {}),
}


@pytest.mark.parametrize("ending", ["mkv", "mov", "mp4", "avi"])
@pytest.mark.parametrize("name", SYNC)
def test_a_flash_and_a_beep_stay_together(name: str, ending: str, tmp_path: Path) -> None:
    file, options = SYNC[name]
    path, output = flash_and_beep(tmp_path / file, **options), tmp_path / f"out.{ending}"
    restore_video(path, output, strength=0, crf=10)
    assert abs(apart(output) - apart(path)) <= Fraction(20, 1000)
    assert abs(apart(output)) <= Fraction(20, 1000) + abs(apart(path))


@pytest.mark.parametrize("start", [0.2, 0.3])
def test_a_flash_and_a_beep_stay_together_in_a_range(start: float, tmp_path: Path) -> None:
    path, output = flash_and_beep(tmp_path / "in.mov"), tmp_path / "out.mkv"
    restore_video(path, output, strength=0, crf=10, start=start, duration=1)
    assert abs(apart(output)) <= Fraction(45, 1000)


def test_file_handles_stay_flat(tmp_path: Path) -> None:
    path = media.camera(tmp_path / "in.avi")
    counts = []
    for _ in range(4):
        restore_video(path, tmp_path / "out.mkv", strength=0, overwrite=True)
        counts.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
    assert counts[-1] <= counts[0]


def test_packets_are_only_read(tmp_path: Path) -> None:
    """The input is as it was, to the byte and in its times."""
    path = media.phone(tmp_path / "in.mp4")
    before, told = path.read_bytes(), path.stat()
    restore_video(path, tmp_path / "out.mp4", strength=0, preset="ultrafast")
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == told.st_mtime_ns


@pytest.mark.parametrize("name", ["in.jpg", "in.mpo"])
def test_what_is_behind_a_photograph_is_no_film(name: str, tmp_path: Path) -> None:
    """A gain map of phones, a small copy of cameras; but MJPEG is one JPEG after the other."""
    path, film = tmp_path / name, tmp_path / "in.mjpeg"
    path.write_bytes(media.jpeg(0, 50) + media.jpeg(1, 90, 32, 24))
    summary = restore_video(path, tmp_path / "out.mkv", strength=0)
    assert (summary.frames, summary.resized, summary.damaged) == (1, 0, 0)
    (stream,) = probe(path)["streams"]
    assert stream["jpeg_quality"] == [50, 50]
    film.write_bytes(media.jpeg(0, 50) + media.jpeg(1, 50))
    assert restore_video(film, tmp_path / "film.mkv", strength=0).frames == 2


@pytest.mark.parametrize("piped", [False, True])
def test_raw_video_that_is_cut_off_is_told(piped: bool, tmp_path: Path) -> None:
    """FFmpeg's demuxer says nothing of it."""
    whole = media.y4m(tmp_path / "in.y4m").read_bytes()
    path = tmp_path / "in.y4m"

    def damaged(content: bytes, **options: Any) -> tuple[int, int]:
        if not piped:
            path.write_bytes(content)
            found = restore_video(path, tmp_path / "out.mkv", overwrite=True, **options)
            return found.frames, found.damaged
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=[content])
        writer.start()
        try:
            found = restore_video(pipe, tmp_path / "out.mkv", overwrite=True, **options)
        finally:
            writer.join()
            pipe.unlink()
        return found.frames, found.damaged

    assert damaged(whole, strength=0) == (media.FRAMES, 0)
    assert damaged(whole[:-999], strength=0) == (media.FRAMES - 1, 1)
    assert damaged(whole + b"FRAME\n", strength=0) == (media.FRAMES, 1)
    with pytest.raises(InputError, match=r"damaged .* \(it ends within a frame\)"):
        damaged(whole[:-999], strength=0, strict=True)


def test_raw_video_without_frames_is_not_said_to_need_seeking(tmp_path: Path) -> None:
    header = media.y4m(tmp_path / "in.y4m").read_bytes().partition(b"FRAME")[0]
    done = run("-", "out.mkv", folder=tmp_path, input=header.decode())
    assert done.returncode == 3
    assert done.stderr == (
        "vdeblock: -: no frame of its video could be decoded; is the file complete?\n"
    )
