"""The commands of the tables and figures, and the demo, on a handful of small images."""

from __future__ import annotations

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import figures, plots, tables
from training.__main__ import main
from training.data import Luma, jpeg
from training.demo import RECIPE, demo
from training.loop import Run
from training.recipes import PAPER_CROPS
from training.rivals import best_qp, by_sadct, by_spp, told_qp
from training.units import by_rate
from vfilter.comparison.metrics import psnr


def photo(seed: int, shape: tuple[int, int] = (80, 96)) -> Luma:
    """A plane of waves, edges and flat parts, (H, W) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    slant, pitch = rng.uniform(0.3, 3), rng.uniform(4, 12)
    wave = np.sin((x + slant * y) / pitch) * (x > shape[1] / 3)
    steps = (x * slant + y > rng.uniform(40, 100)).astype(float)
    return np.clip(np.rint(90 + 40 * wave + 70 * steps), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def planes() -> list[Luma]:
    return [photo(seed) for seed in range(8)]


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the figures train on is small too."""
    monkeypatch.setitem(figures.CROPS, "l4", (2, 48))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data in the paper's order, of small images."""
    root = tmp_path_factory.mktemp("data")
    counts = {"BSDS500/train": 300, "BSDS500/test": 100, "BSDS500/val": 6, "LIVE1": 2}
    for part, count in counts.items():
        (root / part).mkdir(parents=True)
        for number in range(count):
            plane = photo(number + (1000 if part in ("BSDS500/val", "LIVE1") else 0), (104, 100))
            Image.fromarray(plane).save(root / part / f"{number:03}.png")
    Image.fromarray(photo(7, (240, 400))).save(root / "LIVE1/lighthouse3.png")
    return root


def run(
    command: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    results: str | None = "build/results",
) -> None:
    """A command of `training` on `folder` in `tmp_path`, its results there too."""
    words = ["training", *command.split()]
    words += ["--data", str(folder)] if command.split()[0] not in ("figure7", "speed") else []
    words += ["--results", results] if results is not None else []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code in (0, None)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def results_of_a_part(tmp_path: Path) -> Path:
    """Where they go; those of the repository are left alone."""
    assert not (tmp_path / "training").exists()
    return tmp_path / "build/results"


def test_demo_shows_a_gain(planes: list[Luma], capsys: pytest.CaptureFixture[str]) -> None:
    gain = demo(planes[:6], planes[6:], replace(RECIPE, steps=80, warmup=10))
    assert gain > 0.1
    assert "2 images that L4 has not seen" in capsys.readouterr().out


def test_figures_6_and_7_and_table_5(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("figure6 --steps 4 --images 1", folder, tmp_path, monkeypatch, results=None)
    results = results_of_a_part(tmp_path)
    found = rows_of(results / "figure6.csv")
    assert {row["objective"] for row in found} == {"residual", "direct", "edge"}
    assert [row["step"] for row in found if row["objective"] == "edge"] == ["1", "2", "3", "4"]
    layers = figures.filters(results)
    assert {tuple(by_step) for by_step in layers.values()} == {(1, 4)}
    assert {w.shape for by_step in layers.values() for w in by_step.values()} == {(48, 1, 11, 11)}
    run("figure7", folder, tmp_path, monkeypatch)
    run("table5 --images 1", folder, tmp_path, monkeypatch)
    table = (results / "table5.md").read_text()
    assert "| direct | paper | 28.99 | 28.66 | 0.820 |" in table
    assert "4 steps, as all of figure 6" in table
    for name in ("figure6.png", "figure7.png"):
        with Image.open(results / name) as image:
            assert image.width > 500


def test_stopped_figure_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, False, True])
    stopping = figures.Budget(folder, tmp_path / "runs", 4, 1, lambda: next(asked))
    with pytest.raises(InterruptedError, match="stopped at step 2: the same command goes on"):
        figures.figure6(stopping, tmp_path / "stopped")
    going_on = figures.Budget(folder, tmp_path / "runs", 4, 1)
    whole = figures.Budget(folder, tmp_path / "others", 4, 1)
    assert figures.figure6(going_on, tmp_path / "a") == figures.figure6(whole, tmp_path / "b")


