"""python tests/fuzz.py --data DIR --count 5000 --log fuzz.csv --table tests/fuzz.md

Feeds damaged copies of small files to `restore_video` and `probe`, each in a process of its own
with limits, and sorts what becomes of them. The inputs depend on nothing but their number and the
files; a run goes on where its log ends. A small version: the same with --count 100.

DIR: the development data, or any folder of media files.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import av

from vfilter import restore_video
from vfilter.errors import OutputError, VdeblockError
from vfilter.probe import probe
from vfilter.segments import ENDING

SEEDS = (
    "androidx__bbb_176x144_128kbps_15fps_h263.3gp",
    "androidx__bbb_176x144_192kbps_15fps_mpeg4.mp4",
    "androidx__bear-vp9-odd-dimensions.webm",
    "androidx__fragmented_captions.mp4",
    "androidx__hdr10-av1.mp4",
    "androidx__roadtrip-vp92-10bit.webm",
    "androidx__sample_with_ass_subtitles.mkv",
    "androidx__sample_with_color_info.mp4",
    "androidx__sample_with_vobsub.mp4",
    "auto_editor__h264-mjpeg.mkv",
    "auto_editor__mov_text.mp4",
    "auto_editor__testsrc_with_attachment.mkv",
    "decord__video_90.mov",
    "drewnoakes__100_0306.AVI",
    "getid3__206.126.8.225_2003-11-17-10-43-04_4301.mov",
    "getid3__MJ2C.avi",
    "getid3__Type-2 DV.avi",
    "getid3__crappy-01.mov",
    "getid3__h264_bug.flv",
    "getid3__mpeg1.mpg",
    "getid3__mpeg2.mpg",
    "getid3__small.ogv",
    "getid3__truncated.avi",
    "mediabunny__no-initial-keyframe.ts",
    "openh264__Error_I_P.264",
)
"""Files of DIR/odd: each container and each codec."""

LONGEST = 600_000
"""Bytes of a file that are used at most."""

FRAMES = (4, 4, 4, 60)
"""Frames that are restored at most, one of these by chance."""

WALL = 60.0
"""Seconds after which a process is taken to hang."""

CPU = 60
MEMORY = 4 << 30
FILE_SIZE = 1 << 30
"""Seconds, bytes of address space beyond what the imports take, and bytes of a file."""

EXTREMES = (0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
NAME = re.compile(rb"[A-Za-z\xa9][A-Za-z0-9_ ]{3}")
"""Four letters, as boxes of MP4 and chunks of AVI are named; header fields lie behind them."""

HEADER = 16_384
"""Bytes at either end of a file where its header is looked for."""

FAULTS = ("fault", "wrong output", "crash", "hang", "leftover")
"""Outcomes that must not be."""

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], bytearray]


@dataclass(frozen=True)
class Result:
    """What became of one input.

    outcome: "done", the name of an error of `vfilter.errors`, or one of `FAULTS`; probe: the same
    for `probe`; message: of the error, or what else tells the cause.
    """

    number: int
    file: str
    mutations: str
    target: str
    outcome: str
    probe: str
    seconds: float
    message: str


def flip_bits(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 8, 64, 512))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def flip_header(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 4, 16))):
        data[_in_header(data, rng)] ^= 1 << rng.randrange(8)
    return data


def overwrite(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    begin, length = _run(data, rng)
    fill = rng.choice((b"\0", b"\xff", None))
    data[begin : begin + length] = fill * length if fill else rng.randbytes(length)
    return data


def truncate(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    del data[rng.randrange(1, len(data)) :]
    return data


def duplicate(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    begin, length = _run(data, rng)
    data[begin:begin] = data[begin : begin + length]
    return data


def remove(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    begin, length = _run(data, rng)
    if length < len(data):
        del data[begin : begin + length]
    return data


def swap(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    length = min(second - first, len(data) - second, 1 << rng.randrange(14))
    one, other = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = other, one
    return data


def extreme(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    """Set fields behind a name in the header, or anywhere in it, to extreme values."""
    names = [m.end() for m in NAME.finditer(data[:HEADER])]
    names += [len(data) - HEADER + m.end() for m in NAME.finditer(data[HEADER:][-HEADER:])]
    for _ in range(rng.choice((1, 1, 2, 4))):
        named = names and rng.random() < 0.8
        at = rng.choice(names) + 2 * rng.randrange(-4, 24) if named else _in_header(data, rng)
        size = rng.choice((1, 2, 4, 4, 8))
        value = rng.choice(EXTREMES) % (1 << 8 * size)
        at = max(0, min(at, len(data) - size))
        data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))[: len(data)]
    return data


def splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    other = rng.choice(others)
    return data[: rng.randrange(1, len(data))] + other[rng.randrange(len(other)) :]


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, flip_header, overwrite, truncate, duplicate, remove, swap, extreme, extreme),
    splice,
)


def _in_header(data: bytearray, rng: random.Random) -> int:
    """A position in one of the ends of `data`, the first more often."""
    at = rng.randrange(min(HEADER, len(data)))
    return at if rng.random() < 0.7 else len(data) - 1 - at


def _run(data: bytearray, rng: random.Random) -> tuple[int, int]:
    """Begin and length of a run of bytes."""
    begin = rng.randrange(len(data))
    return begin, min(len(data) - begin, 1 << rng.randrange(16))


def mutated(seeds: Sequence[Path], number: int) -> tuple[Path, str, bytes]:
    """File, names of mutations, and content of input `number`."""
    rng = random.Random(number)
    path = seeds[number % len(seeds)]
    others = [rng.choice(seeds).read_bytes()[:LONGEST]]
    data = bytearray(path.read_bytes()[:LONGEST])
    chosen = rng.choices(MUTATIONS, k=rng.choice((1, 1, 2, 3)))
    for mutation in chosen:
        data = mutation(data, rng, others)
    return path, "+".join(mutation.__name__ for mutation in chosen), bytes(data)


def attempt(seeds: Sequence[Path], number: int) -> Result:
    """What becomes of input `number`."""
    path, mutations, content = mutated(seeds, number)
    rng = random.Random(-1 - number)
    output = "out" + rng.choice((".mkv", ".mp4"))
    options: dict[str, Any] = {
        "frames": rng.choice(FRAMES),
        "start": rng.choice((None, None, None, 0.2)),
        "strength": rng.choice((0, 0, 0, 0, 0, 0, 0, 1)),
        "verify": rng.random() < 0.25,
        "resume": rng.random() < 0.5,
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / path.name).write_bytes(content)
        began = time.monotonic()
        told, ending = forked(lambda tell: _work(Path(folder), path.name, output, options, tell))
        seconds = time.monotonic() - began
        left = {p.name for p in Path(folder).iterdir()} - {path.name}
    outcome, message = told[0] if told else (ending, "in restore_video")
    probed, probe_message = told[1] if len(told) > 1 else (ending, "in probe")
    stays = {output} if outcome == "done" else {output + ENDING} & left  # to be gone on with
    if left != stays and ending == "ended":
        outcome, message = "leftover", f"{sorted(left)} after {outcome}"
    if probed in FAULTS and outcome not in FAULTS:
        message = probe_message
    return Result(
        number, path.name, mutations, output[3:], outcome, probed, round(seconds, 2), message
    )


def forked(work: Callable[[Callable[[Any], None]], None]) -> tuple[list[Any], str]:
    """What `work`, in a process of its own with limits, told, and "ended", "hang" or "crash"."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(work, writer)
    os.close(writer)
    handle = os.pidfd_open(pid)
    in_time = select.select([handle], [], [], WALL)[0]
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(handle)
    with os.fdopen(reader) as file:
        told = [json.loads(line) for line in file if line.endswith("\n")]
    if not in_time or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return told, "hang"
    return told, "ended" if status == 0 else "crash"


