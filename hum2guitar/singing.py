"""A synthetic voice that hums or sings, and a melody sung again by it: for examples, tests and measurements."""

from __future__ import annotations

import numpy as np

from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation
from hum2guitar.pitch import analyse
from hum2guitar.plucks import find_notes

FORMANTS = ((750, 90), (1150, 110), (2450, 160), (3400, 250))  # centre and half width in Hz of an open "a"
SHORTEST_NOTE = 3  # frames
SCOOP_CENTS, SCOOP_SECONDS = 60.0, 0.05  # a note starts up to so far below its pitch, and rises in such a time
VIBRATO_CENTS, VIBRATO_HZ, VIBRATO_RISE = 25.0, 5.5, 0.3  # largest depth, rate, seconds until it is there
ATTACK_SECONDS, RELEASE_SECONDS = 0.06, 0.05


def synthesize_voice(
    f0: np.ndarray,
    sample_rate: int = harmonics.PUBLISHED.sample_rate,
    closed: bool = True,
    breath: float = 0.0,
    first_harmonic: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """A voice-like tone, float32 of the length of `f0` with peak 0.5: for tests and examples, not beauty.

    Harmonics fall by 6 dB an octave (a glottal source), then pass a low-pass at 400 Hz (a closed mouth: humming) or
    four formants of an open "a". Onsets and ends take 10 ms.

    Args:
        f0: in Hz for every *sample*, 0 where silent.
        closed: humming rather than singing.
        breath: standard deviation of the noise over the tone's RMS.
        first_harmonic: 2 leaves the fundamental out.
        seed: of the noise.
    """
    f0 = np.asarray(f0, np.float64)
    voiced = f0 > 0
    if not voiced.any():
        return np.zeros(len(f0), np.float32)
    phase = 2 * np.pi * np.cumsum(f0) / sample_rate
    tone = np.zeros(len(f0))
    for i in range(first_harmonic, int(min(8000, sample_rate / 2) / f0[voiced].min()) + 1):
        frequency = i * f0
        if closed:
            gain = 1 / (1 + np.square(frequency / 400))
        else:
            gain = 0.02 + sum(1 / (1 + np.square((frequency - f) / b)) for f, b in FORMANTS)
        tone += np.where(frequency < 0.45 * sample_rate, gain / i, 0) * np.sin(i * phase)
    ramp = np.hanning(int(0.02 * sample_rate))
    gate = np.convolve(voiced, ramp / ramp.sum(), "same")
    noise = np.random.default_rng(seed).standard_normal(len(f0))
    audio = gate * (tone + breath * np.sqrt(np.mean(np.square(tone[voiced]))) * noise)
    return (audio * (0.5 / np.abs(audio).max())).astype(np.float32)


def sing_again(
    melody: np.ndarray,
    rng: np.random.Generator,
    closed: bool = True,
    representation: HumRepresentation = harmonics.PUBLISHED,
) -> np.ndarray:
    """A voice that sings the notes of a plucked melody: it holds each note, slides into it and has a vibrato.

    Args:
        melody: audio ``(n_samples,)`` of one note at a time, at the representation's sample rate.
        rng: draws how far each note slides and trembles.
        closed: humming rather than singing an "a".
        representation: finds the notes.

    Returns:
        float32 ``(n_samples,)`` with peak 0.5. Each note is as loud as the melody's at its onset.
    """
    rate, hop = representation.sample_rate, representation.hop_length
    tracked, energy, _ = analyse(melody, representation)
    decibels = 10 * np.log10(np.maximum(energy, 1e-10))
    f0, gain = np.zeros(len(melody)), np.zeros(len(melody))
    for start, stop in find_notes(tracked, decibels):
        if stop - start < SHORTEST_NOTE:
            continue
        place = slice(start * hop, min(stop * hop, len(melody)))
        seconds = np.arange(place.stop - place.start) / rate
        cents = -rng.uniform(0, SCOOP_CENTS) * np.exp(-seconds / SCOOP_SECONDS)
        vibrato = np.sin(2 * np.pi * VIBRATO_HZ * seconds) * np.minimum(1, seconds / VIBRATO_RISE)
        cents += rng.uniform(0, VIBRATO_CENTS) * vibrato
        f0[place] = np.median(tracked[start:stop]) * 2 ** (cents / 1200)
        rising = np.minimum(1, seconds / ATTACK_SECONDS)
        falling = np.minimum(1, (seconds[-1] - seconds) / RELEASE_SECONDS)
        gain[place] = 10 ** (decibels[start:stop].max() / 20) * rising * falling
    voice = synthesize_voice(f0, rate, closed, breath=0.02) * gain
    return (voice * (0.5 / max(np.abs(voice).max(), 1e-9))).astype(np.float32)
