"""A recording and a network to a new recording, in bounded memory.

A *converter* turns a stream of mono blocks at its `sample_rate` into another of the same length:

* `Pix2PixConverter`: STFT, log level, overlapping slices through the network, blended, a phase, inverse STFT;
* `hum_transfer.HumConverter`: pitch and energy, harmonics through the network, mel spectrogram to audio;
* `load_converter` makes the one that a weights file asks for.

`convert_audio` runs one over an array, `convert_file` over a file of any length, sample rate and channels. Nothing here
imports TensorFlow; a converter's network may bring it.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from common import recordings, weights
from conversion.network import BATCH_SIZE, Network, load_network
from conversion.phase import Chunk, apply_phase
from data import (
    PUBLISHED,
    InputError,
    Representation,
    amplitude_to_db,
    db_to_amplitude,
    from_network,
    mean_of_channels,
    overlap_add,
    resample,
    resampled,
    stft,
    to_network,
)
from hum2guitar import converter

HIGH_BANDS = ("zero", "keep")
LEVELS = ("normalize", "match", "none")
STEREO = ("per_channel", "mid_side", "mono")
CROSSOVER_BINS = 16  # at the top of the network's band, where the input's own sound takes over
RAISED_DB = 60  # normalising by more than this is worth a line


class Converter(Protocol):
    """What every system's conversion looks like from outside.

    Attributes:
        sample_rate: of the blocks, in Hz.
        residual: True if what comes out is to be added to the input.
    """

    sample_rate: int
    residual: bool

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Mono float32 blocks ``(n,)`` to mono float32 blocks; block sizes are free, the total length is kept.

        What there is to warn of goes to stderr, with the recording's `name` before it.
        """


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a recording is converted; the defaults are those of the predict commands.

    Attributes:
        overlap: share of a slice that it has in common with the next, 0 (as published) to 0.5.
        phase: "input", "griffinlim" or "hybrid".
        griffinlim_iterations: of the latter two.
        high_band: above the network's band "zero" (as published), or "keep" the input's own sound.
        level: "normalize" to peak 1 (as published), "match" the input's RMS, or "none".
        stereo: convert "per_channel", mid and side ("mid_side"), or the mean of the channels ("mono").
        sample_rate: of the output in Hz; None for the input's own.
        subtype: "16", "24", "float" or None for the format's usual one.
        hum: of a hum2guitar network: how the hum is heard. Of the others it uses overlap, Griffin-Lim's iterations
            (it has no use for the input's phase), level, stereo, sample rate and subtype.
    """

    overlap: float = 0.25
    phase: str = "input"
    griffinlim_iterations: int = 16
    high_band: str = "zero"
    level: str = "normalize"
    stereo: str = "per_channel"
    sample_rate: int | None = None
    subtype: str | None = None
    hum: converter.HumSettings = dataclasses.field(default_factory=converter.HumSettings)


def load_converter(
    description: weights.Description,
    settings: Settings | None = None,
    precision: str = "auto",
    gpu: int | None = -1,
    style: np.ndarray | None = None,
) -> Converter:
    """The converter of a weights file.

    Args:
        description: of the file, from `weights.describe`.
        settings: see there.
        precision: of the network, see `inference.load`.
        gpu: as of `inference.load`.
        style: style slice of a multitarget network, from `read_style`.

    Raises:
        InputError: the file is damaged or holds a network that nothing here converts with.
    """
    if description.system == "hum2guitar":
        settings = settings or Settings()
        return converter.load_converter(
            description, settings.hum, settings.overlap, settings.griffinlim_iterations, precision, gpu
        )
    if description.system != "pix2pix":
        raise InputError(f"{description.path}: expected pix2pix or hum2guitar, found the system {description.system}")
    network = load_network(description.path, precision, gpu)
    return Pix2PixConverter(network, description.representation, style, settings)


# --- pix2pix ----------------------------------------------------------------------------------------------------------


def shared_frames(overlap: float, representation: Representation = PUBLISHED) -> int:
    """Frames that neighbouring slices have in common, of the share `overlap`.

    Raises:
        InputError: not 0 to 0.5.
    """
    if not 0 <= overlap <= 0.5:
        raise InputError(f"overlap: expected 0 to 0.5 of a slice, found {overlap}")
    return round(overlap * representation.n_frames)


class Pix2PixConverter:
    """Converts with a network that maps log-magnitude slices to log-magnitude slices.

    Slices are blended in the log level (dB), with weights that sum to one: halfway between two predictions of -20 and
    -40 dB lies -30 dB. A slice in which the input is digitally silent stays silent; it does not reach the network.
    """

    def __init__(
        self,
        network: Network,
        representation: Representation = PUBLISHED,
        style: np.ndarray | None = None,
        settings: Settings | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        """
        Args:
            network: slices ``(n, n_bins, n_frames, channels)`` in [-1, 1] to ``(n, n_bins, n_frames, 1)``.
            representation: what the network was trained on.
            style: log level [0, 1] ``(n_bins, n_frames)`` for the second channel of a multitarget network.
            settings: overlap, phase and high band are used here.
            batch_size: most slices that the network is given at once.
        """
        settings = settings or Settings()
        self.sample_rate = representation.sample_rate
        self.residual = settings.high_band == "keep"
        self._network = network
        self._representation = representation
        self._style = style
        self._settings = settings
        self._batch_size = batch_size
        self._n_overlap = shared_frames(settings.overlap, representation)

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Mono float32 blocks to mono float32 blocks of the same total length; see `Converter`."""
        settings, representation = self._settings, self._representation
        counted = _Counted(blocks)
        predicted = self._predict(_spectra(counted, representation))
        phased = apply_phase(predicted, settings.phase, settings.griffinlim_iterations, representation)
        if self.residual:
            crossover = _crossover(representation)
            spectra = (crossover * (output - original) for output, original in phased)
        else:
            spectra = (output for output, _ in phased)
        n_given = 0
        for piece in _synthesised(spectra, representation):
            # Whole frames go in, so the last piece is too long; by then all samples have been counted.
            audio = piece[: counted.n_samples - n_given]
            if len(audio):
                n_given += len(audio)
                yield audio

    def _predict(self, spectra: Iterable[np.ndarray]) -> Iterator[Chunk]:
        """Predicted magnitude beside the input's spectrum, both ``(n_bins, n)``, of spectra ``(n_fft / 2 + 1, n)``."""
        representation = self._representation
        n_bins, n_frames, n_overlap = representation.n_bins, representation.n_frames, self._n_overlap
        hop = n_frames - n_overlap
        scale = 2 / representation.window.sum()  # the STFT's scale to a magnitude of 1 for a full-scale sine
        fade_in = np.sin(np.pi / 2 * (np.arange(n_overlap) + 0.5) / n_overlap) ** 2 if n_overlap else np.zeros(0)
        fade_in = fade_in.astype(np.float32)
        carried = np.zeros((n_bins, n_overlap), np.float32)  # the last slice's share of frames that the next completes
        is_first = True
        for frames, is_last in _windows(spectra, self._batch_size * hop, n_overlap):
            spectrum = frames[:n_bins]
            level = amplitude_to_db(np.abs(spectrum) * scale, representation.amin)
            n_slices = max(1, -(-(level.shape[1] - n_overlap) // hop))
            level = np.pad(level, ((0, 0), (0, (n_slices - 1) * hop + n_frames - level.shape[1])))
            slices = np.stack([level[:, hop * i : hop * i + n_frames] for i in range(n_slices)])
            blended = np.zeros_like(level)
            blended[:, :n_overlap] = carried
            for i, output in enumerate(self._run(slices)):
                if not (is_first and i == 0):
                    output[:, :n_overlap] *= fade_in
                if not (is_last and i == n_slices - 1):
                    output[:, n_frames - n_overlap :] *= fade_in[::-1]
                blended[:, hop * i : hop * i + n_frames] += output
            n_final = spectrum.shape[1] if is_last else n_slices * hop
            yield db_to_amplitude(blended[:, :n_final], representation.amin) / scale, spectrum[:, :n_final]
            carried = blended[:, n_final:]
            is_first = False

    def _run(self, slices: np.ndarray) -> np.ndarray:
        """Log level [0, 1] ``(n, n_bins, n_frames)`` that the network makes of slices of the same shape."""
        outputs = np.zeros_like(slices)
        sounding = slices.any(axis=(1, 2))
        if sounding.any():
            inputs = to_network(slices[sounding])[..., np.newaxis]
            if self._style is not None:
                style = to_network(self._style)[..., np.newaxis]
                inputs = np.concatenate([inputs, np.broadcast_to(style, inputs.shape)], axis=-1)
            outputs[sounding] = from_network(self._network(inputs))[..., 0]
        return outputs


class _Counted:
    """Blocks whose samples are counted as they go by."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = blocks
        self.n_samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.n_samples += len(block)
            yield block


def _spectra(blocks: Iterable[np.ndarray], representation: Representation) -> Iterator[np.ndarray]:
    """The centred `data.stft` of the joined blocks in pieces, complex64 ``(n_fft // 2 + 1, n)``.

    Double precision, because the phase found here also serves bins that the network makes much louder. One frame more
    is made where only the foot of the last window reaches the last sample: dividing by that window on synthesis would
    blow up whatever the network put there.
    """
    n_fft, hop = representation.n_fft, representation.hop_length
    pending = np.zeros(n_fft // 2)
    n_samples = n_made = 0
    for block in blocks:
        n_samples += len(block)
        pending = np.concatenate([pending, block])
        n_ready = max(0, (len(pending) - n_fft) // hop + 1)
        if n_ready:
            yield stft(pending, representation, center=False)
            pending = pending[n_ready * hop :]
            n_made += n_ready
    if not n_samples:
        return
    n_frames = 1 + n_samples // hop
    foot = representation.window[n_fft // 2 + (n_samples - 1) - (n_frames - 1) * hop :: hop]
    if np.sum(np.square(foot)) < 1 / 16:
        n_frames += 1
    if n_frames > n_made:
        length = (n_frames - n_made - 1) * hop + n_fft
        yield stft(np.pad(pending, (0, length))[:length], representation, center=False)


def _windows(spectra: Iterable[np.ndarray], advance: int, beyond: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Frames regrouped: pieces of ``advance + beyond`` frames, each `advance` after the one before.

    Yields:
        frames: ``(bins, n)``; the last piece is shorter, or the only one.
        is_last: whether it is the last piece.
    """
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for spectrum in spectra:
        waiting.append(spectrum)
        n_waiting += spectrum.shape[1]
        if n_waiting <= advance + beyond:
            continue
        joined = np.concatenate(waiting, axis=1)
        while n_waiting > advance + beyond:  # more than the piece: so it is not the last
            yield joined[:, : advance + beyond], False
            joined = joined[:, advance:]
            n_waiting -= advance
        waiting = [joined]
    if waiting:
        yield np.concatenate(waiting, axis=1), True


def _synthesised(spectra: Iterable[np.ndarray], representation: Representation) -> Iterator[np.ndarray]:
    """The inverse of the centred STFT in pieces: audio from sample 0 on of spectra ``(n_bins, n)``."""
    n_fft, hop = representation.n_fft, representation.hop_length
    audio_tail = np.zeros(n_fft - hop, np.float32)
    weight_tail = np.zeros(n_fft - hop, np.float32)
    n_skipped = n_fft // 2  # before sample 0
    tiny = np.finfo(np.float32).tiny
    for spectrum in spectra:
        full = np.zeros((n_fft // 2 + 1, spectrum.shape[1]), np.complex64)
        full[: len(spectrum)] = spectrum
        audio, weight = overlap_add(full, representation)
        audio[: n_fft - hop] += audio_tail
        weight[: n_fft - hop] += weight_tail
        n_ready = spectrum.shape[1] * hop
        audio_tail, weight_tail = audio[n_ready:], weight[n_ready:]
        skipped = min(n_skipped, n_ready)
        n_skipped -= skipped
        yield audio[skipped:n_ready] / np.maximum(weight[skipped:n_ready], tiny)
    yield (audio_tail / np.maximum(weight_tail, tiny))[n_skipped:]


def _crossover(representation: Representation) -> np.ndarray:
    """Weight of the converted sound over the bins, ``(n_bins, 1)``: 1, falling to 0 at the top of the band."""
    weight = np.ones((representation.n_bins, 1), np.float32)
    n = min(CROSSOVER_BINS, representation.n_bins)
    weight[-n:, 0] = np.cos(np.pi / 2 * (np.arange(n) + 0.5) / n) ** 2
    return weight


# --- style ------------------------------------------------------------------------------------------------------------


def read_style(
    path: str | os.PathLike,
    representation: Representation = PUBLISHED,
    choice: int | str | None = None,
    seed: int | None = None,
) -> np.ndarray:
    """The style slice of a recording: log level [0, 1], float32 ``(n_bins, n_frames)``.

    Args:
        path: the recording; one shorter than a slice is repeated until it fills it.
        representation: of the network.
        choice: number of the slice from 0, "random" for one that sounds, or None for the loudest and least silent one:
            the one whose mean log level is greatest.
        seed: of "random".

    Raises:
        InputError: no recording, silent, or no such slice.
    """
    with recordings.opened(path) as recording:
        loudness = [float(level.mean()) for level in _style_slices(recording, representation)]
        if not max(loudness):
            raise InputError(f"{path}: expected a style recording that sounds, found silence")
        if choice is None:
            index = int(np.argmax(loudness))
        elif choice == "random":
            index = int(np.random.default_rng(seed).choice(np.flatnonzero(loudness)))
        else:
            index = int(choice)
        if not 0 <= index < len(loudness):
            raise InputError(f"--style_slice: expected 0 to {len(loudness) - 1} in {path}, found {index}")
        if not loudness[index]:
            raise InputError(f"--style_slice: expected a slice of {path} that sounds, found silence in slice {index}")
        return next(itertools.islice(_style_slices(recording, representation), index, None))


def _style_slices(recording: recordings.Recording, representation: Representation) -> Iterator[np.ndarray]:
    """The whole slices of a recording, log level ``(n_bins, n_frames)`` each; a shorter one repeated to one slice."""
    n_frames, scale = representation.n_frames, 2 / representation.window.sum()
    is_first = True
    for frames, _ in _windows(_mono_spectra(recording, representation), n_frames, 0):
        level = amplitude_to_db(np.abs(frames[: representation.n_bins]) * scale, representation.amin)
        if level.shape[1] < n_frames:
            if not is_first:
                return
            level = np.tile(level, -(-n_frames // level.shape[1]))[:, :n_frames]
        yield level
        is_first = False


def _mono_spectra(recording: recordings.Recording, representation: Representation) -> Iterator[np.ndarray]:
    """The spectra of the mean of a recording's channels, as `_spectra` gives them."""
    mono = map(mean_of_channels, recordings.read(recording))
    return _spectra(resampled(mono, recording.sample_rate, representation.sample_rate), representation)


# --- arrays and files -------------------------------------------------------------------------------------------------


def convert_audio(audio: np.ndarray, converter: Converter, sample_rate: int | None = None) -> np.ndarray:
    """`audio` converted, the same shape, in memory; its level is what the network makes it.

    Args:
        audio: float32 ``(n_samples,)`` or ``(n_channels, n_samples)``; channels are converted each on its own.
        converter: from `load_converter`, or `Pix2PixConverter` of a live network.
        sample_rate: of `audio` and the output in Hz; None for the converter's.
    """
    if audio.ndim == 2:
        return np.stack([convert_audio(channel, converter, sample_rate) for channel in audio])
    if not len(audio):
        return np.zeros(0, np.float32)
    audio = np.asarray(audio, np.float32)
    sample_rate = sample_rate or converter.sample_rate
    blocks = converter.convert([resample(audio, sample_rate, converter.sample_rate)])
    converted = resample(np.concatenate(list(blocks)), converter.sample_rate, sample_rate)
    converted = np.pad(converted[: len(audio)], (0, max(0, len(audio) - len(converted))))
    return converted + audio if converter.residual else converted


def convert_file(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    converter: Converter | Callable[[], Converter],
    settings: Settings | None = None,
) -> None:
    """Convert the recording `source` to the file `destination`, whole or not at all, in bounded memory.

    Same length, sample rate and channels unless `settings` says otherwise. A progress bar in seconds of audio is shown
    where stderr is a terminal.

    Args:
        source: a recording in any format.
        destination: its extension says the format.
        converter: or a function that makes one, called once the recording was found fit.
        settings: level, stereo, sample rate and subtype are used here.

    Raises:
        InputError: the recording or the output is not what is expected, or they are the same file.
        OSError: the disk is full.
    """
    settings, destination = settings or Settings(), pathlib.Path(destination)
    with recordings.opened(source) as recording:
        if os.path.exists(destination) and os.path.samefile(recording.source, destination):
            raise InputError(f"{destination}: expected an output that is not the input itself")
        sample_rate = settings.sample_rate or recording.sample_rate
        n_channels = 1 if settings.stereo == "mono" else recording.n_channels
        recordings.check_writable(destination, sample_rate, n_channels, settings.subtype)
        converter = converter() if callable(converter) else converter
        blocks = _converted(recording, converter, settings, sample_rate, n_channels)
        blocks = _with_progress(blocks, recording, sample_rate)
        with recordings.rendered(blocks, n_channels, destination) as rendering:
            gain = _gain(recording, rendering, settings, destination)
            recordings.write(destination, rendering, gain, sample_rate, settings.subtype)


def _converted(
    recording: recordings.Recording, converter: Converter, settings: Settings, sample_rate: int, n_channels: int
) -> Iterator[np.ndarray]:
    """The converted blocks ``(n, n_channels)`` of a recording at `sample_rate`, before the level is set."""
    n_samples = max(1, round(recording.n_samples * sample_rate / recording.sample_rate))
    mid_side = settings.stereo == "mid_side" and n_channels == 2
    blocks = recordings.read(recording)
    if settings.stereo == "mono":
        blocks = (mean_of_channels(block)[:, np.newaxis] for block in blocks)
    if mid_side:
        blocks = (_mid_side(block) / 2 for block in blocks)
    blocks, originals = itertools.tee(blocks) if converter.residual else (blocks, None)
    blocks = resampled(blocks, recording.sample_rate, converter.sample_rate, n_channels)
    # All channels run through the converter side by side, each in a stream of its own, a piece at a time.
    names = [f"{recording.source}{f' (channel {i})' if n_channels > 1 else ''}" for i in range(n_channels)]
    channels = [
        converter.convert(_channel(stream, index), names[index])
        for index, stream in enumerate(itertools.tee(blocks, n_channels))
    ]
    blocks = (np.stack(pieces, axis=1) for pieces in zip(*channels, strict=True))
    blocks = resampled(blocks, converter.sample_rate, sample_rate, n_channels)
    blocks = recordings.of_length(blocks, n_samples, n_channels)
    if originals is not None:
        originals = resampled(originals, recording.sample_rate, sample_rate, n_channels)
        blocks = recordings.added(blocks, recordings.of_length(originals, n_samples, n_channels))
    return (_mid_side(block) for block in blocks) if mid_side else iter(blocks)


def _channel(blocks: Iterable[np.ndarray], index: int) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block[:, index]


def _mid_side(block: np.ndarray) -> np.ndarray:
    """Sum and difference of two channels; done twice it gives twice the channels."""
    return np.stack([block[:, 0] + block[:, 1], block[:, 0] - block[:, 1]], axis=1)


def _with_progress(
    blocks: Iterable[np.ndarray], recording: recordings.Recording, sample_rate: int
) -> Iterator[np.ndarray]:
    """`blocks` as they are, with a bar in seconds of audio on stderr if that is a terminal."""
    from tqdm import tqdm

    total = recording.n_samples / recording.sample_rate
    form = "{desc}: {percentage:3.0f} %|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
    with tqdm(total=total, desc=recording.source.name, bar_format=form, disable=None, leave=False) as bar:
        for block in blocks:
            yield block
            bar.update(len(block) / sample_rate)


def _gain(
    recording: recordings.Recording, rendering: recordings.Rendering, settings: Settings, destination: pathlib.Path
) -> float:
    """What the rendering is multiplied by; says on stderr where the wish could not be met or is extreme.

    Raises:
        InputError: the network's output is no finite number.
    """
    if not np.isfinite(rendering.power):
        raise InputError(f"{destination}: expected finite samples from the network, found NaN (damaged weights?)")
    if not rendering.peak:
        return 1.0
    if settings.level == "normalize":
        gain = 1 / rendering.peak
        if 20 * np.log10(gain) > RAISED_DB:
            print(f"{destination}: raised by {20 * np.log10(gain):.0f} dB to peak 1", file=sys.stderr)
        return gain
    gain = np.sqrt(recording.power / rendering.power) if settings.level == "match" else 1.0
    peak = gain * rendering.peak
    if peak > 1 and settings.subtype != "float":  # a float file holds any level
        print(f"{destination}: lowered by {20 * np.log10(peak):.1f} dB to stay within full scale", file=sys.stderr)
        gain /= peak
    return gain


def spectrogram(
    path: str | os.PathLike, n_columns: int, representation: Representation = PUBLISHED
) -> tuple[np.ndarray, float]:
    """Log level [0, 1] of a recording of any length, all channels' mean, thinned to about `n_columns` columns.

    Returns:
        level: float32 ``(n_bins, n)``, the maximum of neighbouring frames, so that no onset vanishes.
        seconds: from one column to the next.
    """
    with recordings.opened(path) as recording:
        n_frames = recording.n_samples / recording.sample_rate * representation.sample_rate / representation.hop_length
        step = max(1, round(n_frames / n_columns))
        columns = []
        for frames, _ in _windows(_mono_spectra(recording, representation), step, 0):
            magnitude = np.abs(frames[: representation.n_bins]).max(axis=1) * (2 / representation.window.sum())
            columns.append(amplitude_to_db(magnitude, representation.amin))
    return np.stack(columns, axis=1), step * representation.hop_length / representation.sample_rate
