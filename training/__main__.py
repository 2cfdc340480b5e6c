"""python -m training train l8-jpeg --data DIR && python -m training export l8-jpeg --data DIR

A run of a minute that shows the loop at work:
python -m training demo --data DIR
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from training.bench import PARTS, bench, draw, machine, print_table
from training.calibrate import calibrate, losses, shown
from training.data import load_folder, origin, read_luma, subset, training_images
from training.experiments import COMMANDS
from training.export import (
    Measurement,
    Results,
    datasets,
    export,
    measure,
    measure_all,
    measure_clips,
    refresh_tables,
    write_metrics,
)
from training.loop import train
from training.memory import keep_freed_memory
from training.processes import processes
from training.recipes import RECIPES, Initialization, Objective, Recipe, paper
from training.reencode import CLIPS, cost_table
from training.samples import Pictures
from training.sources import (
    SOURCES,
    checking_clips,
    drawn_frames,
    gains,
    grainy_frames,
    read_frames,
)
from training.stopping import stop_flag
from training.strength import fit_agreements, fit_part, fit_strengths, training_clips
from training.video import SMALLEST
from vfilter.errors import VdeblockError
from vfilter.weights import ALIASES, Model, load

LONGEST = 64
"""Frames of a clip that training sees."""

CHECKPOINTS = Path("training/checkpoints")
BENCH = Path("build/bench.json")
EVENTS = Path("build/tensorboard")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Name = Annotated[str, typer.Argument(help="One of " + ", ".join(RECIPES) + ".")]
Checkpoints = Annotated[Path, typer.Option(help="Folder of the checkpoints.")]
Data = Annotated[
    Path,
    typer.Option(
        envvar="VDEBLOCK_DATA",
        help="Folder with BSDS500/ and LIVE1/; to train, any folder of images.",
    ),
]


@app.callback()
def quiet() -> None:
    """Train, evaluate and export the networks."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only


@app.command("train")
def train_command(
    name: Name,
    data: Data,
    steps: Annotated[int | None, typer.Option(help="Steps instead of the recipe's.")] = None,
    checkpoints: Checkpoints = CHECKPOINTS,
    recipe: Annotated[str, typer.Option(help="ours, or the paper's: paper.")] = "ours",
    objective: Annotated[str, typer.Option(help="residual, direct or edge.")] = "residual",
    initialization: Annotated[str, typer.Option(help="symmetric or plain.")] = "symmetric",
    images: Annotated[int | None, typer.Option(help="Images to train on, if not all.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the crops in pixels.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate, not the recipe's.")] = None,
    bfloat16: Annotated[
        bool | None, typer.Option(help="Products in bfloat16, or not; else if the device has them.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder of TensorBoard's events.")
    ] = EVENTS,
) -> None:
    """Train one model, or go on with its checkpoint; Ctrl-C writes it and leaves."""
    keep_freed_memory()
    chosen = choose(name, recipe, objective, initialization, steps, crop, rate)
    video = chosen.codec != "jpeg"
    smallest = max(chosen.crop, SMALLEST) if video else chosen.crop
    planes, validation = training_images(data, smallest=smallest)
    if images is not None:
        planes = subset(planes, images)
    clips = training_clips(data / "clips") if video else []
    if video and not clips:
        print(f"no clips in {data / 'clips'}: of photographs in motion alone", flush=True)
    pictures = Pictures(planes, [read_luma(path, LONGEST) for path in clips], origin(data))
    checkpoint = checkpoints / f"{name}.pt"
    with processes() as place:
        run = train(
            chosen,
            pictures,
            validation,
            checkpoint,
            bfloat16=bfloat16,
            tensorboard=tensorboard / name if tensorboard and place.first else None,
            place=place,
            stopped=stop_flag(insistent=place.ranks == 1),
        )
    if run.step < chosen.steps:
        raise InterruptedError(f"stopped at step {run.step}: the same command goes on")
    if place.first:
        print(f"{checkpoint} is at step {run.step}, the last; more --steps lengthen the run")


def choose(
    name: str,
    recipe: str,
    objective: str,
    initialization: str,
    steps: int | None,
    crop: int | None,
    rate: float | None,
) -> Recipe:
    """The recipe of model `name`, varied.

    Raises ValueError if there is no such model, recipe or variation.
    """
    known(name)
    if recipe not in ("ours", "paper"):
        raise ValueError(f"recipe must be ours or paper, got {recipe!r}")
    chosen = RECIPES[name]
    if (objective, initialization) != ("residual", "symmetric"):
        chosen = replace(
            chosen,
            objective=cast(Objective, objective),
            initialization=cast(Initialization, initialization),
            start=None,
            blocking=0.0,
            similarity=0.0,
        )
    if recipe == "paper":
        chosen = paper(chosen)
    return replace(
        chosen,
        steps=chosen.steps if steps is None else steps,
        crop=chosen.crop if crop is None else crop,
        rate=chosen.rate if rate is None else rate,
    )


def known(name: str) -> None:
    """Raises ValueError if there is no model `name`."""
    if name not in RECIPES:
        raise ValueError(f"unknown model {name!r}: name one of {', '.join(RECIPES)}")


