"""Comparison with other filters: what is run, measured, refused, and written."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import media
import numpy as np
import pytest
import typer
from av.video.frame import VideoFrame
from comparison import read_film, read_sound, read_tracks
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from training.data import jpeg, load_folder
from training.evaluate import scores
from vfilter.bitstream import scaled_luma_table
from vfilter.comparison import compare
from vfilter.comparison.command import compare_command
from vfilter.comparison.degrade import degrade, parse_degradation
from vfilter.comparison.ffmpeg import Cost, FFmpeg
from vfilter.comparison.films import read_films
from vfilter.comparison.measure import Clip
from vfilter.comparison.metrics import flicker
from vfilter.comparison.report import verdict
from vfilter.comparison.results import Comparison, Run, shown, write_text
from vfilter.comparison.rivals import FFMPEG, QPS, RIVALS, guessed, parse_rivals, table_qp
from vfilter.comparison.shots import SOURCE, Shots
from vfilter.comparison.split import halves
from vfilter.comparison.sweep import Trial, best_value, sample_of, sweep
from vfilter.comparison.table import cells, main
from vfilter.errors import ArgumentError, InputError, OutputError
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of

WIDTH, HEIGHT = 176, 144


def pictures(count: int, width: int = WIDTH, height: int = HEIGHT) -> Iterator[VideoFrame]:
    """yuv420p frames of the moving scene."""
    for index in range(count):
        codes = np.full((height * 3 // 2, width), 128, dtype=np.uint8)
        codes[:height] = media.scene(index, height, width, seed=0) * 255
        yield VideoFrame.from_ndarray(codes, format="yuv420p")


def write_pristine(
    path: Path,
    count: int = 3,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    rate: int = 25,
    pix_fmt: str = "yuv420p",
) -> Path:
    """FFV1 in Matroska of the scene."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for index, frame in enumerate(pictures(count, width, height)):
            frame.pts, frame.time_base = index, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture
def pristine(tmp_path: Path) -> Path:
    return write_pristine(tmp_path / "pristine.mkv")


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """Three frames of MJPEG, quality 10."""
    path = tmp_path / "camera.avi"
    degrade(pictures(3), "mjpeg", 10, path)
    return path


@pytest.fixture
def run(model: Path) -> Callable[..., Result]:
    """Runs the command, with the random model."""
    app = typer.Typer()
    app.command()(compare_command)

    def invoke(*arguments: object) -> Result:
        texts = [str(argument) for argument in arguments]
        given = [] if "--model" in texts else ["--model", str(model)]
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*texts, *given])

    return invoke


def result_of(**psnrs: float) -> Comparison:
    """A comparison of runs that are told by family and PSNR."""
    runs = [
        Run(
            name=family,
            family="ours" if family == "l8" else family.rstrip("_"),
            variant="",
            command="ffmpeg",
            scores={"psnr": [value, value]},
            cost=Cost(seconds=1.0, cpu_seconds=2.0),
        )
        for family, value in psnrs.items()
    ]
    return Comparison(
        input="in.avi",
        reference="clean.mkv",
        degraded=None,
        width=WIDTH,
        height=HEIGHT,
        frames=2,
        rate=Fraction(25),
        codec="mjpeg",
        runs=tuple(runs),
        trials=(),
        versions={},
        machine={},
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("mjpeg:20", ("mjpeg", 20)), ("mpeg2:8", ("mpeg2video", 8)), ("h264:32", ("h264", 32))],
)
def test_degradation_is_parsed(text: str, expected: tuple[str, int]) -> None:
    assert parse_degradation(text) == expected


@pytest.mark.parametrize("text", ["mjpeg", "theora:3", "h264:x", "mjpeg:0", "mpeg4:32"])
def test_degradation_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"must be"):
        parse_degradation(text)


def test_degraded_mjpeg_has_the_tables_of_its_quality(camera: Path) -> None:
    film = read_film(camera)
    assert len(film.times) == 3
    assert film.tags["size"] == (WIDTH, HEIGHT)


def test_degrading_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frames"):
        degrade([], "mjpeg", 10, tmp_path / "none.avi")


