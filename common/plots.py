"""All plots of the project: spectrograms, animations, training curves and learning-rate plots.

Uses `matplotlib.figure.Figure` with an Agg canvas, without pyplot: no display and no global state, so that plots can be
drawn in any thread and within any program. Files are written whole or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from common.files import replacing
from data import PUBLISHED

COLOUR_MAP = "magma"  # perceptually uniform, readable in grey and by the colour-blind
SCALES = ("mel", "log", "linear")  # of the frequency axis of spectrograms
DPI = 300  # of the files for people; what is shown on a screen or animated has SCREEN_DPI
SCREEN_DPI = 100
FORMATS = ("png", "pdf", "svg")
MAX_COLUMNS = 14 * DPI  # more than the widest picture has; no picture shows the 310 000 frames of an hour

Panels = Sequence[tuple[str, np.ndarray]]


def add_arguments(parser: argparse.ArgumentParser, plot_format: bool = False) -> None:
    """The arguments of all commands that draw spectrograms; with `plot_format`, those of the train commands."""
    if plot_format:
        parser.add_argument(
            "--plot_format",
            choices=FORMATS,
            default=FORMATS[0],
            help="of the plots of history and learning rates; pdf and svg for papers, with text as text",
        )
    parser.add_argument(
        "--plot_scale",
        choices=SCALES,
        default=SCALES[0],
        help="frequency axis of spectrograms; linear, as published, shows the bins that the network works on",
    )


def save_spectrograms(
    path: str | os.PathLike, panels: Panels, seconds_per_frame: float, hz_per_bin: float | None = None, **appearance
) -> None:
    """Write `spectrogram_figure`, whose arguments it takes, to `path`; the extension determines the format."""
    _save(spectrogram_figure(panels, seconds_per_frame, hz_per_bin, **appearance), path)


def spectrogram_frame(
    panels: Panels, seconds_per_frame: float, hz_per_bin: float | None = None, **appearance
) -> np.ndarray:
    """`spectrogram_figure` as RGB, uint8 ``(height, width, 3)``, for `save_gif` and TensorBoard.

    An inch has 100 pixels. Panels are placed side by side. Panels of the same shapes give pictures of the same size.
    With `decibels`, pass `vmin` and `vmax`, so that all frames have the same colour scale.
    """
    figure = spectrogram_figure(panels, seconds_per_frame, hz_per_bin, beside=True, dpi=SCREEN_DPI, **appearance)
    with _without_glyph_warnings():
        figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def save_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write a picture, uint8 ``(height, width, 3)`` as from `spectrogram_frame`."""
    from PIL import Image

    with replacing(path) as beside:
        Image.fromarray(picture).save(beside)


def spectrogram_png(
    level: np.ndarray, hz_per_bin: float, scale: str = SCALES[0], size: tuple[int, int] = (1200, 420)
) -> bytes:
    """One log level [0, 1] ``(n_bins, n_frames)`` as PNG for a web page, on the whole colour scale, without axes.

    The picture has at most `size` (columns, rows); `frequency_marks` says which frequency is where.
    """
    from matplotlib import colormaps
    from PIL import Image

    n_columns, n_rows = size
    shown = _thin_bins(_thin_frames(level, n_columns), _bin_edges(len(level), hz_per_bin, None), scale, n_rows)
    indices = np.clip(np.nan_to_num(shown) * 255, 0, 255).round().astype(np.uint8)[::-1]
    image = Image.fromarray(indices, "P")
    image.putpalette(colormaps[COLOUR_MAP](np.arange(256), bytes=True)[:, :3].tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def frequency_marks(n_bins: int, hz_per_bin: float, scale: str = SCALES[0]) -> dict[int, float]:
    """Round frequencies in Hz and their heights in a picture of `spectrogram_png`, 0 at the bottom to 1 at the top."""
    low, high = _to_scale(_shown_range(_bin_edges(n_bins, hz_per_bin, None), scale), scale)
    marks = _round_frequencies(low, high, scale)
    return {mark: float((_to_scale(mark, scale) - low) / (high - low)) for mark in marks}


def save_gif(path: str | os.PathLike, frames: Iterable[np.ndarray], seconds_per_frame: float) -> None:
    """Write `frames`, uint8 ``(height, width, 3)`` as from `spectrogram_frame`, as a GIF that repeats for ever.

    Each frame is shown for `seconds_per_frame`, and the last one four times as long, so that the end can be seen. All
    frames are kept in memory with one byte a pixel.

    Raises:
        ValueError: no frames, or frames of different sizes.
    """
    from matplotlib import colormaps
    from PIL import Image

    # One palette for all frames, of the colour map and of greys for text, so that a level keeps its colour.
    colours = colormaps[COLOUR_MAP](np.linspace(0, 1, 208), bytes=True)[:, :3]
    greys = np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[:, np.newaxis], 3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([colours, greys]).tobytes())
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    if not images:
        raise ValueError("an animation needs at least one frame")
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        raise ValueError(f"frames of one size expected, found {sorted(sizes)}")
    milliseconds = [max(20, round(1000 * seconds_per_frame))] * len(images)
    milliseconds[-1] *= 4
    with replacing(path) as beside:
        images[0].save(
            beside, format="GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, optimize=False
        )


