"""The benchmark measures what it says it does."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from training.__main__ import app
from training.bench import EAGER, bench, interleaved, memory, moving, print_table, row_of
from training.contenders import onnx_bytes
from training.footprint import make_clip
from vfilter.networks import L4, L8, Network
from vfilter.tiles import cuts
from vfilter.torch_module import TorchNetwork


@pytest.mark.parametrize("network", [L4, L8], ids=lambda network: network.name)
def test_onnx_computes_the_network(network: Network) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = TorchNetwork(network)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    side = 2 * network.radius
    luma = np.random.default_rng(0).random((1, 1, side + 7, side + 5), np.float32) - np.float32(0.5)
    session = onnxruntime.InferenceSession(onnx_bytes(network, weights))
    [residual] = session.run(None, {"luma": luma})
    with torch.inference_mode():
        expected = module(torch.from_numpy(luma)).numpy()
    np.testing.assert_allclose(residual, expected, rtol=1e-4, atol=1e-6)


def test_timings_are_medians_of_interleaved_runs_after_a_first() -> None:
    called: list[str] = []
    times = {"a": iter([99.0, 1.0, 5.0, 2.0]), "b": iter([0.9, 7.0, 8.0, 9.0])}

    def timing(name: str) -> float:
        called.append(name)
        return next(times[name])

    took = interleaved({(name,): lambda name=name: timing(name) for name in "ab"}, rounds=3)  # type: ignore[misc]
    assert took == {("a",): 2.0, ("b",): 8.0}
    assert called == ["a", "b"] * 4


def test_of_what_is_quick_the_second_run_counts() -> None:
    times = iter([0.4, 0.1, 0.3, 0.2])
    assert interleaved({("a",): lambda: next(times)}, rounds=1) == {("a",): 0.2}


def test_what_takes_long_is_not_timed_again() -> None:
    times = iter([9.0, 7.0, 8.0])
    assert interleaved({("a",): lambda: next(times)}, rounds=3, patience=5) == {("a",): 7.0}


def test_rows_tell_how_fast_they_are_beside_eager_mode_and_the_engine_alone() -> None:
    where = ("l4", "640x480")
    took = {
        ("ours, torch", "bf16", *where): 0.04,
        ("torch alone", "bf16", *where): 0.03,
        (EAGER, "fp32", *where): 0.1,
    }
    rows = [row_of(key, took, {"fp32": 1.0, "bf16": 2.0}) for key in took]
    assert [row["times_eager"] for row in rows] == [2.5, 3.33, 1.0]
    assert [row.get("share_of_engine") for row in rows] == [0.75, None, None]


def test_memory_of_long_clips_is_beside_that_of_the_shortest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peaks = iter([100.0, 400.0, 404.0])
    monkeypatch.setattr("training.bench.make_clip", lambda path, *_, **__: path)
    monkeypatch.setattr("training.bench.footprint", lambda *_: next(peaks))
    rows = memory([(64, 48)], (100, 1000))
    assert [row.get("times_shortest") for row in rows] == [None, 1.0, 1.01]
    print_table({"machine": {}, "memory": rows})
    *_, changing, _, last = capsys.readouterr().out.splitlines()
    assert changing == "| l8 | 64x48 | 10 | changing | 100.0 | - |"
    assert last == "| l8 | 64x48 | 1000 | nearly static | 404.0 | 1.01 |"


@pytest.mark.parametrize(("now", "kept"), [("here", True), ("elsewhere", False)])
def test_parts_of_another_machine_do_not_stay(
    now: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = tmp_path / "bench.json"
    measured.write_text(json.dumps({"machine": {"processor": "here"}, "reuse": [{"model": "l4"}]}))
    monkeypatch.setattr("training.__main__.machine", lambda: {"processor": now})
    monkeypatch.setattr("training.__main__.bench", lambda *_, **__: {"memory": [{"model": "l8"}]})
    ran = CliRunner().invoke(app, ["bench", "--part", "memory", "--output", str(measured)])
    assert ran.exit_code == 0, ran.output
    after = json.loads(measured.read_text())
    assert after["machine"] == {"processor": now} and after["memory"]
    assert ("reuse" in after) == kept


def test_what_was_measured_stays_when_a_later_part_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = tmp_path / "bench.json"

    def failing(part: str, *, quick: bool) -> dict[str, Any]:
        if part == "reuse":
            raise KeyboardInterrupt
        return {part: [{"model": "l4"}]}

    monkeypatch.setattr("training.__main__.bench", failing)
    line = ["bench", "--part", "start", "--part", "reuse", "--output", str(measured)]
    assert CliRunner().invoke(app, line).exit_code != 0
    assert json.loads(measured.read_text())["start"] == [{"model": "l4"}]


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="one of restoring, end_to_end"):
        bench("speed")


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 480)])
def test_a_tenth_of_the_tiles_moves(width: int, height: int) -> None:
    clip = moving(width, height, 4, tile=128)
    radius = 12
    rows, tall = cuts(height, 128, 4)
    columns, wide = cuts(width, 128, 4)
    for before, after in itertools.pairwise(clip):
        changed = before != after
        seen = [
            changed[
                max(0, y - radius) : y + tall + radius, max(0, x - radius) : x + wide + radius
            ].any()
            for y in rows
            for x in columns
        ]
        assert np.mean(seen) == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("static", [False, True])
def test_clips_of_the_memory_measurement(static: bool, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", 96, 80, 5, static=static)
    with av.open(path) as container:
        planes = [frame.to_ndarray()[:80].astype(int) for frame in container.decode(video=0)]
    assert len(planes) == 5
    apart = np.abs(planes[2][70:] - planes[1][70:]).mean()  # below the box
    assert apart < 2 if static else apart > 20


@pytest.mark.slow
def test_bench_writes_what_the_plot_draws(tmp_path: Path) -> None:
    measured, picture = tmp_path / "bench.json", tmp_path / "speed.png"
    ran = CliRunner().invoke(app, ["bench", "--quick", "--output", str(measured)])
    assert ran.exit_code == 0, ran.output
    result: dict[str, Any] = json.loads(measured.read_text())
    assert "| ours, openvino |" in ran.output
    assert all(rate > 1 for rate in result["peak_gflops"].values())
    by = {row["by"] for row in result["restoring"]}
    assert {"ours, openvino", "ours, torch", "ONNX Runtime, whole frame", "FFmpeg spp=6"} <= by
    assert sum(row["share"] for row in result["stages"]) == pytest.approx(2, abs=0.01)
    network = [row["share"] for row in result["stages"] if row["stage"] == "network"]
    assert all(0.2 < share < 1 for share in network)
    empty, told, *frames = (row["seconds"] for row in result["start"])
    assert 0.05 < empty < 2 * told and told < min(frames)
    assert all(row["identical"] for row in result["reuse"])
    assert all(50 < row["peak_mb"] < 3000 for row in result["memory"])
    ran = CliRunner().invoke(app, ["bench-plot", str(picture), "--measured", str(measured)])
    assert ran.exit_code == 0, ran.output
    assert picture.read_bytes().startswith(b"\x89PNG")
