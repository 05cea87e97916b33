"""The results of an evaluation as report.json, a table for the terminal, report.csv and the page report.html.

The page is one file without links: report.html of this folder renders the JSON that is written into it, sounds and
pictures are data URLs, and its content security policy forbids all requests. So it opens from disk, offline, on any
device with a browser.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import os
import pathlib
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import soundfile

from common import plots, weights
from common.files import replacing, write_json
from conversion.models import shorten
from data import PUBLISHED, Representation, amplitude_to_db, forward_transform
from evaluation import comparison
from evaluation.metrics import METRICS
from evaluation.pairing import score_of
from training import dataset

EXCERPT = 30.0  # seconds of a recording on the page
PAGE_PAIRS = 12  # on the page; those with the greatest MAE
TEMPLATE = pathlib.Path(__file__).with_name("report.html")


@dataclasses.dataclass
class Report:
    """What an evaluation finds, pair by pair."""

    title: str
    models: Mapping[str, weights.Description]  # by column
    remarks: Sequence[str] = ()  # lines about what was evaluated
    seeds: Sequence[str] = ()  # models that differ in the seed of their training only
    instruments: tuple[str, str] = ("input", "target")  # origin and target, perhaps with a voice
    representation: Representation = PUBLISHED  # of the pictures
    results: list[dict] = dataclasses.field(default_factory=list)  # of `comparison.evaluate_pair`
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # (file, reason)
    page: dict[str, list[dict[str, str]]] = dataclasses.field(default_factory=dict)  # pair: of `make_sounds`

    def add(self, result: dict, audios: Mapping[str, np.ndarray]) -> None:
        """Add a pair: always its numbers, its sounds only while it is among the worst `PAGE_PAIRS`."""
        self.results.append(result)
        shown = self.find_worst(["copy", *self.models][-1], PAGE_PAIRS)
        if result["name"] in shown:
            outputs = {name: "output" if len(self.models) == 1 else name for name in self.models}
            titles = {"origin": "input", **outputs, "target": "target"}
            self.page[result["name"]] = make_sounds(audios, titles, self.representation)
        self.page = {name: self.page[name] for name in shown}

    def find_worst(self, column: str, n: int = 5) -> list[str]:
        """Names of the `n` pairs for which `column` has the greatest MAE, in descending order."""
        ordered = sorted(self.results, key=lambda result: -result["values"][column]["mae"])
        return [result["name"] for result in ordered[:n]]

    def summary(self, voice: str = "") -> dict[str, dict[str, dict[str, float]]]:
        """`comparison.summarise` of all pairs, or of those of one voice."""
        results = [result for result in self.results if voice in ("", result["voice"])]
        pieces = [score_of(result["piece"]) for result in results]
        return comparison.summarise([result["values"] for result in results], pieces)


def make_sounds(
    audios: Mapping[str, np.ndarray], titles: Mapping[str, str], r: Representation = PUBLISHED
) -> list[dict]:
    """The first 30 s of the audios named in `titles`: {"key", "title", "audio", "picture"}, data URLs.

    The sounds, not the pictures, are scaled to the same RMS level, the greatest at which none clips: otherwise loudness
    would decide the blind comparison.
    """
    cuts = {name: audios[name][: int(EXCERPT * r.sample_rate)] for name in titles}
    rms = {name: float(np.sqrt(np.mean(np.square(cut, dtype=np.float64)))) for name, cut in cuts.items()}
    audible = [name for name in cuts if rms[name] > 1e-5]  # below -100 dB a sound is silence and stays as it is
    # 10 % of headroom, because decoded MP3 overshoots.
    common_rms = min((0.9 * rms[name] / float(np.abs(cuts[name]).max()) for name in audible), default=1.0)
    sounds = []
    for name, cut in cuts.items():
        encoded = io.BytesIO()
        soundfile.write(encoded, cut * (common_rms / rms[name] if name in audible else 1), r.sample_rate, format="MP3")
        level = np.clip(amplitude_to_db(forward_transform(cut, r)[0], r.amin), 0, 1)
        sound = {"key": name, "title": titles[name], "audio": _data_url("audio/mpeg", encoded.getvalue())}
        sounds.append({**sound, "picture": _data_url("image/png", plots.spectrogram_png(level, r.bin_hz))})
    return sounds


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


# --- the verdict ------------------------------------------------------------------------------------------------------


def verdict(summary: Mapping, models: Sequence[str], instruments: tuple[str, str]) -> tuple[str, bool]:
    """What a musician would say of the best model, then its MAE beside copying; and whether that is better."""
    means = {column: {n: of_metric["mean"] for n, of_metric in summary[column].items()} for column in summary}
    copying = means["copy"]
    if not models:
        return f"No model was given: copying the input has a mean absolute error (MAE) of {copying['mae']:.3f}.", True
    best = min(models, key=lambda name: means[name]["mae"])
    origin, target = (shorten(dataset.instrument_of(name)).replace("_", " ") for name in instruments)
    values = means[best]
    said = []
    # What is heard first before the rest; differences that nobody hears are left out.
    for name, threshold, number, more, less in (
        ("attack", 2, "{:.0f} ms", "attacks {} softer than the {}'s", "attacks {} harder than the {}'s"),
        ("flutter", 0.1, "{:.1f} dB", "held notes waver {} more than the {}'s", "held notes {} steadier than the {}'s"),
        ("brightness", 1.5, "{:.0f} dB", "{} brighter above 4 kHz than the {}", "{} duller above 4 kHz than the {}"),
        ("gain", 1, "{:.0f} dB", "{} quieter than the {}", "{} louder than the {}"),
    ):
        if abs(values[name]) >= threshold:
            said.append((more if values[name] > 0 else less).format(number.format(abs(values[name])), target))
        elif name == "attack" and np.isfinite(values[name]):
            said.append(f"attacks as hard as the {target}'s")
    nearer = copying["lsd_65"] / values["lsd_65"] if values["lsd_65"] else np.inf
    if nearer >= 1.05:
        times = "twice" if 1.9 <= nearer < 2.1 else f"{nearer:.1f} times"
        said.insert(1, f"spectrum {times} as near as the {origin}'s")
    else:
        said.insert(1, f"spectrum no nearer to the {target}'s than the {origin}'s own")
    is_good = values["mae"] < copying["mae"]
    of_several = f", the best of {len(models)}" if len(models) > 1 else ""
    return (
        f"{best}{of_several}: {', '.join(said)}. It is {'' if is_good else 'no '}nearer to the target than copying the "
        f"input: MAE {values['mae']:.3f}, copying {copying['mae']:.3f}.",
        is_good,
    )


# --- JSON, text and CSV -----------------------------------------------------------------------------------------------


def as_json(report: Report) -> dict:
    """The content of report.json: everything except sounds and pictures. What is not a finite number is None."""
    summary, models = report.summary(), list(report.models)
    target = comparison.summarise([{"target": result["target_itself"]} for result in report.results])["target"]
    text, is_good = verdict(summary, models, report.instruments)
    voices = [result["voice"] for result in report.results if result["voice"]]
    of_seeds = {m.name: [summary[model][m.name]["mean"] for model in report.seeds] for m in METRICS if report.seeds}
    content = {
        "title": report.title,
        "verdict": text,
        "is_good": is_good,
        "remarks": report.remarks,
        "columns": {**comparison.REFERENCES, **{model: model for model in models}},
        "models": {name: {"path": str(d.path), "summary": d.summary} for name, d in report.models.items()},
        "metrics": [dataclasses.asdict(metric) for metric in METRICS],
        "summary": summary,
        "target": {name: of_metric["mean"] for name, of_metric in target.items()},
        "seeds": {name: {"mean": np.mean(means), "sd": np.std(means, ddof=1)} for name, means in of_seeds.items()},
        "voices": {v: {"pairs": voices.count(v), "summary": report.summary(v)} for v in dict.fromkeys(voices)},
        "worst": {column: report.find_worst(column) for column in models or ["copy"]},
        "pairs": report.results,
        "left_out": [{"name": name, "reason": reason} for name, reason in report.left_out],
    }
    # Python writes numbers that JSON does not have, such as NaN, as constants of their own.
    return json.loads(json.dumps(content), parse_constant=lambda _: None)


def as_text(content: dict) -> str:
    """The content of report.json for the terminal: a row for each metric, a column for each way to make the output.

    Numbers are means over all pairs. With several pairs, the second line of a metric holds the 95 % bootstrap interval
    of each mean.
    """
    columns, n_pairs = content["columns"], len(content["pairs"])
    margin, width = 41, 15 if n_pairs > 1 else 9

    def row(label: str, cells: Sequence[str]) -> str:
        return label.ljust(margin) + "".join(cell.rjust(width) for cell in cells)

    lines = [content["title"], *content["remarks"], "", *textwrap.wrap(content["verdict"], 98), ""]
    lines += [f"[{i}] {title}" for i, title in enumerate(columns.values(), 1)]
    lines += ["", row("", [f"[{i}]" for i in range(1, len(columns) + 1)])]
    for metric in content["metrics"]:
        unit = f" ({metric['unit']})" if metric["unit"] else ""
        of_metric = [content["summary"][column][metric["name"]] for column in columns]
        lines.append(row(f"{metric['label']}{unit}, {metric['better']}", [_number(s["mean"]) for s in of_metric]))
        if n_pairs > 1:
            lines.append(row("", [f"{_number(s['low'])}..{_number(s['high'])}" for s in of_metric]))
    attack, flutter = (_number(content["target"][name]) for name in ("attack", "flutter"))
    lines += ["", f"Rise and flutter are differences; the target has {attack} ms, {flutter} dB."]
    if n_pairs > 1:
        lines.append(f"Means of {n_pairs} pairs; below each its 95 % bootstrap interval.")
        lines += [f"Greatest MAE of {name}: {', '.join(pairs)}" for name, pairs in content["worst"].items()]
    if content["seeds"]:
        lines.append("Mean and standard deviation over the seeds of one model:")
        lines += [f"  {name}: {_number(s['mean'])} +- {_number(s['sd'])}" for name, s in content["seeds"].items()]
    lines += [f"{pair['name']}: {note}" for pair in content["pairs"] for note in pair["notes"]]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 3) + 0:.3f}"  # + 0 makes -0 to 0


def write(report: Report, content: dict, folder: str | os.PathLike) -> list[pathlib.Path]:
    """Write report.json with `content`, report.csv with a row for each pair and column, and report.html into `folder`;
    their paths."""
    paths = [pathlib.Path(folder, f"report.{extension}") for extension in ("json", "csv", "html")]
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}  # file names need not be valid text
    write_json(paths[0], content)
    names = [metric.name for metric in METRICS]
    with replacing(paths[1]) as beside, open(beside, "w", newline="", **text) as file:
        table = csv.writer(file)
        table.writerow(["voice", "pair", "column", *names])
        for result in content["pairs"]:
            for column, values in result["values"].items():
                plain = [_plain_cell(text) for text in (result["voice"], result["piece"], column)]
                table.writerow([*plain, *(values[name] for name in names)])
    shown = {
        "excerpt_seconds": EXCERPT,
        "frequency_marks": plots.frequency_marks(report.representation.n_bins, report.representation.bin_hz),
        "page": [{"name": name, "sounds": sounds} for name, sounds in report.page.items()],
    }
    rendered = json.dumps({**content, **shown}).replace("<", "\\u003c")  # "</script>" in a name would end the element
    with replacing(paths[2]) as beside:
        beside.write_text(TEMPLATE.read_text(encoding="utf-8").replace("{{report}}", rendered), **text)
    return paths


def _plain_cell(text: str) -> str:
    """A name with an apostrophe in front where a spreadsheet would take it, also in full-width signs, for a formula."""
    is_formula = unicodedata.normalize("NFKC", text).startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{text}" if is_formula else text