def _child(work: Callable[[Callable[[Any], None]], None], writer: int) -> NoReturn:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        memory = pages * resource.getpagesize() + MEMORY
        for kind, limit in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_CPU, CPU),
            (resource.RLIMIT_FSIZE, FILE_SIZE),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (limit, limit))
        with os.fdopen(writer, "w", buffering=1) as file:
            work(lambda told: print(json.dumps(told), file=file))
        os._exit(0)
    finally:
        os._exit(1)


def _work(
    folder: Path, name: str, output: str, options: dict[str, Any], tell: Callable[[Any], None]
) -> None:
    os.chdir(folder)
    tell(_told(lambda: _restore(name, output, options)))
    tell(_told(lambda: json.dumps(probe(name)) and None))


def _told(work: Callable[[], str | None]) -> tuple[str, str]:
    """Outcome and message of `work`, which returns what is wrong with its result, if anything."""
    try:
        wrong = work()
    except VdeblockError as error:
        return type(error).__name__, str(error)
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        return "fault", f"{type(error).__name__}: {error} at {place}"
    return ("wrong output", wrong) if wrong else ("done", "")


def _restore(name: str, output: str, options: dict[str, Any]) -> str | None:
    try:
        summary = restore_video(
            name, output, model="l4", allow_loss=True, overwrite=True, **options
        )
    except OutputError as error:
        if "read back" in str(error):
            return str(error)
        raise
    with av.open(output) as container:
        found = sum(1 for _ in container.decode(video=0))
    return None if found == summary.frames else f"{found} frames written of {summary.frames}"


