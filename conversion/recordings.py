"""Recordings through a converter: the arguments of both predict commands, which recordings, and each to its output.

The steps of a recording: decode it into a temporary file, convert that into another, find the level, write.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import glob
import itertools
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from common import InputError, cli, plots, weights
from common.files import concerning_one_file, remove_leftovers, without_converted, writable_folder
from conversion.converter import HIGH_BANDS, INPUT_LEVELS, LEVELS, PHASES, STEREO, Converter, Settings
from data import PUBLISHED, Representation
from hum2guitar.melody import F0_METHODS
from sound import files as sound_files
from sound.blocks import add_streams, mean_of_channels, resample_blocks, trim_or_pad, true_peak

PICTURES = (".png", ".pdf", ".svg", ".jpg")
TRUE_PEAK = 10 ** (-1 / 20)  # of a normalised output: -1 dB of full scale
MAX_INPUT_GAIN = 100.0  # 40 dB: more would convert the noise of an empty recording
SILENT = 1e-30  # a peak below it is silence, which cannot be raised to full scale in float32
MAX_CHANNELS = 64  # ambisonics of the seventh order has as many
LOG_SECONDS = 60  # from one message about the time left to the next, where stderr is no terminal
# Settings that the networks of a system do not use.
UNUSED = {"pix2pix": ("f0", "transpose"), "hum2guitar": ("phase", "input_level", "high_band")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of both predict commands; the defaults are those of `Settings`."""
    add = parser.add_argument
    add("recordings", nargs="*", help="the same as --input")
    add("--model", help="weights file, or a folder with one; without recordings, the models in the folder are listed")
    add("--input", nargs="+", default=[], help="recordings, folders of recordings, or patterns such as takes/*.flac")
    text = "recording to write, whose extension decides the format; for several inputs, a folder "
    add("--output", help=text + "(default: beside the input, with the instrument in the name)")
    text = "CUDA device to use, -1 for the CPU (default: 0 if there is one)"
    add("--gpu", type=cli.number(int, minimum=-1), help=text)
    text = "share of a slice that is blended with the next slice; 0 as published"
    add("--overlap", type=cli.number(float, minimum=0, maximum=0.5), help=text)
    add("--phase", choices=PHASES, help="phase of the input as published, or refined by Griffin-Lim")
    text = (
        "peak: bring the recording to full scale for the network, as it was in training, and the output back; "
        "keep: as published; auto: what the model recommends, keep if it says nothing"
    )
    add("--input_level", choices=("auto", *INPUT_LEVELS), help=text)
    add("--high_band", choices=HIGH_BANDS, help="above the network's band: silence, or the input's own sound")
    text = (
        "normalize: true peak -1 dB, which no player clips; peak: greatest sample 1, as published; match: the input's "
        "RMS; none: as the network makes it; the last two are lowered where they would clip"
    )
    add("--level", choices=LEVELS, help=text)
    text = "joint: one prediction for all channels, which keeps their places; mono: convert their mean"
    add("--stereo", choices=STEREO, help=text)
    text = "share of the input in the output, at equal loudness"
    add("--mix", type=cli.number(float, minimum=0, maximum=1), help=text)
    add("--subtype", choices=list(sound_files.SUBTYPES), help="bits of a sample (default: the format's usual, wav 16)")
    text = "picture to write of the spectrograms of input and output; without a name, beside each output"
    add("--plot", nargs="?", const="", help=text)
    add("--overwrite", action="store_true", help="convert recordings again whose output is already there")
    parser.set_defaults(**dataclasses.asdict(Settings()))