def test_the_table_quantizer_is_that_of_ffmpeg() -> None:
    assert [table_qp(scaled_luma_table(q).tolist()) for q in (10, 20, 100)] == [32, 16, 1]


def test_guessed_settings_are_near_the_measured_best() -> None:
    assert guessed("spp", 32)[1] == "spp=quality=6:qp=18:mode=hard"
    assert guessed("deblock", 32) == []


def test_best_value_finds_the_top_of_a_hill() -> None:
    for top in QPS:
        assert (
            abs(QPS.index(int(best_value(QPS, lambda v, t=top: -abs(v - t)))) - QPS.index(top)) <= 1
        )  # type: ignore[misc]


def test_unknown_rival_is_refused() -> None:
    with pytest.raises(ArgumentError, match="called blur; there are spp"):
        parse_rivals(["spp", "blur"])


def test_sample_keeps_the_grid() -> None:
    planes = np.zeros((9, 500, 701), dtype=np.uint8)
    planes[:, 96::16, 160::16] = 1
    sample = sample_of(planes)
    assert sample.shape == (4, 288, 352)
    assert sample[:, ::16, ::16].all()


def test_flicker_is_the_variance_of_the_error_where_nothing_moves() -> None:
    rng = np.random.default_rng(1)
    still: NDArray[np.float64] = np.full((64, 64), 100.0)
    noise = rng.normal(0, 3, (64, 64))
    assert flicker(still + noise, still, still, still) == pytest.approx(9, rel=0.1)
    assert flicker(still + 5, still + 5, still, still) == 0
    assert math.isnan(flicker(still, still, still, still + 50))


def test_no_ffmpeg_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no FFmpeg that runs .*pip install"):
        FFmpeg(tmp_path / "ffmpeg")


def test_without_any_ffmpeg_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"no FFmpeg binary .*pip install 'vdeblock\[compare\]'"):
        FFmpeg()


def test_a_lacking_filter_is_named() -> None:
    with pytest.raises(InputError, match="lacks the filter frobnicate"):
        FFmpeg().require(["spp", "frobnicate"])


