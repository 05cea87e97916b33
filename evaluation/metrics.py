"""How close two recordings are: the metrics with their formulas.

Every metric compares an output with a target and has a best value, which a recording compared with itself reaches
exactly. `compare` returns all of them for two audios; `analyse` and `measure` do the same in two steps, so that a
target is analysed once for many outputs.

Rules for all of them:

* Length: the shorter recording is padded with silence, so that a missing end counts as an error.
* Level: the output is first brought to the target's loudness. The gain for that is a metric of its own, and all others
  are measured after it (or, with `keep_level`, without it).
* Silence: every metric treats everything below some floor as the same silence, so that there is no logarithm of zero
  and no division by zero. For two silent recordings all metrics are at their best, or NaN where there is nothing to
  measure.
* Magnitudes are ``2 * abs(S) / sum(window)``: a full-scale sine peaks near 1, which is 0 dB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from data import PUBLISHED, Representation, amplitude_to_db, forward_transform

ONSET_WINDOW = 0.05  # seconds
HOP = 512  # of loudness, onsets and held partials
ATTACK_BAND = (1000, 6000)  # Hz: plucks and hammers are heard here, and no fundamental reaches it
ISOLATED = 0.1  # seconds without another onset before and after an attack that is measured
HELD_RANGE_DB = 45.0  # below the maximum, within which a partial is held
AWAY_FROM_ONSETS = 0.06  # seconds
BRIGHT_HZ = 4000
_MEL_BANDS = 128
_FLOOR_DB = -80.0  # of LSD, chroma, loudness
BLOCK_VALUES = 2**18  # in one block of frames: one or two megabytes, which fit into the processor's cache


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric of `METRICS`."""

    name: str  # in files
    label: str  # for people
    unit: str  # empty if it has none
    better: str  # "lower", "higher", or "nearer 0" for a difference with a sign
    best: float  # the value of a recording against itself
    function: Callable[[Features, Features], float]  # of output and target

    def is_better(self, value: float, other: float) -> bool:
        """Whether one value is better than another one: nearer to the best."""
        return abs(value - self.best) < abs(other - self.best)


@dataclasses.dataclass(frozen=True)
class Features:
    """What the metrics need to know of one recording; made by `analyse`."""

    representation: Representation  # the settings of `magnitude`
    magnitude: np.ndarray  # (n_bins, n_frames), as the networks get it
    mfcc: np.ndarray  # coefficients 2 to 13, (12, n)
    chroma: np.ndarray  # power in each pitch class, (12, n)
    onsets: np.ndarray  # in seconds, (n_onsets,)
    loudness: np.ndarray  # A-weighted level in dB, (n,)
    held: HeldPartials
    envelope: np.ndarray  # level from 1 to 6 kHz, (n,)
    envelope_rate: float  # of its values, a second


class HeldPartials(NamedTuple):
    """Peaks of three frames in a row: when, in seconds, and the second difference of their level in dB; ``(n,)``."""

    times: np.ndarray
    differences: np.ndarray


def compare(
    output: np.ndarray, target: np.ndarray, representation: Representation = PUBLISHED, keep_level: bool = False
) -> dict[str, float]:
    """Every metric of `METRICS` for two audios ``(n_samples,)`` at the representation's sample rate, by name.

    The shorter one is padded with silence. `keep_level` measures the output at its own level.
    """
    output, target = pad_to_longest(output, target)
    return measure(output, analyse(target, representation), keep_level)


def measure(output: np.ndarray, target: Features, keep_level: bool = False) -> dict[str, float]:
    """Every metric of `METRICS` for audio ``(n_samples,)`` beside an analysed target of the same length, by name."""
    _, loudness, _ = _analyse_long_windows(output, target.representation.sample_rate)
    gain = missing_gain(loudness, target.loudness)
    scaled = output if keep_level else output * np.float32(10 ** (gain / 20))
    features = analyse(scaled, target.representation)
    return {"gain": gain, **{m.name: float(m.function(features, target)) for m in METRICS if m.name != "gain"}}


def measure_target(target: Features) -> dict[str, float]:
    """What attack and flutter of a target are themselves, in ms and dB; outputs are given as differences from them."""
    return {
        "attack": float(_median(rise_times(target, isolated(target.onsets)))),
        "flutter": float(_median(flutter_differences(target, target.onsets))),
    }