def save_curves(
    path: str | os.PathLike,
    x: Sequence[float],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    x_label: str = "epoch",
    title: str | None = None,
    log: bool | Sequence[str] = False,
) -> None:
    """Write curves over a common axis, one panel for each group; values that are NaN or infinite leave gaps.

    Args:
        x: the common axis, ``(n,)``.
        curves: panel title: {label: values ``(n,)``}.
        log: True for a logarithmic value axis in every panel, or the titles of the panels that get one. A panel without
            any positive value stays linear.
    """
    figure, axes = _draw_curves(x, curves, x_label, title, log)
    for axis, group in zip(axes, curves.values(), strict=False):
        if len(group) > 1:
            axis.legend(loc="upper right", fontsize="small")
    _save(figure, path)


def save_history(
    path: str | os.PathLike,
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    x: str = "epoch",
    title: str | None = None,
    log: bool | Sequence[str] = False,
) -> None:
    """Write the plot of a training history: one panel for each of `columns`, with training and validation.

    The panel of the MAE also shows that of copying the input, and the epoch with the lowest validation MAE. If the
    first epoch is far above all others, it is left out of the value axis and written as a number.

    Args:
        rows: of history.csv, as `csv.DictReader` or the training loop gives them; a missing or empty value leaves a
            gap.
        columns: names without ``val_``; a column ``val_<name>`` is drawn in the panel of ``<name>``.
        x: column of the horizontal axis.
        log: True, or the columns that get a logarithmic value axis.
    """
    present = {name for row in rows for name in row}
    curves, labels = {}, {name: COLUMN_LABELS.get(name, name.replace("_", " ")) for name in columns}
    for name in columns:
        group = {"training": name, "validation": f"val_{name}"}
        curves[labels[name]] = {label: [row.get(key) for row in rows] for label, key in group.items() if key in present}
    epochs = [float(row[x]) for row in rows]
    log = log if isinstance(log, bool) else [labels[name] for name in log]
    figure, axes = _draw_curves(epochs, curves, x, title, log)
    for axis, name in zip(axes, columns, strict=False):
        if name == "mae":
            _mark_copying_and_best(axis, epochs, rows)
        _leave_out_first(axis, epochs)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper right", fontsize="small")
    _save(figure, path)


COLUMN_LABELS = {
    "mae": "mean absolute error\n(level from -1 to 1)",
    "generator_mae": "mean absolute error\n(level from -1 to 1)",
    "generator_loss": "generator's loss",
    "discriminator_loss": "discriminator's loss",
    "feature_matching": "feature matching",
}


