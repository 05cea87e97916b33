"""Pictures: they open, have sensible sizes, and the same level has the same colour everywhere."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from common import plots
from data import PUBLISHED

SECONDS = PUBLISHED.hop_length / PUBLISHED.sample_rate


def read_picture(path):
    with Image.open(path) as image:
        image.load()
        return np.array(image.convert("RGB")).astype(int)


def colour_of(level):
    """The colour that the documented map gives a log level in [0, 1]."""
    return np.array(matplotlib.colormaps[plots.COLOUR_MAP](level, bytes=True)[:3]).astype(int)


def share_of(image, colour):
    """The part of the pixels within rounding of a colour."""
    return (np.abs(image - colour).max(axis=-1) <= 2).mean()


def test_one_level_has_one_colour_in_every_panel(tmp_path):
    panels = [("quiet", np.full((256, 100), 0.25)), ("loud", np.full((256, 100), 0.75))]
    plots.save_spectrograms(tmp_path / "a.png", panels, SECONDS, PUBLISHED.bin_hz, dpi=plots.SCREEN_DPI)
    image = read_picture(tmp_path / "a.png")
    # A scale fitted to each panel would give neither of these colours.
    upper, lower = image[: len(image) // 2], image[len(image) // 2 :]
    assert share_of(upper, colour_of(0.25)) > 0.3 > share_of(upper, colour_of(0.75))
    assert share_of(lower, colour_of(0.75)) > 0.3 > share_of(lower, colour_of(0.25))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written, to read their axes."""
    figures, save = [], Figure.savefig

    def savefig(figure, *arguments, **options):
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def test_axes_are_in_hertz_seconds_and_decibels(tmp_path, drawn):
    panels = [(r"c$^$d_{e", np.zeros((256, 87))), ("output", np.zeros((256, 173)))]  # signs of formulas are drawn
    plots.save_spectrograms(tmp_path / "a.png", panels, SECONDS, PUBLISHED.bin_hz, dpi=50)
    upper, lower, bar = drawn[0].axes
    # 173 frames of 512 samples: 2.009 s; 256 bins of 43.07 Hz: 11 025 Hz; half a frame and bin at the ends.
    np.testing.assert_allclose(lower.get_xlim(), (-SECONDS / 2, 2.0086 - SECONDS / 2), atol=1e-3)
    np.testing.assert_allclose(lower.get_ylim(), (0, 2595 * np.log10(1 + 11003.5 / 700)), atol=0.1)
    assert upper.get_xlim() == lower.get_xlim()
    np.testing.assert_allclose(bar.get_ylim(), (-96.33, 0), atol=0.01)  # 20*log10(1 + 2**16)


def test_each_single_bin_is_seen_at_its_frequency_in_fewer_rows_than_bins(tmp_path, drawn):
    """Bin after bin sounds alone, in frames 4k to 4k + 3."""
    level = np.kron(np.eye(256), np.ones((1, 4)))
    plots.save_spectrograms(tmp_path / "a.png", [("", level)], SECONDS, PUBLISHED.bin_hz, size=(6.4, 2.4), dpi=100)
    picture = read_picture(tmp_path / "a.png")
    axis = drawn[0].axes[0]
    box = axis.get_window_extent()
    rows = slice(round(len(picture) - box.y1), round(len(picture) - box.y0))
    panel = picture[rows, round(box.x0) : round(box.x1)]
    bright = np.abs(panel - colour_of(1.0)).max(axis=-1) <= 20  # tick marks blend into outermost pixels
    assert len(bright) < 200
    assert bright[:, 1:-1].any(axis=0).all()

    def place(hertz):
        return np.log(1 + np.asarray(hertz) / 700) / np.log(1 + 11003.466796875 / 700)

    for hertz in (200, 1000, 5000, 10000):
        column = round((round(hertz / PUBLISHED.bin_hz) + 0.5) / 256 * bright.shape[1])
        found = len(bright) - np.flatnonzero(bright[:, column])
        assert found.min() / len(bright) - 0.02 <= place(hertz) <= found.max() / len(bright) + 0.02
    labels = [int(label.get_text()) for label in axis.get_yticklabels()]
    np.testing.assert_allclose(axis.get_yticks() / axis.get_ylim()[1], place(labels), atol=1e-6)


def test_the_png_for_a_page_is_one_panel_on_the_whole_scale():
    level = np.full((256, 5000), 0.5)
    level[23:25] = 1.0  # 969 to 1055 Hz
    image = read_picture(io.BytesIO(plots.spectrogram_png(level, PUBLISHED.bin_hz)))
    assert share_of(image, colour_of(0.5)) + share_of(image, colour_of(1.0)) == 1
    rows = np.flatnonzero(np.abs(image[:, 0] - colour_of(1.0)).max(axis=1) < 3)
    height = 1 - (rows.mean() + 0.5) / len(image)
    assert plots.frequency_marks(256, PUBLISHED.bin_hz)[1000] == pytest.approx(height, abs=0.01)


def test_history_draws_training_and_validation_with_copying_and_the_best_epoch(tmp_path, drawn):
    maes = [3.5, 0.2, np.inf, 0.12, 0.13]  # the first one does not flatten the others
    rows = [
        {"epoch": i, "mae": mae, "val_mae": mae, "val_copy_mae": 0.135, "some_loss": i} for i, mae in enumerate(maes, 1)
    ]
    plots.save_history(tmp_path / "h.png", rows, ["mae", "some_loss"])
    mae, loss = drawn[0].axes
    training, validation, copying, best = mae.lines
    for line in (training, validation):
        np.testing.assert_array_equal(line.get_xydata().T, [[1, 2, 3, 4, 5], [3.5, 0.2, np.nan, 0.12, 0.13]])
    assert list(copying.get_ydata()) == [0.135, 0.135]
    assert best.get_xydata().tolist() == [[4, 0.12]]
    assert 0 < mae.get_ylim()[0] < 0.12
    assert 0.2 < mae.get_ylim()[1] < 0.3
    assert (loss.get_ylabel(), len(loss.lines)) == ("some loss", 1)


def test_lr_curve_marks_the_suggestion_on_a_log_axis(tmp_path, drawn):
    rates = np.geomspace(1e-9, 1, 200)
    losses = 1 / (1 + (rates / 1e-4)) + (rates / 0.1) ** 2
    plots.save_lr_curve(tmp_path / "lr.png", rates, losses, losses, 1e-4, "some_loss")
    axis = drawn[0].axes[0]
    assert (axis.get_xscale(), axis.get_ylabel()) == ("log", "some loss")
    assert axis.lines[-1].get_xdata()[0] == 1e-4
    assert 1.0 < axis.get_ylim()[1] < 4.0  # the blow-up, 80 times the first loss, does not flatten the fall