def pad_to_longest(*audios: np.ndarray) -> list[np.ndarray]:
    """The audios ``(n_samples,)``, each padded with silence to the length of the longest."""
    longest = max(len(audio) for audio in audios)
    return [np.pad(audio, (0, longest - len(audio))) for audio in audios]


def analyse(audio: np.ndarray, representation: Representation = PUBLISHED) -> Features:
    """`Features` of audio ``(n_samples,)`` at the representation's sample rate."""
    audio = np.asarray(audio, np.float32)
    rate = representation.sample_rate
    mel, loudness, held = _analyse_long_windows(audio, rate)
    magnitude, _ = forward_transform(audio, representation)
    return Features(
        representation, magnitude, mfcc(mel), _chroma(audio, rate), find_onsets(mel, rate), loudness, held,
        *_attack_envelope(audio, rate),
    )  # fmt: skip


# --- the metrics ------------------------------------------------------------------------------------------------------


def network_mae(output: np.ndarray, target: np.ndarray, amin: float = PUBLISHED.amin) -> float:
    """Mean absolute error in the network's range [-1, 1] of two magnitudes ``(n_bins, n_frames)``. Lower is better.

    ``mean(abs(y - x))`` with x and y the log level of `data.amplitude_to_db`, clipped to [0, 1], times 2 - 1: the L1
    that training minimises (Isola et al., "Image-to-image translation with conditional adversarial networks", 2017,
    eq. 3) on the published scale. 0.1 is about 4.8 dB. Frames of silence count. Unlike a training batch, a recording
    has no frames that only fill up its last slice.
    """
    levels = [np.clip(amplitude_to_db(magnitude, amin), 0, 1) for magnitude in (output, target)]
    return 2 * float(np.mean(np.abs(levels[0] - levels[1]), dtype=np.float64))


def log_spectral_distance(output: np.ndarray, target: np.ndarray, floor_db: float = _FLOOR_DB) -> float:
    """Log-spectral distance in dB of two magnitudes ``(n_bins, n_frames)``. Lower is better.

    ``mean_t sqrt(mean_k (20 log10(Y / X))^2)``: the root mean square over the bins, then the mean over the frames
    (Gray & Markel, "Distance measures for speech processing", 1976; Rabiner & Juang, 1993). Magnitudes below the
    floor, in dB of full scale, are taken as the floor.
    """
    floor = 10 ** (floor_db / 20)
    levels = [20 * np.log10(np.maximum(magnitude, floor)) for magnitude in (output, target)]
    return float(np.mean(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=0)), dtype=np.float64))


def cosine_distance(output: np.ndarray, target: np.ndarray) -> float:
    """Mean cosine distance, 0 to 2, of the columns of ``(n_features, n_frames)``. Lower is better.

    ``mean_t 1 - <x, y> / (|x| |y|)``. A column of zeros is silence: frames silent in both are left out of the mean,
    frames silent in one have distance 1. If all frames are silent in both: 0.
    """
    unit, sounding = [], []
    for columns in (output, target):
        norm = np.linalg.norm(np.asarray(columns, np.float64), axis=0)
        unit.append(columns / np.where(norm > 0, norm, 1.0))
        sounding.append(norm > 0)
    both, either = sounding[0] & sounding[1], sounding[0] | sounding[1]
    # For unit vectors 1 - <x, y> is |x - y|^2 / 2, which is exactly 0 for equal ones in spite of rounding.
    distance = np.where(both, ((unit[0] - unit[1]) ** 2).sum(axis=0) / 2, 1.0)
    return float(distance[either].mean()) if either.any() else 0.0


def onset_f1(output: np.ndarray, target: np.ndarray) -> float:
    """F1 of onset times in seconds, 0 to 1, matched one to one within 50 ms. Higher is better.

    `mir_eval.onset.f_measure` (Raffel et al., "mir_eval", 2014; the window is MIREX's). No onsets in either: 1; in only
    one: 0. The onsets are those of `find_onsets`.
    """
    if not len(output) or not len(target):
        return float(len(output) == len(target))
    import mir_eval

    return float(mir_eval.onset.f_measure(np.asarray(target), np.asarray(output), window=ONSET_WINDOW)[0])


