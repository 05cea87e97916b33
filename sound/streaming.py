"""The STFT of a stream of audio blocks and its inverse."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import numpy as np

from data import PUBLISHED, Representation, amplitude_to_db, overlap_add, stft
from sound.blocks import mean_of_channels, resample_blocks
from sound.files import Recording, open_recording, read_recording


def stft_blocks(blocks: Iterable[np.ndarray], representation: Representation) -> Iterator[np.ndarray]:
    """The centred `data.stft` of a stream of audio, complex64 ``(..., n_fft // 2 + 1, n)`` each.

    Computed in double precision, because the phase is also used in bins that the network makes much louder than they
    were. If the last sample lies where the last window is almost zero, one more frame is made: the inverse STFT divides
    by the window, which would amplify the network's output there.

    Args:
        blocks: audio ``(n,)`` or ``(n_channels, n)`` each.
        representation: window and hop.
    """
    n_fft, hop = representation.n_fft, representation.hop_length
    pending = None
    n_samples = n_made = 0
    for block in blocks:
        n_samples += block.shape[-1]
        before = np.zeros((*block.shape[:-1], n_fft // 2)) if pending is None else pending
        pending = np.concatenate([before, block], axis=-1)
        n_ready = max(0, (pending.shape[-1] - n_fft) // hop + 1)
        if n_ready:
            yield stft(pending, representation, center=False)
            pending = pending[..., n_ready * hop :]
            n_made += n_ready
    if not n_samples:
        return
    n_frames = 1 + n_samples // hop
    # The window's values at the last sample, in the last frame and in those before it.
    last_weights = representation.window[n_fft // 2 + (n_samples - 1) - (n_frames - 1) * hop :: hop]
    if np.sum(np.square(last_weights)) < 1 / 16:
        n_frames += 1
    if n_frames > n_made:
        length = (n_frames - n_made - 1) * hop + n_fft
        zeros = np.zeros((*pending.shape[:-1], length))
        yield stft(np.concatenate([pending, zeros], axis=-1)[..., :length], representation, center=False)


def regroup_frames(spectra: Iterable[np.ndarray], advance: int, n_shared: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Regroup a stream of frames into overlapping pieces of ``advance + n_shared`` frames.

    Args:
        spectra: ``(..., n_bins, n)`` each.
        advance: frames from the start of a piece to the start of the next one.
        n_shared: frames at the end of a piece that the next one begins with.

    Yields:
        frames: ``(..., n_bins, advance + n_shared)``; the last piece may have fewer frames.
        is_last: whether it is the last piece.
    """
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for spectrum in spectra:
        waiting.append(spectrum)
        n_waiting += spectrum.shape[-1]
        if n_waiting <= advance + n_shared:
            continue
        joined = np.concatenate(waiting, axis=-1)
        while n_waiting > advance + n_shared:  # more frames than one piece, so this is not the last piece
            yield joined[..., : advance + n_shared], False
            joined = joined[..., advance:]
            n_waiting -= advance
        waiting = [joined]
    if waiting:
        yield np.concatenate(waiting, axis=-1), True


def istft_blocks(spectra: Iterable[np.ndarray], representation: Representation) -> Iterator[np.ndarray]:
    """The inverse of the centred STFT of a stream: audio from sample 0 on, float32 ``(..., n)`` each.

    Args:
        spectra: ``(..., n_bins, n)`` each; bins above them are zero.
        representation: window and hop.
    """
    n_fft, hop = representation.n_fft, representation.hop_length
    audio_tail = np.zeros(n_fft - hop, np.float32)
    weight_tail = np.zeros(n_fft - hop, np.float32)
    n_skipped = n_fft // 2  # before sample 0
    tiny = np.finfo(np.float32).tiny
    for spectrum in spectra:
        *channels, n_bins, n = spectrum.shape
        full = np.zeros((*channels, n_fft // 2 + 1, n), np.complex64)
        full[..., :n_bins, :] = spectrum
        audio, weight = overlap_add(full, representation)
        audio[..., : n_fft - hop] += audio_tail
        weight[: n_fft - hop] += weight_tail
        n_ready = n * hop
        audio_tail, weight_tail = audio[..., n_ready:], weight[n_ready:]
        skipped = min(n_skipped, n_ready)
        n_skipped -= skipped
        yield audio[..., skipped:n_ready] / np.maximum(weight[skipped:n_ready], tiny)
    yield (audio_tail / np.maximum(weight_tail, tiny))[..., n_skipped:]


def mono_spectra(recording: Recording, representation: Representation) -> Iterator[np.ndarray]:
    """`stft_blocks` of the mean of a recording's channels, at the sample rate of `representation`."""
    mono = map(mean_of_channels, read_recording(recording))
    return stft_blocks(resample_blocks(mono, recording.sample_rate, representation.sample_rate), representation)


def spectrogram(
    path: str | os.PathLike, n_columns: int, representation: Representation = PUBLISHED
) -> tuple[np.ndarray, float]:
    """Spectrogram of a recording of any length, reduced to about `n_columns` columns.

    Returns:
        level: log level [0, 1] of the mean of the channels, float32 ``(n_bins, n)``. Each column is the maximum of
            neighbouring frames, so that short onsets stay visible.
        seconds_per_column: time from one column to the next.

    Raises:
        InputError: as `open_recording`.
    """
    recording = open_recording(path)
    n_frames = recording.n_samples / recording.sample_rate * representation.sample_rate / representation.hop_length
    step = max(1, round(n_frames / n_columns))
    columns = []
    for frames, _ in regroup_frames(mono_spectra(recording, representation), step, 0):
        magnitude = np.abs(frames[: representation.n_bins]).max(axis=1) * representation.magnitude_scale
        columns.append(amplitude_to_db(magnitude, representation.amin))
    return np.stack(columns, axis=1), step * representation.hop_length / representation.sample_rate
