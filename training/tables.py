"""python -m training table3 --data DIR, and table4, table5: our rows beside the paper's.

On a few images: python -m training table3 --data DIR --images 2
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from training.data import Luma, jpeg, load_folder
from training.evaluate import METRICS, restore, scores
from training.figures import load_curve
from training.paper import MEASURED, PAPER, PAPER_OBJECTIVES, Scores
from training.recipes import Objective, Recipe
from training.rivals import best_qp, by_sadct, by_spp, told_qp
from vfilter.errors import ModelError
from vfilter.restorer import Restorer
from vfilter.weights import Model, load

FOLDERS = {"LIVE1": "LIVE1", "BSDS500 val": "BSDS500/val"}
"""Folders of the tables' data sets."""

QUALITIES = (10, 20)

UNITS = "PSNR and PSNR-B in dB, SSIM with a uniform 8x8 window (the CSV has the Gaussian one too)."

Values = dict[str, float] | None
"""Scores by metric (`training.evaluate.METRICS`); None where there is nothing to measure."""


@dataclass(frozen=True)
class Row:
    """What one method reached, by JPEG quality, and whose number it is."""

    method: str
    source: str
    values: dict[int, Values]
    remark: str = ""


def paper_rows(dataset: str, method: str) -> Iterator[Row]:
    """The paper's row of a method, if its table has one."""
    if found := PAPER[dataset].get(method):
        yield Row(method, "paper", {quality: named(found.get(quality)) for quality in QUALITIES})


def named(values: Scores | None) -> Values:
    """Scores by metric."""
    names = ("psnr", "psnr_b", "ssim_uniform")
    return None if values is None else dict(zip(names, values, strict=True))


def measured_rows(dataset: str, method: str) -> Iterator[Row]:
    """Rows of others' programs that were measured once."""
    for name, values in MEASURED[dataset].items():
        if name.startswith(method):
            yield Row(name, "measured once", {q: named(values[q]) for q in QUALITIES})


def restored_scores(
    planes: Sequence[Luma], quality: int, restoring: Callable[[list[Luma]], Sequence[Luma]]
) -> dict[str, float]:
    """Scores of `planes` after JPEG of `quality` and `restoring`."""
    return scores(restoring([jpeg(plane, quality) for plane in planes]), planes)


def each(restoring: Callable[[Luma], Luma]) -> Callable[[list[Luma]], list[Luma]]:
    """What `restoring` makes of each plane."""
    return lambda planes: [restoring(plane) for plane in planes]


def own_row(
    method: str,
    models: str,
    dataset: str,
    planes: Sequence[Luma] | None,
    qualities: Sequence[int] = QUALITIES,
) -> Row:
    """Our row of a method: of the shipped models `models`.format(quality), blind.

    planes: the data set; None to take the scores that were measured at the models' export.
    """
    values: dict[int, Values] = {}
    missing, remarks = [], []
    for quality in qualities:
        name = models.format(quality)
        try:
            model = load(name)
        except ModelError:
            missing.append(name)
            values[quality] = None
            continue
        values[quality] = _scores_of(model, dataset, quality, planes)
        if told := _remark(model):
            remarks.append(f"Q{quality} {told}")
    remarks += [f"no {', '.join(missing)} yet"] if missing else []
    return Row(method, "ours", values, "; ".join(remarks))


def _remark(model: Model) -> str:
    """What a model was trained for beside the squared error, and whether it is a mean."""
    training = model.metrics["training"]
    recipe = Recipe(**training["recipe"])
    beside = {"PSNR-B": recipe.blocking, "SSIM": recipe.similarity}
    metrics = " and ".join(name for name, factor in beside.items() if factor)
    told = [f"trained for {metrics} too"] if metrics else []
    return ", ".join(told + ["mean of two weights"] * ("mean_with" in training))


def _scores_of(model: Model, dataset: str, quality: int, planes: Sequence[Luma] | None) -> Values:
    if planes is None:
        found: dict[str, float] = model.metrics["results"][dataset][str(quality)]["restored"]
        return found
    with Restorer(model, device="cpu", precision="fp32") as restorer:
        return restored_scores(planes, quality, each(restorer.luma))


def distorted_row(planes: Sequence[Luma], qualities: Sequence[int] = QUALITIES) -> Row:
    """The row of what is not restored."""
    return Row("distorted", "ours", {q: restored_scores(planes, q, lambda y: y) for q in qualities})


