"""The converter of the pix2pix networks (slices, overlap, channels, phase), and the settings of a conversion.

A *converter* turns a stream of audio blocks into another one of the same length. It has

* ``sample_rate``: of the blocks, in Hz;
* ``band``: the highest frequency that it makes, in Hz;
* ``residual``: whether its output is a difference that has to be added to the input;
* ``normalizes_input``: whether the whole input is to be brought to peak 1 before, and the output back after;
* ``convert(blocks, name)``: float32 blocks ``(n, n_channels)`` to blocks of the same total length; `name` is that of
  the recording, for warnings.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

import data
from common import InputError, weights
from common.jobs import map_ahead
from conversion.network import BATCH_SIZE, Network, load_network
from data import PUBLISHED, Representation
from hum2guitar.converter import HumConverter
from sound.blocks import istft_blocks, regroup_frames, stft_blocks

PHASES = ("input", "griffinlim")
HIGH_BANDS = ("zero", "keep")
LEVELS = ("normalize", "peak", "match", "none")
STEREO = ("joint", "mono")
INPUT_LEVELS = ("keep", "peak")
CROSSOVER_BINS = 16  # at the top of the network's band, over which the output fades into the input (high_band "keep")
CONTEXT = 8  # frames on both sides of a chunk that are included when its phase is refined
MOMENTUM = 0.9  # of fast Griffin-Lim

Chunk = tuple[np.ndarray, np.ndarray]  # magnitude or output spectrum, and input spectrum, both (..., n_bins, n)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a recording is converted. The fields are the arguments of predict.py, whose ``--help`` explains them.

    A hum2guitar network does not use `phase`, `input_level` and `high_band`, others not `f0` and `transpose`.
    """

    overlap: float = 0.25
    phase: str = "input"
    input_level: str = "auto"
    high_band: str = "zero"
    level: str = "normalize"
    stereo: str = "joint"
    mix: float = 0.0
    subtype: str | None = None
    f0: str | None = None
    transpose: float | str = "auto"


def load_converter(
    description: weights.Description,
    settings: Settings | None = None,
    gpu: int | None = -1,
    style: np.ndarray | None = None,
) -> Converter:
    """The converter for a weights file.

    Args:
        description: of the file.
        settings: how to convert; None for the defaults.
        gpu: as in `network.load_network`.
        style: style slice of a multitarget network, from `models.read_style`.

    Raises:
        InputError: the file is damaged.
    """
    settings, network = settings or Settings(), load_network(description, gpu)
    if description.system == "hum2guitar":
        transpose = None if settings.transpose == "auto" else float(settings.transpose)
        return HumConverter(description, network, settings.overlap, settings.f0, transpose)
    if settings.input_level == "auto":
        settings = dataclasses.replace(settings, input_level=description.settings.get("input_level", "keep"))
    return Pix2PixConverter(network, description.representation, style, settings)


