"""A comparison as one HTML file that needs nothing else: table, plots, pictures, commands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from vfilter.comparison.metrics import psnr
from vfilter.comparison.pictures import LOSSLESS_PIXELS, Painter, data_url, read_frames
from vfilter.comparison.results import (
    DIGITS,
    LESS_IS_BETTER,
    TITLES,
    Comparison,
    Run,
    label,
    shown,
    write_text,
)
from vfilter.comparison.shots import REFERENCE, SOURCE, Place, Shots

ASSETS = Path(__file__).parent / "assets"

ENLARGED = 4
"""Times that small frames are enlarged in the slider at most."""

LARGEST = 800
"""Pixels across up to which that is done."""

AMPLIFIED = 8
"""Times that a difference of codes is shown from the gray of 128."""

EXPLAINED = {
    "psnr": "peak signal-to-noise ratio of the luma, more is better",
    "psnr_b": "PSNR less the steps at block boundaries (Yim and Bovik 2011), more is better",
    "ssim_uniform": "structural similarity, 8x8 uniform window, more is better",
    "ssim_gaussian": "structural similarity, 11x11 Gaussian window, more is better",
    "xpsnr": "FFmpeg's perceptually weighted PSNR, more is better",
    "vmaf": "FFmpeg's libvmaf, 0 to 100, more is better",
    "flicker": "variance of the error's change from frame to frame where nothing moves, "
    "in squared codes, less is better",
    "blockiness": "blocking effect factor, in squared codes; a blur has least, so it is no quality",
    "change": "root mean square of what was changed, in codes; no quality",
}


def write_report(
    path: str | Path, result: Comparison, shots: Shots, film: Path, *, full_range: bool
) -> None:
    """Write `result` as HTML to `path`.

    film: what was restored, whose chroma the pictures have; full_range: how to show their codes.
    Raises OutputError if `path` can't be written.
    """
    write_text(path, report_html(result, shots, film, full_range=full_range))


def report_html(result: Comparison, shots: Shots, film: Path, *, full_range: bool) -> str:
    """The report as HTML."""
    frames = read_frames(film, {*shots.frames, *(place.frame for place in shots.places)})
    show = Painter(frames, full_range=full_range)
    template = Template((ASSETS / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"Comparison of {Path(result.input).name}"),
        facts=escape(_facts(result)),
        verdict=escape(verdict(result)),
        notes=_list(result.notes),
        table=_table(result),
        meaning=_meaning(result),
        slider=_slider(result, shots),
        largest=str(max(result.width, min(LARGEST, ENLARGED * result.width))),
        crops=_crops(result, shots, show),
        commands=_commands(result),
        trials=_trials(result),
        machine=_definitions({**result.versions, **result.machine}),
        csv="data:text/csv;charset=utf-8," + quote(result.frames_csv(), errors="backslashreplace"),
        data=_script_json(_plots(result) | {"shots": _shots(result, shots, show)}),
        uplot_css=(ASSETS / "uPlot.min.css").read_text(encoding="utf-8"),
        uplot_js=(ASSETS / "uPlot.iife.min.js").read_text(encoding="utf-8"),
        uplot_license=escape((ASSETS / "uPlot.LICENSE").read_text(encoding="utf-8")),
        css=(ASSETS / "report.css").read_text(encoding="utf-8"),
        js=(ASSETS / "report.js").read_text(encoding="utf-8"),
    )


def verdict(result: Comparison) -> str:
    """What the numbers say, in two sentences; of each model against the film and the best rival."""
    if not result.has_reference:
        return (
            "No reference was given: this shows what each filter changes and what it costs, "
            "and claims nothing about quality."
        )
    source = result.runs[0]
    rivals = [run for run in result.headline if run.family not in ("source", "ours")]
    best = max(rivals, key=lambda run: result.mean(run, "psnr"), default=None)
    sentences = []
    for run in (run for run in result.runs if run.family == "ours"):
        sentence = f"{run.name}: {_ahead(result, run, source)} the film as it came"
        if best is not None:
            sentence += f", {_ahead(result, run, best)} the best rival, {label(best)}"
            pace = run.fps(result.frames) / best.fps(result.frames)
            sentence += f", at {pace:.2g} times its speed" if math.isfinite(pace) else ""
        sentences.append(sentence + ".")
    return " ".join(sentences)


def _ahead(result: Comparison, run: Run, other: Run) -> str:
    gain = result.mean(run, "psnr") - result.mean(other, "psnr")
    if math.isnan(gain):
        return "not to be told from"
    much = f"{abs(gain):.2f} dB of PSNR" if math.isfinite(gain) else "infinitely"
    return f"{much} {'above' if gain >= 0 else 'below'}"


def _facts(result: Comparison) -> str:
    kind = f"{result.codec} film"
    if result.degraded is not None:
        kind = f"pristine film, compressed for this as {result.degraded}"
    against = f", against {Path(result.reference).name}" if result.reference else ""
    return (
        f"{kind}{against}; {result.width}x{result.height}, {result.frames} frames at "
        f"{float(result.rate):.3g} frames/s"
    )


def _table(result: Comparison) -> str:
    metrics = result.metrics
    heads = ["filter", *(TITLES[m] for m in metrics), "frames/s", "CPU seconds"]
    best = {name: _best_mean(result, name) for name in metrics}
    headline = {run.name for run in result.headline}
    rows = []
    for run in result.runs:
        setting = "" if run.name == label(run) else f"<br><code>{escape(run.name)}</code>"
        notes = "".join(f"<br><small>{escape(note)}</small>" for note in run.notes)
        cells = [f'<th scope="row">{escape(label(run))}{setting}{notes}</th>']
        told = result.row(run)[1:]
        for name, text in zip([*metrics, "", ""], told, strict=True):
            top = name and text == best[name]
            cells.append(f"<td>{f'<strong>{text}</strong>' if top else text}</td>")
        kind = run.family if run.family in ("source", "ours") else "rival"
        quiet = "" if run.name in headline else " quiet"
        rows.append(f'<tr class="{kind}{quiet}">{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"


def _best_mean(result: Comparison, metric: str) -> str:
    """The best mean of a metric as the table shows it; nothing where it is no quality."""
    if not result.has_reference:
        return ""
    means = [result.mean(run, metric) for run in result.runs if not run.failed]
    told = [mean for mean in means if not math.isnan(mean)]
    pick = min if metric in LESS_IS_BETTER else max
    return shown(pick(told), DIGITS.get(metric, 2)) if told else ""


def _meaning(result: Comparison) -> str:
    return _definitions({TITLES[name]: EXPLAINED[name] for name in result.metrics})


def _plots(result: Comparison) -> dict[str, Any]:
    """What the plots show: by metric, a line for each run of the headline."""
    return {
        "frames": list(range(result.frames)),
        "metrics": [
            {
                "name": TITLES[name],
                "digits": DIGITS.get(name, 2),
                "lines": [
                    {"label": label(run), "values": [_plain(v) for v in run.scores[name]]}
                    for run in result.headline
                ],
            }
            for name in result.metrics
        ],
    }


def _plain(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _shown_runs(result: Comparison, shots: Shots) -> list[tuple[str, str]]:
    """Name and label of what is shown in pictures, in order."""
    runs = [(run.name, label(run)) for run in result.headline]
    has_original = any(REFERENCE in kept for kept in shots.planes.values())
    return [*runs, *([(REFERENCE, REFERENCE)] if has_original else [])]


def _shots(result: Comparison, shots: Shots, show: Painter) -> list[dict[str, Any]]:
    """The frames of the slider, each with a picture of each run."""
    return [
        {
            "title": f"frame {number} ({why})",
            "pictures": [
                *(
                    {"label": text, "url": show.whole(number, shots.planes[number][name])}
                    for name, text in _shown_runs(result, shots)
                ),
                *(
                    {"label": text, "url": difference(shots.planes[number], name)}
                    for name, text in _differences(result)
                ),
            ],
        }
        for number, why in shots.frames.items()
    ]


def _differences(result: Comparison) -> list[tuple[str, str]]:
    """Name and label of the runs of which it is shown what they change."""
    ours = (run.name for run in result.runs if run.family == "ours")
    return [(name, f"what {name} changes, {AMPLIFIED} times") for name in ours]


def difference(planes: Mapping[str, NDArray[np.uint8]], name: str) -> str:
    """Data URL of what the run `name` changes in luma (H, W), amplified around gray."""
    change = planes[name].astype(np.int16) - planes[SOURCE]
    gray = np.clip(128 + AMPLIFIED * change, 0, 255).astype(np.uint8)
    return data_url(np.stack([gray] * 3, axis=-1), lossless=gray.size <= LOSSLESS_PIXELS)


def _slider(result: Comparison, shots: Shots) -> str:
    """The options of what the slider's right side shows, and of its left; ours against the film."""
    runs = [text for _, text in [*_shown_runs(result, shots), *_differences(result)]]
    frames = [f"frame {number} ({why})" for number, why in shots.frames.items()]

    def options(texts: Sequence[str], chosen: int) -> str:
        return "".join(
            f'<option value="{i}"{" selected" if i == chosen else ""}>{escape(text)}</option>'
            for i, text in enumerate(texts)
        )

    return (
        f'<label>Frame <select id="shot-frame">{options(frames, 0)}</select></label>'
        f'<label>Left <select id="shot-left">{options(runs, 0)}</select></label>'
        f'<label>Right <select id="shot-right">{options(runs, 1)}</select></label>'
    )