def _draw_curves(x: Sequence[float], curves: Mapping, x_label: str, title: str | None, log: bool | Sequence[str]):
    """The figure of `save_curves` without legends, and its axes."""
    figure = _figure(8, 0.6 + 2.4 * max(1, len(curves)), title)
    axes = figure.subplots(max(1, len(curves)), 1, sharex=True, squeeze=False)[:, 0]
    x = np.asarray(x, float)
    for axis, (name, group) in zip(axes, curves.items(), strict=False):
        positive = False
        for label, values in group.items():
            y = _finite(values)
            positive |= bool((y > 0).any())
            # Mark the points of a short curve, because a single point draws no line.
            axis.plot(x, y, label=label, linewidth=1.4, marker="o" if len(x) <= 30 else None, markersize=3)
        if positive and (log is True or (log is not False and name in log)):
            axis.set_yscale("log")
        axis.set_ylabel(name)
        axis.grid(alpha=0.3, which="both")
    axes[-1].set_xlabel(x_label)
    if x_label == "epoch":
        from matplotlib.ticker import MaxNLocator

        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if len(x) == 1:
            axes[-1].set_xlim(x[0] - 1, x[0] + 1)
    return figure, axes


def _finite(values: Sequence) -> np.ndarray:
    """`values` as numbers; what is missing, empty or infinite becomes NaN."""
    y = np.array([np.nan if value in (None, "") else value for value in values], float)
    y[~np.isfinite(y)] = np.nan
    return y


def _mark_copying_and_best(axis, epochs: Sequence[float], rows: Sequence[Mapping[str, object]]) -> None:
    """Draw the MAE of copying the input as a line, and mark the lowest validation MAE, in so far as they are known."""
    copying = _finite([row.get("val_copy_mae") for row in rows])
    if np.isfinite(copying).any():
        value = copying[np.isfinite(copying)][-1]
        axis.axhline(value, color="0.35", linestyle="--", linewidth=1.2, label=f"copying the input: {value:.3f}")
    validation = _finite([row.get("val_mae") for row in rows])
    if np.isfinite(validation).sum() > 1:  # the star of a single epoch would hide its point
        best = int(np.nanargmin(validation))
        label = f"best epoch {epochs[best]:g}: {validation[best]:.3f}"
        axis.plot(
            epochs[best],
            validation[best],
            "*",
            color="C3",
            markersize=12,
            zorder=3,
            markeredgecolor="white",
            label=label,
        )


def _leave_out_first(axis, epochs: Sequence[float]) -> None:
    """Limit a linear value axis to the later epochs, where the first one would flatten them."""
    curves = [np.asarray(line.get_ydata(), float) for line in axis.lines]
    later = np.concatenate([np.zeros(0), *(y[1:] if len(y) == len(epochs) else y for y in curves)])
    first = np.array([y[0] for y in curves if len(y) == len(epochs)])
    first, later = first[np.isfinite(first)], later[np.isfinite(later)]
    if len(epochs) < 4 or not len(first) or not len(later) or axis.get_yscale() != "linear":
        return
    low, high = min(later.min(), first.min()), later.max()
    if high > low and first.max() > high + 0.5 * (high - low):
        axis.set_ylim(low - 0.06 * (high - low), high + 0.2 * (high - low))
        numbers = " and ".join(f"{value:.3g}" for value in sorted(first, reverse=True) if value > axis.get_ylim()[1])
        note = f"not shown: epoch {epochs[0]:g}, {numbers}"
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        place = {"xycoords": ("data", "axes fraction"), "xytext": (6, -6), "textcoords": "offset points", "va": "top"}
        axis.annotate(note, (epochs[1], 1.0), **place, fontsize="small", color="0.35", bbox=white)


def save_lr_curve(
    path: str | os.PathLike,
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float | None,
    name: str,
) -> None:
    """Write the plot of a learning-rate range test: the loss over the rate, with the suggested rate marked.

    Args:
        rates, losses, smoothed: ``(n,)`` each; values that are NaN or infinite leave gaps.
        suggestion: the rate to mark, or None if the test found none.
        name: of the loss, a column of history.csv, for the axis.
    """
    label = COLUMN_LABELS.get(name, name.replace("_", " "))
    figure = _figure(7, 4.2, f"Learning-rate range test: {label.splitlines()[0]}")
    axis = figure.subplots()
    losses, smoothed = (np.where(np.isfinite(v), v, np.nan) for v in (np.asarray(losses), np.asarray(smoothed)))
    axis.plot(rates, losses, color="0.7", linewidth=0.8, label="each batch")
    axis.plot(rates, smoothed, color="C0", linewidth=1.8, label="smoothed")
    if suggestion is not None:
        axis.axvline(suggestion, color="C3", linestyle="--", label=f"suggested {suggestion:.1e}")
    # Limit the axis to the range in which the smoothed curve falls: the divergence at the end would flatten the rest.
    known = smoothed[np.isfinite(smoothed)]
    if len(known) and known.max() > known.min():
        top = min(known.max(), known[0] + 1.5 * (known[0] - known.min()) + 0.1 * abs(known[0]))
        margin = 0.08 * (top - known.min())
        if margin > 0:
            bottom = known.min() - margin
            axis.set_ylim(max(0.0, bottom) if known.min() >= 0 else bottom, top + margin)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel(label)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize="small")
    _save(figure, path)