def rows_of(log: Path) -> Iterator[Result]:
    """The results in `log`."""
    if log.exists():
        with log.open(newline="") as file:
            for row in csv.DictReader(file):
                values: Any = row | {"number": int(row["number"]), "seconds": float(row["seconds"])}
                yield Result(**values)


def table(results: Sequence[Result]) -> str:
    """The outcomes by class, for people."""
    outcomes = Counter(result.outcome for result in results)
    probes = Counter(result.probe for result in results)
    order = ["done", *sorted((outcomes | probes).keys() - {"done", *FAULTS}), *FAULTS]
    lines = [
        f"{len(results)} inputs of {len({r.file for r in results})} files; the longest took "
        f"{max((r.seconds for r in results), default=0):.1f} s.",
        "",
        "| outcome | restore_video | probe |",
        "|---|---:|---:|",
        *(f"| {name} | {outcomes[name]} | {probes[name]} |" for name in order),
    ]
    return "\n".join(lines)


def seeds_of(data: Path) -> list[Path]:
    """The files to mutate."""
    if (data / "odd").is_dir():
        return [data / "odd" / name for name in SEEDS]
    return sorted(path for path in data.iterdir() if path.is_file())


def main() -> None:
    """Run, tell faults as they come, and end with the table; exit code 1 if there were any."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=5000, help="inputs in all")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--log", type=Path, help="a CSV of all results, which a run goes on with")
    parser.add_argument("--table", type=Path, help="a file for the table, with the command")
    arguments = parser.parse_args()
    av.logging.set_level(None)
    seeds = seeds_of(arguments.data)
    results = list(rows_of(arguments.log)) if arguments.log else []
    done = {result.number for result in results}
    wanted = (n for n in count(arguments.first) if n not in done)
    for number in wanted:
        if number >= arguments.first + arguments.count:
            break
        result = attempt(seeds, number)
        results.append(result)
        if arguments.log:
            _append(arguments.log, result)
        if result.outcome in FAULTS or result.probe in FAULTS:
            print(*astuple(result), flush=True)
    print(table(results))
    if arguments.table:
        command = f"`{(__doc__ or '').partition(chr(10))[0]}`"
        arguments.table.write_text(f"# Damaged inputs\n\n{command}\n\n{table(results)}\n")
    sys.exit(any(r.outcome in FAULTS or r.probe in FAULTS for r in results))


def _append(log: Path, result: Result) -> None:
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(field.name for field in fields(Result))
        writer.writerow(astuple(result))


if __name__ == "__main__":
    main()
