"""Many files: which are taken, what they become, and how the run ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import media
import pytest
from comparison import read_film
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from vfilter.cli import app
from vfilter.errors import ArgumentError
from vfilter.folders import pairs_of

COMMAND = [sys.executable, "-c", "from vfilter.cli import main; main()"]
FAST = ("--strength", "0", "--preset", "ultrafast")


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, *FAST])


def tree(folder: Path) -> set[str]:
    """The files in `folder`, by their paths in it."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it lies on an old disk: clips, one of them broken, and other things."""
    folder = tmp_path_factory.mktemp("disk") / "clips"
    (folder / "2004" / "party").mkdir(parents=True)
    (folder / ".trash").mkdir()
    media.camera(folder / "2004" / "MVI_1.AVI")
    media.video_file(folder / "2004" / "party" / "tape.mpg", "mpeg2video", frames=4)
    media.video_file(folder / "phone.mp4", frames=4)
    media.camera(folder / ".trash" / "gone.avi")
    (folder / "broken.avi").write_bytes(b"RIFF no more")
    (folder / "2004" / "MVI_1.THM").write_bytes(media.png(8, 8))
    (folder / "notes.txt").write_text("notes")
    os.utime(folder / "phone.mp4", (1_000_000_000, 1_000_000_000))
    return folder


@pytest.fixture
def clips(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `disk` in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(disk, tmp_path / "clips"))


DONE = {"2004/MVI_1.AVI", "2004/party/tape.mkv", "phone.mp4"}


def test_a_folder_keeps_its_tree_and_passes_over_failures(clips: Path, tmp_path: Path) -> None:
    before = {path: (clips / path).read_bytes() for path in tree(clips)}
    result = run("clips", "out")
    assert (result.exit_code, result.stdout) == (3, "")
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("[")] == [
        "[1/4] clips/2004/MVI_1.AVI",
        "[2/4] clips/2004/party/tape.mpg",
        "[3/4] clips/broken.avi",
        "[4/4] clips/phone.mp4",
    ]
    assert lines[-2] == "vdeblock: 3 files restored, 0 finished already, 1 failed"
    assert lines[-1].startswith("vdeblock: failed: clips/broken.avi: not readable as media")
    assert tree(tmp_path / "out") == DONE
    assert len(read_film(tmp_path / "out" / "2004" / "MVI_1.AVI").times) == media.FRAMES
    assert (tmp_path / "out" / "phone.mp4").stat().st_mtime == 1_000_000_000
    assert {path: (clips / path).read_bytes() for path in tree(clips)} == before


def test_finished_ones_are_skipped(clips: Path, tmp_path: Path) -> None:
    (clips / "broken.avi").unlink()
    assert run("clips", "out").exit_code == 0
    (tmp_path / "out" / "phone.mp4").unlink()
    media.camera(clips / "new.avi")
    before = (tmp_path / "out" / "2004" / "MVI_1.AVI").stat().st_ino
    result = run("clips", "out")
    assert result.exit_code == 0
    assert "vdeblock: 2 files restored, 2 finished already, 0 failed" in result.stderr
    assert tree(tmp_path / "out") == DONE | {"new.avi"}
    assert (tmp_path / "out" / "2004" / "MVI_1.AVI").stat().st_ino == before
    again = run("clips", "out", "--no-resume")
    assert again.exit_code == 0
    assert "0 files restored, 4 finished already, 0 failed" in again.stderr
    assert run("clips", "out", "--no-resume", "--overwrite").exit_code == 0
    assert (tmp_path / "out" / "2004" / "MVI_1.AVI").stat().st_ino != before


def test_what_was_not_made_by_this_job_is_never_replaced(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "phone.mp4").write_bytes(b"precious")
    result = run("clips", "out")
    assert result.exit_code == 3
    assert "failed: out/phone.mp4: exists already; --overwrite replaces it" in result.stderr
    assert (tmp_path / "out" / "phone.mp4").read_bytes() == b"precious"


def test_another_setting_does_not_take_the_old_for_finished(clips: Path, tmp_path: Path) -> None:
    (clips / "broken.avi").unlink()
    assert run("clips", "out").exit_code == 0
    result = run("clips", "out", "--crf", "30")
    assert result.exit_code == 5
    assert "0 files restored, 0 finished already, 3 failed" in result.stderr
    assert run("clips", "out", "--crf", "30", "--overwrite").exit_code == 0


def test_outputs_inside_the_folder_are_no_inputs(clips: Path, tmp_path: Path) -> None:
    (clips / "broken.avi").unlink()
    for _ in range(2):
        assert run("clips", "clips/restored").exit_code == 0
    assert tree(clips / "restored") == DONE


@pytest.mark.parametrize("options", [["--overwrite"], ["--ending", "mp4"]])
def test_a_folder_into_itself_is_refused(options: list[str], clips: Path) -> None:
    """Another ending would not do: the next run would take the outputs for inputs."""
    before = tree(clips)
    result = run("clips", "clips", *options)
    assert result.exit_code == 2
    assert "clips: holds the input clips; name another folder" in result.stderr
    assert tree(clips) == before


