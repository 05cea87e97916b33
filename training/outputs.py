"""What a run shows: the status line, history, samples, TensorBoard, animations, warnings and the outcome."""

from __future__ import annotations

import contextlib
import csv
import datetime
import errno
import functools
import itertools
import math
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np

import data
from common.files import replacing
from sound.files import write_audio
from training.dataset import Batches

MAX_FRAMES = 200  # of an animation: all its frames are held in memory while it is written
STATUS_SECONDS = 30  # between two lines in a log file
N_RISING_EPOCHS = 5  # after which a rising validation MAE is reported
SAMPLE_SLICES = 4


class Status:
    """Progress of an epoch: a bar on a terminal, otherwise a line every 30 s without control characters.

    Args:
        label: what the line begins with.
        n_steps: steps of the whole epoch.
        step: steps that were done before.
        n_later: steps of the run after this epoch.
    """

    def __init__(self, label: str, n_steps: int, step: int = 0, n_later: int = 0) -> None:
        from tqdm import tqdm

        self.label, self.n_steps, self.step, self.n_later = label, n_steps, step, n_later
        self.printed, self.started = time.monotonic(), math.nan
        shown = {"desc": label, "unit": "step", "file": sys.stdout, "leave": False}
        self.bar = tqdm(total=n_steps, initial=step, disable=None, **shown)  # only on a terminal

    def advance(self, n: int, values: dict[str, float]) -> None:
        """Count `n` more steps; `values` are the latest losses."""
        self.step += n
        text, now = "  ".join(f"{name} {value:.4g}" for name, value in values.items()), time.monotonic()
        if math.isnan(self.started):  # no estimate rests on the first steps, which include the compilation
            self.started, self.first = now, self.step
        elif self.step > self.first:
            steps = self.n_steps - self.step + self.n_later
            seconds = round((now - self.started) / (self.step - self.first) * steps)
            text += f"  {datetime.timedelta(seconds=seconds)} left"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(n)
        if self.bar.disable and now - self.printed > STATUS_SECONDS:
            self.printed = now
            print(f"{self.label}  step {self.step}/{self.n_steps}  {text}", flush=True)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self.bar.close()


