"""A melody: its pitch, by SwiftF0 or the published cepstrum, its octave, its notes, and their loudness if plucked."""

from __future__ import annotations

import functools
import itertools
import math
import os

import numpy as np

from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation

F0_METHODS = ("swiftf0", "cepstrum")
SILENCE_DB = -60.0  # energy of a frame below which it is unvoiced (a full-scale sine has 1.8 dB)
# SwiftF0 finds 47 to 2094 Hz. Starting above 60 Hz leaves out mains hum, and loses no voice and no string of a guitar.
SWIFT_RANGE = (60.0, 2093.0)
SWIFT_RATE, SWIFT_HOP = 16000, 256
SWIFT_NOISE = 1e-5  # amplitude of a steady noise: SwiftF0's logarithm would hear the rounding errors in empty bands
BEGIN_CONFIDENCE, STAY_CONFIDENCE = 0.5, 0.2  # of SwiftF0, where a note begins, and after that
STAY_OCTAVES = 1 / 12  # by which the pitch may change from one to the next of the less confident frames
OCTAVE_ERROR, OCTAVE_ERROR_HZ = 0.1, 200.0  # see `_mend_octaves`
# The published ranges of the cepstrum in Hz, for humming and for guitars; 21.5 Hz is the lowest it can find.
CEPSTRUM_HUM, CEPSTRUM_GUITAR = (70.0, 550.0), (20.0, 1300.0)
MAX_OCTAVES = 5  # that a melody is moved by
MARGIN = 2**0.5  # half an octave: the range of a network is that of nine tenths of its training pitches, not of all
# Notes and their loudness
NEW_NOTE_SEMITONES = 0.7  # change of pitch from one frame to the next that begins a note
NEW_NOTE_DB = 6.0  # rise within two frames that begins a note
RISING_DB = 1.0  # from frame to frame, by which that rise goes on
SHORTEST_NOTE = 3  # frames (70 ms)
SWELL_FRAMES = 12  # in which a voice has reached the loudness of its note (0.28 s)
ATTACK_FRAMES = 8  # of a pluck, which are loud however softly the voice begins (0.19 s)
SILENCE = 1e-12  # energy that counts as none
SEEN_DECAY = 10.0  # dB per second of the notes that networks are trained with and see
# The fall of a plucked string, measured on the notes of the guitar trained on (FluidR3, program 24): in proportion to
# the frequency, by `FIRST_DECAY` dB a second at `DECAY_HZ`, until it meets a line of `LATE_FALL` and `LATE_DECAY`.
FIRST_DECAY, DECAY_HZ, LATE_FALL, LATE_DECAY = 20.0, 261.6, 18.0, 6.0
ONSET_FRAMES = 1.5  # by which a note begins and ends before the frames in which its pitch is found
RINGING_FRAMES = 2  # of silence at most between two notes, in which the first one rings on
RISE_SECONDS, FADE_SECONDS = 0.003, 0.02  # of an attack, and of a string that is damped
PLUCK_DB, PLUCK_SECONDS = 3.0, 0.03  # of an attack above the note after it, and the time constant of its fall
LONGEST_NOTE = 432  # frames (10 s), after which a string is plucked again
# What is no melody: `describe_melody`
LOUD_PERCENTILE, LOUD_DB = 95, 20.0  # frames count that are so far below the loudest ones at most
MIN_PURITY, MIN_NOTE_FRAMES = 0.7, 6
MAX_UNCLEAR, MAX_OUTSIDE = 0.25, 0.05  # shares of the frames above which a line is printed


