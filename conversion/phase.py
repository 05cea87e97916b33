"""The phase for a predicted magnitude: that of the input, or one refined by Griffin-Lim, in bounded memory.

Spectra hold the lowest bins only: complex64 ``(n_bins, n_frames)``, in the scale of `data.stft`. A stream consists of
chunks of consecutive frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from data import Representation, overlap_add, stft, unit

PHASES = ("input", "griffinlim")
CONTEXT = 8  # frames on both sides of a chunk that are included when it is refined
MOMENTUM = 0.9  # of fast Griffin-Lim

Chunk = tuple[np.ndarray, np.ndarray]  # magnitude or output spectrum, and input spectrum, both (n_bins, n)


def apply_phase(
    chunks: Iterable[Chunk], phase: str, representation: Representation, iterations: int = 16
) -> Iterator[Chunk]:
    """Give predicted magnitudes a phase.

    Args:
        chunks: (predicted magnitude, input spectrum), both ``(n_bins, n)``.
        phase: "input" takes the phase of the input, "griffinlim" starts with it and refines it.
        representation: window and hop.
        iterations: of Griffin-Lim.

    Yields:
        output, spectrum: the output's and the input's spectrum of the same frames, both ``(n_bins, n)``.
    """
    if phase == "input":
        for target, spectrum in chunks:
            yield target * unit(spectrum), spectrum
        return
    empty = np.zeros((representation.n_bins, 0), np.float32)
    before = empty.astype(np.complex64)  # the last frames whose phase is final
    target, spectrum = empty, before
    end = (empty, before)
    for following in itertools.chain(chunks, [end]):
        target = np.concatenate([target, following[0]], axis=1)
        spectrum = np.concatenate([spectrum, following[1]], axis=1)
        # The last frames are refined again together with the next chunk.
        n_final = target.shape[1] - (0 if following is end else CONTEXT)
        if n_final <= 0:
            continue
        refined = target * griffin_lim(target, unit(spectrum), before, iterations, representation)
        yield refined[:, :n_final], spectrum[:, :n_final]
        before = np.concatenate([before, refined[:, :n_final]], axis=1)[:, -CONTEXT:]
        target, spectrum = target[:, n_final:], spectrum[:, n_final:]


def griffin_lim(
    target: np.ndarray, start: np.ndarray, before: np.ndarray, iterations: int, representation: Representation
) -> np.ndarray:
    """A refined phase for the magnitude `target`, complex ``(n_bins, n_frames)`` of absolute value 1.

    With it, the STFT of the resynthesised audio comes closer to `target`. This is fast Griffin-Lim (Perraudin, Balazs &
    Sondergaard, 2013), started with a given phase instead of noise: each iteration resynthesises the audio and takes
    the phase of its STFT, with momentum.

    Args:
        target: magnitude ``(n_bins, n_frames)``.
        start: first phase, complex ``(n_bins, n_frames)`` of absolute value 1.
        before: spectrum ``(n_bins, n)`` of the preceding frames, which is not changed.
        iterations: number of iterations; 0 returns `start`.
        representation: window and hop.
    """
    n_bins, n_before = len(target), before.shape[1]
    phase = start
    full = np.zeros((representation.n_fft // 2 + 1, n_before + target.shape[1]), np.complex64)
    full[:n_bins, :n_before] = before
    previous = None
    for _ in range(iterations):
        full[:n_bins, n_before:] = target * phase
        audio, weight = overlap_add(full, representation)
        audio /= np.maximum(weight, np.finfo(np.float32).tiny)
        spectrum = stft(audio, representation, center=False)[:n_bins, n_before:]
        accelerated = spectrum if previous is None else spectrum + MOMENTUM * (spectrum - previous)
        previous = spectrum
        phase = unit(accelerated)
    return phase
