"""Probabilistic YIN (pYIN; Mauch & Dixon, 2014) with SciPy alone.

The results are those of ``librosa.pyin`` with its defaults, in half the time. librosa's needs Numba, which takes 200 MB
of memory and two seconds to load: more than everything else in a conversion.
"""

from __future__ import annotations

import math

import numpy as np

N_THRESHOLDS = 100
BETA = 2, 18  # parameters of the prior distribution of the threshold
TROUGH_DECAY = 2.0  # of the Boltzmann distribution of the troughs below a threshold, which prefers short periods
NO_TROUGH = 0.01  # probability of the lowest trough if none is below the threshold
SWITCH = 0.01  # probability of a change from voiced to unvoiced or back
MAX_RATE = 35.92  # octaves per second
TINY = np.finfo(np.float64).tiny


def track_pyin(
    audio: np.ndarray,
    sample_rate: int,
    hop_length: int,
    f0_min: float,
    f0_max: float,
    frame_length: int,
    bins_per_semitone: int,
) -> np.ndarray:
    """Pitch in Hz ``(1 + n_samples // hop_length,)``, 0 where unvoiced, of audio ``(n_samples,)``.

    Pitches are rounded to bins of ``1 / bins_per_semitone``.
    """
    min_period = math.floor(sample_rate / f0_max)
    max_period = min(math.ceil(sample_rate / f0_min), frame_length - 1)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, frame_length // 2), frame_length)[::hop_length]
    difference = _normalized_difference(frames, min_period, max_period)
    frame, lag, probability = _find_troughs(difference)
    f0 = sample_rate / (min_period + lag + _parabolic_shift(difference, frame, lag))
    n_bins = math.floor(12 * bins_per_semitone * math.log2(f0_max / f0_min)) + 1
    pitch = np.clip(np.round(12 * bins_per_semitone * np.log2(f0 / f0_min)), 0, n_bins).astype(int)
    voiced = np.zeros((len(frames), n_bins + 1))  # the last bin is for what is too high
    voiced[frame, pitch] = probability
    voiced = voiced[:, :n_bins]
    unvoiced = (1 - np.minimum(voiced.sum(axis=1, keepdims=True), 1)) / n_bins
    reach = round(MAX_RATE * 12 * hop_length / sample_rate) * bins_per_semitone // 2
    states = _decode(np.stack(np.broadcast_arrays(voiced, unvoiced), axis=1), reach)
    return np.where(states < n_bins, f0_min * 2 ** (states % n_bins / (12 * bins_per_semitone)), 0)


def _normalized_difference(frames: np.ndarray, min_period: int, max_period: int) -> np.ndarray:
    """Cumulative mean normalized difference (de Cheveigné & Kawahara, 2002, eq. 8), ``(n_frames, n_periods)``."""
    from scipy import fft

    n_fft = fft.next_fast_len(2 * frames.shape[1] - 1, real=True)
    spectrum = fft.rfft(frames, n_fft, axis=1)
    correlation = fft.irfft(np.square(spectrum.real) + np.square(spectrum.imag), n_fft, axis=1)
    energy = np.cumsum(np.square(frames), axis=1)
    difference = 2 * (correlation[:, :1] - correlation[:, 1 : max_period + 1]) - energy[:, :max_period]
    mean = np.cumsum(difference, axis=1) / np.arange(1, max_period + 1)
    return (difference / (mean + np.finfo(difference.dtype).tiny))[:, min_period - 1 :]