def loudness_difference(output: np.ndarray, target: np.ndarray) -> float:
    """Mean absolute difference of loudness curves ``(n_frames,)`` in dB. Lower is better.

    ``mean_t |L_y - L_x|`` (Engel et al., "DDSP", 2020, section 4.2); the curves are those of `analyse`: the power of
    all bins weighted by the A curve (IEC 61672), in dB of a full-scale sine at 1 kHz, at least -80 dB.
    """
    return float(np.mean(np.abs(output - target), dtype=np.float64))


def missing_gain(output: np.ndarray, target: np.ndarray) -> float:
    """Gain in dB that brings an output to the target's loudness, from two loudness curves ``(n_frames,)``.

    The median over frames of ``L_x - L_y``, where neither is silent; 0 if there are no such frames.
    """
    sounding = (output > _FLOOR_DB) & (target > _FLOOR_DB)
    return float(np.median((target - output)[sounding])) if sounding.any() else 0.0


def brightness_difference(output: Features, target: Features) -> float:
    """Level above 4 kHz in dB, within the network's band, minus the target's: below 0 the output is too dull.

    ``10 log10(P_y / P_x)`` of the mean power of the bins from 4 kHz, at least -80 dB. NaN for a band that ends there.
    """
    first = int(np.ceil(BRIGHT_HZ / target.representation.bin_hz))
    power = (np.mean(np.square(f.magnitude[first:], dtype=np.float64)) for f in (output, target))
    of_output, of_target = (10 * np.log10(max(p, 10 ** (_FLOOR_DB / 10))) for p in power)
    return float(of_output - of_target)


def attack_difference(output: Features, target: Features) -> float:
    """Rise time of the output's attacks in ms minus that of the target's: above 0 the output is softer.

    The difference of the two medians over the target's isolated onsets (no other one within 100 ms) at which both rise.
    NaN without such onsets.
    """
    onsets = isolated(target.onsets)
    of_output, of_target = rise_times(output, onsets), rise_times(target, onsets)
    known = np.isfinite(of_output) & np.isfinite(of_target)
    return _median(of_output[known]) - _median(of_target[known])


def flutter_difference(output: Features, target: Features) -> float:
    """How much more the level of held partials flutters than the target's, in dB: the difference of the two medians.

    NaN if one of them holds no partial. See `flutter_differences`.
    """
    return _median(flutter_differences(output, target.onsets)) - _median(flutter_differences(target, target.onsets))


def _median(values: np.ndarray) -> float:
    """The median of what is known, NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


METRICS = (
    Metric("gain", "gain that was missing", "dB", "nearer 0", 0.0, lambda y, x: missing_gain(y.loudness, x.loudness)),
    Metric(
        "mae", "MAE in the network's range", "", "lower", 0.0,
        lambda y, x: network_mae(y.magnitude, x.magnitude, x.representation.amin),
    ),
    Metric(
        "lsd", "log-spectral distance", "dB", "lower", 0.0,
        lambda y, x: log_spectral_distance(y.magnitude, x.magnitude),
    ),
    Metric(
        "lsd_65", "LSD above -65 dB", "dB", "lower", 0.0,
        lambda y, x: log_spectral_distance(y.magnitude, x.magnitude, -65),
    ),
    Metric("mfcc", "MFCC cosine distance", "", "lower", 0.0, lambda y, x: cosine_distance(y.mfcc, x.mfcc)),
    Metric("chroma", "chroma cosine distance", "", "lower", 0.0, lambda y, x: cosine_distance(y.chroma, x.chroma)),
    Metric("onset_f1", "onset F1 (50 ms)", "", "higher", 1.0, lambda y, x: onset_f1(y.onsets, x.onsets)),
    Metric(
        "loudness", "loudness of frames", "dB", "lower", 0.0,
        lambda y, x: loudness_difference(y.loudness, x.loudness),
    ),
    Metric("brightness", "level above 4 kHz", "dB", "nearer 0", 0.0, brightness_difference),
    Metric("attack", "rise of attacks", "ms", "nearer 0", 0.0, attack_difference),
    Metric("flutter", "flutter of held partials", "dB", "nearer 0", 0.0, flutter_difference),
)  # fmt: skip


# --- features --------------------------------------------------------------------------------------------------------


def mfcc(mel: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstral coefficients 2 to 13, ``(12, n_frames)``, of a mel level in dB ``(n_mels, n_frames)``.

    `librosa.feature.mfcc`: the orthonormal DCT-II over the mel bands (Davis & Mermelstein, 1980). The first
    coefficient, which is the loudness, is left out. The floor of -100 dB is taken as zero, so that a silent frame
    gives zeros.
    """
    import librosa

    return librosa.feature.mfcc(S=mel + 100.0, n_mfcc=13)[1:]


