"""python -m training train l8-jpeg --data DIR && python -m training export l8-jpeg --data DIR

A run of seconds that shows the loop at work:
python -m training train l4-jpeg --data DIR --steps 100 --checkpoints /tmp
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from training.bench import bench, print_table
from training.data import halved, load_folder, read_luma
from training.export import SETS, Results, export, measure, measure_clips
from training.loop import Pictures, Recipe, train
from training.reencode import CLIPS, cost_table
from training.sources import SOURCES, checking_clips, gains
from training.strength import (
    FITTED,
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
    "l8-h264": Recipe(
        network="l8",
        codec="h264",
        qualities=(20, 42),
        start="l8-jpeg",
        steps=10000,
        decay=0.5,
    ),
    "l8-mpeg": Recipe(
        network="l8",
        codec="mpeg",
        qualities=(2, 31),
        start="l8-jpeg",
        balance=1.0,
        steps=5000,
        decay=0.5,
    ),
    "l4-h264": Recipe(
        network="l4",
        codec="h264",
        qualities=(16, 42),
        start="l4-jpeg",
        balance=1.0,
        steps=3500,
        batch=4,
        rate=1e-3,
        decay=0.5,
    ),
    "l4-mpeg": Recipe(
        network="l4",
        codec="mpeg",
        qualities=(2, 31),
        start="l4-jpeg",
        balance=1.0,
        steps=3500,
        batch=4,
        rate=1e-3,
        decay=0.5,
    ),
}

RECIPES |= {
    f"l8-q{quality}": Recipe(
        network="l8", qualities=(quality, quality), start="l8-jpeg", balance=0.0, steps=5000
    )
    for quality in (10, 20)
}
RECIPES |= {
    f"l4-q{quality}": Recipe(
        network="l4",
        qualities=(quality, quality),
        start="l4-jpeg",
        balance=0.0,
        steps=8000,
        rate=1e-3,
    )
    for quality in (10, 20)
}
RECIPES |= {
    f"arcnn-q{quality}": Recipe(
        network="arcnn",
        qualities=(quality, quality),
        balance=0.0,
        steps=10000,
        batch=4,
        rate=1e-3,
    )
    for quality in (10, 20)
}

LONGEST = 64
"""Frames of a clip that training sees."""

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
    os.environ.setdefault("SVT_LOG", "1")  # errors only


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
    clips = [read_luma(path, LONGEST) for path in training_clips(data / "clips")]
    validation = load_folder(data / "BSDS500/val")[::10]
    pictures = Pictures(planes, clips if recipe.codec != "jpeg" else ())
    train(recipe, pictures, validation, checkpoints / f"{name}.pt", bfloat16=bfloat16)


@app.command("export")
def export_command(
    name: Name,
    data: Data,
    checkpoints: Checkpoints = CHECKPOINTS,
    models: Annotated[Path, typer.Option(help="Folder of the exported models.")] = Path("models"),
    frames: Annotated[int, typer.Option(help="Frames of each clip that is measured.")] = 5,
) -> None:
    """Evaluate a checkpoint, and write its weights, metrics and card into MODELS/NAME."""

    def results(model: Model) -> Results:
        if model.codec != "jpeg":
            return measure_clips(model, checking_clips(data / "clips"), frames)
        sets = {
            dataset: (load_folder(data / folder), qualities)
            for dataset, (folder, qualities) in SETS.items()
        }
        return measure(model, sets)

    def strength(model: Model) -> dict[str, Curve]:
        clips = [read_clip(path) for path in training_clips(data / "clips")]
        stills = [halved(plane) for plane in load_folder(data / "BSDS500/train")[::10]]
        curves = {codec: fit_codec(model, codec, clips) for codec in FITTED[model.codec]}
        return curves | ({"mjpeg": fit_jpeg(model, stills)} if model.codec == "jpeg" else {})

    export(name, checkpoints / f"{name}.pt", models, results, strength)


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
    codec: Annotated[list[str] | None, typer.Option(help="Codec, if not all; repeatable.")] = None,
) -> None:
    """Measure what the default gains on each kind of source, on half of the clips in DIR/clips."""
    chosen = checking_clips(data / "clips")[:clips]
    for row in gains(chosen, model, frames, codec or list(SOURCES)):
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


@app.command("bench")
def bench_command() -> None:
    """Measure how fast the networks restore on this machine."""
    print_table(bench())


if __name__ == "__main__":
    app()
