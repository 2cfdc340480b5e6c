"""What makes a run resumable: its finished segments, encoded, in a folder beside the output."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from av.packet import Packet

from vfilter.errors import OutputError

ENDING = ".vdeblock"
JOB, LOCK, PART, SEGMENT = "job.json", "lock", ".part", ".segment"
"""Name of the file that tells the job, of the locked one, and endings of the others."""

LONGEST_NAME = 200
"""Bytes of an output's name above which its folder is named by a hash (file systems take 255)."""

HEADER = struct.Struct("<qqqqqII")
"""Of each packet: pts, dts, duration, numerator and denominator of the time base, whether it is
a key frame, and the size of its bytes, which follow."""

NO_TIME = -(1 << 63)
"""Stands for no pts or dts (FFmpeg's AV_NOPTS_VALUE)."""

DIGEST = hashlib.sha256().digest_size
"""Bytes at the end of a segment: the SHA-256 of those before."""

CHUNK = 1 << 20
"""Bytes that are read at a time to check a segment."""


class Segments:
    """The finished segments of one run, in the folder `folder_of(output)`.

    A segment is encoded by itself, and counts once it is complete on the disk: a run that goes on
    takes it from there. The folder knows the `job`, what the run depends on. It goes when the run
    succeeds, or when it holds no finished segment.

    job: ready for JSON. Entering raises OutputError if the folder is of another job, in use, or
    can't be written.
    """

    def __init__(self, output: Path, job: Mapping[str, Any]) -> None:
        self.folder = folder_of(output)
        self.part = self.folder / f"output{PART}"
        self.reused = 0
        self._open = self.folder / f"segment{PART}"
        self._writing: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._times: list[Fraction] = []
        self._known: dict[int, bool] = {}
        self._job = job
        self._lock: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(exist_ok=True)
            _check_ours(self.folder)
            self._lock = _locked(self.folder / LOCK)
            _check_job(self.folder, self._job)
        except BaseException as error:
            self._leave(done=False)
            if isinstance(error, OSError):
                with suppress(OSError):  # it is empty, or not ours
                    self.folder.rmdir()
                raise OutputError(f"{self.folder}: can't be written ({error.strerror})") from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._abandon()
        self._leave(done=error is None)

    def _leave(self, *, done: bool) -> None:
        """Unlock the folder, and delete it if the run is done or nothing in it is of use."""
        if self._lock is None:
            return
        self._lock.close()
        if done or not _is_of_use(self.folder):
            _clear(self.folder)

    def has(self, number: int) -> bool:
        """Whether segment `number` was finished, and undamaged, when that was first asked."""
        if number not in self._known:
            self._known[number] = self._is_whole(number)
        return self._known[number]

    def _is_whole(self, number: int) -> bool:
        path = self._path(number)
        if not path.exists():
            return False
        digest = hashlib.sha256()
        left = path.stat().st_size - DIGEST
        with path.open("rb") as file:
            while left > 0 and (chunk := file.read(min(left, CHUNK))):
                digest.update(chunk)
                left -= len(chunk)
            return file.read() == digest.digest()

    def read(self, number: int) -> Iterator[Packet[Any]]:
        """The packets of segment `number` as they were encoded."""
        self.reused += 1
        end = self._path(number).stat().st_size - DIGEST
        with self._path(number).open("rb") as file:
            while file.tell() < end:
                yield _packet(file)

    def add(self, packet: Packet[Any]) -> None:
        """Store a packet of the segment that is being encoded."""
        if self._writing is None:
            self._writing = self._open.open("wb")
            self._digest = hashlib.sha256()
            self._times = []
        content = _record(packet)
        self._digest.update(content)
        self._writing.write(content)
        if packet.pts is not None:
            self._times.append(packet.pts * packet.time_base)

    def finish(self, number: int, times: Sequence[Fraction], tick: Fraction) -> None:
        """The segment that is being encoded has all its packets; it counts as `number`.

        times: those of its frames in seconds; it counts only if the packets have these, to a tick.
        """
        if self._writing is None:
            return
        pairs = zip(sorted(self._times), times, strict=False)
        if len(self._times) != len(times) or any(abs(told - t) > tick for told, t in pairs):
            self._abandon()
            return
        with self._writing as file:
            file.write(self._digest.digest())
            file.flush()
            os.fsync(file.fileno())
        self._writing = None
        self._open.replace(self._path(number))

    def forget(self) -> None:
        """Delete the finished segments: what they make was found to be wrong."""
        for segment in self.folder.glob(f"*{SEGMENT}"):
            segment.unlink()

    def _abandon(self) -> None:
        """Forget the segment that is being encoded."""
        if self._writing is not None:
            with suppress(OSError):  # what the full disk did not take
                self._writing.close()
            self._writing = None
            self._open.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}{SEGMENT}"


