"""Changes the pitch and loudness of a guitar into those of a voice, so that the network learns to pluck.

A guitar note is loudest at its onset and decays. A hummed note swells, stays loud and ends softly, and its pitch slides
and trembles. A network that has only seen the loudness of guitars turns a held note into a drone. With this
augmentation it sees notes that are held, and its target is still the guitar's own sound.
"""

from __future__ import annotations

import numpy as np

from hum2guitar.harmonics import HumRepresentation
from hum2guitar.plucks import find_notes

KEPT_SHARE = 0.15  # of the segments stay as they are
ATTACK_FRAMES = (1, 8)  # a held note swells for so long (23 to 190 ms)
ATTACK_DB = (3.0, 20.0)  # from so far below
DRIFT_DB = 4.0  # standard deviation of the change of level from start to end of a note
SCOOP_SEMITONES = 0.8  # largest distance below its pitch from which a note starts
VIBRATO_CENTS = 30.0  # largest depth
VIBRATO_HZ = (4.0, 7.0)
GAIN_DB = (-12.0, 6.0)  # of the whole segment


def as_voice(
    f0: np.ndarray, decibels: np.ndarray, representation: HumRepresentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """F0 and energy of a guitar, changed into what a voice would have that sings the same notes.

    Args:
        f0: in Hz ``(n_frames,)``, 0 where unvoiced.
        decibels: energy in dB ``(n_frames,)``.
        representation: gives the frames per second.
        rng: source of the choices.

    Returns:
        float32 ``(n_frames,)`` each. Unvoiced frames stay unvoiced and keep their energy, apart from the gain of the
        whole segment.
    """
    f0, decibels = np.array(f0, np.float32), np.array(decibels, np.float32)
    gain = rng.uniform(*GAIN_DB)
    if rng.random() < KEPT_SHARE:
        return f0, decibels + np.float32(gain)
    frame_rate = representation.sample_rate / representation.hop_length
    vibrato_cents = rng.uniform(0, VIBRATO_CENTS)
    vibrato_hz, phase = rng.uniform(*VIBRATO_HZ), rng.uniform(0, 2 * np.pi)
    for start, stop in find_notes(f0, decibels):
        n = stop - start
        decibels[start:stop] = _held_level(decibels[start:stop], rng)
        time = np.arange(n)
        scoop = rng.uniform(0, SCOOP_SEMITONES) * np.exp(-time / rng.uniform(0.5, 2.0))
        vibrato = vibrato_cents / 100 * np.sin(2 * np.pi * vibrato_hz * (start + time) / frame_rate + phase)
        f0[start:stop] *= 2 ** ((vibrato * np.minimum(1, time / 8) - scoop) / 12)
    return f0, decibels + np.float32(gain)


def _held_level(decibels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Level in dB ``(n,)`` of a note that is held: it swells to the peak of the plucked one and drifts from there."""
    n = len(decibels)
    time = np.arange(n)
    swell = rng.uniform(*ATTACK_DB) * np.maximum(0, 1 - time / rng.uniform(*ATTACK_FRAMES))
    return decibels.max() - swell + rng.normal(0, DRIFT_DB) * time / max(1, n - 1)