def test_sadct_without_numba_is_refused_at_once(
    camera: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(InputError, match=r"sadct needs the package numba; pip install"):
        compare(camera, models=[model])


def test_a_failing_filter_tells_why() -> None:
    planes = np.zeros((1, 32, 32), dtype=np.uint8)
    with pytest.raises(InputError, match="with the filter spp=quality=99"):
        FFmpeg().filtered(planes, "spp=quality=99")


def script(path: Path, *lines: str) -> Path:
    """A shell script in place of FFmpeg: `lines`, and else FFmpeg itself."""
    path.write_text("\n".join(["#!/bin/sh", *lines, f'exec {FFmpeg().path} "$@"']) + "\n")
    path.chmod(0o755)
    return path


def test_a_filter_that_crashes_is_told_and_the_others_are_run(
    tmp_path: Path, pristine: Path, model: Path
) -> None:
    """As fspp of FFmpeg 9 does in frames whose width is no multiple of 16."""
    crashing = script(tmp_path / "crashing", 'case "$*" in *deblock*) kill -s SEGV $$;; esac')
    given = {"models": [model], "frames": 1, "perceptual": False, "ffmpeg": crashing}
    result = compare(pristine, degrade="mjpeg:10", against=["deblock", "pp7"], **given)  # type: ignore[arg-type]
    crashed = [run for run in result.runs if run.family == "deblock"]
    assert [run.variant for run in crashed] == ["as typed", "best of a sweep"]
    assert all(run.notes == ("FFmpeg failed: it crashed (SIGSEGV)",) for run in crashed)
    assert {trial.rival for trial in result.trials} == {"pp7"}
    assert result.best("pp7") is not None


def test_an_ffmpeg_in_this_folder_is_run(
    tmp_path: Path, camera: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "ff")
    monkeypatch.chdir(tmp_path)
    result = compare(camera, models=[model], against=["deblock"], ffmpeg="./ff", frames=1)
    assert not result.runs[-1].failed
    assert result.runs[-1].command.startswith(f"{tmp_path / 'ff'} ")


@pytest.mark.parametrize("shape", [(3, 32, 48), (1, 33, 47)])
def test_planes_come_back_as_they_went(shape: tuple[int, int, int]) -> None:
    planes = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    assert (FFmpeg().filtered(planes, "null") == planes).all()


def test_csv_json_and_best() -> None:
    result = result_of(source=28.0, l8=29.5, spp=28.5, spp_=28.7)
    best = result.best("spp")
    assert best is not None
    assert best.name == "spp_"
    assert [r.name for r in result.headline] == ["source", "l8", "spp_"]
    assert result.to_csv().splitlines()[2].startswith("l8,ours,,29.5,2.0,1.0,2.0")
    assert json.loads(result.to_json())["runs"][1]["overall"]["psnr"] == 29.5
    assert "1.50 dB of PSNR above the film" in verdict(result)
    assert "0.80 dB of PSNR above the best rival" in verdict(result)
    assert shown(math.inf, 2) == "∞"


def test_frames_that_equal_the_original_leave_the_means_finite() -> None:
    result = result_of(source=28.0, l8=29.0, spp=28.5)
    black = replace(
        result,
        frames=3,
        runs=tuple(replace(r, scores={"psnr": [math.inf, *r.scores["psnr"]]}) for r in result.runs),
        trials=(Trial(rival="spp", chain="spp=qp=1", psnr=math.inf),),
    )
    assert [black.row(run)[1] for run in black.runs] == ["28.00", "29.00", "28.50"]
    assert "1.00 dB of PSNR above the film" in verdict(black)
    told = json.loads(black.to_json())
    assert told["runs"][1]["overall"]["psnr"] == 29.0
    assert told["trials"][0]["psnr"] is None


def test_a_sweep_passes_over_frames_that_equal_the_original() -> None:
    clean = np.full((2, 16, 16), 100, dtype=np.uint8)
    damaged = clean + np.array([0, 8], dtype=np.uint8)[:, None, None]

    def run(planes: NDArray[np.uint8], chain: str) -> NDArray[np.uint8]:
        qp = int(chain.removeprefix("pp7=qp=").partition(":")[0])
        return np.where(planes > 100, 101 + abs(qp - 13), planes).astype(np.uint8)

    best, tried = sweep("pp7", damaged, clean, run)
    assert best == {"": "pp7=qp=13:mode=soft"}
    assert all(math.isfinite(trial.psnr) for trial in tried)


def test_a_film_beside_itself_is_infinitely_above() -> None:
    told = verdict(result_of(source=math.inf, l8=40, spp=41))
    assert "l8: infinitely below the film as it came, 1.00 dB of PSNR below the best" in told


def test_where_we_lose_is_told() -> None:
    assert "0.50 dB of PSNR below the best rival" in verdict(result_of(source=28, l8=28, spp=28.5))


def test_places_are_where_most_and_least_is_gained(tmp_path: Path) -> None:
    clean = np.full((2, 144, 176), 100, dtype=np.uint8)
    damaged, restored = clean + 10, clean + 10
    restored[1, 80:, 112:] -= 10
    restored[0, :40, :40] += 20
    clips = {}
    for name, planes in {"clean": clean, "damaged": damaged, "restored": restored}.items():
        planes.tofile(tmp_path / name)
        clips[name] = Clip.of(tmp_path / name, 144, 176)
    shots = Shots(clips["damaged"], clips["clean"])
    shots.choose(clips["restored"])
    assert shots.frames[1] == "most gain"
    best, worst = (next(p for p in shots.places if p.why == why) for why in ("best", "worst"))
    assert (best.frame, worst.frame, worst.top, worst.left) == (1, 0, 0, 0)
    assert (shots.crops[best][SOURCE] == 110).all()


def test_halves_are_before_and_after() -> None:
    before = np.full((144, 176), 50, dtype=np.uint8)
    joined = halves(before, before + 50)
    assert (joined[100:, :86] == 50).all()
    assert (joined[100:, 90:] == 100).all()
    assert (joined[:20, :40] > 150).any()
    assert (joined[:3, :3] == 16).all()


def test_reference_and_degrade_exclude_each_other(pristine: Path, model: Path) -> None:
    with pytest.raises(ArgumentError, match="exclude each other"):
        compare(pristine, reference=pristine, degrade="mjpeg:10", models=[model])


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("another size than the input: 192x144 and 176x144", {"width": 192}),
        ("another length than the input: 4 frames and 3 frames", {"count": 4}),
        ("another frame rate than the input: 30.000 frames/s and 25.000", {"rate": 30}),
    ],
)
def test_another_film_is_no_reference(
    tmp_path: Path, camera: Path, model: Path, what: str, other: dict[str, int]
) -> None:
    reference = write_pristine(tmp_path / "other.mkv", **other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=what):
        compare(camera, reference=reference, models=[model])


