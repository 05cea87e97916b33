"""How close two recordings are: the metrics with their formulas.

Every metric compares an output with a target and has a best value, which a recording compared with itself reaches
exactly. Rules for all of them:

* Length: the shorter recording is padded with silence, so that a missing end counts as an error.
* Level: the output is first brought to the target's loudness. The gain for that is a metric of its own, and all others
  are measured after it.
* Silence: every metric treats everything below some floor as the same silence, so that there is no logarithm of zero
  and no division by zero. For two silent recordings all metrics are at their best, or NaN where there is nothing to
  measure.
* Magnitudes are ``2 * abs(S) / sum(window)``: a full-scale sine peaks near 1, which is 0 dB.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data import PUBLISHED, Representation, amplitude_to_db, forward_transform

ONSET_WINDOW = 0.05  # seconds
WINDOW, HOP = 2048, 512  # of loudness, MFCC, onsets and held partials
ATTACK_BAND = (1000, 6000)  # Hz: plucks and hammers are heard here, and no fundamental reaches it
ISOLATED = 0.1  # seconds without another onset before and after an attack that is measured
HELD_RANGE_DB = 45.0  # below the maximum, within which a partial is held
AWAY_FROM_ONSETS = 0.06  # seconds
BRIGHT_HZ = 4000
_FLOOR_DB = -80.0  # of LSD, chroma, loudness


@dataclasses.dataclass(frozen=True)
class Metric:
    """How one of the values of `measure` is presented."""

    name: str  # in files
    label: str  # for people
    unit: str = ""
    better: str = "lower"  # "lower", "higher", or "nearer 0" for a difference with a sign
    best: float = 0.0  # the value of a recording against itself


METRICS = (
    Metric("gain", "gain that was missing", "dB", "nearer 0"),
    Metric("mae", "MAE in the network's range"),
    Metric("lsd", "log-spectral distance", "dB"),
    Metric("lsd_65", "LSD above -65 dB", "dB"),
    Metric("mfcc", "MFCC cosine distance"),
    Metric("chroma", "chroma cosine distance"),
    Metric("onset_f1", "onset F1 (50 ms)", better="higher", best=1.0),
    Metric("loudness", "loudness of frames", "dB"),
    Metric("brightness", "level above 4 kHz", "dB", "nearer 0"),
    Metric("attack", "rise of attacks", "ms", "nearer 0"),
    Metric("flutter", "flutter of held partials", "dB", "nearer 0"),
)


@dataclasses.dataclass(frozen=True)
class Features:
    """What the metrics need to know of one recording; made by `analyse`."""

    representation: Representation  # the settings of `magnitude`
    magnitude: np.ndarray  # (n_bins, n_frames), as the networks get it
    mfcc: np.ndarray  # coefficients 2 to 13, (12, n)
    chroma: np.ndarray  # power in each pitch class, (12, n)
    onsets: np.ndarray  # in seconds, (n_onsets,)
    loudness: np.ndarray  # A-weighted level in dB, (n,)
    held: np.ndarray  # seconds and second differences in dB of `held_partials`, (2, n)
    envelope: np.ndarray  # level from 1 to 6 kHz, (n,)
    envelope_rate: float  # of its values, a second


def compare(output: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Every metric of `METRICS` for two audios ``(n_samples,)`` at 44.1 kHz, by name; the shorter one is padded."""
    output, target = pad_to_longest(output, target)
    return measure(output, analyse(target))


def measure(output: np.ndarray, target: Features) -> dict[str, float]:
    """Every metric of `METRICS` for audio ``(n_samples,)`` beside an analysed target of the same length, by name."""
    rate = target.representation.sample_rate
    gain = missing_gain(_loudness(_magnitude(output, WINDOW, HOP), rate), target.loudness)
    found = analyse(output * np.float32(10 ** (gain / 20)), target.representation)
    return {
        "gain": gain,
        "mae": network_mae(found.magnitude, target.magnitude, target.representation.amin),
        "lsd": log_spectral_distance(found.magnitude, target.magnitude),
        "lsd_65": log_spectral_distance(found.magnitude, target.magnitude, -65),
        "mfcc": cosine_distance(found.mfcc, target.mfcc),
        "chroma": cosine_distance(found.chroma, target.chroma),
        "onset_f1": onset_f1(found.onsets, target.onsets),
        # The mean difference of the loudness curves (Engel et al., "DDSP", 2020, section 4.2).
        "loudness": float(np.mean(np.abs(found.loudness - target.loudness), dtype=np.float64)),
        "brightness": brightness(found) - brightness(target),
        "attack": attack_difference(found, target),
        "flutter": flutter(found, target.onsets) - flutter(target, target.onsets),
    }


