"""Where the phase of a predicted magnitude comes from: the input's own, or refined by Griffin-Lim in bounded memory.

Spectra are complex64 ``(n_bins, n_frames)`` of the lowest bins, in the scale of `data.stft`. The streams are chunks of
consecutive frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from data import Representation, overlap_add, stft, unit

PHASES = ("input", "griffinlim", "hybrid")
CONTEXT = 8  # frames beside a chunk that take part in refining it
MOMENTUM = 0.9  # of the fast Griffin-Lim algorithm
FOLLOWS_DB = 3.0  # hybrid: a bin predicted within this of the input's level keeps the input's phase

Chunk = tuple[np.ndarray, np.ndarray]


def apply_phase(
    chunks: Iterable[Chunk], phase: str, iterations: int, representation: Representation
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Predicted magnitudes with a phase: (output spectrum, input spectrum), frame for frame.

    Args:
        chunks: (predicted magnitude, input spectrum), both ``(n_bins, n_frames)``.
        phase: "input" passes the input's through; "griffinlim" starts there and refines it; "hybrid" refines it only
            where the prediction is more than `FOLLOWS_DB` away from the input's level.
        iterations: of Griffin-Lim.
        representation: window and hop.
    """
    if phase == "input":
        for target, spectrum in chunks:
            yield target * unit(spectrum), spectrum
        return
    settled = np.zeros((representation.n_bins, 0), np.complex64)  # the frames before, whose phase is final
    target = spectrum = None
    for following in _with_end(chunks):
        if following is not None:
            target = following[0] if target is None else np.concatenate([target, following[0]], axis=1)
            spectrum = following[1] if spectrum is None else np.concatenate([spectrum, following[1]], axis=1)
        if target is None:
            return
        # All but the last frames become final: those wait for what follows them.
        n_final = target.shape[1] - (CONTEXT if following is not None else 0)
        if n_final <= 0:
            continue
        start = unit(spectrum)
        kept = _follows(target, spectrum) if phase == "hybrid" else None
        refined = target * griffin_lim(target, start, settled, iterations, representation, kept)
        yield refined[:, :n_final], spectrum[:, :n_final]
        settled = np.concatenate([settled, refined[:, :n_final]], axis=1)[:, -CONTEXT:]
        target, spectrum = target[:, n_final:], spectrum[:, n_final:]


def _with_end(chunks: Iterable[Chunk]) -> Iterator[Chunk | None]:
    yield from chunks
    yield None


def _follows(target: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Where a prediction lies within `FOLLOWS_DB` of the input, bool ``(n_bins, n_frames)``."""
    ratio = 10 ** (FOLLOWS_DB / 20)
    absolute = np.abs(spectrum)
    return (target <= absolute * ratio) & (target * ratio >= absolute)


def griffin_lim(
    target: np.ndarray,
    start: np.ndarray,
    settled: np.ndarray,
    iterations: int,
    representation: Representation,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Phase ``(n_bins, n_frames)`` that makes `target` more nearly the magnitude of real audio.

    Each turn goes to audio and back and takes the phase found there, with momentum: fast Griffin-Lim (Perraudin,
    Balazs & Sondergaard, 2013), from a given phase in place of noise.

    Args:
        target: magnitude ``(n_bins, n_frames)``.
        start: complex ``(n_bins, n_frames)`` of absolute value 1.
        settled: spectrum ``(n_bins, n)`` of the frames before, which stays as it is.
        iterations: turns; 0 gives `start`.
        representation: window and hop.
        kept: bool ``(n_bins, n_frames)``, where the phase stays that of `start`.
    """
    n_bins, n_settled = len(target), settled.shape[1]
    phase = start
    full = np.zeros((representation.n_fft // 2 + 1, n_settled + target.shape[1]), np.complex64)
    full[:n_bins, :n_settled] = settled
    before = None
    for _ in range(iterations):
        full[:n_bins, n_settled:] = target * phase
        audio, weight = overlap_add(full, representation)
        audio /= np.maximum(weight, np.finfo(np.float32).tiny)
        found = stft(audio, representation, center=False)[:n_bins, n_settled:]
        moved = found if before is None else found + MOMENTUM * (found - before)
        before = found
        phase = unit(moved) if kept is None else np.where(kept, start, unit(moved))
    return phase
