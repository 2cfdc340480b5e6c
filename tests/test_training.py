"""The training loop repeats itself to the bit, and its checkpoints become models that load."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from training.data import Luma, jpeg, load_folder, luma_of_rgb, random_crop
from training.evaluate import evaluate, psnr_gain
from training.export import commit, export, measure
from training.loop import Pictures, Recipe, Run, sample_batch, table_scale, train
from training.video import film
from vfilter.comparison.metrics import psnr
from vfilter.networks import L4, L8
from vfilter.restorer import Restorer
from vfilter.weights import load

TINY = Recipe(network="l4", qualities=(10, 60), fine=0.3, steps=3, crop=32, batch=2, warmup=2)

VIDEO = replace(TINY, codec="h264", qualities=(18, 40), batch=4)


@pytest.fixture(scope="module")
def planes() -> list[Luma]:
    """Four planes of waves and edges, (48, 56) uint8."""
    y, x = np.mgrid[:48, :56]
    waves = [np.sin(x / (3 + k)) * np.cos(y / 5) + (x + y > 40 + 9 * k) for k in range(4)]
    return [np.rint(100 + 60 * wave).astype(np.uint8) for wave in waves]


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
    for _ in range(3):
        whole.advance(Pictures(planes))
    first = Run(TINY)
    first.advance(Pictures(planes))
    first.save(tmp_path / "tiny.pt")
    resumed = Run(TINY)
    resumed.load(tmp_path / "tiny.pt")
    for _ in range(2):
        resumed.advance(Pictures(planes))
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


def test_learning_rate_rises_holds_and_falls() -> None:
    recipe = Recipe(network="l4", qualities=(10, 60), steps=1000, warmup=100, decay=0.25, rate=1.0)
    rates = [recipe.learning_rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert np.all(np.diff(rates[:100]) > 0)
    assert set(rates[99:751]) == {1.0}
    assert np.all(np.diff(rates[750:]) < 0)
    assert rates[875] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01


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
    other.advance(Pictures(planes))
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


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no images in .*: name a folder that holds some"):
        load_folder(tmp_path / "absent")


def test_gain_is_what_the_shipped_code_path_gives(planes: list[Luma], tmp_path: Path) -> None:
    run = Run(TINY)
    for _ in range(2):
        run.advance(Pictures(planes))
    run.save(tmp_path / "tiny.pt")
    model = export(
        "tiny", tmp_path / "tiny.pt", tmp_path, partial(measure, sets={"LIVE1": (planes, (10,))})
    )
    gain = psnr_gain(run.averaged(), [(jpeg(plane, 10), plane) for plane in planes])
    assert model.gain["LIVE1"][10] == pytest.approx(gain, abs=2e-5)
    with Restorer(model, device="cpu", precision="fp32") as restore:
        rows = evaluate(restore, planes, 10, hinted=False)
    distorted = np.mean([psnr(jpeg(plane, 10), plane) for plane in planes])
    assert rows["distorted"]["psnr"] == pytest.approx(distorted)
    assert rows["restored"]["psnr"] - distorted == pytest.approx(gain)


def test_export_of_a_checkpoint(planes: list[Luma], tmp_path: Path) -> None:
    run = Run(TINY)
    run.advance(Pictures(planes))
    run.save(tmp_path / "tiny.pt")
    models = tmp_path / "models"
    for name in ("l4-tiny", "l4-other"):
        export(
            name,
            tmp_path / "tiny.pt",
            models,
            partial(measure, sets={"LIVE1": (planes[:1], (10, 20))}),
        )
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
    assert "python -m training train l4-tiny --data DIR --steps 3" in card
    assert "72,097 parameters" in card and "31.42 / 30.83 / .890" in card
    assert "{" not in card
    table = (models / "README.md").read_text()
    assert table.count("[l4-tiny](l4-tiny/README.md)") == table.count("[l4-other]") == 1


def test_table_of_models_leaves_the_text_around_it(planes: list[Luma], tmp_path: Path) -> None:
    Run(TINY).save(tmp_path / "tiny.pt")
    text = "# Mine\n\n<!-- table of models -->\nold\n<!-- end of table -->\n\nThe end.\n"
    (tmp_path / "README.md").write_text(text)
    export(
        "tiny",
        tmp_path / "tiny.pt",
        tmp_path,
        partial(measure, sets={"LIVE1": (planes[:1], (10,))}),
    )
    after = (tmp_path / "README.md").read_text()
    assert after.startswith("# Mine\n\n<!-- table of models -->\n| model |")
    assert after.endswith("|\n<!-- end of table -->\n\nThe end.\n") and "old" not in after


def test_networks_of_the_recipes_are_known() -> None:
    from training.__main__ import RECIPES

    assert {recipe.network for recipe in RECIPES.values()} <= {L4.name, L8.name}