def rival_rows(planes: Sequence[Luma]) -> Iterator[Row]:
    """Rows of spp at its best QP and at that of the luma table, and of our own SA-DCT."""
    for method, choose in (
        ("spp, best QP", partial(best_qp, planes)),
        ("spp, QP of the table", told_qp),
    ):
        qps = {quality: choose(quality) for quality in QUALITIES}
        values: dict[int, Values] = {
            quality: restored_scores(planes, quality, partial(by_spp, qp=qp))
            for quality, qp in qps.items()
        }
        yield Row(method, "ours", values, "QP " + ", ".join(map(str, qps.values())))
    values = {q: restored_scores(planes, q, partial(by_sadct, quality=q)) for q in QUALITIES}
    yield Row("SA-DCT", "ours", values)


def comparison(
    dataset: str, data: Path, images: int | None, *, stored: bool, rivals: bool
) -> list[Row]:
    """The rows of table 3 ("LIVE1") or 4 ("BSDS500 val").

    images: how many of the data set, if not all; stored: whether our networks' scores are those
    of their export; rivals: whether spp and SA-DCT are run, which takes minutes.
    """
    if stored and images is not None:
        raise ValueError("stored scores are of all images: leave out --stored or --images")
    planes = load_folder(data / FOLDERS[dataset])[:images]
    rows = [distorted_row(planes), *paper_rows(dataset, "distorted")]
    rows += rival_rows(planes) if rivals else ()
    rows += [*paper_rows(dataset, "spp"), *measured_rows(dataset, "SA-DCT")]
    rows += paper_rows(dataset, "SA-DCT")
    own = None if stored else planes
    rows += [own_row("AR-CNN", "arcnn-q{}", dataset, own)]
    rows += [*measured_rows(dataset, "AR-CNN"), *paper_rows(dataset, "AR-CNN")]
    for name in ("L4", "L8"):
        rows += [own_row(name, f"{name.lower()}-q{{}}", dataset, own), *paper_rows(dataset, name)]
    return rows + [
        own_row(f"{name}, all qualities", f"{name.lower()}-jpeg", dataset, own)
        for name in ("L4", "L8")
    ]


def objectives(data: Path, results: Path, images: int | None) -> list[Row]:
    """The rows of table 5: L4 on LIVE1 at quality 10, the networks those of figure 6."""
    planes = load_folder(data / FOLDERS["LIVE1"])[:images]
    rows = [distorted_row(planes, (10,))]
    chosen: tuple[Objective, ...] = ("direct", "edge", "residual")
    paper = {name: Row(name, "paper", {10: named(v)}) for name, v in PAPER_OBJECTIVES.items()}
    rows.append(paper["distorted"])
    for objective in chosen:
        rows += [_objective_row(objective, planes, results), paper[objective]]
    return [*rows, own_row("residual, shipped", "l4-q{}", "LIVE1", planes, (10,))]


def _objective_row(objective: Objective, planes: Sequence[Luma], results: Path) -> Row:
    path = results / f"figure6-{objective}.safetensors"
    if not path.exists():
        return Row(objective, "ours", {10: None}, "run figure6 first")
    module, steps = load_curve(path)
    found = restored_scores(planes, 10, each(partial(restore, module, objective=objective)))
    return Row(objective, "ours", {10: found}, f"{steps} steps, as all of figure 6")


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in the shape of the paper's: PSNR, PSNR-B, SSIM by quality."""
    qualities = list(rows[0].values)
    heads = [f"Q{quality} {name}" for quality in qualities for name in ("PSNR", "PSNR-B", "SSIM")]
    lines = ["| method | whose | " + " | ".join(heads) + " | remark |", "|---" * (len(heads) + 3)]
    lines[1] += "|"
    for row in rows:
        cells = [cell for quality in qualities for cell in _cells(row.values[quality])]
        lines.append(f"| {row.method} | {row.source} | {' | '.join(cells)} | {row.remark} |")
    return "\n".join(lines) + "\n"


def _cells(values: Values) -> list[str]:
    if values is None:
        return ["-"] * 3
    return [f"{values['psnr']:.2f}", f"{values['psnr_b']:.2f}", f"{values['ssim_uniform']:.3f}"]


def plain(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table of all their columns; None, and what a row lacks, as "-"."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = ("-" if row.get(column) is None else f"{row[column]}" for column in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(rows: Sequence[Row], path: Path, title: str) -> None:
    """Print the rows as Markdown, and write them as `path`.md and `path`.csv."""
    text = f"{UNITS}\n\n{markdown(rows)}"
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(f"# {title}\n\n{text}", encoding="utf-8")
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "whose", "quality", *METRICS, "remark"])
        for row in rows:
            for quality, values in row.values.items():
                found = [round((values or {}).get(m, float("nan")), 5) for m in METRICS]
                cells = ["" if value != value else value for value in found]
                writer.writerow([row.method, row.source, quality, *cells, row.remark])
