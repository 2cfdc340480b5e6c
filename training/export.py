"""Export of a checkpoint as a shipped model: weights, metrics, model card, table of all models."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save

from training.data import Luma
from training.evaluate import evaluate
from training.loop import EMA, FINEST, Recipe
from training.strength import Curve
from vfilter.restorer import Restorer
from vfilter.weights import METRICS, OBJECTIVE, WEIGHTS, Model, load

SETS = {
    "LIVE1": ("LIVE1", (10, 20, 40, 60, 80, 90)),
    "BSDS500 val": ("BSDS500/val", (10, 20)),
}
"""Data sets of the paper's tables 3 and 4: folder, and JPEG qualities of the evaluation."""

HINTED = (10, 20, 60, 90)
"""JPEG qualities at which restoration with hints is evaluated too."""

PROTOCOL = (
    "Limited-range BT.601 luma; 8-bit grayscale JPEG by libjpeg; 8-bit outputs; whole images, "
    "mean over the images; SSIM with a uniform 8x8 window, as in the paper, and with the 11x11 "
    "Gaussian window; computed in fp32"
)

VERSION = "1"
"""Of the exported weights; counts up when a shipped name gets weights of another recipe."""

PAPER = {
    "LIVE1": {
        "10": {"L4": "29.08 / 28.71 / .824"},
        "20": {"L4": "31.42 / 30.83 / .890", "L8": "31.51 / 30.92 / .891"},
    },
    "BSDS500 val": {
        "10": {"L4": "28.75 / 28.29 / .800"},
        "20": {"L4": "30.90 / 30.13 / .871", "L8": "30.99 / 30.19 / .872"},
    },
}
"""PSNR / PSNR-B / SSIM 8x8 of the paper's tables 3 and 4, of networks for that quality alone."""

TABLE = re.compile(r"(<!-- table of models -->\n).*(<!-- end of table -->)", re.DOTALL)
"""What `refresh_table` writes between in `models/README.md`."""

README = """# Models

One folder each: `weights.safetensors`, `metrics.json` and the model card, `README.md`. The
numbers are IPSNR, the gain in PSNR over the JPEG in dB, under the protocol in the cards.

<!-- table of models -->
<!-- end of table -->
"""

HISTORY = {
    "l8-jpeg": """
These weights took a detour that the command doesn't: the first 4,500 steps sampled the quality
evenly over 10 to 60, 30 % of the crops above, and weighted them by their table scale to the -0.5;
13,000, then 12,000 steps were asked at first, which moved the beginning of the falling rate.
""",
    "l4-jpeg": """
These weights took a detour that the command doesn't: the first 7,000 steps sampled as many crops
per octave of quality, 20 % above, and weighted them by their table scale to the -0.25.
""",
}
"""What a run did that its recipe doesn't say."""

CARD = """# {name}

The network {network} of Svoboda, Hradis, Barina and Zemcik, "Compression Artifacts Removal Using
Convolutional Neural Networks" (WSCG 2016), trained to predict what JPEG compression took from a
luma plane. It is blind: one set of weights for all qualities, without being told which.

| | |
|---|---|
| network | {network}: {layers} layers, {parameters:,} parameters, {flop:,} FLOP per pixel |
| receptive field | {field}x{field} pixels |
| input, output | luma as code / full scale - 0.5; the residual to add, on the same scale |
| images | BSDS500 train and test, 400 photos, their luma (limited-range BT.601) |
| compression | grayscale JPEG, quality q {low} to {high}, density as q^-{slope:g}{fine} |
| crops | {crop}x{crop} pixels, flipped and transposed at random, {batch} a step |
| objective | residual; squared error, weight of a crop: its table scale to the -{balance:g} |
| initialization | Xavier, every filter made zero-mean; last layer Gaussian of deviation 0.001 |
| optimizer | AdamW, weight decay {weight_decay:g}, gradient norm at most {clip:g} |
| learning rate | {rate:g} after {warmup} steps, falling to zero in the last {decay:.0%} |
| weights | average of the steps' weights with decay {ema} |
| steps | {step:,} of {steps:,}, {gigapixels:.2f} Gpx seen |
| time | {minutes:.0f} min of steps, on a processor, without evaluations |
| seed | {seed} |
| commit | {commit} |
| licence | MIT |

## Recipe

    python -m training train {name} --data DIR --steps {steps}
    python -m training export {name} --data DIR
{history}
## Numbers

{protocol}

Cells are PSNR / PSNR-B / SSIM 8x8 / SSIM Gaussian; gain is IPSNR in dB. "With hints" is the gain
where the stream tells its quantization table: the residual is scaled by the strength fitted for
that quality, and the result projected onto what the table leaves possible. The paper's columns
are of networks trained for that quality alone, without SSIM Gaussian.

{tables}
## Limits

- Trained on JPEG only: what it does to the artifacts of other codecs is not measured.
- Trained on photos only: no drawings, screens or text.
- Luma only: chroma is left as it is.
"""


def export(
    name: str,
    checkpoint: Path,
    models: Path,
    sets: Mapping[str, tuple[Sequence[Luma], Sequence[int]]],
    strength: Callable[[Model], dict[str, Curve]] = lambda _: {},
) -> Model:
    """Write `models`/`name`/ from a checkpoint and refresh the table of `models`.

    sets: originals and JPEG qualities, by data set, that the averaged weights are evaluated on.
    strength: fits the curves of the strength by codec (`training.strength`).
    """
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    folder = models / name
    write_weights(state, folder)
    (folder / METRICS).unlink(missing_ok=True)
    metrics = {
        "protocol": PROTOCOL,
        "training": {key: state[key] for key in ("recipe", "step", "seconds")},
        "strength": strength(load(folder)),
    }
    _write_metrics(folder, metrics)
    _write_metrics(folder, metrics | {"results": measure(load(folder), sets)})
    model = load(folder)
    (folder / "README.md").write_text(card(model), encoding="utf-8")
    refresh_table(models)
    return model


