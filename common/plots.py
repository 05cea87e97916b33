"""All plots of the project: spectrograms, animations, training curves and learning-rate plots.

Uses `matplotlib.figure.Figure` with an Agg canvas, without pyplot: no display and no global state, so that plots can be
drawn in any thread and within any program. Files are written whole or not at all.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from common.files import replacing
from data import PUBLISHED

COLOUR_MAP = "magma"  # perceptually uniform, readable in grey and by the colour-blind
MAX_COLUMNS = 2000  # of a picture; more frames are thinned, because no screen shows the 310 000 of an hour


Panels = Sequence[tuple[str, np.ndarray]]


def save_spectrograms(
    path: str | os.PathLike, panels: Panels, seconds_per_frame: float, hz_per_bin: float | None = None, **appearance
) -> None:
    """Write `spectrogram_figure`, whose arguments it takes, to `path`; the extension determines the format."""
    _save(spectrogram_figure(panels, seconds_per_frame, hz_per_bin, **appearance), path)


def spectrogram_frame(
    panels: Panels, seconds_per_frame: float, hz_per_bin: float | None = None, **appearance
) -> np.ndarray:
    """`spectrogram_figure` as RGB, uint8 ``(height, width, 3)``, for `save_gif` and TensorBoard.

    Panels are placed side by side. Panels of the same shapes give pictures of the same size. With `decibels`, pass
    `vmin` and `vmax`, so that all frames have the same colour scale.
    """
    figure = spectrogram_figure(panels, seconds_per_frame, hz_per_bin, beside=True, **appearance)
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def save_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write a picture, uint8 ``(height, width, 3)`` as from `spectrogram_frame`."""
    from PIL import Image

    with replacing(path) as beside:
        Image.fromarray(picture).save(beside)


def spectrogram_png(level: np.ndarray, seconds_per_frame: float, hz_per_bin: float) -> bytes:
    """One log level [0, 1] ``(n_bins, n_frames)`` as PNG for a web page, 640 pixels wide, on the whole colour scale."""
    figure = spectrogram_figure([("", level)], seconds_per_frame, hz_per_bin)
    figure.set_size_inches(6.4, 2.7)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


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
    figure = _figure(8, 0.6 + 2.4 * max(1, len(curves)), title)
    axes = figure.subplots(max(1, len(curves)), 1, sharex=True, squeeze=False)[:, 0]
    x = np.asarray(x, float)
    for axis, (name, group) in zip(axes, curves.items(), strict=False):
        positive = False
        for label, values in group.items():
            y = np.array([np.nan if value in (None, "") else value for value in values], float)
            y[~np.isfinite(y)] = np.nan
            positive |= bool((y > 0).any())
            # Mark the points of a short curve, because a single point draws no line.
            axis.plot(x, y, label=label, linewidth=1.4, marker="o" if len(x) <= 30 else None, markersize=3)
        if positive and (log is True or (log is not False and name in log)):
            axis.set_yscale("log")
        axis.set_ylabel(name)
        axis.grid(alpha=0.3, which="both")
        if len(group) > 1:
            axis.legend(loc="upper right", fontsize="small")
    axes[-1].set_xlabel(x_label)
    if x_label == "epoch":
        from matplotlib.ticker import MaxNLocator

        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
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

    Args:
        rows: of history.csv, as `csv.DictReader` or the training loop gives them; a missing or empty value leaves a
            gap.
        columns: names without ``val_``; a column ``val_<name>`` is drawn in the panel of ``<name>``.
        x: column of the horizontal axis.
        log: as in `save_curves`.
    """
    present = {name for row in rows for name in row}
    curves = {}
    for name in columns:
        group = {"training": name, "validation": f"val_{name}"}
        curves[name] = {label: [row.get(key) for row in rows] for label, key in group.items() if key in present}
    save_curves(path, [float(row[x]) for row in rows], curves, x, title, log)


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
        name: of the loss, for the axis.
    """
    figure = _figure(7, 4.2, f"Learning-rate range test: {name}")
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
            axis.set_ylim(known.min() - margin, top + margin)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel(name)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize="small")
    _save(figure, path)