def test_another_container(clips: Path, tmp_path: Path) -> None:
    result = run("clips", "out", "--ending", "mp4")
    assert result.exit_code == 3
    assert tree(tmp_path / "out") == {"2004/MVI_1.mp4", "2004/party/tape.mp4", "phone.mp4"}


def test_several_files(clips: Path, tmp_path: Path) -> None:
    result = run("clips/phone.mp4", "clips/2004/MVI_1.AVI", "--output-dir", "out")
    assert result.exit_code == 0
    assert tree(tmp_path / "out") == {"phone.mp4", "MVI_1.AVI"}
    result = run("clips/2004", "clips/broken.avi", "--output-dir", "more")
    assert result.exit_code == 3
    assert tree(tmp_path / "more") == {"MVI_1.AVI", "party/tape.mkv"}


def test_dry_run_of_a_folder(clips: Path, tmp_path: Path) -> None:
    result = run("clips", "out", "--dry-run", "--model", "l4")
    assert result.exit_code == 3
    assert "[2/4] clips/2004/party/tape.mpg -> out/2004/party/tape.mkv" in result.stdout
    assert result.stdout.count("speed: about") == 3
    assert not (tmp_path / "out").exists()


def test_dry_run_tells_what_is_finished_or_in_the_way(clips: Path, tmp_path: Path) -> None:
    (clips / "broken.avi").unlink()
    assert run("clips", "out").exit_code == 0
    (tmp_path / "out" / "phone.mp4").write_bytes(b"precious")
    result = run("clips", "out", "--dry-run")
    assert result.exit_code == 5
    assert result.stderr == "vdeblock: out/phone.mp4: exists already; --overwrite replaces it\n"
    assert "out/2004/MVI_1.AVI: finished already\n" in result.stdout
    assert result.stdout.count("finished already") == 2 and "speed:" not in result.stdout
    again = run("clips", "out", "--dry-run", "--no-resume", "--overwrite")
    assert (again.exit_code, again.stdout.count("speed: about")) == (0, 3)
    one = ("clips/2004/MVI_1.AVI", "out/2004/MVI_1.AVI", "--dry-run")
    assert run(*one, "--resume").stdout == "out/2004/MVI_1.AVI: finished already\n"
    assert run(*one).exit_code == 5