def _crops(result: Comparison, shots: Shots, show: Painter) -> str:
    """The crops, a row for each place."""
    rows = []
    for place in shots.places:
        kept = shots.crops[place]
        figures = [
            _figure(text, place, show.part(place, kept[name]), _fidelity(kept, name))
            for name, text in _shown_runs(result, shots)
        ]
        where = f"{place.why} place: frame {place.frame}, x {place.left}, y {place.top}"
        rows.append(f"<h3>{escape(where)}</h3><div class='crops'>{''.join(figures)}</div>")
    return "".join(rows)


def _fidelity(kept: dict[str, NDArray[np.uint8]], name: str) -> str:
    """PSNR of a crop, if there is a reference."""
    if REFERENCE not in kept or name == REFERENCE:
        return ""
    return f" {shown(psnr(kept[name], kept[REFERENCE]), 2)} dB"


def _figure(text: str, place: Place, url: str, fidelity: str) -> str:
    spot = f"frame {place.frame}, {place.side} pixels square at x {place.left}, y {place.top}"
    size = f'width="{place.side}" height="{place.side}"'
    caption = escape(text + fidelity)
    alt = escape(f"{text}: {spot}{',' if fidelity else ''}{fidelity}")
    return (
        f'<figure><img src="{url}" {size} alt="{alt}"><figcaption>{caption}</figcaption></figure>'
    )


def _commands(result: Comparison) -> str:
    items = (
        f"<dt>{escape(label(run))}</dt><dd><code>{escape(run.command)}</code></dd>"
        for run in result.runs
    )
    return f"<dl>{''.join(items)}</dl>"


def _trials(result: Comparison) -> str:
    """The settings that were tried, best first."""
    if not result.trials:
        return "<p>No settings were swept.</p>"
    ordered = sorted(result.trials, key=lambda trial: (trial.rival, -trial.psnr))
    rows = (
        f"<tr><td>{escape(t.rival)}</td><td><code>{escape(t.chain)}</code></td>"
        f"<td>{shown(t.psnr, 3)}</td></tr>"
        for t in ordered
    )
    head = "".join(f'<th scope="col">{h}</th>' for h in ("filter", "setting", "PSNR dB"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _definitions(pairs: dict[str, str]) -> str:
    items = (f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs.items())
    return f"<dl>{''.join(items)}</dl>"


def _list(items: Iterable[str]) -> str:
    return "".join(f"<li>{escape(item)}</li>" for item in items)


def _script_json(data: dict[str, Any]) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