# --- drawing ----------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float, title: str | None, dpi: int = DPI):
    """An empty figure with an Agg canvas; width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(_shown(title), parse_math=False)
    return figure


def _shown(name: str) -> str:
    """A name as a title: a box for each control character, as Matplotlib draws one for what the font lacks."""
    return "".join(c if c.isprintable() else "\u25a1" for c in name)


@contextlib.contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    """Do not warn of characters that the font lacks, such as Chinese ones; a box is drawn for each of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def _save(figure, path: str | os.PathLike) -> None:
    """Write a figure, whole or not at all, without metadata, so that equal figures give equal files.

    PDF and SVG files hold text as text, which can be searched, selected and edited.
    """
    from matplotlib import rc_context

    dates = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    as_text = rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "plot"})
    with replacing(path) as beside, as_text, _without_glyph_warnings():
        figure.savefig(beside, metadata=dates.get(beside.suffix.lower()))


def spectrogram_figure(
    panels: Panels,
    seconds_per_frame: float,
    hz_per_bin: float | None = None,
    frequencies: np.ndarray | None = None,
    scale: str = SCALES[0],
    title: str | None = None,
    decibels: bool = False,
    vmin: float | None = None,
    vmax: float | None = None,
    beside: bool = False,
    size: tuple[float, float] | None = None,
    dpi: int = DPI,
):
    """A figure of spectrograms, one above the other, with one colour scale in dB.

    Where a panel has fewer pixels than the spectrogram has frames or bins, a pixel shows the maximum of those that it
    covers, so that no onset and no partial is lost.

    Args:
        panels: (title, level ``(n_bins, n_frames)``) each; lengths and bins may differ.
        seconds_per_frame: hop length over sample rate.
        hz_per_bin: distance of evenly spaced bins (`Representation.bin_hz`). Give either this or `frequencies`.
        frequencies: centre of each bin in Hz, ``(n_bins,)``, ascending, for example of mel bands.
        scale: of the frequency axis: one of `SCALES`. A logarithmic axis begins at 20 Hz or above.
        title: of the whole figure.
        decibels: the levels are in dB; otherwise they are log levels in [0, 1], as from `data.amplitude_to_db`.
        vmin, vmax: ends of the colour scale in dB. By default the whole log scale (-96 to 0 dB of full scale), or with
            `decibels` the smallest and greatest finite value of all panels.
        beside: place the panels side by side instead.
        size: width and height in inches; by default as the number of panels and their length need it.
        dpi: pixels an inch, also of the spectrograms in a PDF or SVG file.

    Raises:
        ValueError: no panels, an unknown scale, or not exactly one of `hz_per_bin` and `frequencies`.
    """
    if not panels:
        raise ValueError("expected at least one panel")
    if scale not in SCALES:
        raise ValueError(f"expected a scale of {', '.join(SCALES)}, found {scale}")
    if (hz_per_bin is None) == (frequencies is None):
        raise ValueError("either hz_per_bin or frequencies is expected")
    levels = [np.asarray(level, np.float32) for _, level in panels]
    if not decibels:
        # The log1p scale covers 20*log10(1 + 1/amin) dB below full scale; near its floor it deviates from decibels.
        whole = 20 * np.log10(1 + 1 / PUBLISHED.amin)
        levels = [(level - 1) * whole for level in levels]
        vmin, vmax = -whole if vmin is None else vmin, 0.0 if vmax is None else vmax
    finite = np.concatenate([level[np.isfinite(level)] for level in levels] + [np.zeros(0, np.float32)])
    vmin = (finite.min() if len(finite) else 0.0) if vmin is None else vmin
    vmax = (finite.max() if len(finite) else 1.0) if vmax is None else vmax
    if vmax <= vmin:  # a constant picture
        vmax = vmin + 1.0

    seconds = max(level.shape[1] for level in levels) * seconds_per_frame
    n = len(panels)
    width = float(np.clip(4 + seconds / 2, 4.5, 14))
    if beside:
        figure = _figure(*(size or (1 + 3.2 * n, 3.6)), title, dpi)
        axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    else:
        figure = _figure(*(size or (width, 0.6 + 2.3 * n)), title, dpi)
        axes = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    images, bin_edges = [], []
    half_frame = seconds_per_frame / 2
    for axis, (name, _), level in zip(axes, panels, levels, strict=True):
        edges = _bin_edges(len(level), hz_per_bin, frequencies)
        low, high = _to_scale(_shown_range(edges, scale), scale)
        # Frame t is centred on its time, so the image begins half a step earlier.
        times = (-half_frame, level.shape[1] * seconds_per_frame - half_frame)
        images.append(
            axis.imshow(
                np.full((1, 1), np.nan), origin="lower", aspect="auto", interpolation="nearest",
                extent=(*times, low, high), vmin=vmin, vmax=vmax, cmap=COLOUR_MAP,
            )
        )  # fmt: skip
        bin_edges.append(edges)
        axis.set_title(_shown(name), fontsize="medium", parse_math=False)
        axis.spines[:].set_visible(False)  # a frame would cover the outermost pixels
        axis.set_xlim(-half_frame, max(seconds - half_frame, half_frame))
        _mark_frequencies(axis, scale)
    for axis in axes if beside else axes[-1:]:
        _mark_times(axis, seconds, max_ticks=4 if beside else 8)
    for axis in axes[:1] if beside else axes:
        axis.set_ylabel("frequency (Hz)")
    figure.colorbar(images[-1], ax=list(axes), label="level (dB)", aspect=12 * (1 if beside else n), pad=0.02)
    # The pixels of the panels are known once everything around them has its place.
    with _without_glyph_warnings():
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis, image, level, edges in zip(axes, images, levels, bin_edges, strict=True):
        n_columns, n_rows = _snap_to_pixels(axis)
        n_columns = max(1, int(n_columns * level.shape[1] * seconds_per_frame / seconds))
        image.set_data(_thin_bins(_thin_frames(level, n_columns), edges, scale, n_rows))
    return figure


