"""Short versions of `fuzz.py` and `soak.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import media
import pytest

TESTS = Path(__file__).parent


@pytest.mark.slow
def test_damaged_inputs_do_no_harm(tmp_path: Path) -> None:
    media.camera(tmp_path / "camera.avi")
    media.phone(tmp_path / "phone.mp4")
    media.uneven(tmp_path / "uneven.mkv")
    media.broadcast(tmp_path / "broadcast.ts")
    media.video_file(tmp_path / "small.mpg", "mpeg2video")
    media.video_file(tmp_path / "small.webm", "libvpx-vp9", deadline="realtime")
    options = ["--data", str(tmp_path), "--count", "60"]
    command = [sys.executable, str(TESTS / "fuzz.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_memory_and_open_files_stay_flat() -> None:
    command = [sys.executable, str(TESTS / "soak.py"), "--frames", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
