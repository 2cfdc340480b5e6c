"""Export of a checkpoint as a shipped model: weights, metrics, model card, table of all models."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.numpy import save
from torch import Tensor

from training.data import Luma, load_folder
from training.evaluate import evaluate
from training.loop import read_checkpoint
from training.paper import PAPER, Scores
from training.recipes import FINEST, RECIPES, Recipe
from training.sources import CODECS, SOURCES, gains, read_frames
from training.video import FRAMES, PRESETS, WINDOW
from vfilter.restorer import Restorer
from vfilter.weights import ALIASES, METRICS, OBJECTIVE, WEIGHTS, Model, load, models_folder

SETS = {
    "LIVE1": ("LIVE1", (10, 20, 40, 60, 80, 90)),
    "BSDS500 val": ("BSDS500/val", (10, 20)),
}
"""Data sets of the paper's tables 3 and 4: folder, and JPEG qualities of the evaluation."""

HINTED = (10, 20, 60, 90)
"""JPEG qualities at which restoration by blind models is evaluated with hints too."""

PROTOCOL = (
    "Limited-range BT.601 luma; 8-bit grayscale JPEG by libjpeg; 8-bit outputs; whole images, "
    "mean over the images; SSIM with a uniform 8x8 window, as in the paper, and with the 11x11 "
    "Gaussian window; computed in fp32"
)

CLIPS_PROTOCOL = (
    "Luma PSNR over the decoded video, mean over every second clip, by name; the others served for "
    "training. Encoders of FFmpeg at their preset medium or default quality of motion search, "
    "MPEG-4 and MPEG-2 at a fixed quantiser scale; first frames of each clip; 8-bit outputs."
)

VERSION = "1"
"""Of the exported weights; counts up when a shipped name gets weights of another recipe."""

TABLE = re.compile(r"(<!-- table of models -->\n).*(<!-- end of table -->)", re.DOTALL)
"""What `refresh_table` writes between in `models/README.md`."""

README = """# Models

One folder each: `weights.safetensors`, `metrics.json` and the model card, `README.md`. The
numbers are gains in PSNR in dB, under the protocols in the cards: those of JPEG blind, those of
video by what the stream tells, with neighbours in time.

<!-- table of models -->
<!-- end of table -->
"""

LENGTHENED = """
These weights took a detour that the command doesn't: {steps} steps were asked at first, at whose
end the rate had fallen to zero; asked for more, the run went on at the full rate.
"""

HISTORY = {
    "l8-jpeg": """
These weights took a detour that the command doesn't: the first 4,500 steps sampled the quality
evenly over 10 to 60, 30 % of the crops above, and weighted them by their table scale to the -0.5;
the first 11,500 saw no drawings, the first 22,000 libjpeg's tables alone; both were runs of their
own, whose rate fell to zero at their ends.
""",
    "l4-jpeg": """
These weights took a detour that the command doesn't: the first 7,000 steps sampled as many crops
per octave of quality, 20 % above, and weighted them by their table scale to the -0.25. None saw
drawings.
""",
    "l8-q20": LENGTHENED.format(steps="5,000").rstrip()
    + """ In the
first 14,000 steps the squared error counted alone; the mean of the weights after them and after all
is better in PSNR-B than the first and in PSNR than the last. EARLIER is models/l8-q20 of commit
ac5edfe (13,978 steps).
""",
    "arcnn-q10": """
These weights took a detour that the command doesn't: in the first 8,000 steps, a run of their own
whose rate fell to zero at its end, the squared error counted alone.
""",
    "l4-q10": """
These weights took a detour that the command doesn't: in the first 45,000 steps, a run of their own
whose rate fell to zero at its end, the squared error counted alone.
""",
    "l8-h264": """
The first 6,000 steps took crf 16 to 42, and weighted the crops by 2^(crf/6) to the -1; they and the
next 4,000, from crf 20 on, were runs of their own, whose rate fell to zero at their ends; none of
them saw drawings. 16,000 steps were asked then; those up to there saw 15 % drawings and no pixel
art. How HEVC is served was fitted to the weights after them: a fit to these gains 0.02 dB on clips
and loses 0.1 on drawings. EARLIER is models/l8-h264 of commit 80a1c1f.
""",
    "l8-h264-coarse": """
These weights took a detour that the command doesn't: 16,000, 30,000 and 42,000 steps were asked in
turn, the rate falling to zero in the second half of each; these saw 15 % drawings and no pixel art.
The strengths were fitted to the weights at the end, not to the mean. EARLIER is
models/l8-h264-coarse of commit aadea88.
""",
    "l8-mpeg-coarse": """
These weights took a detour that the command doesn't: 15,000 steps were asked at first and 30,000
next, the rate falling to zero in the second half of each; these saw 15 % drawings and no pixel art.
The strengths were fitted to the weights after them. The time counts pauses, in the
last 4,300 steps. EARLIER is models/l8-mpeg-coarse of commit ff609e2.
""",
    "l4-h264": """
The first 3,500 steps took crf 16 to 42, and weighted the crops by 2^(crf/6) to the -1; the next
8,500 took it from 20 on; both were runs of their own, whose rate fell to zero at their ends, and
saw no drawings.
""",
    "l4-mpeg": """
The first 3,500 steps, a run of their own whose rate fell to zero at its end, weighted the crops by
their quantiser scale to the -1; the first 7,400 saw no drawings.
""",
    "l8-mpeg": """
The first 5,000 steps, a run of their own whose rate fell to zero at its end, weighted the crops by
their quantiser scale to the -1 and saw no drawings. 10,000 steps were asked next; those up to there
saw 15 % drawings and no pixel art. The strengths were fitted to the weights after them: a fit to
these loses 0.01 to 0.03 dB on clips at a quantiser scale of 3 and gains 0.01 to 0.09 on drawings.
EARLIER is models/l8-mpeg of commit 4bd3cb2.
""",
}
"""What the run of a shipped model did that its recipe doesn't say."""

