"""Convert a recording with a trained network, in bounded memory.

A *converter* turns a stream of mono blocks into another one of the same length:

* `pix2pix.Pix2PixConverter`: STFT, log level, overlapping slices through the network, phase, inverse STFT;
* `hum2guitar.converter.HumConverter`: pitch and energy, harmonics through the network, mel spectrogram to audio.

`load_converter` makes the one for a weights file. `convert_audio` applies a converter to an array, `convert_file` to a
file of any length, sample rate and number of channels.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from common import weights
from common.errors import InputError
from conversion.network import load_network
from conversion.pix2pix import Pix2PixConverter
from conversion.settings import Settings
from hum2guitar.converter import make_converter
from sound.blocks import add_streams, mean_of_channels, resample, resample_blocks, trim_or_pad
from sound.files import (
    Recording,
    Rendering,
    check_writable,
    open_recording,
    read_recording,
    render_to_disk,
    write_rendering,
)

TRUE_PEAK = 10 ** (-1 / 20)  # of a normalised output: -1 dB of full scale
MAX_INPUT_GAIN = 100.0  # 40 dB: more would convert the noise of an empty recording
WARN_GAIN_DB = 60.0  # normalising by more than this is reported
SILENT = 1e-30  # a peak below it is silence, which cannot be raised to full scale in float32
MAX_CHANNELS = 64  # that are converted one by one; ambisonics of the seventh order has as many


class Converter(Protocol):
    """The interface of all converters.

    Attributes:
        sample_rate: of the blocks, in Hz.
        band: highest frequency that the converter makes, in Hz.
        residual: whether the output is a difference that has to be added to the input.
        normalizes_input: whether the whole input is to be brought to peak 1 before, and the output back after.
    """

    sample_rate: int
    band: float
    residual: bool
    normalizes_input: bool

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Convert mono float32 blocks ``(n,)`` to mono float32 blocks of the same total length.

        Args:
            blocks: of any sizes; the output may have other sizes.
            name: of the recording, for warnings on stderr.
        """


def load_converter(
    description: weights.Description,
    settings: Settings | None = None,
    gpu: int | None = -1,
    style: np.ndarray | None = None,
) -> Converter:
    """The converter for a weights file.

    Args:
        description: of the file, from `network.describe`.
        settings: how to convert; None for the defaults.
        gpu: as in `network.load_network`.
        style: style slice of a multitarget network, from `pix2pix.read_style`.

    Raises:
        InputError: the file is damaged or belongs to an unknown system.
    """
    settings = settings or Settings()
    if description.system == "hum2guitar":
        make = functools.partial(
            make_converter, description, settings.hum, settings.overlap, settings.griffinlim_iterations
        )
    elif description.system == "pix2pix":
        make = functools.partial(
            Pix2PixConverter,
            representation=description.representation,
            style=style,
            settings=settings.for_model(description),
        )
    else:
        raise InputError(f"{description.path}: expected pix2pix or hum2guitar, found the system {description.system}")
    return make(load_network(description.path, gpu))


def convert_audio(audio: np.ndarray, converter: Converter, sample_rate: int | None = None) -> np.ndarray:
    """Converted audio of the same shape, float32; the level is left as the network makes it.

    Args:
        audio: float32 ``(n_samples,)`` or ``(n_channels, n_samples)``; each channel is converted separately.
        converter: from `load_converter`, or a `Pix2PixConverter` with any network.
        sample_rate: of `audio` and of the output in Hz; None for the converter's.
    """
    audio, sample_rate = np.asarray(audio, np.float32), sample_rate or converter.sample_rate
    gain = _input_gain(float(np.abs(audio).max(initial=0)), converter)
    channels = [_convert_channel(channel * gain, converter, sample_rate) / gain for channel in np.atleast_2d(audio)]
    return np.reshape(channels, audio.shape)


def _convert_channel(audio: np.ndarray, converter: Converter, sample_rate: int) -> np.ndarray:
    """Converted audio ``(n_samples,)``."""
    if not len(audio):
        return np.zeros(0, np.float32)
    blocks = converter.convert([resample(audio, sample_rate, converter.sample_rate)])
    converted = np.concatenate([np.zeros(0, np.float32), *blocks])
    converted = resample(converted, converter.sample_rate, sample_rate)
    converted = np.pad(converted[: len(audio)], (0, max(0, len(audio) - len(converted))))
    return converted + audio if converter.residual else converted


def convert_file(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    load: Callable[[], Converter],
    settings: Settings | None = None,
) -> None:
    """Convert the recording `source` and write the result to `destination`, whole or not at all, in bounded memory.

    The output has the length, sample rate and channels of the input, unless `settings` says otherwise. A progress bar
    in seconds of audio is shown if stderr is a terminal.

    Args:
        source: a recording in any format.
        destination: the output file; its extension decides the format.
        load: returns the converter; called after the recording and the output have been checked.
        settings: level, stereo, sample rate and subtype are used here; the rest is up to the converter.

    Raises:
        InputError: the recording or the output is not what is expected, or they are the same file.
        OSError: the disk is full.
    """
    settings, destination = settings or Settings(), pathlib.Path(destination)
    with open_recording(source) as recording:
        if os.path.exists(destination) and os.path.samefile(recording.source, destination):
            raise InputError(f"{destination}: expected an output that is not the input itself")
        sample_rate = settings.sample_rate or recording.sample_rate
        n_channels = 1 if settings.stereo == "mono" else recording.n_channels
        if n_channels > MAX_CHANNELS:
            raise InputError(
                f"{source}: expected up to {MAX_CHANNELS} channels to convert one by one, found {n_channels}; --stereo "
                "mono converts their mean"
            )
        check_writable(destination, sample_rate, n_channels, settings.subtype)
        converter = load()
        if settings.sample_rate is None and sample_rate < 2 * converter.band:
            sample_rate = math.ceil(2 * converter.band)
            check_writable(destination, sample_rate, n_channels, settings.subtype)
        blocks = _convert_blocks(recording, converter, settings, sample_rate, n_channels)
        blocks = _show_progress(blocks, recording, sample_rate)
        with render_to_disk(blocks, n_channels, destination) as rendering:
            gain = _compute_gain(recording, rendering, settings, destination)
            write_rendering(destination, rendering, gain, sample_rate, settings.subtype)


