"""The training loop repeats itself to the bit, and its checkpoints become models that load."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from training.__main__ import choose, main
from training.data import Luma, jpeg, load_folder, luma_of_rgb, random_crop
from training.evaluate import evaluate, psnr_gain
from training.export import Measurement, commit, export, measure
from training.log import Log, read_rows
from training.loop import Run, open_run, train
from training.recipes import RECIPES, Recipe, paper
from training.samples import Pictures, batches, sample_batch, sample_quality, table_scale
from training.video import film
from vfilter.comparison.metrics import psnr
from vfilter.networks import L4
from vfilter.restorer import Restorer
from vfilter.weights import load, models_folder

ROOT = Path(__file__).resolve().parent.parent

TINY = Recipe(network="l4", qualities=(10, 60), fine=0.3, steps=3, crop=32, batch=2, warmup=2)

VIDEO = replace(TINY, codec="h264", qualities=(18, 40), batch=4)


@pytest.fixture(scope="module")
def planes() -> list[Luma]:
    """Four planes of waves and edges, (48, 56) uint8."""
    y, x = np.mgrid[:48, :56]
    waves = [np.sin(x / (3 + k)) * np.cos(y / 5) + (x + y > 40 + 9 * k) for k in range(4)]
    return [np.rint(100 + 60 * wave).astype(np.uint8) for wave in waves]


def advance(run: Run, planes: list[Luma], steps: int = 1) -> None:
    """So many steps of a run on crops of `planes`."""
    for _ in range(steps):
        run.advance(sample_batch(Pictures(planes), run.recipe, run.step))


def state(run: Run) -> dict[str, Tensor]:
    """Everything that a run goes on from, by name."""
    tensors = {f"module {name}": value for name, value in run.module.state_dict().items()}
    tensors |= {f"average {name}": value for name, value in run.average.items()}
    for number, entry in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer {number} {name}": value for name, value in entry.items()}
    return tensors


def assert_same_state(actual: Run, expected: Run) -> None:
    found, wanted = state(actual), state(expected)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def test_resumed_run_equals_an_uninterrupted_one(planes: list[Luma], tmp_path: Path) -> None:
    whole = Run(TINY)
    advance(whole, planes, 3)
    first = Run(TINY)
    advance(first, planes)
    first.save(tmp_path / "tiny.pt")
    resumed = Run(TINY)
    resumed.load(tmp_path / "tiny.pt")
    advance(resumed, planes, 2)
    assert resumed.step == whole.step == 3
    assert_same_state(resumed, whole)


def test_train_goes_on_from_its_checkpoint_and_logs(planes: list[Luma], tmp_path: Path) -> None:
    for steps in (2, 3):
        recipe = replace(TINY, steps=steps)
        run = train(recipe, Pictures(planes), planes[:1], tmp_path / "tiny.pt", save_every=1)
        assert run.step == steps
    lines = (tmp_path / "tiny.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,loss,gain_q10,gain_q35,gain_q60"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
    assert not list(tmp_path.glob("*.tmp"))


def test_checkpoint_of_another_network(planes: list[Luma], tmp_path: Path) -> None:
    Run(TINY).save(tmp_path / "tiny.pt")
    with pytest.raises(ValueError, match=r"tiny\.pt holds l4, not l8"):
        Run(replace(TINY, network="l8")).load(tmp_path / "tiny.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codec": "h264"}, r"tiny\.pt holds jpeg, not h264: name another folder"),
        ({"objective": "direct"}, r"tiny\.pt holds residual, not direct: name another folder"),
        ({"initialization": "plain"}, r"tiny\.pt holds symmetric, not plain: name another folder"),
        ({"optimizer": "sgd"}, r"tiny\.pt holds adamw, not sgd: name another folder"),
    ],
)
def test_checkpoint_of_another_run(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    Run(TINY).save(tmp_path / "tiny.pt")
    with pytest.raises(ValueError, match=message):
        Run(replace(TINY, **change)).load(tmp_path / "tiny.pt")


def test_checkpoint_without_what_recipes_have_learnt_since(
    planes: list[Luma], tmp_path: Path
) -> None:
    run = Run(TINY)
    advance(run, planes)
    run.save(tmp_path / "tiny.pt")
    state = torch.load(tmp_path / "tiny.pt", weights_only=True)
    for name in ("objective", "initialization", "optimizer", "halving", "last", "momentum", "ema"):
        del state["recipe"][name]
    for name in ("losses", "photos", "device"):
        del state[name]
    torch.save(state, tmp_path / "old.pt")
    resumed = Run(TINY)
    resumed.load(tmp_path / "old.pt")
    assert_same_state(resumed, run)


@pytest.mark.parametrize("held", [{"a": 1}, [1, 2], None], ids=["mapping", "list", "text"])
def test_what_is_no_checkpoint(held: object, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    path.write_text("hello world")
    if held is not None:
        torch.save(held, path)
    with pytest.raises(ValueError, match=r"tiny\.pt is .*no checkpoint.*: remove it"):
        Run(TINY).load(path)


@pytest.mark.parametrize("kept", [0, 1000, 200_000], ids=["empty", "beginning", "truncated"])
def test_damaged_checkpoint(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    Run(TINY).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"tiny\.pt is damaged or no checkpoint: remove it"):
        Run(TINY).load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"network": "l4", "qualities": (10, 60), "steps": 3, "colour": "blue"}},
        {"recipe": "l4"},
        {"average": {}},
        {"recipe": {"network": "l8", "qualities": (10, 60), "steps": 3}},
    ],
    ids=["unknown field", "no mapping", "no weights", "weights of another network"],
)
def test_checkpoint_of_other_code(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    Run(TINY).save(path)
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(ValueError, match=r"tiny\.pt is damaged or no checkpoint: remove it"):
        Run(TINY).load(path)


def test_a_run_begins_with_no_weights_of_another_objective(tmp_path: Path) -> None:
    Run(replace(TINY, objective="direct")).save(tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt holds direct, not residual: name another"):
        open_run(replace(TINY, start="other"), tmp_path / "tiny.pt")


def test_a_run_begins_with_shipped_weights_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    run = open_run(replace(TINY, start="l4-jpeg"), tmp_path / "tiny.pt")
    for name, weight in load("l4-jpeg").weights.items():
        assert np.array_equal(run.module.state_dict()[name].numpy(), weight)
        assert np.array_equal(run.average[name].numpy(), weight)
    with pytest.raises(ValueError, match=r"l8-jpeg\.pt holds l8, not l4"):
        open_run(replace(TINY, start="l8-jpeg"), tmp_path / "tiny.pt")


def test_start_that_is_not_there(planes: list[Luma], tmp_path: Path) -> None:
    recipe = replace(TINY, start="other")
    with pytest.raises(FileNotFoundError, match=r"no .*other\.pt to begin with: train other first"):
        train(recipe, Pictures(planes), planes[:1], tmp_path / "tiny.pt")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_disk_keeps_the_checkpoint(planes: list[Luma], tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    run = Run(TINY)
    run.save(path)
    before = path.read_bytes()
    advance(run, planes)
    path.with_suffix(".tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"step 1 can't be written to .*tiny\.pt \(No space left"):
        run.save(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["tiny.pt"]
    run.save(path)
    assert torch.load(path, weights_only=True)["step"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_disk_keeps_the_log(tmp_path: Path) -> None:
    log = Log(tmp_path / "tiny.csv")
    log.row(1, {"loss": 2.5})
    (tmp_path / "tiny.csv.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"step 2 can't be written to .*tiny\.csv \(No space left"):
        log.row(2, {"loss": 2.25})
    assert [found.name for found in tmp_path.iterdir()] == ["tiny.csv"]
    assert read_rows(tmp_path / "tiny.csv") == [{"step": "1", "loss": "2.5"}]


def test_stopped_run_goes_on(planes: list[Luma], tmp_path: Path) -> None:
    whole = train(TINY, Pictures(planes), planes[:1], tmp_path / "whole.pt")
    asked = iter([False, True])
    path = tmp_path / "tiny.pt"
    stopped = train(TINY, Pictures(planes), planes[:1], path, stopped=lambda: next(asked))
    assert stopped.step == 1
    resumed = train(TINY, Pictures(planes), planes[:1], path)
    assert_same_state(resumed, whole)
    first, second = ([row["loss"] for row in read_rows(log)] for log in tmp_path.glob("*.csv"))
    assert first == second


def test_time_left_is_by_the_steps_of_this_machine(
    planes: list[Luma],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(TINY)
    advance(run, planes)
    run.seconds = 1e6  # of a far slower one
    run.save(tmp_path / "run.pt")
    monkeypatch.setattr("training.loop.LOG_EVERY", 1)
    train(TINY, Pictures(planes), planes[:1], tmp_path / "run.pt")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split("  ")[-1] for line in lines] == ["ETA 0 min"] * 2


def test_interruption_writes_the_checkpoint(planes: list[Luma], tmp_path: Path) -> None:
    for number, plane in enumerate(planes):
        Image.fromarray(np.kron(plane, np.ones((2, 2), np.uint8))).save(tmp_path / f"{number}.png")
    folder = tmp_path / "checkpoints"
    options = ["--data", tmp_path, "--checkpoints", folder, "--crop", "32", "--tensorboard", folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "training", "train", "l4-jpeg", *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "step 50/17000" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    step = torch.load(folder / "l4-jpeg.pt", weights_only=True)["step"]
    assert step >= 50 and f"stopped at step {step}: the same command goes on" in errors


def test_log_drops_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.csv")
    for step in (1, 2, 3):
        log.row(step, {"loss": step / 2})
    log.row(2, {"loss": 7, "gain": 1})
    assert read_rows(tmp_path / "log.csv") == [
        {"step": "1", "loss": "0.5", "gain": ""},
        {"step": "2", "loss": "7", "gain": "1"},
    ]


def test_log_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"log\.csv is no log of a training: remove it"):
        Log(tmp_path / "log.csv").row(1, {"loss": 1})


def test_events_for_tensorboard(planes: list[Luma], tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(TINY, Pictures(planes), planes[:1], tmp_path / "tiny.pt", tensorboard=tmp_path / "events")
    events = accumulator.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    (gain,) = events.Scalars("gain_q10")
    assert gain.step == 3
    assert gain.value == pytest.approx(float(read_rows(tmp_path / "tiny.csv")[0]["gain_q10"]))


def test_loss_that_is_not_finite(planes: list[Luma], tmp_path: Path) -> None:
    recipe = replace(TINY, optimizer="sgd", rate=1e30, clip=1e30, steps=20)
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d+: choose a lower rate"):
        train(recipe, Pictures(planes), planes[:1], tmp_path / "tiny.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["l9-jpeg"], "unknown model 'l9-jpeg': name one of l8-jpeg"),
        (["l4-jpeg", "--recipe", "mine"], "recipe must be ours or paper, got 'mine'"),
        (["l4-jpeg", "--objective", "ssim"], "objective must be one of residual, direct, edge"),
        (
            ["l4-jpeg"],
            "smaller than the 96x96 that training needs: remove it, or train with smaller",
        ),
        (["l4-jpeg", "--rate", "0"], "rate must be positive, got 0.0"),
        (["l4-h264"], "smaller than the 152x152 that training needs"),
        (["l4-h264", "--crop", "144"], "crop must be 128 at most for h264, got 144"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    message: str,
    planes: list[Luma],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.fromarray(planes[0]).save(tmp_path / "a.png")
    command = ["training", "train", *arguments, "--data", tmp_path, "--checkpoints", tmp_path]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in command])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("l9-jpeg", "error: unknown model 'l9-jpeg': name one of l8-jpeg"),
        ("l4-jpeg", "error: there is no l4-jpeg.pt to export: train l4-jpeg first"),
    ],
)
def test_what_can_not_be_exported_is_one_line(
    name: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["training", "export", name, "--data", ".", "--checkpoints", ".", "--models", "out"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    assert not list(tmp_path.iterdir())


def test_rate_in_place_of_the_recipe_s() -> None:
    for recipe, usual in (("ours", 1e-3), ("paper", 8.0)):
        rates = [
            choose("l4-q20", recipe, "residual", "symmetric", None, None, rate).rate
            for rate in (None, 0.25)
        ]
        assert rates == [usual, 0.25]


def test_learning_rate_rises_holds_and_falls() -> None:
    recipe = Recipe(network="l4", qualities=(10, 60), steps=1000, warmup=100, decay=0.25, rate=1.0)
    rates = [recipe.learning_rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert np.all(np.diff(rates[:100]) > 0)
    assert set(rates[99:751]) == {1.0}
    assert np.all(np.diff(rates[750:]) < 0)
    assert rates[875] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01


def test_batches_made_ahead_are_those_of_the_steps(planes: list[Luma]) -> None:
    with closing(batches(Pictures(planes), TINY, 4, rank=1, ranks=2)) as made:
        for step, batch in zip(range(4, 7), made, strict=False):
            wanted = sample_batch(Pictures(planes), TINY, step, rank=1, ranks=2)
            assert all(torch.equal(a, b) for a, b in zip(batch, wanted, strict=True))


def test_bfloat16_is_on_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in ("bf16", "fp32"):
        monkeypatch.setattr("training.processes.native_precision", lambda p=precision: p)
        assert Run(TINY).bfloat16 == (precision == "bf16")
        assert not Run(TINY, bfloat16=False).bfloat16


def test_batch_depends_on_the_step_alone(planes: list[Luma]) -> None:
    distorted, clean, weight = sample_batch(Pictures(planes), TINY, 5)
    assert distorted.shape == clean.shape == (2, 1, 32, 32)
    assert weight.shape == (2, 1, 1, 1)
    assert clean.min() >= -0.5 and clean.max() <= 0.5
    for first, second in zip(
        (distorted, clean, weight), sample_batch(Pictures(planes), TINY, 5), strict=True
    ):
        assert torch.equal(first, second)
    assert not torch.equal(clean, sample_batch(Pictures(planes), TINY, 6)[1])


@pytest.mark.parametrize(("codec", "settings"), [("h264", (18, 40)), ("mpeg", (2, 31))])
def test_video_batch_depends_on_the_step_alone(
    codec: str, settings: tuple[int, int], planes: list[Luma]
) -> None:
    large = [np.kron(plane, np.ones((4, 4), np.uint8)) for plane in planes]
    clips = [[plane[:128], plane[1:129]] for plane in large]
    recipe = replace(VIDEO, codec=codec, qualities=settings)
    for pictures in (Pictures(large), Pictures(large, clips)):
        first, second = (sample_batch(pictures, recipe, 4) for _ in range(2))
        assert first[0].shape == (4, 1, 32, 32)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        error = (first[0] - first[1]).abs() * 255
        assert 0 < error.mean() < 20


def test_run_begins_with_the_weights_of_another(planes: list[Luma], tmp_path: Path) -> None:
    other = Run(TINY)
    advance(other, planes)
    other.save(tmp_path / "other.pt")
    large = [np.kron(plane, np.ones((4, 4), np.uint8)) for plane in planes]
    recipe = replace(VIDEO, start="other", steps=0)
    run = train(recipe, Pictures(large), large[:1], tmp_path / "tiny.pt")
    assert run.step == 0
    for name, value in run.module.state_dict().items():
        assert torch.equal(value, other.average[name])


def test_film_moves_over_the_plane() -> None:
    plane = np.random.default_rng(0).integers(0, 256, (150, 180)).astype(np.uint8)
    plane = cv2.GaussianBlur(plane, (0, 0), 3)
    seen = [film(plane, 64, 8, np.random.default_rng(seed)) for seed in range(12)]
    assert {(len(f), f[0].shape, f[0].dtype) for f in seen} == {(8, (64, 64), np.dtype(np.uint8))}
    still = [all(np.array_equal(f[0], p) for p in f) for f in seen]
    assert 0 < sum(still) < 6


def test_symmetric_initialization() -> None:
    run = Run(replace(TINY, network="l8"))
    weights = [v for name, v in run.module.state_dict().items() if name.endswith("weight")]
    for weight in weights[:-1]:
        assert weight.mean(dim=(1, 2, 3)).abs().max() < 1e-6
    assert weights[-1].std() < 2e-3
    assert_same_state(run, Run(replace(TINY, network="l8")))


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_qualities_lie_in_their_range(slope: float) -> None:
    recipe = replace(TINY, slope=slope, fine=0.0)
    rng = np.random.default_rng(0)
    drawn = [sample_quality(recipe, rng) for _ in range(2000)]
    assert (min(drawn), max(drawn)) == (10, 60)
    middle = {0.0: 35, 1.0: math.sqrt(600), 2.0: 2 / (1 / 10 + 1 / 60)}[slope]
    assert np.median(drawn) == pytest.approx(middle, abs=1.5)


def test_table_scale_is_that_of_libjpeg() -> None:
    assert [table_scale(quality) for quality in (10, 25, 50, 75, 90)] == [500, 200, 100, 50, 20]


def test_luma_is_that_of_rgb2ycbcr() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    assert luma_of_rgb(colours.astype(np.uint8)).tolist() == [[16, 235, 81, 145, 41]]


def test_crops_lie_within_the_plane(planes: list[Luma]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        crop = random_crop(planes, 48, rng)
        assert crop.shape == (48, 48) and crop.flags.c_contiguous


def scores(sets: Mapping[str, Any]) -> list[Measurement]:
    """The measurement of an export on `sets` (`measure`) alone."""
    return [lambda model: {"results": measure(model, sets)}]


def test_gain_is_what_the_shipped_code_path_gives(planes: list[Luma], tmp_path: Path) -> None:
    run = Run(TINY)
    advance(run, planes, 2)
    run.save(tmp_path / "tiny.pt")
    model = export("tiny", tmp_path / "tiny.pt", tmp_path, scores({"LIVE1": (planes, (10,))}))
    gain = psnr_gain(run.averaged(), [(jpeg(plane, 10), plane) for plane in planes])
    assert model.gain["LIVE1"][10] == pytest.approx(gain, abs=2e-5)
    with Restorer(model, device="cpu", precision="fp32") as restore:
        rows = evaluate(restore, planes, 10, hinted=False)
    distorted = np.mean([psnr(jpeg(plane, 10), plane) for plane in planes])
    assert rows["distorted"]["psnr"] == pytest.approx(distorted)
    assert rows["restored"]["psnr"] - distorted == pytest.approx(gain)


def test_export_of_a_checkpoint(planes: list[Luma], tmp_path: Path) -> None:
    run = Run(TINY)
    advance(run, planes)
    run.save(tmp_path / "tiny.pt")
    models = tmp_path / "models"
    for name in ("l4-tiny", "l4-other"):
        sets = {"LIVE1": (planes[:1], (10, 20))}
        export(name, tmp_path / "tiny.pt", models, scores(sets))
    model = load(models / "l4-tiny")
    assert (model.network, model.codec, model.quality) == (L4, "jpeg", (10, 95))
    assert (model.steps, model.commit) == ("1", commit())
    for name, value in run.average.items():
        assert np.array_equal(model.weights[name], value.numpy())
    metrics = json.loads((models / "l4-tiny/metrics.json").read_text())
    assert set(metrics["results"]["LIVE1"]) == {"10", "20"}
    assert set(metrics["results"]["LIVE1"]["10"]["restored"]) == {
        *("psnr", "psnr_b", "ssim_uniform", "ssim_gaussian")
    }
    card = (models / "l4-tiny/README.md").read_text()
    assert "python -m training train l4-tiny --data DIR --steps 3 --checkpoints MINE\n" in card
    assert "python -m training export l4-tiny --data DIR --checkpoints MINE\n" in card
    assert "72,097 parameters" in card and "31.42 / 30.83 / .890" in card
    assert "{" not in card
    table = (models / "README.md").read_text()
    assert table.count("[l4-tiny](l4-tiny/README.md)") == table.count("[l4-other]") == 1


def test_card_of_a_network_for_one_quality(planes: list[Luma], tmp_path: Path) -> None:
    recipe = replace(paper(RECIPES["arcnn-q20"]), crop=32, batch=2)
    Run(recipe).save(tmp_path / "arcnn-q20.pt")
    sets = {"LIVE1": (planes[:1], (20,))}
    export("arcnn-q20", tmp_path / "arcnn-q20.pt", tmp_path, scores(sets))
    card = (tmp_path / "arcnn-q20/README.md").read_text()
    assert "The network AR-CNN of Dong, Deng, Loy and Tang" in card and "Svoboda" not in card
    assert "106,561 parameters" in card and "It is trained for quality 20 alone." in card
    assert "| objective | residual; squared error |" in card
    assert "SGD with momentum 0.9, last layer at 0.1 of the rate" in card
    assert "| learning rate | 8, halved every 50,000 steps |" in card
    assert "the paper's AR-CNN" not in card and "paper's AR-CNN |" in card
    assert "{" not in card


def test_card_tells_what_was_seen_and_where(
    planes: list[Luma], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPES["l4-jpeg"], steps=1, crop=32)
    checkpoint = tmp_path / "l4-jpeg.pt"
    train(recipe, Pictures(planes, origin="Holidays"), planes[:1], checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    measured = scores({"LIVE1": (planes[:1], (10,))})

    def card() -> str:
        torch.save(state, checkpoint)
        export("l4-jpeg", checkpoint, tmp_path / "models", measured)
        return (tmp_path / "models/l4-jpeg/README.md").read_text(encoding="utf-8")

    mine = card()
    assert "| images | Holidays, 4 photos, their luma" in mine
    assert "on a processor" in mine and "detour" not in mine
    state["device"] = "cuda"
    assert "on a GPU" in card()
    del state["photos"], state["device"], state["losses"]  # as older checkpoints
    monkeypatch.setattr("training.export.models_folder", lambda: tmp_path / "models")
    older = card()
    assert "| images | BSDS500 train and test, 400 photos, their luma" in older
    assert "on a processor" in older and "detour" in older


def test_export_of_the_mean_with_earlier_weights(planes: list[Luma], tmp_path: Path) -> None:
    run = Run(TINY)
    checkpoint, models = tmp_path / "tiny.pt", tmp_path / "models"
    measured = scores({"LIVE1": (planes[:1], (10,))})
    ends = []
    for _ in range(2):
        advance(run, planes, 2)
        run.save(checkpoint)
        ends.append(export("tiny", checkpoint, models, measured, models / "tiny" if ends else None))
    first, mean = ends
    for name, value in run.average.items():
        expected = (first.weights[name] + value.numpy()) / 2
        np.testing.assert_allclose(mean.weights[name], expected, rtol=1e-6)
    assert "the mean of that after 2 steps and after all" in (
        models / "tiny" / "README.md"
    ).read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="l8-q20 is of another network"):
        export("tiny", checkpoint, models, measured, models_folder() / "l8-q20")


def test_networks_of_other_objectives_are_not_exported(tmp_path: Path) -> None:
    Run(replace(TINY, objective="edge")).save(tmp_path / "tiny.pt")
    with pytest.raises(ValueError, match=r"tiny\.pt was trained for 'edge': only residuals"):
        export("tiny", tmp_path / "tiny.pt", tmp_path / "models", [])
    assert not (tmp_path / "models").exists()


def test_export_of_another_network_than_its_name(tmp_path: Path) -> None:
    Run(TINY).save(tmp_path / "tiny.pt")
    with pytest.raises(ValueError, match="is of l4 for jpeg, l4-h264 of l4 for h264"):
        export("l4-h264", tmp_path / "tiny.pt", tmp_path / "models", [])
    assert not (tmp_path / "models").exists()


def test_what_cannot_be_measured_leaves_the_model_as_it_was(
    planes: list[Luma], tmp_path: Path
) -> None:
    Run(TINY).save(tmp_path / "tiny.pt")
    models = tmp_path / "models"
    export("tiny", tmp_path / "tiny.pt", models, scores({"LIVE1": (planes[:1], (10,))}))
    before = {path.name: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    Run(replace(TINY, seed=1)).save(tmp_path / "tiny.pt")
    with pytest.raises(FileNotFoundError, match="no folder"):
        absent = tmp_path / "absent"
        export("tiny", tmp_path / "tiny.pt", models, [lambda _: {"results": load_folder(absent)}])
    assert before == {path.name: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    assert {path.name for path in models.iterdir()} == {"README.md", "tiny"}


def test_table_of_models_leaves_the_text_around_it(planes: list[Luma], tmp_path: Path) -> None:
    Run(TINY).save(tmp_path / "tiny.pt")
    text = "# Mine\n\n<!-- table of models -->\nold\n<!-- end of table -->\n\nThe end.\n"
    (tmp_path / "README.md").write_text(text)
    export("tiny", tmp_path / "tiny.pt", tmp_path, scores({"LIVE1": (planes[:1], (10,))}))
    after = (tmp_path / "README.md").read_text()
    assert after.startswith("# Mine\n\n<!-- table of models -->\n| model |")
    assert after.endswith("|\n<!-- end of table -->\n\nThe end.\n") and "old" not in after