ORIGIN = dict.fromkeys(
    ("l4", "l8"),
    """
Svoboda, Hradis, Barina and Zemcik, "Compression Artifacts Removal Using
Convolutional Neural Networks" (WSCG 2016)""",
) | {
    "arcnn": """
Dong, Deng, Loy and Tang, "Compression Artifacts Reduction by a Deep
Convolutional Network" (ICCV 2015)"""
}
"""Whose a network is."""

CARD = """# {name}

The network {network} of {origin}, trained to predict what {damage} took from a
luma plane. {blind}

| | |
|---|---|
| network | {network}: {layers} layers, {parameters:,} parameters, {flop:,} FLOP per pixel |
| receptive field | {field}x{field} pixels |
| input, output | luma as code / full scale - 0.5; the residual to add, on the same scale |
| images | {photos}, their luma (limited-range BT.601){images} |
| compression | {compression} |
| crops | {crop}x{crop} pixels, flipped and transposed at random, {batch} a step |
| objective | residual; squared error{weight} |
| initialization | {initialization} |
| optimizer | {method}, weight decay {weight_decay:g}, gradient norm at most {clip:g} |
| learning rate | {schedule} |
| weights | average of the steps' weights with decay {ema:g}{mean} |
| steps | {step:,} of {steps:,}, {gigapixels:.2f} Gpx seen |
| time | {minutes:.0f} min of steps, on {device}, without evaluations |
| seed | {seed} |
| commit | {commit} |
| licence | MIT |

## Recipe

    python -m training train {name} --data DIR --steps {steps} --checkpoints MINE
    python -m training export {name} --data DIR --checkpoints MINE{earlier}
{history}
## Numbers

{protocol}

{columns}

{tables}
## Limits

- Trained on {damage} only{alone}.
- Trained on {kinds}.
- Luma only: chroma is left as it is.
"""

TRAINING = ("recipe", "step", "seconds", "photos", "device")
"""What metrics keep of a checkpoint; older ones lack the last two, which were these:"""

PHOTOS = "BSDS500 train and test, 400 photos"
DEVICES = {"cpu": "a processor", "cuda": "a GPU"}

BEGINNINGS = {
    "symmetric": "Xavier, every filter made zero-mean; last layer Gaussian of deviation 0.001",
    "plain": "Xavier; last layer Gaussian of deviation 0.001",
}
"""By initialization: what it is, for people."""

BLIND = "It is blind: one set of weights for all qualities, without being told which."

TITLES_OF_NETWORKS = {"l4": "L4", "l8": "L8", "arcnn": "AR-CNN"}