def add_hum_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for hum2guitar models; with other models they are refused."""
    add = parser.add_argument_group("hum2guitar").add_argument
    add("--f0", choices=F0_METHODS, help="how the pitch is found (default: as in training)")
    kind = cli.number(float, minimum=-48, maximum=48, word="auto")
    add("--transpose", type=kind, help="semitones, or auto: octaves up or down into the range of the training guitars")


def read_settings(arguments: argparse.Namespace, description: weights.Description) -> Settings:
    """The settings that the arguments ask for.

    Raises:
        InputError: one of them is not the default, and the generator does not use it; names the flag.
    """
    settings = Settings(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Settings)})
    for name in UNUSED[description.system]:
        if getattr(settings, name) != getattr(Settings(), name):
            raise InputError(f"--{name}: {description.path} of {description.system} does not use it")
    return settings


# --- finding ----------------------------------------------------------------------------------------------------------


def find_outputs(sources: Sequence[str], output: str | None, instrument: str) -> dict[pathlib.Path, pathlib.Path]:
    """The recordings that `sources` name, each with its output.

    An output is called ``piano.guitar.wav``, beside ``piano.mp3`` or in the folder `output`. The outputs of a folder
    ``takes`` go to ``takes.guitar`` and mirror its folders. Outputs of earlier runs are left out.

    Args:
        sources: recordings, folders, and patterns such as ``takes/**/*.flac``.
        output: a folder; None for the places above.
        instrument: for the names.

    Raises:
        InputError: there are no recordings, or two would be written to one file.
    """
    is_name = output and pathlib.Path(output).suffix.lower() in sound_files.AUDIO_EXTENSIONS
    if output and not os.path.isdir(output) and (is_name or os.path.exists(output)):
        raise InputError(f"--output: {output} is the name of a file, but several recordings need a folder")
    folders: dict[pathlib.Path, pathlib.Path] = {}  # of the outputs, by recording
    for source in sources:
        base = place = path = pathlib.Path(source)
        if path.is_dir():
            place = path.with_name(f"{path.resolve().name}.{instrument}")
            found = sound_files.find_audio(path, "--input")
        elif path.is_file():  # whose name is no pattern
            base, place, found = path.parent, path.parent, [path]
        else:
            found = [pathlib.Path(name) for name in sorted(glob.glob(source, recursive=True)) if os.path.isfile(name)]
            base = place = pathlib.Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        if not found:
            raise InputError(f"--input: found no recording, folder or pattern {source}")
        folders |= {each: pathlib.Path(output or place) / each.relative_to(base).parent for each in found}
    taken: dict[pathlib.Path, pathlib.Path] = {}  # output: its recording
    for path in without_converted(folders):
        made = folders[path] / f"{path.stem}.{instrument}.wav"
        made = made if made not in taken else made.with_name(f"{path.name}.{instrument}.wav")
        if taken.setdefault(made, path) != path:
            raise InputError(f"--input: {taken[made]} and {path} would both become {made}")
    return {path: made for made, path in taken.items()}


# --- converting -------------------------------------------------------------------------------------------------------


def convert_all(
    sources: Sequence[str],
    instrument: str,
    load: Callable[[], Converter],
    settings: Settings,
    output: str | None,
    plot: str | None,
    overwrite: bool,
) -> int:
    """Convert recordings one by one; the exit status. Of many, those that cannot be converted are listed at the end.

    Args:
        sources, instrument: as of `find_outputs`.
        load: returns the converter; called if there is something to convert.
        settings: how to convert.
        output: as of `find_outputs`, or for one recording the file to write.
        plot: name of the picture; "" for one beside each output, None for none.
        overwrite: convert those of many again whose output is there.

    Raises:
        InputError: the weights, the only recording or the name of the picture cannot be used.
    """
    first = sources[0]
    is_many = len(sources) > 1 or os.path.isdir(first) or (glob.has_magic(first) and not os.path.isfile(first))
    if output and not is_many and not os.path.isdir(output) and not output.endswith(("/", os.sep)):
        outputs = {pathlib.Path(first): pathlib.Path(output)}
    else:
        outputs = find_outputs(sources, output, instrument)
    if plot and is_many:
        raise InputError("--plot: takes no name with several recordings: their pictures go beside the outputs")
    if plot and pathlib.Path(plot).suffix.lower() not in PICTURES:
        raise InputError(f"--plot: expected a name that ends in one of {' '.join(PICTURES)}, found {plot}")
    for folder in {made.parent for made in outputs.values()}:
        remove_leftovers(writable_folder(folder, "--output"))
    todo = {path: made for path, made in outputs.items() if overwrite or not is_many or not made.exists()}
    if n_there := len(outputs) - len(todo):
        print(f"{n_there} of {len(outputs)} already there (--overwrite converts them again)")
    if todo:
        converter = load()
    left_out = []
    for source, made in todo.items():
        try:
            with concerning_one_file(made):
                convert_file(source, made, converter, settings)
                print(made)
                if plot is not None:
                    _save_plot(pathlib.Path(plot or made.with_suffix(".png")), source, made, settings.high_band)
        except InputError as error:
            if not is_many:
                raise
            left_out.append((str(source), str(error)))
    return cli.report_left_out(left_out)


def convert_audio(
    audio: np.ndarray, converter: Converter, sample_rate: int | None = None, mix: float = 0.0
) -> np.ndarray:
    """Converted audio of the same shape, float32; the level is left as the network makes it.

    Args:
        audio: float32 ``(n_samples,)`` or ``(n_channels, n_samples)``.
        converter: from `converter.load_converter`, or a `Pix2PixConverter` with any network.
        sample_rate: of `audio` and of the output in Hz; None for the converter's.
        mix: share of `audio` in the output, at equal loudness.
    """
    audio = np.asarray(audio, np.float32)
    if not audio.size:
        return audio
    samples = np.atleast_2d(audio).T
    rate = sample_rate or converter.sample_rate
    blocks = list(_convert_blocks(lambda: [samples], samples.shape, float(np.abs(audio).max()), rate, rate, converter))
    converted = np.concatenate(blocks).T.reshape(audio.shape)
    if mix:
        power = [float(np.mean(np.square(sound, dtype=np.float64))) for sound in (converted, audio)]
        converted = np.float32(1 - mix) * converted + np.float32(mix * _loudness_gain(*power)) * audio
    return converted


def convert_file(
    source: str | os.PathLike, destination: str | os.PathLike, converter: Converter, settings: Settings
) -> None:
    """Convert the recording `source` and write the result to `destination`, whole or not at all, in bounded memory.

    The output has the length, sample rate and channels of the input, unless `settings` says otherwise; a rate that
    cannot hold the network's band is raised. A progress bar in seconds of audio is shown on stderr.

    Args:
        source: a recording in any format.
        destination: the output file; its extension decides the format.
        converter: of one system.
        settings: level, stereo, mix and subtype are used here; the rest is up to the converter.

    Raises:
        InputError: the recording or the output is not what is expected, or they are the same file.
        OSError: the disk is full.
    """
    if pathlib.Path(source).suffix.lower() in (".mid", ".midi"):
        raise InputError(f"{source}: is MIDI, which has no sound yet: play it with synthesize_audios.py")
    destination, source = pathlib.Path(destination), pathlib.Path(source)
    with contextlib.ExitStack() as stack:
        audio = stack.enter_context(sound_files.open_audio(source))
        if destination.exists() and destination.samefile(source):
            raise InputError(f"{destination}: the output would replace the input")
        n_channels = 1 if settings.stereo == "mono" else audio.n_channels
        if n_channels > MAX_CHANNELS:
            raise InputError(f"{source}: expected up to {MAX_CHANNELS} channels, or --stereo mono, found {n_channels}")
        rates = audio.sample_rate, max(audio.sample_rate, math.ceil(2 * converter.band))
        form = sound_files.choose_format(destination, rates[1], n_channels, settings.subtype, audio.n_bits)
        recording = stack.enter_context(sound_files.spool(audio.blocks, audio.n_channels, destination))

        def read() -> Iterator[np.ndarray]:
            is_same = n_channels == audio.n_channels
            return (block if is_same else mean_of_channels(block)[:, np.newaxis] for block in recording.blocks())

        shape = max(1, round(recording.shape[0] * rates[1] / rates[0])), n_channels
        blocks = _convert_blocks(read, shape, recording.peak, *rates, converter, str(source))
        blocks = _show_progress(blocks, source.name, shape[0], rates[1])
        converted = stack.enter_context(sound_files.spool(blocks, n_channels, destination))
        if not np.isfinite(converted.power):
            raise InputError(f"{destination}: expected finite samples from the network, found NaN (damaged weights?)")
        if settings.mix:
            gain = np.float32(settings.mix * _loudness_gain(converted.power, recording.power))
            originals = trim_or_pad(resample_blocks(read(), *rates, n_channels), *shape)
            blocks = add_streams(converted.blocks(1 - settings.mix), (gain * block for block in originals))
            converted = stack.enter_context(sound_files.spool(blocks, n_channels, destination))
        gain = _output_gain(converted, recording.power, settings.level)
        if (peak := gain * converted.peak) > 1 and settings.level in ("match", "none") and form[1] != "FLOAT":
            print(f"{destination}: lowered by {20 * np.log10(peak):.1f} dB to stay within full scale", file=sys.stderr)
            gain /= peak
        sound_files.write_blocks(destination, converted.blocks(gain), shape, rates[1], form)


def _convert_blocks(
    read: Callable[[], Iterable[np.ndarray]],
    shape: tuple[int, int],
    peak: float,
    from_rate: int,
    to_rate: int,
    converter: Converter,
    name: str = "",
) -> Iterator[np.ndarray]:
    """A recording at `from_rate` converted to blocks ``(n, n_channels)`` at `to_rate`; the level is not yet adjusted.

    Args:
        read: returns the blocks ``(n, n_channels)`` of the recording from its start.
        shape: of the joined output, ``(n_samples, n_channels)``.
        peak: of the joined input.
    """
    n_channels = shape[1]
    gain = np.float32(min(1 / peak, MAX_INPUT_GAIN) if converter.normalizes_input and peak >= SILENT else 1)

    def read_at(rate: int) -> Iterator[np.ndarray]:
        return resample_blocks((block * gain for block in read()), from_rate, rate, n_channels)

    blocks = converter.convert(read_at(converter.sample_rate), name)
    blocks = trim_or_pad(resample_blocks(blocks, converter.sample_rate, to_rate, n_channels), *shape)
    if converter.residual:
        blocks = add_streams(blocks, trim_or_pad(read_at(to_rate), *shape))
    return (block / gain for block in blocks)


def _loudness_gain(power: float, of_input: float) -> float:
    """The factor that brings the input to the loudness of an output; both are mean squares."""
    return math.sqrt(power / of_input) if min(power, of_input) > SILENT**2 else 1.0


def _show_progress(blocks: Iterable[np.ndarray], name: str, n_samples: int, rate: int) -> Iterator[np.ndarray]:
    """Pass `blocks` of `n_samples` in total on unchanged, with a bar in seconds of audio and the time left on stderr.

    A terminal always shows it; elsewhere it is written every `LOG_SECONDS`.
    """
    from tqdm import tqdm

    often = {} if sys.stderr.isatty() else {"delay": LOG_SECONDS, "mininterval": LOG_SECONDS, "miniters": 1}
    bar_format = "{desc}: {percentage:3.0f} %|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
    with tqdm(total=n_samples, desc=name, bar_format=bar_format, unit_scale=1 / rate, leave=False, **often) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))


def _output_gain(converted: sound_files.Spooled, input_power: float, level: str) -> float:
    """The factor that gives the output the level asked for."""
    if converted.peak < SILENT:
        return 1.0
    if level == "normalize":
        return TRUE_PEAK / true_peak(converted.blocks())
    if level == "peak":
        return 1 / converted.peak
    return math.sqrt(input_power / converted.power) if level == "match" else 1.0


def _save_plot(path: pathlib.Path, source: pathlib.Path, output: pathlib.Path, high_band: str) -> None:
    """Write the spectrograms of input and output, one above the other, of the frequencies that the output has."""
    n_bins = PUBLISHED.n_bins if high_band == "zero" else PUBLISHED.n_fft // 2 + 1
    representation = dataclasses.replace(PUBLISHED, n_bins=n_bins)
    panels, seconds = [], 0.0
    for title, recording in (("input", source), ("output", output)):
        level, seconds = spectrogram(recording, plots.MAX_COLUMNS, representation)
        name = recording.name.encode("utf-8", "backslashreplace").decode()  # file names may hold any bytes
        panels.append((f"{title}: {name}", level))
    plots.save_spectrograms(path, panels, seconds, representation.bin_hz)


def spectrogram(
    path: str | os.PathLike, n_columns: int, representation: Representation = PUBLISHED
) -> tuple[np.ndarray, float]:
    """Spectrogram of a recording of any length, reduced to about `n_columns` columns.

    Returns:
        level: log level [0, 1] of the mean of the channels, float32 ``(n_bins, n)``. Each column is the maximum of
            neighbouring frames, so that short onsets stay visible.
        seconds_per_column: time from one column to the next.

    Raises:
        InputError: as `sound.files.open_audio`.
    """
    with sound_files.open_audio(path, warn=False) as audio:
        n_seconds = sum(map(len, audio.blocks)) / audio.sample_rate
    n_frames = n_seconds * representation.sample_rate / representation.hop_length
    step = max(1, round(n_frames / n_columns))
    columns = [level.max(axis=1) for level in sound_files.read_levels(path, step, representation, warn=False)]
    return np.stack(columns, axis=1), step * representation.hop_length / representation.sample_rate