@dataclasses.dataclass
class Pix2PixConverter:
    """Converts with a network that maps log-magnitude slices to log-magnitude slices.

    Where slices overlap, their log levels are averaged with weights that sum to one: halfway between predictions of -20
    and -40 dB, the result is -30 dB. Slices of digital silence are not given to the network and stay silent.

    Attributes:
        network: slices ``(n, n_bins, n_frames, channels)`` in [-1, 1] to ``(n, n_bins, n_frames, 1)``.
        representation: the spectrogram settings that the network was trained with.
        style: log level [0, 1] ``(n_bins, n_frames)``, the second channel of a multitarget network's input.
        settings: overlap, phase, input_level and high_band are used here.
    """

    network: Network
    representation: Representation = PUBLISHED
    style: np.ndarray | None = None
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        settings, representation = self.settings, self.representation
        if not 0 <= settings.overlap <= 0.5:
            raise InputError(f"overlap: expected 0 to 0.5 of a slice, found {settings.overlap}")
        self.sample_rate = representation.sample_rate
        self.band = representation.n_bins * representation.bin_hz
        self.residual = settings.high_band == "keep"
        self.normalizes_input = settings.input_level == "peak"
        self.n_overlap = round(settings.overlap * representation.n_frames)  # frames that neighbouring slices share

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Convert float32 blocks ``(n, n_channels)`` to blocks of the same total length, with one prediction for all.

        The network hears the root mean square of the channels' magnitudes, which no phase between them cancels, and
        each channel gets the share of the prediction that it has of the input.
        """
        n_read = n_given = 0

        def read() -> Iterator[np.ndarray]:
            nonlocal n_read
            for block in blocks:
                n_read += len(block)
                yield block.T

        spectra = stft_blocks(read(), self.representation)
        chunks = self._predict(spectrum[:, : self.representation.n_bins] for spectrum in spectra)
        for audio in self._resynthesise(chunks):
            made = audio.T[: n_read - n_given]  # the last frame reaches beyond the end of the input
            n_given += len(made)
            if len(made):
                yield made

    def _predict(self, spectra: Iterable[np.ndarray]) -> Iterator[Chunk]:
        """Predict the magnitudes of spectra ``(n_channels, n_bins, n)``.

        Yields:
            magnitude, spectrum: the prediction and the input, both ``(n_channels, n_bins, n)``.
        """
        representation = self.representation
        n_bins, n_frames, n_overlap = representation.n_bins, representation.n_frames, self.n_overlap
        hop, rising = n_frames - n_overlap, data.fade_in(n_overlap)
        carried = np.zeros((n_bins, n_overlap), np.float32)  # weighted end of the last slice; the next one adds to it
        is_first = True
        batches = self._cut_slices(spectra)
        for (spectrum, _, is_last), outputs in map_ahead(lambda batch: (batch, self._run(batch[1])), batches, 2):
            n_slices = len(outputs)
            blended = np.zeros((n_bins, (n_slices - 1) * hop + n_frames), np.float32)
            blended[:, :n_overlap] = carried
            for i, output in enumerate(outputs):
                if not (is_first and i == 0):
                    output[:, :n_overlap] *= rising
                if not (is_last and i == n_slices - 1):
                    output[:, n_frames - n_overlap :] *= rising[::-1]
                blended[:, hop * i : hop * i + n_frames] += output
            n_final = spectrum.shape[2] if is_last else n_slices * hop
            magnitude = data.db_to_amplitude(blended[:, :n_final], representation.amin) / representation.magnitude_scale
            yield _share(magnitude, spectrum[..., :n_final]), spectrum[..., :n_final]
            carried = blended[:, n_final:]
            is_first = False

    def _cut_slices(self, spectra: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
        """Batches of overlapping slices: the spectrum ``(n_channels, n_bins, n)``, its log level
        ``(n_slices, n_bins, n_frames)``, the end filled up with zeros, and whether it is the last batch."""
        representation, n_overlap = self.representation, self.n_overlap
        n_frames = representation.n_frames
        hop = n_frames - n_overlap
        for spectrum, is_last in regroup_frames(spectra, BATCH_SIZE * hop, n_overlap):
            magnitude = _root_mean_square(np.abs(spectrum)) * representation.magnitude_scale
            level = data.amplitude_to_db(magnitude, representation.amin)
            n_slices = max(1, -(-(level.shape[1] - n_overlap) // hop))
            level = np.pad(level, ((0, 0), (0, (n_slices - 1) * hop + n_frames - level.shape[1])))
            yield spectrum, np.stack([level[:, hop * i : hop * i + n_frames] for i in range(n_slices)]), is_last

    def _run(self, slices: np.ndarray) -> np.ndarray:
        """The network's output for slices ``(n, n_bins, n_frames)``, the same shape; both are log levels [0, 1]."""
        outputs = np.zeros_like(slices)
        sounding = slices.any(axis=(1, 2))
        if sounding.any():
            inputs = data.to_network(slices[sounding])[..., np.newaxis]
            if self.style is not None:
                style = data.to_network(self.style)[..., np.newaxis]
                inputs = np.concatenate([inputs, np.broadcast_to(style, inputs.shape)], axis=-1)
            outputs[sounding] = data.from_network(self.network(inputs))[..., 0]
        return outputs

    def _resynthesise(self, chunks: Iterable[Chunk]) -> Iterator[np.ndarray]:
        """Audio ``(n_channels, n)`` of predicted magnitudes and input spectra."""
        representation, settings = self.representation, self.settings
        converted = apply_phase(chunks, settings.phase, representation)
        if self.residual:
            # The weight of the converted sound: 1, falling to 0 at the top of the band.
            crossover = np.ones((representation.n_bins, 1), np.float32)
            crossover[-CROSSOVER_BINS:, 0] = data.fade_in(CROSSOVER_BINS)[::-1]
            spectra = (crossover * (output - original) for output, original in converted)
        else:
            spectra = (output for output, _ in converted)
        return istft_blocks(spectra, representation)


