"""Notes and MIDI files that the tests make for themselves."""

import pathlib

import mido
import numpy as np
import soundfile

from synthesis.midi import Note, Piece


def made_note(pitch: int, velocity: int = 100, seconds: float = 4, rate: int = 16000) -> np.ndarray:
    """A decaying tone of three harmonics with a short attack, float64."""
    time = np.arange(int(seconds * rate)) / rate
    f0 = 440 * 2 ** ((pitch - 69) / 12)
    tone = sum(np.sin(2 * np.pi * k * f0 * time) / k for k in (1, 2, 3) if k * f0 < rate / 2)
    return 0.4 * velocity / 127 * tone * np.minimum(time / 0.005, 1) * np.exp(-time / 1.5)


def write_notes(folder: pathlib.Path, instrument: str, pitches, velocities=(25, 50, 75, 100, 127), preset: int = 0):
    """NSynth's layout: a file for each pitch and velocity."""
    folder.mkdir(parents=True, exist_ok=True)
    for pitch in pitches:
        for velocity in velocities:
            path = folder / f"{instrument}_{preset:03d}-{pitch:03d}-{velocity:03d}.wav"
            soundfile.write(path, made_note(pitch, velocity), 16000, subtype="PCM_16")


def write_midi(path: pathlib.Path, notes, channel: int = 0, extra=(), ticks_per_beat: int = 500) -> pathlib.Path:
    """A MIDI file; at its first tempo, 120 beats a minute, 1000 ticks are one second.

    `notes` are (start, end, pitch, velocity) and `extra` (time, message), times in seconds at that tempo.
    """
    timed = [(time, 0, message) for time, message in extra]
    for start, end, pitch, velocity in notes:
        timed.append((start, 2, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
        timed.append((end, 1, mido.Message("note_off", channel=channel, note=pitch)))
    track, tick = mido.MidiTrack(), 0
    for time, _, message in sorted(timed, key=lambda item: item[:2]):
        now = round(time * 2 * ticks_per_beat)
        track.append(message.copy(time=now - tick))
        tick = now
    path.parent.mkdir(parents=True, exist_ok=True)
    mido.MidiFile(tracks=[track], ticks_per_beat=ticks_per_beat).save(path)
    return path


def piece_of(*notes) -> Piece:
    """A piece of notes (start, end, pitch, velocity)."""
    notes = tuple(Note(*note) for note in notes)
    return Piece(notes, max(note.end for note in notes))


def write_recorded_notes(folder: pathlib.Path, names: dict[str, int], rate: int = 44100, silence: float = 0.0) -> None:
    """Recordings of 4 s for each file name and its pitch, after some seconds of silence."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pitch in names.items():
        note = made_note(pitch, rate=rate)
        soundfile.write(folder / name, np.concatenate([np.zeros(round(silence * rate)), note]), rate)


def measured_f0(audio: np.ndarray, rate: int, lowest: float = 50, highest: float = 2000) -> float:
    """Fundamental frequency in Hz by autocorrelation, the peak placed by a parabola."""
    spectrum = np.fft.rfft(audio, 2 * len(audio))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(audio)]
    correlation /= np.arange(len(audio), 0, -1)  # unbiased
    first = int(rate / highest)
    lags = correlation[first : int(rate / lowest) + 1]
    # The first lag nearly as high as the highest: multiples of the period are as high as the period.
    peaks = [i for i in range(1, len(lags) - 1) if lags[i - 1] < lags[i] >= lags[i + 1]]
    best = next(i for i in peaks if lags[i] > 0.9 * max(lags[j] for j in peaks))
    below, at, above = lags[best - 1 : best + 2]
    return rate / (first + best + 0.5 * (below - above) / (below - 2 * at + above))