def test_deep_pixels_are_refused(tmp_path: Path, model: Path) -> None:
    deep = write_pristine(tmp_path / "deep.mkv", pix_fmt="yuv420p10le")
    with pytest.raises(InputError, match="pixels are yuv420p10le"):
        compare(deep, models=[model])


def test_a_report_that_cannot_be_written_is_refused_at_once(camera: Path, model: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        compare(camera, report=camera.parent / "none" / "r.html", models=[model])
    with pytest.raises(OutputError, match="exists already"):
        compare(camera, report=write_pristine(camera.parent / "r.html.mkv"), models=[model])


def test_without_reference_nothing_is_said_of_quality(camera: Path, model: Path) -> None:
    result = compare(camera, models=[model], against=["spp", "pp7"])
    assert result.metrics == ["blockiness", "change"]
    assert "claims nothing about quality" in verdict(result)
    typed = next(run for run in result.runs if run.variant == "as typed")
    assert "returned its input unchanged" in typed.notes[0]
    black = next(run for run in result.runs if run.name == "pp7")
    best = result.best("pp7")
    assert black.failed or "unchanged" in black.notes[0]
    assert best is not None
    assert best.name.startswith("pp7=qp=8")


def test_the_command_writes_a_report_that_needs_no_network(
    run: Callable[..., Result], camera: Path, tmp_path: Path
) -> None:
    outputs = {name: tmp_path / f"out.{name}" for name in ("html", "json", "csv", "mp4")}
    given = ("--report", outputs["html"], "--json", outputs["json"], "--csv", outputs["csv"])
    result = run(camera, "--against", "deblock", *given, "--video", outputs["mp4"])
    assert result.exit_code == 0, result.output
    assert "deblock, as typed" in result.output
    assert "claims nothing about quality" in outputs["html"].read_text(encoding="utf-8")
    assert "There is no reference, so nothing here tells which is better" in result.output
    html = outputs["html"].read_text(encoding="utf-8")
    assert 'src="http' not in html
    assert "$" + "data" not in html
    assert html.count("<img ") >= 4
    assert json.loads(outputs["json"].read_text())["frames"] == 3
    assert outputs["csv"].read_text().startswith("run,family,variant,blockiness,change,fps")
    assert len(read_film(outputs["mp4"]).times) == 3


BAD: list[tuple[int, str, list[str]]] = [
    (3, "no such file", ["none.avi"]),
    (3, "no FFmpeg that runs", ["camera.avi", "--ffmpeg", "none"]),
    (3, "lacks the filter deblock", ["camera.avi", "--against", "deblock", "--ffmpeg", "bare"]),
    (3, "another size", ["camera.avi", "--reference", "size.mkv"]),
    (3, "another length", ["camera.avi", "--reference", "length.mkv"]),
    (3, "another frame rate", ["camera.avi", "--reference", "rate.mkv"]),
    (2, "no filter to compare with is called blur", ["camera.avi", "--against", "blur"]),
    (2, "degrade must be CODEC:SETTING", ["camera.avi", "--degrade", "mjpeg"]),
    (2, "name a file, not -", ["-"]),
    (2, "models is empty", ["camera.avi", "--model", ","]),
    (5, "no folder none", ["camera.avi", "--report", "none/r.html"]),
    (5, "is a folder", ["camera.avi", "--report", "folder"]),
    (5, "exists already", ["camera.avi", "--csv", "size.mkv"]),
    (5, "no container goes by that ending", ["camera.avi", "--video", "film.abc"]),
    (2, "two outputs have the name out", ["camera.avi", "--json", "out", "--csv", "out"]),
    (2, "two outputs have the name out", ["camera.avi", "--json", "out", "--csv", "folder/../out"]),
    (2, "name one, not -", ["camera.avi", "--json", "-"]),
    (2, "name a file, not pipe", ["pipe"]),
    (2, "name a file, not pipe", ["camera.avi", "--reference", "pipe"]),
    (
        2,
        "size.mkv: input and output are the same file",
        ["camera.avi", "--reference", "size.mkv", "--json", "size.mkv", "-y"],
    ),
]
"""Exit code, what is told, and the arguments."""


@pytest.mark.parametrize(("code", "told", "arguments"), BAD)
def test_the_command_tells_bad_input_in_one_line(
    run: Callable[..., Result],
    camera: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    told: str,
    arguments: list[str],
) -> None:
    folder = camera.parent
    monkeypatch.chdir(folder)
    write_pristine(folder / "size.mkv", width=192)
    write_pristine(folder / "length.mkv", 4)
    write_pristine(folder / "rate.mkv", rate=30)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    bare = folder / "bare"
    bare.write_text("#!/bin/sh\necho ffmpeg version bare\n")
    bare.chmod(0o755)
    arguments = [str(bare) if argument == "bare" else argument for argument in arguments]
    result = run(*arguments, "--quiet")
    assert result.exit_code == code, result.output
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("vdeblock: ")
    assert told in result.stderr


def test_help_names_every_rival(run: Callable[..., Result]) -> None:
    text = run("--help").output
    assert all(name in text for name in RIVALS)


def test_the_json_is_what_python_returns(
    run: Callable[..., Result], camera: Path, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.json"
    assert run(camera, "--against", "deblock", "--json", path).exit_code == 0
    told = json.loads(path.read_text())
    returned = compare(camera, against=["deblock"], models=[model]).to_dict()
    for each in (told, returned):
        for timed in each["runs"]:
            del timed["cost"], timed["fps"]
    assert told == json.loads(json.dumps(returned))


def test_a_film_is_compared_with_itself(
    run: Callable[..., Result], pristine: Path, tmp_path: Path
) -> None:
    """All is infinite; deblock at its least does nothing, for which it lacks no quantizer."""
    path = tmp_path / "out.json"
    given = ("--frames", "1", "--no-perceptual", "--against", "deblock", "--json", path)
    result = run(pristine, "--reference", pristine, *given)
    assert result.exit_code == 0, result.output
    runs = json.loads(path.read_text())["runs"]
    assert runs[0]["overall"]["psnr"] is None
    assert runs[-1]["notes"] == ["returned its input unchanged"]


def test_a_name_that_is_no_text_is_told(
    run: Callable[..., Result], camera: Path, tmp_path: Path
) -> None:
    film = camera.rename(tmp_path / os.fsdecode(b"caf\xe9.avi"))
    report = tmp_path / "out.html"
    result = run(film, "--against", "deblock", "--report", report, "--frames", "1", "--quiet")
    assert result.exit_code == 0, result.output
    assert r"Comparison of caf\udce9.avi" in report.read_text(encoding="utf-8")


def test_what_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    def full(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match=r"can't be written \(No space left on device\)"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4"])
@pytest.mark.parametrize("rate", [Fraction(7), Fraction(120000, 1001), Fraction(359550, 11999)])
def test_films_of_any_rate_are_degraded(tmp_path: Path, codec: str, rate: Fraction) -> None:
    path = tmp_path / "out.mkv"
    degrade(pictures(4), codec, 10, path, rate=rate)
    with Source(path) as source:
        assert sum(isinstance(item, VideoFrame) for item in source) == 4
        assert float(source.rate) == pytest.approx(float(rate), rel=0.01)


def test_the_smallest_frames_are_measured(tmp_path: Path, model: Path) -> None:
    """Libvmaf crashes there."""
    clip = write_pristine(tmp_path / "small.mkv", 2, width=16, height=16)
    result = compare(clip, degrade="mjpeg:10", models=[model], against=[])
    assert "xpsnr" in result.metrics
    assert "vmaf" not in result.metrics


def test_small_clips_are_measured_to_their_last_frame(tmp_path: Path) -> None:
    clip = write_pristine(tmp_path / "small.mkv", 5, width=32, height=32)
    source, clean = read_films(clip, None, "mjpeg:10", None, tmp_path)
    assert clean is not None
    assert source.clip.frames == clean.clip.frames == 5


@pytest.mark.parametrize("name", FFMPEG)
def test_each_filter_takes_a_camera_of_4_2_2(tmp_path: Path, model: Path, name: str) -> None:
    film = media.camera(tmp_path / "camera.avi", 10)
    result = compare(film, models=[model], against=[name], frames=2)
    told = [run for run in result.runs if run.family == name and run.variant != "as typed"]
    assert not any(run.failed for run in told)
    assert all("unchanged" not in note for run in told for note in run.notes)
    assert f"{FFmpeg().path} -hide_banner" in result.to_text()


@pytest.mark.parametrize("how", ["mjpeg:10", "h264:36"])
@pytest.mark.parametrize("sound", ["aac", "libopus"])
def test_the_film_keeps_its_sound(tmp_path: Path, model: Path, how: str, sound: str) -> None:
    film, video = media.talkie(tmp_path / "in.mkv", sound, rate=48000), tmp_path / "out.mp4"
    compare(film, degrade=how, models=[model], against=[], perceptual=False, video=video)
    assert len(read_film(video).times) == media.FRAMES
    (track,) = read_tracks(video)
    assert track.codec == sound.removeprefix("lib")
    seconds = float(sum(duration for _, duration in track.times))
    assert seconds == pytest.approx(media.FRAMES / media.RATE, abs=0.05)
    heard, original = read_sound(video)[1], read_sound(film)[1]
    samples = min(heard.shape[1], original.shape[1]) - 48
    # Matroska's times are of 1 ms, 48 samples, and so is how much of Opus is to be skipped
    likeness = [
        np.corrcoef(heard[0, :samples], original[0, late : late + samples])[0, 1]
        for late in range(48)
    ]
    assert max(likeness) > 0.99


def test_the_film_is_before_and_after(tmp_path: Path, camera: Path, model: Path) -> None:
    video = tmp_path / "out.mkv"
    compare(camera, models=[model], against=[], video=video)
    with Restorer(model) as restore, Source(camera) as source:
        before = [item for item in source if isinstance(item, VideoFrame)]
        after = [luma_plane(restore(frame, hints=hints_of(frame))) for frame in before]
    for frame, old, new in zip(read_film(video).planes, before, after, strict=True):
        left, right = ((slice(72, None), slice(x, x + 80)) for x in (0, 96))
        errors = [
            [np.abs(frame[0][half] - plane[half].astype(float)).mean() for half in (left, right)]
            for plane in (luma_plane(old), new)
        ]
        assert max(errors[0][0], errors[1][1]) < 1.5  # what encoding costs
        assert min(errors[0][1], errors[1][0]) > 2


@pytest.mark.slow
def test_sweep_finds_the_measured_best_of_spp(pristine: Path) -> None:
    clean = np.stack([f.to_ndarray()[:HEIGHT] for f in pictures(2)])
    damaged = FFmpeg().filtered(clean, "noise=alls=12")
    best, tried = sweep("spp", damaged, clean, FFmpeg().filtered)
    assert set(best) == set(RIVALS["spp"].groups)
    assert max(tried, key=lambda trial: trial.psnr).chain in best.values()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["mjpeg:10", "mpeg2:12", "h264:36"])
def test_degraded_film_is_measured_against_its_original(
    pristine: Path, model: Path, how: str
) -> None:
    result = compare(
        pristine, degrade=how, models=[model], against=["spp"], perceptual=how == "mjpeg:10"
    )
    best = result.best("spp")
    assert best is not None
    assert best.mean("psnr") > result.runs[0].mean("psnr")
    assert result.codec == parse_degradation(how)[0]
    assert all(len(values) == 3 for run in result.runs for values in run.scores.values())
    assert ("vmaf" in result.metrics) == (how == "mjpeg:10")
    variants = [run.variant for run in result.runs if run.family == "spp"]
    assert ("quantizer of the JPEG table, 32" in variants) == (how == "mjpeg:10")
    typed = next(run for run in result.runs if run.variant == "as typed")
    assert ("unchanged" in " ".join(typed.notes)) == (how == "mjpeg:10")
    told = {"mjpeg:10": "JPEG quality 10", "mpeg2:12": "quantizer 12", "h264:36": "quantizer "}
    assert told[how] in result.notes[0]


def test_the_table_has_gains_and_paces() -> None:
    results = [result_of(source=28.0, l8=29.5, spp=28.5), result_of(source=30.0, l8=30.5, spp=31.0)]
    assert cells(results, ["spp", "uspp"]) == ["29.00", "1.00", "0.75 (1.00x)", "0.00 (-x)"]


def test_importing_the_command_is_light() -> None:
    heavy = "{'torch', 'av', 'cv2', 'numpy'}"
    code = f"import sys, vfilter.comparison.command; print(sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(("how", "variants"), [("mjpeg:10", 2), ("mpeg2:12", 1)])
def test_sadct_runs_by_the_table_and_at_its_best(
    pristine: Path, model: Path, how: str, variants: int
) -> None:
    result = compare(
        pristine, degrade=how, models=[model], against=["sadct"], frames=1, perceptual=False
    )
    best = result.best("sadct")
    assert best is not None
    assert best.mean("psnr") > result.runs[0].mean("psnr")
    assert len([run for run in result.runs if run.family == "sadct"]) == variants


@pytest.mark.slow
def test_the_table_tells_its_command(
    pristine: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(pristine), "--frames", "2", "--kinds", "mjpeg:10", "--against", "deblock"]
    monkeypatch.setattr(sys, "argv", ["table", *given, "--model", str(model)])
    main([pristine], frames=2, model=str(model), kinds="mjpeg:10", against="deblock")
    command, _, head, rule, row = capsys.readouterr().out.splitlines()
    assert command.startswith("`python -m vfilter.comparison.table pristine.mkv --frames 2 --kinds")
    assert head.startswith("| source | PSNR dB |")
    assert rule == "|---|---|---|---|"
    assert row.startswith("| mjpeg:10 | ")
    assert row.count("|") == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quality", "qp", "expected"),
    [(10, 17, [28.58, 28.21, 0.8103]), (20, 10, [30.74, 30.07, 0.8795])],
)
def test_spp_at_its_best_on_live1(data: Path, quality: int, qp: int, expected: list[float]) -> None:
    """Quality 6, hard, the best quantizer: as it was measured with FFmpeg's command line."""
    planes, ffmpeg = load_folder(data / "LIVE1"), FFmpeg()
    chain = f"spp=quality=6:qp={qp}:mode=hard"
    restored = [ffmpeg.filtered(jpeg(plane, quality)[None], chain)[0] for plane in planes]
    found = scores(restored, planes)
    assert [found["psnr"], found["psnr_b"]] == pytest.approx(expected[:2], abs=0.005)
    assert found["ssim_uniform"] == pytest.approx(expected[2], abs=0.0001)


@pytest.mark.parametrize("how", ["mjpeg:50", "h264:20"])
def test_the_film_of_a_degraded_one_keeps_its_colours_and_shape(
    tmp_path: Path, model: Path, how: str
) -> None:
    clip, video = tmp_path / "in.mkv", tmp_path / "out.mp4"
    with av.open(str(clip), "w") as output:
        stream = media.add_video(output)
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 1, 13, 1
        context.color_range, context.sample_aspect_ratio = 1, Fraction(4, 3)
        media.fill_video(output, stream, range(2))
    compare(clip, degrade=how, models=[model], against=[], perceptual=False, video=video)
    with Source(clip) as before, Source(video) as after:
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            assert getattr(after.first, name) == getattr(before.first, name)
        assert after.sample_aspect_ratio == before.sample_aspect_ratio == Fraction(4, 3)