def _root_mean_square(magnitudes: np.ndarray) -> np.ndarray:
    """Over the channels of ``(n_channels, n_bins, n)``: ``(n_bins, n)``."""
    return magnitudes[0] if len(magnitudes) == 1 else np.sqrt(np.mean(np.square(magnitudes), axis=0))


def _share(magnitude: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """The magnitude ``(n_bins, n)`` for each channel of ``(n_channels, n_bins, n)``: as the channels' magnitudes are to
    their root mean square; the same for all where there is silence."""
    own = np.abs(spectrum)
    of_all = np.broadcast_to(_root_mean_square(own), own.shape)
    return magnitude * np.divide(own, of_all, out=np.ones_like(own), where=of_all > 0)


# --- phase ------------------------------------------------------------------------------------------------------------


def apply_phase(
    chunks: Iterable[Chunk], phase: str, representation: Representation, iterations: int = 16
) -> Iterator[Chunk]:
    """Give predicted magnitudes a phase.

    Args:
        chunks: (predicted magnitude, input spectrum), both ``(..., n_bins, n)``.
        phase: "input" takes the phase of the input, "griffinlim" starts with it and refines it.
        representation: window and hop.
        iterations: of Griffin-Lim.

    Yields:
        output, spectrum: the output's and the input's spectrum of the same frames, both ``(..., n_bins, n)``.
    """
    if phase == "input":
        for target, spectrum in chunks:
            yield target * data.unit(spectrum), spectrum
        return
    chunks = iter(chunks)
    first = next(chunks)
    end = first[0][..., :0], first[1][..., :0]
    target, spectrum = end
    before = spectrum  # the last frames whose phase is final
    for following in itertools.chain([first], chunks, [end]):
        target = np.concatenate([target, following[0]], axis=-1)
        spectrum = np.concatenate([spectrum, following[1]], axis=-1)
        # The last frames are refined again together with the next chunk.
        n_final = target.shape[-1] - (0 if following is end else CONTEXT)
        if n_final <= 0:
            continue
        refined = target * griffin_lim(target, data.unit(spectrum), before, iterations, representation)
        yield refined[..., :n_final], spectrum[..., :n_final]
        before = np.concatenate([before, refined[..., :n_final]], axis=-1)[..., -CONTEXT:]
        target, spectrum = target[..., n_final:], spectrum[..., n_final:]


def griffin_lim(
    target: np.ndarray, start: np.ndarray, before: np.ndarray, iterations: int, representation: Representation
) -> np.ndarray:
    """A refined phase for the magnitude `target`, complex ``(..., n_bins, n_frames)`` of absolute value 1.

    With it, the STFT of the resynthesised audio comes closer to `target`. This is fast Griffin-Lim (Perraudin, Balazs &
    Sondergaard, 2013), started with a given phase instead of noise: each iteration resynthesises the audio and takes
    the phase of its STFT, with momentum.

    Args:
        target: magnitude ``(..., n_bins, n_frames)``.
        start: first phase, complex ``(..., n_bins, n_frames)`` of absolute value 1.
        before: spectrum ``(..., n_bins, n)`` of the preceding frames, which is not changed.
        iterations: number of iterations; 0 returns `start`.
        representation: window and hop.
    """
    *channels, n_bins, n_frames = target.shape
    n_before, phase = before.shape[-1], start
    full = np.zeros((*channels, representation.n_fft // 2 + 1, n_before + n_frames), np.complex64)
    full[..., :n_bins, :n_before] = before
    previous = None
    for _ in range(iterations):
        full[..., :n_bins, n_before:] = target * phase
        audio, weight = data.overlap_add(full, representation)
        audio /= np.maximum(weight, np.finfo(np.float32).tiny)
        spectrum = data.stft(audio, representation, center=False)[..., :n_bins, n_before:]
        accelerated = spectrum if previous is None else spectrum + MOMENTUM * (spectrum - previous)
        previous = spectrum
        phase = data.unit(accelerated)
    return phase


Converter = Pix2PixConverter | HumConverter
