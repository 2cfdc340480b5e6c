"""python -m training train l8-jpeg --data DIR && python -m training export l8-jpeg --data DIR

A run of seconds that shows the loop at work:
python -m training train l4-jpeg --data DIR --steps 100 --checkpoints /tmp
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from training.bench import bench, print_table
from training.data import halved, load_folder
from training.export import SETS, export
from training.loop import Recipe, train
from training.reencode import CLIPS, cost_table
from training.sources import checking_clips, gains
from training.strength import (
    ENCODERS,
    Curve,
    fit_codec,
    fit_jpeg,
    read_clip,
    training_clips,
)
from vfilter.weights import Model

RECIPES = {
    "l8-jpeg": Recipe(network="l8", qualities=(10, 60), fine=0.2, steps=11500),
    "l4-jpeg": Recipe(
        network="l4",
        qualities=(10, 60),
        fine=0.1,
        slope=2.0,
        balance=0.0,
        steps=17000,
        batch=4,
        rate=1e-3,
    ),
}

CHECKPOINTS = Path("training/checkpoints")

app = typer.Typer(no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="One of " + ", ".join(RECIPES) + ".")]
Checkpoints = Annotated[Path, typer.Option(help="Folder of the checkpoints.")]
Data = Annotated[
    Path, typer.Option(envvar="VDEBLOCK_DATA", help="Folder with BSDS500/ and LIVE1/.")
]


@app.callback()
def main() -> None:
    """Train, evaluate and export the networks."""


@app.command("train")
def train_command(
    name: Name,
    data: Data,
    steps: Annotated[int | None, typer.Option(help="Steps instead of the recipe's.")] = None,
    checkpoints: Checkpoints = CHECKPOINTS,
    bfloat16: Annotated[bool, typer.Option(help="Autocast, for processors that have it.")] = False,
) -> None:
    """Train one model, or go on with its checkpoint."""
    recipe = RECIPES[name]
    if steps is not None:
        recipe = replace(recipe, steps=steps)
    planes = load_folder(data / "BSDS500/train") + load_folder(data / "BSDS500/test")
    validation = load_folder(data / "BSDS500/val")[::10]
    train(recipe, planes, validation, checkpoints / f"{name}.pt", bfloat16=bfloat16)


@app.command("export")
def export_command(
    name: Name,
    data: Data,
    checkpoints: Checkpoints = CHECKPOINTS,
    models: Annotated[Path, typer.Option(help="Folder of the exported models.")] = Path("models"),
) -> None:
    """Evaluate a checkpoint, and write its weights, metrics and card into MODELS/NAME."""
    sets = {
        dataset: (load_folder(data / folder), qualities)
        for dataset, (folder, qualities) in SETS.items()
    }
    stills = [halved(plane) for plane in load_folder(data / "BSDS500/train")[::10]]
    clips = [read_clip(path) for path in training_clips(data / "clips")]

    def strength(model: Model) -> dict[str, Curve]:
        curves = {codec: fit_codec(model, codec, clips) for codec in ENCODERS}
        return curves | {"mjpeg": fit_jpeg(model, stills)}

    export(name, checkpoints / f"{name}.pt", models, sets, strength)


@app.command("reencode")
def reencode_command(
    data: Data,
    model: Annotated[str, typer.Option(help="Model that restores.")] = "l8",
    encoder: Annotated[str, typer.Option(help="FFmpeg's name of the encoder.")] = "libx264",
    frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 10,
) -> None:
    """Measure what encoding the restored frames of DIR/clips costs, by constant rate factor."""
    clips = [data / "clips" / f"{name}.mkv" for name in CLIPS]
    for row in cost_table(clips, model, encoder, frames):
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


@app.command("sources")
def sources_command(
    data: Data,
    model: Annotated[str, typer.Option(help="Model that restores.")] = "l8",
    frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 10,
    clips: Annotated[int | None, typer.Option(help="Clips, if not all.")] = None,
) -> None:
    """Measure what the default gains on each kind of source, on half of the clips in DIR/clips."""
    for row in gains(checking_clips(data / "clips")[:clips], model, frames):
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


@app.command("bench")
def bench_command() -> None:
    """Measure how fast the networks restore on this machine."""
    print_table(bench())


if __name__ == "__main__":
    app()