JPEG_COLUMNS = """
Cells are PSNR / PSNR-B / SSIM 8x8 / SSIM Gaussian; gain is IPSNR in dB. The paper's column is of
the same network trained for that quality alone, without SSIM Gaussian.
""".strip()

HINTED_COLUMN = """
"With hints" is the gain where the stream tells its quantization table: the residual is scaled by
the strength fitted for that quality, added as far as the table explains it, and the sum projected
onto what the table leaves possible.
""".strip()

VIDEO_COLUMNS = """
The first is the PSNR of the source, the others are gains in PSNR in dB: at strength 1; at the one
constant strength that serves this row's clips best (its value in brackets, found on these very
clips); by what the stream tells and with neighbours in time, the default, with the clip that gains
least; and of that the gain in SSIM.
""".strip()

TITLES = {"h264": "H.264, crf", "mpeg4": "MPEG-4, qscale", "mpeg2video": "MPEG-2, qscale"} | {
    "hevc": "HEVC, crf",
    "vp9": "VP9, crf",
    "av1": "AV1, crf",
}
"""How the tables name a codec and its setting."""

Results = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Scores by data set or codec, quality or setting, kind and metric."""

Measurement = Callable[[Model], dict[str, Any]]
"""What measures or fits something to a model, and tells it as `metrics.json` has it."""


def export(
    name: str,
    checkpoint: Path,
    models: Path,
    measurements: Sequence[Measurement],
    earlier: Path | None = None,
) -> Model:
    """Write `models`/`name`/ from a checkpoint and refresh the tables of `models`.

    What is there stays until all is measured.
    earlier: folder of a model exported at a step before, whose weights are averaged with the
        checkpoint's.
    Raises FileNotFoundError if there is no checkpoint, ValueError if it is damaged, of another
    objective, or of another network or codec than the recipe of that name; ModelError if there is
    no such model at `earlier`.
    """
    if not checkpoint.exists():
        raise FileNotFoundError(f"there is no {checkpoint} to export: train {name} first")
    state = read_checkpoint(checkpoint)
    held = Recipe(**state["recipe"])
    if held.objective != OBJECTIVE:
        raise ValueError(
            f"{checkpoint} was trained for {held.objective!r}: only residuals are exported"
        )
    wanted = RECIPES.get(name, held)
    if (held.network, held.codec) != (wanted.network, wanted.codec):
        raise ValueError(
            f"{checkpoint} is of {held.network} for {held.codec}, "
            f"{name} of {wanted.network} for {wanted.codec}"
        )
    models.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=models) as work:
        folder = Path(work) / name
        training = {key: state[key] for key in TRAINING if key in state}
        if earlier is not None:
            state["average"], training["mean_with"] = _mean(state["average"], load(earlier))
        write_weights(state, folder)
        write_metrics(folder, {"training": training})
        measure_all(folder, measurements)
        (models / name).mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.replace(models / name / file.name)
    refresh_tables(models)
    return load(models / name)


def _mean(weights: Mapping[str, Tensor], earlier: Model) -> tuple[dict[str, Tensor], int]:
    """The mean of `weights` and those of `earlier`, and the steps that these had seen."""
    held = {name: torch.from_numpy(weight.copy()) for name, weight in earlier.weights.items()}
    if {k: v.shape for k, v in held.items()} != {k: v.shape for k, v in weights.items()}:
        raise ValueError(f"{earlier.name} is of another network: there is no mean with it")
    mean = {name: (weight + held[name]) / 2 for name, weight in weights.items()}
    return mean, earlier.metrics["training"]["step"]


def measure_all(folder: Path, measurements: Sequence[Measurement]) -> None:
    """Measure the model in `folder`, and write its metrics and card."""
    for measured in measurements:
        model = load(folder)
        metrics = model.metrics | measured(model)
        write_metrics(folder, {key: value for key, value in metrics.items() if value})
    (folder / "README.md").write_text(card(load(folder)), encoding="utf-8")


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write what was measured of a model into its folder."""
    (folder / METRICS).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def write_weights(state: Mapping[str, Any], folder: Path) -> None:
    """Write the averaged weights of a checkpoint, with metadata, into `folder`."""
    recipe = Recipe(**state["recipe"])
    low, high = recipe.qualities
    metadata = {
        "network": recipe.network,
        "objective": OBJECTIVE,
        "codec": recipe.codec,
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


def datasets(data: Path, model: Model) -> dict[str, tuple[list[Luma], tuple[int, ...]]]:
    """Originals of `SETS` under `data` and the qualities that `model` is measured at.

    Those are its own one, if it is for one alone.
    """
    low, high = model.quality
    return {
        dataset: (load_folder(data / folder), qualities if low < high else (low,))
        for dataset, (folder, qualities) in SETS.items()
    }


def measure(model: Model, sets: Mapping[str, tuple[Sequence[Luma], Sequence[int]]]) -> Results:
    """Rounded scores by data set, quality, kind (`evaluate`) and metric.

    sets: originals and JPEG qualities, by data set.
    """
    results: Results = {}
    blind = model.quality[0] < model.quality[1]
    with Restorer(model, precision="fp32") as restorer:
        for dataset, (planes, qualities) in sets.items():
            results[dataset] = {}
            for quality in qualities:
                rows = evaluate(restorer, planes, quality, hinted=blind and quality in HINTED)
                results[dataset][str(quality)] = {
                    kind: {metric: round(value, 5) for metric, value in row.items()}
                    for kind, row in rows.items()
                }
                gain = rows["restored"]["psnr"] - rows["distorted"]["psnr"]
                print(f"{dataset} Q{quality}  gain {gain:+.3f} dB", flush=True)
    return results


def measure_clips(model: Model, clips: Sequence[Path], frames: int) -> Results:
    """Rounded scores of the codecs that `model` is for, by codec, setting, kind and metric.

    Kinds: "distorted"; "one", at strength 1; "constant", at the best constant; "restored", by what
    the stream tells.
    """
    results: Results = {}
    films = [read_frames(clip, frames) for clip in clips]
    for row in gains(films, model, CODECS[model.codec]):
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        before = row["psnr"]
        results.setdefault(row["codec"], {})[str(row["setting"])] = {
            "distorted": {"psnr": before},
            "one": {"psnr": round(before + row["one"], 2)},
            "constant": {"psnr": round(before + row["best"], 2), "strength": row["at"]},
            "restored": {"psnr": round(before + row["told"], 2)}
            | {"least_gain": row["worst"], "ssim_gain": row["ssim"]},
        }
    return results


def card(model: Model) -> str:
    """The model card, made from the metrics and metadata of `model`."""
    training = model.metrics["training"]
    recipe = Recipe(**training["recipe"])
    shipped = model.folder is not None and models_folder() in model.folder.resolve().parents
    describe = _jpeg_fields if recipe.codec == "jpeg" else _video_fields
    fields = asdict(recipe) | {
        "name": model.name,
        "network": TITLES_OF_NETWORKS[model.network.name],
        "origin": ORIGIN[model.network.name].strip(),
        "layers": len(model.network.layers),
        "parameters": model.network.parameters,
        "flop": model.network.flop_per_pixel,
        "field": 2 * model.network.radius + 1,
        "initialization": f"the weights of {recipe.start}"
        if recipe.start
        else BEGINNINGS[recipe.initialization],
        "method": _method(recipe),
        "schedule": _schedule(recipe),
        "history": HISTORY.get(model.name, "") if shipped else "",
        "step": training["step"],
        "earlier": " --mean-with EARLIER" if "mean_with" in training else "",
        "mean": f"; the mean of that after {training['mean_with']:,} steps and after all"
        if "mean_with" in training
        else "",
        "gigapixels": training["step"] * recipe.batch * recipe.crop**2 / 1e9,
        "minutes": training["seconds"] / 60,
        "photos": training.get("photos", PHOTOS),
        "device": DEVICES[training.get("device", "cpu")],
        "commit": model.commit,
    }
    described = describe(recipe, model)
    weight = f", weight of a crop: its {described['coarseness']} to the -{recipe.balance:g}"
    fields["weight"] = (weight if recipe.balance else "") + _beside(recipe)
    return CARD.format(**fields | described)


def _beside(recipe: Recipe) -> str:
    """What counts beside the squared error, for people."""
    blocking = f", {recipe.blocking:g} of PSNR-B's blocking effect" if recipe.blocking else ""
    similarity = f", {recipe.similarity:g} of 1 - SSIM" if recipe.similarity else ""
    return blocking + similarity


def _method(recipe: Recipe) -> str:
    """The optimizer, for people."""
    if recipe.optimizer == "adamw":
        return "AdamW"
    return f"SGD with momentum {recipe.momentum:g}, last layer at {recipe.last:g} of the rate"


def _schedule(recipe: Recipe) -> str:
    """The course of the learning rate, for people."""
    if recipe.halving is not None:
        return f"{recipe.rate:g}, halved every {recipe.halving:,} steps"
    rising = f"{recipe.rate:g} after {recipe.warmup} steps"
    return f"{rising}, falling to zero in the last {recipe.decay:.0%}"


def _jpeg_fields(recipe: Recipe, model: Model) -> dict[str, str]:
    """What the card of a network for JPEG says."""
    low, high = recipe.qualities
    fine = f"; {recipe.fine:.0%} of the crops {high + 1} to {FINEST}" if recipe.fine > 0 else ""
    foreign = f"; {recipe.foreign:.0%} by flatter tables" if recipe.foreign > 0 else ""
    compression = f"quality q {low} to {high}, density as q^-{recipe.slope:g}{fine}{foreign}"
    one = f"quality {low}"
    return {
        "damage": f"JPEG of {one}" if low == high else "JPEG compression",
        "blind": _range(model, one) if low == high else BLIND,
        "alone": ": what it does to the artifacts of other codecs is not measured",
        "images": f"; {recipe.drawn:.0%} drawings and text" if recipe.drawn else "",
        "kinds": "photos, and drawings and text that were made for it"
        if recipe.drawn
        else "photos only: no drawings, screens or text",
        "compression": f"grayscale JPEG, {one if low == high else compression}",
        "coarseness": "table scale",
        "protocol": textwrap.fill(f"{PROTOCOL}.", 98),
        "columns": JPEG_COLUMNS if low == high else f"{JPEG_COLUMNS}\n{HINTED_COLUMN}",
        "tables": "\n".join(
            _numbers(dataset, rows, TITLES_OF_NETWORKS[model.network.name])
            for dataset, rows in model.metrics["results"].items()
        ),
    }


def _range(model: Model, trained: str) -> str:
    """Where a network for one quality serves, for its card."""
    text = f"It is trained for {trained} alone"
    if model.part is None:
        return f"{text}."
    low, high = model.part
    alias = model.network.name
    text += (
        f"; `{alias}` takes it for JPEG of quality {low} to {high}, where it measured better than "
        f"`{ALIASES[alias]}`, unless one for a nearer quality did."
    )
    return textwrap.fill(text, 86)


def _video_fields(recipe: Recipe, model: Model) -> dict[str, str]:
    """What the card of a network for video codecs says."""
    low, high = recipe.qualities
    if recipe.codec == "h264":
        damage, presets = "H.264 compression", ", ".join(PRESETS)
        compression = f"libx264, crf {low} to {high} evenly, presets {presets}; a third no B-frames"
    else:
        damage = "MPEG-4 Part 2 and MPEG-2 compression"
        compression = f"half each, quantiser scale {low} to {high}, evenly in its logarithm"
    drawn, kinds = "", " only: no drawings, screens or text"
    if recipe.drawn:
        drawn = f"; {recipe.drawn:.0%} drawings and text, which move by whole pixels"
        kinds = ", and on drawings and text that were made for it"
    return {
        "damage": damage,
        "blind": _part(model) or BLIND,
        "alone": ", by FFmpeg's encoders",
        "images": f", set in motion (pan, zoom, rotation, trembling, grain), {WINDOW}x"
        f"{WINDOW} pixels, {FRAMES[0]} to {FRAMES[1] - 1} frames; as many windows of clips{drawn}",
        "kinds": f"photos and camera video{kinds}",
        "compression": compression,
        "coarseness": "2^(crf/6)" if recipe.codec == "h264" else "quantiser scale",
        "protocol": textwrap.fill(CLIPS_PROTOCOL, 98),
        "columns": VIDEO_COLUMNS,
        "tables": video_table(model),
    }


def _part(model: Model) -> str:
    """For which part of the range of its codec a model serves, if not for all of it."""
    if "fits" not in model.metrics:
        return ""
    low, _ = model.metrics["fits"]
    general = f"{model.network.name}-{model.codec}"
    scale = f"quantiser scale {low / 2:g}" if model.codec == "mpeg" else f"QP {low}"
    return f"It is for coarse sources: `{general}` serves better where the mean is below {scale}."


def video_table(model: Model) -> str:
    """The table of what `model` gains on clips, by codec and setting (`VIDEO_COLUMNS`)."""
    lines = [
        "| source | PSNR | strength 1 | best constant | default | worst clip | SSIM |",
        "|---|---|---|---|---|---|---|",
    ]
    for codec, rows in model.metrics["results"].items():
        for setting, row in rows.items():
            before = row["distorted"]["psnr"]
            one, best, told = (
                f"{row[k]['psnr'] - before:+.2f}" for k in ("one", "constant", "restored")
            )
            lines.append(
                f"| {TITLES[codec]} {setting} | {before:.2f} | {one} | {best} "
                f"({row['constant']['strength']:g}) | {told} "
                f"| {row['restored']['least_gain']:+.2f} | {row['restored']['ssim_gain']:+.4f} |"
            )
    return "\n".join([*lines, ""])


def _numbers(
    dataset: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]], network: str
) -> str:
    """The table of one data set."""
    hinted = any("hinted" in row for row in rows.values())
    heads = ["distorted", "restored", "gain", *["with hints"] * hinted, f"paper's {network}"]
    lines = [f"| {dataset} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    paper = PAPER.get(dataset, {}).get(network, {})
    for quality, row in rows.items():
        gains = [_gain(row, kind) for kind in ["restored", *["hinted"] * hinted]]
        theirs = paper.get(int(quality))
        cells = [_cell(row["distorted"]), _cell(row["restored"]), *gains]
        cells.append(_paper_cell(theirs) if theirs else "")
        lines.append(f"| Q{quality} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _gain(row: Mapping[str, Mapping[str, float]], kind: str) -> str:
    """IPSNR in dB of a kind of restoration, if it was measured."""
    return f"{row[kind]['psnr'] - row['distorted']['psnr']:+.2f}" if kind in row else ""


def _paper_cell(scores: Scores) -> str:
    psnr, psnr_b, ssim = scores
    return f"{psnr:.2f} / {psnr_b:.2f} / {f'{ssim:.3f}'.lstrip('0')}"


def _cell(row: Mapping[str, float]) -> str:
    ssims = " / ".join(f"{row[name]:.4f}".lstrip("0") for name in ("ssim_uniform", "ssim_gaussian"))
    return f"{row['psnr']:.2f} / {row['psnr_b']:.2f} / {ssims}"


def refresh_tables(models: Path) -> None:
    """Write the tables of all models under `models` into its README, made if there is none."""
    found = [load(path.parent) for path in sorted(models.glob(f"*/{WEIGHTS}"))]
    stills = {dataset: [str(q) for q in qualities[:6]] for dataset, (_, qualities) in SETS.items()}
    videos = {
        codec: [str(setting) for setting in SOURCES[codec]]
        for codecs in CODECS.values()
        for codec in codecs
    }
    tables = [
        _table([m for m in found if m.codec == "jpeg"], stills, "Q"),
        _table([m for m in found if m.codec != "jpeg"], videos, ""),
    ]
    readme = models / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else README
    body = "\n".join(tables)
    readme.write_text(TABLE.sub(lambda m: m[1] + body + m[2], text), encoding="utf-8")


def _table(models: Sequence[Model], columns: Mapping[str, Sequence[str]], letter: str) -> str:
    """The gains of `models`; columns: qualities or settings by data set or codec."""
    heads = [
        f"{TITLES.get(name, name)} {letter}{point}"
        for name, points in columns.items()
        for point in points
    ]
    lines = [
        "| " + " | ".join(["model", "network", "parameters", "trained on", *heads]) + " |",
        "|---" * (4 + len(heads)) + "|",
    ]
    for model in models:
        low, high = model.quality
        gains = [model.gain.get(name, {}).get(int(p)) for name, ps in columns.items() for p in ps]
        cells = [
            f"[{model.name}]({model.name}/README.md)",
            TITLES_OF_NETWORKS[model.network.name],
            f"{model.network.parameters:,}",
            f"{model.codec.upper()} {low} to {high}"
            if low < high
            else f"{model.codec.upper()} {low}",
            *("" if gain is None else f"{gain:+.2f}" for gain in gains),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
