"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
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
    told = " ".join(result.stdout.split())
    assert "Exit codes: 0 done, 1 fault of vdeblock, 2 usage, 3 input" in told
    assert "a file named as one of these is written ./models" in told
    assert bare().stdout == bare("-h").stdout == result.stdout


def test_version() -> None:
    result = bare("--version")
    assert (result.exit_code, result.stdout) == (0, f"vdeblock {vfilter.__version__}\n")


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys\nfrom vfilter.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'av', 'numpy', 'cv2', 'PIL', 'rich'} & sys.modules.keys()))"
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
    assert "l8 chooses by the source's codec among l8-h264, l8-jpeg" in text
    assert all(model["name"] in text for model in models)


@pytest.mark.parametrize("quality", [10, 35, 50, 75, 92])
def test_probe_tells_the_quality_of_mjpeg(quality: int, tmp_path: Path) -> None:
    path = media.camera(tmp_path / "in.avi", quality)
    lowest, highest = json.loads(bare("probe", str(path), "--json").stdout)["streams"][0][
        "jpeg_quality"
    ]
    assert quality - 1 <= lowest <= highest <= quality + 1


def changing(path: Path, unit: Fraction = Fraction(1, 5)) -> Path:
    """MJPEG, a frame each `unit` s: 10 of quality 85, 86, 85, 85, 86 ..., and 10 of quality 40."""
    with av.open(path, "w") as output:
        stream: Any = output.add_mux_stream(
            "mjpeg", rate=1 / unit, width=media.WIDTH, height=media.HEIGHT
        )
        stream.time_base = unit
        for index in range(20):
            packet: Any = av.Packet(media.jpeg(index, 40 if index >= 10 else 85 + (index % 3 == 1)))
            packet.stream, packet.time_base = stream, unit
            packet.pts = packet.dts = index
            packet.is_keyframe = True
            output.mux(packet)
    return path


def test_probe_tells_quality_over_time(tmp_path: Path) -> None:
    path = changing(tmp_path / "in.avi")
    assert "JPEG quality 85 from 0:00, 40 from 0:02  <- restored" in bare("probe", str(path)).stdout
    (stream,) = json.loads(bare("probe", str(path), "--json").stdout)["streams"]
    assert stream["jpeg_quality"] == [40, 86]
    assert stream["jpeg_quality_over_time"] == [
        {"from": 0.0, "quality": 85},
        {"from": 2.0, "quality": 40},
    ]
    assert not stream["jpeg_quality_sampled"]


def test_probe_samples_a_long_film(tmp_path: Path) -> None:
    path = changing(tmp_path / "in.mkv", unit=Fraction(10))
    assert (
        "JPEG quality 85 from 0:00, 40 from 1:40 (in 240 frames spread evenly)  <- restored"
        in bare("probe", str(path)).stdout
    )


