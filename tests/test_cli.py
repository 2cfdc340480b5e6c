"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import av
import media
import pytest
from comparison import assert_films, read_film
from PIL import Image
from typer.testing import CliRunner, Result

import vfilter
from vfilter.cli import app

OPTIONS = {
    *("--model", "-m", "--strength", "--device", "--precision", "--codec", "--crf", "--preset"),
    *("--encoder-option", "--pix-fmt", "--lossless", "--start", "-ss", "--duration", "-t"),
    *("--frames", "--allow-loss", "--overwrite", "-y", "--dry-run", "--preview", "--quiet"),
    *("--progress", "--version", "--hints", "--no-hints", "--project", "--no-project", "--help"),
}

COMMAND = [sys.executable, "-c", "from vfilter.cli import main; main()"]
"""The command as a process of its own, whatever is installed."""


@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """in.avi in the current folder."""
    monkeypatch.chdir(tmp_path)
    return media.camera(tmp_path / "in.avi")


@pytest.fixture
def run(model: Path) -> Callable[..., Result]:
    """Runs the command in this process, with the random model unless it names another."""

    def invoke(*arguments: str, model: Path | None = model) -> Result:
        named = [] if model is None else ["--model", str(model)]
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, *named])

    return invoke


def bare(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_help_names_every_option() -> None:
    result = bare("--help")
    assert result.exit_code == 0
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z_-]*", result.stdout)) >= OPTIONS
    assert "Exit codes: 0 done, 1 fault of vdeblock, 2 usage, 3 input" in result.stdout
    assert bare().stdout == bare("-h").stdout == result.stdout


def test_version() -> None:
    result = bare("--version")
    assert (result.exit_code, result.stdout) == (0, f"vdeblock {vfilter.__version__}\n")


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys\nfrom vfilter.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'av', 'numpy', 'cv2', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_models_as_text_and_as_json() -> None:
    models = json.loads(bare("models", "--json").stdout)
    text = bare("models").stdout
    assert [model["name"] for model in models] == sorted(model["name"] for model in models)
    l8 = next(model for model in models if model["name"] == "l8-jpeg")
    assert l8["aliases"] == ["l8"]
    assert l8["parameters"] == 220_545
    assert l8["flop_per_pixel"] > 2 * 200_000
    assert l8["codec"] == "jpeg"
    assert "l8 stands for l8-jpeg." in text.splitlines()
    assert all(model["name"] in text for model in models)


@pytest.mark.parametrize("quality", [10, 35, 50, 75, 92])
def test_probe_tells_the_quality_of_mjpeg(quality: int, tmp_path: Path) -> None:
    path = media.camera(tmp_path / "in.avi", quality)
    lowest, highest = json.loads(bare("probe", str(path), "--json").stdout)["streams"][0][
        "jpeg_quality"
    ]
    assert quality - 1 <= lowest <= highest <= quality + 1


def test_probe_as_text(camera: Path) -> None:
    result = bare("probe", "in.avi")
    assert result.exit_code == 0
    assert result.stdout == (
        "in.avi: avi, 0.800 s, 0 chapters\n"
        "  0 video mjpeg: width 64, height 48, pixel format yuvj422p, frame rate 15, frames 12, "
        "sample aspect ratio 1, field order unknown, range full, jpeg quality 50  <- restored\n"
        "  1 audio pcm_u8: sample rate 11025, channels 1\n"
    )


def test_probe_tells_streams_and_tags(tmp_path: Path) -> None:
    facts = json.loads(bare("probe", str(media.phone(tmp_path / "in.mp4")), "--json").stdout)
    assert facts["metadata"]["title"] == "A small film"
    assert facts["chapters"] == 2
    kinds = [(stream["type"], stream["codec"]) for stream in facts["streams"]]
    assert kinds[:4] == [
        ("video", "h264"),
        ("audio", "aac"),
        ("audio", "aac"),
        ("subtitle", "mov_text"),
    ]
    assert [stream.get("restored") for stream in facts["streams"][:2]] == [True, None]
    assert facts["streams"][2]["disposition"] == ["comment"]
    assert facts["streams"][1]["language"] == "fra"