def _find_troughs(difference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame, lag and probability of every trough of ``(n_frames, n_lags)`` that may be the period, in this order.

    The probability adds up over all thresholds, each as likely as its prior says.
    """
    from scipy import special

    padded = np.pad(difference, ((0, 0), (1, 1)), mode="edge")
    is_trough = (difference < padded[:, :-2]) & (difference <= padded[:, 2:])
    is_trough[:, 0] = difference[:, 0] < difference[:, 1]
    frame, lag = np.nonzero(is_trough)
    height = difference[frame, lag]
    thresholds = np.linspace(0, 1, N_THRESHOLDS + 1)
    prior = np.diff(special.betainc(*BETA, thresholds))
    is_below = height[:, np.newaxis] < thresholds[1:]  # (n_troughs, n_thresholds)
    n_troughs = np.bincount(frame, minlength=len(difference))
    end = np.cumsum(n_troughs)
    start = end - n_troughs
    count = np.concatenate([np.zeros((1, N_THRESHOLDS), int), np.cumsum(is_below, axis=0)])
    total = count[end] - count[start]  # troughs below each threshold, (n_frames, n_thresholds)
    position = count[1:] - count[start][frame] - 1
    scale = (1 - np.exp(-TROUGH_DECAY)) / (1 - np.exp(-TROUGH_DECAY * np.maximum(total, 1)))
    probability = np.where(is_below, scale[frame] * np.exp(-TROUGH_DECAY * position), 0) @ prior
    lowest = np.lexsort((height, frame))[start[n_troughs > 0]]
    n_lower = np.count_nonzero(~is_below[lowest], axis=1)  # thresholds that no trough of the frame is below
    probability[lowest] += NO_TROUGH * np.concatenate([[0], np.cumsum(prior)])[n_lower]
    kept = probability > 0
    return frame[kept], lag[kept], probability[kept]


def _parabolic_shift(difference: np.ndarray, frame: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """How far the vertex of the parabola through three lags is from the middle one; 0 if by a lag or more."""
    last = difference.shape[1] - 1
    left, middle, right = (difference[frame, np.clip(lag + shift, 0, last)] for shift in (-1, 0, 1))
    bend, slope = left + right - 2 * middle, (right - left) / 2
    is_inside = (np.abs(slope) < np.abs(bend)) & (lag > 0) & (lag < last)
    return np.where(is_inside, -slope / np.where(is_inside, bend, 1), 0)


def _decode(observed: np.ndarray, reach: int) -> np.ndarray:
    """The likeliest sequence of states ``(n_frames,)`` by Viterbi's algorithm: voiced bins, then unvoiced ones.

    Args:
        observed: probability of each bin, voiced and unvoiced, ``(n_frames, 2, n_bins)``.
        reach: bins that the pitch moves by at most from frame to frame, with a triangular distribution.
    """
    n_frames, _, n_bins = observed.shape
    observed = np.log(observed + TINY)
    rows, distance = np.arange(n_bins), np.arange(-reach, reach + 1)
    source = rows[:, np.newaxis] + distance  # (n_bins, width)
    is_inside = (source >= 0) & (source < n_bins)
    triangle = 1 - np.abs(distance) / (reach + 1)
    total = is_inside @ triangle  # of all moves from a bin
    step = np.where(is_inside, np.log(triangle / total[np.clip(source, 0, n_bins - 1)]), -np.inf)
    switch = np.log([[1 - SWITCH, SWITCH], [SWITCH, 1 - SWITCH]])[..., np.newaxis]  # (from, to, 1)
    padded = np.full((2, n_bins + 2 * reach), -np.inf)
    likelihood = padded[:, reach : reach + n_bins]
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1)
    likelihood[:] = observed[0] - np.log(2 * n_bins)
    origin = np.zeros((n_frames, 2 * n_bins), np.int32)
    for t in range(1, n_frames):
        moved = windows + step  # (2, n_bins, width)
        best = moved.argmax(axis=2)
        place = rows + best - reach
        changed = np.take_along_axis(moved, best[..., np.newaxis], 2)[:, np.newaxis, :, 0] + switch
        stays_first = changed[0] >= changed[1]
        place = np.where(stays_first, place[0], place[1] + n_bins)
        top = likelihood.argmax()  # from here, any state can be reached, as unlikely as it gets
        jump = likelihood.flat[top] + np.log(TINY)
        reached = changed.max(axis=0)
        origin[t] = np.where(jump > reached, top, place).reshape(-1)
        likelihood[:] = observed[t] + np.maximum(reached, jump)
    states = np.zeros(n_frames, int)
    states[-1] = likelihood.argmax()
    for t in range(n_frames - 1, 0, -1):
        states[t - 1] = origin[t, states[t]]
    return states