def folder_of(output: Path) -> Path:
    """The folder beside `output`, links resolved, that holds the state of a run into it."""
    target = output.resolve()
    name = target.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(name + ENDING)


def is_unfinished(output: Path) -> bool:
    """Whether there is the state of an unfinished run into `output`."""
    folder = folder_of(output)
    return (folder / JOB).exists() and _is_of_use(folder)


def discard(output: Path) -> None:
    """Delete the state of an unfinished run into `output`, if there is any.

    Raises OutputError if that run is still going on.
    """
    check_idle(output)
    folder = folder_of(output)
    if (folder / JOB).exists():
        _clear(folder)


def check_idle(output: Path) -> None:
    """Raise OutputError if a run into `output` that keeps segments is still going on."""
    folder = folder_of(output)
    if (folder / JOB).exists():
        _locked(folder / LOCK).close()


def _clear(folder: Path) -> None:
    """Delete our files in `folder`, and itself unless it holds somebody else's."""
    for path in folder.iterdir():
        if _is_ours(path):
            path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _is_of_use(folder: Path) -> bool:
    """Whether there is a finished segment in `folder`."""
    return any(folder.glob(f"*{SEGMENT}"))


def _is_ours(path: Path) -> bool:
    return path.name in (JOB, LOCK) or path.suffix in (PART, SEGMENT)


def _check_ours(folder: Path) -> None:
    """Raise OutputError if a folder that is there already is somebody else's."""
    if not all(_is_ours(path) for path in folder.iterdir()):
        raise OutputError(f"{folder}: is in the way, and not vdeblock's; move it elsewhere")


def _check_job(folder: Path, job: Mapping[str, Any]) -> None:
    """Write `job` into `folder`; raise OutputError if there are segments of another job in it.

    Segments of an unknown job are deleted.
    """
    path = folder / JOB
    with suppress(FileNotFoundError, ValueError):  # cut short in being written, or in clearing
        if _is_of_use(folder):
            _compare(folder, json.loads(path.read_text("utf-8")), json.loads(json.dumps(job)))
            return
    for segment in folder.glob(f"*{SEGMENT}"):
        segment.unlink()
    temporary = folder / f"job{PART}"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(job, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _compare(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise OutputError if two jobs differ, naming what does."""
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        values = "; ".join(f"{k} was {_short(before.get(k))}, is {_short(now[k])}" for k in changed)
        raise OutputError(
            f"{folder}: holds an unfinished run that is not this one ({values}); repeat its "
            "command to finish it, or use --no-resume to begin anew"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _record(packet: Packet[Any]) -> bytes:
    """The bytes that `_packet` makes a packet of."""
    content = bytes(packet)
    base = packet.time_base
    pts, dts = (NO_TIME if time is None else time for time in (packet.pts, packet.dts))
    times = (pts, dts, packet.duration or 0, base.numerator, base.denominator)
    return HEADER.pack(*times, packet.is_keyframe, len(content)) + content


def _packet(file: BinaryIO) -> Packet[Any]:
    """The next packet of a segment."""
    pts, dts, duration, *base, key, size = HEADER.unpack(file.read(HEADER.size))
    packet: Packet[Any] = Packet(file.read(size))
    packet.time_base = Fraction(*base)
    packet.pts, packet.dts = (None if time == NO_TIME else time for time in (pts, dts))
    packet.duration, packet.is_keyframe = duration, bool(key)
    return packet


def _locked(path: Path) -> BinaryIO:
    """A file that is locked, where the system has such locks, until it is closed.

    Raises OutputError if another process holds it.
    """
    file = path.open("ab")
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise OutputError(f"{path.parent}: another run is writing this output") from None
    return file