def test_a_fault_in_one_file_does_not_stop_the_others(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vfilter import pipeline

    restore = pipeline.restore_video

    def faulty(input: str, *arguments: Any, **options: Any) -> Any:
        if "MVI_1" in input:
            raise ZeroDivisionError("by the test")
        return restore(input, *arguments, **options)

    monkeypatch.setattr(pipeline, "restore_video", faulty)
    result = run("clips", "out")
    assert result.exit_code == 1
    assert "failed: a fault of vdeblock (ZeroDivisionError: by the test)" in result.stderr
    assert tree(tmp_path / "out") == DONE - {"2004/MVI_1.AVI"}
    assert isinstance(run("clips", "other", "--debug").exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--model", "l9"], 4, "unknown model 'l9'"),
        (["--device", "cuda:99"], 6, "device cuda:99 is not available"),
        (["--segment", "0"], 2, "segment must be 0.1 to 1,000,000 seconds"),
        (["--segment", "inf"], 2, "segment must be 0.1 to 1,000,000 seconds"),
        (["--ending", "."], 2, "ending must be one of a file's name, like mp4, got '.'"),
        (["--ending", ""], 2, "ending must be one of a file's name, like mp4, got ''"),
        (["--ending", "a/b"], 2, "ending must be one of a file's name, like mp4, got 'a/b'"),
    ],
)
def test_what_concerns_every_file_is_told_once(
    options: list[str], code: int, told: str, clips: Path
) -> None:
    result = run("clips", "out", "--quiet", *options)
    assert result.exit_code == code
    (line,) = result.stderr.splitlines()
    assert told in line
    assert not (clips.parent / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nowhere", "out"], 3, "nowhere: no such file"),
        (["empty", "out"], 3, "empty: holds no file whose name ends like a video's"),
        (["clips", "clips/notes.txt"], 5, "clips/notes.txt: is a file; name a folder for the"),
        (["clips/2004", "clips/notes.txt/out"], 5, "clips/notes.txt/out/party: can't be made"),
        (["clips/phone.mp4", "clips/broken.avi", "out"], 2, "several inputs need --output-dir"),
        (["nowhere.avi", "--output-dir", "out"], 3, "nowhere.avi: no such file"),
        (["clips/2004", "clips"], 2, "clips: holds the input clips/2004; name another folder"),
        (["", "out"], 2, "a name is empty"),
        (["clips", "-"], 2, "a folder's videos don't fit into one stream; name a folder"),
        (["clips/phone.mp4", "out", "--ending", "mkv"], 2, "--ending is for several files; here"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    arguments: list[str], code: int, told: str, clips: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    result = run(*arguments, "--quiet")
    assert result.exit_code == code
    assert told in result.stderr.splitlines()[-1]
    assert all(line.startswith("vdeblock: ") for line in result.stderr.splitlines())
    assert not (tmp_path / "out").exists()


def test_progress_in_json_tells_the_file(clips: Path) -> None:
    (clips / "broken.avi").unlink()
    result = run("clips", "out", "--progress", "json")
    facts = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    files = [fact for fact in facts if fact["type"] == "file"]
    assert files[1] == {
        **{"type": "file", "input": "clips/2004/party/tape.mpg"},
        **{"output": "out/2004/party/tape.mkv", "number": 2, "total": 3},
    }
    assert sum(fact["type"] == "summary" for fact in facts) == 3


def test_an_interrupted_folder_goes_on(clips: Path, tmp_path: Path) -> None:
    """The same command skips what is finished, and finishes what isn't."""
    media.long_take(clips / "zoo.mp4", seconds=6, width=128, height=96)
    command = [*COMMAND, "clips", "out", "--model", "l4", "--segment", "0.4"]
    command += ["--progress", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if '"frame": 25,' in line and '"total": 150' in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().splitlines()[-1] == "vdeblock: interrupted"
        assert process.wait(60) == 130
    assert {p.split("/")[0] for p in tree(tmp_path / "out") - DONE} == {"zoo.mp4.vdeblock"}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    (summary,) = [json.loads(line) for line in lines if '"summary"' in line]
    assert summary["reused"] >= 1
    assert "vdeblock: 1 file restored, 3 finished already, 1 failed" in lines
    assert tree(tmp_path / "out") == DONE | {"zoo.mp4"}


def test_two_of_one_name_both_come_out(tmp_path: Path) -> None:
    for name in ("a.wmv", "a.flv", "b.avi"):
        (tmp_path / name).touch()
    pairs = pairs_of([tmp_path], tmp_path / "out", None)
    assert [target.name for _, target in pairs] == ["a.flv.mkv", "a.wmv.mkv", "b.avi"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.avi").touch()
    with pytest.raises(ArgumentError, match=r"b\.avi: 2 inputs would become this file; rename one"):
        pairs_of([tmp_path / "b.avi", tmp_path / "sub" / "b.avi"], tmp_path / "out", None)


def test_one_that_is_missing_does_not_stop_the_others(clips: Path, tmp_path: Path) -> None:
    """Nor does a loop of links in a folder."""
    (clips / "2004" / "loop.mkv").symlink_to("loop.mkv")
    result = run("nowhere.avi", "clips/phone.mp4", "clips/2004", "--output-dir", "out")
    assert result.exit_code == 3
    assert "vdeblock: 3 files restored, 0 finished already, 1 failed" in result.stderr
    assert result.stderr.splitlines()[-1] == "vdeblock: failed: nowhere.avi: no such file"
    assert {"phone.mp4", "MVI_1.AVI"} < tree(tmp_path / "out")
    (tmp_path / "out.mkv").symlink_to("out.mkv")
    looped = run("clips/phone.mp4", "out.mkv", "--overwrite")
    assert (looped.exit_code, len(looped.stderr.splitlines())) == (5, 1)
    assert "is a link in a loop" in looped.stderr


def test_a_finished_one_that_was_cut_off_is_not_taken_for_finished(
    clips: Path, tmp_path: Path
) -> None:
    assert run("clips/phone.mp4", "out.mp4").exit_code == 0
    with (tmp_path / "out.mp4").open("r+b") as file:
        file.truncate(1000)
    result = run("clips/phone.mp4", "out.mp4", "--resume")
    assert result.exit_code == 5
    assert "exists already" in result.stderr


def test_a_finished_one_is_not_said_to_be_read_back(clips: Path, tmp_path: Path) -> None:
    command = ["clips/phone.mp4", "out.mp4", "--resume", "--verify"]
    assert "read back: 4 frames at their times" in run(*command).stderr
    again = run(*command)
    assert (again.exit_code, again.stderr) == (
        0,
        "vdeblock: out.mp4: finished already; --verify reads back what a run writes, not this\n",
    )


def test_other_weights_do_not_take_the_old_for_finished(
    clips: Path, tmp_path: Path, model: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(model, own)
    command = ["clips/phone.mp4", "out.mp4", "--model", str(own), "--resume"]
    assert run(*command).exit_code == 0
    assert run(*command).stderr == "vdeblock: out.mp4: finished already\n"
    weights = load_file(own / "weights.safetensors")
    metadata = {"network": "l4", "objective": "residual", "codec": "jpeg"}
    other = {name: array / 2 for name, array in weights.items()}
    metadata |= {"quality_min": "10", "quality_max": "60"}
    save_file(other, own / "weights.safetensors", metadata)
    result = run(*command)
    assert result.exit_code == 5
    assert "exists already" in result.stderr