def find_onsets(mel: np.ndarray, sample_rate: int) -> np.ndarray:
    """Onsets in seconds of a mel level in dB ``(n_mels, n_frames)`` at hop 512.

    Peaks of the spectral flux: `librosa.onset.onset_strength` and `onset_detect` with their defaults (Böck & Widmer,
    2013; Böck, Krebs & Schedl, 2012), on levels within 80 dB of the maximum. A recording whose first frame is
    within 40 dB of the maximum has an onset at 0.
    """
    import librosa

    if mel.max() <= -100:
        return np.zeros(0)
    floor, before = mel.max() - 80, 10
    envelope = librosa.onset.onset_strength(S=np.maximum(mel, floor), sr=sample_rate, hop_length=HOP)
    if mel[:, 0].max() > mel.max() - 40:
        # A note that sounds from the start has no rise: give it the steepest one found, which does not hide others.
        envelope[0] = max(1.0, envelope.max())
    envelope = np.pad(envelope, (before, 0))
    frames = librosa.onset.onset_detect(onset_envelope=envelope, sr=sample_rate, hop_length=HOP) - before
    return frames * (HOP / sample_rate)


def isolated(onsets: np.ndarray) -> np.ndarray:
    """The onsets in seconds that have no other one within `ISOLATED` seconds."""
    apart = np.diff(onsets, prepend=-np.inf, append=np.inf) > ISOLATED
    return onsets[apart[:-1] & apart[1:]]


def rise_times(features: Features, onsets: np.ndarray) -> np.ndarray:
    """How long the envelope from 1 to 6 kHz takes from 10 to 90 % of its rise at each onset, in ms, ``(n_onsets,)``.

    A rise goes from the lowest place to the greatest value between 60 ms before and 100 ms after the onset. One of less
    than 10 dB, a note under another that rings on, is NaN. The envelope's own window adds 2 to 3 ms.
    """
    rate, rises = features.envelope_rate, np.full(len(onsets), np.nan)
    for i, onset in enumerate(onsets):
        around = features.envelope[max(0, int((onset - 0.06) * rate)) : int((onset + 0.1) * rate) + 1]
        top = int(around.argmax()) if len(around) else 0
        climb = around[int(around[: top + 1].argmin()) : top + 1]
        if len(climb) < 2 or climb[-1] < 10 ** (10 / 20) * max(climb[0], 1e-5):
            continue
        low, high = climb[0] + (climb[-1] - climb[0]) * np.array([0.1, 0.9])
        end = int(np.argmax(climb >= high))
        start = int(np.flatnonzero(climb[:end] <= low)[-1])
        # Both places lie between two values of the envelope.
        from_start = (low - climb[start]) / (climb[start + 1] - climb[start])
        before_end = (climb[end] - high) / (climb[end] - climb[end - 1])
        rises[i] = 1000 * (end - before_end - start - from_start) / rate
    return rises


def flutter_differences(features: Features, onsets: np.ndarray) -> np.ndarray:
    """Absolute second differences in dB of held partials' levels, at least `AWAY_FROM_ONSETS` from any onset.

    A partial is held where the same bin of a 2048-sample STFT with hop 512 is a peak in three frames in a row, within
    45 dB of the recording's greatest bin. A steady or evenly decaying partial has 0.
    """
    times = features.held.times
    if not len(onsets):
        return features.held.differences
    following = np.searchsorted(onsets, times)
    nearest = np.minimum(
        np.abs(times - onsets[np.maximum(following - 1, 0)]),
        np.abs(times - onsets[np.minimum(following, len(onsets) - 1)]),
    )
    return features.held.differences[nearest > AWAY_FROM_ONSETS]