def write_csv(path, rows: list[dict]) -> None:
    """Write `rows` as CSV, completely or not at all; columns are all keys of the rows, in the order they appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


# --- the end of an epoch ----------------------------------------------------------------------------------------------


def write_epoch(
    folder: pathlib.Path,
    rows: list[dict],
    last_epoch: int,
    save_samples: Callable[[pathlib.Path], None],
    tensorboard: bool,
) -> None:
    """Write history and samples of the epoch that has ended, and print its summary and warnings.

    What cannot be drawn is a warning (`attempt`), because it must not cost the epoch.
    """
    from common import plots

    row = rows[-1]
    write_csv(folder / "history.csv", rows)
    samples = folder / "samples" / f"{row['epoch']:03d}"
    attempt("samples", lambda: save_samples(samples))
    columns = ["mae", "generator_loss", "discriminator_loss"] if "discriminator_loss" in row else ["mae"]
    attempt("the history", lambda: plots.save_history(folder / "history.png", rows, columns, title=folder.name))
    if tensorboard:
        _write_tensorboard(folder / "tensorboard", row, samples)
    print(summary(row, last_epoch), flush=True)
    for warning in warnings(rows):
        print(f"Warning: {warning}", flush=True)


def attempt(what: str, work: Callable[[], object]) -> None:
    """Call `work`, which draws something; if it fails, print a warning about `what`.

    A package may find no place for its cache, or no font. A full disk still stops the run, in one line.
    """
    try:
        work()
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        print(f"Warning: {what} could not be drawn, training goes on without: {reason}", flush=True)


def _write_tensorboard(folder: pathlib.Path, row: dict, samples: pathlib.Path) -> None:
    """Write scalars, pictures and audio of one epoch, those in the folder `samples` under the names of their files."""
    import soundfile
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=row["epoch"]):
        for name, value in row.items():
            if name not in ("epoch", "step"):
                tf.summary.scalar(name, value)
        for path in samples.glob("*.png"):
            tf.summary.image(path.name, np.stack(_read_frames([path])))
        for path in samples.glob("*.wav"):
            audio, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
            tf.summary.audio(path.name, audio[np.newaxis], sample_rate)
    writer.close()


def write_animations(folder: pathlib.Path) -> None:
    """Write one GIF for each kind of sample, from the pictures of all epochs or of evenly chosen ones."""
    from common import plots

    found = [path for path in (folder / "samples").glob("*") if path.name.isascii() and path.name.isdigit()]
    epochs = sorted(found, key=lambda path: int(path.name))
    for name in sorted({path.stem for epoch in epochs for path in epoch.glob("*.png")}):
        paths = [path for epoch in epochs if (path := epoch / f"{name}.png").exists()]
        chosen = np.linspace(0, len(paths) - 1, min(len(paths), MAX_FRAMES)).round().astype(int)
        frames = _read_frames([paths[index] for index in chosen])
        attempt(f"{name}.gif", functools.partial(plots.save_gif, folder / f"{name}.gif", frames, 0.5))


def _read_frames(paths: list[pathlib.Path]) -> list[np.ndarray]:
    """The pictures at `paths` that have the size of the last one, RGB; files that hold no PNG are left out."""
    from PIL import Image

    pictures = []
    for path in paths:
        with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(path, formats=["PNG"]) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    return [picture for picture in pictures if picture.shape == pictures[-1].shape]


def make_sampler(generator, batches: Batches) -> Callable[[pathlib.Path], None]:
    """A function that writes an epoch's samples: picture and audio of the first piece of `batches`, for each target.

    Features hold no phase, so the audio has one that Griffin-Lim finds for the input, the same in every epoch.
    """
    from common import plots

    pairs, r = batches.pairs, batches.pairs.representation
    first_piece = pairs.pieces[batches.samples[0, 0]]
    examples = []
    for t, target in enumerate(pairs.targets):
        rows = (pairs.pieces[batches.samples[:, 0]] == first_piece) & (batches.samples[:, 1] == t)
        if rows.any():
            chosen = batches.samples[rows][:SAMPLE_SLICES]
            shown = Batches(pairs, chosen, len(chosen), batches.seed, batches.style, shuffle=False)
            examples.append((pairs.origins[chosen[0, 2]], target, *shown.load(0)))
    phases: dict[str, np.ndarray] = {}

    def sample(folder: pathlib.Path) -> None:
        for origin, target, inputs, truth in examples:
            levels = {"input": inputs[..., :1], "prediction": generator(inputs, training=False), "target": truth}
            joined = {title: data.join_slices(data.from_network(slices)) for title, slices in levels.items()}
            if target not in phases:
                phases[target] = _griffin_lim_phase(joined["input"], r)
            magnitude = data.db_to_amplitude(np.clip(joined["prediction"], 0, 1), r.amin)
            audio = data.inverse_transform(magnitude, phases[target], representation=r)
            audio /= max(1.0, np.abs(audio).max())
            suffix = f"_{target}" if batches.style else ""
            title = f"{pairs.piece_names[first_piece]}: {origin} to {target}, epoch {int(folder.name)}"
            path, seconds_per_frame = folder / f"spectrogram{suffix}.png", r.hop_length / r.sample_rate
            plots.save_spectrograms(
                path, list(joined.items()), seconds_per_frame, r.bin_hz, title=title, beside=True, dpi=plots.SCREEN_DPI
            )
            write_audio(folder / f"audio{suffix}.wav", audio, r.sample_rate)

    return sample


def _griffin_lim_phase(level: np.ndarray, representation: data.Representation) -> np.ndarray:
    """A phase that fits a log level (n_bins, n_frames), as `data.forward_transform` gives it (Griffin & Lim, 1984)."""
    import librosa

    full = np.zeros((representation.n_fft // 2 + 1, level.shape[1]), np.float32)
    full[: len(level)] = data.db_to_amplitude(np.clip(level, 0, 1), representation.amin)
    audio = librosa.griffinlim(
        full, n_iter=32, hop_length=representation.hop_length, window=representation.window, random_state=0
    )
    return data.forward_transform(audio, representation)[1]


# --- words ------------------------------------------------------------------------------------------------------------


def summary(row: dict, last_epoch: int) -> str:
    """One line for an epoch that has ended."""
    parts = [f"epoch {row['epoch']}/{last_epoch}", f"step {row['step']}"]
    parts += [f"{key} {row[key]:.4f}" for key in ("generator_loss", "discriminator_loss", "mae") if key in row]
    if math.isfinite(row.get("val_mae", math.nan)):
        parts.append(f"validation MAE {row['val_mae']:.4f} (copying the input: {row['val_copy_mae']:.4f})")
    return "  ".join([*parts, f"{row['slices_per_second']:.2f} slices/s"])


def print_outcome(folder: pathlib.Path, rows: list[dict]) -> None:
    """Print the last line of a run: its best weights, how good they are, and what its history advises."""
    known = [row for row in rows if math.isfinite(row.get("val_mae", math.nan))]
    if not known:
        print(f"Weights: {folder / 'generator.h5'}; nothing was held out to find the best epoch with", flush=True)
        return
    best = min(known, key=lambda row: row["val_mae"])
    errors = f"validation MAE {best['val_mae']:.4f}; copying the input: {best['val_copy_mae']:.4f}"
    print(f"Best: {folder / 'generator_best.h5'} (epoch {best['epoch']}), {errors}{advise(known)}", flush=True)


def advise(rows: list[dict]) -> str:
    """What the validation MAE of all epochs says about the next run; empty if it says nothing."""
    errors = [row["val_mae"] for row in rows]
    best, last = min(errors), errors[len(errors) * 2 // 3 :]
    is_useful = best < rows[-1]["val_copy_mae"]
    if len(errors) < 4 and not is_useful:
        return ". Not yet better than copying: train longer"
    if len(errors) >= 4 and min(last) < 0.99 * min(errors[: -len(last)]):
        return ". It was still falling: train longer"
    if not is_useful:
        return ". It no longer falls, worse than copying: try other learning rates (docs/training.md)"
    return ""


def warnings(rows: list[dict]) -> list[str]:
    """Warnings that apply after the last of `rows` and did not before it; docs/training.md says what to do."""
    before = _problems(rows[:-1])
    return [f"{text} (docs/training.md)" for text in _problems(rows) if text not in before]


def _problems(rows: list[dict]) -> list[str]:
    """Everything that looks wrong after the last of `rows`; a value that is missing or NaN is never wrong."""
    problems = []
    if any(row.get("discriminator_loss", math.nan) < 0.01 for row in rows[-1:]):
        problems.append("the discriminator's loss was near 0 for the whole epoch")
    if len(rows) > 1 and all(abs(row.get("adversarial", math.nan) - math.log(2)) < 0.005 for row in rows[-2:]):
        problems.append("the generator's adversarial loss stays near log 2")
    errors = [row.get("val_mae", math.nan) for row in rows[-N_RISING_EPOCHS - 1 :]]
    is_rising = len(errors) > N_RISING_EPOCHS and all(a < b for a, b in itertools.pairwise(errors))
    if is_rising and not errors[-1] >= rows[-1].get("val_copy_mae", math.nan):  # nothing was learnt that is memorised
        problems.append(f"the validation MAE has risen for {N_RISING_EPOCHS} epochs")
    return problems
