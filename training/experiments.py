"""The commands of the paper's tables, figures and experiments; `training/README.md` lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Annotated, cast

import typer

from training import figures, plots, tables, units
from training.data import Luma, image_paths, jpeg, load_folder, training_images
from training.demo import RECIPE, demo
from training.recipes import Objective
from training.samples import Pictures
from training.speed import SIDE, speed
from training.stopping import stop_flag
from vfilter.comparison.metrics import psnr
from vfilter.errors import ModelError
from vfilter.restorer import Restorer
from vfilter.weights import load

Data = Annotated[
    Path, typer.Option(envvar="VDEBLOCK_DATA", help="Folder with BSDS500/ and LIVE1/.")
]
Made = Annotated[Path, typer.Option(help="Folder of the results.")]
Results = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the results, if not training/results; build/results of other than defaults."
    ),
]
Images = Annotated[int | None, typer.Option(min=1, help="Images of each data set, if not all.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of every training of the figure.")]
Some = Annotated[int, typer.Option(min=1, help="Images that a point of a curve is the mean of.")]
Runs = Annotated[Path, typer.Option(help="Folder of the trainings; another one for other data.")]
Stored = Annotated[bool, typer.Option(help="Take our scores from the models' metrics.json.")]
Rivals = Annotated[bool, typer.Option(help="Run spp and SA-DCT too, which takes minutes.")]

RESULTS = Path("training/results")
PARTIAL = Path("build/results")
RUNS = Path("build/figures")

UNITS = """# Initialization, {network}

Units that are dead / always on, by hidden layer, at the start and after {steps} steps of our
recipe on a small scale (quality 10; a unit counts that is above zero at less than 1 % of the
pixels, or at more than 99 %). "0 to 1" is with luma that is not centred:

{units}
Loss after {rate_steps} steps of the paper's SGD, residual, relative to that of leaving the image as
it is, by learning rate:

{rates}"""

CROP = (slice(40, 200), slice(200, 360))
"""Rows and columns of lighthouse3 that figure 4 shows: its lantern, rails and sky."""


def table3(
    data: Data,
    images: Images = None,
    stored: Stored = False,
    rivals: Rivals = True,
    results: Results = None,
) -> None:
    """Table 3: PSNR, PSNR-B and SSIM on LIVE1 at qualities 10 and 20."""
    rows = tables.comparison("LIVE1", data, images, stored=stored, rivals=rivals)
    folder = _folder(results, table3, images=images, rivals=rivals)
    tables.write(rows, folder / "table3", _on("Table 3: LIVE1", images))


def table4(
    data: Data,
    images: Images = None,
    stored: Stored = False,
    rivals: Rivals = True,
    results: Results = None,
) -> None:
    """Table 4: the same on the validation set of BSDS500."""
    rows = tables.comparison("BSDS500 val", data, images, stored=stored, rivals=rivals)
    folder = _folder(results, table4, images=images, rivals=rivals)
    tables.write(rows, folder / "table4", _on("Table 4: BSDS500 val", images))


def table5(data: Data, images: Images = None, results: Results = None) -> None:
    """Table 5: L4 by objective on LIVE1 at quality 10; figure6 trains the networks."""
    rows = tables.objectives(data, results or RESULTS, images)
    folder = _folder(results, table5, images=images)
    tables.write(rows, folder / "table5", _on("Table 5: objectives, L4, LIVE1", images))


def _folder(results: Path | None, command: Callable[..., None], **given: object) -> Path:
    """Where a result goes: one by other than the command's defaults does not take their place."""
    usual = signature(command).parameters
    whole = all(usual[name].default == value for name, value in given.items())
    return results or (RESULTS if whole else PARTIAL)


def _on(title: str, images: int | None) -> str:
    return title if images is None else f"{title}, the first {images} images alone"


def figure4(data: Data, results: Made = RESULTS) -> None:
    """Figure 4: a part of lighthouse3 at quality 20, distorted, restored and original."""
    folder = data / "LIVE1"
    names = [path.stem for path in image_paths(folder)]
    if "lighthouse3" not in names:
        raise ValueError(f"{folder} has no lighthouse3, which figure 4 shows")
    plane = load_folder(folder)[names.index("lighthouse3")]
    distorted = jpeg(plane, 20)
    whole = {"distorted": distorted}
    for title, model in (("AR-CNN", "arcnn-q20"), ("L8", "l8-q20")):
        try:
            with Restorer(load(model), precision="fp32") as restorer:
                whole[title] = restorer.luma(distorted)
        except ModelError:
            print(f"no {title}: there is no model {model} yet")
    panels: dict[str, Luma] = {
        f"{title}, {psnr(restored, plane):.2f} dB": restored[CROP]
        for title, restored in whole.items()
    }
    results.mkdir(parents=True, exist_ok=True)
    title = "lighthouse3, quality 20; PSNR of the whole image"
    plots.crops(panels | {"original": plane[CROP]}, results / "figure4.png", title)


def figure5(
    data: Data,
    steps: Steps = 600,
    images: Some = 6,
    objective: Annotated[str, typer.Option(help="residual, direct or edge.")] = "residual",
    runs: Runs = RUNS,
    results: Results = None,
) -> None:
    """Figure 5: IPSNR over quality of L4 trained for one quality each, and for all."""
    chosen = cast(Objective, objective)
    rows = figures.figure5(figures.Budget(data, runs, steps, images, stop_flag()), chosen)
    results = _folder(results, figure5, steps=steps, images=images)
    name = "figure5" if objective == "residual" else f"figure5-{objective}"
    figures.write_rows(rows, results / f"{name}.csv")
    title = f"Figure 5: L4, {objective}, {steps} steps each; {images} images of LIVE1"
    plots.lines(rows, "network", "quality", results / f"{name}.png", title, ticks=True)


