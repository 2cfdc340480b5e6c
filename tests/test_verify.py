"""Reading an output back: what is told of a right one, and that wrong ones are found."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import pytest
from av.packet import Packet

from vfilter import restore_video
from vfilter.errors import ArgumentError, OutputError
from vfilter.verify import Record

CLIPS: dict[str, Callable[[Path], Path]] = {
    "phone.mp4": media.phone,
    "phone.mkv": media.phone,
    "camera.avi": media.camera,
    "uneven.mkv": media.uneven,
    "broadcast.ts": media.broadcast,
    "cover.mp4": media.with_cover,
    "interlaced.mkv": media.interlaced,
}


@pytest.mark.parametrize(
    ("ending", "lossless"),
    [("mkv", True), ("mp4", False), ("mov", True), ("avi", False), ("y4m", True)],
)
@pytest.mark.parametrize("name", CLIPS)
def test_what_is_right_is_found_to_be_right(
    name: str, ending: str, lossless: bool, tmp_path: Path
) -> None:
    path, output = CLIPS[name](tmp_path / name), tmp_path / f"out.{ending}"
    options: dict[str, Any] = {"strength": 0, "allow_loss": True, "lossless": lossless}
    summary = restore_video(path, output, verify=True, **options)
    assert summary.verified.startswith(f"{summary.frames} frames at their times")
    assert ("chroma to the bit" in summary.verified) == lossless


def test_standard_output_can_not_be_read_back(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="verify needs a named output"):
        restore_video(media.camera(tmp_path / "in.avi"), "-", verify=True)


def test_copied_sound_is_compared_to_the_byte(tmp_path: Path) -> None:
    path = media.camera(tmp_path / "in.avi")
    summary = restore_video(path, tmp_path / "out.mkv", strength=0, verify=True, lossless=True)
    assert summary.verified == (
        "12 frames at their times, chroma to the bit, copied streams to the byte: 1"
    )


def rewritten(path: Path, change: Callable[[Packet[Any]], Packet[Any] | None]) -> None:
    """Change or leave out packets of a Matroska file."""
    changed = path.with_name("changed.mkv")
    with av.open(path) as source, av.open(changed, "w") as output:
        streams = {s.index: output.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            found = change(packet)
            if found is not None:
                found.stream = streams[found.stream.index]
                output.mux(found)
    changed.replace(path)


def leave_out(kind: str) -> Callable[[Packet[Any]], Packet[Any] | None]:
    """Leave out the third packet of the stream of one kind."""
    seen = []

    def change(packet: Packet[Any]) -> Packet[Any] | None:
        seen.extend([packet] * (packet.stream.type == kind))
        return None if len(seen) == 3 and packet.stream.type == kind else packet

    return change


def delay(kind: str, seconds: str) -> Callable[[Packet[Any]], Packet[Any] | None]:
    """Move a stream of one kind, or its frames from the sixth on."""

    def change(packet: Packet[Any]) -> Packet[Any] | None:
        late = packet.pts * packet.time_base > Fraction(1, 5) or kind == "audio"
        if packet.stream.type == kind and late:
            ticks = round(Fraction(seconds) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return packet

    return change


def garble(kind: str) -> Callable[[Packet[Any]], Packet[Any] | None]:
    """Change a byte in each packet of one kind."""

    def change(packet: Packet[Any]) -> Packet[Any] | None:
        if packet.stream.type != kind:
            return packet
        content = bytearray(bytes(packet))
        content[len(content) // 2] ^= 1
        changed: Packet[Any] = Packet(bytes(content))
        changed.stream, changed.time_base = packet.stream, packet.time_base
        changed.pts, changed.dts = packet.pts, packet.dts
        changed.duration, changed.is_keyframe = packet.duration, packet.is_keyframe
        return changed

    return change


WRONG: dict[str, tuple[Callable[[Packet[Any]], Packet[Any] | None], str]] = {
    "a frame is missing": (leave_out("video"), "11 frames came back of 12"),
    "frames are late": (delay("video", "0.05"), "times of frames differ by 0.05[01] s"),
    "sound is late": (delay("audio", "0.1"), r"stream 1 is \+0.100 s off the frames"),
    "sound is garbled": (garble("audio"), r"the bytes of stream 1 \(pcm_u8\) differ"),
    "sound is missing": (leave_out("audio"), r"the bytes of stream 1 \(pcm_u8\) differ"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found_and_not_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is spoiled between the end of writing it and reading it back."""
    path, output = media.camera(tmp_path / "in.avi"), tmp_path / "out.mkv"
    change, told = WRONG[name]
    check = Record.check
    monkeypatch.setattr(Record, "check", lambda r, p: (rewritten(p, change), check(r, p))[1])
    with pytest.raises(OutputError, match=f"read back is not what was written: {told}"):
        restore_video(path, output, strength=0, lossless=True, verify=True, resume=False)
    assert {p.name for p in tmp_path.iterdir()} == {"in.avi"}


def test_wrong_times_of_a_second_film_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = media.two_films(tmp_path / "in.mkv", "mpeg4", qscale="3"), tmp_path / "out.mkv"
    check, late = Record.check, delay("video", "0.05")

    def change(packet: Packet[Any]) -> Packet[Any] | None:
        return late(packet) if packet.stream.index == 1 else packet

    monkeypatch.setattr(Record, "check", lambda r, p: (rewritten(p, change), check(r, p))[1])
    with pytest.raises(OutputError, match=r"times of stream 1 differ by 0\.050 s"):
        restore_video(path, output, strength=0, preset="ultrafast", verify=True)


def test_wrong_chroma_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vfilter import verify

    path = media.camera(tmp_path / "in.avi")
    seen: list[int] = []

    def spoiled(frame: Any) -> bytes:
        seen.append(1)
        found = chroma_bytes(frame)
        return found if len(seen) <= media.FRAMES else bytes([found[0] ^ 1]) + found[1:]

    chroma_bytes = verify.chroma_bytes
    monkeypatch.setattr(verify, "chroma_bytes", spoiled)
    with pytest.raises(OutputError, match="chroma is not what it was"):
        restore_video(
            path, tmp_path / "out.mkv", strength=0, lossless=True, verify=True, segment=0.2
        )
    # no segment is kept, from which the same would come again
    assert {p.name for p in tmp_path.iterdir()} == {"in.avi"}


@pytest.mark.parametrize("sound", ["aac", "pcm_u8"])
def test_streams_that_mp4_leaves_out_for_being_empty(sound: str, tmp_path: Path) -> None:
    """The sound before the last is copied, or converted; the empty one goes before both."""
    path, output = tmp_path / "in.mkv", tmp_path / "out.mp4"
    with av.open(path, "w") as file:
        video = media.add_video(file)
        media.add_sound(file, "aac", 48000)
        full = [media.add_sound(file, codec, 48000) for codec in (sound, "aac")]
        media.fill_video(file, video)
        for stream in full:
            media.fill_sound(file, stream)
    summary = restore_video(path, output, strength=0, verify=True)
    with av.open(output) as file:
        assert len(file.streams) == 3
    assert summary.verified.startswith(f"{summary.frames} frames at their times, ")