def measure_target(target: Features) -> dict[str, float]:
    """What attack and flutter of a target are themselves, in ms and dB; outputs are given as differences from them."""
    return {
        "attack": _median(rise_times(target, isolated(target.onsets))),
        "flutter": flutter(target, target.onsets),
    }


def pad_to_longest(*audios: np.ndarray) -> list[np.ndarray]:
    """The audios ``(n_samples,)``, each padded with silence to the length of the longest."""
    longest = max(len(audio) for audio in audios)
    return [np.pad(audio, (0, longest - len(audio))) for audio in audios]


def analyse(audio: np.ndarray, representation: Representation = PUBLISHED) -> Features:
    """`Features` of audio ``(n_samples,)`` at the representation's sample rate."""
    import librosa

    rate = representation.sample_rate
    long = _magnitude(audio, WINDOW, HOP)
    mel = librosa.filters.mel(sr=rate, n_fft=WINDOW, norm=None) @ long**2
    mel = librosa.power_to_db(mel, top_db=None)  # at least -100 dB, which is zero in a silent frame's MFCC
    return Features(
        representation,
        forward_transform(audio, representation)[0],
        librosa.feature.mfcc(S=mel + 100.0, n_mfcc=13)[1:],  # without the first one, which is the loudness
        _chroma(audio, rate),
        find_onsets(mel, rate),
        _loudness(long, rate),
        held_partials(long, rate),
        *_attack_envelope(audio, rate),
    )


# --- the metrics ------------------------------------------------------------------------------------------------------


def network_mae(output: np.ndarray, target: np.ndarray, amin: float = PUBLISHED.amin) -> float:
    """Mean absolute error in the network's range [-1, 1] of two magnitudes ``(n_bins, n_frames)``. Lower is better.

    ``mean(abs(y - x))`` with x and y the log level of `data.amplitude_to_db`, clipped to [0, 1], times 2 - 1: the L1
    that training minimises (Isola et al., "Image-to-image translation with conditional adversarial networks", 2017,
    eq. 3) on the published scale. 0.1 is about 4.8 dB. Frames of silence count.
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


def missing_gain(output: np.ndarray, target: np.ndarray) -> float:
    """Gain in dB that brings an output to the target's loudness, from two loudness curves ``(n_frames,)``.

    The median over frames of ``L_x - L_y``, where neither is silent; 0 if there are no such frames.
    """
    sounding = (output > _FLOOR_DB) & (target > _FLOOR_DB)
    return float(np.median((target - output)[sounding])) if sounding.any() else 0.0


def brightness(features: Features) -> float:
    """Level above 4 kHz in dB: of the mean power of the network's bins from there, at least -80. NaN without such bins.

    The output's minus the target's is below 0 if the output is too dull.
    """
    first = int(np.ceil(BRIGHT_HZ / features.representation.bin_hz))
    power = np.mean(np.square(features.magnitude[first:], dtype=np.float64))
    return float(10 * np.log10(max(power, 10 ** (_FLOOR_DB / 10))))


def attack_difference(output: Features, target: Features) -> float:
    """Rise time of the output's attacks in ms minus that of the target's: above 0 the output is softer.

    The difference of the two medians over the target's isolated onsets (no other one within 100 ms) at which both rise.
    NaN without such onsets.
    """
    onsets = isolated(target.onsets)
    of_output, of_target = rise_times(output, onsets), rise_times(target, onsets)
    known = np.isfinite(of_output) & np.isfinite(of_target)
    return _median(of_output[known]) - _median(of_target[known])


def flutter(features: Features, onsets: np.ndarray) -> float:
    """How much the level of held partials flutters, in dB: the median second difference of those of `held_partials`
    that are at least 60 ms from any of the onsets (in seconds). NaN if no partial is held."""
    times, differences = features.held
    around = np.concatenate([[-np.inf], onsets, [np.inf]])
    following = np.searchsorted(around, times)
    nearest = np.minimum(times - around[following - 1], around[following] - times)
    return _median(differences[nearest > AWAY_FROM_ONSETS])


def _median(values: np.ndarray) -> float:
    """The median of what is known, NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