@pytest.mark.parametrize(("order", "told"), [("tff", "top first"), ("bff", "bottom first")])
def test_probe_tells_the_field_order(order: str, told: str, tmp_path: Path) -> None:
    path = media.interlaced(tmp_path / "in.mpg", "mpeg2video", order=order)
    facts = json.loads(bare("probe", str(path), "--json").stdout)
    assert facts["streams"][0]["field_order"] == told


def test_probe_of_sound_with_a_cover(tmp_path: Path) -> None:
    path = media.song(tmp_path / "in.mp3")
    result = bare("probe", str(path), "--json")
    assert result.exit_code == 0
    streams = json.loads(result.stdout)["streams"]
    assert [(s["type"], s.get("restored")) for s in streams] == [("audio", None), ("video", False)]


def test_a_file_is_restored(camera: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("in.avi", "out.mp4")
    assert result.exit_code == 0
    assert result.stdout == ""
    told, summary = result.stderr.splitlines()
    assert told == "stream 1: audio pcm_u8 converted to alac: mp4 can't hold pcm_u8"
    assert re.fullmatch(r"out\.mp4: 12 frames in .+ s \(.+ frames/s\)", summary)
    assert len(read_film(tmp_path / "out.mp4").times) == 12


def test_quiet_says_nothing(camera: Path, run: Callable[..., Result]) -> None:
    result = run("in.avi", "out.mp4", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_progress_in_json(camera: Path, run: Callable[..., Result]) -> None:
    result = run("in.avi", "out.mp4", "--progress", "json")
    steps = [json.loads(line) for line in result.stderr.splitlines()]
    assert [step["frame"] for step in steps] == list(range(1, 13))
    assert all(step.keys() == steps[0].keys() for step in steps)
    assert steps[0].keys() == {"frame", "total", "fps", "speed", "elapsed", "eta"}
    assert steps[-1]["total"] == 12
    assert steps[-1]["eta"] == 0


def test_progress_none_keeps_the_notes(camera: Path, run: Callable[..., Result]) -> None:
    result = run("in.avi", "out.mp4", "--progress", "none")
    assert result.stderr == "stream 1: audio pcm_u8 converted to alac: mp4 can't hold pcm_u8\n"


def test_dry_run_tells_all_and_writes_nothing(
    camera: Path, run: Callable[..., Result], tmp_path: Path, model: Path
) -> None:
    result = run("in.avi", "out.mp4", "--dry-run", "--crf", "20", "--precision", "fp32")
    assert result.exit_code == 0
    assert names(tmp_path) == {"in.avi"}
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        "stream 0: restored, encoded by libx264 as yuv422p (crf=20)",
        "stream 1: audio pcm_u8 converted to alac: mp4 can't hold pcm_u8",
    ]
    assert lines[2].startswith(f"model: {model.name}")
    assert "trained on jpeg of quality 10 to 60" in lines[2]
    assert re.fullmatch(r"strength: \d\.\d\d \(JPEG quality 50\)", lines[3])
    assert lines[4].startswith("engine: PyTorch on c")
    assert re.fullmatch(
        r"speed: about [\d.]+ frames/s restoring alone, 12 frames, [\d.]+ s", lines[5]
    )
    assert len(lines) == 6


def test_dry_run_tells_of_a_loss(run: Callable[..., Result], tmp_path: Path) -> None:
    path = media.uneven(tmp_path / "in.mkv")
    result = run(str(path), str(tmp_path / "out.mp4"), "--dry-run")
    assert "stream 2: attachment attachment left out: mp4 holds no attachments" in result.stdout
    assert "stream 3: video png copied" in result.stdout
    assert result.stdout.endswith(
        "would stop: streams would be lost; --allow-loss goes on without them\n"
    )


def test_preview_writes_one_picture(
    camera: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run("in.avi", "--preview", "look.png")
    assert (result.exit_code, result.output) == (0, "")
    assert names(tmp_path) == {"in.avi", "look.png"}
    with Image.open("look.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (64 + 8 + 64, 48))


def test_preview_of_one_frame(run: Callable[..., Result], tmp_path: Path) -> None:
    path, picture = media.video_file(tmp_path / "in.mkv", frames=1), tmp_path / "look.png"
    assert run(str(path), "--preview", str(picture)).exit_code == 0
    assert picture.exists()


def test_preview_never_replaces_the_input(camera: Path, run: Callable[..., Result]) -> None:
    before = camera.read_bytes()
    for options in ([], ["--overwrite"]):
        result = run("in.avi", "--preview", "in.avi", *options)
        assert result.exit_code == 2
    assert camera.read_bytes() == before


def test_preview_keeps_a_picture_unless_told(camera: Path, run: Callable[..., Result]) -> None:
    Path("look.png").write_bytes(b"precious")
    assert run("in.avi", "--preview", "look.png").exit_code == 5
    assert Path("look.png").read_bytes() == b"precious"
    assert run("in.avi", "--preview", "look.png", "-y").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["in.avi", "in.avi", "-y"], 2, "input and output are the same file"),
        (["in.avi", "out.mp4", "--device", "tpu"], 2, "device must be auto, cpu, cuda or cuda:N"),
        (["in.avi", "out.mp4", "--precision", "fp8"], 2, "precision must be auto, fp32, bf16"),
        (["in.avi", "out.mp4", "--pix-fmt", "yuv5"], 2, "yuv5"),
        (["nowhere.avi", "out.mp4"], 3, "nowhere.avi: no such file"),
        (["in.avi", "out.mp4", "--start", "9"], 3, "in the range asked for"),
        (["probe", "nowhere.avi"], 3, "nowhere.avi: no such file"),
        (["in.avi", "out.mp4", "--model", "l9"], 4, "unknown model 'l9': name one of l"),
        (["in.avi", "out.nonsense"], 5, "no container goes by that ending"),
        (["in.avi", "nowhere/out.mp4"], 5, "no folder nowhere; make it first"),
        (["in.avi", "nowhere/out.mp4", "--dry-run"], 5, "no folder nowhere; make it first"),
        (["in.avi", "out.mp4", "--codec", "nonsense"], 5, "no encoder named 'nonsense'"),
        (["in.avi", "out.mp4", "--encoder-option", "x=1"], 5, "libx264 doesn't take x=1"),
        (["in.avi", "out.mp4", "--device", "cuda:99"], 6, "device cuda:99 is not available"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    arguments: list[str], code: int, message: str, camera: Path, tmp_path: Path
) -> None:
    result = bare(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("vdeblock: ")
    assert message in line
    assert names(tmp_path) == {"in.avi"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.avi"], "OUTPUT is missing (or --preview PNG)"),
        (["in.avi", "out.mp4", "--strength", "2.5"], "2.5"),
        (["in.avi", "out.mp4", "--frames", "0"], "'--frames'"),
        (["in.avi", "out.mp4", "--encoder-option", "qp"], "write KEY=VALUE, got qp"),
        (["in.avi", "out.mp4", "--encoder-option", "=1"], "write KEY=VALUE, got =1"),
        (["in.avi", "out.mp4", "--start", "soon"], "'soon' is no time; write 12.5, 1:30"),
        (["in.avi", "out.mp4", "-t", "1:2:3:4"], "'1:2:3:4' is no time"),
        (["in.avi", "out.mp4", "-ss", "inf"], "'inf' is no time"),
        (["in.avi", "out.mp4", "--progress", "loud"], "'loud'"),
        (["in.avi", "out.mp4", "--nonsense"], "--nonsense"),
        (["in.avi", "out.mp4", "more"], "more"),
        (["probe"], "FILE"),
    ],
)
def test_usage(arguments: list[str], message: str, camera: Path, tmp_path: Path) -> None:
    result = bare(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr or "Input should be" in result.stderr
    assert names(tmp_path) == {"in.avi"}


@pytest.mark.parametrize("start", ["0.2", "200ms", "200000us", "0.2s", "0:0.2", "00:00:00.2"])
def test_times_in_the_syntax_of_ffmpeg(
    start: str, camera: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run("in.avi", "out.mkv", "-ss", start, "-t", "0.4", "--lossless", "--strength", "0")
    assert result.exit_code == 0
    before, after = read_film(camera), read_film(tmp_path / "out.mkv")
    assert len(after.times) == 6
    assert (after.planes[0][0] == before.planes[3][0]).all()


def test_allow_loss(run: Callable[..., Result], tmp_path: Path) -> None:
    path, output = media.uneven(tmp_path / "in.mkv"), tmp_path / "out.mp4"
    result = run(str(path), str(output), "--strength", "0")
    assert result.exit_code == 5
    assert "--allow-loss goes on without" in result.stderr
    assert not output.exists()
    assert run(str(path), str(output), "--strength", "0", "--allow-loss").exit_code == 0


def test_encoder_options_reach_the_encoder(
    camera: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    options = ("--encoder-option", "g=1", "--encoder-option", "x264-params=keyint=1:bframes=0")
    assert run("in.avi", "out.mp4", *options, "--crf", "30", "--preset", "fast").exit_code == 0
    with av.open(tmp_path / "out.mp4") as container:
        assert all(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
    assert b"crf=30.0" in (tmp_path / "out.mp4").read_bytes()


def test_an_interruption_ends_with_130(
    camera: Path, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vfilter.restorer.Restorer.__call__", interrupted)
    result = run("in.avi", "out.mp4", "--quiet")
    assert (result.exit_code, result.stderr) == (130, "vdeblock: interrupted\n")
    assert names(tmp_path) == {"in.avi"}


def test_a_fault_ends_with_1_and_debug_shows_where(
    camera: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by the test")

    monkeypatch.setattr("vfilter.restorer.Restorer.__call__", faulty)
    result = run("in.avi", "out.mp4", "--quiet")
    assert result.exit_code == 1
    assert result.stderr == (
        "vdeblock: a fault of vdeblock (ZeroDivisionError: by the test); --debug tells where\n"
    )
    assert isinstance(run("in.avi", "out.mp4", "--debug").exception, ZeroDivisionError)


def test_a_pipe_streams_frame_by_frame(tmp_path: Path, model: Path) -> None:
    """Frames come out while others are still to go in, and no more than a few are held."""
    path = media.y4m(tmp_path / "in.y4m", frames=200)
    content = path.read_bytes()
    half = content.index(b"FRAME") + (len(content) // 200) * 150
    seen = Event()

    def feed(pipe: Any) -> None:
        with pipe:
            pipe.write(content[:half])
            pipe.flush()
            assert seen.wait(60)
            pipe.write(content[half:])

    command = [*COMMAND, "-", "-", "--model", str(model), "--strength", "0", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        feeder = Thread(target=feed, args=(process.stdin,), daemon=True)
        feeder.start()
        begin = process.stdout.read(len(content) * 140 // 200)
        seen.set()
        rest = process.stdout.read()
        feeder.join(60)
        assert process.wait(60) == 0
    output = tmp_path / "out.y4m"
    output.write_bytes(begin + rest)
    assert_films(read_film(output), read_film(path))


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path, model: Path) -> None:
    path = media.y4m(tmp_path / "in.y4m", frames=100)
    command = [*COMMAND, str(path), "-", "--model", str(model), "--strength", "0", "--quiet"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(60) == 5
    assert len(errors.splitlines()) == 1


def test_the_command_from_another_folder(tmp_path: Path, model: Path) -> None:
    media.camera(tmp_path / "in.avi")
    command = [*COMMAND, "in.avi", "out.mp4", "--model", str(model), "--frames", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert names(tmp_path) == {"in.avi", "out.mp4"}