def _analyse_long_windows(audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray, HeldPartials]:
    """What windows of 2048 samples at hop 512 show of audio ``(n_samples,)``.

    Returns:
        mel: level in dB ``(128, n)``, at least -100.
        loudness: A-weighted level in dB ``(n,)``, at least -80.
        held: partials that are held.
    """
    import librosa

    n_fft = 2048
    filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=_MEL_BANDS, norm=None)
    frequencies = librosa.fft_frequencies(sr=sample_rate, n_fft=n_fft)
    weights = 10 ** (librosa.A_weighting(np.maximum(frequencies, 1e-3), min_db=None) / 10).astype(np.float32)
    mel, power, held = [], [], []
    n_frames, last = 0, np.zeros((0, n_fft // 2 + 1), np.float32)
    for magnitude in _magnitude_blocks(audio, n_fft, HOP):
        energy = magnitude**2
        mel.append(energy @ filters.T)
        power.append(energy @ weights / 1.5)  # a Hann window spreads a sine's power over 1.5 bins
        rows = np.concatenate([last, magnitude])  # with two frames of the block before
        held.append(_find_held(rows, n_frames - len(last)))
        n_frames, last = n_frames + len(magnitude), rows[-2:]
    mel, power = np.concatenate(mel).T, np.concatenate(power)
    frames, levels, differences = np.concatenate(held, axis=1)
    loud = levels > levels.max(initial=-np.inf) - HELD_RANGE_DB
    return (
        10 * np.log10(np.maximum(mel, 1e-10)),
        10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10))),
        HeldPartials(frames[loud] * (HOP / sample_rate), differences[loud]),
    )


def _find_held(magnitude: np.ndarray, first_frame: int) -> np.ndarray:
    """Frame, lowest level in dB, and absolute second difference of peaks that three frames share: ``(3, n)``."""
    peaks = (magnitude[:, 1:-1] > magnitude[:, :-2]) & (magnitude[:, 1:-1] > magnitude[:, 2:])
    frames, bins = np.nonzero(peaks[:-2] & peaks[1:-1] & peaks[2:])
    levels = np.array([20 * np.log10(np.maximum(magnitude[frames + i, bins + 1], 1e-5)) for i in range(3)])
    found = np.stack([frames + 1 + first_frame, levels.min(axis=0), np.abs(levels[0] - 2 * levels[1] + levels[2])])
    return found[:, found[1] > found[1].max(initial=-100) - HELD_RANGE_DB]  # the rest is quiet, whatever follows


def _attack_envelope(audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """Level from 1 to 6 kHz of audio ``(n_samples,)`` in windows of 5.8 ms, and how many values it has a second."""
    window = 2 ** round(np.log2(0.0058 * sample_rate))  # 256 at 44.1 kHz
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    band = (frequencies >= ATTACK_BAND[0]) & (frequencies <= ATTACK_BAND[1])
    blocks = _magnitude_blocks(audio, window, window // 4)
    return np.concatenate([np.sqrt((block[:, band] ** 2).sum(axis=1)) for block in blocks]), sample_rate / (window // 4)


def _chroma(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power in each pitch class ``(12, n)``, in 93 ms windows with a hop of 23 ms.

    `librosa.filters.chroma` with A4 = 440 Hz on the power spectrum (Fujishima, 1999; Ellis, 2007); frames whose loudest
    bin is under -80 dB are zero.
    """
    import librosa

    window = 2 ** round(np.log2(0.0929 * sample_rate))  # 4096 at 44.1 kHz, 2048 at 22.05 kHz
    filters = librosa.filters.chroma(sr=sample_rate, n_fft=window, tuning=0.0)
    blocks = _magnitude_blocks(audio, window, window // 4)
    silence = 10 ** (_FLOOR_DB / 20)
    return np.concatenate([filters @ np.where(b.max(axis=1) < silence, 0, b.T**2) for b in blocks], axis=1)


def _magnitude_blocks(audio: np.ndarray, window_length: int, hop_length: int) -> Iterator[np.ndarray]:
    """Magnitudes ``(n, n_bins)`` of Hann-windowed frames, a block of frames at a time, so that memory stays bounded.

    Frame t is centred on sample ``t * hop_length``; the audio is padded with zeros at both ends.
    """
    from scipy import fft

    window = np.hanning(window_length + 1)[:-1].astype(np.float32)
    before = window_length // 2
    n_frames = 1 + len(audio) // hop_length
    needed = (n_frames - 1) * hop_length + window_length
    padded = np.pad(np.asarray(audio, np.float32), (before, max(0, needed - before - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_length)[::hop_length][:n_frames]
    n_block = max(1, BLOCK_VALUES // window_length)
    for start in range(0, n_frames, n_block):
        yield np.abs(fft.rfft(frames[start : start + n_block] * window, axis=1)) * (2 / window.sum())