def figure6(
    data: Data,
    steps: Steps = 2000,
    images: Some = 6,
    runs: Runs = RUNS,
    results: Results = None,
) -> None:
    """Figure 6: IPSNR over steps of L4 by objective, at quality 10; table5 and figure7 use it."""
    results = _folder(results, figure6, steps=steps, images=images)
    rows = figures.figure6(figures.Budget(data, runs, steps, images, stop_flag()), results)
    figures.write_rows(rows, results / "figure6.csv")
    title = f"Figure 6: L4, quality 10, our recipe, {steps} steps; {images} images of BSDS500 val"
    plots.lines(rows, "objective", "step", results / "figure6.png", title, ticks=False)


def figure7(results: Made = RESULTS) -> None:
    """Figure 7: the first layer's filters as they form, by objective, from figure6."""
    title = "Figure 7: first layer of L4, quality 10, our recipe"
    plots.first_layers(figures.filters(results), results / "figure7.png", title)


def figure8(
    data: Data,
    steps: Steps = 1000,
    images: Some = 6,
    network: Annotated[list[str] | None, typer.Option(help="l4 or l8; repeatable.")] = None,
    quality: Annotated[int, typer.Option(help="JPEG quality.")] = 20,
    runs: Runs = RUNS,
    results: Results = None,
) -> None:
    """Figure 8: IPSNR on seen and unseen images over the number of training images."""
    budget = figures.Budget(data, runs, steps, images, stop_flag())
    rows = figures.figure8(budget, network or ["l4", "l8"], quality)
    given = {"steps": steps, "images": images, "network": network, "quality": quality}
    results = _folder(results, figure8, **given)
    figures.write_rows(rows, results / "figure8.csv")
    means = f"means over {min(images, *figures.SIZES)} seen and {images} unseen images"
    title = f"Figure 8: quality {quality}, {steps} steps each; {means}"
    plots.dataset_size(rows, results / "figure8.png", title)


def paper_command(
    data: Data,
    steps: Steps = 200,
    images: Some = 4,
    runs: Runs = RUNS,
    results: Results = None,
) -> None:
    """The paper's own recipe over its first iterations of 250,000: L4, quality 10, by objective."""
    budget = figures.Budget(data, runs, steps, images, stop_flag())
    rows = figures.first_iterations(budget)
    results = _folder(results, paper_command, steps=steps, images=images)
    figures.write_rows(rows, results / "paper.csv")
    title = f"L4, quality 10, the paper's recipe; {images} images of BSDS500 val"
    plots.lines(rows, "objective", "step", results / "paper.png", title, ticks=False)


def units_command(
    data: Data,
    network: Annotated[str, typer.Option(help="l4 or l8.")] = "l8",
    steps: Annotated[int, typer.Option(help="Steps after which units are looked at again.")] = 200,
    rate_steps: Annotated[int, typer.Option(help="Steps of each rate that is tried.")] = 150,
    results: Results = None,
) -> None:
    """Dead and always-on units, and the highest learning rate, with and without symmetry."""
    recipe = figures.Budget(data, RUNS, steps, 0).recipe(network, 10, 10, "residual")
    planes, validation = training_images(data, smallest=recipe.crop)
    pictures = Pictures(planes)
    seen = [plane[:160, :160] for plane in validation]
    rows = list(units.saturation(recipe, pictures, seen))
    results = _folder(results, units_command, steps=steps, rate_steps=rate_steps)
    figures.write_rows(rows, results / f"units-{network}.csv")
    rates = list(units.highest_rates(replace(recipe, steps=rate_steps), pictures))
    figures.write_rows(rates, results / f"rates-{network}.csv")
    text = UNITS.format(
        network=network.upper(),
        steps=steps,
        rate_steps=rate_steps,
        units=tables.plain(units.by_layer(rows)),
        rates=tables.plain(units.by_rate(rates)),
    )
    print(text)
    (results / f"units-{network}.md").write_text(text, encoding="utf-8")


def speed_command(
    side: Annotated[int, typer.Option(help="Side of the plane in pixels.")] = SIDE,
    rounds: Annotated[int, typer.Option(min=1, help="Timings whose median is told.")] = 5,
    results: Results = None,
) -> None:
    """Milliseconds a megapixel, FLOP per pixel and FLOP/s, beside the paper's."""
    rows = speed(side, rounds)
    results = _folder(results, speed_command, side=side, rounds=rounds)
    figures.write_rows(rows, results / "speed.csv")
    text = tables.plain(rows)
    print(text)
    (results / "speed.md").write_text(f"# Speed\n\n{text}", encoding="utf-8")


def demo_command(
    data: Data,
    seconds: Annotated[float, typer.Option(help="Longest time of the training.")] = 90.0,
) -> None:
    """Train L4 from nothing for a minute or two, and see what it gains on unseen images."""
    planes, validation = training_images(data, smallest=RECIPE.crop)
    gain = demo(planes, validation, seconds=seconds)
    print(f"gain          {gain:+.2f} dB")


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo_command,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "figure4": figure4,
    "figure5": figure5,
    "figure6": figure6,
    "figure7": figure7,
    "figure8": figure8,
    "paper": paper_command,
    "units": units_command,
    "speed": speed_command,
}
