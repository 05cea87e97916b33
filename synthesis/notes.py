"""The notes of an instrument: where they lie, how they are prepared, and how they are found.

Notes lie in NSynth's layout (Engel et al., 2017): one file for each pitch and velocity, 4 s of which 3 s are held,
named ``<instrument>_<preset:03d>-<pitch:03d>-<velocity:03d>.wav``. NSynth's own files are read as they are. Notes of a
SoundFont, and recorded notes of other sample rates and names, are first prepared: written in the same layout at
`SAMPLE_RATE`, with their onsets aligned. Audio is float32 with full scale 1.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from common.errors import InputError
from common.files import existing_folder
from sound.blocks import resample
from sound.files import read_audio, write_audio

SAMPLE_RATE = 44100  # of prepared notes
NSYNTH_RATE = 16000
HELD_SECONDS, NOTE_SECONDS = 3, 4
PITCHES = range(21, 109)
VELOCITIES = (25, 50, 75, 100, 127)
KEPT_BYTES = 128 * 10**6  # of notes kept in memory from one piece to the next
MAX_SHIFT = 12  # semitones by which a neighbouring note may be shifted to replace a missing one
ONSET_LEVEL = 10 ** (-30 / 20)  # of a note's peak: the note's onset is the first sample that exceeds it
LEAD_SECONDS = 0.003  # kept before the onset of prepared notes
DC_CUTOFF = 5  # Hz


@dataclasses.dataclass(frozen=True)
class SoundFontProgram:
    """A program (from 0) in bank 0 of a SoundFont file, to render notes from."""

    soundfont: str
    program: int


@dataclasses.dataclass(frozen=True)
class RecordedNotes:
    """Recordings of single notes, any sample rate and length: from (pitch, velocity) to a file."""

    files: dict[tuple[int, int], str]


@dataclasses.dataclass(frozen=True)
class Instrument:
    """One instrument, or one voice of an instrument.

    Attributes:
        name: such as ``guitar_acoustic`` or ``guitar_acoustic@FluidR3_GM-24``; the name of its folder of recordings.
        notes: from (pitch, velocity) to the file where the note lies, or will lie once it is prepared.
        sample_rate: of these files, in Hz.
        source: what the notes are prepared from; None for notes that are there.
        raw: whether the notes are NSynth's own, whose DC is removed when they are read.
    """

    name: str
    notes: dict[tuple[int, int], str]
    sample_rate: int = SAMPLE_RATE
    source: SoundFontProgram | RecordedNotes | None = None
    raw: bool = False

    @functools.cached_property
    def recorded_pitches(self) -> tuple[int, ...]:
        """The pitches that are recorded or rendered, in order; all others are shifted from these."""
        files = self.source.files if isinstance(self.source, RecordedNotes) else self.notes
        return tuple(sorted({pitch for pitch, _ in files}))

    def can_play(self, pitch: int) -> bool:
        """Whether a pitch is recorded or near enough to a recorded one."""
        return abs(nearest(self.recorded_pitches, pitch) - pitch) <= MAX_SHIFT


def nearest(values: Collection[int], wanted: int) -> int:
    """The nearest value; of two equally near ones the higher: a note shifted down does not become shorter."""
    return min(values, key=lambda value: (abs(value - wanted), -value))


NEAREST_VELOCITY = tuple(nearest(VELOCITIES, velocity) for velocity in range(128))  # looked up for every note


def note_name(instrument: str, preset: int, pitch: int, velocity: int) -> str:
    """NSynth's file name of a note."""
    return f"{instrument}_{preset:03d}-{pitch:03d}-{velocity:03d}.wav"


def find_notes(folder: str | os.PathLike, name: str, preset: int = 0, flag: str = "--instruments") -> Instrument:
    """The instrument called `name` in a folder in NSynth's layout or the root of NSynth's download.

    Args:
        folder: NSynth's notes.
        name: NSynth's family and source, such as guitar_acoustic.
        preset: the number that NSynth gave the instrument.
        flag: which flag asked for it.

    Raises:
        InputError: no folder, no notes in it, or an instrument that is not there (the text lists what is).
    """
    folder = existing_folder(folder, "--nsynth_path")
    notes: dict[str, dict[tuple[int, int], str]] = {}
    pattern = re.compile(r"(.+_\d{3})-(\d{3})-(\d{3})\.wav")
    for place in (folder, folder / "audio", *sorted(folder.glob("nsynth-*/audio"))):
        for file in os.listdir(place) if place.is_dir() else ():
            if match := pattern.fullmatch(file):
                notes.setdefault(match[1], {})[int(match[2]), int(match[3])] = str((place / file).resolve())
    wanted = f"{name}_{preset:03d}"
    if wanted not in notes:
        there = listed(sorted(notes)) or f"no notes such as {note_name(name, preset, 60, 100)}"
        raise InputError(f"{flag}: {folder} has no {wanted}; it has {there}")
    return Instrument(name, notes[wanted], NSYNTH_RATE, raw=True)


