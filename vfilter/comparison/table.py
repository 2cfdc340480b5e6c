"""python -m vfilter.comparison.table CLIP... --frames 25

The table of the README, in Markdown: what each filter gains at its best, over several clips and
degradations, and the command that made it.
On a laptop: python -m vfilter.comparison.table CLIP --frames 3 --model l4 --kinds mjpeg:10
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from vfilter.comparison.results import Comparison, Run, shown
from vfilter.comparison.rivals import RIVALS

KINDS = "mjpeg:10,mjpeg:20,mjpeg:40,mpeg2:8,h264:32"


def rows(
    clips: Sequence[Path], kinds: Sequence[str], model: str, against: Sequence[str], frames: int
) -> Iterator[list[str]]:
    """The cells of a row for each of `kinds`, means over `clips`.

    The PSNR of the degraded film in dB; gain in dB of ours and of each rival at its best, with its
    speed as a multiple of ours.
    """
    from vfilter.comparison.runs import compare

    for kind in kinds:
        results = [
            compare(
                clip, degrade=kind, models=[model], against=against, frames=frames, perceptual=False
            )
            for clip in clips
        ]
        yield [kind, *cells(results, against)]


def cells(results: Sequence[Comparison], against: Sequence[str]) -> list[str]:
    """The cells of one row but its head: of the film, of ours and of the rivals `against`."""
    ours: list[Run | None] = [result.runs[1] for result in results]
    rivals: list[list[Run | None]] = [[result.best(name) for result in results] for name in against]
    source = np.mean([result.mean(result.runs[0], "psnr") for result in results])
    gains = [shown(_gain(results, runs), 2) for runs in [ours, *rivals]]
    paces = [shown(_pace(results, runs), 2) for runs in rivals]
    others = [f"{gain} ({pace}x)" for gain, pace in zip(gains[1:], paces, strict=True)]
    return [shown(float(source), 2), gains[0], *others]


def _gain(results: Sequence[Comparison], runs: Iterable[Run | None]) -> float:
    """Mean gain of `runs` in PSNR over the film, in dB; 0 for a rival that failed altogether."""
    gains = [
        result.mean(run, "psnr") - result.mean(result.runs[0], "psnr") if run else 0.0
        for result, run in zip(results, runs, strict=True)
    ]
    return float(np.mean(gains))


def _pace(results: Sequence[Comparison], runs: Iterable[Run | None]) -> float:
    """Geometric mean of the speed of `runs` by that of ours, the second run of each result."""
    ratios = [
        run.fps(result.frames) / result.runs[1].fps(result.frames)
        for result, run in zip(results, runs, strict=True)
        if run is not None
    ]
    return float(np.exp(np.nanmean(np.log(ratios)))) if ratios else float("nan")


def main(
    clips: list[Path],
    frames: Annotated[int, typer.Option(min=1, help="Most frames of each clip.")] = 25,
    model: Annotated[str, typer.Option(help="Model of ours.")] = "l8",
    kinds: Annotated[str, typer.Option(help="Degradations, with commas.")] = KINDS,
    against: Annotated[str, typer.Option(help="Filters, with commas.")] = ",".join(RIVALS),
) -> None:
    """Print the table in Markdown, a row as soon as it is done."""
    names = against.split(",")
    heads = ["source", "PSNR dB", model, *names]
    given = " ".join(Path(argument).name for argument in sys.argv[1:])
    print(f"`python -m vfilter.comparison.table {given}`\n")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for row in rows(clips, kinds.split(","), model, names, frames):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
