"""All plots of the project: spectrograms, animations, training curves and learning-rate plots.

Uses `matplotlib.figure.Figure` with an Agg canvas, without pyplot: no display and no global state, so that plots can be
drawn in any thread and within any program. Files are written whole or not at all. Frequencies are on a mel axis, on
which the notes of most music can be told apart.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common.files import replacing
from data import PUBLISHED

COLOUR_MAP = "magma"  # perceptually uniform, readable in grey and by the colour-blind
DPI = 300  # of the files for people; what is shown on a screen or animated has SCREEN_DPI
SCREEN_DPI = 100
PAGE_SIZE = (1200, 420)  # pixels of a picture for a web page
MAX_COLUMNS = 14 * DPI  # more than the widest picture has; no picture shows the 310 000 frames of an hour
MARKS = (10000, 5000, 2000, 1000, 500, 200)  # Hz, on frequency axes

# --- spectrograms -----------------------------------------------------------------------------------------------------


def spectrogram_png(level: np.ndarray, hz_per_bin: float) -> bytes:
    """One log level [0, 1] ``(n_bins, n_frames)`` as PNG for a web page, on the whole colour scale, without axes.

    The picture has at most `PAGE_SIZE` (columns, rows); `frequency_marks` says which frequency is where.
    """
    from matplotlib import colormaps
    from PIL import Image

    shown = _thin(level, _bin_edges(len(level), hz_per_bin), *PAGE_SIZE)
    image = Image.fromarray(np.clip(np.nan_to_num(shown) * 255, 0, 255).round().astype(np.uint8)[::-1], "P")
    image.putpalette(colormaps[COLOUR_MAP](np.arange(256), bytes=True)[:, :3].tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def frequency_marks(n_bins: int, hz_per_bin: float) -> dict[int, float]:
    """Round frequencies in Hz and their heights in a picture of `spectrogram_png`, 0 at the bottom to 1 at the top."""
    low, high = _hz_to_mel(_bin_edges(n_bins, hz_per_bin)[[0, -1]])
    heights = {mark: float((_hz_to_mel(mark) - low) / (high - low)) for mark in MARKS}
    return {mark: height for mark, height in heights.items() if 0 <= height <= 1}


def save_spectrograms(
    path: str | os.PathLike,
    panels: Sequence[tuple[str, np.ndarray]],
    seconds_per_frame: float,
    bins_hz: float | np.ndarray,
    title: str | None = None,
    scale_db: tuple[float, float] | None = None,
    beside: bool = False,
    size: tuple[float, float] | None = None,
    dpi: int = DPI,
) -> None:
    """Write the picture of spectrograms, one above the other, with one colour scale in dB.

    Where a panel has fewer pixels than the spectrogram has frames or bins, a pixel shows the maximum of those that it
    covers.

    Args:
        path: its extension determines the format.
        panels: (title, level ``(n_bins, n_frames)``) each; lengths and bins may differ.
        seconds_per_frame: hop length over sample rate.
        bins_hz: distance of evenly spaced bins (`Representation.bin_hz`), or the centre of each, ``(n_bins,)``.
        title: of the whole figure.
        scale_db: ends of the colour scale for levels in dB. None takes log levels in [0, 1], as from
            `data.amplitude_to_db`, on their whole scale (-96 to 0 dB of full scale).
        beside: place the panels side by side instead; those of the same shapes give pictures of the same size.
        size: width and height in inches; by default as the number of panels and their length need it.
        dpi: pixels an inch, also of the spectrograms in a PDF or SVG file.
    """
    levels = [np.asarray(level, np.float32) for _, level in panels]
    if scale_db is None:
        # The log1p scale covers 20*log10(1 + 1/amin) dB below full scale; near its floor it deviates from decibels.
        scale_db = (-20 * np.log10(1 + 1 / PUBLISHED.amin), 0.0)
        levels = [(1 - level) * scale_db[0] for level in levels]
    seconds, n = max(level.shape[1] for level in levels) * seconds_per_frame, len(panels)
    needed = (1 + 3.2 * n, 3.6) if beside else (float(np.clip(4 + seconds / 2, 4.5, 14)), 0.6 + 2.3 * n)
    figure = _figure(*(size or needed), title, dpi)
    axes = figure.subplots(*((1, n) if beside else (n, 1)), sharex=not beside, sharey=beside, squeeze=False).ravel()
    images, half_frame = [], seconds_per_frame / 2
    for axis, (name, _), level in zip(axes, panels, levels, strict=True):
        low, high = _hz_to_mel(_bin_edges(len(level), bins_hz)[[0, -1]])
        # Frame t is centred on its time, so the image begins half a step earlier.
        times = (-half_frame, level.shape[1] * seconds_per_frame - half_frame)
        images.append(
            axis.imshow(
                np.full((1, 1), np.nan), origin="lower", aspect="auto", interpolation="nearest",
                extent=(*times, low, high), vmin=scale_db[0], vmax=scale_db[1], cmap=COLOUR_MAP,
            )
        )  # fmt: skip
        axis.set_title(name, fontsize="medium", parse_math=False)
        axis.spines[:].set_visible(False)  # a frame would cover the outermost pixels
        axis.set_xlim(-half_frame, max(seconds - half_frame, half_frame))
        marks = [mark for mark in MARKS if low <= _hz_to_mel(mark) <= high]
        axis.set_yticks(_hz_to_mel(np.array(marks)), [str(mark) for mark in marks])
    figure.supylabel("frequency (Hz)", fontsize="medium")
    figure.supxlabel("time (s)", fontsize="medium")
    figure.colorbar(images[-1], ax=list(axes), label="level (dB)", aspect=12 * (1 if beside else n), pad=0.02)
    # The pixels of the panels are known once everything around them has its place.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis, image, level in zip(axes, images, levels, strict=True):
        # As many values as whole pixels, so that each is at least one pixel wide and high.
        box = axis.get_window_extent()
        n_columns = max(1, int(box.width * level.shape[1] * seconds_per_frame / seconds))
        image.set_data(_thin(level, _bin_edges(len(level), bins_hz), n_columns, max(1, int(box.height))))
    _save(figure, path)


def _thin(level: np.ndarray, edges: np.ndarray, n_columns: int, n_rows: int) -> np.ndarray:
    """`level` with at most `n_columns` frames and on a mel axis with `n_rows` rows: the maximum of the frames of each
    column, and of the bins that each row overlaps, so that no onset and no partial is lost."""
    n_columns = min(n_columns, level.shape[1])
    level = np.fmax.reduceat(level, np.arange(n_columns) * level.shape[1] // n_columns, axis=1)
    low, high = _hz_to_mel(edges[[0, -1]])
    rows = 700 * (10 ** (np.linspace(low, high, n_rows + 1) / 2595) - 1)  # in Hz
    tolerance = 1e-6 * edges[-1]  # rows that end at the border of a bin do not overlap the next one
    first = np.clip(np.searchsorted(edges, rows[:-1] + tolerance, side="right") - 1, 0, len(level) - 1)
    end = np.clip(np.searchsorted(edges, rows[1:] - tolerance, side="left"), first + 1, len(level))
    # One more row, because reduceat does not take the end of the array as an index.
    padded = np.concatenate([level, np.full((1, n_columns), np.nan, level.dtype)])
    return np.fmax.reduceat(padded, np.stack([first, end], axis=1).ravel(), axis=0)[::2]


def _bin_edges(n_bins: int, bins_hz: float | np.ndarray) -> np.ndarray:
    """Where bins begin and end in Hz, ``(n_bins + 1,)``: halfway between their centres, and nothing is below 0."""
    centres = bins_hz if isinstance(bins_hz, np.ndarray) else np.arange(n_bins) * bins_hz
    between = (centres[:-1] + centres[1:]) / 2
    return np.maximum(np.concatenate([2 * centres[:1] - between[:1], between, 2 * centres[-1:] - between[-1:]]), 0)


def _hz_to_mel(frequencies: float | np.ndarray):
    """Places on the axis of frequencies in Hz: mel after O'Shaughnessy (1987)."""
    return 2595 * np.log10(1 + frequencies / 700)