def _snap_to_pixels(axis) -> tuple[int, int]:
    """Width and height of a panel in pixels; moves it so that it begins and ends between two pixels."""
    box = axis.get_window_extent()
    left, bottom, right, top = np.round([box.x0, box.y0, box.x1, box.y1]).astype(int)
    n_columns, n_rows = max(1, right - left), max(1, top - bottom)
    width, height = axis.figure.bbox.width, axis.figure.bbox.height
    axis.set_position((left / width, bottom / height, n_columns / width, n_rows / height))
    return n_columns, n_rows


def _thin_frames(level: np.ndarray, n_columns: int) -> np.ndarray:
    """`level` with at most `n_columns` frames: the maximum of neighbours, so that no onset is lost."""
    n_frames = level.shape[1]
    if n_frames <= n_columns:
        return level
    return np.fmax.reduceat(level, np.arange(n_columns) * n_frames // n_columns, axis=1)


def _thin_bins(level: np.ndarray, edges: np.ndarray, scale: str, n_rows: int) -> np.ndarray:
    """`level` on a frequency axis of `scale` with `n_rows` rows: the maximum of the bins that each row overlaps."""
    n_bins = len(level)
    if scale == "linear" and n_bins <= n_rows and np.allclose(np.diff(edges), edges[1] - edges[0]):
        return level
    low, high = _to_scale(_shown_range(edges, scale), scale)
    rows = _from_scale(np.linspace(low, high, n_rows + 1), scale)
    tolerance = 1e-6 * (edges[-1] - edges[0])  # rows that end at the border of a bin do not overlap the next one
    first = np.clip(np.searchsorted(edges, rows[:-1] + tolerance, side="right") - 1, 0, n_bins - 1)
    end = np.clip(np.searchsorted(edges, rows[1:] - tolerance, side="left"), first + 1, n_bins)
    # One more row, because reduceat does not take the end of the array as an index.
    padded = np.concatenate([level, np.full((1, level.shape[1]), np.nan, level.dtype)])
    return np.fmax.reduceat(padded, np.stack([first, end], axis=1).ravel(), axis=0)[::2]


def _bin_edges(n_bins: int, hz_per_bin: float | None, frequencies: np.ndarray | None) -> np.ndarray:
    """Where bins begin and end in Hz, ``(n_bins + 1,)``: halfway between their centres."""
    if hz_per_bin is not None:
        return (np.arange(n_bins + 1) - 0.5) * hz_per_bin
    centres = np.asarray(frequencies, float)
    if n_bins == 1:
        return np.array([centres[0] - 1, centres[0] + 1])
    between = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([2 * centres[:1] - between[:1], between, 2 * centres[-1:] - between[-1:]])


def _shown_range(edges: np.ndarray, scale: str) -> np.ndarray:
    """The lowest and highest frequency of an axis in Hz, ``(2,)``."""
    lowest = edges[0]
    if scale == "mel":
        lowest = max(lowest, 0.0)
    elif scale == "log":  # the bin of 0 Hz has no place on this axis
        lowest = max(20.0, lowest if lowest > 0 else edges[1])
    return np.array([lowest, max(edges[-1], lowest + 1)])


def _to_scale(frequencies: np.ndarray, scale: str) -> np.ndarray:
    """Places on an axis of frequencies in Hz; mel after O'Shaughnessy (1987)."""
    if scale == "mel":
        return 2595 * np.log10(1 + np.asarray(frequencies) / 700)
    return np.log2(frequencies) if scale == "log" else np.asarray(frequencies)


def _from_scale(places: np.ndarray, scale: str) -> np.ndarray:
    """Frequencies in Hz of places on an axis: the inverse of `_to_scale`."""
    if scale == "mel":
        return 700 * (10 ** (np.asarray(places) / 2595) - 1)
    return np.exp2(places) if scale == "log" else np.asarray(places)


def _mark_frequencies(axis, scale: str) -> None:
    """Put ticks at round frequencies; a linear axis has its own."""
    if scale != "linear":
        marks = _round_frequencies(*axis.get_ylim(), scale)
        axis.set_yticks(_to_scale(marks, scale), [str(mark) for mark in marks])


def _round_frequencies(low: float, high: float, scale: str) -> list[int]:
    """Round frequencies between two places on an axis, as far as there is room for their labels."""
    candidates = [20000, 10000, 5000, 2000, 1000, 500, 200, 100]
    if scale == "linear":
        candidates = list(range(20000, 0, -2000))
    elif scale == "log":
        candidates += [50, 20]
    marks: list[int] = []
    for mark in candidates:
        place = _to_scale(mark, scale)
        if low <= place <= high and (not marks or _to_scale(marks[-1], scale) - place > (high - low) / 20):
            marks.append(mark)
    if len(marks) < 2:  # a narrow band
        marks = [round(_from_scale(place, scale)) for place in np.linspace(low, high, 4)]
    return marks


def _mark_times(axis, seconds: float, max_ticks: int) -> None:
    """Label the time axis in seconds, or in minutes and seconds if it is longer than a minute."""
    axis.set_xlabel("time (s)")
    if seconds <= 60:
        return
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    steps = [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]
    step = next((step for step in steps if seconds / step <= max_ticks), 3600 * -(-seconds // (3600 * max_ticks)))
    axis.xaxis.set_major_locator(MultipleLocator(step))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda time, _: _clock(time, with_hours=seconds > 3600)))
    axis.set_xlabel("time (h:min:s)" if seconds > 3600 else "time (min:s)")


def _clock(seconds: float, with_hours: bool) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if with_hours else f"{minutes}:{rest:02d}"