def listed(items: Sequence) -> str:
    """The first 40 items, for an error message."""
    shown = [str(item) for item in items[:40]]
    return ", ".join(shown + (["..."] if len(items) > len(shown) else []))


# --- preparing --------------------------------------------------------------------------------------------------------


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


def write_notes(instrument: Instrument, pitch: int, notes: Sequence[np.ndarray]) -> None:
    """Write the prepared notes of one pitch at `VELOCITIES` to their files, 16-bit."""
    n_samples = NOTE_SECONDS * SAMPLE_RATE
    for velocity, note in zip(VELOCITIES, notes, strict=True):
        padded = np.zeros(n_samples, np.float32)
        padded[: len(note)] = note[:n_samples]
        write_audio(instrument.notes[pitch, velocity], padded, SAMPLE_RATE)


# --- finding ----------------------------------------------------------------------------------------------------------


class NoteBank:
    """The notes of one instrument as they are asked for."""

    def __init__(self, instrument: Instrument) -> None:
        self.name = instrument.name
        self.sample_rate = instrument.sample_rate
        self._instrument = instrument
        self._velocities: dict[int, list[int]] = {}  # of each pitch that is there
        for pitch, velocity in instrument.notes:
            self._velocities.setdefault(pitch, []).append(velocity)
        self._found: dict[tuple[int, int], tuple[Reading | None, str]] = {}

    def note(self, pitch: int, velocity: int) -> tuple[np.ndarray, str]:
        """The note nearest to MIDI `pitch` and `velocity`: read-only float32 ``(n,)``, and how it was found.

        The velocity is first rounded to the nearest of `VELOCITIES`. The second value is ``""`` if that very note is
        there, ``"velocity"`` if another velocity stands in, ``"pitch"`` if another pitch stands in, resampled by at
        most `MAX_SHIFT` semitones, and ``"silent"`` if nothing is near enough or the note's file is silent.
        """
        key = (pitch, NEAREST_VELOCITY[velocity])
        if key not in self._found:
            self._found[key] = self._find(*key)
        reading, how = self._found[key]
        return (_CACHE.read(reading) if reading else np.zeros(0, np.float32)), how

    def _find(self, pitch: int, velocity: int) -> tuple[Reading | None, str]:
        """What to read for a note of one of `VELOCITIES`, if anything, and how it was found."""
        if not self._instrument.can_play(pitch):
            return None, "silent"
        found_pitch = nearest(self._velocities, pitch)
        found_velocity = nearest(self._velocities[found_pitch], velocity)
        path = self._instrument.notes[found_pitch, found_velocity]
        mtime = os.stat(path).st_mtime_ns if os.path.exists(path) else 0
        reading = Reading(path, mtime, self.sample_rate, self._instrument.raw, pitch - found_pitch)
        silent = not _CACHE.read(reading).any()
        return reading, "silent" if silent else self._origin(pitch, velocity, found_velocity)

    def _origin(self, pitch: int, velocity: int, found_velocity: int) -> str:
        """What stands in for a note."""
        if pitch not in self._instrument.recorded_pitches:
            return "pitch"
        source = self._instrument.source
        if isinstance(source, RecordedNotes):
            found_velocity = NEAREST_VELOCITY[nearest([v for p, v in source.files if p == pitch], velocity)]
        return "velocity" if found_velocity != velocity else ""


class Reading(NamedTuple):
    """A note's file as it was at a time, whether its DC is to be removed, and by how many semitones it is shifted."""

    path: str
    mtime_ns: int
    sample_rate: int
    raw: bool
    semitones: int


class NoteCache:
    """The notes that were read most recently, up to a number of bytes; each one is read-only."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self.n_bytes = max_bytes, 0
        self._notes: collections.OrderedDict[Reading, np.ndarray] = collections.OrderedDict()

    def read(self, reading: Reading) -> np.ndarray:
        """The note, float32 ``(n,)`` at the reading's sample rate."""
        if reading in self._notes:
            self._notes.move_to_end(reading)
            return self._notes[reading]
        path, _, rate, raw, semitones = reading
        note = read_audio(path, rate)
        note = remove_dc(note, rate) if raw else note
        note = resample(note, rate * 2 ** (semitones / 12), rate) if semitones else note
        note.flags.writeable = False
        self._notes[reading] = note
        self.n_bytes += note.nbytes
        while self.n_bytes > self._max_bytes and len(self._notes) > 1:
            self.n_bytes -= self._notes.popitem(last=False)[1].nbytes
        return note


_CACHE = NoteCache(KEPT_BYTES)  # kept from one piece to the next, which saves a third of the work