def _write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    (folder / METRICS).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def write_weights(state: Mapping[str, Any], folder: Path) -> None:
    """Write the averaged weights of a checkpoint, with metadata, into `folder`."""
    recipe = Recipe(**state["recipe"])
    low, high = recipe.qualities
    metadata = {
        "network": recipe.network,
        "objective": OBJECTIVE,
        "codec": "jpeg",
        "quality_min": str(low),
        "quality_max": str(FINEST if recipe.fine > 0 else high),
        "steps": str(state["step"]),
        "commit": commit(),
        "version": VERSION,
    }
    arrays = {name: value.float().contiguous().numpy() for name, value in state["average"].items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(save(arrays, metadata))


def commit() -> str:
    """Git hash of the checked-out code; "unknown" outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--verify", "-q", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return result.stdout.strip() or "unknown"


def measure(
    model: Model, sets: Mapping[str, tuple[Sequence[Luma], Sequence[int]]]
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Rounded scores by data set, quality, kind (`evaluate`) and metric."""
    results: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    with Restorer(model, precision="fp32") as restorer:
        for dataset, (planes, qualities) in sets.items():
            results[dataset] = {}
            for quality in qualities:
                rows = evaluate(restorer, planes, quality, hinted=quality in HINTED)
                results[dataset][str(quality)] = {
                    kind: {metric: round(value, 5) for metric, value in row.items()}
                    for kind, row in rows.items()
                }
                gain = rows["restored"]["psnr"] - rows["distorted"]["psnr"]
                print(f"{dataset} Q{quality}  gain {gain:+.3f} dB", flush=True)
    return results


def card(model: Model) -> str:
    """The model card, made from the metrics and metadata of `model`."""
    training = model.metrics["training"]
    recipe = Recipe(**training["recipe"])
    low, high = recipe.qualities
    fine = f"; {recipe.fine:.0%} of the crops {high + 1} to {FINEST}" if recipe.fine > 0 else ""
    fields = asdict(recipe) | {
        "name": model.name,
        "network": model.network.name.upper(),
        "layers": len(model.network.layers),
        "parameters": model.network.parameters,
        "flop": model.network.flop_per_pixel,
        "field": 2 * model.network.radius + 1,
        "low": low,
        "high": high,
        "fine": fine,
        "ema": EMA,
        "history": HISTORY.get(model.name, ""),
        "step": training["step"],
        "gigapixels": training["step"] * recipe.batch * recipe.crop**2 / 1e9,
        "minutes": training["seconds"] / 60,
        "commit": model.commit,
        "protocol": textwrap.fill(f"{model.metrics['protocol']}.", 98),
        "tables": "\n".join(
            _numbers(dataset, rows) for dataset, rows in model.metrics["results"].items()
        ),
    }
    return CARD.format(**fields)


def _numbers(dataset: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The table of one data set."""
    lines = [
        f"| {dataset} | distorted | restored | gain | with hints | paper's L4 | paper's L8 |",
        "|---|---|---|---|---|---|---|",
    ]
    for quality, row in rows.items():
        paper = PAPER.get(dataset, {}).get(quality, {})
        gain = row["restored"]["psnr"] - row["distorted"]["psnr"]
        hinted = (
            f"{row['hinted']['psnr'] - row['distorted']['psnr']:+.2f}" if "hinted" in row else ""
        )
        lines.append(
            f"| Q{quality} | {_cell(row['distorted'])} | {_cell(row['restored'])} | {gain:+.2f} "
            f"| {hinted} | {paper.get('L4', '')} | {paper.get('L8', '')} |"
        )
    return "\n".join([*lines, ""])


def _cell(row: Mapping[str, float]) -> str:
    ssims = " / ".join(f"{row[name]:.4f}".lstrip("0") for name in ("ssim_uniform", "ssim_gaussian"))
    return f"{row['psnr']:.2f} / {row['psnr_b']:.2f} / {ssims}"


def refresh_table(models: Path) -> None:
    """Write the table of all models under `models` into its README, made if there is none."""
    columns = [(dataset, q) for dataset, (_, qualities) in SETS.items() for q in qualities[:6]]
    heads = [f"{dataset} Q{quality}" for dataset, quality in columns]
    lines = [
        "| " + " | ".join(["model", "network", "parameters", "trained on", *heads]) + " |",
        "|---" * (4 + len(heads)) + "|",
    ]
    for path in sorted(models.glob(f"*/{WEIGHTS}")):
        model = load(path.parent)
        low, high = model.quality
        gains = [model.gain.get(dataset, {}).get(quality) for dataset, quality in columns]
        cells = [
            f"[{model.name}]({model.name}/README.md)",
            model.network.name.upper(),
            f"{model.network.parameters:,}",
            f"{model.codec.upper()} {low} to {high}",
            *("" if gain is None else f"{gain:+.2f}" for gain in gains),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    readme = models / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else README
    table = "\n".join(lines) + "\n"
    readme.write_text(TABLE.sub(lambda m: m[1] + table + m[2], text), encoding="utf-8")
