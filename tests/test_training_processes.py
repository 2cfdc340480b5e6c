"""Several processes train as one does."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data import Luma
from training.loop import Run, read_checkpoint
from training.recipes import RECIPES, Recipe
from training.samples import Pictures, sample_batch

ROOT = Path(__file__).resolve().parent.parent

TINY = Recipe(network="l4", qualities=(10, 60), steps=4, crop=32, batch=4, warmup=2)

EACH_STEP = """
from functools import partial
import training.__main__ as command

command.train = partial(command.train, save_every=1)
command.main()
"""


def waves(count: int) -> list[Luma]:
    y, x = np.mgrid[:110, :120]
    return [
        np.rint(100 + 60 * np.sin(x / (3 + k)) * np.cos(y / 5)).astype(np.uint8)
        for k in range(count)
    ]


def test_shares_are_the_batch() -> None:
    pictures = Pictures(waves(3))
    whole = sample_batch(pictures, TINY, 1)
    shares = [sample_batch(pictures, TINY, 1, rank=rank, ranks=2) for rank in range(2)]
    for all_, first, second in zip(whole, *shares, strict=True):
        assert np.array_equal(all_[0::2], first) and np.array_equal(all_[1::2], second)


def test_batch_that_can_not_be_shared() -> None:
    with pytest.raises(ValueError, match="4 draws a step can't be shared evenly by 3 processes"):
        sample_batch(Pictures(waves(1)), TINY, 0, ranks=3)


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one(tmp_path: Path) -> None:
    for number, plane in enumerate(waves(6)):
        Image.fromarray(plane).save(tmp_path / f"{number}.png")
    script = tmp_path / "each_step_is_logged.py"
    script.write_text(EACH_STEP)
    alone = [sys.executable, script]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    two = [*torchrun, "--nproc-per-node", "2", script]
    losses, changes = {}, {}
    for name, command in (("one", alone), ("two", two)):
        folder = tmp_path / name
        options = ["--data", tmp_path, "--checkpoints", folder, "--steps", "3", "--crop", "32"]
        subprocess.run(
            [*command, "train", "l4-jpeg", *options, "--tensorboard", tmp_path / "events"],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            timeout=300,
        )
        with (folder / "l4-jpeg.csv").open() as file:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(file)]
        trained = read_checkpoint(folder / "l4-jpeg.pt")["module"]
        begun = Run(RECIPES["l4-jpeg"]).module.state_dict()
        changes[name] = torch.cat([(trained[key] - begun[key]).flatten() for key in begun])
    assert losses["two"] == pytest.approx(losses["one"], abs=2e-3) and len(losses["one"]) == 3
    alike = torch.nn.functional.cosine_similarity(changes["one"], changes["two"], dim=0)
    assert alike > 0.9, "gradients are shared"


@pytest.mark.slow
def test_several_processes_leave_their_checkpoint_when_stopped(tmp_path: Path) -> None:
    for number, plane in enumerate(waves(4)):
        Image.fromarray(plane).save(tmp_path / f"{number}.png")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    train = ["--nproc-per-node", "2", "-m", "training", "train", "l4-jpeg", "--data", tmp_path]
    options = ["--checkpoints", tmp_path / "held", "--crop", "32", "--steps", "100000"]
    with subprocess.Popen(
        [*torchrun, *train, *options, "--tensorboard", tmp_path / "events"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("step 50/") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    state = read_checkpoint(tmp_path / "held" / "l4-jpeg.pt")
    assert 50 <= state["step"] < 500, "written before its turn"
