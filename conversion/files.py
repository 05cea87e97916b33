"""Audio through a converter: an array, or a file of any length, sample rate and number of channels.

The steps of a file: check it and the output, convert block by block into a temporary file, find the level, write.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from common.errors import InputError
from conversion.converter import HumConverter, Pix2PixConverter, Settings
from sound import files as sound_files
from sound.blocks import add_streams, mean_of_channels, pick_channel, resample_blocks, split, trim_or_pad

TRUE_PEAK = 10 ** (-1 / 20)  # of a normalised output: -1 dB of full scale
MAX_INPUT_GAIN = 100.0  # 40 dB: more would convert the noise of an empty recording
SILENT = 1e-30  # a peak below it is silence, which cannot be raised to full scale in float32
MAX_CHANNELS = 64  # ambisonics of the seventh order has as many
FIRST_SECONDS, LONG_MINUTES = 5, 1  # when to tell how long a conversion will take, if it is at least so long

Converter = Pix2PixConverter | HumConverter


def convert_audio(audio: np.ndarray, converter: Converter, sample_rate: int | None = None) -> np.ndarray:
    """Converted audio of the same shape, float32; the level is left as the network makes it.

    Args:
        audio: float32 ``(n_samples,)`` or ``(n_channels, n_samples)``.
        converter: from `converter.load_converter`, or a `Pix2PixConverter` with any network.
        sample_rate: of `audio` and of the output in Hz; None for the converter's.
    """
    audio = np.asarray(audio, np.float32)
    if not audio.size:
        return audio
    samples = np.atleast_2d(audio).T
    rate = sample_rate or converter.sample_rate
    peak = float(np.abs(audio).max())
    blocks = list(_convert_blocks([samples], samples.shape, peak, rate, rate, converter))
    return np.concatenate(blocks).T.reshape(audio.shape)


def blend(converted: np.ndarray, original: np.ndarray, mix: float) -> np.ndarray:
    """`converted` with the share `mix` of the input `original`, brought to the same RMS; arrays of one shape."""
    power = [float(np.mean(np.square(audio, dtype=np.float64))) for audio in (converted, original)]
    return np.float32(1 - mix) * converted + np.float32(mix * _loudness_gain(*power)) * original


def convert_file(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    load: Callable[[], Converter],
    settings: Settings,
) -> None:
    """Convert the recording `source` and write the result to `destination`, whole or not at all, in bounded memory.

    The output has the length, sample rate and channels of the input, unless `settings` says otherwise; a rate that
    cannot hold the network's band is raised. A progress bar in seconds of audio is shown if stderr is a terminal.

    Args:
        source: a recording in any format.
        destination: the output file; its extension decides the format.
        load: returns the converter; called after the recording has been checked.
        settings: level, stereo, mix and subtype are used here; the rest is up to the converter.

    Raises:
        InputError: the recording or the output is not what is expected, or they are the same file.
        OSError: the disk is full.
    """
    destination, recording = pathlib.Path(destination), sound_files.open_recording(source)
    if os.path.exists(destination) and os.path.samefile(recording.path, destination):
        raise InputError(f"{destination}: the output would replace the input")
    n_channels = 1 if settings.stereo == "mono" else recording.n_channels
    if n_channels > MAX_CHANNELS:
        raise InputError(f"{source}: expected up to {MAX_CHANNELS} channels, or --stereo mono, found {n_channels}")
    subtype = settings.subtype or sound_files.choose_subtype(destination, recording.n_bits)
    converter = load()
    sample_rate = max(recording.sample_rate, math.ceil(2 * converter.band))
    sound_files.check_writable(destination, sample_rate, n_channels, subtype)

    shape = max(1, round(recording.n_samples * sample_rate / recording.sample_rate)), n_channels
    rates = recording.sample_rate, sample_rate
    name = str(recording.path)
    blocks = _convert_blocks(_read(recording, n_channels), shape, recording.peak, *rates, converter, name)
    blocks = _show_progress(blocks, recording.path.name, shape[0], sample_rate)
    with contextlib.ExitStack() as stack:
        rendering = stack.enter_context(sound_files.render_to_disk(blocks, n_channels, destination))
        if not np.isfinite(rendering.power):
            raise InputError(f"{destination}: expected finite samples from the network, found NaN (damaged weights?)")
        if settings.mix:
            gain = np.float32(settings.mix * _loudness_gain(rendering.power, recording.power))
            originals = trim_or_pad(resample_blocks(_read(recording, n_channels), *rates, n_channels), *shape)
            blocks = add_streams(rendering.blocks(1 - settings.mix), (gain * block for block in originals))
            rendering = stack.enter_context(sound_files.render_to_disk(blocks, n_channels, destination))
        gain = _output_gain(rendering, recording.power, settings.level)
        if (peak := gain * rendering.peak) > 1 and settings.level in ("match", "none") and subtype != "float":
            print(f"{destination}: lowered by {20 * np.log10(peak):.1f} dB to stay within full scale", file=sys.stderr)
            gain /= peak
        sound_files.write_rendering(destination, rendering, gain, sample_rate, subtype)


def _read(recording: sound_files.Recording, n_channels: int) -> Iterator[np.ndarray]:
    """The samples of a recording in blocks ``(n, n_channels)``; one channel is the mean of all."""
    for block in sound_files.read_recording(recording):
        yield block if block.shape[1] == n_channels else mean_of_channels(block)[:, np.newaxis]


def _convert_blocks(
    blocks: Iterable[np.ndarray],
    shape: tuple[int, int],
    peak: float,
    from_rate: int,
    to_rate: int,
    converter: Converter,
    name: str = "",
) -> Iterator[np.ndarray]:
    """Blocks ``(n, n_channels)`` at `from_rate` converted to blocks at `to_rate`, before the level is adjusted.

    Args:
        shape: of the joined output, ``(n_samples, n_channels)``.
        peak: of the joined input.
    """
    n_channels = shape[1]
    gain = min(1 / peak, MAX_INPUT_GAIN) if converter.normalizes_input and peak >= SILENT else 1
    blocks = (block * np.float32(gain) for block in blocks)
    blocks, originals = split(blocks, 2) if converter.residual else (blocks, None)
    blocks = resample_blocks(blocks, from_rate, converter.sample_rate, n_channels)
    if converter.joint:
        blocks = converter.convert_channels(blocks, n_channels)
    else:  # each channel is a stream of its own; all advance together, so that none has to wait in memory
        names = [f"{name} (channel {i})" if n_channels > 1 else name for i in range(n_channels)]
        streams = enumerate(split(blocks, n_channels))
        channels = [converter.convert(pick_channel(stream, i), names[i]) for i, stream in streams]
        blocks = (np.stack(pieces, axis=1) for pieces in zip(*channels, strict=True))
    blocks = trim_or_pad(resample_blocks(blocks, converter.sample_rate, to_rate, n_channels), *shape)
    if originals is not None:
        originals = trim_or_pad(resample_blocks(originals, from_rate, to_rate, n_channels), *shape)
        blocks = add_streams(blocks, originals)
    return (block / np.float32(gain) for block in blocks)


def _loudness_gain(power: float, of_input: float) -> float:
    """The factor that brings the input to the loudness of an output; both are mean squares."""
    return math.sqrt(power / of_input) if min(power, of_input) > SILENT**2 else 1.0


def _show_progress(blocks: Iterable[np.ndarray], name: str, n_samples: int, rate: int) -> Iterator[np.ndarray]:
    """Pass `blocks` of `n_samples` in total on unchanged; show a bar in seconds of audio on stderr if it is a terminal.

    If the first `FIRST_SECONDS` show that much time is left, a line says how much.
    """
    from tqdm import tqdm

    bar_format = "{desc}: {percentage:3.0f} %|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
    shown = {"desc": name, "bar_format": bar_format, "unit_scale": 1 / rate}
    first, n_done, is_said = None, 0, False
    with tqdm(total=n_samples, disable=None, leave=False, **shown) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))
            n_done += len(block)
            first = first or (n_done, time.monotonic())  # before it, hum2guitar hears the whole recording
            n_since, seconds = n_done - first[0], time.monotonic() - first[1]
            if n_since and seconds >= FIRST_SECONDS and not is_said:
                is_said, minutes = True, seconds / n_since * (n_samples - n_done) / 60
                if minutes >= LONG_MINUTES:
                    bar.write(f"{name}: {n_samples / rate / 60:.0f} min of audio, {minutes:.0f} min to go", sys.stderr)


def _output_gain(rendering: sound_files.Rendering, input_power: float, level: str) -> float:
    """The factor that gives the rendering the level asked for."""
    if rendering.peak < SILENT:
        return 1.0
    if level == "normalize":
        return TRUE_PEAK / rendering.true_peak
    if level == "peak":
        return 1 / rendering.peak
    return math.sqrt(input_power / rendering.power) if level == "match" else 1.0