@pytest.mark.parametrize(
    ("codec", "options", "told"),
    [
        ("libx264", {"qp": "30", "bf": "0", "g": "1"}, r"quantizer 2[\d.]+ \(\d+ to \d+\)"),
        ("mpeg4", {"qmin": "5", "qmax": "5"}, r"quantizer 5 \(5 to 5\)"),
        ("mpeg2video", {"qmin": "4", "qmax": "4"}, r"quantizer 4 \(4 to 4\)"),
        ("ffv1", {}, "range unknown"),
    ],
)
def test_probe_tells_the_quantizer(
    codec: str, options: dict[str, str], told: str, tmp_path: Path
) -> None:
    path = media.video_file(tmp_path / "in.mkv", codec, **options)
    _, line = bare("probe", str(path)).stdout.splitlines()
    assert re.search(f", {told}  <- restored$", line)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_names_that_a_terminal_can_not_show(options: list[str], tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path / "caf") + b"\xe9 \xc3\xbc.avi"))
    media.camera(tmp_path / "plain.avi").rename(path)
    plain = {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [*COMMAND, "probe", path.name, *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | plain, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"caf" in done.stdout
    missing = [*COMMAND, "probe", path.name + "x"]
    done = subprocess.run(
        missing, cwd=tmp_path, env=os.environ | plain, capture_output=True, check=False
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1 and b"no such file" in done.stderr


def test_probe_as_text(camera: Path) -> None:
    result = bare("probe", "in.avi")
    assert result.exit_code == 0
    assert result.stdout == (
        "in.avi: avi, 0.800 s, 0 chapters\n"
        "  0 video mjpeg: width 64, height 48, pixel format yuvj422p, frame rate 15, frames 12, "
        "sample aspect ratio 1, field order unknown, range full, JPEG quality 50  <- restored\n"
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
    *notes, summary = result.stderr.splitlines()
    assert "stream 1: audio pcm_u8 converted to alac: mp4 can't hold pcm_u8" in notes
    assert re.fullmatch(
        r"out\.mp4: 12 frames in .+ s \(.+ frames/s\), JPEG quality 50, mean strength up to 1\.00",
        summary,
    )
    assert len(read_film(tmp_path / "out.mp4").times) == 12


def test_quiet_says_nothing(camera: Path, run: Callable[..., Result]) -> None:
    result = run("in.avi", "out.mp4", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_progress_in_json(camera: Path, run: Callable[..., Result], model: Path) -> None:
    result = run("in.avi", "out.mp4", "--progress", "json", "--precision", "fp32")
    plan, *steps, summary = (json.loads(line) for line in result.stderr.splitlines())
    assert plan["type"] == "plan"
    assert (plan["video"], plan["encoder"], plan["pixel_format"]) == (0, "libx264", "yuv422p")
    assert (plan["model"], plan["container"]) == (model.name, "mp4")
    assert re.match("(PyTorch|OpenVINO) on c", plan["engine"])
    assert plan["streams"] == [
        {
            **{"index": 1, "kind": "audio", "codec": "pcm_u8", "action": "convert"},
            **{"encoder": "alac", "reason": "mp4 can't hold pcm_u8"},
        }
    ]
    assert (plan["lost"], type(plan["notes"])) == ([], list)
    assert [step["frame"] for step in steps] == list(range(1, 13))
    keys = {"type", "frame", "total", "fps", "speed", "elapsed", "eta"}
    assert all(step.keys() == keys and step["type"] == "progress" for step in steps)
    assert (steps[-1]["total"], steps[-1]["eta"]) == (12, 0)
    assert summary.pop("seconds") > 0
    assert summary == {
        **{"type": "summary", "output": "out.mp4", "frames": 12, "lost": []},
        **{"damaged": 0, "repaired": 0, "resized": 0, "moved": 0, "retagged": {}},
        **{"jpeg_quality": [50, 50], "quantizer": None, "strength": 1.0},
        **{"reused": 0, "verified": None},
    }


def test_progress_in_json_tells_what_is_lost_and_damaged(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    path, holed = media.uneven(tmp_path / "in.mkv"), tmp_path / "holed.avi"
    options = ("--progress", "json", "--strength", "0", "--preset", "ultrafast")
    result = run(str(path), str(tmp_path / "out.mp4"), "--allow-loss", *options)
    plan, *_, summary = (json.loads(line) for line in result.stderr.splitlines())
    assert plan["lost"] == summary["lost"] == [2]
    whole = media.camera(tmp_path / "in.avi").read_bytes()
    holed.write_bytes(whole.replace(hit := media.jpeg(5, 50), bytes(len(hit))))
    result = run(str(holed), str(tmp_path / "holed.mp4"), *options)
    *_, summary = (json.loads(line) for line in result.stderr.splitlines())
    assert (summary["damaged"], summary["frames"]) == (1, 11)


def test_progress_none_tells_no_more_than_notes_and_the_end(
    camera: Path, run: Callable[..., Result]
) -> None:
    result = run("in.avi", "out.mp4", "--progress", "none")
    *notes, summary = result.stderr.splitlines()
    assert "stream 1: audio pcm_u8 converted to alac: mp4 can't hold pcm_u8" in notes
    assert summary.startswith("out.mp4: 12 frames in ")


def test_the_end_tells_the_quantizers_met(run: Callable[..., Result], tmp_path: Path) -> None:
    path = media.video_file(tmp_path / "in.avi", "mpeg4", qmin="5", qmax="5", frames=4)
    result = run(str(path), str(tmp_path / "out.mp4"), "--strength", "0.5")
    assert result.stderr.splitlines()[-1].endswith(", mean quantizer 5, mean strength up to 0.50")


def test_one_of_a_thing_is_no_plural(run: Callable[..., Result], tmp_path: Path) -> None:
    path = media.video_file(tmp_path / "in.mkv", frames=1)
    result = run(str(path), str(tmp_path / "out.mkv"), "--strength", "0")
    assert ": 1 frame in " in result.stderr


def test_dry_run_tells_all_and_writes_nothing(
    camera: Path, run: Callable[..., Result], tmp_path: Path, model: Path
) -> None:
    result = run("in.avi", "out.mp4", "--dry-run", "--crf", "20", "--precision", "fp32")
    assert result.exit_code == 0
    assert names(tmp_path) == {"in.avi"}
    first, *notes, told, source, strength, engine, speed = result.stdout.splitlines()
    assert re.fullmatch(
        r"stream 0: restored, encoded by libx264 as yuv422p \(.*crf=20(\.0)?\)", first
    )
    assert "stream 1: audio pcm_u8 converted to alac: mp4 can't hold pcm_u8" in notes
    assert told.startswith(f"model: {model.name}")
    assert "trained on jpeg of quality 10 to 60" in told
    assert source == "source: JPEG quality 50"
    assert strength == "strength: up to 1.00 in the first frame (JPEG quality 50)"
    assert re.match("engine: (PyTorch|OpenVINO) on c", engine)
    assert re.fullmatch(r"speed: about [\d.]+ frames/s restoring alone, 12 frames, [\d.]+ s", speed)


def test_dry_run_tells_of_a_loss(run: Callable[..., Result], tmp_path: Path) -> None:
    path = media.uneven(tmp_path / "in.mkv")
    result = run(str(path), str(tmp_path / "out.mp4"), "--dry-run")
    assert "stream 2: attachment attachment left out: mp4 holds no attachments" in result.stdout
    assert "stream 3: video png copied" in result.stdout
    assert result.stdout.endswith(
        "would stop: streams would be lost; --allow-loss goes on without them\n"
    )
    result = run(str(path), str(tmp_path / "out.mp4"), "--dry-run", "--allow-loss")
    assert "left out: mp4 holds no attachments" in result.stdout
    assert "would stop" not in result.stdout


def test_dry_run_tells_quality_over_time(run: Callable[..., Result], tmp_path: Path) -> None:
    path = changing(tmp_path / "in.avi")
    output = str(tmp_path / "out.mp4")
    told = "source: JPEG quality 85 from 0:00, 40 from 0:02"
    assert told in run(str(path), output, "--dry-run").stdout.splitlines()
    assert "source:" not in run(str(path), output, "--dry-run", "--no-hints").stdout


def test_y4m_loses_sound_to_a_named_file_with_leave_alone(
    camera: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run("in.avi", "out.y4m", "--strength", "0")
    assert result.exit_code == 5
    assert "stream 1 (audio, pcm_u8) is lost" in result.stderr
    assert "--allow-loss goes on without" in result.stderr
    assert "would stop" in run("in.avi", "out.y4m", "--dry-run").stdout
    assert "would stop" not in run("in.avi", "-", "--dry-run").stdout
    assert run("in.avi", "out.y4m", "--strength", "0", "--allow-loss").exit_code == 0
    assert run("in.avi", "-", "--strength", "0").exit_code == 0


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


def test_preview_and_dry_run_of_standard_input(camera: Path, tmp_path: Path, model: Path) -> None:
    for wanted in (["--preview", "look.png"], ["out.mp4", "--dry-run"]):
        command = [*COMMAND, "-", *wanted, "--model", str(model)]
        with subprocess.Popen(["cat", camera.name], stdout=subprocess.PIPE) as feeder:
            done = subprocess.run(
                command, stdin=feeder.stdout, capture_output=True, timeout=60, check=False
            )
        assert (done.returncode, done.stderr) == (0, b"")
    assert names(tmp_path) == {"in.avi", "look.png"}


def test_preview_and_dry_run_of_a_named_pipe(
    camera: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    os.mkfifo("pipe")
    for wanted in (["--preview", "look.png"], ["out.mp4", "--dry-run"]):
        with subprocess.Popen(["cp", camera.name, "pipe"]):
            done = run("pipe", *wanted)
        assert (done.exit_code, done.stderr) == (0, "")
    assert names(tmp_path) == {"in.avi", "pipe", "look.png"}


def test_a_preview_that_can_not_be_written_leaves_the_former_one(
    camera: Path, tmp_path: Path, model: Path
) -> None:
    """No file may grow beyond 1 KiB, as on a full disk."""
    Path("look.png").write_bytes(b"precious")
    done = subprocess.run(
        [*COMMAND, "in.avi", "--preview", "look.png", "-y", "--model", str(model)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
    )
    assert done.returncode == 5
    assert done.stderr == "vdeblock: look.png: can't be written (File too large)\n"
    assert Path("look.png").read_bytes() == b"precious"
    assert names(tmp_path) == {"in.avi", "look.png"}


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
        (["in.avi", "out.mp4", "--precision", "fp8"], 2, "'auto', 'fp32', 'bf16', 'fp16'"),
        (["in.avi", "out.mp4", "--pix-fmt", "yuv5"], 2, "'yuv5' is no pixel format of FFmpeg"),
        (["in.avi", "out.mp4", "-t", "0"], 2, "duration must be more than 0 and at most 1,000"),
        (["in.avi"], 2, "OUTPUT is missing (or --preview PNG)"),
        (["in.avi", "out.mp4", "--nonsense"], 2, "No such option: --nonsense"),
        (["in.avi", "--preview", "a.png", "--dry-run"], 2, "--dry-run nothing; choose one"),
        (["in.avi", "out.mp4", "--crf", "9", "--lossless"], 2, "exclude each other; leave one"),
        (["probe"], 2, "Missing argument 'FILE'"),
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
        (["in.avi", "out.mp4", "--strength", "2.5"], "'--strength'"),
        (["in.avi", "out.mp4", "--frames", "0"], "'--frames'"),
        (["in.avi", "out.mp4", "--encoder-option", "qp"], "write KEY=VALUE, got qp"),
        (["in.avi", "out.mp4", "--encoder-option", "=1"], "write KEY=VALUE, got =1"),
        (
            ["in.avi", "out.mp4", "--encoder-option", "g=1", "--encoder-option", "qp"],
            "'--encoder-option': write KEY=VALUE, got qp (",
        ),
        (["in.avi", "out.mp4", "--start", "soon"], "'soon' is no time; write 12.5, 1:30"),
        (["in.avi", "out.mp4", "-t", "1:2:3:4"], "'1:2:3:4' is no time"),
        (["in.avi", "out.mp4", "-ss", "nan"], "'nan' is no time"),
        (["in.avi", "out.mp4", "-ss", "inf"], "start must be 0 or more and at most 1,000,000,"),
        (
            ["in.avi", "out.mp4", "-t", "1e10"],
            "duration must be more than 0 and at most 1,000,000,",
        ),
        (["in.avi", "out.mp4", "--max-pixels", "99999999999"], "equal to 2147483647"),
        (["in.avi", "out.mp4", "--progress", "loud"], "'loud'"),
        (["in.avi", "out.mp4", "more"], "several inputs need --output-dir DIR"),
    ],
)
def test_usage(arguments: list[str], message: str, camera: Path, tmp_path: Path) -> None:
    result = bare(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("vdeblock: ") and message in line
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
    options += ("--encoder-option", "stats=")
    assert run("in.avi", "out.mp4", *options, "--crf", "30", "--preset", "fast").exit_code == 0
    with av.open(tmp_path / "out.mp4") as container:
        assert all(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
    assert b"crf=30.0" in (tmp_path / "out.mp4").read_bytes()


def test_an_interruption_ends_with_130(
    camera: Path, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vfilter.restorer.Restorer.luma_of", interrupted)
    result = run("in.avi", "out.mp4", "--quiet")
    assert (result.exit_code, result.stderr) == (130, "vdeblock: interrupted\n")
    assert names(tmp_path) == {"in.avi"}


@pytest.mark.parametrize(
    ("name", "waiting"),
    [("SIGINT", False), ("SIGTERM", False), ("SIGHUP", False), ("SIGTERM", True)],
)
def test_a_signal_stops_the_run_in_order(
    name: str, waiting: bool, tmp_path: Path, model: Path
) -> None:
    """Between frames, and where the run waits for its input."""
    path, number = media.y4m(tmp_path / "in.y4m", times=250), getattr(signal, name)
    input = "-" if waiting else "in.y4m"
    options = [] if waiting else ["--strength", "1"]
    command = [*COMMAND, input, "out.mkv", "--model", str(model), "--progress", "json", *options]
    pipes: Any = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        assert process.stdin is not None and process.stderr is not None
        if waiting:
            content = path.read_bytes()
            process.stdin.write(content[: content.index(b"FRAME") + len(content) // 300])
            process.stdin.flush()
        while b'"progress"' not in process.stderr.readline():
            assert process.poll() is None
        if waiting:
            time.sleep(0.3)
        process.send_signal(number)
        *_, last = process.stderr.read().splitlines()
        assert process.wait(30) == 128 + number
    told = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert last.decode() == f"vdeblock: {told}"
    assert names(tmp_path) == {"in.y4m"}


def test_a_signal_stops_a_run_that_is_stuck_in_writing(tmp_path: Path, model: Path) -> None:
    path = media.y4m(tmp_path / "in.y4m", frames=20, times=10)
    command = [*COMMAND, str(path), "-", "--model", str(model), "--strength", "0"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(100)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        assert process.stderr.read() == b"vdeblock: stopped by SIGTERM\n"


def test_a_run_under_nohup_outlives_the_terminal() -> None:
    code = (
        "import signal\nfrom vfilter.signals import heeding_signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with heeding_signals(piped=False):\n"
        "    signal.raise_signal(signal.SIGHUP)\n    print('on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "on\n")


@pytest.mark.parametrize("fault", [ZeroDivisionError, ValueError])
def test_a_fault_ends_with_1_and_debug_shows_where(
    fault: type[Exception],
    camera: Path,
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faulty(*_: Any, **__: Any) -> None:
        raise fault("by the test")

    monkeypatch.setattr("vfilter.restorer.Restorer.luma_of", faulty)
    result = run("in.avi", "out.mp4", "--quiet")
    assert result.exit_code == 1
    assert result.stderr == (
        f"vdeblock: a fault of vdeblock ({fault.__name__}: by the test); --debug tells where\n"
    )
    assert isinstance(run("in.avi", "out.mp4", "--debug").exception, fault)


def test_a_reader_that_goes_away_from_probe_is_no_fault(camera: Path) -> None:
    command = f'{sys.executable} -c "{COMMAND[2]}" models --json | true; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout in ("0\n", "5\n")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_pipe_streams_frame_by_frame(tmp_path: Path, model: Path) -> None:
    """Frames come out while others are still to go in, and no more than a few are held."""
    path = media.y4m(tmp_path / "in.y4m", frames=20, times=10)
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
    path = media.y4m(tmp_path / "in.y4m", frames=20, times=5)
    command = [*COMMAND, str(path), "-", "--model", str(model), "--strength", "0", "--quiet"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(60) == 5
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_nobody_need_take_what_is_told(closed: str, camera: Path, tmp_path: Path) -> None:
    """And nothing of it gets among the frames."""
    command = f'exec {sys.executable} -c "{COMMAND[2]}" in.avi - --strength 0 --progress json'
    frames = {
        subprocess.run(["bash", "-c", f"{command} {to}"], capture_output=True, check=True).stdout
        for to in ("", closed)
    }
    assert len(frames) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("- out.mp4 <&-", 3, "-: reading failed (Bad file descriptor)"),
        ("in.avi - >&-", 5, "-: can't be written (Bad file descriptor)"),
        ("in.avi - >/dev/full", 5, "-: can't be written (No space left on device)"),
        ("probe in.avi >&-", 5, "standard output can't be written (Bad file descriptor)"),
        ("models >/dev/full", 5, "standard output can't be written (No space left on device)"),
    ],
)
def test_standard_streams_that_fail(
    arguments: str, code: int, told: str, camera: Path, tmp_path: Path
) -> None:
    command = f'exec {sys.executable} -c "{COMMAND[2]}" {arguments}'
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=buffered)
    assert done.returncode == code
    assert all(line.startswith(("vdeblock: ", "stream 1: ")) for line in done.stderr.splitlines())
    assert told in done.stderr.splitlines()[-1]
    assert names(tmp_path) == {"in.avi"}


def test_a_pipe_of_what_needs_seeking_is_an_error_that_says_so(tmp_path: Path, model: Path) -> None:
    """The header of an mp4 lies behind its pictures."""
    content = media.video_file(tmp_path / "in.mp4", frames=200).read_bytes()
    command = [*COMMAND, "-", "out.mkv", "--model", str(model), "--strength", "0"]
    done = subprocess.run(command, cwd=tmp_path, input=content, capture_output=True, check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert names(tmp_path) == {"in.mp4"}


def test_the_command_from_another_folder(tmp_path: Path, model: Path) -> None:
    media.camera(tmp_path / "in.avi")
    command = [*COMMAND, "in.avi", "out.mp4", "--model", str(model), "--frames", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert names(tmp_path) == {"in.avi", "out.mp4"}


def test_preview_is_a_png(camera: Path, run: Callable[..., Result]) -> None:
    result = run("in.avi", "--preview", "look.jpg")
    assert result.exit_code == 5
    assert not camera.with_name("look.jpg").exists()


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "vfilter", "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith("vdeblock ")