# --- animations -------------------------------------------------------------------------------------------------------


def save_gif(path: str | os.PathLike, frames: Iterable[np.ndarray], seconds_per_frame: float) -> None:
    """Write `frames`, uint8 ``(height, width, 3)`` as a GIF that repeats for ever.

    There is at least one frame, and all have the same size. The last one is shown four times as long.
    """
    from matplotlib import colormaps
    from PIL import Image

    # One palette for all frames, of the colour map and of greys for text, so that a level keeps its colour.
    colours = colormaps[COLOUR_MAP](np.linspace(0, 1, 208), bytes=True)[:, :3]
    greys = np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[:, np.newaxis], 3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([colours, greys]).tobytes())
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = [round(1000 * seconds_per_frame)] * len(images)
    milliseconds[-1] *= 4
    with replacing(path) as beside:
        images[0].save(beside, save_all=True, append_images=images[1:], duration=milliseconds, loop=0, optimize=False)


# --- curves -----------------------------------------------------------------------------------------------------------


def _label(name: str) -> str:
    """The axis label of a column of history.csv."""
    return "mean absolute error\n(level from -1 to 1)" if name.endswith("mae") else name.replace("_", " ")


def save_history(
    path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str | None = None
) -> None:
    """Write the plot of a training history over the epochs: a panel for each column, with training and validation.

    The panel of the MAE also shows that of copying the input, and the epoch with the lowest validation MAE.

    Args:
        rows: of history.csv; a missing or infinite value leaves a gap.
        columns: names without ``val_``; a column ``val_<name>`` is drawn in the panel of ``<name>``.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = np.array([float(row["epoch"]) for row in rows])
    figure = _figure(8, 0.6 + 2.4 * len(columns), title)
    axes = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, columns, strict=True):
        for label, column in (("training", name), ("validation", f"val_{name}")):
            if any(column in row for row in rows):
                axis.plot(epochs, _read(rows, column), label=label, marker="o", markersize=2)
        if name == "mae":
            _mark_copying_and_best(axis, epochs, rows)
        # The first epoch is often far above all others, and would flatten them.
        low = min((np.nanmin(line.get_ydata(), initial=np.inf) for line in axis.lines), default=0)
        high = max((np.nanmax(line.get_ydata()[1:], initial=-np.inf) for line in axis.lines), default=0)
        if len(epochs) > 3 and low < high:
            axis.set_ylim(low - 0.1 * (high - low), high + 0.2 * (high - low))
        axis.set_ylabel(_label(name))
        axis.grid(alpha=0.3)
        axis.legend(loc="upper right", fontsize="small")
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _save(figure, path)


def _read(rows: Sequence[Mapping[str, Any]], column: str) -> np.ndarray:
    """A column as numbers, ``(n_rows,)``; what is missing or infinite becomes NaN."""
    y = np.array([row.get(column, np.nan) for row in rows], float)
    return np.where(np.isfinite(y), y, np.nan)


def _mark_copying_and_best(axis, epochs: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the MAE of copying the input as a line, and circle the lowest validation MAE, where they are known."""
    copying, validation = _read(rows, "val_copy_mae"), _read(rows, "val_mae")
    if np.isfinite(copying[-1]):
        label = f"copying the input: {copying[-1]:.3f}"
        axis.axhline(copying[-1], color="0.35", linestyle="--", label=label)
    if np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        label = f"best epoch {epochs[best]:g}: {validation[best]:.3f}"
        axis.plot(epochs[best], validation[best], "o", color="C3", fillstyle="none", markersize=10, label=label)


def save_lr_curve(
    path: str | os.PathLike, rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float, name: str
) -> None:
    """Write the plot of a learning-rate range test: the loss over the rate, with the suggested rate marked.

    `rates`, `losses` and `smoothed` are ``(n,)`` each, `name` is that of the loss in history.csv.
    """
    figure = _figure(7, 4.2, f"Learning-rate range test: {_label(name).splitlines()[0]}")
    axis = figure.subplots()
    axis.plot(rates, losses, color="0.7", linewidth=0.8, label="each batch")
    axis.plot(rates, smoothed, color="C0", linewidth=1.8, label="smoothed")
    axis.axvline(suggestion, color="C3", linestyle="--", label=f"suggested {suggestion:.1e}")
    # Limit the axis to the range in which the loss falls: the divergence at the end would flatten the rest.
    fall = losses[0] - losses.min()
    axis.set_ylim(losses.min() - 0.2 * fall, min(losses.max(), losses[0] + 1.5 * fall) + 0.2 * fall)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel(_label(name))
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
        figure.suptitle(title, parse_math=False)
    return figure


def _save(figure, path: str | os.PathLike) -> None:
    """Write a figure, whole or not at all."""
    with replacing(path) as beside:
        figure.savefig(beside)