def analyse(
    audio: np.ndarray,
    representation: HumRepresentation = harmonics.PUBLISHED,
    method: str = F0_METHODS[0],
    guitar: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch in Hz (0 where unvoiced), energy and magnitude of audio: ``(n_frames,)``, ``(n_frames,)`` and 2-D.

    Args:
        audio: ``(n_samples,)``; frames quieter than `SILENCE_DB` are unvoiced.
        method: "swiftf0" (Nieradzik, "SwiftF0", 2025), or "cepstrum" as published by hum2guitar.
        guitar: whether the cepstrum looks for a guitar rather than for humming.
    """
    r = representation
    audio = np.asarray(audio, np.float32)
    spectrum = harmonics.magnitude(audio, r)
    energy = harmonics.frame_energy(spectrum)
    audible = energy > 10 ** (SILENCE_DB / 10)
    if method == "cepstrum":
        return _cepstrum(spectrum, audible, r, guitar), energy, spectrum
    f0 = np.where(audible, _swift_f0(audio, len(energy), r), 0)
    return _mend_octaves(f0, spectrum, r), energy, spectrum


def _swift_f0(audio: np.ndarray, n_frames: int, r: HumRepresentation) -> np.ndarray:
    """Pitch in Hz float32 ``(n_frames,)``, 0 where unvoiced.

    A frame has the pitch of the two frames of SwiftF0 around it, interpolated, or that of the nearer one if the other
    is unvoiced or of another note.
    """
    n_needed = (math.ceil(n_frames * r.hop_length / r.sample_rate * SWIFT_RATE / SWIFT_HOP) + 2) * SWIFT_HOP
    audio = _to_swift_rate(audio, r.sample_rate)
    audio = np.pad(audio, (0, max(0, n_needed - len(audio))))
    noise = SWIFT_NOISE * np.sin(0.5 * np.arange(len(audio), dtype=np.float64) ** 2)
    result = _detector().detect((audio + noise).astype(np.float32), SWIFT_RATE, *SWIFT_RANGE)
    octave, confidence = np.log2(np.maximum(result.pitch_hz, 1)), result.confidence
    voiced = confidence >= BEGIN_CONFIDENCE
    for i in range(1, len(voiced)):  # a pure tone, such as the end of a pluck, makes SwiftF0 less sure
        stays = confidence[i] >= STAY_CONFIDENCE and abs(octave[i] - octave[i - 1]) < STAY_OCTAVES
        voiced[i] |= voiced[i - 1] and stays
    place = np.arange(n_frames) * (r.hop_length / r.sample_rate * SWIFT_RATE / SWIFT_HOP)
    left = place.astype(int)
    right, share = left + 1, place - left
    joined = voiced[left] & voiced[right] & (np.abs(octave[left] - octave[right]) < STAY_OCTAVES)
    share = np.where(joined, share, np.round(share))
    pitch = 2 ** ((1 - share) * octave[left] + share * octave[right])
    return np.where(voiced[np.round(place).astype(int)], pitch, 0).astype(np.float32)


def _to_swift_rate(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """`audio` at `SWIFT_RATE`, by the windowed sinc of web/resample.js, so that the page finds the same pitch."""
    from scipy import signal

    divisor = math.gcd(SWIFT_RATE, sample_rate)
    up, down = SWIFT_RATE // divisor, sample_rate // divisor
    cutoff = 0.957 * min(1, up / down)  # of half of `sample_rate`
    half = math.ceil(80 / cutoff)
    kernel = signal.firwin(2 * half * up + 1, cutoff / up, window=("kaiser", 10))
    return signal.resample_poly(audio, up, down, window=kernel)


def _mend_octaves(f0: np.ndarray, spectrum: np.ndarray, r: HumRepresentation) -> np.ndarray:
    """`f0` without leaps of an octave within a note: a high note on an open vowel has a far stronger second partial.

    A frame is moved down by an octave if that brings it nearer to the frame before, and if the spectrum has partials at
    1/2 and 3/2 of its pitch that are `OCTAVE_ERROR` as strong as the one at 1.
    """
    frames = np.arange(len(f0))

    def peak(multiple: float) -> np.ndarray:
        middle = np.clip(np.round(multiple * f0 / r.bin_hz).astype(int), 1, r.n_bins - 2)
        return np.max([spectrum[middle + shift, frames] for shift in (-1, 0, 1)], axis=0)

    is_wrong = (f0 > OCTAVE_ERROR_HZ) & (np.sqrt(peak(0.5) * peak(1.5)) > OCTAVE_ERROR * peak(1.0))
    mended = np.array(f0, np.float32)
    for t in np.flatnonzero(is_wrong[1:]) + 1:
        if 0 < mended[t - 1] < mended[t] / np.sqrt(2):
            mended[t] /= 2
    return mended


@functools.cache
def _detector():
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1)


def _cepstrum(spectrum: np.ndarray, audible: np.ndarray, r: HumRepresentation, guitar: bool) -> np.ndarray:
    """As published: of the three highest peaks of the cepstrum the one whose STFT bin is loudest, in Hz.

    For humming, frames more than 1.5 interquartile ranges away from the median are unvoiced.
    """
    from scipy import fft, ndimage

    f0_min, f0_max = CEPSTRUM_GUITAR if guitar else CEPSTRUM_HUM
    power = np.square(spectrum)
    level = 10 * np.log10(np.maximum(power, power.max() * 1e-8 + 1e-30))  # 80 dB
    cepstrum = fft.irfft(level, axis=0)
    first, last = int(r.sample_rate / f0_max), min(math.ceil(r.sample_rate / f0_min), r.n_fft // 2 - 2)
    f0 = np.zeros(len(audible), np.float32)
    for t in np.flatnonzero(audible):
        part = cepstrum[first - 1 : last + 2, t]
        peaks = np.flatnonzero((part[1:-1] > part[:-2]) & (part[1:-1] >= part[2:]))  # 0 is quefrency `first`
        if len(peaks):
            highest = peaks[np.argsort(part[1:-1][peaks])[-3:]] + first
            candidates = np.round(r.n_fft / highest).astype(int)  # STFT bin of each quefrency
            f0[t] = candidates[np.argmax(spectrum[candidates, t])] * r.bin_hz
    if not guitar and f0.any():
        low, middle, high = np.percentile(f0[f0 > 0], [25, 50, 75])
        f0[np.abs(f0 - middle) > 1.5 * (high - low)] = 0
    return ndimage.median_filter(f0, 3, mode="constant")


def octaves_into_range(f0: np.ndarray, energy: np.ndarray, low: float, high: float) -> int:
    """Octaves that move most of a melody's energy into [low, high] Hz: the fewest that do so; 0 if nothing is voiced.

    `MARGIN` is added on both sides. Frames count by their energy, so what is hardly heard does not move the melody.
    One octave more has to bring more than 1 % of the energy into the range.
    """
    weights = np.where(f0 > 0, energy, 0)
    if not weights.any():
        return 0
    octaves = range(-MAX_OCTAVES, MAX_OCTAVES + 1)
    low, high = low / MARGIN, high * MARGIN
    inside = [weights[(f0 * 2.0**o >= low) & (f0 * 2.0**o <= high)].sum() / weights.sum() for o in octaves]
    return min((o for o, share in zip(octaves, inside, strict=True) if share >= max(inside) - 0.01), key=abs)


# --- notes ------------------------------------------------------------------------------------------------------------


def find_notes(f0: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """First frame and frame after the last of each note, int ``(n_notes, 2)``.

    A note begins where voicing begins, where the pitch jumps, and where the energy begins to rise suddenly. It ends
    where the next one begins or voicing ends. What is shorter than `SHORTEST_NOTE`, such as the way from one pitch to
    the next, belongs to the note before, or to the next one if there is none right before. A note longer than
    `LONGEST_NOTE` is plucked again.
    """
    voiced = np.concatenate([[False], np.asarray(f0) > 0, [False]])
    pitch = np.log2(np.where(voiced, np.pad(f0, 1), 1.0)) * 12
    begins = voiced[1:] & (~voiced[:-1] | (np.abs(np.diff(pitch)) > NEW_NOTE_SEMITONES))
    sudden = np.pad(np.asarray(decibels[2:]) - decibels[:-2], (2, 1))[: len(begins)] > NEW_NOTE_DB
    steps = np.diff(decibels, prepend=0)
    for found in np.flatnonzero(sudden[1:] & ~sudden[:-1]) + 1:
        frame = found
        while voiced[frame] and not begins[frame] and steps[frame - 1] > RISING_DB:
            frame -= 1
        begins[frame] |= voiced[frame] and voiced[frame + 1] and not begins[frame + 1]
    ends = voiced[:-1] & (begins | ~voiced[1:])
    notes: list[list[int]] = []
    for start, stop in zip(np.flatnonzero(begins), np.flatnonzero(ends), strict=True):
        follows = notes and notes[-1][1] == start
        if follows and min(stop - start, notes[-1][1] - notes[-1][0]) < SHORTEST_NOTE:
            notes[-1][1] = int(stop)
        else:
            notes.append([int(start), int(stop)])
    edges = [np.linspace(a, b, 1 - (a - b) // LONGEST_NOTE).astype(int) for a, b in notes if b - a >= SHORTEST_NOTE]
    return np.array([pair for note in edges for pair in itertools.pairwise(note)], int).reshape(-1, 2)


def pluck(
    f0: np.ndarray, energy: np.ndarray, representation: HumRepresentation = harmonics.PUBLISHED, heard: bool = False
) -> np.ndarray:
    """The energy that a melody has if its notes are plucked: loudest at the onset, then falling.

    A held note falls from the loudness that the voice reaches. A note that falls faster, such as that of a guitar or at
    the end of a breath, keeps its own loudness after the attack.

    Args:
        f0: in Hz ``(n_frames,)``, 0 where unvoiced.
        energy: ``(n_frames,)``, as of `harmonics.frame_energy`.
        heard: whether the notes fall as strings do, in the sound, or by `SEEN_DECAY`, in what networks see.

    Returns:
        float32 ``(n_frames,)``; unvoiced frames keep their energy.
    """
    decibels = to_decibels(energy)
    for start, stop in find_notes(f0, decibels):
        note = decibels[start:stop]
        seconds = np.arange(len(note)) * representation.hop_length / representation.sample_rate
        fall = string_fall(np.median(f0[start:stop]), seconds) if heard else SEEN_DECAY * seconds
        falling = note[:SWELL_FRAMES].max() - fall
        note[ATTACK_FRAMES:] = np.minimum(note, falling)[ATTACK_FRAMES:]
        note[:ATTACK_FRAMES] = falling[:ATTACK_FRAMES]
    return (10 ** (decibels / 10)).astype(np.float32)


def string_fall(f0: float, seconds: np.ndarray) -> np.ndarray:
    """By how many dB a plucked string of `f0` Hz has fallen so many seconds after its onset."""
    return np.minimum(FIRST_DECAY * f0 / DECAY_HZ * seconds, LATE_FALL + LATE_DECAY * seconds)


def envelope(n_samples: int, sample_rate: int) -> np.ndarray:
    """Gain of a plucked note, float32: it rises steeply, falls a little, and is damped after `n_samples`."""
    n_rise, n_fade = round(RISE_SECONDS * sample_rate), round(FADE_SECONDS * sample_rate)
    seconds = np.arange(n_samples + n_fade) / sample_rate
    gain = 10 ** (PLUCK_DB / 20 * np.exp(-seconds / PLUCK_SECONDS))
    gain[:n_rise] *= np.arange(n_rise) / n_rise
    gain[n_samples:] *= 1 - np.arange(n_fade) / n_fade
    return gain.astype(np.float32)


def describe_melody(
    f0: np.ndarray, energy: np.ndarray, purity: np.ndarray, octaves: int, low: float, high: float
) -> list[str]:
    """What the user should know about a melody, one line each; none for a clear melody in the guitar's range.

    Args:
        f0, energy: of each frame; the pitch as the guitar plays it.
        purity: `harmonics.harmonic_share` of each frame.
        octaves: by which the melody was moved.
        low, high: range of the training guitars in Hz, to which `MARGIN` is added.
    """
    if energy.max() <= 10 ** (SILENCE_DB / 10):
        return [f"nothing sounds above {SILENCE_DB:g} dB: the output is silent"]
    lines = []
    if octaves:
        count = f"{abs(octaves)} octave{'s' if abs(octaves) > 1 else ''}"
        lines.append(f"moved {'up' if octaves > 0 else 'down'} by {count}, into the range of the guitar")
    # A frame of a chord has energy between the harmonics of its pitch; the notes of speech are short.
    is_loud = energy > np.percentile(energy, LOUD_PERCENTILE) * 10 ** (-LOUD_DB / 10)
    is_melody = (f0 > 0) & (purity >= MIN_PURITY)
    for start, stop in find_notes(f0, to_decibels(energy)):
        is_melody[start:stop] &= stop - start >= MIN_NOTE_FRAMES
    unclear = 1 - np.mean(is_melody[is_loud])
    if unclear > MAX_UNCLEAR:
        lines.append(f"{unclear:.0%} of the loud frames are no single steady note (chords, speech, noise?)")
    low, high = low / MARGIN, high * MARGIN
    outside = np.mean((f0[f0 > 0] < low) | (f0[f0 > 0] > high)) if f0.any() else 0
    if outside > MAX_OUTSIDE:
        lines.append(f"{outside:.0%} of the melody lies outside the range of the guitar, {low:.0f} to {high:.0f} Hz")
    return lines


def to_decibels(energy: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(energy, SILENCE))