@app.command("export")
def export_command(
    name: Name,
    data: Data,
    checkpoints: Checkpoints = CHECKPOINTS,
    models: Annotated[Path, typer.Option(help="Folder of the exported models.")] = Path("models"),
    frames: Annotated[int, typer.Option(help="Frames of each clip that is measured.")] = 5,
    mean_with: Annotated[
        Path | None,
        typer.Option(help="Folder of the model as exported earlier: the mean of both weights."),
    ] = None,
) -> None:
    """Evaluate a checkpoint, and write its weights, metrics and card into MODELS/NAME."""
    known(name)
    export(name, checkpoints / f"{name}.pt", models, _measurements(data, frames), mean_with)


@app.command("strength")
def strength_command(
    data: Data,
    names: Annotated[list[str], typer.Argument(help="Models to fit the strength of.")],
    models: Annotated[Path, typer.Option(help="Folder of the models.")] = Path("models"),
    frames: Annotated[int, typer.Option(help="Frames of each clip that is measured.")] = 5,
    measured: Annotated[bool, typer.Option("--measure/--no-measure")] = True,
) -> None:
    """Fit again how strongly models serve each quality, and where; export does it too.

    And measure again what they gain, which is needless for models of one quality: they are measured
    at strength 1.
    """
    *fits, _, results = _measurements(data, frames)
    for name in names:
        measure_all(models / name, (*fits, results) if measured else fits)
        refresh_tables(models)


def _measurements(data: Path, frames: int) -> tuple[Measurement, ...]:
    """What is measured of a model for its metrics, each with what comes before it in them."""

    def results(model: Model) -> Results:
        if model.codec != "jpeg":
            return measure_clips(model, checking_clips(data / "clips"), frames)
        return measure(model, datasets(data, model))

    def shipped(model: Model) -> bool:
        return model.network.name in ALIASES

    return (
        lambda model: fit_strengths(model, data),
        lambda model: {"fits": fit_part(model, data)},
        lambda model: {"agreements": fit_agreements(model, data)},
        lambda model: {"maxima": calibrate(model, shown(data)) if shipped(model) else []},
        lambda model: {"results": results(model)},
    )


@app.command("calibrate")
def calibrate_command(
    data: Data,
    names: Annotated[list[str], typer.Argument(help="Models to calibrate.")],
    models: Annotated[Path, typer.Option(help="Folder of the models.")] = Path("models"),
) -> None:
    """Measure the highest activations of models, which int8 needs; export does it too."""
    planes = shown(data)
    for name in names:
        model = load(models / name)
        write_metrics(models / name, model.metrics | {"maxima": calibrate(model, planes)})


@app.command("int8")
def int8_command(
    data: Data,
    names: Annotated[list[str] | None, typer.Argument(help="Models, if not those for all.")] = None,
) -> None:
    """Measure what int8 loses in PSNR on LIVE1, beside the processor's default precision."""
    planes = load_folder(data / "LIVE1")
    for name in names or list(ALIASES.values()):
        for row in losses(load(name), planes):
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


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
    setting: Annotated[
        list[int] | None, typer.Option(help="Crf, scale or quality, if not ours; repeatable.")
    ] = None,
    drawn: Annotated[bool, typer.Option("--drawn", help="On films of text and drawings.")] = False,
    grain: Annotated[bool, typer.Option("--grain", help="On still pictures with grain.")] = False,
) -> None:
    """Measure what the default gains on each kind of source, on half of the clips in DIR/clips.

    With --drawn on films that are drawn, in place of the clips; with --grain on their first frames,
    standing still, each time with other grain.
    """
    if drawn and grain:
        raise ValueError("--drawn or --grain, not both")
    chosen = checking_clips(data / "clips")[:clips]
    if drawn:
        films = drawn_frames(frames)
    elif grain:
        films = grainy_frames(chosen, frames)
    else:
        films = [read_frames(clip, frames) for clip in chosen]
        print("clips:", ", ".join(clip.stem for clip in chosen))
    for row in gains(films, model, codec or list(SOURCES), setting or ()):
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


@app.command("bench")
def bench_command(
    output: Annotated[Path, typer.Option(help="JSON file of all that is measured.")] = BENCH,
    part: Annotated[
        list[str] | None,
        typer.Option(help=f"Part to measure, if not all: {', '.join(PARTS)}; repeatable."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Small planes, few frames: to see it work.")] = False,
) -> None:
    """Measure how fast the networks restore on this machine, beside what others run.

    Parts measured before, by the same machine and versions, stay in the JSON file.
    """
    result: dict[str, Any] = {"machine": machine()}
    if part and output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if before["machine"] == result["machine"]:
            result = before
    output.parent.mkdir(parents=True, exist_ok=True)
    for name in part or PARTS:
        result |= bench(name, quick=quick)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_table(result)


@app.command("bench-plot")
def bench_plot_command(
    picture: Annotated[Path, typer.Argument(help="PNG to draw.")],
    measured: Annotated[Path, typer.Option(help="JSON file of `bench`.")] = BENCH,
) -> None:
    """Draw frames a second over the frame's size, by what `bench` measured."""
    draw(json.loads(measured.read_text(encoding="utf-8")), picture)


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Run the command line; what is wrong with the input is told in one line."""
    try:
        app()
    except InterruptedError as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(130) from None
    except (OSError, ValueError, VdeblockError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