def _convert_blocks(
    recording: Recording, converter: Converter, settings: Settings, sample_rate: int, n_channels: int
) -> Iterator[np.ndarray]:
    """The converted recording in blocks ``(n, n_channels)`` at `sample_rate`, before its level is adjusted."""
    n_samples = max(1, round(recording.n_samples * sample_rate / recording.sample_rate))
    mid_side = settings.stereo == "mid_side" and n_channels == 2
    gain = _input_gain(recording.peak, converter)
    blocks = (block * gain for block in read_recording(recording))
    if settings.stereo == "mono":
        blocks = (mean_of_channels(block)[:, np.newaxis] for block in blocks)
    if mid_side:
        blocks = (_sum_and_difference(block) / 2 for block in blocks)
    blocks, originals = itertools.tee(blocks) if converter.residual else (blocks, None)
    blocks = resample_blocks(blocks, recording.sample_rate, converter.sample_rate, n_channels)
    # Each channel is a stream of its own. All advance together, so that none has to wait in memory.
    names = [f"{recording.source}{f' (channel {i})' if n_channels > 1 else ''}" for i in range(n_channels)]
    channels = [
        converter.convert(_channel(stream, index), names[index])
        for index, stream in enumerate(itertools.tee(blocks, n_channels))
    ]
    blocks = (np.stack(pieces, axis=1) for pieces in zip(*channels, strict=True))
    blocks = resample_blocks(blocks, converter.sample_rate, sample_rate, n_channels)
    blocks = trim_or_pad(blocks, n_samples, n_channels)
    if originals is not None:
        originals = resample_blocks(originals, recording.sample_rate, sample_rate, n_channels)
        blocks = add_streams(blocks, trim_or_pad(originals, n_samples, n_channels))
    if mid_side:
        blocks = (_sum_and_difference(block) for block in blocks)
    for block in blocks:
        yield block / gain


def _input_gain(peak: float, converter: Converter) -> np.float32:
    """The factor for a recording with this peak before it is converted."""
    if not converter.normalizes_input or peak < SILENT:
        return np.float32(1)
    return np.float32(min(1 / peak, MAX_INPUT_GAIN))


def _channel(blocks: Iterable[np.ndarray], index: int) -> Iterator[np.ndarray]:
    """One channel ``(n,)`` of blocks ``(n, n_channels)``."""
    for block in blocks:
        yield block[:, index]


def _sum_and_difference(block: np.ndarray) -> np.ndarray:
    """Sum and difference of the channels of ``(n, 2)``, the same shape; applied twice, it doubles the channels."""
    return np.stack([block[:, 0] + block[:, 1], block[:, 0] - block[:, 1]], axis=1)


def _show_progress(blocks: Iterable[np.ndarray], recording: Recording, sample_rate: int) -> Iterator[np.ndarray]:
    """Pass `blocks` on unchanged; show a bar in seconds of audio on stderr if that is a terminal."""
    from tqdm import tqdm

    total = round(recording.n_samples / recording.sample_rate * sample_rate)
    bar_format = "{desc}: {percentage:3.0f} %|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
    shown = {"desc": recording.source.name, "bar_format": bar_format, "unit_scale": 1 / sample_rate}
    with tqdm(total=total, disable=None, leave=False, **shown) as bar:
        for block in blocks:
            yield block
            bar.update(min(len(block), total - bar.n))  # whole samples: tqdm warns of more than the total


def _compute_gain(recording: Recording, rendering: Rendering, settings: Settings, destination: pathlib.Path) -> float:
    """The factor that gives the rendering the level asked for.

    Prints a line on stderr if the file has to be lowered so that it does not clip, or is raised by more than
    `WARN_GAIN_DB`.

    Raises:
        InputError: the network's output has samples that are NaN or infinite.
    """
    if not np.isfinite(rendering.power):
        raise InputError(f"{destination}: expected finite samples from the network, found NaN (damaged weights?)")
    if rendering.peak < SILENT:
        return 1.0
    if settings.level in ("normalize", "peak"):
        gain = TRUE_PEAK / rendering.true_peak if settings.level == "normalize" else 1 / rendering.peak
        if 20 * np.log10(gain) > WARN_GAIN_DB:
            print(f"{destination}: raised by {20 * np.log10(gain):.0f} dB", file=sys.stderr)
        return gain
    gain = np.sqrt(recording.power / rendering.power) if settings.level == "match" else 1.0
    peak = gain * rendering.peak
    if peak > 1 and settings.subtype != "float":  # float samples do not clip
        print(f"{destination}: lowered by {20 * np.log10(peak):.1f} dB to stay within full scale", file=sys.stderr)
        gain /= peak
    return gain
