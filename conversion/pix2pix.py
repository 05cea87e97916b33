"""The Pix2Pix converter: slices through the network, blended, and the style recording of a multitarget network."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np

from common import recordings
from common.audio import CountedBlocks
from common.errors import InputError
from common.jobs import map_ahead
from conversion.network import BATCH_SIZE, Network
from conversion.phase import Chunk, apply_phase
from conversion.settings import Settings
from conversion.streaming import istft_blocks, mono_spectra, regroup_frames, stft_blocks
from data import PUBLISHED, Representation, amplitude_to_db, db_to_amplitude, fade_in, from_network, to_network

CROSSOVER_BINS = 16  # at the top of the network's band, where the input's own sound takes over


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
        counted = CountedBlocks(blocks)
        predicted = self._predict(stft_blocks(counted, representation))
        phased = apply_phase(predicted, settings.phase, settings.griffinlim_iterations, representation)
        if self.residual:
            crossover = _crossover(representation)
            spectra = (crossover * (output - original) for output, original in phased)
        else:
            spectra = (output for output, _ in phased)
        return counted.trim(istft_blocks(spectra, representation))

    def _predict(self, spectra: Iterable[np.ndarray]) -> Iterator[Chunk]:
        """Predicted magnitude beside the input's spectrum, both ``(n_bins, n)``, of spectra ``(n_fft / 2 + 1, n)``."""
        representation = self._representation
        n_bins, n_frames, n_overlap = representation.n_bins, representation.n_frames, self._n_overlap
        hop, rising = n_frames - n_overlap, fade_in(n_overlap)
        carried = np.zeros((n_bins, n_overlap), np.float32)  # the last slice's share of frames that the next completes
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


def _crossover(representation: Representation) -> np.ndarray:
    """Weight of the converted sound over the bins, ``(n_bins, 1)``: 1, falling to 0 at the top of the band."""
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
        path: the recording; one shorter than a slice is repeated until it fills it.
        representation: of the network.
        choice: number of the slice from 0, "random" for one that sounds, or None for the loudest and least silent one:
            the one whose mean log level is greatest.
        seed: of "random".

    Raises:
        InputError: no recording, silent, or no such slice.
    """
    with recordings.open_recording(path) as recording:
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
