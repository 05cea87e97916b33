"""What an evaluation leaves behind: a table for the terminal, report.json, report.csv and the page report.html.

The page is one file without any link: sounds and pictures stand in it as data URLs, and its own content security policy
forbids every request, so that it opens from disk, offline, on any device with a browser.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import os
import pathlib
import string
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from common import plots
from common.files import replacing, write_json
from data import PUBLISHED, Representation, amplitude_to_db, forward_transform
from evaluation import comparison, metrics

EXCERPT = 30.0  # seconds of a recording on the page
TEMPLATE = pathlib.Path(__file__).with_name("report.html")


@dataclasses.dataclass(frozen=True)
class Sound:
    """A recording on the page: media type, encoded bytes, and the PNG of its spectrogram."""

    media_type: str
    audio: bytes
    picture: bytes


@dataclasses.dataclass
class Report:
    """All of an evaluation but the audio.

    Attributes:
        title: one line.
        said: lines about what was evaluated.
        columns: name: what a reader calls it; references first, then models.
        models: name: {"path", "summary"} of the columns that are models.
        results: evaluated pairs, their audios left out.
        left_out: (file, reason).
        sounds: pair: {"origin", "target", each model: `Sound`} of the pairs on the page.
        page_pairs: most pairs on the page: those with the greatest MAE.
    """

    title: str
    said: list[str]
    columns: dict[str, str]
    models: dict[str, dict[str, str]]
    results: list[comparison.Result] = dataclasses.field(default_factory=list)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    sounds: dict[str, dict[str, Sound]] = dataclasses.field(default_factory=dict)
    page_pairs: int = 12

    @property
    def judged(self) -> str:
        """The column that pairs are ordered by: the last model, or copying where there is none."""
        return list(self.models)[-1] if self.models else "copy"

    @property
    def names(self) -> list[str]:
        """Names of the evaluated pairs."""
        return [result.pair.name for result in self.results]

    @property
    def values(self) -> list[dict[str, dict[str, float]]]:
        """Metrics of the evaluated pairs."""
        return [result.values for result in self.results]

    def add(self, result: comparison.Result, representation: Representation = PUBLISHED) -> None:
        """Take in a result: its numbers, and its sounds as long as it is among the worst `page_pairs`."""
        self.results.append(dataclasses.replace(result, audios={}))
        shown = comparison.worst(self.names, self.values, self.judged, self.page_pairs)
        if result.pair.name in shown:
            self.sounds[result.pair.name] = make_sounds(result, ["origin", *self.models, "target"], representation)
        self.sounds = {name: self.sounds[name] for name in shown}

    def summary(self) -> dict[str, dict[str, comparison.Statistics]]:
        """`evaluation.summarise` of all pairs."""
        return comparison.summarise(self.values)


def make_sounds(
    result: comparison.Result, names: Sequence[str], representation: Representation = PUBLISHED
) -> dict[str, Sound]:
    """Excerpts of at most 30 s of a result's audios, encoded, with their spectrograms, by name.

    The excerpt is where the target is loudest. The sounds, not the pictures, are brought to one RMS level, the greatest
    at which none clips: a blind comparison would otherwise be decided by loudness.
    """
    rate = representation.sample_rate
    n = int(EXCERPT * rate)
    start = _loudest(result.audios["target"], n, rate)
    cuts = {name: np.asarray(result.audios[name][start : start + n], np.float32) for name in names}
    rms = {name: float(np.sqrt(np.mean(np.square(cut, dtype=np.float64)))) for name, cut in cuts.items()}
    heard = [name for name in cuts if rms[name] > 1e-5]  # -100 dB: what is silent stays silent
    # A tenth of headroom, because MP3 overshoots.
    common = min((0.9 * rms[name] / float(np.abs(cuts[name]).max()) for name in heard), default=1.0)
    sounds = {}
    for name, cut in cuts.items():
        media_type, audio = encode(cut * (common / rms[name] if name in heard else 1.0), rate)
        sounds[name] = Sound(media_type, audio, _picture(cut, representation))
    return sounds


def _loudest(audio: np.ndarray, n: int, step: int) -> int:
    """Start of the `n` samples with the greatest energy, in steps of `step`."""
    if len(audio) <= n:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    starts = np.append(np.arange(0, len(audio) - n, step), len(audio) - n)
    return int(starts[np.argmax(energy[starts + n] - energy[starts])])


def encode(audio: np.ndarray, sample_rate: int) -> tuple[str, bytes]:
    """Media type and bytes of audio ``(n_samples,)``: MP3, which every browser plays; WAV where libsndfile has none."""
    import soundfile

    file = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(file, audio, sample_rate, format="MP3")
        return "audio/mpeg", file.getvalue()
    soundfile.write(file, audio, sample_rate, format="WAV", subtype="PCM_16")
    return "audio/wav", file.getvalue()


def _picture(audio: np.ndarray, representation: Representation) -> bytes:
    """PNG of a spectrogram; all of a page have one colour scale, that of the log level."""
    magnitude, _ = forward_transform(audio, representation)
    level = np.clip(amplitude_to_db(magnitude, representation.amin), 0, 1)
    seconds_per_frame = representation.hop_length / representation.sample_rate
    return plots.spectrogram_png(level, seconds_per_frame, representation.bin_hz)


# --- text and tables --------------------------------------------------------------------------------------------------


def table(report: Report) -> str:
    """The table for the terminal: a row a metric, a column a way of making the output; means over the pairs.

    With several pairs a second line a metric holds the bootstrap interval of each mean.
    """
    summary = report.summary()
    numbers = {f"[{i}]": name for i, name in enumerate(report.columns, 1)}
    width = 15 if len(report.results) > 1 else 9
    lines = [f"{mark} {report.columns[name]}" for mark, name in numbers.items()]
    lines += ["", " " * 34 + "".join(mark.rjust(width) for mark in numbers)]
    for metric in metrics.METRICS:
        label = f"{metric.label}{f' ({metric.unit})' if metric.unit else ''}, {metric.better}"
        lines.append(label.ljust(34) + "".join(_number(summary[c][metric.name].mean).rjust(width) for c in summary))
        if len(report.results) > 1:
            spans = (f"{_number(s.low)}-{_number(s.high)}" for s in (summary[c][metric.name] for c in summary))
            lines.append(" " * 34 + "".join(span.rjust(width) for span in spans))
    if len(report.results) > 1:
        lines += ["", f"Means of {len(report.results)} pairs; below each its 95 % bootstrap interval."]
        for name in report.models or ["copy"]:
            names = comparison.worst(report.names, report.values, name)
            lines.append(f"Greatest MAE of {report.columns[name]}: {', '.join(names)}")
    for result in report.results:
        lines += [f"{result.pair.name}: {note}" for note in result.notes]
    return "\n".join(lines)


def _number(value: float) -> str:
    """Three significant digits or so, in few characters."""
    if not np.isfinite(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def as_json(report: Report) -> dict:
    """Everything of a report but sounds and pictures, as report.json holds it; what is no number is null."""

    def plain(value: float) -> float | None:
        return value if np.isfinite(value) else None

    def plain_values(values: Mapping[str, Mapping[str, float]]) -> dict:
        return {column: {name: plain(value) for name, value in row.items()} for column, row in values.items()}

    summary = {
        column: {
            name: {key: plain(value) for key, value in dataclasses.asdict(statistics).items()}
            for name, statistics in of_column.items()
        }
        for column, of_column in report.summary().items()
    }
    return {
        "title": report.title,
        "said": report.said,
        "columns": report.columns,
        "models": report.models,
        "metrics": [
            {key: getattr(metric, key) for key in ("name", "label", "unit", "better", "best")}
            for metric in metrics.METRICS
        ],
        "summary": summary,
        "worst": {
            name: comparison.worst(report.names, report.values, name) for name in (report.models or ["copy"])
        },
        "pairs": [
            {
                "name": result.pair.name,
                "origin": str(result.pair.origin),
                "target": str(result.pair.target),
                "seconds": result.seconds,
                "notes": result.notes,
                "values": plain_values(result.values),
            }
            for result in report.results
        ],
        "left_out": [{"name": name, "reason": reason} for name, reason in report.left_out],
    }  # fmt: skip


def write(report: Report, folder: str | os.PathLike) -> list[pathlib.Path]:
    """Write report.json, report.csv (a row a pair and column) and report.html into `folder`; their paths."""
    import csv

    folder = pathlib.Path(folder)
    paths = [folder / f"report.{extension}" for extension in ("json", "csv", "html")]
    write_json(paths[0], as_json(report))
    names = [metric.name for metric in metrics.METRICS]
    text = {"encoding": "utf-8", "errors": "backslashreplace"}  # the name of a file may be anything
    with replacing(paths[1]) as beside, open(beside, "w", newline="", **text) as file:
        rows = csv.writer(file)
        rows.writerow(["pair", "column", *names])
        for result in report.results:
            for column, values in result.values.items():
                numbers = (values[name] if np.isfinite(values[name]) else "" for name in names)
                rows.writerow([result.pair.name, column, *numbers])
    with replacing(paths[2]) as beside:
        beside.write_text(as_html(report), **text)
    return paths


# --- the page ---------------------------------------------------------------------------------------------------------


def as_html(report: Report) -> str:
    """The page of a report."""
    summary = {
        column: {name: statistics.mean for name, statistics in of_column.items()}
        for column, of_column in report.summary().items()
    }
    n = len(report.results)
    shown = f"The {len(report.sounds)} pairs with the greatest MAE of {n}" if len(report.sounds) < n else "All pairs"
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(report.title),
        remarks="".join(f"<p>{html.escape(line)}</p>" for line in report.said),
        summary=_html_table(report, summary, "Mean of all pairs" if n > 1 else "Metrics"),
        hidden_with_models="hidden" if report.models else "",
        hidden_without_models="" if report.models else "hidden",
        trials=_trials_json(report),
        shown=html.escape(shown),
        pairs="".join(_html_pairs(report)),
        left_out=_html_left_out(report.left_out),
    )


def _html_table(report: Report, values: Mapping[str, Mapping[str, float]], caption: str) -> str:
    """Metrics by columns; the best model of a row is marked."""
    head = "".join(f'<th scope="col">{html.escape(report.columns[name])}</th>' for name in values)
    rows = []
    for metric in metrics.METRICS:
        of_models = [value for name in report.models if np.isfinite(value := values[name][metric.name])]
        best = (max if metric.better == "higher" else min)(of_models) if len(of_models) > 1 else None
        cells = "".join(
            f"<td{' class=best' if name in report.models and row[metric.name] == best else ''}>"
            f"{_number(row[metric.name])}</td>"
            for name, row in values.items()
        )
        unit = f" ({metric.unit})" if metric.unit else ""
        rows.append(
            f'<tr><th scope="row">{html.escape(metric.label + unit)} <small>{metric.better} is better, '
            f"best {metric.best:g}</small></th>{cells}</tr>"
        )
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _html_pairs(report: Report) -> Iterator[str]:
    results = {result.pair.name: result for result in report.results}
    for number, (name, sounds) in enumerate(report.sounds.items()):
        result = results[name]
        notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in result.notes)
        players = []
        for key, sound in sounds.items():
            title = {"origin": "input", "target": "target"}.get(key) or report.columns[key]
            players.append(
                f'<figure><figcaption>{html.escape(title)}</figcaption>'
                f'<audio controls preload="metadata" id="{html.escape(_sound_id(report, number, key))}" '
                f'src="{_data_url(sound.media_type, sound.audio)}"></audio>'
                f'<img alt="spectrogram: {html.escape(title)}" src="{_data_url("image/png", sound.picture)}"></figure>'
            )  # fmt: skip
        yield (
            f"<section class=pair><h3>{html.escape(name)} <small>{result.seconds:.1f} s</small></h3>{notes}"
            f'<div class="players">{"".join(players)}</div>{_html_table(report, result.values, "Metrics")}</section>'
        )


def _sound_id(report: Report, number: int, key: str) -> str:
    """Of the player of one sound; plain characters whatever models and pairs are called."""
    keys = ["origin", "target", *report.models]
    return f"sound-{number}-{keys.index(key)}"


def _trials_json(report: Report) -> str:
    """The comparisons of the blind test as JSON that may stand inside a script element."""
    trials = [
        {
            "pair": name,
            "model": model,
            "target": _sound_id(report, number, "target"),
            "output": _sound_id(report, number, model),
        }
        for number, name in enumerate(report.sounds)
        for model in report.models
    ]
    return json.dumps(trials).replace("<", "\\u003c")  # "</script>" in a name would end the element


def _html_left_out(left_out: Sequence[tuple[str, str]]) -> str:
    if not left_out:
        return ""
    items = "".join(f"<li>{html.escape(f'{name}: {reason}')}</li>" for name, reason in left_out)
    return f"<section><h2>Left out</h2><ul>{items}</ul></section>"


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
