"""The FFmpeg binary that the rivals run in: finding it, running it, what it says and costs."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vfilter.errors import InputError

INSTALL = "pip install 'vdeblock[compare]' brings one, --ffmpeg PATH names another"

QUIET = ("-hide_banner", "-nostdin", "-nostats")

BENCHMARK = re.compile(r"bench: utime=([\d.]+)s stime=([\d.]+)s rtime=([\d.]+)s")

FILTER = re.compile(r"^ [T.][S.][C.]? (\w+) +\S+->\S+", re.MULTILINE)
"""A line of `ffmpeg -filters`; what the first columns tell differs between versions."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run took, in seconds: by the clock, and of all processors together."""

    seconds: float
    cpu_seconds: float


class FFmpeg:
    """An FFmpeg binary. path: by default that of imageio-ffmpeg, or else the system's.

    Raises InputError if there is none or it does not run.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        named = _bundled() if path is None else str(path)
        found = shutil.which(named) or named
        self.path = str(Path(found).absolute())  # it is run in other folders
        self.version = self._told("-version").partition("\n")[0]

    @cached_property
    def filters(self) -> frozenset[str]:
        """The names of the filters it has."""
        return frozenset(FILTER.findall(self._told("-filters")))

    def require(self, names: Sequence[str]) -> None:
        """Raise InputError unless it has every filter of `names`."""
        lacking = [name for name in names if name not in self.filters]
        if lacking:
            raise InputError(
                f"{self.path}: this FFmpeg lacks the filter {', '.join(lacking)}; leave it out of "
                f"--against, or {INSTALL}"
            )

    def run(self, arguments: Sequence[str], folder: Path) -> Cost:
        """Run it with `arguments` in `folder` and tell what it cost, as its -benchmark does.

        Raises InputError with what it said if it fails.
        """
        command = [self.path, *QUIET, "-benchmark", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        said = done.stderr.decode(errors="replace")
        if done.returncode:
            reason = _reason(said, done.returncode)
            raise InputError(f"FFmpeg failed: {reason} (command: {shlex.join(command)})")
        found = BENCHMARK.search(said)
        if found is None:
            raise InputError(f"{self.path}: tells no times with -benchmark; {INSTALL}")
        user, system, clock = map(float, found.groups())
        return Cost(seconds=clock, cpu_seconds=user + system)

    def command(self, arguments: Sequence[str]) -> str:
        """The command line that `run` runs, for a shell."""
        return shlex.join([self.path, *QUIET, "-benchmark", *arguments])

    def filtered(self, planes: NDArray[np.uint8], chain: str) -> NDArray[np.uint8]:
        """Luma planes (N, H, W) after the filters of `chain`, as the luma of yuv420p.

        Raises InputError if FFmpeg fails or gives another number of planes.
        """
        count, height, width = planes.shape
        chroma = np.full((count, 2 * ((height + 1) // 2) * ((width + 1) // 2)), 128, dtype=np.uint8)
        raw = ("-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", f"{width}x{height}")
        luma = f"{chain},extractplanes=y"
        done = subprocess.run(
            [self.path, "-hide_banner", *raw, "-i", "-", "-vf", luma, "-f", "rawvideo", "-"],
            input=np.concatenate([planes.reshape(count, -1), chroma], axis=1).tobytes(),
            capture_output=True,
            check=False,
        )
        if done.returncode or len(done.stdout) != planes.size:
            reason = _reason(done.stderr.decode(errors="replace"), done.returncode)
            raise InputError(f"FFmpeg failed with the filter {chain}: {reason}")
        return np.frombuffer(done.stdout, dtype=np.uint8).reshape(planes.shape)

    def _told(self, question: str) -> str:
        try:
            done = subprocess.run(
                [self.path, "-hide_banner", question], capture_output=True, check=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(f"{self.path}: no FFmpeg that runs ({error}); {INSTALL}") from error
        return done.stdout.decode(errors="replace")


def _bundled() -> str:
    """The path of the binary of imageio-ffmpeg, or of the system's.

    Raises InputError if there is neither.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = shutil.which("ffmpeg")
    if found is None:
        raise InputError(f"no FFmpeg binary to run the other filters in; {INSTALL}")
    return found


def _reason(said: str, code: int) -> str:
    """The line of FFmpeg's messages that tells most: the first that speaks of an error.

    code: its exit code, of which -n says that signal n ended it.
    """
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|invalid|no such|cannot", line, re.I)]
    first = (telling or lines or ["it said nothing"])[0]
    return re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] *", "", first).strip()