# --- features --------------------------------------------------------------------------------------------------------


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


def held_partials(magnitude: np.ndarray, sample_rate: int) -> np.ndarray:
    """Time in seconds and absolute second difference of the level in dB of held partials, ``(2, n)``.

    A partial is held where the same bin of the magnitude ``(n_bins, n_frames)`` at hop 512 is a peak in three frames in
    a row, within 45 dB of the greatest one. If it is steady or decays evenly, its second difference is 0.
    """
    peaks = (magnitude[1:-1] > magnitude[:-2]) & (magnitude[1:-1] > magnitude[2:])
    frames, bins = np.nonzero((peaks[:, :-2] & peaks[:, 1:-1] & peaks[:, 2:]).T)
    levels = np.array([20 * np.log10(np.maximum(magnitude[bins + 1, frames + i], 1e-5)) for i in range(3)])
    lowest = levels.min(axis=0)
    differences = np.abs(levels[0] - 2 * levels[1] + levels[2])
    held = lowest > lowest.max(initial=-np.inf) - HELD_RANGE_DB
    return np.array([(frames + 1) * HOP / sample_rate, differences])[:, held]


def _loudness(magnitude: np.ndarray, sample_rate: int) -> np.ndarray:
    """A-weighted level (IEC 61672) of each frame in dB of a full-scale sine at 1 kHz, at least -80."""
    import librosa

    frequencies = np.maximum(librosa.fft_frequencies(sr=sample_rate, n_fft=WINDOW), 1e-3)
    weights = 10 ** (librosa.A_weighting(frequencies, min_db=None) / 10).astype(np.float32)
    power = weights @ magnitude**2 / 1.5  # a Hann window spreads a sine's power over 1.5 bins
    return 10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10)))


def _attack_envelope(audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """Level from 1 to 6 kHz of audio ``(n_samples,)`` in windows of 5.8 ms, and how many values it has a second."""
    window = 2 ** round(np.log2(0.0058 * sample_rate))  # 256 at 44.1 kHz
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    band = (frequencies >= ATTACK_BAND[0]) & (frequencies <= ATTACK_BAND[1])
    magnitude = _magnitude(audio, window, window // 4)[band]
    return np.sqrt((magnitude**2).sum(axis=0)), sample_rate / (window // 4)


def _chroma(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power in each pitch class ``(12, n)``, in 93 ms windows with a hop of 23 ms.

    `librosa.filters.chroma` with A4 = 440 Hz on the power spectrum (Fujishima, 1999; Ellis, 2007); frames whose loudest
    bin is under -80 dB are zero.
    """
    import librosa

    window = 2 ** round(np.log2(0.0929 * sample_rate))  # 4096 at 44.1 kHz, 2048 at 22.05 kHz
    magnitude = _magnitude(audio, window, window // 4)
    chroma = librosa.filters.chroma(sr=sample_rate, n_fft=window, tuning=0.0) @ magnitude**2
    return np.where(magnitude.max(axis=0) < 10 ** (_FLOOR_DB / 20), 0, chroma)


def _magnitude(audio: np.ndarray, window_length: int, hop_length: int) -> np.ndarray:
    """Magnitude ``(n_bins, n_frames)`` in a periodic Hann window; frame t is centred on sample ``t * hop_length``."""
    import librosa

    audio = np.pad(np.asarray(audio, np.float32), window_length // 2)
    spectrum = librosa.stft(audio, n_fft=window_length, hop_length=hop_length, center=False)
    return np.abs(spectrum) * np.float32(4 / window_length)  # the sum of the window is half its length
