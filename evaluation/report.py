"""The results of an evaluation as a table for the terminal, report.json, report.csv and the page report.html.

The page is one file without links: sounds and pictures are embedded as data URLs, and its content security policy
forbids all requests. So it opens from disk, offline, on any device with a browser.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import os
import pathlib
import re
import string
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from common import cli, plots
from common.files import replacing, write_json
from data import PUBLISHED, Representation, amplitude_to_db, forward_transform
from evaluation import comparison, metrics
from training import dataset

TARGET_UNITS = {"attack": "ms", "flutter": "dB"}
EXCERPT = 30.0  # seconds of a recording on the page
TEMPLATE = pathlib.Path(__file__).with_name("report.html")


@dataclasses.dataclass(frozen=True)
class Sound:
    """A recording on the page: media type, encoded audio, and its spectrogram as a PNG."""

    media_type: str
    audio: bytes
    picture: bytes


@dataclasses.dataclass
class Report:
    """Everything an evaluation has found.

    Attributes:
        title: one line.
        remarks: lines about what was evaluated.
        columns: name: title for people; references first, then models.
        models: name: {"path", "summary"} of the columns that are models.
        results: evaluated pairs without their audios.
        left_out: (file, reason) of what could not be evaluated.
        sounds: pair: {"origin", "target", each model: `Sound`} of the pairs on the page.
        page_pairs: maximum number of pairs on the page; those with the greatest MAE are shown.
        plot_scale: frequency axis of the spectrograms, as in `plots.spectrogram_figure`.
        frequency_marks: frequency in Hz: its height in the pictures, 0 to 1.
    """

    title: str
    remarks: list[str]
    columns: dict[str, str]
    models: dict[str, dict[str, str]]
    results: list[comparison.Result] = dataclasses.field(default_factory=list)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    sounds: dict[str, dict[str, Sound]] = dataclasses.field(default_factory=dict)
    page_pairs: int = 12
    plot_scale: str = plots.SCALES[0]
    frequency_marks: dict[int, float] = dataclasses.field(default_factory=dict)

    @property
    def ranking_column(self) -> str:
        """The column whose MAE decides which pairs are on the page: the last model, or "copy" without models."""
        return list(self.models)[-1] if self.models else "copy"

    @property
    def names(self) -> list[str]:
        """Names of the evaluated pairs."""
        return [result.pair.name for result in self.results]

    @property
    def values(self) -> list[dict[str, dict[str, float]]]:
        """Metrics of the evaluated pairs."""
        return [result.values for result in self.results]

    @property
    def pairs_by_voice(self) -> dict[str, list[comparison.Result]]:
        """The evaluated pairs of each voice; empty where the origin has only one voice."""
        voices: dict[str, list[comparison.Result]] = {}
        for result in self.results:
            if result.pair.voice:
                voices.setdefault(result.pair.voice, []).append(result)
        return voices

    def add(self, result: comparison.Result, representation: Representation = PUBLISHED) -> None:
        """Add a result: always its numbers, its sounds only while it is among the worst `page_pairs`."""
        self.results.append(dataclasses.replace(result, audios={}))
        self.frequency_marks = plots.frequency_marks(representation.n_bins, representation.bin_hz, self.plot_scale)
        shown = comparison.find_worst(self.names, self.values, self.ranking_column, self.page_pairs)
        if result.pair.name in shown:
            self.sounds[result.pair.name] = make_sounds(
                result, ["origin", *self.models, "target"], representation, self.plot_scale
            )
        self.sounds = {name: self.sounds[name] for name in shown}

    def summary(self) -> dict[str, dict[str, comparison.Statistics]]:
        """`comparison.summarise` of all pairs."""
        return _summarise(self.results)

    def target(self) -> dict[str, float]:
        """Mean attack and flutter of the targets themselves."""
        measured = {
            name: [r.target[name] for r in self.results if np.isfinite(r.target[name])] for name in TARGET_UNITS
        }
        return {name: float(np.mean(values)) if values else float("nan") for name, values in measured.items()}

    def summary_by_voice(self) -> dict[str, dict[str, dict[str, comparison.Statistics]]]:
        """`comparison.summarise` of the pairs of each voice; empty where the origin has only one voice."""
        return {voice: _summarise(results) for voice, results in self.pairs_by_voice.items()}


def _summarise(results: Sequence[comparison.Result]) -> dict[str, dict[str, comparison.Statistics]]:
    pieces = [dataset.VARIATION.sub("", result.pair.piece) for result in results]
    return comparison.summarise([result.values for result in results], pieces)


def make_sounds(
    result: comparison.Result,
    names: Sequence[str],
    representation: Representation = PUBLISHED,
    plot_scale: str = plots.SCALES[0],
) -> dict[str, Sound]:
    """Excerpts of at most 30 s of a result's audios, encoded, with their spectrograms, by name.

    The excerpt is where the target is loudest. The sounds, not the pictures, are scaled to the same RMS level, the
    greatest at which none clips: otherwise loudness would decide the blind comparison.
    """
    rate = representation.sample_rate
    n = int(EXCERPT * rate)
    start = _find_loudest(result.audios["target"], n, rate)
    cuts = {name: np.asarray(result.audios[name][start : start + n], np.float32) for name in names}
    rms = {name: float(np.sqrt(np.mean(np.square(cut, dtype=np.float64)))) for name, cut in cuts.items()}
    audible = [name for name in cuts if rms[name] > 1e-5]  # below -100 dB a sound is silence and stays as it is
    # 10 % of headroom, because decoded MP3 overshoots.
    common_rms = min((0.9 * rms[name] / float(np.abs(cuts[name]).max()) for name in audible), default=1.0)
    sounds = {}
    for name, cut in cuts.items():
        media_type, audio = encode(cut * (common_rms / rms[name] if name in audible else 1.0), rate)
        sounds[name] = Sound(media_type, audio, _draw_spectrogram(cut, representation, plot_scale))
    return sounds


def save_pictures(
    result: comparison.Result,
    models: Sequence[str],
    folder: str | os.PathLike,
    extension: str,
    representation: Representation = PUBLISHED,
    plot_scale: str = plots.SCALES[0],
) -> pathlib.Path:
    """Write the spectrograms of a result's input, outputs and target as one picture; the path.

    Args:
        models: columns of the outputs.
        folder: gets ``spectrograms/<pair>.<extension>``.
        extension: one of `plots.FORMATS`.
    """
    panels = []
    for name in ("origin", *models, "target"):
        magnitude, _ = forward_transform(np.asarray(result.audios[name], np.float32), representation)
        level = np.clip(amplitude_to_db(magnitude, representation.amin), 0, 1)
        panels.append(("input" if name == "origin" else name, level))
    path = pathlib.Path(folder, "spectrograms", f"{result.pair.name.replace('/', '_')}.{extension}")
    seconds_per_frame = representation.hop_length / representation.sample_rate
    plots.save_spectrograms(path, panels, seconds_per_frame, representation.bin_hz, scale=plot_scale)
    return path


def _find_loudest(audio: np.ndarray, n: int, step: int) -> int:
    """Start of the `n` samples with the greatest energy, in steps of `step`."""
    if len(audio) <= n:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    starts = np.append(np.arange(0, len(audio) - n, step), len(audio) - n)
    return int(starts[np.argmax(energy[starts + n] - energy[starts])])


def encode(audio: np.ndarray, sample_rate: int) -> tuple[str, bytes]:
    """Media type and bytes of audio ``(n_samples,)``: MP3, which every browser plays, or WAV if libsndfile lacks it."""
    import soundfile

    file = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(file, audio, sample_rate, format="MP3")
        return "audio/mpeg", file.getvalue()
    soundfile.write(file, audio, sample_rate, format="WAV", subtype="PCM_16")
    return "audio/wav", file.getvalue()


def _draw_spectrogram(audio: np.ndarray, representation: Representation, plot_scale: str) -> bytes:
    """Spectrogram of audio ``(n_samples,)`` as a PNG; the colour scale is the whole log scale for all of them."""
    magnitude, _ = forward_transform(audio, representation)
    level = np.clip(amplitude_to_db(magnitude, representation.amin), 0, 1)
    return plots.spectrogram_png(level, representation.bin_hz, plot_scale)


# --- text and tables --------------------------------------------------------------------------------------------------


def as_text(report: Report) -> str:
    """The table for the terminal: a row for each metric, a column for each way of making the output.

    Numbers are means over all pairs. With several pairs, the second line of a metric holds the 95 % bootstrap interval
    of each mean; where the origin has several voices, further lines hold the means of each voice.
    """
    summary, by_voice = report.summary(), report.summary_by_voice()
    n_pairs = len(report.results)
    numbers = {f"[{i}]": name for i, name in enumerate(report.columns, 1)}
    margin = max([34, *(len(voice) + 3 for voice in by_voice)])
    width = 15 if n_pairs > 1 else 9

    def row(label: str, cells: Iterable[str]) -> str:
        return label.ljust(margin) + "".join(cell.rjust(width) for cell in cells)

    lines = [
        *textwrap.wrap(verdict(report)[0], 98),
        "",
        *(f"{mark} {report.columns[name]}" for mark, name in numbers.items()),
    ]
    lines += ["", row("", numbers)]
    for metric in metrics.METRICS:
        of_metric = [of_column[metric.name] for of_column in summary.values()]
        lines.append(row(f"{_label(metric)}, {metric.better}", (_number(s.mean) for s in of_metric)))
        if n_pairs > 1:
            lines.append(row("", (f"{_number(s.low)}-{_number(s.high)}" for s in of_metric)))
        for voice, of_voice in by_voice.items():
            lines.append(row(f"  {voice}", (_number(of_voice[column][metric.name].mean) for column in summary)))
    if n_pairs > 1:
        lines += ["", f"Means of {n_pairs} pairs; below each its 95 % bootstrap interval."]
        counts = [f"{voice} ({cli.count(len(pairs), 'pair')})" for voice, pairs in report.pairs_by_voice.items()]
        lines += [f"Then the means of each voice: {', '.join(counts)}."] if counts else []
        for name in report.models or ["copy"]:
            worst = comparison.find_worst(report.names, report.values, name)
            lines.append(f"Greatest MAE of {report.columns[name]}: {', '.join(worst)}")
    of_target = [f"{name} {_number(value)} {TARGET_UNITS[name]}" for name, value in report.target().items()]
    lines.append(f"The target itself: {', '.join(of_target)}.")
    for result in report.results:
        lines += [f"{result.pair.name}: {note}" for note in result.notes]
    return "\n".join(lines)


def _label(metric: metrics.Metric) -> str:
    """A metric's label with its unit."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _number(value: float) -> str:
    """A number with about three significant digits, or "-"."""
    if not np.isfinite(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def as_json(report: Report) -> dict:
    """The content of report.json: everything except sounds and pictures. What is not a finite number is None."""
    return {
        "title": report.title,
        "verdict": verdict(report)[0],
        "remarks": report.remarks,
        "columns": report.columns,
        "models": report.models,
        "metrics": [
            {key: getattr(metric, key) for key in ("name", "label", "unit", "better", "best")}
            for metric in metrics.METRICS
        ],
        "summary": _summary_as_json(report.summary()),
        "target": _finite_or_none(report.target()),
        "voices": {
            voice: {"pairs": len(report.pairs_by_voice[voice]), "summary": _summary_as_json(summary)}
            for voice, summary in report.summary_by_voice().items()
        },
        "worst": {
            name: comparison.find_worst(report.names, report.values, name) for name in (report.models or ["copy"])
        },
        "pairs": [
            {
                "name": result.pair.name,
                "voice": result.pair.voice,
                "origin": str(result.pair.origin),
                "target": str(result.pair.target),
                "seconds": result.seconds,
                "notes": result.notes,
                "target_itself": _finite_or_none(result.target),
                "values": {column: _finite_or_none(values) for column, values in result.values.items()},
            }
            for result in report.results
        ],
        "left_out": [{"name": name, "reason": reason} for name, reason in report.left_out],
    }


def _summary_as_json(summary: Mapping[str, Mapping[str, comparison.Statistics]]) -> dict:
    return {
        column: {name: _finite_or_none(dataclasses.asdict(statistics)) for name, statistics in of_column.items()}
        for column, of_column in summary.items()
    }


def _finite_or_none(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def as_rows(report: Report) -> list[list]:
    """The rows of report.csv, the header first: one for each pair and column.

    Where the origin has several voices, rows without a pair follow: the means of each voice, and those of all pairs
    (without a voice either). What is not a finite number is empty.
    """
    names = [metric.name for metric in metrics.METRICS]
    tables = [(result.pair.voice, result.pair.piece, result.values) for result in report.results]
    by_voice = report.summary_by_voice()
    if by_voice:
        tables += [(voice, "", _means(summary)) for voice, summary in by_voice.items()]
        tables.append(("", "", _means(report.summary())))
    rows: list[list] = [["voice", "pair", "column", *names]]
    for voice, pair, table in tables:
        for column, values in table.items():
            rows.append(
                [
                    *map(_plain_cell, (voice, pair, column)),
                    *(values[n] if np.isfinite(values[n]) else "" for n in names),
                ]
            )
    return rows


def _plain_cell(text: str) -> str:
    """A name as a cell of a table: with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _means(summary: Mapping[str, Mapping[str, comparison.Statistics]]) -> dict[str, dict[str, float]]:
    """The means of a summary: column: {metric: mean}."""
    return {
        column: {name: statistics.mean for name, statistics in of_column.items()}
        for column, of_column in summary.items()
    }


LATEX_ESCAPES = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def as_latex(report: Report) -> str:
    """The means of all pairs as a LaTeX table for the package booktabs: a row for each metric, a column for each way.

    With several pairs, the 95 % interval of each mean is below it. The best of several models is bold.
    """
    summary, n_pairs = report.summary(), len(report.results)
    titles = [_latex(title) for title in report.columns.values()]
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * len(titles)}}}",
        "\\toprule",
        " & ".join(["", *(f"\\shortstack[r]{{{_break(title)}}}" for title in titles)]) + r" \\",
        "\\midrule",
    ]
    for metric in metrics.METRICS:
        best = _best_model(report, {name: of_column[metric.name].mean for name, of_column in summary.items()}, metric)
        arrow = r"$\uparrow$" if metric.better == "higher" else r"$\downarrow$"
        cells, intervals = [f"{_latex(_label(metric))} {arrow}"], [""]
        for name, of_column in summary.items():
            statistics = of_column[metric.name]
            number = _number(statistics.mean) if np.isfinite(statistics.mean) else "--"
            cells.append(f"\\textbf{{{number}}}" if name in report.models and statistics.mean == best else number)
            is_known = np.isfinite(statistics.low)
            interval = f"{_number(statistics.low)}--{_number(statistics.high)}"
            intervals.append(f"\\footnotesize {interval}" if is_known else "")
        lines.append(" & ".join(cells) + r" \\")
        if n_pairs > 1:
            lines.append(" & ".join(intervals) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _latex(text: str) -> str:
    """`text` with LaTeX's special characters escaped."""
    return "".join(LATEX_ESCAPES.get(sign, sign) for sign in text)


def _break(title: str) -> str:
    """A column's title on two lines: after the comma, or else at the space nearest to its middle."""
    if ", " in title:
        return title.replace(", ", r",\\", 1)
    spaces = [i for i, sign in enumerate(title) if sign == " "]
    if not spaces:
        return title
    middle = min(spaces, key=lambda i: abs(i - len(title) / 2))
    return title[:middle] + r"\\" + title[middle + 1 :]


def _best_model(report: Report, values: Mapping[str, float], metric: metrics.Metric) -> float | None:
    """The best value that a model has in one metric; None where there are not several models."""
    of_models = [values[name] for name in report.models if np.isfinite(values[name])]
    return min(of_models, key=lambda value: abs(value - metric.best)) if len(of_models) > 1 else None


def write(report: Report, folder: str | os.PathLike, latex: bool = False) -> list[pathlib.Path]:
    """Write report.json, report.csv, report.html and with `latex` report.tex into `folder`; their paths."""
    import csv

    folder = pathlib.Path(folder)
    json_path, csv_path, html_path = (folder / f"report.{extension}" for extension in ("json", "csv", "html"))
    text = {"encoding": "utf-8", "errors": "backslashreplace"}  # file names need not be valid text
    write_json(json_path, as_json(report))
    with replacing(csv_path) as beside, open(beside, "w", newline="", **text) as file:
        csv.writer(file).writerows(as_rows(report))
    with replacing(html_path) as beside:
        beside.write_text(as_html(report), **text)
    paths = [json_path, csv_path, html_path]
    if latex:
        paths.append(folder / "report.tex")
        with replacing(paths[-1]) as beside:
            beside.write_text(as_latex(report), **text)
    return paths


# --- the page ---------------------------------------------------------------------------------------------------------


def as_html(report: Report) -> str:
    """The page of a report."""
    n = len(report.results)
    shown = f"The {len(report.sounds)} pairs with the greatest MAE of {n}." if len(report.sounds) < n else ""
    by_voice = {voice: _means(summary) for voice, summary in report.summary_by_voice().items()}
    caption = "Mean of all pairs, and of each voice" if by_voice else f"Mean of {n} pairs" if n > 1 else ""
    sentence, is_good = verdict(report)
    key = '<span class="key worse">\u2717 worse than copying the input</span>'
    if len(report.models) > 1:
        key = f'<span class="key best">best model</span>, if it is better than copying the input; {key}'
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(report.title.replace("_", " ")),
        verdict=_breakable(sentence),
        verdict_class="" if is_good else "bad",
        key=key if report.models else "",
        remarks="".join(f"<p>{html.escape(line)}</p>" for line in report.remarks),
        summary=_html_table(report, _means(report.summary()), caption, by_voice),
        hidden_with_models="hidden" if report.models else "",
        hidden_without_models="" if report.models else "hidden",
        trials=_trials_json(report),
        shown=html.escape(shown),
        pairs="".join(_html_pairs(report)),
        left_out=_html_left_out(report.left_out),
    )


def verdict(report: Report) -> tuple[str, bool]:
    """One sentence about the best model, by its mean MAE beside that of copying the input, and whether it is better."""
    means = _means(report.summary())
    copying = means["copy"]
    if not report.models:
        return f"No model was given: copying the input has a mean absolute error (MAE) of {copying['mae']:.3f}.", True
    best = min(report.models, key=lambda name: (not np.isfinite(means[name]["mae"]), means[name]["mae"]))
    values, title = means[best], report.columns[best]
    compared = [m for m in metrics.METRICS if np.isfinite(values[m.name]) and np.isfinite(copying[m.name])]
    n_better = sum(m.is_better(values[m.name], copying[m.name]) for m in compared)
    subject = (
        f"Of {len(report.models)} models, {title} comes closest to the target" if len(report.models) > 1 else title
    )
    numbers = f"its MAE is {values['mae']:.3f}, that of copying the input {copying['mae']:.3f}"
    metrics_won = f"better in {n_better} of {len(compared)} metrics"
    if not values["mae"] < copying["mae"]:
        verb = ", but is no better" if len(report.models) > 1 else " is no better"
        return f"{subject}{verb} than copying the input: {numbers} ({metrics_won}).", False
    less = 100 * (1 - values["mae"] / copying["mae"])
    verb = "" if len(report.models) > 1 else " comes closer to the target than copying the input"
    return f"{subject}{verb}: {numbers} ({less:.0f} % less; {metrics_won}).", True


def _html_table(
    report: Report,
    values: Mapping[str, Mapping[str, float]],
    caption: str,
    by_voice: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
) -> str:
    """A row for each metric, and one below for each voice; a column for each of `values`, the models first."""
    order = [*report.models, *(name for name in values if name not in report.models)]
    head = "".join(
        f'<th scope="col"{"" if name in report.models else " class=reference"}>{_breakable(report.columns[name])}</th>'
        for name in order
    )
    rows = []
    for metric in metrics.METRICS:
        label = f"{html.escape(_label(metric))} <small>{metric.better} is better, best {metric.best:g}</small>"
        rows.append(f'<tr><th scope="row">{label}</th>{_html_cells(report, values, metric, order)}</tr>')
        for voice, of_voice in (by_voice or {}).items():
            cells = _html_cells(report, of_voice, metric, order)
            rows.append(f'<tr class=voice><th scope="row">{html.escape(voice)}</th>{cells}</tr>')
    shown_caption = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{shown_caption}<thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _breakable(name: str) -> str:
    """A name as HTML that may be broken after _, / and -, but not inside its words."""
    return re.sub(r"([_/-]+)(?=.)", r"\1<wbr>", html.escape(name)).replace(" %", "&nbsp;%")


def _html_cells(
    report: Report, values: Mapping[str, Mapping[str, float]], metric: metrics.Metric, order: Sequence[str]
) -> str:
    """The cells of one metric, marked where a model is worse than copying the input, or else the best of several."""
    best = _best_model(report, {name: row[metric.name] for name, row in values.items()}, metric)
    cells = []
    for name in order:
        value, copying = values[name][metric.name], values.get("copy", {}).get(metric.name, np.nan)
        mark = ""
        if name not in report.models:
            mark = " class=reference"
        elif metric.is_better(copying, value):
            mark = ' class=worse title="worse than copying the input"'
        elif value == best and metric.is_better(value, copying):
            mark = " class=best"
        cells.append(f"<td{mark}>{_number(value)}</td>")
    return "".join(cells)


def _html_pairs(report: Report) -> Iterator[str]:
    results = {result.pair.name: result for result in report.results}
    for number, (name, sounds) in enumerate(report.sounds.items()):
        result = results[name]
        notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in result.notes)
        seconds = min(result.seconds, EXCERPT)
        marks = "".join(
            f'<span class="hz" style="bottom:{100 * height:.1f}%">{hertz}</span>'
            for hertz, height in report.frequency_marks.items()
            if height < 0.97
        ) + "".join(
            f'<span class="at{"" if time else " start"}" style="left:{100 * time / seconds:.2f}%">{_clock(time)}</span>'
            for time in _round_times(seconds)
        )
        players = []
        for key, sound in sounds.items():
            title = {"origin": "input", "target": "target"}.get(key)
            title = title or ("output" if len(report.models) == 1 else report.columns[key])
            players.append(
                f'<figure><figcaption>{_breakable(title)}</figcaption>'
                f'<audio controls preload="metadata" id="{html.escape(_sound_id(report, number, key))}" '
                f'src="{_data_url(sound.media_type, sound.audio)}"></audio>'
                f'<button type="button" class="picture"><img alt="spectrogram: {html.escape(title)}" '
                f'src="{_data_url("image/png", sound.picture)}">{marks}<i></i></button></figure>'
            )  # fmt: skip
        table = ""
        if len(report.results) > 1:
            table = (
                f"<details><summary>Numbers of this pair</summary>{_html_table(report, result.values, '')}</details>"
            )
        yield (
            f'<section class="pair card" data-seconds="{seconds:.2f}"><h3>{_breakable(name)} '
            f'<small>{result.seconds:.1f} s</small></h3>{notes}<div class="transport"></div>'
            f'<div class="players{" four" if len(players) == 4 else ""}">{"".join(players)}</div>{table}</section>'
        )


def _round_times(seconds: float) -> list[int]:
    """The seconds to mark below a picture: at most six, of which none is at the very end."""
    step = next((step for step in (1, 2, 5) if seconds / step <= 6), 10)
    return [time for time in range(0, int(seconds) + 1, step) if not time or time < 0.95 * seconds]


def _clock(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02d}"


def _sound_id(report: Report, number: int, key: str) -> str:
    """The id of a sound's player: plain characters, whatever the names of models and pairs."""
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