def test_figure_5(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("figure5 --steps 1 --images 1", folder, tmp_path, monkeypatch, results=None)
    results = results_of_a_part(tmp_path)
    found = rows_of(results / "figure5.csv")
    assert len({row["network"] for row in found}) == 7
    assert len(found) == 7 * 6
    assert (results / "figure5.png").exists()


def test_figure_8(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("figure8 --steps 1 --images 1 --network l4", folder, tmp_path, monkeypatch, results=None)
    results = results_of_a_part(tmp_path)
    found = rows_of(results / "figure8.csv")
    assert [row["size"] for row in found if row["images"] == "train"] == [
        *("4", "16", "64", "256", "400")
    ]
    assert (results / "figure8.png").exists()


@pytest.mark.parametrize("images", [3, 6])
def test_title_of_figure_8_tells_how_many_images(
    images: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(figures.Budget, "run", lambda self, name, recipe, *_: Run(recipe))
    monkeypatch.setattr(figures, "psnr_gain", lambda _, pairs: len(pairs))
    monkeypatch.setattr(plots, "dataset_size", lambda rows, path, title: titles.append(title))
    run(f"figure8 --images {images} --network l4", folder, tmp_path, monkeypatch)
    seen, unseen = (row["gain"] for row in rows_of(tmp_path / "build/results/figure8.csv")[:2])
    assert (seen, unseen) == (str(min(4, images)), str(images))
    assert titles[0].endswith(f"means over {seen} seen and {unseen} unseen images")


def test_by_its_defaults_a_figure_is_the_repository_s(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"network": "l4", "images": "train", "size": 4, "gain": 1.0}
    monkeypatch.setattr(figures, "figure8", lambda *_: [row])
    run("figure8", folder, tmp_path, monkeypatch, results=None)
    run("figure8 --quality 10", folder, tmp_path, monkeypatch, results=None)
    for place in ("training/results", "build/results"):
        assert (tmp_path / place / "figure8.csv").exists()


def test_figure_4(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("figure4", folder, tmp_path, monkeypatch)
    with Image.open(tmp_path / "build/results/figure4.png") as image:
        assert image.width > 500


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("figure4", "LIVE1 has no lighthouse3, which figure 4 shows"),
        ("figure8 --network l9", "network must be one of"),
        ("table3 --stored --images 1", "leave out --stored or --images"),
        ("table3 --images 0", "greater than or equal to 1"),
    ],
)
def test_what_can_not_be_made_is_told(
    command: str,
    told: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    (data / "LIVE1/lighthouse3.png").unlink()
    words = ["training", *command.split(), "--data", str(data), "--results", "results"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code not in (0, None)
    assert told in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_recipe_of_the_paper(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAPER_CROPS, "l4", (2, 32))
    run("paper --steps 2 --images 1", folder, tmp_path, monkeypatch, results=None)
    results = results_of_a_part(tmp_path)
    found = rows_of(results / "paper.csv")
    assert [(row["objective"], row["step"]) for row in found] == [
        (objective, step) for objective in ("residual", "direct", "edge") for step in ("1", "2")
    ]
    assert all(float(row["loss"]) > 0 for row in found)


def test_units(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("units --network l4 --steps 1 --rate-steps 1", folder, tmp_path, monkeypatch, results=None)
    results = results_of_a_part(tmp_path)
    found = rows_of(results / "units-l4.csv")
    assert {row["when"] for row in found} == {"start", "start, 0 to 1", "step 1"}
    assert len(rows_of(results / "rates-l4.csv")) == 14
    table = (results / "units-l4.md").read_text()
    assert "| initialization | when | layer 1 | layer 2 | layer 3 |" in table
    assert "| initialization | 1 | 2 | 4 | 8 | 16 | 32 | 64 |" in table


def test_rates_that_diverge() -> None:
    rows = [
        {"initialization": kind, "rate": rate, "loss": loss}
        for kind, rate, loss in [
            ("symmetric", 1.0, 0.9),
            ("symmetric", 8.0, 0.8),
            ("plain", 1.0, float("inf")),
        ]
    ]
    assert by_rate(rows) == [
        {"initialization": "symmetric", "1": "0.90", "8": "0.80"},
        {"initialization": "plain", "1": "diverged", "8": "-"},
    ]


def test_speed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("speed --side 64 --rounds 1", folder, tmp_path, monkeypatch, results=None)
    results = results_of_a_part(tmp_path)
    assert [row["network"] for row in rows_of(results / "speed.csv")] == [*("L4", "L8", "ARCNN")]
    assert "| 220.0 | 140000.0 |" in (results / "speed.md").read_text()


def test_figure_7_before_figure_6(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no .*figure7\.npz: run figure6 first"):
        figures.filters(tmp_path)


def test_a_table_of_a_part_leaves_the_whole_one_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "training/results/table3.md"
    whole.parent.mkdir(parents=True)
    whole.write_text("whole")
    run("table3 --stored --no-rivals", folder, tmp_path, monkeypatch, results=None)
    assert whole.read_text() == "whole"
    assert "| L8 | ours | 29." in (tmp_path / "build/results/table3.md").read_text()


@pytest.mark.slow
def test_table_3(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("table3 --images 2", folder, tmp_path, monkeypatch)
    table = (tmp_path / "build/results/table3.md").read_text()
    assert "the first 2 images alone" in table
    assert "| L4 | paper | 29.08 | 28.71 | 0.824 | 31.42 | 30.83 | 0.890 |" in table
    found = {
        (row["method"], row["quality"]): float(row["psnr"] or "nan")
        for row in rows_of(tmp_path / "build/results/table3.csv")
        if row["whose"] == "ours"
    }
    for method in ("spp, best QP", "SA-DCT", "L8, all qualities"):
        assert found[method, "10"] > found["distorted", "10"]


def test_stored_scores_are_those_of_the_export(data: Path) -> None:
    row = tables.own_row("L8, all qualities", "l8-jpeg", "LIVE1", None)
    assert row.values[20] is not None and 31 < row.values[20]["psnr"] < 32


def test_remarks_tell_what_the_loss_was() -> None:
    remarks = [
        tables.own_row(name, f"{name}-q{{}}", "LIVE1", None).remark for name in ("arcnn", "l8")
    ]
    assert remarks == [
        "Q10 trained for PSNR-B and SSIM too",
        "Q20 trained for PSNR-B too, mean of two weights",
    ]


def test_model_that_is_not_there_yet() -> None:
    row = tables.own_row("L9", "l9-q{}", "LIVE1", None)
    assert (row.values, row.remark) == ({10: None, 20: None}, "no l9-q10, l9-q20 yet")
    assert "| L9 | ours | - | - | - | - | - | - | no l9-q10" in tables.markdown([row])


@pytest.mark.parametrize("shape", [(80, 96), (81, 97)], ids=["even", "odd"])
def test_spp_gains(shape: tuple[int, int]) -> None:
    planes = [photo(1, shape), photo(2), photo(3, shape)]
    found = by_spp([jpeg(plane, 10) for plane in planes], 17)
    assert [plane.shape for plane in found] == [shape, (80, 96), shape]
    for after, plane in zip(found, planes, strict=True):
        assert psnr(after, plane) > psnr(jpeg(plane, 10), plane) + 0.2


def test_best_quantizer_of_spp_beats_its_neighbours(planes: list[Luma]) -> None:
    assert [told_qp(quality) for quality in (10, 20)] == [32, 16]
    best = best_qp(planes, 10)
    distorted = [jpeg(plane, 10) for plane in planes[::3]]
    gains = {
        qp: np.mean([psnr(*pair) for pair in zip(by_spp(distorted, qp), planes[::3], strict=True)])
        for qp in (best - 1, best, best + 1)
    }
    assert max(gains, key=lambda qp: gains[qp]) == best


def test_sadct_gains() -> None:
    plane = photo(1)
    (found,) = by_sadct([jpeg(plane, 10)], 10)
    assert psnr(found, plane) > psnr(jpeg(plane, 10), plane) + 0.2


def test_mosaic_of_filters() -> None:
    weights = np.random.default_rng(0).normal(size=(48, 1, 11, 11)).astype(np.float32)
    sheet = plots.mosaic(weights)
    assert sheet.shape == (6 * 12 + 1, 8 * 12 + 1)
    assert (sheet.min(), sheet.max()) == (0, 1)
