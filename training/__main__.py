"""python -m training train l8-jpeg --data DIR

A run of seconds that shows the loop at work:
python -m training train l4-jpeg --data DIR --steps 100 --checkpoints /tmp
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from training.data import load_folder
from training.loop import Recipe, train

RECIPES = {
    "l8-jpeg": Recipe(network="l8", qualities=(10, 60), fine=0.3, steps=11000),
    "l4-jpeg": Recipe(network="l4", qualities=(10, 60), fine=0.3, steps=10000),
}

app = typer.Typer(no_args_is_help=True, add_completion=False)

Data = Annotated[
    Path, typer.Option(envvar="VDEBLOCK_DATA", help="Folder with BSDS500/ and LIVE1/.")
]


@app.callback()
def main() -> None:
    """Train, evaluate and export the networks."""


@app.command("train")
def train_command(
    name: Annotated[str, typer.Argument(help="One of " + ", ".join(RECIPES) + ".")],
    data: Data,
    steps: Annotated[int | None, typer.Option(help="Steps instead of the recipe's.")] = None,
    checkpoints: Annotated[Path, typer.Option()] = Path("training/checkpoints"),
    bfloat16: Annotated[bool, typer.Option(help="Autocast, for processors that have it.")] = False,
) -> None:
    """Train one model, or go on with its checkpoint."""
    recipe = RECIPES[name]
    if steps is not None:
        recipe = replace(recipe, steps=steps)
    planes = load_folder(data / "BSDS500/train") + load_folder(data / "BSDS500/test")
    validation = load_folder(data / "BSDS500/val")[::10]
    train(recipe, planes, validation, checkpoints / f"{name}.pt", bfloat16=bfloat16)


if __name__ == "__main__":
    app()
