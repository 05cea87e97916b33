"""The converter of the pix2pix networks, and the style slice that a multitarget network follows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np

from common.errors import InputError
from common.jobs import map_ahead
from conversion.network import BATCH_SIZE, Network
from conversion.phase import Chunk, apply_phase
from conversion.settings import Settings
from data import PUBLISHED, Representation, amplitude_to_db, db_to_amplitude, fade_in, from_network, to_network
from sound.blocks import CountedBlocks
from sound.files import Recording, open_recording
from sound.streaming import istft_blocks, mono_spectra, regroup_frames, stft_blocks

CROSSOVER_BINS = 16  # at the top of the network's band, over which the output fades into the input (high_band "keep")


def shared_frames(overlap: float, representation: Representation = PUBLISHED) -> int:
    """Number of frames that neighbouring slices share if they overlap by the share `overlap` of a slice.

    Raises:
        InputError: `overlap` is not in 0 to 0.5.
    """
    if not 0 <= overlap <= 0.5:
        raise InputError(f"overlap: expected 0 to 0.5 of a slice, found {overlap}")
    return round(overlap * representation.n_frames)


class Pix2PixConverter:
    """Converts with a network that maps log-magnitude slices to log-magnitude slices.

    Where slices overlap, their log levels are averaged with weights that sum to one: halfway between predictions of -20
    and -40 dB, the result is -30 dB. Slices of digital silence are not given to the network and stay silent.
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
            representation: the spectrogram settings that the network was trained with.
            style: log level [0, 1] ``(n_bins, n_frames)``, the second channel of a multitarget network's input.
            settings: overlap, phase, Griffin-Lim's iterations, input level and high band are used here.
            batch_size: maximum number of slices that the network gets at once.
        """
        settings = settings or Settings()
        self.sample_rate = representation.sample_rate
        self.band = representation.n_bins * representation.bin_hz
        self.residual = settings.high_band == "keep"
        self.normalizes_input = settings.input_level == "peak"
        self._network = network
        self._representation = representation
        self._style = style
        self._settings = settings
        self._batch_size = batch_size
        self._n_overlap = shared_frames(settings.overlap, representation)

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Convert mono float32 blocks to mono float32 blocks of the same total length; see `files.Converter`."""
        settings, representation = self._settings, self._representation
        counted = CountedBlocks(blocks)
        predicted = self._predict(stft_blocks(counted, representation))
        phase = "input" if settings.phase == "auto" else settings.phase
        converted = apply_phase(predicted, phase, settings.griffinlim_iterations, representation)
        if self.residual:
            crossover = _crossover(representation)
            spectra = (crossover * (output - original) for output, original in converted)
        else:
            spectra = (output for output, _ in converted)
        return counted.trim(istft_blocks(spectra, representation))

    def _predict(self, spectra: Iterable[np.ndarray]) -> Iterator[Chunk]:
        """Predict the magnitudes of spectra ``(n_fft // 2 + 1, n)``.

        Yields:
            magnitude, spectrum: the prediction and the input, both ``(n_bins, n)``.
        """
        representation = self._representation
        n_bins, n_frames, n_overlap = representation.n_bins, representation.n_frames, self._n_overlap
        hop, rising = n_frames - n_overlap, fade_in(n_overlap)
        carried = np.zeros((n_bins, n_overlap), np.float32)  # weighted end of the last slice; the next one adds to it
        is_first = True
        batches = self._cut_slices(spectra)
        for spectrum, outputs, is_last in map_ahead(
            lambda batch: (batch[0], self._run(batch[1]), batch[2]), batches, 2
        ):
            n_slices = len(outputs)
            blended = np.zeros((n_bins, (n_slices - 1) * hop + n_frames), np.float32)
            blended[:, :n_overlap] = carried
            for i, output in enumerate(outputs):
                if not (is_first and i == 0):
                    output[:, :n_overlap] *= rising
                if not (is_last and i == n_slices - 1):
                    output[:, n_frames - n_overlap :] *= rising[::-1]
                blended[:, hop * i : hop * i + n_frames] += output
            n_final = spectrum.shape[1] if is_last else n_slices * hop
            magnitude = db_to_amplitude(blended[:, :n_final], representation.amin) / representation.magnitude_scale
            yield magnitude, spectrum[:, :n_final]
            carried = blended[:, n_final:]
            is_first = False

    def _cut_slices(self, spectra: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
        """Batches of overlapping slices: the spectrum ``(n_bins, n)``, its log level ``(n_slices, n_bins, n_frames)``,
        the end filled up with zeros, and whether it is the last batch."""
        representation, n_overlap = self._representation, self._n_overlap
        n_frames = representation.n_frames
        hop = n_frames - n_overlap
        for frames, is_last in regroup_frames(spectra, self._batch_size * hop, n_overlap):
            spectrum = frames[: representation.n_bins]
            level = amplitude_to_db(np.abs(spectrum) * representation.magnitude_scale, representation.amin)
            n_slices = max(1, -(-(level.shape[1] - n_overlap) // hop))
            level = np.pad(level, ((0, 0), (0, (n_slices - 1) * hop + n_frames - level.shape[1])))
            yield spectrum, np.stack([level[:, hop * i : hop * i + n_frames] for i in range(n_slices)]), is_last

    def _run(self, slices: np.ndarray) -> np.ndarray:
        """The network's output for slices ``(n, n_bins, n_frames)``, the same shape; both are log levels [0, 1]."""
        outputs = np.zeros_like(slices)
        sounding = slices.any(axis=(1, 2))
        if sounding.any():
            inputs = to_network(slices[sounding])[..., np.newaxis]
            if self._style is not None:
                style = to_network(self._style)[..., np.newaxis]
                inputs = np.concatenate([inputs, np.broadcast_to(style, inputs.shape)], axis=-1)
            outputs[sounding] = from_network(self._network(inputs))[..., 0]
        return outputs


def _crossover(representation: Representation) -> np.ndarray:
    """Weight of the converted sound in each bin, ``(n_bins, 1)``: 1, falling to 0 at the top of the band."""
    weight = np.ones((representation.n_bins, 1), np.float32)
    n = min(CROSSOVER_BINS, representation.n_bins)
    weight[-n:, 0] = fade_in(n)[::-1]
    return weight


def read_style(
    path: str | os.PathLike,
    representation: Representation = PUBLISHED,
    choice: int | str | None = None,
    seed: int | None = None,
) -> np.ndarray:
    """The style slice of a recording: log level [0, 1], float32 ``(n_bins, n_frames)``.

    Args:
        path: the recording; if it is shorter than a slice, it is repeated.
        representation: the network's spectrogram settings.
        choice: number of the slice from 0, "random" for any slice that is not silent, or None for the slice with the
            greatest mean log level.
        seed: for "random".

    Raises:
        InputError: there is no recording or no such slice, or it is silent.
    """
    with open_recording(path) as recording:
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


def _style_slices(recording: Recording, representation: Representation) -> Iterator[np.ndarray]:
    """The slices of a recording, log level ``(n_bins, n_frames)`` each.

    A last slice that is not full is left out, unless it is the only one: then it is repeated to fill a slice.
    """
    n_frames, scale = representation.n_frames, representation.magnitude_scale
    is_first = True
    for frames, _ in regroup_frames(mono_spectra(recording, representation), n_frames, 0):
        level = amplitude_to_db(np.abs(frames[: representation.n_bins]) * scale, representation.amin)
        if level.shape[1] < n_frames:
            if not is_first:
                return
            level = np.tile(level, -(-n_frames // level.shape[1]))[:, :n_frames]
        yield level
        is_first = False
