"""The notes of an instrument: where they lie, how they are prepared, and how they are found.

Notes lie in NSynth's layout (Engel et al., 2017): one file for each pitch and velocity, 4 s of which 3 s are held,
named ``<instrument>_<preset:03d>-<pitch:03d>-<velocity:03d>.wav``. NSynth's own files are read as they are. Notes of a
SoundFont, and recorded notes of other sample rates and names, are first prepared: written in the same layout at
`SAMPLE_RATE`, with their onsets aligned. Audio is float32 with full scale 1.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Collection, Sequence
from textwrap import shorten

import numpy as np

from common import InputError
from common.files import existing_folder
from sound.blocks import resample
from sound.files import read_audio, write_audio

SAMPLE_RATE = 44100  # of prepared notes and of recordings
NSYNTH_RATE = 16000
HELD_SECONDS, NOTE_SECONDS = 3, 4
RELEASE_SECONDS = 3000 / 16000  # time constant of the published release
PITCHES = range(21, 109)
VELOCITIES = (25, 50, 75, 100, 127)
MAX_SHIFT = 12  # semitones by which a neighbouring note may be shifted to replace a missing one
KEPT_NOTES = 256  # in memory from one piece to the next, which saves a third of the work: up to 181 MB
ONSET_LEVEL = 10 ** (-30 / 20)  # of a note's peak: the note's onset is the first sample that exceeds it
LEAD_SECONDS = 0.003  # kept before the onset of prepared notes
DC_CUTOFF = 5  # Hz

Notes = dict[int, dict[int, str]]  # {MIDI pitch: {velocity: file of a note}}


@dataclasses.dataclass(frozen=True)
class Instrument:
    """One instrument, or one voice of an instrument. Its notes are prepared when they are first asked for.

    Attributes:
        name: such as ``guitar_acoustic`` or ``guitar_acoustic@FluidR3_GM-24``; the name of its folder of recordings.
        notes: {pitch: {velocity: file}} of the notes that were recorded, or can be rendered.
        description: what the notes are made of, for synthesis.json.
        prepare: gives the notes of a pitch at each of `VELOCITIES`, onsets aligned, float32 ``(n,)`` at `SAMPLE_RATE`
            each; None for NSynth's own notes, whose DC is removed when they are read.
        folder: where prepared notes are written to: those of `PITCHES` within the limit of shifting.
        sample_rate: of NSynth's or the prepared notes, in Hz.
    """

    name: str
    notes: Notes
    description: dict
    prepare: Callable[[int], Sequence[np.ndarray]] | None = None
    folder: str = ""
    sample_rate: int = SAMPLE_RATE
    _found: dict[tuple[int, int], tuple[str, int, str]] = dataclasses.field(default_factory=dict, repr=False)

    def can_play(self, pitch: int) -> bool:
        """Whether a pitch is recorded or near enough to a recorded one."""
        return abs(nearest(self.notes, pitch) - pitch) <= MAX_SHIFT

    def note(self, pitch: int, velocity: int) -> tuple[np.ndarray, str]:
        """The note nearest to MIDI `pitch` and `velocity`: read-only float32 ``(n,)``, and how it was found.

        The velocity is first rounded to the nearest of `VELOCITIES`. The second value is ``""`` if that very note is
        there, ``"velocity"`` if another velocity stands in, ``"pitch"`` if another pitch stands in, resampled by at
        most `MAX_SHIFT` semitones, and ``"silent"`` if nothing is near enough or the note's file is silent.

        Raises:
            InputError: the SoundFont cannot be rendered, or a recording cannot be read.
        """
        key = (pitch, NEAREST_VELOCITY[velocity])
        if key not in self._found:
            self._found[key] = self._find(*key)
        path, semitones, how = self._found[key]
        return read_note(path, self.sample_rate, semitones, not self.prepare), how

    def _find(self, pitch: int, velocity: int) -> tuple[str, int, str]:
        """What to read for a note of one of `VELOCITIES`, if anything, its shift in semitones, and how it was found."""
        if not self.can_play(pitch):
            return "", 0, "silent"
        if self.prepare:
            source = pitch if pitch in PITCHES else nearest(list(filter(self.can_play, PITCHES)), pitch)
            path = self._prepared(source, velocity)
            if not os.path.exists(path):
                n_samples = NOTE_SECONDS * SAMPLE_RATE
                for each, note in zip(VELOCITIES, self.prepare(source), strict=True):
                    write_audio(self._prepared(source, each), np.pad(note, (0, n_samples))[:n_samples], SAMPLE_RATE)
        else:
            source = nearest(self.notes, pitch)
            path = self.notes[source][nearest(self.notes[source], velocity)]
        if not read_note(path, self.sample_rate, pitch - source, not self.prepare).any():
            how = "silent"
        elif pitch not in self.notes:
            how = "pitch"
        else:
            how = "" if NEAREST_VELOCITY[nearest(self.notes[pitch], velocity)] == velocity else "velocity"
        return path, pitch - source, how

    def _prepared(self, pitch: int, velocity: int) -> str:
        return os.path.join(self.folder, f"{self.name}_000-{pitch:03d}-{velocity:03d}.wav")


def nearest(values: Collection[int], wanted: int) -> int:
    """The nearest value; of two equally near ones the higher: a note shifted down does not become shorter."""
    return min(values, key=lambda value: (abs(value - wanted), -value))


NEAREST_VELOCITY = tuple(nearest(VELOCITIES, velocity) for velocity in range(128))  # looked up for every note


@functools.lru_cache(KEPT_NOTES)
def read_note(path: str, sample_rate: int, semitones: int, raw: bool) -> np.ndarray:
    """The note in a file, shifted by `semitones`, of a raw one without its DC; read-only float32 ``(n,)``, empty for
    the path ""."""
    if not path:
        return np.zeros(0, np.float32)
    note = read_audio(path, sample_rate)[: NOTE_SECONDS * sample_rate]
    note = remove_dc(note, sample_rate) if raw else note
    note = resample(note, sample_rate * 2 ** (semitones / 12), sample_rate) if semitones else note
    note.flags.writeable = False
    return note


def find_notes(folder: str | os.PathLike, instrument: str, preset: int = 0, name: str = "") -> Instrument:
    """An instrument in a folder in NSynth's layout or the root of NSynth's download.

    Args:
        folder: NSynth's notes.
        instrument: NSynth's family and source, such as guitar_acoustic.
        preset: the number that NSynth gave the instrument.
        name: what to call it; by default as NSynth does.

    Raises:
        InputError: no folder, no notes in it, or an instrument that is not there (the text lists what is).
    """
    folder = existing_folder(folder, "--nsynth_path")
    notes: dict[str, Notes] = {}
    pattern = re.compile(r"(.+_\d{3})-(\d{3})-(\d{3})\.wav")
    for place in (folder, folder / "audio", *sorted(folder.glob("nsynth-*/audio"))):
        for file in os.listdir(place) if place.is_dir() else ():
            if match := pattern.fullmatch(file):
                velocities = notes.setdefault(match[1], {}).setdefault(int(match[2]), {})
                velocities[int(match[3])] = str((place / file).resolve())
    wanted = f"{instrument}_{preset:03d}"
    if wanted not in notes:
        there = shorten(", ".join(sorted(notes)), 500) or "no notes such as guitar_acoustic_000-060-100.wav"
        raise InputError(f"--nsynth_path: {folder} has no {wanted}; it has {there}")
    about = {"nsynth_path": str(folder.resolve()), "preset": preset}
    return Instrument(name or instrument, notes[wanted], about, sample_rate=NSYNTH_RATE)


# --- preparing --------------------------------------------------------------------------------------------------------


def release_envelope(n_samples: int, sample_rate: int) -> np.ndarray:
    """The published release, a decay with a time constant of 3000 samples at 16 kHz: float32 ``(n_samples,)``."""
    return np.exp(np.arange(n_samples) / (-RELEASE_SECONDS * sample_rate)).astype(np.float32)


def remove_dc(note: np.ndarray, sample_rate: int) -> np.ndarray:
    """A note without its DC, which is estimated by a zero-phase low-pass at 5 Hz (Butterworth, second order twice).

    The DC of a recorded or synthesized note follows the note's envelope. A constant would leave steps where the note
    begins and ends, a causal high-pass a thump at the onset; the note is mirrored at its ends instead, so that its
    attack and its decay stay what they are. A tone of 27.5 Hz, the lowest of a piano, changes by 0.1 %.

    Args:
        note: float32 ``(..., n_samples)``.
        sample_rate: in Hz.
    """
    from scipy.signal import butter, sosfiltfilt

    mirrored = min(note.shape[-1] - 1, round(0.5 * sample_rate))
    if mirrored < 1:
        return np.array(note)
    low_pass = butter(2, DC_CUTOFF, fs=sample_rate, output="sos")
    return (note - sosfiltfilt(low_pass, note, padtype="even", padlen=mirrored)).astype(np.float32)


def align_onset(note: np.ndarray, sample_rate: int) -> np.ndarray:
    """The note with its onset at exactly 3 ms, faded in up to there; float32 ``(n,)``. A silent note is empty.

    The onset is the first sample above -30 dB of the note's peak. At -40 dB, the hammers and dampers of a real grand
    (Salamander) come up to 7 ms before the string does; at -30 dB the onsets of its notes agree within 3 ms.
    """
    if not note.any():
        return np.zeros(0, np.float32)
    lead = round(LEAD_SECONDS * sample_rate)
    # Twice, because DC shifts the level at which a note seems to begin, and has to be removed without the silence.
    aligned = _move_onset(remove_dc(_move_onset(note, lead), sample_rate), lead)
    aligned[:lead] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(lead) / lead)
    return aligned


def _move_onset(note: np.ndarray, lead: int) -> np.ndarray:
    """The note with its onset at sample `lead`; a new array."""
    magnitude = np.abs(note)
    onset = int(np.argmax(magnitude > ONSET_LEVEL * magnitude.max()))
    return np.concatenate([np.zeros(max(lead - onset, 0), np.float32), note[max(onset - lead, 0) :]])