# --- drawing ----------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float, title: str | None):
    """An empty figure with an Agg canvas; width and height in inches of 100 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, parse_math=False)
    return figure


def _save(figure, path: str | os.PathLike) -> None:
    """Write a figure, whole or not at all, without metadata, so that equal figures give equal files."""
    with replacing(path) as beside:
        metadata = {"Software": None} if beside.suffix.lower() == ".png" else None
        figure.savefig(beside, metadata=metadata)


def spectrogram_figure(
    panels: Panels,
    seconds_per_frame: float,
    hz_per_bin: float | None = None,
    frequencies: np.ndarray | None = None,
    title: str | None = None,
    decibels: bool = False,
    vmin: float | None = None,
    vmax: float | None = None,
    beside: bool = False,
):
    """A figure of spectrograms, one above the other, with one colour scale in dB.

    Args:
        panels: (title, level ``(n_bins, n_frames)``) each; lengths and bins may differ.
        seconds_per_frame: hop length over sample rate.
        hz_per_bin: distance of evenly spaced bins (`Representation.bin_hz`). Give either this or `frequencies`.
        frequencies: centre of each bin in Hz, ``(n_bins,)``, ascending, for example of mel bands.
        title: of the whole figure.
        decibels: the levels are in dB; otherwise they are log levels in [0, 1], as from `data.amplitude_to_db`.
        vmin, vmax: ends of the colour scale in dB. By default the whole log scale (-96 to 0 dB of full scale), or with
            `decibels` the smallest and greatest finite value of all panels.
        beside: place the panels side by side instead.

    Raises:
        ValueError: no panels, or not exactly one of `hz_per_bin` and `frequencies`.
    """
    if not panels:
        raise ValueError("expected at least one panel")
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
        figure = _figure(1 + 3.2 * n, 3.6, title)
        axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    else:
        figure = _figure(width, 0.6 + 2.3 * n, title)
        axes = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, _), level in zip(axes, panels, levels, strict=True):
        n_bins, n_frames = level.shape
        # Frame t and bin k are centred on their time and frequency, so the image begins half a step earlier.
        half_frame = seconds_per_frame / 2
        times = (-half_frame, n_frames * seconds_per_frame - half_frame)
        hertz = (-hz_per_bin / 2, (n_bins - 0.5) * hz_per_bin) if hz_per_bin is not None else (-0.5, n_bins - 0.5)
        image = axis.imshow(
            _thinned(level), origin="lower", aspect="auto", interpolation="nearest", extent=(*times, *hertz),
            vmin=vmin, vmax=vmax, cmap=COLOUR_MAP,
        )  # fmt: skip
        axis.set_title(name, fontsize="medium", parse_math=False)
        axis.set_xlim(-half_frame, max(seconds - half_frame, half_frame))
        if frequencies is not None:
            _mark_frequencies(axis, np.asarray(frequencies, float))
    for axis in axes if beside else axes[-1:]:
        axis.set_xlabel("time (s)")
    for axis in axes[:1] if beside else axes:
        axis.set_ylabel("frequency (Hz)")
    figure.colorbar(image, ax=list(axes), label="level (dB)", aspect=12 * (1 if beside else n), pad=0.02)
    return figure


def _thinned(level: np.ndarray) -> np.ndarray:
    """`level` with at most `MAX_COLUMNS` frames: the maximum of neighbours, so that no onset is lost."""
    n_bins, n_frames = level.shape
    factor = -(-n_frames // MAX_COLUMNS)
    if factor <= 1:
        return level
    # Padded with the last frame rather than with silence.
    level = np.pad(level, ((0, 0), (0, -n_frames % factor)), mode="edge")
    return level.reshape(n_bins, -1, factor).max(axis=2)


def _mark_frequencies(axis, frequencies: np.ndarray) -> None:
    """Put ticks at round frequencies on an axis in bins, as far as there is room for their labels."""
    n_bins = len(frequencies)
    marks, places = [frequencies[0], frequencies[-1]], [0.0, n_bins - 1.0]
    if inside := [f for f in (20000, 10000, 5000, 2000, 1000, 500, 200, 100) if frequencies[0] <= f <= frequencies[-1]]:
        marks, places = [], []
        for mark, place in zip(inside, np.interp(inside, frequencies, np.arange(n_bins)), strict=True):
            if not places or places[-1] - place > n_bins / 20:
                marks.append(mark)
                places.append(place)
    axis.set_yticks(places, [f"{mark:.0f}" for mark in marks])
